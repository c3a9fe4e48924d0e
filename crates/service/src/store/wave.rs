//! Wave rows: the counts of a wave, and whether its batches may be claimed.

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use tidegate_orchestrator::ids::{RolloutId, Timestamp, WaveNumber, millis};
use tidegate_orchestrator::ledger::{SlotState, Tally};
use tidegate_orchestrator::rollout::Claims;

use super::StoreError;
use super::ledger::COUNTERS;
use super::query;

/// A wave as it is stored.
#[derive(Debug, Clone)]
pub struct WaveRow {
    /// The rollout.
    pub rollout: RolloutId,
    /// The place of the wave, from 1.
    pub number: WaveNumber,
    /// Its name.
    pub name: String,
    /// Whether its batches may be claimed: the planner's decision.
    pub claimable: bool,
    /// No claim at or after this instant.
    pub claim_until: Option<Timestamp>,
    /// How many of its people may have been begun in all.
    pub begin_at_most: Option<u64>,
    /// How many people are in it.
    pub size: u64,
    /// The same people by state.
    pub tally: Tally,
    /// How many of the done were there before we came.
    pub adopted: u64,
    /// Whether a revert takes its people back: nobody of it is begun meanwhile.
    pub taking_back: bool,
}

/// What one transaction adds to the counts of a wave and takes from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CountChange {
    states: [i64; SlotState::ALL.len()],
    adopted: i64,
}

impl CountChange {
    /// Adds what a batch counts now and takes away what it counted before.
    pub fn replace(&mut self, before: (&Tally, u64), after: (&Tally, u64)) {
        for (state, change) in SlotState::ALL.iter().copied().zip(&mut self.states) {
            let (was, is) = (before.0.get(state), after.0.get(state));
            *change = change
                .saturating_add_unsigned(is)
                .saturating_sub_unsigned(was);
        }
        self.adopted = self.adopted.saturating_add_unsigned(after.1);
        self.adopted = self.adopted.saturating_sub_unsigned(before.1);
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, FromQueryResult)]
pub(super) struct RawWave {
    rollout_id: String,
    wave_no: i64,
    name: String,
    claimable: i64,
    claim_until: Option<i64>,
    begin_at_most: Option<i64>,
    size: i64,
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
    adopted: i64,
    taking_back: i64,
}

impl TryFrom<RawWave> for WaveRow {
    type Error = StoreError;

    fn try_from(raw: RawWave) -> Result<Self, StoreError> {
        let counts = [
            raw.queued,
            raw.in_flight,
            raw.awaiting,
            raw.done,
            raw.failed,
            raw.retry,
            raw.unknown,
            raw.skipped,
            raw.departed,
            raw.reverting,
            raw.reverted,
            raw.review,
            raw.transferred,
            raw.parked,
        ];
        let mut tally = Tally::default();
        for (state, count) in SlotState::ALL.iter().copied().zip(counts) {
            tally.add(state, query::unsigned64(count)?);
        }
        Ok(Self {
            rollout: query::id(&raw.rollout_id)?,
            number: WaveNumber::new(query::unsigned(raw.wave_no)?),
            name: raw.name,
            claimable: raw.claimable != 0,
            claim_until: raw.claim_until.map(query::instant).transpose()?,
            begin_at_most: raw.begin_at_most.map(query::unsigned64).transpose()?,
            size: query::unsigned64(raw.size)?,
            tally,
            adopted: query::unsigned64(raw.adopted)?,
            taking_back: raw.taking_back > 0,
        })
    }
}

/// Reads the waves of a rollout in order.
pub async fn waves_load<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
) -> Result<Vec<WaveRow>, StoreError> {
    let sql = "SELECT * FROM wave WHERE rollout_id = $1 ORDER BY wave_no";
    let raws: Vec<RawWave> = query::all(db, sql, [rollout.to_string().into()]).await?;
    raws.into_iter().map(WaveRow::try_from).collect()
}

/// Writes a wave with everybody queued; a wave that is there already stays as it is.
pub async fn wave_insert<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    number: WaveNumber,
    name: &str,
    size: u64,
) -> Result<(), StoreError> {
    let size = query::signed(size)?;
    query::execute(
        db,
        "INSERT INTO wave (rollout_id, wave_no, name, claimable, claim_until, begin_at_most, size, queued, \
         in_flight, awaiting, done, failed, retry, unknown, skipped, departed, reverting, \
         reverted, review, transferred, adopted) VALUES ($1, $2, $3, 0, NULL, NULL, $4, $4, 0, 0, 0, 0, 0, 0, 0, 0, \
         0, 0, 0, 0, 0) ON CONFLICT (rollout_id, wave_no) DO NOTHING",
        [
            rollout.to_string().into(),
            i64::from(number.get()).into(),
            name.into(),
            size.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Counts people that were added to a wave after the start, in batches from `late_from` on.
pub async fn wave_widen<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    number: WaveNumber,
    (people, late_from): (u64, u32),
) -> Result<(), StoreError> {
    let people = query::signed(people)?;
    query::execute(
        db,
        "UPDATE wave SET size = size + $3, queued = queued + $3, late_from = COALESCE(late_from, $4) \
         WHERE rollout_id = $1 AND wave_no = $2",
        [
            rollout.to_string().into(),
            i64::from(number.get()).into(),
            people.into(),
            i64::from(late_from).into(),
        ],
    )
    .await?;
    Ok(())
}

/// Says whether the batches of a wave may be claimed, and within which bounds; `None`: not at all.
pub async fn wave_claims_set<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    number: WaveNumber,
    claims: Option<Claims>,
) -> Result<(), StoreError> {
    let begin_at_most = claims
        .and_then(|claims| claims.begin_at_most)
        .map(query::signed)
        .transpose()?;
    query::execute(
        db,
        "UPDATE wave SET claimable = $3, claim_until = $4, begin_at_most = $5 WHERE rollout_id = $1 AND wave_no = $2",
        [
            rollout.to_string().into(),
            i64::from(number.get()).into(),
            i64::from(claims.is_some()).into(),
            claims.and_then(|claims| claims.until).map(millis).into(),
            begin_at_most.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Lets nobody of a rollout be claimed any more, without reading it: its rows may be damaged.
pub async fn waves_close<C: ConnectionTrait>(db: &C, rollout: RolloutId) -> Result<(), StoreError> {
    let sql = "UPDATE wave SET claimable = 0 WHERE rollout_id = $1 AND claimable <> 0";
    query::execute(db, sql, [rollout.to_string().into()]).await?;
    Ok(())
}

/// Moves the counts of a wave by what its batches changed.
pub async fn wave_count<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    number: WaveNumber,
    change: &CountChange,
) -> Result<(), StoreError> {
    let mut set = String::new();
    for (index, counter) in COUNTERS.iter().enumerate() {
        set.push_str(&format!("{counter} = {counter} + ${}, ", index + 3));
    }
    let mut values: Vec<Value> = vec![rollout.to_string().into(), i64::from(number.get()).into()];
    values.extend(change.states.iter().map(|count| Value::from(*count)));
    values.push(change.adopted.into());
    let changed = query::execute(
        db,
        format!(
            "UPDATE wave SET {set}adopted = adopted + ${} WHERE rollout_id = $1 AND wave_no = $2",
            COUNTERS.len() + 3
        ),
        values,
    )
    .await?;
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::NotFound)
    }
}

#[derive(Debug, FromQueryResult)]
struct RawReady {
    rollout_id: String,
}

/// Returns the rollouts that have something to claim at `now_ms`.
pub async fn rollouts_ready<C: ConnectionTrait>(
    db: &C,
    now_ms: i64,
    limit: usize,
) -> Result<Vec<RolloutId>, StoreError> {
    let sql = "SELECT DISTINCT w.rollout_id FROM wave w WHERE w.claimable = 1 AND w.taking_back = 0 \
               AND (w.claim_until IS NULL OR w.claim_until > $1) \
               AND (w.begin_at_most IS NULL OR w.size - w.skipped - w.departed - w.transferred - w.queued < w.begin_at_most \
               OR w.in_flight + w.awaiting + w.retry + w.unknown > 0) \
               AND EXISTS (SELECT 1 FROM batch b WHERE b.rollout_id = w.rollout_id \
               AND b.wave_no = w.wave_no AND b.ready_at <= $1) LIMIT $2";
    let raws: Vec<RawReady> =
        query::all(db, sql, [now_ms.into(), query::signed(limit)?.into()]).await?;
    raws.iter().map(|raw| query::id(&raw.rollout_id)).collect()
}

/// Returns the rollouts that have somebody in flight.
pub async fn rollouts_in_flight<C: ConnectionTrait>(db: &C) -> Result<Vec<RolloutId>, StoreError> {
    let sql = "SELECT DISTINCT rollout_id FROM wave WHERE in_flight > 0";
    let raws: Vec<RawReady> = query::all(db, sql, []).await?;
    raws.iter().map(|raw| query::id(&raw.rollout_id)).collect()
}

/// One approval of a wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRow {
    /// The wave.
    pub wave: WaveNumber,
    /// Who approved.
    pub principal: String,
    /// The digest of the plan that was approved.
    pub plan_digest: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

#[derive(Debug, FromQueryResult)]
struct RawApproval {
    wave_no: i64,
    principal: String,
    plan_digest: String,
    reason: String,
    at: i64,
}

/// Reads the approvals of every wave of a rollout.
pub async fn approvals_load<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
) -> Result<Vec<ApprovalRow>, StoreError> {
    let sql = "SELECT wave_no, principal, plan_digest, reason, at FROM wave_approval \
               WHERE rollout_id = $1 ORDER BY wave_no, at, principal";
    let raws: Vec<RawApproval> = query::all(db, sql, [rollout.to_string().into()]).await?;
    raws.into_iter()
        .map(|raw| {
            Ok(ApprovalRow {
                wave: WaveNumber::new(query::unsigned(raw.wave_no)?),
                principal: raw.principal,
                plan_digest: raw.plan_digest,
                reason: raw.reason,
                at: query::instant(raw.at)?,
            })
        })
        .collect()
}

/// Writes an approval; the same person approving again replaces the first.
pub async fn approval_put<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    approval: &ApprovalRow,
) -> Result<(), StoreError> {
    query::execute(
        db,
        "INSERT INTO wave_approval (rollout_id, wave_no, principal, plan_digest, reason, at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (rollout_id, wave_no, principal) \
         DO UPDATE SET plan_digest = $4, reason = $5, at = $6",
        [
            rollout.to_string().into(),
            i64::from(approval.wave.get()).into(),
            approval.principal.clone().into(),
            approval.plan_digest.clone().into(),
            approval.reason.clone().into(),
            millis(approval.at).into(),
        ],
    )
    .await?;
    Ok(())
}
