//! An older backup over a newer halt, and a store on another timeline: both start halted.

use serde_json::json;

use crate::support::database::Database;
use crate::support::people::{import, sandbox, started, two_waves, until_done};
use crate::support::service::Service;

const EVERYTHING: &str = r#"{"type":"everything"}"#;

async fn moving(database: &Database) -> Service {
    let service = Service::start(database);
    import(&service.api, 3_000).await;
    sandbox(&service.api, json!({"latency_ms": 20, "concurrency": 8})).await;
    started(&service.api, &two_waves()).await;
    until_done(&service.api, "move", 100, 30).await;
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_backup_restored_over_a_newer_halt_starts_halted() {
    let database = Database::sqlite();
    let mut service = moving(&database).await;
    service.kill();
    let path = database.url.strip_prefix("sqlite:").unwrap().to_owned();
    let backup = format!("{path}.backup");
    for suffix in ["", "-wal"] {
        if std::path::Path::new(&format!("{path}{suffix}")).exists() {
            std::fs::copy(format!("{path}{suffix}"), format!("{backup}{suffix}")).unwrap();
        }
    }
    let mut service = Service::start_again(&database, &service.api.token.clone());
    let hold = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "state actor"});
    let placed = service.api.post("/v1/holds", hold).await.ok();
    let epoch = placed["epoch"].as_i64().unwrap();
    service.kill();
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{path}{suffix}"));
    }
    for suffix in ["", "-wal"] {
        if std::path::Path::new(&format!("{backup}{suffix}")).exists() {
            std::fs::copy(format!("{backup}{suffix}"), format!("{path}{suffix}")).unwrap();
        }
    }
    let service = Service::start_again(&database, &service.api.token.clone());
    let holds = service.api.get("/v1/holds?in_force=true").await.ok();
    let hold = &holds["items"][0];
    assert_eq!(hold["kind"], "halt", "{holds:#}");
    assert_eq!(hold["scope"]["type"], "everything");
    assert!(
        hold["reason"].as_str().unwrap().contains("backup"),
        "{hold:#}"
    );
    assert!(
        hold["epoch"].as_i64() > Some(epoch),
        "an epoch is never used twice: {hold:#}"
    );
    let view = service.api.get("/v1/rollouts/move").await.ok();
    assert_eq!(view["status"], "halted", "{view:#}");
    // Started once more, it is the same store: one halt is enough.
    let mut service = service;
    service.kill();
    let service = Service::start_again(&database, &service.api.token.clone());
    let again = service.api.get("/v1/holds?in_force=true").await.ok();
    assert_eq!(again["items"].as_array().unwrap().len(), 1, "{again:#}");
    service.end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_found_in_another_cluster_or_on_another_timeline_starts_halted() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let mut service = moving(&database).await;
    service.kill();
    sql(
        &database,
        "UPDATE installation SET home = '7000000000000000000/00000001'",
    )
    .await;
    let service = Service::start_again(&database, &service.api.token.clone());
    let holds = service.api.get("/v1/holds?in_force=true").await.ok();
    let hold = &holds["items"][0];
    assert_eq!(hold["kind"], "halt", "{holds:#}");
    assert_eq!(hold["scope"].to_string(), EVERYTHING);
    assert!(
        hold["reason"].as_str().unwrap().contains("standby"),
        "{hold:#}"
    );
    service.end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_back_under_a_running_process_is_halted_by_it() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let service = moving(&database).await;
    let pause = json!({"kind": "pause", "scope": {"type": "everything"}, "reason": "look"});
    service.api.post("/v1/holds", pause).await.ok();
    // What a promoted standby that misses the last seconds looks like: the hold and its epoch are gone.
    sql(&database, "DELETE FROM hold").await;
    sql(&database, "UPDATE installation SET epoch = 1").await;
    crate::support::until("the process halts", 10, async || {
        let holds = service.api.get("/v1/holds?in_force=true").await.ok();
        holds["items"][0]["kind"] == "halt"
    })
    .await;
    let view = service.api.get("/v1/rollouts/move").await.ok();
    assert_eq!(view["status"], "halted", "{view:#}");
}

async fn sql(database: &Database, text: &str) {
    use sqlx::{Connection as _, Executor as _};
    let mut connection = sqlx::PgConnection::connect(&database.url).await.unwrap();
    connection
        .execute(sqlx::AssertSqlSafe(text.to_owned()))
        .await
        .unwrap();
}
