//! What a revert is decided from: what was asked for, where its people come from, and where they stand there.
//!
//! The approvals of people are kept with those of releases (`store::release`), by the id of the request.

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_orchestrator::hold::release::{End, Seat, Substance};
use tidegate_orchestrator::ids::{
    BatchSeq, PlanId, ReleaseRequestId, RolloutId, Timestamp, WaveNumber, millis,
};
use tidegate_orchestrator::revert::{Chosen, Sheet};

use super::ledger::BatchAddress;
use super::query::{self, rows_for};
use super::{StoreError, wave};

fn written<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(StoreError::corrupt)
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(StoreError::corrupt)
}

/// A revert as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevertRow {
    /// The rollout that takes back.
    pub rollout: RolloutId,
    /// What its approvals are kept under.
    pub request: ReleaseRequestId,
    /// When it was asked for.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// Who asked.
    pub seat: Seat,
    /// What the approvals are bound to.
    pub substance: Substance,
    /// What was asked for.
    pub sheet: Sheet,
    /// How the request ended, if it has.
    pub ended: Option<End>,
}

#[derive(Debug, FromQueryResult)]
struct RawRevert {
    rollout_id: String,
    request_id: String,
    at: i64,
    reason: String,
    seat: String,
    substance: String,
    body: String,
    ended: Option<String>,
}

/// Reads what was asked for.
pub async fn revert_load<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
) -> Result<Option<RevertRow>, StoreError> {
    let sql = "SELECT rollout_id, request_id, at, reason, seat, substance, body, ended FROM revert \
               WHERE rollout_id = $1";
    let raw: Option<RawRevert> = query::one(db, sql, [rollout.to_string().into()]).await?;
    let Some(raw) = raw else { return Ok(None) };
    let ended = match raw.ended {
        Some(name) => Some(
            End::from_name(&name)
                .ok_or_else(|| StoreError::corrupt(format!("`{name}` is no end of a revert")))?,
        ),
        None => None,
    };
    Ok(Some(RevertRow {
        rollout: query::id(&raw.rollout_id)?,
        request: query::id(&raw.request_id)?,
        at: query::instant(raw.at)?,
        reason: raw.reason,
        seat: read(&raw.seat)?,
        substance: read(&raw.substance)?,
        sheet: read(&raw.body)?,
        ended,
    }))
}

/// Writes what was asked for.
pub async fn revert_insert<C: ConnectionTrait>(db: &C, row: &RevertRow) -> Result<(), StoreError> {
    let sql = "INSERT INTO revert (rollout_id, request_id, at, reason, seat, substance, body, ended) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, NULL)";
    let values = [
        row.rollout.to_string().into(),
        row.request.to_string().into(),
        millis(row.at).into(),
        row.reason.clone().into(),
        written(&row.seat)?.into(),
        written(&row.substance)?.into(),
        written(&row.sheet)?.into(),
    ];
    query::execute(db, sql, values).await?;
    Ok(())
}

/// Ends a request that has not ended; says whether this did it.
pub async fn revert_end<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    end: End,
) -> Result<bool, StoreError> {
    let sql = "UPDATE revert SET ended = $2 WHERE rollout_id = $1 AND ended IS NULL";
    let values = [rollout.to_string().into(), end.name().into()];
    Ok(query::execute(db, sql, values).await? == 1)
}

/// A rollout that takes people back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevertOf {
    /// Its id.
    pub rollout: RolloutId,
    /// Its name.
    pub name: String,
    /// The name of its lifecycle.
    pub lifecycle: String,
}

#[derive(Debug, FromQueryResult)]
struct RawRevertOf {
    id: String,
    name: String,
    lifecycle: String,
}

/// Returns the reverts of a rollout, in the order in which they were asked for.
pub async fn reverts_of<C: ConnectionTrait>(
    db: &C,
    original: RolloutId,
) -> Result<Vec<RevertOf>, StoreError> {
    let sql = "SELECT id, name, lifecycle FROM rollout WHERE reverts = $1 ORDER BY created_at, id";
    let raws: Vec<RawRevertOf> = query::all(db, sql, [original.to_string().into()]).await?;
    raws.into_iter()
        .map(|raw| {
            Ok(RevertOf {
                rollout: query::id(&raw.id)?,
                name: raw.name,
                lifecycle: raw.lifecycle,
            })
        })
        .collect()
}

/// Where the people of one batch of a revert come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The wave of the revert.
    pub wave: WaveNumber,
    /// The batch in it.
    pub seq: BatchSeq,
    /// The wave of the original.
    pub from_wave: WaveNumber,
    /// The batch in it.
    pub from_seq: BatchSeq,
}

#[derive(Debug, FromQueryResult)]
struct RawOrigin {
    wave_no: i64,
    seq: i64,
    origin_wave: i64,
    origin_seq: i64,
}

/// Writes where batches come from.
pub async fn origins_insert<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    origins: &[Origin],
) -> Result<(), StoreError> {
    for part in query::parts(origins) {
        let mut values: Vec<Value> = Vec::with_capacity(part.len() * 5);
        for origin in part {
            values.push(rollout.to_string().into());
            values.push(i64::from(origin.wave.get()).into());
            values.push(i64::from(origin.seq.get()).into());
            values.push(i64::from(origin.from_wave.get()).into());
            values.push(i64::from(origin.from_seq.get()).into());
        }
        let sql = format!(
            "INSERT INTO revert_batch (rollout_id, wave_no, seq, origin_wave, origin_seq) VALUES {}",
            rows_for(part.len(), 5)
        );
        query::execute(db, sql, values).await?;
    }
    Ok(())
}

/// Returns the first batch of a wave of a plan whose people do not all come after those of the batches before it:
/// whoever was added to the wave of the original late.
pub async fn late_from<C: ConnectionTrait>(
    db: &C,
    plan: PlanId,
    wave: WaveNumber,
) -> Result<Option<u32>, StoreError> {
    let sql = "SELECT MIN(seq) AS number FROM (SELECT seq, ordinal_min, MAX(ordinal_max) OVER \
               (ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before_max \
               FROM plan_roster WHERE plan_id = $1 AND wave_no = $2) AS placed \
               WHERE ordinal_min <= before_max";
    let values = [plan.to_string().into(), i64::from(wave.get()).into()];
    let row: Option<query::MaybeNumber> = query::one(db, sql, values).await?;
    row.and_then(|row| row.number)
        .map(query::unsigned)
        .transpose()
}

/// Reads where batches of one wave of a revert come from.
pub async fn origins_load<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    wave: WaveNumber,
    seqs: &[BatchSeq],
) -> Result<Vec<Origin>, StoreError> {
    let mut found = Vec::with_capacity(seqs.len());
    for part in query::parts(seqs) {
        let sql = format!(
            "SELECT wave_no, seq, origin_wave, origin_seq FROM revert_batch WHERE rollout_id = $1 \
             AND wave_no = $2 AND seq IN ({}) ORDER BY seq",
            query::placeholders(3, part.len())
        );
        let mut values: Vec<Value> = vec![rollout.to_string().into(), i64::from(wave.get()).into()];
        values.extend(part.iter().map(|seq| Value::from(i64::from(seq.get()))));
        let raws: Vec<RawOrigin> = query::all(db, sql, values).await?;
        for raw in &raws {
            found.push(Origin {
                wave: WaveNumber(query::unsigned(raw.wave_no)?),
                seq: BatchSeq(query::unsigned(raw.seq)?),
                from_wave: WaveNumber(query::unsigned(raw.origin_wave)?),
                from_seq: BatchSeq(query::unsigned(raw.origin_seq)?),
            });
        }
    }
    Ok(found)
}

/// Reads where one batch of a revert comes from, as an address in the original.
pub async fn origin_of<C: ConnectionTrait>(
    db: &C,
    original: RolloutId,
    at: BatchAddress,
) -> Result<BatchAddress, StoreError> {
    let found = origins_load(db, at.rollout, at.wave, &[at.seq]).await?;
    let origin = found.first().ok_or(StoreError::NotFound)?;
    Ok(BatchAddress {
        rollout: original,
        wave: origin.from_wave,
        seq: origin.from_seq,
    })
}

/// Reads where waves of a rollout stand, with what every claim of theirs moves on; in the order they are named.
pub async fn chosen_load<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    numbers: &[WaveNumber],
    now: Timestamp,
) -> Result<Vec<Chosen>, StoreError> {
    let waves = wave::waves_load(db, rollout).await?;
    let mut chosen = Vec::with_capacity(numbers.len());
    for number in numbers {
        let Some(row) = waves.iter().find(|row| row.number == *number) else {
            continue;
        };
        let sql = "SELECT CAST(COALESCE(SUM(fence), 0) AS BIGINT) AS number FROM batch \
                   WHERE rollout_id = $1 AND wave_no = $2";
        let values = [rollout.to_string().into(), i64::from(number.get()).into()];
        let fences: Option<query::Number> = query::one(db, sql, values).await?;
        let sql = "SELECT CAST(COALESCE(SUM(in_flight), 0) AS BIGINT) AS number FROM batch \
                   WHERE rollout_id = $1 AND wave_no = $2 AND lease_until > $3";
        let values = [
            rollout.to_string().into(),
            i64::from(number.get()).into(),
            millis(now).into(),
        ];
        let leased: Option<query::Number> = query::one(db, sql, values).await?;
        let leased = leased.map_or(0, |row| row.number);
        chosen.push(Chosen {
            under_way: query::unsigned64(leased)?,
            number: *number,
            tally: row.tally,
            fences: fences.map_or(0, |row| row.number),
            taking_back: row.taking_back,
        });
    }
    Ok(chosen)
}

/// Counts one more revert under way of these waves, or one less.
pub async fn taking_back_count<C: ConnectionTrait>(
    db: &C,
    original: RolloutId,
    waves: &[WaveNumber],
    more: i64,
) -> Result<(), StoreError> {
    for number in waves {
        let sql = "UPDATE wave SET taking_back = taking_back + $3 WHERE rollout_id = $1 AND wave_no = $2 \
                   AND taking_back + $3 >= 0";
        let values = [
            original.to_string().into(),
            i64::from(number.get()).into(),
            more.into(),
        ];
        query::execute(db, sql, values).await?;
    }
    Ok(())
}

/// Says whether people of a wave are being taken back, and keeps that from changing until the transaction ends.
pub async fn is_taking_back<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    wave: WaveNumber,
) -> Result<bool, StoreError> {
    let sql = format!(
        "SELECT taking_back AS number FROM wave WHERE rollout_id = $1 AND wave_no = $2{}",
        query::for_update(db)
    );
    let values = [rollout.to_string().into(), i64::from(wave.get()).into()];
    let row: Option<query::Number> = query::one(db, sql, values).await?;
    Ok(row.is_some_and(|row| row.number > 0))
}
