//! Accounts that are there already: ours are adopted, anybody else's stay as they are.

use serde_json::{Value, json};

use super::own::{Book, Own, Reply};
use super::{ONE_WAVE, account, ledger, on_each_server, people_in, target_at, total};
use crate::support::api::{Api, send};
use crate::support::database::Database;
use crate::support::people::{import, started, until_status};
use crate::support::service::Service;
use crate::support::targets::{Target, check_nobody_twice};
use crate::support::until;

on_each_server!(
    accounts_that_are_ours_are_adopted_and_nothing_is_changed,
    an_adopted_account_gets_what_differs_in_one_patch_and_nothing_else,
    accounts_of_others_stay_as_they_are_and_go_to_review,
    an_account_without_an_owner_becomes_ours_only_by_policy,
    whoever_is_there_under_another_name_is_found_when_looked_for_first,
);

/// An account as the server shows it, to the byte.
async fn shown(server: &Target, id: &Value) -> String {
    let url = format!("{}/Users/{}", server.url, id.as_str().unwrap());
    send(reqwest::Client::new().get(url)).await.text
}

/// Waits until nobody of `move` is under way or will be tried again.
async fn settled(api: &Api, people: u64) {
    until("everybody is settled", 30, async || {
        let mut sum = 0;
        for state in ["done", "failed", "review"] {
            sum += total(api, state).await;
        }
        sum == people
    })
    .await;
}

async fn accounts_that_are_ours_are_adopted_and_nothing_is_changed(server: Target) {
    let database = Database::sqlite();
    let book = database.file("ledger.ndjson");
    let proxy = server.faulty(&["--ledger", book.to_str().unwrap()]).await;
    for person in (0..60).step_by(3) {
        server.create(account(person)).await;
    }
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 60).await;
    proxy.register(api, "box", json!({})).await;
    started(api, ONE_WAVE).await;
    let done = until_status(api, "move", "completed", 30).await;
    assert_eq!(done["totals"]["done"], 60, "{done:#}");
    assert_eq!(done["totals"]["adopted"], 20, "{done:#}");
    assert_eq!(check_nobody_twice(&server.accounts().await), 60);
    proxy.figures("/_faults").await;
    let methods: Vec<Value> = ledger(&book).iter().map(|line| line["m"].clone()).collect();
    let count = |method: &str| methods.iter().filter(|found| *found == method).count();
    // One request per person, and one look for each name that was taken.
    assert_eq!((count("POST"), count("GET"), count("PATCH")), (60, 20, 0));
    service.end_and_fsck();
}

async fn an_adopted_account_gets_what_differs_in_one_patch_and_nothing_else(server: Target) {
    let database = Database::sqlite();
    let book = database.file("ledger.ndjson");
    let proxy = server.faulty(&["--ledger", book.to_str().unwrap()]).await;
    let mut old = account(7);
    old["active"] = false.into();
    old["name"]["familyName"] = "Maiden".into();
    old["title"] = "Dr".into();
    old["emails"][0]["value"] = "chosen@example.test".into();
    let id = server.create(old).await["id"].clone();
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 10).await;
    proxy.register(api, "box", json!({})).await;
    started(api, ONE_WAVE).await;
    until_status(api, "move", "completed", 30).await;
    let now: Value = serde_json::from_str(&shown(&server, &id).await).unwrap();
    assert_eq!(now["active"], true);
    assert_eq!(now["name"]["familyName"], "Family7");
    assert_eq!(now["title"], "Dr", "what the directory does not say stays");
    assert_eq!(now["emails"][0]["value"], "chosen@example.test");
    proxy.figures("/_faults").await;
    let lines = ledger(&book);
    assert_eq!(lines.iter().filter(|line| line["m"] == "PATCH").count(), 1);
    service.end_and_fsck();
}

async fn accounts_of_others_stay_as_they_are_and_go_to_review(server: Target) {
    let mut recycled = account(3);
    recycled["externalId"] = "somebody-else".into();
    let mut unowned = account(4);
    unowned.as_object_mut().unwrap().remove("externalId");
    unowned["active"] = false.into();
    let (recycled, unowned) = (server.create(recycled).await, server.create(unowned).await);
    let before = [
        shown(&server, &recycled["id"]).await,
        shown(&server, &unowned["id"]).await,
    ];
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 20).await;
    server.register(api, "box", json!({})).await;
    started(api, ONE_WAVE).await;
    settled(api, 20).await;
    let review = people_in(api, "review").await;
    let told = |key: &str| {
        let person = review.iter().find(|person| person["key"] == key).unwrap();
        (
            person["code"].clone(),
            person["message"].as_str().unwrap().to_owned(),
        )
    };
    let (code, message) = told("e0000003");
    assert_eq!(code, "account_of_another");
    for part in [
        "somebody-else",
        "e0000003",
        recycled["id"].as_str().unwrap(),
    ] {
        assert!(message.contains(part), "{message}");
    }
    let (code, message) = told("e0000004");
    assert_eq!(code, "account_unowned");
    assert!(
        message.contains(unowned["id"].as_str().unwrap()),
        "{message}"
    );
    assert_eq!(review.len(), 2);
    let after = [
        shown(&server, &recycled["id"]).await,
        shown(&server, &unowned["id"]).await,
    ];
    assert_eq!(before, after, "not a byte of theirs is changed");
    assert_eq!(total(api, "done").await, 18);
    service.end_and_fsck();
}

async fn an_account_without_an_owner_becomes_ours_only_by_policy(server: Target) {
    let mut recycled = account(3);
    recycled["externalId"] = "somebody-else".into();
    let mut unowned = account(4);
    unowned.as_object_mut().unwrap().remove("externalId");
    unowned["active"] = false.into();
    let (recycled, unowned) = (server.create(recycled).await, server.create(unowned).await);
    let before = shown(&server, &recycled["id"]).await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 20).await;
    server
        .register(api, "box", json!({"on_existing_unowned": "link"}))
        .await;
    started(api, ONE_WAVE).await;
    settled(api, 20).await;
    let now: Value = serde_json::from_str(&shown(&server, &unowned["id"]).await).unwrap();
    assert_eq!(now["externalId"], "e0000004");
    assert_eq!(now["active"], true, "whoever was moved can sign in");
    assert_eq!(
        people_in(api, "review").await.len(),
        1,
        "an owner is never replaced"
    );
    assert_eq!(before, shown(&server, &recycled["id"]).await);
    assert_eq!(check_nobody_twice(&server.accounts().await), 20);
    service.end_and_fsck();
}

async fn whoever_is_there_under_another_name_is_found_when_looked_for_first(server: Target) {
    let mut renamed = account(5);
    renamed["userName"] = "maiden.name@example.test".into();
    let id = server.create(renamed).await["id"].clone();
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 10).await;
    server
        .register(api, "box", json!({"look_first": true}))
        .await;
    started(api, ONE_WAVE).await;
    let done = until_status(api, "move", "completed", 30).await;
    assert_eq!(done["totals"]["adopted"], 1, "{done:#}");
    assert_eq!(check_nobody_twice(&server.accounts().await), 10);
    let now: Value = serde_json::from_str(&shown(&server, &id).await).unwrap();
    assert_eq!(
        now["userName"], "user5@example.test",
        "one account, renamed"
    );
    let member = api.get("/v1/rollouts/move/members/e0000005").await.ok();
    assert_eq!(member["remote_id"], id, "{member:#}");
    service.end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_clashes_goes_to_review() {
    let Some(server) = Target::scimmy(&[]).await else {
        return;
    };
    let mut renamed = account(5);
    renamed["userName"] = "maiden.name@example.test".into();
    server.create(renamed).await;
    let mut recycled = account(5);
    recycled["externalId"] = "somebody-else".into();
    server.create(recycled).await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 10).await;
    server.register(api, "box", json!({})).await;
    started(api, ONE_WAVE).await;
    settled(api, 10).await;
    assert_eq!(people_in(api, "review").await[0]["code"], "uniqueness");
    assert_eq!(server.accounts().await.len(), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_the_server_calls_invalid_fail_one_by_one_and_say_why() {
    let book = Book::default();
    let own = Own::start({
        let book = book.clone();
        move |asked| {
            let name = asked.body["userName"].as_str().unwrap_or_default();
            if asked.method == "POST" && name.contains("00@") {
                let detail = json!({"status": "400", "scimType": "invalidValue", "detail": "no such domain"});
                return Reply::Json(400, detail);
            }
            book.answer(asked)
        }
    })
    .await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 1_001).await;
    target_at(api, &own.url, json!({})).await;
    started(api, ONE_WAVE).await;
    settled(api, 1_001).await;
    let failed = people_in(api, "failed").await;
    assert_eq!(failed.len(), 10);
    for person in &failed {
        assert_eq!(person["code"], "invalid_value");
        assert_eq!(person["attempts"], 1, "a final no is not asked for twice");
        assert!(
            person["message"]
                .as_str()
                .unwrap()
                .contains("no such domain")
        );
    }
    assert_eq!(check_nobody_twice(&book.accounts()), 991);
    service.end_and_fsck();
}
