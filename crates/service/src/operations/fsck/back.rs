//! Two ledgers against each other: who was taken back by reverts, and who is `reverted` where they were moved.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_orchestrator::ids::{Ordinal, RolloutId, millis};
use tidegate_orchestrator::ledger::{SlotIndex, SlotState, Slots};
use tidegate_orchestrator::roster;

use super::{ROWS_PER_READ, found};
use crate::app::App;
use crate::operations::OperationError;
use crate::operations::view::Reason;
use crate::store::rollout::RolloutRow;
use crate::store::{Snapshot, StoreError, ledger, revert};

/// Compares a rollout with the reverts of it, as of one instant: a revert that runs changes both with each turn.
pub(super) async fn against_reverts(
    app: &App,
    row: &RolloutRow,
    findings: &mut Vec<Reason>,
) -> Result<(), OperationError> {
    let at = app.store.snapshot().await?;
    let compared = compare(&at, row, findings).await;
    at.end().await?;
    Ok(compared?)
}

async fn compare(
    at: &Snapshot,
    row: &RolloutRow,
    findings: &mut Vec<Reason>,
) -> Result<(), StoreError> {
    let mut taken: BTreeMap<Ordinal, i64> = BTreeMap::new();
    for one in revert::reverts_of(at, row.id).await? {
        for (person, state, since) in people(at, one.rollout, Some(SlotState::Done)).await? {
            if state == SlotState::Done {
                let latest = taken.entry(person).or_insert(since);
                *latest = since.max(*latest);
            }
        }
    }
    // Where nobody was taken back, only somebody who is `reverted` can be wrong.
    let only = taken.is_empty().then_some(SlotState::Reverted);
    let mut seen: BTreeSet<Ordinal> = BTreeSet::new();
    for (person, state, since) in people(at, row.id, only).await? {
        let then = taken.get(&person).copied();
        match (then, state) {
            // They stand in another wave now, in a slot of their own.
            (_, SlotState::Transferred) => continue,
            (Some(_), SlotState::Reverted) => {}
            (None, SlotState::Reverted) => {
                let sentence =
                    format!("member {person} counts as taken back, and no revert has done it");
                found(findings, "reverted_by_nobody", sentence);
            }
            // Whoever is moved again has changed later.
            (Some(then), state) if since <= then => {
                let sentence =
                    format!("member {person} was taken back by a revert, and counts as {state}");
                found(findings, "revert_differs", sentence);
            }
            (Some(_) | None, _) => {}
        }
        if then.is_some() {
            seen.insert(person);
        }
    }
    for person in taken.keys().filter(|person| !seen.contains(person)) {
        let sentence = format!("member {person} was taken back by a revert, and is in no batch");
        found(findings, "revert_differs", sentence);
    }
    Ok(())
}

/// Reads everybody of a rollout with their state and since when, batch by batch.
async fn people(
    db: &Snapshot,
    rollout: RolloutId,
    only: Option<SlotState>,
) -> Result<Vec<(Ordinal, SlotState, i64)>, StoreError> {
    let mut people = Vec::new();
    let mut after = (0, -1);
    loop {
        let page = ledger::batches_page(db, rollout, None, after, only, ROWS_PER_READ).await?;
        let Some(last) = page.last() else {
            return Ok(people);
        };
        let at = last.address;
        after = (i64::from(at.wave.get()), i64::from(at.seq.get()));
        for row in page {
            let slots = Slots::decode(&row.slots).map_err(StoreError::corrupt)?;
            let here = roster::decode(&row.roster).map_err(StoreError::corrupt)?;
            for ((state, person), index) in slots.states().zip(here).zip(0..) {
                let since = slots.changed_at(SlotIndex(index)).map_or(0, millis);
                people.push((person, state, since));
            }
        }
    }
}
