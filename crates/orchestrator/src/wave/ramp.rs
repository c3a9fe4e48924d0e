//! A free canary inside every wave: a small first tranche, then twice as many, then twice again.
//!
//! Growth is earned, not waited for: a tranche doubles only when everybody in it has been decided and
//! the resting time has passed since it was granted, and one decision grants one doubling. A year
//! of halt therefore buys a single step (semantics: notified-based growth accelerates blind).

use serde::{Deserialize, Serialize};

use crate::ids::Timestamp;
use crate::wave::gate::Limit;
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
}

impl Ramp {
    /// Grants the first tranche of a wave of `people`.
    #[must_use]
    pub fn first(&self, people: u64, now: Timestamp) -> Tranche {
        Tranche {
            people: self.first.allowed(people).clamp(1, people.max(1)),
            since: now,
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
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::from_millis;
    use crate::wave::gate::Ppm;

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
        };
        assert_eq!(DAILY.next(first, 300, at(86_399)), None);
        let second = DAILY.next(first, 300, at(86_400)).unwrap();
        assert_eq!(
            second,
            Tranche {
                people: 300,
                since: at(86_400)
            }
        );
        assert_eq!(DAILY.next(second, 300, at(10_000_000)), None);
    }

    #[test]
    fn a_year_of_waiting_buys_one_doubling() {
        let first = Tranche {
            people: 200,
            since: at(0),
        };
        let year = at(366 * 86_400);
        let second = DAILY.next(first, 20_000, year).unwrap();
        assert_eq!(second.people, 400);
        assert_eq!(DAILY.next(second, 20_000, year), None);
    }
}
