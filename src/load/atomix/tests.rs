//! What is put and read by field numbers, against the generated messages and the inputs that the
//! workloads' model knows.

use super::*;
use crate::id::Kind;
use crate::wire::proto::{counter::v1 as counter, election::v1 as election, map::v1 as map};
use crate::wire::released::atomix::multiraft::v1 as released;
use crate::workload::op::Op;

const CONTENT: Content = Content { key: 42, writer: 7, round: 3 };
const VALUE_BYTES: usize = 40;

fn octets(dialect: Dialect, ask: Ask) -> Vec<u8> {
    let thing = Thing { kind: Kind::Map, name: "n".to_owned(), part: 0 };
    let envelope = Envelope {
        partition: 3,
        session: 70_000,
        primitive: 90_000,
        sequence: 5,
        seen: 1 << 33,
        thing: Some(&thing),
        value_bytes: VALUE_BYTES,
        session_timeout: Span::millis(1_500),
    };
    let mut into = Vec::new();
    put(dialect, &ask, &envelope, &mut into);
    into
}

fn operation() -> Option<v1::OperationRequestHeaders> {
    let partition = Some(v1::PartitionRequestHeaders { partition_id: 3 });
    let session = Some(v1::SessionRequestHeaders { partition, session_id: 70_000 });
    let session = Some(v1::PrimitiveRequestHeaders { session, primitive_id: 90_000 });
    Some(v1::OperationRequestHeaders { session })
}

/// Every call of a primitive.
fn asks() -> Vec<Ask> {
    let thing = 0;
    vec![
        Ask::Increment { thing },
        Ask::Count { thing },
        Ask::Put { thing, content: CONTENT },
        Ask::Update { thing, content: CONTENT, version: 11 },
        Ask::Get { thing, key: 42 },
        Ask::Clear { thing },
        Ask::Acquire { thing },
        Ask::Release { thing, token: 3 },
        Ask::Enter { thing, who: 12 },
        Ask::Withdraw { thing, who: 12 },
        Ask::Listen { thing, who: 0 },
    ]
}

#[test]
fn inputs_are_those_of_the_model_and_heads_those_of_the_protos() {
    for ask in asks() {
        let octets = octets(Dialect::Documented, ask);
        let mut fields = Fields::new(&octets);
        let head = fields.field().expect("sound").expect("a head").1.bytes().expect("a message");
        let input = fields.field().expect("sound").expect("an input").1.bytes().expect("a message");
        // The model's payload is the input behind the tag of its oneof member.
        let payload = as_op(&ask, VALUE_BYTES).expect("an operation").payload();
        let member = Fields::new(&payload).field().expect("sound").expect("a member").1;
        assert_eq!(input, member.bytes().expect("a message"), "{ask:?}");
        if ask.is_command() {
            let expected = v1::CommandRequestHeaders { operation: operation(), sequence_num: 5 };
            assert_eq!(v1::CommandRequestHeaders::decode(head), Ok(expected), "{ask:?}");
        } else {
            let operation = operation();
            let expected = v1::QueryRequestHeaders { operation, max_received_index: 1 << 33 };
            assert_eq!(v1::QueryRequestHeaders::decode(head), Ok(expected), "{ask:?}");
        }
    }
}

#[test]
fn queries_of_the_released_dialect_have_numbers() {
    let octets = octets(Dialect::Released, Ask::Get { thing: 0, key: 42 });
    let head = first(&octets).expect("sound").expect("a head");
    let head = released::QueryRequestHeaders::decode(head).expect("a head");
    assert_eq!((head.sequence_num, head.max_received_index), (5, 1 << 33));
}

#[test]
fn the_life_of_a_session_is_that_of_the_protos() {
    let open = v1::OpenSessionRequest::decode(&octets(Dialect::Documented, Ask::Open)[..]);
    let open = open.expect("a message");
    assert_eq!(open.headers.map(|headers| headers.partition_id), Some(3));
    let timeout = open.input.and_then(|input| input.timeout).expect("a timeout");
    assert_eq!((timeout.seconds, timeout.nanos), (1, 500_000_000));
    let close = v1::CloseSessionRequest::decode(&octets(Dialect::Documented, Ask::Close)[..]);
    assert_eq!(close.expect("a message").input.map(|input| input.session_id), Some(70_000));
    let create = octets(Dialect::Documented, Ask::Create { thing: 0 });
    let create = v1::CreatePrimitiveRequest::decode(&create[..]).expect("a message");
    let spec = create.input.and_then(|input| input.spec).expect("a spec");
    assert_eq!((spec.service.as_str(), spec.name.as_str()), ("atomix.runtime.map.v1.Map", "n"));
    let kept = keep_alive(3, 70_000, 9, &[4], &[(2, 6)]);
    let kept = v1::KeepAliveRequest::decode(&kept[..]).expect("a message").input.expect("an input");
    assert_eq!((kept.session_id, kept.last_input_sequence_num), (70_000, 9));
    assert!(Filter::parse(&kept.input_filter).expect("a filter").contains(4));
    assert_eq!(kept.last_output_sequence_nums.get(&2), Some(&6));
}

fn head(status: i32, message: &str) -> Option<v1::CommandResponseHeaders> {
    let partition = Some(v1::PartitionResponseHeaders { index: 1 << 20 });
    let session = Some(v1::SessionResponseHeaders { partition });
    let session = Some(v1::PrimitiveResponseHeaders { session });
    let message = message.to_owned();
    let operation = Some(v1::OperationResponseHeaders { session, status, message });
    Some(v1::CommandResponseHeaders { operation, output_sequence_num: 6 })
}

#[test]
fn answers_are_those_of_the_protos() {
    let told = |ask: Ask, octets: Vec<u8>| {
        let mut index = 0;
        let reply = read(Dialect::Documented, &ask, &octets, &mut index);
        assert_eq!(index, 1 << 20, "{ask:?}");
        reply
    };
    let output = Some(counter::IncrementOutput { value: -4 });
    let answer = counter::IncrementResponse { headers: head(1, ""), output }.encode_to_vec();
    assert_eq!(output_number(&answer), 6);
    assert_eq!(told(Ask::Increment { thing: 0 }, answer), Ok(Reply::Number(-4)));

    let mut value = Vec::new();
    CONTENT.put(VALUE_BYTES, &mut value);
    let held = map::IndexedValue { value: value.into(), index: 9 };
    let output = Some(map::PutOutput { index: 12, prev_value: Some(held.clone()) });
    let answer = map::PutResponse { headers: head(1, ""), output }.encode_to_vec();
    let written = Reply::Written { version: 12, before: Some(9) };
    assert_eq!(told(Ask::Put { thing: 0, content: CONTENT }, answer), Ok(written));

    let event = map::event::Event::Updated(map::event::Updated {
        value: Some(held.clone()),
        prev_value: None,
    });
    let event = Some(map::Event { key: "k".to_owned(), event: Some(event) });
    let output = Some(map::EventsOutput { event });
    let answer = map::EventsResponse { headers: head(1, ""), output }.encode_to_vec();
    let heard = Reply::Event { version: 9, content: Some(CONTENT) };
    assert_eq!(told(Ask::Listen { thing: 0, who: 0 }, answer), Ok(heard));

    let term =
        election::Term { leader: "7".to_owned(), candidates: vec!["12".to_owned()], index: 2 };
    let output = Some(election::EnterOutput { term: Some(term) });
    let answer = election::EnterResponse { headers: head(1, ""), output }.encode_to_vec();
    let entered = Reply::Term { number: 2, leader: Some(7), inside: true };
    assert_eq!(told(Ask::Enter { thing: 0, who: 12 }, answer), Ok(entered));
}

#[test]
fn refusals_say_what_is_to_be_done() {
    let sort = |status, text: &str| {
        let answer = counter::IncrementResponse { headers: head(status, text), output: None };
        let ask = Ask::Increment { thing: 0 };
        let told = read(Dialect::Documented, &ask, &answer.encode_to_vec(), &mut 0);
        told.expect_err("a refusal").sort
    };
    assert_eq!(sort(10, "later"), Sort::Passing);
    assert_eq!(sort(8, "another version"), Sort::No);
    assert_eq!(sort(13, "broken"), Sort::Final);
    // The other dialect's OK.
    let output = Some(counter::IncrementOutput { value: 1 });
    let answer = counter::IncrementResponse { headers: head(0, ""), output }.encode_to_vec();
    let ask = Ask::Increment { thing: 0 };
    let told = read(Dialect::Documented, &ask, &answer, &mut 0).expect_err("a refusal");
    assert!(told.text.contains("released dialect"), "{}", told.text);
    assert_eq!(read(Dialect::Released, &ask, &answer, &mut 0), Ok(Reply::Number(1)));
    assert!(read(Dialect::Documented, &ask, &[0xff; 9], &mut 0).is_err());

    assert_eq!(ended(Status::Unavailable, "").sort, Sort::Passing);
    assert_eq!(ended(Status::PermissionDenied, "unknown session 9").sort, Sort::Lost);
    assert_eq!(ended(Status::Unimplemented, "").sort, Sort::Final);
}

/// What the model of the workloads calls this.
fn as_op(ask: &Ask, value_bytes: usize) -> Option<Op> {
    let text = |key: u64| format!("k{key:011}");
    let value = |content: &Content| {
        let mut octets = Vec::new();
        content.put(value_bytes, &mut octets);
        octets.into()
    };
    Some(match ask {
        Ask::Increment { .. } => Op::CounterIncrement(1),
        Ask::Count { .. } => Op::CounterGet,
        Ask::Put { content, .. } => {
            Op::MapPut { key: text(content.key), value: value(content), ttl: None, prev: 0 }
        }
        Ask::Update { content, version, .. } => {
            let (key, value) = (text(content.key), value(content));
            Op::MapPut { key, value, ttl: None, prev: *version }
        }
        Ask::Get { key, .. } => Op::MapGet { key: text(*key) },
        Ask::Clear { .. } => Op::MapClear,
        Ask::Acquire { .. } => Op::LockAcquire { timeout: None },
        Ask::Release { .. } => Op::LockRelease,
        Ask::Enter { who, .. } => Op::ElectionEnter(who.to_string()),
        Ask::Withdraw { who, .. } => Op::ElectionWithdraw(who.to_string()),
        Ask::Listen { .. } => Op::MapEvents { key: String::new() },
        Ask::Open | Ask::Create { .. } | Ask::KeepAlive | Ask::Close => return None,
    })
}
