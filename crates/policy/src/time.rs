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
