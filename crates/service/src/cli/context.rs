//! What every command gets: the client, the form of the answer, and where to write it.

use clap::{Args, ValueEnum};
use serde_json::Value;
use tidegate_orchestrator::ids::Timestamp;

use super::client::Client;
use super::error::CliError;
use super::palette::Palette;
use crate::app::Ids;
use crate::clock::Clock;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Table,
    /// For programs: what the API answered.
    Json,
    /// For spreadsheets and checksums: `exposure` and `members`, which list people, and no other command.
    Csv,
}

/// Options of every command that talks to the service.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Where the service is
    #[arg(
        long,
        global = true,
        env = "TIDEGATE_URL",
        default_value = "http://127.0.0.1:8787"
    )]
    pub url: String,
    /// The API token to use; better given in the environment than on the command line
    #[arg(long, global = true, env = "TIDEGATE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// How to write the answer
    #[arg(long, short = 'o', global = true, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
}

/// Options of every command that changes something.
#[derive(Debug, Clone, Args)]
pub struct Change {
    /// Why; it goes into the audit trail
    #[arg(long)]
    pub reason: Option<String>,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Refuse when the rollout is no longer of this revision
    #[arg(long, value_name = "REV")]
    pub expect_rev: Option<i64>,
}

impl Change {
    /// Returns the reason, which a change must have.
    ///
    /// # Errors
    /// When it is missing.
    pub fn reason(&self) -> Result<&str, CliError> {
        match self.reason.as_deref().map(str::trim) {
            Some(reason) if !reason.is_empty() => Ok(reason),
            _ => Err(CliError::Usage(
                "say why with --reason \"…\": it is what the next person will read in the audit trail".to_owned(),
            )),
        }
    }
}

/// What a running command has at hand.
#[derive(Debug, Clone)]
pub struct Context {
    /// Talks to the service.
    pub client: Client,
    /// The form of the answer.
    pub output: OutputFormat,
    /// The colours.
    pub palette: Palette,
    /// Reads the time.
    pub clock: Clock,
}

impl Context {
    /// Prepares a context; nothing is sent yet.
    ///
    /// # Errors
    /// When the system's TLS set-up is unusable.
    pub fn new(connection: &Connection) -> Result<Self, CliError> {
        let client = Client::new(&connection.url, connection.token.clone(), Ids::system())?;
        Ok(Self {
            client: match connection.output {
                OutputFormat::Table => client,
                OutputFormat::Json | OutputFormat::Csv => client.untamed(),
            },
            output: connection.output,
            palette: Palette::detect(),
            clock: Clock::system(),
        })
    }

    /// Returns the time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns how many columns a table may take.
    #[must_use]
    pub fn width(&self) -> usize {
        let terminal = console::Term::stdout();
        match terminal.size_checked() {
            Some((_, columns)) => usize::from(columns).max(40),
            // In a pipe nobody knows; whoever does says so the usual way.
            None => {
                let said = std::env::var("COLUMNS").ok();
                let said = said.and_then(|text| text.parse::<usize>().ok());
                said.map_or(100, |columns| columns.max(40))
            }
        }
    }

    /// Says what a command would do, in place of doing it.
    pub fn would(&self, sentence: &str) {
        let answer = serde_json::json!({"dry_run": true, "would": sentence});
        self.show(&answer, |_| vec![sentence.to_owned()]);
    }

    /// Writes an answer: as JSON, or as the lines that `text` makes of it.
    pub fn show(&self, answer: &Value, text: impl FnOnce(&Value) -> Vec<String>) {
        match self.output {
            OutputFormat::Json => println!("{answer:#}"),
            OutputFormat::Table | OutputFormat::Csv => {
                for line in text(answer) {
                    println!("{line}");
                }
            }
        }
    }
}

/// Reads a text out of an answer; what is missing reads as a dash.
#[must_use]
pub fn text_of(answer: &Value, pointer: &str) -> String {
    match answer.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(truth)) => truth.to_string(),
        _ => "–".to_owned(),
    }
}

/// Reads an instant out of an answer and writes it to the minute, as tables do.
#[must_use]
pub fn minute_of(answer: &Value, pointer: &str) -> String {
    written_of(answer, pointer, "%Y-%m-%d %H:%MZ")
}

/// The same to the second, where many things happen within a minute.
#[must_use]
pub fn second_of(answer: &Value, pointer: &str) -> String {
    written_of(answer, pointer, "%Y-%m-%d %H:%M:%SZ")
}

fn written_of(answer: &Value, pointer: &str, form: &str) -> String {
    let text = text_of(answer, pointer);
    match text.parse::<Timestamp>() {
        Ok(at) => at.format(form).to_string(),
        Err(_) => text,
    }
}

/// Reads a count out of an answer; what is missing counts nobody.
#[must_use]
pub fn count_of(answer: &Value, pointer: &str) -> u64 {
    answer.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}
