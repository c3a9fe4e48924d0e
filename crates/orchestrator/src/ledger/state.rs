//! What may become of a slot: every state, every event, and the one table that joins them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum $name { $($(#[$item_doc])* $item,)* }

        impl $name {
            /// Every one of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$item,)*];

            /// Returns the name, as it stands in columns, answers and tables.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$item => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

names! {
    /// Where one person stands. The numbers are part of the frozen byte format.
    SlotState {
        /// Not begun.
        Queued = "queued",
        /// Claimed by a worker: a request may be under way.
        InFlight = "in_flight",
        /// The target accepted and has still to confirm.
        Awaiting = "awaiting",
        /// Moved.
        Done = "done",
        /// The target said no for good.
        Failed = "failed",
        /// Tried again, not before an instant.
        Retry = "retry",
        /// No answer came: it must be looked up before anything is sent again.
        Unknown = "unknown",
        /// Left out on purpose.
        Skipped = "skipped",
        /// Has left the company.
        Departed = "departed",
        /// Being moved back.
        Reverting = "reverting",
        /// Moved back.
        Reverted = "reverted",
        /// The target holds something that is not ours: somebody has to decide.
        Review = "review",
        /// Stands in another wave now: what was known of them selects that one. Not counted as a person here.
        Transferred = "transferred",
        /// Held back by a hold on some people of the wave. Not begun; or in doubt, and looked up when it ends.
        Parked = "parked",
    }
}

names! {
    /// What can happen to a person.
    SlotEvent {
        /// A worker takes it.
        Claim = "claim",
        /// The target confirmed.
        Confirm = "confirm",
        /// The target accepted and will confirm later.
        Accept = "accept",
        /// The target said no for good.
        Fail = "fail",
        /// The target said not now.
        Defer = "defer",
        /// No answer came in time, or the worker was lost.
        Lose = "lose",
        /// The target holds something that is not ours.
        Clash = "clash",
        /// The worker gives it back: nothing was sent.
        Return = "return",
        /// The person has left the company.
        Depart = "depart",
        /// Somebody decided to leave the person out.
        Skip = "skip",
        /// Somebody decided to try again.
        Again = "again",
        /// Somebody decided to move the person back.
        Revert = "revert",
        /// A rollout that takes back has taken them back.
        TakeBack = "take_back",
        /// Later evidence shows that the person was not moved after all.
        Disprove = "disprove",
        /// They belong to another wave now, where they stand in a slot of their own.
        Transfer = "transfer",
        /// A year has passed: a retry that was due then is begun anew, with everybody else.
        Renew = "renew",
        /// A hold on some people of the wave covers them.
        Park = "park",
        /// No such hold covers them any more.
        Unpark = "unpark",
    }
}

impl SlotState {
    /// Returns the state of a number of the byte format.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Returns the number in the byte format.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Returns the state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.name() == name)
    }

    /// Says whether a worker may take it, once it is due.
    #[must_use]
    pub const fn is_claimable(self) -> bool {
        matches!(
            self,
            Self::Queued | Self::Retry | Self::Unknown | Self::Awaiting
        )
    }

    /// Says whether it may already exist at the target, so that it is looked up before it is sent.
    #[must_use]
    pub const fn is_doubtful(self) -> bool {
        matches!(self, Self::Unknown | Self::Awaiting)
    }

    /// Says whether nothing more happens by itself.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        matches!(
            self,
            Self::Done
                | Self::Failed
                | Self::Skipped
                | Self::Departed
                | Self::Reverted
                | Self::Review
                | Self::Transferred
        )
    }
}

/// The text is not the name of a state.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no state of a person: it is one of queued, in_flight, awaiting, done, failed, retry, unknown, skipped, departed, reverting, reverted, review, transferred, parked"
)]
pub struct UnknownState(String);

impl FromStr for SlotState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::from_name(text).ok_or_else(|| UnknownState(text.to_owned()))
    }
}

/// The table says no: that cannot happen to a person who stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("`{event}` cannot happen to somebody who is {state}")]
pub struct SlotRefusal {
    /// Where the person stands.
    pub state: SlotState,
    /// What should have happened.
    pub event: SlotEvent,
}

/// Returns what becomes of a person. This is the whole state machine.
///
/// # Errors
///
/// Refuses what the table does not hold; the person stays where they are.
pub const fn transition(state: SlotState, event: SlotEvent) -> Result<SlotState, SlotRefusal> {
    use SlotEvent as E;
    use SlotState as S;
    let next = match (state, event) {
        (S::Queued | S::Retry | S::Unknown | S::Awaiting, E::Claim) => S::InFlight,

        (S::InFlight | S::Awaiting, E::Confirm) => S::Done,
        (S::InFlight, E::Accept) => S::Awaiting,
        (S::InFlight | S::Awaiting, E::Fail) => S::Failed,
        (S::InFlight, E::Defer) => S::Retry,
        (S::InFlight | S::Awaiting, E::Lose) => S::Unknown,
        (S::InFlight | S::Awaiting, E::Clash) => S::Review,
        (S::InFlight, E::Return) => S::Queued,

        // Whoever may exist at the target does not depart unseen: it is looked up first.
        (S::Queued | S::InFlight | S::Retry | S::Failed | S::Skipped | S::Review, E::Depart) => {
            S::Departed
        }
        (S::Queued | S::Retry | S::Failed | S::Review, E::Skip) => S::Skipped,
        (S::Failed | S::Review | S::Skipped | S::Reverted, E::Again) => S::Queued,

        // What a year has made of people who were not moved. Whoever may exist at the target and has left
        // needs a decision: nobody is looked up who is no longer there to be moved.
        (S::Unknown, E::Clash) | (S::Queued, E::Clash) => S::Review,
        (S::Retry, E::Renew) => S::Queued,
        (S::Departed, E::Again) => S::Queued,
        (S::Queued | S::Retry | S::Departed, E::Transfer) => S::Transferred,

        // Whoever may exist at the target is in doubt again afterwards, and looked up before anything is sent.
        (S::Queued | S::Retry | S::Unknown | S::Awaiting, E::Park) => S::Parked,
        (S::Parked, E::Unpark) => S::Queued,
        (S::Parked, E::Lose) => S::Unknown,

        // A target that said yes was wrong: the person counts as failed, and their wave is judged anew.
        (S::Done, E::Disprove) => S::Failed,
        (S::Done, E::Revert) => S::Reverting,
        // Whoever is on the way back is under way in the ledger of the rollout that takes them back; here they
        // are done until that has come to its end.
        (S::Done | S::Reverting, E::TakeBack) => S::Reverted,
        (S::Reverting, E::Confirm) => S::Reverted,
        (S::Reverting, E::Fail | E::Clash) => S::Review,

        _ => return Err(SlotRefusal { state, event }),
    };
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table_is_as_reviewed() {
        let mut table = String::new();
        for state in SlotState::ALL {
            for event in SlotEvent::ALL {
                if let Ok(next) = transition(*state, *event) {
                    table.push_str(&format!("{state:>9} --{event}--> {next}\n"));
                }
            }
        }
        insta::assert_snapshot!("slot_transitions", table);
    }

    #[test]
    fn nobody_who_is_done_is_ever_sent_again_unless_somebody_decides() {
        for event in SlotEvent::ALL {
            let next = transition(SlotState::Done, *event);
            assert!(
                matches!(
                    next,
                    Err(_) | Ok(SlotState::Reverting | SlotState::Reverted | SlotState::Failed)
                ),
                "{event}: {next:?}"
            );
        }
    }

    #[test]
    fn names_and_numbers_read_back() {
        for state in SlotState::ALL {
            assert_eq!(SlotState::from_name(state.name()), Some(*state));
            assert_eq!(SlotState::from_number(state.number()), Some(*state));
        }
        assert_eq!(SlotState::from_number(14), None);
        assert!(
            "gone"
                .parse::<SlotState>()
                .unwrap_err()
                .to_string()
                .starts_with("`gone` is no state")
        );
    }
}
