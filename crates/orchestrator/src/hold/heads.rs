//! How many people a hold stops, and what it means for each of them, in words.
//!
//! Counted from the tallies of waves, never from people. A hold never waits for its count: it stands, and
//! is counted afterwards. `HeadCount` is stored as JSON and decodes for ever.

use serde::{Deserialize, Serialize};

use crate::hold::MovedPeople;
use crate::ids::{RolloutId, Timestamp};
use crate::ledger::{SlotState, Tally};
use crate::sentence::people;

/// People under a hold, by what it means for them. Everybody is counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Heads {
    /// Nobody has begun with them.
    pub not_begun: u64,
    /// A request for them may be under way.
    pub in_flight: u64,
    /// Begun and undecided: to be tried again, to be confirmed, in doubt, being moved back.
    pub undecided: u64,
    /// Moved.
    pub moved: u64,
    /// Neither moved nor on the way: failed, in review, left out, departed, moved back.
    pub others: u64,
}

/// What of a rollout decides how its people are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Course {
    /// Whether it is over: nobody waits any more.
    pub is_over: bool,
    /// Whether it takes people back: whoever is done has been moved back.
    pub takes_back: bool,
}

impl Heads {
    /// Sorts a tally by what a hold means for people.
    #[must_use]
    pub fn of(tally: &Tally, course: Course) -> Self {
        let mut heads = Self::default();
        for (state, count) in tally.iter() {
            let field = match state {
                SlotState::Queued | SlotState::Parked if course.is_over => &mut heads.others,
                SlotState::Queued | SlotState::Parked => &mut heads.not_begun,
                SlotState::InFlight => &mut heads.in_flight,
                SlotState::Awaiting
                | SlotState::Retry
                | SlotState::Unknown
                | SlotState::Reverting => &mut heads.undecided,
                SlotState::Done if course.takes_back => &mut heads.others,
                SlotState::Done => &mut heads.moved,
                SlotState::Failed
                | SlotState::Skipped
                | SlotState::Departed
                | SlotState::Reverted
                | SlotState::Review => &mut heads.others,
                // They stand in another wave, and are counted there.
                SlotState::Transferred => continue,
            };
            *field = field.saturating_add(count);
        }
        heads
    }

    /// Returns the sum of two counts.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            not_begun: self.not_begun.saturating_add(other.not_begun),
            in_flight: self.in_flight.saturating_add(other.in_flight),
            undecided: self.undecided.saturating_add(other.undecided),
            moved: self.moved.saturating_add(other.moved),
            others: self.others.saturating_add(other.others),
        }
    }

    /// Returns everybody.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.not_begun
            .saturating_add(self.in_flight)
            .saturating_add(self.undecided)
            .saturating_add(self.moved)
            .saturating_add(self.others)
    }

    /// Says what will and what will not happen with them while a hold of this effect is in force.
    #[must_use]
    pub fn sentences(&self, effect: MovedPeople) -> Vec<String> {
        let moved = people(self.moved);
        vec![
            format!(
                "{} not begun: nobody begins with them",
                people(self.not_begun)
            ),
            format!(
                "{} in flight: requests that had begun end, and none begins",
                people(self.in_flight)
            ),
            format!(
                "{} begun and undecided: neither tried nor looked up again",
                people(self.undecided)
            ),
            match effect {
                MovedPeople::Keep => format!("{moved} moved: they keep what they have"),
                MovedPeople::Freeze => format!(
                    "{moved} moved: they keep what they have, and nothing about them changes; they are neither \
                     tried again, nor counted as not moved, nor taken back"
                ),
                MovedPeople::Revert => format!(
                    "{moved} moved: whoever placed it wants them back, and nothing takes them back by itself: \
                     take them back with `tidegate revert`"
                ),
            },
        ]
    }
}

/// The people of one rollout under a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutHeads {
    /// The rollout.
    pub id: RolloutId,
    /// Its name.
    pub name: String,
    /// Its lifecycle; of one that has not started nobody is laid out yet, and it cannot start.
    pub lifecycle: String,
    /// Its people.
    pub people: Heads,
}

/// The people under a hold, as of an instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadCount {
    /// When they were counted.
    pub at: Timestamp,
    /// How many rollouts it covers.
    pub rollouts: u64,
    /// The people of all of them.
    pub people: Heads,
    /// The largest of them, each with its people.
    pub largest: Vec<RolloutHeads>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::from_millis;
    use uuid::Uuid;

    fn everywhere() -> Tally {
        let counts = SlotState::ALL
            .iter()
            .copied()
            .zip([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]);
        counts.collect()
    }

    #[test]
    fn everybody_under_a_hold_is_counted_once() {
        let (tally, heads) = (everywhere(), Heads::of(&everywhere(), Course::default()));
        let transferred = tally.get(SlotState::Transferred);
        assert_eq!(heads.total(), tally.total() - transferred);
        let expected = Heads {
            not_begun: 1,
            in_flight: 2,
            undecided: 4 + 32 + 64 + 512,
            moved: 8,
            others: 16 + 128 + 256 + 1024 + 2048,
        };
        assert_eq!(heads, expected);
        assert_eq!(heads.plus(heads).total(), 2 * heads.total());
    }

    #[test]
    fn nobody_of_a_rollout_that_is_over_waits() {
        let over = Course {
            is_over: true,
            takes_back: false,
        };
        let heads = Heads::of(&everywhere(), over);
        assert_eq!((heads.not_begun, heads.moved), (0, 8));
        assert_eq!(
            heads.total(),
            Heads::of(&everywhere(), Course::default()).total()
        );
    }

    #[test]
    fn whoever_was_taken_back_does_not_count_as_moved() {
        let back = Course {
            is_over: false,
            takes_back: true,
        };
        let (there, heads) = (
            Heads::of(&everywhere(), Course::default()),
            Heads::of(&everywhere(), back),
        );
        assert_eq!((heads.moved, heads.others), (0, there.others + there.moved));
        assert_eq!(heads.total(), there.total());
    }

    #[test]
    fn each_effect_says_what_becomes_of_people_who_were_moved() {
        let heads = Heads::of(&everywhere(), Course::default());
        let mut text = String::new();
        for effect in [MovedPeople::Keep, MovedPeople::Freeze, MovedPeople::Revert] {
            text.push_str(&format!("{}\n", effect.name()));
            for sentence in heads.sentences(effect) {
                text.push_str(&format!("  {sentence}\n"));
            }
        }
        insta::assert_snapshot!("head_sentences", text);
    }

    #[test]
    fn a_head_count_of_version_1_is_read_for_ever() {
        let golden =
            include_str!("../../../../tests/fixtures/records/v1/head_count.json").trim_end();
        let count = HeadCount {
            at: from_millis(1_800_000_000_000).unwrap(),
            rollouts: 2,
            people: Heads::of(&everywhere(), Course::default()),
            largest: vec![RolloutHeads {
                id: RolloutId::new(Uuid::from_u128(7)),
                name: "move".to_owned(),
                lifecycle: "running".to_owned(),
                people: Heads::of(&everywhere(), Course::default()),
            }],
        };
        assert_eq!(serde_json::from_str::<HeadCount>(golden).unwrap(), count);
        assert_eq!(serde_json::to_string(&count).unwrap(), golden);
    }
}
