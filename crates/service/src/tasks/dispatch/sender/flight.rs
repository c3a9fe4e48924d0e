//! A batch under way: what came back of it, in the words of the ledger.

use chrono::TimeDelta;
use tidegate_orchestrator::ids::{Ordinal, Timestamp};
use tidegate_orchestrator::ledger::{ClaimedSlot, Outcome, SlotIndex, SlotState, receipt};
use tidegate_orchestrator::permit::Monotonic;

use crate::connector::{Lease, SendResult, Trouble};
use crate::store::failure::FailureRow;
use crate::tasks::dispatch::turn::{Claimed, Finished};

/// The first wait before somebody is tried again; it doubles with every attempt.
const RETRY_FIRST_MS: i64 = 2000;
/// The longest.
const RETRY_MAX_MS: i64 = 300_000;
/// The code of a target that asks for patience.
const THROTTLED: &str = "throttled";
/// Somebody who was told to come back so often has failed.
const ATTEMPTS_MAX: u8 = 8;

/// A batch under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) claimed: Claimed,
    pub(super) ordinals: Vec<Ordinal>,
    /// Until when its people may be begun; moved on by every turn that renews it.
    pub(super) lease: Lease,
    /// When the lease was last asked for.
    pub(super) leased_at: Monotonic,
    /// Whether everybody has come back.
    pub(super) ended: bool,
    outcomes: Vec<(SlotIndex, Outcome)>,
    failures: Vec<FailureRow>,
    recovered: Vec<Ordinal>,
    receipt: Vec<u8>,
    part: u32,
}

impl Flight {
    /// Begins a flight in which nobody has come back yet.
    pub(super) fn new(
        claimed: Claimed,
        ordinals: Vec<Ordinal>,
        lease: Lease,
        leased_at: Monotonic,
    ) -> Self {
        Self {
            claimed,
            ordinals,
            lease,
            leased_at,
            ended: false,
            outcomes: Vec::new(),
            failures: Vec::new(),
            recovered: Vec::new(),
            receipt: Vec::new(),
            part: 0,
        }
    }

    /// Says whether somebody has come back since the last turn.
    pub(super) fn has_news(&self) -> bool {
        !self.outcomes.is_empty()
    }

    /// Takes in what became of one person.
    pub(super) fn take(&mut self, index: SlotIndex, result: SendResult, now: Timestamp) {
        // People are claimed in order of place, so each is found without looking through the batch.
        let slots = &self.claimed.slots;
        let found = slots.binary_search_by_key(&index, |slot| slot.index).ok();
        let slot = found.and_then(|place| slots.get(place)).copied();
        let (Some(slot), Some(ordinal)) = (slot, self.ordinals.get(index.get()).copied()) else {
            return;
        };
        if let SendResult::Done {
            remote_id: Some(remote_id),
            ..
        } = &result
        {
            receipt::push(&mut self.receipt, index, remote_id);
        }
        let (outcome, trouble) = outcome_of(result, slot, ordinal, now);
        let state = match outcome {
            Outcome::Failed => Some(SlotState::Failed),
            Outcome::Review => Some(SlotState::Review),
            Outcome::Retry { .. } => Some(SlotState::Retry),
            Outcome::Unknown { .. } => Some(SlotState::Unknown),
            Outcome::Done { .. }
            | Outcome::Accepted { .. }
            | Outcome::NotSent { .. }
            | Outcome::Departed => None,
        };
        if let (Some(state), Some(trouble)) = (state, trouble) {
            self.failures.push(FailureRow {
                ordinal,
                wave: self.claimed.address.wave,
                state,
                code: trouble.code,
                message: trouble.message,
                attempts: u32::from(slot.attempt),
                at: now,
            });
        } else if slot.attempt > 1 && matches!(outcome, Outcome::Done { .. }) {
            self.recovered.push(ordinal);
        }
        self.outcomes.push((index, outcome));
    }

    /// Hands over what came back, for the next turn.
    pub(super) fn finish(&mut self, is_last: bool) -> Finished {
        let receipt = std::mem::take(&mut self.receipt);
        let part = self.part;
        self.part += u32::from(!receipt.is_empty());
        Finished {
            address: self.claimed.address,
            fence: self.claimed.fence,
            outcomes: std::mem::take(&mut self.outcomes),
            failures: std::mem::take(&mut self.failures),
            recovered: std::mem::take(&mut self.recovered),
            receipt: (!receipt.is_empty()).then_some((part, receipt)),
            is_last,
        }
    }
}

/// Says what the ledger remembers of a result, and what is told to whoever looks at it.
fn outcome_of(
    result: SendResult,
    slot: ClaimedSlot,
    ordinal: Ordinal,
    now: Timestamp,
) -> (Outcome, Option<Trouble>) {
    let (attempt, doubtful) = (slot.attempt, slot.doubtful);
    match result {
        SendResult::Done { adopted, .. } => (Outcome::Done { adopted }, None),
        SendResult::Failed(trouble) => (Outcome::Failed, Some(trouble)),
        SendResult::Review(trouble) => (Outcome::Review, Some(trouble)),
        SendResult::NotSent(_) => (Outcome::NotSent { doubtful }, None),
        // A target that asks for patience is no reason to give a person up.
        SendResult::Retry { trouble, .. } | SendResult::Unknown(trouble)
            if attempt >= ATTEMPTS_MAX && !doubtful && trouble.code != THROTTLED =>
        {
            let message = format!("given up after {attempt} attempts: {}", trouble.message);
            (Outcome::Failed, Some(Trouble { message, ..trouble }))
        }
        SendResult::Retry { after, trouble } => {
            let wait = after.and_then(|after| TimeDelta::from_std(after).ok());
            let wait = wait.unwrap_or_else(|| back_off(attempt, ordinal));
            (
                Outcome::Retry {
                    not_before: now + wait,
                },
                Some(trouble),
            )
        }
        SendResult::Unknown(trouble) => {
            let not_before = now + back_off(attempt, ordinal);
            (Outcome::Unknown { not_before }, Some(trouble))
        }
    }
}

/// Waits twice as long after every attempt, give or take a quarter that differs from person to person.
fn back_off(attempt: u8, ordinal: Ordinal) -> TimeDelta {
    let doubled = RETRY_FIRST_MS
        .saturating_mul(1_i64 << attempt.saturating_sub(1).min(20))
        .min(RETRY_MAX_MS);
    let spread = i64::from(ordinal.get().wrapping_mul(2_654_435_761) >> 16) % 1000;
    TimeDelta::milliseconds(doubled - doubled / 4 + doubled / 2 * spread / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_differ_from_person_to_person() {
        let wait = |attempt, person| back_off(attempt, Ordinal(person)).num_milliseconds();
        assert!((1500..=2500).contains(&wait(1, 7)));
        assert!((6000..=10_000).contains(&wait(3, 7)));
        assert!(wait(200, 7) <= RETRY_MAX_MS * 5 / 4);
        assert_ne!(wait(3, 7), wait(3, 8));
    }
}
