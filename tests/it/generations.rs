//! Changes that say what they have seen: `If-Match` with the generation of the thing.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{Answer, Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, planned, sandbox, two_waves};
use crate::support::service::Service;

on_each_database!(
    a_change_must_say_what_it_has_seen,
    a_change_of_what_has_changed_since_is_refused,
    an_if_match_that_is_no_generation_is_refused,
    two_changes_at_once_make_one,
    every_verb_of_a_rollout_heeds_if_match,
);

async fn put(api: &Api, path: &str, seen: Option<&str>, body: &Value) -> Answer {
    let mut request = api.request(Method::PUT, path).json(body);
    if let Some(seen) = seen {
        request = request.header("if-match", seen);
    }
    send(request).await
}

/// A population, a target and a rollout that can be changed, each with a change.
async fn things(api: &Api) -> Vec<(&'static str, Value)> {
    import(api, 100).await;
    sandbox(api, json!({})).await;
    planned(api, &two_waves()).await;
    let spec = json!({"rollout": "move", "population": "staff", "target": "box", "waves": [{"name": "all", "rest": true}]});
    vec![
        (
            "/v1/populations/staff",
            json!({"mapping": {"columns": {"email": {"ignore": true}}}}),
        ),
        (
            "/v1/targets/box",
            json!({"connector": "sandbox", "config": {"latency_ms": 5}}),
        ),
        ("/v1/rollouts/move", spec),
    ]
}

async fn a_change_must_say_what_it_has_seen(database: Database) {
    let service = Service::start(&database);
    for (path, change) in things(&service.api).await {
        let before = service.api.get(path).await;
        let sentence = put(&service.api, path, None, &change)
            .await
            .refused(428, "if_match_missing");
        assert!(
            sentence.contains("If-Match"),
            "says what to send: {sentence}"
        );
        assert_eq!(service.api.get(path).await.etag(), before.etag(), "{path}");
    }
}

async fn a_change_of_what_has_changed_since_is_refused(database: Database) {
    let service = Service::start(&database);
    for (path, change) in things(&service.api).await {
        let seen = service.api.get(path).await;
        assert_eq!(
            seen.etag(),
            format!("\"{}\"", seen.body["generation"]),
            "{path}"
        );
        let changed = put(&service.api, path, Some(&seen.etag()), &change).await;
        assert_eq!(changed.status, 200, "{path}: {}", changed.text);
        assert_ne!(changed.etag(), seen.etag(), "{path}");
        for stale in [seen.etag().as_str(), "\"999\"", "\"0\"", "\"-1\""] {
            let refused = put(&service.api, path, Some(stale), &change).await;
            let sentence = refused.refused(412, "generation_stale");
            assert!(sentence.contains("read it again"), "{sentence}");
        }
        let now = service.api.get(path).await;
        assert_eq!(
            now.etag(),
            changed.etag(),
            "{path}: what is refused changes nothing"
        );
        let unquoted = now.etag().trim_matches('"').to_owned();
        let again = put(&service.api, path, Some(&unquoted), &change).await;
        assert_eq!(again.status, 200, "{path}: {}", again.text);
    }
}

async fn an_if_match_that_is_no_generation_is_refused(database: Database) {
    let service = Service::start(&database);
    for (path, change) in things(&service.api).await {
        for nonsense in [
            "*",
            "W/\"1\"",
            "\"1\", \"2\"",
            "\"one\"",
            "",
            "\"1.5\"",
            "99999999999999999999",
        ] {
            let refused = put(&service.api, path, Some(nonsense), &change).await;
            refused.refused(400, "if_match_invalid");
        }
    }
}

async fn two_changes_at_once_make_one(database: Database) {
    let service = Service::start(&database);
    for (path, change) in things(&service.api).await {
        let seen = service.api.get(path).await.etag();
        let changes = (0..8).map(|_| put(&service.api, path, Some(&seen), &change));
        let answers = futures_util::future::join_all(changes).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(
            statuses.iter().filter(|status| **status == 200).count(),
            1,
            "{path}: {statuses:?}"
        );
        assert!(
            statuses.iter().all(|status| [200, 412].contains(status)),
            "{path}: {statuses:?}"
        );
    }
}

async fn every_verb_of_a_rollout_heeds_if_match(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    things(api).await;
    let digest = api.get("/v1/rollouts/move").await.ok()["plan_digest"].clone();
    let reason = json!({"reason": "because"});
    let post = async |verb: &str, body: &Value| {
        let request = api.request(Method::POST, &format!("/v1/rollouts/move/{verb}"));
        send(request.header("if-match", "\"999\"").json(body)).await
    };
    post("start", &json!({"digest": digest}))
        .await
        .refused(412, "generation_stale");
    post("cancel", &reason)
        .await
        .refused(412, "generation_stale");
    post("retry", &reason)
        .await
        .refused(412, "generation_stale");
    post("resume", &reason)
        .await
        .refused(412, "generation_stale");
    let approval = json!({"digest": digest, "reason": "because"});
    post("waves/1/approve", &approval)
        .await
        .refused(412, "generation_stale");
    let view = api.get("/v1/rollouts/move").await.ok();
    assert_eq!(view["status"], "planned", "what is refused changes nothing");
    // A stop is never late: whatever was seen before, it stands.
    assert_eq!(post("pause", &reason).await.ok()["status"], "paused");
    assert_eq!(post("halt", &reason).await.ok()["status"], "halted");
}
