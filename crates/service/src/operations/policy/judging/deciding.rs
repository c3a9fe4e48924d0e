//! Deciding: what rules say becomes holds, once, in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tidegate_orchestrator::hold::requirement::{Category, Requirement, Severity as Weight, Status};
use tidegate_orchestrator::hold::terms::{Group, Terms};
use tidegate_orchestrator::hold::{Cause, Hold, HoldKind, MovedPeople, Scope, Wanted};
use tidegate_orchestrator::ids::{
    Generation, HoldId, Principal, RequirementId, TargetId, Timestamp, WaveNumber,
};
use tidegate_policy::rule::check::REVIEW_DEFAULT;
use tidegate_policy::rule::judge::{Decision, Fault, TargetFacts};
use tidegate_policy::rule::{Effect, Reaches, Rule};
use tidegate_policy::signal::Severity;
use tidegate_policy::time::Seconds;

use super::telling::{for_people, is_worse, worse};
use super::waves::{self, Waves};
use super::{Judging, TASK};
use crate::app::App;
use crate::operations::{Actor, hold as holds};
use crate::store::policy::{self as rows, Rejudge, ReportRow};
use crate::store::signal::{self as signals, SignalRow};
use crate::store::{
    Connection, Lane, StoreError, Txn, hold as hold_rows, release, rollout, transact,
};

/// What rules say of one target, of all the signals of a batch.
#[derive(Debug)]
pub(super) struct Said {
    effect: Effect,
    pub(super) signals: u64,
    pub(super) worst: Severity,
    faults: BTreeSet<Fault>,
    /// Whom they are about; `None`: nobody in particular.
    users: BTreeSet<Option<String>>,
    /// The first of them; `None`: no signal, but the silence of a source.
    pub(super) first: Option<SignalRow>,
    pub(super) last: i64,
}

/// By the place of the rule and that of the target.
pub(super) type Sayings = BTreeMap<(usize, usize), Said>;

/// What rules made of signals, by their numbers.
pub(super) type Outcomes = BTreeMap<&'static str, Vec<i64>>;

async fn outcomes_set(txn: &Txn, outcomes: &Outcomes) -> Result<(), StoreError> {
    for (outcome, seqs) in outcomes {
        signals::outcome_set(txn, outcome, seqs).await?;
    }
    Ok(())
}

/// A signal, and what follows from it.
pub(super) type Decided = (SignalRow, Vec<Decision>);

/// What a batch of signals came to.
pub(super) struct Judged {
    /// The holds that are new.
    pub(super) placed: Vec<Hold>,
    /// Up to where somebody else had judged before.
    pub(super) after: i64,
    /// When it was.
    pub(super) at: Timestamp,
}

/// Writes what a batch of signals came to.
pub(super) async fn decide(
    app: &App,
    known: &Judging,
    decided: &[Decided],
    last: i64,
) -> Result<Judged, StoreError> {
    if decided.is_empty() {
        return transact!(app.store, Lane::Ordinary, "policy_judged", |txn| {
            let after = rows::judged_lock(txn).await?;
            rows::judged_set(txn, last, &known.policy).await?;
            Ok(Judged {
                placed: Vec::new(),
                after,
                at: txn.now(),
            })
        });
    }
    let mut all = Sayings::new();
    for (row, decisions) in decided {
        gather(&mut all, known, row, decisions);
    }
    let waves = waves::look_up(app, known, &all).await?;
    transact!(app.store, Lane::Hold, "policy_decide", |txn| {
        let judged = begin(txn, known).await?;
        let mut said = Sayings::new();
        let mut outcomes = Outcomes::new();
        for (row, decisions) in decided.iter().filter(|(row, _)| row.seq > judged) {
            outcomes
                .entry(outcome(known, decisions))
                .or_default()
                .push(row.seq);
            gather(&mut said, known, row, decisions);
        }
        let placed = Placing::begin(app, txn, known, &waves)
            .await?
            .all(&said)
            .await?;
        outcomes_set(txn, &outcomes).await?;
        rows::decided_put(txn, &known.decided(&said)).await?;
        rows::judged_set(txn, last, &known.policy).await?;
        Ok(Judged {
            placed,
            after: judged,
            at: txn.now(),
        })
    })
}

/// Holds what rules say of a target at which signals were judged again, or of sources that are silent.
/// `done` ends what it was asked for, with what it made of signals; when somebody else has, nothing is written.
pub(super) async fn decide_besides(
    app: &App,
    known: &Judging,
    said: &Sayings,
    done: Option<(&Rejudge, &Outcomes)>,
) -> Result<Vec<Hold>, StoreError> {
    let waves = waves::look_up(app, known, said).await?;
    transact!(app.store, Lane::Hold, "policy_decide_besides", |txn| {
        begin(txn, known).await?;
        if let Some((done, outcomes)) = done {
            if !rows::rejudge_done(txn, done).await? {
                return Ok(Vec::new());
            }
            outcomes_set(txn, outcomes).await?;
            rows::decided_put(txn, &known.decided(said)).await?;
        }
        let placed = Placing::begin(app, txn, known, &waves)
            .await?
            .all(said)
            .await?;
        Ok(placed)
    })
}

impl Judging {
    /// Returns the last signal that something follows from at each target.
    fn decided(&self, said: &Sayings) -> BTreeMap<TargetId, i64> {
        let mut decided = BTreeMap::new();
        for ((_, target), said) in said {
            if let Some(target) = self.targets.get(*target) {
                let last: &mut i64 = decided.entry(*target).or_default();
                *last = said.last.max(*last);
            }
        }
        decided
    }
}

/// Takes the locks of who decides, and returns how far signals were judged.
async fn begin(txn: &mut Txn, known: &Judging) -> Result<i64, StoreError> {
    hold_rows::hold_lock(txn).await?;
    let judged = rows::judged_lock(txn).await?;
    if !known.is_of(&rows::standing(txn).await?) {
        // Another set is active by now, or the targets are others: they are judged by that.
        return Err(StoreError::Conflict);
    }
    Ok(judged)
}

/// What sources that have fallen silent come to.
pub(super) fn silences(known: &Judging) -> Sayings {
    let decisions = known.judge.look().into_iter();
    decisions
        .filter(|decision| known.rule(decision).is_some_and(|rule| !rule.shadow))
        .map(|decision| {
            let said = Said {
                effect: decision.verdict.effect,
                signals: 0,
                worst: Severity::Unknown,
                faults: BTreeSet::new(),
                users: BTreeSet::from([None]),
                first: None,
                last: 0,
            };
            ((decision.rule, decision.target), said)
        })
        .collect()
}

/// Returns the word for what follows from a signal.
pub(super) fn outcome(known: &Judging, decisions: &[Decision]) -> &'static str {
    let in_force = decisions
        .iter()
        .filter(|decision| known.rule(decision).is_some_and(|rule| !rule.shadow));
    in_force
        .map(|decision| decision.verdict.effect)
        .max()
        .map_or("shadow", Effect::name)
}

/// Adds what follows from a signal, but for rules in shadow.
pub(super) fn gather(said: &mut Sayings, known: &Judging, row: &SignalRow, decisions: &[Decision]) {
    let severity = row.signal.severity;
    let in_force = decisions
        .iter()
        .filter(|decision| known.rule(decision).is_some_and(|rule| !rule.shadow));
    for decision in in_force {
        let verdict = &decision.verdict;
        let one = said
            .entry((decision.rule, decision.target))
            .or_insert_with(|| Said {
                effect: verdict.effect,
                signals: 0,
                worst: severity,
                faults: BTreeSet::new(),
                users: BTreeSet::new(),
                first: Some(row.clone()),
                last: row.seq,
            });
        one.effect = one.effect.max(verdict.effect);
        one.signals += 1;
        one.worst = one.worst.max(severity);
        one.faults.extend(&verdict.faults);
        one.users.insert(row.signal.subject.user.clone());
        one.last = row.seq;
    }
}

const fn kind_of(effect: Effect) -> Option<HoldKind> {
    match effect {
        Effect::Review => None,
        Effect::Gate => Some(HoldKind::Gate),
        Effect::Pause => Some(HoldKind::Pause),
        Effect::Halt => Some(HoldKind::Halt),
    }
}

/// A hold by a rule that is in force, and what was reported of it.
struct Standing {
    report: ReportRow,
    scope: Scope,
    kind: HoldKind,
    is_for_a_fault: bool,
}

/// Places what rules say, beside what they have placed before.
struct Placing<'a> {
    app: &'a App,
    txn: &'a mut Txn,
    known: &'a Judging,
    waves: &'a Waves,
    standing: Vec<Standing>,
    /// Who is asked about what is new; nobody of the starter set, to which nobody said yes.
    owner: Option<Principal>,
    placed: Vec<Hold>,
}

impl Said {
    /// Returns whom it is about, by name.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        self.users.iter().flatten().map(String::as_str)
    }
}

impl<'a> Placing<'a> {
    async fn begin(
        app: &'a App,
        txn: &'a mut Txn,
        known: &'a Judging,
        waves: &'a Waves,
    ) -> Result<Self, StoreError> {
        let (_, in_force) = hold_rows::holds_within(txn).await?;
        let mut standing = Vec::new();
        for report in rows::reports_in_force(txn).await? {
            if let Some(hold) = in_force.get(report.hold) {
                standing.push(Standing {
                    scope: hold.scope,
                    kind: hold.kind,
                    is_for_a_fault: is_for_a_fault(txn, report.hold).await?,
                    report,
                });
            }
        }
        let asked = known.asked.iter().map(String::as_str);
        let owner = holds::review::first_owner(txn, asked).await?;
        Ok(Self {
            app,
            txn,
            known,
            waves,
            standing,
            owner,
            placed: Vec::new(),
        })
    }

    async fn all(mut self, said: &Sayings) -> Result<Vec<Hold>, StoreError> {
        let known = self.known;
        for ((rule, target), said) in said {
            let rule = known.judge.rules().get(*rule);
            let target = known
                .targets
                .get(*target)
                .zip(known.judge.targets().get(*target));
            let (Some(rule), Some(target)) = (rule, target) else {
                continue;
            };
            if let Some(kind) = kind_of(said.effect) {
                for scope in scopes(self.txn, rule, *target.0, (said, self.waves)).await? {
                    self.one(rule, target, (kind, scope), said).await?;
                }
            } else {
                self.txn.audit(for_people(known, rule, target, said));
            }
        }
        Ok(self.placed)
    }

    /// Holds what a rule says at a target, or counts it to the hold that stands for it already.
    async fn one(
        &mut self,
        rule: &Rule,
        (target, facts): (&TargetId, &TargetFacts),
        (kind, scope): (HoldKind, Scope),
        said: &Said,
    ) -> Result<(), StoreError> {
        let is_for_a_fault = !said.faults.is_empty();
        let same = self.standing.iter_mut().find(|standing| {
            // Everything is everything, whichever target it began with. What stands for a missing fact is
            // never lifted, and what applies may be: they are two.
            standing.report.rule == rule.id
                && (standing.report.target == *target || scope == Scope::Everything)
                && standing.scope == scope
                && standing.kind == kind
                && standing.is_for_a_fault == is_for_a_fault
        });
        if let Some(same) = same {
            return count(self.txn, self.known, (rule, facts), (same, said)).await;
        }
        let weaker = self.standing.iter().filter(|standing| {
            standing.report.rule == rule.id
                && standing.report.target == *target
                && standing.scope == scope
                && standing.kind < kind
        });
        let weaker: Option<(HoldId, HoldKind)> = weaker
            .max_by_key(|standing| standing.kind)
            .map(|standing| (standing.report.hold, standing.kind));
        let id: HoldId = self.app.ids.make();
        let now = self.txn.now();
        let wanted = wanted(self.known, rule, (*target, facts), (kind, scope), said, now);
        let (hold, is_heard) = holds::put_owned(
            self.txn,
            &Actor::task(TASK),
            (id, self.owner.clone()),
            wanted,
        )
        .await?;
        if let Some((weaker, was)) = weaker.filter(|_| is_heard) {
            let change = json!({
                "kind_was": was, "kind": kind, "severity": said.worst, "signals": said.signals, "now": hold.id,
            });
            self.txn
                .audit(worse(self.known, (rule, facts), weaker, (change, said)));
        }
        let report = ReportRow {
            hold: hold.id,
            rule: rule.id.clone(),
            target: *target,
            signals: said.signals,
            worst: said.worst,
            first_seq: said.first.as_ref().map_or(0, |first| first.seq),
            last_seq: said.last,
        };
        rows::report_put(self.txn, &report).await?;
        if kind == HoldKind::Halt {
            terms(self.app, self.txn, rule, &hold, said.worst).await?;
        }
        self.standing.push(Standing {
            report,
            scope: hold.scope,
            kind,
            is_for_a_fault,
        });
        self.placed.push(hold);
        Ok(())
    }
}

/// Counts what was said to the hold that stands for it already, and tells the trail when it is worse by now.
async fn count(
    txn: &mut Txn,
    known: &Judging,
    about: (&Rule, &TargetFacts),
    (same, said): (&mut Standing, &Said),
) -> Result<(), StoreError> {
    if said.signals == 0 {
        return Ok(());
    }
    let report = &mut same.report;
    report.signals += said.signals;
    let before = report.worst;
    report.worst = before.max(said.worst);
    report.last_seq = report.last_seq.max(said.last);
    rows::report_put(txn, report).await?;
    // Once for each step up, so a storm writes as many entries as there are severities at most.
    if !is_worse(before, report.worst) {
        return Ok(());
    }
    let change = json!({
        "kind": same.kind, "severity_was": before, "severity": report.worst, "signals": report.signals,
    });
    txn.audit(worse(known, about, report.hold, (change, said)));
    Ok(())
}

/// Says whether a hold by a rule stands for a fact that was missing.
pub(super) async fn is_for_a_fault<C: Connection>(
    db: &C,
    hold: HoldId,
) -> Result<bool, StoreError> {
    let row = hold_rows::hold_load(db, hold).await?;
    let hold = row.ok_or(StoreError::NotFound)?.hold()?;
    Ok(matches!(hold.cause, Cause::Rule { faults, .. } if !faults.is_empty()))
}

/// Returns what a rule holds, starting from a target.
async fn scopes(
    txn: &Txn,
    rule: &Rule,
    target: TargetId,
    (said, waves): (&Said, &Waves),
) -> Result<Vec<Scope>, StoreError> {
    Ok(match rule.then.reaches {
        Reaches::Everything => vec![Scope::Everything],
        Reaches::Target => vec![Scope::Target(target)],
        Reaches::Rollout | Reaches::Wave => {
            let onto = rollout::rollouts_onto(txn, target).await?;
            let is_wave = rule.then.reaches == Reaches::Wave;
            let mut scopes = Vec::new();
            for rollout in onto {
                let wave = |user: &Option<String>| waves.get(&(rollout, user.clone()?)).copied();
                let meant: BTreeSet<Option<WaveNumber>> = said.users.iter().map(wave).collect();
                // Whoever is in no wave that is known, or nobody in particular, is anybody: all of it.
                if !is_wave || meant.contains(&None) {
                    scopes.push(Scope::Rollout(rollout));
                } else {
                    let meant = meant.into_iter().flatten();
                    scopes.extend(meant.map(|wave| Scope::Wave(rollout, wave)));
                }
            }
            scopes
        }
    })
}

fn wanted(
    known: &Judging,
    rule: &Rule,
    (target, facts): (TargetId, &TargetFacts),
    (kind, scope): (HoldKind, Scope),
    said: &Said,
    now: Timestamp,
) -> Wanted {
    let mut reason = format!("rule `{}`: {}", rule.id, rule.says);
    match &said.first {
        Some(first) => {
            let signal = &first.signal;
            let about = signal.vendor.as_deref().unwrap_or("no vendor");
            reason = format!(
                "{reason} Reported by {}: {} about {about}, severity {}",
                signal.source, signal.kind, signal.severity
            );
            if !signal.title.is_empty() {
                reason = format!("{reason}, \"{}\"", signal.title);
            }
            if said.worst > signal.severity {
                let (signals, worst) = (said.signals, said.worst);
                reason = format!("{reason}; of {signals} signals the worst has severity {worst}");
            }
        }
        None => {
            let silent: Vec<&str> = facts.blind.iter().map(String::as_str).collect();
            reason = format!("{reason} Not heard: {}", silent.join(", "));
        }
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
            signal: said.first.as_ref().map(|first| first.id.to_string()),
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
