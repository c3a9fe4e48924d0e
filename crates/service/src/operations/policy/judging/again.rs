//! Judging again: what was reported before a target became what it is now.

use tidegate_policy::rule::judge::Judge;

use super::deciding::{Outcomes, Sayings, decide_besides, gather, outcome};
use super::{BATCH, Judging, stand};
use crate::app::App;
use crate::store::StoreError;
use crate::store::policy::{self as rows, Rejudge};
use crate::store::signal as signals;

/// Signals that are being judged again at one target.
#[derive(Debug)]
pub(super) struct Again {
    wanted: Rejudge,
    /// The place of the target among all.
    target: usize,
    /// The rules beside this target alone.
    judge: Judge,
    counted: i64,
    said: Sayings,
    outcomes: Outcomes,
}

impl Judging {
    /// Judges another page of signals at a target again; says whether there may be more to do.
    pub(super) async fn judge_again(&mut self, app: &App) -> Result<bool, StoreError> {
        let mut again = match self.again.take() {
            Some(again) => again,
            None => match self.next_again(app).await? {
                Some(again) => again,
                None => return Ok(false),
            },
        };
        let found = signals::signals_after(app.store.read(), again.counted, BATCH).await?;
        let left = found.iter().filter(|row| row.seq <= again.wanted.until);
        for row in left {
            let mut decisions = again.judge.take(&row.signal);
            for decision in &mut decisions {
                decision.target = again.target;
            }
            if !decisions.is_empty() && row.outcome.is_none() {
                let outcomes = again.outcomes.entry(outcome(self, &decisions));
                outcomes.or_default().push(row.seq);
            }
            gather(&mut again.said, self, row, &decisions);
        }
        let last = found.last().map(|row| row.seq);
        match last.filter(|last| *last < again.wanted.until) {
            Some(last) => {
                again.counted = last;
                self.again = Some(again);
            }
            None => {
                let done = Some((&again.wanted, &again.outcomes));
                let placed = decide_besides(app, self, &again.said, done).await?;
                stand(app, placed);
            }
        }
        Ok(true)
    }

    async fn next_again(&self, app: &App) -> Result<Option<Again>, StoreError> {
        let Some(wanted) = rows::rejudges(app.store.read()).await?.into_iter().next() else {
            return Ok(None);
        };
        let target = self.targets.iter().position(|one| *one == wanted.target);
        let found = target.and_then(|target| {
            let facts = self.judge.targets().get(target)?.clone();
            Some((target, Judge::new(self.judge.rules().to_vec(), vec![facts])))
        });
        let Some((target, judge)) = found else {
            // A target is never deleted, so it is newer than what is known here.
            return Err(StoreError::Conflict);
        };
        Ok(Some(Again {
            target,
            judge,
            counted: wanted.since,
            said: Sayings::new(),
            outcomes: Outcomes::new(),
            wanted,
        }))
    }
}
