//! A node that is far behind gets a snapshot, however often its way is cut.

use std::time::{Duration, Instant};

use crate::group::{CONFIG, Nodes};
use crate::harness::caller::SOON;
use crate::harness::calls::{map_get, put};
use crate::harness::possible;
use crate::proxy::Proxy;

const MAP: &str = "atomix.runtime.map.v1.Map";

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_cut_goes_on_where_it_was() {
    if !possible() {
        return;
    }
    let config = format!(
        "{}snapshot_entries = 16\nretain_entries = 0\n[peer]\nsnapshot_bytes_per_second = 67108864\n",
        CONFIG
    );
    let mut nodes = Nodes::start_with(&[1, 1, 1], &config);
    let to_third = Proxy::to(&nodes.places[2].peer);
    let found = |_: &_, other: &crate::group::Place| match other.id {
        3 => to_third.address.clone(),
        _ => other.peer.clone(),
    };
    nodes.found(1, found).await;
    let mut session = nodes.session(0, 1).await;
    let table = session.create(MAP, "m").await;
    nodes.places[2].kill();
    let leader = nodes.leader(1).await;
    session.caller = nodes.caller(leader).await;
    let value = "v".repeat(512 << 10);
    for key in 0..64 {
        put(&mut session, table, &key.to_string(), &value, None).await;
    }
    to_third.cut_at(12 << 20);
    let began = Instant::now();
    nodes.places[2].start();
    nodes.places[leader].heard.until(&["a snapshot goes on where it was cut"]);
    assert_eq!(to_third.cuts(), 1);
    // Without the other one nothing is committed but with the third, which needs all of it.
    let other = 1 - leader;
    nodes.places[other].kill();
    let deadline = Instant::now() + 2 * SOON;
    loop {
        let caller = nodes.caller(leader).await;
        let opened = tokio::time::timeout(SOON, caller.open(1, Duration::from_secs(60))).await;
        if opened.is_ok() {
            break;
        }
        assert!(Instant::now() < deadline, "the third node does not come to vote");
    }
    eprintln!("32 MiB after {:?}", began.elapsed());
    let leader = nodes.leader(1).await;
    session.caller = nodes.caller(leader).await;
    let last = map_get(&mut session, table, "63").await.expect("it was put");
    assert_eq!(last.value.len(), value.len());
}
