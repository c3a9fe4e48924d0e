//! What a replay tells, as claims.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::difference::{Difference, differences};
use super::line::{Written, history, received, signal};
use super::*;
use crate::document::Format;
use crate::signal::Trust;

const RULES: &str = "
policy_set: two
rules:
  - id: breach-halts
    says: A breach halts.
    when:
      all:
        - {signal: kind, equals: vendor_breach}
        - {signal: severity, at_least: high, unknown_is: high}
        - {signal: vendor, is: target.vendor}
    trust_at_least: authenticated_channel
    then: {verdict: halt, scope: target, moved: freeze}
  - id: theft-pauses
    says: Two stolen sessions within an hour pause.
    when:
      all:
        - {signal: kind, equals: session_theft}
        - {signal: severity, at_least: high, unknown_is: high}
        - {signal: vendor, is: target.vendor}
        - {window: 1h, distinct: user, at_least: 2}
    trust_at_least: authenticated_channel
    then: {verdict: hold, kind: pause, scope: target, lift_after_clear_for: 2h}
  - id: advisory-would-gate
    says: An advisory would gate.
    when: {all: [{signal: kind, equals: advisory}, {signal: vendor, is: target.vendor}]}
    trust_at_least: signed
    then: {verdict: hold, kind: gate, scope: target}
    shadow: true
";

fn set(text: &str) -> PolicySet {
    PolicySet::parse(text, Format::Yaml).unwrap()
}

fn acme(name: &str) -> TargetFacts {
    TargetFacts {
        name: name.to_owned(),
        vendor: Some("acme".to_owned()),
        ..TargetFacts::default()
    }
}

/// A minute of a day, and what was reported then.
fn lines(reports: &[(i64, &str)]) -> Vec<Written> {
    let mut text = String::new();
    for (number, (minute, fields)) in reports.iter().enumerate() {
        let (hour, minute) = (minute / 60, minute % 60);
        let _ = writeln!(
            text,
            r#"{{"id": "s{number}", "received_at": "2026-01-01T{hour:02}:{minute:02}:00Z", {fields}}}"#
        );
    }
    history(&text).unwrap()
}

fn replayed(rules: &str, targets: &[&str], signals: &[Written]) -> Timeline {
    let targets = targets.iter().map(|name| acme(name)).collect();
    let mut replay = Replay::new(&set(rules), targets);
    for one in signals {
        replay.take(&one.id, &one.signal);
    }
    let day = Seconds(86_400);
    let last = signals
        .last()
        .map_or(Timestamp::UNIX_EPOCH, |one| one.signal.received_at);
    replay.end(day.after(last))
}

const BREACH: &str = r#""kind": "vendor_breach", "severity": "high", "vendor": "acme""#;
const WORSE: &str = r#""kind": "vendor_breach", "severity": "critical", "vendor": "acme""#;
const ANA: &str =
    r#""kind": "session_theft", "severity": "high", "vendor": "acme", "subject": {"user": "ana"}"#;
const BO: &str =
    r#""kind": "session_theft", "severity": "high", "vendor": "acme", "subject": {"user": "bo"}"#;
const ADVISORY: &str = r#""kind": "advisory", "vendor": "acme""#;

#[test]
fn what_is_reported_again_counts_to_the_stop_that_stands_and_the_worst_is_kept() {
    let signals = lines(&[
        (0, BREACH),
        (1, WORSE),
        (2, BREACH),
        (3, r#""kind": "other", "vendor": "acme""#),
    ]);
    let told = replayed(RULES, &["a", "b"], &signals);
    assert_eq!(told.stops.len(), 2, "one at each target: {told:#?}");
    let stop = &told.stops[0];
    assert_eq!(
        (stop.kind, stop.signals, stop.worst, stop.first.as_str()),
        (Effect::Halt, 3, Severity::Critical, "s0")
    );
    assert_eq!((stop.last.as_str(), stop.lifted_at), ("s2", None));
    assert_eq!(stop.moved.as_deref(), Some("freeze"));
    assert_eq!((told.signals, told.unmapped), (4, 1));
}

#[test]
fn a_missing_fact_is_a_stop_of_its_own_and_is_never_lifted() {
    let nobodys = r#""kind": "session_theft", "severity": "high", "subject": {"user": "ana"}"#;
    let told = replayed(RULES, &["a"], &lines(&[(0, ANA), (1, BO), (2, nobodys)]));
    let thefts: Vec<&Stop> = told
        .stops
        .iter()
        .filter(|stop| stop.rule == "theft-pauses")
        .collect();
    assert_eq!(thefts.len(), 2, "{thefts:#?}");
    assert!(thefts[0].faults.is_empty() && thefts[0].lifted_at.is_some());
    assert_eq!(thefts[1].faults, ["signal_has_no_vendor"]);
    assert_eq!(thefts[1].lifted_at, None);
}

#[test]
fn a_rule_lifts_its_own_pause_once_clear_and_what_comes_after_holds_anew() {
    let signals = lines(&[(0, ANA), (10, BO), (400, ANA), (410, BO)]);
    let told = replayed(RULES, &["a"], &signals);
    let spans: Vec<(String, Option<String>)> = told
        .stops
        .iter()
        .map(|stop| {
            let clock = |at: Timestamp| at.format("%H:%M").to_string();
            (clock(stop.since), stop.lifted_at.map(clock))
        })
        .collect();
    // The window of an hour holds for both until an hour after the first of them; two hours later it lifts.
    let expected = [("00:10", "03:00"), ("06:50", "09:40")];
    let expected = expected.map(|(since, until)| (since.to_owned(), Some(until.to_owned())));
    assert_eq!(spans, expected);
}

#[test]
fn a_rule_in_shadow_is_told_and_holds_nothing() {
    let told = replayed(RULES, &["a"], &lines(&[(0, ADVISORY)]));
    assert!(told.stops[0].shadow && !told.stops[0].holds());
    let nothing = replayed(RULES, &["a"], &[]);
    assert_eq!(differences(&nothing, &told), []);
}

#[test]
fn two_sets_differ_by_what_was_held_and_not_by_how_rules_are_called() {
    let signals = lines(&[(0, ANA), (5, ADVISORY), (10, BO), (20, BREACH), (30, WORSE)]);
    let active = replayed(RULES, &["a"], &signals);
    let renamed = RULES
        .replace("breach-halts", "b")
        .replace("theft-pauses", "t");
    assert_eq!(
        differences(&active, &replayed(&renamed, &["a"], &signals)),
        []
    );
    let other = RULES
        .replace("severity, at_least: high, unknown_is: high}\n        - {signal: vendor, is: target.vendor}\n    trust", "severity, at_least: critical, unknown_is: high}\n        - {signal: vendor, is: target.vendor}\n    trust")
        .replace("lift_after_clear_for: 2h", "lift_after_clear_for: 1h")
        .replace("shadow: true", "shadow: false");
    let steps = differences(&active, &replayed(&other, &["a"], &signals));
    let told: Vec<(Difference, Effect, bool)> = steps
        .iter()
        .map(|step| (step.difference, step.kind, step.loosens))
        .collect();
    assert_eq!(
        told,
        [
            (Difference::Added, Effect::Gate, false),
            (Difference::Shorter, Effect::Pause, true),
            (Difference::Later, Effect::Halt, true),
        ],
        "{steps:#?}"
    );
    let back = differences(&replayed(&other, &["a"], &signals), &active);
    let back: Vec<Difference> = back.iter().map(|step| step.difference).collect();
    assert_eq!(
        back,
        [Difference::Dropped, Difference::Longer, Difference::Earlier]
    );
}

#[test]
fn a_line_is_read_in_each_of_its_forms_and_a_wrong_one_is_named() {
    let reported = lines(&[(0, BREACH)]).remove(0);
    assert_eq!(reported.signal.trust, Trust::AuthenticatedChannel);
    let bare = serde_json::to_value(&reported.signal).unwrap();
    assert_eq!(signal(&bare, 1).unwrap(), reported);
    let listed = serde_json::json!({"id": "one", "seq": 1, "outcome": "halt", "signal": bare});
    let read = signal(&listed, 1).unwrap();
    assert_eq!((read.id.as_str(), &read.signal), ("one", &reported.signal));
    let whole = history(&serde_json::json!([listed]).to_string()).unwrap();
    assert_eq!(whole.len(), 1);
    for (text, line, code) in [
        ("# nothing\n\n{\"kind\": \"other\"}", 3, "field_invalid"),
        (
            r#"{"received_at": "2026-01-01T00:00:00Z", "trust": "high"}"#,
            1,
            "field_invalid",
        ),
        (r#"{"external_id": "x"}"#, 1, "signal_invalid"),
        ("kind: other", 1, "not_json"),
    ] {
        let error = history(text).unwrap_err();
        assert_eq!((error.line, error.cause.code), (line, code), "{error}");
    }
}

proptest! {
    #[test]
    fn a_replay_holds_what_the_judge_decides_and_counts_every_decision(
        reports in prop::collection::vec((0..1200_i64, 0..5_usize), 0..30),
    ) {
        let fields = [BREACH, WORSE, ANA, BO, ADVISORY];
        let reports: Vec<(i64, &str)> = reports.iter().map(|(at, which)| (*at, fields[*which])).collect();
        let signals = lines(&reports);
        let mut judge = Judge::new(set(RULES).rules, vec![acme("a"), acme("b")]);
        let decided: usize = signals.iter().map(|one| judge.take(&one.signal).len()).sum();
        let told = replayed(RULES, &["a", "b"], &signals);
        let counted: u64 = told.stops.iter().map(|stop| stop.signals).sum();
        prop_assert_eq!(usize::try_from(counted).unwrap(), decided);
        for (place, stop) in told.stops.iter().enumerate() {
            let again = told.stops.iter().skip(place + 1).find(|other| {
                (&other.rule, &other.target, other.kind) == (&stop.rule, &stop.target, stop.kind)
            });
            let is_apart = again.is_none_or(|next| stop.lifted_at.is_some_and(|end| end < next.since));
            prop_assert!(is_apart, "one at a time: {:?}", stop);
        }
    }

    #[test]
    fn however_a_file_is_shuffled_and_repeated_its_replay_is_the_same(
        reports in prop::collection::vec((0..1200_i64, 0..5_usize), 0..20),
        turn in 0..20_usize,
    ) {
        let fields = [BREACH, WORSE, ANA, BO, ADVISORY];
        let reports: Vec<(i64, &str)> = reports.iter().map(|(at, which)| (*at, fields[*which])).collect();
        let signals = lines(&reports);
        let mut shuffled = signals.clone();
        shuffled.rotate_left(turn.min(signals.len()));
        shuffled.reverse();
        shuffled.extend(signals.iter().take(turn).cloned());
        prop_assert_eq!(replayed(RULES, &["a"], &received(shuffled)), replayed(RULES, &["a"], &signals));
    }
}
