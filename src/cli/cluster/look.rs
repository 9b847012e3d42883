//! What a cluster looks like from outside: each node is asked what it has, and whom it knows is
//! asked in turn.
//!
//! One address is enough to begin with: the replicas of a node name the members of their groups.
//! What the leader of a group says of it counts, without one what the newest replica says. A member
//! that does not answer is known by what the others say. Absent on purpose: keeping anything from
//! one look to the next, and what is printed of it (`table.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::client::Fault;
use crate::client::connection::{Method, Network};
use crate::id::NodeId;
use crate::wire::cluster::{
    DescribePartitionRequest, DescribePartitionResponse, Member, Part, Role,
};
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
    /// Its id, when it has a replica that tells.
    pub id: Option<u64>,
    pub(super) groups: BTreeMap<u32, Group>,
}

/// What one node knows of a group.
#[derive(Debug, Default, Clone)]
pub(super) struct Group {
    pub term: u64,
    pub leader: u64,
    /// Whether it has a replica, and what that says.
    pub here: bool,
    pub described: Option<DescribePartitionResponse>,
}

/// One partition, by all that was said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub(super) partition: u32,
    pub(super) leader: u64,
    pub(super) term: u64,
    /// A change of members is under way.
    pub(super) changing: bool,
    pub(super) members: Vec<Peer>,
}

/// One member of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Peer {
    pub node: NodeId,
    /// Where clients reach it, as far as is known, and where its peers do.
    pub clients: String,
    pub host: String,
    pub port: u16,
    pub role: Role,
    pub part: Part,
    /// Whether it answered.
    pub answers: bool,
    /// What the leader knows of it.
    pub heard: Option<bool>,
    pub matched: Option<u64>,
    pub lag: Option<u64>,
    pub snapshot: bool,
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
                next.extend(seen.known().map(str::to_owned));
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
    drop(events);
    let here = seen.groups.iter().filter(|(_, group)| group.here).map(|(id, _)| *id);
    let mut here = here.collect::<Vec<u32>>().into_iter();
    let mut asked = JoinSet::new();
    loop {
        while asked.len() < ASKED_AT_ONCE
            && let Some(partition_id) = here.next()
        {
            let network = network.clone();
            asked.spawn(async move {
                let request = DescribePartitionRequest { partition_id, here: true };
                (partition_id, network.unary(0, &DESCRIBE, &request).await)
            });
        }
        let Some(Ok((id, described))) = asked.join_next().await else { break };
        match described {
            Ok(described) => seen.learn(id, described),
            // It left in this moment.
            Err(Fault::Status { code: NOT_FOUND | UNAVAILABLE, .. }) => {}
            Err(fault) => return Err(fault),
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

    fn learn(&mut self, id: u32, described: DescribePartitionResponse) {
        self.id = Some(described.node_id.into());
        let group = self.groups.entry(id).or_default();
        (group.term, group.leader) = (described.term, described.leader.into());
        group.described = Some(described);
    }

    /// The addresses of clients that its replicas name.
    fn known(&self) -> impl Iterator<Item = &str> + use<'_> {
        let described = self.groups.values().filter_map(|group| group.described.as_ref());
        let members = described.flat_map(|described| &described.members);
        members.map(|member| member.clients.as_str()).filter(|address| !address.is_empty())
    }

    /// Whether it has a replica of a partition.
    pub(super) fn has(&self, partition: u32) -> bool {
        self.groups.get(&partition).is_some_and(|group| group.here)
    }
}

impl View {
    /// A node that was asked under two addresses counts once, under the one that others know.
    fn forget_doubles(&mut self) {
        let known: BTreeSet<String> =
            self.answered().flat_map(|(_, seen)| seen.known()).map(str::to_owned).collect();
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

    /// Those who said something.
    pub(super) fn answered(&self) -> impl Iterator<Item = (&String, &Seen)> + Clone {
        self.nodes.iter().filter_map(|(address, seen)| Some((address, seen.as_ref().ok()?)))
    }

    /// Whether nobody said anything.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.answered().next().is_none()
    }

    /// Where clients reach a node that answers.
    pub(super) fn address_of(&self, node: NodeId) -> Option<&String> {
        let its = |seen: &Seen| seen.id == Some(node.0.into());
        self.answered().find(|(_, seen)| its(seen)).map(|(address, _)| address)
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
        let (term, leader) = newest.map_or((0, 0), |group| (group.term, group.leader));
        let described = groups.filter_map(|group| group.described.as_ref());
        // Whoever was removed knows least; a leader knows most.
        let best = described
            .filter(|it| !it.removed && !it.halted)
            .max_by_key(|it| (it.leader == it.node_id, it.term, it.applied));
        let answers: BTreeSet<u64> = self.answered().filter_map(|(_, seen)| seen.id).collect();
        let members = best.map_or(&[][..], |best| &best.members);
        let mut members: Vec<Peer> = members.iter().map(Peer::of).collect();
        for member in &mut members {
            member.answers = answers.contains(&member.node.0.into());
        }
        members.sort_by_key(|member| member.node);
        Line { partition, leader, term, changing: best.is_some_and(|it| it.changing), members }
    }
}

impl Peer {
    fn of(told: &Member) -> Peer {
        Peer {
            node: NodeId(told.node_id),
            clients: told.clients.clone(),
            host: told.host.clone(),
            port: u16::try_from(told.port).unwrap_or(0),
            role: told.role(),
            part: told.part(),
            answers: false,
            heard: told.heard,
            matched: told.matched,
            lag: told.lag,
            snapshot: told.snapshot,
        }
    }
}

impl Line {
    /// Whether commands are done.
    #[must_use]
    pub fn works(&self) -> bool {
        self.leader > 0 && 2 * self.voters().filter(|it| it.answers).count() > self.voters().count()
    }

    /// Who leads it; 0: nobody.
    #[must_use]
    pub fn leader(&self) -> u64 {
        self.leader
    }

    /// Those who decide.
    pub(super) fn voters(&self) -> impl Iterator<Item = &Peer> + Clone {
        self.members.iter().filter(|member| member.part == Part::Votes)
    }

    /// A member by its node.
    pub(super) fn member(&self, node: NodeId) -> Option<&Peer> {
        self.members.iter().find(|member| member.node == node)
    }
}

/// What a node has and what happens to it.
pub const NODE_WATCH: Method<v1::WatchRequest, v1::Event> =
    Method::at("/atomix.multiraft.v1.Node/Watch");
pub(super) const DESCRIBE: Method<DescribePartitionRequest, DescribePartitionResponse> =
    Method::at("/ringraft.cluster.v1.Cluster/DescribePartition");

/// What a node knows comes in one burst.
const SILENCE: Duration = Duration::from_millis(40);
const SILENT: &str = "nothing comes back in time";
/// Questions to one node that are out together.
const ASKED_AT_ONCE: usize = 32;
const NOT_FOUND: u32 = 5;
const UNAVAILABLE: u32 = 14;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What node `id` says of partition 1 with these members, whose nodes are numbered from 1.
    pub fn seen(id: u32, leader: u32, members: &[&str]) -> Result<Seen, Fault> {
        let member = |(at, clients): (usize, &&str)| Member {
            node_id: at as u32 + 1,
            host: "h".to_owned(),
            port: 5679,
            clients: (*clients).to_owned(),
            role: Role::Member.into(),
            part: Part::Votes.into(),
            lag: (leader == id).then_some(at as u64),
            ..Member::default()
        };
        let members = members.iter().enumerate().map(member).collect();
        let (partition_id, term) = (1, 4);
        let described = DescribePartitionResponse {
            partition_id,
            node_id: id,
            term,
            leader,
            members,
            ..DescribePartitionResponse::default()
        };
        let mut seen = Seen::default();
        seen.groups.entry(1).or_default().here = true;
        seen.learn(1, described);
        Ok(seen)
    }

    pub fn gone() -> Result<Seen, Fault> {
        Err(Fault::Unreachable { endpoint: "c:1".to_owned(), reason: "no".to_owned() })
    }

    pub fn view(nodes: &[(&str, Result<Seen, Fault>)]) -> View {
        let nodes = nodes.iter().map(|(address, seen)| ((*address).to_owned(), seen.clone()));
        View { nodes: nodes.collect() }
    }

    #[test]
    fn a_group_works_as_long_as_a_majority_answers() {
        let all = ["a:1", "b:1", "c:1"];
        let mut view =
            view(&[("a:1", seen(1, 2, &all)), ("b:1", seen(2, 2, &all)), ("c:1", gone())]);
        let lines = view.lines();
        assert_eq!((lines.len(), lines[0].leader, lines[0].term), (1, 2, 4));
        let known: Vec<_> = lines[0].members.iter().map(|it| (it.answers, it.lag)).collect();
        assert_eq!(
            known,
            [(true, Some(0)), (true, Some(1)), (false, Some(2))],
            "the leader's word"
        );
        assert!(lines[0].works());
        view.nodes.insert("b:1".to_owned(), gone());
        assert!(!view.lines()[0].works());
    }

    #[test]
    fn a_node_under_two_names_counts_once() {
        let all = ["127.0.0.1:1"];
        let mut view =
            view(&[("localhost:1", seen(1, 1, &all)), ("127.0.0.1:1", seen(1, 1, &all))]);
        view.forget_doubles();
        assert_eq!(view.nodes.keys().collect::<Vec<_>>(), ["127.0.0.1:1"]);
    }
}
