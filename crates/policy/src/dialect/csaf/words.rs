//! The words of advisories: severities of scores, what is said of exploitation, and states of progress.

use serde_json::Value;

use super::super::field::{items, severity_of};
use super::super::text;
use crate::signal::{Lifecycle, Severity, folded};

/// What a vulnerability says of its exploitation, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Exploitation {
    /// Nothing.
    Silent,
    /// That it is not exploited as far as is known.
    Denied,
    /// Something that is in neither table.
    Unread,
    /// That it is exploited.
    Said,
}

/// Texts of an exploit status that say that it happens. Microsoft writes `Exploited:Yes;…`, Red Hat the
/// address of the catalogue of CISA.
const SAID: &[&str] = &[
    "exploited:yes",
    "known-exploited-vulnerabilities",
    "known exploited vulnerabilit",
];
/// Texts that deny it, and mention exploitation all the same; they are looked for before `SAID_ALSO`.
const DENIED: &[&str] = &[
    "exploited:no",
    "not exploited",
    "not been exploited",
    "not actively exploited",
    "not being exploited",
    "not known",
    "not aware",
    "unaware",
    "no known",
    "no public",
    "no evidence",
    "no reports",
    "no exploit",
    "no active exploitation",
    "unproven",
];
/// Texts that say that it happens, unless the sentence denies it.
const SAID_ALSO: &[&str] = &[
    "exploited in the wild",
    "actively exploited",
    "active exploitation",
    "being exploited",
    "known to be exploited",
    "has been exploited",
    "have been exploited",
];

/// Says what a vulnerability says of its exploitation: its threats, and the dates of CSAF 2.1.
pub(super) fn exploitation(vulnerability: &Value) -> Exploitation {
    if !items(vulnerability, "first_known_exploitation_dates").is_empty() {
        return Exploitation::Said;
    }
    let threats = items(vulnerability, "threats").iter();
    let is_status = |threat: &&Value| {
        text(threat, "category").is_some_and(|word| folded(word) == "exploit_status")
    };
    let statements = threats.filter(is_status).map(exploit_status);
    statements.max().unwrap_or(Exploitation::Silent)
}

/// Reads each sentence by itself: what one denies, the next may say.
fn exploit_status(threat: &Value) -> Exploitation {
    let details = folded(text(threat, "details").unwrap_or_default()).replace(": ", ":");
    let sentences = details.split([';', '\n']).flat_map(|part| part.split(". "));
    match sentences.map(sentence).max() {
        Some(Exploitation::Silent) | None => Exploitation::Unread,
        Some(found) => found,
    }
}

fn sentence(sentence: &str) -> Exploitation {
    let has = |words: &[&str]| words.iter().any(|word| sentence.contains(word));
    if has(SAID) {
        Exploitation::Said
    } else if has(DENIED) {
        Exploitation::Denied
    } else if has(SAID_ALSO) {
        Exploitation::Said
    } else {
        Exploitation::Silent
    }
}

/// Returns the worst severity that the scores of a vulnerability say in words: `scores` of CSAF 2.0,
/// `metrics` of 2.1. A score of CVSS 2 has no word, and stays unknown.
pub(super) fn scores_severity(vulnerability: &Value) -> Severity {
    let absent = Value::Null;
    let metrics = items(vulnerability, "metrics").iter();
    let contents = metrics.map(|metric| metric.get("content").unwrap_or(&absent));
    let scores = items(vulnerability, "scores").iter().chain(contents);
    let of_score = |score: &Value| {
        let versions = ["cvss_v4", "cvss_v3", "cvss_v2"];
        let words = versions.map(|version| {
            let word = score
                .get(version)
                .and_then(|cvss| text(cvss, "baseSeverity"));
            word.map_or(Severity::Unknown, severity_of)
        });
        words.into_iter().max().unwrap_or(Severity::Unknown)
    };
    scores.map(of_score).max().unwrap_or(Severity::Unknown)
}

/// Returns where a matter stands by the status of an involvement.
pub(super) fn progress(status: &str) -> Lifecycle {
    match folded(status).as_str() {
        "completed" => Lifecycle::Closed,
        "in_progress" | "disputed" | "contact_attempted" => Lifecycle::Updated,
        "open" | "not_contacted" => Lifecycle::Opened,
        _ => Lifecycle::Unknown,
    }
}
