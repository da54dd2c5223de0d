//! Kills a server at random moments, with the signal that nothing can catch, while it takes thousands of writes a second, and looks whether
//! everything that was acknowledged is there afterwards, nothing twice, nothing by halves, nothing that was erased.
//!
//! Ten rounds in `cargo test`; `KINDRED_CRASH_ROUNDS=100 cargo test --release --test crash -- --nocapture` for more. The number of rounds is printed. The
//! writer is this program itself, started again as a child: it opens the store as a server does and writes a line for each acknowledgement to
//! a pipe. A line that arrived is an acknowledgement that must hold; the last change of a kind may or may not have happened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kindred::Interaction;
use kindred::history::{Actor, Incoming, RecentInteractions};
use kindred::store::embedded::{EmbeddedOptions, EmbeddedStore, Retention, check};
use kindred::store::{Documents, Table, Write};
use kindred::testing::Noise;

const CHILD: &str = "KINDRED_CRASH_CHILD";
const ROUNDS: &str = "KINDRED_CRASH_ROUNDS";
/// Writers at once in the child, and the interactions of one of their requests. They send as fast as they are answered.
const WRITERS: u64 = 64;
const BATCH: u64 = 10;
/// Every so many steps a writer changes its item, and every so many it erases its visitor.
const ITEM_EVERY: u64 = 2;
const ERASE_EVERY: u64 = 5;

fn options() -> EmbeddedOptions {
    EmbeddedOptions { keep: 100, cache_mb: 16, page_cache_mb: 16, queue: 65_536, retention: Retention::default() }
}

fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, options(), || 1_000).expect("a store that was left by a kill opens")
}

fn id(writer: u64, step: u64, at: u64) -> String {
    format!("{writer}-{step}-{at}")
}

/// A visitor's name: a new one after each erasure, so that an old one that comes back is seen.
fn visitor(writer: u64, step: u64) -> String {
    format!("{writer}-{}", step / ERASE_EVERY)
}

fn batch(writer: u64, step: u64) -> Vec<Incoming> {
    let one = |at| Incoming {
        user_id: Some(visitor(writer, step)),
        session_id: Some(format!("s-{}", visitor(writer, step))),
        interaction: Interaction { interaction_id: Some(id(writer, step, at)), ..Interaction::new("x", "view", 1) },
    };
    (0..BATCH).map(one).collect()
}

/// An item change: two documents that must always say the same.
fn item(writer: u64, step: u64) -> Vec<Write> {
    let value = step.to_le_bytes().to_vec();
    vec![
        Write::put(Table::Items, format!("{writer}"), value.clone()),
        Write::put(Table::Merges, format!("{writer}"), value),
    ]
}

/// The child: writes until it is killed, and says what was acknowledged.
fn write_until_killed(path: &Path, from: u64) {
    let store = Arc::new(open(path));
    println!("open");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let writers = (0..WRITERS).map(|writer| tokio::spawn(write(Arc::clone(&store), writer, from)));
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    });
}

async fn write(store: Arc<EmbeddedStore>, writer: u64, from: u64) {
    let say = |what: &str, step: u64| {
        let mut out = std::io::stdout().lock();
        // One call for a line: a kill cannot cut it in the pipe.
        out.write_all(format!("{what} {writer} {step}\n").as_bytes()).unwrap();
        out.flush().unwrap();
    };
    for step in from.. {
        store.append(batch(writer, step)).await.unwrap();
        say("kept", step);
        if step % ITEM_EVERY == 0 {
            store.write(item(writer, step)).await.unwrap();
            say("item", step);
        }
        if step % ERASE_EVERY == ERASE_EVERY - 1 {
            let visitor = visitor(writer, step);
            let note = Write::put(Table::People, visitor.clone(), step.to_le_bytes().to_vec());
            store.erase(vec![Actor::user(&visitor)], vec![note]).await.unwrap();
            say("erased", step);
        }
    }
}

/// What was acknowledged, by writer: the last step of each kind.
#[derive(Default, Clone, Copy)]
struct Acknowledged {
    kept: Option<u64>,
    item: Option<u64>,
    erased: Option<u64>,
}

/// One round: start, let it acknowledge so many changes and go on a moment longer, kill, listen. Returns how many interactions and other changes
/// were acknowledged, and the seconds they took. Counted in changes and not in time, so that a slow machine is killed as often in the middle of things.
fn kill_one(
    path: &Path,
    from: u64,
    changes_before: usize,
    moment: Duration,
    known: &mut BTreeMap<u64, Acknowledged>,
) -> (u64, u64, f64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, format!("{from} {}", path.display()))
        .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.ends_with("open\n") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the child ended before the store was open");
    }
    let began = Instant::now();
    let (enough, is_enough) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut seen: Vec<String> = Vec::new();
        for line in lines.lines().map_while(Result::ok) {
            seen.push(line);
            if seen.len() == changes_before {
                enough.send(()).unwrap();
            }
        }
        seen
    });
    is_enough.recv().expect("the child ended before it was killed");
    std::thread::sleep(moment);
    child.kill().unwrap();
    let took = began.elapsed().as_secs_f64();
    child.wait().unwrap();
    let (mut interactions, mut changes) = (0, 0);
    for line in reader.join().unwrap() {
        let parts: Vec<&str> = line.split(' ').collect();
        let [what, writer, step] = parts[..] else { continue };
        let (Ok(writer), Ok(step)) = (writer.parse(), step.parse()) else { continue };
        let known = known.entry(writer).or_default();
        match what {
            "kept" => (known.kept, interactions) = (Some(step), interactions + BATCH),
            "item" => (known.item, changes) = (Some(step), changes + 1),
            "erased" => (known.erased, changes) = (Some(step), changes + 1),
            _ => {}
        }
    }
    (interactions, changes, took)
}

/// Interactions of a visitor, by user and by session, as (step, number within the batch).
async fn stored(store: &EmbeddedStore, writer: u64, step: u64) -> [Vec<String>; 2] {
    let name = visitor(writer, step);
    let ids = async |actor: Actor| {
        let page = store.page(&actor, None, 10_000).await.unwrap();
        let mut ids: Vec<String> =
            page.iter().map(|kept| kept.interaction.interaction_id.clone().unwrap_or_default()).collect();
        ids.sort_unstable();
        ids
    };
    [ids(Actor::user(&name)).await, ids(Actor::session(&format!("s-{name}"))).await]
}

/// Compares the store with what was acknowledged in this round. A writer has one change in progress at a time: all before it was acknowledged.
async fn compare(store: &EmbeddedStore, from: u64, known: &BTreeMap<u64, Acknowledged>) {
    for writer in 0..WRITERS {
        let told = known.get(&writer).copied().unwrap_or_default();
        let kept = told.kept.map_or(from, |step| step + 1);
        // Steps from..kept are acknowledged; `kept` itself may be there, and nothing after it.
        let visitors: Vec<u64> =
            (from / ERASE_EVERY..=kept / ERASE_EVERY).map(|visitor| visitor * ERASE_EVERY).collect();
        for first in visitors {
            let last = first + ERASE_EVERY - 1;
            let [user, session] = stored(store, writer, first).await;
            assert_eq!(user, session, "writer {writer}: an interaction of both is kept for both");
            let note = store.get(Table::People, &visitor(writer, first)).await.unwrap();
            assert!(note.is_none() || user.is_empty(), "writer {writer} {first}: erased and still there");
            if told.erased.is_some_and(|erased| erased >= last) {
                assert!(
                    note.is_some() && user.is_empty(),
                    "writer {writer} {first}: an acknowledged erasure is undone"
                );
            }
            if note.is_some() {
                continue;
            }
            for step in first.max(from)..=last.min(kept) {
                let there = (0..BATCH).filter(|at| user.binary_search(&id(writer, step, *at)).is_ok()).count() as u64;
                assert!(
                    there == BATCH || (there == 0 && step == kept),
                    "writer {writer} step {step}: {there} of {BATCH}"
                );
            }
            let expected = user.len() as u64;
            assert!(expected.is_multiple_of(BATCH), "writer {writer} {first}: nothing twice, nothing by halves");
        }
        let one = store.get(Table::Items, &format!("{writer}")).await.unwrap();
        let other = store.get(Table::Merges, &format!("{writer}")).await.unwrap();
        assert_eq!(one, other, "writer {writer}: two documents of one change");
        let found = one.map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
        if let Some(acknowledged) = told.item {
            assert!(found >= Some(acknowledged), "writer {writer}: item {found:?}, acknowledged {acknowledged}");
            assert!(found <= Some(acknowledged + ITEM_EVERY), "writer {writer}: item {found:?} was never sent");
        }
    }
}

/// Not a test of its own: the child of the test below, when that starts it.
#[test]
fn child() {
    if let Ok(what) = std::env::var(CHILD) {
        let (from, path) = what.split_once(' ').unwrap();
        write_until_killed(Path::new(path), from.parse().unwrap());
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill_nothing_is_half_applied_and_nothing_erased_comes_back() {
    let rounds: u64 = std::env::var(ROUNDS).map_or(10, |rounds| rounds.parse().expect("a number of rounds"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    // Seeded by the system, so that each run kills at other moments; printed, so that one can be told from another.
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), "crash");
    let mut noise = Noise(seed);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (mut interactions, mut changes, mut time) = (0, 0, 0.0);
    let mut from = 0;
    for round in 0..rounds {
        let mut known = BTreeMap::new();
        let (before, moment) = (1 + noise.below(1_000), Duration::from_micros(noise.below(20_000) as u64));
        let (more, other, took) = kill_one(&path, from, before, moment, &mut known);
        (interactions, changes, time) = (interactions + more, changes + other, time + took);
        if round % 10 == 9 || round + 1 == rounds {
            let checked = check(&path).unwrap();
            // Pages that a killed process was writing are repaired when the file is opened; what the tables say must agree.
            let problems: Vec<_> = checked.problems.iter().filter(|problem| !problem.contains("repaired")).collect();
            assert!(problems.is_empty(), "round {round}: {problems:?}");
        }
        let store = open(&path);
        runtime.block_on(compare(&store, from, &known));
        // The next child goes on where no writer has been, at a whole visitor.
        let last = known.values().filter_map(|known| known.kept).max().unwrap_or(from);
        from = (last / ERASE_EVERY + 2) * ERASE_EVERY;
    }
    assert!(interactions > 0 && changes > 0, "nothing was acknowledged in {rounds} rounds");
    println!(
        "{rounds} rounds (seed {seed:#x}): {interactions} interactions and {changes} item changes and erasures acknowledged, {:.0} interactions/s and \
         {:.0} changes/s; nothing lost, half applied or resurrected",
        interactions as f64 / time,
        changes as f64 / time
    );
}
