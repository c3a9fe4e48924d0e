//! The connectors against servers that other people wrote.
