//! Signals that were admitted, in the order in which their transactions committed.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use tidegate_orchestrator::digest::{Digest, DigestBuilder};
use tidegate_orchestrator::ids::{Timestamp, millis};
use tidegate_policy::Signal;
use tidegate_policy::signal::Dialect;
use uuid::Uuid;

use super::{StoreError, query};

/// A signal as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalRow {
    /// Its place among all of them.
    pub seq: i64,
    /// Its id here.
    pub id: Uuid,
    /// What was reported.
    pub signal: Signal,
    /// What rules made of it; `None`: it has not been judged, or no rule applied.
    pub outcome: Option<String>,
}

#[derive(Debug, FromQueryResult)]
struct RawSignal {
    seq: i64,
    id: String,
    body: String,
    outcome: Option<String>,
}

impl TryFrom<RawSignal> for SignalRow {
    type Error = StoreError;

    fn try_from(raw: RawSignal) -> Result<Self, StoreError> {
        Ok(Self {
            seq: raw.seq,
            id: query::id(&raw.id)?,
            signal: serde_json::from_str(&raw.body).map_err(StoreError::corrupt)?,
            outcome: raw.outcome,
        })
    }
}

/// Returns what a repetition of a signal at its source is known by.
#[must_use]
pub fn known_by(signal: &Signal) -> Digest {
    let mut digest = DigestBuilder::default();
    digest.part(signal.external_id.as_bytes());
    digest.part(signal.revision.as_deref().unwrap_or_default().as_bytes());
    if signal.revision.is_none()
        && matches!(signal.dialect, Dialect::Manual | Dialect::StandardWebhooks)
    {
        // The same id with other words is a revision of which nobody has said so.
        digest.part(&signal.raw.0);
    }
    digest.finish()
}

/// Gives out the numbers of so many signals, and returns the last one given out before. Nobody else is given
/// any until the transaction ends, so a higher number never becomes visible before a lower one.
pub async fn numbers_take<C: ConnectionTrait>(db: &C, count: usize) -> Result<i64, StoreError> {
    let count = query::signed(count)?;
    let sql = "UPDATE signal_head SET seq = seq + $1 WHERE id = 1 RETURNING seq - $1 AS number";
    let row: Option<query::Number> = query::one(db, sql, [count.into()]).await?;
    row.map(|row| row.number).ok_or(StoreError::NotFound)
}

/// Writes signals that are new at their source; returns the numbers of those that were.
pub async fn signals_insert<C: ConnectionTrait>(
    db: &C,
    rows: &[SignalRow],
) -> Result<Vec<i64>, StoreError> {
    let mut fresh = Vec::new();
    for part in rows.chunks(64) {
        let mut values: Vec<Value> = Vec::with_capacity(part.len() * 9);
        for row in part {
            let signal = &row.signal;
            values.extend([
                row.seq.into(),
                row.id.to_string().into(),
                signal.source.clone().into(),
                known_by(signal).to_string().into(),
                millis(signal.received_at).into(),
                signal.vendor.clone().into(),
                signal.kind.name().into(),
                signal.severity.name().into(),
                serde_json::to_string(signal)
                    .map_err(StoreError::corrupt)?
                    .into(),
            ]);
        }
        let sql = format!(
            "INSERT INTO signal (seq, id, source, known_by, received_at, vendor, kind, severity, body) VALUES {} \
             ON CONFLICT DO NOTHING RETURNING seq AS number",
            query::rows_for(part.len(), 9)
        );
        let numbers: Vec<query::Number> = query::all(db, sql, values).await?;
        fresh.extend(numbers.into_iter().map(|row| row.number));
    }
    Ok(fresh)
}

/// Keeps the bytes that signals were read from, by their digest.
pub async fn raws_keep<C: ConnectionTrait>(
    db: &C,
    raws: &BTreeMap<Digest, &[u8]>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let raws: Vec<(&Digest, &&[u8])> = raws.iter().collect();
    for part in raws.chunks(64) {
        let mut values: Vec<Value> = Vec::with_capacity(part.len() * 3);
        for (digest, body) in part {
            values.extend([
                digest.to_string().into(),
                body.to_vec().into(),
                millis(now).into(),
            ]);
        }
        let sql = format!(
            "INSERT INTO signal_raw (digest, body, received_at) VALUES {} ON CONFLICT DO NOTHING",
            query::rows_for(part.len(), 3)
        );
        query::execute(db, sql, values).await?;
    }
    Ok(())
}

/// Reads signals after one of them, in order.
pub async fn signals_after<C: ConnectionTrait>(
    db: &C,
    seq: i64,
    limit: usize,
) -> Result<Vec<SignalRow>, StoreError> {
    let sql = "SELECT seq, id, body, outcome FROM signal WHERE seq > $1 ORDER BY seq LIMIT $2";
    let raws: Vec<RawSignal> =
        query::all(db, sql, [seq.into(), query::signed(limit)?.into()]).await?;
    raws.into_iter().map(SignalRow::try_from).collect()
}

/// Reads the latest signals before one of them, the newest first.
pub async fn signals_before<C: ConnectionTrait>(
    db: &C,
    seq: i64,
    limit: usize,
) -> Result<Vec<SignalRow>, StoreError> {
    let sql = "SELECT seq, id, body, outcome FROM signal WHERE seq < $1 ORDER BY seq DESC LIMIT $2";
    let raws: Vec<RawSignal> =
        query::all(db, sql, [seq.into(), query::signed(limit)?.into()]).await?;
    raws.into_iter().map(SignalRow::try_from).collect()
}

/// Writes what rules made of signals.
pub async fn outcome_set<C: ConnectionTrait>(
    db: &C,
    outcome: &str,
    seqs: &[i64],
) -> Result<(), StoreError> {
    for part in query::parts(seqs) {
        let sql = format!(
            "UPDATE signal SET outcome = $1 WHERE seq IN ({})",
            query::placeholders(2, part.len())
        );
        let mut values: Vec<Value> = vec![outcome.into()];
        values.extend(part.iter().map(|seq| Value::from(*seq)));
        query::execute(db, sql, values).await?;
    }
    Ok(())
}

/// Returns the number of the last signal that was received before an instant; 0 when there is none.
pub async fn number_at<C: ConnectionTrait>(db: &C, at: Timestamp) -> Result<i64, StoreError> {
    let sql = "SELECT MAX(seq) AS number FROM signal WHERE received_at < $1";
    let row: Option<query::MaybeNumber> = query::one(db, sql, [millis(at).into()]).await?;
    Ok(row.and_then(|row| row.number).unwrap_or(0))
}

/// Says whether every one of these signals is known.
pub async fn are_known<C: ConnectionTrait>(db: &C, signals: &[Signal]) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) AS number FROM signal WHERE source = $1 AND known_by = $2";
    for signal in signals {
        let values = [
            signal.source.clone().into(),
            known_by(signal).to_string().into(),
        ];
        let row: Option<query::Number> = query::one(db, sql, values).await?;
        if row.is_none_or(|row| row.number == 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads the signal of a number.
pub async fn signal_at<C: ConnectionTrait>(
    db: &C,
    seq: i64,
) -> Result<Option<SignalRow>, StoreError> {
    let sql = "SELECT seq, id, body, outcome FROM signal WHERE seq = $1";
    let raw: Option<RawSignal> = query::one(db, sql, [seq.into()]).await?;
    raw.map(SignalRow::try_from).transpose()
}

/// Reads one signal.
pub async fn signal_find<C: ConnectionTrait>(
    db: &C,
    id: Uuid,
) -> Result<Option<SignalRow>, StoreError> {
    let sql = "SELECT seq, id, body, outcome FROM signal WHERE id = $1";
    let raw: Option<RawSignal> = query::one(db, sql, [id.to_string().into()]).await?;
    raw.map(SignalRow::try_from).transpose()
}
