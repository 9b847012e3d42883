//! An election: one leader, the other candidates wait in the order in which they came. It lives in
//! the partition of its name.
//!
//! A candidate belongs to the session that entered it, and leaves with that session. Anybody may
//! change the order.

use super::Fault;
use super::connection::Method;
use super::handle::primitive;
use super::session::{Command, Query, Session};
use super::stream::Stream;
use super::way::Until;
use crate::wire::proto::election::v1::{
    AnointInput, AnointOutput, DemoteInput, DemoteOutput, EnterInput, EnterOutput, EvictInput,
    EvictOutput, GetTermInput, GetTermOutput, PromoteInput, PromoteOutput, WatchInput, WatchOutput,
    WithdrawInput, WithdrawOutput,
};

pub use crate::wire::proto::election::v1::Term;

primitive! {
    /// An election by its name; without candidates when it is new.
    ///
    /// ```no_run
    /// # use ringraft::client::{Client, Fault};
    /// # async fn example(client: Client) -> Result<(), Fault> {
    /// let chair = client.election("chair");
    /// let mut terms = chair.watch().await?;
    /// let me = chair.enter("ann").await?;
    /// while let Some(term) = terms.next().await? {
    ///     if term.leader == "ann" {
    ///         println!("I lead, term {}", term.index);
    ///         break;
    ///     }
    /// }
    /// me.withdraw().await?;
    /// # Ok(())
    /// # }
    /// ```
    Election, election, "atomix.runtime.election.v1.LeaderElection"
}

/// A candidate that stands, until it is withdrawn or its session ends. Dropping it changes nothing.
pub struct Candidacy {
    election: Election,
    candidate: String,
    session: Session,
    /// The term when it entered.
    pub term: Term,
}

impl Election {
    /// Enters `candidate`, who leads at once when nobody else does. While another session has
    /// entered the same name this changes nothing.
    ///
    /// # Errors
    /// What the node says.
    pub async fn enter(&self, candidate: &str) -> Result<Candidacy, Fault> {
        let (share, patience) = (self.handle.share(), self.handle.patience());
        let place = self.handle.home();
        let input = EnterInput { candidate: candidate.to_owned() };
        let work = async move {
            let until = Until::after(patience);
            let primitive = share.at(place, until).await?;
            let output: EnterOutput = primitive.command(&ENTER, input, until).await?;
            Ok((primitive.session, output.term.ok_or(NO_TERM)?))
        };
        let (session, term) = self.handle.client().run(work).await?;
        Ok(Candidacy { election: self.clone(), candidate: candidate.to_owned(), session, term })
    }

    /// Takes `candidate` out again, if this client's session entered it.
    ///
    /// # Errors
    /// What the node says.
    pub async fn withdraw(&self, candidate: &str) -> Result<Term, Fault> {
        let input = WithdrawInput { candidate: candidate.to_owned() };
        let output = self.handle.command(self.handle.home(), &WITHDRAW, input).await?;
        output.term.ok_or(NO_TERM)
    }

    /// Makes a candidate the leader; who led waits first in line.
    ///
    /// # Errors
    /// What the node says.
    pub async fn anoint(&self, candidate: &str) -> Result<Term, Fault> {
        let input = AnointInput { candidate: candidate.to_owned() };
        let output = self.handle.command(self.handle.home(), &ANOINT, input).await?;
        output.term.ok_or(NO_TERM)
    }

    /// Moves a candidate one place towards the office.
    ///
    /// # Errors
    /// What the node says.
    pub async fn promote(&self, candidate: &str) -> Result<Term, Fault> {
        let input = PromoteInput { candidate: candidate.to_owned() };
        let output = self.handle.command(self.handle.home(), &PROMOTE, input).await?;
        output.term.ok_or(NO_TERM)
    }

    /// Moves a candidate one place away from the office.
    ///
    /// # Errors
    /// What the node says.
    pub async fn demote(&self, candidate: &str) -> Result<Term, Fault> {
        let input = DemoteInput { candidate: candidate.to_owned() };
        let output = self.handle.command(self.handle.home(), &DEMOTE, input).await?;
        output.term.ok_or(NO_TERM)
    }

    /// Takes a candidate out, whoever entered it.
    ///
    /// # Errors
    /// What the node says.
    pub async fn evict(&self, candidate: &str) -> Result<Term, Fault> {
        let input = EvictInput { candidate: candidate.to_owned() };
        let output = self.handle.command(self.handle.home(), &EVICT, input).await?;
        output.term.ok_or(NO_TERM)
    }

    /// The term that is.
    ///
    /// # Errors
    /// What the node says.
    pub async fn term(&self) -> Result<Term, Fault> {
        let output = self.handle.query(self.handle.home(), &GET_TERM, GetTermInput {}).await?;
        output.term.ok_or(NO_TERM)
    }

    /// The terms to come, and the present one first if somebody ever led. Over with the connection.
    ///
    /// # Errors
    /// What the node says.
    pub async fn watch(&self) -> Result<Stream<Term>, Fault> {
        let convert = |output: WatchOutput| Ok(output.term);
        self.handle.answers(vec![self.handle.home()], &WATCH, WatchInput {}, convert).await
    }
}

impl Candidacy {
    /// Returns when the session is over, and the candidacy with it.
    pub async fn lost(&self) {
        self.session.end().await;
    }

    /// Takes the candidate out again.
    ///
    /// # Errors
    /// What the node says.
    pub async fn withdraw(self) -> Result<Term, Fault> {
        self.election.withdraw(&self.candidate).await
    }
}

const NO_TERM: Fault = Fault::Protocol("an election without a term");

const ENTER: Command<EnterInput, EnterOutput> =
    Method::at("/atomix.multiraft.election.v1.LeaderElection/Enter");
const WITHDRAW: Command<WithdrawInput, WithdrawOutput> =
    Method::at("/atomix.multiraft.election.v1.LeaderElection/Withdraw");
const ANOINT: Command<AnointInput, AnointOutput> =
    Method::at("/atomix.multiraft.election.v1.LeaderElection/Anoint");
const PROMOTE: Command<PromoteInput, PromoteOutput> =
    Method::at("/atomix.multiraft.election.v1.LeaderElection/Promote");
const DEMOTE: Command<DemoteInput, DemoteOutput> =
    Method::at("/atomix.multiraft.election.v1.LeaderElection/Demote");
const EVICT: Command<EvictInput, EvictOutput> =
    Method::at("/atomix.multiraft.election.v1.LeaderElection/Evict");
const GET_TERM: Query<GetTermInput, GetTermOutput> =
    Method::at("/atomix.multiraft.election.v1.LeaderElection/GetTerm");
const WATCH: Query<WatchInput, WatchOutput> =
    Method::at("/atomix.multiraft.election.v1.LeaderElection/Watch");
