//! A stream of octets cut into frames, each behind its length.
//!
//! What arrives whole is copied once; only the part of a frame whose rest is still to come is kept,
//! and room for it is taken as its octets come, whatever its length says. Absent on purpose: what
//! frames hold.

use bytes::{Bytes, BytesMut};

use crate::limits::BUNDLE_BYTES_MAX;

/// The largest frame: what fills a bundle, and its post and headers.
pub const FRAME_BYTES_MAX: usize = 2 * BUNDLE_BYTES_MAX;

/// The shortest, which is a bundle without anything.
const FRAME_BYTES_MIN: usize = 8;

/// What has come and is no frame yet.
#[derive(Default, Debug)]
pub struct Frames {
    length: [u8; 4],
    /// How much of the length has come.
    known: usize,
    body: BytesMut,
}

impl Frames {
    /// Takes what was read next and gives each frame that is whole to `each`.
    pub fn take(&mut self, mut read: &[u8], mut each: impl FnMut(Bytes)) -> Result<(), String> {
        while !read.is_empty() {
            let missing = (self.length.len() - self.known).min(read.len());
            self.length[self.known..self.known + missing].copy_from_slice(&read[..missing]);
            self.known += missing;
            read = &read[missing..];
            if self.known < self.length.len() {
                return Ok(());
            }
            let length = u32::from_le_bytes(self.length) as usize;
            if !(FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&length) {
                return Err(format!("it sent a bundle of {length} bytes"));
            }
            let missing = length - self.body.len();
            if missing > read.len() {
                self.body.extend_from_slice(read);
                return Ok(());
            }
            let (rest, after) = read.split_at(missing);
            read = after;
            self.known = 0;
            if self.body.is_empty() {
                each(Bytes::copy_from_slice(rest));
            } else {
                self.body.extend_from_slice(rest);
                each(std::mem::take(&mut self.body).freeze());
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
        for frame in frames {
            octets.extend_from_slice(&(frame.len() as u32).to_le_bytes());
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
                frames.take(piece, |frame| came.push(frame.to_vec())).expect("sound");
                left = rest;
            }
            assert!(came == sent, "seed {seed}");
        }
    }

    #[test]
    fn lengths_that_no_bundle_has_are_refused_before_their_octets_come() {
        for length in [0, 7, FRAME_BYTES_MAX as u32 + 1, u32::MAX] {
            let mut frames = Frames::default();
            let taken = frames.take(&length.to_le_bytes()[..3], |_| panic!("not whole"));
            assert_eq!(taken, Ok(()));
            let refused = frames.take(&length.to_le_bytes()[3..], |_| panic!("not whole"));
            assert!(refused.is_err_and(|reason| reason.contains(&length.to_string())));
        }
        let mut frames = Frames::default();
        frames.take(&(FRAME_BYTES_MAX as u32).to_le_bytes(), |_| {}).expect("it may come");
        frames.take(&[1; 100], |_| panic!("not whole")).expect("it may come");
        assert!(frames.body.capacity() < 4096, "nothing is kept for what has not come");
    }
}
