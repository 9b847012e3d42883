//! A way between two nodes that a test can close: for good, in one direction, or after so much.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// Connections to its address reach `to`, as long as they may.
pub struct Proxy {
    pub address: String,
    inner: Arc<Inner>,
}

struct Inner {
    to: Mutex<String>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What the dialling side says goes nowhere, and it is not told.
    hole: bool,
    /// Connections are broken, old and new ones.
    cut: bool,
    /// A connection that carried so much is broken, once.
    cut_at: Option<usize>,
    /// How often that happened.
    cuts: usize,
    sockets: Vec<TcpStream>,
}

impl Proxy {
    pub fn to(address: &str) -> Proxy {
        // A host of its own: nodes guess each other's API addresses from hosts.
        let listener = TcpListener::bind("127.0.2.1:0").unwrap();
        let (to, state) = (Mutex::new(address.to_owned()), Mutex::default());
        let inner = Arc::new(Inner { to, state, changed: Condvar::new() });
        let address = listener.local_addr().unwrap().to_string();
        let accepting = inner.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let inner = accepting.clone();
                std::thread::spawn(move || inner.join(socket));
            }
        });
        Proxy { address, inner }
    }

    pub fn hole(&self, hole: bool) {
        self.inner.state.lock().unwrap().hole = hole;
        self.inner.changed.notify_all();
    }

    pub fn cut_at(&self, bytes: usize) {
        self.inner.state.lock().unwrap().cut_at = Some(bytes);
    }

    pub fn cuts(&self) -> usize {
        self.inner.state.lock().unwrap().cuts
    }
}

impl Inner {
    fn join(self: Arc<Self>, near: TcpStream) {
        if self.state.lock().unwrap().cut {
            return;
        }
        let to = self.to.lock().unwrap().clone();
        let Ok(far) = TcpStream::connect(to) else { return };
        {
            let mut state = self.state.lock().unwrap();
            state.sockets.extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
        }
        let (back_from, back_to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
        std::thread::spawn(move || copy(back_from, back_to, |_| true));
        let mut carried = 0;
        copy(near, far, |bytes| {
            let mut state = self.state.lock().unwrap();
            while state.hole {
                state = self.changed.wait(state).unwrap();
            }
            carried += bytes;
            let full = state.cut_at.is_some_and(|most| carried > most);
            if full {
                state.cut_at = None;
                state.cuts += 1;
            }
            !full
        });
    }
}

/// Copies until either end is closed or `may` says no; then both are.
fn copy(mut from: TcpStream, mut to: TcpStream, mut may: impl FnMut(usize) -> bool) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(octets) = from.read(&mut piece) {
        if octets == 0 || !may(octets) || to.write_all(&piece[..octets]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
