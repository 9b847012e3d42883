//! Several shards in memory, in rounds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;

use crate::{
    id::{Index, Mark, NodeId, PartitionId, ShardId, Ticket},
    journal::{self, Order, Owner, SegmentBytes},
    partition::{
        Partition,
        reply::{Body, Event, Refusal, Reply, Status},
    },
    prng::Prng,
    shard::{
        Peers, Settings, Shard, Stats,
        inbox::{Ask, Delivery, DiskRoom, Inbox, LinkNews, Member, Role},
        outbox::Outbox,
    },
    time::{Instant, LogTime, Now, Span},
    wire::{
        bundle,
        format::FORMATS,
        proto::v1::{
            CloseSessionInput, OpenSessionInput, StateMachineProposalInput,
            state_machine_proposal_input::Input,
        },
    },
};

pub fn member(node: u32) -> Member {
    let host = format!("node{node}");
    Member { node: NodeId(node), host, port: 5679, role: Role::Member }
}

pub fn open_session() -> Vec<u8> {
    body(Input::OpenSession(OpenSessionInput::default()))
}

pub fn close_session(session_id: u64) -> Vec<u8> {
    body(Input::CloseSession(CloseSessionInput { session_id }))
}

fn body(input: Input) -> Vec<u8> {
    StateMachineProposalInput { timestamp: None, input: Some(input) }.encode_to_vec()
}

pub struct World {
    pub now: Now,
    pub trace: Vec<String>,
    pub snapshots_delivered: usize,
    shards: Vec<Place>,
    said: BTreeMap<Ticket, Vec<Reply>>,
    outputs: BTreeMap<Ticket, Vec<Vec<u8>>>,
    cut: BTreeSet<usize>,
    /// Ways that carry nothing, without a word.
    deaf: BTreeSet<(usize, usize)>,
    loses: BTreeSet<usize>,
    /// The next snapshot for this shard ends after so many pieces.
    breaks: BTreeMap<usize, usize>,
    tickets: u32,
    /// Shards are cores of one node, or nodes of one core.
    cores: bool,
    /// Loses, doubles and delays what goes between nodes.
    mischief: Option<Prng>,
    delayed: Vec<(u64, usize, NodeId, Bytes)>,
    /// The last bundle of each way.
    bundles: BTreeMap<(usize, usize), Bytes>,
}

struct Place {
    settings: Settings,
    shard: Shard,
    inbox: Inbox,
    outbox: Outbox,
    disk: Disk,
    wake: Option<Instant>,
    counts: Counts,
    fresh: bool,
}

#[derive(Default)]
struct Disk {
    segments: BTreeMap<u64, Vec<u8>>,
    history: Vec<Step>,
    writes: usize,
    /// Ordered and not reported, with what they reach.
    pending: Vec<(Mark, Step)>,
    held: bool,
}

#[derive(Clone)]
enum Step {
    Open(u64, Vec<u8>),
    Write { segment: u64, offset: usize, bytes: Vec<u8> },
    Recycle(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    pub turns: usize,
    pub writes: usize,
    pub bundles: usize,
}

impl Counts {
    pub fn less(&self, before: &Counts) -> Counts {
        Counts {
            turns: self.turns - before.turns,
            writes: self.writes - before.writes,
            bundles: self.bundles - before.bundles,
        }
    }
}

impl World {
    pub fn alone() -> World {
        World::alone_with(|_| {})
    }

    pub fn alone_with(change: impl Fn(&mut Settings)) -> World {
        World::new(1, false, Peers::Alone, 1, change)
    }

    pub fn three(seed: u64) -> World {
        World::three_with(seed, |_| {})
    }

    /// So many nodes; groups may leave some out.
    pub fn nodes(count: u16, seed: u64) -> World {
        World::new(count, false, Peers::Allowed, seed, |_| {})
    }

    pub fn three_with(seed: u64, change: impl Fn(&mut Settings)) -> World {
        World::new(3, false, Peers::Allowed, seed, change)
    }

    pub fn cores(count: u16) -> World {
        World::new(count, true, Peers::Alone, 1, |_| {})
    }

    fn new(
        count: u16,
        cores: bool,
        peers: Peers,
        seed: u64,
        change: impl Fn(&mut Settings),
    ) -> World {
        let now = Now { monotonic: Instant(0), wall: LogTime(1_000_000_000_000) };
        let mut shards = Vec::new();
        for number in 0..count {
            let mut settings = Settings { peers, seed, ..Settings::default() };
            settings.layout.segment_bytes = 4 << 20;
            settings.layout.block_bytes_max = 1 << 20;
            if cores {
                (settings.shard, settings.shards) = (ShardId(number), count);
            } else {
                settings.node = NodeId(u32::from(number) + 1);
            }
            change(&mut settings);
            shards.push(Place::start(settings, Disk::default(), now));
        }
        World {
            now,
            trace: Vec::new(),
            snapshots_delivered: 0,
            shards,
            said: BTreeMap::new(),
            outputs: BTreeMap::new(),
            cut: BTreeSet::new(),
            deaf: BTreeSet::new(),
            loses: BTreeSet::new(),
            breaks: BTreeMap::new(),
            tickets: 0,
            cores,
            mischief: None,
            delayed: Vec::new(),
            bundles: BTreeMap::new(),
        }
    }

    pub fn ask(&mut self, at: usize, id: PartitionId, ask: Ask, body: &[u8]) -> Ticket {
        self.ask_until(at, id, None, ask, body)
    }

    pub fn ask_until(
        &mut self,
        at: usize,
        id: PartitionId,
        deadline: Option<Instant>,
        ask: Ask,
        body: &[u8],
    ) -> Ticket {
        self.tickets += 1;
        let shard = self.shards[at].settings.shard;
        let ticket = Ticket { shard, slot: self.tickets, generation: 0 };
        let requests = &mut self.shards[at].inbox.requests;
        requests.push(ticket, id, deadline, ask, |into| into.extend_from_slice(body));
        ticket
    }

    pub fn hang_up(&mut self, at: usize, id: PartitionId, ticket: Ticket) {
        self.shards[at].inbox.gone.push((id, ticket));
    }

    pub fn deliver(&mut self, at: usize, from: NodeId, bytes: impl Into<Bytes>) {
        self.shards[at].inbox.bundles.push((from, bytes.into()));
    }

    /// What the first last sent to the second.
    pub fn last_bundle(&self, from: usize, to: usize) -> Bytes {
        self.bundles[&(from, to)].clone()
    }

    pub fn disk_room(&mut self, at: usize, room: DiskRoom) {
        self.shards[at].inbox.disk = Some(room);
    }

    pub fn found(&mut self, at: usize, id: PartitionId, members: &[Member]) {
        let local = self.shards[at].settings.node;
        let ask = Ask::Bootstrap { local, members: members.to_vec() };
        let ticket = self.ask(at, id, ask, &[]);
        self.run();
        assert!(self.is_ok(ticket), "{:?}", self.replies(ticket));
    }

    pub fn found_everywhere(&mut self, id: PartitionId, members: &[Member]) {
        for at in 0..self.shards.len() {
            self.found(at, id, members);
        }
    }

    /// The first `count` nodes found a group of theirs.
    pub fn found_on(&mut self, count: u32, id: PartitionId) {
        let members: Vec<Member> = (1..=count).map(member).collect();
        for at in 0..count as usize {
            self.found(at, id, &members);
        }
    }

    /// The node at `at` hears that its link to another node is up.
    pub fn link(&mut self, at: usize, node: NodeId) {
        let address = format!("node{node}:5679");
        let (up, format) = (Some(1), FORMATS.newest());
        let news = LinkNews { node, address, snapshot: false, up, api_port: 7000, format };
        self.shards[at].inbox.links.push(news);
    }

    /// Time passes until one of `among` leads all of `ids`; the same seed elects the same.
    pub fn elect(&mut self, ids: &[PartitionId], among: &[usize]) -> usize {
        for _ in 0..2000 {
            self.pass(Span::millis(50));
            self.run();
            for at in among {
                if ids.iter().all(|id| self.partition(*at, *id).is_leader()) {
                    self.settle();
                    return *at;
                }
            }
        }
        panic!("nobody of {among:?} leads all of {ids:?}")
    }

    /// The first node comes to lead: the others do not hear the clock until it does.
    pub fn elect_first(&mut self, ids: &[PartitionId]) {
        for _ in 0..2000 {
            self.now.monotonic = self.now.monotonic.after(Span::millis(50));
            self.now.wall = self.now.wall.after(Span::millis(50));
            let first = &mut self.shards[0];
            first.fresh = true;
            self.round_of(&[0]);
            self.run_without_clock();
            if ids.iter().all(|id| self.partition(0, *id).is_leader()) {
                self.settle();
                assert!(ids.iter().all(|id| self.partition(0, *id).is_leader()));
                return;
            }
        }
        panic!("the first node does not come to lead")
    }

    pub fn pass(&mut self, span: Span) {
        self.now.monotonic = self.now.monotonic.after(span);
        self.now.wall = self.now.wall.after(span);
    }

    /// Heartbeats enough for everyone to know everything.
    pub fn settle(&mut self) {
        for _ in 0..40 {
            self.pass(Span::millis(50));
            self.run();
        }
    }

    /// Rounds until nothing is left to do at this time; how many.
    pub fn run(&mut self) -> usize {
        for round in 0..10_000 {
            if !self.round() {
                return round;
            }
        }
        panic!("it does not come to rest")
    }

    /// One turn for each shard that has something to do.
    pub fn round(&mut self) -> bool {
        self.deliver_delayed();
        let now = self.now.monotonic;
        let due: Vec<usize> =
            (0..self.shards.len()).filter(|at| self.shards[*at].has_work(now)).collect();
        self.round_of(&due);
        !due.is_empty()
    }

    fn run_without_clock(&mut self) {
        for _ in 0..10_000 {
            let due: Vec<usize> =
                (0..self.shards.len()).filter(|at| self.shards[*at].has_input()).collect();
            if due.is_empty() {
                return;
            }
            self.round_of(&due);
        }
        panic!("it does not come to rest")
    }

    fn round_of(&mut self, due: &[usize]) {
        for at in due {
            self.shards[*at].turn(self.now);
        }
        for at in due {
            self.hand_out(*at);
        }
    }

    fn hand_out(&mut self, from: usize) {
        let node = self.shards[from].settings.node;
        let here = self.shards[from].settings.shard;
        let mut outbox = std::mem::take(&mut self.shards[from].outbox);
        self.trace.push(format!(
            "{from}: {} orders {} bundles {:?} replies {:?}",
            outbox.orders.len(),
            outbox.bundles.len(),
            outbox.bundles.iter().map(|(_, _, bytes)| crc32c::crc32c(bytes)).collect::<Vec<_>>(),
            outbox.replies.list,
        ));
        self.shards[from].wake = outbox.wake;
        for (to, _, bytes) in outbox.bundles.drain(..) {
            let to = to.0 as usize - 1;
            self.shards[from].counts.bundles += 1;
            self.bundles.insert((from, to), bytes.clone());
            let deaf = self.deaf.contains(&(from, to));
            if !deaf && !self.cut.contains(&from) && !self.cut.contains(&to) {
                self.post(to, node, bytes);
            }
        }
        for snapshot in outbox.snapshots.drain(..) {
            let to = snapshot.to.0 as usize - 1;
            let off = self.cut.contains(&from) || self.cut.contains(&to);
            let mut arrives = !off && !self.loses.remove(&to);
            if arrives {
                self.snapshots_delivered += 1;
                let segments = &self.shards[from].disk.segments;
                let whole = snapshot.whole(|place| {
                    let start = place.offset as usize;
                    Some(
                        segments.get(&place.segment)?[start..start + place.bytes as usize].to_vec(),
                    )
                });
                let whole = whole.expect("what is durable is found again");
                let pieces = bundle::pieces(&whole, snapshot.partition, snapshot.tag());
                let pieces = pieces.expect("just made").into_iter().map(|piece| (node, piece));
                let broken = self.breaks.remove(&to);
                arrives &= broken.is_none();
                let pieces = pieces.take(broken.unwrap_or(usize::MAX));
                self.shards[to].inbox.snapshots.extend(pieces);
            }
            let delivery = if arrives { Delivery::Arrived } else { Delivery::Failed };
            self.shards[from].inbox.sent.push((snapshot.partition, snapshot.to, delivery));
        }
        for (to, letter) in outbox.letters.drain(..) {
            assert!(self.cores);
            self.shards[usize::from(to.0)].inbox.letters.push((here, letter));
        }
        for reply in std::mem::take(&mut outbox.replies.list) {
            assert_eq!(reply.ticket.shard, here, "a reply at the wrong core");
            if let Body::Output(output) = &reply.body {
                let bytes = outbox.replies.bytes_of(output).to_vec();
                self.outputs.entry(reply.ticket).or_default().push(bytes);
            }
            self.said.entry(reply.ticket).or_default().push(reply);
        }
        outbox.replies.clear();
        self.shards[from].outbox = outbox;
    }

    fn post(&mut self, to: usize, from: NodeId, bytes: Bytes) {
        let Some(prng) = &mut self.mischief else {
            return self.shards[to].inbox.bundles.push((from, bytes));
        };
        if prng.chance(30) {
            return;
        }
        for _ in 0..if prng.chance(30) { 2 } else { 1 } {
            if prng.chance(200) {
                let until = self.now.monotonic.0 + prng.below(Span::millis(400).0);
                self.delayed.push((until, to, from, bytes.clone()));
            } else {
                self.shards[to].inbox.bundles.push((from, bytes.clone()));
            }
        }
    }

    /// From now on messages are lost, doubled and delayed; or no more.
    pub fn mischief(&mut self, prng: Option<Prng>) {
        self.mischief = prng;
    }

    fn deliver_delayed(&mut self) {
        let now = self.now.monotonic.0;
        let delayed = std::mem::take(&mut self.delayed);
        let (due, rest) = delayed.into_iter().partition(|(until, ..)| *until <= now);
        self.delayed = rest;
        let due: Vec<(u64, usize, NodeId, Bytes)> = due;
        for (_, to, from, bytes) in due {
            if !self.cut.contains(&to) {
                self.shards[to].inbox.bundles.push((from, bytes));
            }
        }
    }

    pub fn cut(&mut self, at: usize, off: bool) {
        if off {
            self.cut.insert(at);
        } else {
            self.cut.remove(&at);
        }
    }

    /// The next snapshot for this node does not arrive.
    pub fn lose_snapshots(&mut self, at: usize) {
        self.loses.insert(at);
    }

    /// The next snapshot for this node is cut after so many pieces.
    pub fn break_snapshot(&mut self, at: usize, after: usize) {
        self.breaks.insert(at, after);
    }

    /// What the first sends the second vanishes, and neither is told.
    pub fn deafen(&mut self, from: usize, to: usize, off: bool) {
        if off {
            self.deaf.insert((from, to));
        } else {
            self.deaf.remove(&(from, to));
        }
    }

    /// A link between these two breaks, and whoever is told so hears it.
    pub fn break_link(&mut self, told: usize, about: usize) {
        let peer = self.shards[about].settings.node;
        self.shards[told].inbox.lost.push(peer);
    }

    pub fn hold_disk(&mut self, at: usize, held: bool) {
        self.shards[at].disk.held = held;
        self.shards[at].finish_writes();
    }

    /// The process ends, with writes in flight undone, and starts again.
    pub fn crash(&mut self, at: usize) {
        let mut prng = Prng::new(self.trace.len() as u64);
        let place = &mut self.shards[at];
        let mut disk = std::mem::take(&mut place.disk);
        // Of the writes in flight some prefix is done, the next one perhaps by half.
        let done = prng.below(disk.pending.len() as u64 + 1) as usize;
        let pending = std::mem::take(&mut disk.pending);
        for (place, (_, mut step)) in pending.into_iter().enumerate() {
            if place == done
                && let Step::Write { bytes, .. } = &mut step
            {
                bytes.truncate(prng.below(bytes.len() as u64) as usize);
            }
            if place <= done {
                disk.obey(step);
            }
        }
        disk.held = false;
        *place = Place::start(place.settings.clone(), disk, self.now);
    }

    /// The disk goes back in time: so many writes are left.
    pub fn lose_blocks(&mut self, at: usize, writes: usize) {
        let disk = self.shards[at].disk.prefix(writes);
        self.shards[at] = Place::start(self.shards[at].settings.clone(), disk, self.now);
    }

    /// A world of one shard that starts from the first so many writes of another's.
    pub fn with_prefix(&self, at: usize, writes: usize) -> World {
        let disk = self.shards[at].disk.prefix(writes);
        let mut world = World::new(1, false, Peers::Alone, 1, |_| {});
        world.now = self.now;
        let settings = self.shards[at].settings.clone();
        world.shards[0] = Place::start(settings, disk, self.now);
        world
    }

    pub fn writes(&self, at: usize) -> usize {
        self.shards[at].disk.writes
    }

    pub fn counts(&self) -> Vec<Counts> {
        self.shards.iter().map(|place| place.counts).collect()
    }

    pub fn stats(&self, at: usize) -> Stats {
        self.shards[at].shard.stats()
    }

    pub fn partition(&self, at: usize, id: PartitionId) -> &Partition {
        let mut all = self.shards[at].shard.partitions();
        all.find(|partition| partition.id() == id).expect("the partition is here")
    }

    /// The state machine panics at the next entry there.
    pub fn poison(&mut self, at: usize, id: PartitionId) {
        let next = self.partition(at, id).applied().next();
        let living = self.shards[at].shard.roster.get_mut(id).expect("the partition is here");
        living.partition.poison(next);
    }

    pub fn digests(&self, id: PartitionId) -> Vec<u64> {
        (0..self.shards.len()).map(|at| self.partition(at, id).machine().digest()).collect()
    }

    pub fn replies(&self, ticket: Ticket) -> &[Reply] {
        self.said.get(&ticket).map_or(&[], Vec::as_slice)
    }

    /// What its outputs hold.
    pub fn outputs(&self, ticket: Ticket) -> Vec<&[u8]> {
        self.outputs.get(&ticket).into_iter().flatten().map(Vec::as_slice).collect()
    }

    pub fn output(&self, ticket: Ticket) -> (Index, Status) {
        match self.replies(ticket) {
            [Reply { body: Body::Output(output), .. }] => (output.index, output.status),
            other => panic!("{other:?} is not one output"),
        }
    }

    pub fn is_ok(&self, ticket: Ticket) -> bool {
        self.output(ticket).1 == Status::Ok
    }

    pub fn refusal(&self, ticket: Ticket) -> Refusal {
        match self.replies(ticket).last() {
            Some(Reply { body: Body::Refused(refusal), .. }) => refusal.clone(),
            other => panic!("{other:?} is no refusal"),
        }
    }

    pub fn events(&self, ticket: Ticket) -> Vec<Event> {
        let events = self.replies(ticket).iter().filter_map(|reply| match &reply.body {
            Body::Event(event) => Some(event.clone()),
            Body::Output(_) | Body::Replayed | Body::End | Body::Refused(_) => None,
        });
        events.collect()
    }
}

impl Place {
    fn start(settings: Settings, disk: Disk, now: Now) -> Place {
        let owner = Owner { node: settings.node, shard: settings.shard };
        let bytes = |(sequence, bytes): (&u64, &Vec<u8>)| SegmentBytes {
            sequence: *sequence,
            bytes: Bytes::copy_from_slice(bytes),
        };
        let segments: Vec<SegmentBytes> = disk.segments.iter().map(bytes).collect();
        let recovered = journal::recover(owner, &segments).expect("the journal is this shard's");
        assert!(recovered.faults.is_empty(), "{:?}", recovered.faults);
        let shard = Shard::new(settings.clone(), recovered, now);
        Place {
            settings,
            shard,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            disk,
            wake: Some(now.monotonic),
            counts: Counts::default(),
            fresh: true,
        }
    }

    fn has_input(&self) -> bool {
        let inbox = &self.inbox;
        self.fresh
            || !inbox.requests.list.is_empty()
            || !inbox.gone.is_empty()
            || !inbox.letters.is_empty()
            || !inbox.bundles.is_empty()
            || !inbox.snapshots.is_empty()
            || !inbox.sent.is_empty()
            || !inbox.lost.is_empty()
            || !inbox.links.is_empty()
            || inbox.durable.is_some()
            || inbox.disk.is_some()
    }

    fn has_work(&self, now: Instant) -> bool {
        self.has_input() || self.wake.is_some_and(|wake| wake <= now)
    }

    fn turn(&mut self, now: Now) {
        self.fresh = false;
        self.counts.turns += 1;
        self.shard.turn(&mut self.inbox, now, &mut self.outbox);
        for order in self.outbox.orders.drain(..) {
            match order {
                Order::Open { sequence, header } => {
                    let mut bytes = vec![0; self.settings.layout.segment_bytes];
                    bytes[..header.as_ref().len()].copy_from_slice(header.as_ref());
                    self.disk.obey(Step::Open(sequence, bytes));
                }
                Order::Write(block) => {
                    self.counts.writes += 1;
                    let step = Step::Write {
                        segment: block.segment,
                        offset: block.offset as usize,
                        bytes: block.as_bytes().to_vec(),
                    };
                    self.disk.pending.push((block.mark, step));
                    self.inbox.spent.push(block.buffer);
                }
                Order::Recycle { sequence } => self.disk.obey(Step::Recycle(sequence)),
            }
        }
        self.finish_writes();
    }

    fn finish_writes(&mut self) {
        if self.disk.held {
            return;
        }
        for (mark, step) in std::mem::take(&mut self.disk.pending) {
            self.disk.obey(step);
            self.inbox.durable = Some(mark);
        }
    }
}

impl Disk {
    /// The disk as it was after so many writes.
    fn prefix(&self, writes: usize) -> Disk {
        let mut disk = Disk::default();
        for step in &self.history {
            if matches!(step, Step::Write { .. }) && disk.writes == writes {
                break;
            }
            disk.obey(step.clone());
        }
        disk
    }

    fn obey(&mut self, step: Step) {
        match &step {
            Step::Open(sequence, bytes) => {
                self.segments.insert(*sequence, bytes.clone());
            }
            Step::Write { segment, offset, bytes } => {
                let file = self.segments.get_mut(segment).expect("the segment was ordered");
                file[*offset..*offset + bytes.len()].copy_from_slice(bytes);
                self.writes += 1;
            }
            Step::Recycle(sequence) => {
                self.segments.remove(sequence);
            }
        }
        self.history.push(step);
    }
}
