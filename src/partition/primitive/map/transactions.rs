//! Transactions of a map: many operations at once, in one step or prepared first (primitives.md
//! 7.4).
//!
//! ```text
//! Prepare ─► its keys are locked ─┬─ Commit ─► all operations in order, one version
//!                                 └─ Abort, the session ends or closes the map ─► nothing
//! Apply = Prepare and Commit in one command
//! ```
//!
//! A transaction is known by its session and the number that Prepare names. While a key is locked
//! every command that would write it is told CONFLICT; reads ignore locks. So what Prepare found
//! stays true, and a transaction that is prepared can be committed, always: one that is not there
//! any more is NOT_FOUND. For that a lifetime waits too: the timer of a locked entry is put away,
//! and armed again when the lock goes, unless the commit has written or removed the entry. An entry
//! overdue by then goes with the next stamp, like one without any lifetime. (The reference lets it
//! expire and dies of the commit.)
//!
//! The reference skips operations it does not know. Its clients send puts, inserts, updates and
//! removes only and match outputs by their place, so a skipped one would shift all behind it: any
//! other operation makes the whole transaction INVALID. The reference also applies what is prepared
//! when the session ends; here what nobody committed did not happen.
//!
//! A client that gives up on Prepare sends Abort. When Abort comes first, its number is noted and
//! the Prepare that follows is refused, or its locks would stay as long as the session. Absent on
//! purpose: waiting for locks, and any look at other partitions; who coordinates is the client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::id::{Index, Sequence, SessionId};
use crate::limits::{
    TRANSACTION_OPERATIONS_MAX, TRANSACTION_OUTPUT_BYTES_MAX, TRANSACTIONS_ABORTED_MAX,
};
use crate::partition::kept::Rubble;
use crate::partition::primitive::map::{
    ABORT, APPLY, COMMIT, INSERT, Input, Map, Objection, PREPARE, PUT, REMOVE, Step, UPDATE,
};
use crate::partition::primitive::{
    Answer, CallId, Context, Place, checked_value, member, undecodable,
};
use crate::partition::reply::{Refusal, Status};
use crate::partition::session::Seen;
use crate::partition::snapshot::{Broken, Restoring};
use crate::partition::sorted::Sorted;
use crate::wire::field::{self, Fields, put_bytes, put_message, put_uint};

/// The prepared transactions of a map, and what they lock.
#[derive(Clone, Default, Debug)]
pub(super) struct Transactions {
    /// By the index of their Prepare.
    prepared: BTreeMap<Index, Prepared>,
    ids: BTreeMap<Id, Index>,
    /// Which one holds a key.
    locks: Sorted<Arc<str>, Index>,
    /// Aborted before they came, by the index of the Abort.
    aborted: BTreeMap<Index, Id>,
    /// Of the operations that they hold.
    operations_bytes: usize,
    bytes: usize,
}

/// The session, and the number that Prepare names.
type Id = (SessionId, u64);

#[derive(Clone, Debug)]
struct Prepared {
    id: Id,
    /// The fields 2 of its `PrepareInput`, each one operation.
    operations: Arc<[u8]>,
}

/// Snapshot records: 1 index, 2 operations, 100 session, 101 number; 1 index, 100, 101.
const TRANSACTION: u8 = 33;
const ABORTED: u8 = 34;

const PREPARED_BYTES: usize = size_of::<Prepared>() + 160;
const LOCK_BYTES: usize = 48;
const ABORTED_BYTES: usize = 48;

/// What an output takes beside the value before.
const OUTPUT_BYTES: usize = 64;

impl Transactions {
    /// Whether a transaction holds the key.
    #[inline]
    pub(super) fn holds(&self, key: &str) -> bool {
        !self.locks.is_empty() && self.locks.contains_key(key)
    }

    /// How many keys are locked.
    pub(super) fn locked(&self) -> usize {
        self.locks.len()
    }

    /// Hands over what a copy holds (`Shape::bury`).
    pub(super) fn bury(self, rubble: &mut Rubble) {
        rubble.take(self.locks, 0);
    }

    /// Memory held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.aborted.len() * ABORTED_BYTES
    }

    /// Writes the next record; `Place::step` is 2 at first.
    pub(super) fn record(&self, place: &mut Place, into: &mut Vec<u8>) -> Option<u8> {
        if place.step == 2 {
            if let Some((index, prepared)) = self.prepared.range(Index(place.index + 1)..).next() {
                place.index = index.0;
                put_uint(into, 1, index.0);
                into.extend_from_slice(&prepared.operations);
                put_id(into, prepared.id);
                return Some(TRANSACTION);
            }
            *place = Place { step: 3, ..Place::default() };
        }
        let (index, id) = self.aborted.range(Index(place.index + 1)..).next()?;
        place.index = index.0;
        put_uint(into, 1, index.0);
        put_id(into, *id);
        Some(ABORTED)
    }

    /// Notes a prepared transaction and locks its keys.
    fn hold(&mut self, index: Index, id: Id, steps: &[Step<'_>], operations: &[u8]) {
        self.operations_bytes += operations.len();
        self.bytes += PREPARED_BYTES + operations.len();
        for step in steps {
            self.bytes += LOCK_BYTES + step.key.len();
            let old = self.locks.insert(step.key.into(), index);
            assert!(old.is_none(), "a key is locked twice");
        }
        self.ids.insert(id, index);
        self.prepared.insert(index, Prepared { id, operations: operations.into() });
    }

    /// Forgets a transaction; its keys are free.
    fn let_go(&mut self, id: Id) -> Option<Arc<[u8]>> {
        let prepared = self.prepared.remove(&self.ids.remove(&id)?)?;
        let operations = prepared.operations;
        self.operations_bytes -= operations.len();
        self.bytes -= PREPARED_BYTES + operations.len();
        for step in held(&operations) {
            self.bytes -= LOCK_BYTES + step.key.len();
            self.locks.remove(step.key);
        }
        Some(operations)
    }

    /// Whether it was aborted before it came; that is said once.
    fn was_aborted(&mut self, id: Id) -> bool {
        let index = self.aborted.iter().find(|(_, aborted)| **aborted == id).map(|(at, _)| *at);
        index.is_some_and(|index| self.aborted.remove(&index).is_some())
    }

    /// Notes that a Prepare that may still come is not wanted.
    fn abort_ahead(&mut self, cx: &Context<'_>, index: Index, id: Id) {
        if self.aborted.len() >= TRANSACTIONS_ABORTED_MAX {
            self.aborted.retain(|_, id| may_come(cx, *id));
            if self.aborted.len() >= TRANSACTIONS_ABORTED_MAX {
                self.aborted.pop_first();
            }
        }
        self.aborted.insert(index, id);
    }
}

impl Map {
    /// One of the four commands.
    pub(super) fn transact(
        &mut self,
        cx: &mut Context<'_>,
        call: CallId,
        tag: u32,
        input: &[u8],
    ) -> Answer {
        let request = match Request::parse(tag, input) {
            Ok(request) => request,
            Err(fault) => return fault.answer(cx),
        };
        let id = (call.session, request.number);
        match tag {
            PREPARE => self.prepare(cx, call.index, id, &request.steps, &operations_of(input)),
            COMMIT => self.commit(cx, call.index, id),
            ABORT => self.abort(cx, call, id),
            APPLY => match self.examine(&request.steps) {
                Ok(()) => self.perform_all(cx, call.index, &request.steps),
                Err((step, objection)) => objection.answer(cx, step),
            },
            _ => cx.fail(Status::NotSupported, format_args!("proposal not supported")),
        }
    }

    /// The session left: what it prepared is aborted, in the order in which it came.
    pub(super) fn abort_all(&mut self, cx: &mut Context<'_>, session: SessionId) {
        let ids = self.transactions.ids.range((session, 0)..=(session, u64::MAX));
        let mut ids: Vec<(Index, Id)> = ids.map(|(id, index)| (*index, *id)).collect();
        ids.sort_unstable();
        for (_, id) in ids {
            self.release(cx, id);
        }
        self.transactions.aborted.retain(|_, (of, _)| *of != session);
    }

    /// Puts back a record of transactions. All entries are there already.
    pub(super) fn restore_transaction(
        &mut self,
        cx: &mut Restoring<'_>,
        kind: u8,
        record: &[u8],
    ) -> Result<(), Broken> {
        let stored = Stored::parse(record)?;
        let (index, id) = (cx.past(stored.index)?, stored.id);
        cx.member(id.0)?;
        match kind {
            TRANSACTION => {
                let request = Request::parse(PREPARE, &stored.operations);
                let request = request.map_err(|_| Broken::Malformed("no transaction is such"))?;
                let steps = request.steps;
                let known = self.transactions.prepared.contains_key(&index)
                    || self.transactions.ids.contains_key(&id);
                if known || self.examine(&steps).is_err() {
                    return Err(Broken::Malformed("a transaction contradicts its map"));
                }
                for step in &steps {
                    if let Some(entry) = self.entries.get(step.key)
                        && let Some(due) = entry.expire
                    {
                        cx.disarm(due, entry.index, entry.token());
                    }
                }
                self.transactions.hold(index, id, &steps, &stored.operations);
            }
            ABORTED => {
                self.transactions.aborted.insert(index, id);
            }
            _ => return Err(Broken::Malformed("a map has no such record")),
        }
        Ok(())
    }

    fn prepare(
        &mut self,
        cx: &mut Context<'_>,
        index: Index,
        id: Id,
        steps: &[Step<'_>],
        operations: &[u8],
    ) -> Answer {
        let number = id.1;
        if self.transactions.was_aborted(id) {
            return cx.fail(Status::Conflict, format_args!("transaction {number} is aborted"));
        }
        if self.transactions.ids.contains_key(&id) {
            let text = format_args!("transaction {number} is prepared already");
            return cx.fail(Status::Conflict, text);
        }
        if let Err((step, objection)) = self.examine(steps) {
            return objection.answer(cx, step);
        }
        let (all, bounds) = (&mut self.transactions, &cx.ledger.bounds);
        let of_session = all.ids.range((id.0, 0)..=(id.0, u64::MAX)).count();
        if all.prepared.len() >= bounds.transactions_max
            || of_session >= bounds.session_transactions_max
            || all.operations_bytes + operations.len() > bounds.transactions_bytes_max
        {
            return Answer::Refused(Refusal::Full("too many transactions are prepared"));
        }
        all.hold(index, id, steps, operations);
        for step in steps {
            if let Some(entry) = self.entries.get(step.key)
                && let Some(due) = entry.expire
            {
                cx.disarm(due, entry.index, entry.token());
            }
        }
        Answer::Done(Status::Ok)
    }

    fn commit(&mut self, cx: &mut Context<'_>, index: Index, id: Id) -> Answer {
        let Some(operations) = self.release(cx, id) else {
            return cx.fail(Status::NotFound, format_args!("transaction {} not found", id.1));
        };
        self.perform_all(cx, index, &held(&operations))
    }

    fn abort(&mut self, cx: &mut Context<'_>, call: CallId, id: Id) -> Answer {
        let known = self.release(cx, id).is_some();
        if !known && id.1 < call.sequence.0 && may_come(cx, id) {
            self.transactions.abort_ahead(cx, call.index, id);
        }
        Answer::Done(Status::Ok)
    }

    /// Takes a transaction out: its keys are free, lifetimes go on.
    fn release(&mut self, cx: &mut Context<'_>, id: Id) -> Option<Arc<[u8]>> {
        let operations = self.transactions.let_go(id)?;
        for step in held(&operations) {
            if let Some(entry) = self.entries.get(step.key)
                && let Some(due) = entry.expire
            {
                cx.arm(due, entry.index, entry.token());
            }
        }
        Some(operations)
    }

    /// Whether nothing stands against doing all of them; otherwise against which.
    fn examine<'s, 'a>(&self, steps: &'s [Step<'a>]) -> Result<(), (&'s Step<'a>, Objection)> {
        let mut keys = BTreeSet::new();
        let mut output_bytes = 0;
        for step in steps {
            if !keys.insert(step.key) {
                return Err((step, Objection::Twice));
            }
            self.check(step).map_err(|objection| (step, objection))?;
            let before = self.entries.get(step.key).map_or(0, |entry| entry.value.len());
            output_bytes += OUTPUT_BYTES + before;
            if output_bytes > TRANSACTION_OUTPUT_BYTES_MAX {
                return Err((step, Objection::Large));
            }
        }
        Ok(())
    }

    /// Does all of them, with one version, and writes their outputs in their order.
    fn perform_all(&mut self, cx: &mut Context<'_>, index: Index, steps: &[Step<'_>]) -> Answer {
        for (step, place) in steps.iter().zip(0..) {
            let done = self.perform(cx, (index, place), step);
            put_message(cx.out, 1, |out| {
                put_message(out, step.tag, |out| done.put(out, step.tag));
            });
        }
        Answer::Done(Status::Ok)
    }
}

/// One of the four inputs: a number, operations.
struct Request<'a> {
    number: u64,
    steps: Vec<Step<'a>>,
}

/// Why a request is not understood.
#[derive(Debug)]
enum Fault {
    Undecodable,
    Refused(Refusal),
    /// An operation that a transaction cannot hold.
    Foreign,
    TooMany,
}

impl<'a> Request<'a> {
    /// `ApplyInput` has its operations in field 1, the others have there the number.
    fn parse(tag: u32, input: &'a [u8]) -> Result<Request<'a>, Fault> {
        let mut request = Request { number: 0, steps: Vec::new() };
        let mut fields = Fields::new(input);
        while let Some((number, value)) = fields.field()? {
            match (tag, number) {
                (PREPARE | COMMIT | ABORT, 1) => request.number = value.uint()?,
                (PREPARE, 2) | (APPLY, 1) if request.steps.len() == TRANSACTION_OPERATIONS_MAX => {
                    return Err(Fault::TooMany);
                }
                (PREPARE, 2) | (APPLY, 1) => request.steps.push(Step::parse(value.bytes()?)?),
                _ => {}
            }
        }
        Ok(request)
    }
}

impl<'a> Step<'a> {
    /// Reads a `MapInput`.
    fn parse(operation: &'a [u8]) -> Result<Step<'a>, Fault> {
        let Some((tag @ (PUT | INSERT | UPDATE | REMOVE), input)) = member(operation)? else {
            return Err(Fault::Foreign);
        };
        let input = Input::parse(tag, input)?;
        let key = input.key().map_err(Fault::Refused)?;
        checked_value(input.value).map_err(Fault::Refused)?;
        Ok(Step { tag, key, input })
    }
}

impl Fault {
    fn answer(self, cx: &mut Context<'_>) -> Answer {
        let text = match self {
            Fault::Undecodable => return undecodable(cx),
            Fault::Refused(refusal) => return Answer::Refused(refusal),
            Fault::Foreign => "a transaction holds puts, inserts, updates and removes only",
            Fault::TooMany => "a transaction has too many operations",
        };
        cx.fail(Status::Invalid, format_args!("{text}"))
    }
}

impl From<field::Broken> for Fault {
    fn from(_: field::Broken) -> Fault {
        Fault::Undecodable
    }
}

/// A record of a transaction.
struct Stored {
    index: Index,
    id: Id,
    operations: Vec<u8>,
}

impl Stored {
    fn parse(record: &[u8]) -> Result<Stored, field::Broken> {
        let (mut index, mut id) = (Index(0), (SessionId(0), 0));
        let mut fields = Fields::new(record);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => index = Index(value.uint()?),
                100 => id.0 = SessionId(value.uint()?),
                101 => id.1 = value.uint()?,
                _ => {}
            }
        }
        Ok(Stored { index, id, operations: operations_of(record) })
    }
}

/// The fields 2 of a `PrepareInput` or of a record that can be read.
fn operations_of(message: &[u8]) -> Vec<u8> {
    let mut operations = Vec::new();
    let mut fields = Fields::new(message);
    while let Ok(Some((number, value))) = fields.field() {
        if number == 2
            && let Ok(operation) = value.bytes()
        {
            put_bytes(&mut operations, 2, operation);
        }
    }
    operations
}

/// The operations of a prepared transaction; they were read before they were kept.
fn held(operations: &[u8]) -> Vec<Step<'_>> {
    Request::parse(PREPARE, operations).expect("what is kept can be read").steps
}

/// Whether the Prepare of this number may still be executed.
fn may_come(cx: &Context<'_>, (session, number): Id) -> bool {
    let session = cx.ledger.sessions.get(&session);
    session.is_some_and(|session| matches!(session.seen(Sequence(number)), Seen::Fresh))
}

fn put_id(into: &mut Vec<u8>, (session, number): Id) {
    put_uint(into, 100, session.0);
    put_uint(into, 101, number);
}

#[cfg(test)]
mod tests;
