//! `fsck` and the trail: whatever is changed behind the service's back is found.

use std::process::Command;

use serde_json::{Value, json};
use sqlx::{Connection as _, Row as _};

use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox, started, two_waves, until_status};
use crate::support::service::{PROGRAM, Service};
use crate::support::until;

on_each_database!(
    fsck_finds_each_change_behind_the_services_back,
    fsck_of_a_good_store_says_what_it_read,
    fsck_beside_a_service_that_writes_finds_nothing,
    fsck_finds_what_is_gone_or_cannot_be_read,
    a_rollout_whose_record_is_damaged_sends_nobody_and_is_halted_all_the_same,
);

/// Runs one statement on the database; returns how many rows it changed.
async fn meddle(database: &Database, sql: &str) -> u64 {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    if database.is_postgres() {
        let mut connection = sqlx::PgConnection::connect(&database.url).await.unwrap();
        sqlx::query(sql)
            .execute(&mut connection)
            .await
            .unwrap()
            .rows_affected()
    } else {
        let mut connection = sqlx::SqliteConnection::connect(&database.url)
            .await
            .unwrap();
        sqlx::query(sql)
            .execute(&mut connection)
            .await
            .unwrap()
            .rows_affected()
    }
}

/// Reads bytes of one row.
async fn bytes(database: &Database, sql: &str) -> Vec<u8> {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    if database.is_postgres() {
        let mut connection = sqlx::PgConnection::connect(&database.url).await.unwrap();
        sqlx::query(sql)
            .fetch_one(&mut connection)
            .await
            .unwrap()
            .get(0)
    } else {
        let mut connection = sqlx::SqliteConnection::connect(&database.url)
            .await
            .unwrap();
        sqlx::query(sql)
            .fetch_one(&mut connection)
            .await
            .unwrap()
            .get(0)
    }
}

/// Writes bytes as either database writes them in a statement.
fn literal(database: &Database, bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if database.is_postgres() {
        format!("'\\x{hex}'::bytea")
    } else {
        format!("x'{hex}'")
    }
}

fn fsck(database: &Database) -> (Option<i32>, Value) {
    let done = Command::new(PROGRAM)
        .args(["-o", "json", "fsck", "--database", &database.url])
        .output()
        .unwrap();
    let found = serde_json::from_slice(&done.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}: {}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        )
    });
    (done.status.code(), found)
}

async fn moved(database: &Database) {
    let mut service = Service::start(database);
    let api = &service.api;
    import(api, 2_000).await;
    sandbox(api, json!({"failure_ppm": 50_000})).await;
    started(api, &two_waves()).await;
    until_status(api, "move", "completed", 30).await;
    assert!(service.stop(), "it says goodbye");
}

async fn fsck_finds_each_change_behind_the_services_back(database: Database) {
    moved(&database).await;
    let (exit, found) = fsck(&database);
    assert_eq!((exit, &found["ok"]), (Some(0), &json!(true)), "{found:#}");
    let mut slots = bytes(
        &database,
        "SELECT slots FROM batch WHERE wave_no = 2 AND seq = 0",
    )
    .await;
    let good_slots = literal(&database, &slots);
    let last = slots.len() - 1;
    slots[last] ^= 1;
    let bad_slots = literal(&database, &slots);
    let mut roster = bytes(
        &database,
        "SELECT roster FROM batch WHERE wave_no = 2 AND seq = 1",
    )
    .await;
    let good_roster = literal(&database, &roster);
    let last = roster.len() - 1;
    roster[last] ^= 1;
    let bad_roster = literal(&database, &roster);
    let entry = bytes(&database, "SELECT hash FROM audit WHERE seq = 3").await;
    let good_hash = literal(&database, &entry);
    let bad_hash = literal(
        &database,
        &[entry[0] ^ 1]
            .iter()
            .chain(&entry[1..])
            .copied()
            .collect::<Vec<u8>>(),
    );
    let batch = |number: u32| format!("WHERE wave_no = 2 AND seq = {number}");
    let mut missed = Vec::new();
    for (what, harm, undo) in [
        (
            "a flipped bit of a state",
            format!("UPDATE batch SET slots = {bad_slots} {}", batch(0)),
            format!("UPDATE batch SET slots = {good_slots} {}", batch(0)),
        ),
        (
            "a flipped bit of a roster",
            format!("UPDATE batch SET roster = {bad_roster} {}", batch(1)),
            format!("UPDATE batch SET roster = {good_roster} {}", batch(1)),
        ),
        (
            "a changed count of a batch",
            format!("UPDATE batch SET done = done + 1 {}", batch(0)),
            format!("UPDATE batch SET done = done - 1 {}", batch(0)),
        ),
        (
            "a changed count of a wave",
            "UPDATE wave SET done = done - 1, failed = failed + 1 WHERE wave_no = 2".to_owned(),
            "UPDATE wave SET done = done + 1, failed = failed - 1 WHERE wave_no = 2".to_owned(),
        ),
        (
            "a batch that is gone",
            "UPDATE batch SET wave_no = 9 WHERE wave_no = 2 AND seq = 1".to_owned(),
            "UPDATE batch SET wave_no = 2 WHERE wave_no = 9".to_owned(),
        ),
        (
            "an edited entry",
            "UPDATE audit SET actor = actor || 'x' WHERE seq = 3".to_owned(),
            "UPDATE audit SET actor = substr(actor, 1, length(actor) - 1) WHERE seq = 3".to_owned(),
        ),
        (
            "an edited reason",
            "UPDATE audit SET detail = detail || ' ' WHERE seq = 2".to_owned(),
            "UPDATE audit SET detail = substr(detail, 1, length(detail) - 1) WHERE seq = 2"
                .to_owned(),
        ),
        (
            "a moved instant",
            "UPDATE audit SET at = at + 1 WHERE seq = 2".to_owned(),
            "UPDATE audit SET at = at - 1 WHERE seq = 2".to_owned(),
        ),
        (
            "a changed hash",
            format!("UPDATE audit SET hash = {bad_hash} WHERE seq = 3"),
            format!("UPDATE audit SET hash = {good_hash} WHERE seq = 3"),
        ),
        (
            "a dropped entry",
            "UPDATE audit SET seq = -seq WHERE seq = 3".to_owned(),
            "UPDATE audit SET seq = -seq WHERE seq = -3".to_owned(),
        ),
        (
            "a cut tail",
            "UPDATE audit SET seq = -seq WHERE seq = (SELECT MAX(seq) FROM audit)".to_owned(),
            "UPDATE audit SET seq = -seq WHERE seq < 0".to_owned(),
        ),
    ] {
        assert_eq!(meddle(&database, &harm).await, 1, "{what}");
        let (exit, found) = fsck(&database);
        let findings = found["findings"].as_array().unwrap();
        if exit != Some(2) || found["ok"] != false || findings.is_empty() {
            missed.push(format!("{what}: {exit:?} {found}"));
        }
        assert_eq!(meddle(&database, &undo).await, 1, "{what}");
        let (exit, found) = fsck(&database);
        assert_eq!(exit, Some(0), "after {what} was undone: {found:#}");
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

async fn fsck_of_a_good_store_says_what_it_read(database: Database) {
    moved(&database).await;
    let (exit, found) = fsck(&database);
    assert_eq!(exit, Some(0));
    assert_eq!(
        (&found["rollouts"], &found["people"]),
        (&json!(1), &json!(2_000))
    );
    assert!(found["audit_entries"].as_u64() > Some(5), "{found}");
    let done = Command::new(PROGRAM)
        .args(["fsck", "--database", &database.url])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&done.stdout).contains("everything adds up"));
}

async fn fsck_finds_what_is_gone_or_cannot_be_read(database: Database) {
    moved(&database).await;
    let codes = |found: &Value| -> Vec<String> {
        let findings = found["findings"].as_array().unwrap().iter();
        findings
            .map(|one| one["code"].as_str().unwrap().to_owned())
            .collect()
    };
    let changed = meddle(&database, "UPDATE rollout SET state = 'x' || state").await;
    assert_eq!(changed, 1);
    let (exit, found) = fsck(&database);
    assert_eq!(
        (exit, codes(&found)),
        (Some(2), vec!["rollout_unreadable".to_owned()])
    );
    meddle(&database, "UPDATE rollout SET state = substr(state, 2)").await;
    // The trail is said to end before it does.
    let end = "(SELECT seq - 1 FROM audit_head)";
    let early = format!(
        "UPDATE audit_head SET hash = (SELECT hash FROM audit WHERE seq = {end}), seq = {end}"
    );
    assert_eq!(meddle(&database, &early).await, 1);
    let (exit, found) = fsck(&database);
    assert_eq!(
        (exit, codes(&found)),
        (Some(2), vec!["audit_end".to_owned()])
    );
    let end = "(SELECT MAX(seq) FROM audit)";
    let right = format!(
        "UPDATE audit_head SET hash = (SELECT hash FROM audit WHERE seq = {end}), seq = {end}"
    );
    meddle(&database, &right).await;
    // A wave that lost every batch is not there to be compared with its plan.
    assert!(meddle(&database, "DELETE FROM batch WHERE wave_no = 2").await > 0);
    let (exit, found) = fsck(&database);
    assert_eq!(exit, Some(2), "{found:#}");
    assert!(
        codes(&found).contains(&"roster_differs".to_owned()),
        "{found:#}"
    );
}

async fn a_rollout_whose_record_is_damaged_sends_nobody_and_is_halted_all_the_same(
    database: Database,
) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 2_000).await;
    sandbox(api, json!({})).await;
    let slow = two_waves().replace("waves:", "rate: {per_second: 20}\nwaves:");
    started(api, &slow).await;
    until("somebody is moved", 30, async || {
        api.get("/v1/rollouts/move").await.ok()["totals"]["done"] != 0
    })
    .await;
    let changed = "UPDATE rollout SET state = 'x' || state, wake_at = 1";
    meddle(&database, changed).await;
    let open = "UPDATE wave SET claimable = claimable WHERE claimable = 1";
    until("nobody of it may be claimed any more", 30, async || {
        meddle(&database, open).await == 0
    })
    .await;
    let halt = json!({"reason": "found inside"});
    let answer = api.post("/v1/rollouts/move/halt", halt).await;
    let sentence = answer.refused(409, "rollout_unreadable");
    assert!(sentence.contains("the halt is in force"), "{sentence}");
    let holds = api.get("/v1/holds?in_force=true").await.ok();
    assert_eq!(holds["items"].as_array().unwrap().len(), 1, "{holds:#}");
    meddle(&database, "UPDATE rollout SET state = substr(state, 2)").await;
    assert_eq!(api.get("/v1/rollouts/move").await.ok()["status"], "halted");
    service.end_and_fsck();
}

async fn fsck_beside_a_service_that_writes_finds_nothing(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    let end = std::sync::atomic::AtomicBool::new(false);
    let writing = async {
        let mut number = 0;
        while !end.load(std::sync::atomic::Ordering::Relaxed) {
            let body = json!({"name": format!("staff{number}")});
            api.post("/v1/populations", body).await.ok();
            number += 1;
        }
    };
    let looking = async {
        for _ in 0..40 {
            let found = api.get("/v1/fsck").await.ok();
            assert_eq!(found["ok"], true, "{found:#}");
        }
        end.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    tokio::join!(writing, looking);
}
