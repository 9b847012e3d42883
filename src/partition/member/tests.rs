//! What a leader does about its members, without a log: each wish to its end, step by step.

use super::*;
use crate::id::ShardId;

fn member(node: u32, role: Role) -> Member {
    Member { node: NodeId(node), host: format!("node-{node}"), port: 5679, role }
}

fn three() -> Vec<Member> {
    (1..=3).map(|node| member(node, Role::Member)).collect()
}

fn ticket() -> Ticket {
    Ticket { shard: ShardId(0), slot: 1, generation: 0 }
}

/// Drives wishes on a configuration without a log, as its leader would, until nothing is left.
fn driven(
    me: u32,
    conf: &mut ConfState,
    members: &mut Vec<Member>,
    change: Change,
) -> (Vec<String>, Result<(), Refusal>) {
    let mut wishes = Wishes::default();
    wishes.add(ticket(), change, None).expect("room");
    let (mut steps, mut replies) = (Vec::new(), Replies::default());
    loop {
        let standing = Standing { conf, members, me: NodeId(me), changing: false };
        wishes.answer(&standing, Instant(0), &mut replies);
        let Some(next) = wishes.next(&standing, |_| true, |_| true) else { break };
        let Next::Propose(step) = next else {
            steps.push(format!("{next:?}"));
            break;
        };
        let step = Step::decode(&step.encode()).expect("it comes back as it was");
        let kind = if step.change.leave_joint() {
            "left".to_owned()
        } else {
            let joint = step.change.get_transition() == ConfChangeTransition::Explicit;
            let single = &step.change.changes[0];
            let way = if joint { "joint" } else { "simple" };
            format!("{way} {:?} {}", single.get_change_type(), single.node_id)
        };
        steps.push(kind);
        take(conf, &step.change);
        *members = step.members;
    }
    let refused = replies.list.iter().find_map(|reply| match &reply.body {
        crate::partition::reply::Body::Refused(refusal) => Some(refusal.clone()),
        _ => None,
    });
    (steps, refused.map_or(Ok(()), Err))
}

/// What raft makes of a change, for changes of one node.
fn take(conf: &mut ConfState, change: &ConfChangeV2) {
    if change.leave_joint() {
        conf.voters_outgoing.clear();
        let next = std::mem::take(&mut conf.learners_next);
        conf.learners.extend(next);
        return;
    }
    let joint = change.get_transition() == ConfChangeTransition::Explicit;
    if joint {
        conf.voters_outgoing = conf.voters.clone();
    }
    let (node, kind) = (change.changes[0].node_id, change.changes[0].get_change_type());
    let voted = conf.voters.contains(&node);
    conf.voters.retain(|id| *id != node);
    conf.learners.retain(|id| *id != node);
    match kind {
        ConfChangeType::AddNode => conf.voters.push(node),
        ConfChangeType::AddLearnerNode if voted && joint => conf.learners_next.push(node),
        ConfChangeType::AddLearnerNode => conf.learners.push(node),
        ConfChangeType::RemoveNode => {}
    }
}

#[test]
fn who_is_admitted_listens_first_and_votes_when_it_has_caught_up() {
    let (mut conf, mut members) = (conf_state(&[1, 2, 3], &[]), three());
    let admit = Change::Admit(member(4, Role::Member));
    let (steps, end) = driven(1, &mut conf, &mut members, admit.clone());
    assert_eq!(steps, ["simple AddLearnerNode 4", "joint AddNode 4", "left"]);
    assert_eq!((end, &conf.voters[..]), (Ok(()), &[1, 2, 3, 4][..]));
    assert_eq!(members.len(), 4);
    let (again, end) = driven(2, &mut conf, &mut members, admit);
    assert_eq!((again, end), (Vec::new(), Ok(())), "what is so needs nothing");
}

#[test]
fn an_observer_stays_one_until_it_is_asked_to_vote() {
    let (mut conf, mut members) = (conf_state(&[1, 2, 3], &[]), three());
    let observes = Change::Admit(member(4, Role::Observer));
    let (steps, _) = driven(1, &mut conf, &mut members, observes.clone());
    assert_eq!(steps, ["simple AddLearnerNode 4"]);
    let (steps, _) = driven(1, &mut conf, &mut members, Change::Admit(member(4, Role::Member)));
    assert_eq!(steps, ["simple AddLearnerNode 4", "joint AddNode 4", "left"]);
    let (steps, _) = driven(1, &mut conf, &mut members, observes);
    assert_eq!(steps, ["joint AddLearnerNode 4", "left"]);
    assert_eq!((&conf.voters[..], &conf.learners[..]), (&[1, 2, 3][..], &[4][..]));
}

#[test]
fn who_is_dismissed_is_named_until_the_joint_configuration_is_left() {
    let (mut conf, mut members) = (conf_state(&[1, 2, 3], &[]), three());
    let (steps, end) = driven(1, &mut conf, &mut members, Change::Dismiss(NodeId(3)));
    assert_eq!(steps, ["joint RemoveNode 3", "left"]);
    assert_eq!((end, members.len()), (Ok(()), 2));
}

#[test]
fn a_leader_that_is_to_go_hands_over_first() {
    let (mut conf, mut members) = (conf_state(&[1, 2, 3], &[]), three());
    let (steps, _) = driven(1, &mut conf, &mut members, Change::Dismiss(NodeId(1)));
    assert_eq!(steps, ["HandOver(None)"]);
    let (steps, _) = driven(1, &mut conf, &mut members, Change::Lead(Some(NodeId(2))));
    assert_eq!(steps, ["HandOver(Some(NodeId(2)))"]);
}

#[test]
fn a_joint_configuration_is_left_by_whoever_leads() {
    let mut conf = conf_state(&[1, 2, 3, 4], &[]);
    conf.voters_outgoing = vec![1, 2, 3];
    let members: Vec<_> = three().into_iter().chain([member(4, Role::Member)]).collect();
    let standing = Standing { conf: &conf, members: &members, me: NodeId(2), changing: false };
    let next = Wishes::default().next(&standing, |_| false, |_| true);
    assert!(matches!(next, Some(Next::Propose(step)) if step.change.leave_joint()));
    let mut conf = conf_state(&[1, 2], &[]);
    conf.voters_outgoing = vec![1, 2, 3];
    let standing = Standing { conf: &conf, members: &members, me: NodeId(3), changing: false };
    let next = Wishes::default().next(&standing, |_| false, |_| true);
    assert_eq!(next, Some(Next::HandOver(None)), "who goes does not leave it as leader");
}

#[test]
fn what_can_never_be_is_refused() {
    let alone = vec![member(1, Role::Member), member(2, Role::Observer)];
    let mut conf = conf_state(&[1], &[2]);
    let cases = [
        Change::Dismiss(NodeId(1)),
        Change::Admit(member(1, Role::Observer)),
        Change::Lead(None),
        Change::Lead(Some(NodeId(2))),
        Change::Admit(Member { host: "node-2".to_owned(), ..member(3, Role::Member) }),
    ];
    for change in cases {
        let (steps, end) = driven(1, &mut conf, &mut alone.clone(), change.clone());
        assert!(steps.is_empty(), "{change:?} leads to {steps:?}");
        assert!(matches!(end, Err(Refusal::Precondition(_))), "{change:?}: {end:?}");
    }
}

#[test]
fn nobody_goes_while_those_who_stay_are_no_majority() {
    let (conf, members) = (conf_state(&[1, 2, 3], &[]), three());
    let standing = Standing { conf: &conf, members: &members, me: NodeId(1), changing: false };
    let mut wishes = Wishes::default();
    wishes.add(ticket(), Change::Dismiss(NodeId(3)), None).expect("room");
    assert_eq!(wishes.next(&standing, |_| true, |id| id == 3), None, "2 is not there");
    assert!(wishes.next(&standing, |_| true, |id| id == 2).is_some());
}

#[test]
fn a_witness_votes_and_is_never_asked_to_lead() {
    let (mut conf, mut members) = (conf_state(&[1, 2], &[]), three()[..2].to_vec());
    let admit = Change::Admit(member(3, Role::Witness));
    let (steps, end) = driven(1, &mut conf, &mut members, admit.clone());
    assert_eq!(steps, ["simple AddLearnerNode 3", "joint AddNode 3", "left"]);
    assert_eq!((end, &conf.voters[..]), (Ok(()), &[1, 2, 3][..]));
    assert!(witness::is_among(&members, NodeId(3)) && !witness::is_among(&members, NodeId(2)));
    let (steps, end) = driven(1, &mut conf, &mut members, Change::Lead(Some(NodeId(3))));
    assert!(steps.is_empty() && matches!(end, Err(Refusal::Precondition(_))), "{steps:?} {end:?}");
    let (steps, _) = driven(1, &mut conf, &mut members, Change::Dismiss(NodeId(3)));
    assert_eq!(steps, ["joint RemoveNode 3", "left"]);
}

#[test]
fn who_alone_can_lead_stays() {
    let members = vec![member(1, Role::Member), member(2, Role::Witness)];
    let mut conf = conf_state(&[1, 2], &[]);
    for change in
        [Change::Dismiss(NodeId(1)), Change::Admit(member(1, Role::Observer)), Change::Lead(None)]
    {
        let (steps, end) = driven(1, &mut conf, &mut members.clone(), change);
        assert!(steps.is_empty() && matches!(end, Err(Refusal::Precondition(_))), "{end:?}");
    }
    let (steps, _) = driven(1, &mut conf, &mut members.clone(), Change::Dismiss(NodeId(2)));
    assert_eq!(steps, ["joint RemoveNode 2", "left"], "the witness may go");
}

#[test]
fn a_witness_stays_one_and_nobody_becomes_one() {
    let members = vec![
        member(1, Role::Member),
        member(2, Role::Member),
        member(3, Role::Witness),
        member(4, Role::Observer),
    ];
    let conf = conf_state(&[1, 2, 3], &[4]);
    for (node, role, fits) in [
        (3, Role::Member, false),
        (3, Role::Observer, false),
        (2, Role::Witness, false),
        (1, Role::Witness, false),
        (4, Role::Witness, false),
        (3, Role::Witness, true),
        (4, Role::Member, true),
        (2, Role::Observer, true),
    ] {
        let moved = Member { host: "elsewhere".to_owned(), ..member(node, role) };
        let (steps, end) = driven(1, &mut conf.clone(), &mut members.clone(), Change::Admit(moved));
        assert_eq!(end.is_ok(), fits, "node {node} as {role:?}: {steps:?} {end:?}");
        assert_eq!(steps.is_empty(), !fits, "node {node} as {role:?}: {steps:?}");
    }
}

#[test]
fn a_learner_far_behind_is_not_made_a_voter() {
    let conf = conf_state(&[1], &[2]);
    let members = vec![member(1, Role::Member), member(2, Role::Member)];
    let standing = Standing { conf: &conf, members: &members, me: NodeId(1), changing: false };
    assert_eq!(Wishes::default().next(&standing, |_| false, |_| true), None);
    assert!(Wishes::default().next(&standing, |_| true, |_| true).is_some());
}

#[test]
fn foreign_bytes_are_no_step() {
    let step = joint(ConfChangeType::AddNode, NodeId(4), three());
    let bytes = step.encode();
    assert_eq!(Step::decode(&bytes).as_ref(), Some(&step));
    assert_eq!(Step::decode(&bytes[..bytes.len() - 1]), None);
    let nobody = joint(ConfChangeType::AddNode, NodeId(0), three());
    assert_eq!(Step::decode(&nobody.encode()), None);
    let twice = three().into_iter().chain(three()).collect();
    assert_eq!(Step::decode(&joint(ConfChangeType::AddNode, NodeId(4), twice).encode()), None);
}
