//! What one set would have held and another did not, over the same signals.
//!
//! Compared is what was held at a target and of which kind, whichever rules held it: a rule that is only
//! renamed changes nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Stop, Timeline};
use crate::named::named;
use crate::rule::{Effect, Reaches};
use crate::time::Timestamp;

/// A time during which a target was held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Since when.
    pub since: Timestamp,
    /// Until when; `None`: to the end.
    pub until: Option<Timestamp>,
    /// By which rules, in the order in which they held.
    pub rules: Vec<String>,
    /// The signal that it began with.
    pub first: String,
}

named! {
    /// How the candidate differs from the active set.
    pub enum Difference: "difference" {
        /// It would have held, and the active set did not.
        Added = "added",
        /// The active set held, and it would not have.
        Dropped = "dropped",
        /// It would have held from an earlier instant on.
        Earlier = "earlier",
        /// It would have held from a later instant on.
        Later = "later",
        /// It would have begun at the same instant and let go later.
        Longer = "longer",
        /// It would have begun at the same instant and let go earlier.
        Shorter = "shorter",
    }
}

impl Difference {
    /// Says whether less would have been held, at some instant.
    #[must_use]
    pub const fn loosens(self) -> bool {
        match self {
            Self::Dropped | Self::Later | Self::Shorter => true,
            Self::Added | Self::Earlier | Self::Longer => false,
        }
    }
}

/// One time during which the two sets differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// How.
    pub difference: Difference,
    /// Whether at some instant less would have been held: an earlier beginning may come with an earlier end.
    pub loosens: bool,
    /// The target; `everything` where the hold covers everything.
    pub target: String,
    /// The kind of hold.
    pub kind: Effect,
    /// What the active set held.
    pub active: Option<Held>,
    /// What the candidate would have held.
    pub candidate: Option<Held>,
}

/// Returns how a candidate differs from the active set, in the order of time.
#[must_use]
pub fn differences(active: &Timeline, candidate: &Timeline) -> Vec<Step> {
    let (mut ours, mut theirs) = (held(active), held(candidate));
    let mut keys: Vec<_> = ours.keys().chain(theirs.keys()).cloned().collect();
    keys.sort();
    keys.dedup();
    let mut steps = Vec::new();
    for key in keys {
        let ours = ours.remove(&key).unwrap_or_default();
        let theirs = theirs.remove(&key).unwrap_or_default();
        for (active, candidate) in paired(ours, theirs) {
            steps.extend(step(&key, active, candidate));
        }
    }
    let begin = |step: &Step| {
        let each = [&step.active, &step.candidate];
        each.into_iter().flatten().map(|held| held.since).min()
    };
    steps.sort_by_key(begin);
    steps
}

type Key = (String, Effect);

/// Returns the times during which each target was held, those that touch made one.
fn held(timeline: &Timeline) -> BTreeMap<Key, Vec<Held>> {
    let mut held: BTreeMap<Key, Vec<Held>> = BTreeMap::new();
    let mut stops: Vec<&Stop> = timeline.stops.iter().filter(|stop| stop.holds()).collect();
    stops.sort_by_key(|stop| stop.since);
    for stop in stops {
        let target = match stop.scope {
            Reaches::Everything => "everything".to_owned(),
            Reaches::Wave | Reaches::Rollout | Reaches::Target => stop.target.clone(),
        };
        let times = held.entry((target, stop.kind)).or_default();
        match times.last_mut() {
            Some(last) if last.until.is_none_or(|until| stop.since <= until) => {
                last.until = last
                    .until
                    .and_then(|until| Some(until.max(stop.lifted_at?)));
                if !last.rules.contains(&stop.rule) {
                    last.rules.push(stop.rule.clone());
                }
            }
            Some(_) | None => times.push(Held {
                since: stop.since,
                until: stop.lifted_at,
                rules: vec![stop.rule.clone()],
                first: stop.first.clone(),
            }),
        }
    }
    held
}

/// Puts times beside those that they overlap; what overlaps nothing stands alone.
fn paired(ours: Vec<Held>, theirs: Vec<Held>) -> Vec<(Option<Held>, Option<Held>)> {
    let mut ours = ours.into_iter().peekable();
    let mut theirs = theirs.into_iter().peekable();
    let mut pairs = Vec::new();
    loop {
        let is_before = |one: &Held, other: &Held| one.until.is_some_and(|end| end < other.since);
        match (ours.peek(), theirs.peek()) {
            (None, None) => return pairs,
            (Some(one), Some(other)) if is_before(one, other) => pairs.push((ours.next(), None)),
            (Some(one), Some(other)) if is_before(other, one) => pairs.push((None, theirs.next())),
            (Some(_), Some(_)) => pairs.push((ours.next(), theirs.next())),
            (Some(_), None) => pairs.push((ours.next(), None)),
            (None, Some(_)) => pairs.push((None, theirs.next())),
        }
    }
}

fn step(key: &Key, active: Option<Held>, candidate: Option<Held>) -> Option<Step> {
    let end = |held: &Held| held.until.unwrap_or(Timestamp::MAX_UTC);
    let (difference, loosens) = match (&active, &candidate) {
        (None, None) => return None,
        (None, Some(_)) => (Difference::Added, false),
        (Some(_), None) => (Difference::Dropped, true),
        (Some(was), Some(is)) => {
            let ends_sooner = end(is) < end(was);
            let difference = match is.since.cmp(&was.since) {
                std::cmp::Ordering::Less => Difference::Earlier,
                std::cmp::Ordering::Greater => Difference::Later,
                std::cmp::Ordering::Equal if ends_sooner => Difference::Shorter,
                std::cmp::Ordering::Equal if end(is) > end(was) => Difference::Longer,
                std::cmp::Ordering::Equal => return None,
            };
            (difference, difference.loosens() || ends_sooner)
        }
    };
    Some(Step {
        difference,
        loosens,
        target: key.0.clone(),
        kind: key.1,
        active,
        candidate,
    })
}
