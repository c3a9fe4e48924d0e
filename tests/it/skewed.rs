//! A machine whose clock is wrong beside a database whose clock is right: what comes in is dated, ordered and found stale by the
//! database, nothing is released there, and a halt is as quick as ever.
//!
//! On PostgreSQL alone: on SQLite the machine's clock is the database's.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::api::{Api, send};
use crate::support::clock::other_clock;
use crate::support::database::Database;
use crate::support::people::sandbox;
use crate::support::release::{execute, ready};
use crate::support::service::Service;
use crate::support::webhooks::{SECRET, Sender, VARIABLE, service_with_key, source};
use crate::support::{skipped, until};

/// Starts one more process, whose clock is wrong by so much.
fn wrong_by(database: &Database, token: &str, seconds: i64) -> Option<Service> {
    let Some(library) = other_clock() else {
        skipped("no libfaketime: apt-get install faketime");
        return None;
    };
    let (library, by) = (library.display().to_string(), format!("{seconds:+}"));
    let variables = [
        (VARIABLE, SECRET),
        ("LD_PRELOAD", &library),
        ("FAKETIME", &by),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
    ];
    Some(Service::start_with(database, token, &variables))
}

fn risk(severity: &str) -> String {
    json!({"type": "security.risk_change", "data": {"severity": severity}}).to_string()
}

/// How far the clock of a process is ahead, by what it says of itself.
async fn ahead(api: &Api) -> TimeDelta {
    let answer = api.get("/healthz").await;
    let date = answer.headers["date"].to_str().unwrap();
    DateTime::parse_from_rfc2822(date).unwrap().to_utc() - Utc::now()
}

async fn check_beside(seconds: i64) {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let right = service_with_key(&database);
    sandbox(&right.api, json!({})).await;
    source(&right.api, "siem", "acme").await;
    let Some(wrong) = wrong_by(&database, &right.api.token, seconds) else {
        return;
    };
    let off = ahead(&wrong.api).await - TimeDelta::seconds(seconds);
    assert!(
        off.abs() < TimeDelta::seconds(5),
        "its clock is wrong: {off}"
    );
    come_in_order(&right, &wrong).await;
    are_fresh_or_stale(&wrong).await;
    stops_and_releases_nothing(&right, &wrong).await;
    drop(wrong);
    right.end_and_fsck();
}

/// By turns at either process: numbered and dated as they came.
async fn come_in_order(right: &Service, wrong: &Service) {
    let senders = [&right.api, &wrong.api].map(|api| Sender::new(api, "siem"));
    let begun = Utc::now() - TimeDelta::seconds(2);
    for number in 0..10 {
        let sender = &senders[number % 2];
        assert!(sender.try_send(&format!("m{number}"), &risk("low")).await);
    }
    let listed = right.api.get("/v1/signals").await.ok();
    let listed: Vec<&Value> = listed["items"].as_array().unwrap().iter().rev().collect();
    let ids: Vec<&str> = listed
        .iter()
        .map(|one| one["signal"]["external_id"].as_str().unwrap())
        .collect();
    let sent: Vec<String> = (0..10).map(|number| format!("m{number}")).collect();
    assert_eq!(ids, sent);
    let dates = listed.iter().map(|one| {
        let at = one["signal"]["received_at"].as_str().unwrap();
        at.parse::<DateTime<Utc>>().unwrap()
    });
    let dates: Vec<DateTime<Utc>> = dates.collect();
    assert!(dates.is_sorted(), "{dates:?}");
    assert!(
        dates[0] >= begun && dates[9] <= Utc::now() + TimeDelta::seconds(2),
        "{dates:?}"
    );
}

/// Five minutes either way, by the clock of the database.
async fn are_fresh_or_stale(wrong: &Service) {
    let sender = Sender::new(&wrong.api, "siem");
    for (id, age, expected) in [
        ("old", 290, 202),
        ("new", -290, 202),
        ("older", 310, 401),
        ("newer", -310, 401),
    ] {
        let answer = send(sender.message((id, age), SECRET, &risk("low"))).await;
        assert_eq!(answer.status, expected, "{id}: {}", answer.text);
    }
}

async fn stops_and_releases_nothing(right: &Service, wrong: &Service) {
    let begun = Instant::now();
    let body = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "state actor"});
    let placed = wrong.api.post("/v1/holds", body).await.ok();
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    let hold = placed["id"].as_str().unwrap();
    let shown = right.api.get("/v1/holds?in_force=true").await.ok();
    assert_eq!(shown["items"][0]["id"], hold, "{shown:#}");
    let placed_at: DateTime<Utc> = shown["items"][0]["placed_at"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        (placed_at - Utc::now()).abs() < TimeDelta::seconds(30),
        "{placed_at}"
    );
    until("both know that it is quiet", 30, async || {
        right.api.get("/v1/holds?in_force=true").await.ok()["items"][0]["quiesced"] == true
    })
    .await;
    let digest = ready(&right.api, hold).await;
    execute(&wrong.api, hold, &digest)
        .await
        .refused(409, "clock_wrong");
    execute(&right.api, hold, &digest).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_ten_minutes_ahead_dates_nothing_releases_nothing_and_delays_no_halt() {
    check_beside(600).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_ten_minutes_behind_dates_nothing_releases_nothing_and_delays_no_halt() {
    check_beside(-600).await;
}
