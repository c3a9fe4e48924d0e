//! People who fail or fall silent: the next wave stays shut, they are listed, and a retry leads out.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{EASY, import, sandbox, started, until_status};
use crate::support::service::Service;
use crate::support::until;

on_each_database!(
    silent_people_keep_the_next_wave_shut_and_are_listed,
    failed_people_keep_the_next_wave_shut_and_are_listed,
    a_retry_after_the_repair_passes_the_gate,
    retries_while_others_are_sent_lose_no_outcome,
);

fn spec(gate: &str) -> String {
    format!(
        "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {{name: canary, count: 200, gate: {{{gate}}}}}\n  - {{name: rest, rest: true}}\n"
    )
}

async fn view(api: &Api) -> Value {
    api.get("/v1/rollouts/move").await.ok()
}

async fn canary_in(api: &Api, state: &str) -> Vec<Value> {
    let path = format!("/v1/rollouts/move/members?wave=1&limit=1000&state={state}");
    let page = api.get(&path).await.ok();
    page["items"].as_array().unwrap().clone()
}

/// Fails unless nobody of the second wave has been begun.
#[track_caller]
fn check_second_is_shut(view: &Value) {
    let second = &view["waves"][1];
    assert_eq!(second["counts"]["queued"], second["people"], "{view:#}");
    assert_eq!(second["state"], "pending", "{view:#}");
}

async fn silent_people_keep_the_next_wave_shut_and_are_listed(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_000).await;
    sandbox(api, json!({"silence_ppm": 100_000, "seed": 3})).await;
    started(
        api,
        &spec("failures_at_most: 0, unknown_at_most: 1, silence: 1s"),
    )
    .await;
    until("the silence is over", 30, async || {
        view(api).await["waves"][0]["state"] == "gated"
    })
    .await;
    // A gate that is not decided does not become so by being looked at again and again.
    for _ in 0..20 {
        let now = view(api).await;
        check_second_is_shut(&now);
        let why = &now["why_not_now"];
        assert_eq!(why["code"], "undecided", "{now:#}");
        let sentence = why["sentence"].as_str().unwrap();
        assert!(
            sentence.contains("never answered") || sentence.contains("unknown"),
            "{sentence}"
        );
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let now = view(api).await;
    let silent = canary_in(api, "unknown").await;
    assert!((5..60).contains(&silent.len()), "{}", silent.len());
    assert_eq!(now["waves"][0]["counts"]["unknown"], silent.len());
    assert_eq!(
        now["waves"][0]["counts"]["done"],
        200 - silent.len(),
        "each is counted once"
    );
    let key = silent[0]["key"].as_str().unwrap();
    let one = api
        .get(&format!("/v1/rollouts/move/members/{key}"))
        .await
        .ok();
    assert_eq!(one["state"], "unknown");
    service.end_and_fsck();
}

async fn failed_people_keep_the_next_wave_shut_and_are_listed(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_000).await;
    sandbox(api, json!({"failure_ppm": 400_000, "seed": 3})).await;
    // Far from the limit of failures, and short of the goal: that alone stops.
    started(api, &spec("success_at_least: 95%, failures_at_most: 90%")).await;
    until("the wave is decided", 30, async || {
        let now = view(api).await;
        ["missed_goal", "gate_failed"].contains(&now["why_not_now"]["code"].as_str().unwrap_or("-"))
    })
    .await;
    let now = view(api).await;
    check_second_is_shut(&now);
    let sentence = now["why_not_now"]["sentence"].as_str().unwrap();
    assert!(sentence.contains("95"), "says the goal: {sentence}");
    let failed = canary_in(api, "failed").await;
    assert!((40..120).contains(&failed.len()), "{}", failed.len());
    assert_eq!(now["waves"][0]["counts"]["failed"], failed.len());
    assert!(
        failed
            .iter()
            .all(|person| person["code"] == "sandbox_failure"),
        "{failed:#?}"
    );
    service.end_and_fsck();
}

async fn a_retry_after_the_repair_passes_the_gate(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_000).await;
    sandbox(api, json!({"failure_ppm": 400_000, "seed": 3})).await;
    started(api, &spec("failures_at_most: 2%")).await;
    until_status(api, "move", "held", 30).await;
    let retry = async || {
        let body = json!({"reason": "the licences are there now"});
        api.post("/v1/rollouts/move/retry", body).await.ok();
    };
    // Nothing was repaired: the retry passes nothing.
    retry().await;
    until("the gate has failed again", 30, async || {
        let entries = api.get("/v1/audit?limit=1000").await.ok();
        let entries = entries["items"].as_array().unwrap();
        entries
            .iter()
            .filter(|entry| entry["action"] == "wave.gate_failed")
            .count()
            == 2
    })
    .await;
    check_second_is_shut(&view(api).await);
    let seen = api.get("/v1/targets/box").await.etag();
    let put = api
        .request(Method::PUT, "/v1/targets/box")
        .header("if-match", seen);
    let repaired = json!({"connector": "sandbox", "config": {"seed": 3}});
    send(put.json(&repaired)).await.ok();
    retry().await;
    let done = until_status(api, "move", "completed", 30).await;
    assert_eq!(done["totals"]["done"], 1_000);
    assert_eq!(done["waves"][0]["state"], "passed");
    assert!(canary_in(api, "failed").await.is_empty());
    service.end_and_fsck();
}

async fn retries_while_others_are_sent_lose_no_outcome(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 6_000).await;
    let settings = json!({"failure_ppm": 200_000, "seed": 5, "latency_ms": 10, "concurrency": 20});
    sandbox(api, settings).await;
    let all = format!(
        "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {{name: all, rest: true, {EASY}}}\n"
    );
    started(api, &all).await;
    for _ in 0..60 {
        let body = json!({"reason": "again"});
        let answer = api.post("/v1/rollouts/move/retry", body).await;
        assert!([200, 409].contains(&answer.status), "{}", answer.text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let view = until_status(api, "move", "completed", 60).await;
    let of = |state: &str| view["totals"][state].as_u64().unwrap();
    assert_eq!(of("done") + of("failed"), 6_000, "{view:#}");
    service.end_and_fsck();
}
