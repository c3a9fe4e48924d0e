//! Answers remembered by the key a client gave with its request, so that a repeat changes nothing.

use sea_orm::{ConnectionTrait, FromQueryResult};
use tidegate_orchestrator::ids::{Timestamp, millis};

use super::{StoreError, query};

/// An answer that was given, or is being worked on.
#[derive(Debug, Clone, FromQueryResult)]
pub struct Remembered {
    /// What was asked.
    pub request_hash: Vec<u8>,
    /// The HTTP status; 0 while it is being worked on.
    pub status: i64,
    /// The headers that matter, as JSON.
    pub headers: String,
    /// The body.
    pub body: Option<Vec<u8>>,
}

/// Takes a key; says whether it was free. One that has been worked on since before `lost_before` was left
/// behind by a crash, and is free again.
pub async fn key_take<C: ConnectionTrait>(
    db: &C,
    principal: &str,
    key: &str,
    hash: &[u8],
    now: Timestamp,
    lost_before: Timestamp,
) -> Result<bool, StoreError> {
    let taken = query::execute(
        db,
        "INSERT INTO idempotency_key (principal, key, request_hash, status, headers, created_at) \
         VALUES ($1, $2, $3, 0, '{}', $4) ON CONFLICT (principal, key) DO UPDATE \
         SET request_hash = excluded.request_hash, created_at = excluded.created_at \
         WHERE idempotency_key.status = 0 AND idempotency_key.created_at < $5",
        [
            principal.into(),
            key.into(),
            hash.to_vec().into(),
            millis(now).into(),
            millis(lost_before).into(),
        ],
    )
    .await?;
    Ok(taken == 1)
}

/// Returns what is remembered of a key.
pub async fn key_load<C: ConnectionTrait>(
    db: &C,
    principal: &str,
    key: &str,
) -> Result<Option<Remembered>, StoreError> {
    let sql = "SELECT request_hash, status, headers, body FROM idempotency_key WHERE principal = $1 AND key = $2";
    query::one(db, sql, [principal.into(), key.into()]).await
}

/// Remembers the answer.
pub async fn key_keep<C: ConnectionTrait>(
    db: &C,
    principal: &str,
    key: &str,
    status: u16,
    headers: &str,
    body: &[u8],
) -> Result<(), StoreError> {
    query::execute(
        db,
        "UPDATE idempotency_key SET status = $3, headers = $4, body = $5 WHERE principal = $1 AND key = $2",
        [principal.into(), key.into(), i64::from(status).into(), headers.into(), body.to_vec().into()],
    )
    .await?;
    Ok(())
}

/// Gives a key back: the request failed on our side and may be repeated.
pub async fn key_drop<C: ConnectionTrait>(
    db: &C,
    principal: &str,
    key: &str,
) -> Result<(), StoreError> {
    query::execute(
        db,
        "DELETE FROM idempotency_key WHERE principal = $1 AND key = $2",
        [principal.into(), key.into()],
    )
    .await?;
    Ok(())
}

/// Forgets keys older than an instant.
pub async fn keys_forget<C: ConnectionTrait>(db: &C, before: Timestamp) -> Result<u64, StoreError> {
    query::execute(
        db,
        "DELETE FROM idempotency_key WHERE created_at < $1",
        [millis(before).into()],
    )
    .await
}
