//! The slots against a naive model of one record per person, and the frozen bytes.

use proptest::prelude::*;

use super::super::{FormatError, SlotEvent, transition};
use super::*;

fn at(second: i64) -> Timestamp {
    from_millis(1_700_000_000_000 + second * 1000).unwrap()
}

fn done(index: u16) -> (SlotIndex, Outcome) {
    (SlotIndex(index), Outcome::Done { adopted: false })
}

/// One record per person, nothing packed, nothing clever.
#[derive(Debug, Clone, PartialEq)]
struct Person {
    state: SlotState,
    attempts: u8,
    due: i64,
    adopted: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Claim(u32, u32),
    Record(Vec<(u16, Outcome)>),
    Lapse,
    Apply(u16, SlotCommand),
    Wait(i64),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => any::<bool>().prop_map(|adopted| Outcome::Done { adopted }),
        1 => (1i64..50).prop_map(|s| Outcome::Accepted { confirm_by: at(s) }),
        1 => Just(Outcome::Failed),
        1 => (1i64..50).prop_map(|s| Outcome::Retry { not_before: at(s) }),
        1 => (1i64..50).prop_map(|s| Outcome::Unknown { not_before: at(s) }),
        1 => Just(Outcome::Review),
        1 => any::<bool>().prop_map(|doubtful| Outcome::NotSent { doubtful }),
        1 => Just(Outcome::Departed),
    ]
}

fn step(size: u16) -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..2 * u32::from(size), prop_oneof![Just(u32::MAX), 0..2 * u32::from(size)])
            .prop_map(|(limit, fresh)| Step::Claim(limit, fresh)),
        4 => prop::collection::vec((0..size + 2, outcome()), 0..usize::from(size) + 2).prop_map(Step::Record),
        1 => Just(Step::Lapse),
        2 => (0..size + 2, prop::sample::select(vec![SlotCommand::Again, SlotCommand::Skip, SlotCommand::Depart, SlotCommand::Revert, SlotCommand::TakeBack, SlotCommand::Disprove]))
            .prop_map(|(index, command)| Step::Apply(index, command)),
        1 => (0i64..20).prop_map(Step::Wait),
    ]
}

/// Does to the model what the step says, by the table alone.
fn model_record(people: &mut [Person], index: u16, outcome: Outcome) {
    let Some(person) = people.get_mut(usize::from(index)) else {
        return;
    };
    if person.state != SlotState::InFlight {
        return;
    }
    let (event, due) = match outcome {
        Outcome::Done { adopted } => {
            person.adopted = adopted;
            (SlotEvent::Confirm, 0)
        }
        Outcome::Accepted { confirm_by } => (SlotEvent::Accept, millis(confirm_by)),
        Outcome::Failed => (SlotEvent::Fail, 0),
        Outcome::Retry { not_before } => (SlotEvent::Defer, millis(not_before)),
        Outcome::Unknown { not_before } => (SlotEvent::Lose, millis(not_before)),
        Outcome::Review => (SlotEvent::Clash, 0),
        Outcome::NotSent { doubtful } => {
            person.attempts = person.attempts.saturating_sub(1);
            (
                if doubtful {
                    SlotEvent::Lose
                } else {
                    SlotEvent::Return
                },
                0,
            )
        }
        Outcome::Departed => (SlotEvent::Depart, 0),
    };
    person.state = transition(person.state, event).unwrap();
    person.due = due;
}

fn model_claim(people: &mut [Person], (limit, fresh): (u32, u32), now: i64) -> usize {
    let (mut taken, mut begun) = (0, 0);
    for person in people {
        let is_new = person.state == SlotState::Queued;
        let has_room = taken < limit && (!is_new || begun < fresh);
        if has_room && person.state.is_claimable() && person.due <= now {
            begun += u32::from(is_new);
            person.state = SlotState::InFlight;
            person.attempts = person.attempts.saturating_add(1);
            person.due = 0;
            taken += 1;
        }
    }
    usize::try_from(taken).unwrap()
}

fn run(slots: &mut Slots, people: &mut [Person], step: &Step, now: Timestamp) {
    match step {
        Step::Claim(limit, fresh) => {
            let claimed = slots.claim(*limit, *fresh, now);
            let expected = model_claim(people, (*limit, *fresh), millis(now));
            assert_eq!(claimed.len(), expected);
        }
        Step::Record(outcomes) => {
            let outcomes: Vec<_> = outcomes
                .iter()
                .map(|(index, outcome)| (SlotIndex(*index), *outcome))
                .collect();
            let recorded = slots.record(&outcomes, now);
            assert_eq!(
                recorded.changed.len() + recorded.refused.len(),
                outcomes.len()
            );
            for (index, outcome) in outcomes {
                model_record(people, index.0, outcome);
            }
        }
        Step::Lapse => {
            slots.lapse(now);
            for person in people
                .iter_mut()
                .filter(|person| person.state == SlotState::InFlight)
            {
                person.state = SlotState::Unknown;
                person.attempts = person.attempts.saturating_sub(1);
                person.due = 0;
            }
        }
        Step::Apply(index, command) => {
            let applied = slots.apply(SlotIndex(*index), *command, now);
            if let (Ok(state), Some(person)) = (applied, people.get_mut(usize::from(*index))) {
                person.state = state;
                person.due = 0;
                if *command == SlotCommand::Disprove {
                    person.adopted = false;
                }
            }
        }
        Step::Wait(_) => {}
    }
}

proptest! {
    #[test]
    fn packed_slots_behave_as_one_record_per_person(
        (size, steps) in (1u16..40).prop_flat_map(|size| (Just(size), prop::collection::vec(step(size), 1..30)))
    ) {
        let mut slots = Slots::new(size);
        let mut people = vec![Person { state: SlotState::Queued, attempts: 0, due: 0, adopted: false }; usize::from(size)];
        let mut second = 0;
        for step in &steps {
            if let Step::Wait(seconds) = step {
                second += seconds;
            }
            run(&mut slots, &mut people, step, at(second));
            for (index, person) in people.iter().enumerate() {
                let index = SlotIndex(u16::try_from(index).unwrap());
                prop_assert_eq!(slots.state(index), Some(person.state));
                prop_assert_eq!(slots.attempts(index), Some(person.attempts));
                prop_assert_eq!(slots.due(index).map_or(0, millis), person.due);
                prop_assert_eq!(slots.is_adopted(index), person.adopted);
            }
            prop_assert_eq!(slots.tally().total(), u64::from(size));
            prop_assert_eq!(slots.adopted(), people.iter().map(|person| u64::from(person.adopted)).sum::<u64>());
            let ready = people.iter().filter(|person| person.state.is_claimable()).map(|person| person.due).min();
            prop_assert_eq!(slots.ready_at(), ready);
            prop_assert_eq!(&Slots::decode(&slots.encode()).unwrap(), &slots);
        }
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = Slots::decode(&bytes);
    }

    #[test]
    fn one_wrong_byte_never_breaks_the_reader(place in 0usize..64, byte in any::<u8>()) {
        let mut slots = Slots::new(40);
        slots.claim(7, u32::MAX, at(1));
        slots.record(&[done(3)], at(2));
        let mut bytes = slots.encode();
        let count = bytes.len();
        bytes[place % count] = byte;
        let _ = Slots::decode(&bytes);
    }
}

#[test]
fn a_thousand_people_who_agree_cost_a_few_bytes() {
    let mut slots = Slots::new(1024);
    assert_eq!(slots.encode().len(), 3 + 2 + 2 + 9 + 9 + 2);
    let claimed = slots.claim(2000, u32::MAX, at(1));
    assert_eq!(claimed.len(), 1024);
    let outcomes: Vec<_> = (0..1024).map(done).collect();
    let recorded = slots.record(&outcomes, at(2));
    assert_eq!((recorded.changed.len(), recorded.refused.len()), (1024, 0));
    assert_eq!(slots.tally().get(SlotState::Done), 1024);
    assert_eq!(slots.encode().len(), 27);
    assert_eq!(slots.ready_at(), None);
}

#[test]
fn a_lost_worker_leaves_everybody_to_be_looked_up() {
    let mut slots = Slots::new(10);
    slots.claim(4, u32::MAX, at(1));
    assert_eq!(slots.lapse(at(60)).len(), 4);
    let claimed = slots.claim(10, u32::MAX, at(61));
    let doubtful: Vec<bool> = claimed.iter().map(|slot| slot.doubtful).collect();
    assert_eq!(
        doubtful,
        [
            true, true, true, true, false, false, false, false, false, false
        ]
    );
}

#[test]
fn whoever_was_begun_is_taken_up_again_when_nobody_new_may_be() {
    let mut slots = Slots::new(4);
    slots.claim(2, u32::MAX, at(1));
    let again = Outcome::Retry { not_before: at(9) };
    slots.record(&[done(0), (SlotIndex(1), again)], at(2));
    assert!(slots.claim(10, 0, at(8)).is_empty());
    let claimed = slots.claim(10, 0, at(9));
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].index, claimed[0].attempt), (SlotIndex(1), 2));
}

#[test]
fn a_lost_worker_is_no_attempt() {
    let mut slots = Slots::new(1);
    for crash in 0..20 {
        assert_eq!(slots.claim(1, u32::MAX, at(crash))[0].attempt, 1);
        slots.lapse(at(crash));
    }
    assert_eq!(slots.attempts(SlotIndex(0)), Some(0));
}

#[test]
fn an_outcome_that_comes_twice_or_late_changes_nothing() {
    let mut slots = Slots::new(3);
    slots.claim(3, u32::MAX, at(1));
    assert_eq!(slots.record(&[done(1)], at(2)).changed, [SlotIndex(1)]);
    let again = slots.record(&[(SlotIndex(1), Outcome::Failed), done(7)], at(3));
    assert_eq!(again.changed, []);
    assert_eq!(again.refused.len(), 2);
    assert_eq!(slots.state(SlotIndex(1)), Some(SlotState::Done));
}

#[test]
fn what_was_never_sent_is_no_attempt() {
    let mut slots = Slots::new(2);
    slots.claim(2, u32::MAX, at(1));
    slots.record(
        &[(SlotIndex(0), Outcome::NotSent { doubtful: false })],
        at(2),
    );
    assert_eq!(
        (slots.state(SlotIndex(0)), slots.attempts(SlotIndex(0))),
        (Some(SlotState::Queued), Some(0))
    );
}

#[test]
fn whoever_is_in_flight_belongs_to_the_worker() {
    let mut slots = Slots::new(1);
    slots.claim(1, u32::MAX, at(1));
    assert!(
        slots
            .apply(SlotIndex(0), SlotCommand::Depart, at(2))
            .is_err()
    );
    assert_eq!(slots.state(SlotIndex(0)), Some(SlotState::InFlight));
}

/// The bytes that version 1 wrote must decode for ever: a rollout may be halted for years.
#[test]
fn bytes_of_version_1_decode_for_ever() {
    let mut slots = Slots::new(6);
    slots.claim(5, u32::MAX, at(1));
    slots.record(
        &[
            done(0),
            (SlotIndex(1), Outcome::Retry { not_before: at(40) }),
            (SlotIndex(2), Outcome::Failed),
        ],
        at(2),
    );
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/records/v1/slots.hex"
    );
    let hex: String = slots
        .encode()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let golden = std::fs::read_to_string(path).unwrap();
    assert_eq!(golden.trim(), hex);
    let bytes: Vec<u8> = golden
        .trim()
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    assert_eq!(Slots::decode(&bytes).unwrap(), slots);
}

#[test]
fn refusals_name_what_is_wrong() {
    assert_eq!(Slots::decode(&[]), Err(FormatError::Truncated));
    assert_eq!(Slots::decode(&[2]), Err(FormatError::Version(2)));
    assert_eq!(Slots::decode(&[1, 1, 4]), Err(FormatError::Size(1025)));
    let mut bytes = Slots::new(3).encode();
    bytes.push(0);
    assert_eq!(Slots::decode(&bytes), Err(FormatError::Trailing(1)));
}
