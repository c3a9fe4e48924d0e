//! Measurements of drift: who changed, and what becomes of their slots once the rollout goes on.

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use tidegate_orchestrator::ids::{
    BatchSeq, DriftId, PlanId, PopulationVersionId, RolloutId, Timestamp, WaveNumber, millis,
};

use super::StoreError;
use super::query;

/// A measurement as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftRow {
    /// Its id.
    pub id: DriftId,
    /// The rollout.
    pub rollout: RolloutId,
    /// proposed, applied, or replaced by a later one.
    pub status: String,
    /// The version the people of then are in.
    pub from: PopulationVersionId,
    /// The version the people of now were imported as.
    pub to: PopulationVersionId,
    /// The plan for the people of now.
    pub plan: PlanId,
    /// What it is known by.
    pub digest: String,
    /// What it was measured on; when that differs, it is stale.
    pub basis: String,
    /// The report, as JSON.
    pub report: String,
    /// When it was measured.
    pub created_at: Timestamp,
}

#[derive(Debug, FromQueryResult)]
struct RawDrift {
    id: String,
    rollout_id: String,
    status: String,
    from_version_id: String,
    to_version_id: String,
    plan_id: String,
    digest: String,
    basis: String,
    report: String,
    created_at: i64,
}

impl TryFrom<RawDrift> for DriftRow {
    type Error = StoreError;

    fn try_from(raw: RawDrift) -> Result<Self, StoreError> {
        Ok(Self {
            id: query::id(&raw.id)?,
            rollout: query::id(&raw.rollout_id)?,
            status: raw.status,
            from: query::id(&raw.from_version_id)?,
            to: query::id(&raw.to_version_id)?,
            plan: query::id(&raw.plan_id)?,
            digest: raw.digest,
            basis: raw.basis,
            report: raw.report,
            created_at: query::instant(raw.created_at)?,
        })
    }
}

const COLUMNS: &str = "id, rollout_id, status, from_version_id, to_version_id, plan_id, digest, basis, report, created_at";

/// Reads the newest measurement of a rollout with this status.
pub async fn drift_newest<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    status: &str,
) -> Result<Option<DriftRow>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM drift WHERE rollout_id = $1 AND status = $2 ORDER BY created_at DESC, id DESC LIMIT 1"
    );
    let values = [rollout.to_string().into(), status.into()];
    let raw: Option<RawDrift> = query::one(db, sql, values).await?;
    raw.map(DriftRow::try_from).transpose()
}

/// Reads the measurement that a plan comes from, if it comes from one.
pub async fn drift_of_plan<C: ConnectionTrait>(
    db: &C,
    plan: PlanId,
) -> Result<Option<DriftRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM drift WHERE plan_id = $1");
    let raw: Option<RawDrift> = query::one(db, sql, [plan.to_string().into()]).await?;
    raw.map(DriftRow::try_from).transpose()
}

/// Writes a measurement whose people and batches are all there.
pub async fn drift_insert<C: ConnectionTrait>(db: &C, row: &DriftRow) -> Result<(), StoreError> {
    let values: [Value; 10] = [
        row.id.to_string().into(),
        row.rollout.to_string().into(),
        row.status.clone().into(),
        row.from.to_string().into(),
        row.to.to_string().into(),
        row.plan.to_string().into(),
        row.digest.clone().into(),
        row.basis.clone().into(),
        row.report.clone().into(),
        millis(row.created_at).into(),
    ];
    let sql = format!(
        "INSERT INTO drift ({COLUMNS}) VALUES ({})",
        query::placeholders(1, 10)
    );
    query::execute(db, sql, values).await?;
    Ok(())
}

/// Says what has become of a measurement.
pub async fn drift_status_set<C: ConnectionTrait>(
    db: &C,
    id: DriftId,
    status: &str,
) -> Result<(), StoreError> {
    let sql = "UPDATE drift SET status = $2 WHERE id = $1";
    query::execute(db, sql, [id.to_string().into(), status.into()]).await?;
    Ok(())
}

/// Throws away what a measurement that was replaced would have done, with the people of its plan.
pub async fn drift_clear<C: ConnectionTrait>(
    db: &C,
    id: DriftId,
    plan: PlanId,
    derived: PopulationVersionId,
) -> Result<(), StoreError> {
    for table in ["drift_batch", "drift_people"] {
        let sql = format!("DELETE FROM {table} WHERE drift_id = $1");
        query::execute(db, sql, [id.to_string().into()]).await?;
    }
    let sql = "DELETE FROM plan_roster WHERE plan_id = $1";
    query::execute(db, sql, [plan.to_string().into()]).await?;
    let version =
        "DELETE FROM population_version WHERE id = $1 AND status IN ('derived', 'staging')";
    if query::execute(db, version, [derived.to_string().into()]).await? == 1 {
        for table in [
            "population_block",
            "population_dictionary",
            "population_key",
        ] {
            let sql = format!("DELETE FROM {table} WHERE version_id = $1");
            query::execute(db, sql, [derived.to_string().into()]).await?;
        }
    }
    Ok(())
}

/// Writes who is in a class, from a chunk on.
pub async fn drift_people_insert<C: ConnectionTrait>(
    db: &C,
    id: DriftId,
    class: &str,
    chunks: &[(u32, Vec<u8>)],
) -> Result<(), StoreError> {
    for part in query::parts(chunks) {
        let mut values: Vec<Value> = Vec::with_capacity(part.len() * 4);
        for (number, body) in part {
            values.push(id.to_string().into());
            values.push(class.into());
            values.push(i64::from(*number).into());
            values.push(body.clone().into());
        }
        let sql = format!(
            "INSERT INTO drift_people (drift_id, class, chunk_no, body) VALUES {}",
            query::rows_for(part.len(), 4)
        );
        query::execute(db, sql, values).await?;
    }
    Ok(())
}

#[derive(Debug, FromQueryResult)]
struct RawBody {
    body: Vec<u8>,
}

/// Reads one chunk of a class.
pub async fn drift_people_chunk<C: ConnectionTrait>(
    db: &C,
    id: DriftId,
    class: &str,
    chunk: u32,
) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT body FROM drift_people WHERE drift_id = $1 AND class = $2 AND chunk_no = $3";
    let values = [id.to_string().into(), class.into(), i64::from(chunk).into()];
    let raw: Option<RawBody> = query::one(db, sql, values).await?;
    Ok(raw.map(|raw| raw.body))
}

/// What becomes of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftBatchRow {
    /// The wave.
    pub wave: WaveNumber,
    /// The batch.
    pub seq: BatchSeq,
    /// The changes, packed.
    pub body: Vec<u8>,
}

#[derive(Debug, FromQueryResult)]
struct RawBatch {
    seq: i64,
    body: Vec<u8>,
}

/// Writes what becomes of batches.
pub async fn drift_batches_insert<C: ConnectionTrait>(
    db: &C,
    id: DriftId,
    rows: &[DriftBatchRow],
) -> Result<(), StoreError> {
    for part in query::parts(rows) {
        let mut values: Vec<Value> = Vec::with_capacity(part.len() * 4);
        for row in part {
            values.push(id.to_string().into());
            values.push(i64::from(row.wave.get()).into());
            values.push(i64::from(row.seq.get()).into());
            values.push(row.body.clone().into());
        }
        let sql = format!(
            "INSERT INTO drift_batch (drift_id, wave_no, seq, body) VALUES {}",
            query::rows_for(part.len(), 4)
        );
        query::execute(db, sql, values).await?;
    }
    Ok(())
}

/// Takes out what becomes of batches `from..until` of a wave: whoever takes it carries it out in the same
/// transaction, so that it is done once.
pub async fn drift_batches_take<C: ConnectionTrait>(
    db: &C,
    id: DriftId,
    wave: WaveNumber,
    (from, until): (u32, u32),
) -> Result<Vec<DriftBatchRow>, StoreError> {
    let values = || -> [Value; 4] {
        [
            id.to_string().into(),
            i64::from(wave.get()).into(),
            i64::from(from).into(),
            i64::from(until).into(),
        ]
    };
    let range = "FROM drift_batch WHERE drift_id = $1 AND wave_no = $2 AND seq >= $3 AND seq < $4";
    let raws: Vec<RawBatch> = query::all(
        db,
        format!("SELECT seq, body {range} ORDER BY seq"),
        values(),
    )
    .await?;
    query::execute(db, format!("DELETE {range}"), values()).await?;
    raws.into_iter()
        .map(|raw| {
            let seq = BatchSeq::new(query::unsigned(raw.seq)?);
            let body = raw.body;
            Ok(DriftBatchRow { wave, seq, body })
        })
        .collect()
}
