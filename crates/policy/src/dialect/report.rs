//! Our own neutral report: the fields of a signal, as somebody writes them who writes for us.
//!
//! It is the `data` of Standard Webhooks and of CloudEvents, and what is sent by hand. A field that is not
//! known is left alone (it survives in the raw bytes); a word that is not known becomes `unknown` or
//! `other`, never an error: an authentic report must not be lost over its wording. One thing is an error: a
//! subject that cannot be read, because leaving it out would make a report about one person a report about
//! everybody. Trust is the origin's: `signed_fresh` under a webhook signature, whatever the channel gave
//! for a bare CloudEvent or for one sent by hand.

use serde_json::Value;

use super::{LIST_MAX, Origin, TEXT_MAX, Unreadable, clipped, folded_list, instant, json, text};
use crate::digest::Digest;
use crate::signal::{Dialect, Lifecycle, Severity, Signal, SignalKind, Subject, Tlp, folded};
use crate::time::Timestamp;

/// What was around a report and is not part of it.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// The format.
    pub dialect: Dialect,
    /// The id at the source.
    pub external_id: &'a str,
    /// The type that the envelope names, whose last word may be a kind.
    pub event_type: Option<&'a str>,
    /// When the source issued it.
    pub issued_at: Option<Timestamp>,
    /// The digest of the bytes.
    pub raw: Digest,
}

/// Reads a report that somebody with a token sent by hand; `id` is theirs or ours.
///
/// # Errors
///
/// When it is no JSON object, or its subject cannot be read.
pub fn manual(body: &[u8], id: &str, origin: &Origin) -> Result<Signal, Unreadable> {
    let report = json(body)?;
    let envelope = Envelope {
        dialect: Dialect::Manual,
        external_id: id,
        event_type: None,
        issued_at: None,
        raw: Digest::of(body),
    };
    read(&report, &envelope, origin)
}

/// Reads a report in its envelope.
///
/// # Errors
///
/// When it is no object, its id cannot be kept, or its subject cannot be read.
pub fn read(
    report: &Value,
    envelope: &Envelope<'_>,
    origin: &Origin,
) -> Result<Signal, Unreadable> {
    if !report.is_object() {
        return Err(Unreadable::field("data", "an object"));
    }
    check_id(envelope.external_id)?;
    let mut signal = origin.signal(envelope.dialect, envelope.external_id, envelope.raw);
    // The first word that is known decides: one that is not must not hide one that is.
    let words = [
        text(report, "kind"),
        text(report, "type"),
        envelope.event_type,
    ];
    signal.kind = words
        .into_iter()
        .flatten()
        .find_map(kind_of)
        .unwrap_or(SignalKind::Other);
    signal.severity = text(report, "severity").map_or(Severity::Unknown, severity_of);
    signal.severity_raw = word(report.get("severity"));
    signal.confidence = report
        .get("confidence")
        .and_then(Value::as_u64)
        .and_then(|said| u8::try_from(said).ok())
        .filter(|said| *said <= 100);
    signal.lifecycle = match report.get("lifecycle") {
        None | Some(Value::Null) => Lifecycle::Opened,
        Some(said) => said.as_str().map_or(Lifecycle::Unknown, lifecycle_of),
    };
    place(&mut signal, report, origin);
    signal.subject = subject(report.get("subject"))?;
    signal.labels = folded_list(report.get("labels"));
    signal.title = line(text(report, "title").unwrap_or_default());
    signal.references = references(report.get("references"));
    signal.occurred_at = instant(report, "occurred_at");
    signal.issued_at = envelope.issued_at;
    signal.expires_at = instant(report, "expires_at");
    signal.tlp = text(report, "tlp").and_then(tlp_of);
    signal.revision = word(report.get("revision"));
    Ok(signal)
}

/// Checks that an id can be kept as it is: one that were cut would be taken for another.
///
/// # Errors
///
/// When it is empty, too long, or holds control characters.
pub fn check_id(id: &str) -> Result<(), Unreadable> {
    let is_kept = !id.trim().is_empty() && id.len() <= TEXT_MAX && !id.contains(char::is_control);
    if is_kept {
        return Ok(());
    }
    Err(Unreadable::field(
        "id",
        "a text without control characters, of at most 512 bytes",
    ))
}

/// Returns the kind whose name is the last word of a type, a version behind it left out:
/// `security.vendor_breach`, `com.example.vendor-breach.v1`.
#[must_use]
pub fn kind_of(event_type: &str) -> Option<SignalKind> {
    let is_version = |segment: &&str| {
        let digits = segment.strip_prefix(['v', 'V']).unwrap_or(segment);
        digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let last = event_type
        .rsplit(['.', '/', ':', '#'])
        .find(|segment| !is_version(segment))?;
    SignalKind::from_name(&plain(last))
}

/// Returns the severity that a word stands for. Never made from a number: scales run both ways.
#[must_use]
pub fn severity_of(said: &str) -> Severity {
    match plain(said).as_str() {
        "info" | "informational" | "information" | "notice" | "none" => Severity::Info,
        "low" | "minor" => Severity::Low,
        "medium" | "moderate" | "warning" => Severity::Medium,
        "high" | "important" | "major" | "severe" => Severity::High,
        "critical" | "fatal" | "emergency" => Severity::Critical,
        _ => Severity::Unknown,
    }
}

/// Returns the lifecycle that a word stands for.
#[must_use]
pub fn lifecycle_of(said: &str) -> Lifecycle {
    match plain(said).as_str() {
        "opened" | "open" | "new" | "created" | "reopened" => Lifecycle::Opened,
        "updated" | "modified" | "in_progress" => Lifecycle::Updated,
        "closed" | "resolved" | "fixed" => Lifecycle::Closed,
        "withdrawn" | "revoked" | "retracted" => Lifecycle::Withdrawn,
        "false_positive" => Lifecycle::FalsePositive,
        "test" | "exercise" => Lifecycle::Test,
        _ => Lifecycle::Unknown,
    }
}

/// A word of a report that is not known: it was kept as `other` or `unknown`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWord {
    /// The field.
    pub field: &'static str,
    /// What it says.
    pub word: String,
    /// What it became.
    pub kept_as: &'static str,
    /// The words that are known.
    pub known: Vec<&'static str>,
}

/// Returns the words of a report that are not known. None of them is an error, but whoever writes for us should hear of a
/// slip: a severity that nobody knows is judged as rules say that silence is. A report without any kind has an empty word.
#[must_use]
pub fn unknown_words(report: &Value, event_type: Option<&str>) -> Vec<UnknownWord> {
    if !report.is_object() {
        return Vec::new();
    }
    let is = |field: &str, known: &dyn Fn(&str) -> bool| {
        let said = said_at(report, field)?;
        let is_known = said.as_str().is_some_and(known);
        (!is_known).then(|| word(Some(said)).unwrap_or_else(|| line(&said.to_string())))
    };
    let kinds = [text(report, "kind"), text(report, "type"), event_type];
    let is_kind = kinds
        .into_iter()
        .flatten()
        .any(|word| kind_of(word).is_some());
    let kind = (!is_kind).then(|| {
        let said = kinds.into_iter().flatten().next().map(str::to_owned);
        said.unwrap_or_else(|| word(said_at(report, "kind")).unwrap_or_default())
    });
    let severity = is("severity", &|word| {
        severity_of(word) != Severity::Unknown || plain(word) == Severity::Unknown.name()
    });
    let lifecycle = is("lifecycle", &|word| {
        lifecycle_of(word) != Lifecycle::Unknown || plain(word) == Lifecycle::Unknown.name()
    });
    let names = [
        SignalKind::ALL
            .iter()
            .map(|one| one.name())
            .collect::<Vec<_>>(),
        Severity::ALL.iter().map(|one| one.name()).collect(),
        Lifecycle::ALL.iter().map(|one| one.name()).collect(),
    ];
    let kept_as = [
        SignalKind::Other.name(),
        Severity::Unknown.name(),
        Lifecycle::Unknown.name(),
    ];
    ["kind", "severity", "lifecycle"]
        .into_iter()
        .zip([kind, severity, lifecycle])
        .zip(kept_as)
        .zip(names)
        .filter_map(|(((field, word), kept_as), known)| {
            let word = line(&word?);
            Some(UnknownWord {
                field,
                word,
                kept_as,
                known,
            })
        })
        .collect()
}

fn said_at<'a>(report: &'a Value, field: &str) -> Option<&'a Value> {
    report.get(field).filter(|said| !said.is_null())
}

/// The same of a message that carries a report in `data`, and may name its kind in its own type.
#[must_use]
pub fn unknown_words_carried(message: &Value, event_type: Option<&str>) -> Vec<UnknownWord> {
    let data = message.get("data").filter(|data| data.is_object());
    let event_type = event_type.or_else(|| text(message, "type"));
    match message.is_object() {
        true => unknown_words(data.unwrap_or(message), event_type),
        // A list says many things, and none of them is the first.
        false => Vec::new(),
    }
}

/// Returns the label that a word stands for, with or without `TLP:`; WHITE is what CLEAR was called.
#[must_use]
pub fn tlp_of(said: &str) -> Option<Tlp> {
    let said = folded(said);
    let colour = said.strip_prefix("tlp:").unwrap_or(&said);
    match colour {
        "white" => Some(Tlp::Clear),
        named => Tlp::from_name(named),
    }
}

/// Returns a text as one line that is short enough to keep.
#[must_use]
pub fn line(text: &str) -> String {
    let kept = clipped(text);
    kept.replace(char::is_control, " ").trim().to_owned()
}

fn place(signal: &mut Signal, report: &Value, origin: &Origin) {
    let named = text(report, "vendor").map(|name| folded(&clipped(name)));
    if let Some(vendor) = named.filter(|name| !name.is_empty()) {
        // What the source is about says nothing of the products of another vendor.
        if origin.vendor.as_deref().map(folded).as_ref() != Some(&vendor) {
            signal.products.clear();
        }
        signal.vendor = Some(vendor);
    }
    let products = folded_list(report.get("products"));
    if !products.is_empty() {
        signal.products = products;
    }
}

fn subject(said: Option<&Value>) -> Result<Subject, Unreadable> {
    let Some(parts) = said.filter(|said| !said.is_null()) else {
        return Ok(Subject::default());
    };
    if !parts.is_object() {
        return Err(Unreadable::field("subject", "an object"));
    }
    Ok(Subject {
        tenant: part(parts, "tenant")?,
        user: part(parts, "user")?,
        group: part(parts, "group")?,
        org_unit: part(parts, "org_unit")?,
        device: part(parts, "device")?,
    })
}

/// Reads one part of a subject. One that is there and says nothing is refused: read as absent, it would
/// stand for everybody.
fn part(parts: &Value, name: &str) -> Result<Option<String>, Unreadable> {
    match parts.get(name) {
        None | Some(Value::Null) => Ok(None),
        said => match word(said).filter(|id| check_id(id).is_ok()) {
            Some(id) => Ok(Some(id)),
            None => Err(Unreadable::field(
                &format!("subject.{name}"),
                "a text that is not empty, of at most 512 bytes",
            )),
        },
    }
}

fn references(list: Option<&Value>) -> Vec<String> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    let lines = items.filter_map(Value::as_str).map(line);
    lines.filter(|one| !one.is_empty()).take(LIST_MAX).collect()
}

/// Returns a text or a number as a text.
pub(super) fn word(said: Option<&Value>) -> Option<String> {
    match said? {
        Value::String(said) if said.len() > TEXT_MAX => Some(line(said)),
        Value::String(said) => Some(said.trim().to_owned()),
        Value::Number(said) => Some(said.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn plain(word: &str) -> String {
    folded(word).replace(['-', ' '], "_")
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::signal::Trust;

    pub(in crate::dialect) fn origin() -> Origin {
        Origin {
            source: "acme".to_owned(),
            trust: Trust::SignedFresh,
            vendor: Some("Acme".to_owned()),
            products: BTreeSet::from(["Mail ".to_owned()]),
            received_at: Timestamp::from_timestamp(1_706_000_000, 0).unwrap(),
        }
    }

    fn read_manual(report: &Value) -> Result<Signal, Unreadable> {
        manual(report.to_string().as_bytes(), "one", &origin())
    }

    #[test]
    fn words_that_are_not_known_are_named_with_those_that_are() {
        let slips = json!({"kind": "vendor_breech", "severity": 9, "lifecycle": "opend"});
        let found = unknown_words(&slips, None);
        let said: Vec<(&str, &str, &str)> = found
            .iter()
            .map(|one| (one.field, one.word.as_str(), one.kept_as))
            .collect();
        assert_eq!(
            said,
            [
                ("kind", "vendor_breech", "other"),
                ("severity", "9", "unknown"),
                ("lifecycle", "opend", "unknown"),
            ]
        );
        assert!(found[1].known.contains(&"critical"), "{found:?}");
        let good = json!({"kind": "Vendor-Breach", "severity": "moderate", "lifecycle": null});
        assert_eq!(unknown_words(&good, None), []);
        let honest = json!({"kind": "other", "severity": "unknown", "lifecycle": "unknown"});
        assert_eq!(unknown_words(&honest, None), []);
        assert_eq!(unknown_words(&json!([]), None), []);
    }

    #[test]
    fn a_report_without_a_kind_is_told_so_unless_what_carries_it_names_one() {
        let missing = unknown_words(&json!({"severity": "high"}), None);
        assert_eq!(
            (missing.len(), missing[0].field),
            (1, "kind"),
            "{missing:?}"
        );
        assert_eq!(missing[0].word, "");
        let carried = json!({"type": "security.vendor_breach", "data": {"severity": "critcal"}});
        let found = unknown_words_carried(&carried, None);
        assert_eq!((found.len(), found[0].field), (1, "severity"), "{found:?}");
        let slip = json!({"type": "security.vendor_breech", "data": {"severity": "high"}});
        let found = unknown_words_carried(&slip, None);
        assert_eq!(found[0].word, "security.vendor_breech", "{found:?}");
        assert_eq!(unknown_words_carried(&json!([slip]), None), []);
    }

    #[test]
    fn a_report_in_full_becomes_a_signal() {
        let signal = read_manual(&json!({
            "kind": "vendor_breach", "severity": "Critical", "vendor": "Contoso ",
            "products": ["Mail", "mail "], "subject": {"tenant": "fabrikam", "user": 42},
            "title": "Somebody\nwas in", "confidence": 90, "lifecycle": "updated",
            "labels": ["APT"], "references": ["https://example.org/1"],
            "occurred_at": "2024-01-12T00:00:00Z", "expires_at": "2025-01-12T00:00:00.1234Z",
            "tlp": "TLP:AMBER+STRICT", "revision": 3, "of_the_future": {"a": 1},
        }))
        .unwrap();
        let mut kept = serde_json::to_value(signal).unwrap();
        kept.as_object_mut().unwrap().remove("raw");
        let wanted = json!({
            "source": "acme", "dialect": "manual", "external_id": "one", "revision": "3",
            "trust": "signed_fresh", "kind": "vendor_breach", "severity": "critical",
            "severity_raw": "Critical", "confidence": 90, "lifecycle": "updated",
            "vendor": "contoso", "products": ["mail"],
            "subject": {"tenant": "fabrikam", "user": "42"}, "labels": ["apt"],
            "title": "Somebody was in", "references": ["https://example.org/1"],
            "occurred_at": "2024-01-12T00:00:00Z", "received_at": "2024-01-23T08:53:20Z",
            "expires_at": "2025-01-12T00:00:00.123400Z", "tlp": "amber+strict",
        });
        assert_eq!(kept, wanted);
    }

    #[test]
    fn the_last_word_of_a_type_is_its_kind() {
        for named in [
            "vendor_breach",
            "security.vendor_breach",
            "com.example.vendor-breach.v1",
            "com.example/Vendor_Breach/v1.2",
        ] {
            assert_eq!(kind_of(named), Some(SignalKind::VendorBreach), "{named}");
        }
        assert_eq!(kind_of("vendor_breach.closed"), None);
        assert_eq!(kind_of(""), None);
    }

    #[test]
    fn a_word_that_is_not_known_does_not_hide_one_that_is() {
        let report = json!({"kind": "calamity", "type": "directive"});
        assert_eq!(read_manual(&report).unwrap().kind, SignalKind::Directive);
        let report = json!({"kind": "calamity"});
        assert_eq!(read_manual(&report).unwrap().kind, SignalKind::Other);
    }

    #[test]
    fn unknown_words_are_unknown_and_numbers_are_no_severity() {
        let said =
            json!({"severity": 9.8, "lifecycle": "simmering", "confidence": 400, "tlp": "x"});
        let signal = read_manual(&said).unwrap();
        assert_eq!(signal.severity, Severity::Unknown);
        assert_eq!(signal.severity_raw.as_deref(), Some("9.8"));
        assert_eq!(signal.lifecycle, Lifecycle::Unknown);
        assert_eq!((signal.confidence, signal.tlp), (None, None));
    }

    #[test]
    fn what_the_source_is_about_fills_what_is_not_said() {
        let signal = read_manual(&json!({})).unwrap();
        assert_eq!(signal.vendor.as_deref(), Some("acme"));
        assert!(signal.products.contains("mail"));
        let signal = read_manual(&json!({"vendor": "contoso"})).unwrap();
        assert!(signal.products.is_empty(), "not the products of acme");
    }

    #[test]
    fn a_subject_that_cannot_be_read_never_becomes_everybody() {
        for subject in [json!("ana"), json!({"user": ""}), json!({"user": ["ana"]})] {
            let refused = read_manual(&json!({ "subject": subject })).unwrap_err();
            assert_eq!(refused.code, "field_invalid");
        }
    }

    #[test]
    fn an_id_that_would_be_cut_is_refused() {
        assert!(manual(b"{}", &"x".repeat(513), &origin()).is_err());
        assert!(manual(b"{}", "a\nb", &origin()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in any::<Vec<u8>>(), id in ".*") {
            let _ = manual(&body, &id, &origin());
            let _ = (kind_of(&id), severity_of(&id), lifecycle_of(&id), tlp_of(&id), line(&id));
        }
    }
}
