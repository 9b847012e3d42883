//! Plain counters of one shard, for metrics and tests. They only grow, but for those that say
//! "now".

/// What one shard did since it started.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Calls that went on to the node that leads.
    pub passed_on: u64,
    /// Turns taken.
    pub turns: u64,
    /// Commands proposed.
    pub commands: u64,
    /// Queries taken.
    pub queries: u64,
    /// Calls refused by admission.
    pub refused: u64,
    /// Blocks sealed for the journal.
    pub blocks: u64,
    /// Bytes of them.
    pub block_bytes: u64,
    /// Bundles sent.
    pub bundles: u64,
    /// Bytes of them.
    pub bundle_bytes: u64,
    /// Frames from peers that could not be read.
    pub frames_broken: u64,
    /// Bundles before which something that a peer posted had not come.
    pub posts_missed: u64,
    /// Messages dropped because a bundle was full.
    pub messages_dropped: u64,
    /// Snapshots sent to peers.
    pub snapshots_sent: u64,
    /// Times that a partition began to rest.
    pub rests: u64,
    /// Partitions that a panic halted.
    pub halted: u64,
    /// Calls now that were passed on to other nodes and wait for their answers.
    pub passed_now: u64,
    /// Calls now that other nodes passed on to here.
    pub guests_now: u64,
    /// Partitions here now.
    pub partitions_now: u64,
    /// Partitions that lead now.
    pub leaders_now: u64,
    /// Partitions that rest now.
    pub resting_now: u64,
    /// Commands in flight now.
    pub commands_now: u64,
    /// Bytes of them.
    pub command_bytes_now: u64,
    /// Memory of the partitions' states now.
    pub state_bytes_now: u64,
    /// Segments of the journal now.
    pub segments_now: u64,
}
