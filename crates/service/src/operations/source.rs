//! Sources that report without a token: what they send is checked by its signature, and admitted.
//!
//! From cheap to costly: size, source, signature, freshness, reading; then it is durable, and only then
//! answered. Whatever fails is refused and leaves nothing behind: nobody stops anything by writing
//! nonsense. Keys are references to files or variables that the operator granted, never stored.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate_orchestrator::ids::{Timestamp, from_millis};
use tidegate_policy::Signal;
use tidegate_policy::dialect::{Origin, webhook};
use tidegate_policy::signal::Trust;

use super::signal::{self, Admitted, BODY_MAX, unreadable};
use super::{Actor, OperationError, population};
use crate::app::App;
use crate::connector::Credential;
use crate::signal::verify::{Secret, WebhookRefusal, github, standard_webhooks, stripe};
use crate::store::source::{self as rows, SourceRow};
use crate::store::{Lane, StoreError, transact};

/// The most keys of one source: an old and a new one, and some to spare.
const KEYS_MAX: usize = 8;

/// How what a source sends is signed and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Standard Webhooks 1.0: signed and fresh.
    StandardWebhooks,
    /// GitHub: signed, and without freshness.
    Github,
    /// In the way of Stripe: signed and fresh.
    Stripe,
}

impl Profile {
    const fn trust(self) -> Trust {
        match self {
            Self::StandardWebhooks | Self::Stripe => Trust::SignedFresh,
            Self::Github => Trust::Signed,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::StandardWebhooks => "standard_webhooks",
            Self::Github => "github",
            Self::Stripe => "stripe",
        }
    }
}

/// A source to create, and what is kept of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Where its keys are kept: `{"file": "name inside the folder of credentials"}` or `{"env": "TIDEGATE_CREDENTIAL_NAME"}`.
    /// Any of them is enough, so that keys can be changed without a gap.
    #[schema(value_type = Vec<Object>)]
    pub keys: Vec<Credential>,
    /// The vendor of what names none.
    #[serde(default)]
    pub vendor: Option<String>,
    /// The products of what names none.
    #[serde(default)]
    pub products: BTreeSet<String>,
}

/// A source as it is shown. Its keys are references, so there is nothing to hide.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SourceView {
    /// Its name.
    pub name: String,
    /// How what it sends is signed and written.
    pub profile: Profile,
    /// Keys, vendor and products.
    pub config: SourceConfig,
    /// Where it sends to.
    pub path: String,
    /// When it was created.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// When it was taken out of use.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
}

fn show(row: &SourceRow) -> Result<SourceView, StoreError> {
    let profile = serde_json::from_value(json!(row.profile)).map_err(StoreError::corrupt)?;
    Ok(SourceView {
        name: row.name.clone(),
        profile,
        config: serde_json::from_str(&row.config).map_err(StoreError::corrupt)?,
        path: format!("/v1/sources/{}/events", row.name),
        created_at: from_millis(row.created_at),
        revoked_at: row.revoked_at.and_then(from_millis),
    })
}

/// Creates a source. Its keys must be there, and be keys.
///
/// # Errors
///
/// When the name is taken or is none, or a key cannot be read.
pub async fn create(
    app: &App,
    actor: &Actor,
    name: &str,
    profile: Profile,
    config: &SourceConfig,
) -> Result<SourceView, OperationError> {
    population::check_name(name)?;
    if config.keys.is_empty() || config.keys.len() > KEYS_MAX {
        let sentence = format!("a source has 1 to {KEYS_MAX} keys");
        return Err(OperationError::invalid("config_invalid", sentence));
    }
    if config.vendor.is_none() && matches!(profile, Profile::Github | Profile::Stripe) {
        let sentence = "what this profile sends never names a vendor: say which one it is about";
        return Err(OperationError::invalid("config_invalid", sentence));
    }
    let keys = Keys::read(app, profile, config)
        .map_err(|sentence| OperationError::invalid("config_invalid", sentence))?;
    drop(keys);
    let row = SourceRow {
        name: name.to_owned(),
        profile: profile.name().to_owned(),
        config: serde_json::to_string(config).map_err(StoreError::corrupt)?,
        created_at: app.clock.now().timestamp_millis(),
        revoked_at: None,
    };
    let done: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "source_create", |txn| {
            rows::source_insert(txn, &row).await?;
            let detail = json!({"profile": row.profile, "config": config});
            txn.audit(actor.entry("source.create", format!("source:{name}"), detail))
                .await?;
            Ok(())
        });
    match done {
        Ok(()) => Ok(show(&row)?),
        Err(StoreError::Taken | StoreError::Conflict) => {
            Err(OperationError::name_taken("source", name))
        }
        Err(error) => Err(error.into()),
    }
}

/// Lists every source.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn list(app: &App) -> Result<Vec<SourceView>, OperationError> {
    let found = rows::sources(app.store.read()).await?;
    Ok(found.iter().map(show).collect::<Result<_, _>>()?)
}

/// Takes a source out of use: what it sends from now on is refused.
///
/// # Errors
///
/// When there is none.
pub async fn revoke(app: &App, actor: &Actor, name: &str) -> Result<SourceView, OperationError> {
    let done: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "source_revoke", |txn| {
            let now = txn.now();
            if rows::source_revoke(txn, name, now).await? {
                txn.audit(actor.entry("source.revoke", format!("source:{name}"), json!({})))
                    .await?;
            }
            Ok(())
        });
    done?;
    let row = rows::source_find(app.store.read(), name).await?;
    let row = row.ok_or_else(|| OperationError::not_found("source", name))?;
    Ok(show(&row)?)
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
    let source = show(&row)?;
    let keys = Keys::read(app, source.profile, &source.config).map_err(|sentence| {
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
        source: source.name.clone(),
        trust: source.profile.trust(),
        vendor: source.config.vendor.clone(),
        products: source.config.products.clone(),
        received_at: app.store.now().await?,
    };
    let found = checked(source.profile, &keys, header, body, &origin)?;
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
        | (Profile::Github | Profile::Stripe, Keys::Webhooks(_)) => {
            return Err(OperationError::refused(
                "keys_unreadable",
                "the keys are of another profile",
            ));
        }
    };
    read.map_err(|error| unreadable(&error))
}
