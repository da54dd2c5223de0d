//! The `kindred` command from outside: arguments in; exit code, stdout and files out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use clap::Parser as _;
use kindred::artifact;
use kindred_tools::cmd::Cli;
use serde_json::Value;
use support::{Running, Workshop, json, kindred};

const COMMANDS: &[&[&str]] = &[
    &["prepare"],
    &["train"],
    &["build"],
    &["activate"],
    &["verify"],
    &["inspect"],
    &["evaluate"],
    &["bench", "index"],
    &["bench", "http"],
    &["serve"],
    &["demo"],
];

#[test]
fn every_command_explains_itself_with_an_example() {
    for command in COMMANDS {
        let output = kindred().args(*command).arg("--help").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{command:?}");
        assert!(text.contains("Example") && text.contains("kindred "), "{command:?}: {text}");
    }
}

#[test]
fn help_tells_more_than_the_list_of_commands() {
    for (command, told) in [
        ("prepare", "Columns are found by usual names"),
        ("serve", "SIGHUP looks for a new artifact"),
        ("export", "standing consent"),
        ("verify", "Exit code 0"),
    ] {
        let output = kindred().args([command, "--help"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(told), "{command}: {text}");
        let list = kindred().arg("--help").output().unwrap();
        assert!(!String::from_utf8(list.stdout).unwrap().contains(told), "{command}");
    }
}

#[test]
fn the_readme_gives_commands_that_are_taken() {
    let readme = include_str!("../../README.md");
    // Fenced blocks, and between them what stands in backquotes.
    let mut lines: Vec<String> = Vec::new();
    for (number, part) in readme.split("```").enumerate() {
        if number % 2 == 1 {
            let commands = part.lines().filter_map(|line| line.split(" #").next());
            lines.extend(commands.flat_map(|line| line.split("&&")).map(|command| command.trim().to_owned()));
        } else {
            lines.extend(
                part.split('`').skip(1).step_by(2).filter(|code| code.starts_with("kindred bench")).map(String::from),
            );
        }
    }
    let commands: Vec<&str> = lines.iter().map(String::as_str).filter(|line| line.starts_with("kindred ")).collect();
    assert!(commands.iter().any(|line| line.starts_with("kindred train")) && commands.len() > 12, "{commands:?}");
    for command in commands {
        if let Err(error) = Cli::try_parse_from(command.split_whitespace()) {
            panic!("{command}: {error}");
        }
    }
}

#[test]
fn wrong_usage_is_two_and_says_what_is_right() {
    let cases: &[(&[&str], &str)] = &[
        (&["fly"], "unrecognized subcommand"),
        (&["build", "--m", "1"], "2..=64"),
        (&["build", "--recall-floor", "1.5"], "between 0 and 1"),
        (&["build", "--edges", "all"], "united"),
        (&["build", "--m", "32", "--ef-construction", "40"], "--ef-construction"),
        (&["bench", "http"], "--url"),
        (&["bench", "http", "--spawn", "--mix", "reads=x"], "not a number"),
        (&["bench", "http", "--url", "http://127.0.0.1:1", "--swaps", "2"], "--artifacts"),
        (&["bench", "index", "--items", "0"], "1..="),
        (&["bench", "index", "--filters", "--svg", "x.svg"], "--svg draws what"),
        (&["bench", "http", "--spawn", "--overload", "1e-300"], "0.1 to"),
        (&["bench", "store", "--rate", "0"], "1..=10000000"),
        (&["bench", "soak", "--spawn", "--minute-seconds=-1"], "not above 0"),
        (&["bench", "soak", "--spawn", "--minute-seconds", "nan"], "not above 0"),
        (&["evaluate", "--from-log", "store", "--k", "5"], "cannot be used with"),
        (&["serve", "--workers", "100000"], "http.workers"),
        (&["serve", "--store", "x", "--memory"], "cannot be used with"),
    ];
    for (arguments, expected) in cases {
        let output = kindred().args(*arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty(), "{arguments:?} printed to stdout");
    }
}

#[test]
fn what_is_not_there_is_two_and_named() {
    let place = tempfile::tempdir().unwrap();
    let nothing = place.path().join("nothing");
    for arguments in [["build", "--model"], ["serve", "--config"], ["evaluate", "--artifacts"]] {
        let output = kindred().args(arguments).arg(&nothing).current_dir(place.path()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.starts_with("Error: ") && text.lines().count() == 1, "{arguments:?}: {text}");
        assert!(text.contains("nothing"), "{arguments:?}: {text}");
    }
    for command in ["verify", "inspect"] {
        kindred().arg(command).arg(&nothing).assert().code(2);
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "a command that failed left something behind");
}

#[test]
fn build_verify_inspect_and_their_json() {
    let shop = Workshop::new(400);
    let built = json(shop.build());
    assert_eq!(built["n_items"], 400);
    assert_eq!(built["measured_with"], "user_vectors");
    assert!(built["ann_recall_at_10"].as_f64().unwrap() >= 0.95, "{built}");
    let live = artifact::current(&shop.artifacts()).unwrap();
    assert_eq!(built["generation"], live.generation.as_str());

    let verified = json(kindred().arg("verify").arg(shop.artifacts()).arg("--json"));
    assert_eq!((verified["ok"].clone(), verified["n_items"].clone()), (Value::Bool(true), 400.into()));
    // The directory of a generation is as good as the directory of all.
    kindred().arg("verify").arg(&live.directory).assert().success();

    let inspected = json(kindred().arg("inspect").arg(shop.artifacts()).arg("--json"));
    let levels: u64 =
        inspected["graph"]["items_by_level"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(levels, 400);
    let of_sections: u64 = inspected["sections"].as_array().unwrap().iter().map(|s| s["bytes"].as_u64().unwrap()).sum();
    let bytes = inspected["bytes"].as_u64().unwrap();
    assert!(of_sections < bytes && of_sections * 10 > bytes * 9, "{of_sections} of {bytes}");
    let text = String::from_utf8(kindred().arg("inspect").arg(shop.artifacts()).output().unwrap().stdout).unwrap();
    assert!(text.contains("VECTORS") && text.contains("category") && text.contains(&live.generation), "{text}");

    let measured = artifact::read_manifest(&live.directory).unwrap().recall_by_breadth;
    assert!(measured.is_sorted_by(|a, b| a.ef_search < b.ef_search && a.recall < b.recall), "{measured:?}");
    assert!(measured.last().is_some_and(|broadest| broadest.recall > 0.99), "{measured:?}");

    let item = json(kindred().arg("inspect").arg(shop.artifacts()).args(["--item", "item-000007", "--json"]));
    assert_eq!((item["id"].as_str(), item["nearest"].as_array().unwrap().len()), (Some("item-000007"), 10));
    kindred().arg("inspect").arg(shop.artifacts()).args(["--item", "ITEM-000007"]).assert().code(2);
}

#[test]
fn damage_is_a_no_and_where_it_is_said() {
    let shop = Workshop::new(200);
    shop.build().assert().success();
    let live = artifact::current(&shop.artifacts()).unwrap();
    let told = |file: &str| {
        let output = kindred().arg("verify").arg(shop.artifacts()).arg("--json").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["ok"], false);
        assert!(report["problem"].as_str().unwrap().contains(file), "{report}");
    };
    // As a copy that was broken off has it.
    let (model, away) = (live.directory.join(artifact::MODEL_FILE), shop.artifacts().join("away"));
    fs::rename(&model, &away).unwrap();
    told("model.kin");
    fs::rename(&away, &model).unwrap();
    support::flip_a_byte(&live.directory.join(artifact::INDEX_FILE), 5_000);
    told("index.kin");
}

#[test]
fn an_older_artifact_comes_back_and_a_damaged_one_does_not() {
    let shop = Workshop::new(200);
    let [older, newer] = [(); 2].map(|()| json(shop.build())["generation"].as_str().unwrap().to_owned());
    let activate = |generation: &str| {
        let mut command = kindred();
        command.args(["activate", generation, "--json", "--artifacts"]).arg(shop.artifacts());
        command
    };
    let current = || artifact::current(&shop.artifacts()).unwrap().generation;
    let done = json(activate(&older));
    assert_eq!((done["ok"].clone(), done["before"].as_str()), (Value::Bool(true), Some(newer.as_str())));
    assert_eq!(current(), older);
    let listed = json(kindred().args(["activate", "--json", "--artifacts"]).arg(shop.artifacts()));
    assert_eq!(listed["current"], older.as_str());
    let names: Vec<_> = listed["generations"].as_array().unwrap().iter().map(|one| &one["generation"]).collect();
    assert_eq!(names, [&older, &newer]);
    support::flip_a_byte(&shop.artifacts().join(&newer).join(artifact::MODEL_FILE), 5_000);
    activate(&newer).assert().code(1);
    activate("nothing").assert().code(2);
    activate("../artifacts").assert().code(2);
    assert_eq!(current(), older, "it stays");
    assert_eq!(json(activate(&older))["before"], older.as_str(), "there already");
}

#[test]
fn whoever_activates_in_the_wrong_place_is_told_so() {
    let shop = Workshop::new(100);
    let generation = json(shop.build())["generation"].as_str().unwrap().to_owned();
    let (artifacts, above) = (shop.artifacts(), shop.artifacts().parent().unwrap().to_owned());
    let path = artifacts.join(&generation);
    let remedy = format!("`kindred activate {generation} --artifacts {}`", artifacts.display());
    let nothing = format!("there is no artifact artifacts in {}", above.display());
    for (given, place, told) in [(path.to_str().unwrap(), &above, remedy), ("artifacts", &above, nothing)] {
        let refused = kindred().args(["activate", given, "--artifacts"]).arg(place).output().unwrap();
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && text.contains(&told), "{text}");
    }
    assert!(!above.join(artifact::LOCK_FILE).exists(), "something was left behind");
    let list = |place: &Path| {
        let listed = kindred().arg("activate").arg("--artifacts").arg(place).output().unwrap();
        assert!(listed.status.success(), "{listed:?}");
        String::from_utf8(listed.stdout).unwrap()
    };
    let empty = list(&above);
    assert!(empty.contains(&format!("there is no artifact in {}", above.display())), "{empty}");
    fs::remove_file(artifacts.join(artifact::CURRENT_FILE)).unwrap();
    let unnamed = list(&artifacts);
    assert!(unnamed.contains(&generation) && unnamed.contains("there is no CURRENT"), "{unnamed}");
}

#[test]
fn below_the_recall_floor_nothing_is_published() {
    let shop = Workshop::new(1_500);
    let output = shop
        .build()
        .args(["--m", "2", "--ef-construction", "5", "--ef-search", "1"])
        .args(["--recall-floor", "1"])
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["published"], Value::Null);
    assert!(report["ann_recall_at_10"].as_f64().unwrap() < 1.0);
    assert!(artifact::current(&shop.artifacts()).is_err());
    assert!(!shop.artifacts().exists(), "something was left behind");
}

#[test]
fn a_deterministic_build_repeats_itself_and_overwrites_nothing() {
    let shop = Workshop::new(300);
    let index =
        || fs::read(artifact::current(&shop.artifacts()).unwrap().directory.join(artifact::INDEX_FILE)).unwrap();
    shop.build().arg("--deterministic").assert().success();
    let first = index();
    shop.build().arg("--deterministic").assert().success();
    assert!(first == index(), "the same model gave another index");
    assert_eq!(artifact::generations(&shop.artifacts()).unwrap().len(), 2);
    shop.build().args(["--keep", "1"]).assert().success();
    assert_eq!(artifact::generations(&shop.artifacts()).unwrap().len(), 1);
    kindred().arg("verify").arg(shop.artifacts()).assert().success();
}

#[test]
fn a_build_killed_at_any_moment_leaves_a_whole_artifact() {
    let shop = Workshop::new(600);
    shop.build().assert().success();
    let first = artifact::current(&shop.artifacts()).unwrap().generation;
    for delay_ms in [1, 10, 30, 60, 100, 150, 220, 300] {
        let mut build = shop.build_process().stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay_ms));
        build.kill().unwrap();
        build.wait().unwrap();
        let live = artifact::current(&shop.artifacts()).unwrap();
        assert!(live.generation >= first);
        kindred().arg("verify").arg(shop.artifacts()).assert().success();
    }
    shop.build().assert().success();
    let partial = fs::read_dir(shop.artifacts())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(artifact::PARTIAL_SUFFIX));
    assert_eq!(partial.count(), 0, "the next build did not clean up");
}

#[test]
fn whoever_names_no_key_is_told_what_the_next_one_needs() {
    let made = |more: &[&str]| kindred().args(["key", "new", "--role", "read"]).args(more).output().unwrap();
    let (unnamed, named) = (made(&[]), made(&["--name", "shop"]));
    assert!(String::from_utf8_lossy(&unnamed.stderr).contains("give another --name"), "{unnamed:?}");
    assert!(!String::from_utf8_lossy(&named.stderr).contains("--name"), "{named:?}");
    assert!(named.stdout.starts_with(b"shop read sha256:"), "{named:?}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure_and_changes_no_answer() {
    let shop = Workshop::new(200);
    shop.build().assert().success();
    let unread = |command: &str| {
        let mut process = Process::new(env!("CARGO_BIN_EXE_kindred"));
        process.arg(command).arg(shop.artifacts()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = process.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(unread("inspect"), (Some(0), String::new()));
    let live = artifact::current(&shop.artifacts()).unwrap();
    support::flip_a_byte(&live.directory.join(artifact::INDEX_FILE), 5_000);
    assert_eq!(unread("verify"), (Some(1), String::new()), "the artifact is damaged, whoever reads that");
}

#[test]
fn the_demo_asks_for_its_port_before_the_work() {
    let place = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let dir = place.path().join("demo");
    let output = kindred().args(["demo", "--port", &port, "--dir"]).arg(&dir).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains(&port) && text.contains("--port"), "{text}");
    assert!(!dir.exists());
}

#[test]
fn the_demo_looks_for_its_files_before_the_work() {
    let place = tempfile::tempdir().unwrap();
    let (dir, nothing) = (place.path().join("demo"), place.path().join("log.csv"));
    let output =
        kindred().args(["demo", "--no-serve", "--dir"]).arg(&dir).arg("--data").arg(&nothing).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("log.csv"));
    assert!(!dir.exists());
}

#[test]
fn the_demo_takes_no_directory_that_is_not_its_own() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("thesis.txt"), "two years of work").unwrap();
    let output = kindred().args(["demo", "--no-serve", "--dir"]).arg(place.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--dir"));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn a_small_bench_of_the_index_has_all_its_numbers() {
    // So many dimensions that ours keeps two bytes a value, and what searches the graph of hnsw_rs floats: each is judged by its own rows.
    let arguments = "bench index --items 600 --dims 64 --queries 30 --rounds 1 --ef-search 10,40,600 --json";
    let report = json(kindred().args(arguments.split(' ')));
    for search in ["ours", "ours_on_hnsw_rs_graph", "hnsw_rs"] {
        let points = report[search].as_array().unwrap();
        assert_eq!(points.len(), 3, "{report}");
        let least = if search == "hnsw_rs" { 0.95 } else { 0.9999 };
        assert!(points.last().unwrap()["recall"].as_f64().unwrap() > least, "{search}: {report}");
    }
    assert!((report["exact"]["recall"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    let shop = Workshop::new(200);
    shop.build().assert().success();
    let report =
        json(kindred().args(["bench", "index", "--rounds", "1", "--json", "--artifact"]).arg(shop.artifacts()));
    assert_eq!((report["n_items"].as_u64(), report["hnsw_rs"].as_array().unwrap().len()), (Some(200), 0));
    assert!(report["source"].as_str().unwrap().contains(", memory cached"), "{report}");
}

#[test]
fn a_small_bench_of_the_server_fails_no_request_while_artifacts_are_swapped() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("bench");
    let arguments = "bench http --spawn --items 300 --dims 16 --connections 2 --duration 1 --warm-up 0.2 --rate 100 \
                     --mix reads=80,writes=20 --swaps 2 --json --dir";
    let output = kindred().args(arguments.split_whitespace()).arg(&dir).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let phase = &report["phases"][0];
    // A machine that does other things beside may not hold even that rate; then it is told.
    assert_eq!(output.status.code(), Some(if phase["held"] == true { 0 } else { 1 }), "{report}");
    assert_eq!((phase["failed"].as_u64(), phase["swaps"]["done"].as_u64()), (Some(0), Some(2)), "{report}");
    assert_eq!((phase["loop"].as_str(), phase["rate"].as_f64()), (Some("open"), Some(100.0)));
    assert!(
        phase["reads"]["count"].as_u64().unwrap() > 50 && phase["writes"]["count"].as_u64().unwrap() > 5,
        "{report}"
    );
    assert!(phase["shares"]["parts"].as_array().unwrap().iter().any(|part| part["part"] == "search"), "{report}");
    // The second time the generated artifact is there already. Of an operator's settings, what only they can ask by does not hold.
    let before = artifact::current(&dir).unwrap();
    let config = place.path().join("kindred.toml");
    fs::write(&config, "[tls]\ncertificate = \"a.pem\"\nprivate_key = \"a.key\"\n[admin]\nseparate = true\n").unwrap();
    let arguments = "bench http --spawn --items 300 --dims 16 --duration 0.3 --warm-up 0.1 --closed --filtered 0.1 \
                     --json --dir";
    let report = json(kindred().args(arguments.split_whitespace()).arg(&dir).arg("--config").arg(&config));
    assert_eq!(report["phases"][0]["failed"].as_u64(), Some(0), "{report}");
    assert!((0.01..0.3).contains(&report["filtered_share"].as_f64().unwrap()), "{report}");
    assert_eq!(artifact::current(&dir).unwrap(), before);
}

#[test]
fn a_chart_that_cannot_be_written_does_not_lose_what_was_measured() {
    let arguments = "bench index --scale 1000 --dims 8 --queries 20 --rounds 1 --svg no-such-directory/scale.svg";
    let output = kindred().args(arguments.split(' ')).output().unwrap();
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(told.contains("µs an insertion") && said.contains("writing no-such-directory/scale.svg"), "{told}{said}");
}

#[test]
fn the_verdict_of_a_bench_of_recall_is_in_its_json() {
    let arguments = "bench recall --items 200 --dims 8 --queries 5 --floor 1.1 --json";
    let output = kindred().args(arguments.split(' ')).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), report["reached"].as_bool()), (Some(1), Some(false)), "{report}");
    assert!((0.0..=1.0).contains(&report["least_recall"].as_f64().unwrap()), "{report}");
}

/// Servers that were started on a directory.
fn servers_on(dir: &Path) -> usize {
    let lines = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    lines.filter(|line| line.contains("\0serve\0") && line.contains(dir.to_str().unwrap())).count()
}

#[test]
fn a_bench_that_is_killed_leaves_no_server_behind() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("bench");
    let arguments = "bench http --spawn --items 300 --dims 16 --closed --duration 600 --connections 1 --dir";
    let mut bench = Process::new(env!("CARGO_BIN_EXE_kindred"));
    let mut bench = Running(bench.args(arguments.split(' ')).arg(&dir).stdout(Stdio::null()).spawn().unwrap());
    let wait_for = |servers: usize| {
        let started = Instant::now();
        while servers_on(&dir) != servers {
            assert!(started.elapsed() < Duration::from_secs(60), "expected {servers} servers on {}", dir.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait_for(1);
    // By the signal that nothing can catch.
    bench.0.kill().unwrap();
    bench.0.wait().unwrap();
    wait_for(0);
}
