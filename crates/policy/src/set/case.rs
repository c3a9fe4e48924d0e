//! Tests that stand beside the rules: what is reported, about which target, and what must follow.

use std::collections::BTreeSet;

use chrono::DateTime;
use serde::{Deserialize, Serialize};

use super::PolicySet;
use crate::digest::Digest;
use crate::document::Node;
use crate::document::reader::{Errors, Fields, list, text};
use crate::named::named;
use crate::rule::judge::{Decision, Judge, Outcome, TargetFacts};
use crate::rule::{Effect, Rule};
use crate::signal::{Dialect, Lifecycle, Severity, Signal, SignalKind, Subject, Trust, folded};
use crate::time::{Seconds, Timestamp};

/// How many signals a test may give.
pub(super) const GIVEN_MAX: usize = 1000;

named! {
    /// What a test expects.
    pub enum Expected: "expectation" {
        /// Nothing follows.
        Proceed = "proceed",
        /// Somebody should look, and nothing is held.
        Review = "review",
        /// A gate.
        Gate = "gate",
        /// A pause.
        Pause = "pause",
        /// A gate or a pause.
        Hold = "hold",
        /// A halt.
        Halt = "halt",
    }
}

impl Expected {
    /// Says whether that is what followed; `None`: nothing did.
    #[must_use]
    pub const fn is(self, followed: Option<Effect>) -> bool {
        match self {
            Self::Proceed => followed.is_none(),
            Self::Review => matches!(followed, Some(Effect::Review)),
            Self::Gate => matches!(followed, Some(Effect::Gate)),
            Self::Pause => matches!(followed, Some(Effect::Pause)),
            Self::Hold => matches!(followed, Some(Effect::Gate | Effect::Pause)),
            Self::Halt => matches!(followed, Some(Effect::Halt)),
        }
    }
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it claims.
    pub name: String,
    /// What is reported, in this order.
    pub given: Vec<Signal>,
    /// The target that the rules are asked about.
    pub target: TargetFacts,
    /// What must follow in the end, of all that was reported.
    pub expect: Expected,
    /// The rule that it must follow from; `None`: any.
    pub by: Option<String>,
}

/// A test that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its name.
    pub name: String,
    /// What followed, and from which rules.
    pub sentence: String,
}

/// Where the time of a test begins. Any instant would do: rules compare instants and know no calendar.
fn beginning() -> Timestamp {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap_or_default()
}

impl PolicySet {
    /// Runs the tests; returns those that failed.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        self.tests
            .iter()
            .filter_map(|case| case.failure(&self.rules))
            .collect()
    }
}

impl Case {
    fn failure(&self, rules: &[Rule]) -> Option<Failure> {
        let mut judge = Judge::new(rules.to_vec(), vec![self.target.clone()]);
        let mut decisions: Vec<Decision> = Vec::new();
        for signal in &self.given {
            decisions.extend(judge.take(signal));
        }
        decisions.extend(judge.look());
        // A rule in shadow decides nothing.
        decisions.retain(|decision| rules.get(decision.rule).is_some_and(|rule| !rule.shadow));
        let followed = decisions
            .iter()
            .map(|decision| decision.verdict.effect)
            .max();
        let mut by: Vec<&str> = decisions
            .iter()
            .filter(|decision| Some(decision.verdict.effect) == followed)
            .filter_map(|decision| rules.get(decision.rule))
            .map(|rule| rule.id.as_str())
            .collect();
        by.sort_unstable();
        by.dedup();
        let is_by = self.by.as_deref().is_none_or(|rule| by.contains(&rule));
        if self.expect.is(followed) && is_by {
            return None;
        }
        let faults: BTreeSet<&str> = decisions
            .iter()
            .filter(|decision| decision.verdict.outcome == Outcome::Faulty)
            .flat_map(|decision| decision.verdict.faults.iter().map(|fault| fault.sentence()))
            .collect();
        let mut sentence = match followed {
            None => format!("expected {}, and nothing followed", self.expect),
            Some(effect) => {
                let wanted = self
                    .by
                    .as_deref()
                    .map_or(String::new(), |rule| format!(" by {rule}"));
                let from = by.join(", ");
                format!(
                    "expected {}{wanted}, and {effect} followed from {from}",
                    self.expect
                )
            }
        };
        for fault in faults {
            sentence = format!("{sentence}; {fault}");
        }
        Some(Failure {
            name: self.name.clone(),
            sentence,
        })
    }
}

/// Reads one test.
pub(super) fn read(node: Node, path: &str, errors: &mut Errors) -> Option<Case> {
    let mut fields = Fields::open(node, path, errors)?;
    let name = fields.text("name", errors);
    let at = fields.at("given");
    let mut given = Vec::new();
    if let Some(node) = fields.take("given") {
        let place = node.place;
        let nodes = list(node, &at, errors)?;
        if nodes.len() > GIVEN_MAX {
            errors.add(
                place,
                &at,
                "too_many",
                format!("at most {GIVEN_MAX} of these"),
            );
            return None;
        }
        let mut now = beginning();
        for (number, node) in nodes.into_iter().enumerate() {
            let signal = signal(node, &format!("{at}[{number}]"), number, &mut now, errors);
            given.extend(signal);
        }
    }
    let at = fields.at("target");
    let target = match fields.take("target") {
        Some(node) => target(node, &at, errors)?,
        None => TargetFacts::default(),
    };
    let place = fields.place_of("expect");
    if !fields.has("expect") {
        let message = "`expect` is missing: proceed, review, gate, pause, hold or halt";
        errors.add(place, &fields.at("expect"), "missing", message);
    }
    let expect = fields.parsed("expect", errors);
    let by = fields.maybe_text("by", errors);
    fields.end(errors);
    Some(Case {
        name: name?,
        given,
        target,
        expect: expect?,
        by,
    })
}

fn target(node: Node, path: &str, errors: &mut Errors) -> Option<TargetFacts> {
    let mut fields = Fields::open(node, path, errors)?;
    let facts = TargetFacts {
        name: fields
            .maybe_text("name", errors)
            .unwrap_or_else(|| "target".to_owned()),
        vendor: fields
            .maybe_text("vendor", errors)
            .map(|vendor| folded(&vendor)),
        products: folded_texts(&mut fields, "products", errors),
        tenant: fields.maybe_text("tenant", errors),
        needs: BTreeSet::new(),
        blind: fields
            .texts("blind", errors)
            .unwrap_or_default()
            .into_iter()
            .collect(),
    };
    fields.end(errors);
    Some(facts)
}

fn folded_texts(fields: &mut Fields, name: &'static str, errors: &mut Errors) -> BTreeSet<String> {
    let texts = fields.texts(name, errors).unwrap_or_default();
    texts.iter().map(|one| folded(one)).collect()
}

/// Reads one signal of a test. What is not said is as it would be of a webhook that says nothing more.
fn signal(
    node: Node,
    path: &str,
    number: usize,
    now: &mut Timestamp,
    errors: &mut Errors,
) -> Option<Signal> {
    let mut fields = Fields::open(node, path, errors)?;
    let after: Seconds = fields.seconds("after", errors).unwrap_or_default();
    *now = after.after(*now);
    let issued_at = fields
        .seconds("age", errors)
        .and_then(|age| now.checked_sub_signed(chrono::TimeDelta::seconds(i64::from(age.0))));
    let kind = fields.parsed("kind", errors).unwrap_or(SignalKind::Other);
    let found = Signal {
        source: fields
            .maybe_text("source", errors)
            .unwrap_or_else(|| "test".to_owned()),
        dialect: fields
            .parsed("dialect", errors)
            .unwrap_or(Dialect::StandardWebhooks),
        external_id: match fields.take("id") {
            Some(node) => text(&node, &fields.at("id"), errors)?,
            None => format!("given-{number}"),
        },
        revision: None,
        trust: fields.parsed("trust", errors).unwrap_or(Trust::SignedFresh),
        kind,
        severity: fields
            .parsed("severity", errors)
            .unwrap_or(Severity::Unknown),
        severity_raw: None,
        confidence: fields.number("confidence", errors),
        lifecycle: fields
            .parsed("lifecycle", errors)
            .unwrap_or(Lifecycle::Opened),
        vendor: fields
            .maybe_text("vendor", errors)
            .map(|vendor| folded(&vendor)),
        products: folded_texts(&mut fields, "products", errors),
        subject: Subject {
            tenant: fields.maybe_text("tenant", errors),
            user: fields.maybe_text("user", errors),
            ..Subject::default()
        },
        labels: folded_texts(&mut fields, "labels", errors),
        title: String::new(),
        references: Vec::new(),
        occurred_at: None,
        issued_at,
        received_at: *now,
        expires_at: None,
        late: false,
        tlp: None,
        raw: Digest::of(b""),
    };
    fields.end(errors);
    Some(found)
}
