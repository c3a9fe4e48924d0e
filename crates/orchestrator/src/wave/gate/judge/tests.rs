//! Claims about judging: each test is one way in which other systems let a bad wave pass.

use super::*;
use crate::ids::from_millis;
use crate::wave::gate::{ApprovalTerms, Limit};
use crate::wave::soak::Seconds;

fn now() -> Timestamp {
    from_millis(1_000_000_000).unwrap()
}

fn evidence(eligible: u64, done: u64, failed: u64, unknown: u64) -> Evidence {
    let counts = Counts {
        eligible,
        done,
        failed,
        unknown,
        open: eligible - done - failed - unknown,
    };
    Evidence {
        counts,
        ..Evidence::default()
    }
}

fn gate(failures: &str) -> Gate {
    Gate {
        failures_at_most: Some(failures.parse().unwrap()),
        ..Gate::default()
    }
}

fn with_goal(goal: &str) -> Gate {
    Gate {
        success_at_least: Some(goal.parse().unwrap()),
        ..Gate::default()
    }
}

#[track_caller]
fn check_outcome(gate: &Gate, evidence: &Evidence, outcome: Outcome) {
    let judgement = gate.judge(evidence, now());
    assert_eq!(judgement.outcome(), outcome, "{judgement:#?}");
}

#[test]
fn ten_percent_of_50_passes_at_5_and_fails_at_6() {
    check_outcome(&gate("10%"), &evidence(50, 45, 5, 0), Outcome::Pass);
    check_outcome(&gate("10%"), &evidence(50, 44, 6, 0), Outcome::Fail);
}

#[test]
fn a_twentieth_of_a_percent_of_20_000_passes_at_10_and_fails_at_11() {
    check_outcome(
        &gate("0.05%"),
        &evidence(20_000, 19_990, 10, 0),
        Outcome::Pass,
    );
    check_outcome(
        &gate("0.05%"),
        &evidence(20_000, 19_989, 11, 0),
        Outcome::Fail,
    );
}

#[test]
fn a_wave_that_closes_short_of_its_goal_fails() {
    // Success 60 %, goal 95 %, error limit 50 %.
    let gate = Gate {
        failures_at_most: Some(Limit::Share(Ppm::percent(50))),
        ..with_goal("95%")
    };
    check_outcome(&gate, &evidence(100, 60, 40, 0), Outcome::Fail);
}

#[test]
fn two_failures_of_the_first_three_are_undecided_and_never_a_pass() {
    let gate = Gate {
        sample_at_least: Some(200),
        ..with_goal("95%")
    };
    let early = evidence(20_000, 1, 2, 0);
    check_outcome(&gate, &early, Outcome::Undecided);
    assert!(gate.watch(&early, now()).findings.is_empty());
}

#[test]
fn a_limit_by_count_stops_long_before_the_sample_is_complete() {
    let gate = Gate {
        sample_at_least: Some(200),
        ..gate("1")
    };
    let early = evidence(20_000, 1, 2, 0);
    let watch = gate.watch(&early, now());
    assert_eq!(watch.outcome(), Outcome::Fail);
    assert_eq!(watch.findings[0].condition, Condition::Failures);
}

#[test]
fn a_goal_out_of_reach_stops_while_people_are_still_open() {
    let watch = with_goal("95%").watch(&evidence(1000, 100, 51, 0), now());
    assert_eq!(watch.findings[0].condition, Condition::Success);
    assert!(
        with_goal("95%")
            .watch(&evidence(1000, 100, 50, 0), now())
            .findings
            .is_empty()
    );
}

#[test]
fn a_ratio_at_the_goal_is_undecided_until_the_bound_is() {
    check_outcome(
        &with_goal("95%"),
        &evidence(58, 58, 0, 0),
        Outcome::Undecided,
    );
    check_outcome(&with_goal("95%"), &evidence(59, 59, 0, 0), Outcome::Pass);
}

#[test]
fn silent_people_count_against_the_gate() {
    // 3 % never report; 1 % may.
    let gate = Gate {
        unknown_at_most: Limit::Share(Ppm::percent(1)),
        ..with_goal("90%")
    };
    check_outcome(&gate, &evidence(1000, 970, 0, 30), Outcome::Undecided);
    check_outcome(&gate, &evidence(1000, 990, 0, 10), Outcome::Pass);
    // And they are no successes: 12 % of silence is allowed here, yet the goal is not shown.
    let gate = Gate {
        unknown_at_most: Limit::Share(Ppm::percent(12)),
        ..gate
    };
    check_outcome(&gate, &evidence(1000, 880, 0, 120), Outcome::Undecided);
}

#[test]
fn a_gate_that_says_nothing_about_silence_allows_none() {
    check_outcome(&gate("5"), &evidence(400, 399, 0, 1), Outcome::Undecided);
}

#[test]
fn nobody_decided_is_no_evidence() {
    check_outcome(&gate("5"), &evidence(400, 0, 0, 0), Outcome::NoEvidence);
    check_outcome(&gate("5"), &evidence(0, 0, 0, 0), Outcome::NoEvidence);
    assert_eq!(Judgement::default().outcome(), Outcome::NoEvidence);
}

fn metric_gate() -> Gate {
    let metric = Metric {
        name: "sign-in failures".to_owned(),
        query: "rate".to_owned(),
        at_most_millionths: Some(6_000),
        at_least_millionths: None,
        age_max: Seconds(300),
    };
    Gate {
        metrics: vec![metric],
        ..Gate::default()
    }
}

#[track_caller]
fn check_reading(reading: Option<Reading>, outcome: Outcome) {
    let mut evidence = evidence(10, 10, 0, 0);
    let reading = reading.map(|reading| ("sign-in failures".to_owned(), reading));
    evidence.readings.extend(reading);
    check_outcome(&metric_gate(), &evidence, outcome);
}

#[test]
fn a_metric_that_is_missing_broken_old_or_nonsense_is_no_evidence() {
    let reading = |value, seconds| {
        let at = now() - chrono::TimeDelta::seconds(seconds);
        Some(Reading { value, at })
    };
    check_reading(None, Outcome::NoEvidence);
    check_reading(reading(None, 0), Outcome::NoEvidence);
    check_reading(reading(Some(f64::NAN), 0), Outcome::NoEvidence);
    check_reading(reading(Some(f64::INFINITY), 0), Outcome::NoEvidence);
    check_reading(reading(Some(0.001), 301), Outcome::NoEvidence);
    check_reading(reading(Some(0.001), -1), Outcome::NoEvidence);
    check_reading(reading(Some(0.006), 300), Outcome::Pass);
    check_reading(reading(Some(0.006_001), 0), Outcome::Fail);
}

#[test]
fn people_are_asked_only_when_everything_else_has_passed() {
    let terms = ApprovalTerms {
        count: 2,
        from: vec!["security".to_owned()],
    };
    let gate = Gate {
        approvals: Some(terms),
        ..gate("5")
    };
    let ready = gate.judge(&evidence(100, 95, 5, 0), now());
    assert!(ready.lacks_only_approvals());
    assert_eq!(ready.outcome(), Outcome::Undecided);
    assert!(
        !gate
            .judge(&evidence(100, 90, 5, 5), now())
            .lacks_only_approvals()
    );
    let approved = Evidence {
        approvals: 2,
        ..evidence(100, 95, 5, 0)
    };
    check_outcome(&gate, &approved, Outcome::Pass);
}

#[test]
fn every_condition_is_judged_even_after_one_has_failed() {
    let gate = Gate {
        sample_at_least: Some(10),
        failures_at_most: Some(Limit::Count(0)),
        ..with_goal("90%")
    };
    let names: Vec<_> = gate
        .judge(&evidence(100, 50, 50, 0), now())
        .findings
        .iter()
        .map(|finding| finding.condition.name().to_owned())
        .collect();
    assert_eq!(
        names,
        ["settled", "sample", "success", "failures", "unknown"]
    );
}
