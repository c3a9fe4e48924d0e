//! What rules say of signals, as claims: total, monotone, and the same in any order.

use chrono::DateTime;
use proptest::prelude::*;

use super::*;
use crate::digest::Digest;
use crate::rule::check::{problems, tightens};
use crate::rule::{Reaches, Then, Window};
use crate::signal::{Dialect, Lifecycle, Severity, SignalKind, Subject, Trust};
use crate::time::Seconds;

fn at(seconds: i64) -> Timestamp {
    DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
}

fn signal(id: u32) -> Signal {
    Signal {
        source: "siem".to_owned(),
        dialect: Dialect::StandardWebhooks,
        external_id: id.to_string(),
        revision: None,
        trust: Trust::SignedFresh,
        kind: SignalKind::VendorBreach,
        severity: Severity::High,
        severity_raw: None,
        confidence: None,
        lifecycle: Lifecycle::Opened,
        vendor: Some("acme".to_owned()),
        products: BTreeSet::new(),
        subject: Subject::default(),
        labels: BTreeSet::new(),
        title: String::new(),
        references: Vec::new(),
        occurred_at: None,
        issued_at: None,
        received_at: at(0),
        expires_at: None,
        late: false,
        tlp: None,
        raw: Digest::of(b""),
    }
}

fn rule(when: When, effect: Effect) -> Rule {
    Rule {
        id: "r".to_owned(),
        says: "s".to_owned(),
        when,
        trust_at_least: Trust::SignedFresh,
        then: Then {
            effect,
            reaches: Reaches::Target,
            moved: None,
            review_every: None,
            release: None,
            lift_after_clear_for: None,
        },
        shadow: false,
    }
}

fn acme() -> TargetFacts {
    TargetFacts {
        name: "t".to_owned(),
        vendor: Some("acme".to_owned()),
        ..TargetFacts::default()
    }
}

#[test]
fn a_missing_fact_holds_and_never_hides_behind_a_branch_that_decided() {
    let asks = When::Any(vec![
        When::Signal(SignalTest::Kind(vec![SignalKind::VendorBreach])),
        When::Signal(SignalTest::VendorOfTarget),
    ]);
    let rule = rule(asks, Effect::Halt);
    let nobodys = Signal {
        vendor: None,
        ..signal(1)
    };
    let verdict = rule.take(&mut rule.memory(), &nobodys, &acme());
    assert_eq!(
        (verdict.outcome, verdict.effect),
        (Outcome::Faulty, Effect::Halt)
    );
    assert_eq!(verdict.faults, [Fault::SignalHasNoVendor].into());
    let other = Signal {
        kind: SignalKind::Other,
        ..nobodys
    };
    let all = When::All(vec![
        When::Signal(SignalTest::Kind(vec![SignalKind::VendorBreach])),
        When::Signal(SignalTest::VendorOfTarget),
    ]);
    let rule = self::rule(all, Effect::Halt);
    let verdict = rule.take(&mut rule.memory(), &other, &acme());
    assert_eq!(
        verdict.outcome,
        Outcome::Clear,
        "whatever the vendor is, this is not about it"
    );
}

#[test]
fn a_missing_fact_under_a_not_holds() {
    let asks = When::All(vec![
        When::Signal(SignalTest::Kind(vec![SignalKind::VendorBreach])),
        When::Not(Box::new(When::Signal(SignalTest::VendorOfTarget))),
    ]);
    let rule = rule(asks, Effect::Gate);
    let nobodys = Signal {
        vendor: None,
        ..signal(1)
    };
    let verdict = rule.take(&mut rule.memory(), &nobodys, &acme());
    assert_eq!(
        (verdict.outcome, verdict.effect),
        (Outcome::Faulty, Effect::Pause)
    );
}

#[test]
fn a_signal_that_may_only_gate_does_not_pause_by_leaving_a_field_out() {
    let asks = When::Signal(SignalTest::VendorOfTarget);
    for (trust, effect) in [
        (Trust::Signed, Effect::Gate),
        (Trust::AuthenticatedChannel, Effect::Pause),
        (Trust::SignedFresh, Effect::Pause),
    ] {
        let rule = Rule {
            trust_at_least: trust,
            ..rule(asks.clone(), Effect::Gate)
        };
        let nobodys = Signal {
            vendor: None,
            ..signal(1)
        };
        let verdict = rule.take(&mut rule.memory(), &nobodys, &acme());
        assert_eq!((verdict.outcome, verdict.effect), (Outcome::Faulty, effect));
    }
}

#[test]
fn a_rule_that_no_longer_asks_for_a_fact_loosens_for_whoever_leaves_it_out() {
    let kind = When::Signal(SignalTest::Kind(vec![SignalKind::VendorBreach]));
    let vendor = When::Signal(SignalTest::Text {
        field: TextField::Vendor,
        any_of: vec!["acme".to_owned()],
    });
    let old = rule(When::All(vec![kind.clone(), vendor]), Effect::Review);
    let new = rule(kind, Effect::Review);
    let nobodys = Signal {
        vendor: None,
        ..signal(1)
    };
    let effect = |rule: &Rule| rule.take(&mut rule.memory(), &nobodys, &acme()).effect;
    assert_eq!(
        (effect(&old), effect(&new)),
        (Effect::Pause, Effect::Review)
    );
    assert!(!tightens(&old, &new), "it pauses for a missing vendor");
    let less = Rule {
        trust_at_least: Trust::Signed,
        ..old.clone()
    };
    assert_eq!(effect(&less), Effect::Gate);
    assert!(!tightens(&old, &less), "less follows from a missing vendor");
}

#[test]
fn unknown_severity_is_what_the_rule_says_it_is() {
    for (unknown_is, outcome) in [
        (Severity::High, Outcome::Applies),
        (Severity::Low, Outcome::Clear),
    ] {
        let asks = When::Signal(SignalTest::Severity {
            at_least: Severity::High,
            unknown_is,
        });
        let rule = rule(asks, Effect::Halt);
        let silent = Signal {
            severity: Severity::Unknown,
            ..signal(1)
        };
        assert_eq!(
            rule.take(&mut rule.memory(), &silent, &acme()).outcome,
            outcome
        );
    }
}

#[test]
fn a_window_counts_only_what_the_rest_of_the_rule_holds_for() {
    let asks = When::All(vec![
        When::Signal(SignalTest::Kind(vec![SignalKind::SessionTheft])),
        When::Window(Window {
            within: Seconds(60),
            counted: Counted::Signals,
            at_least: 2,
        }),
    ]);
    let rule = rule(asks, Effect::Pause);
    let mut memory = rule.memory();
    let theft = |id, seconds| Signal {
        kind: SignalKind::SessionTheft,
        received_at: at(seconds),
        ..signal(id)
    };
    let mut outcome = |signal: &Signal| rule.take(&mut memory, signal, &acme()).outcome;
    assert_eq!(outcome(&theft(1, 0)), Outcome::Clear);
    assert_eq!(outcome(&signal(2)), Outcome::Clear, "another kind");
    assert_eq!(outcome(&theft(1, 5)), Outcome::Clear, "the same one again");
    assert_eq!(outcome(&theft(3, 64)), Outcome::Applies);
    assert_eq!(memory.reached_until(&rule), Some(at(65)));
}

#[test]
fn an_end_of_a_matter_decides_nothing() {
    let rule = rule(
        When::Signal(SignalTest::Kind(vec![SignalKind::VendorBreach])),
        Effect::Halt,
    );
    for (lifecycle, outcome) in [
        (Lifecycle::Opened, Outcome::Applies),
        (Lifecycle::Unknown, Outcome::Applies),
        (Lifecycle::Closed, Outcome::Clear),
        (Lifecycle::FalsePositive, Outcome::Clear),
        (Lifecycle::Test, Outcome::Clear),
    ] {
        let signal = Signal {
            lifecycle,
            ..signal(1)
        };
        assert_eq!(
            rule.take(&mut rule.memory(), &signal, &acme()).outcome,
            outcome
        );
    }
}

fn any_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(all)
}

fn any_test() -> impl Strategy<Value = SignalTest> {
    let word = || any_of(&["a", "b"]).prop_map(str::to_owned);
    prop_oneof![
        prop::collection::vec(any_of(SignalKind::ALL), 1..4).prop_map(SignalTest::Kind),
        (any_of(&Severity::ALL[1..]), any_of(&Severity::ALL[1..])).prop_map(
            |(at_least, unknown_is)| SignalTest::Severity {
                at_least,
                unknown_is
            }
        ),
        (0..=100_u8, 0..=100_u8).prop_map(|(at_least, unknown_is)| SignalTest::Confidence {
            at_least,
            unknown_is
        }),
        (any_of(TextField::ALL), prop::collection::vec(word(), 1..3))
            .prop_map(|(field, any_of)| SignalTest::Text { field, any_of }),
        Just(SignalTest::VendorOfTarget),
        Just(SignalTest::TenantOfTarget),
        Just(SignalTest::ProductsOfTarget),
        prop::collection::vec(word(), 1..3).prop_map(SignalTest::Products),
        prop::collection::vec(word(), 1..3).prop_map(SignalTest::Labels),
    ]
}

fn any_when() -> impl Strategy<Value = When> {
    let window = (
        1..120_u32,
        prop::option::of(any_of(TextField::ALL)),
        1..4_u32,
    )
        .prop_map(|(within, field, at_least)| {
            When::Window(Window {
                within: Seconds(within),
                counted: field.map_or(Counted::Signals, Counted::Distinct),
                at_least,
            })
        });
    let leaf = prop_oneof![4 => any_test().prop_map(When::Signal), 1 => window];
    leaf.prop_recursive(3, 12, 3, |part| {
        prop_oneof![
            prop::collection::vec(part.clone(), 1..3).prop_map(When::All),
            prop::collection::vec(part.clone(), 1..3).prop_map(When::Any),
            part.prop_map(|part| When::Not(Box::new(part))),
        ]
    })
}

/// A rule that passes its checks.
fn any_rule() -> impl Strategy<Value = Rule> {
    (any_when(), any_of(Effect::ALL)).prop_filter_map("not allowed", |(when, effect)| {
        let rule = rule(when, effect);
        problems(&rule).is_empty().then_some(rule)
    })
}

fn any_signal() -> impl Strategy<Value = Signal> {
    let word = || prop::option::of(any_of(&["a", "b"]).prop_map(str::to_owned));
    let words = || prop::collection::btree_set(any_of(&["a", "b"]).prop_map(str::to_owned), 0..2);
    (
        (
            0..8_u32,
            any_of(SignalKind::ALL),
            any_of(Severity::ALL),
            prop::option::of(0..=100_u8),
        ),
        (word(), word(), word(), words(), words()),
        (0..8_i64, any_of(&["a", "b"]), any_of(Lifecycle::ALL)),
    )
        .prop_map(|(what, who, (when, source, lifecycle))| Signal {
            source: source.to_owned(),
            kind: what.1,
            severity: what.2,
            confidence: what.3,
            vendor: who.0,
            subject: Subject {
                tenant: who.1,
                user: who.2,
                ..Subject::default()
            },
            products: who.3,
            labels: who.4,
            lifecycle,
            received_at: at(when * 20),
            ..signal(what.0)
        })
}

fn any_target() -> impl Strategy<Value = TargetFacts> {
    let word = || prop::option::of(any_of(&["a", "b"]).prop_map(str::to_owned));
    (word(), word()).prop_map(|(vendor, tenant)| TargetFacts {
        name: "t".to_owned(),
        vendor,
        tenant,
        products: ["a".to_owned()].into(),
        ..TargetFacts::default()
    })
}

/// What follows from all of these, given in the order in which they were received.
fn verdict(rule: &Rule, target: &TargetFacts, signals: &[Signal]) -> Option<Effect> {
    let mut signals = signals.to_vec();
    signals.sort_by_key(|signal| signal.received_at);
    let mut memory = rule.memory();
    let verdicts = signals
        .iter()
        .map(|signal| rule.take(&mut memory, signal, target))
        .filter(|verdict| verdict.outcome != Outcome::Clear)
        .map(|verdict| verdict.effect);
    verdicts.max()
}

proptest! {
    #[test]
    fn a_signal_added_never_lowers_a_verdict(
        rule in any_rule(),
        target in any_target(),
        signals in prop::collection::vec(any_signal(), 0..8),
        added in any_signal(),
    ) {
        let before = verdict(&rule, &target, &signals);
        let mut more = signals;
        more.push(added);
        prop_assert!(verdict(&rule, &target, &more) >= before);
    }

    #[test]
    fn neither_the_order_of_delivery_nor_a_repetition_changes_a_verdict(
        rule in any_rule(),
        target in any_target(),
        signals in prop::collection::vec(any_signal(), 0..8),
        turn in 0..8_usize,
    ) {
        let once = verdict(&rule, &target, &signals);
        let mut again = signals.clone();
        again.rotate_left(turn.min(signals.len()));
        again.reverse();
        again.extend(signals.iter().take(turn).cloned());
        prop_assert_eq!(verdict(&rule, &target, &again), once);
    }

    #[test]
    fn a_rule_that_tightens_another_says_at_least_as_much(
        old in any_rule(),
        new in any_rule(),
        widened in any::<bool>(),
        target in any_target(),
        signals in prop::collection::vec(any_signal(), 0..6),
    ) {
        // Two rules at random seldom have to do with each other, so one is often made out of the other.
        let new = match widened {
            true => Rule { when: When::Any(vec![new.when, old.when.clone()]), then: old.then.clone(), ..old.clone() },
            false => new,
        };
        if problems(&new).is_empty() && tightens(&old, &new) {
            prop_assert!(verdict(&new, &target, &signals) >= verdict(&old, &target, &signals));
        }
    }

    #[test]
    fn an_explanation_says_what_the_judge_says(
        rules in prop::collection::vec(any_rule(), 1..4),
        targets in prop::collection::vec(any_target(), 1..3),
        signals in prop::collection::vec(any_signal(), 1..8),
        trusts in prop::collection::vec(any_of(Trust::ALL), 8),
    ) {
        let mut signals = signals;
        signals.sort_by_key(|signal| signal.received_at);
        let mut judge = Judge::new(rules.clone(), targets.clone());
        for (signal, trust) in signals.iter().zip(trusts) {
            let signal = Signal { trust, ..signal.clone() };
            let explained = judge.explain(&signal);
            prop_assert_eq!(explained.len(), rules.len() * targets.len());
            let decided = judge.take(&signal);
            for (place, one) in explained.iter().enumerate() {
                let (rule, target) = (place / targets.len(), place % targets.len());
                let found = decided.iter().find(|decision| (decision.rule, decision.target) == (rule, target));
                prop_assert_eq!(found.map(|found| found.verdict.outcome), Some(one.outcome).filter(|said| *said != Outcome::Clear));
                prop_assert_eq!(found.map(|found| found.verdict.effect), one.effect);
                // The tree is worked out on its own: it must come to the same.
                let tree = one.condition.as_ref().map(|asked| (asked.holds, asked.is_unsure()));
                let outcome = match tree {
                    None | Some((false, _)) => Outcome::Clear,
                    Some((true, true)) if rules[rule].trust_at_least.is_authenticated() => Outcome::Faulty,
                    Some((true, _)) => Outcome::Applies,
                };
                prop_assert_eq!(outcome, one.outcome, "{:#?}", one);
            }
        }
    }

    #[test]
    fn signals_about_another_vendor_are_skipped_only_where_they_say_nothing(
        rules in prop::collection::vec(any_rule(), 1..4),
        targets in prop::collection::vec(any_target(), 1..4),
        signals in prop::collection::vec(any_signal(), 0..8),
    ) {
        let mut signals = signals;
        signals.sort_by_key(|signal| signal.received_at);
        let mut judge = Judge::new(rules.clone(), targets.clone());
        let mut plain: Vec<RuleMemory> = Vec::new();
        for rule in &rules {
            plain.extend(targets.iter().map(|_| rule.memory()));
        }
        for signal in &signals {
            let quick = judge.take(signal);
            let mut slow = Vec::new();
            for (place, rule) in rules.iter().enumerate() {
                for (target, facts) in targets.iter().enumerate() {
                    let memory = &mut plain[place * targets.len() + target];
                    let verdict = rule.take(memory, signal, facts);
                    if verdict.outcome != Outcome::Clear {
                        slow.push(Decision { rule: place, target, verdict });
                    }
                }
            }
            let sorted = |mut list: Vec<Decision>| {
                list.sort_by_key(|decision| (decision.rule, decision.target));
                list
            };
            prop_assert_eq!(sorted(quick), sorted(slow));
        }
    }
}
