//! Claims of a security event token (RFC 8417) of a Shared Signals stream: checked, and read into a signal.
//!
//! The signature was verified by somebody else, so this begins with JSON. There is no `exp` in such a token:
//! how fresh it is is our business. One from the future is refused; an old one is not, since a stream that was
//! paused delivers late, but it is marked. Trust: `signed_fresh`, together with the id being new, which the
//! store checks. `table` maps the types, `subject` says whom an event is about. A refusal carries the code
//! that RFC 8935 wants.

mod subject;
mod table;

use std::collections::BTreeSet;

use chrono::TimeDelta;
use serde_json::Value;
use thiserror::Error;

use self::table::SSF;
use super::report::{self, line, word};
use super::{Origin, text};
use crate::digest::Digest;
use crate::named::named;
use crate::signal::{Dialect, Signal};
use crate::time::Timestamp;

/// How far the clock of a sender may be ahead.
pub const AHEAD_MAX: TimeDelta = TimeDelta::seconds(120);
/// How old a token may be before it counts as held up on the way.
pub const LATE_AFTER: TimeDelta = TimeDelta::seconds(300);

named! {
    /// The codes of a refusal (RFC 8935, 2.4).
    pub enum SetError: "error of a security event token" {
        /// It is no token, or not such a one.
        InvalidRequest = "invalid_request",
        /// Its key is not known or not acceptable.
        InvalidKey = "invalid_key",
        /// Its issuer is not the one of the stream.
        InvalidIssuer = "invalid_issuer",
        /// It is for somebody else.
        InvalidAudience = "invalid_audience",
        /// Its signature does not verify.
        AuthenticationFailed = "authentication_failed",
        /// Whoever sent it may not.
        AccessDenied = "access_denied",
        /// It answers a verification that nobody asked for (Shared Signals).
        InvalidState = "invalid_state",
    }
}

named! {
    /// Where a stream stands with its transmitter.
    pub enum StreamStatus: "status of a stream" {
        /// Events flow.
        Enabled = "enabled",
        /// Events are kept back: nothing is seen.
        Paused = "paused",
        /// There is no stream any more: nothing is seen.
        Disabled = "disabled",
        /// A word that is not known here.
        Unknown = "unknown",
    }
}

/// A token is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{description}")]
pub struct SetRefusal {
    /// The code for the transmitter.
    pub err: SetError,
    /// Why, as a stable word for counters: `discarded` when a critical member could not be processed.
    pub reason: &'static str,
    /// What is wrong.
    pub description: String,
}

/// What is asked of the claims.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The issuer of the stream.
    pub issuer: &'a str,
    /// The audiences that are us; one of them must be named.
    pub audiences: &'a [String],
    /// The members of a complex subject that the transmitter declared critical.
    pub critical_members: &'a BTreeSet<String>,
    /// The time.
    pub now: Timestamp,
}

/// What a token says about its own stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    /// The answer to a verification that was asked for, or one that was not.
    Verification {
        /// The state that was given with the request.
        state: Option<String>,
    },
    /// The stream stands otherwise than before.
    Updated {
        /// How.
        status: StreamStatus,
        /// Why, in the words of the transmitter.
        reason: Option<String>,
    },
}

/// What came with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A signal.
    Signal(Box<Signal>),
    /// Something about the stream.
    Stream {
        /// The id of the token.
        jti: String,
        /// The stream, when the subject names it.
        stream_id: Option<String>,
        /// What about it.
        event: StreamEvent,
    },
}

impl SetRefusal {
    /// Says what is wrong.
    #[must_use]
    pub fn new(err: SetError, reason: &'static str, description: impl Into<String>) -> Self {
        let description = description.into();
        Self {
            err,
            reason,
            description,
        }
    }

    fn request(reason: &'static str, description: impl Into<String>) -> Self {
        Self::new(SetError::InvalidRequest, reason, description)
    }
}

/// The claims that every token has.
struct Claims<'a> {
    jti: &'a str,
    issued_at: Timestamp,
    event_type: &'a str,
    event: &'a Value,
}

/// Checks verified claims and reads them.
///
/// # Errors
///
/// When a claim is missing, forbidden or not for us, or whom it is about cannot be read.
pub fn read(
    claims: &Value,
    raw: Digest,
    expected: &Expected<'_>,
    origin: &Origin,
) -> Result<Received, SetRefusal> {
    let checked = check(claims, expected)?;
    let about = claims
        .get("sub_id")
        .or_else(|| checked.event.get("sub_id"))
        .or_else(|| checked.event.get("subject"));
    if let Some(event) = stream_event(&checked) {
        let stream_id = about.and_then(|about| text(about, "id")).map(line);
        let jti = checked.jti.to_owned();
        return Ok(Received::Stream {
            jti,
            stream_id,
            event,
        });
    }
    // Without a subject an event would be about everybody.
    let about = about.ok_or_else(|| {
        SetRefusal::request("subject_missing", "`sub_id` says whom an event is about")
    })?;
    let mut signal = origin.signal(Dialect::SecurityEvent, checked.jti, raw);
    signal.issued_at = Some(checked.issued_at);
    signal.late = expected.now.signed_duration_since(checked.issued_at) > LATE_AFTER;
    let read_subject = subject::read(
        about,
        table::principal(checked.event_type, checked.event),
        expected.critical_members,
    )?;
    signal.subject = read_subject.subject;
    signal.labels.extend(read_subject.labels);
    table::apply(&mut signal, checked.event_type, checked.event);
    let happened = checked.event.get("event_timestamp").or(claims.get("toe"));
    signal.occurred_at = numeric_date(happened);
    Ok(Received::Signal(Box::new(signal)))
}

fn check<'a>(claims: &'a Value, expected: &Expected<'_>) -> Result<Claims<'a>, SetRefusal> {
    if !claims.is_object() {
        return Err(SetRefusal::request(
            "not_an_object",
            "the claims must be an object",
        ));
    }
    // With these two a token could pass for an identity or access token, and the other way round.
    for forbidden in ["sub", "exp"] {
        if claims.get(forbidden).is_some() {
            let description = format!("a security event token must not have `{forbidden}`");
            return Err(SetRefusal::request("claim_forbidden", description));
        }
    }
    if text(claims, "iss") != Some(expected.issuer) {
        let description = "`iss` is not the issuer of this stream";
        return Err(SetRefusal::new(
            SetError::InvalidIssuer,
            "issuer",
            description,
        ));
    }
    if !is_for(claims.get("aud"), expected.audiences) {
        let description = "`aud` does not name this receiver";
        return Err(SetRefusal::new(
            SetError::InvalidAudience,
            "audience",
            description,
        ));
    }
    let jti = text(claims, "jti").filter(|jti| report::check_id(jti).is_ok());
    let jti =
        jti.ok_or_else(|| SetRefusal::request("jti", "`jti` must be a text of at most 512 bytes"))?;
    let issued_at = numeric_date(claims.get("iat"));
    let issued_at =
        issued_at.ok_or_else(|| SetRefusal::request("iat", "`iat` must be a number of seconds"))?;
    if issued_at.signed_duration_since(expected.now) > AHEAD_MAX {
        let description = "`iat` is more than 120 seconds in the future";
        return Err(SetRefusal::request("from_the_future", description));
    }
    let events = claims.get("events").and_then(Value::as_object);
    let mut events = events.into_iter().flatten();
    // Several members are allowed where they name one event in several ways. That they do cannot be seen
    // here, and reading one of two would lose the other.
    match (events.next(), events.next()) {
        (Some((event_type, event)), None) if event.is_object() => Ok(Claims {
            jti,
            issued_at,
            event_type,
            event,
        }),
        (None, _) | (Some(_), None | Some(_)) => Err(SetRefusal::request(
            "events",
            "`events` must have exactly one event, which is an object",
        )),
    }
}

fn is_for(aud: Option<&Value>, audiences: &[String]) -> bool {
    let is_ours = |named: &Value| {
        let named = named.as_str();
        audiences.iter().any(|ours| named == Some(ours))
    };
    match aud {
        Some(Value::Array(named)) => named.iter().any(is_ours),
        Some(named) => is_ours(named),
        None => false,
    }
}

fn stream_event(claims: &Claims<'_>) -> Option<StreamEvent> {
    match claims.event_type.strip_prefix(SSF)? {
        "verification" => Some(StreamEvent::Verification {
            // As it is: it is compared to what was sent.
            state: text(claims.event, "state").map(str::to_owned),
        }),
        "stream-updated" => Some(StreamEvent::Updated {
            status: text(claims.event, "status")
                .and_then(StreamStatus::from_name)
                .unwrap_or(StreamStatus::Unknown),
            reason: word(claims.event.get("reason")),
        }),
        _ => None,
    }
}

/// Reads seconds since 1970, of which a sender may give parts.
fn numeric_date(said: Option<&Value>) -> Option<Timestamp> {
    let said = said?;
    let whole = said.as_i64().map(TimeDelta::try_seconds);
    let parts = || {
        let seconds = std::time::Duration::try_from_secs_f64(said.as_f64()?).ok()?;
        Some(TimeDelta::from_std(seconds).ok())
    };
    let since = whole.or_else(parts)??;
    Timestamp::UNIX_EPOCH.checked_add_signed(since)
}

#[cfg(test)]
mod tests;
