//! Frames of RFC 9113: their head, their kinds and flags, and how one is put into a buffer.
//!
//! ```text
//!  +-----------------------------------------------+
//!  |                 length (24)                   |
//!  +---------------+---------------+---------------+
//!  |    kind (8)   |   flags (8)   |
//!  +-+-------------+---------------+-------------------------------+
//!  |R|                     stream (31)                             |
//!  +=+=============================================================+
//!  |                      body (length octets)                   ...
//! ```
//!
//! Both roles use it. Absent on purpose: what a frame means, which is `connection.rs` and its
//! parts.

use std::ops::Range;

/// What a client says first (RFC 9113, 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Octets of a frame's head.
pub const HEAD_BYTES: usize = 9;

/// The largest body of a frame that we take: the protocol's default, which we never raise.
pub const FRAME_BYTES_MAX: usize = 16_384;

/// The largest window there is (RFC 9113, 6.9.1).
pub const WINDOW_MAX: i64 = 0x7fff_ffff;

/// The window of a connection and of every stream before anything is said about it.
pub const WINDOW_DEFAULT: u32 = 65_535;

/// What a frame is (RFC 9113, 6).
pub mod kind {
    #![allow(missing_docs)]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of a frame; a bit means different things in different kinds.
pub mod flag {
    #![allow(missing_docs)]
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Settings by number (RFC 9113, 6.5.2).
pub mod setting {
    #![allow(missing_docs)]
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Why a stream or a connection ends (RFC 9113, 7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum Code {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    SettingsTimeout = 4,
    StreamClosed = 5,
    FrameSize = 6,
    Refused = 7,
    Cancel = 8,
    Compression = 9,
    Connect = 10,
    EnhanceYourCalm = 11,
    InadequateSecurity = 12,
    Http11Required = 13,
}

/// The first nine octets of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Octets of the body.
    pub len: usize,
    /// One of [`kind`], or a kind that nobody defined.
    pub kind: u8,
    /// Bits of [`flag`].
    pub flags: u8,
    /// 0 is the connection.
    pub stream: u32,
}

impl Head {
    /// The head that `octets` begin with, if that many are there.
    #[inline(always)]
    #[must_use]
    pub fn read(octets: &[u8]) -> Option<Head> {
        let o: &[u8; HEAD_BYTES] = octets.first_chunk()?;
        Some(Head {
            len: u32::from_be_bytes([0, o[0], o[1], o[2]]) as usize,
            kind: o[3],
            flags: o[4],
            stream: u32::from_be_bytes([o[5], o[6], o[7], o[8]]) & 0x7fff_ffff,
        })
    }

    /// Whether all bits of `flags` are set.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Where the content lies between the padding's length and the padding.
    #[inline(always)]
    pub fn content(&self, body: &[u8]) -> Result<Range<usize>, Code> {
        if !self.has(flag::PADDED) {
            return Ok(0..body.len());
        }
        let padding = usize::from(*body.first().ok_or(Code::FrameSize)?);
        if padding >= body.len() {
            return Err(Code::Protocol);
        }
        Ok(1..body.len() - padding)
    }
}

/// Puts the head of a frame with a body of `len` octets.
#[inline(always)]
pub fn put_head(out: &mut Vec<u8>, len: usize, kind: u8, flags: u8, stream: u32) {
    out.extend_from_slice(&head(len, kind, flags, stream));
}

/// The octets of a head.
#[inline(always)]
#[must_use]
pub fn head(len: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEAD_BYTES] {
    assert!(len < 1 << 24, "a frame of {len} octets has no head");
    let [_, a, b, c] = (len as u32).to_be_bytes();
    let [s, t, u, v] = stream.to_be_bytes();
    [a, b, c, kind, flags, s, t, u, v]
}

/// Puts a whole frame.
pub fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, body: &[u8]) {
    put_head(out, body.len(), kind, flags, stream);
    out.extend_from_slice(body);
}

/// Sets the length in the head at `at` to what lies behind it up to the end of `out`.
pub fn close_frame(out: &mut [u8], at: usize) {
    let len = out.len() - at - HEAD_BYTES;
    assert!(len <= FRAME_BYTES_MAX, "a frame of {len} octets is more than any peer must take");
    out[at..at + 3].copy_from_slice(&(len as u32).to_be_bytes()[1..]);
}

/// The big-endian number at `at`; the caller has checked that it is there.
#[inline(always)]
#[must_use]
pub fn u32_at(octets: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&octets[at..at + 4]);
    u32::from_be_bytes(four)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back() {
        let mut out = Vec::new();
        put_frame(&mut out, kind::DATA, flag::END_STREAM, 0x7fff_fff1, b"abc");
        let head = Head::read(&out).unwrap();
        assert_eq!(head, Head { len: 3, kind: 0, flags: 1, stream: 0x7fff_fff1 });
        assert_eq!(Head::read(&out[..8]), None);
    }

    #[test]
    fn padding_must_leave_room_for_itself() {
        let head = Head { len: 4, kind: kind::DATA, flags: flag::PADDED, stream: 1 };
        assert_eq!(head.content(&[2, 7, 0, 0]), Ok(1..2));
        assert_eq!(head.content(&[3, 0, 0, 0]), Ok(1..1));
        assert_eq!(head.content(&[4, 0, 0, 0]), Err(Code::Protocol));
        assert_eq!(head.content(&[]), Err(Code::FrameSize));
    }
}
