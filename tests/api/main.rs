//! The service from outside: everything here speaks HTTP to a real server on a free port, one module an endpoint.
//!
//! `cargo nextest run -p kindred --test api`; after a change of the API, `KINDRED_BLESS=1 cargo test -p kindred --test api openapi`
//! writes `config/openapi.json` anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod audit;
mod catalog;
mod consent;
mod errors;
mod examples;
mod experiments;
mod faults;
mod filters;
mod follows;
mod interactions;
mod items;
mod openapi;
mod operations;
mod overload;
mod page;
mod people;
mod process;
mod recall_audit;
mod recommendations;
mod reload;
mod scenarios;
mod score;
mod search;
mod security;
mod slow_clients;
mod support;
mod tls;
