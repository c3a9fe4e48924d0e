//! This process's right to send: renewed from the database, withdrawn by a hold, dead by itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tidegate_orchestrator::hold::{InForce, Place, Scope};
use tidegate_orchestrator::ids::{Epoch, Timestamp};
use tidegate_orchestrator::permit::{
    Deadline, Moment, NotNow, PERMIT_MILLIS, PERMIT_RENEW_MILLIS, Permit, may_send,
};

use crate::app::App;
use crate::operations::restored;
use crate::store::worker::{self, WorkerRow};
use crate::store::{Lane, StoreError, hold, transact};

/// A worker that has not been heard for this long is taken for dead and forgotten.
const WORKER_FORGET_MINUTES: i64 = 60;

/// The permit, where everybody who sends looks at it.
#[derive(Debug, Clone, Default)]
pub struct PermitCell(Arc<Cell>);

#[derive(Debug, Default)]
struct Cell {
    permit: RwLock<Option<Permit>>,
    sending: Mutex<HashMap<Place, u64>>,
    total: AtomicU64,
}

/// People under way; given back when dropped.
#[derive(Debug)]
pub struct Sending {
    cell: PermitCell,
    place: Place,
    people: u64,
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut sending = self
            .cell
            .0
            .sending
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sending.get_mut(&self.place) {
            *count = count.saturating_sub(self.people);
            if *count == 0 {
                sending.remove(&self.place);
            }
        }
        self.cell.0.total.fetch_sub(self.people, Ordering::SeqCst);
    }
}

impl PermitCell {
    /// Says whether a request may begin now; the last check before the socket.
    ///
    /// # Errors
    ///
    /// With the reason why not.
    pub fn may_send(
        &self,
        place: &Place,
        lease_until: Deadline,
        now: Moment,
    ) -> Result<(), NotNow> {
        let permit = self.0.permit.read().unwrap_or_else(PoisonError::into_inner);
        may_send(permit.as_ref(), place, lease_until, now)
    }

    /// Returns the epoch of the permit while it lives.
    #[must_use]
    pub fn epoch(&self, now: Moment) -> Option<Epoch> {
        let permit = self.0.permit.read().unwrap_or_else(PoisonError::into_inner);
        permit
            .as_ref()
            .filter(|permit| !permit.expires.has_passed(now))
            .map(|permit| permit.epoch)
    }

    /// Stops sending under a hold at once, before the next renewal.
    pub fn hold(&self, hold: InForce, epoch: Epoch) {
        let mut cell = self
            .0
            .permit
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(permit) = cell.as_mut() {
            Arc::make_mut(&mut permit.holds).add(hold);
            permit.epoch = permit.epoch.max(epoch);
        }
    }

    /// Counts people as under way.
    #[must_use]
    pub fn sending(&self, place: Place, people: u64) -> Sending {
        *self
            .0
            .sending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(place)
            .or_default() += people;
        self.0.total.fetch_add(people, Ordering::SeqCst);
        Sending {
            cell: self.clone(),
            place,
            people,
        }
    }

    /// Counts the people under way that a scope covers.
    #[must_use]
    pub fn sending_under(&self, scope: &Scope) -> u64 {
        let sending = self
            .0
            .sending
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sending
            .iter()
            .filter(|(place, _)| scope.covers(place))
            .map(|(_, people)| people)
            .sum()
    }

    /// Takes a renewed permit in. One of an older epoch than the one that is here was read before a
    /// hold that this process knows of, and must not forget it: only its holds are added.
    fn give(&self, permit: Permit) {
        let mut cell = self
            .0
            .permit
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        match cell.as_mut() {
            Some(known) if known.epoch > permit.epoch => {
                let holds = Arc::make_mut(&mut known.holds);
                permit.holds.iter().for_each(|hold| holds.add(hold.clone()));
            }
            _ => *cell = Some(permit),
        }
    }
}

/// Renews the permit from the database.
///
/// # Errors
///
/// When the store cannot be reached; the old permit then dies at its time.
pub async fn renew(app: &App) -> Result<Epoch, StoreError> {
    // Read before the question is asked: what the answer is worth counts from here.
    let asked = app.clock.moment();
    app.store.check_place()?;
    restored::check(app).await?;
    let (epoch, holds) = hold::holds_known(app.store.read(), app.store.hold_cache()).await?;
    app.permit.give(Permit {
        epoch,
        expires: Deadline::after(asked, PERMIT_MILLIS),
        holds,
    });
    Ok(epoch)
}

/// Keeps the permit alive until the process ends, and tells the other processes about this one.
pub async fn run(app: App) {
    let started_at = app.clock.now();
    let mut told: Option<(Epoch, u64, Timestamp)> = None;
    loop {
        match renew(&app).await {
            Ok(epoch) => {
                if let Err(error) = tell(&app, started_at, epoch, &mut told).await {
                    tracing::warn!(%error, "the other processes could not be told about this one");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the permit could not be renewed: sending stops within two seconds")
            }
        }
        tokio::time::sleep(Duration::from_millis(u64::from(PERMIT_RENEW_MILLIS))).await;
    }
}

/// Writes the worker's row when something about it changed; on SQLite nobody else reads it often.
async fn tell(
    app: &App,
    started_at: Timestamp,
    epoch: Epoch,
    told: &mut Option<(Epoch, u64, Timestamp)>,
) -> Result<(), StoreError> {
    let in_flight = app.permit.0.total.load(Ordering::SeqCst);
    let now = app.clock.now();
    let every = if app.store.is_postgres() {
        1000
    } else {
        60_000
    };
    let is_news = told.is_none_or(|(was, flying, at)| {
        was != epoch || (flying == 0) != (in_flight == 0) || (now - at).num_milliseconds() > every
    });
    if !is_news {
        return Ok(());
    }
    transact!(app.store, Lane::Ordinary, "worker_put", |txn| {
        // By the database's clock: whether a worker is silent must not hang on whose clock is right.
        let seen_at = txn.now();
        let row = WorkerRow {
            id: app.worker,
            name: app.worker_name.clone(),
            started_at,
            seen_at,
            epoch,
            in_flight,
        };
        worker::worker_put(txn, &row).await?;
        let before = seen_at - chrono::TimeDelta::minutes(WORKER_FORGET_MINUTES);
        worker::workers_forget(txn, before).await
    })?;
    *told = Some((epoch, in_flight, now));
    Ok(())
}

#[cfg(test)]
mod tests {
    use tidegate_orchestrator::hold::{HoldKind, HoldSet};
    use tidegate_orchestrator::ids::{RolloutId, TargetId, from_millis};
    use tidegate_orchestrator::permit::Monotonic;
    use uuid::Uuid;

    use super::*;

    fn moment() -> Moment {
        Moment {
            wall: from_millis(1_000).unwrap(),
            monotonic: Monotonic(1_000),
        }
    }

    fn permit(epoch: i64) -> Permit {
        Permit {
            epoch: Epoch(epoch),
            expires: Deadline::after(moment(), PERMIT_MILLIS),
            holds: Arc::new(HoldSet::default()),
        }
    }

    #[test]
    fn a_renewal_read_before_a_hold_does_not_forget_the_hold() {
        let cell = PermitCell::default();
        let place = Place::rollout(
            TargetId::new(Uuid::from_u128(1)),
            RolloutId::new(Uuid::from_u128(2)),
        );
        let lease = Deadline::after(moment(), 60_000);
        cell.give(permit(7));
        assert_eq!(cell.may_send(&place, lease, moment()), Ok(()));
        let hold = InForce {
            id: tidegate_orchestrator::ids::HoldId::new(Uuid::from_u128(3)),
            kind: HoldKind::Halt,
            scope: Scope::Everything,
            since: moment().wall,
            reason: "stop".to_owned(),
        };
        cell.hold(hold, Epoch(8));
        // This renewal was asked for before the hold was placed, and comes back after it.
        cell.give(permit(7));
        assert!(cell.may_send(&place, lease, moment()).is_err());
    }
}
