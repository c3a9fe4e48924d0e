//! Clears away what is left behind: answers remembered by their `Idempotency-Key` for a day, and staged
//! rows of imports whose process is gone.
//!
//! Nothing about rollouts, holds or people is ever forgotten here.

use std::time::Duration;

use chrono::TimeDelta;

use crate::app::App;
use crate::operations::import;
use crate::store::{Lane, idempotency, transact};

/// How long an answer is remembered by its key: a client that repeats a call does it within a day.
const KEY_HOURS: i64 = 24;
/// How often to look.
const EVERY: Duration = Duration::from_secs(600);

/// Sweeps now and every ten minutes, for ever.
pub async fn run(app: App) {
    loop {
        let before = app.clock.now() - TimeDelta::hours(KEY_HOURS);
        let swept = transact!(app.store, Lane::Ordinary, "keys_forget", |txn| {
            idempotency::keys_forget(txn, before).await
        });
        if let Err(error) = swept {
            tracing::warn!(%error, "old answers could not be forgotten");
        }
        match import::sweep(&app).await {
            Ok(0) => {}
            Ok(imports) => {
                tracing::info!(imports, "imports whose process is gone were cleared away")
            }
            Err(error) => tracing::warn!(%error, "lost imports could not be cleared away"),
        }
        tokio::time::sleep(EVERY).await;
    }
}
