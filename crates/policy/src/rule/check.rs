//! What a rule may not say, found before it is used.
//!
//! Here is what makes rules safe by construction: a signal added never lowers what a rule says (nothing
//! that counts, and nothing that is about everybody when it is not said, stands under `not`), a rule holds
//! only as much as the trust of its signals allows, and only what can become clear is lifted.

use super::{Counted, Effect, Rule, SignalTest, TextField, Then, When};
use crate::signal::{Severity, SignalKind};
use crate::time::Seconds;

/// How deep conditions may nest.
const DEPTH_MAX: usize = 16;
/// How many parts a condition may have in all.
const PARTS_MAX: usize = 200;
/// How many words a list may have.
pub(crate) const WORDS_MAX: usize = 1000;
/// How much a window may count.
pub(crate) const COUNT_MAX: u32 = 1000;
/// How long a window may be.
const WINDOW_MAX: Seconds = Seconds(31 * 86_400);
/// How long a hold may go without being looked at.
const REVIEW_MAX: Seconds = Seconds(90 * 86_400);
/// How long it may go without being looked at when a rule does not say.
pub const REVIEW_DEFAULT: Seconds = Seconds(30 * 86_400);
/// The longest time a pause may have to be clear.
const CLEAR_MAX: Seconds = Seconds(366 * 86_400);
/// What a requirement can be about, as the requirements of a halt name it.
pub const CATEGORIES: [&str; 6] = [
    "identities_and_secrets",
    "tenants_and_isolation",
    "networks",
    "engineering_systems",
    "monitor_and_detect",
    "respond_and_remediate",
];
/// The seats that people approve in.
pub const GROUPS: [&str; 3] = ["security", "operations", "approvers"];
/// What can become of people already moved.
pub(crate) const MOVED: [&str; 3] = ["keep", "freeze", "revert"];

/// Something a rule may not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where in the rule, such as `when.all[1]`.
    pub path: String,
    /// The stable code.
    pub code: &'static str,
    /// What is wrong and what would be right.
    pub sentence: String,
}

fn problem(path: &str, code: &'static str, sentence: impl Into<String>) -> Problem {
    Problem {
        path: path.to_owned(),
        code,
        sentence: sentence.into(),
    }
}

/// Returns everything that the rule may not say.
#[must_use]
pub fn problems(rule: &Rule) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut parts = 0;
    shape(&rule.when, "when", (0, false), &mut parts, &mut found);
    if parts > PARTS_MAX {
        let sentence = format!("a condition has at most {PARTS_MAX} parts; this has {parts}");
        found.push(problem("when", "too_large", sentence));
    }
    kinds(rule, &mut found);
    trust(rule, &mut found);
    lift(rule, &mut found);
    terms(&rule.then, &mut found);
    found
}

/// Looks at each part: how deep it is, what it stands under, and whether its values make sense.
fn shape(
    when: &When,
    path: &str,
    (depth, under_not): (usize, bool),
    parts: &mut usize,
    found: &mut Vec<Problem>,
) {
    *parts += 1;
    if depth > DEPTH_MAX {
        found.push(problem(path, "too_deep", "this nests too deep"));
        return;
    }
    let below = (depth + 1, under_not || matches!(when, When::Not(_)));
    match when {
        When::All(list) | When::Any(list) => {
            let word = if matches!(when, When::All(_)) {
                "all"
            } else {
                "any"
            };
            if list.is_empty() {
                let sentence = format!("`{word}` of nothing says nothing: name at least one part");
                found.push(problem(path, "empty", sentence));
            }
            for (number, part) in list.iter().enumerate() {
                shape(
                    part,
                    &format!("{path}.{word}[{number}]"),
                    below,
                    parts,
                    found,
                );
            }
        }
        When::Not(part) => shape(part, &format!("{path}.not"), below, parts, found),
        When::Signal(test) => {
            if under_not && is_open(test) {
                let sentence = "this is also true of a signal that names none, so under `not` such a signal would slip through: list what applies instead";
                found.push(problem(path, "not_monotone", sentence));
            }
            if let Some(sentence) = value_problem(test) {
                found.push(problem(path, "value", sentence));
            }
        }
        When::Window(window) => {
            if under_not {
                let sentence = "what counts signals may not stand under `not`: more signals would then hold less";
                found.push(problem(path, "not_monotone", sentence));
            }
            if window.within == Seconds(0) || window.within > WINDOW_MAX {
                found.push(problem(path, "value", "a window lasts from 1s to 31d"));
            }
            if !(1..=COUNT_MAX).contains(&window.at_least) {
                let sentence = format!("a window waits for 1 to {COUNT_MAX}");
                found.push(problem(path, "value", sentence));
            }
        }
        When::SourceBlind if under_not => {
            let sentence = "the silence of a source may not stand under `not`";
            found.push(problem(path, "not_monotone", sentence));
        }
        When::SourceBlind => {}
    }
}

/// Says whether a test is true of a signal that does not say.
const fn is_open(test: &SignalTest) -> bool {
    match test {
        SignalTest::TenantOfTarget
        | SignalTest::Products(_)
        | SignalTest::ProductsOfTarget
        | SignalTest::Text {
            field: TextField::Tenant | TextField::User,
            ..
        } => true,
        SignalTest::Kind(_)
        | SignalTest::Severity { .. }
        | SignalTest::Confidence { .. }
        | SignalTest::Lifecycle(_)
        | SignalTest::Dialect(_)
        | SignalTest::Text { .. }
        | SignalTest::VendorOfTarget
        | SignalTest::Reach(_)
        | SignalTest::Labels(_)
        | SignalTest::Age { .. } => false,
    }
}

fn value_problem(test: &SignalTest) -> Option<String> {
    let list = |count: usize| match count {
        0 => Some("this list is empty: name at least one".to_owned()),
        count if count > WORDS_MAX => Some(format!("a list has at most {WORDS_MAX} words")),
        _ => None,
    };
    match test {
        SignalTest::Kind(kinds) => list(kinds.len()),
        SignalTest::Lifecycle(standings) => list(standings.len()),
        SignalTest::Dialect(dialects) => list(dialects.len()),
        SignalTest::Text { any_of, .. } => list(any_of.len()),
        SignalTest::Products(words) | SignalTest::Labels(words) => list(words.len()),
        SignalTest::Severity {
            at_least,
            unknown_is,
        } => (*at_least == Severity::Unknown || *unknown_is == Severity::Unknown).then(|| {
            "`unknown` is no rank: say from which severity on, and which one a signal that does not say is taken for".to_owned()
        }),
        SignalTest::Confidence {
            at_least,
            unknown_is,
        } => (*at_least > 100 || *unknown_is > 100)
            .then(|| "a confidence is 0 to 100".to_owned()),
        SignalTest::Age { at_most, .. } => {
            (*at_most == Seconds(0)).then(|| "nothing is 0s old".to_owned())
        }
        SignalTest::VendorOfTarget
        | SignalTest::TenantOfTarget
        | SignalTest::ProductsOfTarget
        | SignalTest::Reach(_) => None,
    }
}

/// A rule is about signals or about sources: a source that fell silent has no severity.
fn kinds(rule: &Rule, found: &mut Vec<Problem>) {
    let about_signals = |part: &When| matches!(part, When::Signal(_) | When::Window(_));
    if !rule.is_about_sources() {
        return;
    }
    if rule.when.has(about_signals) {
        let sentence = "a rule is about signals or about silent sources: write two";
        found.push(problem("when", "mixed", sentence));
    }
    if rule.then.effect == Effect::Halt {
        let sentence = "silence holds until it ends; it does not halt: `verdict: hold` with `kind: gate` or `kind: pause`";
        found.push(problem("then", "effect", sentence));
    }
}

/// A rule may not hold more than what it listens to is worth.
fn trust(rule: &Rule, found: &mut Vec<Problem>) {
    if rule.is_about_sources() {
        return;
    }
    let most = rule.trust_at_least.most(severity_asked(&rule.when));
    if rule.then.effect <= most {
        return;
    }
    let trust = rule.trust_at_least;
    let sentence = match most {
        Effect::Review => format!(
            "`{trust}` signals may be written by anybody, so they hold nothing: `verdict: review`, or ask for more trust"
        ),
        Effect::Gate | Effect::Pause | Effect::Halt => format!(
            "`{trust}` signals may at most gate here: ask for `trust_at_least: signed_fresh`, or (with authenticated_channel) for {{signal: severity, at_least: high, unknown_is: …}} in the outermost `all`"
        ),
    };
    found.push(problem("then", "trust", sentence));
}

/// Returns the severity that every signal of the rule has at least.
fn severity_asked(when: &When) -> Severity {
    match when {
        When::Signal(SignalTest::Severity { at_least, .. }) => *at_least,
        When::All(parts) => parts
            .iter()
            .map(severity_asked)
            .max()
            .unwrap_or(Severity::Unknown),
        When::Any(parts) => parts
            .iter()
            .map(severity_asked)
            .min()
            .unwrap_or(Severity::Unknown),
        When::Not(_) | When::Signal(_) | When::Window(_) | When::SourceBlind => Severity::Unknown,
    }
}

/// Only a pause or a gate is lifted, and only where the condition can become clear.
fn lift(rule: &Rule, found: &mut Vec<Problem>) {
    let Some(after) = rule.then.lift_after_clear_for else {
        return;
    };
    let at = "then.lift_after_clear_for";
    match rule.then.effect {
        Effect::Gate | Effect::Pause => {}
        Effect::Halt => {
            let sentence = "a halt is released by people: leave this out";
            found.push(problem(at, "lift", sentence));
        }
        Effect::Review => found.push(problem(at, "lift", "nothing is held, so nothing is lifted")),
    }
    if !rule.is_about_sources() && !passes(&rule.when) {
        let sentence = "this condition never becomes clear by itself: what was reported stays reported. Only what is counted in a window passes";
        found.push(problem(at, "lift", sentence));
    }
    if after > CLEAR_MAX {
        found.push(problem(at, "value", "at most 366d"));
    }
}

/// Says whether the condition can only apply while a window is reached.
fn passes(when: &When) -> bool {
    match when {
        When::Window(_) => true,
        When::All(parts) => parts.iter().any(passes),
        When::Any(parts) => !parts.is_empty() && parts.iter().all(passes),
        When::Not(_) | When::Signal(_) | When::SourceBlind => false,
    }
}

fn terms(then: &Then, found: &mut Vec<Problem>) {
    if let Some(moved) = &then.moved {
        if !MOVED.contains(&moved.as_str()) {
            let sentence = format!("`{moved}` is not keep, freeze or revert");
            found.push(problem("then.moved", "value", sentence));
        } else if then.effect != Effect::Halt && moved != "keep" {
            let sentence = "only a halt does anything about people already moved";
            found.push(problem("then.moved", "value", sentence));
        }
    }
    if then
        .review_every
        .is_some_and(|every| every < Seconds(3600) || every > REVIEW_MAX)
    {
        let sentence = "a hold is looked at again after 1h to 90d";
        found.push(problem("then.review_every", "value", sentence));
    }
    let Some(release) = &then.release else {
        return;
    };
    if then.effect != Effect::Halt {
        let sentence = "only a halt is released by terms";
        found.push(problem("then.release", "effect", sentence));
    }
    if release
        .approvals
        .is_some_and(|count| !(2..=20).contains(&count))
    {
        found.push(problem(
            "then.release",
            "value",
            "a halt is released by 2 to 20 people",
        ));
    }
    for group in &release.groups {
        if !GROUPS.contains(&group.as_str()) {
            let sentence = format!("`{group}` is no group; there are: {}", GROUPS.join(", "));
            found.push(problem("then.release", "value", sentence));
        }
    }
    let hours = [release.valid_for, release.execute_within];
    if hours
        .into_iter()
        .flatten()
        .any(|time| time.0 % 3600 != 0 || time.0 == 0)
    {
        let sentence = "approvals last whole hours, such as 24h";
        found.push(problem("then.release", "value", sentence));
    }
    for requirement in &release.requirements {
        if !CATEGORIES.contains(&requirement.category.as_str()) {
            let sentence = format!(
                "`{}` is no category; there are: {}",
                requirement.category,
                CATEGORIES.join(", ")
            );
            found.push(problem("then.release", "value", sentence));
        }
    }
}

/// Says whether a rule that was changed still does at least what it did: for every signal that it applied to
/// it applies still, and what follows is no milder. A change that cannot be shown to tighten loosens.
#[must_use]
pub fn tightens(old: &Rule, new: &Rule) -> bool {
    let then = &old.then;
    let soon = |old: Option<Seconds>, new: Option<Seconds>| match (old, new) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(old), Some(new)) => new >= old,
    };
    implies(&old.when, &new.when)
        && new.trust_at_least <= old.trust_at_least
        && (old.shadow || !new.shadow)
        && new.then.effect >= then.effect
        && new.then.reaches >= then.reaches
        && (new.then.moved == then.moved || then.moved.is_none())
        && new.then.review_every.unwrap_or(REVIEW_DEFAULT)
            <= then.review_every.unwrap_or(REVIEW_DEFAULT)
        && soon(then.lift_after_clear_for, new.then.lift_after_clear_for)
        && releases_no_easier(old, new)
        && asks_no_less(old, new)
}

/// A fact that is missing holds, so a rule that no longer asks for it, or for which less follows then, may
/// hold less.
fn asks_no_less(old: &Rule, new: &Rule) -> bool {
    let asks = |rule: &Rule, is: fn(&When) -> bool| rule.when.has(is);
    let asks_signal = asks(old, asks_vendor_of_signal);
    let is_asked = (!asks_signal || asks(new, asks_vendor_of_signal))
        && (!asks(old, asks_vendor_of_target) || asks(new, asks_vendor_of_target));
    is_asked && (!asks_signal || new.unsure() >= old.unsure())
}

const fn asks_vendor_of_target(part: &When) -> bool {
    matches!(part, When::Signal(SignalTest::VendorOfTarget))
}

const fn asks_vendor_of_signal(part: &When) -> bool {
    asks_vendor_of_target(part)
        || matches!(
            part,
            When::Signal(SignalTest::Text {
                field: TextField::Vendor,
                ..
            })
        )
}

fn releases_no_easier(old: &Rule, new: &Rule) -> bool {
    let Some(was) = &old.then.release else {
        return true;
    };
    let Some(is) = &new.then.release else {
        return false;
    };
    is.approvals >= was.approvals
        && was.groups.iter().all(|group| is.groups.contains(group))
        && (was.valid_for.is_none() || (is.valid_for.is_some() && is.valid_for <= was.valid_for))
        && (was.execute_within.is_none()
            || (is.execute_within.is_some() && is.execute_within <= was.execute_within))
        && was
            .requirements
            .iter()
            .all(|requirement| is.requirements.contains(requirement))
}

/// Says whether `new` can be shown to hold wherever `old` does.
fn implies(old: &When, new: &When) -> bool {
    if old == new {
        return true;
    }
    match (old, new) {
        (When::Signal(old), When::Signal(new)) => test_implies(old, new),
        (When::Window(old), When::Window(new)) => {
            old.counted == new.counted && old.within <= new.within && old.at_least >= new.at_least
        }
        (When::Not(old), When::Not(new)) => implies(new, old),
        (old, When::All(parts)) if parts.iter().all(|part| implies(old, part)) => true,
        (When::Any(parts), new) if parts.iter().all(|part| implies(part, new)) => true,
        (When::All(parts), new) if parts.iter().any(|part| implies(part, new)) => true,
        (old, When::Any(parts)) => parts.iter().any(|part| implies(old, part)),
        (
            When::All(_)
            | When::Any(_)
            | When::Not(_)
            | When::Signal(_)
            | When::Window(_)
            | When::SourceBlind,
            When::All(_) | When::Not(_) | When::Signal(_) | When::Window(_) | When::SourceBlind,
        ) => false,
    }
}

fn test_implies(old: &SignalTest, new: &SignalTest) -> bool {
    let subset = |old: &[String], new: &[String]| old.iter().all(|one| new.contains(one));
    match (old, new) {
        (SignalTest::Kind(old), SignalTest::Kind(new)) => {
            old.iter().all(|kind: &SignalKind| new.contains(kind))
        }
        (
            SignalTest::Severity {
                at_least: old,
                unknown_is: was,
            },
            SignalTest::Severity {
                at_least: new,
                unknown_is: is,
            },
        ) => new <= old && is >= was,
        (
            SignalTest::Confidence {
                at_least: old,
                unknown_is: was,
            },
            SignalTest::Confidence {
                at_least: new,
                unknown_is: is,
            },
        ) => new <= old && is >= was,
        (
            SignalTest::Text {
                field: of,
                any_of: old,
            },
            SignalTest::Text { field, any_of: new },
        ) => of == field && subset(old, new),
        (SignalTest::Products(old), SignalTest::Products(new))
        | (SignalTest::Labels(old), SignalTest::Labels(new)) => subset(old, new),
        _ => false,
    }
}

/// Returns what a window tells apart, in words.
#[must_use]
pub fn counted_name(counted: Counted) -> &'static str {
    match counted {
        Counted::Signals => "signals",
        Counted::Distinct(TextField::Source) => "sources",
        Counted::Distinct(TextField::Vendor) => "vendors",
        Counted::Distinct(TextField::Tenant) => "tenants",
        Counted::Distinct(TextField::User) => "users",
    }
}
