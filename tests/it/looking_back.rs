//! What was reported is looked back at: replayed by another set, and explained, by command and by call.

use serde_json::{Value, json};

use crate::support::api::send;
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::sandbox;
use crate::support::service::Service;
use crate::support::until;

#[test]
fn the_scenario_is_judged_by_its_own_rules_the_starter_set_or_a_file() {
    let folder = crate::support::database::Folder::new();
    let mine = folder.path().join("mine.yaml");
    std::fs::write(
        &mine,
        STARTER.replace("policy_set: starter", "policy_set: mine"),
    )
    .unwrap();
    let mine = mine.to_str().unwrap();
    let scenario = ["policy", "replay", "--scenario", "midnight-blizzard"];
    for (more, name) in [
        (None, None),
        (Some("--starter"), Some("starter")),
        (Some(mine), Some("mine")),
    ] {
        let words: Vec<&str> = scenario.into_iter().chain(more).collect();
        let done = crate::support::service::cli("http://127.0.0.1:9", "", &words);
        let told = text(&done.stdout);
        assert!(done.status.success(), "{told}{}", text(&done.stderr));
        assert!(told.contains("Midnight Blizzard"), "{told}");
        let says = |name: &str| told.contains(&format!("the rules of `{name}`"));
        assert!(name.is_none_or(says), "{told}");
    }
}

on_each_database!(what_is_kept_is_replayed_and_explained_and_nothing_changes);

const STARTER: &str = include_str!("../../crates/policy/src/set/starter.yaml");

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn theft(id: &str, user: &str) -> Value {
    json!({"id": id, "kind": "session_theft", "severity": "high", "vendor": "acme", "subject": {"user": user}})
}

async fn what_is_kept_is_replayed_and_explained_and_nothing_changes(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    sandbox(api, json!({})).await;
    let facts = json!({"vendor": "acme"});
    send(
        api.request(reqwest::Method::PUT, "/v1/targets/box/facts")
            .json(&facts),
    )
    .await
    .ok();
    let mut ids = Vec::new();
    for (id, user) in [("1", "ana"), ("2", "bo")] {
        let sent = api.post("/v1/signals", theft(id, user)).await.ok();
        ids.push(sent["ids"][0].as_str().unwrap().to_owned());
    }
    until("both are judged", 5, async || {
        let listed = api.get("/v1/signals").await.ok();
        let items = listed["items"].as_array().unwrap().clone();
        items.iter().all(|item| item["outcome"] == "unmapped")
    })
    .await;
    let before = (
        api.get("/v1/audit?limit=1000").await.text,
        api.get("/v1/holds").await.text,
    );
    let file = |name: &str, text: &str| {
        let path = database.file(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let sooner = file(
        "sooner.yaml",
        &STARTER.replace("at_least: 3}", "at_least: 2}"),
    );
    let replayed = service.cli(&["policy", "replay", &sooner, "--stored"]);
    assert_eq!(
        replayed.status.code(),
        Some(2),
        "a difference: {}",
        text(&replayed.stderr)
    );
    let told = text(&replayed.stdout);
    assert!(
        told.contains("token-theft-burst-pauses") && told.contains("added"),
        "{told}"
    );
    let same = service.cli(&[
        "policy",
        "replay",
        "starter@1",
        "--stored",
        "--since",
        "2020-01-01",
    ]);
    assert_eq!(same.status.code(), Some(0), "{}", text(&same.stderr));
    assert!(
        text(&same.stdout).contains("nothing differs"),
        "{}",
        text(&same.stdout)
    );
    let explained = service.cli(&["policy", "explain", &ids[1], "--all"]);
    let told = text(&explained.stdout);
    assert!(
        told.contains("at least 3 different values of user within 1h"),
        "{told}"
    );
    assert!(
        told.contains("2 of 3 within 1h") && told.lines().all(|line| line.chars().count() <= 100),
        "{told}"
    );
    // What is listed is replayed as it is, the newest first.
    let listed = service.cli(&["signal", "list", "-o", "json"]);
    let listed = file("listed.json", &text(&listed.stdout));
    let (signals, target) = (["--signals", listed.as_str()], ["--target", "box:acme"]);
    let whole = [&["policy", "replay", &sooner][..], &signals, &target].concat();
    let replayed = service.cli(&whole);
    let told = text(&replayed.stdout);
    assert!(
        replayed.status.success() && told.contains("2 signals, 1 of them of no rule"),
        "{told}{}",
        text(&replayed.stderr)
    );
    let schema = service.cli(&["policy", "schema"]);
    let printed: Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert_eq!(printed, api.get("/v1/policies/schema").await.ok());
    // Whoever only reads may ask why, and may not have the service work for minutes.
    let auditor = api.as_role("aud", "auditor").await;
    let path = format!("/v1/signals/{}/explain", ids[0]);
    assert_eq!(auditor.get(&path).await.ok()["policy"], "starter");
    let body = json!({"name": "starter"});
    auditor
        .post("/v1/policies/replay", body.clone())
        .await
        .refused(403, "forbidden");
    let wrong = json!({"name": "starter", "text": "x"});
    api.post("/v1/policies/replay", wrong)
        .await
        .refused(422, "replay_unclear");
    api.get("/v1/signals/none/explain")
        .await
        .refused(404, "signal_not_found");
    let reserved = STARTER.replace("policy_set: starter", "policy_set: schema");
    let answer = api
        .post_text("/v1/policies", "application/yaml", reserved)
        .await;
    answer.refused(422, "name_reserved");
    let trail = |text: &str| {
        let page: Value = serde_json::from_str(text).unwrap();
        let items = page["items"].as_array().unwrap().clone();
        let of_policies = |item: &&Value| item["action"].as_str().unwrap().starts_with("policy");
        items.iter().filter(of_policies).count()
    };
    let after = api.get("/v1/audit?limit=1000").await.text;
    assert_eq!(
        trail(&before.0),
        trail(&after),
        "looking back leaves no trace of a change"
    );
    assert_eq!(before.1, api.get("/v1/holds").await.text);
    service.end_and_fsck();
}
