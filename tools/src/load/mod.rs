//! A load generator for the server: HTTP/1.1 over kept-alive connections, from one thread that never sleeps.
//!
//! One busy thread on a core of its own, because what it measures is tens of microseconds: a timer of a runtime ticks in milliseconds,
//! and a thread that sleeps wakes up tens of microseconds late, which would be counted as the server's. It keeps its core awake, too.
//!
//! *Open loop* sends at a constant rate whether or not answers come, and counts the latency of each request from the moment at which it
//! should have been sent: a server that stalls for a second is charged with all that waited meanwhile (no coordinated omission;
//! Tene, *How NOT to Measure Latency*). *Closed loop* sends the next request of a connection when the answer is there: the maximum.

pub mod ask;
pub mod client;
pub mod connection;
pub mod plan;
pub mod process;
pub mod run;
pub mod scrape;
pub mod swap;
