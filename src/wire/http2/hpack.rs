//! HPACK (RFC 7541) for a server that looks at a fixed set of request fields.
//!
//! The dynamic table keeps no octets. An entry is what its field *means* to us (kind, interpreted
//! value, size), worked out once when it is inserted: a path is the number of its method, a timeout
//! is nanoseconds. An indexed field then costs one read, a header bomb costs nothing, and nothing
//! is allocated. The one exception are paths that name nothing: the last few are kept, so that the
//! refusal can say which.
//!
//! Every block must be decoded, those of refused, late and malformed requests too, or the two
//! tables diverge without a word. Fields that mean nothing to us are counted and forgotten. Absent
//! on purpose: handing metadata to the application (a kind with an arena of its own, when something
//! asks for it) and a cache of whole blocks (it never hits with clients that send deadlines).

use super::tables::STATIC;
use super::{Route, Router, huffman};
use crate::wire::grpc;

/// Why a block cannot be a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bad {
    /// The tables are out of step: the connection is lost.
    Compression,
    /// The request is: its stream is lost, and the tables are in step.
    Malformed,
}

/// The `:method` of a request, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Verb {
    /// What gRPC uses.
    #[default]
    Post,
    /// Asks for an answer without a body.
    Head,
    /// Has neither scheme nor path.
    Connect,
    /// Any other.
    Other,
}

/// What a `:path` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A method.
    Known(Route),
    /// Nothing; the number finds the text in [`Decoder::stray_path`] for a while.
    Stray(u32),
}

/// What a request's header block says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// `grpc-timeout` in nanoseconds; `u64::MAX` without one.
    pub timeout_ns: u64,
    /// `content-length`; `u64::MAX` without one.
    pub content_length: u64,
    /// `:path`.
    pub target: Target,
    /// `:method`.
    pub verb: Verb,
    /// `content-type` is a kind of `application/grpc`.
    pub is_grpc: bool,
    /// `grpc-encoding` is neither absent nor `identity`.
    pub is_compressed: bool,
    /// `grpc-timeout` cannot be read.
    pub has_bad_timeout: bool,
    /// The fields exceed the limit on the header list.
    pub is_too_large: bool,
}

/// The limit on the table that we announce: the protocol's default.
const TABLE_BYTES_MAX: usize = 4096;

/// What RFC 7541, 4.1 adds to each entry.
const ENTRY_BYTES: usize = 32;

/// Entries the table can hold at most, all of them empty.
const ENTRIES_MAX: usize = TABLE_BYTES_MAX / ENTRY_BYTES;
const _: () = assert!(ENTRIES_MAX.is_power_of_two());

/// Paths that name nothing of which the text is kept, and how much of it.
const STRAY_PATHS_MAX: usize = 8;
const STRAY_PATH_BYTES_MAX: usize = 200;

/// Larger scratch buffers are given back after a block.
const SCRATCH_BYTES_KEPT: usize = 4096;

/// Decodes the header blocks of one connection, in the order of their arrival.
#[derive(Debug)]
pub struct Decoder {
    /// Meanings of the static table; they depend on the router.
    fixed: Box<[Field; STATIC.len()]>,
    /// The dynamic table; the newest entry is before `head`.
    ring: Box<[Field; ENTRIES_MAX]>,
    head: usize,
    len: usize,
    bytes: usize,
    bytes_max: usize,
    list_bytes_max: usize,
    name: Vec<u8>,
    value: Vec<u8>,
    stray: Vec<(u32, Box<[u8]>)>,
    strays: u32,
}

impl Decoder {
    /// An empty table; requests of more than `list_bytes_max` are marked as too large.
    #[must_use]
    pub fn new<R: Router>(list_bytes_max: u32, router: &R) -> Decoder {
        let mut decoder = Decoder {
            fixed: Box::new([Field::NONE; STATIC.len()]),
            ring: Box::new([Field::NONE; ENTRIES_MAX]),
            head: 0,
            len: 0,
            bytes: 0,
            bytes_max: TABLE_BYTES_MAX,
            list_bytes_max: list_bytes_max as usize,
            name: Vec::new(),
            value: Vec::new(),
            stray: Vec::new(),
            strays: 0,
        };
        for (at, (name, value)) in STATIC.into_iter().enumerate() {
            let kind = Kind::of(name.as_bytes());
            let field = decoder.interpret(kind, name.len(), value.as_bytes(), router);
            decoder.fixed[at] = field;
        }
        decoder
    }

    /// Decodes the block of a request's headers.
    #[inline]
    pub fn request<R: Router>(&mut self, block: &[u8], router: &R) -> Result<Request, Bad> {
        let read = self.block(block, router);
        self.trim();
        read?.into_request(self.list_bytes_max)
    }

    /// Decodes the block of a request's trailers, which say nothing that we want to know.
    pub fn trailers<R: Router>(&mut self, block: &[u8], router: &R) -> Result<(), Bad> {
        let read = self.block(block, router);
        self.trim();
        let read = read?;
        if read.malformed || read.pseudo != 0 { Err(Bad::Malformed) } else { Ok(()) }
    }

    /// The beginning of a path that named nothing, if it is not too long ago.
    #[must_use]
    pub fn stray_path(&self, number: u32) -> Option<&[u8]> {
        self.stray.iter().find(|(n, _)| *n == number).map(|(_, path)| &path[..])
    }

    #[inline]
    fn block<R: Router>(&mut self, block: &[u8], router: &R) -> Result<Reading, Bad> {
        let mut reading = Reading::default();
        let mut at = 0;
        while let Some(&first) = block.get(at) {
            let field = if first & 0x80 != 0 {
                let index = integer(block, &mut at, 7)?;
                self.field(index)?
            } else if first & 0xe0 == 0x20 {
                self.resize(integer(block, &mut at, 5)?, &reading)?;
                continue;
            } else {
                self.literal(block, &mut at, router)?
            };
            reading.take(field);
        }
        Ok(reading)
    }

    /// A field of which at least the value is spelled out.
    fn literal<R: Router>(
        &mut self,
        block: &[u8],
        at: &mut usize,
        router: &R,
    ) -> Result<Field, Bad> {
        let is_indexed = block[*at] & 0x40 != 0;
        let index = integer(block, at, if is_indexed { 6 } else { 4 })?;
        let (kind, name_len) = if index == 0 {
            string(block, at, &mut self.name)?;
            (Kind::of(&self.name), self.name.len())
        } else {
            let named = self.field(index)?;
            (named.kind, usize::from(named.name_len))
        };
        let mut value = std::mem::take(&mut self.value);
        let read = string(block, at, &mut value);
        let field = self.interpret(kind, name_len, &value, router);
        self.value = value;
        read?;
        if is_indexed {
            self.insert(field);
        }
        Ok(field)
    }

    #[inline(always)]
    fn field(&self, index: usize) -> Result<Field, Bad> {
        let fixed = self.fixed.len();
        if index > fixed {
            let age = index - fixed - 1;
            if age >= self.len {
                return Err(Bad::Compression);
            }
            return Ok(self.ring[self.head.wrapping_sub(1 + age) % ENTRIES_MAX]);
        }
        self.fixed.get(index.wrapping_sub(1)).copied().ok_or(Bad::Compression)
    }

    fn insert(&mut self, field: Field) {
        let size = field.size as usize;
        if size > self.bytes_max {
            self.evict(0);
            return;
        }
        self.evict(self.bytes_max - size);
        self.ring[self.head % ENTRIES_MAX] = field;
        self.head = self.head.wrapping_add(1);
        self.len += 1;
        self.bytes += size;
        assert!(self.len <= ENTRIES_MAX, "{} entries, and each counts 32 octets", self.len);
    }

    /// Drops the oldest entries until the rest fits `room`.
    fn evict(&mut self, room: usize) {
        while self.bytes > room {
            let oldest = self.ring[self.head.wrapping_sub(self.len) % ENTRIES_MAX];
            self.bytes -= oldest.size as usize;
            self.len -= 1;
        }
    }

    fn resize(&mut self, bytes_max: usize, reading: &Reading) -> Result<(), Bad> {
        if reading.bytes > 0 || bytes_max > TABLE_BYTES_MAX {
            return Err(Bad::Compression);
        }
        self.bytes_max = bytes_max;
        self.evict(bytes_max);
        Ok(())
    }

    fn interpret<R: Router>(
        &mut self,
        kind: Kind,
        name_len: usize,
        value: &[u8],
        router: &R,
    ) -> Field {
        let (meaning, malformed) = match kind {
            Kind::Other | Kind::Authority => (0, false),
            Kind::Forbidden => (0, true),
            Kind::Method => (verb(value) as u64, value.is_empty()),
            Kind::Path => (self.target(value, router), value.is_empty()),
            Kind::Scheme => (0, value.is_empty()),
            Kind::ContentType => (u64::from(is_grpc(value)), false),
            Kind::Te => (0, value != b"trailers"),
            Kind::Timeout => (grpc::timeout(value).map_or(BAD_TIMEOUT, |span| span.0), false),
            Kind::Encoding => (u64::from(value != b"identity"), false),
            Kind::ContentLength => match number(value) {
                Some(number) => (number, false),
                None => (0, true),
            },
        };
        let has_break = value.iter().fold(false, |any, &c| any | (c == 0 || c == 10 || c == 13));
        Field {
            meaning,
            // A block is far below 4 GiB; what is cut from the name's length was never inserted.
            size: (name_len + value.len() + ENTRY_BYTES) as u32,
            name_len: name_len.min(usize::from(u16::MAX)) as u16,
            kind,
            malformed: malformed || has_break,
        }
    }

    /// A path as a number: a route, or the number of a stray one.
    fn target<R: Router>(&mut self, path: &[u8], router: &R) -> u64 {
        if let Some(route) = router.route(path) {
            return u64::from(route.method) | if route.single { ROUTE_SINGLE } else { 0 };
        }
        self.strays = self.strays.wrapping_add(1);
        if self.stray.len() == STRAY_PATHS_MAX {
            self.stray.remove(0);
        }
        let kept = &path[..path.len().min(STRAY_PATH_BYTES_MAX)];
        self.stray.push((self.strays, kept.into()));
        ROUTE_STRAY | u64::from(self.strays)
    }

    /// Large scratch buffers are not kept for a rare large field.
    #[inline]
    fn trim(&mut self) {
        if self.value.capacity() > SCRATCH_BYTES_KEPT {
            self.value = Vec::new();
        }
        if self.name.capacity() > SCRATCH_BYTES_KEPT {
            self.name = Vec::new();
        }
    }
}

/// What a field is to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Kind {
    Authority,
    Method,
    Path,
    Scheme,
    Other,
    ContentType,
    Te,
    Timeout,
    Encoding,
    ContentLength,
    /// Makes the request malformed: connection-specific, an unknown pseudo-field, upper case.
    Forbidden,
}

impl Kind {
    fn of(name: &[u8]) -> Kind {
        match name {
            b":authority" => Kind::Authority,
            b":method" => Kind::Method,
            b":path" => Kind::Path,
            b":scheme" => Kind::Scheme,
            b"content-type" => Kind::ContentType,
            b"te" => Kind::Te,
            b"grpc-timeout" => Kind::Timeout,
            b"grpc-encoding" => Kind::Encoding,
            b"content-length" => Kind::ContentLength,
            b"" | b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
            | b"upgrade" => Kind::Forbidden,
            _ if name
                .iter()
                .all(|&c| matches!(c, 0x21..=0x7e) && !c.is_ascii_uppercase() && c != b':') =>
            {
                Kind::Other
            }
            _ => Kind::Forbidden,
        }
    }

    #[inline(always)]
    const fn is_pseudo(self) -> bool {
        (self as u8) <= Kind::Scheme as u8
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A field after interpretation, as it stands in the tables.
#[derive(Clone, Copy, Debug)]
struct Field {
    meaning: u64,
    size: u32,
    name_len: u16,
    kind: Kind,
    malformed: bool,
}
const _: () = assert!(size_of::<Field>() == 16);

impl Field {
    const NONE: Field =
        Field { meaning: 0, size: 0, name_len: 0, kind: Kind::Other, malformed: false };
}

const ROUTE_SINGLE: u64 = 1 << 16;
const ROUTE_STRAY: u64 = 1 << 32;
/// No timeout is that long: `grpc::timeout` ends at `u64::MAX`, which says the same as none.
const BAD_TIMEOUT: u64 = u64::MAX - 1;

/// What has been read of a block.
#[derive(Default)]
struct Reading {
    bytes: usize,
    timeout_ns: Option<u64>,
    content_length: Option<u64>,
    target: Option<u64>,
    verb: Verb,
    pseudo: u8,
    has_regular: bool,
    malformed: bool,
    is_grpc: bool,
    is_compressed: bool,
}

impl Reading {
    #[inline(always)]
    fn take(&mut self, field: Field) {
        self.bytes += field.size as usize;
        self.malformed |= field.malformed;
        if field.kind.is_pseudo() {
            // Each at most once, and all of them before the first regular field.
            self.malformed |= self.has_regular || self.pseudo & field.kind.bit() != 0;
            self.pseudo |= field.kind.bit();
        } else {
            self.has_regular = true;
        }
        match field.kind {
            Kind::Authority | Kind::Scheme | Kind::Other | Kind::Te | Kind::Forbidden => {}
            Kind::Method => self.verb = verb_of(field.meaning),
            Kind::Path => self.target = Some(field.meaning),
            Kind::ContentType => self.is_grpc = field.meaning != 0,
            Kind::Timeout => self.timeout_ns = Some(field.meaning),
            Kind::Encoding => self.is_compressed = field.meaning != 0,
            Kind::ContentLength => {
                self.malformed |= self.content_length.is_some_and(|was| was != field.meaning);
                self.content_length = Some(field.meaning);
            }
        }
    }

    #[inline(always)]
    fn into_request(self, list_bytes_max: usize) -> Result<Request, Bad> {
        const ORDINARY: u8 = Kind::Method.bit() | Kind::Path.bit() | Kind::Scheme.bit();
        let here = self.pseudo & ORDINARY;
        let is_complete = match self.verb {
            Verb::Connect => here == Kind::Method.bit(),
            Verb::Post | Verb::Head | Verb::Other => here == ORDINARY,
        };
        if self.malformed || !is_complete {
            return Err(Bad::Malformed);
        }
        let target = match self.target {
            Some(number) if number & ROUTE_STRAY == 0 => {
                let single = number & ROUTE_SINGLE != 0;
                Target::Known(Route { method: number as u16, single })
            }
            Some(number) => Target::Stray(number as u32),
            None => Target::Stray(0),
        };
        let has_bad_timeout = self.timeout_ns == Some(BAD_TIMEOUT);
        Ok(Request {
            timeout_ns: self.timeout_ns.unwrap_or(u64::MAX),
            content_length: self.content_length.unwrap_or(u64::MAX),
            target,
            verb: self.verb,
            is_grpc: self.is_grpc,
            is_compressed: self.is_compressed,
            has_bad_timeout,
            is_too_large: self.bytes > list_bytes_max,
        })
    }
}

fn verb(value: &[u8]) -> Verb {
    match value {
        b"POST" => Verb::Post,
        b"HEAD" => Verb::Head,
        b"CONNECT" => Verb::Connect,
        _ => Verb::Other,
    }
}

#[inline(always)]
const fn verb_of(meaning: u64) -> Verb {
    const POST: u64 = Verb::Post as u64;
    const HEAD: u64 = Verb::Head as u64;
    const CONNECT: u64 = Verb::Connect as u64;
    match meaning {
        POST => Verb::Post,
        HEAD => Verb::Head,
        CONNECT => Verb::Connect,
        _ => Verb::Other,
    }
}

/// `application/grpc`, alone or before `+` or `;`.
fn is_grpc(value: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    value.len() >= TYPE.len()
        && value[..TYPE.len()].eq_ignore_ascii_case(TYPE)
        && matches!(value.get(TYPE.len()), None | Some(b'+' | b';'))
}

fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// An integer with a prefix of `bits` (RFC 7541, 5.1), of five octets at most.
#[inline(always)]
pub(super) fn integer(block: &[u8], at: &mut usize, bits: u32) -> Result<usize, Bad> {
    let mask = (1usize << bits) - 1;
    let first = usize::from(*block.get(*at).ok_or(Bad::Compression)?) & mask;
    *at += 1;
    if first < mask { Ok(first) } else { long_integer(block, at, mask) }
}

fn long_integer(block: &[u8], at: &mut usize, mask: usize) -> Result<usize, Bad> {
    let mut value = mask;
    for shift in [0, 7, 14, 21] {
        let octet = usize::from(*block.get(*at).ok_or(Bad::Compression)?);
        *at += 1;
        value += (octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Bad::Compression)
}

/// A string (RFC 7541, 5.2) into `into`, decoded.
pub(super) fn string(block: &[u8], at: &mut usize, into: &mut Vec<u8>) -> Result<(), Bad> {
    let is_huffman = block.get(*at).ok_or(Bad::Compression)? & 0x80 != 0;
    let len = integer(block, at, 7)?;
    let octets = block.get(*at..).and_then(|rest| rest.get(..len)).ok_or(Bad::Compression)?;
    *at += len;
    into.clear();
    if is_huffman {
        return huffman::decode(octets, into).ok_or(Bad::Compression);
    }
    into.extend_from_slice(octets);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
