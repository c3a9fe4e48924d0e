//! Endpoints: who is told what happens, how far they have been told, and who is telling them.
//!
//! The place in the trail moves only together with what it was moved from: two processes that tell the same
//! endpoint find out here, and one of them loses.

use sea_orm::{ConnectionTrait, FromQueryResult};
use tidegate_orchestrator::ids::{Timestamp, WorkerId, millis};

use super::{StoreError, query};

/// It is told what happens.
pub const ACTIVE: &str = "active";
/// It has not answered for days.
pub const DEAD: &str = "dead";
/// It said that there is nobody any more.
pub const GONE: &str = "gone";
/// People took it out of use.
pub const REVOKED: &str = "revoked";

/// An endpoint as it is stored. Instants are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct EndpointRow {
    /// Its name.
    pub name: String,
    /// Where it is told.
    pub url: String,
    /// Keys by reference and the types that are wanted, as JSON.
    pub config: String,
    /// active, dead, gone or revoked.
    pub status: String,
    /// Everything up to this entry of the trail has been told, or was not to be.
    pub told_seq: i64,
    /// Attempts in a row that failed.
    pub failures: i64,
    /// When the first of them failed.
    pub failing_since: Option<i64>,
    /// What was wrong with the last of them.
    pub last_error: Option<String>,
    /// Nothing is sent before this; 0 while nothing fails, whatever a clock says.
    pub next_at: i64,
    /// When it last said that it got something.
    pub delivered_at: Option<i64>,
    /// When it was created.
    pub created_at: i64,
    /// When it was taken out of use.
    pub revoked_at: Option<i64>,
}

const COLUMNS: &str = "name, url, config, status, told_seq, failures, failing_since, last_error, next_at, \
                       delivered_at, created_at, revoked_at";

/// Writes a new endpoint; a name in use is `Taken`.
pub async fn endpoint_insert<C: ConnectionTrait>(
    db: &C,
    row: &EndpointRow,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO endpoint (name, url, config, status, told_seq, failures, next_at, created_at) \
               VALUES ($1, $2, $3, $4, $5, 0, $6, $7)";
    let values = [
        row.name.clone().into(),
        row.url.clone().into(),
        row.config.clone().into(),
        row.status.clone().into(),
        row.told_seq.into(),
        row.next_at.into(),
        row.created_at.into(),
    ];
    query::execute(db, sql, values).await?;
    Ok(())
}

/// Reads an endpoint.
pub async fn endpoint_find<C: ConnectionTrait>(
    db: &C,
    name: &str,
) -> Result<Option<EndpointRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM endpoint WHERE name = $1");
    query::one(db, sql, [name.into()]).await
}

/// Lists every endpoint by name.
pub async fn endpoints<C: ConnectionTrait>(db: &C) -> Result<Vec<EndpointRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM endpoint ORDER BY name");
    query::all(db, sql, []).await
}

/// Lists the endpoints that may be told something now, and whom nobody is telling anything.
pub async fn endpoints_due<C: ConnectionTrait>(
    db: &C,
    now: Timestamp,
) -> Result<Vec<EndpointRow>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM endpoint WHERE status = 'active' AND next_at <= $1 \
         AND (lease_until IS NULL OR lease_until <= $1) ORDER BY name"
    );
    query::all(db, sql, [millis(now).into()]).await
}

/// The right of one process to tell one endpoint what comes after one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The endpoint.
    pub name: String,
    /// Everything up to here had been told.
    pub told_seq: i64,
    /// Who.
    pub owner: WorkerId,
    /// Until when. It also tells one lease from the next one.
    pub until: Timestamp,
}

/// Takes the right to tell an endpoint what comes next; says whether nobody else has it.
pub async fn endpoint_lease<C: ConnectionTrait>(
    db: &C,
    lease: &Lease,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE endpoint SET lease_owner = $3, lease_until = $4 \
               WHERE name = $1 AND told_seq = $2 AND status = 'active' AND next_at <= $5 \
               AND (lease_until IS NULL OR lease_until <= $5)";
    let values = [
        lease.name.clone().into(),
        lease.told_seq.into(),
        lease.owner.to_string().into(),
        millis(lease.until).into(),
        millis(now).into(),
    ];
    Ok(query::execute(db, sql, values).await? == 1)
}

/// Notes that an endpoint got an entry; says whether the lease was still good for that.
pub async fn endpoint_delivered<C: ConnectionTrait>(
    db: &C,
    lease: &Lease,
    (seq, now): (i64, Timestamp),
) -> Result<bool, StoreError> {
    let sql = "UPDATE endpoint SET told_seq = $5, delivered_at = $6, failures = 0, failing_since = NULL, \
               last_error = NULL, next_at = 0, lease_owner = NULL, lease_until = NULL \
               WHERE name = $1 AND told_seq = $2 AND lease_owner = $3 AND lease_until = $4 \
               AND status = 'active'";
    let values = [
        lease.name.clone().into(),
        lease.told_seq.into(),
        lease.owner.to_string().into(),
        millis(lease.until).into(),
        seq.into(),
        millis(now).into(),
    ];
    Ok(query::execute(db, sql, values).await? == 1)
}

/// What becomes of an endpoint after an attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setback {
    /// active, dead or gone.
    pub status: &'static str,
    /// What was wrong.
    pub error: String,
    /// When it is tried again.
    pub next_at: Timestamp,
}

/// Notes that an attempt failed; says whether the lease was still good for that.
pub async fn endpoint_failed<C: ConnectionTrait>(
    db: &C,
    lease: &Lease,
    setback: &Setback,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE endpoint SET status = $5, last_error = $6, next_at = $7, failures = failures + 1, \
               failing_since = COALESCE(failing_since, $8), lease_owner = NULL, lease_until = NULL \
               WHERE name = $1 AND told_seq = $2 AND lease_owner = $3 AND lease_until = $4 \
               AND status = 'active'";
    let values = [
        lease.name.clone().into(),
        lease.told_seq.into(),
        lease.owner.to_string().into(),
        millis(lease.until).into(),
        setback.status.into(),
        setback.error.clone().into(),
        millis(setback.next_at).into(),
        millis(now).into(),
    ];
    Ok(query::execute(db, sql, values).await? == 1)
}

/// Moves an endpoint on over entries that it is not to be told, unless somebody else has moved it.
pub async fn endpoint_pass<C: ConnectionTrait>(
    db: &C,
    name: &str,
    (from, to): (i64, i64),
) -> Result<(), StoreError> {
    let sql = "UPDATE endpoint SET told_seq = $3 WHERE name = $1 AND told_seq = $2 AND lease_owner IS NULL";
    query::execute(db, sql, [name.into(), from.into(), to.into()]).await?;
    Ok(())
}

/// Moves an endpoint on over an entry that it does not take; says whether it was there, and nobody is telling it.
pub async fn endpoint_skip<C: ConnectionTrait>(
    db: &C,
    name: &str,
    (from, to): (i64, i64),
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE endpoint SET told_seq = $3, failures = 0, failing_since = NULL, last_error = NULL, \
               next_at = 0 WHERE name = $1 AND told_seq = $2 AND status <> 'revoked' \
               AND (lease_until IS NULL OR lease_until <= $4)";
    let values = [name.into(), from.into(), to.into(), millis(now).into()];
    Ok(query::execute(db, sql, values).await? == 1)
}

/// Lets an endpoint that is dead or gone be told again what comes next; says whether it was either.
pub async fn endpoint_revive<C: ConnectionTrait>(db: &C, name: &str) -> Result<bool, StoreError> {
    let sql = "UPDATE endpoint SET status = 'active', failures = 0, failing_since = NULL, last_error = NULL, \
               next_at = 0, lease_owner = NULL, lease_until = NULL \
               WHERE name = $1 AND status IN ('dead', 'gone')";
    Ok(query::execute(db, sql, [name.into()]).await? == 1)
}

/// Takes an endpoint out of use; says whether it was in use.
pub async fn endpoint_revoke<C: ConnectionTrait>(
    db: &C,
    name: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE endpoint SET status = 'revoked', revoked_at = $2 WHERE name = $1 AND status <> 'revoked'";
    Ok(query::execute(db, sql, [name.into(), millis(now).into()]).await? == 1)
}

/// Ends the leases of processes of which nothing is left.
pub async fn endpoints_clear<C: ConnectionTrait>(db: &C) -> Result<(), StoreError> {
    let sql =
        "UPDATE endpoint SET lease_owner = NULL, lease_until = NULL WHERE lease_owner IS NOT NULL";
    query::execute(db, sql, []).await?;
    Ok(())
}
