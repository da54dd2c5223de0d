//! Each preset of `config/presets`, served: it is read, and its live lists are those that the offline evaluator makes. A setting that is wrong is told at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};

use kindred::scenario::Scenario;
use kindred::settings::Settings;
use support::{demo, kindred};

fn presets() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/presets");
    let mut found: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn the_pages_of_an_endless_list_are_made_as_the_home_page() {
    for preset in presets() {
        let scenarios = Settings::load(Some(&preset)).unwrap().scenarios;
        let pages = &scenarios["next_page"];
        let home = Scenario { candidates: pages.candidates, paged: pages.paged, ..scenarios["home"].clone() };
        assert!(pages.paged && *pages == home, "{}: {pages:?}", preset.display());
    }
}

#[test]
fn a_song_that_was_heard_is_left_out_of_no_list_for_longer_than_the_preset_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/presets/music.toml");
    let scenarios = Settings::load(Some(&path)).unwrap().scenarios;
    for name in ["home", "next_page", "similar", "also_bought", "trending", "popular"] {
        assert_eq!(scenarios[name].exclude_within_hours, 4.0, "{name}");
    }
}

#[test]
fn a_wrong_setting_is_told_before_the_demo_has_worked() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("demo");
    let mut command = kindred();
    command.args(["demo", "--port", "0", "--dir"]).arg(&dir).env("KINDRED__HISTORY__KEEP_PER_ACTOR", "many");
    let refused = command.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("reading the settings from the environment"), "{said}");
    assert!(!dir.exists());
}

#[test]
fn every_preset_is_served_and_its_lists_are_the_evaluators() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("demo");
    demo(&dir, 200, 400);
    let presets = presets();
    assert!(presets.len() >= 4, "{presets:?}");
    for preset in presets {
        let mut replay = kindred();
        replay.args(["bench", "replay", "--json", "--artifacts"]).arg(dir.join("artifacts"));
        replay.arg("--dataset").arg(dir.join("dataset")).arg("--config").arg(&preset);
        // No list is less than it could be because the machine is busy.
        replay.env("KINDRED__SCENARIOS__HOME__DEADLINE_MS", "60000");
        let output = replay.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        let report: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}: {text}{complaint}", preset.display()));
        let hit_rate = |of: &str| report[of]["hit_rate"].as_f64().unwrap();
        assert_eq!((&report["degraded"], &report["live"]["questions"]), (&0.into(), &report["offline"]["questions"]));
        // What is trending is added up a few events later there than here, which tells where only 140 lists are asked for.
        assert!((hit_rate("live") - hit_rate("offline")).abs() <= 0.05, "{}: {report}", preset.display());
        assert!(hit_rate("live") > 0.05, "{}: {report}", preset.display());
    }
}
