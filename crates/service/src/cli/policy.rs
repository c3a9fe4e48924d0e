//! Commands about policy sets. `test`, `diff` and most of `replay` need no service: whoever writes rules tries
//! them at once.

mod explain;
mod replay;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};
use tidegate_policy::document::Format;
use tidegate_policy::set::{PolicySet, schema};

use super::client::{Document, escape};
use super::context::{Context, text_of};
use super::error::{CliError, Exit};
use super::table::{Table, several};
use super::tame::tamed;

/// What to do with policy sets.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Read a policy set, check its rules and run its tests
    Test {
        /// The file: YAML, JSON or TOML by its ending
        file: PathBuf,
    },
    /// Show which rules one file changes in another, and whether anything may slip through
    Diff {
        /// The set as it was
        old: PathBuf,
        /// The set as it would be
        new: PathBuf,
    },
    /// Say what a set would have done, over signals of a file, of the service, or of a told scenario
    Replay(replay::Replay),
    /// Say of each rule why it applies to a signal, or does not
    Explain(explain::Explain),
    /// Print the JSON Schema of policy sets, for editors
    Schema,
    /// Propose a version: a draft until people say yes
    Propose {
        /// The file
        file: PathBuf,
    },
    /// Say yes to a draft
    Approve {
        /// The name of the set
        name: String,
        /// The version
        version: i64,
    },
    /// List every version of every set
    List,
    /// Print a version as it was written
    #[command(disable_version_flag = true)]
    Show {
        /// The name of the set
        name: String,
        /// The version; the newest unless said
        #[arg(long)]
        version: Option<i64>,
    },
    /// Say what rules know of a target: its vendor, products, tenant and sources
    Target {
        /// The name or id of the target
        target: String,
        /// Whose product it is, such as microsoft. Without it nothing changes, and what is known is shown
        #[arg(long)]
        vendor: Option<String>,
        /// The products it uses; all of the vendor's unless said
        #[arg(long, value_delimiter = ',', requires = "vendor")]
        products: Vec<String>,
        /// Its tenant at the vendor; any unless said
        #[arg(long, requires = "vendor")]
        tenant: Option<String>,
        /// The sources that it needs: when one is blind, rules about that hold
        #[arg(long, value_delimiter = ',', requires = "vendor")]
        sources: Vec<String>,
    },
}

/// Runs a policy command.
///
/// # Errors
/// As the service answers; a set that is wrong, or whose tests fail, ends with code 1, and one that loosens with code 2.
pub async fn run(context: &Context, command: PolicyCommand) -> Result<(), CliError> {
    match command {
        PolicyCommand::Test { file } => test(context, &file),
        PolicyCommand::Diff { old, new } => diff(context, &old, &new),
        PolicyCommand::Replay(command) => replay::run(context, &command).await,
        PolicyCommand::Explain(command) => explain::run(context, &command).await,
        PolicyCommand::Schema => {
            // The same in every form: it is JSON.
            print!("{}", schema::text());
            Ok(())
        }
        PolicyCommand::Propose { file } => {
            let (text, content_type) = text(&file)?;
            let document = Document { text, content_type };
            let answer: Value = context
                .client
                .post_document("/v1/policies", &document)
                .await?;
            context.show(&answer, proposed);
            Ok(())
        }
        PolicyCommand::Approve { name, version } => {
            let path = format!("/v1/policies/{}/versions/{version}/approve", escape(&name));
            let answer: Value = context.client.post(&path, &json!({})).await?;
            context.show(&answer, |answer| {
                match text_of(answer, "/status").as_str() {
                    "active" => vec![format!("`{name}` version {version} is active")],
                    _ => proposed(answer),
                }
            });
            Ok(())
        }
        PolicyCommand::List => list(context).await,
        PolicyCommand::Show { name, version } => {
            let query = version.map_or(String::new(), |version| format!("?version={version}"));
            let path = format!("/v1/policies/{}{query}", escape(&name));
            // A document of many lines: they stay lines, and each is harmless on a terminal.
            let client = context.client.clone().untamed();
            let answer: Value = client.get(&path).await?;
            context.show(&answer, |answer| {
                text_of(answer, "/text").lines().map(tamed).collect()
            });
            Ok(())
        }
        PolicyCommand::Target {
            target,
            vendor,
            products,
            tenant,
            sources,
        } => {
            let facts = vendor.map(|vendor| json!({"vendor": vendor, "products": products, "tenant": tenant, "sources": sources}));
            know(context, &target, facts.as_ref()).await
        }
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let answer: Value = context.client.get("/v1/policies").await?;
    context.show(&answer, |answer| {
        let mut table = Table::new(&["name", "version", "status", "rules", "author", "digest"]);
        for item in answer.as_array().into_iter().flatten() {
            table.row([
                text_of(item, "/name"),
                text_of(item, "/version"),
                text_of(item, "/status"),
                text_of(item, "/rules"),
                text_of(item, "/author"),
                text_of(item, "/digest").chars().take(12).collect(),
            ]);
        }
        table.lines(context.width())
    });
    Ok(())
}

async fn know(context: &Context, target: &str, facts: Option<&Value>) -> Result<(), CliError> {
    let path = format!("/v1/targets/{}/facts", escape(target));
    let answer: Value = match facts {
        Some(facts) => context.client.put(&path, facts).await?,
        None => context.client.get(&path).await?,
    };
    context.show(&answer, |answer| known(target, answer));
    Ok(())
}

/// What rules know of a target, and the command that says exactly that.
fn known(target: &str, answer: &Value) -> Vec<String> {
    let Some(vendor) = answer.get("vendor").and_then(Value::as_str) else {
        return vec![format!(
            "rules know nothing of `{target}`: say whose product it is with --vendor"
        )];
    };
    let list = |field: &str| -> Vec<&str> {
        let items = answer.get(field).and_then(Value::as_array);
        let items = items.into_iter().flatten();
        items.filter_map(Value::as_str).collect()
    };
    let tenant = answer.get("tenant").and_then(Value::as_str);
    let (products, sources) = (list("products"), list("sources"));
    let mut sentence = format!("rules know `{target}` as a product of `{vendor}`");
    let mut command = format!(
        "tidegate policy target {} --vendor {}",
        quoted(target),
        quoted(vendor)
    );
    for (words, option, values) in [
        ("with", "products", products.join(",")),
        ("in tenant", "tenant", tenant.unwrap_or_default().to_owned()),
        ("needing", "sources", sources.join(",")),
    ] {
        if !values.is_empty() {
            sentence.push_str(&format!(", {words} {}", values.replace(',', ", ")));
            command.push_str(&format!(" --{option} {}", quoted(&values)));
        }
    }
    vec![sentence, format!("  {command}")]
}

/// Writes a word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.,:@/".contains(letter);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

fn proposed(answer: &Value) -> Vec<String> {
    let (name, version) = (text_of(answer, "/name"), text_of(answer, "/version"));
    let needed = answer.get("needed").and_then(Value::as_u64).unwrap_or(0);
    let mut lines = vec![format!("`{name}` version {version} is a draft")];
    for change in answer
        .get("changes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        lines.push(format!(
            "  {:<10} {}",
            text_of(change, "/change"),
            text_of(change, "/rule")
        ));
    }
    let whose = match answer.get("loosens").and_then(Value::as_bool) {
        Some(true) => "who did not write it, for something may slip through that did not before",
        _ => "from security",
    };
    lines.push(format!(
        "{needed} more must say yes {whose}: tidegate policy approve {name} {version}"
    ));
    lines
}

fn format_of(path: &Path) -> (Format, &'static str) {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("json") => (Format::Json, "application/json"),
        Some("toml") => (Format::Toml, "application/toml"),
        _ => (Format::Yaml, "application/yaml"),
    }
}

fn text(path: &Path) -> Result<(String, &'static str), CliError> {
    let text = std::fs::read_to_string(path).map_err(|cause| CliError::File {
        path: path.to_owned(),
        cause,
    })?;
    Ok((text, format_of(path).1))
}

fn parsed(path: &Path) -> Result<PolicySet, CliError> {
    let (text, _) = text(path)?;
    PolicySet::parse(&text, format_of(path).0).map_err(|errors| {
        let lines: Vec<String> = errors.0.iter().map(|error| format!("  {error}")).collect();
        CliError::Usage(format!(
            "{}: {errors}\n{}",
            path.display(),
            lines.join("\n")
        ))
    })
}

fn test(context: &Context, file: &Path) -> Result<(), CliError> {
    let set = parsed(file)?;
    let failures = set.failures();
    let answer = json!({
        "name": set.name, "rules": set.rules.len(), "tests": set.tests.len(), "digest": set.digest(),
        "failures": failures,
    });
    context.show(&answer, |_| {
        let mut lines: Vec<String> = failures
            .iter()
            .map(|failure| format!("FAILED {}: {}", failure.name, failure.sentence))
            .collect();
        let passed = set.tests.len() - failures.len();
        lines.push(format!(
            "`{}`: {}, {passed} of {} pass, digest {}",
            set.name,
            several(long(set.rules.len()), "rule"),
            several(long(set.tests.len()), "test"),
            set.digest()
                .to_string()
                .chars()
                .take(12)
                .collect::<String>()
        ));
        lines
    });
    match failures.is_empty() {
        true => Ok(()),
        false => Err(CliError::Silent(Exit::Error)),
    }
}

fn long(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn diff(context: &Context, old: &Path, new: &Path) -> Result<(), CliError> {
    let changes = parsed(old)?.changes(&parsed(new)?);
    let loosens = changes.iter().any(|change| change.change.loosens());
    context.show(&json!({"changes": changes, "loosens": loosens}), |_| {
        let mut lines: Vec<String> = changes
            .iter()
            .map(|change| format!("{:<10} {}", change.change.name(), change.rule))
            .collect();
        lines.push(match (changes.is_empty(), loosens) {
            (true, _) => "nothing changes".to_owned(),
            (false, true) => {
                "something may slip through that did not before: two others must say yes".to_owned()
            }
            (false, false) => "nothing slips through that did not before".to_owned(),
        });
        lines
    });
    match loosens {
        true => Err(CliError::Silent(Exit::Difference)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_target_is_said_with_the_command_that_says_it() {
        let facts = json!({
            "vendor": "microsoft", "products": ["entra id", "exchange online"], "tenant": null, "sources": ["siem"],
        });
        assert_eq!(
            known("m365", &facts).join("\n"),
            "rules know `m365` as a product of `microsoft`, with entra id, exchange online, needing siem\n  \
             tidegate policy target m365 --vendor microsoft --products 'entra id,exchange online' --sources siem"
        );
        let nothing = known("m365", &json!({"vendor": null})).join("\n");
        assert!(nothing.contains("know nothing of `m365`"), "{nothing}");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
