//! `kindred activate`: back to an artifact that was published before.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use kindred::artifact::{self, ArtifactError, MANIFEST_FILE, Manifest};
use kindred::telemetry::chain;
use serde::Serialize;

use super::verify::{VerifyReport, verify};
use super::{Exit, Global};
use crate::progress::Progress;
use crate::report::{Report, Table, count, emit};
use crate::whole_dir::parent;

/// The command line.
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
    /// Where they are, whatever directory this is asked in.
    artifacts: PathBuf,
    /// The one that CURRENT names; none if it names nothing.
    current: Option<String>,
    /// Why it names nothing, or not one of these.
    problem: Option<String>,
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
    let root = std::path::absolute(&args.artifacts).context("--artifacts")?;
    let Some(generation) = args.generation.clone() else {
        let (current, problem) = current(&root);
        let generations = list(&root)?;
        let is_listed = generations.iter().any(|one| current.as_ref() == Some(&one.generation));
        let unread = || (!is_listed).then(|| "the manifest of the one that CURRENT names cannot be read".to_owned());
        let problem = problem.or_else(unread);
        emit(&Listed { artifacts: root, current, problem, generations }, global.json)?;
        return Ok(Exit::Done);
    };
    check_name(&generation)?;
    let directory = root.join(&generation);
    ensure!(
        directory.join(MANIFEST_FILE).is_file(),
        "there is no artifact {generation} in {}: without a name, `kindred activate` lists those there are",
        root.display()
    );
    let progress = Progress::bar("verifying", 0);
    let verified = verify(&directory)?;
    progress.finish();
    let activated = activated(&root, generation, verified)?;
    emit(&activated, global.json)?;
    Ok(if activated.ok { Exit::Done } else { Exit::No })
}

/// Makes CURRENT name an artifact that was found whole. What it named is asked only now: checking takes a while, in which another may be published.
fn activated(root: &Path, generation: String, verified: VerifyReport) -> anyhow::Result<Activated> {
    let (before, _) = current(root);
    if verified.ok && before.as_ref() != Some(&generation) {
        artifact::activate(root, &generation)?;
    }
    Ok(Activated { ok: verified.ok, generation, before, problem: verified.problem })
}

/// What CURRENT names, or why it names nothing.
fn current(root: &Path) -> (Option<String>, Option<String>) {
    match artifact::current(root) {
        Ok(current) => (Some(current.generation), None),
        Err(ArtifactError::NothingPublished { .. }) => (None, Some("there is no CURRENT: choose one".to_owned())),
        Err(error) => (None, Some(chain(&error))),
    }
}

/// Refuses what names no artifact; whoever gave the path of one is told its name.
fn check_name(given: &str) -> anyhow::Result<()> {
    if artifact::is_generation_name(given) {
        return Ok(());
    }
    let path = Path::new(given);
    let name = path.file_name().and_then(|name| name.to_str()).filter(|name| artifact::is_generation_name(name));
    let Some(name) = name else { return Err(ArtifactError::GenerationName { name: given.to_owned() }.into()) };
    bail!("{given} is a path: give the name, `kindred activate {name} --artifacts {}`", parent(path).display())
}

/// The artifacts whose manifests can be read, the oldest first; each is read once.
fn list(root: &Path) -> anyhow::Result<Vec<Generation>> {
    let found = artifact::manifests(root).with_context(|| format!("listing the artifacts in {}", root.display()))?;
    let one = |(generation, Manifest { created_at, trainer, n_items, .. })| Generation {
        generation,
        created_at,
        trainer,
        n_items,
    };
    Ok(found.into_iter().map(one).collect())
}

impl Report for Listed {
    fn text(&self) -> String {
        if self.generations.is_empty() && self.current.is_none() {
            return format!(
                "there is no artifact in {}: name the directory with --artifacts, or run `kindred build`\n",
                self.artifacts.display()
            );
        }
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
        let problem = self.problem.as_ref().map(|problem| format!("{problem}\n")).unwrap_or_default();
        table.text() + &problem
    }
}

impl Report for Activated {
    fn text(&self) -> String {
        let mut text = String::new();
        let before = self.before.as_deref().unwrap_or("nothing");
        let _ = match &self.problem {
            None if self.before.as_ref() == Some(&self.generation) => {
                writeln!(text, "CURRENT names {before} already, and it is whole")
            }
            None => writeln!(
                text,
                "CURRENT names {}, before it named {before}; a running server takes it when it looks next",
                self.generation
            ),
            Some(problem) => writeln!(text, "{} is damaged, CURRENT still names {before}: {problem}", self.generation),
        };
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kindred::testing::Fixture;

    use super::*;

    #[test]
    fn what_was_published_while_an_artifact_was_checked_is_what_current_named_before() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        Fixture::shop().publish(root, "g1");
        let checked = verify(&root.join("g1")).unwrap();
        Fixture::shop().publish(root, "g2");
        let done = activated(root, "g1".to_owned(), checked).unwrap();
        assert_eq!((done.ok, done.before.as_deref()), (true, Some("g2")), "{done:?}");
        assert_eq!(artifact::current(root).unwrap().generation, "g1", "it is not left at what came meanwhile");
    }
}
