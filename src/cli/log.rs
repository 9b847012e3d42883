//! `ringraft log`: read the journal of a node that is not running. Changes nothing.
//!
//! `dump` tells every block and record, log entries with the commands in them; `verify` checks all
//! of it and says what recovery would make of it. The formats are those of `journal/`; this file
//! only finds the files and finds words.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};

use super::{Exit, Failure, log_entry, say};
use crate::id::PartitionId;
use crate::journal::inspect::{Item, Says, inspect};
use crate::journal::recover::{Refused, Sight, Verdict};
use crate::journal::segment::SegmentHeader;
use crate::journal::{Fault, Founding, SegmentBytes, recover, segment};

/// What is typed.
#[derive(Args)]
pub struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print every block, record and log entry, in the order in which they count.
    Dump {
        /// The data directory, or one shard's directory in it.
        dir: PathBuf,
        /// Only this partition.
        #[arg(long, value_name = "N")]
        partition: Option<u32>,
    },
    /// Check every block and record; exit status 12 if anything durable is damaged.
    Verify {
        /// The data directory, or one shard's directory in it.
        dir: PathBuf,
    },
}

/// Does it.
///
/// # Errors
/// When there is no journal, or it cannot be read at all.
pub fn run(flags: &Flags) -> Result<Exit, Failure> {
    match &flags.command {
        Command::Dump { dir, partition } => {
            let mut told = false;
            for journal in journals(dir)? {
                told |= dump(&journal, *partition)?;
            }
            match partition {
                Some(partition) if !told => {
                    let what = format!("{}: no partition {partition} here", dir.display());
                    Err(Failure::new(Exit::No, what))
                }
                _ => Ok(Exit::Done),
            }
        }
        Command::Verify { dir } => {
            let mut whole = true;
            for journal in journals(dir)? {
                whole &= verify(&journal)?;
            }
            Ok(if whole { Exit::Done } else { Exit::Damaged })
        }
    }
}

/// One shard's directory and what is in it.
struct Found {
    directory: PathBuf,
    segments: Vec<SegmentBytes>,
}

/// The journals in `dir`: its own, or those of the shards below it.
fn journals(dir: &Path) -> Result<Vec<Found>, Failure> {
    let own = read(dir)?;
    if !own.segments.is_empty() {
        return Ok(vec![own]);
    }
    let mut shards = Vec::new();
    for entry in list(dir)? {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix("shard-").and_then(|number| number.parse::<u16>().ok());
        if let Some(number) = number.filter(|_| path.is_dir()) {
            shards.push((number, path));
        }
    }
    shards.sort();
    let found = shards.iter().map(|(_, path)| read(path)).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() {
        let what = format!("{}: no journal here", dir.display());
        let mend = "name a node's data directory, or the shard-N directory in it";
        return Err(Failure::new(Exit::No, what).mend(mend));
    }
    Ok(found)
}

fn read(directory: &Path) -> Result<Found, Failure> {
    let mut segments = Vec::new();
    for entry in list(directory)? {
        if let Some(sequence) = segment::sequence_of(&entry.file_name().to_string_lossy()) {
            let bytes = fs::read(entry.path()).map_err(|error| unread(&entry.path(), &error))?;
            segments.push(SegmentBytes { sequence, bytes: Bytes::from(bytes) });
        }
    }
    segments.sort_by_key(|segment| segment.sequence);
    Ok(Found { directory: directory.to_owned(), segments })
}

fn list(directory: &Path) -> Result<Vec<fs::DirEntry>, Failure> {
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    entries.map_err(|error| unread(directory, &error))
}

fn unread(path: &Path, error: &std::io::Error) -> Failure {
    let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::No } else { Exit::Disk };
    Failure::new(exit, format!("{}: {error}", path.display()))
}

fn refused(journal: &Found, refused: &Refused) -> Failure {
    let what = format!("{}: {refused}", journal.directory.display());
    match refused {
        Refused::Foreign { .. } => Failure::new(Exit::DataDir, what)
            .mend("segments of two journals are mixed here: restore the directory"),
        Refused::Newer { .. } => {
            Failure::new(Exit::DataDir, what).mend("run the version that wrote it")
        }
        Refused::Header { .. } => Failure::new(Exit::Damaged, what)
            .mend("restore this node's data, or let it join again with an empty directory"),
    }
}

/// Whether there was any record to tell.
fn dump(journal: &Found, only: Option<u32>) -> Result<bool, Failure> {
    say(&journal.directory.display());
    let mut any = false;
    let told = inspect(None, &journal.segments, |item| {
        let hidden = match &item {
            Item::Record { partition, .. } => only.is_some_and(|only| only != partition.0),
            Item::Block { .. } | Item::Segment { .. } => only.is_some(),
        };
        if !hidden {
            any |= matches!(item, Item::Record { .. });
            tell(&item);
        }
    });
    told.map_err(|error| refused(journal, &error))?;
    Ok(any)
}

fn tell(item: &Item) {
    match item {
        Item::Segment { sequence, header: None } => {
            say(&format_args!("{}: no readable header", segment::name(*sequence)));
        }
        Item::Segment { sequence, header: Some(header) } => say(&format_args!(
            "{}: node {}, shard {}, start {}, kept to block {}",
            segment::name(*sequence),
            header.owner.node,
            header.owner.shard,
            header.incarnation,
            header.kept
        )),
        Item::Block { verdict: Verdict::Skip | Verdict::End, .. } => {}
        Item::Block { segment, offset, header, first, last, sight, verdict } => {
            let place = place(*segment, *offset);
            match header.filter(|_| *sight == Sight::Whole && *verdict == Verdict::Take) {
                Some(header) => say(&format_args!(
                    "  block {first} at {place}: {} bytes, {} records",
                    header.length, header.records
                )),
                None => say(&format_args!(
                    "  blocks {first} to {last} at {place}: {}, {}",
                    seen(*sight),
                    judged(*verdict)
                )),
            }
        }
        Item::Record { partition, number, says, .. } => {
            say(&format_args!("    partition {partition}, record {number}: {}", words(says)));
            if let Says::Entries { first, entries } = says {
                for (position, (term, kind, data)) in (first.0..).zip(entries) {
                    log_entry::tell(position, *term, *kind, data);
                }
            }
        }
    }
}

fn words(says: &Says) -> String {
    match says {
        Says::Entries { first, entries } if entries.len() == 1 => format!("entry {first}"),
        Says::Entries { first, entries } => {
            format!("entries {first} to {}", first.0 + entries.len() as u64 - 1)
        }
        Says::State(state, conf) => {
            let mut text =
                format!("term {}, vote {}, commit {}", state.term, state.vote, state.commit);
            if let Some(conf) = conf {
                let _ = write!(text, ", voters {:?}, learners {:?}", conf.voters, conf.learners);
            }
            text
        }
        Says::Founded(founding) => founded(founding),
        Says::SnapshotBegin(position) => format!("a snapshot at {position} begins"),
        Says::SnapshotChunk(ordinal, bytes) => format!("snapshot slice {ordinal}, {bytes} bytes"),
        Says::SnapshotEnd(meta, slices) => format!(
            "snapshot at {} complete: term {}, index {}, digest {:016x}, {slices} slices",
            meta.position, meta.term, meta.index, meta.digest
        ),
        Says::Left => "left".to_owned(),
        Says::Unreadable(kind) => format!("{kind:?} that cannot be read"),
    }
}

fn founded(founding: &Founding) -> String {
    let how = if founding.joins { "joined" } else { "founded" };
    let mut text = format!("{how} as replica {} of", founding.replica);
    for member in &founding.members {
        let _ = write!(text, " {} ({}:{})", member.id, member.host, member.port);
    }
    text
}

/// Whether nothing durable is lost.
fn verify(journal: &Found) -> Result<bool, Failure> {
    let (mut blocks, mut records, mut entries, mut whole) = (0u64, 0u64, 0u64, true);
    let name = journal.directory.display();
    let told = inspect(None, &journal.segments, |item| match item {
        Item::Segment { sequence, header: None } => {
            say(&format_args!("{name}: {}: no readable header", segment::name(sequence)));
        }
        Item::Segment { .. } => {}
        Item::Block { segment, offset, first, last, sight, verdict, .. } => match verdict {
            Verdict::Take => blocks += 1,
            Verdict::Skip | Verdict::End => {}
            Verdict::Cut | Verdict::Corrupt => {
                whole &= verdict == Verdict::Cut;
                let place = place(segment, offset);
                let (seen, judged) = (seen(sight), judged(verdict));
                say(&format_args!("{name}: {place}: blocks {first} to {last}: {seen}, {judged}"));
            }
        },
        Item::Record { segment, offset, says, partition, .. } => {
            records += 1;
            match says {
                Says::Entries { entries: run, .. } => entries += run.len() as u64,
                Says::Unreadable(kind) => {
                    whole = false;
                    let place = place(segment, offset);
                    say(&format_args!(
                        "{name}: {place}: {kind:?} of partition {partition} makes no sense"
                    ));
                }
                _ => {}
            }
        }
    });
    told.map_err(|error| refused(journal, &error))?;
    for (partition, fault) in &faults(journal)? {
        whole = false;
        say(&format_args!("{name}: {fault}: partition {partition} does not start"));
    }
    let segments = journal.segments.len();
    let verdict = if whole { "whole" } else { "DAMAGED" };
    let counts = format!("{segments} segments, {blocks} blocks, {records} records");
    say(&format_args!("{name}: {verdict}: {counts}, {entries} entries"));
    Ok(whole)
}

/// What the next start would find wrong, with each partition that it would leave out.
fn faults(journal: &Found) -> Result<BTreeMap<PartitionId, Fault>, Failure> {
    let headers = journal.segments.iter().map(|segment| SegmentHeader::decode(&segment.bytes));
    let Some(header) = headers.flatten().next() else { return Ok(BTreeMap::new()) };
    let recovered = recover(header.owner, &journal.segments);
    recovered.map(|found| found.faults).map_err(|error| refused(journal, &error))
}

fn place(segment: u64, offset: u64) -> String {
    format!("{}, offset {offset}", segment::name(segment))
}

fn seen(sight: Sight) -> &'static str {
    match sight {
        Sight::Whole => "whole",
        Sight::Broken => "a checksum does not hold",
        Sight::Missing => "not there",
        Sight::Stale => "of an earlier use",
    }
}

fn judged(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Take => "counts",
        Verdict::Skip => "does not count",
        Verdict::End => "the end",
        Verdict::Cut => "cut off at the next start: it was never acknowledged",
        Verdict::Corrupt => "durable and lost: partitions with records there do not start",
    }
}
