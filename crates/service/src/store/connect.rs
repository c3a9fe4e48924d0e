//! Opening a database: the pools, with everything that makes them durable set in one place.

use std::str::FromStr;
use std::time::Duration;

use sea_orm::{DatabaseConnection, SqlxPostgresConnector, SqlxSqliteConnector};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, PgPool};
use thiserror::Error;

use super::StoreError;

/// How many connections read SQLite at once.
const SQLITE_READERS: u32 = 4;
/// How many connections one process holds to PostgreSQL for writing, for holds alone, and for reading. Apart,
/// because a halt or a look must not wait until an import gives its connection back.
const POSTGRES_WRITERS: u32 = 10;
const POSTGRES_FOR_HOLDS: u32 = 2;
const POSTGRES_READERS: u32 = 6;
/// How long a connection may have been idle and is used all the same without asking whether it is alive.
const IDLE_TRUSTED: Duration = Duration::from_secs(1);
/// How long a connection that was idle has to say that it is alive.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);
/// How many prepared statements a connection remembers.
const STATEMENTS: usize = 512;

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file, such as `sqlite:var/tidegate.db`.
    Sqlite(String),
    /// A server, such as `postgres://user@host/name`.
    Postgres(String),
}

/// The text does not say where a database is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no database: write sqlite:FILE or postgres://USER@HOST/NAME")]
pub struct DatabaseUrlError(String);

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        match text
            .strip_prefix("sqlite:")
            .map(|path| path.trim_start_matches("//"))
        {
            Some(path) if !path.is_empty() => Ok(Self::Sqlite(path.to_owned())),
            // The password of a mistyped address stays out of the message.
            _ => Err(DatabaseUrlError(
                text.split('@').next_back().unwrap_or_default().to_owned(),
            )),
        }
    }
}

/// The connections to a database, by what they are for.
#[derive(Debug)]
pub(super) struct Pools {
    /// For writing.
    pub(super) writer: DatabaseConnection,
    /// For writing holds; on SQLite the one writer, at which holds overtake.
    pub(super) for_holds: DatabaseConnection,
    /// For reading.
    pub(super) reader: DatabaseConnection,
    /// For hearing of holds that other processes place; opened when somebody listens.
    pub(super) listening: Option<PgPool>,
}

/// Opens the connections.
pub(super) async fn connect(url: &DatabaseUrl) -> Result<Pools, StoreError> {
    match url {
        DatabaseUrl::Sqlite(path) => sqlite(path).await,
        DatabaseUrl::Postgres(url) => Ok(Pools {
            writer: postgres(url, POSTGRES_WRITERS).await?,
            for_holds: postgres(url, POSTGRES_FOR_HOLDS).await?,
            reader: postgres(url, POSTGRES_READERS).await?,
            listening: Some(
                PgPoolOptions::new()
                    .max_connections(1)
                    .acquire_timeout(Duration::from_secs(10))
                    .connect_lazy_with(postgres_options(url)?),
            ),
        }),
    }
}

async fn sqlite(path: &str) -> Result<Pools, StoreError> {
    if let Some(folder) = std::path::Path::new(path)
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder)
            .map_err(|error| StoreError::Unavailable(format!("{}: {error}", folder.display())))?;
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(10))
        .statement_cache_capacity(STATEMENTS)
        .pragma("cache_size", "-16000")
        .pragma("wal_autocheckpoint", "4000")
        .pragma("journal_size_limit", "67108864");
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        // SQLite itself ends a transaction that it cannot write, such as on a full disk. The connection
        // still counts it as open and would refuse every other one: it is replaced.
        .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
        .connect_with(options.clone())
        .await
        .map_err(|error| StoreError::Unavailable(format!("{path}: {error}")))?;
    let reader = SqlitePoolOptions::new()
        .max_connections(SQLITE_READERS)
        .test_before_acquire(false)
        .connect_with(options.read_only(true).create_if_missing(false))
        .await?;
    let writer = SqlxSqliteConnector::from_sqlx_sqlite_pool(writer);
    Ok(Pools {
        for_holds: writer.clone(),
        writer,
        reader: SqlxSqliteConnector::from_sqlx_sqlite_pool(reader),
        listening: None,
    })
}

fn postgres_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    Ok(PgConnectOptions::from_str(url)
        .map_err(|error| StoreError::Unavailable(error.to_string()))?
        .application_name("tidegate")
        // What is read under a lock is what was committed before it was there, whatever the server's default.
        .options([("default_transaction_isolation", "read committed")])
        .statement_cache_capacity(STATEMENTS))
}

async fn postgres(url: &str, connections: u32) -> Result<DatabaseConnection, StoreError> {
    let options = postgres_options(url)?;
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        // Opening one takes longer than a look or a halt may.
        .min_connections(connections)
        .idle_timeout(None)
        .acquire_timeout(Duration::from_secs(10))
        .test_before_acquire(false)
        .before_acquire(|connection, about| Box::pin(answers(connection, about.idle_for)))
        .after_release(|connection, _| Box::pin(answers_at_all(connection)))
        .connect_with(options)
        .await
        .map_err(|error| StoreError::Unavailable(error.to_string()))?;
    Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
}

/// Says whether a connection still leads anywhere. A firewall forgets one that was idle, and tells nobody:
/// a halt that is sent into it would wait for a quarter of an hour.
async fn answers(connection: &mut PgConnection, idle_for: Duration) -> Result<bool, sqlx::Error> {
    if idle_for < IDLE_TRUSTED {
        return Ok(true);
    }
    answers_at_all(connection).await
}

/// Says whether a connection answers. Asked too when one is given back: whoever gave a question up may have
/// given it up because nothing comes, and the pool itself would wait for that answer without an end, with
/// one connection less for holds.
async fn answers_at_all(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    match tokio::time::timeout(ANSWERS_WITHIN, connection.ping()).await {
        Ok(answered) => answered.map(|()| true),
        // As an error it is dropped; a polite end would wait for an answer as well.
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_which_database_and_a_wrong_one_keeps_its_password() {
        assert_eq!(
            "sqlite:var/t.db".parse(),
            Ok(DatabaseUrl::Sqlite("var/t.db".to_owned()))
        );
        assert!(matches!(
            "postgres://u@h/n".parse(),
            Ok(DatabaseUrl::Postgres(_))
        ));
        let error = "mysql://root:secret@host/n"
            .parse::<DatabaseUrl>()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("host/n") && !error.contains("secret"),
            "{error}"
        );
    }
}
