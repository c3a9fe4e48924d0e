//! Drift: what a long stop has made of the people of a rollout, person by person.
//!
//! A rollout was planned for the people of then. `measure` puts them beside the people of now and says
//! what becomes of each: exactly one outcome, decided by what has been done with them and by what is
//! known of them now. Whoever has been moved is never touched: those who have left since are listed,
//! for somebody to decide about their accounts.
//!
//! Ordinals are those of the people of then; whoever is new is numbered after them, in the order of
//! the new population. So every ordinal the ledger, its failures and its receipts know stays true.
//!
//! `wish` says which wave somebody belongs to now, `measure` decides about everybody, `class` names
//! what happened to people. Nothing here reads a database or a clock.

pub mod body;
mod measure;
mod wish;

use serde::{Deserialize, Serialize};

pub use self::measure::{Late, Measured, Then, measure};
use crate::ids::{Ordinal, WaveNumber};
use crate::ledger::{SlotCommand, SlotState};
use crate::rollout::WaveStatus;

/// What happened to people. Somebody may be in several classes, such as renamed and moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// No longer in the population, or left out by the spec now, before they were moved.
    Left,
    /// The same, after they were moved, or perhaps were: their accounts are proposed for removal.
    Deprovision,
    /// New, and in a wave now.
    Joined,
    /// New, and in no wave.
    JoinedOutside,
    /// Still there, and left out by the spec, or in no wave, now.
    Excluded,
    /// Belong to another wave now, and stand there.
    Moved,
    /// Belong to a wave that has finished: they are in the catch-up wave.
    CatchUp,
    /// Their user name is another one.
    Renamed,
    /// New, with the user name of somebody of then: an account of that name may not be theirs.
    Recycled,
    /// Had left, and are back.
    Returned,
    /// Said to have been moved by hand meanwhile: found at the target when their turn comes.
    ByHand,
    /// Need somebody to decide.
    Review,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 12] = [
        Self::Left,
        Self::Deprovision,
        Self::Joined,
        Self::JoinedOutside,
        Self::Excluded,
        Self::Moved,
        Self::CatchUp,
        Self::Renamed,
        Self::Recycled,
        Self::Returned,
        Self::ByHand,
        Self::Review,
    ];

    /// Returns the stable name of the class.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Deprovision => "deprovision",
            Self::Joined => "joined",
            Self::JoinedOutside => "joined_outside",
            Self::Excluded => "excluded",
            Self::Moved => "moved",
            Self::CatchUp => "catch_up",
            Self::Renamed => "renamed",
            Self::Recycled => "recycled",
            Self::Returned => "returned",
            Self::ByHand => "by_hand",
            Self::Review => "review",
        }
    }

    /// Returns the class of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// Says in words what happened to people of this class.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Left => "left before they were moved: never touched",
            Self::Deprovision => {
                "left after they were moved: their accounts are proposed for removal"
            }
            Self::Joined => "new, and in a wave",
            Self::JoinedOutside => "new, and in no wave",
            Self::Excluded => "still there, and left out now",
            Self::Moved => "belong to another wave now, and stand there",
            Self::CatchUp => "belong to a wave that has finished: in the catch-up wave",
            Self::Renamed => "have another user name now",
            Self::Recycled => "new, with a user name that was somebody else's",
            Self::Returned => "had left, and are back",
            Self::ByHand => "said to have been moved by hand: looked up when their turn comes",
            Self::Review => "need somebody to decide",
        }
    }
}

/// Where somebody of then stands in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Their wave.
    pub wave: WaveNumber,
    /// Their state. Whoever is parked and in doubt is given as in doubt.
    pub state: SlotState,
}

/// What becomes of the slot of somebody of then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotChange {
    /// Who.
    pub ordinal: Ordinal,
    /// The wave of the slot.
    pub wave: WaveNumber,
    /// What is decided about it.
    pub command: SlotCommand,
}

/// Somebody who gets a slot: new, or from another wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewSlot {
    /// The wave, which may be one after the last: the catch-up wave.
    pub wave: WaveNumber,
    /// Who.
    pub ordinal: Ordinal,
    /// Whether somebody has to decide before anything is sent.
    pub review: bool,
}

/// Says whether a wave takes nobody in any more: whoever belongs to it is in the catch-up wave.
#[must_use]
pub const fn is_finished(status: &WaveStatus) -> bool {
    match status {
        WaveStatus::Pending {}
        | WaveStatus::Open {}
        | WaveStatus::Waiting {}
        | WaveStatus::Draining { .. } => false,
        WaveStatus::Soaking { .. }
        | WaveStatus::Gated {}
        | WaveStatus::Passed {}
        | WaveStatus::Failed { .. }
        | WaveStatus::Retrying {} => true,
    }
}

#[cfg(test)]
mod tests;
