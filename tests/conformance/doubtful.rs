//! Whoever may be there without our knowing is looked up before anything is sent again.

use serde_json::{Value, json};

use super::own::{Book, Own, Reply};
use super::{ONE_WAVE, on_each_server, people_in, target_at, total};
use crate::support::api::send;
use crate::support::database::Database;
use crate::support::people::{csv, import, import_csv, started, until_status};
use crate::support::service::Service;
use crate::support::targets::{Target, check_nobody_twice};
use crate::support::until;

on_each_server!(
    lost_and_late_answers_create_nobody_twice,
    whoever_was_renamed_there_while_in_doubt_keeps_one_account,
    an_import_that_renames_whoever_is_in_doubt_creates_nobody_twice,
);

async fn lost_and_late_answers_create_nobody_twice(server: Target) {
    let faults = [
        "--lost",
        "0.1",
        "--late5xx",
        "0.06",
        "--cut",
        "0.04",
        "--p500",
        "0.02",
    ];
    let proxy = server
        .faulty(&[&faults[..], &["--methods", "POST"]].concat())
        .await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 120).await;
    proxy.register(api, "box", json!({})).await;
    started(api, ONE_WAVE).await;
    let done = until_status(api, "move", "completed", 90).await;
    assert_eq!(done["totals"]["done"], 120, "{done:#}");
    assert_eq!(check_nobody_twice(&server.accounts().await), 120);
    let faults = proxy.figures("/_faults").await;
    let unanswered = faults["committed_but_unanswered"].as_u64().unwrap();
    assert!(
        unanswered > 10,
        "there was something to be lost: {faults:#}"
    );
    let adopted = done["totals"]["adopted"].as_u64().unwrap();
    assert!(adopted > 10, "they were looked up and found: {done:#}");
    service.end_and_fsck();
}

async fn whoever_was_renamed_there_while_in_doubt_keeps_one_account(server: Target) {
    let proxy = server.faulty(&["--lost", "1", "--methods", "POST"]).await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 4).await;
    proxy.register(api, "box", json!({})).await;
    started(api, ONE_WAVE).await;
    until("everybody is in doubt", 10, async || {
        total(api, "unknown").await == 4
    })
    .await;
    for account in server.accounts().await {
        let url = format!("{}/Users/{}", server.url, account["id"].as_str().unwrap());
        let change = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": [
            {"op": "replace", "path": "userName", "value": format!("new-{}", account["externalId"].as_str().unwrap())}]});
        let request = reqwest::Client::new().patch(url);
        let request = request.header("content-type", "application/scim+json");
        assert!(send(request.body(change.to_string())).await.status < 300);
    }
    proxy.change_faults(json!({"lost": 0})).await;
    let done = until_status(api, "move", "completed", 30).await;
    assert_eq!(done["totals"]["adopted"], 4, "{done:#}");
    let accounts = server.accounts().await;
    assert_eq!(check_nobody_twice(&accounts), 4);
    let is_ours = |account: &Value| account["userName"].as_str().unwrap().starts_with("user");
    assert!(accounts.iter().all(is_ours), "renamed back: {accounts:#?}");
    service.end_and_fsck();
}

async fn an_import_that_renames_whoever_is_in_doubt_creates_nobody_twice(server: Target) {
    let proxy = server.faulty(&["--lost", "1", "--methods", "POST"]).await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 4).await;
    proxy.register(api, "box", json!({})).await;
    started(api, ONE_WAVE).await;
    until("everybody is in doubt", 10, async || {
        total(api, "unknown").await == 4
    })
    .await;
    import_csv(api, csv(0..4).replace("user2@", "married2@")).await;
    proxy.change_faults(json!({"lost": 0})).await;
    let done = until_status(api, "move", "completed", 30).await;
    assert_eq!(done["totals"]["adopted"], 4, "{done:#}");
    let accounts = server.accounts().await;
    assert_eq!(check_nobody_twice(&accounts), 4);
    // The rollout is bound to the version it was planned with.
    let is_old = |account: &Value| account["userName"] == "user2@example.test";
    assert!(accounts.iter().any(is_old), "{accounts:#?}");
    service.end_and_fsck();
}

/// Starts a server that creates and loses every answer, and answers look-ups as told.
async fn blind(list: impl Fn(&Book) -> Reply + Send + Sync + 'static) -> (Own, Book) {
    let book = Book::default();
    let own = Own::start({
        let book = book.clone();
        move |asked| match (asked.method.as_str(), &asked.filter) {
            ("POST", _) => {
                book.answer(asked);
                Reply::Json(502, json!({"status": 502}))
            }
            ("GET", Some(_)) => list(&book),
            _ => book.answer(asked),
        }
    })
    .await;
    (own, book)
}

async fn check_stays_in_doubt(own: &Own, book: &Book, code: &str) {
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 3).await;
    target_at(api, &own.url, json!({})).await;
    started(api, ONE_WAVE).await;
    until(&format!("everybody is told `{code}`"), 20, async || {
        let people = people_in(api, "unknown").await;
        people.len() == 3 && people.iter().all(|person| person["code"] == code)
    })
    .await;
    assert_eq!(book.accounts().len(), 3);
    assert_eq!(own.count("POST"), 3, "nobody is sent a second time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_filters_is_not_believed_that_nobody_is_there() {
    let (own, book) = blind(|_| {
        let stranger = json!({"id": "1", "userName": "stranger", "externalId": "x"});
        Reply::Json(200, json!({"totalResults": 900, "Resources": [stranger]}))
    })
    .await;
    check_stays_in_doubt(&own, &book, "filter_ignored").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_filters_find_nobody_is_not_believed_that_nobody_is_there() {
    let (own, book) =
        blind(|_| Reply::Json(200, json!({"totalResults": 0, "Resources": []}))).await;
    check_stays_in_doubt(&own, &book, "look_up_blind").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_filters_leaves_whoever_is_in_doubt_in_doubt() {
    let (own, book) = blind(|_| {
        let error =
            json!({"status": "400", "scimType": "invalidFilter", "detail": "no filters here"});
        Reply::Json(400, error)
    })
    .await;
    check_stays_in_doubt(&own, &book, "refused").await;
}
