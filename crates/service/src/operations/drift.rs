//! Drift: the people of a rollout beside the people there are now, and going on with those.
//!
//! `measure` compares and keeps what it finds (`people` lists it, person by person); nothing of the
//! ledger changes. A release binds the newest measurement (`go_on`), if the rollout still stands as it
//! was measured (`standing`); the ledger is then brought up to it in small steps (`carry_out`), before
//! anything is claimed. `merge` makes one version of the population out of two.

mod apply;
mod matching;
mod measure;
mod merge;
mod view;

pub use apply::{carry_out, covered, go_on, released};
pub use measure::measure;
pub use view::{ClassView, DriftPerson, DriftView, Report, people, show};

use sha2::{Digest as _, Sha256};
use tidegate_orchestrator::digest::Digest;
use tidegate_orchestrator::ids::{PlanId, PopulationVersionId};

use super::OperationError;
use crate::store::drift::{self as rows, DriftRow};
use crate::store::part::holds_of_rollout;
use crate::store::rollout::RolloutRow;
use crate::store::{Connection, StoreError, plan as plans, population as populations, wave};

/// How the people of a rollout stand to the people there are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The rollout knows everybody there is: nothing has been imported since.
    Current,
    /// They were measured, and nothing has changed since.
    Measured(Box<DriftRow>),
    /// Other people were imported, and nobody has measured them, or something has changed since.
    Unmeasured {
        /// Why.
        sentence: String,
    },
}

impl Standing {
    /// Returns what the measurement is known by.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Measured(row) => row.digest.parse().ok(),
            Self::Current | Self::Unmeasured { .. } => None,
        }
    }
}

/// Says how the people of a started rollout stand to the people there are now.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn standing<C: Connection>(db: &C, row: &RolloutRow) -> Result<Standing, OperationError> {
    let Some(plan) = row.plan.filter(|_| row.reverts.is_none()) else {
        return Ok(Standing::Current);
    };
    let current = current_version(db, row).await?;
    if current == Some(source(db, plan).await?) {
        return Ok(Standing::Current);
    }
    if row.lifecycle == "preparing" {
        let sentence = format!(
            "rollout `{}` is being laid out for other people than there are now: where nobody has been moved, cancel it \
             and plan anew; else measure the drift in a moment",
            row.name
        );
        return Ok(Standing::Unmeasured { sentence });
    }
    let Some(found) = rows::drift_newest(db, row.id, "proposed").await? else {
        let sentence = format!(
            "other people were imported than rollout `{}` was planned for: measure the drift, and look at it",
            row.name
        );
        return Ok(Standing::Unmeasured { sentence });
    };
    if Some(found.to) == current && found.basis == basis(db, row).await? {
        return Ok(Standing::Measured(Box::new(found)));
    }
    let sentence = format!(
        "rollout `{}` or its population has changed since the drift was measured: measure it again",
        row.name
    );
    Ok(Standing::Unmeasured { sentence })
}

/// Returns the version of the population that is published now.
async fn current_version<C: Connection>(
    db: &C,
    row: &RolloutRow,
) -> Result<Option<PopulationVersionId>, StoreError> {
    let found = populations::population_find(db, &row.population.to_string()).await?;
    Ok(found.and_then(|population| population.current_version))
}

/// Returns the version that was imported, and that a plan is for.
async fn source<C: Connection>(db: &C, plan: PlanId) -> Result<PopulationVersionId, StoreError> {
    if let Some(drift) = rows::drift_of_plan(db, plan).await? {
        return Ok(drift.to);
    }
    let row = plans::plan_load(db, plan)
        .await?
        .ok_or(StoreError::NotFound)?;
    Ok(row.population_version)
}

/// What a measurement rests on: the rollout, its plan, and where everybody stands.
pub(super) async fn basis<C: Connection>(db: &C, row: &RolloutRow) -> Result<String, StoreError> {
    let mut hasher = Sha256::new();
    hasher.update(row.plan.map(|plan| plan.to_string()).unwrap_or_default());
    hasher.update(row.spec_digest.as_bytes());
    hasher.update(row.state.as_bytes());
    for wave in wave::waves_load(db, row.id).await? {
        hasher.update(wave.number.get().to_le_bytes());
        for (_, people) in wave.tally.iter() {
            hasher.update(people.to_le_bytes());
        }
    }
    // Whom a hold on some people keeps back is left where they stand: who that is must be as it was.
    for held in holds_of_rollout(db, row.id).await? {
        let is_sorted = held.part.as_ref().is_none_or(|part| part.is_sorted);
        hasher.update(held.id.to_string());
        hasher.update([u8::from(is_sorted)]);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    Ok(Digest(digest).to_string())
}
