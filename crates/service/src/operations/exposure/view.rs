//! What is answered about exposure; the names are those of the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_orchestrator::ids::{Epoch, PopulationVersionId, RolloutId, Timestamp};

use crate::operations::view::Counts;

/// Who was moved, on the way or untouched between two instants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExposureView {
    /// The rollout.
    #[schema(value_type = String)]
    pub rollout_id: RolloutId,
    /// Its name.
    pub rollout: String,
    /// The first instant.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// The last instant; nothing later than `generated_at`.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// When it was read.
    #[schema(value_type = String, format = DateTime)]
    pub generated_at: Timestamp,
    /// What it was read from: the same version and interval give the same answer for ever.
    pub data_version: DataVersion,
    /// How many people are in the rollout; the sum of every set of counts.
    pub people: u64,
    /// People by class: exposed, in_flight, untouched, retry, failed, review, skipped, departed, reverted.
    pub counts: Counts,
    /// Of each class: people by the state they were in at the last instant.
    pub states: BTreeMap<String, Counts>,
    /// The same for each wave.
    pub waves: Vec<WaveExposure>,
    /// The same for each value of the attributes asked for.
    pub by: Vec<AttributeExposure>,
    /// People who stand elsewhere than the trail says; they count as exposed or in flight. `fsck` says more.
    pub unexplained: u64,
    /// SHA-256 of the list of everybody as CSV (`/exposure/people?format=csv`).
    pub digest: String,
    /// What to ask for the same answer.
    pub again: String,
}

/// What an answer was read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DataVersion {
    /// The last entry of the audit trail that it takes in.
    pub seq: i64,
    /// The hash of that entry.
    pub hash: String,
    /// The epoch of the store.
    #[schema(value_type = i64)]
    pub epoch: Epoch,
    /// The plan whose rosters these are.
    pub plan_digest: String,
    /// The version of the population that the attributes come from.
    #[schema(value_type = String)]
    pub population_version: PopulationVersionId,
}

/// The exposure of one wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WaveExposure {
    /// Its place, from 1.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// How many people are in it.
    pub people: u64,
    /// People by class.
    pub counts: Counts,
}

/// The exposure by the values of one attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttributeExposure {
    /// The attribute.
    pub attribute: String,
    /// Its values, those of most people first.
    pub values: Vec<ValueExposure>,
    /// The values that are too many to name, together.
    pub others: Option<OtherExposure>,
}

/// The exposure of the people with one value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ValueExposure {
    /// The value; none for those who have none.
    pub value: Option<String>,
    /// How many people have it.
    pub people: u64,
    /// People by class.
    pub counts: Counts,
}

/// The exposure of the people whose values are not named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OtherExposure {
    /// How many values.
    pub values: u64,
    /// How many people have one of them.
    pub people: u64,
    /// People by class.
    pub counts: Counts,
}

/// One person of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExposedPerson {
    /// The immutable directory id.
    pub key: String,
    /// The wave.
    pub wave: u32,
    /// What the interval was for them.
    pub class: String,
    /// Where they stood at the last instant.
    pub state: String,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
}
