//! Sources: who reports without a token of ours, how that is proved, and whether it is still heard.
//!
//! `config` is what may stand in its settings; `receive` checks and admits what a source sends; `stream` is for
//! security event tokens, pushed or fetched; `poll` asks those that send nothing by themselves, as `feed` says;
//! `refusals` counts what was refused; `silence` notices when nothing comes any more. Keys are references to files
//! or variables that the operator granted, never stored.

pub mod config;
pub mod feed;
pub mod poll;
mod progress;
pub mod receive;
pub mod refusals;
pub mod silence;
pub mod stream;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate_orchestrator::ids::{Timestamp, from_millis};
use tidegate_policy::signal::Trust;

pub use self::config::SourceConfig;
use super::{Actor, OperationError, population};
use crate::app::App;
use crate::store::source::{self as rows, SourceRow, StateRow};
use crate::store::{Lane, StoreError, policy, transact};

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
    /// CloudEvents 1.0 under a secret: the channel is known, and nothing is signed.
    Cloudevents,
    /// Security event tokens that are pushed to us (RFC 8935): signed, and known by their id for ever.
    SecurityEvents,
    /// Security event tokens that we fetch (RFC 8936).
    SecurityEventsPoll,
    /// A collection of a TAXII 2.1 server, asked by us.
    Taxii,
    /// The catalogue of known exploited vulnerabilities of CISA, asked by us.
    Kev,
    /// A provider of CSAF 2.0 advisories, asked by us.
    Csaf,
    /// Alerts of Microsoft Graph, asked by us.
    GraphAlerts,
    /// Service health issues of Microsoft Graph, asked by us. Never about security.
    GraphHealth,
}

impl Profile {
    /// How sure it is who sent what comes from such a source.
    const fn trust(self) -> Trust {
        match self {
            Self::StandardWebhooks
            | Self::Stripe
            | Self::SecurityEvents
            | Self::SecurityEventsPoll => Trust::SignedFresh,
            Self::Cloudevents => Trust::AuthenticatedChannel,
            Self::Github => Trust::Signed,
            // Fetched with our own credentials from whoever raised it.
            Self::GraphAlerts | Self::GraphHealth => Trust::AuthenticatedChannel,
            Self::Taxii | Self::Csaf | Self::Kev => Trust::Unauthenticated,
        }
    }

    /// The same of a source of which the operator may have said that only people we trust write there, or by which keys they sign.
    const fn trust_if(self, is_trusted: bool, is_signed: bool) -> Trust {
        match self {
            // Shared and public unless said.
            Self::Taxii | Self::Csaf if is_trusted => Trust::AuthenticatedChannel,
            // Nobody can make one up; whoever keeps the host can show an old one.
            Self::Csaf if is_signed => Trust::Signed,
            other => other.trust(),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::StandardWebhooks => "standard_webhooks",
            Self::Github => "github",
            Self::Stripe => "stripe",
            Self::Cloudevents => "cloudevents",
            Self::SecurityEvents => "security_events",
            Self::SecurityEventsPoll => "security_events_poll",
            Self::Taxii => "taxii",
            Self::Kev => "kev",
            Self::Csaf => "csaf",
            Self::GraphAlerts => "graph_alerts",
            Self::GraphHealth => "graph_health",
        }
    }

    /// Says whether such a source is asked by us, and sends nothing by itself.
    const fn is_asked(self) -> bool {
        match self {
            Self::StandardWebhooks
            | Self::Github
            | Self::Stripe
            | Self::Cloudevents
            | Self::SecurityEvents
            | Self::SecurityEventsPoll => false,
            Self::Taxii | Self::Kev | Self::Csaf | Self::GraphAlerts | Self::GraphHealth => true,
        }
    }

    const fn is_stream(self) -> bool {
        match self {
            Self::SecurityEvents | Self::SecurityEventsPoll => true,
            Self::StandardWebhooks
            | Self::Stripe
            | Self::Github
            | Self::Cloudevents
            | Self::Taxii
            | Self::Kev
            | Self::Csaf
            | Self::GraphAlerts
            | Self::GraphHealth => false,
        }
    }
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
    /// Where it sends to; nothing when we ask it.
    pub path: Option<String>,
    /// When it was created.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// When it was taken out of use.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// When something that proves itself last came from it, or it last answered; since it was created.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub heard_at: Option<Timestamp>,
    /// Since when it is blind: what it should report is not heard.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub blind_since: Option<Timestamp>,
    /// Why it is blind.
    pub blind_why: Option<String>,
    /// What was wrong with the last question that it did not answer.
    pub trouble: Option<String>,
    /// What it answered and was not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<poll::Refusals>,
}

/// Returns what is kept of a source.
pub(crate) fn config_of(row: &SourceRow) -> Result<(Profile, SourceConfig), StoreError> {
    let profile = serde_json::from_value(json!(row.profile)).map_err(StoreError::corrupt)?;
    let config = serde_json::from_str(&row.config).map_err(StoreError::corrupt)?;
    Ok((profile, config))
}

fn show(row: &SourceRow, state: Option<&StateRow>) -> Result<SourceView, StoreError> {
    let (profile, config) = config_of(row)?;
    let at = |of: fn(&StateRow) -> Option<i64>| state.and_then(of).and_then(from_millis);
    let said = |of: fn(&StateRow) -> &Option<String>| state.and_then(|state| of(state).clone());
    Ok(SourceView {
        name: row.name.clone(),
        profile,
        config,
        path: (profile != Profile::SecurityEventsPoll && !profile.is_asked())
            .then(|| format!("/v1/sources/{}/events", row.name)),
        created_at: from_millis(row.created_at),
        revoked_at: row.revoked_at.and_then(from_millis),
        heard_at: at(|state| Some(state.heard_at)),
        blind_since: at(|state| state.blind_since),
        blind_why: said(|state| &state.blind_why),
        trouble: said(|state| &state.trouble),
        refused: state.and_then(poll::refusals_of),
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
    if name == refusals::UNKNOWN {
        let sentence = "`unknown` is what everybody is called who is no source";
        return Err(OperationError::invalid("name_invalid", sentence));
    }
    config::check(app, profile, config)?;
    let row = SourceRow {
        name: name.to_owned(),
        profile: profile.name().to_owned(),
        config: serde_json::to_string(config).map_err(StoreError::corrupt)?,
        created_at: 0,
        revoked_at: None,
    };
    let done: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "source_create", |txn| {
            let now = txn.now();
            // The same instant as that of its first word, which is how it is told that it said none.
            let row = SourceRow {
                created_at: now.timestamp_millis(),
                ..row.clone()
            };
            rows::source_insert(txn, &row, now).await?;
            let detail = json!({"profile": row.profile, "config": config});
            txn.audit(actor.entry("source.create", format!("source:{name}"), detail));
            Ok(())
        });
    match done {
        Ok(()) => view(app, name).await,
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
    let states = rows::states(app.store.read()).await?;
    let views = found
        .iter()
        .map(|row| show(row, states.get(&row.name)))
        .collect::<Result<_, _>>()?;
    Ok(views)
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
                // Whoever needs it is blind from now on.
                policy::facts_changed(txn).await?;
                txn.audit(actor.entry("source.revoke", format!("source:{name}"), json!({})));
            }
            Ok(())
        });
    done?;
    app.wake.judge();
    view(app, name).await
}

async fn view(app: &App, name: &str) -> Result<SourceView, OperationError> {
    let row = rows::source_find(app.store.read(), name).await?;
    let row = row.ok_or_else(|| OperationError::not_found("source", name))?;
    let states = rows::states(app.store.read()).await?;
    Ok(show(&row, states.get(name))?)
}
