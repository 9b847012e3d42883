//! The command line of the primitives, against a real node: what is printed in both forms, and how
//! each command ends. Counters, maps, locks and elections are also in `process.rs`.
//!
//! A host that cannot run a node says so and passes (`harness`).
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

mod harness;

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use ringraft::limits::VALUE_BYTES_MAX;

use harness::{Node, binary, data_dir, lines, possible, send, shared, wait};

const SECONDS: Duration = Duration::from_secs(20);

/// One line typed, how it ends and what it prints: all of it, or with `...` how it begins.
type Said<'a> = (&'a str, i32, &'a str);

#[test]
fn counter_maps() {
    all(&[
        ("countermap set cm-stock apples 5", 0, "5\n"),
        ("countermap incr cm-stock apples", 0, "6\n"),
        ("countermap decr cm-stock pears 3", 0, "-3\n"),
        ("countermap insert cm-stock apples 1", 8, ""),
        ("countermap insert cm-stock plums -1", 0, "-1\n"),
        ("countermap update cm-stock apples 5 7", 8, ""),
        ("countermap cas cm-stock apples 6 7", 0, "7\n"),
        ("countermap get cm-stock apples --json", 0, "{\"key\":\"apples\",\"value\":7}\n"),
        ("countermap get cm-stock none", 8, ""),
        ("countermap incr cm-stock apples 0", 2, ""),
        ("countermap list cm-stock", 0, "apples = 7\npears = -3\nplums = -1\n"),
        ("countermap remove cm-stock apples --if-value 1", 8, ""),
        ("countermap remove cm-stock apples", 0, "7\n"),
        ("countermap size cm-stock", 0, "2\n"),
        ("countermap clear cm-stock", 0, "cleared\n"),
        ("countermap list cm-stock --json", 0, ""),
    ]);
}

#[test]
fn maps() {
    all(&[
        ("map insert mp k one", 0, "version ..."),
        ("map insert mp k two", 8, ""),
        ("map update mp none x", 8, ""),
        ("map update mp k two --if-version 999999", 8, ""),
        ("map update mp k two --ttl 1h", 0, "version ..."),
        ("map put mp k three --if-absent", 8, ""),
        ("map put mp k three --if-version 999999", 8, ""),
        ("map get mp k", 0, "two\n"),
        ("map del mp k --if-version 999999", 8, ""),
        ("map del mp k", 0, "removed version ..."),
        // The same name in another namespace is another map.
        ("map put mp k elsewhere --namespace other", 0, "version ..."),
        ("map get mp k", 8, ""),
        ("map get mp k --namespace other", 0, "elsewhere\n"),
    ]);
}

#[test]
fn sets() {
    all(&[
        ("set add st ann", 0, "added\n"),
        ("set add st ann", 8, ""),
        ("set add st bob --ttl 1h", 0, "added\n"),
        ("set contains st ann", 0, "true\n"),
        ("set contains st cid", 8, "false\n"),
        ("set contains st cid --json", 8, "{\"contained\":false,\"element\":\"cid\"}\n"),
        ("set list st", 0, "ann\nbob\n"),
        ("set size st", 0, "2\n"),
        ("set remove st ann", 0, "removed\n"),
        ("set remove st ann", 8, ""),
        ("set clear st", 0, "cleared\n"),
        ("set ls st", 0, ""),
    ]);
}

#[test]
fn values() {
    all(&[
        ("value get vl", 8, ""),
        ("value update vl x", 8, ""),
        ("value insert vl one", 0, "version ..."),
        ("value insert vl two", 8, ""),
        ("value set vl two --ttl 1h", 0, "version ..."),
        ("value update vl three --if-version 999999", 8, ""),
        ("value update vl three", 0, "version ..."),
        ("value get vl", 0, "three\n"),
        ("value get vl --json", 0, "{\"name\":\"vl\",\"value\":\"three\",\"version\":..."),
        ("value delete vl --if-version 999999", 8, ""),
        ("value delete vl", 0, "removed version ..."),
        ("value delete vl", 8, ""),
    ]);
}

#[test]
fn indexed_maps() {
    all(&[
        ("indexedmap first im", 8, ""),
        ("indexedmap append im a one", 0, "1 a = one\n"),
        ("indexedmap append im a two", 8, ""),
        ("indexedmap append im b two --ttl 1h", 0, "2 b = two\n"),
        ("indexedmap get im a", 0, "one\n"),
        ("indexedmap get im --index 2", 0, "two\n"),
        ("indexedmap get im", 2, ""),
        ("indexedmap get im a --index 1", 2, ""),
        ("indexedmap first im", 0, "1 a = one\n"),
        ("indexedmap last im", 0, "2 b = two\n"),
        ("indexedmap next im 1", 0, "2 b = two\n"),
        ("indexedmap next im 2", 8, ""),
        ("indexedmap prev im 2", 0, "1 a = one\n"),
        ("indexedmap update im a three --if-version 999999", 8, ""),
        ("indexedmap update im a three", 0, "1 a = three\n"),
        ("indexedmap update im --index 2 four", 0, "2 b = four\n"),
        ("indexedmap list im", 0, "1 a = three\n2 b = four\n"),
        ("indexedmap remove im --index 1", 0, "1 a = three\n"),
        ("indexedmap remove im a", 8, ""),
        ("indexedmap size im --json", 0, "{\"size\":1}\n"),
        ("indexedmap clear im", 0, "cleared\n"),
    ]);
}

#[test]
fn multimaps() {
    all(&[
        ("multimap get mm rose", 8, ""),
        ("multimap put mm rose red", 0, "added\n"),
        ("multimap put mm rose red sweet", 0, "added\n"),
        ("multimap put mm rose red sweet", 8, "nothing changed\n"),
        ("multimap get mm rose", 0, "red\nsweet\n"),
        ("multimap get mm rose --json", 0, "{\"key\":\"rose\",\"values\":[\"red\",\"sweet\"]}\n"),
        ("multimap contains mm rose red", 0, "true\n"),
        ("multimap contains mm rose blue", 8, "false\n"),
        ("multimap replace mm rose white", 0, "red\nsweet\n"),
        ("multimap put mm oak tall", 0, "added\n"),
        ("multimap list mm", 0, "oak = tall\nrose = white\n"),
        ("multimap put mm rose ", 0, "added\n"),
        ("multimap get mm rose", 0, "\"\"\nwhite\n"),
        ("multimap remove mm rose ", 0, "removed\n"),
        ("multimap size mm", 0, "2\n"),
        ("multimap remove mm rose red", 8, "nothing changed\n"),
        ("multimap remove mm rose white", 0, "removed\n"),
        ("multimap remove mm rose white", 8, ""),
        ("multimap remove mm oak", 0, "removed\n"),
        ("multimap remove mm oak", 8, "nothing changed\n"),
        ("multimap clear mm", 0, "cleared\n"),
    ]);
}

#[test]
fn elections() {
    all(&[
        ("election term el", 8, ""),
        ("election evict el nobody", 0, "term 0: nobody leads\n"),
        ("election anoint el nobody", 8, ""),
        ("election promote el nobody", 8, ""),
        ("election demote el nobody --json", 8, ""),
    ]);
}

#[test]
fn what_is_wrong_is_told_with_what_to_do() {
    if !possible() {
        return;
    }
    for (typed, status, told) in [
        (&["counter", "incr", "wr", "--timeout", "0"][..], 2, "more than 0"),
        (&["counter", "incr", "wr", "--session-timeout", "999ms"], 2, "1s or more"),
        (&["election", "campaign", "wr", "", "--", "true"], 2, "CANDIDATE"),
        (&["indexedmap", "update", "wr"], 2, "<NAME> <KEY|--index <N>> <VALUE>"),
        (&["counter", "cas", "wr", "1", "2"], 8, "\n  it is not, or no longer, as demanded: "),
        (&["map", "get", "wr-map", "two\nlines"], 8, "key two\\nlines not found\n"),
    ] {
        let mut command = Command::new(binary());
        let output = command.args(typed).env("RINGRAFT_ENDPOINT", shared()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{typed:?}: {error}");
        assert!(error.contains(told), "{typed:?}: {error}");
    }
}

#[test]
fn bytes_are_told_so_that_they_can_be_had_back() {
    if !possible() {
        return;
    }
    let put = |name: &str, value: &[u8]| {
        let mut command = Command::new(binary());
        command.args(["value", "set", name, "-"]).env("RINGRAFT_ENDPOINT", shared());
        let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // One that takes no more has said so.
        drop(child.stdin.take().unwrap().write_all(value));
        child.wait_with_output().unwrap()
    };
    assert!(put("by", &[0xFF, 0, 1]).status.success());
    // What `base64 -d` reads: the ordinary alphabet.
    check(shared(), ("value get by --json", 0, r#"{"name":"by","value":{"base64":"/wAB"},..."#));
    assert!(put("by", &[b'v'; VALUE_BYTES_MAX]).status.success());
    for more in [1, 1024, 1 << 20] {
        let output = put("by", &vec![b'v'; VALUE_BYTES_MAX + more]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(&VALUE_BYTES_MAX.to_string()), "{error}");
    }
}

#[test]
fn the_released_dialect_is_spoken_when_told() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &["--dialect", "released"]);
    for (typed, status, printed) in [
        ("counter incr c --dialect released", 0, "1\n"),
        ("counter get c --dialect released", 0, "1\n"),
        ("map get m none --dialect released", 8, ""),
        ("set list s --dialect released", 0, ""),
        ("counter get c --dialect none", 2, ""),
    ] {
        check(&node.api, (typed, status, printed));
    }
}

#[test]
fn changes_are_told_until_interrupted() {
    if !possible() {
        return;
    }
    let api = shared();
    for (watch, change, told) in [
        ("map events ev-map k", "map put ev-map k {}", "updated k = "),
        ("map watch ev-map", "map put ev-map k {}", "k = "),
        ("countermap events ev-countermap k", "countermap set ev-countermap k {}", "updated k = "),
        ("countermap watch ev-countermap", "countermap set ev-countermap k {}", "k = "),
        ("indexedmap events ev-indexedmap", "indexedmap append ev-indexedmap e{} x", "inserted "),
        ("indexedmap watch ev-indexedmap", "indexedmap append ev-indexedmap f{} x", "1 e"),
        ("multimap events ev-multimap k", "multimap put ev-multimap k {}", "added k = "),
        ("multimap watch ev-multimap", "multimap put ev-multimap k m{}", "k = "),
        ("set events ev-set", "set add ev-set e{}", "added e"),
        ("set watch ev-set", "set add ev-set f{}", "f"),
        ("value events ev-value", "value set ev-value {}", "updated "),
        ("value watch ev-value", "value set ev-value {}", "version "),
    ] {
        let mut child = spawn(api, watch);
        let seen = lines(child.stdout.take().unwrap());
        // Nothing says when a watch is there: changes are made until one is heard of. The first
        // may tell what was made before, or something new.
        let heard = (0..200).find_map(|round| {
            let change = change.replace("{}", &round.to_string());
            assert_eq!(run(api, &change).status.code(), Some(0), "{change}");
            until_told(&seen, told)
        });
        assert!(heard.is_some(), "{watch}: nothing was heard");
        send(child.id(), "INT");
        assert_eq!(wait(&mut child, SECONDS).code(), Some(130), "{watch}");
    }
}

#[test]
fn help_shows_how_each_command_is_typed() {
    for kind in
        ["counter", "countermap", "map", "indexedmap", "multimap", "set", "value", "election"]
    {
        let listed = run_plain(&format!("{kind} --help"));
        assert!(listed.status.success());
        let listed = text(&listed);
        let commands = listed.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
        // What a line continues is indented further.
        let begins = commands.lines().filter(|line| !line.starts_with("   "));
        let named = begins.filter_map(|line| line.split_whitespace().next());
        for command in named.filter(|command| *command != "help") {
            let help = text(&run_plain(&format!("{kind} {command} --help")));
            let example = format!("ringraft {kind} {command} ");
            assert!(help.contains(&example), "{kind} {command}: no example in\n{help}");
        }
    }
}

fn all(said: &[Said<'_>]) {
    if possible() {
        said.iter().for_each(|said| check(shared(), *said));
    }
}

fn check(api: &str, (typed, status, printed): Said<'_>) {
    let output = run(api, typed);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{typed}: {}{error}", text(&output));
    let out = text(&output);
    match printed.strip_suffix("...") {
        Some(begin) => assert!(out.starts_with(begin), "{typed}: {out}"),
        None => assert_eq!(out, printed, "{typed}: {error}"),
    }
    // What went wrong is told in its own place, in one line that begins alike.
    let wrong = !matches!(status, 0 | 2) && printed.is_empty();
    assert_eq!(error.starts_with("ringraft: "), wrong, "{typed}: {error}");
}

/// A line that begins so, if one comes soon.
fn until_told(seen: &Receiver<String>, begin: &str) -> Option<String> {
    loop {
        let line = seen.recv_timeout(Duration::from_millis(100)).ok()?;
        if line.starts_with(begin) {
            return Some(line);
        }
    }
}

fn run(api: &str, typed: &str) -> Output {
    let mut command = Command::new(binary());
    command.args(typed.split(' ')).env("RINGRAFT_ENDPOINT", api);
    command.stdin(Stdio::null()).output().unwrap()
}

fn run_plain(typed: &str) -> Output {
    Command::new(binary()).args(typed.split(' ')).stdin(Stdio::null()).output().unwrap()
}

fn spawn(api: &str, typed: &str) -> Child {
    Command::new(binary())
        .args(typed.split(' '))
        .env("RINGRAFT_ENDPOINT", api)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
