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

// ---- Partitions and shards ------------------------------------------------------------------

/// Entries of one partition that are proposed and not yet applied. With the turn's bound this is the
/// memory that raft may hold before anything is decided.
pub const PARTITION_IN_FLIGHT_BYTES_MAX: usize = 4 * PARTITION_TURN_BYTES_MAX;

/// What raft itself counts as uncommitted before it drops a proposal: what admission lets in and one
/// entry more, so that admission, which answers, always comes first.
pub const RAFT_UNCOMMITTED_BYTES_MAX: usize =
    PARTITION_IN_FLIGHT_BYTES_MAX + ENTRY_BYTES_MAX + RAFT_MESSAGE_BYTES_MAX;

/// One entry: a turn's commands, each with its length before it (5 bytes at most), and the stamp.
pub const ENTRY_BYTES_MAX: usize = PARTITION_TURN_BYTES_MAX + (PARTITION_TURN_BYTES_MAX >> 2);

/// One raft append. At least one entry, or a turn's commands would need a second round trip.
pub const RAFT_MESSAGE_BYTES_MAX: usize = ENTRY_BYTES_MAX;

/// Appends to one follower that are under way. The log's tail is in memory anyway and messages share
/// its bytes; the bound is for what a lost link makes us send again.
pub const RAFT_MESSAGES_IN_FLIGHT_MAX: usize = 64;

/// Committed entries that raft hands over at once, and a partition applies in one turn.
pub const APPLY_TURN_BYTES_MAX: usize = 2 * ENTRY_BYTES_MAX;

/// All messages of a shard to one peer shard in one turn. Past it messages are dropped and raft is told,
/// as if the link had lost them.
pub const BUNDLE_BYTES_MAX: usize = 64 << 20;

/// Read rounds that wait for their quorum in one partition; past it queries join the next one.
pub const READ_ROUNDS_MAX: usize = 64;

/// One whole snapshot on its way to a peer or into memory.
pub const SNAPSHOT_BYTES_MAX: usize = 1 << 30;

/// Commands beyond the bound on those in flight that keep-alives may be, a shard or partition: refusing
/// them would end the sessions that the load comes from.
pub const KEEP_ALIVES_IN_FLIGHT_MAX: usize = 16 << 10;

/// Watchers of one node, or of one partition.
pub const WATCHERS_MAX: usize = 1024;

/// Events that one watcher is given in one turn; past it the watcher has fallen behind.
pub const WATCHER_TURN_EVENTS_MAX: usize = 4096;

const _: () = {
    assert!(PARTITION_TURN_BYTES_MAX <= RAFT_MESSAGE_BYTES_MAX);
    assert!(ENTRY_BYTES_MAX <= RAFT_MESSAGE_BYTES_MAX);
    assert!(RAFT_MESSAGE_BYTES_MAX < BUNDLE_BYTES_MAX);
    assert!(BUNDLE_BYTES_MAX < u32::MAX as usize);
    assert!(PARTITION_TURN_BYTES_MAX <= PARTITION_IN_FLIGHT_BYTES_MAX);
    // A partition that is given all it may have does not starve the next turn's entry.
    assert!(APPLY_TURN_BYTES_MAX >= ENTRY_BYTES_MAX);
    assert!(SNAPSHOT_BYTES_MAX < u32::MAX as usize);
    assert!(ENTRY_BYTES_MAX <= JOURNAL_ENTRY_BYTES_MAX);
};

const _: () = {
    // A lone command always fits the turn.
    assert!(COMMAND_BYTES_MAX <= PARTITION_TURN_BYTES_MAX);
};

// ---- The journal: what touches a disk -------------------------------------------------------

/// The unit of an O_DIRECT write; every block and segment header is a multiple of it.
pub const SECTOR_BYTES: usize = 4096;

/// One block, header and padding included: one write. Four may be in flight a shard, so this also
/// bounds what a shard pins in memory for its disk (64 MiB at the very worst).
pub const BLOCK_BYTES_MAX: usize = 16 << 20;

/// One entry of a partition's log: a turn's commands, 8 MiB, with room for stamps and framing.
pub const JOURNAL_ENTRY_BYTES_MAX: usize = 12 << 20;

/// One slice of a snapshot in the journal.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 1 << 20;

/// One segment file, unless configured otherwise.
pub const SEGMENT_BYTES: usize = 64 << 20;

/// The smallest segment an operator may configure: a checkpoint of a quarter of it and the largest
/// block must fit with room to make progress.
pub const SEGMENT_BYTES_MIN: usize = 32 << 20;

/// The largest: recovery holds a segment in memory at once.
pub const SEGMENT_BYTES_MAX: usize = 1 << 30;

/// Replicas of one partition, founding or later, per role list of a configuration.
pub const REPLICAS_MAX: usize = 64;

/// A host name, as in DNS.
pub const HOST_BYTES_MAX: usize = 253;

/// Block writes a shard's disk has in flight. Four gave three times the syncs of one for a third
/// more latency (notes/baselines.md 3.2); more gave nothing.
pub const WRITES_IN_FLIGHT_MAX: usize = 4;

/// Recycled segments kept for later; more than that go back to the filesystem.
pub const SPARE_SEGMENTS_MAX: usize = 4;

const _: () = {
    assert!(BLOCK_BYTES_MAX.is_multiple_of(SECTOR_BYTES));
    assert!(SEGMENT_BYTES.is_multiple_of(SECTOR_BYTES));
    assert!(SEGMENT_BYTES >= SEGMENT_BYTES_MIN && SEGMENT_BYTES <= SEGMENT_BYTES_MAX);
    // A lone entry fits a block with every header there is (block, record, run, entry), so no
    // record of entries ever spans blocks.
    assert!(JOURNAL_ENTRY_BYTES_MAX + SECTOR_BYTES <= BLOCK_BYTES_MAX);
    assert!(SNAPSHOT_CHUNK_BYTES_MAX + SECTOR_BYTES <= BLOCK_BYTES_MAX);
    // A fresh segment holds its header, its checkpoint (a quarter at most) and the largest block.
    assert!(SECTOR_BYTES + SEGMENT_BYTES_MIN / 4 + BLOCK_BYTES_MAX <= SEGMENT_BYTES_MIN);
    // Lengths travel as 32 bits.
    assert!(SEGMENT_BYTES_MAX <= u32::MAX as usize);
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
pub const SWEEP_NUMBERS_MAX: usize = 16 << 10;

/// Numbers that one keep-alive with a filter that is not empty sorts. One that leaps further
/// finishes what lies before, whatever its filter says: 16 million commands younger than one that
/// is still under way.
pub const SWEEP_RANGE_MAX: u64 = 16 << 20;

/// Numbers that a session's filters left open and that no command has used. Past it the lowest is
/// finished.
pub const OPEN_NUMBERS_MAX: usize = 1 << 20;

/// Finished chunks of outputs that the application of one entry gives back to the allocator.
pub const RUBBLE_CHUNKS_MAX: usize = 256;

/// Bytes of replies in one batch past which a stream is told to come back instead of being served
/// now.
pub const REPLIES_BYTES_MAX: usize = 512 << 20;

/// Bytes of a listing that one call of `more` hands out.
pub const LISTING_BYTES_MAX: usize = 256 << 10;

const _: () = {
    // A reply is one output past the bound at most: the batch's ranges, which are u32, hold.
    assert!(REPLIES_BYTES_MAX + 4 * REQUEST_BYTES_MAX < u32::MAX as usize);
    // A slice of sorting stays far below a keep-alive's range, and a range takes a bounded count of
    // slices.
    assert!(SWEEP_RANGE_MAX as usize / SWEEP_NUMBERS_MAX <= 1024);
};
