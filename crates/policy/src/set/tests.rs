//! Policy sets, as claims.

use super::change::ChangeKind;
use super::*;
use crate::rule::Effect;

fn starter() -> PolicySet {
    PolicySet::parse(STARTER, Format::Yaml).unwrap_or_else(|errors| panic!("{:#?}", errors.0))
}

/// A set with one rule of these lines.
fn one(when: &str, trust: &str, then: &str) -> String {
    format!(
        "policy_set: p\nrules:\n  - id: r\n    says: s\n    when: {when}\n    trust_at_least: {trust}\n    then: {then}\n"
    )
}

fn first_error(text: &str) -> (Option<u32>, String, String) {
    let errors = PolicySet::parse(text, Format::Yaml).unwrap_err();
    let first = errors.0.first().unwrap();
    (first.line, first.code.clone(), first.message.clone())
}

#[test]
fn the_starter_set_is_read_and_passes_its_own_tests() {
    let set = starter();
    assert_eq!(set.failures(), []);
    assert!(set.tests.len() >= set.rules.len());
}

#[test]
fn every_rule_of_the_starter_set_is_needed_by_a_test_or_says_so() {
    // A rule without which all tests still pass is not tested.
    let set = starter();
    let untested: Vec<&str> = (set.rules.iter())
        .filter(|rule| {
            let mut without = set.clone();
            without.rules.retain(|other| other.id != rule.id);
            without.failures().is_empty()
        })
        .map(|rule| rule.id.as_str())
        .collect();
    assert_eq!(untested, Vec::<&str>::new());
}

#[test]
fn a_digest_knows_what_is_said_and_not_how_it_is_written() {
    let set = starter();
    let json = serde_json::to_value(&set).unwrap();
    let back: PolicySet = serde_json::from_value(json).unwrap();
    assert_eq!(back.digest(), set.digest());
    let mut turned = set.clone();
    turned.rules.reverse();
    turned.tests.clear();
    assert_eq!(turned.digest(), set.digest());
    let mut other = set.clone();
    other.rules[0].shadow = true;
    assert_ne!(other.digest(), set.digest());
}

const HALT: &str = "{verdict: halt, scope: target}";

/// Condition, trust and consequence of a rule that is wrong; the line, the code and part of what is said.
type Wrong = (
    (&'static str, &'static str, &'static str),
    u32,
    &'static str,
    &'static str,
);
const WRONG: &[Wrong] = &[
    (
        ("{signal: kind, equals: breach}", "signed_fresh", HALT),
        5,
        "value",
        "is no kind of signal",
    ),
    (
        ("{signal: severity, at_least: high}", "signed_fresh", HALT),
        5,
        "missing",
        "`unknown_is` is missing",
    ),
    (
        ("{all: []}", "signed_fresh", HALT),
        5,
        "empty",
        "says nothing",
    ),
    (
        ("{not: {window: 1h, at_least: 3}}", "signed_fresh", HALT),
        5,
        "not_monotone",
        "more signals would then hold less",
    ),
    (
        ("{not: {signal: tenant, equals: x}}", "signed_fresh", HALT),
        5,
        "not_monotone",
        "slip through",
    ),
    (
        ("{signal: vendor, is: target.tenant}", "signed_fresh", HALT),
        5,
        "value",
        "is: target.vendor",
    ),
    (
        ("{signal: kind, equals: other}", "unauthenticated", HALT),
        7,
        "trust",
        "hold nothing",
    ),
    (
        ("{signal: kind, equals: other}", "signed", HALT),
        7,
        "trust",
        "at most gate",
    ),
    (
        (
            "{signal: kind, equals: other}",
            "authenticated_channel",
            HALT,
        ),
        7,
        "trust",
        "at most gate",
    ),
    (
        (
            "{signal: kind, equals: other}",
            "signed_fresh",
            "{verdict: halt, scope: target, lift_after_clear_for: 1h}",
        ),
        7,
        "lift",
        "released by people",
    ),
    (
        (
            "{signal: kind, equals: other}",
            "signed_fresh",
            "{verdict: hold, kind: pause, scope: target, lift_after_clear_for: 1h}",
        ),
        7,
        "lift",
        "never becomes clear",
    ),
    (
        (
            "{any: [{window: 1h, at_least: 3}, {signal: kind, equals: other}]}",
            "signed_fresh",
            "{verdict: hold, kind: pause, scope: target, lift_after_clear_for: 1h}",
        ),
        7,
        "lift",
        "never becomes clear",
    ),
    (
        ("{source: state, equals: blind}", "signed", HALT),
        7,
        "effect",
        "does not halt",
    ),
    (
        (
            "{signal: kind, equals: other, also: 1}",
            "signed_fresh",
            HALT,
        ),
        5,
        "unknown_field",
        "is no field here",
    ),
    (
        ("{window: 1 hour, at_least: 3}", "signed_fresh", HALT),
        5,
        "value",
        "no length of time",
    ),
    (
        ("{signal: colour, equals: red}", "signed_fresh", HALT),
        5,
        "value",
        "is no field of a signal",
    ),
];

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for ((when, trust, then), line, code, part) in WRONG {
        let text = one(when, trust, then);
        let (at, found, message) = first_error(&text);
        assert_eq!(
            (at, found.as_str()),
            (Some(*line), *code),
            "{message}\n{text}"
        );
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn one_mistake_is_one_error() {
    for when in [
        "{all: [{signal: kind, equals: breach}]}",
        "{any: [{signal: kinds, equals: vendor_breach}]}",
        "{all: [{signal: kind, equals: other}, {not: {signal: kind}}]}",
        "{all: [{window: soon, at_least: 3}, {signal: kind, equals: other}]}",
    ] {
        let text = one(when, "signed_fresh", HALT);
        let errors = PolicySet::parse(&text, Format::Yaml).unwrap_err().0;
        assert_eq!(errors.len(), 1, "{when}: {errors:#?}");
    }
    let two = "{all: [{signal: kind, equals: breach}, {signal: kinds, equals: other}]}";
    let text = one(two, "signed_fresh", HALT);
    let errors = PolicySet::parse(&text, Format::Yaml).unwrap_err().0;
    assert_eq!(errors.len(), 2, "{errors:#?}");
}

#[test]
fn a_set_that_nests_or_grows_without_end_is_refused_at_load() {
    let nested = format!(
        "{}{{signal: kind, equals: other}}{}",
        "{all: [".repeat(2000),
        "]}".repeat(2000)
    );
    let (_, code, _) = first_error(&one(
        &nested,
        "signed_fresh",
        "{verdict: halt, scope: target}",
    ));
    assert!(matches!(code.as_str(), "too_deep" | "syntax"), "{code}");
    let wide = format!(
        "{{any: [{}]}}",
        "{signal: kind, equals: other},".repeat(5000)
    );
    let (_, code, _) = first_error(&one(
        &wide,
        "signed_fresh",
        "{verdict: halt, scope: target}",
    ));
    assert_eq!(code, "too_large");
    let huge = "#".repeat(TEXT_MAX + 1);
    assert_eq!(first_error(&huge).1, "too_large");
}

#[test]
fn a_failed_test_says_what_followed_and_from_which_rule() {
    let text = one(
        "{signal: kind, equals: other}",
        "signed_fresh",
        "{verdict: halt, scope: target}",
    ) + "tests:\n  - {name: t, given: [{kind: other}], expect: proceed}\n";
    let set = PolicySet::parse(&text, Format::Yaml).unwrap();
    let failures = set.failures();
    assert_eq!(failures.len(), 1);
    assert_eq!(
        failures[0].sentence,
        "expected proceed, and halt followed from r"
    );
}

#[test]
fn a_change_loosens_unless_it_can_be_shown_to_tighten() {
    let was = starter();
    let change = |edit: fn(&mut PolicySet)| {
        let mut new = was.clone();
        edit(&mut new);
        was.changes(&new)
            .into_iter()
            .map(|change| change.change)
            .collect::<Vec<_>>()
    };
    assert_eq!(change(|_| {}), []);
    assert_eq!(
        change(|set| {
            set.rules.remove(0);
        }),
        [ChangeKind::Removed]
    );
    assert_eq!(
        change(|set| set.rules[0].says = "other words".to_owned()),
        [ChangeKind::Reworded]
    );
    assert_eq!(
        change(|set| set.rules[0].shadow = true),
        [ChangeKind::Loosened]
    );
    assert_eq!(
        change(|set| set.rules[0].then.effect = Effect::Pause),
        [ChangeKind::Loosened]
    );
    assert_eq!(
        change(|set| set.rules[1].then.effect = Effect::Pause),
        [ChangeKind::Tightened]
    );
    assert_eq!(
        change(|set| set.rules[0].then.release = None),
        [ChangeKind::Loosened]
    );
    assert_eq!(
        change(
            |set| if let crate::rule::When::All(parts) = &mut set.rules[0].when {
                parts.pop();
            }
        ),
        [ChangeKind::Tightened],
        "it asks for less, so it applies to more"
    );
}
