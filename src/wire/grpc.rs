//! gRPC as octets: status codes, the prefix of a message, deadlines and texts in headers.
//!
//! Both roles use it. Absent on purpose: I/O, headers as such (`http2/hpack.rs` reads them and
//! `http2/encode.rs` puts them), compression (refused politely, see `http2/request.rs`) and
//! `grpc-status-details-bin`, which nothing here has to say anything in.

use crate::limits::GRPC_TEXT_BYTES_MAX;
use crate::time::Span;

/// Octets before each message: whether it is compressed, and its length.
pub const PREFIX_BYTES: usize = 5;

/// How a call ended. The seventeen codes of gRPC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Status {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Status {
    /// All codes, each at its number.
    pub const ALL: [Status; 17] = [
        Status::Ok,
        Status::Cancelled,
        Status::Unknown,
        Status::InvalidArgument,
        Status::DeadlineExceeded,
        Status::NotFound,
        Status::AlreadyExists,
        Status::PermissionDenied,
        Status::ResourceExhausted,
        Status::FailedPrecondition,
        Status::Aborted,
        Status::OutOfRange,
        Status::Unimplemented,
        Status::Internal,
        Status::Unavailable,
        Status::DataLoss,
        Status::Unauthenticated,
    ];

    /// The number in `grpc-status`.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The status with this number; `Unknown` for a number that gRPC does not define.
    #[must_use]
    pub fn from_code(code: u32) -> Status {
        Status::ALL.get(code as usize).copied().unwrap_or(Status::Unknown)
    }

    /// The name in capitals, as documentation and other clients print it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Status::Ok => "OK",
            Status::Cancelled => "CANCELLED",
            Status::Unknown => "UNKNOWN",
            Status::InvalidArgument => "INVALID_ARGUMENT",
            Status::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Status::NotFound => "NOT_FOUND",
            Status::AlreadyExists => "ALREADY_EXISTS",
            Status::PermissionDenied => "PERMISSION_DENIED",
            Status::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Status::FailedPrecondition => "FAILED_PRECONDITION",
            Status::Aborted => "ABORTED",
            Status::OutOfRange => "OUT_OF_RANGE",
            Status::Unimplemented => "UNIMPLEMENTED",
            Status::Internal => "INTERNAL",
            Status::Unavailable => "UNAVAILABLE",
            Status::DataLoss => "DATA_LOSS",
            Status::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

/// What stands before a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// The first octet is not zero.
    pub compressed: bool,
    /// Octets of the message.
    pub len: u32,
}

impl Prefix {
    /// The prefix that `octets` are.
    #[inline(always)]
    #[must_use]
    pub const fn read(octets: &[u8; PREFIX_BYTES]) -> Prefix {
        let [flag, a, b, c, d] = *octets;
        Prefix { compressed: flag != 0, len: u32::from_be_bytes([a, b, c, d]) }
    }
}

/// The prefix of an uncompressed message of `len` octets.
#[inline(always)]
#[must_use]
pub fn prefix(len: usize) -> [u8; PREFIX_BYTES] {
    assert!(len <= u32::MAX as usize, "a message of {len} octets has no prefix");
    let [a, b, c, d] = (len as u32).to_be_bytes();
    [0, a, b, c, d]
}

/// A `grpc-timeout`: one to eight digits and a unit. `None` when it is malformed.
#[must_use]
pub fn timeout(value: &[u8]) -> Option<Span> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > TIMEOUT_DIGITS_MAX {
        return None;
    }
    let mut count = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        count = count * 10 + u64::from(digit - b'0');
    }
    let (_, nanos) = UNITS.iter().find(|(name, _)| name == unit)?;
    // 99 999 999 hours are 3.6e20 ns: the far end of time.
    Some(Span(count.saturating_mul(*nanos)))
}

/// Puts a `grpc-timeout` that is never shorter than `span` and at most 1 part in 10^5 longer.
pub fn put_timeout(span: Span, out: &mut Vec<u8>) {
    let mut units = UNITS.iter().filter_map(|&(name, nanos)| {
        let count = span.0.div_ceil(nanos);
        (count < 10u64.pow(TIMEOUT_DIGITS_MAX as u32)).then_some((count, name))
    });
    let (count, name) = units.next().unwrap_or((99_999_999, b'H'));
    out.extend_from_slice(count.to_string().as_bytes());
    out.push(name);
}

const TIMEOUT_DIGITS_MAX: usize = 8;

/// Units of a timeout from the finest on, in nanoseconds.
const UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// `text` without what is past the bound of a `grpc-message`, cut between characters.
#[must_use]
pub fn bounded_text(text: &str) -> &str {
    let mut end = text.len().min(GRPC_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Octets that `put_text` puts for `text`.
#[must_use]
pub fn text_len(text: &str) -> usize {
    text.bytes().map(|octet| if is_plain(octet) { 1 } else { 3 }).sum()
}

/// Puts `text` percent-encoded, as `grpc-message` wants it.
pub fn put_text(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for octet in text.bytes() {
        if is_plain(octet) {
            out.push(octet);
        } else {
            out.extend_from_slice(&[
                b'%',
                HEX[usize::from(octet >> 4)],
                HEX[usize::from(octet & 15)],
            ]);
        }
    }
}

/// The text that a `grpc-message` carries. A `%` that two hex digits do not follow stands for
/// itself and what is not UTF-8 becomes U+FFFD: a status is never lost over its text.
#[must_use]
pub fn text(value: &[u8]) -> String {
    let hex = |octet: &u8| char::from(*octet).to_digit(16);
    let mut octets = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [first, behind @ ..] = rest {
        rest = behind;
        if let (b'%', [high, low, after @ ..]) = (first, behind)
            && let (Some(high), Some(low)) = (hex(high), hex(low))
        {
            octets.push((high << 4 | low) as u8);
            rest = after;
            continue;
        }
        octets.push(*first);
    }
    String::from_utf8_lossy(&octets).into_owned()
}

const fn is_plain(octet: u8) -> bool {
    matches!(octet, b' '..=b'~') && octet != b'%'
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn statuses_stand_at_their_numbers() {
        for (number, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(status.code()), number);
            assert_eq!(Status::from_code(number as u32), status);
        }
        assert_eq!(Status::from_code(17), Status::Unknown);
    }

    #[test]
    fn timeouts() {
        assert_eq!(timeout(b"20S"), Some(Span::secs(20)));
        assert_eq!(timeout(b"99999999u"), Some(Span::micros(99_999_999)));
        assert_eq!(timeout(b"99999999H"), Some(Span(u64::MAX)));
        assert_eq!(timeout(b"0n"), Some(Span::ZERO));
        for bad in [&b""[..], b"S", b"20", b"123456789n", b"-1S", b"1.5S", b"1s", b" 1S"] {
            assert_eq!(timeout(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn a_timeout_is_never_put_shorter() {
        let mut prng = crate::prng::Prng::new(8);
        for _ in 0..10_000 {
            let bits = prng.below(63);
            let span = Span(prng.next_u64() >> bits);
            let mut out = Vec::new();
            put_timeout(span, &mut out);
            let back = timeout(&out).unwrap();
            assert!(back >= span && back.0 as f64 <= span.0 as f64 * 1.000_02 + 1.0, "{span}");
        }
    }

    #[test]
    fn texts_read_back() {
        for original in ["", "plain", "50 % of\r\n", "schlüssel", "\u{1f980} \0"] {
            let mut out = Vec::new();
            put_text(original, &mut out);
            assert_eq!(out.len(), text_len(original));
            assert!(out.iter().all(|octet| matches!(octet, b' '..=b'~')));
            assert_eq!(text(&out), original);
        }
        assert_eq!(text(b"100% %zz %4"), "100% %zz %4");
        assert_eq!(text(b"%ff"), "\u{fffd}");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "ü".repeat(GRPC_TEXT_BYTES_MAX);
        let cut = bounded_text(&long);
        assert!(cut.len() <= GRPC_TEXT_BYTES_MAX && cut.len() > GRPC_TEXT_BYTES_MAX - 2);
    }
}
