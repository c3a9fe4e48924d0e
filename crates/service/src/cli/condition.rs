//! Conditions on the command line.

use serde_json::{Value, json};

use super::error::CliError;

/// Reads the condition of an option: `ATTRIBUTE=VALUE`, or JSON as in a spec.
///
/// # Errors
/// When it is neither.
pub fn parsed(option: &str, text: &str) -> Result<Value, CliError> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| {
            CliError::Usage(format!("--{option} is no condition as JSON: {error}"))
        });
    }
    match text.split_once('=') {
        Some((attribute, value)) if !attribute.trim().is_empty() => {
            Ok(json!({"attribute": attribute.trim(), "equals": value.trim()}))
        }
        _ => Err(CliError::Usage(format!(
            "--{option} is ATTRIBUTE=VALUE, such as country=DE, or a condition in JSON, such as \
             '{{\"attribute\": \"country\", \"in\": [\"DE\", \"FR\"]}}'"
        ))),
    }
}
