//! A feed: where and how often a source is asked that sends nothing by itself, and with what.
//!
//! Secrets are references, as everywhere. Which hosts may be asked at all is the operator's to say.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidegate_orchestrator::ids::Timestamp;

use super::{Profile, SourceConfig};
use crate::app::App;
use crate::connector::Credential;
use crate::fetch::Proof;
use crate::signal::gpgv;

/// The shortest time between two questions: more would be an attack on whoever is asked.
const EVERY_MIN: u32 = 5;
/// The longest: a source that is asked more rarely would be blind for weeks before anybody noticed.
const EVERY_MAX: u32 = 7 * 24 * 3600;
/// The longest text of a setting, in bytes.
const SETTING_MAX: usize = 1024;

/// Where and how often a source is asked, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// taxii: the API root; kev: the catalogue; csaf: `provider-metadata.json`, a ROLIE feed, or a
    /// directory that ends with `/`; graph_alerts, graph_health: `https://graph.microsoft.com`.
    pub url: String,
    /// How long from one question to the next. Three times over without an answer, it is blind.
    pub every_seconds: u32,
    /// taxii: the id of the collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    /// From when on, the first time; csaf and graph: 90 days before it was created, unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// The user name, with `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where the password is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub password: Option<Credential>,
    /// Where a bearer token is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub bearer: Option<Credential>,
    /// graph_alerts, graph_health: the client that a token is asked for with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<FeedClient>,
    /// taxii, csaf: only people we trust write there. Without it nothing from there holds anything.
    #[serde(default)]
    pub trusted: bool,
    /// csaf: a file inside the folder of credentials with the OpenPGP keys of the provider, in letters or in bytes.
    /// With it every document must be signed by one of them (`.asc`), or nothing whole has come; without it no
    /// signature is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub openpgp_keys: Option<PathBuf>,
}

/// A client of OAuth 2.0 (client credentials).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FeedClient {
    /// Where tokens are asked for, such as `https://login.microsoftonline.com/TENANT/oauth2/v2.0/token`.
    pub token_url: String,
    /// The id of the client.
    pub id: String,
    /// Where its secret is kept.
    #[schema(value_type = Object)]
    pub secret: Credential,
    /// What the token is for.
    #[serde(default = "graph_scope")]
    pub scope: String,
}

fn graph_scope() -> String {
    "https://graph.microsoft.com/.default".to_owned()
}

/// Says what is wrong with the settings of a source that is asked, and what to do.
pub(super) fn check(app: &App, profile: Profile, config: &SourceConfig) -> Result<(), String> {
    let Some(feed) = &config.feed else {
        return Err("a source of this profile is asked: say where and how often in `feed`, at least `url` and `every_seconds`".to_owned());
    };
    if !config.keys.is_empty() {
        return Err("a source that is asked signs nothing: it has no `keys`".to_owned());
    }
    let url = app
        .fetch
        .may(&feed.url)
        .map_err(|error| format!("feed.url: {error}"))?;
    if url.query().is_some() && !matches!(profile, Profile::Kev | Profile::Csaf) {
        return Err(
            "feed.url: it is the address of the service, without a question mark".to_owned(),
        );
    }
    if !(EVERY_MIN..=EVERY_MAX).contains(&feed.every_seconds) {
        return Err(format!("feed.every_seconds is {EVERY_MIN} to {EVERY_MAX}"));
    }
    let needs_collection = profile == Profile::Taxii;
    if needs_collection != feed.collection.is_some() {
        return Err("feed.collection is the id of a collection of TAXII: such a source has one, and no other has".to_owned());
    }
    let is_id = |id: &String| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        (1..=SETTING_MAX).contains(&id.len()) && id.bytes().all(plain) && !id.starts_with('.')
    };
    if !feed.collection.iter().all(is_id) {
        return Err(
            "feed.collection is the id of a collection, of letters, digits and `-._~`".to_owned(),
        );
    }
    if feed.trusted && !matches!(profile, Profile::Taxii | Profile::Csaf) {
        return Err("feed.trusted is for taxii and csaf: the catalogue of CISA is not signed and is never trusted, and Graph always is".to_owned());
    }
    if let Some(keys) = &feed.openpgp_keys {
        if profile != Profile::Csaf {
            return Err("feed.openpgp_keys is for csaf".to_owned());
        }
        gpgv::keyring(app, keys).map_err(|why| format!("feed.openpgp_keys: {why}"))?;
        gpgv::program(app).map_err(|why| format!("feed.openpgp_keys: {why}"))?;
    }
    check_proof(app, profile, feed)
}

fn check_proof(app: &App, profile: Profile, feed: &Feed) -> Result<(), String> {
    let is_graph = matches!(profile, Profile::GraphAlerts | Profile::GraphHealth);
    if is_graph != feed.client.is_some() {
        return Err("feed.client is the client that a token of Graph is asked for with: such a source has one, and no other has".to_owned());
    }
    if feed.user.is_some() != feed.password.is_some() {
        return Err("feed.user and feed.password go together".to_owned());
    }
    let ways = [
        feed.user.is_some(),
        feed.bearer.is_some(),
        feed.client.is_some(),
    ];
    if ways.iter().filter(|is_way| **is_way).count() > 1 {
        return Err(
            "a source proves itself in one way: user and password, or bearer, or client".to_owned(),
        );
    }
    if let Some(client) = &feed.client {
        app.fetch
            .may(&client.token_url)
            .map_err(|error| format!("feed.client.token_url: {error}"))?;
        if [&client.id, &client.scope]
            .iter()
            .any(|text| !(1..=SETTING_MAX).contains(&text.len()))
        {
            return Err("feed.client has an id and a scope".to_owned());
        }
        secret(app, &client.secret)?;
    }
    proof(app, feed).map(drop)
}

/// Returns what a question of this feed proves itself with; a token of a client is asked for elsewhere.
pub(super) fn proof(app: &App, feed: &Feed) -> Result<Proof, String> {
    if let (Some(user), Some(password)) = (&feed.user, &feed.password) {
        if user.contains(':') || user.len() > SETTING_MAX {
            return Err("feed.user is a name without a colon".to_owned());
        }
        return Ok(Proof::Basic(user.clone(), secret(app, password)?));
    }
    match &feed.bearer {
        Some(bearer) => Ok(Proof::Bearer(secret(app, bearer)?)),
        None => Ok(Proof::None),
    }
}

/// Reads a secret from where it is kept.
pub(super) fn secret(app: &App, from: &Credential) -> Result<String, String> {
    let found = app
        .connectors
        .secret(from)
        .map_err(|error| error.to_string())?;
    if found.is_empty() || found.chars().any(char::is_control) {
        return Err("a credential is one line, and not empty".to_owned());
    }
    Ok(found)
}
