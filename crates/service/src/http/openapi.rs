//! The API's own description: what the handlers say of themselves, and what all of them have in common.

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::error::{Document, PROBLEM};
use super::{api, reports, streams};

/// What the description says about the API as a whole.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Tidegate",
        description = "Moves very large populations onto a target in waves, and stops."
    ),
    components(schemas(Document))
)]
pub(super) struct Description;

/// Returns the description of the API as JSON.
#[must_use]
pub fn openapi() -> String {
    let (_, mut description) = api().split_for_parts();
    let (_, more) = streams().split_for_parts();
    description.merge(more);
    let (_, more) = reports().split_for_parts();
    description.merge(more);
    let mut document = serde_json::to_value(&description).unwrap_or_default();
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for (path, methods) in paths.into_iter().flatten() {
        for (method, operation) in methods.as_object_mut().into_iter().flatten() {
            if let Some(operation) = operation.as_object_mut() {
                finish(path, method, operation);
            }
        }
    }
    put(
        document.get_mut("components"),
        "securitySchemes",
        json!({"token": {"type": "http", "scheme": "bearer", "bearerFormat": "tg_…"}}),
    );
    put(Some(&mut document), "security", json!([{"token": []}]));
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

/// Writes one field of an object.
fn put(object: Option<&mut Value>, name: &str, value: Value) {
    if let Some(fields) = object.and_then(Value::as_object_mut) {
        fields.insert(name.to_owned(), value);
    }
}

/// Adds to one call what every call has: a name of its own, problems, and the headers it honours.
fn finish(path: &str, method: &str, operation: &mut Map<String, Value>) {
    let tag = operation
        .get("tags")
        .and_then(|tags| tags.get(0))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let resource = tag.strip_suffix('s').unwrap_or(tag).to_owned();
    if let Some(Value::String(id)) = operation.get_mut("operationId") {
        *id = format!("{resource}_{id}");
    }
    let problem = json!({"$ref": "#/components/schemas/Document"});
    put(
        operation.get_mut("responses"),
        "default",
        json!({
            "description": "what went wrong, with a stable code",
            "content": {PROBLEM: {"schema": problem}},
        }),
    );
    let header = |name: &str, required: bool, description: &str| {
        json!({"name": name, "in": "header", "required": required, "description": description,
            "schema": {"type": "string"}})
    };
    let mut headers = Vec::new();
    if method == "post" && !path.ends_with("/imports") {
        headers.push(header(
            "Idempotency-Key",
            false,
            "a repeat with the same key gets the first answer, and changes nothing",
        ));
    }
    let honours = path.ends_with("/start") || path.ends_with("/cancel");
    if method == "put" || honours {
        headers.push(header(
            "If-Match",
            method == "put",
            "the generation that was read, as in the ETag",
        ));
    }
    if !headers.is_empty()
        && let Value::Array(parameters) = operation.entry("parameters").or_insert_with(|| json!([]))
    {
        parameters.extend(headers);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// `make openapi` writes it anew.
    #[test]
    fn openapi_is_as_reviewed() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let now = openapi() + "\n";
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(path, &now).unwrap();
        }
        let reviewed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            reviewed == now,
            "the API has changed: look at it with `make openapi` and `git diff docs/openapi.json`"
        );
    }

    #[test]
    fn every_call_has_a_name_of_its_own() {
        let document: Value = serde_json::from_str(&openapi()).unwrap();
        let mut names = BTreeSet::new();
        for methods in document["paths"].as_object().unwrap().values() {
            for operation in methods.as_object().unwrap().values() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "`{name}` names two calls");
            }
        }
        assert!(names.contains("rollout_halt"), "{names:?}");
    }
}
