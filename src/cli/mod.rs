//! The command line: what is typed, and how it ends. One file a subcommand.
//!
//! Results go to standard output and nothing else does; what went wrong goes to standard error as
//! one line that begins with `ringraft:`, and if there is something to do about it, a second that
//! says what. Each sort of failure has an exit status of its own (`Exit`), which `--help` lists.

#[cfg(feature = "io")]
pub mod cluster;
#[cfg(feature = "io")]
pub mod counter;
#[cfg(feature = "io")]
pub mod countermap;
#[cfg(feature = "io")]
pub mod demo;
#[cfg(feature = "io")]
pub mod doctor;
#[cfg(feature = "io")]
pub mod driver_config;
#[cfg(feature = "io")]
pub mod election;
#[cfg(feature = "io")]
pub mod hold;
#[cfg(feature = "io")]
pub mod indexedmap;
#[cfg(feature = "io")]
pub mod load;
#[cfg(feature = "io")]
pub mod lock;
pub mod log;
mod log_entry;
#[cfg(feature = "io")]
pub mod map;
#[cfg(feature = "io")]
pub mod multimap;
#[cfg(feature = "io")]
pub mod serve;
#[cfg(feature = "io")]
pub mod set;
#[cfg(feature = "io")]
pub mod show;
pub mod sim;
#[cfg(feature = "io")]
pub mod target;
#[cfg(feature = "io")]
pub mod value;

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// How the process ends. The numbers are part of the interface and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Something else went wrong.
    Failed,
    /// Wrong flags or arguments.
    Usage,
    /// A key or value of the configuration.
    Config,
    /// The data directory is in use, of another node, or of a newer format.
    DataDir,
    /// The disk failed or is full.
    Disk,
    /// The kernel lacks or forbids something that is needed.
    Kernel,
    /// An address cannot be listened on.
    Address,
    /// Not there, or not as demanded.
    No,
    /// No node answers.
    Unreachable,
    /// The node refuses.
    Refused,
    /// The session was lost while something was held.
    Lost,
    /// What is on disk is damaged, or a simulated or measured run found a promise broken.
    Damaged,
    /// As a command that was run ended, or 128 and the signal that ended this process.
    As(u8),
}

/// Why a command did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which sort.
    pub exit: Exit,
    /// What is wrong.
    pub what: String,
    /// What to do about it, where that is known.
    pub mend: Option<String>,
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to standard output; clap knows which.
            drop(error.print());
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    match cli.dispatch() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            note(&format_args!("ringraft: {}", line(&failure.what)));
            if let Some(mend) = &failure.mend {
                note(&format_args!("  {mend}"));
            }
            failure.exit.into()
        }
    }
}

/// A multi-raft storage node for Atomix primitives, and its tools.
#[derive(Parser)]
#[command(name = "ringraft", version = VERSION, after_help = EXITS, max_term_width = 100)]
#[cfg_attr(feature = "io", command(long_about = ALONE))]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node.
    #[cfg(feature = "io")]
    Serve(serve::Flags),
    /// Read and change a counter.
    #[cfg(feature = "io")]
    Counter(target::Flags<counter::Command>),
    /// Read, change and watch a map of counters.
    #[cfg(feature = "io")]
    Countermap(target::Flags<countermap::Command>),
    /// Read, change and watch a map.
    #[cfg(feature = "io")]
    Map(target::Flags<map::Command>),
    /// Read, change and watch a map whose entries have an order.
    #[cfg(feature = "io")]
    Indexedmap(target::Flags<indexedmap::Command>),
    /// Read, change and watch a map whose keys have many values.
    #[cfg(feature = "io")]
    Multimap(target::Flags<multimap::Command>),
    /// Read, change and watch a set.
    #[cfg(feature = "io")]
    Set(target::Flags<set::Command>),
    /// Read, change and watch a single value.
    #[cfg(feature = "io")]
    Value(target::Flags<value::Command>),
    /// Hold a lock while a command runs.
    ///
    /// Ends as the command ends. The command finds the lock's fencing token in RINGRAFT_LOCK_TOKEN:
    /// it grows from holder to holder. If the lock is lost, the command is ended with SIGTERM, five
    /// seconds later with SIGKILL, and the exit status is 11.
    #[cfg(feature = "io")]
    #[command(after_help = "Example:\n  ringraft lock door --wait 10s -- ./work.sh")]
    Lock(lock::Flags),
    /// Stand in an election, or watch one.
    #[cfg(feature = "io")]
    Election(target::Flags<election::Command>),
    /// Print the configuration of the published Go drivers for the nodes that run.
    ///
    /// It goes to an Atomix proxy as the configuration of a store, for drivers of 2022 (MultiRaft
    /// v1beta1) with addresses of listeners that speak the released dialect.
    #[cfg(feature = "io")]
    DriverConfig(driver_config::Flags),
    /// Found groups over several nodes, and see how they are.
    #[cfg(feature = "io")]
    Cluster(target::Flags<cluster::Command>),
    /// Run three nodes on this machine and show how they are, until interrupted.
    #[cfg(feature = "io")]
    Demo(demo::Flags),
    /// Drive a server, measure it, and check what it answers.
    #[cfg(feature = "io")]
    #[command(after_help = load::EXAMPLES)]
    Load(load::Flags),
    /// Show what this host has and what a node wants, and time its disk.
    #[cfg(feature = "io")]
    Doctor(doctor::Flags),
    /// Read the journal of a node that is not running.
    Log(log::Flags),
    /// Run a simulated cluster from a seed.
    Sim(sim::Flags),
}

impl Cli {
    fn dispatch(self) -> Result<Exit, Failure> {
        match self.command {
            #[cfg(feature = "io")]
            None => serve::run(&serve::Flags::default()),
            #[cfg(not(feature = "io"))]
            None => {
                drop(<Cli as clap::CommandFactory>::command().print_help());
                Ok(Exit::Usage)
            }
            #[cfg(feature = "io")]
            Some(Command::Serve(flags)) => serve::run(&flags),
            #[cfg(feature = "io")]
            Some(Command::Counter(flags)) => counter::run(&flags),
            #[cfg(feature = "io")]
            Some(Command::Countermap(flags)) => countermap::run(&flags),
            #[cfg(feature = "io")]
            Some(Command::Map(flags)) => map::run(&flags),
            #[cfg(feature = "io")]
            Some(Command::Indexedmap(flags)) => indexedmap::run(&flags),
            #[cfg(feature = "io")]
            Some(Command::Multimap(flags)) => multimap::run(&flags),
            #[cfg(feature = "io")]
            Some(Command::Set(flags)) => set::run(&flags),
            #[cfg(feature = "io")]
            Some(Command::Value(flags)) => value::run(&flags),
            #[cfg(feature = "io")]
            Some(Command::Lock(flags)) => lock::run(&flags),
            #[cfg(feature = "io")]
            Some(Command::Election(flags)) => election::run(&flags),
            #[cfg(feature = "io")]
            Some(Command::DriverConfig(flags)) => driver_config::run(&flags),
            #[cfg(feature = "io")]
            Some(Command::Cluster(flags)) => cluster::run(&flags),
            #[cfg(feature = "io")]
            Some(Command::Demo(flags)) => demo::run(&flags),
            #[cfg(feature = "io")]
            Some(Command::Load(flags)) => load::run(&flags),
            #[cfg(feature = "io")]
            Some(Command::Doctor(flags)) => doctor::run(&flags),
            Some(Command::Log(flags)) => log::run(&flags),
            Some(Command::Sim(flags)) => sim::run(&flags),
        }
    }
}

/// Number and commit.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("RINGRAFT_COMMIT"), ")");

#[cfg(feature = "io")]
const ALONE: &str = "A multi-raft storage node for Atomix primitives, and its tools.\n\nWithout a \
    subcommand it runs a node with defaults: data in ./ringraft-data, 8 partitions, clients on \
    127.0.0.1:5678, other nodes on 127.0.0.1:5679.";

const EXITS: &str = "\
Exit status:
   0  done
   1  something else went wrong
   2  wrong flags or arguments
   3  a key or value of the configuration
   4  the data directory is in use, of another node, or of a newer format
   5  the disk failed or is full
   6  the kernel lacks or forbids something that is needed
   7  an address cannot be listened on
   8  not there, or not as demanded (a key, a version, a lock within its wait)
   9  no node answers in time
  10  the node refuses
  11  the session was lost while a lock or an office was held
  12  what is on disk is damaged, or a run of `sim` or `load` found a promise broken
 126  the command of `lock` or `election campaign` cannot be run; 127: there is none of that name
 128  and the number of the signal, when one ended it
`lock` and `election campaign` otherwise end as the command ends that they ran.";

impl Failure {
    /// A failure without advice.
    pub fn new(exit: Exit, what: impl Display) -> Failure {
        Failure { exit, what: what.to_string(), mend: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn mend(self, mend: impl Display) -> Failure {
        Failure { mend: Some(mend.to_string()), ..self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Config => 3,
            Exit::DataDir => 4,
            Exit::Disk => 5,
            Exit::Kernel => 6,
            Exit::Address => 7,
            Exit::No => 8,
            Exit::Unreachable => 9,
            Exit::Refused => 10,
            Exit::Lost => 11,
            Exit::Damaged => 12,
            Exit::As(status) => status,
        })
    }
}

/// What went wrong in one line, whatever the names in it hold.
fn line(what: &str) -> String {
    let mut line = String::with_capacity(what.len());
    for character in what.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// One line of result.
pub(crate) fn say(line: &dyn Display) {
    let mut out = std::io::stdout().lock();
    said(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// Whoever closed standard output wants no more: that is no failure. Everything else is: a result
/// that nobody got.
pub(crate) fn said(outcome: std::io::Result<()>) {
    match outcome {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            note(&format_args!("ringraft: standard output: {error}"));
            std::process::exit(1);
        }
    }
}

/// One line beside the result.
pub(crate) fn note(line: &dyn Display) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn help_lists_every_exit_status() {
        for status in 0..=12 {
            assert!(EXITS.contains(&format!("\n{status:4}  ")), "{status}");
        }
    }
}
