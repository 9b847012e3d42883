//! The lock's stories, the reference's ways to crash or lose mutual exclusion, and a plain model.

use std::collections::VecDeque;

use super::*;
use crate::id::{Kind, PrimitiveId};
use crate::partition::reply::Refusal;
use crate::partition::rig::*;
use crate::prng::Prng;
use crate::time::Span;

const MINUTE: Span = Span::secs(60);

fn rig(sessions: usize) -> (Rig, Vec<SessionId>, PrimitiveId) {
    let mut rig = Rig::new();
    let sessions: Vec<SessionId> = (0..sessions).map(|_| rig.open(Span::secs(3600))).collect();
    let mut lock = PrimitiveId(0);
    for session in &sessions {
        lock = rig.create(*session, 1, Kind::Lock, "door");
    }
    (rig, sessions, lock)
}

fn holder(rig: &mut Rig, session: SessionId, lock: PrimitiveId) -> Option<u64> {
    match &rig.ask(session, lock, Op(Kind::Lock, GET, vec![]))[..] {
        [Said::Out(_, 0, Status::Ok, bytes)] => {
            Some(crate::partition::machine::parse_id(bytes).expect("an index"))
        }
        [Said::Out(_, 0, Status::NotFound, text)] if text == b"local not held" => None,
        other => panic!("{other:?}"),
    }
}

/// primitives.md L-01: A holds, B waits, A releases, B releases: the reference dies, again at each
/// replay.
#[test]
fn it_is_free_again_after_contention() {
    let (mut rig, s, lock) = rig(2);
    let first = rig.run(command(s[0], 2, lock, &acquire(None)));
    assert_eq!(first, [Said::Out(5, 1, Status::Ok, number(5))]);
    let waiter = rig.send(command(s[1], 2, lock, &acquire(None)));
    assert_eq!(rig.take(waiter), []);
    let said = rig.run(command(s[0], 3, lock, &release()));
    assert_eq!(said, [Said::Out(7, 1, Status::Ok, vec![])]);
    // Granted by command 7; the token is the Acquire's own index.
    assert_eq!(rig.take(waiter), [Said::Out(7, 1, Status::Ok, number(6))]);
    assert_eq!(holder(&mut rig, s[0], lock), Some(6));
    assert_eq!(ok(&rig.run(command(s[1], 3, lock, &release()))), b"");
    assert_eq!(holder(&mut rig, s[0], lock), None);
    let said = rig.run(command(s[1], 4, lock, &release()));
    assert_eq!(failed(&said), (Status::Conflict, "lock not held by client".to_owned()));
    assert_eq!(ok(&rig.run(command(s[0], 4, lock, &acquire(None)))).len(), 2);
}

/// primitives.md L-02: the end of an ex-holder's session takes the lock from its new holder.
#[test]
fn a_holder_of_the_past_has_no_say() {
    let (mut rig, s, lock) = rig(3);
    for round in 0..3 {
        rig.run(command(s[0], 2 + 2 * round, lock, &acquire(None)));
        rig.run(command(s[0], 3 + 2 * round, lock, &release()));
    }
    rig.run(command(s[1], 2, lock, &acquire(None)));
    let waiter = rig.send(command(s[2], 2, lock, &acquire(None)));
    let before = holder(&mut rig, s[1], lock);
    rig.run(close_session(s[0]));
    assert_eq!(holder(&mut rig, s[1], lock), before);
    assert_eq!(rig.take(waiter), []);
    rig.run(close_session(s[1]));
    assert_eq!(rig.take(waiter).len(), 1);
}

#[test]
fn a_waiter_gives_up_at_its_time_also_on_a_restored_replica() {
    let (mut rig, s, lock) = rig(2);
    rig.run(command(s[0], 2, lock, &acquire(None)));
    let held = |said: Vec<Said>| {
        assert_eq!(failed(&said), (Status::Conflict, "lock already held".to_owned()));
    };
    held(rig.run(command(s[1], 2, lock, &acquire(Some(Span::ZERO)))));
    let waiter = rig.send(command(s[1], 3, lock, &acquire(Some(Span::secs(5)))));
    let patient = rig.send(command(s[1], 4, lock, &acquire(Some(Span::secs(7)))));
    rig.pass(Span::secs(4));
    assert_eq!(rig.take(waiter), []);
    rig.pass(Span::secs(1));
    held(rig.take(waiter));
    held(rig.run(command(s[1], 3, lock, &acquire(Some(Span::secs(5))))));
    rig.run(command(s[0], 3, lock, &release()));
    assert_eq!(rig.take(patient).len(), 1);
    rig.pass(Span::secs(10));
    assert!(holder(&mut rig, s[0], lock).is_some(), "a granted lock has no timer");
}

/// A silent session's lock passes on, and its own waiters are gone before.
#[test]
fn the_end_of_the_holders_session_passes_it_on() {
    let mut rig = Rig::new();
    let (short, long) = (rig.open(Span::secs(5)), rig.open(MINUTE));
    let lock = rig.create(short, 1, Kind::Lock, "door");
    rig.create(long, 1, Kind::Lock, "door");
    rig.run(command(short, 2, lock, &acquire(None)));
    let own = rig.send(command(short, 3, lock, &acquire(None)));
    let other = rig.send(command(long, 2, lock, &acquire(None)));
    rig.pass(Span::secs(5));
    assert_eq!(rig.take(own), [Said::Refused(Refusal::Cancelled)]);
    assert_eq!(rig.take(other).len(), 1);
    assert_eq!(rig.run(close_primitive(long, 3, lock)).len(), 1);
    let another = rig.open(MINUTE);
    rig.create(another, 1, Kind::Lock, "door");
    assert_eq!(holder(&mut rig, another, lock), None);
}

#[test]
fn a_keep_alive_that_gives_a_waiter_up_takes_it_out_of_the_queue() {
    let (mut rig, s, lock) = rig(2);
    rig.run(command(s[0], 2, lock, &acquire(None)));
    let waiter = rig.send(command(s[1], 2, lock, &acquire(Some(Span::secs(9)))));
    rig.run(keep_alive(s[1], 1, &[], &[]));
    rig.run(keep_alive(s[1], 2, &[2], &[]));
    assert_eq!(rig.take(waiter), [], "a number above the last, or listed, is not given up");
    rig.run(keep_alive(s[1], 2, &[], &[]));
    assert_eq!(rig.take(waiter), [Said::Refused(Refusal::Cancelled)]);
    rig.run(command(s[0], 3, lock, &release()));
    assert_eq!(holder(&mut rig, s[0], lock), None);
}

#[test]
fn a_repeated_acquire_waits_once() {
    let (mut rig, s, lock) = rig(2);
    rig.run(command(s[0], 2, lock, &acquire(None)));
    let first = rig.send(command(s[1], 2, lock, &acquire(None)));
    let second = rig.send(command(s[1], 2, lock, &acquire(None)));
    assert_eq!(rig.take(first), [Said::Refused(Refusal::Overtaken)]);
    rig.run(command(s[0], 3, lock, &release()));
    assert_eq!(rig.take(second).len(), 1);
    rig.run(command(s[1], 3, lock, &release()));
    assert_eq!(holder(&mut rig, s[0], lock), None);
}

/// What a lock is, without sessions, numbers, snapshots.
#[derive(Default)]
struct Model {
    holder: Option<(u64, SessionId)>,
    queue: VecDeque<(u64, SessionId, Option<LogTime>)>,
}

impl Model {
    fn pass_on(&mut self) {
        self.holder = self.queue.pop_front().map(|(index, session, _)| (index, session));
    }

    fn acquire(&mut self, index: u64, session: SessionId, now: LogTime, wait: Option<Span>) {
        if self.holder.is_none() {
            self.holder = Some((index, session));
        } else if wait != Some(Span::ZERO) {
            self.queue.push_back((index, session, wait.map(|wait| now.after(wait))));
        }
    }

    fn leave(&mut self, session: SessionId) {
        self.queue.retain(|waiter| waiter.1 != session);
        if self.holder.is_some_and(|holder| holder.1 == session) {
            self.pass_on();
        }
    }
}

#[test]
fn it_agrees_with_a_plain_model() {
    for seed in 0..25 {
        let mut prng = Prng::new(seed);
        let (mut rig, mut s, lock) = rig(4);
        let mut model = Model::default();
        let mut next = 1;
        let mut sent: Vec<(SessionId, u64, Op)> = Vec::new();
        for _ in 0..60 {
            let who = prng.below(4) as usize;
            next += 1;
            rig.now = rig.now.after(Span::millis(prng.below(900)));
            let now = rig.now;
            model.queue.retain(|waiter| waiter.2.is_none_or(|due| due > now));
            match prng.below(12) {
                0..=4 => {
                    let wait = *prng.pick(&[None, Some(Span::ZERO), Some(Span::secs(1))]);
                    rig.send(command(s[who], next, lock, &acquire(wait)));
                    model.acquire(rig.machine.index().0, s[who], now, wait);
                    sent.push((s[who], next, acquire(wait)));
                }
                5..=8 => {
                    let said = rig.run(command(s[who], next, lock, &release()));
                    let holds = model.holder.is_some_and(|holder| holder.1 == s[who]);
                    assert_eq!(matches!(said[..], [Said::Out(_, 1, Status::Ok, _)]), holds);
                    if holds {
                        model.pass_on();
                    }
                    sent.push((s[who], next, release()));
                }
                9 => {
                    rig.run(close_session(s[who]));
                    model.leave(s[who]);
                    sent.retain(|(session, ..)| *session != s[who]);
                    s[who] = rig.open(Span::secs(3600));
                    rig.create(s[who], 1, Kind::Lock, "door");
                }
                10 if !sent.is_empty() => {
                    let (session, number, op) = prng.pick(&sent);
                    rig.send(command(*session, *number, lock, op));
                }
                _ => rig.pass(Span::millis(prng.below(500))),
            }
            let now = rig.now;
            model.queue.retain(|waiter| waiter.2.is_none_or(|due| due > now));
            let expected = model.holder.map(|holder| holder.0);
            assert_eq!(holder(&mut rig, s[who], lock), expected, "seed {seed}");
        }
    }
}
