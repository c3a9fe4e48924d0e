//! What happens next, and why nothing does: one pure pass over everything that is known.
//!
//! `step` is idempotent: whoever applies its events and effects and asks again at the same instant is
//! told to do nothing. A timer, a restart, a second replica and a year's sleep all run the same pass.
//!
//! * Protective acts come first, under any hold: a gate that fails latches before anything advances.
//! * Permission to advance needs everything at once: no hold, an open window, and every earlier wave
//!   passed, measured in this very pass.
//! * At most one wave opens per pass, however many windows were missed.
//!
//! `snapshot` is what goes in, `advance` the order of events, `effect` what the shell must do,
//! `report` the sentences, `wake` the next look.

mod advance;
pub mod effect;
pub mod report;
pub mod snapshot;
mod wake;

pub use self::effect::Effect;
pub use self::report::{Report, ReportLine};
pub use self::snapshot::{Approval, Snapshot, WaveFacts};
use crate::ids::{Timestamp, as_stored};
use crate::rollout::{Event, Rollout};

/// What one pass comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What happened to the rollout, in order; the shell applies, stores and audits them.
    pub events: Vec<Event>,
    /// What else the shell must do, in the same transaction.
    pub effects: Vec<Effect>,
    /// The rollout after the events.
    pub rollout: Rollout,
    /// Why it moves or does not, after the events.
    pub report: Report,
    /// When to look again at the latest; `None`: nothing changes until somebody does something.
    /// Always after `now`.
    pub wake_at: Option<Timestamp>,
}

/// Says what happens next to a rollout.
#[must_use]
pub fn step(snapshot: &Snapshot<'_>, now: Timestamp) -> Step {
    let now = as_stored(now);
    let (rollout, events) = advance::advance(snapshot, now);
    let effects = effect::effects(snapshot, &rollout, now);
    let report = report::report(snapshot, &rollout, now);
    let wake_at = wake::wake_at(snapshot, &rollout, now);
    Step {
        events,
        effects,
        rollout,
        report,
        wake_at,
    }
}

#[cfg(test)]
mod tests;
