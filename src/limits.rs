//! Every bound of the service, with its unit in the name and the reason beside it.
//!
//! Bounds of the index file (keys, k, ef_search, sections) live in [`kindred_index`]; these are the bounds of what stands on it.

/// Longest item, user or session identifier, in bytes of UTF-8. The index stores keys of at most this length.
pub const KEY_BYTES_MAX: usize = 256;

/// Most items one answer may hold. A page shows tens; a batch job that wants thousands should use the tools.
pub const ANSWER_ITEMS_MAX: usize = 1_000;

/// Most interactions of one visitor looked at in one request. Older ones weigh next to nothing after recency decay.
pub const HISTORY_MAX: usize = 1_000;

/// Most interactions that take part in a user vector, whatever a weighting asks for.
pub const WEIGHTED_INTERACTIONS_MAX: usize = 500;

/// Most item keys one request may exclude.
pub const EXCLUDE_MAX: usize = 10_000;

/// Filters whose items are kept evaluated, of each artifact: those asked last. Each costs a comparison in a request with another filter.
pub const FILTERS_KEPT_MAX: usize = 32;

/// Memory of what is kept of them: a bit for each item of the artifact, and 68 bytes for each item that passes a selective filter.
pub const FILTERS_KEPT_BYTES_MAX: usize = 64 << 20;

/// Conditions and values of a filter that is kept, at most. Longer ones are evaluated each time.
pub const FILTER_KEPT_PARTS_MAX: usize = 128;

/// Most items one request may have scored.
pub const SCORE_ITEMS_MAX: usize = 10_000;

/// Most candidates the vector search may propose. Bounds the work of one request.
pub const CANDIDATES_MAX: usize = 5_000;

/// Tastes of a visitor that are told apart: each is a search more.
pub const TASTES_MAX: usize = 8;

/// Recent interactions whose item-to-item neighbours may become candidates. All interactions take part in the *scores*.
pub const NEIGHBOUR_SEEDS_MAX: usize = 10;

/// Seeds of one similar-items request.
pub const SIMILAR_SEEDS_MAX: usize = 100;

/// Boosts of one scenario.
pub const BOOSTS_MAX: usize = 64;

/// Caps of one scenario. Each costs a look at the attributes of every candidate.
pub const CAPS_MAX: usize = 8;

/// Longest name of a rule, in bytes. It is sent with every reason.
pub const RULE_NAME_BYTES_MAX: usize = 64;

/// Greatest diversity: what a cosine of 1 may take off a score, where scores are around 1.
pub const DIVERSITY_MAX: f32 = 10.0;

/// New items that a request may draw from.
pub const EXPLORE_POOL_MAX: usize = 1_000;

/// Different items and groups counted in one bucket of what is trending: about 100 bytes each while few people are asked for, and
/// there are at most 50 buckets.
pub const TRENDING_ENTRIES_PER_BUCKET_MAX: usize = 200_000;

/// Buckets of what is trending that are kept: as many as a window touches, which begins and ends within one.
pub const TRENDING_BUCKETS_MAX: usize = 50;

/// Interactions that may wait to be sorted into them, a few hundred bytes each; they are taken in four times a second. Beyond, while somebody
/// adds up, they are not counted until the next start.
pub const TRENDING_WAITING_MAX: usize = 65_536;

/// Context keys counted by value for what is trending.
pub const TRENDING_KEYS_MAX: usize = 8;

/// Interactions of the log counted again at start, at most: the newest.
pub const TRENDING_REPLAY_MAX: usize = 1_000_000;

/// Items that a cursor of infinite scroll carries. Beyond them the scroll is at its end.
pub const CURSOR_ITEMS_MAX: usize = 5_000;

/// Bytes of such a cursor, for the same reason: it comes back in a body, beside what else is asked.
pub const CURSOR_BYTES_MAX: usize = BODY_BYTES_MAX / 2;

/// Neighbours stored per item.
pub const NEIGHBOURS_PER_ITEM_MAX: usize = 1_000;

/// Longest text of a search by words, in characters.
pub const QUERY_TEXT_CHARS_MAX: usize = 1_000;

/// Features that the encoder of a model knows: those that most items have.
pub const ENCODER_FEATURES_MAX: usize = 65_536;

/// Sessions kept per item, the most recent ones: what VMIS-kNN calls m. Its authors found nothing better above.
pub const SESSIONS_PER_ITEM_MAX: usize = 500;

/// Sessions that may count as similar to a visitor's.
pub const SIMILAR_SESSIONS_MAX: usize = 100;

/// Kinds of interaction a weighting may name.
pub const KINDS_MAX: usize = 255;

/// Longest name of a kind of interaction, in bytes.
pub const KIND_BYTES_MAX: usize = 64;

/// Entries in the context of one interaction.
pub const CONTEXT_ENTRIES_MAX: usize = 32;

/// Longest context key or value, in bytes.
pub const CONTEXT_BYTES_MAX: usize = 256;

/// Largest catalogue entry, in bytes of JSON. Entries are sent out whole; a description is text, not a document.
pub const CATALOG_ITEM_BYTES_MAX: usize = 64 * 1024;

/// Longest deadline a scenario may set, in milliseconds.
pub const DEADLINE_MS_MAX: u64 = 60_000;

/// Largest manifest, in bytes. It is read whole into memory.
pub const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Largest `CURRENT` file, in bytes: one generation name and a line break.
pub const CURRENT_BYTES_MAX: u64 = 256;

/// Longest generation name, in bytes. It becomes a directory name.
pub const GENERATION_BYTES_MAX: usize = 128;

/// Largest record the store may write or read, in bytes.
pub const RECORD_BYTES_MAX: u64 = 64 * 1024;

/// The largest whole number that every reader of JSON takes as it is written: 2^53 - 1.
pub const JSON_INTEGER_MAX: u64 = (1 << 53) - 1;

const _: () = assert!(ANSWER_ITEMS_MAX <= CANDIDATES_MAX);
const _: () = assert!(NEIGHBOUR_SEEDS_MAX <= WEIGHTED_INTERACTIONS_MAX);
const _: () = assert!(WEIGHTED_INTERACTIONS_MAX <= HISTORY_MAX);
const _: () = assert!(GENERATION_BYTES_MAX < CURRENT_BYTES_MAX as usize);

// --- The edge: what one caller may send, and what the stores and the reloader may hold at once. ---

/// Largest request body, in bytes. A full batch of interactions of usual size fits.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Connections of one listener that wait to be accepted, at most; the system may allow fewer (net.core.somaxconn).
pub const CONNECTIONS_WAITING_MAX: i32 = 4_096;

/// Most interactions one request may bring.
pub const BATCH_INTERACTIONS_MAX: usize = 1_000;

/// Deepest nesting of groups in a filter. Conversion recurses, so this bounds the stack.
pub const FILTER_DEPTH_MAX: usize = 8;

/// Most conditions and values in one filter, all groups together. No more conditions are held while one is read.
pub const FILTER_CONDITIONS_MAX: usize = 256;

/// Most example items in one similarity query, positive and negative together.
pub const SEARCH_EXAMPLES_MAX: usize = 100;

/// Longest `x-request-id` taken from a caller, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 64;

/// How far ahead of ours a sender's clock may be, in milliseconds. An interaction from the far future would stay the newest for ever.
pub const CLOCK_AHEAD_MS_MAX: i64 = 10 * 60 * 1000;

/// Look-ups that may wait for the store's disk; further ones are answered without.
pub const STORE_READS_MAX: usize = 64;

/// Longest key of a document, in bytes: two identifiers and what joins them.
pub const DOCUMENT_KEY_BYTES_MAX: usize = 1024;

/// Largest document, in bytes: a catalogue entry with what is known about it.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

/// Most documents changed in one call.
pub const DOCUMENT_WRITES_MAX: usize = 8_192;

/// Bytes of changes that may wait to be committed, whatever their number.
pub const STORE_QUEUE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Interactions and document changes committed in one transaction at most: bounds its memory and the wait of those behind it.
pub const COMMIT_CHANGES_MAX: u64 = 8_192;

/// Longest time that a commit gathers company. It starts as soon as nothing more is waiting.
pub const COMMIT_WINDOW: std::time::Duration = std::time::Duration::from_millis(10);

/// How long the clock has to have gone evenly before anything is removed for its age.
pub const CLOCK_EVEN_FOR: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// Interactions beyond their retention removed in one transaction.
pub const PRUNE_INTERACTIONS_MAX: usize = 2_000;

/// Interactions that an erasure removes in one transaction: tens of MiB, and writers wait for some tenths of a second.
pub const ERASED_AT_ONCE: usize = 10_000;

/// Reloads that may wait for the one in progress.
pub const RELOADS_WAITING_MAX: usize = 16;

const _: () = assert!(BATCH_INTERACTIONS_MAX as u64 <= COMMIT_CHANGES_MAX);

// --- Who may call. ---

/// Keys of one file. Each request compares with all of them.
pub const KEYS_MAX: usize = 1_000;

/// Longest name of a key, in bytes.
pub const KEY_NAME_BYTES_MAX: usize = 64;

/// Largest keys file, in bytes.
pub const KEYS_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Longest key that a request may present, in bytes; ours have 68.
pub const PRESENTED_KEY_BYTES_MAX: usize = 256;

/// Largest file of certificates or a private key, in bytes.
pub const PEM_BYTES_MAX: u64 = 1024 * 1024;

// --- People: who is who, what they agreed to, what they were shown. ---

/// Variants of one experiment. Each has its own counters, and a visitor is told to be in one of them.
pub const VARIANTS_MAX: usize = 32;

/// Users and sessions that one person may consist of. All are listed, exported and erased, and what one refused binds all.
pub const MERGED_MAX: usize = 1_000;

/// Names of a person that an answer is made from: all users, then the newest sessions. Each is one more look-up.
pub const NAMES_LOOKED_UP_MAX: usize = 50;

/// Sessions of a person with too many names, the oldest ones, that are looked at for whether anything is still kept of them.
pub const SESSIONS_LET_GO_MAX: usize = 64;

/// Users and sessions that may be merged in all; the links are held in memory.
pub const MERGES_MAX: usize = 5_000_000;

/// Users whom one user follows. Each costs a look-up of what they did, in memory or on the disk, where a scenario lists that.
pub const FOLLOWS_MAX: usize = 100;

/// Newest interactions of each user who is followed that are looked at.
pub const FOLLOWED_INTERACTIONS_MAX: usize = 20;

/// Labels of one user.
pub const LABELS_MAX: usize = 64;

/// Entries in one page of a listing or an export: interactions, items, lists that were shown.
pub const LISTED_MAX: usize = 1_000;

/// Profiles held in memory, those that are not there too. One of several KiB counts for as many.
pub const PROFILES_IN_MEMORY_MAX: u64 = 200_000;

/// Recommendations that are remembered in memory until the store has them for certain.
pub const SHOWN_IN_MEMORY: usize = 1_024;

/// Bytes of them, as JSON: a list of a thousand items takes a hundred times as much as one of ten.
pub const SHOWN_IN_MEMORY_BYTES_MAX: usize = 16 << 20;

/// Bytes of the recommendation log where the store is in memory. Beyond them what came first goes.
pub const LOG_IN_MEMORY_BYTES_MAX: usize = 64 << 20;

/// Interactions of a visitor that are logged with a recommendation, if any are.
pub const SHOWN_HISTORY_MAX: usize = 50;

/// Recommendations removed from the log at once.
pub const PRUNE_SHOWN_MAX: usize = 500;

const _: () = assert!(SHOWN_HISTORY_MAX <= HISTORY_MAX);
// A choice is written under all names at once, and no queue of the store is smaller than a batch.
const _: () = assert!(MERGED_MAX <= BATCH_INTERACTIONS_MAX);
/// Searches that may wait to be repeated exactly.
pub const RECALL_AUDITS_WAITING_MAX: usize = 16;

// --- The live catalogue. ---

/// Items that may be changed or added since the artifact was built. A filter asks each of them at each request; the next build takes them in.
pub const LIVE_ITEMS_MAX: usize = 200_000;

/// Memory that changes of the catalogue may take, estimated; twice that while an artifact contains some of them. Five KiB for each of as many items.
pub const LIVE_BYTES_MAX: usize = 1 << 30;

/// How long a change is kept that the artifact in service contains, in milliseconds, and until the artifact published before it
/// contains it too: an older artifact may be activated again.
pub const CONTAINED_KEPT_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// Most items changed by one request.
pub const BATCH_ITEMS_MAX: usize = 1_000;

/// Longest vector that an item may bring, in floats.
pub const VECTOR_FLOATS_MAX: usize = 4_096;

/// Most values of one attribute of an item that is put.
pub const ATTRIBUTE_VALUES_MAX: usize = 256;

/// Most categories and attributes of an item that is put, each.
pub const ITEM_ATTRIBUTES_MAX: usize = 256;

const _: () = assert!(BATCH_ITEMS_MAX <= DOCUMENT_WRITES_MAX);
