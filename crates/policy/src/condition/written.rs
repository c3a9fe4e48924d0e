//! Conditions as people write them, in a spec or alone: `{attribute: country, in: [DE, FR]}`.

use serde_json::{Value, json};

use super::{AttributeTest, Condition, Literal};
use crate::document::reader::{Errors, Fields, list, text};
use crate::document::{self, Body, DocumentErrors, Format, Node};

/// Reads a condition that stands alone, written in JSON, as it would be in a spec.
///
/// # Errors
///
/// Every error there is, each with its field.
pub fn read(written: &Value) -> Result<Condition, DocumentErrors> {
    let node = document::read(&written.to_string(), Format::Json)?;
    let mut errors = Errors::default();
    let found = condition(node, "", &mut errors);
    errors.or(found)
}

/// Writes a condition the way `read` reads it.
#[must_use]
pub fn write(condition: &Condition) -> Value {
    let parts = |parts: &[Condition]| parts.iter().map(write).collect::<Vec<_>>();
    match condition {
        Condition::All(all) => json!({"all": parts(all)}),
        Condition::Any(any) => json!({"any": parts(any)}),
        Condition::Not(part) => json!({"not": write(part)}),
        Condition::Attribute { attribute, test } => {
            let (name, value) = match test {
                AttributeTest::Equals(literal) => ("equals", json!(literal)),
                AttributeTest::In(literals) => ("in", json!(literals)),
                AttributeTest::AtLeast(literal) => ("at_least", json!(literal)),
                AttributeTest::AtMost(literal) => ("at_most", json!(literal)),
                AttributeTest::StartsWith(text) => ("starts_with", json!(text)),
                AttributeTest::IsMissing(is) => ("is_missing", json!(is)),
            };
            json!({"attribute": attribute, name: value})
        }
    }
}

/// Reads a condition out of a document.
pub fn condition(node: Node, path: &str, errors: &mut Errors) -> Option<Condition> {
    let place = node.place;
    let mut fields = Fields::open(node, path, errors)?;
    let all = fields.take("all").map(|node| ("all", node));
    let any = fields.take("any").map(|node| ("any", node));
    let not = fields.take("not");
    let attribute = fields.take("attribute");
    let several = [
        all.is_some(),
        any.is_some(),
        not.is_some(),
        attribute.is_some(),
    ]
    .into_iter()
    .filter(|is| *is)
    .count();
    if several != 1 {
        errors.add(
            place,
            path,
            "condition",
            "a condition is `all`, `any` or `not`, or an attribute with a test, such as {attribute: department, equals: Sales}",
        );
        return None;
    }
    let found = match (all.or(any), not, attribute) {
        (Some((name, parts)), _, _) => {
            let path = fields.at(name);
            let parts: Vec<Condition> = list(parts, &path, errors)?
                .into_iter()
                .enumerate()
                .filter_map(|(index, part)| condition(part, &format!("{path}[{index}]"), errors))
                .collect();
            Some(if name == "all" {
                Condition::All(parts)
            } else {
                Condition::Any(parts)
            })
        }
        (_, Some(part), _) => {
            condition(part, &fields.at("not"), errors).map(|part| Condition::Not(Box::new(part)))
        }
        (_, _, Some(name)) => attribute_test(&mut fields, &name, errors),
        _ => None,
    };
    fields.end(errors);
    found
}

fn attribute_test(fields: &mut Fields, name: &Node, errors: &mut Errors) -> Option<Condition> {
    let attribute = text(name, &fields.at("attribute"), errors)?;
    let mut tests = Vec::new();
    for word in ["equals", "at_least", "at_most"] {
        let Some(node) = fields.take(word) else {
            continue;
        };
        let value = literal(&node, &fields.at(word), errors)?;
        tests.push(match word {
            "equals" => AttributeTest::Equals(value),
            "at_least" => AttributeTest::AtLeast(value),
            _ => AttributeTest::AtMost(value),
        });
    }
    if let Some(nodes) = fields.list("in", errors) {
        let path = fields.at("in");
        tests.push(AttributeTest::In(
            nodes
                .iter()
                .filter_map(|node| literal(node, &path, errors))
                .collect(),
        ));
    }
    if let Some(node) = fields.take("starts_with") {
        tests.push(AttributeTest::StartsWith(text(
            &node,
            &fields.at("starts_with"),
            errors,
        )?));
    }
    if let Some(wanted) = fields.parsed::<bool>("is_missing", errors) {
        tests.push(AttributeTest::IsMissing(wanted));
    }
    let mut tests = tests.into_iter();
    match (tests.next(), tests.next()) {
        (Some(test), None) => Some(Condition::Attribute { attribute, test }),
        _ => {
            let message = "an attribute needs exactly one test: equals, in, at_least, at_most, starts_with or is_missing";
            errors.add(fields.place, &fields.path, "condition", message);
            None
        }
    }
}

fn literal(node: &Node, path: &str, errors: &mut Errors) -> Option<Literal> {
    match &node.body {
        Body::Scalar {
            text,
            is_text: true,
        } => Some(Literal::Text(text.clone())),
        Body::Scalar {
            text,
            is_text: false,
        } => Some(match (text.as_str(), text.parse()) {
            ("true", _) => Literal::Boolean(true),
            ("false", _) => Literal::Boolean(false),
            (_, Ok(number)) => Literal::Integer(number),
            _ => Literal::Text(text.clone()),
        }),
        Body::List(_) | Body::Map(_) => {
            errors.add(node.place, path, "type", "this must be a single value");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_alone_reads_back_as_it_is_written() {
        let written = json!({"all": [
            {"attribute": "country", "in": ["DE", "FR"]},
            {"not": {"attribute": "department", "equals": "Warehouse"}},
            {"any": [{"attribute": "level", "at_least": 3}, {"attribute": "level", "is_missing": true}]},
            {"attribute": "mail", "starts_with": "a"},
            {"attribute": "hired", "at_most": "2026-11-24"},
        ]});
        let condition = read(&written).unwrap();
        assert_eq!(write(&condition), written);
        let said = condition.to_string();
        assert!(
            said.starts_with("country in [\"DE\", \"FR\"] and not ("),
            "{said}"
        );
    }

    #[test]
    fn what_is_no_condition_is_refused_with_its_place() {
        let errors = read(&json!({"all": [{"attribute": "country"}]})).unwrap_err();
        let first = errors.0.first().unwrap();
        assert_eq!(
            (first.field.as_str(), first.code.as_str()),
            ("all[0]", "condition")
        );
        for written in [
            json!("DE"),
            json!(null),
            json!({"country": "DE"}),
            json!([]),
        ] {
            assert!(read(&written).is_err(), "{written}");
        }
    }
}
