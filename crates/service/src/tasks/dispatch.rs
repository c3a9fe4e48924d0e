//! Claims batches and sends their people: one sender per rollout that has something to send.
//!
//! `turn` is the transaction (record what came back, claim what comes next), `sender` the loop of one
//! rollout, `rate` the arithmetic of a target's rate. A sender ends when nothing is ready and nothing
//! is under way; the supervisor starts it again when something is.

pub mod rate;
mod sender;
pub mod turn;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tidegate_orchestrator::ids::{Epoch, RolloutId, millis};
use tidegate_orchestrator::permit::Deadline;
use tokio::task::JoinSet;

use crate::app::App;
use crate::store::wave;
use sender::Ended;

/// How many rollouts send at once in one process.
const SENDERS_MAX: usize = 64;
/// The longest sleep between two looks: a bell that was missed is made up for by then.
const SLEEP: Duration = Duration::from_millis(250);
/// How long a rollout has no sender after a hold was found in its way. The planner, which has been told, closes
/// what may not be claimed; asked again at once, thousands would keep the planner from the database.
const HELD_REST_MILLIS: u32 = 1000;

/// Starts a sender for every rollout that has something ready, for ever.
pub async fn run(app: App) {
    let mut senders = Senders::default();
    loop {
        if !app.ending.is_cancelled() {
            senders.start(&app).await;
        }
        senders.rest(&app).await;
    }
}

#[derive(Debug, Default)]
struct Senders {
    under_way: JoinSet<(RolloutId, Ended)>,
    active: HashSet<RolloutId>,
    /// Where a hold was in the way under an epoch, and until when nobody tries again under it.
    held: HashMap<RolloutId, (Option<Epoch>, Deadline)>,
}

impl Senders {
    /// Waits for the bell or the next look. The end of a sender is neither: one that found nothing would be
    /// started again at once, and find nothing again.
    async fn rest(&mut self, app: &App) {
        let until = tokio::time::sleep(SLEEP);
        tokio::pin!(until);
        loop {
            tokio::select! {
                Some(ended) = self.under_way.join_next() => match ended {
                    Ok((rollout, how)) => {
                        self.active.remove(&rollout);
                        if let Ended::Held(epoch, later) = how {
                            let now = app.clock.moment();
                            let rest = later.map_or(HELD_REST_MILLIS, |later| {
                                let wait = (later - now.wall).num_milliseconds();
                                u32::try_from(wait).unwrap_or(0).min(HELD_REST_MILLIS)
                            });
                            self.held.insert(rollout, (epoch, Deadline::after(now, rest)));
                        }
                    }
                    Err(error) => {
                        // Nobody knows whose it was: whoever is still at work is found by its lease.
                        tracing::error!(%error, "a sender broke");
                        self.active.clear();
                        self.under_way.abort_all();
                    }
                },
                () = app.wake.dispatch() => return,
                () = &mut until => return,
            }
        }
    }

    async fn start(&mut self, app: &App) {
        let now = app.clock.moment();
        let epoch = app.permit.epoch(now);
        // Without a permit nobody can be sent at all: that is no reason to ask again.
        let is_moved = |under: Option<Epoch>| epoch.is_some() && under != epoch;
        self.held
            .retain(|_, (under, until)| !is_moved(*under) && !until.has_passed(now));
        if self.active.len() >= SENDERS_MAX {
            return;
        }
        // Whoever rests keeps its place: thousands that are held would be tried by turns without a pause, and the
        // planner, who alone can close them, would wait behind them all. One at a time goes past them.
        let taken = self.active.len() + self.held.len();
        let room = SENDERS_MAX.saturating_sub(taken).max(1);
        // Whoever has a sender or waits must not hide whoever could have one.
        let limit = SENDERS_MAX * 2 + self.held.len();
        match wave::rollouts_ready(app.store.read(), millis(app.clock.now()), limit).await {
            Ok(ready) => {
                let fresh: Vec<RolloutId> = ready
                    .into_iter()
                    .filter(|rollout| {
                        !self.active.contains(rollout) && !self.held.contains_key(rollout)
                    })
                    .take(room)
                    .collect();
                for rollout in fresh {
                    self.active.insert(rollout);
                    self.under_way
                        .spawn(sender::send_rollout(app.clone(), rollout));
                }
            }
            Err(error) => tracing::warn!(%error, "nobody could look for people to send"),
        }
    }
}

#[cfg(test)]
mod tests;
