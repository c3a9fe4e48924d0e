//! Commands about proof: the audit trail.

use clap::Subcommand;
use serde_json::Value;

use super::context::{Context, second_of, text_of};
use super::error::CliError;
use super::table::Table;

/// What to do with the audit trail.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List the latest entries, the newest at the end
    List {
        /// From the entry after this one on, in place of the latest
        #[arg(long)]
        after: Option<i64>,
        /// At most this many
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
}

/// Runs an audit command.
///
/// # Errors
/// As the service answers.
pub async fn run(context: &Context, command: AuditCommand) -> Result<(), CliError> {
    match command {
        AuditCommand::List { after, limit } => {
            let from = match after {
                Some(after) => format!("after={after}"),
                None => format!("last={limit}"),
            };
            let path = format!("/v1/audit?{from}&limit={}", limit.min(1000));
            let items = context.client.list(&path, limit).await?;
            context.show(&Value::from(items), |items| {
                let mut table = Table::new(&[">seq", "at", "who", "did", "to what"]).keeping();
                for item in items.as_array().into_iter().flatten() {
                    table.row([
                        text_of(item, "/seq"),
                        second_of(item, "/at"),
                        text_of(item, "/actor"),
                        text_of(item, "/action"),
                        text_of(item, "/subject"),
                    ]);
                }
                table.lines(context.width())
            });
        }
    }
    Ok(())
}
