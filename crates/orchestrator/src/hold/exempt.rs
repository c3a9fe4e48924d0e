//! What may go on although holds are in force: named waves of one rollout, under named holds, for a time.
//!
//! An exemption names exactly the holds that it lets something go on under. Any other hold stops as ever,
//! whatever its kind, and so does one that is placed a moment later: saying stop during an emergency needs
//! no knowledge of it. The end is a comparison with the clock, so nothing has to run for it to come.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::hold::Place;
use crate::ids::{ExemptionId, HoldId, RolloutId, Timestamp, WaveNumber};

/// Named waves of one rollout that may go on under named holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exemption {
    /// Its name.
    pub id: ExemptionId,
    /// The holds under which they go on; every other one stops them.
    pub holds: BTreeSet<HoldId>,
    /// The rollout.
    pub rollout: RolloutId,
    /// Its waves.
    pub waves: BTreeSet<WaveNumber>,
    /// Until when. The instant itself is over.
    pub until: Timestamp,
}

impl Exemption {
    /// Says whether work at a place may go on at an instant although this hold covers it. The rollout as a
    /// whole may when one of its waves may.
    #[must_use]
    pub fn lets(&self, hold: HoldId, place: &Place, now: Timestamp) -> bool {
        let is_here = place.rollout == self.rollout
            && match place.wave {
                Some(wave) => self.waves.contains(&wave),
                None => !self.waves.is_empty(),
            };
        is_here && now < self.until && self.holds.contains(&hold)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::hold::{HoldKind, HoldSet, InForce, Placement, Scope, Wanted};
    use crate::ids::{TargetId, from_millis};

    const TARGET: TargetId = TargetId::new(Uuid::from_u128(1));
    const ROLLOUT: RolloutId = RolloutId::new(Uuid::from_u128(2));

    fn at(millis: i64) -> Timestamp {
        from_millis(millis).unwrap()
    }

    fn hold(number: u128, kind: HoldKind) -> InForce {
        InForce {
            by_rule: false,
            id: HoldId::new(Uuid::from_u128(number)),
            kind,
            scope: Scope::Everything,
            since: at(0),
            reason: "stop".to_owned(),
            part: None,
            keeps: None,
        }
    }

    /// A halt of everything, and wave 3 going on under it for a second.
    fn emergency() -> HoldSet {
        let halt = hold(1, HoldKind::Halt);
        let mut set: HoldSet = [halt.clone()].into_iter().collect();
        set.exempt(Exemption {
            id: ExemptionId::new(Uuid::from_u128(7)),
            holds: [halt.id].into(),
            rollout: ROLLOUT,
            waves: [WaveNumber(3)].into(),
            until: at(1000),
        });
        set
    }

    #[track_caller]
    fn check_stopped(set: &HoldSet, place: Place, now: i64, by: Option<u128>) {
        let stops = set.stops(&place, at(now));
        assert_eq!(stops.map(|hold| hold.id.uuid().as_u128()), by);
    }

    fn wave(number: u32) -> Place {
        Place::wave(TARGET, ROLLOUT, WaveNumber(number))
    }

    #[test]
    fn only_the_named_waves_of_the_rollout_go_on() {
        let set = emergency();
        check_stopped(&set, wave(3), 0, None);
        check_stopped(&set, wave(4), 0, Some(1));
        check_stopped(&set, Place::rollout(TARGET, ROLLOUT), 0, None);
        let other = RolloutId::new(Uuid::from_u128(5));
        check_stopped(&set, Place::wave(TARGET, other, WaveNumber(3)), 0, Some(1));
        check_stopped(&set, Place::rollout(TARGET, other), 0, Some(1));
    }

    #[test]
    fn the_end_of_an_exemption_needs_nobody_to_notice() {
        check_stopped(&emergency(), wave(3), 999, None);
        check_stopped(&emergency(), wave(3), 1000, Some(1));
        check_stopped(&emergency(), Place::rollout(TARGET, ROLLOUT), 1000, Some(1));
    }

    #[test]
    fn a_hold_that_is_not_named_stops_as_ever() {
        let mut set = emergency();
        set.add(hold(2, HoldKind::Pause));
        check_stopped(&set, wave(3), 0, Some(2));
        set.add(hold(3, HoldKind::Halt));
        check_stopped(&set, wave(3), 0, Some(3));
    }

    #[test]
    fn whoever_does_not_know_of_exemptions_sees_the_hold() {
        assert!(emergency().worst(&wave(3)).is_some());
    }

    #[test]
    fn an_emergency_under_a_newer_hold_stands_still_and_says_under_which() {
        let mut set = emergency();
        let exemption = set.exemptions().next().unwrap().clone();
        assert_eq!(set.overrides(&exemption, TARGET, at(10)), None);
        set.add(hold(2, HoldKind::Pause));
        let over = set.overrides(&exemption, TARGET, at(10));
        assert_eq!(
            over.map(|hold| hold.id),
            Some(HoldId::new(Uuid::from_u128(2)))
        );
        assert_eq!(set.overrides(&exemption, TARGET, exemption.until), None);
    }

    #[test]
    fn a_halt_during_an_emergency_is_a_new_halt_and_the_next_one_joins_it() {
        let mut set = emergency();
        let wanted = Wanted {
            kind: HoldKind::Halt,
            scope: Scope::Everything,
            part: None,
            cause: crate::hold::Cause::People { principals: vec![] },
            reason: "stop this too".to_owned(),
            effect: crate::hold::MovedPeople::Keep,
            review_at: None,
        };
        // Also when its time is over and nobody has closed it yet.
        assert_eq!(wanted.placement(&set), Ok(Placement::New));
        set.add(hold(2, HoldKind::Halt));
        let second = HoldId::new(Uuid::from_u128(2));
        assert_eq!(wanted.placement(&set), Ok(Placement::Joined(second)));
    }
}
