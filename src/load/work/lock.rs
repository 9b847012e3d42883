//! Locks: taken and given back, by many at a time or each his own.
//!
//! A lock is held until everything that has arrived by then was looked at, so that two who are told
//! to hold it at once are seen. Tokens grow from holder to holder.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Common, Done, Then, Turn, Work, Wrong};
use crate::load::ask::{Ask, Refusal, Reply};

/// The workload.
pub struct Lock {
    common: Arc<Common>,
    /// By partition.
    things: Vec<Vec<u32>>,
    is_contended: bool,
}

impl Lock {
    pub fn new(common: Arc<Common>) -> Lock {
        let plan = &common.plan;
        let parts = 0..plan.partitions.len();
        let things = parts.map(|part| plan.things_of(part).collect()).collect();
        let is_contended = plan.workload == crate::load::plan::Workload::LockContended;
        Lock { things, is_contended, common }
    }
}

impl Work for Lock {
    fn next(&mut self, turn: &mut Turn<'_>) -> Ask {
        let things = &self.things[turn.part];
        let at = if self.is_contended {
            turn.prng.below(things.len() as u64) as usize
        } else {
            let of = self.common.plan.lanes[..turn.lane].iter();
            of.filter(|lane| lane.part == turn.part).count() % things.len()
        };
        Ask::Acquire { thing: things[at] }
    }

    fn begins(&mut self, ask: &Ask) -> u64 {
        match *ask {
            Ask::Acquire { thing } => self.common.floor(u64::from(thing)),
            Ask::Release { thing, .. } => {
                // From here on the server may give it to somebody else.
                self.common.holders[thing as usize].store(0, Ordering::Release);
                0
            }
            _ => 0,
        }
    }

    fn done(&mut self, done: Done<'_>) -> Result<Then, Wrong> {
        match (done.ask, done.reply) {
            (Ask::Acquire { thing }, Ok(Reply::Token(token))) => {
                let name = self.common.name(thing);
                let me = done.lane as u64 + 1;
                let other = self.common.holders[thing as usize].swap(me, Ordering::AcqRel);
                if other != 0 {
                    return Err(format!("lock {name}: given to two at once (token {token})"));
                }
                let before = self.common.raise(u64::from(thing), token);
                if token <= before {
                    return Err(format!("lock {name}: token {token} came after {before}"));
                }
                Ok(Then::Hold(Ask::Release { thing, token }))
            }
            // Whether it was released in time or not at all is for the next holder to find out.
            (Ask::Acquire { .. } | Ask::Release { .. }, Err(_)) => Ok(Then::Over),
            (Ask::Release { .. }, Ok(Reply::Nothing)) => Ok(Then::Over),
            (ask, other) => Err(format!("{} answered {other:?}", ask.verb().name())),
        }
    }

    fn noted(&mut self, _ask: &Ask, _reply: Result<Reply, &Refusal>) -> Result<(), Wrong> {
        Ok(())
    }
}
