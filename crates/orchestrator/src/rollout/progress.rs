//! How far one wave has come, and whether its people may be claimed.

use serde::{Deserialize, Serialize};

use crate::ids::{Timestamp, as_stored};
use crate::wave::ramp::{Reentry, Tranche};

/// Where a wave stands.
///
/// `pending → open ⇄ waiting → draining → soaking → gated → passed`, and from anywhere but pending to
/// `failed`, which only a retry leaves: `retrying → waiting`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum WaveStatus {
    /// It has never been open.
    Pending {},
    /// People may be begun.
    Open {},
    /// It waits for its next window; what was not begun is not begun.
    Waiting {},
    /// Everybody has been begun; the silent are waited for.
    Draining {
        /// When the wave stops waiting for them.
        until: Timestamp,
    },
    /// It rests, for trouble to show.
    Soaking {
        /// When the rest is over.
        until: Timestamp,
    },
    /// It has rested, and its gate is judged on every look until it passes or fails.
    Gated {},
    /// Its gate has passed.
    Passed {},
    /// Its gate has failed. Only a retry leads out.
    Failed {
        /// The name of the condition that failed.
        condition: String,
        /// Why, with the figures of that instant.
        sentence: String,
    },
    /// Its failed people are being queued again.
    Retrying {},
}

impl WaveStatus {
    /// Returns the stable name of the status.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pending {} => "pending",
            Self::Open {} => "open",
            Self::Waiting {} => "waiting",
            Self::Draining { .. } => "draining",
            Self::Soaking { .. } => "soaking",
            Self::Gated {} => "gated",
            Self::Passed {} => "passed",
            Self::Failed { .. } => "failed",
            Self::Retrying {} => "retrying",
        }
    }
}

/// What workers may claim of a wave while nothing holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// No claim at or after this instant; `None`: no end.
    pub until: Option<Timestamp>,
    /// How many people of the wave may have been begun in all; `None`: everybody.
    pub begin_at_most: Option<u64>,
}

/// How far one wave has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaveProgress {
    /// Where it stands.
    pub status: WaveStatus,
    /// Since when it stands there.
    pub since: Timestamp,
    /// When it was first opened.
    pub opened_at: Option<Timestamp>,
    /// The end of the window it is open in.
    pub window_until: Option<Timestamp>,
    /// When everybody had been begun for the first time since it was opened or retried.
    pub drained_at: Option<Timestamp>,
    /// How far its ramp has come.
    pub tranche: Option<Tranche>,
    /// How often its failed people were tried again.
    pub retries: u32,
    /// Set by the release of a halt on this wave alone: it opens small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reentry: Option<Reentry>,
}

impl WaveProgress {
    /// Makes a wave that has never been open.
    #[must_use]
    pub const fn pending(since: Timestamp) -> Self {
        Self {
            status: WaveStatus::Pending {},
            since,
            opened_at: None,
            window_until: None,
            drained_at: None,
            tranche: None,
            retries: 0,
            reentry: None,
        }
    }

    /// Returns what may be claimed of it, or `None` when nothing may.
    #[must_use]
    pub fn claims(&self) -> Option<Claims> {
        match self.status {
            WaveStatus::Open {} | WaveStatus::Draining { .. } => Some(Claims {
                until: self.window_until.map(as_stored),
                begin_at_most: self.tranche.map(|tranche| tranche.people),
            }),
            WaveStatus::Pending {}
            | WaveStatus::Waiting {}
            | WaveStatus::Soaking { .. }
            | WaveStatus::Gated {}
            | WaveStatus::Passed {}
            | WaveStatus::Failed { .. }
            | WaveStatus::Retrying {} => None,
        }
    }

    /// Returns the end of its soak, while it soaks.
    #[must_use]
    pub const fn soak_until(&self) -> Option<Timestamp> {
        if let WaveStatus::Soaking { until } = self.status {
            Some(until)
        } else {
            None
        }
    }

    pub(crate) fn enter(&mut self, status: WaveStatus, at: Timestamp) {
        self.status = status;
        self.since = at;
    }
}
