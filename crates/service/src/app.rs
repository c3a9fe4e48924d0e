//! What every part of the service shares: store, clock, ids, connectors and the wake-up bell.
