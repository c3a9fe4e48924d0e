//! The HTTP interface: routes, extraction, errors.
