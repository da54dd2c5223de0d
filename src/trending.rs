//! What is taken just now: decayed counts of acknowledged interactions in a sliding window, for everyone and by value of the context.
//!
//! Counts lie in buckets of 1/48 of the window, at least a minute; a bucket that has left the window is dropped, and one within it counts
//! `0.5^(age of its middle / half-life)`. What an interaction counts is the weight of its kind in the model, where that is positive. Every few
//! seconds a thread adds the buckets up into [`Trend`]s over the ordinals of the live artifact; requests read those, so counting never waits for
//! adding up, nor a request for either. In memory: at start the recent part of the store's log is counted again.

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
    /// Different people (users, else sessions) within the window below which an item is not listed, so that no single visitor can be read off.
    pub minimum_count: u32,
    /// Keys of the context that are counted by their values.
    pub by: Vec<String>,
}

/// The counters. Shared by the requests that count and the thread that adds up.
pub struct Trending {
    settings: TrendingSettings,
    bucket_ms: i64,
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

/// An interaction that counts.
struct Counted<'a> {
    person: u32,
    /// How many people are remembered.
    most: usize,
    interaction: &'a Interaction,
    weight: f32,
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
        Self { settings, bucket_ms, buckets: Mutex::default(), tables: RwLock::default() }
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

    fn locked(&self) -> MutexGuard<'_, VecDeque<Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
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
        let number = at_ms.div_euclid(self.bucket_ms);
        let mut buckets = self.locked();
        let place = buckets.partition_point(|bucket| bucket.number < number);
        if buckets.get(place).is_none_or(|bucket| bucket.number != number) {
            buckets.insert(place, Bucket { number, ..Bucket::default() });
            let first = self.since_ms(now_ms).div_euclid(self.bucket_ms);
            buckets.retain(|bucket| bucket.number >= first);
        }
        let place = buckets.partition_point(|bucket| bucket.number < number);
        let Some(bucket) = buckets.get_mut(place) else { return };
        let one =
            Counted { person: key_hash(0, who.as_str().as_bytes()) as u32, most: self.asked(), interaction, weight };
        bucket.add(None, &one);
        for (key, name) in self.settings.by.iter().enumerate() {
            let said = interaction.context.get(name).map(String::as_str);
            let clock = if said.is_none() { clock_value(name, at_ms) } else { None };
            if let Some(value) = said.or(clock.as_deref()) {
                bucket.add(Some((key, value.into())), &one);
            }
        }
    }

    /// Counts the recent part of the log. A log that cannot be read is no reason not to start.
    pub fn count_again(&self, history: &dyn RecentInteractions, reloader: &Reloader, now_ms: i64) {
        let usual = Weighting::default();
        let live = reloader.live();
        let kinds = live.as_deref().map_or(&usual.kinds, |live| &live.snapshot.manifest().weighting.kinds);
        let count = &mut |who: &Actor, one: &Interaction| self.count(who, one, kinds, now_ms);
        if let Err(error) = history.replay(self.since_ms(now_ms), limits::TRENDING_REPLAY_MAX, count) {
            tracing::warn!(error = chain(&error), "what is trending begins at zero, because the log could not be read");
        }
    }

    /// Adds everything up over the items of an artifact.
    pub fn refresh(&self, generation: &str, ordinal: impl Fn(&str) -> Option<u32>, now_ms: i64) {
        let groups = self.sums(now_ms).into_iter().map(|(group, counts)| {
            let listed = counts.into_iter().filter(|(_, tally)| tally.people.len() >= self.asked());
            let known = listed.filter_map(|(item, tally)| Some((ordinal(&item)?, tally.weight, tally.n)));
            (group, Trend::new(known.collect()))
        });
        let tables = Arc::new(Tables { generation: generation.to_owned(), groups: groups.collect() });
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = tables;
    }

    /// The decayed sums of all buckets in the window; those that have left it are dropped. Between two buckets the lock is free for who counts.
    fn sums(&self, now_ms: i64) -> HashMap<Group, Counts> {
        let mut next = self.since_ms(now_ms).div_euclid(self.bucket_ms);
        self.locked().retain(|bucket| bucket.number >= next);
        let mut sums: HashMap<Group, Counts> = HashMap::new();
        loop {
            let buckets = self.locked();
            let place = buckets.partition_point(|bucket| bucket.number < next);
            let Some(bucket) = buckets.get(place) else { break };
            next = bucket.number + 1;
            let middle_ms = bucket.number * self.bucket_ms + self.bucket_ms / 2;
            let age_hours = (now_ms - middle_ms).max(0) as f64 / HOUR_MS;
            let decay = (-age_hours / self.settings.half_life_hours).exp2();
            for (group, counts) in &bucket.groups {
                let into = sums.entry(group.clone()).or_default();
                for (item, tally) in counts {
                    let sum = into.entry(item.clone()).or_default();
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
        let clock = RequestContext::default();
        let context = context.unwrap_or(&clock);
        let group = |(key, name): (usize, &'a String)| {
            let value = context.value(name, now_ms)?;
            Some((name.as_str(), tables.groups.get(&Some((key, value.as_ref().into())))?))
        };
        Signals {
            overall: tables.groups.get(&None),
            segments: self.settings.by.iter().enumerate().filter_map(group).collect(),
        }
    }
}

const HOUR_MS: f64 = 3_600_000.0;

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
                if let Some(live) = reloader.live().as_deref() {
                    let other = trending.tables().generation != live.snapshot.generation();
                    // Where the requests say what time it is, hours may have gone by.
                    let now_ms = clock.now_ms();
                    let is_due = |(at, at_ms): (Instant, i64)| at.elapsed() >= every || (now_ms - at_ms) >= every_ms;
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
    fn add(&mut self, group: Group, one: &Counted<'_>) {
        let is_full = self.entries >= limits::TRENDING_ENTRIES_PER_BUCKET_MAX;
        if is_full && !self.groups.contains_key(&group) {
            return;
        }
        let counts = self.groups.entry(group).or_default();
        let item = one.interaction.item_id.as_str();
        if !counts.contains_key(item) {
            if is_full {
                return;
            }
            counts.insert(item.into(), Tally::default());
            self.entries += 1;
        }
        if let Some(tally) = counts.get_mut(item) {
            tally.weight += f64::from(one.weight);
            tally.n = tally.n.saturating_add(1);
            tally.meet(one.person, one.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const NOW_MS: i64 = 1_795_568_523_000;

    /// Decayed weight, number, and who.
    type Sum = (f64, u32, BTreeSet<u8>);

    fn settings(minimum_count: u32) -> TrendingSettings {
        TrendingSettings {
            window_hours: 48.0,
            half_life_hours: 6.0,
            refresh_ms: 1_000,
            minimum_count,
            by: vec!["country".to_owned(), "hour".to_owned()],
        }
    }

    fn kinds() -> BTreeMap<String, f32> {
        BTreeMap::from([("view".to_owned(), 1.0), ("purchase".to_owned(), 5.0), ("dislike".to_owned(), -1.0)])
    }

    fn ordinal(key: &str) -> Option<u32> {
        key.parse().ok()
    }

    proptest! {
        #[test]
        fn counts_are_those_of_adding_up_one_by_one(
            events in prop::collection::vec((0..12_u32, prop::sample::select(vec!["view", "purchase", "dislike", "stare"]), 0..6_000_i64,
                prop::option::of(0..3_u8), 0..4_u8), 0..200),
            minimum_count in 1..4_u32,
        ) {
            let trending = Trending::new(settings(minimum_count));
            let mut sums: BTreeMap<(Option<u8>, u32), Sum> = BTreeMap::new();
            for (item, kind, minutes, country, who) in &events {
                let mut interaction = Interaction::new(item.to_string(), *kind, NOW_MS - minutes * 60_000);
                if let Some(country) = country {
                    interaction.context.insert("country".to_owned(), country.to_string());
                }
                trending.count(&Actor::user(&who.to_string()), &interaction, &kinds(), NOW_MS);
                let weight = f64::from(kinds().get(*kind).copied().unwrap_or(0.0));
                // A bucket is an hour; one that began within the window counts with its middle's age.
                let middle = interaction.occurred_at_ms.div_euclid(3_600_000) * 3_600_000 + 1_800_000;
                if weight > 0.0 && *minutes <= 48 * 60 {
                    let decay = 0.5_f64.powf((NOW_MS - middle).max(0) as f64 / 3.6e6 / 6.0);
                    for group in [None, *country].into_iter().take(if country.is_some() { 2 } else { 1 }) {
                        let sum = sums.entry((group, *item)).or_default();
                        (sum.0, sum.1) = (sum.0 + weight * decay, sum.1 + 1);
                        sum.2.insert(*who);
                    }
                }
            }
            trending.refresh("g", ordinal, NOW_MS);
            let tables = trending.tables();
            for country in [None, Some(0), Some(1), Some(2)] {
                let counted = sums.iter().filter(|((group, _), (_, _, people))| *group == country && people.len() >= minimum_count as usize);
                let expected = Trend::new(counted.map(|((_, item), (sum, n, _))| (*item, *sum, *n)).collect());
                let values = country.map(|country: u8| ("country".to_owned(), country.to_string())).into_iter().collect();
                let context = RequestContext { values, ..RequestContext::default() };
                let signals = trending.signals(&tables, "g", Some(&context), NOW_MS);
                let found = match country {
                    None => signals.overall,
                    Some(_) => signals.segments.iter().find(|(key, _)| *key == "country").map(|(_, trend)| *trend),
                };
                for item in 0..12 {
                    let (score, n) = found.map_or((0.0, 0), |trend| (trend.score(item), trend.count(item)));
                    prop_assert!((score - expected.score(item)).abs() < 1e-5, "{:?} {}: {} against {}", country, item, score, expected.score(item));
                    prop_assert_eq!(n, expected.count(item));
                }
            }
        }
    }

    #[test]
    fn what_is_old_is_dropped_and_another_artifact_has_no_counts() {
        let trending = Trending::new(settings(1));
        trending.count(&Actor::user("u"), &Interaction::new("1", "view", NOW_MS), &kinds(), NOW_MS);
        trending.refresh("g1", ordinal, NOW_MS);
        let tables = trending.tables();
        assert!(trending.signals(&tables, "g1", None, NOW_MS).overall.is_some());
        assert!(trending.signals(&tables, "g2", None, NOW_MS).overall.is_none());
        // The clock is a context of its own.
        assert_eq!(trending.signals(&tables, "g1", None, NOW_MS).segments[0].0, "hour");
        trending.refresh("g1", ordinal, NOW_MS + 50 * 3_600_000);
        assert!(trending.signals(&trending.tables(), "g1", None, NOW_MS).overall.is_none());
        assert!(trending.buckets.lock().unwrap().is_empty());
    }
}
