//! `ringraft cluster move-leader` and `balance`: which node leads which partition.
//!
//! Leaders are even when no two nodes differ by more than one, as far as the partitions' members
//! allow. A plan takes the fewest moves from the node that leads most to the one that leads least:
//! directly, or over nodes between them when they share no partition.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::json;

use super::change::anyone;
use super::look::{Line, View};
use super::{Which, seen};
use crate::cli::target::Target;
use crate::cli::{Exit, Failure, note};
use crate::client::connection::Method;
use crate::id::NodeId;
use crate::wire::cluster::{MoveLeaderRequest, MoveLeaderResponse, Part, Role};

/// `cluster move-leader`.
pub(super) async fn move_leader(
    target: &Target,
    partition: u32,
    node: u32,
) -> Result<Exit, Failure> {
    let view = seen(target, &[]).await?;
    let lines = Which { partition: vec![partition] }.of(&view)?;
    let to = NodeId(node);
    if lines[0].leader == u64::from(node) {
        let json = json!({ "partition": partition, "leader": node, "did": "nothing" });
        target.tell(&json, &format_args!("partition {partition}: node {node} leads already"));
        return Ok(Exit::Done);
    }
    hand_over(target, &view, &lines[0], to).await?;
    Ok(Exit::Done)
}

/// `cluster balance`.
pub(super) async fn balance(
    target: &Target,
    dry_run: bool,
    which: &Which,
) -> Result<Exit, Failure> {
    let view = seen(target, &[]).await?;
    let lines = which.of(&view)?;
    let mut seats: Vec<Seat> = lines.iter().filter_map(Seat::of).collect();
    let moves = even(&mut seats);
    for (partition, from, to) in &moves {
        let line = lines.iter().find(|line| line.partition == *partition);
        if dry_run {
            let json = json!({ "partition": partition, "from": from.0, "leader": to.0,
                "did": "nothing" });
            let text = format_args!("partition {partition}: would go from node {from} to {to}");
            target.tell(&json, &text);
        } else if let Some(line) = line {
            hand_over(target, &view, line, *to).await?;
        }
    }
    if !target.json {
        let each: Vec<String> = counts(&seats)
            .iter()
            .map(|(node, leads)| format!("node {node} leads {leads}"))
            .collect();
        let would = if dry_run && !moves.is_empty() { "then " } else { "" };
        note(&format_args!("{would}{}", each.join(", ")));
        let without = lines.len() - seats.len();
        if without > 0 {
            note(&format_args!("{without} partitions have no leader now and were left alone"));
        }
    }
    Ok(Exit::Done)
}

async fn hand_over(target: &Target, view: &View, line: &Line, to: NodeId) -> Result<(), Failure> {
    let partition = line.partition;
    let timeout = Some(prost_types::Duration {
        seconds: i64::try_from(target.timeout.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(target.timeout.subsec_nanos()).unwrap_or(0),
    });
    let request = MoveLeaderRequest { partition_id: partition, node_id: to.0, timeout };
    let leader = u32::try_from(line.leader).map_or(NodeId(0), NodeId);
    let moved = anyone(target, view, view.address_of(leader), &MOVE, &request).await;
    let MoveLeaderResponse {} = moved.map_err(|fault| {
        let failure = target.failure(fault);
        Failure { what: format!("partition {partition}: {}", failure.what), ..failure }
    })?;
    let from = (line.leader > 0).then_some(line.leader);
    let json = json!({ "partition": partition, "from": from, "leader": to.0, "did": "moved" });
    target.tell(&json, &format_args!("partition {partition}: node {to} leads"));
    Ok(())
}

/// A partition, who leads it and who could.
#[derive(Debug, Clone)]
struct Seat {
    partition: u32,
    leader: NodeId,
    could: BTreeSet<NodeId>,
}

impl Seat {
    fn of(line: &Line) -> Option<Seat> {
        let leader = u32::try_from(line.leader).ok().filter(|id| *id > 0).map(NodeId)?;
        let could = line.members.iter().filter(|member| {
            member.answers
                && member.heard != Some(false)
                && member.part == Part::Votes
                && member.role == Role::Member
        });
        let could: BTreeSet<NodeId> = could.map(|member| member.node).chain([leader]).collect();
        Some(Seat { partition: line.partition, leader, could })
    }
}

/// How many each node leads, of those that could lead something.
fn counts(seats: &[Seat]) -> BTreeMap<NodeId, usize> {
    let mut counts: BTreeMap<NodeId, usize> =
        seats.iter().flat_map(|seat| &seat.could).map(|node| (*node, 0)).collect();
    for seat in seats {
        *counts.entry(seat.leader).or_default() += 1;
    }
    counts
}

/// Makes the leaders even; the partitions that change, each once, from whom to whom.
fn even(seats: &mut [Seat]) -> Vec<(u32, NodeId, NodeId)> {
    let before: Vec<NodeId> = seats.iter().map(|seat| seat.leader).collect();
    // Each way brings two counts nearer to each other, so there are not many.
    while let Some(way) = way(seats) {
        for (place, to) in way {
            seats[place].leader = to;
        }
    }
    let moved = seats.iter().zip(before).filter(|(seat, before)| seat.leader != *before);
    moved.map(|(seat, before)| (seat.partition, before, seat.leader)).collect()
}

/// Seats and who gets them, so that a node leads one less and another one, which led at least two
/// less, one more; from a node that leads as many as possible.
fn way(seats: &[Seat]) -> Option<Vec<(usize, NodeId)>> {
    let counts = counts(seats);
    let mut busy: Vec<(usize, NodeId)> =
        counts.iter().map(|(node, leads)| (*leads, *node)).collect();
    busy.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    for (most, start) in busy {
        // How each node is reached first: by which seat, from whom.
        let mut reached: BTreeMap<NodeId, Option<(usize, NodeId)>> =
            BTreeMap::from([(start, None)]);
        let mut next = VecDeque::from([start]);
        let mut best: Option<(usize, NodeId)> = None;
        while let Some(from) = next.pop_front() {
            for (place, seat) in seats.iter().enumerate().filter(|(_, seat)| seat.leader == from) {
                for to in &seat.could {
                    if reached.contains_key(to) {
                        continue;
                    }
                    reached.insert(*to, Some((place, from)));
                    next.push_back(*to);
                    let leads = counts[to];
                    if leads + 2 <= most && best.is_none_or(|(least, _)| leads < least) {
                        best = Some((leads, *to));
                    }
                }
            }
        }
        let Some((_, mut to)) = best else { continue };
        let mut way = Vec::new();
        while let Some((place, from)) = reached[&to] {
            way.push((place, to));
            to = from;
        }
        return Some(way);
    }
    None
}

const MOVE: Method<MoveLeaderRequest, MoveLeaderResponse> =
    Method::at("/ringraft.cluster.v1.Cluster/MoveLeader");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::Prng;

    fn seats(all: &[(u32, &[u32])]) -> Vec<Seat> {
        let seat = |(at, (leader, could)): (usize, &(u32, &[u32]))| Seat {
            partition: at as u32 + 1,
            leader: NodeId(*leader),
            could: could.iter().copied().map(NodeId).collect(),
        };
        all.iter().enumerate().map(seat).collect()
    }

    fn leads(seats: &[Seat]) -> Vec<usize> {
        counts(seats).into_values().collect()
    }

    #[test]
    fn what_is_even_stays() {
        let mut even_already = seats(&[(1, &[1, 2, 3]), (2, &[1, 2, 3]), (1, &[1, 2, 3])]);
        // Nobody differs by two: 2 1 0 does.
        assert_eq!(even(&mut even_already).len(), 1);
        assert_eq!(leads(&even_already), [1, 1, 1]);
        assert_eq!(even(&mut even_already), []);
    }

    #[test]
    fn all_on_one_node_are_spread_over_all() {
        let mut all = seats(&[(1, &[1, 2, 3][..]); 8]);
        assert_eq!(even(&mut all).len(), 5);
        let mut leads = leads(&all);
        leads.sort_unstable();
        assert_eq!(leads, [2, 3, 3]);
    }

    #[test]
    fn a_way_may_lead_over_a_third_node() {
        // 1 and 3 share nothing: 1 gives to 2, who gives to 3.
        let mut all = seats(&[(1, &[1, 2]), (1, &[1, 2]), (2, &[2, 3])]);
        assert_eq!(even(&mut all).len(), 2);
        assert_eq!(leads(&all), [1, 1, 1]);
    }

    #[test]
    fn nobody_leads_what_it_has_no_part_in_and_the_spread_is_least() {
        for seed in 1..=200 {
            let mut prng = Prng::new(seed);
            let nodes = 2 + prng.below(4) as u32;
            let count = 1 + prng.below(20) as usize;
            let mut all = Vec::new();
            for partition in 1..=count as u32 {
                let mut could: BTreeSet<NodeId> =
                    (1..=nodes).filter(|_| prng.chance(600)).map(NodeId).collect();
                could.insert(NodeId(1 + prng.below(nodes.into()) as u32));
                let all_of: Vec<NodeId> = could.iter().copied().collect();
                all.push(Seat { partition, leader: *prng.pick(&all_of), could });
            }
            let before = leads(&all);
            let moves = even(&mut all);
            let after = leads(&all);
            assert_eq!(before.iter().sum::<usize>(), after.iter().sum::<usize>(), "seed {seed}");
            assert!(all.iter().all(|seat| seat.could.contains(&seat.leader)), "seed {seed}");
            let changed: BTreeSet<u32> = moves.iter().map(|(partition, ..)| *partition).collect();
            assert_eq!(changed.len(), moves.len(), "seed {seed}: each moves once");
            let squares = |leads: &[usize]| leads.iter().map(|count| count * count).sum::<usize>();
            assert!(squares(&after) <= squares(&before), "seed {seed}");
            assert_eq!(way(&all), None, "seed {seed}: nothing is left to do");
        }
    }
}
