//! HPACK against the examples of RFC 7541 and against what must not be accepted.

use super::*;
use crate::wire::http2::MethodId;

/// The length of a path is its method; paths of 99 octets name nothing.
fn route(path: &[u8]) -> Option<Route> {
    (path.len() < 99).then_some(Route { method: path.len() as MethodId, single: true })
}

fn decoder() -> Decoder {
    Decoder::new(16 << 10, &route)
}

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

/// Three requests on one connection, RFC 7541 C.3 plain and C.4 with Huffman.
#[test]
fn examples_of_the_rfc() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, huffman] {
        let mut decoder = decoder();
        let mut sizes = Vec::new();
        for (block, path_len) in blocks.into_iter().zip([1, 1, 11]) {
            let request = decoder.request(&octets(block), &route).unwrap();
            assert_eq!(request.target, Target::Known(Route { method: path_len, single: true }));
            assert_eq!(request.verb, Verb::Other);
            sizes.push((decoder.bytes, decoder.len));
        }
        assert_eq!(sizes, [(57, 1), (110, 2), (164, 3)]);
    }
}

/// Responses of RFC 7541 C.5 fill and evict a table of 256 octets; as requests they are malformed,
/// which must not stop the table.
#[test]
fn eviction_and_malformed_blocks_keep_the_table_in_step() {
    let blocks = [
        ("3fe1 01", 0),
        (
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 \
             303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 \
             6f6d",
            222,
        ),
        ("4803 3330 37c1 c0bf", 222),
    ];
    let mut decoder = decoder();
    for (block, bytes) in blocks {
        assert_eq!(decoder.request(&octets(block), &route), Err(Bad::Malformed));
        assert_eq!(decoder.bytes, bytes);
    }
}

#[test]
fn meanings_survive_the_table() {
    let mut decoder = decoder();
    let mut block = vec![0x83, 0x86];
    for (index, name, value) in
        [(4, "", "/a.B/C"), (31, "", "application/grpc+proto"), (0, "grpc-timeout", "100m")]
    {
        block.push(0x40 | index);
        if index == 0 {
            block.push(name.len() as u8);
            block.extend_from_slice(name.as_bytes());
        }
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
    }
    let first = decoder.request(&block, &route).unwrap();
    assert!(first.is_grpc && first.verb == Verb::Post && !first.is_compressed);
    assert_eq!(first.timeout_ns, 100_000_000);
    let second = decoder.request(&[0x83, 0x86, 0xc0, 0xbf, 0xbe], &route).unwrap();
    assert_eq!(first, second);
    let without = decoder.request(&[0x83, 0x86, 0xc0, 0xbf], &route).unwrap();
    assert_eq!(without.timeout_ns, u64::MAX);
}

#[test]
fn the_text_of_a_stray_path_is_kept_for_a_while() {
    let mut decoder = decoder();
    let mut block = vec![0x83, 0x86, 0x44, 99];
    block.extend_from_slice(&[b'/'; 99]);
    let Target::Stray(number) = decoder.request(&block, &route).unwrap().target else {
        panic!("it names nothing")
    };
    assert_eq!(decoder.stray_path(number), Some(&[b'/'; 99][..]));
    let again = decoder.request(&[0x83, 0x86, 0xbe], &route).unwrap();
    assert_eq!(again.target, Target::Stray(number));
    for _ in 0..STRAY_PATHS_MAX {
        decoder.request(&block, &route).unwrap();
    }
    assert_eq!(decoder.stray_path(number), None);
    assert_eq!(decoder.stray.len(), STRAY_PATHS_MAX);
}

#[test]
fn what_is_out_of_step_is_an_error_of_the_connection() {
    for block in [
        "80",                // index 0
        "be",                // nothing in the table
        "ff ff ff ff ff 7f", // an integer without end
        "82 20",             // a size behind a field
        "3f e2 1f",          // a size above what we announced
        "44 05 2f",          // a string past the end
        "44 81 ff",          // bad padding
        "7f",                // a cut integer
        "40 01 61",          // a name without a value
    ] {
        assert_eq!(decoder().request(&octets(block), &route), Err(Bad::Compression), "{block}");
    }
}

#[test]
fn the_largest_entry_empties_the_table() {
    let mut decoder = decoder();
    let mut block = vec![0x40, 1, b'a', 1, b'b'];
    let _ = decoder.request(&block, &route);
    assert_eq!((decoder.len, decoder.bytes), (1, 34));
    block = vec![0x40, 1, b'a'];
    block.extend_from_slice(&[0x7f, 0x81, 0x3f]);
    block.extend_from_slice(&[b'x'; 0x7f + 1 + (0x3f << 7)]);
    let _ = decoder.request(&block, &route);
    assert_eq!((decoder.len, decoder.bytes), (0, 0));
    assert!(decoder.value.capacity() <= SCRATCH_BYTES_KEPT);
}

#[test]
fn integers() {
    let value = |hex, bits| integer(&octets(hex), &mut 0, bits);
    assert_eq!(value("0a", 5), Ok(10));
    assert_eq!(value("1f 9a 0a", 5), Ok(1337));
    assert_eq!(value("2a", 8 - 1), Ok(42));
    assert_eq!(value("7f ff ff ff 7f", 7), Ok(127 + (1 << 28) - 1));
    assert_eq!(value("7f ff ff ff ff 00", 7), Err(Bad::Compression));
}

#[test]
fn content_types() {
    for (value, is) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc;charset=x", true),
        ("Application/GRPC", true),
        ("application/grpc-web", false),
        ("application/grp", false),
        ("", false),
    ] {
        assert_eq!(is_grpc(value.as_bytes()), is, "{value}");
    }
}
