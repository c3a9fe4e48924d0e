//! Security event tokens (RFC 8417) of a Shared Signals stream, pushed to us (RFC 8935) or fetched (RFC 8936).
//!
//! From cheap to costly: who it says it is from and for, its key, its signature, its claims; then it is durable,
//! and only then answered: the transmitter forgets what it was thanked for. What a stream says of itself is no
//! signal: a verification shows that it is there, and a stream that is paused is blind. `poll` fetches,
//! `verify` asks whether it is still there.

pub mod poll;
pub mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::{Value, json};
use tidegate_orchestrator::digest::Digest;
use tidegate_orchestrator::ids::{Timestamp, from_millis};
use tidegate_policy::dialect::Origin;
use tidegate_policy::dialect::security_event::{
    self, Expected, LATE_AFTER, SetError, SetRefusal, StreamEvent, StreamStatus,
};
use tidegate_policy::signal::Trust;
use tokio::task::JoinHandle;

use super::config::{SourceConfig, StreamConfig, secret};
use super::config_of;
use super::progress::{Answered, Progress};
use super::receive::{Message, Refused};
use crate::app::App;
use crate::operations::signal::{self, admission, rate};
use crate::operations::{Actor, OperationError};
use crate::signal::keys::{self, NoKey};
use crate::signal::verify::bearer::is_same;
use crate::signal::verify::jwks::{Key, KeySet};
use crate::signal::verify::jws;
use crate::store::source::{self as rows, SourceRow, StateRow};
use crate::store::{Lane, StoreError, transact};

/// The media type of a token.
const MEDIA_TYPE: &str = "application/secevent+jwt";

/// How much newer keys must be before that is written: silence of a day is told in minutes.
const KEYS_TOLD_EVERY: TimeDelta = TimeDelta::minutes(5);

/// A stream that tokens may come of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream<'a> {
    pub(super) row: &'a SourceRow,
    pub(super) config: &'a SourceConfig,
    pub(super) stream: &'a StreamConfig,
}

fn refusal(err: SetError, reason: &'static str, description: &str) -> Refused {
    Refused::Token(SetRefusal::new(err, reason, description))
}

/// The streams that are being asked just now.
#[derive(Debug, Default)]
pub struct Asking(BTreeMap<String, JoinHandle<()>>);

/// Asks every stream in use that is due, each on its own: a slow one keeps no other waiting.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn look(app: &App, asking: &mut Asking) -> Result<(), StoreError> {
    asking.0.retain(|_, task| !task.is_finished());
    let sources = rows::sources(app.store.read()).await?;
    let mut states = None;
    for row in sources.into_iter().filter(|row| row.revoked_at.is_none()) {
        let (_, config) = config_of(&row)?;
        if config.stream.is_none() || asking.0.contains_key(&row.name) {
            continue;
        }
        if states.is_none() {
            states = Some(rows::states(app.store.read()).await?);
        }
        let Some(state) = states.as_mut().and_then(|states| states.remove(&row.name)) else {
            continue;
        };
        let (app, name) = (app.clone(), row.name.clone());
        let background = app.background.clone();
        let task = background.spawn(async move {
            if let Err(error) = ask(&app, &row, &config, &state).await {
                tracing::warn!(source = row.name, %error, "a stream could not be asked");
            }
        });
        asking.0.insert(name, task);
    }
    Ok(())
}

async fn ask(
    app: &App,
    row: &SourceRow,
    config: &SourceConfig,
    state: &StateRow,
) -> Result<(), StoreError> {
    let Some(stream) = &config.stream else {
        return Ok(());
    };
    keep_keys(app, state, stream).await?;
    verify::ask_when_due(app, state, config).await?;
    let stream = Stream {
        row,
        config,
        stream,
    };
    poll::fetch_when_due(app, state, stream).await?;
    Ok(())
}

/// Has the keys of an issuer fetched when they are due, and keeps when they were.
async fn keep_keys(app: &App, state: &StateRow, stream: &StreamConfig) -> Result<(), StoreError> {
    let fetched = stream.jwks_url.as_deref();
    let Some(fetched) = fetched.and_then(|url| keys::refresh(app, url)) else {
        return Ok(());
    };
    let known = Progress::of(state)?.keys_at;
    if known.is_some_and(|known| fetched.signed_duration_since(known) < KEYS_TOLD_EVERY) {
        return Ok(());
    }
    transact!(app.store, Lane::Ordinary, "stream_keys", |txn| {
        let Some(known) = rows::state_lock(txn, &state.name).await? else {
            return Ok(());
        };
        let mut progress = Progress::of(&known)?;
        progress.keys_at = Some(fetched);
        rows::progress_set(txn, &state.name, &progress.written()?).await
    })
}

/// Takes a token that a transmitter pushed.
pub(super) async fn push(
    app: &App,
    stream: Stream<'_>,
    message: &Message<'_>,
) -> Result<(), Refused> {
    if message.media_type() != MEDIA_TYPE {
        let description = "the body must be `application/secevent+jwt`";
        return Err(refusal(SetError::InvalidRequest, "media_type", description));
    }
    let wanted = secret(app, stream.stream.authorization.as_ref());
    let wanted =
        wanted.map_err(|sentence| Refused::keys_unavailable(&stream.row.name, &sentence))?;
    if let Some(wanted) = wanted
        && !is_same(
            &wanted,
            &message.header("authorization").unwrap_or_default(),
        )
    {
        let description = "the `Authorization` is not the one that this stream was set up with";
        return Err(refusal(
            SetError::AuthenticationFailed,
            "authorization",
            description,
        ));
    }
    take(app, stream, message.body).await
}

/// Checks a token and makes durable what it says. One that comes again is taken again, without any effect.
pub(super) async fn take(app: &App, stream: Stream<'_>, token: &[u8]) -> Result<(), Refused> {
    let now = app.store.now().await?;
    let peeked = jws::peek(token).map_err(Refused::Token)?;
    // Whoever makes up issuers or keys must not cost us a signature check.
    if peeked.issuer() != Some(stream.stream.issuer.as_str()) {
        let description = "`iss` is not the issuer of this stream";
        return Err(refusal(SetError::InvalidIssuer, "issuer", description));
    }
    let is_ours = |named: &&str| stream.stream.audience.iter().any(|ours| ours == named);
    if !peeked.audiences().iter().any(is_ours) {
        let description = "`aud` does not name this receiver";
        return Err(refusal(SetError::InvalidAudience, "audience", description));
    }
    let key = key_of(app, stream, peeked.kid()).await?;
    let claims = peeked.verify(&key).map_err(Refused::Token)?;
    let expected = Expected {
        issuer: &stream.stream.issuer,
        audiences: &stream.stream.audience,
        critical_members: &stream.stream.critical_subject_members,
        now,
    };
    let origin = Origin {
        source: stream.row.name.clone(),
        trust: Trust::SignedFresh,
        vendor: stream.config.vendor.clone(),
        products: stream.config.products.clone(),
        received_at: now,
    };
    let received = security_event::read(&claims, Digest::of(token), &expected, &origin);
    match received.map_err(Refused::Token)? {
        security_event::Received::Signal(found) => {
            let actor = Actor::task(&format!("source:{}", stream.row.name));
            let found = vec![*found];
            if admission::known(app, &found).await?.is_some() {
                return Ok(());
            }
            rate::within(app, &origin, stream.config.rate_per_minute, found.len()).await?;
            signal::admit(app, &actor, found, token).await?;
            Ok(())
        }
        security_event::Received::Stream { jti, event, .. } => {
            let told = Told {
                jti: &jti,
                second: second_of(&claims),
                event: &event,
            };
            told_of_itself(app, &stream.row.name, told).await
        }
    }
}

/// Returns the second in which verified claims say that they were issued.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a number beyond all seconds becomes the last one"
)]
fn second_of(claims: &Value) -> i64 {
    let issued_at = claims.get("iat");
    let whole = issued_at.and_then(Value::as_i64);
    let parts = issued_at.and_then(Value::as_f64);
    whole.or(parts.map(|at| at as i64)).unwrap_or(0)
}

async fn key_of(app: &App, stream: Stream<'_>, kid: &str) -> Result<Arc<Key>, Refused> {
    let unknown = || {
        let description = "the issuer publishes no such key";
        refusal(SetError::InvalidKey, "kid_unknown", description)
    };
    if let Some(url) = &stream.stream.jwks_url {
        return match keys::find(app, url, kid).await {
            Ok(key) => Ok(key),
            Err(NoKey::Unknown) => Err(unknown()),
            Err(NoKey::Unavailable) => Err(Refused::KeysUnavailable),
        };
    }
    let set = key_file(app, stream.stream)
        .map_err(|sentence| Refused::keys_unavailable(&stream.row.name, &sentence))?;
    set.get(kid).ok_or_else(unknown)
}

/// Reads the keys of an issuer out of their file.
pub(super) fn key_file(app: &App, stream: &StreamConfig) -> Result<KeySet, String> {
    let name = stream.jwks_file.as_deref().unwrap_or("".as_ref());
    let path = app.connectors.grants().credential(name);
    let path = path.map_err(|error| error.to_string())?;
    let body = std::fs::read(path)
        .map_err(|error| format!("the keys in `{}` cannot be read: {error}", name.display()))?;
    let set = KeySet::parse(&body).map_err(|error| error.to_string())?;
    if set.is_empty() {
        return Err(format!("`{}` has no key that can be used", name.display()));
    }
    Ok(set)
}

/// What a stream says of itself.
#[derive(Clone, Copy)]
struct Told<'a> {
    jti: &'a str,
    second: i64,
    event: &'a StreamEvent,
}

async fn told_of_itself(app: &App, name: &str, told: Told<'_>) -> Result<(), Refused> {
    let done: Result<bool, StoreError> =
        transact!(app.store, Lane::Ordinary, "stream_event", |txn| {
            let now = txn.now();
            let Some(state) = rows::state_lock(txn, name).await? else {
                return Err(StoreError::NotFound);
            };
            let mut progress = Progress::of(&state)?;
            match told.event {
                StreamEvent::Verification { state: None } => {
                    // Nobody asked: it counts only when it is fresh, for it may be caught and sent again.
                    let sent = from_millis(told.second.saturating_mul(1000));
                    if sent.is_some_and(|sent| is_fresh(sent, now)) {
                        rows::heard(txn, &[name], now).await?;
                    }
                    Ok(true)
                }
                StreamEvent::Verification { state: Some(asked) } => {
                    let answered = progress.answer(asked, told.jti);
                    if answered == Answered::Now {
                        rows::answered(txn, name, Some(&progress.written()?), now).await?;
                    }
                    Ok(answered != Answered::Never)
                }
                StreamEvent::Updated { status, reason } => {
                    if !progress.tell(told.jti, told.second) {
                        return Ok(true);
                    }
                    rows::progress_set(txn, name, &progress.written()?).await?;
                    let why = why_stopped(*status, reason.as_deref());
                    rows::stopped_set(txn, name, why.as_deref(), now).await?;
                    let action = match why {
                        Some(_) => "source.stopped",
                        None => "source.enabled",
                    };
                    let detail =
                        json!({"status": status.name(), "reason": reason, "jti": told.jti});
                    let actor = Actor::task(&format!("source:{name}"));
                    txn.audit(actor.entry(action, format!("source:{name}"), detail));
                    Ok(true)
                }
            }
        });
    if done.map_err(OperationError::from)? {
        return Ok(());
    }
    let description = "the state is none that was asked for";
    Err(refusal(SetError::InvalidState, "state", description))
}

fn is_fresh(sent: Timestamp, now: Timestamp) -> bool {
    now.signed_duration_since(sent) <= LATE_AFTER
}

/// Says why a stream sends nothing; a status that is not known is not taken for a good one.
fn why_stopped(status: StreamStatus, reason: Option<&str>) -> Option<String> {
    match status {
        StreamStatus::Enabled => None,
        StreamStatus::Paused | StreamStatus::Disabled | StreamStatus::Unknown => {
            Some(match reason {
                Some(reason) => format!("{}: {reason}", status.name()),
                None => status.name().to_owned(),
            })
        }
    }
}
