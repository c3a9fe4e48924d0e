//! A policy set: rules that are written, tested, approved and replaced together.
//!
//! It is known by the digest of what it says, however it is written. `case` is about the tests that stand
//! beside the rules, `change` about what one set changes in another, `replay` about what it would have done,
//! `schema` about the shape of one for editors.

pub mod case;
pub mod change;
pub mod replay;
pub mod schema;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use self::case::Case;
use crate::digest::Digest;
use crate::document::reader::{Errors, Fields, list};
use crate::document::{DocumentErrors, Format, Node, read};
use crate::rule::Rule;
use crate::rule::read::{name, rule};

/// The longest text of a set, in bytes.
pub const TEXT_MAX: usize = 512 * 1024;
/// How many rules a set may have.
const RULES_MAX: usize = 500;
/// How many tests it may have.
const CASES_MAX: usize = 2000;

/// Rules, and the tests that stand beside them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySet {
    /// Its name, the same from version to version.
    pub name: String,
    /// The rules. Their order says nothing: the most severe verdict counts.
    pub rules: Vec<Rule>,
    /// The tests.
    pub tests: Vec<Case>,
}

/// The set that a new installation begins with.
pub const STARTER: &str = include_str!("set/starter.yaml");

impl PolicySet {
    /// Reads a set.
    ///
    /// # Errors
    ///
    /// Every error there is, each with its line. A set that is read has passed every check of its rules;
    /// its tests have not run (`failures`).
    pub fn parse(text: &str, format: Format) -> Result<Self, DocumentErrors> {
        let mut errors = Errors::default();
        if text.len() > TEXT_MAX {
            let message = format!("a policy set has at most {TEXT_MAX} bytes");
            errors.add(
                crate::document::Place { line: 1, column: 1 },
                "",
                "too_large",
                message,
            );
            return errors.or(None);
        }
        let node = read(text, format)?;
        let set = set(node, &mut errors);
        errors.or(set)
    }

    /// Returns the digest of the rules, however they are written. The tests are not in it: they decide nothing.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut rules: Vec<&Rule> = self.rules.iter().collect();
        rules.sort_by(|one, other| one.id.cmp(&other.id));
        // The JSON form has a fixed order of fields. It cannot fail: every key is a text.
        let written = serde_json::to_string(&(&self.name, rules)).unwrap_or_default();
        Digest::of(written.as_bytes())
    }

    /// Returns the rule of that id.
    #[must_use]
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.id == id)
    }
}

fn set(node: Node, errors: &mut Errors) -> Option<PolicySet> {
    let mut fields = Fields::open(node, "", errors)?;
    let name = name(&mut fields, "policy_set", errors);
    let mut rules: Vec<Rule> = Vec::new();
    let mut known = BTreeSet::new();
    let is_empty = !fields.has("rules");
    if let Some(nodes) = many(&mut fields, "rules", RULES_MAX, errors) {
        for (number, node) in nodes.into_iter().enumerate() {
            let (place, path) = (node.place, format!("rules[{number}]"));
            if let Some(found) = rule(node, &path, errors) {
                if !known.insert(found.id.clone()) {
                    let message = format!("there are two rules `{}`", found.id);
                    errors.add(place, &format!("{path}.id"), "duplicate", message);
                }
                rules.push(found);
            }
        }
    }
    let mut tests = Vec::new();
    for (number, node) in many(&mut fields, "tests", CASES_MAX, errors)
        .unwrap_or_default()
        .into_iter()
        .enumerate()
    {
        tests.extend(case::read(node, &format!("tests[{number}]"), errors));
    }
    if is_empty {
        let message =
            "a set needs at least one rule: without any, nothing that is reported stops anything";
        errors.add(fields.place, "rules", "missing", message);
    }
    fields.end(errors);
    Some(PolicySet {
        name: name?,
        rules,
        tests,
    })
}

fn many(
    fields: &mut Fields,
    field: &'static str,
    most: usize,
    errors: &mut Errors,
) -> Option<Vec<Node>> {
    let path = fields.at(field);
    let node = fields.take(field)?;
    let place = node.place;
    let nodes = list(node, &path, errors)?;
    if nodes.len() > most {
        errors.add(place, &path, "too_many", format!("at most {most} of these"));
        return None;
    }
    Some(nodes)
}

#[cfg(test)]
mod tests;
