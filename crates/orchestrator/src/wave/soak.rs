//! The waiting times of a wave: for the silent to answer, and for trouble to show.
//!
//! Time is compared, never counted down: a process that slept through a soak finds it over, and one
//! that runs every second finds it over at the same instant.

pub use tidegate_policy::time::Seconds;

/// How long people may stay silent before a wave stops waiting for them, unless its gate says
/// otherwise. An hour outlives a target's restart and is short beside any soak.
pub const SILENCE_SECONDS: u32 = 3600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Timestamp, from_millis};

    #[test]
    fn a_soak_is_over_at_its_last_instant_and_not_before() {
        let since = from_millis(1_000_000).unwrap();
        let soak = Seconds(60);
        assert!(!soak.has_passed(since, from_millis(1_059_999).unwrap()));
        assert!(soak.has_passed(since, from_millis(1_060_000).unwrap()));
    }

    #[test]
    fn no_soak_is_over_at_once() {
        let now = from_millis(5).unwrap();
        assert!(Seconds(0).has_passed(now, now));
    }

    #[test]
    fn a_soak_beyond_the_end_of_time_never_ends_early() {
        assert_eq!(
            Seconds(u32::MAX).after(Timestamp::MAX_UTC),
            Timestamp::MAX_UTC
        );
    }
}
