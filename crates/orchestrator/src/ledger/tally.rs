//! Counts of people by state.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::state::SlotState;

/// How many people stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally([u64; SlotState::ALL.len()]);

impl Tally {
    /// Counts nobody.
    pub const ZERO: Self = Self([0; SlotState::ALL.len()]);

    /// Returns how many are in a state.
    #[must_use]
    pub fn get(&self, state: SlotState) -> u64 {
        self.0
            .get(usize::from(state.number()))
            .copied()
            .unwrap_or(0)
    }

    /// Counts `people` more in a state.
    pub fn add(&mut self, state: SlotState, people: u64) {
        if let Some(count) = self.0.get_mut(usize::from(state.number())) {
            *count = count.saturating_add(people);
        }
    }

    /// Returns the sum of two tallies.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (state, people) in other.iter() {
            self.add(state, people);
        }
        self
    }

    /// Returns everybody.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns those with whom nothing more happens by itself.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.iter()
            .filter(|(state, _)| state.is_settled())
            .map(|(_, people)| people)
            .sum()
    }

    /// Returns every state with its count, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (SlotState, u64)> + '_ {
        SlotState::ALL.iter().copied().zip(self.0.iter().copied())
    }
}

impl FromIterator<(SlotState, u64)> for Tally {
    fn from_iter<I: IntoIterator<Item = (SlotState, u64)>>(counts: I) -> Self {
        let mut tally = Self::ZERO;
        for (state, people) in counts {
            tally.add(state, people);
        }
        tally
    }
}

impl Serialize for Tally {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(state, people)| (state.name(), people)))
    }
}

impl<'de> Deserialize<'de> for Tally {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let counts = std::collections::BTreeMap::<SlotState, u64>::deserialize(deserializer)?;
        Ok(counts.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_adds_up_and_reads_back() {
        let mut tally = Tally::ZERO;
        tally.add(SlotState::Done, 7);
        tally.add(SlotState::Queued, 3);
        assert_eq!((tally.total(), tally.settled()), (10, 7));
        let json = serde_json::to_string(&tally).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&json).unwrap(), tally);
        assert_eq!(tally.plus(&tally).get(SlotState::Queued), 6);
    }
}
