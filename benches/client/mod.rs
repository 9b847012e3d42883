//! What benches of the core have asked: the bytes of a client's commands.

#![allow(dead_code, reason = "each bench that has this as a module uses its part of it")]

use ringraft::id::Kind;
use ringraft::wire::field::{put_bytes, put_message, put_uint};

/// Increments of one counter in one session: what a client's hot path is made of.
pub struct Client {
    session: u64,
    primitive: u64,
    sequence: u64,
}

impl Client {
    /// The commands that open the session and create the counter, in this order: indexes 1 and 2.
    pub fn opening() -> [Vec<u8>; 2] {
        Client::opening_of("atomix.runtime.counter.v1.Counter")
    }

    /// The same for a primitive of another service.
    pub fn opening_of(service: &str) -> [Vec<u8>; 2] {
        let open = vec![0x12, 0x00];
        let mut create = Vec::new();
        put_message(&mut create, 5, |proposal| {
            put_uint(proposal, 1, 1);
            put_uint(proposal, 2, 1);
            put_message(proposal, 4, |input| {
                put_message(input, 1, |spec| {
                    put_bytes(spec, 1, service.as_bytes());
                    put_bytes(spec, 3, b"c");
                });
            });
        });
        [open, create]
    }

    /// The next increment by one.
    pub fn increment(&mut self, into: &mut Vec<u8>) {
        self.command(into, Kind::Counter, |input| {
            input.extend_from_slice(&[0x0a, 0x02, 0x08, 0x01])
        });
    }

    /// The next command of a primitive of this kind, whose input `input` writes.
    pub fn command(&mut self, into: &mut Vec<u8>, kind: Kind, input: impl FnOnce(&mut Vec<u8>)) {
        self.sequence += 1;
        put_message(into, 5, |proposal| {
            put_uint(proposal, 1, self.session);
            put_uint(proposal, 2, self.sequence);
            put_message(proposal, 6, |command| {
                put_uint(command, 1, self.primitive);
                put_message(command, 2, input);
                put_uint(command, 100, kind as u64);
            });
        });
    }

    /// The client says that it has every answer so far, and that nothing is under way.
    pub fn keep_alive(&self, into: &mut Vec<u8>) {
        put_message(into, 3, |beat| {
            put_uint(beat, 1, self.session);
            put_bytes(beat, 2, NOTHING_OPEN);
            put_uint(beat, 3, self.sequence);
        });
    }
}

/// The filter of a keep-alive that has every answer: one hash, and no bit that is set.
pub const NOTHING_OPEN: &[u8] = br#"{"m":1,"k":9223372036854775808,"b":"AAAAAAAAAAA="}"#;

impl Default for Client {
    fn default() -> Client {
        Client { session: 1, primitive: 2, sequence: 1 }
    }
}
