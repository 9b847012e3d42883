//! The connection: what it is made of, and how one frame after the other is taken from the input.
//!
//! The verbs are spread over the files of this folder by subject (see `mod.rs`); this one holds the
//! state and the dispatch. Every handler returns a [`Step`]: go on, wait for octets, tell the
//! application, or end the connection with a code.

use std::collections::VecDeque;

use super::encode::Encoder;
use super::frame::{self, Code, FRAME_BYTES_MAX, HEAD_BYTES, Head, PREFACE, flag, kind, setting};
use super::guard::Bucket;
use super::hpack::Decoder;
use super::life::Life;
use super::streams::Streams;
use super::{Event, Key, Limits, Router};

/// One server connection of HTTP/2 with gRPC.
#[derive(Debug)]
pub struct Connection<R> {
    pub(super) router: R,
    pub(super) limits: Limits,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    /// What the peer is to be sent; the first `written` octets of it have been.
    pub(super) out: Vec<u8>,
    pub(super) written: usize,
    pub(super) events: VecDeque<Event>,
    pub(super) streams: Streams,
    pub(super) greeting: Greeting,
    pub(super) life: Life,
    pub(super) now_ms: u64,
    pub(super) counts: Counts,

    /// The highest stream id the peer has used.
    pub(super) last_id: u32,
    /// The header block under way.
    pub(super) block: Option<Block>,
    pub(super) block_octets: Vec<u8>,
    /// The DATA frame that still holds messages.
    pub(super) rest: Option<Rest>,

    /// What the peer may send on all streams, and what it has sent since it was last told so.
    pub(super) receive_window: i64,
    pub(super) taken: u32,
    pub(super) paused: bool,
    /// Octets of messages under way.
    pub(super) assembling: usize,

    /// What we may send on all streams.
    pub(super) send_window: i64,
    /// The peer's settings.
    pub(super) peer_window: i64,
    pub(super) peer_frame: usize,
    /// Streams with octets to send and a window for them, by slot and id. May hold stale ones.
    pub(super) queue: VecDeque<(u32, u32)>,
    /// Octets of answers that wait for windows or for the output to be written.
    pub(super) held: usize,

    /// Buffers for messages and answers in parts.
    pub(super) pool: Vec<Vec<u8>>,
    /// Streams that we reset lately: what the peer had sent before it heard is ignored.
    pub(super) cut: [u32; CUT_STREAMS],
    pub(super) cut_at: usize,
    pub(super) idle_frames: Bucket,
    pub(super) resets: Bucket,
}

/// What happened on a connection so far, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Streams opened.
    pub calls: u64,
    /// Of these, answered here because the request could not be one.
    pub refused: u64,
    /// RST_STREAM received for calls that were not answered yet.
    pub resets_received: u64,
    /// RST_STREAM sent.
    pub resets_sent: u64,
    /// PING received.
    pub pings: u64,
}

/// How far the peer has got with its greeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Greeting {
    Preface,
    Settings,
    Done,
}

/// A header block of which CONTINUATION frames are still to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub head: Head,
    pub continuations: u32,
    pub depends_on_itself: bool,
}

/// What is left of a DATA frame that lies whole in the input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    pub key: Key,
    pub left: usize,
    pub padding: usize,
    pub end: bool,
}

/// What a handler made of its frame.
pub(super) enum Progress {
    Event(Event),
    Next,
    Wait,
}

/// An error ends the connection.
pub(super) type Step = Result<Progress, Code>;

const CUT_STREAMS: usize = 64;

/// A connection moves to the core that owns the partition of its first request.
const _: () = {
    const fn moves_between_cores<T: Send>() {}
    moves_between_cores::<Connection<()>>();
};

impl<R: Router> Connection<R> {
    /// A connection whose peer has not said anything yet. Our SETTINGS are in `output` at once,
    /// since gRPC clients wait for them. `seed` must not be known to the peer.
    #[must_use]
    pub fn new(router: R, limits: Limits, seed: u64, now_ms: u64) -> Connection<R> {
        let mut connection = Connection {
            decoder: Decoder::new(limits.header_list_bytes, &router),
            router,
            encoder: Encoder::default(),
            out: Vec::new(),
            written: 0,
            events: VecDeque::new(),
            streams: Streams::new(seed),
            greeting: Greeting::Preface,
            life: Life::new(now_ms),
            now_ms,
            counts: Counts::default(),
            last_id: 0,
            block: None,
            block_octets: Vec::new(),
            rest: None,
            receive_window: i64::from(limits.connection_window_bytes),
            taken: 0,
            paused: false,
            assembling: 0,
            send_window: i64::from(frame::WINDOW_DEFAULT),
            peer_window: i64::from(frame::WINDOW_DEFAULT),
            peer_frame: FRAME_BYTES_MAX,
            queue: VecDeque::new(),
            held: 0,
            pool: Vec::new(),
            cut: [0; CUT_STREAMS],
            cut_at: 0,
            idle_frames: Bucket::new(limits.idle_frames_burst, limits.idle_frames_per_ms, now_ms),
            resets: Bucket::new(limits.resets_burst, limits.resets_per_ms, now_ms),
            limits,
        };
        connection.greet();
        connection
    }

    /// The time of this turn in milliseconds. Never goes back.
    #[inline(always)]
    pub fn set_now(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// The next event of `input[*pos..]`, moving `pos` past what has been taken.
    ///
    /// `None`: the caller keeps `input[*pos..]` and polls again with more octets behind it. What is
    /// kept is at most one frame. Also to be called, with nothing, after `wrote` and `tick` and
    /// after answers given outside of this loop: they may have caused events.
    #[inline]
    pub fn poll(&mut self, input: &[u8], pos: &mut usize) -> Option<Event> {
        loop {
            if !self.events.is_empty() {
                return self.events.pop_front();
            }
            if self.life.is_dead() {
                *pos = input.len();
                return None;
            }
            let step = if self.rest.is_some() {
                self.messages(input, pos)
            } else {
                self.frame(input, pos)
            };
            match step {
                Ok(Progress::Event(event)) => return Some(event),
                Ok(Progress::Next) => {}
                Ok(Progress::Wait) => return None,
                Err(code) => self.die(code),
            }
        }
    }

    /// Calls that are open here, those included that were reset and not released.
    #[must_use]
    pub fn live(&self) -> u32 {
        self.streams.live()
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn greet(&mut self) {
        let limits = &self.limits;
        let mut body = Vec::with_capacity(3 * 6);
        for (number, value) in [
            (setting::MAX_CONCURRENT_STREAMS, limits.streams),
            (setting::INITIAL_WINDOW_SIZE, limits.stream_window_bytes),
            (setting::MAX_HEADER_LIST_SIZE, limits.header_list_bytes),
        ] {
            body.extend_from_slice(&number.to_be_bytes());
            body.extend_from_slice(&value.to_be_bytes());
        }
        frame::put_frame(&mut self.out, kind::SETTINGS, 0, 0, &body);
        let more = limits.connection_window_bytes.checked_sub(frame::WINDOW_DEFAULT);
        let Some(more) = more else {
            panic!("a window of {} cannot be announced", limits.connection_window_bytes)
        };
        if more > 0 {
            frame::put_frame(&mut self.out, kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        }
    }

    /// Takes one whole frame.
    #[inline]
    fn frame(&mut self, input: &[u8], pos: &mut usize) -> Step {
        if self.greeting == Greeting::Preface {
            return self.preface(input, pos);
        }
        let Some(head) = Head::read(&input[*pos..]) else { return Ok(Progress::Wait) };
        if head.len > FRAME_BYTES_MAX {
            return Err(Code::FrameSize);
        }
        if self.greeting == Greeting::Settings {
            if head.kind != kind::SETTINGS || head.has(flag::ACK) {
                return Err(Code::Protocol);
            }
            // Set before the frame is whole: what is wrong with it is its handler's to find.
            self.greeting = Greeting::Done;
            self.life.greeted(self.now_ms);
        }
        let at = *pos + HEAD_BYTES;
        let Some(body) = input.get(at..at + head.len) else { return Ok(Progress::Wait) };
        *pos = at + head.len;
        self.life.heard(self.now_ms);
        if let Some(block) = &self.block
            && (head.kind != kind::CONTINUATION || head.stream != block.head.stream)
        {
            return Err(Code::Protocol);
        }
        match head.kind {
            kind::DATA => self.data(head, body, at, pos),
            kind::HEADERS => self.headers(head, body),
            kind::CONTINUATION => self.continuation(head, body),
            kind::WINDOW_UPDATE => self.window_update(head, body),
            kind::RST_STREAM => self.rst_stream(head, body),
            kind::SETTINGS => self.settings(head, body),
            kind::PING => self.ping(head, body),
            kind::PRIORITY => self.priority(head, body),
            kind::GOAWAY => self.goaway(head, body),
            kind::PUSH_PROMISE => Err(Code::Protocol),
            _ => self.idle_frame(),
        }
    }

    fn preface(&mut self, input: &[u8], pos: &mut usize) -> Step {
        let here = &input[*pos..];
        let len = here.len().min(PREFACE.len());
        if here[..len] != PREFACE[..len] {
            return Err(Code::Protocol);
        }
        if len < PREFACE.len() {
            return Ok(Progress::Wait);
        }
        *pos += len;
        self.greeting = Greeting::Settings;
        Ok(Progress::Next)
    }

    /// A frame that did nothing, or next to nothing: rationed.
    #[inline]
    pub(super) fn idle_frame(&mut self) -> Step {
        if self.idle_frames.take(self.now_ms) {
            Ok(Progress::Next)
        } else {
            Err(Code::EnhanceYourCalm)
        }
    }

    /// Whether the peer has never opened this stream: what it sends on it is an error of the
    /// connection.
    #[inline(always)]
    pub(super) const fn is_idle(&self, stream: u32) -> bool {
        stream > self.last_id || stream.is_multiple_of(2)
    }

    /// Sends RST_STREAM and remembers it.
    pub(super) fn put_reset(&mut self, stream: u32, code: Code) {
        let body = (code as u32).to_be_bytes();
        frame::put_frame(&mut self.out, kind::RST_STREAM, 0, stream, &body);
        self.cut[self.cut_at % CUT_STREAMS] = stream;
        self.cut_at = self.cut_at.wrapping_add(1);
        self.counts.resets_sent += 1;
    }

    /// Whether we reset this stream lately.
    pub(super) fn was_cut(&self, stream: u32) -> bool {
        self.cut.contains(&stream)
    }

    /// An error of one stream: RST_STREAM, and an application that holds it hears of it. Resets
    /// that a peer provokes count like its own (CVE-2025-8671).
    #[cold]
    pub(super) fn stream_error(&mut self, stream: u32, code: Code) -> Step {
        self.put_reset(stream, code);
        if let Some(slot) = self.streams.find(stream) {
            self.abandon(slot);
        }
        if self.resets.take(self.now_ms) { self.idle_frame() } else { Err(Code::EnhanceYourCalm) }
    }
}

impl<R> Connection<R> {
    /// Panics if the sums kept here are not what the streams add up to. Walks all of them: for
    /// tests and simulations.
    pub fn audit(&mut self) {
        let (mut live, mut held, mut assembling) = (0, 0, 0);
        for slot in 0..self.streams.slots() {
            let stream = self.streams.at(slot as u32);
            if stream.id != 0 {
                live += 1;
            } else {
                assert!(stream.held.capacity() + stream.body.capacity() == 0, "slot {slot} leaks");
            }
            held += stream.held_len();
            assembling += stream.body.len();
        }
        assert_eq!(live, self.streams.live(), "live streams");
        assert_eq!(held, self.held, "octets held back");
        assert_eq!(assembling, self.assembling, "octets of messages under way");
        let places_max = 65 + 2 * self.streams.slots();
        assert!(self.queue.len() <= places_max, "{} in the queue", self.queue.len());
    }
}
