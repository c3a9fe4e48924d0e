//! What was refused of sources: counted in memory, and told to the trail in few words.
//!
//! A flood of forgeries must not become a flood of writes. So a request that is refused writes nothing: it is
//! counted, and a task writes one entry for a source and a code, with how many there were, at most once a
//! minute (in each process). Names that are no source are counted together: whoever makes names up must not
//! fill memory or figures.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::TimeDelta;
use serde_json::json;
use tidegate_orchestrator::ids::Timestamp;

use crate::app::App;
use crate::operations::Actor;
use crate::store::{Lane, StoreError, transact};

/// What everybody is called who is no source.
pub const UNKNOWN: &str = "unknown";
/// How long there is at least between two entries of a source and a code.
const PAUSE: TimeDelta = TimeDelta::seconds(60);
/// So many refusals in one entry are a burst that somebody should look at.
const BURST: u64 = 100;
/// The most pairs of source and code that are counted: sources are people's work, and codes are few.
const PAIRS_MAX: usize = 10_000;

/// Counts of what was refused, by source and code.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<BTreeMap<(String, String), Count>>>);

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    total: u64,
    untold: u64,
    since: Option<Timestamp>,
    told_at: Option<Timestamp>,
}

/// What is to be told about one source and code.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Due {
    source: String,
    code: String,
    count: u64,
    since: Option<Timestamp>,
}

impl Refusals {
    /// Counts one.
    pub fn count(&self, source: &str, code: &str, now: Timestamp) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = (source.to_owned(), code.to_owned());
        if counts.len() >= PAIRS_MAX && !counts.contains_key(&pair) {
            return;
        }
        let count = counts.entry(pair).or_default();
        count.total += 1;
        count.untold += 1;
        count.since.get_or_insert(now);
    }

    /// Returns how many there were of each source and code since the process began.
    #[must_use]
    pub fn totals(&self) -> Vec<((String, String), u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .map(|(pair, count)| (pair.clone(), count.total))
            .collect()
    }

    /// Hands out what is to be told, and takes it for told.
    fn take(&self, now: Timestamp, is_ending: bool) -> Vec<Due> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = |count: &Count| {
            let told = count.told_at;
            let long_ago = |told| now.signed_duration_since(told).abs() >= PAUSE;
            count.untold > 0 && (is_ending || told.is_none_or(long_ago))
        };
        let due = counts.iter_mut().filter(|(_, count)| is_due(count));
        due.map(|((source, code), count)| {
            count.told_at = Some(now);
            Due {
                source: source.clone(),
                code: code.clone(),
                count: std::mem::take(&mut count.untold),
                since: count.since.take(),
            }
        })
        .collect()
    }

    /// Takes back what could not be told.
    fn give_back(&self, due: Vec<Due>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for one in due {
            let count = counts.entry((one.source, one.code)).or_default();
            count.untold += one.count;
            count.since = one.since.or(count.since);
            count.told_at = None;
        }
    }
}

/// Tells the trail what was refused; at the end of the process all of it.
///
/// # Errors
///
/// When the store cannot be reached: then it is told later.
pub async fn tell(app: &App, is_ending: bool) -> Result<usize, StoreError> {
    let refusals = &app.inbound.refusals;
    let due = refusals.take(app.clock.now(), is_ending);
    if due.is_empty() {
        return Ok(0);
    }
    let done: Result<(), StoreError> = transact!(
        app.store,
        Lane::Ordinary,
        "source_refused",
        |txn| {
            for one in &due {
                let detail = json!({
                    "code": one.code, "count": one.count, "since": one.since, "process": app.worker_name,
                });
                let entry = Actor::task("sources").entry(
                    "source.refused",
                    format!("source:{}", one.source),
                    detail,
                );
                txn.audit(entry);
            }
            Ok(())
        }
    );
    if let Err(error) = done {
        refusals.give_back(due);
        return Err(error);
    }
    for one in due.iter().filter(|one| one.count >= BURST) {
        tracing::warn!(
            source = one.source,
            code = one.code,
            count = one.count,
            "many messages of a source were refused within a minute"
        );
    }
    Ok(due.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::apps_standing;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_flood_of_refusals_is_one_entry_a_minute_with_all_of_them_counted() {
        for app in apps_standing().await {
            let refusals = &app.inbound.refusals;
            for _ in 0..10_000 {
                refusals.count("okta", "authentication_failed", app.clock.now());
            }
            refusals.count(UNKNOWN, "source_not_found", app.clock.now());
            assert_eq!(tell(&app, false).await.unwrap(), 2);
            refusals.count("okta", "authentication_failed", app.clock.now());
            assert_eq!(tell(&app, false).await.unwrap(), 0, "within the minute");
            assert_eq!(tell(&app, true).await.unwrap(), 1, "and at the end");
            let totals = refusals.totals();
            assert_eq!(totals.len(), 2);
            assert!(totals.iter().any(|(_, total)| *total == 10_001));
        }
    }

    #[test]
    fn names_that_are_made_up_fill_no_memory() {
        let refusals = Refusals::default();
        for number in 0..20_000 {
            refusals.count(&number.to_string(), "x", Timestamp::UNIX_EPOCH);
        }
        assert_eq!(refusals.totals().len(), PAIRS_MAX);
    }
}
