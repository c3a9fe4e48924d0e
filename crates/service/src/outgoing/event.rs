//! Writes a CloudEvent (1.0, structured) out of an entry of the trail.
//!
//! The same entry gives the same id for ever, and an entry that takes its number in a restored store another
//! one: the id carries a part of the entry's hash. Links show; none of them does anything.

use serde_json::{Map, Value, json};
use tidegate_policy::time::Timestamp;

use super::kind::{self, Kind};

/// The media type of a structured event.
pub const MEDIA_TYPE: &str = "application/cloudevents+json";
/// The largest field of an entry that is sent along, in bytes of JSON.
const FIELD_MAX: usize = 2 << 10;
/// The most that is sent along of an entry. Receivers of webhooks are promised less than 20 KB in all.
const DETAIL_MAX: usize = 12 << 10;

/// What is never sent along: a condition may name people, and what a release stands on is looked at here.
const NEVER: [&str; 2] = ["where", "substance"];

/// An event that is ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Its id, the same at every attempt.
    pub id: String,
    /// The event itself.
    pub body: String,
}

/// What an entry says, and what those it speaks of are called.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Its place in the trail.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// To what, such as `hold:ID`.
    pub subject: String,
    /// The rest.
    pub detail: Value,
    /// The hash of the entry.
    pub hash: Vec<u8>,
    /// What is known of the hold it is about: kind, scope with names, reason.
    pub hold: Option<Value>,
    /// What is known of the rollout it is about: id and name.
    pub rollout: Option<Value>,
}

/// Writes the event of an entry.
#[must_use]
pub fn write(kind: Kind, told: &Told, public_url: Option<&str>) -> Ready {
    let id = id_of(told.seq, &told.hash);
    let (what, name) = told.subject.split_once(':').unwrap_or(("", &told.subject));
    let (detail, left_out) = short(&told.detail);
    let wave = told.detail.get("wave").filter(|wave| !wave.is_null());
    let mut data = Map::new();
    let fields = [
        ("action", Some(json!(kind.action))),
        ("says", Some(json!(kind.says))),
        ("by", Some(json!(told.actor))),
        ("hold", told.hold.clone()),
        ("rollout", told.rollout.clone()),
        ("wave", wave.cloned()),
        ("detail", Some(detail)),
        ("left_out", (!left_out.is_empty()).then(|| json!(left_out))),
        ("links", Some(links((what, name), wave, told, public_url))),
    ];
    for (field, value) in fields {
        if let Some(value) = value {
            data.insert(field.to_owned(), value);
        }
    }
    let body = json!({
        "specversion": "1.0",
        "id": id,
        "source": source(public_url),
        "type": kind.event_type(),
        "subject": format!("{what}/{name}"),
        "time": told.at,
        "datacontenttype": "application/json",
        // The extension for order: compared as text, it is the order of the trail.
        "sequence": format!("{:020}", told.seq),
        "data": data,
    });
    Ready {
        id,
        body: body.to_string(),
    }
}

/// Writes an event that only tries out whether an endpoint answers. `token` makes it differ from all others.
#[must_use]
pub fn write_test(name: &str, token: &str, now: Timestamp, public_url: Option<&str>) -> Ready {
    let id = format!("test_{token}");
    let body = json!({
        "specversion": "1.0",
        "id": id,
        "source": source(public_url),
        "type": kind::TEST,
        "subject": format!("endpoint/{name}"),
        "time": now,
        "datacontenttype": "application/json",
        "data": {"says": "nothing has happened: somebody tries out this endpoint"},
    });
    Ready {
        id,
        body: body.to_string(),
    }
}

fn source(public_url: Option<&str>) -> &str {
    public_url.unwrap_or("/tidegate")
}

/// Returns the id of an entry's event. It has no point and no blank: the signature stands on that.
#[must_use]
pub fn id_of(seq: i64, hash: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut id = format!("evt_{seq}_");
    for byte in hash.iter().take(6) {
        let _ = write!(id, "{byte:02x}");
    }
    id
}

/// Returns what is sent along of an entry, and the names of what is not.
fn short(detail: &Value) -> (Value, Vec<String>) {
    let (mut kept, mut left_out, mut bytes) = (Map::new(), Vec::new(), 0);
    for (name, value) in detail.as_object().into_iter().flatten() {
        if value.is_null() {
            continue;
        }
        let size = name.len() + value.to_string().len();
        let is_large = size > FIELD_MAX || bytes + size > DETAIL_MAX;
        if is_large || NEVER.contains(&name.as_str()) {
            left_out.push(name.clone());
        } else {
            bytes += size;
            kept.insert(name.clone(), value.clone());
        }
    }
    left_out.truncate(32);
    (Value::Object(kept), left_out)
}

/// Where people look at what happened. Every one is a `GET` that changes nothing.
fn links(
    (what, name): (&str, &str),
    wave: Option<&Value>,
    told: &Told,
    public_url: Option<&str>,
) -> Value {
    let mut paths = vec![(
        "entry",
        format!("/v1/audit?after={}&limit=1", told.seq.saturating_sub(1)),
    )];
    match what {
        "hold" => {
            paths.push(("hold", format!("/v1/holds/{name}")));
            let is_halt = |hold: &Value| hold.get("kind").is_some_and(|kind| kind == "halt");
            if told.hold.as_ref().is_some_and(is_halt) {
                paths.push(("preflight", format!("/v1/holds/{name}/preflight")));
                paths.push(("approvals", format!("/v1/holds/{name}/approvals")));
            }
        }
        "rollout" => {
            paths.push(("rollout", format!("/v1/rollouts/{name}")));
            paths.push(("report", format!("/v1/rollouts/{name}/report")));
            if let Some(wave) = wave.and_then(Value::as_u64) {
                paths.push(("wave", format!("/v1/rollouts/{name}/waves/{wave}")));
            }
            let emergency = told.detail.pointer("/emergency/id");
            if let Some(emergency) = emergency.and_then(Value::as_str) {
                paths.push(("emergency", format!("/v1/emergencies/{emergency}")));
            }
        }
        "policy" => paths.push(("policy", format!("/v1/policies/{name}"))),
        "source" => paths.push(("sources", "/v1/sources".to_owned())),
        "endpoint" => paths.push(("endpoints", "/v1/endpoints".to_owned())),
        _ => {}
    }
    let base = public_url.unwrap_or_default();
    let links = paths
        .into_iter()
        .map(|(name, path)| (name.to_owned(), json!(format!("{base}{path}"))));
    Value::Object(links.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(detail: Value) -> Told {
        Told {
            seq: 42,
            actor: "ann".to_owned(),
            subject: "hold:0198".to_owned(),
            detail,
            hash: vec![0xab; 32],
            hold: Some(json!({"id": "0198", "kind": "halt"})),
            ..Told::default()
        }
    }

    fn body(told: &Told, public_url: Option<&str>) -> Value {
        let ready = write(kind::of("hold.place").unwrap(), told, public_url);
        serde_json::from_str(&ready.body).unwrap()
    }

    #[test]
    fn an_entry_is_told_with_its_links_and_a_stable_id() {
        let body = body(
            &told(
                json!({"reason": "x", "effect": null, "where": {"attribute": "id", "equals": "e1"}}),
            ),
            Some("https://t.example"),
        );
        assert_eq!(body["id"], "evt_42_abababababab");
        assert_eq!(body["source"], "https://t.example");
        assert_eq!(body["type"], "dev.tidegate.hold.placed");
        assert_eq!(body["subject"], "hold/0198");
        assert_eq!(body["sequence"], "00000000000000000042");
        assert_eq!(body["data"]["detail"], json!({"reason": "x"}));
        assert_eq!(
            body["data"]["left_out"],
            json!(["where"]),
            "it may name people"
        );
        let links = &body["data"]["links"];
        assert_eq!(links["hold"], "https://t.example/v1/holds/0198");
        assert_eq!(
            links["approvals"],
            "https://t.example/v1/holds/0198/approvals"
        );
    }

    #[test]
    fn a_restored_store_gives_the_same_number_another_id() {
        assert_ne!(id_of(42, &[1; 32]), id_of(42, &[2; 32]));
        assert_eq!(id_of(42, &[1; 32]), id_of(42, &[1; 32]));
    }

    #[test]
    fn what_is_too_large_is_left_out_by_name_and_the_event_stays_small() {
        let mut detail = Map::new();
        for number in 0..100 {
            detail.insert(format!("f{number}"), json!("x".repeat(1_000)));
        }
        detail.insert("a".to_owned(), json!("x".repeat(100_000)));
        let told = told(Value::Object(detail));
        let body = body(&told, None);
        assert!(
            body.to_string().len() < 20_000,
            "{}",
            body.to_string().len()
        );
        assert_eq!(body["data"]["left_out"][0], "a");
        assert_eq!(body["source"], "/tidegate");
    }
}
