//! A map whose entries also have an order: each gets the next index when it is appended. It lives
//! in the partition of its name.

use bytes::Bytes;

use super::connection::Method;
use super::handle::{Write, primitive, writes};
use super::session::{Command, Query};
use super::stream::Stream;
use super::{Change, Fault, Versioned};
use crate::wire::proto::indexedmap::v1 as wire;
use crate::wire::proto::indexedmap::v1::{
    AppendInput, AppendOutput, ClearInput, ClearOutput, EntriesInput, EntriesOutput, EventsInput,
    EventsOutput, FirstEntryInput, FirstEntryOutput, GetInput, GetOutput, LastEntryInput,
    LastEntryOutput, NextEntryInput, NextEntryOutput, PrevEntryInput, PrevEntryOutput, RemoveInput,
    RemoveOutput, SizeInput, SizeOutput, UpdateInput, UpdateOutput,
};

primitive! {
    /// An indexed map by its name; empty when it is new.
    ///
    /// ```no_run
    /// # use ringraft::client::{Client, Fault};
    /// # async fn example(client: Client) -> Result<(), Fault> {
    /// let queue = client.indexedmap("queue");
    /// queue.append("job-1", "sweep").await?;
    /// queue.append("job-2", "wash").await?;
    /// let mut entry = queue.first().await?;
    /// assert_eq!(entry.key, "job-1");
    /// entry = queue.next(entry.index).await?;
    /// queue.remove(entry.index).await?;
    /// # Ok(())
    /// # }
    /// ```
    IndexedMap, indexedmap, "atomix.runtime.indexedmap.v1.IndexedMap"
}

writes! {
    ttl AppendInput; ttl UpdateInput;
    prev UpdateInput, prev_version; prev RemoveInput, prev_version;
}

/// An entry; without a value when a watch tells that it is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexedEntry {
    /// Its key.
    pub key: String,
    /// Its index, above 0; never that of another entry, before or after.
    pub index: u64,
    /// Its value and version.
    pub value: Option<Versioned>,
}

/// A change of an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexedEvent {
    /// The entry's key.
    pub key: String,
    /// Its index.
    pub index: u64,
    /// What happened.
    pub change: Change<Versioned>,
}

/// Which entry is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At<'a> {
    /// The one with this key.
    Key(&'a str),
    /// The one with this index.
    Index(u64),
}

impl<'a> From<&'a str> for At<'a> {
    fn from(key: &'a str) -> At<'a> {
        At::Key(key)
    }
}

impl<'a> From<&'a String> for At<'a> {
    fn from(key: &'a String) -> At<'a> {
        At::Key(key)
    }
}

impl From<u64> for At<'_> {
    fn from(index: u64) -> Self {
        At::Index(index)
    }
}

impl At<'_> {
    /// As the messages have it: the one, and the other empty.
    fn parts(self) -> (String, u64) {
        match self {
            At::Key(key) => (key.to_owned(), 0),
            At::Index(index) => (String::new(), index),
        }
    }
}

impl IndexedMap {
    /// The entry with this key or index.
    ///
    /// # Errors
    /// NOT_FOUND when there is none.
    pub async fn get<'k>(&self, at: impl Into<At<'k>>) -> Result<IndexedEntry, Fault> {
        let (key, index) = at.into().parts();
        found(self.handle.query(self.handle.home(), &GET, GetInput { key, index }).await?.entry)
    }

    /// The entry with the lowest index.
    ///
    /// # Errors
    /// NOT_FOUND when there is none.
    pub async fn first(&self) -> Result<IndexedEntry, Fault> {
        found(self.handle.query(self.handle.home(), &FIRST, FirstEntryInput {}).await?.entry)
    }

    /// The entry with the highest index.
    ///
    /// # Errors
    /// NOT_FOUND when there is none.
    pub async fn last(&self) -> Result<IndexedEntry, Fault> {
        found(self.handle.query(self.handle.home(), &LAST, LastEntryInput {}).await?.entry)
    }

    /// The entry after `index`.
    ///
    /// # Errors
    /// NOT_FOUND when there is none.
    pub async fn next(&self, index: u64) -> Result<IndexedEntry, Fault> {
        found(self.handle.query(self.handle.home(), &NEXT, NextEntryInput { index }).await?.entry)
    }

    /// The entry before `index`.
    ///
    /// # Errors
    /// NOT_FOUND when there is none.
    pub async fn prev(&self, index: u64) -> Result<IndexedEntry, Fault> {
        found(self.handle.query(self.handle.home(), &PREV, PrevEntryInput { index }).await?.entry)
    }

    /// Adds an entry at the end; with a `ttl`.
    ///
    /// # Errors
    /// ALREADY_EXISTS when there is one with that key.
    pub fn append(
        &self,
        key: &str,
        value: impl Into<Bytes>,
    ) -> Write<'_, AppendInput, AppendOutput, IndexedEntry> {
        let input = AppendInput { key: key.to_owned(), value: value.into(), ttl: None };
        self.handle.write(self.handle.home(), &APPEND, input, |output| found(output.entry))
    }

    /// Writes the entry with this key or index, which keeps its place; with a `ttl`, with a
    /// `prev_version`.
    ///
    /// # Errors
    /// NOT_FOUND when there is none, CONFLICT when its version is not the demanded one.
    pub fn update<'k>(
        &self,
        at: impl Into<At<'k>>,
        value: impl Into<Bytes>,
    ) -> Write<'_, UpdateInput, UpdateOutput, IndexedEntry> {
        let (key, index) = at.into().parts();
        let input = UpdateInput { key, index, value: value.into(), ttl: None, prev_version: 0 };
        self.handle.write(self.handle.home(), &UPDATE, input, |output| found(output.entry))
    }

    /// Removes the entry with this key or index and gives what it was; with a `prev_version`.
    ///
    /// # Errors
    /// NOT_FOUND when there is none, CONFLICT when its version is not the demanded one.
    pub fn remove<'k>(
        &self,
        at: impl Into<At<'k>>,
    ) -> Write<'_, RemoveInput, RemoveOutput, IndexedEntry> {
        let (key, index) = at.into().parts();
        let input = RemoveInput { key, index, prev_version: 0 };
        self.handle.write(self.handle.home(), &REMOVE, input, |output| found(output.entry))
    }

    /// How many entries it has.
    ///
    /// # Errors
    /// What the node says.
    pub async fn size(&self) -> Result<u64, Fault> {
        Ok(self.handle.query(self.handle.home(), &SIZE, SizeInput {}).await?.size.into())
    }

    /// Removes all entries; their indexes do not come again.
    ///
    /// # Errors
    /// What the node says.
    pub async fn clear(&self) -> Result<(), Fault> {
        self.handle.command(self.handle.home(), &CLEAR, ClearInput {}).await.map(drop)
    }

    /// All entries, by index.
    ///
    /// # Errors
    /// What the node says.
    pub async fn list(&self) -> Result<Vec<IndexedEntry>, Fault> {
        let input = EntriesInput { watch: false };
        let outputs = self.handle.listing(vec![self.handle.home()], &ENTRIES, input).await?;
        Ok(outputs.into_iter().filter_map(|output| output.entry).map(entry).collect())
    }

    /// All entries, and then each that changes, without a value when it is gone. Over with the
    /// connection.
    ///
    /// # Errors
    /// What the node says.
    pub async fn watch(&self) -> Result<Stream<IndexedEntry>, Fault> {
        let input = EntriesInput { watch: true };
        let places = vec![self.handle.home()];
        self.handle.answers(places, &ENTRIES, input, |output| Ok(output.entry.map(entry))).await
    }

    /// The changes to come, of `key` or of all, each once.
    ///
    /// # Errors
    /// What the node says.
    pub async fn events(&self, key: Option<&str>) -> Result<Stream<IndexedEvent>, Fault> {
        let input = EventsInput { key: key.unwrap_or_default().to_owned() };
        let places = vec![self.handle.home()];
        self.handle.events(places, &EVENTS, input, |output| Ok(output.event.and_then(event))).await
    }
}

fn found(found: Option<wire::Entry>) -> Result<IndexedEntry, Fault> {
    found.map(entry).ok_or(Fault::Protocol("an answer without an entry"))
}

fn versioned(value: wire::Value) -> Versioned {
    Versioned { value: value.value, version: value.version }
}

fn entry(entry: wire::Entry) -> IndexedEntry {
    IndexedEntry { key: entry.key, index: entry.index, value: entry.value.map(versioned) }
}

fn event(event: wire::Event) -> Option<IndexedEvent> {
    let value = |value: Option<wire::Value>| value.map(versioned).unwrap_or_default();
    let change = match event.event? {
        wire::event::Event::Inserted(inserted) => Change::Inserted(value(inserted.value)),
        wire::event::Event::Updated(updated) => {
            Change::Updated { value: value(updated.value), prev: value(updated.prev_value) }
        }
        wire::event::Event::Removed(removed) => {
            Change::Removed { value: value(removed.value), expired: removed.expired }
        }
    };
    Some(IndexedEvent { key: event.key, index: event.index, change })
}

const SIZE: Query<SizeInput, SizeOutput> =
    Method::at("/atomix.multiraft.indexedmap.v1.IndexedMap/Size");
const APPEND: Command<AppendInput, AppendOutput> =
    Method::at("/atomix.multiraft.indexedmap.v1.IndexedMap/Append");
const UPDATE: Command<UpdateInput, UpdateOutput> =
    Method::at("/atomix.multiraft.indexedmap.v1.IndexedMap/Update");
const REMOVE: Command<RemoveInput, RemoveOutput> =
    Method::at("/atomix.multiraft.indexedmap.v1.IndexedMap/Remove");
const GET: Query<GetInput, GetOutput> =
    Method::at("/atomix.multiraft.indexedmap.v1.IndexedMap/Get");
const FIRST: Query<FirstEntryInput, FirstEntryOutput> =
    Method::at("/atomix.multiraft.indexedmap.v1.IndexedMap/FirstEntry");
const LAST: Query<LastEntryInput, LastEntryOutput> =
    Method::at("/atomix.multiraft.indexedmap.v1.IndexedMap/LastEntry");
const PREV: Query<PrevEntryInput, PrevEntryOutput> =
    Method::at("/atomix.multiraft.indexedmap.v1.IndexedMap/PrevEntry");
const NEXT: Query<NextEntryInput, NextEntryOutput> =
    Method::at("/atomix.multiraft.indexedmap.v1.IndexedMap/NextEntry");
const CLEAR: Command<ClearInput, ClearOutput> =
    Method::at("/atomix.multiraft.indexedmap.v1.IndexedMap/Clear");
const EVENTS: Command<EventsInput, EventsOutput> =
    Method::at("/atomix.multiraft.indexedmap.v1.IndexedMap/Events");
const ENTRIES: Query<EntriesInput, EntriesOutput> =
    Method::at("/atomix.multiraft.indexedmap.v1.IndexedMap/Entries");
