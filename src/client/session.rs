//! A session with one partition: numbers for commands, keep-alives, and asking again (core.md 8.5).
//!
//! Every command gets a number that is its own for ever; whatever happens on the way it is asked
//! again with the same number, and the node executes it once. Numbers that are begun and not
//! finished are in the filter of the next keep-alive; dropping a future or a stream finishes its
//! number, and the node then cancels what is still pending. A session counts as lost when the node
//! says so, or when no keep-alive got through for as long as its timeout, for then the node may
//! have given what it held to somebody else.
//!
//! Absent on purpose: what streams back (`stream.rs`), and opening a new session in place of a lost
//! one, which the next call does (`cluster.rs`): only the caller knows what the loss means to him.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::connection::Method;
use super::way::{Until, Way};
use super::{Dialect, Fault, Status};
use crate::wire::bloom::Filter;
use crate::wire::proto::v1::{
    ClosePrimitiveInput, ClosePrimitiveOutput, CloseSessionInput, CloseSessionRequest,
    CloseSessionResponse, CommandRequestHeaders, CommandResponseHeaders, CreatePrimitiveInput,
    CreatePrimitiveOutput, KeepAliveInput, KeepAliveRequest, KeepAliveResponse, OpenSessionInput,
    OpenSessionRequest, OpenSessionResponse, OperationRequestHeaders, OperationResponseHeaders,
    PartitionRequestHeaders, PrimitiveRequestHeaders, PrimitiveSpec, QueryResponseHeaders,
    SessionRequestHeaders,
};

/// A session; clones share it. It is kept alive until `close`, or until it is lost.
#[derive(Clone)]
pub struct Session {
    pub(super) shared: Arc<Shared>,
}

/// A primitive as one session has it open.
#[derive(Clone)]
pub struct Primitive {
    pub(super) session: Session,
    id: u64,
}

/// What an envelope holds: any message.
pub trait Body: Message + Default + std::fmt::Debug + 'static {}
impl<M: Message + Default + std::fmt::Debug + 'static> Body for M {}

/// Every request and response of a primitive: headers, then input or output (wire.md).
#[derive(Clone, PartialEq, Message)]
pub struct Envelope<H: Body, B: Body> {
    /// `CommandRequestHeaders` or one of its kin.
    #[prost(message, optional, tag = "1")]
    pub headers: Option<H>,
    /// The input, or on success the output.
    #[prost(message, optional, tag = "2")]
    pub body: Option<B>,
}

/// A command's method.
pub type Command<I, O> =
    Method<Envelope<CommandRequestHeaders, I>, Envelope<CommandResponseHeaders, O>>;
/// A query's method.
pub type Query<I, O> = Method<Envelope<QueryHead, I>, Envelope<QueryResponseHeaders, O>>;

/// `QueryRequestHeaders` of every dialect: what fields 2 and 3 mean differs (wire.md).
#[derive(Clone, Copy, PartialEq, Message)]
pub struct QueryHead {
    /// Whom it is for.
    #[prost(message, optional, tag = "1")]
    pub operation: Option<OperationRequestHeaders>,
    /// Documented: `max_received_index`. Released: `sequence_num`.
    #[prost(uint64, tag = "2")]
    pub second: u64,
    /// Documented: nothing. Released: `max_received_index`.
    #[prost(uint64, tag = "3")]
    pub third: u64,
}

/// How a session is to be.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Which numbers its words have.
    pub dialect: Dialect,
    /// How long the node keeps what it holds when it falls silent.
    pub timeout: Duration,
}

pub(super) struct Shared {
    pub(super) way: Arc<Way>,
    terms: Terms,
    partition: u32,
    id: u64,
    state: Mutex<State>,
    life: watch::Sender<Life>,
    /// A keep-alive is wanted before its time.
    early: Notify,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    Lost,
    Closed,
}

#[derive(Default)]
struct State {
    /// The highest number given out; all below it were begun too.
    begun: u64,
    /// Begun and not finished, with how much of its output arrived.
    open: BTreeMap<u64, Outputs>,
    /// Bytes of outputs that the node keeps until the next keep-alive, as far as we saw them.
    kept: usize,
    /// The highest index seen in an answer.
    index: u64,
    /// The primitives that this session has open, by service and name.
    primitives: BTreeMap<(&'static str, String), u64>,
}

#[derive(Default, Clone, Copy)]
struct Outputs {
    last: u64,
    acknowledged: u64,
}

/// A number in use; dropping it finishes it.
pub(super) struct Begun {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u64,
}

/// Outputs of so many bytes are acknowledged before the next keep-alive is due: a node ends the
/// streams of those who let it keep more than some megabytes.
const KEPT_BYTES_MAX: usize = 1 << 20;

impl Session {
    /// Opens a session and begins to keep it alive.
    ///
    /// # Errors
    /// What the node says.
    pub async fn open(
        way: &Arc<Way>,
        partition: u32,
        terms: Terms,
        until: Until,
    ) -> Result<Session, Fault> {
        let input = OpenSessionInput { timeout: Some(span(terms.timeout)) };
        let headers = Some(PartitionRequestHeaders { partition_id: partition });
        let request = OpenSessionRequest { headers, input: Some(input) };
        // A lost answer leaves a session that nobody keeps alive; it ends by itself.
        let opened = Instant::now();
        let ask = |at| way.network().unary(at, &OPEN_SESSION, &request);
        let reply: OpenSessionResponse = way.insist(until, u64::from(partition), ask).await?;
        let id = reply.output.ok_or(Fault::Protocol("a session without an id"))?.session_id;
        let state = Mutex::new(State { index: id, ..State::default() });
        let life = watch::channel(Life::Open).0;
        let way = Arc::clone(way);
        let early = Notify::new();
        let shared = Arc::new(Shared { way, terms, partition, id, state, life, early });
        tokio::spawn(keep_alive(Arc::clone(&shared), opened));
        Ok(Session { shared })
    }

    /// Opens the primitive `name` of this sort, once per session; makes it when it is new.
    ///
    /// # Errors
    /// What the node says; a primitive of that name and another sort is `Fault::Refused`.
    pub async fn primitive(
        &self,
        service: &'static str,
        namespace: &str,
        name: &str,
        until: Until,
    ) -> Result<Primitive, Fault> {
        let key = (service, name.to_owned());
        let known = self.shared.state().primitives.get(&key).copied();
        if let Some(id) = known {
            return Ok(Primitive { session: self.clone(), id });
        }
        let spec = PrimitiveSpec {
            service: service.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let input = CreatePrimitiveInput { spec: Some(spec) };
        let unborn = Primitive { session: self.clone(), id: 0 };
        let made: CreatePrimitiveOutput = unborn.command(&CREATE_PRIMITIVE, input, until).await?;
        self.shared.state().primitives.insert(key, made.primitive_id);
        Ok(Primitive { session: self.clone(), id: made.primitive_id })
    }

    /// Closes the primitive `name`, if this session has it open: its streams end, what it held of
    /// it is released. What is in it stays.
    ///
    /// # Errors
    /// What the node says.
    pub async fn close_primitive(
        &self,
        service: &'static str,
        name: &str,
        until: Until,
    ) -> Result<(), Fault> {
        let known = self.shared.state().primitives.remove(&(service, name.to_owned()));
        let Some(id) = known else { return Ok(()) };
        let primitive = Primitive { session: self.clone(), id };
        let input = ClosePrimitiveInput { primitive_id: id };
        let _: ClosePrimitiveOutput = primitive.command(&CLOSE_PRIMITIVE, input, until).await?;
        Ok(())
    }

    /// Whether it is over, one way or the other.
    #[must_use]
    pub fn is_over(&self) -> bool {
        *self.shared.life.borrow() != Life::Open
    }

    /// A wait for the end of the session that needs neither this value nor a runtime.
    pub(super) fn end(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut life = self.shared.life.subscribe();
        // A sender that is gone is an end as well.
        async move { drop(life.wait_for(|life| *life != Life::Open).await) }
    }

    /// Ends the session: what it held is released at once.
    ///
    /// # Errors
    /// What the node says; the session then ends by its timeout.
    pub async fn close(&self, until: Until) -> Result<(), Fault> {
        let shared = &self.shared;
        if shared.life.send_replace(Life::Closed) != Life::Open {
            return Ok(());
        }
        let headers = Some(PartitionRequestHeaders { partition_id: shared.partition });
        let input = Some(CloseSessionInput { session_id: shared.id });
        let request = CloseSessionRequest { headers, input };
        let close = |at| shared.way.network().unary(at, &CLOSE_SESSION, &request);
        shared.way.insist(until, shared.id, close).await.map(drop)
    }
}

impl Primitive {
    /// Executes a command once, however often it has to be asked.
    ///
    /// # Errors
    /// What the node says; `Fault::SessionLost` when nobody can know whether it was executed.
    pub async fn command<I: Body, O: Body>(
        &self,
        method: &Command<I, O>,
        input: I,
        until: Until,
    ) -> Result<O, Fault> {
        let shared = &self.session.shared;
        let begun = Begun::new(shared);
        let headers = Some(self.command_head(begun.number));
        let request = Envelope { headers, body: Some(input) };
        let network = shared.way.network();
        let ask = shared
            .way
            .insist(until, shared.id ^ begun.number, |at| network.unary(at, method, &request));
        let reply = shared.while_open(ask).await?;
        shared.kept(&reply.body);
        shared.result(reply.headers.and_then(|headers| headers.operation), reply.body)
    }

    /// Reads, no older than anything this session has seen.
    ///
    /// # Errors
    /// What the node says.
    pub async fn query<I: Body, O: Body>(
        &self,
        method: &Query<I, O>,
        input: I,
        until: Until,
    ) -> Result<O, Fault> {
        let shared = &self.session.shared;
        let begun = self.begun_query();
        let headers = Some(self.query_head(begun.as_ref()));
        let request = Envelope { headers, body: Some(input) };
        let network = shared.way.network();
        let ask = shared.way.insist(until, shared.id, |at| network.unary(at, method, &request));
        let reply = shared.while_open(ask).await?;
        shared.result(reply.headers.and_then(|headers| headers.operation), reply.body)
    }

    pub(super) fn command_head(&self, number: u64) -> CommandRequestHeaders {
        CommandRequestHeaders { operation: Some(self.operation()), sequence_num: number }
    }

    /// The number of a query, in the dialect in which queries have one.
    pub(super) fn begun_query(&self) -> Option<Begun> {
        let shared = &self.session.shared;
        (shared.terms.dialect == Dialect::Released).then(|| Begun::new(shared))
    }

    pub(super) fn query_head(&self, begun: Option<&Begun>) -> QueryHead {
        let index = self.session.shared.state().index;
        let operation = Some(self.operation());
        match begun {
            None => QueryHead { operation, second: index, third: 0 },
            Some(begun) => QueryHead { operation, second: begun.number, third: index },
        }
    }

    fn operation(&self) -> OperationRequestHeaders {
        let shared = &self.session.shared;
        let partition = Some(PartitionRequestHeaders { partition_id: shared.partition });
        let session = Some(SessionRequestHeaders { partition, session_id: shared.id });
        let primitive = PrimitiveRequestHeaders { session, primitive_id: self.id };
        OperationRequestHeaders { session: Some(primitive) }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `ask` says while the session is open.
    pub(super) async fn while_open<T>(
        &self,
        ask: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let mut life = self.life.subscribe();
        let outcome = tokio::select! {
            biased;
            outcome = ask => outcome,
            // The sender lives in `self`, so waiting cannot fail.
            _ = life.wait_for(|life| *life != Life::Open) => Err(Fault::SessionLost),
        };
        match outcome {
            Err(fault) if fault.may_be_the_session() && self.is_unknown().await => {
                Err(Fault::SessionLost)
            }
            Err(Fault::SessionLost) if *self.life.borrow() == Life::Closed => Err(Fault::Closed),
            outcome => outcome,
        }
    }

    /// Asks the node whether it knows the session; when not, the session is lost.
    pub(super) async fn is_unknown(&self) -> bool {
        let (request, _) = self.keep_alive_request();
        let asked = self.way.network().unary(self.way.at(), &KEEP_ALIVE, &request);
        let answer: Result<Result<KeepAliveResponse, Fault>, _> =
            timeout(self.terms.timeout / 3, asked).await;
        let unknown = matches!(answer, Ok(Err(fault)) if fault.is_unknown_session());
        if unknown {
            self.lose();
        }
        unknown
    }

    fn lose(&self) {
        self.life.send_if_modified(|life| {
            let was = *life;
            if was == Life::Open {
                *life = Life::Lost;
            }
            was == Life::Open
        });
    }

    /// Has the next keep-alive sent now. The number that was just finished is dropped by then.
    pub(super) fn speak_early(&self) {
        self.early.notify_one();
    }

    /// Counts an output that the node keeps until it hears that we have it.
    pub(super) fn kept<O: Body>(&self, body: &Option<O>) {
        let mut state = self.state();
        state.kept += body.as_ref().map_or(0, Message::encoded_len);
        if state.kept > KEPT_BYTES_MAX {
            state.kept = 0;
            self.early.notify_one();
        }
    }

    /// Notes the index and gives the output, or why there is none.
    pub(super) fn result<O>(
        &self,
        head: Option<OperationResponseHeaders>,
        body: Option<O>,
    ) -> Result<O, Fault> {
        let head = head.ok_or(Fault::Protocol("an answer without headers"))?;
        let partition = head.session.and_then(|s| s.session).and_then(|s| s.partition);
        self.seen(partition.map_or(0, |partition| partition.index));
        match status(self.terms.dialect, head.status) {
            Some(Status::Ok) => body.ok_or(Fault::Protocol("a success without output")),
            Some(status) => Err(Fault::Refused { status, message: head.message }),
            None => Err(Fault::Protocol("a status of another dialect")),
        }
    }

    fn seen(&self, index: u64) {
        let mut state = self.state();
        state.index = state.index.max(index);
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.life.borrow() == Life::Closed
    }

    fn keep_alive_request(&self) -> (KeepAliveRequest, BTreeMap<u64, u64>) {
        let state = self.state();
        let open: Vec<u64> = state.open.keys().copied().collect();
        let received: BTreeMap<u64, u64> = state
            .open
            .iter()
            .filter(|(_, outputs)| outputs.last > outputs.acknowledged)
            .map(|(number, outputs)| (*number, outputs.last))
            .collect();
        let input = KeepAliveInput {
            session_id: self.id,
            input_filter: Filter::of(&open).to_json().into(),
            last_input_sequence_num: state.begun,
            last_output_sequence_nums: received.clone(),
        };
        let headers = Some(PartitionRequestHeaders { partition_id: self.partition });
        (KeepAliveRequest { headers, input: Some(input) }, received)
    }

    fn acknowledged(&self, received: &BTreeMap<u64, u64>) {
        let mut state = self.state();
        for (number, last) in received {
            if let Some(outputs) = state.open.get_mut(number) {
                outputs.acknowledged = outputs.acknowledged.max(*last);
            }
        }
    }
}

impl Begun {
    pub(super) fn new(shared: &Arc<Shared>) -> Begun {
        let mut state = shared.state();
        state.begun += 1;
        let number = state.begun;
        state.open.insert(number, Outputs::default());
        drop(state);
        Begun { shared: Arc::clone(shared), number }
    }

    pub(super) fn received(&self, last: u64) {
        if let Some(outputs) = self.shared.state().open.get_mut(&self.number) {
            outputs.last = last;
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.shared.state().open.remove(&self.number);
    }
}

/// Tells the node three times a timeout that the session lives, until it does not.
async fn keep_alive(shared: Arc<Shared>, opened: Instant) {
    let limit = shared.terms.timeout;
    let period = limit / 3;
    // The node counts from when it applied the last one, which is after it was sent.
    let mut heard = opened;
    let mut wait = period;
    let mut life = shared.life.subscribe();
    loop {
        tokio::select! {
            _ = life.wait_for(|life| *life != Life::Open) => return,
            () = shared.early.notified() => {}
            () = sleep(wait) => {}
        }
        let sent = Instant::now();
        let (request, received) = shared.keep_alive_request();
        let at = shared.way.at();
        let call = shared.way.network().unary(at, &KEEP_ALIVE, &request);
        let outcome: Result<Result<KeepAliveResponse, Fault>, _> = timeout(period, call).await;
        wait = period / 4;
        match outcome {
            Ok(Ok(reply)) => {
                heard = sent;
                wait = period;
                shared.seen(reply.headers.map_or(0, |headers| headers.index));
                shared.acknowledged(&received);
                continue;
            }
            Ok(Err(fault)) if fault.is_unknown_session() => return shared.lose(),
            Ok(Err(fault)) if fault.is_of_the_node() => shared.way.leave(at),
            Ok(Err(_)) => {}
            Err(_) => {
                // Whatever else waits for that node's answer would wait for ever.
                shared.way.network().give_up(at);
                shared.way.leave(at);
            }
        }
        if heard.elapsed() >= limit {
            return shared.lose();
        }
        wait = wait.min(limit.saturating_sub(heard.elapsed()));
    }
}

/// The word for a status number (wire.md).
fn status(dialect: Dialect, number: i32) -> Option<Status> {
    match (dialect, number) {
        (Dialect::Released, 0) => Some(Status::Ok),
        (Dialect::Released, 1) => Some(Status::Error),
        (Dialect::Released, 2) => Some(Status::Unknown),
        (_, number) => Status::try_from(number).ok(),
    }
}

/// A length of time as the protocol has it; what is too long for it is as long as it can say.
pub(super) fn span(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: span.subsec_nanos() as i32,
    }
}

const OPEN_SESSION: Method<OpenSessionRequest, OpenSessionResponse> =
    Method::at("/atomix.multiraft.v1.Partition/OpenSession");
const KEEP_ALIVE: Method<KeepAliveRequest, KeepAliveResponse> =
    Method::at("/atomix.multiraft.v1.Partition/KeepAlive");
const CLOSE_SESSION: Method<CloseSessionRequest, CloseSessionResponse> =
    Method::at("/atomix.multiraft.v1.Partition/CloseSession");
const CREATE_PRIMITIVE: Command<CreatePrimitiveInput, CreatePrimitiveOutput> =
    Method::at("/atomix.multiraft.v1.Session/CreatePrimitive");
const CLOSE_PRIMITIVE: Command<ClosePrimitiveInput, ClosePrimitiveOutput> =
    Method::at("/atomix.multiraft.v1.Session/ClosePrimitive");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_status_are_the_dialects() {
        for number in 3..=14 {
            assert_eq!(status(Dialect::Released, number), status(Dialect::Documented, number));
        }
        assert_eq!(status(Dialect::Documented, 1), Some(Status::Ok));
        assert_eq!(status(Dialect::Released, 0), Some(Status::Ok));
        assert_eq!(status(Dialect::Documented, 0), Some(Status::Unknown));
        assert_eq!(status(Dialect::Released, 15), None);
    }

    #[test]
    fn a_query_of_the_documented_dialect_is_its_message() {
        use crate::wire::proto::v1::QueryRequestHeaders;
        let head = QueryHead { operation: None, second: 42, third: 0 };
        let plain = QueryRequestHeaders { operation: None, max_received_index: 42 };
        assert_eq!(head.encode_to_vec(), plain.encode_to_vec());
    }

    #[test]
    fn an_envelope_is_the_bytes_of_any_request() {
        use crate::wire::proto::counter::v1::{IncrementInput, IncrementRequest};
        let headers = CommandRequestHeaders { sequence_num: 9, ..Default::default() };
        let body = IncrementInput { delta: -3 };
        let plain = IncrementRequest { headers: Some(headers), input: Some(body) };
        let envelope = Envelope { headers: Some(headers), body: Some(body) };
        assert_eq!(envelope.encode_to_vec(), plain.encode_to_vec());
    }
}
