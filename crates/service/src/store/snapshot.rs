//! One instant of the database to read from: everything that is read from it was committed together.
//!
//! It blocks no writer and no writer blocks it: SQLite reads the log as it was, PostgreSQL a
//! repeatable-read transaction. It must not be kept for long: while it is there, SQLite's log cannot be
//! folded back and PostgreSQL cannot clear dead rows away.

use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, IsolationLevel,
    QueryResult, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
};

use super::{Store, StoreError};

/// What was committed at one instant.
#[derive(Debug)]
pub struct Snapshot(DatabaseTransaction);

impl Store {
    /// Takes a snapshot; its instant is that of the first thing read from it.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    #[expect(
        clippy::disallowed_methods,
        reason = "a transaction that only reads has no lane and nothing to try again"
    )]
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.check_place()?;
        let options = if self.is_postgres() {
            TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                ..TransactionOptions::default()
            }
        } else {
            TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Deferred),
                ..TransactionOptions::default()
            }
        };
        Ok(Snapshot(self.read().begin_with_options(options).await?))
    }
}

impl Snapshot {
    /// Lets go of it.
    ///
    /// # Errors
    ///
    /// When the connection broke; what was read is true all the same.
    pub async fn end(self) -> Result<(), StoreError> {
        Ok(self.0.commit().await?)
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Snapshot {
    fn get_database_backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.0.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.0.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.0.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.0.query_all_raw(statement).await
    }
}
