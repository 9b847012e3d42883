//! Requests against prost: what is read is what prost reads, what is written is what prost
//! understands.

use super::*;
use crate::edge::method::{self, SERVICES};
use crate::id::{Kind, ShardId};
use crate::limits::DURATION_SECONDS_MAX;
use crate::partition::session::{self, Proposal};
use crate::prng::Prng;
use crate::wire::field::put_varint;
use proto::v1::{session_proposal_input, state_machine_proposal_input};

const RULES: Rules = Rules {
    session_timeout_default: Span::secs(30),
    session_timeout_max: Span::secs(24 * 3600),
    node: NodeId(2),
    naming: Naming::ByNode,
};
const TICKET: Ticket = Ticket { shard: ShardId(0), slot: 1, generation: 2 };

#[test]
fn a_command_becomes_its_proposal() {
    let request = proto::counter::v1::IncrementRequest {
        headers: Some(command_headers(1, 5, 7, 9)),
        input: Some(proto::counter::v1::IncrementInput { delta: -3 }),
    };
    let path = "/atomix.multiraft.counter.v1.Counter/Increment";
    let deadline = Some(Instant(4));
    let requests =
        put(path, &request.encode_to_vec(), Dialect::Documented, deadline).expect("read");
    let put = &requests.list[0];
    assert_eq!((put.partition, put.deadline), (PartitionId(1), Some(Instant(4))));
    assert!(matches!(put.ask, Ask::Command));

    let body = requests.body(put);
    let proposal = session_proposal(body);
    assert_eq!((proposal.session_id, proposal.sequence_num), (5, 9));
    assert_eq!(proposal.deadline, None, "log time is the leader's");
    let Some(session_proposal_input::Input::Proposal(primitive)) = proposal.input else {
        panic!("a primitive's command");
    };
    assert_eq!(primitive.primitive_id, 7);
    let payload = proto::counter::v1::CounterInput::decode(primitive.payload).expect("decodes");
    let expected = proto::counter::v1::counter_input::Input::Increment(request.input.expect("set"));
    assert_eq!(payload.input, Some(expected));
    let kind = [0xA0, 0x06, Kind::Counter as u8];
    assert_eq!(body[body.len() - 3..], kind, "field 100 is the last of the innermost message");
}

#[test]
fn a_query_has_its_index_where_its_dialect_says() {
    // core.md 4.1: partition 1, session 5, primitive 7, sequence 9, max_received_index 42.
    let headers = hex("0a0c0a0a0a060a020801100510071009182a");
    let mut request = vec![0x0A, headers.len() as u8];
    request.extend_from_slice(&headers);
    request.extend_from_slice(&[0x12, 0]);
    let path = "/atomix.multiraft.counter.v1.Counter/Get";
    let rsm = "/atomix.protocols.rsm.counter.v1.Counter/Get";
    for (path, dialect, index) in [
        (path, Dialect::Released, 42),
        (path, Dialect::Documented, 9),
        (rsm, Dialect::Released, 42),
        (rsm, Dialect::Documented, 42),
    ] {
        let requests = put(path, &request, dialect, None).expect("read");
        let put = &requests.list[0];
        assert!(matches!(put.ask, Ask::Query { at_least } if at_least == Index(index)));
        let query = proto::v1::SessionQueryInput::decode(requests.body(put)).expect("decodes");
        assert_eq!((query.session_id, query.deadline), (5, None));
        let Some(proto::v1::session_query_input::Input::Query(query)) = query.input else {
            panic!("a primitive's query");
        };
        assert_eq!((query.primitive_id, &query.payload[..]), (7, &[0x1A, 0][..]));
        // The released query's own number, 9 here, goes with it in field 101.
        let numbered = requests.body(put).ends_with(&[0xA8, 0x06, 9]);
        assert_eq!(numbered, index == 42);
    }
}

#[test]
fn a_stream_of_the_rsm_dialect_asks_for_an_opening_event() {
    let request = proto::map::v1::EventsRequest {
        headers: Some(command_headers(1, 5, 7, 9)),
        input: Some(proto::map::v1::EventsInput { key: "k".to_owned() }),
    };
    let request = request.encode_to_vec();
    let asks = |path: &str| {
        let requests = put(path, &request, Dialect::Released, None).expect("read");
        let proposal = Proposal::parse(requests.body(&requests.list[0]).get(2..).expect("a frame"));
        let proposal = proposal.expect("decodes").expect("a member");
        let session::Member::Primitive(target) = proposal.member else {
            panic!("a primitive's command")
        };
        assert_eq!((target.primitive.0, target.kind), (7, Kind::Map as u64));
        target.opening
    };
    assert!(asks("/atomix.protocols.rsm.map.v1.Map/Events"));
    assert!(!asks("/atomix.protocols.rsm.map.v1.Map/Remove"));
    assert!(!asks("/atomix.multiraft.map.v1.Map/Events"));
}

/// One primitive has one identity in all dialects, so its spec stands in the log in one form.
#[test]
fn a_spec_of_the_rsm_dialect_becomes_the_documented_one() {
    let path = "/atomix.protocols.rsm.v1.Session/CreatePrimitive";
    let request = |spec| {
        let headers = Some(rsm_headers(1, 5, 9));
        let input = Some(rsm::v1::CreatePrimitiveInput { spec });
        rsm::v1::CreatePrimitiveRequest { headers, input }.encode_to_vec()
    };
    let created = |spec: Option<rsm::v1::PrimitiveSpec>| {
        let requests = put(path, &request(spec), Dialect::Documented, None).expect("read");
        assert_eq!(requests.list[0].partition, PartitionId(1));
        let proposal = session_proposal(requests.body(&requests.list[0]));
        assert_eq!((proposal.session_id, proposal.sequence_num), (5, 9));
        match proposal.input {
            Some(session_proposal_input::Input::CreatePrimitive(input)) => input.spec,
            other => panic!("{other:?}"),
        }
    };
    for kind in Kind::ALL {
        let documented = proto::v1::PrimitiveSpec {
            service: crate::partition::primitive::service_of(kind),
            namespace: "space".to_owned(),
            name: "things".to_owned(),
        };
        assert_eq!(created(Some(spec(kind.name(), "v1"))), Some(documented));
    }
    for (name, version, service) in [
        ("Map", "v2", "Map/v2"),
        ("Map", "", "Map/"),
        ("map", "v1", ""),
        ("", "v1", ""),
        ("List", "v1", ""),
    ] {
        let created = created(Some(spec(name, version))).expect("a spec");
        let found = (&created.service[..], &created.name[..]);
        assert_eq!(found, (service, "things"), "{name} {version}");
    }
    assert_eq!(created(None), None);

    let mut bad = request(Some(spec("Map", "v1")));
    let at = bad.windows(5).position(|window| window == b"space").expect("it is in there");
    bad[at] = 0xFF;
    let refusal = put(path, &bad, Dialect::Documented, None).expect_err("not UTF-8");
    let text = "a string of the input is not UTF-8".to_owned();
    assert_eq!(refusal, Refusal::Malformed(text));
    let documented = proto::v1::CreatePrimitiveRequest {
        headers: Some(command_headers(1, 5, 0, 9)),
        input: Some(proto::v1::CreatePrimitiveInput {
            spec: Some(proto::v1::PrimitiveSpec {
                service: "atomix.runtime.map.v1.Map".to_owned(),
                ..Default::default()
            }),
        }),
    };
    let refusal = put(path, &documented.encode_to_vec(), Dialect::Documented, None);
    let text = "malformed input".to_owned();
    assert_eq!(refusal.expect_err("another generation's"), Refusal::Malformed(text));
}

fn spec(name: &str, version: &str) -> rsm::v1::PrimitiveSpec {
    let (name, api_version) = (name.to_owned(), version.to_owned());
    let r#type = Some(rsm::v1::PrimitiveType { name, api_version });
    let (namespace, name) = ("space".to_owned(), "things".to_owned());
    let name = Some(rsm::v1::PrimitiveName { namespace, name });
    rsm::v1::PrimitiveSpec { r#type, name }
}

fn rsm_headers(
    partition_id: u32,
    session_id: u64,
    sequence_num: u64,
) -> rsm::v1::ProposalRequestHeaders {
    let partition = Some(rsm::v1::PartitionRequestHeaders { partition_id });
    let session = Some(rsm::v1::SessionRequestHeaders { partition, session_id });
    let primitive = Some(rsm::v1::PrimitiveRequestHeaders { session, primitive_id: 0 });
    let operation = Some(rsm::v1::CallRequestHeaders { primitive });
    rsm::v1::ProposalRequestHeaders { operation, sequence_num }
}

#[test]
fn parts_that_come_in_pieces_are_merged() {
    let mut request = Vec::new();
    let piece = |field, message: Vec<u8>, request: &mut Vec<u8>| {
        put_head(request, field, message.len());
        request.extend_from_slice(&message);
    };
    let input = |key: &str, value: &'static [u8]| proto::map::v1::PutInput {
        key: key.to_owned(),
        value: value.into(),
        ..Default::default()
    };
    piece(2, input("a", b"1").encode_to_vec(), &mut request);
    piece(1, command_headers(8, 5, 0, 9).encode_to_vec(), &mut request);
    piece(2, input("", b"2").encode_to_vec(), &mut request);
    piece(1, command_headers(0, 0, 7, 10).encode_to_vec(), &mut request);
    let merged = proto::map::v1::PutRequest::decode(&request[..]).expect("valid");

    let path = "/atomix.multiraft.map.v1.Map/Put";
    let requests = put(path, &request, Dialect::Documented, None).expect("read");
    assert_eq!(requests.list[0].partition, PartitionId(8));
    let proposal = session_proposal(requests.body(&requests.list[0]));
    assert_eq!((proposal.session_id, proposal.sequence_num), (5, 10));
    let Some(session_proposal_input::Input::Proposal(primitive)) = proposal.input else {
        panic!("a primitive's command");
    };
    let payload = proto::map::v1::MapInput::decode(primitive.payload).expect("decodes");
    let expected = proto::map::v1::map_input::Input::Put(merged.input.expect("set"));
    assert_eq!(payload.input, Some(expected));
}

#[test]
fn a_missing_input_is_the_empty_one_where_that_means_something() {
    let mut request = Vec::new();
    let headers = command_headers(1, 5, 7, 9).encode_to_vec();
    put_head(&mut request, 1, headers.len());
    request.extend_from_slice(&headers);
    for (path, payload) in [
        ("/atomix.multiraft.map.v1.Map/Clear", &[0x3A, 0][..]),
        ("/atomix.multiraft.lock.v1.Lock/Release", &[0x12, 0]),
        ("/atomix.multiraft.map.v1.Map/Put", &[]),
        ("/atomix.multiraft.counter.v1.Counter/Set", &[]),
    ] {
        let requests = put(path, &request, Dialect::Documented, None).expect("read");
        let proposal = session_proposal(requests.body(&requests.list[0]));
        let Some(session_proposal_input::Input::Proposal(primitive)) = proposal.input else {
            panic!("a primitive's command");
        };
        assert_eq!(&primitive.payload[..], payload, "{path}");
    }
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let create = "/atomix.multiraft.v1.Session/CreatePrimitive";
    let open = "/atomix.multiraft.v1.Partition/OpenSession";
    let put_path = "/atomix.multiraft.map.v1.Map/Put";
    let headers = b"\x0a\x00";
    let bad_key = b"\x0a\x00\x12\x03\x0a\x01\xff";
    let cases: [(&str, &[u8], &str); 11] = [
        (put_path, b"", "the request has no headers"),
        (open, b"", "the request has no headers"),
        (open, b"\x0a\x00", "the request has no input"),
        (create, headers, "the request has no input"),
        (put_path, b"\x0a", "malformed request"),
        (put_path, b"\x08\x01", "malformed request"),
        (put_path, b"\x0a\x02\x08\x01", "malformed headers"),
        (put_path, b"\x0a\x00\x12\x01\x0a", "malformed input"),
        (put_path, b"\x0a\x00\x12\x02\x08\x01", "malformed input"),
        (put_path, bad_key, "a string of the input is not UTF-8"),
        (create, b"\x0a\x00\x12\x05\x0a\x03\x0a\x01\xff", "a string of the input is not UTF-8"),
    ];
    for (path, request, text) in cases {
        let refusal = put(path, request, Dialect::Documented, None).expect_err(text);
        assert_eq!(refusal, Refusal::Malformed(text.to_owned()), "{path} {request:?}");
    }
}

#[test]
fn session_timeouts_are_put_in_range() {
    let duration = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let at = |asked: Option<prost_types::Duration>| session_timeout(asked.as_ref(), &RULES).ok();
    assert_eq!(at(None), Some(Span::secs(30)));
    assert_eq!(at(duration(0, 0)), Some(Span::secs(30)));
    assert_eq!(at(duration(0, 1)), Some(Span(1)));
    assert_eq!(at(duration(5, 500)), Some(Span(5_000_000_500)));
    assert_eq!(at(duration(24 * 3600, 1)), Some(Span::secs(24 * 3600)));
    assert_eq!(at(duration(DURATION_SECONDS_MAX as i64, 0)), Some(Span::secs(24 * 3600)));
    let path = "/atomix.multiraft.v1.Partition/OpenSession";
    let asking = |seconds, nanos| proto::v1::OpenSessionRequest {
        headers: Some(proto::v1::PartitionRequestHeaders { partition_id: 3 }),
        input: Some(proto::v1::OpenSessionInput { timeout: duration(seconds, nanos) }),
    };
    for (seconds, nanos) in
        [(-1, 0), (0, -1), (1, -1), (0, 1_000_000_000), (DURATION_SECONDS_MAX as i64 + 1, 0)]
    {
        let request = asking(seconds, nanos).encode_to_vec();
        let refusal = put(path, &request, Dialect::Documented, None).expect_err("out of range");
        assert!(matches!(refusal, Refusal::Malformed(_)), "{seconds} {nanos}: {refusal:?}");
    }
    let request = asking(5, 7);
    let requests = put(path, &request.encode_to_vec(), Dialect::Documented, None);
    let requests = requests.expect("read");
    let body = requests.body(&requests.list[0]);
    let input = proto::v1::StateMachineProposalInput::decode(body).expect("decodes").input;
    let expected = state_machine_proposal_input::Input::OpenSession(request.input.expect("set"));
    assert_eq!(input, Some(expected));
}

#[test]
fn groups_that_would_take_a_node_down_are_refused() {
    let member = |node_id, host: &str, port| proto::v1::MemberConfig {
        node_id,
        host: host.to_owned(),
        port,
        role: 0,
    };
    let path = "/atomix.multiraft.v1.Node/Bootstrap";
    let ask = |group_id, members: Vec<proto::v1::MemberConfig>| {
        let group = Some(proto::v1::GroupConfig { group_id, members });
        let request = proto::v1::BootstrapRequest { group }.encode_to_vec();
        put(path, &request, Dialect::Documented, None)
    };
    for (group, members) in [
        (0, vec![member(1, "a", 1)]),
        (1, vec![member(0, "a", 1)]),
        (1, vec![member(1, "", 1)]),
        (1, vec![member(1, "a:b", 1)]),
        (1, vec![member(1, "a", 0)]),
        (1, vec![member(1, "a", 65536)]),
        (1, vec![member(1, "a", -1)]),
        (1, vec![member(1, "a", 1), member(1, "b", 1)]),
        (1, vec![member(1, "a", 1), member(2, "a", 1)]),
        (1, vec![proto::v1::MemberConfig { role: 9, ..member(1, "a", 1) }]),
    ] {
        let refusal = ask(group, members).expect_err("no such group");
        assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal:?}");
    }
    let requests = ask(4, vec![member(1, "a", 1), member(2, "a", 2)]).expect("read");
    let Ask::Bootstrap { local, members } = &requests.list[0].ask else { panic!("a founding") };
    assert_eq!((requests.list[0].partition, members.len()), (PartitionId(4), 2));
    assert_eq!(*local, RULES.node);
}

#[test]
fn released_groups_name_their_members_otherwise() {
    use released::atomix::multiraft::v1 as wire;
    let members = (1..=2).map(|member_id| wire::MemberConfig {
        member_id,
        host: "host".to_owned(),
        port: 5000 + member_id as i32,
    });
    let group =
        wire::GroupConfig { group_id: 6, member_id: 2, role: 2, members: members.collect() };
    let path = "/atomix.multiraft.v1.Node/Bootstrap";
    for member_id in [0, 1, 7] {
        let group = Some(wire::GroupConfig { member_id, ..group.clone() });
        let request = wire::BootstrapRequest { group }.encode_to_vec();
        let refusal = put(path, &request, Dialect::Released, None).expect_err("another node");
        assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal:?}");
    }
    let witness = Some(wire::GroupConfig { role: 3, ..group.clone() });
    let witness = wire::BootstrapRequest { group: witness }.encode_to_vec();
    let refusal = put(path, &witness, Dialect::Released, None).expect_err("nobody else knows");
    assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal:?}");
    let join = "/atomix.multiraft.v1.Node/Join";
    let requests = put(join, &witness, Dialect::Released, None).expect("its leader knows");
    let Ask::Join { members, .. } = &requests.list[0].ask else { panic!("a join") };
    assert_eq!(members[1].role, Role::Witness);
    let request = wire::BootstrapRequest { group: Some(group.clone()) }.encode_to_vec();
    let requests = put(path, &request, Dialect::Released, None).expect("read");
    let Ask::Bootstrap { local, members } = &requests.list[0].ask else { panic!("a founding") };
    assert_eq!((requests.list[0].partition, *local), (PartitionId(6), NodeId(2)));
    let roles: Vec<_> = members.iter().map(|member| (member.node, member.role)).collect();
    assert_eq!(roles, [(NodeId(1), Role::Member), (NodeId(2), Role::Observer)]);

    // Where the node has no name of its own, each group gives it one.
    let method = method::get(method::find(path.as_bytes()).expect("served"));
    let rules = Rules { naming: Naming::ByGroup, ..RULES };
    for member_id in [0, 1, 7] {
        let group = Some(wire::GroupConfig { member_id, ..group.clone() });
        let request = wire::BootstrapRequest { group }.encode_to_vec();
        let read = read(method, &request, Dialect::Released, &rules);
        assert_eq!(read.is_ok(), member_id != 0, "{member_id}");
    }
}

/// Random requests of every method, then mutated: whatever is accepted is what prost reads, and
/// what prost reads is accepted.
#[test]
fn mutated_requests_are_read_as_prost_reads_them() {
    let seed = 0x5EED_0001;
    let mut prng = Prng::new(seed);
    let mut accepted = 0;
    let asks = |what| !matches!(what, What::Edge(_));
    let core: Vec<_> = SERVICES.iter().filter(|s| s.methods.iter().all(|m| asks(m.what))).collect();
    for round in 0..40_000 {
        let service = prng.pick(&core);
        let method = prng.pick(service.methods);
        let mut request = random_request(&mut prng, method);
        for _ in 0..prng.below(4) {
            mutate(&mut prng, &mut request);
        }
        let dialect = service.dialect.unwrap_or(Dialect::Documented);
        let read = read(method, &request, dialect, &RULES);
        let (What::Command(_) | What::Query(_)) = method.what else { continue };
        let what = format!("seed {seed} round {round}: {} {request:?}", method.name);
        let decoded = Envelope::decode(&request[..]);
        match read {
            Ok(call) => {
                accepted += 1;
                let envelope = decoded.unwrap_or_else(|error| panic!("{what}: {error}"));
                check_written(call, method, &envelope, &what);
            }
            Err(refusal) => {
                let Ok(envelope) = decoded else { continue };
                let Some(_) = envelope.headers else { continue };
                let endings = ["malformed input", "UTF-8", "out of range"];
                let known = matches!(&refusal, Refusal::Malformed(text)
                    if endings.iter().any(|end| text.ends_with(end)));
                assert!(known || has_group(&request), "{what}: {refusal:?}");
            }
        }
    }
    assert!(accepted > 8_000, "only {accepted} of the requests were good");
}

fn check_written(call: Call<'_>, method: &Method, envelope: &Envelope, what: &str) {
    let headers = envelope.headers.as_ref().expect("read demands headers");
    let session = headers.operation.as_ref().and_then(|o| o.session.as_ref());
    let primitive_id = session.map_or(0, |primitive| primitive.primitive_id);
    let session = session.and_then(|primitive| primitive.session.as_ref());
    let session_id = session.map_or(0, |session| session.session_id);
    let partition = session.and_then(|session| session.partition.as_ref());
    let partition = partition.map_or(0, |partition| partition.partition_id);

    let mut requests = Requests::default();
    call.write(TICKET, None, &mut requests);
    let put = &requests.list[0];
    assert_eq!(put.partition, PartitionId(partition), "{what}");
    let body = requests.body(put);
    let (operation, payload) = match method.what {
        What::Command(operation) => {
            let proposal = session_proposal(body);
            let ids = (proposal.session_id, proposal.sequence_num);
            assert_eq!(ids, (session_id, headers.sequence_num), "{what}");
            let Some(session_proposal_input::Input::Proposal(primitive)) = proposal.input else {
                panic!("{what}");
            };
            assert_eq!(primitive.primitive_id, primitive_id, "{what}");
            (operation, primitive.payload)
        }
        What::Query(operation) => {
            let query = proto::v1::SessionQueryInput::decode(body).expect(what);
            assert_eq!(query.session_id, session_id, "{what}");
            let Some(proto::v1::session_query_input::Input::Query(primitive)) = query.input else {
                panic!("{what}");
            };
            assert_eq!(primitive.primitive_id, primitive_id, "{what}");
            (operation, primitive.payload)
        }
        _ => unreachable!("only operations are checked"),
    };
    let mut expected = Vec::new();
    let input = envelope.input.iter().map(|piece| &piece[..]).collect::<Vec<_>>().concat();
    if !envelope.input.is_empty() || operation.absent == Absent::Empty {
        put_head(&mut expected, u32::from(operation.tag), input.len());
        expected.extend_from_slice(&input);
    }
    assert_eq!(&payload[..], &expected[..], "{what}");
}

/// `{headers, input}` with the input's pieces apart, which field by field is what prost joins.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(message, optional, tag = "1")]
    headers: Option<proto::v1::CommandRequestHeaders>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    input: Vec<Vec<u8>>,
}

fn random_request(prng: &mut Prng, method: &Method) -> Vec<u8> {
    let number = |prng: &mut Prng| prng.next_u64() >> prng.below(64);
    let headers = command_headers(number(prng) as u32, number(prng), number(prng), number(prng));
    let headers = headers.encode_to_vec();
    let mut input = Vec::new();
    for (field, part) in method.shape {
        if prng.chance(800) {
            random_part(prng, *field, *part, &mut input);
        }
    }
    let mut request = Vec::new();
    put_head(&mut request, 1, headers.len());
    request.extend_from_slice(&headers);
    put_head(&mut request, 2, input.len());
    request.extend_from_slice(&input);
    request
}

fn random_part(prng: &mut Prng, field: u32, part: shape::Part, into: &mut Vec<u8>) {
    let mut bytes = Vec::new();
    match part {
        shape::Part::Number => {
            put_varint(into, u64::from(field) << 3);
            put_varint(into, prng.next_u64() >> prng.below(64));
            return;
        }
        shape::Part::Text => bytes.extend_from_slice(prng.pick(&["", "key", "kä", "x"]).as_bytes()),
        shape::Part::Bytes => bytes.resize(prng.below(200) as usize, 0xFF),
        shape::Part::Duration => {
            for (number, range) in [(1, 1 << 39), (2, 1 << 30)] {
                let sign = prng.below(8) == 0;
                let value = prng.below(range) as i64;
                put_uint(&mut bytes, number, if sign { -value } else { value } as u64);
            }
        }
        shape::Part::Message(inner) => {
            for (field, part) in inner {
                random_part(prng, *field, *part, &mut bytes);
            }
        }
    }
    put_head(into, field, bytes.len());
    into.extend_from_slice(&bytes);
}

fn mutate(prng: &mut Prng, bytes: &mut Vec<u8>) {
    let at = prng.below(bytes.len() as u64 + 1) as usize;
    match prng.below(4) {
        0 if at < bytes.len() => bytes[at] = prng.next_u64() as u8,
        1 if at < bytes.len() => bytes[at] ^= 1 << prng.below(8),
        2 => bytes.truncate(at),
        _ => bytes.insert(at, prng.next_u64() as u8),
    }
}

/// Whether there is a group anywhere that a walk by fields meets; prost skips unknown ones, we do
/// not.
fn has_group(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| matches!(byte & 7, 3 | 4))
}

fn put(
    path: &str,
    request: &[u8],
    dialect: Dialect,
    deadline: Option<Instant>,
) -> Result<Requests, Refusal> {
    let number = method::find(path.as_bytes()).expect("served");
    let (method, dialect) = (method::get(number), method::dialect(number, dialect));
    let mut requests = Requests::default();
    read(method, request, dialect, &RULES)?.write(TICKET, deadline, &mut requests);
    assert_eq!(requests.list.len(), 1);
    assert_eq!(requests.list[0].ticket, TICKET);
    Ok(requests)
}

fn session_proposal(body: &[u8]) -> proto::v1::SessionProposalInput {
    let input = proto::v1::StateMachineProposalInput::decode(body).expect("decodes");
    assert_eq!(input.timestamp, None);
    match input.input {
        Some(state_machine_proposal_input::Input::Proposal(proposal)) => proposal,
        other => panic!("not a session's: {other:?}"),
    }
}

fn command_headers(
    partition_id: u32,
    session_id: u64,
    primitive_id: u64,
    sequence_num: u64,
) -> proto::v1::CommandRequestHeaders {
    let partition = Some(proto::v1::PartitionRequestHeaders { partition_id });
    let session = Some(proto::v1::SessionRequestHeaders { partition, session_id });
    let session = Some(proto::v1::PrimitiveRequestHeaders { session, primitive_id });
    let operation = Some(proto::v1::OperationRequestHeaders { session });
    proto::v1::CommandRequestHeaders { operation, sequence_num }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex"))
        .collect()
}

#[test]
fn filters_that_could_not_be_applied_are_refused() {
    let ask = |filter: &'static str| {
        let input = proto::v1::KeepAliveInput {
            session_id: 5,
            input_filter: filter.as_bytes().into(),
            last_input_sequence_num: 9,
            last_output_sequence_nums: [(3, 4)].into(),
        };
        let headers = Some(proto::v1::PartitionRequestHeaders { partition_id: 3 });
        let request = proto::v1::KeepAliveRequest { headers, input: Some(input.clone()) };
        let path = "/atomix.multiraft.v1.Partition/KeepAlive";
        let requests = put(path, &request.encode_to_vec(), Dialect::Documented, None)?;
        let body = requests.body(&requests.list[0]);
        let put = proto::v1::StateMachineProposalInput::decode(body).expect("decodes").input;
        assert_eq!(put, Some(state_machine_proposal_input::Input::KeepAlive(input)));
        Ok::<(), Refusal>(())
    };
    ask(r#"{"m":1,"k":9223372036854775808,"b":"AAAAAAAAAAA="}"#).expect("an idle client's");
    ask(r#"{"m":7,"k":5,"b":"AAAAAAAAAAcAAAAAAAAAFQ=="}"#).expect("one call is open");
    for filter in ["", "{}", r#"{"m":0,"k":1,"b":"AAAAAAAAAAA="}"#, r#"{"m":1,"k":1}"#] {
        let refusal = ask(filter).expect_err("no filter");
        let Refusal::Malformed(text) = refusal else { panic!("{filter}: {refusal:?}") };
        let named = text.starts_with("invalid request filter");
        assert!(named, "{filter}: {text}");
    }
}
