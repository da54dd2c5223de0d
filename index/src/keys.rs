//! Keys: opaque UTF-8 text of the caller's, 1 to 256 bytes, to and from ordinals, by a hash table that lies in the file.
//!
//! Open addressing with linear probing over a power of two of slots, at most half of them taken; a slot is an ordinal.
//! The hash is [`key_hash`], written down here and in FORMAT.md and never to be changed within format version 1.

use std::io::{self, Write};
use std::{fmt, str};

use crate::error::WriteError;
use crate::format::{ITEMS_MAX, KEY_BYTES_MAX, KEY_PROBES_MAX, NONE, section};
use crate::metric::prefetch_at;
use crate::write::ContainerWriter;

/// Keys that are looked up together.
pub(crate) const AT_ONCE: usize = 64;

/// The hash of a key: each step is the finaliser of SplitMix64, so each takes one word in and lets every bit reach every other.
///
/// The state starts as `mix(seed ^ length)`. Then, for each eight bytes of the key, read as a little-endian number, the last
/// ones filled up with zeros: `state = mix(state ^ word)`. About 1.5 ns per eight bytes.
pub fn key_hash(seed: u64, key: &[u8]) -> u64 {
    let mut state = mix(seed ^ key.len() as u64);
    let (words, rest) = key.as_chunks::<8>();
    for word in words {
        state = mix(state ^ u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        for (into, byte) in last.iter_mut().zip(rest) {
            *into = *byte;
        }
        state = mix(state ^ u64::from_le_bytes(last));
    }
    state
}

/// What a state of SplitMix64 grows by with each number.
pub(crate) const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// One step of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
pub(crate) const fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(STEP);
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

/// The keys of an opened index.
#[derive(Clone, Copy)]
pub struct KeyView<'a> {
    offsets: &'a [u64],
    bytes: &'a [u8],
    table: &'a [u32],
    seed: u64,
}

impl<'a> KeyView<'a> {
    pub(crate) fn new(offsets: &'a [u64], bytes: &'a [u8], table: &'a [u32], seed: u64) -> Self {
        Self { offsets, bytes, table, seed }
    }

    /// Number of keys.
    pub fn len(&self) -> u32 {
        self.offsets.len().saturating_sub(1) as u32
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key of an item. Costs a check that it is UTF-8, about 10 ns.
    pub fn key(&self, ordinal: u32) -> Option<&'a str> {
        str::from_utf8(self.bytes_of(ordinal)?).ok()
    }

    /// Asks the memory for the keys of items. It answers for all of them together, where [`KeyView::key`] waits for each in turn, twice.
    pub fn prefetch(&self, ordinals: impl Iterator<Item = u32> + Clone) {
        ordinals.clone().for_each(|ordinal| prefetch_at(self.offsets, ordinal as usize, 2));
        for from in ordinals.filter_map(|ordinal| self.offsets.get(ordinal as usize)) {
            prefetch_at(self.bytes, *from as usize, 1);
        }
    }

    /// The item of a key: one hash, on average one and a half probes, at most [`KEY_PROBES_MAX`].
    pub fn ordinal(&self, key: &str) -> Option<u32> {
        self.find_hashed(key.as_bytes(), key_hash(self.seed, key.as_bytes()))
    }

    /// The items of many keys, in their order, into `out`. The memory answers for 64 of them together, where look-ups one after the
    /// other wait for each in turn, three times.
    pub fn ordinals<'k>(&self, keys: impl Iterator<Item = &'k str>, out: &mut Vec<Option<u32>>) {
        out.clear();
        let mut batch = [&[][..]; AT_ONCE];
        let mut count = 0;
        for key in keys {
            prefetch_at(key.as_bytes(), 0, 1);
            if let Some(into) = batch.get_mut(count) {
                *into = key.as_bytes();
            }
            count += 1;
            if count == AT_ONCE {
                self.find_all(&batch, out);
                count = 0;
            }
        }
        self.find_all(batch.get(..count).unwrap_or_default(), out);
    }

    /// The items of a batch of keys, each step for all of them before the next.
    pub(crate) fn find_all(&self, batch: &[&[u8]], out: &mut Vec<Option<u32>>) {
        let mut hashes = [0; AT_ONCE];
        let with_hashes = |hashes: [u64; AT_ONCE]| batch.iter().zip(hashes);
        for (key, hash) in batch.iter().zip(&mut hashes) {
            *hash = key_hash(self.seed, key);
            prefetch_at(self.table, self.slot(*hash, 0), 1);
        }
        let first = |hash: u64| self.table.get(self.slot(hash, 0)).map_or(0, |ordinal| *ordinal as usize);
        with_hashes(hashes).for_each(|(_, hash)| prefetch_at(self.offsets, first(hash), 2));
        for (key, hash) in with_hashes(hashes) {
            let from = self.offsets.get(first(hash)).map_or(0, |from| *from as usize);
            prefetch_at(self.bytes, from, key.len());
        }
        out.extend(with_hashes(hashes).map(|(key, hash)| self.find_hashed(key, hash)));
    }

    /// The slot of a hash, so many steps on.
    fn slot(&self, hash: u64, step: u64) -> usize {
        // The table's length is a power of two. Where it is not, because nothing was verified, slots are only missed.
        let mask = (self.table.len() as u64).wrapping_sub(1);
        (hash.wrapping_add(step) & mask) as usize
    }

    /// The items in the slots where a key of this hash may be, up to the first empty one.
    fn probe(&self, hash: u64) -> impl Iterator<Item = u32> + use<'a> {
        let view = *self;
        (0..u64::from(KEY_PROBES_MAX))
            .map_while(move |step| view.table.get(view.slot(hash, step)).copied())
            .take_while(|ordinal| *ordinal != NONE)
    }

    pub(crate) fn bytes_of(&self, ordinal: u32) -> Option<&'a [u8]> {
        let place = ordinal as usize;
        let (from, to) = (*self.offsets.get(place)?, *self.offsets.get(place + 1)?);
        self.bytes.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
    }

    pub(crate) fn offsets(&self) -> &'a [u64] {
        self.offsets
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn table(&self) -> &'a [u32] {
        self.table
    }

    fn find_hashed(&self, key: &[u8], hash: u64) -> Option<u32> {
        self.probe(hash).find(|ordinal| self.bytes_of(*ordinal) == Some(key))
    }
}

impl fmt::Debug for KeyView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyView").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The key sections of an index to be written: offsets, bytes and table of the keys in order of their ordinals.
#[derive(Clone, Debug)]
pub struct KeyTable {
    offsets: Vec<u64>,
    bytes: Vec<u8>,
    slots: Vec<u32>,
    seed: u64,
}

impl KeyTable {
    /// Lays the keys out and chooses a seed. The same keys give the same bytes.
    ///
    /// Seeds are tried in a fixed order, starting from 0, until every key is found within [`KEY_PROBES_MAX`] slots;
    /// a larger table is tried after some. Costs about 100 ns per key.
    ///
    /// # Errors
    /// Too many keys, an empty, long or repeated key, or keys that were made to collide under every seed that is tried.
    pub fn build<K: AsRef<str>>(keys: &[K]) -> Result<Self, WriteError> {
        let mut table = Self::empty();
        keys.iter().try_for_each(|key| table.push(key.as_ref()))?;
        table.hashed()
    }

    /// Of no key, to be pushed to.
    pub(crate) fn empty() -> Self {
        Self { offsets: vec![0], bytes: Vec::new(), slots: Vec::new(), seed: 0 }
    }

    /// Puts a key after the others.
    pub(crate) fn push(&mut self, key: &str) -> Result<(), WriteError> {
        let ordinal = self.len();
        if ordinal == ITEMS_MAX {
            return Err(WriteError::TooManyItems { found: u64::from(ordinal) + 1 });
        }
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(WriteError::KeyLength { ordinal, found: key.len() });
        }
        self.bytes.extend_from_slice(key.as_bytes());
        self.offsets.push(self.bytes.len() as u64);
        Ok(())
    }

    /// With the table of all that were pushed.
    pub(crate) fn hashed(mut self) -> Result<Self, WriteError> {
        const SEEDS_PER_SIZE: u64 = 8;
        const SIZES: u64 = 3;
        let least = (2 * self.len() as usize).next_power_of_two();
        for attempt in 0..SIZES * SEEDS_PER_SIZE {
            self.seed = attempt;
            if self.fill(least << (attempt / SEEDS_PER_SIZE))? {
                return Ok(self);
            }
        }
        Err(WriteError::KeysCollide)
    }

    /// Number of keys.
    pub(crate) fn len(&self) -> u32 {
        self.view().len()
    }

    /// They, as look-ups see them.
    pub(crate) fn view(&self) -> KeyView<'_> {
        KeyView::new(&self.offsets, &self.bytes, &self.slots, self.seed)
    }

    /// Fills a table of so many slots. False where some key has no free slot near enough.
    fn fill(&mut self, capacity: usize) -> Result<bool, WriteError> {
        self.slots.clear();
        self.slots.resize(capacity, NONE);
        let mask = capacity as u64 - 1;
        let view = KeyView::new(&self.offsets, &self.bytes, &[], self.seed);
        for ordinal in 0..view.len() {
            let key = view.bytes_of(ordinal).unwrap_or_default();
            let first = key_hash(self.seed, key);
            let mut placed = false;
            for step in 0..u64::from(KEY_PROBES_MAX) {
                let Some(slot) = self.slots.get_mut((first.wrapping_add(step) & mask) as usize) else { break };
                if *slot == NONE {
                    *slot = ordinal;
                    placed = true;
                    break;
                }
                if view.bytes_of(*slot) == Some(key) {
                    let key = String::from_utf8_lossy(key).into_owned();
                    return Err(WriteError::KeyTwice { first: *slot, second: ordinal, key });
                }
            }
            if !placed {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// For [`crate::format::IndexHeader::key_table_log2`].
    pub fn log2(&self) -> u32 {
        self.slots.len().trailing_zeros()
    }

    /// For [`crate::format::IndexHeader::key_hash_seed`].
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Writes the three key sections.
    ///
    /// # Errors
    /// What the writer returns.
    pub fn write<W: Write + io::Seek>(&self, into: &mut ContainerWriter<W>) -> Result<(), WriteError> {
        use zerocopy::IntoBytes;
        into.section(section::KEY_OFFSETS, |w| w.write_all(self.offsets.as_bytes()))?;
        into.section(section::KEY_BYTES, |w| w.write_all(&self.bytes))?;
        into.section(section::KEY_TABLE, |w| w.write_all(self.slots.as_bytes()))
    }
}
