//! Claims about windows, ramps and the order in which waves open.

use super::*;
use crate::wave::ramp::Ramp;
use crate::wave::window::{Freeze, Schedule, open_at};

#[test]
fn what_was_not_begun_at_the_end_of_the_window_is_carried_over() {
    let mut world = World::running(vec![facts(50)]);
    world.waves[0].window = WindowState::Open {
        until: Some(at(3600)),
    };
    let opened = world.pass(10);
    let until = Some(at(3600));
    let begin_at_most = None;
    assert_eq!(
        opened.effects,
        [Effect::OpenClaims {
            wave: WaveNumber(1),
            claims: crate::rollout::Claims {
                until,
                begin_at_most
            },
        }]
    );
    world.waves[0].tally = people(&[(SlotState::Done, 20), (SlotState::Queued, 30)]);
    world.waves[0].window = closed(90_000);
    let step = world.pass(3600);
    assert_eq!(codes(&step), ["wave.window_closed 1"]);
    assert_eq!(
        (why(&step), step.wake_at),
        ("window_closed", Some(at(90_000)))
    );
    world.waves[0].window = WindowState::Open { until: None };
    assert_eq!(codes(&world.pass(90_000)), ["wave.opened 1"]);
}

#[test]
fn people_who_were_begun_are_looked_up_after_the_window_and_nobody_is_begun() {
    let mut world = World::standing(vec![(WaveStatus::Open {}, facts(50))]);
    world.waves[0].tally = people(&[(SlotState::Done, 40), (SlotState::Awaiting, 10)]);
    world.waves[0].window = closed(90_000);
    let step = world.pass(100);
    assert_eq!(codes(&step), ["wave.drained 1"]);
    let claims = world.rollout.waves[0].claims().unwrap();
    assert_eq!(
        claims.until,
        Some(at(3700)),
        "as long as the silent are waited for"
    );
    world.waves[0].tally = people(&[(SlotState::Done, 40), (SlotState::Retry, 10)]);
    assert_eq!(codes(&world.pass(200)), ["wave.window_closed 1"]);
}

#[test]
fn three_missed_days_over_five_overdue_waves_open_one_wave() {
    let mut world = World::running(vec![facts(50), facts(50), facts(50), facts(50), facts(50)]);
    let step = world.pass(3 * DAY);
    assert_eq!(codes(&step), ["wave.opened 1"]);
    let again = world.pass(3 * DAY);
    assert!(again.events.is_empty() && again.effects.is_empty());
}

#[test]
fn waves_that_were_reopened_together_open_one_after_the_other() {
    let mut world = World::standing(vec![
        (WaveStatus::Waiting {}, facts(50)),
        (WaveStatus::Waiting {}, facts(50)),
    ]);
    let step = world.pass(10);
    assert_eq!(codes(&step), ["wave.opened 1"]);
    assert_eq!(step.wake_at, Some(at(11)));
    let lines: Vec<_> = step.report.lines.iter().map(ReportLine::code).collect();
    assert_eq!(lines, ["ready", "opens_next"]);
    assert_eq!(codes(&world.pass(11)), ["wave.opened 2"]);
}

fn berlin(day: &str, freezes: &[Freeze]) -> WindowState {
    let schedule = Schedule {
        cron: "0 30 2 * * *".to_owned(),
        zone: "Europe/Berlin".to_owned(),
        window: Seconds(3600),
    };
    open_at(Some(&schedule), freezes, day.parse().unwrap())
}

#[test]
fn a_freeze_beats_a_window_and_is_named() {
    let freeze = Freeze {
        name: "year-end".to_owned(),
        from: "2026-12-15".parse().unwrap(),
        to: "2027-01-05".parse().unwrap(),
        zone: "Europe/Berlin".to_owned(),
    };
    let in_window = "2026-12-20T01:45:00Z";
    assert!(matches!(berlin(in_window, &[]), WindowState::Open { .. }));
    let mut world = World::running(vec![facts(50)]);
    world.waves[0].window = berlin(in_window, &[freeze]);
    let now = 1_797_731_100;
    assert_eq!(at(now), in_window.parse::<Timestamp>().unwrap());
    let step = world.pass(now);
    assert_eq!(codes(&step), Vec::<String>::new());
    let line = step.report.lines[0].to_string();
    assert!(line.contains("year-end"), "{line}");
    assert_eq!(step.wake_at, Some("2027-01-06T01:30:00Z".parse().unwrap()));
}

#[test]
fn a_schedule_that_never_opens_again_says_so_and_sleeps() {
    let mut world = World::running(vec![facts(50)]);
    world.waves[0].window = WindowState::Closed {
        next: None,
        because: "`0 0 0 30 2 *` in UTC never opens again".to_owned(),
    };
    let step = world.pass(10);
    assert_eq!((why(&step), step.wake_at), ("window_never", None));
}

fn ramped(people: u64) -> World {
    let ramp = Some(Ramp {
        first: Limit::Share(Ppm::percent(1)),
        double_every: Seconds(86_400),
    });
    World::running(vec![WaveFacts {
        ramp,
        ..facts(people)
    }])
}

fn begin_at_most(world: &World) -> Option<u64> {
    world.rollout.waves[0].claims()?.begin_at_most
}

#[test]
fn a_ramp_doubles_once_its_tranche_is_decided_and_has_rested() {
    let mut world = ramped(20_000);
    world.pass(10);
    assert_eq!(begin_at_most(&world), Some(200));
    world.waves[0].tally = people(&[(SlotState::Done, 200), (SlotState::Queued, 19_800)]);
    let step = world.pass(20);
    assert_eq!(
        (why(&step), step.wake_at),
        ("tranche_rests", Some(at(10 + DAY)))
    );
    let step = world.pass(10 + DAY);
    assert_eq!(codes(&step), ["wave.tranche_grown 1"]);
    assert_eq!(effects(&step), ["open_claims"]);
    assert_eq!(begin_at_most(&world), Some(400));
}

#[test]
fn a_tranche_that_is_not_begun_or_not_decided_earns_nothing() {
    for (begun, undecided) in [(150, SlotState::Queued), (200, SlotState::Retry)] {
        let mut world = ramped(20_000);
        world.pass(10);
        world.waves[0].tally = people(&[
            (SlotState::Done, begun - 1),
            (undecided, 1),
            (SlotState::Queued, 20_000 - begun),
        ]);
        assert_eq!(codes(&world.pass(100 * DAY)), Vec::<String>::new());
        assert_eq!(begin_at_most(&world), Some(200));
    }
}

#[test]
fn a_year_of_halt_buys_one_doubling() {
    let mut world = ramped(20_000);
    world.pass(10);
    world.waves[0].tally = people(&[(SlotState::Done, 200), (SlotState::Queued, 19_800)]);
    assert_eq!(codes(&world.pass(366 * DAY)), ["wave.tranche_grown 1"]);
    assert_eq!(codes(&world.pass(366 * DAY + 1)), Vec::<String>::new());
    assert_eq!(begin_at_most(&world), Some(400));
}

#[test]
fn the_silent_of_a_tranche_stall_it_only_as_long_as_the_gate_says() {
    let mut world = ramped(20_000);
    world.waves[0].gate.unknown_at_most = Limit::Count(5);
    world.pass(10);
    let silent = |count| {
        people(&[
            (SlotState::Done, 200 - count),
            (SlotState::Unknown, count),
            (SlotState::Queued, 19_800),
        ])
    };
    world.waves[0].tally = silent(6);
    assert_eq!(why(&world.pass(2 * DAY)), "tranche_undecided");
    world.waves[0].tally = silent(5);
    assert_eq!(codes(&world.pass(2 * DAY)), ["wave.tranche_grown 1"]);
}

#[test]
fn a_moving_wave_is_watched_every_second_and_a_waiting_one_is_left_alone() {
    let mut world = World::standing(vec![(WaveStatus::Open {}, facts(50))]);
    world.waves[0].tally = people(&[(SlotState::InFlight, 10), (SlotState::Queued, 40)]);
    assert_eq!(world.look(10).wake_at, Some(at(10) + TimeDelta::seconds(1)));
    world.waves[0].tally = people(&[(SlotState::Retry, 50)]);
    world.waves[0].ready_at = Some(at(900));
    let step = world.look(10);
    assert_eq!((why(&step), step.wake_at), ("put_off", Some(at(900))));
}
