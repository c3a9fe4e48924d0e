//! Endpoints: who is told what happens, by signed webhooks.
//!
//! Nothing is written beside a stop for them: the audit trail is the ordered and durable record already, and
//! an endpoint is a place in it. `telling` finds what comes next, and moves the place on once it was taken.

pub mod telling;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_orchestrator::ids::{Timestamp, from_millis};

use super::{Actor, OperationError, hold as holds, population};
use crate::app::App;
use crate::connector::{ConfigError, Credential};
use crate::outgoing::event;
use crate::outgoing::kind::TOLD;
use crate::outgoing::post::{self, Outcome};
use crate::signal::verify::Secret;
use crate::store::endpoint::{self as rows, ACTIVE, EndpointRow};
use crate::store::{Lane, StoreError, audit, transact};

/// The most keys of one endpoint: an old and a new one, and some to spare.
const KEYS_MAX: usize = 8;
/// The most endpoints in use: each looks through the trail by itself.
const ENDPOINTS_MAX: usize = 50;
/// The longest address.
const URL_MAX: usize = 2_000;

/// What an endpoint is signed with, and what it wants to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// Where its keys are kept: `{"file": "name inside the folder of credentials"}` or `{"env": "TIDEGATE_CREDENTIAL_NAME"}`.
    /// Every event is signed with each of them, so that keys can be changed without a gap.
    #[schema(value_type = Vec<Object>)]
    pub keys: Vec<Credential>,
    /// The types it wants to be told, such as `hold.placed`; none: all of them.
    #[serde(default)]
    pub types: Vec<String>,
}

/// An endpoint as it is shown. Its keys are references, so there is nothing to hide.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EndpointView {
    /// Its name.
    pub name: String,
    /// Where it is told.
    pub url: String,
    /// Keys and types.
    pub config: EndpointConfig,
    /// active; dead: it has not answered for days; gone: it said so itself; revoked.
    pub status: String,
    /// Everything up to this entry of the trail has been told, or was not to be.
    pub told_seq: i64,
    /// Attempts in a row that failed.
    pub failures: i64,
    /// When the first of them failed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<Timestamp>,
    /// What was wrong with the last of them.
    pub last_error: Option<String>,
    /// The id of the event that it was told and did not get, while it fails.
    pub stuck_at: Option<String>,
    /// When it is tried again, while it fails.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Timestamp>,
    /// When it last got something.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub delivered_at: Option<Timestamp>,
    /// When it was created.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// When it was taken out of use.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
}

/// What an endpoint said to an event that only tries it out.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EndpointTried {
    /// Whether it got it.
    pub ok: bool,
    /// The id of the event.
    pub id: String,
    /// What was wrong.
    pub error: Option<String>,
}

fn show(row: &EndpointRow) -> Result<EndpointView, StoreError> {
    let is_waiting = row.status == ACTIVE && row.failures > 0;
    Ok(EndpointView {
        name: row.name.clone(),
        url: row.url.clone(),
        config: config_of(row)?,
        status: row.status.clone(),
        told_seq: row.told_seq,
        failures: row.failures,
        failing_since: row.failing_since.and_then(from_millis),
        last_error: row.last_error.clone(),
        stuck_at: None,
        next_attempt_at: is_waiting.then(|| from_millis(row.next_at)).flatten(),
        delivered_at: row.delivered_at.and_then(from_millis),
        created_at: from_millis(row.created_at),
        revoked_at: row.revoked_at.and_then(from_millis),
    })
}

fn config_of(row: &EndpointRow) -> Result<EndpointConfig, StoreError> {
    serde_json::from_str(&row.config).map_err(StoreError::corrupt)
}

/// Creates an endpoint: it is told what happens from now on. Its keys must be there, and be keys.
///
/// # Errors
///
/// When the name is taken or is none, the address is not granted, or a key or a type is none.
pub async fn create(
    app: &App,
    actor: &Actor,
    (name, url): (&str, &str),
    config: &EndpointConfig,
) -> Result<EndpointView, OperationError> {
    population::check_name(name)?;
    let url = check(app, url, config)?;
    let written = serde_json::to_string(config).map_err(StoreError::corrupt)?;
    let done: Result<bool, StoreError> =
        transact!(app.store, Lane::Ordinary, "endpoint_create", |txn| {
            let known = rows::endpoints(txn).await?;
            let in_use = known.iter().filter(|row| row.revoked_at.is_none()).count();
            if in_use >= ENDPOINTS_MAX {
                return Ok(false);
            }
            let now = txn.now().timestamp_millis();
            let row = EndpointRow {
                name: name.to_owned(),
                url: url.clone(),
                config: written.clone(),
                status: ACTIVE.to_owned(),
                told_seq: audit::head(txn).await?.0,
                failures: 0,
                failing_since: None,
                last_error: None,
                next_at: 0,
                delivered_at: None,
                created_at: now,
                revoked_at: None,
            };
            rows::endpoint_insert(txn, &row).await?;
            told(
                txn,
                actor,
                "endpoint.create",
                name,
                json!({"url": url, "config": config}),
            );
            Ok(true)
        });
    match done {
        Ok(true) => find(app, name).await.and_then(|row| Ok(show(&row)?)),
        Ok(false) => Err(OperationError::refused(
            "endpoints_too_many",
            format!("there are {ENDPOINTS_MAX} endpoints: revoke one that is not needed"),
        )),
        Err(StoreError::Taken | StoreError::Conflict) => {
            Err(OperationError::name_taken("endpoint", name))
        }
        Err(error) => Err(error.into()),
    }
}

/// Checks what an endpoint is to be, and returns its address as it is kept: in the one form that it is reached by.
fn check(app: &App, url: &str, config: &EndpointConfig) -> Result<String, OperationError> {
    let no = |sentence: String| OperationError::invalid("config_invalid", sentence);
    if url.len() > URL_MAX {
        return Err(no(format!("an address has at most {URL_MAX} bytes")));
    }
    let url = post::address(url, &app.fetch).map_err(|error| no(error.to_string()))?;
    if config.keys.is_empty() || config.keys.len() > KEYS_MAX {
        return Err(no(format!("an endpoint has 1 to {KEYS_MAX} keys")));
    }
    secrets(app, config).map_err(|error| no(error.to_string()))?;
    let is_type = |name: &String| TOLD.iter().any(|kind| kind.is(name));
    if let Some(unknown) = config.types.iter().find(|name| !is_type(name)) {
        let known: Vec<&str> = TOLD.iter().map(|kind| kind.name).collect();
        let known = known.join(", ");
        return Err(no(format!(
            "nothing is told as `{unknown}`: there are {known}"
        )));
    }
    Ok(url.into())
}

/// Reads the keys of an endpoint, as they are now.
fn secrets(app: &App, config: &EndpointConfig) -> Result<Vec<Secret>, ConfigError> {
    let texts: Vec<String> = config
        .keys
        .iter()
        .map(|key| app.connectors.secret(key))
        .collect::<Result<_, _>>()?;
    post::secrets(&texts)
}

/// Lists every endpoint.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn list(app: &App) -> Result<Vec<EndpointView>, OperationError> {
    let mut views = Vec::new();
    for row in rows::endpoints(app.store.read()).await? {
        let mut view = show(&row)?;
        if row.last_error.is_some() && row.revoked_at.is_none() {
            let next = telling::entry_after(app, &row).await?;
            view.stuck_at = next.map(|entry| event::id_of(entry.seq, &entry.hash));
        }
        views.push(view);
    }
    Ok(views)
}

/// Takes an endpoint out of use: it is told nothing more.
///
/// # Errors
///
/// When there is none.
pub async fn revoke(app: &App, actor: &Actor, name: &str) -> Result<EndpointView, OperationError> {
    let done: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "endpoint_revoke", |txn| {
            let now = txn.now();
            if rows::endpoint_revoke(txn, name, now).await? {
                told(txn, actor, "endpoint.revoke", name, json!({}));
            }
            Ok(())
        });
    done?;
    Ok(show(&find(app, name).await?)?)
}

/// Lets an endpoint that is dead or gone be told again, from exactly where it was.
///
/// # Errors
///
/// When there is none, or it was taken out of use.
pub async fn revive(app: &App, actor: &Actor, name: &str) -> Result<EndpointView, OperationError> {
    let done: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "endpoint_revive", |txn| {
            if rows::endpoint_revive(txn, name).await? {
                told(txn, actor, "endpoint.revive", name, json!({}));
            }
            Ok(())
        });
    done?;
    let row = find(app, name).await?;
    if row.revoked_at.is_some() {
        let sentence = format!("endpoint `{name}` was taken out of use: create another one");
        return Err(OperationError::refused("endpoint_revoked", sentence));
    }
    Ok(show(&row)?)
}

/// Leaves out one event that an endpoint does not take, so that it is told what comes after it.
///
/// # Errors
///
/// When that is not the event it is stuck at, or it is being told it just now.
pub async fn skip(
    app: &App,
    actor: &Actor,
    name: &str,
    (event, reason): (&str, &str),
) -> Result<EndpointView, OperationError> {
    holds::check_reason(reason)?;
    let row = find(app, name).await?;
    let next = telling::entry_after(app, &row).await?;
    let Some(next) = next.filter(|next| event::id_of(next.seq, &next.hash) == event) else {
        let sentence = format!("endpoint `{name}` is not stuck at `{event}`: look at it again");
        return Err(OperationError::refused(
            "endpoint_not_stuck_there",
            sentence,
        ));
    };
    let done: Result<bool, StoreError> = transact!(
        app.store,
        Lane::Ordinary,
        "endpoint_skip",
        |txn| {
            let (now, moved) = (txn.now(), (row.told_seq, next.seq));
            if !rows::endpoint_skip(txn, name, moved, now).await? {
                return Ok(false);
            }
            let detail = json!({
                "event": event, "seq": next.seq, "action": next.action, "subject": next.subject, "reason": reason,
            });
            told(txn, actor, "endpoint.skip", name, detail);
            Ok(true)
        }
    );
    if !done? {
        return Err(OperationError::Conflict { what: "endpoint" });
    }
    Ok(show(&find(app, name).await?)?)
}

/// Sends an endpoint an event that says nothing, once, and returns what it answered.
///
/// # Errors
///
/// When there is none, or it was taken out of use.
pub async fn test(app: &App, actor: &Actor, name: &str) -> Result<EndpointTried, OperationError> {
    let row = find(app, name).await?;
    if row.revoked_at.is_some() {
        let sentence = format!("endpoint `{name}` was taken out of use");
        return Err(OperationError::refused("endpoint_revoked", sentence));
    }
    let now = app.store.now().await?;
    let public_url = app.outgoing.public_url.as_deref();
    let ready = event::write_test(name, &app.ids.token(), now, public_url);
    let error = match send(app, &row, &ready, now).await {
        Outcome::Delivered => None,
        Outcome::Gone => Some("it answered 410: there is nobody any more".to_owned()),
        Outcome::Failed { error, .. } => Some(error),
    };
    let detail = json!({"ok": error.is_none(), "error": error});
    let done: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "endpoint_test", |txn| {
            told(txn, actor, "endpoint.test", name, detail.clone());
            Ok(())
        });
    done?;
    Ok(EndpointTried {
        ok: error.is_none(),
        id: ready.id,
        error,
    })
}

/// Sends an event to an endpoint once, as its settings and what is granted are now.
async fn send(app: &App, row: &EndpointRow, ready: &event::Ready, now: Timestamp) -> Outcome {
    let set_up = || {
        let url = post::address(&row.url, &app.fetch)?;
        let config = config_of(row).map_err(|error| ConfigError(error.to_string()))?;
        Ok::<_, ConfigError>((url, secrets(app, &config)?))
    };
    match set_up() {
        Ok((url, secrets)) => post::post((&app.fetch, url), &secrets, ready, now).await,
        Err(error) => Outcome::Failed {
            error: error.to_string(),
            asked: None,
        },
    }
}

async fn find(app: &App, name: &str) -> Result<EndpointRow, OperationError> {
    let row = rows::endpoint_find(app.store.read(), name).await?;
    row.ok_or_else(|| OperationError::not_found("endpoint", name))
}

fn told(txn: &mut crate::store::Txn, actor: &Actor, action: &str, name: &str, detail: Value) {
    txn.audit(actor.entry(action, format!("endpoint:{name}"), detail));
}

#[cfg(test)]
mod tests;
