//! `kindred activate`: back to an artifact that was published before.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Context;
use kindred::artifact::{self, ArtifactError};
use serde::Serialize;

use super::verify::verify;
use super::{Exit, Global};
use crate::progress::Progress;
use crate::report::{Report, Table, count, emit};

/// Go back to an artifact that was published before, or list those there are
///
/// Every byte of it is checked first; then CURRENT names it, and a server takes it when it looks next (`artifacts.poll_ms`, SIGHUP or
/// `POST /admin/reload`). What changed in the catalogue since is laid over it, as far back as changes are kept (seven days). Exit code 0:
/// done; 1: the artifact is damaged, and CURRENT names what it named; 2: there is none of this name.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kindred activate\n  kindred activate 20261130T134845Z-e8c61fb3 --artifacts artifacts"
)]
pub struct Args {
    /// The artifact's directory beside CURRENT; without it they are listed
    #[arg(value_name = "GENERATION")]
    pub generation: Option<String>,
    /// The directory of artifacts
    #[arg(long, default_value = "artifacts", value_name = "DIR")]
    pub artifacts: PathBuf,
}

/// The artifacts that there are.
#[derive(Clone, Debug, Serialize)]
struct Listed {
    /// The one that CURRENT names; none if it names nothing.
    current: Option<String>,
    /// The oldest first.
    generations: Vec<Generation>,
}

#[derive(Clone, Debug, Serialize)]
struct Generation {
    generation: String,
    created_at: String,
    trainer: String,
    n_items: u32,
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
struct Activated {
    /// Whether CURRENT names it now.
    ok: bool,
    generation: String,
    /// What CURRENT named before; none if it named nothing.
    before: Option<String>,
    /// What is wrong with the artifact, if anything.
    problem: Option<String>,
}

/// Activates or lists.
///
/// # Errors
/// There is no such directory or artifact, something else publishes there, or CURRENT cannot be written.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let root = &args.artifacts;
    let before = artifact::current(root).ok().map(|current| current.generation);
    let Some(generation) = args.generation.clone() else {
        emit(&Listed { current: before, generations: list(args)? }, global.json)?;
        return Ok(Exit::Done);
    };
    if !artifact::is_generation_name(&generation) {
        return Err(ArtifactError::GenerationName { name: generation }.into());
    }
    let progress = Progress::bar("verifying", 0);
    let verified = verify(&root.join(&generation)).context("`kindred activate` alone lists what there is")?;
    progress.finish();
    if verified.ok {
        artifact::activate(root, &generation)?;
    }
    emit(&Activated { ok: verified.ok, generation, before, problem: verified.problem }, global.json)?;
    Ok(if verified.ok { Exit::Done } else { Exit::No })
}

fn list(args: &Args) -> anyhow::Result<Vec<Generation>> {
    let root = &args.artifacts;
    let names = artifact::generations(root).with_context(|| format!("listing the artifacts in {}", root.display()))?;
    let one = |generation: String| {
        let manifest = artifact::read_manifest(&root.join(&generation)).ok()?;
        let (created_at, trainer, n_items) = (manifest.created_at, manifest.trainer, manifest.n_items);
        Some(Generation { generation, created_at, trainer, n_items })
    };
    Ok(names.into_iter().filter_map(one).collect())
}

impl Report for Listed {
    fn text(&self) -> String {
        let mut table = Table::new(["generation", "built", "trainer", "items", "current"]);
        for Generation { generation, created_at, trainer, n_items } in &self.generations {
            let is_current = self.current.as_ref() == Some(generation);
            table.row([
                generation.clone(),
                created_at.clone(),
                trainer.clone(),
                count((*n_items).into()),
                if is_current { "yes" } else { "" }.to_owned(),
            ]);
        }
        table.text()
    }
}

impl Report for Activated {
    fn text(&self) -> String {
        let mut text = String::new();
        let before = self.before.as_deref().unwrap_or("nothing");
        let _ = match &self.problem {
            None => writeln!(text, "CURRENT names {}, before it named {before}", self.generation),
            Some(problem) => writeln!(text, "{} is damaged, CURRENT still names {before}: {problem}", self.generation),
        };
        text
    }
}
