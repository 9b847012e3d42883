//! The reference's file as its controller, its users and their mistakes write it.

use super::*;

fn read(file: &str) -> Result<NodeConfig, Vec<String>> {
    let mut config = NodeConfig::in_place();
    let read = config.read_reference(file).and_then(|()| config.check());
    read.map(|()| config).map_err(|faults| faults.iter().map(Fault::to_string).collect())
}

fn pace(config: &NodeConfig) -> [u64; 3] {
    let cluster = &config.cluster;
    assert_eq!(cluster.tick, cluster.heartbeat, "the reference beats once a tick");
    [cluster.heartbeat.0, cluster.election.0, cluster.election.0 / cluster.tick.0]
}

const MS: u64 = 1_000_000;

#[test]
fn nothing_said_is_as_the_reference_has_it() {
    for file in ["{}", " \n{ }\n", "{\"data_dir\":\"\"}", "{\"heartbeat_period\":null}"] {
        let config = read(file).expect(file);
        assert_eq!(config, NodeConfig::in_place(), "{file}");
        assert_eq!(pace(&config), [250 * MS, 2_500 * MS, 10]);
        assert_eq!((config.snapshot_entries, config.retain_entries), (10_000, 1_000));
        assert_eq!(config.data_dir, PathBuf::from("/var/lib/atomix/data"));
        assert_eq!((config.dialect, config.cluster.partitions), (Dialect::Released, 0));
        assert!(!config.partitions_said, "a directory that has some keeps them");
        assert_eq!((config.listen.port, config.peer_listen.port), (8080, 5000));
    }
}

#[test]
fn every_way_to_write_a_value_is_read() {
    let quarter = [250 * MS, 2_500 * MS, 10];
    let half = [500 * MS, 5_000 * MS, 10];
    for (file, expected) in [
        // As the controller writes it.
        (r#"{"heartbeat_period":500000000,"snapshot_entry_threshold":10000}"#, half),
        (r#"{"heartbeat_period":500000000,"election_timeout":5000000000}"#, half),
        (r#"{"heartbeat_period":"500000000"}"#, half),
        (r#"{"heartbeatPeriod":"500ms"}"#, half),
        (r#"{"heartbeat_period":"0.5s"}"#, half),
        (r#"{"heartbeat_period":".5s"}"#, half),
        (r#"{"heartbeat_period":"+500000us"}"#, half),
        ("{\"heartbeat_period\":\"500000\u{b5}s\"}", half),
        ("{\"heartbeat_period\":\"500000\u{3bc}s\"}", half),
        (r#"{"heartbeat_period":"500000000ns"}"#, half),
        (r#"{"electionTimeout":"2.5s"}"#, quarter),
        (r#"{"election_timeout":"1m"}"#, [250 * MS, 60_000 * MS, 240]),
        (r#"{"election_timeout":"1m2.5s"}"#, [250 * MS, 62_500 * MS, 250]),
        // Cut to whole heartbeats, and those to whole milliseconds.
        (r#"{"election_timeout":"2.7s"}"#, quarter),
        (r#"{"heartbeat_period":"250.9ms"}"#, quarter),
        (r#"{"heartbeat_period":"1ms","election_timeout":"3ms"}"#, [MS, 3 * MS, 3]),
        // Only the first value counts.
        (r#"{"heartbeat_period":"500ms"} {"heartbeat_period":"1s"} and so on"#, half),
        (r#"{"heartbeat\u005fperiod":"500ms"}"#, half),
    ] {
        let config = read(file).unwrap_or_else(|faults| panic!("{file}: {faults:?}"));
        assert_eq!(pace(&config), expected, "{file}");
    }
}

#[test]
fn counts_and_the_directory_come_in_both_spellings() {
    for (file, expected) in [
        (r#"{"snapshot_entry_threshold":500,"compaction_retain_entries":7}"#, (500, 7)),
        (r#"{"snapshotEntryThreshold":"500","compactionRetainEntries":"7"}"#, (500, 7)),
        (r#"{"snapshot_entry_threshold":0,"compaction_retain_entries":"0"}"#, (10_000, 1_000)),
        // Nearest that a bound here allows.
        (r#"{"snapshot_entry_threshold":1}"#, (16, 1_000)),
        (r#"{"snapshot_entry_threshold":"18446744073709551615"}"#, (100_000_000, 1_000)),
    ] {
        let config = read(file).expect(file);
        assert_eq!((config.snapshot_entries, config.retain_entries), expected, "{file}");
    }
    for file in [r#"{"data_dir":"/a b"}"#, r#"{"dataDir":"/a\u0020b"}"#] {
        assert_eq!(read(file).expect(file).data_dir, PathBuf::from("/a b"));
    }
}

#[test]
fn mistakes_are_told_with_their_lines() {
    for (file, expected) in [
        ("", "there is no JSON in it"),
        ("{", "line 1: EOF while parsing an object"),
        ("{\n\"data_dir\": \"/a\",\n}", "line 3: trailing comma"),
        ("[1]", "line 1: invalid type: sequence, expected an object"),
        (
            "{\n \"data_dir\": \"/a\",\n \"snapshot_interval\"\n:\n3}",
            "line 3: unknown field \"snapshot_interval\"; known are heartbeat_period, \
             election_timeout, snapshot_entry_threshold, compaction_retain_entries, data_dir",
        ),
        ("{\"data_dir\":3}", "line 1: data_dir: not text: write it in quotes"),
        ("{\n\"data_dir\":\"a\",\n\"dataDir\":\"b\"}", "line 3: dataDir stands there twice"),
        (
            "{\n\"snapshot_entry_threshold\":-1}",
            "line 2: snapshot_entry_threshold: not a whole number from 0 to 18446744073709551615",
        ),
        (
            "{\n\n\"heartbeat_period\":\"fast\"}",
            "line 3: heartbeat_period: not a duration: \"250ms\", \"2.5s\", \"1m30s\" or whole \
             nanoseconds",
        ),
        ("{\"heartbeat_period\":\"-1s\"}", "line 1: heartbeat_period: below zero"),
        ("{\"heartbeat_period\":0}", "line 1: heartbeat_period: below 1ms"),
        ("{\"heartbeat_period\":\"999us\"}", "line 1: heartbeat_period: below 1ms"),
        ("{\"heartbeat_period\":\"61s\"}", "line 1: heartbeat_period: above 60s"),
        ("{\"election_timeout\":\"1h\"}", "line 1: election_timeout: above 600s"),
        (
            "{\"heartbeat_period\":\"500ms\",\n\"election_timeout\":\"1.4s\"}",
            "line 2: election_timeout: must be at least three times heartbeat_period, which is \
             500ms",
        ),
    ] {
        assert_eq!(read(file).expect_err(file), [expected], "{file}");
    }
    // A number without a unit is nanoseconds, whoever meant milliseconds: it is below the least.
    assert!(read("{\"heartbeat_period\":250}").is_err());
    let faults = read("{\"x\":1,\n\"heartbeat_period\":true}").expect_err("two mistakes");
    assert!(faults[0].starts_with("line 1") && faults[1].starts_with("line 2"), "{faults:?}");
}

#[test]
fn durations_are_read_as_go_reads_them() {
    const S: i64 = 1_000_000_000;
    for (text, expected) in [
        ("0", Some(0)),
        ("-0", Some(0)),
        ("1h2m3.5s", Some(3_723 * S + S / 2)),
        ("-1.5h", Some(-5_400 * S)),
        ("1.s", Some(S)),
        ("100000.0000000000000000000000001s", Some(100_000 * S)),
        ("2562047h47m16.854775807s", Some(i64::MAX)),
        ("2562048h", None),
        ("9223372036854775808ns", None),
        ("", None),
        ("+", None),
        (".s", None),
        ("1", None),
        ("1d", None),
        ("1s1", None),
        ("1 s", None),
        ("1.2.3s", None),
    ] {
        assert_eq!(go_duration(text), expected, "{text}");
    }
}

#[test]
fn a_file_is_told_apart_by_name_or_content() {
    assert!(is_reference("raft.json", ""));
    assert!(is_reference("config", "\n {}"));
    assert!(!is_reference("node.toml", "[node]\n"));
    assert!(!is_reference("config", ""));
}

#[test]
fn hosts_that_resolve_only_for_others_are_told_and_not_bound() {
    for (host, bound) in [
        ("node-0.store-hs.default.svc.cluster.local", ""),
        ("localhost", "localhost"),
        ("10.0.0.7", "10.0.0.7"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("", ""),
    ] {
        let mut config = NodeConfig::in_place();
        config.set_raft(Some(host), Some("5679")).expect(host);
        let told = config.in_place.expect("in place").raft_host;
        assert_eq!(
            told.as_deref(),
            Some(host).filter(|host| *host != bound && !host.contains(':'))
        );
        assert_eq!((config.peer_listen.host.as_str(), config.peer_listen.port), (bound, 5679));
    }
    let long = "a".repeat(limits::HOST_BYTES_MAX + 1);
    for bad in ["a b", "a:1", "http://a", "a\n", &long] {
        let mut config = NodeConfig::in_place();
        assert!(config.set_raft(Some(bad), None).is_err(), "{bad}");
        assert!(config.set_api(Some(bad), None).is_err(), "{bad}");
    }
    for bad in ["", "-1", "65536", "x"] {
        let fault = NodeConfig::in_place().set_api(None, Some(bad)).expect_err(bad);
        assert!(fault.text.starts_with("--api-port"), "{fault}");
    }
}

#[test]
fn a_node_is_named_by_the_ordinal_of_its_pod() {
    let two = Some(4_294_967_294);
    for (host, ordinal) in [
        ("store-0.store-hs.default.svc.cluster.local", Some(0)),
        ("my-store-12.x-7", Some(12)),
        ("store-2", Some(2)),
        ("store-4294967294.x", two),
        ("store-4294967295.x", None),
        ("store-.x", None),
        ("store-+1.x", None),
        ("store.x-1", None),
        ("10.0.0.7", None),
        ("", None),
    ] {
        assert_eq!(pod_ordinal(host), ordinal, "{host}");
        let mut config = NodeConfig::in_place();
        config.set_raft(Some(host), None).expect(host);
        assert_eq!(config.id, NodeId(ordinal.map_or(1, |ordinal| ordinal + 1)), "{host}");
    }
    let mut config = NodeConfig::in_place();
    config.set("node.id", "--node-id", "7").expect("an id");
    config.set_raft(Some("store-2"), None).expect("a host");
    assert_eq!(config.id, NodeId(7));
}

#[test]
fn pace_and_address_may_change_between_starts() {
    let base = NodeConfig::in_place();
    let mut other = read(r#"{"heartbeat_period":"50ms"}"#).expect("a file");
    other.set_raft(Some("elsewhere"), None).expect("a name");
    assert_eq!(base.digest(), other.digest());
    other.cluster.session_max = Span::secs(1);
    assert_ne!(base.digest(), other.digest());
    let own = NodeConfig::default();
    assert_eq!(own.digest(), own.cluster.digest());
}
