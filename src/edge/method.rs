//! The table of methods: gRPC path → what it asks, and where its input stands in the log.
//!
//! It lists every method that a node serves, also of primitives whose state machine answers with an
//! error. Nothing else in the program knows paths or oneof tags. The paths of rsm name the same
//! rows once more, but for what only one side has: transactions of maps there, watches of
//! partitions and the Node service here. Absent on purpose: `list.v1.List`, which is declared
//! upstream and unusable, and any code (`request.rs`, `response.rs`).

use crate::edge::dialect::Dialect;
use crate::id::Kind;
use crate::wire::shape::{self, Shape};

/// One method.
#[derive(Debug)]
pub struct Method {
    /// Its name, the last part of the path.
    pub name: &'static str,
    /// What it asks.
    pub what: What,
    /// Whether the server streams its answers.
    pub streaming: bool,
    /// The fields of its input.
    pub shape: Shape,
}

/// What a method asks, and what its request looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// `{headers: CommandRequestHeaders, input}` of a primitive.
    Command(Operation),
    /// `{headers: QueryRequestHeaders, input}` of a primitive.
    Query(Operation),
    /// `{headers: CommandRequestHeaders, input}` of the Session service.
    Life(Life),
    /// `{headers: PartitionRequestHeaders, input}`.
    Session(Session),
    /// `{partition_id}`.
    WatchPartition,
    /// The Node service.
    Node(Node),
    /// The Cluster service, ours.
    Cluster(Cluster),
    /// What the node's edge answers itself: no shard hears of it.
    Edge(Edge),
}

/// An operation of a primitive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Of which kind.
    pub kind: Kind,
    /// The member of the oneof in `<P>Input` and `<P>Output`.
    pub tag: u8,
    /// What a request without an input means (wire.md, decision 5).
    pub absent: Absent,
}

/// What a request without an input means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absent {
    /// The empty input.
    Empty,
    /// Nothing that could be done: the payload stays empty, and the state machine answers INVALID.
    Invalid,
}

/// Opening and closing primitives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Life {
    CreatePrimitive,
    ClosePrimitive,
}

/// A session's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Session {
    Open,
    KeepAlive,
    Close,
}

/// What a node is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Node {
    Bootstrap,
    Join,
    Leave,
    Watch,
}

/// What an operator asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Cluster {
    DescribePartition,
    RemoveMember,
    MoveLeader,
}

/// The services of gRPC's own that a node has: whether it serves, and what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Edge {
    HealthCheck,
    HealthList,
    HealthWatch,
    Reflect,
}

/// The services and their methods.
#[derive(Debug)]
pub struct Service {
    /// Its full name, the first part of the path.
    pub name: &'static str,
    /// What is spoken there; `None` is what the listener speaks.
    pub dialect: Option<Dialect>,
    /// What it offers.
    pub methods: &'static [Method],
}

/// The number of the method that `path` (`/package.Service/Method`) names.
#[must_use]
pub fn find(path: &[u8]) -> Option<u16> {
    let path = path.strip_prefix(b"/")?;
    let slash = path.iter().position(|byte| *byte == b'/')?;
    let (service, name) = (&path[..slash], &path[slash + 1..]);
    let at = SERVICES.iter().position(|known| known.name.as_bytes() == service)?;
    let methods = SERVICES[at].methods;
    let method = methods.iter().position(|known| known.name.as_bytes() == name)?;
    Some((at << 8 | method) as u16)
}

/// The method with this number, which `find` gave.
#[inline]
#[must_use]
pub fn get(number: u16) -> &'static Method {
    &SERVICES[usize::from(number >> 8)].methods[usize::from(number & 0xFF)]
}

/// The dialect of a call of the method with this number, which `find` gave, at a listener that
/// speaks `listener`.
#[inline]
#[must_use]
pub fn dialect(number: u16, listener: Dialect) -> Dialect {
    SERVICES[usize::from(number >> 8)].dialect.unwrap_or(listener)
}

/// Every service that a node serves.
pub static SERVICES: [Service; 27] = [
    service("atomix.multiraft.v1.Node", NODE),
    service("atomix.multiraft.v1.Partition", PARTITION),
    service("atomix.multiraft.v1.Session", SESSION),
    service("atomix.multiraft.counter.v1.Counter", COUNTER),
    service("atomix.multiraft.countermap.v1.CounterMap", COUNTER_MAP),
    service("atomix.multiraft.election.v1.LeaderElection", ELECTION),
    service("atomix.multiraft.indexedmap.v1.IndexedMap", INDEXED_MAP),
    service("atomix.multiraft.lock.v1.Lock", LOCK),
    service("atomix.multiraft.map.v1.Map", MAP),
    service("atomix.multiraft.multimap.v1.MultiMap", MULTI_MAP),
    service("atomix.multiraft.set.v1.Set", SET),
    service("atomix.multiraft.value.v1.Value", VALUE),
    rsm("atomix.protocols.rsm.v1.Partition", RSM_PARTITION),
    rsm("atomix.protocols.rsm.v1.Session", RSM_SESSION),
    rsm("atomix.protocols.rsm.counter.v1.Counter", COUNTER),
    rsm("atomix.protocols.rsm.countermap.v1.CounterMap", COUNTER_MAP),
    rsm("atomix.protocols.rsm.election.v1.LeaderElection", ELECTION),
    rsm("atomix.protocols.rsm.indexedmap.v1.IndexedMap", INDEXED_MAP),
    rsm("atomix.protocols.rsm.lock.v1.Lock", LOCK),
    rsm("atomix.protocols.rsm.map.v1.Map", RSM_MAP),
    rsm("atomix.protocols.rsm.multimap.v1.MultiMap", MULTI_MAP),
    rsm("atomix.protocols.rsm.set.v1.Set", SET),
    rsm("atomix.protocols.rsm.value.v1.Value", VALUE),
    service("ringraft.cluster.v1.Cluster", CLUSTER),
    service("grpc.health.v1.Health", HEALTH),
    service("grpc.reflection.v1.ServerReflection", REFLECTION),
    service("grpc.reflection.v1alpha.ServerReflection", REFLECTION),
];

const fn service(name: &'static str, methods: &'static [Method]) -> Service {
    Service { name, dialect: None, methods }
}

const fn rsm(name: &'static str, methods: &'static [Method]) -> Service {
    Service { name, dialect: Some(Dialect::Rsm), methods }
}

const NODE: &[Method] = &[
    other("Bootstrap", What::Node(Node::Bootstrap), shape::EMPTY),
    other("Join", What::Node(Node::Join), shape::EMPTY),
    other("Leave", What::Node(Node::Leave), shape::EMPTY),
    other("Watch", What::Node(Node::Watch), shape::EMPTY).streams(),
];

const PARTITION: &[Method] = &[
    other("OpenSession", What::Session(Session::Open), shape::WAIT),
    other("KeepAlive", What::Session(Session::KeepAlive), shape::KEEP_ALIVE),
    other("CloseSession", What::Session(Session::Close), shape::NUMBER),
    other("Watch", What::WatchPartition, shape::EMPTY).streams(),
];

/// Without Watch.
const RSM_PARTITION: &[Method] = PARTITION.split_at(3).0;

const SESSION: &[Method] = &[
    other("CreatePrimitive", What::Life(Life::CreatePrimitive), shape::CREATE),
    other("ClosePrimitive", What::Life(Life::ClosePrimitive), shape::NUMBER),
];

/// With a spec of another form.
const RSM_SESSION: &[Method] = &[
    other("CreatePrimitive", What::Life(Life::CreatePrimitive), shape::CREATE_TYPED),
    other("ClosePrimitive", What::Life(Life::ClosePrimitive), shape::NUMBER),
];

const COUNTER: &[Method] = {
    use Kind::Counter;
    &[
        command(Counter, "Increment", 1, shape::NUMBER),
        command(Counter, "Decrement", 2, shape::NUMBER),
        query(Counter, "Get", 3, shape::EMPTY).lone(),
        command(Counter, "Set", 4, shape::NUMBER),
        command(Counter, "Update", 5, shape::NUMBERS),
    ]
};

const COUNTER_MAP: &[Method] = {
    use Kind::CounterMap;
    &[
        query(CounterMap, "Size", 1, shape::EMPTY).lone(),
        command(CounterMap, "Set", 2, shape::KEY_NUMBER),
        command(CounterMap, "Insert", 3, shape::KEY_NUMBER),
        command(CounterMap, "Update", 4, shape::KEY_NUMBERS),
        command(CounterMap, "Increment", 5, shape::KEY_NUMBER),
        command(CounterMap, "Decrement", 6, shape::KEY_NUMBER),
        query(CounterMap, "Get", 7, shape::KEY),
        command(CounterMap, "Remove", 8, shape::KEY_AT_2_NUMBER),
        command(CounterMap, "Clear", 9, shape::EMPTY).lone(),
        command(CounterMap, "Lock", 10, shape::KEYS_TIME).lone(),
        command(CounterMap, "Unlock", 11, shape::KEY).lone(),
        query(CounterMap, "Entries", 12, shape::NUMBER).lone().streams(),
        command(CounterMap, "Events", 13, shape::KEY).lone().streams(),
    ]
};

const ELECTION: &[Method] = {
    use Kind::LeaderElection;
    &[
        command(LeaderElection, "Enter", 1, shape::KEY),
        command(LeaderElection, "Withdraw", 2, shape::KEY),
        command(LeaderElection, "Anoint", 3, shape::KEY),
        command(LeaderElection, "Promote", 4, shape::CANDIDATE_AT_2),
        command(LeaderElection, "Evict", 5, shape::KEY),
        query(LeaderElection, "GetTerm", 6, shape::EMPTY).lone(),
        query(LeaderElection, "Watch", 7, shape::EMPTY).lone().streams(),
        command(LeaderElection, "Demote", 8, shape::CANDIDATE_AT_2),
    ]
};

const INDEXED_MAP: &[Method] = {
    use Kind::IndexedMap;
    &[
        query(IndexedMap, "Size", 1, shape::EMPTY).lone(),
        command(IndexedMap, "Append", 2, shape::KEY_VALUE_NEW),
        command(IndexedMap, "Update", 3, shape::INDEXED_UPDATE),
        query(IndexedMap, "Get", 4, shape::KEY_NUMBER),
        query(IndexedMap, "FirstEntry", 5, shape::EMPTY).lone(),
        query(IndexedMap, "LastEntry", 6, shape::EMPTY).lone(),
        query(IndexedMap, "NextEntry", 7, shape::NUMBER),
        query(IndexedMap, "PrevEntry", 8, shape::NUMBER),
        command(IndexedMap, "Remove", 9, shape::KEY_NUMBERS),
        command(IndexedMap, "Clear", 10, shape::EMPTY).lone(),
        query(IndexedMap, "Entries", 11, shape::NUMBER).lone().streams(),
        command(IndexedMap, "Events", 12, shape::KEY).lone().streams(),
    ]
};

const LOCK: &[Method] = {
    use Kind::Lock;
    &[
        command(Lock, "Acquire", 1, shape::WAIT).lone(),
        command(Lock, "Release", 2, shape::EMPTY).lone(),
        query(Lock, "Get", 3, shape::EMPTY).lone(),
    ]
};

/// Without transactions.
const MAP: &[Method] = RSM_MAP.split_at(11).0;

const RSM_MAP: &[Method] = {
    use Kind::Map;
    &[
        query(Map, "Size", 1, shape::EMPTY).lone(),
        command(Map, "Put", 2, shape::KEY_VALUE),
        command(Map, "Insert", 3, shape::KEY_VALUE_NEW),
        command(Map, "Update", 4, shape::KEY_VALUE),
        query(Map, "Get", 5, shape::KEY),
        command(Map, "Remove", 6, shape::KEY_NUMBER),
        command(Map, "Clear", 7, shape::EMPTY).lone(),
        command(Map, "Lock", 8, shape::KEYS_TIME).lone(),
        command(Map, "Unlock", 9, shape::KEY).lone(),
        query(Map, "Entries", 10, shape::NUMBER).lone().streams(),
        command(Map, "Events", 11, shape::KEY).lone().streams(),
        command(Map, "Prepare", 12, shape::NUMBERED_CHANGES),
        command(Map, "Commit", 13, shape::NUMBER),
        command(Map, "Abort", 14, shape::NUMBER),
        command(Map, "Apply", 15, shape::CHANGES),
    ]
};

const MULTI_MAP: &[Method] = {
    use Kind::MultiMap;
    &[
        query(MultiMap, "Size", 1, shape::EMPTY).lone(),
        command(MultiMap, "Put", 2, shape::TEXTS),
        command(MultiMap, "PutAll", 3, shape::TEXTS),
        command(MultiMap, "Replace", 4, shape::TEXTS),
        query(MultiMap, "Contains", 5, shape::TEXTS),
        query(MultiMap, "Get", 6, shape::KEY),
        command(MultiMap, "Remove", 7, shape::TEXTS),
        command(MultiMap, "RemoveAll", 8, shape::TEXTS),
        command(MultiMap, "Clear", 9, shape::EMPTY).lone(),
        query(MultiMap, "Entries", 10, shape::NUMBER).lone().streams(),
        command(MultiMap, "Events", 11, shape::KEY).lone().streams(),
        command(MultiMap, "PutEntries", 12, shape::ENTRIES),
        command(MultiMap, "RemoveEntries", 13, shape::ENTRIES),
    ]
};

const SET: &[Method] = {
    use Kind::Set;
    &[
        query(Set, "Size", 1, shape::EMPTY).lone(),
        query(Set, "Contains", 2, shape::ELEMENT),
        command(Set, "Add", 3, shape::ELEMENT_TIME),
        command(Set, "Remove", 4, shape::ELEMENT),
        command(Set, "Clear", 5, shape::EMPTY).lone(),
        query(Set, "Elements", 6, shape::NUMBER).lone().streams(),
        command(Set, "Events", 7, shape::EMPTY).lone().streams(),
    ]
};

const VALUE: &[Method] = {
    use Kind::Value;
    &[
        query(Value, "Get", 1, shape::EMPTY).lone(),
        command(Value, "Set", 2, shape::VALUE),
        command(Value, "Insert", 3, shape::VALUE),
        command(Value, "Update", 4, shape::VALUE_UPDATE),
        command(Value, "Delete", 5, shape::NUMBER).lone(),
        query(Value, "Watch", 6, shape::EMPTY).lone().streams(),
        command(Value, "Events", 7, shape::EMPTY).lone().streams(),
    ]
};

const CLUSTER: &[Method] = &[
    other("DescribePartition", What::Cluster(Cluster::DescribePartition), shape::EMPTY),
    other("RemoveMember", What::Cluster(Cluster::RemoveMember), shape::EMPTY),
    other("MoveLeader", What::Cluster(Cluster::MoveLeader), shape::EMPTY),
];

const HEALTH: &[Method] = &[
    other("Check", What::Edge(Edge::HealthCheck), shape::EMPTY),
    other("List", What::Edge(Edge::HealthList), shape::EMPTY),
    other("Watch", What::Edge(Edge::HealthWatch), shape::EMPTY).streams(),
];

const REFLECTION: &[Method] =
    &[other("ServerReflectionInfo", What::Edge(Edge::Reflect), shape::EMPTY).streams()];

const fn command(kind: Kind, name: &'static str, tag: u8, shape: Shape) -> Method {
    let what = What::Command(Operation { kind, tag, absent: Absent::Invalid });
    Method { name, what, streaming: false, shape }
}

const fn query(kind: Kind, name: &'static str, tag: u8, shape: Shape) -> Method {
    let what = What::Query(Operation { kind, tag, absent: Absent::Invalid });
    Method { name, what, streaming: false, shape }
}

const fn other(name: &'static str, what: What, shape: Shape) -> Method {
    Method { name, what, streaming: false, shape }
}

impl Method {
    /// Whether a call's request is one message; else each message of it is answered by one.
    #[must_use]
    pub const fn is_single(&self) -> bool {
        !matches!(self.what, What::Edge(Edge::Reflect))
    }

    const fn streams(mut self) -> Method {
        self.streaming = true;
        self
    }

    /// Its empty input means something, or no input does.
    const fn lone(mut self) -> Method {
        self.what = match self.what {
            What::Command(operation) => {
                What::Command(Operation { absent: Absent::Empty, ..operation })
            }
            What::Query(operation) => What::Query(Operation { absent: Absent::Empty, ..operation }),
            other => other,
        };
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! proto {
        ($path:literal) => {
            include_str!(concat!("../../proto/documented/atomix/multiraft/", $path, ".proto"))
        };
        (grpc $path:literal) => {
            include_str!(concat!("../../proto/grpc/grpc/", $path, ".proto"))
        };
    }

    macro_rules! rsm {
        ($path:literal) => {
            include_str!(concat!("../../proto/rsm/atomix/protocols/rsm/", $path, ".proto"))
        };
    }

    #[test]
    fn paths_are_found_and_only_they() {
        let increment = find(b"/atomix.multiraft.counter.v1.Counter/Increment").expect("served");
        assert_eq!(get(increment).name, "Increment");
        for path in [
            &b""[..],
            b"/",
            b"//",
            b"atomix.multiraft.counter.v1.Counter/Increment",
            b"/atomix.multiraft.counter.v1.Counter/",
            b"/atomix.multiraft.counter.v1.Counter/increment",
            b"/atomix.multiraft.counter.v1.Counter/Increment/",
            b"/atomix.multiraft.list.v1.List/Size",
            b"/atomix.multiraft.map.v1.Map/Prepare",
            b"/atomix.protocols.rsm.v1.Partition/Watch",
            b"/atomix.protocols.rsm.v1.Node/Watch",
        ] {
            assert!(find(path).is_none(), "{}", String::from_utf8_lossy(path));
        }
        for service in &SERVICES {
            for method in service.methods {
                // Not supported, whatever the request names (primitives.md 2.2, 2.7).
                if let What::Command(operation) = method.what
                    && matches!(operation.kind, Kind::Map | Kind::CounterMap)
                    && matches!(method.name, "Lock" | "Unlock")
                {
                    assert_eq!(operation.absent, Absent::Empty);
                }
                let path = format!("/{}/{}", service.name, method.name);
                let found = find(path.as_bytes()).expect("every method is found by its path");
                assert!(std::ptr::eq(get(found), method), "{path}");
                let spoken = dialect(found, Dialect::Documented);
                assert_eq!(spoken == Dialect::Rsm, path.contains(".rsm."), "{path}");
                assert_eq!(dialect(found, spoken), spoken, "{path}");
            }
        }
    }

    /// The table against the contract itself: every rpc of `proto/`, its streaming, its member of
    /// the oneof and the wire types of its input.
    #[test]
    fn the_table_is_the_contract() {
        let mut served = 0;
        assert_eq!(SERVICES.len(), CONTRACT.len());
        for (service, (fsm, text)) in SERVICES.iter().zip(CONTRACT) {
            let name = service.name.rsplit_once('.').expect("a name with a package").1;
            let text = format!("{fsm}{text}");
            let from = text.find(&format!("service {name} {{")).expect("the service is there");
            let body = &text[from..from + text[from..].find("\n}").expect("its end")];
            let rpcs: Vec<&str> = body.lines().filter(|line| line.contains(" rpc ")).collect();
            assert_eq!(rpcs.len(), service.methods.len(), "{}", service.name);
            for method in service.methods {
                let start = format!("rpc {}(", method.name);
                let rpc = rpcs.iter().find(|line| line.contains(&start)).expect("the rpc is there");
                assert_eq!(rpc.contains("returns (stream"), method.streaming, "{rpc}");
                let takes_one = !rpc.contains(&format!("{start}stream "));
                assert_eq!(takes_one, method.is_single(), "{rpc}");
                check_tag(&text, method);
                served += 1;
            }
        }
        // The last generation has neither Node nor Partition.Watch, and transactions of maps; three
        // are ours.
        assert_eq!(served, 94 + (89 - 4 - 1 + 4) + 3);
    }

    /// The messages and the service of each package, in the order of `SERVICES`.
    const CONTRACT: [(&str, &str); 27] = [
        ("", proto!("v1/node")),
        ("", proto!("v1/partition")),
        ("", proto!("v1/session")),
        (proto!("counter/v1/fsm"), proto!("counter/v1/service")),
        (proto!("countermap/v1/fsm"), proto!("countermap/v1/service")),
        (proto!("election/v1/fsm"), proto!("election/v1/service")),
        (proto!("indexedmap/v1/fsm"), proto!("indexedmap/v1/service")),
        (proto!("lock/v1/fsm"), proto!("lock/v1/service")),
        (proto!("map/v1/fsm"), proto!("map/v1/service")),
        (proto!("multimap/v1/fsm"), proto!("multimap/v1/service")),
        (proto!("set/v1/fsm"), proto!("set/v1/service")),
        (proto!("value/v1/fsm"), proto!("value/v1/service")),
        ("", rsm!("v1/partition")),
        ("", rsm!("v1/session")),
        ("", rsm!("counter/v1/counter")),
        ("", rsm!("countermap/v1/countermap")),
        ("", rsm!("election/v1/election")),
        ("", rsm!("indexedmap/v1/indexedmap")),
        ("", rsm!("lock/v1/lock")),
        ("", rsm!("map/v1/map")),
        ("", rsm!("multimap/v1/multimap")),
        ("", rsm!("set/v1/set")),
        ("", rsm!("value/v1/value")),
        ("", include_str!("../../proto/cluster/ringraft/cluster/v1/cluster.proto")),
        ("", proto!(grpc "health/v1/health")),
        ("", proto!(grpc "reflection/v1/reflection")),
        ("", proto!(grpc "reflection/v1alpha/reflection")),
    ];

    fn check_tag(text: &str, method: &Method) {
        let (What::Command(operation) | What::Query(operation)) = method.what else { return };
        for (suffix, message) in [("Input", "Input {"), ("Output", "Output {")] {
            let from = text.find(&format!("message {}{message}", operation.kind)).expect("oneof");
            let body = &text[from..from + text[from..].find("\n}").expect("its end")];
            let member = body
                .lines()
                .find(|line| line.trim().starts_with(&format!("{}{suffix} ", method.name)))
                .unwrap_or_else(|| panic!("{} has a member in {message}", method.name));
            assert!(member.ends_with(&format!("= {};", operation.tag)), "{member}");
        }
        let from = text.find(&format!("message {}Input {{", method.name)).expect("its input");
        let end = text[from..].find('}').expect("its end");
        let fields: Vec<&str> = text[from..from + end].lines().skip(1).collect();
        let fields: Vec<_> = fields.iter().filter(|line| line.contains('=')).collect();
        assert!(method.shape.len() >= fields.len(), "{}: {fields:?}", method.name);
        for field in fields {
            let (declaration, number) = field.trim().split_once(" = ").expect("a field");
            let number: u32 = number.trim_end_matches(';').parse().expect("a number");
            let (_, part) = method.shape.iter().find(|(known, _)| *known == number).expect("known");
            let kind = declaration.trim_start_matches("repeated ").split(' ').next();
            let expected = match kind.expect("a type") {
                "string" => matches!(part, shape::Part::Text),
                "bytes" => matches!(part, shape::Part::Bytes),
                "bool" | "int64" | "uint64" | "uint32" => matches!(part, shape::Part::Number),
                "google.protobuf.Duration" => matches!(part, shape::Part::Duration),
                _ => matches!(part, shape::Part::Message(_)),
            };
            assert!(expected, "{} of {}: {part:?}", field.trim(), method.name);
        }
    }
}
