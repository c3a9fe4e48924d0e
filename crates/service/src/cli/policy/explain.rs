//! `tidegate policy explain`: why each rule applies to a signal, or does not.
//!
//! Of a signal that the service keeps, or, with a set and a report in files, without any service.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use tidegate_policy::Signal;
use tidegate_policy::rule::explain::{Asked, Explanation, Looks, NOT_COUNTED};
use tidegate_policy::rule::judge::{Judge, Outcome, TargetFacts};
use tidegate_policy::set::replay::line::history;

use super::super::client::escape;
use super::super::context::Context;
use super::super::error::CliError;
use super::super::table::{Align, cut, pad};
use super::replay::{facts, usage};
use super::{parsed, text};
use crate::operations::policy::replaying::ExplainView;

/// The widest that what is asked may be beside what was seen.
const ASKS_WIDTH: usize = 50;

/// What is explained.
#[derive(Debug, Args)]
pub struct Explain {
    /// The id of a signal, or its number in `signal list`; with --report a policy set in a file
    #[arg(value_name = "SIGNAL")]
    what: String,
    /// A file with the report, one JSON object a line; the last one is explained, those before it are counted
    #[arg(long, value_name = "FILE", requires = "target")]
    report: Option<PathBuf>,
    /// At this target alone; with --report its facts: name:vendor or name:vendor:product,product
    #[arg(long)]
    target: Vec<String>,
    /// Show every test of the rules that do not apply as well
    #[arg(long)]
    all: bool,
}

/// Explains a signal.
///
/// # Errors
/// As the service answers, and when a file cannot be read.
pub(super) async fn run(context: &Context, command: &Explain) -> Result<(), CliError> {
    if let Some(report) = &command.report {
        return offline(context, command, report);
    }
    if command.target.len() > 1 {
        return Err(usage("name one target, or none for all of them"));
    }
    let query = command.target.first();
    let query = query.map_or(String::new(), |name| format!("?target={}", escape(name)));
    let path = format!("/v1/signals/{}/explain{query}", escape(&command.what));
    let answer: Value = context.client.get(&path).await?;
    let view: ExplainView = serde_json::from_value(answer.clone())
        .map_err(|error| CliError::Failed(format!("the answer cannot be read: {error}")))?;
    context.show(&answer, |_| {
        let width = context.width();
        let mut lines = vec![about(&view.signal.signal, width)];
        lines.push(format!(
            "when it was judged: {}; explained by `{}` version {}, which is in force",
            view.signal.outcome, view.policy, view.version
        ));
        if !view.is_counted_whole {
            lines
                .push("windows are counted over the last signals alone: there are many".to_owned());
        }
        lines.extend(explained(&view.explanations, command.all, width));
        if view.left_out > 0 {
            lines.push(format!(
                "and {} more: name a target with --target",
                view.left_out
            ));
        }
        lines
    });
    Ok(())
}

fn offline(context: &Context, command: &Explain, report: &Path) -> Result<(), CliError> {
    let set = parsed(Path::new(&command.what))?;
    let (text, _) = text(report)?;
    let signals = history(&text)
        .map_err(|error| CliError::Usage(format!("{}: {error}", report.display())))?;
    let targets: Result<Vec<TargetFacts>, CliError> =
        command.target.iter().map(|text| facts(text)).collect();
    let Some((last, before)) = signals.split_last() else {
        return Err(usage("the file holds no report"));
    };
    let mut judge = Judge::new(set.rules, targets?);
    for one in before {
        judge.take(&one.signal);
    }
    let mut explanations = judge.explain(&last.signal);
    explanations.sort_by_key(|one| std::cmp::Reverse((one.outcome, one.effect)));
    let answer = json!({"signal": last.signal, "explanations": explanations});
    context.show(&answer, |_| {
        let width = context.width();
        let mut lines = vec![about(&last.signal, width)];
        lines.extend(explained(&explanations, command.all, width));
        lines
    });
    Ok(())
}

fn about(signal: &Signal, width: usize) -> String {
    let vendor = signal.vendor.as_deref().unwrap_or("no vendor");
    let said = format!(
        "{} of {}: {}, severity {}, about {vendor} ({})",
        signal.external_id, signal.source, signal.kind, signal.severity, signal.trust
    );
    cut(&said, width)
}

fn explained(explanations: &[Explanation], all: bool, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for one in explanations {
        let applies = one.outcome != Outcome::Clear;
        if applies || all {
            lines.push(String::new());
        }
        lines.push(cut(&head(one), width));
        for fault in &one.faults {
            lines.push(cut(&format!("    a fact is missing: {fault}"), width));
        }
        if let Some(asked) = one.condition.as_ref().filter(|_| applies || all) {
            tree(asked, 1, width, &mut lines);
        }
    }
    lines
}

/// What a rule comes to, in one line.
fn head(one: &Explanation) -> String {
    let at = format!("{} at {}", one.rule, one.target);
    let follows = one.effect.map_or(String::new(), |effect| {
        let would = match one.shadow {
            true => "would follow, but the rule is in shadow",
            false => "follows",
        };
        format!("{effect} of {} {would}", one.scope)
    });
    match (one.outcome, one.looks) {
        (Outcome::Applies, _) => format!("✔ {at}: it applies; {follows}"),
        (Outcome::Faulty, _) => format!("? {at}: it cannot say; {follows}"),
        (Outcome::Clear, Looks::AboutSilence) => {
            format!("– {at}: it is about sources that fall silent")
        }
        (Outcome::Clear, Looks::TrustTooLow) => {
            let (wanted, seen) = (one.trust_wanted, one.trust_seen);
            format!("– {at}: it asks for {wanted}, and this is {seen}")
        }
        (Outcome::Clear, Looks::EndsOrTests) => {
            format!("– {at}: the end of a matter, or an exercise, decides nothing")
        }
        (Outcome::Clear, Looks::Looks) => {
            let failed = one.condition.as_ref().and_then(first_failed);
            let why = failed.map_or(String::new(), |asked| {
                let seen = asked.seen.as_deref().unwrap_or_default();
                format!(": {seen}, where it asks: {}", asked.asks)
            });
            format!("✖ {at}{why}")
        }
    }
}

/// Returns the first test that did not hold where it had to.
fn first_failed(asked: &Asked) -> Option<&Asked> {
    if asked.holds {
        return None;
    }
    if asked.seen.is_some() {
        return Some(asked);
    }
    asked.parts.iter().find_map(first_failed).or(Some(asked))
}

fn tree(asked: &Asked, depth: usize, width: usize, lines: &mut Vec<String>) {
    let mark = match (asked.missing.is_some(), asked.seen.as_deref(), asked.holds) {
        (true, _, _) => '?',
        (false, Some(seen), _) if seen.ends_with(NOT_COUNTED) => '–',
        (false, _, true) => '✔',
        (false, _, false) => '✖',
    };
    let indent = "  ".repeat(depth + 1);
    let line = match &asked.seen {
        Some(seen) => {
            let asks = pad(
                &asked.asks,
                ASKS_WIDTH.saturating_sub(indent.len()),
                Align::Left,
            );
            format!("{indent}{mark} {asks}  {seen}")
        }
        None => format!("{indent}{mark} {}", asked.asks),
    };
    lines.push(cut(&line, width));
    for part in &asked.parts {
        tree(part, depth + 1, width, lines);
    }
}
