//! The processes that send: which epochs each has seen, and how much it has under way.

use sea_orm::{ConnectionTrait, FromQueryResult};
use serde::Serialize;
use tidegate_orchestrator::ids::{Epoch, Timestamp, WorkerId, millis};
use tidegate_orchestrator::quiesce::WorkerSaid;

use super::query;
use super::{Lane, Store, StoreError, transact};

#[derive(Debug, FromQueryResult)]
struct RawWorker {
    id: String,
    name: String,
    seen_at: i64,
    epoch: i64,
    in_flight: i64,
    held: Option<String>,
    epochs: Option<String>,
    request_ms: Option<i64>,
    ended_at: Option<i64>,
}

impl RawWorker {
    /// What cannot be read counts as not said: a halt must be answered whatever a row holds.
    fn said(self) -> Result<WorkerSaid, StoreError> {
        let read = |text: Option<&String>| text.and_then(|text| serde_json::from_str(text).ok());
        let epochs = self.epochs.as_ref();
        Ok(WorkerSaid {
            id: query::id(&self.id)?,
            name: self.name,
            seen_at: query::instant(self.seen_at)?,
            epoch: Epoch::new(self.epoch),
            epochs: epochs
                .and_then(|text| serde_json::from_str(text).ok())
                .unwrap_or_default(),
            in_flight: query::unsigned64(self.in_flight)?,
            held: read(self.held.as_ref()),
            request_millis: self
                .request_ms
                .and_then(|millis| u32::try_from(millis).ok()),
            has_ended: self.ended_at.is_some(),
        })
    }
}

fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(StoreError::corrupt)
}

impl Store {
    /// Writes what a worker says of itself, and has it committed.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    pub async fn worker_say(
        &self,
        said: &WorkerSaid,
        started_at: Timestamp,
    ) -> Result<(), StoreError> {
        if self.is_postgres() {
            // A stop waits for it. One statement is a transaction of its own and a single round trip, on the
            // connections that nobody else fills.
            return worker_put(&self.0.pools.for_holds, said, started_at).await;
        }
        transact!(self, Lane::Ordinary, "worker_put", |txn| {
            worker_put(txn, said, started_at).await
        })
    }
}

/// Writes what a worker says of itself. A word that was given up on its way and arrives late takes nothing
/// back: neither an epoch that was seen since, nor how long requests may take.
pub async fn worker_put<C: ConnectionTrait>(
    db: &C,
    said: &WorkerSaid,
    started_at: Timestamp,
) -> Result<(), StoreError> {
    query::execute(
        db,
        "INSERT INTO worker (id, name, started_at, seen_at, epoch, in_flight, held, epochs, request_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) \
         DO UPDATE SET seen_at = $4, epoch = $5, in_flight = $6, held = $7, epochs = $8, request_ms = $9 \
         WHERE worker.epoch <= excluded.epoch \
         AND COALESCE(worker.request_ms, 0) <= COALESCE(excluded.request_ms, 0)",
        [
            said.id.to_string().into(),
            said.name.clone().into(),
            millis(started_at).into(),
            millis(said.seen_at).into(),
            said.epoch.get().into(),
            query::signed(said.in_flight)?.into(),
            said.held.as_ref().map(json).transpose()?.into(),
            json(&said.epochs)?.into(),
            said.request_millis.map(i64::from).into(),
        ],
    )
    .await?;
    Ok(())
}

/// Reads what every worker that is remembered has said.
pub async fn workers_said<C: ConnectionTrait>(db: &C) -> Result<Vec<WorkerSaid>, StoreError> {
    let sql = "SELECT id, name, seen_at, epoch, in_flight, held, epochs, request_ms, ended_at \
               FROM worker ORDER BY name, id";
    let raws: Vec<RawWorker> = query::all(db, sql, []).await?;
    raws.into_iter().map(RawWorker::said).collect()
}

/// Notes that a worker has ended: it sends no more.
pub async fn worker_end<C: ConnectionTrait>(
    db: &C,
    id: WorkerId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE worker SET ended_at = $2, in_flight = 0 WHERE id = $1";
    query::execute(db, sql, [id.to_string().into(), millis(now).into()]).await?;
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

/// Forgets every worker: whoever calls this is alone.
pub async fn workers_clear<C: ConnectionTrait>(db: &C) -> Result<u64, StoreError> {
    query::execute(db, "DELETE FROM worker", []).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::each_app;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_word_that_arrives_late_takes_nothing_back() {
        each_app!(app => {
            let time = app.store.time().await.unwrap();
            let word = |epoch, request_millis| WorkerSaid {
                epoch: Epoch::new(epoch),
                request_millis: Some(request_millis),
                ..app.permit.says(&app, time)
            };
            for said in [word(5, 30), word(4, 30), word(5, 0), word(6, 40)] {
                app.store.worker_say(&said, time.at()).await.unwrap();
                let known = workers_said(app.store.read()).await.unwrap();
                let expected = if said.epoch.get() == 6 { (6, Some(40)) } else { (5, Some(30)) };
                assert_eq!((known[0].epoch.get(), known[0].request_millis), expected);
            }
        });
    }
}
