//! Commands about sources: who may report by a signature, and where they send to.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};
use tidegate_policy::time::Seconds;

use super::client::escape;
use super::context::{Context, text_of};
use super::error::CliError;
use super::screen;
use super::table::Table;

/// What to do with sources.
#[derive(Debug, Subcommand)]
pub enum SourceCommand {
    /// Create a source; it then sends to the path that is shown
    Create {
        /// Its name
        name: String,
        /// How what it sends is signed: standard_webhooks, github or stripe
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
    },
    /// List the sources
    List,
    /// Take a source out of use
    Revoke {
        /// Its name
        name: String,
    },
}

/// Runs a source command.
///
/// # Errors
/// As the service answers.
pub async fn run(context: &Context, command: SourceCommand) -> Result<(), CliError> {
    match command {
        SourceCommand::Create {
            name,
            profile,
            key_files,
            key_variables,
            vendor,
            products,
            silent_after,
        } => {
            let files = key_files.iter().map(|file| json!({"file": file}));
            let variables = key_variables.iter().map(|name| json!({"env": name}));
            let keys: Vec<Value> = files.chain(variables).collect();
            let config = json!({
                "keys": keys, "vendor": vendor, "products": products,
                "silent_after_seconds": silent_after.map(|after| after.0),
            });
            let body = json!({"name": name, "profile": profile, "config": config});
            let answer: Value = context.client.post("/v1/sources", &body).await?;
            context.show(&answer, |answer| {
                vec![format!(
                    "source `{}` sends to {}",
                    text_of(answer, "/name"),
                    text_of(answer, "/path")
                )]
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
