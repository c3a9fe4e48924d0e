//! Rates: how much one source may send at once. Whoever sends more is asked to come again, and that it does
//! is reported itself: a source that cannot be heard out is no comfort.
//!
//! What is counted is signals, not messages: a list of findings is as many as it has, and is taken whole or not at all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_orchestrator::ids::Timestamp;
use tidegate_orchestrator::permit::Monotonic;
use tidegate_policy::dialect::Origin;
use tidegate_policy::signal::{Dialect, Severity, SignalKind, Trust};

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

/// What was sent is more than its source may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// Now; so many seconds from now it may.
    Now(u32),
    /// Ever, at once.
    Ever,
}

impl Rates {
    /// Takes so many signals out of what a source may send; all of them, or none.
    fn take(&self, source: &str, limit: Limit, count: usize, now: Monotonic) -> Result<(), Over> {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
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
        let wanted = count.saturating_mul(SIGNAL);
        let missing = wanted.saturating_sub(left);
        *bucket = Bucket {
            limit,
            left: if missing == 0 { left - wanted } else { left },
            at: now,
            told: bucket.told,
        };
        if missing == 0 {
            return Ok(());
        }
        if count > limit.burst {
            return Err(Over::Ever);
        }
        let seconds = missing.div_ceil(limit.per_minute).div_ceil(1_000);
        Err(Over::Now(u32::try_from(seconds).unwrap_or(u32::MAX)))
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

/// Checks that a source that has proved itself does not send more than it may with these signals. If it does,
/// that is reported.
///
/// # Errors
///
/// When it sends more: nothing of this was kept, and it must send it again; in parts, when there are more than it
/// may ever send at once.
pub async fn within(
    app: &App,
    origin: &Origin,
    per_minute: Option<u32>,
    count: usize,
) -> Result<(), OperationError> {
    let limit = Limit::of(per_minute);
    let now = app.clock.monotonic();
    let Err(over) = app.rates.take(&origin.source, limit, count, now) else {
        return Ok(());
    };
    if app.rates.tell(&origin.source, hour(origin.received_at))
        && let Err(error) = report(app, origin).await
    {
        tracing::error!(%error, source = origin.source, "a source sends too much, and that could not be reported");
    }
    let source = &origin.source;
    match over {
        Over::Now(seconds) => {
            let sentence = format!(
                "`{source}` sends more than {} signals a minute: send this again in {seconds} s",
                limit.per_minute
            );
            Err(OperationError::busy("too_many", sentence, seconds))
        }
        Over::Ever => {
            let sentence = format!(
                "this has {count} signals, and `{source}` may send at most {} at once: send them in parts, or let it send more (`rate_per_minute`)",
                limit.burst
            );
            Err(OperationError::invalid("too_many_at_once", sentence))
        }
    }
}

/// Reports once an hour that a source sends too much.
async fn report(app: &App, origin: &Origin) -> Result<(), OperationError> {
    let ours = Origin {
        // No source may have a name with a colon.
        source: "tidegate:signals".to_owned(),
        // What we have seen ourselves, about a vendor that the operator named, needs no signature of others.
        trust: match origin.vendor {
            Some(_) => Trust::SignedFresh,
            None => origin.trust,
        },
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
            let taken = |_: &u32| rates.take("a", usual, 1, Monotonic(millis)).is_ok();
            tries.filter(taken).count()
        };
        assert_eq!(taken(0), 20_000);
        assert_eq!(taken(1_000), 5_000);
        assert_eq!(
            rates.take("b", usual, 1, Monotonic(1_000)),
            Ok(()),
            "each has its own"
        );
    }

    #[test]
    fn whoever_sends_too_much_may_go_on_when_it_is_told() {
        let (rates, limit) = (Rates::default(), Limit::of(Some(60)));
        let take = |millis| rates.take("a", limit, 1, Monotonic(millis));
        for _ in 0..60 {
            assert_eq!(take(5), Ok(()));
        }
        assert_eq!(take(5), Err(Over::Now(1)));
        assert_eq!(take(1_005), Ok(()));
        let rare = || rates.take("c", Limit::of(Some(1)), 1, Monotonic(0));
        assert_eq!((rare(), rare()), (Ok(()), Err(Over::Now(60))));
    }

    #[test]
    fn a_list_is_as_many_as_it_has_and_is_taken_whole_or_not_at_all() {
        let (rates, limit) = (Rates::default(), Limit::of(Some(60)));
        let take = |count, millis| rates.take("a", limit, count, Monotonic(millis));
        assert_eq!(take(50, 0), Ok(()));
        assert_eq!(take(20, 0), Err(Over::Now(10)), "ten are left");
        assert_eq!(
            take(20, 9_000),
            Err(Over::Now(1)),
            "and nothing of it was taken"
        );
        assert_eq!(take(10, 9_000), Ok(()));
        assert_eq!(take(20, 29_000), Ok(()));
        assert_eq!(take(61, 600_000), Err(Over::Ever), "however long it waits");
        assert_eq!(take(60, 600_000), Ok(()));
    }

    #[test]
    fn sources_that_were_quiet_are_forgotten() {
        let rates = Rates::default();
        for number in 0..SOURCES_MAX * 3 {
            let at = Monotonic(u64::try_from(number).unwrap() * 10);
            let _ = rates.take(&number.to_string(), Limit::of(None), 1, at);
        }
        assert!(rates.0.lock().unwrap().len() <= SOURCES_MAX);
    }
}
