//! Commands about signals: send one, list what was reported and what rules made of it.

use std::io::Read;
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::escape;
use super::context::{Context, text_of};
use super::error::CliError;
use super::table::Table;

/// What to do with signals.
#[derive(Debug, Subcommand)]
pub enum SignalCommand {
    /// Send a signal: a report as JSON, or its fields
    Send {
        /// A file with the report; `-` reads it from standard input
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// How the file is written: report, ocsf or cloudevent
        #[arg(long, requires = "file")]
        format: Option<String>,
        /// What it reports, such as vendor_breach
        #[arg(long, conflicts_with = "file")]
        kind: Option<String>,
        /// How bad it is: info, low, medium, high, critical
        #[arg(long, conflicts_with = "file")]
        severity: Option<String>,
        /// The vendor that it is about
        #[arg(long, conflicts_with = "file")]
        vendor: Option<String>,
        /// What it says, in one line
        #[arg(long, conflicts_with = "file")]
        title: Option<String>,
        /// Your own id of it: sent again, it counts once
        #[arg(long, conflicts_with = "file")]
        id: Option<String>,
    },
    /// List the latest signals, and what rules made of each
    List {
        /// How many
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
}

/// Runs a signal command.
///
/// # Errors
/// As the service answers, and when the file cannot be read.
pub async fn run(context: &Context, command: SignalCommand) -> Result<(), CliError> {
    match command {
        SignalCommand::Send {
            file,
            format,
            kind,
            severity,
            vendor,
            title,
            id,
        } => {
            let report = match file {
                Some(path) => read(path)?,
                None if kind.is_some() => json!({
                    "kind": kind, "severity": severity, "vendor": vendor, "title": title, "id": id,
                }),
                None => {
                    let sentence = "name a file with the report, or say at least --kind, such as --kind vendor_breach";
                    return Err(CliError::Usage(sentence.to_owned()));
                }
            };
            let path = match format {
                Some(format) => format!("/v1/signals?format={}", escape(&format)),
                None => "/v1/signals".to_owned(),
            };
            let answer: Value = context.client.post(&path, &report).await?;
            context.show(&answer, |answer| {
                let admitted = answer.get("admitted").and_then(Value::as_u64);
                vec![match admitted {
                    Some(1..) => format!("admitted as {}", text_of(answer, "/ids/0")),
                    _ => "known already: it counts once".to_owned(),
                }]
            });
        }
        SignalCommand::List { limit } => {
            let items = context.client.list("/v1/signals", limit).await?;
            context.show(&Value::from(items), |items| {
                let mut table = Table::new(&[
                    "received", "source", "kind", "severity", "vendor", "outcome", "title",
                ]);
                for item in items.as_array().into_iter().flatten() {
                    table.row([
                        text_of(item, "/signal/received_at"),
                        text_of(item, "/signal/source"),
                        text_of(item, "/signal/kind"),
                        text_of(item, "/signal/severity"),
                        text_of(item, "/signal/vendor"),
                        text_of(item, "/outcome"),
                        text_of(item, "/signal/title"),
                    ]);
                }
                table.lines(context.width())
            });
        }
    }
    Ok(())
}

fn read(path: PathBuf) -> Result<Value, CliError> {
    let mut text = String::new();
    let done = if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map(|_| ())
    } else {
        std::fs::read_to_string(&path).map(|found| text = found)
    };
    done.map_err(|cause| CliError::File { path, cause })?;
    serde_json::from_str(&text)
        .map_err(|error| CliError::Usage(format!("the report is no JSON: {error}")))
}
