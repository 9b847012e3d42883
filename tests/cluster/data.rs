//! Nodes whose data is not what it was: put back from a copy, or gone.

use std::time::{Duration, Instant};

use ::ringraft::peer::TELL_EVERY;
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::harness::caller::SOON;
use super::harness::possible;
use super::load::Load;
use super::ringraft;
use super::seats::Cluster;

const REFUSED: &str = "a peer is refused";
const OLDER: &str = "came back with older data";
const OTHER: &str = "came back with other data";

/// Waits until `id` was refused by so many that it is in no majority with the others, and has said
/// so, for a reason with these words.
async fn refused(cluster: &Cluster, id: u32, words: &str) {
    let words = format!("node {id} {words}");
    let least = (cluster.count() as usize).div_ceil(2);
    let until = Instant::now() + SOON;
    loop {
        let others = (1..=cluster.count()).filter(|other| *other != id);
        let by = others.filter(|other| cluster.place(*other).heard.count(&[REFUSED, &words]) > 0);
        if by.count() >= least {
            break;
        }
        assert!(Instant::now() < until, "node {id} is not refused");
        sleep(Duration::from_millis(10)).await;
    }
    cluster.place(id).heard.until(&["no link to the peer", &words]);
}

/// Writes for as long as it takes that all nodes have told all others how far they are.
async fn written(load: &Load) {
    let until = Instant::now() + Duration::from_nanos(10 * TELL_EVERY.0);
    while Instant::now() < until {
        load.progress(1).await;
    }
}

/// A copy that is made while the node runs, and put back before its next start, and one that is
/// made of a node that has ended: neither may vote with what it has forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_data_is_refused_and_the_others_go_on() {
    if !possible() {
        return;
    }
    let mut cluster = Cluster::of(5).await;
    let load = Load::start(&cluster.apis, 4).await;
    load.progress(5).await;
    let leader = cluster.leader().await;
    let (first, second) = (leader, cluster.next(leader));
    // The leader, as a backup of a running node's disk has it.
    cluster.place(first).copy_data();
    written(&load).await;
    cluster.kill(first);
    cluster.place(first).put_back();
    cluster.run(first);
    refused(&cluster, first, OLDER).await;
    load.progress(5).await;
    cluster.kill(second);
    cluster.place(second).copy_data();
    cluster.run(second);
    written(&load).await;
    cluster.kill(second);
    cluster.place(second).put_back();
    cluster.run(second);
    refused(&cluster, second, OLDER).await;
    load.progress(5).await;
    // A start more does not make it younger, nor does one of those who remember.
    let third = cluster.next(second);
    for id in [first, second, third] {
        cluster.place_mut(id).end();
        cluster.run(id);
    }
    refused(&cluster, first, OLDER).await;
    refused(&cluster, second, OLDER).await;
    load.healed(5).await;
    for id in 1..=5 {
        let lines = cluster.place(id).heard.count(&[REFUSED, OLDER]);
        assert!(lines <= 2, "{lines} lines for two nodes, not one for each try");
    }
    load.finish().await;
}

/// A node whose data is gone is refused, and replaced as its line says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_is_refused_and_replaced() {
    if !possible() {
        return;
    }
    let mut cluster = Cluster::of(3).await;
    let load = Load::start(&cluster.apis, 4).await;
    cluster.whole().await;
    load.progress(5).await;
    let lost = cluster.leader().await;
    cluster.kill(lost);
    cluster.place(lost).wipe();
    cluster.run(lost);
    refused(&cluster, lost, OTHER).await;
    load.healed(5).await;
    let (sound, other) = (lost % 3 + 1, (lost + 1) % 3 + 1);
    let another = cluster.run_another();
    let place = cluster.place(another);
    let new = format!("{another}={}/{}", place.peer, place.api.rsplit_once(':').unwrap().1);
    let endpoint = ["--endpoint", &cluster.place(sound).api];
    let replace = ["cluster", "replace", &lost.to_string(), &new];
    let words = [&replace[..], &endpoint].concat();
    let (_, text) = block_in_place(|| ringraft(&words));
    assert!(text.contains(&format!("node {another} joined as member")), "{text}");
    // It runs, so it is asked to give up what it has of the group; the same again completes that.
    let until = Instant::now() + SOON;
    loop {
        let (status, text) = block_in_place(|| ringraft(&words));
        eprintln!("{status:?} {text}");
        if status == Some(0) {
            break;
        }
        assert!(Instant::now() < until, "{text}");
    }
    load.healed(5).await;
    // The new one's vote counts, that of the lost one does not, though it still runs.
    cluster.kill(other);
    load.healed(5).await;
    cluster.run(other);
    cluster.kill(lost);
    cluster.kill(sound);
    load.healed(5).await;
    load.finish().await;
}
