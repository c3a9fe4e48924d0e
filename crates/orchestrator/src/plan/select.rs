//! Conditions over columns: each test is evaluated once per distinct value, and looked up per person.

use tidegate_policy::{AttributeTest, Condition};

use crate::ids::Ordinal;
use crate::population::{Column, Population};

/// A condition bound to the columns of one population.
#[derive(Debug)]
pub(crate) enum Bound<'a> {
    All(Vec<Bound<'a>>),
    Any(Vec<Bound<'a>>),
    Not(Box<Bound<'a>>),
    /// What the test says for each code of a column, 0 included.
    Test {
        column: &'a Column,
        holds: Vec<bool>,
    },
    /// The population has no such attribute; refused before it gets here.
    Never,
}

impl<'a> Bound<'a> {
    pub(crate) fn new(condition: &Condition, population: &'a Population) -> Self {
        match condition {
            Condition::All(parts) => Self::All(
                parts
                    .iter()
                    .map(|part| Self::new(part, population))
                    .collect(),
            ),
            Condition::Any(parts) => Self::Any(
                parts
                    .iter()
                    .map(|part| Self::new(part, population))
                    .collect(),
            ),
            Condition::Not(part) => Self::Not(Box::new(Self::new(part, population))),
            Condition::Attribute { attribute, test } => match population.column(attribute) {
                Some(column) => Self::Test {
                    column,
                    holds: by_code(attribute, test, column),
                },
                None => Self::Never,
            },
        }
    }

    pub(crate) fn holds(&self, ordinal: Ordinal) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(ordinal)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(ordinal)),
            Self::Not(part) => !part.holds(ordinal),
            Self::Test { column, holds } => usize::try_from(column.code(ordinal))
                .ok()
                .and_then(|code| holds.get(code))
                .copied()
                .unwrap_or(false),
            Self::Never => false,
        }
    }
}

fn by_code(attribute: &str, test: &AttributeTest, column: &Column) -> Vec<bool> {
    let leaf = Condition::Attribute {
        attribute: attribute.to_owned(),
        test: test.clone(),
    };
    let values = std::iter::once(None).chain(column.dictionary.iter().map(Some));
    values
        .map(|value| leaf.evaluate(&|_| value.cloned()))
        .collect()
}
