//! Protobuf fields, read and written by hand.
//!
//! What stands in the log and in snapshots is documented protobuf, but the path of a command
//! decodes only a handful of ids and must not allocate. This reads fields in place and writes them
//! into the caller's buffer. Absent on purpose: schemas, groups, and any trust in the bytes; every
//! reader says `Broken` instead of failing.

use std::fmt;

use crate::time::{LogTime, Span};

/// The fields of one message, in the order of its bytes.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// The value of one field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// uint, int, bool, enum.
    Varint(u64),
    /// Eight bytes, little endian.
    Fixed64(u64),
    /// bytes, string, message, packed numbers.
    Bytes(&'a [u8]),
    /// Four bytes, little endian.
    Fixed32(u32),
}

/// The bytes are not a protobuf message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a protobuf message")
    }
}

impl<'a> Fields<'a> {
    /// Reads `message`.
    #[must_use]
    pub fn new(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    /// The next field's number and value; `None` at the end of the message.
    #[inline]
    pub fn field(&mut self) -> Result<Option<(u32, Value<'a>)>, Broken> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        // A key has 32 bits, as every reader of protobuf demands.
        let key = u32::try_from(take_varint(&mut self.rest)?).map_err(|_| Broken)?;
        let number = key >> 3;
        if number == 0 {
            return Err(Broken);
        }
        let value = match key & 7 {
            0 => Value::Varint(take_varint(&mut self.rest)?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take_array()?)),
            2 => Value::Bytes(take_delimited(&mut self.rest)?),
            5 => Value::Fixed32(u32::from_le_bytes(self.take_array()?)),
            _ => return Err(Broken),
        };
        Ok(Some((number, value)))
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Broken)?;
        self.rest = rest;
        Ok(*head)
    }
}

impl<'a> Value<'a> {
    /// The number of a varint field.
    pub fn uint(self) -> Result<u64, Broken> {
        match self {
            Value::Varint(number) => Ok(number),
            _ => Err(Broken),
        }
    }

    /// The contents of a length-delimited field.
    pub fn bytes(self) -> Result<&'a [u8], Broken> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(Broken),
        }
    }

    /// The eight bytes of a fixed64 field.
    pub fn fixed(self) -> Result<u64, Broken> {
        match self {
            Value::Fixed64(number) => Ok(number),
            _ => Err(Broken),
        }
    }
}

/// Takes one varint off the front of `rest`.
#[inline]
pub fn take_varint(rest: &mut &[u8]) -> Result<u64, Broken> {
    if let [first, tail @ ..] = *rest
        && *first < 0x80
    {
        *rest = tail;
        return Ok(u64::from(*first));
    }
    let mut number = 0u64;
    for (place, byte) in rest.iter().enumerate().take(10) {
        if place == 9 && *byte > 1 {
            return Err(Broken);
        }
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            *rest = &rest[place + 1..];
            return Ok(number);
        }
    }
    Err(Broken)
}

/// Takes a varint length and that many bytes off the front of `rest`.
#[inline]
pub fn take_delimited<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Broken> {
    let length = usize::try_from(take_varint(rest)?).map_err(|_| Broken)?;
    if length > rest.len() {
        return Err(Broken);
    }
    let (head, tail) = rest.split_at(length);
    *rest = tail;
    Ok(head)
}

/// How many bytes the varint of `number` takes.
#[must_use]
pub const fn varint_bytes(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// How many bytes a varint field takes; none when it is 0.
#[inline]
#[must_use]
pub const fn uint_bytes(number: u32, value: u64) -> usize {
    if value == 0 { 0 } else { varint_bytes((number as u64) << 3) + varint_bytes(value) }
}

/// How many bytes a length-delimited field takes whose contents are `length`.
#[inline]
#[must_use]
pub const fn delimited_bytes(number: u32, length: usize) -> usize {
    varint_bytes((number as u64) << 3) + varint_bytes(length as u64) + length
}

/// Appends the head of a length-delimited field; its `length` bytes are to follow.
#[inline]
pub fn put_head(into: &mut Vec<u8>, number: u32, length: usize) {
    put_varint(into, u64::from(number) << 3 | 2);
    put_varint(into, length as u64);
}

/// Appends the varint of `number`.
#[inline]
pub fn put_varint(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

/// Appends a varint field; nothing when it is 0, which is how proto3 says 0.
#[inline]
pub fn put_uint(into: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_varint(into, u64::from(number) << 3);
        put_varint(into, value);
    }
}

/// Appends a fixed64 field, also when it is 0.
pub fn put_fixed(into: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(into, u64::from(number) << 3 | 1);
    into.extend_from_slice(&value.to_le_bytes());
}

/// Appends a length-delimited field, also when it is empty.
#[inline]
pub fn put_bytes(into: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_varint(into, u64::from(number) << 3 | 2);
    put_varint(into, value.len() as u64);
    into.extend_from_slice(value);
}

/// Appends a string or bytes field; nothing when it is empty, which is how proto3 says empty.
#[inline]
pub fn put_text(into: &mut Vec<u8>, number: u32, value: &[u8]) {
    if !value.is_empty() {
        put_bytes(into, number, value);
    }
}

/// Appends a message field, also when `write` appends nothing. Short messages, which are most, are
/// written in place; the body of a longer one moves up once to make room for its length.
#[inline]
pub fn put_message(into: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_varint(into, u64::from(number) << 3 | 2);
    let place = into.len();
    into.push(0);
    write(into);
    let length = into.len() - place - 1;
    let extra = varint_bytes(length as u64) - 1;
    if extra == 0 {
        into[place] = length as u8;
        return;
    }
    let end = into.len();
    into.resize(end + extra, 0);
    into.copy_within(place + 1..end, place + 1 + extra);
    let mut rest = length;
    for byte in &mut into[place..place + extra] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    into[place + extra] = rest as u8;
}

/// Appends a `google.protobuf.Timestamp` as field `number`.
pub fn put_timestamp(into: &mut Vec<u8>, number: u32, at: LogTime) {
    put_message(into, number, |into| put_seconds_and_nanos(into, at.0));
}

/// Appends a `google.protobuf.Duration` as field `number`.
pub fn put_duration(into: &mut Vec<u8>, number: u32, span: Span) {
    put_message(into, number, |into| put_seconds_and_nanos(into, span.0));
}

/// The nanoseconds that a `Timestamp` or a `Duration` message says, of either sign.
pub fn nanos(message: &[u8]) -> Result<i128, Broken> {
    let (mut seconds, mut nanos) = (0i64, 0i32);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.field()? {
        match number {
            1 => seconds = value.uint()? as i64,
            2 => nanos = value.uint()? as i32,
            _ => {}
        }
    }
    Ok(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
}

/// The time that a `Timestamp` message says, pressed into the range of log time.
pub fn timestamp(message: &[u8]) -> Result<LogTime, Broken> {
    Ok(LogTime(u64::try_from(nanos(message)?.max(0)).unwrap_or(u64::MAX)))
}

/// The text of a `string` field.
pub fn text(bytes: &[u8]) -> Result<&str, Broken> {
    std::str::from_utf8(bytes).map_err(|_| Broken)
}

fn put_seconds_and_nanos(into: &mut Vec<u8>, nanos: u64) {
    put_uint(into, 1, nanos / 1_000_000_000);
    put_uint(into, 2, nanos % 1_000_000_000);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::Prng;

    #[test]
    fn numbers_survive_and_take_the_bytes_foretold() {
        let mut bytes = Vec::new();
        for shift in 0..64 {
            for number in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                bytes.clear();
                put_varint(&mut bytes, number);
                assert_eq!(bytes.len(), varint_bytes(number));
                assert_eq!(take_varint(&mut &bytes[..]), Ok(number));
            }
        }
    }

    #[test]
    fn a_long_message_makes_room_for_its_length() {
        for length in [0usize, 1, 127, 128, 300, 20_000, 3_000_000] {
            let mut bytes = vec![7];
            put_message(&mut bytes, 3, |into| into.resize(into.len() + length, 9));
            let mut expected = vec![7];
            put_bytes(&mut expected, 3, &vec![9; length]);
            assert_eq!(bytes, expected, "length {length}");
        }
    }

    #[test]
    fn times_survive_and_odd_ones_are_pressed_into_range() {
        for nanos in [0, 1, 999_999_999, 1_000_000_000, 1_700_000_000_123_456_789, u64::MAX] {
            let mut bytes = Vec::new();
            put_timestamp(&mut bytes, 1, LogTime(nanos));
            let (_, value) = Fields::new(&bytes).field().expect("sound").expect("one field");
            assert_eq!(timestamp(value.bytes().expect("a message")), Ok(LogTime(nanos)));
        }
        let mut before = Vec::new();
        put_uint(&mut before, 1, -5i64 as u64);
        assert_eq!(nanos(&before), Ok(-5_000_000_000));
        assert_eq!(timestamp(&before), Ok(LogTime(0)));
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        let mut prng = Prng::new(3);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..prng.below(24)).map(|_| prng.next_u64() as u8).collect();
            let mut fields = Fields::new(&bytes);
            while let Ok(Some(_)) = fields.field() {}
        }
    }
}
