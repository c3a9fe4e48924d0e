//! Commands about holds: which are in force, and letting one go.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::escape;
use super::context::{Change, Context, text_of};
use super::error::CliError;
use super::table::Table;

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
                let mut table =
                    Table::new(&["kind", "scope", "since", "by", "reason", "released", "id"]);
                for item in items.as_array().into_iter().flatten() {
                    table.row([
                        text_of(item, "/kind"),
                        format!(
                            "{} {}",
                            text_of(item, "/scope/type"),
                            text_of(item, "/scope/id")
                        ),
                        text_of(item, "/placed_at"),
                        text_of(item, "/placed_by"),
                        text_of(item, "/reason"),
                        text_of(item, "/released_at"),
                        text_of(item, "/id"),
                    ]);
                }
                table.lines(context.width())
            });
        }
        HoldCommand::Show { hold } => {
            let answer: Value = context
                .client
                .get(&format!("/v1/holds/{}", escape(&hold)))
                .await?;
            context.show(&answer, |answer| {
                format!("{answer:#}").lines().map(str::to_owned).collect()
            });
        }
    }
    Ok(())
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
    let body = json!({"reason": release.change.reason()?});
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
