//! Commands about holds: which are in force, who looks at them, and letting one go.

mod list;

use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use tidegate_orchestrator::ids::Timestamp;

use super::client::escape;
use super::context::{Change, Context, count_of, minute_of, text_of};
use super::error::{CliError, Exit};
use super::instant;
use super::screen::{counted, unseen};
use super::table::{grouped, several, wrap, wrap_in};

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
        #[arg(long, conflicts_with = "overdue")]
        all: bool,
        /// Only those that nobody has looked at when somebody should have
        #[arg(long)]
        overdue: bool,
        /// Each by itself, also what one rule holds for one signal at many targets
        #[arg(long)]
        each: bool,
    },
    /// Show one hold, and how many people it stops
    Show {
        /// Its id
        hold: String,
    },
    /// Say that you have looked at a hold, and that it stays until the next review
    Review(Review),
    /// Hand a hold to another owner
    Owner(Owner),
}

/// Options of `hold review`.
#[derive(Debug, Args)]
pub struct Review {
    /// The hold's id
    hold: String,
    /// When somebody must look again: a day or an instant (RFC 3339); by default in 30 days for a halt, in 7 for a pause
    #[arg(long, value_name = "WHEN")]
    next: Option<String>,
    #[command(flatten)]
    change: Change,
}

/// Options of `hold owner`.
#[derive(Debug, Args)]
pub struct Owner {
    /// The hold's id
    hold: String,
    /// The name of the token that owns it from now on
    owner: String,
    #[command(flatten)]
    change: Change,
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
        HoldCommand::List { all, overdue, each } => {
            let (path, none) = match (all, overdue) {
                (true, _) => ("/v1/holds", "nothing has been held"),
                (false, true) => ("/v1/holds?overdue=true", "no review is overdue"),
                (false, false) => ("/v1/holds?in_force=true", "nothing is held"),
            };
            let items = context.client.list(path, 1000).await?;
            context.show(&Value::from(items), |items| {
                let holds = items.as_array().map(Vec::as_slice).unwrap_or_default();
                if holds.is_empty() {
                    return vec![none.to_owned()];
                }
                list::lines(holds, each, context.width())
            });
        }
        HoldCommand::Show { hold } => {
            let answer: Value = context
                .client
                .get(&format!("/v1/holds/{}", escape(&hold)))
                .await?;
            context.show(&answer, |hold| shown(hold, context.width()));
        }
        HoldCommand::Review(command) => review(context, &command).await?,
        HoldCommand::Owner(command) => owner(context, &command).await?,
    }
    Ok(())
}

/// A hold with everything that is known of it; its people in words.
fn shown(hold: &Value, width: usize) -> Vec<String> {
    let mut lines = entry_lines(hold, width);
    let has = |pointer: &str| hold.pointer(pointer).is_some_and(|value| !value.is_null());
    let actors = hold.get("actors").and_then(Value::as_array);
    let actors: Vec<&str> = actors
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let owner = format!(
        "owner {} · asked for by {} · epoch {} · effect on people already moved: {}",
        text_of(hold, "/owner"),
        actors.join(", "),
        text_of(hold, "/epoch"),
        text_of(hold, "/effect")
    );
    lines.extend(wrap_in(&owner, 2, width));
    if has("/reported") {
        lines.push(format!(
            "  rule {} · policy {}",
            text_of(hold, "/reported/rule"),
            text_of(hold, "/reported/policy")
                .chars()
                .take(12)
                .collect::<String>()
        ));
    }
    if has("/review_at") {
        lines.push(format!(
            "  somebody must look at it again by {}",
            text_of(hold, "/review_at")
        ));
    }
    let workers = hold.get("workers").and_then(Value::as_array);
    for worker in workers.into_iter().flatten() {
        let until = match worker.get("can_send_until") {
            Some(Value::String(at)) => format!(", can send until {at}"),
            _ => String::new(),
        };
        lines.push(format!(
            "  worker {}: {}, {} in flight{until}",
            text_of(worker, "/name"),
            text_of(worker, "/standing"),
            count_of(worker, "/in_flight")
        ));
    }
    let people = hold.get("people");
    lines.extend(people.into_iter().flat_map(people_lines));
    lines
}

/// Whom of a wave a hold keeps back, when it means some of them.
#[must_use]
pub fn part_line(hold: &Value) -> Option<String> {
    let sentence = hold.pointer("/part/sentence").and_then(Value::as_str);
    sentence.map(str::to_owned)
}

/// What of the call that placed a hold was not taken as it was said.
pub fn note_lines(answer: &Value) -> impl Iterator<Item = String> + use<'_> {
    let notes = answer.get("notes").and_then(Value::as_array);
    let notes = notes.into_iter().flatten();
    notes.filter_map(Value::as_str).map(str::to_owned)
}

/// How many people a hold stops, and what becomes of them.
#[must_use]
pub fn people_lines(people: &Value) -> Vec<String> {
    let texts = |pointer| people.pointer(pointer).and_then(Value::as_array);
    let mut lines = Vec::new();
    if let Some(now) = people.get("now").filter(|now| !now.is_null()) {
        lines.push(format!(
            "people in {}",
            several(count_of(now, "/rollouts"), "rollout")
        ));
    }
    for sentence in texts("/sentences").into_iter().flatten() {
        lines.push(format!("  {}", sentence.as_str().unwrap_or_default()));
    }
    if let Some(why) = people.get("not_counted").and_then(Value::as_str) {
        lines.push(format!("  {why}"));
    }
    let rollouts = texts("/now/largest").filter(|rollouts| rollouts.len() > 1);
    for rollout in rollouts.into_iter().flatten() {
        let count = |field: &str| grouped(count_of(rollout, &format!("/people/{field}")));
        lines.push(format!(
            "  {}: {} not begun, {} in flight, {} moved",
            text_of(rollout, "/name"),
            count("not_begun"),
            count("in_flight"),
            count("moved")
        ));
    }
    if let Some(placed) = people.get("placed").filter(|placed| !placed.is_null()) {
        lines.push(format!(
            "  when it was placed: {} not begun, {} in flight, {} moved",
            grouped(count_of(placed, "/people/not_begun")),
            grouped(count_of(placed, "/people/in_flight")),
            grouped(count_of(placed, "/people/moved"))
        ));
    }
    lines
}

async fn review(context: &Context, review: &Review) -> Result<(), CliError> {
    let path = format!("/v1/holds/{}", escape(&review.hold));
    let next_review_at = instant::given("next", review.next.as_ref())?;
    if review.change.dry_run {
        let hold: Value = context.client.get(&path).await?;
        let next = review.next.as_deref().unwrap_or("the default date");
        context.would(&format!(
            "would review the {} of {}: the next review is then due at {next}; it stays in force, and nothing has changed",
            text_of(&hold, "/kind"),
            text_of(&hold, "/placed_by"),
        ));
        return Ok(());
    }
    let body = json!({"note": review.change.reason()?, "next_review_at": next_review_at});
    let seen = review.change.expect_rev;
    let answer: Value = context
        .client
        .post_if(&format!("{path}/review"), &body, seen)
        .await?;
    context.show(&answer, |answer| {
        vec![format!(
            "{} {} reviewed; it stays in force, and somebody must look again by {}",
            text_of(answer, "/kind"),
            text_of(answer, "/id"),
            text_of(answer, "/review_at")
        )]
    });
    Ok(())
}

async fn owner(context: &Context, owner: &Owner) -> Result<(), CliError> {
    let path = format!("/v1/holds/{}", escape(&owner.hold));
    if owner.change.dry_run {
        let hold: Value = context.client.get(&path).await?;
        context.would(&format!(
            "would hand the {} of {} from {} to {}; nothing has changed",
            text_of(&hold, "/kind"),
            text_of(&hold, "/placed_by"),
            text_of(&hold, "/owner"),
            owner.owner
        ));
        return Ok(());
    }
    let body = json!({"owner": owner.owner, "reason": owner.change.reason()?});
    let answer: Value = context
        .client
        .post_if(&format!("{path}/owner"), &body, owner.change.expect_rev)
        .await?;
    context.show(&answer, |answer| {
        vec![format!(
            "{} {} is owned by {} from now on",
            text_of(answer, "/kind"),
            text_of(answer, "/id"),
            text_of(answer, "/owner")
        )]
    });
    Ok(())
}

/// Waits until nobody can send under a hold, with a line of who has confirmed it on a terminal.
///
/// # Errors
/// As the service answers; when it takes longer than anything may, and when it is released meanwhile.
pub async fn until_quiet(context: &Context, placed: Value) -> Result<Value, CliError> {
    // Its people were counted when it was placed: whoever waits for silence counts nobody again.
    let path = format!(
        "/v1/holds/{}?people=false",
        escape(&text_of(&placed, "/id"))
    );
    let people = placed.get("people").cloned();
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
        if let (Some(fields), Some(people)) = (hold.as_object_mut(), &people) {
            fields.insert("people".to_owned(), people.clone());
        }
    }
}

/// Says whether nobody can send under a hold.
#[must_use]
pub fn is_quiet(hold: &Value) -> bool {
    hold.get("quiesced") == Some(&Value::Bool(true))
}

/// A hold in a few lines: the id is whole, because releasing it needs it.
fn entry_lines(hold: &Value, width: usize) -> Vec<String> {
    let scope = text_of(hold, "/covers");
    let head = format!(
        "{} of {scope}, since {} by {}",
        text_of(hold, "/kind"),
        minute_of(hold, "/placed_at"),
        text_of(hold, "/placed_by")
    );
    let mut below = vec![text_of(hold, "/reason")];
    let signals = count_of(hold, "/reported/signals");
    if signals > 0 {
        below.push(counted(signals, &text_of(hold, "/reported/worst")));
    }
    below.push(text_of(hold, "/id"));
    if hold.get("released_at").is_some_and(|at| !at.is_null()) {
        below.push(format!(
            "released {} by {}: {}",
            minute_of(hold, "/released_at"),
            text_of(hold, "/released_by"),
            text_of(hold, "/release_reason")
        ));
    } else {
        below.push(text_of(hold, "/sentence"));
    }
    below.extend(part_line(hold));
    let overdue = hold.get("overdue_since").and_then(Value::as_str);
    let overdue = overdue.and_then(|at| at.parse::<Timestamp>().ok());
    let gone = hold.get("owner_gone") == Some(&Value::Bool(true));
    let owner = gone.then(|| text_of(hold, "/owner"));
    let unseen = unseen(overdue, owner.as_ref());
    if !unseen.is_empty() {
        below.push(unseen.join(" · "));
    }
    let below = below.iter().flat_map(|text| wrap_in(text, 2, width));
    wrap(&head, width).into_iter().chain(below).collect()
}

/// Says whether the release of a halt would be carried out now, and what it waits for.
async fn halt_preview(
    context: &Context,
    path: &str,
    what: &str,
    digest: Option<&str>,
) -> Result<(), CliError> {
    let asked: Value = context.client.get(&format!("{path}/approvals")).await?;
    let looked: Value = context.client.get(&format!("{path}/preflight")).await?;
    let is_this = digest.is_some() && asked.pointer("/digest").and_then(Value::as_str) == digest;
    let is_ready = asked.get("status") == Some(&Value::from("ready"));
    if is_this && is_ready && looked.get("ok") == Some(&Value::Bool(true)) {
        context.would(&format!(
            "would release {what}; other holds stay; nothing has changed"
        ));
        return Ok(());
    }
    let missing = match (is_ready, is_this) {
        (false, _) => text_of(&asked, "/sentence"),
        (true, false) => "the digest is not the one that was approved".to_owned(),
        (true, true) => "the preflight is not passed".to_owned(),
    };
    context.would(&format!(
        "would not release {what}: {missing}; nothing has changed"
    ));
    Err(CliError::Silent(Exit::Held))
}

/// Runs `release`.
///
/// # Errors
/// As the service answers.
pub async fn release(context: &Context, release: &Release) -> Result<(), CliError> {
    let path = format!("/v1/holds/{}", escape(&release.hold));
    if release.change.dry_run {
        let hold: Value = context.client.get(&path).await?;
        let what = format!(
            "the {} of {} ({})",
            text_of(&hold, "/kind"),
            text_of(&hold, "/placed_by"),
            text_of(&hold, "/reason")
        );
        if hold.get("kind") == Some(&Value::from("halt")) {
            return halt_preview(context, &path, &what, release.digest.as_deref()).await;
        }
        context.would(&format!(
            "would release {what}; other holds stay; nothing has changed"
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
