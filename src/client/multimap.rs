//! A map from text to sets of texts, spread over all partitions by key. A key is there as long as
//! it has values.

use super::connection::Method;
use super::handle::{grouped, primitive};
use super::session::{Command, Query};
use super::stream::Stream;
use super::{Entry, Fault};
use crate::wire::proto::multimap::v1 as wire;
use crate::wire::proto::multimap::v1::{
    ClearInput, ClearOutput, ContainsInput, ContainsOutput, EntriesInput, EntriesOutput,
    EventsInput, EventsOutput, GetInput, GetOutput, PutAllInput, PutAllOutput, PutEntriesInput,
    PutEntriesOutput, PutInput, PutOutput, RemoveAllInput, RemoveAllOutput, RemoveEntriesInput,
    RemoveEntriesOutput, RemoveInput, RemoveOutput, ReplaceInput, ReplaceOutput, SizeInput,
    SizeOutput,
};

primitive! {
    /// A multimap by its name; empty when it is new.
    ///
    /// ```no_run
    /// # use ringraft::client::{Client, Fault};
    /// # async fn example(client: Client) -> Result<(), Fault> {
    /// let tags = client.multimap("tags");
    /// tags.put("rose", "red").await?;
    /// tags.put_all("rose", &["sweet", "thorny"]).await?;
    /// assert_eq!(tags.get("rose").await?, ["red", "sweet", "thorny"]);
    /// tags.remove("rose", "red").await?;
    /// # Ok(())
    /// # }
    /// ```
    MultiMap, multimap, "atomix.runtime.multimap.v1.MultiMap"
}

/// A change of one value of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pair {
    /// The value is new at the key.
    #[allow(missing_docs)]
    Added { key: String, value: String },
    /// The value is gone from the key.
    #[allow(missing_docs)]
    Removed { key: String, value: String },
}

impl MultiMap {
    /// The values of `key`; none when it is not there.
    ///
    /// # Errors
    /// What the node says.
    pub async fn get(&self, key: &str) -> Result<Vec<String>, Fault> {
        let input = GetInput { key: key.to_owned() };
        Ok(self.handle.query(self.handle.place_of(key), &GET, input).await?.values)
    }

    /// Whether `key` has this value.
    ///
    /// # Errors
    /// What the node says.
    pub async fn contains(&self, key: &str, value: &str) -> Result<bool, Fault> {
        let input = ContainsInput { key: key.to_owned(), value: value.to_owned() };
        Ok(self.handle.query(self.handle.place_of(key), &CONTAINS, input).await?.result)
    }

    /// Adds a value to `key`.
    ///
    /// # Errors
    /// ALREADY_EXISTS when it has it.
    pub async fn put(&self, key: &str, value: &str) -> Result<(), Fault> {
        let input = PutInput { key: key.to_owned(), value: value.to_owned() };
        self.handle.command(self.handle.place_of(key), &PUT, input).await.map(drop)
    }

    /// Adds those values to `key` that it does not have; says whether there were any.
    ///
    /// # Errors
    /// What the node says.
    pub async fn put_all(&self, key: &str, values: &[&str]) -> Result<bool, Fault> {
        let input = PutAllInput { key: key.to_owned(), values: owned(values) };
        Ok(self.handle.command(self.handle.place_of(key), &PUT_ALL, input).await?.updated)
    }

    /// The same for many keys; at once within a partition only.
    ///
    /// # Errors
    /// What the node says; some partitions may then have their share.
    pub async fn put_entries(&self, entries: &[(&str, &[&str])]) -> Result<bool, Fault> {
        let of = |(place, entries)| (place, PutEntriesInput { entries });
        let inputs = self.entries(entries).map(of).collect();
        let outputs = self.handle.commands(&PUT_ENTRIES, inputs).await?;
        Ok(outputs.iter().any(|output| output.updated))
    }

    /// Makes `values` all the values of `key`, and gives what it had.
    ///
    /// # Errors
    /// What the node says.
    pub async fn replace(&self, key: &str, values: &[&str]) -> Result<Vec<String>, Fault> {
        let input = ReplaceInput { key: key.to_owned(), values: owned(values) };
        Ok(self.handle.command(self.handle.place_of(key), &REPLACE, input).await?.prev_values)
    }

    /// Removes a value from `key`.
    ///
    /// # Errors
    /// NOT_FOUND when it does not have it.
    pub async fn remove(&self, key: &str, value: &str) -> Result<(), Fault> {
        let input = RemoveInput { key: key.to_owned(), value: value.to_owned() };
        self.handle.command(self.handle.place_of(key), &REMOVE, input).await.map(drop)
    }

    /// Removes those values from `key` that it has; says whether there were any.
    ///
    /// # Errors
    /// NOT_FOUND when there is no such key.
    pub async fn remove_all(&self, key: &str, values: &[&str]) -> Result<bool, Fault> {
        let input = RemoveAllInput { key: key.to_owned(), values: owned(values) };
        Ok(self.handle.command(self.handle.place_of(key), &REMOVE_ALL, input).await?.updated)
    }

    /// The same for many keys, of which some may not be there; at once within a partition only.
    ///
    /// # Errors
    /// What the node says; some partitions may then have their share.
    pub async fn remove_entries(&self, entries: &[(&str, &[&str])]) -> Result<bool, Fault> {
        let of = |(place, entries)| (place, RemoveEntriesInput { entries });
        let inputs = self.entries(entries).map(of).collect();
        let outputs = self.handle.commands(&REMOVE_ENTRIES, inputs).await?;
        Ok(outputs.iter().any(|output| output.updated))
    }

    /// How many keys it has; each partition's at a moment of its own.
    ///
    /// # Errors
    /// What the node says.
    pub async fn size(&self) -> Result<u64, Fault> {
        let sizes = self.handle.queries(&SIZE, SizeInput {}).await?;
        Ok(sizes.iter().map(|output| u64::from(output.size)).sum())
    }

    /// Removes all keys.
    ///
    /// # Errors
    /// What the node says; some partitions may then be empty already.
    pub async fn clear(&self) -> Result<(), Fault> {
        self.handle.commands(&CLEAR, self.handle.everywhere(ClearInput {})).await.map(drop)
    }

    /// All keys with their values; each partition's at a moment of its own.
    ///
    /// # Errors
    /// What the node says.
    pub async fn list(&self) -> Result<Vec<Entry<Vec<String>>>, Fault> {
        let input = EntriesInput { watch: false };
        let outputs = self.handle.listing(self.handle.places(None), &ENTRIES, input).await?;
        Ok(outputs.into_iter().filter_map(|output| output.entry).map(entry).collect())
    }

    /// All keys with their values, and then each key that changes with all its values, without any
    /// when it is gone. Over with the connection.
    ///
    /// # Errors
    /// What the node says.
    pub async fn watch(&self) -> Result<Stream<Entry<Vec<String>>>, Fault> {
        let input = EntriesInput { watch: true };
        let places = self.handle.places(None);
        self.handle.answers(places, &ENTRIES, input, |output| Ok(output.entry.map(entry))).await
    }

    /// The changes to come, of `key` or of all, each once.
    ///
    /// # Errors
    /// What the node says.
    pub async fn events(&self, key: Option<&str>) -> Result<Stream<Pair>, Fault> {
        let input = EventsInput { key: key.unwrap_or_default().to_owned() };
        let places = self.handle.places(key);
        self.handle.events(places, &EVENTS, input, |output| Ok(output.event.and_then(pair))).await
    }

    /// Entries by the partition of their key.
    fn entries(
        &self,
        entries: &[(&str, &[&str])],
    ) -> impl Iterator<Item = (usize, Vec<wire::Entry>)> {
        let entry = |(key, values): &(&str, &[&str])| {
            let entry = wire::Entry { key: (*key).to_owned(), values: owned(values) };
            (self.handle.place_of(key), entry)
        };
        grouped(entries.iter().map(entry)).into_iter()
    }
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn entry(entry: wire::Entry) -> Entry<Vec<String>> {
    let value = (!entry.values.is_empty()).then_some(entry.values);
    Entry { key: entry.key, value }
}

fn pair(event: wire::Event) -> Option<Pair> {
    let key = event.key;
    Some(match event.event? {
        wire::event::Event::Added(added) => Pair::Added { key, value: added.value },
        wire::event::Event::Removed(removed) => Pair::Removed { key, value: removed.value },
    })
}

const SIZE: Query<SizeInput, SizeOutput> =
    Method::at("/atomix.multiraft.multimap.v1.MultiMap/Size");
const PUT: Command<PutInput, PutOutput> = Method::at("/atomix.multiraft.multimap.v1.MultiMap/Put");
const PUT_ALL: Command<PutAllInput, PutAllOutput> =
    Method::at("/atomix.multiraft.multimap.v1.MultiMap/PutAll");
const PUT_ENTRIES: Command<PutEntriesInput, PutEntriesOutput> =
    Method::at("/atomix.multiraft.multimap.v1.MultiMap/PutEntries");
const REPLACE: Command<ReplaceInput, ReplaceOutput> =
    Method::at("/atomix.multiraft.multimap.v1.MultiMap/Replace");
const CONTAINS: Query<ContainsInput, ContainsOutput> =
    Method::at("/atomix.multiraft.multimap.v1.MultiMap/Contains");
const GET: Query<GetInput, GetOutput> = Method::at("/atomix.multiraft.multimap.v1.MultiMap/Get");
const REMOVE: Command<RemoveInput, RemoveOutput> =
    Method::at("/atomix.multiraft.multimap.v1.MultiMap/Remove");
const REMOVE_ALL: Command<RemoveAllInput, RemoveAllOutput> =
    Method::at("/atomix.multiraft.multimap.v1.MultiMap/RemoveAll");
const REMOVE_ENTRIES: Command<RemoveEntriesInput, RemoveEntriesOutput> =
    Method::at("/atomix.multiraft.multimap.v1.MultiMap/RemoveEntries");
const CLEAR: Command<ClearInput, ClearOutput> =
    Method::at("/atomix.multiraft.multimap.v1.MultiMap/Clear");
const EVENTS: Command<EventsInput, EventsOutput> =
    Method::at("/atomix.multiraft.multimap.v1.MultiMap/Events");
const ENTRIES: Query<EntriesInput, EntriesOutput> =
    Method::at("/atomix.multiraft.multimap.v1.MultiMap/Entries");
