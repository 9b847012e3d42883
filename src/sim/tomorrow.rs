//! The program of tomorrow, which some nodes of a world run: it speaks one format more than this
//! one, and says in every frame something that this one does not know (`wire/format.rs`).
//!
//! Nodes with either program work together, one after another is upgraded, and when all are, the
//! program of the day after may forget the old format. Absent on purpose: a use for what it says.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::wire::format::{FORMATS, Formats};

/// Speaks what this program does, and one format more.
pub const TOMORROW: Formats = Formats::new(FORMATS.oldest(), FORMATS.newest() + 1);

/// Has forgotten what this program speaks.
pub const DAY_AFTER: Formats = Formats::new(FORMATS.newest() + 1, FORMATS.newest() + 1);

/// A bundle as a later program writes it: with a field that today's does not know.
#[must_use]
pub fn bundle(frame: &Bytes) -> Bytes {
    sealed(&frame[..4], |body| {
        body.extend_from_slice(&frame[FRAME_BYTES..]);
        body.extend_from_slice(&news());
    })
}

/// A snapshot as a later program writes it: its header has a field that today's does not know.
#[must_use]
pub fn snapshot(frame: &Bytes) -> Bytes {
    let body = &frame[FRAME_BYTES..];
    let (length, rest) = body.split_first_chunk::<4>().expect("a snapshot says how long it is");
    let (header, state) = rest.split_at(u32::from_le_bytes(*length) as usize);
    sealed(&frame[..4], |body| {
        let news = news();
        body.put_u32_le((header.len() + news.len()) as u32);
        body.extend_from_slice(header);
        body.extend_from_slice(&news);
        body.extend_from_slice(state);
    })
}

fn sealed(magic: &[u8], write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut frame = BytesMut::new();
    frame.extend_from_slice(magic);
    frame.put_u32_le(0);
    write(&mut frame);
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
        let later = bundle(&today);
        assert!(later.len() > today.len());
        assert_eq!(decode(&later, NodeId(1), NodeId(2), FORMATS), Ok((Vec::new(), post)));
    }
}
