//! Conditions over attributes, signals, rules and verdicts, and how people write them: the pure leaf of Tidegate.
//!
//! Knows nothing of rollouts, stores or clocks. Total: no function here can panic.
#![deny(missing_docs)]
#![deny(clippy::wildcard_enum_match_arm)]

pub mod attribute;
pub mod condition;
pub mod dialect;
pub mod digest;
pub mod document;
mod named;
pub mod rule;
pub mod scenario;
pub mod set;
pub mod signal;
pub mod time;
pub mod verdict;

pub use attribute::{AttributeType, AttributeValue};
pub use condition::{AttributeTest, Condition, ConditionError, Literal};
pub use digest::Digest;
pub use named::NoName;
pub use rule::Rule;
pub use set::PolicySet;
pub use signal::Signal;
pub use verdict::Verdict;
