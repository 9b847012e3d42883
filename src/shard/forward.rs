//! Calls that came to the wrong node: passed on to the one that leads, once, and answered through
//! the one they came to (design.md, decision 10).
//!
//! ```text
//!   client ─► here ── Call ──► the node that leads      the call becomes a guest there
//!          ◄─      ◄─ Answer ─                          each of its replies comes back
//! ```
//!
//! A call is passed on to the leader that the replica here knows; whoever gets it answers or
//! refuses and never passes it on again, unless it came from a node without a replica, which asks
//! any member. Nothing is sent twice: when the link to the other node
//! breaks, or the leader changes, every call that is out is refused with UNAVAILABLE, and its
//! client sends it again with the same number, which is executed once (core.md 4.4). So a stream
//! never just stays silent (wire.md, decision 14): the leader's heartbeats come over the same way,
//! and a leader that is not heard is none. Posts are counted, and each bundle says how many there
//! were: one that is missed, whatever the link promises, counts as a broken link. It also says how
//! many came the other way: a leader that is heard and does not hear within an election timeout is
//! as good as lost, until it says that it hears again. Whoever forgets calls of a way that still
//! carries says so, and the other side forgets them too. A watch of a partition is passed on by a
//! node without a replica alone: its events come back as outputs, in the form that its caller gets.
//! Absent on purpose: watches of nodes, which each node answers of itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{Index, NodeId, PartitionId, Position, SessionId, ShardId, Ticket},
    limits::{CALLS_PASSED_ON_MAX, GUESTS_MAX, HOST_BYTES_MAX, POST_BYTES_MAX},
    partition::{
        member::{self, Change, Member},
        reply::{Body, Elsewhere, Refusal, Replies, Reply, Status},
    },
    prng::mix,
    shard::{
        inbox::{Ask, Request, Requests},
        waiting::Waiting,
        watched,
    },
    time::{Instant, Now, Span},
    wire::{
        bundle::{Label, Post},
        peer,
    },
};

/// The shard that tickets of guests name: none of this node.
const GUESTS: ShardId = ShardId(u16::MAX);

/// See the header.
#[derive(Debug)]
pub(super) struct Forward {
    /// Calls that are out, by number.
    out: BTreeMap<u64, Out>,
    numbers: BTreeMap<Ticket, u64>,
    next: u64,
    /// Calls that other nodes passed on to here.
    guests: Waiting<Guest>,
    guest_tickets: BTreeMap<(Way, u64), Ticket>,
    /// What the next bundles carry.
    posts: BTreeMap<Way, Post>,
    /// This node's life and this shard, and what went each way in it.
    life: u64,
    shard: ShardId,
    sent: BTreeMap<Way, Sent>,
    /// The life that was heard of last, and its count.
    heard: BTreeMap<Way, (u64, u64)>,
    /// How long the other side may take to say that it hears.
    patience: Span,
}

/// A shard of another node.
pub(super) type Way = (NodeId, ShardId);

/// What went one way in this life.
#[derive(Default, Debug)]
struct Sent {
    posts: u64,
    /// How many the other side has heard.
    heard: u64,
    /// Since when nothing more was heard than that, while some were not.
    since: Option<Instant>,
    /// It did not hear, and calls are refused until it does or this passes: then one may try.
    deaf_until: Option<Instant>,
}

#[derive(Debug)]
struct Out {
    ticket: Ticket,
    partition: PartitionId,
    to: Way,
    /// It wants another leader: this one, or whoever comes.
    seats: Option<Option<NodeId>>,
}

#[derive(Debug)]
struct Guest {
    from: Way,
    number: u64,
    partition: PartitionId,
}

/// Keeps lives apart from other draws of the seed.
const LIFE: u64 = 0x6c69_6665;

const LOST: &str = "the node that leads is not reached any more";
const DEAF: &str = "the node that leads does not hear this one";
const MOVED: &str = "the leader changed";

impl Forward {
    /// Nothing is out. `seed` keeps two lives of a node apart.
    pub fn new(seed: u64, shard: ShardId, patience: Span) -> Forward {
        Forward {
            patience,
            life: mix(seed ^ LIFE),
            shard,
            sent: BTreeMap::new(),
            heard: BTreeMap::new(),
            out: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next: mix(seed) >> 1,
            guests: Waiting::new(GUESTS, GUESTS_MAX),
            guest_tickets: BTreeMap::new(),
            posts: BTreeMap::new(),
        }
    }

    /// Who passed this call on to here; `None`: it is a caller of this node.
    pub fn guest_of(&mut self, ticket: Ticket) -> Option<NodeId> {
        (ticket.shard == GUESTS).then(|| self.guests.peek(ticket).map_or(NodeId(0), |of| of.from.0))
    }

    /// Passes a command, a query or a wish on to the shard `to` of the node that leads; `asks` is
    /// this node, should the other one not know it.
    pub fn pass(
        &mut self,
        to: Way,
        requests: &Requests,
        request: &Request,
        asks: Option<&Member>,
        now: Now,
    ) -> Result<(), Refusal> {
        let deaf_until = self.sent.get(&to).and_then(|sent| sent.deaf_until);
        if deaf_until.is_some_and(|until| now.monotonic < until) {
            return Err(Refusal::Unavailable(DEAF));
        }
        if self.out.len() >= CALLS_PASSED_ON_MAX {
            return Err(Refusal::Full("too many calls are passed on to other nodes"));
        }
        let mut about = peer::MemberWish::default();
        let (query, wish) = match &request.ask {
            Ask::Command => (0, None),
            Ask::Query { at_least } => (at_least.0.saturating_add(1), None),
            Ask::Change { change, passed } => (0, Some(wish(change, *passed, asks))),
            Ask::WatchPartition | Ask::Describe { .. } => {
                about.watch = matches!(request.ask, Ask::WatchPartition);
                about.describe = !about.watch;
                about.asks = asks.map(member::written);
                (0, Some(about))
            }
            _ => return Err(Refusal::Unavailable("this node does not lead")),
        };
        self.next += 1;
        let number = self.next;
        let (ticket, partition) = (request.ticket, request.partition);
        let patience = |deadline: Instant| deadline.0.saturating_sub(now.monotonic.0) + 1;
        let call = peer::Call {
            number,
            partition: partition.0,
            patience: request.deadline.map_or(0, patience),
            query,
            body: requests.body(request).to_vec().into(),
            wish,
        };
        self.posts.entry(to).or_default().calls.push(call);
        let seats = match &request.ask {
            Ask::Change { change: Change::Lead(to), .. } => Some(*to),
            _ => None,
        };
        self.out.insert(number, Out { ticket, partition, to, seats });
        self.numbers.insert(ticket, number);
        Ok(())
    }

    /// The caller hung up; whether its call was out.
    pub fn gone(&mut self, ticket: Ticket) -> bool {
        let Some(number) = self.numbers.remove(&ticket) else { return false };
        let out = self.out.remove(&number).expect("both know it");
        self.posts.entry(out.to).or_default().gone.push(number);
        true
    }

    /// An answer came from `from`: it goes to whoever waits here.
    pub fn answered(&mut self, from: Way, answer: peer::Answer, replies: &mut Replies) {
        let number = answer.number;
        let Some(out) = self.out.get(&number).filter(|out| out.to == from) else { return };
        let ticket = out.ticket;
        let last = answer.last || answer.end || answer.refusal > 0;
        if answer.refusal > 0 {
            replies.refuse(ticket, refusal(&answer));
        } else if answer.end {
            replies.end(ticket);
        } else {
            let status = Status::of_number(answer.status).unwrap_or(Status::Unknown);
            let (index, output) = (Index(answer.index), answer.output);
            replies.output(ticket, index, output, status, &answer.bytes, last);
        }
        if last {
            self.out.remove(&number);
            self.numbers.remove(&ticket);
        }
    }

    /// No leader of this partition is there any more, or another one. Who wanted that is told so.
    pub fn moved(&mut self, partition: PartitionId, leader: Option<NodeId>, replies: &mut Replies) {
        let seated = |out: &Out| {
            let wanted = out.seats.is_some_and(|to| to.is_none_or(|to| leader == Some(to)));
            out.partition == partition && wanted && leader.is_some_and(|now| now != out.to.0)
        };
        let numbers = self.out.iter().filter(|(_, out)| seated(out)).map(|(number, _)| *number);
        for number in numbers.collect::<Vec<_>>() {
            let out = self.out.remove(&number).expect("it was just seen");
            self.numbers.remove(&out.ticket);
            replies.done(out.ticket);
        }
        // Who wants one waits while there is none: the vote is under way.
        let waits = |out: &Out| out.seats.is_some() && leader.is_none();
        self.refuse(replies, MOVED, |out| out.partition == partition && !waits(out));
    }

    /// A peer is not reached, or lost some of what it was sent. Returns the tickets of its guests
    /// here, with their partitions, and forgets them.
    pub fn lost(&mut self, peer: NodeId, replies: &mut Replies) -> Vec<(PartitionId, Ticket)> {
        self.forget_all(|way| way.0 == peer, LOST, true, replies)
    }

    /// The same for one of its shards, which knows that itself.
    pub fn missed(&mut self, from: Way, replies: &mut Replies) -> Vec<(PartitionId, Ticket)> {
        self.forget_all(|way| *way == from, LOST, false, replies)
    }

    /// Time passes. Who does not hear for too long counts as not reached.
    pub fn look(&mut self, now: Now, replies: &mut Replies) -> Vec<(PartitionId, Ticket)> {
        let mut deaf = BTreeSet::new();
        for (way, sent) in &mut self.sent {
            let late = |since: Instant| now.monotonic.since(since) >= self.patience;
            if sent.since.is_some_and(late) {
                sent.since = None;
                sent.deaf_until = Some(now.monotonic.after(self.patience));
                deaf.insert(*way);
            }
        }
        if deaf.is_empty() {
            return Vec::new();
        }
        self.forget_all(|way| deaf.contains(way), DEAF, true, replies)
    }

    /// Whether there is something for `look` to see.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.out.is_empty() || self.sent.values().any(|sent| sent.since.is_some())
    }

    /// How many calls are out, and how many guests there are.
    pub fn counts(&self) -> (usize, usize) {
        assert_eq!(self.out.len(), self.numbers.len(), "both know each call that is out");
        assert_eq!(self.guests.len(), self.guest_tickets.len(), "both know each guest");
        (self.out.len(), self.guests.len())
    }

    fn forget_all(
        &mut self,
        which: impl Fn(&Way) -> bool,
        why: &'static str,
        tell: bool,
        replies: &mut Replies,
    ) -> Vec<(PartitionId, Ticket)> {
        let mut ways: BTreeSet<Way> = BTreeSet::new();
        if tell {
            ways.extend(self.out.values().map(|out| out.to).filter(&which));
        }
        self.refuse(replies, why, |out| which(&out.to));
        for (_, post) in self.posts.iter_mut().filter(|(way, _)| which(way)) {
            post.calls.clear();
            post.answers.clear();
        }
        let guests = self.guest_tickets.iter().filter(|((way, _), _)| which(way));
        let tickets: Vec<(Way, Ticket)> = guests.map(|((way, _), it)| (*way, *it)).collect();
        if tell {
            ways.extend(tickets.iter().map(|(way, _)| *way));
        }
        for way in ways {
            self.posts.entry(way).or_default().missed = true;
        }
        tickets.into_iter().filter_map(|(_, it)| Some((self.forget(it)?, it))).collect()
    }

    /// A peer passed a call on to here: the request that it becomes.
    pub fn arrived(&mut self, from: Way, call: &peer::Call, now: Now, into: &mut Requests) {
        let partition = PartitionId(call.partition);
        let guest = Guest { from, number: call.number, partition };
        let Ok(ticket) = self.guests.wait(guest) else {
            let full = Refusal::Full("too many calls are passed on to this node");
            let answer = refused(call.number, &full);
            return self.posts.entry(from).or_default().answers.push(answer);
        };
        self.guest_tickets.insert((from, call.number), ticket);
        let patience = call.patience.checked_sub(1).map(Span);
        let deadline = patience.map(|patience| now.monotonic.after(patience));
        let ask = match (&call.wish, call.query.checked_sub(1)) {
            (Some(wish), _) => match wished(wish) {
                Some(ask) => ask,
                None => {
                    self.forget(ticket);
                    let strange = Refusal::Malformed("a wish that nobody knows".to_owned());
                    let answer = refused(call.number, &strange);
                    return self.posts.entry(from).or_default().answers.push(answer);
                }
            },
            (None, None) => Ask::Command,
            (None, Some(index)) => Ask::Query { at_least: Index(index) },
        };
        into.push(ticket, partition, deadline, ask, |bytes| bytes.extend_from_slice(&call.body));
    }

    /// A node hears that the change at `position` removed it from a group.
    pub fn dismiss(&mut self, to: Way, partition: PartitionId, position: Position) {
        let notice = peer::Notice { partition: partition.0, position: position.0 };
        let notices = &mut self.posts.entry(to).or_default().notices;
        if !notices.contains(&notice) {
            notices.push(notice);
        }
    }

    /// A node is told something of a group that it does not belong to.
    pub fn tell(&mut self, to: Way, news: peer::GroupNews) {
        let post = self.posts.entry(to).or_default();
        post.news.retain(|old| old.partition != news.partition);
        post.news.push(news);
    }

    /// A peer's caller is gone: its ticket here and its partition.
    pub fn left(&mut self, from: Way, number: u64) -> Option<(PartitionId, Ticket)> {
        let ticket = *self.guest_tickets.get(&(from, number))?;
        Some((self.forget(ticket)?, ticket))
    }

    /// Moves the replies to guests out of `replies`, into what the next bundles carry.
    pub fn take_guests(&mut self, replies: &mut Replies) {
        if replies.list.iter().all(|reply| reply.ticket.shard != GUESTS) {
            return;
        }
        let list = std::mem::take(&mut replies.list);
        let (guests, own) = list.into_iter().partition(|reply| reply.ticket.shard == GUESTS);
        replies.list = own;
        for reply in guests {
            self.answer(replies, &reply);
        }
    }

    /// A bundle came with this post. `false`: some before it were missed, and the sender is told.
    pub fn hear(&mut self, from: NodeId, post: &Post, now: Now) -> bool {
        let Label { shard, life, posts, heard_life, heard } = post.label;
        let way = (from, shard);
        if let Some(sent) = self.sent.get_mut(&way).filter(|_| heard_life == self.life)
            && heard > sent.heard
        {
            sent.heard = heard;
            sent.since = (heard < sent.posts).then_some(now.monotonic);
            sent.deaf_until = None;
        }
        if !post.is_empty() {
            // Who sent it is told that it came, also when nothing else is to be said.
            self.posts.entry(way).or_default();
        }
        let before = self.heard.insert(way, (life, posts));
        let missing = posts - u64::from(!post.is_empty()).min(posts);
        let whole = match before {
            Some((known, count)) if known == life => count == missing,
            _ => missing == 0,
        };
        if !whole {
            self.posts.entry(way).or_default().missed = true;
        }
        whole
    }

    /// A bundle is to leave for `to`, whatever it carries.
    pub fn nudge(&mut self, to: Way) {
        self.posts.entry(to).or_default();
    }

    /// Counts a post, which may be empty, that leaves for `to` in a bundle.
    pub fn label(&mut self, to: Way, post: &mut Post, now: Now) {
        let (heard_life, heard) = self.heard.get(&to).copied().unwrap_or_default();
        let sent = self.sent.entry(to).or_default();
        if !post.is_empty() {
            sent.posts += 1;
            sent.since.get_or_insert(now.monotonic);
        }
        let (shard, life, posts) = (self.shard, self.life, sent.posts);
        post.label = Label { shard, life, posts, heard_life, heard };
    }

    /// What the next bundles carry, in pieces that fit them.
    pub fn take_posts(&mut self) -> Vec<(Way, Post)> {
        let mut pieces = Vec::new();
        for (to, post) in std::mem::take(&mut self.posts) {
            cut(post, |piece| pieces.push((to, piece)));
        }
        pieces
    }

    fn answer(&mut self, replies: &Replies, reply: &Reply) {
        let Some(guest) = self.guests.peek(reply.ticket) else { return };
        let (from, number) = (guest.from, guest.number);
        let mut answer = peer::Answer { number, last: reply.last, ..peer::Answer::default() };
        match &reply.body {
            Body::Output(output) => {
                (answer.index, answer.output) = (output.index.0, output.number);
                answer.status = output.status.number();
                answer.bytes = replies.bytes_of(output).to_vec().into();
            }
            Body::End => answer.end = true,
            Body::Refused(refusal) => answer = refused(number, refusal),
            Body::Event(event) => {
                let mut bytes = Vec::new();
                if !watched::encode(event, &mut bytes) {
                    return;
                }
                answer.bytes = bytes.into();
            }
            Body::Replayed => unreachable!("watches of nodes are not passed on"),
        }
        self.posts.entry(from).or_default().answers.push(answer);
        if reply.last {
            self.forget(reply.ticket);
        }
    }

    fn forget(&mut self, ticket: Ticket) -> Option<PartitionId> {
        let guest = self.guests.claim(ticket)?;
        self.guest_tickets.remove(&(guest.from, guest.number));
        Some(guest.partition)
    }

    fn refuse(&mut self, replies: &mut Replies, text: &'static str, which: impl Fn(&Out) -> bool) {
        if self.out.is_empty() {
            return;
        }
        let numbers: BTreeSet<u64> =
            self.out.iter().filter(|(_, out)| which(out)).map(|(number, _)| *number).collect();
        for number in numbers {
            let out = self.out.remove(&number).expect("it was just seen");
            self.numbers.remove(&out.ticket);
            // Should the other node still lead, it need not go on for nobody.
            self.posts.entry(out.to).or_default().gone.push(number);
            replies.refuse(out.ticket, Refusal::Unavailable(text));
        }
    }
}

/// A change as links have it.
fn wish(change: &Change, passed: bool, asks: Option<&Member>) -> peer::MemberWish {
    let mut wish = peer::MemberWish { passed, ..peer::MemberWish::default() };
    wish.asks = asks.map(member::written);
    match change {
        Change::Admit(member) => wish.admit = Some(member::written(member)),
        Change::Dismiss(node) => wish.dismiss = node.0,
        Change::Lead(to) => wish.lead = to.map_or(0, |node| node.0).saturating_add(1),
    }
    wish
}

/// What a wish from a link asks.
fn wished(wish: &peer::MemberWish) -> Option<Ask> {
    if wish.watch {
        return Some(Ask::WatchPartition);
    }
    if wish.describe {
        return Some(Ask::Describe { here: false });
    }
    let change = match (&wish.admit, wish.dismiss, wish.lead) {
        (Some(admit), 0, 0) => Change::Admit(member::read(admit)?),
        (None, node, 0) if node > 0 => Change::Dismiss(NodeId(node)),
        (None, 0, lead) if lead > 0 => {
            Change::Lead(Some(NodeId(lead - 1)).filter(|node| node.0 > 0))
        }
        _ => return None,
    };
    Some(Ask::Change { change, passed: wish.passed })
}

/// Cuts a post into pieces that are not too large, in its order. Who is gone stands in the last
/// one, after all calls.
fn cut(post: Post, mut each: impl FnMut(Post)) {
    let Post { calls, answers, gone, missed, notices, news, .. } = post;
    let mut piece = Post { missed, ..Post::default() };
    let mut bytes = 0;
    let mut room = |piece: &mut Post, more: usize, each: &mut dyn FnMut(Post)| {
        if bytes > 0 && bytes + more > POST_BYTES_MAX {
            each(std::mem::take(piece));
            bytes = 0;
        }
        bytes += more;
    };
    for answer in answers {
        room(&mut piece, answer.bytes.len() + HEAD_BYTES, &mut each);
        piece.answers.push(answer);
    }
    for call in calls {
        room(&mut piece, call.body.len() + HEAD_BYTES, &mut each);
        piece.calls.push(call);
    }
    for told in news {
        room(&mut piece, told.members.len() * MEMBER_BYTES + HEAD_BYTES, &mut each);
        piece.news.push(told);
    }
    (piece.gone, piece.notices) = (gone, notices);
    each(piece);
}

/// What a call or an answer takes beside its bytes, at most.
const HEAD_BYTES: usize = 64;

/// What a member takes, at most.
const MEMBER_BYTES: usize = HOST_BYTES_MAX + 24;

/// The answer that is a refusal: its number, its text or the id that it is about.
fn refused(number: u64, refusal: &Refusal) -> peer::Answer {
    let (kind, index, text) = match refusal {
        Refusal::UnknownPartition(_) => (1, 0, UNKNOWN),
        Refusal::UnknownSession(session) => (2, session.0, ""),
        Refusal::Unavailable(text) => (3, 0, *text),
        Refusal::Elsewhere(Elsewhere::Unavailable, text) => (3, 0, text.as_str()),
        Refusal::Full(text) => (4, 0, *text),
        Refusal::Elsewhere(Elsewhere::Full, text) => (4, 0, text.as_str()),
        Refusal::Overtaken => (5, 0, ""),
        Refusal::Cancelled => (6, 0, ""),
        Refusal::Deadline => (7, 0, ""),
        Refusal::Malformed(text) => (8, 0, text.as_str()),
        Refusal::NotFound(text) => (9, 0, text.as_str()),
        Refusal::Precondition(text) => (10, 0, text.as_str()),
        Refusal::Unimplemented(text) => (3, 0, *text),
    };
    let bytes = text.as_bytes().to_vec().into();
    peer::Answer { number, last: true, refusal: kind + 1, index, bytes, ..peer::Answer::default() }
}

/// What a peer's refusal means here.
fn refusal(answer: &peer::Answer) -> Refusal {
    let text = || String::from_utf8_lossy(&answer.bytes).into_owned();
    match answer.refusal - 1 {
        2 => Refusal::UnknownSession(SessionId(answer.index)),
        4 => Refusal::Elsewhere(Elsewhere::Full, text()),
        5 => Refusal::Overtaken,
        6 => Refusal::Cancelled,
        7 => Refusal::Deadline,
        8 => Refusal::Malformed(text()),
        9 => Refusal::NotFound(text()),
        10 => Refusal::Precondition(text()),
        // A leader that does not know its partition is none any more.
        _ => Refusal::Elsewhere(Elsewhere::Unavailable, text()),
    }
}

const UNKNOWN: &str = "the node that led the partition does not have it any more";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_the_same_on_the_other_side() {
        let unavailable = Refusal::Elsewhere(Elsewhere::Unavailable, "wait".to_owned());
        let full = Refusal::Elsewhere(Elsewhere::Full, "full".to_owned());
        let cases = [
            (Refusal::UnknownSession(SessionId(7)), Refusal::UnknownSession(SessionId(7))),
            (Refusal::Unavailable("wait"), unavailable.clone()),
            (unavailable.clone(), unavailable),
            (Refusal::Full("full"), full.clone()),
            (full.clone(), full),
            (Refusal::Overtaken, Refusal::Overtaken),
            (Refusal::Cancelled, Refusal::Cancelled),
            (Refusal::Deadline, Refusal::Deadline),
            (Refusal::Malformed("a".to_owned()), Refusal::Malformed("a".to_owned())),
            (Refusal::NotFound("b".to_owned()), Refusal::NotFound("b".to_owned())),
            (Refusal::Precondition("c".to_owned()), Refusal::Precondition("c".to_owned())),
        ];
        for (there, here) in cases {
            assert_eq!(refusal(&refused(1, &there)), here);
        }
    }
    #[test]
    fn what_does_not_fit_one_bundle_goes_in_several_in_order() {
        let answer = |number| peer::Answer {
            number,
            bytes: vec![0; POST_BYTES_MAX / 3].into(),
            ..peer::Answer::default()
        };
        let call = |number| peer::Call { number, ..peer::Call::default() };
        let post = Post {
            answers: (0..7).map(answer).collect(),
            calls: (7..9).map(call).collect(),
            gone: vec![8],
            missed: true,
            ..Post::default()
        };
        let mut pieces = Vec::new();
        cut(post, |piece| pieces.push(piece));
        let answers = pieces.iter().flat_map(|piece| &piece.answers).map(|answer| answer.number);
        let calls = pieces.iter().flat_map(|piece| &piece.calls).map(|call| call.number);
        assert!(answers.chain(calls).eq(0..9));
        assert_eq!(pieces.len(), 4);
        assert!(pieces[0].missed && pieces[3].gone == [8]);
        for piece in &pieces {
            let bytes: usize = piece.answers.iter().map(|answer| answer.bytes.len()).sum();
            assert!(bytes <= POST_BYTES_MAX && !piece.is_empty());
        }
    }
}
