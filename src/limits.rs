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

/// Microseconds that a pinned core looks for work before it sleeps, unless configured otherwise. A
/// lone command takes 192 us instead of 222 at a quarter more CPU; 50 and 100 us gain nothing more
/// and cost 50 and 80 % (tuning/runs/2026-11-21-vm-2-epyc). At 256 in flight it is 5 % of CPU.
pub const SPIN_US: u64 = 20;

/// The longest that may be configured. An idle node is woken some 36 times a second a core
/// (tuning/runs/2026-11-21-vm-2-epyc-many), each of which spins anew: 3.6 % of a core. A quarter of
/// the kernel's tick of 4 ms, at which a completion comes that its worker could not finish because
/// the core it wants never slept.
pub const SPIN_US_MAX: u64 = 1_000;

// ---- Partitions and shards ------------------------------------------------------------------

/// Entries of one partition that are proposed and not yet applied. With the turn's bound this is
/// the memory that raft may hold before anything is decided.
pub const PARTITION_IN_FLIGHT_BYTES_MAX: usize = 4 * PARTITION_TURN_BYTES_MAX;

/// What raft itself counts as uncommitted before it drops a proposal: what admission lets in and
/// one entry more, so that admission, which answers, always comes first.
pub const RAFT_UNCOMMITTED_BYTES_MAX: usize =
    PARTITION_IN_FLIGHT_BYTES_MAX + ENTRY_BYTES_MAX + RAFT_MESSAGE_BYTES_MAX;

/// One entry: a turn's commands, each with its length before it (5 bytes at most), and the stamp.
pub const ENTRY_BYTES_MAX: usize = PARTITION_TURN_BYTES_MAX + (PARTITION_TURN_BYTES_MAX >> 2);

/// One raft append. At least one entry, or a turn's commands would need a second round trip.
pub const RAFT_MESSAGE_BYTES_MAX: usize = ENTRY_BYTES_MAX;

/// Appends to one follower that are under way. The log's tail is in memory anyway and messages
/// share its bytes; the bound is for what a lost link makes us send again.
pub const RAFT_MESSAGES_IN_FLIGHT_MAX: usize = 64;

/// Committed entries that raft hands over at once, and a partition applies in one turn.
pub const APPLY_TURN_BYTES_MAX: usize = 2 * ENTRY_BYTES_MAX;

/// All messages of a shard to one peer shard in one turn. Past it messages are dropped and raft is
/// told, as if the link had lost them.
pub const BUNDLE_BYTES_MAX: usize = 64 << 20;

/// Calls and answers that one bundle carries beside raft's messages; what is more goes in another.
pub const POST_BYTES_MAX: usize = BUNDLE_BYTES_MAX / 2;

/// Groups that begin to rest in one tick; about 20 bytes each in a bundle to every member. More
/// wait a tick.
pub const RESTS_TURN_MAX: usize = 4096;

/// Read rounds that wait for their quorum in one partition; past it queries join the next one.
pub const READ_ROUNDS_MAX: usize = 64;

/// What is written to one peer shard and not yet taken by the kernel; past it bundles are dropped.
pub const PEER_QUEUE_BYTES_MAX: usize = 2 * BUNDLE_BYTES_MAX;

/// Bundles from peers that the shard has not looked at; past it the links are not read.
pub const PEER_UNREAD_BYTES_MAX: usize = 2 * BUNDLE_BYTES_MAX;

/// Calls that one shard has passed on to other nodes and not been answered.
pub const CALLS_PASSED_ON_MAX: usize = 64 << 10;

/// Calls that other nodes have passed on to one shard.
pub const GUESTS_MAX: usize = 256 << 10;

/// What two nodes may say before they are linked.
pub const HELLO_BYTES_MAX: usize = 4096;

/// Connections on the peer port that have not said who they are.
pub const PEER_GREETINGS_MAX: usize = 256;

/// Links from peers' cores to one core: 15 peers of 64 cores.
pub const PEER_LINKS_MAX: usize = 1024;

/// Nodes whose data is remembered; more than that were never members of anything.
pub const PEERS_KNOWN_MAX: usize = 4096;

/// Snapshots that one core receives at once. Each holds `SNAPSHOT_UNREAD_BYTES_MAX` and the state
/// that it becomes.
pub const SNAPSHOTS_IN_PARTS_MAX: usize = 8;

/// Pieces of snapshots that came and no turn has taken; past it the streams are not read. Some
/// turns' worth, so that the disk never waits for the network.
pub const SNAPSHOT_UNREAD_BYTES_MAX: usize = 8 << 20;

/// Snapshots that one core is to send; past it raft is told at once that they did not arrive. Each
/// is a list of places, 24 bytes for a slice of 1 MiB.
pub const SNAPSHOTS_WAITING_MAX: usize = 1024;

/// How fast one core sends snapshots unless configured otherwise: a tenth of what a 25 Gbit/s link
/// and a disk for it take, so that bundles keep their latency.
pub const SNAPSHOT_BYTES_PER_SECOND: u64 = 256 << 20;

/// The slowest that may be configured: a snapshot of 64 MiB in a minute.
pub const SNAPSHOT_BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// The fastest: past what any link of today takes, which is as good as no bound.
pub const SNAPSHOT_BYTES_PER_SECOND_MAX: u64 = 64 << 30;

/// One whole snapshot on its way to a peer. It is in memory nowhere, and the state that it becomes
/// is bounded by `partition_memory_bytes`; this is what a peer can announce without being refused.
pub const SNAPSHOT_BYTES_MAX: u64 = 1 << 40;

/// The head of a snapshot: every member and where it is, and the voters' lists.
pub const SNAPSHOT_HEAD_BYTES_MAX: usize = 64 << 10;

/// Commands beyond the bound on those in flight that keep-alives may be, a shard or partition:
/// refusing them would end the sessions that the load comes from.
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
    // Receivers take twice a bundle: messages that fill one, a post, and the headers of both.
    assert!(BUNDLE_BYTES_MAX + POST_BYTES_MAX + 4 * REQUEST_BYTES_MAX < 2 * BUNDLE_BYTES_MAX);
    assert!(PARTITION_TURN_BYTES_MAX <= PARTITION_IN_FLIGHT_BYTES_MAX);
    // A partition that is given all it may have does not starve the next turn's entry.
    assert!(APPLY_TURN_BYTES_MAX >= ENTRY_BYTES_MAX);
    // A member takes its host, its numbers and their tags; and stands in up to four lists.
    assert!(REPLICAS_MAX * (HOST_BYTES_MAX + 64 + 4 * 10) < SNAPSHOT_HEAD_BYTES_MAX);
    assert!(SNAPSHOT_UNREAD_BYTES_MAX >= 4 * SNAPSHOT_CHUNK_BYTES_MAX);
    assert!(ENTRY_BYTES_MAX <= JOURNAL_ENTRY_BYTES_MAX);
};

const _: () = {
    // A lone command always fits the turn.
    assert!(COMMAND_BYTES_MAX <= PARTITION_TURN_BYTES_MAX);
};

// What an operator may set (config.rs).

/// Partitions that one node holds: an idle one costs about a microsecond a tick, so this many cost
/// a core some percent.
pub const PARTITIONS_MAX: usize = 4096;

/// The config file. Every key with a long comment is below 16 KiB.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;

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

/// Nodes that found a cluster together.
pub const CLUSTER_NODES_MAX: usize = 256;
/// Callers of one partition that wait for a change of its members.
pub const WISHES_MAX: usize = 32;

/// How long a change that an operator wants may take: by default several elections and what a
/// follower that was just started needs, and at most what somebody waits for.
pub const OPERATOR_PATIENCE: Span = Span::secs(10);
/// See there.
pub const OPERATOR_PATIENCE_MAX: Span = Span::secs(60);

/// Joins and leaves that one shard has under way.
pub const ERRANDS_MAX: usize = 4096;

/// Groups of which a shard knows who belongs to them without having a replica: as many as it could
/// have.
pub const GROUPS_HEARD_OF_MAX: usize = PARTITIONS_MAX;

/// Nodes that a shard remembers for a while though no group of its own names them.
pub const GUEST_NODES_MAX: usize = 256;

/// Entries that a learner may lack when it is made a voter: what a group of usual pace adds within
/// a few round trips, so that the new quorum does not wait for it.
pub const LEARNER_BEHIND_MAX: u64 = 256;

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

// --- The replicated state of one partition
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
    /// Prepared transactions of one map. Past it: RESOURCE_EXHAUSTED.
    pub transactions_max: usize,
    /// Those of one session among them.
    pub session_transactions_max: usize,
    /// Bytes of the operations that they hold. Past it: RESOURCE_EXHAUSTED.
    pub transactions_bytes_max: usize,
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
            transactions_max: 4096,
            session_transactions_max: 256,
            transactions_bytes_max: 64 << 20,
            watches_max: 100_000,
        }
    }
}

/// Bytes of a key and of an element of a set; one more is INVALID_ARGUMENT. The reference has no
/// bound but the request's.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// Operations of one transaction on a map: about 1 ms.
pub const TRANSACTION_OPERATIONS_MAX: usize = 1024;

/// What the outputs of a transaction take, an operation's at most: the value before, and 64 bytes
/// of lengths and versions. A client takes no larger message than we do.
pub const TRANSACTION_OUTPUT_BYTES_MAX: usize = REQUEST_BYTES_MAX - 1024;

/// Transactions of one map that were aborted before they came. Past it the oldest is forgotten.
pub const TRANSACTIONS_ABORTED_MAX: usize = 1024;

/// Bytes of a stored value; one more is INVALID_ARGUMENT. It is what a request carries beside its
/// headers and a short key, so that an answer with it fits the 4 MiB that clients take by default.
pub const VALUE_BYTES_MAX: usize = REQUEST_BYTES_MAX - (1 << 10);

/// Seconds of a duration, of either sign: what `google.protobuf.Duration` allows, 10 000 years.
/// More is INVALID_ARGUMENT. Log time ends before (in 2554): what is due later never is.
pub const DURATION_SECONDS_MAX: u64 = 315_576_000_000;

/// Values of one key of a multimap; one more is RESOURCE_EXHAUSTED. Get, Replace and each watcher
/// walk them all, about 100 ns each: 7 ms.
pub const VALUES_MAX: usize = 64 << 10;

/// What the values of one key of a multimap take in a message, their lengths included. Beside them
/// stand the key, the response's headers and a handful of lengths; and a client takes no larger
/// message than we do, so that no key becomes one that nobody can read. More is RESOURCE_EXHAUSTED.
pub const VALUES_BYTES_MAX: usize = REQUEST_BYTES_MAX - KEY_BYTES_MAX - 1024;

/// Keys and values that one request to a multimap names: two full keys. One more is
/// INVALID_ARGUMENT; else a request could name two million, which hold their shard for as long as
/// they take.
pub const REQUEST_ITEMS_MAX: usize = 2 * VALUES_MAX;

/// Bytes of a primitive's namespace and of its name, where one more is INVALID in the header, and
/// of a candidate's name, where it is INVALID_ARGUMENT.
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

/// Chunks of outputs, entries of cleared maps and values of cleared multimaps that the application
/// of one entry gives back to the allocator: about 100 ns each.
pub const RUBBLE_PARTS_MAX: usize = 1024;

/// What the timers that one entry runs may come to: one each, and one for every event that they
/// send and every command and primitive that an ended session lets go of; about 1 us each. What is
/// due beyond it runs with the entries that follow.
pub const TIMERS_ENTRY_MAX: usize = 4 << 10;

/// What the timers that a partition runs in one turn may come to before it leaves further entries
/// to the next: a replica that catches up applies many at once.
pub const TIMERS_TURN_MAX: usize = TIMERS_ENTRY_MAX;

/// Events that the clearing of one structure sends, about 1 us each. A clearing that would send
/// more ends the streams that it concerns: each has to look anew, as one that could not keep up.
pub const CLEAR_EVENTS_MAX: usize = 4 << 10;

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

// ---- The edge: runtime, frontend, mesh ------------------------------------------------------

/// Calls that wait on one core, streams included. A slot is below 64 bytes: 64 MiB at most.
pub const WAITING_CALLS_MAX: usize = 1 << 20;

/// Requests that one core's connections take between two turns; past it they stop reading.
pub const TURN_REQUEST_BYTES_MAX: usize = 64 << 20;

/// Bytes that one event stream's reader may be behind, beyond its flow control window; past it the
/// stream ends with UNAVAILABLE and the client resumes from the replicated outputs.
pub const STREAM_HELD_BYTES_MAX: usize = 8 << 20;

/// One request of server reflection: a name and a host. Names are below 200 bytes.
pub const REFLECTION_REQUEST_BYTES_MAX: usize = 4 << 10;

/// Bytes of answers that a client of server reflection may leave unread, beyond its flow control
/// window; past it the stream ends. A whole descriptor set fits (`edge/reflect.rs` asserts it), an
/// answer is a part of one, and clients read each before they ask again.
pub const REFLECTION_HELD_BYTES_MAX: usize = 1 << 20;

/// What one core reads at once from one connection.
pub const READ_BUFFER_BYTES: usize = 256 << 10;

/// Reads of one connection before others have their turn.
pub const CONNECTION_READS_MAX: usize = 8;

/// Parcels under way from one core to another; what is more waits with its sender.
pub const MESH_LANE_PARCELS_MAX: usize = 256;

const _: () = {
    // A connection's frame that is not whole fits the read buffer with room for the rest.
    assert!(4 * (16 << 10) <= READ_BUFFER_BYTES);
    // The largest message of a stream is held as long as its window is closed.
    assert!(REQUEST_BYTES_MAX < STREAM_HELD_BYTES_MAX);
    // The offsets of a turn's requests are 32 bits.
    assert!(TURN_REQUEST_BYTES_MAX + READ_BUFFER_BYTES + COMMAND_BYTES_MAX < u32::MAX as usize);
};
