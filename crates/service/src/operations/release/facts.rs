//! Reads everything that a decision about a release is made from, as of one instant.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use tidegate_orchestrator::digest::Digest;
use tidegate_orchestrator::hold::preflight::{
    self, Facts, Item, OtherHold, RolloutFacts, TargetFacts,
};
use tidegate_orchestrator::hold::release::{Approval, Case, Checked, Part, Request, Substance};
use tidegate_orchestrator::hold::requirement::Requirement;
use tidegate_orchestrator::hold::terms::Terms;
use tidegate_orchestrator::hold::{Cause, Hold, HoldKind, HoldSet, InForce, Place, Scope};
use tidegate_orchestrator::ids::{Generation, Principal, TargetId, Timestamp, WaveNumber};
use tidegate_orchestrator::ledger::{SlotState, Tally};
use tidegate_orchestrator::sentence::instant;

use super::super::{OperationError, drift};
use super::group_of;
use crate::connector::CheckReport;
use crate::store::release::{self as stored, RequestRow};
use crate::store::rollout::RolloutRow;
use crate::store::target::TargetRow;
use crate::store::{
    Connection, StoreError, hold as holds, ledger, plan as plans, policy,
    population as populations, review as reviews, target as targets, token, wave,
};

/// A target as the last preflight found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TargetSeen {
    pub(super) id: TargetId,
    name: String,
    /// Its settings then: with others it has not been tested.
    generation: Generation,
    ok: bool,
    wrong: String,
}

impl TargetSeen {
    pub(super) fn of(row: &TargetRow, found: Result<CheckReport, OperationError>) -> Self {
        let (ok, wrong) = match found {
            Ok(report) => {
                let wrong = report.items.iter().find(|item| !item.ok);
                let wrong = wrong.map(|item| item.sentence.clone()).unwrap_or_default();
                (report.ok, wrong)
            }
            Err(error) => (false, error.to_string()),
        };
        Self {
            id: row.id,
            name: row.name.clone(),
            generation: row.generation,
            ok,
            wrong,
        }
    }
}

/// Everything there is to decide from.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) case: Case,
    pub(super) request: Option<(RequestRow, Request)>,
    pub(super) facts: Facts,
    pub(super) preflight_at: Option<Timestamp>,
    pub(super) now: Timestamp,
}

impl Looked {
    /// Returns when a preflight was last run, and what its checks say now.
    pub(super) fn checked(&self, now: Timestamp) -> Checked {
        Checked {
            at: self.preflight_at,
            items: preflight::items(&self.facts, now),
        }
    }
}

/// Looks at a halt and everything that its release would let go on.
pub(super) async fn look<C: Connection>(
    db: &C,
    hold: &Hold,
    quiesced: bool,
    now: Timestamp,
) -> Result<Looked, OperationError> {
    let terms = stored::terms_load(db, hold.id).await?;
    let requirements = stored::requirements_load(db, hold.id).await?;
    let mut substance = substance_of(hold, &terms, &requirements)?;
    let preflight = stored::preflight_load(db, hold.id).await?;
    let seen: Vec<TargetSeen> = match &preflight {
        Some((_, body)) => serde_json::from_str(body).map_err(StoreError::corrupt)?,
        None => Vec::new(),
    };
    let preflight_at = preflight.map(|(at, _)| at);
    bind_reports(db, &mut substance, hold).await?;
    let (mut rollouts, mut found, mut others) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    let mut goes_on = Vec::new();
    let in_force = holds::hold_set_for(db).await?;
    for row in drift::covered(db, &hold.scope).await? {
        bind(db, &mut substance, hold, &row).await?;
        let days = terms.population_age_days_max;
        rollouts.push(of_rollout(db, hold, &row, (quiesced, now, days)).await?);
        found.insert(row.target, tested(db, &row, &seen, preflight_at).await?);
        let place = Place::rollout(row.target, row.id);
        for other in in_force.covering(&place) {
            others.insert(other.id, (other.kind.name(), "some of it too".to_owned()));
        }
        // Narrower ones stand as well when this one has ended, unless it is on another wave alone.
        let of_it = |one: &&InForce| {
            hold.scope
                .wave()
                .is_none_or(|wave| one.scope.wave() == Some(wave))
        };
        for other in in_force.within(row.id).filter(of_it) {
            others.insert(other.id, (other.kind.name(), narrower(other, &row.name)));
        }
        goes_on.extend(exempt(hold, &row, &in_force, now));
    }
    others.remove(&hold.id);
    let standing = policy::standing(db).await?;
    let request = request_of(db, hold).await?;
    let placer = placer_of(db, hold).await?;
    Ok(Looked {
        case: Case {
            hold: hold.id,
            is_halt: hold.kind == HoldKind::Halt,
            is_in_force: hold.is_in_force(),
            placer,
            terms: terms.clone(),
            substance,
        },
        request,
        facts: Facts {
            placed_at: hold.placed_at,
            review_at: hold.review_at,
            owner_gone: reviews::owner_is_gone(db, hold.owner.as_str())
                .await?
                .then(|| hold.owner.clone()),
            terms,
            requirements,
            quiesced,
            goes_on,
            rollouts,
            targets: found.into_values().collect(),
            others: others
                .into_iter()
                .map(|(id, (kind, covers))| OtherHold { id, kind, covers })
                .collect(),
            is_unjudged: standing.judged_seq < standing.seq || standing.rejudges > 0,
        },
        preflight_at,
        now,
    })
}

/// Says what a hold on a wave, or on some of its people, covers.
fn narrower(hold: &InForce, rollout: &str) -> String {
    let wave = hold.scope.wave().map_or(0, WaveNumber::get);
    match &hold.part {
        Some(condition) => format!("some people of wave {wave} of `{rollout}` ({condition})"),
        None => format!("wave {wave} of `{rollout}`"),
    }
}

/// Says what of a rollout goes on under a halt by an exemption, and how that ends.
fn exempt(hold: &Hold, row: &RolloutRow, in_force: &HoldSet, now: Timestamp) -> Vec<String> {
    let open = in_force
        .exemptions()
        .filter(|one| one.until > now && one.rollout == row.id && one.holds.contains(&hold.id));
    let name = &row.name;
    open
        .map(|one| match row.reverts {
            Some(_) => format!(
                "revert `{name}` takes people back under this halt: wait until it is over, or cancel it"
            ),
            None => format!(
                "an emergency lets waves of `{name}` go on until {}: wait, or end it (`tidegate emergency end`)",
                instant(one.until)
            ),
        })
        .collect()
}

/// Takes in the halt itself, its terms, and each requirement.
fn substance_of(
    hold: &Hold,
    terms: &Terms,
    requirements: &[Requirement],
) -> Result<Substance, StoreError> {
    let mut substance = Substance::default();
    let known = serde_json::json!({
        "kind": hold.kind, "scope": hold.scope, "cause": hold.cause, "reason": hold.reason, "epoch": hold.placed_epoch,
    });
    substance.add(Part::Hold, "", Digest::of(known.to_string().as_bytes()));
    let written = serde_json::to_vec(terms).map_err(StoreError::corrupt)?;
    substance.add(Part::Terms, "", Digest::of(&written));
    for requirement in requirements {
        substance.add(
            Part::Requirement,
            &requirement.label(),
            requirement.digest(),
        );
    }
    Ok(substance)
}

/// Returns what the last preflight says of the target of a rollout, if it was tested with its settings of now.
async fn tested<C: Connection>(
    db: &C,
    row: &RolloutRow,
    seen: &[TargetSeen],
    preflight_at: Option<Timestamp>,
) -> Result<TargetFacts, StoreError> {
    let target = targets::target_load(db, row.target).await?;
    let same = |one: &&TargetSeen| one.id == target.id && one.generation == target.generation;
    let tested = seen.iter().find(same);
    Ok(TargetFacts {
        name: target.name,
        checked_at: preflight_at.filter(|_| tested.is_some()),
        ok: tested.is_some_and(|tested| tested.ok),
        wrong: tested
            .map(|tested| tested.wrong.clone())
            .unwrap_or_default(),
    })
}

/// Returns the person who placed a halt, when it was one.
async fn placer_of<C: Connection>(db: &C, hold: &Hold) -> Result<Option<Principal>, StoreError> {
    let placer = match &hold.cause {
        Cause::People { .. } => token::token_find(db, hold.placed_by.as_str()).await?,
        Cause::Gate { .. } | Cause::Calendar { .. } | Cause::Rule { .. } => None,
    };
    Ok(placer.map(|row| Principal::new(row.person.unwrap_or(row.name))))
}

/// Takes in what was reported: of a halt by a rule what its counter says, and of every target that it covers the last
/// signal that rules have made something of. Whoever said yes said it knowing that much.
async fn bind_reports<C: Connection>(
    db: &C,
    substance: &mut Substance,
    hold: &Hold,
) -> Result<(), OperationError> {
    if let Some(report) = policy::report_load(db, hold.id).await? {
        let known = format!("{} {} {}", report.signals, report.worst, report.last_seq);
        substance.add(Part::Reported, "", Digest::of(known.as_bytes()));
    }
    let rollouts = drift::covered(db, &hold.scope).await?;
    let is_covered = |target: &TargetId| match hold.scope {
        Scope::Everything => true,
        Scope::Target(one) => one == *target,
        Scope::Rollout(_) | Scope::Wave(..) | Scope::Part(..) => {
            rollouts.iter().any(|row| row.target == *target)
        }
    };
    let decided = policy::decided_load(db).await?;
    for (id, facts) in policy::facts_load(db).await? {
        if is_covered(&id) {
            let last = decided.get(&id).copied().unwrap_or(0);
            let digest = Digest::of(last.to_string().as_bytes());
            substance.add(Part::Reported, &facts.name, digest);
        }
    }
    Ok(())
}

/// Takes in what a rollout would go on with: its plan, its people, and what its gates are measured from.
async fn bind<C: Connection>(
    db: &C,
    substance: &mut Substance,
    hold: &Hold,
    row: &RolloutRow,
) -> Result<(), OperationError> {
    let plan = match row.plan {
        Some(plan) => plans::plan_load(db, plan).await?,
        None => None,
    };
    let digest = plan.map(|plan| plan.digest).unwrap_or_default();
    substance.add(Part::Plan, &row.name, Digest::of(digest.as_bytes()));
    let target = targets::target_load(db, row.target).await?;
    let settings = format!("{} {}", target.connector, target.config);
    substance.add(Part::Target, &target.name, Digest::of(settings.as_bytes()));
    if let Scope::Part(..) = hold.scope {
        // The rest of the wave goes on too: this release is about those whom this halt keeps back.
        let written = serde_json::to_string(&hold.part).map_err(StoreError::corrupt)?;
        substance.add(Part::Gates, &row.name, Digest::of(written.as_bytes()));
        return Ok(());
    }
    if let Scope::Wave(_, number) = hold.scope {
        // The other waves go on: what they come to is no part of what this release is about.
        let waves = wave::waves_load(db, row.id).await?;
        let wave = waves.into_iter().find(|wave| wave.number == number);
        let tally = wave.map(|wave| wave.tally).unwrap_or_default();
        let written = serde_json::to_vec(&tally).map_err(StoreError::corrupt)?;
        substance.add(Part::Gates, &row.name, Digest::of(&written));
        return Ok(());
    }
    let drift = match drift::standing(db, row).await? {
        drift::Standing::Measured(found) => found.digest,
        drift::Standing::Current => "current".to_owned(),
        drift::Standing::Unmeasured { sentence } => sentence,
    };
    substance.add(Part::Drift, &row.name, Digest::of(drift.as_bytes()));
    let gates = drift::basis(db, row).await?;
    substance.add(Part::Gates, &row.name, Digest::of(gates.as_bytes()));
    Ok(())
}

async fn of_rollout<C: Connection>(
    db: &C,
    hold: &Hold,
    row: &RolloutRow,
    (quiesced, now, days): (bool, Timestamp, u32),
) -> Result<RolloutFacts, OperationError> {
    let mut tally = Tally::ZERO;
    for found in wave::waves_load(db, row.id).await? {
        let is_covered = match hold.scope {
            Scope::Wave(_, number) | Scope::Part(_, number) => number == found.number,
            Scope::Everything | Scope::Target(_) | Scope::Rollout(_) => true,
        };
        if is_covered {
            tally = tally.plus(&found.tally);
        }
    }
    let in_flight = tally.get(SlotState::InFlight);
    let sending = match (quiesced, in_flight) {
        (false, _) | (_, 0) => in_flight,
        // Nobody can send; but what a worker with a lease has in its hands is still written, and changes
        // the counts that approvals are bound to.
        (true, _) => ledger::in_flight_leased(db, row.id, now)
            .await?
            .min(in_flight),
    };
    Ok(RolloutFacts {
        name: row.name.clone(),
        tally,
        sending,
        drift: match hold.scope {
            Scope::Wave(..) | Scope::Part(..) => Vec::new(),
            Scope::Everything | Scope::Target(_) | Scope::Rollout(_) => {
                people(db, row, (now, days)).await?
            }
        },
    })
}

/// Says whether the people are known as of now, and whether whoever changed was looked at.
async fn people<C: Connection>(
    db: &C,
    row: &RolloutRow,
    (now, days): (Timestamp, u32),
) -> Result<Vec<Item>, OperationError> {
    let name = &row.name;
    let population = populations::population_find(db, &row.population.to_string()).await?;
    let published = match population.and_then(|population| population.current_version) {
        Some(version) => populations::version_confirmed_at(db, version).await?,
        None => None,
    };
    let oldest = now - TimeDelta::days(days.into());
    let fresh = match published {
        Some(at) if at >= oldest => Item::new(
            "population_fresh",
            true,
            format!("`{name}`: its people were imported at {}", instant(at)),
        ),
        Some(at) => {
            let sentence = format!(
                "`{name}`: its people were imported at {}, and that counts for {days} days: import them again",
                instant(at)
            );
            Item::new("population_old", false, sentence)
        }
        None => Item::new(
            "population_missing",
            false,
            format!("`{name}`: nobody was imported"),
        ),
    };
    let drift = match drift::standing(db, row).await? {
        drift::Standing::Current => Item::new(
            "drift_none",
            true,
            format!("`{name}`: the same people as when it was planned"),
        ),
        drift::Standing::Measured(found) => {
            let digest: String = found.digest.chars().take(12).collect();
            let sentence = format!(
                "`{name}`: the drift was measured ({digest}…): `tidegate drift {name}` shows it"
            );
            Item::new("drift_measured", true, sentence)
        }
        drift::Standing::Unmeasured { sentence } => Item::new("drift_unmeasured", false, sentence),
    };
    Ok(vec![fresh, drift])
}

async fn request_of<C: Connection>(
    db: &C,
    hold: &Hold,
) -> Result<Option<(RequestRow, Request)>, OperationError> {
    let Some(row) = stored::request_newest(db, hold.id).await? else {
        return Ok(None);
    };
    let approvals = stored::release_approvals_load(db, row.id).await?;
    let approvals = approvals.into_iter().map(|one| Approval {
        group_now: one.role_now.as_deref().and_then(group_of),
        by: one.seat,
        at: one.at,
    });
    let request = Request {
        by: row.seat.clone(),
        at: row.at,
        substance: row.substance.clone(),
        approvals: approvals.collect(),
        ended: row.ended,
    };
    Ok(Some((row, request)))
}
