//! A node that says what a test wants it to say: what no healthy node does, and what a client says
//! when nobody but the node hears it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use ringraft::client::session::{Body, Envelope};
use ringraft::wire::proto::v1::*;
use tokio::net::TcpListener;

/// What a call is answered with: messages and then an end, or messages and silence.
pub struct Answer {
    pub messages: Vec<Bytes>,
    /// gRPC's status; `None`: the stream stays open.
    pub end: Option<u32>,
}

/// What a call asks, by the last part of its path.
pub type Asked = (String, Bytes);

/// What was asked, in order.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Asked>>>);

impl Log {
    /// What was asked of `method`.
    pub fn of<M: Body>(&self, method: &str) -> Vec<M> {
        let asked = self.0.lock().unwrap();
        let asked = asked.iter().filter(|(path, _)| path == method);
        asked.map(|(_, message)| M::decode(message.clone()).unwrap()).collect()
    }

    fn add(&self, asked: &Asked) {
        self.0.lock().unwrap().push(asked.clone());
    }
}

/// A node with partition 1 on a thread of its own: sessions and primitives as usual, and for the
/// rest what `script` says of a method and how often it was asked before. Gives its address.
pub fn node(script: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> (String, Log) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let log = Log::default();
    let (script, ours) = (Arc::new(script), log.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let counts = Arc::<Mutex<BTreeMap<String, usize>>>::default();
            while let Ok((socket, _)) = listener.accept().await {
                let (script, log, counts) = (script.clone(), ours.clone(), counts.clone());
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(socket).await.unwrap();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let (script, log, counts) = (script.clone(), log.clone(), counts.clone());
                        tokio::spawn(async move {
                            let asked = read(request).await;
                            log.add(&asked);
                            let before = {
                                let mut counts = counts.lock().unwrap();
                                let count = counts.entry(asked.0.clone()).or_default();
                                *count += 1;
                                *count - 1
                            };
                            let answer = usual(&asked).unwrap_or_else(|| script(&asked.0, before));
                            write(respond, answer).await;
                        });
                    }
                });
            }
        });
    });
    (address, log)
}

/// A success with this output, number `number` of its command.
pub fn output<O: Body>(number: u64, body: O) -> Bytes {
    let operation = OperationResponseHeaders {
        session: Some(PrimitiveResponseHeaders {
            session: Some(SessionResponseHeaders {
                partition: Some(PartitionResponseHeaders { index: 10 + number }),
            }),
        }),
        status: operation_response_headers::Status::Ok.into(),
        message: String::new(),
    };
    let head = CommandResponseHeaders { operation: Some(operation), output_sequence_num: number };
    Envelope { headers: Some(head), body: Some(body) }.encode_to_vec().into()
}

fn usual((method, _): &Asked) -> Option<Answer> {
    let headers = Some(PartitionResponseHeaders { index: 1 });
    let message = match method.as_str() {
        "OpenSession" => {
            let output = Some(OpenSessionOutput { session_id: 1 });
            OpenSessionResponse { headers, output }.encode_to_vec()
        }
        "KeepAlive" => {
            KeepAliveResponse { headers, output: Some(KeepAliveOutput {}) }.encode_to_vec()
        }
        "CloseSession" => {
            CloseSessionResponse { headers, output: Some(CloseSessionOutput {}) }.encode_to_vec()
        }
        "CreatePrimitive" => output(0, CreatePrimitiveOutput { primitive_id: 2 }).to_vec(),
        _ => return None,
    };
    Some(Answer { messages: vec![message.into()], end: Some(0) })
}

async fn read(request: http::Request<h2::RecvStream>) -> Asked {
    let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
    let mut body = request.into_body();
    let mut octets = BytesMut::new();
    while let Some(Ok(data)) = body.data().await {
        octets.extend_from_slice(&data);
    }
    octets.advance(5);
    (method, octets.freeze())
}

async fn write(mut respond: h2::server::SendResponse<Bytes>, answer: Answer) {
    let head = http::Response::builder().header("content-type", "application/grpc").body(());
    // The client may have gone.
    let Ok(mut body) = respond.send_response(head.unwrap(), false) else { return };
    for message in answer.messages {
        let mut octets = BytesMut::new();
        octets.put_u8(0);
        octets.put_u32(message.len() as u32);
        octets.extend_from_slice(&message);
        if body.send_data(octets.freeze(), false).is_err() {
            return;
        }
    }
    match answer.end {
        Some(status) => {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", status.to_string().parse().unwrap());
            let _ = body.send_trailers(trailers);
        }
        None => {
            let _ = std::future::poll_fn(|context| body.poll_reset(context)).await;
        }
    }
}
