//! A counter: one 64-bit number that wraps around.

use super::connection::Method;
use super::session::{Command, Patience, Primitive, Query};
use super::{Client, Fault};
use crate::wire::proto::counter::v1::{
    GetInput, GetOutput, IncrementInput, IncrementOutput, SetInput, SetOutput, UpdateInput,
    UpdateOutput,
};

/// A counter by its name.
pub struct Counter {
    primitive: Primitive,
    patience: Patience,
}

impl Client {
    /// The counter `name`; 0 when it is new.
    ///
    /// # Errors
    /// What the node says.
    pub async fn counter(&self, name: &str) -> Result<Counter, Fault> {
        let partition = self.layout.partition_of(name);
        let primitive =
            self.primitive("atomix.runtime.counter.v1.Counter", name, partition).await?;
        Ok(Counter { primitive, patience: self.patience })
    }
}

impl Counter {
    /// Its value.
    ///
    /// # Errors
    /// What the node says.
    pub async fn get(&self) -> Result<i64, Fault> {
        let output = self.primitive.query(&GET, GetInput {}, self.patience).await?;
        Ok(output.value)
    }

    /// Gives it a value.
    ///
    /// # Errors
    /// What the node says.
    pub async fn set(&self, value: i64) -> Result<i64, Fault> {
        let output = self.primitive.command(&SET, SetInput { value }, self.patience).await?;
        Ok(output.value)
    }

    /// Adds `delta`, which may be below zero, and gives the new value.
    ///
    /// # Errors
    /// What the node says.
    pub async fn add(&self, delta: i64) -> Result<i64, Fault> {
        let input = IncrementInput { delta };
        let output = self.primitive.command(&INCREMENT, input, self.patience).await?;
        Ok(output.value)
    }

    /// Gives it the value `update` if it has the value `compare`.
    ///
    /// # Errors
    /// `Fault::Refused` with CONFLICT when it has another.
    pub async fn update(&self, compare: i64, update: i64) -> Result<i64, Fault> {
        let input = UpdateInput { compare, update };
        let output = self.primitive.command(&UPDATE, input, self.patience).await?;
        Ok(output.value)
    }
}

const GET: Query<GetInput, GetOutput> = Method::at("/atomix.multiraft.counter.v1.Counter/Get");
const SET: Command<SetInput, SetOutput> = Method::at("/atomix.multiraft.counter.v1.Counter/Set");
const INCREMENT: Command<IncrementInput, IncrementOutput> =
    Method::at("/atomix.multiraft.counter.v1.Counter/Increment");
const UPDATE: Command<UpdateInput, UpdateOutput> =
    Method::at("/atomix.multiraft.counter.v1.Counter/Update");
