//! HEADERS and CONTINUATION: from a header block to a stream, or to a refusal.
//!
//! | a request that                              | is answered with                               |
//! |---------------------------------------------|------------------------------------------------|
//! | is malformed (RFC 9113, 8.1.1)              | RST_STREAM PROTOCOL_ERROR                      |
//! | exceeds the limit on streams, or the drain  | RST_STREAM REFUSED_STREAM: safe to try again   |
//! | is no POST                                  | HTTP 405 and a line of text, at its end        |
//! | is not `application/grpc`                   | HTTP 415 and a line of text, at its end        |
//! | has too many headers                        | RESOURCE_EXHAUSTED                             |
//! | names no method                             | UNIMPLEMENTED, with the path                   |
//! | has a `grpc-encoding` other than `identity` | UNIMPLEMENTED and `grpc-accept-encoding`       |
//! | has a `grpc-timeout` that cannot be read    | INTERNAL, as grpc-go does                      |
//!
//! All other fields are ignored politely, a missing `te` too.

use super::connection::{Block, Connection, Progress, Step};
use super::encode::Encodings;
use super::frame::{Code, Head, flag, u32_at};
use super::hpack::{Bad, Request, Target, Verb};
use super::streams::is;
use super::{Meta, Router};
use crate::wire::grpc::Status;

/// Stream dependency and weight, which nobody uses any more.
const PRIORITY_BYTES: usize = 5;

impl<R: Router> Connection<R> {
    #[inline]
    pub(super) fn headers(&mut self, head: Head, body: &[u8]) -> Step {
        if head.stream.is_multiple_of(2) {
            return Err(Code::Protocol);
        }
        let mut octets = &body[head.content(body)?];
        let mut depends_on_itself = false;
        if head.has(flag::PRIORITY) {
            let Some((priority, rest)) = octets.split_at_checked(PRIORITY_BYTES) else {
                return Err(Code::FrameSize);
            };
            depends_on_itself = u32_at(priority, 0) & 0x7fff_ffff == head.stream;
            octets = rest;
        }
        let block = Block { head, continuations: 0, depends_on_itself };
        if head.has(flag::END_HEADERS) {
            return self.whole_block(block, octets);
        }
        self.block_octets.clear();
        self.block_octets.extend_from_slice(octets);
        self.block = Some(block);
        Ok(Progress::Next)
    }

    pub(super) fn continuation(&mut self, head: Head, body: &[u8]) -> Step {
        let Some(block) = &mut self.block else { return Err(Code::Protocol) };
        block.continuations += 1;
        // What exceeds the list by that much is not decoded any more, so the tables are lost.
        let bytes_max = 2 * self.limits.header_list_bytes as usize;
        if block.continuations > self.limits.continuations
            || self.block_octets.len() + body.len() > bytes_max
        {
            return Err(Code::EnhanceYourCalm);
        }
        self.block_octets.extend_from_slice(body);
        if !head.has(flag::END_HEADERS) {
            return Ok(Progress::Next);
        }
        let block = *block;
        self.block = None;
        let octets = std::mem::take(&mut self.block_octets);
        self.whole_block(block, &octets)
    }

    /// A whole header block. It is decoded whatever becomes of it: the tables must stay in step.
    #[inline]
    fn whole_block(&mut self, block: Block, octets: &[u8]) -> Step {
        let id = block.head.stream;
        let end = block.head.has(flag::END_STREAM);
        if id <= self.last_id {
            return self.trailers(id, end, octets);
        }
        let request = self.decoder.request(octets, &self.router);
        self.last_id = id;
        let request = match request {
            Ok(request) if !block.depends_on_itself => request,
            Ok(_) | Err(Bad::Malformed) => return self.stream_error(id, Code::Protocol),
            Err(Bad::Compression) => return Err(Code::Compression),
        };
        if self.streams.live() >= self.limits.streams || self.life.refuses(id) {
            self.put_reset(id, Code::Refused);
            return self.idle_frame();
        }
        self.open(id, request, end)
    }

    #[inline]
    fn open(&mut self, id: u32, request: Request, end: bool) -> Step {
        let receive_window = i64::from(self.limits.stream_window_bytes);
        let slot = self.streams.open(id);
        self.counts.calls += 1;
        let stream = self.streams.at(slot);
        stream.flags = if end { is::REMOTE_ENDED } else { 0 };
        stream.send_window = self.peer_window;
        stream.receive_window = receive_window;
        stream.taken = 0;
        stream.unread = 0;
        stream.seen = 0;
        stream.content_length = request.content_length;
        stream.meta.timeout_ns = request.timeout_ns;
        let is_call = request.verb == Verb::Post && request.is_grpc;
        let has_fault = request.is_compressed | request.has_bad_timeout | request.is_too_large;
        match request.target {
            Target::Known(route) if is_call && !has_fault => {
                stream.meta.method = route.method;
                stream.flags |= if route.single { is::SINGLE } else { 0 };
                if end { self.ended(slot) } else { Ok(Progress::Next) }
            }
            Target::Known(_) | Target::Stray(_) => self.unusual(slot, request, end),
        }
    }

    #[cold]
    fn unusual(&mut self, slot: u32, request: Request, end: bool) -> Step {
        let stream = self.streams.at(slot);
        stream.meta = Meta::NONE;
        if request.verb != Verb::Post || !request.is_grpc {
            stream.flags |= is::PLAIN;
            if request.verb != Verb::Post {
                stream.flags |= is::WRONG_VERB;
            }
            if request.verb == Verb::Head {
                stream.flags |= is::BODILESS;
            }
            return if end { self.ended(slot) } else { Ok(Progress::Next) };
        }
        let mut encodings = Encodings::Untold;
        let (status, text) = if request.is_too_large {
            let bytes_max = self.limits.header_list_bytes;
            let text = format!("headers larger than max ({bytes_max} octets)");
            (Status::ResourceExhausted, text)
        } else if let Target::Stray(number) = request.target {
            let path = self.decoder.stray_path(number).unwrap_or_default();
            (Status::Unimplemented, format!("unknown method {}", String::from_utf8_lossy(path)))
        } else if request.is_compressed {
            encodings = Encodings::Told;
            (Status::Unimplemented, "message encoding is not supported, only identity is".into())
        } else {
            assert!(request.has_bad_timeout, "a request without a fault is usual");
            (Status::Internal, "malformed grpc-timeout".into())
        };
        self.refuse(slot, status, &text, encodings);
        Ok(Progress::Next)
    }

    /// Answers a call in the application's stead. If it has heard of the call, to it this is a
    /// reset.
    #[cold]
    pub(super) fn refuse(&mut self, slot: u32, status: Status, text: &str, encodings: Encodings) {
        self.counts.refused += 1;
        self.put_status(slot, status, text, encodings);
        self.abandon(slot);
    }

    /// Headers of a stream that was opened before: trailers, or an error.
    #[cold]
    fn trailers(&mut self, id: u32, end: bool, octets: &[u8]) -> Step {
        let read = self.decoder.trailers(octets, &self.router);
        if read == Err(Bad::Compression) {
            return Err(Code::Compression);
        }
        let Some(slot) = self.streams.find(id) else {
            return if self.was_cut(id) { self.idle_frame() } else { Err(Code::StreamClosed) };
        };
        let stream = self.streams.at(slot);
        if stream.has(is::REMOTE_ENDED) {
            return self.stream_error(id, Code::StreamClosed);
        }
        if !end || read.is_err() {
            return self.stream_error(id, Code::Protocol);
        }
        stream.flags |= is::REMOTE_ENDED;
        self.ended(slot)
    }
}
