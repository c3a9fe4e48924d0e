//! Tells one endpoint what comes next: take the right to, send, and move on once it was taken.
//!
//! The right is a lease in the row of the endpoint, longer than an attempt can take, so one process tells an
//! endpoint at a time and the order is that of the trail. A crash after the answer and before the row moves
//! on repeats the event with the same id. The row moves by what it was moved from: whoever lost the lease
//! changes nothing.

use chrono::TimeDelta;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tidegate_orchestrator::ids::{HoldId, RolloutId, Timestamp, from_millis};

use super::{config_of, send, told};
use crate::app::App;
use crate::operations::Actor;
use crate::operations::view::ScopeView;
use crate::outgoing::event::{self, Ready, Told};
use crate::outgoing::post::{Outcome, TIMEOUT};
use crate::outgoing::{kind, pace};
use crate::store::audit::{self, ToldRow};
use crate::store::endpoint::{self as rows, ACTIVE, DEAD, EndpointRow, GONE, Lease, Setback};
use crate::store::{Lane, StoreError, hold, rollout, target, transact};

/// How many entries one look goes through: most are turns of ledgers and told to nobody.
const LOOK: i64 = 5_000;
/// After so many entries that are told to nobody the row moves on, so that a restart does not begin far back.
const PASS: i64 = 20_000;
/// How much longer a lease is than an attempt may take.
const MARGIN: TimeDelta = TimeDelta::seconds(5);

/// What came of telling an endpoint something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It got an event; there may be more.
    Delivered,
    /// There is nothing to tell up to this entry.
    Nothing(i64),
    /// Not now: it failed, or another process is at it.
    Later,
}

/// Tells an endpoint the next thing there is. `looked` is how far was looked before without finding anything.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn tell(app: &App, name: &str, looked: i64) -> Result<Turn, StoreError> {
    let row = rows::endpoint_find(app.store.read(), name).await?;
    let Some(row) = row.filter(|row| row.status == ACTIVE) else {
        return Ok(Turn::Later);
    };
    let next = match next(app, &row, looked).await? {
        Next::Entry(next) => next,
        Next::None(until) => {
            if until - row.told_seq >= PASS {
                let moved = (row.told_seq, until);
                let done: Result<(), StoreError> =
                    transact!(app.store, Lane::Ordinary, "endpoint_pass", |txn| {
                        rows::endpoint_pass(txn, name, moved).await
                    });
                done?;
            }
            return Ok(Turn::Nothing(until));
        }
    };
    let ready = ready(app, &next).await?;
    let Some((lease, now)) = lease(app, &row).await? else {
        return Ok(Turn::Later);
    };
    let outcome = send(app, &row, &ready, now).await;
    settle(app, &row, (&lease, &next), outcome).await
}

/// Finds what an endpoint is told next, if there is anything.
pub(super) async fn entry_after(
    app: &App,
    row: &EndpointRow,
) -> Result<Option<ToldRow>, StoreError> {
    Ok(match next(app, row, row.told_seq).await? {
        Next::Entry(entry) => Some(entry),
        Next::None(_) => None,
    })
}

enum Next {
    Entry(ToldRow),
    None(i64),
}

async fn next(app: &App, row: &EndpointRow, looked: i64) -> Result<Next, StoreError> {
    let db = app.store.read();
    // Numbers of the trail become visible in their order: whoever appends holds its end until the commit.
    let (head, _) = audit::head(db).await?;
    let actions = kind::actions(&config_of(row)?.types);
    let mut after = row.told_seq.max(looked);
    while after < head {
        let until = head.min(after.saturating_add(LOOK));
        if let Some(entry) = audit::entry_next(db, (after, until), &actions).await? {
            return Ok(Next::Entry(entry));
        }
        after = until;
    }
    Ok(Next::None(after))
}

async fn lease(app: &App, row: &EndpointRow) -> Result<Option<(Lease, Timestamp)>, StoreError> {
    let timeout = TimeDelta::from_std(TIMEOUT).map_err(StoreError::corrupt)?;
    transact!(app.store, Lane::Ordinary, "endpoint_lease", |txn| {
        let now = txn.now();
        let lease = Lease {
            name: row.name.clone(),
            told_seq: row.told_seq,
            owner: app.worker,
            until: now + timeout + MARGIN,
        };
        let has_it = rows::endpoint_lease(txn, &lease, now).await?;
        Ok::<_, StoreError>(has_it.then_some((lease, now)))
    })
}

/// Writes down what came of an attempt, unless the lease was lost meanwhile.
async fn settle(
    app: &App,
    row: &EndpointRow,
    (lease, entry): (&Lease, &ToldRow),
    outcome: Outcome,
) -> Result<Turn, StoreError> {
    let (error, asked, is_gone) = match outcome {
        Outcome::Delivered => return delivered(app, row, lease, entry.seq).await,
        Outcome::Gone => (
            "it answered 410: there is nobody any more".to_owned(),
            None,
            true,
        ),
        Outcome::Failed { error, asked } => (error, asked, false),
    };
    let spread = spread(row, entry);
    let done: Result<Option<&str>, StoreError> =
        transact!(app.store, Lane::Ordinary, "endpoint_failed", |txn| {
            let now = txn.now();
            let since = row.failing_since.and_then(from_millis).unwrap_or(now);
            let next_at = pace::next((row.failures + 1, since), now, spread, asked);
            let status = match (is_gone, next_at) {
                (true, _) => GONE,
                (false, Some(_)) => ACTIVE,
                (false, None) => DEAD,
            };
            let setback = Setback {
                status,
                error: error.clone(),
                next_at: next_at.unwrap_or(now),
            };
            if !rows::endpoint_failed(txn, lease, &setback, now).await? {
                return Ok(None);
            }
            if status != ACTIVE {
                let detail = json!({
                    "error": error, "failures": row.failures + 1, "failing_since": since,
                    "stuck_at": event::id_of(entry.seq, &entry.hash),
                });
                let action = if is_gone {
                    "endpoint.gone"
                } else {
                    "endpoint.dead"
                };
                told(txn, &Actor::task("deliver"), action, &row.name, detail);
            }
            Ok(Some(status))
        });
    if let Some(status) = done? {
        say(row, &error, status);
    }
    Ok(Turn::Later)
}

async fn delivered(
    app: &App,
    row: &EndpointRow,
    lease: &Lease,
    seq: i64,
) -> Result<Turn, StoreError> {
    let done: Result<bool, StoreError> =
        transact!(app.store, Lane::Ordinary, "endpoint_delivered", |txn| {
            let now = txn.now();
            rows::endpoint_delivered(txn, lease, (seq, now)).await
        });
    if !done? {
        return Ok(Turn::Later);
    }
    if row.failures > 0 {
        let failures = row.failures;
        tracing::info!(endpoint = row.name, failures, "an endpoint answers again");
    }
    Ok(Turn::Delivered)
}

/// The first failure is said once, and the end of it: in between it is in the list and in the figures.
fn say(row: &EndpointRow, error: &str, status: &str) {
    let (name, failures) = (&row.name, row.failures + 1);
    if status != ACTIVE {
        tracing::error!(
            endpoint = name,
            error,
            failures,
            status,
            "an endpoint is told nothing more until somebody revives it"
        );
    } else if failures == 1 {
        tracing::warn!(
            endpoint = name,
            error,
            "an endpoint could not be told; it is tried again"
        );
    } else {
        tracing::debug!(endpoint = name, error, failures, "an endpoint still fails");
    }
}

/// A number that differs between endpoints and attempts.
fn spread(row: &EndpointRow, entry: &ToldRow) -> u8 {
    let text = format!("{}/{}/{}", row.name, entry.seq, row.failures);
    Sha256::digest(text.as_bytes())
        .first()
        .copied()
        .unwrap_or(0)
}

/// Writes the event of an entry, with the names of what it speaks of.
async fn ready(app: &App, entry: &ToldRow) -> Result<Ready, StoreError> {
    let Some(kind) = kind::of(&entry.action) else {
        return Err(StoreError::corrupt("an entry that is told as nothing"));
    };
    let (what, id) = entry.subject.split_once(':').unwrap_or(("", ""));
    let hold = match what {
        "hold" => hold_of(app, id).await?,
        _ => None,
    };
    let rollout = match what {
        "rollout" => rollout_of(app, id).await?,
        _ => None,
    };
    let told = Told {
        seq: entry.seq,
        at: from_millis(entry.at).unwrap_or_default(),
        actor: entry.actor.clone(),
        subject: entry.subject.clone(),
        detail: serde_json::from_str(&entry.detail).map_err(StoreError::corrupt)?,
        hash: entry.hash.clone(),
        hold,
        rollout,
    };
    Ok(event::write(
        kind,
        &told,
        app.outgoing.public_url.as_deref(),
    ))
}

async fn rollout_of(app: &App, id: &str) -> Result<Option<Value>, StoreError> {
    let Ok(id) = id.parse::<RolloutId>() else {
        return Ok(None);
    };
    let row = rollout::rollout_load(app.store.read(), id).await?;
    Ok(row.map(|row| json!({"id": id, "name": row.name})))
}

async fn hold_of(app: &App, id: &str) -> Result<Option<Value>, StoreError> {
    let Ok(id) = id.parse::<HoldId>() else {
        return Ok(None);
    };
    let db = app.store.read();
    let Some(row) = hold::hold_load(db, id).await? else {
        return Ok(None);
    };
    let hold = row.hold()?;
    let name = match hold.scope.name() {
        "target" => target::target_find(db, &row.scope_id)
            .await?
            .map(|row| row.name),
        "rollout" | "wave" | "part" => {
            let found = rollout::rollout_find(db, &row.scope_id).await?;
            found.map(|row| row.name)
        }
        _ => None,
    };
    let mut scope = json!(ScopeView::of(&hold.scope));
    if let (Some(scope), Some(name)) = (scope.as_object_mut(), name) {
        scope.insert("name".to_owned(), json!(name));
    }
    Ok(Some(json!({
        "id": id, "kind": hold.kind, "scope": scope, "reason": hold.reason, "owner": hold.owner,
    })))
}
