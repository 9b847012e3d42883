//! Nodes that must not be linked say why, on both sides, in one line each; the others go on.

use ringraft::wire::proto::v1::GroupConfig;

use crate::group::{CONFIG, Nodes, found, member};
use crate::harness::calls::add;
use crate::harness::{Node, data_dir, ports, possible};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_reaches_itself_says_so() {
    if !possible() {
        return;
    }
    let mut nodes = Nodes::start(&[1]);
    let place = &mut nodes.places[0];
    place.kill();
    place.peer = ports::spaced("127.0.0.1", &[0]).to_string();
    place.start();
    // Under another name, which may mean several addresses.
    let named = place.peer.replace("127.0.0.1", "localhost");
    let members = vec![member(1, &place.peer), member(2, &named)];
    found(&place.api, GroupConfig { group_id: 1, members }).await;
    place.heard.until(&["a peer is refused", "reached itself under the address of node 2"]);
    place.heard.until(&["no link to the peer", "reached itself under the address of node 2"]);
    assert_eq!(place.heard.count(&["reached itself"]), 2, "a line from each side");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_of_one_id_are_told_apart() {
    if !possible() {
        return;
    }
    let nodes = Nodes::start(&[1]);
    let dir = data_dir();
    let listen = "127.0.0.9:0";
    let flags = ["--listen", listen, "--peer-listen", listen, "--partitions", "0"];
    let mut twin = Node::start(dir.path(), &flags);
    let heard = twin.heard();
    let place = &nodes.places[0];
    let members = vec![member(1, &place.peer), member(2, &twin.peer)];
    found(&place.api, GroupConfig { group_id: 1, members }).await;
    place.heard.until(&["no link to the peer", "two nodes have the id 1"]);
    heard.until(&["a peer is refused", "two nodes have the id 1"]);
    assert_eq!((place.heard.count(&["two nodes"]), heard.count(&["two nodes"])), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_different_clusters_are_not_linked() {
    if !possible() {
        return;
    }
    let nodes = Nodes::start(&[1]);
    let other = Nodes::start_with(&[1, 1], &format!("{CONFIG}[cluster]\nheartbeat_ms = 150\n"));
    let (first, second) = (&nodes.places[0], &other.places[1]);
    let members = vec![member(1, &first.peer), member(2, &second.peer)];
    for place in [first, second] {
        found(&place.api, GroupConfig { group_id: 1, members: members.clone() }).await;
    }
    for place in [first, second] {
        place.heard.until(&["a peer is refused", "another cluster"]);
        place.heard.until(&["no link to the peer", "another cluster"]);
        assert_eq!(place.heard.count(&["another cluster"]), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_data_is_gone_is_refused_and_the_others_go_on() {
    if !possible() {
        return;
    }
    let mut nodes = Nodes::start(&[1, 1, 1]);
    nodes.found(1, |_, other| other.peer.clone()).await;
    let mut session = nodes.session(0, 1).await;
    let counter = session.create("atomix.runtime.counter.v1.Counter", "c").await;
    // All know each other when each has linked to both others.
    for place in &nodes.places {
        for other in nodes.places.iter().filter(|other| other.id != place.id) {
            place.heard.until(&["linked to the peer", &format!("node={}", other.id)]);
        }
    }
    nodes.places[2].kill();
    nodes.places[2].wipe();
    nodes.places[2].start();
    nodes.found(1, |_, other| other.peer.clone()).await;
    let words = "node 3 came back with other data";
    for place in &nodes.places[..2] {
        place.heard.until(&["a peer is refused", words]);
        place.heard.until(&["no link to the peer", words]);
    }
    nodes.places[2].heard.until(&["no link to the peer", words]);
    nodes.places[2].heard.until(&["a peer is refused", words]);
    let leader = nodes.leader(1).await;
    assert_ne!(leader, 2, "its votes do not count");
    session.caller = nodes.caller(leader).await;
    assert_eq!(add(&mut session, counter, 1).await, Ok(1));
    for place in &nodes.places {
        assert!(place.heard.count(&[words]) <= 6, "not a line for each try");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_means_nothing_holds_nobody_up() {
    if !possible() {
        return;
    }
    let nodes = Nodes::start(&[1, 1]);
    for place in &nodes.places {
        let members = vec![
            member(1, &nodes.places[0].peer),
            member(2, &nodes.places[1].peer),
            member(3, "no-such-host.invalid:5679"),
        ];
        found(&place.api, GroupConfig { group_id: 1, members }).await;
    }
    let mut session = nodes.session(0, 1).await;
    let counter = session.create("atomix.runtime.counter.v1.Counter", "c").await;
    for round in 1..=20 {
        assert_eq!(add(&mut session, counter, 1).await, Ok(round));
    }
    nodes.places[0].heard.until(&["no link to the peer", "no-such-host.invalid"]);
    for place in &nodes.places {
        assert!(place.heard.count(&["no-such-host.invalid"]) <= 2, "not a line for each try");
    }
}
