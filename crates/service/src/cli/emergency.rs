//! The emergency go-on: ask, confirm, end, review, list.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::escape;
use super::context::{Context, count_of, text_of};
use super::error::CliError;
use super::table::several;

/// What to do about emergencies.
#[derive(Debug, Subcommand)]
pub enum EmergencyCommand {
    /// Ask that named waves go on although a halt stands; nothing goes on yet
    Ask(Ask),
    /// Confirm it, as a custodian of the other group: its waves go on from now
    Confirm(Step),
    /// End it before its time, or take the question back; one custodian is enough
    End(Step),
    /// Look back at it, as somebody who was none of its custodians
    Review(Step),
    /// List the emergencies of a rollout
    List {
        /// The rollout's name or id
        rollout: String,
    },
    /// Show one emergency
    Show {
        /// Its id
        emergency: String,
    },
}

/// What a custodian asks for.
#[derive(Debug, Args)]
pub struct Ask {
    /// The rollout's name or id
    rollout: String,
    /// The waves that must go on, by number: 3 or 3,4
    #[arg(long, value_delimiter = ',', required = true)]
    waves: Vec<u32>,
    /// For how many minutes from the confirmation, up to 240
    #[arg(long)]
    minutes: u32,
    /// The number of the incident
    #[arg(long)]
    incident: String,
    /// Why; it goes into the audit trail
    #[arg(long)]
    reason: String,
}

/// A step, and why.
#[derive(Debug, Args)]
pub struct Step {
    /// The emergency's id
    emergency: String,
    /// Why, or what was found; it goes into the audit trail
    #[arg(long)]
    reason: String,
}

/// Runs a command about emergencies.
///
/// # Errors
/// As the service answers.
pub async fn run(context: &Context, command: EmergencyCommand) -> Result<(), CliError> {
    let of = |rollout: &str| format!("/v1/rollouts/{}/emergencies", escape(rollout));
    let view: Value = match command {
        EmergencyCommand::Ask(ask) => {
            let body = json!({
                "waves": ask.waves, "minutes": ask.minutes, "incident": ask.incident, "reason": ask.reason,
            });
            context.client.post(&of(&ask.rollout), &body).await?
        }
        EmergencyCommand::Confirm(step) => said(context, "confirm", &step).await?,
        EmergencyCommand::End(step) => said(context, "end", &step).await?,
        EmergencyCommand::Review(step) => said(context, "review", &step).await?,
        EmergencyCommand::List { rollout } => context.client.get(&of(&rollout)).await?,
        EmergencyCommand::Show { emergency } => {
            let path = format!("/v1/emergencies/{}", escape(&emergency));
            context.client.get(&path).await?
        }
    };
    context.show(&view, |view| match view.as_array() {
        Some(all) if all.is_empty() => vec!["there has been no emergency".to_owned()],
        Some(all) => all.iter().flat_map(lines).collect(),
        None => lines(view),
    });
    Ok(())
}

async fn said(context: &Context, verb: &str, step: &Step) -> Result<Value, CliError> {
    let path = format!("/v1/emergencies/{}/{verb}", escape(&step.emergency));
    let body = json!({"reason": step.reason});
    context.client.post(&path, &body).await
}

/// An emergency in a few lines; the id is whole, because the next custodian needs it.
fn lines(view: &Value) -> Vec<String> {
    let waves: Vec<String> = list(view, "/waves").map(ToString::to_string).collect();
    let mut lines = vec![
        format!("{}  {}", text_of(view, "/id"), text_of(view, "/standing")),
        format!(
            "  {}, waves {}, {}, incident {}",
            text_of(view, "/rollout"),
            waves.join(", "),
            several(count_of(view, "/minutes"), "minute"),
            text_of(view, "/incident")
        ),
        format!("  {}", text_of(view, "/reason")),
        format!("  {}", text_of(view, "/sentence")),
    ];
    for item in list(view, "/leaps_over") {
        let sentence = item.as_str().unwrap_or_default();
        lines.push(format!("  leaps over: {sentence}"));
    }
    for (what, at) in [("ended", "/ended"), ("review", "/review")] {
        if let Some(word) = view.pointer(at).filter(|word| !word.is_null()) {
            let (by, note) = (text_of(word, "/by"), text_of(word, "/note"));
            lines.push(format!("  {what} by {by}: {note}"));
        }
    }
    lines
}

fn list<'a>(view: &'a Value, at: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    let items = view.pointer(at).and_then(Value::as_array);
    items.into_iter().flatten()
}
