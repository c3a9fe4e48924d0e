//! Signals on their way in: who sent them, before anybody reads what they say.
//!
//! What they say is read by `tidegate_policy::dialect`, out of bytes that were admitted here. `verify` is pure;
//! `ask` fetches from hosts that the operator granted, `keys` remembers what issuers publish, and `gpgv` asks a program.

pub mod ask;
pub mod gpgv;
pub mod keys;
pub mod verify;
