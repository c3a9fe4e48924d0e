//! What rules say of signals, as claims.
