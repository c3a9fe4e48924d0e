//! Claims batches and sends their people: one sender per rollout that has something to send.
//!
//! `turn` is the transaction (record what came back, claim what comes next), `sender` the loop of one
//! rollout, `rate` the arithmetic of a target's rate. A sender ends when nothing is ready and nothing
//! is under way; the supervisor starts it again when something is.

pub mod rate;
mod sender;
pub mod turn;

use std::collections::HashSet;
use std::time::Duration;

use tidegate_orchestrator::ids::{RolloutId, millis};
use tokio::task::JoinSet;

use crate::app::App;
use crate::store::wave;

/// How many rollouts send at once in one process.
const SENDERS_MAX: usize = 64;
/// The longest sleep between two looks: a bell that was missed is made up for by then.
const SLEEP: Duration = Duration::from_millis(250);

/// Starts a sender for every rollout that has something ready, for ever.
pub async fn run(app: App) {
    let mut senders: JoinSet<RolloutId> = JoinSet::new();
    let mut active: HashSet<RolloutId> = HashSet::new();
    loop {
        if !app.ending.is_cancelled() {
            start_senders(&app, &mut senders, &mut active).await;
        }
        rest(&app, &mut senders, &mut active).await;
    }
}

/// Waits for the bell or the next look. The end of a sender is neither: one that found nothing would be
/// started again at once, and find nothing again.
async fn rest(app: &App, senders: &mut JoinSet<RolloutId>, active: &mut HashSet<RolloutId>) {
    let until = tokio::time::sleep(SLEEP);
    tokio::pin!(until);
    loop {
        tokio::select! {
            Some(ended) = senders.join_next() => match ended {
                Ok(rollout) => {
                    active.remove(&rollout);
                }
                Err(error) => {
                    // Nobody knows whose it was: whoever is still at work is found by its lease.
                    tracing::error!(%error, "a sender broke");
                    active.clear();
                    senders.abort_all();
                }
            },
            () = app.wake.dispatch() => return,
            () = &mut until => return,
        }
    }
}

async fn start_senders(
    app: &App,
    senders: &mut JoinSet<RolloutId>,
    active: &mut HashSet<RolloutId>,
) {
    let room = SENDERS_MAX.saturating_sub(active.len());
    if room == 0 {
        return;
    }
    match wave::rollouts_ready(app.store.read(), millis(app.clock.now()), SENDERS_MAX * 2).await {
        Ok(ready) => {
            let fresh: Vec<RolloutId> = ready
                .into_iter()
                .filter(|rollout| !active.contains(rollout))
                .take(room)
                .collect();
            for rollout in fresh {
                active.insert(rollout);
                senders.spawn(sender::send_rollout(app.clone(), rollout));
            }
        }
        Err(error) => tracing::warn!(%error, "nobody could look for people to send"),
    }
}
