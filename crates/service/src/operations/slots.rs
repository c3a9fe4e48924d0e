//! What people decide about people: one command for some of a batch, written with its counts.
//!
//! Whoever is in flight belongs to a worker and is refused. The caller writes the audit entry.

use tidegate_orchestrator::hold::Place;
use tidegate_orchestrator::ids::{Timestamp, millis};
use tidegate_orchestrator::ledger::{SlotCommand, SlotIndex, SlotRefusal, Slots, history};

use super::view::PersonView;
use super::{Actor, OperationError, hold, load, people, revert};
use crate::app::App;
use crate::store::failure::{self, FailureRow};
use crate::store::ledger::{self, BatchRow, BatchWrite};
use crate::store::rollout::RolloutRow;
use crate::store::wave::{self, CountChange};
use crate::store::{Lane, StoreError, Txn, rollout as rollouts, transact};

/// The code of somebody of whom later evidence shows that they were not moved.
const DISPROVED: &str = "disproved";

/// Carries a command out on some people of a batch that is locked, and returns what the trail must
/// hear. The counts of the wave are moved by the caller, once for all batches.
///
/// # Errors
///
/// When somebody is where that cannot happen to them; nothing is written then.
pub async fn decide(
    txn: &mut Txn,
    row: &BatchRow,
    people: &[SlotIndex],
    command: SlotCommand,
    change: &mut CountChange,
) -> Result<history::BatchChange, OperationError> {
    let each: Vec<_> = people.iter().map(|index| (*index, command)).collect();
    decide_each(txn, row, &each, change).await
}

/// Carries out a command for each of some people of a batch that is locked.
///
/// # Errors
///
/// When somebody is where that cannot happen to them; nothing is written then.
pub async fn decide_each(
    txn: &mut Txn,
    row: &BatchRow,
    each: &[(SlotIndex, SlotCommand)],
    change: &mut CountChange,
) -> Result<history::BatchChange, OperationError> {
    decided(txn, row, each, (change, false)).await
}

/// The same, after whoever was under way when their worker's lease ended has become unknown: under a hold
/// nobody claims the batch, which is when that is found otherwise.
///
/// # Errors
///
/// When somebody is where that cannot happen to them; nothing is written then.
pub async fn decide_after_lapse(
    txn: &mut Txn,
    row: &BatchRow,
    each: &[(SlotIndex, SlotCommand)],
    change: &mut CountChange,
) -> Result<history::BatchChange, OperationError> {
    decided(txn, row, each, (change, true)).await
}

/// Says whether nobody can send for a batch any more.
pub fn is_lease_over(row: &BatchRow, now: Timestamp) -> Result<bool, StoreError> {
    Ok(row.lease()?.is_none_or(|lease| lease.until <= now))
}

async fn decided(
    txn: &mut Txn,
    row: &BatchRow,
    each: &[(SlotIndex, SlotCommand)],
    (change, with_lapse): (&mut CountChange, bool),
) -> Result<history::BatchChange, OperationError> {
    let now: Timestamp = txn.now();
    let mut slots = Slots::decode(&row.slots).map_err(StoreError::corrupt)?;
    let before = (slots.tally(), slots.adopted());
    let mut people: Vec<SlotIndex> = Vec::with_capacity(each.len());
    let (mut fence, mut lease) = (
        row.fence,
        row.lease()?.map(|lease| (lease.owner, millis(lease.until))),
    );
    let mut is_lapsed = false;
    if with_lapse && is_lease_over(row, now)? {
        people.extend(slots.lapse(now));
        is_lapsed = !people.is_empty();
        // Whoever comes back with outcomes after all is late.
        fence = fence.next();
        lease = None;
    }
    for (index, command) in each {
        slots.apply(*index, *command, now).map_err(refused)?;
    }
    let (tally, adopted) = (slots.tally(), slots.adopted());
    change.replace((&before.0, before.1), (&tally, adopted));
    let ready_at = ledger::ready_of(&slots, lease.map(|(_, until)| until));
    let write = BatchWrite {
        address: row.address,
        fence_was: row.fence,
        fence,
        epoch: row.epoch,
        // Whoever may exist at the target is looked up before anybody new is begun.
        ready_at: ready_at.map(|at| if is_lapsed { at.min(-1) } else { at }),
        slots: slots.encode(),
        tally,
        adopted,
        lease,
    };
    if ledger::batches_write(txn, &[write]).await? != 1 {
        return Err(StoreError::Conflict.into());
    }
    people.extend(each.iter().map(|(index, _)| *index));
    Ok(history::BatchChange {
        wave: row.address.wave,
        seq: row.address.seq,
        fence,
        runs: history::runs(&slots, &people),
    })
}

fn refused(refusal: SlotRefusal) -> OperationError {
    OperationError::refused("person_state", refusal.to_string())
}

/// Takes back that somebody was moved, because later evidence shows that they were not. They count as
/// failed, and the gate of their wave is judged anew, also when it had passed.
///
/// # Errors
///
/// When there is no such person in the rollout, or they do not count as moved.
pub async fn disprove(
    app: &App,
    actor: &Actor,
    name: &str,
    key: &str,
    reason: &str,
) -> Result<PersonView, OperationError> {
    hold::check_reason(reason)?;
    let row = load::find(app, name).await?;
    let found = people::find(app, &row, key).await?;
    let done: Result<(), OperationError> =
        transact!(app.store, Lane::Ordinary, "person_disprove", |txn| {
            disprove_in(txn, actor, &row, &found, (key, reason)).await
        });
    done?;
    app.wake.ring();
    people::one(app, name, key).await
}

async fn disprove_in(
    txn: &mut Txn,
    actor: &Actor,
    row: &RolloutRow,
    found: &people::Found,
    (key, reason): (&str, &str),
) -> Result<(), OperationError> {
    let now = txn.now();
    let (rollout, address) = (row.id, found.address);
    hold::moved_may_change(txn, &Place::wave(row.target, rollout, address.wave)).await?;
    let locked = ledger::batches_for_update(txn, rollout, address.wave, &[address.seq]).await?;
    let batch = locked.first().ok_or(StoreError::NotFound)?;
    let mut change = CountChange::default();
    let changed = decide(
        txn,
        batch,
        &[found.index],
        SlotCommand::Disprove,
        &mut change,
    )
    .await?;
    wave::wave_count(txn, rollout, address.wave, &change).await?;
    // Asked after the row of the wave is ours: a revert that starts at this moment is wholly before or after.
    revert::refuse_open_in(txn, rollout, address.wave).await?;
    let failed = FailureRow {
        ordinal: found.ordinal,
        wave: address.wave,
        state: tidegate_orchestrator::ledger::SlotState::Failed,
        code: DISPROVED.to_owned(),
        message: reason.to_owned(),
        attempts: 0,
        at: now,
    };
    failure::failures_put(txn, rollout, &[failed]).await?;
    rollouts::rollout_ring(txn, now, rollout).await?;
    let detail = serde_json::json!({"wave": address.wave, "person": key, "reason": reason});
    let mut entry = actor.entry("person.disprove", format!("rollout:{rollout}"), detail);
    entry.data = Some(history::encode(&[changed]));
    txn.audit(entry);
    Ok(())
}
