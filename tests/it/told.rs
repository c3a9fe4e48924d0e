//! What is said with a stop, and about it: a condition that means nobody, a reason that comes later, a date that
//! is none, and whose pauses a resume lets go.

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox, started, two_waves, until_done};
use crate::support::service::Service;
use crate::support::some_people::{ONE_WAVE, country, place, some, until_sorted};

on_each_database!(
    a_condition_that_means_nobody_says_so,
    what_is_said_with_a_hold_that_is_in_force_is_not_lost,
    a_resume_says_what_it_lets_go_and_what_stays,
);

async fn a_condition_that_means_nobody_says_so(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 400).await;
    sandbox(api, json!({"latency_ms": 100, "concurrency": 1})).await;
    started(api, ONE_WAVE).await;
    until_done(api, "move", 2, 30).await;
    let nobody = some("pause", &country("Germany"));
    let drill = api
        .post("/v1/holds?dry_run=true", nobody.clone())
        .await
        .ok();
    assert_eq!(drill["part"]["people"], 0, "{drill:#}");
    let said = drill["part"]["sentence"].as_str().unwrap();
    assert!(said.contains("matches nobody"), "{said}");
    let french = some("pause", &country("FR"));
    let drill = api.post("/v1/holds?dry_run=true", french).await.ok();
    let people = drill["part"]["people"].as_u64().unwrap();
    assert!((90..=100).contains(&people), "{drill:#}");
    let hold = place(api, nobody).await;
    let view = until_sorted(api, &hold).await;
    let said = view["part"]["sentence"].as_str().unwrap();
    assert!(
        said.contains("keeps nobody back") && said.contains("check the value"),
        "{said}"
    );
}

async fn what_is_said_with_a_hold_that_is_in_force_is_not_lost(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let silent = service.cli(&["halt", "--everything"]);
    assert!(silent.status.success());
    let soon = (chrono::Utc::now() + chrono::TimeDelta::days(3)).format("%Y-%m-%dT00:00:00Z");
    let body = |reason: &str, at: &str| json!({"kind": "halt", "scope": {"type": "everything"}, "reason": reason, "review_at": at});
    let said = body("a state actor", &soon.to_string());
    let halt = api.post("/v1/holds", said.clone()).await.ok();
    assert_eq!(halt["reason"], "a state actor", "{halt:#}");
    assert_eq!(halt["review_at"], soon.to_string());
    assert!(halt["notes"].is_null(), "{halt:#}");
    api.post("/v1/holds", said).await.ok();
    let later = api.post(
        "/v1/holds",
        body("and their vendor", "2999-01-01T00:00:00Z"),
    );
    let later = later.await.ok();
    assert_eq!(
        (&later["id"], &later["reason"]),
        (&halt["id"], &halt["reason"])
    );
    assert_eq!(later["review_at"], halt["review_at"], "never later");
    assert!(
        later["notes"][0]
            .as_str()
            .unwrap()
            .contains("was not taken"),
        "{later:#}"
    );
    api.post(
        "/v1/holds",
        body("and their vendor", "2999-01-01T00:00:00Z"),
    )
    .await
    .ok();
    let audit = api.get("/v1/audit?limit=1000").await.ok();
    let entries = audit["items"].as_array().unwrap().iter();
    let joins = entries.filter(|entry| entry["action"] == "hold.join");
    let because: Vec<&Value> = joins
        .map(|entry| &entry["detail"]["joined_because"])
        .collect();
    assert_eq!(
        because,
        ["a state actor", "and their vendor"],
        "a repeat is no entry"
    );
    // No date keeps a stop from standing.
    let odd = service.cli(&[
        "pause",
        "--everything",
        "--reason",
        "x",
        "--review-at",
        "tomorrow",
    ]);
    assert!(odd.status.success());
    assert!(String::from_utf8_lossy(&odd.stderr).contains("2026-12-24"));
}

/// Makes a rollout and its plan, which a halt keeps from beginning. A plan of the usual kind warns of nothing.
async fn started_under(api: &Api, spec: &str) {
    api.post_text("/v1/rollouts", "application/yaml", spec)
        .await
        .ok();
    let plan = api.post("/v1/rollouts/other/plan", json!({})).await.ok();
    assert_eq!(plan["warnings"], json!([]), "{plan:#}");
    assert!(!plan["notes"].as_array().unwrap().is_empty(), "{plan:#}");
}

async fn a_resume_says_what_it_lets_go_and_what_stays(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 400).await;
    sandbox(api, json!({"latency_ms": 100, "concurrency": 1})).await;
    started(api, ONE_WAVE).await;
    let run = |arguments: &[&str]| {
        let done = service.cli(arguments);
        let text = [done.stdout, done.stderr].concat();
        (
            done.status.code().unwrap(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let french = place(api, some("pause", &country("FR"))).await;
    until_sorted(api, &french).await;
    // A drill says under what nobody goes on, and the real thing whose pauses it lets go.
    let halt = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "first"});
    let halt = place(api, halt).await;
    let (code, text) = run(&["resume", "move", "--dry-run"]);
    assert!(
        code == 0
            && text.contains("nobody would go on: halt of everything")
            && text.contains("works council asks"),
        "{text}"
    );
    // Where there is none to let go, nothing is said to be released.
    let other = two_waves().replace("rollout: move", "rollout: other");
    started_under(api, &other).await;
    let (code, text) = run(&["resume", "other", "--reason", "go"]);
    assert!(
        code == 4
            && text.contains("no pause of its own was in force on `other`; it is halted")
            && !text.contains("released"),
        "{text}"
    );
    let ready = api
        .post(&format!("/v1/holds/{halt}/preflight"), json!({}))
        .await;
    let ready = ready.ok();
    let items = ready["items"].as_array().unwrap();
    let stays = items
        .iter()
        .filter(|item| item["code"] == "other_hold_stays");
    let stays: Vec<&str> = stays.filter_map(|item| item["sentence"].as_str()).collect();
    assert!(
        stays.len() == 1 && stays[0].contains("some people of wave 1 of `move`"),
        "{stays:?}"
    );
    crate::support::release::halt(api, &halt).await;
    let (code, text) = run(&["resume", "move", "--reason", "agreed"]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("let go: pause of some people of wave 1 of rollout `move`"),
        "{text}"
    );
    let trail = api.get("/v1/audit?limit=1000").await.ok();
    for action in ["hold.place", "hold.narrow", "hold.release"] {
        let entries = trail["items"].as_array().unwrap().iter();
        let mut entries = entries.filter(|entry| entry["action"] == action);
        let whom = entries.any(|entry| entry["detail"]["where"] == country("FR"));
        assert!(whom, "{action} says whom");
    }
}
