//! `tidegate drift`: what a long stop has made of the people of a rollout.

use clap::Args;
use serde_json::{Value, json};

use super::client::escape;
use super::condition;
use super::context::{Context, count_of, text_of};
use super::error::CliError;
use super::table::{Table, grouped};

/// Whose drift, and what of it.
#[derive(Debug, Args)]
pub struct Drift {
    /// The rollout's name or id
    rollout: String,
    /// Measure it now: everybody of then beside everybody imported since
    #[arg(long)]
    measure: bool,
    /// Who is said to have been moved by hand meanwhile: ATTRIBUTE=VALUE, or a condition as in a spec, in JSON
    #[arg(long, value_name = "CONDITION", requires = "measure")]
    by_hand: Option<String>,
    /// List the people of one class, such as left or moved
    #[arg(long, conflicts_with = "measure")]
    class: Option<String>,
    /// At most this many people
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

/// Shows, measures or lists the drift of a rollout.
///
/// # Errors
///
/// When the service refuses, or cannot be reached.
pub async fn run(context: &Context, drift: &Drift) -> Result<(), CliError> {
    let path = format!("/v1/rollouts/{}/drift", escape(&drift.rollout));
    if let Some(class) = &drift.class {
        return people(context, drift, &path, class).await;
    }
    let view: Value = if drift.measure {
        let by_hand: Option<Value> = match &drift.by_hand {
            Some(text) => Some(condition::parsed("by-hand", text)?),
            None => None,
        };
        context
            .client
            .post(&path, &json!({"by_hand": by_hand}))
            .await?
    } else {
        context.client.get(&path).await?
    };
    context.show(&view, |view| lines(view, context.width()));
    Ok(())
}

async fn people(context: &Context, drift: &Drift, path: &str, class: &str) -> Result<(), CliError> {
    let limit = drift.limit.min(1000);
    let path = format!("{path}/people?class={}&limit={limit}", escape(class));
    let items = context.client.list(&path, drift.limit).await?;
    context.show(&Value::from(items), |items| {
        let keys = items.as_array().into_iter().flatten();
        keys.map(|item| text_of(item, "/key")).collect()
    });
    Ok(())
}

fn lines(view: &Value, width: usize) -> Vec<String> {
    let mut lines = vec![format!(
        "drift is {}: {}",
        text_of(view, "/status"),
        text_of(view, "/sentence")
    )];
    if view.pointer("/report").is_none_or(Value::is_null) {
        return lines;
    }
    lines.push(format!("measured  {}", text_of(view, "/measured_at")));
    lines.push(format!("digest    {}", text_of(view, "/digest")));
    lines.push(format!(
        "people    {} then, {} now",
        grouped(count_of(view, "/report/people_then")),
        grouped(count_of(view, "/report/people_now"))
    ));
    let mut outcome = Table::new(&["everybody, afterwards", ">people"]);
    let states = view.pointer("/report/outcome").and_then(Value::as_object);
    for (state, people) in states.into_iter().flatten() {
        outcome.row([state.clone(), grouped(people.as_u64().unwrap_or(0))]);
    }
    let mut classes = Table::new(&["class", ">people", "what happened"]);
    for class in rows(view, "/report/classes") {
        classes.row([
            text_of(class, "/class"),
            grouped(count_of(class, "/people")),
            text_of(class, "/sentence"),
        ]);
    }
    let mut waves = Table::new(&[">wave", "name", ">before", ">leave it", ">join it"]);
    for wave in rows(view, "/report/waves") {
        waves.row([
            text_of(wave, "/number"),
            text_of(wave, "/name"),
            grouped(count_of(wave, "/before")),
            grouped(count_of(wave, "/transferred")),
            grouped(count_of(wave, "/added")),
        ]);
    }
    for table in [outcome, classes, waves] {
        lines.push(String::new());
        lines.extend(table.lines(width));
    }
    lines
}

fn rows<'a>(view: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    view.pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}
