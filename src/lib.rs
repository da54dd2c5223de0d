//! Kindred answers one question in real time: given what this visitor has just done, which items should they see now?
//!
//! This crate is the service and the arithmetic that the service shares with the offline tools.
//!
//! ```text
//! pure      interaction, user_vector, catalog, filter, manifest, model, scenario, recommend
//! data      artifact, codec, snapshot, reload, history, store
//! edge      http, app, settings, keys, tls, overload, audit, telemetry
//! ```
//!
//! The pure part knows no HTTP, no runtime, no store, no file, no clock and no randomness: they come in as arguments.
//! Two things must never differ between training and serving, so they are functions that both call: how a user vector
//! is made ([`user_vector`]) and how candidates become a list ([`recommend`]).

pub mod app;
pub mod artifact;
pub mod audit;
pub mod catalog;
mod clock;
pub mod codec;
pub mod digest;
pub mod encoder;
pub mod experiment;
pub mod filter;
pub mod history;
pub mod http;
pub mod interaction;
pub mod keys;
pub mod limits;
pub mod live_catalog;
pub mod live_items;
pub mod manifest;
pub mod model;
pub mod nearest;
pub mod overload;
pub mod people;
pub mod recall_audit;
pub mod recommend;
pub mod reload;
mod sample;
pub mod scenario;
pub mod settings;
pub mod snapshot;
pub mod store;
pub mod telemetry;
#[doc(hidden)]
pub mod testing;
pub mod timestamp;
pub mod tls;
pub mod trending;
pub mod user_vector;

pub use artifact::ArtifactError;
pub use catalog::CatalogItem;
pub use interaction::Interaction;
pub use manifest::Manifest;
pub use model::{Model, ModelData, ModelError, Neighbour};
pub use recommend::{
    Fallback, RecommendError, RecommendRequest, RecommendScratch, Recommendation, Recommendations, Source, Stage,
};
pub use scenario::{Scenario, SourceWeights};
pub use snapshot::Snapshot;
pub use user_vector::{Weighted, Weighting};
