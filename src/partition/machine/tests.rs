//! Sessions, numbers, deadlines, the life of primitives: a story each, and the ways to crash the
//! reference (notes on the reference node) as far as they concern this layer.

use prost::Message;

use super::*;
use crate::partition::ledger::OVERFLOW;
use crate::partition::rig::*;
use crate::partition::session::EVENT_BYTES;
use crate::wire::bloom::Filter;
use crate::wire::field::put_bytes;
use crate::wire::proto::map::v1 as map_v1;

const MINUTE: Span = Span::secs(60);

/// A rig with one session and a counter created as its command 1.
fn counter() -> (Rig, SessionId, PrimitiveId) {
    let mut rig = Rig::new();
    let session = rig.open(MINUTE);
    let counter = rig.create(session, 1, Kind::Counter, "hits");
    (rig, session, counter)
}

#[test]
fn ids_are_indexes_and_commands_count() {
    let (mut rig, session, counter) = counter();
    assert_eq!((session, counter), (SessionId(1), PrimitiveId(2)));
    let said = rig.run(command(session, 2, counter, &increment(5)));
    assert_eq!(said, [Said::Out(3, 1, Status::Ok, number(5))]);
    rig.pass(Span::secs(1));
    assert_eq!(rig.machine.index(), Index(3), "a tick is no command");
    let said = rig.ask(session, counter, Op(Kind::Counter, 3, vec![]));
    assert_eq!(said, [Said::Out(3, 0, Status::Ok, number(5))]);
}

#[test]
fn a_command_is_executed_once() {
    let (mut rig, session, counter) = counter();
    let first = rig.run(command(session, 7, counter, &increment(5)));
    rig.run(command(session, 100, counter, &increment(1)));
    rig.run(command(session, 50, counter, &increment(1)));
    // The repeat's input does not count, and its output carries the index of the first.
    assert_eq!(rig.run(command(session, 7, counter, &increment(70))), first);
    rig.run(keep_alive(session, 100, &[7], &[]));
    assert_eq!(rig.run(command(session, 7, counter, &increment(70))), first);
    assert_eq!(ok(&rig.ask(session, counter, Op(Kind::Counter, 3, vec![]))), number(7));
}

/// core.md D15: the reference executes what comes late a second time.
#[test]
fn finished_is_for_ever() {
    let (mut rig, session, counter) = counter();
    rig.run(command(session, 2, counter, &increment(5)));
    rig.run(keep_alive(session, 2, &[], &[]));
    let said = rig.run(command(session, 2, counter, &increment(5)));
    assert_eq!(failed(&said).0, Status::Canceled);
    // An older keep-alive, applied later, revives nothing.
    rig.run(keep_alive(session, 2, &[2], &[]));
    let said = rig.run(command(session, 2, counter, &increment(5)));
    assert_eq!(failed(&said).0, Status::Canceled);
    assert_eq!(ok(&rig.ask(session, counter, Op(Kind::Counter, 3, vec![]))), number(5));
}

#[test]
fn a_number_that_was_never_seen_is_finished_or_open_as_the_filter_says() {
    let (mut rig, session, counter) = counter();
    rig.run(keep_alive(session, 20, &[5], &[]));
    assert_eq!(failed(&rig.run(command(session, 6, counter, &increment(1)))).0, Status::Canceled);
    assert_eq!(ok(&rig.run(command(session, 5, counter, &increment(1)))), number(1));
    assert_eq!(ok(&rig.run(command(session, 5, counter, &increment(1)))), number(1));
    assert_eq!(ok(&rig.run(command(session, 21, counter, &increment(1)))), number(2));
}

#[test]
fn another_operation_under_a_used_number_is_invalid() {
    let (mut rig, session, counter) = counter();
    rig.run(command(session, 2, counter, &increment(1)));
    let set = Op(Kind::Counter, 4, number(9));
    for body in [command(session, 2, counter, &set), create(session, 2, Kind::Lock, "door")] {
        assert_eq!(failed(&rig.run(body)).0, Status::Invalid);
    }
    // The reference answers OK without output here, which its driver dereferences (D4).
    assert_eq!(failed(&rig.run(command(session, 1, counter, &increment(1)))).0, Status::Invalid);
}

#[test]
fn sessions_expire_in_log_time_and_only_then() {
    let (mut rig, session, _) = counter();
    let other = rig.open(Span::secs(600));
    rig.pass(Span::secs(50));
    rig.run(keep_alive(session, 1, &[], &[]));
    rig.pass(Span::secs(59));
    assert_eq!(rig.machine.next_timer(), Some(rig.now.after(Span::secs(1))));
    // The keep-alive that comes at the very end comes too late: time goes first.
    rig.now = rig.now.after(Span::secs(1));
    let said = rig.run(keep_alive(session, 1, &[], &[]));
    assert_eq!(said, [Said::Refused(Refusal::UnknownSession(session))]);
    assert_eq!(rig.run(keep_alive(other, 0, &[], &[])).len(), 1);
    // Time never goes back.
    let before = rig.machine.time();
    rig.now = LogTime(5);
    rig.entry(&[]);
    assert_eq!(rig.machine.time(), before);
}

/// core.md D10: after an outage the reference expires every session at once.
#[test]
fn a_new_term_gives_every_session_its_time_again() {
    let (mut rig, session, counter) = counter();
    rig.term = Term(2);
    rig.pass(Span::secs(3600));
    assert_eq!(ok(&rig.run(command(session, 2, counter, &increment(1)))), number(1));
    rig.pass(Span::secs(59));
    assert_eq!(ok(&rig.run(command(session, 3, counter, &increment(1)))), number(2));
    rig.pass(Span::secs(1));
    let said = rig.run(command(session, 4, counter, &increment(1)));
    assert_eq!(said, [Said::Refused(Refusal::UnknownSession(session))]);
    assert!(rig.machine.ledger.schedule.is_empty());
}

#[test]
fn timeouts_have_a_default_and_a_bound() {
    let mut rig = Rig::new();
    for body in [vec![0x12, 0], open_session(Span::ZERO)] {
        let said = rig.run(body);
        assert_eq!(ok(&said).len(), 2);
    }
    rig.run(open_session(Span::secs(1 << 30)));
    let timeouts: Vec<Span> = rig.machine.ledger.sessions.values().map(|it| it.timeout).collect();
    assert_eq!(timeouts, [Span::secs(30), Span::secs(30), Span::secs(86_400)]);
    let mut negative = Vec::new();
    put_message_of(&mut negative, 2, |into| {
        put_message_of(into, 1, |into| put_uint(into, 1, -1i64 as u64));
    });
    assert!(matches!(&rig.run(negative)[..], [Said::Refused(Refusal::Malformed(_))]));
}

fn put_message_of(into: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    crate::wire::field::put_message(into, number, write);
}

/// core.md D5: these texts crash every replica of the reference, again at each replay.
#[test]
fn a_broken_filter_harms_nothing() {
    let (mut rig, session, _) = counter();
    rig.pass(Span::secs(30));
    for filter in ["", "nonsense", "{}", r#"{"m":0,"k":1,"b":"AAAAAAAAAAA="}"#, r#"{"m":1,"k":1}"#]
    {
        let said = rig.run(keep_alive_with(session, 1, filter.as_bytes(), &[]));
        let [Said::Refused(Refusal::Malformed(text))] = &said[..] else {
            panic!("{said:?}");
        };
        assert!(text.starts_with("invalid request filter"), "{text}");
    }
    // It was not refreshed either.
    rig.pass(Span::secs(30));
    assert!(rig.machine.ledger.sessions.is_empty());
}

#[test]
fn an_unknown_session_is_refused_everywhere() {
    let mut rig = Rig::new();
    let (nobody, thing) = (SessionId(9), PrimitiveId(1));
    let refused = [Said::Refused(Refusal::UnknownSession(nobody))];
    for body in [
        keep_alive(nobody, 1, &[], &[]),
        close_session(nobody),
        create(nobody, 1, Kind::Counter, "a"),
        close_primitive(nobody, 1, thing),
        command(nobody, 1, thing, &increment(1)),
    ] {
        assert_eq!(rig.run(body), refused);
    }
    assert_eq!(rig.ask(nobody, thing, Op(Kind::Counter, 3, vec![])), refused);
}

#[test]
fn primitives_are_found_by_name_and_kind() {
    let (mut rig, session, counter) = counter();
    let other = rig.open(MINUTE);
    assert_eq!(rig.create(other, 1, Kind::Counter, "hits"), counter);
    let alias = create_named(other, 2, "atomix.multiraft.counter.v1.Counter", "hits");
    assert_eq!(ok(&rig.run(alias)), number(counter.0));
    let forbidden = |said: &[Said], text: &str| {
        assert_eq!(failed(said), (Status::Forbidden, text.to_owned()));
    };
    let wrong = "cannot create primitive of a different type with the same name";
    forbidden(&rig.run(create(other, 3, Kind::Lock, "hits")), wrong);
    forbidden(&rig.run(create_named(other, 11, "Lock/v2", "hits")), wrong);
    let newer = "cannot create primitive of a different API version with the same type and name";
    forbidden(&rig.run(create_named(other, 12, "Counter/v2", "hits")), newer);
    forbidden(&rig.run(create_named(other, 13, "Counter/v2", "x")), "unknown primitive type");
    forbidden(&rig.run(create_named(other, 4, "nonsense", "x")), "unknown primitive type");
    let list = create_named(other, 5, "atomix.runtime.list.v1.List", "x");
    forbidden(&rig.run(list), "unknown primitive type");
    forbidden(
        &rig.run(command(other, 6, PrimitiveId(77), &increment(1))),
        "primitive 77 not found",
    );
    forbidden(&rig.run(close_primitive(other, 7, PrimitiveId(77))), "primitive 77 not found");
    assert_eq!(ok(&rig.run(close_primitive(other, 8, counter))), b"");
    forbidden(&rig.run(close_primitive(other, 9, counter)), "session not found");
    forbidden(&rig.run(command(other, 10, counter, &increment(1))), "session not found");
    // What was answered stays answered, under its number.
    forbidden(
        &rig.run(command(other, 6, PrimitiveId(77), &increment(1))),
        "primitive 77 not found",
    );
    assert_eq!(ok(&rig.run(command(session, 2, counter, &increment(1)))), number(1));
}

/// core.md D3: the reference executes another operation, or dies.
#[test]
fn a_request_for_another_kind_is_invalid_before_its_payload_is_read() {
    let (mut rig, session, counter) = counter();
    let said = rig.run(command(session, 2, counter, &put("k", b"v", None, 0)));
    assert_eq!(failed(&said), (Status::Invalid, "primitive 2 is a Counter, not a Map".to_owned()));
    let said = rig.run(command(session, 3, counter, &Op(Kind::Set, 1, vec![0xff; 9])));
    assert_eq!(failed(&said).0, Status::Invalid);
    let said = rig.ask(session, counter, Op(Kind::Value, 3, vec![]));
    assert_eq!(failed(&said).0, Status::Invalid);
    assert_eq!(ok(&rig.ask(session, counter, Op(Kind::Counter, 3, vec![]))), b"");
}

#[test]
fn what_cannot_be_understood_counts_and_changes_nothing() {
    let (mut rig, session, counter) = counter();
    let garbage = rig.run(vec![0xff, 0xff]);
    assert!(matches!(&garbage[..], [Said::Refused(Refusal::Malformed(_))]));
    let missing = rig.run(proposal(session, 2, None, |_| {}));
    assert!(matches!(&missing[..], [Said::Refused(Refusal::Malformed(_))]));
    assert_eq!(rig.machine.index(), Index(4));
    let said = rig.run(command(session, 2, counter, &Op(Kind::Counter, 1, vec![0xff])));
    assert_eq!(failed(&said).0, Status::Invalid);
    let empty = proposal(session, 3, None, |into| {
        put_message_of(into, 6, |into| {
            put_uint(into, 1, counter.0);
            put_bytes(into, 2, &[]);
            put_uint(into, 100, 1);
        });
    });
    assert_eq!(failed(&rig.run(empty)).0, Status::Invalid);
    for tag in [3, 77, 1 << 20] {
        let said = rig.run(command(
            session,
            u64::from(tag) + 10,
            counter,
            &Op(Kind::Counter, tag, vec![]),
        ));
        let text = "proposal not supported".to_owned();
        assert_eq!(failed(&said), (Status::NotSupported, text));
    }
    let said = rig.ask(session, counter, Op(Kind::Counter, 1, vec![]));
    assert_eq!(failed(&said), (Status::NotSupported, "query not supported".to_owned()));
}

#[test]
fn callers_of_a_broken_entry_are_answered() {
    let mut rig = Rig::new();
    let (first, second) = (rig.ticket(), rig.ticket());
    rig.apply(&vec![1, 0xff, 9, 9].into(), &[Some(first), Some(second)]);
    for ticket in [first, second] {
        assert!(matches!(&rig.take(ticket)[..], [Said::Refused(Refusal::Malformed(_))]));
    }
}

#[test]
fn events_are_numbered_kept_and_acknowledged() {
    let mut rig = Rig::new();
    let session = rig.open(MINUTE);
    let map = rig.create(session, 1, Kind::Map, "m");
    let listener = rig.send(command(session, 2, map, &events("")));
    assert_eq!(rig.take(listener), [], "nothing is said before the first event");
    for at in 0..4 {
        rig.run(command(session, 3 + at, map, &put(&format!("k{at}"), b"v", None, 0)));
    }
    let heard = rig.take(listener);
    let places: Vec<(u64, u64)> = heard
        .iter()
        .map(|said| match said {
            Said::Out(index, number, Status::Ok, _) => (*index, *number),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(places, [(4, 1), (5, 2), (6, 3), (7, 4)]);
    rig.run(keep_alive(session, 6, &[2], &[(2, 2)]));
    let again = rig.send(command(session, 2, map, &events("")));
    assert_eq!(rig.take(listener), [Said::Refused(Refusal::Overtaken)]);
    assert_eq!(rig.take(again), heard[2..]);
    rig.run(command(session, 7, map, &put("live", b"v", None, 0)));
    assert!(matches!(&rig.take(again)[..], [Said::Out(10, 5, Status::Ok, _)]));
    // The number is given up: the stream ends regularly, and stays ended.
    rig.run(keep_alive(session, 7, &[], &[]));
    assert_eq!(rig.take(again), [Said::End]);
    assert_eq!(rig.run(command(session, 2, map, &events(""))), [Said::End]);
    // A unary command under a stream's number, and the other way round.
    rig.send(command(session, 8, map, &events("k")));
    let said = rig.run(command(session, 8, map, &put("k", b"v", None, 0)));
    assert_eq!(failed(&said).0, Status::Invalid);
    rig.run(command(session, 9, map, &put("k", b"w", None, 0)));
    assert_eq!(failed(&rig.run(command(session, 9, map, &events("")))).0, Status::Invalid);
}

/// primitives.md 7.3: by its opening event a client of the rsm dialect knows that it listens.
#[test]
fn an_opening_event_is_an_output_like_any_other() {
    let mut rig = Rig::new();
    let session = rig.open(MINUTE);
    let map = rig.create(session, 1, Kind::Map, "m");
    let opening = |key: &str| {
        let event = map_v1::Event { key: key.to_owned(), event: None };
        map_v1::EventsOutput { event: Some(event) }.encode_to_vec()
    };
    let (all, one) = (events(""), events("k"));
    let everything = rig.send(command_opening(session, 2, map, &all));
    let heard = rig.take(everything);
    assert_eq!(heard, [Said::Out(3, 1, Status::Ok, opening(""))]);
    let of_key = rig.send(command_opening(session, 3, map, &one));
    assert_eq!(rig.take(of_key), [Said::Out(4, 1, Status::Ok, opening("k"))]);
    let silent = rig.send(command(session, 4, map, &one));
    assert_eq!(rig.take(silent), []);
    // Where there is no stream there is nothing to open.
    let said = rig.run(command_opening(session, 5, map, &put("k", b"v", None, 0)));
    assert!(matches!(said[..], [Said::Out(6, 1, Status::Ok, _)]), "{said:?}");
    for (ticket, number) in [(everything, 2), (of_key, 2), (silent, 1)] {
        let heard = rig.take(ticket);
        assert!(
            matches!(heard[..], [Said::Out(6, at, Status::Ok, _)] if at == number),
            "{heard:?}"
        );
    }

    // Another replica, which has it from a snapshot, tells it to who comes again; whether that one
    // asks for it does not matter any more.
    rig.machine.detach(Refusal::Unavailable("not the leader"), &mut rig.replies);
    rig.hear();
    std::mem::swap(&mut rig.machine, &mut rig.restored);
    let again = rig.run(command(session, 2, map, &all));
    assert_eq!(again.len(), 2, "{again:?}");
    assert_eq!(again[0], heard[0]);
    // What is acknowledged is gone.
    rig.run(keep_alive(session, 5, &[2, 3], &[(2, 1)]));
    let again = rig.run(command_opening(session, 2, map, &all));
    assert!(matches!(again[..], [Said::Out(6, 2, Status::Ok, _)]), "{again:?}");
}

/// The key stands in it where events are about keys, and nowhere else: in an event of a set its
/// field is a member of the oneof.
#[test]
fn an_opening_event_has_a_key_where_events_have_one() {
    let (with_key, without) = (&[0x0A, 3, 0x0A, 1, b'k'][..], &[0x0A, 0][..]);
    for (kind, tag, bytes) in [
        (Kind::CounterMap, 13, with_key),
        (Kind::IndexedMap, 12, with_key),
        (Kind::Map, 11, with_key),
        (Kind::MultiMap, 11, with_key),
        (Kind::Set, 7, without),
        (Kind::Value, 7, without),
    ] {
        let mut rig = Rig::new();
        let session = rig.open(MINUTE);
        let primitive = rig.create(session, 1, kind, "p");
        let mut input = Vec::new();
        put_bytes(&mut input, 1, b"j");
        put_bytes(&mut input, 1, b"k");
        let said = rig.run(command_opening(session, 2, primitive, &Op(kind, tag, input)));
        assert_eq!(said, [Said::Out(3, 1, Status::Ok, bytes.to_vec())], "{kind}");
    }
}

#[test]
fn an_opening_event_that_finds_no_room_ends_the_stream() {
    let bounds = Bounds { streams_bytes_max: EVENT_BYTES + 1, ..Bounds::default() };
    let mut rig = Rig::with(bounds);
    let session = rig.open(MINUTE);
    let map = rig.create(session, 1, Kind::Map, "m");
    let listener = rig.send(command_opening(session, 2, map, &events("")));
    let overflow = Said::Out(3, 1, Status::Unavailable, OVERFLOW.as_bytes().to_vec());
    assert_eq!(rig.take(listener), std::slice::from_ref(&overflow));
    rig.run(command(session, 3, map, &put("k", b"v", None, 0)));
    assert_eq!(rig.take(listener), [], "it is no listener any more");
    assert_eq!(rig.run(command_opening(session, 2, map, &events(""))), [overflow]);
}

#[test]
fn a_stream_that_is_late_is_opened_before_it_ends() {
    let mut rig = Rig::new();
    let session = rig.open(MINUTE);
    let map = rig.create(session, 1, Kind::Map, "m");
    let body = proposal(session, 2, Some(rig.now), |into| opening(into, map, &events("")));
    let said = rig.run(body);
    let late = Said::Refused(Refusal::Deadline);
    assert!(matches!(&said[..], [Said::Out(3, 1, Status::Ok, _), end] if *end == late), "{said:?}");
}

/// core.md D7: in the reference this hangs the partition for good.
#[test]
fn a_unary_call_with_the_number_of_a_stream_with_many_outputs_is_invalid() {
    let mut rig = Rig::new();
    let session = rig.open(MINUTE);
    let map = rig.create(session, 1, Kind::Map, "m");
    rig.send(command(session, 2, map, &events("")));
    (3..8).for_each(|n| drop(rig.run(command(session, n, map, &put("k", &[n as u8], None, 0)))));
    let said = rig.run(command(session, 2, map, &put("k", b"v", None, 0)));
    assert_eq!(failed(&said).0, Status::Invalid);
    assert_eq!(rig.run(command(session, 9, map, &put("k", b"v", None, 0))).len(), 1);
}

/// core.md D22: what nobody acknowledges does not grow for ever.
#[test]
fn a_stream_that_is_never_acknowledged_ends_with_a_reason() {
    let mut rig = Rig::with(Bounds { stream_bytes_max: 1000, ..Bounds::default() });
    let session = rig.open(MINUTE);
    let map = rig.create(session, 1, Kind::Map, "m");
    let listener = rig.send(command(session, 2, map, &events("")));
    (3..30)
        .for_each(|n| drop(rig.run(command(session, n, map, &put("k", &[n as u8; 90], None, 0)))));
    let heard = rig.take(listener);
    let Some(Said::Out(_, last, Status::Unavailable, text)) = heard.last() else {
        panic!("{heard:?}");
    };
    assert_eq!(text, OVERFLOW.as_bytes());
    assert_eq!(*last as usize, heard.len());
    assert!(heard.len() < 20);
    // A repeat hears what is kept, the reason last.
    assert_eq!(rig.run(command(session, 2, map, &events(""))), heard);
}

#[test]
fn the_streams_of_a_partition_are_bounded_together() {
    let bounds = Bounds { streams_bytes_max: 600, ..Bounds::default() };
    let mut rig = Rig::with(bounds);
    let session = rig.open(MINUTE);
    let map = rig.create(session, 1, Kind::Map, "m");
    let all: Vec<_> =
        (2..22).map(|number| rig.send(command(session, number, map, &events("")))).collect();
    rig.run(command(session, 30, map, &put("k", b"v", None, 0)));
    let heard: Vec<Vec<Said>> = all.into_iter().map(|ticket| rig.take(ticket)).collect();
    let served = heard.iter().filter(|it| matches!(it[..], [Said::Out(_, 1, Status::Ok, _)]));
    let ended = |it: &&Vec<Said>| matches!(it[..], [Said::Out(_, 1, Status::Unavailable, _)]);
    let (served, ended) = (served.count(), heard.iter().filter(ended).count());
    assert!(served > 5 && ended > 5 && served + ended == 20, "{served} {ended}");
}

#[test]
fn keep_alives_that_leap_on_and_on_are_refused_and_harm_nothing() {
    let (mut rig, session, counter) = counter();
    let far = 1u64 << 40;
    let leaps: Vec<Vec<u8>> =
        (1..12).map(|n| keep_alive(session, far * n, &[far * n - 1], &[])).collect();
    let tickets = rig.entry(&leaps);
    let refused = tickets
        .into_iter()
        .filter(|ticket| matches!(rig.take(*ticket)[..], [Said::Refused(Refusal::Full(_))]));
    assert_eq!(refused.count(), 3);
    let late = rig.run(command(session, far * 2 - 3, counter, &increment(1)));
    assert_eq!(failed(&late).0, Status::Canceled);
    let next = rig.run(command(session, far * 12, counter, &increment(1)));
    assert_eq!(ok(&next), number(1));
}

/// core.md D14: in the reference a retry onto a cancelled command hangs.
#[test]
fn a_repeat_of_a_cancelled_command_is_answered() {
    let mut rig = Rig::new();
    let (session, other) = (rig.open(MINUTE), rig.open(MINUTE));
    let lock = rig.create(session, 1, Kind::Lock, "l");
    let map = rig.create(session, 2, Kind::Map, "m");
    assert_eq!(rig.create(other, 1, Kind::Lock, "l"), lock);
    rig.run(command(other, 2, lock, &acquire(None)));
    let waiter = rig.send(command(session, 3, lock, &acquire(None)));
    let listener = rig.send(command(session, 4, map, &events("")));
    rig.run(command(session, 5, map, &put("k", b"v", None, 0)));
    let heard = rig.take(listener);
    rig.run(close_primitive(session, 6, lock));
    rig.run(close_primitive(session, 7, map));
    assert_eq!(rig.take(waiter), [Said::Refused(Refusal::Cancelled)]);
    assert_eq!(rig.take(listener), [Said::End]);
    let said = rig.run(command(session, 3, lock, &acquire(None)));
    assert_eq!(said, [Said::Refused(Refusal::Cancelled)]);
    let said = rig.run(command(session, 4, map, &events("")));
    assert_eq!(said, [heard, vec![Said::End]].concat());
    rig.run(command(other, 3, lock, &release()));
    assert_eq!(failed(&rig.ask(other, lock, Op(Kind::Lock, 3, vec![]))).1, "local not held");
}

#[test]
fn a_deadline_ends_what_is_pending_and_nothing_else() {
    let mut rig = Rig::new();
    let (session, other) = (rig.open(MINUTE), rig.open(MINUTE));
    let lock = rig.create(session, 1, Kind::Lock, "l");
    let map = rig.create(session, 2, Kind::Map, "m");
    rig.create(other, 1, Kind::Lock, "l");
    // Executed though its deadline is long over.
    let past = LogTime(1);
    assert_eq!(ok(&rig.run(command_until(session, 3, lock, &acquire(None), past))).len(), 2);
    let soon = rig.now.after(Span::secs(2));
    let waiter = rig.send(command_until(other, 2, lock, &acquire(None), soon));
    let listener = rig.send(command_until(session, 4, map, &events(""), soon));
    let late = rig.run(command_until(other, 3, lock, &acquire(None), past));
    assert_eq!(late, [Said::Refused(Refusal::Deadline)]);
    rig.run(command(session, 5, map, &put("k", b"v", None, 0)));
    let heard = rig.take(listener);
    assert_eq!(rig.machine.next_timer(), Some(soon));
    rig.pass(Span::secs(2));
    assert_eq!(rig.take(waiter), [Said::Refused(Refusal::Deadline)]);
    assert_eq!(rig.take(listener), [Said::Refused(Refusal::Deadline)]);
    let said = rig.run(command(other, 2, lock, &acquire(None)));
    assert_eq!(said, [Said::Refused(Refusal::Deadline)]);
    let said = rig.run(command(session, 4, map, &events("")));
    assert_eq!(said, [heard, vec![Said::End]].concat());
    rig.run(command(session, 6, lock, &release()));
    assert_eq!(failed(&rig.ask(session, lock, Op(Kind::Lock, 3, vec![]))).1, "local not held");
}

#[test]
fn the_end_of_a_session_answers_everybody_who_waits() {
    let mut rig = Rig::new();
    let (session, other) = (rig.open(MINUTE), rig.open(MINUTE));
    let lock = rig.create(session, 1, Kind::Lock, "l");
    let map = rig.create(session, 2, Kind::Map, "m");
    rig.create(other, 1, Kind::Lock, "l");
    rig.run(command(other, 2, lock, &acquire(None)));
    let waiter = rig.send(command(session, 3, lock, &acquire(Some(Span::secs(9)))));
    let listener = rig.send(command(session, 4, map, &events("")));
    let watcher = rig.watch(session, map, entries(true));
    assert_eq!(ok(&rig.run(close_session(session))), b"");
    assert_eq!(rig.take(waiter), [Said::Refused(Refusal::Cancelled)]);
    assert_eq!(rig.take(listener), [Said::End]);
    assert_eq!(rig.take(watcher), [Said::End]);
    rig.run(close_session(other));
    assert!(rig.machine.ledger.schedule.is_empty());
    assert!(rig.machine.ledger.callers.is_empty() && rig.machine.ledger.watches.is_empty());
    let (sessions, primitives) = (rig.machine.ledger.bytes, rig.machine.primitives.len());
    assert_eq!((sessions, primitives), (0, 2));
}

#[test]
fn callers_come_and_go_without_a_trace() {
    let mut rig = Rig::new();
    let session = rig.open(MINUTE);
    let map = rig.create(session, 1, Kind::Map, "m");
    let listener = rig.send(command(session, 2, map, &events("")));
    let watcher = rig.watch(session, map, entries(true));
    let digest = rig.machine.digest();
    rig.machine.gone(listener);
    rig.machine.gone(watcher);
    assert_eq!(digest, rig.machine.digest());
    rig.run(command(session, 3, map, &put("k", b"v", None, 0)));
    assert_eq!((rig.take(listener), rig.take(watcher)), (vec![], vec![]));
    let again = rig.send(command(session, 2, map, &events("")));
    assert_eq!(rig.take(again).len(), 1);
    let watcher = rig.watch(session, map, entries(true));
    assert_eq!(rig.take(watcher).len(), 1);
    let refusal = Refusal::Unavailable("not the leader");
    let Rig { machine, replies, .. } = &mut rig;
    machine.detach(refusal.clone(), replies);
    rig.hear();
    assert_eq!(rig.take(again), [Said::Refused(refusal.clone())]);
    assert_eq!(rig.take(watcher), [Said::Refused(refusal)]);
}

#[test]
fn a_keep_alive_ends_the_queries_that_it_numbers() {
    let mut rig = Rig::new();
    let session = rig.open(MINUTE);
    let map = rig.create(session, 1, Kind::Map, "m");
    let [without, given_up, listed, later] =
        [0, 2, 3, 9].map(|number| rig.watch_as(session, number, map, entries(true)));
    rig.run(keep_alive(session, 5, &[3], &[]));
    assert_eq!(rig.take(given_up), [Said::End]);
    for ticket in [without, listed, later] {
        assert_eq!(rig.take(ticket), []);
    }
}

/// What a client may rely on, in a few lines: which numbers count, and what they answered.
#[derive(Default)]
struct Promise {
    answered: std::collections::BTreeMap<u64, Vec<Said>>,
    said: Vec<(u64, Filter)>,
    value: i64,
}

impl Promise {
    fn finished(&self, number: u64) -> bool {
        self.said.iter().any(|(last, filter)| number <= *last && !filter.contains(number))
    }
}

/// Commands in any order, repeated, late, over keep-alives, changes of term and restored replicas:
/// each counts once.
#[test]
fn each_number_counts_once() {
    for seed in 0..40 {
        let mut prng = crate::prng::Prng::new(seed);
        let (mut rig, session, counter) = counter();
        let mut promise = Promise::default();
        let mut last = 1;
        for _ in 0..120 {
            rig.now = rig.now.after(Span::millis(prng.below(2000)));
            if prng.chance(30) {
                rig.term = Term(rig.term.0 + 1);
                rig.now = rig.now.after(Span::secs(100));
            }
            if prng.chance(150) {
                let open: Vec<u64> = (0..prng.below(4)).map(|_| prng.below(last + 2)).collect();
                let upto = if prng.chance(700) { last } else { prng.below(last + 1) };
                let text = Filter::of(&open).to_json();
                assert_eq!(rig.run(keep_alive_with(session, upto, &text, &[])).len(), 1);
                promise.said.push((upto, Filter::parse(&text).expect("sound")));
                continue;
            }
            let back = prng.below(30);
            let number = if prng.chance(500) { last + 1 } else { last.saturating_sub(back) + 2 };
            last = last.max(number);
            let delta = prng.below(100) as i64 - 50;
            let said = rig.run(command(session, number, counter, &increment(delta)));
            if promise.finished(number) {
                assert_eq!(failed(&said).0, Status::Canceled, "seed {seed} number {number}");
                promise.answered.remove(&number);
            } else if let Some(first) = promise.answered.get(&number) {
                assert_eq!(said, *first, "seed {seed} number {number}");
            } else {
                promise.value += delta;
                assert_eq!(ok(&said), number_of(promise.value), "seed {seed} number {number}");
                promise.answered.insert(number, said);
            }
            // Silence is what ends a session; the test is about numbers.
            if rig.machine.time().since(rig.machine.ledger.sessions[&session].updated.0)
                > Span::secs(40)
            {
                rig.run(keep_alive(session, 0, &[], &[]));
                promise.said.push((0, Filter::parse(&Filter::of(&[]).to_json()).expect("sound")));
            }
        }
    }
}

fn number_of(value: i64) -> Vec<u8> {
    number(value as u64)
}

#[test]
fn bounds_refuse_and_leave_the_state_alone() {
    let bounds = Bounds {
        sessions_max: 2,
        primitives_max: 1,
        calls_max: 2,
        listeners_max: 1,
        kept_bytes_max: 2_000,
        watches_max: 1,
        ..Bounds::default()
    };
    let mut rig = Rig::with(bounds);
    let (session, other) = (rig.open(MINUTE), rig.open(MINUTE));
    let full = |said: Vec<Said>| {
        assert!(matches!(&said[..], [Said::Refused(Refusal::Full(_))]), "{said:?}");
    };
    full(rig.run(open_session(MINUTE)));
    let map = rig.create(session, 1, Kind::Map, "m");
    rig.create(other, 1, Kind::Map, "m");
    full(rig.run(create(session, 2, Kind::Map, "n")));
    rig.send(command(session, 2, map, &events("")));
    full(rig.run(command(other, 2, map, &events(""))));
    let watcher = rig.watch(session, map, entries(true));
    full(rig.ask(session, map, entries(true)));
    rig.machine.gone(watcher);
    let mut number = 3;
    loop {
        let said = rig.run(command(other, number, map, &put("k", &[number as u8; 200], None, 0)));
        if matches!(&said[..], [Said::Refused(Refusal::Full(_))]) {
            break;
        }
        number += 1;
        assert!(number < 40);
    }
    // Told what the client has, the session takes commands again, also the refused one.
    rig.run(keep_alive(other, number - 1, &[], &[]));
    assert_eq!(rig.run(command(other, number, map, &put("k", b"v", None, 0))).len(), 1);
}

/// Every number is answered at once, however many one keep-alive finishes.
#[test]
fn a_keep_alive_over_many_numbers_is_sorted_out_in_slices() {
    let (mut rig, session, counter) = counter();
    rig.strict = false;
    let total = 40_000u64;
    for first in (2..total).step_by(1000) {
        let bodies: Vec<_> =
            (first..first + 1000).map(|n| command(session, n, counter, &increment(1))).collect();
        let tickets = rig.entry(&bodies);
        tickets.into_iter().for_each(|ticket| drop(rig.take(ticket)));
    }
    rig.run(keep_alive(session, total, &[total - 5], &[]));
    assert!(rig.machine.ledger.sessions[&session].finished.is_busy());
    assert_eq!(rig.machine.next_timer(), Some(rig.machine.time()), "a tick goes on with it");
    rig.compare();
    let late = rig.run(command(session, 30_001, counter, &increment(1)));
    let open = rig.run(command(session, total - 5, counter, &increment(1)));
    assert_eq!((failed(&late).0, ok(&open).len()), (Status::Canceled, 4));
    for _ in 0..6 {
        rig.pass(Span::ZERO);
        rig.compare();
    }
    assert!(!rig.machine.ledger.sessions[&session].finished.is_busy());
    assert!(rig.machine.ledger.sessions[&session].kept.len() < 6_000);
    let text = Filter::of(&[]).to_json();
    rig.run(keep_alive_with(session, total + 2000, &text, &[]));
    assert_eq!(rig.machine.ledger.sessions[&session].kept.len(), 0);
    rig.pass(Span::ZERO);
    rig.pass(Span::ZERO);
    assert_eq!(rig.machine.ledger.rubble.bytes(), 0);
}

/// The documented messages are what stands in the log: an entry made of them is understood.
#[test]
fn an_entry_of_documented_messages_is_applied() {
    use crate::wire::proto::counter::v1::{CounterInput, IncrementInput, counter_input};
    use crate::wire::proto::v1::{
        PrimitiveProposalInput, SessionProposalInput, StateMachineProposalInput,
        session_proposal_input::Input as Member, state_machine_proposal_input::Input as Top,
    };
    use prost::Message;
    let (mut rig, session, counter) = counter();
    let delta = IncrementInput { delta: -3 };
    let payload = CounterInput { input: Some(counter_input::Input::Increment(delta)) };
    let (primitive_id, payload) = (counter.0, payload.encode_to_vec().into());
    let mut target = PrimitiveProposalInput { primitive_id, payload }.encode_to_vec();
    put_uint(&mut target, 100, Kind::Counter as u64);
    // Field 100 is ours and unknown to the documented message: put in by hand, lengths with it.
    let body = proposal(session, 2, None, |into| put_bytes(into, 6, &target));
    let read = StateMachineProposalInput::decode(&body[..]).expect("documented");
    let Some(Top::Proposal(SessionProposalInput { input: Some(Member::Proposal(inner)), .. })) =
        read.input
    else {
        panic!("not a command");
    };
    assert_eq!(inner.primitive_id, counter.0);
    assert_eq!(ok(&rig.run(body)), number(-3i64 as u64));
}
