//! A wave that waits for people: so many others, for exactly the plan that runs.

use serde_json::{Value, json};

use crate::support::api::{Answer, Api};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox, started, until_status};
use crate::support::service::Service;
use crate::support::until;

on_each_database!(
    two_others_let_a_wave_pass_and_one_twice_does_not,
    an_approval_of_another_plan_is_refused,
);

const SPEC: &str = "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {name: canary, count: 50, gate: {failures_at_most: 0, approvals: {count: 2}}}\n  - {name: rest, rest: true}\n";

/// A rollout whose first wave waits for two approvals; returns the digest of its plan.
async fn waiting(api: &Api) -> Value {
    import(api, 300).await;
    sandbox(api, json!({})).await;
    let view = started(api, SPEC).await;
    until_missing(api).await;
    view["plan_digest"].clone()
}

async fn until_missing(api: &Api) {
    until("only approvals are missing", 30, async || {
        let view = api.get("/v1/rollouts/move").await.ok();
        view["why_not_now"]["code"] == "approval_missing"
    })
    .await;
}

async fn approve(api: &Api, digest: &Value) -> Answer {
    let body = json!({"digest": digest, "reason": "looks good"});
    api.post("/v1/rollouts/move/waves/1/approve", body).await
}

/// Fails when anybody of the second wave was begun while the planner could look many times.
async fn check_stays_shut(api: &Api) {
    for _ in 0..20 {
        let view = api.get("/v1/rollouts/move").await.ok();
        let second = &view["waves"][1];
        assert_eq!(second["counts"]["queued"], second["people"], "{view:#}");
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
}

async fn two_others_let_a_wave_pass_and_one_twice_does_not(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let digest = waiting(api).await;
    // The admin planned and started it: whatever their role, they do not approve it.
    approve(api, &digest).await.refused(409, "self_approval");
    let ann = api.as_role("ann", "approver").await;
    let bob = api.as_role("bob", "approver").await;
    let manager = api.as_role("manager", "manager").await;
    approve(&manager, &digest).await.refused(403, "forbidden");
    check_stays_shut(api).await;
    approve(&ann, &digest).await.ok();
    approve(&ann, &digest).await.ok();
    check_stays_shut(api).await;
    until_missing(api).await;
    approve(&bob, &digest).await.ok();
    let done = until_status(api, "move", "completed", 30).await;
    assert_eq!(done["totals"]["done"], 300);
    let audit = api.get("/v1/audit?limit=1000").await.ok();
    let entries = audit["items"].as_array().unwrap();
    let who: std::collections::BTreeSet<_> = entries
        .iter()
        .filter(|entry| entry["action"] == "wave.approved")
        .map(|entry| entry["actor"].as_str().unwrap())
        .collect();
    assert_eq!(who.into_iter().collect::<Vec<_>>(), ["ann", "bob"]);
    service.end_and_fsck();
}

async fn an_approval_of_another_plan_is_refused(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let digest = waiting(api).await;
    let ann = api.as_role("ann", "approver").await;
    let other = json!("0".repeat(64));
    let refused = approve(&ann, &other).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert!(
        refused.text.contains(digest.as_str().unwrap()),
        "names the plan that runs: {}",
        refused.text
    );
    approve(&ann, &json!("yes"))
        .await
        .refused(422, "digest_invalid");
    let body = json!({"digest": digest, "reason": "early"});
    let early = ann
        .post("/v1/rollouts/move/waves/2/approve", body.clone())
        .await;
    assert_eq!(early.status, 409, "{}", early.text);
    let none = ann.post("/v1/rollouts/move/waves/9/approve", body).await;
    none.refused(409, "wave_unknown");
    check_stays_shut(api).await;
    until_missing(api).await;
}
