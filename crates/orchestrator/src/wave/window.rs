//! When a wave may be open: a cron expression in an IANA zone opens a window, freezes close it.
//!
//! The cron expression speaks local time. A local time that the clocks skip opens the window at the
//! first instant after the gap; one that comes twice opens it at the first of the two. A window lasts
//! its length in real time, so a night with a change of clocks is neither shortened nor lengthened.
//! A freeze beats a window. Windows that were missed are gone: nothing here counts them, and only the
//! present and the next one are ever looked at.

use std::str::FromStr;

use chrono::{
    DateTime, Days, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc,
};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::Timestamp;
use crate::sentence::instant;
use crate::wave::soak::Seconds;

/// How many openings are looked at before a schedule is said to have none: a cron expression that
/// fires every second has this many in a little over an hour.
const OPENINGS_MAX: usize = 4000;

/// When the windows of a wave open, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Seconds, minutes, hours, day of month, month, day of week, and perhaps year; local time.
    pub cron: String,
    /// The IANA name of the zone.
    pub zone: String,
    /// How long a window stays open.
    pub window: Seconds,
}

/// Days on which nothing opens, whatever the schedule says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// What people call it.
    pub name: String,
    /// The first day.
    pub from: NaiveDate,
    /// The last day, which is frozen as a whole.
    pub to: NaiveDate,
    /// The IANA name of the zone whose days are meant.
    pub zone: String,
}

/// The schedule or freeze cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// The cron expression is none.
    #[error("`{cron}` is not a cron expression (seconds minutes hours day month weekday): {cause}")]
    Cron {
        /// The expression.
        cron: String,
        /// What the parser says.
        cause: String,
    },
    /// No such zone.
    #[error("`{0}` is not an IANA time zone, such as Europe/Paris")]
    Zone(String),
    /// A window of no length never opens.
    #[error("a window must be at least one second long")]
    EmptyWindow,
    /// It ends before it begins.
    #[error("freeze `{0}` ends before it begins")]
    FreezeBackwards(String),
}

/// Whether a wave may be open now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowState {
    /// Yes.
    Open {
        /// Until when; `None`: without end.
        until: Option<Timestamp>,
    },
    /// No.
    Closed {
        /// When it may next be.
        next: Option<Timestamp>,
        /// Why not, in one sentence.
        because: String,
    },
}

impl Schedule {
    /// Returns what makes the schedule unusable, if anything does.
    ///
    /// # Errors
    ///
    /// Names the part that cannot be understood.
    pub fn check(&self) -> Result<(), ScheduleError> {
        self.parts()?;
        if self.window.0 == 0 {
            Err(ScheduleError::EmptyWindow)
        } else {
            Ok(())
        }
    }

    fn parts(&self) -> Result<(cron::Schedule, Tz), ScheduleError> {
        let cron = cron::Schedule::from_str(&self.cron).map_err(|error| {
            // The parser draws an arrow under the text; its last line says what is wrong.
            let cause = error.to_string();
            ScheduleError::Cron {
                cron: self.cron.clone(),
                cause: cause.lines().last().unwrap_or_default().to_owned(),
            }
        })?;
        Ok((cron, zone(&self.zone)?))
    }

    /// Returns the window that is open at `now`, as its opening and its end.
    fn current(&self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let (cron, zone) = self.parts().ok()?;
        // A day ahead: no change of clocks moves a local time further than that.
        let from = local(now, zone).checked_add_signed(TimeDelta::days(1))?;
        let opened = cron
            .after(&from.and_utc())
            .rev()
            .take(OPENINGS_MAX.saturating_mul(24))
            .filter_map(|opening| instant_of(opening.naive_utc(), zone))
            .find(|opened| *opened <= now)?;
        let until = self.window.after(opened);
        (now < until).then_some((opened, until))
    }

    /// Returns the first opening strictly after `now`.
    #[must_use]
    pub fn next_opening(&self, now: Timestamp) -> Option<Timestamp> {
        let (cron, zone) = self.parts().ok()?;
        let from = local(now, zone).checked_sub_signed(TimeDelta::days(1))?;
        cron.after(&from.and_utc())
            .take(OPENINGS_MAX.saturating_mul(48))
            .filter_map(|opening| instant_of(opening.naive_utc(), zone))
            .find(|opened| *opened > now)
    }
}

impl Freeze {
    /// Returns what makes the freeze unusable, if anything does.
    ///
    /// # Errors
    ///
    /// Names the part that cannot be understood.
    pub fn check(&self) -> Result<(), ScheduleError> {
        zone(&self.zone)?;
        if self.to < self.from {
            Err(ScheduleError::FreezeBackwards(self.name.clone()))
        } else {
            Ok(())
        }
    }

    /// Returns the first instant of the freeze and the first after it. A freeze whose zone cannot be
    /// read never gets into a plan; should one come from elsewhere, it is taken as UTC.
    #[must_use]
    pub fn span(&self) -> (Timestamp, Timestamp) {
        let zone = zone(&self.zone).unwrap_or(Tz::UTC);
        let begin = |day: NaiveDate| instant_of(day.and_time(NaiveTime::MIN), zone);
        let end = self.to.checked_add_days(Days::new(1)).and_then(begin);
        (
            begin(self.from).unwrap_or(Timestamp::MIN_UTC),
            end.unwrap_or(Timestamp::MAX_UTC),
        )
    }
}

/// Says whether a wave may be open at `now`, and when that changes.
#[must_use]
pub fn open_at(schedule: Option<&Schedule>, freezes: &[Freeze], now: Timestamp) -> WindowState {
    if let Some((freeze, end)) = frozen(freezes, now) {
        let next = first_open(schedule, freezes, end);
        return WindowState::Closed {
            next,
            because: format!("freeze `{}` lasts until {}", freeze.name, instant(end)),
        };
    }
    let freeze_begins = freezes
        .iter()
        .map(|freeze| freeze.span().0)
        .filter(|begin| *begin > now)
        .min();
    let Some(schedule) = schedule else {
        return WindowState::Open {
            until: freeze_begins,
        };
    };
    match schedule.current(now) {
        Some((_, end)) => WindowState::Open {
            until: Some(freeze_begins.map_or(end, |begin| begin.min(end))),
        },
        None => {
            let next = schedule
                .next_opening(now)
                .and_then(|opening| first_open(Some(schedule), freezes, opening));
            let because = match next {
                Some(next) => format!("the window is closed; the next one opens {}", instant(next)),
                None => format!(
                    "the window is closed, and `{}` in {} never opens again",
                    schedule.cron, schedule.zone
                ),
            };
            WindowState::Closed { next, because }
        }
    }
}

/// Returns the first instant from `from` on at which a wave may be open.
#[must_use]
pub fn first_open(
    schedule: Option<&Schedule>,
    freezes: &[Freeze],
    from: Timestamp,
) -> Option<Timestamp> {
    let mut at = from;
    for _ in 0..OPENINGS_MAX {
        if let Some((_, end)) = frozen(freezes, at) {
            at = end;
            continue;
        }
        let Some(schedule) = schedule else {
            return Some(at);
        };
        if schedule.current(at).is_some() {
            return Some(at);
        }
        at = schedule.next_opening(at)?;
    }
    None
}

/// Returns the freeze that covers an instant, and its end; of several the one that ends last.
fn frozen(freezes: &[Freeze], at: Timestamp) -> Option<(&Freeze, Timestamp)> {
    freezes
        .iter()
        .map(|freeze| (freeze, freeze.span()))
        .filter(|(_, (begin, end))| *begin <= at && at < *end)
        .map(|(freeze, (_, end))| (freeze, end))
        .max_by_key(|(_, end)| *end)
}

/// Reads the name of a zone.
///
/// # Errors
///
/// When there is no such zone.
pub fn zone(name: &str) -> Result<Tz, ScheduleError> {
    Tz::from_str(name).map_err(|_| ScheduleError::Zone(name.to_owned()))
}

fn local(at: Timestamp, zone: Tz) -> NaiveDateTime {
    at.with_timezone(&zone).naive_local()
}

/// Returns the instant of a local time: the first of two, and the end of the gap for none.
fn instant_of(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => {
            Some(at.with_timezone(&Utc))
        }
        MappedLocalTime::None => after_gap(local, zone),
    }
}

/// Finds the first instant after a gap of the clocks by halving the day around it.
fn after_gap(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    let exists_from = |minutes: i64| {
        let later = local.checked_add_signed(TimeDelta::minutes(minutes))?;
        zone.from_local_datetime(&later).earliest()
    };
    // Samoa skipped a whole day in 2011: the longest gap there has been.
    let (mut missing, mut found) = (0, 25 * 60);
    while found - missing > 1 {
        let middle = missing + (found - missing) / 2;
        if exists_from(middle).is_some() {
            found = middle
        } else {
            missing = middle
        }
    }
    exists_from(found).map(|at| {
        let seconds = i64::from(chrono::Timelike::second(&local));
        at.with_timezone(&Utc) - TimeDelta::seconds(seconds)
    })
}

#[cfg(test)]
mod tests;
