//! What other people's libraries send is taken as they make it: Standard Webhooks, security event tokens,
//! CloudEvents in both modes, findings of OCSF, and the example that GitHub publishes.

use serde_json::{Value, json};

use crate::support::api::{Answer, Api, send};
use crate::support::database::Database;
use crate::support::service::Service;
use crate::support::targets::Sender;
use crate::support::transmitter::{AUDIENCE, ISSUER, risk};

const SECRET: &str = "Vq3mT0kH5xk2Yw8sQJr7";
const WEBHOOK: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Writes a file into the folder of credentials; returns its name there.
fn credential(database: &Database, name: &str, text: &str) -> String {
    std::fs::write(database.file(name), text).unwrap();
    database.granted(name).display().to_string()
}

async fn source(api: &Api, name: &str, profile: &str, config: Value) {
    let source = json!({"name": name, "profile": profile, "config": config});
    api.post("/v1/sources", source).await.ok();
}

/// Sends a message as it was made.
async fn deliver(api: &Api, source: &str, made: &Value, bearer: bool) -> Answer {
    let mut request = reqwest::Client::new()
        .post(format!("{}/v1/sources/{source}/events", api.url))
        .body(made["body"].as_str().expect("a body").to_owned());
    for (name, value) in made["headers"].as_object().expect("headers") {
        request = request.header(name, value.as_str().expect("a value"));
    }
    if bearer {
        request = request.bearer_auth(SECRET);
    }
    send(request).await
}

async fn latest(api: &Api) -> Value {
    let listed = api.get("/v1/signals?limit=1").await.ok();
    listed["items"][0]["signal"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_that_other_libraries_sign_are_taken_and_count_once() {
    let database = Database::sqlite();
    let service = Service::start(&database);
    let api = &service.api;
    let key = credential(&database, "siem.key", WEBHOOK);
    source(
        api,
        "siem",
        "standard_webhooks",
        json!({"keys": [{"file": key}]}),
    )
    .await;
    for sender in Sender::installed() {
        let body =
            json!({"type": "security.vendor_breach", "data": {"severity": "high", "title": "ä €"}});
        let id = format!("msg_{sender:?}");
        let wanted =
            json!({"make": "webhook", "secret": WEBHOOK, "id": id, "body": body.to_string()});
        let made = sender.make(&wanted);
        assert_eq!(deliver(api, "siem", &made, false).await.ok()["admitted"], 1);
        let again = sender.make(&wanted);
        assert_eq!(
            deliver(api, "siem", &again, false).await.ok()["repeated"],
            1
        );
        let mut changed = made;
        changed["body"] = json!(body.to_string().replace("high", "info"));
        deliver(api, "siem", &changed, false)
            .await
            .refused(401, "forged");
        let found = latest(api).await;
        assert_eq!(
            (&found["external_id"], &found["title"]),
            (&json!(id), &json!("ä €"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn security_event_tokens_that_other_libraries_sign_are_taken() {
    let database = Database::sqlite();
    let service = Service::start(&database);
    let api = &service.api;
    for sender in Sender::installed() {
        let name = format!("{sender:?}").to_ascii_lowercase();
        let claims = risk("a-token", "HIGH", 0);
        let made = sender.make(&json!({"make": "token", "claims": claims}));
        let keys = credential(
            &database,
            &format!("{name}.jwks"),
            &made["jwks"].to_string(),
        );
        let stream = json!({"issuer": ISSUER, "audience": [AUDIENCE], "jwks_file": keys});
        source(
            api,
            &name,
            "security_events",
            json!({"vendor": "acme", "stream": stream}),
        )
        .await;
        let answer = deliver(api, &name, &made, false).await;
        assert_eq!((answer.status, answer.text.as_str()), (202, ""));
        let found = latest(api).await;
        assert_eq!(
            (&found["source"], &found["severity"]),
            (&json!(name), &json!("high"))
        );
        let forged = sender.make(&json!({"make": "token", "claims": claims}));
        let answer = deliver(api, &name, &forged, false).await;
        assert_eq!(
            answer.body["err"], "authentication_failed",
            "{}",
            answer.text
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud_events_of_other_libraries_are_the_same_event_in_both_modes() {
    let database = Database::sqlite();
    let service = Service::start(&database);
    let api = &service.api;
    let key = credential(&database, "bus.key", SECRET);
    source(
        api,
        "bus",
        "cloudevents",
        json!({"keys": [{"file": key}], "vendor": "acme"}),
    )
    .await;
    for sender in Sender::installed() {
        // The one from npm writes headers as they are, which HTTP has no letters for: its id is plain.
        let id = match sender {
            Sender::Python => "a €%",
            Sender::JavaScript => "plain",
        };
        let made = |mode: &str| {
            sender.make(&json!({
                "make": "cloudevent", "mode": mode, "data": {"severity": "high"},
                "attributes": {"id": id, "source": "/soc", "type": "x.vendor_breach", "time": "2026-01-19T21:00:00+00:00"},
            }))
        };
        let binary = deliver(api, "bus", &made("binary"), true).await.ok();
        assert_eq!(binary["admitted"], 1);
        let structured = deliver(api, "bus", &made("structured"), true).await.ok();
        assert_eq!(structured["repeated"], 1, "the same event");
        let found = latest(api).await;
        assert_eq!(found["external_id"], format!("/soc {id}"));
        assert_eq!(
            (&found["kind"], &found["severity"]),
            (&json!("vendor_breach"), &json!("high"))
        );
        deliver(api, "bus", &made("structured"), false)
            .await
            .refused(401, "header_missing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_that_the_models_of_others_validate_are_read() {
    let database = Database::sqlite();
    let service = Service::start(&database);
    let api = &service.api;
    if Sender::installed().is_empty() {
        return;
    }
    let path = crate::support::repository().join("tests/fixtures/signals/ocsf.json");
    let findings: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let made = Sender::Python.make(&json!({"make": "finding", "finding": findings[0]}));
    let body = made["body"].as_str().unwrap();
    let sent = api.post_text("/v1/signals?format=ocsf", "application/json", body);
    assert_eq!(sent.await.ok()["admitted"], 1);
    let found = latest(api).await;
    assert_eq!(
        (&found["dialect"], &found["severity"]),
        (&json!("ocsf"), &json!("high"))
    );
}

/// The example in GitHub's documentation: its signature verifies, and then "Hello, World!" is no JSON.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_that_github_publishes_verifies() {
    let database = Database::sqlite();
    let service = Service::start(&database);
    let api = &service.api;
    let key = credential(&database, "github.key", "It's a Secret to Everybody");
    source(
        api,
        "github",
        "github",
        json!({"keys": [{"file": key}], "vendor": "github"}),
    )
    .await;
    let signed = |signature: &str| {
        json!({"body": "Hello, World!", "headers": {
            "content-type": "application/json", "x-github-event": "ping", "x-hub-signature-256": signature,
        }})
    };
    let published = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    deliver(api, "github", &signed(published), false)
        .await
        .refused(422, "not_json");
    let changed = published.replace("757", "758");
    deliver(api, "github", &signed(&changed), false)
        .await
        .refused(401, "forged");
}
