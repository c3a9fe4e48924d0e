//! Counting within a window, in no more memory than the count that is waited for.

use std::collections::{BTreeMap, BTreeSet};

use super::{Counted, Window};
use crate::time::Timestamp;

/// What a window has counted: of each key the last instant, and only the newest that can matter.
///
/// Whether `n` keys fall within a window that ends now depends on the `n` newest keys alone, so a storm of
/// any length takes the room of `n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    window: Window,
    last: BTreeMap<String, Timestamp>,
    order: BTreeSet<(Timestamp, String)>,
}

impl Tally {
    /// Begins to count for a window.
    #[must_use]
    pub const fn new(window: Window) -> Self {
        Self {
            window,
            last: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }

    /// Returns what is counted.
    #[must_use]
    pub const fn counted(&self) -> Counted {
        self.window.counted
    }

    /// Counts a key that was seen at an instant.
    pub fn count(&mut self, key: &str, at: Timestamp) {
        match self.last.get(key) {
            Some(known) if *known >= at => return,
            Some(known) => {
                self.order.remove(&(*known, key.to_owned()));
            }
            None => {}
        }
        self.last.insert(key.to_owned(), at);
        self.order.insert((at, key.to_owned()));
        while self.order.len() > self.most() {
            if let Some((_, oldest)) = self.order.pop_first() {
                self.last.remove(&oldest);
            }
        }
    }

    /// Returns the end of the time for which the count is reached: from the last key that was counted until
    /// then, this instant excluded. `None`: never yet.
    #[must_use]
    pub fn reached_until(&self) -> Option<Timestamp> {
        if self.order.len() < self.most() {
            return None;
        }
        let (oldest, _) = self.order.first()?;
        Some(self.window.within.after(*oldest))
    }

    /// Returns how many fall within the window that ends at an instant, and no more than are waited for.
    #[must_use]
    pub fn counted_at(&self, at: Timestamp) -> usize {
        let is_within = |(seen, _): &&(Timestamp, String)| at < self.window.within.after(*seen);
        self.order.iter().filter(is_within).count()
    }

    /// Says whether so many fall within the window that ends at an instant, at or after everything counted.
    #[must_use]
    pub fn is_reached(&self, at: Timestamp) -> bool {
        self.reached_until().is_some_and(|until| at < until)
    }

    fn most(&self) -> usize {
        usize::try_from(self.window.at_least.max(1)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::time::Seconds;

    fn at(seconds: i64) -> Timestamp {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn tally(within: u32, at_least: u32) -> Tally {
        Tally::new(Window {
            within: Seconds(within),
            counted: Counted::Signals,
            at_least,
        })
    }

    #[test]
    fn a_key_counts_once_however_often_it_is_seen() {
        let mut tally = tally(60, 2);
        tally.count("a", at(0));
        tally.count("a", at(1));
        assert!(!tally.is_reached(at(1)));
        tally.count("b", at(30));
        assert!(tally.is_reached(at(30)));
        assert_eq!(tally.reached_until(), Some(at(61)));
        assert!(!tally.is_reached(at(61)), "the window has passed");
    }

    #[test]
    fn a_storm_takes_the_room_of_the_count() {
        let mut tally = tally(60, 3);
        for number in 0..100_000 {
            tally.count(&number.to_string(), at(number / 1000));
        }
        assert_eq!((tally.last.len(), tally.order.len()), (3, 3));
    }

    proptest! {
        #[test]
        fn it_says_what_counting_everything_says(
            seen in prop::collection::vec((0..6_u8, 0..200_i64), 0..60),
            within in 1..100_u32,
            at_least in 1..5_u32,
        ) {
            let mut seen = seen;
            seen.sort_by_key(|(_, when)| *when);
            let mut tally = tally(within, at_least);
            for (place, (key, when)) in seen.iter().enumerate() {
                tally.count(&key.to_string(), at(*when));
                let since = when - i64::from(within);
                let keys: BTreeSet<u8> = seen.iter().take(place + 1)
                    .filter(|(_, then)| *then > since)
                    .map(|(key, _)| *key)
                    .collect();
                prop_assert_eq!(tally.is_reached(at(*when)), keys.len() >= at_least as usize);
            }
        }

        #[test]
        fn the_order_of_what_is_counted_does_not_matter(
            seen in prop::collection::vec((0..6_u8, 0..50_i64), 0..30),
            at_least in 1..5_u32,
        ) {
            let (mut forward, mut backward) = (tally(10, at_least), tally(10, at_least));
            for (key, when) in &seen {
                forward.count(&key.to_string(), at(*when));
            }
            for (key, when) in seen.iter().rev() {
                backward.count(&key.to_string(), at(*when));
            }
            prop_assert_eq!(forward.reached_until(), backward.reached_until());
        }
    }
}
