//! A set of texts, spread over all partitions by element.

use super::Fault;
use super::connection::Method;
use super::handle::{Write, primitive, writes};
use super::session::{Command, Query};
use super::stream::Stream;
use crate::wire::proto::set::v1 as wire;
use crate::wire::proto::set::v1::{
    AddInput, AddOutput, ClearInput, ClearOutput, ContainsInput, ContainsOutput, ElementsInput,
    ElementsOutput, EventsInput, EventsOutput, RemoveInput, RemoveOutput, SizeInput, SizeOutput,
};

primitive! {
    /// A set by its name; empty when it is new.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use ringraft::client::{Client, Fault};
    /// # async fn example(client: Client) -> Result<(), Fault> {
    /// let present = client.set("present");
    /// present.add("ann").ttl(Duration::from_secs(30)).await?;
    /// assert!(present.contains("ann").await?);
    /// for name in present.list().await? {
    ///     println!("{name}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    Set, set, "atomix.runtime.set.v1.Set"
}

writes! { ttl AddInput; }

/// A change of a set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Member {
    /// The element is new.
    Added(String),
    /// The element is gone.
    Removed {
        /// Which.
        element: String,
        /// Whether its time to live was over.
        expired: bool,
    },
}

impl Set {
    /// Whether it has the element.
    ///
    /// # Errors
    /// What the node says.
    pub async fn contains(&self, element: &str) -> Result<bool, Fault> {
        let input = ContainsInput { element: of(element) };
        Ok(self.handle.query(self.handle.place_of(element), &CONTAINS, input).await?.contains)
    }

    /// Adds an element; with a `ttl`.
    ///
    /// # Errors
    /// ALREADY_EXISTS when it has it; its time to live then stays as it is.
    pub fn add(&self, element: &str) -> Write<'_, AddInput, AddOutput, ()> {
        let input = AddInput { element: of(element), ttl: None };
        self.handle.write(self.handle.place_of(element), &ADD, input, |_| Ok(()))
    }

    /// Removes an element.
    ///
    /// # Errors
    /// NOT_FOUND when it does not have it.
    pub async fn remove(&self, element: &str) -> Result<(), Fault> {
        let input = RemoveInput { element: of(element) };
        self.handle.command(self.handle.place_of(element), &REMOVE, input).await.map(drop)
    }

    /// How many elements it has; each partition's at a moment of its own.
    ///
    /// # Errors
    /// What the node says.
    pub async fn size(&self) -> Result<u64, Fault> {
        let sizes = self.handle.queries(&SIZE, SizeInput {}).await?;
        Ok(sizes.iter().map(|output| u64::from(output.size)).sum())
    }

    /// Removes all elements.
    ///
    /// # Errors
    /// What the node says; some partitions may then be empty already.
    pub async fn clear(&self) -> Result<(), Fault> {
        self.handle.commands(&CLEAR, self.handle.everywhere(ClearInput {})).await.map(drop)
    }

    /// All elements; each partition's at a moment of its own.
    ///
    /// # Errors
    /// What the node says.
    pub async fn list(&self) -> Result<Vec<String>, Fault> {
        let input = ElementsInput { watch: false };
        let outputs = self.handle.listing(self.handle.places(None), &ELEMENTS, input).await?;
        Ok(outputs.into_iter().filter_map(|output| output.element).map(|e| e.value).collect())
    }

    /// All elements, and then each that is added; what is removed is not told. Over with the
    /// connection.
    ///
    /// # Errors
    /// What the node says.
    pub async fn watch(&self) -> Result<Stream<String>, Fault> {
        let input = ElementsInput { watch: true };
        let places = self.handle.places(None);
        let element = |output: ElementsOutput| Ok(output.element.map(|element| element.value));
        self.handle.answers(places, &ELEMENTS, input, element).await
    }

    /// The changes to come, each once.
    ///
    /// # Errors
    /// What the node says.
    pub async fn events(&self) -> Result<Stream<Member>, Fault> {
        let places = self.handle.places(None);
        let convert = |output: EventsOutput| Ok(output.event.and_then(member));
        self.handle.events(places, &EVENTS, EventsInput {}, convert).await
    }
}

fn of(element: &str) -> Option<wire::Element> {
    Some(wire::Element { value: element.to_owned() })
}

fn member(event: wire::Event) -> Option<Member> {
    let element = |element: Option<wire::Element>| element.unwrap_or_default().value;
    Some(match event.event? {
        wire::event::Event::Added(added) => Member::Added(element(added.element)),
        wire::event::Event::Removed(removed) => {
            Member::Removed { element: element(removed.element), expired: removed.expired }
        }
    })
}

const SIZE: Query<SizeInput, SizeOutput> = Method::at("/atomix.multiraft.set.v1.Set/Size");
const CONTAINS: Query<ContainsInput, ContainsOutput> =
    Method::at("/atomix.multiraft.set.v1.Set/Contains");
const ADD: Command<AddInput, AddOutput> = Method::at("/atomix.multiraft.set.v1.Set/Add");
const REMOVE: Command<RemoveInput, RemoveOutput> =
    Method::at("/atomix.multiraft.set.v1.Set/Remove");
const CLEAR: Command<ClearInput, ClearOutput> = Method::at("/atomix.multiraft.set.v1.Set/Clear");
const EVENTS: Command<EventsInput, EventsOutput> =
    Method::at("/atomix.multiraft.set.v1.Set/Events");
const ELEMENTS: Query<ElementsInput, ElementsOutput> =
    Method::at("/atomix.multiraft.set.v1.Set/Elements");
