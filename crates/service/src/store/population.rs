//! Populations and their immutable versions: staged block by block, then published at once.

use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Value};
use tidegate_orchestrator::ids::{
    Generation, ImportId, PopulationId, PopulationVersionId, Timestamp, millis,
};

use super::{StoreError, query};

/// How many texts of a dictionary go into one row.
const DICTIONARY_CHUNK: usize = 8192;

/// A population.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PopulationRow {
    /// Its id.
    pub id: PopulationId,
    /// Its name.
    pub name: String,
    /// Which column means what, as JSON.
    pub mapping: String,
    /// The version that counts, once there is one.
    pub current_version: Option<PopulationVersionId>,
    /// Grows with every change.
    pub generation: Generation,
    /// When it was created.
    pub created_at: Timestamp,
}

/// A version of a population.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRow {
    /// Its id.
    pub id: PopulationVersionId,
    /// The population.
    pub population: PopulationId,
    /// Its place among the versions, from 1.
    pub number: i64,
    /// staging or published.
    pub status: String,
    /// How many members.
    pub members: u64,
    /// What the bytes of the file are known by.
    pub source_digest: Option<String>,
    /// What the content is known by.
    pub content_digest: Option<String>,
    /// The columns, as JSON.
    pub columns: String,
    /// When it was published.
    pub published_at: Option<Timestamp>,
}

/// An import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRow {
    /// Its id.
    pub id: ImportId,
    /// The population.
    pub population: PopulationId,
    /// The version it made.
    pub version: Option<PopulationVersionId>,
    /// receiving, published, unchanged, refused or lost.
    pub status: String,
    /// Everything else, as JSON.
    pub report: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

#[derive(Debug, FromQueryResult)]
struct RawPopulation {
    id: String,
    name: String,
    mapping: String,
    current_version_id: Option<String>,
    generation: i64,
    created_at: i64,
}

#[derive(Debug, FromQueryResult)]
struct RawVersion {
    id: String,
    population_id: String,
    number: i64,
    status: String,
    member_count: i64,
    source_digest: Option<String>,
    content_digest: Option<String>,
    columns: String,
    published_at: Option<i64>,
}

#[derive(Debug, FromQueryResult)]
struct RawImport {
    id: String,
    population_id: String,
    version_id: Option<String>,
    status: String,
    report: String,
    started_at: i64,
    finished_at: Option<i64>,
}

#[derive(Debug, FromQueryResult)]
struct RawBody {
    number: i64,
    body: Vec<u8>,
}

const POPULATION: &str =
    "SELECT id, name, mapping, current_version_id, generation, created_at FROM population";
const VERSION: &str = "SELECT id, population_id, number, status, member_count, source_digest, content_digest, columns, \
                       published_at FROM population_version";
const IMPORT: &str = "SELECT id, population_id, version_id, status, report, started_at, finished_at FROM population_import";

fn population(raw: RawPopulation) -> Result<PopulationRow, StoreError> {
    Ok(PopulationRow {
        id: query::id(&raw.id)?,
        name: raw.name,
        mapping: raw.mapping,
        current_version: raw
            .current_version_id
            .as_deref()
            .map(query::id)
            .transpose()?,
        generation: Generation(raw.generation),
        created_at: query::instant(raw.created_at)?,
    })
}

fn version(raw: RawVersion) -> Result<VersionRow, StoreError> {
    Ok(VersionRow {
        id: query::id(&raw.id)?,
        population: query::id(&raw.population_id)?,
        number: raw.number,
        status: raw.status,
        members: query::unsigned64(raw.member_count)?,
        source_digest: raw.source_digest,
        content_digest: raw.content_digest,
        columns: raw.columns,
        published_at: raw.published_at.map(query::instant).transpose()?,
    })
}

fn import(raw: RawImport) -> Result<ImportRow, StoreError> {
    Ok(ImportRow {
        id: query::id(&raw.id)?,
        population: query::id(&raw.population_id)?,
        version: raw.version_id.as_deref().map(query::id).transpose()?,
        status: raw.status,
        report: raw.report,
        started_at: query::instant(raw.started_at)?,
        finished_at: raw.finished_at.map(query::instant).transpose()?,
    })
}

/// Writes a new population.
pub async fn population_insert<C: ConnectionTrait>(
    db: &C,
    row: &PopulationRow,
) -> Result<(), StoreError> {
    query::execute(
        db,
        "INSERT INTO population (id, name, mapping, current_version_id, generation, created_at) \
         VALUES ($1, $2, $3, NULL, $4, $5)",
        [
            row.id.to_string().into(),
            row.name.clone().into(),
            row.mapping.clone().into(),
            row.generation.get().into(),
            millis(row.created_at).into(),
        ],
    )
    .await?;
    Ok(())
}

/// Finds a population by its id or its name.
pub async fn population_find<C: ConnectionTrait>(
    db: &C,
    name: &str,
) -> Result<Option<PopulationRow>, StoreError> {
    let sql = format!("{POPULATION} WHERE id = $1 OR name = $2");
    let found: Option<RawPopulation> =
        query::one(db, sql, [name.to_lowercase().into(), name.into()]).await?;
    found.map(population).transpose()
}

/// Lists populations by name, after one.
pub async fn populations_page<C: ConnectionTrait>(
    db: &C,
    after: &str,
    limit: usize,
) -> Result<Vec<PopulationRow>, StoreError> {
    let sql = format!("{POPULATION} WHERE name > $1 ORDER BY name LIMIT $2");
    let rows: Vec<RawPopulation> =
        query::all(db, sql, [after.into(), query::signed(limit)?.into()]).await?;
    rows.into_iter().map(population).collect()
}

/// Changes the mapping, if the population is still of the generation named.
pub async fn population_map<C: ConnectionTrait>(
    db: &C,
    id: PopulationId,
    generation: Generation,
    mapping: &str,
) -> Result<(), StoreError> {
    let changed = query::execute(
        db,
        "UPDATE population SET mapping = $1, generation = generation + 1 WHERE id = $2 AND generation = $3",
        [mapping.into(), id.to_string().into(), generation.get().into()],
    )
    .await?;
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}

/// Returns a version.
pub async fn version_load<C: ConnectionTrait>(
    db: &C,
    id: PopulationVersionId,
) -> Result<VersionRow, StoreError> {
    let found: Option<RawVersion> = query::one(
        db,
        format!("{VERSION} WHERE id = $1"),
        [id.to_string().into()],
    )
    .await?;
    found.map(version).transpose()?.ok_or(StoreError::NotFound)
}

/// Returns when a version was last said to be how things are: published, or imported again unchanged.
pub async fn version_confirmed_at<C: ConnectionTrait>(
    db: &C,
    id: PopulationVersionId,
) -> Result<Option<Timestamp>, StoreError> {
    let sql = "SELECT MAX(finished_at) AS number FROM population_import \
               WHERE version_id = $1 AND status IN ('published', 'unchanged')";
    let row: Option<query::MaybeNumber> = query::one(db, sql, [id.to_string().into()]).await?;
    let confirmed = row.and_then(|row| row.number);
    confirmed.map(query::instant).transpose()
}

/// Begins a version that nobody sees yet.
pub async fn version_stage<C: ConnectionTrait>(
    db: &C,
    id: PopulationVersionId,
    population: PopulationId,
    now: Timestamp,
) -> Result<(), StoreError> {
    query::execute(
        db,
        "INSERT INTO population_version (id, population_id, number, status, member_count, columns, created_at) \
         VALUES ($1, $2, 0, 'staging', 0, '[]', $3)",
        [id.to_string().into(), population.to_string().into(), millis(now).into()],
    )
    .await?;
    Ok(())
}

/// Makes a staged version the one that counts, in the place of `current`; a conflict when another one
/// has taken its place.
pub async fn version_publish<C: ConnectionTrait>(
    db: &C,
    row: &VersionRow,
    current: Option<PopulationVersionId>,
    now: Timestamp,
) -> Result<i64, StoreError> {
    // First, because it locks the population: two that publish at once come one after the other.
    let placed = query::execute(
        db,
        "UPDATE population SET current_version_id = $1, generation = generation + 1 \
         WHERE id = $2 AND COALESCE(current_version_id, '') = $3",
        [
            row.id.to_string().into(),
            row.population.to_string().into(),
            current.map(|id| id.to_string()).unwrap_or_default().into(),
        ],
    )
    .await?;
    if placed != 1 {
        return Err(StoreError::Conflict);
    }
    let next = "SELECT COALESCE(MAX(number), 0) + 1 AS number FROM population_version WHERE population_id = $1 AND status = 'published'";
    let next: Option<query::Number> =
        query::one(db, next, [row.population.to_string().into()]).await?;
    let number = next.map_or(1, |row| row.number);
    let values: [Value; 7] = [
        number.into(),
        query::signed(row.members)?.into(),
        row.source_digest.clone().into(),
        row.content_digest.clone().into(),
        row.columns.clone().into(),
        millis(now).into(),
        row.id.to_string().into(),
    ];
    let published = query::execute(
        db,
        "UPDATE population_version SET status = 'published', number = $1, member_count = $2, source_digest = $3, \
         content_digest = $4, columns = $5, published_at = $6 WHERE id = $7 AND status = 'staging'",
        values,
    )
    .await?;
    if published != 1 {
        // Its process was taken for gone, and its rows were swept away.
        return Err(StoreError::NotFound);
    }
    Ok(number)
}

/// Makes a staged version one that a rollout may refer to, and that is nobody's current one.
pub async fn version_derive<C: ConnectionTrait>(
    db: &C,
    row: &VersionRow,
    now: Timestamp,
) -> Result<(), StoreError> {
    let values: [Value; 6] = [
        row.number.into(),
        query::signed(row.members)?.into(),
        row.content_digest.clone().into(),
        row.columns.clone().into(),
        millis(now).into(),
        row.id.to_string().into(),
    ];
    let derived = query::execute(
        db,
        "UPDATE population_version SET status = 'derived', number = $1, member_count = $2, content_digest = $3, \
         columns = $4, published_at = $5 WHERE id = $6 AND status = 'staging'",
        values,
    )
    .await?;
    if derived == 1 {
        Ok(())
    } else {
        Err(StoreError::NotFound)
    }
}

/// Throws a staged version away. One that was published meanwhile stays as it is.
pub async fn version_discard<C: ConnectionTrait>(
    db: &C,
    id: PopulationVersionId,
) -> Result<(), StoreError> {
    let staged = "DELETE FROM population_version WHERE id = $1 AND status = 'staging'";
    query::execute(db, staged, [id.to_string().into()]).await?;
    let left = "SELECT COUNT(*) AS number FROM population_version WHERE id = $1";
    let left: Option<query::Number> = query::one(db, left, [id.to_string().into()]).await?;
    if left.is_some_and(|left| left.number > 0) {
        return Ok(());
    }
    for table in [
        "population_block",
        "population_dictionary",
        "population_key",
    ] {
        let sql = format!("DELETE FROM {table} WHERE version_id = $1");
        query::execute(db, sql, [id.to_string().into()]).await?;
    }
    Ok(())
}

/// Returns the versions that nobody sees yet.
#[cfg(test)]
pub async fn versions_staged<C: ConnectionTrait>(
    db: &C,
) -> Result<Vec<PopulationVersionId>, StoreError> {
    let rows: Vec<RawVersion> =
        query::all(db, format!("{VERSION} WHERE status = 'staging'"), []).await?;
    rows.iter().map(|raw| query::id(&raw.id)).collect()
}

/// The class of advisory locks of versions that are being written. "impo" in ASCII.
const WRITING: i32 = 0x696d_706f;

/// Marks a version as being written until the transaction ends, which it does with its process; says no
/// when another transaction has marked it. On SQLite there is no other process.
pub async fn version_guard<C: ConnectionTrait>(
    db: &C,
    version: PopulationVersionId,
) -> Result<bool, StoreError> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(true);
    }
    // It waits for as long as the file takes to come, and has nothing locked that anybody waits for.
    let silent = query::client_silent(0);
    let sql = format!(
        "SELECT CAST(CAST(pg_try_advisory_xact_lock($1, hashtext($2)) AS INT) AS BIGINT) AS number, {silent}"
    );
    let values = [WRITING.into(), version.to_string().into()];
    let row: Option<query::Number> = query::one(db, sql, values).await?;
    Ok(row.is_some_and(|row| row.number == 1))
}

/// Writes blocks of members.
pub async fn blocks_insert<C: ConnectionTrait>(
    db: &C,
    version: PopulationVersionId,
    blocks: &[(u32, Vec<u8>)],
) -> Result<(), StoreError> {
    bodies_insert(db, "population_block", "block_no", version, blocks).await
}

/// Writes parts of the index of directory ids.
pub async fn keys_insert<C: ConnectionTrait>(
    db: &C,
    version: PopulationVersionId,
    buckets: &[(u32, Vec<u8>)],
) -> Result<(), StoreError> {
    bodies_insert(db, "population_key", "bucket_no", version, buckets).await
}

async fn bodies_insert<C: ConnectionTrait>(
    db: &C,
    table: &str,
    number: &str,
    version: PopulationVersionId,
    bodies: &[(u32, Vec<u8>)],
) -> Result<(), StoreError> {
    for part in query::parts(bodies) {
        let sql = format!(
            "INSERT INTO {table} (version_id, {number}, body) VALUES {}",
            query::rows_for(part.len(), 3)
        );
        let values = part.iter().flat_map(|(number, body)| {
            [
                Value::from(version.to_string()),
                i64::from(*number).into(),
                body.clone().into(),
            ]
        });
        query::execute(db, sql, values.collect::<Vec<_>>()).await?;
    }
    Ok(())
}

/// Writes the dictionary of an attribute, in chunks.
pub async fn dictionary_insert<C: ConnectionTrait>(
    db: &C,
    version: PopulationVersionId,
    attribute: &str,
    values: &[String],
) -> Result<(), StoreError> {
    for (chunk, part) in values.chunks(DICTIONARY_CHUNK).enumerate() {
        let body = crate::source::block::encode_texts(part.iter().map(String::as_str));
        query::execute(
            db,
            "INSERT INTO population_dictionary (version_id, attribute, chunk_no, body) VALUES ($1, $2, $3, $4)",
            [version.to_string().into(), attribute.into(), query::signed(chunk)?.into(), body.into()],
        )
        .await?;
    }
    Ok(())
}

/// Reads the dictionary of an attribute.
pub async fn dictionary_load<C: ConnectionTrait>(
    db: &C,
    version: PopulationVersionId,
    attribute: &str,
) -> Result<Vec<String>, StoreError> {
    let rows: Vec<RawBody> = query::all(
        db,
        "SELECT chunk_no AS number, body FROM population_dictionary WHERE version_id = $1 AND attribute = $2 ORDER BY chunk_no",
        [version.to_string().into(), attribute.into()],
    )
    .await?;
    let mut values = Vec::new();
    for row in rows {
        values.extend(crate::source::block::decode_texts(&row.body).map_err(StoreError::corrupt)?);
    }
    Ok(values)
}

/// Reads blocks `from..until` in order, as bytes.
pub async fn blocks_load<C: ConnectionTrait>(
    db: &C,
    version: PopulationVersionId,
    from: u32,
    until: u32,
) -> Result<Vec<(u32, Vec<u8>)>, StoreError> {
    let rows: Vec<RawBody> = query::all(
        db,
        "SELECT block_no AS number, body FROM population_block WHERE version_id = $1 AND block_no >= $2 AND block_no < $3 \
         ORDER BY block_no",
        [version.to_string().into(), i64::from(from).into(), i64::from(until).into()],
    )
    .await?;
    rows.into_iter()
        .map(|row| Ok((query::unsigned(row.number)?, row.body)))
        .collect()
}

/// Reads one part of the index of directory ids.
pub async fn key_bucket<C: ConnectionTrait>(
    db: &C,
    version: PopulationVersionId,
    bucket: u32,
) -> Result<Option<Vec<u8>>, StoreError> {
    let row: Option<RawBody> = query::one(
        db,
        "SELECT bucket_no AS number, body FROM population_key WHERE version_id = $1 AND bucket_no = $2",
        [version.to_string().into(), i64::from(bucket).into()],
    )
    .await?;
    Ok(row.map(|row| row.body))
}

/// Writes how an import stands.
pub async fn import_put<C: ConnectionTrait>(db: &C, row: &ImportRow) -> Result<(), StoreError> {
    query::execute(
        db,
        "INSERT INTO population_import (id, population_id, version_id, status, report, started_at, finished_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO UPDATE SET version_id = excluded.version_id, \
         status = excluded.status, report = excluded.report, finished_at = excluded.finished_at",
        [
            row.id.to_string().into(),
            row.population.to_string().into(),
            row.version.map(|version| version.to_string()).into(),
            row.status.clone().into(),
            row.report.clone().into(),
            millis(row.started_at).into(),
            row.finished_at.map(millis).into(),
        ],
    )
    .await?;
    Ok(())
}

/// Returns an import.
pub async fn import_load<C: ConnectionTrait>(
    db: &C,
    id: ImportId,
) -> Result<Option<ImportRow>, StoreError> {
    let found: Option<RawImport> = query::one(
        db,
        format!("{IMPORT} WHERE id = $1"),
        [id.to_string().into()],
    )
    .await?;
    found.map(import).transpose()
}

/// Reads the imports that have not ended.
pub async fn imports_receiving<C: ConnectionTrait>(db: &C) -> Result<Vec<ImportRow>, StoreError> {
    let sql = format!("{IMPORT} WHERE status = 'receiving' ORDER BY started_at, id");
    let found: Vec<RawImport> = query::all(db, sql, []).await?;
    found.into_iter().map(import).collect()
}
