//! Starts the command line, prints the last error and picks the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    moothall::cli::main()
}
