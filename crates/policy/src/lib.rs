//! Conditions over attributes, and verdicts: the pure leaf of Tidegate.
//!
//! Knows nothing of rollouts, stores or clocks. Total: no function here can panic.
#![deny(missing_docs)]
#![deny(clippy::wildcard_enum_match_arm)]

pub mod attribute;
pub mod condition;
pub mod verdict;

pub use attribute::{AttributeType, AttributeValue};
pub use condition::{AttributeTest, Condition, ConditionError, Literal};
pub use verdict::Verdict;
