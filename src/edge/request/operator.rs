//! Requests of the Cluster service: what an operator asks of a partition.

use super::{Call, Form, decode};
use crate::edge::method::Cluster;
use crate::id::{NodeId, PartitionId};
use crate::limits::{OPERATOR_PATIENCE, OPERATOR_PATIENCE_MAX};
use crate::partition::reply::Refusal;
use crate::shard::inbox::Change;
use crate::time::Span;
use crate::wire::cluster::{DescribePartitionRequest, MoveLeaderRequest, RemoveMemberRequest};

pub(super) fn read(call: Cluster, message: &[u8]) -> Result<Call<'static>, Refusal> {
    let (partition, form) = match call {
        Cluster::DescribePartition => {
            let request = decode::<DescribePartitionRequest>(message)?;
            (request.partition_id, Form::Describe { here: request.here })
        }
        Cluster::RemoveMember => {
            let request = decode::<RemoveMemberRequest>(message)?;
            let change = Change::Dismiss(node(request.node_id)?);
            let patience = patience(request.timeout.as_ref())?;
            (request.partition_id, Form::Arrange { change, patience })
        }
        Cluster::MoveLeader => {
            let request = decode::<MoveLeaderRequest>(message)?;
            let change = Change::Lead(Some(node(request.node_id)?));
            let patience = patience(request.timeout.as_ref())?;
            (request.partition_id, Form::Arrange { change, patience })
        }
    };
    if partition == 0 {
        return Err(Refusal::Malformed("partition_id 0 names no partition".to_owned()));
    }
    Ok(Call { partition: PartitionId(partition), form })
}

fn node(id: u32) -> Result<NodeId, Refusal> {
    if id == 0 {
        return Err(Refusal::Malformed("node_id 0 names nobody".to_owned()));
    }
    Ok(NodeId(id))
}

fn patience(asked: Option<&prost_types::Duration>) -> Result<Span, Refusal> {
    let Some(asked) = asked else { return Ok(OPERATOR_PATIENCE) };
    let parts = (u64::try_from(asked.seconds), u64::try_from(asked.nanos));
    let (Ok(seconds), Ok(nanos)) = parts else {
        return Err(Refusal::Malformed("timeout is negative".to_owned()));
    };
    let asked = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    Ok(if asked == 0 { OPERATOR_PATIENCE } else { Span(asked).min(OPERATOR_PATIENCE_MAX) })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::id::Ticket;
    use crate::shard::inbox::{Ask, Requests};

    fn asked(call: Cluster, message: &[u8]) -> Result<(PartitionId, Ask), Refusal> {
        let mut into = Requests::default();
        let ticket = Ticket { shard: crate::id::ShardId(0), slot: 0, generation: 0 };
        read(call, message)?.write(ticket, None, &mut into);
        let request = into.list.pop().expect("it was written");
        assert!(request.body.is_empty());
        Ok((request.partition, request.ask))
    }

    fn removal(node_id: u32, seconds: i64, nanos: i32) -> Vec<u8> {
        let timeout = Some(prost_types::Duration { seconds, nanos });
        RemoveMemberRequest { partition_id: 3, node_id, timeout }.encode_to_vec()
    }

    #[test]
    fn what_an_operator_asks_is_read() {
        let describe = DescribePartitionRequest { partition_id: 7, here: true }.encode_to_vec();
        let read = asked(Cluster::DescribePartition, &describe).expect("read");
        assert!(matches!(read, (PartitionId(7), Ask::Describe { here: true })), "{read:?}");
        let lead = MoveLeaderRequest { partition_id: 7, node_id: 2, timeout: None };
        let (id, ask) = asked(Cluster::MoveLeader, &lead.encode_to_vec()).expect("read");
        let Ask::Arrange { change, patience } = ask else { panic!("{ask:?}") };
        assert_eq!((id, change), (PartitionId(7), Change::Lead(Some(NodeId(2)))));
        assert_eq!(patience, OPERATOR_PATIENCE);
        for (seconds, nanos, expected) in [
            (0, 0, OPERATOR_PATIENCE),
            (1, 500_000_000, Span::millis(1500)),
            (i64::MAX, 1, OPERATOR_PATIENCE_MAX),
        ] {
            let (_, ask) = asked(Cluster::RemoveMember, &removal(2, seconds, nanos)).expect("read");
            let Ask::Arrange { change, patience } = ask else { panic!("{ask:?}") };
            assert_eq!((change, patience), (Change::Dismiss(NodeId(2)), expected));
        }
    }

    #[test]
    fn what_names_nobody_is_refused() {
        let nowhere = DescribePartitionRequest::default().encode_to_vec();
        let lead = MoveLeaderRequest { partition_id: 1, node_id: 0, timeout: None }.encode_to_vec();
        for (call, message) in [
            (Cluster::DescribePartition, nowhere),
            (Cluster::DescribePartition, vec![0xFF]),
            (Cluster::RemoveMember, removal(0, 1, 0)),
            (Cluster::RemoveMember, removal(1, -1, 0)),
            (Cluster::RemoveMember, removal(1, 0, -1)),
            (Cluster::MoveLeader, lead),
        ] {
            let refused = asked(call, &message).expect_err("it names nothing");
            assert!(matches!(refused, Refusal::Malformed(_)), "{refused:?}");
        }
    }
}
