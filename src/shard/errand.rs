//! What this node wants of a group's leader, asked again until it is so: to be admitted, to be let
//! go, or what an operator wants of the group.
//!
//! ```text
//!   Node.Join  ─► replica here, empty ─► "admit me" ─► leader … admitted ─► answered
//!   Node.Leave ─────────────────────► "dismiss me" ─► leader … removed ─► data deleted ─► answered
//!   operator   ──► "dismiss node 3", "node 2 leads" ─► leader …  it is so ─────────────► answered
//! ```
//!
//! An errand asks whoever leads as far as the replica here knows, else one member after another;
//! each question has its own ticket, takes the way of every call (`forward.rs`), and counts for
//! nothing when its answer is lost: what is asked for is the same however often it is asked. A
//! leader that changes, a node that dies and a link that breaks are therefore one case. Who leaves
//! wants to be admitted no more. Absent on purpose: what the leader does about it
//! (`partition/member.rs`).

use std::collections::BTreeMap;

use crate::{
    id::{NodeId, PartitionId, ShardId, Ticket},
    limits::ERRANDS_MAX,
    partition::{
        member::{Change, Member},
        reply::{Body, Elsewhere, Refusal, Replies},
    },
    time::{Instant, Now, Span},
};

/// The shard that tickets of errands name: none of this node.
pub(super) const ERRANDS: ShardId = ShardId(u16::MAX - 1);

/// How long one question may take: a learner that has much to catch up with takes longer, and then
/// the next question waits for the same.
const QUESTION: Span = Span::secs(2);

/// From an answer that was no answer to the next question.
const AGAIN: Span = Span::millis(100);

/// How long a caller without a deadline waits for a group that nobody leads.
const PATIENCE: Span = Span::secs(60);

/// How long a leave waits for a leader: without one it cannot be, and its caller can do something.
const LEADERLESS: Span = Span::secs(10);

/// How much longer a leave waits for a leader that does not let this node go: it does when a
/// majority of the others is there.
const HELD: Span = Span::secs(20);

/// Something that is wanted.
#[derive(Debug)]
pub(super) struct Errand {
    pub partition: PartitionId,
    /// Who waits here.
    ticket: Ticket,
    pub goal: Goal,
    deadline: Option<Instant>,
    /// When it is given up if nobody leads the group.
    patience: Instant,
    /// When to ask next, while no question is out.
    next: Instant,
    /// The question that is out, and when it counts as lost.
    out: Option<(Ticket, Instant)>,
    /// How many were asked: whose turn it is among those who may lead.
    asked: usize,
    /// A leader tried, until the time of a question was over.
    tried: bool,
    heard: Option<Result<(), Refusal>>,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Goal {
    /// To belong to the group like this.
    Join(Member),
    /// To belong to it no more.
    Leave(NodeId),
    /// What an operator wants, for so long.
    Arrange(Change, Span),
}

/// What a caller is told in the end.
#[derive(Debug)]
pub(super) struct Ended {
    pub partition: PartitionId,
    pub ticket: Ticket,
    pub goal: Goal,
    pub result: Result<(), Refusal>,
}

/// All errands of a shard.
#[derive(Debug, Default)]
pub(super) struct Errands {
    all: BTreeMap<u32, Errand>,
    next: u32,
}

impl Errand {
    /// What the leader is asked.
    pub fn change(&self) -> Change {
        match &self.goal {
            Goal::Join(member) => Change::Admit(member.clone()),
            Goal::Leave(node) => Change::Dismiss(*node),
            Goal::Arrange(change, _) => change.clone(),
        }
    }

    /// Which of those who may lead is asked now.
    pub fn whom(&self, candidates: &[NodeId]) -> Option<NodeId> {
        let place = self.asked.checked_rem(candidates.len())?;
        Some(candidates[place])
    }

    /// A question leaves.
    pub fn ask(&mut self, ticket: Ticket, now: Instant) -> Instant {
        let until = now.after(QUESTION);
        let until = self.deadline.map_or(until, |deadline| deadline.min(until));
        self.asked += 1;
        // Its answer says when its time is over; should that be lost too, it ends a little later.
        self.out = Some((ticket, until.after(AGAIN)));
        until
    }

    /// Why it ends without being done.
    fn given_up(&self, now: Instant, led: bool) -> Option<Refusal> {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Some(Refusal::Deadline);
        }
        let over = match self.goal {
            Goal::Join(_) => !led && self.patience <= now,
            Goal::Leave(_) if led => self.patience.after(HELD) <= now,
            Goal::Leave(_) | Goal::Arrange(..) => self.patience <= now,
        };
        over.then_some(Refusal::Unavailable(match &self.goal {
            Goal::Join(_) => NOBODY_ADMITS,
            Goal::Leave(_) if led => TOO_FEW_STAY,
            Goal::Leave(_) => NOBODY_LETS_GO,
            Goal::Arrange(..) if !led => NOBODY_DECIDES,
            Goal::Arrange(Change::Lead(_), _) => NOT_TAKEN_OVER,
            Goal::Arrange(Change::Dismiss(_), _) => NOT_REMOVED,
            Goal::Arrange(Change::Admit(_), _) => NOBODY_ADMITS,
        }))
    }
}

impl Errands {
    /// A caller wants something; asked at once.
    pub fn begin(
        &mut self,
        partition: PartitionId,
        (ticket, deadline): (Ticket, Option<Instant>),
        goal: Goal,
        now: Now,
    ) -> Result<(), Refusal> {
        if self.all.len() >= ERRANDS_MAX {
            return Err(Refusal::Full("too many changes of members at once"));
        }
        let now = now.monotonic;
        let patience = match &goal {
            Goal::Join(_) => now.after(PATIENCE),
            Goal::Leave(_) => now.after(LEADERLESS),
            Goal::Arrange(_, patience) => now.after(*patience),
        };
        let errand = Errand {
            partition,
            ticket,
            goal,
            deadline,
            patience,
            next: now,
            out: None,
            asked: 0,
            tried: false,
            heard: None,
        };
        self.next = self.next.wrapping_add(1);
        self.all.insert(self.next, errand);
        Ok(())
    }

    /// The errands whose next question is due, by number.
    pub fn due(&self, now: Instant) -> Vec<u32> {
        let due = |errand: &Errand| errand.out.is_none() && errand.next <= now;
        self.all.iter().filter(|(_, errand)| due(errand)).map(|(number, _)| *number).collect()
    }

    /// One of them.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Errand> {
        self.all.get_mut(&number)
    }

    /// The ticket of the next question of errand `number`.
    pub fn ticket(&self, number: u32) -> Ticket {
        let generation = self.all.get(&number).map_or(0, |errand| errand.asked as u32);
        Ticket { shard: ERRANDS, slot: number, generation }
    }

    /// Moves the answers to questions out of `replies`.
    pub fn hear(&mut self, replies: &mut Replies) {
        if replies.list.iter().all(|reply| reply.ticket.shard != ERRANDS) {
            return;
        }
        let list = std::mem::take(&mut replies.list);
        let (answers, others) = list.into_iter().partition(|it| it.ticket.shard == ERRANDS);
        replies.list = others;
        for reply in answers {
            let Some(errand) = self.all.get_mut(&reply.ticket.slot) else { continue };
            if errand.out.is_some_and(|(ticket, _)| ticket == reply.ticket) {
                errand.heard = Some(match reply.body {
                    Body::Refused(refusal) => Err(refusal),
                    _ => Ok(()),
                });
            }
        }
    }

    /// Takes out what has come to its end. `led` says whether a leader of a partition is known.
    /// Questions whose answer counts as lost are returned with their partition: nobody waits for
    /// them any more.
    pub fn end(
        &mut self,
        now: Instant,
        led: impl Fn(PartitionId) -> bool,
    ) -> (Vec<Ended>, Vec<(PartitionId, Ticket)>) {
        let (mut ended, mut lost) = (Vec::new(), Vec::new());
        self.all.retain(|_, errand| {
            let result = match errand.heard.take() {
                Some(Err(refusal)) if is_final(&refusal) => Some(Err(refusal)),
                Some(Ok(())) => Some(Ok(())),
                Some(Err(refusal)) => {
                    errand.tried |= refusal == Refusal::Deadline;
                    errand.out = None;
                    errand.next = now.after(AGAIN);
                    None
                }
                None => None,
            };
            let led = led(errand.partition) || errand.tried;
            let result = result.or_else(|| errand.given_up(now, led).map(Err));
            if let Some((ticket, _)) =
                errand.out.filter(|(_, until)| *until <= now || result.is_some())
            {
                lost.push((errand.partition, ticket));
                (errand.out, errand.next) = (None, now);
            }
            let Some(result) = result else { return true };
            let (partition, ticket, goal) = (errand.partition, errand.ticket, errand.goal.clone());
            ended.push(Ended { partition, ticket, goal, result });
            false
        });
        (ended, lost)
    }

    /// Whether this node is leaving a group.
    pub fn is_leaving(&self, partition: PartitionId) -> bool {
        let leaves = |errand: &Errand| matches!(errand.goal, Goal::Leave(_));
        self.all.values().any(|errand| errand.partition == partition && leaves(errand))
    }

    /// This node leaves a group: it wants to be admitted no more. Those who asked for that, each
    /// with the question that is out.
    pub fn forget_joins(&mut self, partition: PartitionId) -> Vec<(Ticket, Option<Ticket>)> {
        let mut forgotten = Vec::new();
        self.all.retain(|_, errand| {
            let joins = errand.partition == partition && matches!(errand.goal, Goal::Join(_));
            if joins {
                forgotten.push((errand.ticket, errand.out.map(|(ticket, _)| ticket)));
            }
            !joins
        });
        forgotten
    }

    /// The caller hung up: nothing more is asked. The question that is out, if any.
    pub fn gone(&mut self, ticket: Ticket) -> Option<(PartitionId, Option<Ticket>)> {
        let (number, _) = self.all.iter().find(|(_, errand)| errand.ticket == ticket)?;
        let errand = self.all.remove(&{ *number })?;
        Some((errand.partition, errand.out.map(|(ticket, _)| ticket)))
    }

    /// When something is to be done even if nothing happens.
    pub fn wake(&self) -> Option<Instant> {
        let at = |errand: &Errand| {
            if errand.heard.is_some() {
                return Instant(0);
            }
            let next = errand.out.map_or(errand.next, |(_, until)| until);
            let next = match errand.goal {
                Goal::Arrange(..) => next.min(errand.patience),
                Goal::Join(_) | Goal::Leave(_) => next,
            };
            errand.deadline.map_or(next, |deadline| deadline.min(next))
        };
        self.all.values().map(at).min()
    }
}

/// Whether asking again would be refused the same way.
fn is_final(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Malformed(_) | Refusal::Precondition(_) | Refusal::Unimplemented(_) => true,
        Refusal::UnknownPartition(_)
        | Refusal::UnknownSession(_)
        | Refusal::Unavailable(_)
        | Refusal::Full(_)
        | Refusal::Overtaken
        | Refusal::Cancelled
        | Refusal::Deadline
        | Refusal::NotFound(_)
        | Refusal::Elsewhere(Elsewhere::Unavailable | Elsewhere::Full, _) => false,
    }
}

const NOBODY_ADMITS: &str = "no member that leads the group was found: is a majority of it up, and \
                             are the addresses right?";
const TOO_FEW_STAY: &str = "too few of the group's other members are up: without this node they \
                            would be no majority; start them, then leave";
const NOBODY_DECIDES: &str = "no node that leads the group was found in time: is a majority of its \
                              members up?";
const NOT_TAKEN_OVER: &str = "that node did not take over in time: is it up, and has it nearly all \
                              of the log?";
const NOT_REMOVED: &str = "the group's leader did not let that node go in time: too few of the \
                           voters who stay are up, and without it they would be no majority";
const NOBODY_LETS_GO: &str = "the group has no leader, so nobody can let this node go: start its \
                              other members until a majority is up, then leave";
