//! A halt is one call, in any state, and nothing but its release ends it.

use serde_json::json;

use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox, started, two_waves, until_done, until_status};
use crate::support::service::Service;
use crate::support::until;

on_each_database!(
    a_halted_rollout_moves_nobody_until_its_release,
    whoever_halts_at_night_is_not_sent_back_for_a_reason,
);

async fn a_halted_rollout_moves_nobody_until_its_release(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 5_000).await;
    sandbox(api, json!({"latency_ms": 20, "concurrency": 8})).await;
    started(api, &two_waves()).await;
    until_done(api, "move", 100, 30).await;
    let hold = json!({"kind": "halt", "scope": {"type": "rollout", "id": "move"}, "reason": "state actor"});
    let placed = api.post("/v1/holds?wait=quiesced", hold).await.ok();
    assert_eq!(placed["quiesced"], true, "{placed:#}");
    until_status(api, "move", "halted", 5).await;
    // Nobody is sent any more; what was answered before that is written within a moment.
    until("what had come back is written", 5, async || {
        api.get("/v1/rollouts/move").await.ok()["in_flight"] == 0
    })
    .await;
    let halted = api.get("/v1/rollouts/move").await.ok();
    let resumed = api
        .post("/v1/rollouts/move/resume", json!({"reason": "go"}))
        .await
        .ok();
    assert_eq!(
        resumed["status"], "halted",
        "a resume lets go of pauses alone"
    );
    let later = api.get("/v1/rollouts/move").await.ok();
    assert_eq!(later["totals"]["done"], halted["totals"]["done"]);
    crate::support::release::halt(api, placed["id"].as_str().unwrap()).await;
    let done = until_status(api, "move", "completed", 60).await;
    assert_eq!(done["totals"]["done"], 5_000);
    service.end_and_fsck();
}

async fn whoever_halts_at_night_is_not_sent_back_for_a_reason(database: Database) {
    let service = Service::start(&database);
    let done = service.cli(&["halt", "--everything"]);
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let holds = service.api.get("/v1/holds?in_force=true").await.ok();
    assert_eq!(holds["items"][0]["kind"], "halt");
    assert_eq!(holds["items"][0]["reason"], "no reason was given");
}
