//! Calls that the edge answers itself, without its core: health and server reflection.
//!
//! What has one answer is answered on the spot and leaves nothing behind; the connection still
//! belongs to the core of the first request for a partition. A stream waits behind a ticket like
//! any other, so that its deadline, its caller's going and the node's end find it, but no shard
//! ever hears of that ticket. Absent on purpose: what is answered (`edge/health.rs`,
//! `edge/reflect.rs`).

use crate::edge::health::{self, Standing, Watched};
use crate::edge::method::{Edge, Method};
use crate::edge::{reflect, response};
use crate::frontend::{Caller, Front};
use crate::id::{PartitionId, Ticket};
use crate::limits::REFLECTION_HELD_BYTES_MAX;
use crate::partition::reply::Refusal;
use crate::wire::grpc::Status;
use crate::wire::http2::{Key, Meta};

use super::Link;

/// A message of a call.
pub(super) struct Asked<'a> {
    pub key: Key,
    pub meta: Meta,
    pub method: &'static Method,
    pub message: &'a [u8],
    /// Nothing follows.
    pub end: bool,
}

impl Link {
    /// Answers a message of a call of `edge`.
    pub(super) fn answer(&mut self, front: &mut Front, edge: Edge, asked: &Asked<'_>) {
        // A stream cannot move to another core.
        self.settled |= asked.method.streaming;
        match edge {
            Edge::HealthCheck => {
                let mut said = Vec::new();
                match health::check(asked.message, front.standing, &mut said) {
                    Ok(()) => _ = self.http.unary(asked.key, &said),
                    Err(refusal) => self.refuse(asked, &refusal),
                }
            }
            Edge::HealthList => {
                let standing = front.standing;
                self.http.unary_with(asked.key, |into| health::list(standing, into));
            }
            Edge::HealthWatch => self.watch_health(front, asked),
            Edge::Reflect => self.reflect(front, asked),
        }
    }

    /// The client has nothing more to say in a call of many messages.
    pub(super) fn asked_all(&mut self, front: &mut Front, key: Key) {
        self.finish(key, None);
        self.let_go(front, key);
    }

    /// Tells a watcher of the node's health how it stands now.
    pub(in crate::frontend) fn tell_health(&mut self, key: Key, standing: Standing) {
        self.http.message_with(key, |into| health::changed(standing, into));
    }

    fn watch_health(&mut self, front: &mut Front, asked: &Asked<'_>) {
        let mut said = Vec::new();
        let watched = match health::watch(asked.message, front.standing, &mut said) {
            Ok(watched) => watched,
            Err(refusal) => return self.refuse(asked, &refusal),
        };
        if front.standing == Standing::Draining {
            // Those who watched before have just been told the same.
            self.http.message(asked.key, &said);
            return self.refuse(asked, &Refusal::Unavailable("the node stops"));
        }
        let Some(ticket) = self.stay(front, asked) else { return };
        self.http.message(asked.key, &said);
        if watched == Watched::Served {
            front.health_watchers.insert(ticket);
        }
    }

    fn reflect(&mut self, front: &mut Front, asked: &Asked<'_>) {
        if !self.knows(asked.key) && self.stay(front, asked).is_none() {
            return;
        }
        let mut said = Vec::new();
        match reflect::answer(self.dialect, asked.message, &mut said) {
            Ok(()) if self.http.message(asked.key, &said) > REFLECTION_HELD_BYTES_MAX => {
                self.http.fail(asked.key, Status::ResourceExhausted, "read answers, then ask");
            }
            Ok(()) if asked.end => self.finish(asked.key, None),
            Ok(()) => return,
            Err(refusal) => self.refuse(asked, &refusal),
        }
        self.let_go(front, asked.key);
    }

    /// A ticket for a stream; without one it has been refused.
    fn stay(&mut self, front: &mut Front, asked: &Asked<'_>) -> Option<Ticket> {
        let Asked { key, meta, method, .. } = *asked;
        let deadline = meta.timeout().map(|timeout| front.now.monotonic.after(timeout));
        // A partition that nobody has.
        let partition = PartitionId::default();
        let dialect = self.dialect;
        self.wait(front, Caller { peer: self.at, key, method, dialect, partition, deadline })
    }

    fn refuse(&mut self, asked: &Asked<'_>, refusal: &Refusal) {
        self.finish(asked.key, response::refusal(asked.method, self.dialect, refusal).as_ref());
    }

    fn let_go(&mut self, front: &mut Front, key: Key) {
        if let Some(ticket) = self.forget(key) {
            front.abandon(ticket);
        }
    }
}
