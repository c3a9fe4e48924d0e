//! Verbs that stop a rollout, let it go on, or change its course.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tidegate_orchestrator::hold::place::NO_REASON;
use tidegate_orchestrator::ids::Timestamp;
use tidegate_orchestrator::sentence;

use super::client::escape;
use super::condition;
use super::context::{Change, Context, text_of};
use super::error::{CliError, Exit};
use super::hold::{is_quiet, note_lines, part_line, people_lines, until_quiet};
use super::screen::{count, settled};
use super::table::grouped;
use super::{instant, resume};
use crate::operations::emergency::EmergencyView;
use crate::operations::view::{RolloutView, WaveView};

/// How often stop is said while the service answers that its database is away.
const STOP_ATTEMPTS: u32 = 10;
/// How long to wait in between.
const STOP_AGAIN: Duration = Duration::from_secs(1);

/// A rollout and why it is changed.
#[derive(Debug, Args)]
pub struct Steer {
    /// The rollout's name or id
    rollout: String,
    #[command(flatten)]
    change: Change,
}

/// A rollout that is given up, and its name once more.
#[derive(Debug, Args)]
pub struct Cancel {
    #[command(flatten)]
    steer: Steer,
    /// The rollout's name again: nothing brings a cancelled rollout back. On a terminal it is asked for
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

/// A rollout, or one wave of it, whose failed people are tried again.
#[derive(Debug, Args)]
pub struct Retry {
    #[command(flatten)]
    steer: Steer,
    /// Only the wave of this number, also when it has passed; else every wave that was open and has not passed
    #[arg(long, value_name = "NUMBER")]
    wave: Option<u32>,
}

/// What `halt` and `pause` stop.
#[derive(Debug, Args)]
pub struct Stop {
    /// The rollout's name or id
    #[arg(conflicts_with_all = ["everything", "target"])]
    rollout: Option<String>,
    /// Only the wave of this number
    #[arg(long, value_name = "NUMBER", requires = "rollout", conflicts_with_all = ["everything", "target"])]
    wave: Option<u32>,
    /// Only those of the wave with whom nobody has begun and for whom this holds: ATTRIBUTE=VALUE, or a condition
    /// as in a spec, in JSON. The whole wave stands until they are sorted out; then the others go on
    #[arg(long = "where", value_name = "CONDITION", requires = "wave")]
    condition: Option<String>,
    /// Everything, whatever it is
    #[arg(long, conflicts_with = "target")]
    everything: bool,
    /// Everything that goes to this target
    #[arg(long)]
    target: Option<String>,
    /// What it means for people who were moved already: keep, freeze or revert
    #[arg(long, value_name = "EFFECT")]
    effect: Option<String>,
    /// When somebody must look at it again: a day or an instant (RFC 3339); by default in 30 days for a halt, in 7 for a
    /// pause. No stop is refused for a date that is none: the default counts, and it is said
    #[arg(long, value_name = "WHEN")]
    review_at: Option<String>,
    /// Wait until every worker has confirmed it, or can no longer send
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    change: Change,
}

/// A person who was not moved after all.
#[derive(Debug, Args)]
pub struct Disprove {
    /// The rollout's name or id
    rollout: String,
    /// The person's directory id
    person: String,
    #[command(flatten)]
    change: Change,
}

/// A wave and the plan it is approved for.
#[derive(Debug, Args)]
pub struct Approve {
    /// The rollout's name or id
    rollout: String,
    /// The number of the wave
    wave: u32,
    /// The digest of the plan you have read; the rollout's own when it is not given
    #[arg(long)]
    digest: Option<String>,
    #[command(flatten)]
    change: Change,
}

/// Places a hold. A halt asks nothing back: one call, and it stands.
///
/// # Errors
/// As the service answers.
pub async fn stop(context: &Context, kind: &str, stop: &Stop) -> Result<(), CliError> {
    let scope = match (&stop.rollout, &stop.target, stop.wave) {
        (Some(rollout), _, Some(wave)) => {
            let mut scope = json!({"type": "wave", "id": rollout, "wave": wave});
            if let (Some(text), Some(scope)) = (&stop.condition, scope.as_object_mut()) {
                scope.insert("where".to_owned(), condition::parsed("where", text)?);
            }
            scope
        }
        (Some(rollout), _, None) => json!({"type": "rollout", "id": rollout}),
        (None, Some(target), _) => json!({"type": "target", "id": target}),
        (None, None, _) if stop.everything => json!({"type": "everything"}),
        (None, None, _) => {
            return Err(CliError::Usage(format!(
                "say what to {kind}: a rollout by its name, `--target NAME`, or `--everything`"
            )));
        }
    };
    if stop.change.expect_rev.is_some() {
        return Err(CliError::Usage(
            "a stop is never refused as stale: leave --expect-rev out".to_owned(),
        ));
    }
    // Whoever halts at 3 a.m. must not be sent back for a reason, and a drill has none.
    let reason = match stop.change.reason() {
        Err(_) if kind == "halt" || stop.change.dry_run => NO_REASON,
        reason => reason?,
    };
    let review_at = review_of(stop)?;
    let body = json!({"kind": kind, "scope": scope, "reason": reason, "effect": stop.effect,
        "review_at": review_at});
    if stop.change.dry_run {
        return preview(context, (kind, stop), &body).await;
    }
    let mut answer = said(context, &body).await?;
    if stop.wait {
        answer = until_quiet(context, answer).await?;
    }
    context.show(&answer, |answer| {
        let quiet = if is_quiet(answer) {
            "quiesced: nobody can send"
        } else {
            "not yet quiesced"
        };
        let mut lines = vec![
            format!(
                "{kind} in force · hold {} · epoch {} · {quiet}",
                text_of(answer, "/id"),
                text_of(answer, "/epoch")
            ),
            text_of(answer, "/sentence"),
        ];
        lines.extend(note_lines(answer));
        lines.extend(part_line(answer));
        lines.extend(answer.get("people").iter().flat_map(|it| people_lines(it)));
        let id = text_of(answer, "/id");
        lines.push(if kind == "halt" {
            format!("to release it takes several people, and begins with: tidegate preflight {id}")
        } else {
            format!("to release it: tidegate release {id} --reason \"…\"")
        });
        lines
    });
    Ok(())
}

/// Says stop, again and again while the service is there and its database is not. Said twice it is one stop.
async fn said(context: &Context, body: &Value) -> Result<Value, CliError> {
    for attempt in 1..STOP_ATTEMPTS {
        match context.client.post("/v1/holds", body).await {
            Err(error) if is_passing(&error) => {
                eprintln!("{error}\nnot stopped yet: trying again ({attempt} of {STOP_ATTEMPTS})");
                tokio::time::sleep(STOP_AGAIN).await;
            }
            answered => return answered,
        }
    }
    context.client.post("/v1/holds", body).await
}

/// Whether a moment may help: the service or what is in front of it says so.
fn is_passing(error: &CliError) -> bool {
    match error {
        CliError::Problem(problem) => problem.status == 503,
        CliError::Foreign { status, .. } => (502..=504).contains(status),
        _ => false,
    }
}

/// Reads when somebody must look at a stop again. A date that is none keeps none from standing; a drill is refused
/// for it, so that it is found before it matters.
fn review_of(stop: &Stop) -> Result<Option<Timestamp>, CliError> {
    match instant::given("review-at", stop.review_at.as_ref()) {
        Err(error) if !stop.change.dry_run => {
            eprintln!("{error}; the usual date counts");
            Ok(None)
        }
        given => given,
    }
}

/// Says whom a stop would stop, and places nothing.
async fn preview(
    context: &Context,
    (kind, stop): (&str, &Stop),
    body: &Value,
) -> Result<(), CliError> {
    let what = covered(context, stop).await?;
    let mut answer: Value = context.client.post("/v1/holds?dry_run=true", body).await?;
    let would = match answer.get("hold").and_then(Value::as_str) {
        Some(hold) => format!(
            "would join the {kind} on {what} that is in force already ({hold}); nothing has changed"
        ),
        None => format!("would place a {kind} on {what}; nothing has changed"),
    };
    if let Some(fields) = answer.as_object_mut() {
        // Which of the two it would be is in the sentence, as of every other verb.
        fields.insert("would".to_owned(), would.clone().into());
    }
    context.show(&answer, |answer| {
        let mut lines = vec![would];
        lines.extend(part_line(answer));
        lines.extend(answer.get("people").iter().flat_map(|it| people_lines(it)));
        lines.extend(note_lines(answer));
        lines.push(format!(
            "somebody must look at it again by {}",
            text_of(answer, "/review_at")
        ));
        lines
    });
    Ok(())
}

/// Says what a stop would cover; a drill with a name that is not there must not pass.
async fn covered(context: &Context, stop: &Stop) -> Result<String, CliError> {
    let name = match (&stop.rollout, &stop.target, stop.wave) {
        (Some(rollout), _, wave) => {
            let path = format!("/v1/rollouts/{}", escape(rollout));
            let view: RolloutView = context.client.get(&path).await?;
            match wave {
                Some(wave) => {
                    let path = format!("{path}/waves/{wave}");
                    let wave: Value = context.client.get(&path).await?;
                    let whom = match &stop.condition {
                        Some(condition) => format!("those with {condition} in "),
                        None => String::new(),
                    };
                    format!(
                        "{whom}wave `{}` of rollout `{}`",
                        text_of(&wave, "/name"),
                        view.name
                    )
                }
                None => format!("rollout `{}`", view.name),
            }
        }
        (None, Some(target), _) => {
            let path = format!("/v1/targets/{}", escape(target));
            let view: Value = context.client.get(&path).await?;
            format!("everything that goes to `{}`", text_of(&view, "/name"))
        }
        (None, None, _) => "everything".to_owned(),
    };
    Ok(name)
}

/// Runs `retry`.
///
/// # Errors
/// As `steer`.
pub async fn retry(context: &Context, retry: &Retry) -> Result<(), CliError> {
    change(context, "retry", &retry.steer, retry.wave).await
}

/// Gives a rollout up, once somebody has typed its name. Stopping needs no confirmation; this is for good.
///
/// # Errors
/// When the name is missing or another one, and as `steer`.
pub async fn cancel(context: &Context, cancel: &Cancel) -> Result<(), CliError> {
    let steer = &cancel.steer;
    if !steer.change.dry_run {
        steer.change.reason()?;
        let path = format!("/v1/rollouts/{}", escape(&steer.rollout));
        let view: RolloutView = context.client.get(&path).await?;
        let left = count(&view.totals, "people").saturating_sub(settled(&view.totals));
        let people = sentence::people(left);
        let name = &view.name;
        let warning =
            format!("cancelling `{name}` gives up {people} who have not been moved, for good");
        let said = match &cancel.confirm {
            Some(said) => Some(said.clone()),
            None => asked(&format!("{warning}; type its name to go on: ")),
        };
        if said.as_ref() != Some(name) {
            return Err(CliError::Failed(match said {
                Some(said) => {
                    format!("{warning}: `{said}` is not its name, and nothing has changed")
                }
                None => format!("{warning}: say `--confirm {name}`; nothing has changed"),
            }));
        }
    }
    change(context, "cancel", steer, None).await
}

/// Asks whoever sits at the terminal; nothing when nobody does.
fn asked(question: &str) -> Option<String> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return None;
    }
    eprint!("{question}");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).ok()?;
    Some(line.trim().to_owned())
}

/// Runs `resume`.
///
/// # Errors
/// As the service answers; what is still held ends with code 3, what is halted with code 4.
pub async fn steer(context: &Context, verb: &str, steer: &Steer) -> Result<(), CliError> {
    change(context, verb, steer, None).await
}

async fn change(
    context: &Context,
    verb: &str,
    steer: &Steer,
    wave: Option<u32>,
) -> Result<(), CliError> {
    let path = format!("/v1/rollouts/{}", escape(&steer.rollout));
    if steer.change.dry_run {
        let view: RolloutView = context.client.get(&path).await?;
        context.would(&match verb {
            "resume" => {
                let emergencies = context.client.get(&format!("{path}/emergencies")).await?;
                let emergencies: Vec<EmergencyView> = emergencies;
                resume::preview(&view, &emergencies)
            }
            _ => preview_of(verb, &view, wave),
        });
        return Ok(());
    }
    // Which pauses there were is known before they are let go.
    let before: Option<RolloutView> = match verb {
        "resume" => Some(context.client.get(&path).await?),
        _ => None,
    };
    let mut body = json!({"reason": steer.change.reason()?});
    if let (Some(wave), Some(fields)) = (wave, body.as_object_mut()) {
        fields.insert("wave".to_owned(), wave.into());
    }
    let answer: Value = context
        .client
        .post_if(&format!("{path}/{verb}"), &body, steer.change.expect_rev)
        .await?;
    context.show(&answer, |answer| {
        let (name, status) = (text_of(answer, "/name"), text_of(answer, "/status"));
        let Some(before) = &before else {
            return vec![format!("{verb}: `{name}` is {status}")];
        };
        let pauses: Vec<String> = resume::lifted(before).map(resume::named).collect();
        let first = resume::said(&name, &status, pauses.len());
        let pauses = pauses.iter().map(|pause| format!("  let go: {pause}"));
        std::iter::once(first).chain(pauses).collect()
    });
    match text_of(&answer, "/status").as_str() {
        "halted" if verb != "cancel" => Err(CliError::Silent(Exit::Halted)),
        "paused" | "held" if verb == "resume" => Err(CliError::Silent(Exit::Held)),
        _ => Ok(()),
    }
}

fn preview_of(verb: &str, view: &RolloutView, wave: Option<u32>) -> String {
    let people = count(&view.totals, "people");
    let affected = match verb {
        "retry" => {
            // A wave that has passed is taken up again only by name.
            let (tried, stay): (Vec<_>, Vec<_>) = view.waves.iter().partition(|found| match wave {
                Some(wave) => found.number == wave,
                None => found.state != "passed",
            });
            let failed = |waves: &[&WaveView]| -> u64 {
                waves.iter().map(|wave| count(&wave.counts, "failed")).sum()
            };
            let (failed, stay) = (failed(&tried), failed(&stay));
            let others = if stay > 0 {
                format!(
                    "; {} of other waves would not: name one with --wave",
                    grouped(stay)
                )
            } else {
                String::new()
            };
            format!(
                "{} failed people would be tried again{others}",
                grouped(failed)
            )
        }
        "cancel" => format!(
            "{} would not be moved",
            sentence::people(people.saturating_sub(settled(&view.totals)))
        ),
        other => format!("{other} would be carried out"),
    };
    format!(
        "{verb} of `{}` (now {}): {affected}; nothing has changed",
        view.name, view.status
    )
}

/// Runs `disprove`.
///
/// # Errors
/// As the service answers; only who counts as moved can be taken back.
pub async fn disprove(context: &Context, disprove: &Disprove) -> Result<(), CliError> {
    let path = format!(
        "/v1/rollouts/{}/members/{}",
        escape(&disprove.rollout),
        escape(&disprove.person)
    );
    if disprove.change.dry_run {
        let answer: Value = context.client.get(&path).await?;
        let state = text_of(&answer, "/state");
        if state != "done" {
            return Err(CliError::Usage(format!(
                "would be refused: `{}` is {state}, and only who counts as moved can be taken back",
                disprove.person
            )));
        }
        context.would(&format!(
            "`{}` is done; would count as failed, and the wave would be judged anew; nothing has changed",
            disprove.person
        ));
        return Ok(());
    }
    let body = json!({"reason": disprove.change.reason()?});
    let answer: Value = context
        .client
        .post(&format!("{path}/disprove"), &body)
        .await?;
    context.show(&answer, |answer| {
        vec![format!(
            "`{}` is {}: {}",
            disprove.person,
            text_of(answer, "/state"),
            text_of(answer, "/why")
        )]
    });
    Ok(())
}

/// Runs `approve`.
///
/// # Errors
/// As the service answers; an approval of another plan is refused.
pub async fn approve(context: &Context, approve: &Approve) -> Result<(), CliError> {
    let path = format!("/v1/rollouts/{}", escape(&approve.rollout));
    let view: RolloutView = context.client.get(&path).await?;
    let digest = match &approve.digest {
        Some(digest) => digest.clone(),
        None => view.plan_digest.clone().ok_or_else(|| {
            CliError::Usage(format!(
                "`{}` has no plan to approve: make one with `tidegate plan`",
                view.name
            ))
        })?,
    };
    if approve.change.dry_run {
        if !view.waves.iter().any(|wave| wave.number == approve.wave) {
            return Err(CliError::Usage(format!(
                "would be refused: `{}` has no wave {}",
                view.name, approve.wave
            )));
        }
        context.would(&format!(
            "would approve wave {} of `{}` for plan {digest}; nothing has changed",
            approve.wave, view.name
        ));
        return Ok(());
    }
    let body = json!({"digest": digest, "reason": approve.change.reason()?});
    let path = format!("{path}/waves/{}/approve", approve.wave);
    let answer: Value = context
        .client
        .post_if(&path, &body, approve.change.expect_rev)
        .await?;
    context.show(&answer, |_| {
        vec![format!(
            "wave {} of `{}` approved for plan {digest}",
            approve.wave, view.name
        )]
    });
    Ok(())
}
