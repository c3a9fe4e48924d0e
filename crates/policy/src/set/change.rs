//! What one set changes in another, and whether that makes anything easier.

use serde::{Deserialize, Serialize};

use super::PolicySet;
use crate::named::named;
use crate::rule::check::tightens;

named! {
    /// What happens to a rule.
    pub enum ChangeKind: "change" {
        /// It is new.
        Added = "added",
        /// It still does at least what it did.
        Tightened = "tightened",
        /// It may do less than it did, as far as can be shown.
        Loosened = "loosened",
        /// It is gone.
        Removed = "removed",
        /// Only its words change.
        Reworded = "reworded",
    }
}

impl ChangeKind {
    /// Says whether something may slip through that did not before.
    #[must_use]
    pub const fn loosens(self) -> bool {
        match self {
            Self::Loosened | Self::Removed => true,
            Self::Added | Self::Tightened | Self::Reworded => false,
        }
    }
}

/// What happens to one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The rule.
    pub rule: String,
    /// What happens to it.
    pub change: ChangeKind,
}

impl PolicySet {
    /// Returns what changes when this set is replaced by another, in the order of the rules' ids.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let mut ids: Vec<&str> = self
            .rules
            .iter()
            .chain(&new.rules)
            .map(|rule| rule.id.as_str())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let changes = ids.into_iter().filter_map(|id| {
            let change = match (self.rule(id), new.rule(id)) {
                (None, None) => return None,
                (None, Some(_)) => ChangeKind::Added,
                (Some(was), None) if was.shadow => ChangeKind::Reworded,
                (Some(_), None) => ChangeKind::Removed,
                (Some(was), Some(is)) if was == is => return None,
                (Some(was), Some(is)) => {
                    let mut worded = is.clone();
                    worded.says.clone_from(&was.says);
                    match (*was == worded, tightens(was, is)) {
                        (true, _) => ChangeKind::Reworded,
                        (false, true) => ChangeKind::Tightened,
                        // A rule in shadow held nothing.
                        (false, false) if was.shadow => ChangeKind::Tightened,
                        (false, false) => ChangeKind::Loosened,
                    }
                }
            };
            Some(Change {
                rule: id.to_owned(),
                change,
            })
        });
        changes.collect()
    }
}
