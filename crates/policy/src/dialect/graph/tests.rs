//! Alerts and issues of Microsoft Graph.

use proptest::prelude::*;
use serde_json::json;

use super::super::field::tests::{any_json, fixture, mangled, origin};
use super::*;

const WORDS: &[&str] = &[
    "value",
    "id",
    "status",
    "severity",
    "classification",
    "determination",
    "category",
    "evidence",
    "userAccount",
    "userPrincipalName",
    "tenantId",
    "title",
    "isResolved",
    "lastUpdateDateTime",
    "@odata.nextLink",
    "falsePositive",
    "resolved",
    "2024-01-12T12:00:00Z",
];

fn one_alert(fields: &Value) -> Signal {
    let mut alert = json!({"id": "a"});
    alert
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let mut page = alerts(alert.to_string().as_bytes(), &origin()).unwrap();
    page.signals.remove(0)
}

fn one_issue(status: &str, is_resolved: &Value) -> Signal {
    let issue = json!({"id": "a", "status": status, "isResolved": is_resolved});
    let mut page = issues(issue.to_string().as_bytes(), &origin()).unwrap();
    page.signals.remove(0)
}

#[test]
fn an_alert_is_a_signal() {
    let page = alerts(&fixture("graph_alerts.json"), &origin()).unwrap();
    assert!(page.more && page.next.unwrap().ends_with("$skip=1"));
    let alert = &page.signals[0];
    assert_eq!(alert.external_id, "da0001");
    assert_eq!(alert.kind, SignalKind::CredentialCompromise);
    assert_eq!(alert.severity, Severity::High);
    assert_eq!(alert.lifecycle, Lifecycle::Opened);
    assert_eq!(alert.vendor.as_deref(), Some("microsoft"));
    assert_eq!(
        alert.revision.as_deref(),
        Some("2024-01-12T13:00:00.123456700Z")
    );
    assert_eq!(
        alert.subject.tenant.as_deref(),
        Some("b3c1b5fc-828c-45fa-a1e1-10d74f6d6e9c")
    );
    assert_eq!(alert.subject.user.as_deref(), Some("ana@contoso.example"));
    assert_eq!(alert.subject.device, None);
    assert!(alert.labels.contains("t1003.001"));
    assert!(
        alert
            .labels
            .contains("service:microsoftdefenderforendpoint")
    );
    assert_eq!(alert.references, ["https://security.example/alerts/da0001"]);
}

#[test]
fn an_alert_of_several_users_is_about_the_tenant() {
    let user = |name: &str| json!({"userAccount": {"userPrincipalName": name}});
    let two = one_alert(&json!({"tenantId": "t", "evidence": [user("a"), user("b")]}));
    assert_eq!(
        two.subject,
        Subject {
            tenant: Some("t".to_owned()),
            ..Subject::default()
        }
    );
    let device = one_alert(&json!({"evidence": [{"deviceDnsName": "PC-1"}, 3]}));
    assert_eq!(device.subject.device.as_deref(), Some("pc-1"));
}

#[test]
fn standings_and_kinds_are_by_table_and_other_words_are_unknown() {
    for (fields, lifecycle) in [
        (json!({"status": "new"}), Lifecycle::Opened),
        (json!({"status": "inProgress"}), Lifecycle::Updated),
        (json!({"status": "resolved"}), Lifecycle::Closed),
        (json!({"status": "unknownFutureValue"}), Lifecycle::Unknown),
        (json!({"status": 3}), Lifecycle::Unknown),
        (json!({}), Lifecycle::Unknown),
        (
            json!({"status": "new", "classification": "falsePositive"}),
            Lifecycle::FalsePositive,
        ),
        (
            json!({"status": "new", "classification": "informationalExpectedActivity",
                "determination": "securityTesting"}),
            Lifecycle::Test,
        ),
    ] {
        assert_eq!(one_alert(&fields).lifecycle, lifecycle, "{fields}");
    }
    for (fields, kind) in [
        (
            json!({"determination": "compromisedAccount"}),
            SignalKind::AccountCompromise,
        ),
        (
            json!({"determination": "compromisedUser"}),
            SignalKind::AccountCompromise,
        ),
        (json!({"determination": "apt"}), SignalKind::ThreatActivity),
        (
            json!({"category": "Credential Access"}),
            SignalKind::CredentialCompromise,
        ),
        (
            json!({"category": "unknownFutureValue"}),
            SignalKind::Detection,
        ),
        (json!({}), SignalKind::Detection),
    ] {
        assert_eq!(one_alert(&fields).kind, kind, "{fields}");
    }
    for (written, severity) in [
        ("informational", Severity::Info),
        ("low", Severity::Low),
        ("medium", Severity::Medium),
        ("high", Severity::High),
        ("unknown", Severity::Unknown),
        ("unknownFutureValue", Severity::Unknown),
    ] {
        assert_eq!(one_alert(&json!({"severity": written})).severity, severity);
    }
}

#[test]
fn an_issue_of_health_is_never_about_security() {
    let page = issues(&fixture("graph_issues.json"), &origin()).unwrap();
    assert!(!page.more);
    let issue = &page.signals[0];
    assert_eq!(issue.kind, SignalKind::ServiceIncident);
    assert_eq!(issue.dialect, Dialect::GraphHealth);
    assert_eq!(
        (issue.lifecycle, issue.severity),
        (Lifecycle::Opened, Severity::High)
    );
    assert!(issue.products.contains("exchange online"));
    let forged = json!({"id": "a", "determination": "compromisedAccount", "category": "CredentialAccess",
        "status": "serviceDegradation", "classification": "breach"});
    let page = issues(forged.to_string().as_bytes(), &origin()).unwrap();
    assert_eq!(page.signals[0].kind, SignalKind::ServiceIncident);
}

#[test]
fn each_of_the_17_states_of_health_is_known() {
    let states = [
        "serviceOperational",
        "investigating",
        "restoringService",
        "verifyingService",
        "serviceRestored",
        "postIncidentReviewPublished",
        "serviceDegradation",
        "serviceInterruption",
        "extendedRecovery",
        "falsePositive",
        "investigationSuspended",
        "resolved",
        "mitigatedExternal",
        "mitigated",
        "resolvedExternal",
        "confirmed",
        "reported",
    ];
    assert_eq!(states.len(), 17);
    for state in states {
        assert_ne!(
            one_issue(state, &Value::Null).lifecycle,
            Lifecycle::Unknown,
            "{state}"
        );
    }
    let future = one_issue("unknownFutureValue", &Value::Null);
    assert_eq!(
        (future.lifecycle, future.severity),
        (Lifecycle::Unknown, Severity::Unknown)
    );
}

#[test]
fn only_the_field_that_says_so_resolves_an_issue() {
    for (status, is_resolved, lifecycle) in [
        ("serviceInterruption", json!(true), Lifecycle::Closed),
        ("serviceRestored", json!(false), Lifecycle::Updated),
        ("serviceRestored", json!(null), Lifecycle::Closed),
        ("falsePositive", json!(true), Lifecycle::FalsePositive),
        ("unknownFutureValue", json!(false), Lifecycle::Unknown),
    ] {
        assert_eq!(
            one_issue(status, &is_resolved).lifecycle,
            lifecycle,
            "{status}"
        );
    }
}

#[test]
fn an_object_without_an_id_hides_none_of_the_others() {
    let body = json!({"value": [{"title": "a"}, {"id": "b"}, 7]}).to_string();
    for page in [
        alerts(body.as_bytes(), &origin()),
        issues(body.as_bytes(), &origin()),
    ] {
        let page = page.unwrap();
        assert_eq!((page.signals.len(), page.refused.len()), (1, 2));
        assert!(page.refused[0].sentence.starts_with("`value[0].id`"));
    }
    assert!(alerts(b"{}", &origin()).is_err());
    assert!(alerts(b"[]", &origin()).is_err());
    assert!(alerts(br#"{"value":[],"@odata.nextLink":5}"#, &origin()).is_err());
}

#[test]
fn more_objects_than_are_taken_are_refused() {
    let body = format!(r#"{{"value":[{}]}}"#, vec!["1"; OBJECTS_MAX + 1].join(","));
    assert_eq!(
        alerts(body.as_bytes(), &origin()).unwrap_err().code,
        "too_many"
    );
}

#[test]
fn a_page_cut_or_changed_anywhere_is_no_panic() {
    mangled(&fixture("graph_alerts.json"), |body| {
        drop(alerts(body, &origin()))
    });
    mangled(&fixture("graph_issues.json"), |body| {
        drop(issues(body, &origin()))
    });
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(alerts(&body, &origin()));
        drop(issues(&body, &origin()));
    }

    #[test]
    fn any_json_is_read_or_refused(value in any_json(WORDS)) {
        for body in [value.to_string(), json!({ "value": [value] }).to_string()] {
            drop(alerts(body.as_bytes(), &origin()));
            drop(issues(body.as_bytes(), &origin()));
        }
    }
}
