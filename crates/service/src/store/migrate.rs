//! Migrations: plain SQL in both dialects, embedded, checksummed, run under a lock.

use std::borrow::Cow;

use sea_orm::{DatabaseConnection, DbBackend};
use sqlx::SqlStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use super::StoreError;

/// Every migration: number, name, and its text for SQLite and for PostgreSQL.
const MIGRATIONS: &[(i64, &str, &str, &str)] = &[
    (
        1,
        "base",
        include_str!("../../../../migrations/sqlite/0001_base.sql"),
        include_str!("../../../../migrations/postgres/0001_base.sql"),
    ),
    (
        2,
        "quiesce",
        include_str!("../../../../migrations/sqlite/0002_quiesce.sql"),
        include_str!("../../../../migrations/postgres/0002_quiesce.sql"),
    ),
    (
        3,
        "review",
        include_str!("../../../../migrations/sqlite/0003_review.sql"),
        include_str!("../../../../migrations/postgres/0003_review.sql"),
    ),
    (
        4,
        "release",
        include_str!("../../../../migrations/sqlite/0004_release.sql"),
        include_str!("../../../../migrations/postgres/0004_release.sql"),
    ),
    (
        5,
        "drift",
        include_str!("../../../../migrations/sqlite/0005_drift.sql"),
        include_str!("../../../../migrations/postgres/0005_drift.sql"),
    ),
    (
        6,
        "exemption",
        include_str!("../../../../migrations/sqlite/0006_exemption.sql"),
        include_str!("../../../../migrations/postgres/0006_exemption.sql"),
    ),
    (
        7,
        "revert",
        include_str!("../../../../migrations/sqlite/0007_revert.sql"),
        include_str!("../../../../migrations/postgres/0007_revert.sql"),
    ),
    (
        8,
        "part",
        include_str!("../../../../migrations/sqlite/0008_part.sql"),
        include_str!("../../../../migrations/postgres/0008_part.sql"),
    ),
    (
        9,
        "signal",
        include_str!("../../../../migrations/sqlite/0009_signal.sql"),
        include_str!("../../../../migrations/postgres/0009_signal.sql"),
    ),
    (
        10,
        "source",
        include_str!("../../../../migrations/sqlite/0010_source.sql"),
        include_str!("../../../../migrations/postgres/0010_source.sql"),
    ),
    (
        11,
        "source_state",
        include_str!("../../../../migrations/sqlite/0011_source_state.sql"),
        include_str!("../../../../migrations/postgres/0011_source_state.sql"),
    ),
    (
        12,
        "endpoint",
        include_str!("../../../../migrations/sqlite/0012_endpoint.sql"),
        include_str!("../../../../migrations/postgres/0012_endpoint.sql"),
    ),
];

/// Brings a database to this version. Processes that start together wait for one another.
pub(super) async fn run(db: &DatabaseConnection) -> Result<(), StoreError> {
    let ran = match db.get_database_backend() {
        DbBackend::Postgres => migrator(true).run(db.get_postgres_connection_pool()).await,
        _ => migrator(false).run(db.get_sqlite_connection_pool()).await,
    };
    ran.map_err(refused)
}

fn migrator(is_postgres: bool) -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(number, name, sqlite, postgres)| {
        let text = if is_postgres { postgres } else { sqlite };
        let sql = SqlStr::from_static(text);
        Migration::new(
            *number,
            Cow::Borrowed(name),
            MigrationType::Simple,
            sql,
            false,
        )
    });
    Migrator::with_migrations(migrations.collect())
}

fn refused(error: MigrateError) -> StoreError {
    StoreError::Schema(match error {
        MigrateError::VersionMissing(version) => format!(
            "the database was written by a later version of Tidegate (migration {version} is not known here): \
             run that version; this one changes nothing"
        ),
        MigrateError::VersionMismatch(version) => {
            format!(
                "migration {version} of the database is not the one this version carries: run the right version"
            )
        }
        MigrateError::Dirty(version) => {
            format!("migration {version} was left half-done: restore the database from a backup")
        }
        other => format!("the database could not be brought to this version: {other}"),
    })
}
