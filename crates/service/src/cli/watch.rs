//! Looking on: `status`, `watch`, `why`, `why-not-now`, `members`.

use std::time::Duration;

use clap::Args;
use console::Term;
use serde_json::{Value, json};
use tidegate_orchestrator::sentence::people;

use super::client::escape;
use super::context::{Context, OutputFormat, text_of};
use super::error::{CliError, Exit};
use super::screen;
use super::table::{Table, wrap, wrap_in};
use crate::operations::view::RolloutView;

/// How often a live screen asks again.
const TICK: Duration = Duration::from_millis(500);

/// Options of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// The rollout's name or id; all of them when none is named
    rollout: Option<String>,
    /// Wait until it is completed, cancelled or held
    #[arg(long, requires = "rollout")]
    wait: bool,
    /// Wait no longer than this many seconds
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    timeout: Option<u64>,
}

/// Options of `watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// The rollout's name or id
    rollout: String,
}

/// Options of `why`.
#[derive(Debug, Args)]
pub struct Why {
    /// The person's directory id
    person: String,
    /// The rollout's name or id; every rollout when none is named
    #[arg(long, short)]
    rollout: Option<String>,
}

/// Options of `members`.
#[derive(Debug, Args)]
pub struct Members {
    /// The rollout's name or id
    rollout: String,
    /// Only people in this state, such as failed or review
    #[arg(long)]
    state: Option<String>,
    /// Only people of this wave
    #[arg(long)]
    wave: Option<u32>,
    /// At most this many
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

async fn view_of(context: &Context, rollout: &str) -> Result<RolloutView, CliError> {
    context
        .client
        .get(&format!("/v1/rollouts/{}", escape(rollout)))
        .await
}

fn exit_of(view: &RolloutView) -> Result<(), CliError> {
    match view.status.as_str() {
        "halted" => Err(CliError::Silent(Exit::Halted)),
        "paused" | "held" | "frozen" => Err(CliError::Silent(Exit::Held)),
        "cancelled" => Err(CliError::Silent(Exit::Error)),
        _ => Ok(()),
    }
}

fn has_ended(view: &RolloutView) -> bool {
    matches!(
        view.status.as_str(),
        "completed" | "cancelled" | "halted" | "paused" | "held" | "frozen"
    )
}

/// Runs `status`.
///
/// # Errors
/// As the service answers; a rollout that is held ends with code 3, a halted one with code 4.
pub async fn status(context: &Context, status: &Status) -> Result<(), CliError> {
    let Some(rollout) = &status.rollout else {
        return list(context).await;
    };
    let until = status.timeout.map(|seconds| {
        context
            .clock
            .monotonic()
            .0
            .saturating_add(seconds.saturating_mul(1000))
    });
    loop {
        let view = view_of(context, rollout).await?;
        if !status.wait || has_ended(&view) {
            print_view(context, &view);
            return exit_of(&view);
        }
        if until.is_some_and(|until| context.clock.monotonic().0 >= until) {
            print_view(context, &view);
            return Err(CliError::Failed(format!(
                "`{rollout}` is still {} after the time given",
                view.status
            )));
        }
        tokio::time::sleep(TICK).await;
    }
}

fn print_view(context: &Context, view: &RolloutView) {
    context.show(&json!(view), |_| {
        screen::render(view, context.now(), context.width(), context.palette)
    });
}

async fn list(context: &Context) -> Result<(), CliError> {
    let items = context.client.list("/v1/rollouts", 1000).await?;
    context.show(&Value::from(items), |items| {
        let mut table = Table::new(&["rollout", "status", "why nothing moves"]).wrapping();
        for item in items.as_array().into_iter().flatten() {
            let status = text_of(item, "/status");
            let (glyph, tone) = super::palette::mark(&status);
            table.row([
                text_of(item, "/name"),
                context.palette.paint(tone, &format!("{glyph} {status}")),
                text_of(item, "/why_not_now/sentence"),
            ]);
        }
        table.lines(context.width())
    });
    Ok(())
}

/// Runs `watch`: redraws the screen until the rollout has ended, or control-C.
///
/// # Errors
/// As the service answers.
pub async fn watch(context: &Context, watch: &Watch) -> Result<(), CliError> {
    let mut live = LiveScreen::new();
    loop {
        let view = view_of(context, &watch.rollout).await?;
        if context.output == OutputFormat::Json {
            println!("{}", json!(view));
        } else {
            live.draw(&screen::render(
                &view,
                context.now(),
                context.width(),
                context.palette,
            ));
        }
        if matches!(view.status.as_str(), "completed" | "cancelled") {
            return exit_of(&view);
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Redraws a block of lines in place; where there is no terminal, prints it when it changed.
#[derive(Debug)]
pub struct LiveScreen {
    terminal: Term,
    drawn: usize,
    last: Vec<String>,
}

impl LiveScreen {
    /// Starts below the cursor.
    #[must_use]
    pub fn new() -> Self {
        Self {
            terminal: Term::stdout(),
            drawn: 0,
            last: Vec::new(),
        }
    }

    /// Says whether lines can be drawn over.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.terminal.is_term()
    }

    /// Draws the lines over those drawn last.
    pub fn draw(&mut self, lines: &[String]) {
        if lines == self.last.as_slice() {
            return;
        }
        if self.terminal.is_term() {
            let mut text = String::new();
            if self.drawn > 0 {
                text.push_str(&format!("\u{1b}[{}A", self.drawn));
            }
            for line in lines {
                text.push_str(&format!("\u{1b}[2K{line}\n"));
            }
            text.push_str("\u{1b}[0J");
            // A terminal that is gone ends the command soon enough by itself.
            let _ = self.terminal.write_str(&text);
        } else {
            println!("{}\n", lines.join("\n"));
        }
        self.drawn = lines.len();
        self.last = lines.to_vec();
    }
}

impl Default for LiveScreen {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs `why`.
///
/// # Errors
/// As the service answers, and when no rollout knows the person.
pub async fn why(context: &Context, why: &Why) -> Result<(), CliError> {
    let rollouts = match &why.rollout {
        Some(rollout) => vec![rollout.clone()],
        None => {
            let items = context.client.list("/v1/rollouts", 1000).await?;
            // Nobody is in a rollout that has no plan.
            let planned =
                |item: &&Value| item.get("plan_digest").is_some_and(|plan| !plan.is_null());
            let planned = items.iter().filter(planned);
            planned.map(|item| text_of(item, "/name")).collect()
        }
    };
    let mut found = Vec::new();
    for rollout in rollouts {
        let path = format!(
            "/v1/rollouts/{}/members/{}",
            escape(&rollout),
            escape(&why.person)
        );
        if let Some(member) = context.client.find::<Value>(&path).await? {
            found.push(json!({"rollout": rollout, "member": member}));
        }
    }
    if found.is_empty() {
        return Err(CliError::Usage(format!(
            "no rollout has a person with the directory id `{}`: look them up with `tidegate population member`",
            why.person
        )));
    }
    context.show(&Value::from(found), |found| {
        found
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(why_lines)
            .collect()
    });
    Ok(())
}

fn why_lines(found: &Value) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{} in {}: {}",
            text_of(found, "/member/key"),
            text_of(found, "/rollout"),
            text_of(found, "/member/state")
        ),
        format!("  {}", text_of(found, "/member/why")),
    ];
    if found.pointer("/member/wave/name").is_some() {
        lines.push(format!(
            "  wave {} ({}) · attempts {} · last change {}",
            text_of(found, "/member/wave/number"),
            text_of(found, "/member/wave/name"),
            text_of(found, "/member/attempts"),
            text_of(found, "/member/changed_at"),
        ));
    }
    if found.pointer("/member/failure/message").is_some() {
        lines.push(format!(
            "  {}: {}",
            text_of(found, "/member/failure/code"),
            text_of(found, "/member/failure/message")
        ));
    }
    lines
}

/// Runs `why-not-now`: one sentence for why nothing moves, and what the planner saw.
///
/// # Errors
/// As the service answers; as `status`, a rollout that is held ends with code 3, a halted one with code 4.
pub async fn why_not_now(context: &Context, rollout: &str) -> Result<(), CliError> {
    let view = view_of(context, rollout).await?;
    let report: Value = context
        .client
        .get(&format!("/v1/rollouts/{}/report", escape(rollout)))
        .await?;
    context.show(
        &json!({"why_not_now": view.why_not_now, "report": report}),
        |_| {
            let first = match &view.why_not_now {
                Some(reason) => reason.sentence.clone(),
                None => format!("it moves: {} in flight", people(view.in_flight)),
            };
            let width = context.width();
            let mut lines = wrap(&format!("{} · {first}", view.name), width);
            let found = report.get("lines").and_then(Value::as_array);
            for line in found.into_iter().flatten() {
                let sentence = match line.get("wave").and_then(Value::as_u64) {
                    Some(wave) => format!("wave {wave}: {}", text_of(line, "/sentence")),
                    None => text_of(line, "/sentence"),
                };
                lines.extend(wrap_in(&sentence, 2, width));
            }
            lines.push(format!(
                "  the planner looks again at {}",
                text_of(&report, "/wake_at")
            ));
            lines
        },
    );
    exit_of(&view)
}

/// Runs `members`.
///
/// # Errors
/// As the service answers.
pub async fn members(context: &Context, members: &Members) -> Result<(), CliError> {
    let mut path = format!(
        "/v1/rollouts/{}/members?limit={}",
        escape(&members.rollout),
        members.limit.min(1000)
    );
    if let Some(state) = &members.state {
        path.push_str(&format!("&state={}", escape(state)));
    }
    if let Some(wave) = members.wave {
        path.push_str(&format!("&wave={wave}"));
    }
    let items = context.client.list(&path, members.limit).await?;
    if context.output == OutputFormat::Csv {
        return written(&items);
    }
    context.show(&Value::from(items), |items| {
        let mut table = Table::new(&[
            "person",
            ">wave",
            "state",
            ">attempts",
            "since",
            "what happened",
        ]);
        for item in items.as_array().into_iter().flatten() {
            table.row([
                text_of(item, "/key"),
                text_of(item, "/wave"),
                text_of(item, "/state"),
                text_of(item, "/attempts"),
                text_of(item, "/changed_at"),
                text_of(item, "/message"),
            ]);
        }
        table.lines(context.width())
    });
    Ok(())
}

/// Writes people for a spreadsheet.
fn written(items: &[Value]) -> Result<(), CliError> {
    let mut writer = csv::Writer::from_writer(std::io::stdout().lock());
    let fields = ["key", "wave", "state", "attempts", "changed_at", "message"];
    let text = |item: &Value, field: &str| match item.get(field) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    };
    let rows = items
        .iter()
        .map(|item| fields.map(|field| text(item, field)));
    let head = fields.map(str::to_owned);
    for row in std::iter::once(head).chain(rows) {
        writer
            .write_record(row)
            .map_err(|error| CliError::Failed(format!("the list could not be written: {error}")))?;
    }
    writer
        .flush()
        .map_err(|error| CliError::Failed(format!("the list could not be written: {error}")))
}
