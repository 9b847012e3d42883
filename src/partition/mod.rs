//! One replicated group, pure: facts in, one settlement out.
//!
//! ```text
//!  propose query receive durable … ─► Partition ─► settle ─► Effects: records, messages, replies
//!                                         │
//!                   Replica (raft) ─ committed entries ─► Machine (state)
//! ```
//!
//! A partition touched in a turn settles exactly once, after its last fact; it says nothing before,
//! but for refusing what it does not take. What depends on the disk stays in here until `durable`
//! names the turn that recorded it. A command is applied only when it is committed, and answered
//! only when it is applied.
//!
//! A panic of the state machine halts this partition on this node: its callers are told to go on
//! elsewhere, it says nothing any more, and the others do not notice (design.md, decision 7).
//!
//! Read next: `settle.rs`, `replica.rs` for raft's rules, `machine.rs` for what an entry does.
//! Absent on purpose: the journal and every byte format.

mod belong;
pub mod capture;
pub mod clock;
mod command;
mod describe;
pub mod effects;
pub mod entry;
pub mod finished;
pub mod kept;
#[cfg(test)]
mod large;
pub mod ledger;
pub mod log;
pub mod machine;
pub mod member;
pub mod primitive;
mod query;
pub mod read;
pub mod replica;
pub mod reply;
pub mod rest;
#[cfg(test)]
mod rig;
pub mod schedule;
pub mod session;
mod settle;
pub mod shared;
pub mod snapshot;
pub mod sorted;
pub mod watch;
pub mod witness;

use std::{
    collections::{BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, HardState, Message, MessageType, Snapshot};

use crate::{
    id::{Index, NodeId, PartitionId, Position, Term, Ticket},
    limits::{
        Bounds, KEEP_ALIVES_IN_FLIGHT_MAX, PARTITION_IN_FLIGHT_BYTES_MAX, PARTITION_TURN_BYTES_MAX,
    },
    partition::{
        capture::{Arrival, Capturing, Coming},
        clock::Clock,
        effects::SnapshotFacts,
        entry::{DEADLINE_BYTES_MAX, EntryBuilder},
        log::Log,
        machine::Machine,
        member::{Group, Member, Wishes},
        read::{Patience, Reads},
        replica::{Pace, Replica},
        reply::{Refusal, Replies},
        rest::Rest,
        snapshot::Reading,
        witness::Deferred,
    },
    time::{Instant, Now, Span},
};

/// What is the same for all partitions of a shard.
#[derive(Clone, Debug)]
pub struct Rules {
    /// raft's clock.
    pub pace: Pace,
    /// The state machine's bounds.
    pub bounds: Bounds,
    /// How far past the newest stamp a new term's clock may start.
    pub log_jump: Span,
    /// How long reads wait.
    pub patience: Patience,
    /// Queries of one partition that may wait.
    pub queries_max: usize,
    /// Commands of one partition that may be in flight.
    pub commands_max: usize,
    /// Entries applied between snapshots.
    pub snapshot_entries: u64,
    /// Bytes applied between snapshots.
    pub snapshot_bytes: usize,
    /// Entries kept for followers when the log is compacted.
    pub retain_entries: u64,
}

/// What a partition had on disk.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Term, vote and commit.
    pub hard: HardState,
    /// The newest whole snapshot and its state, in slices.
    pub snapshot: Option<(SnapshotFacts, Vec<Bytes>)>,
    /// The log's entries; the first one joins the snapshot or lies before its end.
    pub entries: Vec<Entry>,
}

/// Why a partition does not start from what the disk holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// The snapshot cannot be read back, or is not of the state it names.
    Snapshot(Position),
    /// The entries do not join the snapshot.
    Gap {
        /// Where the snapshot ends.
        snapshot: Position,
        /// The first entry's position.
        first: Position,
    },
}

/// One group's replica here.
#[derive(Debug)]
pub struct Partition {
    id: PartitionId,
    replica: Replica,
    machine: Machine,
    /// It holds no state: the machine stays as it began.
    witness: bool,
    deferred: Deferred,
    halted: bool,
    /// This turn's entry, and who waits for its commands.
    entry: EntryBuilder,
    fresh: Option<Fresh>,
    /// Callers whose entry raft did not take, until they are told.
    unproposed: Vec<Ticket>,
    /// Callers who hung up since the last settlement.
    gone: BTreeSet<Ticket>,
    /// Proposed here and not applied, in the order of their positions.
    proposed: VecDeque<Proposed>,
    /// Room for the lists of callers in it, as many as the disk has turns at once.
    spare: Vec<Vec<Option<Ticket>>>,
    load: Load,
    /// Committed and not applied.
    committed: VecDeque<Entry>,
    applied: Position,
    reads: Reads,
    /// While this replica leads.
    clock: Option<Clock>,
    /// A stamped entry is due because a term began.
    greet: bool,
    /// raft did not take the last proposal.
    refused: bool,
    /// Recorded and not known to be durable, oldest first.
    waiting: VecDeque<Waiting>,
    /// Messages whose records have become durable.
    released: Vec<Message>,
    capturing: Capturing,
    /// A snapshot goes on, or begins, when a turn has bytes for it.
    hungry: bool,
    /// What was last told to watchers.
    announced: (Term, Option<NodeId>),
    lost: Option<replica::LogLost>,
    /// Everyone who belongs to the group, as applied.
    members: Vec<Member>,
    wishes: Wishes,
    /// Up to where the disk knows the log to be committed, and up to where it will once the records
    /// of a turn are durable.
    commit_durable: Position,
    /// The newest term of which the disk knows.
    term_durable: Term,
    committing: Option<(u64, Position)>,
    /// This replica belongs to the group no more.
    removed: bool,
    rest: Rest,
    /// Where the state machine panics, for tests of what follows.
    #[cfg(test)]
    poison: Option<Position>,
}

/// The commands of one turn.
#[derive(Debug)]
struct Fresh {
    tickets: Vec<Option<Ticket>>,
    bytes: usize,
}

/// One entry proposed here, and who waits for its commands.
#[derive(Debug)]
struct Proposed {
    position: Position,
    term: Term,
    tickets: Vec<Option<Ticket>>,
    bytes: usize,
}

/// What depends on the records of one turn.
#[derive(Debug)]
struct Waiting {
    turn: u64,
    number: u64,
    term: Term,
    messages: Vec<Message>,
}

/// Commands that are taken and not applied.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Load {
    /// How many.
    pub commands: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// Whether a command may use the room that is kept for keep-alives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// It may not.
    Ordinary,
    /// It may: without it a session dies.
    Urgent,
}

impl Lane {
    /// Commands in flight beyond the bound.
    #[must_use]
    pub const fn reserve(self) -> usize {
        match self {
            Lane::Ordinary => 0,
            Lane::Urgent => KEEP_ALIVES_IN_FLIGHT_MAX,
        }
    }
}

/// What is counted for a command beside its body: its length in the entry.
const COMMAND_OVERHEAD_BYTES: usize = 5;

const HALTED: &str = "this partition is halted on this node";
const NOT_LEADER: &str = "not the leader";
const REMOVED: &str = "this node was removed from the group";

impl Partition {
    /// The replica of a group that is founded now, or joined. The first voter is to lead it
    /// first. A single one campaigns at once: there is nobody to wait for.
    #[must_use]
    pub fn found(group: &Group, rules: &Rules) -> Partition {
        let machine = Machine::new(group.partition, rules.bounds.clone());
        let log = Log::new(group.conf_state());
        let mut partition = Partition::start(group, rules, log, machine, group.members.clone());
        let first = group.members.iter().find(|member| member.role == member::Role::Member);
        if !group.joins && first.is_some_and(|first| first.node == group.local) {
            partition.replica.lead_first();
        }
        partition
    }

    /// The replica as the disk has it, up to its snapshot; the committed entries after it are
    /// applied in the first settlements. Everything it held before a crash is there again:
    /// sessions, kept outputs, log time.
    pub fn recover(group: &Group, rules: &Rules, disk: Recovered) -> Result<Partition, Unfit> {
        let (mut machine, mut base, mut base_term) =
            (Machine::new(group.partition, rules.bounds.clone()), Position(0), Term(0));
        let (mut conf, mut members) = (group.conf_state(), group.members.clone());
        if let Some((facts, state)) = disk.snapshot {
            if !witness::is_among(&group.members, group.local) {
                machine = restore(group.partition, rules.bounds.clone(), &facts, &state)
                    .ok_or(Unfit::Snapshot(facts.position))?;
            }
            (base, base_term) = (facts.position, facts.term);
            (conf, members) = (facts.conf, facts.members);
        }
        // Entries before the snapshot's end are kept on disk for followers.
        let mut entries = disk.entries;
        if let Some(first) = entries.first().map(|entry| Position(entry.index)) {
            if first.0 > base.0 + 1 {
                return Err(Unfit::Gap { snapshot: base, first });
            }
            let inside = entries.iter().take_while(|entry| entry.index <= base.0).count();
            entries.drain(..inside);
        }
        let log = Log::recovered(conf, base, base_term, entries, disk.hard);
        Ok(Partition::start(group, rules, log, machine, members))
    }

    fn start(
        group: &Group,
        rules: &Rules,
        log: Log,
        machine: Machine,
        members: Vec<Member>,
    ) -> Partition {
        let id = group.partition;
        let (applied, commit_durable) = (log.base(), Position(log.hard().commit));
        let term_durable = Term(log.hard().term);
        let mut replica = Replica::new(id, group.local, rules.pace, log, applied);
        let witness = witness::is_among(&group.members, group.local);
        if witness {
            replica.never_leads();
        }
        if replica.is_single_voter() {
            replica.campaign();
        }
        let mut partition = Partition {
            id,
            replica,
            machine,
            witness,
            deferred: Deferred::default(),
            halted: false,
            entry: EntryBuilder::new(),
            fresh: None,
            unproposed: Vec::new(),
            gone: BTreeSet::new(),
            proposed: VecDeque::new(),
            spare: Vec::new(),
            load: Load::default(),
            committed: VecDeque::new(),
            applied,
            reads: Reads::default(),
            clock: None,
            greet: false,
            refused: false,
            waiting: VecDeque::new(),
            released: Vec::new(),
            capturing: Capturing::new(applied),
            hungry: false,
            announced: (Term(0), None),
            lost: None,
            members,
            wishes: Wishes::default(),
            commit_durable,
            term_durable,
            committing: None,
            removed: false,
            rest: Rest::default(),
            #[cfg(test)]
            poison: None,
        };
        partition.know_witnesses();
        partition
    }

    /// A command for this turn's entry, as `Ask::Command` says. Its deadline stands in the log in
    /// log time.
    pub fn propose(
        &mut self,
        (ticket, deadline): (Ticket, Option<Instant>),
        body: &[u8],
        lane: Lane,
        now: Now,
        rules: &Rules,
    ) -> Result<(), Refusal> {
        self.must_run()?;
        if !self.replica.is_leader() {
            return Err(Refusal::Unavailable(NOT_LEADER));
        }
        if body.is_empty() {
            return Err(Refusal::Malformed("a command without content".to_owned()));
        }
        let added = deadline.map_or(0, |_| DEADLINE_BYTES_MAX);
        let bytes = body.len() + COMMAND_OVERHEAD_BYTES + added;
        if self.load.bytes + bytes > PARTITION_IN_FLIGHT_BYTES_MAX
            || self.load.commands >= rules.commands_max + lane.reserve()
        {
            return Err(Refusal::Full("too many commands in flight in this partition"));
        }
        if self.fresh.as_ref().is_some_and(|fresh| fresh.bytes + bytes > PARTITION_TURN_BYTES_MAX) {
            // More than one entry holds: the rest of the turn's commands are another.
            self.propose_entry();
        }
        self.start_clock(now, rules);
        let clock = self.clock.expect("a leader has a clock");
        if self.fresh.is_none() {
            self.entry.stamp(clock.read(now));
            self.fresh = Some(self.fresh());
        }
        let fresh = self.fresh.as_mut().expect("it was put there above");
        match deadline {
            Some(deadline) => self.entry.push_until(body, clock.time_at(deadline)),
            None => self.entry.push(body),
        }
        fresh.tickets.push(Some(ticket));
        fresh.bytes += bytes;
        self.load.commands += 1;
        self.load.bytes += bytes;
        Ok(())
    }

    /// A read, as `Ask::Query` says.
    pub fn query(
        &mut self,
        ticket: Ticket,
        deadline: Option<Instant>,
        at_least: Index,
        body: &[u8],
        now: Now,
        rules: &Rules,
    ) -> Result<(), Refusal> {
        self.must_run()?;
        if !self.replica.is_leader() {
            return Err(Refusal::Unavailable(NOT_LEADER));
        }
        if self.reads.waiting() >= rules.queries_max {
            return Err(Refusal::Full("too many queries wait in this partition"));
        }
        let deadline = deadline.unwrap_or(now.monotonic.after(rules.patience.query));
        self.reads.take(ticket, deadline, at_least, body);
        Ok(())
    }

    /// A caller hung up. Its commands go on (core.md 4.10).
    pub fn gone(&mut self, ticket: Ticket) {
        if !self.halted {
            self.gone.insert(ticket);
        }
    }

    /// A message of a peer; snapshots come to `receive_snapshot`.
    pub fn receive(&mut self, message: Message) {
        assert_ne!(message.get_msg_type(), MessageType::MsgSnapshot, "its state is missing");
        // Nor does it stand because somebody wants it to.
        let stands = message.get_msg_type() == MessageType::MsgTimeoutNow;
        if self.halted || stands && self.capturing.is_undurable() {
            return;
        }
        self.stir(&message);
        self.heard_from_leader(&message);
        self.note_heard(message.from);
        if let Err(lost) = self.replica.receive(message) {
            self.lost = Some(lost);
        }
    }

    /// The head of a snapshot of a peer: the message without its state, everyone who belongs to the
    /// group there, by what its slices are known, and whether none follow.
    pub fn receive_snapshot(
        &mut self,
        message: Message,
        members: Vec<Member>,
        tag: u32,
        last: bool,
        rules: &Rules,
    ) {
        assert_eq!(message.get_msg_type(), MessageType::MsgSnapshot, "a snapshot's message");
        if self.halted {
            return;
        }
        self.stir(&message);
        self.heard_from_leader(&message);
        let meta = message.get_snapshot().get_metadata();
        if meta.index <= self.replica.committed().0 || message.term < self.replica.term().0 {
            // Its sender hears how far this replica is.
            if let Err(lost) = self.replica.receive(message) {
                self.lost = Some(lost);
            }
            return;
        }
        let facts = SnapshotFacts {
            position: Position(meta.index),
            term: Term(meta.term),
            // Known when the state is read.
            index: Index(0),
            digest: 0,
            conf: meta.get_conf_state().clone(),
            members,
            origin: effects::Origin::Received,
        };
        let sender = (NodeId(u32::try_from(message.from).unwrap_or(0)), tag);
        let bounds = rules.bounds.clone();
        let coming = if self.witness {
            Coming::Nothing(Box::new(Machine::new(self.id, bounds)))
        } else {
            Coming::State(Box::new(Reading::new(self.id, bounds)))
        };
        self.capturing.arrive(Arrival::new(sender, message, facts, coming, last));
    }

    /// A slice of the snapshot that `from` sends, in order from 1; whether it is the last.
    pub fn receive_slice(&mut self, from: (NodeId, u32), number: u32, bytes: Bytes, last: bool) {
        if !self.halted {
            self.capturing.slice(from, number, bytes, last);
        }
    }

    /// Bytes of a snapshot that came and wait for a turn; `None` when none comes.
    #[must_use]
    pub fn arriving_bytes(&self) -> Option<usize> {
        self.capturing.is_arriving().then(|| self.capturing.waiting_bytes())
    }

    /// What the newest durable snapshot takes on disk, when it was written since the start.
    #[must_use]
    pub fn snapshot_bytes(&self) -> u64 {
        self.capturing.shelf_bytes()
    }

    /// The next slice of the snapshot that was recorded in this turn is there.
    pub fn placed(&mut self, place: effects::Place) {
        self.capturing.placed(place);
    }

    /// Everything recorded up to turn `turn` is durable.
    pub fn durable(&mut self, turn: u64) {
        if self.halted {
            return;
        }
        let mut number = None;
        while self.waiting.front().is_some_and(|waiting| waiting.turn <= turn) {
            let waiting = self.waiting.pop_front().expect("there is a first one");
            number = Some(waiting.number);
            self.term_durable = waiting.term;
            self.released.extend(waiting.messages);
        }
        if let Some(number) = number {
            self.replica.persisted(number);
        }
        if let Some(facts) = self.capturing.durable(turn) {
            let mut snapshot = Snapshot::default();
            let meta = snapshot.mut_metadata();
            (meta.index, meta.term) = (facts.position.0, facts.term.0);
            meta.set_conf_state(facts.conf);
            if self.replica.log().snapshot_wanted() {
                self.capturing.promise();
            }
            self.replica.log_mut().put_on_shelf(snapshot);
        }
        // Before raft's clock goes on, by which it may stand for election.
        self.tell_applied();
        if let Some((_, commit)) = self.committing.filter(|(recorded, _)| *recorded <= turn) {
            self.committing = None;
            self.commit_durable = commit;
        }
    }

    /// One unit of raft's clock.
    pub fn tick(&mut self) {
        if !self.halted {
            // raft cannot stand before it is told that what a snapshot holds is applied: it looks
            // for those entries.
            if !self.capturing.is_undurable() {
                self.replica.tick();
            }
            self.capturing.tick();
            self.age_deferred();
            self.count_calm();
        }
    }

    /// Messages to `peer` were lost.
    pub fn lost(&mut self, peer: NodeId) {
        if !self.halted {
            self.replica.unreachable(peer);
        }
    }

    /// The link by which `peer` was heard has ended.
    pub fn hung_up(&mut self, peer: NodeId) {
        if !self.halted {
            self.replica.hung_up(peer);
            self.note_hung_up(peer);
        }
    }

    /// How the delivery of a snapshot to `peer` ended.
    pub fn snapshot_sent(&mut self, peer: NodeId, arrived: bool) {
        if !self.halted {
            self.replica.snapshot_sent(peer, arrived);
            self.capturing.sent(peer, arrived);
        }
    }

    /// Whether all of its log is applied: before, its state says little of what it will weigh.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.applied >= self.replica.last()
    }

    /// Gives up the snapshot being taken, whose end the disk has no room for. Its slices are void
    /// when the next one begins.
    pub fn abandon_snapshot(&mut self) {
        self.replica.log_mut().renew_shelf(false);
        if let Some(copy) = self.capturing.abandon() {
            self.machine.let_go(copy);
        }
    }

    /// Whether the newest snapshot is on its way to a peer, or waited for by one.
    #[must_use]
    pub fn keeps_snapshot(&self) -> bool {
        self.capturing.is_kept()
    }

    /// A snapshot is to be taken soon, because the oldest segment of the journal waits for it.
    pub fn want_snapshot(&mut self) {
        self.capturing.want();
    }

    /// The last words: leadership is handed over, and whoever waits is refused. Nothing but a
    /// settlement follows.
    pub fn leave(&mut self, replies: &mut Replies) {
        if !self.halted {
            member::hand_over(&mut self.replica);
        }
        let refusal = Refusal::Unavailable("the partition leaves this node");
        self.wishes.refuse(&refusal, replies);
        self.refuse_all(&refusal, replies);
    }

    /// Makes the state machine panic at `position`.
    #[cfg(test)]
    pub fn poison(&mut self, position: Position) {
        self.poison = Some(position);
    }

    /// Which one.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Whose replica it is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.replica.node()
    }

    /// Its term, and who leads in it as far as it knows. Who does not belong to the group by its
    /// own log does not know: it would ask one for ever who has left since.
    #[must_use]
    pub fn leadership(&self) -> (Term, Option<NodeId>) {
        let mute = self.halted || self.removed || self.is_outside();
        if mute { (self.replica.term(), None) } else { self.announced }
    }

    /// Whether this replica leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        !self.halted && self.replica.is_leader()
    }

    /// Whether it needs raft's clock: a group with other members does. A replica that was removed
    /// would only ask for votes that nobody gives it; but one whose own vote may be needed has to
    /// forget a leader that is silent, or it gives none.
    #[must_use]
    pub fn needs_ticks(&self) -> bool {
        !self.halted && !self.may_go()
    }

    /// Whether it was halted by a panic.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.halted
    }

    /// Whether a snapshot waits for a turn that has bytes for it.
    #[must_use]
    pub fn is_hungry(&self) -> bool {
        self.hungry
    }

    /// What it has taken and not applied.
    #[must_use]
    pub fn load(&self) -> Load {
        self.load
    }

    /// Queries that wait.
    #[must_use]
    pub fn queries(&self) -> usize {
        self.reads.waiting()
    }

    /// Memory that its state holds.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.machine.bytes()
    }

    /// Memory that its log holds.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.replica.log().bytes()
    }

    /// The replicated state, for digests and tests.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Where its log begins: after the snapshot that stands for what was before.
    #[must_use]
    pub fn log_base(&self) -> Position {
        self.replica.log().base()
    }

    /// Up to where the log is applied.
    #[must_use]
    pub fn applied(&self) -> Position {
        self.applied
    }

    fn must_run(&self) -> Result<(), Refusal> {
        match (self.halted, self.removed) {
            (true, _) => Err(Refusal::Unavailable(HALTED)),
            (false, true) => Err(Refusal::Unavailable(REMOVED)),
            (false, false) => Ok(()),
        }
    }

    /// Whoever a leader speaks to belongs to the group again.
    fn heard_from_leader(&mut self, message: &Message) {
        use MessageType::{MsgAppend, MsgHeartbeat, MsgSnapshot};
        let leads = [MsgAppend, MsgHeartbeat, MsgSnapshot].contains(&message.get_msg_type());
        if leads && message.term >= self.replica.term().0 {
            self.removed = false;
        }
    }

    /// The clock of the term that this replica leads in, started on first use and held until the
    /// first stamp of the term is applied.
    fn start_clock(&mut self, now: Now, rules: &Rules) {
        let term = self.replica.term();
        if let Some(clock) = &mut self.clock
            && clock.term() == term
        {
            if self.machine.term < term {
                clock.hold(now);
            }
            return;
        }
        let entries = self.replica.log().backwards();
        let entries = entries.filter(|entry| entry.get_entry_type() == EntryType::EntryNormal);
        let stamped = entries.flat_map(|entry| entry::commands(&entry.data).next()?.stamp).next();
        let last = stamped.unwrap_or_default().max(self.machine.time());
        self.clock = Some(Clock::start(term, last, now, rules.log_jump));
        self.greet = true;
    }

    /// Refuses everyone who waits here for a command or a query. Their commands may still be
    /// applied, here or elsewhere: a command sent again with the same number counts once.
    fn refuse_all(&mut self, refusal: &Refusal, replies: &mut Replies) {
        let fresh = self.fresh.take().map(|fresh| fresh.tickets).unwrap_or_default();
        self.entry = EntryBuilder::new();
        let proposed = self.proposed.drain(..).flat_map(|proposed| proposed.tickets);
        let unproposed = self.unproposed.drain(..).map(Some);
        for ticket in proposed.chain(fresh).chain(unproposed).flatten() {
            replies.refuse(ticket, refusal.clone());
        }
        self.load = Load::default();
        self.reads.refuse(refusal, replies);
        // A machine that has panicked may do so again.
        let written = replies.list.len();
        let machine = &mut self.machine;
        let detached = catch_unwind(AssertUnwindSafe(|| machine.detach(refusal.clone(), replies)));
        if detached.is_err() {
            replies.list.truncate(written);
        }
    }
}

/// The state of a snapshot, when it is what the facts say.
fn restore(
    partition: PartitionId,
    bounds: Bounds,
    facts: &SnapshotFacts,
    state: &[Bytes],
) -> Option<Machine> {
    let restored = catch_unwind(AssertUnwindSafe(|| {
        let mut reading = Reading::new(partition, bounds);
        state.iter().try_for_each(|slice| reading.take(slice))?;
        reading.finish()
    }));
    let (machine, _) = restored.ok()?.ok()?;
    // Its digest was checked on the way.
    (machine.index() == facts.index).then_some(machine)
}

#[cfg(test)]
mod tests;
