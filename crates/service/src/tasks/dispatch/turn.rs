//! One ledger turn: record what was sent, claim what comes next, in ONE transaction.
//!
//! The intent to send (`in_flight`) is durable before anything is sent, and every claim is refused
//! unless the epoch is the permit's, no hold covers the wave, the planner lets the wave be claimed,
//! its window is open, the target is open, and the rate has room. Outcomes merge slot by slot under
//! the fence of their claim; those of a lost lease are refused, counted and audited.
//!
//! A turn is bounded (batches per turn) so that it takes a few milliseconds: a hold never waits for
//! longer than one turn. It sends nothing.

mod back;
mod door;
mod open;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tidegate_orchestrator::hold::{HoldSet, Place};
use tidegate_orchestrator::ids::{
    BatchSeq, Epoch, Fence, Ordinal, RolloutId, TargetId, Timestamp, WaveNumber, WorkerId, millis,
};
use tidegate_orchestrator::lease::{self, Return, Settlement};
use tidegate_orchestrator::ledger::{ClaimedSlot, Outcome, SlotIndex, SlotState, history};

use super::rate::{Pace, Rate};
use crate::operations::Actor;
use crate::store::audit::Entry;
use crate::store::failure::{self, FailureRow};
use crate::store::ledger::{self, BatchAddress, BatchRow};
use crate::store::wave::{self, CountChange};
use crate::store::{StoreError, Txn, hold, rollout as rollouts, target};
use door::{RateDoor, WaveDoor, to_begin, wave_door};
use open::Open;

/// What became of some of the people of a claimed batch.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Which batch.
    pub address: BatchAddress,
    /// The fence of the claim.
    pub fence: Fence,
    /// The outcomes, one per person that has one.
    pub outcomes: Vec<(SlotIndex, Outcome)>,
    /// What went wrong, for those with whom something did.
    pub failures: Vec<FailureRow>,
    /// Whoever had gone wrong before and went well now.
    pub recovered: Vec<Ordinal>,
    /// What the target called them, packed.
    pub receipt: Option<(u32, Vec<u8>)>,
    /// Whether the batch is done with and its lease ends; otherwise the lease is renewed.
    pub is_last: bool,
}

/// A batch that this worker may send until the lease is over.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Which batch.
    pub address: BatchAddress,
    /// The fence of the claim.
    pub fence: Fence,
    /// The epoch of the claim.
    pub epoch: Epoch,
    /// The ordinals of everybody in the batch, packed.
    pub roster: Vec<u8>,
    /// The people claimed.
    pub slots: Vec<ClaimedSlot>,
    /// When each of them may begin, when the target has a rate.
    pub pace: Option<Pace>,
}

/// Why a turn claimed nothing, or less than it could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotClaimed {
    /// Nothing is ready in any wave that may be claimed; the earliest that will be.
    NothingReady(Option<Timestamp>),
    /// The permit is of another epoch than the store: it must be renewed first.
    EpochMoved,
    /// A hold covers a wave that may be claimed as far as its row says, and no other has anything ready; the
    /// earliest that will be.
    Held(Option<Timestamp>),
    /// The clock of this machine is far from the one that judges leases.
    ClockWrong,
    /// The target asked to be left alone until then.
    TargetClosed(Timestamp),
    /// The rate has no room before then.
    RateUsedUp(Timestamp),
    /// Every batch that was asked for was claimed, or nothing was asked for.
    Enough,
}

/// What a turn did.
#[derive(Debug, Clone)]
pub struct Turn {
    /// The instant of the turn, by the clock that judges leases; `None` when nothing was asked of it.
    pub now: Option<Timestamp>,
    /// The batches that may be sent now.
    pub claimed: Vec<Claimed>,
    /// The batches whose lease had been lost: their outcomes were refused.
    pub lost: Vec<BatchAddress>,
    /// The batches whose lease goes on.
    pub renewed: Vec<BatchAddress>,
    /// The batches whose lease ends when it would have: a hold covers them.
    pub kept: Vec<BatchAddress>,
    /// How many people changed state by an outcome.
    pub recorded: u64,
    /// How many outcomes were refused.
    pub refused: u64,
    /// Why no more was claimed.
    pub not_claimed: NotClaimed,
}

impl Turn {
    /// Returns a turn in which nothing was done.
    #[must_use]
    pub const fn nothing(why: NotClaimed) -> Self {
        Self {
            now: None,
            claimed: Vec::new(),
            lost: Vec::new(),
            renewed: Vec::new(),
            kept: Vec::new(),
            recorded: 0,
            refused: 0,
            not_claimed: why,
        }
    }
}

/// What a turn is asked to do.
#[derive(Debug)]
pub struct TurnOrder<'a> {
    /// The process that sends.
    pub worker: WorkerId,
    /// The rollout.
    pub rollout: RolloutId,
    /// The rollout whose people it takes back, when it does.
    pub reverts: Option<RolloutId>,
    /// Its target.
    pub target: TargetId,
    /// The epoch of the permit.
    pub epoch: Epoch,
    /// The rate of the target, when it has one.
    pub rate: Option<Rate>,
    /// What came back.
    pub finished: &'a [Finished],
    /// How many batches to claim at most.
    pub claim_max: usize,
    /// How long a lease lasts.
    pub lease_ms: i64,
}

/// Runs one turn inside a transaction.
///
/// It conflicts with placing a hold: none commits between what it read of holds and its own commit. A hold waits
/// for as little of it as possible, so it takes the claim lock last; when a hold came meanwhile, it is done anew
/// and takes the lock first.
///
/// # Errors
///
/// Fails when the store cannot be reached or a batch row is damaged, and with `Serialization` when a hold came
/// between; nothing is changed then.
pub async fn ledger_turn(txn: &mut Txn, order: &TurnOrder<'_>) -> Result<Turn, StoreError> {
    if txn.has_lost() {
        hold::claim_lock(txn).await?;
    }
    let (epoch, holds) = hold::holds_within(txn).await?;
    let mut pass = Pass::new(txn.now(), epoch, holds);
    // A stop would undo it at its end: sooner is better for both, for they share the processors.
    txn.give_way()?;
    for ((rollout, wave), finished) in by_wave(order.finished) {
        pass.record(txn, order, (rollout, wave), &finished).await?;
    }
    txn.give_way()?;
    let not_claimed = pass.claim(txn, order).await?;
    txn.give_way()?;
    pass.save(txn, order).await?;
    Ok(pass.into_turn(not_claimed))
}

/// Outcomes by wave, so that each wave's batches are read and locked together and in order.
fn by_wave(finished: &[Finished]) -> BTreeMap<(RolloutId, WaveNumber), Vec<&Finished>> {
    let mut waves: BTreeMap<_, Vec<&Finished>> = BTreeMap::new();
    for item in finished {
        waves
            .entry((item.address.rollout, item.address.wave))
            .or_default()
            .push(item);
    }
    waves
}

/// What a turn has gathered so far.
struct Pass {
    now: Timestamp,
    epoch: Epoch,
    holds: Arc<HoldSet>,
    opened: BTreeMap<BatchAddress, Open>,
    claimed: Vec<Claimed>,
    lost: Vec<BatchAddress>,
    renewed: Vec<BatchAddress>,
    kept: Vec<BatchAddress>,
    /// Whoever was taken back, by their places in the batches of this rollout.
    taken: BTreeMap<BatchAddress, Vec<SlotIndex>>,
    recorded: u64,
    refused: u64,
}

impl Pass {
    fn new(now: Timestamp, epoch: Epoch, holds: Arc<HoldSet>) -> Self {
        Self {
            now,
            epoch,
            holds,
            opened: BTreeMap::new(),
            claimed: Vec::new(),
            lost: Vec::new(),
            renewed: Vec::new(),
            kept: Vec::new(),
            taken: BTreeMap::new(),
            recorded: 0,
            refused: 0,
        }
    }

    fn into_turn(self, not_claimed: NotClaimed) -> Turn {
        Turn {
            now: Some(self.now),
            claimed: self.claimed,
            lost: self.lost,
            renewed: self.renewed,
            kept: self.kept,
            recorded: self.recorded,
            refused: self.refused,
            not_claimed,
        }
    }

    /// Merges the outcomes of one wave under the fences of their claims.
    async fn record(
        &mut self,
        txn: &mut Txn,
        order: &TurnOrder<'_>,
        (rollout, wave): (RolloutId, WaveNumber),
        finished: &[&Finished],
    ) -> Result<(), StoreError> {
        let mut seqs: Vec<BatchSeq> = finished.iter().map(|item| item.address.seq).collect();
        seqs.sort_unstable();
        seqs.dedup();
        for row in ledger::batches_for_update(txn, rollout, wave, &seqs).await? {
            self.opened.insert(row.address, Open::read(row)?);
        }
        let lease_until = millis(self.now).saturating_add(order.lease_ms);
        let place = Place::wave(order.target, rollout, wave);
        let is_held = self.holds.stops(&place, self.now).is_some();
        for item in finished {
            let Some(open) = self.opened.get_mut(&item.address) else {
                return Err(StoreError::NotFound);
            };
            let known = open.row.lease()?;
            let back = Return {
                by: order.worker,
                fence: item.fence,
                is_last: item.is_last,
                is_held,
            };
            open.lease = match lease::settle(known, open.row.fence, back) {
                Settlement::Lost => {
                    self.lost.push(item.address);
                    self.refused += u64::try_from(item.outcomes.len()).unwrap_or(u64::MAX);
                    continue;
                }
                Settlement::Ended => None,
                Settlement::Kept => {
                    self.kept.push(item.address);
                    known.map(|lease| (lease.owner, millis(lease.until)))
                }
                Settlement::Renewed => {
                    self.renewed.push(item.address);
                    Some((order.worker, lease_until))
                }
            };
            let recorded = open.slots.record(&item.outcomes, self.now);
            self.recorded += u64::try_from(recorded.changed.len()).unwrap_or(u64::MAX);
            self.refused += u64::try_from(recorded.refused.len()).unwrap_or(u64::MAX);
            if order.reverts.is_some() {
                let is_done =
                    |index: &&SlotIndex| open.slots.state(**index) == Some(SlotState::Done);
                let taken = self.taken.entry(item.address).or_default();
                taken.extend(recorded.changed.iter().filter(is_done));
            }
            open.changed.extend(recorded.changed);
            failure::failures_put(txn, rollout, &item.failures).await?;
            failure::failures_clear(txn, rollout, &item.recovered).await?;
            if let Some((part, body)) = &item.receipt {
                failure::receipt_put(txn, item.address, item.fence, *part, body.clone()).await?;
            }
        }
        for address in &self.lost {
            self.opened.remove(address);
        }
        Ok(())
    }

    /// Claims the next batches, unless something stands in the way; says what.
    async fn claim(
        &mut self,
        txn: &mut Txn,
        order: &TurnOrder<'_>,
    ) -> Result<NotClaimed, StoreError> {
        if order.claim_max == 0 {
            return Ok(NotClaimed::Enough);
        }
        if txn.is_clock_wrong() {
            return Ok(NotClaimed::ClockWrong);
        }
        let door = target::target_door(txn, order.target, order.rate.is_some()).await?;
        if door.closed_until > self.now {
            return Ok(NotClaimed::TargetClosed(door.closed_until));
        }
        let mut door = RateDoor::new(order.rate, door.rate_tat_us, self.now);
        let (mut held, mut later) = (false, None);
        for wave in wave::waves_load(txn, order.rollout).await? {
            let place = Place::wave(order.target, order.rollout, wave.number);
            let may_claim =
                lease::may_claim(order.epoch, self.epoch, &self.holds, &place, self.now);
            match wave_door(&wave, may_claim, self.now) {
                WaveDoor::Open => {}
                WaveDoor::EpochMoved => {
                    door.save(txn, order.target).await?;
                    return Ok(NotClaimed::EpochMoved);
                }
                WaveDoor::Held => {
                    held = true;
                    continue;
                }
                WaveDoor::Closed => continue,
            }
            let left = order.claim_max.saturating_sub(self.claimed.len());
            let mut begin = to_begin(&wave);
            // A full tranche begins nobody; whoever was begun is still tried again and looked up.
            let is_full = begin == Some(0);
            let rows = ledger::batches_claimable(
                txn,
                order.rollout,
                wave.number,
                millis(self.now),
                (left, is_full),
            )
            .await?;
            let is_dry = rows.len() < left;
            for row in rows {
                if let Err(open_at) = self.claim_batch(order, row, &mut door, &mut begin)? {
                    door.save(txn, order.target).await?;
                    return Ok(NotClaimed::RateUsedUp(open_at));
                }
            }
            if !is_dry {
                door.save(txn, order.target).await?;
                return Ok(NotClaimed::Enough);
            }
            if is_full {
                continue;
            }
            let ready_at = ledger::wave_ready_at(txn, order.rollout, wave.number).await?;
            let ready_at = ready_at.and_then(tidegate_orchestrator::ids::from_millis);
            later = [later, ready_at].into_iter().flatten().min();
        }
        door.save(txn, order.target).await?;
        Ok(if held {
            NotClaimed::Held(later)
        } else {
            NotClaimed::NothingReady(later)
        })
    }

    /// Claims one batch: a lease that ran out lapses first, so that nobody stays in flight.
    fn claim_batch(
        &mut self,
        order: &TurnOrder<'_>,
        row: BatchRow,
        door: &mut RateDoor,
        begin: &mut Option<u64>,
    ) -> Result<Result<(), Timestamp>, StoreError> {
        let address = row.address;
        // A batch recorded a moment ago in this turn is claimed again from what it became.
        let known = self.opened.remove(&address);
        let is_known = known.is_some();
        let mut open = match known {
            Some(mut open) => {
                open.row.roster = row.roster;
                open
            }
            None => Open::read(row)?,
        };
        // What was recorded in this turn may have renewed a lease that was over: it is still under way.
        let known = if is_known {
            open.lease_now()
        } else {
            open.row.lease()?
        };
        if lease::may_take(known, self.now).is_err() {
            if is_known {
                self.opened.insert(address, open);
            }
            return Ok(Ok(()));
        }
        let is_lapsed = known.is_some();
        if is_lapsed {
            open.lapse(self.now);
        }
        let room = match door.room(open.row.size) {
            Ok(room) => room,
            Err(open_at) => {
                if is_known || is_lapsed {
                    self.opened.insert(address, open);
                }
                return Ok(Err(open_at));
            }
        };
        let slots = open.claim(room, begin, self.now);
        if slots.is_empty() && !is_lapsed {
            // Nobody in it may be begun now: a batch that is not touched is not written.
            if is_known {
                self.opened.insert(address, open);
            }
            return Ok(Ok(()));
        }
        open.fence = open.row.fence.next();
        open.changed.extend(slots.iter().map(|slot| slot.index));
        open.lease = None;
        if !slots.is_empty() {
            open.lease = Some((
                order.worker,
                millis(self.now).saturating_add(order.lease_ms),
            ));
            self.claimed.push(Claimed {
                address,
                fence: open.fence,
                epoch: order.epoch,
                roster: std::mem::take(&mut open.row.roster),
                pace: door.take(u32::try_from(slots.len()).unwrap_or(u32::MAX)),
                slots,
            });
        }
        self.opened.insert(address, open);
        Ok(Ok(()))
    }

    /// Writes every batch that was opened, the counts of their waves, and one audit entry.
    async fn save(&self, txn: &mut Txn, order: &TurnOrder<'_>) -> Result<(), StoreError> {
        let mut writes = Vec::with_capacity(self.opened.len());
        let mut counts: BTreeMap<(RolloutId, WaveNumber), CountChange> = BTreeMap::new();
        for (address, open) in &self.opened {
            let write = open.write(order.epoch);
            let after = (write.tally, write.adopted);
            let change = counts.entry((address.rollout, address.wave)).or_default();
            change.replace((&open.before.0, open.before.1), (&after.0, after.1));
            writes.push(write);
        }
        let written = ledger::batches_write(txn, &writes).await?;
        if written != u64::try_from(writes.len()).unwrap_or(u64::MAX) {
            // The rows are locked since they were read, so this is damage and not a race.
            return Err(StoreError::Conflict);
        }
        if let Some(original) = order.reverts {
            self.take_back(txn, original, &mut counts).await?;
        }
        for ((rollout, wave), change) in &counts {
            if !change.is_empty() {
                wave::wave_count(txn, *rollout, *wave, change).await?;
            }
        }
        if self.recorded > 0 && self.claimed.is_empty() {
            // The wave may be through. With the same commit, or a crash right after it leaves a rollout at
            // which nobody looks again.
            rollouts::rollout_ring(txn, self.now, order.rollout).await?;
        }
        if let (Some(original), false) = (order.reverts, self.taken.is_empty()) {
            // Its gates are judged by other counts now.
            rollouts::rollout_ring(txn, self.now, original).await?;
        }
        if !txn.has_lost() && !self.opened.is_empty() {
            hold::claim_lock_late(txn, self.epoch).await?;
        }
        self.tell(txn, order);
        Ok(())
    }

    /// Who came to which state, for the audit trail.
    fn history(&self) -> Vec<u8> {
        let changes: Vec<history::BatchChange> = self
            .opened
            .iter()
            .filter(|(_, open)| !open.changed.is_empty())
            .map(|(address, open)| history::BatchChange {
                wave: address.wave,
                seq: address.seq,
                fence: open.fence,
                runs: history::runs(&open.slots, &open.changed),
            })
            .collect();
        history::encode(&changes)
    }

    fn tell(&self, txn: &mut Txn, order: &TurnOrder<'_>) {
        let actor = Actor::task("dispatch");
        let subject = format!("rollout:{}", order.rollout);
        if !self.lost.is_empty() {
            let lost: Vec<_> = self
                .lost
                .iter()
                .map(|lost| (lost.wave.get(), lost.seq.get()))
                .collect();
            txn.audit(Entry {
                actor: actor.principal.clone(),
                action: "ledger.outcomes_refused".to_owned(),
                subject: subject.clone(),
                request_id: None,
                detail: json!({"worker": order.worker, "batches": lost, "people": self.refused}),
                data: None,
            });
        }
        if self.opened.is_empty() {
            return;
        }
        txn.audit(Entry {
            actor: actor.principal,
            action: "ledger.turn".to_owned(),
            subject,
            request_id: None,
            detail: json!({
                "worker": order.worker,
                "epoch": order.epoch,
                "claimed": self.claimed.iter().map(|claimed| claimed.slots.len()).sum::<usize>(),
                "recorded": self.recorded,
            }),
            data: Some(self.history()),
        });
    }
}

#[cfg(test)]
mod tests;
