//! Exposure: who of a rollout was moved, on the way or untouched between two instants.
//!
//! Read in one snapshot: the changes of every turn in the trail up to its end, and the batches as they
//! stand there. Each person is replayed from the trail and held against the slots, so the counts are
//! exact at the entry that the answer names, while people go on being moved. A past interval comes out
//! the same whenever it is asked for; one that ends now does when the entry (`seq`) is named too.
//!
//! `list` goes through the people with their keys, `view` is what is answered. Nothing is written, and
//! no writer waits. Memory: 16 bytes for each person of the rollout, for one question at a time.

pub mod list;
pub mod view;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta};
use serde::Deserialize;
use tidegate_orchestrator::ids::{
    BatchSeq, Epoch, Ordinal, PlanId, PopulationVersionId, RolloutId, Timestamp, WaveNumber,
    from_millis, millis,
};
use tidegate_orchestrator::ledger::exposure::{
    ExposureClass, ExposureTally, Interval, Replay, Standing,
};
use tidegate_orchestrator::ledger::{SlotState, Slots, history};
use tidegate_orchestrator::plan::PlannedWave;
use tidegate_orchestrator::{roster, sentence};
use tokio::sync::Semaphore;

use super::{OperationError, load};
use crate::app::App;
use crate::store::{Snapshot, StoreError, audit, hold, ledger, plan as plans, rollout as rollouts};

/// How many entries of the trail one read brings: an entry has some kilobytes at most.
const ENTRIES_PER_READ: usize = 64;
/// How many batches one read brings: 32,768 people, a millisecond or two of one core.
const BATCHES_PER_READ: usize = 32;
/// How many answers are remembered, for lists that are read page by page.
const FOUND_REMEMBERED: usize = 2;
/// An answer about more people is not remembered: it would take more than 64 MB.
const FOUND_PEOPLE_MAX: usize = 4_000_000;

/// What somebody asks for, as it was written.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Asked {
    /// The first instant; the creation of the rollout unless said otherwise.
    pub from: Option<String>,
    /// The last instant; now unless said otherwise.
    pub to: Option<String>,
    /// The entry of the trail to answer as of; its end unless said otherwise.
    pub seq: Option<i64>,
}

/// One person of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person {
    /// The row in the population version.
    pub ordinal: Ordinal,
    /// The place of the wave among the waves of the plan.
    pub wave: u16,
    /// What the interval was for them.
    pub class: ExposureClass,
    /// Where they stood at its end.
    pub state: SlotState,
    /// Since when, in milliseconds; 0 when nothing had ever happened to them.
    pub since: i64,
}

/// One wave of the answer.
#[derive(Debug, Clone, Default)]
pub struct Wave {
    /// Its number.
    pub number: WaveNumber,
    /// Its name.
    pub name: String,
    /// Its people.
    pub tally: ExposureTally,
}

/// Everything that was found out, for one interval and one entry of the trail.
#[derive(Debug)]
pub struct Found {
    /// The rollout.
    pub rollout: RolloutId,
    /// Its name.
    pub name: String,
    /// The interval.
    pub interval: Interval,
    /// When it was read.
    pub generated_at: Timestamp,
    /// The entry of the trail it is exact at.
    pub seq: i64,
    /// The hash of that entry.
    pub hash: Vec<u8>,
    /// The epoch.
    pub epoch: Epoch,
    /// The plan.
    pub plan_digest: String,
    /// The version of the population its people are in.
    pub version: PopulationVersionId,
    /// The waves in order.
    pub waves: Vec<Wave>,
    /// Everybody, in the order of the directory.
    pub people: Vec<Person>,
    /// How many stand elsewhere than the trail says.
    pub unexplained: u64,
    /// What is known of people in waves in which they stand no longer.
    elsewhere: Vec<(Person, Standing)>,
}

impl Found {
    /// Puts everybody into the order of the directory, each once, and counts them: plans order their
    /// people by wave, and whoever was transferred has a place in two of them.
    fn settle(mut self) -> Self {
        self.people.sort_by_key(|person| person.ordinal);
        for (there, standing) in std::mem::take(&mut self.elsewhere) {
            let found = self
                .people
                .binary_search_by_key(&there.ordinal, |person| person.ordinal);
            match found {
                Ok(place) => {
                    if let Some(here) = self.people.get_mut(place) {
                        here.join(there, &standing);
                    }
                }
                Err(place) => self.people.insert(place, there),
            }
        }
        for person in &self.people {
            if let Some(wave) = self.waves.get_mut(usize::from(person.wave)) {
                wave.tally.add(person.class, person.state);
            }
        }
        self
    }
}

impl Person {
    fn join(&mut self, there: Self, standing: &Standing) {
        let here = Standing {
            class: self.class,
            state: self.state,
            since: from_millis(self.since).filter(|_| self.since != 0),
            is_explained: true,
            is_elsewhere: false,
        };
        let (joined, was_there) = Standing::joined(&here, standing);
        let wave = if was_there { there.wave } else { self.wave };
        *self = person(self.ordinal, wave, &joined);
    }
}

/// Answers are found one at a time, and the last ones are remembered.
#[derive(Debug, Clone)]
pub struct ExposureCell(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    one: Semaphore,
    found: Mutex<VecDeque<Arc<Found>>>,
}

impl Default for ExposureCell {
    fn default() -> Self {
        Self(Arc::new(Kept {
            one: Semaphore::new(1),
            found: Mutex::default(),
        }))
    }
}

impl ExposureCell {
    fn of(&self, rollout: RolloutId, interval: Interval, seq: i64) -> Option<Arc<Found>> {
        let kept = self.0.found.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |found: &&Arc<Found>| {
            (found.rollout, found.interval, found.seq) == (rollout, interval, seq)
        };
        kept.iter().find(is_same).cloned()
    }

    fn remember(&self, found: &Arc<Found>) {
        if found.people.len() > FOUND_PEOPLE_MAX {
            return;
        }
        let mut kept = self.0.found.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(Arc::clone(found));
        if kept.len() > FOUND_REMEMBERED {
            kept.pop_front();
        }
    }
}

/// Finds out who was exposed.
///
/// # Errors
///
/// When there is no such rollout, it has no plan, or the interval is none.
pub async fn find(app: &App, name: &str, asked: &Asked) -> Result<Arc<Found>, OperationError> {
    let row = load::find(app, name).await?;
    if row.reverts.is_some() {
        let sentence = format!(
            "rollout `{}` takes people back: who was exposed is asked of the rollout that had moved them",
            row.name
        );
        return Err(OperationError::refused("revert_exposure", sentence));
    }
    let generated_at = app.store.now().await?;
    let interval = interval(asked, row.created_at, generated_at)?;
    let known = |seq: i64| app.exposures.of(row.id, interval, seq);
    if let Some(found) = asked.seq.and_then(known) {
        return Ok(found);
    }
    // Many who ask at once must not take the memory and the readers of everybody else.
    let kept = Arc::clone(&app.exposures.0);
    let _one = kept.one.acquire().await.map_err(StoreError::corrupt)?;
    if let Some(found) = asked.seq.and_then(known) {
        return Ok(found);
    }
    let snapshot = app.store.snapshot().await?;
    let mut found = read(app, &snapshot, row.id, (interval, asked.seq)).await?;
    snapshot.end().await?;
    found.generated_at = generated_at;
    let found = tokio::task::spawn_blocking(move || found.settle());
    let found = Arc::new(found.await.map_err(StoreError::corrupt)?);
    app.exposures.remember(&found);
    Ok(found)
}

/// Reads the interval; what has not happened yet is in none.
fn interval(
    asked: &Asked,
    created_at: Timestamp,
    now: Timestamp,
) -> Result<Interval, OperationError> {
    let invalid = |sentence: String| OperationError::invalid("interval_invalid", sentence);
    let from = match &asked.from {
        Some(text) => instant(text, NaiveTime::MIN),
        None => Some(created_at),
    };
    let end_of_day = NaiveTime::MIN - TimeDelta::milliseconds(1);
    let to = match &asked.to {
        Some(text) => instant(text, end_of_day),
        None => Some(now),
    };
    let (Some(from), Some(to)) = (from, to) else {
        let sentence = "`from` and `to` are instants such as 2024-01-12T09:00:00Z, or days such as 2024-01-12 (UTC)";
        return Err(invalid(sentence.to_owned()));
    };
    // Without a beginning it is the creation; somebody who asks for a time before that gets nobody.
    let from = if asked.from.is_none() {
        from.min(to)
    } else {
        from
    };
    let to = to.min(now);
    Interval::new(from, to).ok_or_else(|| {
        invalid(format!(
            "the interval must not end before it begins: {} is after {}",
            sentence::instant(from),
            sentence::instant(to)
        ))
    })
}

/// Reads an instant, or a day at a time of day. A `+` that came through a query as a blank is meant as one.
fn instant(text: &str, time: NaiveTime) -> Option<Timestamp> {
    let text = text.trim().replace(' ', "+");
    let parsed = DateTime::parse_from_rfc3339(&text).map(|at| at.to_utc());
    let day = || NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok();
    let at = parsed
        .ok()
        .or_else(|| day().map(|day| day.and_time(time).and_utc()))?;
    // What is kept has milliseconds.
    let at = DateTime::from_timestamp_millis(at.timestamp_millis())?;
    (1970..=9999)
        .contains(&chrono::Datelike::year(&at))
        .then_some(at)
}

/// Reads everything out of one snapshot.
async fn read(
    app: &App,
    at: &Snapshot,
    id: RolloutId,
    (interval, seq): (Interval, Option<i64>),
) -> Result<Found, OperationError> {
    let (end, end_hash) = audit::head(at).await?;
    let seq = seq.unwrap_or(end);
    if seq < 0 || seq > end {
        let sentence = format!("the trail has no entry {seq}: it ends at {end}");
        return Err(OperationError::invalid("seq_unknown", sentence));
    }
    let hash = match audit::entries_after(at, seq - 1, 1)
        .await?
        .into_iter()
        .next()
    {
        Some(entry) if seq < end => entry.hash,
        _ => end_hash,
    };
    let row = rollouts::rollout_load(at, id)
        .await?
        .ok_or_else(|| OperationError::not_found("rollout", id))?;
    let Some(plan_id) = row.plan else {
        let sentence = format!("rollout `{}` has no plan yet, so nobody is in it", row.name);
        return Err(OperationError::refused("plan_missing", sentence));
    };
    let plan = load::plan_in(app, at, plan_id).await?;
    let wave = |planned: &PlannedWave| Wave {
        number: planned.number,
        name: planned.name.clone(),
        tally: ExposureTally::default(),
    };
    let mut found = Found {
        rollout: id,
        name: row.name,
        interval,
        generated_at: interval.to(),
        seq,
        hash,
        epoch: hold::epoch_load(at).await?,
        plan_digest: plan.digest.to_string(),
        version: plan.population_version,
        waves: plan.waves.iter().map(wave).collect(),
        people: Vec::with_capacity(usize::try_from(plan.people).unwrap_or(0)),
        unexplained: 0,
        elsewhere: Vec::new(),
    };
    let mut replay = replayed(at, id, (interval, seq)).await?;
    batches(at, &mut found, &mut replay, seq == end).await?;
    unlaid(at, &mut found, &mut replay, plan_id).await?;
    Ok(found)
}

/// Goes through the changes of every turn up to an entry.
async fn replayed(
    at: &Snapshot,
    id: RolloutId,
    (interval, seq): (Interval, i64),
) -> Result<Replay, StoreError> {
    let mut replay = Replay::new(interval, ledger::batch_sizes(at, id).await?);
    let subject = format!("rollout:{id}");
    let mut after = 0;
    loop {
        let entries = audit::changes_between(at, &subject, (after, seq), ENTRIES_PER_READ).await?;
        let Some(last) = entries.last() else {
            return Ok(replay);
        };
        after = last.seq;
        // On a thread of its own: senders and halts must not wait for it.
        let taken = tokio::task::spawn_blocking(move || {
            for entry in entries {
                let changes = history::decode(&entry.data).map_err(StoreError::corrupt)?;
                replay.take(entry.at, &changes);
            }
            Ok::<_, StoreError>(replay)
        });
        replay = taken.await.map_err(StoreError::corrupt)??;
    }
}

/// Takes in the people of every batch, held against their slots when those are of the same instant.
async fn batches(
    at: &Snapshot,
    found: &mut Found,
    replay: &mut Replay,
    is_of_now: bool,
) -> Result<(), StoreError> {
    let mut after = (0, -1);
    loop {
        let page =
            ledger::batches_page(at, found.rollout, None, after, None, BATCHES_PER_READ).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = address(last.address.wave, last.address.seq);
        for row in page {
            let slots = if is_of_now {
                Some(Slots::decode(&row.slots).map_err(StoreError::corrupt)?)
            } else {
                None
            };
            let place = (row.address.wave, row.address.seq);
            take(found, replay, place, (&row.roster, slots.as_ref()))?;
        }
        tokio::task::yield_now().await;
    }
}

/// Takes in the people who were planned and are not laid out as batches yet: nothing was begun with them.
async fn unlaid(
    at: &Snapshot,
    found: &mut Found,
    replay: &mut Replay,
    plan: PlanId,
) -> Result<(), StoreError> {
    let mut after = (0, -1);
    loop {
        let page = plans::rosters_unlaid(at, plan, found.rollout, after, BATCHES_PER_READ).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = address(last.wave, last.seq);
        for row in page {
            take(found, replay, (row.wave, row.seq), (&row.roster, None))?;
        }
    }
}

fn address(wave: WaveNumber, seq: BatchSeq) -> (i64, i64) {
    (i64::from(wave.get()), i64::from(seq.get()))
}

/// Takes in the people of one batch.
fn take(
    found: &mut Found,
    replay: &mut Replay,
    (wave, seq): (WaveNumber, BatchSeq),
    (roster, slots): (&[u8], Option<&Slots>),
) -> Result<(), StoreError> {
    let ordinals = roster::decode(roster).map_err(StoreError::corrupt)?;
    let size = u16::try_from(ordinals.len()).map_err(StoreError::corrupt)?;
    let place = found.waves.iter().position(|found| found.number == wave);
    let place = place.ok_or_else(|| StoreError::corrupt(format!("wave {wave} is not planned")))?;
    let index = u16::try_from(place).map_err(StoreError::corrupt)?;
    let standings = replay.batch((wave, seq, size), slots);
    for (ordinal, standing) in ordinals.into_iter().zip(&standings) {
        found.unexplained += u64::from(!standing.is_explained);
        let person = person(ordinal, index, standing);
        if standing.is_elsewhere {
            found.elsewhere.push((person, *standing));
        } else {
            found.people.push(person);
        }
    }
    Ok(())
}

fn person(ordinal: Ordinal, wave: u16, standing: &Standing) -> Person {
    Person {
        ordinal,
        wave,
        class: standing.class,
        state: standing.state,
        since: standing.since.map_or(0, millis),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(from: Option<&str>, to: Option<&str>) -> Asked {
        Asked {
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
            seq: None,
        }
    }

    #[test]
    fn a_day_is_a_whole_day_and_what_has_not_happened_is_in_no_interval() {
        let at = |text: &str| instant(text, NaiveTime::MIN).unwrap();
        let (created, now) = (at("2024-01-01"), at("2024-01-20T12:00:00Z"));
        let read = |from, to| {
            interval(&asked(from, to), created, now)
                .ok()
                .map(|found| (found.from().to_rfc3339(), found.to().to_rfc3339()))
        };
        let expect = |from: &str, to: &str| Some((from.to_owned(), to.to_owned()));
        assert_eq!(
            read(Some("2024-01-12"), Some("2024-01-19")),
            expect("2024-01-12T00:00:00+00:00", "2024-01-19T23:59:59.999+00:00")
        );
        assert_eq!(
            read(None, Some("2031-01-01")),
            expect("2024-01-01T00:00:00+00:00", "2024-01-20T12:00:00+00:00")
        );
        assert_eq!(
            read(Some("2024-01-12T10:00:00 01:00"), None),
            expect("2024-01-12T09:00:00+00:00", "2024-01-20T12:00:00+00:00")
        );
        assert_eq!(read(Some("2024-01-19"), Some("2024-01-12")), None);
        assert_eq!(read(Some("2025-01-01"), None), None, "the future");
        assert_eq!(read(Some("yesterday"), None), None);
    }
}
