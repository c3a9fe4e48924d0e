//! What somebody asks for who wants people back: which waves, whom of them, how fast, under which gates.

use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_orchestrator::ids::WaveNumber;
use tidegate_orchestrator::revert::RevertRefusal;
use tidegate_orchestrator::spec::{RateLimit, Selection, Spec, SpecFormat};
use tidegate_orchestrator::wave::gate::{Gate, Limit, Ppm};
use tidegate_orchestrator::wave::ramp::Ramp;
use tidegate_policy::Condition;

use super::refused;
use crate::operations::rollout::invalid_spec;
use crate::operations::{OperationError, view::PopulationRef};
use crate::store::rollout::RolloutRow;
use crate::store::wave::WaveRow;

/// How many in a hundred may fail before the next wave is left alone.
const FAILURES_PERCENT: u8 = 1;

/// Which waves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Waves {
    /// Those with these numbers.
    Numbers(Vec<u32>),
    /// `all`: every one.
    Word(String),
}

/// What somebody asks for.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// The numbers of the waves whose people are taken back, or `all`.
    pub waves: Waves,
    /// Only those of their people for whom this condition holds, as in a spec.
    #[serde(default, rename = "where")]
    #[schema(value_type = Option<Object>)]
    pub matching: Option<Value>,
    /// How fast, as in a spec; as the original unless said otherwise.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub rate: Option<Value>,
    /// What each wave must show before the next one is taken back, as in a spec; at most 1 % failures and 1 %
    /// silence unless said otherwise.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub gate: Option<Value>,
    /// How each wave grows, as in a spec; as in the original unless said otherwise.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub ramp: Option<Value>,
    /// Why.
    pub reason: String,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a wish says besides which waves.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// The settings as a spec says them; the people are not in it.
    pub(super) spec: Spec,
    /// The same as it is stored.
    pub(super) text: String,
    pub(super) matching: Option<Condition>,
    pub(super) rate: Option<RateLimit>,
    pub(super) gate: Gate,
    pub(super) ramp: Option<Ramp>,
}

impl Wish {
    /// Returns the numbers of the chosen waves, the last one first.
    pub(super) fn numbers(&self, there: &[WaveRow]) -> Result<Vec<WaveNumber>, OperationError> {
        let mut numbers: Vec<WaveNumber> = match &self.waves {
            Waves::Word(word) if word == "all" => there.iter().map(|wave| wave.number).collect(),
            Waves::Word(_) => return Err(refused(&RevertRefusal::WavesMissing)),
            Waves::Numbers(numbers) => numbers.iter().copied().map(WaveNumber).collect(),
        };
        numbers.sort_unstable();
        numbers.dedup();
        numbers.reverse();
        if numbers.is_empty() {
            return Err(refused(&RevertRefusal::WavesMissing));
        }
        let unknown = |number: &&WaveNumber| there.iter().all(|wave| wave.number != **number);
        match numbers.iter().find(unknown) {
            Some(number) => Err(refused(&RevertRefusal::WaveUnknown(*number))),
            None => Ok(numbers),
        }
    }

    /// Reads gate, ramp, rate and condition as a spec would, with the errors that a spec would have.
    pub(super) fn settings(
        &self,
        original: &RolloutRow,
        (population, target): (&PopulationRef, &str),
    ) -> Result<Settings, OperationError> {
        let mut wave = json!({"name": "taken-back"});
        let mut document =
            json!({"rollout": original.name, "population": population.name, "target": target});
        if let Some(fields) = wave.as_object_mut() {
            match &self.matching {
                Some(condition) => fields.insert("select".to_owned(), condition.clone()),
                None => fields.insert("rest".to_owned(), true.into()),
            };
            fields.extend(self.gate.clone().map(|gate| ("gate".to_owned(), gate)));
            fields.extend(self.ramp.clone().map(|ramp| ("ramp".to_owned(), ramp)));
        }
        if let Some(fields) = document.as_object_mut() {
            fields.extend(self.rate.clone().map(|rate| ("rate".to_owned(), rate)));
            fields.insert("waves".to_owned(), json!([wave]));
        }
        let text = document.to_string();
        let spec = Spec::parse(&text, SpecFormat::Json).map_err(|errors| invalid_spec(&errors))?;
        let wave = spec.waves.first();
        let matching = match wave.map(|wave| &wave.select) {
            Some(Selection::Condition(condition)) => Some(condition.clone()),
            Some(Selection::Keys(_)) => {
                let sentence = "`where` is a condition over attributes, and not a list of people";
                return Err(OperationError::invalid("where_invalid", sentence));
            }
            Some(Selection::Everybody) | None => None,
        };
        Ok(Settings {
            matching,
            rate: spec.rate,
            gate: wave
                .and_then(|wave| wave.gate.clone())
                .unwrap_or_else(usual),
            ramp: wave.and_then(|wave| wave.ramp),
            spec,
            text,
        })
    }
}

/// The gate of a wave of which nothing else was said. Taking back protects: a handful of people who do not answer
/// must not keep all others where they are.
fn usual() -> Gate {
    let share = Limit::Share(Ppm::percent(FAILURES_PERCENT));
    Gate {
        failures_at_most: Some(share),
        unknown_at_most: share,
        ..Gate::default()
    }
}
