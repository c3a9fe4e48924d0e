//! Options of a source that sends a stream of security event tokens, and the settings they make.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};
use tidegate_policy::time::Seconds;

/// What a stream of security event tokens is told by.
#[derive(Debug, Args)]
#[command(next_help_heading = "Streams of security event tokens")]
pub(super) struct StreamOptions {
    /// Who issues the tokens, letter by letter
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// What we are called in the tokens; any of several
    #[arg(long, value_name = "NAME", requires = "issuer")]
    audience: Vec<String>,
    /// Where the issuer publishes its keys; `serve --reach` grants its host
    #[arg(long, value_name = "URL", requires = "issuer")]
    jwks_url: Option<String>,
    /// Or a file with its keys inside the service's folder of credentials
    #[arg(long, value_name = "NAME", requires = "issuer")]
    jwks_file: Option<PathBuf>,
    /// A file with the Authorization that is sent to us, or with which we fetch
    #[arg(long, value_name = "NAME", requires = "issuer")]
    authorization_file: Option<PathBuf>,
    /// A member of a complex subject that the transmitter calls critical
    #[arg(long = "critical-member", value_name = "NAME", requires = "issuer")]
    critical_members: Vec<String>,
    /// Where to ask for a verification event
    #[arg(long, value_name = "URL", requires_all = ["issuer", "verify_stream", "verify_every"])]
    verify_url: Option<String>,
    /// The id of the stream to ask about
    #[arg(long, value_name = "ID", requires = "verify_url")]
    verify_stream: Option<String>,
    /// How often to ask, such as 5m; three without an answer make it blind
    #[arg(long, value_name = "TIME", requires = "verify_url")]
    verify_every: Option<Seconds>,
    /// A file with the Authorization to ask with
    #[arg(long, value_name = "NAME", requires = "verify_url")]
    verify_authorization_file: Option<PathBuf>,
    /// Where tokens are fetched
    #[arg(long, value_name = "URL", requires_all = ["issuer", "poll_every"])]
    poll_url: Option<String>,
    /// How often to fetch, such as 30s; three without an answer make it blind
    #[arg(long, value_name = "TIME", requires = "poll_url")]
    poll_every: Option<Seconds>,
}

impl StreamOptions {
    /// Returns the settings; none when there is no issuer.
    pub(super) fn settings(&self) -> Option<Value> {
        let issuer = self.issuer.as_ref()?;
        let file = |name: &Option<PathBuf>| name.as_ref().map(|name| json!({"file": name}));
        let given = file(&self.authorization_file);
        let verify = self.verify_url.as_ref().map(|url| {
            without_nulls(json!({
                "url": url, "stream_id": self.verify_stream,
                "authorization": file(&self.verify_authorization_file),
                "every_seconds": self.verify_every.map(|every| every.0),
            }))
        });
        let poll = self.poll_url.as_ref().map(|url| {
            without_nulls(json!({
                "url": url, "authorization": given,
                "every_seconds": self.poll_every.map(|every| every.0),
            }))
        });
        let pushed = given.as_ref().filter(|_| poll.is_none());
        Some(without_nulls(json!({
            "issuer": issuer, "audience": self.audience,
            "jwks_url": self.jwks_url, "jwks_file": self.jwks_file,
            "authorization": pushed, "critical_subject_members": self.critical_members,
            "verify": verify, "poll": poll,
        })))
    }
}

/// Leaves out what was not said.
fn without_nulls(settings: Value) -> Value {
    let Value::Object(settings) = settings else {
        return settings;
    };
    let said = settings.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(said.collect::<Map<_, _>>())
}
