//! Targets: where people are moved to, how fast, and whether they asked to be left alone.

use sea_orm::{ConnectionTrait, FromQueryResult};
use tidegate_orchestrator::ids::{Generation, TargetId, Timestamp, millis};

use super::{StoreError, query};

/// A target as it is stored.
#[derive(Debug, Clone)]
pub struct TargetRow {
    /// Its id.
    pub id: TargetId,
    /// Its name.
    pub name: String,
    /// sandbox or scim.
    pub connector: String,
    /// The connector's settings, as JSON; credentials by reference only.
    pub config: String,
    /// What a check found it can do, as JSON.
    pub capability: Option<String>,
    /// When it was last checked.
    pub checked_at: Option<Timestamp>,
    /// Nobody claims for it before this instant.
    pub closed_until: Timestamp,
    /// Grows with every change.
    pub generation: Generation,
    /// When it was created.
    pub created_at: Timestamp,
}

#[derive(Debug, FromQueryResult)]
struct RawTarget {
    id: String,
    name: String,
    connector: String,
    config: String,
    capability: Option<String>,
    checked_at: Option<i64>,
    closed_until: i64,
    generation: i64,
    created_at: i64,
}

const COLUMNS: &str =
    "id, name, connector, config, capability, checked_at, closed_until, generation, created_at";

fn target(raw: RawTarget) -> Result<TargetRow, StoreError> {
    Ok(TargetRow {
        id: query::id(&raw.id)?,
        name: raw.name,
        connector: raw.connector,
        config: raw.config,
        capability: raw.capability,
        checked_at: raw.checked_at.map(query::instant).transpose()?,
        closed_until: query::instant(raw.closed_until)?,
        generation: Generation(raw.generation),
        created_at: query::instant(raw.created_at)?,
    })
}

/// Writes a new target.
pub async fn target_insert<C: ConnectionTrait>(db: &C, row: &TargetRow) -> Result<(), StoreError> {
    query::execute(
        db,
        "INSERT INTO target (id, name, connector, config, capability, checked_at, rate_tat_us, closed_until, generation, \
         created_at) VALUES ($1, $2, $3, $4, NULL, NULL, 0, 0, $5, $6)",
        [
            row.id.to_string().into(),
            row.name.clone().into(),
            row.connector.clone().into(),
            row.config.clone().into(),
            row.generation.get().into(),
            millis(row.created_at).into(),
        ],
    )
    .await?;
    Ok(())
}

/// Finds a target by its id or its name.
pub async fn target_find<C: ConnectionTrait>(
    db: &C,
    name: &str,
) -> Result<Option<TargetRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM target WHERE id = $1 OR name = $2");
    let found: Option<RawTarget> =
        query::one(db, sql, [name.to_lowercase().into(), name.into()]).await?;
    found.map(target).transpose()
}

/// Returns a target.
pub async fn target_load<C: ConnectionTrait>(
    db: &C,
    id: TargetId,
) -> Result<TargetRow, StoreError> {
    target_find(db, &id.to_string())
        .await?
        .ok_or(StoreError::NotFound)
}

/// Lists targets by name, after one.
pub async fn targets_page<C: ConnectionTrait>(
    db: &C,
    after: &str,
    limit: usize,
) -> Result<Vec<TargetRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM target WHERE name > $1 ORDER BY name LIMIT $2");
    let rows: Vec<RawTarget> =
        query::all(db, sql, [after.into(), query::signed(limit)?.into()]).await?;
    rows.into_iter().map(target).collect()
}

/// Changes the settings, if the target is still of the generation named.
pub async fn target_configure<C: ConnectionTrait>(
    db: &C,
    id: TargetId,
    generation: Generation,
    connector: &str,
    config: &str,
) -> Result<(), StoreError> {
    let changed = query::execute(
        db,
        "UPDATE target SET connector = $1, config = $2, capability = NULL, checked_at = NULL, generation = generation + 1 \
         WHERE id = $3 AND generation = $4",
        [connector.into(), config.into(), id.to_string().into(), generation.get().into()],
    )
    .await?;
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}

/// Remembers what a check found.
pub async fn target_checked<C: ConnectionTrait>(
    db: &C,
    id: TargetId,
    capability: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    query::execute(
        db,
        "UPDATE target SET capability = $1, checked_at = $2 WHERE id = $3",
        [capability.into(), millis(at).into(), id.to_string().into()],
    )
    .await?;
    Ok(())
}

/// Whether somebody may claim for a target now.
#[derive(Debug, Clone, Copy)]
pub struct TargetDoor {
    /// Nobody before this instant.
    pub closed_until: Timestamp,
    /// The theoretical arrival time of the next person, in microseconds since 1970.
    pub rate_tat_us: i64,
}

#[derive(Debug, FromQueryResult)]
struct RawDoor {
    closed_until: i64,
    rate_tat_us: i64,
}

/// Reads the door of a target, and locks it when its rate will be moved.
pub async fn target_door<C: ConnectionTrait>(
    db: &C,
    id: TargetId,
    is_paced: bool,
) -> Result<TargetDoor, StoreError> {
    let lock = if is_paced { query::for_update(db) } else { "" };
    let sql = format!("SELECT closed_until, rate_tat_us FROM target WHERE id = $1{lock}");
    let door: Option<RawDoor> = query::one(db, sql, [id.to_string().into()]).await?;
    let door = door.ok_or(StoreError::NotFound)?;
    Ok(TargetDoor {
        closed_until: query::instant(door.closed_until)?,
        rate_tat_us: door.rate_tat_us,
    })
}

/// Moves the theoretical arrival time.
pub async fn target_rate_set<C: ConnectionTrait>(
    db: &C,
    id: TargetId,
    tat_us: i64,
) -> Result<(), StoreError> {
    query::execute(
        db,
        "UPDATE target SET rate_tat_us = $1 WHERE id = $2",
        [tat_us.into(), id.to_string().into()],
    )
    .await?;
    Ok(())
}

/// Closes a target until an instant; never opens it earlier than somebody else has said.
pub async fn target_close<C: ConnectionTrait>(
    db: &C,
    id: TargetId,
    until: Timestamp,
) -> Result<(), StoreError> {
    query::execute(
        db,
        "UPDATE target SET closed_until = $1 WHERE id = $2 AND closed_until < $1",
        [millis(until).into(), id.to_string().into()],
    )
    .await?;
    Ok(())
}
