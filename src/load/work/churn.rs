//! Sessions that are opened, used for one increment, and closed.
//!
//! A session's id is above that of every session of its partition that was known before it was
//! asked for; the increments are judged as those of `counter.rs`.

use std::sync::Arc;

use super::counter::Counter;
use super::{Common, Done, Ledger, Then, Turn, Work, Wrong};
use crate::load::ask::{Ask, Refusal, Reply};

/// The workload.
pub struct Churn {
    counters: Counter,
    /// By session of the plan: the counter it works on.
    things: Vec<u32>,
    /// By session of the plan: the last id it had.
    ids: Vec<u64>,
}

impl Churn {
    pub fn new(common: Arc<Common>, thread: usize) -> Churn {
        let lanes = &common.plan.lanes;
        let first = |part: usize| common.plan.things_of(part).next().unwrap_or(0);
        let things = lanes.iter().map(|lane| first(lane.part)).collect();
        let ids = vec![0; lanes.len()];
        Churn { things, ids, counters: Counter::new(common, thread) }
    }
}

impl Work for Churn {
    fn next(&mut self, _turn: &mut Turn<'_>) -> Ask {
        Ask::Open
    }

    fn begins(&mut self, ask: &Ask) -> u64 {
        self.counters.begins(ask)
    }

    fn done(&mut self, done: Done<'_>) -> Result<Then, Wrong> {
        let thing = self.things[done.lane];
        match (done.ask, done.reply) {
            (Ask::Open, Ok(Reply::Id(id))) => {
                let before = std::mem::replace(&mut self.ids[done.lane], id);
                if id <= before {
                    return Err(format!("session {id} was opened after session {before}"));
                }
                Ok(Then::Next(Ask::Create { thing }))
            }
            (Ask::Create { thing }, Ok(Reply::Id(_))) => Ok(Then::Next(Ask::Increment { thing })),
            (Ask::Increment { thing }, _) => {
                self.counters.incremented(thing, &done)?;
                Ok(Then::Next(Ask::Close))
            }
            (Ask::Close, Ok(Reply::Nothing)) => Ok(Then::Over),
            (Ask::Create { .. }, Err(_)) => Ok(Then::Next(Ask::Close)),
            (Ask::Open | Ask::Close, Err(_)) => Ok(Then::Over),
            (ask, other) => Err(format!("{} answered {other:?}", ask.verb().name())),
        }
    }

    fn prepare(&mut self) -> Vec<Ask> {
        self.counters.prepare()
    }

    fn settle(&mut self) -> Vec<Ask> {
        self.counters.settle()
    }

    fn noted(&mut self, ask: &Ask, reply: Result<Reply, &Refusal>) -> Result<(), Wrong> {
        self.counters.noted(ask, reply)
    }

    fn ledger(&mut self) -> Ledger {
        self.counters.ledger()
    }
}
