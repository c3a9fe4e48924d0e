//! What a source sends: checked by its signature, read, and admitted.
//!
//! From cheap to costly: size, source, signature, freshness, reading; then it is durable, and only then
//! answered. Whatever fails is refused, counted and leaves nothing behind: nobody stops anything by writing
//! nonsense. `cloud` reads CloudEvents, `super::stream` security event tokens.

mod cloud;

use thiserror::Error;
use tidegate_policy::Signal;
use tidegate_policy::dialect::security_event::SetRefusal;
use tidegate_policy::dialect::{Origin, Unreadable, ocsf, webhook};

use super::config::PayloadKind;
use super::refusals::UNKNOWN;
use super::stream::{self, Stream};
use super::{Profile, SourceConfig, config_of};
use crate::app::App;
use crate::operations::signal::{self, Admitted, BODY_MAX, admission, rate, unreadable};
use crate::operations::{Actor, OperationError};
use crate::signal::verify::bearer::{self, Bearer};
use crate::signal::verify::{Secret, WebhookRefusal, github, standard_webhooks, stripe};
use crate::store::StoreError;
use crate::store::source::{self as rows, SourceRow};

/// A message as it came.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its headers, named in lower case, in their order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// What stands behind the path.
    pub query: Option<&'a str>,
    /// Its body.
    pub body: &'a [u8],
}

impl Message<'_> {
    /// Returns the first header of a name in lower case, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().find(|(known, _)| *known == name);
        let value = found.and_then(|(_, value)| std::str::from_utf8(value).ok());
        value.map(str::to_owned)
    }

    /// Returns the media type in lower case, without its parameters.
    #[must_use]
    pub fn media_type(&self) -> String {
        let value = self.header("content-type").unwrap_or_default();
        let kind = value.split(';').next().unwrap_or_default();
        kind.trim().to_ascii_lowercase()
    }
}

/// What became of a message.
#[derive(Debug, Clone)]
pub enum Taken {
    /// It brought signals, or repeated some.
    Admitted(Admitted),
    /// A token: whoever sent it hears that it is durable, and nothing else.
    Token,
}

/// A message was not taken.
#[derive(Debug, Error)]
pub enum Refused {
    /// As any operation says no.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// It is of a form that the source does not send.
    #[error("{0}")]
    MediaType(String),
    /// A security event token is refused.
    #[error("{0}")]
    Token(SetRefusal),
    /// The keys of an issuer cannot be fetched: it may be sent again.
    #[error("the keys of the issuer cannot be fetched, so nobody can tell: send it again")]
    KeysUnavailable,
    /// A source that we ask did not answer with what can be read.
    #[error("{0}")]
    Unanswered(String),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Operation(error.into())
    }
}

impl Refused {
    /// Says that our own keys cannot be read, and logs why.
    fn keys_unreadable(name: &str, sentence: &str) -> Self {
        log_unreadable(name, sentence);
        let sentence = "the keys of this source cannot be read here";
        OperationError::refused("keys_unreadable", sentence).into()
    }

    /// The same of a stream: its transmitter keeps what it is told to send again.
    pub(super) fn keys_unavailable(name: &str, sentence: &str) -> Self {
        log_unreadable(name, sentence);
        Self::KeysUnavailable
    }

    /// Returns the code that it is counted by; `None`: we failed, and that is no refusal.
    fn code(&self) -> Option<String> {
        let code = match self {
            Self::Operation(error) => match error {
                OperationError::Refused { code, .. } | OperationError::Invalid { code, .. } => code,
                OperationError::Unproved { code, .. } | OperationError::Busy { code, .. } => *code,
                OperationError::NotFound { .. } => "source_not_found",
                OperationError::Conflict { .. } | OperationError::Failed(_) => return None,
            },
            Self::MediaType(_) => "media_type",
            Self::Token(refusal) => token_code(refusal),
            Self::KeysUnavailable => "keys_unavailable",
            Self::Unanswered(_) => return None,
        };
        Some(code.to_owned())
    }
}

fn log_unreadable(source: &str, sentence: &str) {
    tracing::error!(
        source,
        sentence,
        "the keys of a source cannot be read: it is not heard"
    );
}

/// Returns the code that a refused token is counted by: that of the answer, unless it was discarded.
pub(super) fn token_code(refusal: &SetRefusal) -> &'static str {
    match refusal.reason {
        "discarded" => "discarded",
        _ => refusal.err.name(),
    }
}

/// Counts a refusal of a source that is known.
pub(super) fn count(app: &App, source: &str, code: &str) {
    app.inbound.refusals.count(source, code, app.clock.now());
}

/// Says what is wrong with the keys of a source, if anything.
pub(super) fn check_keys(app: &App, profile: Profile, config: &SourceConfig) -> Result<(), String> {
    Keys::read(app, profile, config).map(drop)
}

/// The keys of a source, as they are now.
enum Keys {
    Webhooks(Vec<standard_webhooks::Key>),
    Secrets(Vec<Secret>),
    Bearers(Vec<Bearer>),
    /// Those of its issuer.
    Issuer,
}

impl Keys {
    fn read(app: &App, profile: Profile, config: &SourceConfig) -> Result<Self, String> {
        let texts: Vec<String> = config
            .keys
            .iter()
            .map(|key| {
                app.connectors
                    .secret(key)
                    .map_err(|error| error.to_string())
            })
            .collect::<Result<_, _>>()?;
        let said = |error: crate::signal::verify::KeyRefused| error.to_string();
        match profile {
            Profile::StandardWebhooks => {
                let keys = texts.iter().map(|text| standard_webhooks::Key::parse(text));
                Ok(Self::Webhooks(
                    keys.collect::<Result<_, _>>().map_err(said)?,
                ))
            }
            Profile::Github | Profile::Stripe => {
                let secrets = texts.iter().map(|text| Secret::from_text(text));
                Ok(Self::Secrets(
                    secrets.collect::<Result<_, _>>().map_err(said)?,
                ))
            }
            Profile::Cloudevents => {
                let secrets = texts.iter().map(|text| Bearer::parse(text));
                Ok(Self::Bearers(
                    secrets.collect::<Result<_, _>>().map_err(said)?,
                ))
            }
            Profile::SecurityEvents | Profile::SecurityEventsPoll => Ok(Self::Issuer),
            Profile::Taxii
            | Profile::Kev
            | Profile::Csaf
            | Profile::GraphAlerts
            | Profile::GraphHealth => Err("a source of this profile is asked".to_owned()),
        }
    }
}

/// Checks and admits what a source sent.
///
/// # Errors
///
/// When there is no such source, nothing proves that it sent this, it cannot be read, or it could not be
/// made durable: then it was not admitted, and the source must send it again. What is refused is counted.
pub async fn receive(app: &App, name: &str, message: Message<'_>) -> Result<Taken, Refused> {
    let done = received(app, name, message).await;
    if let Err(refused) = &done
        && let Some(code) = refused.code()
    {
        let is_unknown = matches!(refused, Refused::Operation(OperationError::NotFound { .. }));
        count(app, if is_unknown { UNKNOWN } else { name }, &code);
    }
    done
}

/// Counts a message that was refused before anybody looked at it.
pub async fn refused_before(app: &App, name: &str, code: &str) {
    let found = rows::source_find(app.store.read(), name).await;
    let is_known = found.is_ok_and(|row| row.is_some_and(|row| row.revoked_at.is_none()));
    count(app, if is_known { name } else { UNKNOWN }, code);
}

/// Finds a source in use.
async fn found(app: &App, name: &str) -> Result<SourceRow, OperationError> {
    let row = rows::source_find(app.store.read(), name).await?;
    let row = row.filter(|row| row.revoked_at.is_none());
    row.ok_or_else(|| OperationError::not_found("source", name))
}

/// Answers whoever asks whether they may send CloudEvents here: yes, in the name of anybody, for what they
/// send has to prove itself. Returns how many a minute, if that is limited.
///
/// # Errors
///
/// When there is no such source, or it sends something else.
pub async fn handshake(app: &App, name: &str) -> Result<Option<u32>, OperationError> {
    let row = found(app, name).await?;
    let (profile, config) = config_of(&row)?;
    let is_cloudevents =
        profile == Profile::Cloudevents || config.payload == Some(PayloadKind::Cloudevent);
    if !is_cloudevents {
        let sentence = "only a source of CloudEvents is asked so";
        return Err(OperationError::refused("not_cloudevents", sentence));
    }
    Ok(config.rate_per_minute)
}

async fn received(app: &App, name: &str, message: Message<'_>) -> Result<Taken, Refused> {
    if message.body.len() > BODY_MAX {
        let sentence = format!("a report has at most {BODY_MAX} bytes");
        return Err(OperationError::invalid("too_large", sentence).into());
    }
    let row = found(app, name).await?;
    let (profile, config) = config_of(&row)?;
    check_query(message.query)?;
    let keys = Keys::read(app, profile, &config)
        .map_err(|sentence| Refused::keys_unreadable(name, &sentence))?;
    let origin = Origin {
        source: row.name.clone(),
        trust: profile.trust(),
        vendor: config.vendor.clone(),
        products: config.products.clone(),
        received_at: app.store.now().await?,
    };
    let read = match (profile, &config.stream) {
        (
            Profile::SecurityEventsPoll
            | Profile::Taxii
            | Profile::Kev
            | Profile::Csaf
            | Profile::GraphAlerts
            | Profile::GraphHealth,
            _,
        )
        | (Profile::SecurityEvents, None) => {
            let sentence = "nothing is sent to this source: it is asked";
            return Err(OperationError::refused("not_a_receiver", sentence).into());
        }
        (Profile::SecurityEvents, Some(stream)) => {
            let stream = Stream {
                row: &row,
                config: &config,
                stream,
            };
            stream::push(app, stream, &message).await?;
            return Ok(Taken::Token);
        }
        (Profile::Cloudevents, _) => cloud::read(&keys, &config, &message, &origin)?,
        (Profile::StandardWebhooks | Profile::Github | Profile::Stripe, _) => {
            checked((profile, &config), &keys, &message, &origin)?
        }
    };
    if let Some(known) = admission::known(app, &read.signals).await? {
        return Ok(Taken::Admitted(known));
    }
    rate::within(app, &origin, config.rate_per_minute, read.signals.len()).await?;
    let warnings = match is_in_our_words(profile, &config) {
        true => signal::warnings_of(
            &read.signals,
            message.body,
            message.header(cloud::TYPE).as_deref(),
        ),
        false => Vec::new(),
    };
    let actor = Actor::task(&format!("source:{name}"));
    let admitted = signal::admit(app, &actor, read.signals, &read.kept).await?;
    Ok(Taken::Admitted(Admitted {
        warnings,
        ..admitted
    }))
}

/// Says whether a source writes reports for us, and not in a format of its own.
fn is_in_our_words(profile: Profile, config: &SourceConfig) -> bool {
    matches!(profile, Profile::StandardWebhooks | Profile::Cloudevents)
        && config.payload != Some(PayloadKind::Ocsf)
}

/// Signals that a message proved to bring, and the bytes to keep of it.
pub(super) struct Read {
    signals: Vec<Signal>,
    kept: Vec<u8>,
}

/// Refuses a secret in the address: addresses are written into logs, of others too.
fn check_query(query: Option<&str>) -> Result<(), OperationError> {
    let names = query.unwrap_or_default().split('&');
    let mut names = names.map(|pair| pair.split('=').next().unwrap_or_default());
    if names.any(|name| name.eq_ignore_ascii_case("access_token")) {
        return Err(OperationError::Unproved {
            code: "token_in_address",
            sentence: "a token in the address is not taken: send `Authorization: Bearer …`"
                .to_owned(),
        });
    }
    Ok(())
}

fn forged(refusal: WebhookRefusal) -> OperationError {
    OperationError::Unproved {
        code: refusal.code(),
        sentence: refusal.to_string(),
    }
}

fn checked(
    (profile, config): (Profile, &SourceConfig),
    keys: &Keys,
    message: &Message<'_>,
    origin: &Origin,
) -> Result<Read, Refused> {
    let media = message.media_type();
    let is_event = config.payload == Some(PayloadKind::Cloudevent) && media == cloud::STRUCTURED;
    if media != "application/json" && !is_event {
        let sentence = format!("a signal is application/json, and this is `{media}`");
        return Err(Refused::MediaType(sentence));
    }
    let body = message.body;
    let now = origin.received_at;
    let one = |signal: Result<Signal, _>| signal.map(|signal| vec![signal]);
    let signals = match (profile, keys) {
        (Profile::StandardWebhooks, Keys::Webhooks(keys)) => {
            let id = webhook_id(keys, message, now).map_err(forged)?;
            match config.payload {
                None | Some(PayloadKind::Report) => one(webhook::standard(body, &id, origin)),
                Some(PayloadKind::Cloudevent) => cloud::signed(body, origin),
                Some(PayloadKind::Ocsf) => ocsf::read(body, origin),
            }
        }
        (Profile::Github, Keys::Secrets(secrets)) => {
            let signature = message.header(github::SIGNATURE);
            github::verify(secrets, signature.as_deref(), body).map_err(forged)?;
            let event = message.header(github::EVENT).unwrap_or_default();
            one(webhook::github(body, &event, origin))
        }
        (Profile::Stripe, Keys::Secrets(secrets)) => {
            let signature = message.header(stripe::SIGNATURE);
            stripe::verify(secrets, signature.as_deref(), body, now).map_err(forged)?;
            one(webhook::stripe(body, origin))
        }
        (_, Keys::Webhooks(_) | Keys::Secrets(_) | Keys::Bearers(_) | Keys::Issuer) => {
            let sentence = "the keys are of another profile";
            return Err(OperationError::refused("keys_unreadable", sentence).into());
        }
    };
    Ok(Read {
        signals: signals.map_err(|error| unreadable(&error))?,
        kept: body.to_vec(),
    })
}

fn webhook_id(
    keys: &[standard_webhooks::Key],
    message: &Message<'_>,
    now: tidegate_orchestrator::ids::Timestamp,
) -> Result<String, WebhookRefusal> {
    let (id, timestamp, signature) = (
        message.header(standard_webhooks::ID),
        message.header(standard_webhooks::TIMESTAMP),
        message.header(standard_webhooks::SIGNATURE),
    );
    let headers = standard_webhooks::Headers {
        id: id.as_deref(),
        timestamp: timestamp.as_deref(),
        signature: signature.as_deref(),
    };
    standard_webhooks::verify(keys, headers, message.body, now).map(str::to_owned)
}

/// Reads a CloudEvent in structured mode that came over a channel that is known.
///
/// # Errors
///
/// When it is no event, or what it reports cannot be read.
pub fn event(body: &[u8], origin: &Origin) -> Result<Vec<Signal>, Unreadable> {
    cloud::signed(body, origin)
}

/// Checks the secret of a source of CloudEvents.
fn check_bearer(keys: &Keys, message: &Message<'_>) -> Result<(), OperationError> {
    let Keys::Bearers(secrets) = keys else {
        let sentence = "the keys are of another profile";
        return Err(OperationError::refused("keys_unreadable", sentence));
    };
    let header = message.header(bearer::AUTHORIZATION);
    bearer::verify(secrets, header.as_deref()).map_err(forged)
}
