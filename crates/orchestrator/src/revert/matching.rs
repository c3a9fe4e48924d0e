//! Who of a population a condition holds for, worked out once for everybody.

use tidegate_policy::Condition;

use crate::ids::Ordinal;
use crate::plan::select::Bound;
use crate::population::Population;

/// Whom a condition holds for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matching(Vec<bool>);

impl Matching {
    /// Evaluates a condition for everybody.
    ///
    /// # Errors
    /// With a code and a sentence for each part that does not fit the attributes there are.
    pub fn of(
        condition: &Condition,
        population: &Population,
    ) -> Result<Self, Vec<(String, String)>> {
        let schema = |name: &str| population.attribute_type(name);
        let errors = condition.check(&schema);
        if !errors.is_empty() {
            let named = errors.into_iter();
            return Err(named
                .map(|error| (error.code.to_owned(), error.sentence))
                .collect());
        }
        let bound = Bound::new(condition, population);
        Ok(Self(
            population
                .ordinals()
                .map(|ordinal| bound.holds(ordinal))
                .collect(),
        ))
    }

    /// Says whether it holds for somebody.
    #[must_use]
    pub fn holds(&self, ordinal: Ordinal) -> bool {
        let place = usize::try_from(ordinal.get()).ok();
        place
            .and_then(|place| self.0.get(place))
            .copied()
            .unwrap_or(false)
    }
}
