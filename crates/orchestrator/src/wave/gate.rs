//! What a wave must show before the next one opens, and what stops it at once.
//!
//! Two questions, never mixed (`judge` file):
//! * `watch`: has a limit been crossed for certain? Asked on every pass, from the first person on; a
//!   protective act waits for no sample.
//! * `judge`: may the next wave open? Asked when the wave has closed and soaked. Undecided and no
//!   evidence never pass, whatever timer runs out.
//!
//! Boundary arithmetic, all in exact integers (`count` file):
//! * Everything is measured against the *eligible*: the wave's frozen roster without those skipped or
//!   departed, and never against the part that happened to be reached.
//! * `failures_at_most` and `unknown_at_most` are crossed by strictly more than the limit. A share
//!   allows `floor(eligible × ppm / 1,000,000)`: 10 % of 50 allows 5 and trips at 6; 0.05 % of 20,000
//!   allows 10 and trips at 11.
//! * `success_at_least` with a confidence is the exact one-sided binomial bound of Clopper and Pearson
//!   (`bound` file): a goal of 99 % at 95 % needs at least 299 people without one failure. The
//!   unknown count as not successful.
//!
//! `check` refuses at plan time what can never be met.

pub mod bound;
pub mod check;
pub mod count;
pub mod judge;

use serde::{Deserialize, Serialize};

pub use self::check::GateFault;
pub use self::count::{Limit, Ppm, ShareError};
pub use self::judge::{Condition, Evidence, Finding, Judgement, Outcome, Reading};
use crate::wave::soak::{SILENCE_SECONDS, Seconds};

/// The conditions of one wave. All must pass; one that fails is enough to fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// The share of the eligible that must have been moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_at_least: Option<Ppm>,
    /// How sure `success_at_least` must be, one-sided.
    pub confidence: Ppm,
    /// How many people must be decided before the gate may pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_at_least: Option<u64>,
    /// How many may fail; one more fails the gate at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures_at_most: Option<Limit>,
    /// How many may stay silent. Nobody, unless the spec says so.
    pub unknown_at_most: Limit,
    /// How long the silent are waited for before the wave closes without their answer.
    pub silence: Seconds,
    /// Who must say yes, after everything else has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approvals: Option<ApprovalTerms>,
    /// Measurements from outside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
}

impl Default for Gate {
    /// A gate without a condition: parsed as the base of every other, refused as a plan.
    fn default() -> Self {
        Self {
            success_at_least: None,
            confidence: Ppm::percent(95),
            sample_at_least: None,
            failures_at_most: None,
            unknown_at_most: Limit::Count(0),
            silence: Seconds(SILENCE_SECONDS),
            approvals: None,
            metrics: Vec::new(),
        }
    }
}

/// How many distinct people must approve, and from which groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalTerms {
    /// How many distinct people; never the one who planned or started.
    pub count: u32,
    /// The groups an approver must belong to one of; empty: anybody who may approve at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
}

/// A measurement from outside, with its limits in millionths of its unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// What operators call it.
    pub name: String,
    /// What the measuring system is asked.
    pub query: String,
    /// The largest value that passes, in millionths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most_millionths: Option<i64>,
    /// The smallest value that passes, in millionths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least_millionths: Option<i64>,
    /// How old a reading may be; an older one is no evidence.
    pub age_max: Seconds,
}
