//! What signed webhooks prove, and for how long: windows, keys that are changed, bodies that come again.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::api::{Answer, Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::service::Service;

on_each_database!(
    a_webhook_is_taken_within_five_minutes_either_way_and_by_its_id_once,
    while_keys_are_changed_either_is_enough_and_the_old_one_ends_with_its_file,
    a_github_body_under_a_new_delivery_counts_once,
);

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// Writes a file into the folder of credentials; returns its name there.
fn credential(database: &Database, name: &str, text: &str) -> String {
    std::fs::write(database.file(name), text).unwrap();
    database.granted(name).display().to_string()
}

fn signature(secret: &str, id: &str, at: i64, body: &str) -> String {
    let secret = secret.strip_prefix("whsec_").unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(secret).unwrap());
    let tag = hmac::sign(&key, format!("{id}.{at}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag))
}

/// Sends a report of `age` seconds ago with these signatures in one header.
async fn sent(api: &Api, id: &str, age: i64, secrets: &[&str]) -> Answer {
    let body = json!({"type": "x.detection", "data": {"severity": "low"}}).to_string();
    let at = chrono::Utc::now().timestamp() - age;
    let signatures: Vec<String> = secrets
        .iter()
        .map(|secret| signature(secret, id, at, &body))
        .collect();
    let request = reqwest::Client::new()
        .post(format!("{}/v1/sources/siem/events", api.url))
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", at.to_string())
        .header("webhook-signature", signatures.join(" "))
        .body(body);
    send(request).await
}

async fn siem(api: &Api, files: &[&str]) {
    let keys: Vec<Value> = files.iter().map(|file| json!({"file": file})).collect();
    let source = json!({"name": "siem", "profile": "standard_webhooks", "config": {"keys": keys}});
    api.post("/v1/sources", source).await.ok();
}

async fn a_webhook_is_taken_within_five_minutes_either_way_and_by_its_id_once(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    siem(api, &[&credential(&database, "siem.key", OLD)]).await;
    // Two seconds from the border, which a busy machine may pass on the way; the second itself is in a unit test.
    for (id, age) in [("a", 298), ("b", -298)] {
        assert_eq!(sent(api, id, age, &[OLD]).await.ok()["admitted"], 1);
    }
    for age in [301, -310] {
        sent(api, "c", age, &[OLD]).await.refused(401, "stale");
    }
    assert_eq!(sent(api, "a", 0, &[OLD]).await.ok()["repeated"], 1);
    service.end_and_fsck();
}

async fn while_keys_are_changed_either_is_enough_and_the_old_one_ends_with_its_file(
    database: Database,
) {
    let service = Service::start(&database);
    let api = &service.api;
    let old = credential(&database, "old.key", OLD);
    let new = credential(&database, "new.key", NEW);
    siem(api, &[&old, &new]).await;
    for (id, secrets) in [("a", vec![OLD]), ("b", vec![NEW]), ("c", vec![OLD, NEW])] {
        assert_eq!(sent(api, id, 0, &secrets).await.ok()["admitted"], 1);
    }
    credential(&database, "old.key", NEW);
    sent(api, "d", 0, &[OLD]).await.refused(401, "forged");
    assert_eq!(sent(api, "d", 0, &[OLD, NEW]).await.ok()["admitted"], 1);
    service.end_and_fsck();
}

async fn a_github_body_under_a_new_delivery_counts_once(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let secret = "It's a Secret to Everybody";
    let file = credential(&database, "github.key", secret);
    let config = json!({"keys": [{"file": file}], "vendor": "acme"});
    let source = json!({"name": "github", "profile": "github", "config": config});
    api.post("/v1/sources", source).await.ok();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let deliver = async |delivery: &str, body: &str| {
        let tag = hmac::sign(&key, body.as_bytes());
        let hex: String = tag
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let request = reqwest::Client::new()
            .post(format!("{}/v1/sources/github/events", api.url))
            .header("content-type", "application/json")
            .header("x-github-event", "ping")
            .header("x-github-delivery", delivery)
            .header("x-hub-signature-256", format!("sha256={hex}"))
            .body(body.to_owned());
        send(request).await
    };
    let body = r#"{"zen":"Keep it logically awesome."}"#;
    assert_eq!(deliver("d1", body).await.ok()["admitted"], 1);
    assert_eq!(deliver("d2", body).await.ok()["repeated"], 1);
    let listed = api.get("/v1/signals").await.ok();
    assert_eq!(listed["items"][0]["signal"]["trust"], "signed");
    service.end_and_fsck();
}
