//! The library's own thread, so that its users may run on any executor, or on none.
//!
//! Connections, timers, keep-alives and retries live here, on a current-thread tokio runtime. What
//! callers hold are channels of `tokio::sync`, which need no runtime: a future that waits for one
//! may be polled by tokio, smol, glommio or a plain `block_on`. The thread ends when the last
//! handle is gone. Absent on purpose: more than one thread (a client waits far more than it works).

use std::pin::Pin;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::Fault;

/// What the thread does last.
pub type Farewell = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The thread; it ends with this value.
pub struct Background {
    handle: Handle,
    farewell: Option<oneshot::Sender<Farewell>>,
}

impl Background {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread or no descriptor.
    pub fn start() -> Result<Background, Fault> {
        let failed = |error: std::io::Error| Fault::Unreachable {
            endpoint: "the client's own thread".to_owned(),
            reason: error.to_string(),
        };
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(failed)?;
        let handle = runtime.handle().clone();
        let (farewell, last) = oneshot::channel::<Farewell>();
        let work = move || {
            runtime.block_on(async {
                if let Ok(last) = last.await {
                    last.await;
                }
            });
            // A name that is still being looked up must not hold up the end.
            runtime.shutdown_background();
        };
        thread::Builder::new().name("ringraft-client".to_owned()).spawn(work).map_err(failed)?;
        Ok(Background { handle, farewell: Some(farewell) })
    }

    /// Where to leave work that nobody waits for.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Does `work` on the thread. Dropping the future that waits for it drops the work.
    ///
    /// # Errors
    /// What the work says.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        let (mut sender, receiver) = oneshot::channel();
        self.handle.spawn(async move {
            tokio::select! {
                biased;
                () = sender.closed() => {}
                outcome = work => drop(sender.send(outcome)),
            }
        });
        receiver.await.unwrap_or(Err(Fault::Closed))
    }

    /// The same, but the work goes on to its end also when nobody waits for it any more; its result
    /// is then dropped on the thread.
    ///
    /// # Errors
    /// What the work says.
    pub async fn run_to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        let (sender, receiver) = oneshot::channel();
        self.handle.spawn(async move { drop(sender.send(work.await)) });
        receiver.await.unwrap_or(Err(Fault::Closed))
    }

    /// Gives the thread its last work; it ends after that.
    pub fn end(&mut self, last: Farewell) {
        if let Some(farewell) = self.farewell.take() {
            // A thread that has ended already needs none.
            drop(farewell.send(last));
        }
    }
}
