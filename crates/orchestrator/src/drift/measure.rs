//! Decides about everybody: one outcome for each person of then and of now.

use std::collections::BTreeMap;

use tidegate_policy::Condition;

use super::wish::{Wish, Wishes};
use super::{Class, NewSlot, SlotChange, Standing};
use crate::ids::{Ordinal, WaveNumber};
use crate::ledger::{SlotCommand, SlotState, Tally};
use crate::plan::select::Bound;
use crate::plan::together::Components;
use crate::population::Population;
use crate::spec::{LateJoiners, Spec};

/// Nobody: in place of an ordinal.
const NOBODY: u32 = u32::MAX;

/// The people of then.
#[derive(Debug, Clone, Copy)]
pub struct Then<'a> {
    /// By ordinal: where each stands; `None` for those in no wave.
    pub standing: &'a [Option<Standing>],
    /// By ordinal: who they are now; `None` for those who are no longer there.
    pub now: &'a [Option<Ordinal>],
    /// By ordinal: a hash of the user name; empty when user names are not known.
    pub names: &'a [u64],
}

/// The people of now, and what is asked about them.
#[derive(Debug, Clone, Copy)]
pub struct Late<'a> {
    /// Who they are.
    pub people: &'a Population,
    /// By ordinal: a hash of the user name; empty when user names are not known.
    pub names: &'a [u64],
    /// By wave, from the first: whether it takes nobody in any more.
    pub finished: &'a [bool],
    /// Who is said to have been moved by hand.
    pub by_hand: Option<&'a Condition>,
}

/// What a measurement comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// What becomes of slots that are there, by ordinal.
    pub changes: Vec<SlotChange>,
    /// Who gets a slot, by wave and ordinal.
    pub new_slots: Vec<NewSlot>,
    /// Who is in which class, ascending.
    pub classes: BTreeMap<Class, Vec<Ordinal>>,
    /// Everybody of then and now, each once, by where they stand afterwards; whoever is in no wave
    /// counts as skipped, or as departed when they are gone.
    pub outcome: Tally,
    /// How many people are new; they are numbered after the people of then.
    pub joined: u32,
    /// How many are still under way: a measurement with any of them is of a moment that passes.
    pub in_flight: u64,
}

struct Measure<'a> {
    then: Then<'a>,
    late: Late<'a>,
    wishes: Wishes<'a>,
    by_hand: Option<Bound<'a>>,
    /// The people of then, in the order of the hashes of their user names.
    owners: Vec<u32>,
    out: Measured,
}

/// Puts the people of then beside the people of now.
#[must_use]
pub fn measure(spec: &Spec, then: Then<'_>, late: Late<'_>) -> Measured {
    let mut owners: Vec<u32> = (0..).take(then.names.len()).collect();
    owners.sort_unstable_by_key(|owner| name_of(then.names, *owner));
    let mut measure = Measure {
        wishes: Wishes::new(spec, late.people),
        by_hand: late.by_hand.map(|by| Bound::new(by, late.people)),
        then,
        late,
        owners,
        out: Measured::default(),
    };
    let who = measure.identities();
    let wishes = measure.wanted(spec, &who);
    measure.gone();
    for (person, then) in late.people.ordinals().zip(&who) {
        let wish = wishes.get(index(person)).copied().unwrap_or(Wish::Nowhere);
        measure.person(person, *then, wish);
    }
    measure.finish()
}

fn name_of(names: &[u64], owner: u32) -> u64 {
    names.get(index(Ordinal(owner))).copied().unwrap_or(0)
}

fn index(ordinal: Ordinal) -> usize {
    usize::try_from(ordinal.get()).unwrap_or(usize::MAX)
}

/// Whether nothing has been sent for somebody who stands there.
const fn is_unbegun(state: SlotState) -> bool {
    matches!(
        state,
        SlotState::Queued
            | SlotState::Retry
            | SlotState::Parked
            | SlotState::Departed
            | SlotState::Skipped
    )
}

impl Measure<'_> {
    /// By ordinal of now: the ordinal of then, or the number that somebody new gets, and whether they are.
    fn identities(&mut self) -> Vec<(Ordinal, bool)> {
        let mut who = vec![(Ordinal(NOBODY), true); self.late.people.keys().len()];
        for (now, then) in self.then.now.iter().zip(0..) {
            if let Some(slot) = now.and_then(|now| who.get_mut(index(now))) {
                *slot = (Ordinal(then), false);
            }
        }
        let mut next = u32::try_from(self.then.now.len()).unwrap_or(NOBODY);
        for slot in who.iter_mut().filter(|(_, is_new)| *is_new) {
            slot.0 = Ordinal(next);
            next = next.saturating_add(1);
            self.out.joined += 1;
        }
        who
    }

    fn standing(&self, (ordinal, is_new): (Ordinal, bool)) -> Option<Standing> {
        if is_new {
            return None;
        }
        self.then.standing.get(index(ordinal)).copied().flatten()
    }

    /// Returns where everybody belongs. People who move together follow those who have been begun; when
    /// nobody has, they go where the first of them goes.
    fn wanted(&self, spec: &Spec, who: &[(Ordinal, bool)]) -> Vec<Wish> {
        let people = self.late.people;
        let own = |who: (Ordinal, bool)| self.standing(who).map(|standing| standing.wave);
        let mut wishes: Vec<Wish> = people
            .ordinals()
            .zip(who)
            .map(|(person, who)| self.wishes.of(person, own(*who)))
            .collect();
        let Some(keep) = &spec.keep_together else {
            return wishes;
        };
        let takes_part = |person: Ordinal| {
            wishes
                .get(index(person))
                .is_some_and(|wish| *wish != Wish::Out)
        };
        let components = Components::find(people, keep, &takes_part);
        // Per component: the wave of somebody who has been begun, and the first wave somebody belongs to.
        let mut goes: BTreeMap<Ordinal, (Option<WaveNumber>, Option<WaveNumber>)> = BTreeMap::new();
        for (person, who) in people.ordinals().zip(who) {
            if components.size(person) < 2 {
                continue;
            }
            let entry = goes.entry(components.of(person)).or_default();
            let standing = self.standing(*who);
            if let Some(begun) = standing.filter(|standing| !is_unbegun(standing.state)) {
                entry.0 = Some(entry.0.map_or(begun.wave, |wave| wave.min(begun.wave)));
            }
            if let Some(Wish::Wave(wave)) = wishes.get(index(person)) {
                entry.1 = Some(entry.1.map_or(*wave, |first| first.min(*wave)));
            }
        }
        for (person, who) in people.ordinals().zip(who) {
            let Some((begun, first)) = goes
                .get(&components.of(person))
                .filter(|_| components.size(person) > 1)
            else {
                continue;
            };
            let together = match (begun, own(*who)) {
                // They were parted when the others were begun; nobody is moved about for that again.
                (Some(_), Some(own)) => Some(own),
                (Some(begun), None) => Some(*begun),
                (None, _) => *first,
            };
            if let (Some(wave), Some(wish)) = (together, wishes.get_mut(index(person))) {
                *wish = Wish::Wave(wave);
            }
        }
        wishes
    }

    fn class(&mut self, class: Class, ordinal: Ordinal) {
        self.out.classes.entry(class).or_default().push(ordinal);
    }

    fn change(&mut self, ordinal: Ordinal, standing: Standing, command: SlotCommand) {
        self.out.changes.push(SlotChange {
            ordinal,
            wave: standing.wave,
            command,
        });
    }

    fn count(&mut self, state: SlotState) {
        self.out.outcome.add(state, 1);
    }

    /// Decides about those who are no longer there.
    fn gone(&mut self) {
        let then = self.then;
        for ((standing, now), ordinal) in then.standing.iter().zip(then.now).zip(0..) {
            if now.is_some() {
                continue;
            }
            let ordinal = Ordinal(ordinal);
            match standing {
                Some(standing) => self.leave(ordinal, *standing, true),
                None => self.count(SlotState::Departed),
            }
        }
    }

    /// Somebody has left, or is left out from now on. Whoever has been moved, or may have been, is listed.
    fn leave(&mut self, ordinal: Ordinal, standing: Standing, is_gone: bool) {
        let (command, class, becomes) = if is_gone {
            (SlotCommand::Depart, Class::Left, SlotState::Departed)
        } else {
            (SlotCommand::Skip, Class::Excluded, SlotState::Skipped)
        };
        match standing.state {
            SlotState::Queued
            | SlotState::Retry
            | SlotState::Parked
            | SlotState::Failed
            | SlotState::Review => {
                self.class(class, ordinal);
                self.change(ordinal, standing, command);
                self.count(becomes);
            }
            SlotState::Unknown | SlotState::Awaiting => {
                self.class(Class::Deprovision, ordinal);
                self.class(Class::Review, ordinal);
                self.change(ordinal, standing, SlotCommand::Doubt);
                self.count(SlotState::Review);
            }
            SlotState::Done | SlotState::Reverting => {
                self.class(Class::Deprovision, ordinal);
                self.count(standing.state);
            }
            SlotState::Skipped if is_gone => {
                self.class(class, ordinal);
                self.change(ordinal, standing, command);
                self.count(becomes);
            }
            SlotState::InFlight => {
                self.out.in_flight += 1;
                self.count(standing.state);
            }
            SlotState::Skipped
            | SlotState::Departed
            | SlotState::Reverted
            | SlotState::Transferred => self.count(standing.state),
        }
    }

    /// Decides about somebody who is there now.
    fn person(&mut self, person: Ordinal, who: (Ordinal, bool), wish: Wish) {
        let (ordinal, is_new) = who;
        if self.by_hand.as_ref().is_some_and(|by| by.holds(person)) {
            self.class(Class::ByHand, ordinal);
        }
        let name = self.late.names.get(index(person)).copied();
        let was = self.then.names.get(index(ordinal)).copied();
        let is_renamed = !is_new && was.is_some() && was != name;
        if is_renamed {
            self.class(Class::Renamed, ordinal);
        }
        let is_taken = (is_new || is_renamed) && self.recycles(ordinal, name);
        let Some(standing) = self.standing(who) else {
            return self.newcomer(ordinal, is_new, wish, is_taken);
        };
        match (standing.state, wish) {
            // A hold keeps them where they are: in another wave it would not find them.
            (SlotState::Parked, Wish::Wave(_)) => {
                self.waits(ordinal, standing, standing.wave, is_taken);
            }
            (SlotState::Queued | SlotState::Retry | SlotState::Parked, Wish::Nowhere)
            | (_, Wish::Out) => {
                self.leave(ordinal, standing, false);
            }
            (SlotState::Queued | SlotState::Retry | SlotState::Departed, Wish::Wave(wave)) => {
                self.waits(ordinal, standing, wave, is_taken)
            }
            (SlotState::InFlight, _) => {
                self.out.in_flight += 1;
                self.count(standing.state);
            }
            (state, _) => self.count(state),
        }
    }

    /// Somebody who has not been begun stays, or stands in the wave they belong to now.
    fn waits(&mut self, ordinal: Ordinal, standing: Standing, wave: WaveNumber, is_taken: bool) {
        let is_back = standing.state == SlotState::Departed;
        if is_back {
            self.class(Class::Returned, ordinal);
        }
        let stays = wave == standing.wave && !(is_back && self.is_finished(wave));
        if !stays {
            self.change(ordinal, standing, SlotCommand::Transfer);
            self.class(Class::Moved, ordinal);
            return self.put(ordinal, wave, is_taken);
        }
        if is_back {
            self.change(ordinal, standing, SlotCommand::Again);
        } else if standing.state == SlotState::Retry {
            self.change(ordinal, standing, SlotCommand::Renew);
        }
        let is_fresh = matches!(standing.state, SlotState::Queued | SlotState::Parked);
        if is_taken && is_fresh {
            self.change(ordinal, standing, SlotCommand::Doubt);
            self.class(Class::Review, ordinal);
            return self.count(SlotState::Review);
        }
        self.count(SlotState::Queued);
    }

    /// Somebody who is in no wave yet.
    fn newcomer(&mut self, ordinal: Ordinal, is_new: bool, wish: Wish, is_taken: bool) {
        let wave = match (self.wishes.late(), wish) {
            (LateJoiners::None, _) | (_, Wish::Out | Wish::Nowhere) => None,
            (LateJoiners::MatchingUnfinishedWave, Wish::Wave(wave)) => Some(wave),
            (LateJoiners::LastOpenWave, Wish::Wave(wave)) => Some(self.last_open().unwrap_or(wave)),
        };
        match wave {
            Some(wave) => {
                self.class(Class::Joined, ordinal);
                self.put(ordinal, wave, is_taken);
            }
            None => {
                if is_new {
                    self.class(Class::JoinedOutside, ordinal);
                }
                self.count(SlotState::Skipped);
            }
        }
    }

    /// Gives somebody a slot; instead of a wave that has finished, in the catch-up wave.
    fn put(&mut self, ordinal: Ordinal, wave: WaveNumber, review: bool) {
        let wave = if self.is_finished(wave) {
            self.class(Class::CatchUp, ordinal);
            WaveNumber(u32::try_from(self.late.finished.len() + 1).unwrap_or(u32::MAX))
        } else {
            wave
        };
        if review {
            self.class(Class::Review, ordinal);
        }
        self.count(if review {
            SlotState::Review
        } else {
            SlotState::Queued
        });
        self.out.new_slots.push(NewSlot {
            wave,
            ordinal,
            review,
        });
    }

    fn is_finished(&self, wave: WaveNumber) -> bool {
        let place = wave
            .get()
            .checked_sub(1)
            .and_then(|at| usize::try_from(at).ok());
        let finished = place.and_then(|at| self.late.finished.get(at));
        finished.copied().unwrap_or(true)
    }

    fn last_open(&self) -> Option<WaveNumber> {
        let numbered = self.late.finished.iter().zip(1..);
        let open = numbered.filter(|(is_finished, _)| !**is_finished);
        open.last().map(|(_, number)| WaveNumber(number))
    }

    /// Says whether a user name was somebody else's whose account may exist; lists it either way.
    fn recycles(&mut self, ordinal: Ordinal, name: Option<u64>) -> bool {
        let Some(name) = name else { return false };
        let names = self.then.names;
        let from = self
            .owners
            .partition_point(|owner| name_of(names, *owner) < name);
        let owners = self.owners.iter().skip(from);
        let others: Vec<Ordinal> = owners
            .take_while(|owner| name_of(names, **owner) == name)
            .map(|owner| Ordinal(*owner))
            .filter(|owner| *owner != ordinal)
            .collect();
        if others.is_empty() {
            return false;
        }
        self.class(Class::Recycled, ordinal);
        others.into_iter().any(|owner| {
            let standing = self.then.standing.get(index(owner)).copied().flatten();
            standing.is_some_and(|standing| {
                matches!(
                    standing.state,
                    SlotState::Done
                        | SlotState::Unknown
                        | SlotState::Awaiting
                        | SlotState::Review
                        | SlotState::Reverting
                        | SlotState::InFlight
                )
            })
        })
    }

    fn finish(mut self) -> Measured {
        self.out
            .changes
            .sort_unstable_by_key(|change| (change.wave, change.ordinal));
        self.out.new_slots.sort_unstable();
        for people in self.out.classes.values_mut() {
            people.sort_unstable();
            people.dedup();
        }
        self.out
    }
}
