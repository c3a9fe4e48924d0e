//! Reviews of holds, their owners, and how many people they stop: columns of the hold rows that no claim
//! and no permit reads.

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use tidegate_orchestrator::hold::heads::{Course, HeadCount, Heads, RolloutHeads};
use tidegate_orchestrator::hold::{Hold, MovedPeople, Scope};
use tidegate_orchestrator::ids::{Generation, HoldId, Timestamp, millis};
use tidegate_orchestrator::ledger::{SlotState, Tally};

use super::ledger::COUNTERS;
use super::{StoreError, query};

/// How many rollouts a head-count names: whoever stops more looks at the sum.
const ROLLOUTS_NAMED: usize = 100;
/// The lifecycles in which nobody waits any more.
const OVER: &str = "r.lifecycle IN ('completed', 'cancelled')";

/// Returns when the first reminder of all is due.
pub async fn reminder_next<C: ConnectionTrait>(db: &C) -> Result<Option<Timestamp>, StoreError> {
    let sql = "SELECT MIN(review_nag_at) AS number FROM hold \
               WHERE released_at IS NULL AND review_nag_at IS NOT NULL";
    let row: Option<query::MaybeNumber> = query::one(db, sql, []).await?;
    row.and_then(|row| row.number)
        .map(query::instant)
        .transpose()
}

/// A hold whose reminder is due, as text: a row that is damaged elsewhere is reminded of all the same.
#[derive(Debug, FromQueryResult)]
pub struct DueRow {
    /// The hold.
    pub id: String,
    /// pause or halt.
    pub kind: String,
    /// everything, target, rollout or wave.
    pub scope_kind: String,
    /// What is covered.
    pub scope_id: String,
    /// Who should look.
    pub owner: String,
    /// When they should have.
    pub review_at: Option<i64>,
    /// When this reminder was due.
    pub review_nag_at: i64,
}

/// Reads holds whose reminder is due by `now`, the longest waiting first, and locks them; those that
/// another process has locked are left to it.
pub async fn reminders_due<C: ConnectionTrait>(
    db: &C,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<DueRow>, StoreError> {
    let lock = query::skip_locked(db);
    let sql = format!(
        "SELECT id, kind, scope_kind, scope_id, owner, review_at, review_nag_at FROM hold \
         WHERE released_at IS NULL AND review_nag_at IS NOT NULL AND review_nag_at <= $1 \
         ORDER BY review_nag_at, id LIMIT $2{lock}"
    );
    let values = [millis(now).into(), query::signed(limit)?.into()];
    query::all(db, sql, values).await
}

/// Puts the next reminder off, if nobody else has reminded, reviewed or released meanwhile.
pub async fn reminder_put_off<C: ConnectionTrait>(
    db: &C,
    row: &DueRow,
    next: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE hold SET review_nag_at = $3 WHERE id = $1 AND review_nag_at = $2 AND released_at IS NULL";
    let values = [
        row.id.clone().into(),
        row.review_nag_at.into(),
        millis(next).into(),
    ];
    Ok(query::execute(db, sql, values).await? == 1)
}

/// Saves who owns a hold and when it is reviewed, if its generation is still `was`; the reminder is due
/// with the review.
pub async fn review_save<C: ConnectionTrait>(
    db: &C,
    hold: &Hold,
    was: Generation,
) -> Result<(), StoreError> {
    let values: [Value; 5] = [
        hold.id.to_string().into(),
        was.get().into(),
        hold.generation.get().into(),
        hold.review_at.map(millis).into(),
        hold.owner.to_string().into(),
    ];
    // A hold that changes its owner alone keeps its reminder where it is.
    let sql = "UPDATE hold SET generation = $3, owner = $5, \
               review_nag_at = CASE WHEN review_at = $4 THEN review_nag_at ELSE $4 END, review_at = $4 \
               WHERE id = $1 AND generation = $2 AND released_at IS NULL";
    if query::execute(db, sql, values).await? == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}

#[derive(Debug, FromQueryResult)]
struct RawId {
    id: String,
}

/// Returns the holds in force that have this effect on people who were moved.
pub async fn holds_of_effect<C: ConnectionTrait>(
    db: &C,
    effect: MovedPeople,
) -> Result<Vec<HoldId>, StoreError> {
    let sql = "SELECT id FROM hold WHERE released_at IS NULL AND effect = $1";
    let raws: Vec<RawId> = query::all(db, sql, [effect.name().into()]).await?;
    raws.iter().map(|raw| query::id(&raw.id)).collect()
}

/// Says whether the owner of a hold cannot be asked any more: their token was revoked, and no other one is
/// left of the person behind it. A task has no token, and is never gone.
pub async fn owner_is_gone<C: ConnectionTrait>(db: &C, owner: &str) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) AS number FROM api_token t WHERE t.name = $1 AND t.revoked_at IS NOT NULL \
               AND NOT EXISTS (SELECT 1 FROM api_token o WHERE o.revoked_at IS NULL \
               AND COALESCE(o.person, o.name) = COALESCE(t.person, t.name))";
    let row: Option<query::Number> = query::one(db, sql, [owner.into()]).await?;
    Ok(row.is_some_and(|row| row.number > 0))
}

/// Keeps how many people a hold stopped when it was placed; the first count stays.
pub async fn head_count_keep<C: ConnectionTrait>(
    db: &C,
    id: HoldId,
    count: &HeadCount,
) -> Result<(), StoreError> {
    let text = serde_json::to_string(count).map_err(StoreError::corrupt)?;
    let sql = "UPDATE hold SET head_count = $2 WHERE id = $1 AND head_count IS NULL";
    query::execute(db, sql, [id.to_string().into(), text.into()]).await?;
    Ok(())
}

#[derive(Debug, FromQueryResult)]
struct RawKept {
    head_count: Option<String>,
}

/// Returns how many people a hold stopped when it was placed, if they were counted then.
pub async fn head_count_kept<C: ConnectionTrait>(
    db: &C,
    id: HoldId,
) -> Result<Option<HeadCount>, StoreError> {
    let sql = "SELECT head_count FROM hold WHERE id = $1";
    let raw: Option<RawKept> = query::one(db, sql, [id.to_string().into()]).await?;
    let text = raw.and_then(|raw| raw.head_count);
    text.map(|text| serde_json::from_str(&text).map_err(StoreError::corrupt))
        .transpose()
}

#[derive(Debug, FromQueryResult)]
struct RawHeads {
    id: String,
    name: String,
    lifecycle: String,
    is_over: i64,
    takes_back: i64,
    rollouts: i64,
    queued: i64,
    in_flight: i64,
    awaiting: i64,
    done: i64,
    failed: i64,
    retry: i64,
    unknown: i64,
    skipped: i64,
    departed: i64,
    reverting: i64,
    reverted: i64,
    review: i64,
    transferred: i64,
    parked: i64,
}

impl RawHeads {
    fn heads(&self) -> Result<Heads, StoreError> {
        let counts = [
            (SlotState::Queued, self.queued),
            (SlotState::InFlight, self.in_flight),
            (SlotState::Awaiting, self.awaiting),
            (SlotState::Done, self.done),
            (SlotState::Failed, self.failed),
            (SlotState::Retry, self.retry),
            (SlotState::Unknown, self.unknown),
            (SlotState::Skipped, self.skipped),
            (SlotState::Departed, self.departed),
            (SlotState::Reverting, self.reverting),
            (SlotState::Reverted, self.reverted),
            (SlotState::Review, self.review),
            (SlotState::Transferred, self.transferred),
            (SlotState::Parked, self.parked),
        ];
        let mut tally = Tally::ZERO;
        for (state, count) in counts {
            tally.add(state, query::unsigned64(count)?);
        }
        let course = Course {
            is_over: self.is_over != 0,
            takes_back: self.takes_back != 0,
        };
        Ok(Heads::of(&tally, course))
    }
}

/// Counts the people under a scope from the rows of its waves: the sum of all rollouts, and the largest
/// ones by name.
pub async fn heads_count<C: ConnectionTrait>(
    db: &C,
    scope: &Scope,
    at: Timestamp,
) -> Result<HeadCount, StoreError> {
    let (wave, covered) = match scope {
        Scope::Everything => ("", "1 = 1"),
        Scope::Target(_) => ("", "r.target_id = $1"),
        Scope::Rollout(_) => ("", "r.id = $1"),
        Scope::Wave(..) | Scope::Part(..) => (" AND w.wave_no = $2", "r.id = $1"),
    };
    let values = || -> Vec<Value> {
        let id = scope.uuid().map(|id| Value::from(id.to_string()));
        let wave = scope.wave().map(|wave| Value::from(i64::from(wave.get())));
        id.into_iter().chain(wave).collect()
    };
    let mut sums = String::new();
    for counter in COUNTERS {
        if matches!(scope, Scope::Part(..)) && counter != SlotState::Parked.name() {
            sums.push_str(&format!(", CAST(0 AS BIGINT) AS {counter}"));
            continue;
        }
        sums.push_str(&format!(
            ", CAST(COALESCE(SUM(w.{counter}), 0) AS BIGINT) AS {counter}"
        ));
    }
    let over = format!("CAST(CASE WHEN {OVER} THEN 1 ELSE 0 END AS BIGINT)");
    let back = "CAST(CASE WHEN r.reverts IS NULL THEN 0 ELSE 1 END AS BIGINT)";
    let from =
        format!("FROM rollout r LEFT JOIN wave w ON w.rollout_id = r.id{wave} WHERE {covered}");
    let totals = format!(
        "SELECT '' AS id, '' AS name, '' AS lifecycle, {over} AS is_over, {back} AS takes_back, \
         CAST(COUNT(DISTINCT r.id) AS BIGINT) AS rollouts{sums} {from} GROUP BY {over}, {back}"
    );
    let (mut people, mut rollouts) = (Heads::default(), 0_u64);
    for raw in query::all::<RawHeads, C>(db, totals, values()).await? {
        people = people.plus(raw.heads()?);
        rollouts = rollouts.saturating_add(query::unsigned64(raw.rollouts)?);
    }
    let named = format!(
        "SELECT r.id, r.name, r.lifecycle, {over} AS is_over, {back} AS takes_back, \
         CAST(1 AS BIGINT) AS rollouts{sums} {from} \
         GROUP BY r.id, r.name, r.lifecycle, r.reverts ORDER BY COALESCE(SUM(w.size), 0) DESC, r.name LIMIT {ROLLOUTS_NAMED}"
    );
    let mut largest = Vec::new();
    for raw in query::all::<RawHeads, C>(db, named, values()).await? {
        largest.push(RolloutHeads {
            id: query::id(&raw.id)?,
            people: raw.heads()?,
            name: raw.name,
            lifecycle: raw.lifecycle,
        });
    }
    Ok(HeadCount {
        at,
        rollouts,
        people,
        largest,
    })
}

#[cfg(test)]
mod tests {
    use sea_orm::Statement;

    use super::*;
    use crate::store::testing::each_app;
    use crate::store::{Lane, transact};

    /// Both looks of a pass that finds nothing are answered out of the index of what is due.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_look_for_what_is_due_is_one_index() {
        each_app!(app => {
            let is_postgres = app.store.is_postgres();
            let (how, place) = if is_postgres { ("EXPLAIN", 0) } else { ("EXPLAIN QUERY PLAN", 3) };
            let where_due = "FROM hold WHERE released_at IS NULL AND review_nag_at IS NOT NULL";
            let explained: Result<String, StoreError> =
                transact!(app.store, Lane::Ordinary, "test", |txn| {
                    if is_postgres {
                        // A table of no rows is read as a whole; what matters is that it need not be.
                        query::execute(txn, "SET LOCAL enable_seqscan = off", []).await?;
                    }
                    let backend = txn.get_database_backend();
                    let mut plan = String::new();
                    for sql in [
                        format!("{how} SELECT MIN(review_nag_at) AS number {where_due}"),
                        format!("{how} SELECT id {where_due} AND review_nag_at <= 5 ORDER BY review_nag_at, id LIMIT 16"),
                    ] {
                        let rows = txn.query_all_raw(Statement::from_string(backend, sql)).await?;
                        for row in rows {
                            let line: String = row.try_get_by_index(place)?;
                            plan.push_str(&line);
                        }
                        plan.push('\n');
                    }
                    Ok(plan)
                });
            let plan = explained.unwrap();
            for line in plan.lines() {
                assert!(line.contains("hold_review"), "{plan}");
            }
        });
    }
}
