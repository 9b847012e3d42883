//! HPACK (RFC 7541) for a caller that looks at how a call was answered.
//!
//! The counterpart of `hpack.rs`: an entry of the dynamic table is what its field means to us, and
//! the only octets that are kept are those of a `grpc-message`, which a server may index. Every
//! block must be decoded, also of calls that nobody waits for any more, or the tables diverge.
//! Absent on purpose: metadata, and any judgement of a field's form beyond what a status needs.

use std::collections::VecDeque;

use super::hpack::{Bad, integer, string};
use super::tables::STATIC;

/// What the headers or trailers of an answer say.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Head {
    /// `:status`; 0 in trailers.
    pub http: u16,
    /// `grpc-status`, when it is there.
    pub status: Option<u32>,
}

/// Decodes the header blocks of one connection, in the order of their arrival.
#[derive(Debug)]
pub struct Answers {
    /// The dynamic table; the newest entry is in front.
    table: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
    name: Vec<u8>,
    value: Vec<u8>,
    text: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Field {
    Http(u16),
    Status(u32),
    /// Its text is beside it.
    Text,
    Other,
}

#[derive(Debug)]
struct Entry {
    field: Field,
    name: Name,
    name_len: usize,
    size: usize,
    text: Box<[u8]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Name {
    Http,
    Status,
    Text,
    Other,
}

/// The limit on the table that we announce: the protocol's default.
const TABLE_BYTES_MAX: usize = 4096;

/// What RFC 7541, 4.1 adds to each entry.
const ENTRY_BYTES: usize = 32;

impl Default for Answers {
    fn default() -> Answers {
        Answers {
            table: VecDeque::new(),
            bytes: 0,
            bytes_max: TABLE_BYTES_MAX,
            name: Vec::new(),
            value: Vec::new(),
            text: Vec::new(),
        }
    }
}

impl Answers {
    /// Decodes one block.
    ///
    /// # Errors
    /// The tables are out of step: the connection is lost.
    pub fn read(&mut self, block: &[u8]) -> Result<Head, Bad> {
        let mut head = Head::default();
        self.text.clear();
        let mut at = 0;
        while let Some(&first) = block.get(at) {
            let field = if first & 0x80 != 0 {
                let index = integer(block, &mut at, 7)?;
                self.indexed(index)?
            } else if first & 0xe0 == 0x20 {
                self.bytes_max = integer(block, &mut at, 5)?;
                if self.bytes_max > TABLE_BYTES_MAX {
                    return Err(Bad::Compression);
                }
                self.evict(self.bytes_max);
                continue;
            } else {
                self.literal(block, &mut at)?
            };
            match field {
                Field::Http(status) => head.http = status,
                Field::Status(status) => head.status = Some(status),
                Field::Text | Field::Other => {}
            }
        }
        Ok(head)
    }

    /// The `grpc-message` of the block read last, as it came.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    fn indexed(&mut self, index: usize) -> Result<Field, Bad> {
        let Some(age) = index.checked_sub(STATIC.len() + 1) else {
            let (name, value) = STATIC.get(index.wrapping_sub(1)).ok_or(Bad::Compression)?;
            return Ok(field(Name::of(name.as_bytes()), value.as_bytes()));
        };
        let entry = self.table.get(age).ok_or(Bad::Compression)?;
        if entry.field == Field::Text {
            self.text.clear();
            self.text.extend_from_slice(&entry.text);
        }
        Ok(entry.field)
    }

    fn literal(&mut self, block: &[u8], at: &mut usize) -> Result<Field, Bad> {
        let is_indexed = block[*at] & 0x40 != 0;
        let index = integer(block, at, if is_indexed { 6 } else { 4 })?;
        let (name, name_len) = if index == 0 {
            string(block, at, &mut self.name)?;
            (Name::of(&self.name), self.name.len())
        } else if let Some(age) = index.checked_sub(STATIC.len() + 1) {
            let entry = self.table.get(age).ok_or(Bad::Compression)?;
            (entry.name, entry.name_len)
        } else {
            let (name, _) = STATIC[index - 1];
            (Name::of(name.as_bytes()), name.len())
        };
        string(block, at, &mut self.value)?;
        let field = field(name, &self.value);
        if field == Field::Text {
            self.text.clear();
            self.text.extend_from_slice(&self.value);
        }
        if is_indexed {
            self.insert(name, name_len, field);
        }
        Ok(field)
    }

    fn insert(&mut self, name: Name, name_len: usize, field: Field) {
        let size = name_len + self.value.len() + ENTRY_BYTES;
        if size > self.bytes_max {
            return self.evict(0);
        }
        self.evict(self.bytes_max - size);
        let text = if field == Field::Text { &self.value[..] } else { &[] };
        self.bytes += size;
        self.table.push_front(Entry { field, name, name_len, size, text: text.into() });
    }

    /// Drops the oldest entries until the rest fits `room`.
    fn evict(&mut self, room: usize) {
        while self.bytes > room {
            let Some(oldest) = self.table.pop_back() else { break };
            self.bytes -= oldest.size;
        }
    }
}

impl Name {
    fn of(name: &[u8]) -> Name {
        match name {
            b":status" => Name::Http,
            b"grpc-status" => Name::Status,
            b"grpc-message" => Name::Text,
            _ => Name::Other,
        }
    }
}

fn field(name: Name, value: &[u8]) -> Field {
    let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse::<u32>().ok());
    match name {
        Name::Http => Field::Http(number().and_then(|n| u16::try_from(n).ok()).unwrap_or(0)),
        // What is no number is a status that nobody defined.
        Name::Status => Field::Status(number().unwrap_or(u32::MAX)),
        Name::Text => Field::Text,
        Name::Other => Field::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode::{Encoder, Encodings};
    use super::*;
    use crate::wire::grpc::Status;

    #[test]
    fn what_our_own_server_says_is_understood_cold_and_warm() {
        let (mut encoder, mut answers) = (Encoder::default(), Answers::default());
        for _ in 0..3 {
            let mut block = Vec::new();
            encoder.put_headers(&mut block);
            assert_eq!(answers.read(&block), Ok(Head { http: 200, status: None }));
            block.clear();
            encoder.put_trailers(&mut block, Status::Ok, "");
            assert_eq!(answers.read(&block), Ok(Head { http: 0, status: Some(0) }));
            block.clear();
            encoder.put_trailers_only(&mut block, Status::NotFound, "no such", Encodings::Untold);
            assert_eq!(answers.read(&block), Ok(Head { http: 200, status: Some(5) }));
            assert_eq!(answers.text(), b"no such");
        }
    }

    #[test]
    fn an_indexed_text_comes_back() {
        let mut answers = Answers::default();
        let mut block = vec![0x40, 12];
        block.extend_from_slice(b"grpc-message");
        block.extend_from_slice(&[4, b'b', b'u', b's', b'y']);
        assert_eq!(answers.read(&block), Ok(Head::default()));
        assert_eq!(answers.text(), b"busy");
        assert_eq!(answers.read(&[0x88]), Ok(Head { http: 200, status: None }));
        assert_eq!(answers.text(), b"");
        answers.read(&[0x80 | 62]).expect("it is in the table");
        assert_eq!(answers.text(), b"busy");
        assert_eq!(answers.read(&[0x80 | 63]), Err(Bad::Compression));
        // An announced table of nothing holds nothing.
        assert_eq!(answers.read(&[0x20, 0x80 | 62]), Err(Bad::Compression));
    }

    #[test]
    fn any_octets_are_read_or_refused() {
        let mut prng = crate::prng::Prng::new(17);
        for _ in 0..20_000 {
            let block: Vec<u8> = (0..prng.below(40)).map(|_| prng.next_u64() as u8).collect();
            let mut answers = Answers::default();
            let _ = answers.read(&block);
            assert!(answers.bytes <= TABLE_BYTES_MAX);
        }
    }
}
