//! Signals, rules and verdicts: the pure leaf of Tidegate.
//!
//! Knows nothing of rollouts, stores or clocks. Total: no function here can panic.
#![deny(missing_docs)]
#![deny(clippy::wildcard_enum_match_arm)]
