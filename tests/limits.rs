//! Every bound of a request at its edge and one past it, for every kind and method that is served.
//!
//! What has a key, a name, a value or a duration is read off the table of methods, so a method that
//! is added is tried without being added here. What is past a bound is refused with the status that
//! `limits.rs` states; what is at it is executed. A host that cannot run a node says so and passes
//! (`harness`).
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

mod harness;

use std::time::Duration;

use bytes::{Buf, BufMut};
use harness::caller::{Caller, SOON, Said, Session};
use harness::{Node, data_dir, possible};
use prost::Message;
use ringraft::edge::method::{Method, SERVICES, What};
use ringraft::id::Kind;
use ringraft::limits::{
    DURATION_SECONDS_MAX, HOST_BYTES_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX, REPLICAS_MAX,
    REQUEST_BYTES_MAX, REQUEST_ITEMS_MAX, VALUE_BYTES_MAX, VALUES_BYTES_MAX, VALUES_MAX,
};
use ringraft::wire::field::{Fields, put_bytes, put_uint};
use ringraft::wire::proto::v1::*;
use ringraft::wire::shape::{Part, Shape};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

#[tokio::test]
async fn keys_names_values_and_durations_end_where_they_say() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let mut lab = Lab::at(&node.api).await;
    let mut kinds = 0;
    for service in SERVICES.iter().filter(|service| service.name.starts_with("atomix.multiraft.")) {
        let Some(kind) = service.methods.first().and_then(kind_of) else { continue };
        kinds += 1;
        for method in service.methods {
            let path = format!("/{}/{}", service.name, method.name);
            let trial = Trial { kind, method, path };
            for (number, part) in method.shape {
                trial.part(&mut lab, &[*number], *part).await;
            }
        }
    }
    assert_eq!(kinds, Kind::ALL.len());
}

/// A delta of either sign counts; a number that leaves 64 bits changes nothing.
#[tokio::test]
async fn numbers_that_leave_64_bits_are_refused_and_change_nothing() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let mut lab = Lab::at(&node.api).await;
    let (min, max) = (i64::MIN, i64::MAX);
    for (kind, first) in [(Kind::Counter, 1), (Kind::CounterMap, 2)] {
        for (value, method, delta, after) in [
            (max, "Increment", 1, None),
            (max, "Decrement", -1, None),
            (min, "Decrement", 1, None),
            (min, "Increment", -1, None),
            (0, "Decrement", min, None),
            (-1, "Decrement", min, Some(max)),
            (max, "Increment", min, Some(-1)),
            (min, "Increment", max, Some(-1)),
            (max - 1, "Increment", 1, Some(max)),
            (5, "Increment", -7, Some(-2)),
            (5, "Decrement", -7, Some(12)),
        ] {
            let what = format!("{kind}: {value} {method} {delta}");
            let id = lab.fresh(kind).await;
            let input = |number: i64| {
                let mut input = Vec::new();
                put_uint(&mut input, first, number as u64);
                input
            };
            let (set, change) = (path(kind, "Set"), path(kind, method));
            assert_eq!(lab.command(&set, id, &input(value)).await, Outcome::OK, "{what}");
            let outcome = lab.command(&change, id, &input(delta)).await;
            let expected = if after.is_some() { Said::Ok } else { Said::Invalid };
            assert_eq!(outcome, Outcome::Said(expected), "{what}");
            let output = lab.get(&path(kind, "Get"), id, &[]).await.expect(&what);
            assert_eq!(number_in(&output), after.unwrap_or(value), "{what}");
        }
    }
}

/// What a key of a multimap holds and what a request names are counted together.
#[tokio::test]
async fn multimaps_hold_so_much_for_a_key_and_take_so_much_at_once() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let mut lab = Lab::at(&node.api).await;
    let full = Outcome::Refused(FULL);
    let id = lab.fresh(Kind::MultiMap).await;
    let values = |range: std::ops::Range<usize>| {
        let mut input = text_and("k", &[]);
        range.for_each(|at| put_bytes(&mut input, 2, at.to_string().as_bytes()));
        input
    };
    for method in ["PutAll", "Replace"] {
        let put = path(Kind::MultiMap, method);
        assert_eq!(lab.command(&put, id, &values(0..VALUES_MAX + 1)).await, full, "{method}");
        assert_eq!(lab.command(&put, id, &values(0..VALUES_MAX)).await, Outcome::OK, "{method}");
    }
    let put = path(Kind::MultiMap, "Put");
    assert_eq!(lab.command(&put, id, &values(VALUES_MAX..VALUES_MAX + 1)).await, full);

    // One byte of tag and four of length belong to a value in a message, or three of length.
    let most = VALUES_BYTES_MAX - 5;
    let id = lab.fresh(Kind::MultiMap).await;
    assert_eq!(lab.command(&put, id, &text_and("k", &vec![b'v'; most + 1])).await, full);
    assert_eq!(lab.command(&put, id, &text_and("k", &vec![b'v'; most])).await, Outcome::OK);
    let output = lab.get(&path(Kind::MultiMap, "Get"), id, &text_and("k", &[])).await;
    assert_eq!(output.expect("values").len(), VALUES_BYTES_MAX);

    for method in ["PutEntries", "RemoveEntries"] {
        let many = path(Kind::MultiMap, method);
        for (count, outcome) in
            [(REQUEST_ITEMS_MAX, Outcome::OK), (REQUEST_ITEMS_MAX + 1, Outcome::INVALID)]
        {
            // Entries without key or value.
            let input = [0x0A, 0].repeat(count);
            assert_eq!(lab.command(&many, id, &input).await, outcome, "{method} {count}");
        }
    }
    let many = [text_and("k", &[]), [0x12, 0].repeat(REQUEST_ITEMS_MAX)].concat();
    for method in ["PutAll", "RemoveAll", "Replace", "Put", "Remove"] {
        let outcome = lab.command(&path(Kind::MultiMap, method), id, &many).await;
        assert_eq!(outcome, Outcome::INVALID, "{method}");
    }
}

/// Odd keys and names name things like any other, and are there after a restart.
#[tokio::test]
async fn odd_names_are_names_and_survive() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let mut node = Node::start(dir.path(), &[]);
    let mut lab = Lab::at(&node.api).await;
    let long = "n".repeat(NAME_BYTES_MAX);
    let names = ["", " ", "\0", "\u{1b}[31m\r\n", "../..", "\u{202e}\u{feff}", &long];
    let keys = ["", "\0", "\u{1b}]0;\u{7}", "a\nb", &"k".repeat(KEY_BYTES_MAX)];
    let (put, get) = (path(Kind::Map, "Put"), path(Kind::Map, "Get"));
    let mut made = Vec::new();
    for namespace in names {
        for name in names {
            made.push(lab.create(Kind::Map, namespace, name).await.expect("a map"));
        }
    }
    let mut distinct = made.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), names.len() * names.len(), "two names are one");
    for (at, key) in keys.iter().enumerate() {
        let input = text_and(key, &[at as u8; 3]);
        assert_eq!(lab.command(&put, made[at], &input).await, Outcome::OK, "{key:.10?}");
    }
    // The largest value comes back to a client whose bound is gRPC's default.
    let large = vec![0xAB; VALUE_BYTES_MAX];
    assert_eq!(lab.command(&put, made[9], &text_and("large", &large)).await, Outcome::OK);
    assert!(lab.get(&get, made[9], &text_and("large", &[])).await.unwrap().len() > large.len());

    for (namespace, name) in [("n".repeat(NAME_BYTES_MAX + 1), String::new())]
        .into_iter()
        .chain([(String::new(), "n".repeat(NAME_BYTES_MAX + 1))])
    {
        let refused = lab.create(Kind::Map, &namespace, &name).await;
        assert_eq!(refused, Err(Outcome::Said(Said::Invalid)));
    }
    node.kill();

    node = Node::start(dir.path(), &[]);
    let mut lab = Lab::at(&node.api).await;
    for (at, (namespace, name)) in
        names.iter().flat_map(|namespace| names.map(|name| (*namespace, name))).enumerate()
    {
        assert_eq!(lab.create(Kind::Map, namespace, name).await, Ok(made[at]));
    }
    for (at, key) in keys.iter().enumerate() {
        let output = lab.get(&get, made[at], &text_and(key, &[])).await.expect("an entry");
        assert!(output.windows(3).any(|window| window == [at as u8; 3]), "{key:.10?}");
    }
    // Only a candidate must have a name: a term without leader has an empty one.
    let id = lab.create(Kind::LeaderElection, "", "").await.unwrap_err();
    assert_eq!(id, Outcome::Said(Said::Forbidden), "the name is a map's");
    let id = lab.create(Kind::LeaderElection, "", "e").await.unwrap();
    let enter = path(Kind::LeaderElection, "Enter");
    assert_eq!(lab.command(&enter, id, &text_and("", &[])).await, Outcome::INVALID);
    assert_eq!(lab.command(&enter, id, &text_and("\n", &[])).await, Outcome::OK);
}

#[tokio::test]
async fn sessions_groups_and_whole_requests_have_bounds() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let mut lab = Lab::at(&node.api).await;
    let longest = DURATION_SECONDS_MAX as i64;
    let good = [(0, 0), (0, 1), (1, 0), (0, 999_999_999), (longest, 999_999_999)];
    let bad = [(-1, 0), (0, -1), (1, -1), (0, 1_000_000_000), (longest + 1, 0), (i64::MIN, 0)];
    let all = good.map(|timeout| (timeout, None)).into_iter();
    for ((seconds, nanos), code) in all.chain(bad.map(|timeout| (timeout, Some(INVALID)))) {
        let timeout = Some(prost_types::Duration { seconds, nanos });
        let headers = Some(PartitionRequestHeaders { partition_id: 1 });
        let request = OpenSessionRequest { headers, input: Some(OpenSessionInput { timeout }) };
        let answer =
            lab.call("/atomix.multiraft.v1.Partition/OpenSession", request.encode_to_vec());
        let refused = answer.await.err().map(|status| status.code());
        assert_eq!(refused, code, "{seconds} s {nanos} ns");
    }

    let member = |node_id: u32, host: &str| MemberConfig {
        node_id,
        host: host.to_owned(),
        port: 5679,
        role: 0,
    };
    let many = (1..=REPLICAS_MAX as u32 + 1).map(|id| member(id, &format!("h{id}")));
    for (members, code) in [
        (many.collect(), Some(INVALID)),
        (vec![member(1, &"h".repeat(HOST_BYTES_MAX + 1))], Some(INVALID)),
        (vec![member(1, "h\n")], Some(INVALID)),
        (vec![member(1, "h\0")], Some(INVALID)),
        (vec![member(1, &"h".repeat(HOST_BYTES_MAX))], None),
    ] {
        let group = Some(GroupConfig { group_id: 99, members });
        let request = BootstrapRequest { group }.encode_to_vec();
        let answer = lab.call("/atomix.multiraft.v1.Node/Bootstrap", request).await;
        assert_eq!(answer.err().map(|status| status.code()), code);
    }

    // Padding that readers skip makes a request as large as may be, and one larger.
    let id = lab.fresh(Kind::Value).await;
    for (size, code) in [(REQUEST_BYTES_MAX, None), (REQUEST_BYTES_MAX + 1, Some(FULL))] {
        let mut request = lab.order(id, &text_and("v", &[]));
        // Two bytes of tag, four of length.
        let padding = size - request.len() - 6;
        put_bytes(&mut request, 1000, &vec![0; padding]);
        assert_eq!(request.len(), size);
        let answer = lab.call(&path(Kind::Value, "Set"), request).await;
        assert_eq!(answer.err().map(|status| status.code()), code, "{size} bytes");
    }
}

const INVALID: Code = Code::InvalidArgument;
const FULL: Code = Code::ResourceExhausted;

/// One method, tried at the bounds of each part of its input.
struct Trial {
    kind: Kind,
    method: &'static Method,
    path: String,
}

impl Trial {
    /// Tries the part at `place`, which is a field within the fields before it.
    fn part<'a>(
        &'a self,
        lab: &'a mut Lab,
        place: &'a [u32],
        part: Part,
    ) -> std::pin::Pin<Box<dyn Future<Output = ()> + 'a>> {
        Box::pin(async move {
            match part {
                Part::Number => {}
                Part::Text => self.text(lab, place).await,
                Part::Bytes => self.bytes(lab, place).await,
                Part::Duration => self.duration(lab, place).await,
                Part::Message(inner) => self.fields(lab, place, inner).await,
            }
        })
    }

    async fn fields(&self, lab: &mut Lab, place: &[u32], inner: Shape) {
        for (number, part) in inner {
            let place: Vec<u32> = place.iter().chain([number]).copied().collect();
            self.part(lab, &place, *part).await;
        }
    }

    async fn text(&self, lab: &mut Lab, place: &[u32]) {
        self.refused(lab, place, &[0xC3, 0x28]).await;
        let most = match self.kind {
            Kind::LeaderElection => NAME_BYTES_MAX,
            // What a key has of values is bounded together (multimap.rs).
            Kind::MultiMap if place.last() != Some(&1) => return,
            _ => KEY_BYTES_MAX,
        };
        self.taken(lab, place, &vec![b'k'; most]).await;
        if !self.is_supported() {
            return self.taken(lab, place, &vec![b'k'; most + 1]).await;
        }
        self.refused(lab, place, &vec![b'k'; most + 1]).await;
    }

    async fn bytes(&self, lab: &mut Lab, place: &[u32]) {
        self.taken(lab, place, &vec![0; VALUE_BYTES_MAX]).await;
        self.refused(lab, place, &vec![0; VALUE_BYTES_MAX + 1]).await;
    }

    async fn duration(&self, lab: &mut Lab, place: &[u32]) {
        let longest = DURATION_SECONDS_MAX as i64;
        for (seconds, nanos) in
            [(0, 0), (-1, 0), (0, -1), (-longest, -999_999_999), (longest, 999_999_999)]
        {
            self.taken(lab, place, &duration(seconds, nanos)).await;
        }
        for (seconds, nanos) in [
            (longest + 1, 0),
            (-longest - 1, 0),
            (i64::MIN, 0),
            (0, 1_000_000_000),
            (0, -1_000_000_000),
            (1, -1),
            (-1, 1),
        ] {
            self.refused(lab, place, &duration(seconds, nanos)).await;
        }
    }

    async fn taken(&self, lab: &mut Lab, place: &[u32], bytes: &[u8]) {
        // A stream that opens says nothing.
        if self.method.streaming {
            return;
        }
        let outcome = self.outcome(lab, place, bytes).await;
        let said = match outcome {
            Outcome::Said(said) => said,
            Outcome::Refused(..) => panic!("{}: {outcome:?}", self.what(place, bytes)),
        };
        let supported = said != Said::NotSupported;
        let what = self.what(place, bytes);
        assert!(said != Said::Invalid && supported == self.is_supported(), "{what}: {said:?}");
    }

    async fn refused(&self, lab: &mut Lab, place: &[u32], bytes: &[u8]) {
        let outcome = self.outcome(lab, place, bytes).await;
        assert_eq!(outcome, Outcome::INVALID, "{}", self.what(place, bytes));
    }

    /// The outcome with a primitive of its own: what an earlier trial left is not in the way.
    async fn outcome(&self, lab: &mut Lab, place: &[u32], bytes: &[u8]) -> Outcome {
        let id = lab.fresh(self.kind).await;
        let mut input = bytes.to_vec();
        for number in place.iter().rev() {
            let mut outer = Vec::new();
            put_bytes(&mut outer, *number, &input);
            input = outer;
        }
        if (self.kind, self.method.name) == (Kind::IndexedMap, "Update") {
            // Without an index, an update needs a key.
            put_uint(&mut input, 2, 1);
        }
        match self.method.what {
            What::Command(_) if self.method.streaming => lab.stream(&self.path, id, &input).await,
            What::Command(_) => lab.command(&self.path, id, &input).await,
            _ => match lab.get(&self.path, id, &input).await {
                Ok(_) => Outcome::OK,
                Err(outcome) => outcome,
            },
        }
    }

    /// Locks of maps are declared and nothing implements them.
    fn is_supported(&self) -> bool {
        !(matches!(self.kind, Kind::Map | Kind::CounterMap)
            && matches!(self.method.name, "Lock" | "Unlock"))
    }

    fn what(&self, place: &[u32], bytes: &[u8]) -> String {
        let start = &bytes[..bytes.len().min(12)];
        format!("{} field {place:?}: {} bytes {start:?}", self.path, bytes.len())
    }
}

/// How a call ended.
#[derive(PartialEq, Eq, Debug)]
enum Outcome {
    /// With this in its header.
    Said(Said),
    /// With this instead of an answer.
    Refused(Code),
}

impl Outcome {
    const OK: Outcome = Outcome::Said(Said::Ok);
    const INVALID: Outcome = Outcome::Refused(INVALID);
}

/// A session that sends bytes as they are.
struct Lab {
    channel: Channel,
    session: Session,
    made: u64,
}

impl Lab {
    async fn at(api: &str) -> Lab {
        let endpoint = Endpoint::from_shared(format!("http://{api}")).unwrap();
        let channel = endpoint.connect_timeout(SOON).connect().await.expect("a connection");
        let session = Caller::to(api).await.open(1, Duration::from_secs(3600)).await;
        Lab { channel, session, made: 0 }
    }

    /// A new primitive.
    async fn fresh(&mut self, kind: Kind) -> u64 {
        self.made += 1;
        let name = format!("{kind} {}", self.made);
        self.create(kind, "fresh", &name).await.expect("a primitive")
    }

    async fn create(&mut self, kind: Kind, namespace: &str, name: &str) -> Result<u64, Outcome> {
        let (service, namespace) = (service(kind).to_owned(), namespace.to_owned());
        let spec = PrimitiveSpec { service, namespace, name: name.to_owned() };
        let input = CreatePrimitiveInput { spec: Some(spec) }.encode_to_vec();
        let request = self.order(0, &input);
        let answer = self.call("/atomix.multiraft.v1.Session/CreatePrimitive", request).await;
        let (said, output) = read(answer.map_err(|status| Outcome::Refused(status.code()))?);
        if said != Said::Ok {
            return Err(Outcome::Said(said));
        }
        Ok(CreatePrimitiveOutput::decode(&output[..]).expect("an output").primitive_id)
    }

    async fn command(&mut self, path: &str, id: u64, input: &[u8]) -> Outcome {
        let request = self.order(id, input);
        match self.call(path, request).await {
            Ok(answer) => Outcome::Said(read(answer).0),
            Err(status) => Outcome::Refused(status.code()),
        }
    }

    /// A query's output.
    async fn get(&mut self, path: &str, id: u64, input: &[u8]) -> Result<Vec<u8>, Outcome> {
        let operation = Some(self.session.operation(id));
        let headers = QueryRequestHeaders { operation, max_received_index: self.session.index };
        let request = enveloped(&headers.encode_to_vec(), input);
        let answer = self.call(path, request).await;
        match read(answer.map_err(|status| Outcome::Refused(status.code()))?) {
            (Said::Ok, output) => Ok(output),
            (said, _) => Err(Outcome::Said(said)),
        }
    }

    /// A stream that must not open.
    async fn stream(&mut self, path: &str, id: u64, input: &[u8]) -> Outcome {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.expect("a connection that is ready");
        let request = Request::new(self.order(id, input));
        let path: PathAndQuery = path.parse().unwrap();
        let call = grpc.server_streaming(request, path, Plain);
        match tokio::time::timeout(SOON, call).await.expect("an answer") {
            Ok(_) => Outcome::OK,
            Err(status) => Outcome::Refused(status.code()),
        }
    }

    fn order(&mut self, id: u64, input: &[u8]) -> Vec<u8> {
        let operation = Some(self.session.operation(id));
        let headers = CommandRequestHeaders { operation, sequence_num: self.session.next() };
        enveloped(&headers.encode_to_vec(), input)
    }

    async fn call(&mut self, path: &str, request: Vec<u8>) -> Result<Vec<u8>, Status> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.expect("a connection that is ready");
        let path: PathAndQuery = path.parse().unwrap();
        let call = grpc.unary(Request::new(request), path.clone(), Plain);
        let answer = tokio::time::timeout(SOON, call).await;
        Ok(answer.unwrap_or_else(|_| panic!("{path}: no answer"))?.into_inner())
    }
}

fn enveloped(headers: &[u8], input: &[u8]) -> Vec<u8> {
    let mut request = Vec::with_capacity(headers.len() + input.len() + 16);
    put_bytes(&mut request, 1, headers);
    put_bytes(&mut request, 2, input);
    request
}

/// The status and the output of an answer; the headers of commands and queries begin alike.
fn read(answer: Vec<u8>) -> (Said, Vec<u8>) {
    let (mut said, mut output) = (Said::Unknown, Vec::new());
    let mut fields = Fields::new(&answer);
    while let Some((number, value)) = fields.field().expect("an answer") {
        let bytes = value.bytes().expect("a message");
        if number == 1 {
            let headers = QueryResponseHeaders::decode(bytes).expect("headers");
            said = headers.operation.expect("headers").status();
        } else {
            output = bytes.to_vec();
        }
    }
    (said, output)
}

/// Field 1 as an int64, here or in a message that is field 1.
fn number_in(output: &[u8]) -> i64 {
    let mut fields = Fields::new(output);
    match fields.field().expect("an output") {
        Some((1, value)) => value.uint().expect("a number") as i64,
        _ => 0,
    }
}

/// Text in field 1, and bytes in field 2 when there are any.
fn text_and(text: &str, bytes: &[u8]) -> Vec<u8> {
    let mut input = Vec::new();
    put_bytes(&mut input, 1, text.as_bytes());
    if !bytes.is_empty() {
        put_bytes(&mut input, 2, bytes);
    }
    input
}

fn duration(seconds: i64, nanos: i32) -> Vec<u8> {
    prost_types::Duration { seconds, nanos }.encode_to_vec()
}

fn kind_of(method: &Method) -> Option<Kind> {
    match method.what {
        What::Command(operation) | What::Query(operation) => Some(operation.kind),
        _ => None,
    }
}

fn service(kind: Kind) -> &'static str {
    let of_kind = |service: &&ringraft::edge::method::Service| {
        service.name.starts_with("atomix.multiraft.")
            && service.methods.first().and_then(kind_of) == Some(kind)
    };
    SERVICES.iter().find(of_kind).expect("a service").name
}

fn path(kind: Kind, method: &str) -> String {
    format!("/{}/{method}", service(kind))
}

/// Messages as their bytes.
#[derive(Clone, Copy)]
struct Plain;

impl Codec for Plain {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        *self
    }

    fn decoder(&mut self) -> Plain {
        *self
    }
}

impl Encoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length).to_vec()))
    }
}
