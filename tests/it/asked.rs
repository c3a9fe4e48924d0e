//! What sources have comes whole, page by page and document by document, through kills and lies.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::polled::{asking, asking_with, signals, source, state, until_heard};
use crate::support::database::Database;
use crate::support::feed::{Asked, Feed, Reply};
use crate::support::on_each_database;
use crate::support::service::Service;
use crate::support::until;

on_each_database!(
    killed_between_pages_everything_comes_once,
    a_server_that_forgets_its_pages_or_goes_round_is_seen_through,
    alerts_come_with_a_token_that_no_other_host_is_shown,
    service_health_is_never_a_hold,
    advisories_are_what_the_hash_beside_them_says,
    a_slow_source_delays_no_other,
);

const PAGES: usize = 8;

fn object(number: usize) -> Value {
    json!({
        "type": "incident", "spec_version": "2.1", "id": format!("incident--{number:08}-1111-4111-8111-111111111111"),
        "created": "2024-01-19T21:30:00.000Z", "modified": "2024-01-19T21:30:00.000Z", "name": "an intrusion",
        "labels": ["vendor:acme", "severity:critical", "kind:vendor_breach"],
    })
}

/// Three objects on each of some pages.
fn page(asked: &Asked) -> Reply {
    let next = asked.path.split("next=").nth(1);
    let number: usize = next.map_or(0, |text| text.split('&').next().unwrap().parse().unwrap());
    let objects: Vec<Value> = (0..3).map(|one| object(number * 3 + one)).collect();
    let mut page = json!({"objects": objects, "more": number + 1 < PAGES});
    if number + 1 < PAGES {
        page["next"] = json!((number + 1).to_string());
    }
    let last = vec![(
        "x-taxii-date-added-last",
        "2024-02-01T00:00:00.000001Z".to_owned(),
    )];
    Reply::Whole(200, last, page.to_string().into_bytes())
}

fn collection(feed: &Feed) -> Value {
    json!({"url": feed.url("/api1"), "collection": "c1", "trusted": true})
}

async fn killed_between_pages_everything_comes_once(database: Database) {
    let feed = Feed::start(|asked| match asked.path.contains("next=4") {
        true => Reply::Silent,
        false => page(asked),
    });
    let mut service = asking(&database, &feed);
    let token = service.api.token.clone();
    source(&service.api, "intel", "taxii", collection(&feed)).await;
    until_heard(&service.api, 12).await;
    service.kill();
    feed.answer(page);
    let host = feed.host();
    let service = Service::start_with(&database, &token, &[("TIDEGATE_REACH", &host)]);
    let api = &service.api;
    let answer = api.post("/v1/sources/intel/poll", json!({})).await.ok();
    assert_eq!(
        answer["admitted"].as_u64().unwrap() + answer["repeated"].as_u64().unwrap(),
        24,
        "{answer}"
    );
    let all = signals(api).await;
    assert_eq!(all.len(), 24, "all of them, and each once");
    assert!(
        all.iter()
            .all(|one| one["signal"]["trust"] == "authenticated_channel")
    );
    feed.always(Reply::json(&json!({})));
    let empty = api.post("/v1/sources/intel/poll", json!({})).await.ok();
    assert_eq!(
        (&empty["admitted"], &empty["refused"]),
        (&json!(0), &json!(0))
    );
    let last = feed.asked().last().unwrap().clone();
    assert!(
        last.path
            .contains("added_after=2024-02-01T00%3A00%3A00.000001Z"),
        "{}",
        last.path
    );
    assert_eq!(
        last.header("accept"),
        Some("application/taxii+json;version=2.1")
    );
    service.end_and_fsck();
}

async fn a_server_that_forgets_its_pages_or_goes_round_is_seen_through(database: Database) {
    let forgot = Arc::new(Mutex::new(false));
    let feed = Feed::start(move |asked| {
        let mut forgot = forgot.lock().unwrap();
        if asked.path.contains("next=5") && !*forgot {
            *forgot = true;
            return Reply::status(400);
        }
        page(asked)
    });
    let service = asking(&database, &feed);
    let api = &service.api;
    source(api, "intel", "taxii", collection(&feed)).await;
    until_heard(api, 24).await;
    feed.always(Reply::json(
        &json!({"objects": [object(30), {"type": "incident"}], "more": true, "next": "1"}),
    ));
    let path = "/v1/sources/intel/poll";
    api.post(path, json!({})).await.refused(409, "next_loops");
    assert_eq!(signals(api).await.len(), 25, "what could be read was");
    feed.always(Reply::status(406));
    let answer = api.post(path, json!({})).await;
    assert!(
        answer.text.contains("does not speak the version"),
        "{}",
        answer.text
    );
    feed.always(Reply::json(
        &json!({"objects": [{"type": "incident"}, object(31)]}),
    ));
    let answer = api.post(path, json!({})).await.ok();
    assert_eq!(
        (&answer["admitted"], &answer["refused"]),
        (&json!(1), &json!(1))
    );
    let now = state(api, "intel").await;
    assert!(
        now["refused"]["sentence"]
            .as_str()
            .unwrap()
            .contains("objects[0]"),
        "{now:#}"
    );
    service.end_and_fsck();
}

fn alert(number: u32, severity: &str) -> Value {
    json!({
        "id": format!("da{number}"), "status": "new", "severity": severity, "title": "a detection",
        "createdDateTime": "2024-01-12T12:00:00Z", "lastUpdateDateTime": format!("2024-01-12T12:00:0{number}Z"),
    })
}

fn graph(feed: &Feed) -> Value {
    json!({
        "url": feed.url(""), "since": "2024-01-01T00:00:00Z",
        "client": {"token_url": feed.url("/tenant/oauth2/v2.0/token"), "id": "client", "secret": {"env": "TIDEGATE_CREDENTIAL_M365"}},
    })
}

const SECRET: [(&str, &str); 1] = [("TIDEGATE_CREDENTIAL_M365", "hunter2&more")];

async fn alerts_come_with_a_token_that_no_other_host_is_shown(database: Database) {
    let feed = Feed::start(|_| Reply::status(503));
    let elsewhere = Feed::start(|_| Reply::json(&json!({"value": []})));
    let (own, other) = (feed.url(""), elsewhere.url(""));
    feed.answer(move |asked| match asked.path.as_str() {
        "/tenant/oauth2/v2.0/token" if asked.body.contains("client_secret=hunter2%26more") => {
            Reply::json(&json!({"access_token": "t0ken", "token_type": "Bearer"}))
        }
        _ if asked.header("authorization") != Some("Bearer t0ken") => Reply::status(401),
        path if path.contains("skip=2") => {
            let next = format!("{other}/v1.0/security/alerts_v2?skip=3");
            Reply::json(
                &json!({"value": [alert(3, "unknownFutureValue")], "@odata.nextLink": next}),
            )
        }
        path if path.starts_with(
            "/v1.0/security/alerts_v2?%24filter=lastUpdateDateTime+ge+2024-01-01T00%3A00%3A00Z",
        ) =>
        {
            let next = format!("{own}/v1.0/security/alerts_v2?skip=2");
            Reply::json(
                &json!({"value": [alert(1, "high"), {"no": "id"}], "@odata.nextLink": next}),
            )
        }
        _ => Reply::status(404),
    });
    let service = asking_with(&database, &feed, &SECRET);
    let api = &service.api;
    source(api, "m365", "graph_alerts", graph(&feed)).await;
    until_heard(api, 2).await;
    let asked = until_refused(api, "m365").await;
    assert!(asked.contains("another host"), "{asked}");
    assert!(
        elsewhere.asked().is_empty(),
        "the token is shown to nobody else"
    );
    let all = signals(api).await;
    let of = |id: &str| {
        all.iter()
            .find(|one| one["signal"]["external_id"] == id)
            .unwrap()["signal"]
            .clone()
    };
    assert_eq!(
        (&of("da1")["severity"], &of("da1")["trust"]),
        (&json!("high"), &json!("authenticated_channel"))
    );
    assert_eq!(of("da3")["severity"], "unknown");
    let asked = feed.asked();
    assert!(
        asked
            .iter()
            .any(|one| one.header("prefer") == Some("include-unknown-enum-members"))
    );
    assert!(
        asked
            .iter()
            .all(|one| one.method == "GET" || one.path.ends_with("/token"))
    );
    let shown = api.get("/v1/sources").await.text;
    assert!(
        !shown.contains("hunter2") && !shown.contains("t0ken"),
        "{shown}"
    );
    feed.always(Reply::status(401));
    let refused = api.post("/v1/sources/m365/poll", json!({})).await;
    refused.refused(409, "credential_missing");
    service.end_and_fsck();
}

async fn until_refused(api: &crate::support::api::Api, name: &str) -> String {
    until("it is told what was not taken", 30, async || {
        state(api, name).await["trouble"].is_string()
    })
    .await;
    state(api, name).await["trouble"].to_string()
}

async fn service_health_is_never_a_hold(database: Database) {
    let feed = Feed::start(|asked| match asked.path.as_str() {
        "/tenant/oauth2/v2.0/token" => Reply::json(&json!({"access_token": "t0ken"})),
        _ => Reply::json(&json!({"value": [{
            "id": "EX1", "title": "Mail is slow", "classification": "incident", "status": "serviceInterruption",
            "service": "Exchange Online", "startDateTime": "2024-01-12T12:00:00Z", "lastModifiedDateTime": "2024-01-12T12:00:00Z",
            "isResolved": false,
        }]})),
    });
    let service = asking_with(&database, &feed, &SECRET);
    let api = &service.api;
    source(api, "health", "graph_health", graph(&feed)).await;
    until_heard(api, 1).await;
    assert!(feed.asked().iter().any(|one| {
        one.path
            .starts_with("/v1.0/admin/serviceAnnouncement/issues?")
    }));
    until("it is judged", 10, async || {
        signals(api).await[0]["outcome"] != "waiting"
    })
    .await;
    let all = signals(api).await;
    assert_eq!(all[0]["signal"]["kind"], "service_incident");
    assert_eq!(api.get("/v1/holds").await.ok()["items"], json!([]));
    service.end_and_fsck();
}

/// An advisory, with an id of its own.
fn advisory(id: &str) -> Vec<u8> {
    let path = crate::support::repository().join("tests/fixtures/signals/csaf.json");
    let mut whole: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    whole["document"]["tracking"]["id"] = json!(id);
    whole.to_string().into_bytes()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

async fn advisories_are_what_the_hash_beside_them_says(database: Database) {
    let feed = Feed::start(|asked| {
        let whole = |bytes: Vec<u8>| Reply::Whole(200, Vec::new(), bytes);
        match asked.path.as_str() {
            "/csaf/changes.csv" => whole(b"2024/a.json,2024-01-25T10:00:00Z\n\"2024/b.json\",\"2024-01-26T10:00:00Z\"\n2024/c.json,2024-01-27T10:00:00Z\n".to_vec()),
            "/csaf/2024/a.json" => whole(advisory("a")),
            "/csaf/2024/b.json" => whole(advisory("b")),
            "/csaf/2024/c.json" => whole(advisory("c")),
            "/csaf/2024/a.json.sha256" => whole(format!("{}  a.json\n", sha256(&advisory("a"))).into_bytes()),
            "/csaf/2024/b.json.sha256" => whole(format!("{}  b.json\n", sha256(b"other")).into_bytes()),
            "/plain/index.txt" => whole(b"d.json\n".to_vec()),
            "/plain/d.json" => whole(advisory("d")),
            _ => Reply::status(404),
        }
    });
    let service = asking(&database, &feed);
    let api = &service.api;
    let with = |url: String, trusted: bool| json!({"url": url, "since": "2024-01-01T00:00:00Z", "trusted": trusted});
    source(api, "msrc", "csaf", with(feed.url("/csaf/"), true)).await;
    until("what can be believed is admitted", 30, async || {
        state(api, "msrc").await["refused"]["count"] == 2 && !signals(api).await.is_empty()
    })
    .await;
    let ids = |all: &[Value]| -> std::collections::BTreeSet<String> {
        all.iter()
            .map(|one| one["signal"]["external_id"].as_str().unwrap()[..1].to_owned())
            .collect()
    };
    let all = signals(api).await;
    assert_eq!(ids(&all), ["a".to_owned()].into(), "{all:#?}");
    assert!(
        all.iter()
            .all(|one| one["signal"]["trust"] == "authenticated_channel")
    );
    let asked = feed
        .asked()
        .iter()
        .filter(|one| one.path.ends_with("a.json"))
        .count();
    let again = api.post("/v1/sources/msrc/poll", json!({})).await.ok();
    assert_eq!(
        (&again["admitted"], &again["refused"]),
        (&json!(0), &json!(2)),
        "tried again"
    );
    let now = feed
        .asked()
        .iter()
        .filter(|one| one.path.ends_with("a.json"))
        .count();
    assert_eq!(asked, now, "what was read is not read again");
    source(api, "plain", "csaf", with(feed.url("/plain/"), false)).await;
    until("a list without instants is read", 30, async || {
        ids(&signals(api).await).contains("d")
    })
    .await;
    let plain = signals(api).await;
    let plain = plain
        .iter()
        .find(|one| one["signal"]["source"] == "plain")
        .unwrap();
    assert_eq!(plain["signal"]["trust"], "unauthenticated");
    service.end_and_fsck();
}

async fn a_slow_source_delays_no_other(database: Database) {
    let feed = Feed::start(|asked| match asked.path.contains("slow") {
        true => Reply::Silent,
        false => page(asked),
    });
    let service = asking(&database, &feed);
    let api = &service.api;
    for name in ["slow1", "slow2", "slow3"] {
        let with = json!({"url": feed.url("/slow"), "collection": "c1"});
        source(api, name, "taxii", with).await;
    }
    until("the slow ones are asked", 10, async || {
        feed.asked().len() == 3
    })
    .await;
    source(api, "intel", "taxii", collection(&feed)).await;
    until("the other is read", 10, async || {
        signals(api).await.len() == 24
    })
    .await;
    assert_eq!(
        state(api, "slow1").await["trouble"],
        Value::Null,
        "it still may answer"
    );
    service.end_and_fsck();
}
