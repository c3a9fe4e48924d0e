//! What rules say of a signal, target by target.
//!
//! Three answers: it does not apply, it applies, or a fact is missing on which that depends. The last one holds,
//! and names the rule and the fact: silence about a mistake would look like safety. It holds only when the signal is
//! from somebody known, because nobody else may stop anything by writing nonsense.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::tally::Tally;
use super::{Counted, Effect, Rule, SignalTest, TextField, When};
use crate::named::named;
use crate::signal::{Severity, Signal, folded, same};
use crate::time::Timestamp;

/// What rules know of a target.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetFacts {
    /// Its name.
    pub name: String,
    /// Whose product it is, as somebody wrote it; compared by `signal::same`.
    pub vendor: Option<String>,
    /// Which products it uses, the same way; empty: all of the vendor.
    pub products: BTreeSet<String>,
    /// Its tenant at the vendor; `None`: any.
    pub tenant: Option<String>,
    /// Sources that it needs.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub needs: BTreeSet<String>,
    /// Those of them that have fallen silent.
    pub blind: BTreeSet<String>,
}

named! {
    /// What a rule says.
    pub enum Outcome: "outcome" {
        /// It does not apply.
        Clear = "clear",
        /// It applies.
        Applies = "applies",
        /// A fact is missing, so it cannot say.
        Faulty = "faulty",
    }
}

/// A fact that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A rule asks for the vendor of a signal that names none.
    SignalHasNoVendor,
    /// A rule asks for the vendor of a target that has none.
    TargetHasNoVendor,
}

impl Fault {
    /// Returns the stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::SignalHasNoVendor => "signal_has_no_vendor",
            Self::TargetHasNoVendor => "target_has_no_vendor",
        }
    }

    /// Returns what is missing, and what to do.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::SignalHasNoVendor => {
                "the signal names no vendor: give its source a vendor to fall back on"
            }
            Self::TargetHasNoVendor => "the target has no vendor: give it one",
        }
    }
}

/// What one rule says of one signal at one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleVerdict {
    /// What it says.
    pub outcome: Outcome,
    /// What follows; of a rule in shadow, what would.
    pub effect: Effect,
    /// The facts that are missing.
    pub faults: BTreeSet<Fault>,
}

impl RuleVerdict {
    const CLEAR: Self = Self {
        outcome: Outcome::Clear,
        effect: Effect::Review,
        faults: BTreeSet::new(),
    };
}

/// What the windows of a rule have counted at one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleMemory(pub(super) Vec<Tally>);

/// What is known of a signal before any target is looked at.
#[derive(Clone, Copy)]
enum Known {
    Nothing,
    /// Every part of the outermost `all` that asks nothing of targets holds, and no fact is missing in them.
    RestHolds,
}

/// How the windows of a rule are answered.
#[derive(Clone, Copy)]
enum Windows<'a> {
    /// As if all were reached: what is left is what a window counts.
    Reached,
    /// As they are at an instant.
    At(&'a [Tally], Timestamp),
}

impl Rule {
    /// Returns a memory that has counted nothing.
    #[must_use]
    pub fn memory(&self) -> RuleMemory {
        RuleMemory(self.when.windows().into_iter().map(Tally::new).collect())
    }

    /// Takes in a signal and says what follows at a target.
    ///
    /// Signals are given in the order in which they were received. The same id of a source given again
    /// is a revision: it is judged anew and not counted twice.
    pub fn take(
        &self,
        memory: &mut RuleMemory,
        signal: &Signal,
        target: &TargetFacts,
    ) -> RuleVerdict {
        if !self.looks_at(signal) {
            return RuleVerdict::CLEAR;
        }
        self.take_known(memory, signal, target, Known::Nothing)
    }

    /// The same, of a signal that the rule looks at and of which something is known already.
    fn take_known(
        &self,
        memory: &mut RuleMemory,
        signal: &Signal,
        target: &TargetFacts,
        known: Known,
    ) -> RuleVerdict {
        let mut faults = BTreeSet::new();
        let windows = &mut Windows::Reached;
        let mut applies = self.asks((signal, target), windows, &mut faults, known);
        if applies && !memory.0.is_empty() {
            for tally in &mut memory.0 {
                tally.count(&key_of(tally.counted(), signal), signal.received_at);
            }
            let windows = &mut Windows::At(&memory.0, signal.received_at);
            applies = self.asks((signal, target), windows, &mut faults, known);
        }
        self.verdict(applies, faults)
    }

    fn asks(
        &self,
        about: (&Signal, &TargetFacts),
        windows: &mut Windows<'_>,
        faults: &mut BTreeSet<Fault>,
        known: Known,
    ) -> bool {
        match (&self.when, known) {
            (When::All(parts), Known::RestHolds) => {
                let mut all = true;
                for part in parts.iter().filter(|part| part.has(is_about_target)) {
                    all &= holds(part, about, windows, faults);
                }
                all
            }
            (when, Known::Nothing | Known::RestHolds) => holds(when, about, windows, faults),
        }
    }

    /// Says what follows at a target whose sources have fallen silent, for a rule that is about sources.
    #[must_use]
    pub fn look(&self, target: &TargetFacts) -> RuleVerdict {
        let is_blind = self.is_about_sources() && !target.blind.is_empty();
        self.verdict(is_blind, BTreeSet::new())
    }

    /// Says whether the rule looks at a signal at all.
    #[must_use]
    pub fn looks_at(&self, signal: &Signal) -> bool {
        !self.is_about_sources()
            && signal.trust >= self.trust_at_least
            && signal.lifecycle.can_tighten()
    }

    /// Says whether every part of the outermost `all` that asks nothing of targets holds; `None`: that cannot
    /// be said without a target.
    fn holds_without_target(&self, signal: &Signal) -> Option<bool> {
        let When::All(parts) = &self.when else {
            return None;
        };
        let nobodys = TargetFacts::default();
        let mut faults = BTreeSet::new();
        let mut all = true;
        for part in parts.iter().filter(|part| !part.has(is_about_target)) {
            all &= holds(part, (signal, &nobodys), &mut Windows::Reached, &mut faults);
        }
        faults.is_empty().then_some(all)
    }

    /// Returns what follows when a fact is missing. Not more than its signals are worth: whoever may only gate
    /// does not pause by leaving a field out.
    pub(super) fn unsure(&self) -> Effect {
        Effect::Pause.min(self.trust_at_least.most(Severity::Critical))
    }

    fn verdict(&self, applies: bool, faults: BTreeSet<Fault>) -> RuleVerdict {
        // With every missing fact counted as true it does not apply: none of them could have mattered.
        if !applies {
            return RuleVerdict::CLEAR;
        }
        let is_faulty = !faults.is_empty() && self.trust_at_least.is_authenticated();
        let (outcome, effect) = match is_faulty {
            // It might have applied: then as if it had.
            true => (Outcome::Faulty, self.then.effect.max(self.unsure())),
            false => (Outcome::Applies, self.then.effect),
        };
        RuleVerdict {
            outcome,
            effect,
            faults,
        }
    }
}

impl RuleMemory {
    /// Returns until when the windows of a rule are reached by what was counted; `None`: they never were, or
    /// there are none, so what applied once applies for ever.
    #[must_use]
    pub fn reached_until(&self, rule: &Rule) -> Option<Timestamp> {
        let mut tallies = self.0.iter();
        until(&rule.when, &mut tallies)
    }
}

/// A rule with several windows is reached while each of `all`, or one of `any`, is.
fn until<'a>(when: &When, tallies: &mut impl Iterator<Item = &'a Tally>) -> Option<Timestamp> {
    match when {
        When::Window(_) => tallies.next().and_then(Tally::reached_until),
        When::All(parts) => {
            let with: Vec<_> = parts.iter().filter(|part| has_window(part)).collect();
            let each: Vec<_> = with.iter().map(|part| until(part, tallies)).collect();
            each.into_iter()
                .collect::<Option<Vec<_>>>()?
                .into_iter()
                .min()
        }
        When::Any(parts) => {
            let with: Vec<_> = parts.iter().filter(|part| has_window(part)).collect();
            let each: Vec<_> = with.iter().map(|part| until(part, tallies)).collect();
            each.into_iter().flatten().max()
        }
        When::Not(_) | When::Signal(_) | When::SourceBlind => None,
    }
}

fn has_window(part: &When) -> bool {
    part.has(|part| matches!(part, When::Window(_)))
}

/// Looks at every branch, so that no fault hides. A missing fact counts as true: then the answer is the most
/// that could follow.
fn holds(
    when: &When,
    (signal, target): (&Signal, &TargetFacts),
    windows: &mut Windows<'_>,
    faults: &mut BTreeSet<Fault>,
) -> bool {
    match when {
        When::All(parts) => {
            let mut all = true;
            for part in parts {
                all &= holds(part, (signal, target), windows, faults);
            }
            all
        }
        When::Any(parts) => {
            let mut any = false;
            for part in parts {
                any |= holds(part, (signal, target), windows, faults);
            }
            any
        }
        When::Not(part) => {
            let mut below = BTreeSet::new();
            let is = holds(part, (signal, target), windows, &mut below);
            let is_known = below.is_empty();
            faults.extend(below);
            !is || !is_known
        }
        When::Signal(test) => match test.asks(signal, target) {
            Ok(is) => is,
            Err(fault) => {
                faults.insert(fault);
                true
            }
        },
        When::Window(_) => match windows {
            Windows::Reached => true,
            Windows::At(tallies, at) => match tallies.split_first() {
                Some((first, rest)) => {
                    let is = first.is_reached(*at);
                    *tallies = rest;
                    is
                }
                None => true,
            },
        },
        When::SourceBlind => !target.blind.is_empty(),
    }
}

/// Returns what a window tells signals apart by.
fn key_of(counted: Counted, signal: &Signal) -> String {
    let text = |part: &Option<String>| part.as_deref().map(folded).unwrap_or_default();
    match counted {
        // A NUL is in no name of a source.
        Counted::Signals => format!("{}\0{}", signal.source, signal.external_id),
        Counted::Distinct(TextField::Source) => signal.source.clone(),
        Counted::Distinct(TextField::Vendor) => text(&signal.vendor),
        Counted::Distinct(TextField::Tenant) => text(&signal.subject.tenant),
        Counted::Distinct(TextField::User) => text(&signal.subject.user),
    }
}

/// Says whether a part asks something of a target, or counts at one.
fn is_about_target(part: &When) -> bool {
    match part {
        When::Signal(test) => test.asks_of_target(),
        When::Window(_) | When::SourceBlind => true,
        When::All(_) | When::Any(_) | When::Not(_) => false,
    }
}

fn is_one_of(text: &str, any_of: &[String]) -> bool {
    any_of.iter().any(|one| same(one, text))
}

impl SignalTest {
    /// Says whether it compares the signal with a target.
    const fn asks_of_target(&self) -> bool {
        match self {
            Self::VendorOfTarget | Self::TenantOfTarget | Self::ProductsOfTarget => true,
            Self::Kind(_)
            | Self::Severity { .. }
            | Self::Confidence { .. }
            | Self::Lifecycle(_)
            | Self::Dialect(_)
            | Self::Text { .. }
            | Self::Products(_)
            | Self::Reach(_)
            | Self::Labels(_)
            | Self::Age { .. } => false,
        }
    }

    /// Asks a signal, beside a target.
    ///
    /// # Errors
    ///
    /// When a fact is missing that only people can add.
    pub fn asks(&self, signal: &Signal, target: &TargetFacts) -> Result<bool, Fault> {
        let any = |part: &Option<String>, any_of: &[String]| {
            part.as_deref().is_none_or(|text| is_one_of(text, any_of))
        };
        Ok(match self {
            Self::Kind(kinds) => kinds.contains(&signal.kind),
            Self::Severity {
                at_least,
                unknown_is,
            } => signal.severity.or(*unknown_is) >= *at_least,
            Self::Confidence {
                at_least,
                unknown_is,
            } => signal.confidence.unwrap_or(*unknown_is) >= *at_least,
            Self::Lifecycle(standings) => standings.contains(&signal.lifecycle),
            Self::Dialect(dialects) => dialects.contains(&signal.dialect),
            Self::Text { field, any_of } => match field {
                TextField::Source => is_one_of(&signal.source, any_of),
                TextField::Vendor => {
                    let vendor = signal.vendor.as_deref().ok_or(Fault::SignalHasNoVendor)?;
                    is_one_of(vendor, any_of)
                }
                TextField::Tenant => any(&signal.subject.tenant, any_of),
                TextField::User => any(&signal.subject.user, any_of),
            },
            Self::VendorOfTarget => {
                let ours = target.vendor.as_deref().ok_or(Fault::TargetHasNoVendor)?;
                let theirs = signal.vendor.as_deref().ok_or(Fault::SignalHasNoVendor)?;
                same(ours, theirs)
            }
            Self::TenantOfTarget => {
                let ours = target.tenant.as_deref();
                ours.is_none_or(|tenant| signal.subject.touches_tenant(tenant))
            }
            Self::Products(products) => {
                signal.products.is_empty()
                    || signal.products.iter().any(|one| is_one_of(one, products))
            }
            Self::ProductsOfTarget => {
                signal.products.is_empty()
                    || target.products.is_empty()
                    || !signal.products.is_disjoint(&target.products)
                    || signal
                        .products
                        .iter()
                        .any(|one| target.products.iter().any(|ours| same(one, ours)))
            }
            Self::Reach(reach) => signal.subject.reach() == *reach,
            Self::Labels(labels) => signal.labels.iter().any(|one| is_one_of(one, labels)),
            Self::Age {
                at_most,
                unknown_is,
            } => match signal.issued_at.or(signal.occurred_at) {
                Some(issued) => signal.received_at <= at_most.after(issued),
                None => *unknown_is,
            },
        })
    }
}

/// What a rule says of a signal at a target that is more than nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The place of the rule in its set.
    pub rule: usize,
    /// The place of the target.
    pub target: usize,
    /// What it says.
    pub verdict: RuleVerdict,
}

/// Rules at work beside targets, with what their windows have counted.
#[derive(Debug, Clone)]
pub struct Judge {
    rules: Vec<Rule>,
    targets: Vec<TargetFacts>,
    /// Where the targets of each vendor are; a signal about another one is not looked at there.
    by_vendor: BTreeMap<String, Vec<usize>>,
    without_vendor: Vec<usize>,
    everywhere: Vec<usize>,
    memory: Vec<RuleMemory>,
}

impl Judge {
    /// Puts rules beside targets.
    #[must_use]
    pub fn new(rules: Vec<Rule>, targets: Vec<TargetFacts>) -> Self {
        let memory = rules
            .iter()
            .flat_map(|rule| std::iter::repeat_n(rule.memory(), targets.len()))
            .collect();
        let mut by_vendor: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut without_vendor = Vec::new();
        for (place, target) in targets.iter().enumerate() {
            match &target.vendor {
                Some(vendor) => by_vendor.entry(folded(vendor)).or_default().push(place),
                None => without_vendor.push(place),
            }
        }
        // Those of a vendor and those of none, so that whoever looks at the one needs no list of its own.
        for theirs in by_vendor.values_mut() {
            theirs.extend(&without_vendor);
        }
        Self {
            everywhere: (0..targets.len()).collect(),
            rules,
            targets,
            by_vendor,
            without_vendor,
            memory,
        }
    }

    /// Returns the rules.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Returns the targets.
    #[must_use]
    pub fn targets(&self) -> &[TargetFacts] {
        &self.targets
    }

    /// Takes in a signal, and returns what follows where.
    pub fn take(&mut self, signal: &Signal) -> Vec<Decision> {
        let mut decisions = Vec::new();
        // Without a vendor it may be about any: then each target is looked at.
        let theirs = signal.vendor.as_ref().map(|vendor| {
            // What an older version kept is folded as that did.
            let known = self.by_vendor.get(&folded(vendor));
            known.unwrap_or(&self.without_vendor)
        });
        for (place, rule) in self.rules.iter().enumerate() {
            if !rule.looks_at(signal) {
                continue;
            }
            // What can be said without any target is said once, and not once for each.
            let rest = rule.holds_without_target(signal);
            let places = match (theirs, rest) {
                // It does not apply. Where a target has no vendor that fact may be missing, which is said
                // whatever the rest holds.
                (Some(_), Some(false)) => &self.without_vendor,
                (Some(theirs), _) if rule.asks_vendor_of_target() => theirs,
                _ => &self.everywhere,
            };
            let known = match rest {
                Some(true) => Known::RestHolds,
                Some(false) | None => Known::Nothing,
            };
            for target in places {
                let at = place * self.targets.len() + target;
                let (Some(memory), Some(facts)) =
                    (self.memory.get_mut(at), self.targets.get(*target))
                else {
                    continue;
                };
                let verdict = rule.take_known(memory, signal, facts, known);
                if verdict.outcome != Outcome::Clear {
                    decisions.push(Decision {
                        rule: place,
                        target: *target,
                        verdict,
                    });
                }
            }
        }
        decisions
    }

    /// Returns what the windows of a rule have counted at a target.
    #[must_use]
    pub fn memory(&self, rule: usize, target: usize) -> Option<&RuleMemory> {
        self.memory.get(rule * self.targets.len() + target)
    }

    /// Returns until when the windows of a rule are reached at a target, by what was counted.
    #[must_use]
    pub fn reached_until(&self, rule: usize, target: usize) -> Option<Timestamp> {
        let memory = self.memory.get(rule * self.targets.len() + target)?;
        memory.reached_until(self.rules.get(rule)?)
    }

    /// Returns what follows from sources that have fallen silent.
    #[must_use]
    pub fn look(&self) -> Vec<Decision> {
        let mut decisions = Vec::new();
        for (place, rule) in self.rules.iter().enumerate() {
            for (target, facts) in self.targets.iter().enumerate() {
                let verdict = rule.look(facts);
                if verdict.outcome != Outcome::Clear {
                    decisions.push(Decision {
                        rule: place,
                        target,
                        verdict,
                    });
                }
            }
        }
        decisions
    }
}

#[cfg(test)]
mod tests;
