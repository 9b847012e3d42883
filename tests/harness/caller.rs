//! tonic with our messages: calls by path, and a session whose headers are filled in.

use std::time::Duration;

use prost::Message;
use ringraft::client::session::{Body, Envelope};
use ringraft::wire::proto::v1::*;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

pub use operation_response_headers::Status as Said;

/// A command's request and answer.
pub type Order<I> = Envelope<CommandRequestHeaders, I>;
pub type Result_<O> = Envelope<CommandResponseHeaders, O>;
/// A query's request and answer.
pub type Question<I> = Envelope<QueryRequestHeaders, I>;
pub type Answer<O> = Envelope<QueryResponseHeaders, O>;

/// Longer than anything here takes, shorter than anybody waits.
pub const SOON: Duration = Duration::from_secs(15);

#[derive(Clone)]
pub struct Caller {
    channel: Channel,
}

impl Caller {
    pub async fn to(api: &str) -> Caller {
        let endpoint = Endpoint::from_shared(format!("http://{api}")).unwrap();
        let channel = endpoint.connect_timeout(SOON).connect().await.expect("a connection");
        Caller { channel }
    }

    pub async fn unary<I: Message + 'static, O: Message + Default + 'static>(
        &self,
        path: &'static str,
        message: I,
    ) -> Result<Response<O>, Status> {
        self.request(path, Request::new(message)).await
    }

    pub async fn request<I: Message + 'static, O: Message + Default + 'static>(
        &self,
        path: &'static str,
        request: Request<I>,
    ) -> Result<Response<O>, Status> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.expect("a connection that is ready");
        let codec: ProstCodec<I, O> = ProstCodec::default();
        let call = grpc.unary(request, PathAndQuery::from_static(path), codec);
        tokio::time::timeout(SOON, call).await.unwrap_or_else(|_| panic!("{path}: no answer"))
    }

    /// Opens a stream. A node may say nothing before the first message, not even that the call was
    /// taken, so a task of its own waits for that.
    pub fn stream<I: Message + 'static, O: Message + Default + 'static>(
        &self,
        path: &'static str,
        message: I,
    ) -> Heard<O> {
        let (sender, messages) = mpsc::channel(1_024);
        let channel = self.channel.clone();
        let task = tokio::spawn(async move {
            let mut grpc = Grpc::new(channel);
            grpc.ready().await.expect("a connection that is ready");
            let codec: ProstCodec<I, O> = ProstCodec::default();
            let path = PathAndQuery::from_static(path);
            let mut stream = match grpc.server_streaming(Request::new(message), path, codec).await {
                Ok(answer) => answer.into_inner(),
                Err(status) => return drop(sender.send(Err(status)).await),
            };
            while let Some(message) = stream.message().await.transpose() {
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        });
        Heard { messages, task: task.abort_handle() }
    }

    /// Opens a stream in both directions.
    pub fn chat<I: Message + 'static, O: Message + Default + 'static>(
        &self,
        path: &'static str,
    ) -> Chat<I, O> {
        let (say, said) = mpsc::channel(1_024);
        let (sender, messages) = mpsc::channel(1_024);
        let channel = self.channel.clone();
        let task = tokio::spawn(async move {
            let mut grpc = Grpc::new(channel);
            grpc.ready().await.expect("a connection that is ready");
            let codec: ProstCodec<I, O> = ProstCodec::default();
            let path = PathAndQuery::from_static(path);
            let said = Request::new(ReceiverStream::new(said));
            let mut stream = match grpc.streaming(said, path, codec).await {
                Ok(answer) => answer.into_inner(),
                Err(status) => return drop(sender.send(Err(status)).await),
            };
            while let Some(message) = stream.message().await.transpose() {
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        });
        Chat { say: Some(say), heard: Heard { messages, task: task.abort_handle() } }
    }

    /// Asks again while the node says UNAVAILABLE, as a client does while a partition has no leader
    /// yet.
    pub async fn open(&self, partition: u32, timeout: Duration) -> Session {
        let input = OpenSessionInput { timeout: Some(span(timeout)) };
        let headers = Some(PartitionRequestHeaders { partition_id: partition });
        let request = OpenSessionRequest { headers, input: Some(input) };
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let path = "/atomix.multiraft.v1.Partition/OpenSession";
            match self.unary::<_, OpenSessionResponse>(path, request).await {
                Ok(response) => {
                    let id = response.into_inner().output.expect("an output").session_id;
                    let caller = self.clone();
                    return Session { caller, partition, id, sequence: 0, index: id };
                }
                Err(status) if status.code() == Code::Unavailable => {
                    assert!(tokio::time::Instant::now() < deadline, "no leader: {status}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(status) => panic!("no session: {status}"),
            }
        }
    }
}

/// A session as its client keeps it.
#[derive(Clone)]
pub struct Session {
    pub caller: Caller,
    pub partition: u32,
    pub id: u64,
    pub sequence: u64,
    pub index: u64,
}

impl Session {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    pub fn operation(&self, primitive_id: u64) -> OperationRequestHeaders {
        let partition = Some(PartitionRequestHeaders { partition_id: self.partition });
        let session = Some(SessionRequestHeaders { partition, session_id: self.id });
        OperationRequestHeaders { session: Some(PrimitiveRequestHeaders { session, primitive_id }) }
    }

    pub fn order<I: Body>(&self, primitive: u64, number: u64, input: I) -> Order<I> {
        let operation = Some(self.operation(primitive));
        Envelope {
            headers: Some(CommandRequestHeaders { operation, sequence_num: number }),
            body: Some(input),
        }
    }

    pub fn question<I: Body>(&self, primitive: u64, input: I) -> Question<I> {
        let operation = Some(self.operation(primitive));
        let headers = QueryRequestHeaders { operation, max_received_index: self.index };
        Envelope { headers: Some(headers), body: Some(input) }
    }

    pub async fn create(&mut self, service: &str, name: &str) -> u64 {
        let spec = PrimitiveSpec {
            service: service.to_owned(),
            namespace: String::new(),
            name: name.to_owned(),
        };
        let input = CreatePrimitiveInput { spec: Some(spec) };
        let path = "/atomix.multiraft.v1.Session/CreatePrimitive";
        let output: CreatePrimitiveOutput =
            self.command(0, path, input).await.expect("a primitive");
        output.primitive_id
    }

    /// A command with the next number: its output, or what its header says.
    pub async fn command<I: Body + 'static, O: Body + 'static>(
        &mut self,
        primitive: u64,
        path: &'static str,
        input: I,
    ) -> Result<O, (Said, String)> {
        let number = self.next();
        self.numbered(primitive, number, path, input).await.expect("no gRPC error")
    }

    /// A command with a number of the test's choice.
    pub async fn numbered<I: Body + 'static, O: Body + 'static>(
        &mut self,
        primitive: u64,
        number: u64,
        path: &'static str,
        input: I,
    ) -> Result<Result<O, (Said, String)>, Status> {
        let order = self.order(primitive, number, input);
        let answer: Result_<O> = self.caller.unary(path, order).await?.into_inner();
        let head = answer.headers.and_then(|head| head.operation).expect("headers");
        self.saw(&head);
        Ok(outcome(head, answer.body))
    }

    /// A command with the same number until it has its answer, as clients do it.
    pub async fn insist<I: Body + Clone + 'static, O: Body + 'static>(
        &mut self,
        primitive: u64,
        path: &'static str,
        input: I,
    ) -> O {
        let (number, until) = (self.next(), tokio::time::Instant::now() + SOON);
        loop {
            match self.numbered(primitive, number, path, input.clone()).await {
                Ok(output) => return output.expect("it went well"),
                Err(status) if status.code() == Code::Unavailable => {
                    assert!(tokio::time::Instant::now() < until, "{path}: {status}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(status) => panic!("{path}: {status}"),
            }
        }
    }

    pub async fn query<I: Body + 'static, O: Body + 'static>(
        &mut self,
        primitive: u64,
        path: &'static str,
        input: I,
    ) -> Result<O, (Said, String)> {
        let question = self.question(primitive, input);
        let answer = self.caller.unary(path, question).await.expect("no gRPC error");
        let answer: Answer<O> = answer.into_inner();
        let head = answer.headers.and_then(|head| head.operation).expect("headers");
        self.saw(&head);
        outcome(head, answer.body)
    }

    /// Tells the node that numbers up to the last are finished but for `open`, whose outputs
    /// arrived up to the number beside them.
    pub async fn keep_alive(&self, open: &[(u64, u64)]) -> Result<(), Status> {
        let numbers: Vec<u64> = open.iter().map(|(number, _)| *number).collect();
        let filter = ringraft::wire::bloom::Filter::of(&numbers).to_json();
        self.keep_alive_with(filter, open).await
    }

    pub async fn keep_alive_with(
        &self,
        filter: Vec<u8>,
        open: &[(u64, u64)],
    ) -> Result<(), Status> {
        let input = KeepAliveInput {
            session_id: self.id,
            input_filter: filter.into(),
            last_input_sequence_num: self.sequence,
            last_output_sequence_nums: open.iter().copied().filter(|(_, last)| *last > 0).collect(),
        };
        let headers = Some(PartitionRequestHeaders { partition_id: self.partition });
        let request = KeepAliveRequest { headers, input: Some(input) };
        let path = "/atomix.multiraft.v1.Partition/KeepAlive";
        let response: KeepAliveResponse = self.caller.unary(path, request).await?.into_inner();
        assert!(response.headers.is_some() && response.output.is_some(), "both parts, always");
        Ok(())
    }

    pub async fn close(&self) -> Result<(), Status> {
        let headers = Some(PartitionRequestHeaders { partition_id: self.partition });
        let input = Some(CloseSessionInput { session_id: self.id });
        let path = "/atomix.multiraft.v1.Partition/CloseSession";
        let request = CloseSessionRequest { headers, input };
        let response: CloseSessionResponse = self.caller.unary(path, request).await?.into_inner();
        assert!(response.headers.is_some() && response.output.is_some(), "both parts, always");
        Ok(())
    }

    fn saw(&mut self, head: &OperationResponseHeaders) {
        let partition = head.session.as_ref().and_then(|s| s.session.as_ref());
        let partition = partition.and_then(|s| s.partition.as_ref()).expect("an index");
        assert!(partition.index > 0, "an index is never zero");
        self.index = self.index.max(partition.index);
    }
}

pub fn outcome<O>(head: OperationResponseHeaders, body: Option<O>) -> Result<O, (Said, String)> {
    match head.status() {
        Said::Ok => Ok(body.expect("a success has an output")),
        said => {
            assert!(body.is_none(), "a failure has no output");
            Err((said, head.message))
        }
    }
}

/// What a stream says; dropping it hangs up.
pub struct Heard<O> {
    messages: mpsc::Receiver<Result<O, Status>>,
    task: AbortHandle,
}

impl<O> Drop for Heard<O> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A stream in both directions.
pub struct Chat<I, O> {
    say: Option<mpsc::Sender<I>>,
    /// What the node says.
    pub heard: Heard<O>,
}

impl<I, O> Chat<I, O> {
    pub async fn say(&mut self, message: I) {
        let say = self.say.as_ref().expect("more to say");
        say.send(message).await.unwrap_or_else(|_| panic!("nobody listens"));
    }

    /// Nothing more is said.
    pub fn said_all(&mut self) {
        self.say = None;
    }
}

/// The next message of a stream.
pub async fn next<O>(stream: &mut Heard<O>) -> Result<Option<O>, Status> {
    tokio::time::timeout(SOON, stream.messages.recv()).await.expect("a message in time").transpose()
}

pub fn span(time: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: time.as_secs() as i64, nanos: time.subsec_nanos() as i32 }
}
