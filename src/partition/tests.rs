//! One group of one voter, without shard, journal or clock: what the contract of the layer says.

use prost::Message as _;

use super::{
    Lane, Partition, Recovered, Rules, Unfit,
    effects::{Effects, Record},
    member::{Group, Member, Role},
    reply::{Body, Refusal},
};
use crate::{
    id::{Index, NodeId, PartitionId, Position, ShardId, Ticket},
    shard::Settings,
    time::{Instant, LogTime, Now, Span},
    wire::proto::v1::{
        OpenSessionInput, StateMachineProposalInput, state_machine_proposal_input::Input,
    },
};

#[test]
fn a_founded_single_voter_leads_in_its_first_settlement() {
    let mut one = One::new();
    assert!(one.partition.is_leader());
    one.settle();
    assert_eq!(one.effects.messages.len(), 0);
    let records = &one.effects.records;
    assert!(
        matches!(&records[..], [(_, Record::Entries(entries)), (_, Record::State(hard))]
            if entries.len() == 2 && hard.term == 1 && hard.vote == 1),
        "raft's own entry and a stamped one, then the vote: {records:?}"
    );
}

#[test]
fn commands_of_a_turn_are_one_entry_and_are_applied_when_durable() {
    let mut one = One::new();
    one.round();
    for slot in 0..10 {
        one.propose(slot, Lane::Ordinary).expect("it leads");
    }
    one.settle();
    let entries: usize = one
        .effects
        .records
        .iter()
        .map(|(_, record)| match record {
            Record::Entries(entries) => entries.len(),
            Record::State(_)
            | Record::SnapshotBegin(_)
            | Record::SnapshotSlice(_)
            | Record::SnapshotEnd(_) => 0,
        })
        .sum();
    assert_eq!((entries, one.effects.replies.list.len()), (1, 0));
    assert_eq!(one.partition.load().commands, 10);
    one.durable();
    one.settle();
    assert_eq!(one.effects.replies.list.len(), 10);
    assert_eq!(one.partition.load().commands, 0);
    assert!(one.effects.records.is_empty(), "a commit alone is not worth a write");
}

#[test]
fn the_bound_on_commands_leaves_room_for_keep_alives() {
    let mut one = One::new();
    one.rules.commands_max = 3;
    one.round();
    for slot in 0..3 {
        one.propose(slot, Lane::Ordinary).expect("room");
    }
    assert!(matches!(one.propose(3, Lane::Ordinary), Err(Refusal::Full(_))));
    assert!(one.propose(4, Lane::Urgent).is_ok());
}

#[test]
fn a_caller_who_hangs_up_is_not_answered_and_its_command_goes_on() {
    let mut one = One::new();
    one.round();
    one.propose(1, Lane::Ordinary).expect("it leads");
    one.propose(2, Lane::Ordinary).expect("it leads");
    one.partition.gone(ticket(1));
    one.round();
    let told: Vec<_> = one.effects.replies.list.iter().map(|reply| reply.ticket.slot).collect();
    assert_eq!(told, [2]);
    assert_eq!(one.partition.machine().index(), Index(2));
}

#[test]
fn a_session_expires_by_a_tick_that_the_leader_proposes() {
    let mut one = One::new();
    one.round();
    one.propose(1, Lane::Ordinary).expect("it leads");
    let wake = one.round().expect("a session waits for its end");
    let span = wake.since(one.now.monotonic);
    assert!(span >= Span::secs(30), "the default timeout, not {span}");
    one.now.monotonic = wake;
    one.settle();
    assert_eq!(one.effects.records.len(), 1, "a tick: {:?}", one.effects.records);
    one.durable();
    assert_eq!(one.settle(), None, "nothing is left to wait for");
    assert_eq!(one.effects.records.len(), 0);
}

#[test]
fn a_long_recovery_takes_nothing_from_a_sessions_timeout() {
    let mut one = One::new();
    one.round();
    one.propose(1, Lane::Ordinary).expect("it leads");
    one.round();
    let disk = std::mem::take(&mut one.disk);
    one.partition = Partition::recover(&group(), &one.rules, disk).expect("it is whole");
    let pass = |one: &mut One, span| {
        one.now.monotonic = one.now.monotonic.after(span);
        one.now.wall = one.now.wall.after(span);
    };
    // The leader of a new term, with a log to apply that takes longer than the session's timeout.
    one.settle();
    assert!(one.partition.is_leader());
    pass(&mut one, Span::secs(20));
    one.settle();
    pass(&mut one, Span::secs(20));
    one.durable();
    let wake = one.settle().expect("the session is there, and waits for its end");
    let span = wake.since(one.now.monotonic);
    assert!(span >= Span::secs(29), "it has its whole timeout, not {span}");
    one.now.monotonic = wake;
    one.round();
    assert_eq!(one.settle(), None, "and not more than that");
}

#[test]
fn a_snapshot_is_due_after_so_many_entries_and_commands_go_on() {
    let mut one = One::new();
    one.rules.snapshot_entries = 20;
    one.budget = 1;
    one.round();
    for slot in 0..18 {
        one.propose(slot, Lane::Ordinary).expect("it leads");
        one.round();
    }
    assert!(one.partition.is_hungry(), "one record a turn is not enough for one turn");
    let (index, applied) = (one.partition.machine().index(), one.partition.applied());
    one.propose(99, Lane::Ordinary).expect("it leads");
    one.round();
    assert_eq!(one.partition.machine().index(), index.next(), "commands wait for the snapshot");
    assert!(one.partition.is_hungry(), "it is not written yet");
    let mut turns = 0;
    while one.partition.is_hungry() {
        one.round();
        turns += 1;
    }
    one.round();
    assert!(turns > 1);
    assert_eq!(one.ended, [applied], "it is of the state with which it began");
}

#[test]
fn what_does_not_join_is_not_started() {
    let one = One::new();
    let entry = raft::eraftpb::Entry { index: 7, term: 1, ..Default::default() };
    let disk = Recovered { entries: vec![entry], ..Recovered::default() };
    let unfit = Partition::recover(&group(), &one.rules, disk).map(|_| ()).expect_err("a gap");
    assert_eq!(unfit, Unfit::Gap { snapshot: Position(0), first: Position(7) });
}

struct One {
    partition: Partition,
    rules: Rules,
    effects: Effects,
    now: Now,
    turn: u64,
    budget: usize,
    /// Snapshots that became whole.
    ended: Vec<Position>,
    /// What a crash would leave.
    disk: Recovered,
}

impl One {
    fn new() -> One {
        let rules = Settings::default().rules();
        One {
            partition: Partition::found(&group(), &rules),
            rules,
            effects: Effects::default(),
            now: Now { monotonic: Instant(0), wall: LogTime(1_000_000_000_000) },
            turn: 0,
            budget: 1 << 20,
            ended: Vec::new(),
            disk: Recovered::default(),
        }
    }

    fn propose(&mut self, slot: u32, lane: Lane) -> Result<(), Refusal> {
        let input = Some(Input::OpenSession(OpenSessionInput::default()));
        let body = StateMachineProposalInput { timestamp: None, input }.encode_to_vec();
        self.partition.propose((ticket(slot), None), &body, lane, self.now, &self.rules)
    }

    fn settle(&mut self) -> Option<Instant> {
        self.turn += 1;
        self.effects.replies.clear();
        self.effects.records.clear();
        self.effects.begin(self.turn);
        self.effects.snapshot_budget_bytes = self.budget;
        let wake = self.partition.settle(self.now, &self.rules, &mut self.effects);
        for (_, record) in &self.effects.records {
            match record {
                Record::Entries(entries) => self.disk.entries.extend(entries.iter().cloned()),
                Record::State(hard) => self.disk.hard = hard.clone(),
                Record::SnapshotBegin(_) | Record::SnapshotSlice(_) | Record::SnapshotEnd(_) => {}
            }
        }
        self.ended.extend(self.effects.records.iter().filter_map(|(_, record)| match record {
            Record::SnapshotEnd(facts) => Some(facts.position),
            Record::Entries(_)
            | Record::State(_)
            | Record::SnapshotBegin(_)
            | Record::SnapshotSlice(_) => None,
        }));
        wake
    }

    fn durable(&mut self) {
        self.partition.durable(self.turn);
    }

    /// Settles, is durable, settles; the replies of both stay.
    fn round(&mut self) -> Option<Instant> {
        self.settle();
        self.durable();
        let wake = self.settle();
        for reply in &self.effects.replies.list {
            assert!(!matches!(reply.body, Body::Event(_)), "a partition tells events elsewhere");
        }
        wake
    }
}

fn group() -> Group {
    let (host, port, role) = ("node-1".to_owned(), 5679, Role::Member);
    let members = vec![Member { node: NodeId(1), host, port, role }];
    Group { partition: PartitionId(1), local: NodeId(1), members, joins: false }
}

fn ticket(slot: u32) -> Ticket {
    Ticket { shard: ShardId(0), slot, generation: 0 }
}
