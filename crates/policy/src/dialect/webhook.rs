//! Webhook bodies: Standard Webhooks 1.0, GitHub, and the way of Stripe.
//!
//! The signature was checked by somebody else, over the raw bytes. Trust that follows from the profile:
//! Standard Webhooks and Stripe give `signed_fresh` (id or instant are under the signature), GitHub gives
//! `signed` (neither its delivery id nor any instant is), so a body of GitHub is known by its own digest.
//! GitHub's event name is not under the signature either: it is believed only when the body holds what an
//! event of that name holds. Next: `report`, which reads what is inside the first and the last.

use serde_json::{Map, Value};

use super::report::{self, Envelope, line};
use super::{LIST_MAX, Origin, Unreadable, clipped, instant, json, text};
use crate::digest::Digest;
use crate::signal::{Dialect, Lifecycle, Severity, Signal, SignalKind, folded};
use crate::time::Timestamp;

/// Reads a body of Standard Webhooks, `{type, timestamp, data}`; `id` is its `webhook-id`.
///
/// # Errors
///
/// When it is no JSON object, or what is in it cannot be read.
pub fn standard(body: &[u8], id: &str, origin: &Origin) -> Result<Signal, Unreadable> {
    let message = json(body)?;
    let envelope = Envelope {
        dialect: Dialect::StandardWebhooks,
        external_id: id,
        event_type: text(&message, "type"),
        issued_at: instant(&message, "timestamp"),
        raw: Digest::of(body),
    };
    // The form is advice and not law: where there is no `data`, the body is the report.
    let data = message.get("data").filter(|data| data.is_object());
    report::read(data.unwrap_or(&message), &envelope, origin)
}

/// Reads a body in the way of Stripe, `{id, type, created, livemode, data: {object}}`.
///
/// # Errors
///
/// When it is no JSON, has no id, or what is in it cannot be read.
pub fn stripe(body: &[u8], origin: &Origin) -> Result<Signal, Unreadable> {
    let event = json(body)?;
    let created = event.get("created").and_then(Value::as_i64);
    let envelope = Envelope {
        dialect: Dialect::Stripe,
        external_id: text(&event, "id").ok_or_else(|| Unreadable::field("id", "a text"))?,
        event_type: text(&event, "type"),
        issued_at: created.and_then(|at| Timestamp::from_timestamp(at, 0)),
        raw: Digest::of(body),
    };
    let nothing = Value::Object(Map::new());
    let object = event.get("data").and_then(|data| data.get("object"));
    let mut signal = report::read(object.unwrap_or(&nothing), &envelope, origin)?;
    if event.get("livemode").and_then(Value::as_bool) == Some(false) {
        signal.lifecycle = Lifecycle::Test;
    }
    Ok(signal)
}

/// Where the matter of a GitHub event is in its body, and how it is read.
#[derive(Debug, Clone, Copy)]
enum Matter {
    /// An advisory, under this name.
    Advisory(&'static str),
    /// A secret that was found.
    Secret,
    /// What a scan of code found.
    Code,
    /// A dependency with a known weakness.
    Dependency,
    /// A test of the connection.
    Ping,
    /// Anything else.
    Other,
}

impl Matter {
    fn of(event: &str) -> Self {
        match event {
            "repository_advisory" => Self::Advisory("repository_advisory"),
            "security_advisory" => Self::Advisory("security_advisory"),
            "secret_scanning_alert" | "secret_scanning_alert_location" => Self::Secret,
            "code_scanning_alert" => Self::Code,
            "dependabot_alert" => Self::Dependency,
            "ping" => Self::Ping,
            _ => Self::Other,
        }
    }

    const fn kind(self) -> SignalKind {
        match self {
            Self::Advisory(_) | Self::Code | Self::Dependency => SignalKind::Vulnerability,
            Self::Secret => SignalKind::CredentialCompromise,
            Self::Ping | Self::Other => SignalKind::Other,
        }
    }

    /// The member of the body that the event is about.
    const fn member(self) -> Option<&'static str> {
        match self {
            Self::Advisory(member) => Some(member),
            Self::Secret | Self::Code | Self::Dependency => Some("alert"),
            Self::Ping => Some("zen"),
            Self::Other => None,
        }
    }
}

/// Reads a GitHub event of the name that its header gave.
///
/// # Errors
///
/// When it is no JSON object, or does not hold what an event of that name holds.
pub fn github(body: &[u8], event: &str, origin: &Origin) -> Result<Signal, Unreadable> {
    let message = json(body)?;
    if !message.is_object() {
        return Err(Unreadable::field("body", "an object"));
    }
    let raw = Digest::of(body);
    let mut signal = origin.signal(Dialect::Github, &raw.to_string(), raw);
    let event = folded(&clipped(event));
    let matter = Matter::of(&event);
    let about = match matter.member() {
        None => &message,
        Some(member) => message.get(member).ok_or_else(|| {
            let sentence = format!("an event `{event}` must have `{member}`");
            Unreadable::new("event_mismatch", sentence)
        })?,
    };
    let action = text(&message, "action");
    signal.kind = matter.kind();
    signal.lifecycle = github_lifecycle(matter, action, about);
    signal.subject.tenant = owner(&message);
    signal.labels.insert(format!("event:{event}"));
    if let Some(action) = action {
        signal
            .labels
            .insert(format!("action:{}", folded(&clipped(action))));
    }
    match matter {
        Matter::Advisory(_) => advisory(&mut signal, about),
        Matter::Secret => secret(&mut signal, about),
        Matter::Code => code(&mut signal, about),
        Matter::Dependency => dependency(&mut signal, about),
        Matter::Ping | Matter::Other => {}
    }
    if signal.title.is_empty() {
        signal.title = line(&format!("{event} {}", action.unwrap_or_default()));
    }
    if let Some(url) = text(about, "html_url") {
        signal.references.push(line(url));
    }
    signal.revision = text(about, "updated_at").map(line);
    signal.issued_at = instant(about, "updated_at");
    Ok(signal)
}

/// Maps an action to where the matter stands. What the alert says of itself goes before the action: one
/// that was dismissed as a false positive says so in the alert alone.
fn github_lifecycle(matter: Matter, action: Option<&str>, about: &Value) -> Lifecycle {
    let why = text(about, "resolution").or_else(|| text(about, "dismissed_reason"));
    let acted = match matter {
        Matter::Ping => return Lifecycle::Test,
        Matter::Other => return Lifecycle::Opened,
        Matter::Advisory(_) | Matter::Secret | Matter::Code | Matter::Dependency => action,
    };
    let stands = match acted {
        None => Lifecycle::Opened,
        Some("published" | "reported" | "created" | "appeared_in_branch") => Lifecycle::Opened,
        Some("reopened" | "reopened_by_user" | "auto_reopened" | "reintroduced") => {
            Lifecycle::Opened
        }
        Some(
            "updated" | "performed" | "validated" | "publicly_leaked" | "assigned" | "unassigned"
            | "assignees_changed" | "updated_assignment",
        ) => Lifecycle::Updated,
        Some("resolved" | "fixed" | "closed_by_user" | "dismissed" | "auto_dismissed") => {
            Lifecycle::Closed
        }
        Some("withdrawn") => Lifecycle::Withdrawn,
        Some(_) => Lifecycle::Unknown,
    };
    match (stands, why.map(folded).as_deref()) {
        (Lifecycle::Closed, Some("false_positive" | "false positive" | "inaccurate")) => {
            Lifecycle::FalsePositive
        }
        (Lifecycle::Closed, Some("used_in_tests" | "used in tests")) => Lifecycle::Test,
        (stands, _) => stands,
    }
}

fn owner(message: &Value) -> Option<String> {
    let organization = message.get("organization");
    let repository = message.get("repository").and_then(|one| one.get("owner"));
    let login = organization
        .or(repository)
        .and_then(|one| text(one, "login"))?;
    Some(line(login)).filter(|login| !login.is_empty())
}

fn advisory(signal: &mut Signal, about: &Value) {
    rate(signal, text(about, "severity"));
    identify(signal, about);
    let listed = about.get("vulnerabilities").and_then(Value::as_array);
    let packages = listed.into_iter().flatten().filter_map(package);
    replace_products(signal, packages.take(LIST_MAX).collect());
    signal.title = line(text(about, "summary").unwrap_or_default());
    signal.occurred_at = instant(about, "published_at");
    let is_taken_back = about.get("withdrawn_at").is_some_and(|at| !at.is_null());
    if is_taken_back {
        signal.lifecycle = Lifecycle::Withdrawn;
    }
}

/// GitHub gives a secret no severity: whether it is worth anything is what `validity` says, as a label.
fn secret(signal: &mut Signal, about: &Value) {
    for name in ["secret_type", "validity"] {
        if let Some(said) = text(about, name) {
            signal
                .labels
                .insert(format!("{name}:{}", folded(&clipped(said))));
        }
    }
    signal.title = line(text(about, "secret_type_display_name").unwrap_or_default());
    signal.occurred_at = instant(about, "created_at");
}

fn code(signal: &mut Signal, about: &Value) {
    let rule = about.get("rule");
    let of_rule = |name: &str| rule.and_then(|rule| text(rule, name));
    // `severity` of a rule is how a compiler would put it (`error`, `warning`, `note`), not how bad it is.
    rate(signal, of_rule("security_severity_level"));
    signal.title = line(of_rule("description").unwrap_or_default());
    signal.occurred_at = instant(about, "created_at");
}

fn dependency(signal: &mut Signal, about: &Value) {
    if let Some(named) = about.get("security_advisory") {
        rate(signal, text(named, "severity"));
        identify(signal, named);
        signal.title = line(text(named, "summary").unwrap_or_default());
    }
    let named = about.get("dependency").and_then(package);
    replace_products(signal, named.into_iter().collect());
    signal.occurred_at = instant(about, "created_at");
}

fn rate(signal: &mut Signal, said: Option<&str>) {
    signal.severity = said.map_or(Severity::Unknown, report::severity_of);
    signal.severity_raw = said.map(line);
}

fn identify(signal: &mut Signal, about: &Value) {
    let ids = ["ghsa_id", "cve_id"].map(|name| text(about, name));
    let kept = ids.into_iter().flatten().map(|id| folded(&clipped(id)));
    signal.labels.extend(kept.filter(|id| !id.is_empty()));
}

fn package(listed: &Value) -> Option<String> {
    let name = text(listed.get("package")?, "name")?;
    Some(folded(&clipped(name))).filter(|name| !name.is_empty())
}

fn replace_products(signal: &mut Signal, named: Vec<String>) {
    if !named.is_empty() {
        signal.products = named.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::dialect::report::tests::origin;

    fn read_github(event: &str, body: &Value) -> Signal {
        github(body.to_string().as_bytes(), event, &origin()).unwrap()
    }

    #[test]
    fn the_type_of_a_standard_webhook_is_the_kind_of_its_data() {
        let body = json!({
            "type": "security.vendor_breach", "timestamp": "2024-01-19T21:00:00.5Z",
            "data": {"severity": "high", "title": "mail of leaders was read"},
        });
        let signal = standard(body.to_string().as_bytes(), "msg_1", &origin()).unwrap();
        assert_eq!(signal.kind, SignalKind::VendorBreach);
        assert_eq!(signal.severity, Severity::High);
        assert_eq!(signal.external_id, "msg_1");
        assert!(signal.issued_at.is_some());
    }

    #[test]
    fn a_standard_webhook_without_data_is_the_report_itself() {
        let signal = standard(br#"{"type":"x.directive","data":7}"#, "m", &origin()).unwrap();
        assert_eq!(signal.kind, SignalKind::Directive);
        assert!(standard(b"[]", "m", &origin()).is_err());
    }

    #[test]
    fn an_event_of_test_mode_is_an_exercise() {
        let mut body = json!({
            "id": "evt_1", "type": "x.detection", "created": 1_706_000_000, "livemode": true,
            "data": {"object": {"severity": "critical"}},
        });
        let signal = stripe(body.to_string().as_bytes(), &origin()).unwrap();
        assert_eq!(signal.kind, SignalKind::Detection);
        assert_eq!(signal.lifecycle, Lifecycle::Opened);
        assert_eq!(
            signal.issued_at,
            Timestamp::from_timestamp(1_706_000_000, 0)
        );
        body["livemode"] = json!(false);
        let signal = stripe(body.to_string().as_bytes(), &origin()).unwrap();
        assert!(!signal.lifecycle.can_tighten());
        assert!(stripe(b"{}", &origin()).is_err(), "it has no id");
    }

    #[test]
    fn an_advisory_of_github_is_a_vulnerability_of_its_packages() {
        let signal = read_github(
            "security_advisory",
            &json!({"action": "published", "security_advisory": {
                "ghsa_id": "GHSA-aaaa", "cve_id": "CVE-2024-1", "severity": "moderate",
                "summary": "a hole", "published_at": "2024-01-01T00:00:00Z",
                "updated_at": "2024-01-02T00:00:00Z", "withdrawn_at": null,
                "vulnerabilities": [{"package": {"ecosystem": "npm", "name": "Left-Pad"}}],
            }}),
        );
        assert_eq!(signal.kind, SignalKind::Vulnerability);
        assert_eq!(signal.severity, Severity::Medium);
        assert_eq!(signal.products.iter().collect::<Vec<_>>(), ["left-pad"]);
        assert!(signal.labels.contains("cve-2024-1"));
        assert_eq!(signal.revision.as_deref(), Some("2024-01-02T00:00:00Z"));
    }

    #[test]
    fn a_secret_in_the_open_is_a_credential_in_other_hands_until_it_is_no_more() {
        let body = |action: &str, resolution: Value| {
            json!({"action": action, "organization": {"login": "Octo"},
                "alert": {"secret_type": "aws_key", "resolution": resolution}})
        };
        let signal = read_github("secret_scanning_alert", &body("created", Value::Null));
        assert_eq!(signal.kind, SignalKind::CredentialCompromise);
        assert_eq!(signal.subject.tenant.as_deref(), Some("Octo"));
        assert_eq!(signal.severity, Severity::Unknown, "github does not say");
        let resolved = body("resolved", json!("false_positive"));
        let signal = read_github("secret_scanning_alert", &resolved);
        assert_eq!(signal.lifecycle, Lifecycle::FalsePositive);
        let signal = read_github("secret_scanning_alert", &body("teleported", Value::Null));
        assert_eq!(signal.lifecycle, Lifecycle::Unknown);
    }

    #[test]
    fn alerts_of_code_and_dependencies_are_rated_by_their_advisory() {
        let code = json!({"action": "created", "alert": {"rule": {
            "severity": "error", "security_severity_level": "high", "description": "a hole"}}});
        assert_eq!(
            read_github("code_scanning_alert", &code).severity,
            Severity::High
        );
        let alert = json!({"action": "fixed", "alert": {
            "security_advisory": {"severity": "critical"},
            "dependency": {"package": {"name": "lodash"}}}});
        let signal = read_github("dependabot_alert", &alert);
        assert_eq!(signal.severity, Severity::Critical);
        assert_eq!(signal.lifecycle, Lifecycle::Closed);
    }

    #[test]
    fn a_replayed_github_body_is_known_by_its_digest() {
        let body = json!({"action": "member_removed"});
        let (first, again) = (
            read_github("organization", &body),
            read_github("star", &body),
        );
        assert_eq!(first.external_id, again.external_id);
        assert_eq!(first.kind, SignalKind::Other);
    }

    #[test]
    fn a_body_under_the_name_of_another_event_is_refused() {
        let refused = github(br#"{"zen":"a"}"#, "security_advisory", &origin()).unwrap_err();
        assert_eq!(refused.code, "event_mismatch");
        let ping = github(br#"{"zen":"a"}"#, "ping", &origin()).unwrap();
        assert_eq!(ping.lifecycle, Lifecycle::Test);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in any::<Vec<u8>>(), event in ".*") {
            let _ = standard(&body, &event, &origin());
            let _ = github(&body, &event, &origin());
            let _ = stripe(&body, &origin());
        }
    }
}
