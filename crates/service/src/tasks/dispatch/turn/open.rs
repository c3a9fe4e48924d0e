//! A batch as a turn goes through it.

use tidegate_orchestrator::ids::{Epoch, Fence, Timestamp, WorkerId, from_millis};
use tidegate_orchestrator::lease::Lease;
use tidegate_orchestrator::ledger::{ClaimedSlot, SlotIndex, SlotState, Slots, Tally};

use crate::store::StoreError;
use crate::store::ledger::{self, BatchRow, BatchWrite};

/// A batch as the turn goes through it: read once, changed perhaps twice, written once.
pub(super) struct Open {
    pub(super) row: BatchRow,
    pub(super) slots: Slots,
    pub(super) before: (Tally, u64),
    pub(super) changed: Vec<SlotIndex>,
    pub(super) fence: Fence,
    pub(super) lease: Option<(WorkerId, i64)>,
}

impl Open {
    pub(super) fn read(row: BatchRow) -> Result<Self, StoreError> {
        let slots = Slots::decode(&row.slots).map_err(StoreError::corrupt)?;
        let before = (slots.tally(), slots.adopted());
        let fence = row.fence;
        Ok(Self {
            row,
            slots,
            before,
            changed: Vec::new(),
            fence,
            lease: None,
        })
    }

    /// Returns the roster, unless a claim of this turn has taken it with it.
    pub(super) fn roster(&self) -> Option<&[u8]> {
        (!self.row.roster.is_empty()).then_some(self.row.roster.as_slice())
    }

    /// Returns the lease as this turn leaves it.
    pub(super) fn lease_now(&self) -> Option<Lease> {
        let (owner, until) = self.lease?;
        let until = from_millis(until).unwrap_or(Timestamp::MAX_UTC);
        Some(Lease { owner, until })
    }

    /// Whoever was in flight under a lease that is over becomes unknown.
    pub(super) fn lapse(&mut self, now: Timestamp) {
        self.changed.extend(self.slots.lapse(now));
    }

    /// Claims up to `room` people, and takes those who were begun now from what may still be begun.
    pub(super) fn claim(
        &mut self,
        room: u32,
        begin: &mut Option<u64>,
        now: Timestamp,
    ) -> Vec<ClaimedSlot> {
        let Some(left) = begin else {
            return self.slots.claim(room, u32::MAX, now);
        };
        let queued = |slots: &Slots| slots.tally().get(SlotState::Queued);
        let before = queued(&self.slots);
        let claimed = self
            .slots
            .claim(room, u32::try_from(*left).unwrap_or(u32::MAX), now);
        *left = left.saturating_sub(before - queued(&self.slots));
        claimed
    }

    pub(super) fn write(&self, epoch: Epoch) -> BatchWrite {
        BatchWrite {
            address: self.row.address,
            fence_was: self.row.fence,
            fence: self.fence,
            // Only a claim is made under an epoch.
            epoch: if self.fence == self.row.fence {
                self.row.epoch
            } else {
                epoch
            },
            slots: self.slots.encode(),
            tally: self.slots.tally(),
            adopted: self.slots.adopted(),
            ready_at: ledger::ready_of(&self.slots, self.lease.map(|(_, until)| until)),
            lease: self.lease,
        }
    }
}
