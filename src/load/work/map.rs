//! Puts, gets and read-modify-writes of maps.
//!
//! A value says who wrote it (`content.rs`), so a get is right when its octets are some writer's,
//! its version is no older than any that was known when it began, and the same version is always
//! the same writer's. Read-modify-writes count rounds: at the end a key's round is the number of
//! those that were acknowledged.

use std::sync::Arc;

use super::{Common, Done, Ledger, Rounds, Then, Turn, Work, Wrong};
use crate::load::ask::{Ask, Refusal, Reply};
use crate::load::content::Content;
use crate::load::keys::Keys;

/// The workload.
pub struct Map {
    common: Arc<Common>,
    thread: usize,
    reads_per_mille: u64,
    modifies: bool,
    /// By partition: its map, and how its keys are drawn.
    parts: Vec<(u32, Option<Keys>)>,
    /// The number of the next write.
    writes: u64,
    /// By key: the latest version that was seen here, and whose it is.
    seen: Vec<(u64, u64)>,
    rounds: Vec<Rounds>,
    settles: bool,
}

impl Map {
    pub fn new(common: Arc<Common>, thread: usize, reads_per_mille: u64, modifies: bool) -> Map {
        let plan = &common.plan;
        let part = |part: usize| {
            let keys = plan.keys_of(part);
            let keys = (keys > 0).then(|| Keys::new(keys, plan.distribution));
            (plan.things_of(part).next().unwrap_or(0), keys)
        };
        let parts = (0..plan.partitions.len()).map(part).collect();
        let seen = vec![(0, 0); plan.keys as usize];
        let rounds = vec![Rounds::default(); if modifies { plan.keys as usize } else { 0 }];
        // Writers' numbers are those of one thread: the thread is in the high bits.
        let writes = (thread as u64) << 48;
        Map {
            thread,
            reads_per_mille,
            modifies,
            parts,
            writes,
            seen,
            rounds,
            settles: false,
            common,
        }
    }

    /// A key of the partition and its map.
    fn draw(&self, turn: &mut Turn<'_>) -> (u32, u64) {
        let (thing, keys) = &self.parts[turn.part];
        let nth = keys.as_ref().map_or(0, |keys| keys.draw(turn.prng));
        (*thing, nth * self.parts.len() as u64 + turn.part as u64)
    }

    fn content(&mut self, key: u64, round: u64) -> Content {
        self.writes += 1;
        Content { key, writer: self.writes, round }
    }

    /// Every key that this thread looks after, and its map.
    fn mine(&self) -> impl Iterator<Item = (u32, u64)> {
        let plan = &self.common.plan;
        let mine = |part: &usize| plan.owner(*part) == self.thread;
        let parts: Vec<usize> = (0..self.parts.len()).filter(mine).collect();
        let step = self.parts.len() as u64;
        let things: Vec<u32> = self.parts.iter().map(|part| part.0).collect();
        let counts: Vec<u64> = (0..self.parts.len()).map(|part| plan.keys_of(part)).collect();
        parts.into_iter().flat_map(move |part| {
            let thing = things[part];
            (0..counts[part]).map(move |nth| (thing, nth * step + part as u64))
        })
    }

    /// A key was written as `version` over `before`.
    fn written(
        &mut self,
        content: Content,
        version: u64,
        before: u64,
        floor: u64,
    ) -> Result<(), Wrong> {
        let key = content.key;
        self.common.raise(key, version);
        self.see(key, version, content.writer)?;
        if version <= floor || before < floor || before >= version {
            return Err(format!(
                "key {key}: a write became version {version} over {before}, and version {floor} \
                 was known before it began"
            ));
        }
        Ok(())
    }

    fn found(
        &mut self,
        key: u64,
        version: u64,
        content: Option<Content>,
        floor: u64,
    ) -> Result<Content, Wrong> {
        self.common.raise(key, version);
        if version < floor {
            return Err(format!(
                "key {key}: a read shows version {version}, and {floor} was known before it began"
            ));
        }
        let Some(content) = content.filter(|content| content.key == key) else {
            return Err(format!("key {key}: version {version} holds what nobody wrote there"));
        };
        self.see(key, version, content.writer)?;
        Ok(content)
    }

    /// The same version is the same writer's.
    #[inline]
    fn see(&mut self, key: u64, version: u64, writer: u64) -> Result<(), Wrong> {
        let seen = &mut self.seen[key as usize];
        if version == seen.0 && writer != seen.1 {
            return Err(format!("key {key}: version {version} is that of two writes"));
        }
        if version > seen.0 {
            *seen = (version, writer);
        }
        Ok(())
    }
}

impl Work for Map {
    #[inline]
    fn next(&mut self, turn: &mut Turn<'_>) -> Ask {
        let (thing, key) = self.draw(turn);
        if self.reads_per_mille > 0 && turn.prng.chance(self.reads_per_mille) {
            return Ask::Get { thing, key };
        }
        Ask::Put { thing, content: self.content(key, 0) }
    }

    #[inline]
    fn begins(&mut self, ask: &Ask) -> u64 {
        match ask {
            Ask::Put { content, .. } | Ask::Update { content, .. } => {
                self.common.floor(content.key)
            }
            Ask::Get { key, .. } => self.common.floor(*key),
            _ => 0,
        }
    }

    #[inline]
    fn done(&mut self, done: Done<'_>) -> Result<Then, Wrong> {
        match (done.ask, done.reply) {
            (Ask::Put { content, .. }, Ok(Reply::Written { version, before })) => {
                self.written(content, version, before, done.floor)?;
            }
            (
                Ask::Update { content, version: over, .. },
                Ok(Reply::Written { version, before }),
            ) => {
                if before != over {
                    let key = content.key;
                    return Err(format!("key {key}: an update over {over} replaced {before}"));
                }
                self.rounds[content.key as usize].acknowledged += 1;
                self.written(content, version, before, done.floor)?;
            }
            (Ask::Get { thing, key }, Ok(Reply::Found { version, content })) => {
                let found = self.found(key, version, content, done.floor)?;
                if self.modifies && done.prng.chance(500) {
                    let content = self.content(key, found.round + 1);
                    return Ok(Then::Next(Ask::Update { thing, content, version }));
                }
            }
            (Ask::Update { content, .. }, Err(refusal)) => {
                if refusal.sort == crate::load::ask::Sort::Unknown {
                    self.rounds[content.key as usize].unknown += 1;
                }
            }
            (Ask::Get { key, .. }, Err(refusal)) if refusal.sort == crate::load::ask::Sort::No => {
                return Err(format!("key {key} is not there: {}", refusal.text));
            }
            (_, Err(_)) => {}
            (ask, Ok(other)) => return Err(format!("{} answered {other:?}", ask.verb().name())),
        }
        Ok(Then::Over)
    }

    fn prepare(&mut self) -> Vec<Ask> {
        let mine: Vec<(u32, u64)> = self.mine().collect();
        let put = |(thing, key)| Ask::Put { thing, content: self.content(key, 0) };
        mine.into_iter().map(put).collect()
    }

    fn settle(&mut self) -> Vec<Ask> {
        self.settles = true;
        self.mine().map(|(thing, key)| Ask::Get { thing, key }).collect()
    }

    fn noted(&mut self, ask: &Ask, reply: Result<Reply, &Refusal>) -> Result<(), Wrong> {
        match (*ask, reply) {
            (Ask::Put { content, .. }, Ok(Reply::Written { version, before })) => {
                let floor = self.common.floor(content.key);
                self.written(content, version, before, floor)
            }
            (Ask::Get { key, .. }, Ok(Reply::Found { version, content })) => {
                let floor = self.common.floor(key);
                let found = self.found(key, version, content, floor)?;
                if self.modifies {
                    self.rounds[key as usize].last = Some(found.round);
                }
                Ok(())
            }
            (ask, reply) => Err(format!("{} answered {reply:?}", ask.verb().name())),
        }
    }

    fn ledger(&mut self) -> Ledger {
        Ledger { rounds: std::mem::take(&mut self.rounds), ..Ledger::default() }
    }
}
