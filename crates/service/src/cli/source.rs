//! Commands about sources: who may report by a signature, and where they send to.

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
use super::table::Table;

/// What to do with sources.
#[derive(Debug, Subcommand)]
pub enum SourceCommand {
    /// Create a source; it then sends to the path that is shown, or is asked
    Create(Box<CreateSource>),
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
    /// What it sends and how that is proved: standard_webhooks, github, stripe, cloudevents, security_events or security_events_poll
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
    /// The most messages a minute; as many as come unless said
    #[arg(long, value_name = "NUMBER")]
    rate_per_minute: Option<u32>,
    #[command(flatten)]
    stream: StreamOptions,
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
            "stream": self.stream.settings(),
        });
        if let Some(settings) = config.as_object_mut() {
            settings.retain(|_, value| !value.is_null() && *value != json!(false));
        }
        json!({"name": self.name, "profile": self.profile, "config": config})
    }
}

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
                vec![match answer.pointer("/path").and_then(Value::as_str) {
                    Some(path) => format!("source `{name}` sends to {path}"),
                    None => format!("source `{name}` is asked by this service"),
                }]
            });
        }
        SourceCommand::List => {
            let answer: Value = context.client.get("/v1/sources").await?;
            context.show(&answer, |answer| {
                let mut table = Table::new(&["name", "profile", "vendor", "heard", "state"]);
                for item in answer.as_array().into_iter().flatten() {
                    table.row([
                        text_of(item, "/name"),
                        text_of(item, "/profile"),
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

fn heard(source: &Value) -> String {
    let at = source.pointer("/heard_at").and_then(Value::as_str);
    at.and_then(|at| at.parse().ok())
        .map_or_else(String::new, screen::instant)
}

fn state(source: &Value) -> String {
    let is = |field: &str| source.pointer(field).is_some_and(|at| !at.is_null());
    match (is("/revoked_at"), is("/blind_since")) {
        (true, _) => "out of use".to_owned(),
        (false, true) => format!("BLIND: {}", text_of(source, "/blind_why")),
        (false, false) => "heard".to_owned(),
    }
}
