//! What the nine handles share: a primitive by its name, calls to the partition of a key or to all
//! of them, and writes that are put together before they are awaited.
//!
//! A handle holds no session: each call takes the session that its partition has then, so a handle
//! outlives the loss of one.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::cluster::Cluster;
use super::session::{Body, Command, Primitive, Query, span};
use super::stream::{Source, Stream, merged};
use super::way::Until;
use super::{Client, Fault};

/// A primitive by its name, and how long its calls may take.
#[derive(Clone)]
pub struct Handle {
    client: Client,
    service: &'static str,
    name: Arc<str>,
    patience: Duration,
}

/// A write that is put together and then awaited.
#[must_use = "nothing is asked before it is awaited"]
pub struct Write<'a, I: Body, O: Body, T> {
    handle: &'a Handle,
    place: usize,
    method: &'static Command<I, O>,
    input: I,
    result: fn(O) -> Result<T, Fault>,
}

/// An input that may say how long what it writes lives.
pub trait Mortal {
    /// Sets it.
    fn set_ttl(&mut self, ttl: prost_types::Duration);
}

/// An input that may demand a version of what it writes over.
pub trait Guarded {
    /// Sets it.
    fn set_prev(&mut self, version: u64);
}

impl<I: Body + Mortal, O: Body, T> Write<'_, I, O, T> {
    /// How long what is written lives; without, for ever.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.input.set_ttl(span(ttl));
        self
    }
}

impl<I: Body + Guarded, O: Body, T> Write<'_, I, O, T> {
    /// Only if what is there has this version; else the call ends with CONFLICT. 0 demands nothing.
    pub fn prev_version(mut self, version: u64) -> Self {
        self.input.set_prev(version);
        self
    }
}

impl<'a, I: Body, O: Body, T: 'a> IntoFuture for Write<'a, I, O, T> {
    type Output = Result<T, Fault>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Write { handle, place, method, input, result } = self;
            result(handle.command(place, method, input).await?)
        })
    }
}

impl Handle {
    pub(super) fn new(client: &Client, service: &'static str, name: &str) -> Handle {
        let patience = client.patience();
        Handle { client: client.clone(), service, name: name.into(), patience }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Where the primitive is that lives in one partition.
    pub(super) fn home(&self) -> usize {
        self.place_of(&self.name)
    }

    /// Where `key` is.
    pub(super) fn place_of(&self, key: &str) -> usize {
        self.client.cluster().layout().place_of(key)
    }

    /// Everywhere, or where `key` is.
    pub(super) fn places(&self, key: Option<&str>) -> Vec<usize> {
        match key {
            Some(key) => vec![self.place_of(key)],
            None => (0..self.client.cluster().layout().all().len()).collect(),
        }
    }

    pub(super) fn write<I: Body, O: Body, T>(
        &self,
        place: usize,
        method: &'static Command<I, O>,
        input: I,
        result: fn(O) -> Result<T, Fault>,
    ) -> Write<'_, I, O, T> {
        Write { handle: self, place, method, input, result }
    }

    /// Executes a command once.
    pub(super) async fn command<I: Body, O: Body>(
        &self,
        place: usize,
        method: &'static Command<I, O>,
        input: I,
    ) -> Result<O, Fault> {
        let (share, patience) = (self.share(), self.patience);
        let work = async move {
            let until = Until::after(patience);
            share.at(place, until).await?.command(method, input, until).await
        };
        self.client.run(work).await
    }

    /// Reads.
    pub(super) async fn query<I: Body, O: Body>(
        &self,
        place: usize,
        method: &'static Query<I, O>,
        input: I,
    ) -> Result<O, Fault> {
        let (share, patience) = (self.share(), self.patience);
        let work = async move {
            let until = Until::after(patience);
            share.at(place, until).await?.query(method, input, until).await
        };
        self.client.run(work).await
    }

    /// Executes a command in each of several partitions at the same time.
    pub(super) async fn commands<I: Body, O: Body>(
        &self,
        method: &'static Command<I, O>,
        inputs: Vec<(usize, I)>,
    ) -> Result<Vec<O>, Fault> {
        let each = move |primitive: Primitive, input, until| async move {
            primitive.command(method, input, until).await
        };
        self.together(inputs, each).await
    }

    /// Reads in all partitions at the same time; each answers for a moment of its own.
    pub(super) async fn queries<I: Body + Clone, O: Body>(
        &self,
        method: &'static Query<I, O>,
        input: I,
    ) -> Result<Vec<O>, Fault> {
        let inputs = self.everywhere(input);
        let each = move |primitive: Primitive, input, until| async move {
            primitive.query(method, input, until).await
        };
        self.together(inputs, each).await
    }

    /// The same input for every partition.
    pub(super) fn everywhere<I: Clone>(&self, input: I) -> Vec<(usize, I)> {
        self.places(None).into_iter().map(|place| (place, input.clone())).collect()
    }

    /// What is said of these keys, as one input for each partition that has some of them.
    pub(super) fn split<I>(
        &self,
        keys: &[&str],
        input: impl Fn(Vec<String>) -> I,
    ) -> Vec<(usize, I)> {
        let keys = keys.iter().map(|key| (self.place_of(key), (*key).to_owned()));
        grouped(keys).into_iter().map(|(place, keys)| (place, input(keys))).collect()
    }

    /// A whole listing of the partitions at `places`, in their order; one that broke off is asked
    /// for again.
    pub(super) async fn listing<I: Body + Clone, O: Body>(
        &self,
        places: Vec<usize>,
        method: &'static Query<I, O>,
        input: I,
    ) -> Result<Vec<O>, Fault> {
        let inputs = places.into_iter().map(|place| (place, input.clone())).collect();
        let each = move |primitive: Primitive, input: I, until| async move {
            let way = Arc::clone(&primitive.session.shared.way);
            let (primitive, input) = (&primitive, &input);
            let whole = |_| async move {
                let mut answers = primitive.answers(method, input.clone()).await?;
                let mut outputs = Vec::new();
                loop {
                    match answers.next().await {
                        Ok(Some(output)) => outputs.push(output),
                        Ok(None) => return Ok(outputs),
                        Err(Fault::Interrupted { reason }) => {
                            return Err(Fault::Unreachable { endpoint: String::new(), reason });
                        }
                        Err(fault) => return Err(fault),
                    }
                }
            };
            way.insist(until, 0, whole).await
        };
        Ok(self.together(inputs, each).await?.into_iter().flatten().collect())
    }

    /// The answers of a streaming query to the partitions at `places`.
    pub(super) async fn answers<I: Body + Clone, O: Body, T: Send + 'static>(
        &self,
        places: Vec<usize>,
        method: &'static Query<I, O>,
        input: I,
        convert: fn(O) -> Result<Option<T>, Fault>,
    ) -> Result<Stream<T>, Fault> {
        let inputs = places.into_iter().map(|place| (place, input.clone())).collect();
        let each = move |primitive: Primitive, input: I, until| async move {
            let way = Arc::clone(&primitive.session.shared.way);
            let primitive = &primitive;
            let opened = way.insist(until, 0, |_| primitive.answers(method, input.clone()));
            let mut answers = opened.await?;
            answers.lasting = true;
            Ok(answers)
        };
        Ok(merged(&self.client, self.together(inputs, each).await?, convert))
    }

    /// The events to come in the partitions at `places`.
    pub(super) async fn events<I: Body + Clone, O: Body, T: Send + 'static>(
        &self,
        places: Vec<usize>,
        method: &'static Command<I, O>,
        input: I,
        convert: fn(O) -> Result<Option<T>, Fault>,
    ) -> Result<Stream<T>, Fault> {
        let inputs = places.into_iter().map(|place| (place, input.clone())).collect();
        let each = move |primitive: Primitive, input, _| async move {
            Ok(primitive.events(method, input).await)
        };
        Ok(merged(&self.client, self.together(inputs, each).await?, convert))
    }

    /// Ends what this client has open of the primitive, in all its sessions.
    pub(super) async fn close(&self) -> Result<(), Fault> {
        let (share, patience) = (self.share(), self.patience);
        let work = async move {
            let until = Until::after(patience);
            share.cluster.close_primitive(share.service, &share.name, until).await
        };
        self.client.run(work).await
    }

    /// What the thread needs to find the primitive.
    pub(super) fn share(&self) -> Share {
        Share {
            cluster: Arc::clone(self.client.cluster()),
            service: self.service,
            name: Arc::clone(&self.name),
        }
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Does `each` in several partitions at the same time; the outcomes in the order of `inputs`.
    async fn together<I, T, W, F>(&self, inputs: Vec<(usize, I)>, each: W) -> Result<Vec<T>, Fault>
    where
        I: Send + 'static,
        T: Send + 'static,
        W: Fn(Primitive, I, Until) -> F + Copy + Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let (share, patience) = (self.share(), self.patience);
        let work = async move {
            let until = Until::after(patience);
            let mut tasks = JoinSet::new();
            for (order, (place, input)) in inputs.into_iter().enumerate() {
                let share = share.clone();
                tasks.spawn(async move {
                    let primitive = share.at(place, until).await?;
                    Ok((order, each(primitive, input, until).await?))
                });
            }
            let mut outcomes = Vec::with_capacity(tasks.len());
            while let Some(joined) = tasks.join_next().await {
                outcomes.push(joined.unwrap_or(Err(Fault::Closed))?);
            }
            outcomes.sort_by_key(|(order, _)| *order);
            Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
        };
        self.client.run(work).await
    }
}

/// What goes to the same place together, in its order.
pub(super) fn grouped<T>(items: impl Iterator<Item = (usize, T)>) -> BTreeMap<usize, Vec<T>> {
    let mut groups: BTreeMap<usize, Vec<T>> = BTreeMap::new();
    for (place, item) in items {
        groups.entry(place).or_default().push(item);
    }
    groups
}

/// A primitive as the thread finds it.
#[derive(Clone)]
pub(super) struct Share {
    cluster: Arc<Cluster>,
    service: &'static str,
    name: Arc<str>,
}

impl Share {
    /// It in the partition at `place`.
    pub(super) async fn at(&self, place: usize, until: Until) -> Result<Primitive, Fault> {
        self.cluster.primitive(place, self.service, &self.name, until).await
    }
}

/// The type of one of the nine, how a client gives it, and what all of them can.
macro_rules! primitive {
    ($(#[$doc:meta])* $name:ident, $give:ident, $service:literal) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            handle: $crate::client::handle::Handle,
        }

        impl $crate::client::Client {
            #[doc = concat!("The [`", stringify!($name), "`](", stringify!($name), ") `name`; ")]
            /// nothing is asked before its first call, which makes it when it is new.
            #[must_use]
            pub fn $give(&self, name: &str) -> $name {
                $name { handle: $crate::client::handle::Handle::new(self, $service, name) }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.name()).finish()
            }
        }

        impl $name {
            /// Its name.
            #[must_use]
            pub fn name(&self) -> &str {
                self.handle.name()
            }

            /// The same with another time for each call than the client's.
            #[must_use]
            pub fn timeout(mut self, timeout: std::time::Duration) -> Self {
                self.handle.set_patience(timeout);
                self
            }

            /// Ends what this client has open of it, through whichever handle: streams end, what is
            /// held is released. What is in it stays, and the next call opens it again.
            ///
            /// # Errors
            /// What the node says.
            pub async fn close(&self) -> Result<(), $crate::client::Fault> {
                self.handle.close().await
            }
        }
    };
}
pub(super) use primitive;

/// Says of inputs that they have a `ttl`, or a field with the version that is demanded.
macro_rules! writes {
    ($(ttl $mortal:ty;)* $(prev $versioned:ty, $field:ident;)*) => {
        $(impl $crate::client::handle::Mortal for $mortal {
            fn set_ttl(&mut self, ttl: prost_types::Duration) {
                self.ttl = Some(ttl);
            }
        })*
        $(impl $crate::client::handle::Guarded for $versioned {
            fn set_prev(&mut self, version: u64) {
                self.$field = version;
            }
        })*
    };
}
pub(super) use writes;
