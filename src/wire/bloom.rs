//! The filter that clients send with a keep-alive, bit for bit as theirs (core.md 3.5).
//!
//! JSON text `{"m":…,"k":…,"b":"…"}` of a bits-and-blooms v3 filter over sequence numbers that the
//! client still considers open. A number may be a false positive, never a false negative. Every
//! text is checked here whole (wire.md, decision 8), at the edge before anything is proposed and
//! again in apply, so that what has been parsed cannot fail: no division by zero, no loop over a
//! hostile `k`.

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE};
use serde_json::Value;

use crate::limits::{FILTER_BYTES_MAX, FILTER_TEXT_BYTES_MAX};

/// A set of sequence numbers, possibly with a few more than were put in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// The modulus, above zero.
    m: u64,
    /// Number of probes. 2^63 from an idle client on amd64, where it is a conversion of 0/0.
    k: u64,
    /// Bit i is bit i mod 64 of word i/64; none beyond the declared length.
    words: Vec<u64>,
}

/// Why a text is not a filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed(pub &'static str);

impl Filter {
    /// Reads the text of a filter.
    pub fn parse(text: &[u8]) -> Result<Filter, Malformed> {
        if text.len() > FILTER_TEXT_BYTES_MAX {
            return Err(Malformed("too long"));
        }
        let value: Value = serde_json::from_slice(text).map_err(|_| Malformed("not JSON"))?;
        let Value::Object(object) = value else {
            return Err(Malformed("not an object"));
        };
        let member = |name: &str| {
            let exact = object.get(name);
            exact.or_else(|| {
                object
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value)
            })
        };
        let m = whole(member("m"), "m is not a whole number")?;
        let k = whole(member("k"), "k is not a whole number")?;
        if m == 0 {
            return Err(Malformed("m is zero"));
        }
        let Some(Value::String(encoded)) = member("b") else {
            return Err(Malformed("b is missing"));
        };
        let words = words(&decode_base64(encoded.as_bytes())?)?;
        if k > PROBES_MAX && words.iter().any(|word| *word != 0) {
            return Err(Malformed("k is above 64"));
        }
        Ok(Filter { m, k, words })
    }

    /// The filter of these numbers, made as the published clients make it: for a false-positive
    /// rate of 0.05.
    #[must_use]
    pub fn of(open: &[u64]) -> Filter {
        if open.is_empty() {
            // What the division 0/0 of the published clients gives on amd64: contains nothing.
            return Filter { m: 1, k: 1 << 63, words: Vec::new() };
        }
        let count = open.len() as f64;
        let m = (-count * 0.05f64.ln() / std::f64::consts::LN_2.powi(2)).ceil() as u64;
        let k = (std::f64::consts::LN_2 * m as f64 / count).ceil() as u64;
        let mut words = vec![0; m.div_ceil(64) as usize];
        for number in open {
            let key = number.to_be_bytes();
            let (first, second) = (murmur(&key, 8), murmur(&key, 9));
            for i in 0..k {
                let at = probe(first, second, i) % m;
                words[(at / 64) as usize] |= 1 << (at % 64);
            }
        }
        Filter { m, k, words }
    }

    /// Its text, bit for bit that of the published clients when `of` made it.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // The length and the words; an idle client's filter has one word and declares none.
        let length = if self.words.is_empty() { 0 } else { self.m };
        let words = std::iter::once(&length).chain(&self.words);
        let raw: Vec<u8> = words.flat_map(|word| word.to_be_bytes()).collect();
        let text = URL_SAFE.encode(raw);
        format!(r#"{{"m":{},"k":{},"b":"{text}"}}"#, self.m, self.k).into_bytes()
    }

    /// Whether it holds nothing at all, as an idle client's does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0) && (self.k > 0 || self.words.is_empty())
    }

    /// Whether `number` may be in the set.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        if self.words.is_empty() {
            return false;
        }
        let key = number.to_be_bytes();
        // Half of the numbers that are not in the set stop at the first probe, which needs one hash
        // only.
        let (h0, h1) = murmur(&key, 8);
        if self.k == 0 {
            return true;
        }
        if !self.bit(h0 % self.m) {
            return false;
        }
        let (h2, h3) = murmur(&key, 9);
        for i in 1..self.k {
            if !self.bit(probe((h0, h1), (h2, h3), i) % self.m) {
                return false;
            }
        }
        true
    }

    /// Memory that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Filter>() + self.words.len() * 8
    }

    fn bit(&self, at: u64) -> bool {
        let word = usize::try_from(at / 64).ok().and_then(|place| self.words.get(place));
        word.is_some_and(|word| word >> (at % 64) & 1 == 1)
    }
}

/// The reference's clients use 5. More than this with any bit set would cost more than it is worth.
const PROBES_MAX: u64 = 64;

fn whole(value: Option<&Value>, what: &'static str) -> Result<u64, Malformed> {
    match value {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value.as_u64().ok_or(Malformed(what)),
    }
}

/// The words behind their length: 8 bytes big-endian bit count, then words of 8 bytes big-endian.
fn words(bytes: &[u8]) -> Result<Vec<u64>, Malformed> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(Malformed("b has no length"));
    };
    let bits = u64::from_be_bytes(*length);
    let count = usize::try_from(bits.div_ceil(64)).map_err(|_| Malformed("b is too long"))?;
    if count > FILTER_BYTES_MAX / 8 {
        return Err(Malformed("b is too long"));
    }
    if rest.len() / 8 < count {
        return Err(Malformed("b has too few words"));
    }
    let mut words: Vec<u64> =
        rest.as_chunks::<8>().0.iter().take(count).map(|word| u64::from_be_bytes(*word)).collect();
    if let Some(last) = words.last_mut()
        && bits % 64 != 0
    {
        *last &= (1 << (bits % 64)) - 1;
    }
    Ok(words)
}

/// URL-safe base64 with padding. Line breaks are skipped, as Go's decoder does.
fn decode_base64(text: &[u8]) -> Result<Vec<u8>, Malformed> {
    let text: Vec<u8> =
        text.iter().filter(|byte| !matches!(byte, b'\r' | b'\n')).copied().collect();
    // Go takes any bits behind the last whole byte, so we do.
    URL_SAFE_LENIENT.decode(text).map_err(|_| Malformed("b is not base64"))
}

/// Where hash `i` looks, before the modulus; the pairs are the hashes of the key and of the longer
/// key.
fn probe((h0, h1): (u64, u64), (h2, h3): (u64, u64), i: u64) -> u64 {
    let base = if i.is_multiple_of(2) { h0 } else { h1 };
    let step = if matches!(i % 4, 1 | 2) { h3 } else { h2 };
    base.wrapping_add(i.wrapping_mul(step))
}

const URL_SAFE_LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// MurmurHash3 x64 128-bit, seed 0, of the 8 bytes of `key`, or of them and one byte 0x01 when
/// `length` is 9. Both are shorter than a block, so only the tail and the end of the algorithm take
/// part.
fn murmur(key: &[u8; 8], length: u64) -> (u64, u64) {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let mut h1 = u64::from_le_bytes(*key).wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let mut h2 = 0u64;
    if length == 9 {
        h2 = 1u64.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    }
    h1 ^= length;
    h2 ^= length;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    h1 = scatter(h1);
    h2 = scatter(h2);
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    (h1, h2)
}

fn scatter(mut k: u64) -> u64 {
    k = (k ^ k >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    k = (k ^ k >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ k >> 33
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::Prng;

    /// The vectors of core.md, appendix B.
    #[test]
    fn hashes_are_those_of_the_reference() {
        let expected = [
            (
                1u64,
                0x5752fae69d1653da,
                0x80d26b9fc2bbad56,
                0x6e16941fe4a6c305,
                0xa8a40f915b89d8edu64,
            ),
            (2, 0x8df0aa85e22a3a8f, 0xd69996488d54f0f3, 0x5a6fb9feff31a8a4, 0x208c458a3395a094),
            (3, 0x904df22b829a86bd, 0x2dc6b1fa746c772b, 0xfab9744c8b5d4444, 0x60d34c290caa2d44),
            (300, 0x1579f74b68dbc0bd, 0x687b9b267c0228b9, 0xe8624dd2cb4ee7db, 0x610d03af936b585c),
        ];
        for (number, h0, h1, h2, h3) in expected {
            let key = u64::to_be_bytes(number);
            assert_eq!(murmur(&key, 8), (h0, h1), "{number}");
            assert_eq!(murmur(&key, 9), (h2, h3), "{number}");
        }
    }

    /// The vectors of core.md, appendix B, with their false positives.
    #[test]
    fn members_are_those_of_the_reference() {
        let upto20: Vec<u64> =
            (1..=20).chain([57, 67, 143, 159, 173, 222, 229, 237, 239]).collect();
        let cases: [(&str, &[u64]); 6] = [
            (r#"{"m":1,"k":9223372036854775808,"b":"AAAAAAAAAAA="}"#, &[]),
            (r#"{"m":7,"k":5,"b":"AAAAAAAAAAcAAAAAAAAAFQ=="}"#, &[1, 8, 121, 160, 249, 253, 290]),
            (r#"{"m":13,"k":5,"b":"AAAAAAAAAA0AAAAAAAAZFA=="}"#, &[1, 2, 168, 254, 280]),
            (r#"{"m":19,"k":5,"b":"AAAAAAAAABMAAAAAAAYgtQ=="}"#, &[1, 2, 3, 224]),
            (
                r#"{"m":19,"k":5,"b":"AAAAAAAAABMAAAAAAAVBTw=="}"#,
                &[5, 7, 9, 46, 166, 184, 282, 295, 300],
            ),
            (r#"{"m":125,"k":5,"b":"AAAAAAAAAH3VGlW1zsAD3hulX25b0lyN"}"#, &upto20),
        ];
        for (text, members) in cases {
            let filter = Filter::parse(text.as_bytes()).expect(text);
            let found: Vec<u64> = (0..310).filter(|n| filter.contains(*n)).collect();
            assert_eq!(found, members, "{text}");
            assert_eq!(filter.is_empty(), members.is_empty(), "{text}");
        }
        assert_eq!(Filter::of(&[5, 7, 300]).to_json(), cases[4].0.as_bytes());
        assert_eq!(Filter::of(&(1..=20).collect::<Vec<_>>()).to_json(), cases[5].0.as_bytes());
        assert_eq!(Filter::of(&[]).to_json(), cases[0].0.as_bytes());
        assert_eq!(Filter::of(&[1]).to_json(), cases[1].0.as_bytes());
    }

    /// What crashed the reference inside apply, and what it let pass (core.md D5, wire.md decision
    /// 8).
    #[test]
    fn texts_that_are_no_filter_are_refused() {
        let bits = |length: u64| {
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.resize(16, 0);
            bytes
        };
        assert!(words(&bits(64)).is_ok());
        assert_eq!(words(&bits(65)), Err(Malformed("b has too few words")));
        assert_eq!(words(&bits(u64::MAX)), Err(Malformed("b is too long")));
        for text in [
            "",
            "nonsense",
            "{}",
            "null",
            "[]",
            r#"{"m":0,"k":1,"b":"AAAAAAAAAAA="}"#,
            r#"{"m":1,"k":1}"#,
            r#"{"m":1,"k":1,"b":null}"#,
            r#"{"m":1,"k":1,"b":""}"#,
            r#"{"m":-1,"k":1,"b":"AAAAAAAAAAA="}"#,
            r#"{"m":1.5,"k":1,"b":"AAAAAAAAAAA="}"#,
            r#"{"m":1,"k":18446744073709551616,"b":"AAAAAAAAAAA="}"#,
            r#"{"m":1,"k":1,"b":"AAAAAAAAAAA"}"#,
            r#"{"m":1,"k":1,"b":"AAAAAAAAAA+="}"#,
            r#"{"m":7,"k":65,"b":"AAAAAAAAAAcAAAAAAAAAFQ=="}"#,
            r#"{"m":7,"k":5,"b":"AAAAAAAAAAc="}"#,
        ] {
            assert!(Filter::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn texts_that_go_takes_are_taken() {
        for text in [
            r#" { "K" : 1 , "other" : [ 1 ] , "M" : 1 , "b" : "AAAAAAAAAAA=" } "#,
            r#"{"m":7,"k":5,"b":"AAAAAAAAAAcAAAAAAAAAFQAA"}"#,
            r#"{"m":7,"k":9223372036854775808,"b":"AAAAAAAAAAcAAAAAAAAAAA=="}"#,
        ] {
            assert!(Filter::parse(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn any_mutation_is_read_or_refused() {
        let mut prng = Prng::new(5);
        let text = Filter::of(&[5, 7, 300]).to_json();
        for _ in 0..20_000 {
            let mut text = text.clone();
            for _ in 0..prng.between(1, 4) {
                let at = prng.below(text.len() as u64) as usize;
                text[at] = prng.below(128) as u8;
            }
            if let Ok(filter) = Filter::parse(&text) {
                for number in 0..4 {
                    let _ = filter.contains(number);
                }
            }
        }
    }
}
