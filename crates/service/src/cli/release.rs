//! How a halt ends: `preflight`, and the steps of a release.

use clap::Args;
use serde_json::{Value, json};

use super::client::escape;
use super::context::{Context, text_of};
use super::error::{CliError, Exit};

/// Which halt.
#[derive(Debug, Args)]
pub struct Preflight {
    /// The hold's id
    hold: String,
    /// Show the last one, and test nothing
    #[arg(long)]
    last: bool,
}

/// A step of a release, and why.
#[derive(Debug, Args)]
pub struct Step {
    /// The hold's id
    hold: String,
    /// Why; it goes into the audit trail
    #[arg(long)]
    reason: String,
}

/// A yes to exactly one release.
#[derive(Debug, Args)]
pub struct Yes {
    #[command(flatten)]
    step: Step,
    /// The digest of the request, as `release-status` shows it
    #[arg(long)]
    digest: String,
}

/// Looks at what a release would meet; ends with 3 when something stands in the way.
///
/// # Errors
/// As the service answers.
pub async fn preflight(context: &Context, preflight: &Preflight) -> Result<(), CliError> {
    let path = format!("/v1/holds/{}/preflight", escape(&preflight.hold));
    let view: Value = if preflight.last {
        context.client.get(&path).await?
    } else {
        context.client.post(&path, &json!({})).await?
    };
    context.show(&view, |view| {
        let items = view.pointer("/items").and_then(Value::as_array);
        let mut lines: Vec<String> = items
            .into_iter()
            .flatten()
            .map(|item| {
                let mark = if item.get("ok") == Some(&Value::Bool(true)) {
                    "✔"
                } else {
                    "✖"
                };
                format!("{mark} {}", text_of(item, "/sentence"))
            })
            .collect();
        lines.push(format!("digest {}", text_of(view, "/digest")));
        lines
    });
    if view.get("ok") == Some(&Value::Bool(true)) {
        Ok(())
    } else {
        Err(CliError::Silent(Exit::Held))
    }
}

/// Asks for a release, ends a request, or shows where it stands.
///
/// # Errors
/// As the service answers.
pub async fn step(context: &Context, verb: &str, step: &Step) -> Result<(), CliError> {
    let path = format!("/v1/holds/{}/{verb}", escape(&step.hold));
    let view: Value = context
        .client
        .post(&path, &json!({"reason": step.reason}))
        .await?;
    context.show(&view, stands);
    Ok(())
}

/// Approves a release.
///
/// # Errors
/// As the service answers.
pub async fn approve(context: &Context, yes: &Yes) -> Result<(), CliError> {
    let path = format!("/v1/holds/{}/approvals", escape(&yes.step.hold));
    let body = json!({"reason": yes.step.reason, "digest": yes.digest});
    let view: Value = context.client.post(&path, &body).await?;
    context.show(&view, stands);
    Ok(())
}

/// Shows where a release stands.
///
/// # Errors
/// As the service answers.
pub async fn status(context: &Context, hold: &str) -> Result<(), CliError> {
    let path = format!("/v1/holds/{}/approvals", escape(hold));
    let view: Value = context.client.get(&path).await?;
    context.show(&view, stands);
    Ok(())
}

fn stands(view: &Value) -> Vec<String> {
    let mut lines = vec![format!(
        "{}: {}",
        text_of(view, "/status"),
        text_of(view, "/sentence")
    )];
    if view
        .pointer("/digest")
        .is_some_and(|digest| !digest.is_null())
    {
        lines.push(format!(
            "asked for by {}: {}",
            text_of(view, "/requested_by"),
            text_of(view, "/reason")
        ));
        lines.push(format!("digest {}", text_of(view, "/digest")));
    }
    for yes in view
        .pointer("/approvals")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        lines.push(format!(
            "  yes: {} ({})",
            text_of(yes, "/person"),
            text_of(yes, "/group")
        ));
    }
    for no in view
        .pointer("/vetoes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        lines.push(format!(
            "  no: {} ({}): {}",
            text_of(no, "/person"),
            text_of(no, "/at"),
            text_of(no, "/reason")
        ));
    }
    for changed in view
        .pointer("/changed")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        lines.push(format!(
            "  changed: {}",
            changed.as_str().unwrap_or_default()
        ));
    }
    lines
}
