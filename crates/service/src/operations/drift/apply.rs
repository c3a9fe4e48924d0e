//! Goes on with the people there are now: bound by a release, carried out in small steps.

use serde_json::json;
use tidegate_orchestrator::drift::body;
use tidegate_orchestrator::hold::{Hold, HoldKind, Place, Scope};
use tidegate_orchestrator::ids::{BatchSeq, PlanId, Principal, RolloutId, WaveNumber};
use tidegate_orchestrator::ledger::{SlotCommand, SlotIndex, SlotState, Slots, history};
use tidegate_orchestrator::plan::Plan;
use tidegate_orchestrator::rollout::{Command, PlanRef};
use tidegate_orchestrator::roster;
use tidegate_orchestrator::wave::ramp::Reentry;

use super::super::hold::part;
use super::super::slots::decide_after_lapse;
use super::super::{Actor, OperationError, rollout};
use super::view::Report;
use super::{Standing, standing};
use crate::app::App;
use crate::store::failure::{self, FailureRow};
use crate::store::ledger::{self, BatchRow};
use crate::store::rollout::{self as rollouts, RolloutRow};
use crate::store::wave::{self, CountChange};
use crate::store::{Connection, StoreError, Txn, drift as rows, hold as holds, plan as plans};

/// Lets every started rollout go on that a halt covered and no other halt covers, inside the transaction that
/// ends it. What a pause has covered goes on where it was.
///
/// # Errors
///
/// When other people were imported into one of them and not measured, or something has changed since.
pub async fn released(
    app: &App,
    txn: &mut Txn,
    actor: &Actor,
    ended: &Hold,
    reentry: Reentry,
) -> Result<(), OperationError> {
    if ended.kind != HoldKind::Halt {
        return Ok(());
    }
    let (_, holds) = holds::holds_within(txn).await?;
    for row in covered(txn, &ended.scope).await? {
        let place = Place::rollout(row.target, row.id);
        let is_halted = holds
            .covering(&place)
            .any(|hold| hold.kind == HoldKind::Halt && hold.id != ended.id);
        if is_halted {
            continue;
        }
        match ended.scope {
            // The rest of the rollout was never stopped: it goes on with the people it has.
            Scope::Wave(_, wave) | Scope::Part(_, wave) => {
                let (plan, wave) = (None, Some(wave));
                let wanted = Command::GoOn {
                    plan,
                    reentry,
                    wave,
                };
                rollout::commit(app, txn, actor, row, &wanted).await?;
            }
            Scope::Everything | Scope::Target(_) | Scope::Rollout(_) => {
                go_on(app, txn, actor, row, reentry).await?;
            }
        }
    }
    Ok(())
}

/// Returns the rollouts that are under way and that a scope covers.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn covered<C: Connection>(
    db: &C,
    scope: &Scope,
) -> Result<Vec<RolloutRow>, OperationError> {
    // A revert is bound to the people it was asked for, and is not let go on small: it takes back.
    let moves = |row: &RolloutRow| row.reverts.is_none();
    if let Scope::Rollout(id) | Scope::Wave(id, _) | Scope::Part(id, _) = scope {
        let row = rollouts::rollout_load(db, *id).await?;
        let started = row.filter(|row| matches!(row.lifecycle.as_str(), "running" | "preparing"));
        let started = started.filter(moves);
        return Ok(started.into_iter().collect());
    }
    let target = match scope {
        Scope::Target(target) => Some(*target),
        Scope::Everything | Scope::Rollout(_) | Scope::Wave(..) | Scope::Part(..) => None,
    };
    let mut started = rollouts::rollouts_started(db, target).await?;
    started.retain(moves);
    Ok(started)
}

/// Lets a rollout go on, inside the transaction that releases the last halt on it.
///
/// # Errors
///
/// When other people were imported and not measured, or something has changed since.
pub async fn go_on(
    app: &App,
    txn: &mut Txn,
    actor: &Actor,
    row: RolloutRow,
    reentry: Reentry,
) -> Result<(), OperationError> {
    let plan = match standing(txn, &row).await? {
        Standing::Current => None,
        Standing::Unmeasured { sentence } => {
            return Err(OperationError::refused("drift_unmeasured", sentence));
        }
        Standing::Measured(drift) => {
            rows::drift_status_set(txn, drift.id, "applied").await?;
            // Whoever is parked may be somebody else by now, and whoever is new was never sorted.
            let (_, in_force) = holds::holds_within(txn).await?;
            for wave in wave::waves_load(txn, row.id).await? {
                part::widen(txn, &in_force, (row.id, wave.number)).await?;
            }
            let stored = plans::plan_load(txn, drift.plan).await?;
            let stored = stored.ok_or(StoreError::NotFound)?;
            let plan: Plan = serde_json::from_str(&stored.body).map_err(StoreError::corrupt)?;
            let by = Principal::new(actor.principal.clone());
            Some(PlanRef::of(drift.plan, &plan, by, drift.created_at))
        }
    };
    let wave = None;
    let wanted = Command::GoOn {
        plan,
        reentry,
        wave,
    };
    rollout::commit(app, txn, actor, row, &wanted).await?;
    Ok(())
}

/// Brings batches `range` of a wave up to the measurement that the plan comes from, in the transaction that
/// has laid out those that were added: `laid` people, if the wave was there before.
///
/// # Errors
///
/// When the store cannot be reached, or a slot is not where it was measured.
pub async fn carry_out(
    txn: &mut Txn,
    rollout: RolloutId,
    plan: PlanId,
    number: WaveNumber,
    (range, laid): ((u32, u32), u64),
) -> Result<(), OperationError> {
    let Some(drift) = rows::drift_of_plan(txn, plan).await? else {
        return Ok(());
    };
    let report: Report = serde_json::from_str(&drift.report).map_err(StoreError::corrupt)?;
    if number.get() <= report.waves_before && laid > 0 {
        let all = ledger::batches_people(txn, rollout, number, range).await?;
        let first = all.iter().rev().scan(laid, |left, (seq, people)| {
            let is_new = *left > 0;
            *left = left.saturating_sub(*people);
            is_new.then_some(*seq)
        });
        let late_from = first.last().unwrap_or(range.0);
        wave::wave_widen(txn, rollout, number, (laid, late_from)).await?;
    }
    let mut change = CountChange::default();
    let mut changes = Vec::new();
    for row in rows::drift_batches_take(txn, drift.id, number, range).await? {
        let each = body::decode(&row.body).map_err(StoreError::corrupt)?;
        let found = ledger::batches_for_update(txn, rollout, number, &[row.seq]).await?;
        let batch = found.first().ok_or(StoreError::NotFound)?;
        let all = let_go(batch, &each)?;
        changes.push(decide_after_lapse(txn, batch, &all, &mut change).await?);
        doubts(txn, rollout, (number, row.seq), &batch.roster, &each).await?;
    }
    if changes.is_empty() {
        return Ok(());
    }
    wave::wave_count(txn, rollout, number, &change).await?;
    let detail = json!({"wave": number, "drift": drift.id, "digest": drift.digest});
    let mut entry =
        Actor::task("prepare").entry("ledger.drift", format!("rollout:{rollout}"), detail);
    entry.data = Some(history::encode(&changes));
    txn.audit(entry);
    Ok(())
}

/// Begins with letting everybody of a batch go who is parked: what is decided about them is decided of people who
/// wait, and whoever stays is sorted again before their wave goes on.
fn let_go(
    batch: &BatchRow,
    each: &[(SlotIndex, SlotCommand)],
) -> Result<Vec<(SlotIndex, SlotCommand)>, StoreError> {
    let slots = Slots::decode(&batch.slots).map_err(StoreError::corrupt)?;
    let parked = slots
        .states()
        .zip(0..)
        .filter(|(state, _)| *state == SlotState::Parked);
    let unparked = parked.map(|(_, index)| (SlotIndex(index), SlotCommand::Unpark));
    Ok(unparked.chain(each.iter().copied()).collect())
}

/// Says why somebody has to decide, and forgets what went wrong with those who begin anew or are gone.
async fn doubts(
    txn: &mut Txn,
    rollout: RolloutId,
    (wave, _seq): (WaveNumber, BatchSeq),
    packed: &[u8],
    each: &[(SlotIndex, SlotCommand)],
) -> Result<(), OperationError> {
    let ordinals = roster::decode(packed).map_err(StoreError::corrupt)?;
    let now = txn.now();
    let (mut doubtful, mut clear) = (Vec::new(), Vec::new());
    for (index, command) in each {
        let Some(ordinal) = ordinals.get(index.get()).copied() else {
            continue;
        };
        if *command == SlotCommand::Doubt {
            doubtful.push(FailureRow {
                ordinal,
                wave,
                state: SlotState::Review,
                code: "drift_review".to_owned(),
                message: "they left while it was not known whether they had been moved, or their user name \
                          belongs to an account of somebody else"
                    .to_owned(),
                attempts: 0,
                at: now,
            });
        } else {
            clear.push(ordinal);
        }
    }
    if !clear.is_empty() {
        failure::failures_clear(txn, rollout, &clear).await?;
    }
    if !doubtful.is_empty() {
        failure::failures_put(txn, rollout, &doubtful).await?;
    }
    Ok(())
}
