//! A rollout: what it has promised, how far it has come, and what may be asked of it.
//!
//! `decide` turns a command into events or a refusal, `apply` turns an event into the next state and
//! is total. Nothing here stops anything: holds do, and paused is never a status. The planner
//! (`crate::planner`) makes the events by which waves progress.
//!
//! `record` is the frozen form in which a rollout is stored.

pub mod command;
pub mod event;
pub mod progress;
pub mod record;
pub mod refusal;

use serde::{Deserialize, Serialize};

pub use self::command::Command;
pub use self::event::{Change, Event};
pub use self::progress::{Claims, WaveProgress, WaveStatus};
pub use self::record::RecordError;
pub use self::refusal::Refusal;
use crate::digest::Digest;
use crate::ids::{BatchSeq, PlanId, Principal, Timestamp, WaveNumber};
use crate::plan::Plan;
use crate::wave::ramp::Reentry;

/// The plan a rollout is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRef {
    /// The plan.
    pub id: PlanId,
    /// What `start` and every approval must name.
    pub digest: Digest,
    /// How many waves it has.
    pub waves: u32,
    /// When its first wave was to open, as far as the calendar says.
    pub opens_at: Option<Timestamp>,
    /// Who had it made.
    pub made_by: Principal,
    /// When.
    pub made_at: Timestamp,
}

impl PlanRef {
    /// Refers to a plan that has been compiled and stored.
    ///
    /// Only a schedule makes a start time that can pass: a first wave that may open at any time has none.
    #[must_use]
    pub fn of(id: PlanId, plan: &Plan, made_by: Principal, made_at: Timestamp) -> Self {
        let is_scheduled = plan
            .waves
            .first()
            .is_some_and(|wave| wave.schedule.is_some());
        let first = plan.timeline.first().filter(|_| is_scheduled);
        Self {
            id,
            digest: plan.digest,
            waves: u32::try_from(plan.waves.len()).unwrap_or(u32::MAX),
            opens_at: first.and_then(|expected| expected.opens_at),
            made_by,
            made_at,
        }
    }
}

/// Who started a rollout, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// Who.
    pub by: Principal,
    /// When.
    pub at: Timestamp,
}

/// The first batch that still has to be laid out in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unprepared {
    /// Its wave.
    pub wave: WaveNumber,
    /// Its place in the wave.
    pub seq: BatchSeq,
}

impl Unprepared {
    /// The first batch of every rollout.
    pub const FIRST: Self = Self {
        wave: WaveNumber::FIRST,
        seq: BatchSeq(0),
    };
}

/// How far a rollout has come, holds aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum Lifecycle {
    /// There is a spec and no plan.
    Draft {},
    /// There is a plan to look at, and nothing has been started.
    Planned {
        /// The plan.
        plan: PlanRef,
    },
    /// It is started, and the ledger is being laid out.
    Preparing {
        /// The plan.
        plan: PlanRef,
        /// Who started it, and when.
        started: Started,
        /// Where to go on.
        next: Unprepared,
    },
    /// Waves open, soak and pass.
    Running {
        /// The plan.
        plan: PlanRef,
        /// Who started it, and when.
        started: Started,
    },
    /// Every wave has passed.
    Completed {
        /// The plan.
        plan: PlanRef,
        /// Since when.
        at: Timestamp,
    },
    /// Somebody ended it for good.
    Cancelled {
        /// The plan, if there was one.
        plan: Option<PlanRef>,
        /// Who.
        by: Principal,
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
    },
}

impl Lifecycle {
    /// Returns the stable name of the lifecycle.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Draft {} => "draft",
            Self::Planned { .. } => "planned",
            Self::Preparing { .. } => "preparing",
            Self::Running { .. } => "running",
            Self::Completed { .. } => "completed",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    /// Returns the plan that runs, would run, or ran.
    #[must_use]
    pub const fn plan(&self) -> Option<&PlanRef> {
        match self {
            Self::Draft {} => None,
            Self::Planned { plan }
            | Self::Preparing { plan, .. }
            | Self::Running { plan, .. }
            | Self::Completed { plan, .. } => Some(plan),
            Self::Cancelled { plan, .. } => plan.as_ref(),
        }
    }

    /// Returns who started it, while it is under way.
    #[must_use]
    pub const fn started(&self) -> Option<&Started> {
        match self {
            Self::Preparing { started, .. } | Self::Running { started, .. } => Some(started),
            Self::Draft {}
            | Self::Planned { .. }
            | Self::Completed { .. }
            | Self::Cancelled { .. } => None,
        }
    }

    /// Says whether it has ended for good.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Completed { .. } | Self::Cancelled { .. })
    }
}

/// Everything a rollout remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// How far it has come.
    pub lifecycle: Lifecycle,
    /// One entry per wave of the plan, from the first; empty before the start.
    pub waves: Vec<WaveProgress>,
    /// When a wave was last opened. At most one opens per instant.
    pub last_opened_at: Option<Timestamp>,
    /// Set by a release: the next wave that opens begins small, and nothing else opens until it has grown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reentry: Option<Reentry>,
}

impl Default for Rollout {
    fn default() -> Self {
        Self::new()
    }
}

impl Rollout {
    /// Makes a draft.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lifecycle: Lifecycle::Draft {},
            waves: Vec::new(),
            last_opened_at: None,
            reentry: None,
        }
    }

    /// Says whether any wave has been open: before that, nobody has been moved.
    #[must_use]
    pub fn has_opened(&self) -> bool {
        self.waves.iter().any(|wave| wave.opened_at.is_some())
    }

    /// Returns the progress of one wave.
    #[must_use]
    pub fn wave(&self, number: WaveNumber) -> Option<&WaveProgress> {
        self.waves.get(place(number)?)
    }

    pub(crate) fn wave_mut(&mut self, number: WaveNumber) -> Option<&mut WaveProgress> {
        self.waves.get_mut(place(number)?)
    }

    /// Returns every wave with its number, from the first.
    pub fn numbered(&self) -> impl Iterator<Item = (WaveNumber, &WaveProgress)> {
        (1..).map(WaveNumber).zip(&self.waves)
    }
}

fn place(number: WaveNumber) -> Option<usize> {
    usize::try_from(number.get().checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests;
