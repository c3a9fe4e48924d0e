//! Claims about holds: nothing ticks under one, and nothing leaks through.

use super::*;
use crate::hold::Exemption;
use crate::ids::ExemptionId;

fn halt() -> InForce {
    hold(5, HoldKind::Halt, Scope::Everything)
}

fn mid_wave() -> World {
    let mut world = World::running(vec![facts(50), facts(100)]);
    world.pass(10);
    world.waves[0].tally = people(&[(SlotState::Done, 20), (SlotState::Queued, 30)]);
    world
}

#[test]
fn a_halt_of_400_days_is_looked_at_never_and_changes_nothing() {
    let mut world = mid_wave();
    world.holds.add(halt());
    let before = world.rollout.clone();
    // The first look under it closes what was open, so that no sender looks for work that is held.
    let first = world.pass(15);
    assert_eq!(
        first.effects,
        [Effect::CloseClaims {
            wave: WaveNumber(1)
        }]
    );
    assert_eq!((first.events.len(), first.wake_at), (0, None));
    for now in [20, DAY, 400 * DAY] {
        let step = world.pass(now);
        assert!(step.events.is_empty() && step.effects.is_empty());
        assert_eq!((why(&step), step.wake_at), ("halted", None));
    }
    assert_eq!(world.rollout, before);
    world.holds.remove(halt().id);
    let after = world.pass(401 * DAY);
    assert!(matches!(
        after.effects.as_slice(),
        [Effect::OpenClaims { .. }]
    ));
}

#[test]
fn under_a_halt_nobody_is_said_to_be_waited_for_when_all_have_answered() {
    let mut world = mid_wave();
    world.waves[0].tally = people(&[(SlotState::Done, 49), (SlotState::Unknown, 1)]);
    world.pass(20);
    assert_eq!(world.status(1), "draining");
    world.holds.add(halt());
    let lines = |step: &Step| -> Vec<&'static str> {
        step.report.lines.iter().map(ReportLine::code).collect()
    };
    assert_eq!(lines(&world.pass(21)), ["halted", "silent"]);
    world.waves[0].tally = done(50);
    let step = world.pass(22);
    assert!(!lines(&step).contains(&"silent"), "{:?}", step.report);
}

#[test]
fn after_a_halt_the_gates_are_measured_afresh_before_anything_opens() {
    let mut world = mid_wave();
    world.waves[0].tally = done(50);
    world.pass(20);
    world.holds.add(halt());
    // During the halt it comes out that the successes were none.
    world.waves[0].tally = people(&[(SlotState::Done, 40), (SlotState::Review, 10)]);
    assert_eq!(codes(&world.pass(400 * DAY)), ["wave.gate_failed 1"]);
    world.holds.remove(halt().id);
    assert_eq!(world.run(401 * DAY, 500 * DAY), Vec::<String>::new());
    assert_eq!(world.status(2), "pending");
}

#[test]
fn what_comes_back_under_a_halt_may_still_fail_the_gate() {
    let mut world = mid_wave();
    world.holds.add(halt());
    world.waves[0].tally = people(&[(SlotState::InFlight, 20), (SlotState::Queued, 30)]);
    assert_eq!(
        world.pass(20).wake_at,
        Some(at(21)),
        "until it has come back"
    );
    world.waves[0].tally = people(&[(SlotState::Failed, 20), (SlotState::Queued, 30)]);
    let step = world.pass(21);
    assert_eq!(codes(&step), ["wave.gate_failed 1"]);
    assert_eq!(step.wake_at, None);
}

#[test]
fn finish_now_and_halt_in_either_order_both_end_halted() {
    let ready = || {
        let mut world = World::standing(vec![
            (WaveStatus::Gated {}, facts(50)),
            (WaveStatus::Pending {}, facts(100)),
        ]);
        world.waves[0].tally = done(50);
        world
    };
    let mut halted_first = ready();
    halted_first.holds.add(halt());
    assert_eq!(codes(&halted_first.pass(10)).len(), 0);
    let mut advanced_first = ready();
    advanced_first.pass(10);
    advanced_first.holds.add(halt());
    assert_eq!(codes(&advanced_first.pass(11)).len(), 0);
    for world in [halted_first, advanced_first] {
        let everywhere = Place::wave(place().target, place().rollout, WaveNumber(2));
        assert!(world.holds.worst(&everywhere).is_some());
        assert_eq!(why(&world.look(12)), "halted");
    }
}

#[test]
fn lifting_one_of_two_holds_leaves_the_other() {
    let mut world = mid_wave();
    let pause = hold(6, HoldKind::Pause, Scope::Rollout(rollout_id()));
    world.holds.add(halt());
    world.holds.add(pause.clone());
    assert_eq!(world.look(20).report.lines.len(), 2, "both are told");
    world.holds.remove(pause.id);
    assert_eq!(why(&world.look(30)), "halted");
}

#[test]
fn a_halt_during_a_retry_stops_the_queueing() {
    let mut world = mid_wave();
    world.waves[0].tally = people(&[(SlotState::Failed, 50)]);
    world.pass(20);
    world.retry(1, 30);
    world.holds.add(halt());
    let step = world.pass(30);
    assert!(
        step.events.is_empty() && step.effects.is_empty(),
        "{:?}",
        step.effects
    );
    world.holds.remove(halt().id);
    assert_eq!(effects(&world.pass(40)), ["requeue_failed"]);
}

#[test]
fn a_hold_on_one_wave_stops_that_wave_and_whatever_comes_after_it() {
    let mut world = World::standing(vec![
        (WaveStatus::Gated {}, facts(50)),
        (WaveStatus::Pending {}, facts(100)),
    ]);
    world.waves[0].tally = done(50);
    let scope = Scope::Wave(rollout_id(), WaveNumber(1));
    world.holds.add(hold(8, HoldKind::Pause, scope));
    let step = world.pass(10);
    assert_eq!(codes(&step), Vec::<String>::new());
    assert_eq!(step.report.lines[0].wave(), Some(WaveNumber(1)));
    assert_eq!(why(&step), "paused");
}

#[test]
fn a_hold_on_the_next_wave_lets_this_one_pass_and_stops_there() {
    let mut world = World::standing(vec![
        (WaveStatus::Gated {}, facts(50)),
        (WaveStatus::Pending {}, facts(100)),
    ]);
    world.waves[0].tally = done(50);
    let scope = Scope::Wave(rollout_id(), WaveNumber(2));
    world.holds.add(hold(8, HoldKind::Pause, scope));
    let step = world.pass(10);
    assert_eq!(codes(&step), ["wave.passed 1"]);
    assert_eq!((why(&step), step.wake_at), ("paused", None));
}

#[test]
fn a_hold_on_another_rollout_stops_nothing_here() {
    let mut world = mid_wave();
    let other = RolloutId::new(Uuid::from_u128(99));
    world
        .holds
        .add(hold(8, HoldKind::Halt, Scope::Rollout(other)));
    assert_eq!(why(&world.look(20)), "moves");
}

/// Wave 1 has passed, wave 2 is on its way, everything is halted, and one of them may go on until `until`.
fn exempted(wave: u32, until: i64) -> World {
    let mut world = World::running(vec![facts(50), facts(100), facts(100)]);
    world.pass(10);
    world.waves[0].tally = done(50);
    world.run(11, DAY);
    assert_eq!(world.status(2), "open");
    world.waves[1].tally = people(&[(SlotState::Done, 20), (SlotState::Queued, 80)]);
    world.holds.add(halt());
    world.pass(DAY);
    world.holds.exempt(Exemption {
        id: ExemptionId::new(Uuid::from_u128(7)),
        holds: [halt().id].into(),
        rollout: rollout_id(),
        waves: [WaveNumber(wave)].into(),
        until: at(until),
    });
    world
}

#[test]
fn an_exempt_wave_goes_on_under_a_halt_and_is_closed_at_its_end() {
    let mut world = exempted(2, DAY + 60);
    let step = world.pass(DAY + 1);
    let opened = |step: &Step| {
        let waves = step.effects.iter().filter_map(|effect| {
            let Effect::OpenClaims { wave, .. } = effect else {
                return None;
            };
            Some(wave.get())
        });
        waves.collect::<Vec<u32>>()
    };
    assert_eq!(opened(&step), [2]);
    assert!(
        step.report.why_not_now().is_none(),
        "{:?}",
        step.report.lines
    );
    let mut last = step;
    while let Some(next) = last.wake_at.filter(|next| *next <= at(DAY + 60)) {
        last = world.pass(next.timestamp());
    }
    assert_eq!(
        last.effects,
        [
            Effect::CloseClaims {
                wave: WaveNumber(2)
            },
            Effect::EndExemption {
                exemption: ExemptionId::new(Uuid::from_u128(7))
            },
        ]
    );
    assert_eq!((why(&last), last.wake_at), ("halted", None));
}

#[test]
fn an_emergency_opens_no_wave_that_it_does_not_name_and_ends_no_rollout() {
    let mut world = exempted(2, 400 * DAY);
    world.waves[1].tally = done(100);
    world.run(DAY + 1, 300 * DAY);
    assert_eq!((world.status(2), world.status(3)), ("passed", "pending"));
    let mut world = exempted(3, 400 * DAY);
    world.run(DAY + 1, 300 * DAY);
    assert_eq!((world.status(2), world.status(3)), ("open", "pending"));
    let mut world = exempted(3, 400 * DAY);
    world.rollout.waves[1].status = WaveStatus::Passed {};
    world.waves[1].tally = done(100);
    world.waves[2].tally = done(100);
    world.run(DAY + 1, 300 * DAY);
    assert_eq!(world.status(3), "passed");
    assert_eq!(
        world.rollout.lifecycle.name(),
        "running",
        "only a release ends it"
    );
}

/// One wave under a halt of everything that it is exempt from.
fn exempted_whole(takes_back: bool) -> World {
    let mut world = World::running(vec![facts(50)]);
    world.takes_back = takes_back;
    world.holds.add(halt());
    world.holds.exempt(Exemption {
        id: ExemptionId::new(Uuid::from_u128(9)),
        holds: [halt().id].into(),
        rollout: rollout_id(),
        waves: [WaveNumber(1)].into(),
        until: at(DAY),
    });
    world
}

#[test]
fn a_revert_that_goes_on_under_a_halt_ends_under_it_and_an_emergency_does_not() {
    for takes_back in [true, false] {
        let mut world = exempted_whole(takes_back);
        assert_eq!(codes(&world.pass(10)), ["wave.opened 1"]);
        world.waves[0].tally = done(50);
        world.run(20, DAY - 1);
        let is_over = world.rollout.lifecycle.is_over();
        assert_eq!(is_over, takes_back, "{:#?}", world.rollout);
        let open = world.holds.exemptions().count();
        assert_eq!(open, usize::from(!takes_back), "its exemption ends with it");
    }
}

#[test]
fn a_hold_that_is_placed_later_stops_a_revert_that_goes_on_under_a_halt() {
    let mut world = exempted_whole(true);
    world.pass(10);
    world
        .holds
        .add(hold(6, HoldKind::Pause, Scope::Rollout(rollout_id())));
    let step = world.pass(20);
    assert_eq!(effects(&step), ["close_claims"]);
    assert_eq!(why(&step), "paused");
}
