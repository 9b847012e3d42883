//! The bytes of one log entry: a stamp and client commands, borrowed on decode.
//!
//! ```text
//! entry   = message*          each: varint length, StateMachineProposalInput (wire.md)
//! first   = timestamp, and the first command unless the entry is a tick
//! others  = a command without timestamp: it shares the first one's
//! ```
//!
//! A command's bytes are made once at the edge and appended here as they are; only the leader knows
//! the log's time, so a command's deadline is added here too. A first message with nothing but a
//! timestamp is a tick: it makes timers fire and is no command. Every other message
//! counts as one command, also one that cannot be understood, so that the callers of an entry can
//! be told apart by counting. Raft's own no-op has no bytes at all. Absent on purpose: what
//! commands mean.

use bytes::{BufMut, Bytes, BytesMut};

use crate::time::LogTime;
use crate::wire::field::{
    Broken, Fields, put_head, put_timestamp, take_delimited, timestamp, varint_bytes,
};

/// Gathers the commands of one turn for one partition into one entry. Used again after `finish`.
#[derive(Default, Debug)]
pub struct EntryBuilder {
    buffer: BytesMut,
    /// How long the last entry was: the next one gets as much room at once.
    last_bytes: usize,
    stamp: Option<LogTime>,
    commands: usize,
    /// What a deadline adds to a command, on its way into the buffer.
    scratch: Vec<u8>,
}

impl EntryBuilder {
    /// An empty entry.
    #[must_use]
    pub fn new() -> EntryBuilder {
        EntryBuilder::default()
    }

    /// Sets the stamp of the entry, before the first command; a later call changes nothing once a
    /// command is in.
    pub fn stamp(&mut self, at: LogTime) {
        if self.commands == 0 {
            self.stamp = Some(at);
        }
    }

    /// Adds a command: a `StateMachineProposalInput` without its timestamp, not empty.
    pub fn push(&mut self, body: &[u8]) {
        assert!(!body.is_empty(), "a command without bytes would be taken for a tick");
        self.command([body, &[], &[]]);
    }

    /// Adds a command that ends by `deadline` if it is pending then: its `SessionProposalInput`
    /// gets field 3, behind the others, so that none of them is decoded. Any other command is
    /// never pending and is added as it is.
    pub fn push_until(&mut self, body: &[u8], deadline: LogTime) {
        let Some((&PROPOSAL_KEY, mut rest)) = body.split_first() else { return self.push(body) };
        let proposal = match take_delimited(&mut rest) {
            Ok(proposal) if rest.is_empty() => proposal,
            _ => return self.push(body),
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        put_timestamp(&mut scratch, DEADLINE, deadline);
        let head = scratch.len();
        put_head(&mut scratch, PROPOSAL, proposal.len() + head);
        self.command([&scratch[head..], proposal, &scratch[..head]]);
        self.scratch = scratch;
    }

    /// The bytes of the entry; those of a tick when no command was added. Empties the builder.
    pub fn finish(&mut self) -> Bytes {
        if self.commands == 0 {
            let stamp = self.stamp.expect("a tick has a stamp");
            self.message(Some(stamp), [&[]; 3]);
        }
        self.stamp = None;
        self.commands = 0;
        self.last_bytes = self.buffer.len();
        self.buffer.split().freeze()
    }

    /// How many commands are in it.
    #[must_use]
    pub fn commands(&self) -> usize {
        self.commands
    }

    /// How many bytes it has so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    fn command(&mut self, body: [&[u8]; 3]) {
        let stamp = if self.commands == 0 {
            Some(self.stamp.expect("an entry is stamped before its first command"))
        } else {
            None
        };
        self.message(stamp, body);
        self.commands += 1;
    }

    fn message(&mut self, stamp: Option<LogTime>, body: [&[u8]; 3]) {
        let stamp_bytes = stamp.map_or(0, |at| 2 + timestamp_bytes(at));
        let body_bytes: usize = body.iter().map(|part| part.len()).sum();
        let bytes = varint_bytes((stamp_bytes + body_bytes) as u64) + stamp_bytes + body_bytes;
        if self.buffer.capacity() - self.buffer.len() < bytes {
            // Small entries that follow each other share an allocation: they live as long.
            let shared = (SHARED_ENTRIES * self.last_bytes).min(SHARED_BYTES_MAX);
            let alike = (self.last_bytes + self.last_bytes / 8).min(ALIKE_BYTES_MAX);
            self.buffer.reserve(bytes.max(alike).max(shared));
        }
        self.varint((stamp_bytes + body_bytes) as u64);
        if let Some(at) = stamp {
            self.buffer.put_u8(TIMESTAMP_KEY);
            self.varint(timestamp_bytes(at) as u64);
            self.uint(1, at.0 / NANOS);
            self.uint(2, at.0 % NANOS);
        }
        for part in body {
            self.buffer.extend_from_slice(part);
        }
    }

    fn uint(&mut self, number: u8, value: u64) {
        if value != 0 {
            self.buffer.put_u8(number << 3);
            self.varint(value);
        }
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.buffer.put_u8(number as u8 | 0x80);
            number >>= 7;
        }
        self.buffer.put_u8(number as u8);
    }
}

/// Small entries that share an allocation, and its size at most: what a quiet partition holds for
/// nothing.
const SHARED_ENTRIES: usize = 8;
const SHARED_BYTES_MAX: usize = 2048;

/// Room that is made for an entry because the last one took it, at most: that of one command of
/// many bytes is not held for the small ones behind it.
const ALIKE_BYTES_MAX: usize = 64 << 10;

/// The key byte of field 1, length-delimited.
const TIMESTAMP_KEY: u8 = 1 << 3 | 2;
const NANOS: u64 = 1_000_000_000;

/// `StateMachineProposalInput.proposal`, and its key byte; `SessionProposalInput.deadline`.
const PROPOSAL: u32 = 5;
const PROPOSAL_KEY: u8 = (PROPOSAL as u8) << 3 | 2;
const DEADLINE: u32 = 3;

/// What a deadline adds to a command: key and length, two numbers below 2^35 with their keys, and
/// an octet by which the command's own length may grow.
pub const DEADLINE_BYTES_MAX: usize = 2 + 2 * (1 + 5) + 1;

/// The length of a `Timestamp` message. At most 17: its own length takes one byte.
fn timestamp_bytes(at: LogTime) -> usize {
    [at.0 / NANOS, at.0 % NANOS].into_iter().filter(|n| *n != 0).map(|n| 1 + varint_bytes(n)).sum()
}

/// One message of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command<'a> {
    /// The stamp it carries, as a rule only the first of an entry.
    pub stamp: Option<LogTime>,
    /// What it asks.
    pub input: Input<'a>,
}

/// What a message of an entry asks; the bytes are those of the member of the oneof.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input<'a> {
    /// Nothing: only time passes. Not a command.
    Tick,
    /// `OpenSessionInput`
    OpenSession(&'a [u8]),
    /// `KeepAliveInput`
    KeepAlive(&'a [u8]),
    /// `CloseSessionInput`
    CloseSession(&'a [u8]),
    /// `SessionProposalInput`
    Proposal(&'a [u8]),
    /// It cannot be understood. Counts as a command and changes nothing.
    Malformed,
}

/// The messages of an entry, in order. Ends early where the framing is broken, which `broken` then
/// says.
#[must_use]
pub fn commands(data: &[u8]) -> Commands<'_> {
    Commands { rest: data, first: true, broken: false }
}

/// See [`commands`].
#[derive(Clone, Debug)]
pub struct Commands<'a> {
    rest: &'a [u8],
    first: bool,
    broken: bool,
}

impl Commands<'_> {
    /// Whether the entry's framing was broken, so that messages may be missing.
    #[must_use]
    pub fn broken(&self) -> bool {
        self.broken
    }
}

impl<'a> Iterator for Commands<'a> {
    type Item = Command<'a>;

    fn next(&mut self) -> Option<Command<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let Ok(message) = take_delimited(&mut self.rest) else {
            self.rest = &[];
            self.broken = true;
            return None;
        };
        let mut command =
            parse(message).unwrap_or(Command { stamp: None, input: Input::Malformed });
        if command.input == Input::Tick && !(self.first && command.stamp.is_some()) {
            command.input = Input::Malformed;
        }
        self.first = false;
        Some(command)
    }
}

fn parse(message: &[u8]) -> Result<Command<'_>, Broken> {
    let mut command = Command { stamp: None, input: Input::Tick };
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.field()? {
        match number {
            1 => command.stamp = Some(timestamp(value.bytes()?)?),
            2 => command.input = Input::OpenSession(value.bytes()?),
            3 => command.input = Input::KeepAlive(value.bytes()?),
            4 => command.input = Input::CloseSession(value.bytes()?),
            5 => command.input = Input::Proposal(value.bytes()?),
            _ => {}
        }
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::Timestamp;

    use super::*;
    use crate::prng::Prng;
    use crate::wire::proto::v1::{
        CloseSessionInput, KeepAliveInput, OpenSessionInput, SessionProposalInput,
        StateMachineProposalInput, state_machine_proposal_input::Input as Member,
    };

    fn body(member: Member) -> Vec<u8> {
        StateMachineProposalInput { timestamp: None, input: Some(member) }.encode_to_vec()
    }

    #[test]
    fn an_entry_is_a_run_of_documented_messages() {
        let mut builder = EntryBuilder::new();
        builder.stamp(LogTime(1_700_000_000_000_000_005));
        builder.push(&body(Member::OpenSession(OpenSessionInput { timeout: None })));
        builder.push(&body(Member::CloseSession(CloseSessionInput { session_id: 300 })));
        assert_eq!(builder.commands(), 2);
        let data = builder.finish();

        let mut rest = data.clone();
        let first = StateMachineProposalInput::decode_length_delimited(&mut rest).expect("sound");
        let second = StateMachineProposalInput::decode_length_delimited(&mut rest).expect("sound");
        assert!(rest.is_empty());
        let stamp = first.timestamp.expect("the first carries the stamp");
        assert_eq!((stamp.seconds, stamp.nanos), (1_700_000_000, 5));
        assert_eq!(first.input, Some(Member::OpenSession(OpenSessionInput { timeout: None })));
        assert_eq!(second.timestamp, None);

        let read: Vec<_> = commands(&data).collect();
        assert_eq!(read[0].stamp, Some(LogTime(1_700_000_000_000_000_005)));
        assert_eq!(read[0].input, Input::OpenSession(&[]));
        assert_eq!(read[1].stamp, None);
        assert!(matches!(read[1].input, Input::CloseSession(_)));
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn a_deadline_joins_a_sessions_command_and_no_other() {
        let until = LogTime(1_700_000_000_000_000_005);
        let keeps = body(Member::KeepAlive(KeepAliveInput::default()));
        let proposal =
            SessionProposalInput { session_id: 7, sequence_num: 9, ..Default::default() };
        for (member, joins) in
            [(body(Member::Proposal(proposal.clone())), true), (keeps.clone(), false)]
        {
            let mut builder = EntryBuilder::new();
            builder.stamp(LogTime(1));
            builder.push_until(&member, until);
            builder.push(&keeps);
            let data = builder.finish();
            let mut rest = data.clone();
            let read =
                StateMachineProposalInput::decode_length_delimited(&mut rest).expect("sound");
            assert!(data.len() - rest.len() <= 5 + 17 + member.len() + DEADLINE_BYTES_MAX);
            let expected = if joins {
                let deadline = Some(Timestamp { seconds: 1_700_000_000, nanos: 5 });
                Member::Proposal(SessionProposalInput { deadline, ..proposal.clone() })
            } else {
                Member::KeepAlive(KeepAliveInput::default())
            };
            assert_eq!(read.input, Some(expected));
            assert_eq!(commands(&data).count(), 2);
        }
    }

    #[test]
    fn a_tick_is_a_stamp_alone_and_the_builder_serves_again() {
        let mut builder = EntryBuilder::new();
        for at in [0, 7, 2_000_000_000] {
            builder.stamp(LogTime(at));
            let data = builder.finish();
            let read: Vec<_> = commands(&data).collect();
            assert_eq!(read, [Command { stamp: Some(LogTime(at)), input: Input::Tick }]);
            assert_eq!((builder.commands(), builder.bytes()), (0, 0));
        }
    }

    #[test]
    fn a_message_without_meaning_still_counts() {
        let read: Vec<_> = commands(&[0, 1, 0xff]).map(|command| command.input).collect();
        assert_eq!(read, [Input::Malformed, Input::Malformed]);
        let mut cut = commands(&[5, 1]);
        assert_eq!(cut.next(), None);
        assert!(cut.broken());
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        let mut prng = Prng::new(11);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..prng.below(40)).map(|_| prng.below(64) as u8).collect();
            assert!(commands(&bytes).count() <= bytes.len());
        }
    }
}
