//! What the operations answer with: a rollout, its waves, its holds and its people.
//!
//! The names are those of the wire; `http` may serialise these as they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_orchestrator::digest::Digest;
use tidegate_orchestrator::hold::{Part, Scope};
use tidegate_orchestrator::ids::{
    Epoch, Generation, HoldId, PlanId, PopulationId, PopulationVersionId, RolloutId, TargetId,
    Timestamp, WaveNumber, WorkerId,
};
use tidegate_policy::Condition;
use tidegate_policy::condition::written as condition;

use super::hold::heads::HeadCountsView;
use super::hold::part::PartView;
use super::revert::TakesBackView;

/// People of a rollout or wave by the state they are in.
pub type Counts = BTreeMap<String, u64>;

/// The target of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TargetRef {
    /// Its id.
    #[schema(value_type = String)]
    pub id: TargetId,
    /// Its name.
    pub name: String,
}

/// A stable code and its sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reason {
    /// The stable code.
    pub code: String,
    /// The sentence for people.
    pub sentence: String,
}

/// The population of a rollout and the version its plan is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PopulationRef {
    /// The population.
    #[schema(value_type = String)]
    pub id: PopulationId,
    /// Its name.
    pub name: String,
    /// The version the plan was compiled from, when there is a plan.
    #[schema(value_type = Option<String>)]
    pub version_id: Option<PopulationVersionId>,
}

/// How a rollout stands. Everything in it comes from rows as many as it has waves and holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutView {
    /// The rollout.
    #[schema(value_type = String)]
    pub id: RolloutId,
    /// Its name.
    pub name: String,
    /// draft, planned, preparing, running, paused, halted, completed or cancelled; derived.
    pub status: String,
    /// The lifecycle without the holds.
    pub lifecycle: String,
    /// Grows with every change of the rollout.
    #[schema(value_type = i64)]
    pub generation: Generation,
    /// The digest of the plan that runs, or would.
    pub plan_digest: Option<String>,
    /// The epoch of this store.
    #[schema(value_type = i64)]
    pub epoch: Epoch,
    /// Whom it takes back, when it is a revert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_back: Option<TakesBackView>,
    /// Who moves.
    pub population: PopulationRef,
    /// Where to.
    pub target: TargetRef,
    /// The holds in force that cover any of it.
    pub holds: Vec<HoldView>,
    /// Why nothing moves, when nothing does.
    pub why_not_now: Option<Reason>,
    /// People by state, with `adopted` and `people`.
    pub totals: Counts,
    /// The waves in order.
    pub waves: Vec<WaveView>,
    /// People whose move is under way at this instant.
    pub in_flight: u64,
    /// People per second over the last ten seconds or so, of this process.
    pub rate_per_second: f64,
    /// When it is expected to end at the rate of now.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expected_end: Option<Timestamp>,
    /// When the planner looks again.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_wake_at: Option<Timestamp>,
    /// When the rollout was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// One condition of a gate and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GateLine {
    /// The name of the condition.
    pub name: String,
    /// pass, fail, undecided or no_evidence.
    pub outcome: String,
    /// The sentence for people.
    pub sentence: String,
}

/// How one wave stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WaveView {
    /// Its place, from 1.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// How many people are in it.
    pub people: u64,
    /// The state the planner last gave it.
    pub state: String,
    /// Since when, when that is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// People by state, with `adopted`.
    pub counts: Counts,
    /// The end of its soak, while it soaks.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub soak_until: Option<Timestamp>,
    /// The conditions of its gate, measured now.
    pub gate: Vec<GateLine>,
}

/// One hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HoldView {
    /// The hold.
    #[schema(value_type = String)]
    pub id: HoldId,
    /// pause, halt, freeze or gate.
    pub kind: String,
    /// What it covers.
    pub scope: ScopeView,
    /// The same in words, with the names of the target or rollout.
    pub covers: String,
    /// Whom it keeps back, when it means some people of a wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<PartView>,
    /// Why.
    pub reason: String,
    /// What was reported, when a rule placed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<ReportedView>,
    /// Who may be asked about it.
    pub owner: String,
    /// Whether nobody can be asked: the owner's token was revoked, and no other one of that person is left.
    pub owner_gone: bool,
    /// What happens to people already moved: keep, freeze or revert.
    pub effect: String,
    /// Everyone who asked for it, the first first.
    pub actors: Vec<String>,
    /// Who placed it.
    pub placed_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub placed_at: Timestamp,
    /// The epoch it began.
    #[schema(value_type = i64)]
    pub epoch: Epoch,
    /// When somebody must look at it again.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub review_at: Option<Timestamp>,
    /// Since when nobody has, while it is in force. It stays in force.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub overdue_since: Option<Timestamp>,
    /// Who released it.
    pub released_by: Option<String>,
    /// When.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub released_at: Option<Timestamp>,
    /// Why.
    pub release_reason: Option<String>,
    /// Grows with every change of the hold.
    #[schema(value_type = i64)]
    pub generation: Generation,
    /// Whether nobody can send any more under it.
    pub quiesced: bool,
    /// How many people are under way under it, by the last word of every worker.
    pub in_flight: u64,
    /// How many workers have acknowledged it.
    pub confirmed: usize,
    /// Of how many.
    pub of: usize,
    /// How long after it was placed the slowest of them did.
    pub slowest_ms: Option<u64>,
    /// From when nobody can send even if nothing more is heard, while it is not quiesced and that is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub quiet_by: Option<Timestamp>,
    /// The same in one line.
    pub sentence: String,
    /// The processes that send, and how each stands to it.
    pub workers: Vec<WorkerView>,
    /// How many people it stops, where one hold is shown alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub people: Option<HeadCountsView>,
    /// What of the call that placed it was not taken as it was said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What was reported of a hold that a rule placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReportedView {
    /// The rule.
    pub rule: String,
    /// The digest of its policy set.
    #[schema(value_type = String)]
    pub policy: Digest,
    /// The signal that decided first.
    pub signal: Option<String>,
    /// Facts that were missing, by their codes; empty: the rule applied.
    pub faults: Vec<String>,
    /// How many signals have decided so since.
    pub signals: u64,
    /// The worst severity among them.
    pub worst: String,
}

/// What a hold covers. An unknown field is refused: a misspelt `wave` must not stop a whole rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScopeView {
    /// everything, target, rollout or wave.
    #[serde(rename = "type")]
    pub scope_type: String,
    /// The target or rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<u32>,
    /// Which people of the wave, of those with whom nobody has begun: a condition as in a spec.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub condition: Option<Value>,
}

impl ScopeView {
    /// Shows a scope.
    #[must_use]
    pub fn of(scope: &Scope) -> Self {
        Self {
            scope_type: match scope {
                // Seen from outside it is the wave, and `where` says whom of it.
                Scope::Wave(..) | Scope::Part(..) => "wave".to_owned(),
                Scope::Everything | Scope::Target(_) | Scope::Rollout(_) => scope.name().to_owned(),
            },
            id: scope.uuid().map(|id| id.to_string()),
            wave: scope.wave().map(WaveNumber::get),
            condition: None,
        }
    }

    /// Adds which people of the wave a hold means.
    #[must_use]
    pub fn with(self, part: Option<&Part>) -> Self {
        self.asked(part.map(|part| &part.condition))
    }

    /// Adds which people of the wave are meant.
    #[must_use]
    pub fn asked(self, asked: Option<&Condition>) -> Self {
        Self {
            condition: asked.map(condition::write),
            ..self
        }
    }
}

/// A process that sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WorkerView {
    /// The worker.
    #[schema(value_type = String)]
    pub id: WorkerId,
    /// Where it runs.
    pub name: String,
    /// acknowledged, sending, silent or cannot_send.
    pub standing: String,
    /// How long after the hold it acknowledged it, when it was there before the hold.
    pub acknowledged_after_ms: Option<u64>,
    /// When the last that it may send is over, while it is sending or silent and that is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub can_send_until: Option<Timestamp>,
    /// The epoch it has seen.
    #[schema(value_type = Option<i64>)]
    pub epoch: Option<Epoch>,
    /// How many people it has under way under the hold.
    pub in_flight: u64,
    /// When it was last heard.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub seen_at: Option<Timestamp>,
}

/// A plan as it was stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlanView {
    /// The plan.
    #[schema(value_type = String)]
    pub plan_id: PlanId,
    /// What `start` must name.
    pub digest: String,
    /// The version it was compiled from.
    #[schema(value_type = String)]
    pub population_version: PopulationVersionId,
    /// The waves with their head-counts.
    pub waves: Vec<PlanWaveView>,
    /// How many people are in its waves.
    pub people: u64,
    /// Who matched more than one wave, one sentence each.
    pub overlaps: Vec<String>,
    /// How many were excluded.
    pub excluded: u64,
    /// How many match no wave.
    pub unassigned: u64,
    /// What the manager should know before starting.
    pub warnings: Vec<String>,
    /// What the spec leaves as it usually is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// When each wave is expected to open, to be drained and to be judged.
    #[schema(value_type = Object)]
    pub timeline: Value,
}

/// One wave of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlanWaveView {
    /// Its place, from 1.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// How many people are in it.
    pub people: u64,
}

/// Why the planner acted or did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReportView {
    /// When it was measured.
    #[schema(value_type = String, format = DateTime)]
    pub evaluated_at: Timestamp,
    /// One line per thing to know.
    pub lines: Vec<ReportLine>,
    /// When the planner looks again.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub wake_at: Option<Timestamp>,
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReportLine {
    /// The wave it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<u32>,
    /// The stable code.
    pub code: String,
    /// The sentence for people.
    pub sentence: String,
}

/// One person in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MemberItem {
    /// The immutable directory id.
    pub key: String,
    /// The wave.
    pub wave: u32,
    /// The state.
    pub state: String,
    /// How often it was tried.
    pub attempts: u8,
    /// When the state last changed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub changed_at: Option<Timestamp>,
    /// The code of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What the target said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One person of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PersonView {
    /// The immutable directory id.
    pub key: String,
    /// What the directory says, in the version the rollout is bound to.
    #[schema(value_type = Object)]
    pub attributes: Value,
    /// The wave, when the person is in one.
    pub wave: Option<WaveRef>,
    /// The state; `not_in_rollout` when the person is in no wave.
    pub state: String,
    /// How often it was tried.
    pub attempts: u8,
    /// When the state last changed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub changed_at: Option<Timestamp>,
    /// What the target calls them, when it said so.
    pub remote_id: Option<String>,
    /// What went wrong, when something did.
    pub failure: Option<FailureView>,
    /// One sentence: why the person is where the person is.
    pub why: String,
}

/// A wave by number and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WaveRef {
    /// Its place, from 1.
    pub number: u32,
    /// Its name.
    pub name: String,
}

/// What went wrong with one person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FailureView {
    /// The stable code.
    pub code: String,
    /// What the target said.
    pub message: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// What a check of the whole store found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FsckView {
    /// Whether everything added up.
    pub ok: bool,
    /// How many rollouts, batches, people and audit entries were read.
    pub rollouts: u64,
    /// Batches read.
    pub batches: u64,
    /// People counted from the slots.
    pub people: u64,
    /// Audit entries verified.
    pub audit_entries: u64,
    /// Each damage found (the first thousand).
    pub findings: Vec<Reason>,
}
