//! Microsoft Graph 1.0: alerts of `security/alerts_v2`, and issues of `admin/serviceAnnouncement/issues`.
//!
//! Both come as a list with `@odata.nextLink`, or as one object. The enumerations of Graph grow, and its
//! documents disagree on some words: every word is accepted, and one that is in no table is unknown.
//!
//! An alert is about the tenant it was raised in. It is about one user (or one device) only when it names
//! exactly one; of several, no narrower subject than the tenant would be true. An issue of service health
//! is never about security, whatever it says: its kind is always `service_incident`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::field::{
    at, folded_text, items, label, label_of, reference, required_id, required_list, revision,
    set_products, severity_of,
};
use super::{Origin, Page, Unreadable, clipped, folded_list, json, text};
use crate::digest::Digest;
use crate::signal::{Dialect, Lifecycle, Severity, Signal, SignalKind, Subject, folded};

/// The most objects of one page. Graph sends 2,000 alerts at most, and fewer issues.
pub const OBJECTS_MAX: usize = 5_000;
/// The longest link to a next page, in bytes.
const LINK_MAX: usize = 8192;
/// The vendor of what a source without one of its own reports.
const VENDOR: &str = "microsoft";

/// Reads one object into a signal.
type ReadOne = fn(&Value, &str, &Origin, Digest) -> Result<Signal, Unreadable>;

/// Reads a page of alerts, or one alert.
///
/// # Errors
///
/// When it is no JSON object, or has too many alerts. An alert that cannot be read is listed in the page
/// instead, and hides none of the others.
pub fn alerts(body: &[u8], origin: &Origin) -> Result<Page, Unreadable> {
    page(body, origin, alert)
}

/// Reads a page of service health issues, or one issue.
///
/// # Errors
///
/// When it is no JSON object, or has too many issues. An issue that cannot be read is listed in the page
/// instead, and hides none of the others.
pub fn issues(body: &[u8], origin: &Origin) -> Result<Page, Unreadable> {
    page(body, origin, issue)
}

fn page(body: &[u8], origin: &Origin, read: ReadOne) -> Result<Page, Unreadable> {
    let whole = json(body)?;
    if !whole.is_object() {
        return Err(Unreadable::new("field_invalid", "this must be an object"));
    }
    let raw = Digest::of(body);
    let mut page = Page::default();
    if whole.get("value").is_none() && whole.get("id").is_some() {
        page.signals.push(read(&whole, "", origin, raw)?);
        return Ok(page);
    }
    let list = required_list(&whole, "value", "", OBJECTS_MAX)?;
    page.next = match whole.get("@odata.nextLink") {
        None | Some(Value::Null) => None,
        Some(Value::String(link)) if (1..=LINK_MAX).contains(&link.len()) => Some(link.clone()),
        // To go on without it would leave the rest unread and call it all.
        Some(_) => return Err(Unreadable::field("@odata.nextLink", "a link")),
    };
    page.more = page.next.is_some();
    for (index, one) in list.iter().enumerate() {
        match read(one, &format!("value[{index}]"), origin, raw) {
            Ok(signal) => page.signals.push(signal),
            Err(refused) => page.refused.push(refused),
        }
    }
    Ok(page)
}

fn alert(alert: &Value, path: &str, origin: &Origin, raw: Digest) -> Result<Signal, Unreadable> {
    let id = required_id(alert, "id", path)?;
    let mut signal = origin.signal(Dialect::GraphAlert, id, raw);
    signal.vendor.get_or_insert_with(|| VENDOR.to_owned());
    signal.kind = alert_kind(alert);
    signal.severity = text(alert, "severity").map_or(Severity::Unknown, severity_of);
    signal.severity_raw = text(alert, "severity").map(clipped);
    signal.lifecycle = alert_lifecycle(alert);
    signal.revision = revision(alert, "lastUpdateDateTime");
    signal.title = text(alert, "title").map(clipped).unwrap_or_default();
    signal.issued_at = at(alert, "lastUpdateDateTime").or_else(|| at(alert, "createdDateTime"));
    signal.occurred_at = at(alert, "firstActivityDateTime");
    signal.subject = subject(alert);
    for (prefix, name) in [
        ("category", "category"),
        ("classification", "classification"),
        ("determination", "determination"),
        ("service", "serviceSource"),
        ("detection", "detectionSource"),
        ("incident", "incidentId"),
        ("actor", "actorDisplayName"),
    ] {
        label_of(&mut signal, prefix, alert, name);
    }
    for technique in folded_list(alert.get("mitreTechniques")) {
        label(&mut signal, &technique);
    }
    for name in ["alertWebUrl", "incidentWebUrl"] {
        reference(&mut signal, text(alert, name).unwrap_or_default());
    }
    Ok(signal)
}

/// Returns a word of an enumeration in the form that the tables have: members are written in several ways,
/// and categories with blanks in them.
fn word(object: &Value, name: &str) -> String {
    let written = folded(text(object, name).unwrap_or_default());
    written.replace([' ', '_', '-'], "")
}

/// What is said of the truth of an alert goes before what is said of the work on it.
fn alert_lifecycle(alert: &Value) -> Lifecycle {
    if word(alert, "determination") == "securitytesting" {
        return Lifecycle::Test;
    }
    if word(alert, "classification") == "falsepositive" {
        return Lifecycle::FalsePositive;
    }
    match word(alert, "status").as_str() {
        "new" => Lifecycle::Opened,
        "inprogress" => Lifecycle::Updated,
        "resolved" => Lifecycle::Closed,
        _ => Lifecycle::Unknown,
    }
}

/// What an analyst determined goes before the category of the detection.
fn alert_kind(alert: &Value) -> SignalKind {
    match word(alert, "determination").as_str() {
        // The reference has one name in the table and the other in the description.
        "compromisedaccount" | "compromiseduser" => return SignalKind::AccountCompromise,
        "apt" => return SignalKind::ThreatActivity,
        _ => {}
    }
    match word(alert, "category").as_str() {
        "compromisedaccount" | "compromiseduser" | "accountcompromise" => {
            SignalKind::AccountCompromise
        }
        "credentialaccess" | "credentialstealing" | "credentialtheft" => {
            SignalKind::CredentialCompromise
        }
        _ => SignalKind::Detection,
    }
}

fn subject(alert: &Value) -> Subject {
    let (mut users, mut devices) = (BTreeSet::new(), BTreeSet::new());
    for evidence in items(alert, "evidence") {
        if let Some(account) = evidence.get("userAccount") {
            let names = ["userPrincipalName", "azureAdUserId", "accountName"];
            users.extend(names.iter().find_map(|name| folded_text(account, name)));
        }
        let names = ["azureAdDeviceId", "mdeDeviceId", "deviceDnsName"];
        devices.extend(names.iter().find_map(|name| folded_text(evidence, name)));
    }
    let user = only(users);
    Subject {
        tenant: folded_text(alert, "tenantId"),
        // A user and a device together would be that user there, which is less than either.
        device: only(devices).filter(|_| user.is_none()),
        user,
        ..Subject::default()
    }
}

fn only(names: BTreeSet<String>) -> Option<String> {
    let mut names = names.into_iter();
    let first = names.next();
    first.filter(|_| names.next().is_none())
}

fn issue(issue: &Value, path: &str, origin: &Origin, raw: Digest) -> Result<Signal, Unreadable> {
    let id = required_id(issue, "id", path)?;
    let mut signal = origin.signal(Dialect::GraphHealth, id, raw);
    signal.vendor.get_or_insert_with(|| VENDOR.to_owned());
    signal.kind = SignalKind::ServiceIncident;
    let (lifecycle, severity) = health_status(&word(issue, "status"));
    signal.lifecycle = match issue.get("isResolved").and_then(Value::as_bool) {
        // Taken back is more than resolved.
        _ if lifecycle == Lifecycle::FalsePositive => lifecycle,
        Some(true) => Lifecycle::Closed,
        // A status that sounds like an end does not outweigh the field that says there is none.
        Some(false) if lifecycle == Lifecycle::Closed => Lifecycle::Updated,
        Some(false) | None => lifecycle,
    };
    signal.severity = severity;
    signal.severity_raw = text(issue, "status").map(clipped);
    signal.revision = revision(issue, "lastModifiedDateTime");
    signal.title = text(issue, "title").map(clipped).unwrap_or_default();
    signal.issued_at = at(issue, "lastModifiedDateTime");
    signal.occurred_at = at(issue, "startDateTime");
    set_products(
        &mut signal,
        folded_text(issue, "service").into_iter().collect(),
    );
    for (prefix, name) in [
        ("classification", "classification"),
        ("status", "status"),
        ("origin", "origin"),
        ("feature", "feature"),
        ("feature_group", "featureGroup"),
    ] {
        label_of(&mut signal, prefix, issue, name);
    }
    Ok(signal)
}

/// Returns where an issue stands, and how bad it is, by the 17 values of `serviceHealthStatus`.
fn health_status(status: &str) -> (Lifecycle, Severity) {
    match status {
        "investigating" | "confirmed" | "reported" => (Lifecycle::Opened, Severity::Unknown),
        "servicedegradation" => (Lifecycle::Opened, Severity::Medium),
        "serviceinterruption" => (Lifecycle::Opened, Severity::High),
        "restoringservice" | "extendedrecovery" => (Lifecycle::Updated, Severity::Medium),
        "verifyingservice" | "mitigated" | "mitigatedexternal" => {
            (Lifecycle::Updated, Severity::Low)
        }
        "investigationsuspended" => (Lifecycle::Updated, Severity::Unknown),
        "serviceoperational"
        | "servicerestored"
        | "postincidentreviewpublished"
        | "resolved"
        | "resolvedexternal" => (Lifecycle::Closed, Severity::Info),
        "falsepositive" => (Lifecycle::FalsePositive, Severity::Info),
        _ => (Lifecycle::Unknown, Severity::Unknown),
    }
}

#[cfg(test)]
mod tests;
