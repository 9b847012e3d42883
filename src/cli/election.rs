//! `ringraft election`: stand in an election, or watch one.

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;
use serde_json::json;
use tokio::time::sleep;

use super::hold::{Ended, Trailing, while_held};
use super::show::{AGAIN, Told, shown};
use super::target::{Flags, Stop, Target};
use super::{Exit, Failure, note, say};
use crate::client::election::Term;
use crate::client::{Client, Election, Fault, Stream};

/// What is typed.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Stand, and lead while a command runs.
    ///
    /// Ends as the command ends. The command finds the term in RINGRAFT_ELECTION_TERM, which grows
    /// from leader to leader. If the office is lost, the command is ended with SIGTERM, five
    /// seconds later with SIGKILL, and the exit status is 11.
    #[command(after_help = "Example:\n  ringraft election campaign chair ann -- ./lead.sh")]
    Campaign {
        /// The election.
        name: String,
        /// The name to stand under; while another stands under it, this one waits.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        candidate: String,
        #[command(flatten)]
        trailing: Trailing,
    },
    /// Print the leader and who waits, now and at each change, until interrupted.
    #[command(visible_aliases = ["watch", "events"])]
    #[command(after_help = "Example:\n  ringraft election observe chair --json")]
    Observe {
        /// The election.
        name: String,
    },
    /// Print the leader and who waits, once; exit status 8 if nobody leads.
    #[command(visible_alias = "get")]
    #[command(after_help = "Example:\n  ringraft election term chair")]
    Term {
        /// The election.
        name: String,
    },
    /// Make a candidate the leader; who led waits first in line; exit status 8 if it does
    /// not stand.
    #[command(after_help = "Example:\n  ringraft election anoint chair bob")]
    Anoint {
        /// The election.
        name: String,
        /// The candidate.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        candidate: String,
    },
    /// Move a candidate one place towards the office; exit status 8 if it does not stand.
    #[command(after_help = "Example:\n  ringraft election promote chair bob")]
    Promote {
        /// The election.
        name: String,
        /// The candidate.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        candidate: String,
    },
    /// Move a candidate one place away from the office; exit status 8 if it does not stand.
    #[command(after_help = "Example:\n  ringraft election demote chair ann")]
    Demote {
        /// The election.
        name: String,
        /// The candidate.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        candidate: String,
    },
    /// Take a candidate out, whoever entered it.
    #[command(after_help = "Example:\n  ringraft election evict chair ann")]
    Evict {
        /// The election.
        name: String,
        /// The candidate.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        candidate: String,
    },
}

/// Does it.
///
/// # Errors
/// As the table of exit statuses says.
pub(super) fn run(flags: &Flags<Command>) -> Result<Exit, Failure> {
    let target = &flags.target;
    // Closing the session takes every candidate of ours out, also when withdrawing failed.
    target.with_client(async |client| match &flags.command {
        Command::Campaign { name, candidate, trailing } => {
            campaign(target, client, name, candidate, trailing).await
        }
        Command::Observe { name } => observe(target, client, name).await,
        Command::Term { name } => {
            let term = target.outcome(client.election(name).term().await)?;
            if term.leader.is_empty() {
                return Err(Failure::new(Exit::No, format!("nobody leads {name}")));
            }
            target.told(&told(name, &term));
            Ok(Exit::Done)
        }
        Command::Anoint { name, candidate } => {
            let term = client.election(name).anoint(candidate).await;
            moved(target, name, candidate, term)
        }
        Command::Promote { name, candidate } => {
            let term = client.election(name).promote(candidate).await;
            moved(target, name, candidate, term)
        }
        Command::Demote { name, candidate } => {
            let term = client.election(name).demote(candidate).await;
            moved(target, name, candidate, term)
        }
        Command::Evict { name, candidate } => {
            target
                .told(&told(name, &target.outcome(client.election(name).evict(candidate).await)?));
            Ok(Exit::Done)
        }
    })
}

/// The node leaves things as they are when there is no such candidate, and does not say so.
fn moved(
    target: &Target,
    name: &str,
    candidate: &str,
    term: Result<Term, Fault>,
) -> Result<Exit, Failure> {
    let term = target.outcome(term)?;
    if !stands(&term, candidate) {
        let what = format!("{candidate} does not stand in {name}");
        return Err(Failure::new(Exit::No, what).mend("`ringraft election term` shows who does"));
    }
    target.told(&told(name, &term));
    Ok(Exit::Done)
}

async fn campaign(
    target: &Target,
    client: &Client,
    name: &str,
    candidate: &str,
    trailing: &Trailing,
) -> Result<Exit, Failure> {
    let mut stop = Stop::catch()?;
    let election = client.election(name);
    let mut terms = Following::of(&election);
    let mut term = target.outcome(election.term().await)?;
    if stands(&term, candidate) {
        // To enter again would change nothing, and two would lead under one name.
        note(&format_args!("{candidate} stands in {name} already; waiting until it does not"));
    }
    while stands(&term, candidate) {
        tokio::select! {
            number = stop.next() => return Ok(Exit::As(128 + number)),
            next = terms.next() => term = target.outcome(next)?,
        }
    }
    let candidacy = target.outcome(election.enter(candidate).await)?;
    term = candidacy.term.clone();
    if term.leader != candidate {
        note(&format_args!("{name}: {} leads; waiting", shown(term.leader.as_bytes())));
    }
    while term.leader != candidate {
        tokio::select! {
            number = stop.next() => {
                drop(candidacy.withdraw().await);
                return Ok(Exit::As(128 + number));
            }
            () = candidacy.lost() => return Err(target.failure(Fault::SessionLost)),
            next = terms.next() => term = target.outcome(next)?,
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
            () = candidacy.lost() => {}
            () = until_replaced(&mut terms, candidate, term.index) => {}
        }
    };
    match while_held(&trailing.command, &variables, &mut stop, lost).await? {
        Ended::Lost => {
            Err(Failure::new(Exit::Lost, format!("{candidate} does not lead {name} any more")))
        }
        Ended::Regular(exit) => {
            drop(candidacy.withdraw().await);
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

async fn observe(target: &Target, client: &Client, name: &str) -> Result<Exit, Failure> {
    let mut stop = Stop::catch()?;
    let election = client.election(name);
    let mut terms = Following::of(&election);
    loop {
        tokio::select! {
            number = stop.next() => return Ok(Exit::As(128 + number)),
            term = terms.next() => target.told(&told(name, &target.outcome(term)?)),
        }
    }
}

fn told(name: &str, term: &Term) -> Told {
    let Term { leader, candidates, index } = term;
    let json = json!({
        "election": name, "term": index, "leader": leader, "candidates": candidates,
    });
    let leader = if leader.is_empty() { "nobody" } else { leader };
    let mut line = format!("term {index}: {} leads", shown(leader.as_bytes()));
    if !candidates.is_empty() {
        let waiting: Vec<String> = candidates.iter().map(|c| shown(c.as_bytes())).collect();
        line.push_str(&format!(", waiting: {}", waiting.join(" ")));
    }
    Told { json, line }
}

/// An election's terms over any number of connections: a watch that breaks is made again, and what
/// it missed is in the term that comes first.
struct Following<'a> {
    election: &'a Election,
    terms: Option<Stream<Term>>,
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
                Err(Fault::Interrupted { .. }) => {
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
