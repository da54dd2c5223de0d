//! Which artifact is taken and tried again, and when the one before it is let go of.

use kindred_index::Metric;

use super::*;
use crate::artifact::CURRENT_FILE;
use crate::store::memory::MemoryDocuments;
use crate::testing::Fixture;

fn watcher(dir: &Path) -> Watcher {
    Watcher {
        dir: dir.to_owned(),
        memory: Memory::default(),
        live: Arc::new(ArcSwapOption::empty()),
        metrics: Arc::new(Metrics::new().unwrap()),
        clock: || 0,
        even: EvenClock::new(limits::CLOCK_EVEN_FOR),
        catalog: Arc::new(LiveCatalog::load(Arc::new(MemoryDocuments::default())).unwrap()),
        next_tidy: Instant::now(),
        refused: None,
        retired: Vec::new(),
    }
}

#[test]
fn an_artifact_in_a_directory_of_another_name_is_taken_once() {
    let root = tempfile::tempdir().unwrap();
    let (mine, current) = (root.path().join("mine"), root.path().join(CURRENT_FILE));
    let mut watcher = watcher(root.path());
    for generation in ["g1", "g2"] {
        let published = Fixture::random(9, 60, 16, Metric::Cosine).publish(root.path(), generation);
        let _none_at_first = fs::remove_dir_all(&mine);
        fs::rename(published, &mine).unwrap();
        fs::remove_file(&current).unwrap();
        fs::write(&current, "mine").unwrap();
        assert_eq!(watcher.look(false).unwrap(), Reloaded::Swapped(generation.to_owned()));
        assert_eq!(watcher.look(false).unwrap(), Reloaded::Unchanged(generation.to_owned()));
    }
    assert_eq!(watcher.metrics.reloads_done.get(), 2);
}

#[test]
fn what_is_contained_is_asked_of_the_artifact_before_and_of_none_where_it_is_the_first() {
    let root = tempfile::tempdir().unwrap();
    let mut watcher = watcher(root.path());
    let mut before = |generation: &str| {
        Fixture::shop().publish(root.path(), generation);
        watcher.look(false).unwrap();
        let live = watcher.live.load_full().unwrap();
        watcher.before(&live).unwrap().map(|before| before.generation().to_owned())
    };
    assert_eq!(before("g1"), None);
    assert_eq!(before("g2").as_deref(), Some("g1"));
    assert_eq!(before("g3").as_deref(), Some("g2"));
    artifact::activate(root.path(), "g2").unwrap();
    watcher.look(false).unwrap();
    let live = watcher.live.load_full().unwrap();
    assert_eq!(watcher.before(&live).unwrap().unwrap().generation(), "g1", "what came after does not count");
}

#[test]
fn what_was_refused_is_tried_again_once_it_was_copied_anew() {
    let root = tempfile::tempdir().unwrap();
    let model = Fixture::shop().publish(root.path(), "g1").join(MODEL_FILE);
    let whole = fs::read(&model).unwrap();
    fs::remove_file(&model).unwrap();
    let mut watcher = watcher(root.path());
    watcher.look(false).unwrap_err();
    let unchanged = Reloaded::Unchanged("g1".to_owned());
    assert_eq!(watcher.look(false).unwrap(), unchanged, "nothing was copied");
    for copied in [whole.len() / 2, whole.len()] {
        fs::write(&model, &whole[..copied]).unwrap();
        assert_eq!(watcher.look(false).unwrap(), unchanged, "more may come");
    }
    assert_eq!(watcher.look(false).unwrap(), Reloaded::Swapped("g1".to_owned()));
    assert_eq!((watcher.metrics.reloads_refused.get(), watcher.metrics.reloads_done.get()), (1, 1));
}

#[test]
fn what_could_not_be_read_is_tried_again_after_a_while() {
    let root = tempfile::tempdir().unwrap();
    let model = Fixture::shop().publish(root.path(), "g1").join(MODEL_FILE);
    let writer = fs::File::open(&model).unwrap();
    writer.lock().unwrap();
    let mut watcher = watcher(root.path());
    let error = watcher.look(false).unwrap_err().to_string();
    assert!(error.contains("locked by a writer"), "{error}");
    let wait_is_over = |watcher: &mut Watcher| watcher.refused.as_mut().unwrap().again_at = Some(Instant::now());
    wait_is_over(&mut watcher);
    watcher.look(false).unwrap_err();
    writer.unlock().unwrap();
    let unchanged = Reloaded::Unchanged("g1".to_owned());
    assert_eq!(watcher.look(false).unwrap(), unchanged, "its files are as they were, and it is not time yet");
    wait_is_over(&mut watcher);
    assert_eq!(watcher.look(false).unwrap(), Reloaded::Swapped("g1".to_owned()));
    assert_eq!(watcher.metrics.reloads_refused.get(), 1, "told once");
}

#[test]
fn what_was_replaced_is_let_go_of_soon_also_where_current_is_hardly_ever_looked_at() {
    let root = tempfile::tempdir().unwrap();
    Fixture::shop().publish(root.path(), "g1");
    let watcher = watcher(root.path());
    let hour = Some(Duration::from_secs(3_600));
    let reloader =
        Reloader::start(root.path(), Memory::default(), hour, watcher.metrics, || 0, watcher.catalog).unwrap();
    let held = reloader.live().as_ref().map(Arc::clone).unwrap();
    Fixture::shop().publish(root.path(), "g2");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(reloader.reload()).unwrap(), Reloaded::Swapped("g2".to_owned()));
    let replaced = Arc::downgrade(&held);
    // A request that goes on for longer than the swap.
    std::thread::sleep(Duration::from_millis(200));
    drop(held);
    let began = Instant::now();
    while replaced.strong_count() > 0 && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(replaced.strong_count(), 0);
}
