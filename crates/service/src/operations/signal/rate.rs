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

/// How many signals a minute a source may send for ever, unless its settings say so.
const PER_MINUTE: u32 = 300_000;
/// How many it may then send at once after it was quiet.
const BURST: u32 = 20_000;
/// How many sources are remembered; those that were quiet are forgotten first.
const SOURCES_MAX: usize = 1_000;
/// The label of what is reported about a source that sends too much.
pub const OVERLOAD: &str = "signal_overload";

/// What each source may send; cheap to clone. It is this process's own: several take in several times as much.
#[derive(Debug, Clone, Default)]
pub struct Rates(Arc<Mutex<HashMap<String, Bucket>>>);

/// How much one source may send.
#[derive(Debug, Clone, Copy)]
struct Limit {
    per_minute: u64,
    burst: u64,
}

impl Limit {
    /// As its settings say, all of a minute at once if it likes; otherwise as usual.
    fn of(per_minute: Option<u32>) -> Self {
        let burst = per_minute.unwrap_or(BURST).max(1);
        Self {
            per_minute: u64::from(per_minute.unwrap_or(PER_MINUTE).max(1)),
            burst: u64::from(burst),
        }
    }

    const fn full(self) -> u64 {
        self.burst * SIGNAL
    }
}

/// One signal, in what a rate of one a minute fills in a millisecond.
const SIGNAL: u64 = 60_000;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    limit: Limit,
    left: u64,
    at: Monotonic,
    /// The hour in which it was last reported.
    told: Option<i64>,
}

impl Bucket {
    fn filled(self, now: Monotonic) -> u64 {
        let millis = now.0.saturating_sub(self.at.0);
        let more = millis.saturating_mul(self.limit.per_minute);
        self.left.saturating_add(more).min(self.limit.full())
    }
}

impl Rates {
    /// Takes one signal out of what a source may send; says in how many seconds it may go on when that is used up.
    fn take(&self, source: &str, limit: Limit, now: Monotonic) -> Result<(), u32> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= SOURCES_MAX && !buckets.contains_key(source) {
            buckets.retain(|_, bucket| bucket.filled(now) < bucket.limit.full());
        }
        let full = Bucket {
            limit,
            left: limit.full(),
            at: now,
            told: None,
        };
        let bucket = buckets.entry(source.to_owned()).or_insert(full);
        let left = bucket.filled(now);
        let missing = SIGNAL.saturating_sub(left);
        *bucket = Bucket {
            limit,
            left: if missing == 0 { left - SIGNAL } else { left },
            at: now,
            told: bucket.told,
        };
        if missing == 0 {
            return Ok(());
        }
        let seconds = missing.div_ceil(limit.per_minute).div_ceil(1_000);
        Err(u32::try_from(seconds).unwrap_or(u32::MAX))
    }
}

impl Rates {
    /// Says whether a source is to be reported in this hour, once.
    fn tell(&self, source: &str, hour: i64) -> bool {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bucket) = buckets.get_mut(source) else {
            return true;
        };
        bucket.told.replace(hour) != Some(hour)
    }
}

/// Checks that a source that has proved itself does not send more than it may. If it does, that is reported.
///
/// # Errors
///
/// When it sends more: nothing of this was kept, and it must send it again.
pub async fn within(
    app: &App,
    origin: &Origin,
    per_minute: Option<u32>,
) -> Result<(), OperationError> {
    let limit = Limit::of(per_minute);
    let Err(seconds) = app.rates.take(&origin.source, limit, app.clock.monotonic()) else {
        return Ok(());
    };
    if app.rates.tell(&origin.source, hour(origin.received_at))
        && let Err(error) = report(app, origin).await
    {
        tracing::error!(%error, source = origin.source, "a source sends too much, and that could not be reported");
    }
    let sentence = format!(
        "`{}` sends more than {} signals a minute: send this again in {seconds} s",
        origin.source, limit.per_minute
    );
    Err(OperationError::busy("too_many", sentence, seconds))
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
        let (rates, usual) = (Rates::default(), Limit::of(None));
        let taken = |millis| {
            let tries = 0..BURST * 2;
            let taken = |_: &u32| rates.take("a", usual, Monotonic(millis)).is_ok();
            tries.filter(taken).count()
        };
        assert_eq!(taken(0), 20_000);
        assert_eq!(taken(1_000), 5_000);
        assert_eq!(
            rates.take("b", usual, Monotonic(1_000)),
            Ok(()),
            "each has its own"
        );
    }

    #[test]
    fn whoever_sends_too_much_may_go_on_when_it_is_told() {
        let (rates, limit) = (Rates::default(), Limit::of(Some(60)));
        for _ in 0..60 {
            assert_eq!(rates.take("a", limit, Monotonic(5)), Ok(()));
        }
        assert_eq!(rates.take("a", limit, Monotonic(5)), Err(1));
        assert_eq!(rates.take("a", limit, Monotonic(1_005)), Ok(()));
        assert_eq!(rates.take("c", Limit::of(Some(1)), Monotonic(0)), Ok(()));
        assert_eq!(rates.take("c", Limit::of(Some(1)), Monotonic(0)), Err(60));
    }

    #[test]
    fn sources_that_were_quiet_are_forgotten() {
        let rates = Rates::default();
        for number in 0..SOURCES_MAX * 3 {
            let at = Monotonic(u64::try_from(number).unwrap() * 10);
            let _ = rates.take(&number.to_string(), Limit::of(None), at);
        }
        assert!(rates.0.lock().unwrap().len() <= SOURCES_MAX);
    }
}
