//! The echo on the frontend's own path: glommio's sockets and `wire::http2`, one task a connection.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_lite::AsyncWriteExt;
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};

use super::super::atomix;
use super::{Ready, answer, this_task};
use crate::limits::READ_BUFFER_BYTES;
use crate::wire::http2::{Connection, Event, Limits, Route};

/// Serves on this thread until it is over.
pub fn serve(core: usize, ready: &Ready, over: &Arc<AtomicBool>) {
    let executor = match LocalExecutorBuilder::new(Placement::Fixed(core)).make() {
        Ok(executor) => executor,
        Err(error) => return drop(ready.send(Err(io::Error::other(error.to_string())))),
    };
    executor.run(async {
        let listener = match TcpListener::bind("127.0.0.1:0") {
            Ok(listener) => listener,
            Err(error) => return drop(ready.send(Err(io::Error::other(error.to_string())))),
        };
        let address = listener.local_addr().map_err(|error| io::Error::other(error.to_string()));
        drop(ready.send(address.map(|address| (address, this_task()))));
        let accept = async {
            while let Ok(socket) = listener.accept().await {
                glommio::spawn_local(echo(socket)).detach();
            }
        };
        let end = async {
            while !over.load(Ordering::Relaxed) {
                glommio::timer::sleep(Duration::from_millis(20)).await;
            }
        };
        futures_lite::future::or(accept, end).await;
    });
}

thread_local! {
    /// One read buffer a core, as a node's.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

type Http = Connection<fn(&[u8]) -> Option<Route>>;

fn route(path: &[u8]) -> Option<Route> {
    let at = atomix::PATHS.iter().position(|known| known.as_bytes() == path)?;
    Some(Route { method: at as u16, single: true })
}

async fn echo(mut socket: TcpStream) {
    drop(socket.set_nodelay(true));
    let limits = Limits { idle_ms: 0, keepalive_ms: 0, ..Limits::default() };
    let http: Http = Connection::new(route, limits, 1, 0);
    let http = Rc::new(RefCell::new(http));
    let (mut tail, mut out) = (Vec::new(), Vec::new());
    loop {
        http.borrow_mut().take_output(&mut out);
        if !out.is_empty() && socket.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
        let read = std::future::poll_fn(|context| {
            BUFFER.with_borrow_mut(|buffer| {
                buffer.resize(READ_BUFFER_BYTES, 0);
                buffer[..tail.len()].copy_from_slice(&tail);
                let into = &mut buffer[tail.len()..];
                let read = std::pin::Pin::new(&mut socket);
                let read = futures_lite::AsyncRead::poll_read(read, context, into);
                read.map_ok(|octets| {
                    let input = &buffer[..tail.len() + octets];
                    let used = answers(&mut http.borrow_mut(), input);
                    tail.clear();
                    tail.extend_from_slice(&input[used..]);
                    octets
                })
            })
        });
        if !matches!(read.await, Ok(1..)) {
            return;
        }
    }
}

fn answers(http: &mut Http, input: &[u8]) -> usize {
    let mut at = 0;
    while let Some(event) = http.poll(input, &mut at) {
        if let Event::Message { key, meta, .. } = event {
            let octets = answer(atomix::PATHS[usize::from(meta.method)]).unwrap_or_default();
            http.unary(key, octets);
        }
    }
    at
}
