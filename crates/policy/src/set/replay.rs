//! What a policy set would have done: signals that were received, given to its rules again.
//!
//! The decisions are those of `rule::judge`, which judges what is reported today, and what is counted to
//! what is the same: one stop for each rule, target and kind, a counter beside it, and another one for
//! what stands for a missing fact. What a replay does not know: what people placed and released, sources
//! that fell silent, and what is known of a target other than what it is given. So a halt that it begins stands
//! to the end of it. `line` is about how signals are written down, `difference` about two replays.

pub mod difference;
pub mod line;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PolicySet;
use crate::digest::Digest;
use crate::rule::judge::{Decision, Judge, TargetFacts};
use crate::rule::{Effect, Reaches};
use crate::signal::{Severity, Signal};
use crate::time::{Seconds, Timestamp};

/// The most stops of one replay that are told; one more means a rule that is lifted and holds again all day.
pub const STOPS_MAX: usize = 2_000;

/// What a rule held, or would have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The rule.
    pub rule: String,
    /// What the rule says of itself.
    pub says: String,
    /// The name of the target that it was asked about.
    pub target: String,
    /// What it covers.
    pub scope: Reaches,
    /// What followed.
    pub kind: Effect,
    /// What becomes of people already moved; of a halt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<String>,
    /// Whether the rule only says what it would do.
    pub shadow: bool,
    /// The facts that were missing, by their codes: then it stands for those.
    pub faults: Vec<String>,
    /// Since when.
    pub since: Timestamp,
    /// The signal that it began with.
    pub first: String,
    /// The source of that signal.
    pub source: String,
    /// What that signal says.
    pub title: String,
    /// How many signals decided so.
    pub signals: u64,
    /// The worst severity among them.
    pub worst: Severity,
    /// The last of them.
    pub last: String,
    /// When the last of them was received.
    pub last_at: Timestamp,
    /// When its rule let go of it, having been clear for as long as it says; `None`: it stands.
    pub lifted_at: Option<Timestamp>,
}

impl Stop {
    /// Says whether anything is held by it.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.shadow && self.kind > Effect::Review
    }
}

/// What a set made of signals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// The name of the set.
    pub policy: String,
    /// The digest of what it says.
    pub digest: Digest,
    /// How many signals were given.
    pub signals: u64,
    /// Of how many of them no rule said anything.
    pub unmapped: u64,
    /// When the first of them was received.
    pub from: Option<Timestamp>,
    /// When the last of them was received.
    pub to: Option<Timestamp>,
    /// What was held, and what people would have been asked to look at, in the order in which it began.
    pub stops: Vec<Stop>,
    /// How many more there were than are told.
    pub left_out: u64,
}

/// What a signal did: to which stop, and whether that began with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Did {
    /// The place of the stop in the timeline.
    pub stop: usize,
    /// Whether it began with this signal.
    pub is_new: bool,
}

/// What a signal is counted to. What stands for a missing fact is its own: time does not lift it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    rule: usize,
    /// `None`: everything is everything, whichever target it began with.
    target: Option<usize>,
    kind: Effect,
    is_for_a_fault: bool,
}

/// A replay under way.
#[derive(Debug, Clone)]
pub struct Replay {
    judge: Judge,
    open: BTreeMap<Key, usize>,
    told: Timeline,
}

impl Replay {
    /// Begins: nothing was reported, nothing is held.
    #[must_use]
    pub fn new(set: &PolicySet, targets: Vec<TargetFacts>) -> Self {
        Self {
            judge: Judge::new(set.rules.clone(), targets),
            open: BTreeMap::new(),
            told: Timeline {
                policy: set.name.clone(),
                digest: set.digest(),
                signals: 0,
                unmapped: 0,
                from: None,
                to: None,
                stops: Vec::new(),
                left_out: 0,
            },
        }
    }

    /// Counts a signal in windows and decides nothing: it was received before the time that is asked about.
    pub fn count(&mut self, signal: &Signal) {
        self.judge.take(signal);
    }

    /// Takes in a signal, in the order in which they were received; `id` is what it is called in the answer.
    pub fn take(&mut self, id: &str, signal: &Signal) -> Vec<Did> {
        // Of two at one instant the signal comes first, as it does live: what is reported is judged before
        // anything is lifted.
        self.lift(|at| at < signal.received_at);
        self.told.signals += 1;
        self.told.from = self.told.from.or(Some(signal.received_at));
        self.told.to = Some(signal.received_at);
        let decisions = self.judge.take(signal);
        if decisions.is_empty() {
            self.told.unmapped += 1;
        }
        let mut did = Vec::new();
        for decision in &decisions {
            did.extend(self.decided(id, signal, decision));
        }
        did
    }

    /// Ends, at an instant not before the last signal: what has been clear by then is lifted.
    #[must_use]
    pub fn end(mut self, until: Timestamp) -> Timeline {
        self.lift(|at| at <= until);
        self.told
    }

    /// Returns what was told so far.
    #[must_use]
    pub const fn told(&self) -> &Timeline {
        &self.told
    }

    /// Lets go of everything that is held, because people did. What is reported after that holds anew.
    pub fn let_go(&mut self, at: Timestamp) {
        for stop in std::mem::take(&mut self.open).into_values() {
            if let Some(stop) = self.told.stops.get_mut(stop) {
                stop.lifted_at = Some(at);
            }
        }
    }

    fn decided(&mut self, id: &str, signal: &Signal, decision: &Decision) -> Option<Did> {
        let rule = self.judge.rules().get(decision.rule)?;
        let target = self.judge.targets().get(decision.target)?;
        let verdict = &decision.verdict;
        let key = Key {
            rule: decision.rule,
            target: (rule.then.reaches != Reaches::Everything).then_some(decision.target),
            kind: verdict.effect,
            is_for_a_fault: !verdict.faults.is_empty(),
        };
        if let Some(place) = self.open.get(&key) {
            let stop = self.told.stops.get_mut(*place)?;
            // A set on everything is said once of each target; the signal is one.
            if stop.last != id || key.target.is_some() {
                stop.signals += 1;
            }
            stop.worst = stop.worst.max(signal.severity);
            id.clone_into(&mut stop.last);
            stop.last_at = signal.received_at;
            return Some(Did {
                stop: *place,
                is_new: false,
            });
        }
        if self.told.stops.len() >= STOPS_MAX {
            self.told.left_out += 1;
            return None;
        }
        let stop = Stop {
            rule: rule.id.clone(),
            says: rule.says.clone(),
            target: target.name.clone(),
            scope: rule.then.reaches,
            kind: verdict.effect,
            moved: rule
                .then
                .moved
                .clone()
                .filter(|_| verdict.effect == Effect::Halt),
            shadow: rule.shadow,
            faults: verdict
                .faults
                .iter()
                .map(|fault| fault.code().to_owned())
                .collect(),
            since: signal.received_at,
            first: id.to_owned(),
            source: signal.source.clone(),
            title: signal.title.clone(),
            signals: 1,
            worst: signal.severity,
            last: id.to_owned(),
            last_at: signal.received_at,
            lifted_at: None,
        };
        let place = self.told.stops.len();
        self.told.stops.push(stop);
        self.open.insert(key, place);
        Some(Did {
            stop: place,
            is_new: true,
        })
    }

    /// Lets rules lift what they placed, where the instant of it `is` within the time that has passed.
    fn lift(&mut self, is: impl Fn(Timestamp) -> bool) {
        let clear: Vec<(Key, Timestamp)> = self
            .open
            .keys()
            .filter_map(|key| Some((*key, self.lifted_at(key)?)))
            .filter(|(_, at)| is(*at))
            .collect();
        for (key, at) in clear {
            let stop = self.open.remove(&key);
            if let Some(stop) = stop.and_then(|place| self.told.stops.get_mut(place)) {
                stop.lifted_at = Some(at);
            }
        }
    }

    /// Returns when a rule lifts what it placed, if nothing more is reported.
    fn lifted_at(&self, key: &Key) -> Option<Timestamp> {
        let rule = self.judge.rules().get(key.rule)?;
        let after: Seconds = rule.then.lift_after_clear_for?;
        if key.is_for_a_fault || !matches!(key.kind, Effect::Gate | Effect::Pause) {
            return None;
        }
        let reached = match key.target {
            Some(target) => self.judge.reached_until(key.rule, target),
            // Of a hold on everything each target must be clear.
            None => (0..self.judge.targets().len())
                .filter_map(|target| self.judge.reached_until(key.rule, target))
                .max(),
        };
        Some(after.after(reached?))
    }
}

impl PolicySet {
    /// Returns the longest time for which a signal counts in any window of the set; zero: none counts.
    #[must_use]
    pub fn longest_window(&self) -> Seconds {
        let windows = self.rules.iter().flat_map(|rule| rule.when.windows());
        windows
            .map(|window| window.within)
            .max()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
