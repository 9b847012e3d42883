//! The other side, frame by frame: what a client says as octets, what the connection said as
//! frames, and a small application behind it.

use std::fmt::Write as _;

use ringraft::wire::grpc::{self, Status};
use ringraft::wire::http2::frame::{Head, PREFACE, flag, kind, put_frame};
use ringraft::wire::http2::{Connection, Event, Key, Limits, Message, MethodId, Route};

pub const ECHO: MethodId = 0;
/// Request: count and size (u32 each). Answer: so many messages, of 256 KiB at most.
pub const MANY: MethodId = 1;
/// Any number of messages, each of which comes back.
pub const CHAT: MethodId = 2;
/// Never answered by itself.
pub const HANG: MethodId = 3;

pub fn route(path: &[u8]) -> Option<Route> {
    let (method, single) = match path {
        b"/t.T/Echo" => (ECHO, true),
        b"/t.T/Many" => (MANY, true),
        b"/t.T/Chat" => (CHAT, false),
        b"/t.T/Hang" => (HANG, true),
        _ => return None,
    };
    Some(Route { method, single })
}

pub type Router = fn(&[u8]) -> Option<Route>;
pub type Conn = Connection<Router>;

/// A connection with these limits at time 0.
pub fn connection(limits: Limits) -> Conn {
    Connection::new(route as Router, limits, 7, 0)
}

/// Octets that a client sends.
#[derive(Clone, Default)]
pub struct Client {
    pub out: Vec<u8>,
}

impl Client {
    /// Preface, SETTINGS and their acknowledgement.
    pub fn greeted() -> Client {
        let mut client = Client { out: PREFACE.to_vec() };
        client.frame(kind::SETTINGS, 0, 0, &[]).frame(kind::SETTINGS, flag::ACK, 0, &[]);
        client
    }

    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, body: &[u8]) -> &mut Client {
        put_frame(&mut self.out, kind, flags, stream, body);
        self
    }

    pub fn headers(&mut self, stream: u32, path: &str, more: &[(&str, &str)]) -> &mut Client {
        self.frame(kind::HEADERS, flag::END_HEADERS, stream, &request(path, more))
    }

    pub fn data(&mut self, stream: u32, content: &[u8], end: bool) -> &mut Client {
        self.frame(kind::DATA, u8::from(end), stream, content)
    }

    /// A whole unary call.
    pub fn call(&mut self, stream: u32, path: &str, message: &[u8]) -> &mut Client {
        self.headers(stream, path, &[]).data(stream, &framed(message), true)
    }

    pub fn reset(&mut self, stream: u32) -> &mut Client {
        self.frame(kind::RST_STREAM, 0, stream, &8u32.to_be_bytes())
    }

    pub fn window(&mut self, stream: u32, more: u32) -> &mut Client {
        self.frame(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
    }

    pub fn settings(&mut self, values: &[(u16, u32)]) -> &mut Client {
        let mut body = Vec::new();
        for (number, value) in values {
            body.extend_from_slice(&number.to_be_bytes());
            body.extend_from_slice(&value.to_be_bytes());
        }
        self.frame(kind::SETTINGS, 0, 0, &body)
    }

    pub fn ping(&mut self, payload: u64) -> &mut Client {
        self.frame(kind::PING, 0, 0, &payload.to_be_bytes())
    }
}

/// A message with its prefix.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = grpc::prefix(message.len()).to_vec();
    out.extend_from_slice(message);
    out
}

/// A block of literals that leaves the table alone.
pub fn request(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    fields(usual.iter().chain(more))
}

pub fn fields<'a>(fields: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        literal(&mut out, 0, name.as_bytes(), value.as_bytes());
    }
    out
}

/// A literal field with a name of its own; `first` 0x40 puts it into the table.
pub fn literal(out: &mut Vec<u8>, first: u8, name: &[u8], value: &[u8]) {
    out.push(first);
    for part in [name, value] {
        integer(out, 0, 7, part.len());
        out.extend_from_slice(part);
    }
}

pub fn integer(out: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
    let mask = (1 << bits) - 1;
    if value < mask {
        return out.push(first | value as u8);
    }
    out.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 128 {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A frame that the connection sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub body: Vec<u8>,
}

impl Frame {
    pub fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.body[at..at + 4].try_into().unwrap())
    }

    pub fn says(&self, text: &str) -> bool {
        self.body.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// All frames in `octets`, which end with a frame.
pub fn frames(mut octets: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(head) = Head::read(octets) {
        let body = octets[9..9 + head.len].to_vec();
        octets = &octets[9 + head.len..];
        frames.push(Frame { kind: head.kind, flags: head.flags, stream: head.stream, body });
    }
    assert!(octets.is_empty(), "{} octets are no frame", octets.len());
    frames
}

/// The connection, its application, and what the shell keeps.
pub struct Server {
    pub conn: Conn,
    pub kept: Vec<u8>,
    /// Everything the connection ever wanted to send.
    pub sent: Vec<u8>,
    /// One line for each event.
    pub log: String,
    /// Calls of HANG that nobody has answered.
    pub hanging: Vec<Key>,
    /// Calls that were reset are let go of at once.
    pub releases: bool,
    pub fatal: bool,
    many: Vec<(Key, u32, u32)>,
}

impl Server {
    pub fn new(limits: Limits) -> Server {
        Server {
            conn: connection(limits),
            kept: Vec::new(),
            sent: Vec::new(),
            log: String::new(),
            hanging: Vec::new(),
            releases: true,
            fatal: false,
            many: Vec::new(),
        }
    }

    /// A server with usual limits that has heard all of this.
    pub fn heard(client: &Client) -> Server {
        let mut server = Server::new(Limits::default());
        server.hear(&client.out);
        server
    }

    /// One read; nothing is written.
    pub fn hear(&mut self, octets: &[u8]) {
        self.kept.extend_from_slice(octets);
        let input = std::mem::take(&mut self.kept);
        let mut pos = 0;
        while let Some(event) = self.conn.poll(&input, &mut pos) {
            self.take(event, &input);
        }
        self.kept = input[pos..].to_vec();
        self.conn.audit();
    }

    /// Writes all of the output at once, as often as more follows.
    pub fn write(&mut self) {
        while !self.conn.output().is_empty() {
            self.write_some(usize::MAX);
        }
    }

    /// Writes at most so many octets.
    pub fn write_some(&mut self, octets_max: usize) {
        let len = self.conn.output().len().min(octets_max);
        self.sent.extend_from_slice(&self.conn.output()[..len]);
        self.conn.wrote(len);
        self.hear(&[]);
    }

    /// Frames sent since the last time.
    pub fn frames(&mut self) -> Vec<Frame> {
        self.write();
        frames(&std::mem::take(&mut self.sent))
    }

    /// The code of the last GOAWAY.
    pub fn goaway(&mut self) -> Option<u32> {
        let frames = self.frames();
        frames.iter().rev().find(|frame| frame.kind == kind::GOAWAY).map(|frame| frame.number(4))
    }

    fn take(&mut self, event: Event, input: &[u8]) {
        match event {
            Event::Message { key, meta, message, end } => {
                let octets = message.octets(input);
                let timeout = meta.timeout().map(|span| span.0);
                let (id, method) = (key.stream(), meta.method);
                let sum = crate::digest(octets);
                let len = octets.len();
                writeln!(self.log, "{id} {method} {timeout:?} {len} {sum:x} {end}").unwrap();
                self.answer(key, method, message, input, end);
            }
            Event::End { key, .. } => {
                writeln!(self.log, "{} end", key.stream()).unwrap();
                self.conn.finish(key, Status::Ok, "");
            }
            Event::Reset { key } => {
                writeln!(self.log, "{} reset", key.stream()).unwrap();
                self.many.retain(|many| many.0 != key);
                if self.releases {
                    self.hanging.retain(|hanging| *hanging != key);
                    self.conn.release(key);
                }
            }
            Event::Writable { key } => {
                writeln!(self.log, "{} writable", key.stream()).unwrap();
                self.many(key);
            }
            Event::Fatal(code) => {
                writeln!(self.log, "fatal {code:?}").unwrap();
                self.fatal = true;
            }
        }
    }

    fn answer(&mut self, key: Key, method: MethodId, message: Message, input: &[u8], end: bool) {
        let octets = message.octets(input);
        match method {
            ECHO => {
                self.conn.unary(key, octets);
            }
            MANY if octets.len() == 8 => {
                let number = |at: usize| u32::from_be_bytes(octets[at..at + 4].try_into().unwrap());
                self.many.push((key, number(0), number(4).min(1 << 18)));
                self.many(key);
            }
            CHAT => {
                self.conn.message(key, octets);
                if end {
                    self.conn.finish(key, Status::Ok, "");
                }
            }
            HANG => self.hanging.push(key),
            _ => self.conn.fail(key, Status::InvalidArgument, "eight octets, please"),
        }
        self.conn.recycle(key, message);
    }

    /// Goes on with a stream of messages until one is held back.
    fn many(&mut self, key: Key) {
        let Some(at) = self.many.iter().position(|many| many.0 == key) else { return };
        let (_, left, size) = &mut self.many[at];
        while *left > 0 {
            *left -= 1;
            let octet = *left as u8;
            let size = *size as usize;
            if self.conn.message_with(key, |out| out.resize(out.len() + size, octet)) > 0 {
                return;
            }
        }
        self.many.remove(at);
        self.conn.finish(key, Status::Ok, "");
    }
}
