//! The rules of the house (ARCHITECTURE.md), read off the source text: who may not know what, where `unsafe` and
//! certain crates may be named, how long a file may be, what may lie at the top level.
//!
//! The checks look at code with comments removed, so a sentence may mention what a line of code may not use.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// A room, the words that code in it may not contain, and the reason that a failing test prints.
struct Wall {
    room: &'static [&'static str],
    forbidden: &'static [&'static str],
    because: &'static str,
}

const PURE: &[&str] = &[
    "src/interaction.rs",
    "src/user_vector.rs",
    "src/catalog.rs",
    "src/catalog",
    "src/live_items",
    "src/nearest.rs",
    "src/timestamp.rs",
    "src/digest.rs",
    "src/experiment.rs",
    "src/filter.rs",
    "src/filter",
    "src/encoder.rs",
    "src/manifest.rs",
    "src/model.rs",
    "src/model",
    "src/scenario.rs",
    "src/scenario",
    "src/recommend",
];

const WALLS: &[Wall] = &[
    Wall {
        room: &["index/src"],
        forbidden: &[
            "tokio",
            "actix",
            "tracing",
            "serde",
            "reqwest",
            "Interaction",
            "Scenario",
            "std::time",
            "Instant",
            "SystemTime",
            "std::env",
            "env::var",
            "println!",
            "eprintln!",
            "async fn",
        ],
        because: "the index knows bytes, vectors, ordinals, keys and filters: no users, HTTP, async, logging, clock or environment",
    },
    Wall {
        room: PURE,
        forbidden: &[
            "actix",
            "tokio",
            "fjall::",
            "moka",
            "std::fs",
            "std::net",
            "std::time",
            "Instant",
            "SystemTime",
            "rand::",
            "thread_rng",
            "tracing",
            "memmap2",
            "async fn",
        ],
        because: "the pure part is synchronous: files, stores, the clock and randomness come in as arguments",
    },
    Wall {
        room: &["src/http"],
        forbidden: &["bincode", "fjall::", "moka", "simsimd", "std::fs", "std::path", "PathBuf", "memmap2"],
        because: "the HTTP edge parses, calls and renders: it knows no store, no kernel and no path",
    },
    Wall {
        room: &["src/history"],
        forbidden: &["kindred_index", "crate::recommend", "crate::http", "crate::model", "crate::snapshot", "actix"],
        because: "history keeps interactions: it knows no index, no ranking and no HTTP",
    },
    Wall {
        room: &["src/store"],
        forbidden: &[
            "kindred_index",
            "crate::recommend",
            "crate::http",
            "crate::model",
            "crate::snapshot",
            "crate::catalog",
            "crate::settings",
            "actix",
            "SystemTime",
        ],
        because: "the store keeps interactions and bytes under names: it knows no items, people, ranking, HTTP, settings or calendar",
    },
    Wall {
        room: &["src/people"],
        forbidden: &["kindred_index", "crate::recommend", "crate::http", "crate::model", "crate::snapshot", "actix"],
        because: "people are names, consent and what is kept: it knows no index, no ranking and no HTTP",
    },
    Wall {
        room: &["tools/src"],
        forbidden: &["kindred::http", "fjall::", "moka"],
        because: "the tools read datasets, publish artifacts and look after stores: they know neither the HTTP edge nor an engine",
    },
];

/// A crate that only one file may name, so that replacing it is a change of one file.
const NAMED_ONCE: &[(&str, &[&str])] = &[
    ("hnsw_rs::prelude", &["index/src/build/hnsw_rs.rs"]),
    ("anndists", &["index/src/build/hnsw_rs.rs"]),
    ("simsimd", &["index/src/metric.rs"]),
    ("memmap2", &["index/src/map.rs"]),
    ("bincode", &["src/codec.rs"]),
    ("pulp", &["tools/src/train/kernels.rs"]),
    ("fjall::", &["src/store/embedded/"]),
    ("arc_swap", &["src/reload.rs"]),
    ("ring", &["src/digest.rs", "src/keys/mod.rs", "src/tls.rs"]),
    ("subtle", &["src/keys/mod.rs"]),
    ("rustls", &["src/tls.rs"]),
    ("socket2", &["src/app/listen.rs"]),
    ("percent_encoding", &["src/http/gate.rs"]),
    ("StatusCode", &["src/http/error.rs", "src/http/error/"]),
];

/// The files that may contain `unsafe`; each block there carries its SAFETY paragraph (clippy sees to that).
const UNSAFE_ALLOWED: &[&str] = &["index/src/map.rs", "index/src/metric/", "src/artifact.rs"];

/// Longer than this, a file answers more than one question.
const LINES_PER_FILE_MAX: usize = 500;

const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".git",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "benches",
    "clippy.toml",
    "config",
    "deny.toml",
    "examples",
    "index",
    "rustfmt.toml",
    "src",
    "tests",
    "tools",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust source file of the workspace as (path relative to the root, text), sorted by path.
fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a source directory can be read") {
            let path = entry.expect("a directory entry can be read").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && name != "corpus" && name != "artifacts" {
                    walk(&path, out);
                }
            } else if name.ends_with(".rs") {
                out.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    for room in ["src", "index", "tools", "tests", "benches", "examples"] {
        let dir = root().join(room);
        if dir.is_dir() {
            walk(&dir, &mut paths);
        }
    }
    paths.sort();
    paths
        .into_iter()
        .map(|p| {
            let name = p.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            (name, fs::read_to_string(&p).expect("a source file is UTF-8"))
        })
        .collect()
}

/// Drops `//` comments; a `//` inside a string literal (an address, say) stays.
fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| {
            let mut in_string = false;
            let bytes = line.as_bytes();
            let mut i = 0;
            while i < bytes.len() {
                match bytes[i] {
                    b'\\' if in_string => i += 1,
                    // A quote as a character literal does not open a string.
                    b'"' if !(i > 0 && bytes[i - 1] == b'\'') => in_string = !in_string,
                    b'/' if !in_string && bytes.get(i + 1) == Some(&b'/') => return &line[..i],
                    _ => {}
                }
                i += 1;
            }
            line
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// The code outside the `#[cfg(test)]` module that ends a file: tests may use what the room may not.
fn product_code(text: &str) -> String {
    let code = without_comments(text);
    match code.find("#[cfg(test)]\nmod ").or_else(|| code.find("#[cfg(test)]\n#[allow")) {
        Some(at) => code[..at].to_owned(),
        None => code,
    }
}

/// True if `word` stands in `code` on its own, not inside a longer identifier.
fn names(code: &str, word: &str) -> bool {
    let is_ident = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let starts = !word.starts_with(is_ident) || !before.is_some_and(is_ident);
        let ends = !word.ends_with(is_ident) || !after.is_some_and(is_ident);
        starts && ends
    })
}

fn in_room(file: &str, room: &[&str]) -> bool {
    room.iter().any(|r| file == *r || (file.starts_with(r) && (r.ends_with('/') || file[r.len()..].starts_with('/'))))
}

fn breaches_of_walls(sources: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in sources {
        let code = product_code(text);
        for wall in WALLS.iter().filter(|w| in_room(file, w.room)) {
            for word in wall.forbidden.iter().filter(|w| names(&code, w)) {
                found.push(format!("{file} names `{word}`: {}", wall.because));
            }
        }
    }
    found
}

fn assert_none(found: Vec<String>) {
    assert!(found.is_empty(), "{} breach(es):\n  {}", found.len(), found.join("\n  "));
}

#[test]
fn rooms_know_only_what_they_may() {
    assert_none(breaches_of_walls(&sources()));
}

#[test]
fn certain_crates_are_named_in_one_place() {
    let mut found = Vec::new();
    for (file, text) in sources() {
        if !file.contains("src/") {
            continue;
        }
        let code = product_code(&text);
        for (word, allowed) in NAMED_ONCE {
            if names(&code, word) && !in_room(&file, allowed) {
                found.push(format!("{file} names `{word}`; only {} may", allowed.join(", ")));
            }
        }
    }
    assert_none(found);
}

#[test]
fn unsafe_is_fenced() {
    let mut found = Vec::new();
    for (file, text) in sources() {
        let code = without_comments(&text).replace("unsafe_code", "");
        if names(&code, "unsafe") && !in_room(&file, UNSAFE_ALLOWED) && file != "tests/house_rules.rs" {
            found.push(format!("{file} contains `unsafe`; only {} may", UNSAFE_ALLOWED.join(", ")));
        }
    }
    assert_none(found);
}

#[test]
fn files_answer_one_question() {
    let too_long = sources()
        .iter()
        .map(|(file, text)| (file, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_PER_FILE_MAX)
        .map(|(file, lines)| format!("{file} has {lines} lines; split it by question (limit {LINES_PER_FILE_MAX})"))
        .collect();
    assert_none(too_long);
}

#[test]
fn nothing_is_left_undone() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let mut found = Vec::new();
    for (file, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|m| names(line, m)) || line.trim_start().starts_with("#[ignore") {
                found.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none(found);
}

#[test]
fn the_server_does_not_link_the_graph_builder() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let index_line = manifest
        .lines()
        .find(|l| l.starts_with("kindred-index.workspace"))
        .expect("the service depends on the index crate through the workspace");
    assert!(!index_line.contains("features"), "kindred-server must not enable features of kindred-index: {index_line}");
    let shared = manifest.lines().find(|l| l.starts_with("kindred-index = ")).unwrap();
    assert!(!shared.contains("features"), "the workspace entry must not enable `build` for everyone: {shared}");
}

#[test]
fn the_top_level_holds_only_what_it_should() {
    // Only what git tracks counts: a build folder or a downloaded data set beside the sources is the reader's own.
    let listing =
        std::process::Command::new("git").args(["ls-tree", "--name-only", "HEAD"]).current_dir(root()).output();
    let listing = match listing {
        Ok(listing) if listing.status.success() => listing.stdout,
        other => return eprintln!("skipped: git cannot list the tracked files: {other:?}"),
    };
    let stray: Vec<String> = String::from_utf8_lossy(&listing)
        .lines()
        .filter(|name| !TOP_LEVEL.contains(name))
        .map(|name| format!("`{name}` does not belong at the top level"))
        .collect();
    assert_none(stray);
}

/// A rule about a file that was renamed would hold for ever.
#[test]
fn what_the_rules_name_is_there() {
    let rooms = WALLS.iter().flat_map(|wall| wall.room);
    let files = NAMED_ONCE.iter().flat_map(|(_, files)| *files);
    let gone = rooms
        .chain(files)
        .chain(UNSAFE_ALLOWED)
        .filter(|path| !root().join(path).exists())
        .map(|path| format!("a rule names {path}, which is not there"))
        .collect();
    assert_none(gone);
}

/// The canary: a checker that finds nothing in a planted breach would pass for ever.
#[test]
fn the_checker_itself_finds_a_planted_breach() {
    let planted = vec![
        ("index/src/search.rs".to_owned(), "use std::time::Instant;\n".to_owned()),
        ("src/history/mod.rs".to_owned(), "// kindred_index in a comment is fine\nfn f() {}\n".to_owned()),
        ("src/recommend/mod.rs".to_owned(), "fn f() { let address = \"http://x\"; tokio::spawn(g()); }\n".to_owned()),
    ];
    let found = breaches_of_walls(&planted);
    assert!(found.iter().any(|b| b.contains("index/src/search.rs")), "{found:?}");
    assert!(found.iter().any(|b| b.contains("src/recommend/mod.rs") && b.contains("tokio")), "{found:?}");
    assert!(!found.iter().any(|b| b.contains("src/history")), "{found:?}");
}
