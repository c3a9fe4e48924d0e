//! `tidegate policy replay`: what a set would have done, told as a table of what it would have held.
//!
//! Over a file of signals nothing but the files is needed; over what the service keeps, it is asked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use clap::Args;
use serde_json::{Value, json};
use tidegate_orchestrator::ids::Timestamp;
use tidegate_policy::document::Format;
use tidegate_policy::rule::judge::TargetFacts;
use tidegate_policy::scenario::{self, Scenario};
use tidegate_policy::set::replay::difference::{Held, Step, differences};
use tidegate_policy::set::replay::line::{Written, history};
use tidegate_policy::set::replay::{Replay as Replaying, Stop, Timeline};
use tidegate_policy::set::{PolicySet, STARTER};
use tidegate_policy::signal::folded;

use super::super::context::Context;
use super::super::error::{CliError, Exit};
use super::super::instant;
use super::super::table::{Table, cut, grouped, several};
use super::{format_of, parsed, text};
use crate::operations::policy::replaying::ReplayView;

/// A story is read line by line: wider is not easier.
const STORY_WIDTH: usize = 100;

/// What is replayed, and over which signals.
#[derive(Debug, Args)]
pub struct Replay {
    /// The set: a file; with --stored also the name of a set that is kept, or name@version. Beside --scenario the rules
    /// of the scenario unless said
    #[arg(required_unless_present_any = ["scenario", "starter"])]
    file: Option<PathBuf>,
    /// The starter set, which a new installation begins with
    #[arg(long, conflicts_with_all = ["file", "stored"])]
    starter: bool,
    /// A file of signals in any order: the list that `signal list -o json` prints, or one JSON object a line, such a
    /// signal or a report with `received_at`
    #[arg(
        long,
        value_name = "FILE",
        requires = "target",
        conflicts_with = "scenario"
    )]
    signals: Option<PathBuf>,
    /// A target: its name, vendor and products, such as suite:microsoft:email,identity; may be given again
    #[arg(long, value_name = "NAME:VENDOR[:PRODUCT,…]")]
    target: Vec<String>,
    /// Another set to compare with, as the one that was in force
    #[arg(long, value_name = "FILE", requires = "signals")]
    against: Option<PathBuf>,
    /// Over the signals that the service keeps, beside the set in force
    #[arg(long, conflicts_with = "scenario")]
    stored: bool,
    /// Signals received from then on: a day, or an instant
    #[arg(long, value_name = "WHEN", requires = "stored")]
    since: Option<String>,
    /// Signals received before then
    #[arg(long, value_name = "WHEN", requires = "stored")]
    until: Option<String>,
    /// Tell a scenario that comes with the program: its signals, judged by its own rules, by a set in a file or by the
    /// starter set
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(scenario::NAMES))]
    scenario: Option<String>,
    /// The day on which people stop in the scenario, which is not public; 2024-01-22 unless said
    #[arg(long, value_name = "DAY", requires = "scenario")]
    stopped_on: Option<NaiveDate>,
}

/// Replays a set.
///
/// # Errors
/// When a file cannot be read. With code 2 when it differs from the set that it is compared with.
pub(super) async fn run(context: &Context, command: &Replay) -> Result<(), CliError> {
    if command.scenario.is_some() {
        let set = match (&command.file, command.starter) {
            (None, false) => None,
            (file, _) => Some(candidate(file.as_deref())?),
        };
        return tell(context, set, command.stopped_on);
    }
    if let Some(file) = command.file.as_ref().filter(|_| command.stored) {
        return stored(context, command, file).await;
    }
    let Some(signals) = &command.signals else {
        return Err(usage(
            "say which signals: --signals FILE, or --stored for those that the service keeps",
        ));
    };
    let set = candidate(command.file.as_deref())?;
    let (text, _) = text(signals)?;
    let signals = history(&text)
        .map_err(|error| CliError::Usage(format!("{}: {error}", signals.display())))?;
    let targets: Result<Vec<TargetFacts>, CliError> =
        command.target.iter().map(|text| facts(text)).collect();
    let targets = targets?;
    let candidate = replayed(&set, &targets, &signals);
    let active = match &command.against {
        Some(path) => Some(replayed(&parsed(path)?, &targets, &signals)),
        None => None,
    };
    let steps = active
        .as_ref()
        .map(|active| differences(active, &candidate));
    let answer = json!({"candidate": candidate, "active": active, "differences": steps});
    context.show(&answer, |_| {
        told(&candidate, steps.as_deref(), context.width())
    });
    ended(steps.as_deref())
}

/// Asks the service to replay a set over what it keeps.
async fn stored(context: &Context, command: &Replay, file: &Path) -> Result<(), CliError> {
    let mut request = match file.is_file() {
        true => {
            let (text, _) = text(file)?;
            json!({"text": text, "format": format_of(file).0.name()})
        }
        false => named(file)?,
    };
    let since = instant::given("since", command.since.as_ref())?;
    let until = instant::given("until", command.until.as_ref())?;
    if let Some(fields) = request.as_object_mut() {
        fields.insert("since".to_owned(), json!(since));
        fields.insert("until".to_owned(), json!(until));
    }
    let answer: Value = context.client.post("/v1/policies/replay", &request).await?;
    let view: ReplayView = serde_json::from_value(answer.clone())
        .map_err(|error| CliError::Failed(format!("the answer cannot be read: {error}")))?;
    context.show(&answer, |_| {
        told(&view.candidate, Some(&view.differences), context.width())
    });
    ended(Some(&view.differences))
}

/// Reads `name` or `name@version`.
fn named(file: &Path) -> Result<Value, CliError> {
    let text = file.to_string_lossy();
    if text.contains(['/', '\\']) || file.extension().is_some_and(|ending| ending == "yaml") {
        return Err(CliError::File {
            path: file.to_owned(),
            cause: std::io::ErrorKind::NotFound.into(),
        });
    }
    let Some((name, version)) = text.split_once('@') else {
        return Ok(json!({"name": text}));
    };
    match version.parse::<i64>() {
        Ok(version) => Ok(json!({"name": name, "version": version})),
        Err(_) => Err(usage(&format!("`{version}` is no version: write {name}@3"))),
    }
}

/// Reads the set that is replayed: a file, or else the starter set.
fn candidate(file: Option<&Path>) -> Result<PolicySet, CliError> {
    match file {
        Some(file) => parsed(file),
        None => PolicySet::parse(STARTER, Format::Yaml)
            .map_err(|errors| CliError::Failed(errors.to_string())),
    }
}

/// Tells the story of the scenario, by its own rules or by those of another set.
fn tell(
    context: &Context,
    set: Option<PolicySet>,
    stopped_on: Option<NaiveDate>,
) -> Result<(), CliError> {
    let stopped_on = stopped_on.unwrap_or_else(scenario::stopped_on_default);
    let story = Scenario::midnight_blizzard()
        .and_then(|mut scenario| {
            scenario.set = set.unwrap_or(scenario.set);
            scenario.play(stopped_on)
        })
        .map_err(|error| CliError::Failed(error.to_string()))?;
    context.show(&json!(story), |_| {
        scenario::tell::tell(&story, context.width().min(STORY_WIDTH))
    });
    Ok(())
}

pub(super) fn usage(sentence: &str) -> CliError {
    CliError::Usage(sentence.to_owned())
}

/// A difference is said by the exit code as well, so that a pipeline can stop at one.
fn ended(steps: Option<&[Step]>) -> Result<(), CliError> {
    match steps {
        Some(steps) if !steps.is_empty() => Err(CliError::Silent(Exit::Difference)),
        Some(_) | None => Ok(()),
    }
}

/// Reads `suite:microsoft:email,identity`.
pub(super) fn facts(text: &str) -> Result<TargetFacts, CliError> {
    let wrong = || {
        usage(&format!(
            "--target: `{text}` is not name:vendor or name:vendor:product,product"
        ))
    };
    let mut parts = text.splitn(3, ':');
    let name = parts.next().map(str::trim).filter(|name| !name.is_empty());
    let vendor = parts.next().map(folded).filter(|vendor| !vendor.is_empty());
    let products: BTreeSet<String> = parts
        .next()
        .into_iter()
        .flat_map(|list| list.split(','))
        .map(folded)
        .filter(|one| !one.is_empty())
        .collect();
    Ok(TargetFacts {
        name: name.ok_or_else(wrong)?.to_owned(),
        vendor: Some(vendor.ok_or_else(wrong)?),
        products,
        ..TargetFacts::default()
    })
}

fn replayed(set: &PolicySet, targets: &[TargetFacts], signals: &[Written]) -> Timeline {
    let mut replay = Replaying::new(set, targets.to_vec());
    for one in signals {
        replay.take(&one.id, &one.signal);
    }
    let last = signals.last().map(|one| one.signal.received_at);
    replay.end(last.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Writes a timeline, and how it differs from the active one, for people.
fn told(candidate: &Timeline, steps: Option<&[Step]>, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if !candidate.stops.is_empty() {
        let mut table = Table::new(&[
            "since", "until", "kind", "target", "rule", ">signals", "worst",
        ]);
        for stop in &candidate.stops {
            table.row(row(stop));
        }
        let mut rows = table.lines(width).into_iter();
        lines.extend(rows.next());
        for (row, stop) in rows.zip(&candidate.stops) {
            lines.push(row);
            let title = match stop.title.as_str() {
                "" => String::new(),
                title => format!(": {title}"),
            };
            let begun = format!("    began with {} of {}{title}", stop.first, stop.source);
            lines.push(cut(&begun, width));
        }
    }
    for stop in candidate
        .stops
        .iter()
        .filter(|stop| !stop.faults.is_empty())
    {
        let facts = stop.faults.join(", ");
        lines.push(cut(
            &format!(
                "rule `{}` could not say at `{}`: {facts}",
                stop.rule, stop.target
            ),
            width,
        ));
    }
    if candidate.left_out > 0 {
        let more = grouped(candidate.left_out);
        lines.push(format!("and {more} decisions more that are not told"));
    }
    lines.push(summary(candidate));
    if let Some(steps) = steps {
        lines.extend(differing(steps, width));
    }
    lines
}

fn row(stop: &Stop) -> [String; 7] {
    let kind = match stop.shadow {
        true => format!("({})", stop.kind),
        false => stop.kind.name().to_owned(),
    };
    [
        minute(stop.since),
        stop.lifted_at.map_or_else(|| "stands".to_owned(), minute),
        kind,
        stop.target.clone(),
        stop.rule.clone(),
        grouped(stop.signals),
        stop.worst.name().to_owned(),
    ]
}

fn minute(at: Timestamp) -> String {
    at.format("%Y-%m-%d %H:%MZ").to_string()
}

fn summary(told: &Timeline) -> String {
    let holds = told.stops.iter().filter(|stop| stop.holds()).count();
    let shadow = told.stops.iter().filter(|stop| stop.shadow).count();
    let mut text = format!(
        "`{}`: {}, {} of them of no rule; {holds} held",
        told.policy,
        several(told.signals, "signal"),
        grouped(told.unmapped)
    );
    if shadow > 0 {
        text = format!("{text}, {shadow} in shadow, in brackets, held nothing");
    }
    text
}

fn differing(steps: &[Step], width: usize) -> Vec<String> {
    if steps.is_empty() {
        return vec!["over these signals nothing differs from the set in force".to_owned()];
    }
    let mut table = Table::new(&["differs", "kind", "target", "in force", "this set"]);
    let span = |held: &Option<Held>| {
        held.as_ref().map_or_else(
            || "–".to_owned(),
            |held| {
                let until = held.until.map_or_else(|| "stands".to_owned(), minute);
                format!("{} – {until}", minute(held.since))
            },
        )
    };
    for step in steps {
        table.row([
            step.difference.name().to_owned(),
            step.kind.name().to_owned(),
            step.target.clone(),
            span(&step.active),
            span(&step.candidate),
        ]);
    }
    let mut lines = vec![String::new()];
    lines.extend(table.lines(width));
    lines.push(match steps.iter().any(|step| step.loosens) {
        true => "at some time less would have been held".to_owned(),
        false => "nothing would have been held less".to_owned(),
    });
    lines
}
