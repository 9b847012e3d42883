//! The filter of a keep-alive: which requests of the session are still open, a few bits for each.
//!
//! Bit for bit what the published clients write (core.md 3.5): the JSON text of a Bloom filter made
//! for a false-positive rate of 0.05, hashed with MurmurHash3 x64-128. Only the writer is here; the
//! node's reader is `wire/bloom.rs`. A false positive delays the node's clean-up until the next
//! keep-alive, a false negative does not exist.

/// Which sequence numbers are open, as the bytes of `KeepAliveInput.input_filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    bits: u64,
    hashes: u64,
    words: Vec<u64>,
}

impl Filter {
    /// The filter of these numbers.
    #[must_use]
    pub fn of(open: &[u64]) -> Filter {
        if open.is_empty() {
            // What the division 0/0 of the published clients gives on amd64: contains nothing.
            return Filter { bits: 1, hashes: 1 << 63, words: Vec::new() };
        }
        let count = open.len() as f64;
        let bits = (-count * 0.05f64.ln() / std::f64::consts::LN_2.powi(2)).ceil() as u64;
        let hashes = (std::f64::consts::LN_2 * bits as f64 / count).ceil() as u64;
        let words = vec![0; bits.div_ceil(64) as usize];
        let mut filter = Filter { bits, hashes, words };
        for number in open {
            filter.add(*number);
        }
        filter
    }

    /// The JSON text that goes to the node.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let length = if self.words.is_empty() { 0 } else { self.bits };
        let raw: Vec<u8> = std::iter::once(&length)
            .chain(&self.words)
            .flat_map(|word| word.to_be_bytes())
            .collect();
        let text = base64(&raw);
        format!("{{\"m\":{},\"k\":{},\"b\":\"{text}\"}}", self.bits, self.hashes).into_bytes()
    }

    fn add(&mut self, number: u64) {
        let mut key = [0; 9];
        key[..8].copy_from_slice(&number.to_be_bytes());
        key[8] = 1;
        let (first, second) = (murmur3(&key[..8]), murmur3(&key));
        for i in 0..self.hashes {
            let base = if i.is_multiple_of(2) { first.0 } else { first.1 };
            let step = if matches!(i % 4, 1 | 2) { second.1 } else { second.0 };
            let at = base.wrapping_add(i.wrapping_mul(step)) % self.bits;
            self.words[(at / 64) as usize] |= 1 << (at % 64);
        }
    }
}

/// URL-safe base64 with padding.
#[must_use]
pub fn base64(raw: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(raw.len().div_ceil(3) * 4);
    for piece in raw.chunks(3) {
        let byte = |i: usize| u32::from(piece.get(i).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= piece.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// MurmurHash3 x64-128 with seed 0, of fewer than 16 bytes: all that is hashed here has 8 or 9.
fn murmur3(data: &[u8]) -> (u64, u64) {
    const C1: u64 = 0x87C3_7B91_1142_53D5;
    const C2: u64 = 0x4CF5_AD43_2745_937F;
    assert!(data.len() < 16, "{} bytes need the block loop", data.len());
    let mut tail = [0; 16];
    tail[..data.len()].copy_from_slice(data);
    let (low, high) = tail.split_at(8);
    let word =
        |half: &[u8]| half.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    let mut h1 = word(low).wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let mut h2 = word(high).wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    h1 ^= data.len() as u64;
    h2 ^= data.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    h1 = scatter(h1);
    h2 = scatter(h2);
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    (h1, h2)
}

fn scatter(mut k: u64) -> u64 {
    k = (k ^ (k >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    k = (k ^ (k >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    k ^ (k >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_specification_come_out_bit_for_bit() {
        // core.md, appendix B.
        let vectors: [(&[u64], &str); 6] = [
            (&[], r#"{"m":1,"k":9223372036854775808,"b":"AAAAAAAAAAA="}"#),
            (&[1], r#"{"m":7,"k":5,"b":"AAAAAAAAAAcAAAAAAAAAFQ=="}"#),
            (&[2], r#"{"m":7,"k":5,"b":"AAAAAAAAAAcAAAAAAAAAXA=="}"#),
            (&[1, 2], r#"{"m":13,"k":5,"b":"AAAAAAAAAA0AAAAAAAAZFA=="}"#),
            (&[1, 2, 3], r#"{"m":19,"k":5,"b":"AAAAAAAAABMAAAAAAAYgtQ=="}"#),
            (&[5, 7, 300], r#"{"m":19,"k":5,"b":"AAAAAAAAABMAAAAAAAVBTw=="}"#),
        ];
        for (open, text) in vectors {
            assert_eq!(String::from_utf8_lossy(&Filter::of(open).to_json()), text, "{open:?}");
        }
        let twenty: Vec<u64> = (1..=20).collect();
        let text = r#"{"m":125,"k":5,"b":"AAAAAAAAAH3VGlW1zsAD3hulX25b0lyN"}"#;
        assert_eq!(String::from_utf8_lossy(&Filter::of(&twenty).to_json()), text);
    }

    #[test]
    fn it_is_sized_as_the_published_clients_size_it() {
        let sizes = [7, 13, 19, 25, 32, 38, 44, 50, 57, 63, 69];
        for (count, bits) in (1u64..).zip(sizes) {
            let filter = Filter::of(&(1..=count).collect::<Vec<_>>());
            assert_eq!((filter.bits, filter.hashes), (bits, 5), "{count} numbers");
        }
        assert_eq!(Filter::of(&(1..=1000).collect::<Vec<_>>()).bits, 6236);
    }
}
