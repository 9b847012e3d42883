//! Each of the nine primitives against its plain model, and every replica against every other.
//!
//! Clients of a few sessions draw operations from a mix; they send some twice, repeat others much
//! later, keep their sessions alive or end them, and time passes. What comes back must be what the
//! model of `workload/model.rs`, a few lines over plain collections, says at that point of the one
//! order there is, lifetimes included. Beside the replica that answers stand others without
//! callers: one that applies everything, one restored from a snapshot on the way, one restored
//! twice, one restored again and again. In the end all have the same digest, and snapshots of the
//! same bytes whatever the size of their slices.
//!
//! A seed that fails is printed with its mix and its last operations. Absent on purpose: listings,
//! sizes and events, which the tests of each kind look at.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringraft::id::{Kind, PartitionId, Position, ShardId, Term, Ticket};
use ringraft::limits::Bounds;
use ringraft::partition::entry::EntryBuilder;
use ringraft::partition::machine::Machine;
use ringraft::partition::primitive::service_of;
use ringraft::partition::reply::{Body, Refusal, Replies, Status};
use ringraft::partition::snapshot::{Cursor, Progress};
use ringraft::prng::Prng;
use ringraft::time::{LogTime, Span};
use ringraft::wire::bloom::Filter;
use ringraft::wire::field::{Fields, put_bytes, put_duration, put_message, put_uint};
use ringraft::workload::Mix;
use ringraft::workload::answer::{Answer, Outcome, outcome};
use ringraft::workload::model::{Event, State};
use ringraft::workload::op::Op;

#[test]
fn every_primitive_agrees_with_its_model_and_every_replica_with_the_others() {
    for mix in Mix::ALL {
        let (mut written, mut expired, mut repeated) = (0, 0, 0);
        for seed in 0..SEEDS {
            let mut world = World::new(seed, mix);
            for _ in 0..STEPS {
                world.step();
            }
            world.level();
            written += world.written;
            expired += world.expired;
            repeated += world.repeated;
        }
        assert!(written > 20 * SEEDS as usize, "{}: {written} commands are few", mix.name());
        assert!(repeated > 2 * SEEDS as usize, "{}: {repeated} repeats are few", mix.name());
        let lives = [Mix::MapAll, Mix::Values, Mix::Indexed, Mix::Sets].contains(&mix);
        assert!(expired > 0 || !lives, "{}: nothing outlived its time", mix.name());
    }
}

const SEEDS: u64 = 12;
const STEPS: u64 = 250;
const PARTITION: PartitionId = PartitionId(1);

/// A client's session.
struct Client {
    name: String,
    session: u64,
    sequence: u64,
    /// By number: the operation that waits for its output, with its number in the world.
    open: BTreeMap<u64, (u64, Op)>,
    /// Up to here a keep-alive has said that all is known but what was open.
    acknowledged: u64,
    /// By number: what came of it.
    done: BTreeMap<u64, (Status, Vec<u8>)>,
    /// By number: what was sent.
    sent: BTreeMap<u64, Vec<u8>>,
}

struct World {
    seed: u64,
    mix: Mix,
    prng: Prng,
    now: LogTime,
    position: u64,
    tickets: u32,
    primitive: u64,
    clients: Vec<Client>,
    /// Whose call a ticket is: the session and the number.
    callers: BTreeMap<Ticket, (u64, u64)>,
    /// The one who answers, and the others.
    leader: Machine,
    others: [Machine; 4],
    /// By key; of a kind whose operations concern all of it, by the empty key.
    model: BTreeMap<String, State>,
    /// When what an operation wrote to a key is over.
    lives: BTreeSet<(LogTime, u64, String)>,
    /// Operations so far.
    number: u64,
    /// The session that ends with the next entry.
    ended: Option<u64>,
    /// A version that an answer has shown.
    seen: u64,
    story: VecDeque<String>,
    written: usize,
    expired: usize,
    repeated: usize,
}

/// Its place in the order, whose call it is, and what it says.
type Heard = (u8, (u64, u64), Status, Vec<u8>);

impl World {
    fn new(seed: u64, mix: Mix) -> World {
        let machine = || Machine::new(PARTITION, Bounds::default());
        let keys: &[&str] = if has_keys(mix.kind()) { &KEYS } else { &[""] };
        let states = keys.iter().map(|key| ((*key).to_owned(), State::initial(mix.kind())));
        let mut world = World {
            seed,
            mix,
            prng: Prng::new(seed << 8 | mix as u64),
            now: LogTime(1_700_000_000_000_000_000),
            position: 0,
            tickets: 0,
            primitive: 0,
            clients: Vec::new(),
            callers: BTreeMap::new(),
            leader: machine(),
            others: [machine(), machine(), machine(), machine()],
            model: states.collect(),
            lives: BTreeSet::new(),
            number: 0,
            ended: None,
            seen: 0,
            story: VecDeque::new(),
            written: 0,
            expired: 0,
            repeated: 0,
        };
        for number in 0..3 {
            let client = world.arrive(format!("c{number}"));
            world.clients.push(client);
        }
        world
    }

    /// One thing happens.
    fn step(&mut self) {
        self.now = self.now.after(Span(1 + self.prng.below(120_000_000)));
        let who = self.prng.below(self.clients.len() as u64) as usize;
        match self.prng.below(100) {
            0..8 => self.keep_alive(who),
            8..10 => self.leave(who),
            10..22 => self.repeat(who),
            22..26 => self.entry(&[], None),
            _ => self.operate(who),
        }
        let [_, once, twice, often] = &mut self.others;
        match self.position {
            100 => renew(once),
            60 | 180 => renew(twice),
            at if at % 7 == 0 => renew(often),
            _ => {}
        }
    }

    fn operate(&mut self, who: usize) {
        self.number += 1;
        let name = self.clients[who].name.clone();
        let op = self.mix.next(&mut self.prng, &name, self.number, self.seen);
        if op.is_query() {
            return self.query(who, &op);
        }
        self.written += 1;
        let client = &mut self.clients[who];
        client.sequence += 1;
        let own = (client.session, client.sequence);
        let body = command(own, self.primitive, &op);
        client.open.insert(own.1, (self.number, op));
        client.sent.insert(own.1, body.clone());
        let times = if self.prng.chance(100) { 2 } else { 1 };
        self.entry(&vec![(own, body); times], Some(own));
    }

    fn query(&mut self, who: usize, op: &Op) {
        let session = self.clients[who].session;
        let (ticket, mut body) = (self.ticket(), Vec::new());
        put_uint(&mut body, 1, session);
        put_message(&mut body, 3, |into| target(into, self.primitive, op));
        let mut replies = Replies::default();
        self.leader.query(ticket, &body, &mut replies);
        let (status, bytes) = match &replies.list[..] {
            [only] => match &only.body {
                Body::Output(output) => (output.status, replies.bytes_of(output).to_vec()),
                other => panic!("{other:?}\n{}", self.whereabouts()),
            },
            other => panic!("{other:?}\n{}", self.whereabouts()),
        };
        self.judge(session, self.number, op, status, &bytes);
    }

    /// A number that was used is used again: what was said is said again, nothing is done again.
    fn repeat(&mut self, who: usize) {
        let client = &self.clients[who];
        let back = self.prng.below(12);
        let number = client.sequence.saturating_sub(back);
        if let Some(body) = client.sent.get(&number) {
            let call = (client.session, number);
            self.entry(&[(call, body.clone())], None);
        }
    }

    /// The client has the outputs of all but what is open.
    fn keep_alive(&mut self, who: usize) {
        let client = &mut self.clients[who];
        client.acknowledged = client.sequence;
        let (session, sequence) = (client.session, client.sequence);
        let open: Vec<u64> = client.open.keys().copied().collect();
        let mut body = Vec::new();
        put_message(&mut body, 3, |into| {
            put_uint(into, 1, session);
            put_bytes(into, 2, &Filter::of(&open).to_json());
            put_uint(into, 3, sequence);
        });
        self.entry(&[((session, 0), body)], None);
    }

    /// A session is closed, and another takes its place.
    fn leave(&mut self, who: usize) {
        let (session, name) = (self.clients[who].session, self.clients[who].name.clone());
        self.ended = Some(session);
        let mut body = Vec::new();
        put_message(&mut body, 4, |into| put_uint(into, 1, session));
        self.entry(&[((session, 0), body)], None);
        self.clients[who] = self.arrive(name);
    }

    fn arrive(&mut self, name: String) -> Client {
        let mut open = Vec::new();
        put_message(&mut open, 2, |into| put_duration(into, 1, Span::secs(3600)));
        let session = self.number_said(&open);
        let mut create = Vec::new();
        put_message(&mut create, 5, |into| {
            put_uint(into, 1, session);
            put_uint(into, 2, 1);
            put_message(into, 4, |into| {
                put_message(into, 1, |into| {
                    put_bytes(into, 1, service_of(self.mix.kind()).as_bytes());
                    put_bytes(into, 3, b"it");
                });
            });
        });
        self.primitive = self.number_said(&create);
        let (open, done, sent) = Default::default();
        Client { name, session, sequence: 1, acknowledged: 0, open, done, sent }
    }

    /// The id that a command on its own is answered with.
    fn number_said(&mut self, body: &[u8]) -> u64 {
        let ticket = self.ticket();
        let replies = self.apply(&[body.to_vec()], &[Some(ticket)]);
        self.hear(&replies, None);
        let own = replies.list.iter().find(|reply| reply.ticket == ticket);
        let Some(Body::Output(output)) = own.map(|reply| &reply.body) else {
            panic!("{own:?}\n{}", self.whereabouts())
        };
        let mut fields = Fields::new(replies.bytes_of(output));
        fields.field().unwrap().unwrap().1.uint().unwrap()
    }

    /// An entry of these calls, whose numbers are 0 where nobody listens; `own` is the one that is
    /// new.
    fn entry(&mut self, calls: &[((u64, u64), Vec<u8>)], own: Option<(u64, u64)>) {
        let mut tickets = Vec::new();
        for (call, _) in calls {
            let ticket = self.ticket();
            if call.1 > 0 {
                self.callers.insert(ticket, *call);
            }
            tickets.push((call.1 > 0).then_some(ticket));
        }
        let bodies: Vec<Vec<u8>> = calls.iter().map(|(_, body)| body.clone()).collect();
        let replies = self.apply(&bodies, &tickets);
        self.hear(&replies, own);
    }

    fn apply(&mut self, bodies: &[Vec<u8>], callers: &[Option<Ticket>]) -> Replies {
        self.position += 1;
        let mut builder = EntryBuilder::new();
        builder.stamp(self.now);
        bodies.iter().for_each(|body| builder.push(body));
        let (position, data) = (Position(self.position), builder.finish());
        let mut replies = Replies::default();
        self.leader.apply(position, Term(1), &data, callers, &mut replies);
        let mut silence = Replies::default();
        for machine in &mut self.others {
            machine.apply(position, Term(1), &data, &[], &mut silence);
        }
        assert!(silence.is_empty(), "a replica without callers speaks");
        self.expire();
        replies
    }

    /// What the model knows to be over by now.
    fn expire(&mut self) {
        while self.lives.first().is_some_and(|(due, ..)| *due <= self.now) {
            let (_, writer, key) = self.lives.pop_first().expect("there is a first one");
            let state = self.model.get_mut(&key).expect("it was written to");
            if let Some(after) = state.step(&Event::Expire { writer }) {
                self.story.push_back(format!("#{writer} is over at {key:?}"));
                *state = after;
                self.expired += 1;
            }
        }
    }

    /// What callers heard, in the order in which it happened: waits that ended without success
    /// first, because timers run first, then what the entry's own command did, then what followed.
    fn hear(&mut self, replies: &Replies, own: Option<(u64, u64)>) {
        let mut outputs: Vec<Heard> = Vec::new();
        for reply in &replies.list {
            let Some(call) = self.callers.get(&reply.ticket).copied() else { continue };
            match &reply.body {
                Body::Output(output) => {
                    let rank = if Some(call) == own {
                        1
                    } else if output.status == Status::Ok {
                        2
                    } else {
                        0
                    };
                    let bytes = replies.bytes_of(output).to_vec();
                    outputs.push((rank, call, output.status, bytes));
                }
                Body::Refused(Refusal::Overtaken | Refusal::Cancelled) => {}
                other => panic!("{other:?}\n{}", self.whereabouts()),
            }
        }
        outputs.sort_by_key(|output| output.0);
        let (before, after) = outputs.split_at(outputs.partition_point(|output| output.0 == 0));
        self.outputs(before);
        if let Some(session) = self.ended.take() {
            for state in self.model.values_mut() {
                *state = state.step(&Event::SessionEnd { session }).expect("sessions end");
            }
        }
        self.outputs(after);
    }

    fn outputs(&mut self, outputs: &[Heard]) {
        for (_, (session, number), status, bytes) in outputs {
            self.output(*session, *number, *status, bytes.clone());
        }
    }

    fn output(&mut self, session: u64, number: u64, status: Status, bytes: Vec<u8>) {
        let Some(client) = self.clients.iter_mut().find(|it| it.session == session) else { return };
        if let Some((place, op)) = client.open.remove(&number) {
            client.done.insert(number, (status, bytes.clone()));
            self.judge(session, place, &op, status, &bytes);
        } else {
            self.repeated += 1;
            // A filter may keep a number open that is done.
            let known = client.done.get(&number).cloned();
            let finished = number <= client.acknowledged && status == Status::Canceled;
            if !finished {
                assert_eq!(Some((status, bytes)), known, "call {number}\n{}", self.whereabouts());
            }
        }
    }

    /// Holds what a client was told against the model.
    fn judge(&mut self, session: u64, number: u64, op: &Op, status: Status, bytes: &[u8]) {
        let said = outcome(op, status, bytes);
        if let Ok(Answer::Written { index, .. }) = &said {
            self.seen = *index;
        }
        self.story.push_back(format!("#{number} session {session} {op} -> {said:?}"));
        if self.story.len() > 30 {
            self.story.pop_front();
        }
        let keys: Vec<String> = match op.key() {
            Some(key) => vec![key.to_owned()],
            None => self.model.keys().cloned().collect(),
        };
        for key in keys {
            let Some((op, outcome)) = at_key(op, &said, &key) else { continue };
            let ttl = op.ttl();
            let event = Event::Call { number, session, op, outcome: Some(outcome) };
            let before = &self.model[&key];
            let Some(after) = before.step(&event) else {
                panic!("at {key:?} {before:?} does not explain the last\n{}", self.whereabouts())
            };
            if let Some(ttl) = ttl {
                // An operation that wrote nothing has nothing to be over.
                self.lives.insert((self.now.after(ttl), number, key.clone()));
            }
            self.model.insert(key, after);
        }
    }

    /// In the end every replica has the same state and writes the same bytes.
    fn level(&mut self) {
        let snapshot = snapshot_of(&self.leader, 1 << 20);
        for (which, other) in self.others.iter().enumerate() {
            let why = format!("replica {which}\n{}", self.whereabouts());
            assert_eq!(self.leader.digest(), other.digest(), "{why}");
            assert_eq!(snapshot, snapshot_of(other, 64 + which), "{why}");
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket { shard: ShardId(0), slot: self.tickets, generation: 0 }
    }

    fn whereabouts(&self) -> String {
        let story: Vec<&str> = self.story.iter().map(String::as_str).collect();
        format!("{} seed {}\n{}", self.mix.name(), self.seed, story.join("\n"))
    }
}

/// What an operation and what came of it say of one key; nothing, where a transaction does not
/// concern it or failed, which is told of no key.
fn at_key(op: &Op, said: &Outcome, key: &str) -> Option<(Op, Outcome)> {
    let Op::MapApply { steps } = op else {
        return Some((op.at(key), said.clone()));
    };
    let place = steps.iter().position(|step| step.key() == Some(key))?;
    match said {
        Ok(Answer::Many(answers)) => Some((steps[place].clone(), Ok(answers[place].clone()))),
        _ => None,
    }
}

/// Whether the model of a kind is one of a key; the keys that mixes draw.
fn has_keys(kind: Kind) -> bool {
    matches!(kind, Kind::CounterMap | Kind::Map | Kind::MultiMap | Kind::Set)
}

const KEYS: [&str; 3] = ["ash", "birch", "cedar"];

fn command((session, sequence): (u64, u64), primitive: u64, op: &Op) -> Vec<u8> {
    let mut body = Vec::new();
    put_message(&mut body, 5, |into| {
        put_uint(into, 1, session);
        put_uint(into, 2, sequence);
        put_message(into, 6, |into| target(into, primitive, op));
    });
    body
}

fn target(into: &mut Vec<u8>, primitive: u64, op: &Op) {
    put_uint(into, 1, primitive);
    put_bytes(into, 2, &op.payload());
    put_uint(into, 100, op.kind() as u64);
}

fn snapshot_of(machine: &Machine, budget_bytes: usize) -> Vec<u8> {
    let (mut cursor, mut bytes) = (Cursor::new(), Vec::new());
    let state = machine.freeze();
    while state.write(&mut cursor, budget_bytes, &mut bytes) == Progress::More {}
    bytes
}

/// The replica is started anew from its own snapshot.
fn renew(machine: &mut Machine) {
    let snapshot = snapshot_of(machine, 1 << 20);
    *machine = Machine::restore(PARTITION, Bounds::default(), &snapshot).expect("it is sound");
}
