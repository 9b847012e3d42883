//! Bytes and commands in flight: who is refused, and what they are told.
//!
//! A command is looked at without being decoded: which member of which oneof it is, and for a
//! primitive's command the kind and the operation's tag. That is enough to know whether it lets the
//! state shrink, grow, or keeps a session alive. Past a bound those that grow are refused first,
//! those that keep a session alive last: refusing them would end the very sessions whose load it
//! is. What is in flight has been taken and is not yet applied. Absent on purpose: rates, and any
//! memory of callers.

use crate::{
    id::Kind,
    limits::KEEP_ALIVES_IN_FLIGHT_MAX,
    partition::{Lane, Load, reply::Refusal},
    shard::{inbox::DiskRoom, outbox::Admission},
    wire::field::{Fields, Value},
};

/// What a command does to the state's size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sort {
    /// It may add to it.
    Grows,
    /// It opens a session or a primitive, without which nothing can be read or removed.
    Opens,
    /// It takes from it.
    Shrinks,
    /// It keeps a session alive, and drops what the session no longer needs.
    KeepsAlive,
}

/// What one shard has in flight, and how much it may.
#[derive(Clone, Copy, Debug)]
pub struct Admit {
    max: Load,
    now: Load,
    disk: DiskRoom,
}

impl Admit {
    /// Nothing in flight; at most `max` of commands that are not keep-alives.
    #[must_use]
    pub fn new(max: Load) -> Admit {
        Admit { max, now: Load::default(), disk: DiskRoom::Enough }
    }

    /// Whether the disk has no room for new segments.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.disk == DiskRoom::Full
    }

    /// Whether the disk takes new segments.
    pub fn disk(&mut self, room: DiskRoom) {
        self.disk = room;
    }

    /// Whether the command `body` may go to a partition whose state holds `state` of `quota` bytes.
    pub fn check(&self, body: &[u8], state: usize, quota: usize) -> Result<Lane, Refusal> {
        // What it is in full matters only where something is short: it is on every command's way.
        if state >= quota || self.is_disk_full() {
            self.check_room(sort(body), state, quota)?;
        }
        let lane = if keeps_alive(body) { Lane::Urgent } else { Lane::Ordinary };
        if self.now.commands >= self.max.commands + lane.reserve() {
            return Err(Refusal::Full("too many commands in flight"));
        }
        // A keep-alive with its filter is small against the bound, so it needs no room of its own.
        if lane == Lane::Ordinary && self.now.bytes + body.len() > self.max.bytes {
            return Err(Refusal::Full("too many bytes in flight"));
        }
        Ok(lane)
    }

    fn check_room(&self, sort: Sort, state: usize, quota: usize) -> Result<(), Refusal> {
        if sort == Sort::Grows && state >= quota {
            return Err(Refusal::Full("the partition holds as much as it may; delete something"));
        }
        if sort == Sort::Opens && state >= quota.saturating_add(quota / OPENING_SHARE) {
            return Err(Refusal::Full("the partition holds as much as it may; close sessions"));
        }
        if sort == Sort::Grows && self.is_disk_full() {
            return Err(Refusal::Full("the disk is full"));
        }
        Ok(())
    }

    /// A partition's load went from `before` to `after`.
    pub fn moved(&mut self, before: Load, after: Load) {
        let less = |now: usize, before: usize| {
            assert!(now >= before, "{before} of {now} in flight leave");
            now - before
        };
        self.now.commands = less(self.now.commands, before.commands) + after.commands;
        self.now.bytes = less(self.now.bytes, before.bytes) + after.bytes;
        let most = self.max.commands + KEEP_ALIVES_IN_FLIGHT_MAX;
        assert!(self.now.commands <= most, "{} commands in flight", self.now.commands);
    }

    /// What is in flight.
    #[must_use]
    pub fn load(&self) -> Load {
        self.now
    }

    /// Whether connections may reopen their windows: not in the last eighth before the bounds, so
    /// that they stop before calls must be refused.
    #[must_use]
    pub fn admission(&self) -> Admission {
        let tight = |now: usize, max: usize| now >= max - max / 8;
        if tight(self.now.commands, self.max.commands) || tight(self.now.bytes, self.max.bytes) {
            Admission::Full
        } else {
            Admission::Open
        }
    }
}

/// The sort of a command, a `StateMachineProposalInput` without its timestamp. What cannot be read
/// counts as growing; it is refused or ignored later.
fn sort(body: &[u8]) -> Sort {
    match first(body) {
        Some((2, _)) => Sort::Opens,
        Some((KEEP_ALIVE, _)) => Sort::KeepsAlive,
        Some((4, _)) => Sort::Shrinks,
        Some((5, Value::Bytes(proposal))) => proposal_sort(proposal),
        _ => Sort::Grows,
    }
}

/// Whether it is one of those.
fn keeps_alive(body: &[u8]) -> bool {
    first(body).is_some_and(|(member, _)| member == KEEP_ALIVE)
}

/// The member of `StateMachineProposalInput` that a keep-alive is.
const KEEP_ALIVE: u32 = 3;

/// The sort of a `SessionProposalInput`.
fn proposal_sort(proposal: &[u8]) -> Sort {
    let mut fields = Fields::new(proposal);
    while let Ok(Some((number, value))) = fields.field() {
        match (number, value) {
            (4, _) => return Sort::Opens,
            (5, _) => return Sort::Shrinks,
            (6, Value::Bytes(command)) if command_shrinks(command) => return Sort::Shrinks,
            (6, _) => return Sort::Grows,
            _ => {}
        }
    }
    Sort::Grows
}

/// Whether a `PrimitiveProposalInput` does: by its kind (field 100) and the tag of its payload
/// (field 2).
fn command_shrinks(command: &[u8]) -> bool {
    let (mut kind, mut tag) = (None, None);
    let mut fields = Fields::new(command);
    while let Ok(Some((number, value))) = fields.field() {
        match (number, value) {
            (2, Value::Bytes(payload)) => tag = first(payload).map(|(tag, _)| tag),
            (100, Value::Varint(number)) => kind = Kind::from_number(number),
            _ => {}
        }
    }
    kind.zip(tag).is_some_and(|(kind, tag)| shrinking(kind).contains(&tag))
}

/// The operations of each kind that only ever take from the state, by their tag in the input's
/// oneof (wire.md; primitives.md 2).
const fn shrinking(kind: Kind) -> &'static [u32] {
    match kind {
        // A counter is as large whatever it counts.
        Kind::Counter => &[],
        Kind::CounterMap => &[8, 9],     // remove, clear
        Kind::LeaderElection => &[2, 5], // withdraw, evict
        Kind::IndexedMap => &[9, 10],    // remove, clear
        Kind::Lock => &[2],              // release
        // Remove, clear, and what ends a transaction: its operations have been held since Prepare.
        Kind::Map => &[6, 7, 13, 14],
        Kind::MultiMap => &[7, 8, 9, 13], // remove, remove all, clear, remove entries
        Kind::Set => &[4, 5],             // remove, clear
        Kind::Value => &[5],              // delete
    }
}

/// Beyond its quota by this share of it a state may grow by sessions and primitives, so that there
/// are some that remove things.
const OPENING_SHARE: usize = 16;

fn first(message: &[u8]) -> Option<(u32, Value<'_>)> {
    Fields::new(message).field().ok().flatten()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::wire::{
        field::{put_bytes, put_message, put_uint},
        proto::v1::{
            CloseSessionInput, KeepAliveInput, OpenSessionInput, StateMachineProposalInput,
            state_machine_proposal_input::Input,
        },
    };

    fn body(input: Input) -> Vec<u8> {
        StateMachineProposalInput { timestamp: None, input: Some(input) }.encode_to_vec()
    }

    fn command(kind: Kind, tag: u32) -> Vec<u8> {
        let mut payload = Vec::new();
        put_bytes(&mut payload, tag, b"");
        // `put_bytes` may leave out what is empty; the tag must be there.
        if payload.is_empty() {
            payload = vec![(tag << 3 | 2) as u8, 0];
        }
        let mut body = Vec::new();
        put_message(&mut body, 5, |proposal| {
            put_uint(proposal, 1, 7);
            put_message(proposal, 6, |command| {
                put_uint(command, 1, 3);
                put_bytes(command, 2, &payload);
                put_uint(command, 100, kind as u64);
            });
        });
        body
    }

    #[test]
    fn commands_are_sorted_by_what_they_do_to_the_state() {
        assert_eq!(sort(&body(Input::OpenSession(OpenSessionInput::default()))), Sort::Opens);
        assert_eq!(sort(&body(Input::KeepAlive(KeepAliveInput::default()))), Sort::KeepsAlive);
        assert_eq!(sort(&body(Input::CloseSession(CloseSessionInput::default()))), Sort::Shrinks);
        assert_eq!(sort(&command(Kind::Map, 2)), Sort::Grows);
        assert_eq!(sort(&command(Kind::Map, 6)), Sort::Shrinks);
        assert_eq!(sort(&command(Kind::Lock, 1)), Sort::Grows);
        assert_eq!(sort(&command(Kind::MultiMap, 13)), Sort::Shrinks);
        assert_eq!(sort(b"\xff\xff"), Sort::Grows);
    }

    #[test]
    fn keep_alives_pass_when_others_do_not() {
        let mut admit = Admit::new(Load { commands: 10, bytes: 1000 });
        assert_eq!(admit.admission(), Admission::Open);
        admit.moved(Load::default(), Load { commands: 10, bytes: 990 });
        assert_eq!(admit.admission(), Admission::Full);
        let (grows, beat) =
            (command(Kind::Map, 2), body(Input::KeepAlive(KeepAliveInput::default())));
        assert!(admit.check(&grows, 0, 100).is_err());
        assert_eq!(admit.check(&beat, 200, 100), Ok(Lane::Urgent));
        admit.moved(Load { commands: 10, bytes: 990 }, Load::default());
        assert_eq!(admit.check(&grows, 0, 100), Ok(Lane::Ordinary));
    }

    #[test]
    fn a_full_state_or_disk_refuses_what_grows() {
        let mut admit = Admit::new(Load { commands: 10, bytes: 1000 });
        let (grows, shrinks) = (command(Kind::Map, 2), command(Kind::Map, 6));
        let opens = body(Input::OpenSession(OpenSessionInput::default()));
        assert!(admit.check(&grows, 100, 100).is_err());
        assert!(admit.check(&shrinks, 100, 100).is_ok());
        assert!(admit.check(&opens, 100, 100).is_ok());
        assert!(admit.check(&opens, 106, 100).is_err());
        admit.disk(DiskRoom::Full);
        assert!(admit.check(&grows, 0, 100).is_err());
        assert!(admit.check(&opens, 0, 100).is_ok());
        assert!(admit.check(&shrinks, 0, 100).is_ok());
    }
}
