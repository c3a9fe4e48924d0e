//! The sender of one rollout: claims, sends, records, until there is nothing to do.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tidegate_orchestrator::hold::Place;
use tidegate_orchestrator::ids::{Ordinal, PopulationVersionId, RolloutId, TargetId, Timestamp};
use tidegate_orchestrator::ledger::{ClaimedSlot, Outcome, SlotIndex, SlotState};
use tidegate_orchestrator::permit::{Deadline, Moment};
use tidegate_orchestrator::roster;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::rate::Rate;
use super::turn::{Claimed, Finished, NotClaimed, Turn, TurnOrder, ledger_turn};
use crate::app::App;
use crate::connector::{Connector, Person, SendGate, SendResult, TargetTrouble, Trouble};
use crate::operations::{OperationError, load, member};
use crate::store::failure::FailureRow;
use crate::store::ledger::BatchAddress;
use crate::store::{Lane, StoreError, target, transact};
use crate::tasks::permit;

/// The least a lease lasts; a slow target gets more.
const LEASE_MIN: Duration = Duration::from_secs(20);
/// How often what came back is written, while more is under way.
const RECORD_EVERY: Duration = Duration::from_millis(500);
/// A sender that waits longer than this ends; it is started again when something is ready.
const LINGER: Duration = Duration::from_millis(1500);
/// The first wait before somebody is tried again; it doubles with every attempt.
const RETRY_FIRST_MS: i64 = 2000;
/// The longest.
const RETRY_MAX_MS: i64 = 300_000;
/// The code of a target that asks for patience.
const THROTTLED: &str = "throttled";
/// Somebody who was told to come back so often has failed.
const ATTEMPTS_MAX: u8 = 8;

/// One thing that came back from a batch under way.
struct Came {
    batch: usize,
    index: SlotIndex,
    result: SendResult,
}

/// A batch under way.
struct Flight {
    claimed: Claimed,
    ordinals: Vec<Ordinal>,
    outcomes: Vec<(SlotIndex, Outcome)>,
    failures: Vec<FailureRow>,
    recovered: Vec<Ordinal>,
    receipt: Vec<u8>,
    part: u32,
    ended: bool,
    _sending: permit::Sending,
}

/// Everything a sender knows.
struct Sender {
    app: App,
    rollout: RolloutId,
    target: TargetId,
    version: PopulationVersionId,
    connector: Arc<Connector>,
    rate: Option<Rate>,
    lease: Duration,
    flights: Vec<Option<Flight>>,
    under_way: JoinSet<(usize, Option<TargetTrouble>)>,
    came: mpsc::UnboundedReceiver<Came>,
    tell: mpsc::UnboundedSender<Came>,
    ready: Vec<Finished>,
}

/// Sends a rollout until there is nothing to do. Trouble is logged and ends it; it is started again.
pub(super) async fn send_rollout(app: App, rollout: RolloutId) -> RolloutId {
    match Sender::new(app, rollout).await {
        Ok(mut sender) => {
            if let Err(error) = sender.run().await {
                tracing::warn!(%rollout, %error, "sending stopped and is taken up again");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        Err(error) => {
            tracing::warn!(%rollout, %error, "sending could not begin");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    rollout
}

impl Sender {
    async fn new(app: App, rollout: RolloutId) -> Result<Self, OperationError> {
        let row = load::row(&app, rollout).await?;
        let plan = load::plan(&app, row.plan.ok_or(StoreError::NotFound)?).await?;
        let target = target::target_load(app.store.read(), row.target).await?;
        let connector = app
            .connectors
            .of(&target, &app.clock)
            .map_err(|error| OperationError::invalid("target_unusable", error.to_string()))?;
        let rate = plan.rate.and_then(|rate| {
            Rate::new(
                u64::from(rate.people),
                u64::from(rate.per.0),
                u64::from(rate.burst),
            )
        });
        let (tell, came) = mpsc::unbounded_channel();
        Ok(Self {
            rollout,
            target: row.target,
            version: plan.population_version,
            lease: LEASE_MIN.max(connector.request_timeout() * 2),
            connector,
            rate,
            flights: Vec::new(),
            under_way: JoinSet::new(),
            came,
            tell,
            ready: Vec::new(),
            app,
        })
    }

    async fn run(&mut self) -> Result<(), OperationError> {
        let mut idle_since: Option<Instant> = None;
        loop {
            self.gather();
            // Read before the claim is asked for: a lease counts from the transaction that gave it.
            let asked = self.app.clock.moment();
            let turn = self.turn().await?;
            self.drop_lost(&turn);
            let claimed_some = !turn.claimed.is_empty();
            for claimed in turn.claimed {
                self.begin(claimed, asked)?;
            }
            if !self.ready.is_empty() {
                idle_since = None;
                continue;
            }
            if !claimed_some && self.is_quiet() {
                let since = *idle_since.get_or_insert_with(Instant::now);
                if !self.linger(turn.not_claimed, since).await? {
                    return Ok(());
                }
                continue;
            }
            idle_since = None;
            self.wait().await?;
        }
    }

    fn is_quiet(&self) -> bool {
        self.flights.iter().all(Option::is_none) && self.ready.is_empty()
    }

    /// Waits a little when something will be ready soon; says whether to go on.
    async fn linger(&self, why: NotClaimed, since: Instant) -> Result<bool, OperationError> {
        let now = self.app.clock.now();
        let until = |at: Timestamp| (at - now).to_std().unwrap_or_default();
        let wait = match why {
            NotClaimed::EpochMoved => {
                permit::renew(&self.app).await?;
                Duration::from_millis(1)
            }
            NotClaimed::RateUsedUp(at) => until(at).max(Duration::from_millis(1)),
            NotClaimed::NothingReady(Some(at)) | NotClaimed::TargetClosed(at) => {
                until(at).max(Duration::from_millis(5))
            }
            NotClaimed::NothingReady(None) | NotClaimed::Held | NotClaimed::Enough => {
                return Ok(false);
            }
        };
        if self.app.ending.is_cancelled() || wait > LINGER || since.elapsed() > LINGER * 4 {
            return Ok(false);
        }
        tokio::time::sleep(wait).await;
        Ok(true)
    }

    /// One transaction: what came back, and what comes next.
    async fn turn(&mut self) -> Result<Turn, OperationError> {
        let under_way = self
            .flights
            .iter()
            .filter(|flight| flight.is_some())
            .count();
        let room = self.connector.batches_at_once().saturating_sub(under_way);
        let is_ending = self.app.ending.is_cancelled();
        let epoch = self.app.permit.epoch(self.app.clock.moment());
        let finished = std::mem::take(&mut self.ready);
        let order = TurnOrder {
            worker: self.app.worker,
            rollout: self.rollout,
            target: self.target,
            // Without a permit nothing is claimed: what would be claimed could not be sent.
            epoch: epoch.unwrap_or_default(),
            rate: self.rate,
            finished: &finished,
            claim_max: if is_ending || epoch.is_none() {
                0
            } else {
                room
            },
            lease_ms: i64::try_from(self.lease.as_millis()).unwrap_or(i64::MAX),
        };
        if finished.is_empty() && order.claim_max == 0 {
            let why = if epoch.is_none() {
                NotClaimed::EpochMoved
            } else {
                NotClaimed::Enough
            };
            return Ok(Turn::nothing(why));
        }
        let turn: Result<Turn, StoreError> =
            transact!(self.app.store, Lane::Ordinary, "ledger_turn", |txn| {
                ledger_turn(txn, &order).await
            });
        let turn = turn?;
        self.app.meter.count(turn.recorded, turn.refused);
        if turn.recorded > 0 && turn.claimed.is_empty() {
            // The wave may be through: let the planner look now and not at its next second.
            self.app.wake.ring();
        }
        Ok(turn)
    }

    /// Begins to send a batch; what needs no time has come back at once.
    fn begin(&mut self, claimed: Claimed, asked: Moment) -> Result<(), StoreError> {
        let place = Place::wave(self.target, self.rollout, claimed.address.wave);
        let people = u64::try_from(claimed.slots.len()).unwrap_or(u64::MAX);
        let sending = self.app.permit.sending(place, people);
        let ordinals = roster::decode(&claimed.roster).map_err(StoreError::corrupt)?;
        // A request that begins at the last moment has its timeout to come, and must be over when the
        // lease is; a second more, so that whoever is late is late here first.
        let to_begin = self.lease.saturating_sub(self.connector.request_timeout());
        let lease_ms = u32::try_from(to_begin.as_millis().saturating_sub(1000)).unwrap_or(u32::MAX);
        let gate = SendGate {
            permit: self.app.permit.clone(),
            place,
            lease_until: Deadline::after(asked, lease_ms),
            pace: claimed.pace,
            clock: self.app.clock.clone(),
        };
        let numbers: Vec<u32> = ordinals.iter().map(|ordinal| ordinal.get()).collect();
        let mut flight = Flight {
            claimed,
            ordinals,
            outcomes: Vec::new(),
            failures: Vec::new(),
            recovered: Vec::new(),
            receipt: Vec::new(),
            part: 0,
            ended: false,
            _sending: sending,
        };
        let is_open = gate.may_send();
        let instant = match is_open {
            Ok(()) => self.connector.instant(&flight.claimed.slots, &numbers),
            Err(why) => Some(
                flight
                    .claimed
                    .slots
                    .iter()
                    .map(|slot| (slot.index, SendResult::NotSent(why)))
                    .collect(),
            ),
        };
        if let Some(results) = instant {
            for (index, result) in results {
                flight.take(index, result, asked.wall);
            }
            self.ready.extend(flight.finish(true));
            return Ok(());
        }
        let place = self
            .flights
            .iter()
            .position(Option::is_none)
            .unwrap_or_else(|| {
                self.flights.push(None);
                self.flights.len() - 1
            });
        self.spawn(place, &flight, gate);
        if let Some(slot) = self.flights.get_mut(place) {
            *slot = Some(flight);
        }
        Ok(())
    }

    fn spawn(&mut self, batch: usize, flight: &Flight, gate: SendGate) {
        let (app, connector, version, tell) = (
            self.app.clone(),
            self.connector.clone(),
            self.version,
            self.tell.clone(),
        );
        let slots = flight.claimed.slots.clone();
        let wanted: Vec<Ordinal> = slots
            .iter()
            .filter_map(|slot| flight.ordinals.get(slot.index.get()).copied())
            .collect();
        self.under_way.spawn(async move {
            let found = member::by_ordinals(&app, version, &wanted).await;
            let members = match found {
                Ok(members) => members,
                Err(error) => {
                    let trouble = Trouble::new("member_unreadable", error.to_string());
                    for slot in &slots {
                        let result = SendResult::Retry {
                            after: None,
                            trouble: trouble.clone(),
                        };
                        let _ = tell.send(Came {
                            batch,
                            index: slot.index,
                            result,
                        });
                    }
                    return (batch, None);
                }
            };
            let people = slots
                .iter()
                .zip(members)
                .zip(0..)
                .map(|((slot, member), turn)| Person {
                    index: slot.index,
                    turn,
                    attempt: slot.attempt,
                    doubtful: slot.doubtful,
                    key: member.key,
                    attributes: member.attributes,
                });
            let on_result = |index, result| {
                // A sender that is gone has lost its lease: its people are looked up by the next.
                let _ = tell.send(Came {
                    batch,
                    index,
                    result,
                });
            };
            let trouble = connector.send(people.collect(), &gate, &on_result).await;
            (batch, trouble)
        });
    }

    /// Takes in everything that has come back so far.
    fn gather(&mut self) {
        while let Ok(came) = self.came.try_recv() {
            self.take(came);
        }
        for slot in &mut self.flights {
            let Some(flight) = slot else { continue };
            if flight.ended {
                self.ready.extend(flight.finish(true));
                *slot = None;
            } else if !flight.outcomes.is_empty() {
                self.ready.extend(flight.finish(false));
            }
        }
    }

    fn take(&mut self, came: Came) {
        let now = self.app.clock.now();
        if let Some(Some(flight)) = self.flights.get_mut(came.batch) {
            flight.take(came.index, came.result, now);
        }
    }

    /// Waits until it is time to write what came back: a batch has ended, or a while has passed.
    async fn wait(&mut self) -> Result<(), OperationError> {
        let until = tokio::time::sleep(RECORD_EVERY);
        tokio::pin!(until);
        loop {
            tokio::select! {
                Some(ended) = self.under_way.join_next() => {
                    let (batch, trouble) = ended.map_err(StoreError::corrupt)?;
                    while let Ok(came) = self.came.try_recv() {
                        self.take(came);
                    }
                    if let Some(Some(flight)) = self.flights.get_mut(batch) {
                        flight.ended = true;
                    }
                    if let Some(trouble) = trouble {
                        self.close_target(&trouble).await?;
                    }
                    return Ok(());
                }
                Some(came) = self.came.recv() => self.take(came),
                () = &mut until => return Ok(()),
            }
        }
    }

    async fn close_target(&self, trouble: &TargetTrouble) -> Result<(), StoreError> {
        let closed_for = TimeDelta::from_std(trouble.closed_for).unwrap_or(TimeDelta::minutes(1));
        tracing::warn!(rollout = %self.rollout, code = trouble.trouble.code, message = trouble.trouble.message,
            seconds = closed_for.num_seconds(), "the target is left alone for a while");
        transact!(self.app.store, Lane::Ordinary, "target_close", |txn| {
            let until = txn.now() + closed_for;
            target::target_close(txn, self.target, until).await
        })
    }

    /// Forgets batches whose lease was lost: somebody else has them, or will.
    fn drop_lost(&mut self, turn: &Turn) {
        let is_lost = |address: &BatchAddress| turn.lost.contains(address);
        for slot in &mut self.flights {
            if slot
                .as_ref()
                .is_some_and(|flight| is_lost(&flight.claimed.address))
            {
                *slot = None;
            }
        }
    }
}

impl Flight {
    /// Takes in what became of one person.
    fn take(&mut self, index: SlotIndex, result: SendResult, now: Timestamp) {
        let slot = self
            .claimed
            .slots
            .iter()
            .find(|slot| slot.index == index)
            .copied();
        let (Some(slot), Some(ordinal)) = (slot, self.ordinals.get(index.get()).copied()) else {
            return;
        };
        if let SendResult::Done {
            remote_id: Some(remote_id),
            ..
        } = &result
        {
            push_receipt(&mut self.receipt, index, remote_id);
        }
        let (outcome, trouble) = outcome_of(result, slot, ordinal, now);
        let state = match outcome {
            Outcome::Failed => Some(SlotState::Failed),
            Outcome::Review => Some(SlotState::Review),
            Outcome::Retry { .. } => Some(SlotState::Retry),
            Outcome::Unknown { .. } => Some(SlotState::Unknown),
            Outcome::Done { .. }
            | Outcome::Accepted { .. }
            | Outcome::NotSent { .. }
            | Outcome::Departed => None,
        };
        if let (Some(state), Some(trouble)) = (state, trouble) {
            self.failures.push(FailureRow {
                ordinal,
                wave: self.claimed.address.wave,
                state,
                code: trouble.code,
                message: trouble.message,
                attempts: u32::from(slot.attempt),
                at: now,
            });
        } else if slot.attempt > 1 && matches!(outcome, Outcome::Done { .. }) {
            self.recovered.push(ordinal);
        }
        self.outcomes.push((index, outcome));
    }

    /// Hands over what came back, for the next turn.
    fn finish(&mut self, is_last: bool) -> Option<Finished> {
        let receipt = std::mem::take(&mut self.receipt);
        let part = self.part;
        self.part += u32::from(!receipt.is_empty());
        Some(Finished {
            address: self.claimed.address,
            fence: self.claimed.fence,
            outcomes: std::mem::take(&mut self.outcomes),
            failures: std::mem::take(&mut self.failures),
            recovered: std::mem::take(&mut self.recovered),
            receipt: (!receipt.is_empty()).then_some((part, receipt)),
            is_last,
        })
    }
}

/// Says what the ledger remembers of a result, and what is told to whoever looks at it.
fn outcome_of(
    result: SendResult,
    slot: ClaimedSlot,
    ordinal: Ordinal,
    now: Timestamp,
) -> (Outcome, Option<Trouble>) {
    let (attempt, doubtful) = (slot.attempt, slot.doubtful);
    match result {
        SendResult::Done { adopted, .. } => (Outcome::Done { adopted }, None),
        SendResult::Failed(trouble) => (Outcome::Failed, Some(trouble)),
        SendResult::Review(trouble) => (Outcome::Review, Some(trouble)),
        SendResult::NotSent(_) => (Outcome::NotSent { doubtful }, None),
        // A target that asks for patience is no reason to give a person up.
        SendResult::Retry { trouble, .. } | SendResult::Unknown(trouble)
            if attempt >= ATTEMPTS_MAX && !doubtful && trouble.code != THROTTLED =>
        {
            let message = format!("given up after {attempt} attempts: {}", trouble.message);
            (Outcome::Failed, Some(Trouble { message, ..trouble }))
        }
        SendResult::Retry { after, trouble } => {
            let wait = after.and_then(|after| TimeDelta::from_std(after).ok());
            let wait = wait.unwrap_or_else(|| back_off(attempt, ordinal));
            (
                Outcome::Retry {
                    not_before: now + wait,
                },
                Some(trouble),
            )
        }
        SendResult::Unknown(trouble) => {
            let not_before = now + back_off(attempt, ordinal);
            (Outcome::Unknown { not_before }, Some(trouble))
        }
    }
}

/// Waits twice as long after every attempt, give or take a quarter that differs from person to person.
fn back_off(attempt: u8, ordinal: Ordinal) -> TimeDelta {
    let doubled = RETRY_FIRST_MS
        .saturating_mul(1_i64 << attempt.saturating_sub(1).min(20))
        .min(RETRY_MAX_MS);
    let spread = i64::from(ordinal.get().wrapping_mul(2_654_435_761) >> 16) % 1000;
    TimeDelta::milliseconds(doubled - doubled / 4 + doubled / 2 * spread / 1000)
}

/// Adds what the target called somebody: place (2 bytes little-endian), length (1 byte) and text.
fn push_receipt(receipt: &mut Vec<u8>, index: SlotIndex, remote_id: &str) {
    let bytes = remote_id.as_bytes();
    let bytes = bytes.get(..255).unwrap_or(bytes);
    receipt.extend(index.0.to_le_bytes());
    receipt.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    receipt.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_differ_from_person_to_person() {
        let wait = |attempt, person| back_off(attempt, Ordinal(person)).num_milliseconds();
        assert!((1500..=2500).contains(&wait(1, 7)));
        assert!((6000..=10_000).contains(&wait(3, 7)));
        assert!(wait(200, 7) <= RETRY_MAX_MS * 5 / 4);
        assert_ne!(wait(3, 7), wait(3, 8));
    }
}
