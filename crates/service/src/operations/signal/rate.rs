//! Rates: how much one source may send at once. Whoever sends more is asked to come again, and that it does
//! is reported itself: a source that cannot be heard out is no comfort.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_orchestrator::ids::Timestamp;
use tidegate_orchestrator::permit::Monotonic;
use tidegate_policy::dialect::Origin;
use tidegate_policy::signal::{Dialect, Severity, SignalKind};

use super::admission::admit;
use crate::app::App;
use crate::operations::{Actor, OperationError};

/// How many signals a second one source may send for ever.
const RATE: u64 = 5_000;
/// How many it may send at once after it was quiet.
const BURST: u64 = 20_000;
/// How many sources are remembered; those that were quiet are forgotten first.
const SOURCES_MAX: usize = 1_000;
/// The label of what is reported about a source that sends too much.
pub const OVERLOAD: &str = "signal_overload";

/// What each source may send; cheap to clone. It is this process's own: several take in several times as much.
#[derive(Debug, Clone, Default)]
pub struct Rates(Arc<Mutex<HashMap<String, Bucket>>>);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// In thousandths of a signal.
    left: u64,
    at: Monotonic,
}

impl Bucket {
    fn filled(self, now: Monotonic) -> u64 {
        let millis = now.0.saturating_sub(self.at.0);
        self.left
            .saturating_add(millis.saturating_mul(RATE))
            .min(BURST * 1_000)
    }
}

impl Rates {
    /// Takes one signal out of what a source may send; says whether it may.
    fn take(&self, source: &str, now: Monotonic) -> bool {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= SOURCES_MAX && !buckets.contains_key(source) {
            buckets.retain(|_, bucket| bucket.filled(now) < BURST * 1_000);
        }
        let full = Bucket {
            left: BURST * 1_000,
            at: now,
        };
        let bucket = buckets.entry(source.to_owned()).or_insert(full);
        let left = bucket.filled(now);
        let is_allowed = left >= 1_000;
        *bucket = Bucket {
            left: left.saturating_sub(1_000),
            at: now,
        };
        is_allowed
    }
}

/// Checks that a source that has proved itself does not send more than it may. If it does, that is reported.
///
/// # Errors
///
/// When it sends more: nothing of this was kept, and it must send it again.
pub async fn within(app: &App, origin: &Origin) -> Result<(), OperationError> {
    if app.rates.take(&origin.source, app.clock.monotonic()) {
        return Ok(());
    }
    if let Err(error) = report(app, origin).await {
        tracing::error!(%error, source = origin.source, "a source sends too much, and that could not be reported");
    }
    let sentence = format!(
        "`{}` sends more than {RATE} signals a second: send this again",
        origin.source
    );
    Err(OperationError::busy("rate_exceeded", sentence, 1))
}

/// Reports once an hour that a source sends too much.
async fn report(app: &App, origin: &Origin) -> Result<(), OperationError> {
    let ours = Origin {
        // No source may have a name with a colon.
        source: "tidegate:signals".to_owned(),
        ..origin.clone()
    };
    let hour = hour(origin.received_at);
    let body = format!("{OVERLOAD} {} {hour}", origin.source);
    let raw = tidegate_policy::Digest::of(body.as_bytes());
    let mut signal = ours.signal(Dialect::Own, &body, raw);
    signal.kind = SignalKind::Detection;
    signal.severity = Severity::High;
    signal.labels.insert(OVERLOAD.to_owned());
    signal.title = format!("`{}` sends more than can be taken in", origin.source);
    admit(app, &Actor::task("signals"), vec![signal], body.as_bytes()).await?;
    Ok(())
}

fn hour(at: Timestamp) -> i64 {
    at.timestamp().div_euclid(3_600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_in_and_then_only_the_rate() {
        let rates = Rates::default();
        let taken = |millis| {
            (0..BURST * 2)
                .filter(|_| rates.take("a", Monotonic(millis)))
                .count()
        };
        assert_eq!(taken(0), usize::try_from(BURST).unwrap());
        assert_eq!(taken(1_000), usize::try_from(RATE).unwrap());
        assert!(rates.take("b", Monotonic(1_000)), "each has its own");
    }

    #[test]
    fn sources_that_were_quiet_are_forgotten() {
        let rates = Rates::default();
        for number in 0..SOURCES_MAX * 3 {
            rates.take(
                &number.to_string(),
                Monotonic(u64::try_from(number).unwrap() * 10),
            );
        }
        assert!(rates.0.lock().unwrap().len() <= SOURCES_MAX);
    }
}
