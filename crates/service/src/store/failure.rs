//! People who failed or wait for a person's review: the only people with a row of their own.

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use tidegate_orchestrator::ids::{Fence, Ordinal, RolloutId, Timestamp, WaveNumber, millis};
use tidegate_orchestrator::ledger::SlotState;

use super::StoreError;
use super::ledger::BatchAddress;
use super::query;

/// The longest message kept of what a target said, in characters.
pub const MESSAGE_CHARS_MAX: usize = 500;

/// What went wrong with one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureRow {
    /// The place of the person in the population version.
    pub ordinal: Ordinal,
    /// The wave.
    pub wave: WaveNumber,
    /// The state the person is in because of it.
    pub state: SlotState,
    /// The stable code.
    pub code: String,
    /// What the target said.
    pub message: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When.
    pub at: Timestamp,
}

/// Writes what went wrong, replacing what went wrong before with the same people.
pub async fn failures_put<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    rows: &[FailureRow],
) -> Result<(), StoreError> {
    for part in query::parts(rows) {
        let mut values: Vec<Value> = Vec::with_capacity(part.len() * 8);
        for row in part {
            values.push(rollout.to_string().into());
            values.push(i64::from(row.ordinal.get()).into());
            values.push(i64::from(row.wave.get()).into());
            values.push(row.state.name().into());
            values.push(row.code.clone().into());
            values.push(
                row.message
                    .chars()
                    .take(MESSAGE_CHARS_MAX)
                    .collect::<String>()
                    .into(),
            );
            values.push(i64::from(row.attempts).into());
            values.push(millis(row.at).into());
        }
        let sql = format!(
            "INSERT INTO failure (rollout_id, ordinal, wave_no, state, code, message, attempts, \
             at) VALUES {} ON CONFLICT (rollout_id, ordinal) DO UPDATE SET \
             state = excluded.state, code = excluded.code, message = excluded.message, \
             attempts = excluded.attempts, at = excluded.at",
            query::rows_for(part.len(), 8)
        );
        query::execute(db, sql, values).await?;
    }
    Ok(())
}

/// Forgets what went wrong with people who have gone on since.
pub async fn failures_clear<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    ordinals: &[Ordinal],
) -> Result<(), StoreError> {
    for part in query::parts(ordinals) {
        let sql = format!(
            "DELETE FROM failure WHERE rollout_id = $1 AND ordinal IN ({})",
            query::placeholders(2, part.len())
        );
        let mut values: Vec<Value> = vec![rollout.to_string().into()];
        values.extend(
            part.iter()
                .map(|ordinal| Value::from(i64::from(ordinal.get()))),
        );
        query::execute(db, sql, values).await?;
    }
    Ok(())
}

#[derive(Debug, FromQueryResult)]
struct RawFailure {
    ordinal: i64,
    wave_no: i64,
    state: String,
    code: String,
    message: String,
    attempts: i64,
    at: i64,
}

/// Reads what went wrong with members whose ordinals lie in a range.
pub async fn failures_between<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    range: (Ordinal, Ordinal),
) -> Result<Vec<FailureRow>, StoreError> {
    let sql = "SELECT ordinal, wave_no, state, code, message, attempts, at FROM failure \
               WHERE rollout_id = $1 AND ordinal >= $2 AND ordinal <= $3 ORDER BY ordinal";
    let values = [
        rollout.to_string().into(),
        i64::from(range.0.get()).into(),
        i64::from(range.1.get()).into(),
    ];
    let raws: Vec<RawFailure> = query::all(db, sql, values).await?;
    raws.into_iter()
        .map(|raw| {
            Ok(FailureRow {
                ordinal: Ordinal::new(query::unsigned(raw.ordinal)?),
                wave: WaveNumber::new(query::unsigned(raw.wave_no)?),
                state: SlotState::from_name(&raw.state)
                    .ok_or_else(|| StoreError::Corrupt(format!("`{}` is no state", raw.state)))?,
                code: raw.code,
                message: raw.message,
                attempts: query::unsigned(raw.attempts)?,
                at: query::instant(raw.at)?,
            })
        })
        .collect()
}

#[derive(Debug, FromQueryResult)]
struct RawReceipt {
    body: Vec<u8>,
}

/// Reads what a target called the people of a batch, the earliest first.
pub async fn receipts_load<C: ConnectionTrait>(
    db: &C,
    address: BatchAddress,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let sql = "SELECT body FROM receipt WHERE rollout_id = $1 AND wave_no = $2 AND seq = $3 \
               ORDER BY fence, part";
    let values = [
        address.rollout.to_string().into(),
        i64::from(address.wave.get()).into(),
        i64::from(address.seq.get()).into(),
    ];
    let raws: Vec<RawReceipt> = query::all(db, sql, values).await?;
    Ok(raws.into_iter().map(|raw| raw.body).collect())
}

/// Keeps what a target called our people: one row per recorded outcome of a batch.
pub async fn receipt_put<C: ConnectionTrait>(
    db: &C,
    address: BatchAddress,
    fence: Fence,
    part: u32,
    body: Vec<u8>,
) -> Result<(), StoreError> {
    query::execute(
        db,
        "INSERT INTO receipt (rollout_id, wave_no, seq, fence, part, body) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        [
            address.rollout.to_string().into(),
            i64::from(address.wave.get()).into(),
            i64::from(address.seq.get()).into(),
            fence.get().into(),
            i64::from(part).into(),
            body.into(),
        ],
    )
    .await?;
    Ok(())
}
