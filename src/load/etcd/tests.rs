//! What is put and read by field numbers, against the generated messages.

use prost::Message;

use super::*;
use crate::id::Kind;
use crate::load::ask::Thing;
use crate::time::Span;
use crate::wire::etcd::etcdserverpb as rpc;
use crate::wire::etcd::mvccpb::KeyValue;
use crate::wire::etcd::v3lockpb as lock;

const CONTENT: Content = Content { key: 42, writer: 7, round: 3 };

fn octets(ask: Ask) -> Vec<u8> {
    let thing = Thing { kind: Kind::Map, name: "n".to_owned(), part: 0 };
    let envelope = Envelope {
        partition: 1,
        session: 0xbeef,
        primitive: 0,
        sequence: 5,
        seen: 9,
        thing: Some(&thing),
        value_bytes: 40,
        session_timeout: Span::secs(30),
    };
    let mut into = Vec::new();
    put(&ask, &envelope, &mut into);
    into
}

fn value() -> Vec<u8> {
    let mut value = Vec::new();
    CONTENT.put(40, &mut value);
    value
}

fn header() -> Option<rpc::ResponseHeader> {
    Some(rpc::ResponseHeader { cluster_id: 1, member_id: 2, revision: 77, raft_term: 3 })
}

#[test]
fn requests_are_those_of_the_protos() {
    let key = b"n/k00000000042".to_vec();
    let put = rpc::PutRequest { key: key.clone().into(), value: value().into(), lease: 0 };
    let ask = Ask::Put { thing: 0, content: CONTENT };
    assert_eq!(rpc::PutRequest::decode(&octets(ask)[..]), Ok(put.clone()));
    let range = rpc::RangeRequest { key: key.clone().into(), ..Default::default() };
    let ask = Ask::Get { thing: 0, key: 42 };
    assert_eq!(rpc::RangeRequest::decode(&octets(ask)[..]), Ok(range));
    let ask = Ask::Update { thing: 0, content: CONTENT, version: 6 };
    let txn = rpc::TxnRequest::decode(&octets(ask)[..]).expect("a transaction");
    let compare = rpc::Compare {
        result: rpc::compare::CompareResult::Equal.into(),
        target: rpc::compare::CompareTarget::Mod.into(),
        key: key.into(),
        target_union: Some(rpc::compare::TargetUnion::ModRevision(6)),
    };
    assert_eq!(txn.compare, [compare]);
    let then = rpc::request_op::Request::RequestPut(put);
    assert_eq!(txn.success, [rpc::RequestOp { request: Some(then) }]);
    let grant = rpc::LeaseGrantRequest { ttl: 30, id: 0 };
    assert_eq!(rpc::LeaseGrantRequest::decode(&octets(Ask::Open)[..]), Ok(grant));
    let acquire = lock::LockRequest { name: "n".into(), lease: 0xbeef };
    assert_eq!(lock::LockRequest::decode(&octets(Ask::Acquire { thing: 0 })[..]), Ok(acquire));
    let release = lock::UnlockRequest { key: "n/beef".into() };
    let ask = Ask::Release { thing: 0, token: 1 };
    assert_eq!(lock::UnlockRequest::decode(&octets(ask)[..]), Ok(release));
    let clear = rpc::DeleteRangeRequest { key: "n/".into(), range_end: "n0".into() };
    let ask = Ask::Clear { thing: 0 };
    assert_eq!(rpc::DeleteRangeRequest::decode(&octets(ask)[..]), Ok(clear));
}

#[test]
fn answers_are_those_of_the_protos() {
    let put = rpc::PutResponse { header: header() }.encode_to_vec();
    let written = Reply::Written { version: 77, before: None };
    assert_eq!(read(&Ask::Put { thing: 0, content: CONTENT }, &put), Ok(written));
    assert_eq!(read(&Ask::Increment { thing: 0 }, &put), Ok(Reply::Number(77)));
    let kv = KeyValue { mod_revision: 9, version: 4, value: value().into(), ..Default::default() };
    let range = rpc::RangeResponse { header: header(), kvs: vec![kv], more: false, count: 1 };
    let range = range.encode_to_vec();
    let found = Reply::Found { version: 9, content: Some(CONTENT) };
    assert_eq!(read(&Ask::Get { thing: 0, key: 42 }, &range), Ok(found));
    assert_eq!(read(&Ask::Count { thing: 0 }, &range), Ok(Reply::Number(4)));
    let none = rpc::RangeResponse { header: header(), ..Default::default() }.encode_to_vec();
    assert_eq!(read(&Ask::Count { thing: 0 }, &none), Ok(Reply::Number(0)));
    assert!(read(&Ask::Get { thing: 0, key: 42 }, &none).is_err());
    let ask = Ask::Update { thing: 0, content: CONTENT, version: 6 };
    for (succeeded, expected) in [(true, true), (false, false)] {
        let txn = rpc::TxnResponse { header: header(), succeeded, responses: Vec::new() };
        assert_eq!(read(&ask, &txn.encode_to_vec()).is_ok(), expected);
    }
    let grant = rpc::LeaseGrantResponse { header: header(), id: 0xbeef, ..Default::default() };
    assert_eq!(read(&Ask::Open, &grant.encode_to_vec()), Ok(Reply::Id(0xbeef)));
    let locked = lock::LockResponse { header: header(), key: "n/beef".into() };
    assert_eq!(read(&Ask::Acquire { thing: 0 }, &locked.encode_to_vec()), Ok(Reply::Token(77)));
    for (ttl, expected) in [(30, true), (0, false)] {
        let kept = rpc::LeaseKeepAliveResponse { header: header(), id: 1, ttl };
        assert_eq!(read(&Ask::KeepAlive, &kept.encode_to_vec()).is_ok(), expected);
    }
}
