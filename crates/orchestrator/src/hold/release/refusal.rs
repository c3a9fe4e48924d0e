//! The domain says no to a step of a release: a stable code, and a sentence that says what to do instead.

use thiserror::Error;

use super::{Difference, Missing};
use crate::digest::Digest;
use crate::hold::preflight::Item;
use crate::hold::quorum::NoYes;
use crate::ids::{HoldId, Principal, Timestamp};
use crate::sentence;

/// The domain says no to a step of a release.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReleaseRefusal {
    /// Only a halt has a procedure.
    #[error("hold `{0}` is no halt: whoever may pause releases it with one call")]
    NotAHalt(HoldId),
    /// It has ended.
    #[error("hold `{0}` was released before")]
    AlreadyReleased(HoldId),
    /// There is one already.
    #[error(
        "`{by}` has asked for this release, and the request stands: approve it, or veto it first"
    )]
    RequestOpen {
        /// Who asked.
        by: Principal,
    },
    /// There is none.
    #[error("nobody has asked for this release: `tidegate release-request {0}` comes first")]
    RequestMissing(HoldId),
    /// Whoever placed it does not ask for its end.
    #[error(
        "`{0}` placed this halt: somebody else asks for its release; they may approve it for security"
    )]
    PlacerRequests(Principal),
    /// The digest is of something else.
    #[error("the request is for digest {current}, and not for the one named: read it, then decide")]
    DigestDiffers {
        /// What the request is for.
        current: Digest,
    },
    /// It is not what it was.
    #[error(
        "what would be released has changed since it was requested, so no approval counts: ask for the release again"
    )]
    Changed {
        /// What is different.
        differences: Vec<Difference>,
    },
    /// Whoever asked does not approve.
    #[error("`{0}` asked for this release, and so does not approve it: somebody else must")]
    RequesterApproves(Principal),
    /// Machines, auditors and administrators have no seat.
    #[error(
        "`{0}` has no seat in security, operations or approvers: neither machines nor auditors nor administrators approve"
    )]
    NoSeat(Principal),
    /// A seat made for the purpose.
    #[error(
        "token `{0}` was made after the release was requested: who is asked was settled by then"
    )]
    SeatTooNew(Principal),
    /// One person is one person.
    #[error("`{0}` has approved this release with another token: one person counts once")]
    SamePerson(Principal),
    /// The placer sits in security.
    #[error("`{0}` placed this halt, and may approve its release for security only")]
    PlacerSeat(Principal),
    /// Not everybody ends a request.
    #[error("only security, or whoever asked for the release, ends the request")]
    VetoSeat,
    /// Security said no.
    #[error("the request was vetoed: what was wrong must be mended before a new one")]
    Vetoed,
    /// Too late to approve.
    #[error("the time to approve was over at {}: ask for the release again", sentence::instant(*at))]
    ApprovalsExpired {
        /// When.
        at: Timestamp,
    },
    /// Too late to carry out.
    #[error("the time to carry the release out was over at {}: ask for it again", sentence::instant(*at))]
    ExecutionExpired {
        /// When.
        at: Timestamp,
    },
    /// Too few have said yes.
    #[error("approvals are missing: {0}")]
    ApprovalsMissing(Missing),
    /// Nobody has looked.
    #[error("run the preflight first: `tidegate preflight {hold}`; {}", age(*last))]
    PreflightOld {
        /// The halt.
        hold: HoldId,
        /// The last one.
        last: Option<Timestamp>,
    },
    /// Something stands in the way.
    #[error("the preflight is not passed: {}", missing.first().map_or_else(String::new, |item| item.sentence.clone()))]
    PreflightFailed {
        /// What.
        missing: Vec<Item>,
    },
}

impl From<NoYes> for ReleaseRefusal {
    fn from(no: NoYes) -> Self {
        match no {
            NoYes::NoSeat(token) => Self::NoSeat(token),
            NoYes::Asker(person) => Self::RequesterApproves(person),
            NoYes::SeatTooNew(token) => Self::SeatTooNew(token),
            NoYes::SamePerson(person) => Self::SamePerson(person),
        }
    }
}

fn age(last: Option<Timestamp>) -> String {
    last.map_or_else(
        || "there has been none".to_owned(),
        |at| {
            format!(
                "the last one was at {}, and one counts for an hour",
                sentence::instant(at)
            )
        },
    )
}

impl ReleaseRefusal {
    /// Returns the stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotAHalt(_) => "release_not_a_halt",
            Self::AlreadyReleased(_) => "hold_already_released",
            Self::RequestOpen { .. } => "release_request_open",
            Self::RequestMissing(_) => "release_request_missing",
            Self::PlacerRequests(_) => "release_placer_requests",
            Self::DigestDiffers { .. } => "release_digest_differs",
            Self::Changed { .. } => "release_configuration_changed",
            Self::RequesterApproves(_) => "release_requester_approves",
            Self::NoSeat(_) => "seat_missing",
            Self::SeatTooNew(_) => "seat_too_new",
            Self::SamePerson(_) => "release_same_person",
            Self::PlacerSeat(_) => "release_placer_seat",
            Self::VetoSeat => "release_veto_seat",
            Self::Vetoed => "release_vetoed",
            Self::ApprovalsExpired { .. } => "release_approvals_expired",
            Self::ExecutionExpired { .. } => "release_execution_expired",
            Self::ApprovalsMissing(_) => "release_approvals_missing",
            Self::PreflightOld { .. } => "preflight_missing",
            Self::PreflightFailed { .. } => "preflight_failed",
        }
    }

    /// Returns each thing that stands in the way, with its code, where there are several.
    #[must_use]
    pub fn details(&self) -> Vec<(String, String)> {
        match self {
            Self::Changed { differences } => differences
                .iter()
                .map(|one| (one.part.name().to_owned(), one.to_string()))
                .collect(),
            Self::PreflightFailed { missing } => missing
                .iter()
                .map(|item| (item.code.clone(), item.sentence.clone()))
                .collect(),
            Self::NotAHalt(_)
            | Self::AlreadyReleased(_)
            | Self::RequestOpen { .. }
            | Self::RequestMissing(_)
            | Self::PlacerRequests(_)
            | Self::DigestDiffers { .. }
            | Self::RequesterApproves(_)
            | Self::NoSeat(_)
            | Self::SeatTooNew(_)
            | Self::SamePerson(_)
            | Self::PlacerSeat(_)
            | Self::VetoSeat
            | Self::Vetoed
            | Self::ApprovalsExpired { .. }
            | Self::ExecutionExpired { .. }
            | Self::ApprovalsMissing(_)
            | Self::PreflightOld { .. } => Vec::new(),
        }
    }
}
