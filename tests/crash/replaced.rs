//! A database file that is moved away under a running service: nothing is sent, and no halt is said to stand.

use serde_json::json;

use super::people;
use crate::support::database::Database;
use crate::support::people::{import, sandbox, started, two_waves, until_status};
use crate::support::service::Service;
use crate::support::until;

#[tokio::test(flavor = "multi_thread")]
async fn without_its_file_the_service_sends_nobody_and_acknowledges_no_halt() {
    let database = Database::sqlite();
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_000).await;
    sandbox(api, json!({})).await;
    let slow = two_waves().replace("waves:", "rate: {per_second: 100}\nwaves:");
    started(api, &slow).await;
    let done = async || people(&api.get("/v1/rollouts/move").await.ok(), "done");
    until("somebody is moved", 30, async || done().await > 0).await;
    let path = database.url.trim_start_matches("sqlite:").to_owned();
    let away = format!("{path}.away");
    std::fs::rename(&path, &away).unwrap();
    let halt = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "found inside"});
    let answer = api.post("/v1/holds", halt.clone()).await;
    answer.refused(503, "store_unavailable");
    let ready = async || api.get("/readyz").await.status == 200;
    until("it may not send any more", 10, async || !ready().await).await;
    let before = done().await;
    // Another file in its place is no better.
    std::fs::copy(&away, &path).unwrap();
    api.post("/v1/holds", halt)
        .await
        .refused(503, "store_unavailable");
    assert_eq!(done().await, before, "nobody is recorded as moved");
    std::fs::rename(&away, &path).unwrap();
    until("the right file is back", 10, ready).await;
    until_status(api, "move", "completed", 60).await;
    service.end_and_fsck();
}
