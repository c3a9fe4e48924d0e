//! What the trail hears of decisions that place nothing: what is worse by now, and what people are to look at.

use serde_json::{Value, json};
use tidegate_orchestrator::ids::{HoldId, TargetId};
use tidegate_policy::rule::Rule;
use tidegate_policy::rule::judge::TargetFacts;
use tidegate_policy::signal::Severity;

use super::deciding::Said;
use super::{Judging, TASK};
use crate::operations::Actor;
use crate::store::audit::Entry;

/// Says whether what is reported of a hold is worse by now. A severity that nobody said is no rank: after it, only what
/// is high is.
pub(super) fn is_worse(before: Severity, now: Severity) -> bool {
    now > before && (before != Severity::Unknown || now >= Severity::High)
}

/// Tells that a hold by a rule stands for something worse than when it was placed.
pub(super) fn worse(
    known: &Judging,
    (rule, facts): (&Rule, &TargetFacts),
    hold: HoldId,
    (change, said): (Value, &Said),
) -> Entry {
    let first = said.first.as_ref().map(|first| &first.signal);
    let mut detail = json!({
        "rule": rule.id, "policy": known.digest, "name": facts.name, "last": said.last,
        "source": first.map(|signal| &signal.source), "title": first.map(|signal| &signal.title),
    });
    if let (Some(detail), Value::Object(change)) = (detail.as_object_mut(), change) {
        detail.extend(change);
    }
    Actor::task(TASK).entry("hold.worsen", format!("hold:{hold}"), detail)
}

/// Tells people what they are to look at: nothing is held.
pub(super) fn for_people(
    known: &Judging,
    rule: &Rule,
    (target, facts): (&TargetId, &TargetFacts),
    said: &Said,
) -> Entry {
    let first = said.first.as_ref().map(|first| &first.signal);
    let detail = json!({
        "rule": rule.id, "says": rule.says, "policy": known.digest, "name": facts.name,
        "signals": said.signals, "worst": said.worst, "first": said.first.as_ref().map(|first| first.seq), "last": said.last,
        "source": first.map(|signal| &signal.source), "title": first.map(|signal| &signal.title),
    });
    Actor::task(TASK).entry("policy.review", format!("target:{target}"), detail)
}
