//! The source tree's own rules, checked as a test: layers, purity, sizes, headers, dead files,
//! leftovers.
//!
//! It reads text, not syntax: a rule that a reader can check by eye it can check by line. All
//! faults are printed at once. A new module fails until it is placed in `LAYERS`, so that growth of
//! the architecture is a conscious line in a diff.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of `src/`, and the modules of the crate that it may name (design: the layers).
const LAYERS: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("time", &[]),
    ("prng", &[]),
    ("limits", &["time"]),
    ("config", &["id", "time", "limits"]),
    ("wire", &["id", "time", "limits", "prng"]),
    ("partition", &["id", "time", "prng", "limits", "wire"]),
    ("journal", &["id", "time", "limits"]),
    ("shard", &["id", "time", "prng", "limits", "wire", "partition", "journal"]),
    ("edge", &["id", "time", "prng", "limits", "wire", "partition", "shard"]),
    // The words of how an operation went are the partition's.
    ("workload", &["id", "time", "prng", "limits", "wire", "partition"]),
    (
        "sim",
        &[
            "id",
            "time",
            "prng",
            "limits",
            "wire",
            "partition",
            "journal",
            "shard",
            "edge",
            "workload",
        ],
    ),
    ("mesh", SHELL),
    ("frontend", SHELL),
    ("peer", SHELL),
    ("runtime", SHELL),
    ("load", &["id", "time", "prng", "limits", "config", "wire", "workload"]),
    ("client", &["id", "time", "prng", "limits", "config", "wire"]),
    (
        "cli",
        &[
            "id",
            "time",
            "prng",
            "limits",
            "wire",
            "config",
            "partition",
            "journal",
            "shard",
            "edge",
            "sim",
            "workload",
            "runtime",
            "client",
            "load",
        ],
    ),
];

/// What the shell that touches the world may name: all of the core, and its own rooms.
const SHELL: &[&str] = &[
    "id",
    "time",
    "prng",
    "limits",
    "config",
    "wire",
    "partition",
    "journal",
    "shard",
    "edge",
    "mesh",
    "frontend",
    "peer",
    "runtime",
];

/// Modules that reach no clock, socket, file or chance but what is handed in.
const PURE: &[&str] = &[
    "id",
    "time",
    "prng",
    "limits",
    "config",
    "wire",
    "partition",
    "journal",
    "shard",
    "edge",
    "workload",
    "sim",
];

/// What a pure module may not say, and what it says instead.
const IMPURE: &[(&str, &str)] = &[
    ("Instant::now", "take `Now` as an argument"),
    ("SystemTime", "take `Now` as an argument"),
    ("thread_rng", "take a `Prng`"),
    (" rand::", "take a `Prng`"),
    ("std::fs", "bytes come in, bytes go out"),
    ("std::net", "bytes come in, bytes go out"),
    ("std::thread", "a turn has one thread"),
    ("std::env", "settings are handed in"),
    ("glommio", "that is the shell's"),
    ("tokio", "that is the shell's"),
    ("io_uring", "that is the shell's"),
    ("HashMap", "its order is not the same twice; BTreeMap or a slab"),
    ("HashSet", "its order is not the same twice; BTreeSet or a slab"),
    ("async fn", "nothing below the shells waits"),
    (".await", "nothing below the shells waits"),
    ("println!", "write into a value"),
];

/// What no file may keep.
const LEFTOVERS: &[&str] = &["dbg!(", "FIXME", "todo!(", "unimplemented!(", "#[ignore"];

/// Files that may say `unsafe`, each with its proof.
const UNSAFE: &[&str] =
    &["src/journal/aligned.rs", "src/runtime/ring.rs", "src/runtime/disk.rs", "src/runtime/tcp.rs"];

const LINES_MAX: usize = 800;
const COLUMNS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn the_tree_keeps_its_rules() {
    let mut faults = Vec::new();
    for path in
        files("src", "rs").iter().chain(&files("tests", "rs")).chain(&files("benches", "rs"))
    {
        let text = fs::read_to_string(path).expect("a listed file is readable");
        let name = path.to_str().expect("our paths are UTF-8").replace('\\', "/");
        shape(&name, &text, &mut faults);
        if let Some(inside) = name.strip_prefix("src/") {
            layer(&name, inside, &text, &mut faults);
        }
    }
    dead_files(&mut faults);
    top_level(&mut faults);
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Header, length, width, function length, leftovers, unsafe.
fn shape(name: &str, text: &str, faults: &mut Vec<String>) {
    if !text.starts_with("//!") {
        faults.push(format!("{name}:1: no header that says why the file exists"));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        faults.push(format!("{name}: {lines} lines; split it, {LINES_MAX} is the bound"));
    }
    let me = name == "tests/tidy.rs";
    for (number, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line)) {
        if line.chars().count() > COLUMNS_MAX && !me {
            faults.push(format!("{name}:{number}: wider than {COLUMNS_MAX} columns"));
        }
        for word in LEFTOVERS {
            if line.contains(word) && !me {
                faults.push(format!("{name}:{number}: `{word}` is left over"));
            }
        }
        let code = code_of(line);
        if code.contains("unsafe ") && name.starts_with("src/") && !UNSAFE.contains(&name) {
            faults.push(format!("{name}:{number}: unsafe outside the modules that prove it"));
        }
    }
    long_functions(name, text, faults);
}

/// A function runs from its `fn` line to the first closing brace at the same depth.
fn long_functions(name: &str, text: &str, faults: &mut Vec<String>) {
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let begins =
            ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "const fn ", "async fn "];
        let begins = begins.iter().any(|word| code.starts_with(word)) || code.contains(" fn ");
        let is_code = !code.starts_with("//") && !code.starts_with('"');
        if !begins || !is_code || code.ends_with(';') || code.ends_with('}') {
            continue;
        }
        let end = lines[at..].iter().position(|line| {
            line.starts_with('}') && indent == 0
                || line.len() > indent && line[..indent].trim().is_empty() && line[indent..] == *"}"
        });
        if let Some(end) = end
            && end + 1 > FUNCTION_LINES_MAX
        {
            faults.push(format!(
                "{name}:{}: a function of {} lines; {FUNCTION_LINES_MAX} fit a screen",
                at + 1,
                end + 1
            ));
        }
    }
}

/// What the module names of the crate, and what a pure one may not say.
fn layer(name: &str, inside: &str, text: &str, faults: &mut Vec<String>) {
    let module = inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs");
    if module == "lib" || module == "main" {
        return;
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(known, _)| *known == module) else {
        faults.push(format!("{name}: module {module} has no place in LAYERS"));
        return;
    };
    let pure = PURE.contains(&module);
    for (number, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line)) {
        let code = code_of(line);
        for part in code.split("crate::").skip(1) {
            let target: String =
                part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if target != module && !target.is_empty() && !allowed.contains(&target.as_str()) {
                faults.push(format!("{name}:{number}: {module} may not name {target}"));
            }
        }
        for (word, instead) in IMPURE.iter().filter(|_| pure) {
            if code.contains(word) {
                faults.push(format!("{name}:{number}: `{word}` in a pure module: {instead}"));
            }
        }
    }
}

/// Every file of `src/` is named by a `mod` of its parent.
fn dead_files(faults: &mut Vec<String>) {
    for path in files("src", "rs") {
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
        if ["lib", "main"].contains(&stem.as_str()) {
            continue;
        }
        let folder = path.parent().unwrap_or(Path::new("src"));
        let (word, parents) = if stem == "mod" {
            let word = folder.file_name().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
            (word, parents_of(folder.parent().unwrap_or(Path::new("src"))))
        } else {
            (stem, parents_of(folder))
        };
        let named = parents.iter().filter_map(|p| fs::read_to_string(p).ok()).any(|text| {
            text.lines().any(|line| {
                let line = line.trim();
                line.ends_with(&format!("mod {word};")) || line.contains(&format!("mod {word} {{"))
            })
        });
        if !named {
            faults.push(format!("{}: no `mod {word}` names it", path.display()));
        }
    }
}

/// The files that may declare the modules of `folder`.
fn parents_of(folder: &Path) -> Vec<PathBuf> {
    let beside = folder.with_extension("rs");
    vec![folder.join("mod.rs"), folder.join("lib.rs"), folder.join("main.rs"), beside]
}

/// Nothing stands at the top but what the shape of the package allows.
fn top_level(faults: &mut Vec<String>) {
    let known: BTreeSet<&str> = [
        "Cargo.toml",
        "Cargo.lock",
        "build.rs",
        "proto",
        "src",
        "benches",
        "tests",
        "tuning",
        "README.md",
        "LICENSE",
        "rustfmt.toml",
        "target",
        "client",
        "ringraft-data",
    ]
    .into();
    for entry in fs::read_dir(".").expect("the package is readable").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !known.contains(name.as_str()) {
            faults.push(format!("{name}: has no place at the top"));
        }
    }
}

/// The line without its comment and without what stands between quotes.
fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut quoted = false;
    let mut last = ' ';
    for c in line.chars() {
        match c {
            '"' if last != '\\' && last != '\'' => quoted = !quoted,
            '/' if !quoted && last == '/' => {
                code.pop();
                break;
            }
            c if !quoted => code.push(c),
            _ => {}
        }
        last = c;
    }
    code
}

fn files(root: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(root)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
