//! The whole way from outside: a generated shop, prepared, trained, built, verified, evaluated, served; and an event that changes the list.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use kindred::artifact;
use serde_json::{Value, json};
use support::{Running, demo, json, kindred, serve};

fn post(url: &str, path: &str, body: Value) -> Value {
    let mut answer = ureq::post(format!("{url}{path}")).send_json(&body).unwrap();
    answer.body_mut().read_json().unwrap()
}

fn ids(answer: &Value) -> Vec<String> {
    kindred_tools::load::ask::item_ids(answer)
}

#[test]
fn from_a_log_to_an_answer_that_follows_what_a_visitor_does() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("demo");
    let report = demo(&dir, 120, 150);
    let steps: Vec<&str> =
        report["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["generate", "prepare", "train", "build", "verify"]);
    let live = artifact::current(&dir.join("artifacts")).unwrap();
    assert_eq!(report["generation"], live.generation.as_str());
    let inspected = json(kindred().arg("inspect").arg(dir.join("artifacts")).arg("--json"));
    let sections: Vec<&str> =
        inspected["sections"].as_array().unwrap().iter().map(|section| section["name"].as_str().unwrap()).collect();
    assert!(sections.contains(&"SESSION_ITEMS") && !sections.contains(&"unknown"), "{sections:?}");

    let (_server, url) = serve(&dir, &[]);
    let question = json!({"session_id": "me", "limit": 10, "with_items": true});
    let newcomer = post(&url, "/v1/recommendations", question.clone());
    assert_eq!((newcomer["fallback"].as_str(), ids(&newcomer).len()), (Some("newcomer"), 10), "{newcomer}");
    let viewed = &newcomer["items"][7];
    let event = json!({"session_id": "me", "item_id": viewed["item_id"], "kind": "view", "interaction_id": "e1"});
    assert_eq!(post(&url, "/v1/interactions", event.clone())["accepted"], 1);
    assert_eq!(post(&url, "/v1/interactions", event)["duplicates"], 1);
    let after = post(&url, "/v1/recommendations", question);
    assert_ne!(ids(&newcomer), ids(&after), "the list did not change");
    assert!(!ids(&after).contains(&viewed["item_id"].as_str().unwrap().to_owned()), "what was seen is shown again");
    assert_eq!(after["fallback"], Value::Null);
    // Taste is what the model learned: the list leans to the category of what was viewed.
    let category = &viewed["item"]["categories"][0];
    let share = |answer: &Value| {
        let items = answer["items"].as_array().unwrap();
        items.iter().filter(|item| item["item"]["categories"].as_array().unwrap().contains(category)).count()
    };
    assert!(share(&after) > share(&newcomer), "{category}: {} then {}", share(&newcomer), share(&after));
}

#[test]
fn a_new_artifact_is_picked_up_and_the_demo_repeats_itself() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("demo");
    demo(&dir, 120, 150);
    let (server, url) = serve(&dir, &[]);
    let serving = || -> Value { ureq::get(format!("{url}/v1/model")).call().unwrap().body_mut().read_json().unwrap() };
    let before = serving()["generation"].clone();
    let mut build = kindred();
    let report = json(
        build
            .arg("build")
            .arg("--model")
            .arg(dir.join("model"))
            .arg("--output")
            .arg(dir.join("artifacts"))
            .arg("--json"),
    );
    assert_ne!(report["generation"], before);
    let started = Instant::now();
    while serving()["generation"] != report["generation"] {
        assert!(started.elapsed() < Duration::from_secs(60), "the new artifact is not picked up");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Not while a server keeps there what visitors do.
    let refused = kindred().args(["demo", "--no-serve", "--items", "120", "--dir"]).arg(&dir).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("give another directory with --dir"), "{refused:?}");
    drop(server);
    // In its own directory the demo replaces what it made before.
    demo(&dir, 120, 150);
    assert_eq!(artifact::generations(&dir.join("artifacts")).unwrap().len(), 2);
}

#[test]
fn the_index_is_as_good_as_the_exact_scan_and_both_are_better_than_the_popular_list() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("demo");
    let arguments = "demo --no-serve --items 200 --visitors 500 --seed 3 --json --dir";
    json(kindred().args(arguments.split(' ')).arg(&dir));
    let mut evaluate = kindred();
    evaluate.arg("evaluate").arg("--artifacts").arg(dir.join("artifacts")).arg("--dataset").arg(dir.join("dataset"));
    let report = json(evaluate.args(["--k", "10", "--json"]));
    let hit_rate = |name: &str| -> f64 {
        let system = report["systems"].as_array().unwrap().iter().find(|system| system["name"] == name).unwrap();
        system["at"][0]["hit_rate"].as_f64().unwrap()
    };
    let (index, exact, popular) = (hit_rate("index"), hit_rate("exact"), hit_rate("popular"));
    assert!((index - exact).abs() <= 0.02, "index {index}, exact {exact}");
    assert!(index > popular && index < 1.0, "index {index}, popular {popular}");
    assert_eq!(report["trained_on_this_dataset"], true);
}

#[test]
fn the_steps_one_by_one_refuse_to_overwrite() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("demo");
    demo(&dir, 120, 150);
    let model = fs::read(dir.join("model/item_factors.npy")).unwrap();
    let train = |more: &[&str]| {
        let mut command = kindred();
        command.arg("train").arg("--dataset").arg(dir.join("dataset")).arg("--output").arg(dir.join("model"));
        command.args(["--trainer", "als", "--factors", "8", "--iterations", "2"]).args(more).output().unwrap()
    };
    let refused = train(&[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--force"));
    assert!(model == fs::read(dir.join("model/item_factors.npy")).unwrap());
    assert_eq!(train(&["--force"]).status.code(), Some(0));
    assert!(model != fs::read(dir.join("model/item_factors.npy")).unwrap());
}

#[test]
fn the_artifact_says_how_its_sessions_are_compared() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("demo");
    demo(&dir, 120, 150);
    let (model, artifacts) = (dir.join("users"), dir.join("of-users"));
    let run = |arguments: &[&str]| kindred().args(arguments).output().unwrap();
    let (dataset, model, artifacts) = (dir.join("dataset"), model.to_str().unwrap(), artifacts.to_str().unwrap());
    let train =
        ["train", "--dataset", dataset.to_str().unwrap(), "--output", model, "--factors", "8", "--trainer", "als"];
    let as_users = ["--user-sessions", "--sessions-by", "cosine"];
    let refused = run(&[&train[..], &as_users, &["--session-shrinkage=-1"]].concat());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--session-shrinkage is -1"), "{refused:?}");
    let made = run(&[&train[..], &as_users, &["--session-shrinkage", "5"]].concat());
    assert!(made.status.success(), "{made:?}");
    let built = run(&["build", "--model", model, "--output", artifacts]);
    assert!(built.status.success(), "{built:?}");
    let generation = fs::read_to_string(format!("{artifacts}/CURRENT")).unwrap();
    let manifest = format!("{artifacts}/{}/manifest.json", generation.trim());
    let change = |from: &str, to: &str| {
        let text = fs::read_to_string(&manifest).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&manifest, text.replace(from, to)).unwrap();
    };
    let text: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    assert_eq!(text["session_likeness"], json!({"by": "cosine", "shrinkage": 5.0}));
    assert!(run(&["verify", artifacts]).status.success());
    change(r#""shrinkage": 5.0"#, r#""shrinkage": -5.0"#);
    let refused = run(&["verify", artifacts]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stdout).contains("session_likeness.shrinkage"), "{refused:?}");
}

#[test]
fn the_demo_serves_and_shows_what_to_try() {
    let place = tempfile::tempdir().unwrap();
    let mut command = Process::new(env!("CARGO_BIN_EXE_kindred"));
    command.args(["demo", "--items", "60", "--visitors", "80", "--port", "0", "--dir"]).arg(place.path().join("demo"));
    // An operator's certificate is for their server, and the demo is asked over plain HTTP.
    command.envs([("KINDRED__TLS__CERTIFICATE", "no.pem"), ("KINDRED__TLS__PRIVATE_KEY", "no.key")]);
    let mut demo = Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let stdout = BufReader::new(demo.0.stdout.take().unwrap());
    let mut text = String::new();
    for line in stdout.lines().map_while(Result::ok) {
        text.push_str(&line);
        text.push('\n');
        if line.contains("/similar?") {
            break;
        }
    }
    let url = text.lines().find_map(|line| {
        line.trim().strip_prefix("Serving on ")?.split(':').take(3).collect::<Vec<_>>().join(":").into()
    });
    let url = url.unwrap_or_else(|| panic!("no address in: {text}"));
    assert!(text.contains("A newcomer sees") && text.contains("curl -s"), "{text}");
    assert!(ureq::get(format!("{url}/readyz")).call().is_ok(), "{url}");
    // SIGTERM ends it in order: what it acknowledged is on disk.
    let asked = Process::new("kill").arg(demo.0.id().to_string()).status().unwrap();
    assert!(asked.success());
    assert_eq!(demo.0.wait().unwrap().code(), Some(0));
}
