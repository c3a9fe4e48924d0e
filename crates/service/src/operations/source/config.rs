//! Settings of a source: what may stand in them, and what must.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidegate_policy::time::Seconds;

use super::feed::{self, Feed};
use super::{Profile, receive, stream};
use crate::app::App;
use crate::connector::Credential;
use crate::operations::OperationError;
use crate::signal::ask;

/// The most keys of one source: an old and a new one, and some to spare.
const KEYS_MAX: usize = 8;
/// The most audiences that are us.
const AUDIENCES_MAX: usize = 16;
/// The longest time between two questions, in seconds: a day.
const EVERY_MAX: u32 = 86_400;
/// The most signals a minute that may be allowed, which is what can be counted in whole milliseconds.
const RATE_MAX: u32 = 60_000;
/// After so many questions without an answer a source is blind.
const UNANSWERED_MAX: u32 = 3;

/// What is inside a signed or authenticated message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PayloadKind {
    /// A report in our own fields.
    #[default]
    Report,
    /// A CloudEvent in structured mode.
    Cloudevent,
    /// A finding of OCSF, or a list of them.
    Ocsf,
}

/// A source to create, and what is kept of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Where its keys are kept: `{"file": "name inside the folder of credentials"}` or `{"env": "TIDEGATE_CREDENTIAL_NAME"}`.
    /// Any of them is enough, so that keys can be changed without a gap. Streams have none: their issuer has.
    #[schema(value_type = Vec<Object>)]
    #[serde(default)]
    pub keys: Vec<Credential>,
    /// The vendor of what names none.
    #[serde(default)]
    pub vendor: Option<String>,
    /// The products of what names none.
    #[serde(default)]
    pub products: BTreeSet<String>,
    /// It is blind when nothing was heard of it for so many seconds; without it nobody notices its silence,
    /// unless we ask it something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_after_seconds: Option<u32>,
    /// What is inside a message of standard_webhooks (a report unless said) or cloudevents (what the event says).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<PayloadKind>,
    /// Whether batches of CloudEvents were asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub batch: bool,
    /// The most signals a minute in each process, and at once; each of a list counts. As many as come unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_minute: Option<u32>,
    /// The stream of security event tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamConfig>,
    /// Where and how often it is asked, when it sends nothing by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<Feed>,
}

/// A stream of security event tokens (Shared Signals).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamConfig {
    /// Who issues its tokens, letter by letter.
    pub issuer: String,
    /// What we are called in it; a token names one of these.
    pub audience: Vec<String>,
    /// Where the issuer publishes its keys; its host must be granted with `--reach`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// Or the file with its keys, inside the folder of credentials; read anew for every token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub jwks_file: Option<PathBuf>,
    /// The `Authorization` that the transmitter was told to send, by reference; none is asked for unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub authorization: Option<Credential>,
    /// Members of a complex subject that the transmitter calls critical: an event with one that is not known here is discarded.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub critical_subject_members: BTreeSet<String>,
    /// How it is asked whether it is still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifyConfig>,
    /// How tokens are fetched, of security_events_poll.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<PollConfig>,
}

/// How a transmitter is asked for a verification event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyConfig {
    /// Its verification endpoint.
    pub url: String,
    /// The id of the stream there.
    pub stream_id: String,
    /// The `Authorization` to send, by reference, such as a file that begins with `Bearer `.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub authorization: Option<Credential>,
    /// How often; three without an answer make the source blind.
    pub every_seconds: u32,
}

/// How tokens are fetched (RFC 8936).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PollConfig {
    /// The endpoint of the stream.
    pub url: String,
    /// The `Authorization` to send, by reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub authorization: Option<Credential>,
    /// How often; three without an answer make the source blind.
    pub every_seconds: u32,
}

impl SourceConfig {
    /// Returns after how long without a word it is blind; `None`: nobody would notice.
    #[must_use]
    pub fn silent_after(&self) -> Option<Seconds> {
        let stream = self.stream.as_ref().and_then(StreamConfig::every_seconds);
        let asked_every = stream.or(self.feed.as_ref().map(|feed| feed.every_seconds));
        let unanswered = asked_every.map(|every| every.saturating_mul(UNANSWERED_MAX));
        self.silent_after_seconds.or(unanswered).map(Seconds)
    }
}

impl StreamConfig {
    /// Returns how often it is asked something.
    #[must_use]
    pub fn every_seconds(&self) -> Option<u32> {
        let verify = self.verify.as_ref().map(|verify| verify.every_seconds);
        verify.or(self.poll.as_ref().map(|poll| poll.every_seconds))
    }
}

/// Checks the settings of a source to create. Its keys must be there, and be keys.
pub(super) fn check(
    app: &App,
    profile: Profile,
    config: &SourceConfig,
) -> Result<(), OperationError> {
    if profile.is_asked() {
        return check_limits(config)
            .and_then(|()| feed::check(app, profile, config))
            .map_err(|sentence| OperationError::invalid("config_invalid", sentence));
    }
    check_form(profile, config)
        .and_then(|()| check_limits(config))
        .and_then(|()| match &config.stream {
            Some(stream) => check_stream(app, profile, stream),
            None => Ok(()),
        })
        .and_then(|()| receive::check_keys(app, profile, config))
        .map_err(|sentence| OperationError::invalid("config_invalid", sentence))
}

fn check_form(profile: Profile, config: &SourceConfig) -> Result<(), String> {
    let said = |sentence: &str| Err(sentence.to_owned());
    if config.feed.is_some() {
        return said("a source of this profile sends by itself: it has no `feed`");
    }
    if profile.is_stream() != config.stream.is_some() {
        return said(
            "`stream` is what security_events and security_events_poll have, and only they",
        );
    }
    if profile.is_stream() && !config.keys.is_empty() {
        return said("a stream has no keys of its own: its issuer has, at jwks_url or jwks_file");
    }
    if !profile.is_stream() && (config.keys.is_empty() || config.keys.len() > KEYS_MAX) {
        return Err(format!("a source has 1 to {KEYS_MAX} keys"));
    }
    match (profile, config.payload) {
        (_, None) | (Profile::StandardWebhooks, Some(_)) => {}
        (Profile::Cloudevents, Some(PayloadKind::Report | PayloadKind::Ocsf)) => {}
        (Profile::Cloudevents, Some(PayloadKind::Cloudevent)) => {
            return said("inside a CloudEvent is a report or a finding of OCSF");
        }
        (
            Profile::Github
            | Profile::Stripe
            | Profile::SecurityEvents
            | Profile::SecurityEventsPoll
            | Profile::Taxii
            | Profile::Kev
            | Profile::Csaf
            | Profile::GraphAlerts
            | Profile::GraphHealth,
            Some(_),
        ) => return said("`payload` is for standard_webhooks and cloudevents"),
    }
    if config.batch && profile != Profile::Cloudevents {
        return said("`batch` is for cloudevents");
    }
    if config.vendor.is_none() && never_names_a_vendor(profile, config) {
        return said("what this profile sends never names a vendor: say which one it is about");
    }
    Ok(())
}

fn check_limits(config: &SourceConfig) -> Result<(), String> {
    if config.silent_after_seconds == Some(0) {
        let sentence = "`silent_after_seconds` is how long nothing may be heard: at least 1";
        return Err(sentence.to_owned());
    }
    let rate = config.rate_per_minute;
    if rate.is_some_and(|rate| !(1..=RATE_MAX).contains(&rate)) {
        return Err(format!("`rate_per_minute` is 1 to {RATE_MAX}"));
    }
    Ok(())
}

fn never_names_a_vendor(profile: Profile, config: &SourceConfig) -> bool {
    match profile {
        Profile::Github
        | Profile::Stripe
        | Profile::SecurityEvents
        | Profile::SecurityEventsPoll => true,
        Profile::StandardWebhooks | Profile::Cloudevents => {
            config.payload == Some(PayloadKind::Ocsf)
        }
        Profile::Taxii
        | Profile::Kev
        | Profile::Csaf
        | Profile::GraphAlerts
        | Profile::GraphHealth => false,
    }
}

fn check_stream(app: &App, profile: Profile, config: &StreamConfig) -> Result<(), String> {
    if config.issuer.trim().is_empty() {
        return Err("`issuer` is who issues the tokens".to_owned());
    }
    let is_named = |name: &String| !name.trim().is_empty();
    if config.audience.is_empty()
        || config.audience.len() > AUDIENCES_MAX
        || !config.audience.iter().all(is_named)
    {
        return Err(format!(
            "`audience` is 1 to {AUDIENCES_MAX} names that we are called in the tokens"
        ));
    }
    match (&config.jwks_url, &config.jwks_file) {
        (Some(url), None) => ask::check(app, url).map_err(|why| format!("`jwks_url`: {why}"))?,
        (None, Some(_)) => {
            stream::key_file(app, config)?;
            return check_questions(app, profile, config);
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err("the keys of the issuer are at `jwks_url` or in `jwks_file`".to_owned());
        }
    };
    check_questions(app, profile, config)
}

/// Checks what the stream is asked.
fn check_questions(app: &App, profile: Profile, stream: &StreamConfig) -> Result<(), String> {
    if (profile == Profile::SecurityEventsPoll) != stream.poll.is_some() {
        return Err("`poll` is what security_events_poll has, and only it".to_owned());
    }
    if profile == Profile::SecurityEventsPoll
        && (stream.verify.is_some() || stream.authorization.is_some())
    {
        return Err("`verify` and `authorization` are for security_events".to_owned());
    }
    let verify = stream.verify.as_ref();
    let verify = verify.map(|one| (&one.url, &one.authorization, one.every_seconds));
    let poll = stream.poll.as_ref();
    let poll = poll.map(|one| (&one.url, &one.authorization, one.every_seconds));
    for (url, authorization, every) in verify.into_iter().chain(poll) {
        ask::check(app, url).map_err(|why| format!("`url`: {why}"))?;
        if !(1..=EVERY_MAX).contains(&every) {
            return Err(format!("`every_seconds` is 1 to {EVERY_MAX}"));
        }
        secret(app, authorization.as_ref())?;
    }
    secret(app, stream.authorization.as_ref()).map(drop)
}

/// Reads a secret that may be named.
pub(super) fn secret(app: &App, from: Option<&Credential>) -> Result<Option<String>, String> {
    from.map(|from| app.connectors.secret(from))
        .transpose()
        .map_err(|error| error.to_string())
}
