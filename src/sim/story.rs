//! Stories: text that drives a world by hand and says what came of it (style.md R14).
//!
//! A story is prose (`#`), blocks of commands, `----`, and what they brought. Time moves only by
//! commands: each takes a tenth of a second, `advance` as long as it says. Nothing is drawn but
//! raft's election timeouts, from a fixed seed.
//!
//! ```text
//! world nodes=3 shards=2 partitions=2 snapshot=5 retain=0 commands=4 seed=3
//!                                              first, when it is not one of each
//! open alice timeout=5s [partition=2] [node=3]
//! close alice
//! lose alice                                   say nothing more of what she hears
//! alice lock door acquire timeout=1s           any verb of verbs.rs; opens the lock first
//! alice map m events opening=yes               begun by an event that tells of nothing
//! alice again 3 [node=2]                       the same bytes once more, by sequence number
//! alice hangup 3
//! keep alice [open=1,4] [last=9] [heard=4:2] [filter={…}]     bare: as a client would
//! found 9 members=1,2:observer node=1          as an operator would
//! leave 9 node=1
//! watch 1 [partition=1]
//! advance 6s
//! crash 2 · start 2 · pause 2 3s · cut 2 · mute 2 · deaf 2 · heal
//! step 1 -10s · slow 1 · full 1 · room 1       clocks and disks
//! leader 1
//! replicas · disks
//! ```
//!
//! Answers come as `alice#3: …` with the command's number, as `alice#3.2: …` from a stream, as
//! `alice: …` from queries and sessions. Absent on purpose: retries; what is refused is shown.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;
use prost::Message;

use crate::id::{Index, Kind, NodeId, PartitionId, ShardId};
use crate::partition::primitive::{has_keyed_events, member};
use crate::partition::reply::{Elsewhere, Event, Refusal, Status};
use crate::shard::inbox::{Ask, Change, DiskRoom, Member, Role};
use crate::sim::call::{Heard, Parcel};
use crate::sim::fault::What;
use crate::sim::node::Caller;
use crate::sim::setup::Setup;
use crate::sim::speech;
use crate::sim::verbs::{self, Words};
use crate::sim::world::World;
use crate::time::Span;
use crate::wire::bloom::Filter;
use crate::wire::proto::v1::{CreatePrimitiveOutput, OpenSessionOutput};
use crate::workload::Op;
use crate::workload::answer::outcome;

/// Tells the story in `text`: the same text with what came of each block.
///
/// # Errors
/// A line that is not understood, with its number.
pub fn tell(text: &str) -> Result<String, String> {
    let mut story = Story::default();
    let mut told = String::new();
    let mut commands: Vec<(usize, &str)> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line == "----" {
            told.push_str("----\n");
            for (number, command) in commands.drain(..) {
                let what = story.command(command);
                what.map_err(|why| format!("line {}: {why}: {command}", number + 1))?;
            }
            told.push_str(&std::mem::take(&mut story.said));
            // What was said the last time goes, up to the empty line.
            for (_, line) in lines.by_ref() {
                if line.is_empty() {
                    told.push('\n');
                    break;
                }
            }
            continue;
        }
        if !line.is_empty() && !line.starts_with('#') {
            commands.push((number, line));
        }
        told.push_str(line);
        told.push('\n');
    }
    match commands.first() {
        Some((number, _)) => Err(format!("line {}: no ---- after it", number + 1)),
        None => Ok(told),
    }
}

#[derive(Default)]
struct Story {
    world: Option<World>,
    people: BTreeMap<String, Person>,
    /// Who made which call, and for what.
    calls: BTreeMap<u64, (String, Purpose)>,
    next_call: u64,
    said: String,
}

/// Somebody with a session.
#[derive(Default)]
struct Person {
    partition: u32,
    node: Option<u32>,
    session: u64,
    next_sequence: u64,
    max_index: u64,
    primitives: BTreeMap<(Kind, String), u64>,
    /// Bodies by sequence number, to be sent again.
    sent: BTreeMap<u64, (Bytes, Purpose)>,
    /// Numbers without a last answer, with the last output of streams.
    open: BTreeMap<u64, u64>,
    lost: bool,
}

/// What a call is for.
#[derive(Clone, Debug)]
enum Purpose {
    Open,
    Close,
    Keep,
    Watch,
    Create(Kind, String),
    Command(u64, Op),
    Query(Op),
}

impl Story {
    fn command(&mut self, line: &str) -> Result<(), String> {
        let words = Words::of(line);
        match words.word(0)? {
            "world" => return self.make_world(&words),
            "open" => self.open(&words)?,
            "close" => {
                let name = words.word(1)?;
                let session = self.person(name)?.session;
                self.send(
                    name,
                    Purpose::Close,
                    Ask::Command,
                    speech::close_session(session),
                    None,
                )?;
            }
            "lose" => self.person(words.word(1)?)?.lost = true,
            "keep" => self.keep(&words)?,
            "advance" => {
                let span = verbs::span(words.word(1)?)?;
                self.run(span);
                return Ok(());
            }
            "crash" | "start" | "pause" | "cut" | "mute" | "deaf" | "heal" | "step" | "slow"
            | "full" | "room" => self.fault(&words)?,
            "found" => self.found(&words)?,
            "join" | "dismiss" | "lead" => self.change(&words)?,
            "members" => self.say_members(words.number(1)?),
            "watch" => {
                let node = words.number(1)?;
                let partition = words.number_named("partition", 0)?;
                let ask = if partition == 0 { Ask::WatchNode } else { Ask::WatchPartition };
                self.operate("watcher", partition, node, Purpose::Watch, ask);
            }
            "leave" => {
                let partition = words.number(1)?;
                let node = words.number_named("node", 1)?;
                self.operate("operator", partition, node, Purpose::Keep, Ask::Leave);
            }
            "leader" => self.say_leader(words.number(1)?),
            "replicas" => self.say_replicas(),
            "disks" => self.say_disks(),
            _ => self.speak(&words)?,
        }
        self.run(Span::millis(100));
        Ok(())
    }

    fn make_world(&mut self, words: &Words<'_>) -> Result<(), String> {
        if self.world.is_some() {
            return Err("the world is made already".to_owned());
        }
        let nodes = words.number_named("nodes", 1)?;
        let shards = words.number_named("shards", 1)?;
        let mut setup = Setup::calm(nodes, shards, words.number_named("partitions", 1)?);
        let tuning = &mut setup.tuning;
        tuning.snapshot_entries = words.number_named("snapshot", tuning.snapshot_entries)?;
        tuning.retain_entries = words.number_named("retain", tuning.retain_entries)?;
        tuning.commands_max = words.number_named("commands", tuning.commands_max)?;
        tuning.segment_bytes = words.number_named("segment", tuning.segment_bytes >> 10)? << 10;
        tuning.block_bytes_max = tuning.block_bytes_max.min(tuning.segment_bytes / 4);
        setup.seed = words.number_named("seed", 1)?;
        setup.spares = words.number_named("spares", 0)?;
        self.world = Some(World::new(setup, false));
        self.run(Span::secs(2));
        Ok(())
    }

    fn found(&mut self, words: &Words<'_>) -> Result<(), String> {
        let members = members(words)?;
        let node = words.number_named("node", 1)?;
        let ask = Ask::Bootstrap { local: NodeId(node), members };
        self.operate("operator", words.number(1)?, node, Purpose::Keep, ask);
        Ok(())
    }

    /// `join 1 node=4 members=1,4:observer`, `dismiss 1 3 node=2`, `lead 1 3 within=2s`, `lead 1`.
    fn change(&mut self, words: &Words<'_>) -> Result<(), String> {
        let node = words.number_named("node", 1)?;
        let change = match words.word(0)? {
            "dismiss" => Change::Dismiss(NodeId(words.number(2)?)),
            "lead" => Change::Lead(words.number(2).ok().map(NodeId)),
            _ => {
                let ask = Ask::Join { local: NodeId(node), members: members(words)? };
                self.operate("operator", words.number(1)?, node, Purpose::Keep, ask);
                return Ok(());
            }
        };
        let ask = match words.span_named("within")? {
            Some(patience) => Ask::Arrange { change, patience },
            None => Ask::Change { change, passed: false },
        };
        self.operate("operator", words.number(1)?, node, Purpose::Keep, ask);
        Ok(())
    }

    /// Whom each replica takes for the members of a partition.
    fn say_members(&mut self, partition: u32) {
        let partition = PartitionId(partition);
        for id in 1..=self.world().nodes.len() as u32 {
            let known = self.world().members_at(NodeId(id), partition);
            if !known.is_empty() {
                let known: Vec<String> = known.iter().map(ToString::to_string).collect();
                self.say(&format!("node {id} knows {}", known.join(" ")));
            }
        }
    }

    /// What an operator asks of a node.
    fn operate(&mut self, name: &str, partition: u32, node: u32, what: Purpose, ask: Ask) {
        let operator = Person { partition, node: Some(node), ..Person::default() };
        self.people.insert(name.to_owned(), operator);
        let sent = self.send(name, what, ask, Vec::new(), Some(node));
        sent.expect("the operator is there");
    }

    fn open(&mut self, words: &Words<'_>) -> Result<(), String> {
        let name = words.word(1)?;
        let person = Person {
            partition: words.number_named("partition", 1)?,
            node: words.named("node").map(str::parse).transpose().map_err(|_| "no node")?,
            next_sequence: 1,
            ..Person::default()
        };
        self.people.insert(name.to_owned(), person);
        let body = speech::open_session(words.span_named("timeout")?);
        self.send(name, Purpose::Open, Ask::Command, body, None)
    }

    fn keep(&mut self, words: &Words<'_>) -> Result<(), String> {
        let name = words.word(1)?;
        let person = self.person(name)?;
        let numbers = |text: &str| -> Result<Vec<u64>, String> {
            let parts = text.split(',').filter(|part| !part.is_empty());
            parts.map(|part| part.parse().map_err(|_| format!("{part} is no number"))).collect()
        };
        let open = match words.named("open") {
            Some(text) => numbers(text)?,
            None => person.open.keys().copied().collect(),
        };
        let last = words.number_named("last", person.next_sequence - 1)?;
        let heard = match words.named("heard").and_then(|text| text.split_once(':')) {
            Some((sequence, number)) => vec![(numbers(sequence)?[0], numbers(number)?[0])],
            None => person
                .open
                .iter()
                .map(|(of, last)| (*of, *last))
                .filter(|(_, last)| *last > 1)
                .collect(),
        };
        let filter = match words.named("filter") {
            Some(text) => text.as_bytes().to_vec(),
            None => Filter::of(&open).to_json(),
        };
        let body = speech::keep_alive(person.session, filter, last, &heard);
        self.send(name, Purpose::Keep, Ask::Command, body, None)
    }

    fn speak(&mut self, words: &Words<'_>) -> Result<(), String> {
        let name = words.word(0)?;
        let node = words.named("node").map(str::parse).transpose().map_err(|_| "no node")?;
        match words.word(1)? {
            "again" => {
                let sequence = words.number(2)?;
                let known = self.person(name)?.sent.get(&sequence).cloned();
                let (body, what) = known.ok_or(format!("{name} never sent {sequence}"))?;
                return self.send(name, what, Ask::Command, body.to_vec(), node);
            }
            "hangup" => return self.hang_up(name, words.number(2)?),
            _ => {}
        }
        let kind = verbs::kind(words.word(1)?).ok_or("no such kind")?;
        let primitive = words.word(2)?.to_owned();
        self.create(name, kind, &primitive)?;
        // A wrong kind on purpose: `as=map` names the operation's kind, the primitive's id stays.
        let asked = words.named("as").map_or(Some(kind), verbs::kind).ok_or("no such kind")?;
        let op = match words.word(3)? {
            "create" => return Ok(()),
            "close" => return self.close_primitive(name, kind, &primitive),
            _ => verbs::op(asked, words, 3)?,
        };
        let timeout = words.span_named("deadline")?;
        let person = self.person(name)?;
        let session = person.session;
        let id = match words.named("id") {
            Some(_) => words.number_named("id", 0)?,
            None => *person.primitives.get(&(kind, primitive)).ok_or("it did not open")?,
        };
        if op.is_query() {
            let at_least = Index(person.max_index);
            let body = speech::query(session, id, op.kind(), op.payload());
            return self.send(name, Purpose::Query(op), Ask::Query { at_least }, body, node);
        }
        let sequence = words.number_named("number", person.next_sequence)?;
        person.next_sequence = person.next_sequence.max(sequence + 1);
        let say = match words.named("opening") {
            Some(_) => speech::opening_command,
            None => speech::command,
        };
        let body = say(session, sequence, id, op.kind(), op.payload());
        let what = Purpose::Command(sequence, op);
        person.sent.insert(sequence, (body.clone().into(), what.clone()));
        person.open.insert(sequence, 0);
        self.send(name, what, Ask::Command, Parcel { timeout, ..body.into() }, node)
    }

    fn create(&mut self, name: &str, kind: Kind, primitive: &str) -> Result<(), String> {
        let person = self.person(name)?;
        if person.primitives.contains_key(&(kind, primitive.to_owned())) {
            return Ok(());
        }
        let sequence = person.next_sequence;
        person.next_sequence += 1;
        let body = speech::create(person.session, sequence, kind, primitive);
        let what = Purpose::Create(kind, primitive.to_owned());
        self.send(name, what, Ask::Command, body, None)?;
        self.run(Span::millis(100));
        Ok(())
    }

    fn close_primitive(&mut self, name: &str, kind: Kind, primitive: &str) -> Result<(), String> {
        let person = self.person(name)?;
        let id = person.primitives.remove(&(kind, primitive.to_owned())).ok_or("not open")?;
        let sequence = person.next_sequence;
        person.next_sequence += 1;
        let body = speech::close_primitive(person.session, sequence, id);
        self.send(name, Purpose::Keep, Ask::Command, body, None)
    }

    fn hang_up(&mut self, name: &str, sequence: u64) -> Result<(), String> {
        let partition = PartitionId(self.person(name)?.partition);
        let calls: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, (who, what))| {
                who == name && matches!(what, Purpose::Command(of, _) if *of == sequence)
            })
            .map(|(call, _)| *call)
            .collect();
        for call in calls {
            self.calls.remove(&call);
            self.world().hang_up(Caller { client: STORYTELLER, call }, partition);
        }
        Ok(())
    }

    fn fault(&mut self, words: &Words<'_>) -> Result<(), String> {
        let verb = words.word(0)?;
        if verb == "heal" {
            self.world().heal();
            return Ok(());
        }
        let node = NodeId(words.number(1)?);
        match verb {
            "crash" => self.world().crash(node, None),
            "start" => self.world().boot(node),
            "pause" => {
                let for_ns = verbs::span(words.word(2)?)?.0;
                self.world().strike(What::Pause { node, for_ns });
            }
            "cut" | "mute" | "deaf" => {
                let (hears, speaks) = (verb == "mute", verb == "deaf");
                let for_ns = Span::secs(86_400).0;
                self.world().strike(What::Alone { node, hears, speaks, for_ns });
            }
            "slow" => {
                let for_ns = Span::secs(86_400).0;
                self.world().strike(What::Slow { node, factor: 5_000, for_ns });
            }
            "full" => self.world().tell_room(node, DiskRoom::Full),
            "room" => self.world().tell_room(node, DiskRoom::Enough),
            _ => {
                let word = words.word(2)?;
                let span = verbs::span(word.trim_start_matches('-'))?.0 as i64;
                let by_ns = if word.starts_with('-') { -span } else { span };
                self.world().strike(What::Step { node, by_ns });
            }
        }
        Ok(())
    }

    fn say_leader(&mut self, partition: u32) {
        let leader = self.world().leader(PartitionId(partition));
        let line = match leader {
            Some((node, term)) => format!("node {node} leads partition {partition} in term {term}"),
            None => format!("nobody leads partition {partition}"),
        };
        self.say(&line);
    }

    fn say_replicas(&mut self) {
        for id in 1..=self.world().nodes.len() as u32 {
            for standing in self.world().replicas(NodeId(id)) {
                let what = match standing.witness {
                    true => format!("witness up to {}", standing.applied),
                    false => format!("index {}", standing.index),
                };
                let line = format!(
                    "node {id}, partition {}: {what}, log from {}",
                    standing.partition,
                    standing.base.next()
                );
                self.say(&line);
            }
        }
        let level = if self.world().is_level() { "equal" } else { "different" };
        self.say(&format!("replicas are {level}"));
    }

    fn say_disks(&mut self) {
        for node in 0..self.world().nodes.len() {
            for core in 0..self.world().nodes[node].cores.len() {
                let segments = self.world().nodes[node].cores[core].disk.segments();
                let names: Vec<String> =
                    segments.iter().map(|segment| segment.sequence.to_string()).collect();
                let names = names.join(" ");
                self.say(&format!("node {}, shard {core}: segments {names}", node + 1));
            }
        }
    }

    fn send(
        &mut self,
        name: &str,
        what: Purpose,
        ask: Ask,
        body: impl Into<Parcel>,
        node: Option<u32>,
    ) -> Result<(), String> {
        let person = self.person(name)?;
        let partition = PartitionId(person.partition);
        let node = node.or(person.node).map(NodeId);
        let node = node.or_else(|| self.world().leader(partition).map(|(node, _)| node));
        let call = self.next_call;
        self.next_call += 1;
        self.calls.insert(call, (name.to_owned(), what));
        let caller = Caller { client: STORYTELLER, call };
        let node = node.unwrap_or(NodeId(1));
        self.world().request(caller, node, ShardId(0), partition, ask, body.into());
        Ok(())
    }

    /// Time passes, and what is heard meanwhile is said.
    fn run(&mut self, span: Span) {
        let until_ns = self.world().now_ns + span.0;
        loop {
            let world = self.world();
            if world.next_at_ns().is_none_or(|at_ns| at_ns > until_ns) {
                world.now_ns = until_ns;
                break;
            }
            world.step();
            assert!(world.wrong.is_empty(), "{}", world.wrong.join("\n"));
            for (caller, heard) in std::mem::take(&mut world.mail) {
                self.heard(caller.call, &heard);
            }
        }
    }

    fn heard(&mut self, call: u64, heard: &Heard) {
        let known =
            if heard.is_last() { self.calls.remove(&call) } else { self.calls.get(&call).cloned() };
        let Some((name, what)) = known else { return };
        let Some(person) = self.people.get_mut(&name) else { return };
        if person.lost {
            return;
        }
        if let Heard::Output { index, number, .. } = heard {
            person.max_index = person.max_index.max(*index);
            if let Purpose::Command(sequence, _) = &what
                && let Some(last) = person.open.get_mut(sequence)
            {
                *last = (*last).max(*number);
            }
        }
        if let Purpose::Command(sequence, _) = &what
            && heard.is_last()
            && !matches!(heard, Heard::Broken | Heard::Refused(Refusal::Unavailable(_)))
        {
            person.open.remove(sequence);
        }
        if let Some(line) = line(person, &what, heard) {
            let of = match (&what, heard) {
                (Purpose::Command(of, op), Heard::Output { number, .. }) if op.is_stream() => {
                    format!("#{of}.{number}")
                }
                (Purpose::Command(of, _), _) => format!("#{of}"),
                _ => String::new(),
            };
            self.say(&format!("{name}{of}: {line}"));
        }
    }

    fn person(&mut self, name: &str) -> Result<&mut Person, String> {
        self.people.get_mut(name).ok_or(format!("nobody is called {name}"))
    }

    /// The world; one of each when none was asked for.
    fn world(&mut self) -> &mut World {
        if self.world.is_none() {
            self.world = Some(World::new(Setup::calm(1, 1, 1), false));
            self.run(Span::secs(2));
        }
        self.world.as_mut().expect("it was made just now")
    }

    fn say(&mut self, line: &str) {
        let _ = writeln!(self.said, "{line}");
    }
}

/// The members that a line names: `members=1,2:observer`.
fn members(words: &Words<'_>) -> Result<Vec<Member>, String> {
    let members = words.named("members").unwrap_or("1").split(',');
    let members = members.filter(|word| !word.is_empty()).map(|word| {
        let (node, role) = word.split_once(':').unwrap_or((word, "member"));
        let role = match role {
            "observer" => Role::Observer,
            "witness" => Role::Witness,
            _ => Role::Member,
        };
        let node = node.parse().map_err(|_| format!("{node} is no node"))?;
        Ok(Member { node: NodeId(node), host: format!("node-{node}"), port: 5679, role })
    });
    members.collect()
}

/// What is said of something heard; nothing of a primitive that opened.
fn line(person: &mut Person, what: &Purpose, heard: &Heard) -> Option<String> {
    let Heard::Output { index, status, bytes, .. } = heard else {
        return Some(match heard {
            Heard::End => "the end".to_owned(),
            Heard::Broken => "the connection broke".to_owned(),
            Heard::Refused(refusal) => refused(refusal),
            Heard::Event(event) => happening(event),
            Heard::Output { .. } => return None,
        });
    };
    let text = || String::from_utf8_lossy(bytes).into_owned();
    if *status != Status::Ok {
        return Some(format!("{} \"{}\" at {index}", shouted(*status), text()));
    }
    match what {
        Purpose::Open => {
            let output = OpenSessionOutput::decode(bytes.clone()).unwrap_or_default();
            person.session = output.session_id;
            person.max_index = output.session_id;
            Some(format!("session {}", output.session_id))
        }
        Purpose::Watch => None,
        Purpose::Close => Some(format!("closed at {index}")),
        Purpose::Keep => Some(format!("done at {index}")),
        Purpose::Create(kind, name) => {
            let output = CreatePrimitiveOutput::decode(bytes.clone()).unwrap_or_default();
            person.primitives.insert((*kind, name.clone()), output.primitive_id);
            None
        }
        Purpose::Command(_, op) | Purpose::Query(op) => {
            if let Some(key) = opens(op, bytes) {
                return Some(format!("opened {key:?} at {index}"));
            }
            Some(match outcome(op, *status, bytes) {
                Ok(answer) => format!("{answer} at {index}"),
                Err((_, why)) => why,
            })
        }
    }
}

/// The key, empty for none, of the event in an `EventsOutput` that tells of nothing.
fn opens(op: &Op, bytes: &[u8]) -> Option<String> {
    let Ok(Some((1, event))) = member(bytes) else { return None };
    if op.is_query() || !op.is_stream() {
        return None;
    }
    match member(event) {
        Ok(None) => Some(String::new()),
        Ok(Some((1, key))) if has_keyed_events(op.kind()) => {
            Some(String::from_utf8_lossy(key).into_owned())
        }
        Ok(Some(_)) | Err(_) => None,
    }
}

/// What a watcher hears, without the wrappings of its numbers.
fn happening(event: &Event) -> String {
    let mut text = format!("{:?}", event.what);
    for wrapping in ["NodeId(", "Position(", "Term("] {
        while let Some(at) = text.find(wrapping) {
            let end = text[at..].find(')').map_or(text.len(), |end| at + end);
            let number = text[at + wrapping.len()..end].to_owned();
            text.replace_range(at..=end, &number);
        }
    }
    let replayed = if event.at.is_none() { ", replayed" } else { "" };
    format!("partition {}: {text}{replayed}", event.partition)
}

/// A status as clients of the protocol know it.
fn shouted(status: Status) -> String {
    let mut text = String::new();
    for letter in format!("{status:?}").chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

fn refused(refusal: &Refusal) -> String {
    match refusal {
        Refusal::UnknownPartition(partition) => format!("refused, unknown partition {partition}"),
        Refusal::UnknownSession(_) => "refused, session not found".to_owned(),
        Refusal::Unavailable(why) => format!("unavailable, {why}"),
        Refusal::Full(why) => format!("full, {why}"),
        Refusal::Overtaken => "overtaken".to_owned(),
        Refusal::Cancelled => "cancelled".to_owned(),
        Refusal::Deadline => "too late".to_owned(),
        Refusal::Malformed(why) => format!("malformed, {why}"),
        Refusal::NotFound(why) => format!("not found, {why}"),
        Refusal::Precondition(why) => format!("not now, {why}"),
        Refusal::Unimplemented(why) => format!("not built, {why}"),
        Refusal::Elsewhere(Elsewhere::Unavailable, why) => format!("unavailable there, {why}"),
        Refusal::Elsewhere(Elsewhere::Full, why) => format!("full there, {why}"),
    }
}

/// The caller who acts for everyone in a story.
const STORYTELLER: u32 = u32::MAX - 1;
