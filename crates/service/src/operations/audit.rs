//! The audit trail as it is shown.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_orchestrator::digest::Digest;
use tidegate_orchestrator::ids::{Timestamp, from_millis};

use super::{OperationError, Page};
use crate::app::App;
use crate::store::StoreError;
use crate::store::audit::{self, AuditRow};

/// One entry of the trail.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditView {
    /// Its place, from 1.
    pub seq: i64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub subject: String,
    /// The request it came with.
    pub request_id: Option<String>,
    /// The rest.
    #[schema(value_type = Object)]
    pub detail: Value,
    /// How many bytes of packed changes of people belong to it.
    pub data_bytes: usize,
    /// The hash of the entry.
    pub hash: String,
}

fn show(row: AuditRow) -> Result<AuditView, StoreError> {
    let hash: [u8; 32] = row
        .hash
        .as_slice()
        .try_into()
        .map_err(StoreError::corrupt)?;
    Ok(AuditView {
        seq: row.seq,
        at: from_millis(row.at).ok_or_else(|| StoreError::corrupt("an instant out of range"))?,
        actor: row.actor,
        action: row.action,
        subject: row.subject,
        request_id: row.request_id,
        detail: serde_json::from_str(&row.detail).map_err(StoreError::corrupt)?,
        data_bytes: row.data.map_or(0, |data| data.len()),
        hash: Digest(hash).to_string(),
    })
}

/// Lists entries after one, oldest first.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn list(app: &App, after: i64, limit: usize) -> Result<Page<AuditView>, OperationError> {
    let rows = audit::entries_after(app.store.read(), after, limit + 1).await?;
    let views = rows.into_iter().map(show).collect::<Result<Vec<_>, _>>()?;
    Ok(Page::cut(views, limit, |view| view.seq.to_string()))
}

/// Returns the number of the last entry.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn last(app: &App) -> Result<i64, OperationError> {
    Ok(audit::head(app.store.read()).await?.0)
}
