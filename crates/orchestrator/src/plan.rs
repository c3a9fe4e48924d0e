//! The plan: a spec put against a population, frozen, with a digest.
//!
//! `select` evaluates conditions by code, `order` sorts by hash, `together` finds people who must not
//! be parted, `assign` puts everybody in one wave or none (`exact` where groups must add up to a size), `compile` strings them together, `timeline`
//! predicts, `difference` says what changed between two plans.

mod amend;
mod assign;
mod compile;
mod difference;
mod exact;
mod order;
pub(crate) mod select;
mod spread;
mod timeline;
pub(crate) mod together;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use amend::{WaveDelta, amend};
pub use compile::{Compiled, compile, is_note};
pub use difference::difference;
pub use order::{bucket, hash};

use crate::digest::Digest;
use crate::ids::{PopulationVersionId, Timestamp, WaveNumber};
use crate::spec::RateLimit;
use crate::wave::gate::Gate;
use crate::wave::ramp::Ramp;
use crate::wave::soak::Seconds;
use crate::wave::window::{Freeze, Schedule};

/// The version of the frozen form of a plan.
pub const PLAN_FORMAT: u32 = 1;

/// How people were ordered; fixed for the life of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Always `murmur3-x86-32`.
    pub algorithm: String,
    /// The version of the rules around the hash.
    pub version: u32,
    /// What the hash is salted with.
    pub salt: String,
}

/// One wave of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedWave {
    /// Its place, from 1.
    pub number: WaveNumber,
    /// Its name.
    pub name: String,
    /// How many people are in it.
    pub people: u64,
    /// What its membership is known by; the same people in any order have the same.
    pub roster_digest: Digest,
    /// When it may be open.
    pub schedule: Option<Schedule>,
    /// How it grows.
    pub ramp: Option<Ramp>,
    /// How long it rests.
    pub soak: Seconds,
    /// What it must show.
    pub gate: Option<Gate>,
}

/// People who matched a wave and are in an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlap {
    /// The wave they are in.
    pub wave: WaveNumber,
    /// The wave they also matched.
    pub also: WaveNumber,
    /// How many.
    pub people: u64,
}

/// When one wave is expected to do what, if nothing stands in its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The wave.
    pub wave: WaveNumber,
    /// It opens; `None`: never, by its schedule.
    pub opens_at: Option<Timestamp>,
    /// Everybody in it has been begun.
    pub drained_at: Option<Timestamp>,
    /// Its soak is over and it is judged.
    pub soak_until: Option<Timestamp>,
}

/// An immutable schedule of waves with head-counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The version of this form.
    pub format: u32,
    /// What the plan is known by; covers everything but the timeline.
    pub digest: Digest,
    /// The digest of the spec.
    pub spec_digest: Digest,
    /// The version of the population.
    pub population_version: PopulationVersionId,
    /// The digest of that version's content.
    pub population_digest: Digest,
    /// How people were ordered.
    pub order: Order,
    /// How many people are in its waves.
    pub people: u64,
    /// The waves in order.
    pub waves: Vec<PlannedWave>,
    /// How many were left out by the spec.
    pub excluded: u64,
    /// How many match no wave.
    pub unassigned: u64,
    /// Who matched more than one wave.
    pub overlaps: Vec<Overlap>,
    /// What a manager should know before saying yes.
    pub warnings: Vec<String>,
    /// How fast.
    pub rate: Option<RateLimit>,
    /// When nothing opens.
    pub freezes: Vec<Freeze>,
    /// When what is expected, as of the moment the plan was made.
    pub timeline: Vec<Expected>,
}

impl Plan {
    /// Returns a wave by its number.
    #[must_use]
    pub fn wave(&self, number: WaveNumber) -> Option<&PlannedWave> {
        self.waves.iter().find(|wave| wave.number == number)
    }
}

/// One reason why no plan can be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanFault {
    /// The field of the spec.
    pub field: String,
    /// The stable code.
    pub code: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl PlanFault {
    pub(super) fn new(field: impl Into<String>, code: &str, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            code: code.to_owned(),
            message: message.into(),
        }
    }
}

/// Every reason why no plan can be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no plan can be made of this spec and this population: {} {}", .0.len(), if .0.len() == 1 { "reason" } else { "reasons" })]
pub struct PlanRefusal(pub Vec<PlanFault>);

#[cfg(test)]
mod tests;
