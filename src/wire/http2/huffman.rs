//! The Huffman code of RFC 7541, decoded ten bits at a time from tables worked out at compile time.
//!
//! Codes of up to ten bits (all of the usual characters) take one look; longer ones are found by
//! their length, since the code is canonical. Absent on purpose: an encoder. What we send is short
//! and mostly indexed, so plain literals cost next to nothing.

use super::tables::CODE_BITS;

/// Appends the decoded octets of `coded`. `None`: EOS inside, or padding that is not the beginning
/// of EOS or longer than seven bits.
pub fn decode(coded: &[u8], into: &mut Vec<u8>) -> Option<()> {
    let (mut bits, mut held, mut next) = (0u64, 0u32, 0usize);
    loop {
        while held <= 48 && next < coded.len() {
            bits = bits << 8 | u64::from(coded[next]);
            held += 8;
            next += 1;
        }
        if held == 0 {
            return Some(());
        }
        // The next 32 bits, filled up with ones behind the end.
        let window = if held >= 32 {
            (bits >> (held - 32)) as u32
        } else {
            (bits << (32 - held)) as u32 | u32::MAX >> held
        };
        let (symbol, len) = look_up(window);
        if len > held {
            let rest = (1u64 << held) - 1;
            return (held < 8 && bits & rest == rest).then_some(());
        }
        into.push(u8::try_from(symbol).ok()?);
        held -= len;
    }
}

/// The symbol that `window` begins with and the bits of its code.
#[inline(always)]
fn look_up(window: u32) -> (u16, u32) {
    let short = TABLES.short[(window >> (32 - SHORT_BITS)) as usize];
    if short != 0 {
        return (short >> 4, u32::from(short & 15));
    }
    for len in SHORT_BITS + 1..=LONGEST_BITS {
        let length = len as usize;
        let nth = (window >> (32 - len)).wrapping_sub(TABLES.first[length]);
        if nth < u32::from(TABLES.count[length]) {
            return (TABLES.symbols[usize::from(TABLES.start[length]) + nth as usize], len);
        }
    }
    unreachable!("the code is complete: every 30 bits begin with a symbol");
}

const SHORT_BITS: u32 = 10;
const LONGEST_BITS: u32 = 30;
const SYMBOLS: usize = CODE_BITS.len();

struct Tables {
    /// By the next ten bits: symbol << 4 | length, or 0 when the code is longer.
    short: [u16; 1 << SHORT_BITS],
    /// By length: the first code, where its symbol stands in `symbols`, and how many there are.
    first: [u32; LONGEST_BITS as usize + 1],
    start: [u16; LONGEST_BITS as usize + 1],
    count: [u16; LONGEST_BITS as usize + 1],
    /// Symbols in the order of their codes.
    symbols: [u16; SYMBOLS],
}

static TABLES: Tables = tables();

const fn tables() -> Tables {
    const LENGTHS: usize = LONGEST_BITS as usize + 1;
    let mut t = Tables {
        short: [0; 1 << SHORT_BITS],
        first: [0; LENGTHS],
        start: [0; LENGTHS],
        count: [0; LENGTHS],
        symbols: [0; SYMBOLS],
    };
    let (mut code, mut placed, mut len) = (0u32, 0usize, 1u32);
    while len <= LONGEST_BITS {
        code <<= 1;
        t.first[len as usize] = code;
        t.start[len as usize] = placed as u16;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if CODE_BITS[symbol] as u32 == len {
                if len <= SHORT_BITS {
                    let spare = SHORT_BITS - len;
                    let mut at = (code << spare) as usize;
                    let end = at + (1 << spare);
                    while at < end {
                        t.short[at] = (symbol as u16) << 4 | len as u16;
                        at += 1;
                    }
                }
                t.symbols[placed] = symbol as u16;
                t.count[len as usize] += 1;
                placed += 1;
                code += 1;
            }
            symbol += 1;
        }
        len += 1;
    }
    assert!(placed == SYMBOLS && code == 1 << LONGEST_BITS, "the code is not complete");
    t
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_octet_and_random_strings_read_back() {
        let mut prng = crate::prng::Prng::new(7541);
        let mut texts: Vec<Vec<u8>> = (0..=255).map(|octet| vec![octet]).collect();
        for _ in 0..2000 {
            let len = prng.below(64);
            texts.push((0..len).map(|_| prng.next_u64() as u8).collect());
        }
        for text in texts {
            let mut back = Vec::new();
            assert_eq!(decode(&encode(&text), &mut back), Some(()));
            assert_eq!(back, text);
        }
    }

    #[test]
    fn bad_endings_are_refused() {
        let refused = |coded: &[u8]| decode(coded, &mut Vec::new()).is_none();
        assert!(refused(&[0xff]), "eight bits of padding");
        assert!(refused(&[0xff, 0xff, 0xff, 0xff]), "EOS");
        assert!(refused(&[0b0000_0110]), "padding of another kind: '0', then 110");
        assert!(!refused(&[0b0000_0111]), "'0' and three ones");
    }

    fn encode(text: &[u8]) -> Vec<u8> {
        let (mut out, mut bits, mut held) = (Vec::new(), 0u64, 0u32);
        for &octet in text {
            let len = u32::from(CODE_BITS[usize::from(octet)]);
            bits = bits << len | u64::from(code(u16::from(octet)));
            held += len;
            while held >= 8 {
                held -= 8;
                out.push((bits >> held) as u8);
            }
        }
        if held > 0 {
            out.push((bits << (8 - held)) as u8 | 0xff >> held);
        }
        out
    }

    fn code(symbol: u16) -> u32 {
        let len = usize::from(CODE_BITS[usize::from(symbol)]);
        let start = usize::from(TABLES.start[len]);
        let same = &TABLES.symbols[start..start + usize::from(TABLES.count[len])];
        TABLES.first[len] + same.iter().position(|&s| s == symbol).unwrap() as u32
    }
}
