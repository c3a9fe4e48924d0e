//! Requirements of the release of a halt: ask, track, attest, verify, waive.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate_orchestrator::digest::Digest;
use tidegate_orchestrator::hold::HoldKind;
use tidegate_orchestrator::hold::release::{ReleaseRefusal, Seat};
use tidegate_orchestrator::hold::requirement::{
    Category, Edit, Evidence, EvidenceKind, ITEMS_MAX, Milestone, Requirement, RequirementRefusal,
    Severity, Status, Vendor,
};
use tidegate_orchestrator::ids::{Generation, HoldId, Principal, RequirementId, Timestamp};

use super::release::{loaded, named, refused, seat_of, told_refusal};
use super::{Actor, OperationError, hold};
use crate::app::App;
use crate::store::release as rows;
use crate::store::{Lane, StoreError, Txn, transact};

/// The longest title, in characters.
const TITLE_CHARS_MAX: usize = 200;

/// A requirement somebody asks for.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRequirement {
    /// In a few words.
    pub title: String,
    /// What exactly must be true, and how that is tested.
    pub text: String,
    /// `identities_and_secrets`, `tenants_and_isolation`, networks, `engineering_systems`, `monitor_and_detect` or
    /// `respond_and_remediate`.
    #[schema(value_type = String)]
    pub category: Category,
    /// low, medium, high or critical.
    #[schema(value_type = String)]
    pub severity: Severity,
    /// Whether the release waits for it; true unless said otherwise.
    #[serde(default = "blocks")]
    pub blocking: bool,
    /// Who sees to it; whoever asks unless said otherwise.
    #[serde(default)]
    pub owner: Option<String>,
    /// Whom to ask at the vendor, and what they call it.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub vendor: Vendor,
    /// Until when it should be met.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due: Option<Timestamp>,
}

const fn blocks() -> bool {
    true
}

/// What changes about a requirement. What is missing stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequirementEdit {
    /// proposed, accepted, `in_progress`, delivered or rejected.
    #[schema(value_type = Option<String>)]
    pub status: Option<Status>,
    /// Who sees to it from now on.
    pub owner: Option<String>,
    /// Until when it should be met.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due: Option<Timestamp>,
    /// All milestones: text, due, done.
    #[schema(value_type = Option<Vec<Object>>)]
    pub milestones: Option<Vec<Milestone>>,
    /// What the vendor said; the next look is due within 30 days.
    pub checkin: Option<String>,
    /// When the next look is due, 30 days ahead at most.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_checkin_due: Option<Timestamp>,
    /// That the release waits for it from now on.
    pub blocking: Option<bool>,
}

/// Evidence somebody attests.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEvidence {
    /// text, link or file.
    #[schema(value_type = String)]
    pub kind: EvidenceKind,
    /// The text, the address, or the name of the file.
    pub text: String,
    /// What the bytes at the link, or of the file, are known by; of a text it is worked out here.
    #[serde(default)]
    pub sha256: Option<String>,
    /// How many bytes.
    #[serde(default)]
    pub bytes: Option<u64>,
}

/// Lists the requirements of a hold.
///
/// # Errors
///
/// When there is no such hold.
pub async fn list(app: &App, id: &str) -> Result<Vec<Requirement>, OperationError> {
    let (_, hold) = loaded(app.store.read(), named(id)?).await?;
    Ok(rows::requirements_load(app.store.read(), hold.id).await?)
}

/// Adds a requirement to a halt: its release waits for one thing more.
///
/// # Errors
///
/// When there is no such halt in force, or the requirement says nothing.
pub async fn add(
    app: &App,
    actor: &Actor,
    id: &str,
    new: &NewRequirement,
) -> Result<Requirement, OperationError> {
    hold::check_reason(&new.text)?;
    let is_titled = (1..=TITLE_CHARS_MAX).contains(&new.title.trim().chars().count());
    if !is_titled {
        let sentence = format!("a requirement has a title of 1 to {TITLE_CHARS_MAX} characters");
        return Err(OperationError::invalid("title_invalid", sentence));
    }
    let hold_id = named(id)?;
    let requirement_id: RequirementId = app.ids.make();
    let added: Result<Requirement, OperationError> =
        transact!(app.store, Lane::Ordinary, "requirement_add", |txn| {
            let now = txn.now();
            let (_, hold) = loaded(txn, hold_id).await?;
            if hold.kind != HoldKind::Halt {
                return Err(refused(&ReleaseRefusal::NotAHalt(hold_id)));
            }
            if !hold.is_in_force() {
                return Err(refused(&ReleaseRefusal::AlreadyReleased(hold_id)));
            }
            let known = rows::requirements_load(txn, hold_id).await?;
            if known.len() >= ITEMS_MAX {
                let refusal = RequirementRefusal::TooMany { what: "siblings" };
                return Err(no(&refusal));
            }
            let last = known.last().map_or(0, |requirement| requirement.number);
            let owner = new.owner.clone().unwrap_or_else(|| actor.principal.clone());
            let requirement = Requirement {
                id: requirement_id,
                hold: hold_id,
                number: last + 1,
                title: new.title.trim().to_owned(),
                text: new.text.clone(),
                category: new.category,
                severity: new.severity,
                blocking: new.blocking,
                owners: vec![Principal::new(owner)],
                vendor: new.vendor.clone(),
                opened_by: Principal::new(actor.principal.clone()),
                opened_at: now,
                due: new.due,
                milestones: Vec::new(),
                checkins: Vec::new(),
                next_checkin_due: now + chrono::TimeDelta::days(30),
                status: Status::Proposed,
                evidence: Vec::new(),
                verified: None,
                waiver: None,
                generation: Generation(1),
            };
            rows::requirement_insert(txn, &requirement).await?;
            told(txn, actor, "requirement.add", &requirement);
            Ok(requirement)
        });
    added
}

/// Changes a requirement.
///
/// # Errors
///
/// When it changed since it was seen, or the edit would make the release easier.
pub async fn edit(
    app: &App,
    actor: &Actor,
    (id, requirement): (&str, &str),
    seen: Option<Generation>,
    edit: &RequirementEdit,
) -> Result<Requirement, OperationError> {
    let change = |found: &mut Requirement, seat: &Seat, now: Timestamp| {
        let edit = Edit {
            status: edit.status,
            owner: edit.owner.clone().map(Principal::new),
            due: edit.due,
            milestones: edit.milestones.clone(),
            checkin: edit.checkin.clone(),
            next_checkin_due: edit.next_checkin_due,
            blocking: edit.blocking,
        };
        found.edit(edit, &seat.token, now)
    };
    changed(
        app,
        actor,
        (id, requirement),
        seen,
        ("requirement.edit", &change),
    )
    .await
}

/// Adds evidence to a requirement.
///
/// # Errors
///
/// When it shows nothing, or a link or file comes without the hash of its bytes.
pub async fn attest(
    app: &App,
    actor: &Actor,
    names: (&str, &str),
    new: &NewEvidence,
) -> Result<Requirement, OperationError> {
    hold::check_reason(&new.text)?;
    let sha256 = hash_of(new)?;
    let change = |found: &mut Requirement, seat: &Seat, now: Timestamp| {
        found.attest(Evidence {
            kind: new.kind,
            text: new.text.clone(),
            sha256,
            bytes: new.bytes,
            by: seat.token.clone(),
            person: seat.person.clone(),
            at: now,
        })
    };
    changed(app, actor, names, None, ("requirement.evidence", &change)).await
}

/// Returns the hash of the bytes of evidence: of a text worked out here, of anything else as it is given.
fn hash_of(new: &NewEvidence) -> Result<Digest, OperationError> {
    let given = new.sha256.as_ref().map(|text| {
        text.parse().map_err(|_| {
            OperationError::invalid("sha256_invalid", "`sha256` is 64 hexadecimal digits")
        })
    });
    match (new.kind, given.transpose()?) {
        (EvidenceKind::Text, given) => {
            let found = Digest::of(new.text.as_bytes());
            if given.is_some_and(|given| given != found) {
                let sentence = format!(
                    "`sha256` is not the hash of the text, which is {found}: leave it out, or send the text that it is of"
                );
                return Err(OperationError::invalid("sha256_wrong", sentence));
            }
            Ok(found)
        }
        (EvidenceKind::Link | EvidenceKind::File, Some(given)) => Ok(given),
        (EvidenceKind::Link | EvidenceKind::File, None) => {
            let sentence = "a link or a file is known by its `sha256`: give the hash of its bytes";
            Err(OperationError::invalid("sha256_missing", sentence))
        }
    }
}

/// Records that somebody else has looked, and that the requirement is met.
///
/// # Errors
///
/// When whoever looks owns it or attested its evidence, or there is nothing to look at.
pub async fn verify(
    app: &App,
    actor: &Actor,
    names: (&str, &str),
    note: &str,
) -> Result<Requirement, OperationError> {
    hold::check_reason(note)?;
    let change = |found: &mut Requirement, seat: &Seat, now| found.verify(seat, note, now);
    changed(app, actor, names, None, ("requirement.verify", &change)).await
}

/// Records one person's word that the release may go on without it until an instant; it takes two.
///
/// # Errors
///
/// When the person owns it or has agreed before, or the end is none.
pub async fn waive(
    app: &App,
    actor: &Actor,
    names: (&str, &str),
    (rationale, expires): (&str, Timestamp),
) -> Result<Requirement, OperationError> {
    hold::check_reason(rationale)?;
    let change =
        |found: &mut Requirement, seat: &Seat, now| found.waive(seat, (rationale, expires), now);
    changed(app, actor, names, None, ("requirement.waive", &change)).await
}

type Change<'a> =
    dyn Fn(&mut Requirement, &Seat, Timestamp) -> Result<(), RequirementRefusal> + Sync + 'a;

async fn changed(
    app: &App,
    actor: &Actor,
    (id, requirement): (&str, &str),
    seen: Option<Generation>,
    (action, change): (&str, &Change<'_>),
) -> Result<Requirement, OperationError> {
    let hold = named(id)?;
    let unknown = || OperationError::not_found("requirement", requirement);
    let done: Result<Requirement, OperationError> =
        transact!(app.store, Lane::Ordinary, "requirement_change", |txn| {
            let now = txn.now();
            let mut found = by_name(txn, hold, requirement).await?.ok_or_else(unknown)?;
            let was = found.generation;
            if seen.is_some_and(|seen| seen != was) {
                return Err(OperationError::Conflict {
                    what: "requirement",
                });
            }
            let seat = seat_of(txn, actor).await?;
            change(&mut found, &seat, now).map_err(|refusal| no(&refusal))?;
            rows::requirement_save(txn, &found, was)
                .await
                .map_err(|error| match error {
                    StoreError::Conflict => StoreError::Serialization,
                    other => other,
                })?;
            told(txn, actor, action, &found);
            Ok(found)
        });
    told_refusal(app, actor, hold, action, done).await
}

/// Finds a requirement by its number among those of the halt, or by its id.
async fn by_name(
    txn: &mut Txn,
    hold: HoldId,
    name: &str,
) -> Result<Option<Requirement>, StoreError> {
    if let Ok(number) = name.parse::<u32>() {
        let all = rows::requirements_load(txn, hold).await?;
        return Ok(all.into_iter().find(|one| one.number == number));
    }
    match name.parse::<RequirementId>() {
        Ok(id) => rows::requirement_load(txn, hold, id).await,
        Err(_) => Ok(None),
    }
}

fn no(refusal: &RequirementRefusal) -> OperationError {
    OperationError::refused(refusal.code(), refusal.to_string())
}

fn told(txn: &mut Txn, actor: &Actor, action: &str, requirement: &Requirement) {
    let hold: HoldId = requirement.hold;
    let detail = json!({"number": requirement.number, "digest": requirement.digest(), "requirement": requirement});
    txn.audit(actor.entry(action, format!("hold:{hold}"), detail));
}
