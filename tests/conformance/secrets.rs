//! A credential is a reference: the secret is sent to the target, and kept, shown or logged nowhere.

use serde_json::json;

use super::own::{Book, Own, Reply};
use super::{ONE_WAVE, people_in, target_at};
use crate::support::api::Api;
use crate::support::database::Database;
use crate::support::people::{import, started, until_status};
use crate::support::service::Service;
use crate::support::targets::Target;
use crate::support::until;

const SECRET: &str = "s3cr3t-7f9c2b1e-bearer";

/// Fails when the secret stands in the database, the log, or any answer of the API.
async fn check_kept_nowhere(api: &Api, database: &Database) {
    let folder = database.file("");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let is_ours = path.extension().is_some_and(|kind| kind == "secret");
        if path.is_file() && !is_ours {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes
                .windows(SECRET.len())
                .any(|part| part == SECRET.as_bytes());
            assert!(!found, "the secret is in {}", path.display());
        }
    }
    for path in [
        "/v1/targets",
        "/v1/targets/box",
        "/v1/audit?limit=1000",
        "/v1/rollouts",
        "/v1/rollouts/move",
        "/v1/rollouts/move/report",
        "/v1/rollouts/move/members?limit=1000",
        "/v1/rollouts/move/members/e0000001",
        "/metrics",
    ] {
        let answer = api.get(path).await;
        assert!(answer.status < 300, "{path}: {}", answer.text);
        assert!(!answer.text.contains(SECRET), "{path}: {}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_from_a_file_is_sent_and_kept_nowhere() {
    let Some(server) = Target::scim2(&["--token", SECRET]).await else {
        return;
    };
    let database = Database::sqlite();
    let path = database.file("token.secret");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 30).await;
    server
        .register(
            api,
            "box",
            json!({"credential": {"file": database.granted("token.secret")}}),
        )
        .await;
    let report = api.post("/v1/targets/box/check", json!({})).await;
    assert!(!report.text.contains(SECRET));
    assert_eq!(report.ok()["ok"], true);
    started(api, ONE_WAVE).await;
    until_status(api, "move", "completed", 30).await;
    check_kept_nowhere(api, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_from_the_environment_is_sent_and_kept_nowhere() {
    let Some(server) = Target::scimmy(&[("TOKEN", SECRET)]).await else {
        return;
    };
    let database = Database::sqlite();
    let mut first = Service::start(&database);
    let token = first.api.token.clone();
    assert!(first.stop());
    let variables = [
        ("TIDEGATE_CREDENTIAL_BOX", SECRET),
        ("TIDEGATE_LOG", "debug"),
    ];
    let service = Service::start_with(&database, &token, &variables);
    let api = &service.api;
    import(api, 30).await;
    server
        .register(
            api,
            "box",
            json!({"credential": {"env": "TIDEGATE_CREDENTIAL_BOX"}}),
        )
        .await;
    started(api, ONE_WAVE).await;
    until_status(api, "move", "completed", 30).await;
    check_kept_nowhere(api, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_repeats_of_the_token_is_taken_out() {
    let own = Own::start(|asked| {
        let said = format!("you sent {}", asked.authorization.as_deref().unwrap_or("-"));
        Reply::Json(400, json!({"status": "400", "detail": said}))
    })
    .await;
    let database = Database::sqlite();
    let path = database.file("token.secret");
    std::fs::write(&path, SECRET).unwrap();
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 3).await;
    target_at(
        api,
        &own.url,
        json!({"credential": {"file": database.granted("token.secret")}}),
    )
    .await;
    let report = api.post("/v1/targets/box/check", json!({})).await;
    assert!(!report.text.contains(SECRET), "{}", report.text);
    started(api, ONE_WAVE).await;
    until("they failed", 10, async || {
        people_in(api, "failed").await.len() == 3
    })
    .await;
    let people = people_in(api, "failed").await;
    let message = people[0]["message"].as_str().unwrap();
    assert!(
        message.contains("you sent Bearer [credential]"),
        "{message}"
    );
    check_kept_nowhere(api, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_given_as_a_setting_is_refused_and_not_repeated() {
    let database = Database::sqlite();
    let service = Service::start(&database);
    let api = &service.api;
    let url = format!("https://user:{SECRET}@example.test/v2");
    for config in [
        json!({"base_url": "https://example.test/v2", "credential": SECRET}),
        json!({"base_url": "https://example.test/v2", "credential": {"token": SECRET}}),
        json!({"base_url": "https://example.test/v2", "credential": {"env": SECRET}}),
        json!({"base_url": "https://example.test/v2", "credential": {"file": SECRET}}),
        json!({"base_url": format!("https://example.test/v2?token={SECRET}")}),
        json!({"base_url": url}),
    ] {
        let body = json!({"name": "box", "connector": "scim", "config": config});
        let answer = api.post("/v1/targets", body).await;
        answer.refused(422, "config_invalid");
        assert!(!answer.text.contains(SECRET), "{}", answer.text);
    }
    let bytes = std::fs::read(database.file("test.db-wal")).unwrap_or_default();
    assert!(
        !bytes
            .windows(SECRET.len())
            .any(|part| part == SECRET.as_bytes())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_with_the_token_and_fails_nobody() {
    let elsewhere = Own::start(|_| Reply::Json(201, json!({"id": "1"}))).await;
    let location = format!("{}/Users", elsewhere.url);
    let own =
        Own::start(move |_| Reply::Raw(307, ("location", location.clone()), String::new())).await;
    let database = Database::sqlite();
    let path = database.file("token.secret");
    std::fs::write(&path, SECRET).unwrap();
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 20).await;
    target_at(
        api,
        &own.url,
        json!({"credential": {"file": database.granted("token.secret")}}),
    )
    .await;
    let report = api.post("/v1/targets/box/check", json!({})).await.ok();
    assert_eq!(report["ok"], false);
    let said = report["items"].to_string();
    assert!(said.contains("points elsewhere"), "{said}");
    started(api, ONE_WAVE).await;
    until("the target is left alone", 10, async || {
        api.get("/v1/targets/box").await.ok()["closed_until"].is_string()
    })
    .await;
    assert!(
        own.asked()
            .iter()
            .all(|asked| asked.authorization.is_some())
    );
    assert_eq!(elsewhere.asked().len(), 0, "the token stays here");
    // The last of them come back a moment after the first has closed the target.
    until("everybody waits, and nobody failed", 10, async || {
        people_in(api, "queued").await.len() == 20
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_token_is_taken_up_without_a_restart() {
    let book = Book::default();
    let own = Own::start(move |asked| match asked.authorization.as_deref() {
        Some("Bearer new-token") => book.answer(asked),
        _ => Reply::Json(401, json!({"status": "401", "detail": "expired"})),
    })
    .await;
    let database = Database::sqlite();
    let path = database.file("token.secret");
    std::fs::write(&path, "old-token").unwrap();
    let service = Service::start(&database);
    let api = &service.api;
    target_at(
        api,
        &own.url,
        json!({"credential": {"file": database.granted("token.secret")}}),
    )
    .await;
    let report = api.post("/v1/targets/box/check", json!({})).await.ok();
    let said = report["items"].to_string();
    assert!(said.contains("does not let us in"), "{said}");
    std::fs::write(&path, "new-token").unwrap();
    let report = api.post("/v1/targets/box/check", json!({})).await.ok();
    assert_eq!(report["ok"], true, "{report:#}");
}
