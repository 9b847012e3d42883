//! A stream of octets cut into frames, each behind its head.
//!
//! ```text
//! 0        4     8               16
//! | length | crc | durable mark | frame …        the checksum is that of length and mark
//! ```
//!
//! The mark is how far the sender's journal was durable then (`known.rs` remembers it); a frame of
//! length 0 tells of it alone. What arrives whole is copied once; only the part of a frame whose
//! rest is still to come is kept, and room for it is taken as its octets come, whatever its length
//! says. Absent on purpose: what frames hold.

use bytes::{Bytes, BytesMut};

use crate::id::Mark;
use crate::limits::BUNDLE_BYTES_MAX;

/// The largest frame: what fills a bundle, and its post and headers.
pub const FRAME_BYTES_MAX: usize = 2 * BUNDLE_BYTES_MAX;

/// The shortest, which is a bundle without anything.
const FRAME_BYTES_MIN: usize = 8;

/// Octets before each frame.
pub const FRAME_HEAD_BYTES: usize = 16;

/// What stands before a frame of so many octets.
#[must_use]
pub fn head(length: u32, mark: Mark) -> [u8; FRAME_HEAD_BYTES] {
    let mut head = [0; FRAME_HEAD_BYTES];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[8..].copy_from_slice(&mark.0.to_le_bytes());
    let crc = checksum(&head);
    head[4..8].copy_from_slice(&crc.to_le_bytes());
    head
}

fn checksum(head: &[u8; FRAME_HEAD_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&head[..4]), &head[8..])
}

/// What has come and is no frame yet.
#[derive(Default, Debug)]
pub struct Frames {
    head: [u8; FRAME_HEAD_BYTES],
    /// How much of the head has come.
    known: usize,
    body: BytesMut,
}

impl Frames {
    /// Takes what was read next and gives each frame that is whole to `each`, with its mark. An
    /// empty one only has the mark.
    pub fn take(
        &mut self,
        mut read: &[u8],
        mut each: impl FnMut(Mark, Bytes),
    ) -> Result<(), String> {
        while !read.is_empty() {
            let missing = (self.head.len() - self.known).min(read.len());
            self.head[self.known..self.known + missing].copy_from_slice(&read[..missing]);
            self.known += missing;
            read = &read[missing..];
            let [a, b, c, d, crc @ .., _, _, _, _, _, _, _, _] = self.head;
            let length = u32::from_le_bytes([a, b, c, d]) as usize;
            let fits = length == 0 || (FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&length);
            if self.known >= 4 && !fits {
                return Err(format!("it sent a bundle of {length} bytes"));
            }
            if self.known < self.head.len() {
                return Ok(());
            }
            if u32::from_le_bytes(crc) != checksum(&self.head) {
                return Err("a bundle of it was changed on the way".to_owned());
            }
            let [.., e, f, g, h, i, j, k, l] = self.head;
            let mark = Mark(u64::from_le_bytes([e, f, g, h, i, j, k, l]));
            let missing = length - self.body.len();
            if missing > read.len() {
                self.body.extend_from_slice(read);
                return Ok(());
            }
            let (rest, after) = read.split_at(missing);
            read = after;
            self.known = 0;
            if self.body.is_empty() {
                each(mark, Bytes::copy_from_slice(rest));
            } else {
                self.body.extend_from_slice(rest);
                each(mark, std::mem::take(&mut self.body).freeze());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::Prng;

    fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut octets = Vec::new();
        for (frame, mark) in frames.iter().zip(7..) {
            octets.extend_from_slice(&head(frame.len() as u32, Mark(mark)));
            octets.extend_from_slice(frame);
        }
        octets
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        for seed in 0..200 {
            let mut prng = Prng::new(seed);
            let mut frame = || {
                let length = 8 + prng.below(300);
                (0..length).map(|_| prng.below(256) as u8).collect::<Vec<u8>>()
            };
            let sent: Vec<Vec<u8>> = (0..20).map(|_| frame()).collect();
            let octets = framed(&sent);
            let (mut frames, mut came) = (Frames::default(), Vec::new());
            let mut left = &octets[..];
            while !left.is_empty() {
                let (piece, rest) = left.split_at(1 + prng.below(left.len() as u64) as usize);
                let each = |mark, frame: Bytes| {
                    assert_eq!(mark, Mark(7 + came.len() as u64));
                    came.push(frame.to_vec());
                };
                frames.take(piece, each).expect("sound");
                left = rest;
            }
            assert!(came == sent, "seed {seed}");
        }
    }

    #[test]
    fn lengths_that_no_bundle_has_are_refused_before_their_octets_come() {
        for length in [1, 7, FRAME_BYTES_MAX as u32 + 1, u32::MAX] {
            let mut frames = Frames::default();
            let taken = frames.take(&length.to_le_bytes()[..3], |_, _| panic!("not whole"));
            assert_eq!(taken, Ok(()));
            let refused = frames.take(&length.to_le_bytes()[3..], |_, _| panic!("not whole"));
            assert!(refused.is_err_and(|reason| reason.contains(&length.to_string())));
        }
        let mut frames = Frames::default();
        let head = head(FRAME_BYTES_MAX as u32, Mark(1));
        frames.take(&head, |_, _| {}).expect("it may come");
        frames.take(&[1; 100], |_, _| panic!("not whole")).expect("it may come");
        assert!(frames.body.capacity() < 4096, "nothing is kept for what has not come");
    }
    #[test]
    fn a_head_that_was_changed_is_refused() {
        for bit in 0..FRAME_HEAD_BYTES * 8 {
            let mut octets = head(100, Mark(1 << 40)).to_vec();
            octets[bit / 8] ^= 1 << (bit % 8);
            octets.extend_from_slice(&[0; 100]);
            let taken = Frames::default().take(&octets, |_, _| panic!("bit {bit}"));
            assert!(taken.is_err(), "bit {bit}");
        }
    }
}
