//! Reads everything that a decision about a revert is made from, as of one instant, and guards the original.

use std::sync::Arc;

use tidegate_orchestrator::digest::Digest;
use tidegate_orchestrator::hold::Place;
use tidegate_orchestrator::hold::moved::{MovedFrozen, may_change};
use tidegate_orchestrator::hold::release::{Approval, End, Part, Request, Substance};
use tidegate_orchestrator::ids::{RolloutId, Timestamp, WaveNumber};
use tidegate_orchestrator::plan::Plan;
use tidegate_orchestrator::revert::{Case, Chosen, RevertRefusal, basis};

use super::refused;
use crate::app::App;
use crate::operations::release::group_of;
use crate::operations::{OperationError, load};
use crate::store::revert::{self as rows, RevertRow};
use crate::store::rollout::{self as rollouts, RolloutRow};
use crate::store::{
    Connection, StoreError, Txn, hold as holds, plan as plans, release, target as targets, wave,
};

/// Everything there is to decide from.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) row: RevertRow,
    pub(super) original: RolloutRow,
    pub(super) plan: Arc<Plan>,
    pub(super) case: Case,
    /// The chosen waves of the original now.
    pub(super) chosen: Vec<Chosen>,
    /// A hold in force that freezes people already moved.
    pub(super) frozen: Option<MovedFrozen>,
}

impl Looked {
    /// Returns the waves of the original that somebody is taken back of.
    pub(super) fn taken_waves(&self) -> Vec<WaveNumber> {
        taken_waves(&self.row)
    }
}

fn taken_waves(row: &RevertRow) -> Vec<WaveNumber> {
    let taken = row.sheet.waves.iter().filter(|wave| wave.people > 0);
    taken.map(|wave| wave.origin).collect()
}

/// Looks at a revert and at what it is about.
pub(super) async fn look<C: Connection>(
    app: &App,
    db: &C,
    rollout: &RolloutRow,
    now: Timestamp,
) -> Result<Looked, OperationError> {
    let not_one = || refused(&RevertRefusal::NotARevert(rollout.name.clone()));
    let original = rollout.reverts.ok_or_else(not_one)?;
    let row = rows::revert_load(db, rollout.id).await?;
    let row = row.ok_or(StoreError::NotFound)?;
    let original = rollouts::rollout_load(db, original).await?;
    let original = original.ok_or(StoreError::NotFound)?;
    let plan = load::plan_in(app, db, rollout.plan.ok_or(StoreError::NotFound)?).await?;
    let numbers: Vec<WaveNumber> = row.sheet.waves.iter().map(|wave| wave.origin).collect();
    let chosen = rows::chosen_load(db, original.id, &numbers, now).await?;
    let given = release::release_approvals_load(db, row.request).await?;
    let given = given.into_iter().map(|one| Approval {
        group_now: one.role_now.as_deref().and_then(group_of),
        by: one.seat,
        at: one.at,
    });
    let request = Request {
        by: row.seat.clone(),
        at: row.at,
        substance: row.substance.clone(),
        approvals: given.collect(),
        ended: row.ended,
    };
    let case = Case {
        request,
        digest: plan.digest,
        substance: substance(db, &original, &chosen).await?,
    };
    let frozen = frozen(db, &original, &numbers).await?;
    Ok(Looked {
        row,
        original,
        plan,
        case,
        chosen,
        frozen,
    })
}

/// What a yes is to, besides the revert itself, which never changes: the plan of the original, the settings of its
/// target, and where the chosen waves stand.
pub(super) async fn substance<C: Connection>(
    db: &C,
    original: &RolloutRow,
    chosen: &[Chosen],
) -> Result<Substance, StoreError> {
    let mut substance = Substance::default();
    let plan = match original.plan {
        Some(plan) => plans::plan_load(db, plan).await?,
        None => None,
    };
    let digest = plan.map(|plan| plan.digest).unwrap_or_default();
    substance.add(Part::Plan, &original.name, Digest::of(digest.as_bytes()));
    let target = targets::target_load(db, original.target).await?;
    let settings = format!("{} {}", target.connector, target.config);
    substance.add(Part::Target, &target.name, Digest::of(settings.as_bytes()));
    substance.add(Part::Gates, &original.name, basis(chosen));
    Ok(substance)
}

/// Says of a hold in force on the original, or on one of these waves of it, that it freezes people already moved.
pub(super) async fn frozen<C: Connection>(
    db: &C,
    original: &RolloutRow,
    waves: &[WaveNumber],
) -> Result<Option<MovedFrozen>, StoreError> {
    let freezing = holds::holds_freezing(db).await?;
    let places = waves
        .iter()
        .map(|wave| Place::wave(original.target, original.id, *wave));
    Ok(places
        .filter_map(|place| may_change(&freezing, &place).err())
        .next())
}

/// Refuses what would begin people of waves of the original that are being taken back: of one, or of any.
///
/// # Errors
///
/// When a revert of them is under way.
pub async fn refuse_open(
    txn: &Txn,
    rollout: RolloutId,
    only: Option<WaveNumber>,
) -> Result<(), OperationError> {
    let waves = wave::waves_load(txn, rollout).await?;
    let mut open = waves.iter().filter(|wave| wave.taking_back);
    match open.find(|wave| only.is_none_or(|number| number == wave.number)) {
        Some(wave) => Err(refused(&RevertRefusal::AlreadyOpen { wave: wave.number })),
        None => Ok(()),
    }
}

/// The same for one wave, whose row is kept as it is until the transaction ends.
///
/// # Errors
///
/// When a revert of it is under way.
pub async fn refuse_open_in(
    txn: &Txn,
    rollout: RolloutId,
    wave: WaveNumber,
) -> Result<(), OperationError> {
    if rows::is_taking_back(txn, rollout, wave).await? {
        return Err(refused(&RevertRefusal::AlreadyOpen { wave }));
    }
    Ok(())
}

/// Refuses what a rollout that takes back is not there for: its people are fixed.
///
/// # Errors
///
/// When it takes people back.
pub fn refuse_of_revert(row: &RolloutRow) -> Result<(), OperationError> {
    match row.reverts {
        None => Ok(()),
        Some(_) => Err(refused(&RevertRefusal::Fixed(row.name.clone()))),
    }
}

/// Lets go of the waves of the original when a revert is over, inside the transaction that ends it.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn closed(txn: &mut Txn, row: &RolloutRow) -> Result<(), StoreError> {
    let Some(original) = row.reverts else {
        return Ok(());
    };
    let revert = rows::revert_load(txn, row.id).await?;
    let revert = revert.ok_or(StoreError::NotFound)?;
    if revert.ended == Some(End::Executed) {
        rows::taking_back_count(txn, original, &taken_waves(&revert), -1).await?;
        let now = txn.now();
        rollouts::rollout_ring(txn, now, original).await?;
    } else {
        rows::revert_end(txn, row.id, End::Vetoed).await?;
    }
    Ok(())
}
