//! What the clients of an attack were told, with the instants between which it happened.
//!
//! An answer that never came may still have its effect, at any time after: it has no end.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;

use super::schedule::Scope;

/// When a client asked, and when it had the answer: what it was told became true between the two or before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) asked: Instant,
    pub(super) at: Instant,
}

/// A hold that was acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) scope: Scope,
    pub(super) is_halt: bool,
    /// Which replicas have answered that it is in force, and when each did first.
    pub(super) answered: BTreeMap<usize, Told>,
    /// Of which processes it was said that they have acknowledged it, and when that was said first.
    pub(super) acknowledged: BTreeMap<u32, Told>,
    /// When somebody was first told that nobody can send under it.
    pub(super) quiet: Option<Told>,
}

/// What a lift was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lifted {
    Hold(String),
    PausesOf(&'static str),
}

/// Somebody tried to lift something.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) what: Lifted,
    pub(super) begun: Instant,
    /// When it was answered.
    pub(super) ended: Option<Instant>,
    /// Whether the answer was yes.
    pub(super) is_done: bool,
}

/// Somebody was told that it is not possible now, or not in time.
#[derive(Debug, Clone)]
pub(super) struct Away {
    /// What was asked of which replica, and what it said.
    pub(super) what: String,
    pub(super) replica: usize,
    pub(super) told: Told,
}

#[derive(Debug, Default)]
struct Kept {
    placed: BTreeMap<String, Placed>,
    attempts: Vec<Attempt>,
    strange: Vec<String>,
    away: Vec<Away>,
    answers: BTreeMap<u16, u32>,
}

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Kept>);

impl Log {
    fn told(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an answer of a replica; one that no fault ever explains is kept as strange.
    pub(super) fn answered(&self, call: &str, by: (usize, Instant), status: u16, text: &str) {
        let (replica, asked) = by;
        let mut kept = self.told();
        *kept.answers.entry(status).or_default() += 1;
        let what = format!("{call} at {replica}: {status} {text}");
        match status {
            // Not this way now: a client came first.
            200 | 201 | 409 => {}
            503 | 504 => {
                let at = Instant::now();
                let told = Told { asked, at };
                kept.away.push(Away {
                    what,
                    replica,
                    told,
                });
            }
            _ => kept.strange.push(what),
        }
    }

    /// Notes that a replica answered that a hold is in force.
    pub(super) fn placed(&self, id: &str, scope: Scope, is_halt: bool, by: (usize, Instant)) {
        let (replica, asked) = by;
        let mut told = self.told();
        let known = told.placed.entry(id.to_owned()).or_insert(Placed {
            scope,
            is_halt,
            answered: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            quiet: None,
        });
        let at = Instant::now();
        known.answered.entry(replica).or_insert(Told { asked, at });
    }

    /// Notes what a view of a hold says that was asked for at an instant, and returns whether it is quiet.
    pub(super) fn seen(&self, view: &Value, asked: Instant) -> bool {
        let is_quiet = view["quiesced"] == true;
        let mut told = self.told();
        let placed = view["id"].as_str().and_then(|id| told.placed.get_mut(id));
        let Some(placed) = placed else {
            return is_quiet;
        };
        let now = Told {
            asked,
            at: Instant::now(),
        };
        let workers = view["workers"].as_array().into_iter().flatten();
        let acknowledged = workers.filter(|worker| worker["standing"] == "acknowledged");
        // A worker is called `host:process`.
        let process = |worker: &Value| {
            worker["name"]
                .as_str()?
                .rsplit(':')
                .next()?
                .parse::<u32>()
                .ok()
        };
        for process in acknowledged.filter_map(process) {
            placed.acknowledged.entry(process).or_insert(now);
        }
        if is_quiet {
            placed.quiet.get_or_insert(now);
        }
        is_quiet
    }

    /// Notes that somebody begins to lift something; returns its number.
    pub(super) fn lift(&self, what: Lifted) -> usize {
        let mut told = self.told();
        told.attempts.push(Attempt {
            what,
            begun: Instant::now(),
            ended: None,
            is_done: false,
        });
        told.attempts.len() - 1
    }

    /// Notes that it was answered.
    pub(super) fn lifted(&self, number: usize, is_done: bool) {
        if let Some(attempt) = self.told().attempts.get_mut(number) {
            attempt.ended = Some(Instant::now());
            attempt.is_done = is_done;
        }
    }

    /// Returns the holds that were acknowledged, by id.
    pub(super) fn holds(&self) -> BTreeMap<String, Placed> {
        self.told().placed.clone()
    }

    /// Returns the attempts that may have lifted a hold.
    pub(super) fn attempts_at(&self, id: &str, placed: &Placed) -> Vec<Attempt> {
        let told = self.told();
        let is_about = |attempt: &&Attempt| match &attempt.what {
            Lifted::Hold(of) => of == id,
            Lifted::PausesOf(rollout) => !placed.is_halt && placed.scope == Scope::Rollout(rollout),
        };
        told.attempts.iter().filter(is_about).cloned().collect()
    }

    /// Returns the answers that nothing explains.
    pub(super) fn strange(&self) -> Vec<String> {
        self.told().strange.clone()
    }

    /// Returns who was told that it is not possible now.
    pub(super) fn away(&self) -> Vec<Away> {
        self.told().away.clone()
    }

    /// Returns how many answers there were of each status.
    pub(super) fn answers(&self) -> BTreeMap<u16, u32> {
        self.told().answers.clone()
    }
}
