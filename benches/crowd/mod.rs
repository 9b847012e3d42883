//! A shard that takes whole turns, with a client for each of its partitions.

#![allow(dead_code, reason = "each bench that has this as a module uses its part of it")]

use ringraft::partition::reply::Body;
use ringraft::shard::inbox::Ask;

use crate::client::Client;
use crate::world::{World, without_snapshots};

/// The shard and its clients.
pub struct Crowd {
    world: World,
    clients: Vec<Client>,
}

impl Crowd {
    /// With a session and a counter in each partition.
    pub fn new(partitions: u32) -> Crowd {
        let world = World::new(without_snapshots(), partitions);
        let clients = (0..partitions).map(|_| Client::default()).collect();
        let mut crowd = Crowd { world, clients };
        for id in 1..=partitions {
            for body in Client::opening() {
                crowd.world.ask(id, Ask::Command, |into| into.extend_from_slice(&body));
            }
        }
        crowd.drain();
        crowd
    }

    /// So many increments, by the clients in turn.
    pub fn ask(&mut self, commands: u32) {
        for place in (0..self.clients.len()).cycle().take(commands as usize) {
            let client = &mut self.clients[place];
            self.world.ask(place as u32 + 1, Ask::Command, |into| client.increment(into));
        }
    }

    /// The two turns after which so many commands are answered.
    pub fn turns(&mut self, commands: u32) {
        self.turn();
        assert_eq!(self.turn(), commands as usize);
    }

    /// One turn; how many were answered.
    pub fn turn(&mut self) -> usize {
        self.world.turn();
        let replies = self.world.outbox.replies.list.len();
        self.world.outbox.replies.clear();
        replies
    }

    /// Each client says that it has every answer.
    pub fn keep_alive(&mut self) {
        for (id, client) in (1..).zip(&self.clients) {
            self.world.ask(id, Ask::Command, |into| client.keep_alive(into));
        }
        self.drain();
    }

    fn drain(&mut self) {
        for _ in 0..4 {
            self.world.turn();
            for reply in &self.world.outbox.replies.list {
                assert!(matches!(reply.body, Body::Output(_)), "{reply:?}");
            }
            self.world.outbox.replies.clear();
        }
    }
}
