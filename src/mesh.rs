//! Letters between the cores of one node.
//!
//! ```text
//!    core a ── parcels, in order, bounded ──► core b          one lane a pair and direction
//!           ── bell ────────────────────────►                 wakes b's pump, once until it looks
//! ```
//!
//! A lane is a bounded queue of the standard library without locks between one sender and one
//! receiver. What finds no room waits with its sender, in order, and is tried again in each of its
//! turns: nothing is lost, and a core never waits for another. What waits is bounded by admission,
//! since every letter stems from a call that was admitted or from the answer to one. Absent on
//! purpose: any request and reply pattern, and state that two cores could both see.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use crate::frontend::pin::Passage;
use crate::id::ShardId;
use crate::limits::MESH_LANE_PARCELS_MAX;
use crate::shard::inbox::Letter;
use crate::wire::hello::Hello;

/// What goes from core to core.
#[derive(Debug)]
pub enum Parcel {
    /// For the receiver's shard.
    Letter(Letter),
    /// A connection that belongs to the receiver's partitions.
    Connection(Box<Passage>, OwnedFd),
    /// A peer's link that the receiver's shard is to hear.
    Link(Box<Hello>, OwnedFd),
}

/// One core's ends of all lanes.
#[derive(Debug)]
pub struct Mesh {
    shard: ShardId,
    lanes: Vec<Lane>,
    bells: Arc<[Bell]>,
}

#[derive(Debug)]
struct Lane {
    out: SyncSender<Parcel>,
    waiting: VecDeque<Parcel>,
    from: Receiver<Parcel>,
}

/// Wakes one core's pump from any thread.
#[derive(Debug, Default)]
pub struct Bell {
    rung: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// The meshes of a node's cores, and the bells of all.
#[must_use]
pub fn new(shards: u16) -> (Vec<Mesh>, Arc<[Bell]>) {
    let bells: Arc<[Bell]> = (0..shards).map(|_| Bell::default()).collect();
    let mut outs: Vec<Vec<SyncSender<Parcel>>> = (0..shards).map(|_| Vec::new()).collect();
    let mut ins: Vec<Vec<Receiver<Parcel>>> = (0..shards).map(|_| Vec::new()).collect();
    for sender in &mut outs {
        for receiver in &mut ins {
            let (out, from) = sync_channel(MESH_LANE_PARCELS_MAX);
            sender.push(out);
            receiver.push(from);
        }
    }
    let meshes = outs.into_iter().zip(ins).zip(0..).map(|((outs, ins), shard)| {
        let lanes = outs.into_iter().zip(ins);
        let lanes = lanes.map(|(out, from)| Lane { out, waiting: VecDeque::new(), from });
        Mesh { shard: ShardId(shard), lanes: lanes.collect(), bells: bells.clone() }
    });
    (meshes.collect(), bells)
}

impl Mesh {
    /// Sends, in order with all that was sent to the same core before.
    pub fn send(&mut self, to: ShardId, parcel: Parcel) {
        assert_ne!(to, self.shard, "a core does not write to itself");
        let lane = &mut self.lanes[usize::from(to.0)];
        lane.waiting.push_back(parcel);
        self.push(to);
    }

    /// Tries again what found no room; whether all has left.
    pub fn flush(&mut self) -> bool {
        let mut left = true;
        for to in 0..self.lanes.len() as u16 {
            if !self.lanes[usize::from(to)].waiting.is_empty() {
                self.push(ShardId(to));
                left &= self.lanes[usize::from(to)].waiting.is_empty();
            }
        }
        left
    }

    /// Takes what has come, at most one lane's room from each core.
    pub fn receive(&mut self, mut with: impl FnMut(ShardId, Parcel)) {
        self.bells[usize::from(self.shard.0)].rung.store(false, Ordering::SeqCst);
        for (lane, from) in self.lanes.iter().zip(0..) {
            for parcel in lane.from.try_iter().take(MESH_LANE_PARCELS_MAX) {
                with(ShardId(from), parcel);
            }
        }
    }

    /// This core's own bell.
    #[must_use]
    pub fn bell(&self) -> &Bell {
        &self.bells[usize::from(self.shard.0)]
    }

    fn push(&mut self, to: ShardId) {
        let lane = &mut self.lanes[usize::from(to.0)];
        let mut sent = false;
        while let Some(parcel) = lane.waiting.pop_front() {
            match lane.out.try_send(parcel) {
                Ok(()) => sent = true,
                Err(TrySendError::Full(parcel)) => {
                    lane.waiting.push_front(parcel);
                    break;
                }
                // The core has ended, and with it whoever waits for this.
                Err(TrySendError::Disconnected(_)) => lane.waiting.clear(),
            }
        }
        if sent || !lane.waiting.is_empty() {
            self.bells[usize::from(to.0)].ring();
        }
    }
}

impl Bell {
    /// Wakes the core, unless it was woken and has not looked yet.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst)
            && let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner)
        {
            waker.wake_by_ref();
        }
    }

    /// Whom to wake; `None` when the core ends.
    pub fn hang(&self, waker: Option<Waker>) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = waker;
    }

    /// Whether it was rung since the core last looked.
    #[must_use]
    pub fn is_rung(&self) -> bool {
        self.rung.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{PartitionId, Ticket};

    #[test]
    fn nothing_is_lost_or_reordered_when_a_lane_is_full() {
        let (mut meshes, bells) = new(2);
        let mut receiver = meshes.pop().expect("two");
        let mut sender = meshes.pop().expect("two");
        let count = 3 * MESH_LANE_PARCELS_MAX as u32 + 7;
        for slot in 0..count {
            let ticket = Ticket { shard: ShardId(0), slot, generation: 0 };
            let letter = Letter::Gone(vec![(PartitionId(1), ticket)]);
            sender.send(ShardId(1), Parcel::Letter(letter));
        }
        assert!(bells[1].is_rung() && !bells[0].is_rung());
        let mut slots = Vec::new();
        while slots.len() < count as usize {
            receiver.receive(|from, parcel| {
                let Parcel::Letter(Letter::Gone(gone)) = parcel else { panic!("sent as such") };
                assert_eq!(from, ShardId(0));
                slots.push(gone[0].1.slot);
            });
            sender.flush();
        }
        assert!(sender.flush());
        assert!(slots.iter().copied().eq(0..count));
    }
}
