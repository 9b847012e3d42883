//! Who leads and who follows each partition, as the nodes themselves tell: what a client needs that
//! cannot ask, such as the published Go driver (core.md 8.3).
//!
//! A node is asked by `Node.Watch`, which replays what it knows to a new watcher. The events of the
//! dialects differ, and none can be read as the other's: so whichever can be read is what the
//! listener speaks.
//! Absent on purpose: changes of leader after the answer. Read next: `cli/driver_config.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;
use tokio::time::timeout;

use super::Fault;
use super::connection::{Method, Network};
use crate::wire::proto::v1 as documented;
use crate::wire::released::atomix::multiraft::v1 as released;

/// What one node knows of itself in one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seat {
    /// Its own id in the partition; 0 while it is not ready.
    pub member: u64,
    /// The term that it knows.
    pub term: u64,
    /// The leader of that term; 0 when it knows none.
    pub leader: u64,
}

/// What one node told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Whether its listener speaks the released dialect.
    pub is_released: bool,
    /// Its partitions.
    pub seats: BTreeMap<u32, Seat>,
}

/// A partition and where it is served, by the addresses that were asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The partition.
    pub partition: u32,
    /// Who leads it; `None` when nobody does or its leader was not asked.
    pub leader: Option<String>,
    /// The others, in the order that they were asked in.
    pub followers: Vec<String>,
}

impl Seat {
    /// Whether the node leads the partition, as far as it knows.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.member != 0 && self.member == self.leader
    }
}

/// Asks the node at `endpoint` for its seats and waits, for at most `patience`, until it knows a
/// leader for each.
///
/// # Errors
/// When it does not answer, or not in a dialect that is known.
pub async fn ask(endpoint: &str, patience: Duration) -> Result<Told, Fault> {
    const DOCUMENTED: Method<documented::WatchRequest, documented::Event> = Method::at(PATH);
    const RELEASED: Method<documented::WatchRequest, released::Event> = Method::at(PATH);
    match replay(endpoint, &DOCUMENTED, patience, sight_documented).await {
        Ok(seats) => Ok(Told { is_released: false, seats }),
        Err(Fault::Protocol(_)) => replay(endpoint, &RELEASED, patience, sight_released)
            .await
            .map(|seats| Told { is_released: true, seats }),
        Err(fault) => Err(fault),
    }
}

/// Puts together what nodes told: of those that say that they lead, the one with the highest term
/// does.
#[must_use]
pub fn places(told: &[(String, Told)]) -> Vec<Place> {
    let mut by_partition: BTreeMap<u32, Vec<(&String, Seat)>> = BTreeMap::new();
    for (endpoint, told) in told {
        for (partition, seat) in &told.seats {
            by_partition.entry(*partition).or_default().push((endpoint, *seat));
        }
    }
    let place = |(partition, seats): (u32, Vec<(&String, Seat)>)| {
        let leading = seats.iter().filter(|(_, seat)| seat.leads());
        let leader = leading.max_by_key(|(_, seat)| seat.term).map(|(endpoint, _)| *endpoint);
        let others = seats.iter().map(|(endpoint, _)| *endpoint);
        let followers = others.filter(|endpoint| Some(*endpoint) != leader).cloned().collect();
        Place { partition, leader: leader.cloned(), followers }
    };
    by_partition.into_iter().map(place).collect()
}

const PATH: &str = "/atomix.multiraft.v1.Node/Watch";

/// What an event says about one partition; a part that it does not say is 0.
type Sight = Option<(u32, Seat)>;

/// Takes what is replayed. It has no end mark: when all that is expected is there, a short silence
/// ends it, else a long one (`client/mod.rs` says why).
async fn replay<E: Message + Default>(
    endpoint: &str,
    method: &Method<documented::WatchRequest, E>,
    patience: Duration,
    sight: fn(&E) -> Sight,
) -> Result<BTreeMap<u32, Seat>, Fault> {
    const SILENCE: Duration = Duration::from_millis(25);
    const SILENCE_WITHOUT_LEADER: Duration = Duration::from_millis(400);
    let silent = || Fault::Unreachable {
        endpoint: endpoint.to_owned(),
        reason: "nothing comes back in time".to_owned(),
    };
    let begin = async {
        let network = Network::of(&[endpoint.to_owned()]);
        let mut events = network.stream(0, method, &documented::WatchRequest {}).await?;
        events.begun().await?;
        Ok(events)
    };
    let mut events = timeout(patience, begin).await.map_err(|_| silent())??;
    let deadline = tokio::time::Instant::now() + patience;
    let mut seats: BTreeMap<u32, Seat> = BTreeMap::new();
    loop {
        let gaps = seats.keys().zip(1..).any(|(id, count)| *id != count);
        let known = seats.values().all(|seat| seat.member != 0 && seat.leader != 0);
        let silence = match (seats.is_empty() || gaps, known) {
            (false, true) => SILENCE,
            (true, true) => SILENCE_WITHOUT_LEADER,
            (_, false) => deadline.saturating_duration_since(tokio::time::Instant::now()),
        };
        let Ok(event) = timeout(silence, events.next()).await else { return Ok(seats) };
        let Some(event) = event? else { return Ok(seats) };
        let Some((partition, said)) = sight(&event) else { continue };
        let seat = seats.entry(partition).or_default();
        if said.member != 0 {
            seat.member = said.member;
        }
        if said.term != 0 {
            (seat.term, seat.leader) = (said.term, said.leader);
        }
    }
}

fn sight_documented(event: &documented::Event) -> Sight {
    use documented::event::Event as On;
    match event.event.as_ref()? {
        On::MemberReady(ready) => {
            Some((ready.group_id, Seat { member: ready.node_id, ..Seat::default() }))
        }
        On::LeaderUpdated(led) => {
            Some((led.group_id, Seat { term: led.term, leader: led.leader, ..Seat::default() }))
        }
        _ => None,
    }
}

fn sight_released(event: &released::Event) -> Sight {
    use released::event::Event as On;
    match event.event.as_ref()? {
        On::MemberReady(ready) => {
            let member = ready.member.as_ref()?;
            Some((member.group_id, Seat { member: member.member_id, ..Seat::default() }))
        }
        On::LeaderUpdated(led) => {
            let (member, term, leader) = (led.member.as_ref()?, led.term, led.leader);
            Some((member.group_id, Seat { member: member.member_id, term, leader }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(seats: &[(u32, u64, u64, u64)]) -> Told {
        let seat = |&(partition, member, term, leader)| (partition, Seat { member, term, leader });
        Told { is_released: true, seats: seats.iter().map(seat).collect() }
    }

    fn place(partition: u32, leader: Option<&str>, followers: &[&str]) -> Place {
        let followers = followers.iter().map(|at| (*at).to_owned()).collect();
        Place { partition, leader: leader.map(str::to_owned), followers }
    }

    #[test]
    fn the_highest_term_leads_and_a_leader_that_was_not_asked_is_left_out() {
        let told = [
            // Deposed in partition 1, and does not know it yet.
            ("a:1".to_owned(), told(&[(1, 1, 4, 1), (2, 1, 3, 3), (7, 1, 2, 0)])),
            ("b:1".to_owned(), told(&[(1, 2, 5, 2), (2, 2, 3, 3), (7, 2, 2, 0)])),
            ("c:1".to_owned(), told(&[(1, 3, 5, 2)])),
        ];
        let expected = [
            place(1, Some("b:1"), &["a:1", "c:1"]),
            place(2, None, &["a:1", "b:1"]),
            place(7, None, &["a:1", "b:1"]),
        ];
        assert_eq!(places(&told), expected);
        assert_eq!(places(&[]), []);
    }

    #[test]
    fn events_of_one_dialect_cannot_be_read_as_the_others() {
        let member = Some(released::MemberEvent { group_id: 1, member_id: 1 });
        for event in [
            released::event::Event::MemberReady(released::MemberReadyEvent { member }),
            released::event::Event::LeaderUpdated(released::LeaderUpdatedEvent {
                member,
                term: 1,
                leader: 1,
            }),
        ] {
            let event = released::Event { timestamp: None, event: Some(event) };
            assert!(documented::Event::decode(&event.encode_to_vec()[..]).is_err());
        }
    }
}
