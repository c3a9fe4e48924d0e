//! What rules know of targets: whose they are, and which sources they need.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate_orchestrator::ids::TargetId;
use tidegate_policy::rule::judge::TargetFacts;
use tidegate_policy::signal::folded;

use crate::app::App;
use crate::operations::{Actor, OperationError, source, target};
use crate::store::policy::{self as rows, Rejudge};
use crate::store::{Lane, StoreError, Txn, signal as signals, source as source_rows, transact};

/// What rules know of a target.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FactsView {
    /// Whose product it is.
    #[serde(default)]
    pub vendor: Option<String>,
    /// Which products it uses; empty: all of the vendor.
    #[serde(default)]
    pub products: Vec<String>,
    /// Its tenant at the vendor; none: any.
    #[serde(default)]
    pub tenant: Option<String>,
    /// The sources that it needs: when one of them is blind, rules about that hold.
    #[serde(default)]
    pub sources: Vec<String>,
}

/// Returns what rules know of a target.
///
/// # Errors
///
/// When there is no such target.
pub async fn get(app: &App, name: &str) -> Result<FactsView, OperationError> {
    let row = target::find(app, name).await?;
    let known = rows::facts_load(app.store.read()).await?;
    let facts = known.into_iter().find(|(id, _)| *id == row.id);
    let facts = facts.map(|(_, facts)| facts).unwrap_or_default();
    Ok(FactsView {
        vendor: facts.vendor,
        products: facts.products.into_iter().collect(),
        tenant: facts.tenant,
        sources: facts.needs.into_iter().collect(),
    })
}

/// Writes what rules know of a target. What was reported before is judged there by what is known now.
///
/// # Errors
///
/// When there is no such target or a source that it is to need, or the store cannot be reached.
pub async fn set(
    app: &App,
    actor: &Actor,
    name: &str,
    facts: &FactsView,
) -> Result<FactsView, OperationError> {
    let row = target::find(app, name).await?;
    let words = facts
        .products
        .iter()
        .chain(&facts.vendor)
        .chain(&facts.tenant);
    if words.into_iter().any(|word| word.len() > WORD_MAX) {
        let sentence = format!("a vendor, a product and a tenant have at most {WORD_MAX} bytes");
        return Err(OperationError::invalid("facts_invalid", sentence));
    }
    let named = |text: &Option<String>| {
        let text = text.as_deref().map(given);
        text.filter(|text| !text.is_empty())
    };
    let known = TargetFacts {
        name: String::new(),
        vendor: named(&facts.vendor),
        products: facts.products.iter().map(|one| given(one)).collect(),
        tenant: named(&facts.tenant),
        needs: facts.sources.iter().cloned().collect(),
        blind: Default::default(),
    };
    let done: Result<(), OperationError> = transact!(
        app.store,
        Lane::Ordinary,
        "target_facts",
        |txn| {
            // Whoever decides waits: no hold is placed between the look and the change.
            rows::judged_lock(txn).await?;
            let before = rows::facts_load(txn).await?;
            let before = before.into_iter().find(|(id, _)| *id == row.id);
            let before = before.map(|(_, facts)| facts).unwrap_or_default();
            for source in known.needs.difference(&before.needs) {
                needed(txn, source).await?;
            }
            let is_another = compared(&before) != compared(&known);
            if is_another {
                not_held_by_facts(txn, row.id, &before).await?;
            }
            rows::facts_put(txn, row.id, &known).await?;
            if is_another {
                judge_again(txn, row.id).await?;
            }
            let detail = json!({
                "vendor": known.vendor, "products": known.products, "tenant": known.tenant, "sources": known.needs,
            });
            txn.audit(actor.entry("target.facts", format!("target:{}", row.id), detail));
            Ok(())
        }
    );
    done?;
    app.wake.judge();
    get(app, name).await
}

/// Returns a name as somebody gave it, with one blank between words: it is shown so, and compared folded.
fn given(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

/// Returns what rules compare of a target: the same name written another way is no change.
fn compared(facts: &TargetFacts) -> (Option<String>, BTreeSet<String>, Option<String>) {
    (
        facts.vendor.as_deref().map(folded),
        facts.products.iter().map(|one| folded(one)).collect(),
        facts.tenant.as_deref().map(folded),
    )
}

/// The longest vendor, product or tenant, in bytes: less than what is kept of what is reported, so that they can be the same.
const WORD_MAX: usize = 256;
/// How far back a target that is new, or is another vendor's now, is judged by what was reported; further,
/// where a hold in force goes back further.
const LOOK_BACK: chrono::TimeDelta = chrono::TimeDelta::days(30);

/// Has what was judged by now judged at a target that has become another one.
async fn judge_again(txn: &Txn, target: TargetId) -> Result<(), StoreError> {
    let since = txn.now().checked_sub_signed(LOOK_BACK).unwrap_or_default();
    let recent = signals::number_at(txn, since).await?;
    let held = rows::first_in_force(txn).await?;
    let wanted = Rejudge {
        target,
        since: held.map_or(recent, |first| recent.min(first - 1)),
        // What comes later is judged by what is known now.
        until: rows::judged_lock(txn).await?,
    };
    rows::rejudge_put(txn, &wanted).await
}

/// Whoever says that a target is another vendor's frees it from what was reported of this one. Of whose nothing
/// was known, it can only come under more.
async fn not_held_by_facts(
    txn: &Txn,
    target: TargetId,
    before: &TargetFacts,
) -> Result<(), OperationError> {
    if before.vendor.is_none() && before.products.is_empty() && before.tenant.is_none() {
        return Ok(());
    }
    nothing_waits(txn).await?;
    let reports = rows::reports_in_force(txn).await?;
    // What holds for a silent source goes back to no signal, and does not ask whose the target is.
    let mut held = reports.iter().filter(|report| report.first_seq > 0);
    match held.find(|report| report.target == target) {
        Some(report) => {
            let sentence = format!(
                "rule `{}` holds this target (`{}`) by what is known of it: release that first",
                report.rule, report.hold
            );
            Err(OperationError::refused("rule_in_use", sentence))
        }
        None => Ok(()),
    }
}

/// What was reported before is judged by what was known then.
async fn nothing_waits(txn: &Txn) -> Result<(), OperationError> {
    let standing = rows::standing(txn).await?;
    if standing.judged_seq < standing.seq {
        let sentence =
            "something was reported that the rules have not looked at yet: try again in a moment";
        return Err(OperationError::refused("signals_waiting", sentence));
    }
    Ok(())
}

/// Checks that somebody would notice if a source that a target is to need fell silent.
async fn needed(txn: &Txn, name: &str) -> Result<(), OperationError> {
    let row = source_rows::source_find(txn, name).await?;
    let row = row
        .filter(|row| row.revoked_at.is_none())
        .ok_or_else(|| OperationError::not_found("source", name))?;
    let (_, config) = source::config_of(&row)?;
    if config.silent_after().is_none() {
        let sentence = format!(
            "nobody would notice that source `{name}` is silent: create one with `silent_after_seconds` (--silent-after)"
        );
        return Err(OperationError::invalid("source_unwatched", sentence));
    }
    Ok(())
}
