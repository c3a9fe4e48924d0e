//! Throws away what imports have left half-done whose process is gone.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use tidegate_orchestrator::ids::WorkerId;

use super::{Report, discard_version};
use crate::app::App;
use crate::store::population as rows;
use crate::store::{Lane, StoreError, transact, worker};

/// A process that has not been heard for so long is gone.
const GONE_SECONDS: i64 = 60;

/// Throws away the staged rows of imports that nobody goes on with, and returns how many there were.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn sweep(app: &App) -> Result<usize, StoreError> {
    let now = app.store.now().await?;
    let since = now - TimeDelta::seconds(GONE_SECONDS);
    let heard: BTreeSet<WorkerId> = if app.store.is_postgres() {
        let heard = worker::workers_seen(app.store.read(), since).await?;
        heard.into_iter().map(|worker| worker.id).collect()
    } else {
        // One process per SQLite file: every other one is gone.
        BTreeSet::new()
    };
    let mut swept = 0;
    for mut row in rows::imports_receiving(app.store.read()).await? {
        let report: Report = serde_json::from_str(&row.report).map_err(StoreError::corrupt)?;
        let is_at_work = report
            .worker
            .is_some_and(|worker| worker == app.worker || heard.contains(&worker));
        // A process tells of itself within a second of its start.
        let is_young = app.store.is_postgres() && row.started_at > since;
        if is_at_work || is_young {
            continue;
        }
        if let Some(version) = row.version.take() {
            discard_version(app, version).await?;
        }
        row.status = "lost".to_owned();
        row.finished_at = Some(now);
        transact!(app.store, Lane::Ordinary, "import_lose", |txn| {
            rows::import_put(txn, &row).await
        })?;
        swept += 1;
    }
    Ok(swept)
}
