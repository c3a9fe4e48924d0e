//! The catalogue: what is read of it, what is refused, and what became of it.

use proptest::prelude::*;

use super::super::field::tests::{any_json, fixture, mangled, origin, real};
use super::*;
use crate::signal::{Lifecycle, Severity};

const WORDS: &[&str] = &[
    "catalogVersion",
    "dateReleased",
    "count",
    "vulnerabilities",
    "cveID",
    "vendorProject",
    "product",
    "vulnerabilityName",
    "dateAdded",
    "shortDescription",
    "requiredAction",
    "dueDate",
    "CVE-2024-21410",
];

fn without(position: usize) -> Vec<u8> {
    let mut catalogue: Value = serde_json::from_slice(&fixture("kev.json")).unwrap();
    let entries = catalogue["vulnerabilities"].as_array_mut().unwrap();
    entries.remove(position);
    catalogue["count"] = entries.len().into();
    catalogue.to_string().into_bytes()
}

#[test]
fn an_entry_is_one_signal() {
    let catalogue = read(&fixture("kev.json"), &origin()).unwrap();
    assert_eq!(catalogue.version, "2025.08.25");
    assert!(catalogue.released_at.is_some());
    let exchange = &catalogue.signals[1];
    assert_eq!(exchange.external_id, "CVE-2024-21410");
    assert_eq!(exchange.kind, SignalKind::ExploitedVulnerability);
    assert_eq!(exchange.severity, Severity::Unknown);
    assert_eq!(exchange.vendor.as_deref(), Some("microsoft"));
    assert_eq!(exchange.occurred_at, day("2024-02-15"));
    assert_eq!(exchange.issued_at, None);
    assert!(exchange.labels.contains("ransomware"));
    assert!(exchange.labels.contains("due:2024-03-07"));
    assert!(!catalogue.signals[2].labels.contains("ransomware"));
    assert!(catalogue.signals[2].products.contains("windows"));
    assert_eq!(catalogue.signals[0].references.len(), 2);
}

#[test]
fn a_count_that_is_not_the_length_is_refused() {
    let body = String::from_utf8(fixture("kev.json")).unwrap();
    let wrong = body.replace("\"count\": 3", "\"count\": 4");
    assert_eq!(
        read(wrong.as_bytes(), &origin()).unwrap_err().code,
        "count_differs"
    );
    let text = body.replace("\"count\": 3", "\"count\": \"3\"");
    assert_eq!(
        read(text.as_bytes(), &origin()).unwrap_err().code,
        "field_invalid"
    );
}

#[test]
fn each_of_the_first_eight_fields_is_required() {
    let valid: Value = serde_json::from_slice(&fixture("kev.json")).unwrap();
    for name in [
        "cveID",
        "vendorProject",
        "product",
        "vulnerabilityName",
        "dateAdded",
        "shortDescription",
        "requiredAction",
        "dueDate",
    ] {
        let mut changed = valid.clone();
        changed["vulnerabilities"][1]
            .as_object_mut()
            .unwrap()
            .remove(name);
        let refused = read(changed.to_string().as_bytes(), &origin()).unwrap_err();
        assert!(
            refused
                .sentence
                .contains(&format!("vulnerabilities[1].{name}")),
            "{refused}"
        );
    }
}

#[test]
fn an_id_of_another_form_or_twice_is_refused() {
    let body = String::from_utf8(fixture("kev.json")).unwrap();
    for wrong in [
        "CVE-2024-214",
        "cve-2024-21410",
        "CVE-24-21410",
        "CVE-2024-2141O",
    ] {
        let changed = body.replace("CVE-2024-21410", wrong);
        assert_eq!(
            read(changed.as_bytes(), &origin()).unwrap_err().code,
            "field_invalid"
        );
    }
    let twice = body.replace("CVE-2024-21410", "CVE-2024-21412");
    assert_eq!(
        read(twice.as_bytes(), &origin()).unwrap_err().code,
        "duplicate"
    );
}

#[test]
fn too_many_entries_are_refused() {
    let entries = vec!["{}"; ENTRIES_MAX + 1].join(",");
    let body = format!(
        r#"{{"catalogVersion":"1","dateReleased":"x","count":{},"vulnerabilities":[{entries}]}}"#,
        ENTRIES_MAX + 1
    );
    assert_eq!(
        read(body.as_bytes(), &origin()).unwrap_err().code,
        "too_many"
    );
}

#[test]
fn a_catalogue_that_shrank_is_an_alarm_and_never_resolved() {
    let whole = read(&fixture("kev.json"), &origin()).unwrap();
    let less = read(&without(1), &origin()).unwrap();
    assert_eq!(changes(&whole.known(), &less).unwrap_err().code, "shrunk");
    let empty = Catalogue {
        signals: Vec::new(),
        ..whole.clone()
    };
    assert_eq!(changes(&whole.known(), &empty).unwrap_err().code, "shrunk");
    let mut known: Known = (0..=GONE_MAX)
        .map(|n| (format!("CVE-1999-000{n}"), String::new()))
        .collect();
    let many = Catalogue {
        signals: whole.signals.iter().cycle().take(3).cloned().collect(),
        ..whole.clone()
    };
    known.retain(|id, _| id.ends_with(['0', '1', '2']));
    assert_eq!(changes(&known, &many).unwrap().gone.len(), 3);
}

#[test]
fn other_entries_in_the_place_of_many_are_an_alarm() {
    let whole = read(&fixture("kev.json"), &origin()).unwrap();
    let known: Known = (0..=GONE_MAX)
        .map(|n| (format!("CVE-1999-000{n}"), String::new()))
        .collect();
    let mut other = whole.clone();
    for n in 0..10 {
        let mut one = whole.signals[0].clone();
        one.external_id = format!("CVE-2030-000{n}");
        other.signals.push(one);
    }
    assert_eq!(changes(&known, &other).unwrap_err().code, "shrunk");
}

#[test]
fn changes_are_what_is_new_and_what_a_rule_would_see_differently() {
    let whole = read(&fixture("kev.json"), &origin()).unwrap();
    let less = read(&without(0), &origin()).unwrap();
    let first = changes(&Known::new(), &whole).unwrap();
    assert_eq!(
        (first.added.len(), first.revised.len(), first.gone.len()),
        (3, 0, 0)
    );
    let later = changes(&less.known(), &whole).unwrap();
    assert_eq!(later.added[0].external_id, "CVE-2025-48384");
    let again = changes(&whole.known(), &whole).unwrap();
    assert!(again.added.is_empty() && again.revised.is_empty());

    let body = String::from_utf8(fixture("kev.json")).unwrap();
    let reworded = read(body.replace("made up", "MADE UP").as_bytes(), &origin()).unwrap();
    assert!(
        changes(&whole.known(), &reworded)
            .unwrap()
            .revised
            .is_empty()
    );
    let now_ransomware = body.replace("\"Unknown\"", "\"Known\"");
    let now_ransomware = read(now_ransomware.as_bytes(), &origin()).unwrap();
    let revised = changes(&whole.known(), &now_ransomware).unwrap().revised;
    assert_eq!(revised.len(), 1);
    assert_eq!(revised[0].lifecycle, Lifecycle::Updated);
}

#[test]
fn the_real_catalogue_reads_and_says_nothing_on_the_day_that_mattered() {
    let Some(body) = real("kev/known_exploited_vulnerabilities.json") else {
        return;
    };
    let catalogue = read(&body, &origin()).unwrap();
    assert_eq!(catalogue.signals.len(), 1404);
    assert!(catalogue.released_at.is_some());
    let of_microsoft = |one: &&Signal| one.vendor.as_deref() == Some("microsoft");
    let microsoft: Vec<&Signal> = catalogue.signals.iter().filter(of_microsoft).collect();
    assert_eq!(microsoft.len(), 340);
    let (begin, end) = (day("2023-11-01").unwrap(), day("2024-12-31").unwrap());
    let added: Vec<Timestamp> = microsoft.iter().filter_map(|one| one.occurred_at).collect();
    assert_eq!(added.len(), 340);
    assert_eq!(
        added.iter().filter(|at| (begin..=end).contains(at)).count(),
        40
    );
    assert!(!added.contains(&day("2024-01-19").unwrap()));
    assert!(
        catalogue
            .signals
            .iter()
            .all(|one| one.products.iter().all(|name| name.trim() == name))
    );
}

#[test]
fn a_catalogue_cut_or_changed_anywhere_is_no_panic() {
    mangled(&fixture("kev.json"), |body| drop(read(body, &origin())));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(read(&body, &origin()));
    }

    #[test]
    fn any_json_is_read_or_refused(value in any_json(WORDS)) {
        drop(read(value.to_string().as_bytes(), &origin()));
    }
}
