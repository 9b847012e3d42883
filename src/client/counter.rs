//! A counter: one 64-bit number that wraps around. It lives in the partition of its name.

use super::Fault;
use super::connection::Method;
use super::handle::primitive;
use super::session::{Command, Query};
use crate::wire::proto::counter::v1::{
    DecrementInput, DecrementOutput, GetInput, GetOutput, IncrementInput, IncrementOutput,
    SetInput, SetOutput, UpdateInput, UpdateOutput,
};

primitive! {
    /// A counter by its name; 0 when it is new.
    ///
    /// ```no_run
    /// # use ringraft::client::{Client, Fault};
    /// # async fn example(client: Client) -> Result<(), Fault> {
    /// let visits = client.counter("visits");
    /// assert_eq!(visits.set(40).await?, 40);
    /// assert_eq!(visits.increment(2).await?, 42);
    /// // Only if it is 42 still.
    /// visits.update(42, 0).await?;
    /// # Ok(())
    /// # }
    /// ```
    Counter, counter, "atomix.runtime.counter.v1.Counter"
}

impl Counter {
    /// Its value.
    ///
    /// # Errors
    /// What the node says.
    pub async fn get(&self) -> Result<i64, Fault> {
        Ok(self.handle.query(self.handle.home(), &GET, GetInput {}).await?.value)
    }

    /// Gives it a value, and returns it.
    ///
    /// # Errors
    /// What the node says.
    pub async fn set(&self, value: i64) -> Result<i64, Fault> {
        Ok(self.handle.command(self.handle.home(), &SET, SetInput { value }).await?.value)
    }

    /// Adds `delta`, which may be below zero, and gives the new value.
    ///
    /// # Errors
    /// What the node says.
    pub async fn increment(&self, delta: i64) -> Result<i64, Fault> {
        let input = IncrementInput { delta };
        Ok(self.handle.command(self.handle.home(), &INCREMENT, input).await?.value)
    }

    /// Takes `delta` away, and gives the new value.
    ///
    /// # Errors
    /// What the node says.
    pub async fn decrement(&self, delta: i64) -> Result<i64, Fault> {
        let input = DecrementInput { delta };
        Ok(self.handle.command(self.handle.home(), &DECREMENT, input).await?.value)
    }

    /// Gives it the value `update` if it has the value `compare`.
    ///
    /// # Errors
    /// CONFLICT when it has another.
    pub async fn update(&self, compare: i64, update: i64) -> Result<i64, Fault> {
        let input = UpdateInput { compare, update };
        Ok(self.handle.command(self.handle.home(), &UPDATE, input).await?.value)
    }
}

const GET: Query<GetInput, GetOutput> = Method::at("/atomix.multiraft.counter.v1.Counter/Get");
const SET: Command<SetInput, SetOutput> = Method::at("/atomix.multiraft.counter.v1.Counter/Set");
const INCREMENT: Command<IncrementInput, IncrementOutput> =
    Method::at("/atomix.multiraft.counter.v1.Counter/Increment");
const DECREMENT: Command<DecrementInput, DecrementOutput> =
    Method::at("/atomix.multiraft.counter.v1.Counter/Decrement");
const UPDATE: Command<UpdateInput, UpdateOutput> =
    Method::at("/atomix.multiraft.counter.v1.Counter/Update");
