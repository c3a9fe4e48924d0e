//! Commands about holds: which are in force, and letting one go.

use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::client::escape;
use super::context::{Change, Context, text_of};
use super::error::CliError;
use super::table::facts;

/// How often somebody who waits for silence asks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longer than the lease of any worker: a request takes five minutes at most, a lease twice that.
const WAIT_MS_MAX: u64 = 15 * 60_000;

/// What to do with holds.
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// List the holds in force
    List {
        /// Also those that were released
        #[arg(long)]
        all: bool,
    },
    /// Show one hold
    Show {
        /// Its id
        hold: String,
    },
}

/// Options of `release`.
#[derive(Debug, Args)]
pub struct Release {
    /// The hold's id
    hold: String,
    /// The digest that was approved; a halt needs it
    #[arg(long)]
    digest: Option<String>,
    #[command(flatten)]
    change: Change,
}

/// Runs a hold command.
///
/// # Errors
/// As the service answers.
pub async fn run(context: &Context, command: HoldCommand) -> Result<(), CliError> {
    match command {
        HoldCommand::List { all } => {
            let path = if all {
                "/v1/holds"
            } else {
                "/v1/holds?in_force=true"
            };
            let items = context.client.list(path, 1000).await?;
            context.show(&Value::from(items), |items| {
                let holds = items.as_array().map(Vec::as_slice).unwrap_or_default();
                if holds.is_empty() {
                    return vec!["nothing is held".to_owned()];
                }
                holds.iter().flat_map(hold_lines).collect()
            });
        }
        HoldCommand::Show { hold } => {
            let answer: Value = context
                .client
                .get(&format!("/v1/holds/{}", escape(&hold)))
                .await?;
            context.show(&answer, facts);
        }
    }
    Ok(())
}

/// Waits until nobody can send under a hold, with a line of who has confirmed it on a terminal.
///
/// # Errors
/// As the service answers; when it takes longer than anything may, and when it is released meanwhile.
pub async fn until_quiet(context: &Context, placed: Value) -> Result<Value, CliError> {
    let path = format!("/v1/holds/{}", escape(&text_of(&placed, "/id")));
    // Seen by people alone: where there is no terminal, nothing is drawn.
    let line = ProgressBar::new_spinner();
    line.enable_steady_tick(LOOK_EVERY * 2);
    let until = context.clock.monotonic().0.saturating_add(WAIT_MS_MAX);
    let mut hold = placed;
    loop {
        let sentence = text_of(&hold, "/sentence");
        line.set_message(sentence.clone());
        let is_released = hold.get("released_at").is_some_and(|at| !at.is_null());
        if is_quiet(&hold) || is_released || context.clock.monotonic().0 >= until {
            line.finish_and_clear();
            return match (is_quiet(&hold), is_released) {
                (true, _) => Ok(hold),
                (false, true) => Err(CliError::Failed(format!(
                    "hold {} was released while it was waited for",
                    text_of(&hold, "/id")
                ))),
                (false, false) => Err(CliError::Failed(format!(
                    "the hold is in force, and not yet quiet: {sentence}"
                ))),
            };
        }
        tokio::time::sleep(LOOK_EVERY).await;
        hold = context.client.get(&path).await?;
    }
}

/// Says whether nobody can send under a hold.
#[must_use]
pub fn is_quiet(hold: &Value) -> bool {
    hold.get("quiesced") == Some(&Value::Bool(true))
}

/// A hold in a few lines: the id is whole, because releasing it needs it.
fn hold_lines(hold: &Value) -> Vec<String> {
    let scope = match (hold.pointer("/scope/id"), hold.pointer("/scope/wave")) {
        (None, _) => text_of(hold, "/scope/type"),
        (Some(_), None) => format!(
            "{} {}",
            text_of(hold, "/scope/type"),
            text_of(hold, "/scope/id")
        ),
        (Some(_), Some(wave)) => format!("wave {wave} of rollout {}", text_of(hold, "/scope/id")),
    };
    let mut lines = vec![
        format!(
            "{} of {scope}, since {} by {}",
            text_of(hold, "/kind"),
            text_of(hold, "/placed_at"),
            text_of(hold, "/placed_by")
        ),
        format!("  {}", text_of(hold, "/reason")),
        format!("  {}", text_of(hold, "/id")),
    ];
    if hold.get("released_at").is_some_and(|at| !at.is_null()) {
        lines.push(format!(
            "  released {} by {}: {}",
            text_of(hold, "/released_at"),
            text_of(hold, "/released_by"),
            text_of(hold, "/release_reason")
        ));
    } else {
        lines.push(format!("  {}", text_of(hold, "/sentence")));
    }
    lines
}

/// Runs `release`.
///
/// # Errors
/// As the service answers.
pub async fn release(context: &Context, release: &Release) -> Result<(), CliError> {
    let path = format!("/v1/holds/{}", escape(&release.hold));
    if release.change.dry_run {
        let hold: Value = context.client.get(&path).await?;
        context.would(&format!(
            "would release the {} of {} ({}); other holds stay; nothing has changed",
            text_of(&hold, "/kind"),
            text_of(&hold, "/placed_by"),
            text_of(&hold, "/reason")
        ));
        return Ok(());
    }
    let body = json!({"reason": release.change.reason()?, "digest": release.digest});
    let answer: Value = context
        .client
        .post_if(&format!("{path}/release"), &body, release.change.expect_rev)
        .await?;
    context.show(&answer, |answer| {
        vec![format!(
            "{} {} released; other holds stay",
            text_of(answer, "/kind"),
            text_of(answer, "/id")
        )]
    });
    Ok(())
}
