//! Readers of population files.
