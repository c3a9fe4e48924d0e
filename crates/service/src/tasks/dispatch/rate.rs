//! The rate of a target, as a generic cell rate algorithm on one number in the target's row.
//!
//! The number is the theoretical arrival time (TAT) of the next person, in microseconds since 1970.
//! A person may begin while the TAT lies less than the burst ahead of now; each one moves it by one
//! interval. Because every replica moves the same number in its claim transaction, the rate holds
//! across all of them, and no person can be let in twice by two clocks.
//!
//! Pure: no clock, no database.

/// How far ahead people are let in and paced: one claim a second is enough at any rate.
pub(super) const RATE_AHEAD_US: i64 = 1_000_000;

/// A rate and its burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Microseconds between two people at the steady rate; at least one.
    interval_us: i64,
    /// How many people may begin at once after a quiet time; at least one.
    burst: i64,
}

/// How many people a claim may take, and when each of them may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// How many people.
    pub people: u32,
    /// The TAT after them.
    pub tat_us: i64,
    /// When the first may begin, in microseconds since 1970.
    pub pace: Pace,
}

/// When each person of a claim may begin: `first`, then one every `interval`, never before `first`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    first_us: i64,
    interval_us: i64,
    tolerance_us: i64,
}

impl Pace {
    /// Returns when the person in this place of the claim may begin, in microseconds since 1970.
    #[must_use]
    pub fn begin_us(&self, place: u32) -> i64 {
        self.first_us
            .saturating_add(self.interval_us.saturating_mul(i64::from(place)))
    }

    /// Lets one more begin now, or says how many microseconds later; `tat_us` is moved when it does.
    ///
    /// The claim granted each a time. Whoever is late, because a machine or a server stood still, must
    /// not begin in one heap with the others: in no window more than burst and rate.
    pub fn space(&self, tat_us: &mut i64, now_us: i64) -> Result<(), i64> {
        let wait = tat_us
            .saturating_sub(self.tolerance_us)
            .saturating_sub(now_us);
        if wait > 0 {
            return Err(wait);
        }
        *tat_us = (*tat_us).max(now_us).saturating_add(self.interval_us);
        Ok(())
    }
}

impl Rate {
    const MICROS_PER_SECOND: i64 = 1_000_000;

    /// Returns a rate of `people` per `seconds`, or `None` when it lets nobody through.
    #[must_use]
    pub fn new(people: u64, seconds: u64, burst: u64) -> Option<Self> {
        let micros = i64::try_from(seconds)
            .ok()?
            .checked_mul(Self::MICROS_PER_SECOND)?;
        let people = i64::try_from(people).ok().filter(|people| *people > 0)?;
        // Rounded up: the steady rate is never above what was asked for. Above a million a second
        // the interval is one microsecond, which is no limit that matters.
        let interval_us = (micros.saturating_add(people - 1) / people).max(1);
        let burst = i64::try_from(burst).unwrap_or(i64::MAX).max(1);
        Some(Self { interval_us, burst })
    }

    /// Returns the slower of two rates, with the smaller burst.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        Self {
            interval_us: self.interval_us.max(other.interval_us),
            burst: self.burst.min(other.burst),
        }
    }

    /// Returns people per second at the steady rate.
    #[must_use]
    pub fn people_per_second(self) -> i64 {
        (Self::MICROS_PER_SECOND / self.interval_us).max(1)
    }

    /// Lets up to `wanted` people begin between now and `ahead_us` from now.
    ///
    /// Those beyond the burst are let in ahead of their time and paced: a claim for the next second
    /// costs one transaction, not one per person.
    #[must_use]
    pub fn grant(self, tat_us: i64, now_us: i64, ahead_us: i64, wanted: u32) -> Option<Grant> {
        let tolerance = self.interval_us.saturating_mul(self.burst - 1);
        // A quiet time buys the burst and no more.
        let tat = tat_us.max(now_us);
        let first_us = tat.saturating_sub(tolerance);
        let room = now_us.saturating_add(ahead_us).saturating_sub(first_us);
        if room < 0 {
            return None;
        }
        let people = (room / self.interval_us)
            .saturating_add(1)
            .min(i64::from(wanted));
        let people = u32::try_from(people).ok().filter(|people| *people > 0)?;
        let tat_us = tat.saturating_add(self.interval_us.saturating_mul(i64::from(people)));
        let pace = Pace {
            first_us,
            interval_us: self.interval_us,
            tolerance_us: tolerance,
        };
        Some(Grant {
            people,
            tat_us,
            pace,
        })
    }

    /// Returns how many people begin in so many microseconds at the steady rate.
    #[must_use]
    pub fn people_within(self, micros: i64) -> u32 {
        u32::try_from(micros / self.interval_us).unwrap_or(u32::MAX)
    }

    /// Returns when the next person may be let in, in microseconds since 1970.
    #[must_use]
    pub fn open_us(self, tat_us: i64, ahead_us: i64) -> i64 {
        tat_us
            .saturating_sub(self.interval_us.saturating_mul(self.burst - 1))
            .saturating_sub(ahead_us)
    }

    /// Returns when the next `people` may be let in at once, in microseconds since 1970.
    #[must_use]
    pub fn open_us_for(self, tat_us: i64, ahead_us: i64, people: u32) -> i64 {
        let more = i64::from(people.saturating_sub(1));
        self.open_us(tat_us, ahead_us)
            .saturating_add(self.interval_us.saturating_mul(more))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_quiet_time_buys_the_burst_and_no_more() {
        let rate = Rate::new(10, 1, 5).unwrap();
        let grant = rate.grant(0, 1_000 * SECOND, 0, 100).unwrap();
        assert_eq!(grant.people, 5);
        assert_eq!(grant.tat_us, 1_000 * SECOND + 5 * SECOND / 10);
        assert_eq!(rate.grant(grant.tat_us, 1_000 * SECOND, 0, 100), None);
    }

    #[test]
    fn the_next_person_is_let_in_one_interval_later_and_not_a_microsecond_before() {
        let rate = Rate::new(10, 1, 1).unwrap();
        let first = rate.grant(0, SECOND, 0, 9).unwrap();
        assert_eq!(first.people, 1);
        assert_eq!(rate.open_us(first.tat_us, 0), SECOND + 100_000);
        assert_eq!(rate.grant(first.tat_us, SECOND + 99_999, 0, 9), None);
        assert_eq!(
            rate.grant(first.tat_us, SECOND + 100_000, 0, 9)
                .unwrap()
                .people,
            1
        );
    }

    #[test]
    fn people_let_in_ahead_of_their_time_are_paced() {
        let rate = Rate::new(100, 1, 1).unwrap();
        let grant = rate.grant(0, 0, SECOND, 1_000).unwrap();
        assert_eq!(grant.people, 101);
        assert_eq!(grant.pace.begin_us(0), 0);
        assert_eq!(grant.pace.begin_us(100), SECOND);
    }

    #[test]
    fn whoever_is_late_does_not_begin_in_a_heap() {
        let pace = Rate::new(100, 1, 3).unwrap().grant(0, 0, SECOND, 50);
        let pace = pace.unwrap().pace;
        // Everybody's time has come, and a second more.
        let (mut tat, mut now, mut begun) = (0, 2 * SECOND, Vec::new());
        while begun.len() < 50 {
            match pace.space(&mut tat, now) {
                Ok(()) => begun.push(now),
                Err(wait) => now += wait,
            }
        }
        assert_eq!(begun[2], 2 * SECOND, "the burst");
        assert_eq!(begun[49] - begun[2], 47 * SECOND / 100, "the rate");
    }

    #[test]
    fn several_are_let_in_when_the_last_of_them_may_be() {
        let rate = Rate::new(20, 1, 1).unwrap();
        let (tat, ahead) = (10 * SECOND, SECOND);
        let open = rate.open_us_for(tat, ahead, 10);
        assert_eq!(rate.grant(tat, open, ahead, 10).unwrap().people, 10);
        assert!(
            rate.grant(tat, open - 1, ahead, 10)
                .is_none_or(|grant| grant.people < 10)
        );
        assert_eq!(rate.people_within(SECOND / 2), 10);
    }

    #[test]
    fn nobody_is_no_rate() {
        assert_eq!(Rate::new(0, 1, 1), None);
    }

    proptest! {
        // The defining claim of the algorithm: in any window, at most burst + rate x window begin.
        #[test]
        fn no_window_sees_more_than_burst_and_rate(
            people in 1_u64..500,
            burst in 1_u64..50,
            asks in proptest::collection::vec((0_i64..300_000, 1_u32..40, 0_i64..1_000_000), 1..60),
        ) {
            let rate = Rate::new(people, 1, burst).unwrap();
            let (mut now, mut tat) = (0_i64, 0_i64);
            let mut begun = Vec::new();
            for (gap, wanted, ahead) in asks {
                now += gap;
                if let Some(grant) = rate.grant(tat, now, ahead, wanted) {
                    prop_assert!(grant.people <= wanted);
                    tat = grant.tat_us;
                    for place in 0..grant.people {
                        begun.push(grant.pace.begin_us(place).max(now));
                    }
                }
            }
            for (index, first) in begun.iter().enumerate() {
                for (count, last) in begun[index..].iter().enumerate() {
                    let window = last - first;
                    let most = i64::try_from(burst).unwrap() + window / rate.interval_us;
                    prop_assert!(i64::try_from(count).unwrap() < most + 1);
                }
            }
        }
    }
}
