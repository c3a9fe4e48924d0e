//! When a source is asked: one process at a time, and less often while it does not answer.

use tidegate_orchestrator::ids::{Timestamp, from_millis};
use tidegate_policy::time::Seconds;

use super::super::{config_of, feed::Feed};
use super::{Polled, Trouble, poll};
use crate::app::App;
use crate::store::source::{self as rows, SourceRow};
use crate::store::{Lane, StoreError, transact};

/// For how long a source is one process's to ask: longer than a turn and a request. When it dies meanwhile,
/// another asks after this.
const TAKEN: Seconds = Seconds(75);
/// How long after the first failure it is asked again, at most.
const AGAIN_FIRST: u32 = 60;
/// The longest that anybody waits who is asked more often than that when all is well.
const AGAIN_MAX: u32 = 600;
/// The longest that a source may ask to be left alone.
const LEFT_ALONE_MAX: u32 = 3600;

/// A source that is this process's to ask.
#[derive(Debug)]
pub struct Taken {
    row: SourceRow,
    feed: Feed,
    until: Timestamp,
    failures: i64,
}

impl Taken {
    /// Returns the name of the source.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.row.name
    }
}

/// Takes the sources that are due, the longest due first, and none that `is_asked` already.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn take(
    app: &App,
    most: usize,
    is_asked: impl Fn(&str) -> bool,
) -> Result<Vec<Taken>, StoreError> {
    let sources = rows::sources(app.store.read()).await?;
    let mut due = Vec::new();
    for row in sources.into_iter().filter(|row| row.revoked_at.is_none()) {
        let (_, config) = config_of(&row)?;
        if let Some(feed) = config.feed.filter(|_| !is_asked(&row.name)) {
            due.push((row, feed));
        }
    }
    if due.is_empty() || most == 0 {
        return Ok(Vec::new());
    }
    let states = rows::states(app.store.read()).await?;
    let now = app.store.now().await?;
    let due_at = |row: &SourceRow| states.get(&row.name).map_or(i64::MAX, |state| state.due_at);
    due.retain(|(row, _)| from_millis(due_at(row)).is_some_and(|at| at <= now));
    due.sort_by_key(|(row, _)| due_at(row));
    let mut taken = Vec::new();
    for (row, feed) in due {
        let Some(state) = states.get(&row.name) else {
            continue;
        };
        if taken.len() == most {
            break;
        }
        let until: Result<Option<Timestamp>, StoreError> =
            transact!(app.store, Lane::Ordinary, "source_take", |txn| {
                let until = TAKEN.after(txn.now());
                let is_ours = rows::due_take(txn, state, until).await?;
                Ok(is_ours.then_some(until))
            });
        if let Some(until) = until? {
            let failures = state.failures;
            taken.push(Taken {
                row,
                feed,
                until,
                failures,
            });
        }
    }
    Ok(taken)
}

/// Asks a source that was taken, and says when it is asked next.
pub(crate) async fn ask(app: &App, taken: &Taken) -> Result<Polled, Trouble> {
    let done = poll(app, &taken.row).await;
    let after = match &done {
        Ok(polled) if polled.more => Seconds(0),
        Ok(_) => Seconds(taken.feed.every_seconds),
        Err(Trouble::Store(_) | Trouble::Revoked) => return done,
        Err(trouble) => {
            let failures = taken.failures.saturating_add(1);
            let wait = again_after(taken.feed.every_seconds, failures, jitter(taken));
            let alone = trouble.retry_after().unwrap_or(0).min(LEFT_ALONE_MAX);
            Seconds(wait.max(alone))
        }
    };
    let kept: Result<(), StoreError> = transact!(app.store, Lane::Ordinary, "source_due", |txn| {
        let next = after.after(txn.now());
        rows::due_set(txn, taken.name(), taken.until, next).await
    });
    kept?;
    done
}

/// A number from 0 to 99 that differs between sources and questions: those that failed together are not
/// asked together.
fn jitter(taken: &Taken) -> u32 {
    let letters = taken.name().bytes().map(u64::from);
    let moment = u64::try_from(taken.until.timestamp_millis()).unwrap_or(0);
    let mixed = letters.fold(moment, |mixed, letter| {
        mixed.wrapping_mul(31).wrapping_add(letter)
    });
    u32::try_from(mixed % 100).unwrap_or(0)
}

/// Says after how many seconds a source is asked again that failed so often in a row: soon, then twice as
/// long each time, up to a bound, and up to a quarter sooner.
fn again_after(every: u32, failures: i64, jitter: u32) -> u32 {
    let doublings = u32::try_from(failures.clamp(1, 16) - 1).unwrap_or(0);
    let wait = every.min(AGAIN_FIRST).saturating_mul(1 << doublings);
    let wait = wait.min(every.max(AGAIN_MAX));
    (wait - wait / 4 * jitter.min(99) / 100).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_does_not_answer_is_asked_less_often_and_never_given_up() {
        let waits = |every| -> Vec<u32> { (1..8).map(|n| again_after(every, n, 0)).collect() };
        assert_eq!(waits(300), [60, 120, 240, 480, 600, 600, 600]);
        assert_eq!(waits(10), [10, 20, 40, 80, 160, 320, 600]);
        assert_eq!(waits(86_400)[..3], [60, 120, 240]);
        assert_eq!(again_after(86_400, i64::MAX, 0), 86_400);
        for jitter in 0..100 {
            assert!((45..=60).contains(&again_after(300, 1, jitter)));
        }
    }
}
