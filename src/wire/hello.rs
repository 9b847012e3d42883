//! What two nodes tell each other first, and why one of them may refuse.
//!
//! ```text
//!   dialler  ── Hello ───────────────►  listener        bundles, or one snapshot, from then on
//!            ◄─────────── Welcome ────
//! ```
//!
//! A link carries one way. Both words are frames of `| magic | length | crc | message |`. Whether
//! to go on is decided here, the same on both sides, so that both print the same reason: no format
//! in common (`format.rs`), another cluster, not the node that was wanted, this very node, or a
//! node that came back with other data, or with older data, under an id whose votes were counted
//! (design.md 7). Absent on purpose: sockets, and remembering who was here.

use prost::Message as _;

use crate::{
    id::{Mark, NodeId, PartitionId, Position, ShardId},
    limits::{HELLO_BYTES_MAX, SHARDS_MAX},
    wire::{format::Formats, peer},
};

const MAGIC_HELLO: u32 = 0x5252_4831; // RRH1
const MAGIC_WELCOME: u32 = 0x5252_5731; // RRW1

/// Octets before the message of a frame: they say how many follow.
pub const HEAD_BYTES: usize = 12;

/// Who speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Speaker {
    /// The digest of its cluster's configuration.
    pub cluster: u64,
    /// Its id.
    pub node: NodeId,
    /// Drawn when its data directory was made.
    pub incarnation: u64,
    /// Drawn when its process started.
    pub life: u64,
    /// Its shards.
    pub shards: u16,
    /// The port of its clients.
    pub api_port: u16,
    /// What it can carry.
    pub formats: Formats,
}

/// The dialler's word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Who dialled.
    pub speaker: Speaker,
    /// Whom it wants.
    pub to: NodeId,
    /// Which of its shards dialled.
    pub from_shard: ShardId,
    /// The last mark of that shard's journal that this life found.
    pub kept: Mark,
    /// The shard it wants, as far as it knows.
    pub to_shard: ShardId,
    /// The incarnation under which it met whom it wants, 0 for none: so that who came back with
    /// other data says so too.
    pub knows: u64,
    /// What will follow.
    pub cargo: Cargo,
}

/// What a link carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cargo {
    /// Bundles, as long as it lasts.
    Bundles,
    /// One snapshot.
    Snapshot(Offer),
}

/// A snapshot that will follow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Offer {
    /// Of which partition.
    pub partition: PartitionId,
    /// Up to which position.
    pub position: Position,
    /// The length of the whole frame.
    pub bytes: u64,
    /// CRC-32C of the whole frame: a second snapshot of one position may be another.
    pub checksum: u32,
}

/// The listener's word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Welcome {
    /// Go on.
    Come {
        /// Who listens.
        speaker: NodeId,
        /// Drawn when its data directory was made.
        incarnation: u64,
        /// Drawn when its process started.
        life: u64,
        /// The last mark that this life found in the journal of the shard that was dialled.
        kept: Mark,
        /// Its shards.
        shards: u16,
        /// The port of its clients.
        api_port: u16,
        /// What it can carry.
        formats: Formats,
        /// How much of the offered snapshot it has.
        offset: u64,
    },
    /// Go away, for this reason.
    Refused(String),
}

/// Bytes that are not the word that was expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Strange;

impl Hello {
    /// Its frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let offer = match self.cargo {
            Cargo::Bundles => None,
            Cargo::Snapshot(offer) => Some(peer::SnapshotOffer {
                partition: offer.partition.0,
                position: offer.position.0,
                bytes: offer.bytes,
                checksum: offer.checksum,
            }),
        };
        let message = peer::Hello {
            newest: self.speaker.formats.newest(),
            oldest: self.speaker.formats.oldest(),
            cluster: self.speaker.cluster,
            from: self.speaker.node.0,
            to: self.to.0,
            incarnation: self.speaker.incarnation,
            shards: self.speaker.shards.into(),
            api_port: self.speaker.api_port.into(),
            from_shard: self.from_shard.0.into(),
            life: self.speaker.life,
            kept: self.kept.0,
            to_shard: self.to_shard.0.into(),
            knows: self.knows,
            snapshot: offer,
        };
        frame(MAGIC_HELLO, &message.encode_to_vec())
    }

    /// Reads what follows a head.
    pub fn decode(head: &[u8; HEAD_BYTES], body: &[u8]) -> Result<Hello, Strange> {
        open(MAGIC_HELLO, head, body)?;
        let message = peer::Hello::decode(body).map_err(|_| Strange)?;
        let cargo = match message.snapshot {
            None => Cargo::Bundles,
            Some(offer) => Cargo::Snapshot(Offer {
                partition: PartitionId(offer.partition),
                position: Position(offer.position),
                bytes: offer.bytes,
                checksum: offer.checksum,
            }),
        };
        let speaker = Speaker {
            cluster: message.cluster,
            node: NodeId(message.from),
            incarnation: message.incarnation,
            life: message.life,
            shards: shards(message.shards)?,
            api_port: port(message.api_port)?,
            formats: Formats::said(message.oldest, message.newest).ok_or(Strange)?,
        };
        let shard = |number: u32| u16::try_from(number).map(ShardId).map_err(|_| Strange);
        if message.from_shard >= message.shards {
            return Err(Strange);
        }
        Ok(Hello {
            speaker,
            to: NodeId(message.to),
            from_shard: shard(message.from_shard)?,
            kept: Mark(message.kept),
            to_shard: shard(message.to_shard)?,
            knows: message.knows,
            cargo,
        })
    }

    /// What a link to `here` carries; `None`: they do not understand each other.
    #[must_use]
    pub fn formats(&self, here: &Speaker) -> Option<Formats> {
        self.speaker.formats.common(here.formats)
    }

    /// Why `here` does not take it; `known` is the incarnation under which this id was here before.
    #[must_use]
    pub fn refusal(&self, here: &Speaker, known: Option<u64>) -> Option<String> {
        let (there, to) = (&self.speaker, self.to);
        let (node, us) = (there.node, here.node);
        if self.formats(here).is_none() {
            let (theirs, ours) = (there.formats, here.formats);
            return Some(format!(
                "node {node} speaks {theirs} and node {us} {ours}: upgrade the older one, by way \
                 of a program that speaks both"
            ));
        }
        if there.cluster != here.cluster {
            return Some(format!(
                "node {node} is of another cluster: its [cluster] keys have digest {:016x}, those \
                 of node {us} {:016x}",
                there.cluster, here.cluster
            ));
        }
        if node == us && there.incarnation == here.incarnation {
            return Some(format!("node {us} reached itself under the address of node {to}"));
        }
        if node == us {
            return Some(format!("two nodes have the id {us}"));
        }
        if to != us {
            return Some(format!("node {to} was wanted, this address is that of node {us}"));
        }
        if node.0 == 0 {
            return Some("node 0 is nobody".to_owned());
        }
        let knows = Some(self.knows).filter(|knows| *knows != 0);
        stranger(us, here.incarnation, knows).or_else(|| stranger(node, there.incarnation, known))
    }
}

impl Welcome {
    /// Its frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let message = match self {
            Welcome::Refused(reason) => {
                peer::Welcome { refused: reason.clone(), ..peer::Welcome::default() }
            }
            Welcome::Come {
                speaker,
                incarnation,
                life,
                kept,
                shards,
                api_port,
                formats,
                offset,
            } => peer::Welcome {
                refused: String::new(),
                newest: formats.newest(),
                oldest: formats.oldest(),
                from: speaker.0,
                incarnation: *incarnation,
                life: *life,
                kept: kept.0,
                shards: (*shards).into(),
                api_port: (*api_port).into(),
                offset: *offset,
            },
        };
        frame(MAGIC_WELCOME, &message.encode_to_vec())
    }

    /// Reads what follows a head.
    pub fn decode(head: &[u8; HEAD_BYTES], body: &[u8]) -> Result<Welcome, Strange> {
        open(MAGIC_WELCOME, head, body)?;
        let message = peer::Welcome::decode(body).map_err(|_| Strange)?;
        if !message.refused.is_empty() {
            return Ok(Welcome::Refused(message.refused));
        }
        Ok(Welcome::Come {
            speaker: NodeId(message.from),
            incarnation: message.incarnation,
            life: message.life,
            kept: Mark(message.kept),
            shards: shards(message.shards)?,
            api_port: port(message.api_port)?,
            formats: Formats::said(message.oldest, message.newest).ok_or(Strange)?,
            offset: message.offset,
        })
    }
}

/// Why a node with other data than the one that was here under its id is refused.
#[must_use]
pub fn stranger(node: NodeId, incarnation: u64, known: Option<u64>) -> Option<String> {
    known.filter(|known| *known != incarnation).map(|_| {
        format!(
            "node {node} came back with other data: its votes were counted and it has forgotten \
             them; remove it from its groups and add it under a new id"
        )
    })
}

/// Why a node is refused whose journal ends before what it told of. Its votes and what it
/// acknowledged since are in it no more, and a majority was counted with them.
#[must_use]
pub fn older(node: NodeId) -> String {
    format!(
        "node {node} came back with older data: it has forgotten what it promised since; remove it \
         from its groups and add it under a new id"
    )
}

/// How many octets follow a head.
pub fn body_bytes(head: &[u8; HEAD_BYTES]) -> Result<usize, Strange> {
    let [_, _, _, _, a, b, c, d, ..] = *head;
    let bytes = u32::from_le_bytes([a, b, c, d]) as usize;
    if bytes > HELLO_BYTES_MAX { Err(Strange) } else { Ok(bytes) }
}

fn frame(magic: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD_BYTES + body.len());
    frame.extend_from_slice(&magic.to_le_bytes());
    let length = u32::try_from(body.len()).expect("a greeting is short");
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    frame.extend_from_slice(body);
    frame
}

fn open(magic: u32, head: &[u8; HEAD_BYTES], body: &[u8]) -> Result<(), Strange> {
    let [a, b, c, d, _, _, _, _, crc @ ..] = *head;
    let sound = u32::from_le_bytes([a, b, c, d]) == magic
        && u32::from_le_bytes(crc) == crc32c::crc32c(body);
    if sound { Ok(()) } else { Err(Strange) }
}

/// 0: not said.
fn port(number: u32) -> Result<u16, Strange> {
    u16::try_from(number).map_err(|_| Strange)
}

fn shards(number: u32) -> Result<u16, Strange> {
    let number = u16::try_from(number).map_err(|_| Strange)?;
    if number == 0 || usize::from(number) > SHARDS_MAX { Err(Strange) } else { Ok(number) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::Prng;

    const HERE: Speaker = Speaker {
        cluster: 7,
        node: NodeId(1),
        incarnation: 11,
        life: 111,
        shards: 2,
        api_port: 5678,
        formats: Formats::new(2, 3),
    };

    fn hello() -> Hello {
        Hello {
            speaker: Speaker { node: NodeId(2), incarnation: 22, shards: 4, ..HERE },
            to: NodeId(1),
            from_shard: ShardId(3),
            kept: Mark(99),
            to_shard: ShardId(1),
            knows: 11,
            cargo: Cargo::Bundles,
        }
    }

    fn split(frame: &[u8]) -> ([u8; HEAD_BYTES], &[u8]) {
        let (head, body) = frame.split_first_chunk::<HEAD_BYTES>().expect("a head");
        (*head, body)
    }

    #[test]
    fn both_words_come_back_as_they_were() {
        let offer = Offer {
            partition: PartitionId(3),
            position: Position(99),
            bytes: 1 << 30,
            checksum: 0xfeed_beef,
        };
        for cargo in [Cargo::Bundles, Cargo::Snapshot(offer)] {
            let sent = Hello { cargo, ..hello() };
            let frame = sent.encode();
            let (head, body) = split(&frame);
            assert_eq!(body_bytes(&head), Ok(body.len()));
            assert_eq!(Hello::decode(&head, body), Ok(sent));
            assert_eq!(Welcome::decode(&head, body), Err(Strange));
        }
        let come = Welcome::Come {
            speaker: NodeId(1),
            incarnation: 11,
            life: 111,
            kept: Mark(8),
            shards: 2,
            api_port: 80,
            formats: Formats::new(1, 3),
            offset: 9,
        };
        for sent in [come, Welcome::Refused("no".to_owned())] {
            let frame = sent.encode();
            let (head, body) = split(&frame);
            assert_eq!(Welcome::decode(&head, body), Ok(sent));
        }
    }

    #[test]
    fn each_reason_to_refuse_is_named() {
        let other = |change: fn(&mut Hello)| {
            let mut hello = hello();
            change(&mut hello);
            hello
        };
        assert_eq!(hello().refusal(&HERE, None), None);
        assert_eq!(hello().refusal(&HERE, Some(22)), None);
        let cases: [(Hello, &str); 7] = [
            (other(|hello| hello.knows = 10), "node 1 came back with other data"),
            (
                other(|hello| hello.speaker.formats = Formats::new(1, 1)),
                "node 2 speaks format 1 and node 1 formats 2 to 3",
            ),
            (other(|hello| hello.speaker.cluster = 8), "another cluster"),
            (other(|hello| hello.speaker = HERE), "reached itself"),
            (other(|hello| hello.speaker.node = NodeId(1)), "two nodes have the id 1"),
            (other(|hello| hello.to = NodeId(3)), "node 3 was wanted"),
            (other(|hello| hello.speaker.node = NodeId(0)), "nobody"),
        ];
        for (hello, words) in cases {
            let reason = hello.refusal(&HERE, None).expect("refused");
            assert!(reason.contains(words), "{reason}");
        }
        let reason = hello().refusal(&HERE, Some(21)).expect("refused");
        assert!(reason.contains("came back with other data"), "{reason}");
    }

    #[test]
    fn formats_that_are_no_range_are_strange() {
        let mut message = peer::Hello::decode(split(&hello().encode()).1).expect("whole");
        message.oldest = 0;
        let frame = frame(MAGIC_HELLO, &message.encode_to_vec());
        let (head, body) = split(&frame);
        assert_eq!(Hello::decode(&head, body), Err(Strange));
    }

    #[test]
    fn damaged_words_are_strange() {
        let frame = hello().encode();
        let mut prng = Prng::new(3);
        for _ in 0..500 {
            let mut damaged = frame.clone();
            let at = prng.below(damaged.len() as u64) as usize;
            damaged[at] ^= 1 << prng.below(8);
            let (head, body) = split(&damaged);
            let whole = body_bytes(&head) == Ok(body.len());
            assert!(!whole || Hello::decode(&head, body).is_err(), "byte {at}");
        }
    }
}
