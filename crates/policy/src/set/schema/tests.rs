//! The schema takes what the reader takes, and refuses what the reader refuses for its shape.

use std::path::{Path, PathBuf};

use super::*;
use crate::document::{Body, Format, Node, read};
use crate::set::{PolicySet, STARTER};

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name)
}

/// A document as JSON; what is written without quotes is a number or a truth where it reads as one.
fn value(node: Node) -> Value {
    match node.body {
        Body::Scalar {
            text,
            is_text: true,
        } => json!(text),
        Body::Scalar {
            text,
            is_text: false,
        } => serde_json::from_str(&text).unwrap_or_else(|_| json!(text)),
        Body::List(items) => Value::Array(items.into_iter().map(value).collect()),
        Body::Map(fields) => {
            let fields = fields
                .into_iter()
                .map(|(name, _, node)| (name, value(node)));
            Value::Object(fields.collect())
        }
    }
}

fn yaml(text: &str) -> Value {
    value(read(text, Format::Yaml).unwrap())
}

/// Checks a value against a schema, by the keywords that ours uses; any other keyword fails the test.
fn is_valid(schema: &Value, whole: &Value, value: &Value) -> bool {
    let size = |text: &Value| text.as_u64().unwrap();
    schema
        .as_object()
        .unwrap()
        .iter()
        .all(|(keyword, wanted)| match (keyword.as_str(), value) {
            ("$schema" | "$defs" | "title" | "description", _) => true,
            ("$ref", _) => {
                let pointer = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                is_valid(whole.pointer(pointer).unwrap(), whole, value)
            }
            ("anyOf", _) => wanted
                .as_array()
                .unwrap()
                .iter()
                .any(|one| is_valid(one, whole, value)),
            ("enum", _) => wanted.as_array().unwrap().contains(value),
            ("const", _) => wanted == value,
            ("type", _) => match wanted {
                Value::Array(types) => types.iter().any(|one| is_of(one, value)),
                one @ (Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Object(_)) => is_of(one, value),
            },
            ("required", Value::Object(fields)) => wanted
                .as_array()
                .unwrap()
                .iter()
                .all(|name| fields.contains_key(name.as_str().unwrap())),
            ("properties", Value::Object(fields)) => fields.iter().all(|(name, field)| {
                wanted
                    .get(name)
                    .is_none_or(|schema| is_valid(schema, whole, field))
            }),
            ("additionalProperties", Value::Object(fields)) => {
                let known = schema.get("properties").and_then(Value::as_object).unwrap();
                fields.keys().all(|name| known.contains_key(name))
            }
            ("items", Value::Array(items)) => {
                items.iter().all(|item| is_valid(wanted, whole, item))
            }
            ("minItems", Value::Array(items)) => items.len() as u64 >= size(wanted),
            ("maxItems", Value::Array(items)) => items.len() as u64 <= size(wanted),
            ("minLength", Value::String(text)) => text.chars().count() as u64 >= size(wanted),
            ("minimum", Value::Number(number)) => number.as_f64() >= wanted.as_f64(),
            ("maximum", Value::Number(number)) => number.as_f64() <= wanted.as_f64(),
            ("pattern", Value::String(text)) => matches(wanted.as_str().unwrap(), text),
            (
                "required"
                | "properties"
                | "additionalProperties"
                | "items"
                | "minItems"
                | "maxItems"
                | "minLength"
                | "minimum"
                | "maximum"
                | "pattern",
                _,
            ) => true,
            (other, _) => panic!("`{other}` is no keyword that is checked here"),
        })
}

fn is_of(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("`{other}` is no type that is checked here"),
    }
}

/// There are two patterns, each as plain code.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern {
        NAME => {
            let is_plain = |one: char| one.is_ascii_alphanumeric() || "_.-".contains(one);
            (1..=100).contains(&text.len()) && text.chars().all(is_plain)
        }
        TIME => {
            let mut rest = text;
            for unit in ['d', 'h', 'm', 's'] {
                let after = rest.trim_start_matches(|one: char| one.is_ascii_digit());
                if after.len() < rest.len()
                    && let Some(after) = after.strip_prefix(unit)
                {
                    rest = after;
                }
            }
            rest.is_empty() && !text.is_empty()
        }
        other => panic!("`{other}` is no pattern that is checked here"),
    }
}

fn takes(value: &Value) -> bool {
    let schema = schema();
    is_valid(&schema, &schema, value)
}

#[test]
fn what_is_published_is_what_the_program_prints() {
    let path = docs("policy.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, text()).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == text(),
        "UPDATE_SCHEMA=1 cargo test -p tidegate-policy schema writes docs/policy.schema.json anew"
    );
}

#[test]
fn every_set_that_we_publish_is_valid() {
    assert!(takes(&yaml(STARTER)));
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/scenario/midnight_blizzard");
    for name in ["rules.yaml", "kev.yaml"] {
        let text = std::fs::read_to_string(ours.join(name)).unwrap();
        assert!(takes(&yaml(&text)), "{name}");
    }
    let page = std::fs::read_to_string(docs("POLICIES.md")).unwrap();
    let blocks: Vec<&str> = page
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .filter(|block| block.contains("policy_set:"))
        .collect();
    assert!(!blocks.is_empty(), "the page is read");
    for block in blocks {
        assert!(PolicySet::parse(block, Format::Yaml).is_ok(), "{block}");
        assert!(takes(&yaml(block)), "{block}");
    }
}

/// Every way to change one place of a document: a field gone, one too many, and a value of another kind.
fn changed(value: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for other in [json!({}), json!([]), json!("zz"), json!(-1)] {
        if other != *value {
            all.push((format!("= {other}"), other));
        }
    }
    match value {
        Value::Object(fields) => {
            let mut more = fields.clone();
            more.insert("zz".to_owned(), json!("zz"));
            all.push((".zz".to_owned(), Value::Object(more)));
            for (name, field) in fields {
                let mut fewer = fields.clone();
                fewer.remove(name);
                all.push((format!(".{name} gone"), Value::Object(fewer)));
                for (path, field) in changed(field) {
                    let mut other = fields.clone();
                    other.insert(name.clone(), field);
                    all.push((format!(".{name}{path}"), Value::Object(other)));
                }
            }
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                for (path, item) in changed(item) {
                    let mut other = items.clone();
                    other[place] = item;
                    all.push((format!("[{place}]{path}"), Value::Array(other)));
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    all
}

#[test]
fn what_the_reader_refuses_for_its_shape_the_schema_refuses_and_what_it_takes_is_valid() {
    const SHAPE: [&str; 5] = ["missing", "unknown_field", "type", "condition", "empty"];
    let mut set = yaml(STARTER);
    // One of each kind is enough, and the rest only takes time.
    let cases = set["tests"].as_array_mut().unwrap();
    cases.truncate(8);
    cases.drain(1..7);
    let (mut refused, mut taken) = (0, 0);
    for (path, other) in changed(&set) {
        let is_valid = takes(&other);
        match PolicySet::parse(&other.to_string(), Format::Json) {
            Ok(_) => {
                // What is written as a number is read as a text: it may be the name of something.
                assert!(is_valid || path.ends_with("= -1"), "{path} is read");
                taken += 1;
            }
            Err(errors) => {
                let shape = errors
                    .0
                    .iter()
                    .find(|error| SHAPE.contains(&error.code.as_str()));
                if let Some(error) = shape {
                    assert!(!is_valid, "{path}: {error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 500 && taken > 50, "{refused} and {taken}");
}
