//! A lock: one holder, the others wait in the order in which they came.

use std::time::Duration;

use super::connection::Method;
use super::session::{Command, Patience, Primitive, Query, Session};
use super::{Client, Fault};
use crate::wire::proto::lock::v1::{
    AcquireInput, AcquireOutput, GetInput, GetOutput, ReleaseInput, ReleaseOutput,
};

/// A lock by its name.
pub struct Lock {
    session: Session,
    primitive: Primitive,
    patience: Patience,
}

impl Client {
    /// The lock `name`; free when it is new.
    ///
    /// # Errors
    /// What the node says.
    pub async fn lock(&self, name: &str) -> Result<Lock, Fault> {
        let session = self.session(self.layout.partition_of(name)).await?;
        let service = "atomix.runtime.lock.v1.Lock";
        let primitive = session.primitive(service, name, self.patience).await?;
        Ok(Lock { session, primitive, patience: self.patience })
    }
}

impl Lock {
    /// Waits for the lock, for ever or for `wait`, and gives its fencing token: it grows from
    /// holder to holder, so whoever is written to can refuse one who was too slow to notice that he
    /// lost the lock.
    ///
    /// # Errors
    /// `Fault::Refused` with CONFLICT when it was not had in time.
    pub async fn acquire(&self, wait: Option<Duration>) -> Result<u64, Fault> {
        let timeout = wait.map(|wait| prost_types::Duration {
            seconds: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            nanos: wait.subsec_nanos() as i32,
        });
        // The node ends the wait, not our patience: giving up here could leave us holding it.
        let output =
            self.primitive.command(&ACQUIRE, AcquireInput { timeout }, Patience::Endless).await?;
        Ok(output.index)
    }

    /// Gives it to the next who waits.
    ///
    /// # Errors
    /// `Fault::Refused` with CONFLICT when this session does not hold it.
    pub async fn release(&self) -> Result<(), Fault> {
        self.primitive.command(&RELEASE, ReleaseInput {}, self.patience).await.map(drop)
    }

    /// The token of whoever holds it.
    ///
    /// # Errors
    /// `Fault::Refused` with NOT_FOUND when it is free.
    pub async fn holder(&self) -> Result<u64, Fault> {
        Ok(self.primitive.query(&GET, GetInput {}, self.patience).await?.index)
    }

    /// Returns when the session is lost, and the lock with it.
    pub async fn lost(&self) {
        self.session.lost().await;
    }
}

const ACQUIRE: Command<AcquireInput, AcquireOutput> =
    Method::at("/atomix.multiraft.lock.v1.Lock/Acquire");
const RELEASE: Command<ReleaseInput, ReleaseOutput> =
    Method::at("/atomix.multiraft.lock.v1.Lock/Release");
const GET: Query<GetInput, GetOutput> = Method::at("/atomix.multiraft.lock.v1.Lock/Get");
