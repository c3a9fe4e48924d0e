//! Decides about placing and releasing. The decision is small on purpose: no plan, no approval, no
//! look at the rollout's state stands between a person and a stop.

use thiserror::Error;

use tidegate_policy::Condition;

use crate::hold::part::Part;
use crate::hold::release::Seat;
use crate::hold::terms::Group;
use crate::hold::{Cause, Hold, HoldKind, HoldSet, MovedPeople, Release, Scope};
use crate::ids::{Epoch, Generation, HoldId, Principal, Timestamp};

/// What stands for a reason where whoever halted gave none: nobody is sent back for one at 3 a.m.
pub const NO_REASON: &str = "no reason was given";

/// A hold that somebody, or the planner, wants in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Whose stop it is.
    pub kind: HoldKind,
    /// What it shall cover.
    pub scope: Scope,
    /// Which people of the wave it shall cover; `None`: all of them. Only with the scope of a wave.
    pub part: Option<Condition>,
    /// What led to it.
    pub cause: Cause,
    /// Why, in words.
    pub reason: String,
    /// What becomes of people already moved.
    pub effect: MovedPeople,
    /// When its owner is reminded.
    pub review_at: Option<Timestamp>,
}

/// What placing a hold comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// A new hold: write its row under a new epoch.
    New,
    /// One of the same kind and scope is already in force: add whoever asked to its cause. No epoch
    /// passes, because nothing is stopped that was not stopped before.
    Joined(HoldId),
}

/// The domain says no to a release, or to a hold that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HoldRefusal {
    /// A hold without a reason helps nobody a year later.
    #[error("a hold, and its release, need a reason")]
    ReasonMissing,
    /// The hold has ended before.
    #[error("hold `{id}` was released by `{by}` before")]
    AlreadyReleased {
        /// The hold.
        id: HoldId,
        /// Who released it.
        by: Principal,
    },
    /// A gate hold follows the verdict of its wave.
    #[error(
        "hold `{id}` follows the verdict of its wave: retry the failed, and it ends as they begin"
    )]
    FollowsVerdict {
        /// The hold.
        id: HoldId,
    },
    /// It stops more than whoever lets go of it answers for.
    #[error(
        "pause `{id}` stops more than one rollout: `{owner}`, who owns it, a security lead or an admin lets go of it"
    )]
    WiderThanTheirs {
        /// The hold.
        id: HoldId,
        /// Who owns it.
        owner: Principal,
    },
    /// A rule placed it for what was reported.
    #[error(
        "hold `{id}` was placed by a rule for what was reported: a security lead or an admin lets go of it"
    )]
    Reported {
        /// The hold.
        id: HoldId,
    },
    /// A halt ends by its procedure.
    #[error(
        "hold `{id}` is a halt: its release is requested, approved by others and then carried out"
    )]
    NeedsProcedure {
        /// The hold.
        id: HoldId,
    },
    /// A freeze follows the calendar.
    #[error("hold `{id}` follows the calendar: change the calendar, and it ends with the entry")]
    FollowsCalendar {
        /// The hold.
        id: HoldId,
    },
}

impl HoldRefusal {
    /// Returns the stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ReasonMissing => "reason_missing",
            Self::AlreadyReleased { .. } => "hold_already_released",
            Self::FollowsVerdict { .. } => "hold_follows_verdict",
            Self::FollowsCalendar { .. } => "hold_follows_calendar",
            Self::NeedsProcedure { .. } => "release_needs_procedure",
            Self::Reported { .. } => "hold_reported",
            Self::WiderThanTheirs { .. } => "hold_wider_than_yours",
        }
    }
}

impl Wanted {
    /// Says whether this is a new hold or joins one in force; idempotent, whoever asks how often.
    ///
    /// # Errors
    /// When it gives no reason.
    pub fn placement(&self, in_force: &HoldSet) -> Result<Placement, HoldRefusal> {
        if self.reason.trim().is_empty() {
            return Err(HoldRefusal::ReasonMissing);
        }
        if let Cause::Rule { .. } = self.cause {
            // It has terms of its own, and may end by itself: it is nobody else's hold.
            return Ok(Placement::New);
        }
        // Whoever says stop means now: a hold that something goes on under is not the stop they want.
        let mut alike = in_force.alike(self.kind, self.scope, self.part.as_ref());
        let same = alike.find(|hold| !in_force.is_exempted_from(hold.id));
        Ok(same.map_or(Placement::New, |hold| Placement::Joined(hold.id)))
    }

    /// Makes the hold, under the epoch that placing it has made.
    #[must_use]
    pub fn into_hold(self, id: HoldId, by: Principal, epoch: Epoch, now: Timestamp) -> Hold {
        Hold {
            id,
            kind: self.kind,
            scope: self.scope,
            part: self.part.map(|condition| Part::new(condition, epoch, now)),
            cause: self.cause,
            reason: self.reason,
            owner: by.clone(),
            effect: self.effect,
            placed_by: by,
            placed_at: now,
            placed_epoch: epoch,
            review_at: self.review_at.or_else(|| self.kind.review_by_default(now)),
            released: None,
            generation: Generation(1),
        }
    }
}

impl Hold {
    /// Adds somebody who asked for this hold too; says whether anything changed.
    pub fn join(&mut self, principal: Principal) -> bool {
        let Cause::People { principals } = &mut self.cause else {
            return false;
        };
        if principals.contains(&principal) {
            return false;
        }
        principals.push(principal);
        self.generation = self.generation.next();
        true
    }

    /// Takes a reason where whoever placed it gave none; says whether anything changed. A reason that was given
    /// stays: it is what others have read.
    pub fn take_reason(&mut self, reason: &str) -> bool {
        if self.reason != NO_REASON || reason == NO_REASON {
            return false;
        }
        reason.clone_into(&mut self.reason);
        self.generation = self.generation.next();
        true
    }

    /// Has somebody look at it sooner; says whether anything changed. A later date is that of a review.
    pub fn review_sooner(&mut self, at: Timestamp) -> bool {
        if self.review_at.is_some_and(|known| known <= at) {
            return false;
        }
        self.review_at = Some(at);
        self.generation = self.generation.next();
        true
    }

    /// Decides whether somebody may let go of a pause by its scope: managers answer for rollouts, and one of them may
    /// not lift what was placed on a whole target, or on everything, by somebody else. `owner` is the person
    /// who owns it.
    ///
    /// # Errors
    /// When it is wider than what they answer for.
    pub fn may_let_go(
        &self,
        (by, owner): (&Seat, &Principal),
        is_admin: bool,
    ) -> Result<(), HoldRefusal> {
        let is_wide = match self.scope {
            Scope::Everything | Scope::Target(_) => true,
            Scope::Rollout(_) | Scope::Wave(..) | Scope::Part(..) => false,
        };
        let is_theirs = by.person == *owner || is_admin || by.group == Some(Group::Security);
        let is_reported = self.rule().is_some() && self.kind != HoldKind::Halt;
        if is_reported && !is_theirs {
            return Err(HoldRefusal::Reported { id: self.id });
        }
        if is_wide && self.kind == HoldKind::Pause && !is_theirs {
            let owner = self.owner.clone();
            return Err(HoldRefusal::WiderThanTheirs { id: self.id, owner });
        }
        Ok(())
    }

    /// Decides whether this hold may be released on its own. Who may is the shell's permission table.
    ///
    /// # Errors
    /// When it has ended before, gives no reason, is a halt, or follows a verdict or a calendar.
    pub fn release(&self, release: Release) -> Result<Self, HoldRefusal> {
        match self.kind {
            // What a rule placed is let go by people who have looked, also before it is clear.
            HoldKind::Gate if self.rule().is_some() => self.end(release),
            HoldKind::Gate => Err(HoldRefusal::FollowsVerdict { id: self.id }),
            HoldKind::Freeze => Err(HoldRefusal::FollowsCalendar { id: self.id }),
            // Looked at first: whoever comes late hears that it is over, and not what it would take.
            HoldKind::Halt if self.is_in_force() => {
                Err(HoldRefusal::NeedsProcedure { id: self.id })
            }
            HoldKind::Pause | HoldKind::Halt => self.end(release),
        }
    }

    /// Ends a hold whose cause has ended: a gate hold whose verdict was re-opened, or a halt whose release
    /// procedure says so.
    ///
    /// # Errors
    /// When it has ended before, or gives no reason.
    pub fn end(&self, release: Release) -> Result<Self, HoldRefusal> {
        if let Some(earlier) = &self.released {
            return Err(HoldRefusal::AlreadyReleased {
                id: self.id,
                by: earlier.by.clone(),
            });
        }
        if release.reason.trim().is_empty() {
            return Err(HoldRefusal::ReasonMissing);
        }
        let generation = self.generation.next();
        Ok(Self {
            released: Some(release),
            // Whom it kept back is let go by sorting the wave once more.
            part: self.part.clone().map(Part::unsorted),
            generation,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ids::from_millis;

    fn who(name: &str) -> Principal {
        Principal::new(name)
    }

    fn wanted(kind: HoldKind) -> Wanted {
        Wanted {
            kind,
            scope: Scope::Everything,
            part: None,
            cause: Cause::People {
                principals: vec![who("okafor")],
            },
            reason: "token theft".to_owned(),
            effect: MovedPeople::Keep,
            review_at: None,
        }
    }

    fn hold(kind: HoldKind) -> Hold {
        let id = HoldId::new(Uuid::from_u128(1));
        wanted(kind).into_hold(id, who("okafor"), Epoch(7), from_millis(5).unwrap())
    }

    fn release(reason: &str) -> Release {
        Release {
            by: who("lind"),
            at: from_millis(9).unwrap(),
            epoch: Epoch(8),
            reason: reason.to_owned(),
        }
    }

    #[test]
    fn halting_twice_is_one_hold_with_two_actors() {
        let mut first = hold(HoldKind::Halt);
        let in_force: HoldSet = first.in_force().into_iter().collect();
        let again = wanted(HoldKind::Halt).placement(&in_force);
        assert_eq!(again, Ok(Placement::Joined(first.id)));
        assert!(first.join(who("lind")));
        assert!(!first.join(who("lind")), "a flaky client changes nothing");
        let principals = vec![who("okafor"), who("lind")];
        assert_eq!(first.cause, Cause::People { principals });
        assert!(first.is_in_force());
    }

    #[test]
    fn a_reason_that_comes_later_is_that_of_a_hold_without_one() {
        let mut given = hold(HoldKind::Halt);
        assert!(!given.take_reason("another one"), "what was read stays");
        let mut without = Hold {
            reason: NO_REASON.to_owned(),
            ..hold(HoldKind::Halt)
        };
        assert!(!without.take_reason(NO_REASON));
        assert!(without.take_reason("a state actor") && without.reason == "a state actor");
        assert!(!without.take_reason("a third one"));
    }

    #[test]
    fn whoever_joins_has_it_looked_at_sooner_and_never_later() {
        let mut hold = hold(HoldKind::Halt);
        let (sooner, later) = (from_millis(50).unwrap(), from_millis(90).unwrap());
        assert!(hold.review_sooner(sooner));
        assert!(!hold.review_sooner(later));
        assert_eq!(hold.review_at, Some(sooner));
    }

    #[test]
    fn a_pause_beside_a_halt_is_another_hold() {
        let in_force: HoldSet = hold(HoldKind::Halt).in_force().into_iter().collect();
        assert_eq!(
            wanted(HoldKind::Pause).placement(&in_force),
            Ok(Placement::New)
        );
    }

    #[test]
    fn a_hold_without_a_reason_is_refused() {
        let wanted = Wanted {
            reason: "  ".to_owned(),
            ..wanted(HoldKind::Halt)
        };
        assert_eq!(
            wanted.placement(&HoldSet::default()),
            Err(HoldRefusal::ReasonMissing)
        );
    }

    #[test]
    fn a_released_hold_cannot_be_released_again() {
        let released = hold(HoldKind::Pause).release(release("looked")).unwrap();
        assert!(!released.is_in_force());
        assert_eq!(released.in_force(), None);
        let refusal = released.release(release("again")).unwrap_err();
        assert_eq!(refusal.code(), "hold_already_released");
    }

    #[test]
    fn a_gate_hold_cannot_be_released_around_its_verdict() {
        let refusal = hold(HoldKind::Gate)
            .release(release("I know better"))
            .unwrap_err();
        assert_eq!(refusal.code(), "hold_follows_verdict");
        assert!(
            hold(HoldKind::Gate)
                .end(release("the failed are retried"))
                .is_ok()
        );
        let refusal = hold(HoldKind::Freeze)
            .release(release("I know better"))
            .unwrap_err();
        assert_eq!(refusal.code(), "hold_follows_calendar");
    }

    #[test]
    fn a_manager_lifts_no_pause_that_somebody_else_placed_on_everything() {
        let seat = |name: &str, group| Seat {
            token: who(name),
            person: who(name),
            group,
            since: from_millis(0).unwrap(),
        };
        let (ops, sec) = (Some(Group::Operations), Some(Group::Security));
        let wide = hold(HoldKind::Pause);
        let narrow = Hold {
            scope: Scope::Rollout(crate::ids::RolloutId::new(Uuid::from_u128(3))),
            ..wide.clone()
        };
        let may = |hold: &Hold, name: &str, group, is_admin| {
            hold.may_let_go((&seat(name, group), &who("okafor")), is_admin)
                .is_ok()
        };
        assert!(!may(&wide, "lind", ops, false));
        assert!(
            may(&wide, "okafor", ops, false),
            "who placed it answers for it"
        );
        assert!(may(&wide, "lind", sec, false) && may(&wide, "lind", None, true));
        assert!(may(&narrow, "lind", ops, false));
    }

    #[test]
    fn a_halt_is_not_released_like_a_pause() {
        let halt = hold(HoldKind::Halt);
        let refusal = halt.release(release("all is well")).unwrap_err();
        assert_eq!(refusal.code(), "release_needs_procedure");
        let ended = halt.end(release("the procedure says so")).unwrap();
        let refusal = ended.release(release("again")).unwrap_err();
        assert_eq!(refusal.code(), "hold_already_released");
    }
}
