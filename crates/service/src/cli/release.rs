//! How a halt ends: `preflight`, `requirement`, and the steps of a release.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::escape;
use super::context::{Context, text_of};
use super::error::{CliError, Exit};
use super::table::{Table, facts};

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

/// What to do with requirements.
#[derive(Debug, Subcommand)]
pub enum RequirementCommand {
    /// List the requirements of a halt
    List {
        /// The hold's id
        hold: String,
    },
    /// Ask for something: the release waits for it
    Add {
        /// The hold's id
        hold: String,
        /// In a few words
        #[arg(long)]
        title: String,
        /// What exactly must be true, and how that is tested
        #[arg(long)]
        text: String,
        /// Such as `identities_and_secrets` or `monitor_and_detect`
        #[arg(long)]
        category: String,
        /// low, medium, high or critical
        #[arg(long, default_value = "high")]
        severity: String,
        /// Who sees to it
        #[arg(long)]
        owner: Option<String>,
        /// Until when, as 2027-01-31T00:00:00Z
        #[arg(long)]
        due: Option<String>,
    },
    /// Say how far it has come, or what the vendor said
    Update {
        /// The hold's id
        hold: String,
        /// The requirement's id
        requirement: String,
        /// accepted, `in_progress`, delivered or rejected
        #[arg(long)]
        status: Option<String>,
        /// Who sees to it from now on
        #[arg(long)]
        owner: Option<String>,
        /// What the vendor said
        #[arg(long)]
        checkin: Option<String>,
    },
    /// Attach evidence: a text, a link or a file by its hash
    Evidence {
        /// The hold's id
        hold: String,
        /// The requirement's id
        requirement: String,
        /// text, link or file
        #[arg(long, default_value = "text")]
        kind: String,
        /// The text, the address, or the name of the file
        #[arg(long)]
        text: String,
        /// The SHA-256 of the bytes at the link or of the file
        #[arg(long)]
        sha256: Option<String>,
    },
    /// Say that it is met: somebody else than its owner and than whoever attested
    Verify {
        /// The hold's id
        hold: String,
        /// The requirement's id
        requirement: String,
        /// How that was seen
        #[arg(long)]
        reason: String,
    },
    /// Go on without it for a time: takes two people
    Waive {
        /// The hold's id
        hold: String,
        /// The requirement's id
        requirement: String,
        /// Why
        #[arg(long)]
        reason: String,
        /// Until when, as 2027-01-31T00:00:00Z
        #[arg(long)]
        expires: String,
    },
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

/// Runs a command about requirements.
///
/// # Errors
/// As the service answers.
pub async fn requirement(context: &Context, command: RequirementCommand) -> Result<(), CliError> {
    use RequirementCommand as C;
    let at = |hold: &str| format!("/v1/holds/{}/requirements", escape(hold));
    let of = |hold: &str, id: &str, verb: &str| format!("{}/{}/{verb}", at(hold), escape(id));
    let client = &context.client;
    let answer: Value = match command {
        C::List { hold } => return list(context, &at(&hold)).await,
        C::Add {
            hold,
            title,
            text,
            category,
            severity,
            owner,
            due,
        } => {
            let body = json!({
                "title": title, "text": text, "category": category, "severity": severity, "owner": owner, "due": due,
            });
            client.post(&at(&hold), &body).await?
        }
        C::Update {
            hold,
            requirement,
            status,
            owner,
            checkin,
        } => {
            let body = json!({"status": status, "owner": owner, "checkin": checkin});
            let path = format!("{}/{}", at(&hold), escape(&requirement));
            client.patch(&path, &body).await?
        }
        C::Evidence {
            hold,
            requirement,
            kind,
            text,
            sha256,
        } => {
            let body = json!({"kind": kind, "text": text, "sha256": sha256});
            client
                .post(&of(&hold, &requirement, "evidence"), &body)
                .await?
        }
        C::Verify {
            hold,
            requirement,
            reason,
        } => {
            let body = json!({"reason": reason});
            client
                .post(&of(&hold, &requirement, "verify"), &body)
                .await?
        }
        C::Waive {
            hold,
            requirement,
            reason,
            expires,
        } => {
            let body = json!({"reason": reason, "expires": expires});
            client
                .post(&of(&hold, &requirement, "waive"), &body)
                .await?
        }
    };
    context.show(&answer, facts);
    Ok(())
}

async fn list(context: &Context, path: &str) -> Result<(), CliError> {
    let all: Value = context.client.get(path).await?;
    context.show(&all, |all| listed(all, context.width()));
    Ok(())
}

fn listed(all: &Value, width: usize) -> Vec<String> {
    let mut table = Table::new(&[">no", "status", "title", "owner", "id"]);
    for one in all.as_array().into_iter().flatten() {
        let owner = one
            .pointer("/owners")
            .and_then(Value::as_array)
            .and_then(|all| all.last());
        table.row([
            text_of(one, "/number"),
            text_of(one, "/status"),
            text_of(one, "/title"),
            owner.and_then(Value::as_str).unwrap_or_default().to_owned(),
            text_of(one, "/id"),
        ]);
    }
    table.lines(width)
}
