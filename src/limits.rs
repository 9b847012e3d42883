//! Every bound in the program, with its arithmetic, tied to the others by const assertions.
//!
//! A bound that is met in production is refused with a clear answer, never grown past. Absent on
//! purpose: anything an operator sets; that is `config.rs`, checked against what stands here.

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
