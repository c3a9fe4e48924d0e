//! Lays a started rollout out as batches, in small steps that a hold never waits for.

use tidegate_orchestrator::ids::{BatchSeq, RolloutId, WaveNumber};
use tidegate_orchestrator::ledger::Slots;
use tidegate_orchestrator::rollout::{Command, Lifecycle, Unprepared};

use crate::app::App;
use crate::operations::{Actor, OperationError, drift, load, rollout};
use crate::store::rollout::RolloutRow;
use crate::store::{Lane, StoreError, ledger, plan, revert, transact, wave};

/// How many batches one step lays out.
const BATCHES_PER_STEP: u32 = 64;

/// Lays out a rollout until it is done, somebody holds it, or something else changed it.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn prepare(app: &App, id: RolloutId) -> Result<(), OperationError> {
    let actor = Actor::task("prepare");
    let mut known = None;
    loop {
        let row = load::row(app, id).await?;
        let state = load::record(&row)?;
        let Lifecycle::Preparing {
            plan: bound, next, ..
        } = &state.lifecycle
        else {
            return Ok(());
        };
        if !state.has_opened() && load::held(app, &row, None).await?.is_some() {
            return Ok(());
        }
        // A plan never changes, and counting its batches at every step would go through all of them.
        let counts = match known.take() {
            Some((of, counts)) if of == bound.id => counts,
            _ => plan::plan_roster_counts(app.store.read(), bound.id).await?,
        };
        let following = step(app, &row, bound.id, *next, &counts).await?;
        known = Some((bound.id, counts));
        match rollout::command(app, &actor, id, &Command::Prepare { next: following }).await {
            Ok(_) => {}
            // A hold or a cancel came between: the next pass looks again.
            Err(OperationError::Refused { .. } | OperationError::Conflict { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Lays out the next batches and returns where to go on; copying twice copies nothing.
async fn step(
    app: &App,
    row: &RolloutRow,
    plan: tidegate_orchestrator::ids::PlanId,
    next: Unprepared,
    counts: &[(WaveNumber, u32)],
) -> Result<Option<Unprepared>, OperationError> {
    let rollout = row.id;
    let batches = counts
        .iter()
        .find(|(wave, _)| *wave == next.wave)
        .map_or(0, |(_, batches)| *batches);
    let body = load::plan(app, plan).await?;
    let (name, people) = body
        .wave(next.wave)
        .map_or((String::new(), 0), |wave| (wave.name.clone(), wave.people));
    let until = next.seq.get().saturating_add(BATCHES_PER_STEP).min(batches);
    let queued =
        |size: u32| Ok(Slots::new(u16::try_from(size).map_err(StoreError::corrupt)?).encode());
    let range = (next.seq.get(), until);
    let laid: Result<(), OperationError> = transact!(app.store, Lane::Ordinary, "prepare", |txn| {
        wave::wave_insert(txn, rollout, next.wave, &name, people).await?;
        let people = ledger::batches_prepare(txn, rollout, plan, next.wave, range, &queued).await?;
        if row.reverts.is_some()
            && until == batches
            && let Some(late_from) = revert::late_from(txn, plan, next.wave).await?
        {
            // Whoever came late into the wave of the original stands in a batch of their own here, too.
            wave::wave_widen(txn, rollout, next.wave, (0, late_from)).await?;
        }
        drift::carry_out(txn, rollout, plan, next.wave, (range, people)).await
    });
    laid?;
    if until < batches {
        return Ok(Some(Unprepared {
            wave: next.wave,
            seq: BatchSeq(until),
        }));
    }
    let last = body
        .waves
        .last()
        .map_or(WaveNumber::FIRST, |wave| wave.number);
    if next.wave < last {
        return Ok(Some(Unprepared {
            wave: next.wave.next(),
            seq: BatchSeq(0),
        }));
    }
    let surveyed: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "batches_survey", |txn| {
            ledger::batches_survey(txn).await
        });
    surveyed?;
    Ok(None)
}
