//! What has happened to a rollout, and what that makes of it. Applying is total.

use serde::{Deserialize, Serialize};

use super::{Lifecycle, PlanRef, Rollout, Started, Unprepared, WaveProgress, WaveStatus};
use crate::digest::Digest;
use crate::ids::{Principal, Timestamp, WaveNumber};
use crate::wave::ramp::{Reentry, Tranche};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    pub change: Change,
}

/// What happened. The names are those of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// The spec changed, so that the plan no longer stands.
    Revised {
        /// Who changed it.
        by: Principal,
    },
    /// A plan was made.
    Planned {
        /// The plan.
        plan: PlanRef,
    },
    /// Somebody started the plan.
    Started {
        /// Who.
        by: Principal,
    },
    /// A part of the ledger was laid out.
    PreparedTo {
        /// Where to go on.
        next: Unprepared,
    },
    /// The whole ledger was laid out.
    Prepared {},
    /// Somebody ended the rollout for good.
    Cancelled {
        /// Who.
        by: Principal,
        /// Why.
        reason: String,
    },
    /// Somebody said yes to what a wave has shown.
    WaveApproved {
        /// The wave.
        wave: WaveNumber,
        /// Who.
        by: Principal,
        /// The digest of the plan that runs.
        digest: Digest,
    },
    /// Somebody asked to try the failed people of a wave again.
    RetryBegan {
        /// The wave.
        wave: WaveNumber,
        /// Who.
        by: Principal,
        /// Why.
        reason: String,
    },
    /// A wave has people to begin again, and waits for its window.
    WaveReopened {
        /// The wave.
        wave: WaveNumber,
    },
    /// A wave was opened, for the first time or in a further window.
    WaveOpened {
        /// The wave.
        wave: WaveNumber,
        /// The end of its window.
        until: Option<Timestamp>,
        /// How many people may be begun.
        tranche: Option<Tranche>,
    },
    /// The window of a wave ended.
    WindowClosed {
        /// The wave.
        wave: WaveNumber,
    },
    /// The ramp of a wave grew.
    TrancheGrown {
        /// The wave.
        wave: WaveNumber,
        /// How many people may be begun now.
        tranche: Tranche,
    },
    /// Everybody of a wave has been begun.
    WaveDrained {
        /// The wave.
        wave: WaveNumber,
        /// When the silent are no longer waited for.
        until: Timestamp,
    },
    /// A wave rests.
    SoakBegan {
        /// The wave.
        wave: WaveNumber,
        /// When the rest is over.
        until: Timestamp,
    },
    /// A wave has rested.
    SoakEnded {
        /// The wave.
        wave: WaveNumber,
    },
    /// The gate of a wave failed; the verdict stays until somebody retries.
    GateFailed {
        /// The wave.
        wave: WaveNumber,
        /// The name of the condition that failed.
        condition: String,
        /// Why, with the figures of that instant.
        sentence: String,
    },
    /// The gate of a wave passed.
    WavePassed {
        /// The wave.
        wave: WaveNumber,
    },
    /// Every wave has passed.
    Completed {},
    /// A halt was released: the rollout goes on, small at first.
    WentOn {
        /// How small.
        reentry: Reentry,
        /// The wave that alone was halted, if it was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wave: Option<WaveNumber>,
    },
    /// The plan was brought up to the people there are now. Waves keep what they have come to; later
    /// ones may have been added.
    Rebased {
        /// The plan from now on.
        plan: PlanRef,
    },
}

impl Change {
    /// Returns the stable name of what happened, as it goes into the audit trail.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Revised { .. } => "rollout.revised",
            Self::Planned { .. } => "rollout.planned",
            Self::Started { .. } => "rollout.started",
            Self::PreparedTo { .. } => "rollout.prepared_to",
            Self::Prepared {} => "rollout.prepared",
            Self::Cancelled { .. } => "rollout.cancelled",
            Self::WaveApproved { .. } => "wave.approved",
            Self::RetryBegan { .. } => "wave.retry_began",
            Self::WaveReopened { .. } => "wave.reopened",
            Self::WaveOpened { .. } => "wave.opened",
            Self::WindowClosed { .. } => "wave.window_closed",
            Self::TrancheGrown { .. } => "wave.tranche_grown",
            Self::WaveDrained { .. } => "wave.drained",
            Self::SoakBegan { .. } => "wave.soak_began",
            Self::SoakEnded { .. } => "wave.soak_ended",
            Self::GateFailed { .. } => "wave.gate_failed",
            Self::WavePassed { .. } => "wave.passed",
            Self::Completed {} => "rollout.completed",
            Self::WentOn { .. } => "rollout.went_on",
            Self::Rebased { .. } => "rollout.rebased",
        }
    }

    /// Returns the wave it happened to, if it was one wave.
    #[must_use]
    pub const fn wave(&self) -> Option<WaveNumber> {
        match self {
            Self::WaveApproved { wave, .. }
            | Self::RetryBegan { wave, .. }
            | Self::WaveReopened { wave }
            | Self::WaveOpened { wave, .. }
            | Self::WindowClosed { wave }
            | Self::TrancheGrown { wave, .. }
            | Self::WaveDrained { wave, .. }
            | Self::SoakBegan { wave, .. }
            | Self::SoakEnded { wave }
            | Self::GateFailed { wave, .. }
            | Self::WavePassed { wave } => Some(*wave),
            Self::Revised { .. }
            | Self::Planned { .. }
            | Self::Started { .. }
            | Self::PreparedTo { .. }
            | Self::Prepared {}
            | Self::Cancelled { .. }
            | Self::WentOn { .. }
            | Self::Rebased { .. }
            | Self::Completed {} => None,
        }
    }
}

impl Rollout {
    /// Returns the rollout after an event. An event that does not fit changes nothing.
    #[must_use]
    pub fn apply(mut self, event: &Event) -> Self {
        let at = event.at;
        match &event.change {
            Change::Revised { .. } => self.lifecycle = Lifecycle::Draft {},
            Change::Planned { plan } => {
                self.lifecycle = Lifecycle::Planned { plan: plan.clone() };
            }
            Change::Started { by } => self.start(by, at),
            Change::PreparedTo { next } => self.prepared_to(*next),
            Change::Prepared {} => self.prepared(),
            Change::Cancelled { by, reason } => {
                self.lifecycle = Lifecycle::Cancelled {
                    plan: self.lifecycle.plan().cloned(),
                    by: by.clone(),
                    at,
                    reason: reason.clone(),
                };
            }
            Change::Completed {} => self.complete(at),
            Change::WentOn { reentry, wave } => self.went_on(*reentry, *wave, at),
            Change::Rebased { plan } => self.rebased(plan, at),
            Change::WaveApproved { .. } => {}
            Change::RetryBegan { wave, .. }
            | Change::WaveReopened { wave }
            | Change::WaveOpened { wave, .. }
            | Change::WindowClosed { wave }
            | Change::TrancheGrown { wave, .. }
            | Change::WaveDrained { wave, .. }
            | Change::SoakBegan { wave, .. }
            | Change::SoakEnded { wave }
            | Change::GateFailed { wave, .. }
            | Change::WavePassed { wave } => {
                if let Some(progress) = self.wave_mut(*wave) {
                    progress.apply(&event.change, at);
                    if matches!(event.change, Change::WaveOpened { .. }) {
                        // The tranche of the wave says from now on how far it may go.
                        let is_its_own = progress.reentry.take().is_some();
                        self.last_opened_at = Some(at);
                        self.reentry = self.reentry.filter(|_| is_its_own);
                    }
                }
            }
        }
        self
    }

    fn start(&mut self, by: &Principal, at: Timestamp) {
        let Lifecycle::Planned { plan } = &self.lifecycle else {
            return;
        };
        let plan = plan.clone();
        self.waves = (0..plan.waves).map(|_| WaveProgress::pending(at)).collect();
        self.lifecycle = Lifecycle::Preparing {
            plan,
            started: Started { by: by.clone(), at },
            next: Unprepared::FIRST,
        };
    }

    fn prepared_to(&mut self, to: Unprepared) {
        if let Lifecycle::Preparing { next, .. } = &mut self.lifecycle {
            // Two workers may prepare at once; neither takes the other's progress back.
            *next = to.max(*next);
        }
    }

    fn prepared(&mut self) {
        if let Lifecycle::Preparing { plan, started, .. } = &self.lifecycle {
            self.lifecycle = Lifecycle::Running {
                plan: plan.clone(),
                started: started.clone(),
            };
        }
    }

    /// Whoever was open waits, so that it opens again as one that re-enters.
    fn went_on(&mut self, reentry: Reentry, only: Option<WaveNumber>, at: Timestamp) {
        if only.is_none() {
            self.reentry = Some(reentry);
        }
        let numbered = (1..).map(WaveNumber).zip(&mut self.waves);
        for (_, wave) in numbered.filter(|(number, _)| only.is_none_or(|only| only == *number)) {
            if only.is_some() {
                wave.reentry = Some(reentry);
            }
            if matches!(
                wave.status,
                WaveStatus::Open {} | WaveStatus::Draining { .. }
            ) {
                wave.window_until = None;
                // The silent are waited for anew: nothing was asked of them while it was halted.
                wave.drained_at = None;
                wave.enter(WaveStatus::Waiting {}, at);
            }
        }
    }

    fn rebased(&mut self, to: &PlanRef, at: Timestamp) {
        let Some(started) = self.lifecycle.started().cloned() else {
            return;
        };
        let waves = usize::try_from(to.waves).unwrap_or(self.waves.len());
        while self.waves.len() < waves {
            self.waves.push(WaveProgress::pending(at));
        }
        self.lifecycle = Lifecycle::Preparing {
            plan: to.clone(),
            started,
            next: Unprepared::FIRST,
        };
    }

    fn complete(&mut self, at: Timestamp) {
        if let Lifecycle::Running { plan, .. } = &self.lifecycle {
            let plan = plan.clone();
            self.lifecycle = Lifecycle::Completed { plan, at };
        }
    }
}

impl WaveProgress {
    fn apply(&mut self, change: &Change, at: Timestamp) {
        match change {
            Change::RetryBegan { .. } => {
                self.retries = self.retries.saturating_add(1);
                self.drained_at = None;
                self.enter(WaveStatus::Retrying {}, at);
            }
            Change::WaveReopened { .. } => {
                self.drained_at = None;
                self.window_until = None;
                self.enter(WaveStatus::Waiting {}, at);
            }
            Change::WaveOpened { until, tranche, .. } => {
                self.opened_at = self.opened_at.or(Some(at));
                self.window_until = *until;
                self.tranche = *tranche;
                self.enter(WaveStatus::Open {}, at);
            }
            Change::WindowClosed { .. } => {
                self.window_until = None;
                self.enter(WaveStatus::Waiting {}, at);
            }
            Change::TrancheGrown { tranche, .. } => self.tranche = Some(*tranche),
            Change::WaveDrained { until, .. } => {
                self.drained_at = self.drained_at.or(Some(at));
                self.window_until = Some(*until);
                self.enter(WaveStatus::Draining { until: *until }, at);
            }
            Change::SoakBegan { until, .. } => {
                self.window_until = None;
                self.enter(WaveStatus::Soaking { until: *until }, at);
            }
            Change::SoakEnded { .. } => self.enter(WaveStatus::Gated {}, at),
            Change::GateFailed {
                condition,
                sentence,
                ..
            } => {
                let (condition, sentence) = (condition.clone(), sentence.clone());
                self.window_until = None;
                let failed = WaveStatus::Failed {
                    condition,
                    sentence,
                };
                self.enter(failed, at);
            }
            Change::WavePassed { .. } => self.enter(WaveStatus::Passed {}, at),
            Change::Revised { .. }
            | Change::Planned { .. }
            | Change::Started { .. }
            | Change::PreparedTo { .. }
            | Change::Prepared {}
            | Change::Cancelled { .. }
            | Change::WaveApproved { .. }
            | Change::WentOn { .. }
            | Change::Rebased { .. }
            | Change::Completed {} => {}
        }
    }
}
