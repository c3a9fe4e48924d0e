//! What was measured: the table for people, the same as JSON for machines.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

/// One line of the table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// Where: SQLite, PostgreSQL, or the name of a server.
    pub(crate) on: String,
    /// Our figure, for people.
    pub(crate) ours: String,
    /// What it is measured beside, in the same run.
    pub(crate) reference: String,
    /// Ours in relation to the reference.
    pub(crate) ratio: Option<f64>,
    /// What is asked for.
    pub(crate) budget: String,
    /// Whether it is met; `None`: it could not be measured, or nothing is asked for.
    pub(crate) met: Option<bool>,
    /// Whether this is no budget but a promise: nobody moved under a halt.
    pub(crate) promised: bool,
    /// What the figure includes, and what else was seen.
    pub(crate) note: String,
    /// The plain numbers.
    pub(crate) figures: Value,
}

/// Everything measured so far.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Row>);

impl Report {
    /// Adds a line, and says it at once: a run takes minutes.
    pub(crate) fn add(&mut self, row: Row) {
        println!(
            "  {} {} [{}]: {} (reference {}, budget {}){}",
            mark(row.met),
            row.what,
            row.on,
            row.ours,
            text_or_dash(&row.reference),
            text_or_dash(&row.budget),
            if row.note.is_empty() {
                String::new()
            } else {
                format!("\n      {}", row.note)
            }
        );
        self.0.push(row);
    }

    /// Adds a line about something that could not be measured here.
    pub(crate) fn add_unmeasured(&mut self, what: &str, on: &str, why: &str) {
        self.add(Row {
            what: what.to_owned(),
            on: on.to_owned(),
            ours: "not measured".to_owned(),
            note: why.to_owned(),
            ..Row::default()
        });
    }

    /// Returns how many budgets are missed.
    pub(crate) fn missed(&self) -> usize {
        self.0.iter().filter(|row| row.met == Some(false)).count()
    }

    /// Says whether a promise was broken.
    pub(crate) fn is_broken(&self) -> bool {
        let is_broken = |row: &Row| row.promised && row.met == Some(false);
        self.0.iter().any(is_broken)
    }

    /// Writes the table for people.
    pub(crate) fn table(&self) -> String {
        let titles = ["what", "on", "ours", "reference", "ratio", "budget", "met"];
        let mut cells: Vec<[String; 7]> = vec![titles.map(str::to_owned)];
        cells.extend(self.0.iter().map(|row| {
            [
                row.what.clone(),
                row.on.clone(),
                row.ours.clone(),
                text_or_dash(&row.reference).to_owned(),
                row.ratio
                    .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
                text_or_dash(&row.budget).to_owned(),
                mark(row.met).to_owned(),
            ]
        }));
        let width = |column: usize| {
            let widths = cells.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0)
        };
        let mut text = String::new();
        for row in &cells {
            for (column, cell) in row.iter().enumerate() {
                let _ = write!(text, "{cell:<width$}  ", width = width(column));
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    /// Writes the same as JSON into a file.
    pub(crate) fn save(&self, path: &Path, about: &Value) {
        let rows = self.0.iter().map(|row| {
            json!({
                "what": row.what, "on": row.on, "ours": row.ours, "reference": row.reference,
                "ratio": row.ratio, "budget": row.budget, "met": row.met, "note": row.note,
                "figures": row.figures,
            })
        });
        let whole = json!({"about": about, "rows": rows.collect::<Vec<_>>()});
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).expect("a folder for the figures");
        }
        std::fs::write(path, format!("{whole:#}\n")).expect("the figures are written");
    }
}

fn text_or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn mark(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "-",
    }
}

/// Describes the machine the figures are of.
pub(crate) fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split(':').nth(1));
        value.unwrap_or_default().trim().to_owned()
    };
    json!({
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "processor": after(&read("/proc/cpuinfo"), "model name"),
        "memory": after(&read("/proc/meminfo"), "MemTotal"),
        "load_before": read("/proc/loadavg").trim(),
    })
}

/// Writes a number of things with a suffix: `1.50 M`, `37 k`.
pub(crate) fn short(number: f64) -> String {
    if number >= 1e6 {
        format!("{:.2} M", number / 1e6)
    } else if number >= 1e4 {
        format!("{:.0} k", number / 1e3)
    } else {
        format!("{number:.0}")
    }
}
