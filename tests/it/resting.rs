//! Whatever waits, rests: a rollout that may not go on now costs a few looks a second, and no more.

use std::time::Duration;

use serde_json::json;

use crate::support::api::Api;
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox, started, two_waves, until_done, until_status};
use crate::support::service::Service;
use crate::support::until;

on_each_database!(
    a_ramp_that_waits_to_double_costs_a_few_looks_a_second,
    a_halted_rollout_costs_no_look_at_all,
    people_of_a_full_tranche_are_tried_again_and_the_ramp_goes_on,
);

/// How many transactions looked for people to send since the service began.
async fn looks(api: &Api) -> u64 {
    let text = api.get("/metrics").await.text;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("tidegate_ledger_turn_seconds_count "));
    line.and_then(|count| count.parse().ok()).expect("a count")
}

/// Counts the looks of two seconds, which is real time because looking is.
async fn looks_in_two_seconds(api: &Api) -> u64 {
    let before = looks(api).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    looks(api).await - before
}

async fn a_ramp_that_waits_to_double_costs_a_few_looks_a_second(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 3_000).await;
    sandbox(api, json!({})).await;
    let spec = "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {name: all, rest: true, ramp: {first: 100, double_every: 1h}}\n";
    started(api, spec).await;
    until_done(api, "move", 100, 20).await;
    let looks = looks_in_two_seconds(api).await;
    assert!(looks <= 20, "{looks} looks in two seconds");
    assert_eq!(
        api.get("/v1/rollouts/move").await.ok()["totals"]["done"],
        100
    );
}

async fn a_halted_rollout_costs_no_look_at_all(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 5_000).await;
    sandbox(api, json!({"latency_ms": 20, "concurrency": 8})).await;
    started(api, &two_waves()).await;
    until_done(api, "move", 100, 20).await;
    let halt = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "stop"});
    api.post("/v1/holds?wait=quiesced", halt).await.ok();
    until("what had come back is written", 5, async || {
        api.get("/v1/rollouts/move").await.ok()["in_flight"] == 0
    })
    .await;
    until("nobody looks any more", 10, async || {
        looks_in_two_seconds(api).await == 0
    })
    .await;
}

async fn people_of_a_full_tranche_are_tried_again_and_the_ramp_goes_on(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 400).await;
    // Half of them are told to come back once.
    sandbox(api, json!({"seed": 5, "retry_ppm": 500_000})).await;
    let spec = "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {name: all, rest: true, ramp: {first: 100, double_every: 1s}}\n";
    started(api, spec).await;
    until_status(api, "move", "completed", 60).await;
    service.end_and_fsck();
}
