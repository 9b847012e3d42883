//! A node in this process, through its sockets: an independent client on one side, bytes that no
//! client would send on the other.

#![cfg(feature = "io")]
#![allow(unused_crate_dependencies)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use ringraft::config::{Address, NodeConfig};
use ringraft::runtime::{Fatal, Node};
use ringraft::wire::proto::{counter, lock, map, v1};
use tonic::Code;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

#[test]
fn a_command_is_answered_once_and_survives_a_restart() {
    let data = tempfile::tempdir().expect("a directory");
    let node = start(data.path(), 1);
    let (session, primitive) = run(async {
        let mut client = Client::new(node.api).await;
        let session = client.open(1, None).await;
        let counter = client.create(1, session, 1, "atomix.runtime.counter.v1.Counter", "c").await;
        assert_eq!(client.increment(1, session, counter, 2, 5).await, Ok(5));
        assert_eq!(client.increment(1, session, counter, 2, 5).await, Ok(5), "a repeat");
        assert_eq!(client.increment(1, session, counter, 3, 5).await, Ok(10));
        (session, counter)
    });
    node.stop();

    let node = start(data.path(), 1);
    assert_eq!(node.ready.partitions, 4);
    run(async {
        let mut client = Client::new(node.api).await;
        assert_eq!(client.increment(1, session, primitive, 3, 5).await, Ok(10), "a repeat");
        assert_eq!(client.get(1, session, primitive).await, Ok(10));
        assert_eq!(client.increment(1, session, primitive, 4, 1).await, Ok(11));
    });
    node.stop();
}

#[test]
fn any_connection_serves_any_partition_of_any_core() {
    let data = tempfile::tempdir().expect("a directory");
    let node = start(data.path(), 3);
    run(async {
        // More connections than cores, so that some are passed on, each with its own first
        // partition.
        for first in 1..=4 {
            let mut client = Client::new(node.api).await;
            for partition in (first..=4).chain(1..first) {
                let session = client.open(partition, None).await;
                let service = "atomix.multiraft.counter.v1.Counter";
                let counter = client.create(partition, session, 1, service, "shared").await;
                let value = client.increment(partition, session, counter, 2, 1).await;
                assert_eq!(value, Ok(i64::from(first)), "partition {partition}");
            }
            let missing = client.increment(9, 1, 1, 1, 1).await.expect_err("no such partition");
            assert_eq!(missing.0, Code::PermissionDenied);
            assert_eq!(missing.1, "unknown partition 9");
        }
    });
    node.stop();
}

#[test]
fn a_lock_waits_until_it_is_released_or_its_caller_stops_waiting() {
    let data = tempfile::tempdir().expect("a directory");
    let node = start(data.path(), 2);
    run(async {
        let mut client = Client::new(node.api).await;
        let session = client.open(1, None).await;
        let id = client.create(1, session, 1, "atomix.runtime.lock.v1.Lock", "l").await;
        let acquire = |sequence| lock::v1::AcquireRequest {
            headers: Some(headers(1, session, id, sequence)),
            input: Some(lock::v1::AcquireInput { timeout: None }),
        };
        let path = "/atomix.multiraft.lock.v1.Lock/Acquire";
        let held: lock::v1::AcquireResponse = client.call(path, acquire(2)).await.expect("free");
        let first = held.output.expect("granted").index;

        let mut waiting = tonic::Request::new(acquire(3));
        waiting.set_timeout(Duration::from_millis(100));
        let status =
            client.call::<lock::v1::AcquireRequest, lock::v1::AcquireResponse>(path, waiting).await;
        let code = status.expect_err("held").code();
        assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{code:?}");

        let mut other = Client::new(node.api).await;
        let release = lock::v1::ReleaseRequest {
            headers: Some(headers(1, session, id, 5)),
            input: Some(lock::v1::ReleaseInput {}),
        };
        let second = other.call::<_, lock::v1::AcquireResponse>(path, acquire(4));
        let release = async {
            let path = "/atomix.multiraft.lock.v1.Lock/Release";
            client.call::<_, lock::v1::ReleaseResponse>(path, release).await
        };
        let (second, released) = tokio::join!(second, release);
        released.expect("held by this session");
        assert!(second.expect("granted").output.expect("granted").index > first);
    });
    node.stop();
}

#[test]
fn events_reach_their_stream_and_its_end_is_told() {
    let data = tempfile::tempdir().expect("a directory");
    let node = start(data.path(), 2);
    run(async {
        let mut client = Client::new(node.api).await;
        let mut writer = Client::new(node.api).await;
        let session = client.open(2, None).await;
        let id = client.create(2, session, 1, "atomix.runtime.map.v1.Map", "m").await;
        let events = map::v1::EventsRequest {
            headers: Some(headers(2, session, id, 2)),
            input: Some(map::v1::EventsInput::default()),
        };
        // No header leaves before the first event (core.md 4.4), so the opening ends with the first
        // write that comes after the registration.
        let path = "/atomix.multiraft.map.v1.Map/Events";
        let mut opening = std::pin::pin!(client.stream::<_, map::v1::EventsResponse>(path, events));
        let mut sequence = 2;
        let mut stream = loop {
            sequence += 1;
            let put = map::v1::PutRequest {
                headers: Some(headers(2, session, id, sequence)),
                input: Some(map::v1::PutInput {
                    key: format!("k{sequence}"),
                    value: b"v".as_slice().into(),
                    ..Default::default()
                }),
            };
            let path = "/atomix.multiraft.map.v1.Map/Put";
            let putting = writer.call::<_, map::v1::PutResponse>(path, put);
            tokio::select! {
                biased;
                stream = &mut opening => break stream.expect("opened"),
                put = putting => { put.expect("put"); }
            }
        };
        let mut numbers = Vec::new();
        let close = v1::CloseSessionRequest {
            headers: Some(v1::PartitionRequestHeaders { partition_id: 2 }),
            input: Some(v1::CloseSessionInput { session_id: session }),
        };
        let path = "/atomix.multiraft.v1.Partition/CloseSession";
        writer.call::<_, v1::CloseSessionResponse>(path, close).await.expect("closed");
        while let Some(event) = stream.message().await.expect("ends regularly") {
            numbers.push(event.headers.expect("set").output_sequence_num);
        }
        assert!(!numbers.is_empty());
        let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, expected);
    });
    node.stop();
}

#[test]
fn a_reader_that_does_not_read_is_told_to_come_back() {
    let data = tempfile::tempdir().expect("a directory");
    let node = start(data.path(), 1);
    run(async {
        let mut client = Client::new(node.api).await;
        let mut writer = Client::new(node.api).await;
        let session = client.open(1, None).await;
        let id = client.create(1, session, 1, "atomix.runtime.map.v1.Map", "m").await;
        let entries = map::v1::EntriesRequest {
            headers: Some(v1::QueryRequestHeaders {
                operation: headers(1, session, id, 0).operation,
                max_received_index: session,
            }),
            input: Some(map::v1::EntriesInput { watch: true }),
        };
        let put = |sequence, bytes: usize| map::v1::PutRequest {
            headers: Some(headers(1, session, id, sequence)),
            input: Some(map::v1::PutInput {
                key: "key".to_owned(),
                value: vec![sequence as u8; bytes].into(),
                ..Default::default()
            }),
        };
        let path = "/atomix.multiraft.map.v1.Map/Put";
        writer.call::<_, map::v1::PutResponse>(path, put(2, 1)).await.expect("put");
        let listing = "/atomix.multiraft.map.v1.Map/Entries";
        let stream = client.stream::<_, map::v1::EntriesResponse>(listing, entries).await;
        let mut stream = stream.expect("opened");
        for sequence in 3..20 {
            writer
                .call::<_, map::v1::PutResponse>(path, put(sequence, 1 << 20))
                .await
                .expect("put");
        }
        let status = loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a stream that lost something never ends with OK"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    });
    node.stop();
}

#[test]
fn whoever_waits_when_a_node_stops_is_told_to_go_on_elsewhere() {
    let data = tempfile::tempdir().expect("a directory");
    let mut config = config(data.path(), 2);
    config.drain = ringraft::time::Span::millis(100);
    let node = Node::start(&config).unwrap_or_else(|fatal| panic!("{fatal}"));
    let (waits, is_waiting) = std::sync::mpsc::channel();
    let api = node.api;
    let caller = std::thread::spawn(move || {
        run(async {
            let mut client = Client::new(api).await;
            let session = client.open(1, None).await;
            let id = client.create(1, session, 1, "atomix.runtime.lock.v1.Lock", "l").await;
            let path = "/atomix.multiraft.lock.v1.Lock/Acquire";
            let acquire = |sequence| lock::v1::AcquireRequest {
                headers: Some(headers(1, session, id, sequence)),
                input: Some(lock::v1::AcquireInput { timeout: None }),
            };
            client.call::<_, lock::v1::AcquireResponse>(path, acquire(2)).await.expect("free");
            waits.send(()).expect("the test waits for it");
            client.call::<_, lock::v1::AcquireResponse>(path, acquire(3)).await.expect_err("held")
        })
    });
    is_waiting.recv().expect("it comes to that");
    let begun = Instant::now();
    node.stop();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let status = caller.join().expect("it ends");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

#[test]
fn a_watcher_of_the_node_hears_of_every_partition_of_every_core() {
    let data = tempfile::tempdir().expect("a directory");
    let node = start(data.path(), 3);
    run(async {
        let mut client = Client::new(node.api).await;
        let path = "/atomix.multiraft.v1.Node/Watch";
        let mut stream =
            client.stream::<_, v1::Event>(path, v1::WatchRequest {}).await.expect("opened");
        let (mut leaders, mut ready) = (Vec::new(), Vec::new());
        while leaders.len() < 4 || ready.len() < 4 {
            let event = stream.message().await.expect("goes on").expect("goes on");
            assert_eq!(event.timestamp.expect("set").seconds, -62_135_596_800, "replayed");
            match event.event.expect("set") {
                v1::event::Event::LeaderUpdated(event) => leaders.push(event.group_id),
                v1::event::Event::MemberReady(event) => ready.push(event.group_id),
                other => panic!("not replayed: {other:?}"),
            }
        }
        leaders.sort_unstable();
        assert_eq!(leaders, [1, 2, 3, 4]);
        let join = v1::JoinRequest { group: None };
        let path = "/atomix.multiraft.v1.Node/Join";
        let status =
            client.call::<_, v1::JoinResponse>(path, join).await.expect_err("which group?");
        assert_eq!(status.code(), Code::InvalidArgument);
    });
    let begun = Instant::now();
    node.stop();
    assert!(begun.elapsed() < Duration::from_secs(5), "a client that is gone is not waited for");
}

#[test]
fn calls_that_cannot_be_are_told_why() {
    let data = tempfile::tempdir().expect("a directory");
    let node = start(data.path(), 1);
    run(async {
        let mut client = Client::new(node.api).await;
        let path = "/atomix.multiraft.counter.v1.Counter/Increment";
        let nothing = counter::v1::IncrementRequest::default();
        let status = client.call::<_, counter::v1::IncrementResponse>(path, nothing).await;
        let status = status.expect_err("no headers");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "the request has no headers");

        let status = client.increment(1, 77, 1, 1, 1).await.expect_err("no such session");
        assert_eq!(status, (Code::PermissionDenied, "session not found".to_owned()));

        let list = "/atomix.multiraft.list.v1.List/Size";
        let status = client.call::<_, v1::CloseSessionResponse>(list, v1::WatchRequest {}).await;
        assert_eq!(status.expect_err("not served").code(), Code::Unimplemented);

        let large = map::v1::PutRequest {
            headers: Some(headers(1, 1, 1, 1)),
            input: Some(map::v1::PutInput {
                value: vec![0; 5 << 20].into(),
                ..map::v1::PutInput::default()
            }),
        };
        let put = "/atomix.multiraft.map.v1.Map/Put";
        let status = client.call::<_, map::v1::PutResponse>(put, large).await;
        assert_eq!(status.expect_err("above 4 MiB").code(), Code::ResourceExhausted);

        // A primitive of another kind: the failure travels in the headers.
        let session = client.open(1, None).await;
        let id = client.create(1, session, 1, "atomix.runtime.map.v1.Map", "m").await;
        let request = counter::v1::IncrementRequest {
            headers: Some(headers(1, session, id, 2)),
            input: Some(counter::v1::IncrementInput { delta: 1 }),
        };
        let response: counter::v1::IncrementResponse =
            client.call(path, request).await.expect("a response");
        let operation = response.headers.and_then(|headers| headers.operation).expect("set");
        assert_eq!(operation.status(), v1::operation_response_headers::Status::Invalid);
        assert_eq!(response.output, None);
    });
    node.stop();
}

#[test]
fn groups_come_and_go_at_run_time() {
    let data = tempfile::tempdir().expect("a directory");
    let node = start(data.path(), 2);
    let port = i32::from(node.peer.port());
    run(async {
        let mut client = Client::new(node.api).await;
        let member = v1::MemberConfig { node_id: 1, host: "127.0.0.1".to_owned(), port, role: 1 };
        let group = v1::GroupConfig { group_id: 9, members: vec![member] };
        let found = v1::BootstrapRequest { group: Some(group) };
        let path = "/atomix.multiraft.v1.Node/Bootstrap";
        for _ in 0..2 {
            let found = found.clone();
            client.call::<_, v1::BootstrapResponse>(path, found).await.expect("founded, or known");
        }
        assert!(client.open(9, None).await > 0);

        let leave = v1::LeaveRequest { group_id: 9 };
        let path = "/atomix.multiraft.v1.Node/Leave";
        client.call::<_, v1::LeaveResponse>(path, leave).await.expect("it was here");
        let status = client.call::<_, v1::LeaveResponse>(path, leave).await.expect_err("it left");
        assert_eq!(status.code(), Code::NotFound);
        let status = client.increment(9, 1, 1, 1, 1).await.expect_err("it left");
        assert_eq!(status.0, Code::Unavailable);
    });
    node.stop();
}

#[test]
fn a_listener_speaks_its_dialect() {
    let data = tempfile::tempdir().expect("a directory");
    let mut config = config(data.path(), 1);
    config.dialect = ringraft::config::Dialect::Released;
    let node = Node::start(&config).unwrap_or_else(|fatal| panic!("{fatal}"));
    run(async {
        let mut client = Client::new(node.api).await;
        let session = client.open(1, None).await;
        let service = "atomix.runtime.counter.v1.Counter";
        let id = client.create(1, session, 1, service, "c").await;
        let request = counter::v1::IncrementRequest {
            headers: Some(headers(1, session, id, 2)),
            input: Some(counter::v1::IncrementInput { delta: 1 }),
        };
        let path = "/atomix.multiraft.counter.v1.Counter/Increment";
        let response: counter::v1::IncrementResponse =
            client.call(path, request).await.expect("answered");
        let operation = response.headers.and_then(|headers| headers.operation).expect("set");
        assert_eq!(operation.status, 0, "OK is 0 in the released dialect");
        let watch = v1::WatchPartitionRequest { partition_id: 1 };
        let path = "/atomix.multiraft.v1.Partition/Watch";
        let status = client.stream::<_, v1::PartitionEvent>(path, watch).await;
        assert_eq!(status.expect_err("not of this dialect").code(), Code::Unimplemented);
    });
    node.stop();
}

#[test]
fn garbage_and_half_requests_on_either_port_hurt_nobody() {
    let data = tempfile::tempdir().expect("a directory");
    let node = start(data.path(), 2);
    let mut prng = ringraft::prng::Prng::new(0x6A5B);
    let mut held = Vec::new();
    for round in 0..60 {
        let port = if round % 2 == 0 { node.api } else { node.peer };
        let mut socket = TcpStream::connect(port).expect("accepts");
        if round % 3 == 0 {
            // The peer may be cut off while it still writes.
            let _ = socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        }
        let garbage: Vec<u8> = (0..prng.below(4000)).map(|_| prng.next_u64() as u8).collect();
        let _ = socket.write_all(&garbage);
        if round % 5 == 0 {
            held.push(socket);
        }
    }
    run(async {
        let mut client = Client::new(node.api).await;
        let session = client.open(1, None).await;
        assert!(session > 0);
    });
    for mut socket in held {
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let mut sink = Vec::new();
        // Whatever was said, it ends: by our hand at once, by ours after a while, or by a reset.
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let _ = socket.read_to_end(&mut sink);
    }
    node.stop();
}

#[test]
fn a_directory_or_an_address_in_use_is_refused_and_left_alone() {
    let data = tempfile::tempdir().expect("a directory");
    let node = start(data.path(), 1);
    let refused = Node::start(&config(data.path(), 1)).err().expect("in use");
    assert!(matches!(refused, Fatal::DataDir(_)), "{refused}");

    let other = tempfile::tempdir().expect("a directory");
    let mut taken = config(other.path(), 2);
    taken.listen.port = node.api.port();
    let refused = Node::start(&taken).err().expect("in use");
    assert!(matches!(refused, Fatal::Address(..)), "{refused}");
    node.stop();

    let refused = Node::start(&config(data.path(), 2)).err().expect("made for one shard");
    assert!(matches!(refused, Fatal::DataDir(_)), "{refused}");
}

fn start(data: &Path, shards: u16) -> Node {
    Node::start(&config(data, shards)).unwrap_or_else(|fatal| panic!("{fatal}"))
}

fn config(data: &Path, shards: u16) -> NodeConfig {
    let here = Address { host: "127.0.0.1".to_owned(), port: 0 };
    let mut config = NodeConfig {
        data_dir: data.to_owned(),
        listen: here.clone(),
        peer_listen: here,
        shards,
        ..NodeConfig::default()
    };
    config.cluster.partitions = 4;
    config
}

struct Client(tonic::client::Grpc<Channel>);

impl Client {
    async fn new(api: SocketAddr) -> Client {
        let endpoint = Channel::from_shared(format!("http://{api}")).expect("an address");
        Client(tonic::client::Grpc::new(endpoint.connect().await.expect("connects")))
    }

    async fn call<Q, A>(
        &mut self,
        path: &'static str,
        request: impl tonic::IntoRequest<Q>,
    ) -> Result<A, tonic::Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        self.0.ready().await.expect("connected");
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        let path = PathAndQuery::from_static(path);
        Ok(self.0.unary(request.into_request(), path, codec).await?.into_inner())
    }

    async fn stream<Q, A>(
        &mut self,
        path: &'static str,
        request: Q,
    ) -> Result<tonic::Streaming<A>, tonic::Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        self.0.ready().await.expect("connected");
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        let path = PathAndQuery::from_static(path);
        let request = tonic::Request::new(request);
        Ok(self.0.server_streaming(request, path, codec).await?.into_inner())
    }

    async fn open(&mut self, partition_id: u32, timeout: Option<prost_types::Duration>) -> u64 {
        let request = v1::OpenSessionRequest {
            headers: Some(v1::PartitionRequestHeaders { partition_id }),
            input: Some(v1::OpenSessionInput { timeout }),
        };
        let path = "/atomix.multiraft.v1.Partition/OpenSession";
        let response: v1::OpenSessionResponse = self.call(path, request).await.expect("opened");
        assert!(response.headers.expect("always set").index > 0);
        response.output.expect("always set").session_id
    }

    async fn create(
        &mut self,
        partition: u32,
        session: u64,
        sequence: u64,
        service: &str,
        name: &str,
    ) -> u64 {
        let spec = Some(v1::PrimitiveSpec {
            service: service.to_owned(),
            namespace: String::new(),
            name: name.to_owned(),
        });
        let request = v1::CreatePrimitiveRequest {
            headers: Some(headers(partition, session, 0, sequence)),
            input: Some(v1::CreatePrimitiveInput { spec }),
        };
        let path = "/atomix.multiraft.v1.Session/CreatePrimitive";
        let response: v1::CreatePrimitiveResponse = self.call(path, request).await.expect("made");
        response.output.expect("made").primitive_id
    }

    async fn increment(
        &mut self,
        partition: u32,
        session: u64,
        primitive: u64,
        sequence: u64,
        delta: i64,
    ) -> Result<i64, (Code, String)> {
        let request = counter::v1::IncrementRequest {
            headers: Some(headers(partition, session, primitive, sequence)),
            input: Some(counter::v1::IncrementInput { delta }),
        };
        let path = "/atomix.multiraft.counter.v1.Counter/Increment";
        let response: counter::v1::IncrementResponse = self
            .call(path, request)
            .await
            .map_err(|status| (status.code(), status.message().to_owned()))?;
        Ok(response.output.expect("status OK").value)
    }

    async fn get(
        &mut self,
        partition: u32,
        session: u64,
        primitive: u64,
    ) -> Result<i64, tonic::Code> {
        let operation = headers(partition, session, primitive, 0).operation;
        let request = counter::v1::GetRequest {
            headers: Some(v1::QueryRequestHeaders { operation, max_received_index: session }),
            input: Some(counter::v1::GetInput {}),
        };
        let path = "/atomix.multiraft.counter.v1.Counter/Get";
        let response: counter::v1::GetResponse =
            self.call(path, request).await.map_err(|status| status.code())?;
        Ok(response.output.expect("status OK").value)
    }
}

fn headers(
    partition_id: u32,
    session_id: u64,
    primitive_id: u64,
    sequence_num: u64,
) -> v1::CommandRequestHeaders {
    let partition = Some(v1::PartitionRequestHeaders { partition_id });
    let session = Some(v1::SessionRequestHeaders { partition, session_id });
    let session = Some(v1::PrimitiveRequestHeaders { session, primitive_id });
    let operation = Some(v1::OperationRequestHeaders { session });
    v1::CommandRequestHeaders { operation, sequence_num }
}

fn run<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let bounded = async {
        tokio::time::timeout(Duration::from_secs(60), work).await.expect("it ends by itself")
    };
    runtime.expect("a runtime").block_on(bounded)
}
