//! Sources of signals that prove themselves, and how it stands with each of them.

use std::collections::{BTreeMap, BTreeSet};

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

/// Writes a new source, heard at this instant; a name in use is `Taken`.
pub async fn source_insert<C: ConnectionTrait>(
    db: &C,
    row: &SourceRow,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql =
        "INSERT INTO signal_source (name, profile, config, created_at) VALUES ($1, $2, $3, $4)";
    let values = [
        row.name.clone().into(),
        row.profile.clone().into(),
        row.config.clone().into(),
        row.created_at.into(),
    ];
    query::execute(db, sql, values).await?;
    let sql =
        "INSERT INTO signal_source_state (name, heard_at, due_at, failures) VALUES ($1, $2, $2, 0)";
    query::execute(db, sql, [row.name.clone().into(), millis(now).into()]).await?;
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

/// How it stands with a source. Instants are in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct StateRow {
    /// Its name.
    pub name: String,
    /// When something that proves itself last came from it, or it was last asked with success.
    pub heard_at: i64,
    /// When it is to be asked next, of sources that we ask.
    pub due_at: i64,
    /// Where the next question goes on, as the profile writes it.
    pub progress: Option<String>,
    /// How many questions in a row had no answer that can be read.
    pub failures: i64,
    /// What was wrong with the last of them.
    pub trouble: Option<String>,
    /// Why it says itself that it sends nothing.
    pub stopped: Option<String>,
    /// Since when it is blind.
    pub blind_since: Option<i64>,
    /// Why it is blind.
    pub blind_why: Option<String>,
    /// When it was last found to be heard again.
    pub recovered_at: Option<i64>,
}

const STATE: &str = "name, heard_at, due_at, progress, failures, trouble, stopped, blind_since, blind_why, recovered_at";

/// How many milliseconds may pass before it is written again that a busy source is heard.
const HEARD_EVERY: i64 = 1_000;

/// Reads how it stands with every source.
pub async fn states<C: ConnectionTrait>(db: &C) -> Result<BTreeMap<String, StateRow>, StoreError> {
    let sql = format!("SELECT {STATE} FROM signal_source_state ORDER BY name");
    let rows: Vec<StateRow> = query::all(db, sql, []).await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.name.clone(), row))
        .collect())
}

/// Reads how it stands with a source, and keeps others from changing it until the transaction ends.
pub async fn state_lock<C: ConnectionTrait>(
    db: &C,
    name: &str,
) -> Result<Option<StateRow>, StoreError> {
    let lock = query::for_update(db);
    let sql = format!("SELECT {STATE} FROM signal_source_state WHERE name = $1{lock}");
    query::one(db, sql, [name.into()]).await
}

/// Writes where the next question goes on, or what was asked; nothing else changes.
pub async fn progress_set<C: ConnectionTrait>(
    db: &C,
    name: &str,
    progress: &str,
) -> Result<(), StoreError> {
    let sql = "UPDATE signal_source_state SET progress = $2 WHERE name = $1";
    query::execute(db, sql, [name.into(), progress.into()]).await?;
    Ok(())
}

/// Keeps that sources were heard. A name that is no source is passed over.
pub async fn heard<C: ConnectionTrait>(
    db: &C,
    names: &[&str],
    now: Timestamp,
) -> Result<(), StoreError> {
    for part in query::parts(names) {
        let sql = format!(
            // The first word is written however soon it comes: until then it counts as heard when it was created.
            "UPDATE signal_source_state SET heard_at = $1 WHERE name IN ({}) AND (heard_at < $2 OR heard_at > $1 \
             OR heard_at = (SELECT created_at FROM signal_source AS source WHERE source.name = signal_source_state.name))",
            query::placeholders(3, part.len())
        );
        let mut values = vec![millis(now).into(), (millis(now) - HEARD_EVERY).into()];
        values.extend(part.iter().map(|name| sea_orm::Value::from(*name)));
        query::execute(db, sql, values).await?;
    }
    Ok(())
}

/// Writes why a source says that it sends nothing; `None`: it sends again, and was heard just now.
pub async fn stopped_set<C: ConnectionTrait>(
    db: &C,
    name: &str,
    why: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE signal_source_state SET stopped = $2, heard_at = $3 WHERE name = $1";
    let values = [
        name.into(),
        why.map(str::to_owned).into(),
        millis(now).into(),
    ];
    query::execute(db, sql, values).await?;
    Ok(())
}

/// Moves on when a source is asked next; says whether nobody else did. Whoever did asks.
pub async fn due_take<C: ConnectionTrait>(
    db: &C,
    row: &StateRow,
    next: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE signal_source_state SET due_at = $3 WHERE name = $1 AND due_at = $2";
    let values = [
        row.name.clone().into(),
        row.due_at.into(),
        millis(next).into(),
    ];
    Ok(query::execute(db, sql, values).await? == 1)
}

/// Writes when a source is asked next, if nobody has asked since.
pub async fn due_set<C: ConnectionTrait>(
    db: &C,
    name: &str,
    taken: Timestamp,
    next: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE signal_source_state SET due_at = $3 WHERE name = $1 AND due_at = $2";
    let values = [name.into(), millis(taken).into(), millis(next).into()];
    query::execute(db, sql, values).await?;
    Ok(())
}

/// Keeps that a source answered, and where the next question goes on.
pub async fn answered<C: ConnectionTrait>(
    db: &C,
    name: &str,
    progress: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE signal_source_state SET heard_at = $2, progress = $3, failures = 0, trouble = NULL WHERE name = $1";
    let values = [
        name.into(),
        millis(now).into(),
        progress.map(str::to_owned).into(),
    ];
    query::execute(db, sql, values).await?;
    Ok(())
}

/// Keeps that a source did not answer, or not with what can be read.
pub async fn unanswered<C: ConnectionTrait>(
    db: &C,
    name: &str,
    trouble: &str,
) -> Result<(), StoreError> {
    let sql =
        "UPDATE signal_source_state SET failures = failures + 1, trouble = $2 WHERE name = $1";
    query::execute(db, sql, [name.into(), trouble.into()]).await?;
    Ok(())
}

/// Writes that a source is blind, or is heard again; says whether it was not so before.
pub async fn blind_set<C: ConnectionTrait>(
    db: &C,
    name: &str,
    why: Option<&str>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = match why {
        Some(_) => {
            "UPDATE signal_source_state SET blind_since = $3, blind_why = $2 WHERE name = $1 AND blind_since IS NULL"
        }
        None => {
            "UPDATE signal_source_state SET blind_since = NULL, blind_why = $2, recovered_at = $3 \
             WHERE name = $1 AND blind_since IS NOT NULL"
        }
    };
    let values = [
        name.into(),
        why.map(str::to_owned).into(),
        millis(now).into(),
    ];
    Ok(query::execute(db, sql, values).await? == 1)
}

#[derive(Debug, FromQueryResult)]
struct Named {
    name: String,
}

/// Lists the sources that are in use and not blind.
pub async fn heard_names<C: ConnectionTrait>(db: &C) -> Result<BTreeSet<String>, StoreError> {
    let sql = "SELECT s.name FROM signal_source s JOIN signal_source_state t ON t.name = s.name \
               WHERE s.revoked_at IS NULL AND t.blind_since IS NULL";
    let rows: Vec<Named> = query::all(db, sql, []).await?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}
