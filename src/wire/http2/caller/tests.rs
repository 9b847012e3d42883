//! The caller against our own server role, in memory, its octets cut anywhere.
#![allow(clippy::unwrap_used)]

use super::super::{Connection, Event as Asked, Limits, Route};
use super::*;
use crate::prng::Prng;

type Server = Connection<fn(&[u8]) -> Option<Route>>;

fn route(path: &[u8]) -> Option<Route> {
    let method = match path {
        b"/t.T/Echo" => 0,
        b"/t.T/Many" => 1,
        b"/t.T/Fail" => 2,
        _ => return None,
    };
    Some(Route { method, single: true })
}

/// Both ends and what is on its way between them.
struct Pair {
    caller: Caller,
    server: Server,
    to_server: Vec<u8>,
    to_caller: Vec<u8>,
    prng: Prng,
    events: Vec<(u64, String)>,
}

impl Pair {
    fn new(limits: Limits, seed: u64) -> Pair {
        Pair {
            caller: Caller::new("t", 1 << 22, seed),
            server: Connection::new(route as fn(&[u8]) -> Option<Route>, limits, seed, 0),
            to_server: Vec::new(),
            to_caller: Vec::new(),
            prng: Prng::new(seed),
            events: Vec::new(),
        }
    }

    /// Lets octets go back and forth in random pieces until there are none.
    fn settle(&mut self) {
        loop {
            let (out, back) = (self.caller.output().len(), self.server.output().len());
            self.to_server.extend_from_slice(self.caller.output());
            self.caller.wrote(out);
            self.to_caller.extend_from_slice(self.server.output());
            self.server.wrote(back);
            let (before, there) = (self.to_server.len(), self.to_caller.len());
            self.serve();
            self.hear();
            let still = before == self.to_server.len() && there == self.to_caller.len();
            if out + back == 0 && still {
                return;
            }
        }
    }

    fn piece(&mut self, len: usize) -> usize {
        if self.prng.chance(500) { len } else { self.prng.below(len as u64 + 1) as usize }
    }

    fn serve(&mut self) {
        let piece = self.piece(self.to_server.len());
        let input = self.to_server[..piece].to_vec();
        let mut at = 0;
        while let Some(event) = self.server.poll(&input, &mut at) {
            let Asked::Message { key, meta, message, .. } = event else {
                assert!(!matches!(event, Asked::Fatal(_)), "{event:?}");
                continue;
            };
            let octets = message.octets(&input).to_vec();
            match meta.method {
                0 => {
                    self.server.unary(key, &octets);
                }
                1 => {
                    let many = u32::from_be_bytes(octets[..4].try_into().unwrap());
                    (0..many).for_each(|_| {
                        self.server.message(key, &octets[4..]);
                    });
                    self.server.finish(key, Status::Ok, "");
                }
                _ => self.server.finish(key, Status::NotFound, "not here"),
            }
        }
        self.to_server.drain(..at);
    }

    fn hear(&mut self) {
        let piece = self.piece(self.to_caller.len());
        let input = self.to_caller[..piece].to_vec();
        let mut at = 0;
        while let Some(event) = self.caller.poll(&input, &mut at).unwrap() {
            self.events.push(match event {
                Event::Message { token, message } => {
                    let octets = message.octets(&input);
                    (token, format!("{} of {}", octets.len(), octets.first().unwrap_or(&0)))
                }
                Event::End { token, status, text } => (token, format!("{} {text}", status.name())),
                Event::Away(text) => (u64::MAX, text.into()),
            });
        }
        self.to_caller.drain(..at);
    }

    /// What was heard of one call.
    fn of(&self, token: u64) -> Vec<&str> {
        let of = self.events.iter().filter(|(of, _)| *of == token);
        of.map(|(_, what)| what.as_str()).collect()
    }
}

#[test]
fn calls_of_all_sizes_come_back_however_they_are_cut() {
    for seed in 0..30 {
        let limits = Limits { stream_window_bytes: 40_000, ..Limits::default() };
        let mut pair = Pair::new(limits, seed);
        let echo = pair.caller.path("/t.T/Echo");
        let many = pair.caller.path("/t.T/Many");
        let fail = pair.caller.path("/t.T/Fail");
        let stray = pair.caller.path("/t.T/None");
        assert!(!pair.caller.can_begin(), "the server has not greeted");
        pair.settle();
        let sizes = [0usize, 1, 100, 16_379, 16_380, 70_000, 300_000];
        for (token, size) in (0..).zip(sizes) {
            pair.caller.begin(echo, token, |into| into.resize(into.len() + size, token as u8));
        }
        pair.caller.begin(many, 20, |into| {
            into.extend_from_slice(&9u32.to_be_bytes());
            into.resize(into.len() + 30_000, 5);
        });
        pair.caller.begin(fail, 21, |_| {});
        pair.caller.begin(stray, 22, |_| {});
        pair.settle();
        for (token, size) in (0..).zip(sizes) {
            let first = if size == 0 { 0 } else { token };
            assert_eq!(pair.of(token), [&format!("{size} of {first}"), "OK "], "seed {seed}");
        }
        assert_eq!(pair.of(20).len(), 10, "seed {seed}");
        assert_eq!(pair.of(21), ["NOT_FOUND not here"]);
        assert!(pair.of(22)[0].starts_with("UNIMPLEMENTED"), "{:?}", pair.of(22));
        assert_eq!(pair.caller.live(), 0);
    }
}

#[test]
fn a_warm_call_takes_few_octets() {
    let mut pair = Pair::new(Limits::default(), 1);
    let echo = pair.caller.path("/t.T/Echo");
    pair.settle();
    let mut octets = |token| {
        pair.caller.begin(echo, token, |into| into.push(1));
        let octets = pair.caller.output().len();
        pair.settle();
        octets
    };
    assert!(octets(1) > 60);
    assert_eq!(octets(2), 9 + 6 + 9 + 5 + 1);
}

#[test]
fn the_peers_limit_on_streams_is_kept() {
    let mut pair = Pair::new(Limits { streams: 3, ..Limits::default() }, 1);
    let echo = pair.caller.path("/t.T/Echo");
    pair.settle();
    for token in 0..3 {
        pair.caller.begin(echo, token, |_| {});
    }
    assert!(!pair.caller.can_begin());
    pair.settle();
    assert!(pair.caller.can_begin());
}

#[test]
fn what_was_given_up_is_not_heard_of() {
    let mut pair = Pair::new(Limits::default(), 1);
    let echo = pair.caller.path("/t.T/Echo");
    pair.settle();
    let id = pair.caller.begin(echo, 1, |into| into.resize(into.len() + 100_000, 1));
    pair.caller.begin(echo, 2, |into| into.push(2));
    pair.caller.cancel(id);
    pair.caller.begin(echo, 3, |into| into.push(3));
    pair.settle();
    assert_eq!(pair.of(1), [""; 0]);
    assert_eq!(pair.of(2), ["1 of 2", "OK "]);
    assert_eq!(pair.of(3), ["1 of 3", "OK "]);
}

#[test]
fn a_server_that_goes_away_ends_what_it_will_not_answer() {
    let mut pair = Pair::new(Limits::default(), 1);
    let echo = pair.caller.path("/t.T/Echo");
    pair.settle();
    for token in 1..=2 {
        pair.caller.begin(echo, token, |_| {});
    }
    let mut goaway = 1u32.to_be_bytes().to_vec();
    goaway.extend_from_slice(&0u32.to_be_bytes());
    goaway.extend_from_slice(b"bye");
    let mut input = Vec::new();
    frame::put_frame(&mut input, kind::GOAWAY, 0, 0, &goaway);
    let mut at = 0;
    let first = pair.caller.poll(&input, &mut at).unwrap();
    assert!(matches!(first, Some(Event::End { token: 2, status: Status::Unavailable, .. })));
    assert!(matches!(pair.caller.poll(&input, &mut at).unwrap(), Some(Event::Away(_))));
    assert!(!pair.caller.can_begin());
    assert_eq!(pair.caller.live(), 1);
}

#[test]
fn a_peer_without_a_table_is_spelled_everything() {
    let mut caller = Caller::new("t", 100, 1);
    let echo = caller.path("/t.T/Echo");
    let mut settings = setting::HEADER_TABLE_SIZE.to_be_bytes().to_vec();
    settings.extend_from_slice(&0u32.to_be_bytes());
    let mut input = Vec::new();
    frame::put_frame(&mut input, kind::SETTINGS, 0, 0, &settings);
    assert_eq!(caller.poll(&input, &mut 0), Ok(None));
    let mut decoder = super::super::hpack::Decoder::new(4096, &route);
    for nth in 0..2 {
        caller.wrote(caller.output().len());
        caller.begin(echo, nth, |_| {});
        let head = Head::read(caller.output()).unwrap();
        let block = &caller.output()[HEAD_BYTES..HEAD_BYTES + head.len];
        assert_eq!(block[0] == 0x20, nth == 0, "the table is given up once");
        assert!(decoder.request(block, &route).unwrap().is_grpc);
    }
}

#[test]
fn any_octets_are_read_or_end_the_connection() {
    let mut prng = Prng::new(23);
    for _ in 0..5_000 {
        let mut caller = Caller::new("t", 1000, 1);
        let path = caller.path("/t.T/Echo");
        let mut input = Vec::new();
        frame::put_frame(&mut input, kind::SETTINGS, 0, 0, &[]);
        caller.poll(&input, &mut 0).unwrap();
        (0..3).for_each(|token| drop(caller.begin(path, token, |_| {})));
        input.clear();
        for _ in 0..prng.below(6) {
            let body: Vec<u8> = (0..prng.below(20)).map(|_| prng.next_u64() as u8).collect();
            let (kind, flags) = (prng.below(11) as u8, prng.next_u64() as u8);
            frame::put_frame(&mut input, kind, flags, prng.below(7) as u32, &body);
        }
        let mut at = 0;
        while let Ok(Some(_)) = caller.poll(&input, &mut at) {}
    }
}
