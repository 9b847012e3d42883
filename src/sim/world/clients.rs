//! The world's side of its clients: what they send goes to nodes after a while, what nodes answer
//! reaches them. Absent on purpose: what they want (`sim/client.rs`).

use super::{CLIENT_DELAY_NS, Event, OPERATOR, World};
use crate::id::{PartitionId, ShardId};
use crate::sim::call::{Act, Heard, Parcel};
use crate::sim::node::Caller;

impl World {
    pub(super) fn hung_up(&mut self, caller: Caller, partition: PartitionId) {
        let Some((node, shard)) = self.routes.remove(&(caller.client, caller.call)) else { return };
        self.reach(node, shard, |core| {
            if let Some(ticket) = core.hang_up(caller) {
                core.inbox.gone.push((partition, ticket));
            }
        });
    }

    pub(super) fn answer(&mut self, caller: Caller, heard: Heard) {
        if heard.is_last() {
            self.routes.remove(&(caller.client, caller.call));
        }
        if caller.client == OPERATOR {
            self.trace.tell(self.now_ns, || format!("the operator hears {heard:?}"));
            return self.operator.heard(caller.call, &heard);
        }
        let place = caller.client as usize;
        let Some(client) = self.clients.get_mut(place) else {
            self.mail.push((caller, heard));
            return;
        };
        if client.is_dead(self.now_ns) {
            return;
        }
        self.trace
            .tell(self.now_ns, || format!("client {place} hears on {}: {heard:?}", caller.call));
        client.heard(caller.call, heard, self.now_ns, &mut self.history);
        self.turn_client(place);
    }

    pub(super) fn turn_client(&mut self, place: usize) {
        let mut acts = Vec::new();
        let client = &mut self.clients[place];
        let wake_ns = client.turn(self.now_ns, &mut self.history, &mut acts);
        let (number, partition) = (client.number, client.partition);
        for act in acts {
            let later_ns = self.client_delay_ns();
            match act {
                Act::Send(send) => {
                    let caller = Caller { client: number, call: send.call };
                    let shard = ShardId(self.prng.below(u64::from(self.setup.shards)) as u16);
                    self.routes.insert((number, send.call), (send.node, shard));
                    self.trace.tell(self.now_ns, || {
                        format!(
                            "client {number} sends {} to node {}: {:?}",
                            send.call, send.node, send.ask
                        )
                    });
                    let body = Parcel { bytes: send.body, timeout: send.timeout };
                    let (ask, node) = (send.ask, send.node);
                    let event = Event::Request { caller, node, shard, partition, ask, body };
                    self.queue.push(self.now_ns + later_ns, event);
                }
                Act::Hangup(call) => {
                    let caller = Caller { client: number, call };
                    self.queue.push(self.now_ns + later_ns, Event::Hangup { caller, partition });
                }
            }
        }
        if wake_ns < u64::MAX {
            self.wake_client(place, wake_ns);
        }
    }

    pub(super) fn wake_client(&mut self, place: usize, at_ns: u64) {
        let known_ns = self.wakes_ns[place];
        if known_ns <= self.now_ns || at_ns < known_ns {
            self.wakes_ns[place] = at_ns;
            self.queue.push(at_ns, Event::Client { place });
        }
    }

    pub(super) fn client_delay_ns(&mut self) -> u64 {
        CLIENT_DELAY_NS + self.prng.below(CLIENT_DELAY_NS)
    }
}
