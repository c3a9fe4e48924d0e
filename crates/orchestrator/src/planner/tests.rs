//! Claims about the planner, on one small world: waves of people, holds, windows.

mod crowd;
mod gates;
mod holds;
mod laws;
mod parts;
mod preview;
mod windows;

use chrono::TimeDelta;
use uuid::Uuid;

use super::*;
use crate::digest::Digest;
use crate::hold::{HoldKind, HoldSet, InForce, Place, Scope};
use crate::ids::{HoldId, PlanId, Principal, RolloutId, TargetId, WaveNumber, from_millis};
use crate::ledger::{SlotState, Tally};
use crate::rollout::{Change, Event, PlanRef, WaveStatus};
use crate::wave::gate::{Gate, Limit, Ppm};
use crate::wave::soak::Seconds;
use crate::wave::window::WindowState;

const DAY: i64 = 86_400;

fn at(seconds: i64) -> Timestamp {
    from_millis(seconds * 1000).unwrap()
}

fn plan_digest() -> Digest {
    Digest::of(b"the plan")
}

fn rollout_id() -> RolloutId {
    RolloutId::new(Uuid::from_u128(2))
}

fn place() -> Place {
    Place::rollout(TargetId::new(Uuid::from_u128(1)), rollout_id())
}

fn hold(id: u128, kind: HoldKind, scope: Scope) -> InForce {
    InForce {
        by_rule: false,
        id: HoldId::new(Uuid::from_u128(id)),
        kind,
        scope,
        since: at(0),
        reason: "token theft".to_owned(),
        part: None,
        keeps: None,
    }
}

fn people(counts: &[(SlotState, u64)]) -> Tally {
    counts.iter().copied().collect()
}

fn queued(count: u64) -> Tally {
    people(&[(SlotState::Queued, count)])
}

fn done(count: u64) -> Tally {
    people(&[(SlotState::Done, count)])
}

fn gate() -> Gate {
    Gate {
        failures_at_most: Some(Limit::Share(Ppm::percent(10))),
        ..Gate::default()
    }
}

fn facts(count: u64) -> WaveFacts {
    WaveFacts {
        name: "a wave".to_owned(),
        people: count,
        gate: gate(),
        soak: Seconds(3600),
        ramp: None,
        window: WindowState::Open { until: None },
        tally: queued(count),
        claims: None,
        ready_at: None,
        approvals: Vec::new(),
        readings: std::collections::BTreeMap::new(),
        taking_back: false,
    }
}

fn closed(next: i64) -> WindowState {
    WindowState::Closed {
        next: Some(at(next)),
        because: "the window is closed".to_owned(),
    }
}

/// A rollout with everything it is judged by. Tests move its people by hand.
#[derive(Debug)]
struct World {
    rollout: Rollout,
    waves: Vec<WaveFacts>,
    holds: HoldSet,
    target_closed_until: Option<Timestamp>,
    takes_back: bool,
}

impl World {
    fn running(waves: Vec<WaveFacts>) -> Self {
        let plan = PlanRef {
            id: PlanId::new(Uuid::from_u128(3)),
            digest: plan_digest(),
            waves: u32::try_from(waves.len()).unwrap(),
            opens_at: None,
            made_by: Principal::new("meier"),
            made_at: at(0),
        };
        let by = Principal::new("meier");
        let changes = [
            Change::Planned { plan },
            Change::Started { by },
            Change::Prepared {},
        ];
        let rollout = changes.into_iter().fold(Rollout::new(), |rollout, change| {
            rollout.apply(&Event { at: at(0), change })
        });
        Self {
            rollout,
            waves,
            holds: HoldSet::default(),
            target_closed_until: None,
            takes_back: false,
        }
    }

    /// A world whose waves stand so, whatever led there.
    fn standing(waves: Vec<(WaveStatus, WaveFacts)>) -> Self {
        let (statuses, facts): (Vec<_>, Vec<_>) = waves.into_iter().unzip();
        let mut world = Self::running(facts);
        for (progress, status) in world.rollout.waves.iter_mut().zip(statuses) {
            progress.status = status;
        }
        world.store_claims();
        world
    }

    /// Stores of every wave what it stands for, as passes before this one would have.
    fn store_claims(&mut self) {
        for (progress, facts) in self.rollout.waves.iter().zip(&mut self.waves) {
            facts.claims = progress.claims();
        }
    }

    fn look(&self, now: i64) -> Step {
        let snapshot = Snapshot {
            place: place(),
            rollout: &self.rollout,
            waves: self.waves.clone(),
            holds: &self.holds,
            target_closed_until: self.target_closed_until,
            takes_back: self.takes_back,
        };
        step(&snapshot, at(now))
    }

    /// Looks, and carries everything out.
    fn pass(&mut self, now: i64) -> Step {
        let step = self.look(now);
        self.rollout = step.rollout.clone();
        for effect in &step.effects {
            match effect {
                Effect::PlaceGateHold { reason, .. } => self.holds.add(InForce {
                    by_rule: false,
                    reason: reason.clone(),
                    ..hold(77, HoldKind::Gate, Scope::Rollout(rollout_id()))
                }),
                Effect::EndGateHold { hold } => {
                    self.holds.remove(*hold);
                }
                Effect::RequeueFailed { wave } => {
                    let tally = &mut self.facts_mut(*wave).tally;
                    let failed = tally.get(SlotState::Failed);
                    let kept = tally
                        .iter()
                        .filter(|(state, _)| *state != SlotState::Failed);
                    *tally = kept.chain([(SlotState::Queued, failed)]).collect();
                }
                Effect::OpenClaims { wave, claims } => {
                    self.facts_mut(*wave).claims = Some(*claims);
                }
                Effect::CloseClaims { wave } => self.facts_mut(*wave).claims = None,
                Effect::EndExemption { exemption } => {
                    self.holds.end_exemption(*exemption);
                }
            }
        }
        step
    }

    /// Passes until the given instant, at every instant the planner asks for; returns what happened.
    fn run(&mut self, mut now: i64, until: i64) -> Vec<String> {
        let mut seen = Vec::new();
        while now <= until {
            let step = self.pass(now);
            seen.extend(codes(&step));
            let Some(wake_at) = step.wake_at else {
                break;
            };
            now = wake_at.signed_duration_since(at(0)).num_seconds();
        }
        seen
    }

    fn retry(&mut self, wave: u32, now: i64) {
        let change = Change::RetryBegan {
            wave: WaveNumber(wave),
            by: Principal::new("meier"),
            reason: "the licences are there now".to_owned(),
        };
        self.rollout = self.rollout.clone().apply(&Event {
            at: at(now),
            change,
        });
    }

    fn approve(&mut self, wave: usize, by: &str, digest: Digest, now: i64) {
        self.waves[wave - 1].approvals.push(Approval {
            by: Principal::new(by),
            digest,
            at: at(now),
        });
    }

    fn facts_mut(&mut self, wave: WaveNumber) -> &mut WaveFacts {
        &mut self.waves[usize::try_from(wave.get()).unwrap() - 1]
    }

    fn status(&self, wave: usize) -> &'static str {
        self.rollout.waves[wave - 1].status.name()
    }
}

/// What happened in a step: `wave.opened 1`.
fn codes(step: &Step) -> Vec<String> {
    let code = |event: &Event| match event.change.wave() {
        Some(wave) => format!("{} {wave}", event.change.code()),
        None => event.change.code().to_owned(),
    };
    step.events.iter().map(code).collect()
}

/// What the shell is told to do: `open_claims`.
fn effects(step: &Step) -> Vec<&'static str> {
    step.effects.iter().map(Effect::code).collect()
}

fn why(step: &Step) -> &'static str {
    step.report.why_not_now().map_or("moves", ReportLine::code)
}

#[test]
fn a_rollout_runs_from_its_first_wave_to_its_end() {
    let mut world = World::running(vec![facts(50), facts(100)]);
    assert_eq!(codes(&world.pass(10)), ["wave.opened 1"]);
    world.waves[0].tally = done(50);
    assert_eq!(
        codes(&world.pass(20)),
        ["wave.drained 1", "wave.soak_began 1"]
    );
    let soaking = world.pass(30);
    assert_eq!(
        (why(&soaking), soaking.wake_at),
        ("soaking", Some(at(3620)))
    );
    assert_eq!(
        codes(&world.pass(3620)),
        ["wave.soak_ended 1", "wave.passed 1", "wave.opened 2"]
    );
    world.waves[1].tally = done(100);
    world.pass(3630);
    let last = world.pass(7230);
    assert_eq!(
        codes(&last),
        ["wave.soak_ended 2", "wave.passed 2", "rollout.completed"]
    );
    assert_eq!(last.wake_at, None);
    assert_eq!(last.report.lines[0].code(), "completed");
}

#[test]
fn a_wave_soaks_to_its_last_second() {
    let mut world = World::standing(vec![
        (WaveStatus::Soaking { until: at(3620) }, facts(50)),
        (WaveStatus::Pending {}, facts(50)),
    ]);
    world.waves[0].tally = done(50);
    assert_eq!(codes(&world.look(3619)), Vec::<String>::new());
    assert_eq!(codes(&world.look(3620)).len(), 3);
}

#[test]
fn people_who_come_back_to_the_queue_reopen_their_wave() {
    let mut world = World::standing(vec![
        (WaveStatus::Soaking { until: at(9000) }, facts(50)),
        (WaveStatus::Pending {}, facts(50)),
    ]);
    world.waves[0].tally = people(&[(SlotState::Done, 49), (SlotState::Retry, 1)]);
    assert_eq!(codes(&world.pass(20)), ["wave.reopened 1", "wave.opened 1"]);
}

#[test]
fn a_wave_of_which_nobody_is_left_shows_nothing_and_does_not_pass() {
    let mut world = World::running(vec![facts(50), facts(50)]);
    world.waves[0].tally = people(&[(SlotState::Departed, 50)]);
    let codes = world.run(10, 10 * DAY);
    assert!(!codes.contains(&"wave.passed 1".to_owned()), "{codes:?}");
    let step = world.look(20 * DAY);
    assert_eq!(why(&step), "no_evidence");
    assert!(step.report.lines[0].to_string().contains("nobody is left"));
}

#[test]
fn a_target_that_asked_everybody_to_wait_is_named() {
    let mut world = World::standing(vec![(WaveStatus::Open {}, facts(50))]);
    world.target_closed_until = Some(at(500));
    world.waves[0].ready_at = Some(at(0));
    let step = world.look(10);
    assert_eq!(step.report.lines[0].code(), "target_closed");
    assert_eq!(step.wake_at, Some(at(500)));
}

#[test]
fn a_look_at_what_has_not_started_or_is_over_does_nothing_and_says_so() {
    let world = World {
        rollout: Rollout::new(),
        waves: Vec::new(),
        holds: HoldSet::default(),
        target_closed_until: None,
        takes_back: false,
    };
    let step = world.look(10);
    assert!(step.events.is_empty() && step.effects.is_empty());
    assert_eq!((why(&step), step.wake_at), ("draft", None));
}

#[test]
fn cancelling_closes_whatever_could_be_claimed() {
    let mut world = World::running(vec![facts(50)]);
    world.pass(10);
    let change = Change::Cancelled {
        by: Principal::new("meier"),
        reason: "another way".to_owned(),
    };
    world.rollout = world.rollout.clone().apply(&Event { at: at(20), change });
    let step = world.pass(20);
    assert_eq!(
        (codes(&step).len(), effects(&step)),
        (0, vec!["close_claims"])
    );
    assert_eq!(step.wake_at, None);
    assert!(world.pass(30).effects.is_empty());
}

#[test]
fn claims_that_a_crash_left_open_or_shut_are_put_right() {
    let mut world = World::running(vec![facts(50), facts(50)]);
    world.pass(10);
    let wanted = world.waves[0].claims.take();
    world.waves[1].claims = wanted;
    assert_eq!(effects(&world.pass(20)), ["open_claims", "close_claims"]);
    assert_eq!(
        (world.waves[0].claims, world.waves[1].claims),
        (wanted, None)
    );
}

#[test]
fn an_instant_finer_than_the_store_keeps_makes_no_second_pass_differ() {
    let mut world = World::running(vec![facts(50)]);
    world.waves[0].tally = people(&[(SlotState::Done, 40), (SlotState::Unknown, 10)]);
    let now = at(10) + TimeDelta::nanoseconds(123_456_789);
    let look = |world: &World| {
        let snapshot = Snapshot {
            place: place(),
            rollout: &world.rollout,
            waves: world.waves.clone(),
            holds: &world.holds,
            target_closed_until: None,
            takes_back: false,
        };
        step(&snapshot, now)
    };
    let first = look(&world);
    world.rollout = first.rollout.clone();
    let Effect::OpenClaims { claims, .. } = first.effects[0] else {
        panic!("the wave opens and drains");
    };
    // The ledger keeps milliseconds.
    let until = claims
        .until
        .map(|until| from_millis(crate::ids::millis(until)).unwrap());
    world.waves[0].claims = Some(crate::rollout::Claims { until, ..claims });
    let second = look(&world);
    assert!(
        second.events.is_empty() && second.effects.is_empty(),
        "{:?}",
        second.effects
    );
    assert!(second.wake_at.unwrap() > now);
}
