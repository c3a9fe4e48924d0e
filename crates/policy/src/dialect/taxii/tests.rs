//! Envelopes and resources of TAXII, and the objects of STIX in them.

use proptest::prelude::*;
use serde_json::json;

use super::super::field::tests::{any_json, fixture, mangled, origin};
use super::*;
use crate::signal::{Lifecycle, Severity, Signal, SignalKind, Tlp};

const WORDS: &[&str] = &[
    "more",
    "next",
    "objects",
    "type",
    "id",
    "created",
    "modified",
    "labels",
    "confidence",
    "revoked",
    "report",
    "incident",
    "title",
    "versions",
    "collections",
    "can_read",
    "api_roots",
    "vendor:a",
    "incident--11111111-1111-4111-8111-111111111111",
    "2024-01-20T00:00:00Z",
    "external_references",
];

fn page(document: &Value) -> Page {
    envelope(document.to_string().as_bytes(), &origin()).unwrap()
}

fn of_type(name: &str, more: Value) -> Signal {
    let mut object = json!({
        "type": name, "id": format!("{name}--11111111-1111-4111-8111-111111111111"),
        "created": "2024-01-20T00:00:00Z", "modified": "2024-01-20T00:00:00Z",
    });
    let Value::Object(more) = more else { panic!() };
    object.as_object_mut().unwrap().extend(more);
    let mut page = page(&json!({ "objects": [object] }));
    page.signals.remove(0)
}

#[test]
fn an_empty_page_is_an_empty_object() {
    let page = page(&json!({}));
    assert!(page.signals.is_empty() && !page.more && page.next.is_none());
    assert!(envelope(b"[]", &origin()).is_err());
}

#[test]
fn a_page_says_whether_there_is_more_and_what_to_ask_for() {
    let page = envelope(&fixture("taxii.json"), &origin()).unwrap();
    assert!(page.more);
    assert_eq!(page.next.as_deref(), Some("3"));
    assert_eq!(
        (page.signals.len(), page.ignored, page.refused.len()),
        (2, 1, 0)
    );
    let wrong = envelope(br#"{"more":"yes"}"#, &origin()).unwrap_err();
    assert_eq!(wrong.sentence, "`more` must be true or false");
}

#[test]
fn labels_say_what_stix_has_no_field_for() {
    let page = envelope(&fixture("taxii.json"), &origin()).unwrap();
    let breach = &page.signals[0];
    assert_eq!(breach.kind, SignalKind::VendorBreach);
    assert_eq!(breach.severity, Severity::Critical);
    assert_eq!(breach.vendor.as_deref(), Some("microsoft"));
    assert!(breach.products.contains("exchange online"));
    assert_eq!(breach.confidence, Some(95));
    assert_eq!(breach.tlp, Some(Tlp::AmberStrict));
    assert_eq!(breach.lifecycle, Lifecycle::Updated);
    assert_eq!(
        breach.revision.as_deref(),
        Some("2024-03-08T14:00:00.000000000Z")
    );
    assert_eq!(breach.references, ["https://msrc.example/1"]);
    assert!(breach.labels.contains("cve-2024-10001"));
    assert!(
        breach
            .labels
            .contains("created_by:identity--22222222-2222-4222-8222-222222222222")
    );
}

#[test]
fn more_products_than_are_kept_are_all_of_the_vendor() {
    let many: Vec<String> = (0..65).map(|n| format!("product:p{n}")).collect();
    let report = of_type("report", json!({"labels": many}));
    assert!(report.products.is_empty());
    let some = of_type(
        "report",
        json!({"labels": ["product:A"], "x_products": ["B ", ""]}),
    );
    assert_eq!(some.products.len(), 2);
}

#[test]
fn what_was_revoked_is_withdrawn() {
    let page = envelope(&fixture("taxii.json"), &origin()).unwrap();
    assert_eq!(page.signals[1].lifecycle, Lifecycle::Withdrawn);
    assert!(page.signals[1].expires_at.is_some());
}

#[test]
fn each_type_that_reports_something_is_a_signal() {
    for (name, kind) in [
        ("report", SignalKind::Advisory),
        ("indicator", SignalKind::ThreatActivity),
        ("incident", SignalKind::Detection),
        ("campaign", SignalKind::ThreatActivity),
        ("intrusion-set", SignalKind::ThreatActivity),
        ("vulnerability", SignalKind::Vulnerability),
    ] {
        assert_eq!(of_type(name, json!({})).kind, kind);
    }
    let report = of_type("report", json!({"report_types": ["vulnerability"]}));
    assert_eq!(report.kind, SignalKind::Vulnerability);
    let report = of_type(
        "report",
        json!({"report_types": ["threat-actor"], "labels": ["kind:new"]}),
    );
    assert_eq!(report.kind, SignalKind::ThreatActivity);
}

#[test]
fn a_later_revision_orders_behind_an_earlier_one() {
    let early = of_type("report", json!({"modified": "2024-01-20T00:00:00Z"})).revision;
    let late = of_type("report", json!({"modified": "2024-01-20T00:00:00.001Z"})).revision;
    assert!(early < late);
}

#[test]
fn every_marking_of_tlp_is_known_and_others_say_nothing() {
    for (id, tlp) in [
        ("613f2e26-407d-48c7-9eca-b8e91df99dc9", Some(Tlp::Clear)),
        ("94868c89-83c2-464b-929b-a1a8aa3c8487", Some(Tlp::Clear)),
        ("bab4a63c-aed9-4cf5-a766-dfca5abac2bb", Some(Tlp::Green)),
        ("f88d31f6-486f-44da-b317-01333bde0b82", Some(Tlp::Amber)),
        ("e828b379-4e03-4974-9ac4-e53a884c97c1", Some(Tlp::Red)),
        ("00000000-486f-44da-b317-01333bde0b82", None),
    ] {
        let refs = json!({"object_marking_refs": [format!("marking-definition--{id}")]});
        assert_eq!(of_type("report", refs).tlp, tlp);
    }
}

#[test]
fn what_is_out_of_range_or_unknown_is_an_absence() {
    let odd = of_type(
        "incident",
        json!({
            "confidence": 101, "labels": ["severity:dire", 7], "valid_until": "never",
            "first_seen": "0001-01-01T00:00:00Z", "revoked": "yes", "name": 3,
        }),
    );
    assert_eq!((odd.confidence, odd.severity), (None, Severity::Unknown));
    assert_eq!((odd.occurred_at, odd.expires_at), (None, None));
    assert_eq!(odd.lifecycle, Lifecycle::Opened);
    assert!(odd.title.is_empty());
}

#[test]
fn an_object_that_cannot_be_read_hides_none_of_the_others() {
    let mut document: Value = serde_json::from_slice(&fixture("taxii.json")).unwrap();
    document["objects"][1]
        .as_object_mut()
        .unwrap()
        .remove("modified");
    let objects = document["objects"].as_array_mut().unwrap();
    objects.push(json!({"type": "incident", "id": "report--1"}));
    objects.push(json!(7));
    let page = page(&document);
    assert_eq!(page.signals.len(), 1);
    let said: Vec<&str> = page
        .refused
        .iter()
        .map(|one| one.sentence.as_str())
        .collect();
    assert!(said[0].starts_with("`objects[1].modified`"), "{said:?}");
    assert!(said[1].starts_with("`objects[3].id`"), "{said:?}");
    assert!(said[2].starts_with("`objects[4].type`"), "{said:?}");
}

#[test]
fn more_objects_than_are_taken_are_refused() {
    let body = format!(
        r#"{{"objects":[{}]}}"#,
        vec!["1"; OBJECTS_MAX + 1].join(",")
    );
    assert_eq!(
        envelope(body.as_bytes(), &origin()).unwrap_err().code,
        "too_many"
    );
}

#[test]
fn the_resources_of_a_server_read() {
    let found = discovery(
        br#"{"title":"Some server","default":"https://t.example/a/","api_roots":["https://t.example/a/","/b/"]}"#,
    );
    assert_eq!(found.unwrap().api_roots, ["https://t.example/a/", "/b/"]);
    assert!(discovery(b"{}").is_err());
    let root = br#"{"title":"A","versions":["application/taxii+json;version=2.1"],"max_content_length":9}"#;
    assert!(api_root(root).unwrap().speaks_2_1);
    let older = br#"{"title":"A","versions":["application/vnd.oasis.taxii+json; version=2.0"]}"#;
    assert!(!api_root(older).unwrap().speaks_2_1);
    let listed = br#"{"collections":[{"id":"1","title":"C","can_read":true,"can_write":false}]}"#;
    assert!(collections(listed).unwrap()[0].can_read);
    assert!(collections(b"{}").unwrap().is_empty());
    assert!(collections(br#"{"collections":[{"id":"1","title":"C"}]}"#).is_err());
}

#[test]
fn an_envelope_cut_or_changed_anywhere_is_no_panic() {
    mangled(&fixture("taxii.json"), |body| {
        drop(envelope(body, &origin()))
    });
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(envelope(&body, &origin()));
        drop(discovery(&body));
        drop(api_root(&body));
        drop(collections(&body));
    }

    #[test]
    fn any_json_is_read_or_refused(value in any_json(WORDS)) {
        let body = value.to_string();
        drop(envelope(body.as_bytes(), &origin()));
        drop(discovery(body.as_bytes()));
        drop(api_root(body.as_bytes()));
        drop(collections(body.as_bytes()));
        drop(envelope(json!({ "objects": [value] }).to_string().as_bytes(), &origin()));
    }
}
