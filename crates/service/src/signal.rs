//! Signals on their way in: who sent them, before anybody reads what they say.
//!
//! What they say is read by `tidegate_policy::dialect`, out of bytes that were admitted here.

pub mod verify;
