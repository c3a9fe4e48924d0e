//! What a rollout manager writes: intent only, in YAML, JSON or TOML.
//!
//! `tidegate_policy::document` reads the text; `parse` knows the fields.

mod parse;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_policy::Condition;
pub use tidegate_policy::document::{
    DocumentError as SpecError, DocumentErrors as SpecErrors, Format as SpecFormat,
};

use crate::digest::Digest;
use crate::wave::gate::{Gate, Ppm};
use crate::wave::ramp::Ramp;
use crate::wave::soak::Seconds;
use crate::wave::window::{Freeze, Schedule};

/// The only order there is, and its name in every plan.
pub const ORDER_ALGORITHM: &str = "murmur3-x86-32";

/// A rollout as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Its name.
    pub rollout: String,
    /// Who moves, by the name of the population.
    pub population: String,
    /// Where to, by the name of the target.
    pub target: String,
    /// The column of the immutable directory id, when the spec insists on one.
    pub identity: Option<String>,
    /// What orders the people inside a selection.
    pub salt: String,
    /// Who is left out.
    pub exclude: Option<Condition>,
    /// Who must be in a wave, or in none.
    pub pins: Vec<Pin>,
    /// Who moves together.
    pub keep_together: Option<KeepTogether>,
    /// How fast.
    pub rate: Option<RateLimit>,
    /// What becomes of people who join after the plan was made.
    pub late_joiners: LateJoiners,
    /// When nothing opens.
    pub freezes: Vec<Freeze>,
    /// In which order.
    pub waves: Vec<WaveSpec>,
}

/// People whose wave is decided by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Their directory ids.
    pub keys: Vec<String>,
    /// The name of their wave; `None`: they are left out.
    pub wave: Option<String>,
}

/// People who must never be in different waves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepTogether {
    /// The attributes whose equal values join people; a reference joins a person with whom it names.
    pub by: Vec<String>,
    /// A value that joins more people than this joins nobody.
    pub ignore_hubs_above: Option<u32>,
    /// Components that may be split after all.
    pub waivers: Vec<Waiver>,
}

/// The consent that people of a component who are too many for one wave are split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// A directory id in the component.
    pub member: String,
    /// The links that may break, as `attribute:value`.
    pub broken_links: Vec<String>,
    /// Why.
    pub reason: String,
}

/// How many people a second may be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// People in each period.
    pub people: u32,
    /// The period.
    pub per: Seconds,
    /// How many may be begun at once after a quiet time.
    pub burst: u32,
}

/// What becomes of people who join after the plan was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LateJoiners {
    /// Nothing: they wait for another rollout.
    #[default]
    None,
    /// They join the last wave that is open.
    LastOpenWave,
    /// They join the first unfinished wave whose selection they match.
    MatchingUnfinishedWave,
}

/// Who a wave looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// Everybody who is in no earlier wave.
    Everybody,
    /// Those for whom a condition holds.
    Condition(Condition),
    /// Those with these directory ids.
    Keys(Vec<String>),
}

/// How many of those a wave takes, in the order of the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// All of them.
    All,
    /// Exactly so many.
    Count(u64),
    /// This share of everybody who is to be moved, rounded down.
    Share(Ppm),
}

/// One wave as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaveSpec {
    /// Its name.
    pub name: String,
    /// Who it looks at.
    pub select: Selection,
    /// How many of those it takes.
    pub size: Size,
    /// The attribute over whose values an exact size is spread in proportion; `None`: as the hash falls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread_by: Option<String>,
    /// When it may be open; `None`: at any time.
    pub schedule: Option<Schedule>,
    /// How it grows; `None`: everybody at once.
    pub ramp: Option<Ramp>,
    /// How long it rests before it is judged.
    pub soak: Seconds,
    /// What it must show before the next one opens; only the last wave may do without.
    pub gate: Option<Gate>,
}

impl Spec {
    /// Reads a spec.
    ///
    /// # Errors
    ///
    /// Every error there is, each with its place.
    pub fn parse(text: &str, format: SpecFormat) -> Result<Self, SpecErrors> {
        parse::parse(text, format)
    }

    /// Returns the digest of what the spec says, however it is written.
    #[must_use]
    pub fn digest(&self) -> Digest {
        // The JSON form has a fixed order of fields. It cannot fail: every key is a text.
        Digest::of(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }

    /// Returns the attributes the spec looks at, each once, in order.
    #[must_use]
    pub fn attributes(&self) -> Vec<String> {
        let mut conditions: Vec<&Condition> = self.exclude.iter().collect();
        let mut names: Vec<String> = Vec::new();
        for wave in &self.waves {
            if let Selection::Condition(condition) = &wave.select {
                conditions.push(condition);
            }
            names.extend(wave.spread_by.clone());
        }
        let asked = conditions
            .iter()
            .flat_map(|condition| condition.attributes());
        names.extend(asked.map(str::to_owned));
        names.extend(self.keep_together.iter().flat_map(|keep| keep.by.clone()));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the names of the waves with their numbers, from 1.
    #[must_use]
    pub fn wave_numbers(&self) -> BTreeMap<&str, u32> {
        self.waves
            .iter()
            .map(|wave| wave.name.as_str())
            .zip(1..)
            .collect()
    }
}

#[cfg(test)]
mod tests;
