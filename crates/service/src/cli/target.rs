//! Commands about where people are moved to: targets and their checks.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::escape;
use super::context::{Context, text_of};
use super::error::{CliError, Exit};
use super::palette::Tone;
use super::table::{Table, facts};

/// What to do with targets.
#[derive(Debug, Subcommand)]
pub enum TargetCommand {
    /// Create a target
    Create(Create),
    /// List the targets
    List,
    /// Show one target
    Show {
        /// Its name or id
        target: String,
    },
    /// Connect to a target and explain what was found
    Check {
        /// Its name or id
        target: String,
    },
}

/// Options of `target create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name
    name: String,
    /// How to talk to it: sandbox or scim
    #[arg(long)]
    connector: String,
    /// The connector's settings as JSON
    #[arg(long, value_name = "JSON", default_value = "{}")]
    config: String,
    /// The connector's settings in a JSON file
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    config_file: Option<PathBuf>,
    /// Say what would happen, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs a target command.
///
/// # Errors
/// As the service answers; a check that finds trouble ends with code 1.
pub async fn run(context: &Context, command: TargetCommand) -> Result<(), CliError> {
    match command {
        TargetCommand::Create(create) => {
            let text = match &create.config_file {
                Some(path) => std::fs::read_to_string(path).map_err(|cause| CliError::File {
                    path: path.clone(),
                    cause,
                })?,
                None => create.config.clone(),
            };
            let config: Value = serde_json::from_str(&text)
                .map_err(|error| CliError::Usage(format!("the settings are no JSON: {error}")))?;
            if create.dry_run {
                context.would(&format!(
                    "would create target `{}` with connector {}; nothing has changed",
                    create.name, create.connector
                ));
                return Ok(());
            }
            let body =
                json!({"name": create.name, "connector": create.connector, "config": config});
            let answer: Value = context.client.post("/v1/targets", &body).await?;
            context.show(&answer, |answer| {
                vec![
                    format!(
                        "target `{}` created ({})",
                        text_of(answer, "/name"),
                        text_of(answer, "/id")
                    ),
                    format!(
                        "check it with: tidegate target check {}",
                        text_of(answer, "/name")
                    ),
                ]
            });
        }
        TargetCommand::List => {
            let items = context.client.list("/v1/targets", 1000).await?;
            context.show(&Value::from(items), |items| {
                let mut table = Table::new(&["name", "connector", "id"]);
                for item in items.as_array().into_iter().flatten() {
                    table.row([
                        text_of(item, "/name"),
                        text_of(item, "/connector"),
                        text_of(item, "/id"),
                    ]);
                }
                table.lines(context.width())
            });
        }
        TargetCommand::Show { target } => {
            let answer: Value = context
                .client
                .get(&format!("/v1/targets/{}", escape(&target)))
                .await?;
            context.show(&answer, facts);
        }
        TargetCommand::Check { target } => check(context, &target).await?,
    }
    Ok(())
}

async fn check(context: &Context, target: &str) -> Result<(), CliError> {
    let path = format!("/v1/targets/{}/check", escape(target));
    let answer: Value = context.client.post(&path, &json!({})).await?;
    context.show(&answer, |answer| {
        let mut lines = Vec::new();
        for item in answer
            .get("items")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let (glyph, tone) = match item.get("ok").and_then(Value::as_bool) {
                Some(true) => ("✔", Tone::Good),
                _ => ("✖", Tone::Bad),
            };
            let name = text_of(item, "/name");
            lines.push(format!(
                "{} {name:<22} {}",
                context.palette.paint(tone, glyph),
                text_of(item, "/sentence")
            ));
        }
        lines
    });
    match answer.get("ok").and_then(Value::as_bool) {
        Some(true) => Ok(()),
        _ => Err(CliError::Silent(Exit::Error)),
    }
}
