//! An older backup over a newer halt, and a store on another timeline: both start halted.

use serde_json::json;

use crate::crash::number;
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox, started, two_waves, until_done};
use crate::support::service::Service;

on_each_database!(
    a_store_that_goes_back_under_a_running_process_is_halted_by_it,
    a_store_that_goes_back_is_halted_also_when_somebody_stops_something_first,
);

const EVERYTHING: &str = r#"{"type":"everything"}"#;

async fn moving(database: &Database) -> Service {
    let service = Service::start(database);
    import(&service.api, 3_000).await;
    sandbox(&service.api, json!({"latency_ms": 20, "concurrency": 8})).await;
    started(&service.api, &two_waves()).await;
    until_done(&service.api, "move", 100, 30).await;
    service
}

fn path_of(database: &Database) -> &str {
    database.url.strip_prefix("sqlite:").unwrap()
}

fn copy(from: &str, to: &str) {
    for suffix in ["", "-wal"] {
        if std::path::Path::new(&format!("{from}{suffix}")).exists() {
            std::fs::copy(format!("{from}{suffix}"), format!("{to}{suffix}")).unwrap();
        }
    }
}

/// Copies a file that nobody has open, and says where to.
fn back_up(database: &Database) -> String {
    let backup = format!("{}.backup", path_of(database));
    copy(path_of(database), &backup);
    backup
}

/// As RUNBOOK says.
fn restore(database: &Database, backup: &str) {
    let path = path_of(database);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{path}{suffix}"));
    }
    copy(backup, path);
}

/// Says why everything is halted, if it is.
async fn why_halted(service: &Service) -> Option<String> {
    let holds = service.api.get("/v1/holds?in_force=true").await.ok();
    let [hold] = holds["items"].as_array().unwrap().as_slice() else {
        assert_eq!(holds["items"], json!([]), "{holds:#}");
        return None;
    };
    assert_eq!(hold["kind"], "halt", "{holds:#}");
    assert_eq!(hold["scope"].to_string(), EVERYTHING);
    let view = service.api.get("/v1/rollouts/move").await.ok();
    assert_eq!(view["status"], "halted", "{view:#}");
    Some(hold["reason"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_since_which_people_only_moved_starts_halted() {
    let database = Database::sqlite();
    let mut service = moving(&database).await;
    service.kill();
    let backup = back_up(&database);
    let mut service = Service::start_again(&database, &service.api.token.clone());
    until_done(&service.api, "move", 400, 60).await;
    assert!(service.stop());
    restore(&database, &backup);
    for _ in 0..2 {
        service = Service::start_again(&database, &service.api.token.clone());
        let why = why_halted(&service).await.expect("it is halted");
        assert!(why.contains("this store lacks entry"), "{why}");
        service.kill();
    }
    Service::start_again(&database, &service.api.token.clone()).end_and_fsck();
}

/// What was done with the backup before it was served makes it no newer.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_has_grown_past_what_it_lacks_starts_halted() {
    let database = Database::sqlite();
    let mut service = moving(&database).await;
    assert!(service.stop());
    let backup = back_up(&database);
    service = Service::start_again(&database, &service.api.token.clone());
    assert!(service.stop());
    let mark = std::fs::read_to_string(format!("{}.mark", path_of(&database))).unwrap();
    let mark: serde_json::Value = serde_json::from_str(&mark).unwrap();
    restore(&database, &backup);
    let end = "SELECT seq FROM audit_head";
    for name in 0..1000 {
        if number(&database, end).await > mark["trail_end"]["seq"].as_i64().unwrap() {
            break;
        }
        let name = format!("rescue{name}");
        let made = std::process::Command::new(crate::support::service::PROGRAM)
            .args(["rescue", "--database", &database.url, &name])
            .output();
        assert!(made.unwrap().status.success());
    }
    service = Service::start_again(&database, &service.api.token.clone());
    let why = why_halted(&service).await.expect("it is halted");
    assert!(why.contains("this store lacks entry"), "{why}");
    service.end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_cannot_be_read_or_written_halts_once_and_can_be_released() {
    let database = Database::sqlite();
    let mut service = moving(&database).await;
    service.kill();
    let mark = format!("{}.mark", path_of(&database));
    std::fs::remove_file(&mark).unwrap();
    std::fs::create_dir_all(format!("{mark}/in the way")).unwrap();
    service = Service::start_again(&database, &service.api.token.clone());
    let why = why_halted(&service).await.expect("it is halted");
    assert!(why.contains("no mark beside it"), "{why}");
    assert_eq!(crate::support::holds::lift_all(&service.api).await, 1);
    until_done(&service.api, "move", 3_000, 60).await;
    assert_eq!(why_halted(&service).await, None, "it is halted once");
    service.end_and_fsck();
}

/// A backup on another machine: nothing there says what it lacks.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_its_mark_starts_halted() {
    let database = Database::sqlite();
    let mut service = moving(&database).await;
    service.kill();
    let mark = format!("{}.mark", path_of(&database));
    std::fs::remove_file(&mark).unwrap();
    for _ in 0..2 {
        service = Service::start_again(&database, &service.api.token.clone());
        let why = why_halted(&service).await.expect("it is halted");
        assert!(why.contains("no mark beside it"), "{why}");
        service.kill();
        assert!(std::path::Path::new(&mark).exists(), "it has one again");
    }
    Service::start_again(&database, &service.api.token.clone()).end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_moves_with_its_mark_goes_on() {
    let database = Database::sqlite();
    let mut service = moving(&database).await;
    let token = service.api.token.clone();
    assert!(service.stop());
    let log = format!("{}-wal", path_of(&database));
    assert!(
        !std::path::Path::new(&log).exists(),
        "it is whole by itself"
    );
    let elsewhere = Database::sqlite();
    std::fs::copy(path_of(&database), path_of(&elsewhere)).unwrap();
    let mark = |database: &Database| format!("{}.mark", path_of(database));
    std::fs::copy(mark(&database), mark(&elsewhere)).unwrap();
    let mut service = Service::start_again(&elsewhere, &token);
    assert_eq!(why_halted(&service).await, None);
    assert!(service.stop());
    // By another name it is the same file.
    let mut linked = elsewhere.clone();
    linked.url = format!("sqlite:{}", elsewhere.file("linked.db").display());
    std::os::unix::fs::symlink(path_of(&elsewhere), path_of(&linked)).unwrap();
    let service = Service::start_again(&linked, &token);
    assert_eq!(why_halted(&service).await, None);
    service.end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_of_a_file_halts_nothing_with_its_mark_or_without() {
    let database = Database::sqlite();
    let mut service = moving(&database).await;
    let mark = format!("{}.mark", path_of(&database));
    for is_marked in [true, false] {
        service.kill();
        // What a version before this one left: a shorter mark, and no home.
        database
            .execute("UPDATE installation SET home = NULL")
            .await;
        let text = std::fs::read_to_string(&mark).unwrap();
        let mut written: serde_json::Value = serde_json::from_str(&text).unwrap();
        written
            .as_object_mut()
            .unwrap()
            .remove("trail_end")
            .unwrap();
        std::fs::write(&mark, written.to_string()).unwrap();
        if !is_marked {
            std::fs::remove_file(&mark).unwrap();
        }
        service = Service::start_again(&database, &service.api.token.clone());
        assert_eq!(why_halted(&service).await, None);
    }
    service.end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_backup_restored_over_a_newer_halt_starts_halted() {
    let database = Database::sqlite();
    let mut service = moving(&database).await;
    service.kill();
    let backup = back_up(&database);
    let mut service = Service::start_again(&database, &service.api.token.clone());
    let hold = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "state actor"});
    let placed = service.api.post("/v1/holds", hold).await.ok();
    let epoch = placed["epoch"].as_i64().unwrap();
    service.kill();
    restore(&database, &backup);
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

/// How most people restore: into the same cluster, while nothing runs.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_dump_restored_into_the_same_cluster_starts_halted() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let Some(programs) = std::env::var_os("TIDEGATE_POSTGRES_BIN") else {
        crate::support::skipped("no PostgreSQL programs: TIDEGATE_POSTGRES_BIN is not set");
        return;
    };
    let program =
        |name: &str| std::process::Command::new(std::path::Path::new(&programs).join(name));
    let mut service = moving(&database).await;
    service.kill();
    let dump = database.file("older.dump");
    let mut dumps = program("pg_dump");
    dumps
        .args(["--format=custom", "--file"])
        .arg(&dump)
        .arg(&database.url);
    assert!(dumps.status().unwrap().success());
    let mut service = Service::start_again(&database, &service.api.token.clone());
    let halt = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "state actor"});
    service.api.post("/v1/holds", halt).await.ok();
    service.kill();
    let mut restores = program("pg_restore");
    restores.args(["--clean", "--if-exists", "--single-transaction", "--dbname"]);
    restores.arg(&database.url).arg(&dump);
    assert!(restores.status().unwrap().success());
    let service = Service::start_again(&database, &service.api.token.clone());
    let holds = service.api.get("/v1/holds?in_force=true").await.ok();
    assert_eq!(holds["items"][0]["kind"], "halt", "{holds:#}");
    assert_eq!(holds["items"][0]["scope"].to_string(), EVERYTHING);
    let view = service.api.get("/v1/rollouts/move").await.ok();
    assert_eq!(view["status"], "halted", "{view:#}");
    service.end_and_fsck();
}

/// A version before this one wrote down less of where it was.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_halts_nothing() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let mut service = moving(&database).await;
    service.kill();
    let cut = "UPDATE installation SET home = substring(home FROM '^[0-9]+/[0-9A-F]+')";
    database.execute(cut).await;
    for _ in 0..2 {
        service = Service::start_again(&database, &service.api.token.clone());
        let holds = service.api.get("/v1/holds?in_force=true").await.ok();
        assert_eq!(holds["items"], json!([]), "{holds:#}");
        service.kill();
    }
}

/// The failover that loses a halt: the standby did not hear of it in time, and is promoted under the service.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_promoted_without_the_last_halt_is_halted_by_whoever_was_serving() {
    let beside = Database::sqlite();
    let Some(mut cluster) = Cluster::start(&beside, "") else {
        return;
    };
    let database = cluster.database().await;
    let mut service = moving(&database).await;
    let standby = cluster.standby();
    let (before, followed) = (number(&database, DONE).await, standby.url(&database));
    crate::support::until("the standby follows", 30, async || {
        number_at(&followed, DONE).await >= before
    })
    .await;
    standby.cut_off();
    let halt = json!({"kind": "halt", "scope": {"type": "rollout", "id": "move"}, "reason": "state actor"});
    let lost = service.api.post("/v1/holds?wait=quiesced", halt).await.ok();
    let done = number(&database, DONE).await;
    cluster.fail_over(&standby);
    // The one that served it finds out by itself.
    crate::support::until("it serves again, halted", 60, async || {
        let holds = service.api.get("/v1/holds?in_force=true").await;
        holds.body["items"][0]["kind"] == "halt"
    })
    .await;
    let holds = service.api.get("/v1/holds?in_force=true").await.ok();
    let hold = &holds["items"][0];
    assert_eq!(hold["scope"].to_string(), EVERYTHING);
    assert_ne!(
        hold["id"], lost["id"],
        "that one is gone with the old server"
    );
    assert!(
        hold["epoch"].as_i64() > lost["epoch"].as_i64(),
        "no epoch twice: {hold:#}"
    );
    let path = format!("/v1/holds/{}", hold["id"].as_str().unwrap());
    crate::support::until("it is quiet", 60, async || {
        service.api.get(&path).await.body["quiesced"] == true
    })
    .await;
    // Whoever comes later finds one halt, and nobody who was moved since the standby was cut off is lost.
    service.kill();
    let service = Service::start_again(&database, &service.api.token.clone());
    let again = service.api.get("/v1/holds?in_force=true").await.ok();
    assert_eq!(again["items"].as_array().unwrap().len(), 1, "{again:#}");
    assert!(number(&database, DONE).await <= done);
    service.end_and_fsck();
    cluster.down();
}

/// What a backup that is restored in place looks like, and a standby that is promoted without the last seconds: the
/// hold is gone, and its epoch is still to come.
async fn goes_back(database: &Database, placed: &serde_json::Value) {
    database.execute("DELETE FROM hold").await;
    let before = placed["epoch"].as_i64().unwrap() - 1;
    let sql = format!("UPDATE installation SET epoch = {before}");
    database.execute(&sql).await;
}

async fn until_halted(service: &Service) -> serde_json::Value {
    let found = std::sync::Mutex::new(serde_json::Value::Null);
    crate::support::until("the process halts", 10, async || {
        let holds = service.api.get("/v1/holds?in_force=true").await.ok();
        let items = holds["items"].as_array().unwrap();
        let mut halts = items.iter().filter(|hold| hold["kind"] == "halt");
        let halt = halts.next().cloned().unwrap_or_default();
        let is_there = !halt.is_null();
        *found.lock().unwrap() = halt;
        is_there
    })
    .await;
    let view = service.api.get("/v1/rollouts/move").await.ok();
    assert_eq!(view["status"], "halted", "{view:#}");
    found.into_inner().unwrap()
}

async fn a_store_that_goes_back_under_a_running_process_is_halted_by_it(database: Database) {
    let service = moving(&database).await;
    let halt = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "look"});
    let placed = service.api.post("/v1/holds", halt).await.ok();
    goes_back(&database, &placed).await;
    let halt = until_halted(&service).await;
    let reason = halt["reason"].as_str().unwrap();
    assert!(reason.contains("backup"), "{halt:#}");
    assert!(
        halt["epoch"].as_i64() > placed["epoch"].as_i64(),
        "{halt:#}"
    );
}

async fn a_store_that_goes_back_is_halted_also_when_somebody_stops_something_first(
    database: Database,
) {
    let service = moving(&database).await;
    let halt = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "look"});
    let placed = service.api.post("/v1/holds", halt).await.ok();
    goes_back(&database, &placed).await;
    // Its epoch would be that of the halt that is gone, and everything would look as new as before.
    let pause =
        json!({"kind": "pause", "scope": {"type": "rollout", "id": "move"}, "reason": "lunch"});
    let pause = service.api.post("/v1/holds", pause).await.ok();
    let halt = until_halted(&service).await;
    for one in [&pause, &halt] {
        assert!(one["epoch"].as_i64() > placed["epoch"].as_i64(), "{one:#}");
    }
}

const DONE: &str = "SELECT CAST(COALESCE(SUM(done), 0) AS BIGINT) FROM wave";

async fn number_at(url: &str, text: &str) -> i64 {
    use sqlx::Connection as _;
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(sqlx::AssertSqlSafe(text.to_owned()))
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

async fn sql(database: &Database, text: &str) {
    use sqlx::{Connection as _, Executor as _};
    let mut connection = sqlx::PgConnection::connect(&database.url).await.unwrap();
    connection
        .execute(sqlx::AssertSqlSafe(text.to_owned()))
        .await
        .unwrap();
}
