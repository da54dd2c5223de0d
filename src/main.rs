//! The server's program: arguments to settings to logs to a server to an exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use kindred::settings::Settings;

/// The Kindred server: events in, recommendations out.
///
/// Every setting with its default is in config/kindred.toml; the environment overrides it (KINDRED__HTTP__PORT=9000).
#[derive(Parser)]
#[command(name = "kindred-server", version)]
struct Arguments {
    /// A settings file in TOML; what it leaves out has its default.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print every setting with its default and its comment, and exit.
    #[arg(long)]
    print_defaults: bool,
}

// What the store's engine frees in one thread was allocated in another, by the hundred thousand; glibc's allocator then halts the allocating thread for
// a tenth of a second (`kindred bench store`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match start(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "the last word of a program that could not start")]
            {
                eprintln!("Error: {error:#}");
            }
            ExitCode::from(2)
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.print_defaults {
        #[allow(clippy::print_stdout, reason = "the answer to the question")]
        {
            print!("{}", kindred::settings::DEFAULTS);
        }
        return Ok(());
    }
    let settings = Settings::load(arguments.config.as_deref()).context("reading the settings")?;
    kindred::telemetry::init(&settings.log).context("starting the log")?;
    kindred::app::run(settings).context("starting the server")
}
