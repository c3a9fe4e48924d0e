//! The processes that send: which epoch each has seen, and how much it has under way.

use sea_orm::{ConnectionTrait, FromQueryResult};
use tidegate_orchestrator::ids::{Epoch, Timestamp, WorkerId, millis};

use super::StoreError;
use super::query;

/// A process that sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRow {
    /// The worker.
    pub id: WorkerId,
    /// Where it runs.
    pub name: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When its permit was last renewed.
    pub seen_at: Timestamp,
    /// The epoch it has seen.
    pub epoch: Epoch,
    /// How many sends it has under way.
    pub in_flight: u64,
}

#[derive(Debug, FromQueryResult)]
struct RawWorker {
    id: String,
    name: String,
    started_at: i64,
    seen_at: i64,
    epoch: i64,
    in_flight: i64,
}

/// Says that a worker is alive, which epoch it has seen, and what it has under way.
pub async fn worker_put<C: ConnectionTrait>(db: &C, row: &WorkerRow) -> Result<(), StoreError> {
    query::execute(
        db,
        "INSERT INTO worker (id, name, started_at, seen_at, epoch, in_flight) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) \
         DO UPDATE SET seen_at = $4, epoch = $5, in_flight = $6",
        [
            row.id.to_string().into(),
            row.name.clone().into(),
            millis(row.started_at).into(),
            millis(row.seen_at).into(),
            row.epoch.get().into(),
            query::signed(row.in_flight)?.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Reads the workers that were heard at or after an instant.
pub async fn workers_seen<C: ConnectionTrait>(
    db: &C,
    since: Timestamp,
) -> Result<Vec<WorkerRow>, StoreError> {
    let sql = "SELECT id, name, started_at, seen_at, epoch, in_flight FROM worker \
               WHERE seen_at >= $1 ORDER BY name, id";
    let raws: Vec<RawWorker> = query::all(db, sql, [millis(since).into()]).await?;
    raws.into_iter()
        .map(|raw| {
            Ok(WorkerRow {
                id: query::id(&raw.id)?,
                name: raw.name,
                started_at: query::instant(raw.started_at)?,
                seen_at: query::instant(raw.seen_at)?,
                epoch: Epoch::new(raw.epoch),
                in_flight: query::unsigned64(raw.in_flight)?,
            })
        })
        .collect()
}

/// Forgets a worker that has ended: it sends no more.
pub async fn worker_end<C: ConnectionTrait>(db: &C, id: WorkerId) -> Result<(), StoreError> {
    query::execute(
        db,
        "DELETE FROM worker WHERE id = $1",
        [id.to_string().into()],
    )
    .await?;
    Ok(())
}

/// Forgets workers that were last heard before an instant.
pub async fn workers_forget<C: ConnectionTrait>(
    db: &C,
    before: Timestamp,
) -> Result<u64, StoreError> {
    query::execute(
        db,
        "DELETE FROM worker WHERE seen_at < $1",
        [millis(before).into()],
    )
    .await
}
