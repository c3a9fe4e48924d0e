//! Findings of OCSF.

use proptest::prelude::*;
use serde_json::json;

use super::super::field::tests::{any_json, fixture, mangled, origin};
use super::*;

const WORDS: &[&str] = &[
    "class_uid",
    "type_uid",
    "category_uid",
    "activity_id",
    "severity_id",
    "time",
    "metadata",
    "version",
    "product",
    "finding_info",
    "finding_info_list",
    "uid",
    "verdict_id",
    "status_id",
    "confidence_score",
    "attacks",
    "tactic",
    "cloud",
    "org",
    "name",
    "is_suspected_breach",
];

fn detection(fields: &Value) -> Value {
    let list: Value = serde_json::from_slice(&fixture("ocsf.json")).unwrap();
    let mut one = list[0].clone();
    one.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    one
}

fn read_one(fields: &Value) -> Result<Signal, Unreadable> {
    let signals = read(detection(fields).to_string().as_bytes(), &origin());
    signals.map(|mut signals| signals.remove(0))
}

#[test]
fn a_detection_is_a_signal_about_the_vendor_of_the_source() {
    let signals = read(&fixture("ocsf.json"), &origin()).unwrap();
    let one = &signals[0];
    assert_eq!(one.external_id, "f-1");
    assert_eq!(one.kind, SignalKind::CredentialCompromise);
    assert_eq!((one.severity, one.confidence), (Severity::High, Some(85)));
    assert_eq!(one.lifecycle, Lifecycle::Opened);
    assert_eq!(one.revision.as_deref(), Some("1705060800000.1"));
    assert_eq!(one.subject.tenant.as_deref(), Some("contoso"));
    assert_eq!(one.vendor, None);
    for label in ["sensor:fabrikam", "alert", "cve-2024-10001"] {
        assert!(one.labels.contains(label), "{label}");
    }
    assert!(one.issued_at > one.occurred_at);
    assert_eq!(one.references, ["https://sensor.example/f-1"]);
}

#[test]
fn a_suspected_breach_is_one_of_the_vendor_only_where_the_vendor_is() {
    let signals = read(&fixture("ocsf.json"), &origin()).unwrap();
    assert_eq!(signals[1].external_id, "f-7");
    assert_eq!(signals[1].kind, SignalKind::Detection);
    assert!(signals[1].labels.contains("suspected_breach"));
    assert_eq!(
        (signals[1].severity, signals[1].confidence),
        (Severity::Critical, Some(40))
    );
    let mut of_vendor = origin();
    of_vendor.vendor = Some("Microsoft".to_owned());
    let signals = read(&fixture("ocsf.json"), &of_vendor).unwrap();
    assert_eq!(signals[1].kind, SignalKind::VendorBreach);
    of_vendor.vendor = Some("Fabrikam".to_owned());
    let signals = read(&fixture("ocsf.json"), &of_vendor).unwrap();
    assert_eq!(signals[1].kind, SignalKind::Detection);
}

#[test]
fn a_severity_is_a_name_and_no_rank() {
    for (id, severity) in [
        (0, Severity::Unknown),
        (1, Severity::Info),
        (2, Severity::Low),
        (3, Severity::Medium),
        (4, Severity::High),
        (5, Severity::Critical),
        (6, Severity::Critical),
        (7, Severity::Unknown),
        (99, Severity::Unknown),
        (-1, Severity::Unknown),
    ] {
        assert_eq!(
            read_one(&json!({"severity_id": id})).unwrap().severity,
            severity,
            "{id}"
        );
    }
}

#[test]
fn standings_are_by_verdict_then_state_then_activity() {
    for (fields, lifecycle) in [
        (json!({"verdict_id": 1}), Lifecycle::FalsePositive),
        (json!({"verdict_id": 5}), Lifecycle::Closed),
        (json!({"verdict_id": 6}), Lifecycle::Test),
        (json!({"verdict_id": 2}), Lifecycle::Opened),
        (json!({"verdict_id": 99}), Lifecycle::Opened),
        (json!({"status_id": 4}), Lifecycle::Closed),
        (json!({"status_id": 3}), Lifecycle::Opened),
        (
            json!({"activity_id": 3, "type_uid": 200_403}),
            Lifecycle::Closed,
        ),
        (
            json!({"activity_id": 2, "type_uid": 200_402}),
            Lifecycle::Updated,
        ),
        (
            json!({"activity_id": 0, "type_uid": 200_400}),
            Lifecycle::Unknown,
        ),
        (
            json!({"activity_id": 99, "type_uid": 200_499}),
            Lifecycle::Unknown,
        ),
    ] {
        assert_eq!(read_one(&fields).unwrap().lifecycle, lifecycle, "{fields}");
    }
}

#[test]
fn numbers_that_do_not_add_up_are_some_other_event() {
    for (fields, code) in [
        (json!({"type_uid": 200_402}), "type_differs"),
        (json!({"category_uid": 3}), "type_differs"),
        (
            json!({"activity_id": 101, "type_uid": 200_501}),
            "type_differs",
        ),
        (json!({"activity_id": i64::MAX}), "type_differs"),
        (
            json!({"class_uid": 2001, "type_uid": 200_101}),
            "class_unknown",
        ),
        (json!({"class_uid": "2004"}), "field_invalid"),
        (json!({"severity_id": null}), "field_invalid"),
        (json!({"time": "now"}), "field_invalid"),
        (json!({"metadata": {"version": "1"}}), "field_invalid"),
        (json!({"finding_info": {}}), "field_invalid"),
        (
            json!({"class_uid": 2005, "type_uid": 200_501, "finding_info_list": []}),
            "field_invalid",
        ),
    ] {
        assert_eq!(read_one(&fields).unwrap_err().code, code, "{fields}");
    }
    let list = json!([
        detection(&json!({})),
        detection(&json!({"finding_info": {"uid": 7}}))
    ]);
    let refused = read(list.to_string().as_bytes(), &origin()).unwrap_err();
    assert!(
        refused.sentence.starts_with("`[1].finding_info.uid`"),
        "{refused}"
    );
}

#[test]
fn a_time_out_of_range_is_an_absence() {
    for time in [
        json!(i64::MAX),
        json!(-5),
        json!(1e30),
        json!(u64::MAX),
        json!(0.5),
    ] {
        assert_eq!(
            read_one(&json!({"time": time})).unwrap().issued_at,
            None,
            "{time}"
        );
    }
}

#[test]
fn a_confidence_that_is_none_is_not_said() {
    for (fields, confidence) in [
        (json!({"confidence_score": 101, "confidence_id": 0}), None),
        (json!({"confidence_score": 0}), Some(0)),
        (json!({"confidence_id": 99}), None),
        (json!({"confidence_id": 1}), Some(15)),
    ] {
        assert_eq!(
            read_one(&fields).unwrap().confidence,
            confidence,
            "{fields}"
        );
    }
}

#[test]
fn more_findings_than_are_taken_are_refused() {
    let body = format!("[{}]", vec!["1"; FINDINGS_MAX + 1].join(","));
    assert_eq!(
        read(body.as_bytes(), &origin()).unwrap_err().code,
        "too_many"
    );
}

#[test]
fn a_finding_cut_or_changed_anywhere_is_no_panic() {
    mangled(&fixture("ocsf.json"), |body| drop(read(body, &origin())));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(read(&body, &origin()));
    }

    #[test]
    fn any_json_is_read_or_refused(value in any_json(WORDS)) {
        drop(read(value.to_string().as_bytes(), &origin()));
        drop(read(detection(&json!({"finding_info": value.clone()})).to_string().as_bytes(), &origin()));
        drop(read(detection(&json!({"cloud": value.clone(), "attacks": value})).to_string().as_bytes(), &origin()));
    }
}
