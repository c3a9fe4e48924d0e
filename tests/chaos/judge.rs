//! What must hold after an attack: nobody was sent under a quiet hold, or for longer than they may after it was
//! answered; nobody was claimed under a hold, nobody is lost, nobody was moved twice, everything adds up,
//! and what was acknowledged was kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::field::Field;
use super::log::{Attempt, Lifted, Log, Placed, Told};
use super::run::{CONCURRENCY, Round};
use super::schedule::Scope;
use crate::support::holds::in_force;
use crate::support::people::until_status;
use crate::support::recorder::Call;
use crate::support::service::check_books;
use crate::support::trail;

/// How long a permit lives: whoever does not know a hold begins nothing later than so long after its answer.
pub(super) const PERMIT: Duration = Duration::from_secs(2);
/// How late the target may note a request that had begun in time, on a machine that is busy.
const GRACE: Duration = Duration::from_secs(1);
/// How long everybody may take to arrive, once nothing goes wrong any more.
const ARRIVES_WITHIN: u64 = 240;

/// The figures of an attack.
#[derive(Debug, Default, Clone)]
pub(super) struct Verdict {
    /// How many holds were told to be quiet, and for how long in all they were watched.
    pub(super) quiet: usize,
    pub(super) watched: Duration,
    /// How many holds were acknowledged, and by how many processes in all.
    pub(super) holds: usize,
    pub(super) acknowledged: usize,
    /// How many answers of the clients said yes, and how many said that it is not possible now.
    pub(super) answers: BTreeMap<u16, u32>,
    /// How long after the answer of a replica its last request came.
    pub(super) last_own: Duration,
    /// How long after the answer of any replica the last request of all came.
    pub(super) last_of_all: Duration,
    /// How long its parts took: until everybody was quiet, was there again, and had everything lifted.
    pub(super) parts: Vec<Duration>,
    /// The requests that were on their way from the check to the socket when their process was frozen: the one
    /// thing that a stop does not cover (docs/ARCHITECTURE.md).
    pub(super) frozen_on_the_way: BTreeSet<Instant>,
}

/// Says when the time under a hold ends of which something was told: when somebody may first have lifted it. An
/// answer is as old as its question: whoever lifts meanwhile may have been later than the answer, and
/// earlier than its reader.
fn ends(told: Told, attempts: &[Attempt], lifted: Instant) -> Option<Instant> {
    let mut end = lifted;
    for attempt in attempts {
        let is_refused = attempt.ended.is_some() && !attempt.is_done;
        if is_refused || attempt.ended.is_some_and(|ended| ended < told.asked) {
            continue;
        }
        if attempt.begun <= told.at {
            return None;
        }
        end = end.min(attempt.begun);
    }
    Some(end)
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
        let by_id = |attempt: &&Attempt| matches!(&attempt.what, Lifted::Hold(_));
        let is_lifted = attempts.iter().filter(by_id).any(|attempt| attempt.is_done);
        assert!(!is_listed || !is_lifted, "hold {id} was lifted, and stands");
    }
}

/// Judges an attack whose holds are lifted.
pub(super) fn of_a_round(field: &Field<'_>, round: &Round, lifted: Instant) -> Verdict {
    let mut verdict = Verdict {
        answers: round.log.answers(),
        ..Verdict::default()
    };
    for (id, placed) in round.log.holds() {
        let one = Judged {
            field,
            name: match placed.scope {
                Scope::Everything => None,
                Scope::Target(name) | Scope::Rollout(name) => Some(round.name(name)),
            },
            attempts: round.log.attempts_at(&id, &placed),
            lifted,
            what: format!("hold {id} on {:?}", placed.scope),
        };
        verdict.holds += 1;
        one.stops_after_the_answer(&placed, &mut verdict);
        one.stops_with_the_acknowledgement(&placed, &mut verdict);
        one.is_quiet_when_quiet(&placed, &mut verdict);
    }
    let mut strange = round.log.strange();
    let away = round.log.away().into_iter();
    let unexplained = away.filter(|away| !field.explains(away.replica, away.told));
    strange.extend(unexplained.map(|away| away.what));
    assert!(
        strange.is_empty(),
        "answers that nothing explains: {strange:#?}"
    );
    verdict
}

/// A hold, and what is known of it.
struct Judged<'a> {
    field: &'a Field<'a>,
    /// Which target it covers; none: all.
    name: Option<String>,
    attempts: Vec<Attempt>,
    lifted: Instant,
    what: String,
}

impl Judged<'_> {
    /// Returns the requests that it covers and that came after something was told, as long as it stood for certain.
    fn since(&self, told: Told, door: Option<usize>) -> (Duration, Vec<Call>) {
        let Some(end) = ends(told, &self.attempts, self.lifted) else {
            return (Duration::ZERO, Vec::new());
        };
        let mut calls = self.field.target.begun_in(told.at, end);
        calls.retain(|call| {
            self.name.as_ref().is_none_or(|name| *name == call.tenant)
                && (door.is_none() || call.door == door)
        });
        (end.saturating_duration_since(told.at), calls)
    }

    /// The replica that answered knows the hold, and begins nothing more. The others know it at the latest when
    /// the permits are over that they had.
    fn stops_after_the_answer(&self, placed: &Placed, verdict: &mut Verdict) {
        for (replica, told) in &placed.answered {
            let (_, own) = self.since(*told, Some(*replica));
            let own = self.without_frozen(*told, own, verdict);
            let what = format!("by replica {replica} long after it had answered");
            let last = self.none_later(*told, GRACE, &own, &what);
            verdict.last_own = verdict.last_own.max(last);
            let (_, all) = self.since(*told, None);
            let all = self.without_frozen(*told, all, verdict);
            let last = self.none_later(*told, PERMIT + GRACE, &all, "though every permit was over");
            verdict.last_of_all = verdict.last_of_all.max(last);
        }
    }

    /// A process that has acknowledged it has nobody under way, and begins nothing.
    fn stops_with_the_acknowledgement(&self, placed: &Placed, verdict: &mut Verdict) {
        for (process, told) in &placed.acknowledged {
            let Some(replica) = self.field.replica_of(*process) else {
                panic!("{}: nobody knows process {process}", self.what);
            };
            verdict.acknowledged += 1;
            let (_, calls) = self.since(*told, Some(replica));
            let what = format!("by replica {replica}, which had acknowledged it");
            self.none_later(*told, Duration::ZERO, &calls, &what);
        }
    }

    /// Nobody can send.
    fn is_quiet_when_quiet(&self, placed: &Placed, verdict: &mut Verdict) {
        let Some(told) = placed.quiet else { return };
        let (watched, calls) = self.since(told, None);
        verdict.quiet += usize::from(!watched.is_zero());
        verdict.watched += watched;
        let calls = self.without_frozen(told, calls, verdict);
        self.none_later(
            told,
            Duration::ZERO,
            &calls,
            "though it was told to be quiet",
        );
    }

    /// Fails when a request came later than allowed; returns how late the last one came.
    fn none_later(&self, told: Told, allowed: Duration, calls: &[Call], what: &str) -> Duration {
        let after = |call: &Call| call.at.saturating_duration_since(told.at);
        let late = calls.iter().filter(|call| after(call) > allowed);
        let mut text = String::new();
        for call in late {
            let Call {
                tenant,
                method,
                about,
                status,
                ..
            } = call;
            let millis = after(call).as_millis();
            let _ = writeln!(
                text,
                "  {millis} ms after: {tenant} {method} {about} {status}, door {:?}, {}",
                call.door,
                self.frozen_before(call, told)
            );
        }
        assert!(text.is_empty(), "{}: sent {what}:\n{text}", self.what);
        calls.iter().map(after).max().unwrap_or_default()
    }

    /// Takes out the requests that may have been on their way to the socket when their process was frozen, before
    /// it can have known of the hold: as many as one target may have at once, right after it was woken. Without
    /// the check before the socket there would be more.
    fn without_frozen(&self, told: Told, calls: Vec<Call>, verdict: &mut Verdict) -> Vec<Call> {
        let mut woken = BTreeMap::<Instant, Vec<Instant>>::new();
        for call in &calls {
            if let Some(woke) = self.woke_before(call, told) {
                woken.entry(woke).or_default().push(call.at);
            }
        }
        woken.retain(|_, calls| calls.len() as u64 <= CONCURRENCY);
        let excused: BTreeSet<Instant> = woken.into_values().flatten().collect();
        let rest = calls.into_iter();
        let rest = rest.filter(|call| !excused.contains(&call.at)).collect();
        verdict.frozen_on_the_way.extend(excused);
        rest
    }

    /// Returns when the sender of a request was woken, that was frozen for longer than its permit, from about when
    /// something was told, and sent this right after.
    fn woke_before(&self, call: &Call, told: Told) -> Option<Instant> {
        let frozen = self.field.frozen();
        let its = frozen.iter().filter(|one| Some(one.replica) == call.door);
        let woke = its
            .filter(|one| one.from <= told.at + GRACE)
            .filter_map(|one| one.until.filter(|until| *until >= one.from + PERMIT))
            .filter(|woke| told.asked <= *woke && *woke <= call.at && call.at <= *woke + GRACE);
        woke.max()
    }

    fn frozen_before(&self, call: &Call, told: Told) -> String {
        self.woke_before(call, told).map_or_else(
            || "not frozen meanwhile".to_owned(),
            |woke| {
                let after = call.at.saturating_duration_since(woke).as_millis();
                format!("{after} ms after its process was woken")
            },
        )
    }
}

/// What all attacks on a field come to.
#[derive(Debug, Default, Clone)]
pub(super) struct Sum {
    /// How many requests reached the target.
    pub(super) requests: usize,
    /// How often outcomes of a lost lease were refused.
    pub(super) refused_late: usize,
    /// How many creations came again and found the account there.
    pub(super) again: usize,
}

/// Waits until everybody of all attacks has arrived, and judges what is to be judged then.
pub(super) async fn in_the_end(field: Field<'_>, rounds: &[Round]) -> Sum {
    let api = field.api(0);
    let mut targets = BTreeMap::new();
    for name in rounds.iter().flat_map(Round::names) {
        let view = until_status(&api, &name, "completed", ARRIVES_WITHIN).await;
        let told = || field.target.refused_and_there(&name);
        everybody_once(&view, &field.target.accounts(&name), field.people, told);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        targets.insert(text(&view["id"]), text(&view["target"]["id"]));
    }
    let entries = trail::trail(&api).await;
    let left = trail::replay(&entries, &targets);
    assert!(left.is_empty(), "the trail says that {left:?} still stand");
    assert_eq!(field.target.unknown(), 0, "requests of nobody knows whom");
    let again = field.target.created_again();
    let sum = Sum {
        requests: field.target.len(),
        refused_late: trail::count(&entries, "ledger.outcomes_refused"),
        again: again.len(),
    };
    let database = field.end();
    tokio::task::block_in_place(|| check_books(&database));
    sum
}

/// Fails unless everybody is in one state, whoever is done has one account, and nobody else has any.
fn everybody_once(
    view: &Value,
    accounts: &BTreeMap<String, u32>,
    people: u32,
    told: impl Fn() -> String,
) {
    let totals = view["totals"].as_object().unwrap();
    let of = |state: &str| totals.get(state).and_then(Value::as_u64).unwrap_or(0);
    assert_eq!(
        of("done") + of("failed"),
        u64::from(people),
        "lost: {view:#}"
    );
    let twice: Vec<_> = accounts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "moved twice: {twice:?}");
    let (there, done) = (accounts.len() as u64, of("done"));
    assert!(
        there == done,
        "{there} accounts, and {done} people are done:\n{}{view:#}",
        told()
    );
}
