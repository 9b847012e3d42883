//! Header blocks of answers, straight into the output buffer.
//!
//! Two fields enter the peer's table once per connection, the content type first and `grpc-status:
//! 0` when the first call succeeds. After that the headers of an answer are two octets and its
//! trailers one. All else is spelled out and leaves the table alone, so the order of errors does
//! not matter. A peer that lowers its table below what the two fields take gets everything spelled
//! out.
//!
//! Blocks must reach the peer in the order in which they are put.

use crate::wire::grpc::{self, Status};

/// What the peer's table holds of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Table {
    Empty,
    /// 62 is the content type.
    Type,
    /// 62 is `grpc-status: 0`, 63 the content type.
    TypeAndStatus,
    /// The peer's table is too small; nothing is inserted any more.
    Unused,
}

/// Encodes the header blocks of one connection.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    /// A size to be announced at the beginning of the next block (RFC 7541, 4.2).
    resize: Option<u32>,
}

/// Headers of every answer once [`Encoder::is_warm`]: `:status: 200` and the content type.
pub const WARM_HEADERS: [u8; 2] = [STATUS_200, 0x80 | 63];
/// Trailers of every success once [`Encoder::is_warm`].
pub const WARM_TRAILERS: [u8; 1] = [0x80 | 62];

const STATUS_200: u8 = 0x80 | 8;
const CONTENT_TYPE: &[u8] = b"application/grpc";
const GRPC_STATUS: &str = "grpc-status";

/// Octets of both entries: 12 + 16 + 32 and 11 + 1 + 32.
const TABLE_BYTES: u32 = 60 + 44;
const TABLE_BYTES_DEFAULT: u32 = 4096;

/// Where names stand in the static table.
const INDEX_STATUS: u8 = 8;
const INDEX_ALLOW: u8 = 22;
const INDEX_CONTENT_TYPE: u8 = 31;

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder { table: Table::Empty, resize: None }
    }
}

impl Encoder {
    /// The peer's SETTINGS_HEADER_TABLE_SIZE.
    pub fn set_peer_table(&mut self, bytes: u32) {
        if bytes >= TABLE_BYTES_DEFAULT {
            return;
        }
        let kept = if bytes < TABLE_BYTES { 0 } else { bytes };
        if kept == 0 {
            self.table = Table::Unused;
        }
        // The smallest size between two blocks must be announced; ours never grows again.
        self.resize = Some(self.resize.map_or(kept, |smaller| smaller.min(kept)));
    }

    /// Whether [`WARM_HEADERS`] and [`WARM_TRAILERS`] may be put as they are.
    #[inline(always)]
    #[must_use]
    pub fn is_warm(&self) -> bool {
        self.table == Table::TypeAndStatus && self.resize.is_none()
    }

    /// The headers of an answer.
    pub fn put_headers(&mut self, out: &mut Vec<u8>) {
        self.put_resize(out);
        out.push(STATUS_200);
        match self.table {
            Table::Empty => {
                put_named(out, 0x40, 6, INDEX_CONTENT_TYPE, CONTENT_TYPE);
                self.table = Table::Type;
            }
            Table::Type => out.push(0x80 | 62),
            Table::TypeAndStatus => out.push(0x80 | 63),
            Table::Unused => {
                put_named(out, 0, 4, INDEX_CONTENT_TYPE, CONTENT_TYPE);
            }
        }
    }

    /// The trailers of an answer whose headers have been put.
    pub fn put_trailers(&mut self, out: &mut Vec<u8>, status: Status, text: &str) {
        self.put_resize(out);
        self.put_status(out, status, text);
    }

    /// Headers and trailers in one block, of an answer without a message.
    pub fn put_trailers_only(
        &mut self,
        out: &mut Vec<u8>,
        status: Status,
        text: &str,
        encodings: Encodings,
    ) {
        self.put_headers(out);
        self.put_status(out, status, text);
        if encodings == Encodings::Told {
            put_literal(out, 0, "grpc-accept-encoding", b"identity");
        }
    }

    /// Headers of an answer that is not gRPC. A 405 says which method is allowed.
    pub fn put_plain(&mut self, out: &mut Vec<u8>, http_status: HttpStatus) {
        self.put_resize(out);
        let digits: &[u8; 3] = match http_status {
            HttpStatus::MethodNotAllowed => b"405",
            HttpStatus::UnsupportedMediaType => b"415",
        };
        put_named(out, 0, 4, INDEX_STATUS, digits);
        put_named(out, 0, 4, INDEX_CONTENT_TYPE, b"text/plain");
        if http_status == HttpStatus::MethodNotAllowed {
            put_named(out, 0, 4, INDEX_ALLOW, b"POST");
        }
    }

    fn put_status(&mut self, out: &mut Vec<u8>, status: Status, text: &str) {
        match (status, self.table) {
            (Status::Ok, Table::TypeAndStatus) => out.push(0x80 | 62),
            (Status::Ok, Table::Type) => {
                put_literal(out, 0x40, GRPC_STATUS, b"0");
                self.table = Table::TypeAndStatus;
            }
            _ => {
                let code = status.code();
                let digits = [b'0' + code / 10, b'0' + code % 10];
                put_literal(out, 0, GRPC_STATUS, &digits[usize::from(code < 10)..]);
            }
        }
        if !text.is_empty() {
            let text = grpc::bounded_text(text);
            out.push(0);
            put_string(out, b"grpc-message");
            put_integer(out, 0, 7, grpc::text_len(text));
            grpc::put_text(text, out);
        }
    }

    fn put_resize(&mut self, out: &mut Vec<u8>) {
        if let Some(bytes) = self.resize.take() {
            put_integer(out, 0x20, 5, bytes as usize);
        }
    }
}

/// Whether a refusal says which message encodings are understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encodings {
    /// It does not.
    Untold,
    /// `grpc-accept-encoding: identity`.
    Told,
}

/// Answers to what is not gRPC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HttpStatus {
    /// 405
    MethodNotAllowed,
    /// 415
    UnsupportedMediaType,
}

fn put_integer(out: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
    let mask = (1usize << bits) - 1;
    if value < mask {
        return out.push(first | value as u8);
    }
    out.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_string(out: &mut Vec<u8>, octets: &[u8]) {
    put_integer(out, 0, 7, octets.len());
    out.extend_from_slice(octets);
}

/// A field whose name is at `index` of the static table.
fn put_named(out: &mut Vec<u8>, first: u8, bits: u32, index: u8, value: &[u8]) {
    put_integer(out, first, bits, usize::from(index));
    put_string(out, value);
}

fn put_literal(out: &mut Vec<u8>, first: u8, name: &str, value: &[u8]) {
    out.push(first);
    put_string(out, name.as_bytes());
    put_string(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers and trailers of one success.
    fn success(encoder: &mut Encoder) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.put_headers(&mut out);
        encoder.put_trailers(&mut out, Status::Ok, "");
        out
    }

    #[test]
    fn a_warm_table_takes_three_octets() {
        let mut encoder = Encoder::default();
        assert_eq!(success(&mut encoder).len(), 1 + 2 + 16 + 1 + 12 + 2);
        assert!(encoder.is_warm());
        assert_eq!(success(&mut encoder), [&WARM_HEADERS[..], &WARM_TRAILERS[..]].concat());
    }

    #[test]
    fn errors_leave_the_table_alone() {
        let mut encoder = Encoder::default();
        let mut out = Vec::new();
        encoder.put_trailers_only(&mut out, Status::NotFound, "no", Encodings::Untold);
        assert_eq!(encoder.table, Table::Type);
        success(&mut encoder);
        encoder.put_trailers(&mut out, Status::Internal, "no");
        encoder.put_plain(&mut out, HttpStatus::MethodNotAllowed);
        assert!(encoder.is_warm());
    }

    #[test]
    fn the_smallest_table_is_announced_once() {
        let mut encoder = Encoder::default();
        success(&mut encoder);
        encoder.set_peer_table(200);
        encoder.set_peer_table(150);
        encoder.set_peer_table(4096);
        assert!(!encoder.is_warm());
        assert_eq!(success(&mut encoder)[..2], [0x3f, 150 - 31]);
        assert!(encoder.is_warm());
        encoder.set_peer_table(0);
        assert_eq!(success(&mut encoder)[0], 0x20);
        assert!(!encoder.is_warm() && encoder.table == Table::Unused);
    }
}
