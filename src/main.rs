//! The binary: hands over to the command line, which has one file a subcommand.

fn main() -> std::process::ExitCode {
    ringraft::cli::run()
}
