//! The settlement of one partition: the order of things within a turn, in one place.
//!
//! ```text
//!  who leads? → propose → ask reads → raft's readies → apply → answer reads → snapshots → announce
//! ```
//!
//! Entries go to the log in memory and to the records in the order in which raft gives them;
//! messages that promise something wait for the turn that records it, and so does whatever comes
//! after them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use raft::{
    Ready,
    eraftpb::{Entry, EntryType, Message, MessageType},
};

use super::{
    Fresh, HALTED, NOT_LEADER, Partition, Proposed, Rules, Waiting,
    capture::Installation,
    effects::{Departure, Effects, Origin, Record, SnapshotFacts},
    member::{Member, Next, Standing, Step, hand_over},
    reply::{Event, Happening, Refusal},
    witness::Deferred,
};
use crate::{
    id::{NodeId, Position, Term, Ticket},
    limits::{APPLY_TURN_BYTES_MAX, TIMERS_TURN_MAX, WRITES_IN_FLIGHT_MAX},
    time::{Instant, Now, Span},
};

/// When a tick entry that raft did not take is tried again.
const TICK_RETRY: Span = Span::millis(10);

/// Longer lists of callers are not kept for their room: 16 KiB of tickets, four times a partition.
const SPARE_CALLERS_MAX: usize = 1024;

impl Partition {
    /// Says what all facts of this turn come to. The result is when it wants a turn even if nothing
    /// happens.
    pub fn settle(&mut self, now: Now, rules: &Rules, effects: &mut Effects) -> Option<Instant> {
        if self.halted {
            self.waiting.clear();
            return None;
        }
        if let Some(lost) = self.lost {
            // This replica promised what it no longer has: taking part again could undo what others
            // rely on.
            tracing::error!(
                partition = self.id.0,
                acknowledged = lost.acknowledged.0,
                last = lost.last.0,
                "the log here lost what it acknowledged; this replica stops"
            );
            self.halt(now, effects);
            return None;
        }
        self.hang_up();
        self.check_leadership(now, rules, effects);
        self.propose_fresh(now, effects);
        self.change_members(now, effects);
        self.reads.expire(now.monotonic, &mut effects.replies);
        if self.replica.is_leader() {
            self.reads.ask(&mut self.replica, now.monotonic.after(rules.patience.round));
        }
        self.drain(now, effects);
        let works = self
            .apply(now, effects)
            .and_then(|()| self.answer_reads(effects))
            .and_then(|()| self.capture(rules, effects));
        if let Err(Panicked) = works {
            self.halt(now, effects);
            return None;
        }
        self.finish_snapshots(now, rules, effects);
        self.announce(now, effects);
        self.look_at_rest();
        self.next_wake(now)
    }

    /// A panic in here stops this replica, and nothing else.
    fn halt(&mut self, now: Now, effects: &mut Effects) {
        self.halted = true;
        self.hungry = false;
        self.look_at_rest();
        if effects.snapshot_of == Some(self.id) {
            effects.snapshot_of = None;
        }
        // What was not said yet stays unsaid: the records may rest on a state that is wrong.
        effects.records.retain(|(partition, _)| *partition != self.id);
        effects.messages.retain(|(partition, _)| *partition != self.id);
        effects.snapshots.retain(|departure| departure.partition != self.id);
        self.wishes.refuse(&Refusal::Unavailable(HALTED), &mut effects.replies);
        self.refuse_all(&Refusal::Unavailable(HALTED), &mut effects.replies);
        self.waiting.clear();
        self.released.clear();
        self.committed.clear();
        let what = Happening::LeaderUpdated { term: self.announced.0, leader: None };
        self.tell(now, what, effects);
    }

    fn hang_up(&mut self) {
        if self.gone.is_empty() {
            return;
        }
        let gone = std::mem::take(&mut self.gone);
        let fresh = self.fresh.iter_mut().map(|fresh| &mut fresh.tickets);
        for tickets in self.proposed.iter_mut().map(|proposed| &mut proposed.tickets).chain(fresh) {
            for ticket in tickets.iter_mut() {
                if ticket.is_some_and(|ticket| gone.contains(&ticket)) {
                    *ticket = None;
                }
            }
        }
        self.reads.gone(&gone);
        self.wishes.gone(&gone);
        for ticket in gone {
            self.machine.gone(ticket);
        }
    }

    /// Starts the clock of a new term, and lets go of the callers of one that is over.
    fn check_leadership(&mut self, now: Now, rules: &Rules, effects: &mut Effects) {
        let leads = self.replica.is_leader().then(|| self.replica.term());
        assert!(leads.is_none() || !self.witness, "a witness leads partition {}", self.id);
        if self.clock.is_some_and(|clock| Some(clock.term()) != leads) {
            self.clock = None;
            self.greet = false;
            self.deferred = Deferred::default();
            self.refuse_all(&Refusal::Unavailable(NOT_LEADER), &mut effects.replies);
        }
        match leads {
            Some(_) => self.start_clock(now, rules),
            None => {
                let (leader, refusal) = (self.replica.leader(), Refusal::Unavailable(NOT_LEADER));
                let replies = &mut effects.replies;
                self.wishes.lead_no_more(leader, now.monotonic, &refusal, replies);
            }
        }
    }

    /// All commands of the turn become one entry; without any, one with only a stamp when a term
    /// began or a deadline of the state has passed.
    fn propose_fresh(&mut self, now: Now, effects: &mut Effects) {
        let Some(clock) = self.clock else {
            assert!(self.fresh.is_none(), "commands were taken without leading");
            return;
        };
        // With an entry under way the state's next deadline is known when that is applied.
        let idle = self.proposed.is_empty();
        let due = idle && self.machine.next_timer().is_some_and(|timer| timer <= clock.read(now));
        let ticks = self.greet || due;
        if self.fresh.is_none() && ticks {
            self.entry.stamp(clock.read(now));
            self.fresh = Some(self.fresh());
        }
        self.propose_entry();
        for ticket in self.unproposed.drain(..) {
            let refusal = Refusal::Unavailable("the leader takes no commands now");
            effects.replies.refuse(ticket, refusal);
        }
    }

    /// An entry's callers to be, in room that earlier ones had.
    pub(super) fn fresh(&mut self) -> Fresh {
        Fresh { tickets: self.spare.pop().unwrap_or_default(), bytes: 0 }
    }

    /// Proposes what was gathered, if anything.
    pub(super) fn propose_entry(&mut self) {
        let Some(Fresh { tickets, bytes }) = self.fresh.take() else { return };
        match self.replica.propose(self.entry.finish()) {
            Ok(position) => {
                (self.greet, self.refused) = (false, false);
                let term = self.replica.term();
                self.proposed.push_back(Proposed { position, term, tickets, bytes });
            }
            Err(_) => {
                // Leadership is being handed over, or a quorum is missing for long.
                self.refused = true;
                self.load.commands -= tickets.len();
                self.load.bytes -= bytes;
                self.unproposed.extend(tickets.into_iter().flatten());
            }
        }
    }

    /// As the leader: answers those whose wish came true, and takes the next step for the others.
    fn change_members(&mut self, now: Now, effects: &mut Effects) {
        if !self.replica.is_leader() || !self.replica.has_committed_in_term() {
            return;
        }
        let (conf, members) = (self.replica.log().members(), &self.members);
        let (me, changing) = (self.replica.node(), self.replica.is_changing());
        let standing = Standing { conf, members, me, changing };
        self.wishes.answer(&standing, now.monotonic, &mut effects.replies);
        if changing || self.replica.is_handing_over() {
            return;
        }
        let caught_up = |node| self.replica.has_caught_up(node);
        match self.wishes.next(&standing, caught_up, |id| self.replica.hears(id)) {
            // When raft does not take it now, the next settlement tries again.
            Some(Next::Propose(step)) => drop(self.replica.propose_change(&step)),
            Some(Next::HandOver(Some(to))) => self.replica.transfer(u64::from(to.0)),
            Some(Next::HandOver(None)) => hand_over(&mut self.replica),
            None => {}
        }
    }

    fn drain(&mut self, now: Now, effects: &mut Effects) {
        for message in std::mem::take(&mut self.released) {
            self.send(message, now, effects);
        }
        for message in self.take_deferred() {
            effects.messages.push((self.id, message));
        }
        self.read_arrival(effects);
        while let Some(ready) = self.replica.ready() {
            self.take_ready(ready, now, effects);
        }
        self.capturing.drop_offer();
    }

    /// Goes on with a snapshot that comes; when it is whole, raft sees it.
    fn read_arrival(&mut self, effects: &mut Effects) {
        let Some(message) = self.capturing.read(self.id, effects) else { return };
        let index = message.get_snapshot().get_metadata().index;
        if index <= self.replica.committed().0 || message.term < self.replica.term().0 {
            // The log went on meanwhile: what is offered would be taken for what it is not.
            self.capturing.drop_offer();
        }
        if let Err(lost) = self.replica.receive(message) {
            self.lost = Some(lost);
        }
    }

    fn take_ready(&mut self, mut ready: Ready, now: Now, effects: &mut Effects) {
        let number = ready.number();
        for state in ready.take_read_states() {
            let at = Position(state.index);
            self.reads.confirmed(&state.request_ctx, self.replica.term(), at);
        }
        let hard = ready.hs().cloned();
        let term = hard.as_ref().unwrap_or(self.replica.log().hard()).term;
        let mut held = Vec::new();
        for message in ready.take_messages() {
            // raft thinks that who leads has its term on disk. Who is the only voter leads at once:
            // were it to forget the term, it would fill it a second time with other entries.
            if term == self.term_durable.0 {
                self.send(message, now, effects);
            } else {
                held.push(message);
            }
        }
        self.committed.extend(ready.take_committed_entries());
        held.extend(ready.take_persisted_messages());
        if let Some(hard) = &hard {
            self.replica.log_mut().set_hard(hard.clone());
        }
        if !ready.snapshot().is_empty() {
            assert!(ready.entries().is_empty(), "nothing is appended while a snapshot is offered");
            self.install(Installation { hard }, now, effects);
            self.replica.advance(ready);
            self.hold(effects.turn, number, held);
            return;
        }
        let entries = ready.take_entries();
        if !entries.is_empty() {
            self.replica.log_mut().append(&entries);
            effects.records.push((self.id, Record::Entries(entries)));
        }
        let syncs = ready.must_sync();
        if let Some(hard) = hard.filter(|_| syncs) {
            // A commit alone is not worth a write: it is found again from the others, or alone from
            // the log.
            effects.records.push((self.id, Record::State(hard)));
        }
        self.replica.advance(ready);
        if syncs {
            self.hold(effects.turn, number, held);
        } else if let Some(last) = self.waiting.back_mut() {
            // It promises nothing new, but may not overtake what does.
            last.number = number;
            last.messages.extend(held);
        } else {
            self.replica.persisted(number);
            for message in held {
                self.send(message, now, effects);
            }
        }
    }

    fn hold(&mut self, turn: u64, number: u64, messages: Vec<Message>) {
        let term = Term(self.replica.log().hard().term);
        match self.waiting.back_mut().filter(|last| last.turn == turn) {
            Some(last) => {
                (last.number, last.term) = (number, term);
                last.messages.extend(messages);
            }
            None => self.waiting.push_back(Waiting { turn, number, term, messages }),
        }
    }

    fn install(&mut self, installation: Installation, now: Now, effects: &mut Effects) {
        let (facts, machine) = self.capturing.install(self.id, installation, effects);
        assert!(facts.position > self.applied, "a snapshot never goes back");
        self.committed.clear();
        self.machine.detach(Refusal::Unavailable(NOT_LEADER), &mut effects.replies);
        self.machine = machine;
        self.applied = facts.position;
        self.replica.log_mut().install(facts.position, facts.term, facts.conf);
        let all: Vec<NodeId> = facts.members.iter().map(|member| member.node).collect();
        let new = facts.members.iter().filter(|member| !self.members.contains(member));
        let gone = self.members.iter().filter(|member| !all.contains(&member.node));
        for about in new.chain(gone).map(|member| member.node) {
            let members = all.clone();
            self.tell(now, Happening::MembershipChanged { about, members }, effects);
        }
        self.now_members(facts.members, effects);
    }

    fn send(&mut self, message: Message, now: Now, effects: &mut Effects) {
        let leads = [MessageType::MsgAppend, MessageType::MsgHeartbeat, MessageType::MsgSnapshot];
        let promised = message.term <= self.term_durable.0;
        assert!(
            promised || !leads.contains(&message.get_msg_type()),
            "it leads in no durable term"
        );
        if message.get_msg_type() != MessageType::MsgSnapshot {
            let message = self.or_defer(message);
            effects.messages.extend(message.map(|message| (self.id, message)));
            return;
        }
        let to = NodeId(u32::try_from(message.to).expect("members are nodes"));
        let index = Position(message.get_snapshot().get_metadata().index);
        let stateless = self.replica.log().is_witness(message.to);
        if self.capturing.is_taking() && !stateless {
            // raft had it before the newer one was begun, and the disk kept it back.
            return self.capturing.miss(to);
        }
        self.capturing.sending(to, index);
        let places = self.capturing.places_of(index).filter(|_| !stateless).unwrap_or_default();
        let (partition, members) = (self.id, self.members.clone());
        effects.snapshots.push(Departure { partition, message, members, places });
        self.tell(now, Happening::SendSnapshotStarted { index, to }, effects);
    }

    /// Applies what is committed, as far as one turn goes.
    fn apply(&mut self, now: Now, effects: &mut Effects) -> Result<(), Panicked> {
        let (mut bytes, mut timers) = (0, 0);
        while bytes < APPLY_TURN_BYTES_MAX && timers < TIMERS_TURN_MAX {
            let Some(entry) = self.committed.front() else { break };
            if changes_members(entry) && !self.is_commit_durable(entry.index, effects) {
                break;
            }
            let Some(entry) = self.committed.pop_front() else { break };
            bytes += entry.data.len();
            if changes_members(&entry) {
                self.apply_change(&entry, now, effects);
            } else {
                timers += self.apply_entry(&entry, effects)?;
            }
        }
        self.tell_applied();
        Ok(())
    }

    /// Tells raft how far this replica has applied: of a snapshot's entries, once that is durable.
    pub(super) fn tell_applied(&mut self) {
        if !self.capturing.is_undurable() && self.applied > self.replica.told_applied() {
            self.replica.applied(self.applied);
            if self.is_alone() {
                // Nobody will ask for them: who joins later gets a snapshot. The disk keeps them.
                self.replica.log_mut().compact(self.applied);
            }
        }
    }

    /// Whether the disk knows that the log is committed up to `position`; if not, it is told.
    ///
    /// A change of members is applied only then: a replica that forgot it over a crash could be
    /// elected by the members before it, while those after it elect another in the same term.
    fn is_commit_durable(&mut self, position: u64, effects: &mut Effects) -> bool {
        if self.commit_durable.0 >= position {
            return true;
        }
        if self.committing.is_none_or(|(_, commit)| commit.0 < position) {
            let mut hard = self.replica.log().hard().clone();
            hard.commit = hard.commit.max(position);
            self.committing = Some((effects.turn, Position(hard.commit)));
            effects.records.push((self.id, Record::State(hard)));
        }
        false
    }

    fn apply_change(&mut self, entry: &Entry, now: Now, effects: &mut Effects) {
        let (position, term) = (Position(entry.index), Term(entry.term));
        assert_eq!(position, self.applied.next(), "entries are applied in their order");
        let callers = self.callers_of(position, term, effects);
        assert!(callers.is_empty(), "nobody waits for the entry of a change");
        // One on the shelf, with the members before it, is no use to those who come.
        self.replica.log_mut().clear_shelf();
        let changed =
            step_of(entry).and_then(|step| Some((self.replica.apply_change(&step)?, step)));
        // Whether it fits is the same on every replica.
        match changed {
            None => {
                tracing::error!(partition = self.id.0, %position, "a change of members is void")
            }
            Some((conf, step)) => {
                self.replica.log_mut().set_members(conf, position);
                self.tell_changes(&step, now, effects);
                self.now_members(step.members, effects);
            }
        }
        self.capturing.applied(entry.data.len());
        self.applied = position;
        if self.replica.is_single_voter() && !self.replica.is_leader() {
            // Nobody else is left to wait for. Raft must know first that nothing is pending.
            if !self.capturing.is_undurable() {
                self.replica.applied(position);
            }
            self.replica.campaign();
        }
    }

    /// These belong to the group now.
    fn now_members(&mut self, members: Vec<Member>, effects: &mut Effects) {
        let before = std::mem::replace(&mut self.members, members);
        self.know_witnesses();
        let stays = |member: &Member| self.members.iter().any(|now| now.node == member.node);
        let gone = before.into_iter().filter(|member| !stays(member)).collect();
        effects.changed.push((self.id, gone));
        self.removed = self.is_outside();
    }

    /// Watchers hear of each member that came, went or changed.
    fn tell_changes(&self, step: &Step, now: Now, effects: &mut Effects) {
        let all: Vec<NodeId> = step.members.iter().map(|member| member.node).collect();
        let gone = self.members.iter().map(|member| member.node);
        let gone = gone.filter(|node| !all.contains(node));
        for about in step.placed().chain(gone) {
            let members = all.clone();
            self.tell(now, Happening::MembershipChanged { about, members }, effects);
        }
    }

    /// Returns what the timers that it ran came to.
    fn apply_entry(&mut self, entry: &Entry, effects: &mut Effects) -> Result<usize, Panicked> {
        let (position, term) = (Position(entry.index), Term(entry.term));
        assert_eq!(position, self.applied.next(), "entries are applied in their order");
        assert_eq!(entry.get_entry_type(), EntryType::EntryNormal, "no other kind is proposed");
        let mut callers = self.callers_of(position, term, effects);
        let mut timers = 0;
        if !entry.data.is_empty() && !self.witness {
            let (machine, replies) = (&mut self.machine, &mut effects.replies);
            let said = replies.list.len();
            #[cfg(test)]
            let poison = self.poison;
            let works = guarded(|| {
                timers = machine.apply(position, term, &entry.data, &callers, replies);
                #[cfg(test)]
                assert_ne!(poison, Some(position), "poisoned");
            });
            if works.is_err() {
                replies.list.truncate(said);
                for ticket in callers.iter().flatten() {
                    replies.refuse(*ticket, Refusal::Unavailable(HALTED));
                }
                return Err(Panicked);
            }
        }
        self.capturing.applied(entry.data.len());
        self.applied = position;
        callers.clear();
        let keeps = (1..=SPARE_CALLERS_MAX).contains(&callers.capacity());
        if keeps && self.spare.len() < WRITES_IN_FLIGHT_MAX {
            self.spare.push(callers);
        }
        Ok(timers)
    }

    /// Who waits here for the commands of an entry; nobody when it was proposed elsewhere.
    fn callers_of(
        &mut self,
        position: Position,
        term: Term,
        effects: &mut Effects,
    ) -> Vec<Option<Ticket>> {
        let mut callers = Vec::new();
        while self.proposed.front().is_some_and(|proposed| proposed.position <= position) {
            let proposed = self.proposed.pop_front().expect("there is a first one");
            self.load.commands -= proposed.tickets.len();
            self.load.bytes -= proposed.bytes;
            if proposed.position == position && proposed.term == term {
                callers = proposed.tickets;
            } else {
                // Another leader's entry took the place of theirs.
                for ticket in proposed.tickets.into_iter().flatten() {
                    effects.replies.refuse(ticket, Refusal::Unavailable(NOT_LEADER));
                }
            }
        }
        callers
    }

    fn answer_reads(&mut self, effects: &mut Effects) -> Result<(), Panicked> {
        let (machine, replies) = (&mut self.machine, &mut effects.replies);
        let index = machine.index();
        let mut works = Ok(());
        self.reads.run(self.applied, index, |ticket, body| {
            let said = replies.list.len();
            if works.is_ok() {
                works = guarded(|| machine.query(ticket, body, replies));
            }
            if works.is_err() {
                replies.list.truncate(said);
                replies.refuse(ticket, Refusal::Unavailable(HALTED));
            }
        });
        works?;
        guarded(|| machine.more(replies))
    }

    fn capture(&mut self, rules: &Rules, effects: &mut Effects) -> Result<(), Panicked> {
        let asked = self.replica.log().snapshot_wanted()
            && self.capturing.is_idle()
            && !self.capturing.is_sending()
            && self.applied > Position(0);
        self.hungry = asked || self.capturing.is_due(self.applied, self.machine.bytes(), rules);
        if self.hungry && effects.snapshot_of.is_none() && effects.snapshot_budget_bytes > 0 {
            let facts = SnapshotFacts {
                position: self.applied,
                term: self.replica.log().term_at(self.applied).expect("applied entries are here"),
                index: self.machine.index(),
                // Known when the last slice is written.
                digest: 0,
                conf: self.replica.log().members().clone(),
                members: self.members.clone(),
                origin: Origin::Taken,
            };
            self.replica.log_mut().renew_shelf(true);
            self.capturing.take(facts, (!self.witness).then(|| self.machine.freeze()));
            effects.snapshot_of = Some(self.id);
        }
        let (capturing, machine) = (&mut self.capturing, &mut self.machine);
        guarded(|| {
            if let Some(copy) = capturing.step(self.id, effects) {
                machine.let_go(copy);
            }
        })?;
        self.hungry &= self.capturing.is_idle();
        self.hungry |= self.capturing.is_busy();
        Ok(())
    }

    fn finish_snapshots(&mut self, now: Now, rules: &Rules, effects: &mut Effects) {
        if let Some((facts, from)) = self.capturing.finished() {
            let index = facts.position;
            match from {
                Some(from) => {
                    self.tell(now, Happening::SnapshotReceived { index, from }, effects);
                    self.tell(now, Happening::SnapshotRecovered { index }, effects);
                    self.tell(now, Happening::SnapshotCompacted { index }, effects);
                }
                None => self.compact(&facts, now, rules, effects),
            }
        }
        let ended: Vec<_> = self.capturing.ended().collect();
        for (to, index, arrived) in ended {
            let what = if arrived {
                Happening::SendSnapshotCompleted { index, to }
            } else {
                Happening::SendSnapshotAborted { index, to }
            };
            self.tell(now, what, effects);
        }
        while let Some(to) = self.capturing.failed() {
            self.replica.snapshot_sent(to, false);
        }
    }

    /// Drops the entries that a durable snapshot holds, but for those kept for followers.
    fn compact(&mut self, facts: &SnapshotFacts, now: Now, rules: &Rules, effects: &mut Effects) {
        let alone = self.is_alone();
        let retain = if alone || self.witness { 0 } else { rules.retain_entries };
        let to = Position(facts.position.0.saturating_sub(retain));
        let log = self.replica.log_mut();
        // Who is alone keeps nothing in memory; what the disk may forget is told all the same.
        let compacts = alone || to > log.base();
        if to > log.base() {
            log.compact(to);
        }
        let index = facts.position;
        self.tell(now, Happening::SnapshotCompacted { index }, effects);
        self.tell(now, Happening::SnapshotCreated { index }, effects);
        if compacts {
            self.tell(now, Happening::LogCompacted { index: to }, effects);
            self.tell(now, Happening::JournalCompacted { index: to }, effects);
        }
    }

    fn announce(&mut self, now: Now, effects: &mut Effects) {
        let (term, leader) = (self.replica.term(), self.replica.leader());
        if (term, leader) != self.announced {
            self.announced = (term, leader);
            self.tell(now, Happening::LeaderUpdated { term, leader }, effects);
        }
    }

    fn tell(&self, now: Now, what: Happening, effects: &mut Effects) {
        let event = Event { at: Some(now.wall.0), partition: self.id, local: self.node(), what };
        effects.events.push(event);
    }

    fn next_wake(&self, now: Now) -> Option<Instant> {
        let applies = !self.committed.is_empty() && self.committing.is_none();
        if applies || self.machine.has_more() {
            return Some(now.monotonic);
        }
        let idle = self.proposed.is_empty();
        let timer = self.clock.filter(|_| idle).and_then(|clock| {
            let due = clock.instant_of(self.machine.next_timer()?);
            Some(if self.refused { due.max(now.monotonic.after(TICK_RETRY)) } else { due })
        });
        // What raft did not take, and what waits for a learner, is looked at again.
        let wishes = (!self.wishes.is_empty()).then(|| now.monotonic.after(TICK_RETRY));
        timer.into_iter().chain(self.reads.earliest()).chain(wishes).min()
    }
}

fn changes_members(entry: &Entry) -> bool {
    entry.get_entry_type() != EntryType::EntryNormal
}

/// What an entry changes about the members, if it does.
pub(super) fn step_of(entry: &Entry) -> Option<Step> {
    if changes_members(entry) { Step::decode(&entry.data) } else { None }
}

/// The state machine panicked; what it did so far counts for nothing.
struct Panicked;

fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| Panicked)
}
