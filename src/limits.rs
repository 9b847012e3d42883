//! Every bound in the program, tied together by const assertions, with the sums shown.
//!
//! A bound ends in `_MAX` or names its unit. Past a bound the client gets a clear refusal and nothing is
//! lost (design.md, decision 14). What an operator may change is in `config.rs`; these are its edges.

/// One request from a client, without its gRPC prefix. grpc-go's default, which the reference keeps
/// (core.md 1.3).
pub const REQUEST_BYTES_MAX: usize = 4 << 20;

/// One command as it stands in an entry: the request's input and the ids around it. The ids, their tags
/// and lengths are below 256 bytes.
pub const COMMAND_BYTES_MAX: usize = REQUEST_BYTES_MAX + 256;

/// All commands that one turn admits for one partition; they leave as one entry.
pub const PARTITION_TURN_BYTES_MAX: usize = 8 << 20;

/// Cores that one node may use.
pub const SHARDS_MAX: usize = 256;

const _: () = {
    // A lone command always fits the turn.
    assert!(COMMAND_BYTES_MAX <= PARTITION_TURN_BYTES_MAX);
};

// --- HTTP/2 and gRPC (wire/http2, wire/grpc.rs): the defaults of `http2::Limits` ---

/// Calls at once on one connection, those included whose caller has gone and which the application
/// still holds.
pub const HTTP2_STREAMS_MAX: u32 = 4096;

/// What a client may send on one stream before it hears that we took it. One message of the largest
/// size takes a handful of round trips, an ordinary one none.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// What a client may send on all streams together before it hears that we took it.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Request headers of one call, counted as RFC 9113, 6.5.2 counts them.
pub const HTTP2_HEADER_LIST_BYTES_MAX: u32 = 16 << 10;

/// Parts of messages that have arrived on one connection and wait for their rest.
pub const HTTP2_ASSEMBLY_BYTES_MAX: usize = 64 << 20;

/// Answers on one connection that the client's windows hold back; past it the connection ends.
pub const HTTP2_HELD_BYTES_MAX: usize = 64 << 20;

/// Above it a connection cuts no more DATA and its shell stops reading.
pub const HTTP2_OUTPUT_HIGH_BYTES: usize = 1 << 20;

/// The largest DATA frame we send, whatever a peer would take: streams share a connection frame by
/// frame.
pub const HTTP2_FRAME_OUT_BYTES_MAX: usize = 64 << 10;

/// CONTINUATION frames of one header block. A block of twice the header list fits three frames.
pub const HTTP2_CONTINUATIONS_MAX: u32 = 16;

/// Frames that do nothing (PING, SETTINGS, PRIORITY, empty DATA, unknown kinds ...) at once.
pub const HTTP2_IDLE_FRAMES_BURST: u64 = 20_000;

/// And how many of them a millisecond after that. A client's pings are bounded by one in 100 ms
/// (wire.md, decision 12), 2000 times below.
pub const HTTP2_IDLE_FRAMES_PER_MS: u64 = 20;

/// Calls given up before their answer, at once, for each stream of the limit on streams: a full set
/// whose deadlines pass together, and the next one.
pub const HTTP2_RESETS_BURST_PER_STREAM: u64 = 2;

/// And how many of them a millisecond after that: full sets at two a second.
pub const HTTP2_RESETS_PER_MS: u64 = 10;

/// A body that is not gRPC is read up to here before it is refused.
pub const HTTP2_DISCARD_BYTES_MAX: u64 = 64 << 10;

/// The preface and the first SETTINGS of a client.
pub const HTTP2_HANDSHAKE_MS: u64 = 10_000;

/// The acknowledgement of our SETTINGS, once the client has spoken.
pub const HTTP2_SETTINGS_ACK_MS: u64 = 20_000;

/// Silence after which a client is asked whether it is still there.
pub const HTTP2_KEEPALIVE_MS: u64 = 60_000;

/// How long it has to answer; grpc-go's default.
pub const HTTP2_KEEPALIVE_TIMEOUT_MS: u64 = 20_000;

/// A connection without a call is told to go after this; clients connect again on their own.
pub const HTTP2_IDLE_MS: u64 = 3_600_000;

/// Between the two GOAWAY of a graceful end, when the client does not answer our PING.
pub const HTTP2_DRAIN_PING_MS: u64 = 2_000;

/// Calls in flight have so long to finish after the second GOAWAY.
pub const HTTP2_DRAIN_MS: u64 = 30_000;

/// The text of a status, before it is percent-encoded (three octets for one at worst).
pub const GRPC_TEXT_BYTES_MAX: usize = 1024;

const _: () = {
    // A stream never has more room than the connection.
    assert!(HTTP2_STREAM_WINDOW_BYTES <= HTTP2_CONNECTION_WINDOW_BYTES);
    // A message of the largest size can be put together, and so can a few at once.
    assert!(4 * REQUEST_BYTES_MAX <= HTTP2_ASSEMBLY_BYTES_MAX);
    // Trailers with the longest text fit the smallest frame a peer must take.
    assert!(3 * GRPC_TEXT_BYTES_MAX + 256 <= 16_384);
    // Pings of an honest client never come near the guard (10 a second).
    assert!(HTTP2_IDLE_FRAMES_PER_MS * 1000 >= 100 * 10);
};

// ── The edge ───────────────────────────────────────────────────────────────────────────────────────────

/// Members of one group. Raft with more than a handful gains nothing; the bound keeps a request small.
pub const GROUP_MEMBERS_MAX: usize = 64;
