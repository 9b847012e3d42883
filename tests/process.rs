//! Real processes: killed, stopped, started twice, starved of disk, fed garbage, and driven by the
//! command line. What was acknowledged is there afterwards, once.
//!
//! A host that cannot run a node says so and passes (`harness`). Nothing waits for time to pass
//! where a line or a condition can be waited for.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

mod harness;

#[path = "process/full_disk.rs"]
mod full_disk;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use harness::ports::free;
use harness::{Node, binary, data_dir, dial, lines, possible, send, wait};
use ringraft::client::{Client, Options};
use ringraft::wire::health::health_check_response::ServingStatus;
use ringraft::wire::health::{HealthCheckRequest, HealthCheckResponse};

const SECONDS: Duration = Duration::from_secs(20);

#[test]
fn the_banner_ends_with_ready_and_a_start_is_quick() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let banner = node.banner.join("\n");
    assert!(banner.starts_with("ringraft "), "{banner}");
    for word in
        ["clients", "peers", "shards      2", "partitions  3", "try\n", "counter incr", "map put"]
    {
        assert!(banner.contains(word), "no {word:?} in\n{banner}");
    }
    assert_eq!(node.banner.last().unwrap(), &format!("ready {}", node.api));
    let first = node.startup;
    // The port accepts what the banner promised, and a client gets an answer at once.
    assert_eq!(text(&cli(&node, &["counter", "incr", "visits"])), "1\n");
    let (status, took, _) = node.end_with("TERM", SECONDS);
    assert!(status.success());
    let node = Node::start(dir.path(), &[]);
    eprintln!("empty start {first:?}, second start {:?}, stop {took:?}", node.startup);
    assert_eq!(text(&cli(&node, &["counter", "get", "visits"])), "1\n");
    // An idle machine takes a tenth of it; this one may be busy with other tests.
    assert!(first < Duration::from_secs(5), "{first:?}");
    assert!(node.startup < Duration::from_secs(5), "{:?}", node.startup);
}

#[test]
fn alone_it_serves_the_defaults() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let mut child = Command::new(binary())
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let told = lines(child.stdout.take().unwrap());
    let mut last = String::new();
    while let Ok(line) = told.recv_timeout(SECONDS) {
        last = line;
        if last.starts_with("ready ") {
            break;
        }
    }
    if !last.starts_with("ready ") {
        assert_eq!(wait(&mut child, SECONDS).code(), Some(7), "the only reason not to start");
        eprintln!("skipped: somebody has the default addresses");
        return;
    }
    assert_eq!(last, "ready 127.0.0.1:5678");
    assert!(dir.path().join("ringraft-data").is_dir());
    drop(dial("127.0.0.1:5679"));
    // The two commands of the banner, as they stand there.
    assert_eq!(text(&plain(&["counter", "incr", "visits"])), "1\n");
    assert!(plain(&["map", "put", "greetings", "hello", "world"]).status.success());
    send(child.id(), "TERM");
    assert_eq!(wait(&mut child, SECONDS).code(), Some(0));
}

#[test]
fn nothing_acknowledged_is_lost_or_done_twice_when_the_process_is_killed() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let listen = free(1);
    let flags = ["--listen", listen.as_str()];
    let mut node = Some(Node::start(dir.path(), &flags));
    let runtime = runtime();
    const WORKERS: u64 = 8;
    const KILLS: u64 = 5;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let done = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (listen, stop, done) = (listen.clone(), stop.clone(), done.clone());
            runtime.spawn(async move {
                let client = Client::connect(options(&listen)).await.expect("a client");
                let counter = client.counter("total");
                let mut puts = BTreeSet::new();
                for round in 0u64.. {
                    counter.increment(1).await.expect("asked again until it is done");
                    let key = format!("{worker}-{round}");
                    // Absent: done twice it would be refused the second time.
                    let all = client.map("all");
                    let insert = all.insert(&key, key.clone());
                    insert.await.expect("asked again until it is done, and done once");
                    puts.insert(key);
                    done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                }
                puts
            })
        })
        .collect();
    for _ in 0..KILLS {
        // Killed in the middle of work, however fast this machine is.
        let goal = done.load(std::sync::atomic::Ordering::Relaxed) + 50;
        until("work gets done", || done.load(std::sync::atomic::Ordering::Relaxed) >= goal);
        node.take().unwrap().kill();
        node = Some(Node::start(dir.path(), &flags));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut puts = BTreeSet::new();
    for worker in workers {
        puts.extend(runtime.block_on(worker).expect("a worker ends well"));
    }
    node.take().unwrap().kill();
    let verified = plain(&["log", "verify", &dir.path().join("data").display().to_string()]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));
    let node = Node::start(dir.path(), &flags);
    runtime.block_on(async {
        let client = Client::connect(options(&node.api)).await.expect("a client");
        let all = client.map("all").list().await.expect("a listing");
        let found: BTreeSet<String> = all.into_iter().map(|entry| entry.key).collect();
        assert_eq!(found, puts, "every acknowledged entry, and no other");
        let total = client.counter("total").get().await.expect("a value");
        assert_eq!(total, puts.len() as i64, "each acknowledged increment once");
    });
    eprintln!("{} commands of each sort, {KILLS} kills", puts.len());
}

#[test]
fn a_restart_brings_back_sessions_locks_timers_and_streams() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let listen = free(1);
    let flags = ["--listen", listen.as_str()];
    let node = Node::start(dir.path(), &flags);
    let runtime = runtime();
    runtime.block_on(async {
        let holder = Client::connect(options(&listen)).await.expect("a client");
        let other = Client::connect(options(&listen)).await.expect("a client");
        let held = holder.lock("door").acquire(None).await.expect("a free lock");
        let mut changes = holder.map("m").events(Some("k")).await.unwrap();
        let listening = tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.len() < 6 {
                seen.push(changes.next().await.expect("no error").expect("an event"));
            }
            seen
        });
        // Nothing tells when a listener is there: changes are made until the last one is heard of.
        for round in 0..3 {
            other.map("m").put("k", format!("{round}")).await.unwrap();
        }
        other.map("m").put("brief", "x").ttl(Duration::from_secs(1)).await.unwrap();

        let node = restart(node, dir.path(), &flags);
        assert_eq!(other.lock("door").holder().await, Ok(held.token()), "still held");
        for round in 3.. {
            other.map("m").put("k", format!("{round}")).await.unwrap();
            if listening.is_finished() {
                break;
            }
        }
        listening.await.expect("six events over two processes");
        // The timer was in the log too.
        let deadline = Instant::now() + SECONDS;
        while other.map("m").get("brief").await.is_ok() {
            assert!(Instant::now() < deadline, "the entry outlives its time");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        held.release().await.expect("the same session as before");
        holder.close().await.expect("closed");
        drop(node);
    });
}

#[test]
fn a_stop_drains_and_ends_in_time() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    for signal in ["TERM", "INT"] {
        let node = Node::start(dir.path(), &[]);
        assert_eq!(cli(&node, &["counter", "incr", "stops"]).status.code(), Some(0));
        // A stream that would stay open for ever, and a client that hangs on.
        let mut watch = spawn(&node, &["map", "watch", "m"]);
        heard(&node, &lines(watch.stdout.take().unwrap()));
        let idle = dial(&node.api);
        let (status, took, stderr) = node.end_with(signal, SECONDS);
        assert_eq!(status.code(), Some(0), "{signal}: {stderr}");
        eprintln!("{signal}: a stop with an open stream took {took:?}");
        assert!(took < Duration::from_secs(5), "{signal} took {took:?}");
        drop(idle);
        send(watch.id(), "TERM");
        assert_eq!(wait(&mut watch, SECONDS).code(), Some(143));
    }
    let node = Node::start(dir.path(), &[]);
    assert_eq!(text(&cli(&node, &["counter", "get", "stops"])), "2\n");
}

#[test]
fn a_directory_has_one_process_and_one_owner() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let second = Node::try_start(dir.path(), &[]).err().expect("one process at a time");
    assert_eq!(second.status, Some(4), "{}", second.stderr);
    assert!(second.stderr.starts_with("ringraft: "), "{}", second.stderr);
    // The first is none the worse.
    assert_eq!(cli(&node, &["counter", "incr", "c"]).status.code(), Some(0));
    drop(node);
    for (flag, value, way) in [
        ("--node-id", "2", "start it with --node-id 1"),
        ("--shards", "1", "start it with --shards 2"),
        ("--partitions", "4", "start it with --partitions 3"),
        ("--partitions", "2", "was made with 3 partitions, not 2"),
    ] {
        let foreign = Node::try_start(dir.path(), &[flag, value]).err().expect("made otherwise");
        assert_eq!(foreign.status, Some(4), "{}", foreign.stderr);
        assert!(foreign.stderr.contains(way), "{}", foreign.stderr);
    }
    let node = Node::start(dir.path(), &[]);
    assert_eq!(text(&cli(&node, &["counter", "get", "c"])), "1\n");
}

#[test]
fn what_is_not_said_is_as_the_directory_was_made() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    assert_eq!(cli(&node, &["counter", "set", "c", "7"]).status.code(), Some(0));
    node.kill();
    // Neither number: not the defaults of this program, nor the cores of this host.
    let data = dir.path().join("data").display().to_string();
    let flags = ["--data-dir", &data, "--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"];
    let mut child = Command::new(binary())
        .arg("serve")
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let told = lines(child.stdout.take().unwrap());
    let mut banner = Vec::new();
    while let Ok(line) = told.recv_timeout(SECONDS) {
        banner.push(line);
        if banner.last().is_some_and(|line| line.starts_with("ready ")) {
            break;
        }
    }
    let whole = banner.join("\n");
    assert!(whole.contains("shards      2\n  partitions  3\n"), "{whole}");
    let api = banner.last().unwrap().strip_prefix("ready ").unwrap().to_owned();
    assert_eq!(text(&plain(&["counter", "get", "c", "--endpoint", &api])), "7\n");
    send(child.id(), "TERM");
    assert_eq!(wait(&mut child, SECONDS).code(), Some(0));
    // A shard whose directory has gone must not begin anew.
    std::fs::remove_dir_all(dir.path().join("data/shard-1")).unwrap();
    let ended = Node::try_start(dir.path(), &[]).err().expect("it is not whole");
    assert_eq!(ended.status, Some(4), "{}", ended.stderr);
    assert!(ended.stderr.contains("shard-1: has gone"), "{}", ended.stderr);
}

#[test]
fn a_result_that_nobody_gets_is_no_success() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    assert_eq!(cli(&node, &["map", "put", "m", "k", "v"]).status.code(), Some(0));
    for command in [&["map", "get", "m", "k"][..], &["map", "list", "m"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ended = Command::new(binary())
            .args(command)
            .args(["--endpoint", &node.api])
            .stdout(full)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(ended.code(), Some(1), "{command:?}");
    }
}

#[test]
fn an_address_in_use_is_named() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    for flag in ["--listen", "--peer-listen"] {
        let ended = Node::try_start(dir.path(), &[flag, &taken]).err().expect("it is taken");
        assert_eq!(ended.status, Some(7), "{}", ended.stderr);
        assert!(ended.stderr.contains(&taken), "{}", ended.stderr);
    }
}

#[test]
fn garbage_on_either_port_harms_nobody() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    assert_eq!(text(&cli(&node, &["counter", "incr", "calm"])), "1\n");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut prng = ringraft::prng::Prng::new(0x6172_6261);
    for round in 0..40 {
        let address = if round % 2 == 0 { &node.api } else { &node.peer };
        let mut socket = dial(address);
        let mut bytes = Vec::new();
        match round % 5 {
            0 => bytes.extend_from_slice(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
            1 => bytes.extend_from_slice(&preface[..9]),
            2 => bytes.extend_from_slice(preface),
            _ => {}
        }
        if round % 5 >= 2 {
            bytes.extend((0..prng.below(4_000)).map(|_| prng.next_u64() as u8));
        }
        // It may hang up in the middle.
        let _ = socket.write_all(&bytes);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        if round % 3 == 0 {
            // Some wait for what is said to them; a node closes, it does not hang.
            let _ = socket.read_to_end(&mut bytes);
        }
    }
    assert_eq!(text(&cli(&node, &["counter", "incr", "calm"])), "2\n");
    let (status, _, stderr) = node.end_with("TERM", SECONDS);
    assert_eq!(status.code(), Some(0), "{stderr}");
}

#[test]
fn a_directory_that_cannot_be_is_told() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let file = dir.path().join("a-file");
    std::fs::write(&file, "not a directory").unwrap();
    let inside = file.join("data").display().to_string();
    let ended = Node::try_start(dir.path(), &["--data-dir", &inside]).err().expect("a file");
    assert!(matches!(ended.status, Some(4 | 5)), "{ended:?}");
    assert!(ended.stderr.contains("a-file"), "{}", ended.stderr);
}

#[test]
fn the_command_line_does_what_it_says() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let run = |arguments: &[&str]| {
        let output = cli(&node, arguments);
        (
            output.status.code().unwrap(),
            text(&output),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert_eq!(run(&["counter", "get", "c"]).1, "0\n");
    assert_eq!(run(&["counter", "set", "c", "-5"]).1, "-5\n");
    assert_eq!(run(&["counter", "incr", "c", "10"]).1, "5\n");
    assert_eq!(run(&["counter", "decr", "c"]).1, "4\n");
    assert_eq!(run(&["counter", "cas", "c", "4", "40"]).1, "40\n");
    assert_eq!(run(&["counter", "cas", "c", "4", "41"]).0, 8);
    assert_eq!(run(&["counter", "get", "c", "--json"]).1, "{\"counter\":\"c\",\"value\":40}\n");

    let (status, out, _) = run(&["map", "put", "m", "k", "hello world"]);
    assert!(status == 0 && out.starts_with("version "), "{out}");
    assert_eq!(run(&["map", "get", "m", "k"]).1, "hello world\n");
    assert_eq!(run(&["map", "put", "m", "k", "x", "--if-absent"]).0, 8);
    let (status, _, err) = run(&["map", "get", "m", "none"]);
    assert_eq!((status, err.as_str()), (8, "ringraft: key none not found\n"));
    assert_eq!(run(&["map", "put", "m", "a", "1"]).0, 0);
    assert_eq!(run(&["map", "list", "m"]).1, "a = 1\nk = hello world\n");
    assert_eq!(run(&["map", "size", "m"]).1, "2\n");
    assert_eq!(run(&["map", "remove", "m", "a"]).0, 0);
    assert_eq!(run(&["map", "clear", "m"]).0, 0);
    assert_eq!(run(&["map", "list", "m"]).1, "");

    assert_eq!(run(&["lock", "door", "--", "sh", "-c", "exit 7"]).0, 7);
    assert_eq!(run(&["lock", "door", "--", "sh", "-c", "echo $RINGRAFT_LOCK"]).1, "door\n");
    assert_eq!(run(&["lock", "door", "--", "no-such-command-here"]).0, 127);
    assert_eq!(run(&["lock", "door", "--show"]).0, 8, "given back each time");
    assert_eq!(run(&["election", "term", "chair"]).0, 8);
    let term =
        ["election", "campaign", "chair", "me", "--", "sh", "-c", "echo $RINGRAFT_ELECTION_TERM"];
    assert_eq!(run(&term).1, "1\n");

    let (status, _, err) = run(&["counter", "get", "c", "--endpoint", "127.0.0.1:1"]);
    assert_eq!(status, 9);
    assert!(
        err.contains("no node answers at 127.0.0.1:1") && err.contains("ringraft serve"),
        "{err}"
    );
    assert_eq!(run(&["counter", "get", "c", "--endpoint", "nonsense"]).0, 2);
    assert_eq!(run(&["counter", "set", "c", "many"]).0, 2);
}

#[test]
fn watching_and_holding_go_on_until_told() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let mut watch = spawn(&node, &["map", "watch", "m", "--json"]);
    let seen = lines(watch.stdout.take().unwrap());
    let heard = heard(&node, &seen);
    let heard: serde_json::Value = serde_json::from_str(&heard).unwrap();
    assert_eq!(heard["key"], "k");
    send(watch.id(), "INT");
    assert_eq!(wait(&mut watch, SECONDS).code(), Some(130));

    let mut holder = spawn(&node, &["lock", "door"]);
    let said = lines(holder.stdout.take().unwrap());
    assert!(said.recv_timeout(SECONDS).unwrap().starts_with("door is held, token "));
    let tried = cli(&node, &["lock", "door", "--wait", "0", "--", "true"]);
    assert_eq!(tried.status.code(), Some(8));
    // A command gets the signals that the holder gets, and its end is the holder's.
    let mut sleeper = spawn(&node, &["lock", "gate", "--", "sh", "-c", "echo held; exec sleep 60"]);
    let sleeping = lines(sleeper.stdout.take().unwrap());
    assert_eq!(sleeping.recv_timeout(SECONDS).unwrap(), "held");
    send(sleeper.id(), "TERM");
    assert_eq!(wait(&mut sleeper, SECONDS).code(), Some(143));
    assert_eq!(cli(&node, &["lock", "gate", "--show"]).status.code(), Some(8), "given back");
    let mut waiter = spawn(&node, &["lock", "door", "--", "echo", "my turn"]);
    send(holder.id(), "TERM");
    assert_eq!(wait(&mut holder, SECONDS).code(), Some(143));
    let said = lines(waiter.stdout.take().unwrap());
    assert_eq!(said.recv_timeout(SECONDS).unwrap(), "my turn");
    assert_eq!(wait(&mut waiter, SECONDS).code(), Some(0));

    let mut leader = spawn(&node, &["election", "campaign", "chair", "one"]);
    let said = lines(leader.stdout.take().unwrap());
    assert!(said.recv_timeout(SECONDS).unwrap().starts_with("one leads chair, term 1"));
    let mut observer = spawn(&node, &["election", "observe", "chair"]);
    let observed = lines(observer.stdout.take().unwrap());
    assert_eq!(observed.recv_timeout(SECONDS).unwrap(), "term 1: one leads");
    send(leader.id(), "TERM");
    assert_eq!(wait(&mut leader, SECONDS).code(), Some(143));
    assert_eq!(observed.recv_timeout(SECONDS).unwrap(), "term 1: nobody leads");
    send(observer.id(), "INT");
    assert_eq!(wait(&mut observer, SECONDS).code(), Some(130));
}

#[test]
fn a_command_does_not_outlive_the_lock_it_holds() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let arguments =
        ["lock", "door", "--session-timeout", "1s", "--", "sh", "-c", "echo held; exec sleep 60"];
    let mut holder = spawn(&node, &arguments);
    let said = lines(holder.stdout.take().unwrap());
    assert_eq!(said.recv_timeout(SECONDS).unwrap(), "held");
    node.kill();
    assert_eq!(wait(&mut holder, SECONDS).code(), Some(11));
}

#[test]
fn what_is_typed_wrong_is_told_with_what_would_do() {
    let dir = data_dir();
    let file = dir.path().join("bad.toml");
    std::fs::write(&file, "[node]\nid = 0\n[journal]\nsegment = 1\n").unwrap();
    let file = file.display().to_string();
    for (arguments, status, word) in [
        (
            &["serve", "--config", &file][..],
            3,
            "bad.toml, line 2: id: out of bounds; allowed: 1 to",
        ),
        (&["serve", "--config", &file], 3, "bad.toml, line 4: unknown key segment in [journal]"),
        (&["serve", "--config", "/no/such/file"], 3, "/no/such/file: No such file"),
        (&["serve", "--partitions", "many"], 2, "--partitions many: not a whole number"),
        (&["serve", "--listen", "5678"], 2, "HOST:PORT"),
        (&["serve", "--nonsense"], 2, "--nonsense"),
        (&["cuonter"], 2, "some similar subcommands exist: 'cluster', 'countermap', 'counter'"),
        (&["log", "dump", "/no/such/directory"], 8, "/no/such/directory"),
        (&["map", "put", "m", "k", "v", "--ttl", "soon"], 2, "write it as 500ms, 5s, 2m or 1h"),
    ] {
        let output = plain(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {told}");
        assert!(told.contains(word), "{arguments:?}: {told}");
        assert!(output.stdout.is_empty(), "{arguments:?}: results only on standard output");
    }
    let version = plain(&["--version"]);
    assert!(version.status.success() && text(&version).starts_with("ringraft 0."));
}

#[test]
fn damage_is_found_told_and_kept_from_the_others() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &["--shards", "1"]);
    for round in 0..5 {
        for key in ["a", "b", "c", "d", "e"] {
            let put = cli(&node, &["map", "put", "m", key, &round.to_string()]);
            assert_eq!(put.status.code(), Some(0));
        }
    }
    node.kill();
    let data = dir.path().join("data");
    let segments = std::fs::read_dir(data.join("shard-0")).unwrap();
    let mut segments: Vec<_> = segments.map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("segment-"));
    segments.sort();
    // In the second block of the first segment: later blocks say that it was durable.
    let mut bytes = std::fs::read(&segments[0]).unwrap();
    let place = 2 * 4096 + 100;
    assert_ne!(bytes[place..place + 16], [0; 16], "something is written there");
    bytes[place] ^= 0x10;
    std::fs::write(&segments[0], bytes).unwrap();

    let data = data.display().to_string();
    let verified = plain(&["log", "verify", &data]);
    assert_eq!(verified.status.code(), Some(12), "{}", text(&verified));
    assert!(text(&verified).contains("durable and lost"), "{}", text(&verified));
    let node = Node::start(dir.path(), &["--shards", "1"]);
    // The damaged partition keeps its keys: they are refused, not looked for elsewhere.
    let mut refused = 0;
    for key in ["a", "b", "c", "d", "e"] {
        let got = cli(&node, &["map", "get", "m", key, "--timeout", "3s"]);
        match got.status.code() {
            Some(0) => assert_eq!(text(&got), "4\n"),
            status => {
                let told = String::from_utf8_lossy(&got.stderr).into_owned();
                assert!(status == Some(9) && told.contains("is damaged"), "{key}: {got:?}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "some key lives there");
    // The node as a whole still serves.
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let path = "/grpc.health.v1.Health/Check";
        let caller = harness::caller::Caller::to(&node.api).await;
        let health = caller.unary::<_, HealthCheckResponse>(path, HealthCheckRequest::default());
        assert_eq!(health.await.unwrap().into_inner().status(), ServingStatus::Serving);
    });
    let (status, _, told) = node.end_with("TERM", SECONDS);
    assert!(status.success(), "{status}: {told}");
    assert!(told.contains("ringraft: not started: partition "), "{told}");
    assert!(told.contains("shard-0/segment-"), "{told}");
    assert!(told.contains("Node.Leave"), "{told}");
}

#[test]
fn a_journal_can_be_told_and_checked() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    for key in ["a", "b", "c"] {
        assert_eq!(cli(&node, &["map", "put", "story", key, "value"]).status.code(), Some(0));
    }
    let (status, _, _) = node.end_with("TERM", SECONDS);
    assert!(status.success());
    let data = dir.path().join("data").display().to_string();
    let dump = plain(&["log", "dump", &data]);
    assert_eq!(dump.status.code(), Some(0), "{}", String::from_utf8_lossy(&dump.stderr));
    let told = text(&dump);
    for word in [
        "founded as replica",
        "open a session",
        "create atomix.runtime.map.v1.Map \"story\"",
        "Put(",
    ] {
        assert!(told.contains(word), "no {word:?} in\n{told}");
    }
    let absent = plain(&["log", "dump", &data, "--partition", "77"]);
    assert_eq!(absent.status.code(), Some(8), "{}", text(&absent));
    let verified = plain(&["log", "verify", &data]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));
    assert!(text(&verified).contains("whole"));
    let none = plain(&["log", "verify", &dir.path().display().to_string()]);
    assert_eq!(none.status.code(), Some(8));
}

fn cli(node: &Node, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments.split(|word| *word == "--").next().unwrap());
    if !arguments.contains(&"--endpoint") {
        command.args(["--endpoint", &node.api]);
    }
    if let Some(at) = arguments.iter().position(|word| *word == "--") {
        command.args(&arguments[at..]);
    }
    command.stdin(Stdio::null()).output().unwrap()
}

/// What a watch of map `m` first tells. Nothing says when a watch is there: changes are made until
/// one is heard of.
fn heard(node: &Node, seen: &std::sync::mpsc::Receiver<String>) -> String {
    let heard = (0..100).find_map(|round| {
        let value = round.to_string();
        assert_eq!(cli(node, &["map", "put", "m", "k", &value]).status.code(), Some(0));
        seen.recv_timeout(Duration::from_millis(100)).ok()
    });
    heard.expect("a change")
}

fn plain(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn spawn(node: &Node, arguments: &[&str]) -> std::process::Child {
    Command::new(binary())
        .args(arguments)
        .env("RINGRAFT_ENDPOINT", &node.api)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn restart(node: Node, dir: &Path, flags: &[&str]) -> Node {
    node.kill();
    Node::start(dir, flags)
}

fn options(endpoint: &str) -> Options {
    Options { patience: SECONDS, partitions: BTreeSet::from([1, 2, 3]), ..Options::to([endpoint]) }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SECONDS;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not in {SECONDS:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
