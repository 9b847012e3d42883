//! A session with one partition: numbers for commands, keep-alives, and asking again (core.md 8.5).
//!
//! Every command gets a number that is its own for ever; whatever happens on the way it is asked
//! again with the same number, and the node executes it once. Numbers that are begun and not
//! finished are in the filter of the next keep-alive; dropping a future or a stream finishes its
//! number, and the node then cancels what is still pending. A session counts as lost when the node
//! says so, or when no keep-alive got through for as long as its timeout, for then the node may
//! have given what it held to somebody else.
//!
//! Absent on purpose: opening a new session in place of a lost one. What the old one held is gone,
//! and only the caller knows what that means.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Fault;
use super::connection::{Channel, Method, Stream};
use crate::prng::mix;
use crate::wire::bloom::Filter;
use crate::wire::proto::v1::operation_response_headers::Status;
use crate::wire::proto::v1::{
    CloseSessionInput, CloseSessionRequest, CloseSessionResponse, CommandRequestHeaders,
    CommandResponseHeaders, CreatePrimitiveInput, CreatePrimitiveOutput, KeepAliveInput,
    KeepAliveRequest, KeepAliveResponse, OpenSessionInput, OpenSessionRequest, OpenSessionResponse,
    OperationRequestHeaders, OperationResponseHeaders, PartitionRequestHeaders,
    PrimitiveRequestHeaders, PrimitiveSpec, QueryRequestHeaders, QueryResponseHeaders,
    SessionRequestHeaders,
};

/// A session; clones share it. It is kept alive until `close`, or until the last clone is gone.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
    // Ends the keep-alives with the last clone.
    _keeper: Arc<Keeper>,
}

/// A primitive as one session has it open.
#[derive(Clone)]
pub struct Primitive {
    session: Session,
    id: u64,
}

/// How long a call may be asked again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// For so long.
    For(Duration),
    /// As long as the session lives.
    Endless,
}

/// The events of a streaming command, each once and in order, over any number of connections.
pub struct Events<I: Body, O: Body> {
    method: Command<I, O>,
    request: Envelope<CommandRequestHeaders, I>,
    stream: Option<Stream<Envelope<CommandResponseHeaders, O>>>,
    begun: Begun,
    last: u64,
    tries: u32,
}

/// The answers of a streaming query; over with its connection.
pub struct Answers<O: Body> {
    stream: Stream<Envelope<QueryResponseHeaders, O>>,
    shared: Arc<Shared>,
}

/// What an envelope holds: any message.
pub trait Body: Message + Default + std::fmt::Debug {}
impl<M: Message + Default + std::fmt::Debug> Body for M {}

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
pub type Query<I, O> = Method<Envelope<QueryRequestHeaders, I>, Envelope<QueryResponseHeaders, O>>;

struct Shared {
    channel: Channel,
    partition: u32,
    id: u64,
    timeout: Duration,
    state: Mutex<State>,
    lost: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// The highest number given out; all below it were begun too.
    begun: u64,
    /// Begun and not finished, with how much of its output arrived.
    open: BTreeMap<u64, Outputs>,
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
struct Begun {
    shared: Arc<Shared>,
    number: u64,
}

struct Keeper(tokio::task::AbortHandle);

impl Session {
    /// Opens a session and begins to keep it alive.
    ///
    /// # Errors
    /// What the node says.
    pub async fn open(
        channel: &Channel,
        partition: u32,
        session_timeout: Duration,
        patience: Patience,
    ) -> Result<Session, Fault> {
        let input = OpenSessionInput {
            timeout: Some(prost_types::Duration {
                seconds: i64::try_from(session_timeout.as_secs()).unwrap_or(i64::MAX),
                nanos: session_timeout.subsec_nanos() as i32,
            }),
        };
        let headers = Some(PartitionRequestHeaders { partition_id: partition });
        let request = OpenSessionRequest { headers, input: Some(input) };
        // A lost answer leaves a session that nobody keeps alive; it ends by itself.
        let opened = Instant::now();
        let reply: OpenSessionResponse =
            insist(patience, u64::from(partition), || channel.unary(&OPEN_SESSION, &request))
                .await?;
        let id = reply.output.ok_or(Fault::Protocol("a session without an id"))?.session_id;
        let state = Mutex::new(State { index: id, ..State::default() });
        let (lost, _) = watch::channel(false);
        let shared = Shared {
            channel: channel.clone(),
            partition,
            id,
            timeout: session_timeout,
            state,
            lost,
        };
        let shared = Arc::new(shared);
        let keeper = tokio::spawn(keep_alive(Arc::clone(&shared), opened));
        Ok(Session { shared, _keeper: Arc::new(Keeper(keeper.abort_handle())) })
    }

    /// Opens the primitive `name` of this sort, once per session; makes it when it is new.
    ///
    /// # Errors
    /// What the node says; a primitive of that name and another sort is `Fault::Refused`.
    pub async fn primitive(
        &self,
        service: &'static str,
        name: &str,
        patience: Patience,
    ) -> Result<Primitive, Fault> {
        let key = (service, name.to_owned());
        let known = self.shared.state().primitives.get(&key).copied();
        if let Some(id) = known {
            return Ok(Primitive { session: self.clone(), id });
        }
        let spec = PrimitiveSpec {
            service: service.to_owned(),
            namespace: String::new(),
            name: name.to_owned(),
        };
        let input = CreatePrimitiveInput { spec: Some(spec) };
        let unborn = Primitive { session: self.clone(), id: 0 };
        let made: CreatePrimitiveOutput =
            unborn.command(&CREATE_PRIMITIVE, input, patience).await?;
        self.shared.state().primitives.insert(key, made.primitive_id);
        Ok(Primitive { session: self.clone(), id: made.primitive_id })
    }

    /// Returns when the session is lost.
    pub async fn lost(&self) {
        self.shared.until_lost().await;
    }

    /// Ends the session: what it held is released at once.
    ///
    /// # Errors
    /// What the node says; the session then ends by its timeout.
    pub async fn close(&self, patience: Patience) -> Result<(), Fault> {
        let headers = Some(PartitionRequestHeaders { partition_id: self.shared.partition });
        let input = Some(CloseSessionInput { session_id: self.shared.id });
        let request = CloseSessionRequest { headers, input };
        let close = || self.shared.channel.unary(&CLOSE_SESSION, &request);
        insist(patience, self.shared.id, close).await.map(drop)
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
        patience: Patience,
    ) -> Result<O, Fault> {
        let shared = &self.session.shared;
        let begun = Begun::new(shared);
        let headers = Some(self.command_headers(begun.number));
        let request = Envelope { headers, body: Some(input) };
        let ask = insist(patience, begun.number, || shared.channel.unary(method, &request));
        let reply = tokio::select! {
            reply = ask => reply?,
            () = shared.until_lost() => return Err(Fault::SessionLost),
        };
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
        patience: Patience,
    ) -> Result<O, Fault> {
        let shared = &self.session.shared;
        let request = Envelope { headers: Some(self.query_headers()), body: Some(input) };
        let ask = insist(patience, shared.id, || shared.channel.unary(method, &request));
        let reply = tokio::select! {
            reply = ask => reply?,
            () = shared.until_lost() => return Err(Fault::SessionLost),
        };
        shared.result(reply.headers.and_then(|headers| headers.operation), reply.body)
    }

    /// Registers a streaming command; nothing is sent before the first `next`.
    pub fn events<I: Body, O: Body>(&self, path: &'static str, input: I) -> Events<I, O> {
        let begun = Begun::new(&self.session.shared);
        let headers = Some(self.command_headers(begun.number));
        let request = Envelope { headers, body: Some(input) };
        Events { method: Method::at(path), request, stream: None, begun, last: 0, tries: 0 }
    }

    /// Opens a streaming query.
    ///
    /// # Errors
    /// When no node answers; what the node says comes with the first `next`.
    pub async fn answers<I: Body, O: Body>(
        &self,
        method: &Query<I, O>,
        input: I,
    ) -> Result<Answers<O>, Fault> {
        let shared = &self.session.shared;
        let request = Envelope { headers: Some(self.query_headers()), body: Some(input) };
        let stream = shared.channel.stream(method, &request).await?;
        Ok(Answers { stream, shared: Arc::clone(shared) })
    }

    fn command_headers(&self, number: u64) -> CommandRequestHeaders {
        CommandRequestHeaders { operation: Some(self.operation()), sequence_num: number }
    }

    fn query_headers(&self) -> QueryRequestHeaders {
        let max_received_index = self.session.shared.state().index;
        QueryRequestHeaders { operation: Some(self.operation()), max_received_index }
    }

    fn operation(&self) -> OperationRequestHeaders {
        let shared = &self.session.shared;
        let partition = Some(PartitionRequestHeaders { partition_id: shared.partition });
        let session = Some(SessionRequestHeaders { partition, session_id: shared.id });
        let primitive = PrimitiveRequestHeaders { session, primitive_id: self.id };
        OperationRequestHeaders { session: Some(primitive) }
    }
}

impl<I: Body, O: Body> Events<I, O> {
    /// The next event; `None` when the stream is over for good.
    ///
    /// # Errors
    /// What the node says; a broken connection is no error, the stream goes on where it was.
    pub async fn next(&mut self) -> Result<Option<O>, Fault> {
        loop {
            let shared = Arc::clone(&self.begun.shared);
            let outcome = tokio::select! {
                outcome = self.receive() => outcome,
                () = shared.until_lost() => return Err(Fault::SessionLost),
            };
            match outcome {
                Ok(None) => return Ok(None),
                Ok(Some(message)) => {
                    self.tries = 0;
                    let number = message.headers.as_ref().map_or(0, |h| h.output_sequence_num);
                    let operation = message.headers.and_then(|headers| headers.operation);
                    let output = shared.result(operation, message.body)?;
                    // After a reconnect the node repeats what was not acknowledged.
                    if number == self.last + 1 {
                        self.last = number;
                        self.begun.received(number);
                        return Ok(Some(output));
                    }
                }
                Err(fault) if fault.is_passing() => {
                    self.stream = None;
                    sleep(pause(self.tries, self.begun.number)).await;
                    self.tries += 1;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<Envelope<CommandResponseHeaders, O>>, Fault> {
        if self.stream.is_none() {
            let channel = &self.begun.shared.channel;
            self.stream = Some(channel.stream(&self.method, &self.request).await?);
        }
        match &mut self.stream {
            Some(stream) => stream.next().await,
            None => Err(Fault::Protocol("no stream")),
        }
    }
}

impl<O: Body> Answers<O> {
    /// The next answer; `None` at the regular end.
    ///
    /// # Errors
    /// What the node says, and the end of the connection: then ask again for the whole.
    pub async fn next(&mut self) -> Result<Option<O>, Fault> {
        match self.stream.next().await? {
            None => Ok(None),
            Some(answer) => {
                let operation = answer.headers.and_then(|headers| headers.operation);
                self.shared.result(operation, answer.body).map(Some)
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the index and gives the output, or why there is none.
    fn result<O>(
        &self,
        head: Option<OperationResponseHeaders>,
        body: Option<O>,
    ) -> Result<O, Fault> {
        let head = head.ok_or(Fault::Protocol("an answer without headers"))?;
        let partition = head.session.and_then(|s| s.session).and_then(|s| s.partition);
        self.seen(partition.map_or(0, |partition| partition.index));
        match Status::try_from(head.status) {
            Ok(Status::Ok) => body.ok_or(Fault::Protocol("a success without output")),
            Ok(status) => Err(Fault::Refused { status, message: head.message }),
            Err(_) => Err(Fault::Protocol("a status of another dialect")),
        }
    }

    fn seen(&self, index: u64) {
        let mut state = self.state();
        state.index = state.index.max(index);
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

    async fn until_lost(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.lost.subscribe().wait_for(|lost| *lost).await;
    }
}

impl Begun {
    fn new(shared: &Arc<Shared>) -> Begun {
        let mut state = shared.state();
        state.begun += 1;
        let number = state.begun;
        state.open.insert(number, Outputs::default());
        drop(state);
        Begun { shared: Arc::clone(shared), number }
    }

    fn received(&self, last: u64) {
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

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells the node every quarter of the timeout that the session lives, until it does not.
async fn keep_alive(shared: Arc<Shared>, opened: Instant) {
    let period = shared.timeout / 4;
    // The node counts from when it applied the last one, which is after it was sent.
    let mut heard = opened;
    let mut wait = period;
    loop {
        sleep(wait).await;
        let sent = Instant::now();
        let (request, received) = shared.keep_alive_request();
        let call = shared.channel.unary(&KEEP_ALIVE, &request);
        let outcome: Result<Result<KeepAliveResponse, Fault>, _> = timeout(period, call).await;
        wait = period / 4;
        match outcome {
            Ok(Ok(reply)) => {
                heard = sent;
                wait = period;
                shared.seen(reply.headers.map_or(0, |headers| headers.index));
                shared.acknowledged(&received);
            }
            Ok(Err(fault)) if fault.is_unknown_session() => break,
            Ok(Err(_)) | Err(_) if heard.elapsed() >= shared.timeout => break,
            Ok(Err(_)) | Err(_) => {}
        }
    }
    shared.lost.send_replace(true);
}

/// Asks until there is an answer that stays, or patience ends.
pub(super) async fn insist<T, F: Future<Output = Result<T, Fault>>>(
    patience: Patience,
    salt: u64,
    mut ask: impl FnMut() -> F,
) -> Result<T, Fault> {
    let deadline = match patience {
        Patience::For(span) => Some(Instant::now() + span),
        Patience::Endless => None,
    };
    for tries in 0.. {
        let outcome = match deadline {
            Some(deadline) => timeout_at(deadline, ask()).await.unwrap_or(Err(Fault::Timeout)),
            None => ask().await,
        };
        let rest = pause(tries, salt);
        let too_late = deadline.is_some_and(|deadline| Instant::now() + rest >= deadline);
        match outcome {
            Err(fault) if fault.is_passing() && !too_late => sleep(rest).await,
            settled => return settled,
        }
    }
    Err(Fault::Timeout)
}

/// How long to wait after so many tries: 20 ms, half as much again each time, at most a second,
/// less up to a half so that many clients do not come back at once.
fn pause(tries: u32, salt: u64) -> Duration {
    let full = (20.0 * 1.5f64.powi(tries.min(16) as i32)).min(1_000.0);
    let share = (mix(salt ^ u64::from(tries) << 32) % 512) as f64 / 1_024.0;
    Duration::from_micros((full * (1.0 - share) * 1_000.0) as u64)
}

const OPEN_SESSION: Method<OpenSessionRequest, OpenSessionResponse> =
    Method::at("/atomix.multiraft.v1.Partition/OpenSession");
const KEEP_ALIVE: Method<KeepAliveRequest, KeepAliveResponse> =
    Method::at("/atomix.multiraft.v1.Partition/KeepAlive");
const CLOSE_SESSION: Method<CloseSessionRequest, CloseSessionResponse> =
    Method::at("/atomix.multiraft.v1.Partition/CloseSession");
const CREATE_PRIMITIVE: Command<CreatePrimitiveInput, CreatePrimitiveOutput> =
    Method::at("/atomix.multiraft.v1.Session/CreatePrimitive");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        for tries in 0..40 {
            let span = pause(tries, 7);
            assert!(span >= Duration::from_millis(10), "try {tries}: {span:?}");
            assert!(span <= Duration::from_secs(1), "try {tries}: {span:?}");
        }
        assert!(pause(12, 7) > pause(0, 7));
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
