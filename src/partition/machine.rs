//! Stand-in until the machine is merged.
use crate::{id::*, partition::{reply::*, snapshot}, time::LogTime};
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {}
#[derive(Debug)]
pub struct Machine { index: Index, time: LogTime, log: Vec<u8> }
impl Machine {
    pub fn new(_: PartitionId, _: Bounds) -> Machine { Machine { index: Index(0), time: LogTime(0), log: Vec::new() } }
    pub fn apply(&mut self, _: Position, _: Term, data: &[u8], callers: &[Option<Ticket>], replies: &mut Replies) {
        let Some((stamp, mut rest)) = data.split_first_chunk::<8>() else { return };
        self.time = self.time.max(LogTime(u64::from_be_bytes(*stamp)));
        let mut i = 0;
        while !rest.is_empty() {
            let n = prost::encoding::decode_varint(&mut rest).unwrap_or(0) as usize;
            let (body, after) = rest.split_at(n.min(rest.len())); rest = after;
            assert!(body != b"panic", "told to");
            self.index = self.index.next(); self.log.extend_from_slice(body);
            if let Some(Some(ticket)) = callers.get(i) { replies.output(*ticket, self.index, 1, Status::Ok, body, true); }
            i += 1;
        }
    }
    pub fn query(&mut self, ticket: Ticket, body: &[u8], replies: &mut Replies) { replies.output(ticket, self.index, 0, Status::Ok, body, true); }
    pub fn has_more(&self) -> bool { false }
    pub fn more(&mut self, _: &mut Replies) {}
    pub fn gone(&mut self, _: Ticket) {}
    pub fn detach(&mut self, _: Refusal, _: &mut Replies) {}
    pub fn index(&self) -> Index { self.index }
    pub fn time(&self) -> LogTime { self.time }
    pub fn next_timer(&self) -> Option<LogTime> { None }
    pub fn digest(&self) -> u64 { crc32c::crc32c(&self.log).into() }
    pub fn bytes(&self) -> usize { self.log.len() }
    pub fn snapshot(&self, cursor: &mut snapshot::Cursor, _: usize, into: &mut Vec<u8>) -> snapshot::Progress {
        if cursor.step() == 1 { into.extend_from_slice(&self.index.0.to_be_bytes()); into.extend_from_slice(&self.time.0.to_be_bytes()); return snapshot::Progress::More; }
        into.extend_from_slice(&self.log); snapshot::Progress::Done
    }
    pub fn restore(_: PartitionId, _: Bounds, bytes: &[u8]) -> Result<Machine, snapshot::Broken> {
        let (index, rest) = bytes.split_first_chunk::<8>().ok_or(snapshot::Broken)?;
        let (time, rest) = rest.split_first_chunk::<8>().ok_or(snapshot::Broken)?;
        Ok(Machine { index: Index(u64::from_be_bytes(*index)), time: LogTime(u64::from_be_bytes(*time)), log: rest.to_vec() })
    }
}
