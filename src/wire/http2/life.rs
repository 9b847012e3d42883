//! The life of a connection: greeting, silence, and its end, gentle or not.
//!
//! ```text
//!  new ──SETTINGS of the peer──► open ──shutdown──► announced ──PING answered──► last ──► closing
//!   │   within handshake_ms        │     GOAWAY 2^31-1   or drain_ping_ms   GOAWAY last id   ▲
//!   │                              │     and PING                            no streams left,│
//!   │                              │                                         or drain_ms     │
//!   └───────────────── an error, or a timer: GOAWAY, Event::Fatal ───────────────────────────┘
//! ```
//!
//! Two GOAWAY (RFC 9113, 6.8): the first tells the client to open no more streams and loses none of
//! those on their way; the second, a round trip later, says which was the last.
//!
//! When [`Connection::closing`] is true the shell writes what `output` still has, shuts its writing
//! half down, and reads and throws away until the peer closes or a short timer ends. Closing with
//! unread octets would make the kernel send a TCP reset, which can destroy the GOAWAY on its way.

use super::connection::{Connection, Greeting};
use super::frame::{self, Code, kind};
use super::{Event, Router};

/// What our PINGs carry.
const PING_KEEPALIVE: &[u8; 8] = b"still up";
const PING_DRAIN: &[u8; 8] = b"last one";

/// The last stream id of the first GOAWAY.
const ID_MAX: u32 = 0x7fff_ffff;

/// Where a connection stands, and the times that its timers count from.
#[derive(Debug)]
pub(super) struct Life {
    started_ms: u64,
    /// When SETTINGS of the peer came, until it acknowledged ours.
    unacknowledged_ms: Option<u64>,
    /// When the last frame came.
    heard_ms: u64,
    /// When the peer was asked whether it is there, until something is heard.
    asked_ms: Option<u64>,
    /// When the last stream was closed.
    idle_ms: u64,
    drain: Drain,
    is_dead: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Drain {
    None,
    Announced { since_ms: u64 },
    Last { since_ms: u64, id: u32 },
}

impl Life {
    pub fn new(now_ms: u64) -> Life {
        Life {
            started_ms: now_ms,
            unacknowledged_ms: None,
            heard_ms: now_ms,
            asked_ms: None,
            idle_ms: now_ms,
            drain: Drain::None,
            is_dead: false,
        }
    }

    #[inline(always)]
    pub const fn is_dead(&self) -> bool {
        self.is_dead
    }

    pub fn greeted(&mut self, now_ms: u64) {
        self.unacknowledged_ms = Some(now_ms);
    }

    pub fn settings_acknowledged(&mut self) {
        self.unacknowledged_ms = None;
    }

    #[inline(always)]
    pub fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.asked_ms = None;
    }

    #[inline(always)]
    pub fn idle(&mut self, now_ms: u64) {
        self.idle_ms = now_ms;
    }

    /// Whether a new stream came too late.
    #[inline(always)]
    pub const fn refuses(&self, stream: u32) -> bool {
        matches!(self.drain, Drain::Last { id, .. } if stream > id)
    }
}

impl<R: Router> Connection<R> {
    /// When [`tick`](Self::tick) wants to be called at the latest. `None`: never again.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        if self.closing() {
            return None;
        }
        let (life, limits) = (&self.life, &self.limits);
        if self.greeting != Greeting::Done {
            return Some(life.started_ms.saturating_add(limits.handshake_ms));
        }
        let silence = match life.asked_ms {
            Some(asked_ms) => Some(asked_ms.saturating_add(limits.keepalive_timeout_ms)),
            None => after(life.heard_ms, limits.keepalive_ms),
        };
        let is_idle = self.streams.live() == 0 && life.drain == Drain::None;
        let drain = match life.drain {
            Drain::None => None,
            Drain::Announced { since_ms } => Some(since_ms.saturating_add(limits.drain_ping_ms)),
            Drain::Last { since_ms, .. } => Some(since_ms.saturating_add(limits.drain_ms)),
        };
        let acknowledgement =
            life.unacknowledged_ms.map(|since_ms| since_ms.saturating_add(limits.settings_ack_ms));
        let idle = if is_idle { after(life.idle_ms, limits.idle_ms) } else { None };
        [silence, idle, drain, acknowledgement].into_iter().flatten().min()
    }

    /// Does what is due at `now_ms`. Poll after it: there may be events.
    pub fn tick(&mut self, now_ms: u64) {
        self.set_now(now_ms);
        if self.streams.live() == 0 && self.out.is_empty() && self.rest.is_none() {
            self.give_back_memory();
        }
        // Each round does one thing that was due; no thing is due twice in a row.
        for _ in 0..DUTIES {
            if self.deadline().is_none_or(|due_ms| due_ms > self.now_ms) {
                return;
            }
            self.do_due();
        }
    }

    /// Begins the graceful end: no new streams, those in flight finish. `is_done` says when.
    pub fn shutdown(&mut self) {
        if self.life.is_dead || self.life.drain != Drain::None {
            return;
        }
        if self.greeting != Greeting::Done {
            return self.die(Code::NoError);
        }
        self.life.drain = Drain::Announced { since_ms: self.now_ms };
        self.put_goaway(ID_MAX, Code::NoError);
        frame::put_frame(&mut self.out, kind::PING, 0, 0, PING_DRAIN);
    }

    /// Whether there is nothing more to wait for: the shell writes `output` and closes as the
    /// header of this file says.
    #[must_use]
    pub fn closing(&self) -> bool {
        let is_drained = matches!(self.life.drain, Drain::Last { .. }) && self.streams.live() == 0;
        self.life.is_dead || is_drained
    }

    /// Whether all has been said and written.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.closing() && self.output().is_empty()
    }

    pub(super) fn ping_answered(&mut self, body: &[u8]) {
        if body == PING_DRAIN && matches!(self.life.drain, Drain::Announced { .. }) {
            self.say_last();
        }
    }

    /// Ends the connection, and with it all calls.
    #[cold]
    pub(super) fn die(&mut self, code: Code) {
        if self.life.is_dead {
            return;
        }
        self.put_goaway(self.last_id, code);
        self.life.is_dead = true;
        self.rest = None;
        self.events.push_back(Event::Fatal(code));
    }

    fn do_due(&mut self) {
        let (life, limits) = (&self.life, &self.limits);
        let now_ms = self.now_ms;
        let is_due = |since_ms: u64, limit_ms: u64| since_ms.saturating_add(limit_ms) <= now_ms;
        if self.greeting != Greeting::Done {
            return self.die(Code::SettingsTimeout);
        }
        if life.unacknowledged_ms.is_some_and(|since| is_due(since, limits.settings_ack_ms)) {
            return self.die(Code::SettingsTimeout);
        }
        match life.asked_ms {
            Some(asked_ms) if is_due(asked_ms, limits.keepalive_timeout_ms) => {
                return self.die(Code::NoError);
            }
            None if limits.keepalive_ms > 0 && is_due(life.heard_ms, limits.keepalive_ms) => {
                self.life.asked_ms = Some(now_ms);
                frame::put_frame(&mut self.out, kind::PING, 0, 0, PING_KEEPALIVE);
                return;
            }
            Some(_) | None => {}
        }
        match life.drain {
            Drain::Announced { since_ms } if is_due(since_ms, limits.drain_ping_ms) => {
                self.say_last();
            }
            Drain::Last { since_ms, .. } if is_due(since_ms, limits.drain_ms) => {
                self.die(Code::NoError);
            }
            Drain::None => self.shutdown(),
            Drain::Announced { .. } | Drain::Last { .. } => {}
        }
    }

    fn say_last(&mut self) {
        self.life.drain = Drain::Last { since_ms: self.now_ms, id: self.last_id };
        self.put_goaway(self.last_id, Code::NoError);
    }

    fn put_goaway(&mut self, last_id: u32, code: Code) {
        let mut body = [0; 8];
        body[..4].copy_from_slice(&last_id.to_be_bytes());
        body[4..].copy_from_slice(&(code as u32).to_be_bytes());
        frame::put_frame(&mut self.out, kind::GOAWAY, 0, 0, &body);
    }

    /// What a burst of calls has left behind.
    fn give_back_memory(&mut self) {
        self.streams.shrink();
        self.pool = Vec::new();
        self.out = Vec::new();
        self.queue = Default::default();
        self.events.shrink_to_fit();
    }
}

/// Things that can be due at one time, with some to spare.
const DUTIES: usize = 8;

/// A timer that 0 turns off.
fn after(since_ms: u64, limit_ms: u64) -> Option<u64> {
    (limit_ms > 0).then(|| since_ms.saturating_add(limit_ms))
}
