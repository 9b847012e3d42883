//! What the generator asks for and what comes back, whichever server it talks to.
//!
//! Small values that are copied: one lies in every call under way. How they become bytes is the
//! affair of `atomix.rs` and `etcd.rs`; what they should bring that of `work/`.

use super::content::Content;
use crate::id::Kind;

/// One call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Ask {
    Open,
    Create {
        thing: u32,
    },
    KeepAlive,
    Close,
    Increment {
        thing: u32,
    },
    Count {
        thing: u32,
    },
    Put {
        thing: u32,
        content: Content,
    },
    /// Over the version that is there; the server refuses it over any other.
    Update {
        thing: u32,
        content: Content,
        version: u64,
    },
    Get {
        thing: u32,
        key: u64,
    },
    Clear {
        thing: u32,
    },
    Acquire {
        thing: u32,
    },
    Release {
        thing: u32,
        token: u64,
    },
    Enter {
        thing: u32,
        who: u64,
    },
    Withdraw {
        thing: u32,
        who: u64,
    },
    /// A stream of all changes; `who` listens.
    Listen {
        thing: u32,
        who: u32,
    },
}

/// What came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// An empty message.
    Nothing,
    /// The id of what was opened or created.
    Id(u64),
    /// A counter's value.
    Number(i64),
    /// Written as `version`, over `before` (0: nothing was there).
    Written {
        /// Its version.
        version: u64,
        /// The version that it replaced.
        before: u64,
    },
    /// What a key holds.
    Found {
        /// Its version.
        version: u64,
        /// What it says; `None` when no writer made these octets.
        content: Option<Content>,
    },
    /// A lock's fencing token.
    Token(u64),
    /// An election's state.
    Term {
        /// Its number.
        number: u64,
        /// Who leads.
        leader: Option<u64>,
        /// Whether the asker is the leader or waits.
        inside: bool,
    },
    /// A key was written.
    Event {
        /// The version it has now.
        version: u64,
        /// What was written.
        content: Option<Content>,
    },
}

/// Why nothing came back, or not what was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Which sort.
    pub sort: Sort,
    /// In the server's words.
    pub text: Box<str>,
}

/// What is to be done about a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sort {
    /// It passes: the same is asked again, with the same number.
    Passing,
    /// An answer like any other: it is not as was demanded.
    No,
    /// The session is gone.
    Lost,
    /// It will be the same the next time.
    Final,
    /// Nothing came in time: nobody knows whether it was done.
    Unknown,
}

/// What is measured under one name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum Verb {
    Increment,
    Count,
    Put,
    Update,
    Get,
    Acquire,
    Release,
    Enter,
    Withdraw,
    Open,
    Create,
    Close,
    Event,
    Other,
}

impl Verb {
    /// All of them, in the order of reports.
    pub const ALL: [Verb; 14] = [
        Verb::Increment,
        Verb::Count,
        Verb::Put,
        Verb::Update,
        Verb::Get,
        Verb::Acquire,
        Verb::Release,
        Verb::Enter,
        Verb::Withdraw,
        Verb::Open,
        Verb::Create,
        Verb::Close,
        Verb::Event,
        Verb::Other,
    ];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Verb::Increment => "increment",
            Verb::Count => "read",
            Verb::Put => "put",
            Verb::Update => "update",
            Verb::Get => "get",
            Verb::Acquire => "acquire",
            Verb::Release => "release",
            Verb::Enter => "enter",
            Verb::Withdraw => "withdraw",
            Verb::Open => "open",
            Verb::Create => "create",
            Verb::Close => "close",
            Verb::Event => "event",
            Verb::Other => "other",
        }
    }

    /// The verb of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| verb.name() == name)
    }
}

impl Ask {
    /// Under which name it is measured.
    #[must_use]
    pub const fn verb(&self) -> Verb {
        match self {
            Ask::Open => Verb::Open,
            Ask::Create { .. } => Verb::Create,
            Ask::Close => Verb::Close,
            Ask::Increment { .. } => Verb::Increment,
            Ask::Count { .. } => Verb::Count,
            Ask::Put { .. } => Verb::Put,
            Ask::Update { .. } => Verb::Update,
            Ask::Get { .. } => Verb::Get,
            Ask::Acquire { .. } => Verb::Acquire,
            Ask::Release { .. } => Verb::Release,
            Ask::Enter { .. } => Verb::Enter,
            Ask::Withdraw { .. } => Verb::Withdraw,
            Ask::KeepAlive | Ask::Clear { .. } | Ask::Listen { .. } => Verb::Other,
        }
    }

    /// Whether it has a number of its own in its session: commands do.
    #[must_use]
    pub const fn is_command(&self) -> bool {
        !matches!(
            self,
            Ask::Open | Ask::KeepAlive | Ask::Close | Ask::Get { .. } | Ask::Count { .. }
        )
    }

    /// Whether it may rightly take as long as others please.
    #[must_use]
    pub const fn waits(&self) -> bool {
        matches!(self, Ask::Acquire { .. } | Ask::Listen { .. })
    }

    /// Which thing it is about.
    #[must_use]
    pub const fn thing(&self) -> Option<u32> {
        match *self {
            Ask::Open | Ask::KeepAlive | Ask::Close => None,
            Ask::Create { thing }
            | Ask::Increment { thing }
            | Ask::Count { thing }
            | Ask::Put { thing, .. }
            | Ask::Update { thing, .. }
            | Ask::Get { thing, .. }
            | Ask::Clear { thing }
            | Ask::Acquire { thing }
            | Ask::Release { thing, .. }
            | Ask::Enter { thing, .. }
            | Ask::Withdraw { thing, .. }
            | Ask::Listen { thing, .. } => Some(thing),
        }
    }
}

impl Refusal {
    /// A refusal of this sort.
    #[must_use]
    pub fn new(sort: Sort, text: impl Into<Box<str>>) -> Refusal {
        Refusal { sort, text: text.into() }
    }
}

/// A primitive that is worked on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Thing {
    /// Its kind.
    pub kind: Kind,
    /// Its name, of this run alone.
    pub name: String,
    /// The place of its partition among those of the run.
    pub part: usize,
}
