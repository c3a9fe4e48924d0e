//! What every part of the service shares: store, clock, ids, connectors and the wake-up bell.

use std::sync::{Arc, Mutex, PoisonError};

use tidegate_orchestrator::hold::Scope;
use tidegate_orchestrator::ids::{Timestamp, WorkerId};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::clock::Clock;
use crate::connector::Connectors;
use crate::fetch::Fetcher;
use crate::meter::Meter;
use crate::operations::exposure::ExposureCell;
use crate::operations::load::PlanCache;
use crate::operations::member::MemberCache;
use crate::operations::signal::admission::Admission;
use crate::operations::signal::rate::Rates;
use crate::operations::source::refusals::Refusals;
use crate::outgoing::Outgoing;
use crate::signal::keys::Keys;
use crate::store::Store;
use crate::tasks::permit::PermitCell;

/// How many files one process takes in at once.
pub const IMPORTS_AT_ONCE: usize = 4;

/// Makes ids: the only part that does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ids;

impl Ids {
    /// Returns the maker of ids that differ from all others.
    #[must_use]
    pub const fn system() -> Self {
        Self
    }

    /// Makes an id; later ones are greater.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where ids are made")]
    pub fn make<I: From<Uuid>>(&self) -> I {
        I::from(Uuid::now_v7())
    }

    /// Makes a text that nobody can guess: 122 random bits twice.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where ids are made")]
    pub fn secret(&self) -> String {
        format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
    }

    /// Makes a text that differs from all others.
    #[must_use]
    pub fn token(&self) -> String {
        self.make::<Uuid>().simple().to_string()
    }
}

/// Wakes tasks up. A ring is a hint: whoever misses it finds the same work at the next look.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<WakeBells>);

#[derive(Debug, Default)]
struct WakeBells {
    planner: Notify,
    dispatch: Notify,
    reviews: Notify,
    parts: Notify,
    policy: Notify,
    /// What holds have stopped, and the planner has not been told of.
    stopped: Mutex<Vec<Scope>>,
}

impl Wake {
    /// Something changed: everybody looks.
    pub fn ring(&self) {
        self.0.planner.notify_one();
        self.0.dispatch.notify_one();
    }

    /// The date of a review changed: whoever reminds looks when the next one is due.
    pub fn review(&self) {
        self.0.reviews.notify_one();
    }

    /// Waits for the bell of the reviews.
    pub async fn reviews(&self) {
        self.0.reviews.notified().await;
    }

    /// A signal was admitted, or what judges it changed.
    pub fn judge(&self) {
        self.0.policy.notify_one();
    }

    /// Waits for the bell of the judge.
    pub async fn judging(&self) {
        self.0.policy.notified().await;
    }

    /// A wave is to be sorted.
    pub fn sort(&self) {
        self.0.parts.notify_one();
    }

    /// Waits for the bell of the waves to be sorted.
    pub async fn parts(&self) {
        self.0.parts.notified().await;
    }

    /// A hold began: the planner looks at everything it covers, after this call returns.
    pub fn stop(&self, scope: Scope) {
        let mut stopped = self
            .0
            .stopped
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        stopped.push(scope);
    }

    /// Hands over what holds have stopped since the last look.
    #[must_use]
    pub fn take_stopped(&self) -> Vec<Scope> {
        let mut stopped = self
            .0
            .stopped
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *stopped)
    }

    /// Waits for the planner's bell.
    pub async fn planner(&self) {
        self.0.planner.notified().await;
    }

    /// Waits for the dispatcher's bell.
    pub async fn dispatch(&self) {
        self.0.dispatch.notified().await;
    }
}

/// What this process remembers of those who report; nothing of it has to outlive it.
#[derive(Debug, Clone, Default)]
pub struct Inbound {
    /// The keys of issuers.
    pub keys: Keys,
    /// What was refused.
    pub refusals: Refusals,
}

/// Everything, in one hand; cheap to clone.
#[derive(Debug, Clone)]
pub struct App {
    /// What is stored.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// New ids.
    pub ids: Ids,
    /// The bells.
    pub wake: Wake,
    /// Unpacked parts of populations.
    pub members: MemberCache,
    /// The last answers about exposure.
    pub exposures: ExposureCell,
    /// Plans that were read before.
    pub plans: PlanCache,
    /// The ways to targets.
    pub connectors: Connectors,
    /// The way to endpoints that are told what happens.
    pub outgoing: Arc<Outgoing>,
    /// What is remembered of those who report.
    pub inbound: Inbound,
    /// The way to sources that are asked.
    pub fetch: Fetcher,
    /// This process's right to send.
    pub permit: PermitCell,
    /// How fast it goes.
    pub meter: Meter,
    /// What is reported and waits to become durable.
    pub admission: Admission,
    /// How much each source may report.
    pub rates: Rates,
    /// Places for imports: each keeps a thread, and on PostgreSQL a connection, until its file has come.
    pub imports: Arc<Semaphore>,
    /// The place for adding everything up: many who ask at once must not take the readers of everybody else.
    pub checks: Arc<Semaphore>,
    /// The name of this process among those that send.
    pub worker: WorkerId,
    /// What people call it: the host and the process.
    pub worker_name: String,
    /// When the process began.
    pub started_at: Timestamp,
    /// Rung when the process ends: nothing new is begun.
    pub ending: CancellationToken,
    /// Work that must not end with the request that asked for it.
    pub background: TaskTracker,
}

impl App {
    /// Puts an application together around a store.
    #[must_use]
    pub fn new(store: Store, clock: Clock, ids: Ids) -> Self {
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        Self {
            store,
            started_at: clock.now(),
            clock,
            wake: Wake::default(),
            members: MemberCache::default(),
            exposures: ExposureCell::default(),
            plans: PlanCache::default(),
            connectors: Connectors::default(),
            outgoing: Arc::default(),
            inbound: Inbound::default(),
            fetch: Fetcher::default(),
            permit: PermitCell::default(),
            meter: Meter::default(),
            admission: Admission::default(),
            rates: Rates::default(),
            imports: Arc::new(Semaphore::new(IMPORTS_AT_ONCE)),
            checks: Arc::new(Semaphore::new(1)),
            worker: ids.make(),
            worker_name: format!("{}:{}", host.trim(), std::process::id()),
            ending: CancellationToken::new(),
            background: TaskTracker::new(),
            ids,
        }
    }
}
