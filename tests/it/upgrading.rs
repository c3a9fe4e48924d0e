//! A rollout that was halted under an older schema stays halted, and goes on, under this one.
//!
//! The fixtures were written by the build that carried migration 1 alone: 1,500 people, a third moved, and a
//! halt on everything. They are never written anew.

use serde_json::json;

use crate::crash::number;
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::until_status;
use crate::support::service::{Service, check_books, rescue};

const SQLITE: &[u8] = include_bytes!("../fixtures/databases/schema_1_halted.sqlite.zst");
const POSTGRES: &[u8] = include_bytes!("../fixtures/databases/schema_1_halted.postgres.sql.zst");

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    zstd::decode_all(bytes).unwrap()
}

/// Takes the stopped rollout over, and lets it go on: nobody is moved twice, and nobody is lost.
async fn check_goes_on(database: Database, done_before: u64) {
    check_books(&database);
    let service = Service::start_again(&database, &rescue(&database, "upgrader"));
    let api = &service.api;
    let view = api.get("/v1/rollouts/move").await.ok();
    assert_eq!(view["status"], "halted", "{view:#}");
    assert_eq!(view["totals"]["done"], done_before);
    let resumed = api
        .post("/v1/rollouts/move/resume", json!({"reason": "go"}))
        .await
        .ok();
    assert_eq!(resumed["status"], "halted", "an upgrade leaks no halt");
    let holds = api.get("/v1/holds?in_force=true").await.ok();
    let hold = holds["items"][0]["id"].as_str().unwrap().to_owned();
    let first = &holds["items"][0];
    assert!(
        first["review_at"].is_string(),
        "it nags from now on: {first:#}"
    );
    assert!(
        first["overdue_since"].is_null(),
        "and not at once: {first:#}"
    );
    crate::support::release::halt(api, &hold).await;
    let view = until_status(api, "move", "completed", 90).await;
    let done = view["totals"]["done"].as_u64().unwrap();
    let failed = view["totals"]["failed"].as_u64().unwrap();
    assert_eq!(done + failed, 1_500, "{view:#}");
    service.end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_halted_under_schema_1_goes_on_under_this_one_on_sqlite() {
    let database = Database::sqlite();
    let path = database.url.strip_prefix("sqlite:").unwrap();
    std::fs::write(path, unpacked(SQLITE)).unwrap();
    check_goes_on(database, 492).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_halted_under_schema_1_goes_on_under_this_one_on_postgres() {
    use sqlx::{Connection as _, Executor as _};
    let Some(database) = Database::postgres().await else {
        return;
    };
    let text = String::from_utf8(unpacked(POSTGRES)).unwrap();
    let mut connection = sqlx::PgConnection::connect(&database.url).await.unwrap();
    // A cluster of another identity: an upgrade that moves house is a restored store, and halted anyway.
    connection.execute(sqlx::AssertSqlSafe(text)).await.unwrap();
    check_goes_on(database, 513).await;
}

on_each_database!(a_database_of_a_later_version_is_refused_and_left_as_it_is);

async fn a_database_of_a_later_version_is_refused_and_left_as_it_is(database: Database) {
    let mut service = Service::start(&database);
    assert!(service.stop());
    let (truth, bytes) = if database.is_postgres() {
        ("TRUE", "'\\x00'::bytea")
    } else {
        ("1", "X'00'")
    };
    let row = format!(
        "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time) \
         VALUES (9999, 'later', CURRENT_TIMESTAMP, {truth}, {bytes}, 0)"
    );
    execute(&database, &row).await;
    let entries = number(&database, "SELECT COUNT(*) FROM audit").await;
    let refused = Service::try_start(&database, "", &[]).expect_err("it is refused");
    assert!(
        refused.contains("later version") && refused.contains("9999"),
        "{refused}"
    );
    assert_eq!(
        number(&database, "SELECT COUNT(*) FROM audit").await,
        entries
    );
}

async fn execute(database: &Database, text: &str) {
    use sqlx::{Connection as _, Executor as _};
    let text = sqlx::AssertSqlSafe(text.to_owned());
    if database.is_postgres() {
        let mut connection = sqlx::PgConnection::connect(&database.url).await.unwrap();
        connection.execute(text).await.unwrap();
    } else {
        let mut connection = sqlx::SqliteConnection::connect(&database.url)
            .await
            .unwrap();
        connection.execute(text).await.unwrap();
    }
}
