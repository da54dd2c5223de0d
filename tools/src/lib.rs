//! The offline side of Kindred: everything between a log of interactions and a published artifact, and the measuring of it.
//!
//! One sub-command of `kindred` is one file of [`cmd`]; what they do is in the modules beside it, so that tests call it
//! without a process. This crate is the only writer of artifacts. Training and serving never differ in how a user vector is
//! made or a list is ranked, since both call `kindred::recommend`.

pub mod blend;
pub mod build;
pub mod calendar;
pub mod cmd;
pub mod dataset;
pub mod evaluate;
pub mod factors;
pub mod from_log;
pub mod generated;
pub mod load;
pub mod machine;
pub mod matrix;
pub mod metrics;
pub mod model_dir;
pub mod npy;
pub mod progress;
pub mod recall;
pub mod replay;
pub mod report;
pub mod shop;
pub mod svg;
pub mod train;
pub mod tune;
pub mod whole_dir;
pub mod whole_file;
