//! The shell around the pure crates: storage, tasks, connectors, HTTP and the command line.
//!
//! Arrows inside: `http -> operations -> store` and `tasks -> operations -> store`. Only `store`
//! speaks SQL, only `http` names axum, only `clock` reads the time, only `app` makes random ids.

pub mod app;
pub mod cli;
pub mod clock;
pub mod connector;
pub mod fetch;
pub mod http;
pub mod meter;
pub mod operations;
pub mod outgoing;
pub mod signal;
pub mod source;
pub mod store;
pub mod tasks;
pub mod telemetry;
