//! Rollout rows: the spec, the frozen record of the state, and when the planner looks again.

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use tidegate_orchestrator::ids::{
    Generation, PlanId, PopulationId, RolloutId, TargetId, Timestamp, millis,
};

use super::StoreError;
use super::query;

/// A rollout as it is stored. The state is the record of `orchestrator::rollout`, as JSON.
#[derive(Debug, Clone)]
pub struct RolloutRow {
    /// The rollout.
    pub id: RolloutId,
    /// Its name, unique.
    pub name: String,
    /// Who moves.
    pub population: PopulationId,
    /// Where to.
    pub target: TargetId,
    /// yaml, json or toml.
    pub spec_format: String,
    /// What the manager wrote, byte for byte.
    pub spec_text: String,
    /// The digest of what it means.
    pub spec_digest: String,
    /// The name of the lifecycle, beside the record so that queries can use it.
    pub lifecycle: String,
    /// The record.
    pub state: String,
    /// The plan that runs, or would.
    pub plan: Option<PlanId>,
    /// When the planner looks again.
    pub wake_at: Option<Timestamp>,
    /// Grows with every change.
    pub generation: Generation,
    /// When it was created.
    pub created_at: Timestamp,
    /// The rollout whose people it takes back; `None`: it moves people.
    pub reverts: Option<RolloutId>,
}

#[derive(Debug, FromQueryResult)]
struct RawRollout {
    id: String,
    name: String,
    population_id: String,
    target_id: String,
    spec_format: String,
    spec_text: String,
    spec_digest: String,
    lifecycle: String,
    state: String,
    plan_id: Option<String>,
    wake_at: Option<i64>,
    generation: i64,
    created_at: i64,
    reverts: Option<String>,
}

const COLUMNS: &str = "id, name, population_id, target_id, spec_format, spec_text, spec_digest, \
                       lifecycle, state, plan_id, wake_at, generation, created_at, reverts";

impl TryFrom<RawRollout> for RolloutRow {
    type Error = StoreError;

    fn try_from(raw: RawRollout) -> Result<Self, StoreError> {
        Ok(Self {
            id: query::id(&raw.id)?,
            name: raw.name,
            population: query::id(&raw.population_id)?,
            target: query::id(&raw.target_id)?,
            spec_format: raw.spec_format,
            spec_text: raw.spec_text,
            spec_digest: raw.spec_digest,
            lifecycle: raw.lifecycle,
            state: raw.state,
            plan: raw.plan_id.as_deref().map(query::id).transpose()?,
            wake_at: raw.wake_at.map(query::instant).transpose()?,
            generation: Generation::new(raw.generation),
            created_at: query::instant(raw.created_at)?,
            reverts: raw.reverts.as_deref().map(query::id).transpose()?,
        })
    }
}

/// Finds a rollout by its id or by its name.
pub async fn rollout_find<C: ConnectionTrait>(
    db: &C,
    id_or_name: &str,
) -> Result<Option<RolloutRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM rollout WHERE id = $1 OR name = $1 ORDER BY id = $1");
    let raw: Option<RawRollout> = query::one(db, sql, [id_or_name.into()]).await?;
    raw.map(RolloutRow::try_from).transpose()
}

/// Reads a rollout.
pub async fn rollout_load<C: ConnectionTrait>(
    db: &C,
    id: RolloutId,
) -> Result<Option<RolloutRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM rollout WHERE id = $1");
    let raw: Option<RawRollout> = query::one(db, sql, [id.to_string().into()]).await?;
    raw.map(RolloutRow::try_from).transpose()
}

/// Reads a page of rollouts in the order they were created.
pub async fn rollout_page<C: ConnectionTrait>(
    db: &C,
    after: Option<(i64, String)>,
    limit: usize,
) -> Result<Vec<RolloutRow>, StoreError> {
    let (created_at, id) = after.unwrap_or((i64::MIN, String::new()));
    let sql = format!(
        "SELECT {COLUMNS} FROM rollout WHERE created_at > $1 OR (created_at = $1 AND id > $2) \
         ORDER BY created_at, id LIMIT $3"
    );
    let values = [created_at.into(), id.into(), query::signed(limit)?.into()];
    let raws: Vec<RawRollout> = query::all(db, sql, values).await?;
    raws.into_iter().map(RolloutRow::try_from).collect()
}

#[derive(Debug, FromQueryResult)]
struct Due {
    id: String,
}

/// Returns every rollout onto a target that is not over, the oldest first.
pub async fn rollouts_onto<C: ConnectionTrait>(
    db: &C,
    target: TargetId,
) -> Result<Vec<RolloutId>, StoreError> {
    let sql = "SELECT id FROM rollout WHERE target_id = $1 AND lifecycle NOT IN ('completed', 'cancelled') \
               ORDER BY created_at, id";
    let found: Vec<Due> = query::all(db, sql, [target.to_string().into()]).await?;
    found.iter().map(|row| query::id(&row.id)).collect()
}

/// Returns the rollouts that are under way, all of them or those onto one target.
pub async fn rollouts_started<C: ConnectionTrait>(
    db: &C,
    target: Option<TargetId>,
) -> Result<Vec<RolloutRow>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM rollout WHERE lifecycle IN ('running', 'preparing') \
         AND ($1 = '' OR target_id = $1) ORDER BY created_at, id"
    );
    let target = target.map(|id| id.to_string()).unwrap_or_default();
    let raws: Vec<RawRollout> = query::all(db, sql, [target.into()]).await?;
    raws.into_iter().map(RolloutRow::try_from).collect()
}

/// Returns rollouts the planner should look at by `now`, the longest waiting first. An id that is none is the
/// trouble of its own row.
pub async fn rollouts_due<C: ConnectionTrait>(
    db: &C,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Result<RolloutId, StoreError>>, StoreError> {
    let sql = "SELECT id FROM rollout WHERE wake_at <= $1 ORDER BY wake_at LIMIT $2";
    let values = [millis(now).into(), query::signed(limit)?.into()];
    let due: Vec<Due> = query::all(db, sql, values).await?;
    Ok(due.iter().map(|row| query::id(&row.id)).collect())
}

/// Puts off the next look at a rollout without reading it: its row may be damaged.
pub async fn rollout_put_off<C: ConnectionTrait>(
    db: &C,
    id: RolloutId,
    until: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE rollout SET wake_at = $2 WHERE id = $1 AND wake_at < $2";
    query::execute(db, sql, [id.to_string().into(), millis(until).into()]).await?;
    Ok(())
}

/// Returns when the planner should next look at any rollout.
pub async fn rollouts_wake_at<C: ConnectionTrait>(db: &C) -> Result<Option<Timestamp>, StoreError> {
    let sql = "SELECT MIN(wake_at) AS number FROM rollout WHERE wake_at IS NOT NULL";
    let row: Option<query::MaybeNumber> = query::one(db, sql, []).await?;
    row.and_then(|row| row.number)
        .map(query::instant)
        .transpose()
}

/// Writes a new rollout; a name in use is `Conflict`.
pub async fn rollout_insert<C: ConnectionTrait>(
    db: &C,
    row: &RolloutRow,
) -> Result<(), StoreError> {
    let values: [Value; 14] = [
        row.id.to_string().into(),
        row.name.clone().into(),
        row.population.to_string().into(),
        row.target.to_string().into(),
        row.spec_format.clone().into(),
        row.spec_text.clone().into(),
        row.spec_digest.clone().into(),
        row.lifecycle.clone().into(),
        row.state.clone().into(),
        row.plan.map(|id| id.to_string()).into(),
        row.wake_at.map(millis).into(),
        row.generation.get().into(),
        millis(row.created_at).into(),
        row.reverts.map(|id| id.to_string()).into(),
    ];
    let inserted = query::execute(
        db,
        format!(
            "INSERT INTO rollout ({COLUMNS}) VALUES ({}) ON CONFLICT DO NOTHING",
            query::placeholders(1, 14)
        ),
        values,
    )
    .await?;
    if inserted == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}

/// Stands for no next look where two are compared.
const NEVER: i64 = -1;

/// Saves a rollout whose generation is still `row.generation`, and counts the generation up.
///
/// Anything else means that somebody else changed it since it was read: `Conflict`. The next look is
/// moved unless somebody rang since `wake_was` was read: they want the look that comes.
pub async fn rollout_save<C: ConnectionTrait>(
    db: &C,
    row: &mut RolloutRow,
    wake_was: Option<Timestamp>,
) -> Result<(), StoreError> {
    let next = row.generation.next();
    let values: [Value; 14] = [
        row.id.to_string().into(),
        row.generation.get().into(),
        next.get().into(),
        row.name.clone().into(),
        row.population.to_string().into(),
        row.target.to_string().into(),
        row.spec_format.clone().into(),
        row.spec_text.clone().into(),
        row.spec_digest.clone().into(),
        row.lifecycle.clone().into(),
        row.state.clone().into(),
        row.plan.map(|id| id.to_string()).into(),
        row.wake_at.map(millis).into(),
        wake_was.map_or(NEVER, millis).into(),
    ];
    let changed = query::execute(
        db,
        "UPDATE rollout SET generation = $3, name = $4, population_id = $5, target_id = $6, \
         spec_format = $7, spec_text = $8, spec_digest = $9, lifecycle = $10, state = $11, \
         plan_id = $12, wake_at = CASE WHEN wake_at IS NULL OR wake_at = $14 OR $13 < wake_at THEN $13 \
         ELSE wake_at END \
         WHERE id = $1 AND generation = $2",
        values,
    )
    .await?;
    if changed != 1 {
        return Err(StoreError::Conflict);
    }
    row.generation = next;
    Ok(())
}

/// Moves only the next look of the planner, unless somebody rang since `wake_was` was read; no generation,
/// because nothing else changes.
///
/// Anything but the stored generation means that somebody else changed it since it was read: `Conflict`.
pub async fn rollout_wake<C: ConnectionTrait>(
    db: &C,
    id: RolloutId,
    generation: Generation,
    (wake_was, wake_at): (Option<Timestamp>, Option<Timestamp>),
) -> Result<(), StoreError> {
    let changed = query::execute(
        db,
        "UPDATE rollout SET wake_at = CASE WHEN wake_at IS NULL OR wake_at = $4 OR $3 < wake_at \
         THEN $3 ELSE wake_at END WHERE id = $1 AND generation = $2",
        [
            id.to_string().into(),
            generation.get().into(),
            wake_at.map(millis).into(),
            wake_was.map_or(NEVER, millis).into(),
        ],
    )
    .await?;
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}

/// Only what runs is looked at; a draft or an ended rollout has nothing to do.
const RUNNING: &str = "lifecycle IN ('preparing', 'running')";

/// Each ring leaves another instant behind, so that a look under way sees that somebody rang.
const RING: &str = "CASE WHEN wake_at <= $1 THEN wake_at - 1 ELSE $1 END";

/// Asks for a look of the planner now at one rollout.
pub async fn rollout_ring<C: ConnectionTrait>(
    db: &C,
    now: Timestamp,
    rollout: RolloutId,
) -> Result<(), StoreError> {
    let sql = format!("UPDATE rollout SET wake_at = {RING} WHERE id = $2 AND {RUNNING}");
    query::execute(db, sql, [millis(now).into(), rollout.to_string().into()]).await?;
    Ok(())
}

/// Asks for a look of the planner now at every rollout, or every one onto a target, also at those that
/// are being looked at: what they see may be over.
pub async fn rollouts_ring_all<C: ConnectionTrait>(
    db: &C,
    now: Timestamp,
    target: Option<TargetId>,
) -> Result<(), StoreError> {
    let of_target = if target.is_some() {
        " AND target_id = $2"
    } else {
        ""
    };
    let sql = format!("UPDATE rollout SET wake_at = {RING} WHERE {RUNNING}{of_target}");
    let mut values: Vec<Value> = vec![millis(now).into()];
    values.extend(target.map(|target| Value::from(target.to_string())));
    query::execute(db, sql, values).await?;
    Ok(())
}

/// Asks for a look of the planner now at every rollout, or every one onto a target: at most `limit` of
/// those that would be looked at later. Returns how many; fewer than `limit`: there are no more.
pub async fn rollouts_ring<C: ConnectionTrait>(
    db: &C,
    now: Timestamp,
    target: Option<TargetId>,
    limit: usize,
) -> Result<u64, StoreError> {
    let of_target = if target.is_some() {
        " AND target_id = $3"
    } else {
        ""
    };
    let sql = format!(
        "UPDATE rollout SET wake_at = $1 WHERE id IN (SELECT id FROM rollout WHERE {RUNNING} \
         AND (wake_at IS NULL OR wake_at > $1){of_target} LIMIT $2)"
    );
    let mut values: Vec<Value> = vec![millis(now).into(), query::signed(limit)?.into()];
    values.extend(target.map(|target| Value::from(target.to_string())));
    query::execute(db, sql, values).await
}
