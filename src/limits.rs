//! Every bound in the program, tied together by const assertions, with the sums shown.
//!
//! A bound ends in `_MAX` or names its unit. Past a bound the client gets a clear refusal and
//! nothing is lost (design.md, decision 14). What an operator may change is in `config.rs`; these
//! are its edges.

use crate::time::Span;

/// One request from a client, without its gRPC prefix. grpc-go's default, which the reference keeps
/// (core.md 1.3).
pub const REQUEST_BYTES_MAX: usize = 4 << 20;

/// One command as it stands in an entry: the request's input and the ids around it. The ids, their
/// tags and lengths are below 256 bytes.
pub const COMMAND_BYTES_MAX: usize = REQUEST_BYTES_MAX + 256;

/// All commands that one turn admits for one partition; they leave as one entry.
pub const PARTITION_TURN_BYTES_MAX: usize = 8 << 20;

/// Cores that one node may use.
pub const SHARDS_MAX: usize = 256;

const _: () = {
    // A lone command always fits the turn.
    assert!(COMMAND_BYTES_MAX <= PARTITION_TURN_BYTES_MAX);
};

// --- The replicated state of one partition -------------------------------------------------------------
//
// `Bounds` is what every replica of a cluster must agree on: a command is taken or refused inside
// apply, alike everywhere. The simulator draws some of them small.

/// What the replicated state of one partition may hold. All replicas use the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// The timeout of a session that names none (wire.md, decision 7).
    pub session_timeout_default: Span,
    /// The longest timeout of a session; longer ones are cut to it.
    pub session_timeout_max: Span,
    /// Open sessions. Past it OpenSession is refused: RESOURCE_EXHAUSTED.
    pub sessions_max: usize,
    /// Primitives; they are never deleted. Past it CreatePrimitive is refused: RESOURCE_EXHAUSTED.
    pub primitives_max: usize,
    /// Commands of one session that are pending: lock waiters, event streams, also ended streams
    /// whose outputs are still kept. Past it another one is refused: RESOURCE_EXHAUSTED.
    pub calls_max: usize,
    /// Bytes of finished outputs that one session makes us keep. Past it its commands are refused
    /// with RESOURCE_EXHAUSTED until a keep-alive says which it has.
    pub kept_bytes_max: usize,
    /// Bytes of events kept for one stream. Past it the stream ends with a failure, UNAVAILABLE.
    pub stream_bytes_max: usize,
    /// Bytes of events kept for all streams of a partition, shared ones counted for each. Past it a
    /// stream that gets one more ends like one that is too long itself.
    pub streams_bytes_max: usize,
    /// Event listeners of one primitive. Past it: RESOURCE_EXHAUSTED.
    pub listeners_max: usize,
    /// Waiters of one lock. Past it: RESOURCE_EXHAUSTED.
    pub waiters_max: usize,
    /// Candidates of one election, the leader not counted. Past it: RESOURCE_EXHAUSTED.
    pub candidates_max: usize,
    /// Watches and listings attached to one partition on one replica. Past it: RESOURCE_EXHAUSTED.
    pub watches_max: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            session_timeout_default: Span::secs(30),
            session_timeout_max: Span::secs(24 * 60 * 60),
            sessions_max: 100_000,
            primitives_max: 100_000,
            calls_max: 4096,
            // 15 s between two keep-alives at 400 000 commands/s and 40 bytes each is 240 MB.
            kept_bytes_max: 256 << 20,
            stream_bytes_max: 16 << 20,
            streams_bytes_max: 1 << 30,
            listeners_max: 10_000,
            waiters_max: 10_000,
            candidates_max: 1024,
            watches_max: 100_000,
        }
    }
}

/// Bytes of a key of a map. The reference has no bound but the request's.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// Bytes of a primitive's namespace, of its name, and of a candidate's name.
pub const NAME_BYTES_MAX: usize = 1024;

/// Bytes of the JSON text of a keep-alive's filter: 1 MiB of words in base64, and the rest of the
/// object.
pub const FILTER_TEXT_BYTES_MAX: usize = FILTER_BYTES_MAX / 3 * 4 + 4096;

/// Bytes of a filter's words (wire.md, decision 8).
pub const FILTER_BYTES_MAX: usize = 1 << 20;

/// Keep-alives of one session whose numbers are still being sorted out; the next one with a filter
/// that is not empty is refused until they are. Each entry sorts `SWEEP_NUMBERS_MAX`, so only a
/// client that skips millions of numbers at each keep-alive gets there.
pub const SWEEPS_MAX: usize = 8;

/// Numbers that the application of one entry sorts into finished and open: about 20 ns each, 0.3
/// ms.
pub const SWEEP_NUMBERS_MAX: usize = 8 << 10;

/// Numbers that one keep-alive with a filter that is not empty sorts. One that leaps further
/// finishes what lies before, whatever its filter says: 16 million commands younger than one that
/// is still under way.
pub const SWEEP_RANGE_MAX: u64 = 16 << 20;

/// Numbers that a session's filters left open and that no command has used. Past it the lowest is
/// finished.
pub const OPEN_NUMBERS_MAX: usize = 1 << 20;

/// Chunks of outputs and entries of cleared maps that the application of one entry gives back to
/// the allocator: about 100 ns each.
pub const RUBBLE_PARTS_MAX: usize = 1024;

/// Bytes of replies in one batch past which a stream is told to come back instead of being served
/// now.
pub const REPLIES_BYTES_MAX: usize = 512 << 20;

/// Replies in one batch past which the same holds: 4 million of 64 bytes are 256 MB.
pub const REPLIES_MAX: usize = 4 << 20;

/// Bytes of a listing that one call of `more` hands out.
pub const LISTING_BYTES_MAX: usize = 256 << 10;

const _: () = {
    // A reply is one output past the bound at most: the batch's ranges, which are u32, hold.
    assert!(REPLIES_BYTES_MAX + 4 * REQUEST_BYTES_MAX < u32::MAX as usize);
    // A slice of sorting stays far below a keep-alive's range, and a range takes a bounded count of
    // slices.
    assert!(SWEEP_RANGE_MAX as usize / SWEEP_NUMBERS_MAX <= 2048);
};
