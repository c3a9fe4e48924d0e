//! What stands between a turn and the people of a wave: its ramp, its holds, the rate of the target.

use tidegate_orchestrator::ids::{TargetId, Timestamp};
use tidegate_orchestrator::lease::ClaimRefusal;
use tidegate_orchestrator::ledger::SlotState;

use super::super::rate::{Pace, RATE_AHEAD_US, Rate};
use crate::store::wave::WaveRow;
use crate::store::{StoreError, Txn, target};

/// How many people of a wave may still be begun by its ramp; `None`: everybody. Whoever is kept back takes a place.
pub(super) fn to_begin(wave: &WaveRow) -> Option<u64> {
    let gone = wave.tally.get(SlotState::Skipped)
        + wave.tally.get(SlotState::Departed)
        + wave.tally.get(SlotState::Transferred);
    let begun = wave
        .size
        .saturating_sub(gone)
        .saturating_sub(wave.tally.get(SlotState::Queued));
    wave.begin_at_most.map(|most| most.saturating_sub(begun))
}

pub(super) enum WaveDoor {
    Open,
    EpochMoved,
    Held,
    Closed,
}

/// Whether people of this wave may be claimed now.
pub(super) fn wave_door(
    wave: &WaveRow,
    may_claim: Result<(), ClaimRefusal>,
    now: Timestamp,
) -> WaveDoor {
    if !wave.claimable || wave.taking_back || wave.claim_until.is_some_and(|until| until <= now) {
        return WaveDoor::Closed;
    }
    match may_claim {
        Ok(()) => WaveDoor::Open,
        Err(ClaimRefusal::EpochMoved) => WaveDoor::EpochMoved,
        Err(ClaimRefusal::Held | ClaimRefusal::Leased) => WaveDoor::Held,
    }
}

/// The rate of the target within one turn.
pub(super) struct RateDoor {
    rate: Option<Rate>,
    tat_us: i64,
    now_us: i64,
    is_moved: bool,
}

impl RateDoor {
    pub(super) fn new(rate: Option<Rate>, tat_us: i64, now: Timestamp) -> Self {
        Self {
            rate,
            tat_us,
            now_us: now.timestamp_micros(),
            is_moved: false,
        }
    }

    /// How many of `wanted` people there is room for; nobody before the instant returned.
    pub(super) fn room(&self, wanted: u32) -> Result<u32, Timestamp> {
        let Some(rate) = self.rate else {
            return Ok(wanted);
        };
        // Half a second's worth at least: a claim for each single person would be a transaction and an
        // audit entry for each.
        let least = rate
            .people_within(RATE_AHEAD_US / 2)
            .clamp(1, wanted.max(1));
        match rate.grant(self.tat_us, self.now_us, RATE_AHEAD_US, wanted) {
            Some(grant) if grant.people >= least => Ok(grant.people),
            _ => {
                let open_us = rate
                    .open_us_for(self.tat_us, RATE_AHEAD_US, least)
                    .max(self.now_us + 1);
                Err(Timestamp::from_timestamp_micros(open_us).unwrap_or(Timestamp::MAX_UTC))
            }
        }
    }

    /// Takes the room of `people` and returns when each of them may begin.
    pub(super) fn take(&mut self, people: u32) -> Option<Pace> {
        let grant = self
            .rate?
            .grant(self.tat_us, self.now_us, RATE_AHEAD_US, people)?;
        self.tat_us = grant.tat_us;
        self.is_moved = true;
        Some(grant.pace)
    }

    pub(super) async fn save(&self, txn: &mut Txn, target: TargetId) -> Result<(), StoreError> {
        if self.is_moved {
            target::target_rate_set(txn, target, self.tat_us).await?;
        }
        Ok(())
    }
}
