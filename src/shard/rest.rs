//! Life signs between two shards, in the place of the heartbeats of all groups that rest there.
//!
//! ```text
//!   leader's shard ── bundle: these groups of mine rest (how many, and their sum) ──► follower's
//!                  ◄──────────── bundle: I am here ───────────────────────────────
//! ```
//!
//! A thousand groups of three that tick, and say every 100 ms that nothing happened, took a node 5
//! to 7 % of a core, spread over all that a message and a settlement pass through; resting they
//! take 0.6 to 0.8 %, and one group takes as much (tuning/runs/2026-11-21-vm-2-epyc-many). So a
//! group with nothing to do rests (`partition/rest.rs`), and the shards that hold its members say
//! in every bundle, and in one of their own a heartbeat if there is no other, what rests. Groups
//! wake
//!
//! - when nothing came from the other shard for as long as a follower waits for its leader: those
//!   it leads stand after their timeout, as if they had been awake, and those it follows ask
//!   whether they still have a quorum;
//! - when it began a new life, when a link to or from it ended or came up;
//! - when what it says rests there is not, for an election's time, what rests here under it: then
//!   a word was lost, or its leader stopped without a word. So a life sign stands for each of the
//!   groups, and not only for the process.
//!
//! Which shard is heard is told by bundles alone; whoever sends none in a new version's words is
//! never rested with. Absent on purpose: clocks; silence is counted in ticks of this shard, so that
//! a pause of this process is no silence of its peers.

use std::collections::BTreeMap;

use super::{Shard, forward::Way, roster::Living};
use crate::{
    id::{NodeId, PartitionId, Position, Term},
    limits::RESTS_TURN_MAX,
    partition::rest::Word,
    prng::mix,
    wire::{
        bundle::{Beat, Post},
        peer,
    },
};

/// What is known of all shards that groups here may rest with.
#[derive(Default, Debug)]
pub struct Rests {
    between: BTreeMap<Way, Between>,
    /// What the next bundles say.
    words: BTreeMap<Way, Vec<peer::Rest>>,
    ticks: usize,
    resting: u64,
    /// Times that a partition began to rest.
    began: u64,
}

/// This shard and another one.
#[derive(Default, Debug)]
struct Between {
    /// The other one's life that was heard of last.
    life: u64,
    silent_ticks: usize,
    /// What it said rests of what it leads; `None`: it does not know what resting is.
    says: Option<Beat>,
    /// What rests here under it.
    under: Beat,
    /// What rests here that this shard leads and that has a member there.
    over: Beat,
    /// Ticks for which `says` and `under` were apart.
    apart_ticks: usize,
}

/// How a partition rests.
#[derive(Debug)]
pub struct Resting {
    mark: u64,
    with: With,
}

#[derive(Debug)]
enum With {
    Leader(Way),
    Followers(Box<[Way]>),
}

/// What became of a shard that was heard of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum News {
    /// It is the one that it was.
    Same,
    /// It began anew.
    Reborn,
}

impl Rests {
    /// How many partitions rest here, and how many times one began to.
    pub fn counts(&self) -> (u64, u64) {
        (self.resting, self.began)
    }

    /// What this shard has to say, in a bundle to `way`.
    pub fn say(&mut self, way: Way, into: &mut Post) {
        into.rests = self.words.remove(&way).unwrap_or_default();
        into.beat = Some(self.between.get(&way).map_or(Beat::default(), |between| between.over));
    }

    /// A partition rests from now on.
    fn begin(&mut self, id: PartitionId, term: Term, with: With) -> Resting {
        let resting = Resting { mark: mix(mix(u64::from(id.0)) ^ term.0), with };
        self.count_in(&resting, |beat, mark| {
            beat.count += 1;
            beat.sum = beat.sum.wrapping_add(mark);
        });
        (self.resting, self.began) = (self.resting + 1, self.began + 1);
        resting
    }

    /// A partition rests no more.
    pub fn end(&mut self, resting: &Resting) {
        self.count_in(resting, |beat, mark| {
            beat.count -= 1;
            beat.sum = beat.sum.wrapping_sub(mark);
        });
        self.resting -= 1;
    }

    fn count_in(&mut self, resting: &Resting, count: impl Fn(&mut Beat, u64)) {
        match &resting.with {
            With::Leader(way) => {
                count(&mut self.between.entry(*way).or_default().under, resting.mark);
            }
            With::Followers(ways) => {
                for way in ways {
                    count(&mut self.between.entry(*way).or_default().over, resting.mark);
                }
            }
        }
    }

    /// A bundle came.
    fn hear(&mut self, way: Way, life: u64, says: Option<Beat>) -> News {
        let between = self.between.entry(way).or_default();
        (between.silent_ticks, between.says) = (0, says);
        let reborn = between.life != life;
        between.life = life;
        if reborn { News::Reborn } else { News::Same }
    }

    /// Whether it was heard of late, and knows what resting is.
    fn hears(&self, way: Way, patience_ticks: usize) -> bool {
        let between = self.between.get(&way);
        between.is_some_and(|it| it.says.is_some() && it.silent_ticks <= patience_ticks)
    }
}

impl Between {
    fn rests(&self) -> bool {
        self.under.count + self.over.count > 0
    }
}

impl Shard {
    /// raft's clock for groups that rest.
    pub(super) fn tick_rests(&mut self) {
        let (heartbeat, election) = (self.settings.heartbeat_ticks, self.settings.election_ticks);
        self.rests.ticks += 1;
        let says = self.rests.ticks.is_multiple_of(heartbeat);
        let (mut silent, mut apart) = (Vec::new(), Vec::new());
        for (way, between) in &mut self.rests.between {
            between.silent_ticks = between.silent_ticks.saturating_add(1);
            if !between.rests() && between.says.is_none_or(|says| says.count == 0) {
                continue;
            }
            if between.rests() && says {
                self.forward.nudge(*way);
            }
            if between.silent_ticks >= election {
                silent.push((*way, between.silent_ticks));
                continue;
            }
            let same = between.says == Some(between.under);
            between.apart_ticks = if same { 0 } else { between.apart_ticks + 1 };
            if between.apart_ticks > 2 * election {
                between.apart_ticks = 0;
                apart.push(*way);
            }
        }
        for (way, ticks) in silent {
            self.wake_with(|with| with.is(way), |living| living.partition.wake(ticks));
        }
        for way in apart {
            self.wake_with(|with| with.is_led_by(way), |living| living.partition.rouse());
        }
    }

    /// A leader whose group is calm for long tells everybody and rests, when all are heard.
    pub(super) fn rest_if_calm(&mut self, id: PartitionId) {
        let heard = 2 * self.settings.heartbeat_ticks;
        if self.drains || self.rests.words.values().map(Vec::len).sum::<usize>() > RESTS_TURN_MAX {
            return;
        }
        let Some(living) = self.roster.get_mut(id) else { return };
        let Some(word) = living.partition.may_rest(self.settings.rest_ticks) else { return };
        let me = living.partition.node();
        let others = living.partition.members().iter().map(|member| member.node);
        let others: Vec<NodeId> = others.filter(|node| *node != me).collect();
        let ways: Vec<Way> = others.iter().map(|node| (*node, self.owner_at(*node, id))).collect();
        if !ways.iter().all(|way| self.rests.hears(*way, heard)) {
            return;
        }
        for way in &ways {
            let (partition, term, position) = (id.0, word.term.0, word.position.0);
            let words = self.rests.words.entry(*way).or_default();
            words.push(peer::Rest { partition, term, position });
            self.forward.nudge(*way);
        }
        let living = self.roster.get_mut(id).expect("it was just here");
        living.partition.rest();
        living.resting = Some(self.rests.begin(id, word.term, With::Followers(ways.into())));
    }

    /// What a bundle says of groups that rest.
    pub(super) fn take_rests(&mut self, way: Way, post: &Post) {
        if self.rests.hear(way, post.label.life, post.beat) == News::Reborn {
            self.wake_with(|with| with.is(way), |living| living.partition.wake(0));
        }
        for rest in &post.rests {
            let (term, position) = (Term(rest.term), Position(rest.position));
            self.take_word(way, PartitionId(rest.partition), Word { term, position });
        }
    }

    /// The word of a leader there.
    fn take_word(&mut self, way: Way, id: PartitionId, word: Word) {
        let Some(living) = self.member_of(id, way.0) else { return };
        // It may have woken in this turn, and be counted as it rested before.
        let before = living.resting.take();
        living.partition.rest_under(way.0, word);
        let rests = living.partition.is_resting();
        if let Some(before) = before {
            self.rests.end(&before);
        }
        if rests {
            let resting = self.rests.begin(id, word.term, With::Leader(way));
            self.roster.get_mut(id).expect("it was just here").resting = Some(resting);
        }
        self.touch(id);
    }

    /// After each settlement of a partition.
    pub(super) fn note_rest(&mut self, id: PartitionId) {
        let Some(living) = self.roster.get_mut(id) else { return };
        let rests = living.partition.is_resting();
        if !rests && let Some(resting) = living.resting.take() {
            self.rests.end(&resting);
        }
        let ticks = !rests && living.partition.needs_ticks();
        if ticks != living.ticks {
            living.ticks = ticks;
            if ticks {
                self.awake.insert(id)
            } else {
                self.awake.remove(&id)
            };
        }
    }

    /// A partition left.
    pub(super) fn forget_rest(&mut self, id: PartitionId, resting: Option<Resting>) {
        self.awake.remove(&id);
        if let Some(resting) = resting {
            self.rests.end(&resting);
        }
    }

    /// Wakes what is led here and has a member on a node, to which a link came up or ended.
    pub(super) fn wake_led_with(&mut self, node: NodeId) {
        let led = |with: &With| with.is_of(node) && matches!(with, With::Followers(_));
        self.wake_with(led, |living| living.partition.wake(0));
    }

    /// Wakes what rests with a node: the link by which it was heard ended.
    pub(super) fn wake_with_node(&mut self, node: NodeId) {
        self.wake_with(|with| with.is_of(node), |living| living.partition.wake(0));
    }

    fn wake_with(&mut self, which: impl Fn(&With) -> bool, wake: impl Fn(&mut Living)) {
        if self.rests.resting == 0 {
            return;
        }
        for living in self.roster.iter_mut() {
            if living.resting.as_ref().is_some_and(|resting| which(&resting.with)) {
                wake(living);
                living.touch(&mut self.touched);
            }
        }
    }
}

impl With {
    fn is(&self, way: Way) -> bool {
        match self {
            With::Leader(leader) => *leader == way,
            With::Followers(ways) => ways.contains(&way),
        }
    }

    fn is_led_by(&self, way: Way) -> bool {
        matches!(self, With::Leader(leader) if *leader == way)
    }

    fn is_of(&self, node: NodeId) -> bool {
        match self {
            With::Leader((leader, _)) => *leader == node,
            With::Followers(ways) => ways.iter().any(|way| way.0 == node),
        }
    }
}
