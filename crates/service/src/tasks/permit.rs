//! This process's right to send: renewed from the database, withdrawn by a hold, dead by itself.
//!
//! Whoever sends asks the cell last before the socket. The task renews the permit every half second, and
//! at once when the epoch is said to have moved (`tasks::listen`); what this process has seen, and whom
//! it has under way, it tells in its row, at once when that is what a hold waits for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tidegate_orchestrator::hold::{HoldSet, InForce, Place, Scope};
use tidegate_orchestrator::ids::Epoch;
use tidegate_orchestrator::permit::{
    Deadline, Kept, Moment, NotNow, PERMIT_MILLIS, PERMIT_RENEW_MILLIS, Permit, may_send,
};
use tidegate_orchestrator::quiesce::{EpochSeen, UnderWay, WorkerSaid, remember};
use tokio::sync::Notify;

use crate::app::App;
use crate::operations::restored;
use crate::store::{Lane, StoreError, StoreTime, hold, transact, worker};

/// A worker that has not been heard for this long is taken for dead and forgotten.
const WORKER_FORGET_MINUTES: i64 = 60;
/// How often a worker with no news says that it is there. On SQLite there is nobody else to hear it.
const TELL_EVERY_MS: u64 = 1000;
const TELL_EVERY_ALONE_MS: u64 = 60_000;

/// The permit, where everybody who sends looks at it.
#[derive(Debug, Clone, Default)]
pub struct PermitCell(Arc<Cell>);

#[derive(Debug, Default)]
struct Cell {
    kept: RwLock<Kept>,
    // Never locked together with `kept`: whoever asks about the one has let go of the other.
    sending: Mutex<HashMap<Place, u64>>,
    total: AtomicU64,
    /// The longest that a request of this process takes.
    request_ms: AtomicU32,
    /// The epochs seen, and since when.
    epochs: Mutex<Vec<EpochSeen>>,
    /// What was told last.
    told: tokio::sync::Mutex<Option<Told>>,
    /// Rung when the permit must not wait for its time.
    hurry: Notify,
}

/// What the other processes were told.
#[derive(Debug, Clone, Copy)]
struct Told {
    epoch: Epoch,
    is_quiet: bool,
    is_idle: bool,
    request_ms: u32,
    at_ms: u64,
}

impl Told {
    fn of(said: &WorkerSaid, at_ms: u64) -> Self {
        Self {
            epoch: said.epoch,
            is_quiet: said.held.as_ref().is_some_and(Vec::is_empty),
            is_idle: said.in_flight == 0,
            request_ms: said.request_millis.unwrap_or(0),
            at_ms,
        }
    }
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
        let is_last = {
            let mut sending = lock(&self.cell.0.sending);
            let left = sending.get(&self.place).copied().unwrap_or(0);
            match left.saturating_sub(self.people) {
                0 => sending.remove(&self.place),
                left => sending.insert(self.place, left),
            };
            left <= self.people
        };
        self.cell.0.total.fetch_sub(self.people, Ordering::SeqCst);
        // A hold may wait for exactly this.
        if is_last && self.cell.known().1.worst(&self.place).is_some() {
            self.cell.hurry();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let kept = self.0.kept.read().unwrap_or_else(PoisonError::into_inner);
        may_send(kept.permit(), place, lease_until, now)
    }

    /// Returns the epoch of the permit while it lives.
    #[must_use]
    pub fn epoch(&self, now: Moment) -> Option<Epoch> {
        let kept = self.0.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.permit()
            .filter(|permit| !permit.expires.has_passed(now))
            .map(|permit| permit.epoch)
    }

    /// Stops sending under a hold at once, before the next renewal, and has it told.
    pub fn hold(&self, hold: InForce, epoch: Epoch) {
        self.change(|kept| kept.hold(hold, epoch));
        self.hurry();
    }

    /// Gives the right to send up: this process ends.
    pub fn withdraw(&self, now: Moment) {
        self.change(|kept| kept.withdraw(now));
    }

    /// Has the permit renewed, and the others told, without waiting for the time.
    pub fn hurry(&self) {
        self.0.hurry.notify_one();
    }

    fn give(&self, permit: Permit) {
        self.change(|kept| kept.give(permit));
    }

    fn change(&self, change: impl FnOnce(&mut Kept)) {
        let mut kept = self.0.kept.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut kept);
    }

    /// Returns the epoch and the holds that this process knows, whether it may send or not.
    fn known(&self) -> (Epoch, Arc<HoldSet>) {
        let kept = self.0.kept.read().unwrap_or_else(PoisonError::into_inner);
        let permit = kept.permit();
        permit.map_or_else(Default::default, |permit| {
            (permit.epoch, Arc::clone(&permit.holds))
        })
    }

    /// Counts people as under way.
    #[must_use]
    pub fn sending(&self, place: Place, people: u64) -> Sending {
        *lock(&self.0.sending).entry(place).or_default() += people;
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
        let sending = lock(&self.0.sending);
        sending
            .iter()
            .filter(|(place, _)| scope.covers(place))
            .map(|(_, people)| people)
            .sum()
    }

    /// Counts everybody under way.
    #[must_use]
    pub fn sending_total(&self) -> u64 {
        self.0.total.load(Ordering::SeqCst)
    }

    /// Returns what this process has to say of itself now.
    ///
    /// The holds are read before the people: whoever passed the gate before a hold was known is counted
    /// since before the gate was asked. The time comes after both: by then the epoch had been committed, and
    /// who does not send had come back.
    #[must_use]
    pub fn says(&self, app: &App, time: StoreTime) -> WorkerSaid {
        let (epoch, holds) = self.known();
        let sending = lock(&self.0.sending).clone();
        let now = time.now(app.clock.monotonic());
        let held: Vec<UnderWay> = sending
            .into_iter()
            .filter(|(place, _)| holds.worst(place).is_some())
            .map(|(place, people)| UnderWay::at(place, people))
            .collect();
        let mut epochs = lock(&self.0.epochs);
        // Without a permit nothing has been seen yet.
        if epoch > Epoch::default() {
            remember(&mut epochs, epoch, held.is_empty(), now);
        }
        WorkerSaid {
            id: app.worker,
            name: app.worker_name.clone(),
            seen_at: now,
            epoch,
            epochs: epochs.clone(),
            in_flight: self.sending_total(),
            held: Some(held),
            request_millis: Some(self.0.request_ms.load(Ordering::SeqCst)),
            has_ended: false,
        }
    }
}

/// Renews the permit from the database; returns the time there.
///
/// # Errors
///
/// When the store cannot be reached; the old permit then dies at its time.
pub async fn renew(app: &App) -> Result<StoreTime, StoreError> {
    // Read before the question is asked: what the answer is worth counts from here.
    let asked = app.clock.moment();
    app.store.check_place()?;
    let found = restored::check(app).await?;
    let holds = hold::holds_at(&app.store, found.epoch).await?;
    // By the database's clock: whether an exemption is over must not hang on whose clock is right.
    let now = match found.at.filter(|_| app.clock.is_system()) {
        Some(at) => at,
        None => app.clock.now(),
    };
    app.permit
        .give(Permit::read(asked, now, found.epoch, holds));
    Ok(StoreTime::read(now, asked.monotonic))
}

/// Promises that no request of this process takes longer, before the first that may: a hold must know
/// how long to wait for a process that has fallen silent.
///
/// # Errors
///
/// When the others cannot be told.
pub async fn promise(app: &App, timeout: Duration) -> Result<(), StoreError> {
    let millis = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    app.permit.0.request_ms.fetch_max(millis, Ordering::SeqCst);
    let time = app.store.time().await?;
    tell(app, false, time).await
}

/// Keeps the permit alive until the process ends, and tells the other processes about this one.
pub async fn run(app: App) {
    let renew_every = Duration::from_millis(u64::from(PERMIT_RENEW_MILLIS));
    let mut due = tokio::time::interval(renew_every);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let is_due = tokio::select! {
            _ = due.tick() => true,
            () = app.permit.0.hurry.notified() => false,
        };
        match in_time(renew(&app)).await {
            Ok(time) => {
                if let Err(error) = in_time(tell(&app, is_due, time)).await {
                    tracing::warn!(%error, "the other processes could not be told about this one");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the permit could not be renewed: sending stops within two seconds")
            }
        }
    }
}

/// Gives a question to the database up that a dead connection swallowed: what came after the life of a permit
/// would be worth nothing, and whoever waits on for it does not ask again.
async fn in_time<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let longest = Duration::from_millis(u64::from(PERMIT_MILLIS));
    let answer = tokio::time::timeout(longest, asked).await;
    answer.unwrap_or_else(|_| {
        let sentence = "the database did not answer within the life of a permit";
        Err(StoreError::Unavailable(sentence.to_owned()))
    })
}

/// Writes the worker's row when something about it changed, or when it is time to be heard again.
///
/// On SQLite nobody else reads it: what is news there waits until it is due, and costs a hold nothing.
async fn tell(app: &App, is_due: bool, time: StoreTime) -> Result<(), StoreError> {
    let cell = &app.permit.0;
    let mut told = cell.told.lock().await;
    let now_ms = app.clock.monotonic().0;
    let is_shared = app.store.is_postgres();
    // Noted in any case: since when an epoch is known here is what a hold is answered with. By the database's
    // clock: whether a worker is silent must not hang on whose clock is right.
    let said = app.permit.says(app, time);
    let telling = Told::of(&said, now_ms);
    let every = if is_shared {
        TELL_EVERY_MS
    } else {
        TELL_EVERY_ALONE_MS
    };
    let is_old = told.is_none_or(|was| now_ms.saturating_sub(was.at_ms) >= every);
    let is_news = told.is_none_or(|was| {
        (was.epoch, was.is_quiet, was.is_idle) != (telling.epoch, telling.is_quiet, telling.is_idle)
    });
    let is_promise = told.is_none_or(|was| was.request_ms < telling.request_ms);
    if !is_promise && !(is_news && (is_shared || is_due)) && !(is_old && is_due) {
        return Ok(());
    }
    app.store.worker_say(&said, app.started_at).await?;
    *told = Some(telling);
    if is_old && is_due {
        let before = time.at() - chrono::TimeDelta::minutes(WORKER_FORGET_MINUTES);
        transact!(app.store, Lane::Ordinary, "workers_forget", |txn| {
            worker::workers_forget(txn, before).await
        })?;
    }
    Ok(())
}
