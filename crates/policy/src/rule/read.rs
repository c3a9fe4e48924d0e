//! How rules are written: out of a document, and back into one.
