//! Members of a group that come and go, with real nodes over loopback.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::{Duration, Instant};

use ringraft::wire::proto::counter;
use ringraft::wire::proto::v1::member_config::Role;
use ringraft::wire::proto::v1::*;
use tonic::Code;

mod harness;

use harness::nodes::{CONFIG, Nodes};
use harness::{binary, possible};

/// So many nodes, of which the first three have a group.
async fn three_of(count: u32) -> Nodes {
    founded(count, [Role::Member; 3]).await
}

/// So many nodes, of which the first three have a group in these parts. Logs are cut soon, and what
/// is cut is not kept for those behind.
async fn founded(count: u32, parts: [Role; 3]) -> Nodes {
    let config = format!("{CONFIG}snapshot_entries = 16\nretain_entries = 0\n");
    let nodes = Nodes::start_with(&vec![2; count as usize], &config);
    let founders = [1, 2, 3].map(|id| nodes.member(id, parts[id as usize - 1]));
    for id in 1..=3 {
        let group = Some(GroupConfig { group_id: 1, members: founders.to_vec() });
        let request = BootstrapRequest { group };
        let _: BootstrapResponse = nodes.ask(id, "Bootstrap", request).await.expect("founded");
    }
    nodes
}

/// Adds one through node `id`, trying again as clients do.
async fn add(nodes: &Nodes, id: u32) -> i64 {
    let mut session = nodes.session(id as usize - 1, 1).await;
    let (primitive, counter) = (PrimitiveSpec::default(), "atomix.runtime.counter.v1.Counter");
    let spec = PrimitiveSpec { service: counter.to_owned(), name: "c".to_owned(), ..primitive };
    let input = CreatePrimitiveInput { spec: Some(spec) };
    let path = "/atomix.multiraft.v1.Session/CreatePrimitive";
    let created: CreatePrimitiveOutput = session.insist(0, path, input).await;
    let path = "/atomix.multiraft.counter.v1.Counter/Increment";
    let input = counter::v1::IncrementInput { delta: 1 };
    let output: counter::v1::IncrementOutput =
        session.insist(created.primitive_id, path, input).await;
    output.value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_node_joins_and_counts_when_others_are_gone() {
    if !possible() {
        return;
    }
    let mut nodes = three_of(5).await;
    assert_eq!(add(&nodes, 1).await, 1);
    nodes.join(4, 2, Role::Member).await.expect("admitted");
    nodes.join(4, 2, Role::Member).await.expect("what is so stays so");
    nodes.join(5, 4, Role::Member).await.expect("whoever belongs to the group may be asked");
    // Five vote: without two of the founders the others are a majority, from disk as well.
    nodes.place_mut(1).kill();
    nodes.place_mut(2).kill();
    assert_eq!(add(&nodes, 4).await, 2);
    for id in [3, 4, 5] {
        nodes.place_mut(id).kill();
    }
    for id in [3, 4, 5] {
        nodes.place_mut(id).start();
    }
    assert_eq!(add(&nodes, 5).await, 3, "members and addresses are read back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_is_replaced_by_another() {
    if !possible() {
        return;
    }
    let mut nodes = three_of(4).await;
    assert_eq!(add(&nodes, 1).await, 1);
    nodes.place_mut(3).kill();
    nodes.join(4, 1, Role::Member).await.expect("a majority admits it");
    nodes.place_mut(2).kill();
    // Two of four are no majority.
    let refused = nodes.leave(4).await.expect_err("nobody can let it go");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains("start its other members"), "{refused}");
    nodes.place_mut(2).start();
    // What was asked may still come true, as after every UNAVAILABLE; the group goes on either way.
    assert_eq!(add(&nodes, 1).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_leave_until_one_is_left() {
    if !possible() {
        return;
    }
    let nodes = three_of(4).await;
    assert_eq!(add(&nodes, 1).await, 1);
    nodes.join(4, 1, Role::Observer).await.expect("admitted");
    assert_eq!(add(&nodes, 4).await, 2, "an observer passes calls on");
    for (gone, value) in [(1, 3), (4, 4), (2, 5)] {
        nodes.leave(gone).await.unwrap_or_else(|status| panic!("node {gone}: {status}"));
        let again = nodes.leave(gone).await.expect_err("it is gone");
        assert_eq!(again.code(), Code::NotFound, "{again}");
        assert_eq!(add(&nodes, 3).await, value);
    }
    let back = nodes.join(1, 3, Role::Member).await.expect_err("its votes were counted");
    assert_eq!(back.code(), Code::FailedPrecondition, "{back}");
    nodes.leave(3).await.expect("the last one just leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_and_a_witness_outlive_either_member() {
    if !possible() {
        return;
    }
    let mut nodes = founded(3, [Role::Member, Role::Member, Role::Witness]).await;
    assert_eq!(add(&nodes, 3).await, 1, "a witness passes calls on");
    // What comes through the other member has come to it as well.
    for value in 2..=4 {
        assert_eq!(add(&nodes, 2).await, value);
    }
    nodes.place_mut(1).kill();
    assert_eq!(add(&nodes, 2).await, 5);
    nodes.place_mut(3).kill();
    nodes.place_mut(3).start();
    for value in 6..=12 {
        assert_eq!(add(&nodes, 3).await, value, "it votes with what it has on disk");
    }
    nodes.place_mut(1).start();
    for value in 13..=15 {
        assert_eq!(add(&nodes, 1).await, value);
    }
    nodes.place_mut(2).end();
    assert_eq!(add(&nodes, 3).await, 16, "the other member leads");
    nodes.place_mut(3).kill();
    let dump = Command::new(binary()).args(["log", "dump"]).arg(nodes.place_mut(3).data()).output();
    let dump = String::from_utf8(dump.unwrap().stdout).unwrap();
    assert!(dump.contains("complete") && dump.contains(" 0 slices"), "its log is cut: {dump}");
    assert!(!dump.contains("snapshot slice"), "it has no state: {dump}");
    nodes.place_mut(3).start();
    assert_eq!(add(&nodes, 1).await, 17);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_joins_and_stays_one() {
    if !possible() {
        return;
    }
    let mut nodes = three_of(5).await;
    for value in 1..=8 {
        assert_eq!(add(&nodes, 1).await, value);
    }
    nodes.join(4, 2, Role::Witness).await.expect("admitted");
    nodes.join(4, 2, Role::Witness).await.expect("what is so stays so");
    for part in [Role::Member, Role::Observer] {
        let other = nodes.join(4, 2, part).await.expect_err("it has no state");
        assert_eq!(other.code(), Code::FailedPrecondition, "{other}");
    }
    nodes.join(5, 4, Role::Observer).await.expect("a witness knows who leads");
    let other = nodes.join(5, 1, Role::Witness).await.expect_err("it has the state");
    assert_eq!(other.code(), Code::FailedPrecondition, "{other}");
    nodes.leave(1).await.expect("let go");
    for (through, value) in [(4, 9), (5, 10), (2, 11), (3, 12)] {
        assert_eq!(add(&nodes, through).await, value);
    }
    for id in [4, 5] {
        nodes.place_mut(id).kill();
        nodes.place_mut(id).start();
    }
    nodes.leave(3).await.expect("let go");
    assert_eq!(add(&nodes, 5).await, 13, "a member and a witness decide");
    let last = nodes.leave(2).await.expect_err("nobody else could lead");
    assert_eq!(last.code(), Code::FailedPrecondition, "{last}");
    nodes.leave(4).await.expect("let go");
    nodes.leave(5).await.expect("let go");
    nodes.leave(2).await.expect("the last one just leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_ends_hands_over_first() {
    if !possible() {
        return;
    }
    let mut nodes = three_of(3).await;
    let mut value = 0;
    for id in 1..=3 {
        value += 1;
        assert_eq!(add(&nodes, id).await, value);
        let node = nodes.place_mut(id).node.take().expect("it runs");
        let ended = node.end_with("TERM", Duration::from_secs(10));
        let began = Instant::now();
        value += 1;
        assert_eq!(add(&nodes, id % 3 + 1).await, value);
        let stall = began.elapsed();
        eprintln!("node {id} ended in {:?}; the next command took {stall:?}", ended.1);
        nodes.place_mut(id).start();
    }
}
