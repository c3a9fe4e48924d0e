//! How a rollout stands: from rows as many as it has waves and holds, never from its people.

use tidegate_orchestrator::hold::{HoldKind, Place, review};
use tidegate_orchestrator::ids::{HoldId, Timestamp, WaveNumber};
use tidegate_orchestrator::ledger::{SlotState, Tally};
use tidegate_orchestrator::planner::{ReportLine, step};
use tidegate_orchestrator::rollout::{Lifecycle, WaveStatus};

use super::view::{
    Counts, GateLine, PopulationRef, Reason, ReportLine as LineView, ReportView, RolloutView,
    TargetRef, WaveView,
};
use super::{OperationError, hold, load, revert};
use crate::app::App;
use crate::store::hold as holds;
use crate::store::rollout::RolloutRow;

/// How often a rollout is looked at again that changes while it is looked at.
const LOOKS: u32 = 3;

/// Returns how a rollout stands.
///
/// # Errors
///
/// When the store cannot be reached or a record is damaged.
pub async fn of(app: &App, row: &RolloutRow) -> Result<RolloutView, OperationError> {
    let db = app.store.read();
    let mut seen = load::seen(app, db, row.clone(), app.clock.now()).await?;
    for _ in 1..LOOKS {
        // A change in the middle would show new holds beside old waves.
        if seen.standing.generation == seen.row.generation {
            break;
        }
        let row = load::row(app, row.id).await?;
        seen = load::seen(app, db, row, app.clock.now()).await?;
    }
    show(app, seen).await
}

async fn show(app: &App, seen: load::Seen) -> Result<RolloutView, OperationError> {
    let (row, now) = (&seen.row, seen.now);
    let rows = || seen.standing.waves.iter().map(|(wave, _)| wave);
    let report = step(&seen.snapshot(), now).report;
    let covering = covering(app, &seen).await?;
    let tally = rows().fold(Tally::ZERO, |sum, row| sum.plus(&row.tally));
    let adopted: u64 = rows().map(|row| row.adopted).sum();
    let mut totals = counts(&tally, adopted);
    let people = seen.plan.as_ref().map_or(0, |plan| plan.people);
    totals.insert("people".to_owned(), people);
    let since = |line: &ReportLine| {
        let mut views = covering.iter();
        let view = views.find(|view| held_by(line) == Some(view.id))?;
        view.overdue_since
    };
    let why_not_now = report.why_not_now().map(|line| Reason {
        code: line.code().to_owned(),
        sentence: told(line, since(line)),
    });
    let place = Place::rollout(row.target, row.id);
    // A revert goes on under the holds that its approval named.
    let is_exempt = row.reverts.is_some() && load::hold_on(&seen.holds, row, &place, now).is_none();
    let stopping: &[_] = if is_exempt { &[] } else { &covering };
    let status = status(&seen.rollout.lifecycle, stopping);
    let takes_back = revert::takes_back(app.store.read(), row, (&tally, people)).await?;
    let rate = app.meter.per_second(app.clock.moment());
    let is_moving = status == "running" && tally.get(SlotState::InFlight) > 0;
    let rate_per_second = if is_moving { rate } else { 0.0 };
    Ok(RolloutView {
        id: row.id,
        name: row.name.clone(),
        status,
        lifecycle: seen.rollout.lifecycle.name().to_owned(),
        generation: row.generation,
        plan_digest: seen
            .rollout
            .lifecycle
            .plan()
            .map(|plan| plan.digest.to_string()),
        epoch: seen.standing.epoch,
        takes_back,
        population: PopulationRef {
            id: row.population,
            name: seen.standing.population.clone(),
            version_id: seen.plan.as_ref().map(|plan| plan.population_version),
        },
        target: TargetRef {
            id: row.target,
            name: seen.standing.target.clone(),
        },
        holds: covering,
        why_not_now,
        totals,
        waves: waves(&seen, now),
        in_flight: tally.get(SlotState::InFlight),
        rate_per_second,
        expected_end: expected_end(&tally, rate_per_second, now),
        next_wake_at: row.wake_at,
        created_at: row.created_at,
    })
}

/// Returns what the planner sees, line by line.
///
/// # Errors
///
/// When there is no such rollout.
pub async fn report(app: &App, name: &str) -> Result<ReportView, OperationError> {
    let row = load::find(app, name).await?;
    let seen = load::seen(app, app.store.read(), row, app.clock.now()).await?;
    let step = step(&seen.snapshot(), seen.now);
    let mut lines = Vec::with_capacity(step.report.lines.len());
    for line in &step.report.lines {
        let since = match held_by(line) {
            Some(id) => holds::hold_load(app.store.read(), id).await?,
            None => None,
        };
        let since = match since {
            Some(row) => row.hold()?.overdue_since(seen.now),
            None => None,
        };
        lines.push(LineView {
            wave: line.wave().map(WaveNumber::get),
            code: line.code().to_owned(),
            sentence: told(line, since),
        });
    }
    Ok(ReportView {
        evaluated_at: step.report.evaluated_at,
        lines,
        wake_at: step.wake_at,
    })
}

/// Returns the hold that a line is about.
fn held_by(line: &ReportLine) -> Option<HoldId> {
    match line {
        ReportLine::Held { hold, .. } => Some(hold.id),
        // The worst of them speaks.
        ReportLine::Parked { holds, .. } => holds.first().map(|hold| hold.id),
        _ => None,
    }
}

/// The sentence of a line; of a hold that nobody looks at with since when.
fn told(line: &ReportLine, overdue_since: Option<Timestamp>) -> String {
    match overdue_since {
        Some(since) => format!("{line}; {}", review::overdue(since)),
        None => line.to_string(),
    }
}

async fn covering(
    app: &App,
    seen: &load::Seen,
) -> Result<Vec<super::view::HoldView>, OperationError> {
    let rollout = Place::rollout(seen.row.target, seen.row.id);
    let ids = seen
        .holds
        .covering(&rollout)
        .chain(seen.holds.within(seen.row.id))
        .map(|hold| hold.id);
    let mut views = Vec::new();
    for id in ids {
        if let Some(row) = holds::hold_load(app.store.read(), id).await? {
            views.push(hold::show(app, &row.hold()?).await?);
        }
    }
    Ok(views)
}

/// Paused and halted are never stored: they follow from the holds.
fn status(lifecycle: &Lifecycle, holds: &[super::view::HoldView]) -> String {
    let under_way = !matches!(
        lifecycle,
        Lifecycle::Completed { .. } | Lifecycle::Cancelled { .. }
    );
    let worst = holds
        .iter()
        .filter(|hold| hold.scope.scope_type != "wave")
        .filter_map(|hold| HoldKind::from_name(&hold.kind))
        .max();
    match (under_way, worst) {
        (true, Some(HoldKind::Halt)) => "halted",
        (true, Some(HoldKind::Pause)) => "paused",
        (true, Some(HoldKind::Gate | HoldKind::Freeze)) => "held",
        _ => lifecycle.name(),
    }
    .to_owned()
}

/// Returns counts under the names of the wire.
#[must_use]
pub fn counts(tally: &Tally, adopted: u64) -> Counts {
    let mut counts: Counts = tally
        .iter()
        .map(|(state, people)| (state.name().to_owned(), people))
        .collect();
    counts.insert("adopted".to_owned(), adopted);
    counts
}

fn waves(seen: &load::Seen, now: Timestamp) -> Vec<WaveView> {
    let Some(plan) = &seen.plan else {
        return Vec::new();
    };
    let mut views = Vec::with_capacity(plan.waves.len());
    for (planned, facts) in plan.waves.iter().zip(&seen.waves) {
        let progress = seen.rollout.wave(planned.number);
        let mut rows = seen.standing.waves.iter().map(|(wave, _)| wave);
        let row = rows.find(|row| row.number == planned.number);
        let judged = progress.filter(|progress| progress.status != WaveStatus::Pending {});
        let gate = judged
            .map(|progress| facts.judge(&seen.rollout, progress, now).findings)
            .unwrap_or_default();
        views.push(WaveView {
            number: planned.number.get(),
            name: planned.name.clone(),
            people: planned.people,
            state: progress
                .map_or("pending", |progress| progress.status.name())
                .to_owned(),
            since: progress
                .filter(|progress| progress.opened_at.is_some())
                .map(|progress| progress.since),
            counts: row.map_or_else(
                || counts(&Tally::ZERO, 0),
                |row| counts(&row.tally, row.adopted),
            ),
            soak_until: progress.and_then(|progress| progress.soak_until()),
            gate: gate
                .into_iter()
                .map(|finding| GateLine {
                    name: finding.condition.name().to_owned(),
                    outcome: finding.outcome.name().to_owned(),
                    sentence: finding.sentence,
                })
                .collect(),
        });
    }
    views
}

/// Returns one wave of a rollout.
///
/// # Errors
///
/// When there is no such rollout or wave.
pub async fn one_wave(app: &App, name: &str, number: u32) -> Result<WaveView, OperationError> {
    let view = of(app, &load::find(app, name).await?).await?;
    let found = view.waves.into_iter().find(|wave| wave.number == number);
    found.ok_or_else(|| OperationError::not_found("wave", number))
}

fn expected_end(tally: &Tally, rate: f64, now: Timestamp) -> Option<Timestamp> {
    if rate < 1.0 {
        return None;
    }
    let left = u32::try_from(tally.total().saturating_sub(tally.settled())).unwrap_or(u32::MAX);
    let seconds = std::time::Duration::try_from_secs_f64(f64::from(left) / rate).ok()?;
    now.checked_add_signed(chrono::TimeDelta::from_std(seconds).ok()?)
}
