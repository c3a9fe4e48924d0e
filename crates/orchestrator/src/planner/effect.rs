//! What the shell must do besides storing the record, derived from where the waves stand.
//!
//! Effects follow from states, not from the path to them: whatever a crash has left undone, the next
//! pass asks for again.

use super::snapshot::{Snapshot, Wave};
use crate::ids::{ExemptionId, HoldId, Timestamp, WaveNumber};
use crate::ledger::SlotState;
use crate::rollout::{Claims, Rollout, WaveStatus};

/// One thing the shell must do, in the transaction that stores the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Let the batches of a wave be claimed, within these bounds.
    OpenClaims {
        /// The wave.
        wave: WaveNumber,
        /// The bounds.
        claims: Claims,
    },
    /// Let no batch of a wave be claimed any more.
    CloseClaims {
        /// The wave.
        wave: WaveNumber,
    },
    /// Place a gate hold on the rollout.
    PlaceGateHold {
        /// The wave whose gate failed.
        wave: WaveNumber,
        /// The name of the condition that failed.
        condition: String,
        /// Why: the reason of the hold.
        reason: String,
    },
    /// End the gate hold on the rollout: what failed has been queued again.
    EndGateHold {
        /// The hold.
        hold: HoldId,
    },
    /// Write down that an exemption is over, under an epoch of its own, so that the holds it named can be
    /// proved quiet again. It has let nothing go on since its time was over.
    EndExemption {
        /// The exemption.
        exemption: ExemptionId,
    },
    /// Queue the failed people of a wave again. May be done in parts: it is asked for until none is left.
    RequeueFailed {
        /// The wave.
        wave: WaveNumber,
    },
}

impl Effect {
    /// Returns the stable name of the effect.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OpenClaims { .. } => "open_claims",
            Self::CloseClaims { .. } => "close_claims",
            Self::PlaceGateHold { .. } => "place_gate_hold",
            Self::EndGateHold { .. } => "end_gate_hold",
            Self::EndExemption { .. } => "end_exemption",
            Self::RequeueFailed { .. } => "requeue_failed",
        }
    }
}

pub(super) fn effects(snapshot: &Snapshot<'_>, after: &Rollout, now: Timestamp) -> Vec<Effect> {
    let mut effects = Vec::new();
    effects.extend(gate_hold(snapshot, after));
    effects.extend(changed_claims(snapshot, after, now));
    if Snapshot::is_running(after) && snapshot.held(None, now).is_none() {
        effects.extend(requeues(snapshot, after, now));
    }
    effects.extend(exemptions(snapshot, after, now));
    effects
}

/// What is stored and what should be, side by side: also whatever a command or a crash has left.
fn changed_claims(snapshot: &Snapshot<'_>, after: &Rollout, now: Timestamp) -> Vec<Effect> {
    let is_running = Snapshot::is_running(after);
    let change = |wave: Wave<'_>| {
        let number = wave.number;
        // The hold itself stops every claim; closing them too lets nobody look for work that is held.
        let is_held = snapshot.held(Some(number), now).is_some();
        let is_free = is_running && !wave.facts.taking_back && !is_held;
        let wanted = wave.progress.claims().filter(|_| is_free);
        match wanted {
            wanted if wanted == wave.facts.claims => None,
            None => Some(Effect::CloseClaims { wave: number }),
            Some(claims) => Some(Effect::OpenClaims {
                wave: number,
                claims,
            }),
        }
    };
    snapshot.waves_of(after).filter_map(change).collect()
}

fn gate_hold(snapshot: &Snapshot<'_>, after: &Rollout) -> Option<Effect> {
    let own = snapshot.own_gate_hold();
    let failed = after
        .numbered()
        .find_map(|(wave, progress)| match &progress.status {
            WaveStatus::Failed {
                condition,
                sentence,
            } => Some((wave, condition, sentence)),
            WaveStatus::Pending {}
            | WaveStatus::Open {}
            | WaveStatus::Waiting {}
            | WaveStatus::Draining { .. }
            | WaveStatus::Soaking { .. }
            | WaveStatus::Gated {}
            | WaveStatus::Passed {}
            | WaveStatus::Retrying {} => None,
        });
    let is_retrying = after
        .waves
        .iter()
        .any(|progress| progress.status == WaveStatus::Retrying {});
    match (failed, own) {
        (Some(_), _) if after.lifecycle.is_over() => own.map(|hold| end(hold.id)),
        (Some((wave, condition, sentence)), None) => Some(Effect::PlaceGateHold {
            wave,
            condition: condition.clone(),
            reason: format!("the gate of wave {wave} failed: {sentence}"),
        }),
        (None, Some(hold)) if !is_retrying => Some(end(hold.id)),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

const fn end(hold: HoldId) -> Effect {
    Effect::EndGateHold { hold }
}

/// Its time is over, or nothing of the rollout is left to go on.
fn exemptions(snapshot: &Snapshot<'_>, after: &Rollout, now: Timestamp) -> Vec<Effect> {
    let rollout = snapshot.place.rollout;
    let own = snapshot
        .holds
        .exemptions()
        .filter(|one| one.rollout == rollout);
    let over = own.filter(|one| one.until <= now || after.lifecycle.is_over());
    over.map(|one| Effect::EndExemption { exemption: one.id })
        .collect()
}

fn requeues(snapshot: &Snapshot<'_>, after: &Rollout, now: Timestamp) -> Vec<Effect> {
    let retrying = |wave: &Wave<'_>| {
        wave.progress.status == WaveStatus::Retrying {}
            && snapshot.held(Some(wave.number), now).is_none()
            && wave.facts.tally.get(SlotState::Failed) > 0
    };
    snapshot
        .waves_of(after)
        .filter(retrying)
        .map(|wave| Effect::RequeueFailed { wave: wave.number })
        .collect()
}
