//! The election's stories, the reference's ways to crash or to elect the wrong one, and a plain
//! model.

use prost::Message;

use super::*;
use crate::id::{Kind, PrimitiveId};
use crate::partition::rig::*;
use crate::prng::Prng;
use crate::time::Span;
use crate::wire::proto::election::v1::{GetTermOutput, Term};

const HOUR: Span = Span::secs(3600);

struct Poll {
    rig: Rig,
    sessions: Vec<SessionId>,
    election: PrimitiveId,
    number: u64,
}

impl Poll {
    fn new(sessions: usize) -> Poll {
        let mut rig = Rig::new();
        let sessions: Vec<SessionId> = (0..sessions).map(|_| rig.open(HOUR)).collect();
        let mut election = PrimitiveId(0);
        for session in &sessions {
            election = rig.create(*session, 1, Kind::LeaderElection, "boss");
        }
        Poll { rig, sessions, election, number: 1 }
    }

    /// An operation; the term that it answers, as text.
    fn run(&mut self, who: usize, tag: u32, name: &str) -> String {
        self.number += 1;
        let op = elect(tag, name);
        let body = command(self.sessions[who], self.number, self.election, &op);
        let said = text(ok(&self.rig.run(body)));
        assert_eq!(said, self.term(), "the answer is the term after the operation");
        said
    }

    fn term(&mut self) -> String {
        let session = *self.rig.machine_sessions().first().expect("one is open");
        let op = Op(Kind::LeaderElection, GET_TERM, vec![]);
        text(ok(&self.rig.ask(session, self.election, op)))
    }
}

impl Rig {
    fn machine_sessions(&self) -> Vec<SessionId> {
        self.machine.ledger.sessions.keys().copied().collect()
    }
}

fn text(output: &[u8]) -> String {
    let term = GetTermOutput::decode(output).expect("a term").term.expect("always there");
    show(&term)
}

fn show(term: &Term) -> String {
    format!("{}: {} < {}", term.index, term.leader, term.candidates.join(" "))
}

#[test]
fn the_queue_forms_behind_the_leader() {
    let mut poll = Poll::new(2);
    assert_eq!(poll.term(), "0:  < ");
    assert_eq!(poll.run(0, ENTER, "a"), "1: a < ");
    assert_eq!(poll.run(1, ENTER, "b"), "1: a < b");
    assert_eq!(poll.run(0, ENTER, "c"), "1: a < b c");
    assert_eq!(poll.run(0, ENTER, "a"), "1: a < b c", "the leader is not queued behind itself");
    assert_eq!(poll.run(0, ENTER, "b"), "1: a < b c", "the first owner stays");
}

/// primitives.md E-01, E-02, E-11: the reference dies of these, or elects another.
#[test]
fn candidates_move_as_asked() {
    let mut poll = Poll::new(1);
    for name in ["a", "b", "c", "d"] {
        poll.run(0, ENTER, name);
    }
    assert_eq!(poll.run(0, PROMOTE, "c"), "1: a < c b d");
    assert_eq!(poll.run(0, PROMOTE, "c"), "2: c < a b d");
    assert_eq!(poll.run(0, DEMOTE, "a"), "2: c < b a d");
    assert_eq!(poll.run(0, DEMOTE, "d"), "2: c < b a d", "the last goes no further");
    assert_eq!(poll.run(0, DEMOTE, "c"), "3: b < c a d");
    assert_eq!(poll.run(0, ANOINT, "a"), "4: a < b c d");
    assert_eq!(poll.run(0, ANOINT, "nobody"), "4: a < b c d");
    assert_eq!(poll.run(0, EVICT, "c"), "4: a < b d");
    assert_eq!(poll.run(0, EVICT, "a"), "5: b < d");
    assert_eq!(poll.run(0, EVICT, "d"), "5: b < ");
    assert_eq!(poll.run(0, DEMOTE, "b"), "5: b < ", "nobody to change with");
    assert_eq!(poll.run(0, EVICT, "b"), "5:  < ", "the last leader of term 5 is gone");
    assert_eq!(poll.run(0, PROMOTE, "b"), "5:  < ");
}

#[test]
fn withdrawing_is_by_name_and_by_owner() {
    let mut poll = Poll::new(2);
    for (who, name) in [(0, "a"), (1, "b"), (0, "c"), (1, "d")] {
        poll.run(who, ENTER, name);
    }
    assert_eq!(poll.run(0, WITHDRAW, "b"), "1: a < b c d");
    assert_eq!(poll.run(1, WITHDRAW, "b"), "1: a < c d");
    assert_eq!(poll.run(1, WITHDRAW, ""), "1: a < c d");
    assert_eq!(poll.run(0, WITHDRAW, ""), "2: c < d");
    assert_eq!(poll.run(0, WITHDRAW, "a"), "2: c < d");
    assert_eq!(poll.run(0, WITHDRAW, "c"), "3: d < ");
    assert_eq!(poll.run(1, WITHDRAW, "d"), "3:  < ");
}

/// primitives.md E-03, E-06, E-07: zombies, dethroned leaders, and a crash when leader and
/// candidate share a session that closes.
#[test]
fn a_session_takes_all_its_candidates_with_it() {
    let mut poll = Poll::new(3);
    for (who, name) in [(0, "a"), (1, "b"), (0, "c"), (2, "d")] {
        poll.run(who, ENTER, name);
    }
    poll.rig.run(close_session(poll.sessions[1]));
    assert_eq!(poll.term(), "1: a < c d", "a candidate of a dead session does not stay");
    poll.rig.run(close_session(poll.sessions[0]));
    assert_eq!(poll.term(), "2: d < ");
    let number = poll.number + 1;
    poll.rig.run(close_primitive(poll.sessions[2], number, poll.election));
    let session = poll.rig.open(HOUR);
    poll.rig.create(session, 1, Kind::LeaderElection, "boss");
    assert_eq!(
        text(ok(&poll.rig.ask(session, poll.election, Op(Kind::LeaderElection, 6, vec![])))),
        "2:  < "
    );
}

#[test]
fn leader_and_candidates_of_one_session_end_together() {
    let mut poll = Poll::new(2);
    poll.run(0, ENTER, "a");
    poll.run(0, ENTER, "b");
    poll.rig.run(close_session(poll.sessions[0]));
    assert_eq!(poll.term(), "1:  < ");
    assert_eq!(poll.run(1, ENTER, "c"), "2: c < ");
}

#[test]
fn a_watcher_sees_the_term_and_every_change_of_it() {
    let mut poll = Poll::new(2);
    let op = Op(Kind::LeaderElection, WATCH, vec![]);
    let early = poll.rig.watch(poll.sessions[1], poll.election, op.clone());
    assert_eq!(poll.rig.take(early), []);
    poll.run(0, ENTER, "a");
    let late = poll.rig.watch(poll.sessions[1], poll.election, op);
    poll.run(0, ENTER, "a");
    poll.run(1, ENTER, "b");
    poll.rig.run(close_session(poll.sessions[0]));
    let seen = |said: Vec<Said>| -> Vec<String> {
        said.iter().map(|said| text(ok(std::slice::from_ref(said)))).collect()
    };
    let all = ["1: a < ", "1: a < b", "2: b < "];
    assert_eq!(seen(poll.rig.take(early)), all);
    assert_eq!(seen(poll.rig.take(late)), all);
}

/// An election by the words of the specification, on a plain list whose first is the leader.
#[derive(Default)]
struct Model {
    term: u64,
    /// Leader first.
    line: Vec<(String, SessionId)>,
}

impl Model {
    fn place(&self, name: &str) -> Option<usize> {
        self.line.iter().position(|candidate| candidate.0 == name)
    }

    fn run(&mut self, tag: u32, name: &str, session: SessionId) {
        let leader = self.line.first().map(|leader| leader.0.clone());
        match (tag, self.place(name)) {
            (ENTER, None) => self.line.push((name.to_owned(), session)),
            (WITHDRAW, Some(at)) if self.line[at].1 == session => drop(self.line.remove(at)),
            (EVICT, Some(at)) => drop(self.line.remove(at)),
            (ANOINT, Some(at)) => {
                let candidate = self.line.remove(at);
                self.line.insert(0, candidate);
            }
            (PROMOTE, Some(at)) if at > 0 => self.line.swap(at, at - 1),
            (DEMOTE, Some(at)) if at + 1 < self.line.len() => self.line.swap(at, at + 1),
            _ => {}
        }
        self.elected(leader);
    }

    fn leave(&mut self, session: SessionId) {
        let leader = self.line.first().map(|leader| leader.0.clone());
        self.line.retain(|candidate| candidate.1 != session);
        self.elected(leader);
    }

    fn elected(&mut self, before: Option<String>) {
        let after = self.line.first().map(|leader| leader.0.clone());
        self.term += u64::from(after.is_some() && after != before);
    }

    fn show(&self) -> String {
        let names: Vec<&str> = self.line.iter().map(|candidate| &*candidate.0).collect();
        let (leader, rest) = names.split_first().unwrap_or((&"", &[]));
        format!("{}: {leader} < {}", self.term, rest.join(" "))
    }
}

#[test]
fn it_agrees_with_a_plain_model() {
    for seed in 0..25 {
        let mut prng = Prng::new(seed);
        let mut poll = Poll::new(4);
        let mut model = Model::default();
        for _ in 0..60 {
            let who = prng.below(4) as usize;
            let tag = *prng.pick(&[1, 1, 1, 2, 3, 4, 5, 8]);
            let name = *prng.pick(&["a", "b", "c", "d", "e"]);
            if prng.chance(50) {
                poll.rig.run(close_session(poll.sessions[who]));
                model.leave(poll.sessions[who]);
                poll.sessions[who] = poll.rig.open(HOUR);
                poll.rig.create(poll.sessions[who], 1, Kind::LeaderElection, "boss");
            } else {
                model.run(tag, name, poll.sessions[who]);
                poll.run(who, tag, name);
            }
            assert_eq!(poll.term(), model.show(), "seed {seed}");
        }
    }
}
