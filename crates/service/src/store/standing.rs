//! How a rollout stands: its waves, and what lies around it, in one statement and so as of one instant.

use sea_orm::{ConnectionTrait, FromQueryResult};
use tidegate_orchestrator::ids::{Epoch, Generation, RolloutId, Timestamp, from_millis};

use super::wave::{RawWave, WaveRow};
use super::{StoreError, query};

/// A rollout but for its own row.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The generation of the rollout.
    pub generation: Generation,
    /// The epoch.
    pub epoch: Epoch,
    /// The name of its population.
    pub population: String,
    /// The name of its target.
    pub target: String,
    /// Until when the target wants to be left alone.
    pub closed_until: Timestamp,
    /// Its waves in order, each that may be claimed with the earliest instant at which it has something to claim.
    pub waves: Vec<(WaveRow, Option<Timestamp>)>,
}

#[derive(Debug, FromQueryResult)]
struct RawStanding {
    generation: i64,
    epoch: i64,
    population: String,
    target: String,
    closed_until: i64,
    #[sea_orm(nested)]
    wave: Option<RawWave>,
    ready_at: Option<i64>,
}

/// Reads how a rollout stands: one row per wave, or one row when there is none yet.
pub async fn standing_load<C: ConnectionTrait>(
    db: &C,
    id: RolloutId,
) -> Result<Standing, StoreError> {
    let sql = "SELECT r.generation, i.epoch, p.name AS population, t.name AS target, t.closed_until, w.*, \
               CASE WHEN w.claimable = 1 THEN (SELECT MIN(b.ready_at) FROM batch b \
               WHERE b.rollout_id = w.rollout_id AND b.wave_no = w.wave_no AND b.ready_at IS NOT NULL) \
               END AS ready_at FROM rollout r JOIN installation i ON i.id = 1 \
               JOIN population p ON p.id = r.population_id JOIN target t ON t.id = r.target_id \
               LEFT JOIN wave w ON w.rollout_id = r.id WHERE r.id = $1 ORDER BY w.wave_no";
    let mut raws: Vec<RawStanding> = query::all(db, sql, [id.to_string().into()]).await?;
    let mut waves = Vec::with_capacity(raws.len());
    for raw in &mut raws {
        if let Some(wave) = raw.wave.take() {
            waves.push((wave.try_into()?, raw.ready_at.and_then(from_millis)));
        }
    }
    let raw = raws.into_iter().next().ok_or(StoreError::NotFound)?;
    Ok(Standing {
        generation: Generation::new(raw.generation),
        epoch: Epoch::new(raw.epoch),
        population: raw.population,
        target: raw.target,
        closed_until: query::instant(raw.closed_until)?,
        waves,
    })
}
