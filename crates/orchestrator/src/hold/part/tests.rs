//! Whom a sorting parks, and how a hold on some people narrows, widens and ends.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidegate_policy::{AttributeTest, AttributeType, AttributeValue, Literal};
use uuid::Uuid;

use super::*;
use crate::digest::Digest;
use crate::hold::place::Wanted;
use crate::hold::{Cause, HoldKind, HoldSet, MovedPeople, Place, Placement, Release};
use crate::ids::{
    HoldId, PopulationVersionId, Principal, RolloutId, TargetId, WaveNumber, from_millis,
};
use crate::ledger::{Outcome, Tally};
use crate::population::{Column, TextColumn};

const ROLLOUT: RolloutId = RolloutId::new(Uuid::from_u128(8));
const WAVE: WaveNumber = WaveNumber(3);
const COUNTRIES: [&str; 3] = ["DE", "FR", "US"];

fn at(seconds: i64) -> Timestamp {
    from_millis(seconds * 1000).unwrap()
}

fn place() -> Place {
    Place::wave(TargetId::new(Uuid::from_u128(9)), ROLLOUT, WAVE)
}

fn in_country(country: &str) -> Condition {
    Condition::Attribute {
        attribute: "country".to_owned(),
        test: AttributeTest::Equals(Literal::Text(country.to_owned())),
    }
}

/// People of whom the number says which country they are in.
fn company(countries: &[usize]) -> Population {
    let keys: Vec<String> = (0..countries.len()).map(|key| format!("e{key}")).collect();
    let keys: TextColumn = keys.iter().map(String::as_str).collect();
    let values = COUNTRIES.map(|country| AttributeValue::Text(country.to_owned()));
    let column = Column {
        attribute_type: AttributeType::Text,
        dictionary: values.to_vec(),
        codes: countries
            .iter()
            .map(|country| u32::try_from(country + 1).unwrap())
            .collect(),
    };
    let columns = BTreeMap::from([("country".to_owned(), column)]);
    let version = PopulationVersionId::new(Uuid::nil());
    Population::new(version, Digest::of(b"people"), keys, columns).unwrap()
}

fn picked(country: &str, people: &Population) -> Picked {
    Picked::of(&in_country(country), people)
}

fn ordinals(count: u16) -> Vec<Ordinal> {
    (0..u32::from(count)).map(Ordinal).collect()
}

fn carry_out(slots: &mut Slots, sorted: &Sorted, now: Timestamp) {
    for (index, command) in &sorted.changes {
        slots.apply(*index, *command, now).unwrap();
    }
}

fn wanted(part: Option<Condition>) -> Wanted {
    Wanted {
        kind: HoldKind::Pause,
        scope: Scope::Wave(ROLLOUT, WAVE),
        part,
        cause: Cause::People {
            principals: vec![Principal::new("lind")],
        },
        reason: "the works council".to_owned(),
        effect: MovedPeople::Keep,
        review_at: None,
    }
}

fn hold(number: u128, part: Option<Condition>) -> Hold {
    let id = HoldId::new(Uuid::from_u128(number));
    wanted(part).into_hold(id, Principal::new("lind"), Epoch(7), at(5))
}

fn set(holds: &[&Hold]) -> HoldSet {
    holds.iter().filter_map(|hold| hold.in_force()).collect()
}

#[test]
fn it_covers_the_whole_wave_until_its_people_are_sorted_and_then_no_place() {
    let new = hold(1, Some(in_country("DE")));
    assert!(set(&[&new]).worst(&place()).is_some());
    let narrowed = new.narrowed(12);
    assert!(set(&[&narrowed]).worst(&place()).is_none());
    assert!(set(&[&narrowed]).on_part(ROLLOUT, WAVE).next().is_some());
    let part = narrowed.part.as_ref().unwrap();
    assert_eq!((part.is_sorted, part.people), (true, Some(12)));
    assert!(narrowed.generation > new.generation);
}

#[test]
fn widened_it_covers_the_whole_wave_again_as_a_later_stop() {
    let widened = hold(1, Some(in_country("DE")))
        .narrowed(12)
        .widened(Epoch(9), at(50));
    assert!(set(&[&widened]).worst(&place()).is_some());
    let part = widened.part.unwrap();
    assert!(!part.is_sorted);
    assert_eq!((part.whole_epoch, part.whole_at), (Epoch(9), at(50)));
}

#[test]
fn a_hold_that_has_ended_is_sorted_for_once_more_and_covers_nothing() {
    let release = Release {
        by: Principal::new("lind"),
        at: at(9),
        epoch: Epoch(8),
        reason: "agreed".to_owned(),
    };
    let ended = hold(1, Some(in_country("DE")))
        .narrowed(12)
        .release(release)
        .unwrap();
    assert!(!ended.part.as_ref().unwrap().is_sorted);
    let done = ended.narrowed(0);
    assert!(done.part.as_ref().unwrap().is_sorted);
    assert!(set(&[&ended, &done]).is_empty());
}

#[test]
fn only_the_same_people_of_the_same_wave_are_the_same_hold() {
    let (german, french, all) = (
        hold(1, Some(in_country("DE"))),
        hold(2, Some(in_country("FR"))).narrowed(3),
        hold(3, None),
    );
    let placed = |part, holds: &[&Hold]| wanted(part).placement(&set(holds)).unwrap();
    assert_eq!(
        placed(Some(in_country("DE")), &[&german, &french]),
        Placement::Joined(german.id)
    );
    assert_eq!(
        placed(Some(in_country("FR")), &[&german, &french]),
        Placement::Joined(french.id),
        "also once it is narrowed"
    );
    // Whoever stops the wave must not join a hold that is going to let the rest of it go on.
    assert_eq!(placed(None, &[&german, &french]), Placement::New);
    assert_eq!(placed(None, &[&german, &all]), Placement::Joined(all.id));
    assert_eq!(
        placed(Some(in_country("US")), &[&german, &all]),
        Placement::New
    );
}

#[test]
fn whoever_may_exist_at_the_target_is_looked_up_when_they_are_let_go() {
    let people = company(&[0, 0, 0, 1]);
    let mut slots = Slots::new(4);
    let claimed = slots.claim(2, 2, at(1));
    let lost = Outcome::Unknown {
        not_before: at(1000),
    };
    let later = Outcome::Retry {
        not_before: at(1000),
    };
    slots.record(
        &[(claimed[0].index, lost), (claimed[1].index, later)],
        at(2),
    );
    let sorted = sort(&slots, &ordinals(4), &[picked("DE", &people)]);
    assert_eq!((sorted.kept.as_slice(), sorted.busy), ([3].as_slice(), 0));
    carry_out(&mut slots, &sorted, at(3));
    assert_eq!(slots.tally().get(SlotState::Parked), 3);
    assert_eq!(slots.ready_at(), Some(0), "the other one goes on");
    assert!(slots.claim(4, 4, at(5000)).len() == 1);
    let sorted = sort(&slots, &ordinals(4), &[]);
    carry_out(&mut slots, &sorted, at(6000));
    assert_eq!(slots.state(SlotIndex(0)), Some(SlotState::Unknown));
    assert_eq!(slots.state(SlotIndex(1)), Some(SlotState::Queued));
    assert_eq!(slots.state(SlotIndex(2)), Some(SlotState::Queued));
    let looked_up: Vec<bool> = slots
        .claim(4, 4, at(7000))
        .iter()
        .map(|claimed| claimed.doubtful)
        .collect();
    assert_eq!(looked_up, [true, false, false]);
}

#[test]
fn somebody_in_flight_keeps_the_wave_held() {
    let people = company(&[0, 1]);
    let mut slots = Slots::new(2);
    slots.claim(2, 2, at(1));
    let sorted = sort(&slots, &ordinals(2), &[picked("DE", &people)]);
    assert_eq!((sorted.busy, sorted.changes.len()), (1, 0));
}

/// Brings people into any state that they can be in.
fn somewhere(events: &[u8], size: u16) -> Slots {
    let mut slots = Slots::new(size);
    for (index, event) in (0..size).map(SlotIndex).zip(events) {
        let outcome = match event % 8 {
            0 => continue,
            1 => Outcome::Done { adopted: false },
            2 => Outcome::Failed,
            3 => Outcome::Retry { not_before: at(9) },
            4 => Outcome::Unknown { not_before: at(9) },
            5 => Outcome::Accepted { confirm_by: at(9) },
            6 => Outcome::Review,
            _ => Outcome::Departed,
        };
        decide(&mut slots, index, outcome);
    }
    slots
}

/// Claims everybody who is queued, records the outcome of one, and gives the others back.
fn decide(slots: &mut Slots, index: SlotIndex, outcome: Outcome) {
    let claimed = slots.claim(u32::MAX, u32::MAX, at(1));
    let outcomes: Vec<_> = claimed
        .iter()
        .map(|claimed| {
            let doubtful = claimed.doubtful;
            let other = Outcome::NotSent { doubtful };
            (
                claimed.index,
                if claimed.index == index {
                    outcome
                } else {
                    other
                },
            )
        })
        .collect();
    slots.record(&outcomes, at(2));
}

proptest! {
    /// After a sorting somebody is parked exactly when nothing was decided about them and a condition picks
    /// them; doing it again changes nobody; and without conditions everybody is where they were, but for
    /// retries, which begin anew.
    #[test]
    fn sorting_parks_whom_a_condition_picks_and_letting_go_undoes_it(
        people in prop::collection::vec((0_usize..3, any::<u8>()), 1..24),
        picked in prop::collection::vec(0_usize..3, 0..3),
    ) {
        let size = u16::try_from(people.len()).unwrap();
        let countries: Vec<usize> = people.iter().map(|(country, _)| *country).collect();
        let events: Vec<u8> = people.iter().map(|(_, event)| *event).collect();
        let company = company(&countries);
        let conditions: Vec<Picked> = picked.iter().map(|country| self::picked(COUNTRIES[*country], &company)).collect();
        let before = somewhere(&events, size);
        let mut slots = before.clone();
        let sorted = sort(&slots, &ordinals(size), &conditions);
        carry_out(&mut slots, &sorted, at(20));
        for ((was, is), country) in before.states().zip(slots.states()).zip(&countries) {
            let is_meant = picked.contains(country) && was.is_claimable();
            prop_assert_eq!(is, if is_meant { SlotState::Parked } else { was });
        }
        let again = sort(&slots, &ordinals(size), &conditions);
        prop_assert!(again.changes.is_empty());
        prop_assert_eq!(&again.kept, &sorted.kept);
        let let_go = sort(&slots, &ordinals(size), &[]);
        carry_out(&mut slots, &let_go, at(30));
        let mut wanted = Tally::ZERO;
        for (was, country) in before.states().zip(&countries) {
            let is_changed = picked.contains(country);
            let becomes = if is_changed && was == SlotState::Retry {
                SlotState::Queued
            } else if is_changed && was == SlotState::Awaiting {
                SlotState::Unknown
            } else {
                was
            };
            wanted.add(becomes, 1);
        }
        prop_assert_eq!(slots.tally(), wanted);
    }
}
