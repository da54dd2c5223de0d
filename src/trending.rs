//! What is taken just now: decayed counts of acknowledged interactions in a sliding window, for everyone and by value of the context.
//!
//! Counts lie in buckets of 1/48 of the window, at least a minute; one within the window counts `0.5^(age of its middle / half-life)`. What an
//! interaction counts is the weight of its kind in the model, where that is positive. Who counts only writes it down. A thread sorts that into the
//! buckets, and every few seconds adds them up into [`Trend`]s over the ordinals of the live artifact; requests read those, so counting never waits
//! for adding up, nor a request for either. No bucket goes because a clock says that it is old: of more than there can be in a window the one
//! farthest from the present does, so a clock that is ahead for a while costs the oldest counts at most. In memory: at start the recent part of the
//! store's log is counted again.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kindred_index::key_hash;
use serde::Deserialize;

use crate::clock::Clock;
use crate::history::{Actor, RecentInteractions};
use crate::interaction::Interaction;
use crate::limits;
use crate::recommend::{RequestContext, Signals, Trend, clock_value};
use crate::reload::Reloader;
use crate::telemetry::chain;
use crate::user_vector::Weighting;

/// How it is counted what is taken just now.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrendingSettings {
    /// Hours after which an interaction counts no more.
    pub window_hours: f64,
    /// Hours after which it counts half.
    pub half_life_hours: f64,
    /// Milliseconds between two rounds of adding up: how old a list of what is trending may be.
    pub refresh_ms: u64,
    /// Different people (users, else sessions, merged ones as one) within the window below which an item is not listed, so that no single visitor can be read off.
    pub minimum_count: u32,
    /// Keys of the context that are counted by their values.
    pub by: Vec<String>,
}

/// The counters. Shared by the requests that count and the thread that adds up.
pub struct Trending {
    settings: TrendingSettings,
    bucket_ms: i64,
    /// What was counted and is in no bucket yet.
    waiting: Mutex<Vec<Counted>>,
    /// By number. Held for as long as adding up takes, and never waited for by who counts.
    buckets: Mutex<VecDeque<Bucket>>,
    tables: RwLock<Arc<Tables>>,
}

/// A group of visitors: everyone, or those with a value of a context key (by its place in the settings).
type Group = Option<(usize, Box<str>)>;
/// What is known of an item's interactions.
type Counts = HashMap<Box<str>, Tally>;

/// Weight and number of interactions, and who they were of.
#[derive(Clone, Default)]
struct Tally {
    weight: f64,
    n: u32,
    /// Hashes of different people, in order; no more than are asked for.
    people: Vec<u32>,
}

impl Tally {
    fn meet(&mut self, person: u32, most: usize) {
        if self.people.len() < most
            && let Err(place) = self.people.binary_search(&person)
        {
            self.people.insert(place, person);
        }
    }
}

#[derive(Default)]
struct Bucket {
    number: i64,
    groups: HashMap<Group, Counts>,
    entries: usize,
}

/// An interaction that counts, as it is written down.
struct Counted {
    /// The number of its bucket, and of that of the moment when it was counted.
    bucket: i64,
    now: i64,
    person: u32,
    weight: f32,
    item: Box<str>,
    /// What the context says under the keys that are counted, by their places in the settings.
    values: Vec<(usize, Box<str>)>,
}

/// What has been added up last.
#[derive(Default)]
pub struct Tables {
    generation: String,
    groups: HashMap<Group, Trend>,
}

impl Trending {
    /// Counters at zero.
    #[must_use]
    pub fn new(settings: TrendingSettings) -> Self {
        const BUCKETS: f64 = 48.0;
        let bucket_ms = ((settings.window_hours * HOUR_MS / BUCKETS) as i64).max(60_000);
        Self { settings, bucket_ms, waiting: Mutex::default(), buckets: Mutex::default(), tables: RwLock::default() }
    }

    /// How it is counted.
    #[must_use]
    pub fn settings(&self) -> &TrendingSettings {
        &self.settings
    }

    /// How many people there must be.
    fn asked(&self) -> usize {
        self.settings.minimum_count as usize
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Counted>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn buckets(&self) -> MutexGuard<'_, VecDeque<Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the bucket of a time.
    fn number(&self, at_ms: i64) -> i64 {
        at_ms.div_euclid(self.bucket_ms)
    }

    /// The time before which nothing counts.
    #[must_use]
    pub fn since_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub((self.settings.window_hours * HOUR_MS) as i64)
    }

    /// Counts an interaction of someone, unless it is too old, weighs nothing, or its bucket holds as many different entries as it may.
    pub fn count(&self, who: &Actor, interaction: &Interaction, kinds: &BTreeMap<String, f32>, now_ms: i64) {
        let weight = kinds.get(&interaction.kind).copied().unwrap_or(0.0);
        let at_ms = interaction.occurred_at_ms.min(now_ms);
        if weight <= 0.0 || at_ms < self.since_ms(now_ms) {
            return;
        }
        let value = |(key, name): (usize, &String)| {
            let value = value_of(&interaction.context, name, at_ms)?;
            Some((key, Box::<str>::from(value)))
        };
        let one = Counted {
            bucket: self.number(at_ms),
            now: self.number(now_ms),
            person: key_hash(0, who.as_str().as_bytes()) as u32,
            weight,
            item: interaction.item_id.as_str().into(),
            values: self.settings.by.iter().enumerate().filter_map(value).collect(),
        };
        let mut waiting = self.waiting();
        if waiting.len() < limits::TRENDING_WAITING_MAX {
            waiting.push(one);
            return;
        }
        drop(waiting);
        // At a start and in an evaluation nobody else takes it in. Who adds up just now is not waited for; then it is not counted.
        if let Ok(mut buckets) = self.buckets.try_lock() {
            self.take_in(&mut buckets);
            self.waiting().push(one);
        }
    }

    /// Sorts what was counted into its buckets.
    fn take_in(&self, buckets: &mut VecDeque<Bucket>) {
        let waiting = std::mem::take(&mut *self.waiting());
        for mut one in waiting {
            let place = buckets.partition_point(|bucket| bucket.number < one.bucket);
            if buckets.get(place).is_none_or(|bucket| bucket.number != one.bucket) {
                buckets.insert(place, Bucket { number: one.bucket, ..Bucket::default() });
            }
            let values = std::mem::take(&mut one.values);
            if let Some(bucket) = buckets.get_mut(place) {
                let groups = std::iter::once(None).chain(values.into_iter().map(Some));
                groups.for_each(|group| bucket.add(group, &one, self.asked()));
            }
            if buckets.len() > limits::TRENDING_BUCKETS_MAX {
                let before = buckets.front().map_or(0, |first| one.now - first.number);
                let after = buckets.back().map_or(0, |last| last.number - one.now);
                drop(if before >= after { buckets.pop_front() } else { buckets.pop_back() });
            }
        }
    }

    /// Counts the recent part of the log, each as the person that did it, if one may be counted. A log that cannot be read is no reason not to start.
    pub fn count_again(
        &self,
        history: &dyn RecentInteractions,
        reloader: &Reloader,
        person: impl Fn(&[Actor]) -> Option<Actor>,
        now_ms: i64,
    ) {
        let usual = Weighting::default();
        let live = reloader.live();
        let kinds = live.as_deref().map_or(&usual.kinds, |live| &live.snapshot.manifest().weighting.kinds);
        let count = &mut |who: &[Actor], one: &Interaction| {
            if let Some(first) = person(who) {
                self.count(&first, one, kinds, now_ms);
            }
        };
        if let Err(error) = history.replay(self.since_ms(now_ms), limits::TRENDING_REPLAY_MAX, count) {
            tracing::warn!(error = chain(&error), "what is trending begins at zero, because the log could not be read");
        }
    }

    /// Adds everything up over the items of an artifact, with all that was counted until now.
    pub fn refresh(&self, generation: &str, ordinal: impl Fn(&str) -> Option<u32>, now_ms: i64) {
        let mut buckets = self.buckets();
        self.take_in(&mut buckets);
        let groups = self.sums(&buckets, now_ms).into_iter().map(|(group, counts)| {
            let listed = counts.into_iter().filter(|(_, tally)| tally.people.len() >= self.asked());
            let known = listed.filter_map(|(item, tally)| Some((ordinal(item)?, tally.weight, tally.n)));
            (group.clone(), Trend::new(known.collect()))
        });
        let tables = Arc::new(Tables { generation: generation.to_owned(), groups: groups.collect() });
        drop(buckets);
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = tables;
    }

    /// The decayed sums of all buckets in the window. They lend their keys: an item is in very many of them.
    fn sums<'a>(&self, buckets: &'a VecDeque<Bucket>, now_ms: i64) -> HashMap<&'a Group, HashMap<&'a str, Tally>> {
        let window = self.number(self.since_ms(now_ms))..=self.number(now_ms);
        let mut sums: HashMap<&Group, HashMap<&str, Tally>> = HashMap::new();
        for bucket in buckets.iter().filter(|bucket| window.contains(&bucket.number)) {
            let middle_ms = bucket.number * self.bucket_ms + self.bucket_ms / 2;
            let age_hours = (now_ms - middle_ms).max(0) as f64 / HOUR_MS;
            let decay = (-age_hours / self.settings.half_life_hours).exp2();
            for (group, counts) in &bucket.groups {
                let into = sums.entry(group).or_default();
                for (item, tally) in counts {
                    let sum = into.entry(item.as_ref()).or_default();
                    sum.weight += decay * tally.weight;
                    sum.n = sum.n.saturating_add(tally.n);
                    tally.people.iter().for_each(|person| sum.meet(*person, self.asked()));
                }
            }
        }
        sums
    }

    /// What was added up last.
    #[must_use]
    pub fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a request may use: the counts of everyone, and those of its own groups. Nothing while they are of another artifact.
    #[must_use]
    pub fn signals<'a>(
        &'a self,
        tables: &'a Tables,
        generation: &str,
        context: Option<&RequestContext>,
        now_ms: i64,
    ) -> Signals<'a> {
        if tables.generation != generation {
            return Signals::default();
        }
        let nothing = BTreeMap::new();
        let said = context.map_or(&nothing, |context| &context.values);
        let group = |(key, name): (usize, &'a String)| {
            let value = value_of(said, name, now_ms)?;
            Some((name.as_str(), tables.groups.get(&Some((key, value.as_ref().into())))?))
        };
        Signals {
            overall: tables.groups.get(&None),
            segments: self.settings.by.iter().enumerate().filter_map(group).collect(),
        }
    }
}

const HOUR_MS: f64 = 3_600_000.0;

/// What a context says under a key, or the clock: in UTC, as it is counted. Where a visitor's clock stands is not known of every interaction.
fn value_of<'a>(said: &'a BTreeMap<String, String>, key: &str, at_ms: i64) -> Option<Cow<'a, str>> {
    said.get(key).map(|value| Cow::Borrowed(value.as_str())).or_else(|| clock_value(key, at_ms))
}

/// The thread that adds up.
pub struct Refresher {
    stop: Mutex<Option<Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Refresher {
    /// Starts it. It adds up every `refresh_ms`, and soon after another artifact has gone live.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(trending: Arc<Trending>, reloader: Arc<Reloader>, clock: Clock) -> std::io::Result<Self> {
        const LOOK_EVERY: Duration = Duration::from_millis(250);
        let (stop, stopped) = channel::<()>();
        let every = Duration::from_millis(trending.settings.refresh_ms);
        let every_ms = i64::try_from(trending.settings.refresh_ms).unwrap_or(i64::MAX);
        let run = move || {
            let mut last: Option<(Instant, i64)> = None;
            loop {
                trending.take_in(&mut trending.buckets());
                if let Some(live) = reloader.live().as_deref() {
                    let other = trending.tables().generation != live.snapshot.generation();
                    // Where the requests say what time it is, hours may have gone by.
                    let now_ms = clock.now_ms();
                    let is_due =
                        |(at, at_ms): (Instant, i64)| at.elapsed() >= every || now_ms.saturating_sub(at_ms) >= every_ms;
                    if other || last.is_none_or(is_due) {
                        let model = live.snapshot.model();
                        // Changes are held for one item at a time: who changes one would make everyone wait who asks.
                        let changed = |key: &str| model.view_with(live.changes(now_ms).as_deref()).ordinal(key);
                        let ordinal = |key: &str| model.index().ordinal(key).or_else(|| changed(key));
                        trending.refresh(live.snapshot.generation(), ordinal, now_ms);
                        last = Some((Instant::now(), now_ms));
                    }
                }
                if stopped.recv_timeout(LOOK_EVERY.min(every)) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("kindred-trending".to_owned()).spawn(run)?;
        Ok(Self { stop: Mutex::new(Some(stop)), thread: Mutex::new(Some(thread)) })
    }

    /// Ends it.
    pub fn stop(&self) {
        drop(self.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(
                "the thread that counts what is trending ended by a panic; lists of it were old since then"
            );
        }
    }
}

impl Bucket {
    /// Counts one for a group. `people` is how many of them are remembered.
    fn add(&mut self, group: Group, one: &Counted, people: usize) {
        let is_full = self.entries >= limits::TRENDING_ENTRIES_PER_BUCKET_MAX;
        if is_full && !self.groups.contains_key(&group) {
            return;
        }
        let counts = self.groups.entry(group).or_default();
        if !counts.contains_key(&one.item) {
            if is_full {
                return;
            }
            counts.insert(one.item.clone(), Tally::default());
            self.entries += 1;
        }
        if let Some(tally) = counts.get_mut(&one.item) {
            tally.weight += f64::from(one.weight);
            tally.n = tally.n.saturating_add(1);
            tally.meet(one.person, people);
        }
    }
}

#[cfg(test)]
mod tests;
