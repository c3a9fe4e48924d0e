//! A hold on some people of a wave: those with whom nobody has begun, and whom a condition over attributes
//! picks.
//!
//! It begins as a hold on the whole wave, so that placing it is one row and nothing new has to be proved
//! about permits and claims. Then the people of the wave are sorted: whoever matches is parked, which no
//! worker takes up. Only when everybody has been sorted is the hold narrowed to those who are parked, and the
//! rest of the wave goes on. Whatever may have put somebody into the queue again (a retry, drift) widens it
//! to the whole wave until they are sorted once more. A condition that cannot be evaluated never narrows.

use serde::{Deserialize, Serialize};
use tidegate_policy::Condition;

use super::{Hold, Scope};
use crate::ids::{Epoch, Ordinal, Timestamp};
use crate::ledger::{SlotCommand, SlotIndex, SlotState, Slots};
use crate::plan::select::Bound;
use crate::population::Population;

/// Which people of a wave a hold means, and how far they have been sorted out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Whom it picks.
    pub condition: Condition,
    /// Whether the ledger is as this hold, or its end, wants it.
    pub is_sorted: bool,
    /// How many it keeps back; `None` until they have been sorted out.
    pub people: Option<u64>,
    /// The epoch from which on it covered the whole wave, last.
    pub whole_epoch: Epoch,
    /// When that was.
    pub whole_at: Timestamp,
}

impl Part {
    /// Names people of a wave that is held as a whole from an epoch on.
    #[must_use]
    pub const fn new(condition: Condition, epoch: Epoch, now: Timestamp) -> Self {
        Self {
            condition,
            is_sorted: false,
            people: None,
            whole_epoch: epoch,
            whole_at: now,
        }
    }

    /// Returns it with everybody still to be sorted.
    #[must_use]
    pub fn unsorted(self) -> Self {
        Self {
            is_sorted: false,
            ..self
        }
    }
}

impl Hold {
    /// Returns the hold, narrowed to the people who are parked; `people` of them it picks itself. One that has
    /// ended has let everybody go.
    #[must_use]
    pub fn narrowed(&self, people: u64) -> Self {
        let scope = match (self.scope, self.is_in_force()) {
            (Scope::Wave(rollout, wave), true) => Scope::Part(rollout, wave),
            (scope, _) => scope,
        };
        let part = self.part.clone().map(|part| Part {
            is_sorted: true,
            people: Some(people),
            ..part
        });
        Self {
            scope,
            part,
            generation: self.generation.next(),
            ..self.clone()
        }
    }

    /// Returns the hold, covering the whole wave from this epoch on until its people are sorted again.
    #[must_use]
    pub fn widened(&self, epoch: Epoch, now: Timestamp) -> Self {
        let scope = match self.scope {
            Scope::Part(rollout, wave) => Scope::Wave(rollout, wave),
            Scope::Everything | Scope::Target(_) | Scope::Rollout(_) | Scope::Wave(..) => {
                self.scope
            }
        };
        let part = self.part.clone().map(|part| Part {
            is_sorted: false,
            whole_epoch: epoch,
            whole_at: now,
            ..part
        });
        Self {
            scope,
            part,
            generation: self.generation.next(),
            ..self.clone()
        }
    }
}

/// What becomes of the people of one batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sorted {
    /// Who is parked, or let go, in ascending order.
    pub changes: Vec<(SlotIndex, SlotCommand)>,
    /// For each condition, in its order: how many people it keeps back afterwards.
    pub kept: Vec<u64>,
    /// How many whom a condition picks are in flight: until that is over the wave stays held.
    pub busy: u64,
}

/// Whom of a population a condition picks, asked once: a bit for each person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked(Vec<u64>);

impl Picked {
    /// Asks a condition of everybody. It takes as long as its tests times the distinct values they are asked of,
    /// so nothing waits for it.
    #[must_use]
    pub fn of(condition: &Condition, people: &Population) -> Self {
        let bound = Bound::new(condition, people);
        let mut bits = vec![0_u64; people.keys().len().div_ceil(64)];
        for person in people.ordinals() {
            if bound.holds(person)
                && let Some(word) = bits.get_mut(word_of(person))
            {
                *word |= bit_of(person);
            }
        }
        Self(bits)
    }

    /// Says whether it picks somebody.
    #[must_use]
    pub fn holds(&self, person: Ordinal) -> bool {
        let word = self.0.get(word_of(person)).copied().unwrap_or(0);
        word & bit_of(person) != 0
    }
}

fn word_of(person: Ordinal) -> usize {
    usize::try_from(person.get() / 64).unwrap_or(usize::MAX)
}

const fn bit_of(person: Ordinal) -> u64 {
    1 << (person.get() % 64)
}

/// Sorts one batch by all the conditions that holds in force give for its wave. Somebody is parked while at
/// least one picks them; sorting again changes nobody.
#[must_use]
pub fn sort(slots: &Slots, ordinals: &[Ordinal], conditions: &[Picked]) -> Sorted {
    let mut sorted = Sorted {
        kept: vec![0; conditions.len()],
        ..Sorted::default()
    };
    for ((state, ordinal), place) in slots.states().zip(ordinals).zip(0..) {
        let index = SlotIndex(place);
        let is_waiting = state.is_claimable() || state == SlotState::Parked;
        if !is_waiting && state != SlotState::InFlight {
            continue;
        }
        let mut is_picked = false;
        for (condition, kept) in conditions.iter().zip(&mut sorted.kept) {
            if condition.holds(*ordinal) {
                is_picked = true;
                *kept += u64::from(is_waiting);
            }
        }
        match (is_picked, state) {
            (true, SlotState::InFlight) => sorted.busy += 1,
            (true, SlotState::Parked) | (false, SlotState::InFlight) => {}
            (true, _) => sorted.changes.push((index, SlotCommand::Park)),
            (false, SlotState::Parked) => sorted.changes.push((index, SlotCommand::Unpark)),
            (false, _) => {}
        }
    }
    sorted
}

#[cfg(test)]
mod tests;
