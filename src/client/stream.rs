//! What comes back in many pieces: events of a streaming command, answers of a streaming query, and
//! the stream of them that a caller reads.
//!
//! Events belong to a number, so they go on where they were over any number of connections: what
//! comes twice is dropped, and a gap is never silent. Answers belong to a connection: when it
//! breaks, the caller is told and opens anew. The thread reads ahead of the caller by `AHEAD` items
//! and then stops, so that a slow caller holds back the node and not this process's memory.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::connection::{Method, Stream as Pieces};
use super::session::{Begun, Body, Command, Envelope, Primitive, Query, Session, Shared};
use super::{Client, Fault};
use crate::wire::proto::v1::{CommandRequestHeaders, CommandResponseHeaders, QueryResponseHeaders};

/// Items as they come, merged from all partitions concerned: each partition's in its order, without
/// order between them. Dropping it ends it at the node as well.
///
/// It is a `futures_core::Stream` too.
pub struct Stream<T> {
    items: mpsc::Receiver<Result<Option<T>, Fault>>,
    over: bool,
    // The thread that fills it lives as long as it is read.
    _client: Client,
}

/// The events of a streaming command, each once and in order, over any number of connections.
pub(super) struct Events<I: Body, O: Body> {
    method: Command<I, O>,
    request: Envelope<CommandRequestHeaders, I>,
    begun: Begun,
    pieces: Option<Pieces<Envelope<CommandResponseHeaders, O>>>,
    /// The node that was asked.
    at: usize,
    last: u64,
    tries: u32,
    /// The last connection began after a gap; another one will not fill it.
    gap: bool,
}

/// The answers of a streaming query; over with its connection.
pub(super) struct Answers<O: Body> {
    pieces: Pieces<Envelope<QueryResponseHeaders, O>>,
    session: Session,
    at: usize,
    /// It ends only with what it is about: then its end may be that of the session.
    pub(super) lasting: bool,
    _begun: Option<Begun>,
}

/// Where a stream's items come from.
pub(super) trait Source: Send + 'static {
    /// What it gives.
    type Output: Send;
    /// The next one; `None` at the regular end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Self::Output>, Fault>> + Send;
}

/// How many items wait for the caller.
const AHEAD: usize = 64;

impl<T> Stream<T> {
    /// The next item; `None` when there will be no more.
    ///
    /// # Errors
    /// What the node says; after an error there is nothing more.
    pub async fn next(&mut self) -> Result<Option<T>, Fault> {
        let item = std::future::poll_fn(|context| self.poll(context)).await;
        item.transpose()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, Fault>>> {
        if self.over {
            return Poll::Ready(None);
        }
        // Whoever fills it says how it ends, or was ended with the client.
        let item = ready!(self.items.poll_recv(context)).unwrap_or(Err(Fault::Closed));
        self.over = !matches!(item, Ok(Some(_)));
        Poll::Ready(item.transpose())
    }
}

impl<T> futures_core::Stream for Stream<T> {
    type Item = Result<T, Fault>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context)
    }
}

/// The stream of what `sources` give, as `convert` sees it; what it sees nothing in is left out.
pub(super) fn merged<S: Source, T: Send + 'static>(
    client: &Client,
    sources: Vec<S>,
    convert: fn(S::Output) -> Result<Option<T>, Fault>,
) -> Stream<T> {
    let (sink, items) = mpsc::channel(AHEAD);
    client.background().spawn(async move {
        let mut forwards = JoinSet::new();
        for source in sources {
            forwards.spawn(forward(source, sink.clone(), convert));
        }
        let mut end = Ok(None);
        while let Some(joined) = forwards.join_next().await {
            // A forward that panicked leaves its part of the stream open.
            if let Err(fault) = joined.unwrap_or(Err(Fault::Closed)) {
                end = Err(fault);
                break;
            }
        }
        forwards.shutdown().await;
        drop(sink.send(end).await);
    });
    Stream { items, over: false, _client: client.clone() }
}

async fn forward<S: Source, T>(
    mut source: S,
    sink: mpsc::Sender<Result<Option<T>, Fault>>,
    convert: fn(S::Output) -> Result<Option<T>, Fault>,
) -> Result<(), Fault> {
    loop {
        let next = tokio::select! {
            biased;
            () = sink.closed() => return Ok(()),
            next = source.next() => next?,
        };
        let Some(output) = next else { return Ok(()) };
        let item = convert(output)?;
        if item.is_some() && sink.send(Ok(item)).await.is_err() {
            return Ok(());
        }
    }
}

impl Primitive {
    /// Registers a streaming command. When this returns it was sent, or is sent again until the
    /// node has it.
    pub(super) async fn events<I: Body, O: Body>(
        &self,
        method: &Command<I, O>,
        input: I,
    ) -> Events<I, O> {
        let begun = Begun::new(&self.session.shared);
        let headers = Some(self.command_head(begun.number));
        let request = Envelope { headers, body: Some(input) };
        let method = Method::at(method.path);
        let mut events =
            Events { method, request, begun, pieces: None, at: 0, last: 0, tries: 0, gap: false };
        // What went wrong goes wrong again with the first `next`, which knows what to do.
        drop(events.open().await);
        events
    }

    /// Opens a streaming query.
    ///
    /// # Errors
    /// When no node answers; what the node says comes with the first `next`.
    pub(super) async fn answers<I: Body, O: Body>(
        &self,
        method: &Query<I, O>,
        input: I,
    ) -> Result<Answers<O>, Fault> {
        let begun = self.begun_query();
        let request =
            Envelope { headers: Some(self.query_head(begun.as_ref())), body: Some(input) };
        let way = &self.session.shared.way;
        let at = way.at();
        let opened = way.unless_left(at, way.network().stream(at, method, &request));
        let pieces = self.session.shared.while_open(opened).await?;
        Ok(Answers { pieces, session: self.session.clone(), at, lasting: false, _begun: begun })
    }
}

impl<I: Body, O: Body> Events<I, O> {
    async fn open(&mut self) -> Result<(), Fault> {
        if self.pieces.is_none() {
            let way = &self.begun.shared.way;
            self.at = way.at();
            let opening = way.network().stream(self.at, &self.method, &self.request);
            self.pieces = Some(way.unless_left(self.at, opening).await?);
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<Option<Envelope<CommandResponseHeaders, O>>, Fault> {
        self.open().await?;
        let way = &self.begun.shared.way;
        match &mut self.pieces {
            Some(pieces) => way.unless_left(self.at, pieces.next()).await,
            None => Err(Fault::Protocol("no stream")),
        }
    }
}

impl<I: Body, O: Body> Drop for Events<I, O> {
    fn drop(&mut self) {
        // Until the node hears that the number is finished it keeps events for nobody.
        self.begun.shared.speak_early();
    }
}

impl<I: Body, O: Body> Source for Events<I, O> {
    type Output = O;

    async fn next(&mut self) -> Result<Option<O>, Fault> {
        loop {
            let shared = std::sync::Arc::clone(&self.begun.shared);
            let message = match shared.while_open(self.receive()).await {
                Ok(None) => return ended(&shared).await,
                // The node ends what is closed regularly; we were only faster to know.
                Err(_) if shared.is_closed() => return Ok(None),
                Ok(Some(message)) => message,
                Err(fault) if fault.is_passing() => {
                    self.pieces = None;
                    sleep(shared.way.pause(self.tries, self.begun.number)).await;
                    self.tries += 1;
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            self.tries = 0;
            let number = message.headers.as_ref().map_or(0, |head| head.output_sequence_num);
            let operation = message.headers.and_then(|headers| headers.operation);
            shared.kept(&message.body);
            let output = shared.result(operation, message.body)?;
            // After a reconnect the node repeats what was not acknowledged.
            if number == self.last + 1 {
                self.last = number;
                self.gap = false;
                self.begun.received(number);
                return Ok(Some(output));
            }
            if number > self.last {
                if self.gap {
                    return Err(Fault::Gap);
                }
                // A connection may lose its beginning; the node has it, unless it is damaged.
                self.gap = true;
                self.pieces = None;
            }
        }
    }
}

/// The regular end of a stream, which is also how a node ends those of a session that expired.
async fn ended<T>(shared: &Shared) -> Result<Option<T>, Fault> {
    let expired = !shared.is_closed() && shared.is_unknown().await;
    if expired { Err(Fault::SessionLost) } else { Ok(None) }
}

impl<O: Body> Source for Answers<O> {
    type Output = O;

    async fn next(&mut self) -> Result<Option<O>, Fault> {
        let shared = &self.session.shared;
        let next = shared.while_open(shared.way.unless_left(self.at, self.pieces.next())).await;
        match next {
            Ok(None) if self.lasting => ended(shared).await,
            Ok(None) => Ok(None),
            Err(_) if shared.is_closed() => Ok(None),
            Err(fault) => Err(fault.interrupted()),
            Ok(Some(answer)) => {
                let operation = answer.headers.and_then(|headers| headers.operation);
                shared.result(operation, answer.body).map(Some)
            }
        }
    }
}
