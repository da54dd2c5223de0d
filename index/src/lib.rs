//! Bytes in, nearest items out: a flat, checksummed, memory-mapped HNSW index.
//!
//! An index answers one question: which items have the vectors most similar to this one? It knows vectors, ordinals, keys and
//! filters, and nothing of who asks or why. It is generic over its bytes, `D: AsRef<[u8]>`: a mapped file, bytes in memory
//! and a static slice are the same to it, and in all of them the rows and links are used where they lie; nothing is copied.
//!
//! # Words and units
//!
//! - *Item*: a row and a key. Its *ordinal* is its dense number, `0 .. n`, a `u32`; its *key* is the caller's own name for it,
//!   opaque UTF-8 of 1 to 256 bytes.
//! - *Similarity*: larger is nearer, everywhere. With [`Metric::Cosine`] rows have unit length, to within a two-thousandth, and
//!   similarity is -1 to 1, to within as much; with [`Metric::InnerProduct`] rows are as trained and similarity is their dot product.
//! - *m*, *m0*, *ef_construction*, *ef_search*, *level*, *entry point*, *link*: as in the paper on HNSW.
//!
//! # The way of a file
//!
//! 1. [`assemble_index`] lays an index out from rows, keys, attributes and a graph; the graph comes from the `build` feature.
//! 2. The caller gives it a name, and never writes to it again; [`MappedFile`] maps it.
//! 3. [`Index::open`] checks what costs nothing and borrows the sections: microseconds, whatever the size.
//! 4. [`Index::verify`] checks everything else, at the speed of memory. After it, the answers are those of the file as built.
//! 5. [`Index::search`] answers, with one [`Scratch`] per thread and no allocation once that is warm.
//!
//! No byte pattern makes any of this panic or read outside the bytes, verified or not.
//!
//! # Papers
//!
//! - Malkov, Yashunin: *Efficient and robust approximate nearest neighbor search using hierarchical navigable small world graphs*,
//!   IEEE TPAMI 2020.
//! - Morozov, Babenko: *Non-metric similarity graphs for maximum inner product search*, NeurIPS 2018.
//!
//! The layout of the file is in `FORMAT.md` beside this crate.

// Rows and links are used as they lie in the file, so the machine must agree with it on byte order, and offsets must fit.
#[cfg(not(all(target_endian = "little", target_pointer_width = "64")))]
compile_error!("kindred-index runs on little-endian 64-bit machines only: its files are used where they lie");

mod aligned;
mod allow;
mod assemble;
mod attribute_tables;
mod attributes;
mod checksum;
mod codes;
mod compare;
mod container;
mod error;
mod exact;
mod filter;
mod filtered;
mod fine;
pub mod format;
mod gathered;
mod geo;
mod graph;
mod item_tables;
mod keys;
mod links;
mod longest;
mod map;
mod matches;
mod metric;
mod open;
mod pool;
mod row;
mod row_source;
mod search;
mod vectors;
mod verify;
mod visited;
mod write;

#[cfg(feature = "build")]
pub mod build;

pub use aligned::AlignedBytes;
pub use allow::AllowSet;
pub use assemble::{AssembleError, FlatGraph, IndexInput, assemble_index};
pub use attribute_tables::{AttributeTables, ItemAttributes};
pub use attributes::{AttributeView, Field};
pub use checksum::{Crc32, crc32};
pub use container::{Container, SectionInfo, cast};
pub use error::{FilterError, LinkProblem, LongestProblem, MapError, OpenError, VerifyError, WriteError};
pub use filter::{FILTER_DEPTH_MAX, FILTER_PARTS_MAX, FilterExpr};
pub use fine::FineView;
pub use graph::{EdgeSet, GraphStats, GraphView};
pub use item_tables::{ItemTables, ItemTablesBuilder};
pub use keys::{KeyTable, KeyView, key_hash};
pub use links::Links;
pub use map::{MappedFile, Memory, Pages};
pub use metric::{Metric, add_scaled, arithmetic, dot, dot_scalar, fetched_ahead, normalise, prefetch};
pub use open::Index;
pub use row::{Row, RowsView};
pub use row_source::RowSource;
pub use search::{Hit, Plan, SearchError, SearchParams, SearchStats};
pub use vectors::VectorView;
pub use verify::VerifyReport;
pub use visited::Scratch;
pub use write::ContainerWriter;

/// Most hits one search may return. Result pools are sized by it, so it bounds the memory of a request.
pub const K_MAX: usize = 10_000;

/// Widest search. Beyond it an exact scan is cheaper on any graph that fits the limits.
pub const EF_SEARCH_MAX: usize = 20_000;
