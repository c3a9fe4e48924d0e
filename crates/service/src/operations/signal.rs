//! Signals: admitted once, kept for ever, and shown with what rules made of them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_orchestrator::ids::Timestamp;
use tidegate_policy::Signal;
use tidegate_policy::dialect::{Origin, Unreadable, report};
use tidegate_policy::signal::Trust;
use uuid::Uuid;

use super::{Actor, OperationError, Page};
use crate::app::App;
use crate::store::signal::{self as rows, SignalRow};
use crate::store::{Lane, StoreError, policy, source, transact};

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
}

pub(super) fn unreadable(error: &Unreadable) -> OperationError {
    OperationError::invalid(error.code, error.sentence.clone())
}

/// Reads a report that somebody with a token sent, and admits it.
///
/// # Errors
///
/// When it is too large or cannot be read, or the store cannot be reached: then it was not admitted.
pub async fn send(app: &App, actor: &Actor, body: &[u8]) -> Result<Admitted, OperationError> {
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
    // The sender's own id, so that a report sent twice counts once; its content otherwise.
    let digest = tidegate_orchestrator::digest::Digest::of(body).to_string();
    let named: Option<String> = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|report| report.get("id").and_then(Value::as_str).map(str::to_owned));
    let id = named.unwrap_or(digest);
    let signal = report::manual(body, &id, &origin).map_err(|error| unreadable(&error))?;
    admit(app, actor, vec![signal], body).await
}

/// Admits signals that were read from these bytes: they, the bytes and the record are durable when this
/// returns, and judged soon after.
///
/// # Errors
///
/// When the store cannot be reached: then none was admitted, and whoever sent them must send them again.
pub async fn admit(
    app: &App,
    actor: &Actor,
    signals: Vec<Signal>,
    body: &[u8],
) -> Result<Admitted, OperationError> {
    take(app, actor, signals, body, true).await
}

/// Admits what is part of a longer answer: the source is heard only when all of that has come.
///
/// # Errors
///
/// As `admit`.
pub(super) async fn admit_part(
    app: &App,
    actor: &Actor,
    signals: Vec<Signal>,
    body: &[u8],
) -> Result<Admitted, OperationError> {
    take(app, actor, signals, body, false).await
}

async fn take(
    app: &App,
    actor: &Actor,
    signals: Vec<Signal>,
    body: &[u8],
    is_heard: bool,
) -> Result<Admitted, OperationError> {
    let count = signals.len();
    let ids: Vec<Uuid> = signals.iter().map(|_| app.ids.make()).collect();
    let done: Result<Vec<Uuid>, StoreError> = transact!(
        app.store,
        Lane::Ordinary,
        "signal_admit",
        |txn| {
            let now = txn.now();
            let last = rows::numbers_take(txn, signals.len()).await?;
            let new: Vec<SignalRow> = (last + 1..)
                .zip(&ids)
                .zip(&signals)
                .map(|((seq, id), signal)| SignalRow {
                    seq,
                    id: *id,
                    signal: Signal {
                        received_at: now,
                        ..signal.clone()
                    },
                    outcome: None,
                })
                .collect();
            let fresh = rows::signals_insert(txn, &new).await?;
            let names: BTreeSet<&str> = signals.iter().map(|one| one.source.as_str()).collect();
            if is_heard {
                source::heard(txn, &names.into_iter().collect::<Vec<_>>(), now).await?;
            }
            let fresh: Vec<&SignalRow> =
                new.iter().filter(|row| fresh.contains(&row.seq)).collect();
            let Some(first) = fresh.first() else {
                return Ok(Vec::new());
            };
            rows::raw_keep(txn, first.signal.raw, body, now).await?;
            let detail = json!({
                "source": first.signal.source, "admitted": fresh.len(), "repeated": new.len() - fresh.len(),
                "first": first.seq, "raw": first.signal.raw,
            });
            txn.audit(actor.entry("signal.admit", format!("signal:{}", first.id), detail))
                .await?;
            Ok(fresh.iter().map(|row| row.id).collect())
        }
    );
    let ids = done?;
    if !ids.is_empty() {
        app.wake.judge();
    }
    Ok(Admitted {
        admitted: ids.len(),
        repeated: count - ids.len(),
        ids,
    })
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
        outcome: match row.outcome {
            Some(outcome) => outcome,
            None if row.seq > standing.judged_seq => "waiting".to_owned(),
            None => "unmapped".to_owned(),
        },
        seq: row.seq,
        id: row.id,
        signal: row.signal,
    });
    Ok(Page::cut(views.collect(), limit, |view| {
        view.seq.to_string()
    }))
}

/// The time from which on signals may still count in a window.
#[must_use]
pub fn counted_since(now: Timestamp, longest: tidegate_policy::time::Seconds) -> Timestamp {
    now.checked_sub_signed(chrono::TimeDelta::seconds(i64::from(longest.0)))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}
