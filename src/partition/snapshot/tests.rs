//! Snapshots survive, and nothing that is not one is taken.

use std::collections::BTreeMap;

use super::*;
use crate::id::Kind;
use crate::id::{Position, Ticket};
use crate::partition::entry::EntryBuilder;
use crate::partition::reply::Replies;
use crate::partition::rig::*;
use crate::prng::Prng;
use crate::time::Span;
use crate::wire::field::take_delimited;

/// A state with something of everything in it.
fn rich() -> Rig {
    let mut rig = Rig::new();
    let (one, two) = (rig.open(Span::secs(60)), rig.open(Span::secs(3600)));
    let counter = rig.create(one, 1, Kind::Counter, "c");
    let lock = rig.create(one, 2, Kind::Lock, "l");
    let map = rig.create(one, 3, Kind::Map, "m");
    let election = rig.create(one, 4, Kind::LeaderElection, "e");
    for (number, kind) in [(1, Kind::Lock), (2, Kind::Map), (3, Kind::LeaderElection)] {
        let name = ["l", "m", "e"][number as usize - 1];
        rig.create(two, number, kind, name);
    }
    rig.run(command(one, 5, counter, &increment(-7)));
    rig.run(command(one, 6, lock, &acquire(None)));
    rig.send(command(two, 4, lock, &acquire(Some(Span::secs(30)))));
    rig.send(command(one, 7, lock, &acquire(None)));
    rig.send(command_until(two, 5, map, &events(""), rig.now.after(Span::secs(50))));
    rig.send(command_opening(one, 8, map, &events("b")));
    for (number, key) in [(9, "a"), (10, "b"), (11, "c")] {
        rig.run(command(one, number, map, &put(key, b"value", Some(Span::secs(number)), 0)));
    }
    rig.send(command_until(two, 6, lock, &acquire(None), LogTime(1)));
    rig.send(command(two, 7, map, &events("zz")));
    rig.run(command(one, 12, election, &elect(1, "x")));
    rig.run(command(two, 8, election, &elect(1, "y")));
    rig.run(command(two, 9, counter, &increment(1)));
    let many = rig.create(one, 13, Kind::MultiMap, "mm");
    let texts = |tag, values: &[&str]| {
        let mut input = Vec::new();
        put_bytes(&mut input, 1, b"k");
        values.iter().for_each(|value| put_bytes(&mut input, 2, value.as_bytes()));
        Op(Kind::MultiMap, tag, input)
    };
    rig.send(command(one, 14, many, &texts(11, &[])));
    rig.run(command(one, 15, many, &texts(3, &["x", "y"])));
    let mut prepare = number(16);
    for Op(_, tag, step) in [put("c", b"w", None, 0), put("d", b"w", None, 0)] {
        put_message(&mut prepare, 2, |into| put_bytes(into, tag, &step));
    }
    rig.run(command(one, 16, map, &Op(Kind::Map, 12, prepare)));
    rig.run(command(one, 18, map, &Op(Kind::Map, 14, number(17))));
    rig.run(keep_alive(two, 40, &[4, 5, 6, 8, 30, 31], &[(5, 2)]));
    rig.term = Term(2);
    rig.pass(Span::secs(1));
    rig
}

/// Every cut, every changed byte: refused, or, where it is sound, a machine that works.
#[test]
fn damaged_snapshots_are_refused_and_never_fatal() {
    let rig = rich();
    let snapshot = snapshot_of(&rig.machine, 1 << 20);
    let restore = |bytes: &[u8]| Machine::restore(PARTITION, rig.bounds.clone(), bytes);
    for cut in 0..snapshot.len() {
        assert!(restore(&snapshot[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..snapshot.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = snapshot.clone();
            bytes[at] ^= flip;
            assert!(restore(&bytes).is_err(), "byte {at} changed by {flip}");
        }
    }
    let other = Machine::restore(PartitionId(2), rig.bounds.clone(), &snapshot);
    assert!(matches!(other, Err(Broken::Malformed(_))));
}

/// However its slices are cut, the state is the same; and it is one only with the last.
#[test]
fn a_snapshot_is_read_in_slices() {
    let rig = rich();
    let snapshot = snapshot_of(&rig.machine, 1 << 20);
    for length in [1, 2, 7, 64, 1000, snapshot.len() - 1, snapshot.len()] {
        let mut reading = Reading::new(PARTITION, rig.bounds.clone());
        for slice in snapshot.chunks(length) {
            reading.take(slice).expect("sound");
        }
        let (machine, digest) = reading.finish().expect("whole");
        assert_eq!((machine.digest(), digest), (rig.machine.digest(), digest), "{length}");
        assert_eq!(snapshot_of(&machine, 100), snapshot, "{length}");
        let mut reading = Reading::new(PARTITION, rig.bounds.clone());
        for slice in snapshot[..snapshot.len() - 1].chunks(length) {
            reading.take(slice).expect("sound");
        }
        assert!(reading.finish().is_err(), "{length}: something is missing");
    }
    let mut reading = Reading::new(PARTITION, rig.bounds.clone());
    reading.take(&snapshot).expect("sound");
    assert!(reading.take(&[HEADER]).is_err(), "nothing follows the end");
}

/// A hostile snapshot has a right digest too: records are mutated, dropped, doubled and moved, and
/// the end is made to fit. What is taken must work, and be able to write itself.
#[test]
fn hostile_snapshots_are_refused_or_work() {
    let rig = rich();
    let snapshot = snapshot_of(&rig.machine, 1 << 20);
    let records = split(&snapshot);
    let mut taken = 0;
    for seed in 0..6_000 {
        let mut prng = Prng::new(seed);
        let mut records = records.clone();
        for _ in 0..prng.between(1, 3) {
            let at = prng.below(records.len() as u64) as usize;
            match prng.below(8) {
                0 => drop(records.remove(at)),
                1 => {
                    let copy = records[at].clone();
                    records.insert(prng.below(records.len() as u64) as usize, copy);
                }
                2 => records[at].0 = prng.below(40) as u8,
                _ if records[at].1.is_empty() => {}
                _ => {
                    let payload = &mut records[at].1;
                    let place = prng.below(payload.len() as u64) as usize;
                    payload[place] =
                        *prng.pick(&[0, 1, 2, 0x7f, 0xff, prng.clone().below(256) as u8]);
                }
            }
            if records.is_empty() {
                break;
            }
        }
        let Ok(mut machine) = Machine::restore(PARTITION, rig.bounds.clone(), &join(&records))
        else {
            continue;
        };
        taken += 1;
        let again = snapshot_of(&machine, 1 << 20);
        let restored = Machine::restore(PARTITION, rig.bounds.clone(), &again);
        assert_eq!(restored.map(|it| it.digest()), Ok(machine.digest()), "seed {seed}");
        let mut replies = Replies::default();
        for (position, secs) in [(1, 10), (2, 100), (3, 1 << 30)] {
            let mut builder = EntryBuilder::new();
            builder.stamp(rig.now.after(Span::secs(secs)));
            builder.push(&open_session(Span::secs(1)));
            let data = builder.finish();
            machine.apply(Position(position), Term(2), &data, &[], &mut replies);
        }
        let _ = snapshot_of(&machine, 1 << 20);
    }
    assert!(taken > 60, "only {taken} were taken: the test mutates too much");
}

/// Nothing that an entry or a query holds is fatal: commands of a rich state, mutated.
#[test]
fn hostile_commands_are_answered_and_never_fatal() {
    for seed in 0..150 {
        let mut prng = Prng::new(seed);
        let mut rig = rich();
        rig.strict = false;
        let (one, two) = (SessionId(1), SessionId(2));
        let ids: Vec<PrimitiveId> = rig.machine.primitives.keys().copied().collect();
        for round in 0..60u64 {
            let session = *prng.pick(&[one, two]);
            let number = prng.between(1, 60);
            let id = *prng.pick(&ids);
            let tag = prng.below(16) as u32;
            let kind = *prng.pick(&[
                Kind::Counter,
                Kind::Lock,
                Kind::Map,
                Kind::LeaderElection,
                Kind::MultiMap,
            ]);
            let text = *prng.pick(&["a", "b", "x", ""]);
            let input = map_input(text, b"v", Some(Span::millis(prng.below(3000))), prng.below(9));
            let op = Op(kind, tag, input);
            let mut body = match prng.below(8) {
                0 => keep_alive(session, prng.below(60), &[prng.below(60)], &[(5, round)]),
                1 => create(session, number, kind, text),
                2 => close_primitive(session, number, id),
                4 => command(session, number, id, &transaction(&mut prng, number)),
                3 => command_until(session, number, id, &op, rig.now),
                _ => command(session, number, id, &op),
            };
            for _ in 0..prng.below(4) {
                let at = prng.below(body.len() as u64) as usize;
                body[at] = *prng.pick(&[0, 1, 0x7f, 0xff, body[at].wrapping_add(1)]);
            }
            rig.now = rig.now.after(Span::millis(prng.below(1500)));
            let ticket = rig.ticket();
            rig.machine.query(ticket, &body[..body.len().min(30)], &mut rig.replies);
            rig.send(body);
            if round % 20 == 0 {
                rig.compare();
            }
        }
        rig.compare();
    }
}

/// A Prepare, Commit, Abort or Apply that can be understood.
fn transaction(prng: &mut Prng, own: u64) -> Op {
    let tag = prng.between(12, 15) as u32;
    let mut input = Vec::new();
    if tag < 15 {
        put_uint(&mut input, 1, *prng.pick(&[own, 16, prng.clone().below(60)]));
    }
    let steps = if matches!(tag, 12 | 15) { prng.below(3) } else { 0 };
    for _ in 0..steps {
        let ttl = prng.chance(500).then_some(Span::millis(300));
        let key = *prng.pick(&["a", "b", "c", "d"]);
        let Op(_, step, bytes) = put(key, b"t", ttl, 0);
        put_message(&mut input, if tag == 12 { 2 } else { 1 }, |into| {
            put_bytes(into, step, &bytes);
        });
    }
    Op(Kind::Map, tag, input)
}

/// Snapshots lie on disks and travel between versions: the bytes of a small state, for good.
#[test]
fn the_format_stays() {
    let mut rig = Rig::new();
    rig.now = LogTime(5_000_000_007);
    let session = rig.open(Span::secs(60));
    let counter = rig.create(session, 1, Kind::Counter, "c");
    rig.run(command(session, 2, counter, &increment(5)));
    let hex: String =
        snapshot_of(&rig.machine, 1).iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = concat!(
        "01110803120408051007a00601a80601b00601",
        "0211080110011a02083c220408051007a00601",
        "0419080210021a06080110012200220908011a020802a006022801",
        "0424080310021a0d08011002320712020a00a00601220d08012a060a040a020805a006032801",
        "07310802122d0a2161746f6d69782e72756e74696d652e636f756e7465722e76312e436f756e7465",
        "72120573706163651a0163",
        "08030a0101",
        "10020805",
        "090b090caf932d827257a11007",
    );
    assert_eq!(hex, expected);
}

/// The records that the specification documents are readable as such.
#[test]
fn records_are_the_documented_messages() {
    use crate::wire::proto::{counter, election, lock, map, multimap, v1};
    use prost::Message;
    let rig = rich();
    let mut kinds = BTreeMap::new();
    for (kind, payload) in split(&snapshot_of(&rig.machine, 50)) {
        *kinds.entry(kind).or_insert(0) += 1;
        let payload = &payload[..];
        match kind {
            HEADER => {
                let header = v1::Snapshot::decode(payload).expect("documented");
                assert_eq!(header.index, rig.machine.index().0);
            }
            SESSION => {
                let session = v1::SessionSnapshot::decode(payload).expect("documented");
                assert!(session.timeout.is_some() && session.last_updated.is_some());
            }
            CALL | KEPT => {
                let it = v1::SessionProposalSnapshot::decode(payload).expect("documented");
                assert!(it.index > 0 && it.input.is_some_and(|input| input.input.is_some()));
                for output in it.pending_outputs {
                    if let Some(v1::session_proposal_output::Output::Proposal(it)) = output.output {
                        let known = counter::v1::CounterOutput::decode(&it.payload[..]).is_ok()
                            || map::v1::MapOutput::decode(&it.payload[..]).is_ok()
                            || lock::v1::LockOutput::decode(&it.payload[..]).is_ok()
                            || election::v1::LeaderElectionOutput::decode(&it.payload[..]).is_ok();
                        assert!(known);
                    }
                }
            }
            PRIMITIVE => {
                let primitive = v1::PrimitiveSnapshot::decode(payload).expect("documented");
                let spec = primitive.spec.expect("always there");
                assert!(spec.service.starts_with("atomix.runtime."));
            }
            19 => drop(map::v1::MapListener::decode(payload).expect("documented")),
            20 => drop(map::v1::MapEntry::decode(payload).expect("documented")),
            21 => {
                let it = election::v1::LeaderElectionSnapshot::decode(payload).expect("documented");
                assert_eq!((it.term, it.candidates.len()), (1, 1));
            }
            26 => drop(multimap::v1::MultiMapListener::decode(payload).expect("documented")),
            27 => drop(multimap::v1::MultiMapEntry::decode(payload).expect("documented")),
            _ => {}
        }
    }
    let common = [HEADER, SESSION, CALL, KEPT, OPEN, PRIMITIVE, OPENED_BY, END];
    for kind in common.into_iter().chain(16..=21).chain([26, 27, 33, 34]) {
        assert!(kinds.contains_key(&kind), "no record of kind {kind}");
    }
}

/// core.md D12: pending commands go to their own session, and to nobody else.
#[test]
fn a_restored_replica_cancels_only_what_ends() {
    let mut rig = rich();
    let snapshot = snapshot_of(&rig.machine, 1000);
    let mut machine = Machine::restore(PARTITION, rig.bounds.clone(), &snapshot).expect("sound");
    let tickets: [Ticket; 2] = [rig.ticket(), rig.ticket()];
    let map = PrimitiveId(5);
    let mut builder = EntryBuilder::new();
    builder.stamp(rig.now);
    builder.push(&command(SessionId(1), 8, map, &events("b")));
    builder.push(&close_session(SessionId(2)));
    let mut replies = Replies::default();
    let callers = tickets.map(Some);
    machine.apply(Position(9), Term(2), &builder.finish(), &callers, &mut replies);
    let ended = replies.list.iter().filter(|reply| reply.ticket == tickets[0] && reply.last);
    assert_eq!(ended.count(), 0, "the stream of session 1 goes on");
}

/// Two leaders that begin at one stamp: what the first one's grace came to is in the snapshot, and
/// the second adds nothing to it.
#[test]
fn two_terms_of_one_moment_give_one_grace() {
    let mut rig = Rig::new();
    rig.open(Span::secs(60));
    rig.term = Term(2);
    rig.pass(Span::secs(1));
    rig.open(Span::secs(60));
    rig.term = Term(3);
    rig.pass(Span(0));
    rig.pass(Span::secs(61));
}

fn split(snapshot: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut rest, mut records) = (snapshot, Vec::new());
    while let [kind, tail @ ..] = rest {
        rest = tail;
        records.push((*kind, take_delimited(&mut rest).expect("sound").to_vec()));
    }
    records
}

/// The records, but for an end, and an end that fits them.
fn join(records: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let (mut bytes, mut digest, mut count) = (Vec::new(), 0, 0);
    let mut put = |kind: u8, payload: &[u8]| {
        bytes.push(kind);
        put_varint(&mut bytes, payload.len() as u64);
        bytes.extend_from_slice(payload);
    };
    for (kind, payload) in records.iter().filter(|(kind, _)| *kind != END) {
        put(*kind, payload);
        digest = digest_record(digest, *kind, payload);
        count += 1;
    }
    let mut end = Vec::new();
    put_fixed(&mut end, 1, digest);
    put_uint(&mut end, 2, count);
    put(END, &end);
    bytes
}
