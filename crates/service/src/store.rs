//! What is stored, on SQLite or PostgreSQL: the only part that speaks SQL.
//!
//! `connect` opens the pools, `migrate` brings the schema up to date, `txn` is the one way to write,
//! `query` the one way to run a statement, `audit` appends to the trail inside the transaction of the
//! change it records, `snapshot` is one instant to read from, `sole` keeps a second process from a SQLite
//! file, `place` finds out when that file is not there any more, `listen` hears of holds that others
//! place. The other files hold the rows of one resource each and decide nothing.

pub mod audit;
mod connect;
pub mod drift;
pub mod endpoint;
pub mod error;
pub mod exemption;
pub mod failure;
pub mod hold;
pub mod idempotency;
pub mod lease;
pub mod ledger;
mod listen;
mod migrate;
pub mod part;
mod place;
pub mod plan;
pub mod policy;
pub mod population;
pub mod query;
pub mod release;
pub mod revert;
pub mod review;
pub mod rollout;
pub mod signal;
pub mod snapshot;
mod sole;
pub mod source;
pub mod standing;
pub mod target;
pub mod timeline;
pub mod token;
mod txn;
pub mod wave;
pub mod worker;

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{DatabaseConnection, DbBackend};
use tokio::sync::{Mutex, MutexGuard, watch};

use connect::Pools;
pub use connect::{DatabaseUrl, DatabaseUrlError};
pub use error::StoreError;
pub use listen::Listener;
use place::FilePlace;
pub use sea_orm::ConnectionTrait as Connection;
pub use snapshot::Snapshot;
pub use sole::Sole;
pub(crate) use txn::transact;
pub use txn::{Attempts, Lane, Open, Retryable, StoreTime, Txn};

use timeline::{Mark, Newest, TrailEnd};

use tidegate_orchestrator::ids::Epoch;

use crate::app::Ids;
use crate::clock::Clock;

/// How long connections may take to end what they are at, at the end of the process.
const CLOSING_MAX: Duration = Duration::from_secs(5);

/// A database that is open; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pools: Pools,
    place: Option<FilePlace>,
    mark: Mark,
    taking_over: Mutex<()>,
    lanes: Lanes,
    clock: Clock,
    holds: hold::HoldCache,
}

/// The one writer of SQLite. Ordinary writers queue for a place in front of the gate, holds go to the
/// gate itself: a hold waits for the writer at work and for one other at most.
#[derive(Debug, Default)]
struct Lanes {
    ordinary: Mutex<()>,
    gate: Mutex<()>,
    /// How many stops are being placed: on both databases nobody else begins meanwhile.
    stopping: watch::Sender<u32>,
}

/// The longest that one stop keeps ordinary writers from beginning: one that hangs must not hang the rest.
const STOPPING_MAX: Duration = Duration::from_millis(100);

/// While it lives, ordinary writers of this process do not begin: whoever stops goes before whoever moves.
#[derive(Debug)]
pub struct Stopping(Store);

impl Drop for Stopping {
    fn drop(&mut self) {
        let stopping = &self.0.0.lanes.stopping;
        stopping.send_modify(|stops| *stops = stops.saturating_sub(1));
    }
}

impl Store {
    /// Opens a database and brings its schema up to date.
    ///
    /// # Errors
    ///
    /// When it cannot be reached, or was written by a later version.
    pub async fn open(url: &DatabaseUrl, clock: Clock, ids: &Ids) -> Result<Self, StoreError> {
        let pools = connect::connect(url).await?;
        migrate::run(&pools.writer).await?;
        let store = Self(Arc::new(Inner {
            pools,
            place: FilePlace::of(url)?,
            mark: Mark::of(url),
            taking_over: Mutex::default(),
            lanes: Lanes::default(),
            clock,
            holds: hold::HoldCache::default(),
        }));
        store.install(ids).await?;
        Ok(store)
    }

    /// Gives the connections back, within a few seconds. A SQLite file is whole by itself then: the log beside it
    /// has gone into it.
    pub async fn close(&self) {
        let pools = &self.0.pools;
        let closing = async {
            // Whoever writes closes last: who reads cannot take the log in.
            let _ = pools.reader.close_by_ref().await;
            let _ = pools.writer.close_by_ref().await;
            let _ = pools.for_holds.close_by_ref().await;
        };
        if tokio::time::timeout(CLOSING_MAX, closing).await.is_err() {
            tracing::warn!("the connections to the database are still at work at the end");
        }
    }

    /// Returns the connections for reading. What they see is committed.
    #[must_use]
    pub fn read(&self) -> &DatabaseConnection {
        &self.0.pools.reader
    }

    /// Fails when the file of the database is no longer where it was opened: what is written goes nowhere.
    ///
    /// # Errors
    ///
    /// `Unavailable`, with the path.
    pub fn check_place(&self) -> Result<(), StoreError> {
        self.0.place.as_ref().map_or(Ok(()), FilePlace::check)
    }

    /// Returns how new an installation ever was, here or when a process before this one served it.
    #[must_use]
    pub fn newest(&self, instance: &str) -> Newest {
        self.0.mark.newest(instance)
    }

    /// Returns the highest epoch that this process has seen in force.
    pub(crate) fn epoch_seen_here(&self) -> Epoch {
        self.0.mark.epoch_seen()
    }

    /// Returns which installation this is, once an epoch of it was seen.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.0.mark.instance()
    }

    /// Remembers an epoch that is in force, and the end of the trail when that was read with it, so that an older
    /// store is known for what it is.
    pub fn epoch_seen(&self, instance: &str, epoch: Epoch, trail_end: Option<&TrailEnd>) {
        self.0.mark.raise(instance, epoch, trail_end);
    }

    /// Remembers a store that was found older than it was, and is halted.
    pub fn start_over(&self, instance: &str, epoch: Epoch, trail_end: Option<TrailEnd>) {
        self.0.mark.start_over(instance, epoch, trail_end);
    }

    /// Has one task at a time take over a store that is older than it was.
    pub(crate) async fn taking_over(&self) -> MutexGuard<'_, ()> {
        self.0.taking_over.lock().await
    }

    /// Says whether what is remembered can outlive a power cut.
    #[must_use]
    pub fn keeps_mark(&self) -> bool {
        self.0.mark.keeps()
    }

    /// Sees to it that what is remembered outlives a power cut.
    pub fn keep_mark(&self) {
        self.0.mark.keep();
    }

    /// Returns the holds in force as they were last read.
    #[must_use]
    pub fn hold_cache(&self) -> &hold::HoldCache {
        &self.0.holds
    }

    /// Has ordinary writers of this process wait before they begin, for as long as what is returned lives.
    /// They wait for a moment and no longer, so nothing depends on it: a stop is only answered sooner.
    #[must_use]
    pub fn stopping(&self) -> Stopping {
        let stopping = &self.0.lanes.stopping;
        stopping.send_modify(|stops| *stops = stops.saturating_add(1));
        Stopping(self.clone())
    }

    /// Says which database this is.
    #[must_use]
    pub fn is_postgres(&self) -> bool {
        self.0.pools.writer.get_database_backend() == DbBackend::Postgres
    }

    /// Gives a new database its identity, its epoch, the beginning of its audit trail, and a policy set.
    async fn install(&self, ids: &Ids) -> Result<(), StoreError> {
        let instance = ids.token();
        let starter = policy::PolicyRow::starter(&ids.token())?;
        transact!(self, Lane::Ordinary, "install", |txn| {
            let now = txn.now().timestamp_millis();
            query::execute(
                txn,
                "INSERT INTO installation (id, instance_id, epoch, created_at) VALUES (1, $1, 1, $2) \
                 ON CONFLICT (id) DO NOTHING",
                [instance.clone().into(), now.into()],
            )
            .await?;
            query::execute(
                txn,
                "INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, $1) ON CONFLICT (id) DO NOTHING",
                [vec![0_u8; 32].into()],
            )
            .await?;
            let starter = policy::PolicyRow {
                created_at: now,
                activated_at: Some(now),
                ..starter.clone()
            };
            policy::starter_install(txn, &starter).await?;
            Ok::<(), StoreError>(())
        })
    }
}

#[cfg(test)]
pub(crate) mod testing;
