//! Compiles `proto/` into Rust with a protobuf compiler that is itself Rust, and records the commit
//! for
//! `--version`. Absent on purpose: a system protoc, generated services (the gRPC edge is our own).

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    messages("documented", &out)?;
    messages("released", &out)?;
    messages("rsm", &out)?;
    messages("peer", &out)?;

    record_commit();
    Ok(())
}

/// The messages of one tree, in a directory of their own because packages have the same names.
fn messages(tree: &str, out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto").join(tree);
    let into = out.join(tree);
    fs::create_dir_all(&into)?;
    let mut files = Vec::new();
    proto_files(&root, &mut files)?;
    let descriptors = protox::compile(&files, [root])?;
    prost_build::Config::new()
        .bytes(["."])
        .btree_map(["."])
        .include_file("messages.rs")
        .out_dir(&into)
        .compile_fds(descriptors)?;
    Ok(())
}

fn proto_files(directory: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            proto_files(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            into.push(path);
        }
    }
    Ok(())
}

/// The commit that `--version` names; `unknown` outside a checkout.
fn record_commit() {
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/refs/heads");
    let commit = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned());
    println!("cargo::rustc-env=RINGRAFT_COMMIT={commit}");
}
