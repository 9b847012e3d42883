//! What the fields of an input are, so that the edge can refuse bytes that no state machine could
//! decode.
//!
//! A shape is checked, never decoded: wire types, nested messages, UTF-8 where protobuf says string
//! (wire.md, decision 9), and durations within what protobuf allows. Bytes that pass decode later
//! on every replica alike. Fields that a shape does not name are skipped, as readers of protobuf
//! do. A test holds the shapes against the generated messages.

use crate::limits::DURATION_SECONDS_MAX;
use crate::wire::field::{Fields, Value};

/// The fields of one message that are known.
pub type Shape = &'static [(u32, Part)];

/// What one field is.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// An integer, bool or enum.
    Number,
    /// A string: UTF-8.
    Text,
    /// Any bytes.
    Bytes,
    /// A `google.protobuf.Duration`, of either sign, within its range.
    Duration,
    /// A message within; at most four levels, by construction of the tables.
    Message(Shape),
}

/// What is wrong with an input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is no such message.
    Malformed,
    /// A string in it is not UTF-8.
    Text,
    /// A duration in it is longer than 10 000 years, or its nanoseconds are a second or more, or of
    /// the other sign.
    Range,
}

/// Whether `bytes` are a message of this shape.
#[inline]
pub fn check(bytes: &[u8], shape: Shape) -> Result<(), Fault> {
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.field().map_err(|_| Fault::Malformed)? {
        let Some((_, part)) = shape.iter().find(|(known, _)| *known == number) else { continue };
        match (part, value) {
            (Part::Number, Value::Varint(_)) | (Part::Bytes, Value::Bytes(_)) => {}
            (Part::Text, Value::Bytes(text)) => {
                std::str::from_utf8(text).map_err(|_| Fault::Text)?;
            }
            (Part::Message(inner), Value::Bytes(message)) => check(message, inner)?,
            (Part::Duration, Value::Bytes(duration)) => check_duration(duration)?,
            (Part::Number | Part::Text | Part::Bytes | Part::Duration | Part::Message(_), _) => {
                return Err(Fault::Malformed);
            }
        }
    }
    Ok(())
}

fn check_duration(message: &[u8]) -> Result<(), Fault> {
    check(message, NUMBERS)?;
    let (mut seconds, mut nanos) = (0i64, 0i32);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.field().map_err(|_| Fault::Malformed)? {
        match (number, value) {
            (1, Value::Varint(number)) => seconds = number as i64,
            (2, Value::Varint(number)) => nanos = number as i32,
            _ => {}
        }
    }
    let long = seconds.unsigned_abs() > DURATION_SECONDS_MAX;
    let split = nanos.unsigned_abs() >= 1_000_000_000
        || (seconds > 0 && nanos < 0)
        || (seconds < 0 && nanos > 0);
    if long || split { Err(Fault::Range) } else { Ok(()) }
}

use Part::{Bytes, Message, Number, Text};

/// No fields.
pub const EMPTY: Shape = &[];
/// One number in field 1.
pub const NUMBER: Shape = &[(1, Number)];
/// Numbers in fields 1 and 2.
pub const NUMBERS: Shape = &[(1, Number), (2, Number)];
/// A `google.protobuf.Duration`.
pub const TIME: Part = Part::Duration;
/// A key, element name or candidate in field 1.
pub const KEY: Shape = &[(1, Text)];
/// A candidate in field 2 (Promote, Demote).
pub const CANDIDATE_AT_2: Shape = &[(2, Text)];
/// A key and a number.
pub const KEY_NUMBER: Shape = &[(1, Text), (2, Number)];
/// A key and two numbers.
pub const KEY_NUMBERS: Shape = &[(1, Text), (2, Number), (3, Number)];
/// A key in field 2 and a number in field 3 (`CounterMap.Remove`).
pub const KEY_AT_2_NUMBER: Shape = &[(2, Text), (3, Number)];
/// Keys and how long to wait (`Lock` of the maps).
pub const KEYS_TIME: Shape = &[(1, Text), (2, TIME)];
/// A key and a value with a time to live and, where there is one, the version before.
pub const KEY_VALUE: Shape = &[(1, Text), (2, Bytes), (3, TIME), (4, Number)];
/// A key and a value with a time to live (`Insert`, `Append`).
pub const KEY_VALUE_NEW: Shape = &[(1, Text), (2, Bytes), (3, TIME)];
/// `IndexedMap.Update`.
pub const INDEXED_UPDATE: Shape = &[(1, Text), (2, Number), (3, Bytes), (4, TIME), (5, Number)];
/// Two strings, the second also repeated (`MultiMap`).
pub const TEXTS: Shape = &[(1, Text), (2, Text)];
/// Repeated entries of a multimap.
pub const ENTRIES: Shape = &[(1, Message(&[(1, Text), (3, Text)]))];
/// An element of a set and its time to live.
pub const ELEMENT_TIME: Shape = &[(1, Message(KEY)), (2, TIME)];
/// An element of a set.
pub const ELEMENT: Shape = &[(1, Message(KEY))];
/// A wait or a timeout in field 1.
pub const WAIT: Shape = &[(1, TIME)];
/// A value with its time to live.
pub const VALUE: Shape = &[(1, Bytes), (2, TIME)];
/// A value, the version before and its time to live.
pub const VALUE_UPDATE: Shape = &[(1, Bytes), (2, Number), (3, TIME)];
/// `CreatePrimitiveInput`; field 4 of its spec is the profile of the released dialect.
pub const CREATE: Shape = &[(1, Message(&[(1, Text), (2, Text), (3, Text), (4, Text)]))];
/// `CreatePrimitiveInput` of the rsm dialect: a type and a name, each of two texts.
pub const CREATE_TYPED: Shape = &[(1, Message(&[(1, Message(TEXTS)), (2, Message(TEXTS))]))];
/// A `MapInput` in a transaction, as far as one takes any: put, insert, update, remove.
const CHANGE: Part = Message(&[
    (2, Message(KEY_VALUE)),
    (3, Message(KEY_VALUE_NEW)),
    (4, Message(KEY_VALUE)),
    (6, Message(KEY_NUMBER)),
]);
/// Changes of a map (`Apply`).
pub const CHANGES: Shape = &[(1, CHANGE)];
/// A transaction's number and its changes (`Prepare`).
pub const NUMBERED_CHANGES: Shape = &[(1, Number), (2, CHANGE)];
/// `KeepAliveInput`.
pub const KEEP_ALIVE: Shape = &[(1, Number), (2, Bytes), (3, Number), (4, Message(NUMBERS))];
