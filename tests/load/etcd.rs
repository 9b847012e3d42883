//! As much of an etcd as the load generator asks of one, in memory.
//!
//! Locks are given at once, so only workloads in which nobody waits for one can be tried.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use prost::Message;
use ringraft::wire::etcd::etcdserverpb as rpc;
use ringraft::wire::etcd::mvccpb::KeyValue;
use ringraft::wire::etcd::v3lockpb as lock;
use rpc::compare::TargetUnion;
use rpc::request_op::Request;

use crate::serve::serve;

const PATHS: &[&str] = &[
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Lease/LeaseRevoke",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/DeleteRange",
    "/v3lockpb.Lock/Lock",
    "/v3lockpb.Lock/Unlock",
];

#[derive(Default)]
struct Etcd {
    revision: i64,
    keys: BTreeMap<Vec<u8>, KeyValue>,
}

/// Serves until the process ends; where.
pub fn start() -> String {
    let etcd = Arc::new(Mutex::new(Etcd::default()));
    serve(PATHS, move |method, request| etcd.lock().unwrap().answer(method, request))
}

impl Etcd {
    fn answer(&mut self, method: u16, request: &[u8]) -> Vec<u8> {
        match method {
            0 => {
                self.revision += 1;
                let ask = rpc::LeaseGrantRequest::decode(request).unwrap();
                let id = 0x7000_0000_0000_0000 + self.revision;
                let answer = rpc::LeaseGrantResponse { id, ttl: ask.ttl, ..Default::default() };
                answer.encode_to_vec()
            }
            1 => {
                let id = rpc::LeaseKeepAliveRequest::decode(request).unwrap().id;
                rpc::LeaseKeepAliveResponse { header: self.header(), id, ttl: 5 }.encode_to_vec()
            }
            2 => rpc::LeaseRevokeResponse { header: self.header() }.encode_to_vec(),
            3 => self.put(rpc::PutRequest::decode(request).unwrap()).encode_to_vec(),
            4 => {
                let ask = rpc::RangeRequest::decode(request).unwrap();
                let kvs: Vec<KeyValue> = self.keys.get(&ask.key[..]).cloned().into_iter().collect();
                let count = kvs.len() as i64;
                let header = self.header();
                rpc::RangeResponse { header, kvs, more: false, count }.encode_to_vec()
            }
            5 => self.txn(rpc::TxnRequest::decode(request).unwrap()).encode_to_vec(),
            6 => {
                let ask = rpc::DeleteRangeRequest::decode(request).unwrap();
                let inside = |key: &Vec<u8>| key[..] >= ask.key[..] && key[..] < ask.range_end[..];
                self.keys.retain(|key, _| !inside(key));
                rpc::DeleteRangeResponse { header: self.header(), deleted: 1 }.encode_to_vec()
            }
            7 => {
                self.revision += 1;
                let ask = lock::LockRequest::decode(request).unwrap();
                let name = String::from_utf8(ask.name.to_vec()).unwrap();
                let key = format!("{name}/{:x}", ask.lease).into();
                lock::LockResponse { header: self.header(), key }.encode_to_vec()
            }
            _ => {
                let key = lock::UnlockRequest::decode(request).unwrap().key;
                assert!(key.contains(&b'/'), "a key that Lock gave");
                lock::UnlockResponse { header: self.header() }.encode_to_vec()
            }
        }
    }

    fn header(&self) -> Option<rpc::ResponseHeader> {
        Some(rpc::ResponseHeader { revision: self.revision, ..Default::default() })
    }

    fn put(&mut self, ask: rpc::PutRequest) -> rpc::PutResponse {
        self.revision += 1;
        let kv = self.keys.entry(ask.key.to_vec()).or_default();
        (kv.mod_revision, kv.version) = (self.revision, kv.version + 1);
        (kv.key, kv.value) = (ask.key, ask.value);
        rpc::PutResponse { header: self.header() }
    }

    fn txn(&mut self, ask: rpc::TxnRequest) -> rpc::TxnResponse {
        let holds = |compare: &rpc::Compare| {
            let there = self.keys.get(&compare.key[..]).map_or(0, |kv| kv.mod_revision);
            compare.target_union == Some(TargetUnion::ModRevision(there))
        };
        let succeeded = ask.compare.iter().all(holds);
        for op in ask.success.into_iter().filter(|_| succeeded) {
            if let Some(Request::RequestPut(put)) = op.request {
                self.put(put);
            }
        }
        rpc::TxnResponse { header: self.header(), succeeded, responses: Vec::new() }
    }
}
