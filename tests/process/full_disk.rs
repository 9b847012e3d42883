//! A disk without room, as a small file system that the test mounts: growth is refused, what is
//! there stays, and a start needs no more than what the last run left.

use std::process::{Command, Stdio};

use super::*;

#[test]
fn a_full_disk_refuses_what_grows_and_keeps_what_is_there() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let small = dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    // Room for the first segments and little more.
    let Some(mounted) = Mounted::at(&small, "size=200m") else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let listen = free(1);
    let flags = ["--listen", listen.as_str(), "--shards", "1"];
    let node = Node::start(&small, &flags);
    let runtime = runtime();
    let written = runtime.block_on(async {
        let client = Client::connect(options(&listen)).await.expect("a client");
        let map = client.map("m");
        let value = bytes::Bytes::from(vec![b'v'; 1 << 20]);
        let mut written = 0;
        let refusal = loop {
            match map.insert(&format!("k{written}"), value.clone()).await {
                Ok(_) => written += 1,
                Err(fault) => break fault,
            }
            assert!(written < 1_000, "the disk never fills");
        };
        // Refused, and told so: the node lives and what is there can be read.
        eprintln!("after {written} MiB: {refusal}");
        for at in [0, written - 1] {
            map.get(&format!("k{at}")).await.expect("what is there can be read");
        }
        written
    });
    // Not even what is small has room elsewhere on this disk.
    let filled: std::io::Result<()> =
        std::fs::File::create(small.join("fill")).and_then(|mut file| {
            loop {
                file.write_all(&[1; 4096])?;
            }
        });
    assert!(filled.is_err(), "the disk is full");
    assert_eq!(cli(&node, &["map", "get", "m", "k0"]).stdout.len(), (1 << 20) + 1);
    node.kill();
    // A start has its room in reserve: it reads, lets things be removed, and refuses the rest.
    let node = Node::start(&small, &flags);
    assert_eq!(cli(&node, &["map", "get", "m", "k0"]).stdout.len(), (1 << 20) + 1);
    let refused = cli(&node, &["map", "put", "m", "more", "x"]);
    assert_eq!(refused.status.code(), Some(10), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the disk is full"), "{refused:?}");
    assert_eq!(cli(&node, &["map", "remove", "m", "k1"]).status.code(), Some(0));
    node.kill();
    // With room, all that was acknowledged is there.
    assert!(mounted.grow("size=400m"), "a file system in memory can grow");
    let node = Node::start(&small, &flags);
    runtime.block_on(async {
        let client = Client::connect(options(&node.api)).await.expect("a client");
        let map = client.map("m");
        for at in (0..written).filter(|at| *at != 1) {
            map.get(&format!("k{at}")).await.expect("acknowledged before the disk was full");
        }
        assert!(map.get("k1").await.is_err(), "removed while it was full");
    });
}

#[test]
fn a_full_disk_is_enough_for_a_state_that_does_not_grow() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let small = dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let Some(_mounted) = Mounted::at(&small, "size=120m") else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let listen = free(1);
    let flags = ["--listen", listen.as_str(), "--shards", "1"];
    let mut node = Node::start(&small, &flags);
    let shard = small.join("data/shard-0");
    until("there is a reserve", || {
        shard.join("reserve").exists() && shard.join("segment-0000000000000002").exists()
    });
    let filled: std::io::Result<()> = std::fs::File::create(small.join("fill"))
        .and_then(|mut file| std::io::copy(&mut std::io::repeat(1), &mut file).map(drop));
    assert!(filled.is_err(), "the disk is full");
    let runtime = runtime();
    // Three times what the segments hold: each is freed by snapshots in the next.
    runtime.block_on(async {
        let client = Client::connect(options(&listen)).await.expect("a client");
        let map = client.map("m");
        let value = bytes::Bytes::from(vec![b'v'; 1 << 20]);
        let mut written = 0;
        let deadline = Instant::now() + SECONDS;
        while written < 90 {
            assert!(Instant::now() < deadline, "{written} written, and no room is made");
            match map.put("k", value.clone()).await {
                Ok(_) => written += 1,
                Err(fault) => assert!(fault.to_string().contains("the disk is full"), "{fault}"),
            }
        }
    });
    for round in 0..3 {
        node.kill();
        node = Node::start(&small, &flags);
        until("room is made", || {
            cli(&node, &["counter", "incr", "starts"]).status.code() == Some(0)
        });
        let size = cli(&node, &["map", "get", "m", "k"]).stdout.len();
        assert_eq!(size, (1 << 20) + 1, "start {round}");
    }
}

/// A file system in memory, for as long as this lives.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn at(path: &Path, options: &str) -> Option<Mounted> {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(path)
            .stderr(Stdio::null())
            .status();
        mount.is_ok_and(|status| status.success()).then(|| Mounted(path.to_owned()))
    }
}

impl Mounted {
    fn grow(&self, options: &str) -> bool {
        let options = format!("remount,{options}");
        Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .status()
            .is_ok_and(|s| s.success())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
