//! A halt while requests are under way, hang, and wait for their next attempt.

use std::time::Duration;

use serde_json::{Value, json};

use super::{ONE_WAVE, ledger, on_each_server, total};
use crate::support::database::Database;
use crate::support::people::{import, started, until_status};
use crate::support::service::Service;
use crate::support::targets::{Target, check_nobody_twice};
use crate::support::until;

on_each_server!(nothing_leaves_after_a_halt_whatever_was_scheduled);

async fn nothing_leaves_after_a_halt_whatever_was_scheduled(server: Target) {
    let database = Database::sqlite();
    let book = database.file("ledger.ndjson");
    let proxy = server
        .faulty(&[
            "--latency",
            "60",
            "--jitter",
            "40",
            "--hang",
            "0.02",
            "--lost",
            "0.1",
            "--p429",
            "0.1",
            "--retry-after",
            "0.2",
            "--ledger",
            book.to_str().unwrap(),
        ])
        .await;
    let mut service = Service::start(&database);
    let api = service.api.clone();
    import(&api, 800).await;
    let settings = json!({"concurrency": 16, "timeout_seconds": 2});
    proxy.register(&api, "box", settings).await;
    started(&api, ONE_WAVE).await;
    until(
        "some are done, in doubt, and to be tried again",
        30,
        async || {
            let view = api.get("/v1/rollouts/move").await.ok();
            let count = |state: &str| view["totals"][state].as_u64().unwrap_or(0);
            count("done") > 60 && count("unknown") > 3 && count("retry") > 0
        },
    )
    .await;
    let hold = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "state actor"});
    let placed = api.post("/v1/holds?wait=quiesced", hold).await.ok();
    assert_eq!(placed["quiesced"], true, "{placed:#}");
    let at_rest = proxy.figures("/_faults").await["requests"].clone();
    let waiting = total(&api, "unknown").await + total(&api, "retry").await;
    assert!(waiting > 0, "something was scheduled");
    // Longer than the first wait before an attempt, so that what was scheduled would be due.
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(proxy.figures("/_faults").await["requests"], at_rest);

    service.kill();
    let mut service = Service::start_again(&database, &api.token);
    let api = service.api.clone();
    let view = until_status(&api, "move", "halted", 5).await;
    assert_eq!(
        view["totals"]["in_flight"].as_u64().unwrap_or(0),
        0,
        "{view:#}"
    );
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(
        proxy.figures("/_faults").await["requests"],
        at_rest,
        "still halted"
    );
    check_ledger_ends(&ledger(&book), &placed);

    let quiet = json!({"hang": 0, "lost": 0, "p429": 0, "latency": 0, "jitter": 0});
    proxy.change_faults(quiet).await;
    crate::support::release::halt(&api, placed["id"].as_str().unwrap()).await;
    let done = until_status(&api, "move", "completed", 60).await;
    assert_eq!(done["totals"]["done"], 800, "{done:#}");
    assert_eq!(check_nobody_twice(&server.accounts().await), 800);
    assert!(service.stop());
}

/// Fails when a line of the ledger began after the halt was placed, give or take a request that was
/// between the last check and the proxy.
fn check_ledger_ends(lines: &[Value], placed: &Value) {
    let at = placed["placed_at"].as_str().unwrap();
    let at = chrono::DateTime::parse_from_rfc3339(at).unwrap();
    let late: Vec<&Value> = lines
        .iter()
        .filter(|line| line["at"].as_i64().unwrap() > at.timestamp_millis() + 500)
        .collect();
    assert!(late.is_empty(), "sent after the halt of {at}: {late:?}");
}
