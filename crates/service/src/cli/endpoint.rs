//! Commands about endpoints: who is told what happens, and how that goes.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::escape;
use super::context::{Context, text_of};
use super::error::{CliError, Exit};
use super::table::Table;

/// What to do with endpoints.
#[derive(Debug, Subcommand)]
pub enum EndpointCommand {
    /// Create an endpoint; it is told what happens from now on
    Create(Create),
    /// List the endpoints, and how telling them goes
    List,
    /// Send an endpoint an event that says nothing, and show what it answered
    Test {
        /// Its name
        name: String,
    },
    /// Let an endpoint that is dead or gone be told again, from exactly where it was
    Revive {
        /// Its name
        name: String,
    },
    /// Leave out the event that an endpoint does not take, so that it is told what comes after it
    Skip {
        /// Its name
        name: String,
        /// The event it is stuck at, as `endpoint list -o json` shows it
        #[arg(long)]
        event: String,
        /// Why; it goes into the audit trail
        #[arg(long)]
        reason: String,
    },
    /// Take an endpoint out of use
    Revoke {
        /// Its name
        name: String,
    },
}

/// Options of `endpoint create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name
    name: String,
    // Not `url`: that is where the service itself is.
    /// Where it is told: https, at a host that the service was started with (serve --reach)
    address: String,
    /// A file with a key inside the service's folder of credentials; more than one while keys are changed
    #[arg(long = "key-file", value_name = "NAME")]
    key_files: Vec<PathBuf>,
    /// A variable of the service with a key, TIDEGATE_CREDENTIAL_…
    #[arg(long = "key-env", value_name = "NAME")]
    key_variables: Vec<String>,
    /// What it wants to be told, such as hold.placed; everything unless given
    #[arg(long, value_delimiter = ',')]
    types: Vec<String>,
}

/// Runs an endpoint command.
///
/// # Errors
/// As the service answers.
pub async fn run(context: &Context, command: EndpointCommand) -> Result<(), CliError> {
    match command {
        EndpointCommand::Create(new) => create(context, &new).await,
        EndpointCommand::List => list(context).await,
        EndpointCommand::Test { name } => test(context, &name).await,
        EndpointCommand::Revive { name } => {
            step(
                context,
                &name,
                ("revive", json!({})),
                "is told again what happens",
            )
            .await
        }
        EndpointCommand::Skip {
            name,
            event,
            reason,
        } => {
            let body = json!({"event": event, "reason": reason});
            step(
                context,
                &name,
                ("skip", body),
                "is told what comes after it",
            )
            .await
        }
        EndpointCommand::Revoke { name } => {
            step(
                context,
                &name,
                ("revoke", json!({})),
                "is told nothing more",
            )
            .await
        }
    }
}

async fn create(context: &Context, new: &Create) -> Result<(), CliError> {
    let files = new.key_files.iter().map(|file| json!({"file": file}));
    let variables = new.key_variables.iter().map(|name| json!({"env": name}));
    let keys: Vec<Value> = files.chain(variables).collect();
    let config = json!({"keys": keys, "types": new.types});
    let body = json!({"name": new.name, "url": new.address, "config": config});
    let answer: Value = context.client.post("/v1/endpoints", &body).await?;
    context.show(&answer, |answer| {
        let name = text_of(answer, "/name");
        vec![
            format!("endpoint `{name}` is told what happens from now on"),
            format!("try it out: tidegate endpoint test {name}"),
        ]
    });
    Ok(())
}

async fn list(context: &Context) -> Result<(), CliError> {
    let answer: Value = context.client.get("/v1/endpoints").await?;
    context.show(&answer, |answer| {
        let mut table = Table::new(&["name", "status", "address", "last told"]);
        let mut trouble = Vec::new();
        for item in answer.as_array().into_iter().flatten() {
            table.row([
                text_of(item, "/name"),
                text_of(item, "/status"),
                text_of(item, "/url"),
                text_of(item, "/delivered_at"),
            ]);
            trouble.extend(trouble_of(item));
        }
        let mut lines = table.lines(context.width());
        lines.extend(trouble);
        lines
    });
    Ok(())
}

/// What is wrong with an endpoint that fails, and what to do.
fn trouble_of(item: &Value) -> Vec<String> {
    let (name, status) = (text_of(item, "/name"), text_of(item, "/status"));
    let (error, stuck) = (text_of(item, "/last_error"), text_of(item, "/stuck_at"));
    if item.get("last_error").is_none_or(Value::is_null) || status == "revoked" {
        return Vec::new();
    }
    let times = text_of(item, "/failures");
    let mut lines = vec![format!(
        "✖ {name}: {error}, attempts in a row: {times}, at {stuck}"
    )];
    if status == "active" {
        let next = text_of(item, "/next_attempt_at");
        lines.push(format!("  it is tried again at {next}"));
    } else {
        lines.push(format!(
            "  it is told nothing more; once it answers: tidegate endpoint revive {name}"
        ));
    }
    lines
}

async fn test(context: &Context, name: &str) -> Result<(), CliError> {
    let path = format!("/v1/endpoints/{}/test", escape(name));
    let answer: Value = context.client.post(&path, &json!({})).await?;
    let is_ok = answer.get("ok").and_then(Value::as_bool) == Some(true);
    context.show(&answer, |answer| {
        let id = text_of(answer, "/id");
        vec![if is_ok {
            format!("endpoint `{name}` got `{id}`")
        } else {
            format!("endpoint `{name}`: {}", text_of(answer, "/error"))
        }]
    });
    if is_ok {
        Ok(())
    } else {
        Err(CliError::Silent(Exit::Error))
    }
}

async fn step(
    context: &Context,
    name: &str,
    (verb, body): (&str, Value),
    says: &str,
) -> Result<(), CliError> {
    let path = format!("/v1/endpoints/{}/{verb}", escape(name));
    let answer: Value = context.client.post(&path, &body).await?;
    context.show(&answer, |answer| {
        vec![format!("endpoint `{}` {says}", text_of(answer, "/name"))]
    });
    Ok(())
}
