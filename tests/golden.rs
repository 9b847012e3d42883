//! Walks `tests/golden/**.txt` through `sim::story`; `UPDATE=1` rewrites what came of each block,
//! and a rewrite is reviewed like code.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use ringraft::sim::story;

#[test]
fn stories() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files = Vec::new();
    walk(&root, &mut files);
    assert!(!files.is_empty(), "no stories in {}", root.display());
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for file in &files {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        let text = fs::read_to_string(file).unwrap();
        match std::panic::catch_unwind(|| story::tell(&text)) {
            Ok(Ok(told)) if told == text => {}
            Ok(Ok(told)) if update => fs::write(file, told).unwrap(),
            Ok(Ok(told)) => wrong.push(format!("{name}:\n{}", difference(&text, &told))),
            Ok(Err(why)) => wrong.push(format!("{name}: {why}")),
            Err(_) => wrong.push(format!("{name}: panic, see above")),
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE=1 rewrites them", wrong.join("\n"));
}

fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            walk(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "txt") {
            into.push(path);
        }
    }
}

/// The first lines in which they differ.
fn difference(wanted: &str, told: &str) -> String {
    let pairs = wanted.lines().zip(told.lines()).enumerate();
    let mut lines: Vec<String> = pairs
        .filter(|(_, (wanted, told))| wanted != told)
        .take(3)
        .map(|(at, (wanted, told))| format!("  line {}:\n  - {wanted}\n  + {told}", at + 1))
        .collect();
    if lines.is_empty() {
        lines.push("  one is longer".to_owned());
    }
    lines.join("\n")
}
