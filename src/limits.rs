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
