//! Shards wired together in memory: links that keep their order, disks that finish when told.
//!
//! A round gives each shard that has something to do one turn; what it says arrives in the next
//! round. So rounds count the trips of design.md 6.1.

mod forwarding;
mod operating;
mod resting;
mod snapshots;
mod world;

use prost::Message as _;
use world::{World, close_session, member, open_session};

use crate::{
    id::{Index, NodeId, PartitionId, Position},
    limits::WRITES_IN_FLIGHT_MAX,
    partition::reply::{Body, Event, Happening, Refusal, Status},
    prng::Prng,
    shard::{
        Peers, Settings,
        inbox::{Ask, DiskRoom, Member, Role},
    },
    time::{Instant, Span},
    wire::proto::v1::{
        SessionQueryInput, StateMachineProposalInput, state_machine_proposal_input::Input,
    },
};

const P: PartitionId = PartitionId(1);

#[test]
fn a_lone_group_is_founded_and_takes_commands_at_once() {
    let mut world = World::alone();
    let ticket = world.ask(0, P, bootstrap(&[member(1)]), &[]);
    let commands: Vec<_> = (0..3).map(|_| world.ask(0, P, Ask::Command, &open_session())).collect();
    world.round();
    assert!(world.replies(ticket).is_empty(), "the founding is not durable yet");
    world.round();
    assert!(world.is_ok(ticket));
    for (number, ticket) in commands.into_iter().enumerate() {
        assert_eq!(world.output(ticket), (Index(number as u64 + 1), Status::Ok));
    }
    assert_eq!(world.now.monotonic, Instant(0), "nothing of it waits for a clock");
}

#[test]
fn nothing_is_answered_before_it_is_durable() {
    let mut world = World::alone();
    world.found(0, P, &[member(1)]);
    world.hold_disk(0, true);
    let ticket = world.ask(0, P, Ask::Command, &open_session());
    world.run();
    assert!(world.replies(ticket).is_empty());
    world.hold_disk(0, false);
    world.run();
    assert_eq!(world.output(ticket).1, Status::Ok);
}

/// What comes while the disk has enough to write gathers in one block, whoever waits for it.
#[test]
fn a_slow_disk_gets_few_blocks_of_many_turns() {
    let mut world = World::three(7);
    world.found_everywhere(P, &[member(1), member(2), member(3)]);
    world.elect_first(&[P]);
    let blocks = |world: &World| world.stats(1).blocks;
    // Whom the leader cannot do without.
    world.cut(2, true);
    world.hold_disk(1, true);
    let before = blocks(&world);
    let tickets: Vec<_> = (0..100)
        .map(|_| {
            let ticket = world.ask(0, P, Ask::Command, &open_session());
            world.run();
            ticket
        })
        .collect();
    let most = WRITES_IN_FLIGHT_MAX as u64;
    assert_eq!(blocks(&world) - before, most, "of a hundred turns");
    assert!(tickets.iter().all(|ticket| world.replies(*ticket).is_empty()));
    world.hold_disk(1, false);
    world.run();
    assert!(blocks(&world) - before <= most + 3, "and few once it goes on");
    for ticket in tickets {
        assert_eq!(world.output(ticket).1, Status::Ok);
    }
}

#[test]
fn one_command_and_a_thousand_cost_the_same_trips() {
    let mut costs = Vec::new();
    for (partitions, commands) in [(1, 1), (1, 100), (50, 20)] {
        let mut world = World::three(7);
        let members = [member(1), member(2), member(3)];
        let ids: Vec<_> = (1..=partitions).map(PartitionId).collect();
        for id in &ids {
            world.found_everywhere(*id, &members);
        }
        world.elect_first(&ids);
        let before = world.counts();
        let mut tickets = Vec::new();
        for id in &ids {
            for _ in 0..commands {
                tickets.push(world.ask(0, *id, Ask::Command, &open_session()));
            }
        }
        let rounds = world.run();
        assert!(tickets.iter().all(|ticket| world.output(*ticket).1 == Status::Ok));
        let after = world.counts();
        let spent: Vec<_> =
            after.iter().zip(&before).map(|(after, before)| after.less(before)).collect();
        costs.push((rounds, spent));
    }
    let (rounds, spent) = &costs[0];
    // Propose; own disk; both acknowledgements at once, and the replies.
    assert_eq!((spent[0].turns, spent[0].writes, spent[0].bundles), (3, 1, 2), "{costs:?}");
    assert_eq!((spent[1].turns, spent[1].writes, spent[1].bundles), (2, 1, 1), "{costs:?}");
    assert!(costs.iter().all(|cost| cost == &(*rounds, spent.clone())), "{costs:?}");
}

#[test]
fn a_query_at_the_leader_sees_what_was_answered() {
    let mut world = World::three(3);
    world.found_everywhere(P, &[member(1), member(2), member(3)]);
    world.elect_first(&[P]);
    let command = world.ask(0, P, Ask::Command, &open_session());
    world.run();
    let index = world.output(command).0;
    let body = SessionQueryInput::default().encode_to_vec();
    let queries: Vec<_> =
        (0..50).map(|_| world.ask(0, P, Ask::Query { at_least: index }, &body)).collect();
    let before = world.counts();
    world.run();
    for query in &queries {
        assert_eq!(world.replies(*query).len(), 1, "every query is answered once");
    }
    let spent = world.counts()[0].less(&before[0]);
    assert_eq!((spent.writes, spent.bundles), (0, 2), "one round for all of them: {spent:?}");

    let elsewhere = world.ask(1, P, Ask::Query { at_least: index }, &body);
    world.run();
    let words = Refusal::Malformed("the query is missing".to_owned());
    assert_eq!(world.refusal(elsewhere), words, "the leader's own word");
}

#[test]
fn a_query_for_an_index_that_never_comes_ends_at_its_deadline() {
    let mut world = World::alone();
    world.found(0, P, &[member(1)]);
    let body = SessionQueryInput::default().encode_to_vec();
    let ask = Ask::Query { at_least: Index(1000) };
    let ticket = world.ask_until(0, P, Some(Instant(5_000_000)), ask, &body);
    world.run();
    assert!(world.replies(ticket).is_empty());
    world.pass(Span::millis(6));
    world.run();
    assert_eq!(world.refusal(ticket), Refusal::Deadline);
}

#[test]
fn a_call_whose_deadline_has_passed_never_reaches_the_log() {
    let mut world = World::alone();
    world.found(0, P, &[member(1)]);
    world.pass(Span::millis(10));
    let ticket = world.ask_until(0, P, Some(Instant(1)), Ask::Command, &open_session());
    let before = world.counts();
    world.run();
    assert_eq!(world.refusal(ticket), Refusal::Deadline);
    assert_eq!(world.counts()[0].writes, before[0].writes);
}

#[test]
fn an_old_leader_refuses_and_the_new_one_goes_on() {
    let mut world = World::three(5);
    world.found_everywhere(P, &[member(1), member(2), member(3)]);
    world.elect_first(&[P]);
    let first = world.ask(0, P, Ask::Command, &open_session());
    world.run();
    assert_eq!(world.output(first).0, Index(1));
    world.cut(0, true);
    let lost = world.ask(0, P, Ask::Command, &open_session());
    let leader = world.elect(&[P], &[1, 2]);
    let second = world.ask(leader, P, Ask::Command, &open_session());
    world.run();
    assert_eq!(world.output(second).0, Index(2));
    assert_eq!(world.refusal(lost), Refusal::Unavailable("not the leader"));
    world.cut(0, false);
    world.settle();
    assert_eq!(world.digests(P).iter().collect::<std::collections::BTreeSet<_>>().len(), 1);
    assert_eq!(world.partition(0, P).machine().index(), Index(2), "the lost command is superseded");
}

#[test]
fn a_single_voter_says_nothing_in_a_term_that_is_not_durable() {
    let mut world = World::nodes(2, 15);
    let learner = Member { role: Role::Observer, ..member(2) };
    world.found_everywhere(P, &[member(1), learner]);
    world.settle();
    world.ask(0, P, Ask::Command, &open_session());
    world.settle();
    assert_eq!(world.digests(P)[0], world.digests(P)[1]);
    // After a crash here it would lead in the same term with another entry than the learner has.
    world.crash(0);
    world.hold_disk(0, true);
    let before = world.counts()[0].bundles;
    world.settle();
    assert_eq!(world.counts()[0].bundles, before);
    world.hold_disk(0, false);
    world.ask(0, P, Ask::Command, &open_session());
    world.settle();
    assert_eq!(world.digests(P)[0], world.digests(P)[1]);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..10 {
        let trace = || {
            let mut world = World::three(seed);
            world.found_everywhere(P, &[member(1), member(2), member(3)]);
            let mut prng = Prng::new(seed);
            for _ in 0..120 {
                if prng.chance(300) {
                    let node = prng.below(3) as usize;
                    world.ask(node, P, Ask::Command, &open_session());
                }
                if prng.chance(50) {
                    let node = prng.below(3) as usize;
                    let off = prng.chance(500);
                    world.cut(node, off);
                }
                world.pass(Span::millis(50));
                world.round();
            }
            world.trace.clone()
        };
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

#[test]
fn every_prefix_of_the_blocks_recovers_what_was_answered() {
    let seed = 21;
    let mut prng = Prng::new(seed);
    let mut world = World::alone_with(|settings| {
        settings.snapshot_entries = 7;
        settings.snapshot_turn_bytes = 32;
        settings.layout.segment_bytes = 128 << 10;
        settings.layout.block_bytes_max = 32 << 10;
    });
    world.found(0, P, &[member(1)]);
    let mut answered = Vec::new();
    for _ in 0..60 {
        let tickets: Vec<_> = (0..prng.between(1, 4))
            .map(|_| world.ask(0, P, Ask::Command, &open_session()))
            .collect();
        world.run();
        let index = tickets.iter().map(|ticket| world.output(*ticket).0).max().expect("one");
        answered.push((world.writes(0), index));
    }
    let last = world.partition(0, P).machine().index();
    for kept in 1..=world.writes(0) {
        let mut again = world.with_prefix(0, kept);
        again.run();
        let acknowledged = answered.iter().rev().find(|(writes, _)| *writes <= kept);
        let index = acknowledged.map_or(Index(0), |(_, index)| *index);
        let found = again.partition(0, P).machine().index();
        assert!(found >= index, "seed {seed}: {kept} blocks: {found} of {index}");
        if kept == world.writes(0) {
            assert_eq!(found, last, "seed {seed}");
        }
    }
}

#[test]
fn a_restarted_node_knows_its_groups_and_leads_without_a_tick() {
    let mut world = World::alone();
    world.found(0, P, &[member(1)]);
    let first = world.ask(0, P, Ask::Command, &open_session());
    world.run();
    assert_eq!(world.output(first).0, Index(1));
    let time = world.partition(0, P).machine().time();
    world.crash(0);
    let now = world.now;
    let again = world.ask(0, P, bootstrap(&[member(1)]), &[]);
    let second = world.ask(0, P, Ask::Command, &open_session());
    world.run();
    assert_eq!(world.now, now);
    assert!(world.is_ok(again));
    assert_eq!(world.output(second).0, Index(2));
    assert!(world.partition(0, P).machine().time() >= time);
}

#[test]
fn bootstrap_is_idempotent_and_leave_forgets() {
    let mut world = World::alone();
    world.found(0, P, &[member(1)]);
    let again = world.ask(0, P, bootstrap(&[member(1)]), &[]);
    let other = world.ask(0, P, bootstrap(&[Member { port: 9, ..member(1) }]), &[]);
    let unknown = world.ask(0, PartitionId(9), Ask::Leave, &[]);
    world.run();
    assert!(world.is_ok(again));
    assert!(matches!(world.refusal(other), Refusal::Precondition(_)));
    assert!(matches!(world.refusal(unknown), Refusal::NotFound(_)));

    let ticket = world.ask(0, P, Ask::Command, &open_session());
    world.run();
    assert_eq!(world.output(ticket).0, Index(1));
    let pending = world.ask(0, P, Ask::Command, &open_session());
    let leave = world.ask(0, P, Ask::Leave, &[]);
    let after = world.ask(0, P, Ask::Command, &open_session());
    world.run();
    assert!(world.is_ok(leave));
    assert!(matches!(world.refusal(pending), Refusal::Unavailable(_)));
    assert!(matches!(world.refusal(after), Refusal::Unavailable(_)));
    world.crash(0);
    let gone = world.ask(0, P, Ask::Command, &open_session());
    world.run();
    assert!(matches!(world.refusal(gone), Refusal::Unavailable(_)));
    // It may be founded anew, and is empty.
    world.found(0, P, &[member(1)]);
    let ticket = world.ask(0, P, Ask::Command, &open_session());
    world.run();
    assert_eq!(world.output(ticket).0, Index(1));
}

#[test]
fn watchers_hear_what_is_and_then_what_happens() {
    let mut world = World::alone();
    let early = world.ask(0, PartitionId(0), Ask::WatchNode, &[]);
    world.found(0, P, &[member(1)]);
    let late = world.ask(0, PartitionId(0), Ask::WatchNode, &[]);
    let partition = world.ask(0, P, Ask::WatchPartition, &[]);
    let unknown = world.ask(0, PartitionId(7), Ask::WatchPartition, &[]);
    world.run();
    let events = world.events(early);
    let ready = Happening::MemberReady { node: NodeId(1) };
    assert!(events.iter().any(|event| event.what == ready && event.at.is_some()), "{events:?}");
    let leads = |event: &Event| {
        let leader = Some(NodeId(1));
        event.what == Happening::LeaderUpdated { leader, term: crate::id::Term(1) }
    };
    assert!(events.iter().any(leads), "{events:?}");
    let replayed = world.events(late);
    assert!(replayed.iter().all(|event| event.at.is_none()), "{replayed:?}");
    assert!(leads(&replayed[0]) && replayed[1].what == ready, "{replayed:?}");
    let here = Happening::ServiceConfigChanged {
        leader: "localhost:5678".to_owned(),
        followers: Vec::new(),
    };
    assert_eq!(world.events(partition)[0].what, here);
    assert_eq!(world.refusal(unknown), Refusal::Unavailable("unknown partition"));
    world.ask(0, P, Ask::Leave, &[]);
    world.run();
    assert!(matches!(world.refusal(partition), Refusal::Unavailable(_)));
}

#[test]
fn a_watcher_of_a_partition_learns_of_each_leader() {
    let mut world = World::three(9);
    world.found_everywhere(P, &[member(1), member(2), member(3)]);
    world.elect_first(&[P]);
    let watcher = world.ask(1, P, Ask::WatchPartition, &[]);
    world.run();
    world.cut(0, true);
    let leader = world.elect(&[P], &[1, 2]);
    let events = world.events(watcher);
    let config = events.last().expect("there are events");
    let Happening::ServiceConfigChanged { leader: address, followers } = &config.what else {
        panic!("{config:?} does not say where to send requests")
    };
    let name = if leader == 1 { "localhost:5678".to_owned() } else { "node3:5678".to_owned() };
    assert_eq!((address, followers.len()), (&name, 2));
    let before = &events[events.len() - 2];
    assert!(matches!(before.what, Happening::LeaderUpdated { .. }));
    assert_eq!(before.at, config.at);
}

/// A controller counts members from 1 in every group, so one node has several names.
#[test]
fn each_group_has_a_name_of_its_own_for_this_node() {
    let mut world = World::alone();
    let watch = world.ask(0, PartitionId(0), Ask::WatchNode, &[]);
    let ask = |local, members: &[Member]| Ask::Bootstrap {
        local: NodeId(local),
        members: members.to_vec(),
    };
    let groups = [(P, 1), (PartitionId(2), 3)];
    for (id, local) in groups {
        let founded = world.ask(0, id, ask(local, &[member(local)]), &[]);
        world.run();
        assert!(world.is_ok(founded), "{:?}", world.replies(founded));
    }
    let leads = |ticket, world: &World| {
        let told = world.replies(ticket).iter().filter_map(|reply| match &reply.body {
            Body::Event(Event {
                partition,
                local,
                what: Happening::LeaderUpdated { leader: Some(leader), .. },
                ..
            }) => Some((*partition, local.0, leader.0)),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    let expected: Vec<_> = groups.iter().map(|(id, local)| (*id, *local, *local)).collect();
    assert_eq!(leads(watch, &world), expected);

    world.crash(0);
    let again = world.ask(0, PartitionId(2), ask(3, &[member(3)]), &[]);
    let without = world.ask(0, PartitionId(2), ask(3, &[]), &[]);
    let another = world.ask(0, PartitionId(2), ask(1, &[member(1)]), &[]);
    let nobody = world.ask(0, PartitionId(3), ask(1, &[member(2)]), &[]);
    world.run();
    assert!(world.is_ok(again) && world.is_ok(without));
    assert!(matches!(world.refusal(another), Refusal::Precondition(_)));
    assert!(matches!(world.refusal(nobody), Refusal::Malformed(_)));
    let watch = world.ask(0, PartitionId(0), Ask::WatchNode, &[]);
    world.run();
    assert_eq!(leads(watch, &world), expected);
}

#[test]
fn cores_pass_calls_on_by_letter() {
    let mut world = World::cores(3);
    let id = PartitionId(2);
    let found = world.ask(0, id, bootstrap(&[member(1)]), &[]);
    world.run();
    assert!(world.is_ok(found));
    let command = world.ask(1, id, Ask::Command, &open_session());
    let body = SessionQueryInput::default().encode_to_vec();
    let query = world.ask(0, id, Ask::Query { at_least: Index(0) }, &body);
    let watch = world.ask(1, PartitionId(0), Ask::WatchNode, &[]);
    world.run();
    assert_eq!(world.output(command), (Index(1), Status::Ok));
    assert_eq!(world.replies(query).len(), 1);
    assert_eq!(world.events(watch).len(), 2);
    world.hang_up(1, PartitionId(0), watch);
    world.found(0, PartitionId(5), &[member(1)]);
    assert_eq!(world.events(watch).len(), 2);
}

#[test]
fn bounds_refuse_and_keep_alives_pass() {
    let mut world = World::alone_with(|settings| settings.commands_max = 8);
    world.found(0, P, &[member(1)]);
    let opened: Vec<_> = (0..10).map(|_| world.ask(0, P, Ask::Command, &open_session())).collect();
    let input = Input::KeepAlive(Default::default());
    let body = StateMachineProposalInput { timestamp: None, input: Some(input) }.encode_to_vec();
    let alive = world.ask(0, P, Ask::Command, &body);
    world.run();
    assert!(opened[..8].iter().all(|ticket| world.output(*ticket).1 == Status::Ok));
    assert!(opened[8..].iter().all(|ticket| matches!(world.refusal(*ticket), Refusal::Full(_))));
    assert!(!matches!(world.replies(alive)[0].body, Body::Refused(Refusal::Full(_))));

    world.disk_room(0, DiskRoom::Full);
    let opens = world.ask(0, P, Ask::Command, &open_session());
    let input = Input::Proposal(Default::default());
    let body = StateMachineProposalInput { timestamp: None, input: Some(input) }.encode_to_vec();
    let grows = world.ask(0, P, Ask::Command, &body);
    let shrinks = world.ask(0, P, Ask::Command, &close_session(1));
    world.run();
    assert!(matches!(world.refusal(grows), Refusal::Full(_)));
    // Who only wants to read, or to remove, needs a session too.
    assert_eq!(world.output(opens).1, Status::Ok);
    assert!(!matches!(world.replies(shrinks)[0].body, Body::Refused(Refusal::Full(_))));
    assert_eq!(world.stats(0).commands_now, 0);
}

#[test]
fn the_journal_is_recycled_when_partitions_hold_it_back() {
    let mut world = World::alone_with(|settings| {
        settings.layout.segment_bytes = 64 << 10;
        settings.layout.block_bytes_max = 16 << 10;
        settings.segments_soft = 4;
        settings.snapshot_entries = 1_000_000;
    });
    // One that writes once and then is silent, and one that never is.
    world.found(0, PartitionId(2), &[member(1)]);
    world.ask(0, PartitionId(2), Ask::Command, &open_session());
    world.found(0, P, &[member(1)]);
    for _ in 0..400 {
        world.ask(0, P, Ask::Command, &open_session());
        world.run();
    }
    let segments = world.stats(0).segments_now;
    assert!(segments <= 6, "{segments} segments");
    world.crash(0);
    world.run();
    assert_eq!(world.partition(0, PartitionId(2)).machine().index(), Index(1));
    assert_eq!(world.partition(0, P).machine().index(), Index(400));
}

#[test]
fn a_wall_clock_that_steps_changes_nothing() {
    let mut world = World::alone();
    world.now.wall.0 = 1_700_000_000_000_000_000;
    world.found(0, P, &[member(1)]);
    world.ask(0, P, Ask::Command, &open_session());
    world.run();
    let before = world.partition(0, P).machine().time();
    for wall in [1, u64::MAX / 2, 1_600_000_000_000_000_000] {
        world.now.wall.0 = wall;
        world.pass(Span::millis(1));
        world.ask(0, P, Ask::Command, &open_session());
        world.run();
    }
    let after = world.partition(0, P).machine().time();
    assert_eq!(after.since(before), Span::millis(3));
    assert!(world.partition(0, P).applied() > Position(0));
}

#[test]
fn peers_that_are_no_members_have_no_say() {
    let mut world = World::three(2);
    world.found(0, P, &[member(1)]);
    let settings = Settings { peers: Peers::Allowed, ..Settings::default() };
    assert_eq!(settings.peers, Peers::Allowed);
    let ticket = world.ask(0, P, Ask::Command, &open_session());
    world.deliver(0, NodeId(2), &b"not a bundle"[..]);
    world.run();
    assert_eq!(world.output(ticket).1, Status::Ok);
    assert_eq!(world.stats(0).frames_broken, 1);
    assert_eq!(member(1).role, Role::Member);
}

#[test]
fn nothing_that_was_answered_is_ever_lost() {
    let (mut answered, mut snapshots) = (0, 0);
    for seed in 0..STORMS {
        let (of_seed, sent) = storm(seed);
        answered += of_seed;
        snapshots += sent;
    }
    // A storm in which nothing works proves nothing.
    assert!(answered > 100 && snapshots > 0, "{answered} answers, {snapshots} snapshots");
}

/// About three seconds of a debug build.
const STORMS: u64 = 25;

/// Three nodes of three groups, with crashes, cuts, slow disks, and messages lost, doubled and
/// delayed. How many commands were answered, and snapshots delivered.
fn storm(seed: u64) -> (usize, usize) {
    let mut prng = Prng::new(seed);
    let entries = prng.between(3, 40);
    let slice = prng.between(16, 4096) as usize;
    let retain = prng.below(10);
    let mut world = World::three_with(seed, |settings| {
        settings.snapshot_entries = entries;
        settings.snapshot_turn_bytes = slice;
        settings.retain_entries = retain;
        settings.layout.segment_bytes = 256 << 10;
        settings.layout.block_bytes_max = 32 << 10;
        settings.segments_soft = 3;
    });
    let ids = [PartitionId(1), PartitionId(2), PartitionId(3)];
    for id in ids {
        world.found_everywhere(id, &[member(1), member(2), member(3)]);
    }
    world.mischief(Some(prng.fork(1)));
    let mut asked: Vec<(PartitionId, crate::id::Ticket)> = Vec::new();
    for _ in 0..600 {
        let node = prng.below(3) as usize;
        match prng.below(100) {
            0..=1 => world.crash(node),
            2..=4 => {
                let off = prng.chance(500);
                world.cut(node, off);
            }
            5..=9 => {
                let held = prng.chance(400);
                world.hold_disk(node, held);
            }
            10..=60 => {
                let id = *prng.pick(&ids);
                asked.push((id, world.ask(node, id, Ask::Command, &open_session())));
            }
            61..=63 => world.break_link(node, (node + 1) % 3),
            _ => world.pass(Span::millis(prng.below(60))),
        }
        world.round();
    }
    world.mischief(None);
    for node in 0..3 {
        world.cut(node, false);
        world.hold_disk(node, false);
    }
    for _ in 0..10 {
        world.settle();
    }
    assert_eq!(forwarding::counts(&world), [(0, 0); 3], "seed {seed}: calls are left over");
    let mut answered = 0;
    for id in ids {
        let digests = world.digests(id);
        assert!(digests.iter().all(|digest| *digest == digests[0]), "seed {seed}: {digests:?}");
        let leaders = (0..3).filter(|node| world.partition(*node, id).is_leader()).count();
        assert_eq!(leaders, 1, "seed {seed}: partition {id}");
        let index = world.partition(0, id).machine().index();
        let mut seen = std::collections::BTreeSet::new();
        for (_, ticket) in asked.iter().filter(|(asked, _)| *asked == id) {
            let replies = world.replies(*ticket);
            assert!(replies.len() <= 1, "seed {seed}: {replies:?}");
            if let Some(Body::Output(output)) = replies.first().map(|reply| &reply.body) {
                assert!(output.index <= index, "seed {seed}: {} of {index} is lost", output.index);
                assert!(seen.insert(output.index), "seed {seed}: {} twice", output.index);
                answered += 1;
            }
        }
    }
    (answered, world.snapshots_delivered)
}

#[test]
fn a_panic_halts_its_partition_and_no_other() {
    let mut world = World::alone();
    let other = PartitionId(2);
    world.found(0, P, &[member(1)]);
    world.found(0, other, &[member(1)]);
    world.poison(0, P);
    let fatal = world.ask(0, P, Ask::Command, &open_session());
    let fine = world.ask(0, other, Ask::Command, &open_session());
    world.run();
    let halted = Refusal::Unavailable("this partition is halted on this node");
    assert_eq!(world.refusal(fatal), halted);
    assert_eq!(world.output(fine).1, Status::Ok);
    let later = world.ask(0, P, Ask::Command, &open_session());
    let query = world.ask(0, P, Ask::Query { at_least: Index(0) }, &[]);
    world.run();
    assert_eq!((world.refusal(later), world.refusal(query)), (halted.clone(), halted));
    assert_eq!((world.stats(0).halted, world.stats(0).commands_now), (1, 0));
    // The command was committed, so a start that survives it has it.
    world.crash(0);
    world.run();
    assert_eq!(world.partition(0, P).machine().index(), Index(1));
}

#[test]
fn when_a_leader_halts_the_others_go_on() {
    let mut world = World::three(4);
    world.found_everywhere(P, &[member(1), member(2), member(3)]);
    world.elect_first(&[P]);
    world.poison(0, P);
    let fatal = world.ask(0, P, Ask::Command, &open_session());
    world.run();
    assert!(matches!(world.refusal(fatal), Refusal::Unavailable(_)));
    let leader = world.elect(&[P], &[1, 2]);
    let ticket = world.ask(leader, P, Ask::Command, &open_session());
    world.run();
    assert_eq!(world.output(ticket), (Index(2), Status::Ok), "the first was committed");
}

#[test]
fn a_leader_that_leaves_hands_over_at_once() {
    let mut world = World::three(6);
    world.found_everywhere(P, &[member(1), member(2), member(3)]);
    world.elect_first(&[P]);
    let now = world.now;
    let leave = world.ask(0, P, Ask::Leave, &[]);
    world.run();
    assert!((1..3).any(|node| world.partition(node, P).is_leader()));
    assert_eq!(world.now, now, "nobody waited for an election timeout");
    world.settle();
    assert!(world.is_ok(leave));
    let members = world.partition(1, P).members();
    assert!(members.iter().all(|member| member.node != NodeId(1)), "{members:?}");
    let back = world.ask(0, P, bootstrap(&[member(1), member(2), member(3)]), &[]);
    world.run();
    assert!(matches!(world.refusal(back), Refusal::Precondition(_)));
}

#[test]
fn a_replica_whose_log_lost_what_it_promised_stops() {
    let mut world = World::three(8);
    world.found_everywhere(P, &[member(1), member(2), member(3)]);
    world.elect_first(&[P]);
    for _ in 0..10 {
        world.ask(0, P, Ask::Command, &open_session());
        world.settle();
    }
    world.lose_blocks(2, 3);
    world.settle();
    assert!(world.partition(2, P).is_halted());
    let ticket = world.ask(0, P, Ask::Command, &open_session());
    world.run();
    assert_eq!(world.output(ticket).1, Status::Ok, "the other two go on");
}

#[test]
fn more_than_an_entry_holds_becomes_two() {
    let mut world = World::alone_with(|settings| settings.layout = Default::default());
    world.found(0, P, &[member(1)]);
    let mut body = open_session();
    // Field 2000 of the input, which readers skip: 3 MiB of nothing.
    crate::wire::field::put_bytes(&mut body, 2000, &vec![0; 3 << 20]);
    let before = world.partition(0, P).applied();
    let tickets: Vec<_> = (0..4).map(|_| world.ask(0, P, Ask::Command, &body)).collect();
    world.run();
    assert!(tickets.iter().all(|ticket| world.output(*ticket).1 == Status::Ok));
    assert_eq!(world.partition(0, P).applied().0 - before.0, 2);
}

/// To found a group here with these.
fn bootstrap(members: &[Member]) -> Ask {
    Ask::Bootstrap { local: NodeId(1), members: members.to_vec() }
}
