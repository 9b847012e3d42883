//! What a command costs by stage, in process: CPU time, allocations, and instructions if wanted.
//!
//! `cargo bench --bench stages` prints a table for one partition, 16 and 1,000 on a core, 1,024
//! increments a round. CPU is that of the thread, the median of many rounds, so other work on the
//! machine shows little. `-- --sites` says which function allocated, raft-rs's own among them;
//! `-- --instructions` runs the table under callgrind, when valgrind is there, and counts
//! instructions, which do not depend on the machine's mood. Inside `cargo test` few rounds run, and
//! the number of allocations must not exceed what stands in `BOUNDS`.

mod client;
mod clock;
mod count;
mod crowd;
mod line;
mod world;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use clock::thread_cpu;
use count::{Allocated, Counting, allocated, sites};
use crowd::Crowd;
use line::{Line, Stage};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const COMMANDS: u32 = 1024;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if has("--instructions") {
        return instructions();
    }
    if has(CALLGRIND_RUN) {
        // No clock is read: rustix looks for the kernel's, which valgrind hides.
        let mut line = Line::new(1);
        return (0..CALLGRIND_ROUNDS).for_each(|_| line.round(COMMANDS, |_, run| run()));
    }
    if has("--sites") {
        return [1, 1000].into_iter().for_each(print_sites);
    }
    let measures = has("--bench");
    let many = [(1, 4000), (16, 4000), (1000, 600)];
    let few = [(1, 8), (16, 8)];
    for (partitions, rounds) in if measures { &many[..] } else { &few } {
        let (partitions, rounds) = (*partitions, *rounds);
        let costs = measure(partitions, rounds, rounds);
        print(partitions, &costs);
        if !measures {
            check(partitions, &costs);
        }
    }
}

/// What one stage of all measured rounds cost.
#[derive(Default)]
struct Cost {
    cpu_ns: Vec<u64>,
    allocated: Allocated,
}

type Costs = BTreeMap<Row, Cost>;

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Of(Stage),
    /// `Shard::turn`, twice: what joins the stages from admission's second half to apply.
    Turns,
}

fn measure(partitions: u32, warm: u32, rounds: u32) -> Costs {
    // Half a million commands a second are 1,000 rounds between keep-alives.
    let keep_alive_rounds = (rounds / 2).min(1000);
    let mut costs = Costs::new();
    let mut line = Line::new(partitions);
    let mut crowd = Crowd::new(partitions);
    for number in 0..warm + rounds {
        if number % keep_alive_rounds == keep_alive_rounds - 1 {
            line.keep_alive();
            crowd.keep_alive();
        }
        let measured = number >= warm;
        line.round(COMMANDS, |stage, run| {
            let cost = spent(run);
            if measured {
                costs.entry(Row::Of(stage)).or_default().add(cost);
            }
        });
        crowd.ask(COMMANDS);
        let cost = spent(&mut || crowd.turns(COMMANDS));
        if measured {
            costs.entry(Row::Turns).or_default().add(cost);
        }
    }
    costs
}

impl Cost {
    fn add(&mut self, (cpu, allocated): (Duration, Allocated)) {
        self.cpu_ns.push(u64::try_from(cpu.as_nanos()).expect("a round is short"));
        self.allocated += allocated;
    }

    /// Microseconds of the median round.
    fn round_us(&self) -> f64 {
        let mut sorted = self.cpu_ns.clone();
        sorted.sort_unstable();
        sorted[sorted.len() / 2] as f64 / 1e3
    }

    fn rounds(&self) -> f64 {
        self.cpu_ns.len() as f64
    }
}

fn spent(run: &mut dyn FnMut()) -> (Duration, Allocated) {
    let (before, began) = (allocated(), thread_cpu());
    run();
    (thread_cpu() - began, allocated() - before)
}

/// The table's rows: what each is the sum of, and the difference to.
const ROWS: [(&str, &[Row], &[Row]); 7] = [
    ("HTTP/2", &[Row::Of(Stage::Http2)], &[]),
    ("admission", &[Row::Of(Stage::Admission)], &[]),
    ("raft", &[Row::Of(Stage::Propose), Row::Of(Stage::Commit)], &[Row::Of(Stage::Apply)]),
    ("journal", &[Row::Of(Stage::Journal)], &[]),
    ("apply", &[Row::Of(Stage::Apply)], &[]),
    ("reply", &[Row::Of(Stage::Reply)], &[]),
    ("(two whole turns)", &[Row::Turns], &[]),
];

fn print(partitions: u32, costs: &Costs) {
    println!("\n{COMMANDS} increments a round over {partitions} partitions, for each:");
    println!("{:18} {:>9} {:>12} {:>12}", "stage", "us CPU", "allocations", "bytes");
    let mut sums = (0.0, 0.0, 0.0);
    for (place, (name, plus, minus)) in ROWS.into_iter().enumerate() {
        let row = Row::sum(plus, costs) - Row::sum(minus, costs);
        if place == ROWS.len() - 1 {
            println!("{:18} {:>9.3} {:>12.4} {:>12.1}", "all", sums.0, sums.1, sums.2);
        }
        let each = f64::from(COMMANDS);
        let (us, times, bytes) = (row.us / each, row.times / each, row.bytes / each);
        println!("{name:18} {us:>9.3} {times:>12.4} {bytes:>12.1}");
        sums = (sums.0 + us, sums.1 + times, sums.2 + bytes);
    }
}

/// A round of one or more stages.
struct Sum {
    us: f64,
    times: f64,
    bytes: f64,
}

impl Row {
    fn sum(rows: &[Row], costs: &Costs) -> Sum {
        let costs = rows.iter().map(|row| &costs[row]);
        costs.fold(Sum { us: 0.0, times: 0.0, bytes: 0.0 }, |sum, cost| Sum {
            us: sum.us + cost.round_us(),
            times: sum.times + cost.allocated.times as f64 / cost.rounds(),
            bytes: sum.bytes + cost.allocated.bytes as f64 / cost.rounds(),
        })
    }
}

impl std::ops::Sub for Sum {
    type Output = Sum;

    fn sub(self, less: Sum) -> Sum {
        Sum {
            us: self.us - less.us,
            times: self.times - less.times,
            bytes: self.bytes - less.bytes,
        }
    }
}

/// Allocations of a round at most: in all, and for each partition that takes part. None of them is
/// for a command: each partition's turn has its entry, which raft-rs wants in lists of its own, and
/// apply has a chunk of kept outputs for each 64 commands, which a session that was just tidied
/// grows anew.
const BOUNDS: [(Stage, u64, u64); 7] = [
    (Stage::Http2, 0, 0),
    (Stage::Admission, 0, 2),
    (Stage::Propose, 0, 4),
    (Stage::Journal, 0, 0),
    (Stage::Commit, 64, 14),
    (Stage::Apply, 64, 12),
    (Stage::Reply, 0, 0),
];

fn check(partitions: u32, costs: &Costs) {
    for (stage, all, each) in BOUNDS {
        let (cost, bound) = (&costs[&Row::Of(stage)], all + each * u64::from(partitions));
        let times = cost.allocated.times.div_ceil(cost.cpu_ns.len() as u64);
        assert!(times <= bound, "{stage:?}: {times} allocations a round, {bound} were enough");
    }
}

/// One round with a walk of the stack at each allocation.
fn print_sites(partitions: u32) {
    let mut line = Line::new(partitions);
    for _ in 0..200 {
        line.round(COMMANDS, |_, run| run());
    }
    println!("\nallocations of a round of {COMMANDS} over {partitions} partitions");
    line.round(COMMANDS, |stage, run| {
        for (who, allocated) in sites(run) {
            println!("{stage:10?} {:>6} {:>9}  {who}", allocated.times, allocated.bytes);
        }
    });
}

/// What tells this program that it runs under callgrind, and how many rounds it then makes.
const CALLGRIND_RUN: &str = "--under-callgrind";
const CALLGRIND_ROUNDS: u32 = 64;

/// Instructions of each stage, counted by callgrind in a run of this program.
fn instructions() {
    let me = std::env::current_exe().expect("Linux");
    let place = tempfile::tempdir().expect("a directory");
    let out = place.path().join("callgrind");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--quiet"]).arg(option("--callgrind-out-file=", &out));
    match valgrind.arg(me).arg(CALLGRIND_RUN).status() {
        Ok(status) if status.success() => {}
        Ok(status) => return println!("not measured, valgrind ended with {status}"),
        Err(error) => return println!("not measured, valgrind is missing: {error}"),
    }
    let mut annotate = Command::new("callgrind_annotate");
    let told =
        annotate.args(["--inclusive=yes", "--threshold=100", "--auto=no"]).arg(&out).output();
    let told = told.expect("it comes with valgrind");
    let told = String::from_utf8_lossy(&told.stdout);
    let commands = u64::from(COMMANDS * CALLGRIND_ROUNDS);
    println!("instructions for each of {COMMANDS} increments a round, one partition");
    let of = |name: &str| inclusive(&told, &format!("::Line::{name}")) / commands;
    let apply = of("apply");
    for (name, count) in [
        ("HTTP/2", of("http2")),
        ("admission", of("admission")),
        ("raft", (of("propose") + of("commit")).saturating_sub(apply)),
        ("journal", of("journal")),
        ("apply", apply),
        ("reply", of("reply")),
    ] {
        println!("{name:18} {count:>9}");
    }
}

fn option(name: &str, value: &std::path::Path) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(name);
    option.push(value);
    option
}

/// The count before the function in callgrind's table; 0 when it is not there.
fn inclusive(table: &str, name: &str) -> u64 {
    let line = table.lines().find(|line| {
        line.split_once(name).is_some_and(|(_, after)| {
            !after.starts_with(|it: char| it == '_' || it.is_alphanumeric())
        })
    });
    let count = line.and_then(|line| line.split_whitespace().next()).unwrap_or("0");
    count.replace(',', "").parse().unwrap_or(0)
}
