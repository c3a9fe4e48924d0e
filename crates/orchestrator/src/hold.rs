//! Holds: dated reasons not to go on. A rollout moves only while none in force covers it.
//!
//! Paused is therefore never a status that must remember what was before: it is derived from the set.
//! Placing a hold is idempotent and commutes; removing one removes that one only. A hold never
//! expires: its review date nags (`review`), and nothing ends by it.
//!
//! `scope` says what a hold covers, `set` answers quickly which ones are in force, `place` decides
//! about placing and releasing, `heads` says how many people one stops, and `moved` what it means for
//! those who were moved already. `part` is about holds on some people of a wave. Sending checks are in `crate::permit`.
//!
//! A halt ends by a procedure: `terms` says what it takes, `requirement` what must be true, `preflight`
//! looks at everything, and `release` decides about requests, approvals and the execution. `exempt` is what
//! may go on although a halt stays in force, and `emergency` decides who may have that, and for how long.

pub mod emergency;
pub mod exempt;
pub mod heads;
pub mod moved;
pub mod part;
pub mod place;
pub mod preflight;
pub mod quorum;
pub mod release;
pub mod requirement;
pub mod review;
pub mod scope;
pub mod set;
pub mod terms;

use serde::{Deserialize, Serialize};

pub use self::exempt::Exemption;
pub use self::part::Part;
pub use self::place::{HoldRefusal, Placement, Wanted};
pub use self::scope::{Place, Scope};
pub use self::set::{HoldSet, InForce};
use crate::digest::Digest;
use crate::ids::{Epoch, Generation, HoldId, Principal, TargetId, Timestamp, WaveNumber};

/// Whose stop it is. The order is from the least to the most severe; the most severe names a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// The calendar says no.
    Freeze,
    /// Operations want to look; the rollout manager places and releases it alone.
    Pause,
    /// Evidence is missing or bad; it follows the verdict of its wave.
    Gate,
    /// Security says stop; it outlives specs, plans, restarts and deadlines.
    Halt,
}

impl HoldKind {
    /// Every kind, from the least to the most severe.
    pub const ALL: [Self; 4] = [Self::Freeze, Self::Pause, Self::Gate, Self::Halt];

    /// Returns the stable name of the kind.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Halt => "halt",
            Self::Freeze => "freeze",
            Self::Gate => "gate",
        }
    }

    /// Returns the kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What a hold does about people who have already been moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovedPeople {
    /// They keep what they have.
    #[default]
    Keep,
    /// They keep it, and nothing about them changes.
    Freeze,
    /// They are moved back.
    Revert,
}

impl MovedPeople {
    /// Returns the stable name of the effect.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Freeze => "freeze",
            Self::Revert => "revert",
        }
    }

    /// Returns the effect of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Keep, Self::Freeze, Self::Revert]
            .into_iter()
            .find(|effect| effect.name() == name)
    }
}

/// What made somebody, or something, place a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Cause {
    /// People, in the order in which they asked.
    People {
        /// Everybody who asked for this hold; the first one placed it.
        principals: Vec<Principal>,
    },
    /// The gate of a wave failed.
    Gate {
        /// The wave whose gate it was.
        wave: WaveNumber,
        /// The name of the condition that failed.
        condition: String,
    },
    /// A calendar entry.
    Calendar {
        /// The name of the entry.
        name: String,
    },
    /// A rule of the policy set in force applied, or could not say.
    Rule {
        /// The rule.
        rule: String,
        /// The digest of the set.
        policy: Digest,
        /// The target that the rule was asked about.
        target: TargetId,
        /// The signal that decided; `None`: a source that fell silent did.
        signal: Option<String>,
        /// The facts that were missing, by their codes; empty: the rule applied.
        faults: Vec<String>,
    },
}

/// Who ended a hold, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Who.
    pub by: Principal,
    /// When.
    pub at: Timestamp,
    /// The epoch that the release made.
    pub epoch: Epoch,
    /// Why.
    pub reason: String,
}

/// A hold, in force until it is released. A released hold keeps its record for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Its name.
    pub id: HoldId,
    /// Whose stop it is.
    pub kind: HoldKind,
    /// What it covers: while some people of a wave are meant and have not been sorted out, the whole wave.
    pub scope: Scope,
    /// Which people of the wave; `None`: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// What led to it.
    pub cause: Cause,
    /// Why, in the words of whoever placed it.
    pub reason: String,
    /// Who must see to its end.
    pub owner: Principal,
    /// What becomes of people already moved.
    pub effect: MovedPeople,
    /// Who placed it.
    pub placed_by: Principal,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// The epoch that placing it made.
    pub placed_epoch: Epoch,
    /// When its owner is reminded. It never ends by itself.
    pub review_at: Option<Timestamp>,
    /// How it ended, if it has.
    pub released: Option<Release>,
    /// The number of its last change.
    pub generation: Generation,
}

impl Hold {
    /// Says whether it still stops what it covers.
    #[must_use]
    pub const fn is_in_force(&self) -> bool {
        self.released.is_none()
    }

    /// Returns what workers and the planner need to know of it while it is in force.
    #[must_use]
    pub fn in_force(&self) -> Option<InForce> {
        self.is_in_force().then(|| InForce {
            id: self.id,
            kind: self.kind,
            scope: self.scope,
            since: self.placed_at,
            reason: self.reason.clone(),
            part: self.part.as_ref().map(|part| part.condition.clone()),
            by_rule: self.rule().is_some(),
            keeps: self.part.as_ref().and_then(|part| part.people),
        })
    }

    /// Returns the rule that placed it, if one did.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        match &self.cause {
            Cause::Rule { rule, .. } => Some(rule),
            Cause::People { .. } | Cause::Gate { .. } | Cause::Calendar { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_effects_read_back_their_names() {
        for kind in HoldKind::ALL {
            assert_eq!(HoldKind::from_name(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        assert_eq!(HoldKind::from_name("stop"), None);
        assert_eq!(MovedPeople::from_name("revert"), Some(MovedPeople::Revert));
    }

    #[test]
    fn a_halt_is_the_most_severe() {
        assert_eq!(HoldKind::ALL.into_iter().max(), Some(HoldKind::Halt));
    }
}
