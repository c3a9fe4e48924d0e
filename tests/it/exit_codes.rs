//! What a script hears: one exit code for each way a command can end, and one sentence for each state.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{
    EASY, csv, import, import_csv, planned, sandbox, started, two_waves, until_done, until_status,
};
use crate::support::service::Service;

on_each_database!(
    status_ends_with_the_code_of_the_state,
    a_start_under_a_hold_ends_with_the_code_of_the_hold,
    status_wait_ends_when_the_rollout_ends_or_is_stopped,
    status_wait_gives_up_after_its_time,
    watch_without_a_terminal_ends_with_the_rollout,
    why_not_now_says_one_sentence_in_every_state,
    why_says_one_sentence_for_every_person,
);

fn code(service: &Service, arguments: &[&str]) -> (i32, String) {
    let done = service.cli(arguments);
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    (done.status.code().unwrap(), text)
}

async fn status_ends_with_the_code_of_the_state(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let status = || code(&service, &["status", "move"]);
    assert_eq!(status().0, 1, "no such rollout");
    assert_eq!(code(&service, &["status"]).0, 0, "no rollouts are no error");
    import(api, 200).await;
    sandbox(api, json!({"latency_ms": 300, "concurrency": 4})).await;
    let plan = planned(api, &two_waves()).await;
    assert_eq!(status().0, 0, "planned");
    api.post("/v1/rollouts/move/start", json!({"digest": plan["digest"]}))
        .await
        .ok();
    assert_eq!(status().0, 0, "running");
    assert_eq!(code(&service, &["pause", "move", "--reason", "lunch"]).0, 0);
    assert_eq!(status().0, 3, "paused");
    assert_eq!(code(&service, &["halt", "move", "--reason", "danger"]).0, 0);
    assert_eq!(status().0, 4, "a halt is more than a pause");
    assert_eq!(
        code(&service, &["resume", "move", "--reason", "back"]).0,
        4,
        "still halted"
    );
    assert_eq!(status().0, 4);
    let hold = api.get("/v1/holds?in_force=true").await.ok()["items"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let (alone, text) = code(&service, &["release", &hold, "--reason", "safe"]);
    assert_eq!(alone, 1, "nobody releases a halt alone");
    assert!(text.contains("approved"), "and says what it takes: {text}");
    crate::support::release::halt(api, &hold).await;
    assert_eq!(status().0, 0, "running again");
    // To stop takes one word; to give up for good takes the name of what is given up.
    let cancel = ["cancel", "move", "--reason", "enough"];
    let (alone, text) = code(&service, &cancel);
    assert_eq!(alone, 1);
    assert!(
        text.contains("gives up") && text.contains("--confirm move"),
        "{text}"
    );
    let confirmed =
        |name: &'static str| code(&service, &[&cancel[..], &["--confirm", name]].concat());
    assert_eq!(confirmed("other").0, 1);
    assert_eq!(status().0, 0, "still running");
    assert_eq!(confirmed("move").0, 0);
    assert_eq!(status().0, 1, "cancelled");
    assert!(
        status().1.contains("enough"),
        "and says why: {}",
        status().1
    );
}

async fn a_start_under_a_hold_ends_with_the_code_of_the_hold(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    sandbox(api, json!({})).await;
    let spec = database.file("move.yaml");
    std::fs::write(&spec, two_waves()).unwrap();
    let (spec, out) = (
        spec.to_str().unwrap().to_owned(),
        database.file("plan.json").display().to_string(),
    );
    assert_eq!(code(&service, &["plan", &spec, "--out", &out]).0, 0);
    for (verb, expected) in [("pause", 3), ("halt", 4)] {
        assert_eq!(
            code(&service, &[verb, "--target", "box", "--reason", "not now"]).0,
            0
        );
        let (found, text) = code(&service, &["apply", &out, "--reason", "go"]);
        assert_eq!(found, expected, "{text}");
        assert!(text.contains("not now"), "names the reason: {text}");
    }
    assert_eq!(
        api.get("/v1/rollouts/move").await.ok()["lifecycle"],
        "planned",
        "nothing has started"
    );
    for hold in api.get("/v1/holds?in_force=true").await.ok()["items"]
        .as_array()
        .unwrap()
    {
        let id = hold["id"].as_str().unwrap();
        if hold["kind"] == "halt" {
            crate::support::release::halt(api, id).await;
            continue;
        }
        assert_eq!(code(&service, &["release", id, "--reason", "ok"]).0, 0);
    }
    assert_eq!(code(&service, &["apply", &out, "--reason", "go"]).0, 0);
    until_status(api, "move", "completed", 30).await;
}

async fn status_wait_ends_when_the_rollout_ends_or_is_stopped(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    sandbox(api, json!({"latency_ms": 200, "concurrency": 4})).await;
    started(api, &two_waves()).await;
    let wait = || {
        let (url, token) = (api.url.clone(), api.token.clone());
        tokio::task::spawn_blocking(move || {
            crate::support::service::cli(&url, &token, &["status", "move", "--wait"])
        })
    };
    let waiting = wait();
    until_done(api, "move", 4, 20).await;
    api.post("/v1/rollouts/move/halt", json!({"reason": "danger"}))
        .await
        .ok();
    assert_eq!(waiting.await.unwrap().status.code(), Some(4));
    let hold = api.get("/v1/holds?in_force=true").await.ok()["items"][0]["id"].clone();
    let done = {
        crate::support::release::halt(api, hold.as_str().unwrap()).await;
        wait().await.unwrap()
    };
    assert_eq!(done.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&done.stdout).contains("COMPLETED"));
}

async fn status_wait_gives_up_after_its_time(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    sandbox(api, json!({"latency_ms": 5_000, "concurrency": 1})).await;
    started(api, &two_waves()).await;
    let begun = Instant::now();
    let (found, text) = code(&service, &["status", "move", "--wait", "--timeout", "1"]);
    assert_eq!(found, 1, "{text}");
    assert!(text.contains("still"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

async fn watch_without_a_terminal_ends_with_the_rollout(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    sandbox(api, json!({})).await;
    started(api, &two_waves()).await;
    let (found, text) = code(&service, &["watch", "move"]);
    assert_eq!(found, 0, "{text}");
    assert!(
        text.contains("COMPLETED") && text.contains("100 of 100"),
        "{text}"
    );
    assert!(
        !text.contains('\u{1b}'),
        "no escapes where there is no terminal: {text:?}"
    );
    let (found, text) = code(&service, &["-o", "json", "watch", "move"]);
    assert_eq!(found, 0, "{text}");
    for line in text.lines() {
        assert!(
            serde_json::from_str::<Value>(line).is_ok(),
            "one document a line: {line}"
        );
    }
}

async fn why_not_now_says_one_sentence_in_every_state(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    sandbox(
        api,
        json!({"failure_ppm": 1_000_000, "latency_ms": 100, "concurrency": 10}),
    )
    .await;
    let spec = two_waves().replace(EASY, "gate: {failures_at_most: 0}");
    // It ends as `status` does: with the code of the state.
    let say = |ends: i32, part: &str| {
        let (found, text) = code(&service, &["why-not-now", "move"]);
        assert_eq!(found, ends, "{text}");
        assert!(!text.contains("0 people still to answer"), "{text}");
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("move · ") && first.contains(part),
            "`{part}` in `{first}`"
        );
    };
    api.post_text("/v1/rollouts", "application/yaml", spec.as_str())
        .await
        .ok();
    say(0, "no plan");
    let plan = api.post("/v1/rollouts/move/plan", json!({})).await.ok();
    say(0, "nobody has started it");
    api.post(
        "/v1/rollouts/move/pause",
        json!({"reason": "before it began"}),
    )
    .await
    .ok();
    let refused = api
        .post("/v1/rollouts/move/start", json!({"digest": plan["digest"]}))
        .await;
    refused.refused(409, "rollout_paused");
    api.post("/v1/rollouts/move/resume", json!({"reason": "go"}))
        .await
        .ok();
    api.post("/v1/rollouts/move/start", json!({"digest": plan["digest"]}))
        .await
        .ok();
    api.post(
        "/v1/rollouts/move/pause",
        json!({"reason": "the help desk is at lunch"}),
    )
    .await
    .ok();
    say(3, "the help desk is at lunch");
    api.post("/v1/rollouts/move/halt", json!({"reason": "token theft"}))
        .await
        .ok();
    say(4, "token theft");
    let holds = api.get("/v1/holds?in_force=true").await.ok();
    for hold in holds["items"].as_array().unwrap() {
        let id = hold["id"].as_str().unwrap();
        if hold["kind"] == "halt" {
            crate::support::release::halt(api, id).await;
        } else {
            let path = format!("/v1/holds/{id}/release");
            api.post(&path, json!({"reason": "over"})).await.ok();
        }
    }
    until_status(api, "move", "held", 30).await;
    say(3, "wave 1");
    api.post(
        "/v1/rollouts/move/cancel",
        json!({"reason": "another vendor"}),
    )
    .await
    .ok();
    say(1, "another vendor");
}

async fn why_says_one_sentence_for_every_person(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 400).await;
    sandbox(
        api,
        json!({"failure_ppm": 300_000, "review_ppm": 200_000, "seed": 3}),
    )
    .await;
    let spec = two_waves().replace(
        "target: box",
        "target: box\nexclude: {attribute: country, equals: US}",
    );
    planned(api, &spec).await;
    let why = |person: &str| code(&service, &["why", person, "--rollout", "move"]);
    let (found, text) = why("e0000000");
    assert!(found == 0 && text.contains("planned for wave"), "{text}");
    let digest = api.get("/v1/rollouts/move").await.ok()["plan_digest"].clone();
    api.post("/v1/rollouts/move/start", json!({"digest": digest}))
        .await
        .ok();
    until_status(api, "move", "completed", 30).await;
    for (state, part) in [
        ("done", "moved"),
        ("failed", "the rollout is over"),
        ("review", "needs a decision"),
    ] {
        let page = api
            .get(&format!("/v1/rollouts/move/members?state={state}&limit=1"))
            .await
            .ok();
        let key = page["items"][0]["key"].as_str().unwrap();
        let (found, text) = why(key);
        assert!(found == 0 && text.contains(part), "{state}: {text}");
        assert!(text.contains("wave"), "{text}");
    }
    let (found, text) = why("e0000002");
    assert!(found == 0 && text.contains("excluded"), "{text}");
    let (found, text) = why("nobody");
    assert!(found == 1 && text.contains("nobody"), "{text}");
    import_csv(api, csv(0..401)).await;
    let (found, text) = why("e0000400");
    assert_eq!(
        found, 1,
        "who joined later is not in the version that the plan knows: {text}"
    );
}
