//! The only part that reads the time, so that a year is an assignment in a test.
//!
//! Two clocks: the wall clock, and a monotonic one that also counts the time a machine was suspended
//! (`CLOCK_BOOTTIME`, which `/proc/uptime` shows; Rust's `Instant` stands still while Linux sleeps).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tidegate_orchestrator::ids::{Timestamp, from_millis};
use tidegate_orchestrator::permit::{Moment, Monotonic};

/// A clock that everything shares.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    System {
        started: Instant,
        boot: BootTime,
    },
    Virtual {
        wall_ms: AtomicI64,
        monotonic_ms: AtomicU64,
    },
}

/// How far the clock that counts suspended time was ahead of `Instant` when the process began.
#[derive(Debug)]
struct BootTime {
    started_ms: Option<u64>,
}

/// How far the two monotonic clocks may differ before the machine has been asleep: `/proc/uptime`
/// shows hundredths of a second.
const SUSPEND_MS: u64 = 50;

impl Clock {
    /// Returns the clock of this machine.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn system() -> Self {
        Self(Arc::new(Kind::System {
            started: Instant::now(),
            boot: BootTime {
                started_ms: uptime_ms(),
            },
        }))
    }

    /// Returns a clock that stands at `now` until it is set.
    #[must_use]
    pub fn virtual_at(now: Timestamp) -> Self {
        Self(Arc::new(Kind::Virtual {
            wall_ms: AtomicI64::new(now.timestamp_millis()),
            monotonic_ms: AtomicU64::new(0),
        }))
    }

    /// Says whether this is the clock of the machine.
    #[must_use]
    pub fn is_system(&self) -> bool {
        matches!(*self.0, Kind::System { .. })
    }

    /// Moves a virtual clock; the clock of a machine moves by itself.
    pub fn advance(&self, millis: u32) {
        if let Kind::Virtual {
            wall_ms,
            monotonic_ms,
        } = &*self.0
        {
            wall_ms.fetch_add(i64::from(millis), Ordering::SeqCst);
            monotonic_ms.fetch_add(u64::from(millis), Ordering::SeqCst);
        }
    }

    /// Returns the wall clock's time, to the millisecond.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now(&self) -> Timestamp {
        let millis = match &*self.0 {
            Kind::System { .. } => {
                let since = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }
            Kind::Virtual { wall_ms, .. } => wall_ms.load(Ordering::SeqCst),
        };
        from_millis(millis).unwrap_or(Timestamp::MAX_UTC)
    }

    /// Returns milliseconds on the clock that never jumps.
    #[must_use]
    pub fn monotonic(&self) -> Monotonic {
        match &*self.0 {
            Kind::System { started, boot } => {
                let awake = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                Monotonic(boot.with_sleep(awake))
            }
            Kind::Virtual { monotonic_ms, .. } => Monotonic(monotonic_ms.load(Ordering::SeqCst)),
        }
    }

    /// Reads both clocks.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment {
            wall: self.now(),
            monotonic: self.monotonic(),
        }
    }
}

impl BootTime {
    /// Adds the time the machine was asleep to the time it was awake.
    fn with_sleep(&self, awake_ms: u64) -> u64 {
        let (Some(started), Some(now)) = (self.started_ms, uptime_ms()) else {
            return awake_ms;
        };
        let passed = now.saturating_sub(started);
        if passed > awake_ms.saturating_add(SUSPEND_MS) {
            passed
        } else {
            awake_ms
        }
    }
}

/// Reads how long the machine has been up, sleep included; `None` where there is no `/proc`.
fn uptime_ms() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    let hundredths: u64 = hundredths.get(..2)?.parse().ok()?;
    seconds
        .parse::<u64>()
        .ok()?
        .checked_mul(1000)?
        .checked_add(hundredths * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_clock_moves_when_it_is_told_to() {
        let clock = Clock::virtual_at(from_millis(1_000).unwrap());
        clock.advance(500);
        assert_eq!(clock.now(), from_millis(1_500).unwrap());
        assert_eq!(clock.monotonic(), Monotonic(500));
    }

    #[test]
    fn sleep_counts_and_the_coarseness_of_the_sleep_clock_does_not() {
        let boot = BootTime {
            started_ms: uptime_ms(),
        };
        let awake = boot.with_sleep(0);
        assert!(awake < 1_000, "{awake}");
        let slept = BootTime {
            started_ms: uptime_ms().map(|now| now.saturating_sub(60_000)),
        };
        if slept.started_ms.is_some() {
            assert!(slept.with_sleep(10) >= 59_000);
        }
    }
}
