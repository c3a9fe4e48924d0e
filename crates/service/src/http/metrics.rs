//! Figures for Prometheus, in its text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::extract::State;
use tidegate_orchestrator::hold::{HoldKind, HoldSet};
use tidegate_orchestrator::ledger::SlotState;

use super::App;
use super::error::Problem;
use crate::operations::{endpoint, rollout, source};
use crate::store::{hold, policy};

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
    let (epoch, holds) = hold::holds_known(&app.store).await?;
    text.one("epoch", "gauge", "The epoch of the store.", epoch);
    text.one("holds_in_force", "gauge", "Holds in force.", holds.len());
    standing(&holds, &mut text);
    let alive = u8::from(app.permit.epoch(app.clock.moment()).is_some());
    text.one(
        "permit_alive",
        "gauge",
        "Whether this process may send.",
        alive,
    );
    endpoints(&app, &mut text).await?;
    let standing = policy::standing(app.store.read()).await?;
    let waiting = standing.seq.saturating_sub(standing.judged_seq);
    let help = "Signals that nobody has judged yet.";
    text.one("signals_waiting", "gauge", help, waiting);
    signals(&app, &mut text);
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

/// Writes what stands, by whose stop it is and by who placed it.
fn standing(holds: &HoldSet, text: &mut Figures) {
    let mut counts = BTreeMap::new();
    for kind in HoldKind::ALL {
        for by in ["rule", "others"] {
            counts.insert((kind, by), 0_u64);
        }
    }
    for hold in holds.iter() {
        let by = if hold.by_rule { "rule" } else { "others" };
        *counts.entry((hold.kind, by)).or_default() += 1;
    }
    let help = "Holds in force, by kind and by who placed them: a rule about what was reported, or anybody else (people, a gate, a calendar).";
    text.family("holds_standing", "gauge", help);
    for ((kind, by), count) in counts {
        let kind = kind.name();
        let _ = writeln!(
            text.0,
            "tidegate_holds_standing{{kind=\"{kind}\",by=\"{by}\"}} {count}"
        );
    }
}

/// Writes what was reported to this process and what it has judged.
fn signals(app: &App, text: &mut Figures) {
    let counts = app.meter.signals();
    let help = "Signals that were new and became durable, by source; `token:…` is who reported by a token.";
    text.family("signals_admitted_total", "counter", help);
    for (source, count) in counts.admitted() {
        let source = label(&source);
        let _ = writeln!(
            text.0,
            "tidegate_signals_admitted_total{{source=\"{source}\"}} {count}"
        );
    }
    let help =
        "Signals that this process judged, by what became of them; unmapped: no rule applied.";
    text.family("signals_judged_total", "counter", help);
    for (outcome, count) in counts.outcomes() {
        let _ = writeln!(
            text.0,
            "tidegate_signals_judged_total{{outcome=\"{outcome}\"}} {count}"
        );
    }
    let help = "From when a signal came until this process had judged it.";
    text.family("signal_judged_seconds", "histogram", help);
    let judged = counts.judged();
    for (millis, count) in judged.within() {
        let bound = seconds(millis);
        let _ = writeln!(
            text.0,
            "tidegate_signal_judged_seconds_bucket{{le=\"{bound}\"}} {count}"
        );
    }
    let (count, sum) = (judged.count, seconds(judged.millis));
    let _ = writeln!(
        text.0,
        "tidegate_signal_judged_seconds_bucket{{le=\"+Inf\"}} {count}\ntidegate_signal_judged_seconds_sum {sum}\ntidegate_signal_judged_seconds_count {count}"
    );
}

fn seconds(millis: u64) -> String {
    format!("{}.{:03}", millis / 1_000, millis % 1_000)
}

/// Writes a value of a label: who may give out tokens names them as they like.
fn label(value: &str) -> String {
    let plain = value.replace('\\', "\\\\").replace('"', "\\\"");
    plain.replace('\n', "\\n")
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
