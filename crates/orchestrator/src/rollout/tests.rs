//! Claims about commands, events and records.
