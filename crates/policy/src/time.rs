//! Instants and lengths of time.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// An instant, always in UTC.
pub type Timestamp = DateTime<Utc>;

/// A length of time in whole seconds, as people state it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seconds(pub u32);

impl Seconds {
    /// Returns the instant this long after `since`; the end of time if there is none.
    #[must_use]
    pub fn after(self, since: Timestamp) -> Timestamp {
        since
            .checked_add_signed(TimeDelta::seconds(i64::from(self.0)))
            .unwrap_or(Timestamp::MAX_UTC)
    }

    /// Says whether this long has passed since `since`. The last instant counts as passed.
    #[must_use]
    pub fn has_passed(self, since: Timestamp, now: Timestamp) -> bool {
        now >= self.after(since)
    }
}

/// `90s`, `30m`, `6h`, `3d`, or several of these one after the other, largest first.
impl std::str::FromStr for Seconds {
    type Err = NoTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        crate::document::reader::seconds_of(text).ok_or(NoTime)
    }
}

/// A text is no length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a length of time is written as 90s, 30m, 6h or 3d")]
pub struct NoTime;
