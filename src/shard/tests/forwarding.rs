//! Calls that came to the wrong node: answered as by the leader, never silent, never left over.

use super::*;
use crate::id::Ticket;

/// Three nodes, of which the first leads; its followers' links are known to carry.
fn three(seed: u64) -> World {
    let mut world = World::three(seed);
    world.found_everywhere(P, &[member(1), member(2), member(3)]);
    world.elect_first(&[P]);
    world
}

/// A call that waits for as long as its caller does.
fn waits(world: &mut World, at: usize) -> Ticket {
    let body = SessionQueryInput::default().encode_to_vec();
    world.ask(at, P, Ask::Query { at_least: Index(1_000_000) }, &body)
}

fn counts(world: &World) -> Vec<(u64, u64)> {
    (0..3).map(|at| (world.stats(at).passed_now, world.stats(at).guests_now)).collect()
}

fn pass(world: &mut World, span: Span) {
    for _ in 0..span.0 / Span::millis(50).0 {
        world.pass(Span::millis(50));
        world.run();
    }
}

#[test]
fn a_call_through_a_follower_is_answered_as_by_the_leader() {
    let mut world = three(1);
    let there = world.ask(0, P, Ask::Command, &open_session());
    world.run();
    let here = world.ask(1, P, Ask::Command, &open_session());
    world.run();
    assert_eq!(world.output(here).0, Index(world.output(there).0.0 + 1));
    let refused = [0, 2].map(|at| world.ask(at, P, Ask::Command, &close_session(77)));
    let unknown = [0, 2].map(|at| world.ask(at, P, Ask::Command, b""));
    world.run();
    assert_eq!(world.refusal(refused[0]), world.refusal(refused[1]));
    assert_eq!(world.refusal(unknown[0]), world.refusal(unknown[1]));
    let due = world.now.monotonic.after(Span::millis(30));
    let late = world.ask_until(1, P, Some(due), Ask::Query { at_least: Index(99) }, &[]);
    world.run();
    assert_eq!(counts(&world), [(0, 1), (1, 0), (0, 0)]);
    world.pass(Span::millis(31));
    world.run();
    assert_eq!(world.refusal(late), Refusal::Deadline, "its deadline went with it");
    assert_eq!(counts(&world), [(0, 0); 3]);
    assert_eq!(world.stats(0).passed_on, 0, "who leads passes nothing on");
}

#[test]
fn a_leader_that_does_not_hear_is_as_good_as_lost() {
    let mut world = three(2);
    world.deafen(1, 0, true);
    let ticket = waits(&mut world, 1);
    pass(&mut world, Span::millis(500));
    assert!(world.replies(ticket).is_empty(), "it may only be late");
    pass(&mut world, Span::millis(600));
    assert!(world.partition(0, P).is_leader(), "the third node hears and is heard");
    assert!(matches!(world.refusal(ticket), Refusal::Unavailable(text) if text.contains("hear")));
    let next = world.ask(1, P, Ask::Command, &open_session());
    world.run();
    assert!(matches!(world.refusal(next), Refusal::Unavailable(_)), "nobody waits twice");
    world.deafen(1, 0, false);
    pass(&mut world, Span::millis(300));
    let after = world.ask(1, P, Ask::Command, &open_session());
    world.run();
    assert!(world.is_ok(after));
    assert_eq!(counts(&world), [(0, 0); 3]);
}

#[test]
fn a_busy_way_is_not_taken_for_a_deaf_one() {
    let mut world = three(3);
    let ticket = waits(&mut world, 1);
    for _ in 0..60 {
        let command = world.ask(1, P, Ask::Command, &open_session());
        pass(&mut world, Span::millis(50));
        assert!(world.is_ok(command));
    }
    assert!(world.replies(ticket).is_empty(), "it waits on");
    assert_eq!(counts(&world), [(0, 1), (1, 0), (0, 0)]);
    world.hang_up(1, P, ticket);
    world.run();
    assert_eq!(counts(&world), [(0, 0); 3], "the leader hears that nobody waits");
}

#[test]
fn a_call_that_comes_and_goes_in_one_turn_leaves_no_guest() {
    let mut world = three(4);
    let ticket = waits(&mut world, 1);
    world.hang_up(1, P, ticket);
    world.run();
    assert_eq!(counts(&world), [(0, 0); 3]);
    assert_eq!(world.partition(0, P).queries(), 0);
}

#[test]
fn a_link_that_breaks_for_one_side_is_broken_for_both() {
    for told in [0, 1] {
        let mut world = three(5);
        let ticket = waits(&mut world, 1);
        let own = waits(&mut world, 0);
        world.run();
        world.break_link(told, 1 - told);
        pass(&mut world, Span::millis(200));
        assert!(matches!(world.refusal(ticket), Refusal::Unavailable(_)), "told {told}");
        assert!(world.replies(own).is_empty(), "the leader's own callers wait on");
        assert_eq!(counts(&world), [(0, 0); 3], "told {told}");
        assert_eq!(world.partition(0, P).queries(), 1);
        let after = world.ask(1, P, Ask::Command, &open_session());
        world.run();
        assert!(world.is_ok(after), "told {told}");
    }
}

#[test]
fn links_that_flap_leave_nothing_behind() {
    let mut prng = Prng::new(6);
    let mut world = three(6);
    let mut open: Vec<(usize, Ticket)> = Vec::new();
    for _ in 0..2000 {
        let at = prng.below(3) as usize;
        match prng.below(20) {
            0 => world.break_link(at, (at + 1) % 3),
            1 => world.break_link(at, (at + 2) % 3),
            2 => {
                let (to, off) = ((at + 1 + prng.below(2) as usize) % 3, prng.chance(400));
                world.deafen(at, to, off);
            }
            3..8 => open.push((at, waits(&mut world, at))),
            8..14 => drop(world.ask(at, P, Ask::Command, &open_session())),
            14 if !open.is_empty() => {
                let (at, ticket) = open.swap_remove(prng.below(open.len() as u64) as usize);
                world.hang_up(at, P, ticket);
            }
            _ => world.pass(Span::millis(prng.below(80))),
        }
        world.round();
    }
    for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        world.deafen(from, to, false);
    }
    for _ in 0..3 {
        world.settle();
    }
    // Who still waits anywhere waits at the leader, and each guest there is a call that is out.
    let (out, guests): (Vec<u64>, Vec<u64>) = counts(&world).into_iter().unzip();
    assert_eq!(out.iter().sum::<u64>(), guests.iter().sum::<u64>(), "{out:?} {guests:?}");
    for (at, ticket) in open {
        world.hang_up(at, P, ticket);
    }
    world.settle();
    assert_eq!(counts(&world), [(0, 0); 3]);
    for at in 0..3 {
        assert_eq!(world.partition(at, P).queries(), 0);
    }
}
