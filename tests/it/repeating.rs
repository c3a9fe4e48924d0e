//! `Idempotency-Key`: a call may be repeated after a lost answer, and happens once.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::support::api::{Answer, Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox, started, two_waves, until_done};
use crate::support::service::Service;
use crate::support::until;
use crate::support::wire::Wire;

on_each_database!(
    the_secret_of_a_token_is_in_the_first_answer_alone,
    a_repeat_gets_the_first_answer_and_changes_nothing,
    replayed_idempotency_key_with_another_body_is_refused,
    a_key_belongs_to_the_one_who_used_it,
    twenty_repeats_at_once_create_exactly_one,
    a_key_that_cannot_be_one_is_refused,
    a_call_that_failed_on_our_side_gives_its_key_back,
    a_refusal_is_repeated_as_it_was,
    a_call_whose_client_hung_up_can_be_repeated,
    a_halt_sent_again_with_its_key_is_a_halt,
);

async fn post(api: &Api, path: &str, key: &str, body: &Value) -> Answer {
    let request = api
        .request(Method::POST, path)
        .header("idempotency-key", key);
    send(request.json(body)).await
}

async fn trail(api: &Api) -> usize {
    let audit = api.get("/v1/audit?limit=1000").await.ok();
    audit["items"].as_array().unwrap().len()
}

async fn a_repeat_gets_the_first_answer_and_changes_nothing(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let body = json!({"name": "ci"});
    let first = post(api, "/v1/populations", "key-1", &body).await;
    assert_eq!(first.status, 201);
    assert!(!first.headers.contains_key("idempotency-replayed"));
    let entries = trail(api).await;
    for _ in 0..3 {
        let again = post(api, "/v1/populations", "key-1", &body).await;
        assert_eq!((again.status, &again.text), (first.status, &first.text));
        assert_eq!(again.headers["content-type"], first.headers["content-type"]);
        assert_eq!(again.headers["idempotency-replayed"], "true");
    }
    assert_eq!(
        trail(api).await,
        entries,
        "a repeat is no entry in the trail"
    );
    let made = post(api, "/v1/populations", "key-2", &json!({"name": "p"})).await;
    let again = post(api, "/v1/populations", "key-2", &json!({"name": "p"})).await;
    assert_eq!(again.etag(), made.etag());
}

async fn the_secret_of_a_token_is_in_the_first_answer_alone(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let body = json!({"name": "ci", "role": "auditor"});
    let first = post(api, "/v1/tokens", "key-1", &body).await.ok();
    let again = post(api, "/v1/tokens", "key-1", &body).await.ok();
    assert!(first["token"].is_string() && again.get("token").is_none());
    assert_eq!(again["id"], first["id"]);
}

async fn replayed_idempotency_key_with_another_body_is_refused(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    post(api, "/v1/populations", "key", &json!({"name": "one"}))
        .await
        .ok();
    let other = post(api, "/v1/populations", "key", &json!({"name": "two"})).await;
    other.refused(422, "idempotency_key_reused");
    let body = json!({"name": "one", "connector": "sandbox"});
    post(api, "/v1/targets", "key", &body)
        .await
        .refused(422, "idempotency_key_reused");
    let listed = api.get("/v1/populations").await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
}

async fn a_key_belongs_to_the_one_who_used_it(database: Database) {
    let service = Service::start(&database);
    let other = service.api.as_role("other", "manager").await;
    let first = post(
        &service.api,
        "/v1/populations",
        "key",
        &json!({"name": "one"}),
    )
    .await;
    let second = post(&other, "/v1/populations", "key", &json!({"name": "two"})).await;
    assert_eq!((first.status, second.status), (201, 201));
    let nobody = service.api.with_token("");
    let answer = post(&nobody, "/v1/populations", "key", &json!({"name": "one"})).await;
    answer.refused(401, "token_missing");
}

async fn twenty_repeats_at_once_create_exactly_one(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let body = json!({"name": "once"});
    let answers = join_all((0..20).map(|_| post(api, "/v1/populations", "key", &body))).await;
    let mut texts = Vec::new();
    for answer in &answers {
        match answer.status {
            201 => texts.push(answer.text.clone()),
            _ => drop(answer.refused(409, "idempotency_in_progress")),
        }
    }
    texts.dedup();
    assert_eq!(
        texts.len(),
        1,
        "all who got an answer got the same one: {texts:?}"
    );
    let again = post(api, "/v1/populations", "key", &body).await;
    assert_eq!((again.status, &again.text), (201, &texts[0]));
    let audit = api.get("/v1/audit?limit=1000").await.ok();
    let created = audit["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["detail"]["name"] == "once");
    assert_eq!(created.count(), 1);
}

async fn a_key_that_cannot_be_one_is_refused(database: Database) {
    let service = Service::start(&database);
    let long = "k".repeat(201);
    for key in ["", "schlüssel", long.as_str()] {
        let answer = post(&service.api, "/v1/populations", key, &json!({"name": "p"})).await;
        answer.refused(400, "idempotency_key_invalid");
    }
    let longest = "k".repeat(200);
    post(
        &service.api,
        "/v1/populations",
        &longest,
        &json!({"name": "p"}),
    )
    .await
    .ok();
}

/// Runs one statement on the database behind the service's back.
async fn meddle(database: &Database, sql: &str) {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    if database.is_postgres() {
        let mut connection = sqlx::PgConnection::connect(&database.url).await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
    } else {
        let mut connection = sqlx::SqliteConnection::connect(&database.url)
            .await
            .unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
    }
}

async fn a_call_that_failed_on_our_side_gives_its_key_back(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let body = json!({"name": "box", "connector": "sandbox"});
    meddle(&database, "ALTER TABLE target RENAME TO target_away").await;
    let failed = post(api, "/v1/targets", "key", &body).await;
    let sentence = failed.refused(500, "internal");
    assert!(
        !sentence.contains("target_away") && !failed.text.contains("table"),
        "{}",
        failed.text
    );
    meddle(&database, "ALTER TABLE target_away RENAME TO target").await;
    let made = post(api, "/v1/targets", "key", &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert!(
        !made.headers.contains_key("idempotency-replayed"),
        "this is the first answer"
    );
}

async fn a_refusal_is_repeated_as_it_was(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let body = json!({"name": "a b"});
    let first = post(api, "/v1/populations", "key", &body).await;
    first.refused(422, "name_invalid");
    let again = post(api, "/v1/populations", "key", &body).await;
    again.refused(422, "name_invalid");
    assert_eq!(again.text, first.text);
}

async fn a_call_whose_client_hung_up_can_be_repeated(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 2_000).await;
    sandbox(api, json!({"latency_ms": 900, "concurrency": 4})).await;
    started(api, &two_waves()).await;
    until_done(api, "move", 4, 20).await;
    let body = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "once"});
    let text = body.to_string();
    let lines = [
        "content-type: application/json".to_owned(),
        "idempotency-key: key".to_owned(),
        format!("content-length: {}", text.len()),
    ];
    let path = "/v1/holds?wait=quiesced";
    let mut wire = Wire::begin(api, &format!("POST {path}"), &lines).await;
    wire.write(text.as_bytes()).await;
    until("the hold is in force", 10, async || {
        api.get("/v1/holds").await.ok()["items"] != json!([])
    })
    .await;
    drop(wire);
    // Who says stop again is never told to wait, and joins the stop that is in force.
    let answer = post(api, path, "key", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.body["actors"], json!(["first-admin"]));
}

async fn a_halt_sent_again_with_its_key_is_a_halt(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let body = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "once"});
    let placed = post(api, "/v1/holds", "key", &body).await.ok();
    let again = post(api, "/v1/holds", "key", &body).await.ok();
    assert_eq!(again["id"], placed["id"], "a repeat of a flaky client");
    crate::support::release::halt(api, placed["id"].as_str().unwrap()).await;
    // An answer from memory would say that it is quiet, and nothing would be held.
    let late = post(api, "/v1/holds?wait=quiesced", "key", &body)
        .await
        .ok();
    assert_ne!(late["id"], placed["id"]);
    let holds = api.get("/v1/holds?in_force=true").await.ok();
    assert_eq!(holds["items"][0]["id"], late["id"], "{holds:#}");
}
