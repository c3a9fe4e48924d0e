//! Taking people back on servers that other people wrote, and on one of our own that takes no PATCH or lies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::own::{Book, Own, Reply};
use super::{ONE_WAVE, on_each_server, target_at, total};
use crate::support::api::{Api, send};
use crate::support::database::Database;
use crate::support::people::{import, started, until_status};
use crate::support::release::people;
use crate::support::revert::{WHY, taken_back};
use crate::support::service::Service;
use crate::support::targets::Target;
use crate::support::until;

on_each_server!(
    people_are_taken_back_by_setting_their_accounts_out_of_use,
    whoever_gets_no_answer_on_the_way_back_is_looked_up_and_ends_out_of_use,
);

/// Asks for everybody of `move`, has two say yes, and starts.
async fn take_back(api: &Api) -> String {
    let wish = json!({"waves": "all", "reason": WHY, "gate": {"failures_at_most": "100%"}});
    taken_back(&people(api).await, wish).await
}

async fn settled(api: &Api, rollout: &str, people: u64) -> Value {
    let path = format!("/v1/rollouts/{rollout}");
    until("everybody is settled", 60, async || {
        let view = api.get(&path).await.ok();
        let states = ["done", "failed", "review"].into_iter();
        let sum: u64 = states
            .map(|state| view["totals"][state].as_u64().unwrap())
            .sum();
        sum == people
    })
    .await;
    api.get(&path).await.ok()
}

/// Changes or deletes an account by hand, as another program would.
async fn by_hand(server: &Target, method: reqwest::Method, id: &Value, body: Option<Value>) {
    let url = format!("{}/Users/{}", server.url, id.as_str().unwrap());
    let mut request = reqwest::Client::new().request(method, url);
    if let Some(body) = body {
        let request_body = body.to_string();
        request = request
            .header("content-type", "application/scim+json")
            .body(request_body);
    }
    let answer = send(request).await;
    assert!(answer.status < 300, "{} {}", answer.status, answer.text);
}

fn replace(path: &str, value: &Value) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{"op": "replace", "path": path, "value": value}],
    })
}

async fn people_are_taken_back_by_setting_their_accounts_out_of_use(server: Target) {
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 40).await;
    server.register(api, "box", json!({})).await;
    started(api, ONE_WAVE).await;
    until_status(api, "move", "completed", 60).await;
    let accounts = server.accounts().await;
    let id = |key: &str| {
        let found = accounts.iter().find(|one| one["externalId"] == key);
        found.unwrap()["id"].clone()
    };
    // One is gone, one belongs to somebody else by now, one is out of use already.
    by_hand(&server, reqwest::Method::DELETE, &id("e0000003"), None).await;
    let other = replace("externalId", &json!("somebody-else"));
    by_hand(
        &server,
        reqwest::Method::PATCH,
        &id("e0000004"),
        Some(other),
    )
    .await;
    let off = replace("active", &json!(false));
    by_hand(&server, reqwest::Method::PATCH, &id("e0000005"), Some(off)).await;
    let name = take_back(api).await;
    let back = settled(api, &name, 40).await;
    assert_eq!(back["totals"]["done"], 39, "{back:#}");
    assert_eq!(back["totals"]["review"], 1, "{back:#}");
    assert_eq!(total(api, "reverted").await, 39);
    assert_eq!(total(api, "done").await, 1);
    let now = server.accounts().await;
    assert_eq!(now.len(), 39, "nobody was deleted, and nobody was made");
    for account in &now {
        let is_other = account["externalId"] == "somebody-else";
        assert_eq!(account["active"], json!(is_other), "{account:#}");
        assert!(
            account["userName"].is_string(),
            "everything else is as it was"
        );
    }
    let path = format!("/v1/rollouts/{name}/members?state=review");
    let review = api.get(&path).await.ok();
    assert_eq!(review["items"][0]["key"], "e0000004");
    assert_eq!(review["items"][0]["code"], "account_of_another");
    service.end_and_fsck();
}

async fn whoever_gets_no_answer_on_the_way_back_is_looked_up_and_ends_out_of_use(server: Target) {
    let proxy = server
        .faulty(&["--methods", "PATCH", "--lost", "0.2", "--late5xx", "0.2"])
        .await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 60).await;
    proxy
        .register(api, "box", json!({"timeout_seconds": 5}))
        .await;
    started(api, ONE_WAVE).await;
    until_status(api, "move", "completed", 60).await;
    let name = take_back(api).await;
    let back = settled(api, &name, 60).await;
    assert_eq!(back["totals"]["done"], 60, "{back:#}");
    assert_eq!(total(api, "reverted").await, 60);
    let now = server.accounts().await;
    assert!(now.len() == 60 && now.iter().all(|account| account["active"] == false));
    let figures = proxy.figures("/_faults").await;
    assert!(
        figures["committed_but_unanswered"].as_u64().unwrap() > 0,
        "{figures:#}"
    );
    service.end_and_fsck();
}

async fn moved_on(own: &Own) -> Service {
    moved_to(own, &Database::sqlite()).await
}

async fn moved_to(own: &Own, database: &Database) -> Service {
    let service = Service::start(database);
    let api = &service.api;
    import(api, 12).await;
    target_at(api, &own.url, json!({})).await;
    started(api, ONE_WAVE).await;
    until_status(api, "move", "completed", 30).await;
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_patch_gets_the_whole_account_out_of_use() {
    let book = Book::default();
    let (answers, replaced) = (book.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = replaced.clone();
    let own = Own::start(move |asked| match asked.method.as_str() {
        "PATCH" => Reply::Json(501, json!({"status": "501", "detail": "no PATCH here"})),
        "PUT" => {
            counted.fetch_add(1, Ordering::SeqCst);
            answers.replace(asked)
        }
        _ => answers.answer(asked),
    })
    .await;
    let service = moved_on(&own).await;
    let name = take_back(&service.api).await;
    let back = settled(&service.api, &name, 12).await;
    assert_eq!(back["totals"]["done"], 12, "{back:#}");
    assert_eq!(replaced.load(Ordering::SeqCst), 12);
    for account in book.accounts() {
        assert_eq!(account["active"], false);
        assert!(account["emails"][0]["value"].is_string(), "{account:#}");
    }
    assert_eq!(own.count("DELETE"), 0);
    service.end_and_fsck();
}

/// Moves twelve one by one, has accounts changed by hand, and takes everybody back.
async fn taken_back_after(by_hand: impl FnOnce(&Book)) -> Value {
    let book = Book::default();
    let answers = book.clone();
    let own = Own::start(move |asked| answers.answer(asked)).await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 12).await;
    target_at(api, &own.url, json!({"concurrency": 1})).await;
    started(api, ONE_WAVE).await;
    until_status(api, "move", "completed", 30).await;
    by_hand(&book);
    let name = take_back(api).await;
    let back = settled(api, &name, 12).await;
    service.end_and_fsck();
    back
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_moved_first_and_is_deleted_keeps_nobody_else_in_doubt() {
    let back = taken_back_after(|book| book.delete("id-0")).await;
    assert_eq!(back["totals"]["done"], 12, "{back:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_moved_first_and_is_somebody_elses_keeps_nobody_else_in_doubt() {
    let back = taken_back_after(|book| {
        book.set("id-0", "externalId", "somebody-else".into());
        book.delete("id-1");
    })
    .await;
    assert_eq!(back["totals"]["done"], 11, "{back:#}");
    assert_eq!(back["totals"]["review"], 1, "{back:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_suddenly_shows_nobody_takes_nobody_back() {
    let book = Book::default();
    let (answers, is_empty) = (book.clone(), Arc::new(AtomicBool::new(false)));
    let hides = is_empty.clone();
    let own = Own::start(move |asked| match hides.load(Ordering::SeqCst) {
        true => Book::default().answer(asked),
        false => answers.answer(asked),
    })
    .await;
    let database = Database::sqlite();
    let mut service = moved_to(&own, &database).await;
    is_empty.store(true, Ordering::SeqCst);
    let name = take_back(&service.api).await;
    let path = format!("/v1/rollouts/{name}");
    for is_another_process in [false, true] {
        if is_another_process {
            service.kill();
            service = Service::start_again(&database, &service.api.token.clone());
        }
        let api = &service.api;
        until("everybody is in doubt", 30, async || {
            api.get(&path).await.ok()["totals"]["unknown"] == 12
        })
        .await;
        assert_eq!(total(api, "reverted").await, 0);
        let members = api.get(&format!("{path}/members?state=unknown")).await.ok();
        assert_eq!(members["items"][0]["code"], "look_up_blind", "{members:#}");
    }
    assert!(
        book.accounts()
            .iter()
            .all(|account| account["active"] == true)
    );
    service.end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_yes_and_does_nothing_takes_nobody_back() {
    let book = Book::default();
    let answers = book.clone();
    let own = Own::start(move |asked| match asked.method.as_str() {
        "PATCH" => Reply::Raw(204, ("x-lie", "yes".to_owned()), String::new()),
        _ => answers.answer(asked),
    })
    .await;
    let service = moved_on(&own).await;
    let api = &service.api;
    let name = take_back(api).await;
    let path = format!("/v1/rollouts/{name}");
    until("everybody was tried", 30, async || {
        api.get(&path).await.ok()["totals"]["retry"] == 12
    })
    .await;
    assert_eq!(total(api, "done").await, 12, "they are still moved");
    assert_eq!(total(api, "reverted").await, 0);
    let members = api.get(&format!("{path}/members?state=retry")).await.ok();
    assert_eq!(members["items"][0]["code"], "no_effect");
    service.end_and_fsck();
}
