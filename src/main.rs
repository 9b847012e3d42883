//! The binary: one line a subcommand.

fn main() {}
