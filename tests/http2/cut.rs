//! Random conversations: however they are cut, output and events are the same; however they are
//! mutated, nothing panics and nothing grows.

use ringraft::prng::Prng;
use ringraft::wire::http2::Limits;
use ringraft::wire::http2::frame::{FRAME_BYTES_MAX, flag, kind, setting};

use crate::peer::{Client, Server, framed, literal, request};

const CONVERSATIONS: u64 = 500;
const MUTATIONS: u64 = 3000;

#[test]
fn cuts_change_nothing() {
    let mut fatal = 0;
    for seed in 0..CONVERSATIONS {
        let mut prng = Prng::new(seed);
        let octets = conversation(&mut prng);
        let whole = run(&octets, |_| octets.len());
        let random = run(&octets, |_| 1 + prng.below(300) as usize);
        let single = run(&octets, |_| 1);
        assert!(whole == random, "seed {seed}: random cuts\n{}\n{}", whole.0, random.0);
        assert!(whole == single, "seed {seed}: octet by octet\n{}\n{}", whole.0, single.0);
        fatal += u64::from(whole.0.contains("fatal"));
    }
    let share = fatal * 100 / CONVERSATIONS;
    assert!((5..70).contains(&share), "{share} % end in an error: the mix is off");
}

#[test]
fn mutations_do_no_harm() {
    for seed in 0..MUTATIONS {
        let mut prng = Prng::new(seed << 20);
        let mut octets = conversation(&mut prng);
        for _ in 0..=prng.below(8) {
            mutate(&mut octets, &mut prng);
        }
        let mut server = Server::new(small_limits());
        server.releases = prng.chance(500);
        for piece in octets.chunks(1 + prng.below(5000) as usize) {
            server.hear(piece);
            if prng.chance(300) {
                server.write_some(prng.below(2000) as usize);
            }
            assert!(server.kept.len() <= FRAME_BYTES_MAX + 9, "seed {seed}");
            let bytes = server.conn.buffered_bytes();
            assert!(bytes < 4 << 20, "seed {seed}: {bytes} octets in buffers");
        }
        server.conn.tick(prng.below(1 << 20));
        server.write();
        server.conn.shutdown();
        server.conn.tick(1 << 30);
        server.hear(&[]);
    }
}

/// Bodies of frames that are noise from the first octet on.
#[test]
fn noise_does_no_harm() {
    for seed in 0..MUTATIONS {
        let mut prng = Prng::new(seed << 40);
        let mut client = Client::greeted();
        for _ in 0..20 {
            let body: Vec<u8> =
                (0..prng.below(60)).map(|nth| (prng.next_u64() >> nth) as u8).collect();
            let (kind, flags) = (prng.below(11) as u8, prng.next_u64() as u8);
            client.frame(kind, flags, prng.below(9) as u32, &body);
        }
        let mut server = Server::new(small_limits());
        server.hear(&client.out);
        server.write();
    }
}

/// What the application heard and all that was sent, when so many octets come at a time.
fn run(octets: &[u8], mut next: impl FnMut(usize) -> usize) -> (String, Vec<u8>) {
    let mut server = Server::new(small_limits());
    let mut at = 0;
    while at < octets.len() {
        let end = (at + next(at)).min(octets.len());
        server.hear(&octets[at..end]);
        at = end;
    }
    server.sent.extend_from_slice(server.conn.output());
    (server.log, server.sent)
}

fn small_limits() -> Limits {
    Limits {
        streams: 8,
        stream_window_bytes: 40_000,
        connection_window_bytes: 100_000,
        header_list_bytes: 2000,
        message_bytes: 50_000,
        assembly_bytes: 60_000,
        held_bytes: 300_000,
        output_high_bytes: 1 << 20,
        idle_frames_burst: 40,
        resets_burst: 12,
        discard_bytes: 2000,
        ..Limits::default()
    }
}

/// A client that mostly behaves.
fn conversation(prng: &mut Prng) -> Vec<u8> {
    let mut client = Client::greeted();
    open(&mut client, prng, 1);
    let mut next_id = 3;
    for _ in 0..5 + prng.below(40) {
        step(&mut client, prng, &mut next_id);
    }
    client.out
}

fn step(client: &mut Client, prng: &mut Prng, next_id: &mut u32) {
    // Now and then a stream that was never opened.
    let idle = u64::from(prng.chance(5)) * 2;
    let some_id = prng.below(u64::from(*next_id) - 1 + idle) as u32 | 1;
    match prng.below(100) {
        0..=39 => {
            let id = *next_id;
            *next_id += 2;
            open(client, prng, id);
        }
        40..=54 => {
            let content = content(prng);
            let end = prng.chance(400);
            let padding = prng.below(20) as u8;
            if prng.chance(200) {
                let padded = [&[padding], &content[..], &vec![0; usize::from(padding)]].concat();
                client.frame(kind::DATA, flag::PADDED | u8::from(end), some_id, &padded);
            } else {
                client.data(some_id, &content, end);
            }
        }
        55..=64 => {
            client.window(some_id, prng.below(100_000) as u32);
        }
        65..=74 => {
            client.window(0, 1 + prng.below(200_000) as u32);
        }
        75..=79 => {
            client.reset(some_id);
        }
        80..=84 => {
            client.settings(&[(setting::INITIAL_WINDOW_SIZE, prng.below(200_000) as u32)]);
        }
        85..=86 => {
            client.settings(&[(setting::HEADER_TABLE_SIZE, prng.below(300) as u32)]);
        }
        87..=94 => {
            client.ping(prng.next_u64());
        }
        95 => {
            client.frame(kind::PRIORITY, 0, some_id, &[0, 0, 0, prng.below(8) as u8, 9]);
        }
        96 => {
            client.frame(prng.below(256) as u8, prng.next_u64() as u8, some_id, &[1, 2, 3, 4]);
        }
        97 if prng.chance(200) => {
            client.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, some_id, &[]);
        }
        _ => {
            client.frame(kind::GOAWAY, 0, 0, &[0; 8]);
        }
    }
}

/// One call, or most of one.
fn open(client: &mut Client, prng: &mut Prng, id: u32) {
    let path = *prng.pick(&["/t.T/Echo", "/t.T/Many", "/t.T/Chat", "/t.T/Hang", "/t.T/No"]);
    let more: &[(&str, &str)] = match prng.below(12) {
        0 => &[("grpc-timeout", "5S")],
        1 => &[("grpc-timeout", "later")],
        2 => &[("grpc-encoding", "gzip")],
        3 => &[("te", "gzip")],
        4 => &[("x-custom", "1"), ("authorization", "none")],
        5 => &[("content-length", "13")],
        _ => &[],
    };
    let mut block = request(path, more);
    if prng.chance(300) {
        literal(&mut block, 0x40, b"x-table", &vec![b'v'; prng.below(3000) as usize]);
    } else if prng.chance(5) {
        block.push(0x80 | (62 + prng.below(3)) as u8);
    }
    let end = u8::from(prng.chance(50));
    if prng.chance(150) {
        let cut = prng.below(block.len() as u64) as usize;
        client.frame(kind::HEADERS, end, id, &block[..cut]);
        client.frame(kind::CONTINUATION, flag::END_HEADERS, id, &block[cut..]);
    } else {
        client.frame(kind::HEADERS, flag::END_HEADERS | end, id, &block);
    }
    if path.ends_with("Many") {
        client.data(
            id,
            &framed(&[0, 0, 0, prng.below(9) as u8, 0, 0, prng.next_u64() as u8, 9]),
            true,
        );
        return;
    }
    for _ in 0..prng.below(4) {
        let end = prng.chance(500);
        client.data(id, &content(prng), end);
        if end {
            return;
        }
    }
}

/// Messages, some of them in parts.
fn content(prng: &mut Prng) -> Vec<u8> {
    let mut content = Vec::new();
    for _ in 0..=prng.below(3) {
        let bits = prng.below(13);
        let len = prng.below(1 << bits) as usize;
        content.extend_from_slice(&framed(&vec![len as u8; len]));
    }
    if prng.chance(200) {
        content.truncate(prng.below(content.len() as u64) as usize);
    }
    if prng.chance(30) && !content.is_empty() {
        content.rotate_left(1);
    }
    content.truncate(FRAME_BYTES_MAX - 64);
    content
}

fn mutate(octets: &mut Vec<u8>, prng: &mut Prng) {
    let at = |prng: &mut Prng, octets: &Vec<u8>| 24 + prng.below(octets.len() as u64 - 23) as usize;
    let (a, b) = (at(prng, octets).min(octets.len()), at(prng, octets).min(octets.len()));
    let (a, b) = (a.min(b), a.max(b).min(a.min(b) + 400));
    match prng.below(5) {
        0 => {
            octets.drain(a..b);
        }
        1 => {
            let copy = octets[a..b].to_vec();
            octets.splice(b..b, copy);
        }
        2 => octets[a..b].iter_mut().for_each(|octet| *octet = prng.next_u64() as u8),
        3 => {
            let noise: Vec<u8> = (0..prng.below(30)).map(|_| prng.next_u64() as u8).collect();
            octets.splice(a..a, noise);
        }
        _ => {
            if let Some(octet) = octets.get_mut(a) {
                *octet ^= 1 << prng.below(8);
            }
        }
    }
}
