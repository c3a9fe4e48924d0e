//! Findings of the Open Cybersecurity Schema Framework (1.0 to 1.9): Detection Finding 2004 and Incident
//! Finding 2005.
//!
//! Numbers here are names, not ranks: 99 is "other" and no worse than 6, which is fatal. So each is mapped
//! by table, and one that is in no table is unknown. Only the arithmetic of the class is held strictly:
//! `type_uid` is the class times 100 and the activity, and what does not add up is some other event.
//!
//! Two things are not what they seem. `metadata.product.vendor_name` is who made the sensor, not whom the
//! finding is about: it is a label, and the vendor is the one of the source. And `is_suspected_breach` says
//! that somebody was broken into, mostly whoever runs the sensor: it is a breach of the vendor only when
//! the finding says that the organisation it was found in (`cloud.org.name`) is the vendor of the source.
//! Else it is a label too, and the kind stays what it was.

use serde_json::Value;

use super::field::{
    at_millis, at_most, confidence, folded_text, items, join, label, label_of, reference, required,
    required_id, required_list,
};
use super::{Origin, Unreadable, clipped, json, text};
use crate::digest::Digest;
use crate::signal::{Dialect, Lifecycle, Severity, Signal, SignalKind, Subject, folded};

/// The most findings of one document.
pub const FINDINGS_MAX: usize = 1000;

const CATEGORY_FINDINGS: i64 = 2;
const DETECTION: i64 = 2004;
const INCIDENT: i64 = 2005;
/// The tactic of ATT&CK that is about stealing credentials.
const CREDENTIAL_ACCESS: &str = "TA0006";

/// Reads one finding, or a list of them.
///
/// Whoever sends findings hears that one of them is wrong, so all of them are refused together.
///
/// # Errors
///
/// When it is no JSON, a finding is of another class, does not add up or has not what is required, or there
/// are too many.
pub fn read(body: &[u8], origin: &Origin) -> Result<Vec<Signal>, Unreadable> {
    let whole = json(body)?;
    let raw = Digest::of(body);
    let Value::Array(list) = &whole else {
        return Ok(vec![finding(&whole, "", origin, raw)?]);
    };
    at_most(list.len(), FINDINGS_MAX)?;
    let read = |(index, one)| finding(one, &format!("[{index}]"), origin, raw);
    list.iter().enumerate().map(read).collect()
}

fn finding(
    finding: &Value,
    path: &str,
    origin: &Origin,
    raw: Digest,
) -> Result<Signal, Unreadable> {
    let (class, activity) = class_and_activity(finding, path)?;
    let severity_id = number(finding, "severity_id", path)?;
    let time = finding.get("time").and_then(Value::as_number);
    let time = time.ok_or_else(|| Unreadable::field(&join(path, "time"), "milliseconds"))?;
    let absent = Value::Null;
    let metadata = finding.get("metadata").unwrap_or(&absent);
    let metadata_path = join(path, "metadata");
    required(metadata, "version", &metadata_path)?;
    let product = metadata
        .get("product")
        .filter(|product| product.is_object());
    let product =
        product.ok_or_else(|| Unreadable::field(&join(&metadata_path, "product"), "an object"))?;
    let info = info(finding, class, path)?;

    let mut signal = origin.signal(Dialect::Ocsf, info.id, raw);
    // Two events of one finding in one millisecond are told apart by what they do.
    signal.revision = Some(clipped(&format!("{time}.{activity}")));
    signal.kind = kind(finding, origin);
    signal.severity = severity(severity_id);
    signal.severity_raw =
        Some(text(finding, "severity").map_or_else(|| severity_id.to_string(), clipped));
    signal.lifecycle = lifecycle(finding, class, activity);
    signal.confidence = confidence(finding, "confidence_score").or_else(|| confidence_of(finding));
    signal.issued_at = time.as_i64().and_then(at_millis);
    let first = info.object.get("first_seen_time").and_then(Value::as_i64);
    signal.occurred_at = first.and_then(at_millis);
    let title = text(info.object, "title").or_else(|| text(finding, "message"));
    signal.title = title.map(clipped).unwrap_or_default();
    signal.subject = subject(finding, metadata);
    label_of(&mut signal, "sensor", product, "vendor_name");
    label_of(&mut signal, "sensor_product", product, "name");
    for (name, says) in [
        ("is_alert", "alert"),
        ("is_suspected_breach", "suspected_breach"),
    ] {
        if is_true(finding, name) {
            label(&mut signal, says);
        }
    }
    for one in items(finding, "vulnerabilities") {
        let cve = one.get("cve").and_then(|cve| text(cve, "uid"));
        label(&mut signal, cve.unwrap_or_default());
    }
    for link in [text(finding, "src_url"), text(info.object, "src_url")] {
        reference(&mut signal, link.unwrap_or_default());
    }
    Ok(signal)
}

/// Reads what the event is, and checks that its numbers belong together.
fn class_and_activity(finding: &Value, path: &str) -> Result<(i64, i64), Unreadable> {
    let class = number(finding, "class_uid", path)?;
    let activity = number(finding, "activity_id", path)?;
    let category = number(finding, "category_uid", path)?;
    let kind = number(finding, "type_uid", path)?;
    if class != DETECTION && class != INCIDENT {
        let sentence = format!("class {class} is neither {DETECTION} nor {INCIDENT}");
        return Err(Unreadable::new("class_unknown", sentence));
    }
    let expected = class
        .checked_mul(100)
        .and_then(|kind| kind.checked_add(activity));
    if category != CATEGORY_FINDINGS || Some(kind) != expected || !(0..100).contains(&activity) {
        let sentence = format!(
            "category {category}, class {class}, activity {activity} and type {kind} do not add up"
        );
        return Err(Unreadable::new("type_differs", sentence));
    }
    Ok((class, activity))
}

fn number(finding: &Value, name: &str, path: &str) -> Result<i64, Unreadable> {
    let number = finding.get(name).and_then(Value::as_i64);
    number.ok_or_else(|| Unreadable::field(&join(path, name), "a whole number"))
}

fn number_if_any(finding: &Value, name: &str) -> Option<i64> {
    finding.get(name).and_then(Value::as_i64)
}

fn is_true(finding: &Value, name: &str) -> bool {
    finding.get(name).and_then(Value::as_bool) == Some(true)
}

/// What identifies a finding, and the object that says it.
struct Info<'a> {
    id: &'a str,
    object: &'a Value,
}

/// A detection says its id. An incident has none that stays the same from event to event: it is known by the
/// first finding it lists.
fn info<'a>(finding: &'a Value, class: i64, path: &str) -> Result<Info<'a>, Unreadable> {
    let (object, path) = if class == INCIDENT && finding.get("finding_info_list").is_some() {
        let list = required_list(finding, "finding_info_list", path, FINDINGS_MAX)?;
        (list.first(), join(path, "finding_info_list[0]"))
    } else {
        (finding.get("finding_info"), join(path, "finding_info"))
    };
    let object = object.ok_or_else(|| Unreadable::field(&path, "an object"))?;
    let id = required_id(object, "uid", &path)?;
    Ok(Info { id, object })
}

fn severity(id: i64) -> Severity {
    match id {
        1 => Severity::Info,
        2 => Severity::Low,
        3 => Severity::Medium,
        4 => Severity::High,
        // Fatal is critical, and too late.
        5 | 6 => Severity::Critical,
        _ => Severity::Unknown,
    }
}

/// The verdict goes before the state of the work, and that before what the event does.
fn lifecycle(finding: &Value, class: i64, activity: i64) -> Lifecycle {
    match number_if_any(finding, "verdict_id") {
        Some(1) => return Lifecycle::FalsePositive,
        Some(5) => return Lifecycle::Closed,
        Some(6) => return Lifecycle::Test,
        Some(_) | None => {}
    }
    match (class, number_if_any(finding, "status_id")) {
        // Resolved, and for an incident closed. Suppressed, archived and on hold are no end.
        (DETECTION | INCIDENT, Some(4)) | (INCIDENT, Some(5)) => return Lifecycle::Closed,
        _ => {}
    }
    match activity {
        1 => Lifecycle::Opened,
        2 => Lifecycle::Updated,
        3 => Lifecycle::Closed,
        _ => Lifecycle::Unknown,
    }
}

fn kind(finding: &Value, origin: &Origin) -> SignalKind {
    let place = finding
        .pointer("/cloud/org/name")
        .and_then(Value::as_str)
        .map(folded);
    let vendor = origin.vendor.as_deref().map(folded);
    if is_true(finding, "is_suspected_breach") && vendor.is_some() && place == vendor {
        return SignalKind::VendorBreach;
    }
    let is_credential = |attack: &Value| {
        let of = |name: &str| attack.get(name).and_then(|tactic| text(tactic, "uid"));
        let listed = items(attack, "tactics")
            .iter()
            .filter_map(|tactic| text(tactic, "uid"));
        of("tactic")
            .into_iter()
            .chain(listed)
            .any(|uid| uid == CREDENTIAL_ACCESS)
    };
    let in_info = finding
        .get("finding_info")
        .map(|info| items(info, "attacks"));
    let in_info = in_info.unwrap_or_default();
    if items(finding, "attacks")
        .iter()
        .chain(in_info)
        .any(is_credential)
    {
        return SignalKind::CredentialCompromise;
    }
    SignalKind::Detection
}

/// Returns a confidence for a word, as the scale of STIX 2.1 has it (appendix A, none/low/med/high).
fn confidence_of(finding: &Value) -> Option<u8> {
    match number_if_any(finding, "confidence_id") {
        Some(1) => Some(15),
        Some(2) => Some(50),
        Some(3) => Some(85),
        Some(_) | None => None,
    }
}

/// The tenant, and the device that the host profile names. Users in the evidence may be anybody's.
fn subject(finding: &Value, metadata: &Value) -> Subject {
    let device = finding.get("device");
    let names = ["uid", "hostname", "name"];
    let device = device.and_then(|device| names.iter().find_map(|name| folded_text(device, name)));
    Subject {
        tenant: folded_text(metadata, "tenant_uid"),
        device,
        ..Subject::default()
    }
}

#[cfg(test)]
mod tests;
