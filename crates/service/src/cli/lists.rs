//! Lists of people that a spec names by file: read here and written into the spec before it is sent.
//!
//! The service reads no files of a manager's machine. The replacement keeps the line count, so that
//! an error of the service still points at the right line of the file.

use std::path::Path;

use super::client::Document;
use super::error::CliError;

/// Reads a spec and every list it names.
///
/// # Errors
/// When the spec or a list cannot be read, or the suffix is not one of a spec.
pub fn read_spec(path: &Path) -> Result<Document, CliError> {
    let text = read(path)?;
    let content_type = match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("yaml" | "yml") => "application/yaml",
        Some("json") => "application/json",
        Some("toml") => "application/toml",
        _ => {
            return Err(CliError::Usage(format!(
                "{}: a rollout spec ends in .yaml, .json or .toml",
                path.display()
            )));
        }
    };
    let beside = path.parent().unwrap_or_else(|| Path::new(""));
    let text = inline(&text, |name| keys(&beside.join(name)))?;
    Ok(Document { content_type, text })
}

fn read(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|cause| CliError::File {
        path: path.to_owned(),
        cause,
    })
}

/// Reads the first column of a list, without an optional head and without blank lines.
fn keys(path: &Path) -> Result<Vec<String>, CliError> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?;
    let mut keys = Vec::new();
    for record in reader.records() {
        let record =
            record.map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?;
        if let Some(key) = record.get(0).filter(|key| !key.is_empty()) {
            keys.push(key.to_owned());
        }
    }
    if keys
        .first()
        .is_some_and(|head| matches!(head.as_str(), "employee_id" | "key" | "id"))
    {
        keys.remove(0);
    }
    if keys.is_empty() {
        return Err(CliError::Usage(format!(
            "{}: the list names nobody",
            path.display()
        )));
    }
    Ok(keys)
}

/// Replaces `list: FILE` by `keys: [...]` on the same line, in YAML, JSON and TOML.
fn inline(
    text: &str,
    read: impl Fn(&str) -> Result<Vec<String>, CliError>,
) -> Result<String, CliError> {
    let mut written = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        match named_list(line) {
            Some(found) => {
                let keys = read(found.file)?;
                let keys: Vec<String> = keys
                    .iter()
                    .map(|key| serde_json::Value::from(key.as_str()).to_string())
                    .collect();
                written.push_str(found.before);
                written.push_str(found.key);
                written.push_str(&format!("[{}]", keys.join(", ")));
                written.push_str(found.after);
            }
            None => written.push_str(line),
        }
    }
    Ok(written)
}

struct NamedList<'a> {
    before: &'a str,
    key: &'static str,
    file: &'a str,
    after: &'a str,
}

fn named_list(line: &str) -> Option<NamedList<'_>> {
    let forms = [
        ("\"list\":", "\"keys\": "),
        ("list:", "keys: "),
        ("list =", "keys = "),
        ("list=", "keys = "),
    ];
    for (word, key) in forms {
        let Some((before, rest)) = line.split_once(word) else {
            continue;
        };
        let starts_a_field =
            before.trim_end().ends_with(['{', ',', '-']) || before.trim().is_empty();
        if !starts_a_field {
            continue;
        }
        let value = rest.trim_start();
        let (file, after) = match value.strip_prefix(['"', '\'']) {
            Some(quoted) => quoted.split_once(['"', '\''])?,
            None => {
                let end = value
                    .find([',', '}', '#', '\n', '\r'])
                    .unwrap_or(value.len());
                value.split_at_checked(end)?
            }
        };
        let file = file.trim();
        if !file.is_empty() {
            return Some(NamedList {
                before,
                key,
                file,
                after,
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(_: &str) -> Result<Vec<String>, CliError> {
        Ok(vec!["e1".to_owned(), "e\"2".to_owned()])
    }

    #[test]
    fn a_named_list_becomes_its_keys_on_the_same_line_in_every_format() {
        for (given, expected) in [
            (
                "    select: {list: early.csv}\n",
                "    select: {keys: [\"e1\", \"e\\\"2\"]}\n",
            ),
            (
                "      list: early.csv\n    soak: 3d\n",
                "      keys: [\"e1\", \"e\\\"2\"]\n    soak: 3d\n",
            ),
            (
                "{\"select\": {\"list\": \"early.csv\"}, \"soak\": 1}",
                "{\"select\": {\"keys\": [\"e1\", \"e\\\"2\"]}, \"soak\": 1}",
            ),
            (
                "select = {list = \"early.csv\"}\n",
                "select = {keys = [\"e1\", \"e\\\"2\"]}\n",
            ),
        ] {
            assert_eq!(inline(given, two).unwrap(), expected);
        }
    }

    #[test]
    fn words_that_end_in_list_are_left_alone() {
        let text = "allowlist: x.csv\nname: \"the list: a\"\n";
        assert_eq!(inline(text, two).unwrap(), text);
    }
}
