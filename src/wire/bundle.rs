//! Many raft messages of many partitions in one checksummed frame, and snapshots in pieces.
//!
//! ```text
//! 0       4     8
//! | magic | crc | Bundle …                            a bundle
//! | length u32 | crc | head │ length | crc | slice │ …   a snapshot: its head, then its slices
//!                       └ magic | crc | SnapshotHeader
//! ```
//!
//! The first octet of the magic is the format (`format.rs`): a link carries frames in those that
//! both sides speak, and a reader takes those that its program does. The checksum covers everything
//! after it: TCP's own misses one error in some ten million packets, and what is in here is
//! replicated. Sender and receiver are the link's. Bytes from a peer never panic and never reach
//! the library's own decoder; a message of a kind that peers do not send is refused. Absent on
//! purpose: sockets, and what the messages mean.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use raft::eraftpb::{Entry, EntryType, Message, MessageType, Snapshot};

use crate::{
    id::{NodeId, PartitionId, ShardId},
    limits::{
        BUNDLE_BYTES_MAX, REPLICAS_MAX, SHARDS_MAX, SNAPSHOT_CHUNK_BYTES_MAX,
        SNAPSHOT_HEAD_BYTES_MAX,
    },
    wire::{
        format::{FORMAT_MAX, Formats},
        peer,
    },
};

const MAGIC_BUNDLE: u32 = 0x5252_4200; // RRB, and the format
const MAGIC_SNAPSHOT: u32 = 0x5252_5300; // RRS, and the format
const FRAME_BYTES: usize = 8;

/// Bytes that are not what a peer of this version sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// Not such a frame at all.
    Magic,
    /// In a format that this program does not speak.
    Format,
    /// Changed on the way.
    Checksum,
    /// Not what it should hold.
    Body,
    /// More than is taken.
    Large,
}

/// The kinds that peers send, by their number on the wire.
const KINDS: [MessageType; 9] = [
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTimeoutNow,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];

/// What one shard has for a peer shard beside raft's messages: the calls of clients that came to
/// the wrong one of them.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Post {
    /// Calls that the receiver is to answer.
    pub calls: Vec<peer::Call>,
    /// Answers to calls of the receiver's clients.
    pub answers: Vec<peer::Answer>,
    /// Calls that nobody waits for any more.
    pub gone: Vec<u64>,
    /// Something that the receiver posted did not come.
    pub missed: bool,
    /// Groups that the receiver belongs to no more.
    pub notices: Vec<peer::Notice>,
    /// What the sender knows of groups that the receiver does not belong to.
    pub news: Vec<peer::GroupNews>,
    /// How it is counted.
    pub label: Label,
    /// Groups of the sender's that may rest.
    pub rests: Vec<peer::Rest>,
    /// What rests of those that the sender leads and the receiver has; `None`: it does not know
    /// what resting is.
    pub beat: Option<Beat>,
}

/// Which groups rest: two sides that agree have the same.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Beat {
    /// How many.
    pub count: u32,
    /// The sum of a number for each, drawn from partition and term.
    pub sum: u64,
}

/// Which post it is, in every bundle: so that none is missed unnoticed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Label {
    /// The sender's shard.
    pub shard: ShardId,
    /// The sender's life.
    pub life: u64,
    /// How many posts were sent on this way in it, with this one.
    pub posts: u64,
    /// The receiver's life that the sender heard of last, and how many posts of it.
    pub heard_life: u64,
    /// See there.
    pub heard: u64,
}

impl Post {
    /// Whether there is nothing in it; such a one is not counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let calls = self.calls.is_empty() && self.answers.is_empty() && self.gone.is_empty();
        calls && !self.missed && self.notices.is_empty() && self.news.is_empty()
    }
}

/// The messages of a bundle, each with its partition and the members that it introduces.
pub type Messages = Vec<(PartitionId, Message, Vec<peer::Member>)>;

/// The format that a frame says it is in; `None`: it is no frame of ours.
#[must_use]
pub fn format_of(frame: &[u8]) -> Option<u32> {
    let magic = u32::from_le_bytes(*frame.first_chunk()?);
    [MAGIC_BUNDLE, MAGIC_SNAPSHOT].contains(&(magic & !0xff)).then_some(magic & 0xff)
}

/// The bytes of a bundle in this format.
#[must_use]
pub fn encode(messages: Messages, post: Post, format: u32) -> Bytes {
    let messages = messages
        .into_iter()
        .map(|(id, message, members)| peer::RaftMessage { members, ..written(id, message) });
    let Post { calls, answers, gone, missed, notices, news, label, rests, beat } = post;
    let Label { shard, life, posts, heard_life, heard } = label;
    let bundle = peer::Bundle {
        messages: messages.collect(),
        calls,
        answers,
        gone,
        missed,
        notices,
        shard: shard.0.into(),
        life,
        posts,
        heard_life,
        heard,
        news,
        rests,
        beat: beat.map(|Beat { count, sum }| peer::Beat { count, sum }),
    };
    let mut into = begin(MAGIC_BUNDLE, format, bundle.encoded_len());
    bundle.encode(&mut into).expect("a buffer that grows takes everything");
    finish(into)
}

/// What a message will take in a bundle, or a little more.
#[must_use]
pub fn estimate_bytes(message: &Message) -> usize {
    let entries = message.entries.iter().map(|entry| entry.data.len() + 24).sum::<usize>();
    entries + message.context.len() + 96
}

/// The messages and the post of a bundle that `from` sent to `to`, who speaks `formats`.
pub fn decode(
    bytes: &Bytes,
    from: NodeId,
    to: NodeId,
    formats: Formats,
) -> Result<(Messages, Post), Broken> {
    if bytes.len() > 2 * BUNDLE_BYTES_MAX {
        return Err(Broken::Large);
    }
    let body = open(bytes, MAGIC_BUNDLE, formats)?;
    let bundle = peer::Bundle::decode(body).map_err(|_| Broken::Body)?;
    let peer::Bundle { messages, calls, answers, gone, missed, notices, shard, .. } = bundle;
    let peer::Bundle { life, posts, heard_life, heard, news, rests, beat, .. } = bundle;
    let messages = messages.into_iter().map(|message| read(message, from, to));
    if shard as usize >= SHARDS_MAX {
        return Err(Broken::Body);
    }
    let label = Label { shard: ShardId(shard as u16), life, posts, heard_life, heard };
    let beat = beat.map(|peer::Beat { count, sum }| Beat { count, sum });
    let post = Post { calls, answers, gone, missed, notices, news, label, rests, beat };
    Ok((messages.collect::<Result<_, _>>()?, post))
}

/// The head of a snapshot that leaves as `message`, with everyone who belongs to the group there,
/// in this format.
#[must_use]
pub fn encode_snapshot(
    partition: PartitionId,
    message: &Message,
    members: Vec<peer::Member>,
    format: u32,
) -> Bytes {
    assert_eq!(message.get_msg_type(), MessageType::MsgSnapshot, "only snapshots have a state");
    let meta = message.get_snapshot().get_metadata();
    let conf = meta.get_conf_state();
    let header = peer::SnapshotHeader {
        partition: partition.0,
        term: message.term,
        position: meta.index,
        position_term: meta.term,
        voters: conf.voters.clone(),
        learners: conf.learners.clone(),
        voters_outgoing: conf.voters_outgoing.clone(),
        learners_next: conf.learners_next.clone(),
        members,
    };
    let mut into = begin(MAGIC_SNAPSHOT, format, header.encoded_len());
    header.encode(&mut into).expect("a buffer that grows takes everything");
    finish(into)
}

/// The head of a snapshot that `from` sent to `to`.
#[derive(Clone, PartialEq, Debug)]
pub struct Received {
    /// Of which partition.
    pub partition: PartitionId,
    /// The message without its state.
    pub message: Message,
    /// Everyone who belongs to the group there.
    pub members: Vec<peer::Member>,
}

/// Reads what `encode_snapshot` wrote.
pub fn decode_snapshot(
    bytes: &Bytes,
    from: NodeId,
    to: NodeId,
    formats: Formats,
) -> Result<Received, Broken> {
    if bytes.len() > SNAPSHOT_HEAD_BYTES_MAX {
        return Err(Broken::Large);
    }
    let body = open(bytes, MAGIC_SNAPSHOT, formats)?;
    let header = peer::SnapshotHeader::decode(&body[..]).map_err(|_| Broken::Body)?;
    let lists = [&header.voters, &header.learners, &header.voters_outgoing, &header.learners_next];
    let most = lists.iter().map(|list| list.len()).chain([header.members.len()]).max();
    if header.position == 0 || header.voters.is_empty() || most > Some(REPLICAS_MAX) {
        return Err(Broken::Body);
    }
    let mut message = envelope(MessageType::MsgSnapshot, from, to);
    message.term = header.term;
    let mut snapshot = Snapshot::default();
    let meta = snapshot.mut_metadata();
    (meta.index, meta.term) = (header.position, header.position_term);
    let conf = meta.mut_conf_state();
    conf.set_voters(header.voters);
    conf.set_learners(header.learners);
    conf.set_voters_outgoing(header.voters_outgoing);
    conf.set_learners_next(header.learners_next);
    message.set_snapshot(snapshot);
    let partition = PartitionId(header.partition);
    Ok(Received { partition, message, members: header.members })
}

/// A part of a snapshot: its head, which is number 0, or one of its slices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Of which partition.
    pub partition: PartitionId,
    /// Of which snapshot of the peer: the same in all its pieces.
    pub tag: u32,
    /// Which piece.
    pub number: u32,
    /// Whether none follows.
    pub last: bool,
    /// What it holds.
    pub bytes: Bytes,
}

/// What stands before a piece on its way: its length and checksum.
pub const PIECE_HEAD_BYTES: usize = 8;

/// The longest piece.
pub const PIECE_BYTES_MAX: usize = if SNAPSHOT_CHUNK_BYTES_MAX > SNAPSHOT_HEAD_BYTES_MAX {
    SNAPSHOT_CHUNK_BYTES_MAX
} else {
    SNAPSHOT_HEAD_BYTES_MAX
};

/// What stands before a piece of so many bytes with this checksum.
#[must_use]
pub fn piece_head(bytes: u32, checksum: u32) -> [u8; PIECE_HEAD_BYTES] {
    let mut head = [0; PIECE_HEAD_BYTES];
    head[..4].copy_from_slice(&bytes.to_le_bytes());
    head[4..].copy_from_slice(&checksum.to_le_bytes());
    head
}

/// Length and checksum of the piece that follows.
pub fn read_piece_head(head: [u8; PIECE_HEAD_BYTES]) -> Result<(usize, u32), Broken> {
    let [a, b, c, d, checksum @ ..] = head;
    let bytes = u32::from_le_bytes([a, b, c, d]) as usize;
    if bytes == 0 || bytes > PIECE_BYTES_MAX {
        return Err(Broken::Large);
    }
    Ok((bytes, u32::from_le_bytes(checksum)))
}

/// The pieces of a snapshot that has come in one.
pub fn pieces(all: &Bytes, partition: PartitionId, tag: u32) -> Result<Vec<Piece>, Broken> {
    let mut pieces = Vec::new();
    let mut rest = all.clone();
    while !rest.is_empty() {
        let head = rest.first_chunk().ok_or(Broken::Body)?;
        let (length, checksum) = read_piece_head(*head)?;
        let end = PIECE_HEAD_BYTES + length;
        if rest.len() < end {
            return Err(Broken::Body);
        }
        let bytes = rest.slice(PIECE_HEAD_BYTES..end);
        if crc32c::crc32c(&bytes) != checksum {
            return Err(Broken::Checksum);
        }
        rest = rest.slice(end..);
        let (number, last) = (pieces.len() as u32, rest.is_empty());
        pieces.push(Piece { partition, tag, number, last, bytes });
    }
    Ok(pieces)
}

fn begin(magic: u32, format: u32, body: usize) -> BytesMut {
    assert!(0 < format && format <= FORMAT_MAX, "format {format} does not fit its octet");
    let mut into = BytesMut::with_capacity(FRAME_BYTES + body);
    into.put_u32_le(magic | format);
    into.put_u32_le(0);
    into
}

fn finish(mut frame: BytesMut) -> Bytes {
    let crc = crc32c::crc32c(&frame[FRAME_BYTES..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame.freeze()
}

fn open(frame: &Bytes, magic: u32, formats: Formats) -> Result<Bytes, Broken> {
    let header = frame.first_chunk::<FRAME_BYTES>().ok_or(Broken::Magic)?;
    let [a, b, c, d, crc @ ..] = *header;
    let found = u32::from_le_bytes([a, b, c, d]);
    if found & !0xff != magic {
        return Err(Broken::Magic);
    }
    if !formats.has(found & 0xff) {
        return Err(Broken::Format);
    }
    let body = frame.slice(FRAME_BYTES..);
    if crc32c::crc32c(&body) != u32::from_le_bytes(crc) {
        return Err(Broken::Checksum);
    }
    Ok(body)
}

fn written(partition: PartitionId, mut message: Message) -> peer::RaftMessage {
    let kind = message.get_msg_type();
    let number = KINDS.iter().position(|known| *known == kind);
    let number = number.unwrap_or_else(|| panic!("{kind:?} never leaves a node in a bundle"));
    let entries = message.take_entries().into_iter();
    peer::RaftMessage {
        partition: partition.0,
        kind: number as u32 + 1,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: entries
            .map(|entry| peer::LogEntry {
                term: entry.term,
                changes_members: entry.get_entry_type() == EntryType::EntryConfChangeV2,
                data: entry.data,
            })
            .collect(),
        commit: message.commit,
        commit_term: message.commit_term,
        reject: message.reject,
        reject_hint: message.reject_hint,
        request_snapshot: message.request_snapshot,
        context: message.context,
        priority: message.priority,
        members: Vec::new(),
    }
}

fn read(
    message: peer::RaftMessage,
    from: NodeId,
    to: NodeId,
) -> Result<(PartitionId, Message, Vec<peer::Member>), Broken> {
    let place = (message.kind as usize).checked_sub(1).ok_or(Broken::Body)?;
    let kind = *KINDS.get(place).ok_or(Broken::Body)?;
    // raft reads a term of 0 as a call from inside.
    if message.term == 0 {
        return Err(Broken::Body);
    }
    let mut entries = Vec::with_capacity(message.entries.len());
    for (index, entry) in (message.index.saturating_add(1)..).zip(message.entries) {
        let changes = entry.changes_members;
        if changes && !is_change(&entry.data) {
            return Err(Broken::Body);
        }
        entries.push(Entry {
            entry_type: if changes { EntryType::EntryConfChangeV2 } else { EntryType::EntryNormal },
            term: entry.term,
            index,
            // A copy of its own: a slice would keep the whole bundle in memory as long as the log.
            data: Bytes::copy_from_slice(&entry.data),
            ..Entry::default()
        });
    }
    let mut raft = envelope(kind, from, to);
    raft.term = message.term;
    raft.log_term = message.log_term;
    raft.index = message.index;
    raft.set_entries(entries.into());
    raft.commit = message.commit;
    raft.commit_term = message.commit_term;
    raft.reject = message.reject;
    raft.reject_hint = message.reject_hint;
    raft.request_snapshot = message.request_snapshot;
    raft.context = message.context;
    raft.priority = message.priority;
    Ok((PartitionId(message.partition), raft, message.members))
}

/// Whether an entry's data is a change of members. Whether it can be applied is the partition's to
/// say, the same on every replica.
fn is_change(data: &[u8]) -> bool {
    let Ok(change) = peer::MembersChange::decode(data) else { return false };
    let named = peer::Members::decode(&change.context[..]);
    let named = named.is_ok_and(|named| named.members.len() <= REPLICAS_MAX);
    named && change.steps.len() <= REPLICAS_MAX
}

fn envelope(kind: MessageType, from: NodeId, to: NodeId) -> Message {
    let mut message =
        Message { from: u64::from(from.0), to: u64::from(to.0), ..Message::default() };
    message.set_msg_type(kind);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::Prng;
    use crate::wire::format::FORMATS;

    fn append() -> Message {
        let mut message = envelope(MessageType::MsgAppend, NodeId(1), NodeId(2));
        (message.term, message.log_term, message.index, message.commit) = (7, 6, 41, 40);
        let entry =
            |index, term| Entry { index, term, data: vec![9; 30].into(), ..Entry::default() };
        message.set_entries(vec![entry(42, 6), entry(43, 7)].into());
        message
    }

    #[test]
    fn a_bundle_comes_back_as_it_was() {
        let member = peer::Member { node: 4, port: 5, ..peer::Member::default() };
        let mut changed = append();
        let context = peer::Members { members: vec![member.clone()] }.encode_to_vec().into();
        let change = peer::MembersChange { context, ..peer::MembersChange::default() };
        changed.mut_entries()[1].set_entry_type(EntryType::EntryConfChangeV2);
        changed.mut_entries()[1].data = change.encode_to_vec().into();
        let sent =
            vec![(PartitionId(3), append(), Vec::new()), (PartitionId(4), changed, vec![member])];
        let call = peer::Call { number: 9, partition: 3, ..peer::Call::default() };
        let answer = peer::Answer { number: 8, last: true, ..peer::Answer::default() };
        let label = Label { shard: ShardId(2), life: 5, posts: 6, heard_life: 7, heard: 8 };
        let (calls, answers) = (vec![call], vec![answer]);
        let notices = vec![peer::Notice { partition: 3, position: 8 }];
        let news = vec![peer::GroupNews { partition: 4, left: true, ..Default::default() }];
        let rests = vec![peer::Rest { partition: 3, term: 4, position: 5 }];
        let beat = Some(Beat { count: 6, sum: 7 });
        let gone = vec![7];
        let post = Post { calls, answers, gone, missed: true, notices, news, label, rests, beat };
        let bytes = encode(sent.clone(), post.clone(), 1);
        assert_eq!(decode(&bytes, NodeId(1), NodeId(2), FORMATS), Ok((sent, post)));
        assert!(2 * estimate_bytes(&append()) >= bytes.len());
    }

    #[test]
    fn a_snapshot_comes_back_as_it_was() {
        let mut sent = envelope(MessageType::MsgSnapshot, NodeId(1), NodeId(2));
        sent.term = 7;
        let mut snapshot = Snapshot::default();
        (snapshot.mut_metadata().index, snapshot.mut_metadata().term) = (99, 6);
        snapshot.mut_metadata().mut_conf_state().set_voters(vec![1, 2, 3]);
        snapshot.mut_metadata().mut_conf_state().set_voters_outgoing(vec![1, 2]);
        snapshot.mut_metadata().mut_conf_state().set_learners_next(vec![2]);
        sent.set_snapshot(snapshot);
        let member = peer::Member { node: 4, port: 5, ..peer::Member::default() };
        let bytes = encode_snapshot(PartitionId(3), &sent, vec![member.clone()], 1);
        let received = decode_snapshot(&bytes, NodeId(1), NodeId(2), FORMATS).expect("whole");
        assert_eq!(received.partition, PartitionId(3));
        assert_eq!(received.members, [member]);
        sent.mut_snapshot().data = Bytes::new();
        assert_eq!(received.message, sent);
    }

    #[test]
    fn a_frame_says_its_format_and_only_who_speaks_it_reads_it() {
        let two = Formats::new(1, 2);
        for format in [1, 2] {
            let bytes =
                encode(vec![(PartitionId(3), append(), Vec::new())], Post::default(), format);
            assert_eq!(format_of(&bytes), Some(format));
            assert!(decode(&bytes, NodeId(1), NodeId(2), two).is_ok());
            let here = decode(&bytes, NodeId(1), NodeId(2), FORMATS);
            assert_eq!(here.err(), (format == 2).then_some(Broken::Format));
        }
        assert_eq!(format_of(b"RRB"), None);
        assert_eq!(format_of(b"\x01HTTP/2"), None);
    }

    #[test]
    fn what_is_no_change_of_members_is_refused() {
        let mut message = append();
        message.mut_entries()[0].set_entry_type(EntryType::EntryConfChangeV2);
        let bytes = encode(vec![(PartitionId(3), message, Vec::new())], Post::default(), 1);
        assert_eq!(decode(&bytes, NodeId(1), NodeId(2), FORMATS), Err(Broken::Body));
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let bytes = encode(vec![(PartitionId(3), append(), Vec::new())], Post::default(), 1);
        let mut prng = Prng::new(11);
        for _ in 0..500 {
            let mut damaged = bytes.to_vec();
            let at = prng.below(damaged.len() as u64) as usize;
            damaged[at] ^= 1 << prng.below(8);
            let damaged = Bytes::from(damaged);
            assert!(decode(&damaged, NodeId(1), NodeId(2), FORMATS).is_err(), "byte {at}");
            let cut = bytes.slice(..at);
            assert!(decode(&cut, NodeId(1), NodeId(2), FORMATS).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn random_bodies_do_not_panic() {
        let mut prng = Prng::new(12);
        for _ in 0..2000 {
            let mut frame = begin(MAGIC_BUNDLE, 1, 64);
            for _ in 0..prng.below(64) {
                frame.put_u8(prng.next_u64() as u8);
            }
            let frame = finish(frame);
            let _ = decode(&frame, NodeId(1), NodeId(2), FORMATS);
            let mut frame = begin(MAGIC_SNAPSHOT, 1, 64);
            for _ in 0..prng.below(64) {
                frame.put_u8(prng.next_u64() as u8);
            }
            let _ = decode_snapshot(&finish(frame), NodeId(1), NodeId(2), FORMATS);
        }
    }
}
