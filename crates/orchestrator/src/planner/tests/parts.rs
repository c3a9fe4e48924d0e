//! Claims about holds on some people of a wave: those who are kept back are waited for, and let nobody else in.

use super::*;
use crate::wave::ramp::Reentry;

/// A pause that keeps some people of wave 1 back.
fn keeps_some() -> InForce {
    hold(6, HoldKind::Pause, Scope::Part(rollout_id(), WaveNumber(1)))
}

fn kept(done: u64, queued: u64, parked: u64) -> Tally {
    people(&[
        (SlotState::Done, done),
        (SlotState::Queued, queued),
        (SlotState::Parked, parked),
    ])
}

#[test]
fn a_wave_goes_on_without_those_who_are_kept_back_and_does_not_end_without_them() {
    let mut world = World::running(vec![facts(50), facts(100)]);
    world.pass(10);
    world.holds.add(keeps_some());
    world.waves[0].tally = kept(20, 20, 10);
    assert_eq!(why(&world.pass(15)), "moves");
    world.waves[0].tally = kept(40, 0, 10);
    let step = world.pass(20);
    assert_eq!((why(&step), world.status(1)), ("parked", "open"));
    let said = step.report.why_not_now().unwrap().to_string();
    assert!(said.contains("keeps 10 people of wave 1 back"), "{said}");
    assert_eq!(world.run(25, DAY), [""; 0], "the next wave waits for them");
    world.holds.remove(keeps_some().id);
    world.waves[0].tally = kept(50, 0, 0);
    assert_eq!(codes(&world.pass(DAY))[0], "wave.drained 1");
}

#[test]
fn whoever_is_kept_back_is_put_down_to_the_holds_that_keep_them() {
    let mut world = World::running(vec![facts(50), facts(100)]);
    world.pass(10);
    let halts_nobody = InForce {
        id: HoldId::new(Uuid::from_u128(7)),
        kind: HoldKind::Halt,
        reason: "a misspelt country".to_owned(),
        keeps: Some(0),
        ..keeps_some()
    };
    let pause = InForce {
        keeps: Some(10),
        reason: "the works council asks".to_owned(),
        ..keeps_some()
    };
    world.holds.add(halts_nobody.clone());
    world.holds.add(pause.clone());
    world.waves[0].tally = kept(40, 0, 10);
    let said = |world: &mut World| {
        let step = world.pass(20);
        step.report.why_not_now().unwrap().to_string()
    };
    let one = said(&mut world);
    assert!(
        one.starts_with("a pause keeps 10 people of wave 1 back") && one.ends_with("council asks"),
        "{one}"
    );
    world.holds.add(InForce {
        keeps: Some(4),
        ..halts_nobody
    });
    let two = said(&mut world);
    assert!(
        two.starts_with("2 holds keep 10 people of wave 1 back"),
        "{two}"
    );
    assert!(
        two.contains("a halt 4 (") && two.contains("; a pause 10 ("),
        "{two}"
    );
}

#[test]
fn people_in_doubt_who_are_kept_back_open_no_wave_anew_that_was_through() {
    let mut world = World::standing(vec![(WaveStatus::Passed {}, facts(50))]);
    world.holds.add(keeps_some());
    world.waves[0].tally = kept(48, 0, 2);
    let step = world.pass(10);
    assert_eq!((codes(&step), world.status(1)), (vec![], "passed"));
    assert_eq!(
        why(&step),
        "parked",
        "and nothing is completed without them"
    );
    world.holds.remove(keeps_some().id);
    world.waves[0].tally = people(&[(SlotState::Done, 48), (SlotState::Unknown, 2)]);
    assert_eq!(codes(&world.pass(20)), ["rollout.completed"]);
}

#[test]
fn whoever_is_kept_back_keeps_their_place_in_a_tranche() {
    let mut facts = facts(100);
    facts.tally = kept(0, 60, 40);
    assert_eq!((facts.begun(), facts.taken()), (0, 40));
    facts.tally = kept(30, 30, 40);
    assert_eq!((facts.begun(), facts.taken()), (30, 70));
}

#[test]
fn a_wave_that_lets_people_go_opens_when_it_knows_how_many_and_small() {
    let mut world = World::running(vec![facts(40_000)]);
    world.pass(10);
    world.waves[0].tally = kept(30_000, 0, 10_000);
    let (reentry, wave) = (Reentry::default(), Some(WaveNumber(1)));
    world.rollout = world.rollout.clone().apply(&Event {
        at: at(20),
        change: Change::WentOn { reentry, wave },
    });
    // The hold has ended, and they are not in the queue yet: neither is anybody let in, nor a rest begun.
    assert_eq!(codes(&world.pass(25)), [""; 0]);
    world.waves[0].tally = kept(30_000, 10_000, 0);
    assert_eq!(codes(&world.pass(30)), ["wave.opened 1"]);
    let tranche = world.rollout.waves[0].tranche.unwrap();
    assert_eq!(
        (tranche.people, tranche.reentry_from),
        (30_100, Some(30_000))
    );
}

#[test]
fn the_release_of_one_wave_lets_that_wave_begin_small_and_no_other() {
    let mut world = World::running(vec![facts(2000), facts(3000)]);
    let (reentry, wave) = (Reentry::default(), Some(WaveNumber(2)));
    world.rollout = world.rollout.clone().apply(&Event {
        at: at(5),
        change: Change::WentOn { reentry, wave },
    });
    assert_eq!(codes(&world.pass(10)), ["wave.opened 1"]);
    assert_eq!(world.rollout.waves[0].tranche, None, "it was never stopped");
    world.waves[0].tally = done(2000);
    world.run(20, 2 * DAY);
    assert_eq!(world.status(2), "open");
    assert_eq!(world.rollout.waves[1].tranche.unwrap().people, 50);
}
