//! The echo on the h2 crate over tokio: what an ordinary server of gRPC costs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::core::run_on;
use super::{Ready, answer, this_task};

/// Serves on this thread until it is over.
pub fn serve(core: usize, ready: &Ready, over: &Arc<AtomicBool>) {
    let runtime = run_on(core)
        .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    LocalSet::new().block_on(&runtime, async {
        let bound: io::Result<(TcpListener, SocketAddr)> = async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        }
        .await;
        let listener = match bound {
            Ok((listener, address)) => {
                drop(ready.send(Ok((address, this_task()))));
                listener
            }
            Err(error) => return drop(ready.send(Err(error))),
        };
        while !over.load(Ordering::Relaxed) {
            let accepted = tokio::time::timeout(Duration::from_millis(20), listener.accept()).await;
            if let Ok(Ok((socket, _))) = accepted {
                tokio::task::spawn_local(connection(socket));
            }
        }
    });
}

async fn connection(socket: TcpStream) {
    drop(socket.set_nodelay(true));
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(4096).initial_connection_window_size(16 << 20);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(socket).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::task::spawn_local(call(request, respond));
    }
}

/// One call: its message is read, its answer, a message and trailers, is sent.
async fn call(request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) {
    let message = answer(request.uri().path()).unwrap_or_default();
    let mut body = request.into_body();
    while let Some(Ok(octets)) = body.data().await {
        drop(body.flow_control().release_capacity(octets.len()));
    }
    let mut data = BytesMut::with_capacity(5 + message.len());
    data.put_u8(0);
    data.put_u32(message.len() as u32);
    data.put_slice(message);
    let mut response = Response::new(());
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
    let Ok(mut stream) = respond.send_response(response, false) else { return };
    drop(stream.send_data(data.freeze(), false));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    drop(stream.send_trailers(trailers));
}
