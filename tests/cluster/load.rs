//! Clients that write down what they ask and hear, for the simulator's checker.
//!
//! They speak through our own connections, one try at a time, and do the rest by hand: the same
//! number at another node when one does not answer, now and then at two nodes at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use ringraft::client::connection::{Method, Network};
use ringraft::client::session::Envelope;
use ringraft::id::{Kind, PartitionId};
use ringraft::partition::reply::Status;
use ringraft::prng::Prng;
use ringraft::sim::check::check;
use ringraft::sim::fault::Plan;
use ringraft::sim::history::{self, History, Record, Stream};
use ringraft::wire::proto::v1::*;
use ringraft::workload::answer::outcome;
use ringraft::workload::{Answer, Op, Outcome};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::harness::caller::{Said, span};

/// What all clients saw.
pub struct Book {
    began: Instant,
    history: Mutex<History>,
}

/// One client with its session.
pub struct Person {
    book: Arc<Book>,
    network: Network,
    at: usize,
    client: u32,
    /// In the history's sessions.
    place: usize,
    pub session: u64,
    sequence: u64,
    index: u64,
    primitives: BTreeMap<(Kind, &'static str), u64>,
}

/// Clients at work.
pub struct Load {
    pub book: Arc<Book>,
    stop: Arc<AtomicBool>,
    done: Vec<Arc<AtomicU64>>,
    tasks: Vec<JoinHandle<()>>,
    listener: JoinHandle<()>,
    heard: Arc<AtomicU64>,
    endpoints: Vec<String>,
}

/// A body that stays bytes: on the wire the same as a message.
#[derive(Clone, PartialEq, Message)]
struct Raw<H: ringraft::client::session::Body> {
    #[prost(message, optional, tag = "1")]
    headers: Option<H>,
    #[prost(bytes = "bytes", tag = "2")]
    body: Bytes,
}

type Order = Raw<CommandRequestHeaders>;
type Done = Raw<CommandResponseHeaders>;

impl Book {
    pub fn new() -> Arc<Book> {
        Arc::new(Book { began: Instant::now(), history: Mutex::default() })
    }

    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn call(&self, person: &Person, name: &str, op: &Op) -> usize {
        let mut history = self.history.lock().unwrap();
        let call = history.stamp(self.now_ns());
        history.call(Record {
            client: person.client,
            session: person.place,
            partition: PartitionId(1),
            primitive: (op.kind(), name.to_owned()),
            op: op.clone(),
            call,
            back: None,
            outcome: None,
            index: 0,
        })
    }

    fn back(&self, record: usize, index: u64, outcome: Outcome) {
        let mut history = self.history.lock().unwrap();
        history.back(record, self.now_ns(), index, outcome);
    }

    /// What the simulator's checker says of all of it.
    pub fn judge(&self) {
        let history = self.history.lock().unwrap();
        let findings = check(&history, &Plan::calm(0));
        let (asked, keys) = (history.records.len(), findings.linear);
        let events: usize = history.streams.iter().map(|stream| stream.outputs.len()).sum();
        eprintln!("{asked} operations, {events} events, {keys} keys in order");
        assert!(findings.wrong.is_empty(), "{}", findings.wrong.join("\n"));
        assert_eq!(findings.open, 0, "histories too long to judge");
        assert!(asked > 100 && keys > 5 && events > 10, "too little was done");
    }
}

impl Person {
    /// Opens a session, at whichever node does.
    pub async fn open(
        book: &Arc<Book>,
        endpoints: &[String],
        client: u32,
        life: Duration,
    ) -> Person {
        let mut person = Person {
            book: book.clone(),
            network: Network::of(endpoints),
            at: client as usize % endpoints.len(),
            client,
            place: 0,
            session: 0,
            sequence: 0,
            index: 0,
            primitives: BTreeMap::new(),
        };
        let headers = Some(PartitionRequestHeaders { partition_id: 1 });
        let input = Some(OpenSessionInput { timeout: Some(span(life)) });
        let opened = person.ask(&OPEN, &OpenSessionRequest { headers, input }).await;
        person.session = opened.output.expect("an output").session_id;
        let mut history = book.history.lock().unwrap();
        person.place = history.sessions.len();
        history.sessions.push(history::Session {
            id: person.session,
            partition: PartitionId(1),
            confirmed: 0,
            timeout_ns: life.as_nanos() as u64,
            // Sessions of these clients outlive each test by far.
            survived: true,
            closed: None,
        });
        drop(history);
        person
    }

    /// Asks one node after another until there is an answer.
    async fn ask<I: Message, O: Message + Default>(&mut self, how: &Method<I, O>, what: &I) -> O {
        let until = Instant::now() + PROGRESS_MAX;
        loop {
            match timeout(PATIENCE, self.network.unary(self.at, how, what)).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(fault)) if fault.is_passing() => {}
                Ok(Err(fault)) => panic!("client {} at {}: {fault}", self.client, how.path),
                Err(_) => self.network.give_up(self.at),
            }
            assert!(Instant::now() < until, "client {} gets nothing done", self.client);
            self.at = (self.at + 1) % self.network.count();
            sleep(PAUSE).await;
        }
    }

    /// Asks two nodes at once, and goes on as `ask` when neither has an answer.
    async fn ask_twice(&mut self, how: &Method<Order, Done>, order: &Order) -> Done {
        let other = (self.at + 1) % self.network.count();
        let (one, two) = tokio::join!(
            timeout(PATIENCE, self.network.unary(self.at, how, order)),
            timeout(PATIENCE, self.network.unary(other, how, order)),
        );
        match (one, two) {
            (Ok(Ok(one)), Ok(Ok(two))) => {
                assert_eq!(one.body, two.body, "one command, one output");
                one
            }
            (Ok(Ok(done)), _) | (_, Ok(Ok(done))) => done,
            _ => self.ask(how, order).await,
        }
    }

    fn operation(&self, primitive_id: u64) -> OperationRequestHeaders {
        let partition = Some(PartitionRequestHeaders { partition_id: 1 });
        let session = Some(SessionRequestHeaders { partition, session_id: self.session });
        OperationRequestHeaders { session: Some(PrimitiveRequestHeaders { session, primitive_id }) }
    }

    fn order(&mut self, primitive: u64, body: Bytes) -> Order {
        self.sequence += 1;
        let operation = Some(self.operation(primitive));
        let sequence_num = self.sequence;
        Raw { headers: Some(CommandRequestHeaders { operation, sequence_num }), body }
    }

    async fn primitive(&mut self, kind: Kind, name: &'static str) -> u64 {
        if let Some(known) = self.primitives.get(&(kind, name)) {
            return *known;
        }
        let service = match kind {
            Kind::Counter => "atomix.runtime.counter.v1.Counter",
            Kind::Map => "atomix.runtime.map.v1.Map",
            _ => "atomix.runtime.lock.v1.Lock",
        };
        let (service, namespace, name_) = (service.to_owned(), String::new(), name.to_owned());
        let spec = Some(PrimitiveSpec { service, namespace, name: name_ });
        let order = self.order(0, CreatePrimitiveInput { spec }.encode_to_vec().into());
        let order: Envelope<CommandRequestHeaders, CreatePrimitiveInput> =
            Message::decode(order.encode_to_vec().as_slice()).expect("the same message");
        let done = self.ask(&CREATE, &order).await;
        let id = done.body.expect("a primitive").primitive_id;
        self.primitives.insert((kind, name), id);
        id
    }

    /// Does one operation and writes it down.
    pub async fn op(&mut self, name: &'static str, op: Op, twice: bool) -> Outcome {
        let primitive = self.primitive(op.kind(), name).await;
        let record = self.book.call(self, name, &op);
        let body = input(&op);
        let (head, body) = if op.is_query() {
            let operation = Some(self.operation(primitive));
            let headers = QueryRequestHeaders { operation, max_received_index: self.index };
            let question: Raw<QueryRequestHeaders> = Raw { headers: Some(headers), body };
            let how: Method<_, Raw<QueryResponseHeaders>> = Method::at(path(&op));
            let answer = self.ask(&how, &question).await;
            (answer.headers.and_then(|head| head.operation), answer.body)
        } else {
            let order = self.order(primitive, body);
            let how = Method::at(path(&op));
            let done = if twice {
                self.ask_twice(&how, &order).await
            } else {
                self.ask(&how, &order).await
            };
            (done.headers.and_then(|head| head.operation), done.body)
        };
        let head = head.expect("headers");
        let index = index(&head);
        self.index = self.index.max(index);
        let outcome = told(&op, &head, &body);
        self.book.back(record, index, outcome.clone());
        outcome
    }

    /// Writes, reads and locks until it is stopped.
    async fn work(mut self, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) {
        let mut prng = Prng::new(u64::from(self.client) + 1);
        while !stop.load(Ordering::Relaxed) {
            let twice = prng.chance(250);
            let key = (*prng.pick(&["k0", "k1", "k2", "k3"])).to_owned();
            let value = Bytes::from(format!("{}-{}", self.client, self.sequence));
            let counter = *prng.pick(&["c0", "c1", "c2"]);
            match prng.below(8) {
                0 | 1 => drop(self.op(counter, Op::CounterIncrement(1), twice).await),
                2 => drop(self.op(counter, Op::CounterGet, false).await),
                3 | 4 => {
                    let op = Op::MapPut { key, value, ttl: None, prev: 0 };
                    drop(self.op("m", op, twice).await);
                }
                5 => drop(self.op("m", Op::MapRemove { key, prev: 0 }, twice).await),
                6 => drop(self.op("m", Op::MapGet { key }, false).await),
                _ => {
                    let at_once = Some(ringraft::time::Span::ZERO);
                    let op = Op::LockAcquire { timeout: at_once };
                    if self.op("l", op, twice).await.is_ok() {
                        let freed = self.op("l", Op::LockRelease, twice).await;
                        assert_eq!(freed, Ok(Answer::Nothing), "who holds a lock can give it back");
                    }
                }
            }
            done.fetch_add(1, Ordering::Relaxed);
            // A history that is longer says no more and takes longer to judge.
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Listens to a map from node to node: each event once and none missing.
    async fn listen(mut self, heard: Arc<AtomicU64>) {
        let op = Op::MapEvents { key: String::new() };
        let primitive = self.primitive(Kind::Map, "m").await;
        let record = self.book.call(&self, "m", &op);
        let order = self.order(primitive, input(&op));
        let place = {
            let mut history = self.book.history.lock().unwrap();
            history.streams.push(Stream { record, outputs: Vec::new(), complete: false });
            history.streams.len() - 1
        };
        let how: Method<Order, Done> = Method::at("/atomix.multiraft.map.v1.Map/Events");
        let mut last = 0;
        loop {
            let opened = timeout(PATIENCE, self.network.stream(self.at, &how, &order)).await;
            if let Ok(Ok(mut stream)) = opened {
                let mut before = None;
                while let Ok(Ok(Some(event))) = timeout(PATIENCE, stream.next()).await {
                    let head = event.headers.expect("headers");
                    let number = head.output_sequence_num;
                    let head = head.operation.expect("headers");
                    // Numbered from 1; what was heard may come again on another way.
                    assert!(number <= last + 1, "event {number} after {last}");
                    let follows = before.is_none_or(|before| number == before + 1);
                    assert!(follows, "event {number} after {before:?} on one way");
                    before = Some(number);
                    if number == last + 1 {
                        last = number;
                        let outcome = told(&op, &head, &event.body);
                        let mut history = self.book.history.lock().unwrap();
                        history.streams[place].outputs.push((number, index(&head), outcome));
                        heard.store(index(&head), Ordering::Relaxed);
                    }
                }
            }
            self.network.give_up(self.at);
            self.at = (self.at + 1) % self.network.count();
            sleep(PAUSE).await;
        }
    }
}

impl Load {
    /// Sets clients to work on partition 1 of the cluster at `endpoints`.
    pub async fn start(endpoints: &[String], clients: u32) -> Load {
        let book = Book::new();
        let heard = Arc::new(AtomicU64::new(0));
        let listener = Person::open(&book, endpoints, clients, LIFE).await;
        let listener = tokio::spawn(listener.listen(heard.clone()));
        let stop = Arc::new(AtomicBool::new(false));
        let (mut done, mut tasks) = (Vec::new(), Vec::new());
        for client in 0..clients {
            let person = Person::open(&book, endpoints, client, LIFE).await;
            let count = Arc::new(AtomicU64::new(0));
            done.push(count.clone());
            tasks.push(tokio::spawn(person.work(stop.clone(), count)));
        }
        let endpoints = endpoints.to_vec();
        Load { book, stop, done, tasks, listener, heard, endpoints }
    }

    /// Waits until each client has done so many more operations.
    pub async fn progress(&self, more: u64) {
        self.within(PROGRESS_MAX, more).await;
    }

    /// The same, now that all is well again: the seconds that an election takes are enough.
    pub async fn healed(&self, more: u64) {
        self.within(HEALED_MAX, more).await;
    }

    /// Waits until no client gets anything done: each waits for an answer that does not come.
    pub async fn stalls(&self) {
        let until = Instant::now() + PROGRESS_MAX;
        let mut before = self.counts();
        loop {
            // Longer than a client waits for one node.
            sleep(2 * PATIENCE).await;
            let after = self.counts();
            if before == after {
                return;
            }
            before = after;
            assert!(Instant::now() < until, "a minority gets something done");
        }
    }

    fn counts(&self) -> Vec<u64> {
        self.done.iter().map(|done| done.load(Ordering::Relaxed)).collect()
    }

    async fn within(&self, most: Duration, more: u64) {
        let until = Instant::now() + most;
        let before = self.counts();
        for (client, (done, before)) in self.done.iter().zip(before).enumerate() {
            while done.load(Ordering::Relaxed) < before + more {
                assert!(!self.tasks[client].is_finished(), "client {client} has failed");
                assert!(Instant::now() < until, "client {client} gets nothing done");
                sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// Ends it, reads everything once more, waits for the last event, and judges.
    pub async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a client has failed");
        }
        let mut last = Person::open(&self.book, &self.endpoints, 99, LIFE).await;
        let op = Op::MapPut { key: "end".to_owned(), value: "x".into(), ttl: None, prev: 0 };
        let written = last.op("m", op, false).await;
        let Ok(Answer::Written { index, .. }) = written else { panic!("{written:?}") };
        for counter in ["c0", "c1", "c2"] {
            drop(last.op(counter, Op::CounterGet, false).await);
        }
        for key in ["k0", "k1", "k2", "k3"] {
            drop(last.op("m", Op::MapGet { key: key.to_owned() }, false).await);
        }
        let until = Instant::now() + PROGRESS_MAX;
        while self.heard.load(Ordering::Relaxed) < index {
            assert!(!self.listener.is_finished(), "the listener has failed");
            assert!(Instant::now() < until, "the last event does not come");
            sleep(Duration::from_millis(10)).await;
        }
        self.listener.abort();
        self.book.judge();
    }
}

/// What the method's own input message holds: the payload names it as one of all, and that name and
/// the length go.
fn input(op: &Op) -> Bytes {
    let mut payload = Bytes::from(op.payload());
    prost::encoding::decode_key(&mut payload).expect("a payload has its member");
    let length = prost::encoding::decode_varint(&mut payload).expect("a length");
    assert_eq!(length as usize, payload.len(), "{op} is one member");
    payload
}

fn index(head: &OperationResponseHeaders) -> u64 {
    let session = head.session.as_ref().and_then(|head| head.session.as_ref());
    session.and_then(|head| head.partition.as_ref()).expect("an index").index
}

fn told(op: &Op, head: &OperationResponseHeaders, body: &Bytes) -> Outcome {
    let status = match head.status() {
        Said::Ok => return outcome(op, Status::Ok, body),
        Said::NotFound => Status::NotFound,
        Said::AlreadyExists => Status::AlreadyExists,
        Said::Conflict => Status::Conflict,
        Said::Timeout => Status::Timeout,
        Said::Invalid => Status::Invalid,
        Said::Forbidden => Status::Forbidden,
        other => panic!("{op}: {other:?} {}", head.message),
    };
    outcome(op, status, head.message.as_bytes())
}

fn path(op: &Op) -> &'static str {
    match op {
        Op::CounterIncrement(_) => "/atomix.multiraft.counter.v1.Counter/Increment",
        Op::CounterGet => "/atomix.multiraft.counter.v1.Counter/Get",
        Op::MapPut { .. } => "/atomix.multiraft.map.v1.Map/Put",
        Op::MapRemove { .. } => "/atomix.multiraft.map.v1.Map/Remove",
        Op::MapGet { .. } => "/atomix.multiraft.map.v1.Map/Get",
        Op::LockAcquire { .. } => "/atomix.multiraft.lock.v1.Lock/Acquire",
        Op::LockRelease => "/atomix.multiraft.lock.v1.Lock/Release",
        other => panic!("{other} is not in the mix"),
    }
}

const OPEN: Method<OpenSessionRequest, OpenSessionResponse> =
    Method::at("/atomix.multiraft.v1.Partition/OpenSession");
const CREATE: Method<
    Envelope<CommandRequestHeaders, CreatePrimitiveInput>,
    Envelope<CommandResponseHeaders, CreatePrimitiveOutput>,
> = Method::at("/atomix.multiraft.v1.Session/CreatePrimitive");

/// A node that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_millis(700);
const PAUSE: Duration = Duration::from_millis(5);
/// Longer than any election, on a machine that is busy besides.
const PROGRESS_MAX: Duration = Duration::from_secs(20);
/// An election or two, and what a busy host adds.
const HEALED_MAX: Duration = Duration::from_secs(8);
const LIFE: Duration = Duration::from_secs(600);
