//! The program of tomorrow, which some nodes of a world run: it speaks one format more than this
//! one, and says in every frame something that this one does not know (`wire/format.rs`).
//!
//! Nodes with either program work together, one after another is upgraded, and when all are, the
//! program of the day after may forget the old format. Absent on purpose: a use for what it says.

use bytes::{Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::wire::format::{FORMATS, Formats};

/// Speaks what this program does, and one format more.
pub const TOMORROW: Formats = Formats::new(FORMATS.oldest(), FORMATS.newest() + 1);

/// Has forgotten what this program speaks.
pub const DAY_AFTER: Formats = Formats::new(FORMATS.newest() + 1, FORMATS.newest() + 1);

/// A bundle, or a snapshot's head, as a later program writes it: with a field that today's does not
/// know.
#[must_use]
pub fn frame(today: &Bytes) -> Bytes {
    let mut frame = BytesMut::from(&today[..]);
    frame.extend_from_slice(&news());
    let crc = crc32c::crc32c(&frame[FRAME_BYTES..]);
    frame[4..FRAME_BYTES].copy_from_slice(&crc.to_le_bytes());
    frame.freeze()
}

fn news() -> Vec<u8> {
    let mut field = Vec::new();
    encode_key(NEWS_FIELD, WireType::LengthDelimited, &mut field);
    encode_varint(NEWS.len() as u64, &mut field);
    field.extend_from_slice(NEWS);
    field
}

/// The magic and the checksum of a frame (`wire/bundle.rs`).
const FRAME_BYTES: usize = 8;

/// A number that no message of ours has.
const NEWS_FIELD: u32 = 500;
const NEWS: &[u8] = b"tomorrow";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::wire::bundle::{Post, decode, encode};

    #[test]
    fn what_is_not_known_is_skipped() {
        let post = Post { gone: vec![7], ..Post::default() };
        let today = encode(Vec::new(), post.clone(), FORMATS.newest());
        let later = frame(&today);
        assert!(later.len() > today.len());
        assert_eq!(decode(&later, NodeId(1), NodeId(2), FORMATS), Ok((Vec::new(), post)));
    }
}
