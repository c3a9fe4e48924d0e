//! Why a rule says what it says of a signal at a target: each test, what it saw, and what it wanted.
//!
//! What follows is what `judge` says; the tree beside it is worked out on its own, and a property test holds
//! the two to the same answer.

use serde::{Deserialize, Serialize};

use super::judge::{Fault, Judge, Outcome, RuleMemory, TargetFacts};
use super::tally::Tally;
use super::{Counted, Effect, Reaches, Rule, SignalTest, TextField, When, Window};
use crate::named::named;
use crate::signal::{Severity, Signal, Trust};
use crate::time::Seconds;

/// What stands behind the count of a window when the rest of the rule does not hold.
pub const NOT_COUNTED: &str = "this is not counted: the rest does not hold";
/// How many words of a list are named.
const WORDS_SHOWN: usize = 6;

named! {
    /// Whether a rule looks at a signal at all.
    pub enum Looks: "reason" {
        /// It does.
        Looks = "looks",
        /// It is about sources that fell silent.
        AboutSilence = "about_silence",
        /// It asks for more trust.
        TrustTooLow = "trust_too_low",
        /// The signal ends a matter, or is an exercise.
        EndsOrTests = "ends_or_tests",
    }
}

/// One test of a condition, or what it makes of the tests below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// What is asked.
    pub asks: String,
    /// What was seen; of a test only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// Whether it holds. A missing fact counts as true.
    pub holds: bool,
    /// The fact that is missing, by its code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// What is below it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Asked>,
}

/// What one rule says of one signal at one target, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The rule.
    pub rule: String,
    /// What it says of itself.
    pub says: String,
    /// The target.
    pub target: String,
    /// Whether it only says what it would do.
    pub shadow: bool,
    /// Whether it looks at the signal at all.
    pub looks: Looks,
    /// The least trust that it asks for.
    pub trust_wanted: Trust,
    /// The trust of the signal.
    pub trust_seen: Trust,
    /// What it says.
    pub outcome: Outcome,
    /// What follows, or would if it were not in shadow; nothing when it does not apply.
    pub effect: Option<Effect>,
    /// What that covers.
    pub scope: Reaches,
    /// The facts that are missing, in a sentence each.
    pub faults: Vec<String>,
    /// The condition; `None` when it was not looked at.
    pub condition: Option<Asked>,
}

impl Rule {
    /// Explains what the rule says of a signal, after what `memory` has counted.
    #[must_use]
    pub fn explain(
        &self,
        memory: &RuleMemory,
        signal: &Signal,
        target: &TargetFacts,
    ) -> Explanation {
        let mut memory = memory.clone();
        let verdict = self.take(&mut memory, signal, target);
        let looks = if self.is_about_sources() {
            Looks::AboutSilence
        } else if signal.trust < self.trust_at_least {
            Looks::TrustTooLow
        } else if !signal.lifecycle.can_tighten() {
            Looks::EndsOrTests
        } else {
            Looks::Looks
        };
        let condition = (looks == Looks::Looks).then(|| {
            let all = Asking {
                signal,
                target,
                is_counted: false,
            };
            // What is left when every window is reached is what windows count.
            let rest = all.of(&self.when, &mut memory.0.iter());
            if !rest.holds {
                return rest;
            }
            let counted = Asking {
                is_counted: true,
                ..all
            };
            counted.of(&self.when, &mut memory.0.iter())
        });
        Explanation {
            rule: self.id.clone(),
            says: self.says.clone(),
            target: target.name.clone(),
            shadow: self.shadow,
            looks,
            trust_wanted: self.trust_at_least,
            trust_seen: signal.trust,
            outcome: verdict.outcome,
            effect: (verdict.outcome != Outcome::Clear).then_some(verdict.effect),
            scope: self.then.reaches,
            faults: verdict
                .faults
                .iter()
                .map(|fault| fault.sentence().to_owned())
                .collect(),
            condition,
        }
    }
}

impl Judge {
    /// Explains what every rule says of a signal at every target, after what was counted. Nothing is counted.
    #[must_use]
    pub fn explain(&self, signal: &Signal) -> Vec<Explanation> {
        let mut explained = Vec::new();
        for (place, rule) in self.rules().iter().enumerate() {
            for (target, facts) in self.targets().iter().enumerate() {
                if let Some(memory) = self.memory(place, target) {
                    explained.push(rule.explain(memory, signal, facts));
                }
            }
        }
        explained
    }
}

/// A signal beside a target, and whether windows are asked.
#[derive(Clone, Copy)]
struct Asking<'a> {
    signal: &'a Signal,
    target: &'a TargetFacts,
    /// Whether windows count it; otherwise they pass for reached.
    is_counted: bool,
}

impl Asking<'_> {
    /// Windows are given in the order in which they are written.
    fn of<'t>(&self, when: &When, windows: &mut impl Iterator<Item = &'t Tally>) -> Asked {
        match when {
            When::All(parts) => {
                let parts: Vec<Asked> = parts.iter().map(|part| self.of(part, windows)).collect();
                let holds = parts.iter().all(|part| part.holds);
                branch("all of", holds, parts)
            }
            When::Any(parts) => {
                let parts: Vec<Asked> = parts.iter().map(|part| self.of(part, windows)).collect();
                let holds = parts.iter().any(|part| part.holds);
                branch("any of", holds, parts)
            }
            When::Not(part) => {
                let part = self.of(part, windows);
                let holds = !part.holds || part.is_unsure();
                branch("not", holds, vec![part])
            }
            When::Signal(test) => self.test(test),
            When::Window(window) => {
                let at = self.signal.received_at;
                let tally = windows.next();
                let count = counted(tally.map_or(0, |tally| tally.counted_at(at)), window);
                let (holds, seen) = match tally.filter(|_| self.is_counted) {
                    Some(tally) => (tally.is_reached(at), count),
                    None => (true, format!("{count}; {NOT_COUNTED}")),
                };
                leaf(window_text(window), seen, holds)
            }
            When::SourceBlind => {
                let blind = &self.target.blind;
                let seen = words(blind.iter().map(String::as_str));
                leaf(
                    "a needed source is silent".to_owned(),
                    seen,
                    !blind.is_empty(),
                )
            }
        }
    }

    fn test(&self, test: &SignalTest) -> Asked {
        let answer = test.asks(self.signal, self.target);
        Asked {
            asks: asks(test, self.target),
            seen: Some(seen(test, self.signal)),
            holds: answer.unwrap_or(true),
            missing: answer.err().map(|fault: Fault| fault.code().to_owned()),
            parts: Vec::new(),
        }
    }
}

impl Asked {
    /// Says whether a fact is missing, here or below.
    #[must_use]
    pub fn is_unsure(&self) -> bool {
        self.missing.is_some() || self.parts.iter().any(Self::is_unsure)
    }
}

fn branch(asks: &str, holds: bool, parts: Vec<Asked>) -> Asked {
    Asked {
        asks: asks.to_owned(),
        seen: None,
        holds,
        missing: None,
        parts,
    }
}

fn leaf(asks: String, seen: String, holds: bool) -> Asked {
    Asked {
        asks,
        seen: Some(seen),
        holds,
        missing: None,
        parts: Vec::new(),
    }
}

/// Says what a test wants.
fn asks(test: &SignalTest, target: &TargetFacts) -> String {
    let named = |text: &Option<String>, none: &str| text.clone().unwrap_or_else(|| none.to_owned());
    match test {
        SignalTest::Kind(kinds) => one_of("kind", kinds.iter().map(|one| one.name())),
        SignalTest::Severity {
            at_least,
            unknown_is,
        } => format!("severity at least {at_least} (not known: {unknown_is})"),
        SignalTest::Confidence {
            at_least,
            unknown_is,
        } => format!("confidence at least {at_least} (not known: {unknown_is})"),
        SignalTest::Lifecycle(list) => one_of("lifecycle", list.iter().map(|one| one.name())),
        SignalTest::Dialect(list) => one_of("dialect", list.iter().map(|one| one.name())),
        SignalTest::Text { field, any_of } => {
            one_of(field.name(), any_of.iter().map(String::as_str))
        }
        SignalTest::VendorOfTarget => {
            format!("vendor is the target's, {}", named(&target.vendor, "none"))
        }
        SignalTest::TenantOfTarget => {
            format!("tenant is the target's, {}", named(&target.tenant, "any"))
        }
        SignalTest::Products(list) => one_of("products", list.iter().map(String::as_str)),
        SignalTest::ProductsOfTarget => {
            let ours = match target.products.is_empty() {
                true => "all".to_owned(),
                false => words(target.products.iter().map(String::as_str)),
            };
            format!("products overlap the target's, {ours}")
        }
        SignalTest::Reach(reach) => format!("it is about {reach}"),
        SignalTest::Labels(list) => one_of("labels", list.iter().map(String::as_str)),
        SignalTest::Age {
            at_most,
            unknown_is,
        } => format!(
            "issued at most {} before (not said: {unknown_is})",
            span(*at_most)
        ),
    }
}

/// Says what a test sees of a signal.
fn seen(test: &SignalTest, signal: &Signal) -> String {
    let named = |text: &Option<String>| text.clone().unwrap_or_else(|| "none named".to_owned());
    match test {
        SignalTest::Kind(_) => signal.kind.name().to_owned(),
        SignalTest::Severity { .. } => match signal.severity {
            Severity::Unknown => "not known".to_owned(),
            known @ (Severity::Info
            | Severity::Low
            | Severity::Medium
            | Severity::High
            | Severity::Critical) => known.name().to_owned(),
        },
        SignalTest::Confidence { .. } => signal
            .confidence
            .map_or_else(|| "not said".to_owned(), |said| said.to_string()),
        SignalTest::Lifecycle(_) => signal.lifecycle.name().to_owned(),
        SignalTest::Dialect(_) => signal.dialect.name().to_owned(),
        SignalTest::Text { field, .. } => match field {
            TextField::Source => signal.source.clone(),
            TextField::Vendor => named(&signal.vendor),
            TextField::Tenant => named(&signal.subject.tenant),
            TextField::User => named(&signal.subject.user),
        },
        SignalTest::VendorOfTarget => named(&signal.vendor),
        SignalTest::TenantOfTarget => named(&signal.subject.tenant),
        SignalTest::Products(_) | SignalTest::ProductsOfTarget => {
            words(signal.products.iter().map(String::as_str))
        }
        SignalTest::Reach(_) => signal.subject.reach().name().to_owned(),
        SignalTest::Labels(_) => words(signal.labels.iter().map(String::as_str)),
        SignalTest::Age { .. } => match signal.issued_at.or(signal.occurred_at) {
            Some(issued) => issued.format("%Y-%m-%d %H:%MZ").to_string(),
            None => "not said".to_owned(),
        },
    }
}

fn window_text(window: &Window) -> String {
    let what = match window.counted {
        Counted::Signals => "signals".to_owned(),
        Counted::Distinct(field) => format!("different values of {field}"),
    };
    format!(
        "at least {} {what} within {}",
        window.at_least,
        span(window.within)
    )
}

fn counted(count: usize, window: &Window) -> String {
    let most = usize::try_from(window.at_least).unwrap_or(usize::MAX);
    let or_more = if count >= most { " or more" } else { "" };
    let (most, within) = (window.at_least, span(window.within));
    format!("{count}{or_more} of {most} within {within}")
}

fn one_of<'a>(field: &str, list: impl Iterator<Item = &'a str>) -> String {
    format!("{field} is one of {}", words(list))
}

fn words<'a>(mut list: impl Iterator<Item = &'a str>) -> String {
    let shown: Vec<&str> = list.by_ref().take(WORDS_SHOWN).collect();
    let more = list.count();
    match (shown.is_empty(), more) {
        (true, _) => "none named".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Writes a length of time as rules do.
fn span(time: Seconds) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    for (unit, letter) in units {
        if time.0 >= unit && time.0.is_multiple_of(unit) {
            return format!("{}{letter}", time.0 / unit);
        }
    }
    format!("{}s", time.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Format;
    use crate::set::PolicySet;
    use crate::set::replay::line::history;

    #[test]
    fn a_window_is_shown_with_its_count_also_when_the_rest_does_not_hold() {
        let rules = "policy_set: p\nrules:\n  - id: r\n    says: s\n    when:\n      all: [{signal: kind, equals: session_theft}, \
                     {window: 10m, at_least: 5}]\n    trust_at_least: signed\n    then: {verdict: hold, kind: gate, scope: target}\n";
        let set = PolicySet::parse(rules, Format::Yaml).unwrap();
        let target = TargetFacts::default();
        let line = |kind: &str, minute: usize| {
            format!(
                r#"{{"kind": "{kind}", "severity": "high", "received_at": "2026-01-01T00:0{minute}:00Z"}}"#
            )
        };
        let text: Vec<String> = (0..6).map(|minute| line("session_theft", minute)).collect();
        let signals = history(&text.join("\n")).unwrap();
        let mut judge = Judge::new(set.rules, vec![target]);
        let seen = |judge: &Judge, signal: &Signal| {
            let explained = judge.explain(signal).remove(0).condition.unwrap();
            explained.parts[1].seen.clone().unwrap()
        };
        for one in &signals[..2] {
            judge.take(&one.signal);
        }
        assert_eq!(seen(&judge, &signals[2].signal), "3 of 5 within 10m");
        let other = history(&line("other", 2)).unwrap();
        assert_eq!(
            seen(&judge, &other[0].signal),
            format!("2 of 5 within 10m; {NOT_COUNTED}")
        );
        for one in &signals[2..5] {
            judge.take(&one.signal);
        }
        assert_eq!(
            seen(&judge, &signals[5].signal),
            "5 or more of 5 within 10m"
        );
    }
}
