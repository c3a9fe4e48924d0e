//! Which pauses `resume` lets go of, who would go on then, and what would still keep the others.

use tidegate_orchestrator::sentence::people;

use super::screen::{count, settled};
use crate::operations::view::{HoldView, RolloutView};

/// Returns the pauses that `resume` releases: those on the rollout itself, its waves, and some of their people.
pub fn lifted(view: &RolloutView) -> impl Iterator<Item = &HoldView> {
    in_force(view).filter(|hold| is_lifted(view, hold))
}

fn in_force(view: &RolloutView) -> impl Iterator<Item = &HoldView> {
    let holds = view.holds.iter();
    holds.filter(|hold| hold.released_at.is_none())
}

fn is_lifted(view: &RolloutView, hold: &HoldView) -> bool {
    let is_own = hold.scope.id.as_deref() == Some(view.id.to_string().as_str());
    let is_of_it = matches!(hold.scope.scope_type.as_str(), "rollout" | "wave");
    hold.kind == "pause" && hold.reported.is_none() && is_own && is_of_it
}

/// Names a hold: what it is, on what, whose and why.
#[must_use]
pub fn named(hold: &HoldView) -> String {
    let (kind, covers, by, reason) = (&hold.kind, &hold.covers, &hold.placed_by, &hold.reason);
    format!("{kind} of {covers}, by {by}: {reason}")
}

/// Says what `resume` would come to.
#[must_use]
pub fn preview(view: &RolloutView) -> String {
    let pauses: Vec<String> = lifted(view).map(named).collect();
    let pauses = match pauses.is_empty() {
        true => "no pause of its own is in force".to_owned(),
        false => format!("would let go of {}", pauses.join("; ")),
    };
    let rest = || in_force(view).filter(|hold| !is_lifted(view, hold));
    let wide = rest().find(|hold| hold.scope.scope_type != "wave");
    let who = match (wide, view.lifecycle.as_str()) {
        (Some(hold), _) => format!("nobody would go on: {} stays", named(hold)),
        (None, "running" | "preparing") => {
            let kept: u64 = view
                .waves
                .iter()
                .map(|wave| {
                    let on_it = || rest().filter(|hold| hold.scope.wave == Some(wave.number));
                    match on_it().any(|hold| !is_of_some(hold)) {
                        true => wave.people.saturating_sub(settled(&wave.counts)),
                        false if on_it().next().is_some() => count(&wave.counts, "parked"),
                        false => 0,
                    }
                })
                .sum();
            let left = count(&view.totals, "people")
                .saturating_sub(settled(&view.totals))
                .saturating_sub(kept);
            let mut who = format!("{} would go on", people(left));
            for hold in rest() {
                who.push_str(&format!("; {} stays", named(hold)));
            }
            who
        }
        (None, other) => format!("nobody would go on: it is {other}"),
    };
    format!(
        "resume of `{}` (now {}): {pauses}; {who}; nothing has changed",
        view.name, view.status
    )
}

/// Says whether a hold has narrowed to some people of its wave.
fn is_of_some(hold: &HoldView) -> bool {
    hold.part.as_ref().is_some_and(|part| part.sorted)
}
