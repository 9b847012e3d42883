//! Drives raft-rs and hides its ordering rules.
//!
//! Every option of raft is stated with its reason, and the election timeout is a pure function of
//! seed, partition, replica, term, role and attempts: raft-rs draws it from the thread's random
//! numbers at every reset, so it is pinned again after every call that may reset it, without
//! looking whether it did (one draw in ten gives the same number). Between `ready` and `advance`
//! nothing else may be called; `Partition` calls them from one place. Absent on purpose: what
//! entries mean, durability, and every panic that a peer could cause with a message: those are
//! refused in `receive` (raft-rs ends the process for some of them).

use bytes::Bytes;
use raft::{
    Config, RawNode, Ready, SnapshotStatus, StateRole,
    eraftpb::{ConfState, Entry, EntryType, Message, MessageType},
};

use crate::{
    id::{NodeId, PartitionId, Position, Term},
    limits::{
        APPLY_TURN_BYTES_MAX, LEARNER_BEHIND_MAX, RAFT_MESSAGE_BYTES_MAX,
        RAFT_MESSAGES_IN_FLIGHT_MAX, RAFT_UNCOMMITTED_BYTES_MAX,
    },
    partition::{log::Log, member::Step},
    prng::mix,
};

/// What raft needs to know beside the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Draws the election timeouts.
    pub seed: u64,
    /// Ticks without a leader before an election: between this and twice this.
    pub election_ticks: usize,
    /// Ticks between a leader's heartbeats; well below `election_ticks`.
    pub heartbeat_ticks: usize,
}

/// This node's voice in one group.
pub struct Replica {
    node: RawNode<Log>,
    me: u64,
    pace: Pace,
    /// Seed, partition and replica in one number.
    salt: u64,
    /// What all replicas of the partition draw from.
    shared: u64,
    /// See `lead_first`.
    first: bool,
    /// See `never_leads`.
    witness: bool,
    /// Elections tried; a lost pre-vote leaves the term as it was, and must not draw the same
    /// again.
    attempts: u64,
}

/// How far a leader knows a member to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reach {
    /// Whether it was heard of lately, when that can be said.
    pub heard: Option<bool>,
    /// Up to where it has the log.
    pub matched: Position,
    /// Entries of the leader's log that it lacks.
    pub lag: u64,
    /// It is being sent a snapshot.
    pub snapshot: bool,
}

/// A proposal that raft did not take: no leader here, or more uncommitted than it may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dropped;

/// A message that this replica cannot take without giving up what it promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogLost {
    /// What a leader knows this replica acknowledged.
    pub acknowledged: Position,
    /// Where its log ends.
    pub last: Position,
}

impl Replica {
    /// The replica of `partition` on node `me`, whose state machine holds everything up to
    /// `applied`.
    #[must_use]
    pub fn new(
        partition: PartitionId,
        me: NodeId,
        pace: Pace,
        log: Log,
        applied: Position,
    ) -> Replica {
        assert!(applied >= log.base(), "the log starts after {}, past {applied}", log.base());
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let config = config(me, pace, applied);
        let node = RawNode::new(&config, log, &logger).expect("the options agree");
        let salt = mix(pace.seed ^ mix(u64::from(partition.0) << 32 | u64::from(me.0)));
        let (me, shared) = (u64::from(me.0), mix(u64::from(partition.0)));
        let (first, witness, attempts) = (false, false, 0);
        let mut replica = Replica { node, me, pace, salt, shared, first, witness, attempts };
        if replica.log().members().voters.is_empty() {
            // It joins a group that runs. Who founded that stands in no entry, so the log alone is
            // not enough: whatever a leader sends first is answered with the wish for a snapshot.
            replica.node.raft.pending_request_snapshot = 1;
        }
        replica.pin();
        replica
    }

    /// This replica is to lead a new group first, so that leaders are spread as its founder wants:
    /// until the first leader is known it stands again and again, the others wait their timeout.
    pub fn lead_first(&mut self) {
        self.first = true;
    }

    /// This replica is a witness, and never stands.
    pub fn never_leads(&mut self) {
        self.witness = true;
    }

    /// Tries to become leader at once.
    pub fn campaign(&mut self) {
        if self.witness {
            return;
        }
        self.attempts += 1;
        // The one error is a message that raft does not want, which a call from here never is.
        let _ = self.node.campaign();
        self.pin();
    }

    /// One unit of raft's clock.
    pub fn tick(&mut self) {
        let waits = self.node.raft.state == StateRole::Follower && !self.node.raft.promotable();
        if self.witness || waits {
            return self.tick_quietly();
        }
        let led = self.is_leader();
        let raft = &mut self.node.raft;
        if self.first && raft.term == 0 && raft.election_elapsed >= FIRST_STANDS_TICKS {
            raft.election_elapsed = raft.randomized_election_timeout();
        }
        self.node.tick();
        if !led && self.node.raft.election_elapsed == 0 {
            self.attempts += 1;
        }
        self.pin();
    }

    /// A leader that is not heard of any more is none, and others get the vote; no election begins.
    /// raft lets who does not vote follow one that is gone for ever.
    fn tick_quietly(&mut self) {
        let (raft, ticks) = (&mut self.node.raft, self.pace.election_ticks);
        raft.election_elapsed = (raft.election_elapsed + 1).min(ticks);
        if raft.election_elapsed == ticks {
            raft.leader_id = raft::INVALID_ID;
        }
    }

    /// A message of a peer.
    pub fn receive(&mut self, message: Message) -> Result<(), LogLost> {
        let kind = message.get_msg_type();
        let raft = &self.node.raft;
        let last = Position(raft.raft_log.last_index());
        // A leader never names more than what this replica acknowledged in a heartbeat.
        if kind == MessageType::MsgHeartbeat && message.term >= raft.term && message.commit > last.0
        {
            return Err(LogLost { acknowledged: Position(message.commit), last });
        }
        // Nothing is forwarded between replicas: the shard passes requests on, raft never does.
        let forwarded = matches!(
            kind,
            MessageType::MsgPropose
                | MessageType::MsgReadIndex
                | MessageType::MsgReadIndexResp
                | MessageType::MsgTransferLeader
        );
        // It would stand.
        let asked_to_lead = self.witness && kind == MessageType::MsgTimeoutNow;
        if !forwarded && !asked_to_lead {
            // The errors left are local kinds and senders who are no members; both are dropped.
            let _ = self.node.step(message);
            self.pin();
        }
        Ok(())
    }

    /// Appends `data` as one entry.
    pub fn propose(&mut self, data: Bytes) -> Result<Position, Dropped> {
        self.append(EntryType::EntryNormal, data)
    }

    /// Appends a change of members. Raft takes one at a time, see `is_changing`.
    pub fn propose_change(&mut self, step: &Step) -> Result<Position, Dropped> {
        assert!(!self.is_changing(), "raft turns a second change into an empty entry");
        self.append(EntryType::EntryConfChangeV2, step.encode())
    }

    /// Whether a change of members may be in the log and not applied.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.node.raft.has_pending_conf()
    }

    /// A committed change of members takes effect; the configuration after it, or `None` when it
    /// does not fit the one before.
    pub fn apply_change(&mut self, step: &Step) -> Option<ConfState> {
        let changed = self.node.apply_conf_change(&step.change).ok();
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Leader && !raft.prs().conf().voters().contains(self.me) {
            // It was elected while the change that takes its vote was under way. raft-rs would go
            // on without a progress of its own, and panic.
            raft.become_follower(raft.term, raft::INVALID_ID);
        }
        self.pin();
        changed
    }

    /// Stepped as a message because `RawNode::propose` wants a copy.
    fn append(&mut self, kind: EntryType, data: Bytes) -> Result<Position, Dropped> {
        // raft would forward a follower's proposal to the leader, where nobody knows its callers.
        if !self.is_leader() {
            return Err(Dropped);
        }
        let mut message = Message { from: self.me, ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        message.set_entries(vec![Entry { entry_type: kind, data, ..Entry::default() }].into());
        let taken = self.node.raft.step(message);
        self.pin();
        match taken {
            Ok(()) => Ok(Position(self.node.raft.raft_log.last_index())),
            Err(_) => Err(Dropped),
        }
    }

    /// Asks the group whether this replica still leads; the answer comes as a read state with
    /// `context`.
    pub fn read(&mut self, context: Vec<u8>) {
        assert!(self.has_committed_in_term(), "raft drops a read before its term's first commit");
        self.node.read_index(context);
        self.pin();
    }

    /// Everything up to the ready of this number is durable.
    pub fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
        self.pin();
    }

    /// The state machine holds everything up to `position`.
    pub fn applied(&mut self, position: Position) {
        self.node.advance_apply_to(position.0);
        self.node.mut_store().set_applied(position);
        self.pin();
    }

    /// Messages to `peer` were lost.
    pub fn unreachable(&mut self, peer: NodeId) {
        self.node.report_unreachable(u64::from(peer.0));
        self.pin();
    }

    /// The link by which `peer` was heard has ended. When it led, as far as this replica knows, it
    /// is one no more, so that votes are given to others, and this replica stands soon: who is
    /// heard again in the meantime, by a link that was only renewed, leads on. No promise rests on
    /// this: raft's rule to ignore votes while a leader lives keeps the peace and nothing else, and
    /// leases are not used.
    ///
    /// Survivors stand one after another, in an order drawn from the group and the term, which all
    /// of them know: at the same time they would split the votes and wait for a whole timeout.
    pub fn hung_up(&mut self, peer: NodeId) {
        let (me, salt) = (self.me, mix(self.shared ^ self.node.raft.term));
        let raft = &mut self.node.raft;
        if raft.state != StateRole::Follower || raft.leader_id != u64::from(peer.0) {
            return;
        }
        raft.leader_id = raft::INVALID_ID;
        let place = |id: u64| (mix(salt ^ id), id);
        let voters = raft.prs().conf().voters().ids();
        let stands = |id: u64| id != u64::from(peer.0) && !raft.store().is_witness(id);
        let before = voters.iter().filter(|id| stands(*id) && place(*id) < place(me));
        let apart = (self.pace.election_ticks / STANDS_APART).max(1);
        let patience = 1 + before.count() * apart;
        let elapsed = raft.randomized_election_timeout().saturating_sub(patience);
        raft.election_elapsed = raft.election_elapsed.max(elapsed);
    }

    /// A snapshot for `peer` arrived, or did not. Without this raft never sends it anything again.
    pub fn snapshot_sent(&mut self, peer: NodeId, arrived: bool) {
        let status = if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.node.report_snapshot(u64::from(peer.0), status);
        self.pin();
    }

    /// Hands leadership to `peer`, who is asked to campaign once it has everything.
    pub fn transfer(&mut self, peer: u64) {
        self.node.transfer_leader(peer);
        self.pin();
    }

    /// What there is to do, if anything; to be given back to `advance`.
    pub fn ready(&mut self) -> Option<Ready> {
        self.node.has_ready().then(|| self.node.ready())
    }

    /// The ready's entries are in the log, and its parts on their way.
    pub fn advance(&mut self, ready: Ready) {
        self.node.advance_append_async(ready);
        self.pin();
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Log {
        self.node.store()
    }

    /// The log, to append what `ready` says and to compact.
    pub fn log_mut(&mut self) -> &mut Log {
        self.node.mut_store()
    }

    /// Whose it is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId(u32::try_from(self.me).expect("it was a node's number"))
    }

    /// Whether this replica leads, as far as it knows.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        Term(self.node.raft.term)
    }

    /// Who leads in it, as far as this replica knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        u32::try_from(self.node.raft.leader_id).ok().filter(|id| *id != 0).map(NodeId)
    }

    /// What raft was last told to be applied.
    #[must_use]
    pub fn told_applied(&self) -> Position {
        Position(self.node.raft.raft_log.applied())
    }

    /// How far the log is known to be committed.
    #[must_use]
    pub fn committed(&self) -> Position {
        Position(self.node.raft.raft_log.committed)
    }

    /// Where the log ends, with what is not yet durable.
    #[must_use]
    pub fn last(&self) -> Position {
        Position(self.node.raft.raft_log.last_index())
    }

    /// Whether a leader knows what was acknowledged before its term.
    #[must_use]
    pub fn has_committed_in_term(&self) -> bool {
        self.node.raft.commit_to_current_term()
    }

    /// Whether this replica alone decides.
    #[must_use]
    pub fn is_single_voter(&self) -> bool {
        let voters = self.node.raft.prs().conf().voters();
        voters.ids().iter().all(|id| id == self.me) && voters.contains(self.me)
    }

    /// Up to where this leader knows that `peer` has the log.
    #[must_use]
    pub fn matched(&self, peer: u64) -> Option<Position> {
        self.node.raft.prs().get(peer).map(|progress| Position(progress.matched))
    }

    /// Whether a learner has nearly all of this leader's log, the change that admitted it among
    /// that, and is there. How raft sends to it does not matter: in a group without commands that
    /// stays as it was after a snapshot that came twice.
    #[must_use]
    pub fn has_caught_up(&self, peer: NodeId) -> bool {
        self.node.raft.prs().get(u64::from(peer.0)).is_some_and(|progress| {
            progress.recent_active
                && progress.matched >= self.log().members_at().0
                && progress.matched + LEARNER_BEHIND_MAX >= self.last().0
        })
    }

    /// Whether this leader heard of a member lately.
    #[must_use]
    pub fn hears(&self, peer: u64) -> bool {
        self.node.raft.prs().get(peer).is_some_and(|progress| progress.recent_active)
    }

    /// What this leader knows of how far a member is.
    #[must_use]
    pub fn progress(&self, peer: u64) -> Option<Reach> {
        let raft = &self.node.raft;
        let progress = raft.prs().get(peer)?;
        let lag = self.last().0.saturating_sub(progress.matched);
        // Once a timeout raft forgets who was heard, and a heartbeat's answer later it knows.
        let settled = raft.election_elapsed > 2 * self.pace.heartbeat_ticks;
        Some(Reach {
            heard: (progress.recent_active || settled).then_some(progress.recent_active),
            matched: Position(progress.matched),
            lag,
            snapshot: progress.state == raft::ProgressState::Snapshot,
        })
    }

    /// Whom this replica follows.
    #[must_use]
    pub fn follows(&self) -> Option<NodeId> {
        self.leader().filter(|_| self.node.raft.state == StateRole::Follower)
    }

    /// Whether everything is committed and applied, and everybody whom this leader sends to has it.
    #[must_use]
    pub fn is_level(&self) -> bool {
        let raft = &self.node.raft;
        let last = raft.raft_log.last_index();
        if raft.raft_log.committed != last || raft.raft_log.applied() != last {
            return false;
        }
        let led = raft.state == StateRole::Leader;
        !led || (self.has_committed_in_term()
            && !self.is_changing()
            && !self.is_handing_over()
            && raft.prs().iter().all(|(_, progress)| {
                let replicates = progress.state == raft::ProgressState::Replicate;
                replicates && progress.matched == last
            }))
    }

    /// Whether everybody answered this leader since it last asked who is there.
    #[must_use]
    pub fn hears_all(&self) -> bool {
        let mut others = self.node.raft.prs().iter().filter(|(id, _)| **id != self.me);
        others.all(|(_, progress)| progress.recent_active)
    }

    /// As a follower: it was silent for so many ticks while raft's clock stood still.
    pub fn waited(&mut self, ticks: usize) {
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Follower {
            raft.election_elapsed = raft.election_elapsed.max(ticks);
        }
    }

    /// Wakes the leader of a group that rests: an answer to a heartbeat that was none.
    #[must_use]
    pub fn rouses(&self, leader: NodeId) -> Message {
        let (from, to, term) = (self.me, u64::from(leader.0), self.node.raft.term);
        let mut message = Message { from, to, term, ..Message::default() };
        message.set_msg_type(MessageType::MsgHeartbeatResponse);
        message.commit = self.committed().0;
        message.context = ROUSES.into();
        message
    }

    /// Whether leadership is being handed over.
    #[must_use]
    pub fn is_handing_over(&self) -> bool {
        self.node.raft.lead_transferee.is_some()
    }

    /// The voter that was heard of lately and has most of the log, this one and those excepted who
    /// never lead.
    #[must_use]
    pub fn best_follower(&self) -> Option<u64> {
        let progress = self.node.raft.prs();
        let mut best: Option<((bool, u64), u64)> = None;
        // In a joint configuration: one of those who stay.
        let voters = &self.log().members().voters;
        for id in voters.iter().copied().filter(|id| self.could_lead(*id)) {
            let heard = progress.get(id).map(|progress| (progress.recent_active, progress.matched));
            let heard = heard.unwrap_or_default();
            // Ties go to the smaller id, whatever order raft keeps them in.
            if best.is_none_or(|(most, of)| (heard, of) > (most, id)) {
                best = Some((heard, id));
            }
        }
        best.map(|(_, id)| id)
    }

    /// Whether another one votes and is no witness.
    #[must_use]
    pub fn could_lead(&self, id: u64) -> bool {
        let votes = self.log().members().voters.contains(&id);
        votes && id != self.me && !self.log().is_witness(id)
    }

    /// Ticks after which a member counts as silent, and as slow.
    #[must_use]
    pub fn silences(&self) -> (usize, usize) {
        let Pace { election_ticks, heartbeat_ticks, .. } = self.pace;
        ((election_ticks / 2).max(heartbeat_ticks + 1), election_ticks)
    }

    fn pin(&mut self) {
        let raft = &mut self.node.raft;
        let role = raft.state as u64;
        let draw = mix(self.salt ^ mix(raft.term << 3 ^ role) ^ mix(!self.attempts));
        let span = self.pace.election_ticks as u64;
        raft.set_randomized_election_timeout(self.pace.election_ticks + (draw % span) as usize);
    }
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica")
            .field("term", &self.term())
            .field("leader", &self.leader())
            .field("committed", &self.committed())
            .field("last", &self.last())
            .finish_non_exhaustive()
    }
}

/// The context of an answer that only wakes; those of reads are longer.
pub const ROUSES: &[u8] = b"wake";

/// Ticks between the first elections of a new group: what a link needs to come up.
const FIRST_STANDS_TICKS: usize = 2;

/// Survivors of a leader stand this part of an election timeout after one another: with the
/// defaults 150 ms, several times what two rounds and two writes take.
const STANDS_APART: usize = 4;

/// Every option, whether or not it differs from the library's.
fn config(me: NodeId, pace: Pace, applied: Position) -> Config {
    assert!(me.0 > 0, "raft takes 0 for nobody");
    Config {
        id: u64::from(me.0),
        election_tick: pace.election_ticks,
        heartbeat_tick: pace.heartbeat_ticks,
        // What the snapshot holds is not handed out again.
        applied: applied.0,
        // The default of 0 means one entry a message. Anything below what a turn admits costs a
        // second round trip.
        max_size_per_msg: RAFT_MESSAGE_BYTES_MAX as u64,
        max_inflight_msgs: RAFT_MESSAGES_IN_FLIGHT_MAX,
        // A leader cut off from its group stops answering instead of going on alone.
        check_quorum: true,
        // A replica that comes back from a partition does not unseat a leader that works.
        pre_vote: true,
        // The timeout is pinned within [election_tick, 2 · election_tick), raft's own range.
        min_election_tick: pace.election_ticks,
        max_election_tick: 2 * pace.election_ticks,
        // Lease reads are unsafe around a transfer of leadership.
        read_only_option: raft::ReadOnlyOption::Safe,
        // Followers learn the commit with the next append or heartbeat, not by a message of its
        // own: 2 bundles a lone command instead of 4. Their state trails by a heartbeat when idle,
        // which only a read at a follower would notice, and there are none.
        skip_bcast_commit: true,
        // One append a turn leaves anyway; measured without effect.
        batch_append: false,
        priority: 0,
        // Without a bound a leader without a quorum grows until it dies. Admission refuses first.
        max_uncommitted_size: RAFT_UNCOMMITTED_BYTES_MAX as u64,
        // Without a bound a replica far behind applies everything in one turn.
        max_committed_size_per_ready: APPLY_TURN_BYTES_MAX as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    use crate::partition::member::conf_state;
    use crate::wire::peer;

    fn replica(seed: u64, me: u32, voters: &[u64]) -> Replica {
        let pace = Pace { seed, election_ticks: 10, heartbeat_ticks: 1 };
        let log = Log::new(conf_state(voters, &[]));
        Replica::new(PartitionId(1), NodeId(me), pace, log, Position(0))
    }

    #[test]
    fn a_single_voter_leads_without_waiting() {
        let mut replica = replica(1, 1, &[1]);
        replica.campaign();
        assert!(replica.is_leader() && replica.is_single_voter());
        assert!(!replica.has_committed_in_term(), "its first entry is not durable yet");
    }

    #[test]
    fn attempts_change_the_timeout_and_nothing_else_does() {
        let timeouts = |seed| {
            let mut replica = replica(seed, 1, &[1, 2, 3]);
            let mut seen = Vec::new();
            for _ in 0..200 {
                replica.tick();
                while let Some(ready) = replica.ready() {
                    replica.advance(ready);
                }
                seen.push(replica.node.raft.randomized_election_timeout());
            }
            seen
        };
        assert_eq!(timeouts(3), timeouts(3));
        let seen = timeouts(3);
        assert!(seen.iter().any(|timeout| *timeout != seen[0]), "every attempt drew {}", seen[0]);
    }

    fn heartbeat(from: u64, to: u64, term: u64) -> Message {
        let mut message = Message { from, to, term, ..Message::default() };
        message.set_msg_type(MessageType::MsgHeartbeat);
        message
    }

    fn pre_vote(from: u64, to: u64, term: u64) -> Message {
        let mut message = Message { from, to, term, log_term: 1, ..Message::default() };
        message.set_msg_type(MessageType::MsgRequestPreVote);
        message
    }

    /// What it has to say, by kind.
    fn says(replica: &mut Replica) -> Vec<(MessageType, bool)> {
        let mut said = Vec::new();
        while let Some(mut ready) = replica.ready() {
            let messages = [ready.take_messages(), ready.take_persisted_messages()].concat();
            said.extend(messages.iter().map(|message| (message.get_msg_type(), message.reject)));
            replica.advance(ready);
        }
        said
    }

    #[test]
    fn who_lost_the_leader_votes_for_others_and_stands_soon() {
        let mut replica = replica(1, 1, &[1, 2, 3]);
        replica.receive(heartbeat(2, 1, 4)).expect("a heartbeat");
        assert_eq!(replica.leader(), Some(NodeId(2)));
        let _ = says(&mut replica);
        replica.receive(pre_vote(3, 1, 5)).expect("a request");
        assert_eq!(says(&mut replica), [], "a leader lives");
        replica.hung_up(NodeId(3));
        assert_eq!(replica.leader(), Some(NodeId(2)), "another one's link says nothing of it");
        replica.hung_up(NodeId(2));
        assert_eq!(replica.leader(), None);
        replica.receive(pre_vote(3, 1, 5)).expect("a request");
        assert_eq!(says(&mut replica), [(MessageType::MsgRequestPreVoteResponse, false)]);
        // It or the other one stands after a tick, the second a quarter of the timeout later.
        let mut stands = 0;
        while !says(&mut replica).contains(&(MessageType::MsgRequestPreVote, false)) {
            replica.tick();
            stands += 1;
        }
        assert!(stands == 1 || stands == 1 + 10 / STANDS_APART, "after {stands} ticks");
    }

    #[test]
    fn survivors_stand_one_after_another() {
        for term in 4..40 {
            let patience = |me| {
                let mut replica = replica(1, me, &[1, 2, 3, 4, 5]);
                replica.receive(heartbeat(5, u64::from(me), term)).expect("a heartbeat");
                let _ = says(&mut replica);
                replica.hung_up(NodeId(5));
                let raft = &replica.node.raft;
                raft.randomized_election_timeout() - raft.election_elapsed
            };
            let mut all: Vec<usize> = (1..=4).map(patience).collect();
            all.sort_unstable();
            assert_eq!(all, [1, 3, 5, 7], "term {term}");
        }
    }

    #[test]
    fn a_leader_that_is_heard_again_leads_on() {
        let mut replica = replica(1, 1, &[1, 2, 3]);
        replica.receive(heartbeat(2, 1, 4)).expect("a heartbeat");
        replica.hung_up(NodeId(2));
        replica.receive(heartbeat(2, 1, 4)).expect("a heartbeat");
        assert_eq!(replica.leader(), Some(NodeId(2)));
        assert_eq!(replica.node.raft.election_elapsed, 0, "it is patient again");
    }

    #[test]
    fn a_heartbeat_past_the_log_is_refused() {
        let mut replica = replica(1, 1, &[1, 2, 3]);
        let mut message = Message { from: 2, to: 1, term: 4, commit: 9, ..Message::default() };
        message.set_msg_type(MessageType::MsgHeartbeat);
        let lost = LogLost { acknowledged: Position(9), last: Position(0) };
        assert_eq!(replica.receive(message), Err(lost));
    }

    /// Replica 3 of three, which is a witness.
    fn witness() -> Replica {
        let mut replica = replica(1, 3, &[1, 2, 3]);
        replica.never_leads();
        replica
    }

    #[test]
    fn a_witness_never_stands() {
        let mut replica = witness();
        let mut asks = heartbeat(1, 3, 4);
        replica.receive(asks.clone()).expect("a heartbeat");
        let _ = says(&mut replica);
        asks.set_msg_type(MessageType::MsgTimeoutNow);
        replica.receive(asks).expect("a request");
        replica.campaign();
        replica.hung_up(NodeId(1));
        for _ in 0..100 {
            replica.tick();
            assert_eq!(says(&mut replica), []);
        }
        assert_eq!((replica.leader(), replica.term()), (None, Term(4)));
    }

    #[test]
    fn a_witness_votes_for_another_one_when_its_leader_is_silent() {
        let mut replica = witness();
        replica.receive(heartbeat(1, 3, 4)).expect("a heartbeat");
        let _ = says(&mut replica);
        for tick in 0..10 {
            replica.receive(pre_vote(2, 3, 5)).expect("a request");
            assert_eq!((says(&mut replica), replica.leader()), (vec![], Some(NodeId(1))), "{tick}");
            replica.tick();
        }
        assert_eq!(replica.leader(), None);
        replica.receive(pre_vote(2, 3, 5)).expect("a request");
        assert_eq!(says(&mut replica), [(MessageType::MsgRequestPreVoteResponse, false)]);
    }

    #[test]
    fn who_does_not_vote_forgets_a_leader_that_is_silent() {
        let pace = Pace { seed: 1, election_ticks: 10, heartbeat_ticks: 1 };
        let log = Log::new(conf_state(&[1, 2], &[3]));
        let mut replica = Replica::new(PartitionId(1), NodeId(3), pace, log, Position(0));
        replica.receive(heartbeat(1, 3, 4)).expect("a heartbeat");
        let _ = says(&mut replica);
        for tick in 0..10 {
            assert_eq!(replica.leader(), Some(NodeId(1)), "after {tick} ticks");
            replica.tick();
        }
        assert_eq!((says(&mut replica), replica.leader()), (vec![], None));
    }

    #[test]
    fn the_best_follower_is_no_witness() {
        let mut replica = replica(1, 1, &[1, 2, 3]);
        assert_eq!(replica.best_follower(), Some(2));
        replica.log_mut().set_witnesses(vec![2]);
        assert_eq!(replica.best_follower(), Some(3));
        replica.log_mut().set_witnesses(vec![2, 3]);
        assert_eq!(replica.best_follower(), None);
    }

    #[test]
    fn who_is_removed_leads_no_more() {
        let mut replica = replica(1, 1, &[1]);
        replica.campaign();
        for (transition, kind, node) in [(0, 0, 2), (2, 1, 1)] {
            let steps = vec![peer::MemberStep { kind, node }];
            let change = peer::MembersChange { transition, steps, context: Bytes::new() };
            let step = Step::decode(&change.encode_to_vec()).expect("a change");
            replica.apply_change(&step).expect("it fits");
            assert!(replica.is_leader(), "it votes, or did before the joint change");
        }
        let left = Step::decode(&[]).expect("leaves the joint configuration");
        let conf = replica.apply_change(&left).expect("it fits");
        assert_eq!((&conf.voters[..], replica.is_leader()), (&[2][..], false));
        replica.tick();
    }

    #[test]
    fn a_follower_takes_no_proposal() {
        let mut replica = replica(1, 1, &[1, 2, 3]);
        assert_eq!(replica.propose(Bytes::from_static(b"x")), Err(Dropped));
    }
}
