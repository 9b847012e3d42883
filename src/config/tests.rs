//! The table against `tuning/node.toml`, each bound at both edges, and what is said of mistakes.

use super::*;

const SHIPPED: &str = include_str!("../../tuning/node.toml");

#[test]
fn the_shipped_file_holds_every_key_at_its_default() {
    // Values that differ from every default, so that a key the file lacks would show.
    let mut config = NodeConfig::default();
    for key in KEYS {
        if let Holds::Number { max, set, .. } = key.holds {
            set(&mut config, max);
        }
    }
    for (key, other) in [
        ("node.data_dir", "elsewhere"),
        ("node.listen", "h:1"),
        ("node.peer_listen", "h:2"),
        ("node.dialect", "released"),
        ("node.listen_also", "released=h:3"),
        ("node.trace", "trace"),
        ("cluster.nodes", "1=h:4,2=h:5"),
    ] {
        config.set(key, "", other).expect(key);
    }
    config.read(SHIPPED).expect("the shipped file");
    assert!(std::mem::take(&mut config.partitions_said), "the file says it");
    assert_eq!(config, NodeConfig::default());
    config.check().expect("defaults agree with each other");
}

#[test]
fn the_shipped_file_states_each_keys_bounds() {
    for key in KEYS {
        let allowed = format!("allowed: {}", key.allowed());
        let at = SHIPPED.find(&format!("\n{} = ", key.name)).expect(key.name);
        let before = SHIPPED[..at].rsplit("\n\n").next().unwrap_or_default();
        assert!(before.contains(&allowed), "above {}: no {allowed:?}", key.full_name());
    }
}

#[test]
fn each_bound_holds_at_both_edges() {
    for key in KEYS {
        let Holds::Number { min, max, get, .. } = key.holds else { continue };
        let line = |value: &str| format!("[{}]\n{} = {value}\n", key.section, key.name);
        for good in [min, max] {
            let mut config = NodeConfig::default();
            config.read(&line(&good.to_string())).expect(key.name);
            assert_eq!(get(&config), good, "{}", key.full_name());
        }
        let beyond = [min.checked_sub(1).map_or("-1".to_owned(), |n| n.to_string())];
        for bad in beyond.into_iter().chain([(max + 1).to_string(), "9e3".into(), "\"8\"".into()]) {
            let faults = NodeConfig::default().read(&line(&bad)).expect_err(&bad);
            assert_eq!(faults.len(), 1);
            assert_eq!(faults[0].line, Some(2));
            assert!(faults[0].text.contains(&key.allowed()), "{}", faults[0]);
        }
    }
}

#[test]
fn mistakes_are_all_told_with_their_lines() {
    let file = "[node]\nid = 0\nshard = 2\n\n[raft]\nx = 1\n\n[cluster]\npartitions = true\n";
    let faults = NodeConfig::default().read(file).expect_err("four mistakes");
    let told: Vec<String> = faults.iter().map(Fault::to_string).collect();
    assert_eq!(
        told,
        [
            "line 2: id: out of bounds; allowed: 1 to 4294967295",
            "line 3: unknown key shard in [node]; known are id, data_dir, listen, peer_listen, \
             shards, spin_us, dialect, listen_also, trace, drain_ms",
            "line 5: unknown table [raft]; known are node, journal, peer, connection, cluster",
            "line 9: partitions: not a whole number; allowed: 0 to 4096 partitions",
        ]
    );
}

#[test]
fn a_broken_file_is_told_with_its_line() {
    let faults = NodeConfig::default().read("[node]\nid = \n").expect_err("no value");
    assert_eq!(faults[0].line, Some(2));
    let faults = NodeConfig::default().read("node = 3\n").expect_err("not a table");
    assert_eq!(faults[0].to_string(), "line 1: node is a table: write [node] on a line of its own");
}

#[test]
fn a_flag_wins_over_the_file_and_names_itself_when_wrong() {
    let mut config = NodeConfig::default();
    config.read("[cluster]\npartitions = 3\n").expect("a file");
    config.set("cluster.partitions", "--partitions", "5").expect("a flag");
    assert_eq!(config.cluster.partitions, 5);
    let fault = config.set("cluster.partitions", "--partitions", "many").expect_err("no number");
    let allowed = "allowed: 0 to 4096 partitions";
    assert_eq!(fault.to_string(), format!("--partitions many: not a whole number; {allowed}"));
    let fault = config.set("node.listen", "--listen", "5678").expect_err("no host");
    assert!(fault.to_string().contains("HOST:PORT"), "{fault}");
}

#[test]
fn the_nodes_of_a_cluster_are_a_list() {
    let mut config = NodeConfig::default();
    let file = "[cluster]\nnodes = [\"1=a.example:5679\", \"2=[::1]:5679\"]\nreplicas = 2\n";
    config.read(file).expect("a file");
    let shown: Vec<String> = config.cluster.nodes.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["1=a.example:5679", "2=[::1]:5679"]);
    let mut typed = NodeConfig::default();
    typed.set("cluster.nodes", "--cluster-node", "1=a.example:5679,2=[::1]:5679").expect("flags");
    assert_eq!(typed.cluster.nodes, config.cluster.nodes);
    assert_ne!(typed.cluster.digest(), config.cluster.digest(), "replicas differ");
    assert_ne!(typed.cluster.digest(), NodeConfig::default().cluster.digest(), "nodes differ");
    for bad in ["nodes = \"1=a:1\"", "nodes = [1]", "nodes = [\"a:1\"]", "nodes = [\"0=a:1\"]"] {
        let faults = NodeConfig::default().read(&format!("[cluster]\n{bad}\n")).expect_err(bad);
        assert!(faults[0].text.contains("ID=HOST:PORT"), "{}", faults[0]);
    }
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    for (file, about) in [
        ("[cluster]\nheartbeat_ms = 90", "multiple"),
        ("[cluster]\nelection_ms = 200", "three times"),
        ("[cluster]\nnodes = [\"1=h:1\", \"1=h:2\"]", "one id twice"),
        ("[cluster]\nnodes = [\"1=h:1\", \"2=h:1\"]", "one address twice"),
        ("[cluster]\nsession_max_ms = 2000", "session_default_ms"),
        ("[node]\npeer_listen = \"127.0.0.1:5678\"", "same address"),
        ("[node]\nlisten_also = \"released=127.0.0.1:5678\"", "listen_also"),
        ("[node]\nlisten_also = \"released=127.0.0.1:5679\"", "listen_also"),
    ] {
        let mut config = NodeConfig::default();
        config.read(file).expect(file);
        let faults = config.check().expect_err(file);
        assert!(faults[0].text.contains(about), "{}", faults[0]);
    }
}

#[test]
fn addresses_are_read_and_written_alike() {
    for good in ["127.0.0.1:5678", "[::1]:0", "db1.example:65535", "localhost:1"] {
        assert_eq!(Address::parse(good).map(|a| a.to_string()).as_deref(), Some(good));
    }
    for bad in ["", ":1", "h", "h:", "h:65536", "h:+1", "::1:80", "[::1:80", "a b:1", "http://h:1"]
    {
        assert_eq!(Address::parse(bad), None, "{bad}");
    }
}

#[test]
fn another_listener_has_a_dialect_and_an_address() {
    let mut config = NodeConfig::default();
    for good in ["released=127.0.0.1:5680", "documented=[::1]:0", ""] {
        config.set("node.listen_also", "--listen-also", good).expect(good);
        let written = config.listen_also.as_ref().map(ToString::to_string);
        assert_eq!(written.unwrap_or_default(), good);
        config.check().expect(good);
    }
    for bad in ["127.0.0.1:5680", "rsm=127.0.0.1:5680", "released", "released=5680", "=h:1", "="] {
        let fault = config.set("node.listen_also", "--listen-also", bad).expect_err(bad);
        assert!(fault.to_string().contains("DIALECT=HOST:PORT"), "{fault}");
    }
}

#[test]
fn keys_that_came_later_leave_the_digest_of_directories_as_it_was() {
    let mut config = NodeConfig::default();
    config.cluster.election = Span::millis(1_000);
    assert_eq!(config.cluster.digest(), 0xE325_680B_EFB5_81F4, "made before there were nodes");
}

#[test]
fn the_digest_tells_clusters_apart_and_ignores_the_node() {
    let base = NodeConfig::default();
    let mut other = base.clone();
    other.set("node.id", "", "7").expect("a node");
    assert_eq!(base.cluster.digest(), other.cluster.digest());
    for key in KEYS.iter().filter(|key| key.section == "cluster") {
        let Holds::Number { min, default, set, .. } = key.holds else { continue };
        let mut other = base.clone();
        set(&mut other, if default == min { min + 1 } else { min });
        assert_ne!(base.cluster.digest(), other.cluster.digest(), "{}", key.name);
    }
}
