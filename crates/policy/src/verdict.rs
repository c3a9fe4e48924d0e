//! What a judgement comes to, from the mildest to the most severe.

use serde::{Deserialize, Serialize};

/// May it go on? Verdicts only ever add up to the most severe one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing stands in the way.
    #[default]
    Proceed,
    /// Wait: something is missing, unknown or bad.
    Hold,
    /// Stop: security says so.
    Halt,
}

impl Verdict {
    /// Returns the more severe of two verdicts.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.max(other)
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict;

    #[test]
    fn halt_beats_hold_beats_proceed() {
        assert_eq!(Verdict::Proceed.and(Verdict::Hold), Verdict::Hold);
        assert_eq!(Verdict::Halt.and(Verdict::Proceed), Verdict::Halt);
    }
}
