//! One outcome for everybody: by table, and for any company.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidegate_policy::{AttributeType, AttributeValue};
use uuid::Uuid;

use super::*;
use crate::digest::Digest;
use crate::ids::PopulationVersionId;
use crate::ledger::{SlotEvent, Tally, transition};
use crate::population::{Column, Population, TextColumn};
use crate::spec::{Spec, SpecFormat};

const PLACES: [&str; 4] = ["DE", "US", "FR", "OUT"];

fn spec(late: &str, keep: &str) -> Spec {
    let text = format!(
        "rollout: move\npopulation: staff\ntarget: box\nlate_joiners: {late}\n\
         exclude: {{attribute: place, equals: OUT}}\n{keep}waves:\n\
         \x20 - {{name: one, select: {{attribute: place, equals: DE}}, gate: {{failures_at_most: 5}}}}\n\
         \x20 - {{name: two, select: {{attribute: place, equals: US}}, gate: {{failures_at_most: 5}}}}\n\
         \x20 - {{name: three, select: {{attribute: place, equals: FR}}}}\n"
    );
    Spec::parse(&text, SpecFormat::Yaml).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn column(values: &[&str]) -> Column {
    let mut dictionary: Vec<String> = Vec::new();
    let mut code = |value: &str| {
        if value.is_empty() {
            return 0;
        }
        let place = dictionary.iter().position(|known| known == value);
        let place = place.unwrap_or_else(|| {
            dictionary.push(value.to_owned());
            dictionary.len() - 1
        });
        u32::try_from(place + 1).unwrap()
    };
    let codes = values.iter().map(|value| code(value)).collect();
    Column {
        attribute_type: AttributeType::Text,
        dictionary: dictionary.into_iter().map(AttributeValue::Text).collect(),
        codes,
    }
}

fn population(people: &[(&str, &str, &str)]) -> Population {
    let keys: TextColumn = people.iter().map(|(key, ..)| *key).collect();
    let places: Vec<&str> = people.iter().map(|(_, place, _)| *place).collect();
    let groups: Vec<&str> = people.iter().map(|(.., group)| *group).collect();
    let columns = BTreeMap::from([
        ("place".to_owned(), column(&places)),
        ("group".to_owned(), column(&groups)),
    ]);
    let version = PopulationVersionId::new(Uuid::from_u128(1));
    Population::new(version, Digest::of(b"now"), keys, columns).unwrap()
}

fn at(wave: u32, state: SlotState) -> Option<Standing> {
    let wave = WaveNumber(wave);
    Some(Standing { wave, state })
}

/// Somebody of then who is somebody now, in the order in which they are given.
fn check_one(
    standing: Option<Standing>,
    now: &[(&str, &str, &str)],
    finished: [bool; 3],
) -> Measured {
    let people = population(now);
    let here = people
        .ordinals()
        .next()
        .filter(|_| now.iter().any(|(key, ..)| *key == "e0"));
    let then = Then {
        standing: &[standing],
        now: &[here],
        names: &[],
    };
    let late = Late {
        people: &people,
        names: &[],
        finished: &finished,
        by_hand: None,
    };
    measure(&spec("matching_unfinished_wave", ""), then, late)
}

#[track_caller]
fn check_outcome(
    measured: &Measured,
    command: Option<SlotCommand>,
    class: Option<Class>,
    state: SlotState,
) {
    let commands: Vec<_> = measured
        .changes
        .iter()
        .map(|change| change.command)
        .collect();
    assert_eq!(commands, command.into_iter().collect::<Vec<_>>());
    assert_eq!(
        measured.classes.keys().next().copied(),
        class,
        "{:?}",
        measured.classes
    );
    assert_eq!(measured.outcome.get(state), 1, "{:?}", measured.outcome);
    assert_eq!(measured.outcome.total(), 1);
}

#[test]
fn leavers_are_never_touched_and_those_moved_already_are_proposed_for_removal() {
    let gone = |state| check_one(at(1, state), &[], [false; 3]);
    let left = Some(Class::Left);
    check_outcome(
        &gone(SlotState::Queued),
        Some(SlotCommand::Depart),
        left,
        SlotState::Departed,
    );
    check_outcome(
        &gone(SlotState::Retry),
        Some(SlotCommand::Depart),
        left,
        SlotState::Departed,
    );
    check_outcome(
        &gone(SlotState::Done),
        None,
        Some(Class::Deprovision),
        SlotState::Done,
    );
    let doubtful = gone(SlotState::Unknown);
    check_outcome(
        &doubtful,
        Some(SlotCommand::Doubt),
        Some(Class::Deprovision),
        SlotState::Review,
    );
}

#[test]
fn a_changed_attribute_leads_to_exactly_one_place() {
    let queued = at(1, SlotState::Queued);
    let now = |place| [("e0", place, "")];
    // A later wave.
    let moved = check_one(queued, &now("US"), [false; 3]);
    check_outcome(
        &moved,
        Some(SlotCommand::Transfer),
        Some(Class::Moved),
        SlotState::Queued,
    );
    assert_eq!(moved.new_slots[0].wave, WaveNumber(2));
    // A wave that has finished.
    let late = check_one(at(2, SlotState::Queued), &now("DE"), [true, false, false]);
    assert_eq!(late.new_slots[0].wave, WaveNumber(4), "the catch-up wave");
    assert_eq!(late.classes[&Class::CatchUp], [Ordinal(0)]);
    // None, and left out.
    let excluded = Some(Class::Excluded);
    let skip = Some(SlotCommand::Skip);
    check_outcome(
        &check_one(queued, &now("PL"), [false; 3]),
        skip,
        excluded,
        SlotState::Skipped,
    );
    check_outcome(
        &check_one(queued, &now("OUT"), [false; 3]),
        skip,
        excluded,
        SlotState::Skipped,
    );
    // Nothing has changed.
    check_outcome(
        &check_one(queued, &now("DE"), [false; 3]),
        None,
        None,
        SlotState::Queued,
    );
    // Whoever has been moved stays moved, whatever changes.
    let done = check_one(at(1, SlotState::Done), &now("US"), [true, false, false]);
    check_outcome(&done, None, None, SlotState::Done);
}

#[test]
fn a_retry_of_a_year_ago_begins_anew_and_whoever_is_back_is_queued() {
    let now = [("e0", "DE", "")];
    let retry = check_one(at(1, SlotState::Retry), &now, [false; 3]);
    check_outcome(&retry, Some(SlotCommand::Renew), None, SlotState::Queued);
    let back = check_one(at(1, SlotState::Departed), &now, [false; 3]);
    check_outcome(
        &back,
        Some(SlotCommand::Again),
        Some(Class::Returned),
        SlotState::Queued,
    );
}

#[test]
fn a_new_person_with_the_name_of_somebody_moved_needs_a_decision() {
    let people = population(&[("e1", "DE", ""), ("e2", "DE", "")]);
    let late = Late {
        people: &people,
        names: &[7, 8],
        finished: &[false; 3],
        by_hand: None,
    };
    let names = [7, 8];
    let standing = [at(1, SlotState::Done), at(1, SlotState::Queued)];
    let then = Then {
        standing: &standing,
        now: &[None, None],
        names: &names,
    };
    let measured = measure(&spec("matching_unfinished_wave", ""), then, late);
    // The account of the one who was moved is there; nobody has made one for the other.
    assert_eq!(measured.classes[&Class::Recycled], [Ordinal(2), Ordinal(3)]);
    assert_eq!(measured.classes[&Class::Review], [Ordinal(2)]);
    let review: Vec<_> = measured.new_slots.iter().map(|slot| slot.review).collect();
    assert_eq!(review, [true, false]);
}

#[test]
fn people_who_move_together_are_not_parted_by_a_change_of_one() {
    let people = population(&[("e0", "US", "g"), ("e1", "FR", "g"), ("n", "FR", "g")]);
    let now = [Some(Ordinal(0)), Some(Ordinal(1))];
    let spec = spec("matching_unfinished_wave", "keep_together: {by: [group]}\n");
    let run = |standing: &[Option<Standing>]| {
        let then = Then {
            standing,
            now: &now,
            names: &[],
        };
        let late = Late {
            people: &people,
            names: &[],
            finished: &[false; 3],
            by_hand: None,
        };
        measure(&spec, then, late)
    };
    let queued = at(3, SlotState::Queued);
    let measured = run(&[queued, queued]);
    let waves: BTreeSet<_> = measured.new_slots.iter().map(|slot| slot.wave).collect();
    assert_eq!(
        waves,
        BTreeSet::from([WaveNumber(2)]),
        "all three go with the first"
    );
    let measured = run(&[at(3, SlotState::Done), queued]);
    assert!(measured.changes.is_empty());
    assert_eq!(
        measured.new_slots[0].wave,
        WaveNumber(3),
        "the new one follows who was moved"
    );
}

fn any_standing() -> impl Strategy<Value = Option<Standing>> {
    let states: Vec<SlotState> = SlotState::ALL
        .iter()
        .copied()
        .filter(|state| *state != SlotState::Transferred)
        .collect();
    let standing = (1_u32..4, prop::sample::select(states));
    prop::option::weighted(
        0.8,
        standing.prop_map(|(wave, state)| Standing {
            wave: WaveNumber(wave),
            state,
        }),
    )
}

proptest! {
    /// Everybody ends in exactly one place, nobody who was moved is touched, and every change is one
    /// that the table of states allows.
    #[test]
    fn everybody_ends_in_exactly_one_place_and_the_totals_reconcile(
        then in prop::collection::vec((any_standing(), prop::option::weighted(0.8, 0_usize..4), 0_u64..6), 1..40),
        new in prop::collection::vec((0_usize..4, 0_u64..6), 0..10),
        finished in prop::array::uniform3(any::<bool>()),
        keep in any::<bool>(),
    ) {
        let keys: Vec<String> = (0..then.len() + new.len()).map(|n| format!("e{n}")).collect();
        let mut now: Vec<(&str, &str, &str)> = Vec::new();
        let (mut here, mut names_now) = (Vec::new(), Vec::new());
        for ((_, place, name), key) in then.iter().zip(&keys) {
            here.push(place.map(|place| {
                now.push((key, PLACES[place], if name % 3 == 0 { "g" } else { "" }));
                names_now.push(*name);
                Ordinal(u32::try_from(now.len() - 1).unwrap())
            }));
        }
        for ((place, name), key) in new.iter().zip(&keys[then.len()..]) {
            now.push((key, PLACES[*place], ""));
            names_now.push(*name);
        }
        let people = population(&now);
        let standing: Vec<_> = then.iter().map(|(standing, ..)| *standing).collect();
        let names: Vec<u64> = then.iter().map(|(.., name)| (name + 1) % 6).collect();
        let spec = spec("matching_unfinished_wave", if keep { "keep_together: {by: [group]}\n" } else { "" });
        let measured = measure(
            &spec,
            Then { standing: &standing, now: &here, names: &names },
            Late { people: &people, names: &names_now, finished: &finished, by_hand: None },
        );
        let everybody = u64::try_from(then.len() + new.len()).unwrap();
        prop_assert_eq!(measured.outcome.total(), everybody);
        prop_assert_eq!(usize::try_from(measured.joined).unwrap(), new.len());
        // Whoever is parked is let go before anything is carried out.
        let let_go = |state| if state == SlotState::Parked { SlotState::Queued } else { state };
        let mut after: Vec<Option<SlotState>> = standing.iter().map(|s| s.map(|s| let_go(s.state))).collect();
        after.resize(then.len() + new.len(), None);
        for change in &measured.changes {
            let slot = &mut after[usize::try_from(change.ordinal.get()).unwrap()];
            let event = match change.command {
                SlotCommand::Depart => SlotEvent::Depart,
                SlotCommand::Skip => SlotEvent::Skip,
                SlotCommand::Again => SlotEvent::Again,
                SlotCommand::Renew => SlotEvent::Renew,
                SlotCommand::Transfer => SlotEvent::Transfer,
                SlotCommand::Doubt => SlotEvent::Clash,
                SlotCommand::Revert
                | SlotCommand::TakeBack
                | SlotCommand::Disprove
                | SlotCommand::Park
                | SlotCommand::Unpark => panic!("nobody decides that here"),
            };
            prop_assert_ne!(*slot, Some(SlotState::Done));
            let was = standing.get(usize::try_from(change.ordinal.get()).unwrap()).copied().flatten();
            if was.is_some_and(|was| was.state == SlotState::Parked) {
                prop_assert_ne!(change.command, SlotCommand::Transfer, "a hold keeps them where they are");
            }
            *slot = Some(transition(slot.unwrap(), event).unwrap());
        }
        for slot in &measured.new_slots {
            let place = &mut after[usize::try_from(slot.ordinal.get()).unwrap()];
            prop_assert!(matches!(*place, None | Some(SlotState::Transferred)), "{slot:?}: {place:?}");
            prop_assert!(slot.wave == WaveNumber(4) || !finished[usize::try_from(slot.wave.get()).unwrap() - 1]);
            *place = Some(if slot.review { SlotState::Review } else { SlotState::Queued });
        }
        let mut outcome = Tally::ZERO;
        for (state, number) in after.iter().zip(0..) {
            let is_gone = here.get(number).is_some_and(Option::is_none);
            outcome.add(state.unwrap_or(if is_gone { SlotState::Departed } else { SlotState::Skipped }), 1);
        }
        prop_assert_eq!(outcome, measured.outcome);
    }
}
