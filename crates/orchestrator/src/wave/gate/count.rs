//! Shares and limits in exact integers: no float ever decides how many failures are too many.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A share in parts per million, from 0 to 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Ppm(
    // Invariant: at most `Ppm::WHOLE`.
    u32,
);

/// The text or number given as a share is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not a share: write `0.5%` or `5000ppm`, from 0 to 100 %, in steps of 1 ppm")]
pub struct ShareError {
    text: String,
}

impl Ppm {
    /// One whole, in parts per million.
    pub const WHOLE: u32 = 1_000_000;

    /// Makes a share of `ppm` parts per million; `None` above the whole.
    #[must_use]
    pub const fn new(ppm: u32) -> Option<Self> {
        if ppm <= Self::WHOLE {
            Some(Self(ppm))
        } else {
            None
        }
    }

    /// Makes a share of whole percent; more than 100 becomes 100.
    #[must_use]
    pub const fn percent(percent: u8) -> Self {
        if percent >= 100 {
            return Self(Self::WHOLE);
        }
        // Widening: a `u8` below 100 times 10,000 is below the whole.
        Self(percent as u32 * 10_000)
    }

    /// Returns the parts per million.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the most people of `of` that are not more than this share: rounded down.
    #[must_use]
    pub fn floor_of(self, of: u64) -> u64 {
        let product = u128::from(of) * u128::from(self.0) / u128::from(Self::WHOLE);
        // The share is at most the whole, so the product fits where `of` did.
        u64::try_from(product).unwrap_or(of)
    }

    /// Returns the fewest people of `of` that are at least this share: rounded up.
    #[must_use]
    pub fn ceil_of(self, of: u64) -> u64 {
        let product = (u128::from(of) * u128::from(self.0)).div_ceil(u128::from(Self::WHOLE));
        u64::try_from(product).unwrap_or(of)
    }

    /// Returns the share as a number from 0 to 1, for arithmetic that is not a boundary.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(Self::WHOLE)
    }
}

impl TryFrom<u32> for Ppm {
    type Error = ShareError;

    fn try_from(ppm: u32) -> Result<Self, ShareError> {
        Self::new(ppm).ok_or_else(|| ShareError {
            text: format!("{ppm}ppm"),
        })
    }
}

impl From<Ppm> for u32 {
    fn from(share: Ppm) -> Self {
        share.0
    }
}

impl fmt::Display for Ppm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0 / 10_000;
        let rest = self.0 % 10_000;
        if rest == 0 {
            return write!(f, "{whole} %");
        }
        let digits = format!("{rest:04}");
        write!(f, "{whole}.{} %", digits.trim_end_matches('0'))
    }
}

impl FromStr for Ppm {
    type Err = ShareError;

    /// Reads `99.5%`, `99.5 %` or `995000ppm`, exactly: a digit finer than 1 ppm is refused.
    fn from_str(text: &str) -> Result<Self, ShareError> {
        let refused = || ShareError {
            text: text.to_owned(),
        };
        let trimmed = text.trim();
        if let Some(number) = trimmed.strip_suffix("ppm") {
            let ppm = number.trim().parse().map_err(|_| refused())?;
            return Self::new(ppm).ok_or_else(refused);
        }
        let number = trimmed.strip_suffix('%').ok_or_else(refused)?.trim();
        let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
        let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let rest_digits = rest.trim_end_matches('0');
        if !are_digits(whole) || !are_digits(rest) || rest_digits.len() > 4 {
            return Err(refused());
        }
        let whole: u32 = whole.parse().map_err(|_| refused())?;
        let rest: u32 = format!("{rest_digits:0<4}")
            .parse()
            .map_err(|_| refused())?;
        whole
            .checked_mul(10_000)
            .and_then(|ppm| ppm.checked_add(rest))
            .and_then(Self::new)
            .ok_or_else(refused)
    }
}

/// How many people, as a number or as a share of those eligible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// So many people, whatever the size of the wave.
    Count(u64),
    /// This share of the eligible, rounded down.
    #[serde(rename = "share_ppm")]
    Share(Ppm),
}

impl Limit {
    /// Returns how many of `eligible` are still within the limit.
    #[must_use]
    pub fn allowed(self, eligible: u64) -> u64 {
        match self {
            Self::Count(count) => count,
            Self::Share(share) => share.floor_of(eligible),
        }
    }

    /// Says whether `count` of `eligible` is strictly more than the limit.
    #[must_use]
    pub fn is_crossed(self, count: u64, eligible: u64) -> bool {
        count > self.allowed(eligible)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Share(share) => share.fmt(f),
        }
    }
}

impl FromStr for Limit {
    type Err = ShareError;

    /// Reads a whole number as a count and anything else as a share.
    fn from_str(text: &str) -> Result<Self, ShareError> {
        match text.trim().parse() {
            Ok(count) => Ok(Self::Count(count)),
            Err(_) => text.parse().map(Self::Share),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_boundary(limit: &str, eligible: u64, within: u64) {
        let limit: Limit = limit.parse().unwrap();
        assert_eq!(limit.allowed(eligible), within);
        assert!(!limit.is_crossed(within, eligible), "exactly at the limit");
        assert!(
            limit.is_crossed(within + 1, eligible),
            "one above the limit"
        );
    }

    #[test]
    fn ten_percent_of_50_allows_5_and_trips_at_6() {
        check_boundary("10%", 50, 5);
    }

    #[test]
    fn a_twentieth_of_a_percent_of_20_000_allows_10_and_trips_at_11() {
        check_boundary("0.05%", 20_000, 10);
    }

    #[test]
    fn shares_round_down_and_counts_do_not_depend_on_the_size() {
        check_boundary("10%", 59, 5);
        check_boundary("0.3%", 333, 0);
        check_boundary("5", 3, 5);
        check_boundary("0", 1_500_000, 0);
    }

    #[test]
    fn shares_of_the_largest_numbers_do_not_overflow() {
        assert_eq!(Ppm::percent(100).floor_of(u64::MAX), u64::MAX);
        assert_eq!(Ppm::percent(100).ceil_of(u64::MAX), u64::MAX);
        assert_eq!(Ppm::new(1).unwrap().ceil_of(1), 1);
        assert_eq!(Ppm::new(1).unwrap().floor_of(999_999), 0);
    }

    #[test]
    fn a_share_reads_what_people_write() {
        for (text, ppm) in [
            ("99.5%", 995_000),
            ("0.05 %", 500),
            ("100%", 1_000_000),
            ("100.0000%", 1_000_000),
            ("0.0001%", 1),
            ("100000ppm", 100_000),
        ] {
            assert_eq!(text.parse::<Ppm>().unwrap().get(), ppm, "{text}");
        }
    }

    #[test]
    fn a_share_that_is_none_is_refused() {
        for text in [
            "",
            "5",
            "-1%",
            "100.1%",
            "0.00001%",
            "1e3%",
            "%",
            ".5%",
            "1000001ppm",
            "NaN%",
        ] {
            assert!(text.parse::<Ppm>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_prints_without_trailing_zeros() {
        assert_eq!(Ppm::percent(10).to_string(), "10 %");
        assert_eq!(Ppm::new(500).unwrap().to_string(), "0.05 %");
        assert_eq!(Ppm::new(995_000).unwrap().to_string(), "99.5 %");
    }

    #[test]
    fn the_written_form_is_frozen() {
        let json =
            serde_json::to_string(&[Limit::Count(5), Limit::Share(Ppm::percent(1))]).unwrap();
        assert_eq!(json, r#"[{"count":5},{"share_ppm":10000}]"#);
        assert!(serde_json::from_str::<Limit>(r#"{"share_ppm":1000001}"#).is_err());
    }
}
