//! Signals that this process admitted and judged: how many, what became of them, and how long it took.
//!
//! What others send chooses no name here: a source is one that people have created, or a token that they gave out, and
//! an outcome is one of our words.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use chrono::TimeDelta;

/// The most sources that are counted one by one.
const SOURCES_MAX: usize = 200;
/// What all further ones are counted as. No source has such a name: it would be two.
const OTHERS: &str = "others:";
/// Within how many milliseconds of their coming signals were judged, as counts that include the ones before.
const BOUNDS_MS: [u64; 9] = [50, 100, 250, 500, 1_000, 2_500, 5_000, 30_000, 300_000];

/// Counts of signals.
#[derive(Debug, Default)]
pub struct Signals(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    admitted: BTreeMap<String, u64>,
    outcomes: BTreeMap<&'static str, u64>,
    judged: Judged,
}

/// How long signals took from when they came until they were judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    within: [u64; BOUNDS_MS.len()],
    /// All of them.
    pub count: u64,
    /// How long they took, together, in milliseconds.
    pub millis: u64,
}

impl Judged {
    /// Returns how many were judged within each bound, in milliseconds.
    pub fn within(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        BOUNDS_MS.iter().copied().zip(self.within.iter().copied())
    }

    fn add(&mut self, took: TimeDelta) {
        // Two databases' clocks may have been read: less than nothing is nothing.
        let millis = u64::try_from(took.num_milliseconds()).unwrap_or(0);
        self.count += 1;
        self.millis = self.millis.saturating_add(millis);
        for (count, bound) in self.within.iter_mut().zip(BOUNDS_MS) {
            *count += u64::from(millis <= bound);
        }
    }
}

impl Signals {
    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts signals of a source that were new.
    pub fn admit(&self, source: &str, count: u64) {
        let mut counts = self.counts();
        let is_full = counts.admitted.len() >= SOURCES_MAX;
        let is_known = counts.admitted.contains_key(source);
        let source = if is_full && !is_known { OTHERS } else { source };
        *counts.admitted.entry(source.to_owned()).or_default() += count;
    }

    /// Counts one that was judged: what became of it, and how long after it came.
    pub fn judge(&self, outcome: &'static str, took: TimeDelta) {
        let mut counts = self.counts();
        *counts.outcomes.entry(outcome).or_default() += 1;
        counts.judged.add(took);
    }

    /// Returns how many of each source were admitted.
    #[must_use]
    pub fn admitted(&self) -> BTreeMap<String, u64> {
        self.counts().admitted.clone()
    }

    /// Returns what became of how many.
    #[must_use]
    pub fn outcomes(&self) -> BTreeMap<&'static str, u64> {
        self.counts().outcomes.clone()
    }

    /// Returns how long they took.
    #[must_use]
    pub fn judged(&self) -> Judged {
        self.counts().judged.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_sources_there_are_few_are_counted_by_name_and_none_is_lost() {
        let signals = Signals::default();
        for number in 0..SOURCES_MAX * 2 {
            signals.admit(&number.to_string(), 2);
        }
        signals.admit("0", 1);
        let admitted = signals.admitted();
        assert_eq!(admitted.len(), SOURCES_MAX + 1);
        assert_eq!(admitted["0"], 3);
        assert_eq!(admitted.values().sum::<u64>(), SOURCES_MAX as u64 * 4 + 1);
    }

    #[test]
    fn a_bound_counts_whatever_was_as_quick() {
        let signals = Signals::default();
        for millis in [-5, 50, 51, 250, 1_000_000] {
            signals.judge("halt", TimeDelta::milliseconds(millis));
        }
        let judged = signals.judged();
        let within: Vec<u64> = judged.within().map(|(_, count)| count).collect();
        assert_eq!(within, [2, 3, 4, 4, 4, 4, 4, 4, 4]);
        assert_eq!((judged.count, judged.millis), (5, 1_000_351));
        assert_eq!(signals.outcomes()["halt"], 5);
    }
}
