//! How fast a source may send, where its settings say so.
//!
//! Looked at after the message has proved itself: otherwise forgeries would use up what the source may send.
//! Each process counts for itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_orchestrator::permit::Monotonic;

const MINUTE_MS: u64 = 60_000;

/// When each source may send again, by name.
#[derive(Debug, Clone, Default)]
pub struct Rates(Arc<Mutex<BTreeMap<String, u64>>>);

impl Rates {
    /// Takes one message of a source that may send so many a minute, all of them at once if it likes; returns
    /// in how many seconds it may go on when it has sent too many.
    pub fn take(&self, source: &str, per_minute: u32, now: Monotonic) -> Result<(), u64> {
        let step = MINUTE_MS / u64::from(per_minute.max(1));
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The instant at which everything sent so far would have been sent evenly.
        let even = next.entry(source.to_owned()).or_insert(now.0);
        let begin = (*even).max(now.0);
        let ahead = begin - now.0;
        if ahead + step > MINUTE_MS {
            return Err((ahead + step - MINUTE_MS).div_ceil(1000).max(1));
        }
        *even = begin + step;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_sends_too_much_may_go_on_when_it_is_told() {
        let rates = Rates::default();
        for _ in 0..60 {
            assert_eq!(rates.take("a", 60, Monotonic(5)), Ok(()));
        }
        assert_eq!(rates.take("a", 60, Monotonic(5)), Err(1));
        assert_eq!(rates.take("b", 60, Monotonic(5)), Ok(()));
        assert_eq!(rates.take("a", 60, Monotonic(1005)), Ok(()));
        assert_eq!(rates.take("a", 1, Monotonic(1005)), Err(60));
    }
}
