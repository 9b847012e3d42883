//! The path of a command without sockets, cut at its stages, so that each can be measured alone.
//!
//! ```text
//!  octets ─ http2 ─► messages ─ admission ─► entries ─ raft ─► records ─ journal ─► blocks
//!                                                                                     │ durable
//!  octets ◄─ reply ─ outputs ◄──────── apply ◄──────── raft ◄────────────────────────┘
//! ```
//!
//! A round takes a batch of increments through all of them, one stage after another, with the calls
//! that `Shard::turn` and the frontend make, in their order. Partitions have one voter, as a node
//! alone has them. raft and apply are one call, `Partition::settle`; a second state machine that is
//! given the same entries says what of it is apply. Absent on purpose: sockets, the ring, the table
//! of tickets, the turn's own bookkeeping.

use prost::Message as _;
use raft::eraftpb::Entry;

use ringraft::edge::dialect::Dialect;
use ringraft::edge::request::{Naming, Rules as EdgeRules};
use ringraft::edge::{method, request, response};
use ringraft::id::{NodeId, PartitionId, Position, ShardId, Term, Ticket};
use ringraft::journal::{Founding, Journal, Layout, Order, Owner, Resume};
use ringraft::partition::effects::{Effects, Record};
use ringraft::partition::machine::Machine;
use ringraft::partition::member::{Group, Member, Role};
use ringraft::partition::reply::{Body, Replies};
use ringraft::partition::{Lane, Partition, Rules};
use ringraft::shard::admit::Admit;
use ringraft::shard::{inbox::Requests, ledger};
use ringraft::time::{Instant, LogTime, Now, Span};
use ringraft::wire::field::{put_bytes, put_message, put_uint};
use ringraft::wire::http2::{Connection, Event, Key, Limits, Message, Route};
use ringraft::wire::proto::{counter, v1};

use crate::client::{Client, NOTHING_OPEN};
use crate::world::without_snapshots;

/// The path of the calls.
const PATH: &str = "/atomix.multiraft.counter.v1.Counter/Increment";
const CONNECTIONS: usize = 8;
const EDGE: EdgeRules = EdgeRules {
    session_timeout_default: Span::secs(30),
    session_timeout_max: Span::secs(86_400),
    node: NodeId(1),
    naming: Naming::ByNode,
};

type Router = fn(&[u8]) -> Option<Route>;

/// A stage of a round, in the order in which they come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// Frames and headers to messages.
    Http2,
    /// The ids sliced out of a message, the command checked, and put into its entry.
    Admission,
    /// A partition's first settlement: propose, ready, records.
    Propose,
    /// Records to sealed blocks, and what is durable taken note of.
    Journal,
    /// A partition's second settlement: durable, commit, apply.
    Commit,
    /// What of that is apply, done by another machine.
    Apply,
    /// Outputs to frames.
    Reply,
}

/// Everything that a round goes through.
pub struct Line {
    wires: Vec<Wire>,
    seats: Vec<Seat>,
    rules: Rules,
    admit: Admit,
    requests: Requests,
    calls: Vec<(usize, Key, u16, Message)>,
    effects: Effects,
    journal: Journal,
    orders: Vec<Order>,
    entries: Vec<(usize, Entry)>,
    callers: Vec<Vec<Option<Ticket>>>,
    told: Replies,
    turn: u64,
    now: Now,
}

/// A connection, and what comes on it.
struct Wire {
    connection: Connection<Router>,
    input: Vec<u8>,
    stream: u32,
}

/// A partition, the machine beside it, and its one client.
struct Seat {
    partition: Partition,
    load: ringraft::partition::Load,
    twin: Machine,
    sequence: u64,
}

impl Line {
    /// So many partitions with a session and a counter each.
    pub fn new(partitions: u32) -> Line {
        let settings = without_snapshots();
        let rules = settings.rules();
        let owner = Owner { node: settings.node, shard: settings.shard };
        let mut journal = Journal::resume(Layout::default(), owner, Resume::fresh());
        let seats = (1..=partitions).map(|id| seat(PartitionId(id), &rules, &mut journal));
        let mut line = Line {
            seats: seats.collect(),
            wires: (0..CONNECTIONS).map(|_| Wire::new()).collect(),
            rules,
            admit: Admit::new(settings.load_max()),
            requests: Requests::default(),
            calls: Vec::new(),
            effects: Effects::default(),
            journal,
            orders: Vec::new(),
            entries: Vec::new(),
            callers: vec![Vec::new(); partitions as usize],
            told: Replies::default(),
            turn: 0,
            now: Now { monotonic: Instant(0), wall: LogTime(1) },
        };
        line.pass();
        for body in Client::opening() {
            line.propose_each(&body);
            line.pass();
        }
        line.effects.replies.clear();
        line
    }

    /// A round of so many increments, each stage of it run by `run`, which is told which it is.
    pub fn round(&mut self, commands: u32, mut run: impl FnMut(Stage, &mut dyn FnMut())) {
        self.prepare(commands);
        run(Stage::Http2, &mut || self.http2());
        assert_eq!(self.calls.len(), commands as usize, "every call is a message");
        run(Stage::Admission, &mut || self.admission());
        self.begin();
        run(Stage::Propose, &mut || self.propose());
        self.remember();
        run(Stage::Journal, &mut || self.journal());
        self.begin();
        run(Stage::Commit, &mut || self.commit());
        run(Stage::Apply, &mut || self.apply());
        assert_eq!(self.told.list.len(), commands as usize, "the twin answers too");
        run(Stage::Reply, &mut || self.reply());
        self.close();
    }

    /// Every client says that it has its answers, which the state then drops.
    pub fn keep_alive(&mut self) {
        for seat in 0..self.seats.len() {
            let last = self.seats[seat].sequence;
            let mut body = Vec::new();
            put_message(&mut body, 3, |beat| {
                put_uint(beat, 1, 1);
                put_bytes(beat, 2, NOTHING_OPEN);
                put_uint(beat, 3, last);
            });
            self.propose_at(seat, &body);
        }
        self.pass();
    }

    /// The octets of a batch of calls, spread over connections and partitions.
    fn prepare(&mut self, commands: u32) {
        self.now.monotonic = self.now.monotonic.after(Span::micros(100));
        for number in 0..commands as usize {
            let place = number % self.seats.len();
            let seat = &mut self.seats[place];
            seat.sequence += 1;
            let message = message(place as u32 + 1, seat.sequence);
            self.wires[number * CONNECTIONS / commands as usize].put_call(&message);
            let slot = u32::try_from(number).expect("few");
            self.callers[place].push(Some(ticket(slot)));
        }
    }

    #[inline(never)]
    fn http2(&mut self) {
        for (place, wire) in self.wires.iter_mut().enumerate() {
            let mut taken = 0;
            while let Some(event) = wire.connection.poll(&wire.input, &mut taken) {
                let Event::Message { key, meta, message, .. } = event else { panic!("{event:?}") };
                self.calls.push((place, key, meta.method, message));
            }
        }
    }

    #[inline(never)]
    fn admission(&mut self) {
        for (slot, (place, _, called, message)) in (0..).zip(&self.calls) {
            let octets = message.octets(&self.wires[*place].input);
            let method = method::get(*called);
            let call = request::read(method, octets, Dialect::Documented, &EDGE).expect("good");
            call.write(ticket(slot), None, &mut self.requests);
        }
        for request in &self.requests.list {
            let body = self.requests.body(request);
            let seat = &mut self.seats[request.partition.0 as usize - 1];
            let state = seat.partition.state_bytes();
            let lane = self.admit.check(body, state, usize::MAX);
            let caller = (request.ticket, request.deadline);
            let lane = lane.expect("there is room");
            let taken = seat.partition.propose(caller, body, lane, self.now, &self.rules);
            taken.expect("it leads");
            let load = seat.partition.load();
            self.admit.moved(seat.load, load);
            seat.load = load;
        }
        self.requests.clear();
    }

    #[inline(never)]
    fn propose(&mut self) {
        for seat in &mut self.seats {
            seat.partition.settle(self.now, &self.rules, &mut self.effects);
        }
    }

    #[inline(never)]
    fn journal(&mut self) {
        for (partition, record) in &self.effects.records {
            ledger::write(&mut self.journal, *partition, record);
        }
        self.effects.records.clear();
        let mark = self.journal.seal(&mut self.orders);
        for order in self.orders.drain(..) {
            if let Order::Write(block) = order {
                self.journal.recycle(block.buffer);
            }
        }
        self.journal.durable(mark, &mut self.orders);
    }

    #[inline(never)]
    fn commit(&mut self) {
        for seat in &mut self.seats {
            seat.partition.durable(self.turn - 1);
            seat.partition.settle(self.now, &self.rules, &mut self.effects);
            let load = seat.partition.load();
            self.admit.moved(seat.load, load);
            seat.load = load;
        }
    }

    #[inline(never)]
    fn apply(&mut self) {
        for (place, entry) in &self.entries {
            let (position, term) = (Position(entry.index), Term(entry.term));
            let (machine, callers) = (&mut self.seats[*place].twin, &self.callers[*place]);
            machine.apply(position, term, &entry.data, callers, &mut self.told);
        }
    }

    #[inline(never)]
    fn reply(&mut self) {
        let replies = &self.effects.replies;
        for reply in &replies.list {
            let Body::Output(output) = &reply.body else { panic!("{reply:?}") };
            let (place, key, called, _) = &self.calls[reply.ticket.slot as usize];
            let method = method::get(*called);
            let wire = &mut self.wires[*place];
            wire.connection.unary_with(*key, |into| {
                let bytes = replies.bytes_of(output);
                response::compose(method, Dialect::Documented, output, bytes, into);
            });
        }
        for wire in &mut self.wires {
            let octets = wire.connection.output().len();
            wire.connection.wrote(octets);
        }
    }

    fn close(&mut self) {
        self.effects.replies.clear();
        self.told.clear();
        self.calls.clear();
        self.entries.clear();
        self.callers.iter_mut().for_each(Vec::clear);
        self.wires.iter_mut().for_each(|wire| wire.input.clear());
    }

    fn begin(&mut self) {
        self.turn += 1;
        self.effects.begin(self.turn);
    }

    /// The entries that are to be applied, for the twin.
    fn remember(&mut self) {
        for (partition, record) in &self.effects.records {
            let Record::Entries(entries) = record else { continue };
            let place = partition.0 as usize - 1;
            self.entries.extend(entries.iter().map(|entry| (place, entry.clone())));
        }
    }

    fn propose_each(&mut self, body: &[u8]) {
        (0..self.seats.len()).for_each(|seat| self.propose_at(seat, body));
    }

    fn propose_at(&mut self, seat: usize, body: &[u8]) {
        let partition = &mut self.seats[seat].partition;
        let taken =
            partition.propose((ticket(0), None), body, Lane::Ordinary, self.now, &self.rules);
        taken.expect("it leads");
    }

    /// What was proposed goes all the way, unmeasured.
    fn pass(&mut self) {
        for _ in 0..2 {
            self.begin();
            self.propose();
            self.remember();
            self.journal();
            self.begin();
            self.commit();
            self.remember();
            self.journal();
        }
        for reply in &self.effects.replies.list {
            assert!(matches!(reply.body, Body::Output(_)), "{reply:?}");
        }
        self.apply();
        self.close();
    }
}

impl Wire {
    fn new() -> Wire {
        let router: Router = |path| method::find(path).map(|method| Route { method, single: true });
        let limits = Limits { output_high_bytes: usize::MAX, ..Limits::default() };
        let mut connection = Connection::new(router, limits, 7, 0);
        let mut octets = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        put_head(&mut octets, 0, 4, 0, 0);
        // A window that never closes.
        put_head(&mut octets, 4, 8, 0, 0);
        octets.extend_from_slice(&0x7000_0000_u32.to_be_bytes());
        let mut taken = 0;
        assert!(connection.poll(&octets, &mut taken).is_none());
        let sent = connection.output().len();
        connection.wrote(sent);
        Wire { connection, input: Vec::new(), stream: 1 }
    }

    /// HEADERS and DATA of one call; the fields are indexed from a connection's second call on.
    fn put_call(&mut self, message: &[u8]) {
        let mut block = vec![0x83, 0x86];
        if self.stream == 1 {
            for (name, value) in
                [(4u8, PATH), (1, "localhost"), (0, "trailers"), (31, "application/grpc")]
            {
                block.push(0x40 | name);
                if name == 0 {
                    block.extend_from_slice(&[2, b't', b'e']);
                }
                block.push(value.len() as u8);
                block.extend_from_slice(value.as_bytes());
            }
        } else {
            block.extend_from_slice(&[0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]);
        }
        put_head(&mut self.input, block.len(), 1, 4, self.stream);
        self.input.extend_from_slice(&block);
        put_head(&mut self.input, message.len() + 5, 0, 1, self.stream);
        self.input.push(0);
        self.input.extend_from_slice(&(message.len() as u32).to_be_bytes());
        self.input.extend_from_slice(message);
        self.stream += 2;
    }
}

fn seat(id: PartitionId, rules: &Rules, journal: &mut Journal) -> Seat {
    let (host, port, role) = ("localhost".to_owned(), 5679, Role::Member);
    let members = vec![Member { node: NodeId(1), host, port, role }];
    let group = Group { partition: id, local: NodeId(1), members, joins: false };
    journal.founded(id, &Founding { replica: 1, ..Founding::default() });
    let partition = Partition::found(&group, rules);
    let load = partition.load();
    Seat { partition, load, twin: Machine::new(id, rules.bounds.clone()), sequence: 1 }
}

fn ticket(slot: u32) -> Ticket {
    Ticket { shard: ShardId(0), slot, generation: 0 }
}

/// An increment by the partition's one client.
fn message(partition: u32, sequence: u64) -> Vec<u8> {
    let partition = Some(v1::PartitionRequestHeaders { partition_id: partition });
    let session = Some(v1::SessionRequestHeaders { partition, session_id: 1 });
    let session = Some(v1::PrimitiveRequestHeaders { session, primitive_id: 2 });
    let operation = Some(v1::OperationRequestHeaders { session });
    let headers = v1::CommandRequestHeaders { operation, sequence_num: sequence };
    let input = Some(counter::v1::IncrementInput { delta: 1 });
    counter::v1::IncrementRequest { headers: Some(headers), input }.encode_to_vec()
}

fn put_head(octets: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    octets.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    octets.extend_from_slice(&[kind, flags]);
    octets.extend_from_slice(&stream.to_be_bytes());
}
