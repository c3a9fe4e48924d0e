//! What runs by itself: the permit, the planner's passes, the laying out of ledgers, and sending.
//!
//! `driver` starts everything and ends it; `permit` keeps this process's right to send alive, `listen` has it renewed
//! when a hold is placed elsewhere; `conduct` runs the planner over the rollouts that are due; `prepare` lays a started rollout out as
//! batches; `dispatch` claims batches and sends people; `recover` ends the leases of the dead;
//! `judge` has rules look at what was reported; `parts` sorts the people of waves on some of whom a hold lies;
//! `sources` notices whoever has fallen silent, and tells what was refused; `streams` asks streams of security events, `poll` sources that send nothing by themselves;
//! `deliver` tells endpoints what happens; `reviews` reminds of holds that nobody looks at; `sweep` clears away what
//! is left behind. Only the driver spawns.

pub mod conduct;
pub mod deliver;
pub mod dispatch;
pub mod driver;
pub mod judge;
pub mod listen;
pub mod parts;
pub mod permit;
pub mod poll;
pub mod prepare;
pub mod recover;
pub mod reviews;
pub mod sources;
pub mod streams;
pub mod sweep;

#[cfg(test)]
mod mission;
#[cfg(test)]
mod tests;
