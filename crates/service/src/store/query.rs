//! One way to run a statement: one text for both dialects, `$n` placeholders, typed rows.

use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Statement, Value};

use tidegate_orchestrator::ids::{Timestamp, from_millis};

use super::StoreError;

/// A row of one number.
#[derive(Debug, FromQueryResult)]
pub(crate) struct Number {
    /// The number.
    pub(crate) number: i64,
}

/// A row of one number that may be missing.
#[derive(Debug, FromQueryResult)]
pub(crate) struct MaybeNumber {
    /// The number.
    pub(crate) number: Option<i64>,
}

/// Runs a query and reads every row.
pub(crate) async fn all<T: FromQueryResult, C: ConnectionTrait>(
    db: &C,
    sql: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<T>, StoreError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let rows = db.query_all_raw(statement).await?;
    rows.iter()
        .map(|row| T::from_query_result(row, "").map_err(StoreError::from))
        .collect()
}

/// Runs a query and reads the first row.
pub(crate) async fn one<T: FromQueryResult, C: ConnectionTrait>(
    db: &C,
    sql: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Result<Option<T>, StoreError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let row = db.query_one_raw(statement).await?;
    row.map(|row| T::from_query_result(&row, "").map_err(StoreError::from))
        .transpose()
}

/// Runs a statement and returns how many rows it changed.
pub(crate) async fn execute<C: ConnectionTrait>(
    db: &C,
    sql: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Result<u64, StoreError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    Ok(db.execute_raw(statement).await?.rows_affected())
}

/// The clause that locks rows for writing; SQLite has one writer and needs none.
pub(crate) fn for_update<C: ConnectionTrait>(db: &C) -> &'static str {
    if db.get_database_backend() == DbBackend::Postgres {
        " FOR UPDATE"
    } else {
        ""
    }
}

/// The clause that locks rows nobody else holds; SQLite has one writer and needs none.
pub(crate) fn skip_locked<C: ConnectionTrait>(db: &C) -> &'static str {
    if db.get_database_backend() == DbBackend::Postgres {
        " FOR UPDATE SKIP LOCKED"
    } else {
        ""
    }
}

/// Splits a list into parts of 16, 4 and 1, so that a handful of texts serves every length and the
/// statement cache of a connection stays warm.
pub(crate) fn parts<T>(items: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let size = [16, 4, 1].into_iter().find(|size| rest.len() >= *size)?;
        let (part, later) = rest.split_at(size);
        rest = later;
        Some(part)
    })
}

/// Returns `count` placeholders from `$first` on, separated by commas.
pub(crate) fn placeholders(first: usize, count: usize) -> String {
    let mut text = String::with_capacity(count * 5);
    for index in first..first + count {
        if index > first {
            text.push(',');
        }
        text.push('$');
        text.push_str(&index.to_string());
    }
    text
}

/// Returns `rows` rows of `width` placeholders: `($1,$2),($3,$4)`.
pub(crate) fn rows_for(rows: usize, width: usize) -> String {
    let mut text = String::with_capacity(rows * width * 5);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ",(" });
        text.push_str(&placeholders(row * width + 1, width));
        text.push(')');
    }
    text
}

/// The time by the clock of PostgreSQL, in milliseconds.
pub(crate) const NOW: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";

/// Has PostgreSQL end the transaction under way when its client is silent for so long in it; 0: never. The
/// expression of a `SELECT`, so that it costs no round trip of its own.
pub(crate) fn client_silent(millis: u32) -> String {
    format!("set_config('idle_in_transaction_session_timeout', '{millis}', true)")
}

/// Reads a small unsigned number out of a column.
pub(crate) fn unsigned(number: i64) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|_| StoreError::Corrupt(format!("`{number}` is out of range")))
}

/// Reads an unsigned number out of a column.
pub(crate) fn unsigned64(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Corrupt(format!("`{number}` is out of range")))
}

/// Turns a count into the form of a column.
pub(crate) fn signed<N: TryInto<i64>>(number: N) -> Result<i64, StoreError> {
    number
        .try_into()
        .map_err(|_| StoreError::Corrupt("a count is out of range".to_owned()))
}

/// Reads an id out of a column.
pub(crate) fn id<I: std::str::FromStr>(text: &str) -> Result<I, StoreError> {
    text.parse()
        .map_err(|_| StoreError::Corrupt(format!("`{text}` is no id")))
}

/// Reads an instant out of a column.
pub(crate) fn instant(millis: i64) -> Result<Timestamp, StoreError> {
    from_millis(millis).ok_or_else(|| StoreError::Corrupt(format!("`{millis}` is no instant")))
}
