//! STIX 2.1 objects: those that report something, read into signals.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::field::{
    at, confidence, folded_text, items, join, label, label_of, reference, required, required_id,
    revision, set_products, severity_of,
};
use super::super::{Origin, Unreadable, clipped, folded_list, text};
use crate::digest::Digest;
use crate::signal::{Dialect, Lifecycle, Severity, Signal, SignalKind, Tlp, folded};

/// The marking definitions of TLP, which have the same ids everywhere: STIX 2.1, section 7.2.1.4, for 1.0,
/// and the common objects of OASIS for 2.0. A marking that is none of them says nothing of TLP.
const TLP_MARKINGS: &[(&str, Tlp)] = &[
    ("613f2e26-407d-48c7-9eca-b8e91df99dc9", Tlp::Clear),
    ("34098fce-860f-48ae-8e50-ebd3cc5e41da", Tlp::Green),
    ("f88d31f6-486f-44da-b317-01333bde0b82", Tlp::Amber),
    ("5e57c739-391a-4eb3-b6be-7d15ca92d5ed", Tlp::Red),
    ("94868c89-83c2-464b-929b-a1a8aa3c8487", Tlp::Clear),
    ("bab4a63c-aed9-4cf5-a766-dfca5abac2bb", Tlp::Green),
    ("55d920b0-5e8b-4f79-9ee9-91f868d9b421", Tlp::Amber),
    ("939a9414-2ddd-4d32-a0cd-375ea402b003", Tlp::AmberStrict),
    ("e828b379-4e03-4974-9ac4-e53a884c97c1", Tlp::Red),
];
/// The length of `…--` and a UUID behind the type of an object.
const UUID_LENGTH: usize = 36;

/// What an object is to us.
#[derive(Debug)]
pub(super) enum Read {
    /// It reports something.
    Signal(Box<Signal>),
    /// Its type reports nothing: a relationship, an identity, a marking, one that is not known here.
    Nothing,
}

/// Reads one object.
pub(super) fn read(
    object: &Value,
    path: &str,
    origin: &Origin,
    raw: Digest,
) -> Result<Read, Unreadable> {
    let kind_of_object = required(object, "type", path)?;
    let Some(kind) = kind(kind_of_object, object) else {
        return Ok(Read::Nothing);
    };
    let id = required_id(object, "id", path)?;
    let uuid = id
        .strip_prefix(kind_of_object)
        .and_then(|rest| rest.strip_prefix("--"));
    if uuid.is_none_or(|uuid| uuid.len() != UUID_LENGTH) {
        let wanted = format!("`{}--` and a UUID", clipped(kind_of_object));
        return Err(Unreadable::field(&join(path, "id"), &wanted));
    }
    let created = required(object, "created", path)?;
    let modified = required(object, "modified", path)?;

    let mut signal = origin.signal(Dialect::Taxii, id, raw);
    signal.kind = kind;
    signal.revision = revision(object, "modified");
    signal.issued_at = at(object, "modified");
    signal.occurred_at = occurred_at(object);
    signal.expires_at = at(object, "valid_until");
    signal.confidence = confidence(object, "confidence");
    signal.tlp = tlp(object);
    signal.title = text(object, "name").map(clipped).unwrap_or_default();
    signal.lifecycle = match object.get("revoked").and_then(Value::as_bool) {
        Some(true) => Lifecycle::Withdrawn,
        Some(false) | None if created == modified => Lifecycle::Opened,
        Some(false) | None => Lifecycle::Updated,
    };
    label(&mut signal, &format!("stix:{kind_of_object}"));
    label_of(&mut signal, "created_by", object, "created_by_ref");
    let external = items(object, "external_references");
    for one in external {
        reference(&mut signal, text(one, "url").unwrap_or_default());
        if text(one, "source_name").is_some_and(|name| folded(name) == "cve") {
            label(&mut signal, text(one, "external_id").unwrap_or_default());
        }
    }
    if let Some(vendor) = folded_text(object, "x_vendor") {
        signal.vendor = Some(vendor);
    }
    // Every one is looked at, so that more than are kept are noticed.
    let words = |name| {
        items(object, name)
            .iter()
            .filter_map(Value::as_str)
            .map(folded)
    };
    let mut products: BTreeSet<String> =
        words("x_products").filter(|one| !one.is_empty()).collect();
    for word in words("labels") {
        take_label(&mut signal, &mut products, &word);
    }
    let products = products.iter().map(|one| clipped(one)).collect();
    set_products(&mut signal, products);
    Ok(Read::Signal(Box::new(signal)))
}

/// Takes in a label. All of them are kept; some of them say what STIX has no field for.
fn take_label(signal: &mut Signal, products: &mut BTreeSet<String>, word: &str) {
    label(signal, word);
    let Some((name, value)) = word.split_once(':') else {
        return;
    };
    let value = value.trim();
    match name.trim() {
        "vendor" if !value.is_empty() => signal.vendor = Some(clipped(value)),
        "product" if !value.is_empty() => {
            products.insert(value.to_owned());
        }
        "severity" => {
            // Two of them: the worse.
            let said = severity_of(value);
            if said > signal.severity || signal.severity == Severity::Unknown {
                signal.severity = said;
                signal.severity_raw = Some(clipped(value));
            }
        }
        "kind" => signal.kind = SignalKind::from_name(value).unwrap_or(signal.kind),
        _ => {}
    }
}

/// Returns what an object reports, by its type; `None`: nothing.
///
/// An incident may be one of the vendor or of anybody else: STIX 2.1 does not say, so it is a detection,
/// unless a label says more.
fn kind(kind_of_object: &str, object: &Value) -> Option<SignalKind> {
    match kind_of_object {
        "report" => Some(report_kind(object)),
        "indicator" | "campaign" | "intrusion-set" => Some(SignalKind::ThreatActivity),
        "incident" => Some(SignalKind::Detection),
        "vulnerability" => Some(SignalKind::Vulnerability),
        _ => None,
    }
}

fn report_kind(report: &Value) -> SignalKind {
    let types = folded_list(report.get("report_types"));
    let is = |word: &str| types.contains(word);
    let actors = [
        "attack-pattern",
        "campaign",
        "identity",
        "indicator",
        "intrusion-set",
        "malware",
        "observed-data",
        "threat-actor",
        "threat-report",
        "tool",
    ];
    if is("vulnerability") {
        SignalKind::Vulnerability
    } else if actors.iter().any(|word| is(word)) {
        SignalKind::ThreatActivity
    } else {
        SignalKind::Advisory
    }
}

/// When it happened or was seen first, as the type says.
fn occurred_at(object: &Value) -> Option<crate::time::Timestamp> {
    let names = ["first_seen", "valid_from", "published"];
    names.iter().find_map(|name| at(object, name))
}

/// The narrowest of the markings that are of TLP.
fn tlp(object: &Value) -> Option<Tlp> {
    let refs = items(object, "object_marking_refs")
        .iter()
        .filter_map(Value::as_str);
    let of_marking = |marking: &str| {
        let id = folded(marking);
        let id = id.strip_prefix("marking-definition--")?;
        TLP_MARKINGS
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, tlp)| *tlp)
    };
    refs.filter_map(of_marking).max()
}
