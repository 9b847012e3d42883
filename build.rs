//! Compiles `proto/` with a protobuf compiler that is itself Rust, and records the commit for
//! `--version`: messages as Rust, and for each dialect the descriptors of all that its listeners
//! serve. Absent on purpose: a system protoc, generated services (the gRPC edge is our own).

use std::{
    collections::BTreeSet,
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    messages("documented", &["documented"], &out)?;
    messages("released", RELEASED, &out)?;
    messages("rsm", &["rsm"], &out)?;
    messages("grpc", &["grpc"], &out)?;
    messages("peer", &["peer"], &out)?;
    messages("cluster", &["cluster"], &out)?;

    // What server reflection shows (src/edge/reflect.rs). A tree that is served belongs here.
    descriptors("documented", &["documented", "rsm", "grpc", "cluster"], &out)?;
    descriptors("released", &[RELEASED, &["rsm", "grpc", "cluster"]].concat(), &out)?;

    record_commit();
    Ok(())
}

/// What differs in the released dialect lies over the documented tree: of two files with the same
/// name the first tree's counts.
const RELEASED: &[&str] = &["released", "documented"];

/// The messages of the first tree and of what it imports, in a directory of their own because
/// packages have the same names.
fn messages(name: &str, trees: &[&str], out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let into = out.join(name);
    fs::create_dir_all(&into)?;
    let roots = roots(trees);
    let mut files = Vec::new();
    proto_files(&roots[0], &mut files)?;
    let descriptors = protox::compile(&files, &roots)?;
    prost_build::Config::new()
        .bytes(["."])
        .btree_map(["."])
        .include_file("messages.rs")
        .out_dir(&into)
        .compile_fds(descriptors)?;
    Ok(())
}

/// The files of these trees that have a service, and what they import, as one descriptor set.
fn descriptors(name: &str, trees: &[&str], out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let roots = roots(trees);
    let mut served = BTreeSet::new();
    for root in &roots {
        let mut files = Vec::new();
        proto_files(root, &mut files)?;
        for file in files {
            if fs::read_to_string(&file)?.contains("\nservice ") {
                served.insert(file.strip_prefix(root)?.to_owned());
            }
        }
    }
    let mut compiler = protox::Compiler::new(&roots)?;
    compiler.include_imports(true).include_source_info(false).open_files(served)?;
    fs::write(out.join(format!("{name}.descriptors")), compiler.encode_file_descriptor_set())?;
    Ok(())
}

fn roots(trees: &[&str]) -> Vec<PathBuf> {
    trees.iter().map(|tree| Path::new("proto").join(tree)).collect()
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
    // Only what is there is watched: cargo builds everything anew, every time, for a path that is
    // missing. In a worktree `.git` is a file, and what others commit to their branches is not ours.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        let path = git(&["rev-parse", "--git-path", name]);
        if let Some(path) = path.filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"]);
    let commit = commit.unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=RINGRAFT_COMMIT={commit}");
}

fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
