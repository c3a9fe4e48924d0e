//! The sender of one rollout: claims, sends, records, until there is nothing to do.
//!
//! `flight` is one batch under way. What came back is kept until it is written, also while the database
//! is away: the fence of the claim decides whether it still counts.

mod flight;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tidegate_orchestrator::hold::Place;
use tidegate_orchestrator::ids::{
    Epoch, Ordinal, PopulationVersionId, RolloutId, TargetId, Timestamp,
};
use tidegate_orchestrator::ledger::SlotIndex;
use tidegate_orchestrator::permit::{Deadline, Moment, Monotonic};
use tidegate_orchestrator::roster;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::rate::Rate;
use super::turn::{Claimed, Finished, NotClaimed, Turn, TurnOrder, ledger_turn};
use crate::app::App;
use crate::connector::{
    Act, Connector, Lease, Person, SendGate, SendResult, TargetTrouble, Trouble,
};
use crate::operations::{OperationError, load, member, revert};
use crate::store::{Lane, StoreError, rollout as rollouts, target, transact};
use crate::tasks::permit;
use flight::Flight;

/// The least a lease lasts; a slow target gets more.
const LEASE_MIN: Duration = Duration::from_secs(20);
/// How often what came back is written, while more is under way.
const RECORD_EVERY: Duration = Duration::from_millis(500);
/// A sender that waits longer than this ends; it is started again when something is ready.
const LINGER: Duration = Duration::from_millis(1500);
/// How many batches one turn claims: a stop waits for the turn that is under way, and no longer.
const CLAIMS_PER_TURN: usize = 4;
/// How long to wait before it is asked again whether the clock of this machine is right.
const CLOCK_WRONG_PAUSE: Duration = Duration::from_secs(1);
/// How long to wait before the planner is told of a hold that was found in the way.
const HELD_PAUSE: Duration = Duration::from_millis(20);
/// How long to wait before the database is asked again that was not there.
const STORE_AWAY: Duration = Duration::from_millis(250);

/// Names a batch under way. Never used twice: what comes back late from a batch that was lost must not
/// be taken for the batch after it.
type FlightNumber = u64;

/// One thing that came back from a batch under way.
struct Came {
    flight: FlightNumber,
    index: SlotIndex,
    result: SendResult,
}

/// Everything a sender knows.
struct Sender {
    app: App,
    rollout: RolloutId,
    target: TargetId,
    /// The rollout whose people are taken back; `None`: people are moved.
    reverts: Option<RolloutId>,
    version: PopulationVersionId,
    /// The epoch under which that was read.
    epoch: Option<Epoch>,
    connector: Arc<Connector>,
    rate: Option<Rate>,
    lease: Duration,
    /// The instant of the last turn by the clock that judges leases, and when that was here.
    ledger_time: Option<(Timestamp, Monotonic)>,
    flights: BTreeMap<FlightNumber, Flight>,
    flights_begun: FlightNumber,
    under_way: JoinSet<(FlightNumber, Option<TargetTrouble>)>,
    came: mpsc::UnboundedReceiver<Came>,
    tell: mpsc::UnboundedSender<Came>,
    ready: Vec<Finished>,
}

/// Why a sender has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// There was nothing to do, or trouble.
    Idle,
    /// A hold was in the way under an epoch, and the planner has been told; when something else will be ready.
    Held(Option<Epoch>, Option<Timestamp>),
}

/// Sends a rollout until there is nothing to do. Trouble is logged and ends it; it is started again.
pub(super) async fn send_rollout(app: App, rollout: RolloutId) -> (RolloutId, Ended) {
    let ended = match Sender::new(app, rollout).await {
        Ok(mut sender) => match sender.run().await {
            Ok(ended) => ended,
            Err(error) => {
                tracing::warn!(%rollout, %error, "sending stopped and is taken up again");
                tokio::time::sleep(Duration::from_millis(500)).await;
                Ended::Idle
            }
        },
        Err(error) => {
            tracing::warn!(%rollout, %error, "sending could not begin");
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ended::Idle
        }
    };
    (rollout, ended)
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
        permit::promise(&app, connector.request_timeout()).await?;
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
            reverts: row.reverts,
            version: plan.population_version,
            epoch: None,
            lease: LEASE_MIN.max(connector.request_timeout() * 2),
            connector,
            rate,
            ledger_time: None,
            flights: BTreeMap::new(),
            flights_begun: 0,
            under_way: JoinSet::new(),
            came,
            tell,
            ready: Vec::new(),
            app,
        })
    }

    /// A release may have bound the plan to other people: whoever goes on under another epoch reads them anew.
    async fn follow(&mut self, epoch: Option<Epoch>) -> Result<(), OperationError> {
        if epoch.is_none() || epoch == self.epoch {
            return Ok(());
        }
        let row = load::row(&self.app, self.rollout).await?;
        let plan = load::plan(&self.app, row.plan.ok_or(StoreError::NotFound)?).await?;
        self.version = plan.population_version;
        self.epoch = epoch;
        Ok(())
    }

    async fn run(&mut self) -> Result<Ended, OperationError> {
        let mut idle_since: Option<Instant> = None;
        loop {
            self.gather();
            // Read before the lease is asked for: whoever is late is late here first.
            let asked = self.app.clock.moment();
            let turn = match self.turn(asked).await {
                Ok(turn) => turn,
                Err(OperationError::Failed(error)) if error.is_passing() && !self.is_quiet() => {
                    tracing::warn!(rollout = %self.rollout, %error, "what came back could not be written yet");
                    tokio::time::sleep(STORE_AWAY).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let claimed_some = !turn.claimed.is_empty();
            for claimed in turn.claimed {
                self.begin(claimed, asked)?;
                // A thousand people are a fraction of a millisecond; whoever looks on waits no longer.
                tokio::task::yield_now().await;
            }
            if !self.ready.is_empty() {
                idle_since = None;
                continue;
            }
            if !claimed_some && self.is_quiet() {
                let since = *idle_since.get_or_insert_with(Instant::now);
                if !self.linger(turn.not_claimed, since).await? {
                    return Ok(match turn.not_claimed {
                        NotClaimed::Held(later) => Ended::Held(self.epoch, later),
                        _ => Ended::Idle,
                    });
                }
                continue;
            }
            idle_since = None;
            self.wait().await?;
        }
    }

    fn is_quiet(&self) -> bool {
        self.flights.is_empty() && self.ready.is_empty()
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
            NotClaimed::Held(_) => {
                // The answer to whoever has placed the hold comes first.
                tokio::time::sleep(HELD_PAUSE).await;
                self.ring_planner().await?;
                return Ok(false);
            }
            NotClaimed::ClockWrong => {
                tracing::warn!(rollout = %self.rollout, "the clock of this machine is wrong, so nothing is claimed here");
                tokio::time::sleep(CLOCK_WRONG_PAUSE).await;
                return Ok(false);
            }
            NotClaimed::NothingReady(None) | NotClaimed::Enough => return Ok(false),
        };
        if self.app.ending.is_cancelled() || wait > LINGER || since.elapsed() > LINGER * 4 {
            return Ok(false);
        }
        tokio::time::sleep(wait).await;
        Ok(true)
    }

    /// One transaction: what came back, and what comes next.
    async fn turn(&mut self, asked: Moment) -> Result<Turn, OperationError> {
        let room = self
            .connector
            .batches_at_once()
            .saturating_sub(self.flights.len());
        let is_ending = self.app.ending.is_cancelled();
        let epoch = self.app.permit.epoch(asked);
        self.follow(epoch).await?;
        let finished = std::mem::take(&mut self.ready);
        let order = TurnOrder {
            worker: self.app.worker,
            rollout: self.rollout,
            reverts: self.reverts,
            target: self.target,
            // Without a permit nothing is claimed: what would be claimed could not be sent.
            epoch: epoch.unwrap_or_default(),
            rate: self.rate,
            finished: &finished,
            claim_max: if is_ending || epoch.is_none() {
                0
            } else {
                room.min(CLAIMS_PER_TURN)
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
        let turn = match turn {
            Ok(turn) => turn,
            Err(error) => {
                self.ready = finished;
                return Err(error.into());
            }
        };
        let took = self
            .app
            .clock
            .monotonic()
            .0
            .saturating_sub(asked.monotonic.0);
        self.app.meter.turn(took * 1000);
        // Read before the turn began: what is said in this time is late rather than early.
        self.ledger_time = turn
            .now
            .map(|at| (at, asked.monotonic))
            .or(self.ledger_time);
        self.settle_leases(&turn, asked);
        self.app.meter.count(turn.recorded, turn.refused);
        if turn.recorded > 0 && turn.claimed.is_empty() {
            // The wave may be through: let the planner look now and not at its next second.
            self.app.wake.ring();
        }
        Ok(turn)
    }

    /// The planner closes what may not be claimed: until then the sender would be started again and again.
    async fn ring_planner(&self) -> Result<(), StoreError> {
        transact!(self.app.store, Lane::Ordinary, "rollout_ring", |txn| {
            let now = txn.now();
            rollouts::rollout_ring(txn, now, self.rollout).await
        })?;
        self.app.wake.ring();
        Ok(())
    }

    /// Begins to send a batch; what needs no time has come back at once.
    fn begin(&mut self, claimed: Claimed, asked: Moment) -> Result<(), StoreError> {
        let place = Place::wave(self.target, self.rollout, claimed.address.wave);
        let people = u64::try_from(claimed.slots.len()).unwrap_or(u64::MAX);
        // Counted before the gate is asked, and until the last request is answered: a hold that finds
        // nobody under way is right to say so.
        let sending = self.app.permit.sending(place, people);
        let ordinals = roster::decode(&claimed.roster).map_err(StoreError::corrupt)?;
        let lease = Lease::until(self.lease_end(asked));
        let gate = SendGate {
            permit: self.app.permit.clone(),
            place,
            lease: lease.clone(),
            pace: claimed.pace,
            clock: self.app.clock.clone(),
        };
        let numbers: Vec<u32> = ordinals.iter().map(|ordinal| ordinal.get()).collect();
        let mut flight = Flight::new(claimed, ordinals, lease, asked.monotonic);
        let instant = match gate.may_send() {
            Ok(()) => {
                let slots = &flight.claimed.slots;
                self.connector.instant(self.act(), slots, &numbers)
            }
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
            let now = self.ledger_now();
            for (index, result) in results {
                flight.take(index, result, now);
            }
            self.ready.push(flight.finish(true));
            return Ok(());
        }
        self.flights_begun += 1;
        self.spawn(self.flights_begun, &flight, gate, sending);
        self.flights.insert(self.flights_begun, flight);
        Ok(())
    }

    /// What is done with people.
    const fn act(&self) -> Act {
        match self.reverts {
            None => Act::Move,
            Some(_) => Act::TakeBack,
        }
    }

    /// Until when a request may begin under a lease that was asked for at a moment.
    fn lease_end(&self, asked: Moment) -> Deadline {
        let millis = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        Deadline::to_begin(
            asked,
            millis(self.lease),
            millis(self.connector.request_timeout()),
        )
    }

    fn spawn(
        &mut self,
        number: FlightNumber,
        flight: &Flight,
        gate: SendGate,
        sending: permit::Sending,
    ) {
        let (app, connector, version, tell) = (
            self.app.clone(),
            self.connector.clone(),
            self.version,
            self.tell.clone(),
        );
        let (act, reverts, address) = (self.act(), self.reverts, flight.claimed.address);
        let slots = flight.claimed.slots.clone();
        let wanted: Vec<Ordinal> = slots
            .iter()
            .filter_map(|slot| flight.ordinals.get(slot.index.get()).copied())
            .collect();
        self.under_way.spawn(async move {
            let _sending = sending;
            let found = tokio::try_join!(
                member::by_ordinals(&app, version, &wanted),
                revert::remote_ids(&app, reverts, address, &wanted),
            );
            let (members, mut remote_ids) = match found {
                Ok(found) => found,
                Err(error) => {
                    let trouble = Trouble::new("member_unreadable", error.to_string());
                    for slot in &slots {
                        let result = SendResult::Retry {
                            after: None,
                            trouble: trouble.clone(),
                        };
                        let _ = tell.send(Came {
                            flight: number,
                            index: slot.index,
                            result,
                        });
                    }
                    return (number, None);
                }
            };
            let people = slots.iter().zip(&wanted).zip(members).zip(0..).map(
                |(((slot, ordinal), member), turn)| Person {
                    index: slot.index,
                    turn,
                    attempt: slot.attempt,
                    doubtful: slot.doubtful,
                    key: member.key,
                    attributes: member.attributes,
                    remote_id: remote_ids.remove(ordinal),
                },
            );
            let on_result = |index, result| {
                // A sender that is gone has lost its lease: its people are looked up by the next.
                let _ = tell.send(Came {
                    flight: number,
                    index,
                    result,
                });
            };
            let trouble = connector
                .send(act, people.collect(), &gate, &on_result)
                .await;
            (number, trouble)
        });
    }

    /// Takes in everything that has come back so far, and hands over what the next turn writes.
    fn gather(&mut self) {
        while let Ok(came) = self.came.try_recv() {
            self.take(came);
        }
        let now = self.app.clock.monotonic();
        let lease_ms = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        for flight in self.flights.values_mut() {
            // A batch from which nobody comes back for long keeps its lease all the same.
            let is_old = now.0.saturating_sub(flight.leased_at.0) > lease_ms / 3;
            if flight.ended || flight.has_news() || is_old {
                self.ready.push(flight.finish(flight.ended));
            }
        }
        self.flights.retain(|_, flight| !flight.ended);
    }

    /// Returns the time by the clock that judges leases. When somebody is tried again is said in it: by a
    /// wall clock that is hours ahead here, they would wait for hours.
    fn ledger_now(&self) -> Timestamp {
        let Some((at, then)) = self.ledger_time else {
            return self.app.clock.now();
        };
        let passed = self.app.clock.monotonic().0.saturating_sub(then.0);
        let passed = TimeDelta::milliseconds(i64::try_from(passed).unwrap_or(0));
        at.checked_add_signed(passed).unwrap_or(at)
    }

    fn take(&mut self, came: Came) {
        let now = self.ledger_now();
        if let Some(flight) = self.flights.get_mut(&came.flight) {
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
                    let (number, trouble) = ended.map_err(StoreError::corrupt)?;
                    while let Ok(came) = self.came.try_recv() {
                        self.take(came);
                    }
                    if let Some(flight) = self.flights.get_mut(&number) {
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

    /// Moves the leases on that the turn renewed, and forgets batches whose lease was lost: somebody
    /// else has them, or will.
    fn settle_leases(&mut self, turn: &Turn, asked: Moment) {
        let end = self.lease_end(asked);
        self.flights.retain(|_, flight| {
            let address = flight.claimed.address;
            if turn.lost.contains(&address) {
                flight.lease.lose();
                return false;
            }
            if turn.renewed.contains(&address) {
                flight.lease.renew(end);
                flight.leased_at = asked.monotonic;
            }
            if turn.kept.contains(&address) {
                // Asked for and not given: under a hold a lease only runs out.
                flight.leased_at = asked.monotonic;
            }
            true
        });
    }
}

#[cfg(test)]
mod tests;
