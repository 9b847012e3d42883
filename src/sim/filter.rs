//! The filter of open requests that a client sends with a keep-alive, written as the published
//! clients write it (core.md 3.5) and independently of the server's reader, so that each checks the
//! other.

/// The JSON text of the filter that holds exactly these numbers and its false positives.
#[must_use]
pub fn filter(open: &[u64]) -> Vec<u8> {
    if open.is_empty() {
        // What 0/0 becomes in the clients' arithmetic on amd64.
        return br#"{"m":1,"k":9223372036854775808,"b":"AAAAAAAAAAA="}"#.to_vec();
    }
    let bits = bits_for(open.len());
    let mut words = vec![0_u64; bits.div_ceil(64) as usize];
    for number in open {
        for place in places(*number, bits) {
            words[(place / 64) as usize] |= 1 << (place % 64);
        }
    }
    let mut bytes = bits.to_be_bytes().to_vec();
    for word in words {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    format!(r#"{{"m":{bits},"k":{HASHES},"b":"{}"}}"#, base64(&bytes)).into_bytes()
}

/// Whether the filter of `open` holds `number`, falsely or not.
#[must_use]
pub fn holds(open: &[u64], number: u64) -> bool {
    if open.is_empty() {
        return false;
    }
    let bits = bits_for(open.len());
    let mut set: Vec<u64> = open.iter().flat_map(|number| places(*number, bits)).collect();
    set.sort_unstable();
    places(number, bits).iter().all(|place| set.binary_search(place).is_ok())
}

/// `ceil(n * -ln 0.05 / ln² 2)`: 7, 13, 19, 25, 32 …
fn bits_for(open: usize) -> u64 {
    let per_number = -(0.05_f64.ln()) / (std::f64::consts::LN_2 * std::f64::consts::LN_2);
    (open as f64 * per_number).ceil() as u64
}

fn places(number: u64, bits: u64) -> [u64; HASHES as usize] {
    let key = number.to_be_bytes();
    let mut longer = [0; 9];
    longer[..8].copy_from_slice(&key);
    longer[8] = 1;
    let ([h0, h1], [h2, h3]) = (murmur(&key), murmur(&longer));
    std::array::from_fn(|at| {
        let i = at as u64;
        let base = if i.is_multiple_of(2) { h0 } else { h1 };
        let step = if matches!(i % 4, 1 | 2) { h3 } else { h2 };
        base.wrapping_add(i.wrapping_mul(step)) % bits
    })
}

/// MurmurHash3 x64 128 with seed 0, of fewer than 16 bytes.
fn murmur(key: &[u8]) -> [u64; 2] {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    assert!(key.len() < 16, "only the tail is implemented");
    let mut tail = [0; 16];
    tail[..key.len()].copy_from_slice(key);
    let half = |at: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&tail[at..at + 8]);
        u64::from_le_bytes(eight)
    };
    let mut h2 = half(8).wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let mut h1 = half(0).wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    h1 ^= key.len() as u64;
    h2 ^= key.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    h1 = finish(h1);
    h2 = finish(h2);
    h1 = h1.wrapping_add(h2);
    [h1, h2.wrapping_add(h1)]
}

fn finish(mut k: u64) -> u64 {
    k = (k ^ (k >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    k = (k ^ (k >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ (k >> 33)
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let at = |place: usize| u32::from(three.get(place).copied().unwrap_or(0));
        let all = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            if place <= three.len() {
                text.push(char::from(ALPHABET[(all >> (18 - 6 * place) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

const HASHES: u64 = 5;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_those_of_the_published_clients() {
        let texts: [(&[u64], &str); 5] = [
            (&[1], r#"{"m":7,"k":5,"b":"AAAAAAAAAAcAAAAAAAAAFQ=="}"#),
            (&[2], r#"{"m":7,"k":5,"b":"AAAAAAAAAAcAAAAAAAAAXA=="}"#),
            (&[1, 2], r#"{"m":13,"k":5,"b":"AAAAAAAAAA0AAAAAAAAZFA=="}"#),
            (&[1, 2, 3], r#"{"m":19,"k":5,"b":"AAAAAAAAABMAAAAAAAYgtQ=="}"#),
            (&[5, 7, 300], r#"{"m":19,"k":5,"b":"AAAAAAAAABMAAAAAAAVBTw=="}"#),
        ];
        for (open, text) in texts {
            assert_eq!(String::from_utf8_lossy(&filter(open)), text, "{open:?}");
        }
        let twenty: Vec<u64> = (1..=20).collect();
        let text = r#"{"m":125,"k":5,"b":"AAAAAAAAAH3VGlW1zsAD3hulX25b0lyN"}"#;
        assert_eq!(String::from_utf8_lossy(&filter(&twenty)), text);
    }

    #[test]
    fn false_positives_are_those_of_the_published_clients() {
        let held = |open: &[u64]| (0..310).filter(|n| holds(open, *n)).collect::<Vec<_>>();
        assert_eq!(held(&[1]), [1, 8, 121, 160, 249, 253, 290]);
        assert_eq!(held(&[1, 2]), [1, 2, 168, 254, 280]);
        assert!(held(&[]).is_empty());
    }
}
