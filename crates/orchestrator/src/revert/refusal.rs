//! The domain says no to taking people back: a stable code, and a sentence that says what to do instead.

use thiserror::Error;

use crate::digest::Digest;
use crate::hold::moved::MovedFrozen;
use crate::hold::quorum::{Missing, NoYes};
use crate::hold::release::Difference;
use crate::ids::{Timestamp, WaveNumber};
use crate::sentence;

/// The domain says no to a revert, or to a step of one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RevertRefusal {
    /// It takes nobody back.
    #[error("rollout `{0}` takes nobody back: this is for reverts alone")]
    NotARevert(String),
    /// It takes people back itself.
    #[error(
        "rollout `{0}` takes people back: whoever is to be moved again needs a rollout that moves them"
    )]
    OfARevert(String),
    /// Its people were chosen when it was asked for.
    #[error(
        "rollout `{0}` takes back the people it was asked for: it has no spec, no plan to make and no drift; \
             cancel it, and ask for another one"
    )]
    Fixed(String),
    /// It says not whom.
    #[error("say which waves are taken back: their numbers, or `all`")]
    WavesMissing,
    /// There is no such wave.
    #[error("the rollout has no wave {0}")]
    WaveUnknown(WaveNumber),
    /// There is nobody.
    #[error("nobody of these waves counts as moved, so there is nobody to take back")]
    Nobody,
    /// There is somebody, whom the condition does not pick.
    #[error(
        "nobody matches: of the {} of these waves who count as moved there is nobody for whom {condition}; check the value",
        sentence::people(*.moved)
    )]
    NobodyMatches {
        /// How many count as moved.
        moved: u64,
        /// The condition.
        condition: String,
    },
    /// What becomes of somebody is still open.
    #[error(
        "{} of wave {wave} are under way: stop it (`tidegate halt` or `tidegate pause`), wait until what became of \
         them is written, and ask again", sentence::people(*.people)
    )]
    InFlight {
        /// The wave.
        wave: WaveNumber,
        /// How many.
        people: u64,
    },
    /// Two reverts of one person at once.
    #[error("another revert takes back people of wave {wave}, and is not over")]
    AlreadyOpen {
        /// The wave.
        wave: WaveNumber,
    },
    /// A hold says that nothing about people already moved changes.
    #[error(transparent)]
    Frozen(#[from] MovedFrozen),
    /// The digest is of something else.
    #[error(
        "the revert is known by digest {current}, and not by the one named: read it, then decide"
    )]
    DigestDiffers {
        /// What it is known by.
        current: Digest,
    },
    /// It is not what it was.
    #[error(
        "what would be taken back has changed since it was asked for, so no approval counts: ask again"
    )]
    Changed {
        /// What is different.
        differences: Vec<Difference>,
    },
    /// The yes would not count.
    #[error(transparent)]
    Yes(#[from] NoYes),
    /// Too late to approve.
    #[error("the time to approve was over at {}: ask for the revert again", sentence::instant(*at))]
    ApprovalsExpired {
        /// When.
        at: Timestamp,
    },
    /// Too late to start.
    #[error("the time to start it was over at {}: ask for the revert again", sentence::instant(*at))]
    ExecutionExpired {
        /// When.
        at: Timestamp,
    },
    /// Too few have said yes.
    #[error("approvals are missing: {0}")]
    ApprovalsMissing(Missing),
    /// It runs, or has run.
    #[error("the revert has been started")]
    Started,
    /// Nobody wants it any more.
    #[error("the revert was cancelled: ask for another one")]
    Ended,
}

impl RevertRefusal {
    /// Returns the stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotARevert(_) => "not_a_revert",
            Self::OfARevert(_) => "revert_of_a_revert",
            Self::Fixed(_) => "revert_fixed",
            Self::WavesMissing => "revert_waves_missing",
            Self::WaveUnknown(_) => "wave_unknown",
            Self::Nobody => "revert_nobody",
            Self::NobodyMatches { .. } => "revert_nobody_matches",
            Self::InFlight { .. } => "revert_in_flight",
            Self::AlreadyOpen { .. } => "revert_open",
            Self::Frozen(frozen) => frozen.code(),
            Self::DigestDiffers { .. } => "revert_digest_differs",
            Self::Changed { .. } => "revert_changed",
            Self::Yes(NoYes::NoSeat(_)) => "seat_missing",
            Self::Yes(NoYes::Asker(_)) => "revert_requester_approves",
            Self::Yes(NoYes::SeatTooNew(_)) => "seat_too_new",
            Self::Yes(NoYes::SamePerson(_)) => "revert_same_person",
            Self::ApprovalsExpired { .. } => "revert_approvals_expired",
            Self::ExecutionExpired { .. } => "revert_execution_expired",
            Self::ApprovalsMissing(_) => "revert_approvals_missing",
            Self::Started => "revert_started",
            Self::Ended => "revert_ended",
        }
    }

    /// Returns each thing that stands in the way, with its code, where there are several.
    #[must_use]
    pub fn details(&self) -> Vec<(String, String)> {
        let Self::Changed { differences } = self else {
            return Vec::new();
        };
        let named = differences.iter();
        named
            .map(|one| (one.part.name().to_owned(), one.to_string()))
            .collect()
    }
}
