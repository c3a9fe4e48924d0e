//! The names things go by: one type per id, per number and per instant.
//!
//! Nothing here makes an id or reads a clock: the service shell does, and hands the result in.

use std::fmt;
use std::str::FromStr;

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

pub use tidegate_policy::time::Timestamp;

/// Returns the milliseconds between 1970-01-01 UTC and `at`, the form every instant is stored in.
#[must_use]
pub const fn millis(at: Timestamp) -> i64 {
    at.timestamp_millis()
}

/// Returns the instant `millis` milliseconds after 1970-01-01 UTC, or `None` outside chrono's years.
#[must_use]
pub const fn from_millis(millis: i64) -> Option<Timestamp> {
    DateTime::from_timestamp_millis(millis)
}

/// Returns `at` as it will be read back once it has been stored: without what is finer than a
/// millisecond. Whatever is decided is decided at such instants, so that memory and store agree.
#[must_use]
pub fn as_stored(at: Timestamp) -> Timestamp {
    from_millis(millis(at)).unwrap_or(at)
}

/// The text given as an id is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not a {what}")]
pub struct IdError {
    what: &'static str,
    text: String,
}

macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident = $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that already names this kind of thing.
            #[must_use]
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Returns the UUID inside.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text)
                    .map(Self)
                    .map_err(|_| IdError { what: $what, text: text.to_owned() })
            }
        }
    )*};
}

uuid_ids! {
    /// Names a rollout.
    RolloutId = "rollout id";
    /// Names one immutable plan of a rollout.
    PlanId = "plan id";
    /// Names a population.
    PopulationId = "population id";
    /// Names an exemption from holds.
    ExemptionId = "exemption id";
    /// Names one immutable version of a population.
    PopulationVersionId = "population version id";
    /// Names a target.
    TargetId = "target id";
    /// Names a hold, in force or released.
    HoldId = "hold id";
    /// Names one measurement of drift.
    DriftId = "drift id";
    /// Names a condition of the release of a halt.
    RequirementId = "requirement id";
    /// Names a request to release a halt.
    ReleaseRequestId = "release request id";
    /// Names one import of a population.
    ImportId = "import id";
    /// Names a process that sends.
    WorkerId = "worker id";
    /// Names an API token (never its secret).
    TokenId = "token id";
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident($inner:ty) = $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize,
            Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// Wraps a number.
            #[must_use]
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// Returns the number inside.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }

            /// Returns the number after this one; the last one stays where it is.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.parse()
                    .map(Self)
                    .map_err(|_| IdError { what: $what, text: text.to_owned() })
            }
        }
    )*};
}

numbers! {
    /// The place of a wave in its rollout, counted from 1.
    WaveNumber(u32) = "wave number";
    /// The place of a batch in its wave, counted from 0.
    BatchSeq(u32) = "batch number";
    /// The place of a member in its population version, counted from 0.
    Ordinal(u32) = "member ordinal";
    /// The number that grows with every hold placed or released; fences stale work.
    Epoch(i64) = "epoch";
    /// The number that grows with every claim of a batch; fences late outcomes.
    Fence(i64) = "fence";
    /// The number that grows with every change of a resource; fences lost updates.
    Generation(i64) = "generation";
}

/// Names whoever asked for something: issuer and subject, never an e-mail address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Principal(pub String);

impl Principal {
    /// Wraps the name of a principal.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl WaveNumber {
    /// The first wave of every rollout.
    pub const FIRST: Self = Self(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_prints() {
        let id = RolloutId::new(Uuid::from_u128(7));
        assert_eq!(id.to_string(), "00000000-0000-0000-0000-000000000007");
        assert_eq!(id.to_string().parse(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<RolloutId>(&json).unwrap(), id);
    }

    #[test]
    fn text_that_is_no_id_is_named_in_the_error() {
        let error = "seven".parse::<HoldId>().unwrap_err();
        assert_eq!(error.to_string(), "`seven` is not a hold id");
        let error = "-1".parse::<WaveNumber>().unwrap_err();
        assert_eq!(error.to_string(), "`-1` is not a wave number");
    }

    #[test]
    fn the_last_number_has_no_successor() {
        assert_eq!(WaveNumber::FIRST.next(), WaveNumber(2));
        assert_eq!(Epoch(i64::MAX).next(), Epoch(i64::MAX));
    }

    #[test]
    fn millis_round_trip() {
        let at = from_millis(1_700_000_000_123).unwrap();
        assert_eq!(millis(at), 1_700_000_000_123);
        assert_eq!(from_millis(i64::MAX), None);
    }
}
