//! Answers: headers, messages and trailers into the output, and what windows hold back.
//!
//! An answer is encoded where it will be sent from, behind room for its heads. Only when a window,
//! the peer's frame size or the output's high-water mark does not allow it is it moved to a buffer
//! of its stream, from which `pump` cuts one DATA frame per stream in turn.
//!
//! Bounds: one stream holds back what its application gives it ([`Connection::held`] and what
//! `message` returns say how much; past a mark of its own the application waits for
//! [`Event::Writable`] or fails the call). All streams together hold back `Limits::held_bytes`;
//! past it the connection ends with ENHANCE_YOUR_CALM. The output grows past
//! `Limits::output_high_bytes` only by heads, statuses and answers to control frames, of which
//! there are no more than input was read: the shell stops reading while [`Connection::wants_input`]
//! is false.

use super::connection::Connection;
use super::encode::{Encodings, HttpStatus, WARM_HEADERS, WARM_TRAILERS};
use super::frame::{self, Code, HEAD_BYTES, flag, kind};
use super::streams::is;
use super::{Event, Key, Router};
use crate::wire::grpc::{self, PREFIX_BYTES, Status};

/// Said to those who speak HTTP/2 but not gRPC.
const PLAIN_TEXT: &[u8] = b"This is a gRPC server: send POST with content-type application/grpc.\n";

/// Buffers that are kept for other streams, and how large.
const POOL_BUFFERS: usize = 32;
const POOL_BUFFER_BYTES: usize = 64 << 10;

/// The sent part of a buffer is cut off when it is that large, and most of the buffer.
const CUT_BYTES: usize = 64 << 10;

/// Heads before a message that has its headers in front, and before one that has not.
const UNARY_HEADS: usize = HEAD_BYTES + WARM_HEADERS.len() + MESSAGE_HEADS;
const MESSAGE_HEADS: usize = HEAD_BYTES + PREFIX_BYTES;

impl<R: Router> Connection<R> {
    /// Answers a call with one message and status OK. Whether the caller is still there.
    #[inline]
    pub fn unary(&mut self, key: Key, message: &[u8]) -> bool {
        self.unary_with(key, |out| out.extend_from_slice(message))
    }

    /// The same with a message that `encode` appends to what it is given, which is not empty.
    #[inline]
    pub fn unary_with(&mut self, key: Key, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        if !self.is_answerable(key) {
            return false;
        }
        let stream = self.streams.at(key.slot);
        let is_usual = stream.has(is::REMOTE_ENDED)
            && !stream.has(is::HEADERS_SENT)
            && self.encoder.is_warm()
            && self.out.len() - self.written < self.limits.output_high_bytes;
        if !is_usual {
            self.message_with(key, encode);
            self.finish(key, Status::Ok, "");
            return true;
        }
        let start = self.out.len();
        self.out.extend_from_slice(&[0; UNARY_HEADS]);
        encode(&mut self.out);
        let body_at = start + UNARY_HEADS;
        assert!(self.out.len() >= body_at, "an encoder appends");
        let octets = self.out.len() - body_at + PREFIX_BYTES;
        let stream = self.streams.at(key.slot);
        if octets > self.peer_frame || octets as i64 > self.send_window.min(stream.send_window) {
            let body = self.out.split_off(body_at);
            self.out.truncate(start);
            self.message(key, &body);
            self.finish(key, Status::Ok, "");
            self.keep(body);
            return true;
        }
        let heads = self.out[start..].first_chunk_mut::<UNARY_HEADS>();
        *heads.expect("the heads were put above") = unary_heads(key.id, octets);
        let flags = flag::END_HEADERS | flag::END_STREAM;
        frame::put_head(&mut self.out, WARM_TRAILERS.len(), kind::HEADERS, flags, key.id);
        self.out.extend_from_slice(&WARM_TRAILERS);
        self.send_window -= octets as i64;
        self.close(key.slot);
        true
    }

    /// One message of a streamed answer. How many octets of the call are held back now: while that
    /// is above zero an [`Event::Writable`] is to come.
    #[inline]
    pub fn message(&mut self, key: Key, message: &[u8]) -> usize {
        self.message_with(key, |out| out.extend_from_slice(message))
    }

    /// The same with a message that `encode` appends to what it is given, which is not empty.
    pub fn message_with(&mut self, key: Key, encode: impl FnOnce(&mut Vec<u8>)) -> usize {
        if !self.is_answerable(key) {
            return 0;
        }
        self.put_headers(key.slot);
        let stream = self.streams.at(key.slot);
        let mut held = std::mem::take(&mut stream.held);
        if held.is_empty() && self.out.len() - self.written < self.limits.output_high_bytes {
            let start = self.out.len();
            self.out.extend_from_slice(&[0; MESSAGE_HEADS]);
            encode(&mut self.out);
            let body_at = start + MESSAGE_HEADS;
            assert!(self.out.len() >= body_at, "an encoder appends");
            let octets = self.out.len() - body_at + PREFIX_BYTES;
            let prefix = grpc::prefix(octets - PREFIX_BYTES);
            self.out[start + HEAD_BYTES..body_at].copy_from_slice(&prefix);
            if octets <= self.peer_frame
                && octets as i64 <= self.send_window.min(stream.send_window)
            {
                let head = frame::head(octets, kind::DATA, 0, key.id);
                self.out[start..start + HEAD_BYTES].copy_from_slice(&head);
                self.send_window -= octets as i64;
                stream.send_window -= octets as i64;
                return 0;
            }
            held = self.pool.pop().unwrap_or_default();
            held.extend_from_slice(&self.out[start + HEAD_BYTES..]);
            self.out.truncate(start);
            return self.hold(key, held, octets);
        }
        if held.capacity() == 0 {
            held = self.pool.pop().unwrap_or_default();
        }
        let start = held.len();
        held.extend_from_slice(&[0; PREFIX_BYTES]);
        encode(&mut held);
        let body_at = start + PREFIX_BYTES;
        assert!(held.len() >= body_at, "an encoder appends");
        let prefix = grpc::prefix(held.len() - body_at);
        held[start..body_at].copy_from_slice(&prefix);
        let octets = held.len() - start;
        self.hold(key, held, octets)
    }

    /// Ends an answer. A call that was sent nothing yet gets one block of headers and trailers in
    /// one. `text` is cut at `GRPC_TEXT_BYTES_MAX`; what is held back goes out before it.
    pub fn finish(&mut self, key: Key, status: Status, text: &str) {
        if !self.is_answerable(key) {
            return;
        }
        let stream = self.streams.at(key.slot);
        if stream.held_len() > 0 {
            stream.flags = (stream.flags | is::FINISHED) & !is::WATCHED;
            stream.status = status;
            stream.text = grpc::bounded_text(text).into();
            return;
        }
        self.put_status(key.slot, status, text, Encodings::Untold);
        self.close(key.slot);
    }

    /// Ends a call at once with an error: what is held back of it is dropped, unlike in `finish`.
    pub fn fail(&mut self, key: Key, status: Status, text: &str) {
        if self.is_answerable(key) {
            self.put_status(key.slot, status, text, Encodings::Untold);
            self.close(key.slot);
        }
    }

    /// Ends a call without a status.
    pub fn reset(&mut self, key: Key, code: Code) {
        if self.is_answerable(key) {
            self.put_reset(key.id, code);
            self.close(key.slot);
        }
    }

    /// Lets go of a call after [`Event::Reset`]. Any answer to it does the same.
    pub fn release(&mut self, key: Key) {
        if let Some(stream) = self.streams.get(key.slot)
            && stream.id == key.id
            && stream.has(is::DEAD)
        {
            self.close(key.slot);
        }
    }

    /// Says that an answer has begun, before its first message.
    pub fn head(&mut self, key: Key) {
        if self.is_answerable(key) {
            self.put_headers(key.slot);
        }
    }

    /// Octets of this call that windows hold back.
    #[must_use]
    pub fn held(&self, key: Key) -> usize {
        let stream = self.streams.get(key.slot).filter(|stream| stream.id == key.id);
        stream.map_or(0, super::streams::Stream::held_len)
    }

    /// What the peer is to be sent. Say with [`wrote`](Self::wrote) how much of it has been.
    #[inline]
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.out[self.written..]
    }

    /// So many octets of `output` have been written, be it all or a part. Octets that waited take
    /// their place, and there may be events.
    pub fn wrote(&mut self, octets: usize) {
        self.written += octets;
        let (written, len) = (self.written, self.out.len());
        assert!(written <= len, "{written} octets written of {len}");
        if written == len {
            self.out.clear();
            self.written = 0;
        } else if written > CUT_BYTES && written * 2 > len {
            self.out.drain(..written);
            self.written = 0;
        }
        self.pump();
    }

    /// Exchanges the output for `empty`, for a writer that cannot borrow it. What has been taken is
    /// the caller's to write, whole and before what is taken next; it counts as written here.
    pub fn take_output(&mut self, empty: &mut Vec<u8>) {
        assert!(empty.is_empty(), "{} octets would be lost", empty.len());
        self.out.drain(..self.written);
        self.written = 0;
        std::mem::swap(&mut self.out, empty);
        self.pump();
    }

    /// Octets in the buffers of this connection: output, answers held back, messages and a header
    /// block under way. Its fixed parts and what a pool keeps are not counted.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.output().len() + self.held + self.assembling + self.block_octets.len()
    }

    /// Whether the shell should read. Not while the output is above its high-water mark.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        !self.life.is_dead() && self.out.len() - self.written < self.limits.output_high_bytes
    }

    /// Whether the application may answer. Finding out that a reset stream is answered lets go of
    /// it.
    #[inline(always)]
    fn is_answerable(&mut self, key: Key) -> bool {
        match self.streams.get(key.slot) {
            Some(stream) if stream.id == key.id => {
                if stream.has(is::DEAD) {
                    self.close(key.slot);
                    return false;
                }
                !stream.has(is::FINISHED) && !self.life.is_dead()
            }
            Some(_) | None => false,
        }
    }

    fn put_headers(&mut self, slot: u32) {
        let stream = self.streams.at(slot);
        if stream.has(is::HEADERS_SENT) {
            return;
        }
        stream.flags |= is::HEADERS_SENT;
        let at = self.out.len();
        frame::put_head(&mut self.out, 0, kind::HEADERS, flag::END_HEADERS, stream.id);
        self.encoder.put_headers(&mut self.out);
        frame::close_frame(&mut self.out, at);
    }

    /// The last frame of an answer, and RST_STREAM behind it if the request has not ended. The
    /// caller closes the stream.
    pub(super) fn put_status(
        &mut self,
        slot: u32,
        status: Status,
        text: &str,
        encodings: Encodings,
    ) {
        let stream = self.streams.at(slot);
        let (id, flags) = (stream.id, stream.flags);
        let at = self.out.len();
        let last = flag::END_HEADERS | flag::END_STREAM;
        frame::put_head(&mut self.out, 0, kind::HEADERS, last, id);
        if flags & is::HEADERS_SENT != 0 {
            self.encoder.put_trailers(&mut self.out, status, text);
        } else {
            self.encoder.put_trailers_only(&mut self.out, status, text, encodings);
        }
        frame::close_frame(&mut self.out, at);
        self.put_answered_early(id, flags);
    }

    fn put_answered_early(&mut self, id: u32, flags: u16) {
        if flags & is::REMOTE_ENDED == 0 {
            self.put_reset(id, Code::NoError);
        }
    }

    /// Answers a request that is not gRPC.
    pub(super) fn answer_plain(&mut self, slot: u32) {
        self.counts.refused += 1;
        let stream = self.streams.at(slot);
        let (id, flags) = (stream.id, stream.flags);
        stream.flags |= is::HEADERS_SENT | is::FINISHED;
        let wrong_verb = flags & is::WRONG_VERB != 0;
        let is_bodiless = flags & is::BODILESS != 0;
        let at = self.out.len();
        let end = if is_bodiless { flag::END_STREAM } else { 0 };
        frame::put_head(&mut self.out, 0, kind::HEADERS, flag::END_HEADERS | end, id);
        self.encoder.put_plain(
            &mut self.out,
            if wrong_verb {
                HttpStatus::MethodNotAllowed
            } else {
                HttpStatus::UnsupportedMediaType
            },
        );
        frame::close_frame(&mut self.out, at);
        if is_bodiless {
            self.put_answered_early(id, flags);
            return self.close(slot);
        }
        let mut held = self.pool.pop().unwrap_or_default();
        held.extend_from_slice(PLAIN_TEXT);
        self.hold(Key { slot, id }, held, PLAIN_TEXT.len());
    }

    /// Puts octets aside for `pump`, of which `more` are new, and lets it try at once.
    fn hold(&mut self, key: Key, held: Vec<u8>, more: usize) -> usize {
        let stream = self.streams.at(key.slot);
        stream.held = held;
        if !stream.has(is::FINISHED) {
            stream.flags |= is::WATCHED;
        }
        self.held += more;
        self.enqueue(key.slot);
        self.pump();
        if self.held > self.limits.held_bytes {
            self.die(Code::EnhanceYourCalm);
        }
        self.held(key)
    }

    /// Queues a stream that has octets and a window for them.
    pub(super) fn enqueue(&mut self, slot: u32) {
        let stream = self.streams.at(slot);
        if stream.has(is::QUEUED) || stream.held_len() == 0 || stream.send_window <= 0 {
            return;
        }
        stream.flags |= is::QUEUED;
        self.queue.push_back((slot, stream.id));
        // Streams that were reset leave their places behind.
        if self.queue.len() > 64 + 2 * self.streams.live() as usize {
            let streams = &self.streams;
            self.queue.retain(|&(slot, id)| {
                streams.get(slot).is_some_and(|stream| stream.id == id && stream.has(is::QUEUED))
            });
        }
    }

    /// Cuts what is held back into DATA frames, one per stream in turn, while windows and the
    /// output allow it.
    pub(super) fn pump(&mut self) {
        while self.send_window > 0
            && self.out.len() - self.written < self.limits.output_high_bytes
            && !self.life.is_dead()
        {
            let Some((slot, id)) = self.queue.pop_front() else { return };
            let is_there = self.streams.get(slot).is_some_and(|s| s.id == id && s.has(is::QUEUED));
            if is_there {
                self.cut(slot);
            }
        }
    }

    /// Cuts one DATA frame of a stream that was in the queue.
    fn cut(&mut self, slot: u32) {
        let stream = self.streams.at(slot);
        stream.flags &= !is::QUEUED;
        let window = self.send_window.min(stream.send_window).max(0) as usize;
        let len = stream.held_len().min(self.peer_frame).min(window);
        if len == 0 {
            return;
        }
        let is_last = len == stream.held_len();
        let is_end = is_last && stream.has(is::FINISHED | is::PLAIN);
        let end = if is_end { flag::END_STREAM } else { 0 };
        frame::put_head(&mut self.out, len, kind::DATA, end, stream.id);
        self.out.extend_from_slice(&stream.held[stream.held_at..stream.held_at + len]);
        stream.held_at += len;
        stream.send_window -= len as i64;
        self.send_window -= len as i64;
        self.held -= len;
        if !is_last {
            if stream.held_at > CUT_BYTES && stream.held_at * 2 > stream.held.len() {
                stream.held.drain(..stream.held_at);
                stream.held_at = 0;
            }
            return self.enqueue(slot);
        }
        stream.held_at = 0;
        let (id, flags) = (stream.id, stream.flags);
        let held = std::mem::take(&mut stream.held);
        if is_end {
            self.put_answered_early(id, flags);
            self.close(slot);
        } else if flags & is::FINISHED != 0 {
            let (status, text) = (stream.status, std::mem::take(&mut stream.text));
            self.put_status(slot, status, &text, Encodings::Untold);
            self.close(slot);
        } else if flags & is::WATCHED != 0 {
            stream.flags &= !is::WATCHED;
            self.events.push_back(Event::Writable { key: Key { slot, id } });
        }
        self.keep(held);
    }

    /// Forgets what a stream has put together and held back.
    pub(super) fn drop_buffers(&mut self, slot: u32) {
        let stream = self.streams.at(slot);
        stream.flags &= !(is::QUEUED | is::WATCHED);
        self.held -= stream.held_len();
        self.assembling -= stream.body.len();
        stream.held_at = 0;
        stream.prefix_len = 0;
        let (held, body) = (std::mem::take(&mut stream.held), std::mem::take(&mut stream.body));
        self.keep(held);
        self.keep(body);
    }

    #[inline]
    pub(super) fn close(&mut self, slot: u32) {
        let stream = self.streams.at(slot);
        if stream.held.capacity() > 0 || stream.body.capacity() > 0 {
            self.drop_buffers(slot);
        }
        self.streams.close(slot);
        if self.streams.live() == 0 {
            self.life.idle(self.now_ms);
        }
    }

    /// Keeps a buffer for the next stream that needs one.
    pub(super) fn keep(&mut self, mut octets: Vec<u8>) {
        let capacity = octets.capacity();
        if capacity > 0 && capacity <= POOL_BUFFER_BYTES && self.pool.len() < POOL_BUFFERS {
            octets.clear();
            self.pool.push(octets);
        }
    }
}

/// Headers, the head of DATA and the prefix of an answer of `octets`, prefix included.
#[inline(always)]
fn unary_heads(id: u32, octets: usize) -> [u8; UNARY_HEADS] {
    let mut heads = [0; UNARY_HEADS];
    let (headers, rest) = heads.split_at_mut(HEAD_BYTES + WARM_HEADERS.len());
    let (data, prefix) = rest.split_at_mut(HEAD_BYTES);
    let (head, fields) = headers.split_at_mut(HEAD_BYTES);
    head.copy_from_slice(&frame::head(WARM_HEADERS.len(), kind::HEADERS, flag::END_HEADERS, id));
    fields.copy_from_slice(&WARM_HEADERS);
    data.copy_from_slice(&frame::head(octets, kind::DATA, 0, id));
    prefix.copy_from_slice(&grpc::prefix(octets - PREFIX_BYTES));
    heads
}
