//! What the settings take and refuse.

use std::ffi::OsString;

use super::variables::{PSEUDONYM_KEY, ours};
use super::*;

fn environment(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_committed_file_holds_every_default() {
    // No field has a default of its own in the parser, so a key missing in the file fails here too.
    assert_eq!(Settings::layered(None, HashMap::new()).unwrap(), Settings::default());
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mine.toml");
    std::fs::write(&file, "[http]\nport = 9000\nworkers = 3\n[scenarios.home]\nlimit = 7\n").unwrap();
    let settings = Settings::layered(Some(&file), environment(&[("KINDRED__HTTP__PORT", "9001")])).unwrap();
    assert_eq!((settings.http.port, settings.http.workers), (9001, 3));
    assert_eq!(settings.scenarios["home"].limit, 7);
    assert_eq!(settings.scenarios["home"].candidates, Scenario::home().candidates);
}

#[test]
fn unknown_keys_are_errors_and_are_named() {
    for key in ["KINDRED__HTTP__PROT", "KINDRED__HTPP__PORT", "KINDRED__SCENARIOS__HOME__LIMITS"] {
        let error = Settings::layered(None, environment(&[(key, "1")])).unwrap_err().to_string();
        let last = key.rsplit("__").next().unwrap().to_lowercase();
        assert!(error.contains(&last) || error.contains("htpp"), "{key}: {error}");
    }
}

#[test]
fn values_out_of_range_are_errors_and_are_named() {
    let error = Settings::layered(None, environment(&[("KINDRED__HISTORY__KEEP_PER_ACTOR", "0")])).unwrap_err();
    assert!(error.to_string().contains("history.keep_per_actor = 0"), "{error}");
    let error = Settings::layered(None, environment(&[("KINDRED__SCENARIOS__HOME__LIMIT", "0")])).unwrap_err();
    assert!(error.to_string().contains("scenarios.home"), "{error}");
    assert!(Settings::layered(None, environment(&[("KINDRED__HTTP__PORT", "70000")])).is_err());
    let error = Settings::layered(None, environment(&[("KINDRED__HTTP__WORKERS", "513")])).unwrap_err();
    assert!(error.to_string().contains("http.workers = 513"), "{error}");
}

#[test]
fn no_number_is_rounded() {
    let of = |key: &str, value: &str| Settings::layered(None, environment(&[(key, value)]));
    for (key, value) in [("RETENTION_DAYS", "0.25"), ("KEEP_PER_ACTOR", "99.6"), ("MAX_MB", "-1.0"), ("QUEUE", "nan")] {
        let error = of(&format!("KINDRED__HISTORY__{key}"), value).unwrap_err().to_string();
        let named = format!("history.{} = ", key.to_lowercase());
        assert!(error.contains(&named) && error.contains("a whole number"), "{error}");
    }
    assert!(of("KINDRED__SCENARIOS__HOME__INTERESTS__TASTES", "1.5").is_err());
    assert_eq!(of("KINDRED__HISTORY__QUEUE", "1e5").unwrap().history.queue, 100_000);
    assert_eq!(of("KINDRED__TRENDING__WINDOW_HOURS", "3").unwrap().trending.window_hours, 3.0);
}

#[test]
fn no_number_is_rounded_where_names_are_ones_own() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mine.toml");
    let of = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Settings::layered(Some(&file), HashMap::new()).map_err(|error| error.to_string())
    };
    let explore = "explore = { method = 'epsilon_greedy', new_within_hours = 1.5";
    let pool = format!("[scenarios.mine]\n{explore}, pool = 9.5 }}");
    for (text, named) in [
        ("[scenarios.mine]\nlimit = 2.5", "scenarios.mine.limit = 2.5"),
        ("[scenarios.cart]\ncandidates = 1.5", "scenarios.cart.candidates = 1.5"),
        ("[scenarios.mine]\ninterests = { tastes = 1.5 }", "scenarios.mine.interests.tastes = 1.5"),
        ("[scenarios.home]\ncaps = [{ key = 'a', at_most = 1.5 }]", "scenarios.home.caps[0].at_most = 1.5"),
        ("[scenarios.mine]\npins = [{ item_id = 'a', position = 0.5 }]", "scenarios.mine.pins[0].position = 0.5"),
        (pool.as_str(), "scenarios.mine.explore.pool = 9.5"),
        (
            "[experiments.e]\nscenario = 'home'\nvariants = { a = { share = 0.7 }, b = { share = 1 } }",
            "experiments.e.variants.a.share = 0.7",
        ),
        ("[history.retention_days_by_kind]\nview = 1.5", "history.retention_days_by_kind.view = 1.5"),
    ] {
        let error = of(text).unwrap_err();
        assert!(error.contains(named) && error.contains("a whole number"), "{error}");
    }
    let bury = "bury = { key = 'price', range = { lt = 1.5 } }";
    let fine = format!("[scenarios.mine]\nlimit = 5.0\nweights = {{ vector = 0.5 }}\n{bury}\n{explore} }}");
    let mine = of(&fine).unwrap().scenarios.remove("mine").unwrap();
    assert_eq!((mine.limit, mine.weights.vector), (5, 0.5));
}

#[test]
fn a_line_that_cannot_be_read_is_not_shown_where_it_holds_the_secret() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mine.toml");
    for line in ["pseudonym_key = hush", "pseudonym_key = 'it's hush'"] {
        std::fs::write(&file, format!("[people]\n{line}\nunmerge_days = 3\n")).unwrap();
        let error = Settings::layered(Some(&file), HashMap::new()).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("hush"), "{error}");
    }
    std::fs::write(&file, "[http]\nport = shown\n").unwrap();
    let error = Settings::layered(Some(&file), HashMap::new()).unwrap_err().to_string();
    assert!(error.contains("port = shown"), "{error}");
}

#[test]
fn what_pages_ask_for_fits_their_requests() {
    for (key, basis) in [("SIMILAR", "visitor"), ("SIMILAR", "list"), ("HOME", "items_together")] {
        let key = format!("KINDRED__SCENARIOS__{key}__BASED_ON");
        let error = Settings::layered(None, environment(&[(&key, basis)])).unwrap_err().to_string();
        assert!(error.contains("based_on") && error.contains("expected"), "{error}");
    }
}

#[test]
fn an_unknown_word_is_answered_with_those_there_are() {
    let error = Settings::layered(None, environment(&[("KINDRED__ARTIFACTS__MEMORY", "pined")])).unwrap_err();
    let error = error.to_string();
    assert!(
        ["pined", "`cold`, `cached`, `pinned`", "artifacts.memory"].iter().all(|part| error.contains(part)),
        "{error}"
    );
}

#[test]
fn a_list_is_written_with_commas() {
    let of = |key: &str, value: &str| Settings::layered(None, environment(&[(key, value)]));
    for (value, keys) in [("country,hour", &["country", "hour"][..]), ("device", &["device"][..])] {
        assert_eq!(of("KINDRED__TRENDING__BY", value).unwrap().trending.by, keys);
    }
    assert_eq!(of("KINDRED__TRENDING__BY", "country, hour ").unwrap().trending.by, ["country", "hour"]);
    assert!(of("KINDRED__TRENDING__BY", " ").unwrap().trending.by.is_empty());
    let origins = of("KINDRED__SECURITY__CORS_ORIGINS", "https://a.example,https://b.example").unwrap();
    assert_eq!(origins.security.cors_origins, ["https://a.example", "https://b.example"]);
    for scenario in ["home", "mine"] {
        let key = format!("KINDRED__SCENARIOS__{}__HIDE_KINDS", scenario.to_uppercase());
        let settings = of(&key, "not_interested, seen").unwrap();
        assert_eq!(settings.scenarios[scenario].hide_kinds, ["not_interested", "seen"]);
    }
    let mut settings = Settings::default();
    settings.trending.by.push(" hour".to_owned());
    let error = settings.validate().unwrap_err().to_string();
    assert!(error.contains("trending.by = \" hour\""), "{error}");
}

#[test]
fn an_empty_variable_is_an_empty_list() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mine.toml");
    std::fs::write(&file, "[security]\nhosts = ['shop.example']\ncors_origins = ['https://shop.example']\n").unwrap();
    let keys = ["KINDRED__SECURITY__HOSTS", "KINDRED__SECURITY__CORS_ORIGINS", "KINDRED__TRENDING__BY"];
    let settings = Settings::layered(Some(&file), environment(&keys.map(|key| (key, "")))).unwrap();
    assert!(settings.security.hosts.is_empty() && settings.security.cors_origins.is_empty());
    assert!(settings.trending.by.is_empty());
    let settings = Settings::layered(Some(&file), environment(&[(keys[0], "")])).unwrap();
    assert_eq!((settings.security.cors_origins.len(), settings.trending.by.len()), (1, 2), "the others stay");
    assert!(Settings::layered(None, environment(&[(keys[0], "a.example,,b.example")])).is_err());
}

#[test]
fn what_is_no_text_is_passed_over_where_it_is_not_ours_and_named_without_its_value_where_it_is() {
    use std::os::unix::ffi::OsStringExt as _;
    let no_text = || OsString::from_vec(b"secret\xff".to_vec());
    let foreign = [(no_text(), OsString::from("1")), (OsString::from("PS1"), no_text())];
    let port = (OsString::from("KINDRED__HTTP__PORT"), OsString::from("9000"));
    let found = ours(foreign.into_iter().chain([port])).unwrap();
    assert_eq!(found, environment(&[("KINDRED__HTTP__PORT", "9000")]));
    let error = ours([(OsString::from(PSEUDONYM_KEY), no_text())].into_iter()).unwrap_err().to_string();
    assert!(error.contains(PSEUDONYM_KEY) && !error.contains("secret"), "{error}");
}

#[test]
fn what_is_text_stays_as_it_is_written() {
    let of = |pairs: &[(&str, &str)]| Settings::layered(None, environment(pairs)).unwrap();
    for text in ["0123", "1e5", "1.50", "+5", "nan", "TRUE", "000123456789012345678901234567890"] {
        let settings = of(&[
            (PSEUDONYM_KEY, text),
            ("KINDRED__HISTORY__PATH", text),
            ("KINDRED__SECURITY__HOSTS", text),
            ("KINDRED__SCENARIOS__HOME__FILTER__KEY", text),
            ("KINDRED__SCENARIOS__HOME__FILTER__MATCH__VALUE", text),
        ]);
        assert_eq!(settings.people.pseudonym_key.bytes(), text.as_bytes());
        assert_eq!(settings.history.path, Path::new(text));
        assert_eq!(settings.security.hosts, [text]);
        let filter = serde_json::to_value(&settings.scenarios["home"].filter).unwrap();
        assert_eq!((filter["key"].as_str(), filter["match"]["value"].as_str()), (Some(text), Some(text)));
    }
    // Not so what can only be a number, or is one by default.
    let settings = of(&[
        ("KINDRED__HTTP__WORKERS", "03"),
        ("KINDRED__SCENARIOS__MINE__LIMIT", "1e1"),
        ("KINDRED__SCENARIOS__MINE__EXCLUDE_SEEN", "False"),
        ("KINDRED__SCENARIOS__MINE__FILTER__KEY", "price"),
        ("KINDRED__SCENARIOS__MINE__FILTER__RANGE__LT", "9.90"),
    ]);
    let mine = &settings.scenarios["mine"];
    assert_eq!((settings.http.workers, mine.limit, mine.exclude_seen), (3, 10, false));
    assert_eq!(serde_json::to_value(&mine.filter).unwrap()["range"]["lt"], 9.9);
}

#[test]
fn a_key_that_did_not_come_is_an_error_and_not_none() {
    let error = Settings::layered(None, environment(&[(PSEUDONYM_KEY, "")])).unwrap_err().to_string();
    assert!(error.contains(PSEUDONYM_KEY) && error.contains("unset it"), "{error}");
}

#[test]
fn a_missing_file_is_named_with_the_remedy() {
    let error = Settings::layered(Some(Path::new("no/such.toml")), HashMap::new()).unwrap_err().to_string();
    assert!(error.contains("no/such.toml") && error.contains("--config"), "{error}");
}
