//! What a target says is not the last word: later evidence re-opens a verdict.

use serde_json::json;

use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox, started, until_status};
use crate::support::service::Service;
use crate::support::until;

on_each_database!(a_false_success_reopens_the_verdict_and_stops_the_waves_after_it);

async fn a_false_success_reopens_the_verdict_and_stops_the_waves_after_it(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 3_000).await;
    sandbox(api, json!({"latency_ms": 20, "concurrency": 4})).await;
    let spec = "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {name: canary, count: 40, gate: {failures_at_most: 2}}\n  - {name: rest, rest: true}\n";
    started(api, spec).await;
    until("the canary has passed", 30, async || {
        let view = api.get("/v1/rollouts/move").await.ok();
        view["waves"][0]["state"] == "passed"
            && view["waves"][1]["counts"]["done"].as_u64() > Some(0)
    })
    .await;
    let canary = api
        .get("/v1/rollouts/move/members?wave=1&state=done&limit=3")
        .await
        .ok();
    for person in canary["items"].as_array().unwrap() {
        let key = person["key"].as_str().unwrap();
        let path = format!("/v1/rollouts/move/members/{key}/disprove");
        let answer = api
            .post(
                &path,
                json!({"reason": "their mail still arrives at the old place"}),
            )
            .await;
        assert_eq!(answer.ok()["state"], "failed");
        api.post(&path, json!({"reason": "again"}))
            .await
            .refused(409, "person_state");
    }
    let view = until_status(api, "move", "held", 10).await;
    assert_eq!(view["waves"][0]["state"], "failed");
    assert_eq!(view["holds"][0]["kind"], "gate");
    assert!(
        view["totals"]["done"].as_u64() < Some(3_000),
        "the second wave had not ended"
    );
    service.end_and_fsck();
}
