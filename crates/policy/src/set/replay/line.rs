//! Signals written down for a replay: one JSON object a line, or a list of them.
//!
//! Three forms are read: a signal as the service lists it (`id` and `signal`), a signal alone, and a report as
//! somebody sends it, with `received_at` and, if wanted, `source` and `trust` beside its fields.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use crate::dialect::report::{Envelope, read};
use crate::dialect::{Origin, Unreadable, instant, json, text};
use crate::digest::Digest;
use crate::signal::{Dialect, Signal, Trust};
use crate::time::Timestamp;

/// The most signals of one file.
pub const SIGNALS_MAX: usize = 1_000_000;

/// A signal, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What it is called: its id here, or the one of its source.
    pub id: String,
    /// What was reported.
    pub signal: Signal,
}

/// A line that is no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {cause}")]
pub struct LineError {
    /// Which, from 1.
    pub line: usize,
    /// Why.
    pub cause: Unreadable,
}

/// Reads the lines of a file into the history that they are: in the order in which they were received, and
/// each revision of an id of a source once, as they are admitted.
///
/// # Errors
///
/// With the first line that is no signal.
pub fn history(text: &str) -> Result<Vec<Written>, LineError> {
    let mut found = Vec::new();
    if text.trim_start().starts_with('[') {
        let whole = json(text.as_bytes()).map_err(|cause| LineError { line: 1, cause })?;
        let items = whole.as_array().map(Vec::as_slice).unwrap_or_default();
        if items.len() > SIGNALS_MAX {
            return Err(LineError {
                line: 1,
                cause: too_many(),
            });
        }
        for (number, item) in items.iter().enumerate() {
            let cause = |cause| LineError {
                line: number + 1,
                cause,
            };
            found.push(signal(item, number + 1).map_err(cause)?);
        }
        return Ok(received(found));
    }
    for (number, line) in text.lines().enumerate() {
        let error = |cause| LineError {
            line: number + 1,
            cause,
        };
        // A comment says why a line is there.
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        if found.len() >= SIGNALS_MAX {
            return Err(error(too_many()));
        }
        let value = json(line.as_bytes()).map_err(error)?;
        found.push(signal(&value, number + 1).map_err(error)?);
    }
    Ok(received(found))
}

fn too_many() -> Unreadable {
    let sentence = format!("at most {SIGNALS_MAX} signals are replayed at once");
    Unreadable::new("too_many", sentence)
}

/// Orders signals as they were received, and leaves out what had been admitted before.
#[must_use]
pub fn received(mut signals: Vec<Written>) -> Vec<Written> {
    let known = |one: &Written| {
        let signal = &one.signal;
        (
            signal.source.clone(),
            signal.external_id.clone(),
            signal.revision.clone(),
        )
    };
    // Whatever order they were written in: two of one instant are ordered by what they are.
    signals.sort_by_cached_key(|one| (one.signal.received_at, known(one)));
    let mut admitted = BTreeSet::new();
    signals.retain(|one| admitted.insert(known(one)));
    signals
}

/// Reads one signal, in any of its forms; `number` calls it by its line when it has no id.
///
/// # Errors
///
/// When it is none.
pub fn signal(value: &Value, number: usize) -> Result<Written, Unreadable> {
    if let Some(inner) = value.get("signal").filter(|inner| inner.is_object()) {
        let signal = stored(inner)?;
        let id = text(value, "id").unwrap_or(&signal.external_id).to_owned();
        return Ok(Written { id, signal });
    }
    if value.get("external_id").is_some() {
        let signal = stored(value)?;
        return Ok(Written {
            id: signal.external_id.clone(),
            signal,
        });
    }
    reported(value, number)
}

fn stored(value: &Value) -> Result<Signal, Unreadable> {
    Signal::deserialize(value)
        .map_err(|error| Unreadable::new("signal_invalid", format!("this is no signal: {error}")))
}

fn reported(value: &Value, number: usize) -> Result<Written, Unreadable> {
    let Some(received_at) = instant(value, "received_at") else {
        return Err(Unreadable::field(
            "received_at",
            "when it was received, such as 2024-01-19T22:00:00Z",
        ));
    };
    let trust = match text(value, "trust") {
        None => Trust::AuthenticatedChannel,
        Some(name) => name
            .parse()
            .map_err(|error: crate::NoName| Unreadable::new("field_invalid", error.to_string()))?,
    };
    let origin = Origin {
        source: text(value, "source").unwrap_or("file").to_owned(),
        trust,
        vendor: None,
        products: BTreeSet::new(),
        received_at,
    };
    report(value, &format!("line-{number}"), &origin)
}

/// Reads a report with what it is called, or else `otherwise`.
///
/// # Errors
///
/// When it is none.
pub fn report(value: &Value, otherwise: &str, origin: &Origin) -> Result<Written, Unreadable> {
    let id = text(value, "id").unwrap_or(otherwise).to_owned();
    let issued_at: Option<Timestamp> = instant(value, "issued_at");
    let envelope = Envelope {
        dialect: Dialect::Manual,
        external_id: &id,
        event_type: None,
        issued_at,
        raw: Digest::of(value.to_string().as_bytes()),
    };
    let signal = read(value, &envelope, origin)?;
    Ok(Written { id, signal })
}
