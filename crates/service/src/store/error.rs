//! What can go wrong with a store, classified in one place.

use sea_orm::{DbErr, RuntimeErr};
use thiserror::Error;

/// Why the store did not do what it was asked to.
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is no such row.
    #[error("there is no such row")]
    NotFound,
    /// The row changed since it was read.
    #[error("the row changed since it was read")]
    Conflict,
    /// Another row has this name already.
    #[error("another row has this name already")]
    Taken,
    /// The database cannot be reached, or refuses to write.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The database was written by a later version, or its migrations were changed.
    #[error("{0}")]
    Schema(String),
    /// A row holds what cannot be.
    #[error("a stored row is damaged: {0}")]
    Corrupt(String),
    /// The store is older than what this process was served from before: a backup, or a standby that was promoted.
    #[error("the store is older than what was served before")]
    Older,
    /// The transaction lost against another one and may be tried again.
    #[error("the transaction lost against another one")]
    Serialization,
    /// The database said something unexpected.
    #[error("the database failed: {0}")]
    Database(String),
}

impl StoreError {
    /// Says that a row holds what cannot be.
    #[must_use]
    pub fn corrupt(cause: impl std::fmt::Display) -> Self {
        Self::Corrupt(cause.to_string())
    }
}

impl StoreError {
    /// Says whether it may go well in a moment, with nothing changed on our side.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::Older | Self::Serialization
        )
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        match &error {
            DbErr::RecordNotFound(_) => return Self::NotFound,
            DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => {
                return Self::Unavailable(error.to_string());
            }
            DbErr::Exec(RuntimeErr::SqlxError(cause))
            | DbErr::Query(RuntimeErr::SqlxError(cause)) => {
                return classify(cause);
            }
            _ => {}
        }
        Self::Database(error.to_string())
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        classify(&error)
    }
}

fn classify(error: &sqlx::Error) -> StoreError {
    let Some(found) = error.as_database_error() else {
        return match error {
            sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Io(_)
            | sqlx::Error::WorkerCrashed => StoreError::Unavailable(error.to_string()),
            _ => StoreError::Database(error.to_string()),
        };
    };
    if found.is_unique_violation() {
        return StoreError::Taken;
    }
    let code = found.code().unwrap_or_default();
    match code.as_ref() {
        // PostgreSQL: serialization failure, deadlock.
        "40001" | "40P01" => StoreError::Serialization,
        // PostgreSQL: disk full, too many connections, shutting down, starting up, silent for too long.
        "53100" | "53300" | "25P03" | "57P01" | "57P02" | "57P03" => {
            StoreError::Unavailable(found.message().to_owned())
        }
        // SQLite: busy (with its extended codes), disk full, input/output.
        "5" | "261" | "517" | "13" | "10" | "778" | "1034" | "4874" => {
            StoreError::Unavailable(found.message().to_owned())
        }
        _ => StoreError::Database(format!("{} ({code})", found.message())),
    }
}
