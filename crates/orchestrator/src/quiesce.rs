//! Is it quiet under a hold? Nobody can begin a request, and none is under way.
//!
//! A pure judgement of what the database knows: what the workers have said of themselves, the leases in
//! force, and the time by the clock of the database. Two independent ends bound a worker that has not
//! said that it knows the hold, and the earlier one counts:
//!
//! - its **permit**: one that does not know the hold was read before the hold was committed, and dies
//!   `PERMIT_MILLIS` later; a request that began at its last moment has one request timeout to come;
//! - its **leases**: nothing under the hold is claimed or renewed (`crate::lease`), and a request begins
//!   only when it will be over before its lease is.
//!
//! What is not known is taken for the worst: an unknown timeout leaves the lease alone to bound it, and
//! without anything to bound it the answer stays "not yet". Nothing here reads a clock or a row.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::hold::{Place, Scope};
use crate::ids::{Epoch, HoldId, RolloutId, TargetId, Timestamp, WaveNumber, WorkerId};
use crate::permit::{CLOCK_MARGIN_MILLIS, PERMIT_MILLIS};
use crate::sentence::{instant, people};

/// Whoever was not heard for so long before a hold, and has no lease, was not there any more.
const GONE_MILLIS: i64 = 10_000;
/// How many epochs a worker remembers having seen.
pub const EPOCHS_KEPT: usize = 32;

/// A hold to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// What it covers.
    pub scope: Scope,
    /// The epoch that placing it made.
    pub epoch: Epoch,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// Until when something goes on under it all the same, and has not been written down as over.
    pub exempt_until: Option<Timestamp>,
    /// The other hold under which all of that stands still, when there is one.
    pub overridden_by: Option<HoldId>,
}

impl Stop {
    /// Takes an exemption that is over for what it is: from its end on, and no earlier, the hold stops what
    /// it let go on.
    #[must_use]
    pub fn again(self, epoch: Epoch, at: Timestamp) -> Self {
        Self {
            epoch: self.epoch.max(epoch),
            placed_at: self.placed_at.max(at),
            ..self
        }
    }
}

/// People under way at a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnderWay {
    /// The target.
    pub target: TargetId,
    /// The rollout.
    pub rollout: RolloutId,
    /// The wave.
    pub wave: Option<WaveNumber>,
    /// How many.
    pub people: u64,
}

impl UnderWay {
    /// Counts people at a place.
    #[must_use]
    pub const fn at(place: Place, people: u64) -> Self {
        Self {
            target: place.target,
            rollout: place.rollout,
            wave: place.wave,
            people,
        }
    }

    /// Returns the place.
    #[must_use]
    pub const fn place(&self) -> Place {
        Place {
            target: self.target,
            rollout: self.rollout,
            wave: self.wave,
        }
    }
}

/// An epoch that a worker has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochSeen {
    /// The epoch.
    pub epoch: Epoch,
    /// When it first said so, by the clock of the database: what made the epoch was committed by then.
    pub seen_at: Timestamp,
    /// When it had nothing under way any more that a hold of that epoch or an earlier one covers.
    pub quiet_at: Option<Timestamp>,
}

/// Adds what a worker says now to what it has said before.
///
/// A worker that is quiet is so for every epoch it has seen. The oldest are forgotten first.
pub fn remember(seen: &mut Vec<EpochSeen>, epoch: Epoch, is_quiet: bool, now: Timestamp) {
    if seen.last().is_none_or(|last| last.epoch < epoch) {
        seen.push(EpochSeen {
            epoch,
            seen_at: now,
            quiet_at: None,
        });
    }
    if is_quiet {
        for known in seen.iter_mut() {
            known.quiet_at.get_or_insert(now);
        }
    }
    let surplus = seen.len().saturating_sub(EPOCHS_KEPT);
    seen.drain(..surplus);
}

/// What a worker has said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSaid {
    /// The worker.
    pub id: WorkerId,
    /// What people call it.
    pub name: String,
    /// When it last said something, by the clock of the database.
    pub seen_at: Timestamp,
    /// The epoch that it has seen.
    pub epoch: Epoch,
    /// The epochs that it has seen before, in order, and when.
    pub epochs: Vec<EpochSeen>,
    /// How many people it has under way in all.
    pub in_flight: u64,
    /// Those of them whom a hold covers, by place; `None`: it does not say.
    pub held: Option<Vec<UnderWay>>,
    /// The longest that a request of it takes; `None`: it does not say.
    pub request_millis: Option<u32>,
    /// Whether it has ended, and sends nothing any more.
    pub has_ended: bool,
}

impl WorkerSaid {
    /// Returns how many people it has under way under a scope; all of them when it does not say whom.
    #[must_use]
    pub fn under(&self, scope: &Scope) -> u64 {
        let Some(held) = &self.held else {
            return self.in_flight;
        };
        let covered = held.iter().filter(|held| scope.covers(&held.place()));
        covered.map(|held| held.people).sum()
    }

    /// Returns its first word of an epoch or a later one.
    fn first_of(&self, epoch: Epoch) -> Option<&EpochSeen> {
        self.epochs.iter().find(|seen| seen.epoch >= epoch)
    }

    /// Says whether its first word of an epoch is remembered, and not forgotten or never needed.
    fn came_to(&self, epoch: Epoch) -> bool {
        self.epochs.iter().any(|seen| seen.epoch < epoch)
    }
}

/// Batches of one place that one worker has leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseInForce {
    /// The worker.
    pub owner: WorkerId,
    /// Where.
    pub place: Place,
    /// When the last of them ends.
    pub until: Timestamp,
}

/// What the database knows.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// What the workers have said.
    pub workers: &'a [WorkerSaid],
    /// The leases in force, read after the hold was committed.
    pub leases: &'a [LeaseInForce],
    /// The time, by the clock of the database.
    pub now: Timestamp,
}

/// How a worker stands to a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It knows the hold and has nothing under way under it.
    Acknowledged {
        /// How long after the hold was placed it said so, when that is known.
        after_millis: Option<u64>,
    },
    /// It knows the hold, and begins nothing; what had begun is finishing.
    Sending {
        /// How many people.
        people: u64,
        /// When the last of it is over if nothing more is heard; `None`: not known.
        until: Option<Timestamp>,
    },
    /// It has not said that it knows the hold, and has something to send.
    Silent {
        /// From when it can neither begin a request nor have one under way; `None`: not known.
        until: Option<Timestamp>,
    },
    /// It has not said that it knows the hold, and can send nothing under it.
    CannotSend,
}

impl Standing {
    /// Returns the stable name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Acknowledged { .. } => "acknowledged",
            Self::Sending { .. } => "sending",
            Self::Silent { .. } => "silent",
            Self::CannotSend => "cannot_send",
        }
    }

    /// Says whether it is quiet.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        match self {
            Self::Acknowledged { .. } | Self::CannotSend => true,
            Self::Sending { .. } | Self::Silent { .. } => false,
        }
    }

    /// Returns from when it can send nothing, when that is still to come and known.
    #[must_use]
    pub const fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Sending { until, .. } | Self::Silent { until } => *until,
            Self::Acknowledged { .. } | Self::CannotSend => None,
        }
    }
}

/// One worker, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerJudged {
    /// The worker.
    pub id: WorkerId,
    /// What people call it.
    pub name: String,
    /// The epoch that it has seen, when it has said so.
    pub epoch: Option<Epoch>,
    /// When it was last heard.
    pub seen_at: Option<Timestamp>,
    /// How many people it has under way under the hold, by its last word.
    pub in_flight: u64,
    /// How it stands.
    pub standing: Standing,
}

/// Whether it is quiet under a hold, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quiescence {
    /// Nobody can begin a request under the hold, and none is under way.
    pub quiesced: bool,
    /// Until when something goes on under it by an exemption: it is not quiet until that is closed.
    pub exempt_until: Option<Timestamp>,
    /// The other hold under which all of that stands still, when there is one.
    pub overridden_by: Option<HoldId>,
    /// How many workers have acknowledged it.
    pub confirmed: usize,
    /// The slowest of them, in milliseconds after the hold was placed.
    pub slowest_millis: Option<u64>,
    /// How many people are under way under it, by the last word of every worker.
    pub in_flight: u64,
    /// Every worker that counts.
    pub workers: Vec<WorkerJudged>,
}

/// Judges a hold that is in force.
#[must_use]
pub fn judge(stop: &Stop, facts: &Facts<'_>) -> Quiescence {
    let permits_end = permits_end(stop, facts);
    let mut workers: Vec<WorkerJudged> = facts
        .workers
        .iter()
        .filter(|worker| !worker.has_ended)
        .filter_map(|worker| judge_worker(stop, facts, worker, permits_end))
        .collect();
    workers.extend(unheard(stop, facts));
    let acknowledged = workers.iter().filter_map(|worker| match worker.standing {
        Standing::Acknowledged { after_millis } => Some(after_millis),
        Standing::Sending { .. } | Standing::Silent { .. } | Standing::CannotSend => None,
    });
    let known: Vec<Option<u64>> = acknowledged.collect();
    Quiescence {
        // Nobody known at all is no proof of silence. Whoever was gone before the hold was known.
        quiesced: stop.exempt_until.is_none()
            && !facts.workers.is_empty()
            && workers.iter().all(|worker| worker.standing.is_quiet()),
        exempt_until: stop.exempt_until,
        overridden_by: stop.overridden_by,
        confirmed: known.len(),
        slowest_millis: known.into_iter().flatten().max(),
        in_flight: workers.iter().map(|worker| worker.in_flight).sum(),
        workers,
    }
}

/// From when no permit lives that does not know the hold. Counted from the first word of anybody who has
/// seen it: it was committed by then. The instant it was *placed* is no such thing, for the commit may
/// have taken its time, and permits were read meanwhile.
fn permits_end(stop: &Stop, facts: &Facts<'_>) -> Timestamp {
    let first_words = facts.workers.iter();
    let first_words = first_words.filter_map(|worker| worker.first_of(stop.epoch));
    let committed_by = first_words.map(|seen| seen.seen_at).min();
    let committed_by = committed_by.unwrap_or(facts.now).min(facts.now);
    later(
        committed_by,
        PERMIT_MILLIS.saturating_add(CLOCK_MARGIN_MILLIS),
    )
}

fn later(at: Timestamp, millis: u32) -> Timestamp {
    at.checked_add_signed(TimeDelta::milliseconds(i64::from(millis)))
        .unwrap_or(Timestamp::MAX_UTC)
}

/// Until when a worker has something leased under the hold.
fn leased_until(stop: &Stop, facts: &Facts<'_>, worker: WorkerId) -> Option<Timestamp> {
    let leases = facts.leases.iter();
    leases
        .filter(|lease| lease.owner == worker && stop.scope.covers(&lease.place))
        .map(|lease| lease.until)
        .filter(|until| *until > facts.now)
        .max()
}

/// Judges a worker that has said something; `None` for one that was gone before the hold.
fn judge_worker(
    stop: &Stop,
    facts: &Facts<'_>,
    worker: &WorkerSaid,
    permits_end: Timestamp,
) -> Option<WorkerJudged> {
    let has_seen = worker.epoch >= stop.epoch;
    // Before it knows the hold it does not say who is under way under it.
    let people = if has_seen {
        worker.under(&stop.scope)
    } else {
        0
    };
    let standing = match (has_seen, people) {
        (true, 0) => Standing::Acknowledged {
            after_millis: acknowledged_after(stop, worker),
        },
        // It begins nothing more: what it had under way at its last word takes one timeout.
        (true, people) => {
            let over = worker
                .request_millis
                .map(|request| later(worker.seen_at, request.saturating_add(CLOCK_MARGIN_MILLIS)));
            match over {
                Some(over) if over <= facts.now => Standing::CannotSend,
                until => Standing::Sending { people, until },
            }
        }
        (false, _) => match leased_until(stop, facts, worker.id) {
            None => Standing::CannotSend,
            Some(leased) => {
                let over = worker
                    .request_millis
                    .map(|request| later(permits_end, request));
                let until = over.map_or(leased, |over| over.min(leased));
                if until <= facts.now {
                    Standing::CannotSend
                } else {
                    Standing::Silent { until: Some(until) }
                }
            }
        },
    };
    let silent = (stop.placed_at - worker.seen_at).num_milliseconds();
    if standing == Standing::CannotSend && silent > GONE_MILLIS {
        return None;
    }
    Some(WorkerJudged {
        id: worker.id,
        name: worker.name.clone(),
        epoch: Some(worker.epoch),
        seen_at: Some(worker.seen_at),
        in_flight: if standing.is_quiet() { 0 } else { people },
        standing,
    })
}

/// Judges whoever has leases and has said nothing: the lease alone bounds it.
fn unheard(stop: &Stop, facts: &Facts<'_>) -> Vec<WorkerJudged> {
    let mut owners: Vec<WorkerId> = facts.leases.iter().map(|lease| lease.owner).collect();
    owners.sort_unstable();
    owners.dedup();
    owners.retain(|owner| facts.workers.iter().all(|worker| worker.id != *owner));
    let judged = owners.into_iter().filter_map(|owner| {
        let until = leased_until(stop, facts, owner)?;
        Some(WorkerJudged {
            id: owner,
            name: owner.to_string(),
            epoch: None,
            seen_at: None,
            in_flight: 0,
            standing: Standing::Silent { until: Some(until) },
        })
    });
    judged.collect()
}

/// How long after the hold a worker acknowledged it; nothing for one that began after the hold.
fn acknowledged_after(stop: &Stop, worker: &WorkerSaid) -> Option<u64> {
    if !worker.came_to(stop.epoch) {
        return None;
    }
    let quiet_at = worker.first_of(stop.epoch)?.quiet_at;
    let after = (quiet_at.unwrap_or(worker.seen_at) - stop.placed_at).num_milliseconds();
    Some(u64::try_from(after).unwrap_or(0))
}

impl Quiescence {
    /// Returns from when nobody can send, when it is not quiet yet and that is known.
    #[must_use]
    pub fn quiet_by(&self) -> Option<Timestamp> {
        if self.exempt_until.is_some() {
            return None;
        }
        let loud = || {
            self.workers
                .iter()
                .filter(|worker| !worker.standing.is_quiet())
        };
        let until = |worker: &WorkerJudged| worker.standing.until();
        if loud().any(|worker| until(worker).is_none()) {
            return None;
        }
        loud().filter_map(until).max()
    }

    /// Says it in one line, for whoever waits.
    #[must_use]
    pub fn sentence(&self) -> String {
        let of = self.workers.len();
        let noun = if of == 1 { "worker" } else { "workers" };
        if let Some(until) = self.exempt_until {
            let until = instant(until);
            if let Some(hold) = self.overridden_by {
                return format!(
                    "not judged by itself before {until}: what an exemption lets go on under it stands still under \
                     hold `{hold}`, which says who can still send"
                );
            }
            return format!("not quiet: an exemption lets named waves go on until {until}");
        }
        let mut text = format!("{} of {of} {noun} confirmed", self.confirmed);
        if let Some(slowest) = self.slowest_millis {
            text.push_str(&format!(", slowest {}", span(slowest)));
        }
        for worker in &self.workers {
            let name = &worker.name;
            match worker.standing {
                Standing::Acknowledged { .. } => {}
                Standing::CannotSend => {
                    text.push_str(&format!("; `{name}` is silent and cannot send"));
                }
                Standing::Sending {
                    people: count,
                    until,
                } => {
                    let under_way = people(count);
                    text.push_str(&format!("; `{name}` still has {under_way} under way"));
                    text.push_str(&at_the_latest(until));
                }
                Standing::Silent { until } => {
                    text.push_str(&format!("; `{name}` is silent and can send"));
                    text.push_str(&at_the_latest(until));
                }
            }
        }
        text
    }
}

fn at_the_latest(until: Option<Timestamp>) -> String {
    // Rounded up: a second early would be a lie.
    let shown = until.map(|until| later(until, 999).format("%H:%M:%SZ"));
    shown.map_or_else(
        || ", nobody knows until when".to_owned(),
        |shown| format!(" until {shown} at the latest"),
    )
}

/// Writes how long something took: `41 ms`, `1.4 s`.
fn span(millis: u64) -> String {
    if millis < 1000 {
        return format!("{millis} ms");
    }
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}

#[cfg(test)]
mod tests;
