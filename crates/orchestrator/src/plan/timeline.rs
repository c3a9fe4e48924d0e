//! When each wave is expected to open, to be drained and to be judged, if nothing stands in its way.

use chrono::TimeDelta;

use super::{Expected, PlannedWave};
use crate::ids::Timestamp;
use crate::spec::RateLimit;
use crate::wave::window::{Freeze, WindowState, first_open, open_at};

/// What is assumed where no rate is given.
pub(super) const ASSUMED_PER_SECOND: u32 = 1000;

/// How many windows of one wave are looked at: three years of nights.
const WINDOWS_MAX: usize = 1100;

pub(super) fn predict(
    waves: &[PlannedWave],
    rate: Option<RateLimit>,
    freezes: &[Freeze],
    now: Timestamp,
) -> Vec<Expected> {
    let mut at = Some(now);
    let mut timeline = Vec::with_capacity(waves.len());
    for wave in waves {
        let opens_at = at.and_then(|at| first_open(wave.schedule.as_ref(), freezes, at));
        let drained_at = opens_at.and_then(|opens_at| drained(wave, rate, freezes, opens_at));
        let soak_until = drained_at.map(|drained_at| wave.soak.after(drained_at));
        timeline.push(Expected {
            wave: wave.number,
            opens_at,
            drained_at,
            soak_until,
        });
        at = soak_until;
    }
    timeline
}

/// Returns how many milliseconds so many people take at a rate.
fn duration(people: u64, rate: Option<RateLimit>) -> TimeDelta {
    let (per, seconds) = rate.map_or((ASSUMED_PER_SECOND, 1), |rate| (rate.people, rate.per.0));
    let millis = u128::from(people) * u128::from(seconds) * 1000 / u128::from(per.max(1));
    TimeDelta::try_milliseconds(i64::try_from(millis).unwrap_or(i64::MAX)).unwrap_or(TimeDelta::MAX)
}

/// Returns how many people fit in a length of time at a rate.
fn people_in(length: TimeDelta, rate: Option<RateLimit>) -> u64 {
    let (per, seconds) = rate.map_or((ASSUMED_PER_SECOND, 1), |rate| (rate.people, rate.per.0));
    let millis = u128::from(length.num_milliseconds().max(0).unsigned_abs());
    u64::try_from(millis * u128::from(per) / (u128::from(seconds.max(1)) * 1000))
        .unwrap_or(u64::MAX)
}

fn drained(
    wave: &PlannedWave,
    rate: Option<RateLimit>,
    freezes: &[Freeze],
    opens_at: Timestamp,
) -> Option<Timestamp> {
    let mut left = wave.people;
    let mut at = opens_at;
    let mut tranche = wave.ramp.map(|ramp| ramp.first(wave.people, at));
    let mut begun = 0;
    for _ in 0..WINDOWS_MAX {
        let until = match open_at(wave.schedule.as_ref(), freezes, at) {
            WindowState::Open { until } => until,
            WindowState::Closed { next, .. } => {
                at = next?;
                continue;
            }
        };
        let allowed = tranche.map_or(left, |tranche| {
            tranche.people.saturating_sub(begun).min(left)
        });
        let fit = until.map_or(allowed, |until| people_in(until - at, rate).min(allowed));
        let done_at = at.checked_add_signed(duration(fit, rate))?;
        left -= fit;
        begun += fit;
        if left == 0 {
            return Some(done_at);
        }
        at = if fit < allowed { until? } else { done_at };
        if let (Some(ramp), Some(current)) = (wave.ramp, tranche)
            && begun >= current.people
        {
            at = at.max(ramp.double_every.after(current.since));
            tranche = ramp.next(current, wave.people, at).or(tranche);
        }
    }
    None
}
