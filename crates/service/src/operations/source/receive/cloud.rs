//! CloudEvents: which mode a message is in, and what its events report.
//!
//! Under a secret (`cloudevents`) all modes are taken, a batch only where it was asked for; inside a Standard
//! Webhook only an event in structured mode, since headers are not under its signature.

use tidegate_policy::Signal;
use tidegate_policy::dialect::cloudevents::{self, Data, Event, Payload};
use tidegate_policy::dialect::{Origin, Unreadable, ocsf};
use tidegate_policy::digest::Digest;

use super::{Keys, Message, Read, Refused, check_bearer};
use crate::operations::OperationError;
use crate::operations::signal::unreadable;
use crate::operations::source::config::{PayloadKind, SourceConfig};

/// The media type of one event in structured mode.
pub(super) const STRUCTURED: &str = "application/cloudevents+json";
/// The media type of a batch.
const BATCH: &str = "application/cloudevents-batch+json";
/// The header of binary mode that names the type.
pub(super) const TYPE: &str = "ce-type";
/// What the media type of every form of structured mode begins with.
const ANY: &str = "application/cloudevents";

/// Checks the secret of a message and reads what it reports.
pub(super) fn read(
    keys: &Keys,
    config: &SourceConfig,
    message: &Message<'_>,
    origin: &Origin,
) -> Result<Read, Refused> {
    check_bearer(keys, message)?;
    let media = message.media_type();
    let said = |error: Unreadable| Refused::from(unreadable(&error));
    let (events, kept) = match media.as_str() {
        STRUCTURED => {
            let event = cloudevents::structured(message.body).map_err(said)?;
            (vec![event], message.body.to_vec())
        }
        BATCH if config.batch => {
            let events = cloudevents::batch(message.body).map_err(said)?;
            (events, message.body.to_vec())
        }
        BATCH => {
            let sentence = "this source does not send batches: create it with `batch`";
            return Err(OperationError::invalid("batch_unasked", sentence).into());
        }
        other if other.starts_with(ANY) => {
            let sentence = format!("events are read in JSON, and this is `{other}`");
            return Err(Refused::MediaType(sentence));
        }
        _ => {
            let headers = message.headers.iter().copied();
            let mut event = cloudevents::binary(headers, message.body).map_err(said)?;
            // Half of the event is in its headers: without them the bytes that are kept would not be it.
            let kept = with_headers(message);
            event.raw = Digest::of(&kept);
            (vec![event], kept)
        }
    };
    let forced = match config.payload {
        None | Some(PayloadKind::Cloudevent) => None,
        Some(PayloadKind::Report) => Some(Payload::Report),
        Some(PayloadKind::Ocsf) => Some(Payload::Ocsf),
    };
    let signals = events.iter().map(|event| reported(event, forced, origin));
    Ok(Read {
        signals: signals.collect::<Result<_, _>>().map_err(said)?,
        kept,
    })
}

/// Reads an event in structured mode that came inside a signature.
pub(super) fn signed(body: &[u8], origin: &Origin) -> Result<Vec<Signal>, Unreadable> {
    let event = cloudevents::structured(body)?;
    reported(&event, None, origin).map(|signal| vec![signal])
}

/// Reads what an event reports: what it says its data are, unless the source says so.
pub(crate) fn reported(
    event: &Event,
    forced: Option<Payload>,
    origin: &Origin,
) -> Result<Signal, Unreadable> {
    match forced.unwrap_or_else(|| event.payload()) {
        Payload::Report => event.report(origin),
        Payload::Ocsf => {
            let Data::Json(data) = &event.data else {
                return Err(Unreadable::field("data", "a finding in JSON"));
            };
            // An event has one id, and so has what it reports.
            let mut found = ocsf::read(data.to_string().as_bytes(), origin)?;
            match (found.pop(), found.is_empty()) {
                (Some(signal), true) => Ok(event.sealed(signal)),
                (Some(_) | None, _) => Err(Unreadable::field("data", "one finding")),
            }
        }
    }
}

/// Writes the attributes of an event in binary mode before its data.
fn with_headers(message: &Message<'_>) -> Vec<u8> {
    let mut kept = Vec::with_capacity(message.body.len() + 512);
    let is_attribute = |name: &str| name.starts_with("ce-") || name == "content-type";
    for (name, value) in message
        .headers
        .iter()
        .filter(|(name, _)| is_attribute(name))
    {
        kept.extend_from_slice(name.as_bytes());
        kept.extend_from_slice(b": ");
        kept.extend_from_slice(value);
        kept.extend_from_slice(b"\r\n");
    }
    kept.extend_from_slice(b"\r\n");
    kept.extend_from_slice(message.body);
    kept
}
