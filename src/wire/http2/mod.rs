//! HTTP/2 and gRPC as a value: octets in, events out, answers encoded straight into one buffer.
//!
//! ```text
//!   octets ──► poll ──► Event          frame.rs  hpack.rs  huffman.rs  tables.rs   (both roles)
//!                │        │            request.rs   HEADERS to a stream, or a refusal
//!     windows, errors     ▼            receive.rs   DATA to messages
//!                │   application       control.rs   SETTINGS, PING, RST_STREAM, GOAWAY ...
//!                ▼        │            send.rs      answers, and what windows hold back
//!   octets ◄── output ◄── unary, message, finish    encode.rs   blocks of answers
//!                                      life.rs      timers, the graceful end
//!                                      streams.rs   slots and ids      guard.rs   floods
//! ```
//!
//! That is the server. The client role is `caller.rs`, with the frames of both and the HPACK of
//! answers in `answer.rs`; the load generator speaks through it.
//!
//! A turn of a shell: read once into a buffer that the core owns, behind what the last turn left of
//! this connection; `set_now`; `poll` until `None`, answering on the way or later; keep what `poll`
//! did not take; write `output` once and say so with `wrote`. `deadline` and `tick` are its timers.
//! Time is milliseconds of some monotonic clock, chance is a seed, so all of it runs in simulation.
//!
//! # Contract
//!
//! * Events and output depend on the octets and their order, not on how they were cut.
//! * Each stream the application hears of ends for it exactly once: by its own `finish`, `unary` or
//!   `reset`, or by [`Event::Reset`] (answered with `release`), or by [`Event::Fatal`] for all.
//!   Answers to streams that are gone are ignored, so a late one does no harm.
//! * What the application need not know is answered inside: unknown methods, compression, broken
//!   framing of messages, requests that are not gRPC. Its text is in `request.rs` and `receive.rs`.
//! * Everything has a bound: [`Limits`].
//!
//! # Decisions
//!
//! * *Own code instead of the h2 crate*: design.md, decision 16. h2 is the other side of the
//!   differential test in `tests/http2.rs`; h2spec runs against the node in CI.
//! * *HPACK table of meanings*: the header of `hpack.rs`.
//! * *A message is delivered once it is whole*, a single request with the end of its stream:
//!   a client may send END_STREAM in a frame of its own, and an answer before that would cost a
//!   RST_STREAM.
//! * *A reset stream counts until the application lets go of it*, or the limit on streams is none.
//!
//! Absent on purpose: sockets, TLS (its octets go through the same door), compression (refused, as
//! gRPC provides for), request metadata, server push, and priorities (RFC 9113 dropped them).

mod answer;
pub mod caller;
mod connection;
mod control;
pub mod encode;
pub mod frame;
pub mod guard;
pub mod hpack;
pub mod huffman;
mod life;
mod receive;
mod request;
mod send;
mod streams;
pub mod tables;

pub use caller::Caller;
pub use connection::{Connection, Counts};
pub use frame::Code;

use crate::limits;
use crate::time::Span;

/// The number of a method in the application's table.
pub type MethodId = u16;

/// What a path names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The application's number for it, handed back in [`Meta`].
    pub method: MethodId,
    /// The request is a single message (unary calls and server streams): it is delivered with
    /// `end`, and anything but one message is refused here.
    pub single: bool,
}

/// Turns paths into methods, once for each time that a client spells one out.
pub trait Router {
    /// What `/package.Service/Method` names; `None` when it names nothing.
    fn route(&self, path: &[u8]) -> Option<Route>;
}

impl<F: Fn(&[u8]) -> Option<Route>> Router for F {
    fn route(&self, path: &[u8]) -> Option<Route> {
        self(path)
    }
}

/// Names one call of one connection, for ever: a slot and the stream's id, which is never used
/// again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    slot: u32,
    id: u32,
}

impl Key {
    /// The stream's id, for diagnostics.
    #[must_use]
    pub const fn stream(self) -> u32 {
        self.id
    }

    /// The slot, which no other open call of the connection has: for tables beside it.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.slot as usize
    }
}

/// What the headers of a call said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    timeout_ns: u64,
    /// What its path names.
    pub method: MethodId,
}

impl Meta {
    const NONE: Meta = Meta { timeout_ns: u64::MAX, method: 0 };

    /// How long the client is willing to wait, counted from the arrival of the headers.
    #[must_use]
    pub fn timeout(&self) -> Option<Span> {
        (self.timeout_ns != u64::MAX).then_some(Span(self.timeout_ns))
    }
}

/// One message of a request, without its prefix.
#[derive(PartialEq, Eq, Debug)]
pub enum Message {
    /// It lies whole in the input that was polled, and only there.
    Input {
        /// Where it begins.
        at: usize,
        /// Its octets.
        len: usize,
    },
    /// It came in parts and was put together. May be kept; else [`Connection::recycle`] reuses it.
    Owned(Vec<u8>),
}

impl Message {
    /// Its octets; `input` is what was polled.
    #[inline(always)]
    #[must_use]
    pub fn octets<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        match self {
            Message::Input { at, len } => &input[*at..*at + *len],
            Message::Owned(octets) => octets,
        }
    }

    /// How many octets it has.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Message::Input { len, .. } => *len,
            Message::Owned(octets) => octets.len(),
        }
    }

    /// Whether it has none, which is a message like any other.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the application should know.
#[derive(PartialEq, Eq, Debug)]
pub enum Event {
    /// A message of a call. The first one, or [`Event::End`], is how a call is first heard of.
    Message {
        /// The call.
        key: Key,
        /// What its headers said.
        meta: Meta,
        /// The message. Give it back with [`Connection::recycle`] once it has been read: for calls
        /// of more than one message that reopens the client's window.
        message: Message,
        /// Nothing follows; always so for single requests.
        end: bool,
    },
    /// The client has nothing more to say in a call of more than one message.
    End {
        /// The call.
        key: Key,
        /// What its headers said.
        meta: Meta,
    },
    /// The caller has gone. The stream counts against the limit until [`Connection::release`].
    Reset {
        /// The call.
        key: Key,
    },
    /// All that was held back of this call is on its way.
    Writable {
        /// The call.
        key: Key,
    },
    /// The connection has ended, and with it every call. What is in `output` still should be
    /// written; then see [`Connection::closing`].
    Fatal(Code),
}

/// Bounds of one connection. The defaults are in `limits.rs`, each with its reason; tests and
/// simulations draw them small. A window of the connection below 65 535 octets cannot be
/// announced; one of streams can, but a client that does not wait for our SETTINGS would break it
/// in good faith.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Limits {
    pub streams: u32,
    pub stream_window_bytes: u32,
    pub connection_window_bytes: u32,
    pub header_list_bytes: u32,
    pub continuations: u32,
    pub message_bytes: usize,
    pub assembly_bytes: usize,
    pub held_bytes: usize,
    pub output_high_bytes: usize,
    pub discard_bytes: u64,
    pub idle_frames_burst: u64,
    pub idle_frames_per_ms: u64,
    pub resets_burst: u64,
    pub resets_per_ms: u64,
    pub handshake_ms: u64,
    pub settings_ack_ms: u64,
    /// 0: never.
    pub keepalive_ms: u64,
    pub keepalive_timeout_ms: u64,
    /// 0: never.
    pub idle_ms: u64,
    pub drain_ping_ms: u64,
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        let streams = limits::HTTP2_STREAMS_MAX;
        Limits {
            streams,
            stream_window_bytes: limits::HTTP2_STREAM_WINDOW_BYTES,
            connection_window_bytes: limits::HTTP2_CONNECTION_WINDOW_BYTES,
            header_list_bytes: limits::HTTP2_HEADER_LIST_BYTES_MAX,
            continuations: limits::HTTP2_CONTINUATIONS_MAX,
            message_bytes: limits::REQUEST_BYTES_MAX,
            assembly_bytes: limits::HTTP2_ASSEMBLY_BYTES_MAX,
            held_bytes: limits::HTTP2_HELD_BYTES_MAX,
            output_high_bytes: limits::HTTP2_OUTPUT_HIGH_BYTES,
            discard_bytes: limits::HTTP2_DISCARD_BYTES_MAX,
            idle_frames_burst: limits::HTTP2_IDLE_FRAMES_BURST,
            idle_frames_per_ms: limits::HTTP2_IDLE_FRAMES_PER_MS,
            resets_burst: u64::from(streams) * limits::HTTP2_RESETS_BURST_PER_STREAM,
            resets_per_ms: limits::HTTP2_RESETS_PER_MS,
            handshake_ms: limits::HTTP2_HANDSHAKE_MS,
            settings_ack_ms: limits::HTTP2_SETTINGS_ACK_MS,
            keepalive_ms: limits::HTTP2_KEEPALIVE_MS,
            keepalive_timeout_ms: limits::HTTP2_KEEPALIVE_TIMEOUT_MS,
            idle_ms: limits::HTTP2_IDLE_MS,
            drain_ping_ms: limits::HTTP2_DRAIN_PING_MS,
            drain_ms: limits::HTTP2_DRAIN_MS,
        }
    }
}
