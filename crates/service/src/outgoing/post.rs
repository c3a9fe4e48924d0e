//! Signs an event and sends it: one request, no redirect, a short time, and of the answer only the status.
//!
//! Where to is checked at every attempt: only what the operator granted at the start, and only over https
//! unless it is this machine itself.

use std::time::Duration;

use chrono::TimeDelta;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use tidegate_policy::time::Timestamp;

use super::event::{MEDIA_TYPE, Ready};
use crate::connector::ConfigError;
use crate::fetch::Fetcher;
use crate::signal::verify::Secret;
use crate::signal::verify::standard_webhooks::{self, Key};

/// How long one attempt may take, with everything.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// What an endpoint said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It got it.
    Delivered,
    /// There is nobody any more (410).
    Gone,
    /// It did not get it, or we cannot know.
    Failed {
        /// What was wrong.
        error: String,
        /// How long it wants to be left alone.
        asked: Option<TimeDelta>,
    },
}

impl Outcome {
    fn failed(error: impl Into<String>) -> Self {
        Self::Failed {
            error: error.into(),
            asked: None,
        }
    }
}

/// Reads an address and checks that it may be sent to.
///
/// # Errors
///
/// When it is no address, not granted, or not over https.
pub fn address(url: &str, fetch: &Fetcher) -> Result<Url, ConfigError> {
    fetch
        .may(url)
        .map_err(|error| ConfigError(error.to_string()))
}

/// Reads the keys that events are signed with: shared secrets of Standard Webhooks.
///
/// # Errors
///
/// When one is none.
pub fn secrets(texts: &[String]) -> Result<Vec<Secret>, ConfigError> {
    texts
        .iter()
        .map(|text| match Key::parse(text) {
            Ok(Key::Secret(secret)) => Ok(secret),
            Ok(Key::Public(_)) => Err(ConfigError(
                "events are signed with a `whsec_`, not with a public key".to_owned(),
            )),
            Err(error) => Err(ConfigError(error.to_string())),
        })
        .collect()
}

/// Sends an event once.
pub async fn post(
    (fetch, url): (&Fetcher, Url),
    secrets: &[Secret],
    ready: &Ready,
    now: Timestamp,
) -> Outcome {
    let body = ready.body.as_bytes();
    // One for each key: while keys are changed, the receiver knows one of them.
    let signatures: Vec<String> = secrets
        .iter()
        .map(|secret| standard_webhooks::sign(secret, &ready.id, now, body))
        .collect();
    // It connects to what was looked at and follows nothing: what was granted is this address.
    let Some(client) = fetch.client() else {
        return Outcome::failed("nothing may be reached from here");
    };
    let sent = client
        .post(url)
        .timeout(TIMEOUT)
        .header(CONTENT_TYPE, MEDIA_TYPE)
        .header(standard_webhooks::ID, &ready.id)
        .header(standard_webhooks::TIMESTAMP, now.timestamp().to_string())
        .header(standard_webhooks::SIGNATURE, signatures.join(" "))
        .body(ready.body.clone())
        .send()
        .await;
    // The body of the answer is never read: nothing in it is ours to know.
    let answer = match sent {
        Ok(answer) => answer,
        Err(error) => return Outcome::failed(reason(&error)),
    };
    let status = answer.status();
    if status.is_success() {
        return Outcome::Delivered;
    }
    if status == StatusCode::GONE {
        return Outcome::Gone;
    }
    let asked = answer.headers().get(RETRY_AFTER);
    let asked = asked.and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    Outcome::Failed {
        error: format!("it answered {}", status.as_u16()),
        asked: asked.map(|seconds| TimeDelta::seconds(i64::from(seconds))),
    }
}

/// Says what was wrong without the address, which is in the settings.
fn reason(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "it did not answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the request failed"
    };
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    let said = cause.map_or_else(String::new, |cause| format!(": {cause}"));
    let mut said = format!("{what}{said}");
    said.retain(|letter| !letter.is_control());
    said.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::Bounds;

    fn may(reach: &[&str], url: &str) -> bool {
        let reach: Vec<String> = reach.iter().map(|host| (*host).to_owned()).collect();
        address(url, &Fetcher::granting(&reach, Bounds::default()).unwrap()).is_ok()
    }

    #[test]
    fn nothing_is_reached_that_was_not_granted() {
        let reach = &[
            "hooks.example.org",
            "pager.example.org:8443",
            "127.0.0.1:9000",
        ][..];
        for (url, expected) in [
            ("https://hooks.example.org/a", true),
            ("https://HOOKS.example.org:443/a", true),
            ("https://pager.example.org:8443/", true),
            ("http://127.0.0.1:9000/", true),
            ("https://hooks.example.org:8443/", false),
            ("https://pager.example.org/", false),
            ("http://hooks.example.org/", false),
            ("http://127.0.0.1:9001/", false),
            ("http://localhost:9000/", false),
            ("http://2130706433:9000/", true),
            ("https://169.254.169.254/latest", false),
            ("https://evil.example.org/", false),
            ("https://hooks.example.org.evil.org/", false),
            ("https://hooks.example.org@evil.org/", false),
            ("https://ann:secret@hooks.example.org/", false),
            ("ftp://hooks.example.org/", false),
            ("file:///etc/shadow", false),
            ("hooks.example.org", false),
        ] {
            assert_eq!(may(reach, url), expected, "{url}");
            assert!(!may(&[], url), "nothing by itself: {url}");
        }
    }

    #[test]
    fn only_shared_secrets_sign() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned();
        assert_eq!(secrets(std::slice::from_ref(&secret)).unwrap().len(), 1);
        let public = format!("whpk_{}", "A".repeat(43) + "=");
        assert!(secrets(&[secret, public]).is_err());
        assert!(secrets(&["hunter2".to_owned()]).is_err());
    }
}
