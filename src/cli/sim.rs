//! `ringraft sim`: a simulated cluster from a seed.

use clap::Args;

use super::{Exit, Failure};

/// What is typed.
#[derive(Args)]
pub struct Flags {
    /// The seed: the same one gives the same run for ever.
    #[arg(long)]
    seed: u64,
    /// Tell the run as a story, event by event.
    #[arg(long)]
    story: bool,
}

/// Does it.
///
/// # Errors
/// As the table of exit statuses says.
pub fn run(flags: &Flags) -> Result<Exit, Failure> {
    let _ = (flags.seed, flags.story);
    Err(Failure::new(Exit::Failed, "the simulator is not in this build"))
}
