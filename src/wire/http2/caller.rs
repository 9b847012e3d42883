//! The client role: calls of one message each, answered by one or many, as a value.
//!
//! ```text
//!   begin ──► output ──► socket ──► input ──► poll ──► Event::Message … Event::End
//! ```
//!
//! The counterpart of `Connection`, for programs that make many calls and must cost little: no task
//! and no allocation per call, request headers from the peer's table, the message encoded where it
//! is sent from. Whoever begins a call gives it a token, and finds that in its events.
//!
//! # Contract
//!
//! * Nothing is begun before the peer's SETTINGS came (`can_begin`), nor past its limit on streams.
//! * Every call that was begun ends with exactly one [`Event::End`], unless it was cancelled or the
//!   connection failed, which `poll` says with the code; then all calls are gone.
//! * Received octets give their windows back at once: whoever polls takes what comes.
//!
//! Absent on purpose: sockets, deadlines in headers, requests of many messages, metadata, timers.

use std::collections::VecDeque;

use super::Message;
use super::answer::{Answers, Head as Said};
use super::frame::{
    self, Code, FRAME_BYTES_MAX, HEAD_BYTES, Head, PREFACE, WINDOW_DEFAULT, flag, kind, setting,
    u32_at,
};
use super::streams::Ids;
use crate::limits::HTTP2_HEADER_LIST_BYTES_MAX;
use crate::wire::grpc::{self, PREFIX_BYTES, Status};

/// One client connection of HTTP/2 with gRPC.
#[derive(Debug)]
pub struct Caller {
    fields: Fields,
    answers: Answers,
    out: Vec<u8>,
    written: usize,
    events: VecDeque<Event>,
    message_bytes_max: usize,

    is_ready: bool,
    going: bool,
    streams_max: u32,
    next_id: u32,
    live: u32,
    calls: Vec<Call>,
    free: Vec<u32>,
    ids: Ids,

    /// What we may send on all streams; the peer's settings.
    send_window: i64,
    peer_window: i64,
    peer_frame: usize,
    /// Calls whose message waits for windows, by slot and id.
    held: VecDeque<(u32, u32)>,
    /// Octets taken since the peer was last told.
    taken: u32,

    /// The header block under way: of which frame.
    block: Option<Head>,
    block_octets: Vec<u8>,
    /// The DATA frame that still holds messages.
    rest: Option<Rest>,
}

/// What is left of a DATA frame that lies whole in the input.
#[derive(Clone, Copy, Debug)]
struct Rest {
    slot: u32,
    id: u32,
    left: usize,
    padding: usize,
    is_end: bool,
}

/// What became of a call.
#[derive(PartialEq, Eq, Debug)]
pub enum Event {
    /// One message of an answer.
    Message {
        /// What `begin` was given.
        token: u64,
        /// The message.
        message: Message,
    },
    /// The call is over.
    End {
        /// What `begin` was given.
        token: u64,
        /// How it ended.
        status: Status,
        /// Why; empty when it ended well.
        text: Box<str>,
    },
    /// The peer takes no more calls on this connection; those that it has are answered.
    Away(Box<str>),
}

#[derive(Default, Debug)]
struct Call {
    id: u32,
    token: u64,
    /// What we may send on it; counted only while `unsent` holds something.
    window: i64,
    unsent: Vec<u8>,
    sent: usize,
    /// Octets taken since the peer was last told.
    taken: u32,
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    body: Vec<u8>,
    /// The text of an answer that is not gRPC.
    http: u16,
}

/// The request fields of a connection, and what of them the peer's table holds.
#[derive(Debug)]
struct Fields {
    authority: Box<[u8]>,
    paths: Vec<Box<[u8]>>,
    /// By field (authority, te, content-type, then paths): the how manieth insertion it was.
    inserted: Vec<Option<usize>>,
    insertions: usize,
    bytes: usize,
    /// The peer's table is too small to be worth it.
    is_plain: bool,
    owes_resize: bool,
}

/// What we let the peer send before it must hear of us: on a stream and on the connection.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;

/// Our part of the peer's table: the protocol's default.
const TABLE_BYTES: usize = 4096;

impl Caller {
    /// A connection to `authority` of which nothing was sent yet; its greeting is in `output`.
    /// Answers of more than `message_bytes_max` end the connection.
    #[must_use]
    pub fn new(authority: &str, message_bytes_max: usize, seed: u64) -> Caller {
        let mut out = PREFACE.to_vec();
        let mut settings = Vec::new();
        for (name, value) in [
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (setting::MAX_HEADER_LIST_SIZE, HTTP2_HEADER_LIST_BYTES_MAX),
        ] {
            settings.extend_from_slice(&name.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        frame::put_frame(&mut out, kind::SETTINGS, 0, 0, &settings);
        let more = CONNECTION_WINDOW - WINDOW_DEFAULT;
        frame::put_frame(&mut out, kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        Caller {
            fields: Fields::new(authority),
            answers: Answers::default(),
            out,
            written: 0,
            events: VecDeque::new(),
            message_bytes_max,
            is_ready: false,
            going: false,
            streams_max: u32::MAX,
            next_id: 1,
            live: 0,
            calls: Vec::new(),
            free: Vec::new(),
            ids: Ids::new(seed),
            send_window: i64::from(WINDOW_DEFAULT),
            peer_window: i64::from(WINDOW_DEFAULT),
            peer_frame: FRAME_BYTES_MAX,
            held: VecDeque::new(),
            taken: 0,
            block: None,
            block_octets: Vec::new(),
            rest: None,
        }
    }

    /// The number by which `begin` knows `path`, `/package.Service/Method`.
    pub fn path(&mut self, path: &str) -> usize {
        self.fields.path(path.as_bytes())
    }

    /// Whether the peer takes another call now.
    #[must_use]
    pub fn can_begin(&self) -> bool {
        self.is_ready && !self.going && self.live < self.streams_max && self.next_id < 1 << 31
    }

    /// Whether the peer has greeted.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Calls that have not ended.
    #[must_use]
    pub const fn live(&self) -> u32 {
        self.live
    }

    /// Begins a call of `path` whose message `encode` appends to what it is given. The number is
    /// for `cancel`.
    ///
    /// # Panics
    /// When `can_begin` says no.
    pub fn begin(&mut self, path: usize, token: u64, encode: impl FnOnce(&mut Vec<u8>)) -> u32 {
        assert!(self.can_begin(), "{} of {} calls are open", self.live, self.streams_max);
        let id = self.next_id;
        self.next_id += 2;
        self.live += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.calls.push(Call::default());
            self.calls.len() as u32 - 1
        });
        self.ids.insert(id, slot);
        let call = &mut self.calls[slot as usize];
        (call.id, call.token, call.window) = (id, token, self.peer_window);
        let at = self.out.len();
        frame::put_head(&mut self.out, 0, kind::HEADERS, flag::END_HEADERS, id);
        self.fields.put(path, &mut self.out);
        frame::close_frame(&mut self.out, at);
        let start = self.out.len();
        self.out.extend_from_slice(&[0; HEAD_BYTES + PREFIX_BYTES]);
        encode(&mut self.out);
        let octets = self.out.len() - start - HEAD_BYTES;
        let prefix = grpc::prefix(octets - PREFIX_BYTES);
        self.out[start + HEAD_BYTES..][..PREFIX_BYTES].copy_from_slice(&prefix);
        let window = self.send_window.min(self.peer_window);
        if octets <= self.peer_frame && octets as i64 <= window && self.held.is_empty() {
            let head = frame::head(octets, kind::DATA, flag::END_STREAM, id);
            self.out[start..start + HEAD_BYTES].copy_from_slice(&head);
            self.send_window -= octets as i64;
            return id;
        }
        call.unsent = self.out.split_off(start + HEAD_BYTES);
        self.out.truncate(start);
        self.held.push_back((slot, id));
        self.pump();
        id
    }

    /// Gives up a call: it ends without an event.
    pub fn cancel(&mut self, id: u32) {
        if let Some(slot) = self.ids.find(id) {
            let code = Code::Cancel as u32;
            frame::put_frame(&mut self.out, kind::RST_STREAM, 0, id, &code.to_be_bytes());
            self.close(slot);
        }
    }

    /// Takes what `input` holds from `at` on, one event at a time; `None` when whole frames are
    /// used up. What is behind `at` then begins the next input.
    ///
    /// # Errors
    /// The connection has failed.
    #[inline]
    pub fn poll(&mut self, input: &[u8], at: &mut usize) -> Result<Option<Event>, Code> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if self.rest.is_some() {
                if let Some(event) = self.data(input, at)? {
                    return Ok(Some(event));
                }
                continue;
            }
            let Some(head) = Head::read(&input[*at..]) else { return Ok(None) };
            if head.len > FRAME_BYTES_MAX {
                return Err(Code::FrameSize);
            }
            let Some(body) = input.get(*at + HEAD_BYTES..*at + HEAD_BYTES + head.len) else {
                return Ok(None);
            };
            *at += HEAD_BYTES;
            if head.kind == kind::DATA {
                self.begin_data(head, body, at)?;
                continue;
            }
            *at += head.len;
            self.control(head, body)?;
        }
    }

    /// What the peer is to be sent.
    #[inline]
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.out[self.written..]
    }

    /// So many octets of `output` have been written.
    pub fn wrote(&mut self, octets: usize) {
        self.written += octets;
        assert!(self.written <= self.out.len(), "{} of {}", self.written, self.out.len());
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
    }

    fn begin_data(&mut self, head: Head, body: &[u8], at: &mut usize) -> Result<(), Code> {
        self.taken += head.len as u32;
        if self.taken > CONNECTION_WINDOW / 4 {
            frame::put_frame(&mut self.out, kind::WINDOW_UPDATE, 0, 0, &self.taken.to_be_bytes());
            self.taken = 0;
        }
        let content = head.content(body)?;
        let padding = body.len() - content.end;
        let is_end = head.has(flag::END_STREAM);
        let Some(slot) = self.ids.find(head.stream) else {
            // Of a call that was given up.
            *at += head.len;
            return Ok(());
        };
        let call = &mut self.calls[slot as usize];
        call.taken += head.len as u32;
        if call.taken > STREAM_WINDOW / 4 && !is_end {
            let more = call.taken.to_be_bytes();
            frame::put_frame(&mut self.out, kind::WINDOW_UPDATE, 0, head.stream, &more);
            call.taken = 0;
        }
        *at += content.start;
        let (id, left) = (head.stream, content.len());
        self.rest = Some(Rest { slot, id, left, padding, is_end });
        Ok(())
    }

    /// The next message of the DATA frame at `at`.
    #[inline]
    fn data(&mut self, input: &[u8], at: &mut usize) -> Result<Option<Event>, Code> {
        let Some(rest) = self.rest else { return Ok(None) };
        let Rest { slot, id, left, padding, is_end } = rest;
        let call = &mut self.calls[slot as usize];
        if call.id != id {
            // It was given up in the middle of its frame.
            *at += left + padding;
            self.rest = None;
            return Ok(None);
        }
        if left == 0 {
            *at += padding;
            self.rest = None;
            if is_end {
                // A gRPC answer ends with trailers.
                let text = not_grpc(call.http);
                return Ok(Some(self.end(slot, Status::Unknown, text)));
            }
            return Ok(None);
        }
        let content = &input[*at..*at + left];
        let token = call.token;
        if call.prefix_len == 0
            && let Some(prefix) = content.first_chunk::<PREFIX_BYTES>()
        {
            let len = message_len(prefix, self.message_bytes_max)?;
            if content.len() >= PREFIX_BYTES + len {
                let message = Message::Input { at: *at + PREFIX_BYTES, len };
                let used = PREFIX_BYTES + len;
                *at += used;
                self.rest = Some(Rest { left: left - used, ..rest });
                return Ok(Some(Event::Message { token, message }));
            }
        }
        let mut used = 0;
        while call.prefix_len < PREFIX_BYTES && used < left {
            call.prefix[call.prefix_len] = content[used];
            call.prefix_len += 1;
            used += 1;
        }
        let mut event = None;
        if call.prefix_len == PREFIX_BYTES {
            let len = message_len(&call.prefix, self.message_bytes_max)?;
            let more = (len - call.body.len()).min(left - used);
            call.body.extend_from_slice(&content[used..used + more]);
            used += more;
            if call.body.len() == len {
                call.prefix_len = 0;
                let message = Message::Owned(std::mem::take(&mut call.body));
                event = Some(Event::Message { token, message });
            }
        }
        *at += used;
        self.rest = Some(Rest { left: left - used, ..rest });
        Ok(event)
    }

    fn control(&mut self, head: Head, body: &[u8]) -> Result<(), Code> {
        if self.block.is_some() != (head.kind == kind::CONTINUATION) {
            return Err(Code::Protocol);
        }
        match head.kind {
            kind::HEADERS => {
                let mut content = head.content(body)?;
                if head.has(flag::PRIORITY) {
                    content.start += 5;
                }
                let block = body.get(content).ok_or(Code::FrameSize)?;
                if head.has(flag::END_HEADERS) {
                    return self.headers(head, block);
                }
                self.block = Some(head);
                self.block_octets.clear();
                self.block_octets.extend_from_slice(block);
            }
            kind::CONTINUATION => {
                self.block_octets.extend_from_slice(body);
                if self.block_octets.len() > HTTP2_HEADER_LIST_BYTES_MAX as usize {
                    return Err(Code::EnhanceYourCalm);
                }
                if head.has(flag::END_HEADERS)
                    && let Some(first) = self.block.take()
                {
                    let block = std::mem::take(&mut self.block_octets);
                    let read = self.headers(first, &block);
                    self.block_octets = block;
                    return read;
                }
            }
            kind::SETTINGS if !head.has(flag::ACK) => self.settings(body)?,
            kind::PING if !head.has(flag::ACK) => {
                frame::put_frame(&mut self.out, kind::PING, flag::ACK, 0, body);
            }
            kind::WINDOW_UPDATE => {
                let octets: &[u8; 4] = body.first_chunk().ok_or(Code::FrameSize)?;
                let more = i64::from(u32::from_be_bytes(*octets) & 0x7fff_ffff);
                if head.stream == 0 {
                    self.send_window += more;
                } else if let Some(slot) = self.ids.find(head.stream) {
                    self.calls[slot as usize].window += more;
                }
                self.pump();
            }
            kind::RST_STREAM => {
                let code = u32::from_be_bytes(*body.first_chunk().ok_or(Code::FrameSize)?);
                if let Some(slot) = self.ids.find(head.stream) {
                    let status = if code == Code::Refused as u32 || code == Code::NoError as u32 {
                        Status::Unavailable
                    } else {
                        Status::Internal
                    };
                    let event = self.end(slot, status, format!("reset with code {code}").into());
                    self.events.push_back(event);
                }
            }
            kind::GOAWAY => self.away(body)?,
            kind::PUSH_PROMISE => return Err(Code::Protocol),
            _ => {}
        }
        Ok(())
    }

    fn headers(&mut self, head: Head, block: &[u8]) -> Result<(), Code> {
        let said = self.answers.read(block).map_err(|_| Code::Compression)?;
        let Some(slot) = self.ids.find(head.stream) else { return Ok(()) };
        let Said { http, status } = said;
        let call = &mut self.calls[slot as usize];
        if http != 0 {
            call.http = http;
        }
        if !head.has(flag::END_STREAM) {
            return Ok(());
        }
        let event = match status {
            Some(0) => self.end(slot, Status::Ok, Box::default()),
            Some(code) => {
                let text = grpc::text(self.answers.text());
                self.end(slot, Status::from_code(code), text.into())
            }
            None => {
                let text = not_grpc(call.http);
                self.end(slot, Status::Unknown, text)
            }
        };
        self.events.push_back(event);
        Ok(())
    }

    fn settings(&mut self, body: &[u8]) -> Result<(), Code> {
        if !body.len().is_multiple_of(6) {
            return Err(Code::FrameSize);
        }
        for each in body.chunks_exact(6) {
            let (name, value) = (u16::from_be_bytes([each[0], each[1]]), u32_at(each, 2));
            match name {
                setting::HEADER_TABLE_SIZE => self.fields.set_table(value as usize),
                setting::MAX_CONCURRENT_STREAMS => self.streams_max = value,
                setting::INITIAL_WINDOW_SIZE => {
                    let more = i64::from(value) - self.peer_window;
                    self.peer_window = i64::from(value);
                    for &(slot, id) in &self.held {
                        let call = &mut self.calls[slot as usize];
                        call.window += if call.id == id { more } else { 0 };
                    }
                }
                setting::MAX_FRAME_SIZE => self.peer_frame = (value as usize).min(FRAME_BYTES_MAX),
                _ => {}
            }
        }
        self.is_ready = true;
        frame::put_head(&mut self.out, 0, kind::SETTINGS, flag::ACK, 0);
        self.pump();
        Ok(())
    }

    /// Calls that the peer will not look at end as UNAVAILABLE: they may be made elsewhere.
    fn away(&mut self, body: &[u8]) -> Result<(), Code> {
        if body.len() < 8 {
            return Err(Code::FrameSize);
        }
        let (last, code) = (u32_at(body, 0) & 0x7fff_ffff, u32_at(body, 4));
        self.going = true;
        let text = String::from_utf8_lossy(&body[8..]);
        let text = format!("the server goes away with code {code} {text}");
        for slot in 0..self.calls.len() as u32 {
            if self.calls[slot as usize].id > last {
                let event = self.end(slot, Status::Unavailable, text.trim_end().into());
                self.events.push_back(event);
            }
        }
        self.events.push_back(Event::Away(text.trim_end().into()));
        Ok(())
    }

    /// Sends of what waits as much as windows allow.
    fn pump(&mut self) {
        for _ in 0..self.held.len() {
            let Some((slot, id)) = self.held.pop_front() else { return };
            let call = &mut self.calls[slot as usize];
            if call.id != id {
                continue;
            }
            while call.sent < call.unsent.len() {
                let left = call.unsent.len() - call.sent;
                let window = self.send_window.min(call.window).max(0) as usize;
                let octets = left.min(window).min(self.peer_frame);
                if octets == 0 {
                    break;
                }
                let end = if octets == left { flag::END_STREAM } else { 0 };
                let body = &call.unsent[call.sent..call.sent + octets];
                frame::put_frame(&mut self.out, kind::DATA, end, id, body);
                call.sent += octets;
                call.window -= octets as i64;
                self.send_window -= octets as i64;
            }
            if call.sent < call.unsent.len() {
                self.held.push_back((slot, id));
            } else {
                (call.unsent, call.sent) = (Vec::new(), 0);
            }
        }
    }

    fn end(&mut self, slot: u32, status: Status, text: Box<str>) -> Event {
        let token = self.calls[slot as usize].token;
        self.close(slot);
        Event::End { token, status, text }
    }

    fn close(&mut self, slot: u32) {
        let call = &mut self.calls[slot as usize];
        assert!(call.id != 0, "slot {slot} is free already");
        self.ids.remove(call.id);
        (call.id, call.taken, call.prefix_len, call.sent, call.http) = (0, 0, 0, 0, 0);
        if call.unsent.capacity() > 0 {
            call.unsent = Vec::new();
        }
        call.body.clear();
        self.free.push(slot);
        self.live -= 1;
    }
}

impl Fields {
    const AUTHORITY: usize = 0;
    const TE: usize = 1;
    const CONTENT_TYPE: usize = 2;
    const PATHS: usize = 3;

    fn new(authority: &str) -> Fields {
        Fields {
            authority: authority.as_bytes().into(),
            paths: Vec::new(),
            inserted: vec![None; Fields::PATHS],
            insertions: 0,
            bytes: 0,
            is_plain: false,
            owes_resize: false,
        }
    }

    fn path(&mut self, path: &[u8]) -> usize {
        if let Some(known) = self.paths.iter().position(|known| **known == *path) {
            return known;
        }
        self.paths.push(path.into());
        self.inserted.push(None);
        self.paths.len() - 1
    }

    /// A table below the default is not used at all: who has such a peer makes few calls.
    fn set_table(&mut self, bytes: usize) {
        if bytes < TABLE_BYTES && !self.is_plain {
            self.is_plain = true;
            self.owes_resize = true;
        }
    }

    #[inline]
    fn put(&mut self, path: usize, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.owes_resize) {
            out.push(0x20);
        }
        // POST and http of the static table.
        out.extend_from_slice(&[0x83, 0x86]);
        for field in [Fields::PATHS + path, Fields::AUTHORITY, Fields::TE, Fields::CONTENT_TYPE] {
            match self.inserted[field] {
                Some(nth) if !self.is_plain => {
                    let index = 62 + (self.insertions - 1 - nth);
                    assert!(index < 127, "{index} takes more than one octet");
                    out.push(0x80 | index as u8);
                }
                _ => self.spell(field, out),
            }
        }
    }

    #[cold]
    fn spell(&mut self, field: usize, out: &mut Vec<u8>) {
        let (index, name, value): (u8, &[u8], &[u8]) = match field {
            Fields::AUTHORITY => (1, b":authority", &self.authority),
            Fields::TE => (0, b"te", b"trailers"),
            Fields::CONTENT_TYPE => (31, b"content-type", b"application/grpc"),
            path => (4, b":path", &self.paths[path - Fields::PATHS]),
        };
        let bytes = self.bytes + name.len() + value.len() + 32;
        // Entries are never pushed out, so what does not fit is spelled each time.
        let kept = !self.is_plain && bytes <= TABLE_BYTES && self.insertions < 60;
        out.push(if kept { 0x40 } else { 0 } | if kept || index < 15 { index } else { 15 });
        if !kept && index >= 15 {
            out.push(index - 15);
        }
        if index == 0 {
            put_string(out, name);
        }
        put_string(out, value);
        if kept {
            self.bytes = bytes;
            self.inserted[field] = Some(self.insertions);
            self.insertions += 1;
        }
    }
}

fn put_string(out: &mut Vec<u8>, octets: &[u8]) {
    let mut rest = octets.len();
    if rest < 127 {
        out.push(rest as u8);
    } else {
        out.push(127);
        rest -= 127;
        while rest >= 128 {
            out.push(rest as u8 | 128);
            rest >>= 7;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(octets);
}

fn message_len(prefix: &[u8; PREFIX_BYTES], max: usize) -> Result<usize, Code> {
    let len = u32_at(prefix, 1) as usize;
    // Nobody told the peer that it may compress.
    if prefix[0] != 0 || len > max { Err(Code::Protocol) } else { Ok(len) }
}

fn not_grpc(http: u16) -> Box<str> {
    format!("the answer is not gRPC (HTTP status {http})").into()
}

#[cfg(test)]
mod tests;
