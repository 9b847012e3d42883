//! Each guard against its flood; and the honest clients that must not meet it.

use ringraft::wire::http2::Limits;
use ringraft::wire::http2::frame::{FRAME_BYTES_MAX, flag, kind, setting};

use crate::peer::{Client, Server, framed, literal, request};

const CALM: Option<u32> = Some(11);

/// The code of GOAWAY after `count` times the frames of `each`, all at once.
fn flood(count: u32, mut each: impl FnMut(&mut Client, u32)) -> Option<u32> {
    let mut server = Server::heard(&Client::greeted());
    for first in (0..count).step_by(1000) {
        let mut client = Client::default();
        (first..count.min(first + 1000)).for_each(|nth| each(&mut client, nth));
        server.hear(&client.out);
        if server.fatal {
            break;
        }
        server.write();
    }
    server.goaway()
}

#[test]
fn ping_flood() {
    assert_eq!(flood(19_000, |client, nth| _ = client.ping(nth.into())), None);
    assert_eq!(flood(30_000, |client, nth| _ = client.ping(nth.into())), CALM);
}

#[test]
fn settings_flood() {
    assert_eq!(flood(30_000, |client, _| _ = client.settings(&[])), CALM);
}

#[test]
fn empty_data_flood() {
    let each = |client: &mut Client, nth| {
        if nth == 0 {
            client.headers(1, "/t.T/Chat", &[]);
        }
        client.data(1, &[], false);
    };
    assert_eq!(flood(30_000, each), CALM);
}

#[test]
fn priority_and_unknown_frame_floods() {
    let priority = |client: &mut Client, _| {
        client.frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 3, 0]);
    };
    assert_eq!(flood(30_000, priority), CALM);
    assert_eq!(flood(30_000, |client, _| _ = client.frame(0xbe, 0, 0, &[])), CALM);
}

#[test]
fn rapid_reset() {
    let each = |client: &mut Client, nth: u32| {
        client.call(nth * 2 + 1, "/t.T/Hang", b"x").reset(nth * 2 + 1);
    };
    assert_eq!(flood(8000, each), None);
    assert_eq!(flood(10_000, each), CALM);
}

/// CVE-2025-8671: the client makes us reset the streams.
#[test]
fn provoked_resets() {
    let zero_window = |client: &mut Client, nth: u32| {
        client.call(nth * 2 + 1, "/t.T/Hang", b"x").window(nth * 2 + 1, 0);
    };
    assert_eq!(flood(10_000, zero_window), CALM);
    let own_parent = |client: &mut Client, nth: u32| {
        let id = nth * 2 + 1;
        let mut priority = id.to_be_bytes().to_vec();
        priority.push(0);
        client.call(id, "/t.T/Hang", b"x").frame(kind::PRIORITY, 0, id, &priority);
    };
    assert_eq!(flood(10_000, own_parent), CALM);
    let half_closed = |client: &mut Client, nth: u32| {
        client.call(nth * 2 + 1, "/t.T/Hang", b"x").data(nth * 2 + 1, b"y", false);
    };
    assert_eq!(flood(10_000, half_closed), CALM);
    let malformed = |client: &mut Client, nth: u32| {
        let block = request("/t.T/Hang", &[("te", "gzip")]);
        client.frame(kind::HEADERS, flag::END_HEADERS, nth * 2 + 1, &block);
    };
    assert_eq!(flood(10_000, malformed), CALM);
}

/// A reset stream that the application holds counts against the limit on streams.
#[test]
fn reset_streams_count_until_they_are_released() {
    let mut server = Server::new(Limits { streams: 10, ..Limits::default() });
    server.releases = false;
    let mut client = Client::greeted();
    for nth in 0..20u32 {
        client.call(nth * 2 + 1, "/t.T/Hang", b"x").reset(nth * 2 + 1);
    }
    server.hear(&client.out);
    assert_eq!((server.hanging.len(), server.conn.live()), (10, 10));
    let refused = server.frames();
    let refused = refused.iter().filter(|f| f.kind == kind::RST_STREAM && f.number(0) == 7);
    assert_eq!(refused.count(), 10, "REFUSED_STREAM");
    for key in std::mem::take(&mut server.hanging) {
        server.conn.release(key);
    }
    let mut client = Client::default();
    client.call(41, "/t.T/Hang", b"x");
    server.hear(&client.out);
    assert_eq!((server.hanging.len(), server.conn.live()), (1, 1));
}

#[test]
fn continuation_flood() {
    let mut client = Client::greeted();
    client.frame(kind::HEADERS, 0, 1, &request("/t.T/Echo", &[]));
    for _ in 0..20 {
        client.frame(kind::CONTINUATION, 0, 1, &[]);
    }
    assert_eq!(Server::heard(&client).goaway(), CALM);
    let mut client = Client::greeted();
    client.frame(kind::HEADERS, 0, 1, &request("/t.T/Echo", &[]));
    for _ in 0..3 {
        client.frame(kind::CONTINUATION, 0, 1, &[0; FRAME_BYTES_MAX]);
    }
    assert_eq!(Server::heard(&client).goaway(), CALM);
}

/// One field of 4 KB, referred to as often as a frame allows.
#[test]
fn header_bomb() {
    let mut block = request("/t.T/Echo", &[]);
    literal(&mut block, 0x40, b"x", &[b'y'; 4000]);
    block.extend_from_slice(&[0x80 | 62; 12_000]);
    let mut client = Client::greeted();
    client.frame(kind::HEADERS, flag::END_HEADERS, 1, &block).data(1, &framed(b"x"), true);
    let mut server = Server::heard(&client);
    let frames = server.frames();
    assert!(frames.iter().any(|frame| frame.says("grpc-status\u{1}8")), "{frames:?}");
    assert!(server.log.is_empty());
}

#[test]
fn window_sizes_in_one_settings_frame_are_one_walk() {
    let mut server = Server::new(Limits::default());
    let mut client = Client::greeted();
    for nth in 0..4000u32 {
        client.call(nth * 2 + 1, "/t.T/Hang", b"x");
    }
    server.hear(&client.out);
    let values: Vec<_> = (0..2730).map(|nth| (setting::INITIAL_WINDOW_SIZE, nth % 7)).collect();
    let mut client = Client::default();
    client.settings(&values);
    server.hear(&client.out);
    assert!(!server.fatal);
    // Each walk of 4000 streams costs 62 tokens of the guard beside its own.
    for nth in 0..400u32 {
        let mut client = Client::default();
        client.settings(&[(setting::INITIAL_WINDOW_SIZE, nth % 2)]);
        server.hear(&client.out);
    }
    assert_eq!(server.goaway(), CALM);
}

/// A peer that asks and never opens a window.
#[test]
fn held_answers_are_capped() {
    let mut server = Server::new(Limits { held_bytes: 1 << 20, ..Limits::default() });
    let mut client = Client::greeted();
    client.settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
    server.hear(&client.out);
    for nth in 0..2000u32 {
        let mut client = Client::default();
        client.call(nth * 2 + 1, "/t.T/Echo", &[9; 1000]);
        server.hear(&client.out);
        server.write();
    }
    assert!(server.conn.buffered_bytes() < (1 << 20) + 4096);
    assert_eq!(server.goaway(), CALM);
}

/// Prefixes that claim much take nothing; what arrives is bounded for all streams together.
#[test]
fn assembly_budget() {
    let mut server = Server::new(Limits { assembly_bytes: 100_000, ..Limits::default() });
    let mut client = Client::greeted();
    for nth in 0..1000u32 {
        client.headers(nth * 2 + 1, "/t.T/Hang", &[]);
        client.data(nth * 2 + 1, &[0, 0, 0x3f, 0, 0], false);
    }
    server.hear(&client.out);
    assert!(!server.fatal && server.conn.live() == 1000);
    server.frames();
    let mut client = Client::default();
    for nth in 0..20u32 {
        client.data(nth * 2 + 1, &[7; 10_000], false);
    }
    server.hear(&client.out);
    assert_eq!(server.conn.live(), 990, "ten fit, ten were refused");
    let frames = server.frames();
    let refused = frames.iter().filter(|frame| frame.says("grpc-status\u{1}8"));
    assert_eq!(refused.count(), 10);
}

#[test]
fn max_streams() {
    let mut server = Server::new(Limits { streams: 3, ..Limits::default() });
    let mut client = Client::greeted();
    for nth in 0..5u32 {
        client.call(nth * 2 + 1, "/t.T/Hang", b"x");
    }
    server.hear(&client.out);
    let frames = server.frames();
    let refused: Vec<u32> =
        frames.iter().filter(|f| f.kind == kind::RST_STREAM).map(|f| f.stream).collect();
    assert_eq!(refused, [7, 9]);
    assert!(!server.fatal);
}

/// The queue of streams with octets to send does not grow with streams that were reset.
#[test]
fn resets_of_blocked_answers_leave_nothing_behind() {
    let mut server = Server::new(Limits { resets_burst: 1 << 20, ..Limits::default() });
    let mut client = Client::greeted();
    // One call uses up the window of the connection.
    client.settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
    client.call(1, "/t.T/Many", &[0, 0, 0, 1, 0, 2, 0, 0]);
    server.hear(&client.out);
    for nth in 1..5000u32 {
        let mut client = Client::default();
        client.call(nth * 2 + 1, "/t.T/Echo", &[1; 100]).reset(nth * 2 + 1);
        server.hear(&client.out);
        server.write();
    }
    assert!(!server.fatal && server.conn.live() == 1, "{}", server.conn.live());
}

/// wire.md, decision 12: one PING in 100 ms for hours, and the bursts of grpc-go's BDP estimator.
#[test]
fn pings_of_honest_clients_pass() {
    let mut server = Server::heard(&Client::greeted());
    for nth in 1..40_000u64 {
        server.conn.set_now(nth * 100);
        let mut client = Client::default();
        client.ping(nth);
        server.hear(&client.out);
        server.write();
        server.sent.clear();
    }
    assert!(!server.fatal);
    // A ping for each of 10 000 round trips of a tenth of a millisecond, each with data.
    for nth in 0..10_000u64 {
        server.conn.set_now(4_000_000 + nth / 10);
        let mut client = Client::default();
        client.ping(nth).call(nth as u32 * 2 + 1, "/t.T/Echo", b"x");
        server.hear(&client.out);
        server.write();
        server.sent.clear();
    }
    assert!(!server.fatal);
}

/// A full set of deadlines that pass together, and again a second later.
#[test]
fn deadlines_that_pass_together_are_honest() {
    let mut server = Server::heard(&Client::greeted());
    for round in 0..10u32 {
        server.conn.set_now(u64::from(round) * 1000);
        let mut client = Client::default();
        let ids = (0..4096u32).map(|nth| (round * 4096 + nth) * 2 + 1);
        ids.clone().for_each(|id| _ = client.call(id, "/t.T/Hang", b"x"));
        ids.for_each(|id| _ = client.reset(id));
        server.hear(&client.out);
        server.write();
    }
    assert!(!server.fatal && server.conn.live() == 0);
}
