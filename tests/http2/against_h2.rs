//! The connection against the h2 crate, in memory: its client speaks to our server, and its server
//! hears what ours hears.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use ringraft::prng::Prng;
use ringraft::wire::grpc::{self, Status};
use ringraft::wire::http2::frame::{Head, PREFACE, flag, kind, setting};
use ringraft::wire::http2::{Event, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::{LocalSet, yield_now};

use crate::peer::{Client, Server, connection, fields, framed, frames, request};

/// Runs `work` with tasks of one thread.
fn local<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, work)
}

// --- The client of h2 speaks to our server. ---

/// One connection: our server at the other end of a pipe that takes `pipe_bytes` at a time.
async fn connect(
    limits: Limits,
    pipe_bytes: usize,
    builder: &h2::client::Builder,
) -> h2::client::SendRequest<Bytes> {
    let (near, far) = duplex(pipe_bytes);
    tokio::task::spawn_local(serve(far, limits));
    let (requests, driver) = builder.handshake(near).await.unwrap();
    tokio::task::spawn_local(async move { driver.await.unwrap() });
    requests
}

/// A shell that writes as much as the pipe takes.
async fn serve(mut pipe: DuplexStream, limits: Limits) {
    let mut server = Server::new(limits);
    let mut buffer = vec![0; 4096];
    loop {
        while !server.conn.output().is_empty() {
            let len = pipe.write(server.conn.output()).await.unwrap();
            server.conn.wrote(len);
            server.hear(&[]);
        }
        if server.conn.is_done() {
            return;
        }
        let len = pipe.read(&mut buffer).await.unwrap();
        if len == 0 {
            assert_eq!(server.conn.live(), 0, "streams are left over");
            return;
        }
        server.hear(&buffer[..len]);
        if server.hanging.len() == 3 {
            server.conn.shutdown();
            for key in std::mem::take(&mut server.hanging) {
                server.conn.finish(key, Status::Unavailable, "going away");
            }
        }
    }
}

struct Answer {
    status: Status,
    text: String,
    messages: Vec<Vec<u8>>,
}

/// One call; its messages go out as one body.
async fn call(
    requests: &mut h2::client::SendRequest<Bytes>,
    path: &str,
    messages: &[&[u8]],
    trailers: bool,
) -> Result<Answer, h2::Error> {
    let mut head = Request::builder().method(Method::POST).uri(format!("http://localhost{path}"));
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        head = head.header(name, value);
    }
    let mut ready = requests.clone().ready().await?;
    let (response, mut body) = ready.send_request(head.body(()).unwrap(), false)?;
    let octets: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
    tokio::task::spawn_local(async move {
        let mut rest = Bytes::from(octets);
        while !rest.is_empty() {
            body.reserve_capacity(rest.len());
            let granted = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
            let Some(Ok(granted)) = granted else { return };
            let _ = body.send_data(rest.split_to(granted.min(rest.len())), false);
        }
        let _ = if trailers {
            body.send_trailers(http::HeaderMap::new())
        } else {
            body.send_data(Bytes::new(), true)
        };
    });
    let response = response.await?;
    assert_eq!(response.status(), StatusCode::OK);
    let (parts, mut body) = response.into_parts();
    let mut octets = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        octets.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    let end = body.trailers().await?.unwrap_or(parts.headers);
    let code = end["grpc-status"].to_str().unwrap().parse().unwrap();
    let text = end.get("grpc-message").map(|text| grpc::text(text.as_bytes()));
    let messages = split(&octets);
    Ok(Answer { status: Status::from_code(code), text: text.unwrap_or_default(), messages })
}

fn split(mut octets: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some(prefix) = octets.first_chunk() {
        let end = 5 + grpc::Prefix::read(prefix).len as usize;
        messages.push(octets[5..end].to_vec());
        octets = &octets[end..];
    }
    assert!(octets.is_empty());
    messages
}

#[test]
fn calls_of_an_ordinary_client() {
    local(async {
        let mut requests = connect(Limits::default(), 1 << 16, &h2::client::Builder::new()).await;
        for len in [0, 1, 127, 128, 16_384, 100_000, 3 << 20] {
            let message = vec![len as u8; len];
            let answer = call(&mut requests, "/t.T/Echo", &[&message], len % 2 == 0).await.unwrap();
            assert_eq!(
                (answer.status, &answer.messages[..]),
                (Status::Ok, &[message][..]),
                "{len}"
            );
        }
        let parts: Vec<Vec<u8>> = (0..200).map(|nth| vec![nth as u8; nth * 7]).collect();
        let messages: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
        let answer = call(&mut requests, "/t.T/Chat", &messages, false).await.unwrap();
        assert_eq!((answer.status, answer.messages), (Status::Ok, parts));
        let answer = call(&mut requests, "/t.T/Many", &[&[0, 0, 3, 0xe8, 0, 0, 4, 0]], true).await;
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.messages.len()), (Status::Ok, 1000));
        let answer = call(&mut requests, "/t.T/Nö", &[b"x"], false).await;
        assert!(answer.is_err() || answer.unwrap().status == Status::Unimplemented);
        let answer = call(&mut requests, "/t.T/None", &[b"x"], false).await.unwrap();
        assert_eq!(
            (answer.status, &answer.text[..]),
            (Status::Unimplemented, "unknown method /t.T/None")
        );
        let answer = call(&mut requests, "/t.T/Many", &[b"x"], false).await.unwrap();
        assert_eq!(
            (answer.status, &answer.text[..]),
            (Status::InvalidArgument, "eight octets, please")
        );
        let answer = call(&mut requests, "/t.T/Echo", &[&vec![0; 5 << 20]], false).await.unwrap();
        assert_eq!(answer.status, Status::ResourceExhausted);
    });
}

#[test]
fn small_windows_both_ways_and_a_narrow_pipe() {
    let limits = Limits {
        stream_window_bytes: 1000,
        connection_window_bytes: 65_535,
        output_high_bytes: 2000,
        ..Limits::default()
    };
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(700).initial_connection_window_size(65_535).header_table_size(0);
    local(async move {
        let requests = connect(limits, 512, &builder).await;
        let calls = (0..20usize).map(|nth| {
            let mut requests = requests.clone();
            tokio::task::spawn_local(async move {
                let message = vec![nth as u8; 2000 * nth];
                let answer = call(&mut requests, "/t.T/Echo", &[&message], nth % 2 == 0).await;
                assert_eq!(answer.unwrap().messages, [message], "call {nth}");
                let messages = vec![&[7; 300][..]; nth];
                let answer = call(&mut requests, "/t.T/Chat", &messages, nth % 3 == 0).await;
                assert_eq!(answer.unwrap().messages.len(), nth);
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
    });
}

#[test]
fn a_client_gives_up_a_blocked_stream() {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(10_000);
    local(async move {
        let mut requests = connect(Limits::default(), 1 << 16, &builder).await;
        for _ in 0..20 {
            let head = Request::post("http://localhost/t.T/Many")
                .header("content-type", "application/grpc")
                .body(())
                .unwrap();
            let mut ready = requests.clone().ready().await.unwrap();
            let (response, mut body) = ready.send_request(head, false).unwrap();
            body.send_data(framed(&[0, 0, 1, 0, 0, 0, 4, 0]).into(), true).unwrap();
            let mut answer = response.await.unwrap().into_body();
            assert!(answer.data().await.unwrap().is_ok());
            drop((answer, body));
            yield_now().await;
        }
        let answer = call(&mut requests, "/t.T/Echo", &[b"still here"], false).await.unwrap();
        assert_eq!(answer.messages, [b"still here"]);
    });
}

#[test]
fn a_client_is_told_to_go_and_loses_nothing() {
    local(async {
        let requests = connect(Limits::default(), 1 << 16, &h2::client::Builder::new()).await;
        let calls = (0..3).map(|_| {
            let mut requests = requests.clone();
            tokio::task::spawn_local(async move {
                call(&mut requests, "/t.T/Hang", &[b"x"], false).await
            })
        });
        for call in calls.collect::<Vec<_>>() {
            let answer = call.await.unwrap().unwrap();
            assert_eq!((answer.status, &answer.text[..]), (Status::Unavailable, "going away"));
        }
        let refused = requests.ready().await.expect_err("no new streams");
        assert!(refused.is_go_away() && refused.reason() == Some(h2::Reason::NO_ERROR));
    });
}

#[test]
fn a_person_with_a_browser_gets_a_line_of_text() {
    local(async {
        let requests = connect(Limits::default(), 1 << 16, &h2::client::Builder::new()).await;
        for (method, status) in [("GET", 405), ("POST", 415), ("HEAD", 405)] {
            let head = Request::builder().method(method).uri("http://localhost/").body(()).unwrap();
            let mut ready = requests.clone().ready().await.unwrap();
            let (response, _) = ready.send_request(head, true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{method}");
            assert_eq!(response.headers()["content-type"], "text/plain");
            let text = response.into_body().data().await.map(|data| data.unwrap().len());
            assert_eq!(text.unwrap_or_default() >= 16, method != "HEAD", "{method}");
        }
    });
}

// --- The server of h2 hears what ours hears. ---

const DIFFERENTIAL_SEEDS: u64 = 400;
const LAST_PING: u64 = 0x6c61_7374_2070_696e;

/// Faults that end the connection with PROTOCOL_ERROR in h2 0.4, and our answer, which is the one
/// that RFC 9113 names: frame sizes (6.5, 6.7), header blocks (4.3), a window above the maximum
/// (6.5.2), a name in upper case (8.2.1, an error of the stream), an update by zero (6.9,
/// likewise).
const DIFFERENT: [(u64, u32); 7] = [(4, 9), (5, 9), (11, 6), (13, 6), (15, 3), (20, 1), (23, 1)];

/// What became of a conversation, seen from outside the implementation.
#[derive(Default, PartialEq, Eq, Debug)]
struct Outcome {
    goaway: Option<u32>,
    resets: BTreeSet<(u32, u32)>,
    /// Octets of each request that was not reset, and whether it has ended.
    requests: BTreeMap<u32, (Vec<u8>, bool)>,
    pings: usize,
}

#[test]
fn both_servers_hear_the_same() {
    let (mut lost, mut reset) = (0, 0);
    for seed in 0..DIFFERENTIAL_SEEDS {
        let mut prng = Prng::new(seed);
        let mut client = Client { out: PREFACE.to_vec() };
        client.settings(&[(setting::INITIAL_WINDOW_SIZE, 100_000)]);
        client.frame(kind::SETTINGS, flag::ACK, 0, &[]);
        let (told, fault) = converse(&mut client, &mut prng);
        client.ping(LAST_PING);
        let ours = ours(&client.out);
        let theirs = local(theirs(client.out.clone()));
        if let Some((_, code)) = DIFFERENT.iter().find(|(case, _)| Some(*case) == fault) {
            let reset = ours.resets.first().map(|(_, code)| *code);
            assert_eq!(ours.goaway.or(reset), Some(*code), "seed {seed}:\n{told}");
            assert_eq!(theirs.goaway, Some(1), "seed {seed}: h2 has changed\n{told}");
        } else {
            assert_eq!(ours, theirs, "seed {seed}: ours left, h2 right\n{told}");
        }
        lost += u32::from(ours.goaway.is_some());
        reset += u32::from(!ours.resets.is_empty());
    }
    assert!(lost > 50 && reset > 50, "{lost} connections and {reset} streams: the mix is off");
}

fn ours(octets: &[u8]) -> Outcome {
    let mut conn = connection(Limits { streams: 100, ..Limits::default() });
    let mut requests: BTreeMap<u32, (Vec<u8>, bool)> = BTreeMap::new();
    let mut pos = 0;
    while let Some(event) = conn.poll(octets, &mut pos) {
        match event {
            Event::Message { key, message, end, .. } => {
                let (request, is_ended) = requests.entry(key.stream()).or_default();
                request.extend(framed(message.octets(octets)));
                *is_ended |= end;
                conn.recycle(key, message);
            }
            Event::End { key, .. } => requests.entry(key.stream()).or_default().1 = true,
            Event::Reset { key } => {
                requests.remove(&key.stream());
                conn.release(key);
            }
            Event::Writable { .. } => unreachable!("nothing is sent"),
            Event::Fatal(_) => {}
        }
    }
    outcome(conn.output(), requests)
}

/// The outcome that the frames sent and the requests heard amount to.
fn outcome(sent: &[u8], requests: BTreeMap<u32, (Vec<u8>, bool)>) -> Outcome {
    let mut outcome = Outcome { requests, ..Outcome::default() };
    for frame in frames(sent) {
        match frame.kind {
            kind::GOAWAY => outcome.goaway = Some(frame.number(4)),
            kind::RST_STREAM => {
                outcome.resets.insert((frame.stream, frame.number(0)));
                outcome.requests.remove(&frame.stream);
            }
            kind::PING => outcome.pings += 1,
            _ => {}
        }
    }
    if outcome.goaway.is_some() {
        // How much of the rest was heard before the end is a matter of buffers.
        outcome.requests.clear();
        outcome.resets.clear();
        outcome.pings = 0;
    }
    outcome.requests.retain(|_, (octets, is_ended)| !octets.is_empty() || *is_ended);
    outcome
}

async fn theirs(octets: Vec<u8>) -> Outcome {
    let (mut near, far) = duplex(1 << 22);
    near.write_all(&octets).await.unwrap();
    let requests = Rc::new(RefCell::new(BTreeMap::new()));
    let task = tokio::task::spawn_local(accept(far, requests.clone()));
    let mut sent = Vec::new();
    loop {
        let mut part = [0; 4096];
        let len = near.read(&mut part).await.unwrap_or(0);
        sent.extend_from_slice(&part[..len]);
        if len == 0 || is_over(&sent) {
            break;
        }
    }
    // What has arrived is heard by the tasks of the streams in a few rounds.
    for _ in 0..20 {
        yield_now().await;
    }
    task.abort();
    let requests = requests.borrow().clone();
    outcome(&sent, requests)
}

/// Whether the last PING was answered, or the connection ended.
fn is_over(sent: &[u8]) -> bool {
    let mut at = 0;
    while let Some(head) = Head::read(&sent[at..]) {
        let Some(body) = sent.get(at + 9..at + 9 + head.len) else { return false };
        if head.kind == kind::GOAWAY || head.kind == kind::PING && body == LAST_PING.to_be_bytes() {
            return true;
        }
        at += 9 + head.len;
    }
    false
}

type Heard = Rc<RefCell<BTreeMap<u32, (Vec<u8>, bool)>>>;

async fn accept(pipe: DuplexStream, heard: Heard) {
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(100)
        .initial_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .max_concurrent_reset_streams(100)
        .max_pending_accept_reset_streams(100)
        .handshake::<_, Bytes>(pipe)
        .await;
    let Ok(mut connection) = handshake else { return };
    let mut answers = Vec::new();
    while let Some(Ok((request, answer))) = connection.accept().await {
        answers.push(answer);
        let id = answers[answers.len() - 1].stream_id().as_u32();
        let heard = heard.clone();
        heard.borrow_mut().insert(id, (Vec::new(), false));
        tokio::task::spawn_local(async move {
            let mut body = request.into_body();
            loop {
                match body.data().await {
                    Some(Ok(data)) => {
                        let _ = body.flow_control().release_capacity(data.len());
                        heard.borrow_mut().get_mut(&id).unwrap().0.extend_from_slice(&data);
                    }
                    Some(Err(_)) => return drop(heard.borrow_mut().remove(&id)),
                    None => break,
                }
            }
            match body.trailers().await {
                Ok(_) => heard.borrow_mut().get_mut(&id).unwrap().1 = true,
                Err(_) => drop(heard.borrow_mut().remove(&id)),
            }
            // A body that is dropped early would be a reset of its own.
            std::future::poll_fn(|_| Poll::<()>::Pending).await;
        });
    }
    std::future::poll_fn(|_| Poll::<()>::Pending).await
}

/// A conversation that both servers must understand alike, with at most one fault. Says in words
/// what it is, and which fault is in it.
fn converse(client: &mut Client, prng: &mut Prng) -> (String, Option<u64>) {
    let (mut told, mut case) = (String::new(), None);
    let mut open: Vec<u32> = Vec::new();
    let fault_at = prng.below(30);
    let mut next_id = 1;
    for step in 0..20 {
        if step == fault_at {
            case = fault(client, prng, &mut next_id, &open);
            told += &format!("fault {case:?} at {next_id}\n");
        }
        match prng.below(10) {
            0..=3 => {
                let length = prng.chance(200).then(|| prng.below(500).to_string());
                let more: Vec<_> =
                    length.iter().map(|length| ("content-length", &length[..])).collect();
                client.headers(next_id, "/t.T/Chat", &more);
                told += &format!("open {next_id} {more:?}\n");
                if let Some(length) = length {
                    let len: usize = length.parse().unwrap();
                    let message = framed(&vec![1; len.saturating_sub(5)]);
                    client.data(next_id, &message, true);
                    told += &format!("data {next_id} {} end\n", message.len());
                } else {
                    open.push(next_id);
                }
                next_id += 2;
            }
            4..=6 if !open.is_empty() => {
                let at = prng.below(open.len() as u64) as usize;
                let id = open[at];
                let end = prng.chance(300);
                let message = framed(&vec![2; prng.below(3000) as usize]);
                told += &format!("data {id} {} {end}\n", message.len());
                let cut = prng.below(message.len() as u64) as usize;
                client.data(id, &message[..cut], false).data(id, &message[cut..], end);
                if end {
                    open.remove(at);
                }
            }
            7 if !open.is_empty() => {
                let id = open.remove(prng.below(open.len() as u64) as usize);
                if prng.chance(500) {
                    told += &format!("trailers {id}\n");
                    let last = flag::END_HEADERS | flag::END_STREAM;
                    client.frame(kind::HEADERS, last, id, &fields(&[("x-end", "1")]));
                } else {
                    told += &format!("reset {id}\n");
                    client.reset(id);
                }
            }
            8 => {
                client.ping(prng.below(1000)).window(0, 1 + prng.below(1000) as u32);
            }
            _ => {
                client.frame(kind::PRIORITY, 0, next_id, &[0, 0, 0, 0, 16]);
                client.frame(0xfa, 0x55, next_id, b"whatever");
            }
        }
    }
    (told, case)
}

/// One thing that a client must not do.
fn fault(client: &mut Client, prng: &mut Prng, next_id: &mut u32, open: &[u32]) -> Option<u64> {
    let new_id = *next_id;
    let last = flag::END_HEADERS | flag::END_STREAM;
    let case = prng.below(24);
    match case {
        0 => _ = client.frame(kind::DATA, 0, 0, b"x"),
        1 => _ = client.data(new_id, b"x", false),
        2 => _ = client.frame(kind::HEADERS, last, 0, &request("/t.T/Chat", &[])),
        3 => _ = client.frame(kind::HEADERS, last, new_id + 1, &request("/t.T/Chat", &[])),
        4 => _ = client.frame(kind::HEADERS, last, new_id, &[0xff]),
        5 => _ = client.frame(kind::HEADERS, last, new_id, &[0xfe]),
        6 => _ = client.frame(kind::CONTINUATION, last, new_id, &[]),
        7 => _ = client.frame(kind::RST_STREAM, 0, new_id, &[0; 4]),
        8 => _ = client.frame(kind::RST_STREAM, 0, 0, &[0; 4]),
        9 => _ = client.window(0, 0),
        10 => _ = client.window(0, 0x7fff_ffff),
        11 => _ = client.frame(kind::PING, 0, 0, &[0; 7]),
        12 => _ = client.frame(kind::PING, 0, 1, &[0; 8]),
        13 => _ = client.frame(kind::SETTINGS, 0, 0, &[0; 7]),
        14 => _ = client.frame(kind::SETTINGS, 0, 1, &[]),
        15 => _ = client.settings(&[(setting::INITIAL_WINDOW_SIZE, 0x8000_0000)]),
        16 => _ = client.frame(0xfa, 0, 0, &vec![0; 16_385]),
        17 => _ = client.frame(kind::PUSH_PROMISE, last, new_id, &[0, 0, 0, 2]),
        18 => {
            client.frame(kind::HEADERS, 0, new_id, &request("/t.T/Chat", &[])).ping(1);
        }
        19 => {
            let block = request("/t.T/Chat", &[("connection", "close")]);
            client.frame(kind::HEADERS, last, new_id, &block);
        }
        20 => {
            let block = request("/t.T/Chat", &[("x-UPPER", "1")]);
            client.frame(kind::HEADERS, last, new_id, &block);
        }
        21 => {
            client.headers(new_id, "/t.T/Chat", &[("content-length", "10")]);
            client.data(new_id, &framed(b"12"), true);
        }
        22 => {
            client.headers(new_id, "/t.T/Chat", &[]).window(new_id, 0x7fff_ffff);
        }
        _ => {
            client.window(*open.first()?, 0);
            return Some(case);
        }
    }
    *next_id += 2;
    Some(case)
}
