//! A map from text to bytes, spread over all partitions by key. Each entry has a version: the index
//! of the command that wrote it.

use std::time::Duration;

use bytes::Bytes;

use super::connection::Method;
use super::session::{Command, Events, Primitive, Query, insist};
use super::{Client, Fault};
use crate::wire::proto::map::v1::{
    ClearInput, ClearOutput, EntriesInput, EntriesOutput, Entry, Event, EventsInput, EventsOutput,
    GetInput, GetOutput, IndexedValue, InsertInput, InsertOutput, PutInput, PutOutput, RemoveInput,
    RemoveOutput, SizeInput, SizeOutput, UpdateInput, UpdateOutput,
};

/// A map by its name.
pub struct Map<'a> {
    client: &'a Client,
    name: String,
}

/// What a write demands of the entry as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Demand {
    /// Nothing.
    Anything,
    /// That there is none.
    Absent,
    /// That it has this version.
    Version(u64),
}

/// The changes of one partition's share of a map, in order.
pub struct Changes(Events<EventsInput, EventsOutput>);

impl Client {
    /// The map `name`; empty when it is new.
    #[must_use]
    pub fn map(&self, name: &str) -> Map<'_> {
        Map { client: self, name: name.to_owned() }
    }
}

impl Map<'_> {
    /// The value of `key` and its version.
    ///
    /// # Errors
    /// `Fault::Refused` with NOT_FOUND when there is none.
    pub async fn get(&self, key: &str) -> Result<IndexedValue, Fault> {
        let input = GetInput { key: key.to_owned() };
        let share = self.share_of(key).await?;
        let output = share.query(&GET, input, self.client.patience).await?;
        output.value.ok_or(Fault::Protocol("an entry without a value"))
    }

    /// Writes an entry and gives its version; `ttl` is how long it lives, `None` for ever.
    ///
    /// # Errors
    /// `Fault::Refused` with ALREADY_EXISTS, NOT_FOUND or CONFLICT when the demand is not met.
    pub async fn put(
        &self,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
        demand: Demand,
    ) -> Result<u64, Fault> {
        let share = self.share_of(key).await?;
        let patience = self.client.patience;
        let key = key.to_owned();
        let ttl = ttl.map(|ttl| prost_types::Duration {
            seconds: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
            nanos: ttl.subsec_nanos() as i32,
        });
        match demand {
            Demand::Anything => {
                let input = PutInput { key, value, ttl, prev_index: 0 };
                Ok(share.command(&PUT, input, patience).await?.index)
            }
            Demand::Absent => {
                let input = InsertInput { key, value, ttl };
                Ok(share.command(&INSERT, input, patience).await?.index)
            }
            Demand::Version(prev_index) => {
                let input = UpdateInput { key, value, ttl, prev_index };
                Ok(share.command(&UPDATE, input, patience).await?.index)
            }
        }
    }

    /// Removes an entry, of whatever version when it is 0, and gives what it was.
    ///
    /// # Errors
    /// `Fault::Refused` with NOT_FOUND or CONFLICT.
    pub async fn remove(&self, key: &str, version: u64) -> Result<IndexedValue, Fault> {
        let input = RemoveInput { key: key.to_owned(), prev_index: version };
        let share = self.share_of(key).await?;
        let output = share.command(&REMOVE, input, self.client.patience).await?;
        output.value.ok_or(Fault::Protocol("a removed entry without a value"))
    }

    /// How many entries it has; each partition's at a moment of its own.
    ///
    /// # Errors
    /// What the node says.
    pub async fn size(&self) -> Result<u64, Fault> {
        let mut size = 0;
        for partition in self.client.layout.all() {
            let share = self.share(*partition).await?;
            size += u64::from(share.query(&SIZE, SizeInput {}, self.client.patience).await?.size);
        }
        Ok(size)
    }

    /// Removes all entries, partition after partition.
    ///
    /// # Errors
    /// What the node says; some partitions may then be empty already.
    pub async fn clear(&self) -> Result<(), Fault> {
        for partition in self.client.layout.all() {
            let share = self.share(*partition).await?;
            share.command(&CLEAR, ClearInput {}, self.client.patience).await?;
        }
        Ok(())
    }

    /// All its entries, by partition; each partition's at a moment of its own.
    ///
    /// # Errors
    /// What the node says.
    pub async fn entries(&self, mut each: impl FnMut(Entry)) -> Result<(), Fault> {
        for partition in self.client.layout.all() {
            let share = self.share(*partition).await?;
            // A listing that broke off is asked for again as a whole.
            let listing = || list(&share);
            let entries = insist(self.client.patience, u64::from(*partition), listing).await?;
            entries.into_iter().for_each(&mut each);
        }
        Ok(())
    }

    /// The partitions to watch for the changes of `key`, or of all when it is `None`.
    #[must_use]
    pub fn partitions_of(&self, key: Option<&str>) -> Vec<u32> {
        match key {
            Some(key) => vec![self.client.layout.partition_of(key)],
            None => self.client.layout.all().to_vec(),
        }
    }

    /// The changes to come in `partition`, of `key` or of all.
    ///
    /// # Errors
    /// What the node says.
    pub async fn changes(&self, partition: u32, key: Option<&str>) -> Result<Changes, Fault> {
        let share = self.share(partition).await?;
        let input = EventsInput { key: key.unwrap_or_default().to_owned() };
        Ok(Changes(share.events("/atomix.multiraft.map.v1.Map/Events", input)))
    }

    async fn share_of(&self, key: &str) -> Result<Primitive, Fault> {
        self.share(self.client.layout.partition_of(key)).await
    }

    async fn share(&self, partition: u32) -> Result<Primitive, Fault> {
        self.client.primitive("atomix.runtime.map.v1.Map", &self.name, partition).await
    }
}

async fn list(share: &Primitive) -> Result<Vec<Entry>, Fault> {
    let mut answers = share.answers(&ENTRIES, EntriesInput { watch: false }).await?;
    let mut entries = Vec::new();
    while let Some(output) = answers.next().await? {
        entries.extend(output.entry);
    }
    Ok(entries)
}

impl Changes {
    /// The next change; `None` when there will be no more.
    ///
    /// # Errors
    /// What the node says.
    pub async fn next(&mut self) -> Result<Option<Event>, Fault> {
        match self.0.next().await? {
            Some(output) => {
                output.event.ok_or(Fault::Protocol("an event without content")).map(Some)
            }
            None => Ok(None),
        }
    }
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
const ENTRIES: Query<EntriesInput, EntriesOutput> =
    Method::at("/atomix.multiraft.map.v1.Map/Entries");
