//! Sources that are asked: everything they have comes once, and what they send ill changes nothing.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::database::Database;
use crate::support::feed::{Asked, Feed, Reply};
use crate::support::on_each_database;
use crate::support::service::Service;
use crate::support::until;

on_each_database!(
    a_catalogue_is_read_once_and_then_only_what_is_new,
    a_catalogue_that_miscounts_or_has_shrunk_is_refused_and_the_old_one_is_kept,
    whatever_a_feed_sends_the_service_stays_well_and_says_what_was_wrong,
    only_granted_hosts_are_asked_and_settings_say_what_to_do,
);

/// Starts a service that may ask this feed.
pub(crate) fn asking(database: &Database, feed: &Feed) -> Service {
    asking_with(database, feed, &[])
}

pub(crate) fn asking_with(database: &Database, feed: &Feed, more: &[(&str, &str)]) -> Service {
    asking_host(database, &feed.host(), more)
}

/// Starts a service that may ask this host, with these credentials.
pub(crate) fn asking_host(database: &Database, host: &str, more: &[(&str, &str)]) -> Service {
    let mut service = Service::start(database);
    let token = service.api.token.clone();
    service.stop();
    let mut variables = vec![("TIDEGATE_REACH", host)];
    variables.extend(more);
    Service::start_with(database, &token, &variables)
}

/// Creates a source that is asked so rarely that only the first question comes by itself.
pub(crate) async fn source(api: &Api, name: &str, profile: &str, feed: Value) {
    let mut whole = json!({"every_seconds": 86_400});
    whole
        .as_object_mut()
        .unwrap()
        .extend(feed.as_object().unwrap().clone());
    let body = json!({"name": name, "profile": profile, "config": {"feed": whole}});
    api.post("/v1/sources", body).await.ok();
}

pub(crate) async fn state(api: &Api, name: &str) -> Value {
    let sources = api.get("/v1/sources").await.ok();
    let mut found = sources
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["name"] == name);
    found.next().unwrap().clone()
}

pub(crate) async fn signals(api: &Api) -> Vec<Value> {
    let mut found = Vec::new();
    let mut path = "/v1/signals?limit=1000".to_owned();
    loop {
        let page = api.get(&path).await.ok();
        found.extend(page["items"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/signals?limit=1000&cursor={cursor}"),
            None => return found,
        }
    }
}

/// Waits until the first question, which comes by itself, has ended well.
pub(crate) async fn until_heard(api: &Api, count: usize) {
    until("what it has is admitted", 30, async || {
        signals(api).await.len() == count
    })
    .await;
}

async fn told(api: &Api, action: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut path = "/v1/audit?limit=1000".to_owned();
    loop {
        let page = api.get(&path).await.ok();
        let items = page["items"].as_array().unwrap().clone();
        found.extend(items.into_iter().filter(|one| one["action"] == action));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/audit?limit=1000&cursor={cursor}"),
            None => return found,
        }
    }
}

fn catalogue(version: &str, count: u32) -> Value {
    let entry = |id: u32| {
        json!({
            "cveID": format!("CVE-2024-{id:05}"), "vendorProject": "Acme", "product": "Box", "vulnerabilityName": "a hole",
            "dateAdded": "2024-01-02", "shortDescription": "x", "requiredAction": "patch", "dueDate": "2024-02-01",
        })
    };
    let entries: Vec<Value> = (0..count).map(entry).collect();
    json!({
        "title": "KEV", "catalogVersion": version, "dateReleased": "2024-01-02T00:00:00.0000Z",
        "count": count, "vulnerabilities": entries,
    })
}

async fn a_catalogue_is_read_once_and_then_only_what_is_new(database: Database) {
    let whole = catalogue("2024.01.02", 300);
    let feed = Feed::start(move |asked: &Asked| match asked.header("if-none-match") {
        Some("\"v1\"") => Reply::status(304),
        _ => Reply::Whole(
            200,
            vec![("etag", "\"v1\"".to_owned())],
            whole.to_string().into_bytes(),
        ),
    });
    let service = asking(&database, &feed);
    let api = &service.api;
    let url = feed.url("/kev.json");
    let create = [
        "source",
        "create",
        "kev",
        "--profile",
        "kev",
        "--feed",
        &url,
        "--every",
        "1d",
    ];
    let shown = service.cli(&create);
    let said = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(said.contains("is asked every 86400 s"), "{shown:?}");
    until_heard(api, 300).await;
    until("it is kept that it answered", 10, async || {
        api.post("/v1/sources/kev/poll", json!({})).await.ok()["admitted"] == 0
    })
    .await;
    let again = feed.asked().last().unwrap().clone();
    assert_eq!(again.header("if-none-match"), Some("\"v1\""));
    feed.always(Reply::json(&catalogue("2024.01.03", 302)));
    let shown = service.cli(&["source", "poll", "kev"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("2 new"), "{shown}");
    let all = signals(api).await;
    assert_eq!(all.len(), 302);
    assert!(
        all.iter()
            .all(|one| one["signal"]["trust"] == "unauthenticated")
    );
    let holds = api.get("/v1/holds").await.ok();
    assert_eq!(
        holds["items"],
        json!([]),
        "nothing that is not signed holds anything"
    );
    service.end_and_fsck();
}

async fn a_catalogue_that_miscounts_or_has_shrunk_is_refused_and_the_old_one_is_kept(
    database: Database,
) {
    let feed = Feed::start(|_| Reply::json(&catalogue("2024.01.02", 100)));
    let service = asking(&database, &feed);
    let api = &service.api;
    source(api, "kev", "kev", json!({"url": feed.url("/kev.json")})).await;
    until_heard(api, 100).await;
    until("it is kept that it answered", 10, async || {
        api.post("/v1/sources/kev/poll", json!({})).await.ok()["admitted"] == 0
    })
    .await;
    let mut miscounted = catalogue("2024.01.03", 101);
    miscounted["count"] = json!(100);
    let path = "/v1/sources/kev/poll";
    for (sent, code) in [
        (catalogue("2024.01.03", 50), "shrunk"),
        (miscounted, "count_differs"),
        (catalogue("2024.01.01", 101), "older"),
        (json!({"title": "maintenance"}), "field_invalid"),
    ] {
        feed.always(Reply::json(&sent));
        api.post(path, json!({})).await.refused(409, code);
        api.post(path, json!({})).await.refused(409, code);
    }
    assert_eq!(signals(api).await.len(), 100);
    let told = told(api, "source.refused").await;
    assert_eq!(told.len(), 4, "each alarm once: {told:#?}");
    let now = state(api, "kev").await;
    assert_eq!(now["refused"]["count"], 8);
    assert!(now["trouble"].is_string(), "{now:#}");
    let figures = api.get("/metrics").await.text;
    assert!(
        figures.contains("tidegate_source_answers_refused_total{source=\"kev\"} 8"),
        "{figures}"
    );
    feed.always(Reply::json(&catalogue("2024.01.04", 101)));
    assert_eq!(api.post(path, json!({})).await.ok()["admitted"], 1);
    assert_eq!(state(api, "kev").await["trouble"], Value::Null);
    service.end_and_fsck();
}

fn bomb() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![b'0'; 1 << 20];
    for _ in 0..64 {
        encoder.write_all(&zeros).unwrap();
    }
    encoder.finish().unwrap()
}

async fn whatever_a_feed_sends_the_service_stays_well_and_says_what_was_wrong(database: Database) {
    let feed = Feed::start(|_| Reply::json(&catalogue("2024.01.02", 20)));
    let service = asking(&database, &feed);
    let api = &service.api;
    source(api, "kev", "kev", json!({"url": feed.url("/kev.json")})).await;
    until_heard(api, 20).await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)).into_bytes();
    let gzip = vec![("content-encoding", "gzip".to_owned())];
    let elsewhere = vec![(
        "location",
        "http://169.254.169.254/latest/meta-data/".to_owned(),
    )];
    let dense = format!("[{}0]", "0,".repeat((2 << 20) - 2)).into_bytes();
    for (reply, wanted) in [
        (Reply::Endless, "larger than"),
        (Reply::Whole(200, gzip, bomb()), "larger than"),
        (Reply::Whole(200, Vec::new(), deep), "nests deeper"),
        (Reply::Whole(200, Vec::new(), dense), "must be"),
        (Reply::Drip, "too slowly"),
        (
            Reply::Whole(302, elsewhere, Vec::new()),
            "http://169.254.169.254/latest/meta-data/",
        ),
        (Reply::status(500), "500"),
    ] {
        feed.always(reply);
        let answer = api.post("/v1/sources/kev/poll", json!({})).await;
        assert_eq!(answer.status, 409, "{}", answer.text);
        assert!(answer.text.contains(wanted), "{wanted}: {}", answer.text);
        let trouble = state(api, "kev").await["trouble"].to_string();
        assert!(trouble.contains(wanted), "{wanted}: {trouble}");
        assert_eq!(api.get("/readyz").await.status, 200);
    }
    let (_, most) = service.resident();
    assert!(most < 400 << 20, "{} MiB", most >> 20);
    assert_eq!(signals(api).await.len(), 20);
    let told = told(api, "source.refused").await;
    assert_eq!(
        told.len(),
        5,
        "each alarm once, and none for an outage: {told:#?}"
    );
    feed.always(Reply::json(&catalogue("2024.01.03", 21)));
    let answer = api.post("/v1/sources/kev/poll", json!({})).await.ok();
    assert_eq!(answer["admitted"], 1);
    service.end_and_fsck();
}

async fn only_granted_hosts_are_asked_and_settings_say_what_to_do(database: Database) {
    let feed = Feed::start(|_| Reply::json(&catalogue("2024.01.02", 1)));
    let service = asking(&database, &feed);
    let api = &service.api;
    let port = feed.host().rsplit_once(':').unwrap().1.to_owned();
    for (profile, with, wanted) in [
        (
            "kev",
            json!({"url": "https://169.254.169.254/"}),
            "never asked",
        ),
        (
            "kev",
            json!({"url": format!("http://localhost:{port}/")}),
            "--reach",
        ),
        ("kev", json!({"url": "file:///etc/passwd"}), "must be like"),
        (
            "kev",
            json!({"url": feed.url("/"), "every_seconds": 1}),
            "every_seconds",
        ),
        (
            "kev",
            json!({"url": feed.url("/"), "trusted": true}),
            "trusted",
        ),
        ("taxii", json!({"url": feed.url("/")}), "collection"),
        (
            "taxii",
            json!({"url": feed.url("/"), "collection": "../x"}),
            "collection",
        ),
        ("graph_alerts", json!({"url": feed.url("/")}), "client"),
        (
            "kev",
            json!({"url": feed.url("/"), "user": "me"}),
            "password",
        ),
        (
            "kev",
            json!({"url": feed.url("/"), "bearer": {"env": "TIDEGATE_CREDENTIAL_NONE"}}),
            "not set",
        ),
        ("stripe", json!({"url": feed.url("/")}), "feed"),
    ] {
        let mut whole = json!({"every_seconds": 60});
        whole
            .as_object_mut()
            .unwrap()
            .extend(with.as_object().unwrap().clone());
        let body = json!({"name": "x", "profile": profile, "config": {"feed": whole}});
        let answer = api.post("/v1/sources", body).await;
        assert!(answer.text.contains(wanted), "{wanted}: {}", answer.text);
        answer.refused(422, "config_invalid");
    }
    assert!(feed.asked().is_empty(), "nothing was asked");
    source(api, "kev", "kev", json!({"url": feed.url("/kev.json")})).await;
    until_heard(api, 1).await;
    api.post("/v1/sources/kev/revoke", json!({})).await.ok();
    let count = feed.asked().len();
    let refused = api.post("/v1/sources/kev/poll", json!({})).await;
    refused.refused(409, "source_is_not_asked");
    assert_eq!(feed.asked().len(), count);
    service.end_and_fsck();
}
