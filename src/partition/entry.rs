//! Stand-in until the machine is merged.
use bytes::Bytes;

use crate::time::LogTime;

#[derive(Debug)]
pub struct EntryBuilder { stamp: LogTime, bytes: Vec<u8>, commands: usize }
impl EntryBuilder {
    pub fn new(stamp: LogTime) -> EntryBuilder { EntryBuilder { stamp, bytes: Vec::new(), commands: 0 } }
    pub fn push(&mut self, body: &[u8]) { self.commands += 1; prost::encoding::encode_varint(body.len() as u64, &mut self.bytes); self.bytes.extend_from_slice(body); }
    pub fn commands(&self) -> usize { self.commands }
    pub fn bytes(&self) -> usize { self.bytes.len() }
    pub fn finish(self) -> Bytes { let mut v = self.stamp.0.to_be_bytes().to_vec(); v.extend_from_slice(&self.bytes); v.into() }
}
pub fn stamp(data: &[u8]) -> Option<LogTime> { data.first_chunk::<8>().map(|b| LogTime(u64::from_be_bytes(*b))) }
