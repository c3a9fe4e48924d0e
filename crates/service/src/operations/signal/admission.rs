//! Admission: what has come at the same time becomes durable together, and each is answered only then.
//!
//! A commit costs the same for one signal and for hundreds. Whoever has the turn takes everything that waits
//! and writes it in one transaction; the others find their answer. The commit goes on when the one that
//! began it is gone, because others wait for it. What waits is bounded: beyond that the sender is asked to
//! come again, and nothing of it is kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use tidegate_orchestrator::digest::DigestBuilder;
use tidegate_policy::Signal;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard, oneshot};
use uuid::Uuid;

use super::Admitted;
use crate::app::App;
use crate::operations::{Actor, OperationError};
use crate::store::signal::{self as rows, SignalRow};
use crate::store::{Lane, StoreError, Txn, source, transact};

/// How many signals become durable in one transaction; one request may bring more.
const GROUP_MAX: usize = 512;
/// How many requests wait at most.
const WAITING_MAX: usize = 4_096;
/// How many bytes wait at most, all together.
const BYTES_MAX: usize = 64 << 20;
/// After how many seconds a sender that was turned away may come again.
const AGAIN_SECONDS: u32 = 1;

/// What one request brings.
#[derive(Debug)]
struct Waiting {
    actor: Actor,
    signals: Vec<Signal>,
    body: Vec<u8>,
    /// Whether it shows that its source is there.
    is_heard: bool,
    answer: oneshot::Sender<Result<Vec<Uuid>, StoreError>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

/// What waits to become durable; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    queue: Arc<Mutex<Queue>>,
    turn: Arc<Turn<()>>,
}

impl Admission {
    fn push(&self, waiting: Waiting) -> Result<(), OperationError> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = queue.bytes + waiting.body.len();
        if queue.waiting.len() >= WAITING_MAX || bytes > BYTES_MAX {
            return Err(OperationError::busy(
                "overloaded",
                "more is reported than can be taken in just now: send it again",
                AGAIN_SECONDS,
            ));
        }
        queue.bytes = bytes;
        queue.waiting.push_back(waiting);
        Ok(())
    }

    fn take(&self) -> Vec<Waiting> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut group, mut signals) = (Vec::new(), 0);
        while let Some(next) = queue.waiting.front() {
            if !group.is_empty() && signals + next.signals.len() > GROUP_MAX {
                break;
            }
            signals += next.signals.len();
            queue.bytes = queue.bytes.saturating_sub(next.body.len());
            group.extend(queue.waiting.pop_front());
        }
        group
    }
}

/// Answers what is known already, without writing anything: whoever repeats what was caught costs its source nothing.
/// `None`: some of it is new.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn known(app: &App, signals: &[Signal]) -> Result<Option<Admitted>, OperationError> {
    let is_known = !signals.is_empty() && rows::are_known(app.store.read(), signals).await?;
    Ok(is_known.then(|| Admitted {
        admitted: 0,
        repeated: signals.len(),
        ids: Vec::new(),
        warnings: Vec::new(),
    }))
}

/// Admits signals that were read from these bytes: they, the bytes and the record are durable when this
/// returns, and judged soon after.
///
/// # Errors
///
/// When too much waits, or the store cannot be reached: then none was admitted, and whoever sent them must
/// send them again.
pub async fn admit(
    app: &App,
    actor: &Actor,
    signals: Vec<Signal>,
    body: &[u8],
) -> Result<Admitted, OperationError> {
    take(app, actor, signals, body, true).await
}

/// Admits what is part of a longer answer: the source is heard only when all of that has come.
///
/// # Errors
///
/// As `admit`.
pub(in crate::operations) async fn admit_part(
    app: &App,
    actor: &Actor,
    signals: Vec<Signal>,
    body: &[u8],
) -> Result<Admitted, OperationError> {
    take(app, actor, signals, body, false).await
}

async fn take(
    app: &App,
    actor: &Actor,
    signals: Vec<Signal>,
    body: &[u8],
    is_heard: bool,
) -> Result<Admitted, OperationError> {
    let count = signals.len();
    let (answer, mut answered) = oneshot::channel();
    app.admission.push(Waiting {
        actor: actor.clone(),
        signals,
        body: body.to_vec(),
        is_heard,
        answer,
    })?;
    let ids = loop {
        tokio::select! {
            biased;
            ids = &mut answered => break ids.map_err(|_| lost())?,
            turn = app.admission.turn.clone().lock_owned() => {
                let group = app.admission.take();
                let commit = app.background.spawn(commit(app.clone(), group, turn));
                if commit.await.is_err() {
                    return Err(lost().into());
                }
            }
        }
    };
    let ids = ids?;
    Ok(Admitted {
        admitted: ids.len(),
        repeated: count - ids.len(),
        ids,
        warnings: Vec::new(),
    })
}

/// Whoever should have answered is gone: nothing is known, so it is sent again, and counts once.
fn lost() -> StoreError {
    StoreError::Serialization
}

/// Writes a group, and tells each who waits for it.
async fn commit(app: App, group: Vec<Waiting>, turn: OwnedMutexGuard<()>) {
    let written = write(&app, &group).await;
    let is_alone = group.len() == 1;
    match written {
        Ok(ids) => {
            for (waiting, ids) in group.into_iter().zip(ids) {
                count(&app, &waiting, ids.len());
                let _ = waiting.answer.send(Ok(ids));
            }
        }
        Err(error) if is_alone => {
            if let Some(waiting) = group.into_iter().next() {
                let _ = waiting.answer.send(Err(error));
            }
        }
        // A store that is away is away for each of them: nobody waits for as many tries.
        Err(error) if error.is_passing() => {
            for waiting in group {
                let _ = waiting.answer.send(Err(lost()));
            }
        }
        Err(_) => {
            // One of them may be what cannot be written: each alone.
            for waiting in group {
                let written = write(&app, std::slice::from_ref(&waiting)).await;
                let ids: Result<Vec<Uuid>, _> =
                    written.map(|ids| ids.into_iter().flatten().collect());
                count(&app, &waiting, ids.as_ref().map_or(0, Vec::len));
                let _ = waiting.answer.send(ids);
            }
        }
    }
    drop(turn);
    app.wake.judge();
}

fn count(app: &App, waiting: &Waiting, new: usize) {
    let new = u64::try_from(new).unwrap_or(u64::MAX);
    if let Some(first) = waiting.signals.first().filter(|_| new > 0) {
        app.meter.signals().admit(&first.source, new);
    }
}

/// Writes a group in one transaction; returns of each request the ids of what was not known.
async fn write(app: &App, group: &[Waiting]) -> Result<Vec<Vec<Uuid>>, StoreError> {
    let ids: Vec<Vec<Uuid>> = group
        .iter()
        .map(|waiting| waiting.signals.iter().map(|_| app.ids.make()).collect())
        .collect();
    transact!(app.store, Lane::Ordinary, "signal_admit", |txn| {
        let count = group.iter().map(|waiting| waiting.signals.len()).sum();
        let last = rows::numbers_take(txn, count).await?;
        let new = numbered(txn, group, &ids, last);
        let fresh = rows::signals_insert(txn, &new).await?;
        let fresh: Vec<&SignalRow> = new.iter().filter(|row| fresh.contains(&row.seq)).collect();
        source::heard(txn, &heard(group, &fresh), txn.now()).await?;
        let raws: BTreeMap<_, _> = group
            .iter()
            .filter_map(|waiting| Some((waiting.signals.first()?.raw, waiting.body.as_slice())))
            .filter(|(raw, _)| fresh.iter().any(|row| row.signal.raw == *raw))
            .collect();
        rows::raws_keep(txn, &raws, txn.now()).await?;
        let known: BTreeSet<Uuid> = fresh.iter().map(|row| row.id).collect();
        record(txn, group, &fresh).await?;
        let kept = |ids: &Vec<Uuid>| {
            ids.iter()
                .filter(|id| known.contains(id))
                .copied()
                .collect()
        };
        Ok(ids.iter().map(kept).collect())
    })
}

/// Returns who has shown to be there. What comes again shows nothing: whoever has caught it could keep a dead source
/// alive with it.
fn heard<'a>(group: &'a [Waiting], fresh: &[&'a SignalRow]) -> Vec<&'a str> {
    let whole = group.iter().filter(|waiting| waiting.is_heard);
    let whole: BTreeSet<&str> = whole
        .flat_map(|waiting| &waiting.signals)
        .map(|signal| signal.source.as_str())
        .collect();
    let fresh: BTreeSet<&str> = fresh.iter().map(|row| row.signal.source.as_str()).collect();
    whole.intersection(&fresh).copied().collect()
}

fn numbered(txn: &Txn, group: &[Waiting], ids: &[Vec<Uuid>], last: i64) -> Vec<SignalRow> {
    let signals = group.iter().flat_map(|waiting| &waiting.signals);
    (last + 1..)
        .zip(ids.iter().flatten())
        .zip(signals)
        .map(|((seq, id), signal)| SignalRow {
            seq,
            id: *id,
            signal: Signal {
                received_at: txn.now(),
                ..signal.clone()
            },
            outcome: None,
        })
        .collect()
}

/// Records what is new: one entry for each of those who sent it, which names all of it by digest.
async fn record(txn: &mut Txn, group: &[Waiting], fresh: &[&SignalRow]) -> Result<(), StoreError> {
    let mut by_source: BTreeMap<&str, Vec<&SignalRow>> = BTreeMap::new();
    for row in fresh {
        by_source
            .entry(row.signal.source.as_str())
            .or_default()
            .push(row);
    }
    for (source, rows) in by_source {
        let sent = |waiting: &&Waiting| waiting.signals.iter().any(|one| one.source == source);
        let (Some(first), Some(last), Some(waiting)) =
            (rows.first(), rows.last(), group.iter().find(sent))
        else {
            continue;
        };
        let mut digest = DigestBuilder::default();
        for row in &rows {
            digest.part(row.id.as_bytes());
            digest.part(&rows::known_by(&row.signal).0);
            digest.part(&row.signal.raw.0);
        }
        let detail = json!({
            "source": source, "admitted": rows.len(), "first": first.seq, "last": last.seq,
            "digest": digest.finish(),
        });
        let subject = format!("signal:{}", first.id);
        txn.audit(waiting.actor.entry("signal.admit", subject, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tidegate_policy::dialect::{Origin, report};
    use tidegate_policy::signal::Trust;

    use super::*;
    use crate::clock::Clock;
    use crate::store::testing::{admitted_of, urls};
    use crate::store::{DatabaseUrl, Store};

    fn signal(app: &App, id: &str) -> (Vec<Signal>, Vec<u8>) {
        let origin = Origin {
            source: "siem".to_owned(),
            trust: Trust::SignedFresh,
            vendor: None,
            products: Default::default(),
            received_at: app.clock.now(),
        };
        let body = json!({"kind": "other", "severity": "low", "title": id}).to_string();
        let read = report::manual(body.as_bytes(), id, &origin).unwrap();
        (vec![read], body.into_bytes())
    }

    /// Sends this many at once, so that they wait for one turn; returns their answers.
    async fn together(app: &App, count: usize) -> Vec<Result<Admitted, OperationError>> {
        let turn = app.admission.turn.clone().lock_owned().await;
        let sent = (0..count).map(|number| {
            let app = app.clone();
            let (signals, body) = signal(&app, &number.to_string());
            app.background.clone().spawn(async move {
                let actor = Actor::task("source:siem");
                admit(&app, &actor, signals, &body).await
            })
        });
        let sent: Vec<_> = sent.collect();
        while app.admission.queue.lock().unwrap().waiting.len() < count {
            tokio::task::yield_now().await;
        }
        drop(turn);
        let mut answers = Vec::new();
        for one in sent {
            answers.push(one.await.unwrap());
        }
        answers
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn while_the_store_is_away_a_group_is_refused_whole_and_nothing_of_it_is_kept() {
        let Some(DatabaseUrl::Sqlite(path)) = urls().await.into_iter().next() else {
            panic!("the first is a file");
        };
        let (clock, ids) = (Clock::system(), crate::app::Ids::system());
        let url = DatabaseUrl::Sqlite(path.clone());
        let store = Store::open(&url, clock.clone(), &ids).await.unwrap();
        let app = App::new(store, clock, ids);
        let away = format!("{path}.away");
        std::fs::rename(&path, &away).unwrap();
        for answer in together(&app, 50).await {
            // Each alone would have found out by itself what was the matter, and waited for it.
            let refused = answer.unwrap_err();
            assert!(
                matches!(refused, OperationError::Failed(StoreError::Serialization)),
                "{refused:?}"
            );
        }
        std::fs::rename(&away, &path).unwrap();
        assert_eq!(
            admitted_of(&app).await,
            (0, 0, 0),
            "signals, bytes and numbers"
        );
        for answer in together(&app, 50).await {
            assert_eq!(answer.unwrap().admitted, 1, "all of it is sent again");
        }
        assert_eq!(admitted_of(&app).await, (50, 50, 50));
    }
}
