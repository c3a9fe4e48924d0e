//! What a hold means for people who were moved already: `freeze` refuses whatever would change something
//! about them; `keep` and `revert` refuse nothing (`revert` is a wish, and somebody carries it out).

use thiserror::Error;

use crate::hold::{Hold, MovedPeople, Place, Scope};
use crate::ids::{HoldId, RolloutId, Timestamp, WaveNumber};
use crate::sentence::instant;

/// Nothing about people who were moved may change.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "hold `{id}` has frozen people who were moved since {}: nothing about them changes until it is \
     released: {reason}", instant(*.since)
)]
pub struct MovedFrozen {
    /// The hold.
    pub id: HoldId,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub reason: String,
}

impl MovedFrozen {
    /// Returns the stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "moved_people_frozen"
    }
}

/// Says whether something about people who were moved may change at a place: in one wave, or anywhere in a
/// rollout, where a frozen wave counts too.
///
/// # Errors
/// When a hold in force has frozen them; the oldest of them says so.
pub fn may_change(holds: &[Hold], place: &Place) -> Result<(), MovedFrozen> {
    let freezes = |hold: &&Hold| {
        let wave = wave_of(hold.scope, place.rollout);
        let is_covered = hold.scope.covers(place)
            || wave.is_some_and(|wave| place.wave.is_none_or(|at| at == wave));
        hold.effect == MovedPeople::Freeze && hold.is_in_force() && is_covered
    };
    let oldest = holds
        .iter()
        .filter(freezes)
        .min_by_key(|hold| (hold.placed_at, hold.id));
    match oldest {
        Some(hold) => Err(MovedFrozen {
            id: hold.id,
            since: hold.placed_at,
            reason: hold.reason.clone(),
        }),
        None => Ok(()),
    }
}

fn wave_of(scope: Scope, rollout: RolloutId) -> Option<WaveNumber> {
    match scope {
        // Who of the moved it means is not known here: all of them.
        Scope::Wave(of, wave) | Scope::Part(of, wave) if of == rollout => Some(wave),
        Scope::Wave(..)
        | Scope::Part(..)
        | Scope::Everything
        | Scope::Target(_)
        | Scope::Rollout(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::hold::{Cause, HoldKind, Release, Wanted};
    use crate::ids::{Epoch, Principal, TargetId, from_millis};

    const ROLLOUT: RolloutId = RolloutId::new(Uuid::from_u128(8));
    const TARGET: TargetId = TargetId::new(Uuid::from_u128(9));

    fn hold(effect: MovedPeople, scope: Scope) -> Hold {
        let by = Principal::new("ann");
        let wanted = Wanted {
            kind: HoldKind::Pause,
            scope,
            part: None,
            cause: Cause::People {
                principals: vec![by.clone()],
            },
            reason: "look first".to_owned(),
            effect,
            review_at: None,
        };
        let id = HoldId::new(Uuid::from_u128(1));
        wanted.into_hold(id, by, Epoch(2), from_millis(0).unwrap())
    }

    fn wave(number: u32) -> Place {
        Place::wave(TARGET, ROLLOUT, WaveNumber(number))
    }

    #[test]
    fn only_a_freeze_keeps_people_who_were_moved_as_they_are() {
        for (effect, may) in [
            (MovedPeople::Keep, true),
            (MovedPeople::Revert, true),
            (MovedPeople::Freeze, false),
        ] {
            let holds = [hold(effect, Scope::Rollout(ROLLOUT))];
            assert_eq!(may_change(&holds, &wave(1)).is_ok(), may, "{effect:?}");
        }
    }

    #[test]
    fn a_freeze_of_some_people_of_a_wave_freezes_all_moved_people_of_it() {
        let holds = [hold(
            MovedPeople::Freeze,
            Scope::Part(ROLLOUT, WaveNumber(2)),
        )];
        let at = |number| Place::wave(TARGET, ROLLOUT, WaveNumber(number));
        assert!(may_change(&holds, &at(2)).is_err());
        assert!(may_change(&holds, &Place::rollout(TARGET, ROLLOUT)).is_err());
        assert!(may_change(&holds, &at(3)).is_ok());
    }

    #[test]
    fn a_frozen_wave_freezes_what_goes_over_the_whole_rollout_and_no_other_wave() {
        let holds = [hold(
            MovedPeople::Freeze,
            Scope::Wave(ROLLOUT, WaveNumber(2)),
        )];
        assert!(may_change(&holds, &wave(1)).is_ok());
        let refusal = may_change(&holds, &wave(2)).unwrap_err();
        assert_eq!(refusal.code(), "moved_people_frozen");
        assert!(may_change(&holds, &Place::rollout(TARGET, ROLLOUT)).is_err());
        let other = Place::rollout(TARGET, RolloutId::new(Uuid::from_u128(7)));
        assert!(may_change(&holds, &other).is_ok());
    }

    #[test]
    fn a_freeze_that_was_released_freezes_nobody() {
        let release = Release {
            by: Principal::new("bo"),
            at: from_millis(5).unwrap(),
            epoch: Epoch(3),
            reason: "over".to_owned(),
        };
        let ended = hold(MovedPeople::Freeze, Scope::Everything).release(release);
        assert!(may_change(&[ended.unwrap()], &wave(1)).is_ok());
    }
}
