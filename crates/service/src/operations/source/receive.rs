//! What a source sends: checked by its signature, read, and admitted.
//!
//! From cheap to costly: size, source, signature, freshness, reading; then it is durable, and only then
//! answered. Whatever fails is refused and leaves nothing behind: nobody stops anything by writing
//! nonsense.

use tidegate_policy::Signal;
use tidegate_policy::dialect::{Origin, webhook};

use super::{Profile, SourceConfig, config_of};
use crate::app::App;
use crate::operations::signal::{self, Admitted, BODY_MAX, unreadable};
use crate::operations::{Actor, OperationError};
use crate::signal::verify::{Secret, WebhookRefusal, github, standard_webhooks, stripe};
use crate::store::source as rows;

/// Says what is wrong with the keys of a source, if anything.
pub(super) fn check_keys(app: &App, profile: Profile, config: &SourceConfig) -> Result<(), String> {
    Keys::read(app, profile, config).map(drop)
}

/// The keys of a source, as they are now.
enum Keys {
    Webhooks(Vec<standard_webhooks::Key>),
    Secrets(Vec<Secret>),
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
            Profile::Taxii
            | Profile::Kev
            | Profile::Csaf
            | Profile::GraphAlerts
            | Profile::GraphHealth => Err("a source of this profile is asked".to_owned()),
        }
    }
}

/// Checks and admits what a source sent. `header` finds a header by its name in lower case.
///
/// # Errors
///
/// When there is no such source, nothing proves that it sent this, it cannot be read, or it could not be
/// made durable: then it was not admitted, and the source must send it again.
pub async fn receive(
    app: &App,
    name: &str,
    header: impl Fn(&str) -> Option<String> + Send,
    body: &[u8],
) -> Result<Admitted, OperationError> {
    if body.len() > BODY_MAX {
        let sentence = format!("a report has at most {BODY_MAX} bytes");
        return Err(OperationError::invalid("too_large", sentence));
    }
    let row = rows::source_find(app.store.read(), name).await?;
    let row = row.filter(|row| row.revoked_at.is_none());
    let row = row.ok_or_else(|| OperationError::not_found("source", name))?;
    let (profile, config) = config_of(&row)?;
    if profile.is_asked() {
        let sentence = format!("`{name}` is asked by this service, and sends nothing by itself");
        return Err(OperationError::refused("source_is_asked", sentence));
    }
    let keys = Keys::read(app, profile, &config).map_err(|sentence| {
        tracing::error!(
            source = name,
            sentence,
            "the keys of a source cannot be read: it is not heard"
        );
        OperationError::refused(
            "keys_unreadable",
            "the keys of this source cannot be read here",
        )
    })?;
    let origin = Origin {
        source: row.name.clone(),
        trust: profile.trust(),
        vendor: config.vendor.clone(),
        products: config.products.clone(),
        received_at: app.store.now().await?,
    };
    let found = checked(profile, &keys, header, body, &origin)?;
    signal::admit(
        app,
        &Actor::task(&format!("source:{name}")),
        vec![found],
        body,
    )
    .await
}

fn checked(
    profile: Profile,
    keys: &Keys,
    header: impl Fn(&str) -> Option<String>,
    body: &[u8],
    origin: &Origin,
) -> Result<Signal, OperationError> {
    let forged = |refusal: WebhookRefusal| OperationError::Unproved {
        code: refusal.code(),
        sentence: refusal.to_string(),
    };
    let now = origin.received_at;
    let read = match (profile, keys) {
        (Profile::StandardWebhooks, Keys::Webhooks(keys)) => {
            let (id, timestamp, signature) = (
                header(standard_webhooks::ID),
                header(standard_webhooks::TIMESTAMP),
                header(standard_webhooks::SIGNATURE),
            );
            let headers = standard_webhooks::Headers {
                id: id.as_deref(),
                timestamp: timestamp.as_deref(),
                signature: signature.as_deref(),
            };
            let id = standard_webhooks::verify(keys, headers, body, now).map_err(forged)?;
            webhook::standard(body, id, origin)
        }
        (Profile::Github, Keys::Secrets(secrets)) => {
            let signature = header(github::SIGNATURE);
            github::verify(secrets, signature.as_deref(), body).map_err(forged)?;
            let event = header(github::EVENT).unwrap_or_default();
            webhook::github(body, &event, origin)
        }
        (Profile::Stripe, Keys::Secrets(secrets)) => {
            let signature = header(stripe::SIGNATURE);
            stripe::verify(secrets, signature.as_deref(), body, now).map_err(forged)?;
            webhook::stripe(body, origin)
        }
        (Profile::StandardWebhooks, Keys::Secrets(_))
        | (Profile::Github | Profile::Stripe, Keys::Webhooks(_))
        | (
            Profile::Taxii
            | Profile::Kev
            | Profile::Csaf
            | Profile::GraphAlerts
            | Profile::GraphHealth,
            _,
        ) => {
            return Err(OperationError::refused(
                "keys_unreadable",
                "the keys are of another profile",
            ));
        }
    };
    read.map_err(|error| unreadable(&error))
}
