//! People who join late: after the plan was made they are in none of its waves.

use serde_json::json;

use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{csv, import, import_csv, planned, sandbox, two_waves, until_status};
use crate::support::service::Service;
use crate::support::until;

on_each_database!(people_imported_after_the_start_are_in_no_wave);

async fn people_imported_after_the_start_are_in_no_wave(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_000).await;
    sandbox(api, json!({"latency_ms": 50, "concurrency": 50})).await;
    let start = async |digest: &serde_json::Value| {
        let body = json!({"digest": digest});
        api.post("/v1/rollouts/move/start", body).await
    };
    let early = planned(api, &two_waves()).await;
    import_csv(api, csv(0..1_100)).await;
    // Before the start the plan says what it does not know.
    let stale = start(&early["digest"]).await;
    stale.refused(409, "plan_stale");
    assert!(
        stale.text.contains("100"),
        "says how many joined: {}",
        stale.text
    );
    let plan = api.post("/v1/rollouts/move/plan", json!({})).await.ok();
    assert_eq!(plan["people"], 1_100);
    start(&plan["digest"]).await.ok();
    until("the first wave is over", 30, async || {
        api.get("/v1/rollouts/move").await.ok()["waves"][0]["state"] == "passed"
    })
    .await;
    // Ten thousand more enter while the second wave is under way.
    import_csv(api, csv(0..11_100)).await;
    let done = until_status(api, "move", "completed", 60).await;
    assert_eq!(
        (&done["totals"]["people"], &done["totals"]["done"]),
        (&json!(1_100), &json!(1_100)),
        "{done:#}"
    );
    assert_eq!(
        done["waves"][0]["people"], 50,
        "a wave that is over is over"
    );
    for late in ["e0001100", "e0011099"] {
        let answer = api.get(&format!("/v1/rollouts/move/members/{late}")).await;
        let known = api
            .get(&format!("/v1/populations/staff/members/{late}"))
            .await;
        assert_eq!(known.status, 200, "{}", known.text);
        assert!(
            answer.status == 404 || answer.body["wave"].is_null(),
            "{}",
            answer.text
        );
    }
    service.end_and_fsck();
}
