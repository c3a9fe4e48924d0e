//! Holds on some people of a wave, and the waves whose people are still to be sorted on their account.

use sea_orm::{ConnectionTrait, FromQueryResult};
use tidegate_orchestrator::hold::Hold;
use tidegate_orchestrator::ids::{RolloutId, WaveNumber};

use super::hold::{COLUMNS, HoldRow, RawHold};
use super::{StoreError, query};

#[derive(Debug, FromQueryResult)]
struct RawWave {
    scope_id: String,
    scope_wave: i64,
}

/// Returns the waves that are to be sorted, of rollouts whose ledger is laid out and not over.
pub async fn waves_unsorted<C: ConnectionTrait>(
    db: &C,
) -> Result<Vec<(RolloutId, WaveNumber)>, StoreError> {
    let sql = "SELECT DISTINCT h.scope_id, h.scope_wave FROM hold h JOIN rollout r ON r.id = h.scope_id \
               WHERE h.unsorted = 1 AND r.lifecycle = 'running'";
    let raws: Vec<RawWave> = query::all(db, sql, []).await?;
    raws.iter()
        .map(|raw| {
            let wave = WaveNumber(query::unsigned(raw.scope_wave)?);
            Ok((query::id(&raw.scope_id)?, wave))
        })
        .collect()
}

/// Reads the holds in force on some people of any wave of a rollout.
pub async fn holds_of_rollout<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
) -> Result<Vec<Hold>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM hold WHERE part IS NOT NULL AND scope_id = $1 AND released_at IS NULL \
         ORDER BY placed_at, id"
    );
    let raws: Vec<RawHold> = query::all(db, sql, [rollout.to_string().into()]).await?;
    raws.into_iter()
        .map(|raw| HoldRow::try_from(raw)?.hold())
        .collect()
}

/// Reads the holds on some people of a wave that are in force, or whose end has still to be carried out.
pub async fn holds_of_part<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    wave: WaveNumber,
) -> Result<Vec<(HoldRow, Hold)>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM hold WHERE part IS NOT NULL AND scope_id = $1 AND scope_wave = $2 \
         AND (released_at IS NULL OR unsorted = 1) ORDER BY placed_at, id"
    );
    let values = [rollout.to_string().into(), i64::from(wave.get()).into()];
    let raws: Vec<RawHold> = query::all(db, sql, values).await?;
    raws.into_iter()
        .map(|raw| {
            let row = HoldRow::try_from(raw)?;
            let hold = row.hold()?;
            Ok((row, hold))
        })
        .collect()
}
