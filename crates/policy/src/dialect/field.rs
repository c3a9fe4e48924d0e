//! Fields of documents of others: required ones by their path, optional ones as absences.
//!
//! Shared by the readers of feeds; nothing here knows a format.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime};
use serde_json::Value;

use super::{LIST_MAX, TEXT_MAX, Unreadable, clipped, text};
use crate::digest::Digest;
use crate::signal::{Severity, Signal, Tlp, folded};
use crate::time::Timestamp;

/// The longest link that is kept, in bytes: half a link leads elsewhere, so a longer one is left out.
const LINK_MAX: usize = 2048;
/// The years an instant may be in. Before, no computer wrote it; behind, not every database can keep it.
const YEARS: std::ops::RangeInclusive<i32> = 1970..=9999;

/// Returns a text that must be there and say something.
pub(super) fn required<'a>(
    object: &'a Value,
    name: &str,
    path: &str,
) -> Result<&'a str, Unreadable> {
    text(object, name)
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Unreadable::field(&join(path, name), "a text that is not empty"))
}

/// Returns an id that must be there. It is never cut: two long ids that begin alike would be one.
pub(super) fn required_id<'a>(
    object: &'a Value,
    name: &str,
    path: &str,
) -> Result<&'a str, Unreadable> {
    let id = required(object, name, path)?;
    if id.len() > TEXT_MAX || id.chars().any(char::is_control) {
        let wanted = format!("at most {TEXT_MAX} bytes without control characters");
        return Err(Unreadable::field(&join(path, name), &wanted));
    }
    Ok(id)
}

/// Returns the id of a part of a document. A long one ends in a digest, so that it is never cut either.
pub(super) fn part_id(id: &str, part: &str) -> String {
    let whole = format!("{id}#{part}");
    if whole.len() <= TEXT_MAX {
        return whole;
    }
    let kept: String = whole.chars().take(TEXT_MAX / 8).collect();
    format!("{kept}#{}", Digest::of(whole.as_bytes()))
}

/// Returns a list that must be there, of no more than `max` items.
pub(super) fn required_list<'a>(
    object: &'a Value,
    name: &str,
    path: &str,
    max: usize,
) -> Result<&'a [Value], Unreadable> {
    let list = object.get(name).and_then(Value::as_array);
    let list = list.ok_or_else(|| Unreadable::field(&join(path, name), "a list"))?;
    at_most(list.len(), max)?;
    Ok(list)
}

/// Returns the items of a list that may be missing. Whatever else is in its place is an absence.
pub(super) fn items<'a>(object: &'a Value, name: &str) -> &'a [Value] {
    let list = object.get(name).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

/// Refuses a document that says more than is taken from one document.
pub(super) fn at_most(count: usize, max: usize) -> Result<(), Unreadable> {
    if count > max {
        let sentence =
            format!("this holds {count} items, and at most {max} are taken of one document");
        return Err(Unreadable::new("too_many", sentence));
    }
    Ok(())
}

/// Returns the path of a field.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        return name.to_owned();
    }
    format!("{path}.{name}")
}

/// Returns an instant, unless it is out of range.
pub(super) fn at(object: &Value, name: &str) -> Option<Timestamp> {
    super::instant(object, name).filter(in_range)
}

/// Returns an instant written as milliseconds since 1970, unless it is out of range.
pub(super) fn at_millis(milliseconds: i64) -> Option<Timestamp> {
    DateTime::from_timestamp_millis(milliseconds).filter(in_range)
}

/// Returns the first instant of a day written as `YYYY-MM-DD`, in UTC.
pub(super) fn day(written: &str) -> Option<Timestamp> {
    let day = NaiveDate::parse_from_str(written, "%Y-%m-%d").ok()?;
    Some(day.and_time(NaiveTime::MIN).and_utc()).filter(in_range)
}

fn in_range(at: &Timestamp) -> bool {
    YEARS.contains(&at.year())
}

/// Returns a revision that orders as text the way the instants do; as it was written, if it is none.
pub(super) fn revision(object: &Value, name: &str) -> Option<String> {
    let written = text(object, name).map(clipped);
    let at = at(object, name).map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true));
    at.or(written).filter(|revision| !revision.is_empty())
}

/// Returns a confidence from 0 to 100.
pub(super) fn confidence(object: &Value, name: &str) -> Option<u8> {
    let number = object.get(name).and_then(Value::as_u64)?;
    u8::try_from(number).ok().filter(|percent| *percent <= 100)
}

/// Returns a text that may be missing, in the form that vendors, products and labels are compared in.
pub(super) fn folded_text(object: &Value, name: &str) -> Option<String> {
    let folded = folded(&clipped(text(object, name)?));
    Some(folded).filter(|text| !text.is_empty())
}

/// Adds a label, unless there are enough.
pub(super) fn label(signal: &mut Signal, label: &str) {
    let label = folded(&clipped(label));
    if !label.is_empty() && signal.labels.len() < LIST_MAX {
        signal.labels.insert(label);
    }
}

/// Adds a label that says which field it came from, if the field is there.
pub(super) fn label_of(signal: &mut Signal, prefix: &str, object: &Value, name: &str) {
    if let Some(word) = text(object, name).filter(|word| !word.trim().is_empty()) {
        label(signal, &format!("{prefix}:{}", word.trim()));
    }
}

/// Sets the products; more of them than are kept is none named, which stands for all of the vendor.
/// A list cut short would say that the others are not concerned.
pub(super) fn set_products(signal: &mut Signal, products: BTreeSet<String>) {
    if products.len() > LIST_MAX {
        signal.products = BTreeSet::new();
        label(signal, "products:many");
    } else if !products.is_empty() {
        signal.products = products;
    }
}

/// Adds a link, if it is one, and unless there are enough.
pub(super) fn reference(signal: &mut Signal, link: &str) {
    let link = link.trim();
    let is_link = (link.starts_with("https://") || link.starts_with("http://"))
        && link.len() <= LINK_MAX
        && !link.chars().any(|c| c.is_control() || c.is_whitespace());
    let is_new = !signal.references.iter().any(|known| known == link);
    if is_link && is_new && signal.references.len() < LIST_MAX {
        signal.references.push(link.to_owned());
    }
}

/// Reads a severity as publishers word it. What is not in the table is unknown.
pub(super) fn severity_of(word: &str) -> Severity {
    match folded(word).as_str() {
        "none" | "info" | "informational" => Severity::Info,
        "low" | "minor" => Severity::Low,
        "medium" | "moderate" => Severity::Medium,
        "high" | "important" => Severity::High,
        "critical" => Severity::Critical,
        _ => Severity::Unknown,
    }
}

/// Reads a label of the Traffic Light Protocol, 1.0 or 2.0.
pub(super) fn tlp_of(word: &str) -> Option<Tlp> {
    let word = folded(word);
    match word.strip_prefix("tlp:").unwrap_or(&word) {
        "white" | "clear" => Some(Tlp::Clear),
        "green" => Some(Tlp::Green),
        "amber" => Some(Tlp::Amber),
        "amber+strict" => Some(Tlp::AmberStrict),
        "red" => Some(Tlp::Red),
        _ => None,
    }
}

/// Says whether a text is the id of a vulnerability: `CVE-`, four digits, and 4 to 19 digits.
pub(super) fn is_cve(id: &str) -> bool {
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = id
        .strip_prefix("CVE-")
        .and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(year, number)| {
        year.len() == 4 && is_digits(year) && (4..=19).contains(&number.len()) && is_digits(number)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;
    use serde_json::json;

    use super::super::Origin;
    use super::*;
    use crate::signal::Trust;

    /// An origin that names nothing but itself.
    pub(in crate::dialect) fn origin() -> Origin {
        Origin {
            source: "feed".to_owned(),
            trust: Trust::Unauthenticated,
            vendor: None,
            products: BTreeSet::new(),
            received_at: DateTime::from_timestamp(1_756_000_000, 0).unwrap(),
        }
    }

    /// A fixture of our own.
    pub(in crate::dialect) fn fixture(name: &str) -> Vec<u8> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/signals");
        std::fs::read(root.join(name)).unwrap()
    }

    /// A real file, when the folder of them is there.
    pub(in crate::dialect) fn real(name: &str) -> Option<Vec<u8>> {
        let root: PathBuf =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/signals");
        let bytes = std::fs::read(root.join(name)).ok();
        if bytes.is_none() {
            println!("skipped: not here");
        }
        bytes
    }

    /// Any JSON, with the words of a format as keys and texts, so that it gets past the first field.
    pub(in crate::dialect) fn any_json(
        words: &'static [&'static str],
    ) -> impl Strategy<Value = Value> {
        let word = proptest::sample::select(words);
        let text = prop_oneof![word.clone().prop_map(str::to_owned), any::<String>()];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 96, 8, move |inner| {
            let key = word.clone().prop_map(str::to_owned);
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::vec((key, inner), 0..8)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// Each valid document, but with one of its values replaced by another.
    pub(in crate::dialect) fn with_each_value_replaced(
        valid: &Value,
        other: &Value,
        mut check: impl FnMut(&[u8]),
    ) {
        fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
            found.push(at.to_owned());
            match value {
                Value::Object(fields) => {
                    for (name, inner) in fields {
                        let name = name.replace('~', "~0").replace('/', "~1");
                        pointers(inner, &format!("{at}/{name}"), found);
                    }
                }
                Value::Array(list) => {
                    for (index, inner) in list.iter().enumerate() {
                        pointers(inner, &format!("{at}/{index}"), found);
                    }
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let mut found = Vec::new();
        pointers(valid, "", &mut found);
        for pointer in found {
            let mut changed = valid.clone();
            *changed.pointer_mut(&pointer).unwrap() = other.clone();
            check(changed.to_string().as_bytes());
        }
    }

    /// Cuts a valid document at every byte, and puts other values into each of its places.
    pub(in crate::dialect) fn mangled(valid: &[u8], mut check: impl FnMut(&[u8])) {
        for end in 0..valid.len() {
            check(&valid[..end]);
        }
        let document: Value = serde_json::from_slice(valid).unwrap();
        let others = [
            json!(null),
            json!(-1),
            json!(1e300),
            json!("\u{0}ä"),
            json!([]),
            json!({}),
            json!([[{}]]),
        ];
        for other in others {
            with_each_value_replaced(&document, &other, &mut check);
        }
    }

    #[test]
    fn an_instant_out_of_range_is_an_absence() {
        let written = json!({"old": "0001-01-01T00:00:00Z", "late": "9999-12-31T23:59:59-23:00",
            "good": "2025-08-25T17:04:19.9796Z", "number": 3});
        assert_eq!(at(&written, "old"), None);
        assert_eq!(at(&written, "late"), None);
        assert_eq!(at(&written, "number"), None);
        assert!(at(&written, "good").is_some());
        assert_eq!(at_millis(i64::MAX), None);
        assert_eq!(at_millis(-1), None);
        assert_eq!(day("2024-02-30"), None);
    }

    #[test]
    fn more_products_than_are_kept_are_all_products() {
        let mut signal = origin().signal(crate::signal::Dialect::Csaf, "x", Digest::of(b""));
        set_products(
            &mut signal,
            (0..=LIST_MAX).map(|n| format!("p{n}")).collect(),
        );
        assert!(signal.products.is_empty());
        assert!(signal.labels.contains("products:many"));
    }

    #[test]
    fn an_id_is_never_cut() {
        let long = "x".repeat(TEXT_MAX);
        assert_ne!(part_id(&long, "a"), part_id(&long, "b"));
        assert!(part_id(&long, "a").len() <= TEXT_MAX);
        assert_eq!(part_id("doc", "a"), "doc#a");
        let long = json!({"id": "x".repeat(TEXT_MAX + 1)});
        assert_eq!(
            required_id(&long, "id", "a").unwrap_err().code,
            "field_invalid"
        );
    }
}
