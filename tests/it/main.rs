//! Black box: the real binary on a real database, over HTTP and the command line.
//!
//! What a test here knows, a user could know: no type of the service is named. `support` starts what
//! a test needs; `conformance` runs beside servers that other people wrote; `crash` kills and cuts; `chaos` does all of that at
//! once, as a seed says.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::string_slice,
    clippy::too_many_lines,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on has failed, and real processes live in real time"
)]

#[path = "../chaos/main.rs"]
mod chaos;
#[path = "../conformance/main.rs"]
mod conformance;
#[path = "../crash/main.rs"]
mod crash;
#[path = "../support/main.rs"]
mod support;

mod access;
mod approving;
mod asked;
mod bad_rows;
mod bombs;
mod books;
mod cloud_events;
mod commands;
mod crowd;
mod cut_short;
mod door;
mod drifting;
mod emergency;
mod events;
mod evidence;
mod examples;
mod exit_codes;
mod exposure;
mod flood;
mod generations;
mod halting;
mod importing;
mod late;
mod looking;
mod looking_back;
mod misuse;
mod paging;
mod parting;
mod planning;
mod polled;
mod quiet;
mod racing;
mod releasing;
mod repeating;
mod reported;
mod resting;
mod restoring;
mod reverting;
mod reviewing;
mod said_again;
mod schema;
mod sending;
mod signed;
mod skewed;
mod specs;
mod stopping;
mod storm;
mod streams;
mod taking_back;
mod together;
mod told;
mod trouble;
mod upgrading;
mod wake_ups;
mod webhooks;
mod words;
