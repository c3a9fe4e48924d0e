//! API tokens: a name, a role, and the hash of a secret that is shown once.

use sea_orm::{ConnectionTrait, FromQueryResult};
use tidegate_orchestrator::ids::{Timestamp, TokenId, millis};

use super::{StoreError, query};

/// A token as it is stored.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub name: String,
    /// What it may do.
    pub role: String,
    /// The person behind it, when that is not its name.
    pub person: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was made worthless.
    pub revoked_at: Option<Timestamp>,
}

#[derive(Debug, FromQueryResult)]
struct RawToken {
    id: String,
    name: String,
    role: String,
    person: Option<String>,
    created_at: i64,
    revoked_at: Option<i64>,
}

fn token(raw: RawToken) -> Result<TokenRow, StoreError> {
    Ok(TokenRow {
        id: query::id(&raw.id)?,
        name: raw.name,
        role: raw.role,
        person: raw.person,
        created_at: query::instant(raw.created_at)?,
        revoked_at: raw.revoked_at.map(query::instant).transpose()?,
    })
}

const COLUMNS: &str = "id, name, role, person, created_at, revoked_at";

/// Writes a new token.
pub async fn token_insert<C: ConnectionTrait>(
    db: &C,
    row: &TokenRow,
    hash: &[u8],
) -> Result<(), StoreError> {
    query::execute(
        db,
        "INSERT INTO api_token (id, name, role, hash, created_at, person) VALUES ($1, $2, $3, $4, $5, $6)",
        [
            row.id.to_string().into(),
            row.name.clone().into(),
            row.role.clone().into(),
            hash.to_vec().into(),
            millis(row.created_at).into(),
            row.person.clone().into(),
        ],
    )
    .await?;
    Ok(())
}

/// Finds the token with this hash.
pub async fn token_by_hash<C: ConnectionTrait>(
    db: &C,
    hash: &[u8],
) -> Result<Option<TokenRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM api_token WHERE hash = $1");
    let found: Option<RawToken> = query::one(db, sql, [hash.to_vec().into()]).await?;
    found.map(token).transpose()
}

/// Finds a token by its id or name.
pub async fn token_find<C: ConnectionTrait>(
    db: &C,
    name: &str,
) -> Result<Option<TokenRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM api_token WHERE id = $1 OR name = $2");
    let found: Option<RawToken> =
        query::one(db, sql, [name.to_lowercase().into(), name.into()]).await?;
    found.map(token).transpose()
}

/// Lists tokens by name, after one.
pub async fn tokens_page<C: ConnectionTrait>(
    db: &C,
    after: &str,
    limit: usize,
) -> Result<Vec<TokenRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM api_token WHERE name > $1 ORDER BY name LIMIT $2");
    let rows: Vec<RawToken> =
        query::all(db, sql, [after.into(), query::signed(limit)?.into()]).await?;
    rows.into_iter().map(token).collect()
}

/// Counts the tokens there have ever been.
pub async fn tokens_count<C: ConnectionTrait>(db: &C) -> Result<i64, StoreError> {
    let row: Option<query::Number> =
        query::one(db, "SELECT COUNT(*) AS number FROM api_token", []).await?;
    Ok(row.map_or(0, |row| row.number))
}

/// Counts the tokens of a role that are worth something, and locks them.
pub async fn tokens_alive<C: ConnectionTrait>(db: &C, role: &str) -> Result<usize, StoreError> {
    let lock = query::for_update(db);
    let sql = format!(
        "SELECT {COLUMNS} FROM api_token WHERE role = $1 AND revoked_at IS NULL ORDER BY id{lock}"
    );
    let rows: Vec<RawToken> = query::all(db, sql, [role.into()]).await?;
    Ok(rows.len())
}

/// Makes a token worthless.
pub async fn token_revoke<C: ConnectionTrait>(
    db: &C,
    id: TokenId,
    at: Timestamp,
) -> Result<(), StoreError> {
    query::execute(
        db,
        "UPDATE api_token SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL",
        [millis(at).into(), id.to_string().into()],
    )
    .await?;
    Ok(())
}
