//! Rollouts, waves, plans, the ledger and the planner: the pure core of Tidegate.
//!
//! No I/O, no clock, no async, no randomness, no logging: `now` is always a parameter and every
//! decision is returned as data. The shell (`tidegate-service`) acts on it.
#![deny(missing_docs)]
#![deny(clippy::wildcard_enum_match_arm)]

pub mod drift;
pub mod hold;
pub mod ids;
pub mod lease;
pub mod ledger;
pub mod permit;
pub mod plan;
pub mod planner;
pub mod population;
pub mod quiesce;
pub mod revert;
pub mod rollout;
pub mod roster;
pub mod sentence;
pub mod sim;
pub mod spec;
pub mod wave;

pub use tidegate_policy::digest;
