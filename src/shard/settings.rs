//! What a shard is told when it starts. Plain values, checked by whoever makes them (`config.rs`)
//! and asserted here; nothing of it changes while the shard lives.

use crate::{
    id::{NodeId, ShardId},
    journal::Layout,
    limits::{Bounds, PARTITION_IN_FLIGHT_BYTES_MAX, SHARDS_MAX, WRITES_IN_FLIGHT_MAX},
    partition::{Load, Rules, read::Patience, replica::Pace},
    shard::placement::Placement,
    time::Span,
    wire::format::{FORMATS, Formats},
};

/// Whether groups may have members on other nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peers {
    /// They may not: this build has no links to peers.
    Alone,
    /// They may.
    Allowed,
}

/// What a shard is told when it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node.
    pub node: NodeId,
    /// This core.
    pub shard: ShardId,
    /// The node's cores.
    pub shards: u16,
    /// Whatever is drawn is drawn from this: the same seed and inputs give the same outputs.
    pub seed: u64,
    /// Whether groups may have members on other nodes.
    pub peers: Peers,
    /// What this program speaks with peers.
    pub formats: Formats,
    /// Where clients reach this node, `host:port`, for `Partition.Watch`.
    pub api_address: String,
    /// The port of that, which other nodes are taken to use too until they have said theirs.
    pub api_port: u16,
    /// The cluster that this node was founded with.
    pub placement: Placement,
    /// One unit of raft's clock. One timer a shard, and only when a group has other members.
    pub tick: Span,
    /// Ticks without a leader before an election: between this and twice this.
    pub election_ticks: usize,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: usize,
    /// Ticks in which nothing happens in a group before it rests.
    pub rest_ticks: usize,
    /// Entries that a partition applies between snapshots.
    pub snapshot_entries: u64,
    /// Bytes that a partition applies between snapshots.
    pub snapshot_bytes: usize,
    /// Bytes of snapshots that one turn writes, for all partitions together: it is what a turn
    /// takes longer while one is taken.
    pub snapshot_turn_bytes: usize,
    /// Entries kept for followers when a log is compacted.
    pub retain_entries: u64,
    /// Segments of the journal past which a snapshot is taken of the partitions that hold the
    /// oldest.
    pub segments_soft: usize,
    /// Blocks that the disk writes at the same time, 1 to `WRITES_IN_FLIGHT_MAX`.
    pub writes_in_flight: usize,
    /// Commands in flight in the shard.
    pub commands_max: usize,
    /// Bytes of commands in flight in the shard.
    pub command_bytes_max: usize,
    /// Commands in flight in one partition.
    pub partition_commands_max: usize,
    /// Queries of one partition that wait.
    pub partition_queries_max: usize,
    /// How long a query without a deadline waits.
    pub query_patience: Span,
    /// How long a read waits for a quorum.
    pub round_patience: Span,
    /// How far past the newest stamp in its log a new term's clock may start.
    pub log_jump: Span,
    /// Memory that one partition's state may hold before commands that grow it are refused.
    pub state_bytes_max: usize,
    /// Partitions of this shard.
    pub partitions_max: usize,
    /// The replicated state's bounds; the same on all nodes.
    pub bounds: Bounds,
    /// The journal's sizes.
    pub layout: Layout,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            node: NodeId(1),
            shard: ShardId(0),
            shards: 1,
            seed: 0,
            peers: Peers::Alone,
            formats: FORMATS,
            api_address: "localhost:5678".to_owned(),
            api_port: 5678,
            placement: Placement::default(),
            // 20 Hz: a timer of 100 Hz costs about 1 % of a core when idle (notes/field-notes.md
            // D.3).
            tick: Span::millis(50),
            // 600 to 1200 ms: six heartbeats are missed before anybody stands, and a silent leader
            // is replaced within 1.5 s. Pre-votes make standing for nothing cheap.
            election_ticks: 12,
            heartbeat_ticks: 2,
            // Two election timeouts: a leader asks who is there once in each, so a member that was
            // not has been found out.
            rest_ticks: 24,
            // The reference's numbers (core.md 1.2); 64 MiB is what a restart replays in about a
            // second.
            snapshot_entries: 10_000,
            snapshot_bytes: 64 << 20,
            // Copied at a GiB a second or so this is a millisecond of a turn.
            snapshot_turn_bytes: 1 << 20,
            retain_entries: 1000,
            segments_soft: 8,
            writes_in_flight: WRITES_IN_FLIGHT_MAX,
            commands_max: 64 << 10,
            command_bytes_max: 128 << 20,
            partition_commands_max: 64 << 10,
            partition_queries_max: 16 << 10,
            query_patience: Span::secs(30),
            round_patience: Span::secs(2),
            log_jump: Span::secs(24 * 60 * 60),
            state_bytes_max: 4 << 30,
            partitions_max: 10_000,
            bounds: Bounds::default(),
            layout: Layout::default(),
        }
    }
}

impl Settings {
    /// What of it partitions are told.
    #[must_use]
    pub fn rules(&self) -> Rules {
        assert!(self.node.0 > 0, "node 0 is nobody");
        assert!(usize::from(self.shards) <= SHARDS_MAX, "{} shards", self.shards);
        assert!(self.shard.0 < self.shards, "shard {} of {}", self.shard, self.shards);
        assert!(
            self.heartbeat_ticks > 0 && self.election_ticks > 2 * self.heartbeat_ticks,
            "a heartbeat each {} ticks, an election after {}",
            self.heartbeat_ticks,
            self.election_ticks
        );
        assert!(self.tick > Span::ZERO, "raft's clock stands still");
        assert!(self.rest_ticks > 0, "a group rests before it does anything");
        assert!((1..=WRITES_IN_FLIGHT_MAX).contains(&self.writes_in_flight), "no disk writes so");
        assert!(self.snapshot_turn_bytes > 0, "a snapshot would never end");
        Rules {
            pace: Pace {
                seed: self.seed,
                election_ticks: self.election_ticks,
                heartbeat_ticks: self.heartbeat_ticks,
            },
            bounds: self.bounds.clone(),
            log_jump: self.log_jump,
            patience: Patience { query: self.query_patience, round: self.round_patience },
            queries_max: self.partition_queries_max,
            commands_max: self.partition_commands_max,
            snapshot_entries: self.snapshot_entries,
            snapshot_bytes: self.snapshot_bytes,
            retain_entries: self.retain_entries,
        }
    }

    /// How long a leader may be silent before its followers stand.
    #[must_use]
    pub fn election(&self) -> Span {
        Span(self.tick.0 * self.election_ticks as u64)
    }

    /// What may be in flight in the shard.
    #[must_use]
    pub fn load_max(&self) -> Load {
        // One partition alone never needs more than it may have.
        let bytes = self.command_bytes_max.max(PARTITION_IN_FLIGHT_BYTES_MAX / 4);
        Load { commands: self.commands_max, bytes }
    }
}
