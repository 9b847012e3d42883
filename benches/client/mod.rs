//! What the benches of turn and partition have asked: the bytes of a client's commands.

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
        let open = vec![0x12, 0x00];
        let mut create = Vec::new();
        put_message(&mut create, 5, |proposal| {
            put_uint(proposal, 1, 1);
            put_uint(proposal, 2, 1);
            put_message(proposal, 4, |input| {
                put_message(input, 1, |spec| {
                    put_bytes(spec, 1, b"atomix.runtime.counter.v1.Counter");
                    put_bytes(spec, 3, b"c");
                });
            });
        });
        [open, create]
    }

    /// The next increment by one.
    pub fn increment(&mut self, into: &mut Vec<u8>) {
        self.sequence += 1;
        put_message(into, 5, |proposal| {
            put_uint(proposal, 1, self.session);
            put_uint(proposal, 2, self.sequence);
            put_message(proposal, 6, |command| {
                put_uint(command, 1, self.primitive);
                put_bytes(command, 2, &[0x0a, 0x02, 0x08, 0x01]);
                put_uint(command, 100, Kind::Counter as u64);
            });
        });
    }
}

impl Default for Client {
    fn default() -> Client {
        Client { session: 1, primitive: 2, sequence: 1 }
    }
}
