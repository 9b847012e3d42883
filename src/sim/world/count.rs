//! What the world counts of its nodes: what shards say they did, what disks tore, which snapshots
//! came, what the operator got.
//!
//! Absent on purpose: what clients hear, which they count themselves (`client.rs`).

use bytes::Bytes;

use super::World;
use crate::id::{NodeId, Position, ShardId};
use crate::shard::inbox::Role;
use crate::sim::coverage::{Coverage, Seen};
use crate::sim::node::Node;
use crate::sim::operator::Wish;
use crate::sim::shell;
use crate::wire::bundle;

impl World {
    /// The run is over: what its nodes and its operator know is counted.
    pub(crate) fn count(&mut self) {
        let coverage = &mut self.history.coverage;
        for node in &self.nodes {
            shards(node, coverage);
            let torn: u64 = node.cores.iter().map(|core| core.disk.torn).sum();
            coverage.add(Seen::Torn, torn);
        }
        let granted = self.operator.tasks.iter().filter(|task| task.granted);
        for task in granted.clone() {
            coverage.add(
                match task.act.what {
                    Wish::Found(_) => continue,
                    Wish::Join(_, Role::Witness) => Seen::WitnessJoined,
                    Wish::Join(..) => Seen::Joined,
                    Wish::Leave(_) | Wish::Dismiss(_) => Seen::Left,
                    Wish::Lead(_) => Seen::Transferred,
                },
                1,
            );
        }
        let mut granted = granted.map(|task| &task.act);
        let dismissed = granted.find(|act| matches!(act.what, Wish::Dismiss(_)));
        if let Some(gone) = dismissed {
            let joined = |act: &Wish| matches!(act, Wish::Join(..));
            let tasks = self.operator.tasks.iter();
            let mut its = tasks.filter(|task| task.act.partition == gone.partition && task.done);
            let replaced = its.any(|task| joined(&task.act.what));
            coverage.add(Seen::Replaced, u64::from(replaced));
        }
    }

    /// A snapshot comes for a replica.
    pub(super) fn count_snapshot(
        &mut self,
        from: NodeId,
        (to, shard): (NodeId, ShardId),
        bytes: &Bytes,
    ) {
        let node = &mut self.nodes[to.0 as usize - 1];
        let Ok(received) = bundle::decode_snapshot(bytes, from, to, node.formats) else { return };
        let core = &mut node.cores[usize::from(shard.0)];
        let Some(here) = &core.shard else { return };
        let partition = received.partition;
        let mut all = shell::positions(here);
        let Some((_, applied)) = all.find(|(id, _)| *id == partition) else { return };
        let position = received.message.get_snapshot().get_metadata().index;
        if position <= applied.0 && core.snapshots.get(&partition) != Some(&applied) {
            return;
        }
        let before = core.snapshots.insert(partition, Position(position));
        self.history.coverage.note(Seen::Snapshot);
        if before.is_some_and(|before| applied <= before) {
            self.history.coverage.note(Seen::SnapshotAgain);
        }
    }
}

/// What the shards of a node say they did since it started; said once, before they are gone.
pub(super) fn shards(node: &Node, into: &mut Coverage) {
    for shard in node.cores.iter().filter_map(|core| core.shard.as_ref()) {
        let stats = shard.stats();
        into.add(Seen::Forwarded, stats.passed_on);
        into.add(Seen::PostMissed, stats.posts_missed);
    }
}
