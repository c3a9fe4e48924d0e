//! Runs the planner over the rollouts that are due: open, soak, gate, close.
//!
//! One pass: load everything in one go, decide (pure), and commit events, effects and audit entries in
//! one transaction, if nobody changed the rollout meanwhile.

use std::time::Duration;

use serde_json::json;
use tidegate_orchestrator::hold::{Cause, HoldKind, MovedPeople, Place, Release, Scope, Wanted};
use tidegate_orchestrator::ids::{
    BatchSeq, ExemptionId, Principal, RolloutId, TargetId, Timestamp, WaveNumber,
};
use tidegate_orchestrator::ledger::{SlotCommand, SlotIndex, SlotState, Slots, history};
use tidegate_orchestrator::planner::{Effect, Step, step};
use tidegate_orchestrator::rollout::{Lifecycle, record};

use super::prepare;
use crate::app::App;
use crate::operations::slots::decide as decide_slots;
use crate::operations::{Actor, OperationError, hold as hold_operation, load, revert};
use crate::store::ledger;
use crate::store::rollout::{self as rollouts, RolloutRow};
use crate::store::wave::{self, CountChange};
use crate::store::{Lane, StoreError, Txn, exemption, failure, hold, transact};

/// How many rollouts one look takes up.
const ROLLOUTS_PER_LOOK: usize = 64;
/// How many rollouts one step of a wide ring takes up.
const ROLLOUTS_PER_RING: usize = 1000;
/// The longest sleep between two looks: a bell that was missed is made up for by then.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// How many batches of failed people one pass queues again.
const BATCHES_PER_REQUEUE: usize = 32;
/// How long to wait when something is due that cannot be looked at.
const STUCK: Duration = Duration::from_millis(500);
/// A rollout whose pass failed is left alone for this long.
const TROUBLE_PAUSE_SECONDS: i64 = 5;

/// Looks at whatever is due, for ever.
pub async fn run(app: App) {
    loop {
        if let Err(error) = ring_stopped(&app).await {
            tracing::warn!(%error, "the planner could not be told of a hold");
        }
        match look(&app).await {
            Ok(0) => {}
            Ok(_) => continue,
            Err(error) => tracing::warn!(%error, "the planner could not look at its rollouts"),
        }
        let sleep = sleep_until_due(&app).await;
        tokio::select! {
            () = app.wake.planner() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

/// Has the planner look at everything that a hold covers: after it was placed, for no stop waits for the row of a
/// rollout, and in steps, so that no other hold waits. What is missed after a crash is found by its sender, which is
/// refused every claim.
async fn ring_stopped(app: &App) -> Result<(), StoreError> {
    for scope in app.wake.take_stopped() {
        match scope {
            Scope::Everything => ring_all(app, None).await?,
            Scope::Target(target) => ring_all(app, Some(target)).await?,
            Scope::Rollout(rollout) | Scope::Wave(rollout, _) | Scope::Part(rollout, _) => {
                transact!(app.store, Lane::Ordinary, "rollout_ring", |txn| {
                    let now = txn.now();
                    rollouts::rollout_ring(txn, now, rollout).await
                })?;
            }
        }
    }
    Ok(())
}

async fn ring_all(app: &App, target: Option<TargetId>) -> Result<(), StoreError> {
    loop {
        let rung = transact!(app.store, Lane::Ordinary, "rollouts_ring", |txn| {
            let now = txn.now();
            rollouts::rollouts_ring(txn, now, target, ROLLOUTS_PER_RING).await
        })?;
        if rung < u64::try_from(ROLLOUTS_PER_RING).unwrap_or(u64::MAX) {
            return Ok(());
        }
    }
}

async fn sleep_until_due(app: &App) -> Duration {
    let Ok(Some(wake_at)) = rollouts::rollouts_wake_at(app.store.read()).await else {
        return SLEEP_MAX;
    };
    // What is due and was not looked at just now is in trouble: its row is not even named right.
    let wait = (wake_at - app.clock.now()).to_std().unwrap_or(STUCK);
    wait.clamp(Duration::from_millis(5), SLEEP_MAX)
}

/// Runs a pass over every rollout that is due, and returns how many there were.
///
/// # Errors
///
/// When the store cannot be reached. The trouble of one rollout is its own.
pub async fn look(app: &App) -> Result<usize, StoreError> {
    let due = rollouts::rollouts_due(app.store.read(), app.clock.now(), ROLLOUTS_PER_LOOK).await?;
    let mut looked = 0;
    for id in due {
        match id {
            Ok(id) => {
                looked += 1;
                if let Err(error) = pass(app, id).await {
                    tracing::warn!(rollout = %id, %error, "the planner's pass failed");
                    rest(app, id, &error).await?;
                }
            }
            Err(error) => tracing::warn!(%error, "a rollout cannot be looked at"),
        }
    }
    Ok(looked)
}

/// A rollout in trouble must not keep the others waiting: it is looked at again in a while. One whose rows are
/// damaged sends nobody until somebody has mended them: what cannot be read cannot say that it may go on.
async fn rest(app: &App, id: RolloutId, error: &OperationError) -> Result<(), StoreError> {
    let later = app.clock.now() + chrono::TimeDelta::seconds(TROUBLE_PAUSE_SECONDS);
    let is_damaged = matches!(error, OperationError::Failed(StoreError::Corrupt(_)));
    transact!(app.store, Lane::Ordinary, "rollout_rest", |txn| {
        if is_damaged {
            wave::waves_close(txn, id).await?;
        }
        rollouts::rollout_put_off(txn, id, later).await
    })
}

/// Runs one pass over one rollout.
///
/// # Errors
///
/// When the store cannot be reached or a record is damaged.
pub async fn pass(app: &App, id: RolloutId) -> Result<(), OperationError> {
    let row = load::row(app, id).await?;
    if matches!(load::record(&row)?.lifecycle, Lifecycle::Preparing { .. }) {
        prepare::prepare(app, id).await?;
    }
    let done: Result<bool, StoreError> =
        transact!(app.store, Lane::Ordinary, "conduct", |txn| decide(
            app, txn, id
        )
        .await);
    match done {
        Ok(is_claimable) => {
            if is_claimable {
                app.wake.ring();
            }
            Ok(())
        }
        // Somebody changed it between load and commit, and rang: the next look has the new state.
        Err(StoreError::Conflict) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Loads, decides and saves inside one transaction; says whether something may be claimed.
async fn decide(app: &App, txn: &mut Txn, id: RolloutId) -> Result<bool, StoreError> {
    let now = txn.now();
    let Some(row) = rollouts::rollout_load(txn, id).await? else {
        return Err(StoreError::NotFound);
    };
    let seen = load::seen(app, txn, row, now).await?;
    let is_unprepared = matches!(seen.rollout.lifecycle, Lifecycle::Preparing { .. });
    let place = Place::rollout(seen.row.target, seen.row.id);
    if is_unprepared && load::hold_on(&seen.holds, &seen.row, &place, now).is_none() {
        // It was started, or let go, since this pass looked: the bell that rang is for the next pass,
        // which lays it out. Answered here, it would be for nothing, and nobody would come again.
        return Ok(false);
    }
    let step = step(&seen.snapshot(), now);
    save(app, txn, &seen.row, &step, now).await?;
    Ok(step
        .rollout
        .waves
        .iter()
        .any(|wave| wave.claims().is_some()))
}

async fn save(
    app: &App,
    txn: &mut Txn,
    row: &RolloutRow,
    step: &Step,
    now: Timestamp,
) -> Result<(), StoreError> {
    let actor = Actor::task("planner");
    let subject = format!("rollout:{}", row.id);
    for event in &step.events {
        tracing::info!(
            rollout = row.name,
            wave = event.change.wave().map(WaveNumber::get),
            event = event.change.code(),
            "a rollout changed"
        );
        let detail = json!({"wave": event.change.wave(), "change": event.change});
        txn.audit(actor.entry(event.change.code(), subject.clone(), detail));
    }
    if step.effects.iter().any(changes_holds) {
        // Before any row is locked: whoever holds a row must not wait for the lock of whoever waits for that row.
        hold::hold_lock(txn).await?;
    }
    for effect in &step.effects {
        carry_out(app, txn, row, effect, now).await?;
    }
    if step.events.is_empty() {
        let looks = (row.wake_at, step.wake_at);
        rollouts::rollout_wake(txn, row.id, row.generation, looks).await?;
    } else {
        let mut row = row.clone();
        step.rollout.lifecycle.name().clone_into(&mut row.lifecycle);
        row.state = record::encode(&step.rollout).map_err(StoreError::corrupt)?;
        let wake_was = std::mem::replace(&mut row.wake_at, step.wake_at);
        rollouts::rollout_save(txn, &mut row, wake_was).await?;
        if step.rollout.lifecycle.is_over() {
            revert::closed(txn, &row).await?;
        }
    }
    Ok(())
}

/// Says whether an effect places or ends a hold, or what is exempted from one, or looks at them.
const fn changes_holds(effect: &Effect) -> bool {
    match effect {
        Effect::PlaceGateHold { .. }
        | Effect::EndGateHold { .. }
        | Effect::EndExemption { .. }
        | Effect::RequeueFailed { .. } => true,
        Effect::OpenClaims { .. } | Effect::CloseClaims { .. } => false,
    }
}

async fn carry_out(
    app: &App,
    txn: &mut Txn,
    row: &RolloutRow,
    effect: &Effect,
    now: Timestamp,
) -> Result<(), StoreError> {
    let actor = Actor::task("planner");
    match effect {
        Effect::OpenClaims { wave, claims } => {
            wave::wave_claims_set(txn, row.id, *wave, Some(*claims)).await
        }
        Effect::CloseClaims { wave } => wave::wave_claims_set(txn, row.id, *wave, None).await,
        Effect::PlaceGateHold {
            wave,
            condition,
            reason,
        } => {
            let wanted = Wanted {
                kind: HoldKind::Gate,
                scope: Scope::Rollout(row.id),
                part: None,
                cause: Cause::Gate {
                    wave: *wave,
                    condition: condition.clone(),
                },
                reason: reason.clone(),
                effect: MovedPeople::Keep,
                review_at: None,
            };
            hold_operation::put(txn, &actor, app.ids.make(), wanted).await?;
            Ok(())
        }
        Effect::EndGateHold { hold: id } => {
            hold::hold_lock(txn).await?;
            let Some(found) = hold::hold_load(txn, *id).await? else {
                return Err(StoreError::NotFound);
            };
            let epoch = hold::epoch_next(txn).await?;
            let release = Release {
                by: Principal::new(actor.principal.clone()),
                at: now,
                epoch,
                reason: "what failed has been queued again".to_owned(),
            };
            let ended = found.hold()?.end(release).map_err(StoreError::corrupt)?;
            hold::hold_save(txn, &hold::HoldRow::of(&ended)?, found.generation).await?;
            let detail = json!({"epoch": epoch});
            txn.audit(actor.entry("hold.end", format!("hold:{id}"), detail));
            Ok(())
        }
        Effect::EndExemption { exemption } => end_exemption(app, txn, row, *exemption).await,
        Effect::RequeueFailed { wave } => {
            // Whoever is queued again may be somebody whom a hold on some people of the wave means.
            // Read under the lock of holds: none is placed and narrowed between this look and the retry.
            hold::hold_lock(txn).await?;
            let (_, in_force) = hold::holds_within(txn).await?;
            let place = (row.id, *wave);
            if hold_operation::part::widen(txn, &in_force, place).await? {
                app.permit.hurry();
                app.wake.sort();
            }
            requeue(txn, row.id, *wave).await
        }
    }
}

/// Writes down that an exemption is over, so that the holds it named can be proved quiet again.
async fn end_exemption(
    app: &App,
    txn: &mut Txn,
    row: &RolloutRow,
    id: ExemptionId,
) -> Result<(), StoreError> {
    hold::hold_lock(txn).await?;
    let epoch = hold::epoch_next(txn).await?;
    if !exemption::exemption_end(txn, id, epoch).await? {
        return Ok(());
    }
    app.permit.hurry();
    let detail = json!({"exemption": id, "epoch": epoch});
    let subject = format!("rollout:{}", row.id);
    txn.audit(Actor::task("planner").entry("exemption.end", subject, detail));
    Ok(())
}

/// Queues failed people of a wave again, a few batches at a time.
async fn requeue(txn: &mut Txn, rollout: RolloutId, number: WaveNumber) -> Result<(), StoreError> {
    let found = ledger::batches_page(
        txn,
        rollout,
        Some(number),
        (0, -1),
        Some(SlotState::Failed),
        BATCHES_PER_REQUEUE,
    )
    .await?;
    // Read again, and locked: a turn may have written outcomes since, which must not be lost.
    let seqs: Vec<BatchSeq> = found.iter().map(|row| row.address.seq).collect();
    let mut change = CountChange::default();
    let mut changes = Vec::new();
    for row in ledger::batches_for_update(txn, rollout, number, &seqs).await? {
        let slots = Slots::decode(&row.slots).map_err(StoreError::corrupt)?;
        let failed: Vec<SlotIndex> = slots
            .states()
            .zip(0..)
            .filter(|(state, _)| *state == SlotState::Failed)
            .map(|(_, index)| SlotIndex(index))
            .collect();
        if failed.is_empty() {
            continue;
        }
        let ordinals =
            tidegate_orchestrator::roster::decode(&row.roster).map_err(StoreError::corrupt)?;
        let again: Vec<_> = failed
            .iter()
            .filter_map(|index| ordinals.get(index.get()).copied())
            .collect();
        failure::failures_clear(txn, rollout, &again).await?;
        let decided = decide_slots(txn, &row, &failed, SlotCommand::Again, &mut change).await;
        changes.push(decided.map_err(StoreError::corrupt)?);
    }
    if changes.is_empty() {
        return Ok(());
    }
    wave::wave_count(txn, rollout, number, &change).await?;
    let mut entry = Actor::task("planner").entry(
        "ledger.requeue",
        format!("rollout:{rollout}"),
        json!({"wave": number}),
    );
    entry.data = Some(history::encode(&changes));
    txn.audit(entry);
    Ok(())
}
