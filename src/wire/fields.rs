//! Protobuf at the level of fields: enough to cut a message into parts and to write one without building it.
//!
//! The edge slices ids out of requests and wraps their inputs without decoding them (design.md, decision 6),
//! so it needs fields, not messages. Reading borrows and never panics; what prost refuses is refused here,
//! and groups too, which no message of ours has. Absent on purpose: any schema (`shape.rs`).

/// What one field holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// Wire type 0.
    Number(u64),
    /// Wire type 2: a string, bytes or a message.
    Bytes(&'a [u8]),
    /// Wire types 1 and 5, which none of our messages uses.
    Fixed,
}

/// The bytes are not a protobuf message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

/// Walks the fields of one message, in the order in which they stand.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `message`.
    #[must_use]
    pub const fn new(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    /// The next field's number and value; `None` at the end.
    #[inline]
    pub fn next_field(&mut self) -> Result<Option<(u32, Value<'a>)>, Broken> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| Broken)?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).map_err(|_| Broken)?)?)
            }
            1 => self.take(8).map(|_| Value::Fixed)?,
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Broken),
        };
        if key >> 3 == 0 { Err(Broken) } else { Ok(Some((key >> 3, value))) }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Broken> {
        match self.rest {
            [first, rest @ ..] if *first < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*first))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Broken> {
        let mut value = 0u64;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            // The tenth octet holds the 64th bit and nothing else.
            if at == 9 && *byte > 1 {
                return Err(Broken);
            }
            value |= u64::from(byte & 0x7F) << (7 * at);
            if *byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(Broken)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Broken)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl<'a> Value<'a> {
    /// The number, where a number belongs.
    pub fn number(self) -> Result<u64, Broken> {
        match self {
            Value::Number(number) => Ok(number),
            Value::Bytes(_) | Value::Fixed => Err(Broken),
        }
    }

    /// The bytes, where bytes belong.
    pub fn bytes(self) -> Result<&'a [u8], Broken> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Number(_) | Value::Fixed => Err(Broken),
        }
    }
}

/// How many bytes `number` takes as a varint, 1 to 10.
#[inline]
#[must_use]
pub const fn varint_bytes(number: u64) -> usize {
    ((63 - (number | 1).leading_zeros()) / 7 + 1) as usize
}

/// Appends `number` as a varint.
#[inline]
pub fn put_varint(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

/// How many bytes field `field` takes with `number`; none when it is 0, which proto3 leaves out.
#[inline]
#[must_use]
pub const fn number_bytes(field: u32, number: u64) -> usize {
    if number == 0 { 0 } else { varint_bytes((field as u64) << 3) + varint_bytes(number) }
}

/// Appends field `field` with `number`; nothing when it is 0.
#[inline]
pub fn put_number(into: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        put_varint(into, u64::from(field) << 3);
        put_varint(into, number);
    }
}

/// How many bytes field `field` takes with a message, string or bytes of `length`.
#[inline]
#[must_use]
pub const fn framed_bytes(field: u32, length: usize) -> usize {
    varint_bytes((field as u64) << 3) + varint_bytes(length as u64) + length
}

/// Appends the tag and length of field `field`; its `length` bytes follow.
#[inline]
pub fn put_frame(into: &mut Vec<u8>, field: u32, length: usize) {
    put_varint(into, u64::from(field) << 3 | 2);
    put_varint(into, length as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_the_length_that_is_said_and_come_back() {
        for shift in 0..64 {
            for number in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, number);
                assert_eq!(bytes.len(), varint_bytes(number), "{number}");
                let mut fields = Fields::new(&bytes);
                assert_eq!(fields.varint(), Ok(number));
                assert!(fields.rest.is_empty());
            }
        }
    }

    #[test]
    fn what_is_cut_short_or_out_of_range_is_broken() {
        let broken: [&[u8]; 8] = [
            &[0x08],
            &[0x0A, 2, 1],
            &[0x00, 1],
            &[0x0B],
            &[0x09, 1, 2, 3],
            &[0x0D, 1],
            &[0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2],
            &[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1],
        ];
        for bytes in broken {
            assert_eq!(Fields::new(bytes).next_field(), Err(Broken), "{bytes:?}");
        }
    }
}
