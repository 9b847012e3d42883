//! What holds for every kind alike: members that do not exist, inputs that are none, times at the
//! edges of their range, and counts at their bounds.

use super::*;
use crate::limits::DURATION_SECONDS_MAX;
use crate::partition::rig::{
    Op, Rig, Said, acquire, command, create, elect, failed, increment, keep_alive, ok, release,
};
use crate::prng::Prng;
use crate::time::Span;
use crate::wire::field::{put_bytes, put_message, put_uint};

const HOUR: Span = Span::secs(3600);

/// One primitive of a kind, opened by one session.
fn one(kind: Kind, bounds: Bounds) -> (Rig, SessionId, PrimitiveId) {
    let mut rig = Rig::with(bounds);
    let session = rig.open(HOUR);
    let id = rig.create(session, 1, kind, "it");
    (rig, session, id)
}

#[test]
fn members_that_no_kind_has_are_not_supported() {
    for kind in Kind::ALL {
        let (mut rig, session, id) = one(kind, Bounds::default());
        let known = |tag| mode(kind, tag).is_some();
        // Member 0 is no field of any message, and bytes with it are none.
        let tags: Vec<u32> = (1..40).chain([200, 255, 256, 1 << 20, (1 << 29) - 1]).collect();
        let unknown: Vec<u32> = tags.into_iter().filter(|tag| !known(*tag)).collect();
        assert!(unknown.len() > 25, "{kind}");
        for (number, tag) in (2..).zip(unknown) {
            for input in [vec![], vec![8, 1], vec![0xFF]] {
                let op = Op(kind, tag, input);
                let said = rig.run(command(session, number, id, &op));
                let text = ("proposal not supported", "query not supported");
                assert_eq!(failed(&said), (Status::NotSupported, text.0.to_owned()), "{op:?}");
                let said = rig.ask(session, id, op);
                assert_eq!(failed(&said), (Status::NotSupported, text.1.to_owned()), "{tag}");
            }
        }
        assert_eq!(rig.machine.primitives[&id].state.bytes(), 0, "{kind} holds something");
    }
}

#[test]
fn inputs_that_are_no_messages_are_invalid() {
    let mut deaf = Vec::new();
    for kind in Kind::ALL {
        for tag in 1..40 {
            let Some(mode) = mode(kind, tag) else { continue };
            let (mut rig, session, id) = one(kind, Bounds::default());
            let op = Op(kind, tag, vec![0x0A, 0x05, 0x01]);
            let said = match mode {
                Mode::Command | Mode::Stream => rig.run(command(session, 2, id, &op)),
                Mode::Query | Mode::Watch => rig.ask(session, id, op),
            };
            if !matches!(said[..], [Said::Out(_, _, Status::Invalid, _)]) {
                deaf.push((kind, tag));
            }
        }
    }
    // These have inputs without fields, and do not look at them.
    let expected = [
        (Kind::Counter, 3),
        (Kind::LeaderElection, 6),
        (Kind::LeaderElection, 7),
        (Kind::Lock, 2),
        (Kind::Lock, 3),
        (Kind::MultiMap, 1),
        (Kind::Value, 1),
        (Kind::Value, 6),
    ];
    assert_eq!(deaf, expected);
}

/// Any bytes are answered and leave replicas equal, whatever the member, and copies as they were.
#[test]
fn any_input_is_answered_alike_everywhere() {
    let seed = 0x11A1;
    let mut prng = Prng::new(seed);
    for kind in Kind::ALL {
        let (mut rig, session, id) = one(kind, Bounds { calls_max: 50, ..Bounds::default() });
        rig.strict = false;
        let (mut copy, mut rubble) = (None, Rubble::default());
        for number in 2..1_500 {
            let mut input = Vec::new();
            for _ in 0..prng.below(5) {
                let field = 1 + prng.below(5) as u32;
                match prng.below(4) {
                    0 => put_uint(&mut input, field, prng.next_u64() >> prng.below(64)),
                    1 => put_bytes(&mut input, field, prng.pick(&["a", "", "\u{0}"]).as_bytes()),
                    2 => put_message(&mut input, field, |into| {
                        put_uint(into, 1, prng.next_u64() >> prng.below(64));
                        put_uint(into, 2, prng.next_u64() >> prng.below(64));
                    }),
                    _ => input.push(prng.next_u64() as u8),
                }
            }
            let op = Op(kind, 1 + prng.below(14) as u32, input);
            let ticket = rig.send(command(session, number, id, &op));
            let waits = rig.take(ticket).is_empty();
            let pending = matches!(mode(kind, op.1), Some(Mode::Stream)) || kind == Kind::Lock;
            assert!(!waits || pending, "seed {seed}: no answer to {op:?}");
            drop(rig.ask(session, id, op));
            if number % 100 == 0 {
                rig.now = rig.now.after(Span::secs(prng.below(100)));
                rig.run(keep_alive(session, number, &[], &[]));
                rig.compare();
                let state = &rig.machine.primitives[&id].state;
                if let Some((old, then)) = copy.replace((state.clone(), records(state))) {
                    assert_eq!(records(&old), then, "seed {seed}: a copy of a {kind} changed");
                    old.bury(&mut rubble);
                    rubble.clear_some(3);
                }
            }
        }
    }
}

/// All snapshot records of a primitive.
fn records(state: &Primitive) -> Vec<(u8, Vec<u8>)> {
    let (mut place, mut all) = (Place::default(), Vec::new());
    loop {
        let mut record = Vec::new();
        let Some(kind) = state.record(&mut place, &mut record) else { return all };
        all.push((kind, record));
    }
}

/// Adds something with this TTL, and asks whether it is there.
fn lasting(kind: Kind, ttl: (i64, i32)) -> (Op, Op) {
    let (add, ttl_field, get) = match kind {
        Kind::Map => (2, 3, 5),
        Kind::IndexedMap => (2, 3, 4),
        Kind::Set => (3, 2, 2),
        Kind::Value => (2, 2, 1),
        other => panic!("a {other} has no TTL"),
    };
    let mut key = Vec::new();
    match kind {
        Kind::Set => put_message(&mut key, 1, |into| put_bytes(into, 1, b"k")),
        _ => put_bytes(&mut key, 1, b"k"),
    }
    let mut input = key.clone();
    put_message(&mut input, ttl_field, |into| {
        put_uint(into, 1, ttl.0 as u64);
        put_uint(into, 2, i64::from(ttl.1) as u64);
    });
    (Op(kind, add, input), Op(kind, get, key))
}

#[test]
fn a_ttl_is_over_at_once_or_never_at_the_ends_of_its_range() {
    let longest = DURATION_SECONDS_MAX as i64;
    let century = Span::secs(100 * 365 * 86_400);
    for kind in [Kind::Map, Kind::IndexedMap, Kind::Set, Kind::Value] {
        for (ttl, after, there) in [
            ((0, 0), Span::ZERO, true),
            ((0, 0), Span(1), false),
            ((-1, 0), Span(1), false),
            ((0, -1), Span(1), false),
            ((-longest, -999_999_999), Span(1), false),
            ((0, 1), Span::ZERO, true),
            ((0, 1), Span(1), false),
            ((1, 0), Span(999_999_999), true),
            ((1, 0), Span::secs(1), false),
            ((longest, 999_999_999), century, true),
        ] {
            let what = format!("{kind} {ttl:?} after {after:?}");
            let (mut rig, session, id) = one(kind, Bounds::default());
            let (add, get) = lasting(kind, ttl);
            assert!(matches!(rig.run(command(session, 2, id, &add))[0], Said::Out(..)), "{what}");
            rig.pass(after);
            rig.pass(Span::ZERO);
            // A century is longer than a session lasts.
            let session = rig.open(HOUR);
            assert_eq!(rig.create(session, 1, kind, "it"), id);
            let said = rig.ask(session, id, get);
            let found = match &said[..] {
                // Contains answers OK either way.
                [Said::Out(_, _, Status::Ok, bytes)] => !bytes.is_empty(),
                [Said::Out(_, _, Status::NotFound, _)] => false,
                other => panic!("{what}: {other:?}"),
            };
            assert_eq!(found, there, "{what}");
        }
    }
    let end = LogTime(u64::MAX);
    assert_eq!(expiry(LogTime(5), i128::from(u64::MAX)), end);
    assert_eq!(expiry(LogTime(5), i128::MAX), end);
    assert_eq!(expiry(LogTime(5), i128::MIN), LogTime(5));
}

#[test]
fn a_wait_is_none_or_endless_at_the_ends_of_its_range() {
    let longest = DURATION_SECONDS_MAX as i64;
    let wait = |seconds: i64, nanos: i32| {
        let mut input = Vec::new();
        put_message(&mut input, 1, |into| {
            put_uint(into, 1, seconds as u64);
            put_uint(into, 2, i64::from(nanos) as u64);
        });
        Op(Kind::Lock, 1, input)
    };
    let (mut rig, session, id) = one(Kind::Lock, Bounds::default());
    ok(&rig.run(command(session, 2, id, &acquire(None))));
    let none = [(0, 0), (-1, 0), (0, -1), (-longest, -999_999_999), (i64::MIN, i32::MIN)];
    for (number, (seconds, nanos)) in (3..).zip(none) {
        let said = rig.run(command(session, number, id, &wait(seconds, nanos)));
        assert_eq!(failed(&said), (Status::Conflict, "lock already held".to_owned()));
    }
    // Beyond the range, which the edge refuses, it ends with log time too.
    let mut waiting = Vec::new();
    for (number, (seconds, nanos)) in (10..).zip([(longest, 999_999_999), (i64::MAX, i32::MAX)]) {
        waiting.push(rig.send(command(session, number, id, &wait(seconds, nanos))));
    }
    rig.pass(HOUR.min(Span::secs(3_000)));
    for (number, waiter) in (20..).zip(waiting) {
        assert_eq!(rig.take(waiter), [], "it waits");
        ok(&rig.run(command(session, number, id, &release())));
        ok(&rig.take(waiter));
    }
}

#[test]
fn queues_are_full_at_their_bound() {
    let full = |said: &[Said]| matches!(said, [Said::Refused(Refusal::Full(_))]);
    let (mut rig, session, id) = one(Kind::Lock, Bounds { waiters_max: 3, ..Bounds::default() });
    ok(&rig.run(command(session, 2, id, &acquire(None))));
    for number in 3..6 {
        assert_eq!(rig.run(command(session, number, id, &acquire(None))), []);
    }
    assert!(full(&rig.run(command(session, 6, id, &acquire(None)))));
    ok(&rig.run(command(session, 7, id, &release())));
    assert_eq!(rig.run(command(session, 6, id, &acquire(None))), [], "there is room again");

    // A session's calls are counted over all its primitives.
    let (mut rig, session, id) = one(Kind::Lock, Bounds { calls_max: 2, ..Bounds::default() });
    let map = rig.create(session, 2, Kind::Map, "other");
    ok(&rig.run(command(session, 3, id, &acquire(None))));
    assert_eq!(rig.run(command(session, 4, id, &acquire(None))), []);
    assert_eq!(rig.run(command(session, 5, map, &crate::partition::rig::events(""))), []);
    assert!(full(&rig.run(command(session, 6, id, &acquire(None)))));
    ok(&rig.run(command(session, 7, id, &release())));
    assert_eq!(rig.run(command(session, 6, id, &acquire(None))), [], "there is room again");

    let bounds = Bounds { candidates_max: 2, ..Bounds::default() };
    let (mut rig, session, id) = one(Kind::LeaderElection, bounds);
    for (number, name) in (2..).zip(["leader", "first", "second", "first"]) {
        ok(&rig.run(command(session, number, id, &elect(1, name))));
    }
    assert!(full(&rig.run(command(session, 6, id, &elect(1, "third")))));
    ok(&rig.run(command(session, 7, id, &elect(2, "first"))));
    ok(&rig.run(command(session, 6, id, &elect(1, "third"))));
    let nameless = rig.run(command(session, 8, id, &elect(1, "")));
    assert!(matches!(nameless[..], [Said::Refused(Refusal::Malformed(_))]), "{nameless:?}");

    let (mut rig, session, _) =
        one(Kind::Counter, Bounds { primitives_max: 2, ..Bounds::default() });
    let second = rig.create(session, 2, Kind::Counter, "second");
    assert!(full(&rig.run(create(session, 3, Kind::Counter, "third"))));
    ok(&rig.run(create(session, 3, Kind::Counter, "second")));
    ok(&rig.run(command(session, 4, second, &increment(1))));
}
