//! Which column of a file means what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_policy::AttributeType;

/// Which column of a file means what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The column of the immutable directory id.
    #[serde(default = "default_key")]
    pub key: String,
    /// What is said about single columns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, ColumnMapping>,
    /// The column that names a member's manager by directory id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    /// Columns whose equal values keep members together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep_together: Vec<String>,
}

/// What is said about one column.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnMapping {
    /// The attribute's name; the column's name when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
    /// Its type; found out from the values when missing: boolean, date, or else text.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub attribute_type: Option<AttributeType>,
    /// Whether it is left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore: bool,
}

fn default_key() -> String {
    "employee_id".to_owned()
}

impl Default for Mapping {
    fn default() -> Self {
        Self {
            key: default_key(),
            columns: BTreeMap::new(),
            manager: None,
            keep_together: Vec::new(),
        }
    }
}

impl Mapping {
    /// Returns the attribute a column becomes; `None` when it is left out.
    #[must_use]
    pub fn attribute<'a>(&'a self, column: &'a str) -> Option<&'a str> {
        match self.columns.get(column) {
            Some(said) if said.ignore => None,
            Some(said) => Some(said.attribute.as_deref().unwrap_or(column)),
            None => Some(column),
        }
    }

    /// Returns the type a column is said to have.
    #[must_use]
    pub fn attribute_type(&self, column: &str) -> Option<AttributeType> {
        if self.manager.as_deref() == Some(column) {
            return Some(AttributeType::Reference);
        }
        if self.keep_together.iter().any(|name| name == column) {
            return Some(AttributeType::Text);
        }
        self.columns
            .get(column)
            .and_then(|said| said.attribute_type)
    }

    /// Returns what is wrong with the mapping, one sentence each.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.key.trim().is_empty() {
            wrong.push("`key` must name the column of the directory id".to_owned());
        }
        let mut names = BTreeMap::new();
        for (column, said) in &self.columns {
            if *column == self.key && said.ignore {
                wrong.push(format!(
                    "column `{column}` holds the directory id and cannot be ignored"
                ));
            }
            let name = said.attribute.as_deref().unwrap_or(column);
            if let Some(other) = names.insert(name, column) {
                wrong.push(format!(
                    "columns `{other}` and `{column}` cannot both become attribute `{name}`"
                ));
            }
        }
        wrong
    }
}
