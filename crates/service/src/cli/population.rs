//! Commands about who exists: populations, samples and imports.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::client::escape;
use super::context::{Context, count_of, text_of};
use super::error::CliError;
use super::table::{Table, grouped};
use crate::source;

/// What to do with populations.
#[derive(Debug, Subcommand)]
pub enum PopulationCommand {
    /// Create a population: a name, and which columns mean what
    Create(Create),
    /// List the populations
    List,
    /// Show one population and its columns
    Show {
        /// Its name or id
        population: String,
    },
    /// Show one member
    Member {
        /// The population's name or id
        population: String,
        /// The member's directory id
        key: String,
    },
    /// Write a made-up workforce to try things with
    Sample(Sample),
}

/// Options of `population create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name
    name: String,
    /// The column of the immutable directory id
    #[arg(long, default_value = "employee_id", value_name = "COLUMN")]
    key: String,
    /// The column that names a member's manager by directory id
    #[arg(long, value_name = "COLUMN")]
    manager: Option<String>,
    /// A column whose equal values keep members together; may be repeated
    #[arg(long, value_name = "COLUMN")]
    keep_together: Vec<String>,
    /// A JSON file with the whole mapping, in place of the options above
    #[arg(long, value_name = "FILE", conflicts_with_all = ["manager", "keep_together"])]
    mapping: Option<PathBuf>,
    /// Say what would happen, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Options of `population sample`.
#[derive(Debug, Args)]
pub struct Sample {
    /// How many people
    #[arg(long, default_value_t = 10_000)]
    people: u64,
    /// The same seed makes the same people
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write; the suffix says how: .csv or .ndjson, also .gz or .zst
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Options of `import`.
#[derive(Debug, Args)]
pub struct Import {
    /// The file: .csv or .ndjson, also .gz or .zst
    file: PathBuf,
    /// The population's name or id
    #[arg(long, short = 'p')]
    population: String,
    /// Create the population when there is none of that name
    #[arg(long)]
    create: bool,
    /// The format, when the suffix does not say it: csv or ndjson
    #[arg(long)]
    format: Option<String>,
    /// Refuse the file when more rows than this are bad
    #[arg(long, value_name = "ROWS")]
    bad_rows_max: Option<u64>,
    /// Publish although many people are missing; the reason goes into the audit trail
    #[arg(long, value_name = "REASON")]
    override_shrink: Option<String>,
    /// Read and check the file here, and send nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs a population command.
///
/// # Errors
/// As the service answers, or when a file cannot be written.
pub async fn run(context: &Context, command: PopulationCommand) -> Result<(), CliError> {
    match command {
        PopulationCommand::Create(create) => {
            let mapping = mapping_of(&create)?;
            if create.dry_run {
                let name = &create.name;
                context.would(&format!(
                    "would create population `{name}` with the mapping {mapping}; nothing has changed"
                ));
                return Ok(());
            }
            let body = json!({"name": create.name, "mapping": mapping});
            let answer: Value = context.client.post("/v1/populations", &body).await?;
            context.show(&answer, |answer| {
                vec![format!(
                    "population `{}` created ({})",
                    text_of(answer, "/name"),
                    text_of(answer, "/id")
                )]
            });
        }
        PopulationCommand::List => {
            let items = context.client.list("/v1/populations", 1000).await?;
            context.show(&Value::from(items), |items| {
                list_lines(items, context.width())
            });
        }
        PopulationCommand::Show { population } => {
            let answer: Value = context
                .client
                .get(&format!("/v1/populations/{}", escape(&population)))
                .await?;
            context.show(&answer, |answer| population_lines(answer, context.width()));
        }
        PopulationCommand::Member { population, key } => {
            let path = format!(
                "/v1/populations/{}/members/{}",
                escape(&population),
                escape(&key)
            );
            let answer: Value = context.client.get(&path).await?;
            context.show(&answer, member_lines);
        }
        PopulationCommand::Sample(sample) => write_sample(context, &sample)?,
    }
    Ok(())
}

fn mapping_of(create: &Create) -> Result<Value, CliError> {
    match &create.mapping {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|cause| CliError::File {
                path: path.clone(),
                cause,
            })?;
            serde_json::from_str(&text)
                .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))
        }
        None => {
            let mut mapping = json!({"key": create.key, "keep_together": create.keep_together});
            if let (Some(manager), Some(fields)) = (&create.manager, mapping.as_object_mut()) {
                fields.insert("manager".to_owned(), Value::from(manager.as_str()));
            }
            Ok(mapping)
        }
    }
}

fn list_lines(items: &Value, width: usize) -> Vec<String> {
    let mut table = Table::new(&["name", ">version", ">members", "published", "id"]);
    for item in items.as_array().into_iter().flatten() {
        table.row([
            text_of(item, "/name"),
            text_of(item, "/current_version/number"),
            grouped(count_of(item, "/current_version/member_count")),
            text_of(item, "/current_version/published_at"),
            text_of(item, "/id"),
        ]);
    }
    table.lines(width)
}

fn population_lines(answer: &Value, width: usize) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{}   version {}   {} members   published {}",
            text_of(answer, "/name"),
            text_of(answer, "/current_version/number"),
            grouped(count_of(answer, "/current_version/member_count")),
            text_of(answer, "/current_version/published_at")
        ),
        format!(
            "  content {}",
            text_of(answer, "/current_version/content_digest")
        ),
        String::new(),
    ];
    let mut table = Table::new(&["column", "type", ">distinct"]);
    for column in answer
        .pointer("/current_version/columns")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        table.row([
            text_of(column, "/name"),
            text_of(column, "/type"),
            grouped(count_of(column, "/distinct")),
        ]);
    }
    lines.extend(table.lines(width));
    lines
}

fn member_lines(answer: &Value) -> Vec<String> {
    let mut lines = vec![format!("{}", text_of(answer, "/key"))];
    if let Some(attributes) = answer.get("attributes").and_then(Value::as_object) {
        let widest = attributes.keys().map(String::len).max().unwrap_or(0);
        for (name, value) in attributes {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            lines.push(format!("  {name:<widest$}  {value}"));
        }
    }
    lines
}

fn write_sample(context: &Context, sample: &Sample) -> Result<(), CliError> {
    let bar = bar_of(sample.people, "people");
    source::sample::write_file(&sample.out, sample.people, sample.seed, |written| {
        bar.set_position(written)
    })
    .map_err(|cause| CliError::File {
        path: sample.out.clone(),
        cause,
    })?;
    bar.finish_and_clear();
    let answer = json!({"people": sample.people, "file": sample.out.display().to_string()});
    context.show(&answer, |_| {
        vec![format!(
            "{} people in {}",
            grouped(sample.people),
            sample.out.display()
        )]
    });
    Ok(())
}

/// Runs `import`.
///
/// # Errors
/// When the file cannot be read, and as the service answers.
pub async fn import(context: &Context, import: &Import) -> Result<(), CliError> {
    let (format, encoding) = kind_of(&import.file, import.format.as_deref())?;
    let size = std::fs::metadata(&import.file)
        .map_err(|cause| CliError::File {
            path: import.file.clone(),
            cause,
        })?
        .len();
    if import.dry_run {
        context.would(&format!(
            "would send {} ({} bytes, {format}) to population `{}`; the service checks every row before it publishes any",
            import.file.display(),
            grouped(size),
            import.population
        ));
        return Ok(());
    }
    let path = format!("/v1/populations/{}", escape(&import.population));
    if import.create && context.client.find::<Value>(&path).await?.is_none() {
        let _: Value = context
            .client
            .post("/v1/populations", &json!({"name": import.population}))
            .await?;
    }
    let bar = bar_of(size, "bytes");
    let moved = bar.clone();
    let answer: Value = context
        .client
        .upload(
            &import_path(import, format),
            &import.file,
            encoding,
            move |bytes| {
                moved.inc(bytes);
                if moved.position() >= size {
                    moved.set_message("checking and publishing");
                }
            },
        )
        .await
        .inspect_err(|_| bar.finish_and_clear())?;
    bar.finish_and_clear();
    context.show(&answer, import_lines);
    Ok(())
}

fn import_path(import: &Import, format: &str) -> String {
    let name = import
        .file
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let mut path = format!(
        "/v1/populations/{}/imports?format={format}&file_name={}",
        escape(&import.population),
        escape(name)
    );
    if let Some(most) = import.bad_rows_max {
        path.push_str(&format!("&bad_rows_max={most}"));
    }
    if let Some(reason) = &import.override_shrink {
        path.push_str(&format!("&override_shrink_reason={}", escape(reason)));
    }
    path
}

fn import_lines(answer: &Value) -> Vec<String> {
    let status = text_of(answer, "/status");
    let mut lines = vec![match status.as_str() {
        "unchanged" => "unchanged: the same bytes are already published".to_owned(),
        _ => format!(
            "{status}: {} members in version {} ({} joined, {} left)",
            grouped(count_of(answer, "/version/member_count")),
            text_of(answer, "/version/number"),
            grouped(count_of(answer, "/joined")),
            grouped(count_of(answer, "/left"))
        ),
    }];
    let bad = count_of(answer, "/rows_bad");
    if bad > 0 {
        lines.push(format!(
            "{} rows are bad and were left out; whoever stands in them counts as not there:",
            grouped(bad)
        ));
        for row in answer
            .get("bad_rows")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            lines.push(format!(
                "  line {}: {}",
                text_of(row, "/line"),
                text_of(row, "/message")
            ));
        }
    }
    lines
}

fn kind_of(
    file: &Path,
    format: Option<&str>,
) -> Result<(&'static str, Option<&'static str>), CliError> {
    let name = file.to_string_lossy().to_lowercase();
    let (stem, encoding) = match (name.strip_suffix(".gz"), name.strip_suffix(".zst")) {
        (Some(stem), _) => (stem, Some("gzip")),
        (_, Some(stem)) => (stem, Some("zstd")),
        _ => (name.as_str(), None),
    };
    let suffix = stem.rsplit('.').next().unwrap_or_default();
    match format.unwrap_or(suffix) {
        "csv" => Ok(("csv", encoding)),
        "ndjson" | "jsonl" => Ok(("ndjson", encoding)),
        _ => Err(CliError::Usage(format!(
            "{}: say what it is with --format csv or --format ndjson",
            file.display()
        ))),
    }
}

fn bar_of(length: u64, unit: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let numbers = if unit == "bytes" {
        "{bytes}/{total_bytes} {bytes_per_sec}"
    } else {
        "{human_pos}/{human_len} {per_sec}"
    };
    let template = format!("{{bar:40}} {numbers} {{eta}} {{msg}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_says_format_and_compression() {
        assert_eq!(kind_of(Path::new("p.csv"), None).unwrap(), ("csv", None));
        assert_eq!(
            kind_of(Path::new("P.CSV.GZ"), None).unwrap(),
            ("csv", Some("gzip"))
        );
        assert_eq!(
            kind_of(Path::new("p.ndjson.zst"), None).unwrap(),
            ("ndjson", Some("zstd"))
        );
        assert_eq!(
            kind_of(Path::new("p.txt"), Some("csv")).unwrap(),
            ("csv", None)
        );
        assert!(
            kind_of(Path::new("p.txt"), None)
                .unwrap_err()
                .to_string()
                .contains("--format")
        );
    }
}
