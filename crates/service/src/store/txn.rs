//! The one way to write: a transaction that is tried again when it lost, under the right lane.

use std::time::Duration;

use chrono::TimeDelta;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
};
use tidegate_orchestrator::ids::{Epoch, Timestamp, from_millis};
use tidegate_orchestrator::permit::Monotonic;
use tokio::sync::{MutexGuard, watch};

use super::audit::Entry;
use super::hold::{self, HoldCache};
use super::{STOPPING_MAX, Store, StoreError, query};

/// How often a transaction that lost is tried in all.
const TRIES: u32 = 8;

/// How far the clock of this machine may be from the database's: beyond, what it says of the future (when
/// somebody is tried again, when a window ends) is not to be relied on.
const CLOCK_WRONG: TimeDelta = TimeDelta::seconds(5);

/// How long a transaction of PostgreSQL may wait for its client before the server ends it. A process that is
/// frozen or cut off in the middle of one would keep what it has locked, and every halt waits for that.
const CLIENT_SILENT_MS: u32 = 5000;

/// The time by the clock that judges leases, and when it was asked for here.
#[derive(Debug, Clone, Copy)]
pub struct StoreTime {
    at: Timestamp,
    asked: Monotonic,
}

impl StoreTime {
    /// Notes a time that was read after `asked`.
    #[must_use]
    pub const fn read(at: Timestamp, asked: Monotonic) -> Self {
        Self { at, asked }
    }

    /// Returns the time that was read.
    #[must_use]
    pub const fn at(self) -> Timestamp {
        self.at
    }

    /// Returns what time it is there by now, without asking again: late rather than early, for it counts from
    /// before the question.
    #[must_use]
    pub fn now(self, here: Monotonic) -> Timestamp {
        let passed = here.0.saturating_sub(self.asked.0);
        let passed = TimeDelta::milliseconds(i64::try_from(passed).unwrap_or(0));
        self.at.checked_add_signed(passed).unwrap_or(self.at)
    }
}

/// Who waits for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// A hold: overtakes everything that waits.
    Hold,
    /// Everything else.
    Ordinary,
}

/// An error that knows whether the transaction may be tried again.
pub trait Retryable: From<StoreError> {
    /// Says whether the transaction merely lost against another one.
    fn is_retryable(&self) -> bool;
}

impl Retryable for StoreError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Serialization)
    }
}

/// A transaction under way.
#[derive(Debug)]
pub struct Txn {
    inner: DatabaseTransaction,
    now: Timestamp,
    is_clock_wrong: bool,
    has_hold_lock: bool,
    has_lost: bool,
    stopping: Option<watch::Receiver<u32>>,
    store: Store,
    pub(super) trail: Vec<Entry>,
}

impl Txn {
    /// Gives way to whoever is stopping something in this process: for a transaction that is long and can be done anew.
    /// Once it has lost it gives way no more.
    ///
    /// # Errors
    ///
    /// `Serialization` when somebody is.
    pub fn give_way(&self) -> Result<(), StoreError> {
        let stops = self.stopping.as_ref().map_or(0, |stops| *stops.borrow());
        if stops > 0 && !self.has_lost {
            return Err(StoreError::Serialization);
        }
        Ok(())
    }

    /// Says whether it lost against another one and is tried again.
    #[must_use]
    pub const fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// Says whether no claim commits until it ends: so from the beginning in the lane of holds.
    #[must_use]
    pub const fn has_hold_lock(&self) -> bool {
        self.has_hold_lock
    }

    /// Returns the instant of the transaction, by the clock that judges leases: the database's own on
    /// PostgreSQL, where several machines meet.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Says whether the clock of this machine is far from the one that judges leases.
    #[must_use]
    pub const fn is_clock_wrong(&self) -> bool {
        self.is_clock_wrong
    }

    /// Returns the holds in force as they were last read. A transaction that writes holds must not
    /// read them from here.
    #[must_use]
    pub fn hold_cache(&self) -> &HoldCache {
        self.store.hold_cache()
    }

    /// Returns the highest epoch that this process has seen in force.
    pub(super) fn epoch_seen(&self) -> Epoch {
        self.store.epoch_seen_here()
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Txn {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.inner.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.inner.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.inner.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.inner.query_all_raw(statement).await
    }
}

/// Runs a block in a transaction and commits; everything it did is undone when it fails. The block is
/// run again when the transaction lost against another one, also when it lost at the commit, so it
/// must not give away what it owns.
///
/// `let hold = transact!(store, Lane::Hold, "hold_place", |txn| hold_put(txn, &new).await)?;`
///
/// A macro and not a function of a closure: the compiler cannot see that the future of a borrowed
/// async closure is `Send`, and every task and handler needs that.
macro_rules! transact {
    ($store:expr, $lane:expr, $name:literal, |$txn:ident| $body:expr) => {{
        let mut attempts = $crate::store::Attempts::of($name);
        loop {
            let outcome = match $store.begin($lane).await {
                Ok(mut open) => {
                    open.note(&attempts);
                    let outcome = {
                        let $txn = open.txn();
                        async { $body }.await
                    };
                    open.finish(outcome).await
                }
                Err(error) => Err(error.into()),
            };
            if !attempts.again(&outcome).await {
                break outcome;
            }
        }
    }};
}
pub(crate) use transact;

/// How often a transaction has been tried.
#[derive(Debug)]
pub struct Attempts {
    name: &'static str,
    tried: u32,
}

impl Attempts {
    /// Begins to count.
    #[must_use]
    pub const fn of(name: &'static str) -> Self {
        Self { name, tried: 1 }
    }

    /// Says whether to try again, after a moment.
    pub async fn again<T, E: Retryable>(&mut self, outcome: &Result<T, E>) -> bool {
        let lost = outcome.as_ref().is_err_and(Retryable::is_retryable);
        if !lost || self.tried >= TRIES {
            return false;
        }
        tracing::debug!(
            txn = self.name,
            tried = self.tried,
            "the transaction lost and is tried again"
        );
        tokio::time::sleep(Duration::from_millis(u64::from(self.tried * self.tried))).await;
        self.tried += 1;
        true
    }
}

/// A transaction that is open, and its place among the writers.
#[derive(Debug)]
pub struct Open<'a> {
    txn: Txn,
    // Given back after the transaction has ended, so that nobody finds the writer busy.
    _gate: Option<MutexGuard<'a, ()>>,
    _place: Option<MutexGuard<'a, ()>>,
}

impl Open<'_> {
    /// Has the transaction know whether it was tried before.
    pub const fn note(&mut self, attempts: &Attempts) {
        self.txn.has_lost = attempts.tried > 1;
    }

    /// Returns the transaction.
    pub const fn txn(&mut self) -> &mut Txn {
        &mut self.txn
    }

    /// Writes what the trail is to hear of what went well, and commits it; undoes what did not go well.
    ///
    /// # Errors
    ///
    /// As `outcome`, and when the trail cannot be written or the commit fails.
    pub async fn finish<T, E: Retryable>(mut self, outcome: Result<T, E>) -> Result<T, E> {
        let outcome = match outcome {
            Ok(value) => self
                .txn
                .append_trail()
                .await
                .map(|()| value)
                .map_err(E::from),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(value) => {
                self.txn.inner.commit().await.map_err(StoreError::from)?;
                Ok(value)
            }
            Err(error) => {
                // What led to it is the error that matters: a database that cannot write has often undone
                // everything by itself.
                if let Err(undo) = self.txn.inner.rollback().await {
                    tracing::debug!(error = %undo, "a transaction could not be undone");
                }
                Err(error)
            }
        }
    }
}

impl Store {
    /// Opens a transaction, after everybody who is ahead in the lane. Use `transact!`.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    pub async fn begin(&self, lane: Lane) -> Result<Open<'_>, StoreError> {
        let inner = &self.0;
        if lane == Lane::Ordinary {
            let mut stopping = inner.lanes.stopping.subscribe();
            let over = stopping.wait_for(|stops| *stops == 0);
            // Whether they are over or took too long: it begins.
            let _ = tokio::time::timeout(STOPPING_MAX, over).await;
        }
        let pool = match lane {
            Lane::Hold => &inner.pools.for_holds,
            Lane::Ordinary => &inner.pools.writer,
        };
        if self.is_postgres() {
            return Ok(Open {
                txn: self.begin_txn(pool, lane).await?,
                _gate: None,
                _place: None,
            });
        }
        let place = match lane {
            Lane::Ordinary => Some(inner.lanes.ordinary.lock().await),
            Lane::Hold => None,
        };
        let gate = inner.lanes.gate.lock().await;
        Ok(Open {
            txn: self.begin_txn(pool, lane).await?,
            _gate: Some(gate),
            _place: place,
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place where transactions begin"
    )]
    async fn begin_txn(&self, pool: &DatabaseConnection, lane: Lane) -> Result<Txn, StoreError> {
        self.check_place()?;
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let inner = pool.begin_with_options(options).await?;
        let before = self.0.clock.now();
        let has_hold_lock = lane == Lane::Hold;
        let mut first = vec![query::client_silent(CLIENT_SILENT_MS)];
        if has_hold_lock {
            // Before the time is read: what is placed is placed when no claim is under way any more.
            first.push(hold::HOLD_LOCK.to_owned());
        }
        let now = self.now_in(&inner, &first).await?;
        let after = self.0.clock.now();
        Ok(Txn {
            has_hold_lock,
            has_lost: false,
            stopping: (!has_hold_lock).then(|| self.0.lanes.stopping.subscribe()),
            inner,
            now,
            is_clock_wrong: now < before - CLOCK_WRONG || now > after + CLOCK_WRONG,
            store: self.clone(),
            trail: Vec::new(),
        })
    }

    /// Returns the time by the clock that judges leases, for whoever goes on counting from there.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    pub async fn time(&self) -> Result<StoreTime, StoreError> {
        let asked = self.0.clock.monotonic();
        Ok(StoreTime::read(self.now().await?, asked))
    }

    /// Returns the time by the clock that judges leases: the database's own on PostgreSQL.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        self.now_in(self.read(), &[]).await
    }

    /// Reads the time, after other expressions that cost no round trip of their own so.
    async fn now_in<C: ConnectionTrait>(
        &self,
        db: &C,
        first: &[String],
    ) -> Result<Timestamp, StoreError> {
        let is_asked = self.is_postgres() && self.0.clock.is_system();
        if !is_asked && (first.is_empty() || !self.is_postgres()) {
            return Ok(self.0.clock.now());
        }
        let before = first
            .iter()
            .fold(String::new(), |sql, part| sql + part + ", ");
        let sql = format!("SELECT {before}{} AS number", query::NOW);
        let row: Option<query::Number> = query::one(db, sql, []).await?;
        if !is_asked {
            return Ok(self.0.clock.now());
        }
        row.and_then(|row| from_millis(row.number))
            .ok_or_else(|| StoreError::corrupt("the database has no time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Ids;
    use crate::clock::Clock;
    use crate::store::DatabaseUrl;
    use crate::store::audit::{self, Entry};

    fn entry(action: &str) -> Entry {
        Entry {
            actor: "test".to_owned(),
            action: action.to_owned(),
            subject: "x".to_owned(),
            request_id: None,
            detail: serde_json::json!({"n": 1}),
            data: None,
        }
    }

    async fn store() -> (Store, std::path::PathBuf) {
        let path = std::env::temp_dir().join(format!("tidegate-{}.db", Ids::system().token()));
        let url = DatabaseUrl::Sqlite(path.display().to_string());
        (
            Store::open(&url, Clock::system(), &Ids::system())
                .await
                .unwrap(),
            path,
        )
    }

    #[test]
    fn a_time_that_was_read_goes_on_from_before_the_question() {
        let at = from_millis(1_000).unwrap();
        let time = StoreTime::read(at, Monotonic(50));
        assert_eq!(time.now(Monotonic(53)), from_millis(1_003).unwrap());
        assert_eq!(time.now(Monotonic(40)), at);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_transaction_that_fails_leaves_nothing_behind() {
        let (store, _path) = store().await;
        let failed: Result<(), StoreError> = transact!(store, Lane::Ordinary, "test", |txn| {
            txn.audit(entry("gone"));
            Err(StoreError::Conflict)
        });
        assert!(matches!(failed, Err(StoreError::Conflict)));
        assert_eq!(audit::head(store.read()).await.unwrap().0, 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_trail_is_a_chain_whoever_appends_at_once() {
        let (store, _path) = store().await;
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let store = store.clone();
            tasks.spawn(async move {
                let action = format!("write.{writer}");
                let lane = if writer % 2 == 0 {
                    Lane::Hold
                } else {
                    Lane::Ordinary
                };
                for _ in 0..10 {
                    let appended: Result<(), StoreError> = transact!(store, lane, "test", |txn| {
                        txn.audit(entry(&action));
                        Ok(())
                    });
                    appended.unwrap();
                }
            });
        }
        tasks.join_all().await;
        let rows = audit::entries_after(store.read(), 0, 1000).await.unwrap();
        assert_eq!(rows.len(), 80);
        for pair in rows.windows(2) {
            assert_eq!(pair[1].prev_hash, pair[0].hash);
            assert_eq!(pair[1].expected_hash().0.to_vec(), pair[1].hash);
        }
    }
}
