//! The closed table of what is told: an action of the audit trail, and the type of its event.
//!
//! What is in neither table is nobody's decision yet; a test reads the sources and says so.

/// What an action of the trail is told as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The action of the trail.
    pub action: &'static str,
    /// The type of the event, after [`PREFIX`].
    pub name: &'static str,
    /// What happened, for people.
    pub says: &'static str,
}

/// What the type of every event begins with.
pub const PREFIX: &str = "dev.tidegate.";
/// The type of the event that only tries out whether an endpoint answers.
pub const TEST: &str = "dev.tidegate.endpoint.test";

const fn kind(action: &'static str, name: &'static str, says: &'static str) -> Kind {
    Kind { action, name, says }
}

/// Everything that is told.
pub const TOLD: &[Kind] = &[
    kind("hold.place", "hold.placed", "a hold was placed"),
    kind("hold.join", "hold.joined", "a hold was asked for again"),
    kind(
        "hold.worsen",
        "hold.worsened",
        "what a rule holds for is worse by now",
    ),
    kind(
        "hold.narrow",
        "hold.narrowed",
        "a hold keeps back those it means, and nobody else",
    ),
    kind(
        "hold.widen",
        "hold.widened",
        "a hold keeps back its whole wave again",
    ),
    kind(
        "hold.review_due",
        "hold.review_due",
        "the review of a hold is overdue",
    ),
    kind(
        "hold.review",
        "hold.reviewed",
        "somebody has looked at a hold, and it stays",
    ),
    kind("hold.owner", "hold.handed_over", "a hold has another owner"),
    kind("hold.release", "hold.released", "a hold was released"),
    kind(
        "hold.lift",
        "hold.lifted",
        "a hold was lifted by its own rule",
    ),
    kind("hold.end", "hold.ended", "the hold of a gate has ended"),
    kind(
        "release.request",
        "release.requested",
        "somebody asks for the release of a halt",
    ),
    kind(
        "release.approve",
        "release.approved",
        "somebody said yes to the release of a halt",
    ),
    kind(
        "release.veto",
        "release.vetoed",
        "the release of a halt was refused",
    ),
    kind(
        "emergency.ask",
        "emergency.asked",
        "somebody asks to go on under a halt",
    ),
    kind(
        "emergency.confirm",
        "emergency.confirmed",
        "waves go on under a halt, for a time",
    ),
    kind(
        "emergency.end",
        "emergency.ended",
        "going on under a halt was ended",
    ),
    kind(
        "emergency.review",
        "emergency.reviewed",
        "an emergency was looked back at",
    ),
    kind(
        "exemption.begin",
        "exemption.begun",
        "a rollout goes on under named holds",
    ),
    kind(
        "exemption.end",
        "exemption.ended",
        "going on under named holds is over",
    ),
    kind(
        "rollout.started",
        "rollout.started",
        "a rollout has started",
    ),
    kind(
        "rollout.went_on",
        "rollout.went_on",
        "a rollout goes on, small at first",
    ),
    kind(
        "rollout.completed",
        "rollout.completed",
        "every wave of a rollout has passed",
    ),
    kind(
        "rollout.cancelled",
        "rollout.cancelled",
        "a rollout was ended for good",
    ),
    kind(
        "policy.review",
        "policy.review",
        "a rule puts what was reported before people; nothing is held",
    ),
    kind("wave.opened", "wave.opened", "a wave was opened"),
    kind("wave.passed", "wave.passed", "the gate of a wave passed"),
    kind(
        "wave.gate_failed",
        "wave.gate_failed",
        "the gate of a wave failed",
    ),
    kind(
        "wave.approved",
        "wave.approved",
        "somebody said yes to what a wave has shown",
    ),
    kind(
        "wave.retry_began",
        "wave.retry_began",
        "the failed of a wave are tried again",
    ),
    kind(
        "wave.reopened",
        "wave.reopened",
        "a wave has people to begin again",
    ),
    kind(
        "revert.request",
        "revert.requested",
        "somebody asks to take people back",
    ),
    kind(
        "revert.approve",
        "revert.approved",
        "somebody said yes to taking people back",
    ),
    kind(
        "revert.start",
        "revert.started",
        "people are being taken back",
    ),
    kind(
        "policy.propose",
        "policy.proposed",
        "a version of a policy set was proposed",
    ),
    kind(
        "policy.approve",
        "policy.approved",
        "somebody said yes to a version of a policy set",
    ),
    kind(
        "policy.activate",
        "policy.activated",
        "a version of a policy set decides from now on",
    ),
    kind("source.blind", "source.blind", "a source has fallen silent"),
    kind("source.heard", "source.heard", "a source is heard again"),
    kind(
        "endpoint.dead",
        "endpoint.dead",
        "an endpoint has not answered for days and is told nothing more",
    ),
    kind(
        "endpoint.gone",
        "endpoint.gone",
        "an endpoint said that it is gone and is told nothing more",
    ),
    kind(
        "endpoint.skip",
        "endpoint.skipped",
        "an event that an endpoint does not take was left out",
    ),
    kind(
        "endpoint.revive",
        "endpoint.revived",
        "an endpoint is told again what happens",
    ),
];

/// Returns what an action is told as, if it is told.
#[must_use]
pub fn of(action: &str) -> Option<Kind> {
    TOLD.iter().find(|kind| kind.action == action).copied()
}

/// Returns the actions whose events have one of these types; of none, every action that is told.
#[must_use]
pub fn actions(types: &[String]) -> Vec<&'static str> {
    let wanted = |kind: &&Kind| types.is_empty() || types.iter().any(|name| kind.is(name));
    TOLD.iter().filter(wanted).map(|kind| kind.action).collect()
}

impl Kind {
    /// Returns the type of the event.
    #[must_use]
    pub fn event_type(self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// Says whether this is the name of a type, with or without what every type begins with.
    #[must_use]
    pub fn is(self, name: &str) -> bool {
        name.strip_prefix(PREFIX).unwrap_or(name) == self.name
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// What is written down and told to nobody: bookkeeping, refused steps, and what only sets something up.
    const UNTOLD: &[&str] = &[
        // Whether it is heard is told, and these are a part of why.
        "source.stopped",
        "source.enabled",
        "source.poll",
        "source.refused",
        "endpoint.create",
        "endpoint.revoke",
        "endpoint.test",
        "emergency.refused",
        "hold.let_go",
        "hold.preflight",
        "hold.refused",
        "release.refused",
        "release.terms",
        "requirement.add",
        "requirement.edit",
        "requirement.evidence",
        "requirement.verify",
        "requirement.waive",
        "revert.refused",
        "rollout.create",
        "rollout.drift_measured",
        "rollout.planned",
        "rollout.prepared",
        "rollout.prepared_to",
        "rollout.rebased",
        "rollout.revised",
        "source.create",
        "source.revoke",
        "wave.drained",
        "wave.soak_began",
        "wave.soak_ended",
        "wave.tranche_grown",
        "wave.window_closed",
    ];

    /// Every text of the form `"hold.place"` in a file whose first part is that of something told.
    fn written(text: &str, found: &mut BTreeSet<String>) {
        let about: BTreeSet<&str> = TOLD
            .iter()
            .filter_map(|kind| kind.action.split('.').next())
            .chain(["requirement"])
            .collect();
        for part in text.split('"').skip(1).step_by(2) {
            let is_action = part.split_once('.').is_some_and(|(first, rest)| {
                let plain = |letter: char| letter.is_ascii_lowercase() || letter == '_';
                about.contains(first) && !rest.is_empty() && rest.chars().all(plain)
            });
            if is_action {
                found.insert(part.to_owned());
            }
        }
    }

    fn read(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, found);
            } else if path.ends_with("tests.rs") {
                // What tests make up is not written down.
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                written(text.split("#[cfg(test)]").next().unwrap(), found);
            }
        }
    }

    #[test]
    fn every_action_about_a_stop_is_told_or_left_out_on_purpose() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = BTreeSet::new();
        for folder in ["src/operations", "src/tasks", "../orchestrator/src/rollout"] {
            read(&root.join(folder), &mut found);
        }
        assert!(
            found.len() > 50,
            "the test looks in the wrong place: {found:?}"
        );
        let undecided: Vec<_> = found
            .iter()
            .filter(|action| of(action).is_none() && !UNTOLD.contains(&action.as_str()))
            .collect();
        assert!(
            undecided.is_empty(),
            "tell it, or say why not: {undecided:?}"
        );
        let both: Vec<_> = UNTOLD
            .iter()
            .filter(|action| of(action).is_some())
            .collect();
        assert!(both.is_empty(), "{both:?}");
    }

    #[test]
    fn no_type_and_no_action_is_there_twice() {
        let names: BTreeSet<_> = TOLD.iter().map(|kind| kind.name).collect();
        let actions: BTreeSet<_> = TOLD.iter().map(|kind| kind.action).collect();
        assert_eq!((names.len(), actions.len()), (TOLD.len(), TOLD.len()));
    }

    #[test]
    fn no_types_are_all_types() {
        assert_eq!(actions(&[]).len(), TOLD.len());
        let two = [
            "hold.placed".to_owned(),
            "dev.tidegate.hold.released".to_owned(),
        ];
        assert_eq!(actions(&two), ["hold.place", "hold.release"]);
    }
}
