//! `plan` and `apply`: what would happen, and then exactly that.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::client::{Document, escape};
use super::context::{Change, Context, OutputFormat, count_of, text_of};
use super::error::{CliError, Exit, Problem};
use super::lists::read_spec;
use super::table::{Table, grouped};
use crate::operations::view::RolloutView;

/// How many warnings and how many overlaps are shown one by one.
const SENTENCES_SHOWN: usize = 8;

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// The rollout spec: .yaml, .json or .toml
    spec: PathBuf,
    /// Write the plan's digest and head-counts to a file, for `apply`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// End with code 2 when the plan differs from the one the rollout has
    #[arg(long)]
    exit_code: bool,
}

/// Options of `apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// A plan file written by `plan --out`, or the spec itself
    file: PathBuf,
    #[command(flatten)]
    change: Change,
}

/// Runs `plan`.
///
/// # Errors
/// When the spec cannot be read, and as the service answers.
pub async fn plan(context: &Context, plan: &Plan) -> Result<(), CliError> {
    let document = read_spec(&plan.spec)?;
    let (rollout, answer, was) = send_and_plan(context, &document).await?;
    if let Some(out) = &plan.out {
        let file = json!({"rollout": rollout, "digest": answer.get("digest"), "waves": answer.get("waves")});
        std::fs::write(out, format!("{file:#}\n")).map_err(|cause| CliError::File {
            path: out.clone(),
            cause,
        })?;
    }
    context.show(&answer, |answer| {
        let mut lines = plan_lines(answer, context.width());
        let file = plan.out.as_ref().unwrap_or(&plan.spec);
        lines.push(String::new());
        lines.push(format!(
            "nothing has started; to run exactly this: tidegate apply {} --reason \"…\"",
            file.display()
        ));
        lines
    });
    let changed = was.is_some_and(|was| was != text_of(&answer, "/digest"));
    if plan.exit_code && changed {
        return Err(CliError::Silent(Exit::Difference));
    }
    Ok(())
}

/// Sends a spec, creating or replacing its rollout, and has it planned. Returns the rollout's name,
/// the plan, and the digest of the plan it had.
async fn send_and_plan(
    context: &Context,
    document: &Document,
) -> Result<(String, Value, Option<String>), CliError> {
    let created: Result<Value, CliError> =
        context.client.post_document("/v1/rollouts", document).await;
    let (view, was) = match created {
        Ok(view) => (view, None),
        Err(CliError::Problem(problem)) if problem.code == "name_taken" => {
            replace(context, document, problem).await?
        }
        Err(error) => return Err(error),
    };
    let rollout = text_of(&view, "/name");
    let answer = context
        .client
        .post(
            &format!("/v1/rollouts/{}/plan", escape(&rollout)),
            &json!({}),
        )
        .await?;
    Ok((rollout, answer, was))
}

async fn replace(
    context: &Context,
    document: &Document,
    taken: Problem,
) -> Result<(Value, Option<String>), CliError> {
    let Some(rollout) = rollout_named(document) else {
        return Err(CliError::Problem(taken));
    };
    let path = format!("/v1/rollouts/{}", escape(&rollout));
    let view: Value = context.client.get(&path).await?;
    let generation = view.get("generation").and_then(Value::as_i64).unwrap_or(0);
    let was = view
        .get("plan_digest")
        .and_then(Value::as_str)
        .map(str::to_owned);
    Ok((
        context
            .client
            .put_document(&path, document, generation)
            .await?,
        was,
    ))
}

/// Reads the rollout's name out of a spec the service has found valid.
fn rollout_named(document: &Document) -> Option<String> {
    use tidegate_orchestrator::spec::{Spec, SpecFormat};
    let format = match document.content_type {
        "application/json" => SpecFormat::Json,
        "application/toml" => SpecFormat::Toml,
        _ => SpecFormat::Yaml,
    };
    Spec::parse(&document.text, format)
        .ok()
        .map(|spec| spec.rollout)
}

/// Runs `apply`.
///
/// # Errors
/// When the file cannot be read, and as the service answers; a stale plan ends with code 5.
pub async fn apply(context: &Context, apply: &Apply) -> Result<(), CliError> {
    let (rollout, digest) = match plan_file(&apply.file)? {
        Some(found) => found,
        None if apply.change.dry_run => {
            // To plan is to change something: the rollout and its plan would be there.
            let document = read_spec(&apply.file)?;
            let rollout = rollout_named(&document).unwrap_or_else(|| "–".to_owned());
            context.would(&format!(
                "would send {} as the spec of `{rollout}`, plan it, and start that plan; nothing has changed",
                apply.file.display()
            ));
            return Ok(());
        }
        None => {
            apply.change.reason()?;
            let (rollout, plan, _) = send_and_plan(context, &read_spec(&apply.file)?).await?;
            let digest = text_of(&plan, "/digest");
            if context.output == OutputFormat::Table {
                context.show(&plan, |plan| plan_lines(plan, context.width()));
            }
            (rollout, digest)
        }
    };
    if apply.change.dry_run {
        would_start(context, &rollout, &digest).await?;
        context.would(&format!(
            "would start `{rollout}` with plan {digest}; nothing has started"
        ));
        return Ok(());
    }
    let reason = apply.change.reason()?;
    let body = json!({"digest": digest, "reason": reason});
    let path = format!("/v1/rollouts/{}/start", escape(&rollout));
    let answer: Value = context
        .client
        .post_if(&path, &body, apply.change.expect_rev)
        .await?;
    context.show(&answer, |_| {
        vec![format!(
            "`{rollout}` started with plan {digest}; follow it with: tidegate watch {rollout}"
        )]
    });
    Ok(())
}

/// Fails as the start of this plan would.
async fn would_start(context: &Context, rollout: &str, digest: &str) -> Result<(), CliError> {
    let path = format!("/v1/rollouts/{}", escape(rollout));
    let view: RolloutView = context.client.get(&path).await?;
    if view.plan_digest.as_deref() != Some(digest) {
        context.would(&format!(
            "would be refused: the plan of `{rollout}` is {} by now; look at it with: tidegate plan SPEC",
            view.plan_digest.as_deref().unwrap_or("none")
        ));
        return Err(CliError::Silent(Exit::StalePlan));
    }
    if view.lifecycle != "planned" {
        return Err(CliError::Usage(format!(
            "would be refused: `{rollout}` is {} already",
            view.lifecycle
        )));
    }
    Ok(())
}

fn plan_file(path: &PathBuf) -> Result<Option<(String, String)>, CliError> {
    if path.extension().is_none_or(|suffix| suffix != "json") {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(|cause| CliError::File {
        path: path.clone(),
        cause,
    })?;
    let Ok(file) = serde_json::from_str::<Value>(&text) else {
        return Ok(None);
    };
    let rollout = file.get("rollout").and_then(Value::as_str);
    let digest = file.get("digest").and_then(Value::as_str);
    Ok(rollout
        .zip(digest)
        .map(|(rollout, digest)| (rollout.to_owned(), digest.to_owned())))
}

/// Writes a plan: the waves, when they are expected, and what a manager should know before a yes.
#[must_use]
pub fn plan_lines(answer: &Value, width: usize) -> Vec<String> {
    let mut lines = vec![
        format!("plan {}", text_of(answer, "/digest")),
        String::new(),
    ];
    let mut table = Table::new(&[">", "wave", ">people", "opens", "drained", "soak until"]);
    let timeline = answer.get("timeline").and_then(Value::as_array);
    for (index, wave) in answer
        .get("waves")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        let when = |field: &str| {
            let at = timeline
                .and_then(|lines| lines.get(index))
                .map(|line| text_of(line, field));
            at.map_or_else(
                || "–".to_owned(),
                |at| {
                    at.get(..16)
                        .map_or(at.clone(), |minute| minute.replace('T', " "))
                },
            )
        };
        table.row([
            text_of(wave, "/number"),
            text_of(wave, "/name"),
            grouped(count_of(wave, "/people")),
            when("/opens_at"),
            when("/drained_at"),
            when("/soak_until"),
        ]);
    }
    lines.extend(table.lines(width));
    lines.push(format!(
        "excluded {} · in no wave {}",
        grouped(count_of(answer, "/excluded")),
        grouped(count_of(answer, "/unassigned"))
    ));
    // Warnings first: one that matters must not be lost below many overlaps.
    for (field, word) in [
        ("warnings", "warning"),
        ("overlaps", "overlap"),
        ("notes", "note"),
    ] {
        let items = answer.get(field).and_then(Value::as_array);
        let items = items.map(Vec::as_slice).unwrap_or_default();
        for item in items.iter().take(SENTENCES_SHOWN) {
            let sentence = match item {
                Value::String(sentence) => sentence.clone(),
                other => ["/sentence", "/message"]
                    .iter()
                    .find_map(|at| other.pointer(at).and_then(Value::as_str))
                    .map_or_else(|| other.to_string(), str::to_owned),
            };
            lines.push(format!("{word}: {sentence}"));
        }
        if let Some(more) = items
            .len()
            .checked_sub(SENTENCES_SHOWN)
            .filter(|more| *more > 0)
        {
            lines.push(format!("{word}: and {more} more; `-o json` shows them all"));
        }
    }
    lines
}
