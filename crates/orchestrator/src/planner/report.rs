//! Why it moves, or why it does not: one line per thing to know, each a stable code and a sentence.
//!
//! A report is never empty. Whoever is woken at three in the morning reads the first line.

mod kept;
mod line;

pub use self::line::ReportLine;
use super::advance::{has_shown, is_stopped_by_gate, next_pending};
use super::snapshot::{Snapshot, Wave};
use crate::hold::{Exemption, InForce};
use crate::ids::{Timestamp, WaveNumber};
use crate::ledger::SlotState;
use crate::rollout::{Lifecycle, Rollout, WaveStatus};
use crate::wave::gate::{Condition, Judgement, Outcome};
use crate::wave::window::WindowState;

/// Why a rollout moves or does not. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// When this was found.
    pub evaluated_at: Timestamp,
    /// What there is to know, the most important first.
    pub lines: Vec<ReportLine>,
}

impl Report {
    /// Returns the one line that says why nothing moves; `None` while something does.
    #[must_use]
    pub fn why_not_now(&self) -> Option<&ReportLine> {
        let stops = |line: &&ReportLine| {
            matches!(
                line,
                ReportLine::Held { wave: None, .. } | ReportLine::GateFailed { .. }
            )
        };
        let is_exempt = self
            .lines
            .iter()
            .any(|line| matches!(line, ReportLine::Exempt { .. }));
        let moves = self.lines.iter().any(ReportLine::is_movement);
        if is_exempt && moves {
            return None;
        }
        if let Some(stop) = self.lines.iter().find(stops) {
            return Some(stop);
        }
        if moves {
            return None;
        }
        self.lines.first()
    }
}

pub(super) fn report(snapshot: &Snapshot<'_>, rollout: &Rollout, now: Timestamp) -> Report {
    let lines = match &rollout.lifecycle {
        Lifecycle::Draft {} => vec![ReportLine::Draft],
        Lifecycle::Planned { .. } => vec![ReportLine::Planned],
        Lifecycle::Preparing { next, .. } => {
            let mut lines = rollout_holds(snapshot, now);
            lines.push(ReportLine::Preparing { wave: next.wave });
            lines
        }
        Lifecycle::Running { .. } => running(snapshot, rollout, now),
        Lifecycle::Completed { at, .. } => vec![ReportLine::Completed { at: *at }],
        Lifecycle::Cancelled { at, reason, .. } => vec![ReportLine::Cancelled {
            at: *at,
            reason: reason.clone(),
        }],
    };
    Report {
        evaluated_at: now,
        lines,
    }
}

fn rollout_holds(snapshot: &Snapshot<'_>, now: Timestamp) -> Vec<ReportLine> {
    let own = snapshot.own_gate_hold().map(|hold| hold.id);
    let covering = snapshot.holds.covering(&snapshot.place);
    let mut holds: Vec<_> = covering.filter(|hold| Some(hold.id) != own).collect();
    if snapshot.takes_back {
        // All of its waves go on under the holds that it is exempt from: those are no reason for anything.
        let stopping = snapshot.holds.stopping(&snapshot.place, now);
        let stopping: Vec<_> = stopping.map(|hold| hold.id).collect();
        holds.retain(|hold| stopping.contains(&hold.id));
    }
    holds.sort_by_key(|hold| (std::cmp::Reverse(hold.kind), hold.since, hold.id));
    let line = |hold: &InForce| ReportLine::Held {
        hold: hold.clone(),
        wave: None,
    };
    holds.into_iter().map(line).collect()
}

fn exempt(exemption: &Exemption) -> ReportLine {
    ReportLine::Exempt {
        waves: exemption.waves.clone(),
        until: exemption.until,
    }
}

fn running(snapshot: &Snapshot<'_>, rollout: &Rollout, now: Timestamp) -> Vec<ReportLine> {
    let mut lines: Vec<ReportLine> = snapshot.exemptions(now).map(exempt).collect();
    lines.extend(rollout_holds(snapshot, now));
    let is_held = snapshot.held(None, now).is_some();
    if let Some(until) = snapshot.target_closed_until.filter(|until| *until > now) {
        lines.push(ReportLine::TargetClosed { until });
    }
    let stops = is_held || is_stopped_by_gate(rollout);
    let next = next_pending(rollout);
    for wave in snapshot.waves_of(rollout) {
        let held = snapshot.held(Some(wave.number), now);
        if let Some(hold) = held
            && hold.scope.wave().is_some()
            && wave.progress.status != (WaveStatus::Passed {})
        {
            lines.push(ReportLine::Held {
                hold: hold.clone(),
                wave: Some(wave.number),
            });
            continue;
        }
        lines.extend(parked(snapshot, wave));
        lines.extend(wave_line(rollout, wave, next, now).filter(|line| {
            // What would move is no news while it may not.
            !((stops || held.is_some()) && line.is_movement())
        }));
    }
    if !stops && next.is_none() {
        lines.extend(behind(rollout));
    }
    if lines.is_empty() {
        lines.extend(snapshot.own_gate_hold().map(|hold| ReportLine::Held {
            hold: hold.clone(),
            wave: None,
        }));
    }
    lines
}

/// Whom holds on some people of a wave keep back: those that keep nobody are no reason for anything.
fn parked(snapshot: &Snapshot<'_>, wave: Wave<'_>) -> Option<ReportLine> {
    let people = wave.facts.parked();
    let holds = snapshot.holds.partial(snapshot.place.rollout, wave.number);
    let mut holds: Vec<_> = holds.filter(|hold| hold.keeps != Some(0)).collect();
    holds.sort_by_key(|hold| (std::cmp::Reverse(hold.kind), hold.since, hold.id));
    (people > 0).then(|| ReportLine::Parked {
        wave: wave.number,
        people,
        holds: holds.into_iter().cloned().collect(),
    })
}

/// The next wave that has never been open, when it waits for an earlier one.
fn behind(rollout: &Rollout) -> Option<ReportLine> {
    let (waits_for, _) = rollout
        .numbered()
        .find(|(_, wave)| wave.status != WaveStatus::Passed {})?;
    let (wave, _) = rollout
        .numbered()
        .find(|(number, wave)| *number > waits_for && wave.status == WaveStatus::Pending {})?;
    Some(ReportLine::Behind { wave, waits_for })
}

fn wave_line(
    rollout: &Rollout,
    wave: Wave<'_>,
    next: Option<WaveNumber>,
    now: Timestamp,
) -> Option<ReportLine> {
    let number = wave.number;
    let left = wave.facts.to_begin() - wave.facts.parked();
    let is_kept = wave.facts.parked() > 0;
    if wave.facts.taking_back && left > 0 {
        return Some(ReportLine::TakenBack { wave: number, left });
    }
    match &wave.progress.status {
        WaveStatus::Pending {} if next == Some(number) => Some(waiting(wave)),
        WaveStatus::Pending {} | WaveStatus::Passed {} => None,
        // Everybody but those who are kept back has been begun: those are named, and nobody waits for a worker.
        WaveStatus::Open {} if is_kept && left == 0 && wave.facts.on_the_way() == 0 => None,
        WaveStatus::Open {} => Some(open(wave, now)),
        WaveStatus::Waiting {} => Some(waiting(wave)),
        // Everybody has answered: that it is not noted is for a hold, which is what there is to say. Who came back to the
        // queue is begun as in an open wave.
        WaveStatus::Draining { .. }
            if wave.facts.on_the_way() + wave.facts.counts().unknown == 0 =>
        {
            (left > 0).then(|| open(wave, now))
        }
        WaveStatus::Draining { until } => Some(ReportLine::Silent {
            wave: number,
            people: wave.facts.on_the_way() + wave.facts.counts().unknown,
            until: *until,
        }),
        // A rest that is over, and not noted, is over under a hold, which is what there is to say.
        WaveStatus::Soaking { until } => (*until > now).then_some(ReportLine::Soaking {
            wave: number,
            until: *until,
        }),
        WaveStatus::Gated {} => Some(gated(rollout, wave, now)),
        WaveStatus::Failed { sentence, .. } => Some(ReportLine::GateFailed {
            wave: number,
            because: sentence.clone(),
        }),
        WaveStatus::Retrying {} => Some(ReportLine::Retrying {
            wave: number,
            people: wave.facts.tally.get(SlotState::Failed),
        }),
    }
}

fn waiting(wave: Wave<'_>) -> ReportLine {
    match &wave.facts.window {
        WindowState::Open { .. } => ReportLine::OpensNext { wave: wave.number },
        WindowState::Closed { next, because } => ReportLine::WindowClosed {
            wave: wave.number,
            next: *next,
            because: because.clone(),
        },
    }
}

fn open(wave: Wave<'_>, now: Timestamp) -> ReportLine {
    let number = wave.number;
    let facts = wave.facts;
    let in_flight = facts.tally.get(SlotState::InFlight);
    let left = facts.to_begin() - facts.parked();
    if in_flight > 0 {
        return ReportLine::Moving {
            wave: number,
            in_flight,
            left,
        };
    }
    if let Some(tranche) = wave.progress.tranche
        && facts.taken() >= tranche.people
    {
        let people = tranche.people;
        let rest = wave.tranche_rest();
        let Some(rest) = rest.filter(|_| has_shown(wave, tranche, now)) else {
            return ReportLine::TrancheUndecided {
                wave: number,
                people,
            };
        };
        let until = rest.after(tranche.since);
        if until > now {
            return ReportLine::TrancheRests {
                wave: number,
                people,
                until,
            };
        }
    }
    match facts.ready_at.filter(|at| *at > now) {
        Some(until) => ReportLine::PutOff {
            wave: number,
            people: left,
            until,
        },
        None => ReportLine::Ready { wave: number, left },
    }
}

fn gated(rollout: &Rollout, wave: Wave<'_>, now: Timestamp) -> ReportLine {
    let number = wave.number;
    let judgement = wave.facts.judge(rollout, wave.progress, now);
    let because = judgement.worst().map_or_else(
        || "nothing has been judged".to_owned(),
        |finding| finding.sentence.clone(),
    );
    if judgement.lacks_only_approvals() {
        return ReportLine::ApprovalMissing {
            wave: number,
            because,
        };
    }
    if judgement.outcome() == Outcome::NoEvidence {
        return ReportLine::NoEvidence {
            wave: number,
            because,
        };
    }
    if wave.facts.counts().open == 0
        && let Some(because) = missed(&judgement)
    {
        return ReportLine::MissedGoal {
            wave: number,
            because,
            failed: wave.facts.tally.get(SlotState::Failed),
        };
    }
    ReportLine::Undecided {
        wave: number,
        because,
    }
}

/// The goal of a wave in which everybody has been decided, and which has not shown it.
fn missed(judgement: &Judgement) -> Option<String> {
    let finding = judgement.findings.iter().find(|finding| {
        finding.condition == Condition::Success && finding.outcome != Outcome::Pass
    })?;
    Some(finding.sentence.clone())
}
