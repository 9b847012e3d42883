//! DATA: windows of what the peer may send, and messages out of what it has sent.
//!
//! A message that lies whole in one frame is handed out where it lies. Any other is put together in
//! a buffer that grows with what has arrived, never with what its prefix claims.
//!
//! | a call                                          | ends with                                |
//! |-------------------------------------------------|------------------------------------------|
//! | with a message above the limit                  | RESOURCE_EXHAUSTED                       |
//! | while too much waits to be put together         | RESOURCE_EXHAUSTED                       |
//! | with a compressed message                       | INTERNAL: no encoding was agreed on      |
//! | that ends inside a message                      | INTERNAL                                 |
//! | of a single request without one, or with two    | INTERNAL                                 |
//! | whose octets are not its `content-length`       | RST_STREAM PROTOCOL_ERROR                |
//!
//! Windows are opened again as octets are taken, half a window at a time; not while the connection
//! is paused, and not for a stream whose application has half a window of messages to read.

use super::connection::{Connection, Progress, Rest, Step};
use super::encode::Encodings;
use super::frame::{self, Code, Head, flag, kind};
use super::streams::{Stream, is};
use super::{Event, Key, Message, Router};
use crate::wire::grpc::{PREFIX_BYTES, Prefix, Status};

impl<R: Router> Connection<R> {
    #[inline]
    pub(super) fn data(&mut self, head: Head, body: &[u8], at: usize, pos: &mut usize) -> Step {
        if self.is_idle(head.stream) {
            return Err(Code::Protocol);
        }
        let content = head.content(body)?;
        self.take_connection_window(head.len)?;
        let Some(slot) = self.streams.find(head.stream) else {
            if !self.was_cut(head.stream) {
                self.put_reset(head.stream, Code::StreamClosed);
            }
            return self.idle_frame();
        };
        let end = head.has(flag::END_STREAM);
        let stream = self.streams.at(slot);
        if stream.has(is::REMOTE_ENDED) {
            if stream.has(is::DEAD) {
                return self.idle_frame();
            }
            return self.stream_error(head.stream, Code::StreamClosed);
        }
        stream.receive_window -= head.len as i64;
        stream.seen += content.len() as u64;
        if stream.receive_window < 0 {
            return self.stream_error(head.stream, Code::FlowControl);
        }
        if end {
            stream.flags |= is::REMOTE_ENDED;
            if has_wrong_length(stream) {
                return self.stream_error(head.stream, Code::Protocol);
            }
        } else {
            stream.taken += head.len as u32;
            self.reopen_stream(slot);
        }
        let key = Key { slot, id: head.stream };
        let content_at = at + content.start;
        if let Some(step) = self.content(key, &body[content.clone()], content_at, end) {
            return step;
        }
        // More than the usual case: message by message, from where the content begins.
        *pos = content_at;
        let padding = body.len() - content.end;
        self.rest = Some(Rest { key, left: content.len(), padding, end });
        Ok(Progress::Next)
    }

    /// Takes the content of a frame at once if it is nothing, not wanted, or exactly the one
    /// message of a call.
    #[inline(always)]
    fn content(&mut self, key: Key, octets: &[u8], at: usize, end: bool) -> Option<Step> {
        let stream = self.streams.at(key.slot);
        if end && stream.flags == is::SINGLE | is::REMOTE_ENDED && stream.prefix_len == 0 {
            let len = octets.len().wrapping_sub(PREFIX_BYTES);
            if let Some(first) = octets.first_chunk()
                && Prefix::read(first) == (Prefix { compressed: false, len: len as u32 })
                && len <= self.limits.message_bytes
            {
                stream.flags |= is::DELIVERED;
                let (meta, at) = (stream.meta, at + PREFIX_BYTES);
                let message = Message::Input { at, len };
                return Some(Ok(Progress::Event(Event::Message { key, meta, message, end })));
            }
        }
        if stream.any(is::PLAIN | is::DEAD | is::FINISHED) || octets.is_empty() {
            return Some(self.content_unwanted(key.slot, octets, end));
        }
        None
    }

    #[cold]
    fn content_unwanted(&mut self, slot: u32, octets: &[u8], end: bool) -> Step {
        let stream = self.streams.at(slot);
        let is_too_much = stream.has(is::PLAIN) && stream.seen > self.limits.discard_bytes;
        if end || is_too_much && !stream.has(is::FINISHED) {
            return self.ended(slot);
        }
        if octets.is_empty() { self.idle_frame() } else { Ok(Progress::Next) }
    }

    /// Goes on in the DATA frame under way, up to the next whole message.
    pub(super) fn messages(&mut self, input: &[u8], pos: &mut usize) -> Step {
        let Some(mut rest) = self.rest else { return Ok(Progress::Next) };
        if input.len() - *pos < rest.left + rest.padding {
            return Ok(Progress::Wait);
        }
        self.rest = None;
        let Key { slot, id } = rest.key;
        while rest.left > 0 {
            let stream = self.streams.at(slot);
            if stream.id != id || stream.any(is::DEAD | is::FINISHED) {
                *pos += rest.left + rest.padding;
                return Ok(Progress::Next);
            }
            let octets = &input[*pos..*pos + rest.left];
            let (taken, message) = match self.collect(slot, octets) {
                Ok(collected) => collected,
                Err((status, text)) => {
                    self.refuse(slot, status, &text, Encodings::Untold);
                    continue;
                }
            };
            let began = *pos;
            *pos += taken;
            rest.left -= taken;
            if let Some(message) = message {
                let end = rest.left == 0 && rest.end;
                let message = message.moved(began);
                let stream = self.streams.at(slot);
                stream.flags |= is::DELIVERED;
                stream.unread = stream.unread.saturating_add(unread_bytes(&message));
                let meta = stream.meta;
                if rest.left > 0 {
                    self.rest = Some(rest);
                } else {
                    *pos += rest.padding;
                }
                return Ok(Progress::Event(Event::Message { key: rest.key, meta, message, end }));
            }
        }
        *pos += rest.padding;
        if rest.end && self.streams.at(slot).id == id {
            self.ended(slot)
        } else {
            Ok(Progress::Next)
        }
    }

    /// Takes octets of a call up to the end of a message. Says how many, and the message if it is
    /// whole and is not the single one of a call, which waits for the end of the stream.
    fn collect(&mut self, slot: u32, octets: &[u8]) -> Result<(usize, Option<Message>), Refusal> {
        let stream = self.streams.at(slot);
        let is_single = stream.has(is::SINGLE);
        if stream.prefix_len == 0
            && !is_single
            && let Some(first) = octets.first_chunk()
        {
            let prefix = Prefix::read(first);
            let len = prefix.len as usize;
            if octets.len() >= PREFIX_BYTES + len {
                self.check(prefix)?;
                let message = Message::Input { at: PREFIX_BYTES, len };
                return Ok((PREFIX_BYTES + len, Some(message)));
            }
        }
        if usize::from(stream.prefix_len) < PREFIX_BYTES {
            return self.collect_prefix(slot, octets);
        }
        let want = Prefix::read(&stream.prefix).len as usize;
        let missing = want - stream.body.len();
        if missing == 0 {
            return Err((
                Status::Internal,
                "more than one message in the request of a call".into(),
            ));
        }
        let taken = missing.min(octets.len());
        if self.assembling + taken > self.limits.assembly_bytes {
            return Err((
                Status::ResourceExhausted,
                "too many unfinished messages on this connection".into(),
            ));
        }
        self.assembling += taken;
        if stream.body.capacity() == 0 {
            stream.body = self.pool.pop().unwrap_or_default();
        }
        stream.body.extend_from_slice(&octets[..taken]);
        let is_whole = taken == missing;
        Ok((taken, if is_whole && !is_single { Some(self.collected(slot)) } else { None }))
    }

    fn collect_prefix(
        &mut self,
        slot: u32,
        octets: &[u8],
    ) -> Result<(usize, Option<Message>), Refusal> {
        let stream = self.streams.at(slot);
        let have = usize::from(stream.prefix_len);
        let taken = (PREFIX_BYTES - have).min(octets.len());
        stream.prefix[have..have + taken].copy_from_slice(&octets[..taken]);
        stream.prefix_len += taken as u8;
        if have + taken < PREFIX_BYTES {
            return Ok((taken, None));
        }
        let prefix = Prefix::read(&stream.prefix);
        let is_single = stream.has(is::SINGLE);
        self.check(prefix)?;
        let is_whole = prefix.len == 0 && !is_single;
        Ok((taken, if is_whole { Some(self.collected(slot)) } else { None }))
    }

    /// The message that has been put together.
    fn collected(&mut self, slot: u32) -> Message {
        let stream = self.streams.at(slot);
        stream.prefix_len = 0;
        let body = std::mem::take(&mut stream.body);
        self.assembling -= body.len();
        Message::Owned(body)
    }

    fn check(&self, prefix: Prefix) -> Result<(), Refusal> {
        let (len, max) = (prefix.len as usize, self.limits.message_bytes);
        if prefix.compressed {
            let text = "compressed flag set with identity or empty encoding";
            return Err((Status::Internal, text.into()));
        }
        if len > max {
            let text = format!("received message larger than max ({len} vs. {max})");
            return Err((Status::ResourceExhausted, text));
        }
        Ok(())
    }

    /// The peer has ended the stream and all of its DATA has been taken (or enough, of a request
    /// that is not gRPC).
    pub(super) fn ended(&mut self, slot: u32) -> Step {
        let stream = self.streams.at(slot);
        let key = Key { slot, id: stream.id };
        let meta = stream.meta;
        if stream.any(is::FINISHED | is::DEAD) {
            return Ok(Progress::Next);
        }
        if stream.has(is::REMOTE_ENDED) && has_wrong_length(stream) {
            return self.stream_error(key.id, Code::Protocol);
        }
        if stream.has(is::PLAIN) {
            self.answer_plain(slot);
            return Ok(Progress::Next);
        }
        let is_single = stream.has(is::SINGLE);
        if stream.is_inside_message() {
            let want = Prefix::read(&stream.prefix).len as usize;
            let is_whole =
                usize::from(stream.prefix_len) == PREFIX_BYTES && stream.body.len() == want;
            if !is_whole {
                let text = "the request ended inside a message";
                self.refuse(slot, Status::Internal, text, Encodings::Untold);
                return Ok(Progress::Next);
            }
            assert!(is_single, "a message of a stream is handed out as soon as it is whole");
            stream.flags |= is::DELIVERED;
            let message = self.collected(slot);
            return Ok(Progress::Event(Event::Message { key, meta, message, end: true }));
        }
        if is_single {
            let text = "no message in the request of a call";
            self.refuse(slot, Status::Internal, text, Encodings::Untold);
            return Ok(Progress::Next);
        }
        stream.flags |= is::DELIVERED;
        Ok(Progress::Event(Event::End { key, meta }))
    }

    /// The application has read a message. Its buffer is used again, and its stream's window opens.
    #[inline]
    pub fn recycle(&mut self, key: Key, message: Message) {
        if let Some(stream) = self.streams.get(key.slot)
            && stream.id == key.id
            && !stream.has(is::SINGLE)
        {
            let stream = self.streams.at(key.slot);
            stream.unread = stream.unread.saturating_sub(unread_bytes(&message));
            self.reopen_stream(key.slot);
        }
        if let Message::Owned(octets) = message {
            self.keep(octets);
        }
    }

    /// Stops opening windows: the peer may use up what it has, and then waits. For a shard whose
    /// admission is full. Also stops nothing else; messages under way may stay incomplete for long.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Opens the windows that would have been opened meanwhile.
    pub fn resume(&mut self) {
        if !std::mem::take(&mut self.paused) {
            return;
        }
        self.reopen_connection();
        for slot in 0..self.streams.slots() as u32 {
            let stream = self.streams.at(slot);
            if stream.id != 0 && stream.has(is::STARVED) {
                stream.flags &= !is::STARVED;
                self.reopen_stream(slot);
            }
        }
    }

    #[inline(always)]
    fn take_connection_window(&mut self, len: usize) -> Result<(), Code> {
        self.receive_window -= len as i64;
        if self.receive_window < 0 {
            return Err(Code::FlowControl);
        }
        self.taken += len as u32;
        self.reopen_connection();
        Ok(())
    }

    #[inline(always)]
    fn reopen_connection(&mut self) {
        if self.taken >= self.limits.connection_window_bytes / 2 && !self.paused {
            let more = self.taken.to_be_bytes();
            frame::put_frame(&mut self.out, kind::WINDOW_UPDATE, 0, 0, &more);
            self.receive_window += i64::from(self.taken);
            self.taken = 0;
        }
    }

    #[inline(always)]
    fn reopen_stream(&mut self, slot: u32) {
        let half = self.limits.stream_window_bytes / 2;
        let stream = self.streams.at(slot);
        if stream.taken < half || stream.unread >= half || stream.has(is::REMOTE_ENDED) {
            return;
        }
        if self.paused {
            stream.flags |= is::STARVED;
            return;
        }
        let more = stream.taken.to_be_bytes();
        frame::put_frame(&mut self.out, kind::WINDOW_UPDATE, 0, stream.id, &more);
        stream.receive_window += i64::from(stream.taken);
        stream.taken = 0;
    }
}

/// What the caller is told when its request is no good.
type Refusal = (Status, String);

/// What a delivered message took of its stream's window.
fn unread_bytes(message: &Message) -> u32 {
    u32::try_from(message.len() + PREFIX_BYTES).unwrap_or(u32::MAX)
}

#[inline(always)]
const fn has_wrong_length(stream: &Stream) -> bool {
    stream.content_length != u64::MAX && stream.content_length != stream.seen
}

impl Message {
    /// Its place counted from another beginning.
    fn moved(self, by: usize) -> Message {
        match self {
            Message::Input { at, len } => Message::Input { at: at + by, len },
            Message::Owned(octets) => Message::Owned(octets),
        }
    }
}
