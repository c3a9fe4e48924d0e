//! CloudEvents 1.0: binary mode (headers), structured mode and batches.
//!
//! CloudEvents says nothing of who sent an event, so the trust is that of the channel it came over:
//! `signed_fresh` inside a Standard Webhook, `authenticated_channel` under a token or a client certificate,
//! `unauthenticated` otherwise. An event is known by its source and id together. Its time and its expiry
//! are for reports: one that cannot be read is left out, and nothing ends by the other. What the data is,
//! `Event::payload` says; `report` reads our own, and a finding of OCSF is read by its own reader and given
//! back to `Event::sealed`, so that both carry the id and the expiry of the envelope.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::report::{self, Envelope};
use super::{Origin, TEXT_MAX, Unreadable, json};
use crate::digest::{Digest, DigestBuilder};
use crate::signal::{Dialect, Signal};
use crate::time::Timestamp;

/// The most events of one batch: what is admitted together is admitted in one transaction.
pub const BATCH_MAX: usize = 100;
/// The most attributes of one event.
const ATTRIBUTES_MAX: usize = 64;
/// What a header that is an attribute begins with.
const PREFIX: &str = "ce-";

/// What the data of an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// A report in our own fields, or something whose type alone is read.
    Report,
    /// A finding of OCSF.
    Ocsf,
}

/// The data of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// There is none.
    Nothing,
    /// JSON.
    Json(Value),
    /// Bytes of another form, which nobody reads here.
    Bytes(Vec<u8>),
}

/// An event, its required attributes there.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its id, unique at its source.
    pub id: String,
    /// The context in which it happened.
    pub source: String,
    /// What happened.
    pub event_type: String,
    /// What it is about within its source, in the words of the source.
    pub subject: Option<String>,
    /// The schema that its data follow.
    pub dataschema: Option<String>,
    /// The form of its data.
    pub datacontenttype: Option<String>,
    /// When it happened.
    pub time: Option<Timestamp>,
    /// When its source expects it to be out of date (`expirytime`).
    pub expires_at: Option<Timestamp>,
    /// Its data.
    pub data: Data,
    /// The digest of the bytes it was read from.
    pub raw: Digest,
}

/// Reads an event in binary mode: its attributes are headers, the body is its data.
///
/// # Errors
///
/// When a header cannot be decoded or is there twice, a required attribute is missing, or data that say
/// they are JSON are not.
pub fn binary<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    body: &[u8],
) -> Result<Event, Unreadable> {
    let mut attributes = BTreeMap::new();
    for (header, value) in headers {
        let header = header.to_ascii_lowercase();
        let name = match header.strip_prefix(PREFIX) {
            Some("datacontenttype") => {
                let sentence = "in binary mode `content-type` says what the data are";
                return Err(Unreadable::new("attribute_invalid", sentence));
            }
            Some(name) => name,
            None if header == "content-type" => "datacontenttype",
            None => continue,
        };
        // Two readers may take two different ones of a header that is there twice.
        if attributes
            .insert(name.to_owned(), decoded(name, value)?)
            .is_some()
        {
            let sentence = format!("the attribute `{name}` is there twice");
            return Err(Unreadable::new("attribute_twice", sentence));
        }
        check_count(attributes.len())?;
    }
    let is_json = is_json(attributes.get("datacontenttype"));
    let data = data_of(body.to_vec(), is_json)?;
    // The headers are part of what was said: two events with the same data are not the same bytes.
    let mut raw = DigestBuilder::default();
    for (name, value) in &attributes {
        raw.part(name.as_bytes());
        raw.part(value.as_bytes());
    }
    raw.part(body);
    event(&mut attributes, data, raw.finish())
}

/// Reads an event in structured mode (`application/cloudevents+json`).
///
/// # Errors
///
/// When it is no JSON object, a required attribute is missing, or its data cannot be read.
pub fn structured(body: &[u8]) -> Result<Event, Unreadable> {
    one(json(body)?, Digest::of(body))
}

/// Reads a batch (`application/cloudevents-batch+json`): every event in it, or none. It is for whoever
/// asked for batches; others get a refusal before this is called.
///
/// # Errors
///
/// When it is no list, is too long, or one of its events cannot be read.
pub fn batch(body: &[u8]) -> Result<Vec<Event>, Unreadable> {
    let Value::Array(events) = json(body)? else {
        return Err(Unreadable::field("body", "a list of events"));
    };
    if events.len() > BATCH_MAX {
        let sentence = format!("a batch has at most {BATCH_MAX} events");
        return Err(Unreadable::new("batch_too_long", sentence));
    }
    let raw = Digest::of(body);
    events.into_iter().map(|event| one(event, raw)).collect()
}

impl Event {
    /// Says what its data are, by their schema and its type.
    #[must_use]
    pub fn payload(&self) -> Payload {
        let of_type = self.event_type.to_ascii_lowercase();
        let mut words = of_type.split(['.', '/', ':']);
        let schema = self.dataschema.as_deref().unwrap_or_default();
        let schema = schema.to_ascii_lowercase();
        let of_schema = schema
            .split_once("://")
            .map_or(schema.as_str(), |(_, at)| at);
        let is_schema = of_schema.starts_with("ocsf") || of_schema.starts_with("schema.ocsf.io");
        if is_schema || words.next() == Some("ocsf") || of_type.contains(".ocsf.") {
            return Payload::Ocsf;
        }
        Payload::Report
    }

    /// What a repetition of it is known by: source and id, which a blank divides, for neither has one at
    /// its ends and a source has none at all. What would be too long to keep is digested, not cut.
    #[must_use]
    pub fn external_id(&self) -> String {
        let together = format!("{} {}", self.source, self.id);
        if together.len() <= TEXT_MAX {
            return together;
        }
        let mut digest = DigestBuilder::default();
        digest.part(self.source.as_bytes());
        digest.part(self.id.as_bytes());
        digest.finish().to_string()
    }

    /// Reads its data as a report of our own form. Where there are none, or of a form that is not read
    /// here, the type alone says what it is.
    ///
    /// # Errors
    ///
    /// When the report is no object, or its subject cannot be read.
    pub fn report(&self, origin: &Origin) -> Result<Signal, Unreadable> {
        let nothing = Value::Object(Map::new());
        let data = match &self.data {
            Data::Json(data) => data,
            Data::Nothing | Data::Bytes(_) => &nothing,
        };
        let external_id = self.external_id();
        let envelope = Envelope {
            dialect: Dialect::CloudEvents,
            external_id: &external_id,
            event_type: Some(&self.event_type),
            issued_at: self.time,
            raw: self.raw,
        };
        report::read(data, &envelope, origin).map(|signal| self.sealed(signal))
    }

    /// Gives a signal that was read from its data the id, the instants and the bytes of the envelope.
    #[must_use]
    pub fn sealed(&self, mut signal: Signal) -> Signal {
        signal.external_id = self.external_id();
        signal.issued_at = self.time;
        signal.raw = self.raw;
        signal.expires_at = self.expires_at.or(signal.expires_at);
        signal
    }
}

fn one(event_object: Value, raw: Digest) -> Result<Event, Unreadable> {
    let Value::Object(mut members) = event_object else {
        return Err(Unreadable::field("event", "an object"));
    };
    check_count(members.len())?;
    let encoded = members.remove("data_base64").filter(|data| !data.is_null());
    let plain = members.remove("data").filter(|data| !data.is_null());
    let mut attributes = BTreeMap::new();
    for (name, value) in members {
        let written = match value {
            Value::String(text) => text,
            Value::Bool(is_so) => is_so.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Null => continue,
            Value::Array(_) | Value::Object(_) => {
                return Err(Unreadable::field(&name, "a text, a number or a boolean"));
            }
        };
        attributes.insert(name, written);
    }
    let is_json = is_json(attributes.get("datacontenttype"));
    let data = match (plain, encoded) {
        (Some(_), Some(_)) => {
            let sentence = "an event has `data` or `data_base64`, not both";
            return Err(Unreadable::new("data_twice", sentence));
        }
        (None, None) => Data::Nothing,
        (None, Some(encoded)) => {
            let bytes = encoded.as_str().and_then(|text| STANDARD.decode(text).ok());
            let bytes = bytes.ok_or_else(|| Unreadable::field("data_base64", "base64"))?;
            data_of(bytes, is_json)?
        }
        (Some(Value::String(text)), None) if !is_json => Data::Bytes(text.into_bytes()),
        (Some(data), None) => Data::Json(data),
    };
    event(&mut attributes, data, raw)
}

fn event(
    attributes: &mut BTreeMap<String, String>,
    data: Data,
    raw: Digest,
) -> Result<Event, Unreadable> {
    let version = required(attributes, "specversion")?;
    if version != "1.0" {
        return Err(Unreadable::field("specversion", "`1.0`"));
    }
    let source = required(attributes, "source")?;
    if source.contains(char::is_whitespace) {
        return Err(Unreadable::field("source", "a URI reference"));
    }
    let at = |name: &str| {
        let written = attributes.get(name)?;
        let read = chrono::DateTime::parse_from_rfc3339(written).ok()?;
        Some(read.to_utc())
    };
    let (time, expires_at) = (at("time"), at("expirytime"));
    Ok(Event {
        id: required(attributes, "id")?,
        source,
        event_type: required(attributes, "type")?,
        subject: attributes.remove("subject"),
        dataschema: attributes.remove("dataschema"),
        datacontenttype: attributes.remove("datacontenttype"),
        time,
        expires_at,
        data,
        raw,
    })
}

fn required(attributes: &mut BTreeMap<String, String>, name: &str) -> Result<String, Unreadable> {
    attributes
        .remove(name)
        .filter(|value| !value.trim().is_empty() && value.trim() == value)
        .filter(|value| !value.contains(char::is_control))
        .ok_or_else(|| Unreadable::field(name, "a text without blanks around it"))
}

fn check_count(count: usize) -> Result<(), Unreadable> {
    if count <= ATTRIBUTES_MAX {
        return Ok(());
    }
    let sentence = format!("an event has at most {ATTRIBUTES_MAX} attributes");
    Err(Unreadable::new("too_many_attributes", sentence))
}

/// Data are JSON when nothing says what they are.
fn is_json(datacontenttype: Option<&String>) -> bool {
    let Some(written) = datacontenttype else {
        return true;
    };
    let essence = written.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

fn data_of(bytes: Vec<u8>, is_json: bool) -> Result<Data, Unreadable> {
    if bytes.is_empty() {
        return Ok(Data::Nothing);
    }
    if is_json {
        return json(&bytes).map(Data::Json);
    }
    Ok(Data::Bytes(bytes))
}

/// Decodes the value of a header: quotes first, then one round of percent-decoding, then UTF-8, of which
/// invalid and overlong forms are refused. One round and no more, so that `%2541` is `%41` and not `A`.
fn decoded(name: &str, value: &[u8]) -> Result<String, Unreadable> {
    let refused = |wanted: &str| {
        let sentence = format!("the header of the attribute `{name}` {wanted}");
        Unreadable::new("attribute_invalid", sentence)
    };
    let bare =
        unquoted(value.trim_ascii()).ok_or_else(|| refused("has a quote that does not end"))?;
    let text = String::from_utf8(percent_decoded(&bare)).map_err(|_| refused("is not UTF-8"))?;
    if text.contains(char::is_control) {
        return Err(refused("has a control character"));
    }
    Ok(text)
}

/// Takes a value out of its double quotes and backslashes, where it is in quotes.
fn unquoted(value: &[u8]) -> Option<Vec<u8>> {
    let Some(inside) = value.strip_prefix(b"\"") else {
        return Some(value.to_vec());
    };
    let mut bare = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => bare.push(*bytes.next()?),
            b'"' => return bytes.next().is_none().then_some(bare),
            byte => bare.push(*byte),
        }
    }
    None
}

/// Replaces each percent sign with two digits behind it. A sign without them stands for itself: a source
/// that does not encode `100%` must not lose its event over it.
fn percent_decoded(value: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|it| u8::try_from(it).ok())
    };
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&first, behind)) = rest.split_first() {
        let pair = match behind {
            [high, low, ..] if first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match pair {
            Some((high, low)) => {
                decoded.push((high << 4) | low);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(first);
                rest = behind;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::dialect::report::tests::origin;
    use crate::signal::{Severity, SignalKind};

    const REQUIRED: [(&str, &[u8]); 4] = [
        ("CE-Id", b"1"),
        ("ce-source", b"/security"),
        ("ce-specversion", b"1.0"),
        ("ce-type", b"com.example.vendor_breach.v1"),
    ];

    fn with<'a>(more: &[(&'a str, &'a [u8])], body: &[u8]) -> Result<Event, Unreadable> {
        binary(REQUIRED.into_iter().chain(more.iter().copied()), body)
    }

    #[test]
    fn an_event_in_binary_mode_becomes_a_signal() {
        let more: [(&str, &[u8]); 3] = [
            ("content-type", b"application/json; charset=utf-8"),
            ("ce-time", b"2024-01-19T21:00:00Z"),
            ("ce-expirytime", b"2024-02-19T21:00:00Z"),
        ];
        let event = with(&more, br#"{"severity":"high"}"#).unwrap();
        let signal = event.report(&origin()).unwrap();
        assert_eq!(signal.kind, SignalKind::VendorBreach);
        assert_eq!(signal.severity, Severity::High);
        assert_eq!(signal.external_id, "/security 1");
        assert_eq!(signal.issued_at, event.time);
        assert!(signal.expires_at.is_some());
    }

    #[test]
    fn each_required_attribute_is_required() {
        for left_out in REQUIRED {
            let others = REQUIRED.into_iter().filter(|header| *header != left_out);
            let refused = binary(others, b"{}").unwrap_err();
            assert_eq!(refused.code, "field_invalid", "{}", left_out.0);
        }
        let of_the_future = br#"{"id":"1","source":"/","specversion":"2.0","type":"t"}"#;
        assert!(structured(of_the_future).is_err());
    }

    #[test]
    fn header_values_are_unquoted_and_decoded_once() {
        let subject = |value: &'static [u8]| {
            let event = with(&[("ce-subject", value)], b"").unwrap();
            event.subject.unwrap()
        };
        assert_eq!(subject(b"a%20%E2%82%AC%25"), "a €%");
        assert_eq!(subject(b"%2541"), "%41");
        assert_eq!(subject(br#""a \"b\" c""#), "a \"b\" c");
        assert_eq!(subject(b"100% and %zz"), "100% and %zz");
    }

    #[test]
    fn what_is_not_utf8_or_not_closed_is_refused() {
        let hostile: [&[u8]; 7] = [
            b"%C0%A0",
            b"%E0%80%80",
            b"%ED%A0%80",
            b"\xff",
            b"%0D%0Aevil",
            b"\"open",
            b"\"a\" b",
        ];
        for value in hostile {
            let refused = with(&[("ce-subject", value)], b"").unwrap_err();
            assert_eq!(refused.code, "attribute_invalid", "{value:?}");
        }
        assert!(with(&[("ce-datacontenttype", b"a/b")], b"").is_err());
        assert_eq!(
            with(&[("ce-id", b"2")], b"").unwrap_err().code,
            "attribute_twice"
        );
    }

    #[test]
    fn structured_mode_reads_data_in_either_form() {
        let mut event = json!({"id": "1", "source": "/a", "specversion": "1.0",
            "type": "x.directive", "sequence": 7, "data": {"title": "do it"}});
        let read = |event: &Value| structured(event.to_string().as_bytes());
        assert_eq!(
            read(&event).unwrap().report(&origin()).unwrap().title,
            "do it"
        );
        event["data_base64"] = json!(STANDARD.encode(r#"{"title":"do it"}"#));
        assert_eq!(read(&event).unwrap_err().code, "data_twice");
        event.as_object_mut().unwrap().remove("data");
        assert_eq!(
            read(&event).unwrap().report(&origin()).unwrap().title,
            "do it"
        );
        event["datacontenttype"] = json!("text/plain");
        let signal = read(&event).unwrap().report(&origin()).unwrap();
        assert_eq!(signal.kind, SignalKind::Directive);
        event["data_base64"] = json!("§");
        assert!(read(&event).is_err());
    }

    #[test]
    fn a_batch_is_read_whole_or_not_at_all() {
        let good = json!({"id": "1", "source": "/a", "specversion": "1.0", "type": "t"});
        let read = |events: Value| batch(events.to_string().as_bytes());
        assert_eq!(read(json!([good, good])).unwrap().len(), 2);
        assert!(read(json!([good, {}])).is_err());
        assert_eq!(
            read(json!(vec![good.clone(); 101])).unwrap_err().code,
            "batch_too_long"
        );
    }

    #[test]
    fn findings_of_ocsf_are_known_by_schema_or_type() {
        let payload = |more: &[(&'static str, &'static [u8])]| with(more, b"").unwrap().payload();
        assert_eq!(payload(&[]), Payload::Report);
        let schema: &[u8] = b"https://schema.ocsf.io/1.3.0/classes/detection_finding";
        assert_eq!(payload(&[("ce-dataschema", schema)]), Payload::Ocsf);
        assert_eq!(
            payload(&[("ce-dataschema", b"https://e.org/ocsf")]),
            Payload::Report
        );
        for named in ["ocsf.detection_finding", "OCSF:2004", "io.ocsf.finding"] {
            let body = json!({"id": "1", "source": "/", "specversion": "1.0", "type": named});
            let event = structured(body.to_string().as_bytes()).unwrap();
            assert_eq!(event.payload(), Payload::Ocsf, "{named}");
        }
    }

    #[test]
    fn ids_that_are_too_long_stay_apart() {
        let id = |last: &str| {
            let body = json!({"id": format!("{}{last}", "x".repeat(600)), "source": "/",
                "specversion": "1.0", "type": "t"});
            let event = structured(body.to_string().as_bytes()).unwrap();
            event.report(&origin()).unwrap().external_id
        };
        assert_ne!(id("1"), id("2"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in any::<Vec<u8>>(), value in any::<Vec<u8>>()) {
            let _ = structured(&body);
            let _ = batch(&body);
            let _ = with(&[("ce-subject", &value), ("content-type", &body)], &body)
                .map(|event| event.report(&origin()));
        }
    }
}
