//! A free canary inside every wave: a small first tranche, then twice as many, then twice again.
//!
//! Growth is earned, not waited for: a tranche doubles only when everybody in it has been decided and
//! the resting time has passed since it was granted, and one decision grants one doubling. A year
//! of halt therefore buys a single step (semantics: notified-based growth accelerates blind).

use serde::{Deserialize, Serialize};

use crate::ids::Timestamp;
use crate::wave::gate::{Limit, Ppm};
use crate::wave::soak::Seconds;

/// How a wave grows from its first tranche to everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// How many people the first tranche holds; a share rounds down, but never below one person.
    pub first: Limit,
    /// How long a tranche rests before the next one, twice as large, may begin.
    pub double_every: Seconds,
}

/// How far a wave's ramp has come: persisted with the wave, so that a restart grants nothing twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tranche {
    /// How many people of the wave may have been begun, in all.
    pub people: u64,
    /// When this was granted.
    pub since: Timestamp,
    /// Set while a wave re-enters after a release: how many people had been begun before. What was
    /// granted since doubles, and not what had been done before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reentry_from: Option<u64>,
}

/// How small a wave begins again after a release: a share of what is left, within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reentry {
    /// Which share of those who are left.
    pub first: Ppm,
    /// But at least so many people.
    pub people_min: u64,
    /// And at most so many.
    pub people_max: u64,
}

impl Default for Reentry {
    /// One percent, at least 50 and at most 1,000 people.
    fn default() -> Self {
        Self {
            first: Ppm::percent(1),
            people_min: 50,
            people_max: 1000,
        }
    }
}

impl Reentry {
    /// Grants the first tranche to a wave that goes on: `begun` of its people were begun before, and
    /// `left` are still to be.
    #[must_use]
    pub fn tranche(&self, begun: u64, left: u64, now: Timestamp) -> Tranche {
        let most = self.people_max.max(self.people_min);
        let granted = self.first.floor_of(left).clamp(self.people_min, most);
        Tranche {
            people: begun.saturating_add(granted.clamp(1, left.max(1))),
            since: now,
            reentry_from: Some(begun),
        }
    }
}

impl Tranche {
    /// Returns the tranche after a re-entry tranche that has rested for `rest`: what was granted since
    /// the release, doubled. `None` while it must still rest, or when it lets everybody in.
    #[must_use]
    pub fn regrown(self, people: u64, rest: Seconds, now: Timestamp) -> Option<Self> {
        let from = self.reentry_from?;
        if self.people >= people || !rest.has_passed(self.since, now) {
            return None;
        }
        let granted = self.people.saturating_sub(from).max(1);
        let next = from.saturating_add(granted.saturating_mul(2)).min(people);
        Some(Self {
            people: next,
            since: now,
            reentry_from: Some(from),
        })
    }

    /// Says whether a wave of `people` is still let in by a re-entry tranche.
    #[must_use]
    pub const fn is_reentry(&self, people: u64) -> bool {
        self.reentry_from.is_some() && self.people < people
    }
}

impl Ramp {
    /// Grants the first tranche of a wave of `people`.
    #[must_use]
    pub fn first(&self, people: u64, now: Timestamp) -> Tranche {
        Tranche {
            people: self.first.allowed(people).clamp(1, people.max(1)),
            since: now,
            reentry_from: None,
        }
    }

    /// Returns the next tranche of a wave of `people`, or `None` while this one must still rest.
    ///
    /// The caller has made sure that everybody begun so far is decided.
    #[must_use]
    pub fn next(&self, current: Tranche, people: u64, now: Timestamp) -> Option<Tranche> {
        let is_everybody = current.people >= people;
        if is_everybody || !self.double_every.has_passed(current.since, now) {
            return None;
        }
        Some(Tranche {
            people: current.people.saturating_mul(2).min(people),
            since: now,
            reentry_from: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::from_millis;

    fn at(seconds: i64) -> Timestamp {
        from_millis(seconds * 1000).unwrap()
    }

    const DAILY: Ramp = Ramp {
        first: Limit::Share(Ppm::percent(1)),
        double_every: Seconds(86_400),
    };

    #[test]
    fn the_first_tranche_of_one_percent_of_20_000_is_200() {
        assert_eq!(DAILY.first(20_000, at(0)).people, 200);
    }

    #[test]
    fn the_first_tranche_is_never_empty_and_never_more_than_the_wave() {
        assert_eq!(DAILY.first(50, at(0)).people, 1);
        let ramp = Ramp {
            first: Limit::Count(500),
            ..DAILY
        };
        assert_eq!(ramp.first(50, at(0)).people, 50);
    }

    #[test]
    fn a_tranche_doubles_after_its_rest_up_to_the_whole_wave() {
        let first = Tranche {
            people: 200,
            since: at(0),
            reentry_from: None,
        };
        assert_eq!(DAILY.next(first, 300, at(86_399)), None);
        let second = DAILY.next(first, 300, at(86_400)).unwrap();
        assert_eq!(
            second,
            Tranche {
                people: 300,
                since: at(86_400),
                reentry_from: None,
            }
        );
        assert_eq!(DAILY.next(second, 300, at(10_000_000)), None);
    }

    #[test]
    fn a_wave_re_enters_with_a_hundredth_of_what_is_left_within_bounds() {
        let first = |left| Reentry::default().tranche(7000, left, at(0)).people - 7000;
        assert_eq!(
            [3, 100, 20_000, 1_000_000].map(first),
            [3, 50, 200, 1000],
            "never more than there are"
        );
    }

    #[test]
    fn what_was_granted_since_the_release_doubles_and_not_what_was_done_before() {
        let rest = Seconds(3600);
        let first = Reentry::default().tranche(100_000, 20_000, at(0));
        assert_eq!(first.people, 100_200);
        assert!(first.is_reentry(120_000));
        assert_eq!(first.regrown(120_000, rest, at(3599)), None);
        let second = first.regrown(120_000, rest, at(366 * 86_400)).unwrap();
        assert_eq!(second.people, 100_400, "a year buys one doubling");
        let mut last = second;
        let mut now = 366 * 86_400 + 3600;
        while let Some(next) = last.regrown(120_000, rest, at(now)) {
            last = next;
            now += 3600;
        }
        assert_eq!(last.people, 120_000);
        assert!(!last.is_reentry(120_000));
    }

    #[test]
    fn a_year_of_waiting_buys_one_doubling() {
        let first = Tranche {
            people: 200,
            since: at(0),
            reentry_from: None,
        };
        let year = at(366 * 86_400);
        let second = DAILY.next(first, 20_000, year).unwrap();
        assert_eq!(second.people, 400);
        assert_eq!(DAILY.next(second, 20_000, year), None);
    }
}
