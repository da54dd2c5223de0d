//! The `kindred` command. Exit code 0: done; 1: the answer is no; 2: wrong usage, or something could not be read or written.

use std::process::ExitCode;

use clap::Parser;
use kindred_tools::cmd::{self, Cli};
use kindred_tools::report;

// What the store's engine frees in one thread was allocated in another, by the hundred thousand; glibc's allocator then halts the allocating thread for
// a tenth of a second (`kindred bench store`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // clap ends the process itself on --help and on wrong usage, with 0 and 2.
    let cli = Cli::parse();
    match cmd::run(&cli) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => {
            report::error(&error);
            ExitCode::from(2)
        }
    }
}
