//! Figures for Prometheus, in its text format.

use std::fmt::Write as _;

use axum::extract::State;

use super::App;
use super::error::Problem;
use crate::operations::rollout;
use crate::store::hold;

/// How many rollouts are shown one by one.
const ROLLOUTS_MAX: usize = 200;

/// Writes the figures.
pub(super) async fn metrics(State(app): State<App>) -> Result<String, Problem> {
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, kind: &str| {
        let _ = writeln!(
            text,
            "# HELP tidegate_{name} {help}\n# TYPE tidegate_{name} {kind}"
        );
    };
    gauge(
        "outcomes_recorded_total",
        "Outcomes recorded by this process.",
        "counter",
    );
    gauge(
        "outcomes_refused_total",
        "Outcomes that came too late and were refused.",
        "counter",
    );
    gauge("epoch", "The epoch of the store.", "gauge");
    gauge("permit_alive", "Whether this process may send.", "gauge");
    gauge("holds_in_force", "Holds in force.", "gauge");
    gauge("people", "People of a rollout by state.", "gauge");
    let alive = u8::from(app.permit.epoch(app.clock.moment()).is_some());
    let _ = writeln!(
        text,
        "tidegate_outcomes_recorded_total {}",
        app.meter.recorded()
    );
    let _ = writeln!(
        text,
        "tidegate_outcomes_refused_total {}",
        app.meter.refused()
    );
    let _ = writeln!(
        text,
        "tidegate_epoch {}",
        hold::epoch_load(app.store.read()).await?
    );
    let _ = writeln!(text, "tidegate_permit_alive {alive}");
    let _ = writeln!(
        text,
        "tidegate_holds_in_force {}",
        hold::holds_known(app.store.read(), app.store.hold_cache())
            .await?
            .1
            .len()
    );
    for view in rollout::list(&app, None, ROLLOUTS_MAX).await?.items {
        for (state, people) in &view.totals {
            let _ = writeln!(
                text,
                "tidegate_people{{rollout=\"{}\",state=\"{state}\"}} {people}",
                view.name
            );
        }
    }
    Ok(text)
}
