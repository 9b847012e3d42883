//! Frames about the connection and about streams as such: SETTINGS, PING, WINDOW_UPDATE,
//! RST_STREAM, PRIORITY, GOAWAY.

use super::connection::{Connection, Progress, Step};
use super::frame::{self, Code, Head, WINDOW_MAX, flag, kind, setting, u32_at};
use super::streams::is;
use super::{Event, Key, Router};
use crate::limits::HTTP2_FRAME_OUT_BYTES_MAX;

/// So many streams are visited for one token of the guard when the initial window changes.
const VISITS_PER_TOKEN: usize = 64;

impl<R: Router> Connection<R> {
    pub(super) fn settings(&mut self, head: Head, body: &[u8]) -> Step {
        if head.stream != 0 {
            return Err(Code::Protocol);
        }
        if head.has(flag::ACK) {
            if !body.is_empty() {
                return Err(Code::FrameSize);
            }
            self.life.settings_acknowledged();
            return self.idle_frame();
        }
        if !body.len().is_multiple_of(6) {
            return Err(Code::FrameSize);
        }
        let mut window = self.peer_window;
        for six in body.chunks_exact(6) {
            let value = u32_at(six, 2);
            match u16::from_be_bytes([six[0], six[1]]) {
                setting::HEADER_TABLE_SIZE => self.encoder.set_peer_table(value),
                setting::ENABLE_PUSH if value > 1 => return Err(Code::Protocol),
                setting::INITIAL_WINDOW_SIZE if i64::from(value) > WINDOW_MAX => {
                    return Err(Code::FlowControl);
                }
                setting::INITIAL_WINDOW_SIZE => window = i64::from(value),
                setting::MAX_FRAME_SIZE if !(16_384..1 << 24).contains(&value) => {
                    return Err(Code::Protocol);
                }
                setting::MAX_FRAME_SIZE => {
                    self.peer_frame = (value as usize).min(HTTP2_FRAME_OUT_BYTES_MAX);
                }
                _ => {}
            }
        }
        // However many values the frame names, the streams are walked once.
        if window != self.peer_window {
            self.set_peer_window(window)?;
        }
        frame::put_head(&mut self.out, 0, kind::SETTINGS, flag::ACK, 0);
        self.pump();
        self.idle_frame()
    }

    /// Moves the windows of all streams by the difference (RFC 9113, 6.9.2).
    fn set_peer_window(&mut self, window: i64) -> Result<(), Code> {
        let difference = window - self.peer_window;
        self.peer_window = window;
        for slot in 0..self.streams.slots() {
            let stream = self.streams.at(slot as u32);
            if stream.id != 0 {
                stream.send_window += difference;
                if stream.send_window > WINDOW_MAX {
                    return Err(Code::FlowControl);
                }
                self.enqueue(slot as u32);
            }
            if slot % VISITS_PER_TOKEN == VISITS_PER_TOKEN - 1 {
                self.idle_frame()?;
            }
        }
        Ok(())
    }

    pub(super) fn ping(&mut self, head: Head, body: &[u8]) -> Step {
        if head.stream != 0 {
            return Err(Code::Protocol);
        }
        if body.len() != 8 {
            return Err(Code::FrameSize);
        }
        if head.has(flag::ACK) {
            self.ping_answered(body);
        } else {
            self.counts.pings += 1;
            frame::put_frame(&mut self.out, kind::PING, flag::ACK, 0, body);
        }
        self.idle_frame()
    }

    pub(super) fn window_update(&mut self, head: Head, body: &[u8]) -> Step {
        if body.len() != 4 {
            return Err(Code::FrameSize);
        }
        let more = i64::from(u32_at(body, 0) & 0x7fff_ffff);
        if head.stream == 0 {
            self.send_window += more;
            if more == 0 {
                return Err(Code::Protocol);
            }
            if self.send_window > WINDOW_MAX {
                return Err(Code::FlowControl);
            }
            self.pump();
            return Ok(Progress::Next);
        }
        if self.is_idle(head.stream) {
            return Err(Code::Protocol);
        }
        let Some(slot) = self.streams.find(head.stream) else { return self.idle_frame() };
        if more == 0 {
            return self.stream_error(head.stream, Code::Protocol);
        }
        let stream = self.streams.at(slot);
        stream.send_window += more;
        if stream.send_window > WINDOW_MAX {
            return self.stream_error(head.stream, Code::FlowControl);
        }
        self.enqueue(slot);
        self.pump();
        Ok(Progress::Next)
    }

    pub(super) fn rst_stream(&mut self, head: Head, body: &[u8]) -> Step {
        if self.is_idle(head.stream) {
            return Err(Code::Protocol);
        }
        if body.len() != 4 {
            return Err(Code::FrameSize);
        }
        let Some(slot) = self.streams.find(head.stream) else { return self.idle_frame() };
        let stream = self.streams.at(slot);
        if stream.has(is::DEAD) {
            return self.idle_frame();
        }
        if !stream.has(is::FINISHED) {
            self.counts.resets_received += 1;
            // Calls given up before their answer are rationed (CVE-2023-44487).
            if !self.resets.take(self.now_ms) {
                return Err(Code::EnhanceYourCalm);
            }
        }
        self.abandon(slot);
        Ok(Progress::Next)
    }

    /// The end of a stream that was reset, by either side. One that the application holds keeps its
    /// slot until it is released.
    pub(super) fn abandon(&mut self, slot: u32) {
        let stream = self.streams.at(slot);
        let is_with_application = stream.has(is::DELIVERED) && !stream.has(is::FINISHED);
        if stream.has(is::DEAD) {
            return;
        }
        if !is_with_application {
            return self.close(slot);
        }
        stream.flags |= is::DEAD | is::REMOTE_ENDED;
        let key = Key { slot, id: stream.id };
        self.drop_buffers(slot);
        self.events.push_back(Event::Reset { key });
    }

    pub(super) fn priority(&mut self, head: Head, body: &[u8]) -> Step {
        if head.stream == 0 {
            return Err(Code::Protocol);
        }
        if body.len() != 5 {
            return self.stream_error(head.stream, Code::FrameSize);
        }
        if u32_at(body, 0) & 0x7fff_ffff == head.stream {
            return self.stream_error(head.stream, Code::Protocol);
        }
        self.idle_frame()
    }

    /// A client that goes away still wants its answers; it closes when it has them.
    pub(super) fn goaway(&mut self, head: Head, body: &[u8]) -> Step {
        if head.stream != 0 {
            return Err(Code::Protocol);
        }
        if body.len() < 8 {
            return Err(Code::FrameSize);
        }
        self.idle_frame()
    }
}
