//! What an operator asks, and what nodes without a replica know: described, removed, moved, watched
//! from anywhere, and no member that nobody is.

use super::*;
use crate::{
    id::Ticket,
    partition::member::Change,
    wire::{
        cluster::{DescribePartitionResponse, Part},
        proto::v1::{PartitionEvent, partition_event},
    },
};

/// Four nodes; the first three have a group, which the first leads; all links are up.
fn four(seed: u64) -> World {
    let mut world = World::nodes(4, seed);
    world.found_on(3, P);
    world.elect_first(&[P]);
    for (at, node) in (0..4).flat_map(|at| (1..=4).map(move |node| (at, node))) {
        if at as u32 + 1 != node {
            world.link(at, NodeId(node));
        }
    }
    world.run();
    world
}

/// The third node is not there any more, and who asks others knows it.
fn lose_third(world: &mut World) {
    world.cut(2, true);
    world.break_link(3, 2);
    world.run();
}

fn arrange(world: &mut World, at: usize, change: Change) -> Ticket {
    world.ask(at, P, Ask::Arrange { change, patience: Span::secs(3) }, &[])
}

fn described(world: &mut World, at: usize, here: bool) -> DescribePartitionResponse {
    let ticket = world.ask(at, P, Ask::Describe { here }, &[]);
    world.run();
    DescribePartitionResponse::decode(world.outputs(ticket)[0]).expect("a description")
}

fn members(world: &World, at: usize) -> Vec<u32> {
    world.partition(at, P).members().iter().map(|member| member.node.0).collect()
}

#[test]
fn a_partition_is_described_as_its_leader_sees_it() {
    let mut world = four(1);
    lose_third(&mut world);
    let command = world.ask(0, P, Ask::Command, &open_session());
    world.run();
    assert!(world.is_ok(command));
    for at in [0, 1, 3] {
        let told = described(&mut world, at, false);
        assert_eq!((told.partition_id, told.node_id, told.leader), (P.0, 1, 1), "asked at {at}");
        assert!(told.term > 0 && told.last > 0 && !told.changing);
        let lag: Vec<Option<u64>> = told.members.iter().map(|member| member.lag).collect();
        assert_eq!(lag, [Some(0), Some(0), Some(1)], "the third lacks the command");
        assert!(told.members.iter().all(|member| member.part() == Part::Votes));
        assert_eq!(told.members[1].clients, "node2:7000");
    }
    let told = described(&mut world, 1, true);
    assert_eq!((told.node_id, told.leader, told.members[2].lag), (2, 1, None));
    let nowhere = world.ask(3, P, Ask::Describe { here: true }, &[]);
    world.run();
    assert_eq!(world.refusal(nowhere), Refusal::UnknownPartition(P));
}

#[test]
fn a_leader_is_moved_from_anywhere() {
    let mut world = four(2);
    for (at, to) in [(1, 3), (3, 2), (2, 2), (0, 1)] {
        let ticket = arrange(&mut world, at, Change::Lead(Some(NodeId(to))));
        world.settle();
        assert!(world.is_ok(ticket), "{:?}", world.replies(ticket));
        assert!(world.partition(to as usize - 1, P).is_leader());
    }
    let stranger = arrange(&mut world, 1, Change::Lead(Some(NodeId(4))));
    world.settle();
    assert!(matches!(world.refusal(stranger), Refusal::Precondition(_)));
}

#[test]
fn a_leader_stays_and_works_when_its_heir_is_not_there() {
    let mut world = four(3);
    lose_third(&mut world);
    world.settle();
    let ticket = arrange(&mut world, 1, Change::Lead(Some(NodeId(3))));
    for _ in 0..50 {
        let command = world.ask(0, P, Ask::Command, &open_session());
        world.run();
        assert!(world.is_ok(command), "commands go on meanwhile");
        world.pass(Span::millis(50));
        world.run();
    }
    world.settle();
    let refusal = world.refusal(ticket);
    assert!(
        matches!(refusal, Refusal::Unavailable(text) if text.contains("take over")),
        "{refusal:?}"
    );
    assert!(world.partition(0, P).is_leader());
}

/// Right after raft has forgotten who was heard, a lost one looks as good as those who are there.
#[test]
fn whoever_is_there_takes_over_whenever_it_is_asked() {
    for ticks in 0..30 {
        let mut world = four(6);
        world.cut(1, true);
        world.settle();
        for _ in 0..ticks {
            world.pass(Span::millis(50));
            world.run();
        }
        let ticket = arrange(&mut world, 0, Change::Lead(None));
        world.settle();
        assert!(world.is_ok(ticket), "after {ticks} ticks: {:?}", world.replies(ticket));
        assert!(world.partition(2, P).is_leader(), "after {ticks} ticks");
    }
}

#[test]
fn a_lost_member_is_removed_and_one_that_is_needed_is_not() {
    let mut world = four(4);
    lose_third(&mut world);
    world.settle();
    let needed = arrange(&mut world, 3, Change::Dismiss(NodeId(2)));
    world.settle();
    world.settle();
    let refusal = world.refusal(needed);
    assert!(
        matches!(refusal, Refusal::Unavailable(text) if text.contains("too few")),
        "{refusal:?}"
    );
    let lost = arrange(&mut world, 3, Change::Dismiss(NodeId(3)));
    world.settle();
    assert!(world.is_ok(lost), "{:?}", world.replies(lost));
    assert_eq!(members(&world, 0), [1, 2]);
    let again = arrange(&mut world, 1, Change::Dismiss(NodeId(3)));
    world.settle();
    assert!(world.is_ok(again), "what is so stays so");
    // The leader goes as well: the other one takes over first.
    let leader = arrange(&mut world, 1, Change::Dismiss(NodeId(1)));
    world.settle();
    assert!(world.is_ok(leader), "{:?}", world.replies(leader));
    assert!(world.partition(1, P).is_leader());
    let last = arrange(&mut world, 1, Change::Dismiss(NodeId(2)));
    world.settle();
    assert!(matches!(world.refusal(last), Refusal::Precondition(_)), "nobody else votes");
}

#[test]
fn who_leaves_before_it_is_admitted_is_no_member() {
    let mut world = four(5);
    // The others hear nothing of it yet.
    world.cut(3, true);
    let local = NodeId(4);
    let join = Ask::Join { local, members: vec![member(1), member(4)] };
    let join = world.ask(3, P, join, &[]);
    world.run();
    let leave = world.ask(3, P, Ask::Leave, &[]);
    world.run();
    assert!(matches!(world.refusal(join), Refusal::Precondition(_)), "it leaves");
    let again = Ask::Join { local, members: vec![member(1), member(4)] };
    let again = world.ask(3, P, again, &[]);
    world.run();
    assert!(matches!(world.refusal(again), Refusal::Precondition(_)), "it is leaving");
    world.cut(3, false);
    world.settle();
    assert!(world.is_ok(leave), "{:?}", world.replies(leave));
    assert_eq!(members(&world, 0), [1, 2, 3]);
    assert_eq!(world.stats(3).partitions_now, 0);
}

#[test]
fn a_member_that_has_left_for_good_is_let_go() {
    let mut world = four(6);
    let local = NodeId(4);
    let join = world.ask(3, P, Ask::Join { local, members: vec![member(1), member(4)] }, &[]);
    world.run();
    let leave = world.ask(3, P, Ask::Leave, &[]);
    world.settle();
    assert!(world.is_ok(leave), "{:?}", world.replies(leave));
    assert!(matches!(world.refusal(join), Refusal::Precondition(_)));
    assert_eq!(members(&world, 0), [1, 2, 3]);
    let watch = world.ask(0, P, Ask::WatchPartition, &[]);
    // Its question comes once more, late.
    let late = Ask::Change { change: Change::Admit(member(4)), passed: false };
    let late = world.ask(0, P, late, &[]);
    world.settle();
    let change = |event: &Event| match &event.what {
        Happening::MembershipChanged { members, .. } => Some(members.len()),
        _ => None,
    };
    let changes: Vec<usize> = world.events(watch).iter().filter_map(change).collect();
    assert_eq!(changes, [4, 3], "the leader cannot know, until it hears");
    assert_eq!(members(&world, 0), [1, 2, 3]);
    assert!(matches!(world.refusal(late), Refusal::Precondition(_)));
    let command = world.ask(1, P, Ask::Command, &open_session());
    world.settle();
    assert!(world.is_ok(command));
}

#[test]
fn who_was_removed_and_hears_its_leader_late_still_leaves() {
    let mut world = four(8);
    world.ask(0, P, Ask::Command, &open_session());
    world.run();
    let late = world.last_bundle(0, 2);
    let removed = arrange(&mut world, 0, Change::Dismiss(NodeId(3)));
    world.settle();
    assert!(world.is_ok(removed) && world.partition(2, P).is_removed());
    let gone = world.ask(0, P, Ask::Leave, &[]);
    world.settle();
    assert!(world.is_ok(gone), "{:?}", world.replies(gone));
    world.deliver(2, NodeId(1), late);
    world.run();
    let replica = world.partition(2, P);
    assert!(!replica.is_removed(), "it may have been admitted again");
    assert_eq!(replica.leadership().1, None, "it would be asked for ever");
    let leave = world.ask(2, P, Ask::Leave, &[]);
    world.settle();
    assert!(world.is_ok(leave), "{:?}", world.replies(leave));
}

#[test]
fn a_node_without_a_replica_passes_on_what_it_is_asked() {
    let mut world = World::nodes(4, 7);
    world.found_on(3, P);
    world.elect_first(&[P]);
    let unknown = world.ask(3, P, Ask::Command, &open_session());
    world.run();
    assert_eq!(world.refusal(unknown), Refusal::UnknownPartition(P), "nobody told it");
    let node = world.ask(3, PartitionId(0), Ask::WatchNode, &[]);
    world.run();
    assert_eq!(world.events(node), []);
    world.link(0, NodeId(4));
    world.run();
    let told = world.events(node);
    assert_eq!(told.iter().map(|event| event.partition).collect::<Vec<_>>(), [P]);
    let command = world.ask(3, P, Ask::Command, &open_session());
    world.run();
    assert!(world.is_ok(command));
    let later = world.ask(3, PartitionId(0), Ask::WatchNode, &[]);
    world.run();
    assert_eq!(world.events(later).len(), 1, "who spreads keys must count it");
    // A change of members is told as well: the new member is asked when the others are gone.
    let lead = arrange(&mut world, 0, Change::Lead(Some(NodeId(2))));
    let gone = arrange(&mut world, 0, Change::Dismiss(NodeId(3)));
    world.settle();
    assert!(world.is_ok(lead) && world.is_ok(gone));
    let command = world.ask(3, P, Ask::Command, &open_session());
    world.run();
    assert!(world.is_ok(command));
}

#[test]
fn a_node_without_a_replica_does_not_wait_for_who_does_not_hear_it() {
    for (from, to) in [(0, 3), (3, 0)] {
        let mut world = four(9);
        // Which of the members it asks is its choice.
        (0..3).for_each(|member| world.deafen(member.max(from), member.max(to), true));
        let ticket = world.ask(3, P, Ask::Describe { here: false }, &[]);
        world.settle();
        let refusal = world.refusal(ticket);
        assert!(matches!(refusal, Refusal::Unavailable(_)), "{from} to {to}: {refusal:?}");
        assert_eq!(world.stats(3).passed_now, 0);
    }
}

#[test]
fn a_watch_reaches_a_partition_that_is_elsewhere() {
    let mut world = four(8);
    let ticket = world.ask(3, P, Ask::WatchPartition, &[]);
    world.run();
    let heard = |world: &World| -> Vec<PartitionEvent> {
        let all = world.outputs(ticket);
        all.iter().map(|bytes| PartitionEvent::decode(*bytes).expect("an event")).collect()
    };
    let first = heard(&world);
    assert_eq!(first.len(), 1);
    let Some(partition_event::Event::ServiceConfigChanged(change)) = &first[0].event else {
        panic!("where to send requests comes first: {first:?}")
    };
    let config = change.config.clone().expect("a configuration");
    assert_eq!(config.followers.len(), 2);
    assert!(!config.leader.is_empty());
    let lead = arrange(&mut world, 0, Change::Lead(Some(NodeId(2))));
    world.settle();
    assert!(world.is_ok(lead));
    let led = |event: &PartitionEvent| match &event.event {
        Some(partition_event::Event::LeaderUpdated(leader)) => Some(leader.leader),
        _ => None,
    };
    assert!(heard(&world).iter().filter_map(led).any(|leader| leader == 2));
    let guests = |world: &World| -> u64 { (0..3).map(|at| world.stats(at).guests_now).sum() };
    assert_eq!(guests(&world), 1);
    world.hang_up(3, P, ticket);
    world.run();
    assert_eq!((guests(&world), world.stats(3).passed_now), (0, 0), "nobody listens any more");
}
