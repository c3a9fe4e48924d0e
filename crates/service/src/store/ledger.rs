//! Batches: the rows that hold the people of every rollout, 1,024 at a time.
//!
//! Nothing here decides. The functions read and write whole batch rows inside a transaction that the
//! caller owns; what a row becomes is decided by `orchestrator::ledger`. Counts of a wave move in
//! the same transaction as its batches (`store::wave`), so they never have to be recounted.

use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Value};
use tidegate_orchestrator::ids::{
    BatchSeq, Epoch, Fence, Ordinal, PlanId, RolloutId, Timestamp, WaveNumber, WorkerId, millis,
};
use tidegate_orchestrator::lease::Lease;
use tidegate_orchestrator::ledger::{SlotState, Slots, Tally};

use super::StoreError;
use super::query::{self, rows_for};

/// Which batch: the rollout, the wave, and its place in the wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchAddress {
    /// The rollout.
    pub rollout: RolloutId,
    /// The wave.
    pub wave: WaveNumber,
    /// The place in the wave, from 0.
    pub seq: BatchSeq,
}

/// A batch row as a turn or a look-up needs it.
#[derive(Debug, Clone)]
pub struct BatchRow {
    /// Which batch.
    pub address: BatchAddress,
    /// How many people.
    pub size: u32,
    /// Their ordinals, packed.
    pub roster: Vec<u8>,
    /// Their states, packed.
    pub slots: Vec<u8>,
    /// Grows with every claim.
    pub fence: Fence,
    /// Who holds the lease.
    pub lease_owner: Option<String>,
    /// Until when, in milliseconds.
    pub lease_until: Option<i64>,
    /// The epoch of the last claim.
    pub epoch: Epoch,
}

impl BatchRow {
    /// Returns who holds the lease, and until when.
    ///
    /// # Errors
    ///
    /// When the row is damaged.
    pub fn lease(&self) -> Result<Option<Lease>, StoreError> {
        match (&self.lease_owner, self.lease_until) {
            (Some(owner), Some(until)) => Ok(Some(Lease {
                owner: query::id(owner)?,
                until: query::instant(until)?,
            })),
            _ => Ok(None),
        }
    }
}

/// Returns when there is next something to claim in a batch, in milliseconds: the end of its lease
/// while it has one.
#[must_use]
pub fn ready_of(slots: &Slots, lease_until: Option<i64>) -> Option<i64> {
    lease_until.or_else(|| slots.ready_at())
}

/// What a batch row becomes.
#[derive(Debug, Clone)]
pub struct BatchWrite {
    /// Which batch.
    pub address: BatchAddress,
    /// The fence the row must still carry; anything else means somebody else claimed it.
    pub fence_was: Fence,
    /// The fence from now on.
    pub fence: Fence,
    /// The epoch of the claim.
    pub epoch: Epoch,
    /// The states, packed.
    pub slots: Vec<u8>,
    /// The same states, counted.
    pub tally: Tally,
    /// How many of the done were there before we came.
    pub adopted: u64,
    /// When there is next something to claim, in milliseconds; before 0 for whoever comes first.
    pub ready_at: Option<i64>,
    /// Who holds the lease from now on, and until when.
    pub lease: Option<(WorkerId, i64)>,
}

#[derive(Debug, FromQueryResult)]
struct RawBatch {
    wave_no: i64,
    seq: i64,
    size: i64,
    roster: Vec<u8>,
    slots: Vec<u8>,
    fence: i64,
    lease_owner: Option<String>,
    lease_until: Option<i64>,
    epoch: i64,
}

const COLUMNS: &str = "wave_no, seq, size, roster, slots, fence, lease_owner, lease_until, epoch";

/// The counters of a batch or wave row, in the order of their columns and of `SlotState::ALL`.
pub(super) const COUNTERS: [&str; SlotState::ALL.len()] = [
    "queued",
    "in_flight",
    "awaiting",
    "done",
    "failed",
    "retry",
    "unknown",
    "skipped",
    "departed",
    "reverting",
    "reverted",
    "review",
    "transferred",
    "parked",
];

fn batch_row(rollout: RolloutId, raw: RawBatch) -> Result<BatchRow, StoreError> {
    Ok(BatchRow {
        address: BatchAddress {
            rollout,
            wave: WaveNumber::new(query::unsigned(raw.wave_no)?),
            seq: BatchSeq::new(query::unsigned(raw.seq)?),
        },
        size: query::unsigned(raw.size)?,
        roster: raw.roster,
        slots: raw.slots,
        fence: Fence::new(raw.fence),
        lease_owner: raw.lease_owner,
        lease_until: raw.lease_until,
        epoch: Epoch(raw.epoch),
    })
}

/// Reads up to `limit` batches of a wave that have something to claim now, in order of sequence of
/// readiness, and locks them against other replicas. `begun_only`: only those with somebody who was
/// begun and is not settled.
pub async fn batches_claimable<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    wave: WaveNumber,
    now_ms: i64,
    (limit, begun_only): (usize, bool),
) -> Result<Vec<BatchRow>, StoreError> {
    let lock = query::skip_locked(db);
    let begun = if begun_only {
        " AND in_flight + awaiting + retry + unknown > 0"
    } else {
        ""
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM batch WHERE rollout_id = $1 AND wave_no = $2 AND ready_at <= $3{begun} \
         ORDER BY ready_at, seq LIMIT $4{lock}"
    );
    let values = [
        rollout.to_string().into(),
        i64::from(wave.get()).into(),
        now_ms.into(),
        query::signed(limit)?.into(),
    ];
    let raws: Vec<RawBatch> = query::all(db, sql, values).await?;
    raws.into_iter()
        .map(|raw| batch_row(rollout, raw))
        .collect()
}

/// Returns the earliest instant at which a batch of the wave has something to claim.
pub async fn wave_ready_at<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    wave: WaveNumber,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT MIN(ready_at) AS number FROM batch \
               WHERE rollout_id = $1 AND wave_no = $2 AND ready_at IS NOT NULL";
    let values = [rollout.to_string().into(), i64::from(wave.get()).into()];
    Ok(query::one::<query::MaybeNumber, _>(db, sql, values)
        .await?
        .and_then(|row| row.number))
}

/// Reads the named batches of one wave and locks them for writing.
pub async fn batches_for_update<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    wave: WaveNumber,
    seqs: &[BatchSeq],
) -> Result<Vec<BatchRow>, StoreError> {
    let lock = query::for_update(db);
    let mut found = Vec::with_capacity(seqs.len());
    for part in query::parts(seqs) {
        let list = query::placeholders(3, part.len());
        // In order of sequence, so that two replicas lock in the same order.
        let sql = format!(
            "SELECT {COLUMNS} FROM batch WHERE rollout_id = $1 AND wave_no = $2 \
             AND seq IN ({list}) ORDER BY seq{lock}"
        );
        let mut values: Vec<Value> = vec![rollout.to_string().into(), i64::from(wave.get()).into()];
        values.extend(part.iter().map(|seq| Value::from(i64::from(seq.get()))));
        let raws: Vec<RawBatch> = query::all(db, sql, values).await?;
        for raw in raws {
            found.push(batch_row(rollout, raw)?);
        }
    }
    Ok(found)
}

/// Reads batches of a rollout in order, after an address, that hold somebody in the state.
pub async fn batches_page<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    wave: Option<WaveNumber>,
    after: (i64, i64),
    state: Option<SlotState>,
    limit: usize,
) -> Result<Vec<BatchRow>, StoreError> {
    let state_filter = match state {
        // The name comes from the closed list of states, never from a client.
        Some(state) => format!(" AND {} > 0", state.name()),
        None => String::new(),
    };
    let wave_filter = if wave.is_some() {
        " AND wave_no = $5"
    } else {
        ""
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM batch WHERE rollout_id = $1 \
         AND (wave_no > $2 OR (wave_no = $2 AND seq > $3)){state_filter}{wave_filter} \
         ORDER BY wave_no, seq LIMIT $4"
    );
    let mut values: Vec<Value> = vec![
        rollout.to_string().into(),
        after.0.into(),
        after.1.into(),
        query::signed(limit)?.into(),
    ];
    values.extend(wave.map(|wave| Value::from(i64::from(wave.get()))));
    let raws: Vec<RawBatch> = query::all(db, sql, values).await?;
    raws.into_iter()
        .map(|raw| batch_row(rollout, raw))
        .collect()
}

/// Reads the batches whose range of ordinals covers a member: at most one per wave of those laid out at
/// the start, and any of those added later.
pub async fn batches_covering<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    ordinal: Ordinal,
) -> Result<Vec<BatchRow>, StoreError> {
    let columns = "b.wave_no, b.seq, b.size, b.roster, b.slots, b.fence, b.lease_owner, \
                   b.lease_until, b.epoch FROM wave w JOIN batch b ON b.rollout_id = w.rollout_id \
                   AND b.wave_no = w.wave_no";
    let sql = format!(
        "SELECT {columns} AND b.ordinal_min = (SELECT MAX(c.ordinal_min) \
         FROM batch c WHERE c.rollout_id = w.rollout_id AND c.wave_no = w.wave_no \
         AND c.ordinal_min <= $2 AND (w.late_from IS NULL OR c.seq < w.late_from)) \
         WHERE w.rollout_id = $1 AND b.ordinal_max >= $2 \
         AND (w.late_from IS NULL OR b.seq < w.late_from) UNION ALL \
         SELECT {columns} AND b.seq >= w.late_from AND b.ordinal_min <= $2 AND b.ordinal_max >= $2 \
         WHERE w.rollout_id = $1 AND w.late_from IS NOT NULL ORDER BY 1, 2"
    );
    let values = [rollout.to_string().into(), i64::from(ordinal.get()).into()];
    let raws: Vec<RawBatch> = query::all(db, sql, values).await?;
    raws.into_iter()
        .map(|raw| batch_row(rollout, raw))
        .collect()
}

/// Writes batches whose fence is still what it was, and returns how many were.
pub async fn batches_write<C: ConnectionTrait>(
    db: &C,
    writes: &[BatchWrite],
) -> Result<u64, StoreError> {
    let mut written = 0;
    for part in query::parts(writes) {
        let width = 11 + COUNTERS.len();
        let mut values = Vec::with_capacity(part.len() * width);
        for write in part {
            push_write(&mut values, write)?;
        }
        written += query::execute(db, write_sql(part.len()), values).await?;
    }
    Ok(written)
}

fn push_write(values: &mut Vec<Value>, write: &BatchWrite) -> Result<(), StoreError> {
    let (owner, until) = match write.lease {
        Some((owner, until)) => (Some(owner.to_string()), Some(until)),
        None => (None, None),
    };
    values.push(write.address.rollout.to_string().into());
    values.push(i64::from(write.address.wave.get()).into());
    values.push(i64::from(write.address.seq.get()).into());
    values.push(write.fence_was.get().into());
    values.push(write.fence.get().into());
    values.push(write.epoch.get().into());
    values.push(write.slots.clone().into());
    values.push(write.ready_at.into());
    values.push(owner.into());
    values.push(until.into());
    values.push(query::signed(write.adopted)?.into());
    for state in SlotState::ALL.iter().copied() {
        values.push(query::signed(write.tally.get(state))?.into());
    }
    Ok(())
}

fn write_sql(rows: usize) -> String {
    let mut set = String::new();
    for (index, counter) in COUNTERS.iter().enumerate() {
        set.push_str(&format!(", {counter} = v.column{}", index + 12));
    }
    format!(
        "UPDATE batch SET fence = v.column5, epoch = v.column6, slots = v.column7, \
         ready_at = v.column8, lease_owner = v.column9, lease_until = v.column10, \
         adopted = v.column11{set} FROM (VALUES {}) AS v \
         WHERE batch.rollout_id = v.column1 AND batch.wave_no = v.column2 \
         AND batch.seq = v.column3 AND batch.fence = v.column4",
        rows_for(rows, 11 + COUNTERS.len())
    )
}

/// Lets every lease of a rollout end at `until_ms` that would end later, and returns how many did.
pub async fn leases_shorten<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    until_ms: i64,
) -> Result<u64, StoreError> {
    let sql = "UPDATE batch SET lease_until = $2, ready_at = $2 \
               WHERE rollout_id = $1 AND lease_owner IS NOT NULL AND lease_until > $2";
    query::execute(db, sql, [rollout.to_string().into(), until_ms.into()]).await
}

/// Puts the batches whose lease was over at `now_ms` before all that wait, and returns how many there were:
/// 0 is the place of those whom nobody has begun.
pub async fn leases_lost_first<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    now_ms: i64,
) -> Result<u64, StoreError> {
    let sql = format!("UPDATE batch SET ready_at = -1 {LEASE_LOST}");
    query::execute(db, sql, [rollout.to_string().into(), now_ms.into()]).await
}

/// Says whether a rollout has batches whose lease was over at `now_ms`, and that are not first yet.
pub async fn leases_are_lost<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let sql = format!("SELECT COUNT(*) AS number FROM batch {LEASE_LOST}");
    let values = [rollout.to_string().into(), now_ms.into()];
    let row: Option<query::Number> = query::one(db, sql, values).await?;
    Ok(row.is_some_and(|row| row.number > 0))
}

/// Returns batches that were put first because their lease is lost, and whose lease was over at `before_ms`.
pub async fn leases_lost_long<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    before_ms: i64,
    limit: usize,
) -> Result<Vec<BatchAddress>, StoreError> {
    let sql = "SELECT wave_no, seq, size FROM batch WHERE rollout_id = $1 AND wave_no IN (SELECT wave_no FROM wave \
               WHERE rollout_id = $1 AND in_flight > 0) AND ready_at < 0 AND in_flight > 0 \
               AND lease_owner IS NOT NULL AND lease_until <= $2 ORDER BY wave_no, seq LIMIT $3";
    let limit = query::signed(limit)?;
    let values = [rollout.to_string().into(), before_ms.into(), limit.into()];
    let raws: Vec<RawExtent> = query::all(db, sql, values).await?;
    raws.iter()
        .map(|raw| {
            Ok(BatchAddress {
                rollout,
                wave: WaveNumber(query::unsigned(raw.wave_no)?),
                seq: BatchSeq(query::unsigned(raw.seq)?),
            })
        })
        .collect()
}

/// By wave, so that the index of what is ready finds them.
const LEASE_LOST: &str = "WHERE rollout_id = $1 AND wave_no IN (SELECT wave_no FROM wave \
     WHERE rollout_id = $1 AND in_flight > 0) AND ready_at > 0 AND ready_at <= $2 \
     AND lease_owner IS NOT NULL AND lease_until <= $2";

/// Copies batches `from..until` of a wave out of a plan, everybody queued, and returns how many people
/// are in those that were not there.
///
/// Copying the same range twice copies nothing the second time.
pub async fn batches_prepare<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    plan: PlanId,
    wave: WaveNumber,
    range: (u32, u32),
    queued: &(dyn Fn(u32) -> Result<Vec<u8>, StoreError> + Sync),
) -> Result<u64, StoreError> {
    let sizes: Vec<query::Number> = query::all(
        db,
        "SELECT DISTINCT size AS number FROM plan_roster WHERE plan_id = $1 AND wave_no = $2 \
         AND seq >= $3 AND seq < $4",
        [
            plan.to_string().into(),
            i64::from(wave.get()).into(),
            i64::from(range.0).into(),
            i64::from(range.1).into(),
        ],
    )
    .await?;
    let mut copied = 0;
    for size in sizes {
        let values: [Value; 7] = [
            rollout.to_string().into(),
            plan.to_string().into(),
            i64::from(wave.get()).into(),
            i64::from(range.0).into(),
            i64::from(range.1).into(),
            size.number.into(),
            queued(query::unsigned(size.number)?)?.into(),
        ];
        let batches = query::execute(
            db,
            "INSERT INTO batch (rollout_id, wave_no, seq, size, ordinal_min, ordinal_max, roster, \
             slots, queued, in_flight, awaiting, done, failed, retry, unknown, skipped, departed, \
             reverting, reverted, review, transferred, adopted, ready_at, lease_owner, lease_until, fence, \
             epoch) SELECT $1, wave_no, seq, size, ordinal_min, ordinal_max, roster, $7, size, \
             0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, 0, 0 FROM plan_roster \
             WHERE plan_id = $2 AND wave_no = $3 AND seq >= $4 AND seq < $5 AND size = $6 \
             ON CONFLICT (rollout_id, wave_no, seq) DO NOTHING",
            values,
        )
        .await?;
        copied += batches * query::unsigned64(size.number)?;
    }
    Ok(copied)
}

/// Returns batches `range` of a wave with how many people are in each, in order.
pub async fn batches_people<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    wave: WaveNumber,
    range: (u32, u32),
) -> Result<Vec<(u32, u64)>, StoreError> {
    let sql = "SELECT wave_no, seq, size FROM batch WHERE rollout_id = $1 AND wave_no = $2 AND seq >= $3 AND seq < $4 \
               ORDER BY seq";
    let values = [
        rollout.to_string().into(),
        i64::from(wave.get()).into(),
        i64::from(range.0).into(),
        i64::from(range.1).into(),
    ];
    let raws: Vec<RawExtent> = query::all(db, sql, values).await?;
    raws.iter()
        .map(|raw| Ok((query::unsigned(raw.seq)?, query::unsigned64(raw.size)?)))
        .collect()
}

/// Counts the people in flight whose worker has a lease in force: what became of them is still written.
pub async fn in_flight_leased<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let sql = "SELECT CAST(COALESCE(SUM(in_flight), 0) AS BIGINT) AS number FROM batch \
               WHERE rollout_id = $1 AND in_flight > 0 AND lease_owner IS NOT NULL AND lease_until > $2";
    let values = [rollout.to_string().into(), millis(now).into()];
    let row: Option<query::Number> = query::one(db, sql, values).await?;
    query::unsigned64(row.map_or(0, |row| row.number))
}

/// Tells PostgreSQL how the batches are spread. Until it knows, it takes any index that begins with
/// rollout and wave for as good as the key, and goes through a whole wave to write one batch.
pub async fn batches_survey<C: ConnectionTrait>(db: &C) -> Result<(), StoreError> {
    if db.get_database_backend() == DbBackend::Postgres {
        query::execute(db, "ANALYZE batch", []).await?;
    }
    Ok(())
}

#[derive(Debug, FromQueryResult)]
struct RawTally {
    wave_no: i64,
    seq: i64,
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

/// Reads what the columns of batches count, in order, after an address.
pub async fn batch_tallies<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
    after: (i64, i64),
    limit: usize,
) -> Result<Vec<(WaveNumber, BatchSeq, Tally)>, StoreError> {
    let sql = "SELECT wave_no, seq, queued, in_flight, awaiting, done, failed, retry, unknown, skipped, departed, \
               reverting, reverted, review, transferred, parked FROM batch WHERE rollout_id = $1 \
               AND (wave_no > $2 OR (wave_no = $2 AND seq > $3)) ORDER BY wave_no, seq LIMIT $4";
    let values = [
        rollout.to_string().into(),
        after.0.into(),
        after.1.into(),
        query::signed(limit)?.into(),
    ];
    let raws: Vec<RawTally> = query::all(db, sql, values).await?;
    raws.into_iter()
        .map(|raw| {
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
            let mut tally = Tally::ZERO;
            for (state, count) in SlotState::ALL.iter().zip(counts) {
                tally.add(*state, query::unsigned64(count)?);
            }
            Ok((
                WaveNumber(query::unsigned(raw.wave_no)?),
                BatchSeq(query::unsigned(raw.seq)?),
                tally,
            ))
        })
        .collect()
}

#[derive(Debug, FromQueryResult)]
struct RawExtent {
    wave_no: i64,
    seq: i64,
    size: i64,
}

/// Reads how many people each batch of a rollout holds.
pub async fn batch_sizes<C: ConnectionTrait>(
    db: &C,
    rollout: RolloutId,
) -> Result<Vec<(WaveNumber, BatchSeq, u16)>, StoreError> {
    let sql = "SELECT wave_no, seq, size FROM batch WHERE rollout_id = $1";
    let raws: Vec<RawExtent> = query::all(db, sql, [rollout.to_string().into()]).await?;
    raws.iter()
        .map(|raw| {
            Ok((
                WaveNumber(query::unsigned(raw.wave_no)?),
                BatchSeq(query::unsigned(raw.seq)?),
                u16::try_from(raw.size).map_err(StoreError::corrupt)?,
            ))
        })
        .collect()
}
