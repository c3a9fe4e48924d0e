//! Claims about commands and events; those about what is stored are in `records`.

mod records;

use std::fmt::Write as _;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::hold::{HoldKind, InForce, Scope};
use crate::ids::{HoldId, from_millis};
use crate::wave::ramp::Reentry;

fn at(seconds: i64) -> Timestamp {
    from_millis(seconds * 1000).unwrap()
}

fn who(name: &str) -> Principal {
    Principal::new(name)
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn plan(text: &str) -> PlanRef {
    PlanRef {
        id: PlanId::new(Uuid::from_u128(1)),
        digest: digest(text),
        waves: 3,
        opens_at: Some(at(1000)),
        made_by: who("meier"),
        made_at: at(0),
    }
}

fn hold(kind: HoldKind) -> InForce {
    InForce {
        by_rule: false,
        id: HoldId::new(Uuid::from_u128(9)),
        kind,
        scope: Scope::Everything,
        since: at(0),
        reason: "token theft".to_owned(),
        part: None,
        keeps: None,
    }
}

fn commands() -> Vec<Command> {
    let by = who("meier");
    let reason = "as agreed".to_owned();
    vec![
        Command::Revise { by: by.clone() },
        Command::Plan { plan: plan("one") },
        Command::Start {
            digest: digest("one"),
            by: by.clone(),
        },
        Command::Start {
            digest: digest("two"),
            by: by.clone(),
        },
        Command::Prepare {
            next: Some(Unprepared {
                wave: WaveNumber(2),
                seq: BatchSeq(5),
            }),
        },
        Command::Prepare { next: None },
        Command::Cancel {
            by: by.clone(),
            reason: reason.clone(),
        },
        Command::ApproveWave {
            wave: WaveNumber(1),
            digest: digest("one"),
            by: who("lind"),
        },
        Command::ApproveWave {
            wave: WaveNumber(1),
            digest: digest("one"),
            by: by.clone(),
        },
        Command::GoOn {
            plan: None,
            reentry: Reentry::default(),
            wave: None,
        },
        Command::RetryFailed {
            wave: None,
            by: by.clone(),
            reason: reason.clone(),
        },
        Command::RetryFailed {
            wave: Some(WaveNumber(7)),
            by,
            reason,
        },
    ]
}

fn running(first: WaveStatus) -> Rollout {
    let mut rollout = [
        Change::Planned { plan: plan("one") },
        Change::Started { by: who("meier") },
        Change::Prepared {},
    ]
    .into_iter()
    .fold(Rollout::new(), |rollout, change| {
        rollout.apply(&Event {
            at: at(900),
            change,
        })
    });
    rollout.waves[0].status = first;
    rollout
}

fn failed() -> WaveStatus {
    WaveStatus::Failed {
        condition: "failures".to_owned(),
        sentence: "6 of 50 people failed; at most 5 may (10 %)".to_owned(),
    }
}

fn statuses() -> Vec<WaveStatus> {
    vec![
        WaveStatus::Pending {},
        WaveStatus::Open {},
        WaveStatus::Waiting {},
        WaveStatus::Draining { until: at(5000) },
        WaveStatus::Soaking { until: at(6000) },
        WaveStatus::Gated {},
        WaveStatus::Passed {},
        failed(),
        WaveStatus::Retrying {},
    ]
}

fn states() -> Vec<(String, Rollout)> {
    let apply = |rollout: Rollout, change| {
        rollout.apply(&Event {
            at: at(900),
            change,
        })
    };
    let draft = Rollout::new();
    let planned = apply(draft.clone(), Change::Planned { plan: plan("one") });
    let preparing = apply(planned.clone(), Change::Started { by: who("meier") });
    let completed = apply(running(WaveStatus::Passed {}), Change::Completed {});
    let reason = "another way".to_owned();
    let by = who("meier");
    let cancelled = apply(planned.clone(), Change::Cancelled { by, reason });
    let mut states: Vec<_> = [draft, planned, preparing, completed, cancelled]
        .into_iter()
        .map(|rollout| (rollout.lifecycle.name().to_owned(), rollout))
        .collect();
    for status in statuses() {
        let name = format!("running, wave 1 {}", status.name());
        states.push((name, running(status)));
    }
    states
}

fn outcome(rollout: &Rollout, command: &Command, held: Option<&InForce>) -> String {
    match rollout.decide(command, held, at(1000)) {
        Ok(events) if events.is_empty() => "done before".to_owned(),
        Ok(events) => {
            let codes: Vec<_> = events.iter().map(|event| event.change.code()).collect();
            codes.join(" ")
        }
        Err(refusal) => format!("refused {}", refusal.code()),
    }
}

#[test]
fn every_command_in_every_state_has_a_known_answer() {
    let halt = hold(HoldKind::Halt);
    let mut text = String::new();
    for (name, rollout) in states() {
        let _ = writeln!(text, "{name}");
        for command in commands() {
            let free = outcome(&rollout, &command, None);
            let halted = outcome(&rollout, &command, Some(&halt));
            let halted = if halted == free {
                String::new()
            } else {
                format!("   halted: {halted}")
            };
            let _ = writeln!(text, "  {:<13} {free}{halted}", command.name());
        }
    }
    insta::assert_snapshot!("status_command_matrix", text);
}

#[track_caller]
fn check_refused(rollout: &Rollout, command: &Command, held: Option<&InForce>, code: &str) {
    let refusal = rollout.decide(command, held, at(1000)).unwrap_err();
    assert_eq!(refusal.code(), code, "{refusal}");
}

fn retry(wave: u32) -> Command {
    Command::RetryFailed {
        wave: Some(WaveNumber(wave)),
        by: who("meier"),
        reason: "the licences are there now".to_owned(),
    }
}

fn start(text: &str) -> Command {
    Command::Start {
        digest: digest(text),
        by: who("meier"),
    }
}

#[test]
fn advance_while_halted_is_refused_and_the_refusal_names_the_halt() {
    let halt = hold(HoldKind::Halt);
    let rollout = running(failed());
    let refusal = rollout
        .decide(&retry(1), Some(&halt), at(1000))
        .unwrap_err();
    assert_eq!(refusal.code(), "rollout_halted");
    assert_eq!(
        refusal.to_string(),
        "halt `00000000-0000-0000-0000-000000000009` has been in force since 1970-01-01 00:00Z: \
         token theft"
    );
    check_refused(
        &rollout,
        &retry(1),
        Some(&hold(HoldKind::Pause)),
        "rollout_paused",
    );
}

#[test]
fn a_gate_hold_does_not_refuse_the_retry_that_leads_out_of_it() {
    let gate = hold(HoldKind::Gate);
    let events = running(failed()).decide(&retry(1), Some(&gate), at(1000));
    assert_eq!(events.unwrap()[0].change.code(), "wave.retry_began");
}

#[test]
fn a_new_revision_or_plan_of_a_started_rollout_is_refused_so_it_cannot_lift_a_halt() {
    let halt = hold(HoldKind::Halt);
    let rollout = running(WaveStatus::Open {});
    let revise = Command::Revise { by: who("meier") };
    check_refused(&rollout, &revise, Some(&halt), "already_started");
    let plan = Command::Plan { plan: plan("two") };
    check_refused(&rollout, &plan, Some(&halt), "already_started");
}

#[test]
fn an_overdue_start_asks_and_does_not_run() {
    let planned = states().remove(1).1;
    let eleven_months = at(1000 + 334 * 86_400);
    let refusal = planned
        .decide(&start("one"), None, eleven_months)
        .unwrap_err();
    assert_eq!(refusal.code(), "plan_overdue");
    let in_time = planned.decide(&start("one"), None, at(1000 + 7 * 86_400 - 1));
    assert_eq!(in_time.unwrap().len(), 1);
    let late = planned.decide(&start("one"), None, at(1000 + 7 * 86_400));
    assert_eq!(late.unwrap_err().code(), "plan_overdue");
}

#[test]
fn a_plan_whose_first_wave_opens_at_any_time_is_never_overdue() {
    let golden = include_str!("../../../../tests/fixtures/records/v1/plan.json");
    let mut plan: Plan = serde_json::from_str(golden).unwrap();
    let bound =
        |plan: &Plan| PlanRef::of(PlanId::new(Uuid::from_u128(1)), plan, who("meier"), at(0));
    let scheduled = plan.waves.iter().find_map(|wave| wave.schedule.clone());
    plan.waves[0].schedule = None;
    assert_eq!(bound(&plan).opens_at, None);
    assert_eq!(bound(&plan).digest, plan.digest);
    assert_eq!(
        usize::try_from(bound(&plan).waves).unwrap(),
        plan.waves.len()
    );
    plan.waves[0].schedule = scheduled;
    plan.timeline[0].opens_at = Some(at(77));
    let expected = plan.waves[0].schedule.as_ref().map(|_| at(77));
    assert_eq!(bound(&plan).opens_at, expected);
}

#[test]
fn a_stale_plan_is_refused_with_both_digests() {
    let planned = states().remove(1).1;
    let refusal = planned.decide(&start("two"), None, at(1000)).unwrap_err();
    assert_eq!(refusal.code(), "plan_stale");
    let sentence = refusal.to_string();
    assert!(sentence.contains(&digest("one").to_string()), "{sentence}");
    assert!(sentence.contains(&digest("two").to_string()), "{sentence}");
}

#[test]
fn a_double_click_starts_once() {
    let planned = states().remove(1).1;
    let events = planned.decide(&start("one"), None, at(1000)).unwrap();
    let started = events.iter().fold(planned, Rollout::apply);
    assert_eq!(
        started.decide(&start("one"), None, at(1001)),
        Ok(Vec::new())
    );
    check_refused(&started, &start("two"), None, "already_started");
}

#[test]
fn nobody_approves_a_plan_they_made_or_started() {
    let mut rollout = running(WaveStatus::Gated {});
    let approve = |by: &str| Command::ApproveWave {
        wave: WaveNumber(1),
        digest: digest("one"),
        by: who(by),
    };
    check_refused(&rollout, &approve("meier"), None, "self_approval");
    if let Lifecycle::Running { started, .. } = &mut rollout.lifecycle {
        started.by = who("okafor");
    }
    check_refused(&rollout, &approve("okafor"), None, "self_approval");
    check_refused(&rollout, &approve("meier"), None, "self_approval");
    assert_eq!(
        rollout
            .decide(&approve("lind"), None, at(1000))
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn an_approval_of_another_plan_or_too_early_is_refused() {
    let approve = |text: &str| Command::ApproveWave {
        wave: WaveNumber(1),
        digest: digest(text),
        by: who("lind"),
    };
    let gated = running(WaveStatus::Gated {});
    check_refused(&gated, &approve("two"), None, "plan_stale");
    let soaking = running(WaveStatus::Soaking { until: at(5000) });
    check_refused(&soaking, &approve("one"), None, "approval_too_early");
    let passed = running(WaveStatus::Passed {});
    check_refused(&passed, &approve("one"), None, "approval_useless");
}

#[test]
fn retrying_everything_leaves_waves_that_passed_in_peace() {
    let mut rollout = running(WaveStatus::Passed {});
    rollout.waves[1].status = failed();
    let all = Command::RetryFailed {
        wave: None,
        by: who("meier"),
        reason: "again".to_owned(),
    };
    let events = rollout.decide(&all, None, at(1000)).unwrap();
    let waves: Vec<_> = events.iter().map(|event| event.change.wave()).collect();
    assert_eq!(waves, [Some(WaveNumber(2))]);
    assert_eq!(rollout.decide(&retry(1), None, at(1000)).unwrap().len(), 1);
}

#[test]
fn a_halt_while_the_ledger_is_laid_out_stops_the_laying_out() {
    let preparing = states().remove(2).1;
    let halt = hold(HoldKind::Halt);
    for next in [None, Some(Unprepared::FIRST)] {
        let command = Command::Prepare { next };
        check_refused(&preparing, &command, Some(&halt), "rollout_halted");
    }
}

#[test]
fn what_is_laid_out_anew_for_other_people_comes_to_an_end_under_a_halt() {
    let mut running = running(WaveStatus::Passed {});
    running.waves[0].opened_at = Some(at(900));
    let go_on = Command::GoOn {
        plan: Some(plan("two")),
        reentry: Reentry::default(),
        wave: None,
    };
    let events = running.decide(&go_on, None, at(1000)).unwrap();
    let anew = events.iter().fold(running, Rollout::apply);
    let halt = hold(HoldKind::Halt);
    let prepare = Command::Prepare { next: None };
    let events = anew.decide(&prepare, Some(&halt), at(1001)).unwrap();
    assert_eq!(events[0].change.code(), "rollout.prepared");
}

#[test]
fn a_wave_that_alone_was_halted_goes_on_small_and_the_others_as_they_are() {
    let mut running = running(WaveStatus::Open {});
    running.waves[1].status = WaveStatus::Open {};
    let go_on = Command::GoOn {
        plan: None,
        reentry: Reentry::default(),
        wave: Some(WaveNumber(2)),
    };
    let events = running.decide(&go_on, None, at(1000)).unwrap();
    let after = events.iter().fold(running, Rollout::apply);
    let names: Vec<_> = after.waves.iter().map(|wave| wave.status.name()).collect();
    assert_eq!(names[..2], ["open", "waiting"]);
}

#[test]
fn preparation_never_goes_back() {
    let preparing = states().remove(2).1;
    let to = |wave, seq| Unprepared {
        wave: WaveNumber(wave),
        seq: BatchSeq(seq),
    };
    let rollout = [to(2, 5), to(1, 9)]
        .into_iter()
        .fold(preparing, |rollout, next| {
            let change = Change::PreparedTo { next };
            rollout.apply(&Event {
                at: at(1000),
                change,
            })
        });
    let Lifecycle::Preparing { next, .. } = rollout.lifecycle else {
        panic!("still preparing");
    };
    assert_eq!(next, to(2, 5));
}

#[test]
fn going_on_keeps_what_waves_have_come_to_and_lets_nobody_be_claimed_before_the_ledger_fits() {
    let rollout = running(WaveStatus::Open {});
    let before = rollout.waves.len();
    let mut wider = plan("two");
    wider.waves += 1;
    let go_on = Command::GoOn {
        plan: Some(wider.clone()),
        reentry: Reentry::default(),
        wave: None,
    };
    let events = rollout.decide(&go_on, None, at(1000)).unwrap();
    let after = events.iter().fold(rollout.clone(), Rollout::apply);
    assert_eq!(after.lifecycle.name(), "preparing");
    assert_eq!(after.lifecycle.plan(), Some(&wider));
    assert_eq!(after.lifecycle.started(), rollout.lifecycle.started());
    assert_eq!(after.waves.len(), before + 1);
    assert_eq!(after.waves[0].status, WaveStatus::Waiting {});
    assert_eq!(after.reentry, Some(Reentry::default()));
    // Nothing has to be laid out when the people are the same: it goes on where it was.
    let same = Command::GoOn {
        plan: None,
        reentry: Reentry::default(),
        wave: None,
    };
    let events = rollout.decide(&same, None, at(1000)).unwrap();
    let after = events.iter().fold(rollout, Rollout::apply);
    assert_eq!(after.lifecycle.name(), "running");
    assert_eq!(
        after.waves[0].claims(),
        None,
        "the wave waits to be opened again, small"
    );
    // What has not started, or is over, has nothing to go on with.
    let events = Rollout::new().decide(&same, None, at(1000));
    assert_eq!(events, Ok(Vec::new()));
}

fn any_change() -> impl Strategy<Value = Change> {
    let wave = (0_u32..5).prop_map(WaveNumber);
    (0_usize..20, wave, 0_i64..10_000).prop_map(|(kind, wave, seconds)| {
        let until = at(seconds);
        let by = who("lind");
        let reason = "why not".to_owned();
        let mut changes = vec![
            Change::Revised { by: by.clone() },
            Change::Planned { plan: plan("one") },
            Change::Started { by: by.clone() },
            Change::PreparedTo {
                next: Unprepared::FIRST,
            },
            Change::Prepared {},
            Change::Cancelled {
                by: by.clone(),
                reason: reason.clone(),
            },
            Change::WaveApproved {
                wave,
                by: by.clone(),
                digest: digest("one"),
            },
            Change::RetryBegan { wave, by, reason },
            Change::WaveReopened { wave },
            Change::WaveOpened {
                wave,
                until: Some(until),
                tranche: None,
            },
            Change::WindowClosed { wave },
            Change::WaveDrained { wave, until },
            Change::SoakBegan { wave, until },
            Change::SoakEnded { wave },
            Change::GateFailed {
                wave,
                condition: "failures".to_owned(),
                sentence: "too many".to_owned(),
            },
            Change::WavePassed { wave },
            Change::Completed {},
            Change::WentOn {
                reentry: Reentry::default(),
                wave: None,
            },
            Change::Rebased { plan: plan("two") },
            Change::TrancheGrown {
                wave,
                tranche: crate::wave::ramp::Tranche {
                    people: 1,
                    since: until,
                    reentry_from: None,
                },
            },
        ];
        changes.swap_remove(kind)
    })
}

proptest! {
    #[test]
    fn no_history_makes_a_command_or_an_event_panic_and_every_record_reads_back(
        changes in proptest::collection::vec(any_change(), 0..40),
        now in 0_i64..100_000,
    ) {
        let rollout = changes
            .into_iter()
            .fold(Rollout::new(), |rollout, change| rollout.apply(&Event { at: at(now), change }));
        let halt = hold(HoldKind::Halt);
        for command in commands() {
            for held in [None, Some(&halt)] {
                match rollout.decide(&command, held, at(now)) {
                    Ok(events) => {
                        let _ = events.iter().fold(rollout.clone(), Rollout::apply);
                    }
                    Err(refusal) => prop_assert!(!refusal.to_string().is_empty()),
                }
            }
        }
        let text = record::encode(&rollout).unwrap();
        prop_assert_eq!(record::decode(&text).unwrap(), rollout);
    }
}
