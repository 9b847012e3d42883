//! `ringraft serve`: run a node until a signal ends it.
//!
//! Flags are taken over the config file, which is taken over the defaults (`config.rs`). The banner goes to
//! standard output and ends with `ready HOST:PORT` once requests are served; diagnostics go to standard
//! error.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, Failure, note};
use crate::config::{Fault, NodeConfig};

/// What is typed.
#[derive(Args, Default)]
pub struct Flags {
    /// Where the data lives; made if it is not there. [default: ./ringraft-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where clients come in. [default: 127.0.0.1:5678]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where other nodes come in. [default: 127.0.0.1:5679]
    #[arg(long, value_name = "HOST:PORT")]
    peer_listen: Option<String>,
    /// This node's name in the cluster, 1 and up. [default: 1]
    #[arg(long, value_name = "N")]
    node_id: Option<String>,
    /// Partitions founded in an empty data directory; 0 founds none and waits for Bootstrap. [default: 8]
    #[arg(long, value_name = "N")]
    partitions: Option<String>,
    /// Pinned cores; 0 is one for each core there is. [default: 0]
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// What clients speak: documented or released. [default: documented]
    #[arg(long, value_name = "NAME")]
    dialect: Option<String>,
    /// A file of keys and values; tuning/node.toml explains each.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How much to tell on standard error: error, warn, info, debug or trace. [default: warn]
    #[arg(long, value_name = "LEVEL")]
    trace: Option<String>,
}

/// Does it.
///
/// # Errors
/// As the table of exit statuses says.
pub fn run(flags: &Flags) -> Result<Exit, Failure> {
    let config = configure(flags)?;
    let _ = config;
    Err(Failure::new(Exit::Failed, "not in this build"))
}

fn configure(flags: &Flags) -> Result<NodeConfig, Failure> {
    let mut config = NodeConfig::default();
    if let Some(path) = &flags.config {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(Exit::Config, format!("{shown}: {error}")))?;
        let name = shown.to_string();
        config.read(&text).map_err(|faults| told(Some(name.as_str()), &faults))?;
    }
    let typed = [
        ("node.data_dir", "--data-dir", &flags.data_dir),
        ("node.listen", "--listen", &flags.listen),
        ("node.peer_listen", "--peer-listen", &flags.peer_listen),
        ("node.id", "--node-id", &flags.node_id),
        ("cluster.partitions", "--partitions", &flags.partitions),
        ("node.shards", "--shards", &flags.shards),
        ("node.dialect", "--dialect", &flags.dialect),
        ("node.trace", "--trace", &flags.trace),
    ];
    for (key, flag, value) in typed {
        if let Some(value) = value {
            config.set(key, flag, value).map_err(|fault| Failure::new(Exit::Usage, fault))?;
        }
    }
    config.check().map_err(|faults| told(None, &faults))?;
    Ok(config)
}

/// All faults but the last go out at once; the last is the failure.
fn told(file: Option<&str>, faults: &[Fault]) -> Failure {
    let line = |fault: &Fault| match file {
        Some(file) => format!("{file}, {fault}"),
        None => fault.to_string(),
    };
    let (last, others) = faults.split_last().expect("a refusal has a reason");
    for fault in others {
        note(&format_args!("ringraft: {}", line(fault)));
    }
    let advice = "tuning/node.toml lists every key with its meaning, unit, default and bound";
    Failure::new(Exit::Config, line(last)).mend(advice)
}
