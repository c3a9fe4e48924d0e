//! Which pauses `resume` lets go of, who would go on then, and what would still keep the others.

use tidegate_orchestrator::sentence::people;

use super::screen::{count, instant, settled};
use crate::operations::emergency::EmergencyView;
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

/// The waves that go on under a halt although it stands, and until when somebody said so.
fn let_go_on(emergencies: &[EmergencyView], halt: &HoldView) -> Option<String> {
    let running = emergencies
        .iter()
        .filter(|one| one.standing == "running" && one.holds.contains(&halt.id));
    let said: Vec<String> = running
        .map(|one| {
            let waves: Vec<String> = one.waves.iter().map(ToString::to_string).collect();
            let until = one
                .until
                .map_or_else(String::new, |until| format!(" until {}", instant(until)));
            format!(
                "wave {} under the emergency of incident {}{until}",
                waves.join(", "),
                one.incident
            )
        })
        .collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// Says what `resume` would come to.
#[must_use]
pub fn preview(view: &RolloutView, emergencies: &[EmergencyView]) -> String {
    let pauses: Vec<String> = lifted(view).map(named).collect();
    let pauses = match pauses.is_empty() {
        true => "no pause of its own is in force".to_owned(),
        false => format!("would let go of {}", pauses.join("; ")),
    };
    let rest = || in_force(view).filter(|hold| !is_lifted(view, hold));
    let is_wide = |hold: &&HoldView| hold.scope.scope_type != "wave";
    // What takes people back goes on under the holds that its approval named.
    let is_exempt = view.takes_back.is_some() && view.status == "running";
    let is_let_go = |hold: &HoldView| is_exempt || let_go_on(emergencies, hold).is_some();
    let stops = rest().filter(is_wide).find(|hold| !is_let_go(hold));
    let exempted = rest().filter(is_wide).find(|_| !is_exempt);
    let wide = stops.or(exempted);
    let who = match (wide, view.lifecycle.as_str()) {
        (Some(hold), _) => match let_go_on(emergencies, hold) {
            Some(waves) => format!("nobody would go on but {waves}: {} stays", named(hold)),
            None => format!("nobody would go on: {} stays", named(hold)),
        },
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

/// What `resume` came to, before each pause that it let go is named.
#[must_use]
pub fn said(name: &str, status: &str, let_go: usize) -> String {
    let is_still = ["halted", "held", "paused"].contains(&status);
    match (let_go, is_still) {
        (0, true) => format!(
            "resume: no pause of its own was in force on `{name}`; it is {status}: `tidegate hold list` says by whom"
        ),
        (0, false) => {
            format!("resume: no pause of its own was in force on `{name}`; it is {status}")
        }
        (_, true) => format!(
            "resume: the pauses on `{name}` are released; it is still {status}: `tidegate hold list` says by whom"
        ),
        (_, false) => format!("resume: `{name}` is {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_resume_came_to_does_not_contradict_itself() {
        let none = said("move", "halted", 0);
        assert!(
            none.contains("no pause of its own was in force") && !none.contains("released"),
            "{none}"
        );
        assert!(said("move", "halted", 1).contains("are released; it is still halted"));
        assert_eq!(said("move", "running", 1), "resume: `move` is running");
    }
}
