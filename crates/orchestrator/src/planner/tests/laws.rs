//! Laws that hold in every world, however it came about.

use proptest::prelude::*;

use super::*;
use crate::wave::gate::ApprovalTerms;
use crate::wave::ramp::{Ramp, Tranche};

fn any_status() -> impl Strategy<Value = WaveStatus> {
    let failed = WaveStatus::Failed {
        condition: "failures".to_owned(),
        sentence: "too many".to_owned(),
    };
    prop_oneof![
        3 => Just(WaveStatus::Pending {}),
        2 => Just(WaveStatus::Open {}),
        1 => Just(WaveStatus::Waiting {}),
        1 => (0_i64..4000).prop_map(|until| WaveStatus::Draining { until: at(until) }),
        1 => (0_i64..4000).prop_map(|until| WaveStatus::Soaking { until: at(until) }),
        2 => Just(WaveStatus::Gated {}),
        3 => Just(WaveStatus::Passed {}),
        1 => Just(failed),
        1 => Just(WaveStatus::Retrying {}),
    ]
}

fn any_gate() -> impl Strategy<Value = Gate> {
    let limit = prop_oneof![
        Just(None),
        (0_u64..20).prop_map(|count| Some(Limit::Count(count))),
        (0_u8..50).prop_map(|percent| Some(Limit::Share(Ppm::percent(percent)))),
    ];
    (limit, any::<bool>(), any::<bool>(), 0_u32..4000).prop_map(
        |(failures, goal, asks, silence)| Gate {
            failures_at_most: failures,
            success_at_least: goal.then_some(Ppm::percent(80)),
            approvals: asks.then_some(ApprovalTerms {
                count: 1,
                from: Vec::new(),
            }),
            silence: Seconds(silence),
            ..Gate::default()
        },
    )
}

fn any_window() -> impl Strategy<Value = WindowState> {
    let closed = |next: Option<i64>| WindowState::Closed {
        next: next.map(|after| at(2000 + after)),
        because: "the window is closed".to_owned(),
    };
    prop_oneof![
        3 => Just(WindowState::Open { until: None }),
        2 => (1_i64..3000).prop_map(|after| WindowState::Open { until: Some(at(2000 + after)) }),
        2 => proptest::option::of(1_i64..3000).prop_map(closed),
    ]
}

fn any_tally() -> impl Strategy<Value = Tally> {
    let counts = proptest::collection::vec(prop_oneof![2 => Just(0_u64), 1 => 0_u64..30], 12);
    counts.prop_map(|counts| SlotState::ALL.iter().copied().zip(counts).collect())
}

type AnyWave = (WaveStatus, WaveFacts, Option<u64>);

fn any_wave() -> impl Strategy<Value = AnyWave> {
    let rest = (
        0_u32..5000,
        proptest::option::of(0_u64..40),
        any::<bool>(),
        any::<bool>(),
    );
    (any_status(), any_gate(), any_window(), any_tally(), rest).prop_map(
        |(status, gate, window, tally, (soak, tranche, is_ready, is_approved))| {
            let approval = Approval {
                by: Principal::new("lind"),
                digest: plan_digest(),
                at: at(1500),
            };
            let facts = WaveFacts {
                gate,
                window,
                tally,
                soak: Seconds(soak),
                ramp: tranche.map(|people| Ramp {
                    first: Limit::Count(people),
                    double_every: Seconds(soak),
                }),
                ready_at: is_ready.then(|| at(1000)),
                approvals: if is_approved {
                    vec![approval]
                } else {
                    Vec::new()
                },
                ..facts(tally.total())
            };
            (status, facts, tranche)
        },
    )
}

fn any_world() -> impl Strategy<Value = World> {
    let gate_hold = any::<bool>();
    let opened = proptest::option::of(1999_i64..2001);
    let waves = proptest::collection::vec(any_wave(), 1..5);
    (waves, gate_hold, opened).prop_map(|(waves, has_gate_hold, opened)| {
        let tranches: Vec<_> = waves.iter().map(|wave| wave.2).collect();
        let standing = waves.into_iter().map(|(status, facts, _)| (status, facts));
        let mut world = World::standing(standing.collect());
        for (progress, tranche) in world.rollout.waves.iter_mut().zip(tranches) {
            let since = at(500);
            progress.tranche = tranche.map(|people| Tranche {
                people,
                since,
                reentry_from: None,
            });
        }
        world.store_claims();
        world.rollout.last_opened_at = opened.map(at);
        if has_gate_hold {
            let scope = Scope::Rollout(rollout_id());
            world.holds.add(hold(66, HoldKind::Gate, scope));
        }
        world
    })
}

fn any_hold() -> impl Strategy<Value = InForce> {
    let kinds = [HoldKind::Halt, HoldKind::Pause, HoldKind::Freeze];
    let scopes = [
        Scope::Everything,
        Scope::Target(place().target),
        Scope::Rollout(rollout_id()),
    ];
    (0_usize..3, 0_usize..3).prop_map(move |(kind, scope)| hold(5, kinds[kind], scopes[scope]))
}

const NOW: i64 = 2000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_second_pass_at_the_same_instant_does_nothing(mut world in any_world()) {
        let first = world.pass(NOW);
        if effects(&first).contains(&"requeue_failed") {
            // People were moved, which is news: the pass after that is the one that must be quiet.
            world.pass(NOW);
        }
        let second = world.pass(NOW);
        prop_assert_eq!(codes(&second), Vec::<String>::new());
        prop_assert_eq!(&second.effects, &[]);
        prop_assert_eq!(&second.rollout, &world.rollout);
    }

    #[test]
    fn a_held_rollout_opens_nothing_and_advances_nothing(
        mut world in any_world(),
        hold in any_hold(),
    ) {
        world.holds.add(hold);
        let step = world.look(NOW);
        for event in &step.events {
            let is_protective = matches!(event.change, Change::GateFailed { .. });
            prop_assert!(is_protective, "{:?}", event);
        }
        for effect in &step.effects {
            let leads_on = matches!(effect, Effect::OpenClaims { .. } | Effect::RequeueFailed { .. });
            prop_assert!(!leads_on, "{:?}", effect);
        }
        prop_assert!(step.report.why_not_now().is_some());
    }

    #[test]
    fn at_most_one_wave_opens_and_never_ahead_of_one_that_has_not_passed(world in any_world()) {
        let step = world.look(NOW);
        let opened: Vec<_> = step
            .events
            .iter()
            .filter(|event| matches!(event.change, Change::WaveOpened { .. }))
            .filter_map(|event| event.change.wave())
            .collect();
        prop_assert!(opened.len() <= 1, "{:?}", opened);
        for wave in opened {
            let was_pending = world.rollout.wave(wave).unwrap().status == WaveStatus::Pending {};
            let all_passed = step
                .rollout
                .numbered()
                .take_while(|(number, _)| *number < wave)
                .all(|(_, progress)| progress.status == WaveStatus::Passed {});
            prop_assert!(!was_pending || all_passed);
        }
    }

    #[test]
    fn a_failed_gate_stops_every_advance_of_that_pass(world in any_world()) {
        let step = world.look(NOW);
        let has_failed = step.rollout.waves.iter().any(|wave| wave.status.name() == "failed");
        if has_failed {
            for event in &step.events {
                let advances = matches!(
                    event.change,
                    Change::WaveOpened { .. }
                        | Change::WavePassed { .. }
                        | Change::TrancheGrown { .. }
                        | Change::Completed {}
                );
                prop_assert!(!advances, "{:?}", event);
            }
        }
    }

    #[test]
    fn the_next_look_is_always_later_and_the_report_always_says_something(world in any_world()) {
        let step = world.look(NOW);
        if let Some(wake_at) = step.wake_at {
            prop_assert!(wake_at > at(NOW), "{wake_at}");
        }
        prop_assert!(!step.report.lines.is_empty());
        for line in &step.report.lines {
            prop_assert!(!line.code().is_empty());
            prop_assert!(!line.to_string().is_empty(), "{}", line.code());
        }
    }

    #[test]
    fn a_rollout_with_something_due_never_sleeps_for_ever(mut world in any_world()) {
        let step = world.pass(NOW);
        let is_due = step.rollout.waves.iter().zip(&world.waves).any(|(progress, _)| {
            matches!(progress.status, WaveStatus::Soaking { .. } | WaveStatus::Draining { .. })
        });
        let runs = step.rollout.lifecycle.name() == "running";
        if is_due && runs {
            prop_assert!(step.wake_at.is_some());
        }
    }
}
