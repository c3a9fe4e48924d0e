//! CloudEvents and findings of OCSF over the ways in that prove who sends; what proves nothing is refused.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{Answer, Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::sandbox;
use crate::support::service::Service;
use crate::support::until;

on_each_database!(
    an_event_under_its_secret_halts_once_in_each_mode,
    an_event_that_proves_nothing_is_refused_and_leaves_nothing,
    whoever_asks_may_send_and_is_told_how_much,
    whoever_sends_too_much_is_told_when_to_go_on,
    the_first_word_of_a_source_counts_as_heard_however_soon_it_comes,
    a_slip_in_what_it_reports_is_answered,
    a_list_counts_as_many_as_it_has_and_is_taken_whole_or_not_at_all,
    an_event_inside_a_signed_webhook_is_signed_and_fresh,
    a_finding_of_ocsf_comes_by_each_way_in,
);

const SECRET: &str = "Vq3mT0kH5xk2Yw8sQJr7";
const WEBHOOK: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const STRUCTURED: &str = "application/cloudevents+json";

/// Writes a file into the folder of credentials; returns its name there.
fn credential(database: &Database, name: &str, text: &str) -> String {
    std::fs::write(database.file(name), text).unwrap();
    database.granted(name).display().to_string()
}

async fn source(api: &Api, database: &Database, profile: &str, more: Value) {
    let secret = if profile == "cloudevents" {
        SECRET
    } else {
        WEBHOOK
    };
    let file = credential(database, "bus.key", secret);
    let mut config = json!({"keys": [{"file": file}], "vendor": "acme"});
    if let (Some(config), Some(more)) = (config.as_object_mut(), more.as_object()) {
        config.extend(more.clone());
    }
    let source = json!({"name": "bus", "profile": profile, "config": config});
    api.post("/v1/sources", source).await.ok();
}

fn event(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/soc/eu", "type": "com.example.vendor_breach",
        "time": "2026-01-19T21:00:00Z", "datacontenttype": "application/json",
        "data": {"severity": "critical", "title": "they are in"},
    })
}

fn to(api: &Api) -> reqwest::RequestBuilder {
    reqwest::Client::new().post(format!("{}/v1/sources/bus/events", api.url))
}

async fn structured(api: &Api, body: &Value) -> Answer {
    let request = to(api)
        .bearer_auth(SECRET)
        .header("content-type", STRUCTURED);
    send(request.body(body.to_string())).await
}

async fn signals(api: &Api) -> Vec<Value> {
    let listed = api.get("/v1/signals").await.ok();
    listed["items"].as_array().unwrap().clone()
}

async fn an_event_under_its_secret_halts_once_in_each_mode(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    sandbox(api, json!({})).await;
    let facts = json!({"vendor": "acme"});
    send(
        api.request(Method::PUT, "/v1/targets/box/facts")
            .json(&facts),
    )
    .await
    .ok();
    source(api, &database, "cloudevents", json!({"batch": true})).await;
    assert_eq!(structured(api, &event("1")).await.ok()["admitted"], 1);
    assert_eq!(structured(api, &event("1")).await.ok()["repeated"], 1);
    // The same event in binary mode is the same event, and its attributes are decoded.
    let binary = |id: &str| {
        to(api)
            .bearer_auth(SECRET)
            .header("content-type", "application/json")
            .header("ce-specversion", "1.0")
            .header("ce-id", id)
            .header("ce-source", "/soc/eu")
            .header("ce-type", "com.example.vendor_breach")
            .header("ce-subject", "a%20%E2%82%AC%25")
            .body(r#"{"severity":"critical"}"#)
    };
    assert_eq!(send(binary("1")).await.ok()["repeated"], 1);
    assert_eq!(send(binary("2%20b")).await.ok()["admitted"], 1);
    send(binary("%ff")).await.refused(422, "attribute_invalid");
    let batch = json!([event("3"), event("4"), event("1")]);
    let kind = "application/cloudevents-batch+json";
    let sent = to(api).bearer_auth(SECRET).header("content-type", kind);
    let answer = send(sent.body(batch.to_string())).await.ok();
    assert_eq!(
        (&answer["admitted"], &answer["repeated"]),
        (&json!(2), &json!(1))
    );
    let found = signals(api).await;
    assert_eq!(found.len(), 4);
    assert_eq!(found[3]["signal"]["trust"], "authenticated_channel");
    assert_eq!(found[2]["signal"]["external_id"], "/soc/eu 2 b");
    until("it halts, once", 10, async || {
        let holds = api.get("/v1/holds?in_force=true").await.ok();
        let items = holds["items"].as_array().unwrap();
        items.iter().filter(|hold| hold["kind"] == "halt").count() == 1
    })
    .await;
    service.end_and_fsck();
}

async fn an_event_that_proves_nothing_is_refused_and_leaves_nothing(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    source(api, &database, "cloudevents", json!({})).await;
    let body = event("1").to_string();
    let plain = || {
        to(api)
            .header("content-type", STRUCTURED)
            .body(body.clone())
    };
    send(plain()).await.refused(401, "header_missing");
    send(plain().bearer_auth("another secret"))
        .await
        .refused(401, "forged");
    send(plain().basic_auth(SECRET, Some("")))
        .await
        .refused(401, "header_invalid");
    let address = format!("{}/v1/sources/bus/events?access_token={SECRET}", api.url);
    let in_address = reqwest::Client::new()
        .post(address)
        .header("content-type", STRUCTURED);
    send(in_address.body(body.clone()))
        .await
        .refused(401, "token_in_address");
    let typed = |kind: &str| to(api).bearer_auth(SECRET).header("content-type", kind);
    send(typed("application/cloudevents-batch+json").body(format!("[{body}]")))
        .await
        .refused(422, "batch_unasked");
    send(typed("application/cloudevents+xml").body("<event/>"))
        .await
        .refused(415, "media_type");
    send(typed("application/json").body("{}"))
        .await
        .refused(422, "field_invalid");
    send(typed(STRUCTURED).body("x".repeat(300 << 10)))
        .await
        .refused(413, "body_too_large");
    assert!(signals(api).await.is_empty());
    let metrics = api.get("/metrics").await.text;
    for code in [
        "header_missing",
        "forged",
        "token_in_address",
        "batch_unasked",
        "body_too_large",
    ] {
        let line = format!("tidegate_source_refused_total{{source=\"bus\",code=\"{code}\"}} 1");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    service.end_and_fsck();
}

async fn whoever_asks_may_send_and_is_told_how_much(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    source(
        api,
        &database,
        "cloudevents",
        json!({"rate_per_minute": 120}),
    )
    .await;
    let ask = |name: &str| {
        let address = format!("{}/v1/sources/{name}/events", api.url);
        reqwest::Client::new().request(Method::OPTIONS, address)
    };
    let answer = send(ask("bus").header("WebHook-Request-Origin", "events.example")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers["webhook-allowed-origin"], "events.example");
    assert_eq!(answer.headers["webhook-allowed-rate"], "120");
    assert_eq!(answer.headers["allow"], "POST, OPTIONS");
    send(ask("bus")).await.refused(400, "origin_missing");
    let nobody = ask("nobody").header("WebHook-Request-Origin", "events.example");
    send(nobody).await.refused(404, "source_not_found");
}

async fn whoever_sends_too_much_is_told_when_to_go_on(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    source(api, &database, "cloudevents", json!({"rate_per_minute": 2})).await;
    for id in ["1", "2"] {
        structured(api, &event(id)).await.ok();
    }
    let answer = structured(api, &event("3")).await;
    answer.refused(429, "too_many");
    let wait: u64 = answer.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    let kept = signals(api).await;
    let ours = |one: &&Value| one["signal"]["source"] == "tidegate:signals";
    assert_eq!(
        kept.iter().filter(ours).count(),
        1,
        "that it does is reported"
    );
    assert_eq!(kept.len(), 3);
    let told = kept.iter().find(ours).unwrap();
    // We have seen it ourselves: that the source signs nothing changes nothing about it.
    assert_eq!(told["signal"]["trust"], "signed_fresh", "{told:#}");
}

async fn the_first_word_of_a_source_counts_as_heard_however_soon_it_comes(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    source(api, &database, "cloudevents", json!({})).await;
    structured(api, &event("1")).await.ok();
    let sources = api.get("/v1/sources").await.ok();
    let bus = &sources[0];
    assert_ne!(bus["heard_at"], bus["created_at"], "{bus:#}");
}

async fn a_slip_in_what_it_reports_is_answered(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    source(api, &database, "cloudevents", json!({})).await;
    let mut slip = event("1");
    slip["type"] = json!("com.example.vendor_breech");
    slip["data"]["severity"] = json!("critcal");
    let answer = structured(api, &slip).await.ok();
    let fields: Vec<&str> = answer["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|warning| warning["field"].as_str())
        .collect();
    assert_eq!(fields, ["kind", "severity"], "{answer:#}");
    let good = structured(api, &event("2")).await.ok();
    assert_eq!(
        good["warnings"].as_array().map_or(0, Vec::len),
        0,
        "{good:#}"
    );
}

async fn a_list_counts_as_many_as_it_has_and_is_taken_whole_or_not_at_all(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let more = json!({"rate_per_minute": 3, "batch": true});
    source(api, &database, "cloudevents", more).await;
    let batch = async |ids: &[&str]| {
        let events: Vec<Value> = ids.iter().map(|id| event(id)).collect();
        let request = to(api)
            .bearer_auth(SECRET)
            .header("content-type", "application/cloudevents-batch+json");
        send(request.body(json!(events).to_string())).await
    };
    batch(&["1", "2"]).await.ok();
    let answer = batch(&["3", "4"]).await;
    answer.refused(429, "too_many");
    let wait: u64 = answer.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        (1..=20).contains(&wait),
        "one is left, and another is twenty seconds away: {wait}"
    );
    let sentence = batch(&["3", "4", "5", "6"])
        .await
        .refused(422, "too_many_at_once");
    assert!(
        sentence.contains("4 signals") && sentence.contains("at most 3 at once"),
        "{sentence}"
    );
    batch(&["1", "2"]).await.ok();
    batch(&["3"]).await.ok();
    let kept = signals(api).await;
    let ours = kept
        .iter()
        .filter(|one| one["signal"]["source"] == "bus")
        .count();
    assert_eq!(ours, 3, "nothing of what was refused: {kept:#?}");
    service.end_and_fsck();
}

/// Sends a body as Standard Webhooks are sent.
async fn signed(api: &Api, id: &str, kind: &str, body: &Value) -> Answer {
    let (at, body) = (chrono::Utc::now().timestamp(), body.to_string());
    let secret = STANDARD
        .decode(WEBHOOK.strip_prefix("whsec_").unwrap())
        .unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let tag = hmac::sign(&key, format!("{id}.{at}.{body}").as_bytes());
    let request = to(api)
        .header("content-type", kind)
        .header("webhook-id", id)
        .header("webhook-timestamp", at.to_string())
        .header("webhook-signature", format!("v1,{}", STANDARD.encode(tag)))
        .body(body);
    send(request).await
}

async fn an_event_inside_a_signed_webhook_is_signed_and_fresh(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    source(
        api,
        &database,
        "standard_webhooks",
        json!({"payload": "cloudevent"}),
    )
    .await;
    assert_eq!(
        signed(api, "m1", STRUCTURED, &event("1")).await.ok()["admitted"],
        1
    );
    let again = signed(api, "m2", "application/json", &event("1"))
        .await
        .ok();
    assert_eq!(again["repeated"], 1, "known by its source and id");
    signed(api, "m3", STRUCTURED, &json!({"severity": "high"}))
        .await
        .refused(422, "field_invalid");
    let found = signals(api).await;
    assert_eq!(found[0]["signal"]["trust"], "signed_fresh");
    assert_eq!(found[0]["signal"]["dialect"], "cloudevents");
    service.end_and_fsck();
}

async fn a_finding_of_ocsf_comes_by_each_way_in(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let path = crate::support::repository().join("tests/fixtures/signals/ocsf.json");
    let mut finding: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    if let Some(first) = finding.get(0) {
        finding = first.clone();
    }
    let siem = api.as_role("siem", "signal_source").await;
    let by_token = siem
        .post("/v1/signals?format=ocsf", finding.clone())
        .await
        .ok();
    assert_eq!(by_token["admitted"], 1);
    siem.post("/v1/signals?format=ocsf", json!({"severity": "high"}))
        .await
        .refused(422, "field_invalid");
    siem.post("/v1/signals?format=xml", json!({}))
        .await
        .refused(400, "query_invalid");
    let by_event = siem
        .post("/v1/signals?format=cloudevent", event("9"))
        .await
        .ok();
    assert_eq!(by_event["admitted"], 1);
    source(
        api,
        &database,
        "standard_webhooks",
        json!({"payload": "ocsf"}),
    )
    .await;
    let by_webhook = signed(api, "m1", "application/json", &finding).await.ok();
    assert_eq!(
        by_webhook["admitted"], 1,
        "another source, so another report"
    );
    let mut other = finding.clone();
    // Two numbers that are no ranks: both are unknown, and a rule says what that is worth.
    for (severity, time) in [(99, 1_700_000_000_001_i64), (0, 1_700_000_000_002)] {
        other["severity_id"] = json!(severity);
        other["time"] = json!(time);
        signed(api, &format!("s{severity}"), "application/json", &other)
            .await
            .ok();
        assert_eq!(signals(api).await[0]["signal"]["severity"], "unknown");
    }
    let mut inside = event("inside");
    inside["type"] = json!("ocsf.detection_finding");
    inside["data"] = finding;
    let by_event = siem
        .post("/v1/signals?format=cloudevent", inside)
        .await
        .ok();
    assert_eq!(by_event["admitted"], 1);
    assert_eq!(signals(api).await[0]["signal"]["dialect"], "ocsf");
    service.end_and_fsck();
}
