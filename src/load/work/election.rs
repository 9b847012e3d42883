//! Elections: candidates that enter and withdraw again.
//!
//! Who has entered is the leader or waits, who has withdrawn is neither; the number of the term
//! never goes back; and one term has one leader.

use std::sync::Arc;

use super::{Common, Done, Then, Turn, Work, Wrong};
use crate::load::ask::{Ask, Refusal, Reply};

/// The workload.
pub struct Election {
    common: Arc<Common>,
    /// By partition.
    things: Vec<Vec<u32>>,
    /// By election: the latest term that was seen here, and who leads in it.
    terms: Vec<(u64, Option<u64>)>,
}

impl Election {
    pub fn new(common: Arc<Common>) -> Election {
        let plan = &common.plan;
        let parts = 0..plan.partitions.len();
        let things = parts.map(|part| plan.things_of(part).collect()).collect();
        let terms = vec![(0, None); plan.things.len()];
        Election { things, terms, common }
    }

    fn judge(
        &mut self,
        thing: u32,
        number: u64,
        leader: Option<u64>,
        floor: u64,
    ) -> Result<(), Wrong> {
        self.common.raise(u64::from(thing), number);
        let name = self.common.name(thing);
        if number < floor {
            return Err(format!("election {name}: term {number} was told after term {floor}"));
        }
        let (latest, known) = &mut self.terms[thing as usize];
        if number > *latest {
            (*latest, *known) = (number, leader);
        } else if number == *latest {
            if let (Some(known), Some(leader)) = (*known, leader)
                && known != leader
            {
                return Err(format!(
                    "election {name}: candidates {known} and {leader} both lead in term {number}"
                ));
            }
            *known = known.or(leader);
        }
        Ok(())
    }
}

impl Work for Election {
    fn next(&mut self, turn: &mut Turn<'_>) -> Ask {
        let thing = *turn.prng.pick(&self.things[turn.part]);
        Ask::Enter { thing, who: turn.lane as u64 }
    }

    fn begins(&mut self, ask: &Ask) -> u64 {
        ask.thing().map_or(0, |thing| self.common.floor(u64::from(thing)))
    }

    fn done(&mut self, done: Done<'_>) -> Result<Then, Wrong> {
        match (done.ask, done.reply) {
            (Ask::Enter { thing, who }, Ok(Reply::Term { number, leader, inside })) => {
                self.judge(thing, number, leader, done.floor)?;
                if !inside {
                    let name = self.common.name(thing);
                    return Err(format!("election {name}: {who} entered and is not a candidate"));
                }
                Ok(Then::Hold(Ask::Withdraw { thing, who }))
            }
            (Ask::Withdraw { thing, who }, Ok(Reply::Term { number, leader, inside })) => {
                self.judge(thing, number, leader, done.floor)?;
                if inside {
                    let name = self.common.name(thing);
                    return Err(format!("election {name}: {who} withdrew and is a candidate"));
                }
                Ok(Then::Over)
            }
            (Ask::Enter { thing, who }, Err(_)) => Ok(Then::Hold(Ask::Withdraw { thing, who })),
            (Ask::Withdraw { .. }, Err(_)) => Ok(Then::Over),
            (ask, other) => Err(format!("{} answered {other:?}", ask.verb().name())),
        }
    }

    fn noted(&mut self, _ask: &Ask, _reply: Result<Reply, &Refusal>) -> Result<(), Wrong> {
        Ok(())
    }
}
