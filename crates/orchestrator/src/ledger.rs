//! The ledger: what has become of every person of a rollout, 1,024 to a batch.
//!
//! A batch packs the states of its people (its *slots*) into a few bytes: a column in which everybody
//! has the same value costs as much as one value. [`state`] is the total table of what may become of
//! a slot, [`slots`] applies it to a whole batch, [`tally`] counts, [`codec`] is the frozen byte
//! format, [`history`] is the form in which changes go into the audit trail, [`exposure`] reads them back,
//! [`receipt`] is what a target calls our people.
//!
//! Nothing here knows leases or rows: a caller that holds the lease of a batch reads its bytes, lets
//! `claim`, `record`, `lapse` or `apply` change them, and writes them back under the fence.

pub mod codec;
mod column;
pub mod exposure;
pub mod history;
pub mod receipt;
pub mod slots;
pub mod state;
pub mod tally;

pub use codec::FormatError;
pub use slots::{Claimed, ClaimedSlot, Outcome, Recorded, SlotCommand, SlotIndex, Slots};
pub use state::{SlotEvent, SlotRefusal, SlotState, transition};
pub use tally::Tally;

/// How many people a batch holds at most.
pub const BATCH_SIZE_MAX: u16 = 1024;
