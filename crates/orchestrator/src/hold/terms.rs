//! Release terms of a halt: who must say yes, how long it must last, and how small the first step is.
//!
//! A halt without terms of its own has the defaults. While it is in force its terms only ever become
//! stricter: nobody makes a halt easier to release by editing what its release needs. Loosening them is
//! not a command here, so nothing can be tricked into it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::wave::ramp::Reentry;

/// The fewest people who can release a halt, whatever anybody writes.
pub const APPROVALS_FLOOR: u32 = 2;
/// More than this nobody gathers, and a halt must stay releasable.
const APPROVALS_CEILING: u32 = 20;
/// The longest minimum time: two years, so that a slip of the pen does not stop a company for ever.
const HOLD_HOURS_CEILING: u32 = 2 * 366 * 24;
/// A million parts are everybody.
const EVERYBODY_PPM: u64 = 1_000_000;

/// The seat that somebody approves in. A machine, an auditor and an administrator have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Whoever may halt.
    Security,
    /// Whoever runs the rollout: the owner of the service.
    Operations,
    /// Others who were asked to look.
    Approvers,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 3] = [Self::Security, Self::Operations, Self::Approvers];

    /// Returns the stable name of the group.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Security => "security",
            Self::Operations => "operations",
            Self::Approvers => "approvers",
        }
    }

    /// Returns the group of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.name() == name)
    }
}

/// What the release of a halt needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    /// So many people, none of whom asked for the release.
    pub approvals_needed: u32,
    /// At least one of each of these groups.
    pub groups: BTreeSet<Group>,
    /// The halt lasts at least so long.
    pub hold_hours_min: u32,
    /// The population was imported at most so many days ago.
    pub population_age_days_max: u32,
    /// Approvals are given within so many hours of the request.
    pub approval_hours: u32,
    /// The release is carried out within so many hours of the last approval that was needed.
    pub execution_hours: u32,
    /// How small the first step is.
    pub reentry: Reentry,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            approvals_needed: APPROVALS_FLOOR,
            groups: [Group::Security, Group::Operations].into(),
            hold_hours_min: 0,
            population_age_days_max: 30,
            approval_hours: 24,
            execution_hours: 4,
            reentry: Reentry::default(),
        }
    }
}

/// The domain says no to terms.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TermsRefusal {
    /// Something would become easier.
    #[error(
        "terms only become stricter while the halt is in force, and `{field}` would be looser: it is {was}"
    )]
    Looser {
        /// The field.
        field: &'static str,
        /// What it is.
        was: String,
    },
    /// A number makes no sense.
    #[error("`{field}` must be {bounds}")]
    OutOfBounds {
        /// The field.
        field: &'static str,
        /// What it may be.
        bounds: String,
    },
}

impl TermsRefusal {
    /// Returns the stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Looser { .. } => "terms_looser",
            Self::OutOfBounds { .. } => "terms_invalid",
        }
    }
}

impl Terms {
    /// Decides whether these terms may take the place of others.
    ///
    /// # Errors
    /// When something would become easier, or makes no sense.
    pub fn replacing(&self, was: &Self) -> Result<(), TermsRefusal> {
        self.check()?;
        let at_least = [
            (
                "approvals_needed",
                u64::from(self.approvals_needed),
                u64::from(was.approvals_needed),
            ),
            (
                "hold_hours_min",
                u64::from(self.hold_hours_min),
                u64::from(was.hold_hours_min),
            ),
        ];
        let at_most = [
            (
                "population_age_days_max",
                u64::from(self.population_age_days_max),
                u64::from(was.population_age_days_max),
            ),
            (
                "approval_hours",
                u64::from(self.approval_hours),
                u64::from(was.approval_hours),
            ),
            (
                "execution_hours",
                u64::from(self.execution_hours),
                u64::from(was.execution_hours),
            ),
            (
                "reentry.first",
                u64::from(self.reentry.first.get()),
                u64::from(was.reentry.first.get()),
            ),
            (
                "reentry.people_min",
                self.reentry.people_min,
                was.reentry.people_min,
            ),
            (
                "reentry.people_max",
                self.reentry.people_max,
                was.reentry.people_max,
            ),
        ];
        let looser = |field, was: String| Err(TermsRefusal::Looser { field, was });
        for (field, now, before) in at_least {
            if now < before {
                return looser(field, format!("at least {before}"));
            }
        }
        for (field, now, before) in at_most {
            if now > before {
                return looser(field, format!("at most {before}"));
            }
        }
        if !self.groups.is_superset(&was.groups) {
            let names: Vec<&str> = was.groups.iter().map(|group| group.name()).collect();
            return looser("groups", names.join(" and "));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TermsRefusal> {
        let within = [
            (
                "approvals_needed",
                u64::from(self.approvals_needed),
                u64::from(APPROVALS_FLOOR),
                u64::from(APPROVALS_CEILING),
            ),
            (
                "hold_hours_min",
                u64::from(self.hold_hours_min),
                0,
                HOLD_HOURS_CEILING.into(),
            ),
            (
                "population_age_days_max",
                u64::from(self.population_age_days_max),
                1,
                3660,
            ),
            ("approval_hours", u64::from(self.approval_hours), 1, 24 * 14),
            (
                "execution_hours",
                u64::from(self.execution_hours),
                1,
                24 * 7,
            ),
            (
                "reentry.first",
                u64::from(self.reentry.first.get()),
                1,
                EVERYBODY_PPM,
            ),
            ("reentry.people_max", self.reentry.people_max, 1, u64::MAX),
        ];
        for (field, number, least, most) in within {
            if !(least..=most).contains(&number) {
                let bounds = format!("from {least} to {most}");
                return Err(TermsRefusal::OutOfBounds { field, bounds });
            }
        }
        if self.reentry.people_min > self.reentry.people_max {
            let bounds = "at most `reentry.people_max`".to_owned();
            let field = "reentry.people_min";
            return Err(TermsRefusal::OutOfBounds { field, bounds });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_defaults_are_two_people_one_of_security_and_one_of_operations() {
        let text = serde_json::to_string(&Terms::default()).unwrap();
        assert_eq!(
            text,
            r#"{"approvals_needed":2,"groups":["security","operations"],"hold_hours_min":0,"population_age_days_max":30,"approval_hours":24,"execution_hours":4,"reentry":{"first":10000,"people_min":50,"people_max":1000}}"#
        );
        assert_eq!(
            serde_json::from_str::<Terms>("{}").unwrap(),
            Terms::default()
        );
    }

    #[test]
    fn terms_become_stricter_and_never_looser() {
        let was = Terms::default();
        let change = |change: fn(&mut Terms)| {
            let mut terms = was.clone();
            change(&mut terms);
            terms.replacing(&was).map_err(|refusal| refusal.code())
        };
        assert_eq!(change(|_| ()), Ok(()));
        assert_eq!(change(|terms| terms.approvals_needed = 3), Ok(()));
        assert_eq!(change(|terms| terms.hold_hours_min = 720), Ok(()));
        assert_eq!(
            change(|terms| terms.approvals_needed = 1),
            Err("terms_invalid")
        );
        assert_eq!(
            change(|terms| terms.approvals_needed = 4_000_000),
            Err("terms_invalid")
        );
        assert_eq!(change(|terms| terms.groups.clear()), Err("terms_looser"));
        assert_eq!(
            change(|terms| terms.execution_hours = 5),
            Err("terms_looser")
        );
        assert_eq!(
            change(|terms| terms.execution_hours = 0),
            Err("terms_invalid")
        );
        assert_eq!(
            change(|terms| terms.population_age_days_max = 31),
            Err("terms_looser")
        );
        assert_eq!(
            change(|terms| terms.reentry.people_max = 1001),
            Err("terms_looser")
        );
        assert_eq!(
            change(|terms| terms.reentry.people_min = 1001),
            Err("terms_invalid")
        );
    }

    fn any_terms() -> impl Strategy<Value = Terms> {
        (2_u32..5, 0_u32..8, 0_u32..4, 1_u32..4, 1_u32..4).prop_map(
            |(approvals_needed, groups, hold_hours_min, approval_hours, execution_hours)| Terms {
                approvals_needed,
                groups: Group::ALL
                    .into_iter()
                    .enumerate()
                    .filter(|(place, _)| groups >> place & 1 == 1)
                    .map(|(_, group)| group)
                    .collect(),
                hold_hours_min,
                approval_hours,
                execution_hours,
                ..Terms::default()
            },
        )
    }

    proptest! {
        /// However often they are replaced, nothing that was needed at the start is not needed at the end.
        #[test]
        fn no_path_of_changes_makes_terms_looser(path in prop::collection::vec(any_terms(), 1..6)) {
            let first = Terms { groups: BTreeSet::new(), approval_hours: 24, ..Terms::default() };
            let mut now = first.clone();
            for next in path {
                if next.replacing(&now).is_ok() {
                    now = next;
                }
            }
            prop_assert!(now.replacing(&first).is_ok());
        }
    }
}
