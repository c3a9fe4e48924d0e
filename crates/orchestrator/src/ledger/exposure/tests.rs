//! The replay against a naive one that keeps every state of every person.

use proptest::prelude::*;

use super::*;
use crate::ids::Fence;
use crate::ledger::history;
use crate::ledger::{Outcome, SlotCommand, SlotIndex};

fn at(millis: i64) -> Timestamp {
    from_millis(millis).unwrap()
}

fn interval(from: i64, to: i64) -> Interval {
    Interval::new(at(from), at(to)).unwrap()
}

const WAVE: WaveNumber = WaveNumber(1);
const SEQ: BatchSeq = BatchSeq(0);

/// A batch, what the trail heard of it, and every state of every person with the instant it began.
struct World {
    slots: Slots,
    trail: Vec<(i64, Vec<u8>)>,
    lives: Vec<Vec<(i64, SlotState)>>,
    latest: i64,
}

impl World {
    fn new(size: u16) -> Self {
        Self {
            slots: Slots::new(size),
            trail: Vec::new(),
            lives: vec![vec![(i64::MIN, SlotState::Queued)]; usize::from(size)],
            latest: i64::MIN,
        }
    }

    /// Does something to the batch, and writes down what changed.
    fn turn(&mut self, now: i64, act: impl FnOnce(&mut Slots, Timestamp) -> Vec<SlotIndex>) {
        let changed = act(&mut self.slots, at(now));
        if changed.is_empty() {
            return;
        }
        self.latest = self.latest.max(now);
        for index in &changed {
            let state = self.slots.state(*index).unwrap();
            self.lives[index.get()].push((self.latest, state));
        }
        let change = BatchChange {
            wave: WAVE,
            seq: SEQ,
            fence: Fence(1),
            runs: history::runs(&self.slots, &changed),
        };
        self.trail.push((now, history::encode(&[change])));
    }

    fn claim(&mut self, limit: u32, now: i64) {
        self.turn(now, |slots, now| {
            let claimed = slots.claim(limit, u32::MAX, now);
            claimed.iter().map(|slot| slot.index).collect()
        });
    }

    fn record(&mut self, outcomes: &[(u16, Outcome)], now: i64) {
        let outcomes: Vec<_> = outcomes
            .iter()
            .map(|(index, outcome)| (SlotIndex(*index), *outcome))
            .collect();
        self.turn(now, |slots, now| slots.record(&outcomes, now).changed);
    }

    fn apply(&mut self, index: u16, command: SlotCommand, now: i64) {
        let index = SlotIndex(index);
        self.turn(now, |slots, now| {
            let applied = slots.apply(index, command, now);
            applied.map(|_| vec![index]).unwrap_or_default()
        });
    }

    fn replayed(&self, interval: Interval) -> Vec<Standing> {
        let size = self.slots.len();
        let mut replay = Replay::new(interval, [(WAVE, SEQ, size)]);
        for (at, data) in &self.trail {
            replay.take(*at, &history::decode(data).unwrap());
        }
        let slots = Slots::decode(&self.slots.encode()).unwrap();
        replay.batch((WAVE, SEQ, size), Some(&slots))
    }

    /// The definition, word for word, over everything that ever was.
    fn naive(&self, person: usize, interval: Interval) -> (ExposureClass, SlotState) {
        let life = &self.lives[person];
        let ends = life
            .iter()
            .skip(1)
            .map(|(began, _)| *began)
            .chain([i64::MAX]);
        let during: Vec<SlotState> = life
            .iter()
            .zip(ends)
            .filter(|((began, _), end)| {
                *began <= millis(interval.to()) && *end >= millis(interval.from())
            })
            .map(|((_, state), _)| *state)
            .collect();
        let state = life
            .iter()
            .rfind(|(began, _)| *began <= millis(interval.to()))
            .unwrap()
            .1;
        let any = |wanted: &[SlotState]| during.iter().any(|state| wanted.contains(state));
        let class = if any(&[SlotState::Done, SlotState::Reverting]) {
            ExposureClass::Exposed
        } else if any(&[SlotState::InFlight, SlotState::Awaiting, SlotState::Unknown]) {
            ExposureClass::InFlight
        } else {
            ExposureClass::of(state)
        };
        (class, state)
    }
}

#[derive(Debug, Clone)]
enum Act {
    Claim(u32),
    Record(Vec<(u16, u8)>),
    Lapse,
    Apply(u16, u8),
}

const SIZE: u16 = 12;

fn acts() -> impl Strategy<Value = Vec<(i64, Act)>> {
    let act = prop_oneof![
        (1_u32..20).prop_map(Act::Claim),
        prop::collection::vec((0..SIZE, 0_u8..8), 1..30).prop_map(Act::Record),
        Just(Act::Lapse),
        (0..SIZE, 0_u8..6).prop_map(|(person, command)| Act::Apply(person, command)),
    ];
    // Two writers read the clock before they write, so that it may go back a little between entries.
    prop::collection::vec((-3_i64..12, act), 0..60)
}

fn outcome(number: u8, now: i64) -> Outcome {
    match number {
        0..=2 => Outcome::Done {
            adopted: number == 2,
        },
        3 => Outcome::Failed,
        4 => Outcome::Retry {
            not_before: at(now + 2),
        },
        5 => Outcome::Unknown {
            not_before: at(now),
        },
        6 => Outcome::Review,
        _ => Outcome::Accepted {
            confirm_by: at(now + 1),
        },
    }
}

fn lived(acts: &[(i64, Act)]) -> World {
    let mut world = World::new(SIZE);
    let mut now = 100;
    for (step, act) in acts {
        now = (now + step).max(1);
        match act {
            Act::Claim(limit) => world.claim(*limit, now),
            Act::Record(list) => {
                let outcomes: Vec<_> = list
                    .iter()
                    .map(|(index, number)| (*index, outcome(*number, now)))
                    .collect();
                world.record(&outcomes, now);
            }
            Act::Lapse => world.turn(now, Slots::lapse),
            Act::Apply(index, number) => {
                let commands = [
                    SlotCommand::Again,
                    SlotCommand::Skip,
                    SlotCommand::Depart,
                    SlotCommand::Revert,
                    SlotCommand::Disprove,
                    SlotCommand::Transfer,
                ];
                world.apply(*index, commands[usize::from(*number)], now);
            }
        }
    }
    world
}

proptest! {
    #[test]
    fn the_replay_is_exact_to_the_person(acts in acts(), from in 90_i64..400, length in 0_i64..200) {
        let world = lived(&acts);
        let interval = interval(from, from + length);
        let replayed = world.replayed(interval);
        prop_assert_eq!(replayed.len(), usize::from(SIZE));
        let mut tally = ExposureTally::default();
        for (person, standing) in replayed.iter().enumerate() {
            prop_assert!(standing.is_explained);
            prop_assert_eq!((standing.class, standing.state), world.naive(person, interval), "person {}", person);
            tally.add(standing.class, standing.state);
        }
        prop_assert_eq!(tally.classes.total(), u64::from(SIZE));
        let by_state: u64 = tally.states().map(|(_, states)| states.total()).sum();
        prop_assert_eq!(by_state, u64::from(SIZE));
    }

    #[test]
    fn what_happens_after_the_interval_changes_nothing_of_it(acts in acts(), later in acts(), from in 90_i64..200) {
        let before = lived(&acts);
        let to = before.latest.max(from);
        let all: Vec<_> = acts.iter().cloned().chain([(500, Act::Lapse)]).chain(later).collect();
        // The clock is never so far back again.
        let after = lived(&all);
        prop_assume!(after.trail.iter().skip(before.trail.len()).all(|(at, _)| *at > to));
        let seen = |world: &World| -> Vec<_> {
            let people = world.replayed(interval(from, to)).into_iter();
            people.map(|person| (person.class, person.state, person.since)).collect()
        };
        prop_assert_eq!(seen(&before), seen(&after));
    }

    #[test]
    fn a_longer_interval_exposes_everybody_a_shorter_one_does(acts in acts(), from in 90_i64..300, length in 0_i64..50, more in 0_i64..50) {
        let world = lived(&acts);
        let short = world.replayed(interval(from, from + length));
        let long = world.replayed(interval(from - more, from + length + more));
        for (short, long) in short.iter().zip(&long) {
            prop_assert!(long.class == ExposureClass::Exposed || short.class != ExposureClass::Exposed);
            let is_touched = matches!(short.class, ExposureClass::Exposed | ExposureClass::InFlight);
            prop_assert!(!is_touched || matches!(long.class, ExposureClass::Exposed | ExposureClass::InFlight));
        }
    }
}

fn class_of(world: &World, from: i64, to: i64) -> ExposureClass {
    world.replayed(interval(from, to))[0].class
}

#[test]
fn moved_and_moved_back_is_exposed_between_and_at_both_instants() {
    let mut world = World::new(1);
    world.claim(1, 10);
    world.record(&[(0, Outcome::Done { adopted: false })], 20);
    world.apply(0, SlotCommand::Disprove, 40);
    let expected = [
        ((0, 9), ExposureClass::Untouched),
        ((0, 10), ExposureClass::InFlight),
        ((11, 19), ExposureClass::InFlight),
        ((12, 20), ExposureClass::Exposed),
        ((25, 30), ExposureClass::Exposed),
        ((40, 50), ExposureClass::Exposed),
        ((41, 50), ExposureClass::Failed),
    ];
    for ((from, to), class) in expected {
        assert_eq!(class_of(&world, from, to), class, "{from} to {to}");
    }
}

#[test]
fn whoever_stands_elsewhere_than_the_trail_says_is_never_called_untouched() {
    let mut world = World::new(2);
    world.claim(2, 10);
    world.trail.clear();
    let standings = world.replayed(interval(0, 100));
    assert!(standings.iter().all(|standing| !standing.is_explained));
    assert!(
        standings
            .iter()
            .all(|standing| standing.class == ExposureClass::InFlight)
    );
}

#[test]
fn a_batch_that_came_the_same_way_is_one_value() {
    let mut replay = Replay::new(interval(0, 100), [(WAVE, SEQ, 1024)]);
    for (at, state) in [(10, SlotState::InFlight), (20, SlotState::Done)] {
        let run = Run {
            first: SlotIndex(0),
            length: 1024,
            state,
        };
        let change = BatchChange {
            wave: WAVE,
            seq: SEQ,
            fence: Fence(1),
            runs: vec![run],
        };
        replay.take(at, &[change]);
    }
    assert!(matches!(replay.tracks[&(WAVE, SEQ)].cells, Column::Same(_)));
    let people = replay.batch((WAVE, SEQ, 1024), None);
    assert_eq!(people.len(), 1024);
    assert_eq!(people[0].since, from_millis(20));
}

#[test]
fn names_read_back() {
    for class in ExposureClass::ALL {
        assert_eq!(class.name().parse(), Ok(class));
    }
    let refused = "gone".parse::<ExposureClass>().unwrap_err().to_string();
    assert!(refused.starts_with("`gone` is no class"), "{refused}");
}

#[test]
fn whoever_stands_in_another_wave_now_is_one_person_with_one_history() {
    let mut old = World::new(1);
    old.claim(1, 10);
    old.record(
        &[(
            0,
            Outcome::Retry {
                not_before: at(500),
            },
        )],
        20,
    );
    old.apply(0, SlotCommand::Transfer, 40);
    let mut new = World::new(1);
    new.claim(1, 60);
    new.record(&[(0, Outcome::Done { adopted: false })], 70);
    let joined = |from, to| {
        let here = new.replayed(interval(from, to))[0];
        let there = old.replayed(interval(from, to))[0];
        assert!(there.is_elsewhere && !here.is_elsewhere);
        let (joined, was_there) = Standing::joined(&here, &there);
        (joined.class, joined.state, was_there)
    };
    use ExposureClass as C;
    use SlotState as S;
    assert_eq!(joined(0, 5), (C::Untouched, S::Queued, true));
    assert_eq!(joined(0, 30), (C::InFlight, S::Retry, true));
    assert_eq!(joined(25, 30), (C::Retry, S::Retry, true));
    assert_eq!(joined(45, 50), (C::Untouched, S::Queued, false));
    assert_eq!(joined(15, 50), (C::InFlight, S::Queued, false));
    assert_eq!(joined(45, 70), (C::Exposed, S::Done, false));
}
