//! Commands about sources: who may report by a signature and where they send to, and who is asked.

mod stream;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidegate_policy::time::Seconds;

use self::stream::StreamOptions;
use super::client::escape;
use super::context::{Context, text_of};
use super::error::CliError;
use super::screen;
use super::table::{Table, several};

/// What to do with sources.
#[derive(Debug, Subcommand)]
pub enum SourceCommand {
    /// Create a source; it then sends to the path that is shown, or is asked
    Create(Box<CreateSource>),
    /// Ask a source now that sends nothing by itself, and say what came
    Poll {
        /// Its name
        name: String,
    },
    /// List the sources
    List,
    /// Take a source out of use
    Revoke {
        /// Its name
        name: String,
    },
}

/// A source to create.
#[derive(Debug, Args)]
pub struct CreateSource {
    /// Its name
    name: String,
    /// What it sends and how that is proved: standard_webhooks, github, stripe, cloudevents, security_events or security_events_poll;
    /// or what is asked: taxii, kev, csaf, graph_alerts or graph_health
    #[arg(long)]
    profile: String,
    /// A file with a key inside the service's folder of credentials; more than one while keys are changed
    #[arg(long = "key-file", value_name = "NAME")]
    key_files: Vec<PathBuf>,
    /// A variable of the service with a key, TIDEGATE_CREDENTIAL_…
    #[arg(long = "key-env", value_name = "NAME")]
    key_variables: Vec<String>,
    /// The vendor of what names none
    #[arg(long)]
    vendor: Option<String>,
    /// The products of what names none
    #[arg(long, value_delimiter = ',')]
    products: Vec<String>,
    /// It is blind when nothing was heard of it for so long, such as 1h; nobody notices unless said
    #[arg(long, value_name = "TIME")]
    silent_after: Option<Seconds>,
    /// What is inside its messages: report, cloudevent or ocsf
    #[arg(long)]
    payload: Option<String>,
    /// Take batches of CloudEvents
    #[arg(long)]
    batch: bool,
    /// The most signals a minute, each of a list counted; as many as come unless said
    #[arg(long, value_name = "NUMBER")]
    rate_per_minute: Option<u32>,
    #[command(flatten)]
    stream: StreamOptions,
    #[command(flatten)]
    feed: FeedOptions,
}

impl CreateSource {
    /// Returns the source as the service takes it; what was not said is left out.
    fn body(&self) -> Value {
        let files = self.key_files.iter().map(|file| json!({"file": file}));
        let variables = self.key_variables.iter().map(|name| json!({"env": name}));
        let keys: Vec<Value> = files.chain(variables).collect();
        let mut config = json!({
            "keys": keys, "vendor": self.vendor, "products": self.products,
            "silent_after_seconds": self.silent_after.map(|after| after.0),
            "payload": self.payload, "batch": self.batch, "rate_per_minute": self.rate_per_minute,
            "stream": self.stream.settings(), "feed": self.feed.document(),
        });
        if let Some(settings) = config.as_object_mut() {
            settings.retain(|_, value| !value.is_null() && *value != json!(false));
        }
        json!({"name": self.name, "profile": self.profile, "config": config})
    }
}

/// Where a source is asked that sends nothing by itself.
#[derive(Debug, Args)]
pub struct FeedOptions {
    /// Where it is asked: the API root of TAXII, the catalogue, provider-metadata.json or a ROLIE feed or
    /// a directory of CSAF, the address of graph.microsoft.com
    // Not `--url`: that is where the service answers, and it is sent the token.
    #[arg(long, value_name = "URL")]
    feed: Option<String>,
    /// How often it is asked, such as 5m
    #[arg(long, value_name = "TIME", requires = "feed")]
    every: Option<Seconds>,
    /// The id of a TAXII collection
    #[arg(long, requires = "feed")]
    collection: Option<String>,
    /// From when on the first time, such as 2024-01-01T00:00:00Z
    #[arg(long, value_name = "INSTANT", requires = "feed")]
    since: Option<String>,
    /// The user name that it is asked with
    #[arg(long, requires = "feed")]
    user: Option<String>,
    /// The password, a bearer token or the secret of a client: a file inside the service's folder of credentials
    #[arg(
        long,
        value_name = "NAME",
        requires = "feed",
        conflicts_with = "secret_env"
    )]
    secret_file: Option<PathBuf>,
    /// The same in a variable of the service, TIDEGATE_CREDENTIAL_…
    #[arg(long, value_name = "NAME", requires = "feed")]
    secret_env: Option<String>,
    /// Where a token of Graph is asked for: /TENANT/oauth2/v2.0/token at login.microsoftonline.com
    #[arg(long, requires = "client_id")]
    token_url: Option<String>,
    /// The id of the client that a token of Graph is asked for with
    #[arg(long, requires = "token_url")]
    client_id: Option<String>,
    /// What that token is for
    #[arg(long, requires = "client_id")]
    scope: Option<String>,
    /// Only people we trust write there; else nothing from there ever holds anything
    #[arg(long, requires = "feed")]
    trusted: bool,
    /// The OpenPGP keys of a provider of advisories: a file inside the service's folder of credentials. Every
    /// document must be signed by one of them
    #[arg(long, value_name = "NAME", requires = "feed")]
    openpgp_keys: Option<PathBuf>,
}

impl FeedOptions {
    /// Returns the feed as the API takes it; null without an address.
    fn document(&self) -> Value {
        if self.feed.is_none() {
            return Value::Null;
        }
        let file = self.secret_file.as_ref().map(|file| json!({"file": file}));
        let secret = file.or_else(|| self.secret_env.as_ref().map(|name| json!({"env": name})));
        let mut feed = json!({
            "url": self.feed, "every_seconds": self.every.map_or(DEFAULT_EVERY, |every| every.0),
            "collection": self.collection, "since": self.since, "user": self.user, "trusted": self.trusted,
            "openpgp_keys": self.openpgp_keys,
        });
        let (name, value) = match (&self.client_id, &self.user) {
            (Some(id), _) => {
                let mut client = json!({"token_url": self.token_url, "id": id, "secret": secret});
                if let (Some(scope), Some(client)) = (&self.scope, client.as_object_mut()) {
                    client.insert("scope".to_owned(), json!(scope));
                }
                ("client", client)
            }
            (None, Some(_)) => ("password", json!(secret)),
            (None, None) => ("bearer", json!(secret)),
        };
        if let Some(feed) = feed.as_object_mut() {
            feed.insert(name.to_owned(), value);
        }
        feed
    }
}

/// How often a source is asked unless said, in seconds: waves wait for no feed that is slower than this.
const DEFAULT_EVERY: u32 = 300;

/// Runs a source command.
///
/// # Errors
/// As the service answers.
pub async fn run(context: &Context, command: SourceCommand) -> Result<(), CliError> {
    match command {
        SourceCommand::Create(source) => {
            let body = source.body();
            let answer: Value = context.client.post("/v1/sources", &body).await?;
            context.show(&answer, |answer| {
                let name = text_of(answer, "/name");
                let every = answer.pointer("/config/feed/every_seconds");
                let path = answer.pointer("/path").and_then(Value::as_str);
                vec![match (every.and_then(Value::as_u64), path) {
                    (Some(every), _) => format!("source `{name}` is asked every {every} s"),
                    (None, Some(path)) => format!("source `{name}` sends to {path}"),
                    (None, None) => format!("source `{name}` is asked by this service"),
                }]
            });
        }
        SourceCommand::Poll { name } => {
            let path = format!("/v1/sources/{}/poll", escape(&name));
            let answer: Value = context.client.post(&path, &json!({})).await?;
            context.show(&answer, |answer| polled(&name, answer));
        }
        SourceCommand::List => {
            let answer: Value = context.client.get("/v1/sources").await?;
            context.show(&answer, |answer| {
                let mut table =
                    Table::new(&["name", "profile", "vendor", "heard", "state"]).wrapping();
                for item in answer.as_array().into_iter().flatten() {
                    table.row([
                        text_of(item, "/name"),
                        profile(item),
                        text_of(item, "/config/vendor"),
                        heard(item),
                        state(item),
                    ]);
                }
                table.lines(context.width())
            });
        }
        SourceCommand::Revoke { name } => {
            let path = format!("/v1/sources/{}/revoke", escape(&name));
            let answer: Value = context.client.post(&path, &json!({})).await?;
            context.show(&answer, |answer| {
                vec![format!(
                    "source `{}` is not heard any more",
                    text_of(answer, "/name")
                )]
            });
        }
    }
    Ok(())
}

fn polled(name: &str, answer: &Value) -> Vec<String> {
    let count = |field: &str| answer.pointer(field).and_then(Value::as_u64).unwrap_or(0);
    let mut lines = vec![format!(
        "`{name}` answered: {} new, {} known, {} that report nothing ({})",
        count("/admitted"),
        count("/repeated"),
        count("/ignored"),
        several(count("/requests"), "request")
    )];
    if count("/refused") > 0 {
        let why = text_of(answer, "/refused_why");
        lines.push(format!("{} not taken; the first: {why}", count("/refused")));
    }
    if answer.pointer("/more") == Some(&Value::Bool(true)) {
        lines.push("there is more: it is asked for at once".to_owned());
    }
    lines
}

/// How what it sends is proved; of advisories, which may be signed or not, that too.
fn profile(source: &Value) -> String {
    let profile = text_of(source, "/profile");
    let keys = source.pointer("/config/feed/openpgp_keys");
    match (profile.as_str(), keys) {
        ("csaf", None) => "csaf, hashed only".to_owned(),
        ("csaf", Some(_)) => "csaf, signed".to_owned(),
        _ => profile,
    }
}

fn is_heard(source: &Value) -> bool {
    source.pointer("/heard_at") != source.pointer("/created_at")
}

fn heard(source: &Value) -> String {
    if !is_heard(source) {
        return "never".to_owned();
    }
    let at = source.pointer("/heard_at").and_then(Value::as_str);
    at.and_then(|at| at.parse().ok())
        .map_or_else(String::new, screen::instant)
}

fn state(source: &Value) -> String {
    let is = |field: &str| source.pointer(field).is_some_and(|at| !at.is_null());
    match (is("/revoked_at"), is("/blind_since")) {
        (true, _) => "out of use".to_owned(),
        (false, true) => format!("BLIND: {}", text_of(source, "/blind_why")),
        (false, false) if is("/trouble") => format!("trouble: {}", text_of(source, "/trouble")),
        (false, false) if is("/refused") => format!(
            "heard; {} not taken: {}",
            text_of(source, "/refused/count"),
            text_of(source, "/refused/sentence")
        ),
        (false, false) if !is_heard(source) => "waited for".to_owned(),
        (false, false) => "heard".to_owned(),
    }
}
