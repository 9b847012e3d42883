//! A server of unary calls for tests, on the product's server role of HTTP/2.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use ringraft::wire::http2::{Connection, Event, Limits, Route};

/// What answers a call: the place of its path, and its message.
type Answer = dyn Fn(u16, &[u8]) -> Vec<u8> + Send + Sync;

/// Serves `paths` on a port of its own until the process ends; where.
pub fn serve(
    paths: &'static [&'static str],
    answer: impl Fn(u16, &[u8]) -> Vec<u8> + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer: Arc<Answer> = Arc::new(answer);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || connection(socket, paths, &*answer));
        }
    });
    address
}

fn connection(mut socket: TcpStream, paths: &'static [&'static str], answer: &Answer) {
    let route = move |path: &[u8]| {
        let at = paths.iter().position(|known| known.as_bytes() == path)?;
        Some(Route { method: at as u16, single: true })
    };
    let mut http = Connection::new(route, Limits::default(), 1, 0);
    let (mut input, mut buffer) = (Vec::new(), [0; 65536]);
    loop {
        let output = http.output().to_vec();
        if socket.write_all(&output).is_err() {
            return;
        }
        http.wrote(output.len());
        let Ok(read @ 1..) = socket.read(&mut buffer) else { return };
        input.extend_from_slice(&buffer[..read]);
        let mut at = 0;
        while let Some(event) = http.poll(&input, &mut at) {
            if let Event::Message { key, meta, message, .. } = event {
                let octets = answer(meta.method, message.octets(&input));
                http.unary(key, &octets);
            }
        }
        input.drain(..at);
    }
}
