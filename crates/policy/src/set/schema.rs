//! The shape of a policy set as a JSON Schema (2020-12), for editors that complete and check while one writes.
//!
//! It is made from the lists and limits that the reader has, so a word that is added is in both. What needs
//! more than the shape (trust that is not enough, what stands under `not`) is said when a set is read.

use serde_json::{Value, json};

use super::case::Expected;
use super::{CASES_MAX, RULES_MAX};
use crate::rule::check::{CATEGORIES, COUNT_MAX, GROUPS, MOVED, WORDS_MAX};
use crate::rule::{Reaches, TextField};
use crate::set::case::GIVEN_MAX;
use crate::signal::{Dialect, Lifecycle, Reach, Severity, SignalKind, Trust};

/// A length of time, as it is written.
const TIME: &str = "^(?=.)([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$";
/// A name that can stand in an address.
const NAME: &str = "^[A-Za-z0-9_.-]{1,100}$";

/// Returns the schema.
#[must_use]
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A policy set of Tidegate",
        "description": "What must be reported for something to be held. docs/POLICIES.md explains it.",
        "$ref": "#/$defs/set",
        "$defs": {
            "set": set(), "rule": rule(), "condition": condition(), "then": then(), "release": release(),
            "case": case(), "given": given(), "target": target(),
            "time": {"type": "string", "pattern": TIME, "description": "90s, 30m, 6h, 3d, or 1h30m"},
            "name": {"type": "string", "pattern": NAME},
            // Whatever is written without quotes is read as a text.
            "word": {"type": ["string", "number", "boolean"], "minLength": 1},
            "words": {"type": "array", "items": {"$ref": "#/$defs/word"}, "minItems": 1, "maxItems": WORDS_MAX},
        },
    })
}

/// Returns the schema as it is published.
#[must_use]
pub fn text() -> String {
    format!("{:#}\n", schema())
}

fn refers(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

fn map(required: &[&str], properties: &Value) -> Value {
    json!({
        "type": "object", "required": required, "properties": properties, "additionalProperties": false,
    })
}

fn set() -> Value {
    map(
        &["policy_set", "rules"],
        &json!({
            "policy_set": {"$ref": "#/$defs/name", "description": "The name of the set"},
            "rules": {"type": "array", "items": refers("rule"), "maxItems": RULES_MAX},
            "tests": {"type": "array", "items": refers("case"), "maxItems": CASES_MAX},
        }),
    )
}

fn rule() -> Value {
    map(
        &["id", "says", "when", "trust_at_least", "then"],
        &json!({
            "id": refers("name"),
            "says": {"$ref": "#/$defs/word", "description": "What it does, in a sentence"},
            "when": refers("condition"),
            "trust_at_least": one_of(Trust::ALL, Trust::name),
            "then": refers("then"),
            "shadow": {"enum": [true, false, "true", "false"], "description": "Only say what it would do"},
        }),
    )
}

/// The members of a closed list.
fn one_of<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Value {
    let names: Vec<&str> = all.iter().map(|one| name(*one)).collect();
    json!({"enum": names})
}

fn condition() -> Value {
    let parts = json!({"type": "array", "items": refers("condition"), "minItems": 1});
    let number = |most: u32| json!({"type": "integer", "minimum": 1, "maximum": most});
    let mut kinds = vec![
        map(&["all"], &json!({"all": parts})),
        map(&["any"], &json!({"any": parts})),
        map(&["not"], &json!({"not": refers("condition")})),
        map(
            &["window", "at_least"],
            &json!({
                "window": refers("time"), "at_least": number(COUNT_MAX),
                "distinct": one_of(TextField::ALL, TextField::name),
            }),
        ),
        map(
            &["source", "equals"],
            &json!({"source": {"const": "state"}, "equals": {"const": "blind"}}),
        ),
    ];
    kinds.extend(tests());
    json!({"anyOf": kinds})
}

/// A test of a field of a signal: the field, and the words beside it.
fn test(fields: &[&str], words: &Value) -> Value {
    let mut properties = words.clone();
    let required: Vec<String> = words
        .as_object()
        .into_iter()
        .flat_map(|words| words.keys().cloned())
        .chain(["signal".to_owned()])
        .collect();
    if let Some(properties) = properties.as_object_mut() {
        properties.insert("signal".to_owned(), json!({"enum": fields}));
    }
    let required: Vec<&str> = required.iter().map(String::as_str).collect();
    map(&required, &properties)
}

/// `equals: one`, and `in: [one, another]`.
fn equals_or_in(fields: &[&str], word: &Value) -> [Value; 2] {
    let list = json!({"type": "array", "items": word, "minItems": 1, "maxItems": WORDS_MAX});
    [
        test(fields, &json!({"equals": word})),
        test(fields, &json!({"in": list})),
    ]
}

fn tests() -> Vec<Value> {
    // `unknown` is no rank: what it counts as is said.
    let ranks: Vec<&str> = Severity::ALL
        .iter()
        .filter(|one| **one != Severity::Unknown)
        .map(|one| one.name())
        .collect();
    let percent = json!({"type": "integer", "minimum": 0, "maximum": 100});
    let mut tests = Vec::new();
    tests.extend(equals_or_in(
        &["kind"],
        &one_of(SignalKind::ALL, SignalKind::name),
    ));
    tests.extend(equals_or_in(
        &["lifecycle"],
        &one_of(Lifecycle::ALL, Lifecycle::name),
    ));
    tests.extend(equals_or_in(
        &["dialect"],
        &one_of(Dialect::ALL, Dialect::name),
    ));
    let texts: Vec<&str> = TextField::ALL.iter().map(|field| field.name()).collect();
    tests.extend(equals_or_in(&texts, &refers("word")));
    tests.extend([
        test(
            &["severity"],
            &json!({"at_least": {"enum": ranks}, "unknown_is": {"enum": ranks}}),
        ),
        test(
            &["confidence"],
            &json!({"at_least": percent, "unknown_is": percent}),
        ),
        test(
            &["reach"],
            &json!({"equals": one_of(Reach::ALL, Reach::name)}),
        ),
        test(
            &["products", "labels"],
            &json!({"overlaps": refers("words")}),
        ),
        test(&["vendor"], &json!({"is": {"const": "target.vendor"}})),
        test(&["tenant"], &json!({"is": {"const": "target.tenant"}})),
        test(&["products"], &json!({"is": {"const": "target.products"}})),
        test(
            &["age"],
            &json!({"at_most": refers("time"), "unknown_is": {"enum": [true, false, "true", "false"]}}),
        ),
    ]);
    tests
}

fn then() -> Value {
    let scope = one_of(Reaches::ALL, Reaches::name);
    let time = refers("time");
    let halt = json!({
        "verdict": {"const": "halt"}, "kind": {"const": "halt"}, "scope": scope, "review_every": time,
        "moved": {"enum": MOVED}, "release": refers("release"),
    });
    let hold = json!({
        "verdict": {"const": "hold"}, "kind": {"enum": ["pause", "gate"]}, "scope": scope,
        "review_every": time, "moved": {"const": "keep"}, "lift_after_clear_for": time,
    });
    let review = json!({
        "verdict": {"const": "review"}, "scope": scope, "review_every": time, "moved": {"const": "keep"},
    });
    json!({"anyOf": [
        map(&["verdict", "scope"], &halt),
        map(&["verdict", "kind", "scope"], &hold),
        map(&["verdict", "scope"], &review),
    ]})
}

fn release() -> Value {
    let approvals = map(
        &[],
        &json!({
            "count": {"type": "integer", "minimum": 2, "maximum": 20},
            "groups": {"type": "array", "items": {"enum": GROUPS}},
            "valid_for": refers("time"), "execute_within": refers("time"),
        }),
    );
    // People write a category with hyphens as easily.
    let hyphened = CATEGORIES.iter().map(|name| name.replace('_', "-"));
    let categories: Vec<String> = CATEGORIES
        .iter()
        .map(|name| (*name).to_owned())
        .chain(hyphened.filter(|name| name.contains('-')))
        .collect();
    let requirement = map(
        &["title", "category"],
        &json!({"title": refers("word"), "category": {"enum": categories}}),
    );
    map(
        &[],
        &json!({"approvals": approvals, "requirements": {"type": "array", "items": requirement}}),
    )
}

fn case() -> Value {
    map(
        &["name", "expect"],
        &json!({
            "name": {"$ref": "#/$defs/word", "description": "What it claims"},
            "given": {"type": "array", "items": refers("given"), "maxItems": GIVEN_MAX},
            "target": refers("target"),
            "expect": one_of(Expected::ALL, Expected::name),
            "by": {"$ref": "#/$defs/word", "description": "The rule that it follows from"},
        }),
    )
}

fn given() -> Value {
    let list = json!({"type": "array", "items": refers("word")});
    map(
        &[],
        &json!({
            "after": {"$ref": "#/$defs/time", "description": "So long after the one before"},
            "age": {"$ref": "#/$defs/time", "description": "Issued so long before"},
            "id": refers("word"), "source": refers("word"), "vendor": refers("word"),
            "tenant": refers("word"), "user": refers("word"), "products": list, "labels": list,
            "kind": one_of(SignalKind::ALL, SignalKind::name),
            "severity": one_of(Severity::ALL, Severity::name),
            "lifecycle": one_of(Lifecycle::ALL, Lifecycle::name),
            "dialect": one_of(Dialect::ALL, Dialect::name),
            "trust": one_of(Trust::ALL, Trust::name),
            "confidence": {"type": "integer", "minimum": 0, "maximum": 255},
        }),
    )
}

fn target() -> Value {
    let list = json!({"type": "array", "items": refers("word")});
    map(
        &[],
        &json!({
            "name": refers("word"), "vendor": refers("word"), "tenant": refers("word"),
            "products": list, "blind": list,
        }),
    )
}

#[cfg(test)]
mod tests;
