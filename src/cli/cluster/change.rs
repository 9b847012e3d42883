//! `ringraft cluster add`, `remove` and `replace`: who belongs to which partition.
//!
//! Every step is one that may have been done before: whoever is cut off calls again. What cannot be
//! done in one partition does not keep the others from being done, and is said at the end. Absent
//! on purpose: spreading the replicas of many partitions over the nodes anew.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::init::Founder;
use super::look::{DESCRIBE, Line, Peer, View};
use super::{AGAIN, Which, seen, table};
use crate::cli::target::Target;
use crate::cli::{Exit, Failure, note};
use crate::client::Fault;
use crate::client::connection::{Method, Network};
use crate::config::Address;
use crate::id::NodeId;
use crate::wire::cluster::{
    DescribePartitionRequest, Part, RemoveMemberRequest, RemoveMemberResponse, Role,
};
use crate::wire::proto::v1;
use crate::wire::proto::v1::member_config::Role as Wire;

/// A node that is to come: by all that must be known of it, or by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Wanted {
    Placed(Founder),
    Known(NodeId),
}

impl Wanted {
    pub(super) fn parse(text: &str) -> Result<Wanted, String> {
        match text.parse() {
            Ok(0) => Err("node 0 is nobody".to_owned()),
            Ok(id) => Ok(Wanted::Known(NodeId(id))),
            Err(_) => Founder::parse(text).map(Wanted::Placed),
        }
    }

    fn node(&self) -> NodeId {
        match self {
            Wanted::Placed(founder) => founder.seat.node,
            Wanted::Known(node) => *node,
        }
    }

    /// Where its clients come in, when that was typed.
    fn api(&self) -> Option<String> {
        match self {
            Wanted::Placed(founder) => Some(founder.api()),
            Wanted::Known(_) => None,
        }
    }

    /// Where it is, by what was typed or by what the others know.
    fn located(&self, view: &View) -> Result<Comer, Failure> {
        let node = self.node();
        if let Wanted::Placed(founder) = self {
            let Address { host, port, .. } = founder.seat.address.clone();
            return Ok(Comer { node, api: founder.api(), host, port });
        }
        let lines = view.lines();
        let known = lines.iter().find_map(|line| line.member(node)).cloned();
        let api = view.address_of(node).cloned();
        match (known, api) {
            (Some(known), Some(api)) => Ok(Comer { node, api, host: known.host, port: known.port }),
            (Some(known), None) => {
                let what = format!("node {node} does not answer at {}", known.clients);
                Err(Failure::new(Exit::Unreachable, what).mend("start it first"))
            }
            (None, _) => {
                let what = format!("no partition has a member {node}, so where it is is not known");
                Err(Failure::new(Exit::No, what)
                    .mend(format_args!("say where: {node}=HOST:PEERPORT")))
            }
        }
    }
}

/// A role that can be asked for.
pub(super) fn role(text: &str) -> Result<Wire, String> {
    match text {
        "member" => Ok(Wire::Member),
        "observer" => Ok(Wire::Observer),
        "witness" => Ok(Wire::Witness),
        _ => Err("member, observer or witness".to_owned()),
    }
}

/// A node that is to come, and where it is.
struct Comer {
    node: NodeId,
    api: String,
    host: String,
    port: u16,
}

/// `cluster add`.
pub(super) async fn add(
    target: &Target,
    wanted: &Wanted,
    role: Wire,
    which: &Which,
) -> Result<Exit, Failure> {
    let view = seen(target, wanted.api().as_slice()).await?;
    let comer = wanted.located(&view)?;
    let mut tally = Tally::default();
    for line in which.of(&view)? {
        let partition = line.partition;
        let outcome = join(target, &view, &line, &comer, role).await;
        if let Some(did) = tally.note(partition, outcome) {
            let (node, name) = (comer.node, table::role(role_of(role)));
            let text = match did {
                Did::Now => format!("partition {partition}: node {node} joined as {name}"),
                Did::Before => format!("partition {partition}: node {node} is {name} already"),
            };
            target.tell(&did.json(partition, "joined", node), &text);
        }
    }
    tally.end("next: `ringraft cluster balance` gives it leaders too", target)
}

/// `cluster remove`.
pub(super) async fn remove(
    target: &Target,
    node: u32,
    force: bool,
    which: &Which,
) -> Result<Exit, Failure> {
    let node = NodeId(node);
    let view = seen(target, &[]).await?;
    let lines = which.of(&view)?;
    // Before anything is done anywhere.
    for line in &lines {
        may_go(line, node, force)?;
    }
    let held = |line: &Line| holds(&view, line, node);
    if !lines.iter().any(|line| line.member(node).is_some() || held(line)) {
        let json = json!({ "node": node.0, "did": "nothing" });
        target.tell(&json, &format_args!("node {node} belongs to none of these partitions"));
        return Ok(Exit::Done);
    }
    let mut tally = Tally::default();
    for line in lines.iter().filter(|line| line.member(node).is_some() || held(line)) {
        let outcome = go(target, &view, line, node).await;
        if let Some(did) = tally.note(line.partition, outcome) {
            gone(target, line.partition, node, did);
        }
    }
    let left = if view.address_of(node).is_some() {
        String::new()
    } else {
        format!(
            "next: node {node} does not answer, so its data stays where it is; wipe that before a \
             node starts there, and give that one a new id"
        )
    };
    tally.end(&left, target)
}

/// `cluster replace`.
pub(super) async fn replace(
    target: &Target,
    old: u32,
    wanted: &Wanted,
    which: &Which,
) -> Result<Exit, Failure> {
    let old = NodeId(old);
    let view = seen(target, wanted.api().as_slice()).await?;
    let comer = wanted.located(&view)?;
    if comer.node == old {
        let what = format!("node {old} cannot take its own place");
        return Err(Failure::new(Exit::Usage, what)
            .mend("a node that lost its data comes back under a new id: --node-id"));
    }
    let mut tally = Tally::default();
    let mut affected = 0;
    for line in which.of(&view)? {
        let partition = line.partition;
        let Some(role) = line.member(old).map(|member| member.role) else {
            if holds(&view, &line, old)
                && tally.note(partition, go(target, &view, &line, old).await).is_some()
            {
                gone(target, partition, old, Did::Now);
                affected += 1;
            }
            continue;
        };
        affected += 1;
        let joined = join(target, &view, &line, &comer, wire(role)).await;
        let Some(did) = tally.note(partition, joined) else { continue };
        if did == Did::Now {
            let (node, name) = (comer.node, table::role(role));
            let text = format!("partition {partition}: node {node} joined as {name}");
            target.tell(&did.json(partition, "joined", node), &text);
        }
        let outcome = go(target, &view, &line, old).await;
        if let Some(did) = tally.note(partition, outcome) {
            gone(target, partition, old, did);
        }
    }
    if affected == 0 {
        let json = json!({ "node": old.0, "did": "nothing" });
        target.tell(&json, &format_args!("node {old} belongs to none of these partitions"));
        return Ok(Exit::Done);
    }
    tally.end("next: `ringraft cluster balance` spreads the leaders anew", target)
}

fn gone(target: &Target, partition: u32, node: NodeId, did: Did) {
    let text = match did {
        Did::Now => format!("partition {partition}: node {node} was removed"),
        Did::Before => format!("partition {partition}: node {node} was none of its members"),
    };
    target.tell(&did.json(partition, "removed", node), &text);
}

/// Whether something was to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    Now,
    Before,
}

impl Did {
    fn json(self, partition: u32, what: &str, node: NodeId) -> serde_json::Value {
        let did = if self == Did::Now { what } else { "nothing" };
        json!({ "partition": partition, "node": node.0, "did": did })
    }
}

/// What became of all partitions.
#[derive(Default)]
struct Tally {
    failed: BTreeSet<u32>,
    first: Option<(u32, Failure)>,
}

impl Tally {
    fn note<T>(&mut self, partition: u32, outcome: Result<T, Failure>) -> Option<T> {
        match outcome {
            Ok(done) => Some(done),
            Err(failure) => {
                let first = self.first.take();
                self.first = first.or(Some((partition, failure)));
                self.failed.insert(partition);
                None
            }
        }
    }

    fn end(self, next: &str, target: &Target) -> Result<Exit, Failure> {
        let Some((partition, first)) = self.first else {
            if !next.is_empty() && !target.json {
                note(&next);
            }
            return Ok(Exit::Done);
        };
        let others: Vec<String> =
            self.failed.iter().filter(|id| **id != partition).map(u32::to_string).collect();
        let mut what = format!("partition {partition}: {}", first.what);
        if !others.is_empty() {
            what.push_str(&format!("; also not done: partition {}", others.join(", ")));
        }
        let again = "what is done stays done: run the same again";
        let mend = first.mend.map_or(again.to_owned(), |mend| format!("{mend}; {again}"));
        Err(Failure { exit: first.exit, what, mend: Some(mend) })
    }
}

impl Which {
    /// The partitions that are meant.
    pub(super) fn of(&self, view: &View) -> Result<Vec<Line>, Failure> {
        let mut lines = view.lines();
        let unknown =
            self.partition.iter().find(|id| !lines.iter().any(|line| line.partition == **id));
        if let Some(unknown) = unknown {
            return Err(Failure::new(Exit::No, format!("no node knows a partition {unknown}")));
        }
        if lines.is_empty() {
            return Err(Failure::new(Exit::No, "the nodes that answer have no partitions"));
        }
        lines.retain(|line| self.partition.is_empty() || self.partition.contains(&line.partition));
        Ok(lines)
    }
}

/// Whether the node has a replica though it is no member: it was removed before.
fn holds(view: &View, line: &Line, node: NodeId) -> bool {
    let mut answered = view.answered().map(|(_, seen)| seen);
    let has = answered.any(|it| it.id == Some(node.0.into()) && it.has(line.partition));
    has && line.member(node).is_none() && !line.members.is_empty()
}

/// Whether a partition may lose this member.
fn may_go(line: &Line, node: NodeId, force: bool) -> Result<(), Failure> {
    let Some(member) = line.member(node).filter(|it| it.part == Part::Votes) else { return Ok(()) };
    let refused = |what: String| Failure::new(Exit::Refused, what);
    let partition = line.partition;
    let living = |peer: &&Peer| peer.answers && peer.heard != Some(false);
    let (voters, up) = (line.voters().count(), line.voters().filter(living).count());
    let goes_up = usize::from(living(&member));
    let (stay, stay_up) = (voters - 1, up - goes_up);
    if stay == 0 {
        let what = format!("node {node} has the only vote of partition {partition}");
        return Err(refused(what).mend("add another node first: ringraft cluster add"));
    }
    if 2 * stay_up <= stay {
        let what = format!(
            "partition {partition} would stand still without node {node}: {stay_up} of the {stay} \
             voters that stay are up"
        );
        return Err(refused(what).mend("start them first, or add others: ringraft cluster add"));
    }
    let bears = |up: usize, of: usize| 2 * (up - 1) > of;
    if !force && bears(up, voters) && !bears(stay_up, stay) {
        let what = format!(
            "without node {node} partition {partition} has {stay} voters, {stay_up} of them up, \
             and stands still when another one is lost"
        );
        return Err(refused(what).mend(format_args!(
            "replace it: ringraft cluster replace {node} NEW; or do it all the same: --force"
        )));
    }
    Ok(())
}

/// Has a node join, and waits for it as long as it gets on.
async fn join(
    target: &Target,
    view: &View,
    line: &Line,
    comer: &Comer,
    role: Wire,
) -> Result<Did, Failure> {
    let placed = |peer: &&Peer| match role {
        Wire::Observer => peer.part == Part::Listens,
        _ => peer.part == Part::Votes,
    };
    let it = line.member(comer.node).filter(placed);
    if it.is_some_and(|it| {
        it.role == role_of(role) && (&it.host, it.port) == (&comer.host, comer.port)
    }) {
        return Ok(Did::Before);
    }
    if line.members.is_empty() {
        return Err(Failure::new(Exit::Unreachable, "no member of it answers"));
    }
    let config = |node: NodeId, host: &str, port: u16, role: Wire| v1::MemberConfig {
        node_id: node.0,
        host: host.to_owned(),
        port: port.into(),
        role: role.into(),
    };
    let others = line.members.iter().filter(|member| member.node != comer.node);
    let mut members: Vec<v1::MemberConfig> =
        others.map(|it| config(it.node, &it.host, it.port, wire(it.role))).collect();
    members.push(config(comer.node, &comer.host, comer.port, role));
    let group = Some(v1::GroupConfig { group_id: line.partition, members });
    let request = v1::JoinRequest { group };
    let network = Network::of(std::slice::from_ref(&comer.api));
    let (mut reached, mut until) = (None, Instant::now() + target.timeout);
    loop {
        let asked = timeout(target.timeout.min(LOOK_AGAIN), network.unary(0, &JOIN, &request));
        let fault = match asked.await {
            Ok(Ok(v1::JoinResponse {})) => return Ok(Did::Now),
            Ok(Err(fault)) => fault,
            Err(_) => Fault::Timeout,
        };
        if !fault.is_passing() && fault != Fault::Timeout {
            return Err(target.failure(fault));
        }
        let now = progress(target, view, line.partition, comer.node).await;
        if let Some((matched, lag)) = now.filter(|(matched, _)| reached < Some(*matched)) {
            (reached, until) = (Some(matched), Instant::now() + target.timeout);
            let (partition, node) = (line.partition, comer.node);
            note(&format_args!("partition {partition}: node {node} is {lag} entries behind"));
        } else if Instant::now() >= until {
            let what = format!("node {} does not get on: {fault}", comer.node);
            return Err(Failure::new(Exit::Unreachable, what).mend(
                "does it run with the cluster's own [cluster] keys, and do the members reach its \
                 peer port? its log says; or: --timeout 1m",
            ));
        }
        sleep(AGAIN).await;
    }
}

/// Up to where a member has the log, and how much it lacks.
async fn progress(
    target: &Target,
    view: &View,
    partition: u32,
    node: NodeId,
) -> Option<(u64, u64)> {
    let request = DescribePartitionRequest { partition_id: partition, here: false };
    let described = anyone(target, view, None, &DESCRIBE, &request).await.ok()?;
    let member = described.members.iter().find(|member| member.node_id == node.0)?;
    Some((member.matched?, member.lag?))
}

/// Removes a node, and has it delete what it has if it answers.
async fn go(target: &Target, view: &View, line: &Line, node: NodeId) -> Result<Did, Failure> {
    let was = line.member(node).is_some();
    if was {
        let timeout = Some(prost_types::Duration {
            seconds: i64::try_from(target.timeout.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(target.timeout.subsec_nanos()).unwrap_or(0),
        });
        let request =
            RemoveMemberRequest { partition_id: line.partition, node_id: node.0, timeout };
        let leader = u32::try_from(line.leader).map_or(NodeId(0), NodeId);
        // Not by the one that goes: it may end in the middle.
        let first = view.address_of(leader).filter(|_| leader != node);
        let removed = anyone(target, view, first, &REMOVE, &request).await;
        let RemoveMemberResponse {} = removed.map_err(|fault| target.failure(fault))?;
    }
    let Some(address) = view.address_of(node) else { return Ok(did(was)) };
    let network = Network::of(std::slice::from_ref(address));
    let request = v1::LeaveRequest { group_id: line.partition };
    let left = timeout(target.timeout + SLACK, network.unary(0, &LEAVE, &request)).await;
    match left.unwrap_or(Err(Fault::Timeout)) {
        Ok(v1::LeaveResponse {}) => Ok(Did::Now),
        Err(Fault::Status { code: NOT_FOUND, .. }) => Ok(did(was)),
        Err(fault) => {
            let failure = target.failure(fault);
            let what = format!("it was removed, but keeps its data: {}", failure.what);
            Err(Failure { what, ..failure })
        }
    }
}

fn did(now: bool) -> Did {
    if now { Did::Now } else { Did::Before }
}

/// Asks `first`, and whoever else answers when that one cannot be reached.
pub(super) async fn anyone<I: prost::Message, O: prost::Message + Default>(
    target: &Target,
    view: &View,
    first: Option<&String>,
    method: &Method<I, O>,
    request: &I,
) -> Result<O, Fault> {
    let others = view.answered().map(|(address, _)| address).filter(|it| Some(*it) != first);
    let mut fault = Fault::Timeout;
    for address in first.into_iter().chain(others) {
        let network = Network::of(std::slice::from_ref(address));
        let asked = timeout(target.timeout + SLACK, network.unary(0, method, request)).await;
        match asked.unwrap_or(Err(Fault::Timeout)) {
            Ok(reply) => return Ok(reply),
            Err(Fault::Unreachable { endpoint, reason }) => {
                fault = Fault::Unreachable { endpoint, reason };
            }
            Err(fault) => return Err(fault),
        }
    }
    Err(fault)
}

fn role_of(wire: Wire) -> Role {
    match wire {
        Wire::Observer => Role::Observer,
        Wire::Witness => Role::Witness,
        Wire::Member | Wire::Unknown => Role::Member,
    }
}

fn wire(role: Role) -> Wire {
    match role {
        Role::Member => Wire::Member,
        Role::Observer => Wire::Observer,
        Role::Witness => Wire::Witness,
    }
}

const JOIN: Method<v1::JoinRequest, v1::JoinResponse> =
    Method::at("/atomix.multiraft.v1.Node/Join");
const LEAVE: Method<v1::LeaveRequest, v1::LeaveResponse> =
    Method::at("/atomix.multiraft.v1.Node/Leave");
const REMOVE: Method<RemoveMemberRequest, RemoveMemberResponse> =
    Method::at("/ringraft.cluster.v1.Cluster/RemoveMember");

const NOT_FOUND: u32 = 5;
/// What an answer takes beside the time that the node was given.
const SLACK: Duration = Duration::from_secs(2);
/// While a node catches up, how often is looked how far it is.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::super::look::tests::{gone, seen, view};
    use super::*;

    fn line(up: &[bool]) -> Line {
        let addresses: Vec<String> = (1..=up.len()).map(|node| format!("n{node}:1")).collect();
        let all: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let nodes: Vec<_> = (up.iter().zip(&all).enumerate())
            .map(|(at, (up, name))| {
                (*name, if *up { seen(at as u32 + 1, 1, &all) } else { gone() })
            })
            .collect();
        view(&nodes).lines().remove(0)
    }

    fn refusal(up: &[bool], node: u32, force: bool) -> String {
        may_go(&line(up), NodeId(node), force)
            .map_or_else(|failure| failure.what, |()| String::new())
    }

    #[test]
    fn who_may_go_is_who_is_not_needed() {
        assert_eq!(refusal(&[true, true, false], 3, false), "", "a lost one is no loss");
        assert_eq!(refusal(&[true, true, true, true], 4, false), "", "three of three are left");
        assert_eq!(refusal(&[true, true], 2, false), "", "two bear no loss either");
        assert_eq!(refusal(&[true, true, true], 7, false), "", "it is no member");
        assert!(refusal(&[true, true, true], 3, false).contains("another one is lost"));
        assert_eq!(refusal(&[true, true, true], 3, true), "", "forced");
        for force in [false, true] {
            assert!(refusal(&[true, true, false], 2, force).contains("stand still without"));
            assert!(refusal(&[true], 1, force).contains("only vote"));
        }
    }

    #[test]
    fn a_node_is_named_by_its_place_or_its_id() {
        assert_eq!(Wanted::parse("4"), Ok(Wanted::Known(NodeId(4))));
        let placed = Wanted::parse("4=db4:5679").expect("a place");
        assert_eq!((placed.node(), placed.api()), (NodeId(4), Some("db4:5678".to_owned())));
        for bad in ["0", "db4:5679", "4=db4", ""] {
            assert!(Wanted::parse(bad).is_err(), "{bad}");
        }
        let view = view(&[("a:1", seen(1, 1, &["a:1", "b:1"]))]);
        assert!(Wanted::Known(NodeId(1)).located(&view).is_ok());
        let silent = Wanted::Known(NodeId(2)).located(&view).err().expect("it is silent");
        assert_eq!(silent.exit, Exit::Unreachable);
        let unknown = Wanted::Known(NodeId(9)).located(&view).err().expect("it is unknown");
        assert_eq!(unknown.exit, Exit::No);
    }

    #[test]
    fn what_fails_in_one_partition_is_said_at_the_end() {
        let mut tally = Tally::default();
        assert_eq!(tally.note(1, Ok(7)), Some(7));
        let failed: Result<(), Failure> = Err(Failure::new(Exit::Refused, "no").mend("wait"));
        assert_eq!(tally.note(2, failed), None);
        let other: Result<(), Failure> = Err(Failure::new(Exit::Failed, "never"));
        assert_eq!(tally.note(3, other), None);
        let (partition, first) = tally.first.expect("it failed");
        assert_eq!((partition, first.exit, first.what.as_str()), (2, Exit::Refused, "no"));
        assert_eq!(tally.failed, BTreeSet::from([2, 3]));
    }
}
