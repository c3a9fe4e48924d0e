//! Plan rows and their rosters: written in small steps, read for ever.
//!
//! A plan that a crash leaves half-written has roster rows but no plan row, so nothing can refer to
//! it: the plan row is written last.

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use tidegate_orchestrator::ids::{
    BatchSeq, PlanId, PopulationVersionId, RolloutId, Timestamp, WaveNumber, millis,
};

use super::StoreError;
use super::query;

/// A plan as it is stored. The body is the frozen record of `orchestrator::plan`, as JSON.
#[derive(Debug, Clone)]
pub struct PlanRow {
    /// The plan.
    pub id: PlanId,
    /// The rollout it was made for.
    pub rollout: RolloutId,
    /// What it was compiled from.
    pub population_version: PopulationVersionId,
    /// The spec it was compiled from.
    pub spec_digest: String,
    /// What `start` must name.
    pub digest: String,
    /// The record.
    pub body: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The roster of one batch of a plan.
#[derive(Debug, Clone)]
pub struct PlanRosterRow {
    /// The wave.
    pub wave: WaveNumber,
    /// The place in the wave.
    pub seq: BatchSeq,
    /// How many people.
    pub size: u32,
    /// The lowest ordinal.
    pub ordinal_min: u32,
    /// The highest ordinal.
    pub ordinal_max: u32,
    /// The ordinals, packed.
    pub roster: Vec<u8>,
}

#[derive(Debug, FromQueryResult)]
struct RawPlan {
    id: String,
    rollout_id: String,
    population_version_id: String,
    spec_digest: String,
    digest: String,
    body: String,
    created_at: i64,
}

/// Reads a plan.
pub async fn plan_load<C: ConnectionTrait>(
    db: &C,
    id: PlanId,
) -> Result<Option<PlanRow>, StoreError> {
    let sql = "SELECT id, rollout_id, population_version_id, spec_digest, digest, body, \
               created_at FROM plan WHERE id = $1";
    let raw: Option<RawPlan> = query::one(db, sql, [id.to_string().into()]).await?;
    raw.map(|raw| {
        Ok(PlanRow {
            id: query::id(&raw.id)?,
            rollout: query::id(&raw.rollout_id)?,
            population_version: query::id(&raw.population_version_id)?,
            spec_digest: raw.spec_digest,
            digest: raw.digest,
            body: raw.body,
            created_at: query::instant(raw.created_at)?,
        })
    })
    .transpose()
}

/// Writes a plan whose rosters are all there.
pub async fn plan_insert<C: ConnectionTrait>(db: &C, row: &PlanRow) -> Result<(), StoreError> {
    query::execute(
        db,
        "INSERT INTO plan (id, rollout_id, population_version_id, spec_digest, digest, body, \
         created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        [
            row.id.to_string().into(),
            row.rollout.to_string().into(),
            row.population_version.to_string().into(),
            row.spec_digest.clone().into(),
            row.digest.clone().into(),
            row.body.clone().into(),
            millis(row.created_at).into(),
        ],
    )
    .await?;
    Ok(())
}

/// Writes rosters of a plan that is not there yet.
pub async fn plan_roster_insert<C: ConnectionTrait>(
    db: &C,
    plan: PlanId,
    rows: &[PlanRosterRow],
) -> Result<(), StoreError> {
    for part in query::parts(rows) {
        let mut values: Vec<Value> = Vec::with_capacity(part.len() * 7);
        for row in part {
            values.push(plan.to_string().into());
            values.push(i64::from(row.wave.get()).into());
            values.push(i64::from(row.seq.get()).into());
            values.push(i64::from(row.size).into());
            values.push(i64::from(row.ordinal_min).into());
            values.push(i64::from(row.ordinal_max).into());
            values.push(row.roster.clone().into());
        }
        let sql = format!(
            "INSERT INTO plan_roster (plan_id, wave_no, seq, size, ordinal_min, ordinal_max, \
             roster) VALUES {}",
            query::rows_for(part.len(), 7)
        );
        query::execute(db, sql, values).await?;
    }
    Ok(())
}

/// Gives a plan the rosters of another one.
pub async fn plan_roster_copy<C: ConnectionTrait>(
    db: &C,
    from: PlanId,
    to: PlanId,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO plan_roster (plan_id, wave_no, seq, size, ordinal_min, ordinal_max, roster) \
               SELECT $2, wave_no, seq, size, ordinal_min, ordinal_max, roster FROM plan_roster WHERE plan_id = $1";
    query::execute(db, sql, [from.to_string().into(), to.to_string().into()]).await?;
    Ok(())
}

#[derive(Debug, FromQueryResult)]
struct RawRosterCount {
    wave_no: i64,
    batches: i64,
}

/// Returns how many batches each wave of a plan is cut into.
pub async fn plan_roster_counts<C: ConnectionTrait>(
    db: &C,
    plan: PlanId,
) -> Result<Vec<(WaveNumber, u32)>, StoreError> {
    let sql = "SELECT wave_no, COUNT(*) AS batches FROM plan_roster WHERE plan_id = $1 \
               GROUP BY wave_no ORDER BY wave_no";
    let raws: Vec<RawRosterCount> = query::all(db, sql, [plan.to_string().into()]).await?;
    raws.iter()
        .map(|raw| {
            Ok((
                WaveNumber::new(query::unsigned(raw.wave_no)?),
                query::unsigned(raw.batches)?,
            ))
        })
        .collect()
}

#[derive(Debug, FromQueryResult)]
struct RawRoster {
    seq: i64,
    size: i64,
    ordinal_min: i64,
    ordinal_max: i64,
    roster: Vec<u8>,
}

/// Reads rosters of one wave of a plan in order, from a batch on.
pub async fn plan_roster_page<C: ConnectionTrait>(
    db: &C,
    plan: PlanId,
    wave: WaveNumber,
    from: u32,
    limit: usize,
) -> Result<Vec<PlanRosterRow>, StoreError> {
    let sql = "SELECT seq, size, ordinal_min, ordinal_max, roster FROM plan_roster \
               WHERE plan_id = $1 AND wave_no = $2 AND seq >= $3 ORDER BY seq LIMIT $4";
    let values = [
        plan.to_string().into(),
        i64::from(wave.get()).into(),
        i64::from(from).into(),
        query::signed(limit)?.into(),
    ];
    let raws: Vec<RawRoster> = query::all(db, sql, values).await?;
    raws.into_iter()
        .map(|raw| {
            Ok(PlanRosterRow {
                wave,
                seq: BatchSeq::new(query::unsigned(raw.seq)?),
                size: query::unsigned(raw.size)?,
                ordinal_min: query::unsigned(raw.ordinal_min)?,
                ordinal_max: query::unsigned(raw.ordinal_max)?,
                roster: raw.roster,
            })
        })
        .collect()
}

/// Removes up to `limit` rosters that belong to no plan: what a crash while planning left behind.
pub async fn plan_roster_sweep<C: ConnectionTrait>(
    db: &C,
    plan: PlanId,
) -> Result<u64, StoreError> {
    query::execute(
        db,
        "DELETE FROM plan_roster WHERE plan_id = $1 \
         AND NOT EXISTS (SELECT 1 FROM plan WHERE plan.id = plan_roster.plan_id)",
        [plan.to_string().into()],
    )
    .await
}

#[derive(Debug, FromQueryResult)]
struct RawCovering {
    wave_no: i64,
    seq: i64,
    size: i64,
    ordinal_min: i64,
    ordinal_max: i64,
    roster: Vec<u8>,
}

/// Reads the rosters of a plan whose range of ordinals covers a member: at most one per wave.
pub async fn roster_covering<C: ConnectionTrait>(
    db: &C,
    plan: PlanId,
    ordinal: tidegate_orchestrator::ids::Ordinal,
) -> Result<Vec<PlanRosterRow>, StoreError> {
    let sql = "SELECT wave_no, seq, size, ordinal_min, ordinal_max, roster FROM plan_roster \
               WHERE plan_id = $1 AND ordinal_min <= $2 AND ordinal_max >= $2";
    let values = [plan.to_string().into(), i64::from(ordinal.get()).into()];
    let raws: Vec<RawCovering> = query::all(db, sql, values).await?;
    raws.into_iter().map(roster_row).collect()
}

/// Reads rosters of a plan that are no batches of the rollout yet, in order, after an address.
pub async fn rosters_unlaid<C: ConnectionTrait>(
    db: &C,
    plan: PlanId,
    rollout: RolloutId,
    after: (i64, i64),
    limit: usize,
) -> Result<Vec<PlanRosterRow>, StoreError> {
    let sql = "SELECT p.wave_no, p.seq, p.size, p.ordinal_min, p.ordinal_max, p.roster \
               FROM plan_roster p WHERE p.plan_id = $1 \
               AND (p.wave_no > $3 OR (p.wave_no = $3 AND p.seq > $4)) \
               AND NOT EXISTS (SELECT 1 FROM batch b WHERE b.rollout_id = $2 \
               AND b.wave_no = p.wave_no AND b.seq = p.seq) ORDER BY p.wave_no, p.seq LIMIT $5";
    let values = [
        plan.to_string().into(),
        rollout.to_string().into(),
        after.0.into(),
        after.1.into(),
        query::signed(limit)?.into(),
    ];
    let raws: Vec<RawCovering> = query::all(db, sql, values).await?;
    raws.into_iter().map(roster_row).collect()
}

fn roster_row(raw: RawCovering) -> Result<PlanRosterRow, StoreError> {
    Ok(PlanRosterRow {
        wave: WaveNumber::new(query::unsigned(raw.wave_no)?),
        seq: BatchSeq::new(query::unsigned(raw.seq)?),
        size: query::unsigned(raw.size)?,
        ordinal_min: query::unsigned(raw.ordinal_min)?,
        ordinal_max: query::unsigned(raw.ordinal_max)?,
        roster: raw.roster,
    })
}
