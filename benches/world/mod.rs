//! One shard alone for the benches of turns: no disk, no sockets, time as they say.
//!
//! The disk is a drop: orders are thrown away and reported durable in the next turn, so one round
//! is two turns (propose and record; commit, apply and answer), as in production with a group of
//! one.

use ringraft::{
    id::{Mark, NodeId, PartitionId, ShardId, Ticket},
    journal::{Order, Owner, recover},
    shard::{
        Settings, Shard,
        inbox::{Ask, Inbox, Member, Role},
        outbox::Outbox,
    },
    time::{Instant, LogTime, Now, Span},
};

/// A shard with its partitions, led from here.
pub struct World {
    shard: Shard,
    inbox: Inbox,
    /// What the last turn wanted; whoever reads the replies clears them.
    pub outbox: Outbox,
    /// Time, which a turn moves by 100 us.
    pub now: Now,
    ticket: u32,
}

impl World {
    /// A shard of these settings with partitions from 1.
    pub fn new(settings: Settings, partitions: u32) -> World {
        let owner = Owner { node: settings.node, shard: settings.shard };
        let recovered = recover(owner, &[]).expect("nothing is there");
        let now = Now { monotonic: Instant(0), wall: LogTime(1) };
        let shard = Shard::new(settings, recovered, now);
        let (inbox, outbox) = Default::default();
        let mut world = World { shard, inbox, outbox, now, ticket: 0 };
        let member = Member { node: NodeId(1), host: "a".to_owned(), port: 1, role: Role::Member };
        for id in 1..=partitions {
            let ask = Ask::Bootstrap { local: NodeId(1), members: vec![member.clone()] };
            world.ask(id, ask, |_| {});
        }
        for _ in 0..4 {
            world.turn();
            world.outbox.replies.clear();
        }
        world
    }

    /// Asks something of a partition in the next turn.
    pub fn ask(&mut self, partition: u32, ask: Ask, body: impl FnOnce(&mut Vec<u8>)) -> Ticket {
        self.ticket = self.ticket.wrapping_add(1);
        let ticket = Ticket { shard: ShardId(0), slot: self.ticket, generation: 0 };
        self.inbox.requests.push(ticket, PartitionId(partition), None, ask, body);
        ticket
    }

    /// One turn.
    pub fn turn(&mut self) {
        self.now.monotonic = self.now.monotonic.after(Span::micros(100));
        self.shard.turn(&mut self.inbox, self.now, &mut self.outbox);
        let mut durable: Option<Mark> = None;
        for order in self.outbox.orders.drain(..) {
            if let Order::Write(block) = order {
                durable = Some(block.mark);
                self.inbox.spent.push(block.buffer);
            }
        }
        self.inbox.durable = durable;
        self.outbox.letters.clear();
    }
}
