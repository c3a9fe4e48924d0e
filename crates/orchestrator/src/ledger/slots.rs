//! The slots of one batch: claim, record, lapse and apply over the total table.

use serde::{Deserialize, Serialize};

use super::column::Column;
use super::state::{SlotEvent, SlotRefusal, SlotState, transition};
use super::tally::Tally;
use crate::ids::{Timestamp, from_millis, millis};

/// The place of a person in their batch, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlotIndex(pub u16);

impl SlotIndex {
    /// Returns the place as an index.
    #[must_use]
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

/// A person that a worker has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimedSlot {
    /// Who.
    pub index: SlotIndex,
    /// Which attempt this is, from 1; the last number stands for it and all later ones.
    pub attempt: u8,
    /// Whether the target may already have them: look before sending.
    pub doubtful: bool,
}

/// Everybody a worker has taken.
pub type Claimed = Vec<ClaimedSlot>;

/// What came of one person, as the ledger needs it; codes and messages are kept beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Moved; `adopted` when the target had our account already.
    Done {
        /// It was there before we came, under our external id.
        adopted: bool,
    },
    /// Accepted, to be looked up at that instant.
    Accepted {
        /// When to look.
        confirm_by: Timestamp,
    },
    /// No, for good.
    Failed,
    /// Not now.
    Retry {
        /// When to try again.
        not_before: Timestamp,
    },
    /// No answer.
    Unknown {
        /// When to look.
        not_before: Timestamp,
    },
    /// Something that is not ours is in the way.
    Review,
    /// Nothing was sent; `doubtful` as it was claimed.
    NotSent {
        /// Whether it must still be looked up before it is sent.
        doubtful: bool,
    },
    /// Has left.
    Departed,
}

/// What people decide about one person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotCommand {
    /// Try the failed, reviewed or skipped one again.
    Again,
    /// Leave them out.
    Skip,
    /// They have left.
    Depart,
    /// Move them back.
    Revert,
    /// They have been taken back, by a rollout of its own.
    TakeBack,
    /// They were not moved after all.
    Disprove,
    /// They stand in another wave now.
    Transfer,
    /// What was due long ago begins anew.
    Renew,
    /// Somebody has to look: they left, and may exist at the target; or their name is somebody else's.
    Doubt,
    /// A hold on some people of the wave covers them.
    Park,
    /// No such hold covers them any more: whoever was in doubt is in doubt again.
    Unpark,
}

/// What became of a list of outcomes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recorded {
    /// Who changed, in ascending order, each once.
    pub changed: Vec<SlotIndex>,
    /// Whose outcome came too late or twice.
    pub refused: Vec<(SlotIndex, SlotRefusal)>,
}

/// The people of one batch and where each stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    pub(super) size: u16,
    pub(super) states: Column<SlotState>,
    pub(super) attempts: Column<u8>,
    /// Milliseconds since 1970 of the last change; 0 before the first.
    pub(super) changed: Column<i64>,
    /// Milliseconds since 1970 before which the slot is not claimed; 0 for no such time. Of somebody parked:
    /// when they would have been looked up; 0 for whoever was in no doubt.
    pub(super) due: Column<i64>,
    pub(super) adopted: Column<bool>,
}

impl Slots {
    /// Returns a batch of `size` people of whom nobody has begun.
    #[must_use]
    pub const fn new(size: u16) -> Self {
        Self {
            size,
            states: Column::Same(SlotState::Queued),
            attempts: Column::Same(0),
            changed: Column::Same(0),
            due: Column::Same(0),
            adopted: Column::Same(false),
        }
    }

    /// Returns how many people are in the batch.
    #[must_use]
    pub const fn len(&self) -> u16 {
        self.size
    }

    /// Says whether nobody is in the batch.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.size == 0
    }

    fn places(&self) -> usize {
        usize::from(self.size)
    }

    /// Returns where a person stands, or `None` when the batch is not that large.
    #[must_use]
    pub fn state(&self, index: SlotIndex) -> Option<SlotState> {
        self.within(index)?;
        self.states.get(index.get())
    }

    /// Returns how often a person was sent, up to 255.
    #[must_use]
    pub fn attempts(&self, index: SlotIndex) -> Option<u8> {
        self.within(index)?;
        self.attempts.get(index.get())
    }

    /// Returns when a person last changed state.
    #[must_use]
    pub fn changed_at(&self, index: SlotIndex) -> Option<Timestamp> {
        self.within(index)?;
        self.changed
            .get(index.get())
            .filter(|at| *at != 0)
            .and_then(from_millis)
    }

    /// Returns the instant before which a person is not claimed.
    #[must_use]
    pub fn due(&self, index: SlotIndex) -> Option<Timestamp> {
        self.within(index)?;
        self.due
            .get(index.get())
            .filter(|at| *at != 0)
            .and_then(from_millis)
    }

    /// Says whether the target had our account before we came.
    #[must_use]
    pub fn is_adopted(&self, index: SlotIndex) -> bool {
        self.within(index).is_some() && self.adopted.get(index.get()).unwrap_or(false)
    }

    fn within(&self, index: SlotIndex) -> Option<()> {
        (index.0 < self.size).then_some(())
    }

    /// Returns every state in order of place.
    pub fn states(&self) -> impl Iterator<Item = SlotState> + '_ {
        self.states.iter(self.places())
    }

    /// Counts the people by state.
    #[must_use]
    pub fn tally(&self) -> Tally {
        match self.states.same() {
            Some(state) => Tally::from_iter([(state, u64::from(self.size))]),
            None => self.states().map(|state| (state, 1)).collect(),
        }
    }

    /// Counts those the target had before we came.
    #[must_use]
    pub fn adopted(&self) -> u64 {
        match self.adopted.same() {
            Some(true) => u64::from(self.size),
            Some(false) => 0,
            None => self.adopted.iter(self.places()).map(u64::from).sum(),
        }
    }

    /// Takes up to `limit` people that are due, in order of place; of those whom nobody has begun, up to
    /// `fresh`. Whoever was begun before is taken up again however many may still be begun.
    pub fn claim(&mut self, limit: u32, fresh: u32, now: Timestamp) -> Claimed {
        let at = millis(now);
        let size = u32::from(self.size);
        let is_begun = self
            .states
            .same()
            .is_some_and(|state| state != SlotState::Queued);
        let everybody = limit >= size && (fresh >= size || is_begun);
        if let (true, Some(state), Some(due), Some(attempts)) = (
            everybody,
            self.states.same(),
            self.due.same(),
            self.attempts.same(),
        ) {
            if !state.is_claimable() || due > at {
                return Vec::new();
            }
            let attempt = attempts.saturating_add(1);
            self.states = Column::Same(SlotState::InFlight);
            self.attempts = Column::Same(attempt);
            self.changed = Column::Same(at);
            self.due = Column::Same(0);
            let doubtful = state.is_doubtful();
            return (0..self.size)
                .map(|index| ClaimedSlot {
                    index: SlotIndex(index),
                    attempt,
                    doubtful,
                })
                .collect();
        }
        self.claim_each(limit, fresh, at)
    }

    fn claim_each(&mut self, limit: u32, mut fresh: u32, at: i64) -> Claimed {
        let mut claimed = Vec::new();
        for index in (0..self.size).map(SlotIndex) {
            if u32::try_from(claimed.len()).is_ok_and(|taken| taken >= limit) {
                break;
            }
            let Some(state) = self.states.get(index.get()) else {
                break;
            };
            let is_due = self.due.get(index.get()).is_some_and(|due| due <= at);
            if !state.is_claimable() || !is_due {
                continue;
            }
            if state == SlotState::Queued {
                let Some(left) = fresh.checked_sub(1) else {
                    continue;
                };
                fresh = left;
            }
            let attempt = self
                .attempts
                .get(index.get())
                .unwrap_or(0)
                .saturating_add(1);
            self.attempts
                .set(index.get(), attempt, usize::from(self.size));
            self.put(index, SlotState::InFlight, 0, at);
            claimed.push(ClaimedSlot {
                index,
                attempt,
                doubtful: state.is_doubtful(),
            });
        }
        self.settle();
        claimed
    }

    /// Makes everybody in flight unknown, due now: their worker lost its lease. Returns who.
    ///
    /// A worker that died says nothing of the target: it is no attempt, or whoever met several crashes
    /// would wait minutes for the next one.
    pub fn lapse(&mut self, now: Timestamp) -> Vec<SlotIndex> {
        let at = millis(now);
        let mut lapsed = Vec::new();
        for index in (0..self.size).map(SlotIndex) {
            let Some(state) = self.states.get(index.get()) else {
                break;
            };
            if state == SlotState::InFlight
                && let Ok(next) = transition(state, SlotEvent::Lose)
            {
                self.put(index, next, 0, at);
                self.unattempt(index);
                lapsed.push(index);
            }
        }
        self.settle();
        lapsed
    }

    /// Merges outcomes, slot by slot. Only somebody in flight changes; the rest is refused and named.
    pub fn record(&mut self, outcomes: &[(SlotIndex, Outcome)], now: Timestamp) -> Recorded {
        let at = millis(now);
        if self.is_everybody_done(outcomes) {
            self.states = Column::Same(SlotState::Done);
            self.changed = Column::Same(at);
            return Recorded {
                changed: outcomes.iter().map(|(index, _)| *index).collect(),
                refused: Vec::new(),
            };
        }
        let mut recorded = Recorded::default();
        for (index, outcome) in outcomes {
            match self.record_one(*index, *outcome, at) {
                Ok(()) => recorded.changed.push(*index),
                Err(refusal) => recorded.refused.push((*index, refusal)),
            }
        }
        recorded.changed.sort_unstable();
        self.settle();
        recorded
    }

    /// The common case, seen without looking at the slots: all were in flight, all are moved.
    fn is_everybody_done(&self, outcomes: &[(SlotIndex, Outcome)]) -> bool {
        self.states.same() == Some(SlotState::InFlight)
            && self.due.same() == Some(0)
            && self.adopted.same() == Some(false)
            && outcomes.len() == self.places()
            && outcomes
                .iter()
                .zip(0..self.size)
                .all(|((index, outcome), place)| {
                    index.0 == place && *outcome == Outcome::Done { adopted: false }
                })
    }

    fn record_one(
        &mut self,
        index: SlotIndex,
        outcome: Outcome,
        at: i64,
    ) -> Result<(), SlotRefusal> {
        let (event, due) = match outcome {
            Outcome::Done { .. } => (SlotEvent::Confirm, 0),
            Outcome::Accepted { confirm_by } => (SlotEvent::Accept, millis(confirm_by)),
            Outcome::Failed => (SlotEvent::Fail, 0),
            Outcome::Retry { not_before } => (SlotEvent::Defer, millis(not_before)),
            Outcome::Unknown { not_before } => (SlotEvent::Lose, millis(not_before)),
            Outcome::Review => (SlotEvent::Clash, 0),
            Outcome::NotSent { doubtful: true } => (SlotEvent::Lose, 0),
            Outcome::NotSent { doubtful: false } => (SlotEvent::Return, 0),
            Outcome::Departed => (SlotEvent::Depart, 0),
        };
        let state = self.state(index).unwrap_or(SlotState::Skipped);
        if state != SlotState::InFlight {
            return Err(SlotRefusal { state, event });
        }
        let next = transition(state, event)?;
        self.put(index, next, due, at);
        match outcome {
            Outcome::Done { adopted } => self.adopted.set(index.get(), adopted, self.places()),
            // What was never sent was no attempt.
            Outcome::NotSent { .. } => self.unattempt(index),
            Outcome::Accepted { .. }
            | Outcome::Failed
            | Outcome::Retry { .. }
            | Outcome::Unknown { .. }
            | Outcome::Review
            | Outcome::Departed => {}
        }
        Ok(())
    }

    /// Carries out what somebody decided about one person.
    ///
    /// # Errors
    ///
    /// Refuses what the table does not hold, and a place outside the batch.
    pub fn apply(
        &mut self,
        index: SlotIndex,
        command: SlotCommand,
        now: Timestamp,
    ) -> Result<SlotState, SlotRefusal> {
        let event = self.event_of(index, command);
        let Some(state) = self.state(index) else {
            return Err(SlotRefusal {
                state: SlotState::Skipped,
                event,
            });
        };
        // A worker owns whoever is in flight; a decision waits for its outcome.
        if state == SlotState::InFlight {
            return Err(SlotRefusal { state, event });
        }
        let next = transition(state, event)?;
        if command == SlotCommand::Disprove {
            self.adopted.set(index.get(), false, self.places());
        }
        let due = match (command, next) {
            (SlotCommand::Park, _) if state.is_doubtful() => self.due_of(index).max(millis(now)),
            (SlotCommand::Unpark, SlotState::Unknown) => self.due_of(index),
            _ => 0,
        };
        self.put(index, next, due, millis(now));
        self.settle();
        Ok(next)
    }

    /// Says whether somebody who is parked may exist at the target.
    #[must_use]
    pub fn is_parked_in_doubt(&self, index: SlotIndex) -> bool {
        self.state(index) == Some(SlotState::Parked) && self.due_of(index) != 0
    }

    fn due_of(&self, index: SlotIndex) -> i64 {
        self.due.get(index.get()).unwrap_or(0)
    }

    fn event_of(&self, index: SlotIndex, command: SlotCommand) -> SlotEvent {
        match command {
            SlotCommand::Again => SlotEvent::Again,
            SlotCommand::Skip => SlotEvent::Skip,
            SlotCommand::Depart => SlotEvent::Depart,
            SlotCommand::Revert => SlotEvent::Revert,
            SlotCommand::TakeBack => SlotEvent::TakeBack,
            SlotCommand::Disprove => SlotEvent::Disprove,
            SlotCommand::Transfer => SlotEvent::Transfer,
            SlotCommand::Renew => SlotEvent::Renew,
            SlotCommand::Doubt => SlotEvent::Clash,
            SlotCommand::Park => SlotEvent::Park,
            SlotCommand::Unpark if self.is_parked_in_doubt(index) => SlotEvent::Lose,
            SlotCommand::Unpark => SlotEvent::Unpark,
        }
    }

    /// Returns the earliest instant at which somebody can be claimed, in milliseconds: 0 for at
    /// once, `None` when nobody ever can without an outcome or a decision.
    #[must_use]
    pub fn ready_at(&self) -> Option<i64> {
        if let (Some(state), Some(due)) = (self.states.same(), self.due.same()) {
            return (state.is_claimable() && self.size > 0).then_some(due);
        }
        self.states()
            .zip(self.due.iter(self.places()))
            .filter(|(state, _)| state.is_claimable())
            .map(|(_, due)| due)
            .min()
    }

    fn put(&mut self, index: SlotIndex, state: SlotState, due: i64, at: i64) {
        let size = self.places();
        self.states.set(index.get(), state, size);
        self.due.set(index.get(), due, size);
        self.changed.set(index.get(), at, size);
    }

    /// Takes the attempt of a claim back.
    fn unattempt(&mut self, index: SlotIndex) {
        let attempts = self.attempts.get(index.get()).unwrap_or(0);
        let size = self.places();
        self.attempts
            .set(index.get(), attempts.saturating_sub(1), size);
    }

    fn settle(&mut self) {
        self.states.settle();
        self.attempts.settle();
        self.changed.settle();
        self.due.settle();
        self.adopted.settle();
    }
}

#[cfg(test)]
mod tests;
