//! Sorts the people of waves on some of whom a hold lies, and widens such a hold when somebody may have
//! come back into the queue. What it all means is said in `orchestrator::hold::part`.
//!
//! Sorting is level-triggered: it brings a whole wave in line with all the conditions in force, whoever was
//! placed or released, and doing it again changes nobody. A crash in the middle leaves the wave held.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate_orchestrator::hold::part::{Picked, Sorted, sort as sorted_out};
use tidegate_orchestrator::hold::{Hold, HoldSet, Part, Scope};
use tidegate_orchestrator::ids::{
    BatchSeq, Generation, HoldId, PlanId, PopulationVersionId, RolloutId, Timestamp, WaveNumber,
};
use tidegate_orchestrator::ledger::{Slots, history};
use tidegate_orchestrator::roster;
use tidegate_orchestrator::sentence::people as counted;
use tidegate_policy::Condition;

use super::join;
use super::rows::{self, HoldRow};
use crate::app::App;
use crate::operations::slots::{decide_after_lapse, is_lease_over};
use crate::operations::{Actor, OperationError, condition, load, member};
use crate::store::ledger::{self, BatchRow};
use crate::store::part::holds_of_part;
use crate::store::wave::{self, CountChange};
use crate::store::{Connection, Lane, StoreError, Txn, rollout as rollouts, transact};

/// How many batches one read brings.
const BATCHES_PER_READ: usize = 256;
/// How many batches one step sorts.
const BATCHES_PER_STEP: usize = 32;
/// How many sets of conditions are remembered while waves are being sorted.
const KNOWN_MAX: usize = 8;

/// Whom a hold on some people of a wave keeps back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PartView {
    /// Whether they have been sorted out: until then the whole wave stands.
    pub sorted: bool,
    /// How many it keeps back; none before they have been sorted out.
    pub people: Option<u64>,
    /// The same in words, and what it waits for.
    pub sentence: String,
}

/// Shows whom a hold on some people keeps back.
///
/// # Errors
///
/// When the store cannot be reached.
pub(super) async fn show(app: &App, hold: &Hold) -> Result<Option<PartView>, OperationError> {
    let Some(part) = &hold.part else {
        return Ok(None);
    };
    let (condition, people) = (&part.condition, counted(part.people.unwrap_or(0)));
    let sentence = match (hold.is_in_force(), part.is_sorted) {
        (true, true) if part.people == Some(0) => format!(
            "keeps nobody back: of those of the wave with whom nobody has begun, there is nobody for whom {condition}; \
             check the value, or release it"
        ),
        (true, true) => format!(
            "keeps {people} of the wave back, those with whom nobody has begun and for whom {condition}; the \
             others go on, and the wave does not pass without them"
        ),
        (true, false) => match unfit(app, hold).await? {
            Some(why) => {
                format!("holds the whole wave, because its condition cannot be asked: {why}")
            }
            None => format!(
                "holds the whole wave until its people are sorted, and nobody is in flight for whom {condition}"
            ),
        },
        (false, _) if is_over(app, hold).await? => {
            "has ended, as has its rollout: whoever it kept back stays where they are".to_owned()
        }
        (false, true) => "has ended; whom it kept back was let go".to_owned(),
        (false, false) => "has ended; whom it kept back is being let go".to_owned(),
    };
    Ok(Some(PartView {
        sorted: part.is_sorted,
        people: part.people,
        sentence,
    }))
}

async fn is_over(app: &App, hold: &Hold) -> Result<bool, OperationError> {
    let Some(rollout) = hold.scope.uuid() else {
        return Ok(false);
    };
    let row = load::row(app, RolloutId::new(rollout)).await?;
    Ok(matches!(row.lifecycle.as_str(), "completed" | "cancelled"))
}

/// Says why the condition of a hold cannot be asked of the people there are now.
async fn unfit(app: &App, hold: &Hold) -> Result<Option<String>, OperationError> {
    let (Some(part), Some(rollout)) = (&hold.part, hold.scope.uuid()) else {
        return Ok(None);
    };
    let row = load::row(app, RolloutId::new(rollout)).await?;
    match row.plan {
        Some(plan) => {
            let version = load::plan(app, plan).await?.population_version;
            let checked = condition::check(app, version, &part.condition).await?;
            Ok(checked.err())
        }
        None => Ok(None),
    }
}

/// What a sorting rests on. When any of it changes, it begins anew.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Basis {
    plan: PlanId,
    holds: Vec<(HoldId, Generation)>,
}

/// The holds of a wave, and what they rest on; nothing while the rollout is not under way.
struct Seen {
    basis: Basis,
    holds: Vec<(HoldRow, Hold)>,
}

impl Seen {
    async fn read<C: Connection>(
        db: &C,
        rollout: RolloutId,
        wave: WaveNumber,
    ) -> Result<Option<Self>, StoreError> {
        let row = rollouts::rollout_load(db, rollout).await?;
        let row = row.filter(|row| row.lifecycle == "running");
        let Some(plan) = row.and_then(|row| row.plan) else {
            return Ok(None);
        };
        let holds = holds_of_part(db, rollout, wave).await?;
        let known = holds.iter().map(|(_, hold)| (hold.id, hold.generation));
        let basis = Basis {
            plan,
            holds: known.collect(),
        };
        Ok(Some(Self { basis, holds }))
    }

    fn is_sorted(&self) -> bool {
        let parts = self.holds.iter().filter_map(|(_, hold)| hold.part.as_ref());
        parts.into_iter().all(|part| part.is_sorted)
    }

    /// Returns the conditions in force, in the order of the holds.
    fn conditions(&self) -> Vec<Condition> {
        let in_force = self.holds.iter().filter(|(_, hold)| hold.is_in_force());
        let parts = in_force.filter_map(|(_, hold)| hold.part.as_ref());
        parts.map(|part| part.condition.clone()).collect()
    }
}

/// What the batches of a wave have come to.
#[derive(Debug, Default)]
struct Sum {
    /// By condition: how many it keeps back.
    kept: Vec<u64>,
    /// How many who are meant are in flight.
    busy: u64,
}

impl Sum {
    fn of(picked: &[Picked]) -> Self {
        Self {
            kept: vec![0; picked.len()],
            busy: 0,
        }
    }

    fn add(&mut self, sorted: &Sorted) {
        for (kept, more) in self.kept.iter_mut().zip(&sorted.kept) {
            *kept += more;
        }
        self.busy += sorted.busy;
    }

    fn plus(&mut self, more: &Self) {
        for (kept, more) in self.kept.iter_mut().zip(&more.kept) {
            *kept += more;
        }
        self.busy += more.busy;
    }
}

/// How far the sorting of a wave has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left to do.
    Done,
    /// It begins anew in a moment: something changed meanwhile, or somebody who is meant is in flight.
    Later,
    /// A condition cannot be asked of the people there are: the wave stays held until the hold or the plan is another.
    Stuck,
}

/// Whom the conditions of waves that are being sorted pick, so that a wave that waits for somebody in flight is not
/// asked about anew each time.
#[derive(Debug, Default)]
pub struct Known(Vec<(PopulationVersionId, Vec<Condition>, Arc<Vec<Picked>>)>);

impl Known {
    async fn picked(
        &mut self,
        app: &App,
        version: PopulationVersionId,
        conditions: &[Condition],
    ) -> Result<Arc<Vec<Picked>>, StoreError> {
        let same = |(of, by, _): &&(PopulationVersionId, Vec<Condition>, Arc<Vec<Picked>>)| {
            *of == version && by == conditions
        };
        if let Some((_, _, picked)) = self.0.iter().find(same) {
            return Ok(Arc::clone(picked));
        }
        let asked = conditions.iter().flat_map(Condition::attributes);
        let asked: Vec<String> = asked.map(str::to_owned).collect();
        let people = member::load(app, version, &asked).await?;
        let by = conditions.to_vec();
        // On a thread of its own, and before any lock is taken: a costly condition keeps no stop waiting.
        let picking = tokio::task::spawn_blocking(move || {
            let each = by.iter().map(|condition| Picked::of(condition, &people));
            each.collect::<Vec<_>>()
        });
        let picked = Arc::new(picking.await.map_err(StoreError::corrupt)?);
        if self.0.len() >= KNOWN_MAX {
            self.0.remove(0);
        }
        self.0
            .push((version, conditions.to_vec(), Arc::clone(&picked)));
        Ok(picked)
    }
}

/// Sorts the people of a wave, and narrows the holds on some of them.
///
/// # Errors
///
/// When the store cannot be reached or a row is damaged: the wave stays held.
pub async fn sort(
    app: &App,
    known: &mut Known,
    (rollout, wave): (RolloutId, WaveNumber),
) -> Result<Progress, OperationError> {
    let Some(seen) = Seen::read(app.store.read(), rollout, wave).await? else {
        return Ok(Progress::Later);
    };
    if seen.is_sorted() {
        return Ok(Progress::Done);
    }
    let conditions = seen.conditions();
    let version = load::plan(app, seen.basis.plan).await?.population_version;
    for asked in &conditions {
        if let Err(why) = condition::check(app, version, asked).await? {
            tracing::debug!(%rollout, wave = wave.get(), why, "a wave stays held: a condition cannot be asked");
            return Ok(Progress::Stuck);
        }
    }
    let picked = known.picked(app, version, &conditions).await?;
    let Some(sum) = pass(app, (rollout, wave), &seen.basis, &picked).await? else {
        return Ok(Progress::Later);
    };
    if sum.busy > 0 {
        // What is in flight ends, or its lease does: then they are sorted out like everybody.
        return Ok(Progress::Later);
    }
    match narrow(app, (rollout, wave), &seen.basis, &sum).await? {
        true => Ok(Progress::Done),
        false => Ok(Progress::Later),
    }
}

/// Goes through a wave once; nothing when its holds changed meanwhile. What is right already is only read: while the
/// wave is held nobody comes into the queue, and whatever else might bring somebody there changes the holds.
async fn pass(
    app: &App,
    (rollout, wave): (RolloutId, WaveNumber),
    basis: &Basis,
    picked: &[Picked],
) -> Result<Option<Sum>, OperationError> {
    let mut sum = Sum::of(picked);
    let mut after = (i64::from(wave.get()), -1);
    loop {
        let now = app.store.now().await?;
        let (db, only) = (app.store.read(), Some(wave));
        let page = ledger::batches_page(db, rollout, only, after, None, BATCHES_PER_READ).await?;
        let Some(last) = page.last() else {
            return Ok(Some(sum));
        };
        after.1 = i64::from(last.address.seq.get());
        let mut wrong: Vec<BatchSeq> = Vec::new();
        for row in &page {
            let sorted = of_batch(now, row, picked)?;
            if sorted.changes.is_empty() {
                sum.add(&sorted);
            } else {
                wrong.push(row.address.seq);
            }
        }
        for seqs in wrong.chunks(BATCHES_PER_STEP) {
            let place = (rollout, wave);
            let stepped: Result<Option<Sum>, OperationError> =
                transact!(app.store, Lane::Ordinary, "people_park", |txn| {
                    step(txn, place, seqs, basis, picked).await
                });
            match stepped? {
                Some(more) => sum.plus(&more),
                None => return Ok(None),
            }
        }
    }
}

/// Sorts some batches; nothing when the holds of the wave are others by now.
async fn step(
    txn: &mut Txn,
    (rollout, wave): (RolloutId, WaveNumber),
    seqs: &[BatchSeq],
    basis: &Basis,
    picked: &[Picked],
) -> Result<Option<Sum>, OperationError> {
    // No hold is placed, narrowed or released while this step is under way.
    rows::claim_lock(txn).await?;
    let seen = Seen::read(txn, rollout, wave).await?;
    if seen.is_none_or(|seen| seen.basis != *basis) {
        return Ok(None);
    }
    let mut sum = Sum::of(picked);
    let mut change = CountChange::default();
    let mut changes = Vec::new();
    for row in ledger::batches_for_update(txn, rollout, wave, seqs).await? {
        let sorted = of_batch(txn.now(), &row, picked)?;
        sum.add(&sorted);
        if !sorted.changes.is_empty() {
            changes.push(decide_after_lapse(txn, &row, &sorted.changes, &mut change).await?);
        }
    }
    if changes.is_empty() {
        return Ok(Some(sum));
    }
    wave::wave_count(txn, rollout, wave, &change).await?;
    let subject = format!("rollout:{rollout}");
    let mut entry = Actor::task("park").entry("ledger.park", subject, json!({"wave": wave}));
    entry.data = Some(history::encode(&changes));
    txn.audit(entry);
    Ok(Some(sum))
}

fn of_batch(now: Timestamp, row: &BatchRow, picked: &[Picked]) -> Result<Sorted, StoreError> {
    let mut slots = Slots::decode(&row.slots).map_err(StoreError::corrupt)?;
    if is_lease_over(row, now)? {
        slots.lapse(now);
    }
    let ordinals = roster::decode(&row.roster).map_err(StoreError::corrupt)?;
    Ok(sorted_out(&slots, &ordinals, picked))
}

/// Notes that the wave has been sorted for its holds, unless they are others by now; from here on those in
/// force hold whom they picked, and nobody else.
async fn narrow(
    app: &App,
    (rollout, wave): (RolloutId, WaveNumber),
    basis: &Basis,
    sum: &Sum,
) -> Result<bool, OperationError> {
    let done: Result<bool, StoreError> = transact!(app.store, Lane::Hold, "hold_narrow", |txn| {
        rows::hold_lock(txn).await?;
        let seen = Seen::read(txn, rollout, wave).await?;
        let Some(seen) = seen.filter(|seen| seen.basis == *basis) else {
            return Ok(false);
        };
        let epoch = rows::epoch_next(txn).await?;
        let now = txn.now();
        rollouts::rollout_ring(txn, now, rollout).await?;
        let mut kept = sum.kept.iter();
        for (row, hold) in &seen.holds {
            let (action, people) = match hold.is_in_force() {
                true => ("hold.narrow", kept.next().copied().unwrap_or(0)),
                false => ("hold.let_go", 0),
            };
            let narrowed = hold.narrowed(people);
            rows::hold_save(txn, &HoldRow::of(&narrowed)?, row.generation).await?;
            let detail = json!({
                "scope": narrowed.scope, "where": join::whom(hold), "people": people, "epoch": epoch,
            });
            txn.audit(Actor::task("park").entry(action, format!("hold:{}", hold.id), detail));
        }
        Ok(true)
    });
    let done = done?;
    if done {
        app.permit.hurry();
        app.wake.ring();
    }
    Ok(done)
}

/// Has every hold on some people of a rollout, or of one of its waves, cover the whole wave again until its
/// people are sorted once more: for a transaction after which somebody may be in the queue whom it means.
///
/// Asked for before any batch is locked, for it waits for claims. Says whether there is such a hold.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn widen(
    txn: &mut Txn,
    in_force: &HoldSet,
    (rollout, wave): (RolloutId, WaveNumber),
) -> Result<bool, StoreError> {
    if in_force.partial(rollout, wave).next().is_none() {
        return Ok(false);
    }
    rows::hold_lock(txn).await?;
    let epoch = rows::epoch_next(txn).await?;
    let now = txn.now();
    for (row, hold) in holds_of_part(txn, rollout, wave).await? {
        let widened = match hold.is_in_force() {
            true => hold.widened(epoch, now),
            false => continue,
        };
        rows::hold_save(txn, &HoldRow::of(&widened)?, row.generation).await?;
        let detail = json!({"scope": widened.scope, "where": join::whom(&hold), "epoch": epoch});
        let subject = format!("hold:{}", hold.id);
        txn.audit(Actor::task("park").entry("hold.widen", subject, detail));
    }
    Ok(true)
}

/// Returns from when on a hold on some people covers the whole wave: a hold that was widened is a later stop.
pub(super) fn whole_since(hold: &Hold) -> Option<&Part> {
    let is_whole = matches!(hold.scope, Scope::Wave(..));
    hold.part.as_ref().filter(|_| is_whole)
}
