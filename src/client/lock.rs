//! A lock: one holder, the others wait in the order in which they came. It lives in the partition
//! of its name.
//!
//! A session may be granted a lock that nobody waits for any more: the answer was on its way when
//! the caller gave up. So an acquisition that was begun goes on to its end on the thread, and what
//! nobody takes is given back at once. Whoever does not want to wait for long says so with `wait`,
//! for then the node ends the wait.

use std::time::Duration;

use super::connection::Method;
use super::handle::primitive;
use super::session::{Command, Primitive, Query, span};
use super::way::Until;
use super::{Client, Fault};
use crate::wire::proto::lock::v1::{
    AcquireInput, AcquireOutput, GetInput, GetOutput, ReleaseInput, ReleaseOutput,
};

primitive! {
    /// A lock by its name; free when it is new.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use ringraft::client::{Client, Fault};
    /// # async fn example(client: Client) -> Result<(), Fault> {
    /// let door = client.lock("door");
    /// let held = door.acquire(Some(Duration::from_secs(5))).await?;
    /// println!("mine, token {}", held.token());
    /// // Dropping it gives the lock back too, but nobody can wait for that.
    /// held.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    Lock, lock, "atomix.runtime.lock.v1.Lock"
}

/// A lock that is held. Dropping it gives it back in the background.
pub struct Held {
    // First: the release is begun before the thread may end.
    granted: Granted,
    client: Client,
}

/// What the thread was granted; whoever drops it gives it back.
struct Granted {
    primitive: Option<Primitive>,
    token: u64,
    patience: Duration,
    thread: tokio::runtime::Handle,
}

impl Lock {
    /// Waits for the lock, for ever or for `wait`. It is not held twice by one client: whoever
    /// holds it and asks again waits.
    ///
    /// # Errors
    /// CONFLICT when it was not had in time; zero does not wait at all.
    pub async fn acquire(&self, wait: Option<Duration>) -> Result<Held, Fault> {
        let (share, patience) = (self.handle.share(), self.handle.patience());
        let client = self.handle.client().clone();
        let (place, thread) = (self.handle.home(), client.background().clone());
        let timeout = wait.map(span);
        let work = async move {
            let primitive = share.at(place, Until::after(patience)).await?;
            let input = AcquireInput { timeout };
            let output = primitive.command(&ACQUIRE, input, Until(None)).await?;
            Ok(Granted { primitive: Some(primitive), token: output.index, patience, thread })
        };
        let granted = client.shared.background.run_to_its_end(work).await?;
        Ok(Held { granted, client })
    }

    /// Releases what this client holds of it, whoever acquired it.
    ///
    /// # Errors
    /// CONFLICT when this client does not hold it.
    pub async fn release(&self) -> Result<(), Fault> {
        self.handle.command(self.handle.home(), &RELEASE, ReleaseInput {}).await.map(drop)
    }

    /// The token of whoever holds it.
    ///
    /// # Errors
    /// NOT_FOUND when it is free.
    pub async fn holder(&self) -> Result<u64, Fault> {
        Ok(self.handle.query(self.handle.home(), &GET, GetInput {}).await?.index)
    }
}

impl Held {
    /// The fencing token: it grows from holder to holder, so whoever is written to can refuse one
    /// who was too slow to notice that he lost the lock.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.granted.token
    }

    /// Returns when the session is over, and the lock lost with it.
    pub async fn lost(&self) {
        if let Some(primitive) = &self.granted.primitive {
            primitive.session.end().await;
        }
    }

    /// Gives the lock to the next who waits.
    ///
    /// # Errors
    /// CONFLICT when it is not held any more.
    pub async fn release(mut self) -> Result<(), Fault> {
        let patience = self.granted.patience;
        let Some(primitive) = self.granted.primitive.take() else { return Ok(()) };
        // A caller that gives up half way wants the lock released nonetheless.
        let work = async move { release(&primitive, patience).await };
        self.client.shared.background.run_to_its_end(work).await
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        if let Some(primitive) = self.primitive.take() {
            let patience = self.patience;
            self.thread.spawn(async move { drop(release(&primitive, patience).await) });
        }
    }
}

async fn release(primitive: &Primitive, patience: Duration) -> Result<(), Fault> {
    primitive.command(&RELEASE, ReleaseInput {}, Until::after(patience)).await.map(drop)
}

const ACQUIRE: Command<AcquireInput, AcquireOutput> =
    Method::at("/atomix.multiraft.lock.v1.Lock/Acquire");
const RELEASE: Command<ReleaseInput, ReleaseOutput> =
    Method::at("/atomix.multiraft.lock.v1.Lock/Release");
const GET: Query<GetInput, GetOutput> = Method::at("/atomix.multiraft.lock.v1.Lock/Get");
