//! Adds everything up again from the bytes, person by person, and names each difference.
//!
//! Checked: every entry of the audit trail against the hash before it, every batch against its counts,
//! its roster and its plan, every wave against its batches, that nobody is in two batches, and that whoever a
//! revert has taken back is `reverted` in the rollout that had moved them, and nobody else is (`back`), and that
//! a hold is in force for whoever one keeps back. Works
//! while the service runs: each rollout is read in one snapshot as far as the database gives one, and a
//! difference that goes away when it is looked at again was only a moment.

mod back;

use std::collections::BTreeMap;

use tidegate_orchestrator::ids::{Ordinal, RolloutId, WaveNumber};
use tidegate_orchestrator::ledger::{SlotState, Slots, Tally};
use tidegate_orchestrator::roster;

use super::view::{FsckView, Reason};
use super::{OperationError, load};
use crate::app::App;
use crate::store::ledger::{self, BatchRow};
use crate::store::part::holds_of_part;
use crate::store::rollout::{self as rollouts, RolloutRow};
use crate::store::{StoreError, audit, plan as plans, wave};

/// How many differences are named one by one.
const FINDINGS_MAX: usize = 1000;
/// How many batches or entries one read brings.
const ROWS_PER_READ: usize = 256;
/// How often a difference is looked at again while the service runs.
const LOOKS: u32 = 3;

/// Checks the whole store.
///
/// # Errors
///
/// When it cannot be reached. What does not add up is in the answer.
pub async fn check(app: &App) -> Result<FsckView, OperationError> {
    let _one = app.checks.acquire().await.map_err(StoreError::corrupt)?;
    let mut view = FsckView {
        ok: true,
        rollouts: 0,
        batches: 0,
        people: 0,
        audit_entries: 0,
        findings: Vec::new(),
    };
    chain(app, &mut view).await?;
    let mut after = None;
    loop {
        let page = rollouts::rollout_page(app.store.read(), after.clone(), ROWS_PER_READ).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.created_at.timestamp_millis(), last.id.to_string()));
        for row in page {
            rollout(app, &row, &mut view).await?;
        }
    }
    view.ok = view.findings.is_empty();
    Ok(view)
}

fn found(findings: &mut Vec<Reason>, code: &str, sentence: String) {
    if findings.len() < FINDINGS_MAX {
        findings.push(Reason {
            code: code.to_owned(),
            sentence,
        });
    }
}

/// Follows the audit trail from its first entry to its end.
async fn chain(app: &App, view: &mut FsckView) -> Result<(), StoreError> {
    let (end, end_hash) = audit::head(app.store.read()).await?;
    let (mut seq, mut hash) = (0, vec![0_u8; 32]);
    while seq < end {
        let entries = audit::entries_after(app.store.read(), seq, ROWS_PER_READ).await?;
        if entries.is_empty() {
            found(
                &mut view.findings,
                "audit_truncated",
                format!("the audit trail ends at {seq}, and should go on to {end}"),
            );
            return Ok(());
        }
        for entry in entries {
            if entry.seq != seq + 1 {
                found(
                    &mut view.findings,
                    "audit_gap",
                    format!("audit entry {} follows {seq}", entry.seq),
                );
            }
            if entry.prev_hash != hash {
                found(
                    &mut view.findings,
                    "audit_broken",
                    format!(
                        "audit entry {} does not follow from the one before",
                        entry.seq
                    ),
                );
            }
            if entry.expected_hash().0.as_slice() != entry.hash.as_slice() {
                found(
                    &mut view.findings,
                    "audit_changed",
                    format!("audit entry {} is not what was written", entry.seq),
                );
            }
            if entry.seq == end && entry.hash != end_hash {
                found(
                    &mut view.findings,
                    "audit_end",
                    format!("the audit trail does not end as remembered, at {end}"),
                );
            }
            (seq, hash) = (entry.seq, entry.hash);
            view.audit_entries += 1;
        }
    }
    // An entry and the end that it moves are written together: asked for after the entry, the end of a
    // service that goes on writing is at least as far.
    let beyond = audit::entries_after(app.store.read(), end, 1).await?;
    let (end, _) = audit::head(app.store.read()).await?;
    if let Some(beyond) = beyond.first().filter(|beyond| beyond.seq > end) {
        found(
            &mut view.findings,
            "audit_end",
            format!(
                "the audit trail is said to end at {end}, and has an entry {}",
                beyond.seq
            ),
        );
    }
    Ok(())
}

async fn rollout(app: &App, row: &RolloutRow, view: &mut FsckView) -> Result<(), OperationError> {
    view.rollouts += 1;
    let mut look = 1;
    loop {
        let mut found = Counted::default();
        let read = match counted(app, row.id, &mut found).await {
            Ok(()) => beside(app, row, &mut found).await,
            Err(error) => Err(error.into()),
        };
        match read {
            Ok(()) => {}
            // What is damaged is a finding, and the other rollouts are looked at all the same.
            Err(OperationError::Failed(StoreError::Corrupt(why))) => self::found(
                &mut found.findings,
                "rollout_unreadable",
                format!("a stored row is damaged: {why}"),
            ),
            Err(error) => return Err(error),
        }
        if found.findings.is_empty() || look == LOOKS {
            view.batches += found.batches;
            view.people += found.people;
            let room = FINDINGS_MAX.saturating_sub(view.findings.len());
            view.findings
                .extend(found.findings.into_iter().take(room).map(|reason| Reason {
                    sentence: format!("rollout `{}`: {}", row.name, reason.sentence),
                    ..reason
                }));
            return Ok(());
        }
        look += 1;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// Holds what was counted against what else is stored.
async fn beside(app: &App, row: &RolloutRow, counted: &mut Counted) -> Result<(), OperationError> {
    against_plan(app, row, counted).await?;
    against_holds(app, row, counted).await?;
    back::against_reverts(app, row, &mut counted.findings).await
}

/// Whoever is parked is so by a hold that is in force, or has ended and is still to be carried out: nobody
/// else would ever let them go.
async fn against_holds(
    app: &App,
    row: &RolloutRow,
    counted: &mut Counted,
) -> Result<(), StoreError> {
    if row.lifecycle != "running" {
        return Ok(());
    }
    for (wave, (tally, ..)) in &counted.waves {
        let parked = tally.get(SlotState::Parked);
        if parked > 0
            && holds_of_part(app.store.read(), row.id, *wave)
                .await?
                .is_empty()
        {
            let sentence =
                format!("{parked} people of wave {wave} are kept back, and no hold keeps them");
            found(&mut counted.findings, "parked_by_nobody", sentence);
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Counted {
    batches: u64,
    people: u64,
    waves: BTreeMap<WaveNumber, (Tally, u64, u64)>,
    rosters: BTreeMap<WaveNumber, Vec<Ordinal>>,
    /// Those of them who stand there: all but those transferred to another wave.
    standing: BTreeMap<WaveNumber, Vec<Ordinal>>,
    findings: Vec<Reason>,
}

/// Adds the batches of a rollout up from their bytes.
async fn counted(app: &App, id: RolloutId, counted: &mut Counted) -> Result<(), StoreError> {
    let rows = wave::waves_load(app.store.read(), id).await?;
    let mut after = (0, -1);
    loop {
        let page =
            ledger::batches_page(app.store.read(), id, None, after, None, ROWS_PER_READ).await?;
        let Some(last) = page.last() else { break };
        let tallies = ledger::batch_tallies(app.store.read(), id, after, ROWS_PER_READ).await?;
        after = (
            i64::from(last.address.wave.get()),
            i64::from(last.address.seq.get()),
        );
        for (row, (_, _, tally)) in page.iter().zip(&tallies) {
            batch(row, tally, counted);
        }
    }
    for row in rows {
        let (tally, adopted, people) = counted.waves.get(&row.number).copied().unwrap_or_default();
        // A wave whose batches are still being laid out counts everybody as queued.
        if people == row.size && tally != row.tally {
            let sentence = format!(
                "wave {} counts {}, and its batches {}",
                row.number,
                json(&row.tally),
                json(&tally)
            );
            found(&mut counted.findings, "wave_counts", sentence);
        }
        if people == row.size && adopted != row.adopted {
            let sentence = format!(
                "wave {} counts {} adopted, and its batches {adopted}",
                row.number, row.adopted
            );
            found(&mut counted.findings, "wave_adopted", sentence);
        }
        if people > row.size {
            found(
                &mut counted.findings,
                "wave_people",
                format!(
                    "wave {} has {people} people, and should have {}",
                    row.number, row.size
                ),
            );
        }
    }
    Ok(())
}

fn json(tally: &Tally) -> String {
    let parts: Vec<String> = tally
        .iter()
        .filter(|(_, people)| *people > 0)
        .map(|(state, people)| format!("{people} {state}"))
        .collect();
    if parts.is_empty() {
        "nobody".to_owned()
    } else {
        parts.join(", ")
    }
}

fn batch(row: &BatchRow, columns: &Tally, counted: &mut Counted) {
    let at = format!("batch {} of wave {}", row.address.seq, row.address.wave);
    counted.batches += 1;
    let slots = match Slots::decode(&row.slots) {
        Ok(slots) => slots,
        Err(error) => {
            return found(
                &mut counted.findings,
                "batch_slots",
                format!("{at}: {error}"),
            );
        }
    };
    let ordinals = match roster::decode(&row.roster) {
        Ok(ordinals) => ordinals,
        Err(error) => {
            return found(
                &mut counted.findings,
                "batch_roster",
                format!("{at}: {error}"),
            );
        }
    };
    if usize::from(slots.len()) != ordinals.len() || u32::from(slots.len()) != row.size {
        let sentence = format!(
            "{at} has {} states, {} people in its roster, and should have {}",
            slots.len(),
            ordinals.len(),
            row.size
        );
        found(&mut counted.findings, "batch_people", sentence);
    }
    let tally = slots.tally();
    if tally != *columns {
        found(
            &mut counted.findings,
            "batch_counts",
            format!(
                "{at} counts {}, and its people {}",
                json(columns),
                json(&tally)
            ),
        );
    }
    counted.people += u64::from(slots.len());
    let wave = counted.waves.entry(row.address.wave).or_default();
    wave.0 = wave.0.plus(&tally);
    wave.1 += slots.adopted();
    wave.2 += u64::from(slots.len());
    let here = slots.states().zip(&ordinals);
    let here = here.filter(|(state, _)| *state != SlotState::Transferred);
    counted
        .standing
        .entry(row.address.wave)
        .or_default()
        .extend(here.map(|(_, ordinal)| *ordinal));
    counted
        .rosters
        .entry(row.address.wave)
        .or_default()
        .extend(ordinals);
}

/// Compares who is in the batches with who the plan says.
async fn against_plan(
    app: &App,
    row: &RolloutRow,
    counted: &mut Counted,
) -> Result<(), OperationError> {
    let Some(plan) = row.plan else { return Ok(()) };
    let state = load::record(row)?;
    let mut seen: std::collections::HashSet<Ordinal> = std::collections::HashSet::new();
    for (wave, members) in &counted.standing {
        for ordinal in members {
            if !seen.insert(*ordinal) {
                found(
                    &mut counted.findings,
                    "person_twice",
                    format!("member {ordinal} is in two batches, one of them in wave {wave}"),
                );
            }
        }
    }
    drop(seen);
    if state.lifecycle.started().is_none() && !state.lifecycle.is_over()
        || state.lifecycle.name() == "preparing"
    {
        return Ok(());
    }
    if matches!(state.lifecycle.name(), "running" | "completed") {
        // Whoever was planned is in a batch: also those of a wave that has lost all of its batches.
        for wave in &load::plan(app, plan).await?.waves {
            counted.rosters.entry(wave.number).or_default();
        }
    }
    for (number, members) in &counted.rosters {
        let mut planned = Vec::with_capacity(members.len());
        let mut from = 0;
        loop {
            let page =
                plans::plan_roster_page(app.store.read(), plan, *number, from, ROWS_PER_READ)
                    .await?;
            let Some(last) = page.last() else { break };
            from = last.seq.get() + 1;
            for found in &page {
                planned.extend(roster::decode(&found.roster).map_err(StoreError::corrupt)?);
            }
        }
        if planned != *members {
            let sentence = format!(
                "wave {number} has {} people, and its plan {}, or others",
                members.len(),
                planned.len()
            );
            found(&mut counted.findings, "roster_differs", sentence);
        }
    }
    Ok(())
}
