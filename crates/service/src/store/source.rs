//! Sources of signals that prove themselves by a signature.

use sea_orm::{ConnectionTrait, FromQueryResult};
use tidegate_orchestrator::ids::{Timestamp, millis};

use super::{StoreError, query};

/// A source as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct SourceRow {
    /// Its name.
    pub name: String,
    /// How what it sends is signed and written.
    pub profile: String,
    /// Keys by reference, vendor and products, as JSON.
    pub config: String,
    /// When it was created, in milliseconds since 1970.
    pub created_at: i64,
    /// When it was taken out of use.
    pub revoked_at: Option<i64>,
}

const COLUMNS: &str = "name, profile, config, created_at, revoked_at";

/// Writes a new source; a name in use is `Taken`.
pub async fn source_insert<C: ConnectionTrait>(db: &C, row: &SourceRow) -> Result<(), StoreError> {
    let sql =
        "INSERT INTO signal_source (name, profile, config, created_at) VALUES ($1, $2, $3, $4)";
    let values = [
        row.name.clone().into(),
        row.profile.clone().into(),
        row.config.clone().into(),
        row.created_at.into(),
    ];
    query::execute(db, sql, values).await?;
    Ok(())
}

/// Reads a source.
pub async fn source_find<C: ConnectionTrait>(
    db: &C,
    name: &str,
) -> Result<Option<SourceRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM signal_source WHERE name = $1");
    query::one(db, sql, [name.into()]).await
}

/// Lists every source by name.
pub async fn sources<C: ConnectionTrait>(db: &C) -> Result<Vec<SourceRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM signal_source ORDER BY name");
    query::all(db, sql, []).await
}

/// Takes a source out of use; says whether it was in use.
pub async fn source_revoke<C: ConnectionTrait>(
    db: &C,
    name: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE signal_source SET revoked_at = $2 WHERE name = $1 AND revoked_at IS NULL";
    Ok(query::execute(db, sql, [name.into(), millis(now).into()]).await? == 1)
}
