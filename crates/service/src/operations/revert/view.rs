//! How a revert is shown: who is taken back and who is not, who said yes, and what comes next.

use serde::{Deserialize, Serialize};
use tidegate_orchestrator::hold::release::Standing;
use tidegate_orchestrator::ids::{HoldId, RolloutId, Timestamp};
use tidegate_orchestrator::ledger::{SlotState, Tally};
use tidegate_orchestrator::revert::{Sheet, SheetWave};
use tidegate_orchestrator::sentence::{grouped, people};

use super::case::Looked;
use super::people::Found;
use crate::operations::OperationError;
use crate::operations::release::ApprovalView;
use crate::store::revert as rows;
use crate::store::rollout::RolloutRow;
use crate::store::{Connection, StoreError};

/// People of a wave who are not taken back, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RevertNotView {
    /// under_way, unsettled, needs_decision, taken_back_before, not_moved or unmatched.
    pub code: String,
    /// How many.
    pub people: u64,
    /// The same in words.
    pub sentence: String,
}

/// One chosen wave of the original.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RevertWaveView {
    /// Its number in the revert; none when nobody of it is taken back.
    pub number: Option<u32>,
    /// Its number in the original.
    pub origin: u32,
    /// Its name.
    pub name: String,
    /// How many are taken back.
    pub people: u64,
    /// Who is not, and why.
    pub not_taken_back: Vec<RevertNotView>,
}

/// A revert: what was asked for, and where it stands.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RevertView {
    /// The rollout that takes back; none for a preview.
    pub rollout: Option<String>,
    /// The rollout whose people are taken back.
    pub original: String,
    /// What approvals are bound to, and what `start` must name.
    pub digest: String,
    /// How many are taken back.
    pub people: u64,
    /// The chosen waves, in the order in which they are taken back.
    pub waves: Vec<RevertWaveView>,
    /// The halts in force then that do not stop it once it is started; any other hold does.
    #[schema(value_type = Vec<String>)]
    pub holds: Vec<HoldId>,
    /// preview, collecting, ready, approvals_expired, execution_expired, configuration_changed, executed or vetoed.
    pub status: String,
    /// What is missing, or what to do.
    pub sentence: String,
    /// Who asked.
    pub requested_by: Option<String>,
    /// When.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub requested_at: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
    /// Until when the next step may be taken.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// Who said yes.
    pub approvals: Vec<ApprovalView>,
    /// What is not what was approved.
    pub changed: Vec<String>,
}

/// Of a rollout that takes back: whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TakesBackView {
    /// The rollout whose people are taken back.
    #[schema(value_type = String)]
    pub id: RolloutId,
    /// Its name.
    pub name: String,
    /// The numbers of its waves.
    pub waves: Vec<u32>,
    /// The same in words, with how far it has come.
    pub sentence: String,
}

fn wave(wave: &SheetWave) -> RevertWaveView {
    let mut not: Vec<RevertNotView> = Vec::new();
    for (fate, count) in wave.fates() {
        not.push(RevertNotView {
            code: fate.name().to_owned(),
            people: count,
            sentence: format!("{} {}", people(count), fate.sentence()),
        });
    }
    if wave.unmatched() > 0 {
        not.push(RevertNotView {
            code: "unmatched".to_owned(),
            people: wave.unmatched(),
            sentence: format!(
                "{} were moved and do not match `where`",
                people(wave.unmatched())
            ),
        });
    }
    RevertWaveView {
        number: wave.number.map(|number| number.get()),
        origin: wave.origin.get(),
        name: wave.name.clone(),
        people: wave.people,
        not_taken_back: not,
    }
}

fn base(sheet: &Sheet, digest: String) -> RevertView {
    RevertView {
        rollout: None,
        original: sheet.original.clone(),
        digest,
        people: sheet.waves.iter().map(|wave| wave.people).sum(),
        waves: sheet.waves.iter().map(wave).collect(),
        holds: sheet.holds.clone(),
        status: "preview".to_owned(),
        sentence: "nothing was written: ask without dry_run to make a revert that can be approved"
            .to_owned(),
        requested_by: None,
        requested_at: None,
        reason: None,
        until: None,
        approvals: Vec::new(),
        changed: Vec::new(),
    }
}

/// Shows who would be taken back.
pub(super) fn preview(found: &Found) -> RevertView {
    base(&found.sheet, found.plan.digest.to_string())
}

/// Shows a revert that was asked for.
pub(super) fn of(row: &RolloutRow, looked: &Looked, now: Timestamp) -> RevertView {
    let request = &looked.case.request;
    let standing = looked.case.standing(now);
    let (sentence, until, changed) = said(&row.name, &standing);
    RevertView {
        rollout: Some(row.name.clone()),
        status: standing.name().to_owned(),
        sentence,
        requested_by: Some(request.by.person.to_string()),
        requested_at: Some(request.at),
        reason: Some(looked.row.reason.clone()),
        until,
        approvals: request
            .approvals
            .iter()
            .map(|one| ApprovalView {
                person: one.by.person.to_string(),
                group: one.by.group.map(|group| group.name().to_owned()),
                at: one.at,
                counts: one.counts(),
            })
            .collect(),
        changed,
        ..base(&looked.row.sheet, looked.case.digest.to_string())
    }
}

fn said(name: &str, standing: &Standing) -> (String, Option<Timestamp>, Vec<String>) {
    match standing {
        Standing::Collecting { missing, until } => (
            format!("approvals are missing: {missing}"),
            Some(*until),
            Vec::new(),
        ),
        Standing::Ready { until } => (
            format!("everybody has said yes: `tidegate revert-start {name}`"),
            Some(*until),
            Vec::new(),
        ),
        Standing::ApprovalsExpired { .. } | Standing::ExecutionExpired { .. } => (
            "its time is over: ask for another revert".to_owned(),
            None,
            Vec::new(),
        ),
        Standing::Changed { differences } => (
            "what would be taken back has changed, so no approval counts: ask for another revert"
                .to_owned(),
            None,
            differences.iter().map(ToString::to_string).collect(),
        ),
        Standing::Ended(tidegate_orchestrator::hold::release::End::Executed) => (
            format!("it was started: `tidegate status {name}`"),
            None,
            Vec::new(),
        ),
        Standing::Ended(_) => ("it was cancelled".to_owned(), None, Vec::new()),
    }
}

/// Says of a rollout whom it takes back, if it does.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn takes_back<C: Connection>(
    db: &C,
    row: &RolloutRow,
    (tally, all): (&Tally, u64),
) -> Result<Option<TakesBackView>, OperationError> {
    let Some(original) = row.reverts else {
        return Ok(None);
    };
    let revert = rows::revert_load(db, row.id).await?;
    let sheet = revert.ok_or(StoreError::NotFound)?.sheet;
    let taken = sheet.waves.iter().filter(|wave| wave.people > 0);
    let mut waves: Vec<u32> = taken.map(|wave| wave.origin.get()).collect();
    waves.sort_unstable();
    let list: Vec<String> = waves.iter().map(ToString::to_string).collect();
    let noun = if waves.len() == 1 { "wave" } else { "waves" };
    let sentence = format!(
        "takes back: {}, {noun} {}; {} of {} taken back",
        sheet.original,
        list.join(", "),
        grouped(tally.get(SlotState::Done)),
        grouped(all)
    );
    Ok(Some(TakesBackView {
        id: original,
        name: sheet.original,
        waves,
        sentence,
    }))
}
