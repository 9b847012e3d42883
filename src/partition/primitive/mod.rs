//! What all kinds of primitives have in common: one shape, one table, one context.
//!
//! A primitive is state and five verbs: apply a command, answer a query, hear that a timer fired,
//! that a pending command of its was cancelled, that a session left. It reaches beyond itself
//! through `Context` only: timers, outputs for other pending commands, watchers. The order of
//! effects inside a command is state, timers, events to listeners, watchers, and last the command's
//! own output, which the machine delivers (primitives.md 1.7). Adding a kind is one file and one
//! line in the table below.
//!
//! # Decisions
//!
//! Keys, elements and names are any UTF-8 up to their bound: empty ones and such with control
//! characters name things like any other, as they do in the reference. Only a candidate is not
//! without name, for a term without leader says so by an empty one. What is past a bound of
//! `limits.rs` is INVALID_ARGUMENT and not executed; a number that leaves 64 bits is INVALID in the
//! header; a TTL of zero or less is over at the next entry with a later time, and a wait of zero or
//! less is none.
//!
//! Absent on purpose: sessions' bookkeeping and repeated commands; a primitive sees each command
//! once.

pub mod counter;
pub mod counter_map;
pub mod election;
pub mod indexed_map;
pub mod listeners;
pub mod lock;
pub mod map;
pub mod multimap;
pub mod set;
pub mod value;

use std::fmt::{self, Write as _};

use bytes::Bytes;

use crate::id::{Index, Kind, PrimitiveId, Sequence, SessionId};
use crate::limits::{Bounds, KEY_BYTES_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX};
use crate::partition::kept::Rubble;
use crate::partition::ledger::{Flow, Ledger};
use crate::partition::reply::{Refusal, Replies, Status};
use crate::partition::schedule::Timer;
use crate::partition::snapshot::{Broken, Restoring};
use crate::time::LogTime;
use crate::wire::field::{self, Fields, put_uint};

/// The table of kinds: what a `CreatePrimitive` may name, and what serves it.
macro_rules! kinds {
    ($($kind:ident => $state:ty,)*) => {
        /// The state of one primitive.
        #[derive(Clone, Debug)]
        #[allow(missing_docs)]
        pub enum Primitive {
            $($kind($state),)*
        }

        impl Primitive {
            /// A new one.
            #[must_use]
            pub fn new(kind: Kind) -> Primitive {
                match kind {
                    $(Kind::$kind => Primitive::$kind(<$state>::default()),)*
                }
            }

            /// Its kind.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self {
                    $(Primitive::$kind(_) => Kind::$kind,)*
                }
            }
        }

        /// What the member `tag` of a kind's input is; `None` when there is none.
        fn mode(kind: Kind, tag: u32) -> Option<Mode> {
            match kind {
                $(Kind::$kind => <$state as Shape>::mode(tag),)*
            }
        }

        macro_rules! with {
            ($self:expr, $it:ident => $call:expr) => {
                match $self {
                    $(Primitive::$kind($it) => $call,)*
                }
            };
        }
    };
}

kinds! {
    Counter => counter::Counter,
    CounterMap => counter_map::CounterMap,
    LeaderElection => election::Election,
    IndexedMap => indexed_map::IndexedMap,
    Lock => lock::Lock,
    Map => map::Map,
    MultiMap => multimap::MultiMap,
    Set => set::Set,
    Value => value::Value,
}

/// What every kind of primitive does. The inputs are client bytes: an undecodable one is INVALID.
pub trait Shape: Default + Clone + fmt::Debug {
    /// What the member `tag` of its input is.
    fn mode(tag: u32) -> Option<Mode>;

    /// Executes a command: `tag` is one whose mode is `Command` or `Stream`. The output's bytes go
    /// to `Context::out`.
    fn apply(&mut self, cx: &mut Context<'_>, call: CallId, tag: u32, input: &[u8]) -> Answer;

    /// Answers a query: `tag` is one whose mode is `Query` or `Watch`.
    fn query(&self, ask: &mut Ask<'_>, tag: u32, input: &[u8]) -> Asked;

    /// A timer that it armed fired.
    fn timer(&mut self, _cx: &mut Context<'_>, _token: u64) {}

    /// A pending command of its was ended from outside; it has been answered.
    fn cancelled(&mut self, _cx: &mut Context<'_>, _call: CallId) {}

    /// The session closed it, or ended. Its pending commands have been cancelled before.
    fn left(&mut self, _cx: &mut Context<'_>, _session: SessionId) {}

    /// Writes the first item of a listing behind `after` to `out` and returns its key.
    fn list(&self, _after: Option<&str>, _out: &mut Vec<u8>) -> Option<Box<str>> {
        None
    }

    /// Writes the payload of its next snapshot record and returns the record's kind, 16 and up;
    /// `None` when there are no more.
    fn record(&self, place: &mut Place, into: &mut Vec<u8>) -> Option<u8>;

    /// Puts back one of its snapshot records.
    fn restore(&mut self, cx: &mut Restoring<'_>, kind: u8, record: &[u8]) -> Result<(), Broken>;

    /// Hands what is large to the rubble, so that a copy that nobody needs any more is freed a few
    /// parts at a time. Its memory is not counted there: what it shares is counted where it lives.
    fn bury(self, _rubble: &mut Rubble) {}

    /// Memory held beyond its own size, counted as it changes.
    fn bytes(&self) -> usize {
        0
    }
}

impl Primitive {
    /// See [`Shape::apply`].
    #[inline]
    pub fn apply(&mut self, cx: &mut Context<'_>, call: CallId, tag: u32, input: &[u8]) -> Answer {
        with!(self, it => it.apply(cx, call, tag, input))
    }

    /// See [`Shape::query`].
    pub fn query(&self, ask: &mut Ask<'_>, tag: u32, input: &[u8]) -> Asked {
        with!(self, it => it.query(ask, tag, input))
    }

    /// See [`Shape::timer`].
    pub fn timer(&mut self, cx: &mut Context<'_>, token: u64) {
        with!(self, it => it.timer(cx, token));
    }

    /// See [`Shape::cancelled`].
    pub fn cancelled(&mut self, cx: &mut Context<'_>, call: CallId) {
        with!(self, it => it.cancelled(cx, call));
    }

    /// See [`Shape::left`].
    pub fn left(&mut self, cx: &mut Context<'_>, session: SessionId) {
        with!(self, it => it.left(cx, session));
    }

    /// See [`Shape::list`].
    pub fn list(&self, after: Option<&str>, out: &mut Vec<u8>) -> Option<Box<str>> {
        with!(self, it => it.list(after, out))
    }

    /// See [`Shape::record`].
    pub fn record(&self, place: &mut Place, into: &mut Vec<u8>) -> Option<u8> {
        with!(self, it => it.record(place, into))
    }

    /// See [`Shape::restore`].
    pub fn restore(
        &mut self,
        cx: &mut Restoring<'_>,
        kind: u8,
        record: &[u8],
    ) -> Result<(), Broken> {
        with!(self, it => it.restore(cx, kind, record))
    }

    /// See [`Shape::bury`].
    pub fn bury(self, rubble: &mut Rubble) {
        with!(self, it => it.bury(rubble));
    }

    /// See [`Shape::bytes`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        with!(self, it => it.bytes())
    }
}

/// What a member of a primitive's input is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// A command with one output.
    Command,
    /// A command that registers for events.
    Stream,
    /// A read with one output.
    Query,
    /// A read that lists or watches.
    Watch,
}

/// Which operation a command is, compactly: a repeat of a number must be of the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Operation(u16);

impl Operation {
    /// `CreatePrimitive`
    pub const CREATE: Operation = Operation(4);
    /// `ClosePrimitive`
    pub const CLOSE: Operation = Operation(5);

    /// The member `tag` of the input of a primitive of kind number `kind`. What has no place in the
    /// log becomes the member 0, which no kind has.
    #[must_use]
    pub fn of(kind: u64, tag: u32) -> Operation {
        let kind = Kind::from_number(kind).map_or(0xff, |kind| kind as u16);
        let tag = u16::try_from(tag).ok().filter(|tag| *tag < 0x100).unwrap_or(0);
        Operation(kind << 8 | tag)
    }

    /// The kind and the member, unless it is about a primitive's life.
    #[must_use]
    pub fn parts(self) -> Option<(Option<Kind>, u32)> {
        let kind = u64::from(self.0 >> 8);
        (kind != 0).then(|| (Kind::from_number(kind), u32::from(self.0 & 0xff)))
    }

    /// What it is, if it is served.
    #[must_use]
    pub fn mode(self) -> Option<Mode> {
        let (kind, tag) = self.parts()?;
        mode(kind?, tag)
    }

    /// Whether its outputs are a stream.
    #[must_use]
    pub fn is_stream(self) -> bool {
        self.mode() == Some(Mode::Stream)
    }
}

/// A pending command, by name and by the index at which it was first executed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallId {
    /// The count of applied commands at its execution: its id (core.md 7.4).
    pub index: Index,
    /// Whose it is.
    pub session: SessionId,
    /// Its number there.
    pub sequence: Sequence,
}

/// What came of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It has its output: the bytes in `Context::out`, or there the text of a failure.
    Done(Status),
    /// It waits; the primitive will complete it.
    Waits,
    /// It gets events from now on.
    Streams,
    /// It was not executed and is not remembered.
    Refused(Refusal),
}

/// What came of a query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// It has its output.
    Done(Status),
    /// It lists all entries and then ends.
    Listing,
    /// It lists all entries and then tells every change.
    Watching,
    /// It tells every change. What is in `Ask::out`, if anything, goes first.
    Following,
    /// It is refused.
    Refused(Refusal),
}

/// What a primitive may reach while it changes.
pub struct Context<'a> {
    /// Time, index, sessions, timers, watchers.
    pub ledger: &'a mut Ledger,
    /// Where outputs for callers go.
    pub replies: &'a mut Replies,
    /// Which primitive it is.
    pub primitive: PrimitiveId,
    /// The command's own output, empty at first.
    pub out: &'a mut Vec<u8>,
}

/// What a primitive may reach while it answers a query.
pub struct Ask<'a> {
    /// The output, empty at first.
    pub out: &'a mut Vec<u8>,
    /// What the partition may hold.
    pub bounds: &'a Bounds,
    /// How many watches and listings are attached here.
    pub watches: usize,
}

/// How far the snapshot records of a primitive have been written; each kind uses it in its own way.
#[derive(Clone, Default, Debug)]
pub struct Place {
    /// Which group of records.
    pub step: u8,
    /// The last index or number written.
    pub index: u64,
    /// The last key written.
    pub key: Option<Box<str>>,
    /// The last part of that key written, when a record did not hold all of them.
    pub part: Option<Box<str>>,
}

impl Context<'_> {
    /// The index that outputs carry.
    #[must_use]
    pub fn index(&self) -> Index {
        self.ledger.index
    }

    /// Log time; the due time while a timer runs.
    #[must_use]
    pub fn time(&self) -> LogTime {
        self.ledger.time
    }

    /// A failed output with this text.
    pub fn fail(&mut self, status: Status, text: fmt::Arguments<'_>) -> Answer {
        write_text(self.out, text);
        Answer::Done(status)
    }

    /// Arms a timer of this primitive.
    pub fn arm(&mut self, due: LogTime, created: Index, token: u64) {
        self.ledger.schedule.arm(due, created, Timer::Primitive(self.primitive, token));
    }

    /// Cancels a timer of this primitive.
    pub fn disarm(&mut self, due: LogTime, created: Index, token: u64) {
        self.ledger.schedule.disarm(due, created, Timer::Primitive(self.primitive, token));
    }

    /// Whether the session of `call` may have one more pending command, and the primitive, which
    /// holds `held` of at most `max`, too. Otherwise the refusal.
    pub fn room(&self, call: CallId, held: usize, max: usize) -> Result<(), Answer> {
        if held >= max {
            return Err(Answer::Refused(Refusal::Full("the primitive has too many pending calls")));
        }
        if !self.ledger.may_wait(call.session) {
            return Err(Answer::Refused(Refusal::Full("the session has too many pending calls")));
        }
        Ok(())
    }

    /// Cancels all timers of this primitive.
    pub fn disarm_all(&mut self) {
        let timers = self.ledger.schedule.disarm_all(self.primitive);
        self.ledger.rubble.take(timers, 0);
    }

    /// Sends an event to a listener. `Ended`: the listener could not keep up and is none any more.
    pub fn emit(&mut self, to: CallId, event: &Bytes) -> Flow {
        self.ledger.emit(to, event, self.replies)
    }

    /// Ends the stream of a listener that would be sent too much.
    pub fn overflow(&mut self, to: CallId) {
        self.ledger.overflow(to, self.replies);
    }

    /// Gives a waiting command its one output.
    pub fn complete(&mut self, call: CallId, status: Status, output: &[u8]) {
        self.ledger.complete(call, status, output, self.replies);
    }

    /// Tells every watcher of this primitive of a change, of `key` if it is about one.
    pub fn tell(&mut self, key: Option<&str>, output: &[u8]) {
        let index = self.ledger.index;
        self.ledger.watches.tell(self.primitive, key, index, output, self.replies);
    }

    /// Prepares watchers for so many changes at once (`Watches::brace`).
    pub fn brace(&mut self, count: usize) -> bool {
        self.ledger.watches.brace(self.primitive, count, self.replies)
    }

    /// Whether anybody watches this primitive.
    #[must_use]
    pub fn watched(&self) -> bool {
        self.ledger.watches.any(self.primitive)
    }
}

impl Ask<'_> {
    /// A failed output with this text.
    pub fn fail(&mut self, status: Status, text: fmt::Arguments<'_>) -> Asked {
        write_text(self.out, text);
        Asked::Done(status)
    }

    /// The answer of every `Size`: how many in field 1, as far as 32 bits count.
    pub fn size(&mut self, count: usize) -> Asked {
        put_uint(self.out, 1, u64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        Asked::Done(Status::Ok)
    }

    /// The answer to a payload that cannot be understood.
    pub fn undecodable(&mut self) -> Asked {
        self.fail(Status::Invalid, format_args!("the input cannot be decoded"))
    }
}

/// The kind that a `PrimitiveSpec.service` names: the runtime's name or ours, as in wire.md.
#[must_use]
pub fn kind_of_service(service: &str) -> Option<Kind> {
    let name = ["atomix.runtime.", "atomix.multiraft."]
        .into_iter()
        .find_map(|package| service.strip_prefix(package))?;
    let (package, name) = name.split_once(".v1.")?;
    Kind::ALL.into_iter().find(|kind| kind.name() == name && package_of(*kind) == package)
}

/// The kind of which `service` names a version that there is not: `Counter/v2`, as the edge writes
/// it. Clients are told so when a primitive of that kind has the name (primitives.md 7.3).
#[must_use]
pub fn other_version(service: &str) -> Option<Kind> {
    let (name, _) = service.split_once('/')?;
    Kind::ALL.into_iter().find(|kind| kind.name() == name)
}

/// Whether a kind's events are about a key, which `EventsInput` and `Event` have in field 1.
#[must_use]
pub fn has_keyed_events(kind: Kind) -> bool {
    matches!(kind, Kind::CounterMap | Kind::IndexedMap | Kind::Map | Kind::MultiMap)
}

/// The name by which snapshots name a kind.
#[must_use]
pub fn service_of(kind: Kind) -> String {
    format!("atomix.runtime.{}.v1.{}", package_of(kind), kind.name())
}

fn package_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::CounterMap => "countermap",
        Kind::LeaderElection => "election",
        Kind::IndexedMap => "indexedmap",
        Kind::Lock => "lock",
        Kind::Map => "map",
        Kind::MultiMap => "multimap",
        Kind::Set => "set",
        Kind::Value => "value",
    }
}

/// The member of a primitive's input or output: its tag and its bytes. `None` when there is none.
#[inline]
pub fn member(payload: &[u8]) -> Result<Option<(u32, &[u8])>, field::Broken> {
    let mut fields = Fields::new(payload);
    let mut member = None;
    while let Some((tag, value)) = fields.field()? {
        member = Some((tag, value.bytes()?));
    }
    Ok(member)
}

/// The answer to a payload that cannot be understood.
pub fn undecodable(cx: &mut Context<'_>) -> Answer {
    cx.fail(Status::Invalid, format_args!("the input cannot be decoded"))
}

/// The answer to a key or name that is not UTF-8 (wire.md, decision 9).
#[must_use]
pub fn not_utf8() -> Refusal {
    Refusal::Malformed("a key or name is not UTF-8".to_owned())
}

/// A key, an element or a name as the text that it has to be, within its bound.
pub fn checked_key(bytes: &[u8]) -> Result<&str, Refusal> {
    checked_text(bytes, KEY_BYTES_MAX, "the key")
}

/// A candidate's name as the text that it has to be, within its bound.
pub fn checked_name(bytes: &[u8]) -> Result<&str, Refusal> {
    checked_text(bytes, NAME_BYTES_MAX, "the name")
}

/// A value to be stored, within its bound.
pub fn checked_value(bytes: &[u8]) -> Result<&[u8], Refusal> {
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(too_long("the value", VALUE_BYTES_MAX));
    }
    Ok(bytes)
}

fn checked_text<'a>(bytes: &'a [u8], most: usize, what: &str) -> Result<&'a str, Refusal> {
    if bytes.len() > most {
        return Err(too_long(what, most));
    }
    field::text(bytes).map_err(|_| not_utf8())
}

fn too_long(what: &str, most: usize) -> Refusal {
    Refusal::Malformed(format!("{what} is longer than {most} bytes"))
}

/// When what is written now with this TTL, in nanoseconds, is due. A negative one is over at once.
#[must_use]
pub fn expiry(now: LogTime, ttl: i128) -> LogTime {
    LogTime(now.0.saturating_add(u64::try_from(ttl.max(0)).unwrap_or(u64::MAX)))
}

fn write_text(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    struct Text<'a>(&'a mut Vec<u8>);
    impl fmt::Write for Text<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    out.clear();
    // Writing to a vector never fails; a Display that did would only cut the text.
    let _ = Text(out).write_fmt(text);
}

#[cfg(test)]
mod tests;
