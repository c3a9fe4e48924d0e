//! What must hold after an attack: nobody was sent under a quiet hold, nobody was claimed under a hold,
//! nobody is lost, nobody was moved twice, everything adds up, and what was acknowledged was kept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::field::Field;
use super::log::{Attempt, Log, Placed};
use super::schedule::{ROLLOUTS, Schedule, Scope};
use crate::support::holds::in_force;
use crate::support::recorder::Call;
use crate::support::service::check_books;
use crate::support::trail;

/// The figures of an attack.
#[derive(Debug, Default, Clone)]
pub(super) struct Verdict {
    /// How many requests reached the target.
    pub(super) requests: usize,
    /// How many holds were told to be quiet, and for how long in all they were watched.
    pub(super) quiet: usize,
    pub(super) watched: Duration,
    /// How many holds were acknowledged.
    pub(super) holds: usize,
    /// How many answers of the clients said yes, and how many said that it is not possible now.
    pub(super) answers: BTreeMap<u16, u32>,
    /// How often outcomes of a lost lease were refused.
    pub(super) refused_late: usize,
    /// How many creations came again and found the account there.
    pub(super) again: usize,
}

/// Says when the time under a quiet hold ends: when somebody may first have lifted it. An answer is as old
/// as its question: whoever lifts meanwhile may have been later than the answer, and earlier than its reader.
fn ends(
    (asked, quiet): (Instant, Instant),
    attempts: &[Attempt],
    lifted: Instant,
) -> Option<Instant> {
    let mut end = lifted;
    for attempt in attempts {
        let is_refused = attempt.ended.is_some() && !attempt.is_done;
        if is_refused || attempt.ended.is_some_and(|ended| ended < asked) {
            continue;
        }
        if attempt.begun <= quiet {
            return None;
        }
        end = end.min(attempt.begun);
    }
    Some(end)
}

const fn covers(scope: Scope) -> Option<&'static str> {
    match scope {
        Scope::Everything => None,
        Scope::Target(name) | Scope::Rollout(name) => Some(name),
    }
}

/// Fails unless exactly the holds are in force that must be: all that were acknowledged and that nobody
/// tried to lift, and none that was lifted.
pub(super) async fn still_in_force(field: &Field<'_>, log: &Log) {
    let listed = in_force(&field.api(0)).await;
    let listed: BTreeSet<&str> = listed
        .iter()
        .filter_map(|hold| hold["id"].as_str())
        .collect();
    for (id, placed) in log.holds() {
        let attempts = log.attempts_at(&id, &placed);
        let is_listed = listed.contains(id.as_str());
        assert!(
            is_listed || !attempts.is_empty(),
            "hold {id} was acknowledged, and is gone: {placed:?}"
        );
        let by_id = |attempt: &&Attempt| matches!(&attempt.what, super::log::Lifted::Hold(_));
        let is_lifted = attempts.iter().filter(by_id).any(|attempt| attempt.is_done);
        assert!(!is_listed || !is_lifted, "hold {id} was lifted, and stands");
    }
}

/// Judges everything, once everybody has arrived.
pub(super) async fn verdict(
    field: Field<'_>,
    log: &Log,
    schedule: &Schedule,
    lifted: Instant,
) -> Verdict {
    let api = field.api(0);
    let mut verdict = Verdict {
        answers: log.answers(),
        ..Verdict::default()
    };
    nobody_sent_under_a_quiet_hold(&field, log, lifted, &mut verdict);
    for name in ROLLOUTS {
        let view = api.get(&format!("/v1/rollouts/{name}")).await.ok();
        everybody_once(&view, &field.target.accounts(name), schedule.people);
    }
    let entries = trail::trail(&api).await;
    let rollouts = field.rollouts().await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let targets = rollouts
        .iter()
        .map(|one| (text(&one["id"]), text(&one["target"])));
    let left = trail::replay(&entries, &targets.collect());
    assert!(left.is_empty(), "the trail says that {left:?} still stand");
    verdict.refused_late = trail::count(&entries, "ledger.outcomes_refused");
    verdict.again = field.target.created_again().len();
    verdict.requests = field.target.len();
    let strange = log.strange();
    assert!(
        strange.is_empty(),
        "answers that nothing explains: {strange:#?}"
    );
    let (database, _target) = field.end();
    tokio::task::block_in_place(|| check_books(&database));
    verdict
}

fn nobody_sent_under_a_quiet_hold(
    field: &Field<'_>,
    log: &Log,
    lifted: Instant,
    verdict: &mut Verdict,
) {
    for (id, placed) in log.holds() {
        verdict.holds += 1;
        let Some(quiet) = placed.quiet else { continue };
        let (_, told) = quiet;
        let Some(end) = ends(quiet, &log.attempts_at(&id, &placed), lifted) else {
            continue;
        };
        verdict.quiet += 1;
        verdict.watched += end.saturating_duration_since(told);
        let calls = field.target.begun_in(told, end);
        let calls: Vec<Call> = calls
            .into_iter()
            .filter(|call| covers(placed.scope).is_none_or(|name| name == call.tenant))
            .collect();
        assert!(calls.is_empty(), "{}", sent(&id, &placed, told, &calls));
    }
}

fn sent(id: &str, placed: &Placed, quiet: Instant, calls: &[Call]) -> String {
    let mut text = format!("sent under hold {id}, which was told to be quiet: {placed:?}\n");
    for call in calls {
        let after = call.at.saturating_duration_since(quiet).as_millis();
        text += &format!(
            "  {after} ms after: {} {} {} {}\n",
            call.tenant, call.method, call.about, call.status
        );
    }
    text
}

/// Fails unless everybody is in one state, whoever is done has one account, and nobody else has any.
fn everybody_once(view: &Value, accounts: &BTreeMap<String, u32>, people: u32) {
    let totals = view["totals"].as_object().unwrap();
    let of = |state: &str| totals.get(state).and_then(Value::as_u64).unwrap_or(0);
    assert_eq!(
        of("done") + of("failed"),
        u64::from(people),
        "lost: {view:#}"
    );
    let twice: Vec<_> = accounts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "moved twice: {twice:?}");
    assert_eq!(accounts.len() as u64, of("done"), "accounts: {view:#}");
}
