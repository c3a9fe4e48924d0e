//! Midnight Blizzard: the decisions of each day, and the counter-tests on the same days.

use proptest::prelude::*;

use super::*;
use crate::set::replay::Stop;
use crate::set::replay::line::received;
use crate::signal::{Lifecycle, Severity};

fn scenario() -> Scenario {
    Scenario::midnight_blizzard().unwrap()
}

fn story() -> Story {
    scenario().play(stopped_on_default()).unwrap()
}

fn stop<'a>(told: &'a Timeline, rule: &str) -> &'a Stop {
    told.stops.iter().find(|stop| stop.rule == rule).unwrap()
}

#[test]
fn the_decisions_of_each_day_are_the_golden_ones() {
    let told = tell::tell(&story(), 100);
    assert!(
        told.iter().all(|line| line.chars().count() <= 100),
        "fits a terminal"
    );
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn the_set_of_the_story_passes_its_own_tests() {
    assert_eq!(scenario().set.failures(), []);
}

#[test]
fn the_gate_begins_when_it_became_known_and_not_when_it_happened() {
    let story = story();
    let gate = stop(&story.timeline, "vendor-breach-gates");
    assert_eq!(gate.since.date_naive(), day(2024, 1, 19));
    let signals = scenario().signals();
    let breach = signals.iter().find(|one| one.id == "midnight-blizzard");
    let occurred = breach.and_then(|one| one.signal.occurred_at).unwrap();
    assert_eq!(occurred.date_naive(), day(2023, 11, 30));
    assert_eq!(
        (gate.signals, gate.worst),
        (4, Severity::Critical),
        "one hold, and its revisions counted"
    );
    let halt = stop(&story.timeline, "vendor-breach-not-over-halts");
    assert_eq!(halt.since.date_naive(), day(2024, 3, 8));
    assert_eq!(
        (halt.kind, halt.moved.as_deref()),
        (Effect::Halt, Some("freeze"))
    );
    let authority = stop(&story.timeline, "authority-speaks-gates");
    assert_eq!(authority.since.date_naive(), day(2024, 4, 2));
    assert_eq!(authority.signals, 3, "two of one day, and the revision");
    let october = day(2024, 10, 1);
    let after = |stop: &&Stop| stop.holds() && stop.since.date_naive() > october;
    assert_eq!(story.timeline.stops.iter().filter(after).count(), 0);
}

#[test]
fn evidence_and_ends_of_matters_release_nothing() {
    let released = day(2025, 1, 20);
    for stop in story().timeline.stops.iter().filter(|stop| stop.holds()) {
        assert_eq!(stop.lifted_at.map(|at| at.date_naive()), Some(released));
    }
    // Whatever its sender says, the end of a matter decides nothing: not even the withdrawal of a directive.
    let ends: Vec<Written> = scenario()
        .signals()
        .into_iter()
        .filter(|one| !one.signal.lifecycle.can_tighten())
        .collect();
    let kinds: Vec<Lifecycle> = ends.iter().map(|one| one.signal.lifecycle).collect();
    assert_eq!(kinds, [Lifecycle::Closed, Lifecycle::Withdrawn]);
    let mut replay = Replay::new(&scenario().set, vec![scenario().target]);
    for one in &ends {
        assert_eq!(replay.take(&one.id, &one.signal), []);
    }
}

#[test]
fn what_is_decided_voids_a_request_that_is_open() {
    let story = story();
    let void: Vec<&str> = story
        .moments
        .iter()
        .filter(|moment| moment.people.iter().any(|did| did.contains("is void")))
        .map(|moment| moment.when.as_str())
        .collect();
    assert_eq!(void, ["2024-10-22"]);
}

#[test]
fn with_the_rules_only_the_pilot_is_exposed_and_without_all_of_five_waves() {
    let scenario = scenario();
    let of = |names: &[&str]| -> u64 {
        let waves = scenario.waves.iter();
        let named = waves.filter(|wave| names.contains(&wave.name.as_str()));
        named.map(|wave| wave.people).sum()
    };
    let exposed = story().exposed;
    assert_eq!(exposed.with_rules, of(&["pilot"]));
    let five = ["pilot", "wave 1", "wave 2", "wave 3", "wave 4", "wave 5"];
    assert_eq!(exposed.unstopped, of(&five));
    assert_eq!((scenario.waves.len(), story().people), (14, 1_500_000));
    // Whoever waits for people to notice is as late as they are.
    let late = scenario.play(day(2024, 2, 12)).unwrap().exposed;
    assert_eq!(late.with_rules, of(&["pilot"]));
    assert_eq!(late.people_only, of(&five[..4]));
}

#[test]
fn a_catalogue_gives_forty_reasons_to_hold_and_none_on_the_day() {
    let kev = story().kev;
    assert_eq!((kev.entries, kev.on_the_day), (40, 0));
    assert_eq!(kev.holds, 1, "what is the same counts to one");
    assert_eq!(kev.as_it_is, 0, "it is not signed, so it may hold nothing");
}

/// What is left in the end: each stop, and what was counted to it.
fn ends(signals: &[Written]) -> Vec<(String, Effect, u64, Severity)> {
    let scenario = scenario();
    let mut replay = Replay::new(&scenario.set, vec![scenario.target]);
    for one in signals {
        replay.take(&one.id, &one.signal);
    }
    let mut ends: Vec<_> = replay
        .told()
        .stops
        .iter()
        .map(|stop| (stop.rule.clone(), stop.kind, stop.signals, stop.worst))
        .collect();
    ends.sort();
    ends
}

fn shuffled(turn: usize, step: usize) -> Vec<Written> {
    let signals = scenario().signals();
    let mut all: Vec<Written> = signals.iter().chain(&signals).cloned().collect();
    let turn = turn % all.len();
    all.rotate_left(turn);
    let (even, odd): (Vec<_>, Vec<_>) = all
        .into_iter()
        .enumerate()
        .partition(|(place, _)| (place / step).is_multiple_of(2));
    odd.into_iter()
        .rev()
        .chain(even)
        .map(|(_, one)| one)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn shuffled_and_repeated_it_ends_the_same(turn in 0..60_usize, step in 1..9_usize) {
        let again = received(shuffled(turn, step));
        prop_assert_eq!(ends(&again), ends(&scenario().signals()));
    }

    /// All of it on one day, in any order: what is held and the worst of it are the same. Only what a window
    /// counts depends on which came second.
    #[test]
    fn delivered_in_another_order_it_holds_the_same(turn in 0..60_usize, step in 1..9_usize) {
        let begin = evening(day(2024, 1, 19));
        let at_once = |signals: Vec<Written>| -> Vec<Written> {
            let mut known = std::collections::BTreeSet::new();
            let fresh = signals.into_iter().filter(|one| {
                known.insert((one.id.clone(), one.signal.revision.clone()))
            });
            let moved = fresh.zip(0..).map(|(mut one, minute)| {
                one.signal.received_at = Seconds(minute * 60).after(begin);
                one
            });
            moved.collect()
        };
        let holds = |signals: &[Written]| -> Vec<(String, Effect, u64, Severity)> {
            ends(signals).into_iter().filter(|(_, kind, _, _)| *kind > Effect::Review).collect()
        };
        let again = holds(&at_once(shuffled(turn, step)));
        prop_assert_eq!(again, holds(&at_once(scenario().signals())));
    }
}
