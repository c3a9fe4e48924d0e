//! How many people of a wave a condition picks, asked before anything is placed: a condition with a misspelt
//! value is well-formed and means nobody. Nothing is locked and nothing changes; `part` sorts for real.

use tidegate_orchestrator::hold::Scope;
use tidegate_orchestrator::hold::part::{Picked, sort};
use tidegate_orchestrator::ids::{PlanId, RolloutId, WaveNumber};
use tidegate_orchestrator::ledger::{SlotState, Slots};
use tidegate_orchestrator::roster;
use tidegate_orchestrator::sentence::people;
use tidegate_policy::Condition;

use super::part::PartView;
use crate::app::App;
use crate::operations::{OperationError, load, member};
use crate::store::{StoreError, ledger, plan as plans};

/// How many batches one read brings.
const BATCHES_PER_READ: usize = 256;

/// Whom of a wave a condition picks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Matching {
    /// Everybody of the wave.
    wave: u64,
    /// Those for whom it holds, however far they are.
    picked: u64,
    /// Those of them whom a hold would keep back: nobody has begun with them, or it is not over.
    waiting: u64,
}

impl Matching {
    fn sentence(&self, condition: &Condition) -> String {
        let wave = people(self.wave);
        match (self.picked, self.waiting) {
            (0, _) => format!(
                "matches nobody: of the {wave} of the wave there is nobody for whom {condition}; check the value"
            ),
            (picked, 0) => format!(
                "would keep nobody back: {} of the {wave} of the wave match, and all of them are through",
                people(picked)
            ),
            (picked, waiting) => format!(
                "would keep {} back, of {} of the {wave} of the wave for whom {condition}",
                people(waiting),
                people(picked)
            ),
        }
    }
}

/// Counts whom of a wave a condition picks, and says it; nothing while there is no plan.
///
/// # Errors
///
/// When the store cannot be reached or a row is damaged.
pub(super) async fn of(
    app: &App,
    scope: &Scope,
    condition: &Condition,
) -> Result<Option<PartView>, OperationError> {
    let (Some(rollout), Some(wave)) = (scope.uuid().map(RolloutId::new), scope.wave()) else {
        return Ok(None);
    };
    let row = load::row(app, rollout).await?;
    let Some(plan) = row.plan else {
        return Ok(None);
    };
    let version = load::plan(app, plan).await?.population_version;
    let asked: Vec<String> = condition
        .attributes()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let population = member::load(app, version, &asked).await?;
    let by = condition.clone();
    let picking = tokio::task::spawn_blocking(move || Picked::of(&by, &population));
    let picked = [picking.await.map_err(StoreError::corrupt)?];
    // Before it runs, the ledger has nobody yet, or not everybody.
    let matching = match row.lifecycle.as_str() {
        "planned" | "preparing" => planned(app, (plan, wave), &picked).await?,
        _ => laid_out(app, (rollout, wave), &picked).await?,
    };
    Ok(Some(PartView {
        sorted: false,
        people: Some(matching.waiting),
        sentence: matching.sentence(condition),
    }))
}

async fn planned(
    app: &App,
    (plan, wave): (PlanId, WaveNumber),
    picked: &[Picked],
) -> Result<Matching, OperationError> {
    let (mut found, mut from) = (Matching::default(), 0);
    loop {
        let page =
            plans::plan_roster_page(app.store.read(), plan, wave, from, BATCHES_PER_READ).await?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        from = last.seq.get().saturating_add(1);
        for row in &page {
            for person in roster::decode(&row.roster).map_err(StoreError::corrupt)? {
                let is_picked = picked.iter().any(|picked| picked.holds(person));
                found.wave += 1;
                found.picked += u64::from(is_picked);
                found.waiting += u64::from(is_picked);
            }
        }
    }
}

async fn laid_out(
    app: &App,
    (rollout, wave): (RolloutId, WaveNumber),
    picked: &[Picked],
) -> Result<Matching, OperationError> {
    let (mut found, mut after) = (Matching::default(), (i64::from(wave.get()), -1));
    loop {
        let (db, only) = (app.store.read(), Some(wave));
        let page = ledger::batches_page(db, rollout, only, after, None, BATCHES_PER_READ).await?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        after.1 = i64::from(last.address.seq.get());
        for row in &page {
            let slots = Slots::decode(&row.slots).map_err(StoreError::corrupt)?;
            let ordinals = roster::decode(&row.roster).map_err(StoreError::corrupt)?;
            let sorted = sort(&slots, &ordinals, picked);
            found.waiting += sorted.kept.iter().sum::<u64>() + sorted.busy;
            // Whoever was carried over into another wave is one of that wave.
            let here = slots.states().zip(&ordinals);
            let here = here.filter(|(state, _)| *state != SlotState::Transferred);
            for (_, person) in here {
                found.wave += 1;
                found.picked += u64::from(picked.iter().any(|picked| picked.holds(*person)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_policy::{AttributeTest, Literal};

    use super::*;

    #[test]
    fn a_condition_that_means_nobody_is_said_to() {
        let condition = Condition::Attribute {
            attribute: "country".to_owned(),
            test: AttributeTest::Equals(Literal::Text("Germany".to_owned())),
        };
        let said = |picked, waiting| {
            let matching = Matching {
                wave: 3_000,
                picked,
                waiting,
            };
            matching.sentence(&condition)
        };
        let nobody = said(0, 0);
        assert!(
            nobody.starts_with("matches nobody") && nobody.ends_with("check the value"),
            "{nobody}"
        );
        assert!(said(750, 0).contains("750 people of the 3,000 people of the wave match"));
        assert!(said(750, 600).starts_with("would keep 600 people back, of 750 people"));
    }
}
