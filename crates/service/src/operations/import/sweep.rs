//! Throws away what imports have left half-done whose process is gone.
//!
//! On PostgreSQL an import holds a lock that the database takes back with its connection; on SQLite there
//! is one process, and whatever it did not begin itself was begun by one that is gone.

use super::{Report, rows};
use crate::app::App;
use crate::store::population::ImportRow;
use crate::store::{Lane, StoreError, transact};

/// Throws away the staged rows of imports that nobody goes on with, and returns how many there were.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn sweep(app: &App) -> Result<usize, StoreError> {
    let mut swept = 0;
    for row in rows::imports_receiving(app.store.read()).await? {
        let report: Report = serde_json::from_str(&row.report).map_err(StoreError::corrupt)?;
        if report.worker != Some(app.worker) && sweep_one(app, row).await? {
            swept += 1;
        }
    }
    Ok(swept)
}

/// Clears one import away, unless its process is at work; says whether it was.
async fn sweep_one(app: &App, row: ImportRow) -> Result<bool, StoreError> {
    transact!(app.store, Lane::Ordinary, "import_sweep", |txn| {
        if let Some(version) = row.version {
            if !rows::version_guard(txn, version).await? {
                return Ok(false);
            }
            rows::version_discard(txn, version).await?;
        }
        let lost = ImportRow {
            version: None,
            status: "lost".to_owned(),
            finished_at: Some(txn.now()),
            ..row.clone()
        };
        rows::import_put(txn, &lost).await?;
        Ok(true)
    })
}
