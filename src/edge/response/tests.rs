//! Responses against the byte examples of core.md and against prost.

use super::*;
use crate::edge::method;
use crate::id::{Index, PartitionId, Position, SessionId, Term};
use crate::wire::rsm;

#[test]
fn responses_are_the_bytes_of_the_reference() {
    // core.md 4.1.
    let headers = |dialect, status, text: &[u8]| {
        let increment = find("/atomix.multiraft.counter.v1.Counter/Increment");
        let mut bytes = Vec::new();
        compose(increment, dialect, &output(status, 1), text, &mut bytes);
        bytes
    };
    let ok = headers(Dialect::Released, Status::Ok, &[0x08, 7]);
    assert_eq!(ok, hex("0a0c0a080a060a040a02082a100112020807"));
    let failed = headers(Dialect::Released, Status::NotFound, b"nope");
    assert_eq!(failed, hex("0a140a100a060a040a02082a10041a046e6f70651001"));
    let ok = headers(Dialect::Documented, Status::Ok, &[]);
    assert_eq!(ok, hex("0a0e0a0a0a060a040a02082a100110011200"), "status 1 and an empty output");
}

/// Add and Remove of a set say in the output what other dialects say as a status (primitives.md
/// 7.3).
#[test]
fn a_set_of_the_rsm_dialect_says_whether_it_changed() {
    let compose_as = |path: &str, status, text: &[u8]| {
        let number = method::find(path.as_bytes()).expect("served");
        let dialect = method::dialect(number, Dialect::Documented);
        let mut bytes = Vec::new();
        compose(method::get(number), dialect, &output(status, 1), text, &mut bytes);
        bytes
    };
    let said = |method: &str, status, text: &[u8]| {
        let path = format!("/atomix.protocols.rsm.set.v1.Set/{method}");
        let bytes = compose_as(&path, status, text);
        let answer = rsm::set::v1::AddResponse::decode(&bytes[..]).expect("decodes");
        let headers = answer.headers.expect("always there");
        assert_eq!(headers.output_sequence_num, 1);
        (headers.operation.expect("always there"), answer.output.map(|output| output.added))
    };
    for (method, refused, other) in [
        ("Add", Status::AlreadyExists, Status::NotFound),
        ("Remove", Status::NotFound, Status::AlreadyExists),
    ] {
        let (head, changed) = said(method, Status::Ok, &[]);
        assert_eq!((head.status, changed), (0, Some(true)), "{method}");
        let (head, changed) = said(method, refused, b"text");
        assert_eq!((head.status, &head.message[..], changed), (0, "", Some(false)), "{method}");
        for status in [other, Status::Forbidden, Status::Invalid] {
            let (head, changed) = said(method, status, b"text");
            assert_eq!((&head.message[..], changed), ("text", None), "{method}");
            assert_eq!(head.status as u64, Dialect::Rsm.status(status));
        }
    }
    assert_eq!(said("Clear", Status::Ok, &[]).1, Some(false), "untouched");
    // Neither another dialect nor another kind's methods with these numbers.
    let bytes = compose_as("/atomix.multiraft.set.v1.Set/Add", Status::AlreadyExists, b"text");
    assert!(bytes.windows(4).any(|window| window == b"text"));
    let path = "/atomix.protocols.rsm.map.v1.Map/Insert";
    let bytes = compose_as(path, Status::AlreadyExists, b"text");
    assert!(bytes.windows(4).any(|window| window == b"text"));
}

#[test]
fn every_service_has_its_own_form() {
    let query = find("/atomix.multiraft.counter.v1.Counter/Get");
    let mut bytes = Vec::new();
    let asked = output(Status::Ok, 9);
    compose(query, Dialect::Documented, &asked, &[0x08, 7], &mut bytes);
    let response = proto::counter::v1::GetResponse::decode(&bytes[..]).expect("decodes");
    assert_eq!(response.output.map(|output| output.value), Some(7));
    let operation = response.headers.and_then(|headers| headers.operation).expect("set");
    assert_eq!(operation.status, 1);

    let open = find("/atomix.multiraft.v1.Partition/OpenSession");
    bytes.clear();
    compose(open, Dialect::Documented, &asked, &[0x08, 42], &mut bytes);
    let response = proto::v1::OpenSessionResponse::decode(&bytes[..]).expect("decodes");
    assert_eq!(response.headers.map(|headers| headers.index), Some(42));
    assert_eq!(response.output.map(|output| output.session_id), Some(42));

    assert_eq!(failure(open, &asked, &[0x08, 42]), None);
    let failed = output(Status::Forbidden, 0);
    let failure = failure(open, &failed, b"no").expect("there is no header for it");
    assert_eq!((failure.status, &failure.text[..]), (Code::PermissionDenied, "no"));
}

#[test]
fn refusals_depend_on_whether_the_call_streams() {
    let unary = find("/atomix.multiraft.map.v1.Map/Put");
    let stream = find("/atomix.multiraft.map.v1.Map/Events");
    let watch = find("/atomix.multiraft.v1.Partition/Watch");
    let said = |method, refused: &Refusal| refusal(method, Dialect::Documented, refused);
    let code = |method, refused: &Refusal| said(method, refused).map(|failure| failure.status);
    let partition = Refusal::UnknownPartition(PartitionId(3));
    assert_eq!(code(unary, &partition), Some(Code::PermissionDenied));
    assert_eq!(code(stream, &partition), Some(Code::PermissionDenied));
    assert_eq!(code(watch, &partition), Some(Code::Unavailable));
    assert_eq!(said(unary, &partition).expect("status").text, "unknown partition 3");
    assert_eq!(code(unary, &Refusal::Overtaken), Some(Code::Aborted));
    assert_eq!(code(stream, &Refusal::Overtaken), Some(Code::Unavailable));
    assert_eq!(code(unary, &Refusal::Cancelled), Some(Code::Cancelled));
    assert_eq!(code(stream, &Refusal::Cancelled), None);
    assert_eq!(end(unary).expect("status").text, "stream closed");
    let session = said(unary, &Refusal::UnknownSession(SessionId(4))).expect("status");
    assert_eq!((session.status, &session.text[..]), (Code::PermissionDenied, "session not found"));

    // wire.md, Dialects: KeepAlive included.
    let open = find("/atomix.protocols.rsm.v1.Partition/KeepAlive");
    let events = find("/atomix.protocols.rsm.map.v1.Map/Events");
    for method in [unary, open, events] {
        let code = |refused| refusal(method, Dialect::Rsm, refused).map(|failure| failure.status);
        assert_eq!(code(&partition), Some(Code::Unavailable));
        assert_eq!(code(&Refusal::UnknownSession(SessionId(4))), Some(Code::DataLoss));
        assert_eq!(code(&Refusal::Deadline), Some(Code::DeadlineExceeded));
    }
}

#[test]
fn events_have_the_form_of_their_dialect() {
    let node = find("/atomix.multiraft.v1.Node/Watch");
    let partition = find("/atomix.multiraft.v1.Partition/Watch");
    let happened = Event {
        at: None,
        partition: PartitionId(3),
        local: NodeId(1),
        what: Happening::LeaderUpdated { term: Term(5), leader: Some(NodeId(2)) },
    };
    let encode = |method, dialect, happened: &Event| {
        let mut bytes = Vec::new();
        event(method, dialect, happened, &mut bytes).then_some(bytes)
    };

    let bytes = encode(node, Dialect::Documented, &happened).expect("a message");
    assert!(bytes.starts_with(&hex("0a0b088092b8c398feffffff01")), "the zero time, core.md 2.5");
    let flat = proto::v1::Event::decode(&bytes[..]).expect("decodes").event;
    let expected = proto::v1::LeaderUpdatedEvent { group_id: 3, term: 5, leader: 2 };
    assert_eq!(flat, Some(proto::v1::event::Event::LeaderUpdated(expected)));

    use released::atomix::multiraft::v1 as wire;
    let bytes = encode(node, Dialect::Released, &happened).expect("a message");
    let wrapped = wire::Event::decode(&bytes[..]).expect("decodes").event;
    let member = Some(wire::MemberEvent { group_id: 3, member_id: 1 });
    let expected = wire::LeaderUpdatedEvent { member, term: 5, leader: 2 };
    assert_eq!(wrapped, Some(wire::event::Event::LeaderUpdated(expected)));

    let changed = Event {
        at: Some(1_000_000_002),
        partition: PartitionId(3),
        local: NodeId(1),
        what: Happening::ServiceConfigChanged {
            leader: "a:1".to_owned(),
            followers: vec!["b:2".to_owned()],
        },
    };
    assert_eq!(encode(node, Dialect::Documented, &changed), None);
    assert_eq!(encode(node, Dialect::Released, &changed), None);
    let bytes = encode(partition, Dialect::Documented, &changed).expect("a message");
    let decoded = proto::v1::PartitionEvent::decode(&bytes[..]).expect("decodes");
    assert_eq!(decoded.timestamp.map(|at| (at.seconds, at.nanos)), Some((1, 2)));
    assert_eq!(decoded.partition_id, 3);

    let compacted = Happening::JournalCompacted { index: Position(9) };
    let compacted = Event { what: compacted, ..happened };
    for dialect in [Dialect::Documented, Dialect::Released] {
        assert!(encode(node, dialect, &compacted).is_some());
    }
}

fn find(path: &str) -> &'static Method {
    method::get(method::find(path.as_bytes()).expect("served"))
}

fn output(status: Status, number: u64) -> Output {
    Output { index: Index(42), number, status, bytes: 0..0 }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex"))
        .collect()
}

#[test]
fn answers_to_an_operator_are_passed_on_as_they_are() {
    for (name, streaming) in [("DescribePartition", false), ("MoveLeader", false)] {
        let method = find(&format!("/ringraft.cluster.v1.Cluster/{name}"));
        assert_eq!(method.streaming, streaming);
        let mut bytes = Vec::new();
        compose(method, Dialect::Released, &output(Status::Ok, 0), &[8, 3], &mut bytes);
        assert_eq!(bytes, [8, 3]);
        assert_eq!(failure(method, &output(Status::Ok, 0), &[8, 3]), None);
        for dialect in [Dialect::Documented, Dialect::Released] {
            let unknown = Refusal::UnknownPartition(PartitionId(3));
            let failure = refusal(method, dialect, &unknown).expect("it is refused");
            assert_eq!(failure.status, Code::NotFound, "there is a word for it here");
        }
    }
}
