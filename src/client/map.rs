//! A map from text to bytes, spread over all partitions by key. Each entry has a version: the index
//! of the command that wrote it.

use std::time::Duration;

use bytes::Bytes;

use super::connection::Method;
use super::handle::{Write, primitive, writes};
use super::session::{Command, Query, span};
use super::stream::Stream;
use super::{Change, Entry, Event, Fault, Versioned, Written};
use crate::wire::proto::map::v1 as wire;
use crate::wire::proto::map::v1::{
    ClearInput, ClearOutput, EntriesInput, EntriesOutput, EventsInput, EventsOutput, GetInput,
    GetOutput, IndexedValue, InsertInput, InsertOutput, LockInput, LockOutput, PutInput, PutOutput,
    RemoveInput, RemoveOutput, SizeInput, SizeOutput, UnlockInput, UnlockOutput, UpdateInput,
    UpdateOutput,
};

primitive! {
    /// A map by its name; empty when it is new.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use ringraft::client::{Client, Fault};
    /// # async fn example(client: Client) -> Result<(), Fault> {
    /// let map = client.map("greetings");
    /// let hello = map.put("hello", "world").ttl(Duration::from_secs(60)).await?;
    /// // Only if nobody wrote it since.
    /// map.update("hello", "everybody").prev_version(hello.version).await?;
    ///
    /// let mut events = map.events(Some("hello")).await?;
    /// map.remove("hello").await?;
    /// while let Some(event) = events.next().await? {
    ///     println!("{event:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    Map, map, "atomix.runtime.map.v1.Map"
}

writes! {
    ttl PutInput; ttl InsertInput; ttl UpdateInput;
    prev PutInput, prev_index; prev UpdateInput, prev_index; prev RemoveInput, prev_index;
}

impl Map {
    /// The value of `key` and its version.
    ///
    /// # Errors
    /// NOT_FOUND when there is none.
    pub async fn get(&self, key: &str) -> Result<Versioned, Fault> {
        let input = GetInput { key: key.to_owned() };
        let output = self.handle.query(self.handle.place_of(key), &GET, input).await?;
        output.value.map(versioned).ok_or(NO_VALUE)
    }

    /// Writes an entry, whether there is one or not; with a `ttl`, with a `prev_version`. Writing
    /// the bytes that are there changes nothing, neither version nor time to live.
    ///
    /// # Errors
    /// CONFLICT when the version is not the demanded one.
    pub fn put(
        &self,
        key: &str,
        value: impl Into<Bytes>,
    ) -> Write<'_, PutInput, PutOutput, Written> {
        let input = PutInput { key: key.to_owned(), value: value.into(), ttl: None, prev_index: 0 };
        self.handle.write(self.handle.place_of(key), &PUT, input, |output| {
            Ok(Written { version: output.index, prev: output.prev_value.map(versioned) })
        })
    }

    /// Writes an entry if there is none; with a `ttl`.
    ///
    /// # Errors
    /// ALREADY_EXISTS when there is one.
    pub fn insert(
        &self,
        key: &str,
        value: impl Into<Bytes>,
    ) -> Write<'_, InsertInput, InsertOutput, Written> {
        let input = InsertInput { key: key.to_owned(), value: value.into(), ttl: None };
        self.handle.write(self.handle.place_of(key), &INSERT, input, |output| {
            Ok(Written { version: output.index, prev: None })
        })
    }

    /// Writes an entry if there is one; with a `ttl`, with a `prev_version`.
    ///
    /// # Errors
    /// NOT_FOUND when there is none, CONFLICT when its version is not the demanded one.
    pub fn update(
        &self,
        key: &str,
        value: impl Into<Bytes>,
    ) -> Write<'_, UpdateInput, UpdateOutput, Written> {
        let value = value.into();
        let input = UpdateInput { key: key.to_owned(), value, ttl: None, prev_index: 0 };
        self.handle.write(self.handle.place_of(key), &UPDATE, input, |output| {
            Ok(Written { version: output.index, prev: output.prev_value.map(versioned) })
        })
    }

    /// Removes an entry and gives what it was; with a `prev_version`.
    ///
    /// # Errors
    /// NOT_FOUND when there is none, CONFLICT when its version is not the demanded one.
    pub fn remove(&self, key: &str) -> Write<'_, RemoveInput, RemoveOutput, Versioned> {
        let input = RemoveInput { key: key.to_owned(), prev_index: 0 };
        self.handle.write(self.handle.place_of(key), &REMOVE, input, |output| {
            output.value.map(versioned).ok_or(NO_VALUE)
        })
    }

    /// How many entries it has; each partition's at a moment of its own.
    ///
    /// # Errors
    /// What the node says.
    pub async fn size(&self) -> Result<u64, Fault> {
        let sizes = self.handle.queries(&SIZE, SizeInput {}).await?;
        Ok(sizes.iter().map(|output| u64::from(output.size)).sum())
    }

    /// Removes all entries.
    ///
    /// # Errors
    /// What the node says; some partitions may then be empty already.
    pub async fn clear(&self) -> Result<(), Fault> {
        self.handle.commands(&CLEAR, self.handle.everywhere(ClearInput {})).await.map(drop)
    }

    /// Locks entries. No server that is known implements it.
    ///
    /// # Errors
    /// NOT_SUPPORTED.
    pub async fn lock(&self, keys: &[&str], wait: Option<Duration>) -> Result<(), Fault> {
        let timeout = wait.map(span);
        let of = |keys| LockInput { keys, timeout };
        self.handle.commands(&LOCK, self.handle.split(keys, of)).await.map(drop)
    }

    /// Unlocks entries. No server that is known implements it.
    ///
    /// # Errors
    /// NOT_SUPPORTED.
    pub async fn unlock(&self, keys: &[&str]) -> Result<(), Fault> {
        let of = |keys| UnlockInput { keys };
        self.handle.commands(&UNLOCK, self.handle.split(keys, of)).await.map(drop)
    }

    /// All entries; each partition's at a moment of its own.
    ///
    /// # Errors
    /// What the node says.
    pub async fn list(&self) -> Result<Vec<Entry<Versioned>>, Fault> {
        let input = EntriesInput { watch: false };
        let outputs = self.handle.listing(self.handle.places(None), &ENTRIES, input).await?;
        Ok(outputs.into_iter().filter_map(|output| output.entry).map(entry).collect())
    }

    /// All entries, and then each that changes, without a value when it is gone. Over with the
    /// connection.
    ///
    /// # Errors
    /// What the node says.
    pub async fn watch(&self) -> Result<Stream<Entry<Versioned>>, Fault> {
        let input = EntriesInput { watch: true };
        let places = self.handle.places(None);
        self.handle.answers(places, &ENTRIES, input, |output| Ok(output.entry.map(entry))).await
    }

    /// The changes to come, of `key` or of all, each once.
    ///
    /// # Errors
    /// What the node says.
    pub async fn events(&self, key: Option<&str>) -> Result<Stream<Event<Versioned>>, Fault> {
        let input = EventsInput { key: key.unwrap_or_default().to_owned() };
        let places = self.handle.places(key);
        self.handle.events(places, &EVENTS, input, |output| Ok(output.event.and_then(event))).await
    }
}

const NO_VALUE: Fault = Fault::Protocol("an entry without a value");

fn versioned(value: IndexedValue) -> Versioned {
    Versioned { value: value.value, version: value.index }
}

fn entry(entry: wire::Entry) -> Entry<Versioned> {
    Entry { key: entry.key, value: entry.value.map(versioned) }
}

fn event(event: wire::Event) -> Option<Event<Versioned>> {
    let value = |value: Option<IndexedValue>| value.map(versioned).unwrap_or_default();
    let change = match event.event? {
        wire::event::Event::Inserted(inserted) => Change::Inserted(value(inserted.value)),
        wire::event::Event::Updated(updated) => {
            Change::Updated { value: value(updated.value), prev: value(updated.prev_value) }
        }
        wire::event::Event::Removed(removed) => {
            Change::Removed { value: value(removed.value), expired: removed.expired }
        }
    };
    Some(Event { key: event.key, change })
}

const SIZE: Query<SizeInput, SizeOutput> = Method::at("/atomix.multiraft.map.v1.Map/Size");
const GET: Query<GetInput, GetOutput> = Method::at("/atomix.multiraft.map.v1.Map/Get");
const PUT: Command<PutInput, PutOutput> = Method::at("/atomix.multiraft.map.v1.Map/Put");
const INSERT: Command<InsertInput, InsertOutput> =
    Method::at("/atomix.multiraft.map.v1.Map/Insert");
const UPDATE: Command<UpdateInput, UpdateOutput> =
    Method::at("/atomix.multiraft.map.v1.Map/Update");
const REMOVE: Command<RemoveInput, RemoveOutput> =
    Method::at("/atomix.multiraft.map.v1.Map/Remove");
const CLEAR: Command<ClearInput, ClearOutput> = Method::at("/atomix.multiraft.map.v1.Map/Clear");
const LOCK: Command<LockInput, LockOutput> = Method::at("/atomix.multiraft.map.v1.Map/Lock");
const UNLOCK: Command<UnlockInput, UnlockOutput> =
    Method::at("/atomix.multiraft.map.v1.Map/Unlock");
const EVENTS: Command<EventsInput, EventsOutput> =
    Method::at("/atomix.multiraft.map.v1.Map/Events");
const ENTRIES: Query<EntriesInput, EntriesOutput> =
    Method::at("/atomix.multiraft.map.v1.Map/Entries");
