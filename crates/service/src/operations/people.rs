//! The people of a rollout: by state, and one of them with the reason why they stand there.

use tidegate_orchestrator::ids::{Ordinal, PopulationVersionId, WaveNumber};
use tidegate_orchestrator::ledger::{SlotIndex, SlotState, Slots, receipt};
use tidegate_orchestrator::plan::Plan;
use tidegate_orchestrator::roster;

use super::view::{FailureView, MemberItem, PersonView, WaveRef};
use super::{OperationError, Page, load, member, status};
use crate::app::App;
use crate::store::StoreError;
use crate::store::failure::{self, FailureRow};
use crate::store::ledger::{self, BatchAddress, BatchRow};
use crate::store::revert;
use crate::store::rollout::RolloutRow;

/// How many batches one read brings.
const BATCHES_PER_READ: usize = 16;

/// Which people to list.
#[derive(Debug, Clone, Default)]
pub struct PeopleFilter {
    /// Only those in this state.
    pub state: Option<SlotState>,
    /// Only those of this wave.
    pub wave: Option<u32>,
    /// From here on.
    pub cursor: Option<String>,
}

/// Where a list goes on: wave, batch, and place in it.
type Place = (i64, i64, u16);

fn place_of(cursor: Option<&str>) -> Result<Place, OperationError> {
    let Some(cursor) = cursor else {
        return Ok((0, -1, 0));
    };
    let mut parts = cursor.splitn(3, '_');
    let mut next = || parts.next().and_then(|part| part.parse::<u32>().ok());
    let parsed = (|| {
        let (wave, seq) = (i64::from(next()?), i64::from(next()?));
        Some((wave, seq, u16::try_from(next()?).ok()?))
    })();
    parsed.ok_or_else(|| OperationError::invalid("cursor_invalid", "the cursor is not one of ours"))
}

/// Lists people of a rollout in the order of their waves.
///
/// # Errors
///
/// When there is no such rollout, or the cursor is none.
pub async fn list(
    app: &App,
    name: &str,
    filter: &PeopleFilter,
    limit: usize,
) -> Result<Page<MemberItem>, OperationError> {
    let row = load::find(app, name).await?;
    let Some(plan) = row.plan else {
        return Ok(Page {
            items: Vec::new(),
            next_cursor: None,
        });
    };
    let version = load::plan(app, plan).await?.population_version;
    let (wave, seq, mut from) = place_of(filter.cursor.as_deref())?;
    // The batch of the cursor is read again from the place in it.
    let mut after = (wave, seq - 1);
    let mut items = Vec::new();
    loop {
        let number = filter.wave.map(WaveNumber);
        let found = ledger::batches_page(
            app.store.read(),
            row.id,
            number,
            after,
            filter.state,
            BATCHES_PER_READ,
        )
        .await?;
        let Some(last) = found.last() else {
            return Ok(Page {
                items,
                next_cursor: None,
            });
        };
        after = (
            i64::from(last.address.wave.get()),
            i64::from(last.address.seq.get()),
        );
        for batch in &found {
            let is_first = (
                i64::from(batch.address.wave.get()),
                i64::from(batch.address.seq.get()),
            ) == (wave, seq);
            let begin = if is_first {
                std::mem::take(&mut from)
            } else {
                0
            };
            let room = limit - items.len();
            let (part, next) = part_of(app, version, batch, filter.state, (begin, room)).await?;
            items.extend(part);
            if let Some(next) = next {
                let cursor = format!("{}_{}_{next}", batch.address.wave, batch.address.seq);
                return Ok(Page {
                    items,
                    next_cursor: Some(cursor),
                });
            }
        }
    }
}

/// Lists people of one batch from a place on; says where to go on when there was no room for all.
async fn part_of(
    app: &App,
    version: PopulationVersionId,
    batch: &BatchRow,
    state: Option<SlotState>,
    (begin, room): (u16, usize),
) -> Result<(Vec<MemberItem>, Option<u16>), OperationError> {
    let slots = Slots::decode(&batch.slots).map_err(StoreError::corrupt)?;
    let ordinals = roster::decode(&batch.roster).map_err(StoreError::corrupt)?;
    let mut places: Vec<(SlotIndex, SlotState, Ordinal)> = slots
        .states()
        .zip(&ordinals)
        .zip(0..)
        .filter(|((found, _), index)| {
            *index >= begin && state.is_none_or(|wanted| wanted == *found)
        })
        .map(|((found, ordinal), index)| (SlotIndex(index), found, *ordinal))
        .collect();
    let next = places.get(room).map(|(index, ..)| index.0);
    places.truncate(room);
    let wanted: Vec<Ordinal> = places.iter().map(|(.., ordinal)| *ordinal).collect();
    let members = member::by_ordinals(app, version, &wanted).await?;
    let failures = match (wanted.first(), wanted.last()) {
        (Some(first), Some(last)) => {
            failure::failures_between(app.store.read(), batch.address.rollout, (*first, *last))
                .await?
        }
        _ => Vec::new(),
    };
    let items = places
        .into_iter()
        .zip(members)
        .map(|((index, state, ordinal), member)| {
            let failed = failures.iter().find(|failure| failure.ordinal == ordinal);
            MemberItem {
                key: member.key,
                wave: batch.address.wave.get(),
                state: state.name().to_owned(),
                attempts: slots.attempts(index).unwrap_or(0),
                changed_at: slots.changed_at(index),
                code: failed.map(|failed| failed.code.clone()),
                message: failed.map(|failed| failed.message.clone()),
            }
        });
    Ok((items.collect(), next))
}

/// Where one person of a rollout is kept.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// The batch.
    pub address: BatchAddress,
    /// The place in it.
    pub index: SlotIndex,
    /// The place in the population version.
    pub ordinal: Ordinal,
}

/// Finds a person in the batches of a rollout.
///
/// # Errors
///
/// When the population has no such member, or they are in no batch.
pub async fn find(app: &App, row: &RolloutRow, key: &str) -> Result<Found, OperationError> {
    let unknown = || OperationError::not_found("member", key);
    let plan = load::plan(app, row.plan.ok_or_else(unknown)?).await?;
    let ordinal = member::ordinal_of(app, plan.population_version, key)
        .await?
        .ok_or_else(unknown)?;
    let (batch, _, index) = slot_of(app, row.id, ordinal).await?.ok_or_else(unknown)?;
    Ok(Found {
        address: batch.address,
        index,
        ordinal,
    })
}

/// Returns where one person of a rollout stands, and why.
///
/// # Errors
///
/// When there is no such rollout, or its population has no such member.
pub async fn one(app: &App, name: &str, key: &str) -> Result<PersonView, OperationError> {
    let row = load::find(app, name).await?;
    let Some(plan_id) = row.plan else {
        let sentence = format!("rollout `{}` has no plan yet, so nobody is in it", row.name);
        return Err(OperationError::refused("plan_missing", sentence));
    };
    let plan = load::plan(app, plan_id).await?;
    let version = plan.population_version;
    let ordinal = member::ordinal_of(app, version, key)
        .await?
        .ok_or_else(|| OperationError::not_found("member", key))?;
    let (found, slot) = tokio::try_join!(
        member::by_ordinal(app, version, ordinal),
        slot_of(app, row.id, ordinal)
    )?;
    let attributes = found
        .attributes
        .iter()
        .map(|(name, value)| (name.clone(), member::json(value)))
        .collect();
    let mut view = PersonView {
        key: found.key,
        attributes: serde_json::Value::Object(attributes),
        wave: None,
        state: "not_in_rollout".to_owned(),
        attempts: 0,
        changed_at: None,
        remote_id: None,
        failure: None,
        why: String::new(),
    };
    match slot {
        Some((batch, slots, index)) => {
            let found = Found {
                address: batch.address,
                index,
                ordinal,
            };
            stand(app, (&row, &plan), found, &slots, &mut view).await?;
        }
        None => view.why = not_in(app, &row, &plan, ordinal).await?,
    }
    Ok(view)
}

/// Shows where somebody stands who is in a batch.
async fn stand(
    app: &App,
    (row, plan): (&RolloutRow, &Plan),
    found: Found,
    slots: &Slots,
    view: &mut PersonView,
) -> Result<(), OperationError> {
    let Found { address, index, .. } = found;
    let state = slots.state(index).ok_or(StoreError::NotFound)?;
    // Of somebody who was never begun there is nothing to read.
    let attempts = slots.attempts(index).unwrap_or(0);
    let (failed, remote_id) = if attempts > 0 || state != SlotState::Queued {
        traces(app, found).await?
    } else {
        (None, None)
    };
    let wave_name = plan
        .wave(address.wave)
        .map(|wave| wave.name.clone())
        .unwrap_or_default();
    view.why = match state {
        // Only whoever waits stands where they stand because of the rollout.
        SlotState::Queued => {
            let standing = status::of(app, row).await?;
            queued(&wave_name, &standing, address.wave.get())
        }
        SlotState::Reverted => taken_back(app, row, found.ordinal).await?,
        SlotState::Done if row.reverts.is_some() => "taken back".to_owned(),
        SlotState::InFlight if row.reverts.is_some() => {
            "a request to take this person back is under way".to_owned()
        }
        SlotState::Failed if load::record(row)?.lifecycle.is_over() => too_late(failed.as_ref()),
        _ => why(state, address.wave, (slots, index), failed.as_ref()),
    };
    view.wave = Some(WaveRef {
        number: address.wave.get(),
        name: wave_name,
    });
    state.name().clone_into(&mut view.state);
    view.attempts = attempts;
    view.changed_at = slots.changed_at(index);
    view.remote_id = remote_id;
    view.failure = failed.map(|failed| FailureView {
        code: failed.code,
        message: failed.message,
        attempts: failed.attempts,
        at: failed.at,
    });
    Ok(())
}

/// Says which revert took somebody back, and when.
async fn taken_back(
    app: &App,
    row: &RolloutRow,
    ordinal: Ordinal,
) -> Result<String, OperationError> {
    let mut said = None;
    for one in revert::reverts_of(app.store.read(), row.id).await? {
        if let Some((_, slots, index)) = slot_of(app, one.rollout, ordinal).await?
            && slots.state(index) == Some(SlotState::Done)
            && let Some(at) = slots.changed_at(index)
        {
            let at = tidegate_orchestrator::sentence::instant(at);
            said = Some(format!("taken back by `{}` at {at}", one.name));
        }
    }
    Ok(said.unwrap_or_else(|| "moved back".to_owned()))
}

/// Returns what went wrong with somebody, and what the target calls them; what it said last counts.
async fn traces(
    app: &App,
    found: Found,
) -> Result<(Option<FailureRow>, Option<String>), StoreError> {
    let (db, at) = (app.store.read(), found.address);
    let failures =
        failure::failures_between(db, at.rollout, (found.ordinal, found.ordinal)).await?;
    let mut remote_id = None;
    for body in failure::receipts_load(db, at).await? {
        let names = receipt::decode(&body).map_err(StoreError::corrupt)?;
        let named = names.into_iter().rev().find(|(of, _)| *of == found.index);
        remote_id = named.map(|(_, name)| name).or(remote_id);
    }
    Ok((failures.into_iter().next(), remote_id))
}

fn too_late(failed: Option<&FailureRow>) -> String {
    let said = failed.map_or(String::new(), |failed| {
        format!(": {} ({})", failed.message, failed.code)
    });
    format!("failed for good{said}; the rollout is over, so another one must move them")
}

async fn slot_of(
    app: &App,
    rollout: tidegate_orchestrator::ids::RolloutId,
    ordinal: Ordinal,
) -> Result<Option<(BatchRow, Slots, SlotIndex)>, StoreError> {
    for batch in ledger::batches_covering(app.store.read(), rollout, ordinal).await? {
        let ordinals = roster::decode(&batch.roster).map_err(StoreError::corrupt)?;
        if let Ok(place) = ordinals.binary_search(&ordinal) {
            let slots = Slots::decode(&batch.slots).map_err(StoreError::corrupt)?;
            let index = SlotIndex(u16::try_from(place).map_err(StoreError::corrupt)?);
            // Whoever stands in another wave now has a slot of their own there.
            if slots.state(index) != Some(SlotState::Transferred) {
                return Ok(Some((batch, slots, index)));
            }
        }
    }
    Ok(None)
}

/// Says why somebody of the population is in no batch: left out, in no wave, or not laid out yet.
async fn not_in(
    app: &App,
    row: &RolloutRow,
    plan: &Plan,
    ordinal: Ordinal,
) -> Result<String, OperationError> {
    let planned = crate::store::plan::roster_covering(
        app.store.read(),
        row.plan.ok_or(StoreError::NotFound)?,
        ordinal,
    )
    .await?;
    for found in planned {
        let ordinals = roster::decode(&found.roster).map_err(StoreError::corrupt)?;
        if ordinals.binary_search(&ordinal).is_ok() {
            let name = plan.wave(found.wave).map_or("", |wave| wave.name.as_str());
            return Ok(format!(
                "planned for wave `{name}`; nothing has begun for this wave yet"
            ));
        }
    }
    Ok(
        "in no wave of this rollout: excluded by the spec, or matching none of its waves"
            .to_owned(),
    )
}

fn why(
    state: SlotState,
    wave: WaveNumber,
    (slots, index): (&Slots, SlotIndex),
    failed: Option<&FailureRow>,
) -> String {
    let said = failed
        .map(|failed| format!(": {} ({})", failed.message, failed.code))
        .unwrap_or_default();
    let due = slots
        .due(index)
        .map(|due| format!(" after {}", tidegate_orchestrator::sentence::instant(due)))
        .unwrap_or_default();
    match state {
        SlotState::Queued => "waits for its turn".to_owned(),
        SlotState::InFlight => "a request for this person is under way".to_owned(),
        SlotState::Awaiting => {
            format!("the target accepted and has not confirmed yet; it is asked again{due}")
        }
        SlotState::Done if slots.is_adopted(index) => {
            "moved; the account was there already, under our external id".to_owned()
        }
        SlotState::Done => "moved".to_owned(),
        SlotState::Failed => {
            format!("failed for good{said}; `tidegate retry --wave {wave}` tries again")
        }
        SlotState::Retry => format!("tried again{due}{said}"),
        SlotState::Unknown => format!(
            "no answer came{said}; looked up at the target{due}, before anything is sent again"
        ),
        SlotState::Skipped => "left out by a decision".to_owned(),
        SlotState::Departed => "has left the company".to_owned(),
        SlotState::Reverting => "being moved back".to_owned(),
        SlotState::Reverted => "moved back".to_owned(),
        SlotState::Review => format!("needs a decision{said}"),
        SlotState::Transferred => "stands in another wave now".to_owned(),
        SlotState::Parked => "kept back by a hold on some people of the wave".to_owned(),
    }
}

fn queued(wave: &str, standing: &super::view::RolloutView, number: u32) -> String {
    if let Some(reason) = &standing.why_not_now {
        return format!(
            "waits in wave `{wave}`; the rollout does not move: {}",
            reason.sentence
        );
    }
    match standing.waves.iter().find(|wave| wave.number == number) {
        Some(found) if found.state == "open" || found.state == "draining" => {
            format!("next in wave `{wave}`, which is open")
        }
        Some(found) => format!("waits in wave `{wave}`, which is {}", found.state),
        None => format!("waits in wave `{wave}`"),
    }
}
