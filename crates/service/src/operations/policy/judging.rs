//! What the active set makes of signals: folded in order, decided once, held at once.
//!
//! A process keeps what windows have counted in memory, and reads it again from the signals themselves
//! when the set or what is known of targets has changed. Deciding is one transaction in the lane of holds:
//! it locks how far signals were judged, places or counts, and moves that on. So a crash before it decides
//! nothing, and a second process that folds the same signals finds them judged.

mod again;
mod deciding;
mod lifting;
mod telling;
mod waves;

use std::collections::BTreeMap;

use tidegate_orchestrator::digest::Digest;
use tidegate_orchestrator::hold::{Cause, Hold, HoldKind, MovedPeople, Scope, Wanted};
use tidegate_orchestrator::ids::{Principal, TargetId, Timestamp};
use tidegate_policy::rule::judge::{Decision, Judge};
use tidegate_policy::rule::{Reaches, Rule};
use tidegate_policy::set::PolicySet;
use tidegate_policy::time::Seconds;

use super::{Yes, read};
use crate::app::App;
use crate::operations::signal::counted_since;
use crate::operations::{Actor, OperationError, hold as holds};
use crate::store::StoreError;
use crate::store::policy::{self as rows, Standing};
use crate::store::signal::{self as signals, SignalRow};
use again::Again;
use deciding::{Decided, Judged, decide};

/// How many signals are judged in one transaction.
const BATCH: usize = 500;
/// Who places what rules say.
const TASK: &str = "policy";

/// The active set at work, and what its windows have counted.
#[derive(Debug)]
pub struct Judging {
    policy: String,
    digest: Digest,
    /// Whoever can be asked about what this set holds: those who said yes to it, the last one first, and its author.
    asked: Vec<String>,
    facts_rev: i64,
    targets: Vec<TargetId>,
    judge: Judge,
    /// When a source that the target needs was last found to be heard again.
    recovered: Vec<Option<Timestamp>>,
    /// The last signal that was counted.
    folded: i64,
    /// A target at which signals are being judged again.
    again: Option<Again>,
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
        if !found.is_empty() {
            known.judge_batch(app, &found, standing.judged_seq).await?;
            continue;
        }
        known.folded = known.folded.max(standing.seq);
        // A page at a time: what is reported meanwhile goes first.
        if standing.rejudges > 0 && known.judge_again(app).await? {
            continue;
        }
        known.look_for_silence(app).await?;
        if standing.holds > 0 {
            lifting::lift(app, known).await?;
        }
        return Ok(());
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
    let (hold, is_new) = holds::place_wanted(app, &actor, wanted).await?;
    if is_new {
        holds::count(app, &hold);
    }
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
        let recovered = rows::recoveries(app.store.read()).await?;
        let recovered = facts
            .iter()
            .map(|(_, facts)| {
                let needs = facts.needs.iter();
                needs
                    .filter_map(|source| recovered.get(source).copied())
                    .max()
            })
            .collect();
        let (targets, facts) = facts.into_iter().unzip();
        let longest = set
            .rules
            .iter()
            .flat_map(|rule| rule.when.windows())
            .map(|window| window.within)
            .max();
        let digest = set.digest();
        let yes: Vec<Yes> = serde_json::from_str(&row.approvals).map_err(StoreError::corrupt)?;
        let yes = yes.into_iter().rev().map(|yes| yes.token);
        let mut known = Self {
            asked: yes.chain([row.author]).collect(),
            policy: row.id,
            digest,
            facts_rev: standing.facts_rev,
            targets,
            judge: Judge::new(set.rules, facts),
            recovered,
            folded: standing.judged_seq,
            again: None,
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

    async fn judge_batch(
        &mut self,
        app: &App,
        found: &[SignalRow],
        judged: i64,
    ) -> Result<(), StoreError> {
        let mut decided: Vec<Decided> = Vec::new();
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
        let done = decide(app, self, &decided, last).await?;
        self.count(app, found, &decided, &done);
        stand(app, done.placed);
        Ok(())
    }

    /// Counts what this process has judged.
    fn count(&self, app: &App, found: &[SignalRow], decided: &[Decided], done: &Judged) {
        let outcomes = decided.iter();
        let outcomes =
            outcomes.map(|(row, decisions)| (row.seq, deciding::outcome(self, decisions)));
        let outcomes: BTreeMap<i64, &'static str> = outcomes.collect();
        for row in found.iter().filter(|row| row.seq > done.after) {
            let outcome = outcomes.get(&row.seq).copied().unwrap_or("unmapped");
            let took = done.at - row.signal.received_at;
            app.meter.signals().judge(outcome, took);
        }
    }

    /// Holds what needs a source that is silent. Such a hold is there already at most looks: then nothing is locked.
    async fn look_for_silence(&self, app: &App) -> Result<(), StoreError> {
        let said = deciding::silences(self);
        if said.is_empty() {
            return Ok(());
        }
        let reports = rows::reports_in_force(app.store.read()).await?;
        let is_there = |(rule, target): (usize, usize)| {
            let rule = self.judge.rules().get(rule);
            let is_one = rule.is_none_or(|rule| match rule.then.reaches {
                Reaches::Target | Reaches::Everything => true,
                // There may be a rollout that came later.
                Reaches::Rollout | Reaches::Wave => false,
            });
            is_one
                && reports.iter().any(|report| {
                    report.first_seq == 0
                        && rule.is_some_and(|rule| rule.id == report.rule)
                        && self.targets.get(target) == Some(&report.target)
                })
        };
        if said.keys().all(|key| is_there(*key)) {
            return Ok(());
        }
        let placed = deciding::decide_besides(app, self, &said, None).await?;
        stand(app, placed);
        Ok(())
    }
}

/// Has this process know of new holds before anybody else is told.
fn stand(app: &App, placed: Vec<Hold>) {
    for hold in &placed {
        holds::stand(app, hold);
    }
    if !placed.is_empty() {
        app.wake.ring();
    }
    for hold in placed {
        holds::count(app, &hold);
    }
}
