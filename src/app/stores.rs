//! Where a server keeps what outlives a request, as its settings ask.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::system_now_ms;
use crate::history::RecentInteractions;
use crate::history::memory::MemoryHistory;
use crate::limits;
use crate::settings::{HistorySettings, StoreKind};
use crate::store::embedded::{EmbeddedOptions, EmbeddedStore, Retention};
use crate::store::{Documents, StoreError};
use crate::telemetry::from_root;

/// What a server keeps things in; usually one store under two names.
#[derive(Clone)]
pub struct Stores {
    /// Interactions.
    pub history: Arc<dyn RecentInteractions>,
    /// Everything else.
    pub documents: Arc<dyn Documents>,
}

impl Stores {
    /// A store that keeps both.
    pub fn one(store: Arc<impl RecentInteractions + Documents>) -> Self {
        Self { history: store.clone(), documents: store }
    }
}

/// The store that the settings ask for.
pub(super) fn open(settings: &HistorySettings) -> Result<Stores, StoreError> {
    match settings.store {
        StoreKind::Memory => {
            let idle = Duration::from_secs(settings.idle_seconds);
            Ok(Stores::one(Arc::new(MemoryHistory::new(settings.cache_mb, settings.keep_per_actor, idle))))
        }
        StoreKind::Embedded => {
            let options = EmbeddedOptions {
                keep: settings.keep_per_actor,
                cache_mb: settings.cache_mb,
                page_cache_mb: settings.page_cache_mb,
                queue: settings.queue,
                retention: retention(settings),
            };
            let store = EmbeddedStore::open(&settings.path, options, system_now_ms)?;
            tracing::info!(path = from_root(&settings.path), "the store is open");
            Ok(Stores::one(Arc::new(store)))
        }
    }
}

/// Milliseconds that every interaction is kept at least: 0 where that depends on how many there are, or on when the server is started anew.
pub(super) fn kept_for_ms(settings: &HistorySettings) -> i64 {
    if settings.store == StoreKind::Memory || settings.max_mb > 0 {
        return 0;
    }
    let shortest = settings.retention().filter(|days| *days > 0).min();
    shortest.map_or(i64::MAX, |days| i64::from(days) * 86_400_000)
}

fn retention(settings: &HistorySettings) -> Retention {
    let ms = |days: u32| (days > 0).then(|| i64::from(days) * 86_400_000);
    let kinds = &settings.retention_days_by_kind;
    Retention {
        all_ms: ms(settings.retention_days),
        kinds_ms: kinds.iter().filter_map(|(kind, days)| ms(*days).map(|ms| (kind.clone(), ms))).collect(),
        max_bytes: (settings.max_mb > 0).then_some(settings.max_mb << 20),
        clock_even_for: limits::CLOCK_EVEN_FOR,
    }
}
