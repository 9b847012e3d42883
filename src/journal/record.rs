//! Records: one partition's bytes within a block, and the bodies they carry.
//!
//! ```text
//! 0     4        8           12     16       24
//! | crc | length | partition | kind | number | body …      crc from the block's seed over the rest
//!
//! Entries       | first | (term, length, kind)(data) …        supersedes everything at >= first
//! State         | term | vote | commit | conf?                the newest counts
//! Founded       | replica | (id, role, port, host) … | joins
//! SnapshotBegin | position                                    ends an unfinished one
//! SnapshotChunk | ordinal | bytes
//! SnapshotEnd   | position | term | index | digest | chunks | origin | conf | (id, role, …) …
//! Left          |                                             the partition is gone from here
//! ```
//!
//! `number` counts the records of one partition without a gap: a block that went bad shows as a
//! jump in the numbers of exactly the partitions that had records in it. Everything is little
//! endian. Decoding borrows and never panics. Absent on purpose: raft's own types; the shard
//! translates.

use crate::{
    id::{Index, PartitionId, Position, Term},
    journal::segment::{u32_at, u64_at},
    limits::{HOST_BYTES_MAX, REPLICAS_MAX},
};

/// Bytes of a record's header.
pub const RECORD_HEADER_BYTES: usize = 24;

/// Bytes of one entry's header within an `Entries` record.
pub const ENTRY_HEADER_BYTES: usize = 16;

/// Bytes of an `Entries` body before its first entry.
pub const RUN_HEADER_BYTES: usize = 8;

/// What a record carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A run of consecutive log entries.
    Entries,
    /// Term, vote and commit, and sometimes the configuration.
    State,
    /// The replica and members a partition was founded with.
    Founded,
    /// A snapshot starts.
    SnapshotBegin,
    /// A slice of it.
    SnapshotChunk,
    /// It is complete.
    SnapshotEnd,
    /// The partition was given up.
    Left,
}

impl Kind {
    /// All kinds, by their number on disk less one.
    pub const ALL: [Kind; 7] = [
        Kind::Entries,
        Kind::State,
        Kind::Founded,
        Kind::SnapshotBegin,
        Kind::SnapshotChunk,
        Kind::SnapshotEnd,
        Kind::Left,
    ];

    fn code(self) -> u8 {
        self as u8 + 1
    }

    fn of(code: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

/// One log entry to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// The term it was proposed in.
    pub term: Term,
    /// raft's kind of entry; opaque here.
    pub kind: u8,
    /// Its bytes, at most `JOURNAL_ENTRY_BYTES_MAX`.
    pub data: &'a [u8],
}

/// What raft must find again whatever happens.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HardState {
    /// The current term.
    pub term: Term,
    /// The replica voted for in it, 0 for none.
    pub vote: u64,
    /// How far the log was known to be committed.
    pub commit: Position,
}

/// Who votes and who listens, as raft sees it. Each list holds at most `REPLICAS_MAX` replicas.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ConfState {
    /// The voters.
    pub voters: Vec<u64>,
    /// Those that only listen.
    pub learners: Vec<u64>,
    /// The voters of the configuration that a joint one is leaving.
    pub voters_outgoing: Vec<u64>,
    /// Voters that will listen once the joint configuration is left.
    pub learners_next: Vec<u64>,
    /// Whether raft leaves the joint configuration on its own.
    pub auto_leave: bool,
}

/// With whom a partition was founded here.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Founding {
    /// This node's replica.
    pub replica: u64,
    /// Everyone, this replica included; at most `REPLICAS_MAX`.
    pub members: Vec<Member>,
    /// It joined a group that ran: these are not who founded it, but whom it was told of.
    pub joins: bool,
}

/// One member of a group.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Member {
    /// Its replica id.
    pub id: u64,
    /// Its role; opaque here.
    pub role: u8,
    /// Its peer address: a host of at most `HOST_BYTES_MAX` bytes
    pub host: String,
    /// and a port.
    pub port: u16,
}

/// Where a snapshot came from, which decides what it does to the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Taken here: entries after its position stay.
    Taken,
    /// Sent by the leader: the whole log before it is void.
    Installed,
}

/// What a complete snapshot is of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotMeta {
    /// The last log position it contains.
    pub position: Position,
    /// The term of the entry there.
    pub term: Term,
    /// The state machine's index.
    pub index: Index,
    /// The digest of the state it was taken from.
    pub digest: u64,
    /// Taken or installed.
    pub origin: Origin,
    /// The configuration at its position.
    pub conf: ConfState,
    /// Everyone there; at most `REPLICAS_MAX`.
    pub members: Vec<Member>,
}

/// A record's header as found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RecordHeader {
    pub crc: u32,
    pub length: usize,
    pub partition: PartitionId,
    pub kind: Kind,
    pub number: u64,
}

impl RecordHeader {
    /// The header at the start of `bytes`, when its body is inside `bytes` too. The checksum is not
    /// looked at.
    pub fn decode(bytes: &[u8]) -> Option<RecordHeader> {
        let header = bytes.get(..RECORD_HEADER_BYTES)?;
        let length = u32_at(header, 4) as usize;
        if length > bytes.len() - RECORD_HEADER_BYTES {
            return None;
        }
        Some(RecordHeader {
            crc: u32_at(header, 0),
            length,
            partition: PartitionId(u32_at(header, 8)),
            kind: Kind::of(header[12])?,
            number: u64_at(header, 16),
        })
    }

    /// Whether the record at the start of `bytes`, whose header this is, is as it was written.
    pub fn holds(&self, bytes: &[u8], seed: u32) -> bool {
        crc32c::crc32c_append(seed, &bytes[4..RECORD_HEADER_BYTES + self.length]) == self.crc
    }
}

/// Writes all of a record's header but length and checksum, which `seal` adds.
pub(super) fn encode_header(into: &mut [u8], partition: PartitionId, kind: Kind, number: u64) {
    into[8..12].copy_from_slice(&partition.0.to_le_bytes());
    into[12] = kind.code();
    into[16..24].copy_from_slice(&number.to_le_bytes());
}

/// Completes a record that lies in `record` with header and body.
pub(super) fn seal(record: &mut [u8], seed: u32) {
    let length = record.len() - RECORD_HEADER_BYTES;
    let length = u32::try_from(length).expect("a record is inside a block");
    record[4..8].copy_from_slice(&length.to_le_bytes());
    let crc = crc32c::crc32c_append(seed, &record[4..]);
    record[0..4].copy_from_slice(&crc.to_le_bytes());
}

/// The header of one entry within a run.
pub(super) fn entry_header(entry: &Entry<'_>) -> [u8; ENTRY_HEADER_BYTES] {
    let length = u32::try_from(entry.data.len()).expect("an entry fits a block");
    let mut header = [0; ENTRY_HEADER_BYTES];
    header[0..8].copy_from_slice(&entry.term.0.to_le_bytes());
    header[8..12].copy_from_slice(&length.to_le_bytes());
    header[12] = entry.kind;
    header
}

/// The body of a `State` record.
pub(super) fn encode_state(into: &mut Vec<u8>, hard: &HardState, conf: Option<&ConfState>) {
    for number in [hard.term.0, hard.vote, hard.commit.0] {
        into.extend_from_slice(&number.to_le_bytes());
    }
    into.push(u8::from(conf.is_some()));
    if let Some(conf) = conf {
        encode_conf(into, conf);
    }
}

/// The body of a `Founded` record.
pub(super) fn encode_founding(into: &mut Vec<u8>, founding: &Founding) {
    into.extend_from_slice(&founding.replica.to_le_bytes());
    encode_members(into, &founding.members);
    into.push(u8::from(founding.joins));
}

fn encode_members(into: &mut Vec<u8>, members: &[Member]) {
    let count = members.len();
    assert!(count <= REPLICAS_MAX, "{count} members");
    into.extend_from_slice(&(count as u16).to_le_bytes());
    for member in members {
        let host = member.host.as_bytes();
        assert!(host.len() <= HOST_BYTES_MAX, "a host name of {} bytes", host.len());
        into.extend_from_slice(&member.id.to_le_bytes());
        into.push(member.role);
        into.extend_from_slice(&member.port.to_le_bytes());
        into.push(host.len() as u8);
        into.extend_from_slice(host);
    }
}

/// The body of a `SnapshotEnd` record.
pub(super) fn encode_snapshot_end(into: &mut Vec<u8>, meta: &SnapshotMeta, chunks: u32) {
    for number in [meta.position.0, meta.term.0, meta.index.0, meta.digest] {
        into.extend_from_slice(&number.to_le_bytes());
    }
    into.extend_from_slice(&chunks.to_le_bytes());
    into.push(match meta.origin {
        Origin::Taken => 0,
        Origin::Installed => 1,
    });
    encode_conf(into, &meta.conf);
    encode_members(into, &meta.members);
}

/// The most that Founded and State of one partition with `founding_bytes` of body can take.
pub(super) const fn checkpoint_bytes(founding_bytes: usize) -> usize {
    let state = 3 * 8 + 1 + 1 + 4 * (2 + 8 * REPLICAS_MAX);
    2 * RECORD_HEADER_BYTES + founding_bytes + state
}

fn encode_conf(into: &mut Vec<u8>, conf: &ConfState) {
    into.push(u8::from(conf.auto_leave));
    for list in [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next] {
        assert!(list.len() <= REPLICAS_MAX, "{} replicas in one list", list.len());
        into.extend_from_slice(&(list.len() as u16).to_le_bytes());
        for replica in list {
            into.extend_from_slice(&replica.to_le_bytes());
        }
    }
}

/// A cursor over a body; everything is `None` past the end.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn u8(&mut self) -> Option<u8> {
        Some(self.bytes(1)?[0])
    }

    pub fn u16(&mut self) -> Option<u16> {
        let bytes = self.bytes(2)?;
        Some(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    pub fn u32(&mut self) -> Option<u32> {
        Some(u32_at(self.bytes(4)?, 0))
    }

    pub fn u64(&mut self) -> Option<u64> {
        Some(u64_at(self.bytes(8)?, 0))
    }

    /// One entry of a run: term, kind, and how many bytes of data follow.
    pub fn entry_header(&mut self) -> Option<(Term, u8, usize)> {
        let header = self.bytes(ENTRY_HEADER_BYTES)?;
        Some((Term(u64_at(header, 0)), header[12], u32_at(header, 8) as usize))
    }

    pub fn state(&mut self) -> Option<(HardState, Option<ConfState>)> {
        let hard =
            HardState { term: Term(self.u64()?), vote: self.u64()?, commit: Position(self.u64()?) };
        let conf = match self.u8()? {
            0 => None,
            _ => Some(self.conf()?),
        };
        Some((hard, conf))
    }

    pub fn founding(&mut self) -> Option<Founding> {
        let (replica, members) = (self.u64()?, self.members()?);
        let joins = self.u8()? != 0;
        Some(Founding { replica, members, joins })
    }

    fn members(&mut self) -> Option<Vec<Member>> {
        let count = usize::from(self.u16()?);
        if count > REPLICAS_MAX {
            return None;
        }
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            let (id, role, port) = (self.u64()?, self.u8()?, self.u16()?);
            let length = usize::from(self.u8()?);
            let host = std::str::from_utf8(self.bytes(length)?).ok()?.to_owned();
            members.push(Member { id, role, host, port });
        }
        Some(members)
    }

    /// What the snapshot is of, and in how many chunks.
    pub fn snapshot_end(&mut self) -> Option<(SnapshotMeta, u32)> {
        let (position, term) = (Position(self.u64()?), Term(self.u64()?));
        let (index, digest) = (Index(self.u64()?), self.u64()?);
        let chunks = self.u32()?;
        let origin = match self.u8()? {
            0 => Origin::Taken,
            1 => Origin::Installed,
            _ => return None,
        };
        let (conf, members) = (self.conf()?, self.members()?);
        Some((SnapshotMeta { position, term, index, digest, origin, conf, members }, chunks))
    }

    fn conf(&mut self) -> Option<ConfState> {
        let auto_leave = self.u8()? != 0;
        let mut list = || -> Option<Vec<u64>> {
            let count = usize::from(self.u16()?);
            if count > REPLICAS_MAX {
                return None;
            }
            (0..count).map(|_| self.u64()).collect()
        };
        Some(ConfState {
            voters: list()?,
            learners: list()?,
            voters_outgoing: list()?,
            learners_next: list()?,
            auto_leave,
        })
    }
}
