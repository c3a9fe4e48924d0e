//! The checks before a halt is released, each with a stable code and a sentence, passed or not.
//!
//! They are worked out from `Facts`, twice: when somebody runs a preflight, and inside the transaction that
//! ends the halt. What is merely to be known (people who gave no answer before the halt, another hold) is
//! an item that is passed and says so: whoever approves has read it.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::hold::requirement::Requirement;
use crate::hold::terms::Terms;
use crate::ids::{HoldId, Principal, Timestamp};
use crate::ledger::{SlotState, Tally};
use crate::sentence::{instant, people};

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// The stable code.
    pub code: String,
    /// The sentence for people.
    pub sentence: String,
    /// Whether it is passed.
    pub ok: bool,
}

impl Item {
    /// Makes an item.
    #[must_use]
    pub fn new(code: &str, ok: bool, sentence: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            sentence: sentence.into(),
            ok,
        }
    }
}

/// A target that people would be moved onto again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetFacts {
    /// Its name.
    pub name: String,
    /// When it was checked, with the settings it has now; never: none.
    pub checked_at: Option<Timestamp>,
    /// Whether people can be moved there.
    pub ok: bool,
    /// What was wrong, when something was.
    pub wrong: String,
}

/// A rollout that would go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutFacts {
    /// Its name.
    pub name: String,
    /// The people of the waves that the halt covers, by state.
    pub tally: Tally,
    /// People whose request may still be under way.
    pub sending: u64,
    /// What its population says.
    pub drift: Vec<Item>,
}

/// Another hold that covers the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherHold {
    /// The hold.
    pub id: HoldId,
    /// pause, halt, freeze or gate.
    pub kind: &'static str,
    /// What of it, in words: `some of it too`, `wave 3 of ...`.
    pub covers: String,
}

/// Everything that the checks look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// When the halt was placed.
    pub placed_at: Timestamp,
    /// When somebody must look at it again.
    pub review_at: Option<Timestamp>,
    /// Its owner, when their token was revoked and nobody can be asked.
    pub owner_gone: Option<Principal>,
    /// Its terms.
    pub terms: Terms,
    /// Its requirements.
    pub requirements: Vec<Requirement>,
    /// Whether nobody can send under it.
    pub quiesced: bool,
    /// What goes on under it by an exemption, in words: it is not quiet before that is over.
    pub goes_on: Vec<String>,
    /// The rollouts that would go on.
    pub rollouts: Vec<RolloutFacts>,
    /// Their targets.
    pub targets: Vec<TargetFacts>,
    /// Which other holds cover any of it.
    pub others: Vec<OtherHold>,
    /// Whether something was reported that no rule has looked at yet.
    pub is_unjudged: bool,
}

/// Works the checks out, in the order in which they are shown.
#[must_use]
pub fn items(facts: &Facts, now: Timestamp) -> Vec<Item> {
    let mut items = requirements(&facts.requirements, now);
    items.push(hold_time(facts, now));
    items.push(review(facts.review_at, now));
    if let Some(owner) = &facts.owner_gone {
        let sentence = format!(
            "owner gone: the token of `{owner}` was revoked; `tidegate hold owner` names somebody else"
        );
        // To be known, and no obstacle: who owns it decides nothing about its release.
        items.push(Item::new("owner_gone", true, sentence));
    }
    if facts.is_unjudged {
        let sentence =
            "something was reported that the rules have not looked at yet: ask again in a moment";
        items.push(Item::new("signals_waiting", false, sentence));
    }
    items.push(if facts.quiesced {
        Item::new("quiesced", true, "nobody can send under the halt")
    } else if !facts.goes_on.is_empty() {
        let sentence = format!(
            "not quiet before this is over: {}",
            facts.goes_on.join("; ")
        );
        Item::new("quiesced", false, sentence)
    } else {
        let sentence =
            "requests that had begun before the halt may still be under way: wait for `quiesced`";
        Item::new("quiesced", false, sentence)
    });
    for rollout in &facts.rollouts {
        items.extend(of_rollout(rollout));
    }
    items.extend(facts.targets.iter().map(|target| of_target(target, now)));
    for other in &facts.others {
        let sentence = format!(
            "{} `{}` covers {}, and stays when this halt ends",
            other.kind, other.id, other.covers
        );
        items.push(Item::new("other_hold_stays", true, sentence));
    }
    items
}

fn requirements(all: &[Requirement], now: Timestamp) -> Vec<Item> {
    let blocking = || all.iter().filter(|one| one.blocking);
    let open: Vec<Item> = blocking()
        .filter(|one| !one.is_met(now))
        .map(|one| {
            let ended = one.waiver.as_ref().filter(|waiver| waiver.expires <= now);
            let how = ended.map_or_else(
                || format!("is {} and not verified", one.status.name()),
                |waiver| format!("was waived until {}", instant(waiver.expires)),
            );
            let owner = one.owners.last().map_or("nobody", |owner| owner.as_str());
            let sentence = format!("requirement {} {how}: `{owner}` owns it", one.label());
            Item::new("requirement_open", false, sentence)
        })
        .collect();
    if !open.is_empty() {
        return open;
    }
    let sentence = match blocking().count() {
        0 => "no requirement waits to be met".to_owned(),
        count => format!("all {count} requirements are verified or waived"),
    };
    vec![Item::new("requirements_met", true, sentence)]
}

fn hold_time(facts: &Facts, now: Timestamp) -> Item {
    let until = facts.placed_at + TimeDelta::hours(facts.terms.hold_hours_min.into());
    let ok = now >= until;
    let sentence = if ok {
        "the halt has lasted as long as its terms ask".to_owned()
    } else {
        format!(
            "by its terms the halt lasts until {} at least",
            instant(until)
        )
    };
    Item::new("hold_time", ok, sentence)
}

fn review(review_at: Option<Timestamp>, now: Timestamp) -> Item {
    match review_at.filter(|at| *at <= now) {
        Some(at) => Item::new(
            "review_overdue",
            false,
            format!(
                "the review of {} has not been done: `tidegate hold review` does it",
                instant(at)
            ),
        ),
        None => Item::new("reviews_done", true, "no review is overdue"),
    }
}

fn of_rollout(rollout: &RolloutFacts) -> Vec<Item> {
    let name = &rollout.name;
    let count = |state| rollout.tally.get(state);
    let (unknown, awaiting) = (count(SlotState::Unknown), count(SlotState::Awaiting));
    let lost = count(SlotState::InFlight).saturating_sub(rollout.sending);
    let mut items = Vec::new();
    items.push(if rollout.sending == 0 {
        let sentence = format!("`{name}`: no request is under way");
        Item::new("in_flight_none", true, sentence)
    } else {
        let sentence = format!(
            "`{name}`: {} may be under way until their lease ends",
            people(rollout.sending)
        );
        Item::new("in_flight", false, sentence)
    });
    if unknown + lost + awaiting > 0 {
        let sentence = format!(
            "`{name}`: {} gave no answer and are looked up before anything is sent; {} await confirmation",
            people(unknown + lost),
            people(awaiting)
        );
        items.push(Item::new("unconfirmed_listed", true, sentence));
    }
    let sentence = format!(
        "`{name}`: {} done, {} failed, {} not begun; its gates are measured on these",
        people(count(SlotState::Done)),
        people(count(SlotState::Failed)),
        people(count(SlotState::Queued) + count(SlotState::Parked))
    );
    items.push(Item::new("gates_measured", true, sentence));
    items.extend(rollout.drift.iter().cloned());
    items
}

fn of_target(target: &TargetFacts, now: Timestamp) -> Item {
    let name = &target.name;
    let oldest = now - TimeDelta::minutes(super::release::PREFLIGHT_MINUTES_MAX);
    let fresh = target.checked_at.filter(|at| *at >= oldest);
    match (fresh, target.ok) {
        (Some(at), true) => {
            let sentence = format!(
                "target `{name}` answered at {} with its credential",
                instant(at)
            );
            Item::new("target_ready", true, sentence)
        }
        (Some(_), false) => {
            let sentence = format!("target `{name}` is not ready: {}", target.wrong);
            Item::new("target_not_ready", false, sentence)
        }
        (None, _) => {
            let sentence = format!(
                "no preflight of this hold within an hour looked at target `{name}` with the settings it has now"
            );
            Item::new("target_not_checked", false, sentence)
        }
    }
}
