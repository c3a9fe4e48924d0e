//! Reads what decisions are made from: a rollout, its plan, its waves, and the holds on it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::store::Connection;
use tidegate_orchestrator::hold::{HoldSet, InForce, Place};
use tidegate_orchestrator::ids::{PlanId, Principal, RolloutId, Timestamp, WaveNumber};
use tidegate_orchestrator::plan::Plan;
use tidegate_orchestrator::planner::{Approval, Snapshot, WaveFacts};
use tidegate_orchestrator::rollout::{Claims, Rollout, record};
use tidegate_orchestrator::wave::gate::Gate;

use super::OperationError;
use crate::app::App;
use crate::store::rollout::{self as rollouts, RolloutRow};
use crate::store::standing::{Standing, standing_load};
use crate::store::{StoreError, hold, plan as plans, wave};

/// How many plans are remembered: those of the rollouts that are looked at over and over.
const PLANS_REMEMBERED: usize = 64;

/// Plans as they were last read. A plan never changes, so what is remembered is true.
#[derive(Debug, Clone, Default)]
pub struct PlanCache(Arc<Mutex<VecDeque<KnownPlan>>>);

type KnownPlan = (PlanId, Arc<Plan>);

impl PlanCache {
    fn of(&self, id: PlanId) -> Option<Arc<Plan>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|(of, _)| *of == id);
        found.map(|(_, plan)| Arc::clone(plan))
    }

    fn remember(&self, id: PlanId, plan: &Arc<Plan>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_back((id, Arc::clone(plan)));
        if known.len() > PLANS_REMEMBERED {
            known.pop_front();
        }
    }
}

/// Everything the planner looks at, read in one go.
#[derive(Debug)]
pub struct Seen {
    /// The stored rollout.
    pub row: RolloutRow,
    /// Its record.
    pub rollout: Rollout,
    /// Its plan, once it has one.
    pub plan: Option<Arc<Plan>>,
    /// Its waves.
    pub waves: Vec<WaveFacts>,
    /// The same waves as they are stored, and what lies around the rollout.
    pub standing: Standing,
    /// The holds in force.
    pub holds: Arc<HoldSet>,
    /// When it was looked at.
    pub now: Timestamp,
}

impl Seen {
    /// Returns it in the form the planner takes.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot {
            place: Place::rollout(self.row.target, self.row.id),
            rollout: &self.rollout,
            waves: self.waves.clone(),
            holds: &self.holds,
            target_closed_until: Some(self.standing.closed_until).filter(|until| *until > self.now),
            takes_back: self.row.reverts.is_some(),
        }
    }
}

/// Returns the stored rollout of an id.
///
/// # Errors
///
/// When there is none.
pub async fn row(app: &App, id: RolloutId) -> Result<RolloutRow, OperationError> {
    let found = rollouts::rollout_load(app.store.read(), id).await?;
    found.ok_or_else(|| OperationError::not_found("rollout", id))
}

/// Finds a rollout by id or name.
///
/// # Errors
///
/// When there is none.
pub async fn find(app: &App, name: &str) -> Result<RolloutRow, OperationError> {
    let found = rollouts::rollout_find(app.store.read(), name).await?;
    found.ok_or_else(|| OperationError::not_found("rollout", name))
}

/// Reads the record of a stored rollout.
///
/// # Errors
///
/// When it is damaged, or of a later version.
pub fn record(row: &RolloutRow) -> Result<Rollout, StoreError> {
    record::decode(&row.state).map_err(StoreError::corrupt)
}

/// Reads a plan.
///
/// # Errors
///
/// When there is none, or it is damaged.
pub async fn plan(app: &App, id: PlanId) -> Result<Arc<Plan>, StoreError> {
    plan_in(app, app.store.read(), id).await
}

/// Reads a plan inside a transaction.
///
/// # Errors
///
/// When there is none, or it is damaged.
pub async fn plan_in<C: Connection>(
    app: &App,
    db: &C,
    id: PlanId,
) -> Result<Arc<Plan>, StoreError> {
    if let Some(known) = app.plans.of(id) {
        return Ok(known);
    }
    let row = plans::plan_load(db, id)
        .await?
        .ok_or(StoreError::NotFound)?;
    let plan: Plan = serde_json::from_str(&row.body).map_err(StoreError::corrupt)?;
    let plan = Arc::new(plan);
    app.plans.remember(id, &plan);
    Ok(plan)
}

/// Returns the most severe hold on a rollout, or on one of its waves.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn held(
    app: &App,
    row: &RolloutRow,
    wave: Option<WaveNumber>,
) -> Result<Option<InForce>, StoreError> {
    let (_, holds) = hold::holds_known(&app.store).await?;
    let place = Place {
        target: row.target,
        rollout: row.id,
        wave,
    };
    // An exemption ends by the clock of the database, and only a revert is asked about.
    let now = match row.reverts {
        Some(_) => app.store.now().await?,
        None => app.clock.now(),
    };
    Ok(hold_on(&holds, row, &place, now).cloned())
}

/// Returns the most severe hold that stops a rollout at a place. A revert goes on under the holds that its
/// approval named; of anything else only what sends and what opens waves knows of exemptions, so that every
/// other step fails closed.
#[must_use]
pub fn hold_on<'a>(
    holds: &'a HoldSet,
    row: &RolloutRow,
    place: &Place,
    now: Timestamp,
) -> Option<&'a InForce> {
    if row.reverts.is_some() {
        holds.stops(place, now)
    } else {
        holds.worst(place)
    }
}

/// Reads everything the planner looks at.
///
/// # Errors
///
/// When the store cannot be reached or a record is damaged.
pub async fn seen<C: Connection>(
    app: &App,
    db: &C,
    row: RolloutRow,
    now: Timestamp,
) -> Result<Seen, StoreError> {
    let rollout = record(&row)?;
    let plan = match rollout.lifecycle.plan() {
        Some(bound) => Some(plan_in(app, db, bound.id).await?),
        None => None,
    };
    let standing = standing_load(db, row.id).await?;
    let waves = match &plan {
        Some(plan) => facts(db, row.id, plan, &standing, now).await?,
        None => Vec::new(),
    };
    let holds = hold::holds_seen(db, app.store.hold_cache(), standing.epoch).await?;
    Ok(Seen {
        row,
        rollout,
        plan,
        waves,
        standing,
        holds,
        now,
    })
}

async fn facts<C: Connection>(
    db: &C,
    id: RolloutId,
    plan: &Plan,
    standing: &Standing,
    now: Timestamp,
) -> Result<Vec<WaveFacts>, StoreError> {
    let mut approvals = approvals(db, id, plan).await?;
    let mut facts = Vec::with_capacity(plan.waves.len());
    for planned in &plan.waves {
        let mut rows = standing.waves.iter();
        let found = rows.find(|(row, _)| row.number == planned.number);
        let tally = found.map(|(row, _)| row.tally).unwrap_or_default();
        let mut wave = WaveFacts::planned(planned, &plan.freezes, tally, now);
        if let Some((row, ready_at)) = found {
            wave.claims = row.claimable.then_some(Claims {
                until: row.claim_until,
                begin_at_most: row.begin_at_most,
            });
            wave.ready_at = *ready_at;
            wave.taking_back = row.taking_back;
        }
        wave.approvals = approvals.remove(&planned.number).unwrap_or_default();
        facts.push(wave);
    }
    Ok(facts)
}

/// Reads who approved what, if a gate of the plan asks for approvals.
async fn approvals<C: Connection>(
    db: &C,
    id: RolloutId,
    plan: &Plan,
) -> Result<BTreeMap<WaveNumber, Vec<Approval>>, StoreError> {
    let mut approvals: BTreeMap<WaveNumber, Vec<Approval>> = BTreeMap::new();
    let asks = |gate: &Gate| gate.approvals.is_some();
    if !plan
        .waves
        .iter()
        .any(|wave| wave.gate.as_ref().is_some_and(asks))
    {
        return Ok(approvals);
    }
    for row in wave::approvals_load(db, id).await? {
        let approval = Approval {
            by: Principal::new(row.principal),
            digest: row.plan_digest.parse().map_err(StoreError::corrupt)?,
            at: row.at,
        };
        approvals.entry(row.wave).or_default().push(approval);
    }
    Ok(approvals)
}
