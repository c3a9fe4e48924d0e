//! Signals: admitted once, kept for ever, and shown with what rules made of them.

pub mod admission;
pub mod rate;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_orchestrator::ids::Timestamp;
use tidegate_policy::Signal;
use tidegate_policy::dialect::report::UnknownWord;
use tidegate_policy::dialect::{Origin, Unreadable, ocsf, report};
use tidegate_policy::signal::{Severity, SignalKind, Trust};
use uuid::Uuid;

use super::source::config::PayloadKind;
use super::source::receive;
use super::{Actor, OperationError, Page};
use crate::app::App;
use crate::store::policy;
use crate::store::signal as rows;
pub use admission::admit;
pub(in crate::operations) use admission::admit_part;

/// The largest report, in bytes.
pub const BODY_MAX: usize = 256 * 1024;

/// A signal as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SignalView {
    /// Its place among all signals.
    pub seq: i64,
    /// Its id.
    #[schema(value_type = String)]
    pub id: Uuid,
    /// What was reported.
    #[schema(value_type = Object)]
    pub signal: Signal,
    /// waiting, unmapped (no rule applied), review, gate, pause or halt.
    pub outcome: String,
}

/// What became of a report that was sent.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Admitted {
    /// How many signals it brought that were not known.
    pub admitted: usize,
    /// How many were known already. They count once.
    pub repeated: usize,
    /// The ids of those that were not known.
    #[schema(value_type = Vec<String>)]
    pub ids: Vec<Uuid>,
    /// Words of a report that are not known. It was taken all the same; left out where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// A word of a report that is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Warning {
    /// The field: kind, severity or lifecycle.
    pub field: String,
    /// What it says.
    pub word: String,
    /// The words that are known.
    pub known: Vec<String>,
    /// The same for people.
    pub sentence: String,
}

/// Returns what whoever wrote a report should hear of: it is taken, and not as it was meant.
fn warnings(format: PayloadKind, body: &[u8]) -> Vec<Warning> {
    let report: Value = serde_json::from_slice(body).unwrap_or_default();
    match format {
        PayloadKind::Report => warned(report::unknown_words(&report, None)),
        PayloadKind::Cloudevent => warned(report::unknown_words_carried(&report, None)),
        // The format of others has words of its own.
        PayloadKind::Ocsf => Vec::new(),
    }
}

/// The same of a message that was read as a signal already: what that knows is no slip, in whatever words it came.
pub(super) fn warnings_of(
    signals: &[Signal],
    body: &[u8],
    event_type: Option<&str>,
) -> Vec<Warning> {
    let [signal] = signals else {
        return Vec::new();
    };
    let message: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut words = report::unknown_words_carried(&message, event_type);
    words.retain(|one| match one.field {
        "kind" => signal.kind == SignalKind::Other,
        "severity" => signal.severity == Severity::Unknown,
        _ => true,
    });
    warned(words)
}

fn warned(words: Vec<UnknownWord>) -> Vec<Warning> {
    words
        .into_iter()
        .map(|one| {
            let said = match one.word.as_str() {
                "" => format!("{} is missing", one.field),
                word => format!("{} `{word}` is not known", one.field),
            };
            Warning {
                sentence: format!(
                    "{said} and was kept as `{}`; known are {}",
                    one.kept_as,
                    one.known.join(", ")
                ),
                field: one.field.to_owned(),
                word: one.word,
                known: one.known.into_iter().map(str::to_owned).collect(),
            }
        })
        .collect()
}

pub(super) fn unreadable(error: &Unreadable) -> OperationError {
    OperationError::invalid(error.code, error.sentence.clone())
}

/// Reads what somebody with a token sent, and admits it.
///
/// # Errors
///
/// When it is too large or cannot be read, or the store cannot be reached: then it was not admitted.
pub async fn send(
    app: &App,
    actor: &Actor,
    format: PayloadKind,
    body: &[u8],
) -> Result<Admitted, OperationError> {
    if body.len() > BODY_MAX {
        let sentence = format!("a report has at most {BODY_MAX} bytes");
        return Err(OperationError::invalid("too_large", sentence));
    }
    let origin = Origin {
        // Not the name alone: a signed source may have the same, and its ids are its own.
        source: format!("token:{}", actor.principal),
        // Whoever holds the token: known, over a channel that is authenticated.
        trust: Trust::AuthenticatedChannel,
        vendor: None,
        products: Default::default(),
        received_at: app.clock.now(),
    };
    let signals = match format {
        PayloadKind::Report => by_hand(body, &origin).map(|signal| vec![signal]),
        PayloadKind::Ocsf => ocsf::read(body, &origin),
        PayloadKind::Cloudevent => receive::event(body, &origin),
    };
    let signals = signals.map_err(|error| unreadable(&error))?;
    let warnings = warnings(format, body);
    if let Some(known) = admission::known(app, &signals).await? {
        return Ok(Admitted { warnings, ..known });
    }
    rate::within(app, &origin, None, signals.len()).await?;
    let admitted = admit(app, actor, signals, body).await?;
    Ok(Admitted {
        warnings,
        ..admitted
    })
}

/// Reads a report by the sender's own id, so that one sent twice counts once; without one the same words count once an
/// hour, so that a repetition is none and next year's breach is one.
fn by_hand(body: &[u8], origin: &Origin) -> Result<Signal, Unreadable> {
    let digest = tidegate_orchestrator::digest::Digest::of(body).to_string();
    let named: Option<String> = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|report| report.get("id").and_then(Value::as_str).map(str::to_owned));
    let hour = origin.received_at.timestamp().div_euclid(3_600);
    report::manual(
        body,
        &named.unwrap_or_else(|| format!("{digest}@{hour}")),
        origin,
    )
}

/// Lists signals, the newest first.
///
/// # Errors
///
/// When the cursor is none or the store cannot be reached.
pub async fn list(
    app: &App,
    cursor: Option<&str>,
    limit: usize,
) -> Result<Page<SignalView>, OperationError> {
    let before = match cursor {
        Some(cursor) => cursor.parse().map_err(|_| {
            OperationError::invalid("cursor_invalid", "the cursor is not one of ours")
        })?,
        None => i64::MAX,
    };
    let standing = policy::standing(app.store.read()).await?;
    let found = rows::signals_before(app.store.read(), before, limit + 1).await?;
    let views = found.into_iter().map(|row| SignalView {
        outcome: outcome_of(&row, standing.judged_seq),
        seq: row.seq,
        id: row.id,
        signal: row.signal,
    });
    Ok(Page::cut(views.collect(), limit, |view| {
        view.seq.to_string()
    }))
}

/// Says what rules made of a signal, when signals were judged up to `judged`.
pub(super) fn outcome_of(row: &rows::SignalRow, judged: i64) -> String {
    match &row.outcome {
        Some(outcome) => outcome.clone(),
        None if row.seq > judged => "waiting".to_owned(),
        None => "unmapped".to_owned(),
    }
}

/// The time from which on signals may still count in a window.
#[must_use]
pub fn counted_since(now: Timestamp, longest: tidegate_policy::time::Seconds) -> Timestamp {
    now.checked_sub_signed(chrono::TimeDelta::seconds(i64::from(longest.0)))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}
