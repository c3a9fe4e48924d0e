//! Claims about gates as the planner applies them: what stops, what passes, what waits.

use super::*;
use crate::wave::gate::{ApprovalTerms, Metric, Reading};

fn goal(percent: u8) -> Gate {
    Gate {
        success_at_least: Some(Ppm::percent(percent)),
        ..Gate::default()
    }
}

fn gated(tally: Tally, gate: Gate) -> World {
    let first = WaveFacts {
        tally,
        gate,
        ..facts(tally.total())
    };
    World::standing(vec![
        (WaveStatus::Gated {}, first),
        (WaveStatus::Pending {}, facts(100)),
    ])
}

#[track_caller]
fn check_never_passes(world: &mut World, code: &str) {
    for now in [10, 10 * DAY, 400 * DAY] {
        let step = world.pass(now);
        assert_eq!(codes(&step), Vec::<String>::new(), "at {now}");
        assert_eq!(why(&step), code, "at {now}");
    }
    assert_eq!((world.status(1), world.status(2)), ("gated", "pending"));
}

#[test]
fn halt_beats_advance_inside_one_evaluation() {
    let failing = WaveFacts {
        tally: people(&[(SlotState::Done, 44), (SlotState::Failed, 6)]),
        ..facts(50)
    };
    let passing = WaveFacts {
        tally: done(100),
        ..facts(100)
    };
    let mut world = World::standing(vec![
        (WaveStatus::Open {}, failing),
        (WaveStatus::Gated {}, passing),
        (WaveStatus::Pending {}, facts(1000)),
    ]);
    let step = world.pass(10);
    assert_eq!(codes(&step), ["wave.gate_failed 1"]);
    assert_eq!(effects(&step), ["place_gate_hold", "close_claims"]);
    for now in [11, DAY, 400 * DAY] {
        assert_eq!(world.pass(now).events, Vec::new());
    }
    assert_eq!((world.status(2), world.status(3)), ("gated", "pending"));
}

#[test]
fn a_limit_of_10_percent_of_50_stands_at_5_and_trips_at_6() {
    for (failed, status) in [(5, "open"), (6, "failed")] {
        let mut wave = facts(50);
        wave.tally = people(&[
            (SlotState::Queued, 50 - failed),
            (SlotState::Failed, failed),
        ]);
        let mut world = World::standing(vec![(WaveStatus::Open {}, wave)]);
        world.pass(10);
        assert_eq!(world.status(1), status, "{failed} failed");
    }
}

#[test]
fn two_failures_of_the_first_three_stop_by_their_limit_and_never_wait_for_the_sample() {
    let wave = |limit| WaveFacts {
        tally: people(&[
            (SlotState::Queued, 19_997),
            (SlotState::Done, 1),
            (SlotState::Failed, 2),
        ]),
        gate: Gate {
            failures_at_most: Some(limit),
            sample_at_least: Some(1000),
            ..Gate::default()
        },
        ..facts(20_000)
    };
    let mut strict = World::standing(vec![(WaveStatus::Open {}, wave(Limit::Count(1)))]);
    strict.pass(10);
    assert_eq!(strict.status(1), "failed");
    let mut watching = World::standing(vec![
        (WaveStatus::Open {}, wave(Limit::Count(60))),
        (WaveStatus::Pending {}, facts(100)),
    ]);
    watching.pass(10);
    assert_eq!(
        (watching.status(1), watching.status(2)),
        ("open", "pending")
    );
}

#[test]
fn a_wave_that_closes_with_60_percent_of_a_goal_of_95_does_not_open_the_next() {
    let gate = Gate {
        failures_at_most: Some(Limit::Share(Ppm::percent(50))),
        ..goal(95)
    };
    let tally = people(&[(SlotState::Done, 600), (SlotState::Failed, 400)]);
    let mut world = gated(tally, gate);
    let step = world.pass(10);
    assert_eq!(codes(&step), ["wave.gate_failed 1"]);
    assert_eq!(why(&step), "gate_failed");
    assert_eq!(world.run(11, 400 * DAY), Vec::<String>::new());
    assert_eq!(world.status(2), "pending");
}

#[test]
fn a_goal_that_was_not_shown_is_a_missed_goal_and_offers_the_retry() {
    let tally = people(&[(SlotState::Done, 97), (SlotState::Failed, 3)]);
    let mut world = gated(tally, goal(95));
    check_never_passes(&mut world, "missed_goal");
    let sentence = world.look(500 * DAY).report.lines[0].to_string();
    assert!(sentence.contains("retry the 3 who failed"), "{sentence}");
}

#[test]
fn silent_people_are_waited_for_then_counted_unknown_and_the_gate_holds() {
    let mut world = World::running(vec![facts(1000), facts(100)]);
    world.pass(10);
    world.waves[0].tally = people(&[(SlotState::Done, 970), (SlotState::Unknown, 30)]);
    let step = world.pass(20);
    assert_eq!(
        (codes(&step), why(&step)),
        (vec!["wave.drained 1".to_owned()], "silent")
    );
    assert_eq!(step.wake_at, Some(at(3620)));
    assert_eq!(codes(&world.pass(3620)), ["wave.soak_began 1"]);
    assert_eq!(codes(&world.pass(7220)), ["wave.soak_ended 1"]);
    check_never_passes_after(&mut world, 7221);
    let lines = world.look(400 * DAY).report.lines;
    assert_eq!(lines[0].code(), "undecided");
    assert!(
        lines[0]
            .to_string()
            .contains("30 of 1,000 people never answered"),
        "{}",
        lines[0]
    );
}

#[track_caller]
fn check_never_passes_after(world: &mut World, now: i64) {
    assert_eq!(world.run(now, 400 * DAY), Vec::<String>::new());
    assert_eq!(world.status(2), "pending");
}

#[test]
fn nobody_decided_is_no_evidence_and_never_passes() {
    let tally = people(&[(SlotState::Awaiting, 50)]);
    let mut world = gated(tally, gate());
    check_never_passes(&mut world, "no_evidence");
}

#[test]
fn a_metric_that_is_missing_late_or_nonsense_never_passes_and_is_named() {
    let metric = Metric {
        name: "sign-ins".to_owned(),
        query: "rate(errors[5m])".to_owned(),
        at_most_millionths: Some(1_000_000),
        at_least_millionths: None,
        age_max: Seconds(300),
    };
    let gate = Gate {
        metrics: vec![metric],
        ..gate()
    };
    let reading = |value, seconds| Reading {
        value,
        at: at(seconds),
    };
    for reading in [
        None,
        Some(reading(None, 10)),
        Some(reading(Some(f64::NAN), 10)),
        Some(reading(Some(0.5), -600)),
    ] {
        let mut world = gated(done(50), gate.clone());
        world.waves[0]
            .readings
            .extend(reading.map(|reading| ("sign-ins".to_owned(), reading)));
        check_never_passes(&mut world, "no_evidence");
    }
    let mut world = gated(done(50), gate);
    world.waves[0]
        .readings
        .insert("sign-ins".to_owned(), reading(Some(0.5), 10));
    assert_eq!(codes(&world.pass(10))[0], "wave.passed 1");
}

fn needs_approvals(count: u32) -> Gate {
    Gate {
        approvals: Some(ApprovalTerms {
            count,
            from: Vec::new(),
        }),
        ..gate()
    }
}

#[test]
fn a_wave_waits_for_approval_however_long_and_says_so() {
    let mut world = gated(done(50), needs_approvals(1));
    check_never_passes(&mut world, "approval_missing");
    world.approve(1, "lind", plan_digest(), 401 * DAY);
    assert_eq!(
        codes(&world.pass(401 * DAY)),
        ["wave.passed 1", "wave.opened 2"]
    );
}

#[test]
fn only_distinct_approvals_of_this_plan_by_others_after_the_soak_count() {
    let mut world = gated(done(50), needs_approvals(2));
    world.rollout.waves[0].since = at(100);
    world.approve(1, "early", plan_digest(), 99);
    world.approve(1, "meier", plan_digest(), 200);
    world.approve(1, "other", Digest::of(b"another plan"), 200);
    world.approve(1, "lind", plan_digest(), 200);
    world.approve(1, "lind", plan_digest(), 201);
    check_never_passes(&mut world, "approval_missing");
    world.approve(1, "okafor", plan_digest(), 300);
    assert_eq!(codes(&world.pass(401 * DAY))[0], "wave.passed 1");
}

#[test]
fn a_success_that_turns_out_false_reopens_the_verdict_and_stops_later_waves() {
    let first = WaveFacts {
        tally: people(&[(SlotState::Done, 40), (SlotState::Failed, 10)]),
        ..facts(50)
    };
    let mut world = World::standing(vec![
        (WaveStatus::Passed {}, first),
        (WaveStatus::Open {}, facts(100)),
        (WaveStatus::Pending {}, facts(100)),
    ]);
    let step = world.pass(10);
    assert_eq!(codes(&step), ["wave.gate_failed 1"]);
    assert_eq!(effects(&step), ["place_gate_hold"]);
    let covered = Place::wave(place().target, place().rollout, WaveNumber(2));
    assert!(
        world.holds.worst(&covered).is_some(),
        "the hold stops wave 2 too"
    );
}

#[test]
fn people_who_were_taken_back_fail_no_gate_and_stop_no_other_wave() {
    let first = WaveFacts {
        tally: people(&[(SlotState::Reverted, 40), (SlotState::Failed, 10)]),
        gate: goal(80),
        ..facts(50)
    };
    let mut world = World::standing(vec![
        (WaveStatus::Passed {}, first),
        (WaveStatus::Open {}, facts(100)),
    ]);
    let step = world.pass(10);
    assert!(
        codes(&step).is_empty() && world.holds.is_empty(),
        "{step:#?}"
    );
}

#[test]
fn people_who_were_taken_back_count_as_moved_when_the_rest_is_judged() {
    // All of the sample is theirs: the few who are tried again could never show it alone.
    let gate = Gate {
        sample_at_least: Some(40),
        ..goal(80)
    };
    let tally = people(&[(SlotState::Reverted, 45), (SlotState::Done, 5)]);
    let mut world = gated(tally, gate);
    assert_eq!(codes(&world.pass(10))[0], "wave.passed 1");
}

#[test]
fn nobody_of_a_wave_that_is_taken_back_may_be_claimed() {
    let mut world = World::running(vec![facts(50)]);
    assert_eq!(effects(&world.pass(10)), ["open_claims"]);
    world.waves[0].taking_back = true;
    let step = world.pass(20);
    assert_eq!(effects(&step), ["close_claims"]);
    assert_eq!(
        step.report.why_not_now().map(|line| line.code()),
        Some("taken_back")
    );
    world.waves[0].taking_back = false;
    assert_eq!(effects(&world.pass(30)), ["open_claims"]);
}

#[test]
fn a_retry_queues_the_failed_again_ends_the_hold_and_passes_only_if_it_helped() {
    let mut world = World::running(vec![facts(50), facts(100)]);
    world.pass(10);
    world.waves[0].tally = people(&[(SlotState::Done, 44), (SlotState::Failed, 6)]);
    assert_eq!(
        effects(&world.pass(20)),
        ["place_gate_hold", "close_claims"]
    );
    world.retry(1, 30);
    assert_eq!(effects(&world.pass(30)), ["requeue_failed"]);
    let step = world.pass(31);
    assert_eq!(codes(&step), ["wave.reopened 1", "wave.opened 1"]);
    assert_eq!(effects(&step), ["end_gate_hold", "open_claims"]);
    assert!(world.holds.is_empty());
    world.waves[0].tally = done(50);
    world.pass(40);
    assert_eq!(codes(&world.pass(40 + 3600))[1], "wave.passed 1");
}

#[test]
fn a_verdict_stays_when_the_figures_look_better_by_themselves() {
    let mut world = World::running(vec![facts(50), facts(100)]);
    world.pass(10);
    world.waves[0].tally = people(&[(SlotState::Done, 44), (SlotState::Failed, 6)]);
    world.pass(20);
    world.waves[0].tally = done(50);
    assert_eq!(world.run(30, 400 * DAY), Vec::<String>::new());
    assert_eq!(world.status(1), "failed");
}

#[test]
fn a_gate_hold_somebody_lost_is_placed_again() {
    let mut world = World::running(vec![facts(50)]);
    world.pass(10);
    world.waves[0].tally = people(&[(SlotState::Failed, 50)]);
    world.pass(20);
    world.holds = HoldSet::default();
    let step = world.pass(30);
    assert_eq!(
        (codes(&step).len(), effects(&step)),
        (0, vec!["place_gate_hold"])
    );
}

#[test]
fn a_last_wave_without_a_gate_ends_only_when_everybody_has_answered() {
    let wave = |tally| WaveFacts {
        gate: Gate::default(),
        tally,
        ..facts(50)
    };
    let silent = people(&[(SlotState::Done, 49), (SlotState::Unknown, 1)]);
    let mut world = World::standing(vec![(WaveStatus::Gated {}, wave(silent))]);
    assert_eq!(world.run(10, 10 * DAY), Vec::<String>::new());
    world.waves[0].tally = people(&[(SlotState::Done, 40), (SlotState::Failed, 10)]);
    assert_eq!(
        codes(&world.pass(11 * DAY)),
        ["wave.passed 1", "rollout.completed"]
    );
}
