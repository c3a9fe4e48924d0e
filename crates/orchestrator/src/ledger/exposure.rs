//! Exposure: who was moved, on the way or untouched between two instants, replayed from the trail.
//!
//! The slots know where somebody stands and since when, and nothing of before: whoever was moved and
//! moved back, or disproved, or tried again, has left no trace there. The changes of every turn are in
//! the audit trail ([`history`](super::history)), so they are gone through from the first; a batch whose
//! people have all come the same way is one value, whatever its size.
//!
//! Instants are closed on both sides: at the instant of a change somebody is in both states. Of the
//! changes of one batch none takes effect before the one before it, whatever clocks said.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use super::column::Column;
use super::history::{BatchChange, Run};
use super::slots::Slots;
use super::state::SlotState;
use super::tally::Tally;
use crate::ids::{BatchSeq, Timestamp, WaveNumber, from_millis, millis};

/// From one instant to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interval {
    // Invariant: `from` is not after `to`.
    from: Timestamp,
    to: Timestamp,
}

impl Interval {
    /// Returns the interval, unless it would end before it begins.
    #[must_use]
    pub fn new(from: Timestamp, to: Timestamp) -> Option<Self> {
        (from <= to).then_some(Self { from, to })
    }

    /// Returns the first instant.
    #[must_use]
    pub const fn from(&self) -> Timestamp {
        self.from
    }

    /// Returns the last instant.
    #[must_use]
    pub const fn to(&self) -> Timestamp {
        self.to
    }
}

/// What the interval was for somebody. Each person is in exactly one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExposureClass {
    /// Moved at some instant of it.
    Exposed,
    /// Not moved, and at some instant of it claimed, or of unknown outcome.
    InFlight,
    /// Waiting, and not begun in it.
    Untouched,
    /// Told before it to come back, and not taken up in it.
    Retry,
    /// Refused by the target before it.
    Failed,
    /// Found before it to need a decision.
    Review,
    /// Left out on purpose.
    Skipped,
    /// Has left the company.
    Departed,
    /// Moved, and moved back before it.
    Reverted,
}

impl ExposureClass {
    /// Every class, the worst first.
    pub const ALL: [Self; 9] = [
        Self::Exposed,
        Self::InFlight,
        Self::Untouched,
        Self::Retry,
        Self::Failed,
        Self::Review,
        Self::Skipped,
        Self::Departed,
        Self::Reverted,
    ];

    /// Returns the stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exposed => "exposed",
            Self::InFlight => "in_flight",
            Self::Untouched => "untouched",
            Self::Retry => "retry",
            Self::Failed => "failed",
            Self::Review => "review",
            Self::Skipped => "skipped",
            Self::Departed => "departed",
            Self::Reverted => "reverted",
        }
    }

    /// Returns the class of somebody who was in one state all the time.
    const fn of(state: SlotState) -> Self {
        match state {
            SlotState::Done | SlotState::Reverting => Self::Exposed,
            SlotState::InFlight | SlotState::Awaiting | SlotState::Unknown => Self::InFlight,
            // Counted in the wave where they stand now.
            SlotState::Queued | SlotState::Transferred | SlotState::Parked => Self::Untouched,
            SlotState::Retry => Self::Retry,
            SlotState::Failed => Self::Failed,
            SlotState::Review => Self::Review,
            SlotState::Skipped => Self::Skipped,
            SlotState::Departed => Self::Departed,
            SlotState::Reverted => Self::Reverted,
        }
    }
}

impl fmt::Display for ExposureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is not the name of a class.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no class: it is one of exposed, in_flight, untouched, retry, failed, review, skipped, departed, reverted"
)]
pub struct UnknownClass(String);

impl FromStr for ExposureClass {
    type Err = UnknownClass;

    fn from_str(text: &str) -> Result<Self, UnknownClass> {
        let found = Self::ALL.into_iter().find(|class| class.name() == text);
        found.ok_or_else(|| UnknownClass(text.to_owned()))
    }
}

/// How many people are in each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassCounts([u64; ExposureClass::ALL.len()]);

impl ClassCounts {
    /// Returns how many are in a class.
    #[must_use]
    pub fn get(&self, class: ExposureClass) -> u64 {
        self.0.get(class as usize).copied().unwrap_or(0)
    }

    /// Counts people into a class.
    pub fn add(&mut self, class: ExposureClass, people: u64) {
        if let Some(count) = self.0.get_mut(class as usize) {
            *count = count.saturating_add(people);
        }
    }

    /// Returns everybody.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns every class with its count.
    pub fn iter(&self) -> impl Iterator<Item = (ExposureClass, u64)> + '_ {
        ExposureClass::ALL.into_iter().zip(self.0.iter().copied())
    }
}

impl Serialize for ClassCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(class, people)| (class.name(), people)))
    }
}

/// What the interval was for one person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The class.
    pub class: ExposureClass,
    /// Where they stood at the end of the interval.
    pub state: SlotState,
    /// Since when; `None` when nothing had ever happened to them.
    pub since: Option<Timestamp>,
    /// Whether they stand today where the trail says.
    pub is_explained: bool,
    /// Whether they stand in another wave today: what is known of them here is a part of it.
    pub is_elsewhere: bool,
}

impl Standing {
    /// Joins what is known of one person in two waves: here, where they stand today, and there, where
    /// they stood before. Says whether they still stood there at the end of the interval.
    #[must_use]
    pub fn joined(here: &Self, there: &Self) -> (Self, bool) {
        let was_there = there.state != SlotState::Transferred;
        let stood = if was_there { there } else { here };
        let touched = |class| matches!(class, ExposureClass::Exposed | ExposureClass::InFlight);
        let worst = here.class.min(there.class);
        let joined = Self {
            class: if touched(worst) { worst } else { stood.class },
            is_explained: here.is_explained && there.is_explained,
            is_elsewhere: false,
            ..*stood
        };
        (joined, was_there)
    }
}

const UNTOUCHED: Standing = Standing {
    class: ExposureClass::Untouched,
    state: SlotState::Queued,
    since: None,
    is_explained: true,
    is_elsewhere: false,
};

/// What is known of one person while the trail is gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    /// The state at the end of the interval, as far as the trail was read.
    state: SlotState,
    /// The state at the end of the trail.
    last: SlotState,
    /// The worst class of the states that were in effect at some instant of the interval.
    was_moved: bool,
    was_on_the_way: bool,
    /// Which instant they came to `state` at, from 1; 0: never changed.
    since: u32,
}

impl Cell {
    const NEW: Self = Self {
        state: SlotState::Queued,
        last: SlotState::Queued,
        was_moved: false,
        was_on_the_way: false,
        since: 0,
    };

    /// Notes that the state was in effect at some instant of the interval.
    const fn mark(mut self) -> Self {
        match ExposureClass::of(self.state) {
            ExposureClass::Exposed => self.was_moved = true,
            ExposureClass::InFlight => self.was_on_the_way = true,
            ExposureClass::Untouched
            | ExposureClass::Retry
            | ExposureClass::Failed
            | ExposureClass::Review
            | ExposureClass::Skipped
            | ExposureClass::Departed
            | ExposureClass::Reverted => {}
        }
        self
    }
}

/// A change on its way into a batch.
#[derive(Debug, Clone, Copy)]
struct Step {
    state: SlotState,
    /// Which instant it took effect at.
    at: u32,
    /// Whether that is in the interval, before it, or after it.
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    Within,
    After,
}

impl Step {
    const fn apply(self, mut cell: Cell) -> Cell {
        cell.last = self.state;
        if matches!(self.state, SlotState::Parked) {
            // Says nothing about what was begun: whoever was in doubt stays so, and is so when it ends.
            return cell;
        }
        match self.place {
            // The state at the end of the interval is known, and in effect at that instant.
            Place::After => return cell,
            Place::Within => cell = cell.mark(),
            Place::Before => {}
        }
        cell.state = self.state;
        cell.since = self.at;
        cell
    }
}

/// One batch while the trail is gone through.
#[derive(Debug, Clone)]
struct Track {
    size: u16,
    cells: Column<Cell>,
    /// The latest instant of a change of this batch.
    latest: u32,
}

impl Track {
    fn apply(&mut self, run: Run, step: Step) {
        let size = usize::from(self.size);
        if run.first.0 == 0
            && run.length >= self.size
            && let Column::Same(cell) = self.cells
        {
            self.cells = Column::Same(step.apply(cell));
            return;
        }
        let first = run.first.get();
        for index in first..first.saturating_add(usize::from(run.length)).min(size) {
            if let Some(cell) = self.cells.get(index) {
                self.cells.set(index, step.apply(cell), size);
            }
        }
    }
}

/// The trail of a rollout as it is gone through, in the order in which it was written.
#[derive(Debug, Clone)]
pub struct Replay {
    interval: Interval,
    /// When the entries were written, in milliseconds.
    instants: Vec<i64>,
    tracks: BTreeMap<(WaveNumber, BatchSeq), Track>,
}

impl Replay {
    /// Begins before the first entry, with the batches of the rollout and their sizes.
    #[must_use]
    pub fn new(
        interval: Interval,
        batches: impl IntoIterator<Item = (WaveNumber, BatchSeq, u16)>,
    ) -> Self {
        let track = |size| Track {
            size,
            cells: Column::Same(Cell::NEW),
            latest: 0,
        };
        Self {
            interval,
            instants: Vec::new(),
            tracks: batches
                .into_iter()
                .map(|(wave, seq, size)| ((wave, seq), track(size)))
                .collect(),
        }
    }

    /// Takes in the changes of the next entry, which was written at `at` (milliseconds since 1970).
    pub fn take(&mut self, at: i64, changes: &[BatchChange]) {
        self.instants.push(at);
        let this = u32::try_from(self.instants.len()).unwrap_or(u32::MAX);
        for change in changes {
            let Some(track) = self.tracks.get_mut(&(change.wave, change.seq)) else {
                continue;
            };
            if instant(&self.instants, track.latest).is_none_or(|latest| latest <= at) {
                track.latest = this;
            }
            let at = instant(&self.instants, track.latest).unwrap_or(at);
            let place = if at > millis(self.interval.to) {
                Place::After
            } else if at < millis(self.interval.from) {
                Place::Before
            } else {
                Place::Within
            };
            for run in &change.runs {
                let step = Step {
                    state: run.state,
                    at: track.latest,
                    place,
                };
                track.apply(*run, step);
            }
            let covered: usize = change.runs.iter().map(|run| usize::from(run.length)).sum();
            if covered >= usize::from(track.size) {
                track.cells.settle();
            }
        }
    }

    /// Hands out what the interval was for the people of a batch, in the order of their places. With the
    /// batch as it stands at the end of the trail, whoever stands elsewhere than the trail says counts as
    /// exposed or in flight: nobody is called untouched of whom that is not known.
    pub fn batch(
        &mut self,
        (wave, seq, size): (WaveNumber, BatchSeq, u16),
        slots: Option<&Slots>,
    ) -> Vec<Standing> {
        let Some(track) = self.tracks.remove(&(wave, seq)) else {
            let found = slots.map_or_else(Vec::new, |slots| slots.states().collect());
            let state = |place: u16| found.get(usize::from(place)).copied();
            return (0..size)
                .map(|place| held_against(UNTOUCHED, SlotState::Queued, state(place)))
                .collect();
        };
        if let Column::Same(cell) = track.cells
            && slots.is_none_or(|slots| slots.states.same() == Some(cell.last))
        {
            return vec![self.standing(cell); usize::from(size)];
        }
        (0..usize::from(size))
            .map(|place| {
                let cell = track.cells.get(place).unwrap_or(Cell::NEW);
                let found = slots.and_then(|slots| slots.states.get(place));
                held_against(self.standing(cell), cell.last, found)
            })
            .collect()
    }

    fn standing(&self, cell: Cell) -> Standing {
        // The last state lasts, so it was in effect at the end of the interval.
        let cell = cell.mark();
        let class = if cell.was_moved {
            ExposureClass::Exposed
        } else if cell.was_on_the_way {
            ExposureClass::InFlight
        } else {
            ExposureClass::of(cell.state)
        };
        Standing {
            class,
            state: cell.state,
            since: instant(&self.instants, cell.since).and_then(from_millis),
            is_explained: true,
            is_elsewhere: cell.last == SlotState::Transferred,
        }
    }
}

/// Returns an instant by its number, from 1.
fn instant(instants: &[i64], number: u32) -> Option<i64> {
    let index = usize::try_from(number.checked_sub(1)?).ok()?;
    instants.get(index).copied()
}

/// Compares where the trail ends with where somebody is found.
fn held_against(standing: Standing, last: SlotState, found: Option<SlotState>) -> Standing {
    match found {
        Some(found) if found != last => {
            let is_moved = ExposureClass::of(found) == ExposureClass::Exposed
                || standing.class == ExposureClass::Exposed;
            Standing {
                class: if is_moved {
                    ExposureClass::Exposed
                } else {
                    ExposureClass::InFlight
                },
                state: found,
                since: None,
                is_explained: false,
                is_elsewhere: found == SlotState::Transferred,
            }
        }
        Some(_) | None => standing,
    }
}

/// Counts of people by class, and by where they stood at the end of the interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExposureTally {
    /// By class.
    pub classes: ClassCounts,
    /// Of each class: by state.
    states: [Tally; ExposureClass::ALL.len()],
}

impl ExposureTally {
    /// Counts one person.
    pub fn add(&mut self, class: ExposureClass, state: SlotState) {
        self.classes.add(class, 1);
        if let Some(tally) = self.states.get_mut(class as usize) {
            tally.add(state, 1);
        }
    }

    /// Returns every class with its people by state.
    pub fn states(&self) -> impl Iterator<Item = (ExposureClass, &Tally)> {
        ExposureClass::ALL.into_iter().zip(&self.states)
    }
}

#[cfg(test)]
mod tests;
