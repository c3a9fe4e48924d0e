//! Reviews and owners of holds: when somebody must look again, who is reminded and how often, and who may
//! move the date or hand the hold over.
//!
//! Nothing here releases anything: a review that is overdue nags, and a hold whose owner is gone stays. A
//! date that was moved voids no approval of a release (`release::Substance` knows neither date nor owner).

use chrono::TimeDelta;
use thiserror::Error;

use crate::hold::release::Seat;
use crate::hold::terms::Group;
use crate::hold::{Hold, HoldKind, HoldRefusal};
use crate::ids::{HoldId, Principal, Timestamp, as_stored};
use crate::sentence::instant;

/// When a halt is looked at again unless somebody says otherwise: requirements get a look as often.
pub const HALT_DAYS: i64 = 30;
/// When a pause is looked at again unless somebody says otherwise: operations pause for days.
pub const PAUSE_DAYS: i64 = 7;
/// How often whoever does not look is reminded: more often is not read, and a year is 52 entries.
pub const REMIND_EVERY: TimeDelta = TimeDelta::days(7);
/// How far ahead the next review may lie: what nobody looks at for more than a year is not reviewed.
pub const AHEAD_DAYS_MAX: i64 = 366;

impl HoldKind {
    /// Returns when a hold of this kind is looked at again unless somebody says otherwise. A gate and a
    /// freeze end by what they follow, and nobody reviews them.
    #[must_use]
    pub fn review_by_default(self, now: Timestamp) -> Option<Timestamp> {
        let days = match self {
            Self::Halt => HALT_DAYS,
            Self::Pause => PAUSE_DAYS,
            Self::Gate | Self::Freeze => return None,
        };
        now.checked_add_signed(TimeDelta::days(days))
    }
}

/// Returns the date of a review that whoever says stop has named, as it counts; and says so when it is another
/// one or none. A stop is never refused for its date.
#[must_use]
pub fn named(at: Timestamp, now: Timestamp) -> (Option<Timestamp>, Option<String>) {
    let said = instant(at);
    if at > latest(now) {
        let sentence = format!(
            "`review_at` {said} was not taken: a review is {AHEAD_DAYS_MAX} days ahead at most, and the usual date counts"
        );
        return (None, Some(sentence));
    }
    if at.timestamp() < 0 {
        let sentence = format!("`review_at` {said} was not taken: the usual date counts");
        return (None, Some(sentence));
    }
    let is_over = at <= now;
    let sentence = is_over
        .then(|| format!("`review_at` {said} is over: the review is overdue from the start"));
    (Some(as_stored(at)), sentence)
}

fn latest(now: Timestamp) -> Timestamp {
    now.checked_add_signed(TimeDelta::days(AHEAD_DAYS_MAX))
        .unwrap_or(Timestamp::MAX_UTC)
}

/// Returns when the next reminder is due after one at `now`. What was missed meanwhile is not made up for.
#[must_use]
pub fn next_reminder(now: Timestamp) -> Timestamp {
    now.checked_add_signed(REMIND_EVERY)
        .unwrap_or(Timestamp::MAX_UTC)
}

/// Says in a few words that a review is overdue: `review overdue since 2026-11-24 02:30Z`.
#[must_use]
pub fn overdue(since: Timestamp) -> String {
    format!("review overdue since {}", instant(since))
}

/// Who shall own a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOwner {
    /// The token.
    pub token: Principal,
    /// The name of its role.
    pub role: String,
    /// Whether the token is worth nothing any more.
    pub is_revoked: bool,
    /// Whether its role may take part in ending such a hold.
    pub may_end: bool,
}

/// The domain says no to a review, or to another owner.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReviewRefusal {
    /// It has ended, or follows something else.
    #[error(transparent)]
    Hold(HoldRefusal),
    /// A review that says nothing helps nobody.
    #[error("a review needs a note: what was looked at, and why the hold stays")]
    NoteMissing,
    /// Somebody else must look.
    #[error(
        "`{by}` does not own hold `{id}`: its owner `{owner}`, or {}, reviews it", others(*.kind)
    )]
    NotTheirs {
        /// The hold.
        id: HoldId,
        /// Whose stop it is.
        kind: HoldKind,
        /// Who tried.
        by: Principal,
        /// Who owns it.
        owner: Principal,
    },
    /// The next review is one that lies ahead.
    #[error("the next review would be at {}, which is over: name a date ahead", instant(*.at))]
    NotAhead {
        /// The date.
        at: Timestamp,
    },
    /// Too far away to be a review.
    #[error(
        "the next review would be at {}: it is at {} at the latest, {AHEAD_DAYS_MAX} days ahead",
        instant(*.at), instant(*.until)
    )]
    TooFarAhead {
        /// The date.
        at: Timestamp,
        /// The latest.
        until: Timestamp,
    },
    /// Somebody else must hand it over.
    #[error(
        "`{by}` does not own hold `{id}`: its owner `{owner}`, a security lead or an admin hands it over"
    )]
    NotTheirsToGive {
        /// The hold.
        id: HoldId,
        /// Who tried.
        by: Principal,
        /// Who owns it.
        owner: Principal,
    },
    /// Nobody can be asked any more.
    #[error("the token `{0}` was revoked: name somebody who can still be asked")]
    OwnerRevoked(Principal),
    /// The new owner could not see to its end.
    #[error("`{token}` has the role {role}, which takes no part in ending a {}", kind.name())]
    OwnerMayNot {
        /// Who was named.
        token: Principal,
        /// The role they have.
        role: String,
        /// Whose stop it is.
        kind: HoldKind,
    },
}

const fn others(kind: HoldKind) -> &'static str {
    match kind {
        HoldKind::Pause => "a security lead or a manager",
        HoldKind::Halt | HoldKind::Gate | HoldKind::Freeze => "a security lead",
    }
}

impl ReviewRefusal {
    /// Returns the stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Hold(refusal) => refusal.code(),
            Self::NoteMissing => "note_missing",
            Self::NotTheirs { .. } => "review_not_yours",
            Self::NotAhead { .. } => "review_not_ahead",
            Self::TooFarAhead { .. } => "review_too_far_ahead",
            Self::NotTheirsToGive { .. } => "owner_not_yours",
            Self::OwnerRevoked(_) => "owner_revoked",
            Self::OwnerMayNot { .. } => "owner_may_not",
        }
    }
}

impl Hold {
    /// Returns since when its review is overdue, if it is.
    #[must_use]
    pub fn overdue_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.review_at.filter(|at| self.is_in_force() && *at <= now)
    }

    /// Moves the date of the review: somebody has looked, and the hold stays. `owner` is the person who owns it.
    ///
    /// # Errors
    /// When it has ended or follows something else, it is not theirs to review, or the date is none.
    pub fn review(
        &self,
        (by, owner): (&Seat, &Principal),
        note: &str,
        next: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Self, ReviewRefusal> {
        self.must_be_of_people()?;
        let may = by.person == *owner
            || match (by.group, self.kind) {
                (Some(Group::Security), _) | (Some(Group::Operations), HoldKind::Pause) => true,
                (Some(Group::Operations), HoldKind::Halt | HoldKind::Gate | HoldKind::Freeze)
                | (Some(Group::Approvers) | None, _) => false,
            };
        if !may {
            return Err(ReviewRefusal::NotTheirs {
                id: self.id,
                kind: self.kind,
                by: by.token.clone(),
                owner: self.owner.clone(),
            });
        }
        if note.trim().is_empty() {
            return Err(ReviewRefusal::NoteMissing);
        }
        let latest = latest(now);
        let next = next.map(as_stored);
        match next {
            Some(at) if at <= now => return Err(ReviewRefusal::NotAhead { at }),
            Some(at) if at > latest => {
                return Err(ReviewRefusal::TooFarAhead { at, until: latest });
            }
            Some(_) | None => {}
        }
        Ok(Self {
            review_at: next.or_else(|| self.kind.review_by_default(now)),
            generation: self.generation.next(),
            ..self.clone()
        })
    }

    /// Hands the hold to another owner. `owner` is the person who owns it; the same owner changes nothing.
    ///
    /// # Errors
    /// When it has ended or follows something else, it is not theirs to give, or the new owner cannot see to
    /// its end.
    pub fn hand_over(
        &self,
        (by, owner): (&Seat, &Principal),
        is_admin: bool,
        to: &NewOwner,
    ) -> Result<Self, ReviewRefusal> {
        self.must_be_of_people()?;
        let may = by.person == *owner || is_admin || by.group == Some(Group::Security);
        if !may {
            return Err(ReviewRefusal::NotTheirsToGive {
                id: self.id,
                by: by.token.clone(),
                owner: self.owner.clone(),
            });
        }
        if to.is_revoked {
            return Err(ReviewRefusal::OwnerRevoked(to.token.clone()));
        }
        if !to.may_end {
            return Err(ReviewRefusal::OwnerMayNot {
                token: to.token.clone(),
                role: to.role.clone(),
                kind: self.kind,
            });
        }
        if self.owner == to.token {
            return Ok(self.clone());
        }
        Ok(Self {
            owner: to.token.clone(),
            generation: self.generation.next(),
            ..self.clone()
        })
    }

    fn must_be_of_people(&self) -> Result<(), ReviewRefusal> {
        let id = self.id;
        let refusal = match (self.kind, &self.released) {
            (HoldKind::Gate, _) => HoldRefusal::FollowsVerdict { id },
            (HoldKind::Freeze, _) => HoldRefusal::FollowsCalendar { id },
            (HoldKind::Pause | HoldKind::Halt, Some(release)) => HoldRefusal::AlreadyReleased {
                id,
                by: release.by.clone(),
            },
            (HoldKind::Pause | HoldKind::Halt, None) => return Ok(()),
        };
        Err(ReviewRefusal::Hold(refusal))
    }
}

#[cfg(test)]
mod tests;
