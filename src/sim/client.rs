//! A client as the published ones behave, and a little worse: it opens a session, keeps it alive,
//! retries with the same number here and there, hangs up, gives up, repeats itself late, and falls
//! silent.
//!
//! It is a value: told the time and what it heard, it says what it sends and when it wants to be
//! woken. What it asked and heard goes into the history, which is all that the checkers see. Absent
//! on purpose: any knowledge of which node leads; it finds out by being refused.

mod under_way;

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use under_way::{Call, Ending, Finished, Live, Run, What};

use crate::id::{Index, NodeId, PartitionId};
use crate::partition::reply::{Elsewhere, Refusal, Status};
use crate::prng::Prng;
use crate::shard::inbox::Ask;
use crate::sim::call::{Act, Heard, Send};
use crate::sim::coverage::Seen;
use crate::sim::habits::Habits;
use crate::sim::history::{History, Record, Session, Stream};
use crate::sim::speech;
use crate::time::Span;
use crate::wire::bloom::Filter;
use crate::wire::proto::v1::{CreatePrimitiveOutput, OpenSessionOutput};
use crate::workload::answer::{Change, outcome};
use crate::workload::mix::{all_events, last_reads};
use crate::workload::{Answer, Op};

/// A client.
#[derive(Debug)]
pub struct Client {
    /// Its number, from 0.
    pub number: u32,
    /// The partition that it works on.
    pub partition: PartitionId,
    /// How it behaves.
    pub habits: Habits,
    /// Operations and keep-alives that came back.
    pub completed: u64,
    /// What it heard that no server may say.
    pub complaints: Vec<String>,
    prng: Prng,
    nodes: u32,
    target: NodeId,
    live: Option<Live>,
    calls: BTreeMap<u64, Call>,
    next_call: u64,
    next_open_ns: u64,
    next_op_ns: u64,
    operations: u64,
    ending: Ending,
    slept: bool,
}

impl Client {
    /// A client that has not begun.
    #[must_use]
    pub fn new(number: u32, habits: Habits, nodes: u32, mut prng: Prng) -> Client {
        let partition = habits.partition;
        let target = NodeId(1 + prng.below(u64::from(nodes)) as u32);
        Client {
            number,
            partition,
            habits,
            completed: 0,
            complaints: Vec::new(),
            prng,
            nodes,
            target,
            live: None,
            calls: BTreeMap::new(),
            next_call: 1,
            next_open_ns: 0,
            next_op_ns: 0,
            operations: 0,
            ending: Ending::Working,
            slept: false,
        }
    }

    /// It begins nothing more, lets what is under way end, and reads everything once more.
    pub fn finish(&mut self) {
        if self.ending == Ending::Working {
            self.ending = Ending::Draining;
        }
    }

    /// Whether it has read everything once more, or is dead.
    #[must_use]
    pub fn is_done(&self, now_ns: u64) -> bool {
        self.ending == Ending::Done || self.is_dead(now_ns)
    }

    /// Whether it has fallen silent for ever.
    #[must_use]
    pub fn is_dead(&self, now_ns: u64) -> bool {
        now_ns >= self.habits.dies_ns
    }

    /// The session that is open, by its place in the history.
    #[must_use]
    pub fn session(&self) -> Option<usize> {
        self.live.as_ref().map(|live| live.place)
    }

    /// The streams that are open, by their place in the history.
    #[must_use]
    pub fn streams(&self) -> Vec<usize> {
        let runs = self.live.iter().flat_map(|live| live.runs.values());
        runs.filter_map(|run| run.stream.map(|(place, _)| place)).collect()
    }

    /// Does what is due, and says when it wants to be woken again.
    pub fn turn(&mut self, now_ns: u64, history: &mut History, acts: &mut Vec<Act>) -> u64 {
        if self.is_done(now_ns) {
            return u64::MAX;
        }
        if self.sleeps(now_ns) {
            return self.habits.sleeps_ns.end;
        }
        self.expire_calls(now_ns, acts);
        if self.live.is_none() {
            self.open(now_ns, history, acts);
        } else {
            self.keep_alive(now_ns, history, acts);
            self.give_up(now_ns, acts);
            self.begin(now_ns, history, acts);
            self.send_again(now_ns, acts);
            self.repeat_late(now_ns, acts);
        }
        self.wake_ns(now_ns)
    }

    /// Takes what came back on a call; an answer to a forgotten call is nobody's.
    pub fn heard(&mut self, call: u64, heard: Heard, now_ns: u64, history: &mut History) {
        if self.sleeps(now_ns) {
            return;
        }
        let Some(known) = self.calls.get(&call).filter(|call| call.ends_ns > 0) else { return };
        let last = heard.is_last();
        match &heard {
            Heard::Output { .. } => self.target = known.node,
            Heard::Refused(Refusal::Deadline) => history.coverage.note(Seen::Deadline),
            Heard::Refused(Refusal::Full(_) | Refusal::Elsewhere(Elsewhere::Full, _)) => {
                history.coverage.note(Seen::NoRoom);
            }
            Heard::Refused(_) | Heard::Event(_) | Heard::End | Heard::Broken => {}
        }
        match &known.what {
            What::Open { stamp } => {
                let stamp = *stamp;
                self.opened(heard, stamp, now_ns, history);
            }
            What::KeepAlive { session, stamp, open, last } => {
                let (session, stamp, open, last) = (*session, *stamp, open.clone(), *last);
                self.kept_alive(session, stamp, &open, last, &heard, now_ns, history);
            }
            What::Run { session, run } => {
                let (session, run) = (*session, *run);
                self.ran(session, run, call, heard, now_ns, history);
            }
            What::Late { told, index, status, output } => {
                let expected = (*told, *index, *status, output.clone());
                self.came_late(&expected, &heard);
            }
        }
        if last {
            self.calls.remove(&call);
        }
    }

    /// Whether it neither speaks nor hears now. When it wakes it has missed what was said, so it
    /// asks everything again.
    fn sleeps(&mut self, now_ns: u64) -> bool {
        let sleeps = self.habits.sleeps_ns.contains(&now_ns);
        if std::mem::replace(&mut self.slept, sleeps) && !sleeps {
            self.calls.values_mut().for_each(|call| call.ends_ns = 0);
        }
        sleeps
    }

    fn opened(&mut self, heard: Heard, stamp: u64, now_ns: u64, history: &mut History) {
        self.next_open_ns = now_ns + self.backoff_ns();
        let Heard::Output { status: Status::Ok, bytes, index, .. } = heard else {
            self.elsewhere();
            return;
        };
        let id = match OpenSessionOutput::decode(bytes) {
            Ok(output) if output.session_id > 0 && output.session_id <= index => output.session_id,
            other => return self.complain(format!("opened at {index}: {other:?}")),
        };
        if self.live.is_some() {
            return;
        }
        self.completed += 1;
        history.sessions.push(Session {
            id,
            partition: self.partition,
            confirmed: stamp,
            timeout_ns: self.habits.timeout_ns,
            survived: false,
            closed: None,
        });
        self.live = Some(Live {
            id,
            place: history.sessions.len() - 1,
            primitives: vec![None; self.habits.mixes.len()],
            next_sequence: 1,
            runs: BTreeMap::new(),
            next_run: 1,
            finished: Vec::new(),
            keep_alive_ns: now_ns + self.habits.timeout_ns / 4,
            max_index: id,
            seen: 0,
            listening: false,
            to_read: Vec::new(),
        });
    }

    #[allow(clippy::too_many_arguments)]
    fn kept_alive(
        &mut self,
        session: u64,
        stamp: u64,
        open: &[u64],
        last: u64,
        heard: &Heard,
        now_ns: u64,
        history: &mut History,
    ) {
        let Some(live) = self.live.as_mut().filter(|live| live.id == session) else { return };
        match heard {
            Heard::Output { status: Status::Ok, index, .. } => {
                self.completed += 1;
                let known = &mut history.sessions[live.place];
                known.confirmed = known.confirmed.max(stamp);
                live.max_index = live.max_index.max(*index);
                for finished in &mut live.finished {
                    let named = finished.sequence <= last;
                    finished.told |= named && !Filter::of(open).contains(finished.sequence);
                }
            }
            Heard::Refused(Refusal::UnknownSession(_)) => self.lost(now_ns, history),
            Heard::Output { status, .. } => {
                let status = *status;
                self.complain(format!("a keep-alive came back {status:?}"));
            }
            Heard::Refused(Refusal::Malformed(why)) => {
                self.complain(format!("a keep-alive was refused: {why}"));
            }
            Heard::Event(_) | Heard::End | Heard::Refused(_) | Heard::Broken => {
                live.keep_alive_ns = now_ns + 20_000_000;
                self.elsewhere();
            }
        }
    }

    fn ran(
        &mut self,
        session: u64,
        run: u64,
        call: u64,
        heard: Heard,
        now_ns: u64,
        history: &mut History,
    ) {
        let Some(live) = self.live.as_mut().filter(|live| live.id == session) else { return };
        let Some(under_way) = live.runs.get_mut(&run) else { return };
        match heard {
            Heard::Output { index, number, status, bytes, .. } => {
                live.max_index = live.max_index.max(index);
                if let Some((place, last)) = &mut under_way.stream {
                    let expected = *last + 1;
                    let Some((op, _)) = &under_way.op else { return };
                    if number < expected {
                        return;
                    }
                    *last = number;
                    let op = op.clone();
                    let outcome = outcome(&op, status, &bytes);
                    let resumed = under_way.heard_on.replace(call).is_some_and(|on| on != call);
                    history.coverage.add(Seen::Resumed, u64::from(resumed));
                    let expired = Change::Expired;
                    if matches!(&outcome, Ok(Answer::Event { change, .. }) if *change == expired) {
                        history.coverage.note(Seen::EntryExpired);
                    }
                    history.streams[*place].outputs.push((number, index, outcome.clone()));
                    if number != expected {
                        self.complain(format!("{op} jumped from {} to {number}", expected - 1));
                    }
                    return;
                }
                self.answered(run, index, number, status, bytes, now_ns, history);
            }
            Heard::Refused(Refusal::UnknownSession(_)) => self.lost(now_ns, history),
            Heard::Refused(Refusal::Malformed(why)) => {
                self.complain(format!("a request was refused: {why}"));
                self.forget(run);
            }
            Heard::Event(_)
            | Heard::End
            | Heard::Refused(Refusal::Cancelled | Refusal::Deadline) => self.forget(run),
            Heard::Refused(_) | Heard::Broken => {
                let others = self.calls.iter().any(|(other, known)| {
                    *other != call && matches!(known.what, What::Run { run: its, .. } if its == run)
                });
                if !others {
                    under_way.retry_ns = Some(now_ns + 5_000_000 + self.prng.below(150_000_000));
                }
                self.elsewhere();
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn answered(
        &mut self,
        run: u64,
        index: u64,
        number: u64,
        status: Status,
        bytes: Bytes,
        now_ns: u64,
        history: &mut History,
    ) {
        let Some(live) = self.live.as_mut() else { return };
        let Some(under_way) = live.runs.remove(&run) else { return };
        self.completed += 1;
        let Some((op, record)) = under_way.op else {
            match CreatePrimitiveOutput::decode(bytes.clone()) {
                Ok(output) if status == Status::Ok && output.primitive_id > 0 => {
                    live.primitives[under_way.primitive] = Some(output.primitive_id);
                }
                other => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    self.complain(format!("opening a primitive: {status:?} {other:?} {text}"));
                }
            }
            return;
        };
        let outcome = outcome(&op, status, &bytes);
        match &outcome {
            Ok(Answer::Written { index, .. }) => live.seen = *index,
            Ok(Answer::Found(held) | Answer::Entry { value: Some(held), .. }) => {
                live.seen = held.index;
            }
            _ => {}
        }
        if let Some(sequence) = under_way.sequence {
            if number != 1 {
                self.complain(format!("{op} was answered with output {number}"));
            } else if self.prng.chance(self.habits.repeats) {
                let again_ns = now_ns + self.prng.below(4 * self.habits.timeout_ns);
                let (body, output) = (under_way.body, bytes);
                live.finished.push(Finished {
                    sequence,
                    body,
                    index,
                    status,
                    output,
                    again_ns,
                    told: false,
                });
            }
        }
        history.back(record, now_ns, index, outcome);
    }

    /// What a command that is sent again long after its answer may come back with: nothing, the
    /// same, or word that it is over; and only the last when a keep-alive said so.
    fn came_late(&mut self, expected: &(bool, u64, Status, Bytes), heard: &Heard) {
        let Heard::Output { index, status, bytes, .. } = heard else { return };
        let (told, first_index, first_status, first_bytes) = expected;
        let replayed = index == first_index && status == first_status && bytes == first_bytes;
        if *status == Status::Canceled {
            return;
        }
        if *told || !replayed {
            let text = String::from_utf8_lossy(bytes);
            self.complain(format!(
                "a command sent again (finished: {told}) first came back {first_status:?} at \
                 {first_index}, then {status:?} at {index}: {text}"
            ));
        }
    }

    /// The session is gone: what was under way may or may not have been done.
    fn lost(&mut self, now_ns: u64, history: &mut History) {
        let Some(live) = self.live.take() else { return };
        history.coverage.note(Seen::SessionExpired);
        let session = &history.sessions[live.place];
        let lived_ns = now_ns.saturating_sub(session.confirmed);
        if lived_ns < session.timeout_ns {
            self.complain(format!(
                "session {} was gone {} ms after it was kept alive, its timeout is {} ms",
                live.id,
                lived_ns / 1_000_000,
                session.timeout_ns / 1_000_000
            ));
        }
        self.next_open_ns = now_ns + self.backoff_ns();
        if self.ending == Ending::Reading {
            self.ending = Ending::Draining;
        }
    }

    fn forget(&mut self, run: u64) {
        if let Some(live) = &mut self.live {
            live.runs.remove(&run);
        }
    }

    fn expire_calls(&mut self, now_ns: u64, acts: &mut Vec<Act>) {
        let expired: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, call)| call.ends_ns <= now_ns)
            .map(|(number, _)| *number)
            .collect();
        for number in expired {
            let Some(call) = self.calls.remove(&number) else { continue };
            acts.push(Act::Hangup(number));
            match call.what {
                What::Open { .. } => self.next_open_ns = now_ns,
                What::KeepAlive { session, .. } => {
                    if let Some(live) = self.live.as_mut().filter(|live| live.id == session) {
                        live.keep_alive_ns = now_ns;
                    }
                }
                What::Run { session, run } => {
                    let live = self.live.as_mut().filter(|live| live.id == session);
                    if let Some(run) = live.and_then(|live| live.runs.get_mut(&run)) {
                        run.retry_ns = Some(now_ns);
                    }
                }
                What::Late { .. } => {}
            }
            self.elsewhere();
        }
    }

    fn open(&mut self, now_ns: u64, history: &mut History, acts: &mut Vec<Act>) {
        let opening = self.calls.values().any(|call| matches!(call.what, What::Open { .. }));
        if opening || now_ns < self.next_open_ns {
            return;
        }
        let stamp = history.stamp(now_ns);
        let timeout = Some(Span::nanos(self.habits.timeout_ns));
        let body = speech::open_session(timeout);
        self.send(now_ns, What::Open { stamp }, self.target, Ask::Command, body.into(), acts);
    }

    fn keep_alive(&mut self, now_ns: u64, history: &mut History, acts: &mut Vec<Act>) {
        let Some(live) = &mut self.live else { return };
        if now_ns < live.keep_alive_ns {
            return;
        }
        live.keep_alive_ns = now_ns + self.habits.timeout_ns / 4;
        let open: Vec<u64> = live.runs.values().filter_map(|run| run.sequence).collect();
        let heard: Vec<(u64, u64)> = live
            .runs
            .values()
            .filter_map(|run| Some((run.sequence?, run.stream?.1)))
            .filter(|(_, last)| *last > 1)
            .collect();
        let last = live.next_sequence - 1;
        let body = speech::keep_alive(live.id, Filter::of(&open).to_json(), last, &heard);
        let stamp = history.stamp(now_ns);
        let what = What::KeepAlive { session: live.id, stamp, open, last };
        self.send(now_ns, what, self.target, Ask::Command, body.into(), acts);
    }

    /// What is no longer wanted: hung up on, and not named open by the next keep-alive.
    fn give_up(&mut self, now_ns: u64, acts: &mut Vec<Act>) {
        let Some(live) = &mut self.live else { return };
        let given_up: Vec<u64> = live
            .runs
            .iter()
            .filter(|(_, run)| run.gives_up_ns <= now_ns)
            .map(|(number, _)| *number)
            .collect();
        for number in given_up {
            live.runs.remove(&number);
            self.calls.retain(|call, known| {
                let its = matches!(known.what, What::Run { run, .. } if run == number);
                if its {
                    acts.push(Act::Hangup(*call));
                }
                !its
            });
        }
    }

    fn begin(&mut self, now_ns: u64, history: &mut History, acts: &mut Vec<Act>) {
        let Some(live) = &self.live else { return };
        if live.next_run == 1 {
            for place in 0..self.habits.mixes.len() {
                self.begin_create(now_ns, place, acts);
            }
        }
        let Some(live) = &mut self.live else { return };
        if live.primitives.iter().any(Option::is_none) {
            return;
        }
        if self.habits.listens && !live.listening && self.ending == Ending::Working {
            live.listening = true;
            for place in 0..self.habits.mixes.len() {
                if let Some(op) = all_events(self.habits.mixes[place].0.kind()) {
                    self.begin_op(now_ns, place, op, history, acts);
                }
            }
        }
        self.advance_ending();
        while let Some((place, op)) = self.next_op(now_ns) {
            self.begin_op(now_ns, place, op, history, acts);
        }
    }

    fn advance_ending(&mut self) {
        let Some(live) = &mut self.live else { return };
        let busy = live.runs.values().any(|run| run.stream.is_none());
        match self.ending {
            Ending::Draining if !busy => {
                self.ending = Ending::Reading;
                for (place, (mix, _)) in self.habits.mixes.iter().enumerate() {
                    live.to_read.extend(last_reads(mix.kind()).into_iter().map(|op| (place, op)));
                }
            }
            Ending::Reading if !busy && live.to_read.is_empty() => self.ending = Ending::Done,
            Ending::Working | Ending::Draining | Ending::Reading | Ending::Done => {}
        }
    }

    fn next_op(&mut self, now_ns: u64) -> Option<(usize, Op)> {
        let live = self.live.as_mut()?;
        let under_way = live.runs.values().filter(|run| run.stream.is_none()).count();
        if under_way >= self.habits.at_once {
            return None;
        }
        match self.ending {
            Ending::Reading => live.to_read.pop(),
            Ending::Working if now_ns >= self.next_op_ns => {
                self.next_op_ns = now_ns + 1 + self.prng.below(self.habits.think_ns.max(1));
                let place = self.prng.below(self.habits.mixes.len() as u64) as usize;
                let who = format!("c{}", self.number);
                let mix = self.habits.mixes[place].0;
                let tries = if self.habits.reads { READ_TRIES } else { 1 };
                let mut op = None;
                for _ in 0..tries {
                    self.operations += 1;
                    let next = mix.next(&mut self.prng, &who, self.operations, live.seen);
                    let reads = next.is_query();
                    op = Some((place, next));
                    if reads {
                        break;
                    }
                }
                op
            }
            Ending::Working | Ending::Draining | Ending::Done => None,
        }
    }

    fn begin_create(&mut self, now_ns: u64, place: usize, acts: &mut Vec<Act>) {
        let Some(live) = &mut self.live else { return };
        let (mix, name) = &self.habits.mixes[place];
        let sequence = live.next_sequence;
        live.next_sequence += 1;
        let body = Bytes::from(speech::create(live.id, sequence, mix.kind(), name));
        let run = Run {
            sequence: Some(sequence),
            primitive: place,
            op: None,
            body,
            retry_ns: None,
            gives_up_ns: u64::MAX,
            stream: None,
            heard_on: None,
        };
        self.start(now_ns, run, acts);
    }

    fn begin_op(
        &mut self,
        now_ns: u64,
        place: usize,
        op: Op,
        history: &mut History,
        acts: &mut Vec<Act>,
    ) {
        let Some(live) = &mut self.live else { return };
        let Some(primitive) = live.primitives[place] else { return };
        let kind = op.kind();
        let sequence = (!op.is_query()).then(|| {
            // Queries of some clients take numbers from the same counter.
            let skipped = u64::from(self.prng.chance(100));
            let sequence = live.next_sequence + skipped;
            live.next_sequence = sequence + 1;
            sequence
        });
        let body = Bytes::from(match sequence {
            Some(sequence) => speech::command(live.id, sequence, primitive, kind, op.payload()),
            None => speech::query(live.id, primitive, kind, op.payload()),
        });
        let call = history.stamp(now_ns);
        let record = history.call(Record {
            client: self.number,
            session: live.place,
            partition: self.partition,
            primitive: (kind, self.habits.mixes[place].1.clone()),
            op: op.clone(),
            call,
            back: None,
            outcome: None,
            index: 0,
        });
        let stream = op.is_stream().then(|| {
            history.streams.push(Stream { record, outputs: Vec::new(), complete: false });
            (history.streams.len() - 1, 0)
        });
        let mut gives_up_ns = u64::MAX;
        if stream.is_none() && self.prng.chance(self.habits.gives_up) {
            gives_up_ns = now_ns + self.prng.below(200_000_000);
        }
        let op = Some((op, record));
        let run = Run {
            sequence,
            primitive: place,
            op,
            body,
            retry_ns: None,
            gives_up_ns,
            stream,
            heard_on: None,
        };
        self.start(now_ns, run, acts);
    }

    fn start(&mut self, now_ns: u64, run: Run, acts: &mut Vec<Act>) {
        let Some(live) = &mut self.live else { return };
        let number = live.next_run;
        live.next_run += 1;
        let twice = run.sequence.is_some() && self.prng.chance(self.habits.doubles);
        live.runs.insert(number, run);
        let roams = self.prng.chance(self.habits.roams);
        let node = if roams { self.any_node() } else { self.target };
        self.send_run(now_ns, number, node, acts);
        if twice {
            let node = self.any_node();
            self.send_run(now_ns, number, node, acts);
        }
    }

    fn send_again(&mut self, now_ns: u64, acts: &mut Vec<Act>) {
        let Some(live) = &mut self.live else { return };
        let mut due = Vec::new();
        for (number, run) in &mut live.runs {
            if run.retry_ns.is_some_and(|at_ns| at_ns <= now_ns) {
                run.retry_ns = None;
                due.push(*number);
            }
        }
        for number in due {
            self.send_run(now_ns, number, self.target, acts);
        }
    }

    fn repeat_late(&mut self, now_ns: u64, acts: &mut Vec<Act>) {
        let Some(live) = &mut self.live else { return };
        let mut due = Vec::new();
        live.finished.retain_mut(|finished| {
            let keep = finished.again_ns > now_ns;
            if !keep {
                let Finished { told, index, status, .. } = *finished;
                let output = finished.output.clone();
                due.push((What::Late { told, index, status, output }, finished.body.clone()));
            }
            keep
        });
        for (what, body) in due {
            let node = self.any_node();
            self.send(now_ns, what, node, Ask::Command, body, acts);
        }
    }

    fn send_run(&mut self, now_ns: u64, number: u64, node: NodeId, acts: &mut Vec<Act>) {
        let Some(live) = &self.live else { return };
        let Some(run) = live.runs.get(&number) else { return };
        let ask = match run.sequence {
            Some(_) => Ask::Command,
            None => Ask::Query { at_least: Index(live.max_index) },
        };
        let (what, body) = (What::Run { session: live.id, run: number }, run.body.clone());
        self.send(now_ns, what, node, ask, body, acts);
    }

    fn send(
        &mut self,
        now_ns: u64,
        what: What,
        node: NodeId,
        ask: Ask,
        body: Bytes,
        acts: &mut Vec<Act>,
    ) {
        // Without its primitives it could do nothing more.
        let operates = match what {
            What::Run { run, .. } => {
                let run = self.live.as_ref().and_then(|live| live.runs.get(&run));
                run.is_some_and(|run| run.op.is_some())
            }
            _ => false,
        };
        let limited =
            operates && self.habits.deadlines > 0 && self.prng.chance(self.habits.deadlines);
        let timeout = limited.then(|| Span::millis(1 + self.prng.below(DEADLINE_MS_MAX)));
        let call = self.next_call;
        self.next_call += 1;
        let half = self.habits.patience_ns / 2;
        let ends_ns = now_ns + half + self.prng.below(half.max(1));
        self.calls.insert(call, Call { what, node, ends_ns });
        acts.push(Act::Send(Send { call, node, ask, body, timeout }));
    }

    fn wake_ns(&self, now_ns: u64) -> u64 {
        let mut wake_ns = self.habits.dies_ns;
        let mut at = |ns: u64| wake_ns = wake_ns.min(ns.max(now_ns + 1));
        self.calls.values().for_each(|call| at(call.ends_ns));
        match &self.live {
            None if self.calls.is_empty() => at(self.next_open_ns),
            None => {}
            Some(live) => {
                at(live.keep_alive_ns);
                live.finished.iter().for_each(|finished| at(finished.again_ns));
                for run in live.runs.values() {
                    at(run.gives_up_ns);
                    run.retry_ns.into_iter().for_each(&mut at);
                }
                let busy = live.runs.values().filter(|run| run.stream.is_none()).count();
                let idle = busy < self.habits.at_once;
                let opened = live.primitives.iter().all(Option::is_some);
                if opened && idle && self.ending == Ending::Working {
                    at(self.next_op_ns);
                }
            }
        }
        wake_ns
    }

    /// The next try goes to another node.
    fn elsewhere(&mut self) {
        self.target = self.any_node();
    }

    fn any_node(&mut self) -> NodeId {
        NodeId(1 + self.prng.below(u64::from(self.nodes)) as u32)
    }

    fn backoff_ns(&mut self) -> u64 {
        10_000_000 + self.prng.below(200_000_000)
    }

    fn complain(&mut self, what: String) {
        self.complaints.push(format!("client {}: {what}", self.number));
    }
}

/// From less than a command takes to more than most wait.
const DEADLINE_MS_MAX: u64 = 500;

/// How often who only reads draws from a mix until it is a read.
const READ_TRIES: u32 = 20;
