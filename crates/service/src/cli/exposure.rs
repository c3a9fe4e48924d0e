//! `exposure`: who was moved, on the way or untouched between two instants.

use clap::Args;
use serde_json::{Value, json};

use super::client::escape;
use super::context::{Context, OutputFormat, text_of};
use super::error::CliError;
use super::screen::{count, instant, percent};
use super::table::{Table, grouped};
use crate::operations::exposure::view::ExposureView;
use crate::operations::view::Counts;

/// Options of `exposure`.
#[derive(Debug, Args)]
pub struct Exposure {
    /// The rollout's name or id
    rollout: String,
    /// The first instant or day (UTC), such as 2024-01-12T09:00:00Z; else the creation of the rollout
    #[arg(long, value_name = "INSTANT")]
    from: Option<String>,
    /// The last instant or day (UTC); else now
    #[arg(long, value_name = "INSTANT")]
    to: Option<String>,
    /// Attributes to count by, with commas; else country and department
    #[arg(long, value_name = "ATTRIBUTES", conflicts_with = "class")]
    by: Option<String>,
    /// Name the people of this class, such as exposed or in_flight
    #[arg(long)]
    class: Option<String>,
    /// Name at most so many of them
    #[arg(long, default_value_t = 100, requires = "class")]
    limit: usize,
    /// Answer as of this entry of the audit trail; else its end
    #[arg(long, value_name = "ENTRY")]
    seq: Option<i64>,
}

impl Exposure {
    /// The address of what is asked for.
    fn path(&self, what: &str, more: &[(&str, Option<&str>)]) -> String {
        let seq = self.seq.map(|seq| seq.to_string());
        let given = [
            ("from", self.from.as_deref()),
            ("to", self.to.as_deref()),
            ("seq", seq.as_deref()),
            ("class", self.class.as_deref()),
        ];
        let given = given.iter().chain(more);
        let pairs = given.filter_map(|(name, value)| Some(format!("{name}={}", escape((*value)?))));
        format!(
            "/v1/rollouts/{}/exposure{what}?{}",
            escape(&self.rollout),
            pairs.collect::<Vec<_>>().join("&")
        )
    }
}

/// Runs `exposure`.
///
/// # Errors
/// As the service answers.
pub async fn exposure(context: &Context, asked: &Exposure) -> Result<(), CliError> {
    if context.output == OutputFormat::Csv {
        let path = asked.path("/people", &[("format", Some("csv"))]);
        return context.client.download(&path, &mut std::io::stdout()).await;
    }
    if asked.class.is_some() {
        return people(context, asked).await;
    }
    let path = asked.path("", &[("by", asked.by.as_deref())]);
    let view: ExposureView = context.client.get(&path).await?;
    context.show(&json!(view), |_| lines(&view));
    Ok(())
}

async fn people(context: &Context, asked: &Exposure) -> Result<(), CliError> {
    let limit = asked.limit.min(1000).to_string();
    let path = asked.path("/people", &[("limit", Some(&limit))]);
    let items = context.client.list(&path, asked.limit).await?;
    context.show(&Value::from(items), |items| {
        let mut table = Table::new(&["person", ">wave", "class", "state", "since"]);
        for item in items.as_array().into_iter().flatten() {
            table.row(["/key", "/wave", "/class", "/state", "/since"].map(|at| text_of(item, at)));
        }
        table.lines(context.width())
    });
    Ok(())
}

/// Draws the answer in 80 columns.
fn lines(view: &ExposureView) -> Vec<String> {
    let mut lines = vec![
        format!("exposure of {}", view.rollout),
        format!("  from {} to {}", instant(view.from), instant(view.to)),
        format!(
            "  {} people, as of entry {} of the trail, read {}",
            grouped(view.people),
            view.data_version.seq,
            instant(view.generated_at)
        ),
    ];
    if view.unexplained > 0 {
        lines.push(format!(
            "  ✖ {} people stand elsewhere than the trail says: run `tidegate fsck`",
            grouped(view.unexplained)
        ));
    }
    lines.push(String::new());
    lines.extend(classes(view).lines(80));
    lines.push(String::new());
    let waves = view.waves.iter().map(|wave| {
        let name = format!("{} {}", wave.number, wave.name);
        (name, wave.people, &wave.counts)
    });
    lines.extend(part("wave", waves).lines(80));
    for by in &view.by {
        lines.push(String::new());
        let values = by.values.iter().map(|value| {
            let name = value.value.clone().unwrap_or_else(|| "(none)".to_owned());
            (name, value.people, &value.counts)
        });
        let others = by.others.iter().map(|others| {
            let name = format!("({} others)", grouped(others.values));
            (name, others.people, &others.counts)
        });
        lines.extend(part(&by.attribute, values.chain(others)).lines(80));
    }
    lines.push(String::new());
    lines.push(format!("sha256 {}", view.digest));
    lines
        .push("  of everybody's lines: the same command with `-o csv | sha256sum`, and".to_owned());
    let written =
        |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    lines.push(format!(
        "  --from {} --to {}",
        written(view.from),
        written(view.to)
    ));
    lines.push(format!(
        "  --seq {} gives this answer whenever it is asked for",
        view.data_version.seq
    ));
    lines
}

fn classes(view: &ExposureView) -> Table {
    let mut table = Table::new(&["class", ">people", ">share", "where they were at the end"]);
    // In the order of the classes, the worst first.
    let names = tidegate_orchestrator::ledger::exposure::ExposureClass::ALL;
    for class in names.map(|class| class.name()) {
        let people = count(&view.counts, class);
        let states = view.states.get(class).into_iter().flatten();
        let states: Vec<String> = states
            .map(|(state, people)| format!("{} {state}", grouped(*people)))
            .collect();
        let is_shown = people > 0 || ["exposed", "in_flight", "untouched"].contains(&class);
        if is_shown {
            table.row([
                class.replace('_', " "),
                grouped(people),
                percent(people, view.people),
                states.join(", "),
            ]);
        }
    }
    table
}

fn part<'a>(head: &str, rows: impl Iterator<Item = (String, u64, &'a Counts)>) -> Table {
    let mut table = Table::new(&[
        head,
        ">people",
        ">exposed",
        ">in flight",
        ">untouched",
        ">others",
    ]);
    for (name, people, counts) in rows {
        let named = ["exposed", "in_flight", "untouched"].map(|class| count(counts, class));
        let others = people.saturating_sub(named.iter().sum());
        let [exposed, in_flight, untouched] = named.map(grouped);
        let name = console::truncate_str(&name, 28, "…").into_owned();
        table.row([
            name,
            grouped(people),
            exposed,
            in_flight,
            untouched,
            grouped(others),
        ]);
    }
    table
}
