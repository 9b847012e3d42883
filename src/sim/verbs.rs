//! The words of stories for operations: `map m put k v ttl=1s` and so on.
//!
//! Absent on purpose: cleverness. A word that is not known ends the story with its line.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::id::Kind;
use crate::time::Span;
use crate::workload::Op;

/// A line's plain words and its `name=value` pairs.
#[derive(Debug, Default)]
pub struct Words<'a> {
    plain: Vec<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    /// Takes a line apart.
    #[must_use]
    pub fn of(line: &'a str) -> Words<'a> {
        let mut words = Words::default();
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((name, value)) => {
                    words.named.insert(name, value);
                }
                None => words.plain.push(word),
            }
        }
        words
    }

    /// The plain word at `place`.
    ///
    /// # Errors
    /// There is none.
    pub fn word(&self, place: usize) -> Result<&'a str, String> {
        self.plain.get(place).copied().ok_or(format!("word {} is missing", place + 1))
    }

    /// The plain words from `place` on.
    #[must_use]
    pub fn rest(&self, place: usize) -> Vec<String> {
        self.plain.iter().skip(place).map(|word| (*word).to_owned()).collect()
    }

    /// The value of `name`, if it is there.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&'a str> {
        self.named.get(name).copied()
    }

    /// The number at `place`.
    ///
    /// # Errors
    /// There is none.
    pub fn number<T: std::str::FromStr>(&self, place: usize) -> Result<T, String> {
        let word = self.word(place)?;
        word.parse().map_err(|_| format!("{word} is no number"))
    }

    /// The number named `name`, or `other`.
    ///
    /// # Errors
    /// It is no number.
    pub fn number_named<T: std::str::FromStr>(&self, name: &str, other: T) -> Result<T, String> {
        match self.named(name) {
            None => Ok(other),
            Some(word) => word.parse().map_err(|_| format!("{word} is no number")),
        }
    }

    /// The span named `name`, if it is there.
    ///
    /// # Errors
    /// It is no span.
    pub fn span_named(&self, name: &str) -> Result<Option<Span>, String> {
        self.named(name).map(span).transpose()
    }
}

/// A span as text: `5s`, `250ms`, `10us`, `0`.
///
/// # Errors
/// It is none of these.
pub fn span(word: &str) -> Result<Span, String> {
    let digits = word.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("{word} is no span"))?;
    match &word[digits.len()..] {
        "h" => Ok(Span::secs(number * 3600)),
        "m" => Ok(Span::secs(number * 60)),
        "s" => Ok(Span::secs(number)),
        "ms" => Ok(Span::millis(number)),
        "us" => Ok(Span::micros(number)),
        "ns" => Ok(Span::nanos(number)),
        "" if number == 0 => Ok(Span::ZERO),
        _ => Err(format!("{word} is no span")),
    }
}

/// The kind that a story's word names.
#[must_use]
pub fn kind(word: &str) -> Option<Kind> {
    Some(match word {
        "counter" => Kind::Counter,
        "countermap" => Kind::CounterMap,
        "election" => Kind::LeaderElection,
        "indexedmap" => Kind::IndexedMap,
        "lock" => Kind::Lock,
        "map" => Kind::Map,
        "multimap" => Kind::MultiMap,
        "set" => Kind::Set,
        "value" => Kind::Value,
        _ => return None,
    })
}

/// The operation on a primitive of `kind` whose verb stands at `at`.
///
/// # Errors
/// There is no such operation, or a word of it is missing.
pub fn op(kind: Kind, words: &Words<'_>, at: usize) -> Result<Op, String> {
    let verb = words.word(at)?;
    let op = match kind {
        Kind::Counter => counter(verb, words, at)?,
        Kind::CounterMap => counter_map(verb, words, at)?,
        Kind::LeaderElection => election(verb, words, at)?,
        Kind::IndexedMap => indexed_map(verb, words, at)?,
        Kind::Lock => match verb {
            "acquire" => Some(Op::LockAcquire { timeout: words.span_named("timeout")? }),
            "release" => Some(Op::LockRelease),
            "get" => Some(Op::LockGet),
            _ => None,
        },
        Kind::Map => map(verb, words, at)?,
        Kind::MultiMap => multi_map(verb, words, at)?,
        Kind::Set => set(verb, words, at)?,
        Kind::Value => value(verb, words, at)?,
    };
    op.ok_or(format!("{kind} has no verb {verb}"))
}

/// A value: the word itself, or so many bytes of it for a word like `{64k}`.
fn bytes(word: &str) -> Bytes {
    let number = word.strip_prefix('{').and_then(|rest| rest.strip_suffix("k}"));
    match number.and_then(|number| number.parse::<usize>().ok()) {
        Some(kib) => vec![b'.'; kib << 10].into(),
        None => Bytes::copy_from_slice(word.as_bytes()),
    }
}

type Parsed = Result<Option<Op>, String>;

fn counter(verb: &str, words: &Words<'_>, at: usize) -> Parsed {
    Ok(Some(match verb {
        "set" => Op::CounterSet(words.number(at + 1)?),
        "increment" => Op::CounterIncrement(words.number(at + 1)?),
        "decrement" => Op::CounterDecrement(words.number(at + 1)?),
        "update" => {
            Op::CounterUpdate { compare: words.number(at + 1)?, update: words.number(at + 2)? }
        }
        "get" => Op::CounterGet,
        _ => return Ok(None),
    }))
}

fn counter_map(verb: &str, words: &Words<'_>, at: usize) -> Parsed {
    let key = || words.word(at + 1).map(str::to_owned);
    Ok(Some(match verb {
        "set" => Op::CounterMapSet { key: key()?, value: words.number(at + 2)? },
        "insert" => Op::CounterMapInsert { key: key()?, value: words.number(at + 2)? },
        "update" => Op::CounterMapUpdate {
            key: key()?,
            value: words.number(at + 2)?,
            prev: words.number_named("prev", 0)?,
        },
        "increment" => Op::CounterMapIncrement { key: key()?, delta: words.number(at + 2)? },
        "decrement" => Op::CounterMapDecrement { key: key()?, delta: words.number(at + 2)? },
        "remove" => Op::CounterMapRemove { key: key()?, prev: words.number_named("prev", 0)? },
        "clear" => Op::CounterMapClear,
        "lock" => Op::CounterMapLock,
        "get" => Op::CounterMapGet { key: key()? },
        "size" => Op::CounterMapSize,
        "entries" => Op::CounterMapEntries { watch: false },
        "watch" => Op::CounterMapEntries { watch: true },
        "events" => Op::CounterMapEvents { key: key().unwrap_or_default() },
        _ => return Ok(None),
    }))
}

fn map(verb: &str, words: &Words<'_>, at: usize) -> Parsed {
    let key = || words.word(at + 1).map(str::to_owned);
    let value = || words.word(at + 2).map(bytes);
    let ttl = || words.span_named("ttl");
    let prev = || words.number_named("prev", 0);
    let number = || words.number_named("t", 0);
    Ok(Some(match verb {
        "put" => Op::MapPut { key: key()?, value: value()?, ttl: ttl()?, prev: prev()? },
        "insert" => Op::MapInsert { key: key()?, value: value()?, ttl: ttl()? },
        "update" => Op::MapUpdate { key: key()?, value: value()?, ttl: ttl()?, prev: prev()? },
        "remove" => Op::MapRemove { key: key()?, prev: prev()? },
        "clear" => Op::MapClear,
        "lock" => Op::MapLock,
        "prepare" => Op::MapPrepare { number: number()?, steps: steps(words, at + 1)? },
        "commit" => Op::MapCommit { number: number()? },
        "abort" => Op::MapAbort { number: number()? },
        "apply" => Op::MapApply { steps: steps(words, at + 1)? },
        "get" => Op::MapGet { key: key()? },
        "size" => Op::MapSize,
        "entries" => Op::MapEntries { watch: false },
        "watch" => Op::MapEntries { watch: true },
        "events" => Op::MapEvents { key: key().unwrap_or_default() },
        _ => return Ok(None),
    }))
}

/// Operations of a transaction: `put:k:v`, `insert:k:v`, `update:k:v:7`, `remove:k:7`, the last
/// number a version; what is written lives as long as `ttl` says.
fn steps(words: &Words<'_>, at: usize) -> Result<Vec<Op>, String> {
    let ttl = words.span_named("ttl")?;
    let step = |word: &String| {
        let parts: Vec<&str> = word.split(':').collect();
        let key = parts.get(1).copied().unwrap_or_default().to_owned();
        let value = parts.get(2).map(|value| bytes(value)).unwrap_or_default();
        let prev = |place: usize| {
            let word = parts.get(place).copied().unwrap_or("0");
            word.parse().map_err(|_| format!("{word} is no number"))
        };
        Ok(match parts[0] {
            "put" => Op::MapPut { key, value, ttl, prev: prev(3)? },
            "insert" => Op::MapInsert { key, value, ttl },
            "update" => Op::MapUpdate { key, value, ttl, prev: prev(3)? },
            "remove" => Op::MapRemove { key, prev: prev(2)? },
            "get" => Op::MapGet { key },
            "clear" => Op::MapClear,
            other => return Err(format!("a transaction knows no {other}")),
        })
    };
    words.rest(at).iter().map(step).collect()
}

fn multi_map(verb: &str, words: &Words<'_>, at: usize) -> Parsed {
    let key = || words.word(at + 1).map(str::to_owned);
    let value = || words.word(at + 2).map(str::to_owned);
    let values = || words.rest(at + 2);
    Ok(Some(match verb {
        "put" => Op::MultiMapPut { key: key()?, value: value()? },
        "put-all" => Op::MultiMapPutAll { key: key()?, values: values() },
        "replace" => Op::MultiMapReplace { key: key()?, values: values() },
        "remove" => Op::MultiMapRemove { key: key()?, value: value()? },
        "remove-all" => Op::MultiMapRemoveAll { key: key()?, values: values() },
        "put-entries" => Op::MultiMapPutEntries { entries: entries(&words.rest(at + 1))? },
        "remove-entries" => Op::MultiMapRemoveEntries { entries: entries(&words.rest(at + 1))? },
        "clear" => Op::MultiMapClear,
        "contains" => Op::MultiMapContains { key: key()?, value: value()? },
        "get" => Op::MultiMapGet { key: key()? },
        "size" => Op::MultiMapSize,
        "entries" => Op::MultiMapEntries { watch: false },
        "watch" => Op::MultiMapEntries { watch: true },
        "events" => Op::MultiMapEvents { key: key().unwrap_or_default() },
        _ => return Ok(None),
    }))
}

/// Keys with values: `k:a,b l: m:c`.
fn entries(words: &[String]) -> Result<Vec<(String, Vec<String>)>, String> {
    let entry = |word: &String| {
        let (key, values) = word.split_once(':').ok_or(format!("{word} has no colon"))?;
        let values = values.split(',').filter(|value| !value.is_empty());
        Ok((key.to_owned(), values.map(str::to_owned).collect()))
    };
    words.iter().map(entry).collect()
}

fn set(verb: &str, words: &Words<'_>, at: usize) -> Parsed {
    let element = || words.word(at + 1).map(str::to_owned);
    Ok(Some(match verb {
        "add" => Op::SetAdd { element: element()?, ttl: words.span_named("ttl")? },
        "remove" => Op::SetRemove { element: element()? },
        "contains" => Op::SetContains { element: element()? },
        "clear" => Op::SetClear,
        "size" => Op::SetSize,
        "elements" => Op::SetElements { watch: false },
        "watch" => Op::SetElements { watch: true },
        "events" => Op::SetEvents,
        _ => return Ok(None),
    }))
}

fn value(verb: &str, words: &Words<'_>, at: usize) -> Parsed {
    let value = || words.word(at + 1).map(|word| Bytes::copy_from_slice(word.as_bytes()));
    let prev = || words.number_named("prev", 0);
    Ok(Some(match verb {
        "set" => Op::ValueSet { value: value()?, ttl: words.span_named("ttl")? },
        "insert" => Op::ValueInsert { value: value()?, ttl: words.span_named("ttl")? },
        "update" => {
            Op::ValueUpdate { value: value()?, ttl: words.span_named("ttl")?, prev: prev()? }
        }
        "delete" => Op::ValueDelete { prev: prev()? },
        "get" => Op::ValueGet,
        "watch" => Op::ValueWatch,
        "events" => Op::ValueEvents,
        _ => return Ok(None),
    }))
}

fn election(verb: &str, words: &Words<'_>, at: usize) -> Parsed {
    let name = || words.word(at + 1).map(str::to_owned);
    Ok(Some(match verb {
        "enter" => Op::ElectionEnter(name()?),
        "withdraw" => Op::ElectionWithdraw(name().unwrap_or_default()),
        "anoint" => Op::ElectionAnoint(name()?),
        "promote" => Op::ElectionPromote(name()?),
        "demote" => Op::ElectionDemote(name()?),
        "evict" => Op::ElectionEvict(name()?),
        "term" => Op::ElectionGetTerm,
        "watch" => Op::ElectionWatch,
        _ => return Ok(None),
    }))
}

fn indexed_map(verb: &str, words: &Words<'_>, at: usize) -> Parsed {
    let key = || words.word(at + 1).map(str::to_owned).unwrap_or_default();
    let bytes = |place| words.word(place).map(bytes);
    let ttl = || words.span_named("ttl");
    let index = || words.number_named("index", 0);
    let prev = || words.number_named("prev", 0);
    Ok(Some(match verb {
        "append" => Op::IndexedAppend { key: key(), value: bytes(at + 2)?, ttl: ttl()? },
        // By index, by key, or by both.
        "update" if words.word(at + 2).is_err() => Op::IndexedUpdate {
            key: String::new(),
            index: index()?,
            value: bytes(at + 1)?,
            ttl: ttl()?,
            prev: prev()?,
        },
        "update" => Op::IndexedUpdate {
            key: key(),
            index: index()?,
            value: bytes(at + 2)?,
            ttl: ttl()?,
            prev: prev()?,
        },
        "remove" => Op::IndexedRemove { key: key(), index: index()?, prev: prev()? },
        "clear" => Op::IndexedClear,
        "get" => Op::IndexedGet { key: key(), index: index()? },
        "first" => Op::IndexedFirst,
        "last" => Op::IndexedLast,
        "next" => Op::IndexedNext(words.number(at + 1)?),
        "prev" => Op::IndexedPrev(words.number(at + 1)?),
        "size" => Op::IndexedSize,
        "entries" => Op::IndexedEntries { watch: false },
        "watch" => Op::IndexedEntries { watch: true },
        "events" => Op::IndexedEvents { key: key() },
        _ => return Ok(None),
    }))
}
