//! Evidence: what a target says is not the last word, and what the trail says is enough to tell what happened.

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox, started, two_waves, until_done, until_status};
use crate::support::service::Service;
use crate::support::until;

on_each_database!(
    a_false_success_reopens_the_verdict_and_stops_the_waves_after_it,
    the_trail_alone_tells_how_many_were_claimed_and_recorded,
);

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

/// Reads the whole trail, page by page.
async fn trail(api: &Api) -> Vec<Value> {
    let mut entries: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("/v1/audit?limit=100{cursor}")).await.ok();
        entries.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return entries,
        }
    }
}

/// Which people came to which state is packed beside an entry (`data_bytes`), and `fsck` holds it against
/// the ledger; the trail as it is listed says how many.
async fn the_trail_alone_tells_how_many_were_claimed_and_recorded(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let ann = api.as_role("ann", "security").await;
    import(api, 2_000).await;
    sandbox(
        api,
        json!({"latency_ms": 20, "concurrency": 8, "failure_ppm": 50_000}),
    )
    .await;
    started(api, &two_waves()).await;
    until_done(api, "move", 200, 30).await;
    let body = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "token theft"});
    let halt = ann.post("/v1/holds?wait=quiesced", body).await.ok();
    crate::support::release::halt(api, halt["id"].as_str().unwrap()).await;
    let done = until_status(api, "move", "completed", 60).await;
    let entries = trail(api).await;
    let subject = format!("rollout:{}", done["id"].as_str().unwrap());
    let ours: Vec<&Value> = entries
        .iter()
        .filter(|entry| entry["subject"] == subject.as_str())
        .collect();
    let sum = |field: &str| -> u64 {
        let turns = ours.iter().filter(|entry| entry["action"] == "ledger.turn");
        turns
            .map(|entry| entry["detail"][field].as_u64().unwrap())
            .sum()
    };
    // Whoever was claimed and not sent because of the halt was claimed twice and recorded as not sent.
    assert!(sum("claimed") >= 2_000, "{}", sum("claimed"));
    assert_eq!(sum("recorded"), sum("claimed"), "nobody is left open");
    assert!(
        ours.iter()
            .filter(|entry| entry["action"] == "ledger.turn")
            .all(|entry| entry["data_bytes"].as_u64() > Some(0)),
        "each turn says of whom"
    );
    let steps: Vec<(&str, Option<u64>)> = ours
        .iter()
        .map(|entry| {
            let wave = entry["detail"]["wave"].as_u64();
            (entry["action"].as_str().unwrap(), wave)
        })
        .filter(|(action, _)| !action.starts_with("ledger."))
        .collect();
    let place = |step: (&str, Option<u64>)| {
        let found = steps.iter().position(|seen| *seen == step);
        found.unwrap_or_else(|| panic!("{step:?} is not in {steps:?}"))
    };
    let order = [
        ("rollout.create", None),
        ("rollout.planned", None),
        ("rollout.started", None),
        ("wave.opened", Some(1)),
        ("wave.passed", Some(1)),
        ("wave.opened", Some(2)),
        ("wave.passed", Some(2)),
        ("rollout.completed", None),
    ];
    let places: Vec<usize> = order.map(place).to_vec();
    assert!(places.is_sorted(), "{steps:?}");
    let of_hold: Vec<_> = entries
        .iter()
        .filter(|entry| ["hold.place", "hold.release"].contains(&entry["action"].as_str().unwrap()))
        .map(|entry| {
            (
                entry["action"].clone(),
                entry["actor"].clone(),
                entry["detail"]["reason"].clone(),
            )
        })
        .collect();
    let expected = [
        ("hold.place", "ann", "token theft"),
        ("hold.release", "first-admin", "the vendor delivered"),
    ]
    .map(|(action, by, reason)| (json!(action), json!(by), json!(reason)));
    assert_eq!(of_hold, expected);
    // While the halt was in force nothing was claimed: read off the same pages.
    let at = |action: &str| {
        let found = entries.iter().position(|entry| entry["action"] == action);
        found.unwrap()
    };
    let between = &entries[at("hold.place")..at("hold.release")];
    assert!(
        between
            .iter()
            .filter(|entry| entry["action"] == "ledger.turn")
            .all(|entry| entry["detail"]["claimed"] == 0),
        "{between:#?}"
    );
    service.end_and_fsck();
}
