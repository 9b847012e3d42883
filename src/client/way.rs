//! The way to one partition: which node is asked for it, and asking again.
//!
//! Any node serves any partition, the one that leads it soonest: so a partition stays with the node
//! that answered, and moves to the next address when that one cannot be reached or says
//! UNAVAILABLE. What was asked at the former node is then asked at the new one, with the same
//! number, so that nothing waits for ever at a node that has nothing to say.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::Fault;
use super::connection::Network;
use crate::prng::mix;

/// When a call gives up; `None`: with its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Until(pub Option<Instant>);

/// The way to one partition.
pub struct Way {
    network: Network,
    at: watch::Sender<usize>,
    /// Of this client, so that many clients do not come back at once.
    seed: u64,
}

impl Until {
    /// So long from now.
    #[must_use]
    pub fn after(span: Duration) -> Until {
        // What is too far away to be counted is never.
        Until(Instant::now().checked_add(span))
    }
}

impl Way {
    /// A way that begins at the first address.
    #[must_use]
    pub fn new(network: Network, seed: u64) -> Way {
        Way { network, at: watch::channel(0).0, seed }
    }

    /// The nodes.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Which of them is asked.
    pub fn at(&self) -> usize {
        *self.at.borrow()
    }

    /// Takes the next address, unless somebody did so already.
    pub fn leave(&self, from: usize) {
        let count = self.network.count();
        self.at.send_if_modified(|at| {
            let moves = *at == from && count > 1;
            if moves {
                *at = (from + 1) % count;
            }
            moves
        });
    }

    /// What `ask` says, or a passing fault when the way leaves the node `from` in the meantime.
    ///
    /// # Errors
    /// What `ask` says.
    pub async fn unless_left<T>(
        &self,
        from: usize,
        ask: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let mut at = self.at.subscribe();
        let outcome = tokio::select! {
            biased;
            outcome = ask => outcome,
            // The sender lives in `self`, so waiting cannot fail.
            _ = at.wait_for(|at| *at != from) => Err(Fault::Unreachable {
                endpoint: String::new(),
                reason: "another node is asked instead".to_owned(),
            }),
        };
        if outcome.as_ref().is_err_and(Fault::is_of_the_node) {
            self.leave(from);
        }
        outcome
    }

    /// Asks until there is an answer that stays, or the time is over. `ask` is given the node.
    ///
    /// # Errors
    /// The last fault, or `Fault::Timeout` when no answer came at all.
    pub async fn insist<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        until: Until,
        salt: u64,
        mut ask: impl FnMut(usize) -> F,
    ) -> Result<T, Fault> {
        for tries in 0.. {
            let at = self.at();
            let asked = self.unless_left(at, ask(at));
            let outcome = match until.0 {
                Some(deadline) => timeout_at(deadline, asked).await.unwrap_or(Err(Fault::Timeout)),
                None => asked.await,
            };
            let rest = self.pause(tries, salt);
            let too_late = until.0.is_some_and(|deadline| Instant::now() + rest >= deadline);
            match outcome {
                Err(fault) if fault.is_passing() && !too_late => sleep(rest).await,
                settled => return settled,
            }
        }
        Err(Fault::Timeout)
    }

    /// How long to wait after so many tries. The other addresses are tried without delay first.
    pub fn pause(&self, tries: u32, salt: u64) -> Duration {
        let others = u32::try_from(self.network.count() - 1).unwrap_or(0);
        pause(tries.saturating_sub(others), self.seed ^ salt) / if tries < others { 20 } else { 1 }
    }
}

/// How long to wait after so many tries: 20 ms, half as much again each time, at most a second,
/// less up to a half so that many clients do not come back at once.
fn pause(tries: u32, salt: u64) -> Duration {
    let full = (20.0 * 1.5f64.powi(tries.min(16) as i32)).min(1_000.0);
    let share = (mix(salt ^ u64::from(tries) << 32) % 512) as f64 / 1_024.0;
    Duration::from_micros((full * (1.0 - share) * 1_000.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        for tries in 0..40 {
            let span = pause(tries, 7);
            assert!(span >= Duration::from_millis(10), "try {tries}: {span:?}");
            assert!(span <= Duration::from_secs(1), "try {tries}: {span:?}");
        }
        assert!(pause(12, 7) > pause(0, 7));
    }

    #[test]
    fn a_way_goes_around_all_addresses_and_is_left_once_for_each_failure() {
        let endpoints = ["a:1".to_owned(), "b:1".to_owned(), "c:1".to_owned()];
        let way = Way::new(Network::of(&endpoints), 0);
        // Two calls that failed at the same node.
        way.leave(0);
        way.leave(0);
        assert_eq!(way.at(), 1);
        way.leave(1);
        way.leave(2);
        assert_eq!(way.at(), 0);
        let alone = Way::new(Network::of(&endpoints[..1]), 0);
        alone.leave(0);
        assert_eq!(alone.at(), 0);
        assert!(way.pause(0, 1) < Duration::from_millis(2), "another address is tried at once");
        assert!(way.pause(2, 1) >= Duration::from_millis(10), "then it waits");
    }
}
