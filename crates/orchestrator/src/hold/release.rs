//! The release of a halt: a request, approvals of exactly what was requested, and one execution.
//!
//! Nothing here remembers a verdict. Where a request stands is worked out from its approvals, from what
//! the halt looks like *now* (`Substance`) and from `now`, each time anew, and inside the transaction that
//! ends the halt. So a changed requirement, a lost role and a passed deadline need no bookkeeping to count.
//!
//! Who is who: a *token* asks, a *person* is behind it, and a *group* is the seat the token has. Two tokens
//! of one person are one person.

mod refusal;
mod substance;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

pub use self::refusal::ReleaseRefusal;
pub use self::substance::{Difference, How, Part, Substance};
pub use super::quorum::{Approval, Missing};
use crate::digest::Digest;
use crate::hold::preflight::Item;
use crate::hold::quorum::{Needed, may_say_yes, quorum};
use crate::hold::requirement::{Word, is_same};
use crate::hold::terms::{Group, Terms};
use crate::ids::{HoldId, Principal, Timestamp};

/// How old the last preflight may be when the halt is ended.
pub const PREFLIGHT_MINUTES_MAX: i64 = 60;

/// Who acts: a token, the person behind it, and the seat that it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// The token.
    pub token: Principal,
    /// The person.
    pub person: Principal,
    /// The seat; a machine, an auditor and an administrator have none.
    pub group: Option<Group>,
    /// Since when the token exists.
    pub since: Timestamp,
}

impl Seat {
    /// Returns what they said, for the record.
    #[must_use]
    pub fn word(&self, note: &str, at: Timestamp) -> Word {
        Word {
            by: self.token.clone(),
            person: self.person.clone(),
            at,
            note: note.to_owned(),
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Security said no, or whoever asked took it back.
    Vetoed,
    /// Another request took its place after it was void.
    Replaced,
    /// The halt ended with it.
    Executed,
}

impl End {
    /// Returns the stable name of the end.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vetoed => "vetoed",
            Self::Replaced => "replaced",
            Self::Executed => "executed",
        }
    }

    /// Returns the end of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Vetoed, Self::Replaced, Self::Executed]
            .into_iter()
            .find(|end| end.name() == name)
    }
}

/// A request to release a halt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who asked.
    pub by: Seat,
    /// When.
    pub at: Timestamp,
    /// What they asked for: what the approvals are bound to.
    pub substance: Substance,
    /// Who said yes, the first first.
    pub approvals: Vec<Approval>,
    /// How it ended, if it has.
    pub ended: Option<End>,
}

/// Where a request stands at an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Approvals are missing, and may be given.
    Collecting {
        /// Which.
        missing: Missing,
        /// Until when.
        until: Timestamp,
    },
    /// Everybody has said yes: it may be carried out.
    Ready {
        /// Until when.
        until: Timestamp,
    },
    /// Too few said yes in time.
    ApprovalsExpired {
        /// When it ended.
        at: Timestamp,
    },
    /// It was not carried out in time.
    ExecutionExpired {
        /// When it ended.
        at: Timestamp,
    },
    /// It is not what it was: nobody's yes counts.
    Changed {
        /// What is different.
        differences: Vec<Difference>,
    },
    /// It ended.
    Ended(End),
}

impl Standing {
    /// Returns the stable name of the standing.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Collecting { .. } => "collecting",
            Self::Ready { .. } => "ready",
            Self::ApprovalsExpired { .. } => "approvals_expired",
            Self::ExecutionExpired { .. } => "execution_expired",
            Self::Changed { .. } => "configuration_changed",
            Self::Ended(end) => end.name(),
        }
    }

    /// Says whether approvals given to it can still count.
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        matches!(self, Self::Collecting { .. } | Self::Ready { .. })
    }
}

/// What a decision about a release is made from, besides the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The halt.
    pub hold: HoldId,
    /// Whether it is a halt.
    pub is_halt: bool,
    /// Whether it is in force.
    pub is_in_force: bool,
    /// The person who placed it, when it was one.
    pub placer: Option<Principal>,
    /// Its terms.
    pub terms: Terms,
    /// What would be released now.
    pub substance: Substance,
}

/// The last preflight, and what the same checks say now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// When a preflight was last run.
    pub at: Option<Timestamp>,
    /// What the checks say now.
    pub items: Vec<Item>,
}

impl Request {
    /// Says where the request stands.
    #[must_use]
    pub fn standing(&self, case: &Case, now: Timestamp) -> Standing {
        self.stands(&case.terms, &case.substance, now)
    }

    /// Says where a request for anything stands, by these terms, when what it is about is `substance` now.
    #[must_use]
    pub fn stands(&self, terms: &Terms, substance: &Substance, now: Timestamp) -> Standing {
        if let Some(end) = self.ended {
            return Standing::Ended(end);
        }
        let differences = self.substance.differences(substance);
        if !differences.is_empty() {
            return Standing::Changed { differences };
        }
        let collected_until = self.at + TimeDelta::hours(terms.approval_hours.into());
        let needed = Needed {
            people: terms.approvals_needed,
            groups: &terms.groups,
            until: collected_until,
        };
        match quorum(&self.by, &self.approvals, needed) {
            Ok(at) => {
                let until = at + TimeDelta::hours(terms.execution_hours.into());
                if now < until {
                    Standing::Ready { until }
                } else {
                    Standing::ExecutionExpired { at: until }
                }
            }
            Err(missing) if now < collected_until => Standing::Collecting {
                missing,
                until: collected_until,
            },
            Err(_) => Standing::ApprovalsExpired {
                at: collected_until,
            },
        }
    }
}

impl Case {
    fn check_halt(&self) -> Result<(), ReleaseRefusal> {
        if !self.is_halt {
            return Err(ReleaseRefusal::NotAHalt(self.hold));
        }
        if !self.is_in_force {
            return Err(ReleaseRefusal::AlreadyReleased(self.hold));
        }
        Ok(())
    }

    fn is_placer(&self, seat: &Seat) -> bool {
        let placed = |placer| is_same(placer, &seat.person);
        self.placer.as_ref().is_some_and(placed)
    }

    /// Decides whether somebody may ask for the release. `open` is the request that has not ended.
    ///
    /// # Errors
    /// When it is no halt in force, they placed it, or a request stands.
    pub fn may_request(
        &self,
        open: Option<&Request>,
        by: &Seat,
        now: Timestamp,
    ) -> Result<(), ReleaseRefusal> {
        self.check_halt()?;
        if self.is_placer(by) {
            return Err(ReleaseRefusal::PlacerRequests(by.person.clone()));
        }
        match open {
            Some(request) if request.standing(self, now).is_alive() => {
                Err(ReleaseRefusal::RequestOpen {
                    by: request.by.token.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Decides whether somebody's yes is taken; says whether it is a new one.
    ///
    /// # Errors
    /// When it would not count, with the reason why.
    pub fn may_approve(
        &self,
        request: Option<&Request>,
        (by, digest): (&Seat, Digest),
        now: Timestamp,
    ) -> Result<bool, ReleaseRefusal> {
        let request = self.alive(request, digest, now)?;
        let is_new = may_say_yes((&request.by, request.at), &request.approvals, by)?;
        if self.is_placer(by) && by.group != Some(Group::Security) {
            return Err(ReleaseRefusal::PlacerSeat(by.person.clone()));
        }
        Ok(is_new)
    }

    /// Decides whether somebody may end the request.
    ///
    /// # Errors
    /// When there is none, or they may not.
    pub fn may_veto(&self, request: Option<&Request>, by: &Seat) -> Result<(), ReleaseRefusal> {
        self.check_halt()?;
        let request = request.ok_or(ReleaseRefusal::RequestMissing(self.hold))?;
        if request.ended.is_some() {
            return Err(ReleaseRefusal::RequestMissing(self.hold));
        }
        let asked = is_same(&request.by.person, &by.person);
        if asked || by.group == Some(Group::Security) {
            Ok(())
        } else {
            Err(ReleaseRefusal::VetoSeat)
        }
    }

    /// Decides whether the release may be carried out now.
    ///
    /// # Errors
    /// With the first thing that is missing; the preflight's are all named.
    pub fn may_execute(
        &self,
        request: Option<&Request>,
        (digest, checked): (Digest, &Checked),
        now: Timestamp,
    ) -> Result<(), ReleaseRefusal> {
        let request = self.alive(request, digest, now)?;
        if let Standing::Collecting { missing, .. } = request.standing(self, now) {
            return Err(ReleaseRefusal::ApprovalsMissing(missing));
        }
        let oldest = now - TimeDelta::minutes(PREFLIGHT_MINUTES_MAX);
        if checked.at.is_none_or(|at| at < oldest) {
            let (hold, last) = (self.hold, checked.at);
            return Err(ReleaseRefusal::PreflightOld { hold, last });
        }
        let mut missing = checked.items.clone();
        missing.retain(|item| !item.ok);
        if missing.is_empty() {
            Ok(())
        } else {
            Err(ReleaseRefusal::PreflightFailed { missing })
        }
    }

    /// Returns the request when its approvals can count, and it is for this digest.
    fn alive<'a>(
        &self,
        request: Option<&'a Request>,
        digest: Digest,
        now: Timestamp,
    ) -> Result<&'a Request, ReleaseRefusal> {
        self.check_halt()?;
        let request = request.ok_or(ReleaseRefusal::RequestMissing(self.hold))?;
        match request.standing(self, now) {
            Standing::Ended(End::Vetoed) => Err(ReleaseRefusal::Vetoed),
            Standing::Ended(End::Replaced | End::Executed) => {
                Err(ReleaseRefusal::RequestMissing(self.hold))
            }
            Standing::Changed { differences } => Err(ReleaseRefusal::Changed { differences }),
            Standing::ApprovalsExpired { at } => Err(ReleaseRefusal::ApprovalsExpired { at }),
            Standing::ExecutionExpired { at } => Err(ReleaseRefusal::ExecutionExpired { at }),
            Standing::Collecting { .. } | Standing::Ready { .. } => {
                let current = request.substance.digest();
                if digest == current {
                    Ok(request)
                } else {
                    Err(ReleaseRefusal::DigestDiffers { current })
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
