//! Advisories in CSAF 2.0, with or without VEX (OASIS CSAF 2.0, errata 1), and 2.1 as far as it is the same.
//!
//! One document is one signal for each vendor in its product tree, not one for each vulnerability: the
//! document is what its publisher numbers, revises and takes back, and a hold asks which products of
//! which vendor are concerned. The vulnerabilities are labels (`cve-…`), the severity is the worst that
//! the document says, and one vulnerability that is exploited makes the document say so. A report of a
//! vendor on what it does about a vulnerability (`involvements`) is a signal of its own.
//!
//! A document in which nothing is affected is not withdrawn: its publisher says that there is nothing,
//! which is `false_positive`. Products that are only listed as fixed are concerned: in advisories of
//! Linux distributions that is how an affected product is named. `directory` reads where documents are.

pub mod directory;
mod tree;
mod words;

use serde_json::Value;

use self::tree::{Concern, concerns};
use self::words::{Exploitation, exploitation, progress, scores_severity};
use super::field::{
    at, at_most, items, label, label_of, part_id, reference, required, required_id, set_products,
    severity_of, tlp_of,
};
use super::{Origin, Unreadable, clipped, json, text};
use crate::digest::Digest;
use crate::signal::{Dialect, Lifecycle, Severity, Signal, SignalKind, folded};

/// The most signals of one document: its vendors, and what they report of their progress.
pub const SIGNALS_MAX: usize = 512;
/// The most vulnerabilities of one document.
pub const VULNERABILITIES_MAX: usize = 10_000;

/// How many vulnerabilities surely have a label each. Of more, the first have, and `cves:many` says so.
const CVES_MAX: usize = 56;

/// Reads an advisory.
///
/// # Errors
///
/// When it is no JSON, a required field is missing, or it says more than is taken of one document.
pub fn read(body: &[u8], origin: &Origin) -> Result<Vec<Signal>, Unreadable> {
    let whole = json(body)?;
    let vulnerabilities = items(&whole, "vulnerabilities");
    at_most(vulnerabilities.len(), VULNERABILITIES_MAX)?;
    let advisory = advisory(&whole, origin, Digest::of(body))?;

    let concerns = concerns(&whole, vulnerabilities)?;
    let has_one = concerns.len() <= 1;
    let mut signals = Vec::new();
    for Concern {
        vendor,
        products,
        is_cleared,
    } in concerns
    {
        let mut signal = advisory.clone();
        // A document of one vendor is known by its own id, however it spells the vendor later.
        if let (false, Some(vendor)) = (has_one, &vendor) {
            signal.external_id = part_id(&advisory.external_id, vendor);
        }
        signal.vendor = vendor.or(signal.vendor);
        if is_cleared && signal.lifecycle.can_tighten() {
            signal.lifecycle = Lifecycle::FalsePositive;
        }
        set_products(&mut signal, products);
        signals.push(signal);
    }
    let vendor = match signals.as_slice() {
        [only] => only.vendor.clone(),
        _ => advisory.vendor.clone(),
    };
    let about = Signal { vendor, ..advisory };
    for (index, vulnerability) in vulnerabilities.iter().enumerate() {
        progress_signals(vulnerability, index, &about, &mut signals);
        at_most(signals.len(), SIGNALS_MAX)?;
    }
    Ok(signals)
}

/// Returns what the document says of all its vendors, without any product.
fn advisory(whole: &Value, origin: &Origin, raw: Digest) -> Result<Signal, Unreadable> {
    let absent = Value::Null;
    let document = whole
        .get("document")
        .filter(|document| document.is_object());
    let document = document.ok_or_else(|| Unreadable::field("document", "an object"))?;
    let category = required(document, "category", "document")?;
    required(document, "csaf_version", "document")?;
    let title = required(document, "title", "document")?;
    let publisher = document.get("publisher").unwrap_or(&absent);
    required(publisher, "name", "document.publisher")?;
    let tracking = document.get("tracking").unwrap_or(&absent);
    let id = required_id(tracking, "id", "document.tracking")?;
    let version = required(tracking, "version", "document.tracking")?;
    required(tracking, "status", "document.tracking")?;
    required(tracking, "initial_release_date", "document.tracking")?;
    required(tracking, "current_release_date", "document.tracking")?;
    let vulnerabilities = items(whole, "vulnerabilities");

    let mut signal = origin.signal(Dialect::Csaf, id, raw);
    signal.revision = Some(clipped(version));
    signal.title = clipped(title);
    signal.issued_at = at(tracking, "current_release_date");
    signal.vendor = signal.vendor.or_else(|| of_publisher(publisher));
    signal.kind = if vulnerabilities.is_empty() {
        SignalKind::Advisory
    } else {
        SignalKind::Vulnerability
    };
    signal.lifecycle = match (
        folded(category).as_str(),
        at(tracking, "initial_release_date"),
    ) {
        // Categories of CSAF 2.1.
        ("csaf_withdrawn", _) => Lifecycle::Withdrawn,
        ("csaf_superseded", _) => Lifecycle::Closed,
        (_, Some(first)) if signal.issued_at.is_some_and(|now| now > first) => Lifecycle::Updated,
        _ => Lifecycle::Opened,
    };
    let tlp = document.pointer("/distribution/tlp/label");
    signal.tlp = tlp.and_then(Value::as_str).and_then(tlp_of);
    label_of(&mut signal, "category", document, "category");
    label_of(&mut signal, "status", tracking, "status");
    label_of(&mut signal, "csaf", document, "csaf_version");
    say_severity(&mut signal, document, vulnerabilities);
    say_exploitation(&mut signal, vulnerabilities);
    if vulnerabilities.len() > CVES_MAX {
        label(&mut signal, "cves:many");
    }
    for one in vulnerabilities {
        label(&mut signal, text(one, "cve").unwrap_or_default());
    }
    for one in items(document, "references") {
        reference(&mut signal, text(one, "url").unwrap_or_default());
    }
    Ok(signal)
}

/// A publisher is the vendor only if it says that it is one; a coordinator writes about others.
fn of_publisher(publisher: &Value) -> Option<String> {
    let is_vendor = text(publisher, "category").is_some_and(|word| folded(word) == "vendor");
    let name = text(publisher, "name").filter(|_| is_vendor)?;
    Some(folded(&clipped(name))).filter(|name| !name.is_empty())
}

/// The worst of the publisher's own word and of the words of the scores. Numbers are not read.
fn say_severity(signal: &mut Signal, document: &Value, vulnerabilities: &[Value]) {
    let said = document.pointer("/aggregate_severity/text");
    let said = said.and_then(Value::as_str).map(clipped);
    let of_scores = vulnerabilities.iter().map(scores_severity).max();
    let of_scores = of_scores.unwrap_or(Severity::Unknown);
    signal.severity = said
        .as_deref()
        .map_or(Severity::Unknown, severity_of)
        .max(of_scores);
    signal.severity_raw = said
        .filter(|word| !word.is_empty())
        .or_else(|| (of_scores != Severity::Unknown).then(|| format!("cvss {}", of_scores.name())));
}

fn say_exploitation(signal: &mut Signal, vulnerabilities: &[Value]) {
    match vulnerabilities.iter().map(exploitation).max() {
        Some(Exploitation::Said) => {
            signal.kind = SignalKind::ExploitedVulnerability;
            label(signal, "exploit_status:exploited");
        }
        // Something was said, and it does not deny it: until somebody reads it, it is taken as said.
        Some(Exploitation::Unread) => {
            signal.kind = SignalKind::ExploitedVulnerability;
            label(signal, "exploit_status:unread");
        }
        Some(Exploitation::Denied) => label(signal, "exploit_status:denied"),
        Some(Exploitation::Silent) | None => {}
    }
}

/// Adds what a vendor reports of its progress on a vulnerability. What a coordinator or a finder does is
/// no progress of the vendor.
fn progress_signals(
    vulnerability: &Value,
    index: usize,
    about: &Signal,
    signals: &mut Vec<Signal>,
) {
    let other = items(vulnerability, "ids")
        .first()
        .and_then(|id| text(id, "text"));
    let name = text(vulnerability, "cve").or(other).map(folded);
    let name = name.unwrap_or_else(|| format!("{index}"));
    for involvement in items(vulnerability, "involvements") {
        let party = text(involvement, "party").map(folded);
        if party.as_deref() != Some("vendor") || signals.len() > SIGNALS_MAX {
            continue;
        }
        let mut signal = about.clone();
        signal.external_id = part_id(&about.external_id, &format!("progress:{name}"));
        signal.kind = SignalKind::VendorProgress;
        signal.severity = Severity::Info;
        signal.severity_raw = None;
        signal.labels.clear();
        signal.occurred_at = at(involvement, "date");
        signal.lifecycle = progress(text(involvement, "status").unwrap_or_default());
        label(&mut signal, text(vulnerability, "cve").unwrap_or_default());
        label_of(&mut signal, "involvement", involvement, "status");
        let summary = text(involvement, "summary").map(clipped);
        signal.title = summary.unwrap_or(signal.title);
        signals.push(signal);
    }
}

#[cfg(test)]
mod tests;
