//! Rules: what must be reported for something to be held, in a closed, typed, total language.
//!
//! ```yaml
//! id: token-theft-burst-pauses
//! says: Three sources reporting stolen tokens within an hour pause the target.
//! when:
//!   all:
//!     - {signal: kind, in: [credential_compromise, session_theft]}
//!     - {signal: vendor, is: target.vendor}
//!     - {window: 1h, distinct: source, at_least: 3}
//! trust_at_least: signed_fresh
//! then: {verdict: hold, kind: pause, scope: target, lift_after_clear_for: 12h}
//! ```
//! There are no names to resolve, no arithmetic and no loops, so nothing can fail but a fact that is
//! missing, and that holds (`judge`). Every branch is looked at: a fault never hides behind a branch that
//! decided. A signal added never lowers what a rule says: what counts signals may not stand under `not`,
//! and `check` refuses a rule where it does. `read` is about how rules are written, `tally` about
//! windows, `explain` about why a rule says what it says.

pub mod check;
pub mod explain;
pub mod judge;
pub mod read;
pub mod tally;

use serde::{Deserialize, Serialize};

use crate::named::named;
use crate::signal::{Dialect, Lifecycle, Reach, Severity, SignalKind, Trust};
use crate::time::Seconds;
use crate::verdict::Verdict;

named! {
    /// What follows from a rule, from the mildest to the most severe.
    pub enum Effect: "effect" {
        /// Somebody should look; nothing is held.
        Review = "review",
        /// A gate: nobody new begins until it is clear.
        Gate = "gate",
        /// A pause.
        Pause = "pause",
        /// A halt: people release it, by its terms.
        Halt = "halt",
    }
}

impl Effect {
    /// Returns the verdict that it is.
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Review => Verdict::Proceed,
            Self::Gate | Self::Pause => Verdict::Hold,
            Self::Halt => Verdict::Halt,
        }
    }
}

named! {
    /// What a hold by a rule covers, starting from a target that the rule was asked about.
    pub enum Reaches: "scope" {
        /// The waves with the people whom the signal is about; all of the rollout when it names nobody.
        Wave = "wave",
        /// Every rollout onto the target that is not over.
        Rollout = "rollout",
        /// The target, with every rollout onto it that is there or comes.
        Target = "target",
        /// Everything.
        Everything = "everything",
    }
}

named! {
    /// A field of a signal that is a text, or that a window can tell apart by.
    pub enum TextField: "field" {
        /// The source that reported it.
        Source = "source",
        /// The vendor that it is about.
        Vendor = "vendor",
        /// The tenant that it is about; one that is not named is any.
        Tenant = "tenant",
        /// The user that it is about; one that is not named is any.
        User = "user",
    }
}

/// What is asked of one signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignalTest {
    /// It reports one of these.
    Kind(Vec<SignalKind>),
    /// It is at least so bad.
    Severity {
        /// So bad.
        at_least: Severity,
        /// What a severity that is not known is taken for.
        unknown_is: Severity,
    },
    /// The source is at least so sure, 0 to 100.
    Confidence {
        /// So sure.
        at_least: u8,
        /// What a confidence that is not said is taken for.
        unknown_is: u8,
    },
    /// It stands at one of these.
    Lifecycle(Vec<Lifecycle>),
    /// It came in one of these formats.
    Dialect(Vec<Dialect>),
    /// A text is one of these, whatever the case.
    Text {
        /// Which.
        field: TextField,
        /// These.
        any_of: Vec<String>,
    },
    /// Its vendor is the vendor of the target.
    VendorOfTarget,
    /// Its tenant is the tenant of the target; one that is not named is any.
    TenantOfTarget,
    /// It is about one of these products; when it names none, about all.
    Products(Vec<String>),
    /// It is about one of the products of the target; when it names none, about all.
    ProductsOfTarget,
    /// It is about somebody, or about everybody there is.
    Reach(Reach),
    /// It has one of these labels.
    Labels(Vec<String>),
    /// It was issued at most so long before it was received.
    Age {
        /// So long.
        at_most: Seconds,
        /// Whether one that does not say when it was issued counts.
        unknown_is: bool,
    },
}

/// What a window counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Counted {
    /// Signals: each id of a source once, however often it is revised.
    Signals,
    /// Different values of a field.
    Distinct(TextField),
}

/// So many within so long: of the signals for which the rest of the rule holds at the same target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// So long.
    pub within: Seconds,
    /// What is counted.
    pub counted: Counted,
    /// So many.
    pub at_least: u32,
}

/// When a rule applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    /// Every one of these.
    All(Vec<When>),
    /// At least one of these.
    Any(Vec<When>),
    /// Not this.
    Not(Box<When>),
    /// A test of the signal.
    Signal(SignalTest),
    /// So many within so long.
    Window(Window),
    /// A source that the target needs has fallen silent.
    SourceBlind,
}

/// A requirement that a halt by a rule begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequirementTerms {
    /// In a few words.
    pub title: String,
    /// What kind of weakness it is about, in the words of a requirement.
    pub category: String,
}

/// What the release of a halt by a rule needs, beyond what every halt needs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReleaseTerms {
    /// So many people; `None`: as many as always.
    pub approvals: Option<u32>,
    /// At least one of each of these groups: security, operations, approvers.
    pub groups: Vec<String>,
    /// Approvals are given within so long of the request.
    pub valid_for: Option<Seconds>,
    /// The release is carried out within so long of the last approval that was needed.
    pub execute_within: Option<Seconds>,
    /// What must be true first.
    pub requirements: Vec<RequirementTerms>,
}

/// What follows when a rule applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Then {
    /// What follows at most; the trust of the signal may allow less.
    pub effect: Effect,
    /// What is held.
    pub reaches: Reaches,
    /// What becomes of people already moved: keep, freeze or revert.
    pub moved: Option<String>,
    /// How often somebody must look at it again.
    pub review_every: Option<Seconds>,
    /// What a release needs; of a halt only.
    pub release: Option<ReleaseTerms>,
    /// A pause or gate of this rule ends once its condition has been clear for so long; `None`: people end it.
    pub lift_after_clear_for: Option<Seconds>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name in the set, and in every hold that it places.
    pub id: String,
    /// What it does, in a sentence.
    pub says: String,
    /// When it applies.
    pub when: When,
    /// The least trust of a signal that it looks at.
    pub trust_at_least: Trust,
    /// What follows.
    pub then: Then,
    /// Whether it only says what it would do.
    pub shadow: bool,
}

impl When {
    /// Returns the parts directly below.
    #[must_use]
    pub fn parts(&self) -> &[Self] {
        match self {
            Self::All(parts) | Self::Any(parts) => parts,
            Self::Not(part) => std::slice::from_ref(part),
            Self::Signal(_) | Self::Window(_) | Self::SourceBlind => &[],
        }
    }

    /// Says whether any part is one that `is` says.
    #[must_use]
    pub fn has(&self, is: fn(&Self) -> bool) -> bool {
        is(self) || self.parts().iter().any(|part| part.has(is))
    }

    /// Returns every window, in the order in which they are written.
    #[must_use]
    pub fn windows(&self) -> Vec<Window> {
        let mut found = Vec::new();
        self.gather(&mut found);
        found
    }

    fn gather(&self, found: &mut Vec<Window>) {
        if let Self::Window(window) = self {
            found.push(*window);
        }
        for part in self.parts() {
            part.gather(found);
        }
    }
}

impl Rule {
    /// Says whether it is about sources that fell silent, and not about signals.
    #[must_use]
    pub fn is_about_sources(&self) -> bool {
        self.when.has(|part| matches!(part, When::SourceBlind))
    }

    /// Says whether it can only apply to signals about the vendor of the target, so that others need not be
    /// looked at for that target.
    #[must_use]
    pub fn asks_vendor_of_target(&self) -> bool {
        let is = |part: &When| matches!(part, When::Signal(SignalTest::VendorOfTarget));
        match &self.when {
            When::All(parts) => parts.iter().any(is),
            When::Any(_) | When::Not(_) | When::Signal(_) | When::Window(_) | When::SourceBlind => {
                is(&self.when)
            }
        }
    }
}
