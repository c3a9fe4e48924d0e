//! What people may ask of a rollout, and what comes of it: one function per command.

use super::{Change, Event, Lifecycle, PlanRef, Refusal, Rollout, Unprepared, WaveStatus};
use crate::digest::Digest;
use crate::hold::{HoldKind, InForce};
use crate::ids::{Principal, Timestamp, WaveNumber, as_stored};
use crate::wave::ramp::Reentry;
use crate::wave::soak::Seconds;

/// How late a plan may be started. A week covers an approval over a holiday; beyond it the dates that
/// were looked at are not the dates that would run.
pub const START_GRACE: Seconds = Seconds(7 * 86_400);

/// What somebody asks of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Change the spec.
    Revise {
        /// Who.
        by: Principal,
    },
    /// Bind a plan that has been compiled.
    Plan {
        /// The plan; its maker is whoever asks.
        plan: PlanRef,
    },
    /// Start exactly the plan that was looked at.
    Start {
        /// Its digest.
        digest: Digest,
        /// Who.
        by: Principal,
    },
    /// Tell how much of the ledger has been laid out.
    Prepare {
        /// Where to go on; `None` when everything is there.
        next: Option<Unprepared>,
    },
    /// Go on after a halt was released. Whether that may be is decided before (`crate::hold`).
    GoOn {
        /// The plan for the people there are now, when they are others than those it was made for.
        plan: Option<PlanRef>,
        /// How small it begins again.
        reentry: Reentry,
        /// The wave that alone was halted, if it was one: the others have gone on meanwhile.
        wave: Option<WaveNumber>,
    },
    /// End it for good.
    Cancel {
        /// Who.
        by: Principal,
        /// Why.
        reason: String,
    },
    /// Say yes to what a wave has shown.
    ApproveWave {
        /// The wave.
        wave: WaveNumber,
        /// The digest of the plan that runs.
        digest: Digest,
        /// Who.
        by: Principal,
    },
    /// Try the failed people again, of one wave or of every wave that has been open and not passed.
    RetryFailed {
        /// The wave.
        wave: Option<WaveNumber>,
        /// Who.
        by: Principal,
        /// Why.
        reason: String,
    },
}

impl Command {
    /// Returns the stable name of the command.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Revise { .. } => "revise",
            Self::Plan { .. } => "plan",
            Self::Start { .. } => "start",
            Self::Prepare { .. } => "prepare",
            Self::GoOn { .. } => "go_on",
            Self::Cancel { .. } => "cancel",
            Self::ApproveWave { .. } => "approve_wave",
            Self::RetryFailed { .. } => "retry_failed",
        }
    }
}

impl Rollout {
    /// Decides a command. No event means that it has been done before.
    ///
    /// `held` is the most severe hold that covers the rollout, or the wave the command names. A pause
    /// or a halt refuses whatever leads on; a gate hold does not refuse the retry that leads out of it.
    ///
    /// # Errors
    /// When the domain says no; nothing changes.
    pub fn decide(
        &self,
        command: &Command,
        held: Option<&InForce>,
        now: Timestamp,
    ) -> Result<Vec<Event>, Refusal> {
        let changes = match command {
            Command::Revise { by } => self.revise(by),
            Command::Plan { plan } => self.bind_plan(plan),
            Command::Start { digest, by } => self.begin(*digest, by, held, now),
            Command::Prepare { next } => self.prepare(*next, held),
            Command::GoOn {
                plan,
                reentry,
                wave,
            } => Ok(self.go_on(plan.as_ref(), *reentry, *wave)),
            Command::Cancel { by, reason } => self.cancel(by, reason),
            Command::ApproveWave { wave, digest, by } => self.approve(*wave, *digest, by, held),
            Command::RetryFailed { wave, by, reason } => self.retry(*wave, by, reason, held),
        }?;
        let at = as_stored(now);
        let event = |change| Event { at, change };
        Ok(changes.into_iter().map(event).collect())
    }

    fn revise(&self, by: &Principal) -> Result<Vec<Change>, Refusal> {
        self.refuse_started()?;
        Ok(vec![Change::Revised { by: by.clone() }])
    }

    fn bind_plan(&self, plan: &PlanRef) -> Result<Vec<Change>, Refusal> {
        self.refuse_started()?;
        if plan.waves == 0 {
            return Err(Refusal::PlanEmpty);
        }
        Ok(vec![Change::Planned { plan: plan.clone() }])
    }

    fn begin(
        &self,
        digest: Digest,
        by: &Principal,
        held: Option<&InForce>,
        now: Timestamp,
    ) -> Result<Vec<Change>, Refusal> {
        self.refuse_over()?;
        let plan = self.lifecycle.plan().ok_or(Refusal::PlanMissing)?;
        if self.lifecycle.started().is_some() {
            let again = plan.digest == digest;
            return if again {
                Ok(Vec::new())
            } else {
                Err(Refusal::AlreadyStarted)
            };
        }
        check_digest(digest, plan)?;
        refuse_stopped(held)?;
        if let Some(opens_at) = plan.opens_at
            && START_GRACE.has_passed(opens_at, now)
        {
            return Err(Refusal::PlanOverdue { opens_at });
        }
        Ok(vec![Change::Started { by: by.clone() }])
    }

    fn prepare(
        &self,
        next: Option<Unprepared>,
        held: Option<&InForce>,
    ) -> Result<Vec<Change>, Refusal> {
        self.refuse_over()?;
        match &self.lifecycle {
            Lifecycle::Preparing { .. } => {
                // What is laid out anew for other people moves nobody, and must come to an end before
                // they can be measured again: a hold stops the first laying out alone.
                if !self.has_opened() {
                    refuse_stopped(held)?;
                }
                Ok(vec![match next {
                    Some(next) => Change::PreparedTo { next },
                    None => Change::Prepared {},
                }])
            }
            // Another worker has finished first.
            Lifecycle::Running { .. } => Ok(Vec::new()),
            Lifecycle::Draft {}
            | Lifecycle::Planned { .. }
            | Lifecycle::Completed { .. }
            | Lifecycle::Cancelled { .. } => Err(Refusal::NotStarted),
        }
    }

    /// What has not started, or has ended, has nothing to go on with.
    fn go_on(
        &self,
        plan: Option<&PlanRef>,
        reentry: Reentry,
        wave: Option<WaveNumber>,
    ) -> Vec<Change> {
        if self.lifecycle.started().is_none() {
            return Vec::new();
        }
        let rebased = plan.map(|plan| Change::Rebased { plan: plan.clone() });
        let mut changes = vec![Change::WentOn { reentry, wave }];
        changes.extend(rebased);
        changes
    }

    fn cancel(&self, by: &Principal, reason: &str) -> Result<Vec<Change>, Refusal> {
        if matches!(self.lifecycle, Lifecycle::Cancelled { .. }) {
            return Ok(Vec::new());
        }
        self.refuse_over()?;
        check_reason(reason)?;
        let (by, reason) = (by.clone(), reason.to_owned());
        Ok(vec![Change::Cancelled { by, reason }])
    }

    fn approve(
        &self,
        wave: WaveNumber,
        digest: Digest,
        by: &Principal,
        held: Option<&InForce>,
    ) -> Result<Vec<Change>, Refusal> {
        let plan = self.running_plan()?;
        check_digest(digest, plan)?;
        refuse_stopped(held)?;
        let starter = self.lifecycle.started().map(|started| &started.by);
        if plan.made_by == *by || starter == Some(by) {
            return Err(Refusal::SelfApproval { by: by.clone() });
        }
        let progress = self.wave(wave).ok_or(Refusal::WaveUnknown { wave })?;
        let status = progress.status.name();
        match progress.status {
            WaveStatus::Gated {} => {
                let by = by.clone();
                Ok(vec![Change::WaveApproved { wave, by, digest }])
            }
            WaveStatus::Passed {} | WaveStatus::Failed { .. } => {
                Err(Refusal::ApprovalUseless { wave, status })
            }
            WaveStatus::Pending {}
            | WaveStatus::Open {}
            | WaveStatus::Waiting {}
            | WaveStatus::Draining { .. }
            | WaveStatus::Soaking { .. }
            | WaveStatus::Retrying {} => Err(Refusal::ApprovalTooEarly { wave, status }),
        }
    }

    fn retry(
        &self,
        wave: Option<WaveNumber>,
        by: &Principal,
        reason: &str,
        held: Option<&InForce>,
    ) -> Result<Vec<Change>, Refusal> {
        self.running_plan()?;
        check_reason(reason)?;
        refuse_stopped(held)?;
        if let Some(wave) = wave
            && self.wave(wave).is_none()
        {
            return Err(Refusal::WaveUnknown { wave });
        }
        // A wave that has passed is taken up again only by name: it would hold back the later ones.
        let named = self.numbered().filter(|(number, progress)| match wave {
            Some(wave) => wave == *number,
            None => progress.status != WaveStatus::Passed {},
        });
        let tried: Vec<_> = named
            .filter(|(_, progress)| progress.status != WaveStatus::Pending {})
            .collect();
        if tried.is_empty() {
            return Err(Refusal::NothingToRetry);
        }
        Ok(tried
            .into_iter()
            .filter(|(_, progress)| progress.status != WaveStatus::Retrying {})
            .map(|(wave, _)| Change::RetryBegan {
                wave,
                by: by.clone(),
                reason: reason.to_owned(),
            })
            .collect())
    }

    const fn refuse_over(&self) -> Result<(), Refusal> {
        if self.lifecycle.is_over() {
            let lifecycle = self.lifecycle.name();
            return Err(Refusal::Over { lifecycle });
        }
        Ok(())
    }

    fn refuse_started(&self) -> Result<(), Refusal> {
        self.refuse_over()?;
        match self.lifecycle.started() {
            None => Ok(()),
            Some(_) => Err(Refusal::AlreadyStarted),
        }
    }

    fn running_plan(&self) -> Result<&PlanRef, Refusal> {
        self.refuse_over()?;
        match &self.lifecycle {
            Lifecycle::Running { plan, .. } => Ok(plan),
            Lifecycle::Draft {}
            | Lifecycle::Planned { .. }
            | Lifecycle::Preparing { .. }
            | Lifecycle::Completed { .. }
            | Lifecycle::Cancelled { .. } => Err(Refusal::NotStarted),
        }
    }
}

fn check_digest(given: Digest, plan: &PlanRef) -> Result<(), Refusal> {
    let current = plan.digest;
    if given == current {
        Ok(())
    } else {
        Err(Refusal::PlanStale { given, current })
    }
}

fn check_reason(reason: &str) -> Result<(), Refusal> {
    if reason.trim().is_empty() {
        Err(Refusal::ReasonMissing)
    } else {
        Ok(())
    }
}

/// A freeze only delays, and a gate hold is left by what it refuses to nobody: neither says no here.
fn refuse_stopped(held: Option<&InForce>) -> Result<(), Refusal> {
    match held {
        Some(hold) if matches!(hold.kind, HoldKind::Pause | HoldKind::Halt) => Err(hold.into()),
        Some(_) | None => Ok(()),
    }
}
