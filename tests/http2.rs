//! HTTP/2 as a value: cut anywhere, mutated, flooded, and held against the h2 crate.
//!
//! `http2/peer.rs` speaks for the client, frame by frame; `http2/cut.rs` feeds random
//! conversations; `http2/guards.rs` floods; `http2/life.rs` lets time pass; `http2/against_h2.rs`
//! compares with another implementation, both ways.

#![allow(clippy::unwrap_used)]

#[cfg(feature = "io")]
#[path = "http2/against_h2.rs"]
mod against_h2;
#[path = "http2/cut.rs"]
mod cut;
#[path = "http2/guards.rs"]
mod guards;
#[path = "http2/life.rs"]
mod life;
#[path = "http2/peer.rs"]
mod peer;

use peer::{Client, Frame, Server, fields, framed, integer, literal, request};
use ringraft::wire::grpc::Status;
use ringraft::wire::http2::Limits;
use ringraft::wire::http2::frame::{flag, kind, setting};

/// A number for octets that does not fit a log line.
pub fn digest(octets: &[u8]) -> u64 {
    octets.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &octet| {
        (sum ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    })
}

const STREAM_ERROR_PROTOCOL: u32 = 1;

#[test]
fn a_unary_call_is_answered_in_three_frames() {
    let mut client = Client::greeted();
    client.call(1, "/t.T/Echo", b"hello").call(3, "/t.T/Echo", b"again");
    let mut server = Server::heard(&client);
    let frames = answers(&mut server);
    let (headers, end) = (flag::END_HEADERS, flag::END_HEADERS | flag::END_STREAM);
    let shape: Vec<_> = frames.iter().map(|f| (f.kind, f.flags, f.stream)).collect();
    assert_eq!(
        shape,
        [
            (kind::HEADERS, headers, 1),
            (kind::DATA, 0, 1),
            (kind::HEADERS, end, 1),
            (kind::HEADERS, headers, 3),
            (kind::DATA, 0, 3),
            (kind::HEADERS, end, 3),
        ]
    );
    assert_eq!(frames[1].body, framed(b"hello"));
    assert_eq!((&frames[3].body[..], &frames[5].body[..]), (&[0x88, 0xbf][..], &[0xbe][..]));
    assert_eq!(server.conn.live(), 0);
}

#[test]
fn a_message_in_any_number_of_frames_is_one_message() {
    let mut client = Client::greeted();
    let message = framed(&[7; 300]);
    client.headers(1, "/t.T/Echo", &[("grpc-timeout", "20S")]);
    for octets in message.chunks(7) {
        client.data(1, octets, false);
    }
    client.data(1, &[], true);
    let mut server = Server::heard(&client);
    assert!(server.log.contains("1 0 Some(20000000000) 300 "), "{}", server.log);
    assert_eq!(answers(&mut server)[1].body, message);
}

#[test]
fn many_messages_in_one_frame_are_many_messages() {
    let mut client = Client::greeted();
    let mut content = Vec::new();
    for len in [0usize, 1, 5, 0, 1000] {
        content.extend_from_slice(&framed(&vec![1; len]));
    }
    client.headers(1, "/t.T/Chat", &[]).data(1, &content[..500], false);
    client.data(1, &content[500..], true).call(3, "/t.T/Echo", b"x");
    let mut server = Server::heard(&client);
    let data: Vec<u8> = answers(&mut server)
        .into_iter()
        .filter(|frame| frame.stream == 1 && frame.kind == kind::DATA)
        .flat_map(|frame| frame.body)
        .collect();
    assert_eq!(data, content);
    assert!(server.log.contains("3 0 None 1 "), "{}", server.log);
}

#[test]
fn padding_is_skipped() {
    let mut client = Client::greeted();
    let mut body = vec![3];
    body.extend_from_slice(&request("/t.T/Chat", &[]));
    body.extend_from_slice(&[0; 3]);
    client.frame(kind::HEADERS, flag::END_HEADERS | flag::PADDED, 1, &body);
    let mut body = vec![200];
    body.extend_from_slice(&framed(b"ab"));
    body.extend_from_slice(&framed(b"cd"));
    body.extend_from_slice(&[0; 200]);
    client.frame(kind::DATA, flag::PADDED | flag::END_STREAM, 1, &body).ping(9);
    let mut server = Server::heard(&client);
    let frames = answers(&mut server);
    assert_eq!(frames.iter().filter(|f| f.kind == kind::DATA).count(), 2);
    assert!(server.log.lines().count() == 2 && server.log.contains("true"), "{}", server.log);
}

/// What the connection answers by itself, with the words it uses.
#[test]
fn refusals() {
    let plain = |more: &[(&str, &str)]| fields(more);
    let cases: Vec<(Vec<u8>, Vec<u8>, &[&str])> = vec![
        (request("/t.T/No", &[]), framed(b"x"), &["grpc-status\u{2}12", "unknown method /t.T/No"]),
        (
            request("/t.T/Echo", &[("grpc-encoding", "gzip")]),
            framed(b"x"),
            &["grpc-status\u{2}12", "grpc-accept-encoding", "identity"],
        ),
        (
            request("/t.T/Echo", &[("grpc-timeout", "1x")]),
            framed(b"x"),
            &["grpc-status\u{2}13", "malformed grpc-timeout"],
        ),
        (request("/t.T/Echo", &[]), vec![], &["grpc-status\u{2}13", "no message"]),
        (
            request("/t.T/Echo", &[]),
            [framed(b"x"), framed(b"y")].concat(),
            &["grpc-status\u{2}13", "more than one message"],
        ),
        (
            request("/t.T/Echo", &[]),
            framed(b"xyz")[..7].to_vec(),
            &["grpc-status\u{2}13", "inside"],
        ),
        (
            request("/t.T/Echo", &[]),
            vec![1, 0, 0, 0, 1, 9],
            &["grpc-status\u{2}13", "compressed flag set"],
        ),
        (
            request("/t.T/Echo", &[]),
            vec![0, 0, 64, 0, 1, 9],
            &["grpc-status\u{1}8", "larger than max (4194305 vs. 4194304)"],
        ),
        (
            plain(&[(":method", "GET"), (":scheme", "http"), (":path", "/")]),
            vec![],
            &["405", "POST", "text/plain", "gRPC"],
        ),
        (
            plain(&[
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/t.T/Echo"),
                ("content-type", "application/json"),
            ]),
            b"{}".to_vec(),
            &["415", "text/plain", "gRPC"],
        ),
    ];
    for (at, (block, content, words)) in cases.into_iter().enumerate() {
        let mut client = Client::greeted();
        client.frame(kind::HEADERS, flag::END_HEADERS, 1, &block).data(1, &content, true);
        client.call(3, "/t.T/Echo", b"still here");
        let mut server = Server::heard(&client);
        let frames = answers(&mut server);
        let (mine, other): (Vec<_>, Vec<_>) = frames.iter().partition(|frame| frame.stream == 1);
        for word in words {
            assert!(mine.iter().any(|frame| frame.says(word)), "case {at}: {word} in {mine:?}");
        }
        assert!(mine.iter().any(|frame| frame.flags & flag::END_STREAM != 0), "case {at}");
        assert_eq!(other.len(), 3, "case {at}: {other:?}");
        assert_eq!(server.conn.live(), 0, "case {at}");
        assert!(!server.log.contains("1 0"), "case {at}: the application heard {}", server.log);
    }
}

#[test]
fn headers_above_the_limit_are_refused_and_stay_in_step() {
    let mut client = Client::greeted();
    let mut block = request("/t.T/Echo", &[]);
    literal(&mut block, 0, b"x-big", &[b'y'; 17_000]);
    literal(&mut block, 0x40, b"x-in-the-table", b"1");
    client.frame(kind::HEADERS, 0, 1, &block[..16_000]);
    client.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &block[16_000..]);
    client.data(1, &framed(b"x"), true);
    // Index 62 is what the refused block has inserted.
    let mut block = request("/t.T/Echo", &[]);
    block.push(0x80 | 62);
    client.frame(kind::HEADERS, flag::END_HEADERS, 3, &block).data(3, &framed(b"x"), true);
    let mut server = Server::heard(&client);
    let frames = answers(&mut server);
    assert!(frames[0].says("grpc-status\u{1}8") && frames[0].stream == 1, "{frames:?}");
    assert!(server.log.starts_with("3 0 None 1 "), "{}", server.log);
}

#[test]
fn malformed_requests_cost_their_stream_only() {
    let pseudo = [(":method", "POST"), (":scheme", "http"), (":path", "/t.T/Echo")];
    let with = |more: &[(&'static str, &'static str)]| fields(pseudo.iter().chain(more));
    let blocks = [
        with(&[("Upper", "x")]),
        with(&[("connection", "close")]),
        with(&[("te", "gzip")]),
        with(&[(":path", "/again")]),
        with(&[(":status", "200")]),
        with(&[("x", "y"), (":authority", "z")]),
        with(&[("x", "line\nbreak")]),
        with(&[("", "y")]),
        with(&[("content-length", "-1")]),
        with(&[("content-length", "1"), ("content-length", "2")]),
        fields(&pseudo[1..]),
        fields(&pseudo[..2]),
        fields(&[(":method", "POST"), (":scheme", "http"), (":path", "")]),
        fields(&[(":method", "CONNECT"), (":scheme", "http"), (":path", "/")]),
    ];
    for (at, block) in blocks.iter().enumerate() {
        let mut client = Client::greeted();
        client.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, block);
        client.call(3, "/t.T/Echo", b"x");
        let mut server = Server::heard(&client);
        let frames = answers(&mut server);
        assert_eq!((frames[0].kind, frames[0].stream), (kind::RST_STREAM, 1), "block {at}");
        assert_eq!(frames[0].number(0), STREAM_ERROR_PROTOCOL, "block {at}");
        assert!(server.log.starts_with("3 0"), "block {at}: {}", server.log);
    }
}

#[test]
fn a_wrong_content_length_is_malformed() {
    for (length, end_apart) in [("6", false), ("8", false), ("6", true), ("0", true)] {
        let mut client = Client::greeted();
        client.headers(1, "/t.T/Echo", &[("content-length", length)]);
        client.data(1, &framed(b"ab"), !end_apart);
        if end_apart {
            client.data(1, &[], true);
        }
        let frames = answers(&mut Server::heard(&client));
        assert_eq!((frames[0].kind, frames[0].number(0)), (kind::RST_STREAM, 1), "{length}");
    }
    let mut client = Client::greeted();
    client.headers(1, "/t.T/Echo", &[("content-length", "7")]).data(1, &framed(b"ab"), true);
    assert_eq!(answers(&mut Server::heard(&client)).len(), 3);
}

#[test]
fn connection_errors() {
    let settings = |values| Client::greeted().settings(values).out.clone();
    let frame = |kind, flags, stream, body: &[u8]| {
        Client::greeted().frame(kind, flags, stream, body).out.clone()
    };
    let mut index = Vec::new();
    integer(&mut index, 0x80, 7, 99);
    let cases = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), 1),
        (frame(kind::DATA, 0, 1, b"x"), 1),
        (frame(kind::HEADERS, flag::END_HEADERS, 2, &request("/t.T/Echo", &[])), 1),
        (frame(kind::HEADERS, flag::END_HEADERS, 0, &request("/t.T/Echo", &[])), 1),
        (frame(kind::HEADERS, flag::END_HEADERS, 1, &index), 9),
        (frame(kind::HEADERS, flag::END_HEADERS, 1, &[0x80]), 9),
        (frame(kind::HEADERS, flag::END_HEADERS, 1, &[0x3f, 0xe2, 0x1f]), 9),
        (frame(kind::CONTINUATION, flag::END_HEADERS, 1, &[]), 1),
        (frame(kind::PUSH_PROMISE, 0, 1, &[0; 4]), 1),
        (frame(kind::RST_STREAM, 0, 5, &[0; 4]), 1),
        (frame(kind::WINDOW_UPDATE, 0, 5, &[0, 0, 0, 1]), 1),
        (frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]), 1),
        (frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3]), 6),
        (frame(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), 3),
        (frame(kind::PING, 0, 0, &[0; 7]), 6),
        (frame(kind::PING, 0, 1, &[0; 8]), 1),
        (frame(kind::SETTINGS, 0, 1, &[]), 1),
        (frame(kind::SETTINGS, 0, 0, &[0; 5]), 6),
        (frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]), 6),
        (frame(kind::GOAWAY, 0, 1, &[0; 8]), 1),
        (frame(kind::PRIORITY, 0, 0, &[0; 5]), 1),
        (frame(0x77, 0, 0, &[0; 16_385]), 6),
        (settings(&[(setting::ENABLE_PUSH, 2)]), 1),
        (settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)]), 3),
        (settings(&[(setting::MAX_FRAME_SIZE, 16_383)]), 1),
    ];
    for (at, (octets, code)) in cases.into_iter().enumerate() {
        let mut server = Server::new(Limits::default());
        server.hear(&octets);
        assert!(server.fatal && server.conn.closing(), "case {at}");
        assert_eq!(server.goaway(), Some(code), "case {at}");
        assert!(server.conn.is_done(), "case {at}");
    }
}

#[test]
fn the_first_frame_must_be_settings() {
    let mut client = Client::default();
    client.out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.ping(1);
    assert_eq!(Server::heard(&client).goaway(), Some(1));
}

#[test]
fn small_windows_cut_and_hold_back() {
    let mut client = Client::greeted();
    client.settings(&[(setting::INITIAL_WINDOW_SIZE, 10)]);
    client.call(1, "/t.T/Echo", &[1; 20]).call(3, "/t.T/Echo", &[3; 2]);
    let mut server = Server::heard(&client);
    let frames = answers(&mut server);
    let data: Vec<_> =
        frames.iter().filter(|f| f.kind == kind::DATA).map(|f| (f.stream, f.body.len())).collect();
    assert_eq!(data, [(1, 10), (3, 7)]);
    assert_eq!(server.conn.live(), 1);
    // The windows shrink below zero and grow again.
    let mut more = Client::default();
    more.settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]).window(1, 14);
    server.hear(&more.out);
    assert_eq!(answers(&mut server).iter().filter(|f| f.kind == kind::DATA).count(), 1);
    let mut more = Client::default();
    more.window(1, 1000);
    server.hear(&more.out);
    let last = answers(&mut server);
    assert_eq!(last.iter().map(|f| f.body.len()).collect::<Vec<_>>(), [11, 1]);
    assert_eq!(server.conn.live(), 0);
}

#[test]
fn streams_share_the_connection_frame_by_frame() {
    let mut client = Client::greeted();
    client.settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
    for stream in [1, 3, 5] {
        client.call(stream, "/t.T/Many", &[0, 0, 0, 1, 0, 0, 0xc0, 0]);
    }
    let mut server = Server::heard(&client);
    server.frames();
    let mut more = Client::default();
    more.window(0, 1 << 20);
    server.hear(&more.out);
    let data = answers(&mut server).into_iter().filter(|frame| frame.kind == kind::DATA);
    let order: Vec<u32> = data.map(|frame| frame.stream).collect();
    assert_eq!(order[..4], [3, 5, 3, 5], "{order:?}");
}

#[test]
fn short_writes_repeat_nothing() {
    for step in [1, 2, 3, 13, 4096] {
        let mut client = Client::greeted();
        client.window(0, 1 << 24).settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 24)]);
        for stream in 0..40 {
            client.call(stream * 2 + 1, "/t.T/Echo", &vec![stream as u8; 30 * stream as usize]);
        }
        client.call(81, "/t.T/Many", &[0, 0, 0, 9, 0, 0, 0x20, 0]);
        let limits = Limits { output_high_bytes: 4096, ..Limits::default() };
        let mut whole = Server::new(limits.clone());
        whole.hear(&client.out);
        whole.write();
        let mut short = Server::new(limits);
        let mut at = 0;
        // Reading and writing take turns, in parts that fit nothing.
        while at < client.out.len() || !short.conn.output().is_empty() {
            let end = (at + 977).min(client.out.len());
            short.hear(&client.out[at..end]);
            at = end;
            for _ in 0..(977 / step).max(1) {
                short.write_some(step);
            }
        }
        let content = |server: &Server| {
            let mut by_stream = std::collections::BTreeMap::<u32, Vec<u8>>::new();
            for frame in peer::frames(&server.sent) {
                if frame.kind == kind::DATA {
                    by_stream.entry(frame.stream).or_default().extend(frame.body);
                }
            }
            by_stream
        };
        assert_eq!(content(&whole), content(&short), "{step} octets a write");
        assert_eq!(short.conn.live(), 0);
    }
}

#[test]
fn output_can_be_taken_while_more_is_put() {
    let mut server = Server::heard(&Client::greeted());
    server.frames();
    let mut client = Client::default();
    client.call(1, "/t.T/Echo", b"first");
    server.hear(&client.out);
    let mut taken = Vec::new();
    server.conn.take_output(&mut taken);
    let mut client = Client::default();
    client.call(3, "/t.T/Echo", b"second");
    server.hear(&client.out);
    assert!(peer::frames(&taken).iter().all(|frame| frame.stream == 1));
    assert!(peer::frames(server.conn.output()).iter().all(|frame| frame.stream == 3));
}

#[test]
fn an_early_answer_ends_the_request_too() {
    let mut client = Client::greeted();
    client.headers(1, "/t.T/Chat", &[]).data(1, &framed(b"x"), false);
    let mut server = Server::heard(&client);
    server.frames();
    let mut client = Client::default();
    client.headers(3, "/t.T/No", &[]);
    server.hear(&client.out);
    let frames = server.frames();
    let shape: Vec<_> = frames.iter().map(|frame| (frame.kind, frame.stream)).collect();
    assert_eq!(shape, [(kind::HEADERS, 3), (kind::RST_STREAM, 3)]);
    assert_eq!(frames[1].number(0), 0, "NO_ERROR");
    // What was on its way is ignored, and costs the connection nothing.
    let mut client = Client::default();
    client.data(3, &framed(b"late"), true).ping(1);
    server.hear(&client.out);
    assert_eq!(server.frames().len(), 1);
    assert_eq!(server.conn.live(), 1);
}

#[test]
fn a_fault_in_a_stream_that_the_application_knows_is_heard_by_both() {
    let mut client = Client::greeted();
    client.headers(1, "/t.T/Chat", &[]).data(1, &framed(b"x"), false);
    client.data(1, &[1, 0, 0, 0, 0], false);
    let mut server = Server::heard(&client);
    assert!(server.log.ends_with("1 reset\n"), "{}", server.log);
    let frames = answers(&mut server);
    assert!(frames.iter().any(|frame| frame.says("grpc-status\u{2}13")), "{frames:?}");
    assert_eq!(server.conn.live(), 0);
}

#[test]
fn answers_to_calls_that_are_gone_are_ignored() {
    let mut client = Client::greeted();
    client.call(1, "/t.T/Hang", b"x").reset(1);
    let mut server = Server::new(Limits::default());
    server.releases = false;
    server.hear(&client.out);
    server.frames();
    assert_eq!(server.conn.live(), 1, "the application holds it");
    let key = server.hanging[0];
    assert!(!server.conn.unary(key, b"late"));
    assert_eq!(server.conn.live(), 0);
    server.conn.finish(key, Status::Ok, "");
    server.conn.release(key);
    assert_eq!(server.conn.message(key, b"later"), 0);
    assert!(server.frames().is_empty());
}

#[test]
fn texts_are_percent_encoded_and_bounded() {
    let mut client = Client::greeted();
    client.call(1, "/t.T/Hang", b"x").call(3, "/t.T/Hang", b"x");
    let mut server = Server::heard(&client);
    let keys = server.hanging.clone();
    server.conn.finish(keys[0], Status::NotFound, "nö\n");
    server.conn.fail(keys[1], Status::Internal, &"ä".repeat(100_000));
    let frames = answers(&mut server);
    assert!(frames[0].says("n%C3%B6%0A"), "{frames:?}");
    assert!(frames[1].body.len() < 4000);
}

#[test]
fn a_small_header_table_of_the_peer_is_obeyed() {
    for (size, warm) in [(0, false), (103, false), (104, true), (200, true), (9999, true)] {
        let mut client = Client::greeted();
        client.settings(&[(setting::HEADER_TABLE_SIZE, size)]);
        for stream in [1, 3, 5] {
            client.call(stream, "/t.T/Echo", b"x");
        }
        let frames = answers(&mut Server::heard(&client));
        assert_eq!(frames[0].body[0] & 0xe0 == 0x20, size < 4096, "{size}: {:x?}", frames[0].body);
        assert_eq!(frames[6].body.len() == 2, warm, "{size}");
    }
}

/// Frames that answer calls: all but SETTINGS, the first WINDOW_UPDATE and PING.
fn answers(server: &mut Server) -> Vec<Frame> {
    let control = [kind::SETTINGS, kind::WINDOW_UPDATE, kind::PING];
    server.frames().into_iter().filter(|frame| !control.contains(&frame.kind)).collect()
}
