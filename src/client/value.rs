//! One value of bytes with a version. It lives in the partition of its name.

use bytes::Bytes;

use super::connection::Method;
use super::handle::{Write, primitive, writes};
use super::session::{Command, Query};
use super::stream::Stream;
use super::{Change, Fault, Versioned, Written};
use crate::wire::proto::value::v1 as wire;
use crate::wire::proto::value::v1::{
    DeleteInput, DeleteOutput, EventsInput, EventsOutput, GetInput, GetOutput, IndexedValue,
    InsertInput, InsertOutput, SetInput, SetOutput, UpdateInput, UpdateOutput, WatchInput,
    WatchOutput,
};

primitive! {
    /// A value by its name; unset when it is new.
    ///
    /// ```no_run
    /// # use ringraft::client::{Client, Fault};
    /// # async fn example(client: Client) -> Result<(), Fault> {
    /// let config = client.value("config");
    /// let written = config.set("level = 3").await?;
    /// // Only if nobody wrote it since.
    /// config.update("level = 4").prev_version(written.version).await?;
    /// let mut values = config.watch().await?;
    /// while let Some(value) = values.next().await? {
    ///     println!("version {}", value.version);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    Value, value, "atomix.runtime.value.v1.Value"
}

writes! {
    ttl SetInput; ttl InsertInput; ttl UpdateInput;
    prev UpdateInput, prev_index; prev DeleteInput, prev_index;
}

impl Value {
    /// The value and its version.
    ///
    /// # Errors
    /// NOT_FOUND when it is not set.
    pub async fn get(&self) -> Result<Versioned, Fault> {
        let output = self.handle.query(self.handle.home(), &GET, GetInput {}).await?;
        output.value.map(versioned).ok_or(NO_VALUE)
    }

    /// Writes it, whether it is set or not; with a `ttl`.
    ///
    /// # Errors
    /// What the node says.
    pub fn set(&self, value: impl Into<Bytes>) -> Write<'_, SetInput, SetOutput, Written> {
        let input = SetInput { value: value.into(), ttl: None };
        self.handle.write(self.handle.home(), &SET, input, |output| {
            Ok(Written { version: output.index, prev: output.prev_value.map(versioned) })
        })
    }

    /// Writes it if it is not set; with a `ttl`.
    ///
    /// # Errors
    /// ALREADY_EXISTS when it is set.
    pub fn insert(&self, value: impl Into<Bytes>) -> Write<'_, InsertInput, InsertOutput, Written> {
        let input = InsertInput { value: value.into(), ttl: None };
        self.handle.write(self.handle.home(), &INSERT, input, |output| {
            Ok(Written { version: output.index, prev: None })
        })
    }

    /// Writes it if it is set; with a `ttl`, with a `prev_version`.
    ///
    /// # Errors
    /// NOT_FOUND when it is not set, CONFLICT when its version is not the demanded one.
    pub fn update(&self, value: impl Into<Bytes>) -> Write<'_, UpdateInput, UpdateOutput, Written> {
        let input = UpdateInput { value: value.into(), ttl: None, prev_index: 0 };
        self.handle.write(self.handle.home(), &UPDATE, input, |output| {
            Ok(Written { version: output.index, prev: output.prev_value.map(versioned) })
        })
    }

    /// Unsets it and gives what it was; with a `prev_version`.
    ///
    /// # Errors
    /// NOT_FOUND when it is not set, CONFLICT when its version is not the demanded one.
    pub fn delete(&self) -> Write<'_, DeleteInput, DeleteOutput, Versioned> {
        self.handle.write(self.handle.home(), &DELETE, DeleteInput { prev_index: 0 }, |output| {
            output.value.map(versioned).ok_or(NO_VALUE)
        })
    }

    /// The value if it is set, and then each that is written; that it is deleted is not told. Over
    /// with the connection.
    ///
    /// # Errors
    /// What the node says.
    pub async fn watch(&self) -> Result<Stream<Versioned>, Fault> {
        let convert = |output: WatchOutput| Ok(output.value.map(versioned));
        self.handle.answers(vec![self.handle.home()], &WATCH, WatchInput {}, convert).await
    }

    /// The changes to come, each once.
    ///
    /// # Errors
    /// What the node says.
    pub async fn events(&self) -> Result<Stream<Change<Versioned>>, Fault> {
        let convert = |output: EventsOutput| Ok(output.event.and_then(change));
        self.handle.events(vec![self.handle.home()], &EVENTS, EventsInput {}, convert).await
    }
}

const NO_VALUE: Fault = Fault::Protocol("an answer without a value");

fn versioned(value: IndexedValue) -> Versioned {
    Versioned { value: value.value, version: value.index }
}

fn change(event: wire::Event) -> Option<Change<Versioned>> {
    let value = |value: Option<IndexedValue>| value.map(versioned).unwrap_or_default();
    Some(match event.event? {
        wire::event::Event::Created(created) => Change::Inserted(value(created.value)),
        wire::event::Event::Updated(updated) => {
            Change::Updated { value: value(updated.value), prev: value(updated.prev_value) }
        }
        wire::event::Event::Deleted(deleted) => {
            Change::Removed { value: value(deleted.value), expired: deleted.expired }
        }
    })
}

const SET: Command<SetInput, SetOutput> = Method::at("/atomix.multiraft.value.v1.Value/Set");
const INSERT: Command<InsertInput, InsertOutput> =
    Method::at("/atomix.multiraft.value.v1.Value/Insert");
const UPDATE: Command<UpdateInput, UpdateOutput> =
    Method::at("/atomix.multiraft.value.v1.Value/Update");
const GET: Query<GetInput, GetOutput> = Method::at("/atomix.multiraft.value.v1.Value/Get");
const DELETE: Command<DeleteInput, DeleteOutput> =
    Method::at("/atomix.multiraft.value.v1.Value/Delete");
const WATCH: Query<WatchInput, WatchOutput> = Method::at("/atomix.multiraft.value.v1.Value/Watch");
const EVENTS: Command<EventsInput, EventsOutput> =
    Method::at("/atomix.multiraft.value.v1.Value/Events");
