//! Figures for Prometheus, in its text format.

use std::fmt::Write as _;

use axum::extract::State;
use tidegate_orchestrator::ledger::SlotState;

use super::App;
use super::error::Problem;
use crate::operations::{endpoint, rollout, source};
use crate::store::hold;

/// How many rollouts are shown one by one.
const ROLLOUTS_MAX: usize = 200;

/// How many sources are shown one by one.
const SOURCES_MAX: usize = 200;

/// The text of Prometheus: all samples of a family stand together, below what they mean.
#[derive(Default)]
struct Figures(String);

impl Figures {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(
            self.0,
            "# HELP tidegate_{name} {help}\n# TYPE tidegate_{name} {kind}"
        );
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        let _ = writeln!(self.0, "tidegate_{name} {value}");
    }
}

/// Writes the figures.
pub(super) async fn metrics(State(app): State<App>) -> Result<String, Problem> {
    let mut text = Figures::default();
    let meter = &app.meter;
    text.one(
        "outcomes_recorded_total",
        "counter",
        "Outcomes recorded by this process.",
        meter.recorded(),
    );
    text.one(
        "outcomes_refused_total",
        "counter",
        "Outcomes that came too late and were refused.",
        meter.refused(),
    );
    let (turns, micros) = meter.turns();
    text.family(
        "ledger_turn_seconds",
        "summary",
        "Transactions that record outcomes and claim batches.",
    );
    let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
    let _ = writeln!(
        text.0,
        "tidegate_ledger_turn_seconds_sum {seconds}.{rest:06}\ntidegate_ledger_turn_seconds_count {turns}"
    );
    let (epoch, holds) = hold::holds_known(app.store.read(), app.store.hold_cache()).await?;
    text.one("epoch", "gauge", "The epoch of the store.", epoch);
    text.one("holds_in_force", "gauge", "Holds in force.", holds.len());
    let alive = u8::from(app.permit.epoch(app.clock.moment()).is_some());
    text.one(
        "permit_alive",
        "gauge",
        "Whether this process may send.",
        alive,
    );
    endpoints(&app, &mut text).await?;
    text.family(
        "source_refused_total",
        "counter",
        "Messages of sources that this process refused.",
    );
    for ((source, code), count) in app.inbound.refusals.totals() {
        let _ = writeln!(
            text.0,
            "tidegate_source_refused_total{{source=\"{source}\",code=\"{code}\"}} {count}"
        );
    }
    sources(&app, &mut text).await?;
    text.family("people", "gauge", "People of a rollout by state.");
    for view in rollout::list(&app, None, ROLLOUTS_MAX).await?.items {
        let states = view.totals.iter();
        for (state, people) in states.filter(|(name, _)| SlotState::from_name(name).is_some()) {
            let _ = writeln!(
                text.0,
                "tidegate_people{{rollout=\"{}\",state=\"{state}\"}} {people}",
                view.name
            );
        }
    }
    Ok(text.0)
}

/// How telling endpoints goes; one that is dead is told nothing until somebody revives it.
async fn endpoints(app: &App, text: &mut Figures) -> Result<(), Problem> {
    let all = endpoint::list(app).await?;
    let in_use = || all.iter().filter(|one| one.revoked_at.is_none());
    text.family(
        "endpoint_active",
        "gauge",
        "Whether an endpoint is told what happens; 0: it is dead or gone.",
    );
    for one in in_use() {
        let active = u8::from(one.status == "active");
        let _ = writeln!(
            text.0,
            "tidegate_endpoint_active{{endpoint=\"{}\"}} {active}",
            one.name
        );
    }
    text.family(
        "endpoint_failures",
        "gauge",
        "Attempts in a row to tell an endpoint something that failed.",
    );
    for one in in_use() {
        let _ = writeln!(
            text.0,
            "tidegate_endpoint_failures{{endpoint=\"{}\"}} {}",
            one.name, one.failures
        );
    }
    Ok(())
}

/// Writes how it stands with each source in use.
async fn sources(app: &App, text: &mut Figures) -> Result<(), Problem> {
    let mut sources = source::list(app).await?;
    sources.retain(|source| source.revoked_at.is_none());
    sources.truncate(SOURCES_MAX);
    text.family("source_blind", "gauge", "Whether a source is blind.");
    for one in &sources {
        let is_blind = u8::from(one.blind_since.is_some());
        let _ = writeln!(
            text.0,
            "tidegate_source_blind{{source=\"{}\"}} {is_blind}",
            one.name
        );
    }
    let help = "What a source that is asked has answered and was not taken.";
    text.family("source_answers_refused_total", "counter", help);
    for one in &sources {
        let count = one.refused.as_ref().map_or(0, |refused| refused.count);
        let _ = writeln!(
            text.0,
            "tidegate_source_answers_refused_total{{source=\"{}\"}} {count}",
            one.name
        );
    }
    Ok(())
}
