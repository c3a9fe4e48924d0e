//! Dialects: what other software writes, read into signals.
//!
//! One file for each format. Each reads bytes that were admitted (their size, source and signature are
//! somebody else's work) and says either which signals are in them, or why they cannot be read. Nothing here
//! trusts a number: severities and states are mapped by table, and what is not in the table is unknown.

pub mod cloudevents;
pub mod csaf;
mod field;
pub mod graph;
pub mod kev;
pub mod ocsf;
pub mod parser;
pub mod report;
pub mod security_event;
pub mod taxii;
pub mod webhook;

use std::collections::BTreeSet;

use serde_json::Value;
use thiserror::Error;

use crate::digest::Digest;
use crate::signal::{Dialect, Lifecycle, Severity, Signal, SignalKind, Subject, Trust, folded};
use crate::time::Timestamp;

/// How deep a document of somebody else may nest.
pub const DEPTH_MAX: usize = 64;
/// The longest text that is kept of a title or an id, in bytes.
const TEXT_MAX: usize = 512;
/// The most products, labels or references that are kept of one signal.
const LIST_MAX: usize = 64;

/// Where a document came from, and what holds for everything in it.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The name of the source.
    pub source: String,
    /// How sure it is who sent it.
    pub trust: Trust,
    /// The vendor that the source is about, when what it sends names none.
    pub vendor: Option<String>,
    /// The products that the source is about, when what it sends names none.
    pub products: BTreeSet<String>,
    /// When it was received.
    pub received_at: Timestamp,
}

/// A document cannot be read as what it says it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{sentence}")]
pub struct Unreadable {
    /// The stable code.
    pub code: &'static str,
    /// What is wrong, and where.
    pub sentence: String,
}

impl Unreadable {
    /// Says what is wrong.
    #[must_use]
    pub fn new(code: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            code,
            sentence: sentence.into(),
        }
    }

    /// Says that a field is missing or of another type.
    #[must_use]
    pub fn field(name: &str, wanted: &str) -> Self {
        Self::new("field_invalid", format!("`{name}` must be {wanted}"))
    }
}

/// What a list of somebody else's objects was read into: a page of alerts, issues or threat intelligence.
///
/// One object that cannot be read hides none of the others: whoever may write into a shared collection
/// could otherwise make us blind to all of it.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The signals, in the order of the document.
    pub signals: Vec<Signal>,
    /// Why some objects could not be read.
    pub refused: Vec<Unreadable>,
    /// How many objects are of a type that reports nothing.
    pub ignored: usize,
    /// Whether the source says that there is more.
    pub more: bool,
    /// What to ask for the rest with: a link or a token, as the format says. It is a claim: whoever
    /// fetches checks where a link leads.
    pub next: Option<String>,
}

impl Origin {
    /// Begins a signal of this origin, of which nothing is known but where it came from.
    #[must_use]
    pub fn signal(&self, dialect: Dialect, external_id: &str, raw: Digest) -> Signal {
        Signal {
            source: self.source.clone(),
            dialect,
            external_id: clipped(external_id),
            revision: None,
            trust: self.trust,
            kind: SignalKind::Other,
            severity: Severity::Unknown,
            severity_raw: None,
            confidence: None,
            lifecycle: Lifecycle::Opened,
            vendor: self.vendor.as_deref().map(folded),
            products: self.products.iter().map(|one| folded(one)).collect(),
            subject: Subject::default(),
            labels: BTreeSet::new(),
            title: String::new(),
            references: Vec::new(),
            occurred_at: None,
            issued_at: None,
            received_at: self.received_at,
            expires_at: None,
            late: false,
            tlp: None,
            raw,
        }
    }
}

/// Reads JSON that does not nest too deep.
///
/// # Errors
///
/// When it is no JSON, or nests deeper than `DEPTH_MAX`.
pub fn json(body: &[u8]) -> Result<Value, Unreadable> {
    // Counted before it is read: whatever reads a tree by recursion must not be handed a deep one.
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    for byte in body {
        match (is_text, byte) {
            (true, _) if is_escaped => is_escaped = false,
            (true, b'\\') => is_escaped = true,
            (_, b'"') => is_text = !is_text,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (true | false, _) => {}
        }
        if depth > DEPTH_MAX {
            return Err(Unreadable::new(
                "too_deep",
                format!("this nests deeper than {DEPTH_MAX}"),
            ));
        }
    }
    serde_json::from_slice(body)
        .map_err(|error| Unreadable::new("not_json", format!("this is not JSON: {error}")))
}

/// Returns the beginning of a text that is too long to keep, cut between letters.
#[must_use]
pub fn clipped(text: &str) -> String {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let kept: String = text.get(..end).unwrap_or_default().chars().collect();
    kept.replace('\0', " ").trim().to_owned()
}

/// Returns a text field of an object.
#[must_use]
pub fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

/// Returns an instant of an object, written as RFC 3339 with any number of digits behind the point.
#[must_use]
pub fn instant(object: &Value, name: &str) -> Option<Timestamp> {
    let written = text(object, name)?;
    chrono::DateTime::parse_from_rfc3339(written)
        .ok()
        .map(|at| at.to_utc())
}

/// Returns the texts of a list, folded, and no more of them than are kept.
#[must_use]
pub fn folded_list(list: Option<&Value>) -> BTreeSet<String> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items
        .filter_map(Value::as_str)
        .map(|one| folded(&clipped(one)))
        .filter(|one| !one.is_empty())
        .take(LIST_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nests_too_deep_is_refused_before_it_is_read() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(json(deep.as_bytes()).unwrap_err().code, "too_deep");
        let brackets_in_text = format!("\"{}\\\"[\"", "[".repeat(1000));
        assert!(json(brackets_in_text.as_bytes()).is_ok());
    }

    #[test]
    fn a_text_is_cut_between_letters() {
        let long = "ä".repeat(TEXT_MAX);
        assert!(clipped(&long).len() <= TEXT_MAX);
        assert_eq!(clipped(" Windows "), "Windows");
    }
}
