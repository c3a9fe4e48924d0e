//! A worker's right to one batch: who may claim it, and what an outcome that comes in does to it.
//!
//! Decided under the claim lock, so that a hold is wholly before or wholly after. A lease is judged by
//! the clock of the database. It is renewed by the outcomes that come in while it lasts; **under a hold
//! nothing is renewed**, so that the leases under it can only run out, and whoever has none left has
//! nothing to send and nothing under way (see `crate::quiesce`).
//!
//! Nothing here reads a row: the caller does, and writes under the fence.

use crate::hold::{HoldSet, Place};
use crate::ids::{Epoch, Fence, Timestamp, WorkerId};

/// Who has a batch, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The worker.
    pub owner: WorkerId,
    /// Until when.
    pub until: Timestamp,
}

impl Lease {
    /// Says whether it is over. The instant itself is over.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until <= now
    }
}

/// Why a batch may not be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimRefusal {
    /// The worker's permit is of another epoch than the store: it must be renewed first.
    EpochMoved,
    /// A hold covers the place.
    Held,
    /// Somebody has it.
    Leased,
}

/// Says whether batches at `place` may be claimed now under a permit of epoch `permit`. Asked in the
/// transaction of the claim, under the lock that keeps holds waiting, by the clock of the database.
///
/// # Errors
/// With the reason why not.
pub fn may_claim(
    permit: Epoch,
    store: Epoch,
    in_force: &HoldSet,
    place: &Place,
    now: Timestamp,
) -> Result<(), ClaimRefusal> {
    if permit != store {
        return Err(ClaimRefusal::EpochMoved);
    }
    if in_force.stops(place, now).is_some() {
        return Err(ClaimRefusal::Held);
    }
    Ok(())
}

/// Says whether one batch may be taken: nobody has it, or the lease of whoever had it is over.
///
/// # Errors
/// When somebody has it.
pub fn may_take(lease: Option<Lease>, now: Timestamp) -> Result<(), ClaimRefusal> {
    match lease {
        Some(lease) if !lease.is_over(now) => Err(ClaimRefusal::Leased),
        Some(_) | None => Ok(()),
    }
}

/// A worker that brings back what became of the people of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Return {
    /// The worker.
    pub by: WorkerId,
    /// The fence of its claim.
    pub fence: Fence,
    /// Whether it is done with the batch.
    pub is_last: bool,
    /// Whether a hold covers the place of the batch.
    pub is_held: bool,
}

/// What becomes of a lease when outcomes come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// The batch has been claimed since: the outcomes are refused.
    Lost,
    /// The outcomes count, and the lease is moved on.
    Renewed,
    /// The outcomes count, and the lease ends when it would have.
    Kept,
    /// The outcomes count, and the lease is given back.
    Ended,
}

/// Decides what outcomes do to the lease of their batch, whose row carries `lease` and `fence`.
///
/// The fence decides and not the time: what comes late counts as long as nobody else has the batch.
#[must_use]
pub fn settle(lease: Option<Lease>, fence: Fence, back: Return) -> Settlement {
    let is_ours = lease.is_some_and(|lease| lease.owner == back.by) && fence == back.fence;
    match (is_ours, back.is_last, back.is_held) {
        (false, _, _) => Settlement::Lost,
        (true, true, _) => Settlement::Ended,
        (true, false, true) => Settlement::Kept,
        (true, false, false) => Settlement::Renewed,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::hold::{HoldKind, InForce, Scope};
    use crate::ids::{HoldId, RolloutId, TargetId, WaveNumber, from_millis};

    const WORKER: WorkerId = WorkerId::new(Uuid::from_u128(1));

    fn lease(until: i64) -> Option<Lease> {
        let until = from_millis(until).unwrap();
        Some(Lease {
            owner: WORKER,
            until,
        })
    }

    fn back(by: u128, fence: i64, is_last: bool, is_held: bool) -> Return {
        Return {
            by: WorkerId::new(Uuid::from_u128(by)),
            fence: Fence::new(fence),
            is_last,
            is_held,
        }
    }

    #[test]
    fn a_claim_needs_the_epoch_of_the_store_and_no_hold() {
        let place = Place::wave(
            TargetId::new(Uuid::from_u128(2)),
            RolloutId::new(Uuid::from_u128(3)),
            WaveNumber(1),
        );
        let halt = InForce {
            by_rule: false,
            id: HoldId::new(Uuid::from_u128(4)),
            kind: HoldKind::Halt,
            scope: Scope::Target(place.target),
            since: from_millis(0).unwrap(),
            reason: "stop".to_owned(),
            part: None,
            keeps: None,
        };
        let (none, held) = (HoldSet::default(), [halt].into_iter().collect());
        let may = |permit, store, holds| {
            may_claim(
                Epoch(permit),
                Epoch(store),
                holds,
                &place,
                from_millis(0).unwrap(),
            )
        };
        assert_eq!(may(7, 7, &none), Ok(()));
        assert_eq!(may(6, 7, &none), Err(ClaimRefusal::EpochMoved));
        assert_eq!(may(7, 7, &held), Err(ClaimRefusal::Held));
    }

    #[test]
    fn a_batch_is_taken_when_nobody_has_it() {
        let at = |millis| from_millis(millis).unwrap();
        assert_eq!(may_take(None, at(0)), Ok(()));
        assert_eq!(may_take(lease(10), at(9)), Err(ClaimRefusal::Leased));
        assert_eq!(may_take(lease(10), at(10)), Ok(()));
    }

    #[test]
    fn outcomes_of_a_lost_batch_are_refused_and_late_ones_count_until_then() {
        let fence = Fence::new(5);
        let settled = |back| settle(lease(10), fence, back);
        assert_eq!(settled(back(1, 5, false, false)), Settlement::Renewed);
        assert_eq!(settled(back(1, 5, true, true)), Settlement::Ended);
        assert_eq!(settled(back(1, 4, true, false)), Settlement::Lost);
        assert_eq!(settled(back(2, 5, true, false)), Settlement::Lost);
        assert_eq!(
            settle(None, fence, back(1, 5, true, false)),
            Settlement::Lost
        );
    }

    #[test]
    fn under_a_hold_no_lease_is_renewed() {
        let kept = settle(lease(10), Fence::new(5), back(1, 5, false, true));
        assert_eq!(kept, Settlement::Kept);
    }
}
