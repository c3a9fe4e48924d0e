//! How fast people are moved, over the last few seconds of this process; `signals` counts what is reported.

pub mod signals;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_orchestrator::permit::Moment;

use self::signals::Signals;

/// How far back a rate looks.
const WINDOW_MS: u64 = 10_000;

/// Counts people whose outcome was recorded.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    recorded: AtomicU64,
    refused: AtomicU64,
    turns: AtomicU64,
    turn_micros: AtomicU64,
    samples: Mutex<VecDeque<(u64, u64)>>,
    signals: Signals,
}

impl Meter {
    /// Returns the counts of signals.
    #[must_use]
    pub fn signals(&self) -> &Signals {
        &self.0.signals
    }

    /// Counts outcomes that were recorded, and those that came too late.
    pub fn count(&self, recorded: u64, refused: u64) {
        self.0.recorded.fetch_add(recorded, Ordering::Relaxed);
        self.0.refused.fetch_add(refused, Ordering::Relaxed);
    }

    /// Counts a ledger turn and how long it took, in microseconds.
    pub fn turn(&self, micros: u64) {
        self.0.turns.fetch_add(1, Ordering::Relaxed);
        self.0.turn_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Returns how many ledger turns there were, and how many microseconds they took in all.
    #[must_use]
    pub fn turns(&self) -> (u64, u64) {
        let micros = self.0.turn_micros.load(Ordering::Relaxed);
        (self.0.turns.load(Ordering::Relaxed), micros)
    }

    /// Returns how many outcomes were recorded since the process began.
    #[must_use]
    pub fn recorded(&self) -> u64 {
        self.0.recorded.load(Ordering::Relaxed)
    }

    /// Returns how many outcomes came too late and were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Returns people per second since the oldest look of the last ten seconds; each look is remembered.
    #[must_use]
    pub fn per_second(&self, now: Moment) -> f64 {
        let (at, count) = (now.monotonic.0, self.recorded());
        let mut samples = self
            .0
            .samples
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while samples
            .front()
            .is_some_and(|(then, _)| at.saturating_sub(*then) > WINDOW_MS)
            && samples.len() > 1
        {
            samples.pop_front();
        }
        let oldest = samples.front().copied();
        if samples
            .back()
            .is_none_or(|(then, _)| at.saturating_sub(*then) >= 100)
        {
            samples.push_back((at, count));
        }
        match oldest {
            Some((then, before)) if at > then => {
                let people = u32::try_from(count.saturating_sub(before)).unwrap_or(u32::MAX);
                let millis = u32::try_from(at - then).unwrap_or(u32::MAX);
                f64::from(people) * 1000.0 / f64::from(millis)
            }
            _ => 0.0,
        }
    }
}
