//! How a preflight and a release are shown.

use serde::{Deserialize, Serialize};
use tidegate_orchestrator::hold::preflight;
use tidegate_orchestrator::hold::release::Standing;
use tidegate_orchestrator::hold::requirement::Word;
use tidegate_orchestrator::ids::{HoldId, Timestamp};

use super::facts::Looked;

/// One check.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ItemView {
    /// Whether it is passed.
    pub ok: bool,
    /// The stable code.
    pub code: String,
    /// The sentence for people.
    pub sentence: String,
}

/// What a release would meet.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PreflightView {
    /// The halt.
    #[schema(value_type = String)]
    pub hold: HoldId,
    /// Whether nothing stands in the way but approvals.
    pub ok: bool,
    /// When the targets were tested.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    /// What a request would bind approvals to now.
    pub digest: String,
    /// The checks.
    pub items: Vec<ItemView>,
}

impl PreflightView {
    pub(super) fn of(hold: HoldId, looked: &Looked) -> Self {
        let items = preflight::items(&looked.facts, looked.now);
        Self {
            hold,
            ok: looked.preflight_at.is_some() && items.iter().all(|item| item.ok),
            at: looked.preflight_at,
            digest: looked.case.substance.digest().to_string(),
            items: items
                .into_iter()
                .map(|item| ItemView {
                    ok: item.ok,
                    code: item.code,
                    sentence: item.sentence,
                })
                .collect(),
        }
    }
}

/// One person's yes.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApprovalView {
    /// The person.
    pub person: String,
    /// The seat they approved in.
    pub group: Option<String>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Whether it still counts: whoever has lost the seat has lost the yes.
    pub counts: bool,
}

/// One person's no, to this request or an earlier one.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VetoView {
    /// The person.
    pub person: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

impl From<Word> for VetoView {
    fn from(no: Word) -> Self {
        Self {
            person: no.person.to_string(),
            at: no.at,
            reason: no.note,
        }
    }
}

/// Where the release of a halt stands.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReleaseView {
    /// The halt.
    #[schema(value_type = String)]
    pub hold: HoldId,
    /// none, collecting, ready, approvals_expired, execution_expired, configuration_changed, vetoed, replaced or
    /// executed.
    pub status: String,
    /// What is missing, or what to do.
    pub sentence: String,
    /// What approvals are bound to.
    pub digest: Option<String>,
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
    /// Who has said no, also to earlier requests: whoever is asked again should know.
    pub vetoes: Vec<VetoView>,
}

impl ReleaseView {
    pub(super) fn of(looked: &Looked, vetoes: Vec<Word>, now: Timestamp) -> Self {
        let hold = looked.case.hold;
        let vetoes = vetoes.into_iter().map(VetoView::from).collect();
        let Some((row, request)) = &looked.request else {
            return Self {
                hold,
                status: "none".to_owned(),
                sentence: format!(
                    "nobody has asked for this release: `tidegate release-request {hold}`"
                ),
                digest: None,
                requested_by: None,
                requested_at: None,
                reason: None,
                until: None,
                approvals: Vec::new(),
                changed: Vec::new(),
                vetoes,
            };
        };
        let standing = request.standing(&looked.case, now);
        let (sentence, until, changed) = said(&standing);
        Self {
            hold,
            status: standing.name().to_owned(),
            sentence,
            digest: Some(request.substance.digest().to_string()),
            requested_by: Some(request.by.person.to_string()),
            requested_at: Some(request.at),
            reason: Some(row.reason.clone()),
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
            vetoes,
        }
    }
}

fn said(standing: &Standing) -> (String, Option<Timestamp>, Vec<String>) {
    match standing {
        Standing::Collecting { missing, until } => (
            format!("approvals are missing: {missing}"),
            Some(*until),
            Vec::new(),
        ),
        Standing::Ready { until } => {
            let sentence = "everybody has said yes: run the preflight, then `tidegate release`";
            (sentence.to_owned(), Some(*until), Vec::new())
        }
        Standing::ApprovalsExpired { .. } | Standing::ExecutionExpired { .. } => (
            "its time is over: ask for the release again".to_owned(),
            None,
            Vec::new(),
        ),
        Standing::Changed { differences } => {
            let changed = differences.iter().map(ToString::to_string).collect();
            let sentence =
                "what would be released has changed, so no approval counts: ask for it again";
            (sentence.to_owned(), None, changed)
        }
        Standing::Ended(end) => (format!("the request was {}", end.name()), None, Vec::new()),
    }
}
