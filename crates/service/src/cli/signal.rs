//! Commands about signals: send one, list what was reported and what rules made of it.

use std::fmt::Display;
use std::io::Read;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidegate_policy::signal::{Lifecycle, Severity, SignalKind};

use super::client::escape;
use super::context::{Context, minute_of, text_of};
use super::error::CliError;
use super::table::{Table, wrap};

/// What to do with signals.
#[derive(Debug, Subcommand)]
pub enum SignalCommand {
    /// Send a signal: a report as JSON, or its fields
    Send(Box<SendSignal>),
    /// List the latest signals, and what rules made of each
    List {
        /// How many
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
}

/// A signal to send.
#[derive(Debug, Args)]
pub struct SendSignal {
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
    /// The products that it is about; all of the vendor's unless said
    #[arg(long, conflicts_with = "file", value_delimiter = ',')]
    products: Vec<String>,
    /// The user that it is about, by directory id; everybody unless said
    #[arg(long, conflicts_with = "file")]
    user: Option<String>,
    /// Where it stands: opened, updated, closed, withdrawn, false_positive or test
    #[arg(long, conflicts_with = "file")]
    lifecycle: Option<String>,
    /// What it says, in one line
    #[arg(long, conflicts_with = "file")]
    title: Option<String>,
    /// Your own id of it: sent again, it counts once
    #[arg(long, conflicts_with = "file")]
    id: Option<String>,
}

/// Runs a signal command.
///
/// # Errors
/// As the service answers, and when the file cannot be read.
pub async fn run(context: &Context, command: SignalCommand) -> Result<(), CliError> {
    match command {
        SignalCommand::Send(send) => {
            let SendSignal {
                file,
                format,
                kind,
                severity,
                vendor,
                products,
                user,
                lifecycle,
                title,
                id,
            } = *send;
            let report = match file {
                Some(path) => read(path)?,
                None if kind.is_some() => {
                    known::<SignalKind>("kind", kind.as_ref())?;
                    known::<Severity>("severity", severity.as_ref())?;
                    known::<Lifecycle>("lifecycle", lifecycle.as_ref())?;
                    json!({
                        "kind": kind, "severity": severity, "vendor": vendor, "products": products, "title": title,
                        "subject": {"user": user}, "lifecycle": lifecycle, "id": id,
                    })
                }
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
            context.show(&answer, |answer| taken(answer, context.width()));
        }
        SignalCommand::List { limit } => {
            let items = context.client.list("/v1/signals", limit).await?;
            context.show(&Value::from(items), |items| {
                let mut table = Table::new(&[
                    "no.", "received", "source", "kind", "severity", "vendor", "outcome", "title",
                ])
                .wrapping();
                for item in items.as_array().into_iter().flatten() {
                    table.row([
                        item.get("seq").map_or_else(String::new, Value::to_string),
                        minute_of(item, "/signal/received_at"),
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

/// What became of a report, and which of its words are not known.
fn taken(answer: &Value, width: usize) -> Vec<String> {
    let admitted = answer.get("admitted").and_then(Value::as_u64);
    let mut lines = vec![match admitted {
        Some(1..) => format!("admitted as {}", text_of(answer, "/ids/0")),
        _ => "known already: it counts once".to_owned(),
    }];
    let warnings = answer.get("warnings").and_then(Value::as_array);
    for warning in warnings.into_iter().flatten() {
        let sentence = format!("warning: {}", text_of(warning, "/sentence"));
        lines.extend(wrap(&sentence, width));
    }
    lines
}

/// Refuses a word that nobody knows: to the service it would be `other` or `unknown`, which is for programs that say more
/// than we know, and not for a slip of the finger.
fn known<T: FromStr<Err: Display>>(option: &str, word: Option<&String>) -> Result<(), CliError> {
    let Some(word) = word else { return Ok(()) };
    let read: Result<T, _> = word.parse();
    read.map(drop)
        .map_err(|error| CliError::Usage(format!("--{option}: {error}")))
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
