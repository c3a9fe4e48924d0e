//! A sender of Standard Webhooks 1.0, and the source that it is at the service.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::api::Api;
use super::database::Database;
use super::service::Service;

/// The key that both know.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The variable of the service with the key.
pub(crate) const VARIABLE: &str = "TIDEGATE_CREDENTIAL_SIEM";

/// Starts a service on a new database that knows the key of the sender.
pub(crate) fn service_with_key(database: &Database) -> Service {
    let mut service = Service::start(database);
    let token = service.api.token.clone();
    service.stop();
    again_with_key(database, &token)
}

/// Starts a service with the key on a database that exists.
pub(crate) fn again_with_key(database: &Database, token: &str) -> Service {
    Service::start_with(database, token, &[(VARIABLE, SECRET)])
}

/// Creates a source with the key, for reports about a vendor.
pub(crate) async fn source(api: &Api, name: &str, vendor: &str) {
    let source = json!({
        "name": name, "profile": "standard_webhooks",
        "config": {"keys": [{"env": VARIABLE}], "vendor": vendor},
    });
    api.post("/v1/sources", source).await.ok();
}

/// Signs as a sender does.
pub(crate) fn signature(secret: &str, id: &str, at: i64, body: &str) -> String {
    let secret = STANDARD
        .decode(secret.trim_start_matches("whsec_"))
        .expect("base64");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let tag = hmac::sign(&key, format!("{id}.{at}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag))
}

/// Somebody who sends to one source.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    http: reqwest::Client,
    url: String,
}

impl Sender {
    /// Makes a sender to a source of a service.
    pub(crate) fn new(api: &Api, source: &str) -> Self {
        Self {
            http: reqwest::Client::new(),
            url: format!("{}/v1/sources/{source}/events", api.url),
        }
    }

    /// Builds a message, signed with a key, as if it had been sent some seconds ago.
    pub(crate) fn message(
        &self,
        (id, age): (&str, i64),
        secret: &str,
        body: &str,
    ) -> reqwest::RequestBuilder {
        let at = chrono::Utc::now().timestamp() - age;
        self.http
            .post(&self.url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", at.to_string())
            .header("webhook-signature", signature(secret, id, at, body))
            .body(body.to_owned())
    }

    /// Sends a message with the right key; says whether it was answered as admitted. Whoever is gone does not answer.
    pub(crate) async fn try_send(&self, id: &str, body: &str) -> bool {
        let sent = self.message((id, 0), SECRET, body).send().await;
        sent.is_ok_and(|answer| answer.status() == 202)
    }
}
