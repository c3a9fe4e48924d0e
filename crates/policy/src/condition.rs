//! Conditions over attributes: a closed, typed, total language.
//!
//! ```yaml
//! all:
//!   - {attribute: country, in: [DE, FR]}
//!   - not: {attribute: department, equals: Warehouse}
//! ```
//! A test on an attribute that a person does not have is false, so `not` of it is true; whoever cares
//! asks `is_missing`. Nothing here can fail at evaluation: what could is refused by [`Condition::check`].

pub mod written;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::attribute::{AttributeType, AttributeValue};

/// A value as it is written in a condition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Literal {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Anything else; a day is written `2026-11-24`.
    Text(String),
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(truth) => truth.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Text(text) => write!(f, "\"{text}\""),
        }
    }
}

impl Literal {
    /// Returns the literal as a value of a type; `None` when it is none.
    #[must_use]
    pub fn typed(&self, attribute_type: AttributeType) -> Option<AttributeValue> {
        match (attribute_type, self) {
            (AttributeType::Text | AttributeType::Reference, Self::Text(text)) => {
                Some(AttributeValue::Text(text.clone()))
            }
            // A code such as 0042 loses its zeros as a number, so a number is text only when quoted.
            (AttributeType::Boolean, Self::Boolean(truth)) => Some(AttributeValue::Boolean(*truth)),
            (AttributeType::Integer, Self::Integer(number)) => {
                Some(AttributeValue::Integer(*number))
            }
            (AttributeType::Date, Self::Text(text)) => AttributeType::Date.parse(text),
            _ => None,
        }
    }

    /// Compares with a value of the same type.
    fn compare(&self, value: &AttributeValue) -> Option<std::cmp::Ordering> {
        match (self, value) {
            (Self::Text(text), AttributeValue::Text(other)) => Some(other.as_str().cmp(text)),
            (Self::Boolean(truth), AttributeValue::Boolean(other)) => Some(other.cmp(truth)),
            (Self::Integer(number), AttributeValue::Integer(other)) => Some(other.cmp(number)),
            (Self::Text(text), AttributeValue::Date(other)) => {
                crate::attribute::days_of(text).map(|days| other.cmp(&days))
            }
            _ => None,
        }
    }
}

/// What is asked of one attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttributeTest {
    /// It has this value.
    Equals(Literal),
    /// It has one of these values.
    In(Vec<Literal>),
    /// It is this or more; for numbers and days.
    AtLeast(Literal),
    /// It is this or less; for numbers and days.
    AtMost(Literal),
    /// It begins with this; for text.
    StartsWith(String),
    /// It has no value (`true`), or some value (`false`).
    IsMissing(bool),
}

impl fmt::Display for AttributeTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equals(literal) => write!(f, "= {literal}"),
            Self::In(literals) => {
                let written: Vec<String> = literals.iter().map(ToString::to_string).collect();
                write!(f, "in [{}]", written.join(", "))
            }
            Self::AtLeast(literal) => write!(f, ">= {literal}"),
            Self::AtMost(literal) => write!(f, "<= {literal}"),
            Self::StartsWith(text) => write!(f, "starts with {text:?}"),
            Self::IsMissing(true) => f.write_str("is missing"),
            Self::IsMissing(false) => f.write_str("is not missing"),
        }
    }
}

/// A condition over the attributes of one person.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Every one of these.
    All(Vec<Condition>),
    /// At least one of these.
    Any(Vec<Condition>),
    /// Not this.
    Not(Box<Condition>),
    /// A test of one attribute.
    Attribute {
        /// Which attribute.
        attribute: String,
        /// What is asked of it.
        test: AttributeTest,
    },
}

/// Why a condition cannot be used with a schema.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{path}: {sentence}")]
pub struct ConditionError {
    /// Where in the condition, such as `all[1].not`.
    pub path: String,
    /// The stable code.
    pub code: &'static str,
    /// What is wrong and what would be right.
    pub sentence: String,
}

/// The condition in words, such as `country in ["DE", "FR"] and not (department = "Warehouse")`.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Self], word: &str, none: &str| {
            if parts.is_empty() {
                return f.write_str(none);
            }
            for (place, part) in parts.iter().enumerate() {
                if place > 0 {
                    write!(f, " {word} ")?;
                }
                match part {
                    Self::All(_) | Self::Any(_) => write!(f, "({part})")?,
                    Self::Not(_) | Self::Attribute { .. } => write!(f, "{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::All(parts) => joined(f, parts, "and", "everybody"),
            Self::Any(parts) => joined(f, parts, "or", "nobody"),
            Self::Not(part) => write!(f, "not ({part})"),
            Self::Attribute { attribute, test } => write!(f, "{attribute} {test}"),
        }
    }
}

impl Condition {
    /// Returns everything that makes the condition unfit for a schema; empty: it cannot fail.
    #[must_use]
    pub fn check(&self, schema: &dyn Fn(&str) -> Option<AttributeType>) -> Vec<ConditionError> {
        let mut errors = Vec::new();
        self.check_at("", schema, &mut errors);
        errors
    }

    fn check_at(
        &self,
        path: &str,
        schema: &dyn Fn(&str) -> Option<AttributeType>,
        errors: &mut Vec<ConditionError>,
    ) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                let name = if matches!(self, Self::All(_)) {
                    "all"
                } else {
                    "any"
                };
                let path = join(path, name);
                if parts.is_empty() {
                    let sentence = format!("`{name}` needs at least one condition");
                    errors.push(ConditionError {
                        path: path.clone(),
                        code: "condition_empty",
                        sentence,
                    });
                }
                for (index, part) in parts.iter().enumerate() {
                    part.check_at(&format!("{path}[{index}]"), schema, errors);
                }
            }
            Self::Not(part) => part.check_at(&join(path, "not"), schema, errors),
            Self::Attribute { attribute, test } => match schema(attribute) {
                Some(attribute_type) => test.check(attribute, attribute_type, path, errors),
                None => errors.push(ConditionError {
                    path: join(path, "attribute"),
                    code: "attribute_unknown",
                    sentence: format!("the population has no attribute `{attribute}`"),
                }),
            },
        }
    }

    /// Returns the attributes the condition looks at.
    #[must_use]
    pub fn attributes(&self) -> BTreeSet<&str> {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().flat_map(Self::attributes).collect()
            }
            Self::Not(part) => part.attributes(),
            Self::Attribute { attribute, .. } => BTreeSet::from([attribute.as_str()]),
        }
    }

    /// Returns how many values and tests it is made of: what asking it of one person costs.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                let sizes = parts.iter().map(Self::size);
                sizes.fold(1, usize::saturating_add)
            }
            Self::Not(part) => part.size().saturating_add(1),
            Self::Attribute { test, .. } => test.literals().len().saturating_add(1),
        }
    }

    /// Says whether the condition holds for a person. Total: a test that does not fit is false.
    pub fn evaluate(&self, value_of: &dyn Fn(&str) -> Option<AttributeValue>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.evaluate(value_of)),
            Self::Any(parts) => parts.iter().any(|part| part.evaluate(value_of)),
            Self::Not(part) => !part.evaluate(value_of),
            Self::Attribute { attribute, test } => test.holds(value_of(attribute).as_ref()),
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

impl AttributeTest {
    fn literals(&self) -> &[Literal] {
        match self {
            Self::Equals(literal) | Self::AtLeast(literal) | Self::AtMost(literal) => {
                std::slice::from_ref(literal)
            }
            Self::In(literals) => literals,
            Self::StartsWith(_) | Self::IsMissing(_) => &[],
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Equals(_) => "equals",
            Self::In(_) => "in",
            Self::AtLeast(_) => "at_least",
            Self::AtMost(_) => "at_most",
            Self::StartsWith(_) => "starts_with",
            Self::IsMissing(_) => "is_missing",
        }
    }

    fn check(
        &self,
        attribute: &str,
        attribute_type: AttributeType,
        path: &str,
        errors: &mut Vec<ConditionError>,
    ) {
        let path = join(path, self.name());
        let kind = attribute_type.name();
        let is_ordered = matches!(attribute_type, AttributeType::Integer | AttributeType::Date);
        let is_text = matches!(
            attribute_type,
            AttributeType::Text | AttributeType::Reference
        );
        let unfit = match self {
            Self::AtLeast(_) | Self::AtMost(_) => !is_ordered,
            Self::StartsWith(_) => !is_text,
            Self::Equals(_) | Self::In(_) | Self::IsMissing(_) => false,
        };
        if unfit {
            let sentence = format!(
                "`{attribute}` is of type {kind}, which `{}` does not compare",
                self.name()
            );
            errors.push(ConditionError {
                path: path.clone(),
                code: "test_unfit",
                sentence,
            });
            return;
        }
        if matches!(self, Self::In(literals) if literals.is_empty()) {
            let sentence = "`in` needs at least one value".to_owned();
            errors.push(ConditionError {
                path: path.clone(),
                code: "condition_empty",
                sentence,
            });
        }
        for literal in self.literals() {
            if literal.typed(attribute_type).is_none() {
                let hint = match (attribute_type, literal) {
                    (
                        AttributeType::Text | AttributeType::Reference,
                        Literal::Integer(_) | Literal::Boolean(_),
                    ) => "; put it in quotes",
                    (AttributeType::Date, _) => "; write it as 2026-11-24",
                    _ => "",
                };
                let sentence =
                    format!("`{attribute}` is of type {kind}, and {literal} is not{hint}");
                errors.push(ConditionError {
                    path: path.clone(),
                    code: "value_type",
                    sentence,
                });
            }
        }
    }

    fn holds(&self, value: Option<&AttributeValue>) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        if let Self::IsMissing(wanted) = self {
            return value.is_none() == *wanted;
        }
        let Some(value) = value else { return false };
        match self {
            Self::Equals(literal) => literal.compare(value) == Some(Equal),
            Self::In(literals) => literals
                .iter()
                .any(|literal| literal.compare(value) == Some(Equal)),
            Self::AtLeast(literal) => matches!(literal.compare(value), Some(Greater | Equal)),
            Self::AtMost(literal) => matches!(literal.compare(value), Some(Less | Equal)),
            Self::StartsWith(prefix) => {
                matches!(value, AttributeValue::Text(text) if text.starts_with(prefix.as_str()))
            }
            Self::IsMissing(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(attribute: &str, test: AttributeTest) -> Condition {
        Condition::Attribute {
            attribute: attribute.to_owned(),
            test,
        }
    }

    fn text(text: &str) -> Literal {
        Literal::Text(text.to_owned())
    }

    fn person(name: &str) -> Option<AttributeValue> {
        match name {
            "country" => Some(AttributeValue::Text("DE".to_owned())),
            "level" => Some(AttributeValue::Integer(7)),
            "active" => Some(AttributeValue::Boolean(true)),
            "hired" => AttributeType::Date.parse("2020-05-01"),
            _ => None,
        }
    }

    fn schema(name: &str) -> Option<AttributeType> {
        match name {
            "country" | "site" => Some(AttributeType::Text),
            "level" => Some(AttributeType::Integer),
            "active" => Some(AttributeType::Boolean),
            "hired" => Some(AttributeType::Date),
            _ => None,
        }
    }

    #[test]
    fn every_test_holds_for_its_values_only() {
        for (condition, expected) in [
            (is("country", AttributeTest::Equals(text("DE"))), true),
            (
                is("country", AttributeTest::In(vec![text("FR"), text("DE")])),
                true,
            ),
            (
                is("country", AttributeTest::StartsWith("F".to_owned())),
                false,
            ),
            (
                is("level", AttributeTest::AtLeast(Literal::Integer(7))),
                true,
            ),
            (
                is("level", AttributeTest::AtMost(Literal::Integer(6))),
                false,
            ),
            (
                is("hired", AttributeTest::AtLeast(text("2020-05-01"))),
                true,
            ),
            (
                is("hired", AttributeTest::AtLeast(text("2020-05-02"))),
                false,
            ),
            (
                is("active", AttributeTest::Equals(Literal::Boolean(true))),
                true,
            ),
            (is("site", AttributeTest::IsMissing(true)), true),
            (is("country", AttributeTest::IsMissing(true)), false),
        ] {
            assert_eq!(condition.evaluate(&person), expected, "{condition:?}");
            assert!(condition.check(&schema).is_empty(), "{condition:?}");
            assert_eq!(
                Condition::Not(Box::new(condition)).evaluate(&person),
                !expected
            );
        }
    }

    #[test]
    fn a_test_of_a_missing_value_is_false_whatever_it_asks() {
        for test in [
            AttributeTest::Equals(text("")),
            AttributeTest::In(vec![text("")]),
            AttributeTest::StartsWith(String::new()),
        ] {
            assert!(!is("site", test).evaluate(&person));
        }
    }

    #[test]
    fn what_does_not_fit_the_schema_is_refused_with_its_place() {
        let condition = Condition::All(vec![
            is("countri", AttributeTest::Equals(text("DE"))),
            Condition::Not(Box::new(is("country", AttributeTest::AtLeast(text("A"))))),
            is("country", AttributeTest::Equals(Literal::Integer(42))),
            Condition::Any(vec![]),
            is("hired", AttributeTest::AtMost(text("soon"))),
        ]);
        let found: Vec<String> = condition
            .check(&schema)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "all[0].attribute: the population has no attribute `countri`",
                "all[1].not.at_least: `country` is of type text, which `at_least` does not compare",
                "all[2].equals: `country` is of type text, and 42 is not; put it in quotes",
                "all[3].any: `any` needs at least one condition",
                "all[4].at_most: `hired` is of type date, and \"soon\" is not; write it as 2026-11-24",
            ]
        );
    }
}
