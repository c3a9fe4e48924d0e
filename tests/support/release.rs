//! How a halt ends in tests: the one place that knows the procedure.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::api::{Answer, Api};

/// Within which time everything that stands in the way of a release by itself is over.
const PREFLIGHT_WITHIN: Duration = Duration::from_secs(90);

/// People with a seat each, made once per service: ask for them before anything is requested.
#[derive(Debug, Clone)]
pub(crate) struct People {
    /// Asks.
    pub(crate) asks: Api,
    /// Sits in security.
    pub(crate) security: Api,
    /// Sits in operations.
    pub(crate) operations: Api,
}

/// Makes people with seats; `admin` may make tokens.
pub(crate) async fn people(admin: &Api) -> People {
    let mut made = Vec::new();
    for (name, role) in [
        ("asker", "approver"),
        ("guard", "security"),
        ("owner", "manager"),
    ] {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        made.push(admin.as_role(&format!("{name}-{unique}"), role).await);
    }
    let [asks, security, operations] = made.try_into().expect("three people");
    People {
        asks,
        security,
        operations,
    }
}

impl People {
    /// Asks for the release of a halt, and has both say yes; returns the digest.
    pub(crate) async fn approved(&self, hold: &str) -> Result<String, Answer> {
        let path = |verb: &str| format!("/v1/holds/{hold}/{verb}");
        let reason = json!({"reason": "the vendor delivered"});
        let asked = self.asks.post(&path("release-request"), reason).await;
        let Some(digest) = asked.body["digest"].as_str().map(str::to_owned) else {
            return Err(asked);
        };
        for who in [&self.security, &self.operations] {
            let yes = json!({"digest": digest, "reason": "looked at all of it"});
            let said = who.post(&path("approvals"), yes).await;
            if said.status >= 300 {
                return Err(said);
            }
        }
        Ok(digest)
    }
}

/// Carries out what was approved.
pub(crate) async fn execute(api: &Api, hold: &str, digest: &str) -> Answer {
    let body: Value = json!({"reason": "the vendor delivered", "digest": digest});
    api.post(&format!("/v1/holds/{hold}/release"), body).await
}

/// Looks, asks, and has two say yes; returns the digest that may be carried out now.
pub(crate) async fn ready(api: &Api, hold: &str) -> String {
    let people = people(api).await;
    let path = format!("/v1/holds/{hold}/preflight");
    // Whoever had people under way and is gone keeps them so until its lease ends.
    let deadline = Instant::now() + PREFLIGHT_WITHIN;
    loop {
        let looked = api.post(&path, json!({})).await.ok();
        if looked["ok"] == true {
            break;
        }
        let items = looked["items"].as_array().into_iter().flatten();
        let open: Vec<&Value> = items.filter(|item| item["ok"] == false).collect();
        assert!(Instant::now() < deadline, "not passed: {open:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What had been under way may still be written meanwhile: then it is asked for again.
    for _ in 0..20 {
        match people.approved(hold).await {
            Ok(digest) => return digest,
            Err(refused) => {
                let code = refused.body["code"].as_str();
                assert_eq!(
                    code,
                    Some("release_configuration_changed"),
                    "{}",
                    refused.text
                );
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    panic!("what had been under way is never written");
}

/// Releases a halt by its procedure: look, ask, approve twice, carry out. Again from the beginning, when
/// somebody who had been under way was written in between.
pub(crate) async fn halt(api: &Api, hold: &str) {
    for _ in 0..20 {
        let digest = ready(api, hold).await;
        let done = execute(api, hold, &digest).await;
        if done.status < 300 {
            return;
        }
        assert_eq!(
            done.body["code"], "release_configuration_changed",
            "{}",
            done.text
        );
    }
    panic!("what had been under way is never written");
}
