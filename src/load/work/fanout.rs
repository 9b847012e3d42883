//! One map that some write and many listen to.
//!
//! Every listener hears of every acknowledged write, each once, in the order of versions. Since a
//! stream does not say when it has begun, marks are written before the run until each listener has
//! heard of one. A write carries when it was due, so the time until each listener has heard of it
//! is measured as well, under `event`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Common, Done, Ledger, Then, Turn, Work, Wrong};
use crate::load::ask::{Ask, Refusal, Reply, Sort};
use crate::load::content::Content;
use crate::load::keys::Keys;
use crate::load::plan::Role;
use crate::prng::mix;

/// The workload.
pub struct Fanout {
    common: Arc<Common>,
    keys: Keys,
    /// The number of the next write.
    writes: u64,
    /// Acknowledged writes, the sum of their scattered numbers, and those of unknown fate.
    written: (u64, u64, u64),
    /// By session of the plan; those of other threads and those that write stay as they are.
    listeners: Vec<Listener>,
}

#[derive(Clone, Copy, Default)]
struct Listener {
    is_mine: bool,
    is_there: bool,
    resumes: bool,
    version: u64,
    count: u64,
    sum: u64,
}

/// What is written before the run.
const MARK: u64 = 1 << 63;

impl Fanout {
    pub fn new(common: Arc<Common>, thread: usize) -> Fanout {
        let plan = &common.plan;
        let listener = |lane: &crate::load::plan::Lane| Listener {
            is_mine: lane.role == Role::Listener && lane.thread == thread,
            ..Listener::default()
        };
        Fanout {
            keys: Keys::new(plan.keys, plan.distribution),
            writes: (thread as u64) << 48,
            written: (0, 0, 0),
            listeners: plan.lanes.iter().map(listener).collect(),
            common,
        }
    }

    fn content(&mut self, key: u64, round: u64, mark: u64) -> Content {
        self.writes += 1;
        Content { key, writer: self.writes | mark, round }
    }

    fn mine(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().filter(|listener| listener.is_mine)
    }
}

impl Work for Fanout {
    fn next(&mut self, turn: &mut Turn<'_>) -> Ask {
        let key = self.keys.draw(turn.prng);
        Ask::Put { thing: 0, content: self.content(key, turn.due, 0) }
    }

    fn begins(&mut self, ask: &Ask) -> u64 {
        match ask {
            Ask::Put { content, .. } => self.common.floor(content.key),
            _ => 0,
        }
    }

    fn done(&mut self, done: Done<'_>) -> Result<Then, Wrong> {
        match (done.ask, done.reply) {
            (Ask::Put { content, .. }, Ok(Reply::Written { version, .. })) => {
                self.common.raise(content.key, version);
                self.written.0 += 1;
                self.written.1 = self.written.1.wrapping_add(mix(content.writer));
                self.common.heard.fetch_add(1, Ordering::AcqRel);
                if version <= done.floor {
                    let (key, floor) = (content.key, done.floor);
                    return Err(format!("key {key}: version {version} came after {floor}"));
                }
            }
            (Ask::Put { .. }, Err(refusal)) if refusal.sort == Sort::Unknown => {
                self.written.2 += 1;
            }
            (ask, other) => return Err(format!("{} answered {other:?}", ask.verb().name())),
        }
        Ok(Then::Over)
    }

    fn noted(&mut self, ask: &Ask, reply: Result<Reply, &Refusal>) -> Result<(), Wrong> {
        match reply {
            Ok(Reply::Written { .. }) => Ok(()),
            other => Err(format!("{} answered {other:?}", ask.verb().name())),
        }
    }

    fn event(&mut self, who: u32, reply: &Reply) -> Result<Option<u64>, Wrong> {
        let listener = &mut self.listeners[who as usize];
        let Reply::Event { version, content: Some(content) } = *reply else {
            return Err(format!("listener {who}: an event of what nobody wrote: {reply:?}"));
        };
        listener.is_there = true;
        if version <= listener.version {
            if listener.resumes {
                return Ok(None);
            }
            let last = listener.version;
            return Err(format!("listener {who}: version {version} came after {last}"));
        }
        listener.version = version;
        if content.writer & MARK != 0 {
            return Ok(None);
        }
        listener.count += 1;
        listener.sum = listener.sum.wrapping_add(mix(content.writer));
        Ok(Some(content.round))
    }

    fn resumes(&mut self, who: u32) {
        self.listeners[who as usize].resumes = true;
    }

    fn missing(&mut self) -> Option<Ask> {
        if self.mine().all(|listener| listener.is_there) {
            return None;
        }
        let content = self.content(0, 0, MARK);
        Some(Ask::Put { thing: 0, content })
    }

    fn has_heard_all(&self) -> bool {
        let all = self.common.heard.load(Ordering::Acquire);
        self.mine().all(|listener| listener.count >= all)
    }

    fn ledger(&mut self) -> Ledger {
        let heard = self.mine().map(|listener| (listener.count, listener.sum)).collect();
        Ledger { heard, written: self.written, ..Ledger::default() }
    }
}
