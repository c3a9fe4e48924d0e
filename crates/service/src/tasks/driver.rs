//! Starts everything that runs by itself, and ends it.

use std::time::Duration;

use tokio::task::JoinSet;

use super::{
    conduct, deliver, dispatch, judge, listen, parts, permit, poll, recover, reviews, sources,
    streams, sweep,
};
use crate::app::App;
use crate::operations::source::refusals;
use crate::operations::{import, restored};
use crate::store::{Lane, StoreError, transact, worker};

/// How long work that is under way may take to end.
const END_MAX: Duration = Duration::from_secs(10);

/// Everything that runs by itself.
#[derive(Debug)]
pub struct Driver {
    app: App,
    tasks: JoinSet<()>,
}

impl Driver {
    /// Clears away what a crash left, takes a permit, and starts the tasks.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    pub async fn start(app: &App) -> Result<Self, StoreError> {
        import::sweep(app).await?;
        permit::renew(app).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(permit::run(app.clone()));
        tasks.spawn(listen::run(app.clone()));
        tasks.spawn(conduct::run(app.clone()));
        tasks.spawn(dispatch::run(app.clone()));
        tasks.spawn(sweep::run(app.clone()));
        tasks.spawn(recover::run(app.clone()));
        tasks.spawn(reviews::run(app.clone()));
        tasks.spawn(parts::run(app.clone()));
        tasks.spawn(judge::run(app.clone()));
        tasks.spawn(sources::run(app.clone()));
        tasks.spawn(deliver::run(app.clone()));
        tasks.spawn(streams::run(app.clone()));
        tasks.spawn(poll::run(app.clone()));
        Ok(Self {
            app: app.clone(),
            tasks,
        })
    }

    /// Ends the tasks: nothing new is claimed, and what is under way may finish for a while.
    pub async fn stop(mut self) {
        self.app.ending.cancel();
        let _ = tokio::time::timeout(END_MAX, async {
            self.app.background.close();
            self.app.background.wait().await;
        })
        .await;
        self.tasks.shutdown().await;
        let app = &self.app;
        if let Err(error) = refusals::tell(app, true).await {
            tracing::warn!(%error, "what was refused last could not be told");
        }
        app.permit.withdraw(app.clock.moment());
        for _ in 0..100 {
            if app.permit.sending_total() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if app.permit.sending_total() > 0 {
            // Whoever waits for this process waits as for a dead one.
            tracing::warn!("requests are still under way at the end");
            restored::remember(app).await;
            return;
        }
        // Nothing of this process sends any more: a hold need not wait until it is taken for dead.
        let ended = transact!(app.store, Lane::Ordinary, "worker_end", |txn| {
            let now = txn.now();
            worker::worker_end(txn, app.worker, now).await
        });
        if let Err(error) = ended {
            tracing::warn!(%error, "the other processes could not be told that this one has ended");
        }
        restored::remember(app).await;
    }
}
