//! What one wave promises: when it may be open, how fast it grows, how long it rests, and what it
//! must show before the next one opens.
//!
//! Each file is one pure mechanism that takes `now`; the planner (`crate::planner`) strings them
//! together. Nothing here knows rollouts, holds or the ledger's bytes.

pub mod gate;
pub mod ramp;
pub mod soak;
pub mod window;
