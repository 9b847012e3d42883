//! A map from text to 64-bit numbers, spread over all partitions by key.

use std::time::Duration;

use super::connection::Method;
use super::handle::primitive;
use super::session::{Command, Query, span};
use super::stream::Stream;
use super::{Change, Entry, Event, Fault};
use crate::wire::proto::countermap::v1 as wire;
use crate::wire::proto::countermap::v1::{
    ClearInput, ClearOutput, DecrementInput, DecrementOutput, EntriesInput, EntriesOutput,
    EventsInput, EventsOutput, GetInput, GetOutput, IncrementInput, IncrementOutput, InsertInput,
    InsertOutput, LockInput, LockOutput, RemoveInput, RemoveOutput, SetInput, SetOutput, SizeInput,
    SizeOutput, UnlockInput, UnlockOutput, UpdateInput, UpdateOutput,
};

primitive! {
    /// A map of counters by its name; empty when it is new.
    ///
    /// ```no_run
    /// # use ringraft::client::{Client, Fault};
    /// # async fn example(client: Client) -> Result<(), Fault> {
    /// let stock = client.countermap("stock");
    /// stock.set("apples", 5).await?;
    /// assert_eq!(stock.decrement("apples", 2).await?, 3);
    /// for entry in stock.list().await? {
    ///     println!("{} = {:?}", entry.key, entry.value);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    CounterMap, countermap, "atomix.runtime.countermap.v1.CounterMap"
}

impl CounterMap {
    /// The value at `key`.
    ///
    /// # Errors
    /// NOT_FOUND when there is none.
    pub async fn get(&self, key: &str) -> Result<i64, Fault> {
        let input = GetInput { key: key.to_owned() };
        Ok(self.handle.query(self.handle.place_of(key), &GET, input).await?.value)
    }

    /// Writes the value at `key`, and gives what was there; 0 when nothing was.
    ///
    /// # Errors
    /// What the node says.
    pub async fn set(&self, key: &str, value: i64) -> Result<i64, Fault> {
        let input = SetInput { key: key.to_owned(), value };
        Ok(self.handle.command(self.handle.place_of(key), &SET, input).await?.prev_value)
    }

    /// Writes the value at `key` if there is none.
    ///
    /// # Errors
    /// ALREADY_EXISTS when there is one.
    pub async fn insert(&self, key: &str, value: i64) -> Result<(), Fault> {
        let input = InsertInput { key: key.to_owned(), value };
        self.handle.command(self.handle.place_of(key), &INSERT, input).await.map(drop)
    }

    /// Writes the value at `key` if it is `prev`.
    ///
    /// # Errors
    /// NOT_FOUND when there is none, CONFLICT when it is another.
    pub async fn update(&self, key: &str, value: i64, prev: i64) -> Result<(), Fault> {
        let input = UpdateInput { key: key.to_owned(), value, prev_value: prev };
        self.handle.command(self.handle.place_of(key), &UPDATE, input).await.map(drop)
    }

    /// Adds `delta`, of which 0 counts as 1, and gives the new value. What is not there counts from
    /// 0.
    ///
    /// # Errors
    /// What the node says.
    pub async fn increment(&self, key: &str, delta: i64) -> Result<i64, Fault> {
        let input = IncrementInput { key: key.to_owned(), delta };
        let output = self.handle.command(self.handle.place_of(key), &INCREMENT, input).await?;
        Ok(output.prev_value.wrapping_add(counted(delta)))
    }

    /// Takes `delta` away, of which 0 counts as 1, and gives the new value.
    ///
    /// # Errors
    /// What the node says.
    pub async fn decrement(&self, key: &str, delta: i64) -> Result<i64, Fault> {
        let input = DecrementInput { key: key.to_owned(), delta };
        let output = self.handle.command(self.handle.place_of(key), &DECREMENT, input).await?;
        Ok(output.prev_value.wrapping_sub(counted(delta)))
    }

    /// Removes the entry at `key` if its value is `prev`; there is no removal of whatever it is.
    ///
    /// # Errors
    /// NOT_FOUND when there is none, CONFLICT when it is another.
    pub async fn remove(&self, key: &str, prev: i64) -> Result<i64, Fault> {
        let input = RemoveInput { key: key.to_owned(), prev_value: prev };
        Ok(self.handle.command(self.handle.place_of(key), &REMOVE, input).await?.value)
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
    pub async fn list(&self) -> Result<Vec<Entry<i64>>, Fault> {
        let input = EntriesInput { watch: false };
        let outputs = self.handle.listing(self.handle.places(None), &ENTRIES, input).await?;
        Ok(outputs.into_iter().filter_map(|output| output.entry).map(entry).collect())
    }

    /// All entries, and then each that is written, with its new value; what is removed is not told.
    /// Over with the connection.
    ///
    /// # Errors
    /// What the node says.
    pub async fn watch(&self) -> Result<Stream<Entry<i64>>, Fault> {
        let input = EntriesInput { watch: true };
        let places = self.handle.places(None);
        self.handle.answers(places, &ENTRIES, input, |output| Ok(output.entry.map(entry))).await
    }

    /// The changes to come, of `key` or of all, each once.
    ///
    /// # Errors
    /// What the node says.
    pub async fn events(&self, key: Option<&str>) -> Result<Stream<Event<i64>>, Fault> {
        let input = EventsInput { key: key.unwrap_or_default().to_owned() };
        let places = self.handle.places(key);
        self.handle.events(places, &EVENTS, input, |output| Ok(output.event.and_then(event))).await
    }
}

/// What a node makes of a delta.
fn counted(delta: i64) -> i64 {
    if delta == 0 { 1 } else { delta }
}

fn entry(entry: wire::Entry) -> Entry<i64> {
    Entry { key: entry.key, value: Some(entry.value) }
}

fn event(event: wire::Event) -> Option<Event<i64>> {
    let change = match event.event? {
        wire::event::Event::Inserted(inserted) => Change::Inserted(inserted.value),
        wire::event::Event::Updated(updated) => {
            Change::Updated { value: updated.value, prev: updated.prev_value }
        }
        wire::event::Event::Removed(removed) => {
            Change::Removed { value: removed.value, expired: false }
        }
    };
    Some(Event { key: event.key, change })
}

const SIZE: Query<SizeInput, SizeOutput> =
    Method::at("/atomix.multiraft.countermap.v1.CounterMap/Size");
const GET: Query<GetInput, GetOutput> =
    Method::at("/atomix.multiraft.countermap.v1.CounterMap/Get");
const SET: Command<SetInput, SetOutput> =
    Method::at("/atomix.multiraft.countermap.v1.CounterMap/Set");
const INSERT: Command<InsertInput, InsertOutput> =
    Method::at("/atomix.multiraft.countermap.v1.CounterMap/Insert");
const UPDATE: Command<UpdateInput, UpdateOutput> =
    Method::at("/atomix.multiraft.countermap.v1.CounterMap/Update");
const INCREMENT: Command<IncrementInput, IncrementOutput> =
    Method::at("/atomix.multiraft.countermap.v1.CounterMap/Increment");
const DECREMENT: Command<DecrementInput, DecrementOutput> =
    Method::at("/atomix.multiraft.countermap.v1.CounterMap/Decrement");
const REMOVE: Command<RemoveInput, RemoveOutput> =
    Method::at("/atomix.multiraft.countermap.v1.CounterMap/Remove");
const CLEAR: Command<ClearInput, ClearOutput> =
    Method::at("/atomix.multiraft.countermap.v1.CounterMap/Clear");
const LOCK: Command<LockInput, LockOutput> =
    Method::at("/atomix.multiraft.countermap.v1.CounterMap/Lock");
const UNLOCK: Command<UnlockInput, UnlockOutput> =
    Method::at("/atomix.multiraft.countermap.v1.CounterMap/Unlock");
const EVENTS: Command<EventsInput, EventsOutput> =
    Method::at("/atomix.multiraft.countermap.v1.CounterMap/Events");
const ENTRIES: Query<EntriesInput, EntriesOutput> =
    Method::at("/atomix.multiraft.countermap.v1.CounterMap/Entries");
