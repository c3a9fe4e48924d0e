//! Commands about API tokens.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::escape;
use super::context::{Change, Context, minute_of, text_of};
use super::error::CliError;
use super::table::Table;

/// What to do with API tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown once and kept as a hash
    Create {
        /// Whose it is; the audit trail will name it
        name: String,
        /// What it may do: admin, manager, security, approver, auditor or `signal_source`
        #[arg(long)]
        role: String,
        /// The person behind it: two tokens of one person are one person where people are counted. The name itself
        /// unless said otherwise
        #[arg(long)]
        person: Option<String>,
        /// Say what would happen, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// List the tokens, without their secrets; `-o json` has their ids
    List,
    /// Make a token worthless
    Revoke {
        /// Its name or id; not called `token` here, which is the option that names one's own
        #[arg(value_name = "TOKEN")]
        name: String,
        #[command(flatten)]
        change: Change,
    },
}

/// Runs a token command.
///
/// # Errors
/// As the service answers.
pub async fn run(context: &Context, command: TokenCommand) -> Result<(), CliError> {
    match command {
        TokenCommand::Create {
            name,
            role,
            person,
            dry_run,
        } => {
            if dry_run {
                context.would(&format!(
                    "would make token `{name}` with role {role}; nothing has changed"
                ));
                return Ok(());
            }
            let answer: Value = context
                .client
                .post(
                    "/v1/tokens",
                    &json!({"name": name, "role": role, "person": person}),
                )
                .await?;
            context.show(&answer, |answer| {
                vec![
                    text_of(answer, "/token"),
                    format!(
                        "shown once; token `{}` with role {}",
                        text_of(answer, "/name"),
                        text_of(answer, "/role")
                    ),
                ]
            });
        }
        TokenCommand::List => {
            let items = context.client.list("/v1/tokens", 1000).await?;
            context.show(&Value::from(items), |items| {
                let mut table = Table::new(&["name", "person", "role", "created", "revoked"]);
                for item in items.as_array().into_iter().flatten() {
                    table.row([
                        text_of(item, "/name"),
                        text_of(item, "/person"),
                        text_of(item, "/role"),
                        minute_of(item, "/created_at"),
                        minute_of(item, "/revoked_at"),
                    ]);
                }
                table.lines(context.width())
            });
        }
        TokenCommand::Revoke { name, change } => {
            if change.dry_run {
                context.would(&format!(
                    "would make token `{name}` worthless; nothing has changed"
                ));
                return Ok(());
            }
            let reason = change.reason()?;
            let path = format!("/v1/tokens/{}/revoke", escape(&name));
            let answer: Value = context
                .client
                .post(&path, &json!({"reason": reason}))
                .await?;
            context.show(&answer, |answer| {
                vec![format!("token `{}` revoked", text_of(answer, "/name"))]
            });
        }
    }
    Ok(())
}
