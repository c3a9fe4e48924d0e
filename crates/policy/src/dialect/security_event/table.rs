//! What each type of event of CAEP and RISC means here.
//!
//! An event that says that something got better, or that all is as usual, is `closed`: it may be looked at, and
//! never begins or ends a hold. A severity is set where the type or the event says one; the others are unknown,
//! and a rule says what to make of that. A type that is not known is admitted as `other`.

use serde_json::Value;

use super::subject::Principal;
use crate::dialect::report::{line, word};
use crate::dialect::text;
use crate::signal::{Lifecycle, Severity, Signal, SignalKind, folded};

/// Where the types of the stream itself are.
pub(super) const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";
const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";

/// What an event means.
type Meaning = (SignalKind, Severity, Lifecycle);

/// Says what a simple subject of an event identifies.
pub(super) fn principal(event_type: &str, event: &Value) -> Principal {
    match event_type.strip_prefix(CAEP) {
        Some("device-compliance-change") => Principal::Device,
        Some("session-established" | "session-presented") => Principal::User,
        Some("risk-level-change") => match text(event, "principal").map(folded).as_deref() {
            Some("device") => Principal::Device,
            Some("session") => Principal::Session,
            Some("tenant") => Principal::Tenant,
            Some("org_unit") => Principal::OrgUnit,
            Some("group") => Principal::Group,
            _ => Principal::User,
        },
        _ => Principal::User,
    }
}

/// Writes what an event means into its signal.
pub(super) fn apply(signal: &mut Signal, event_type: &str, event: &Value) {
    let caep = event_type.strip_prefix(CAEP).map(|name| (name, "caep"));
    let risc = event_type.strip_prefix(RISC).map(|name| (name, "risc"));
    let (name, family) = caep.or(risc).unwrap_or((event_type, "event"));
    let unknown = (SignalKind::Other, Severity::Unknown, Lifecycle::Opened);
    let meaning = match family {
        "caep" => of_caep(name, event),
        "risc" => of_risc(name, event),
        _ => None,
    };
    (signal.kind, signal.severity, signal.lifecycle) = meaning.unwrap_or(unknown);
    signal.severity_raw = word(event.get("current_level"));
    signal.title = title(name, family, event);
    signal
        .labels
        .insert(folded(&line(&format!("{family}:{name}"))));
    let said = [
        "initiating_entity",
        "reason",
        "credential_type",
        "change_type",
    ];
    for member in said {
        if let Some(said) = text(event, member) {
            signal
                .labels
                .insert(folded(&line(&format!("{member}:{said}"))));
        }
    }
}

fn of_caep(name: &str, event: &Value) -> Option<Meaning> {
    use Lifecycle::{Closed, Opened};
    let meaning = match name {
        "session-revoked" => (SignalKind::SessionTheft, Severity::Unknown, Opened),
        "token-claims-change" => (SignalKind::Other, Severity::Info, Opened),
        "credential-change" => (SignalKind::Other, Severity::Unknown, Opened),
        "session-established" | "session-presented" => (SignalKind::Other, Severity::Info, Closed),
        "risk-level-change" => risk(event),
        "assurance-level-change" => match text(event, "change_direction") {
            Some("increase") => (SignalKind::RiskChange, Severity::Info, Closed),
            _ => (SignalKind::RiskChange, Severity::Unknown, Opened),
        },
        "device-compliance-change" => match text(event, "current_status") {
            Some("compliant") => (SignalKind::DeviceNoncompliance, Severity::Info, Closed),
            Some("not-compliant") => (SignalKind::DeviceNoncompliance, Severity::Medium, Opened),
            _ => (SignalKind::DeviceNoncompliance, Severity::Unknown, Opened),
        },
        _ => return None,
    };
    Some(meaning)
}

fn of_risc(name: &str, event: &Value) -> Option<Meaning> {
    use Lifecycle::{Closed, Opened};
    let meaning = match name {
        "credential-compromise" => (SignalKind::CredentialCompromise, Severity::High, Opened),
        "account-credential-change-required" => {
            (SignalKind::CredentialCompromise, Severity::Medium, Opened)
        }
        "account-disabled" => match text(event, "reason") {
            Some("hijacking") => (SignalKind::AccountCompromise, Severity::High, Opened),
            Some("bulk-account") => (SignalKind::AccountCompromise, Severity::Medium, Opened),
            _ => (SignalKind::AccountCompromise, Severity::Unknown, Opened),
        },
        "account-enabled" => (SignalKind::AccountCompromise, Severity::Info, Closed),
        "sessions-revoked" => (SignalKind::SessionTheft, Severity::Unknown, Opened),
        "account-purged"
        | "identifier-changed"
        | "identifier-recycled"
        | "opt-in"
        | "opt-out-initiated"
        | "opt-out-cancelled"
        | "opt-out-effective"
        | "recovery-information-changed" => (SignalKind::Other, Severity::Info, Opened),
        "recovery-activated" => (SignalKind::Other, Severity::Low, Opened),
        _ => return None,
    };
    Some(meaning)
}

/// Reads a change of risk. One to a lower level is `closed`, and so is one to the lowest that says nothing
/// of the level before: it cannot have got worse. The same level again is news of what was reported before.
fn risk(event: &Value) -> Meaning {
    let level = |name: &str| match text(event, name).map(folded).as_deref() {
        Some("low") => Severity::Low,
        Some("medium") => Severity::Medium,
        Some("high") => Severity::High,
        _ => Severity::Unknown,
    };
    let (current, previous) = (level("current_level"), level("previous_level"));
    let lifecycle = match (current, previous) {
        (Severity::Unknown, _) => Lifecycle::Unknown,
        (Severity::Low, Severity::Unknown) => Lifecycle::Closed,
        (_, Severity::Unknown) => Lifecycle::Opened,
        (current, previous) if current < previous => Lifecycle::Closed,
        (current, previous) if current == previous => Lifecycle::Updated,
        (_, _) => Lifecycle::Opened,
    };
    (SignalKind::RiskChange, current, lifecycle)
}

/// Says in one line what happened: its type, and the reason where one is given. Of a reason in several
/// languages the English one, or else the first.
fn title(name: &str, family: &str, event: &Value) -> String {
    let for_admins = event.get("reason_admin");
    let in_a_language = for_admins.and_then(Value::as_object).and_then(|reasons| {
        let reason = reasons.get("en").or_else(|| reasons.values().next());
        reason.and_then(Value::as_str)
    });
    let reason = text(event, "risk_reason")
        .or(for_admins.and_then(Value::as_str))
        .or(in_a_language);
    match reason {
        Some(reason) => line(&format!("{family} {name}: {reason}")),
        None => line(&format!("{family} {name}")),
    }
}
