//! What the active set makes of signals: folded in order, decided once, held at once.
//!
//! A process keeps what windows have counted in memory, and reads it again from the signals themselves
//! when the set or what is known of targets has changed. Deciding is one transaction in the lane of holds:
//! it locks how far signals were judged, places or counts, and moves that on. So a crash before it decides
//! nothing, and a second process that folds the same signals finds them judged.

use std::collections::BTreeMap;

use serde_json::json;
use tidegate_orchestrator::digest::Digest;
use tidegate_orchestrator::hold::requirement::{Category, Requirement, Severity as Weight, Status};
use tidegate_orchestrator::hold::terms::{Group, Terms};
use tidegate_orchestrator::hold::{Cause, Hold, HoldKind, MovedPeople, Release, Scope, Wanted};
use tidegate_orchestrator::ids::{
    Generation, HoldId, Principal, RequirementId, TargetId, Timestamp,
};
use tidegate_policy::rule::check::REVIEW_DEFAULT;
use tidegate_policy::rule::judge::{Decision, Fault, Judge};
use tidegate_policy::rule::{Effect, Reaches, Rule};
use tidegate_policy::set::PolicySet;
use tidegate_policy::signal::Severity;
use tidegate_policy::time::Seconds;

use super::read;
use crate::app::App;
use crate::operations::signal::counted_since;
use crate::operations::{Actor, OperationError, hold as holds};
use crate::store::audit::Entry;
use crate::store::policy::{self as rows, ReportRow, Standing};
use crate::store::signal::{self as signals, SignalRow};
use crate::store::{
    Connection, Lane, StoreError, Txn, hold as hold_rows, release, rollout, transact,
};

/// How many signals are judged in one transaction.
const BATCH: usize = 500;
/// Who places what rules say.
const TASK: &str = "policy";

/// The active set at work, and what its windows have counted.
#[derive(Debug)]
pub struct Judging {
    policy: String,
    digest: Digest,
    facts_rev: i64,
    targets: Vec<TargetId>,
    judge: Judge,
    /// The last signal that was counted.
    folded: i64,
}

/// What rules say of one target, of all the signals of a batch.
#[derive(Debug)]
struct Said {
    effect: Effect,
    signals: u64,
    worst: Severity,
    faults: std::collections::BTreeSet<Fault>,
    first: SignalRow,
    last: i64,
}

/// Judges what has not been judged, and lifts what has been clear.
///
/// # Errors
///
/// When the store cannot be reached. What was counted must then be thrown away.
pub async fn look(app: &App, judging: &mut Option<Judging>) -> Result<(), StoreError> {
    loop {
        let standing = rows::standing(app.store.read()).await?;
        let known = match judging.take() {
            Some(known) if known.is_of(&standing) => known,
            Some(_) | None => Judging::begin(app, &standing).await?,
        };
        let known = judging.insert(known);
        let found = signals::signals_after(app.store.read(), known.folded, BATCH).await?;
        if found.is_empty() {
            known.folded = known.folded.max(standing.seq);
            if standing.holds > 0 {
                lift(app, known).await?;
            }
            return Ok(());
        }
        known.judge_batch(app, &found, standing.judged_seq).await?;
    }
}

/// Pauses everything because what is reported cannot be judged: a set or a signal that this program cannot
/// read would otherwise be silence. Asked again, it is the same pause.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn cannot_judge(app: &App, what: &str) -> Result<(), OperationError> {
    let actor = Actor::task(TASK);
    let wanted = Wanted {
        kind: HoldKind::Pause,
        scope: Scope::Everything,
        part: None,
        cause: Cause::People {
            principals: vec![Principal::new(actor.principal.clone())],
        },
        reason: format!(
            "what is reported cannot be judged: {what}. Put a policy set in force that this version reads, or run the version that wrote it"
        ),
        effect: MovedPeople::Keep,
        review_at: None,
    };
    holds::place_wanted(app, &actor, wanted).await?;
    app.wake.ring();
    Ok(())
}

impl Judging {
    fn is_of(&self, standing: &Standing) -> bool {
        standing.policy.as_deref() == Some(self.policy.as_str())
            && standing.facts_rev == self.facts_rev
            && usize::try_from(standing.targets) == Ok(self.targets.len())
    }

    /// Reads the active set and what is known of targets, and counts again what may still matter.
    async fn begin(app: &App, standing: &Standing) -> Result<Self, StoreError> {
        let row = rows::policy_active(app.store.read()).await?;
        let row = row.ok_or_else(|| StoreError::corrupt("there is no active policy set"))?;
        let set: PolicySet = read(&row)?;
        let facts = rows::facts_load(app.store.read()).await?;
        let (targets, facts) = facts.into_iter().unzip();
        let longest = set
            .rules
            .iter()
            .flat_map(|rule| rule.when.windows())
            .map(|window| window.within)
            .max();
        let digest = set.digest();
        let mut known = Self {
            policy: row.id,
            digest,
            facts_rev: standing.facts_rev,
            targets,
            judge: Judge::new(set.rules, facts),
            folded: standing.judged_seq,
        };
        if let Some(longest) = longest.filter(|longest| *longest > Seconds(0)) {
            let since = counted_since(app.store.now().await?, longest);
            let mut counted = signals::number_at(app.store.read(), since).await?;
            while counted < standing.judged_seq {
                let found = signals::signals_after(app.store.read(), counted, BATCH).await?;
                let Some(last) = found.last() else { break };
                counted = last.seq;
                for row in found.iter().filter(|row| row.seq <= standing.judged_seq) {
                    known.judge.take(&row.signal);
                }
            }
        }
        Ok(known)
    }

    fn rule(&self, decision: &Decision) -> Option<&Rule> {
        self.judge.rules().get(decision.rule)
    }

    /// Says whether what a hold of a rule stands for has been clear for as long as the rule says.
    async fn is_clear(
        &self,
        app: &App,
        report: &ReportRow,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut rules = self.judge.rules().iter().enumerate();
        let found = rules.find(|(_, rule)| rule.id == report.rule);
        let Some((place, rule)) = found else {
            // The rule is gone: people end it.
            return Ok(false);
        };
        let Some(after) = rule.then.lift_after_clear_for else {
            return Ok(false);
        };
        // Time adds no missing fact.
        if is_for_a_fault(app.store.read(), report.hold).await? {
            return Ok(false);
        }
        let is_meant = |target: &TargetId| {
            *target == report.target || rule.then.reaches == Reaches::Everything
        };
        let meant = (0..)
            .zip(&self.targets)
            .filter(|(_, target)| is_meant(target));
        // Of a hold on everything each target must be clear.
        let reached = meant.filter_map(|(target, _)| self.judge.reached_until(place, target));
        let until = match reached.max() {
            Some(until) => until,
            None => reached_at_most_until(app, rule, report).await?,
        };
        Ok(now >= after.after(until))
    }

    async fn judge_batch(
        &mut self,
        app: &App,
        found: &[SignalRow],
        judged: i64,
    ) -> Result<(), StoreError> {
        let mut decided: Vec<(SignalRow, Vec<Decision>)> = Vec::new();
        for row in found {
            let decisions = self.judge.take(&row.signal);
            if !decisions.is_empty() {
                decided.push((row.clone(), decisions));
            }
        }
        let last = found.last().map_or(self.folded, |row| row.seq);
        self.folded = last;
        if last <= judged {
            // Another process has decided them: here they only count.
            return Ok(());
        }
        let placed = decide(app, self, &decided, last).await?;
        for hold in &placed {
            holds::stand(app, hold);
        }
        if !placed.is_empty() {
            app.wake.ring();
        }
        for hold in placed {
            holds::count(app, &hold);
        }
        Ok(())
    }
}

/// Writes what a batch of signals came to; returns the holds that are new.
async fn decide(
    app: &App,
    known: &Judging,
    decided: &[(SignalRow, Vec<Decision>)],
    last: i64,
) -> Result<Vec<Hold>, StoreError> {
    if decided.is_empty() {
        transact!(app.store, Lane::Ordinary, "policy_judged", |txn| {
            rows::judged_set(txn, last, &known.policy).await
        })?;
        return Ok(Vec::new());
    }
    transact!(app.store, Lane::Hold, "policy_decide", |txn| {
        hold_rows::hold_lock(txn).await?;
        let judged = rows::judged_lock(txn).await?;
        if !known.is_of(&rows::standing(txn).await?) {
            // Another set is active by now, or the targets are others: they are judged by that.
            return Err(StoreError::Conflict);
        }
        let mut said: BTreeMap<(usize, usize), Said> = BTreeMap::new();
        let mut outcomes: BTreeMap<&'static str, Vec<i64>> = BTreeMap::new();
        for (row, decisions) in decided.iter().filter(|(row, _)| row.seq > judged) {
            outcomes
                .entry(outcome(known, decisions))
                .or_default()
                .push(row.seq);
            for decision in decisions {
                if known.rule(decision).is_some_and(|rule| !rule.shadow) {
                    gather(&mut said, row, decision);
                }
            }
        }
        let mut placed = Vec::new();
        let mut entries = Vec::new();
        for ((rule, target), said) in &said {
            hold(
                app,
                txn,
                known,
                (*rule, *target),
                said,
                (&mut placed, &mut entries),
            )
            .await?;
        }
        for (outcome, seqs) in &outcomes {
            signals::outcome_set(txn, outcome, seqs).await?;
        }
        rows::judged_set(txn, last, &known.policy).await?;
        for entry in entries {
            txn.audit(entry).await?;
        }
        Ok(placed)
    })
}

fn outcome(known: &Judging, decisions: &[Decision]) -> &'static str {
    let in_force = decisions
        .iter()
        .filter(|decision| known.rule(decision).is_some_and(|rule| !rule.shadow));
    in_force
        .map(|decision| decision.verdict.effect)
        .max()
        .map_or("shadow", Effect::name)
}

fn gather(said: &mut BTreeMap<(usize, usize), Said>, row: &SignalRow, decision: &Decision) {
    let verdict = &decision.verdict;
    let severity = row.signal.severity;
    let one = said
        .entry((decision.rule, decision.target))
        .or_insert_with(|| Said {
            effect: verdict.effect,
            signals: 0,
            worst: severity,
            faults: Default::default(),
            first: row.clone(),
            last: row.seq,
        });
    one.effect = one.effect.max(verdict.effect);
    one.signals += 1;
    one.worst = one.worst.max(severity);
    one.faults.extend(&verdict.faults);
    one.last = row.seq;
}

const fn kind_of(effect: Effect) -> Option<HoldKind> {
    match effect {
        Effect::Review => None,
        Effect::Gate => Some(HoldKind::Gate),
        Effect::Pause => Some(HoldKind::Pause),
        Effect::Halt => Some(HoldKind::Halt),
    }
}

/// Holds what a rule says at a target, or counts it to the hold that stands for it already.
async fn hold(
    app: &App,
    txn: &mut Txn,
    known: &Judging,
    (rule, target): (usize, usize),
    said: &Said,
    (placed, entries): (&mut Vec<Hold>, &mut Vec<Entry>),
) -> Result<(), StoreError> {
    let (Some(rule), Some(target), Some(kind)) = (
        known.judge.rules().get(rule),
        known.targets.get(target),
        kind_of(said.effect),
    ) else {
        return Ok(());
    };
    let in_force = hold_rows::holds_for_writing(txn).await?;
    let reports = rows::reports_in_force(txn).await?;
    let now = txn.now();
    for scope in scopes(txn, rule, *target).await? {
        let mut same = None;
        for report in reports.iter().filter(|report| {
            // Everything is everything, whichever target it began with.
            report.rule == rule.id && (report.target == *target || scope == Scope::Everything)
        }) {
            let is_alike = in_force
                .get(report.hold)
                .is_some_and(|hold| hold.scope == scope && hold.kind == kind);
            // What stands for a missing fact is never lifted, and what applies may be: they are two.
            if is_alike && is_for_a_fault(txn, report.hold).await? != said.faults.is_empty() {
                same = Some(report);
                break;
            }
        }
        if let Some(report) = same {
            let more = ReportRow {
                signals: report.signals + said.signals,
                worst: report.worst.max(said.worst),
                last_seq: said.last,
                ..report.clone()
            };
            rows::report_put(txn, &more).await?;
            continue;
        }
        let id: HoldId = app.ids.make();
        let wanted = wanted(known, rule, *target, (kind, scope), said, now);
        let (hold, entry) = holds::put(txn, &Actor::task(TASK), id, wanted).await?;
        entries.extend(entry);
        let report = ReportRow {
            hold: hold.id,
            rule: rule.id.clone(),
            target: *target,
            signals: said.signals,
            worst: said.worst,
            first_seq: said.first.seq,
            last_seq: said.last,
        };
        rows::report_put(txn, &report).await?;
        if kind == HoldKind::Halt {
            terms(app, txn, rule, &hold, said.worst).await?;
        }
        placed.push(hold);
    }
    Ok(())
}

/// Says whether a hold by a rule stands for a fact that was missing.
async fn is_for_a_fault<C: Connection>(db: &C, hold: HoldId) -> Result<bool, StoreError> {
    let row = hold_rows::hold_load(db, hold).await?;
    let hold = row.ok_or(StoreError::NotFound)?.hold()?;
    Ok(matches!(hold.cause, Cause::Rule { faults, .. } if !faults.is_empty()))
}

/// Returns what a rule holds, starting from a target.
async fn scopes(txn: &Txn, rule: &Rule, target: TargetId) -> Result<Vec<Scope>, StoreError> {
    Ok(match rule.then.reaches {
        Reaches::Everything => vec![Scope::Everything],
        Reaches::Target => vec![Scope::Target(target)],
        // The people of a signal are not looked up yet, so a wave is its whole rollout.
        Reaches::Rollout | Reaches::Wave => {
            let onto = rollout::rollouts_onto(txn, target).await?;
            onto.into_iter().map(Scope::Rollout).collect()
        }
    })
}

fn wanted(
    known: &Judging,
    rule: &Rule,
    target: TargetId,
    (kind, scope): (HoldKind, Scope),
    said: &Said,
    now: Timestamp,
) -> Wanted {
    let signal = &said.first.signal;
    let about = signal.vendor.as_deref().unwrap_or("no vendor");
    let mut reason = format!(
        "rule `{}`: {} Reported by {}: {} about {about}, severity {}",
        rule.id, rule.says, signal.source, signal.kind, signal.severity
    );
    if !signal.title.is_empty() {
        reason = format!("{reason}, \"{}\"", signal.title);
    }
    for fault in &said.faults {
        reason = format!("{reason}. The rule could not say: {}", fault.sentence());
    }
    let every = rule.then.review_every.unwrap_or(REVIEW_DEFAULT);
    let moved = rule.then.moved.as_deref().and_then(MovedPeople::from_name);
    Wanted {
        kind,
        scope,
        part: None,
        cause: Cause::Rule {
            rule: rule.id.clone(),
            policy: known.digest,
            target,
            signal: Some(said.first.id.to_string()),
            faults: said
                .faults
                .iter()
                .map(|fault| fault.code().to_owned())
                .collect(),
        },
        reason,
        effect: moved.filter(|_| kind == HoldKind::Halt).unwrap_or_default(),
        review_at: Some(every.after(now)),
    }
}

/// Writes what the release of a halt by a rule needs.
async fn terms(
    app: &App,
    txn: &mut Txn,
    rule: &Rule,
    hold: &Hold,
    worst: Severity,
) -> Result<(), StoreError> {
    let Some(wanted) = &rule.then.release else {
        return Ok(());
    };
    let usual = Terms::default();
    let hours = |time: Option<Seconds>, usual: u32| time.map_or(usual, |time| time.0 / 3600);
    let groups = wanted
        .groups
        .iter()
        .filter_map(|name| Group::from_name(name));
    let terms = Terms {
        approvals_needed: wanted.approvals.unwrap_or(0).max(usual.approvals_needed),
        groups: usual.groups.iter().copied().chain(groups).collect(),
        approval_hours: hours(wanted.valid_for, usual.approval_hours),
        execution_hours: hours(wanted.execute_within, usual.execution_hours),
        ..usual
    };
    release::terms_put(txn, hold.id, &terms).await?;
    let weight = match worst {
        Severity::Critical => Weight::Critical,
        Severity::High | Severity::Unknown => Weight::High,
        Severity::Medium => Weight::Medium,
        Severity::Low | Severity::Info => Weight::Low,
    };
    for (number, asked) in (1..).zip(&wanted.requirements) {
        let id: RequirementId = app.ids.make();
        let named = json!(asked.category);
        let requirement = Requirement {
            id,
            hold: hold.id,
            number,
            title: asked.title.clone(),
            text: format!("{} (asked for by rule `{}`)", asked.title, rule.id),
            category: serde_json::from_value::<Category>(named).map_err(StoreError::corrupt)?,
            severity: weight,
            blocking: true,
            owners: vec![hold.owner.clone()],
            vendor: Default::default(),
            opened_by: hold.placed_by.clone(),
            opened_at: hold.placed_at,
            due: None,
            milestones: Vec::new(),
            checkins: Vec::new(),
            next_checkin_due: hold.placed_at + chrono::TimeDelta::days(30),
            status: Status::Proposed,
            evidence: Vec::new(),
            verified: None,
            waiver: None,
            generation: Generation(1),
        };
        release::requirement_insert(txn, &requirement).await?;
    }
    Ok(())
}

/// Ends pauses and gates whose rule says so, once their condition has been clear for long enough. Only what
/// the rule itself placed, and never a halt.
async fn lift(app: &App, known: &Judging) -> Result<(), StoreError> {
    let now = app.store.now().await?;
    let reports = rows::reports_in_force(app.store.read()).await?;
    for report in reports {
        if !known.is_clear(app, &report, now).await? {
            continue;
        }
        let ended: Result<Option<Hold>, StoreError> =
            transact!(app.store, Lane::Hold, "policy_lift", |txn| {
                end(txn, known, &report).await
            });
        if let Some(hold) = ended? {
            holds::let_go(app, &hold);
        }
    }
    Ok(())
}

/// Of a condition that was reached before what is counted in memory: not later than a window after the last
/// signal that decided so.
async fn reached_at_most_until(
    app: &App,
    rule: &Rule,
    report: &ReportRow,
) -> Result<Timestamp, StoreError> {
    let longest = rule.when.windows().iter().map(|window| window.within).max();
    let last = signals::signals_after(app.store.read(), report.last_seq - 1, 1).await?;
    let last = last.first().map(|row| row.signal.received_at);
    let (Some(longest), Some(last)) = (longest, last) else {
        return Ok(Timestamp::MAX_UTC);
    };
    Ok(longest.after(last))
}

async fn end(
    txn: &mut Txn,
    known: &Judging,
    report: &ReportRow,
) -> Result<Option<Hold>, StoreError> {
    hold_rows::hold_lock(txn).await?;
    rows::judged_lock(txn).await?;
    let standing = rows::standing(txn).await?;
    if standing.seq > known.folded || !known.is_of(&standing) {
        // Something was reported meanwhile: it is judged first.
        return Ok(None);
    }
    let Some(row) = hold_rows::hold_load(txn, report.hold).await? else {
        return Ok(None);
    };
    let hold = row.hold()?;
    let is_theirs = hold.rule() == Some(report.rule.as_str());
    if !is_theirs || !hold.is_in_force() || hold.kind == HoldKind::Halt {
        return Ok(None);
    }
    let actor = Actor::task(TASK);
    let epoch = hold_rows::epoch_next(txn).await?;
    let release = Release {
        by: Principal::new(actor.principal.clone()),
        at: txn.now(),
        epoch,
        reason: format!(
            "rule `{}` has been clear for as long as it says",
            report.rule
        ),
    };
    let ended = hold.end(release).map_err(StoreError::corrupt)?;
    hold_rows::hold_save(txn, &hold_rows::HoldRow::of(&ended)?, row.generation).await?;
    holds::ring_released(txn, &ended.scope).await?;
    let detail = json!({
        "kind": ended.kind, "scope": ended.scope, "rule": report.rule, "policy": known.digest, "epoch": epoch,
    });
    txn.audit(actor.entry("hold.lift", format!("hold:{}", ended.id), detail))
        .await?;
    Ok(Some(ended))
}
