//! Followers that are too far behind get snapshots, however the way there and the disk are.

use super::*;

/// Three nodes of which the third is cut off while the first takes so many commands, and is back
/// when their entries are gone.
fn one_left_behind(seed: u64, commands: usize, change: impl Fn(&mut Settings)) -> World {
    let mut world = World::three_with(seed, change);
    world.found_everywhere(P, &[member(1), member(2), member(3)]);
    world.elect_first(&[P]);
    world.cut(2, true);
    for _ in 0..commands {
        let ticket = world.ask(0, P, Ask::Command, &open_session());
        world.run();
        assert_eq!(world.output(ticket).1, Status::Ok);
    }
    world.cut(2, false);
    world
}

fn few_entries(settings: &mut Settings) {
    settings.snapshot_entries = 10;
    settings.retain_entries = 2;
}

/// The digest that all have.
fn same_digest(world: &World) -> u64 {
    let digests = world.digests(P);
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    digests[0]
}

#[test]
fn a_follower_far_behind_gets_a_snapshot() {
    let mut world = one_left_behind(11, 100, |settings| {
        settings.snapshot_entries = 20;
        settings.retain_entries = 5;
        settings.snapshot_turn_bytes = 64;
    });
    assert!(world.partition(0, P).log_bytes() < 60 * 120, "the log was compacted");
    world.settle();
    let digest = same_digest(&world);
    assert!(world.snapshots_delivered > 0, "the entries were gone");
    // What was received survives a crash of the receiver.
    world.crash(2);
    world.settle();
    assert_eq!(world.digests(P)[2], digest);
    // And it goes on from there.
    let ticket = world.ask(0, P, Ask::Command, &open_session());
    world.settle();
    assert_eq!(world.output(ticket).1, Status::Ok);
    same_digest(&world);
}

#[test]
fn a_snapshot_that_is_lost_is_sent_again() {
    let mut world = one_left_behind(12, 40, few_entries);
    world.lose_snapshots(2);
    world.settle();
    world.settle();
    same_digest(&world);
}

#[test]
fn a_snapshot_that_is_cut_in_the_middle_begins_again() {
    for pieces in [1, 2, 5] {
        let mut world = one_left_behind(13, 40, |settings| {
            few_entries(settings);
            settings.snapshot_turn_bytes = 64;
        });
        world.break_snapshot(2, pieces);
        world.settle();
        world.settle();
        let digests = world.digests(P);
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{pieces}: {digests:?}");
        assert_eq!(world.snapshots_delivered, 2, "{pieces}");
        world.crash(2);
        world.settle();
        assert_eq!(world.digests(P)[2], digests[0], "{pieces}: what was cut is void");
    }
}

#[test]
fn nobody_stands_on_a_snapshot_that_is_not_durable() {
    let mut world = one_left_behind(14, 40, few_entries);
    let before = world.partition(2, P).applied();
    world.hold_disk(2, true);
    world.settle();
    assert!(world.partition(2, P).applied() > before, "what came is installed");
    // Whoever led is silent for longer than an election takes.
    world.cut(0, true);
    world.settle();
    world.hold_disk(2, false);
    world.settle();
    world.cut(0, false);
    world.settle();
    same_digest(&world);
}
