//! Groups with nothing to do rest, cost nothing, and are there as soon as they are needed.

use super::*;
use crate::wire::{
    bundle::{self, Beat, Post},
    format::FORMATS,
};

/// Three nodes with so many quiet groups, which the first leads.
fn quiet(seed: u64, count: u32) -> (World, Vec<PartitionId>) {
    let mut world = World::three(seed);
    let ids: Vec<PartitionId> = (1..=count).map(PartitionId).collect();
    for id in &ids {
        world.found_everywhere(*id, &[member(1), member(2), member(3)]);
    }
    world.elect_first(&ids);
    world.settle();
    assert_eq!(resting(&world), [u64::from(count); 3]);
    (world, ids)
}

fn resting(world: &World) -> Vec<u64> {
    (0..3).map(|at| world.stats(at).resting_now).collect()
}

fn ticks(world: &mut World, count: usize) {
    for _ in 0..count {
        world.pass(TICK);
        world.run();
    }
}

/// Ticks until one of `among` leads; the terms of all are `term` or one more then.
fn ticks_to_lead(world: &mut World, among: &[usize]) -> usize {
    for passed in 1..100 {
        ticks(world, 1);
        if among.iter().any(|at| world.partition(*at, P).is_leader()) {
            return passed;
        }
    }
    panic!("nobody of {among:?} leads")
}

fn open(world: &mut World, at: usize) -> bool {
    let ticket = world.ask(at, P, Ask::Command, &open_session());
    world.run();
    world.is_ok(ticket)
}

const TICK: Span = Span::millis(50);

#[test]
fn what_rests_says_the_same_for_one_and_for_fifty() {
    let said = |count| {
        let (mut world, _) = quiet(1, count);
        let before: Vec<_> = (0..3).map(|at| world.stats(at)).collect();
        ticks(&mut world, 40);
        assert_eq!(resting(&world), [u64::from(count); 3], "nothing woke them");
        let said = (0..3).map(|at| {
            let (now, before) = (world.stats(at), before[at]);
            (now.bundles - before.bundles, now.blocks - before.blocks)
        });
        said.collect::<Vec<_>>()
    };
    // A bundle a heartbeat to each who shares a group with it, as leader or follower.
    assert_eq!(said(1), [(40, 0), (20, 0), (20, 0)]);
    assert_eq!(said(50), said(1));
}

#[test]
fn a_command_wakes_its_group_alone_and_a_read_too() {
    let (mut world, _) = quiet(2, 9);
    assert!(open(&mut world, 0), "the leader takes it at once");
    assert_eq!(resting(&world), [8; 3]);
    world.settle();
    assert_eq!(resting(&world), [9; 3]);
    let body = SessionQueryInput::default().encode_to_vec();
    let read = world.ask(2, P, Ask::Query { at_least: Index(1) }, &body);
    world.run();
    assert!(!world.replies(read).is_empty(), "a follower passed it on, and a quorum was asked");
    assert_eq!(resting(&world), [8; 3]);
    world.settle();
    assert_eq!(resting(&world), [9; 3]);
}

#[test]
fn a_leader_that_falls_silent_is_replaced_in_the_usual_time() {
    for seed in 1..20 {
        let (mut world, _) = quiet(seed, 1);
        world.cut(0, true);
        let passed = ticks_to_lead(&mut world, &[1, 2]);
        // A timeout of 12 to 24 ticks, less the heartbeat before; twice when the votes are split.
        assert!((10..=50).contains(&passed), "seed {seed}: after {passed} ticks");
        assert!(open(&mut world, 1) || open(&mut world, 2));
        world.cut(0, false);
        ticks(&mut world, 60);
        assert_eq!(resting(&world), [1; 3], "seed {seed}: the old leader follows, and all rest");
    }
}

#[test]
fn a_leader_that_nobody_hears_of_steps_down() {
    let (mut world, _) = quiet(3, 1);
    world.cut(0, true);
    ticks(&mut world, 12 + 2 * 12 + 2);
    assert!(!world.partition(0, P).is_leader(), "it asked for its quorum and has none");
}

#[test]
fn a_follower_that_does_not_hear_disturbs_nobody() {
    let (mut world, _) = quiet(4, 3);
    let term = world.partition(0, P).leadership().0;
    world.deafen(0, 1, true);
    ticks(&mut world, 100);
    assert_eq!(resting(&world), [0; 3], "they are awake as long as one does not hear");
    assert!(open(&mut world, 0) && open(&mut world, 2));
    world.deafen(0, 1, false);
    ticks(&mut world, 60);
    assert_eq!(resting(&world), [3; 3]);
    assert_eq!(world.partition(0, P).leadership(), (term, Some(NodeId(1))));
    world.deafen(2, 0, true);
    ticks(&mut world, 100);
    assert_eq!(resting(&world), [0; 3], "and as long as the leader does not hear one");
    assert_eq!(world.partition(0, P).leadership(), (term, Some(NodeId(1))));
}

#[test]
fn a_word_that_is_lost_keeps_nobody_from_resting() {
    let (mut world, _) = quiet(5, 2);
    let term = world.partition(0, P).leadership().0;
    assert!(open(&mut world, 0));
    // Its followers answered, and then do not hear that they may rest.
    while world.stats(0).resting_now < 2 {
        let deaf = world.stats(0).resting_now < 2;
        world.deafen(0, 1, deaf && world.partition(0, P).may_rest(23).is_some());
        ticks(&mut world, 1);
    }
    assert_eq!(resting(&world), [2, 1, 2]);
    world.deafen(0, 1, false);
    ticks(&mut world, 100);
    assert_eq!(resting(&world), [2; 3]);
    assert_eq!(world.partition(0, P).leadership(), (term, Some(NodeId(1))), "it lost its vote");
}

#[test]
fn a_leader_that_lives_and_leads_no_more_is_replaced() {
    let (mut world, _) = quiet(6, 1);
    let said = [1, 2].map(|to| {
        let (last, receiver) = (world.last_bundle(0, to), NodeId(to as u32 + 1));
        let said = bundle::decode(&last, NodeId(1), receiver, FORMATS);
        let (messages, post) = said.expect("a bundle");
        assert!(messages.is_empty() && post.beat.is_some_and(|beat| beat.count == 1));
        let nothing = Post { beat: Some(Beat::default()), ..post };
        (to, bundle::encode(Vec::new(), nothing, FORMATS.newest()))
    });
    world.cut(0, true);
    let term = world.partition(1, P).leadership().0;
    for _ in 0..100 {
        for (to, bytes) in &said {
            world.deliver(*to, NodeId(1), bytes.clone());
        }
        ticks(&mut world, 1);
    }
    assert!(world.partition(1, P).leadership().0 > term);
    assert!(world.partition(1, P).is_leader() || world.partition(2, P).is_leader());
}

#[test]
fn who_starts_again_is_told_at_once() {
    let (mut world, _) = quiet(7, 2);
    let term = world.partition(0, P).leadership().0;
    world.crash(1);
    ticks(&mut world, 100);
    assert_eq!(resting(&world), [2; 3]);
    assert_eq!(world.partition(1, P).leadership(), (term, Some(NodeId(1))));
    world.crash(0);
    ticks(&mut world, 150);
    assert_eq!(resting(&world), [2; 3], "they have a leader again, who rests");
    assert!(open(&mut world, 0) && open(&mut world, 1) && open(&mut world, 2));
}

#[test]
fn what_is_lost_doubled_and_late_does_not_keep_them_awake() {
    for seed in 0..10 {
        let (mut world, _) = quiet(seed, 5);
        world.mischief(Some(Prng::new(seed)));
        for round in 0..300 {
            if round % 30 == 0 {
                let at = round / 30 % 3;
                let _ = world.ask(at, PartitionId(1 + at as u32), Ask::Command, &open_session());
            }
            ticks(&mut world, 1);
        }
        world.mischief(None);
        ticks(&mut world, 200);
        assert_eq!(resting(&world), [5; 3], "seed {seed}");
        assert!(open(&mut world, 0), "seed {seed}");
    }
}
