//! Taking people back: `revert`, and the steps of one until it runs.

use clap::Args;
use serde_json::{Value, json};

use super::client::escape;
use super::condition;
use super::context::{Context, count_of, text_of};
use super::error::CliError;
use super::table::{Table, grouped};

/// Whose people are taken back.
#[derive(Debug, Args)]
pub struct Revert {
    /// The name or id of the rollout that moved them
    rollout: String,
    /// The waves, by number: 3 or 1,2
    #[arg(long, value_delimiter = ',', required_unless_present = "all")]
    waves: Vec<u32>,
    /// Every wave
    #[arg(long, conflicts_with = "waves")]
    all: bool,
    /// Only those for whom this condition holds, ATTRIBUTE=VALUE, or as in a spec, in JSON
    #[arg(long = "where", value_name = "CONDITION")]
    matching: Option<String>,
    /// So many a second; as the rollout that moved them when missing
    #[arg(long, value_name = "PEOPLE")]
    per_second: Option<u32>,
    /// The gate of each wave, as JSON; at most 1 % failures when missing
    #[arg(long, value_name = "GATE")]
    gate: Option<String>,
    /// The ramp of each wave, as JSON; as in the rollout that moved them when missing
    #[arg(long, value_name = "RAMP")]
    ramp: Option<String>,
    /// Why; it goes into the audit trail
    #[arg(long)]
    reason: String,
    /// Show who would be taken back, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// A yes to exactly one revert, or its start.
#[derive(Debug, Args)]
pub struct Yes {
    /// The name or id of the revert
    revert: String,
    /// Its digest, as `revert-status` shows it
    #[arg(long)]
    digest: String,
    /// Why; it goes into the audit trail
    #[arg(long)]
    reason: String,
}

fn parsed(name: &str, text: Option<&String>) -> Result<Option<Value>, CliError> {
    let parse = |text: &String| {
        serde_json::from_str(text)
            .map_err(|error| CliError::Usage(format!("--{name} is no JSON: {error}")))
    };
    text.map(parse).transpose()
}

/// Asks to take people back, or shows who they would be.
///
/// # Errors
/// As the service answers.
pub async fn revert(context: &Context, revert: &Revert) -> Result<(), CliError> {
    let mut body = json!({"reason": revert.reason, "dry_run": revert.dry_run});
    let matching = revert.matching.as_deref();
    let matching = matching.map(|text| condition::parsed("where", text));
    let matching = matching.transpose()?;
    let optional = [
        ("where", matching),
        ("gate", parsed("gate", revert.gate.as_ref())?),
        ("ramp", parsed("ramp", revert.ramp.as_ref())?),
        (
            "rate",
            revert
                .per_second
                .map(|people| json!({"per_second": people})),
        ),
    ];
    if let Some(fields) = body.as_object_mut() {
        let waves = if revert.all {
            json!("all")
        } else {
            json!(revert.waves)
        };
        fields.insert("waves".to_owned(), waves);
        for (name, value) in optional {
            fields.extend(value.map(|value| (name.to_owned(), value)));
        }
    }
    let path = format!("/v1/rollouts/{}/revert", escape(&revert.rollout));
    let view: Value = context.client.post(&path, &body).await?;
    let width = context.width();
    context.show(&view, |view| lines(view, width));
    Ok(())
}

/// Shows where a revert stands.
///
/// # Errors
/// As the service answers.
pub async fn status(context: &Context, revert: &str) -> Result<(), CliError> {
    let path = format!("/v1/rollouts/{}/revert-approvals", escape(revert));
    let view: Value = context.client.get(&path).await?;
    let width = context.width();
    context.show(&view, |view| lines(view, width));
    Ok(())
}

/// Says yes to a revert.
///
/// # Errors
/// As the service answers.
pub async fn approve(context: &Context, yes: &Yes) -> Result<(), CliError> {
    let path = format!("/v1/rollouts/{}/revert-approvals", escape(&yes.revert));
    let body = json!({"digest": yes.digest, "reason": yes.reason});
    let view: Value = context.client.post(&path, &body).await?;
    context.show(&view, |view| vec![text_of(view, "/sentence")]);
    Ok(())
}

/// Starts a revert that enough people have said yes to.
///
/// # Errors
/// As the service answers.
pub async fn start(context: &Context, yes: &Yes) -> Result<(), CliError> {
    let path = format!("/v1/rollouts/{}/start", escape(&yes.revert));
    let body = json!({"digest": yes.digest, "reason": yes.reason});
    let view: Value = context.client.post(&path, &body).await?;
    context.show(&view, |view| vec![text_of(view, "/takes_back/sentence")]);
    Ok(())
}

/// The preview: a line for each wave, who is not taken back and why, and what comes next.
fn lines(view: &Value, width: usize) -> Vec<String> {
    let mut table = Table::new(&["", "wave", "people", "not taken back"]);
    let waves = view.pointer("/waves").and_then(Value::as_array);
    for wave in waves.into_iter().flatten() {
        let not = wave.pointer("/not_taken_back").and_then(Value::as_array);
        let not: Vec<String> = not
            .into_iter()
            .flatten()
            .map(|one| text_of(one, "/sentence"))
            .collect();
        table.row(vec![
            text_of(wave, "/number"),
            format!("{} {}", text_of(wave, "/origin"), text_of(wave, "/name")),
            grouped(count_of(wave, "/people")),
            not.join("; "),
        ]);
    }
    let mut lines = vec![format!(
        "{} of `{}` are taken back, {}",
        grouped(count_of(view, "/people")),
        text_of(view, "/original"),
        match view.pointer("/rollout").and_then(Value::as_str) {
            Some(name) => format!("by `{name}`"),
            None => "in this preview".to_owned(),
        }
    )];
    lines.extend(table.lines(width));
    lines.push(format!("digest {}", text_of(view, "/digest")));
    let holds = view.pointer("/holds").and_then(Value::as_array);
    for hold in holds.into_iter().flatten().filter_map(Value::as_str) {
        lines.push(format!(
            "goes on under halt {hold}, once it is approved; any other hold stops it"
        ));
    }
    lines.push(text_of(view, "/sentence"));
    lines
}
