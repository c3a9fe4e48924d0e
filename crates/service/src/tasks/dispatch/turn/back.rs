//! What taking people back does to the rollout that had moved them: they are `reverted` there, with the same commit.
//!
//! The original may run on meanwhile. Its batches are read again under their locks, only slots that are `done`
//! change, and leases and fences stay as they are: whoever holds a lease there reads the slots anew before it
//! writes its own.

use std::collections::BTreeMap;

use serde_json::json;
use tidegate_orchestrator::ids::{BatchSeq, Ordinal, RolloutId, WaveNumber};
use tidegate_orchestrator::ledger::{SlotCommand, SlotIndex, SlotState, Slots, history};
use tidegate_orchestrator::roster;

use super::Pass;
use crate::operations::{Actor, OperationError, slots};
use crate::store::ledger::{self, BatchAddress, BatchRow};
use crate::store::wave::CountChange;
use crate::store::{StoreError, Txn, revert};

/// People of one batch of the original.
type Taken = BTreeMap<(WaveNumber, BatchSeq), Vec<Ordinal>>;

impl Pass {
    /// Marks whoever was taken back in the ledger of the original, and adds to the counts of its waves.
    pub(super) async fn take_back(
        &self,
        txn: &mut Txn,
        original: RolloutId,
        counts: &mut BTreeMap<(RolloutId, WaveNumber), CountChange>,
    ) -> Result<(), StoreError> {
        let (mut changes, mut people, mut elsewhere) = (Vec::new(), 0, 0);
        for ((wave, seq), ordinals) in self.origins(txn).await? {
            let found = ledger::batches_for_update(txn, original, wave, &[seq]).await?;
            let row = found.first().ok_or(StoreError::NotFound)?;
            let places = places(row, &ordinals)?;
            elsewhere += ordinals.len() - places.len();
            if places.is_empty() {
                continue;
            }
            people += places.len();
            let change = counts.entry((original, wave)).or_default();
            let decided = slots::decide(txn, row, &places, SlotCommand::TakeBack, change).await;
            changes.push(decided.map_err(|error| match error {
                OperationError::Failed(error) => error,
                other => StoreError::corrupt(other),
            })?);
        }
        if changes.is_empty() && elsewhere == 0 {
            return Ok(());
        }
        let by = self.taken.keys().next().map(|address| address.rollout);
        // Whoever is not `done` there any more was decided about meanwhile, and stays where they are.
        let detail = json!({"revert": by, "people": people, "elsewhere": elsewhere});
        let subject = format!("rollout:{original}");
        let mut entry = Actor::task("dispatch").entry("ledger.take_back", subject, detail);
        entry.data = Some(history::encode(&changes));
        txn.audit(entry);
        Ok(())
    }

    /// Returns whoever was taken back by the batches of the original that they are in.
    async fn origins(&self, txn: &mut Txn) -> Result<Taken, StoreError> {
        let mut taken = Taken::new();
        for (address, indices) in &self.taken {
            if indices.is_empty() {
                continue;
            }
            // A batch whose lease was lost is not written, and neither is what came of it.
            let Some(open) = self.opened.get(address) else {
                continue;
            };
            let origin = origin(txn, *address).await?;
            let ordinals = match open.roster() {
                Some(roster) => roster::decode(roster).map_err(StoreError::corrupt)?,
                None => roster_of(txn, *address).await?,
            };
            let named = indices
                .iter()
                .filter_map(|index| ordinals.get(index.get()).copied());
            taken.entry(origin).or_default().extend(named);
        }
        Ok(taken)
    }
}

async fn origin(
    txn: &mut Txn,
    address: BatchAddress,
) -> Result<(WaveNumber, BatchSeq), StoreError> {
    let found = revert::origins_load(txn, address.rollout, address.wave, &[address.seq]).await?;
    let origin = found.first().ok_or(StoreError::NotFound)?;
    Ok((origin.from_wave, origin.from_seq))
}

/// A batch that was claimed again in this turn has given its roster away.
async fn roster_of(txn: &mut Txn, address: BatchAddress) -> Result<Vec<Ordinal>, StoreError> {
    let (rollout, wave) = (address.rollout, address.wave);
    let found = ledger::batches_for_update(txn, rollout, wave, &[address.seq]).await?;
    let row = found.first().ok_or(StoreError::NotFound)?;
    roster::decode(&row.roster).map_err(StoreError::corrupt)
}

/// Returns where in a batch of the original those people are who count as moved there.
fn places(row: &BatchRow, people: &[Ordinal]) -> Result<Vec<SlotIndex>, StoreError> {
    let here = roster::decode(&row.roster).map_err(StoreError::corrupt)?;
    let slots = Slots::decode(&row.slots).map_err(StoreError::corrupt)?;
    let mut places = Vec::with_capacity(people.len());
    for person in people {
        let place = here.binary_search(person).map_err(|_| {
            StoreError::corrupt(format!(
                "member {person} is not in the batch they were taken back from"
            ))
        })?;
        let index = SlotIndex(u16::try_from(place).map_err(StoreError::corrupt)?);
        if slots.state(index) == Some(SlotState::Done) {
            places.push(index);
        }
    }
    places.sort_unstable();
    Ok(places)
}
