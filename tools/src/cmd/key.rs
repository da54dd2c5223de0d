//! `kindred key`: API keys.

use std::io::Write;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use kindred::keys::{NewKey, Role};
use serde::Serialize;

use super::{Exit, Global};
use crate::report::{Report, emit, note};

/// The name of a key that was given none.
const DEFAULT_NAME: &str = "key";

/// The command line.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: kindred key new --role write --name shop >> keys")]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub what: What,
}

/// What to do with keys.
#[derive(Clone, Debug, Subcommand)]
pub enum What {
    /// Make a key: the key itself goes to stderr, once; its line for the keys file to stdout
    ///
    /// Only the hash of the key is in the line, so the file cannot tell the key to whoever reads it. The server takes a changed file
    /// without a restart (security.keys, security.reload_ms). A line may end with rate=N burst=N, requests per second and at once.
    New(NewArgs),
}

/// The new key.
#[derive(Clone, Debug, clap::Args)]
pub struct NewArgs {
    /// What its callers may do; each role may do what those before it may
    #[arg(long, value_enum)]
    pub role: RoleArg,
    /// A name for it, shown in the audit log; a keys file takes each name once, so give every key of a file another
    #[arg(long, default_value = DEFAULT_NAME)]
    pub name: String,
}

/// What a key's callers may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Ask for lists, scores, items, metrics.
    Read,
    /// Send interactions, items and what is to be known of people.
    Write,
    /// Operate the server.
    Admin,
}

/// The line for the keys file; with `--json` the key too.
#[derive(Serialize)]
struct KeyReport {
    key: String,
    line: String,
}

impl Report for KeyReport {
    fn text(&self) -> String {
        format!("{}\n", self.line)
    }
}

/// Makes a key.
///
/// # Errors
/// The name has a character that it may not have, or the system gives no random bytes.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let What::New(args) = &args.what;
    let role = match args.role {
        RoleArg::Read => Role::Read,
        RoleArg::Write => Role::Write,
        RoleArg::Admin => Role::Admin,
    };
    let NewKey { secret, line } = NewKey::new(&args.name, role)?;
    if !global.json {
        // Not a remark that --quiet could silence: it is what was asked for.
        writeln!(std::io::stderr().lock(), "the key, shown this once: {secret}").context("showing the key")?;
        if args.name == DEFAULT_NAME {
            note(&format!("it is named {DEFAULT_NAME}: where the keys file has one of that name, give another --name"));
        }
    }
    emit(&KeyReport { key: secret, line }, global.json)?;
    Ok(Exit::Done)
}
