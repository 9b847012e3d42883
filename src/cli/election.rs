//! `ringraft election`: stand in an election, or watch one.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::time::sleep;

use super::hold::{Ended, Trailing, while_held};
use super::target::{Stop, Target, shown};
use super::{Exit, Failure, note, say};
use crate::client::election::{Election, Terms};
use crate::client::{Client, Fault};
use crate::wire::proto::election::v1::Term;

/// What is typed.
#[derive(Args)]
pub struct Flags {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    target: Target,
}

#[derive(Subcommand)]
enum Command {
    /// Stand, and lead while a command runs.
    ///
    /// Ends as the command ends. The command finds the term in RINGRAFT_ELECTION_TERM, which grows
    /// from leader to leader. If the office is lost, the command is ended with SIGTERM, five
    /// seconds later with SIGKILL, and the exit status is 11.
    Campaign {
        /// The election.
        name: String,
        /// The name to stand under; while another stands under it, this one waits.
        candidate: String,
        #[command(flatten)]
        trailing: Trailing,
    },
    /// Print the leader and who waits, now and at each change, until interrupted.
    Observe {
        /// The election.
        name: String,
    },
    /// Print the leader and who waits, once; exit status 8 if nobody leads.
    Term {
        /// The election.
        name: String,
    },
}

/// Does it.
///
/// # Errors
/// As the table of exit statuses says.
pub fn run(flags: &Flags) -> Result<Exit, Failure> {
    let target = &flags.target;
    target.block_on(async {
        let mut stop = Stop::catch()?;
        let client = target.connect().await?;
        let outcome = match &flags.command {
            Command::Campaign { name, candidate, trailing } => {
                campaign(target, &client, &mut stop, name, candidate, trailing).await
            }
            Command::Observe { name } => observe(target, &client, &mut stop, name).await,
            Command::Term { name } => term(target, &client, name).await,
        };
        // Closing the session takes every candidate of ours out, also when withdrawing failed.
        drop(client.close().await);
        outcome
    })
}

async fn campaign(
    target: &Target,
    client: &Client,
    stop: &mut Stop,
    name: &str,
    candidate: &str,
    trailing: &Trailing,
) -> Result<Exit, Failure> {
    let election = target.tell(client.election(name).await)?;
    let mut terms = Following::of(&election);
    let mut term = target.tell(election.term().await)?;
    if stands(&term, candidate) {
        // To enter again would change nothing, and two would lead under one name.
        note(&format_args!("{candidate} stands in {name} already; waiting until it does not"));
    }
    while stands(&term, candidate) {
        tokio::select! {
            number = stop.next() => return Ok(Exit::As(128 + number)),
            () = election.lost() => return Err(target.failure(Fault::SessionLost)),
            next = terms.next() => term = target.tell(next)?,
        }
    }
    term = target.tell(election.enter(candidate).await)?;
    if term.leader != candidate {
        note(&format_args!("{name}: {} leads; waiting", shown(term.leader.as_bytes())));
    }
    while term.leader != candidate {
        tokio::select! {
            number = stop.next() => {
                drop(election.withdraw(candidate).await);
                return Ok(Exit::As(128 + number));
            }
            () = election.lost() => return Err(target.failure(Fault::SessionLost)),
            next = terms.next() => term = target.tell(next)?,
        }
    }
    if target.json {
        let line = json!({ "election": name, "leader": candidate, "term": term.index });
        // With a command, standard output is the command's.
        if trailing.command.is_empty() { say(&line) } else { note(&line) }
    } else if trailing.command.is_empty() {
        say(&format_args!("{candidate} leads {name}, term {}; Ctrl-C resigns", term.index));
    }
    let variables = [
        ("RINGRAFT_ELECTION", name.to_owned()),
        ("RINGRAFT_ELECTION_TERM", term.index.to_string()),
    ];
    let lost = async {
        tokio::select! {
            () = election.lost() => {}
            () = until_replaced(&mut terms, candidate, term.index) => {}
        }
    };
    match while_held(&trailing.command, &variables, stop, lost).await? {
        Ended::Lost => {
            Err(Failure::new(Exit::Lost, format!("{candidate} does not lead {name} any more")))
        }
        Ended::Regular(exit) => {
            drop(election.withdraw(candidate).await);
            Ok(exit)
        }
    }
}

fn stands(term: &Term, candidate: &str) -> bool {
    term.leader == candidate || term.candidates.iter().any(|waits| waits == candidate)
}

async fn until_replaced(terms: &mut Following<'_>, candidate: &str, index: u64) {
    loop {
        match terms.next().await {
            Ok(term) if term.leader == candidate && term.index <= index => {}
            // A watch that cannot be had leaves nothing to rely on but the session, which has its
            // own end.
            Err(_) => std::future::pending().await,
            Ok(_) => return,
        }
    }
}

async fn observe(
    target: &Target,
    client: &Client,
    stop: &mut Stop,
    name: &str,
) -> Result<Exit, Failure> {
    let election = target.tell(client.election(name).await)?;
    let mut terms = Following::of(&election);
    loop {
        tokio::select! {
            number = stop.next() => return Ok(Exit::As(128 + number)),
            term = terms.next() => tell(target, name, &target.tell(term)?),
        }
    }
}

async fn term(target: &Target, client: &Client, name: &str) -> Result<Exit, Failure> {
    let election = target.tell(client.election(name).await)?;
    let term = target.tell(election.term().await)?;
    if term.leader.is_empty() {
        return Err(Failure::new(Exit::No, format!("nobody leads {name}")));
    }
    tell(target, name, &term);
    Ok(Exit::Done)
}

fn tell(target: &Target, name: &str, term: &Term) {
    if target.json {
        let Term { leader, candidates, index } = term;
        say(&json!({
            "election": name, "term": index, "leader": leader, "candidates": candidates,
        }));
        return;
    }
    let leader = if term.leader.is_empty() { "nobody" } else { &term.leader };
    let line = format!("term {}: {} leads", term.index, shown(leader.as_bytes()));
    if term.candidates.is_empty() {
        say(&line);
    } else {
        let waiting: Vec<String> = term.candidates.iter().map(|c| shown(c.as_bytes())).collect();
        say(&format_args!("{line}, waiting: {}", waiting.join(" ")));
    }
}

/// An election's terms over any number of connections: a watch that breaks is made again, and what
/// it missed is in the term that comes first.
struct Following<'a> {
    election: &'a Election,
    terms: Option<Terms>,
    last: Option<Term>,
}

impl Following<'_> {
    fn of(election: &Election) -> Following<'_> {
        Following { election, terms: None, last: None }
    }

    async fn next(&mut self) -> Result<Term, Fault> {
        loop {
            match self.receive().await {
                Ok(Some(term)) if self.last.as_ref() != Some(&term) => {
                    self.last = Some(term.clone());
                    return Ok(term);
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err(Fault::SessionLost),
                Err(fault) if fault.is_passing() => {
                    self.terms = None;
                    sleep(AGAIN).await;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<Term>, Fault> {
        if self.terms.is_none() {
            self.terms = Some(self.election.watch().await?);
        }
        match &mut self.terms {
            Some(terms) => terms.next().await,
            None => Ok(None),
        }
    }
}

/// Between two tries to watch.
const AGAIN: Duration = Duration::from_millis(200);
