//! What a hold covers, and the place that work is done at.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::ids::{RolloutId, TargetId, WaveNumber};

/// What a hold covers. A wider one covers everything below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "WireScope", into = "WireScope")]
pub enum Scope {
    /// Every rollout onto every target.
    Everything,
    /// Every rollout onto this target.
    Target(TargetId),
    /// Every wave of this rollout.
    Rollout(RolloutId),
    /// One wave.
    Wave(RolloutId, WaveNumber),
    /// Those of one wave who are parked, and no place: whoever is parked is not claimed by anybody.
    Part(RolloutId, WaveNumber),
}

/// Where work is, or would be, done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The target people are moved onto.
    pub target: TargetId,
    /// The rollout that moves them.
    pub rollout: RolloutId,
    /// The wave they are in; `None` for the rollout as a whole.
    pub wave: Option<WaveNumber>,
}

impl Place {
    /// Names one wave of a rollout.
    #[must_use]
    pub const fn wave(target: TargetId, rollout: RolloutId, wave: WaveNumber) -> Self {
        Self {
            target,
            rollout,
            wave: Some(wave),
        }
    }

    /// Names a rollout as a whole.
    #[must_use]
    pub const fn rollout(target: TargetId, rollout: RolloutId) -> Self {
        Self {
            target,
            rollout,
            wave: None,
        }
    }

    /// Returns every scope that covers this place, the widest first.
    pub fn scopes(&self) -> impl Iterator<Item = Scope> + use<> {
        let wave = self.wave.map(|wave| Scope::Wave(self.rollout, wave));
        [
            Scope::Everything,
            Scope::Target(self.target),
            Scope::Rollout(self.rollout),
        ]
        .into_iter()
        .chain(wave)
    }
}

impl Scope {
    /// Says whether a hold of this scope stops work at `place`.
    ///
    /// A hold on one wave does not cover the rollout as a whole.
    #[must_use]
    pub fn covers(&self, place: &Place) -> bool {
        place.scopes().any(|scope| scope == *self)
    }

    /// Returns the stable name of the kind of scope.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Target(_) => "target",
            Self::Rollout(_) => "rollout",
            Self::Wave(_, _) => "wave",
            Self::Part(_, _) => "part",
        }
    }

    /// Returns the id of what is covered, if it is one thing.
    #[must_use]
    pub const fn uuid(&self) -> Option<Uuid> {
        match self {
            Self::Everything => None,
            Self::Target(target) => Some(target.uuid()),
            Self::Rollout(rollout) | Self::Wave(rollout, _) | Self::Part(rollout, _) => {
                Some(rollout.uuid())
            }
        }
    }

    /// Returns the wave that is covered, if it is one wave.
    #[must_use]
    pub const fn wave(&self) -> Option<WaveNumber> {
        match self {
            Self::Everything | Self::Target(_) | Self::Rollout(_) => None,
            Self::Wave(_, wave) | Self::Part(_, wave) => Some(*wave),
        }
    }

    /// Builds the scope from its stored parts, which `name`, `uuid` and `wave` give back.
    ///
    /// # Errors
    /// When the parts do not fit each other.
    pub fn from_parts(
        name: &str,
        id: Option<Uuid>,
        wave: Option<WaveNumber>,
    ) -> Result<Self, ScopeError> {
        match (name, id, wave) {
            ("everything", None, None) => Ok(Self::Everything),
            ("target", Some(id), None) => Ok(Self::Target(TargetId::new(id))),
            ("rollout", Some(id), None) => Ok(Self::Rollout(RolloutId::new(id))),
            ("wave", Some(id), Some(wave)) => Ok(Self::Wave(RolloutId::new(id), wave)),
            ("part", Some(id), Some(wave)) => Ok(Self::Part(RolloutId::new(id), wave)),
            ("everything" | "target" | "rollout" | "wave" | "part", _, _) => {
                Err(ScopeError::Parts {
                    name: name.to_owned(),
                })
            }
            _ => Err(ScopeError::Name {
                name: name.to_owned(),
            }),
        }
    }
}

/// The parts given do not make a scope.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScopeError {
    /// No scope has this name.
    #[error("`{name}` is not a scope: use `everything`, `target`, `rollout` or `wave`")]
    Name {
        /// The name given.
        name: String,
    },
    /// An id or a wave number is missing or too many.
    #[error("a scope of `{name}` takes {}", parts_taken(name))]
    Parts {
        /// The name given.
        name: String,
    },
}

fn parts_taken(name: &str) -> &'static str {
    match name {
        "everything" => "neither `id` nor `wave`",
        "wave" | "part" => "both `id` (of the rollout) and `wave`",
        _ => "an `id` and no `wave`",
    }
}

/// The scope as it is written: `{"type":"wave","id":"…","wave":3}`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireScope {
    r#type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wave: Option<WaveNumber>,
}

impl From<Scope> for WireScope {
    fn from(scope: Scope) -> Self {
        Self {
            r#type: scope.name().to_owned(),
            id: scope.uuid(),
            wave: scope.wave(),
        }
    }
}

impl TryFrom<WireScope> for Scope {
    type Error = ScopeError;

    fn try_from(wire: WireScope) -> Result<Self, ScopeError> {
        Self::from_parts(&wire.r#type, wire.id, wire.wave)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: TargetId = TargetId::new(Uuid::from_u128(1));
    const OTHER_TARGET: TargetId = TargetId::new(Uuid::from_u128(2));
    const ROLLOUT: RolloutId = RolloutId::new(Uuid::from_u128(1));
    const OTHER: RolloutId = RolloutId::new(Uuid::from_u128(3));
    const TWO: WaveNumber = WaveNumber(2);

    #[track_caller]
    fn check_covers(scope: Scope, place: Place, covers: bool) {
        assert_eq!(scope.covers(&place), covers, "{scope:?} {place:?}");
    }

    #[test]
    fn a_wider_scope_covers_everything_below_it_and_nothing_beside_it() {
        let here = Place::wave(TARGET, ROLLOUT, TWO);
        check_covers(Scope::Everything, here, true);
        check_covers(Scope::Target(TARGET), here, true);
        check_covers(Scope::Target(OTHER_TARGET), here, false);
        check_covers(Scope::Rollout(ROLLOUT), here, true);
        check_covers(Scope::Rollout(OTHER), here, false);
        check_covers(Scope::Wave(ROLLOUT, TWO), here, true);
        check_covers(Scope::Wave(ROLLOUT, WaveNumber(3)), here, false);
        check_covers(Scope::Wave(OTHER, TWO), here, false);
        check_covers(Scope::Part(ROLLOUT, TWO), here, false);
    }

    #[test]
    fn a_hold_on_a_wave_does_not_cover_the_rollout_as_a_whole() {
        check_covers(
            Scope::Wave(ROLLOUT, TWO),
            Place::rollout(TARGET, ROLLOUT),
            false,
        );
        check_covers(
            Scope::Rollout(ROLLOUT),
            Place::rollout(TARGET, ROLLOUT),
            true,
        );
    }

    #[test]
    fn the_written_form_reads_back_and_is_frozen() {
        let scopes = [
            (Scope::Everything, r#"{"type":"everything"}"#),
            (
                Scope::Wave(ROLLOUT, TWO),
                r#"{"type":"wave","id":"00000000-0000-0000-0000-000000000001","wave":2}"#,
            ),
        ];
        for (scope, text) in scopes {
            assert_eq!(serde_json::to_string(&scope).unwrap(), text);
            assert_eq!(serde_json::from_str::<Scope>(text).unwrap(), scope);
        }
    }

    #[test]
    fn a_scope_with_missing_or_extra_parts_is_refused_with_what_it_takes() {
        let error = serde_json::from_str::<Scope>(r#"{"type":"wave"}"#)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("both `id` (of the rollout) and `wave`"),
            "{error}"
        );
        let error = Scope::from_parts("everything", Some(Uuid::nil()), None).unwrap_err();
        assert!(error.to_string().contains("neither"), "{error}");
        let error = Scope::from_parts("planet", None, None).unwrap_err();
        assert!(error.to_string().contains("`planet`"), "{error}");
    }
}
