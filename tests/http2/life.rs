//! Timers, back-pressure and the graceful end.

use ringraft::wire::grpc::Status;
use ringraft::wire::http2::Limits;
use ringraft::wire::http2::frame::{PREFACE, flag, kind};

use crate::peer::{Client, Frame, Server, framed};

fn of(frames: &[Frame], kind: u8) -> Vec<&Frame> {
    frames.iter().filter(|frame| frame.kind == kind).collect()
}

/// Lets time pass to each deadline up to `until_ms`; the peer is silent.
fn silence(server: &mut Server, until_ms: u64) {
    while let Some(due_ms) = server.conn.deadline() {
        if due_ms > until_ms {
            return;
        }
        server.conn.tick(due_ms);
        server.hear(&[]);
        assert!(server.conn.deadline() != Some(due_ms), "a deadline that stays is a busy loop");
    }
}

#[test]
fn a_peer_that_says_nothing_is_given_up() {
    let mut server = Server::new(Limits::default());
    server.hear(&PREFACE[..10]);
    assert_eq!(server.conn.deadline(), Some(10_000));
    silence(&mut server, 9_999);
    assert!(!server.fatal);
    silence(&mut server, 10_000);
    assert!(server.fatal && server.conn.deadline().is_none());
}

#[test]
fn settings_must_be_acknowledged() {
    let mut client = Client { out: PREFACE.to_vec() };
    client.settings(&[]);
    let mut server = Server::heard(&client);
    assert_eq!(server.conn.deadline(), Some(20_000));
    silence(&mut server, 20_000);
    assert_eq!(server.goaway(), Some(4));
    let mut server = Server::heard(&Client::greeted());
    assert_eq!(server.conn.deadline(), Some(60_000));
    silence(&mut server, 20_000);
    assert!(!server.fatal);
}

#[test]
fn a_silent_peer_is_asked_and_then_given_up() {
    let mut server = Server::heard(&Client::greeted());
    server.frames();
    silence(&mut server, 60_000);
    let frames = server.frames();
    assert_eq!(of(&frames, kind::PING).len(), 1);
    let mut answer = Client::default();
    answer.frame(kind::PING, flag::ACK, 0, &frames[0].body);
    server.conn.set_now(70_000);
    server.hear(&answer.out);
    assert_eq!(server.conn.deadline(), Some(130_000));
    silence(&mut server, 149_999);
    assert!(!server.fatal);
    silence(&mut server, 150_000);
    assert!(server.fatal);
}

#[test]
fn an_idle_connection_is_told_to_go() {
    let limits = Limits { idle_ms: 1000, keepalive_ms: 0, ..Limits::default() };
    let mut server = Server::new(limits);
    let mut client = Client::greeted();
    client.call(1, "/t.T/Hang", b"x");
    server.hear(&client.out);
    assert_eq!(server.conn.deadline(), None, "a call is open");
    server.conn.set_now(5000);
    server.conn.unary(server.hanging[0], b"done");
    server.frames();
    assert_eq!(server.conn.deadline(), Some(6000));
    silence(&mut server, 6000);
    let frames = server.frames();
    assert_eq!(of(&frames, kind::GOAWAY)[0].number(0), 0x7fff_ffff);
    silence(&mut server, 8000);
    assert!(server.conn.is_done() || server.goaway() == Some(0));
}

#[test]
fn a_graceful_end_loses_nothing() {
    let mut client = Client::greeted();
    client.call(1, "/t.T/Hang", b"x");
    let mut server = Server::heard(&client);
    server.frames();
    server.conn.shutdown();
    let frames = server.frames();
    let first = of(&frames, kind::GOAWAY)[0].clone();
    assert_eq!((first.number(0), first.number(4)), (0x7fff_ffff, 0));
    let ping = of(&frames, kind::PING)[0].clone();
    // A call that was on its way is served.
    let mut client = Client::default();
    client.call(3, "/t.T/Echo", b"in flight").frame(kind::PING, flag::ACK, 0, &ping.body);
    client.call(5, "/t.T/Echo", b"too late");
    server.hear(&client.out);
    let frames = server.frames();
    assert_eq!(of(&frames, kind::DATA).len(), 1);
    assert_eq!(of(&frames, kind::GOAWAY)[0].number(0), 3);
    let refused = of(&frames, kind::RST_STREAM)[0];
    assert_eq!((refused.stream, refused.number(0)), (5, 7));
    assert!(!server.conn.closing(), "a call is open");
    server.conn.finish(server.hanging[0], Status::Unavailable, "going away");
    assert!(server.conn.closing() && !server.conn.is_done(), "its answer is to be written");
    server.frames();
    assert!(server.conn.is_done());
    assert!(!server.fatal && server.conn.deadline().is_none());
}

#[test]
fn a_graceful_end_ends() {
    let mut client = Client::greeted();
    client.call(1, "/t.T/Hang", b"x");
    let mut server = Server::heard(&client);
    server.conn.shutdown();
    silence(&mut server, 2_000);
    assert_eq!(server.goaway(), Some(0), "the PING was not answered");
    silence(&mut server, 31_999);
    assert!(!server.fatal);
    silence(&mut server, 32_000);
    assert!(server.fatal && server.conn.closing());
    let mut server = Server::new(Limits::default());
    server.conn.shutdown();
    server.hear(&[]);
    assert!(server.conn.closing(), "nobody is there yet");
}

#[test]
fn windows_open_as_octets_are_taken_and_not_while_paused() {
    let limits =
        Limits { stream_window_bytes: 1000, connection_window_bytes: 80_000, ..Limits::default() };
    let mut server = Server::new(limits);
    let mut client = Client::greeted();
    client.headers(1, "/t.T/Hang", &[]).data(1, &[0, 0, 0, 0xff, 0], false);
    server.hear(&client.out);
    server.frames();
    let mut part = Client::default();
    part.data(1, &[1; 600], false);
    server.hear(&part.out);
    let frames = server.frames();
    assert_eq!((frames[0].stream, frames[0].number(0)), (1, 605));
    server.conn.pause();
    server.hear(&part.out);
    assert!(server.frames().is_empty());
    server.conn.resume();
    let frames = server.frames();
    assert_eq!((frames[0].stream, frames[0].number(0)), (1, 600));
    // Beyond its window a stream is reset.
    let mut client = Client::default();
    client.data(1, &[1; 1001], false);
    server.hear(&client.out);
    let frames = server.frames();
    assert_eq!((frames[0].kind, frames[0].number(0)), (kind::RST_STREAM, 3));
}

#[test]
fn the_connection_window_is_enforced() {
    let limits = Limits { connection_window_bytes: 65_535, ..Limits::default() };
    let mut server = Server::new(limits);
    server.conn.pause();
    let mut client = Client::greeted();
    client.headers(1, "/t.T/Hang", &[]).data(1, &[0, 0, 4, 0, 0], false);
    for _ in 0..4 {
        client.data(1, &[0; 16_382], false);
    }
    server.hear(&client.out);
    assert!(!server.fatal);
    let mut client = Client::default();
    client.data(1, &[0; 3], false);
    server.hear(&client.out);
    assert_eq!(server.goaway(), Some(3));
}

/// A stream whose messages nobody reads is not sent more than its window.
#[test]
fn unread_messages_keep_a_window_closed() {
    let limits = Limits { stream_window_bytes: 1000, ..Limits::default() };
    let mut conn = crate::peer::connection(limits);
    let mut client = Client::greeted();
    client.headers(1, "/t.T/Chat", &[]).data(1, &framed(&[1; 595]), false);
    let mut pos = 0;
    let mut events = Vec::new();
    while let Some(event) = conn.poll(&client.out, &mut pos) {
        events.push(event);
    }
    let updates = |conn: &crate::peer::Conn| {
        let frames = crate::peer::frames(conn.output());
        frames.iter().filter(|f| f.kind == kind::WINDOW_UPDATE && f.stream == 1).count()
    };
    // The window is opened when the frame comes, since nothing is unread yet ...
    assert_eq!(updates(&conn), 1);
    let mut more = Client::default();
    more.data(1, &framed(&[1; 595]), false);
    let mut pos = 0;
    while let Some(event) = conn.poll(&more.out, &mut pos) {
        events.push(event);
    }
    // ... and then not before something has been read.
    assert_eq!(updates(&conn), 1);
    for event in events {
        let ringraft::wire::http2::Event::Message { key, message, .. } = event else {
            panic!("{event:?}")
        };
        conn.recycle(key, message);
    }
    assert_eq!(updates(&conn), 2);
}

/// A frame of which messages are left, and a timer that finds no stream and nothing to send.
#[test]
fn a_tick_between_messages_of_a_frame_does_no_harm() {
    let mut conn = crate::peer::connection(Limits::default());
    let mut client = Client::greeted();
    let content = [framed(b"first"), framed(b"second")].concat();
    client.headers(1, "/t.T/Chat", &[]).data(1, &content, false).call(3, "/t.T/Echo", b"x");
    let mut pos = 0;
    let first = conn.poll(&client.out, &mut pos);
    let Some(ringraft::wire::http2::Event::Message { key, .. }) = first else {
        panic!("{first:?}")
    };
    conn.fail(key, Status::Aborted, "enough");
    conn.wrote(conn.output().len());
    conn.tick(1);
    let next = conn.poll(&client.out, &mut pos);
    assert!(matches!(next, Some(ringraft::wire::http2::Event::Message { end: true, .. })));
}

#[test]
fn memory_of_a_burst_is_given_back() {
    let mut client = Client::greeted();
    for nth in 0..2000u32 {
        client.call(nth * 2 + 1, "/t.T/Hang", b"x");
    }
    let mut server = Server::heard(&client);
    let keys = std::mem::take(&mut server.hanging);
    for &key in &keys {
        server.conn.unary(key, b"done");
    }
    server.frames();
    server.conn.tick(1);
    for key in keys {
        assert!(!server.conn.unary(key, b"twice"), "the slot is gone, the key finds nothing");
    }
    let mut client = Client::default();
    client.call(4001, "/t.T/Echo", b"x");
    server.hear(&client.out);
    assert_eq!(of(&server.frames(), kind::DATA).len(), 1);
}
