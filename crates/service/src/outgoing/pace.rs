//! When an endpoint that did not answer is tried again, and when it is given up.
//!
//! Five seconds, then three times as long each time, up to an hour; after three days of nothing but failures
//! it is dead. An hour, and not a day as others wait: an endpoint that comes back is told of a halt within
//! the hour, and an attempt costs next to nothing.

use chrono::TimeDelta;
use tidegate_policy::time::Timestamp;

/// The wait after the first failure.
const FIRST: TimeDelta = TimeDelta::seconds(5);
/// How much longer each wait is.
const GROWS: i32 = 3;
/// The longest wait. An endpoint may ask for one; not for a longer one.
const LONGEST: TimeDelta = TimeDelta::hours(1);
/// How long an endpoint may fail without a break: a weekend and a day.
pub const GIVE_UP: TimeDelta = TimeDelta::days(3);
/// A wait is up to a fifth shorter, so that endpoints behind one broken door do not come back as one.
const JITTER_PARTS: i32 = 5;

/// Returns when to try again after an attempt that failed at `now`; none: it is dead.
///
/// `failures` counts this one; `since` is when the first of them failed. `spread` is any number that differs
/// between endpoints and attempts. `asked` is how long the endpoint wants to be left alone.
#[must_use]
pub fn next(
    (failures, since): (i64, Timestamp),
    now: Timestamp,
    spread: u8,
    asked: Option<TimeDelta>,
) -> Option<Timestamp> {
    let end = since.checked_add_signed(GIVE_UP)?;
    if now >= end {
        return None;
    }
    let wait = wait(failures);
    let shorter = wait / JITTER_PARTS * i32::from(spread) / 256;
    let wait = (wait - shorter).max(asked.unwrap_or_default()).min(LONGEST);
    // The last attempt is made when the time is over, and not before.
    Some(now.checked_add_signed(wait)?.min(end))
}

fn wait(failures: i64) -> TimeDelta {
    let mut wait = FIRST;
    for _ in 1..failures.max(1) {
        if wait >= LONGEST {
            break;
        }
        wait = wait * GROWS;
    }
    wait.min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_706_000_000 + seconds, 0).unwrap()
    }

    fn waits(spread: u8) -> Vec<i64> {
        let (since, mut now, mut failures) = (at(0), at(0), 0);
        let mut waits = Vec::new();
        loop {
            failures += 1;
            let Some(next) = next((failures, since), now, spread, None) else {
                return waits;
            };
            assert!(next > now, "it goes on");
            waits.push((next - now).num_seconds());
            now = next;
        }
    }

    #[test]
    fn waits_grow_to_an_hour_and_end_after_three_days() {
        let waits = waits(0);
        assert_eq!(waits[..7], [5, 15, 45, 135, 405, 1215, 3600]);
        assert_eq!(waits.iter().sum::<i64>(), GIVE_UP.num_seconds());
        assert_eq!(waits.len(), 78);
    }

    #[test]
    fn a_wait_is_spread_by_a_fifth_at_most() {
        let (longest, shortest) = (waits(0), waits(255));
        assert!(shortest[5] < longest[5] && shortest[5] * 5 >= longest[5] * 4);
        assert!(shortest.len() < 100, "nobody is hammered");
    }

    #[test]
    fn an_endpoint_may_ask_for_a_longer_wait_up_to_an_hour() {
        let asked = |seconds| next((1, at(0)), at(0), 0, Some(TimeDelta::seconds(seconds)));
        assert_eq!(asked(1), Some(at(5)));
        assert_eq!(asked(60), Some(at(60)));
        assert_eq!(asked(1_000_000), Some(at(3600)));
        assert_eq!(asked(i64::MAX / 1_000), Some(at(3600)));
    }
}
