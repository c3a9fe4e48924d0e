//! Looking back: what a set would have made of what was reported, and why rules say what they say of a signal.
//!
//! Both only read, page by page, outside any transaction, so nobody who writes waits for them. What is
//! judged here is judged by `tidegate_policy`, as it is when it is reported; targets are known as they are
//! now, and what people placed and released is not played again.

use serde::{Deserialize, Serialize};
use tidegate_orchestrator::ids::Timestamp;
use tidegate_policy::document::Format;
use tidegate_policy::rule::explain::Explanation;
use tidegate_policy::rule::judge::{Judge, TargetFacts};
use tidegate_policy::set::PolicySet;
use tidegate_policy::set::replay::difference::{Step, differences};
use tidegate_policy::set::replay::{Replay, Timeline};
use tidegate_policy::time::Seconds;
use uuid::Uuid;

use super::{invalid, read};
use crate::app::App;
use crate::operations::OperationError;
use crate::operations::signal::{SignalView, counted_since, outcome_of};
use crate::store::StoreError;
use crate::store::policy as rows;
use crate::store::signal::{self as signals, SignalRow};

/// How many signals are read at once.
const PAGE: usize = 500;
/// The most signals that one replay looks at: with a few rules and targets some seconds.
pub const SIGNALS_MAX: i64 = 200_000;
/// The most signals times rules times targets of one replay: a minute or two of one core.
const WORK_MAX: i64 = 500_000_000;
/// The most explanations of one signal that are given.
const EXPLAINED_MAX: usize = 2_000;

/// What is replayed.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayRequest {
    /// The text of a set; or else `name`.
    pub text: Option<String>,
    /// How the text is written: yaml (unless said), json or toml.
    pub format: Option<String>,
    /// The name of a set that is kept.
    pub name: Option<String>,
    /// Its version; the newest unless said.
    pub version: Option<i64>,
    /// Signals received from then on; all unless said.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Signals received before then; until now unless said.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// What a set would have done, beside the active one.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplayView {
    /// What the set would have held.
    #[schema(value_type = Object)]
    pub candidate: Timeline,
    /// What the active set would have, over the same signals.
    #[schema(value_type = Object)]
    pub active: Timeline,
    /// How the first differs from the second, in the order of time.
    #[schema(value_type = Vec<Object>)]
    pub differences: Vec<Step>,
}

/// Why rules say what they say of a signal.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExplainView {
    /// The signal, and what was made of it when it was judged.
    pub signal: SignalView,
    /// The set that explains it: the one that is active now.
    pub policy: String,
    /// Its version.
    pub version: i64,
    /// Its digest.
    pub digest: String,
    /// Whether windows were counted from their beginning; otherwise from so many signals before this one.
    pub is_counted_whole: bool,
    /// What each rule says at each target.
    #[schema(value_type = Vec<Object>)]
    pub explanations: Vec<Explanation>,
    /// How many more there are than are given.
    pub left_out: usize,
}

/// Replays a set over the signals that are kept, beside the active one.
///
/// # Errors
///
/// When the set cannot be read, there are more signals than are replayed at once, or the store cannot be reached.
pub async fn replay(app: &App, request: &ReplayRequest) -> Result<ReplayView, OperationError> {
    let candidate = wanted(app, request).await?;
    let active = active(app).await?.1;
    let facts: Vec<TargetFacts> = facts(app).await?;
    let (until, last) = match request.until {
        Some(until) => (until, signals::number_at(app.store.read(), until).await?),
        // Up to the last one that there is.
        None => (
            app.store.now().await?,
            rows::standing(app.store.read()).await?.seq,
        ),
    };
    let since = request.since.unwrap_or(Timestamp::UNIX_EPOCH);
    let longest = active.longest_window().max(candidate.longest_window());
    // What windows may still count from before is counted, and decides nothing.
    let from = signals::number_at(app.store.read(), counted_since(since, longest)).await?;
    check_size(last - from, (&active, &candidate), facts.len(), from)?;
    let begin = |set: &PolicySet| Replay::new(set, facts.clone());
    let mut both = [begin(&candidate), begin(&active)];
    let mut read = from;
    while read < last {
        let mut found = signals::signals_after(app.store.read(), read, PAGE).await?;
        let Some(end) = found.last().map(|row| row.seq) else {
            break;
        };
        read = end;
        found.retain(|row| row.seq <= last);
        both = judged(both, found, since).await?;
    }
    let [candidate, active] = both.map(|replay| replay.end(until));
    Ok(ReplayView {
        differences: differences(&active, &candidate),
        candidate,
        active,
    })
}

/// Judging a page takes milliseconds, and nobody else who is served may wait for that.
async fn judged(
    both: [Replay; 2],
    found: Vec<SignalRow>,
    since: Timestamp,
) -> Result<[Replay; 2], StoreError> {
    let judging = tokio::task::spawn_blocking(move || {
        let mut both = both;
        for row in &found {
            for replay in &mut both {
                if row.signal.received_at < since {
                    replay.count(&row.signal);
                } else {
                    replay.take(&row.id.to_string(), &row.signal);
                }
            }
        }
        both
    });
    judging
        .await
        .map_err(|error| StoreError::corrupt(format!("the replay ended early: {error}")))
}

fn check_size(
    signals: i64,
    (active, candidate): (&PolicySet, &PolicySet),
    targets: usize,
    from: i64,
) -> Result<(), OperationError> {
    let rules = active.rules.len() + candidate.rules.len();
    let each = i64::try_from(rules.saturating_mul(targets)).unwrap_or(i64::MAX);
    let most = SIGNALS_MAX.min(WORK_MAX / each.max(1));
    if signals <= most {
        return Ok(());
    }
    let sentence = format!(
        "there are up to {signals} signals after number {from}, and {most} are replayed at once with {rules} rules \
         and {targets} targets: say a later `since` or an earlier `until`"
    );
    Err(OperationError::invalid("replay_too_long", sentence))
}

async fn wanted(app: &App, request: &ReplayRequest) -> Result<PolicySet, OperationError> {
    match (&request.text, &request.name) {
        (Some(text), None) if request.version.is_none() => {
            let format = match request.format.as_deref() {
                None => Format::Yaml,
                Some(name) => Format::from_name(name).ok_or_else(|| {
                    let sentence = format!("`{name}` is no format; there are: yaml, json, toml");
                    OperationError::invalid("format_unknown", sentence)
                })?,
            };
            PolicySet::parse(text, format).map_err(|errors| invalid(&errors))
        }
        (None, Some(name)) if request.format.is_none() => {
            let row = rows::policy_find(app.store.read(), name, request.version).await?;
            let row = row.ok_or_else(|| OperationError::not_found("policy", name))?;
            Ok(read(&row)?)
        }
        _ => Err(OperationError::invalid(
            "replay_unclear",
            "name either `text` (and `format`), or `name` (and `version`) of a set that is kept",
        )),
    }
}

async fn active(app: &App) -> Result<(rows::PolicyRow, PolicySet), OperationError> {
    let row = rows::policy_active(app.store.read()).await?;
    let row = row.ok_or_else(|| OperationError::not_found("policy", "active"))?;
    let set = read(&row)?;
    Ok((row, set))
}

async fn facts(app: &App) -> Result<Vec<TargetFacts>, StoreError> {
    let known = rows::facts_load(app.store.read()).await?;
    Ok(known.into_iter().map(|(_, facts)| facts).collect())
}

/// Explains what every rule of the active set says of a signal at every target, or at one.
///
/// # Errors
///
/// When there is no such signal, or the store cannot be reached.
pub async fn explain(
    app: &App,
    id: &str,
    target: Option<&str>,
) -> Result<ExplainView, OperationError> {
    let unknown = || OperationError::not_found("signal", id);
    let row = match (id.parse::<Uuid>(), id.parse::<i64>()) {
        (Ok(id), _) => signals::signal_find(app.store.read(), id).await?,
        (Err(_), Ok(seq)) => signals::signal_at(app.store.read(), seq).await?,
        (Err(_), Err(_)) => None,
    };
    let row = row.ok_or_else(unknown)?;
    let (policy, set) = active(app).await?;
    let mut known = facts(app).await?;
    if let Some(name) = target {
        known.retain(|facts| facts.name == name);
        if known.is_empty() {
            return Err(OperationError::not_found("target", name));
        }
    }
    let mut judge = Judge::new(set.rules.clone(), known);
    let longest = set.longest_window();
    let mut is_counted_whole = true;
    if longest > Seconds(0) {
        let since = counted_since(row.signal.received_at, longest);
        let begin = signals::number_at(app.store.read(), since).await?;
        let mut counted = begin.max(row.seq - SIGNALS_MAX);
        is_counted_whole = counted == begin;
        while counted + 1 < row.seq {
            let found = signals::signals_after(app.store.read(), counted, PAGE).await?;
            let before: Vec<SignalRow> =
                found.into_iter().filter(|one| one.seq < row.seq).collect();
            let Some(last) = before.last() else { break };
            counted = last.seq;
            judge = counting(judge, before).await?;
        }
    }
    let mut explanations = judge.explain(&row.signal);
    // What applies first: whoever asks wants to know that.
    explanations.sort_by_key(|one| std::cmp::Reverse((one.outcome, one.effect)));
    let left_out = explanations.len().saturating_sub(EXPLAINED_MAX);
    explanations.truncate(EXPLAINED_MAX);
    let standing = rows::standing(app.store.read()).await?;
    Ok(ExplainView {
        signal: SignalView {
            outcome: outcome_of(&row, standing.judged_seq),
            seq: row.seq,
            id: row.id,
            signal: row.signal,
        },
        policy: policy.name,
        version: policy.version,
        digest: policy.digest,
        is_counted_whole,
        explanations,
        left_out,
    })
}

async fn counting(judge: Judge, found: Vec<SignalRow>) -> Result<Judge, StoreError> {
    let counting = tokio::task::spawn_blocking(move || {
        let mut judge = judge;
        for row in &found {
            judge.take(&row.signal);
        }
        judge
    });
    counting
        .await
        .map_err(|error| StoreError::corrupt(format!("counting ended early: {error}")))
}

#[cfg(test)]
mod tests;
