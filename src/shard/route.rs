//! Partition to shard to node: where a request and a message belong.
//!
//! A node's partitions are spread over its shards by number, so the owner is known without asking.
//! Leaders are known by hint only, from what the replicas here heard; what is led elsewhere is
//! passed on (`forward.rs`).

use std::collections::BTreeMap;

use crate::id::{NodeId, PartitionId, ShardId};
use crate::wire::format::Formats;

/// The shard of a node with `shards` of them that owns `partition`.
#[must_use]
pub fn owner(partition: PartitionId, shards: u16) -> ShardId {
    assert!(shards > 0, "a node has a shard");
    ShardId((partition.0 % u32::from(shards)) as u16)
}

/// The shard of a peer that owns `partition`. Until the peer has said how many it has (`known`), it
/// is taken to have as many as this node; it drops what is not for it, and raft sends again.
#[must_use]
pub fn owner_at(
    known: &BTreeMap<NodeId, u16>,
    here: u16,
    peer: NodeId,
    partition: PartitionId,
) -> ShardId {
    owner(partition, known.get(&peer).copied().unwrap_or(here))
}

/// What a peer is sent: what its link speaks (`known`), and until that is said the oldest format
/// that this program does.
#[must_use]
pub fn format_to(known: &BTreeMap<NodeId, u32>, formats: Formats, peer: NodeId) -> u32 {
    known.get(&peer).copied().unwrap_or(formats.oldest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_owns_its_share() {
        let owners: Vec<u16> = (1..=6).map(|number| owner(PartitionId(number), 3).0).collect();
        assert_eq!(owners, [1, 2, 0, 1, 2, 0]);
    }
}
