//! An election: one leader, the other candidates wait in the order in which they came.

use super::connection::Method;
use super::session::{Answers, Command, Patience, Primitive, Query, Session};
use super::{Client, Fault};
use crate::wire::proto::election::v1::{
    EnterInput, EnterOutput, GetTermInput, GetTermOutput, Term, WatchInput, WatchOutput,
    WithdrawInput, WithdrawOutput,
};

/// An election by its name.
pub struct Election {
    session: Session,
    primitive: Primitive,
    patience: Patience,
}

/// Its terms, as they change.
pub struct Terms(Answers<WatchOutput>);

impl Client {
    /// The election `name`; without candidates when it is new.
    ///
    /// # Errors
    /// What the node says.
    pub async fn election(&self, name: &str) -> Result<Election, Fault> {
        let session = self.session(self.layout.partition_of(name)).await?;
        let service = "atomix.runtime.election.v1.LeaderElection";
        let primitive = session.primitive(service, name, self.patience).await?;
        Ok(Election { session, primitive, patience: self.patience })
    }
}

impl Election {
    /// Enters `candidate`, who leads at once when nobody else does.
    ///
    /// # Errors
    /// What the node says.
    pub async fn enter(&self, candidate: &str) -> Result<Term, Fault> {
        let input = EnterInput { candidate: candidate.to_owned() };
        let output = self.primitive.command(&ENTER, input, self.patience).await?;
        output.term.ok_or(NO_TERM)
    }

    /// Takes `candidate` out again.
    ///
    /// # Errors
    /// What the node says.
    pub async fn withdraw(&self, candidate: &str) -> Result<Term, Fault> {
        let input = WithdrawInput { candidate: candidate.to_owned() };
        let output = self.primitive.command(&WITHDRAW, input, self.patience).await?;
        output.term.ok_or(NO_TERM)
    }

    /// The term that is.
    ///
    /// # Errors
    /// What the node says.
    pub async fn term(&self) -> Result<Term, Fault> {
        let output = self.primitive.query(&GET_TERM, GetTermInput {}, self.patience).await?;
        output.term.ok_or(NO_TERM)
    }

    /// The terms to come, and the present one first if somebody ever led.
    ///
    /// # Errors
    /// What the node says.
    pub async fn watch(&self) -> Result<Terms, Fault> {
        self.primitive.answers(&WATCH, WatchInput {}).await.map(Terms)
    }

    /// Returns when the session is lost, and every candidacy with it.
    pub async fn lost(&self) {
        self.session.lost().await;
    }
}

impl Terms {
    /// The next term; `None` when the watch is over.
    ///
    /// # Errors
    /// What the node says; after a passing fault watch again.
    pub async fn next(&mut self) -> Result<Option<Term>, Fault> {
        match self.0.next().await? {
            Some(output) => output.term.ok_or(NO_TERM).map(Some),
            None => Ok(None),
        }
    }
}

const NO_TERM: Fault = Fault::Protocol("an election without a term");

const ENTER: Command<EnterInput, EnterOutput> =
    Method::at("/atomix.multiraft.election.v1.LeaderElection/Enter");
const WITHDRAW: Command<WithdrawInput, WithdrawOutput> =
    Method::at("/atomix.multiraft.election.v1.LeaderElection/Withdraw");
const GET_TERM: Query<GetTermInput, GetTermOutput> =
    Method::at("/atomix.multiraft.election.v1.LeaderElection/GetTerm");
const WATCH: Query<WatchInput, WatchOutput> =
    Method::at("/atomix.multiraft.election.v1.LeaderElection/Watch");
