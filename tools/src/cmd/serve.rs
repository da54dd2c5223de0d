//! `kindred serve`: the server, as `kindred-server`, with flags for the settings that are changed most.

use std::io;
use std::path::PathBuf;
use std::thread;

use anyhow::Context;
use kindred::settings::{Settings, StoreKind};

use super::{Exit, Global};

/// The command line.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: kindred serve --artifacts artifacts --port 8080")]
pub struct Args {
    /// A settings file in TOML; what it leaves out has its default
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The directory that `kindred build` publishes into
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// Address to listen on
    #[arg(long)]
    pub host: Option<String>,
    /// TCP port; 0 lets the system choose, and the log says which
    #[arg(long)]
    pub port: Option<u16>,
    /// Worker threads; 0 for one per core
    #[arg(long)]
    pub workers: Option<usize>,
    /// Directory that keeps recent interactions
    #[arg(long, value_name = "DIR", conflicts_with = "memory")]
    pub store: Option<PathBuf>,
    /// Keep recent interactions in memory only; they are lost at the end
    #[arg(long)]
    pub memory: bool,
    /// What to log: error, warn, info, debug, trace, or levels per module
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
    /// End at once when standard input does: for who starts a server and may be killed before it can stop it
    #[arg(long, hide = true)]
    pub until_stdin_ends: bool,
}

impl Args {
    /// The settings, with what the flags say in them.
    ///
    /// # Errors
    /// A settings file that cannot be read, an unknown key, or a value out of range.
    pub fn settings(&self, global: &Global) -> anyhow::Result<Settings> {
        let mut settings = Settings::load(self.config.as_deref()).context("reading the settings")?;
        replace(&mut settings.artifacts.dir, &self.artifacts);
        replace(&mut settings.http.host, &self.host);
        replace(&mut settings.http.port, &self.port);
        replace(&mut settings.http.workers, &self.workers);
        replace(&mut settings.history.path, &self.store);
        replace(&mut settings.log.level, &self.log);
        // The log is all that a server prints.
        settings.log.json |= global.json;
        if global.quiet && self.log.is_none() && settings.log.level == Settings::default().log.level {
            settings.log.level = "warn".to_owned();
        }
        if self.store.is_some() {
            settings.history.store = StoreKind::Embedded;
        }
        if self.memory {
            settings.history.store = StoreKind::Memory;
        }
        settings.validate().context("a flag")?;
        Ok(settings)
    }
}

fn replace<T: Clone>(setting: &mut T, flag: &Option<T>) {
    if let Some(value) = flag {
        setting.clone_from(value);
    }
}

/// Serves until a signal stops it.
///
/// # Errors
/// Settings out of range, a store or port that is taken, or a server that fails.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let settings = args.settings(global)?;
    kindred::telemetry::init(&settings.log).context("starting the log")?;
    if args.until_stdin_ends {
        thread::Builder::new().name("stdin".to_owned()).spawn(end_with_stdin).context("watching standard input")?;
    }
    kindred::app::run(settings).context("starting the server")?;
    Ok(Exit::Done)
}

/// Ends the process as a kill does, which a store survives: who would have stopped it is gone.
fn end_with_stdin() {
    // What comes is nothing to us, and what cannot be read has ended too.
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    std::process::exit(0);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn what_is_said_to_every_command_holds_for_the_log() {
        let log = |line: &str, global: Global| {
            let log = Line::try_parse_from(line.split(' ')).unwrap().args.settings(&global).unwrap().log;
            (log.level, log.json)
        };
        let (plain, both) = (Global::default(), Global { json: true, quiet: true });
        assert_eq!(log("serve", plain), ("info".to_owned(), false));
        assert_eq!(log("serve", both), ("warn".to_owned(), true));
        assert_eq!(log("serve --log debug", both), ("debug".to_owned(), true));
    }
}
