//! Advisories that must be signed: what a pinned key has signed is believed, and a source with anything else is blind.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::polled::{asking_with, signals, source, state};
use crate::support::database::Database;
use crate::support::feed::{Feed, Reply};
use crate::support::on_each_database;
use crate::support::until;

on_each_database!(
    advisories_count_when_a_pinned_key_signed_them_and_else_the_source_is_not_heard,
    without_gpgv_signed_sources_are_not_created_and_not_heard,
);

fn fixtures() -> PathBuf {
    crate::support::repository().join("tests/fixtures/openpgp")
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(name)).unwrap()
}

/// A directory with one advisory; what lies beside it can be changed.
fn provider(beside: &Arc<Mutex<Option<Vec<u8>>>>) -> Feed {
    let beside = beside.clone();
    Feed::start(move |asked| {
        let whole = |bytes: Vec<u8>| Reply::Whole(200, Vec::new(), bytes);
        match asked.path.as_str() {
            "/csaf/changes.csv" => whole(b"2024/a.json,2024-01-25T10:00:00Z\n".to_vec()),
            "/csaf/2024/a.json" => whole(fixture("advisory.json")),
            "/csaf/2024/a.json.asc" => match beside.lock().unwrap().clone() {
                Some(bytes) => whole(bytes),
                None => Reply::status(404),
            },
            _ => Reply::status(404),
        }
    })
}

fn signed(url: String) -> Value {
    json!({"url": url, "since": "2024-01-01T00:00:00Z", "openpgp_keys": "acme.keys.asc"})
}

async fn advisories_count_when_a_pinned_key_signed_them_and_else_the_source_is_not_heard(
    database: Database,
) {
    let beside = Arc::new(Mutex::new(None));
    let feed = provider(&beside);
    let credentials = fixtures().display().to_string();
    let service = asking_with(&database, &feed, &[("TIDEGATE_CREDENTIALS", &credentials)]);
    let api = &service.api;
    source(api, "acme", "csaf", signed(feed.url("/csaf/"))).await;
    until("the first question has ended", 30, async || {
        state(api, "acme").await["trouble"].is_string()
    })
    .await;
    let path = "/v1/sources/acme/poll";
    api.post(path, json!({}))
        .await
        .refused(409, "signature_missing");
    // More often than anything else is tried: a forgery is not waited out.
    for _ in 0..3 {
        for (file, code) in [
            ("other.sig.asc", "signature_of_unknown_key"),
            ("message.pgp", "signature_invalid"),
            ("sha1.sig.asc", "signature_weak"),
        ] {
            *beside.lock().unwrap() = Some(fixture(file));
            api.post(path, json!({})).await.refused(409, code);
        }
    }
    assert!(signals(api).await.is_empty(), "nothing of it was read");
    let now = state(api, "acme").await;
    assert!(
        now["trouble"].as_str().unwrap().contains("digest"),
        "{now:#}"
    );
    assert_eq!(now["refused"]["count"], 11, "{now:#}");
    assert_eq!(now["heard_at"], now["created_at"], "it was never heard");
    *beside.lock().unwrap() = Some(fixture("acme.sig.asc"));
    let answer = api.post(path, json!({})).await.ok();
    assert_eq!(
        (&answer["admitted"], &answer["refused"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(signals(api).await[0]["signal"]["trust"], "signed");
    let now = state(api, "acme").await;
    assert!(
        now["trouble"].is_null() && now["heard_at"] != now["created_at"],
        "{now:#}"
    );
    service.end_and_fsck();
}

async fn without_gpgv_signed_sources_are_not_created_and_not_heard(database: Database) {
    let beside = Arc::new(Mutex::new(Some(fixture("acme.sig.asc"))));
    let feed = provider(&beside);
    let credentials = fixtures().display().to_string();
    let folder = std::env::temp_dir().join(format!(
        "tidegate-no-gpgv-{}",
        feed.host().replace(':', "-")
    ));
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join("gpgv");
    let shown = program.display().to_string();
    let variables = [
        ("TIDEGATE_CREDENTIALS", credentials.as_str()),
        ("TIDEGATE_GPGV", shown.as_str()),
    ];
    let service = asking_with(&database, &feed, &variables);
    let api = &service.api;
    let body = |name: &str| {
        let mut feed = signed(feed.url("/csaf/"));
        feed["every_seconds"] = json!(86_400);
        json!({"name": name, "profile": "csaf", "config": {"feed": feed}})
    };
    let refused = api.post("/v1/sources", body("acme")).await;
    assert!(
        refused.text.contains("install the package gpgv"),
        "{}",
        refused.text
    );
    refused.refused(422, "config_invalid");
    std::os::unix::fs::symlink("/bin/true", &program).unwrap();
    api.post("/v1/sources", body("acme")).await.ok();
    std::fs::remove_file(&program).unwrap();
    let answer = api.post("/v1/sources/acme/poll", json!({})).await;
    answer.refused(409, "gpgv_missing");
    assert!(signals(api).await.is_empty());
    std::fs::remove_dir_all(&folder).unwrap();
    service.end_and_fsck();
}
