//! The holds in force, found by scope: four look-ups answer for any place, however many there are.
//!
//! Exemptions are kept beside them. Whoever asks what covers a place (`covering`, `worst`) is told of
//! holds alone, so that code which knows nothing of exemptions fails closed; only `stops` honours them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tidegate_policy::Condition;

use crate::hold::{Exemption, HoldKind, Place, Scope};
use crate::ids::{ExemptionId, HoldId, RolloutId, TargetId, Timestamp, WaveNumber};

/// What the planner and the workers need to know of a hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InForce {
    /// Its name.
    pub id: HoldId,
    /// Whose stop it is.
    pub kind: HoldKind,
    /// What it covers.
    pub scope: Scope,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub reason: String,
    /// Which people of the wave; `None`: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Condition>,
    /// Whether a rule placed it. Such a hold stands by itself: nobody joins it, and it may end by its rule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_rule: bool,
    /// How many of them it keeps back; `None`: they have not been sorted out, or it means all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeps: Option<u64>,
}

/// The set of holds in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HoldSet {
    // Invariant: no inner map is empty, and each id is found in `scopes` where it is filed.
    filed: BTreeMap<Scope, BTreeMap<HoldId, InForce>>,
    scopes: BTreeMap<HoldId, Scope>,
    exempt: BTreeMap<ExemptionId, Exemption>,
}

impl HoldSet {
    /// Adds a hold; adding it again changes nothing.
    pub fn add(&mut self, hold: InForce) {
        self.remove(hold.id);
        self.scopes.insert(hold.id, hold.scope);
        self.filed
            .entry(hold.scope)
            .or_default()
            .insert(hold.id, hold);
    }

    /// Removes one hold, and no other; says whether it was there.
    pub fn remove(&mut self, id: HoldId) -> bool {
        let Some(scope) = self.scopes.remove(&id) else {
            return false;
        };
        if let Some(filed) = self.filed.get_mut(&scope) {
            filed.remove(&id);
            if filed.is_empty() {
                self.filed.remove(&scope);
            }
        }
        true
    }

    /// Returns the holds that cover a place: widest scope first, then in the order of their ids.
    pub fn covering<'a>(&'a self, place: &Place) -> impl Iterator<Item = &'a InForce> + use<'a> {
        place
            .scopes()
            .filter_map(|scope| self.filed.get(&scope))
            .flat_map(BTreeMap::values)
    }

    /// Returns the holds on single waves of a rollout, in the order of the waves.
    pub fn on_waves(&self, rollout: RolloutId) -> impl Iterator<Item = &InForce> {
        let first = Scope::Wave(rollout, WaveNumber(0));
        let last = Scope::Wave(rollout, WaveNumber(u32::MAX));
        self.filed
            .range(first..=last)
            .flat_map(|(_, filed)| filed.values())
    }

    /// Returns the holds that keep some people of a wave parked, in the order of their ids.
    pub fn on_part(
        &self,
        rollout: RolloutId,
        wave: WaveNumber,
    ) -> impl Iterator<Item = &InForce> + use<'_> {
        let filed = self.filed.get(&Scope::Part(rollout, wave)).into_iter();
        filed.flat_map(BTreeMap::values)
    }

    /// Returns the holds that name some people of a wave, whether they are parked already or the whole wave
    /// still stands.
    pub fn partial(
        &self,
        rollout: RolloutId,
        wave: WaveNumber,
    ) -> impl Iterator<Item = &InForce> + use<'_> {
        let whole = self.filed.get(&Scope::Wave(rollout, wave)).into_iter();
        let whole = whole.flat_map(BTreeMap::values);
        whole
            .filter(|hold| hold.part.is_some())
            .chain(self.on_part(rollout, wave))
    }

    /// Returns the most severe hold that covers a place, the oldest of them if there are several.
    #[must_use]
    pub fn worst(&self, place: &Place) -> Option<&InForce> {
        self.covering(place)
            .min_by_key(|hold| (Reverse(hold.kind), hold.since, hold.id))
    }

    /// Returns the holds that stop work at a place at an instant: they cover it, and no exemption lets it go
    /// on under them. In the order of `covering`.
    pub fn stopping<'a>(
        &'a self,
        place: &Place,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a InForce> + use<'a> {
        let place = *place;
        self.covering(&place).filter(move |hold| {
            let mut exempt = self.exempt.values();
            !exempt.any(|exemption| exemption.lets(hold.id, &place, now))
        })
    }

    /// Returns the most severe hold that stops work at a place at an instant, the oldest of them if there
    /// are several.
    #[must_use]
    pub fn stops(&self, place: &Place, now: Timestamp) -> Option<&InForce> {
        self.stopping(place, now)
            .min_by_key(|hold| (Reverse(hold.kind), hold.since, hold.id))
    }

    /// Adds an exemption; adding it again changes nothing.
    pub fn exempt(&mut self, exemption: Exemption) {
        self.exempt.insert(exemption.id, exemption);
    }

    /// Removes an exemption; says whether it was there.
    pub fn end_exemption(&mut self, id: ExemptionId) -> bool {
        self.exempt.remove(&id).is_some()
    }

    /// Returns every exemption that has not been ended, in the order of their ids: also those whose time is over.
    pub fn exemptions(&self) -> impl Iterator<Item = &Exemption> {
        self.exempt.values()
    }

    /// Returns this set without the exemptions whose time is over, and when the first of the others ends.
    #[must_use]
    pub fn exempt_at(&self, now: Timestamp) -> (Self, Option<Timestamp>) {
        let mut set = self.clone();
        set.exempt.retain(|_, exemption| exemption.until > now);
        let ends = set.exempt.values().map(|exemption| exemption.until).min();
        (set, ends)
    }

    /// Says whether something may go on, or might have, although this hold covers it.
    #[must_use]
    pub fn is_exempted_from(&self, id: HoldId) -> bool {
        let mut exempt = self.exempt.values();
        exempt.any(|exemption| exemption.holds.contains(&id))
    }

    /// Returns a hold under which everything that an exemption lets go on stands still all the same; nothing when
    /// some of it goes on, or its time is over.
    #[must_use]
    pub fn overrides(
        &self,
        exemption: &Exemption,
        target: TargetId,
        now: Timestamp,
    ) -> Option<&InForce> {
        if now >= exemption.until {
            return None;
        }
        let mut found = None;
        for wave in &exemption.waves {
            let place = Place::wave(target, exemption.rollout, *wave);
            found = Some(self.stops(&place, now)?);
        }
        found
    }

    /// Returns the holds on single waves of a rollout, or on some of their people, in the order of the waves.
    pub fn within(&self, rollout: RolloutId) -> impl Iterator<Item = &InForce> {
        let first = Scope::Part(rollout, WaveNumber(0));
        let last = Scope::Part(rollout, WaveNumber(u32::MAX));
        let parts = self.filed.range(first..=last);
        self.on_waves(rollout)
            .chain(parts.flat_map(|(_, filed)| filed.values()))
    }

    /// Returns the hold of this kind and exactly this scope, the oldest if there are several.
    #[must_use]
    pub fn same(&self, kind: HoldKind, scope: Scope) -> Option<&InForce> {
        self.alike(kind, scope, None).next()
    }

    /// Returns the holds of this kind and exactly this scope, or the same part of it, the oldest first; those
    /// that a rule placed are none of them.
    pub fn alike(
        &self,
        kind: HoldKind,
        scope: Scope,
        part: Option<&Condition>,
    ) -> impl Iterator<Item = &InForce> {
        let parked = match scope {
            Scope::Wave(rollout, wave) => Some(Scope::Part(rollout, wave)),
            Scope::Everything | Scope::Target(_) | Scope::Rollout(_) | Scope::Part(..) => None,
        };
        let scopes = std::iter::once(scope).chain(parked);
        let alike = scopes
            .filter_map(|scope| self.filed.get(&scope))
            .flat_map(BTreeMap::values)
            .filter(|hold| hold.kind == kind && hold.part.as_ref() == part && !hold.by_rule);
        let mut alike: Vec<&InForce> = alike.collect();
        alike.sort_by_key(|hold| (hold.since, hold.id));
        alike.into_iter()
    }

    /// Returns the hold of this id.
    #[must_use]
    pub fn get(&self, id: HoldId) -> Option<&InForce> {
        self.filed.get(self.scopes.get(&id)?)?.get(&id)
    }

    /// Returns every hold in force.
    pub fn iter(&self) -> impl Iterator<Item = &InForce> {
        self.filed.values().flat_map(BTreeMap::values)
    }

    /// Returns the ids of every hold in force.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<HoldId> {
        self.scopes.keys().copied().collect()
    }

    /// Returns how many holds are in force.
    #[must_use]
    pub fn len(&self) -> usize {
        self.scopes.len()
    }

    /// Says whether nothing is held at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scopes.is_empty()
    }
}

impl FromIterator<InForce> for HoldSet {
    fn from_iter<T: IntoIterator<Item = InForce>>(holds: T) -> Self {
        let mut set = Self::default();
        for hold in holds {
            set.add(hold);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::ids::{TargetId, from_millis};

    const TARGET: TargetId = TargetId::new(Uuid::from_u128(9));
    const ROLLOUT: RolloutId = RolloutId::new(Uuid::from_u128(8));

    fn scope(number: u32) -> Scope {
        match number % 6 {
            0 => Scope::Everything,
            1 => Scope::Target(TARGET),
            2 => Scope::Rollout(ROLLOUT),
            3 => Scope::Rollout(RolloutId::new(Uuid::from_u128(7))),
            other => Scope::Wave(ROLLOUT, WaveNumber(other)),
        }
    }

    fn hold(number: u32) -> InForce {
        InForce {
            by_rule: false,
            id: HoldId::new(Uuid::from_u128(number.into())),
            kind: HoldKind::ALL[usize::try_from(number / 6 % 4).unwrap()],
            scope: scope(number),
            since: from_millis(number.into()).unwrap(),
            reason: "because".to_owned(),
            part: None,
            keeps: None,
        }
    }

    fn here() -> Place {
        Place::wave(TARGET, ROLLOUT, WaveNumber(4))
    }

    #[test]
    fn lifting_one_hold_leaves_the_other_in_force() {
        let pause = InForce {
            by_rule: false,
            kind: HoldKind::Pause,
            ..hold(2)
        };
        let halt = InForce {
            by_rule: false,
            kind: HoldKind::Halt,
            ..hold(1)
        };
        let mut set: HoldSet = [pause.clone(), halt.clone()].into_iter().collect();
        assert_eq!(set.worst(&here()), Some(&halt));
        assert!(set.remove(pause.id));
        assert_eq!(set.worst(&here()), Some(&halt));
        assert!(set.remove(halt.id));
        assert!(set.is_empty() && set.worst(&here()).is_none());
        assert!(!set.remove(halt.id));
    }

    #[test]
    fn the_same_kind_and_scope_is_found_and_nothing_else() {
        let set: HoldSet = [hold(2)].into_iter().collect();
        assert!(set.same(hold(2).kind, hold(2).scope).is_some());
        assert!(set.same(HoldKind::Halt, hold(2).scope).is_none());
        assert!(set.same(hold(2).kind, Scope::Everything).is_none());
    }

    proptest! {
        /// Adding commutes, and covering agrees with asking every hold one by one.
        #[test]
        fn adding_commutes_and_removing_removes_only_that_one(
            numbers in prop::collection::btree_set(0_u32..60, 1..20),
            pick in any::<prop::sample::Index>(),
        ) {
            let holds: Vec<_> = numbers.iter().map(|n| hold(*n)).collect();
            let mut set: HoldSet = holds.iter().cloned().collect();
            let backwards: HoldSet = holds.iter().rev().cloned().collect();
            prop_assert_eq!(&set, &backwards);
            let covering: BTreeSet<_> = set.covering(&here()).map(|h| h.id).collect();
            let naive: BTreeSet<_> =
                holds.iter().filter(|h| h.scope.covers(&here())).map(|h| h.id).collect();
            prop_assert_eq!(&covering, &naive);
            let gone = pick.get(&holds);
            set.remove(gone.id);
            let rest: HoldSet = holds.iter().filter(|h| h.id != gone.id).cloned().collect();
            prop_assert_eq!(set, rest);
        }
    }
}
