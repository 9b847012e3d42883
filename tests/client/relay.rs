//! A way to a node that can be made to fail: cut, or silent without being cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A port that leads to another.
pub struct Relay {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    sockets: Mutex<Vec<TcpStream>>,
    cut: AtomicBool,
    hangs: AtomicBool,
    connections: AtomicUsize,
}

impl Relay {
    pub fn to(target: &str) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::<Shared>::default();
        let (target, ours) = (target.to_owned(), Arc::clone(&shared));
        thread::spawn(move || {
            for client in listener.incoming() {
                if ours.cut.load(Ordering::SeqCst) {
                    return;
                }
                let (client, node) = (client.unwrap(), TcpStream::connect(&target).unwrap());
                ours.connections.fetch_add(1, Ordering::SeqCst);
                let pair = || (client.try_clone().unwrap(), node.try_clone().unwrap());
                let ((from, to), there) = (pair(), Arc::clone(&ours));
                thread::spawn(move || {
                    there.pass_on(from, to);
                    there.connections.fetch_sub(1, Ordering::SeqCst);
                });
                let ((to, from), back) = (pair(), Arc::clone(&ours));
                thread::spawn(move || back.pass_on(from, to));
                ours.sockets.lock().unwrap().extend([client, node]);
            }
        });
        Relay { address, shared }
    }

    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// How many connections there are that neither side has closed.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// From now on nobody is there.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        for socket in self.shared.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        // Wakes the listener, which then goes.
        drop(TcpStream::connect(&self.address));
    }

    /// From now on nothing comes through, and nobody is told.
    pub fn hang(&self) {
        self.shared.hangs.store(true, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Shared {
    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut octets = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut octets) {
            let hangs = self.hangs.load(Ordering::SeqCst);
            if !hangs && to.write_all(&octets[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
