//! Reading a snapshot back: every record checked against those before it, nothing trusted.

use super::*;

/// The state that a whole snapshot holds.
pub(in crate::partition) fn read(
    partition: PartitionId,
    bounds: Bounds,
    bytes: &[u8],
) -> Result<Machine, Broken> {
    let mut reading = Reading::new(partition, bounds);
    reading.take(bytes)?;
    Ok(reading.finish()?.0)
}

/// A snapshot that comes in slices, cut anywhere: no more of it is held than a record that is not
/// whole yet.
#[derive(Debug)]
pub struct Reading {
    reader: Reader,
    /// The beginning of a record whose rest is to come.
    rest: Vec<u8>,
    digest: u64,
    records: u64,
    /// What the end says of digest and count.
    said: Option<(Option<u64>, u64)>,
}

impl Reading {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(partition: PartitionId, bounds: Bounds) -> Reading {
        let reader = Reader {
            machine: Machine::new(partition, bounds),
            session: None,
            primitive: None,
            unclaimed: BTreeSet::new(),
            started: false,
        };
        Reading { reader, rest: Vec::new(), digest: 0, records: 0, said: None }
    }

    /// The next slice. After an error nothing of it is of use.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if self.rest.is_empty() {
            let used = self.records(bytes)?;
            self.rest.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(bytes);
        let used = self.records(&rest)?;
        rest.drain(..used);
        self.rest = rest;
        Ok(())
    }

    /// The state and its digest, when all of it has come.
    pub fn finish(self) -> Result<(Machine, u64), Broken> {
        let Some((said, count)) = self.said.filter(|_| self.rest.is_empty()) else {
            return Err(Broken::Malformed("it ends early"));
        };
        if said != Some(self.digest) || count != self.records || !self.reader.started {
            return Err(Broken::Malformed("the digest differs"));
        }
        if !self.reader.unclaimed.is_empty() {
            return Err(Broken::Malformed("a pending command waits for nothing"));
        }
        Ok((self.reader.machine, self.digest))
    }

    /// Takes the whole records at the beginning of `bytes`; how long they are.
    fn records(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut rest = bytes;
        while let [kind, tail @ ..] = rest {
            if self.said.is_some() {
                return Err(Broken::Malformed("something follows the end"));
            }
            let mut behind = tail;
            let length = match take_varint(&mut behind) {
                Ok(length) => length,
                Err(_) if tail.len() < VARINT_BYTES_MAX => break,
                Err(broken) => return Err(broken.into()),
            };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let Some((payload, next)) = behind.split_at_checked(length) else { break };
            if *kind == END {
                self.said = Some(end(payload)?);
            } else {
                self.reader.record(*kind, payload)?;
                self.digest = digest_record(self.digest, *kind, payload);
                self.records += 1;
            }
            rest = next;
        }
        Ok(bytes.len() - rest.len())
    }
}

const VARINT_BYTES_MAX: usize = 10;

/// What the last record says of digest and count.
fn end(payload: &[u8]) -> Result<(Option<u64>, u64), Broken> {
    let (mut said, mut count) = (None, 0);
    let mut fields = Fields::new(payload);
    while let Some((number, value)) = fields.field()? {
        match number {
            1 => said = Some(value.fixed()?),
            2 => count = value.uint()?,
            _ => {}
        }
    }
    Ok((said, count))
}

#[derive(Debug)]
struct Reader {
    machine: Machine,
    session: Option<SessionId>,
    primitive: Option<PrimitiveId>,
    /// Pending commands that no primitive has named yet.
    unclaimed: BTreeSet<(SessionId, Sequence)>,
    started: bool,
}

impl Reader {
    fn record(&mut self, kind: u8, payload: &[u8]) -> Result<(), Broken> {
        if (kind == HEADER) == self.started {
            return Err(Broken::Malformed("the header is not the first record"));
        }
        match kind {
            HEADER => self.header(payload),
            SESSION if self.primitive.is_none() => self.session(payload),
            CALL | KEPT | OPEN | JOB if self.primitive.is_none() => {
                let id = self.session.ok_or(Broken::Malformed("it belongs to no session"))?;
                match kind {
                    CALL => self.call(id, payload),
                    KEPT => self.kept(id, payload),
                    OPEN => self.open(id, payload),
                    _ => self.job(id, payload),
                }
            }
            PRIMITIVE => self.primitive(payload),
            OPENED_BY | 16.. => {
                let id = self.primitive.ok_or(Broken::Malformed("it belongs to no primitive"))?;
                match kind {
                    OPENED_BY => self.opened_by(id, payload),
                    kind => self.own(id, kind, payload),
                }
            }
            _ => Err(Broken::Malformed("a record of an unknown kind, or out of order")),
        }
    }

    fn header(&mut self, payload: &[u8]) -> Result<(), Broken> {
        let (mut version, mut partition) = (0, 0);
        let mut fields = Fields::new(payload);
        let ledger = &mut self.machine.ledger;
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => ledger.index = Index(value.uint()?),
                2 => ledger.time = field::timestamp(value.bytes()?)?,
                100 => version = value.uint()?,
                101 => self.machine.term = Term(value.uint()?),
                102 => partition = value.uint()?,
                _ => {}
            }
        }
        if version != VERSION {
            return Err(Broken::Version(version));
        }
        if partition != u64::from(self.machine.partition.0) {
            return Err(Broken::Malformed("it is another partition's"));
        }
        if ledger.index.0 > INDEX_MAX {
            return Err(Broken::Malformed("the index is out of range"));
        }
        self.started = true;
        Ok(())
    }

    fn session(&mut self, payload: &[u8]) -> Result<(), Broken> {
        let (mut id, mut timeout, mut heard, mut by, mut below) = (0, 0, LogTime(0), 0, 0);
        let mut fields = Fields::new(payload);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => id = value.uint()?,
                3 => timeout = field::nanos(value.bytes()?)?,
                4 => heard = field::timestamp(value.bytes()?)?,
                100 => by = value.uint()?,
                101 => below = value.uint()?,
                _ => {}
            }
        }
        let ledger = &mut self.machine.ledger;
        let Ok(timeout) = u64::try_from(timeout) else {
            return Err(Broken::Malformed("a session's timeout is out of range"));
        };
        let (last, index) = (self.session.map_or(0, |last| last.0), ledger.index.0);
        if id <= last || id > index || by > index {
            return Err(Broken::Malformed("a session is out of order"));
        }
        let mut session = Session::new(Span(timeout), (heard, Index(by)));
        session.finished.restore_below(below);
        ledger.open(SessionId(id), session);
        self.session = Some(SessionId(id));
        Ok(())
    }

    /// A pending command, or a stream.
    fn call(&mut self, id: SessionId, payload: &[u8]) -> Result<(), Broken> {
        let saved = Saved::parse(payload)?;
        let number = saved.number(id)?;
        let ledger = &mut self.machine.ledger;
        let session = ledger.sessions.get(&id).ok_or(Broken::Malformed("no session"))?;
        let last = session.calls.last_key_value().map(|(last, _)| *last);
        let pending = saved.phase == RUNNING;
        let fresh = last.is_none_or(|last| last < number) && session.kept.is_empty();
        if saved.index > ledger.index || !fresh || !(pending || saved.streams) {
            return Err(Broken::Malformed("a pending command is out of order"));
        }
        let mut stream = Stream::default();
        let count = saved.outputs.len() as u64;
        if saved.last < count || saved.last > INDEX_MAX {
            return Err(Broken::Malformed("a stream's outputs are miscounted"));
        }
        stream.last = saved.last - count;
        for output in &saved.outputs {
            let (status, bytes) = output.read(saved.operation)?;
            stream.push(Event {
                index: output.index,
                status,
                bytes: Bytes::copy_from_slice(bytes),
            });
        }
        stream.ended = !pending;
        let (index, operation, primitive) = (saved.index, saved.operation, saved.primitive);
        let deadline = saved.deadline.filter(|_| pending);
        let stream = saved.streams.then_some(stream);
        let call = Call { index, operation, primitive, deadline, caller: None, stream };
        ledger.attach(CallId { index, session: id, sequence: number }, call);
        if pending {
            self.unclaimed.insert((id, number));
        }
        Ok(())
    }

    /// A finished unary command.
    fn kept(&mut self, id: SessionId, payload: &[u8]) -> Result<(), Broken> {
        let saved = Saved::parse(payload)?;
        let number = saved.number(id)?;
        let (end, bytes) = match (&saved.outputs[..], saved.ended) {
            ([output], 0) => {
                let (status, bytes) = output.read(saved.operation)?;
                (End::Output(status), bytes)
            }
            ([], BY_CANCEL) => (End::Cancelled, &[][..]),
            ([], BY_DEADLINE) => (End::Deadline, &[][..]),
            _ => return Err(Broken::Malformed("a finished command has no one output")),
        };
        let ledger = &mut self.machine.ledger;
        let session = ledger.sessions.get(&id).ok_or(Broken::Malformed("no session"))?;
        let known = session.kept.get(number.0).is_some() || session.calls.contains_key(&number);
        if known || saved.index > ledger.index {
            return Err(Broken::Malformed("a finished command is out of order"));
        }
        let (index, operation) = (saved.index, saved.operation);
        ledger.keep(id, number, Record { index, operation, end, bytes });
        Ok(())
    }

    fn open(&mut self, id: SessionId, payload: &[u8]) -> Result<(), Broken> {
        let numbers = packed(payload)?;
        self.change(id, |session| {
            let restored = numbers.iter().all(|number| session.finished.restore_open(*number));
            restored.then_some(()).ok_or(Broken::Malformed("an open number is out of order"))
        })
    }

    fn job(&mut self, id: SessionId, payload: &[u8]) -> Result<(), Broken> {
        let (mut to, mut cursor, mut text) = (0, 0, &[][..]);
        let mut fields = Fields::new(payload);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => to = value.uint()?,
                2 => cursor = value.uint()?,
                3 => text = value.bytes()?,
                _ => {}
            }
        }
        let filter = Filter::parse(text).map_err(|_| Broken::Malformed("a filter is broken"))?;
        let job = Job { to, cursor, filter, text: text.into() };
        self.machine.ledger.sweeping.insert(id);
        self.change(id, |session| {
            let restored = session.finished.restore_job(job);
            restored.then_some(()).ok_or(Broken::Malformed("a keep-alive is out of order"))
        })
    }

    fn change(
        &mut self,
        id: SessionId,
        change: impl FnOnce(&mut Session) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        let ledger = &mut self.machine.ledger;
        let session = ledger.sessions.get_mut(&id).ok_or(Broken::Malformed("no session"))?;
        let before = session.bytes();
        change(session)?;
        ledger.bytes = ledger.bytes + session.bytes() - before;
        Ok(())
    }

    fn primitive(&mut self, payload: &[u8]) -> Result<(), Broken> {
        let (mut id, mut spec) = (PrimitiveId(0), &[][..]);
        let mut fields = Fields::new(payload);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => id = PrimitiveId(value.uint()?),
                2 => spec = value.bytes()?,
                _ => {}
            }
        }
        let mut texts = [""; 3];
        let mut fields = Fields::new(spec);
        while let Some((number, value)) = fields.field()? {
            if let 1..=3 = number {
                texts[number as usize - 1] = field::text(value.bytes()?)?;
            }
        }
        let [service, namespace, name] = texts;
        let kind = kind_of_service(service).ok_or(Broken::Malformed("a kind is unknown"))?;
        let state = Primitive::new(kind);
        let (namespace, name, sessions) = (namespace.into(), name.into(), BTreeSet::new());
        let instance = Instance { kind, namespace, name, sessions, state };
        let after = self.primitive.unwrap_or_default() < id && id.0 <= self.machine.ledger.index.0;
        if !after || !self.machine.add(id, instance) {
            return Err(Broken::Malformed("a primitive is out of order"));
        }
        self.primitive = Some(id);
        Ok(())
    }

    fn opened_by(&mut self, id: PrimitiveId, payload: &[u8]) -> Result<(), Broken> {
        for session in packed(payload)? {
            if !self.machine.open_for(SessionId(session), id) {
                return Err(Broken::Malformed("a primitive is open for no session"));
            }
        }
        Ok(())
    }

    fn own(&mut self, id: PrimitiveId, kind: u8, payload: &[u8]) -> Result<(), Broken> {
        let instance = self.machine.primitives.get_mut(&id);
        let instance = instance.ok_or(Broken::Malformed("no primitive"))?;
        let before = instance.state.bytes();
        let mut cx = Restoring {
            ledger: &mut self.machine.ledger,
            primitive: id,
            sessions: &instance.sessions,
            unclaimed: &mut self.unclaimed,
        };
        instance.state.restore(&mut cx, kind, payload)?;
        let bytes = &mut self.machine.primitives_bytes;
        *bytes = *bytes + instance.state.bytes() - before;
        Ok(())
    }
}

/// Indexes and numbers of outputs stay far from the end of 64 bits: a million a second for 146 000
/// years.
const INDEX_MAX: u64 = 1 << 62;

/// A `SessionProposalSnapshot`, decoded.
struct Saved<'a> {
    index: Index,
    phase: u64,
    session: SessionId,
    number: Sequence,
    deadline: Option<LogTime>,
    operation: Operation,
    primitive: PrimitiveId,
    outputs: Vec<SavedOutput<'a>>,
    last: u64,
    ended: u64,
    streams: bool,
}

/// A `SessionProposalOutput`, decoded.
#[derive(Default)]
struct SavedOutput<'a> {
    index: Index,
    failure: Option<&'a [u8]>,
    create: &'a [u8],
    close: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Saved<'a> {
    fn parse(message: &'a [u8]) -> Result<Saved<'a>, Broken> {
        let mut saved = Saved {
            index: Index(0),
            phase: 0,
            session: SessionId(0),
            number: Sequence(0),
            deadline: None,
            operation: Operation::CREATE,
            primitive: PrimitiveId(0),
            outputs: Vec::new(),
            last: 0,
            ended: 0,
            streams: false,
        };
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => saved.index = Index(value.uint()?),
                2 => saved.phase = value.uint()?,
                3 => saved.input(value.bytes()?)?,
                4 => saved.outputs.push(SavedOutput::parse(value.bytes()?)?),
                5 => saved.last = value.uint()?,
                100 => saved.ended = value.uint()?,
                101 => saved.streams = value.uint()? == 1,
                _ => {}
            }
        }
        match saved.phase {
            RUNNING | COMPLETE | CANCELED => Ok(saved),
            _ => Err(Broken::Malformed("a command is in no phase")),
        }
    }

    fn input(&mut self, message: &[u8]) -> Result<(), Broken> {
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => self.session = SessionId(value.uint()?),
                2 => self.number = Sequence(value.uint()?),
                3 => self.deadline = Some(field::timestamp(value.bytes()?)?),
                4 => self.operation = Operation::CREATE,
                5 => self.operation = Operation::CLOSE,
                6 => {
                    let target = crate::partition::session::Target::parse(value.bytes()?)?;
                    let tag = primitive::member(target.payload)?.map_or(0, |(tag, _)| tag);
                    self.operation = Operation::of(target.kind, tag);
                    self.primitive = target.primitive;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Its number, if it is one of this session.
    fn number(&self, session: SessionId) -> Result<Sequence, Broken> {
        match self.session == session {
            true => Ok(self.number),
            false => Err(Broken::Malformed("a command stands under another session")),
        }
    }
}

impl<'a> SavedOutput<'a> {
    fn parse(message: &'a [u8]) -> Result<SavedOutput<'a>, Broken> {
        let mut output = SavedOutput::default();
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.field()? {
            match number {
                2 => output.failure = Some(value.bytes()?),
                3 => output.create = value.bytes()?,
                4 => output.close = value.bytes()?,
                5 => output.payload = value.bytes()?,
                100 => output.index = Index(value.uint()?),
                _ => {}
            }
        }
        Ok(output)
    }

    /// Its status, and its bytes without the member's tag, or the text of its failure.
    fn read(&self, operation: Operation) -> Result<(Status, &'a [u8]), Broken> {
        if let Some(failure) = self.failure {
            let (mut status, mut text) = (0, &[][..]);
            let mut fields = Fields::new(failure);
            while let Some((number, value)) = fields.field()? {
                match number {
                    1 => status = value.uint()?,
                    2 => text = value.bytes()?,
                    _ => {}
                }
            }
            return match Status::of_failure(status) {
                Some(status) => Ok((status, text)),
                None => Err(Broken::Malformed("a failure has no such status")),
            };
        }
        if operation.parts().is_some_and(|(_, tag)| tag == 0) {
            return Err(Broken::Malformed("an operation that is none has an output"));
        }
        if operation.parts().is_none() {
            let create = operation == Operation::CREATE;
            return Ok((Status::Ok, if create { self.create } else { self.close }));
        }
        let mut payload: &[u8] = &[];
        let mut fields = Fields::new(self.payload);
        while let Some((number, value)) = fields.field()? {
            if number == 1 {
                payload = value.bytes()?;
            }
        }
        let member = primitive::member(payload)?;
        Ok((Status::Ok, member.map_or(&[][..], |(_, bytes)| bytes)))
    }
}

/// The ascending numbers of a packed record.
fn packed(payload: &[u8]) -> Result<Vec<u64>, Broken> {
    let mut numbers = Vec::new();
    let mut fields = Fields::new(payload);
    while let Some((number, value)) = fields.field()? {
        if number != 1 {
            continue;
        }
        let mut gaps = value.bytes()?;
        let mut last = 0u64;
        while !gaps.is_empty() {
            let gap = take_varint(&mut gaps)?;
            let next = last.checked_add(gap);
            last = next.ok_or(Broken::Malformed("a packed number is out of range"))?;
            numbers.push(last);
        }
    }
    Ok(numbers)
}
