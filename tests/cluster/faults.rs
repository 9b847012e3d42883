//! Disks that are slow and names that move, which only a debug build can be asked for.

use std::time::Instant;

use super::harness::nodes::{CONFIG, Nodes, Place, has_faults};
use super::harness::possible;
use super::load::Load;
use super::seats::Cluster;

/// A leader, then a follower whose vote is needed, then all of them wait for their disks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_disks_cost_time_and_nothing_else() {
    if !possible() || !has_faults() {
        return;
    }
    let mut cluster = Cluster::that_can_fail(3).await;
    let load = Load::start(&cluster.apis, 4).await;
    load.progress(5).await;
    let leader = cluster.leader().await;
    cluster.place(leader).fault("disk-ms", "100");
    load.progress(3).await;
    let slow = cluster.next(leader);
    cluster.place(leader).fault("disk-ms", "0");
    cluster.place(slow).fault("disk-ms", "100");
    load.progress(5).await;
    // Without the third one each command waits for the slow one, or is led by it.
    let third = cluster.next(slow);
    cluster.kill(third);
    let began = Instant::now();
    load.progress(1).await;
    eprintln!("a command with a slow follower after {:?}", began.elapsed());
    cluster.run(third);
    cluster.place(leader).fault("disk-ms", "50");
    cluster.place(third).fault("disk-ms", "50");
    load.progress(2).await;
    for id in 1..=3 {
        cluster.place(id).fault("disk-ms", "0");
    }
    load.healed(10).await;
    cluster.whole().await;
    load.finish().await;
}

/// A node is found as soon as its name has an address, and again when the name has another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_asked_for_again_at_every_dial() {
    if !possible() || !has_faults() {
        return;
    }
    let hosts =
        |third: &str| format!("one.test 127.0.4.1\ntwo.test 127.0.4.2\nthree.test {third}\n");
    let unknown = |place: &Place| place.fault("hosts", &hosts(""));
    let mut nodes = Nodes::prepared(&[1, 1, 1], CONFIG, unknown);
    let name = |_: &Place, other: &Place| {
        let name = ["one", "two", "three"][other.id as usize - 1];
        format!("{name}.test:{}", other.peer.rsplit_once(':').unwrap().1)
    };
    nodes.found(1, name).await;
    nodes.session(0, 1).await;
    nodes.places[0].heard.until(&["no link to the peer", "three.test", "no address"]);
    // Without the second one nothing goes on but with the third.
    nodes.places[1].kill();
    for place in &nodes.places {
        place.fault("hosts", &hosts("127.0.4.3"));
    }
    let began = Instant::now();
    nodes.session(0, 1).await;
    eprintln!("on after {:?}, once the name had an address", began.elapsed());
    // It moves to another host, and at first its name means one where nothing listens.
    nodes.places[2].kill();
    let port = nodes.places[2].peer.rsplit_once(':').unwrap().1.to_owned();
    nodes.places[2].peer = format!("127.0.3.3:{port}");
    nodes.places[2].start();
    nodes.places[0].heard.until(&["no link to the peer", "three.test", "refused"]);
    for place in &nodes.places {
        place.fault("hosts", &hosts("127.0.3.3"));
    }
    let began = Instant::now();
    nodes.session(0, 1).await;
    eprintln!("on after {:?}, once the name had another one", began.elapsed());
}
