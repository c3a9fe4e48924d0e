//! Claims that are refused, and what the others become.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::report::tests::origin;
use crate::signal::subject::Reach;
use crate::signal::{Lifecycle, Severity, SignalKind};

const NOW: i64 = 1_706_000_000;
const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";

fn try_at(claims: &Value, critical: &[&str], now: i64) -> Result<Received, SetRefusal> {
    let audiences = ["us".to_owned(), "us too".to_owned()];
    let critical = critical.iter().map(|name| (*name).to_owned()).collect();
    let expected = Expected {
        issuer: "https://idp.example.com/",
        audiences: &audiences,
        critical_members: &critical,
        now: Timestamp::from_timestamp(now, 0).unwrap(),
    };
    read(claims, Digest::of(b"raw"), &expected, &origin())
}

fn try_read(claims: &Value) -> Result<Received, SetRefusal> {
    try_at(claims, &[], NOW)
}

fn signal_of(received: Received) -> Signal {
    match received {
        Received::Signal(signal) => *signal,
        Received::Stream { .. } => panic!("a signal"),
    }
}

fn claims(event_type: &str, event: &Value) -> Value {
    json!({
        "iss": "https://idp.example.com/", "jti": "id-1", "iat": NOW, "aud": ["them", "us"],
        "sub_id": {"format": "email", "email": "ana@contoso.example"},
        "events": { event_type: event },
    })
}

fn sound() -> Value {
    claims(
        &format!("{RISC}credential-compromise"),
        &json!({"credential_type": "password"}),
    )
}

fn about(sub_id: Value) -> Value {
    let mut claims = sound();
    claims["sub_id"] = sub_id;
    claims
}

fn risk(event: Value) -> Signal {
    signal_of(try_read(&claims(&format!("{CAEP}risk-level-change"), &event)).unwrap())
}

#[test]
fn the_example_of_rfc_8935_becomes_a_signal() {
    let claims = json!({
        "iss": "https://idp.example.com/",
        "jti": "756E69717565206964656E746966696572",
        "iat": 1_508_184_845,
        "aud": "us",
        "events": {
            "https://schemas.openid.net/secevent/risc/event-type/account-disabled": {
                "subject": {
                    "subject_type": "iss-sub",
                    "iss": "https://idp.example.com/",
                    "sub": "7375626A656374",
                },
                "reason": "hijacking",
            },
        },
    });
    let signal = signal_of(try_at(&claims, &[], 1_508_184_850).unwrap());
    assert_eq!(signal.kind, SignalKind::AccountCompromise);
    assert_eq!(signal.severity, Severity::High);
    assert_eq!(signal.subject.user.as_deref(), Some("7375626A656374"));
    assert_eq!(signal.external_id, "756E69717565206964656E746966696572");
    assert!(signal.labels.contains("reason:hijacking") && !signal.late);
}

#[test]
fn each_wrong_claim_has_its_code() {
    let forged: [(&str, Value, SetError); 12] = [
        ("exp", json!(NOW + 60), SetError::InvalidRequest),
        ("exp", Value::Null, SetError::InvalidRequest),
        ("sub", json!("ana"), SetError::InvalidRequest),
        ("iss", Value::Null, SetError::InvalidIssuer),
        (
            "iss",
            json!("https://evil.example/"),
            SetError::InvalidIssuer,
        ),
        ("aud", Value::Null, SetError::InvalidAudience),
        ("aud", json!(["them"]), SetError::InvalidAudience),
        ("aud", json!([]), SetError::InvalidAudience),
        ("jti", json!(""), SetError::InvalidRequest),
        ("iat", json!("now"), SetError::InvalidRequest),
        ("events", json!({}), SetError::InvalidRequest),
        (
            "events",
            json!({"a": {}, "b": {}}),
            SetError::InvalidRequest,
        ),
    ];
    for (name, value, err) in forged {
        let mut claims = sound();
        claims[name] = value;
        assert_eq!(try_read(&claims).unwrap_err().err, err, "{claims}");
    }
    for (name, err) in [
        ("iss", SetError::InvalidIssuer),
        ("aud", SetError::InvalidAudience),
        ("jti", SetError::InvalidRequest),
        ("iat", SetError::InvalidRequest),
        ("events", SetError::InvalidRequest),
        ("sub_id", SetError::InvalidRequest),
    ] {
        let mut claims = sound();
        claims.as_object_mut().unwrap().remove(name);
        assert_eq!(try_read(&claims).unwrap_err().err, err, "without {name}");
    }
    assert!(try_read(&sound()).is_ok());
}

#[test]
fn a_token_from_the_future_is_refused_and_an_old_one_is_late() {
    let at = |ahead: i64| try_at(&sound(), &[], NOW - ahead);
    assert_eq!(at(121).unwrap_err().reason, "from_the_future");
    assert!(at(120).is_ok());
    assert!(!signal_of(at(-300).unwrap()).late);
    let five_days_old = signal_of(at(-5 * 86_400).unwrap());
    assert!(five_days_old.late && five_days_old.lifecycle.can_tighten());
    let mut claims = sound();
    claims["iat"] = json!(f64::MAX);
    assert_eq!(try_read(&claims).unwrap_err().reason, "iat");
    claims["iat"] = json!(1_706_000_000.5);
    assert!(try_read(&claims).is_ok());
}

#[test]
fn a_subject_of_a_tenant_alone_is_about_everybody_of_it() {
    let tenant = json!({"format": "complex", "tenant": {"format": "opaque", "id": "contoso"}});
    let signal = signal_of(try_read(&about(tenant)).unwrap());
    assert_eq!(signal.subject.reach(), Reach::Everybody);
    assert!(signal.subject.touches_user("contoso", "anybody"));
    assert!(!signal.subject.touches_user("fabrikam", "anybody"));
}

#[test]
fn every_format_of_a_subject_is_read() {
    let formats = [
        (json!({"format": "email", "email": "a@b.c"}), "a@b.c"),
        (json!({"format": "iss_sub", "iss": "i", "sub": "s"}), "s"),
        (json!({"format": "opaque", "id": "o"}), "o"),
        (
            json!({"format": "phone_number", "phone_number": "+1"}),
            "+1",
        ),
        (json!({"format": "account", "uri": "acct:a@b.c"}), "a@b.c"),
        (json!({"format": "uri", "uri": "urn:a"}), "urn:a"),
        (json!({"format": "did", "url": "did:a:b"}), "did:a:b"),
        (json!({"format": "jwt_id", "iss": "i", "jti": "j"}), "j"),
        (
            json!({"format": "aliases", "identifiers": [
                {"format": "opaque", "id": "o"}, {"format": "email", "email": "a@b.c"}]}),
            "a@b.c",
        ),
    ];
    for (sub_id, wanted) in formats {
        let signal = signal_of(try_read(&about(sub_id)).unwrap());
        assert_eq!(signal.subject.user.as_deref(), Some(wanted));
    }
}

#[test]
fn a_subject_that_cannot_be_read_never_becomes_everybody() {
    for sub_id in [
        json!({"format": "email"}),
        json!({"format": "email", "email": ""}),
        json!({"format": "retina", "scan": "x"}),
        json!({"format": "aliases", "identifiers": []}),
        json!({"format": "aliases", "identifiers": [{"format": "aliases", "identifiers": []}]}),
        json!({"format": "complex"}),
        json!({"format": "complex", "robot": {"format": "opaque", "id": "r2"}}),
        json!({"format": "complex", "user": {"format": "retina"}}),
        json!({}),
        json!("ana"),
    ] {
        let refused = try_read(&about(sub_id.clone())).unwrap_err();
        assert_eq!(refused.reason, "subject", "{sub_id}");
    }
}

#[test]
fn a_critical_member_that_cannot_be_processed_discards_the_event() {
    let sub_id = about(json!({
        "format": "complex",
        "tenant": {"format": "opaque", "id": "contoso"},
        "robot": {"format": "opaque", "id": "r2"},
    }));
    let refused = try_at(&sub_id, &["tenant", "robot"], NOW).unwrap_err();
    assert_eq!(
        (refused.err, refused.reason),
        (SetError::InvalidRequest, "discarded")
    );
    let signal = signal_of(try_at(&sub_id, &["tenant"], NOW).unwrap());
    assert!(
        signal.labels.contains("subject:robot"),
        "what was left out is said"
    );
}

#[test]
fn a_session_of_nobody_in_particular_is_not_everybody() {
    let session = json!({"format": "opaque", "id": "s1"});
    let tenant = json!({"format": "opaque", "id": "contoso"});
    let sub_id = json!({"format": "complex", "session": session, "tenant": tenant});
    let signal = signal_of(try_read(&about(sub_id)).unwrap());
    assert_eq!(signal.subject.reach(), Reach::Somebody);
}

#[test]
fn risk_that_falls_never_tightens_and_risk_that_rises_does() {
    let level = |current: &str, previous: Option<&str>| {
        risk(json!({"principal": "USER", "current_level": current, "previous_level": previous}))
    };
    assert_eq!(level("HIGH", None).severity, Severity::High);
    assert_eq!(level("MEDIUM", Some("LOW")).severity, Severity::Medium);
    assert!(level("MEDIUM", Some("LOW")).lifecycle.can_tighten());
    assert!(level("HIGH", Some("HIGH")).lifecycle.can_tighten());
    assert_eq!(level("LOW", None).severity, Severity::Low);
    assert!(!level("LOW", None).lifecycle.can_tighten());
    assert!(!level("MEDIUM", Some("HIGH")).lifecycle.can_tighten());
    let odd = level("PURPLE", Some("HIGH"));
    assert_eq!(
        (odd.severity, odd.lifecycle),
        (Severity::Unknown, Lifecycle::Unknown)
    );
    assert_eq!(odd.severity_raw.as_deref(), Some("PURPLE"));
}

#[test]
fn the_principal_says_what_a_simple_subject_is() {
    let signal = risk(json!({"principal": "TENANT", "current_level": "HIGH",
        "event_timestamp": NOW - 5, "risk_reason": "PASSWORD_FOUND"}));
    assert_eq!(
        signal.subject.tenant.as_deref(),
        Some("ana@contoso.example")
    );
    assert_eq!(signal.subject.reach(), Reach::Everybody);
    assert_eq!(signal.occurred_at, Timestamp::from_timestamp(NOW - 5, 0));
    assert_eq!(signal.title, "caep risk-level-change: PASSWORD_FOUND");
}

#[test]
fn events_that_say_that_all_is_well_never_tighten() {
    for (event_type, event) in [
        ("caep/event-type/session-established", json!({})),
        ("caep/event-type/session-presented", json!({})),
        (
            "caep/event-type/device-compliance-change",
            json!({"current_status": "compliant"}),
        ),
        ("risc/event-type/account-enabled", json!({})),
    ] {
        let event_type = format!("https://schemas.openid.net/secevent/{event_type}");
        let signal = signal_of(try_read(&claims(&event_type, &event)).unwrap());
        assert!(!signal.lifecycle.can_tighten(), "{event_type}");
    }
}

#[test]
fn a_type_that_is_not_known_is_admitted_as_other() {
    for event_type in [&format!("{CAEP}of-the-future"), "https://example.org/x"] {
        let signal = signal_of(try_read(&claims(event_type, &json!({}))).unwrap());
        assert_eq!(signal.kind, SignalKind::Other);
        assert_eq!(signal.severity, Severity::Unknown);
        assert!(signal.lifecycle.can_tighten());
    }
}

#[test]
fn events_about_the_stream_are_no_signals() {
    let read_stream = |name: &str, event: Value| {
        let event_type = format!("{SSF}{name}");
        let mut claims = claims(&event_type, &event);
        claims["sub_id"] = json!({"format": "opaque", "id": "stream-1"});
        match try_read(&claims).unwrap() {
            Received::Stream {
                stream_id, event, ..
            } => (stream_id.unwrap(), event),
            Received::Signal(_) => panic!("no signal"),
        }
    };
    let (id, event) = read_stream("verification", json!({"state": "c3RhdGU="}));
    assert_eq!(id, "stream-1");
    let state = Some("c3RhdGU=".to_owned());
    assert_eq!(event, StreamEvent::Verification { state });
    let (_, event) = read_stream(
        "stream-updated",
        json!({"status": "paused", "reason": "late"}),
    );
    let reason = Some("late".to_owned());
    assert_eq!(
        event,
        StreamEvent::Updated {
            status: StreamStatus::Paused,
            reason
        }
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
        Just(json!("complex")),
        Just(json!("aliases")),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let name = prop_oneof!["format", "tenant", "session", "identifiers", "id", ".*"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_claims_never_panic(value in any_json(), name in "(sub_id|iat|events|aud|jti)") {
        let _ = try_read(&value);
        let mut forged = sound();
        forged[name.as_str()] = value.clone();
        let _ = try_read(&forged);
        let _ = try_read(&claims(&format!("{CAEP}risk-level-change"), &value));
    }
}
