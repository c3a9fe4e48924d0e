//! The domain says no to a command: a stable code, and a sentence that says what to do instead.

use thiserror::Error;

use crate::digest::Digest;
use crate::hold::{HoldKind, InForce};
use crate::ids::{HoldId, Principal, Timestamp, WaveNumber};
use crate::sentence::instant;

/// Why a command was refused. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// What cannot be taken back needs a reason.
    #[error("this needs a reason")]
    ReasonMissing,
    /// There is nothing to start.
    #[error("the rollout has no plan yet: make one, look at it, and start its digest")]
    PlanMissing,
    /// A plan without a wave moves nobody.
    #[error("the plan has no wave")]
    PlanEmpty,
    /// What was looked at is not what would run.
    #[error(
        "plan `{given}` is not the plan of the rollout, which is `{current}`: look at it again"
    )]
    PlanStale {
        /// What was named.
        given: Digest,
        /// What would run.
        current: Digest,
    },
    /// A start time that passed long ago asks again.
    #[error(
        "the first wave was to open at {}, long before now: plan again, look at the new dates, and \
         start that",
        instant(*.opens_at)
    )]
    PlanOverdue {
        /// When the first wave was to open.
        opens_at: Timestamp,
    },
    /// A started rollout keeps its plan.
    #[error("the rollout has started, and keeps its plan: cancel it, or make another rollout")]
    AlreadyStarted,
    /// It has not been started.
    #[error("the rollout has not been started")]
    NotStarted,
    /// It has ended for good.
    #[error("the rollout is {lifecycle}, and stays so")]
    Over {
        /// The name of its lifecycle.
        lifecycle: &'static str,
    },
    /// Nothing goes on under a hold.
    #[error(
        "{} `{id}` has been in force since {}: {reason}",
        kind.name(), instant(*.since)
    )]
    Held {
        /// The hold.
        id: HoldId,
        /// Whose stop it is.
        kind: HoldKind,
        /// Since when.
        since: Timestamp,
        /// Why.
        reason: String,
    },
    /// There is no such wave.
    #[error("the rollout has no wave {wave}")]
    WaveUnknown {
        /// The wave that was named.
        wave: WaveNumber,
    },
    /// There is nothing to approve yet.
    #[error(
        "wave {wave} is {status}: an approval is for what a wave has shown, so it can be given once \
         the wave has soaked"
    )]
    ApprovalTooEarly {
        /// The wave.
        wave: WaveNumber,
        /// The name of its status.
        status: &'static str,
    },
    /// There is nothing to approve any more.
    #[error("wave {wave} is {status}, and takes no approval")]
    ApprovalUseless {
        /// The wave.
        wave: WaveNumber,
        /// The name of its status.
        status: &'static str,
    },
    /// Nobody approves their own plan.
    #[error("`{by}` made or started this plan, and cannot approve it")]
    SelfApproval {
        /// Who tried.
        by: Principal,
    },
    /// No wave has been open yet.
    #[error("nothing has been tried yet, so there is nothing to try again")]
    NothingToRetry,
}

impl Refusal {
    /// Returns the stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ReasonMissing => "reason_missing",
            Self::PlanMissing => "plan_missing",
            Self::PlanEmpty => "plan_empty",
            Self::PlanStale { .. } => "plan_stale",
            Self::PlanOverdue { .. } => "plan_overdue",
            Self::AlreadyStarted => "already_started",
            Self::NotStarted => "not_started",
            Self::Over { .. } => "rollout_over",
            Self::Held { kind, .. } => match kind {
                HoldKind::Halt => "rollout_halted",
                HoldKind::Pause => "rollout_paused",
                HoldKind::Freeze | HoldKind::Gate => "rollout_held",
            },
            Self::WaveUnknown { .. } => "wave_unknown",
            Self::ApprovalTooEarly { .. } => "approval_too_early",
            Self::ApprovalUseless { .. } => "approval_useless",
            Self::SelfApproval { .. } => "self_approval",
            Self::NothingToRetry => "nothing_to_retry",
        }
    }
}

impl From<&InForce> for Refusal {
    fn from(hold: &InForce) -> Self {
        Self::Held {
            id: hold.id,
            kind: hold.kind,
            since: hold.since,
            reason: hold.reason.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::*;
    use crate::ids::from_millis;

    fn held(kind: HoldKind) -> Refusal {
        Refusal::Held {
            id: HoldId::new(Uuid::from_u128(1)),
            kind,
            since: from_millis(0).unwrap(),
            reason: "token theft".to_owned(),
        }
    }

    fn refusals() -> Vec<Refusal> {
        let wave = WaveNumber(2);
        vec![
            Refusal::ReasonMissing,
            Refusal::PlanMissing,
            Refusal::PlanEmpty,
            Refusal::PlanStale {
                given: Digest::of(b"one"),
                current: Digest::of(b"two"),
            },
            Refusal::PlanOverdue {
                opens_at: from_millis(0).unwrap(),
            },
            Refusal::AlreadyStarted,
            Refusal::NotStarted,
            Refusal::Over {
                lifecycle: "completed",
            },
            held(HoldKind::Halt),
            held(HoldKind::Pause),
            held(HoldKind::Gate),
            Refusal::WaveUnknown { wave },
            Refusal::ApprovalTooEarly {
                wave,
                status: "soaking",
            },
            Refusal::ApprovalUseless {
                wave,
                status: "passed",
            },
            Refusal::SelfApproval {
                by: Principal::new("meier"),
            },
            Refusal::NothingToRetry,
        ]
    }

    #[test]
    fn every_refusal_has_its_own_code_and_says_what_to_do() {
        let refusals = refusals();
        let codes: BTreeSet<_> = refusals.iter().map(Refusal::code).collect();
        assert_eq!(codes.len(), refusals.len(), "a code was used twice");
        let text: Vec<_> = refusals
            .iter()
            .map(|refusal| format!("{:<18} {refusal}", refusal.code()))
            .collect();
        insta::assert_snapshot!("refusals", text.join("\n"));
    }
}
