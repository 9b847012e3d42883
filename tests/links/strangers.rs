//! The peer port serves peers and nobody else, and nobody else brings it down.

use std::io::{Read, Write};
use std::net::TcpStream;

use ringraft::config::NodeConfig;
use ringraft::id::{Mark, NodeId, ShardId};
use ringraft::wire::format::{FORMATS, Formats};
use ringraft::wire::hello::{Cargo, HEAD_BYTES, Hello, Speaker, Welcome, body_bytes};

use crate::group::Nodes;
use crate::harness::{dial, possible};

fn hello(from_shard: u16) -> Hello {
    let mut config = NodeConfig::default();
    config.cluster.partitions = 0;
    let cluster = config.cluster.digest();
    Hello {
        speaker: Speaker {
            cluster,
            node: NodeId(2),
            incarnation: 22,
            life: 222,
            shards: 8,
            api_port: 0,
            formats: FORMATS,
        },
        to: NodeId(1),
        from_shard: ShardId(from_shard),
        kept: Mark(0),
        to_shard: ShardId(0),
        knows: 0,
        cargo: Cargo::Bundles,
    }
}

fn greeted(address: &str, hello: &Hello) -> (TcpStream, Welcome) {
    let mut socket = dial(address);
    socket.write_all(&hello.encode()).unwrap();
    let welcome = read_welcome(&mut socket);
    (socket, welcome)
}

fn read_welcome(socket: &mut TcpStream) -> Welcome {
    let mut head = [0; HEAD_BYTES];
    socket.read_exact(&mut head).unwrap();
    let mut body = vec![0; body_bytes(&head).unwrap()];
    socket.read_exact(&mut body).unwrap();
    Welcome::decode(&head, &body).unwrap()
}

/// What stands before a bundle of so many octets: its length, a checksum, a mark.
fn frame_head(length: u32) -> [u8; 16] {
    let (length, mark) = (length.to_le_bytes(), 0_u64.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&length), &mark);
    let mut head = [0; 16];
    head[..4].copy_from_slice(&length);
    head[4..8].copy_from_slice(&crc.to_le_bytes());
    head
}

/// Whether the node closes a connection, saying nothing.
fn is_closed(mut socket: TcpStream) -> bool {
    match socket.read(&mut [0; 64]) {
        Ok(octets) => octets == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_let_go_and_the_node_serves_on() {
    if !possible() {
        return;
    }
    let nodes = Nodes::start(&[2]);
    nodes.found(1, |_, other| other.peer.clone()).await;
    let (peer, heard) = (nodes.places[0].peer.clone(), nodes.places[0].heard.clone());
    // A probe: no word on either side.
    drop(dial(&peer));
    let mut sockets = Vec::new();
    for round in 0..40_u8 {
        let mut socket = dial(&peer);
        socket.write_all(&[round.wrapping_mul(37) | 1; 1000]).unwrap();
        sockets.push(socket);
    }
    let mut huge = hello(0).encode();
    huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    for word in [&huge[..], &hello(0).encode()[..20], b"R", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut socket = dial(&peer);
        socket.write_all(word).unwrap();
        sockets.push(socket);
    }
    // More than may greet at once, who say nothing.
    sockets.extend((0..300).map(|_| dial(&peer)));
    for socket in sockets {
        assert!(is_closed(socket), "a stranger is let go");
    }
    let mut session = nodes.session(0, 1).await;
    let counter = session.create("atomix.runtime.counter.v1.Counter", "c").await;
    assert_eq!(crate::harness::calls::add(&mut session, counter, 1).await, Ok(1));
    heard.until(&["a stranger on the peer port", "does not speak our protocol"]);
    assert_eq!(heard.count(&["a stranger", "does not speak"]), 1, "one line for all of them");
    assert!(heard.count(&["a stranger"]) <= 3, "a line for each reason at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_sends_garbage_costs_a_line_and_a_link() {
    if !possible() {
        return;
    }
    let nodes = Nodes::start(&[1]);
    nodes.found(1, |_, other| other.peer.clone()).await;
    let (peer, heard) = (nodes.places[0].peer.clone(), nodes.places[0].heard.clone());
    // Of one core's links the newest counts: the same words again take the place of the first.
    let mut links = Vec::new();
    for _ in 0..50 {
        let (socket, welcome) = greeted(&peer, &hello(3));
        assert!(matches!(welcome, Welcome::Come { shards: 1, .. }), "{welcome:?}");
        links.push(socket);
    }
    let mut last = links.pop().unwrap();
    for socket in links {
        assert!(is_closed(socket), "another one took its place");
    }
    for _ in 0..100 {
        last.write_all(&frame_head(32)).unwrap();
        last.write_all(&[7; 32]).unwrap();
    }
    heard.until(&["a peer sent what cannot be read"]);
    let (other, _) = greeted(&peer, &hello(4));
    last.write_all(&frame_head(1 << 30)).unwrap();
    assert!(is_closed(last), "nobody waits for a bundle that large");
    heard.until(&["a peer's link is closed", "1073741824"]);
    assert!(heard.count(&["cannot be read"]) <= 8, "not a line for each");
    // A shard that is not there: it says how many there are, and no more.
    let absent = Hello { to_shard: ShardId(7), ..hello(5) };
    let (socket, welcome) = greeted(&peer, &absent);
    assert!(matches!(welcome, Welcome::Come { shards: 1, .. }), "{welcome:?}");
    assert!(is_closed(socket));
    drop(other);
    let mut session = nodes.session(0, 1).await;
    let counter = session.create("atomix.runtime.counter.v1.Counter", "c").await;
    assert_eq!(crate::harness::calls::add(&mut session, counter, 1).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reason_to_refuse_is_told_to_who_dialled() {
    if !possible() {
        return;
    }
    let nodes = Nodes::start(&[1]);
    let peer = nodes.places[0].peer.clone();
    let good = hello(0);
    let speaker = good.speaker;
    let cases = [
        (
            Hello { speaker: Speaker { formats: Formats::new(98, 99), ..speaker }, ..good },
            "speaks formats 98 to 99",
        ),
        (Hello { speaker: Speaker { cluster: 1, ..speaker }, ..good }, "another cluster"),
        (
            Hello { speaker: Speaker { node: NodeId(1), ..speaker }, ..good },
            "two nodes have the id",
        ),
        (Hello { to: NodeId(9), ..good }, "node 9 was wanted"),
        (Hello { knows: 5, ..good }, "node 1 came back with other data"),
    ];
    for (hello, words) in cases {
        let (socket, welcome) = greeted(&peer, &hello);
        let Welcome::Refused(reason) = welcome else { panic!("{words}: {welcome:?}") };
        assert!(reason.contains(words), "{reason}");
        assert!(is_closed(socket));
        nodes.places[0].heard.until(&["a peer is refused", words]);
    }
    // The first that comes under an id is remembered, also by its second self.
    assert!(matches!(greeted(&peer, &good).1, Welcome::Come { .. }));
    let other = Hello { speaker: Speaker { incarnation: 23, ..speaker }, ..good };
    let Welcome::Refused(reason) = greeted(&peer, &other).1 else { panic!("taken") };
    assert!(reason.contains("node 2 came back with other data"), "{reason}");
}
