//! `target check`: a canary says what a server can do, and each finding is a sentence.

use serde_json::{Value, json};

use super::own::{Asked, Book, Own, Reply};
use super::{account, on_each_server, target_at};
use crate::support::database::Database;
use crate::support::service::Service;
use crate::support::targets::Target;

on_each_server!(
    a_canary_is_created_found_changed_and_gone,
    a_filled_server_that_takes_an_external_id_twice_is_told_of,
);

/// Returns the findings of a name.
fn findings(report: &Value, name: &str) -> Vec<Value> {
    let items = report["items"].as_array().unwrap();
    for item in items {
        let sentence = item["sentence"].as_str().unwrap();
        assert!(sentence.len() > 15, "a finding is a sentence: {item}");
    }
    let named = items.iter().filter(|item| item["name"] == name);
    named.cloned().collect()
}

async fn a_canary_is_created_found_changed_and_gone(server: Target) {
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    server.register(api, "box", json!({})).await;
    let report = api.post("/v1/targets/box/check", json!({})).await.ok();
    assert_eq!(report["ok"], true, "{report:#}");
    for (name, times) in [("service", 1), ("create", 1), ("look up", 2), ("patch", 1)] {
        let found = findings(&report, name);
        assert_eq!(found.len(), times, "{report:#}");
        assert!(found.iter().all(|item| item["ok"] == true), "{report:#}");
    }
    assert_eq!(server.accounts().await.len(), 0, "nothing stays behind");
    let target = api.get("/v1/targets/box").await.ok();
    let capability = &target["capability"];
    for name in ["found_by_external_id", "found_by_user_name", "patch_works"] {
        assert_eq!(capability[name], true, "{capability:#}");
    }
    // Both servers take it twice; none says so in what it announces.
    assert_eq!(capability["external_id_unique"], false);
    let shown = service.cli(&["target", "check", "box"]);
    assert!(shown.status.success());
    assert!(String::from_utf8_lossy(&shown.stdout).contains("accounts are found by externalId"));
}

async fn a_filled_server_that_takes_an_external_id_twice_is_told_of(server: Target) {
    server.create(account(1)).await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    server.register(api, "box", json!({})).await;
    let report = api.post("/v1/targets/box/check", json!({})).await.ok();
    assert_eq!(report["ok"], true, "people can be moved: {report:#}");
    let told = findings(&report, "external id");
    assert_eq!(told.len(), 1, "{report:#}");
    assert!(told[0]["sentence"].as_str().unwrap().contains("look_first"));
    assert_eq!(server.accounts().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_a_second_external_id_is_known_as_such() {
    let Some(server) = Target::scimmy(&[("UNIQUE_EXTERNAL_ID", "1"), ("SEED", "3")]).await else {
        return;
    };
    let service = Service::start(&Database::sqlite());
    server.register(&service.api, "box", json!({})).await;
    let report = service.api.post("/v1/targets/box/check", json!({})).await;
    let report = report.ok();
    assert_eq!(
        report["capability"]["external_id_unique"], true,
        "{report:#}"
    );
    assert!(findings(&report, "external id").is_empty(), "{report:#}");
    assert_eq!(server.accounts().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_pages_wrongly_is_still_told_the_truth_about() {
    // Every page is page one, and of any size.
    let Some(server) = Target::scimmy(&[("EXPRESS5_BUG", "1"), ("SEED", "150")]).await else {
        return;
    };
    let service = Service::start(&Database::sqlite());
    server.register(&service.api, "box", json!({})).await;
    let report = service.api.post("/v1/targets/box/check", json!({})).await;
    let report = report.ok();
    assert_eq!(report["ok"], true, "{report:#}");
    assert!(
        findings(&report, "look up")
            .iter()
            .all(|item| item["ok"] == true)
    );
    assert_eq!(server.figures("/_stats").await["users"], 150);
}

/// Checks a server and returns the one finding that is not well.
async fn trouble(url: &str, more: Value) -> (String, String) {
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    target_at(api, url, more).await;
    let report = api.post("/v1/targets/box/check", json!({})).await.ok();
    assert_eq!(report["ok"], false, "{report:#}");
    let shown = service.cli(&["target", "check", "box"]);
    assert_eq!(shown.status.code(), Some(1), "the command line says so too");
    let items = report["items"].as_array().unwrap();
    let bad = items.iter().find(|item| item["ok"] == false).unwrap();
    let text = |name: &str| bad[name].as_str().unwrap().to_owned();
    (text("name"), text("sentence"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_explained() {
    let Some(server) = Target::scim2(&["--token", "right"]).await else {
        return;
    };
    let database = Database::sqlite();
    std::fs::write(database.file("token"), "wrong").unwrap();
    let path = database.granted("token");
    let (_, sentence) = trouble(&server.url, json!({"credential": {"file": path}})).await;
    assert!(sentence.contains("look at the credential"), "{sentence}");
    let (name, sentence) = trouble(
        &server.url,
        json!({"credential": {"env": "TIDEGATE_CREDENTIAL_NOT_SET"}}),
    )
    .await;
    assert_eq!(name, "credential");
    assert!(
        sentence.contains("TIDEGATE_CREDENTIAL_NOT_SET"),
        "{sentence}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_and_a_server_that_is_down_are_explained() {
    let Some(server) = Target::scimmy(&[]).await else {
        return;
    };
    let wrong = server.url.replace("/scim/v2", "/elsewhere");
    let (name, sentence) = trouble(&wrong, json!({})).await;
    assert_eq!(name, "service");
    assert!(sentence.contains("look at base_url"), "{sentence}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}/v2", listener.local_addr().unwrap());
    drop(listener);
    let (_, sentence) = trouble(&nobody, json!({})).await;
    assert!(sentence.contains("nobody reaches the server"), "{sentence}");
    let page = Own::start(|_| {
        Reply::Raw(
            200,
            ("content-type", "text/html".to_owned()),
            "<html>".to_owned(),
        )
    })
    .await;
    let (_, sentence) = trouble(&page.url, json!({})).await;
    assert!(sentence.contains("no usable answer"), "{sentence}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_is_explained_in_time() {
    let own = Own::start(|_| Reply::Hang).await;
    let begun = std::time::Instant::now();
    let (_, sentence) = trouble(&own.url, json!({"timeout_seconds": 1})).await;
    assert!(sentence.contains("no usable answer"), "{sentence}");
    assert!(begun.elapsed().as_secs() < 8);
}

/// Starts an honest server but for what a script says otherwise.
async fn but(script: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> (Own, Book) {
    let book = Book::default();
    let own = Own::start({
        let book = book.clone();
        move |asked| script(asked).unwrap_or_else(|| book.answer(asked))
    })
    .await;
    (own, book)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_filters_is_refused_and_cleaned_up() {
    let (own, book) = but(|asked| {
        let error =
            json!({"status": "400", "scimType": "invalidFilter", "detail": "no filters here"});
        asked.filter.as_ref().map(|_| Reply::Json(400, error))
    })
    .await;
    let (name, sentence) = trouble(&own.url, json!({})).await;
    assert_eq!(name, "look up");
    assert!(sentence.contains("no filters here"), "{sentence}");
    assert_eq!(book.accounts().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_filters_is_refused_and_cleaned_up() {
    let (own, book) = but(|_| None).await;
    // Alone, the canary is found whatever is asked for.
    let ignoring = Own::start({
        let book = book.clone();
        move |asked| {
            let mut asked = asked.clone();
            asked.filter = None;
            book.answer(&asked)
        }
    })
    .await;
    drop(own);
    let (name, sentence) = trouble(&ignoring.url, json!({})).await;
    assert_eq!(name, "look up");
    assert!(sentence.contains("do not have it"), "{sentence}");
    assert_eq!(book.accounts().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_that_changes_nothing_is_seen_through() {
    let (own, book) = but(|asked| {
        let fine = Reply::Raw(204, ("x-done", "no".to_owned()), String::new());
        (asked.method == "PATCH").then_some(fine)
    })
    .await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    target_at(api, &own.url, json!({})).await;
    let report = api.post("/v1/targets/box/check", json!({})).await.ok();
    assert_eq!(report["ok"], true, "people can be moved there: {report:#}");
    let patch = findings(&report, "patch");
    assert_eq!(patch[0]["ok"], false);
    assert!(
        patch[0]["sentence"]
            .as_str()
            .unwrap()
            .contains("changes nothing")
    );
    assert_eq!(report["capability"]["patch_works"], false);
    assert_eq!(book.accounts().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_cannot_be_deleted_is_named() {
    let (own, book) = but(|asked| {
        let no = json!({"status": "403", "detail": "never"});
        (asked.method == "DELETE").then_some(Reply::Json(403, no))
    })
    .await;
    let (name, sentence) = trouble(&own.url, json!({})).await;
    assert_eq!(name, "delete");
    let left = &book.accounts()[0];
    assert!(
        sentence.contains(left["userName"].as_str().unwrap()),
        "{sentence}"
    );
}
