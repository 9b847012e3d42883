//! What a cluster looks like from outside: each node is asked what it has, and whom it knows is
//! asked in turn.
//!
//! One address is enough to begin with: the groups of a node name the addresses of their members.
//! A member that does not answer is known by its address alone. Absent on purpose: keeping anything
//! from one look to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::client::Fault;
use crate::client::connection::{Method, Network};
use crate::wire::proto::v1;

/// One look at a cluster.
#[derive(Debug, Default)]
pub struct View {
    /// What each address said.
    pub nodes: BTreeMap<String, Result<Seen, Fault>>,
}

/// What one node said.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Its id, when it has a group that tells.
    pub id: Option<u64>,
    groups: BTreeMap<u32, Group>,
}

/// What one node knows of a group.
#[derive(Debug, Default, Clone)]
struct Group {
    term: u64,
    leader: u64,
    /// Whether it has a replica.
    here: bool,
    /// The API addresses of all members, in no order that means something.
    members: Vec<String>,
}

/// One line of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    partition: u32,
    leader: u64,
    term: u64,
    /// Node id as far as known, address, whether it answers.
    members: Vec<(Option<u64>, String, bool)>,
}

/// Asks everybody, beginning with `endpoints`; whoever says nothing for `patience` is not there.
pub async fn look(endpoints: &[String], patience: Duration) -> View {
    let mut view = View::default();
    let mut next: BTreeSet<String> = endpoints.iter().cloned().collect();
    while !next.is_empty() {
        let mut asked = JoinSet::new();
        for address in std::mem::take(&mut next) {
            asked.spawn(async move {
                let silent =
                    || Fault::Unreachable { endpoint: address.clone(), reason: SILENT.to_owned() };
                let seen = timeout(patience, ask(&address)).await;
                let seen = seen.unwrap_or_else(|_| Err(silent()));
                (address, seen)
            });
        }
        while let Some(Ok((address, seen))) = asked.join_next().await {
            if let Ok(seen) = &seen {
                next.extend(seen.groups.values().flat_map(|group| group.members.iter().cloned()));
            }
            view.nodes.insert(address, seen);
        }
        next.retain(|address| !view.nodes.contains_key(address));
    }
    view.forget_doubles();
    view
}

async fn ask(address: &str) -> Result<Seen, Fault> {
    let network = Network::of(&[address.to_owned()]);
    let mut seen = Seen::default();
    let mut events = network.stream(0, &NODE_WATCH, &v1::WatchRequest {}).await?;
    // It begins when all is known, and what is known comes at once.
    events.begun().await?;
    while let Ok(event) = timeout_at(Instant::now() + SILENCE, events.next()).await {
        let Some(event) = event? else { break };
        seen.hear(&event);
    }
    for (partition_id, group) in seen.groups.iter_mut().filter(|(_, group)| group.here) {
        let request = v1::WatchPartitionRequest { partition_id: *partition_id };
        let mut events = network.stream(0, &PARTITION_WATCH, &request).await?;
        while let Some(event) = events.next().await? {
            if let Some(v1::partition_event::Event::ServiceConfigChanged(change)) = event.event {
                let config = change.config.unwrap_or_default();
                let all = std::iter::once(config.leader).chain(config.followers);
                group.members = all.filter(|address| !address.is_empty()).collect();
                break;
            }
        }
    }
    Ok(seen)
}

impl Seen {
    fn hear(&mut self, event: &v1::Event) {
        match &event.event {
            Some(v1::event::Event::MemberReady(ready)) => {
                self.id = Some(ready.node_id);
                self.groups.entry(ready.group_id).or_default().here = true;
            }
            Some(v1::event::Event::LeaderUpdated(leader)) => {
                let group = self.groups.entry(leader.group_id).or_default();
                (group.term, group.leader) = (leader.term, leader.leader);
            }
            _ => {}
        }
    }
}

impl View {
    /// A node that was asked under two addresses counts once, under the one that others know.
    fn forget_doubles(&mut self) {
        let known: BTreeSet<String> = self.answered().flat_map(|(_, seen)| seen.known()).collect();
        let ids: BTreeSet<u64> = self
            .answered()
            .filter(|(address, _)| known.contains(*address))
            .filter_map(|(_, seen)| seen.id)
            .collect();
        self.nodes.retain(|address, seen| match seen {
            Ok(seen) => known.contains(address) || seen.id.is_none_or(|id| !ids.contains(&id)),
            Err(_) => true,
        });
    }

    fn answered(&self) -> impl Iterator<Item = (&String, &Seen)> + Clone {
        self.nodes.iter().filter_map(|(address, seen)| Some((address, seen.as_ref().ok()?)))
    }

    /// Whether nobody said anything.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.answered().next().is_none()
    }

    /// A line a partition.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let ids: BTreeSet<u32> =
            self.answered().flat_map(|(_, seen)| seen.groups.keys().copied()).collect();
        ids.into_iter().map(|partition| self.line(partition)).collect()
    }

    fn line(&self, partition: u32) -> Line {
        let groups = self.answered().filter_map(|(_, seen)| seen.groups.get(&partition));
        let newest = groups.clone().max_by_key(|group| (group.term, group.leader));
        let addresses: BTreeSet<&String> = groups.flat_map(|group| &group.members).collect();
        let mut members: Vec<_> = addresses
            .into_iter()
            .map(|address| {
                let seen = self.nodes.get(address).and_then(|seen| seen.as_ref().ok());
                (seen.and_then(|seen| seen.id), address.clone(), seen.is_some())
            })
            .collect();
        members
            .sort_by(|a, b| (a.0.unwrap_or(u64::MAX), &a.1).cmp(&(b.0.unwrap_or(u64::MAX), &b.1)));
        let (term, leader) = newest.map_or((0, 0), |group| (group.term, group.leader));
        Line { partition, leader, term, members }
    }

    /// The nodes and the partitions, for people.
    #[must_use]
    pub fn table(&self) -> String {
        let lines = self.lines();
        let mut text =
            format!("{:<6}{:<24}{:>8}{:>7}  STATE\n", "NODE", "CLIENTS", "REPLICAS", "LEADS");
        for (address, seen) in &self.nodes {
            let _ = match seen {
                Ok(seen) => {
                    let id = seen.id.map_or("-".to_owned(), |id| id.to_string());
                    let here = seen.groups.values().filter(|group| group.here).count();
                    let leads = lines.iter().filter(|line| Some(line.leader) == seen.id).count();
                    writeln!(text, "{id:<6}{address:<24}{here:>8}{leads:>7}  serves")
                }
                Err(fault) => {
                    writeln!(text, "{:<6}{address:<24}{:>8}{:>7}  {fault}", "?", "-", "-")
                }
            };
        }
        let _ = writeln!(
            text,
            "\n{:<11}{:<8}{:<6}{:<20}STATE",
            "PARTITION", "LEADER", "TERM", "MEMBERS"
        );
        for line in &lines {
            let leader = if line.leader == 0 { "-".to_owned() } else { line.leader.to_string() };
            let (partition, term, members) = (line.partition, line.term, line.names().join(" "));
            let state = line.state();
            let _ = writeln!(text, "{partition:<11}{leader:<8}{term:<6}{members:<20}{state}");
        }
        text
    }
}

impl Seen {
    fn known(&self) -> impl Iterator<Item = String> + use<'_> {
        self.groups.values().flat_map(|group| group.members.iter().cloned())
    }
}

impl Line {
    /// Whether commands are done.
    #[must_use]
    pub fn works(&self) -> bool {
        self.leader > 0 && 2 * self.absent() < self.members.len().max(1)
    }

    /// Who leads it; 0: nobody.
    #[must_use]
    pub fn leader(&self) -> u64 {
        self.leader
    }

    fn absent(&self) -> usize {
        self.members.iter().filter(|(_, _, answers)| !answers).count()
    }

    fn names(&self) -> Vec<String> {
        let name = |(id, address, _): &(Option<u64>, String, bool)| match id {
            Some(id) => id.to_string(),
            None => address.clone(),
        };
        self.members.iter().map(name).collect()
    }

    fn state(&self) -> String {
        match self.absent() {
            absent if 2 * absent >= self.members.len().max(1) => {
                "stands still: no majority".to_owned()
            }
            _ if self.leader == 0 => "elects a leader".to_owned(),
            0 => "works".to_owned(),
            absent => format!("works, {absent} of {} missing", self.members.len()),
        }
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let member = |(id, address, answers): &(Option<u64>, String, bool)| {
            let role = match id {
                Some(id) if *id == self.leader => "leader",
                _ => "follower",
            };
            json!({ "node": id, "address": address, "role": role, "answers": answers })
        };
        let members: Vec<Value> = self.members.iter().map(member).collect();
        json!({
            "partition": self.partition,
            "leader": (self.leader > 0).then_some(self.leader),
            "term": self.term,
            "members": members,
            "works": self.works(),
        })
    }
}

/// What a node has and what happens to it.
pub const NODE_WATCH: Method<v1::WatchRequest, v1::Event> =
    Method::at("/atomix.multiraft.v1.Node/Watch");
const PARTITION_WATCH: Method<v1::WatchPartitionRequest, v1::PartitionEvent> =
    Method::at("/atomix.multiraft.v1.Partition/Watch");

/// What a node knows comes in one burst.
const SILENCE: Duration = Duration::from_millis(40);
const SILENT: &str = "nothing comes back in time";

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: u64, leader: u64, members: &[&str]) -> Result<Seen, Fault> {
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        let group = Group { term: 4, leader, here: true, members };
        Ok(Seen { id: Some(id), groups: BTreeMap::from([(1, group)]) })
    }

    fn gone() -> Result<Seen, Fault> {
        Err(Fault::Unreachable { endpoint: "c:1".to_owned(), reason: "no".to_owned() })
    }

    #[test]
    fn a_group_works_as_long_as_a_majority_answers() {
        let all = ["a:1", "b:1", "c:1"];
        let mut view = View::default();
        view.nodes.insert("a:1".to_owned(), seen(1, 2, &all));
        view.nodes.insert("b:1".to_owned(), seen(2, 2, &all));
        view.nodes.insert("c:1".to_owned(), gone());
        let lines = view.lines();
        assert_eq!((lines.len(), lines[0].leader, lines[0].term), (1, 2, 4));
        assert_eq!(lines[0].names(), ["1", "2", "c:1"]);
        assert_eq!(lines[0].state(), "works, 1 of 3 missing");
        assert!(lines[0].works());
        assert!(view.table().contains("works, 1 of 3 missing"), "{}", view.table());
        view.nodes.insert("b:1".to_owned(), gone());
        assert!(!view.lines()[0].works());
        assert_eq!(view.lines()[0].json()["members"][0]["node"], 1);
    }

    #[test]
    fn a_node_under_two_names_counts_once() {
        let mut view = View::default();
        view.nodes.insert("localhost:1".to_owned(), seen(1, 1, &["127.0.0.1:1"]));
        view.nodes.insert("127.0.0.1:1".to_owned(), seen(1, 1, &["127.0.0.1:1"]));
        view.forget_doubles();
        assert_eq!(view.nodes.keys().collect::<Vec<_>>(), ["127.0.0.1:1"]);
    }
}
