//! Lifting: a pause or gate of a rule ends once its condition has been clear for as long as the rule says.

use serde_json::json;
use tidegate_orchestrator::hold::{Hold, HoldKind, Release};
use tidegate_orchestrator::ids::{Principal, TargetId, Timestamp};
use tidegate_policy::rule::{Reaches, Rule};

use super::deciding::is_for_a_fault;
use super::{Judging, TASK};
use crate::app::App;
use crate::operations::{Actor, hold as holds};
use crate::store::policy::{self as rows, ReportRow};
use crate::store::signal as signals;
use crate::store::{Lane, StoreError, Txn, hold as hold_rows, transact};

impl Judging {
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
        let meant: Vec<usize> = (0..)
            .zip(&self.targets)
            .filter(|(_, target)| is_meant(target))
            .map(|(target, _)| target)
            .collect();
        // Of a hold on everything each target must be clear.
        if rule.is_about_sources() {
            let facts = meant.iter().map(|target| self.judge.targets().get(*target));
            if facts.flatten().any(|facts| !facts.blind.is_empty()) {
                return Ok(false);
            }
            // Only being heard ends it: a source that is needed no more was not heard, so people end that.
            let row = hold_rows::hold_load(app.store.read(), report.hold).await?;
            let placed = row.ok_or(StoreError::NotFound)?.hold()?.placed_at;
            let heard = meant.iter().map(|target| self.recovered.get(*target));
            let since = heard.flatten().flatten().max();
            return Ok(since.is_some_and(|since| *since >= placed && now >= after.after(*since)));
        }
        let reached = meant
            .iter()
            .filter_map(|target| self.judge.reached_until(place, *target));
        let until = match reached.max() {
            Some(until) => until,
            None => reached_at_most_until(app, rule, report).await?,
        };
        Ok(now >= after.after(until))
    }
}

/// Ends pauses and gates whose rule says so, once their condition has been clear for long enough. Only what
/// the rule itself placed, and never a halt.
pub(super) async fn lift(app: &App, known: &Judging) -> Result<(), StoreError> {
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
    txn.audit(actor.entry("hold.lift", format!("hold:{}", ended.id), detail));
    Ok(Some(ended))
}
