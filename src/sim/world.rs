//! The world: nodes, links, disks and clients under one clock, one event after the other.
//!
//! Everything that happens is an event in one queue, and everything drawn comes from the seed, so a
//! run is a function of its setup. A shard is turned when something has come for it or its wake
//! time passes, as the wet shell does; bundles and snapshots cross as bytes. The world itself
//! watches what no client can see: replicas which applied the same entries are equal. Absent on
//! purpose: gRPC (its codec has its own tests) and threads.

mod clients;
mod count;
mod event;
mod links;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use bytes::Bytes;
use event::Event;

use crate::id::{Mark, NodeId, PartitionId, Position, ShardId, Term};
use crate::partition::reply::{Body, Replies};
use crate::prng::Prng;
use crate::shard::Shard;
use crate::shard::inbox::{Ask, DiskRoom};
use crate::shard::outbox::Outbox;
use crate::sim::call::{Heard, Parcel};
use crate::sim::client::Client;
use crate::sim::clock::Clock;
use crate::sim::coverage::Seen;
use crate::sim::history::History;
use crate::sim::net::Net;
use crate::sim::node::{Caller, Core, Node};
use crate::sim::operator::{Act as Wanted, Operator, Wish};
use crate::sim::queue::Queue;
use crate::sim::setup::Setup;
use crate::sim::shell;
use crate::sim::trace::Trace;
use crate::time::Now;

/// A world.
#[derive(Debug)]
pub struct World {
    /// Nanoseconds since it began.
    pub now_ns: u64,
    /// What it was made from.
    pub setup: Setup,
    /// Its nodes; node 1 is the first.
    pub nodes: Vec<Node>,
    /// Its links.
    pub net: Net,
    /// Its clients.
    pub clients: Vec<Client>,
    /// What they asked and heard.
    pub history: History,
    /// What happened.
    pub trace: Trace,
    /// What was heard on calls that belong to no client of the world.
    pub mail: Vec<(Caller, Heard)>,
    /// Who founds groups and changes their members.
    pub operator: Operator,
    /// What the world itself found wrong.
    pub wrong: Vec<String>,
    queue: Queue<Event>,
    prng: Prng,
    wakes_ns: Vec<u64>,
    /// Where each call went.
    routes: BTreeMap<(u32, u64), (NodeId, ShardId)>,
    /// The incarnation under which the first node met the second.
    met: BTreeMap<(NodeId, NodeId), u64>,
    /// The state's digest after each position, by whoever was there first.
    digests: BTreeMap<(PartitionId, Position), (NodeId, u64)>,
}

impl World {
    /// A world at its beginning: nodes boot, clients wake, faults are on their way.
    #[must_use]
    pub fn new(setup: Setup, telling: bool) -> World {
        let mut prng = Prng::new(setup.seed ^ 0x7369_6d00);
        let net = Net::new(setup.plan.manners.clone(), prng.fork(1));
        let mut nodes: Vec<Node> =
            (1..=setup.nodes).map(|id| Node::drawn(NodeId(id), &setup, &mut prng)).collect();
        // With draws of their own, so that they shift no others.
        let spares = &mut Prng::new(setup.seed ^ 0x7370_6172);
        let more = setup.nodes + 1..=setup.nodes + setup.spares;
        nodes.extend(more.map(|id| Node::drawn(NodeId(id), &setup, spares)));
        let mut world = World {
            now_ns: 0,
            nodes,
            net,
            clients: Vec::new(),
            history: History::default(),
            trace: Trace::new(telling),
            mail: Vec::new(),
            operator: Operator::default(),
            wrong: Vec::new(),
            queue: Queue::new(),
            wakes_ns: Vec::new(),
            routes: BTreeMap::new(),
            met: BTreeMap::new(),
            digests: BTreeMap::new(),
            setup,
            prng,
        };
        world.begin();
        world
    }

    /// What a right clock shows.
    #[must_use]
    pub fn now(&self) -> Now {
        Clock::right().read(self.now_ns)
    }

    /// The next thing happens. False when nothing is to come.
    pub fn step(&mut self) -> bool {
        let Some((at_ns, event)) = self.queue.pop() else { return false };
        assert!(at_ns >= self.now_ns, "time went back from {} to {at_ns}", self.now_ns);
        self.now_ns = at_ns;
        self.trace.note(at_ns);
        self.happen(event);
        true
    }

    /// When the next thing happens.
    #[must_use]
    pub fn next_at_ns(&self) -> Option<u64> {
        self.queue.next_at_ns()
    }

    /// Sends a request of a caller who is no client of the world. What comes back is in `mail`.
    pub fn request(
        &mut self,
        caller: Caller,
        node: NodeId,
        shard: ShardId,
        partition: PartitionId,
        ask: Ask,
        body: impl Into<Parcel>,
    ) {
        self.routes.insert((caller.client, caller.call), (node, shard));
        let event = Event::Request { caller, node, shard, partition, ask, body: body.into() };
        self.queue.push(self.now_ns + 50_000, event);
    }

    /// That caller hangs up.
    pub fn hang_up(&mut self, caller: Caller, partition: PartitionId) {
        self.queue.push(self.now_ns + 50_000, Event::Hangup { caller, partition });
    }

    /// A node loses power; it starts again after `down_ns`, if at all.
    pub fn crash(&mut self, node: NodeId, down_ns: Option<u64>) {
        let now_ns = self.now_ns;
        let known = &mut self.nodes[node.0 as usize - 1];
        if !known.up {
            return;
        }
        (known.up, known.paused_until_ns) = (false, 0);
        known.life += 1;
        let life = known.life;
        count::shards(known, &mut self.history.coverage);
        let broken: Vec<Caller> =
            known.cores.iter_mut().flat_map(|core| core.crash(now_ns)).collect();
        self.trace.tell(now_ns, || format!("node {node} loses power"));
        self.end_links(node);
        for caller in broken {
            let at_ns = now_ns + self.client_delay_ns();
            self.queue.push(at_ns, Event::Answer { caller, heard: Heard::Broken });
        }
        if let Some(down_ns) = down_ns {
            self.queue.push(now_ns + down_ns, Event::Boot { node, life });
        }
    }

    /// A node that is down starts.
    pub fn boot(&mut self, node: NodeId) {
        let life = self.nodes[node.0 as usize - 1].life;
        self.queue.push(self.now_ns, Event::Boot { node, life });
    }

    /// The partitions that a node has, with how far each is and its state's digest.
    #[must_use]
    pub fn replicas(&self, node: NodeId) -> Vec<shell::Standing> {
        let cores = &self.nodes[node.0 as usize - 1].cores;
        cores.iter().flat_map(|core| core.shard.iter().flat_map(shell::standings)).collect()
    }

    /// Who leads a partition, as the leader with the newest term says, and in which term.
    #[must_use]
    pub fn leader(&self, partition: PartitionId) -> Option<(NodeId, Term)> {
        let nodes = self.nodes.iter();
        let cores = nodes.flat_map(|node| node.cores.iter().map(move |core| (node.id, core)));
        let shards = cores.filter_map(|(id, core)| Some((id, core.shard.as_ref()?)));
        let terms = shards.filter_map(|(id, shard)| Some((id, shell::leads(shard, partition)?)));
        terms.max_by_key(|(_, term)| *term)
    }

    fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.setup.nodes + self.setup.spares).map(NodeId)
    }

    /// Everyone who belongs to a partition, as a node's replica has it.
    #[must_use]
    pub fn members_at(&self, node: NodeId, of: PartitionId) -> BTreeSet<NodeId> {
        let cores = &self.nodes[node.0 as usize - 1].cores;
        let shards = cores.iter().filter_map(|core| core.shard.as_ref());
        shards.flat_map(|shard| shell::members(shard, of)).collect()
    }

    /// Everyone who belongs to a partition, as its leader has it; everyone there is without one.
    fn members(&self, partition: PartitionId) -> BTreeSet<NodeId> {
        match self.leader(partition) {
            Some((leader, _)) => self.members_at(leader, partition),
            None => self.ids().collect(),
        }
    }

    /// Whether every member's replica of every partition holds the same; a witness only comes as
    /// far. Digests cost what states are large, so positions are looked at first.
    #[must_use]
    pub fn is_level(&self) -> bool {
        let partitions = (1..=self.setup.partitions).map(PartitionId);
        let members: BTreeMap<_, _> = partitions.map(|id| (id, self.members(id))).collect();
        let positions = |shard: &Shard| shell::positions(shard).collect();
        let digests = |shard: &Shard| {
            let standings = shell::standings(shard).into_iter().filter(|it| !it.witness);
            standings.map(|it| (it.partition, it.digest)).collect()
        };
        self.all_alike(&members, positions) && self.all_alike(&members, digests)
    }

    /// Whether this is the same on all members of each partition.
    fn all_alike<T: PartialEq>(
        &self,
        members: &BTreeMap<PartitionId, BTreeSet<NodeId>>,
        what: impl Fn(&Shard) -> Vec<(PartitionId, T)>,
    ) -> bool {
        let mut first = BTreeMap::new();
        for node in self.nodes.iter().filter(|node| !node.rotten) {
            let here = node.cores.iter().filter_map(|core| core.shard.as_ref());
            for (partition, what) in here.flat_map(&what) {
                let belongs = members.get(&partition).is_none_or(|all| all.contains(&node.id));
                match first.get(&partition) {
                    _ if !belongs => {}
                    Some(other) if *other != what => return false,
                    Some(_) => {}
                    None => {
                        first.insert(partition, what);
                    }
                }
            }
        }
        true
    }

    /// Where every replica stands, for a report.
    #[must_use]
    pub fn standings(&self) -> String {
        let mut text = String::new();
        for id in self.ids() {
            for standing in self.replicas(id) {
                let members = self.members_at(id, standing.partition);
                let _ = writeln!(text, "  node {id}: {standing}, members {members:?}");
            }
        }
        text
    }

    /// Every client looks at once what is to be done.
    pub fn wake_clients(&mut self) {
        for place in 0..self.clients.len() {
            self.wake_client(place, self.now_ns);
        }
    }

    fn begin(&mut self) {
        let prng = &mut self.prng.fork(7);
        let count = self.setup.clients.len();
        for (number, habits) in self.setup.clients.clone().into_iter().enumerate() {
            let own = prng.fork(number as u64);
            let nodes = self.setup.nodes + self.setup.spares;
            self.clients.push(Client::new(number as u32, habits, nodes, own));
        }
        self.wakes_ns = vec![u64::MAX; count];
        let mut acts = Vec::new();
        for id in (1..=self.setup.nodes).map(NodeId) {
            let at_ns = prng.below(20_000_000);
            self.queue.push(at_ns, Event::Boot { node: id, life: 0 });
            for partition in (1..=self.setup.partitions).map(PartitionId) {
                acts.push(Wanted { at_ns: 0, partition, what: Wish::Found(id) });
            }
        }
        for id in (1..=self.setup.spares).map(|number| NodeId(self.setup.nodes + number)) {
            self.queue.push(10_000_000, Event::Boot { node: id, life: 0 });
        }
        let acts = acts.into_iter().chain(self.setup.acts.clone());
        self.operator = Operator::new(acts, self.setup.witness);
        self.queue.push(30_000_000, Event::Operate);
        for place in 0..count {
            self.wake_client(place, 40_000_000);
        }
        for (place, fault) in self.setup.plan.faults.iter().enumerate() {
            self.queue.push(fault.at_ns, Event::Fault { place });
        }
        if self.setup.plan.heals_ns > 0 {
            self.queue.push(self.setup.plan.heals_ns, Event::Heal);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn { node, shard } => self.maybe_turn(node, shard),
            Event::Bundle { from, to, shard, bytes } => {
                if !self.reads(from, to, &bytes) {
                    return;
                }
                self.reach(to, shard, |core| core.inbox.bundles.push((from, bytes)));
            }
            Event::Snapshot { from, to, shard, pieces } => {
                let head = pieces.first().map(|piece| piece.bytes.clone());
                let Some(head) = head.filter(|head| self.reads(from, to, head)) else { return };
                self.count_snapshot(from, (to, shard), &head);
                let pieces = pieces.into_iter().map(|piece| (from, piece));
                self.reach(to, shard, |core| core.inbox.snapshots.extend(pieces));
            }
            Event::Lost { node, shard, peer } => {
                self.reach(node, shard, |core| core.inbox.lost.push(peer));
            }
            Event::Sent { from, shard, life, snapshot, delivery } => {
                if self.lives(from, life) {
                    self.sent(from, shard, &snapshot, delivery);
                }
            }
            Event::Letter { node, shard, life, from, letter } => {
                if self.lives(node, life) {
                    self.reach(node, shard, |core| core.inbox.letters.push((from, letter)));
                }
            }
            Event::Written { node, shard, life, mark } => {
                if self.lives(node, life) {
                    self.written(node, shard, mark);
                }
            }
            Event::Request { caller, node, shard, partition, ask, body } => {
                self.arrive(caller, node, shard, partition, ask, &body);
            }
            Event::Hangup { caller, partition } => self.hung_up(caller, partition),
            Event::Answer { caller, heard } => self.answer(caller, heard),
            Event::Client { place } => self.turn_client(place),
            Event::Fault { place } => {
                let what = self.setup.plan.faults[place].what.clone();
                self.strike(what);
            }
            Event::Boot { node, life } => self.start(node, life),
            Event::Stop { node, life, down_ns, formats } => self.stop(node, life, down_ns, formats),
            Event::Linked { node, peer } => self.linked(node, peer),
            Event::Mend { links } => self.net.join(&links),
            Event::HungUp { node, peer } => self.link_ended(node, peer),
            Event::Pace { node } => self.nodes[node.0 as usize - 1].slow = 1,
            Event::Room { node } => self.tell_room(node, DiskRoom::Enough),
            Event::Heal => self.heal(),
            Event::Operate => self.operate(),
        }
    }

    fn lives(&self, node: NodeId, life: u64) -> bool {
        let node = &self.nodes[node.0 as usize - 1];
        node.up && node.life == life
    }

    /// Something comes for a shard, which takes a turn for it. Nothing reaches a node without
    /// power.
    fn reach(&mut self, node: NodeId, shard: ShardId, put: impl FnOnce(&mut Core)) {
        let known = &mut self.nodes[node.0 as usize - 1];
        let shard = usize::from(shard.0);
        if !known.up || shard >= known.cores.len() {
            return;
        }
        put(&mut known.cores[shard]);
        self.stir(node, ShardId(shard as u16), self.now_ns + GATHER_NS);
    }

    fn for_each_core(&mut self, node: NodeId, mut put: impl FnMut(&mut Core)) {
        for shard in 0..self.setup.shards {
            self.reach(node, ShardId(shard), &mut put);
        }
    }

    /// A node's shards hear whether their disks take more segments.
    pub fn tell_room(&mut self, node: NodeId, room: DiskRoom) {
        self.nodes[node.0 as usize - 1].was_full |= room == DiskRoom::Full;
        self.for_each_core(node, |core| core.inbox.disk = Some(room));
    }

    /// The shard's next turn is at `at_ns` or as soon after it as it can be.
    fn stir(&mut self, node: NodeId, shard: ShardId, at_ns: u64) {
        let known = &mut self.nodes[node.0 as usize - 1];
        let core = &mut known.cores[usize::from(shard.0)];
        let at_ns = at_ns.max(core.busy_until_ns).max(known.paused_until_ns).max(self.now_ns);
        if core.turn_at_ns.is_none_or(|known_ns| at_ns < known_ns) {
            core.turn_at_ns = Some(at_ns);
            self.queue.push(at_ns, Event::Turn { node, shard });
        }
    }

    fn maybe_turn(&mut self, node: NodeId, shard: ShardId) {
        let known = &mut self.nodes[node.0 as usize - 1];
        let core = &mut known.cores[usize::from(shard.0)];
        if core.turn_at_ns != Some(self.now_ns) || core.shard.is_none() {
            return;
        }
        core.turn_at_ns = None;
        if known.paused_until_ns > self.now_ns {
            let until_ns = known.paused_until_ns;
            core.woke = self.setup.plan.late > 0;
            self.stir(node, shard, until_ns);
            return;
        }
        self.turn(node, shard);
    }

    fn turn(&mut self, id: NodeId, shard_id: ShardId) {
        let node = &mut self.nodes[id.0 as usize - 1];
        let core = &mut node.cores[usize::from(shard_id.0)];
        let Some(shard) = &mut core.shard else { return };
        // What came from peers may as well come a turn later than what came from clients.
        let late = if self.prng.chance(self.setup.plan.late) || std::mem::take(&mut core.woke) {
            std::mem::take(&mut core.inbox.bundles)
        } else {
            Vec::new()
        };
        shell::note_inputs(&mut self.trace, id, shard_id, &core.inbox);
        shard.turn(&mut core.inbox, node.clock.read(self.now_ns), &mut core.outbox);
        let mut outbox = std::mem::take(&mut core.outbox);
        shell::note_outputs(&mut self.trace, &outbox);
        let took_ns = 5_000 + self.prng.below(40_000);
        core.busy_until_ns = self.now_ns + took_ns;
        if !late.is_empty() {
            core.inbox.bundles = late;
            self.stir(id, shard_id, self.now_ns + took_ns);
        }
        self.hand_out(id, shard_id, &mut outbox);
        if let Some(at) = outbox.wake {
            let at_ns = self.nodes[id.0 as usize - 1].clock.world_ns(at);
            self.stir(id, shard_id, at_ns);
        }
        shell::clear(&mut outbox);
        self.nodes[id.0 as usize - 1].cores[usize::from(shard_id.0)].outbox = outbox;
        self.compare(id, shard_id);
    }

    fn hand_out(&mut self, id: NodeId, shard: ShardId, outbox: &mut Outbox) {
        let now_ns = self.now_ns;
        let node = &mut self.nodes[id.0 as usize - 1];
        let (life, slow) = (node.life, node.slow);
        let disk = &mut node.cores[usize::from(shard.0)].disk;
        disk.latency_ns = self.setup.tuning.disk_ns * slow;
        for order in outbox.orders.drain(..) {
            if let Some((ends_ns, mark)) = disk.order(now_ns, order) {
                self.queue.push(ends_ns, Event::Written { node: id, shard, life, mark });
            }
        }
        let core = &mut self.nodes[id.0 as usize - 1].cores[usize::from(shard.0)];
        if let Some(book) = outbox.book.take() {
            core.book = book.into_iter().map(|contact| contact.node).collect();
        }
        for (to, to_shard, bytes) in outbox.bundles.drain(..) {
            let core = &self.nodes[id.0 as usize - 1].cores[usize::from(shard.0)];
            if !core.book.contains(&to) {
                self.reach(id, shard, |core| core.inbox.lost.push(to));
                continue;
            }
            self.send_bundle((id, shard), (to, to_shard), &bytes);
        }
        for snapshot in outbox.snapshots.drain(..) {
            self.send_snapshot(id, shard, snapshot);
        }
        for (to, letter) in outbox.letters.drain(..) {
            let event = Event::Letter { node: id, shard: to, life, from: shard, letter };
            self.queue.push(now_ns + 1_000 + self.prng.below(4_000), event);
        }
        self.deliver(id, shard, &outbox.replies);
    }

    fn deliver(&mut self, id: NodeId, shard: ShardId, replies: &Replies) {
        for reply in &replies.list {
            let core = &mut self.nodes[id.0 as usize - 1].cores[usize::from(shard.0)];
            let Some(caller) = core.claim(reply.ticket, reply.last) else { continue };
            let heard = match &reply.body {
                Body::Output(output) => Heard::Output {
                    index: output.index.0,
                    number: output.number,
                    status: output.status,
                    bytes: Bytes::copy_from_slice(replies.bytes_of(output)),
                    last: reply.last,
                },
                Body::Event(event) => Heard::Event(event.clone()),
                Body::Replayed => continue,
                Body::End => Heard::End,
                Body::Refused(refusal) => Heard::Refused(refusal.clone()),
            };
            self.queue.push(self.now_ns + CLIENT_DELAY_NS, Event::Answer { caller, heard });
        }
    }

    fn written(&mut self, node: NodeId, shard: ShardId, mark: Mark) {
        let core = &mut self.nodes[node.0 as usize - 1].cores[usize::from(shard.0)];
        let (block, moved) = core.disk.done(mark);
        core.inbox.spent.push(block.buffer);
        if let Some(mark) = moved {
            self.reach(node, shard, |core| core.inbox.durable = Some(mark));
        }
    }

    fn arrive(
        &mut self,
        caller: Caller,
        node: NodeId,
        shard: ShardId,
        partition: PartitionId,
        ask: Ask,
        body: &Parcel,
    ) {
        let known = &self.nodes[node.0 as usize - 1];
        if !known.up {
            let at_ns = self.now_ns + self.client_delay_ns();
            self.queue.push(at_ns, Event::Answer { caller, heard: Heard::Broken });
            return;
        }
        let life = known.life;
        let now = known.clock.read(self.now_ns).monotonic;
        let deadline = body.timeout.map(|timeout| now.after(timeout));
        self.reach(node, shard, |core| {
            let ticket = core.wait(caller, life);
            core.inbox.requests.push(ticket, partition, deadline, ask, |into| {
                into.extend_from_slice(&body.bytes);
            });
        });
    }

    /// A node starts from what its disks hold.
    fn start(&mut self, id: NodeId, life: u64) {
        let now_ns = self.now_ns;
        let node = &mut self.nodes[id.0 as usize - 1];
        if node.up || node.destroyed || node.life != life {
            return;
        }
        self.trace.tell(now_ns, || format!("node {id} starts"));
        node.up = true;
        node.clock.restart(now_ns);
        let now = node.clock.read(now_ns);
        for core in &mut node.cores {
            let mut settings = shell::settings(&self.setup, id, core.id);
            settings.formats = node.formats;
            let began = shell::start(settings, now, &mut core.disk, node.rotten);
            match began {
                Ok(shard) => {
                    let recovered = node.life > 0 && shard.partitions().next().is_some();
                    self.history.coverage.add(Seen::Recovered, u64::from(recovered));
                    core.shard = Some(shard);
                }
                Err(why) if node.rotten => {
                    self.trace.tell(now_ns, || format!("shard {} of node {id}: {why}", core.id));
                }
                Err(why) => {
                    self.wrong.push(format!("node {id}, shard {} does not start: {why}", core.id));
                }
            }
        }
        if self.nodes[id.0 as usize - 1].rotten {
            let here = self.replicas(id).len();
            self.trace.tell(now_ns, || format!("node {id} has {here} partitions left"));
        }
        for shard in 0..self.setup.shards {
            self.stir(id, ShardId(shard), now_ns + GATHER_NS);
        }
        self.link_all(id);
    }

    /// The operator asks for what is wanted and not so.
    fn operate(&mut self) {
        for (call, node, partition, ask) in self.operator.due(self.now_ns, self.setup.nodes) {
            self.trace.tell(self.now_ns, || format!("the operator asks node {node}: {ask:?}"));
            let caller = Caller { client: OPERATOR, call };
            self.request(caller, node, ShardId(0), partition, ask, Bytes::new());
        }
        if !self.operator.is_done() {
            self.queue.push(self.now_ns + 100_000_000, Event::Operate);
        }
    }

    /// Replicas that have applied the same entries must be equal.
    fn compare(&mut self, id: NodeId, shard: ShardId) {
        let node = &mut self.nodes[id.0 as usize - 1];
        let rotten = node.rotten;
        let core = &mut node.cores[usize::from(shard.0)];
        let Some(shard) = &core.shard else { return };
        for (partition, applied) in shell::positions(shard) {
            if core.compared.insert(partition, applied) == Some(applied)
                || applied.0 % COMPARED_EACH != 0
            {
                continue;
            }
            let Some(digest) = shell::digest(shard, partition) else { continue };
            let (other, known) = *self.digests.entry((partition, applied)).or_insert((id, digest));
            if known != digest {
                self.wrong.push(format!(
                    "partition {partition} after {applied}: node {id} has digest {digest:016x}, \
                     node {other} had {known:016x}"
                ));
            }
        }
        let halted = shell::halted(shard).filter(|_| !rotten);
        self.wrong
            .extend(halted.map(|partition| format!("node {id} halted partition {partition}")));
    }
}

/// Replicas are compared at every so many positions: what sets them apart does not pass, and each
/// digest costs as much as the state is large. At the end of a run all are compared.
const COMPARED_EACH: u64 = 4;

/// The caller who founds partitions.
const OPERATOR: u32 = u32::MAX;

/// From the first input to the turn that takes it: the time in which others join it.
const GATHER_NS: u64 = 3_000;

/// A client's way to a node, and as much again by chance.
const CLIENT_DELAY_NS: u64 = 100_000;
