//! The operator: founds groups, and has nodes join, leave, be replaced and lead, under load.
//!
//! What is wanted is drawn before the run and asked again until it is so, as people and their
//! tools do; that all of it comes true once everything is mended is part of what a run must show.
//! Absent on purpose: wishes that leave a group without a majority that can ever come back: a node
//! that is destroyed is replaced in a world where nobody leaves and where no witness may be the
//! only one that has an entry of it, and one founder always stays.

use std::fmt;

use crate::id::{NodeId, PartitionId};
use crate::partition::reply::Refusal;
use crate::prng::Prng;
use crate::shard::inbox::{Ask, Change, Member, Role};
use crate::sim::call::Heard;
use crate::time::Span;

/// Something that is wanted, and since when.
#[derive(Clone, Debug)]
pub struct Act {
    /// Nanoseconds of the world's time.
    pub at_ns: u64,
    /// Of which group.
    pub partition: PartitionId,
    /// What.
    pub what: Wish,
}

impl Act {
    fn joins(&self) -> Option<(NodeId, PartitionId)> {
        match self.what {
            Wish::Join(node, _) => Some((node, self.partition)),
            Wish::Found(_) | Wish::Leave(_) | Wish::Dismiss(_) | Wish::Lead(_) => None,
        }
    }

    fn leaves(&self) -> Option<(NodeId, PartitionId)> {
        match self.what {
            Wish::Leave(node) => Some((node, self.partition)),
            Wish::Found(_) | Wish::Join(..) | Wish::Dismiss(_) | Wish::Lead(_) => None,
        }
    }
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// This node has the group that all founders found.
    Found(NodeId),
    /// This node belongs to it.
    Join(NodeId, Role),
    /// This node leaves it.
    Leave(NodeId),
    /// This node, which is destroyed, belongs to it no more.
    Dismiss(NodeId),
    /// This node leads it, or another one than before.
    Lead(Option<NodeId>),
}

/// One of them on its way.
#[derive(Clone, Debug)]
pub struct Task {
    /// What.
    pub act: Act,
    /// Whether it is so.
    pub done: bool,
    /// Whether somebody said that it is so because it was asked for.
    pub granted: bool,
    /// The call that is out, and since when.
    out: Option<(u64, u64)>,
    tries: u32,
}

/// Who asks for all of it.
#[derive(Debug, Default)]
pub struct Operator {
    /// In their order.
    pub tasks: Vec<Task>,
    /// The founder that is a witness.
    witness: Option<NodeId>,
    next_call: u64,
}

impl Operator {
    /// Wants these.
    #[must_use]
    pub fn new(acts: impl Iterator<Item = Act>, witness: Option<NodeId>) -> Operator {
        let task = |act| Task { act, done: false, granted: false, out: None, tries: 0 };
        Operator { tasks: acts.map(task).collect(), witness, next_call: 0 }
    }

    /// Whether everything is as wanted.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.tasks.iter().all(|task| task.done)
    }

    /// What is asked now: the call's number, of which node, about which group.
    pub fn due(&mut self, now_ns: u64, founders: u32) -> Vec<(u64, NodeId, PartitionId, Ask)> {
        let mut asks = Vec::new();
        for task in &mut self.tasks {
            let partition = task.act.partition;
            let waits = task.out.is_some_and(|(_, since_ns)| {
                let founds = matches!(task.act.what, Wish::Found(_));
                !founds && now_ns < since_ns + PATIENCE_NS
            });
            if task.done || waits || now_ns < task.act.at_ns {
                continue;
            }
            let call = self.next_call;
            self.next_call += 1;
            task.out = Some((call, now_ns));
            let (node, ask) = ask(&task.act.what, task.tries, founders, self.witness);
            task.tries += 1;
            asks.push((call, node, partition, ask));
        }
        asks
    }

    /// What came back on a call.
    pub fn heard(&mut self, call: u64, heard: &Heard) {
        let leaves: Vec<(NodeId, PartitionId)> =
            self.tasks.iter().filter_map(|task| task.act.leaves()).collect();
        let is_its = |task: &&mut Task| task.out.is_some_and(|(its, _)| its == call);
        let Some(task) = self.tasks.iter_mut().find(is_its) else { return };
        let founds = matches!(task.act.what, Wish::Found(_));
        match heard {
            Heard::Output { .. } | Heard::End => (task.done, task.granted) = (true, true),
            // It left before and the answer was lost; or who is to lead does not vote any more.
            Heard::Refused(Refusal::NotFound(_)) if !founds => task.done = true,
            Heard::Refused(Refusal::Precondition(_)) if matches!(task.act.what, Wish::Lead(_)) => {
                task.done = true;
            }
            // It leaves meanwhile, or has left, and never comes back.
            Heard::Refused(Refusal::Precondition(_))
                if task.act.joins().is_some_and(|joins| leaves.contains(&joins)) =>
            {
                task.done = true;
            }
            Heard::Refused(_) | Heard::Broken => {
                if !founds {
                    task.out = None;
                }
            }
            Heard::Event(_) => {}
        }
    }
}

/// Whom to ask for it, and how.
fn ask(what: &Wish, tries: u32, founders: u32, witness: Option<NodeId>) -> (NodeId, Ask) {
    let founder = NodeId(1 + tries % founders);
    let role = |node| if Some(node) == witness { Role::Witness } else { Role::Member };
    let members = || (1..=founders).map(NodeId).map(|node| member(node, role(node)));
    // Asked of whoever leads, or of a node that sees to it.
    let change = |change| match tries % 2 {
        0 => Ask::Change { change, passed: false },
        _ => Ask::Arrange { change, patience: Span::secs(2) },
    };
    match what {
        Wish::Found(node) => (*node, Ask::Bootstrap { local: *node, members: members().collect() }),
        Wish::Join(node, role) => {
            let joins = member(*node, *role);
            (*node, Ask::Join { local: *node, members: members().chain([joins]).collect() })
        }
        Wish::Leave(node) => (*node, Ask::Leave),
        Wish::Dismiss(node) => (founder, change(Change::Dismiss(*node))),
        Wish::Lead(to) => (founder, change(Change::Lead(*to))),
    }
}

/// A node of the world as a member.
#[must_use]
pub fn member(node: NodeId, role: Role) -> Member {
    Member { node, host: format!("node-{node}"), port: 5679, role }
}

/// What a world of `nodes` founders wants, and how many more nodes it has for that; with a node
/// that is destroyed, and when.
pub struct Drawn {
    /// Nodes beside the founders.
    pub spares: u32,
    /// What is wanted.
    pub acts: Vec<Act>,
    /// A founder that never comes back.
    pub destroyed: Option<(u64, NodeId)>,
}

impl Drawn {
    /// Drawn for groups whose faults end at `heals_ns`.
    #[must_use]
    pub fn of(prng: &mut Prng, nodes: u32, partitions: u32, heals_ns: u64) -> Drawn {
        let mut drawn = Drawn { spares: 0, acts: Vec::new(), destroyed: None };
        let partitions: Vec<_> = (1..=partitions).map(PartitionId).collect();
        let replaces = nodes > 2 && prng.chance(300);
        let at = |prng: &mut Prng| prng.between(400_000_000, heals_ns.max(500_000_000));
        if replaces {
            let (lost, spare) = (NodeId(1 + prng.below(nodes.into()) as u32), NodeId(nodes + 1));
            let at_ns = at(prng);
            drawn.spares = 1;
            drawn.destroyed = Some((at_ns, lost));
            for partition in partitions.iter().copied() {
                let joins_ns = at_ns + prng.below(400_000_000);
                let goes_ns = at_ns + prng.below(800_000_000);
                let (join, go) = (Wish::Join(spare, Role::Member), Wish::Dismiss(lost));
                drawn.acts.push(Act { at_ns: joins_ns, partition, what: join });
                drawn.acts.push(Act { at_ns: goes_ns, partition, what: go });
            }
        } else {
            drawn.spares = 1 + prng.below(3) as u32;
            for node in 2..=nodes + drawn.spares {
                for partition in partitions.iter().copied() {
                    if !prng.chance(700) {
                        continue;
                    }
                    let observer = prng.chance(300);
                    let role = if observer { Role::Observer } else { Role::Member };
                    let (node, at_ns) = (NodeId(node), at(prng));
                    if node.0 > nodes {
                        let what = Wish::Join(node, role);
                        drawn.acts.push(Act { at_ns, partition, what });
                    }
                    if prng.chance(400) {
                        let (at_ns, what) = (at_ns + prng.below(900_000_000), Wish::Leave(node));
                        drawn.acts.push(Act { at_ns, partition, what });
                    }
                }
            }
        }
        for _ in 0..prng.below(5) {
            let to = prng.chance(500).then(|| NodeId(1 + prng.below(nodes.into()) as u32));
            let gone = drawn.destroyed.map(|(_, node)| node);
            let to = to.filter(|to| Some(*to) != gone);
            let (at_ns, partition) = (at(prng), *prng.pick(&partitions));
            drawn.acts.push(Act { at_ns, partition, what: Wish::Lead(to) });
        }
        drawn.acts.sort_by_key(|act| act.at_ns);
        drawn
    }
}

/// Makes some of those who join witnesses, and draws which founder of `nodes` is one, if any: not
/// the one that always stays, as somebody must lead.
pub fn draw_witnesses(prng: &mut Prng, nodes: u32, acts: &mut [Act]) -> Option<NodeId> {
    for act in acts {
        if let Wish::Join(_, role @ Role::Member) = &mut act.what
            && prng.chance(500)
        {
            *role = Role::Witness;
        }
    }
    let founds = nodes > 1 && prng.chance(800);
    founds.then(|| NodeId(prng.between(2, u64::from(nodes)) as u32))
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Act { at_ns, partition, what } = self;
        write!(f, "at {:.3} s: partition {partition}: {what:?}", *at_ns as f64 / 1e9)
    }
}

/// How long a call may be out before it counts as lost.
const PATIENCE_NS: u64 = 3_000_000_000;
