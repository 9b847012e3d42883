//! Which nodes found which partition, and which of them leads it first: the same on every node.
//!
//! A function of the nodes and the number of the partition and nothing else, so that nobody has to
//! be asked. Nodes take turns in leading, and each round begins at another node, so that a node's
//! partitions are spread over its cores too (`route.rs`), whatever numbers of nodes and cores there
//! are. The other replicas follow at distances that change from round to round: the partitions of a
//! node that fails have their next leaders on all others. Absent on purpose: moving what is there
//! when nodes come or go; that is a change of membership.

use crate::{
    id::{NodeId, PartitionId},
    shard::inbox::Contact,
};

/// What a node is told of the cluster that it was founded with.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Placement {
    /// The founding nodes, ordered by id; none: there is no placement.
    nodes: Vec<Contact>,
    partitions: u32,
    replicas: usize,
}

impl Placement {
    /// Of partitions 1 to `partitions` over these nodes, which are all different; as many replicas
    /// as wanted and possible.
    #[must_use]
    pub fn new(mut nodes: Vec<Contact>, partitions: u32, replicas: usize) -> Placement {
        nodes.sort_by_key(|contact| contact.node);
        assert!(nodes.windows(2).all(|pair| pair[0].node < pair[1].node), "a node is there twice");
        let replicas = replicas.clamp(1, nodes.len().max(1));
        Placement { nodes, partitions, replicas }
    }

    /// The founding nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Contact] {
        &self.nodes
    }

    /// Every partition that is placed.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> + use<> {
        let count = if self.nodes.is_empty() { 0 } else { self.partitions };
        (1..=count).map(PartitionId)
    }

    /// The members of a partition, its first leader first; nobody when it is not placed.
    pub fn members(&self, partition: PartitionId) -> impl Iterator<Item = &Contact> + Clone {
        let count = self.nodes.len();
        let placed = count > 0 && (1..=self.partitions).contains(&partition.0);
        let turn = partition.0.wrapping_sub(1) as usize;
        let round = turn.checked_div(count).unwrap_or(0);
        let leader = turn + first_of(round, count);
        let replicas = if placed { self.replicas } else { 0 };
        (0..replicas).map(move |place| {
            // Distances 1 to count - 1, each once.
            let distance = if place == 0 { 0 } else { 1 + (round + place - 1) % (count - 1) };
            &self.nodes[(leader + distance) % count]
        })
    }

    /// Whether this node is a member.
    #[must_use]
    pub fn has(&self, partition: PartitionId, node: NodeId) -> bool {
        self.members(partition).any(|member| member.node == node)
    }
}

/// Where a round begins: multiples of the golden ratio, which no period follows.
fn first_of(round: usize, count: usize) -> usize {
    let fraction = (round as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((u128::from(fraction) * count as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::shard::route;

    fn placement(nodes: u32, partitions: u32, replicas: usize) -> Placement {
        let contact = |id| Contact { node: NodeId(id), host: format!("n{id}"), port: 5679 };
        Placement::new((1..=nodes).map(contact).collect(), partitions, replicas)
    }

    fn ids(placement: &Placement, partition: u32) -> Vec<u32> {
        placement.members(PartitionId(partition)).map(|member| member.node.0).collect()
    }

    #[test]
    fn three_nodes_share_eight_partitions() {
        let placement = placement(3, 8, 2);
        let all: Vec<_> = (1..=8).map(|partition| ids(&placement, partition)).collect();
        let expected =
            [[1, 2], [2, 3], [3, 1], [2, 1], [3, 2], [1, 3], [1, 2], [2, 3]].map(Vec::from);
        assert_eq!(all, expected);
        assert!(ids(&placement, 0).is_empty());
        assert!(ids(&placement, 9).is_empty());
    }

    #[test]
    fn members_are_different_and_as_many_as_there_can_be() {
        for nodes in 1..=7 {
            for replicas in 1..=7 {
                let placement = placement(nodes, 40, replicas);
                for partition in 1..=40 {
                    let members = ids(&placement, partition);
                    let different: BTreeSet<u32> = members.iter().copied().collect();
                    assert_eq!(members.len(), replicas.min(nodes as usize));
                    assert_eq!(different.len(), members.len(), "{members:?}");
                }
            }
        }
    }

    #[test]
    fn nodes_and_their_cores_have_equal_shares() {
        for nodes in 1..=6u32 {
            for shards in 1..=6u16 {
                // A multiple of everything that could resonate.
                let partitions = 60 * nodes * u32::from(shards);
                let placement = placement(nodes, partitions, 3);
                let mut leads = vec![0; nodes as usize * usize::from(shards)];
                let mut holds = vec![0; nodes as usize];
                for partition in 1..=partitions {
                    let members = ids(&placement, partition);
                    let core = route::owner(PartitionId(partition), shards).0;
                    leads[(members[0] as usize - 1) * usize::from(shards) + usize::from(core)] += 1;
                    members.iter().for_each(|node| holds[*node as usize - 1] += 1);
                }
                let spread = |shares: &[u32]| {
                    shares.iter().max().expect("some") - shares.iter().min().expect("some")
                };
                let replicas = 3.min(nodes);
                assert!(holds.iter().all(|held| *held == partitions * replicas / nodes));
                // A core's share is 60. Multiples of one number alone would leave some cores none.
                assert!(spread(&leads) <= 20, "{nodes} nodes of {shards}: {leads:?}");
            }
        }
    }

    #[test]
    fn the_heirs_of_a_node_are_all_others() {
        let placement = placement(5, 200, 3);
        for lost in 1..=5 {
            let mut heirs = BTreeSet::new();
            for partition in 1..=200 {
                let members = ids(&placement, partition);
                if members[0] == lost {
                    heirs.insert(members[1]);
                }
            }
            assert_eq!(heirs.len(), 4, "of node {lost}");
        }
    }
}
