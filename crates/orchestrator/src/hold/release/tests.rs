//! Every step of a release against the clock, the seats and what changed.

use uuid::Uuid;

use super::*;
use crate::hold::requirement::{
    Category, Evidence, EvidenceKind, Requirement, Severity, Status, Vendor,
};
use crate::ids::{Generation, RequirementId, from_millis};

fn at(seconds: i64) -> Timestamp {
    from_millis(seconds * 1000).unwrap()
}

fn seat(token: &str, person: &str, group: Option<Group>) -> Seat {
    Seat {
        token: Principal::new(token),
        person: Principal::new(person),
        group,
        since: at(0),
    }
}

fn guard() -> Seat {
    seat("guard", "guard", Some(Group::Security))
}

fn owner() -> Seat {
    seat("owner", "owner", Some(Group::Operations))
}

fn substance(plan: &str) -> Substance {
    let mut substance = Substance::default();
    substance.add(Part::Hold, "", Digest::of(b"hold"));
    substance.add(Part::Plan, "move", Digest::of(plan.as_bytes()));
    substance
}

fn case() -> Case {
    Case {
        hold: HoldId::new(Uuid::from_u128(1)),
        is_halt: true,
        is_in_force: true,
        placer: Some(Principal::new("ann")),
        terms: Terms::default(),
        substance: substance("one"),
    }
}

fn yes(by: Seat, seconds: i64) -> Approval {
    let group_now = by.group;
    Approval {
        by,
        at: at(seconds),
        group_now,
    }
}

fn request(approvals: Vec<Approval>) -> Request {
    Request {
        by: seat("asker", "asker", Some(Group::Approvers)),
        at: at(1000),
        substance: substance("one"),
        approvals,
        ended: None,
    }
}

fn checked(seconds: i64) -> Checked {
    Checked {
        at: Some(at(seconds)),
        items: vec![Item::new("fine", true, "fine")],
    }
}

#[track_caller]
fn check_execute(
    request: &Request,
    case: &Case,
    checked: &Checked,
    seconds: i64,
    code: Option<&str>,
) {
    let digest = request.substance.digest();
    let may = case.may_execute(Some(request), (digest, checked), at(seconds));
    assert_eq!(
        may.as_ref().err().map(ReleaseRefusal::code),
        code,
        "{may:?}"
    );
}

const DAY: i64 = 86_400;
const HOUR: i64 = 3600;

#[test]
fn approvals_end_after_a_day_and_the_execution_four_hours_after_the_last_one() {
    let one = request(vec![yes(guard(), 1100)]);
    check_execute(
        &one,
        &case(),
        &checked(1000 + DAY - 1),
        1000 + DAY - 1,
        Some("release_approvals_missing"),
    );
    check_execute(
        &one,
        &case(),
        &checked(1000 + DAY),
        1000 + DAY,
        Some("release_approvals_expired"),
    );
    let both = request(vec![yes(guard(), 1100), yes(owner(), 2000)]);
    let end = 2000 + 4 * HOUR;
    check_execute(&both, &case(), &checked(end - 1), end - 1, None);
    check_execute(
        &both,
        &case(),
        &checked(end),
        end,
        Some("release_execution_expired"),
    );
    // A yes that came a second too late is none.
    let late = request(vec![yes(guard(), 1100), yes(owner(), 1000 + DAY)]);
    check_execute(
        &late,
        &case(),
        &checked(1001 + DAY),
        1001 + DAY,
        Some("release_approvals_expired"),
    );
}

#[test]
fn a_preflight_counts_for_an_hour_and_names_everything_that_is_open() {
    let both = request(vec![yes(guard(), 1100), yes(owner(), 1200)]);
    check_execute(
        &both,
        &case(),
        &Checked::default(),
        1300,
        Some("preflight_missing"),
    );
    check_execute(&both, &case(), &checked(1300), 1300 + HOUR, None);
    check_execute(
        &both,
        &case(),
        &checked(1300),
        1301 + HOUR,
        Some("preflight_missing"),
    );
    let open = Checked {
        at: Some(at(1300)),
        items: vec![
            Item::new("one", false, "one is open"),
            Item::new("two", false, "two is open"),
        ],
    };
    let refusal = case().may_execute(Some(&both), (both.substance.digest(), &open), at(1300));
    let details = refusal.unwrap_err().details();
    assert_eq!(details.len(), 2, "{details:?}");
}

#[test]
fn any_change_voids_every_yes_and_is_named() {
    let both = request(vec![yes(guard(), 1100), yes(owner(), 1200)]);
    let mut other = case();
    other.substance = substance("two");
    other
        .substance
        .add(Part::Requirement, "1 (keys)", Digest::of(b"keys"));
    check_execute(
        &both,
        &other,
        &checked(1300),
        1300,
        Some("release_configuration_changed"),
    );
    let Standing::Changed { differences } = both.standing(&other, at(1300)) else {
        panic!("changed");
    };
    let said: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "requirement 1 (keys), or its evidence came since",
            "the plan of rollout `move` changed"
        ]
    );
}

#[test]
fn a_lost_seat_loses_the_yes() {
    let mut lost = yes(owner(), 1200);
    lost.group_now = None;
    let moved = Approval {
        group_now: Some(Group::Approvers),
        ..yes(owner(), 1200)
    };
    for approval in [lost, moved] {
        let one = request(vec![yes(guard(), 1100), approval]);
        check_execute(
            &one,
            &case(),
            &checked(1300),
            1300,
            Some("release_approvals_missing"),
        );
    }
}

#[test]
fn nobody_counts_for_two_and_whoever_asks_or_halted_has_no_second_seat() {
    let open = request(Vec::new());
    let digest = open.substance.digest();
    let may = |by: &Seat| {
        let may = case().may_approve(Some(&open), (by, digest), at(1100));
        may.map_err(|refusal| refusal.code())
    };
    assert_eq!(may(&guard()), Ok(true));
    assert_eq!(
        may(&seat("asker-2", " Asker", Some(Group::Security))),
        Err("release_requester_approves")
    );
    assert_eq!(may(&seat("bot", "bot", None)), Err("seat_missing"));
    assert_eq!(
        may(&seat("ann", "ann", Some(Group::Security))),
        Ok(true),
        "in the seat of security"
    );
    assert_eq!(
        may(&seat("ann-2", "ann", Some(Group::Operations))),
        Err("release_placer_seat")
    );
    let new = Seat {
        since: at(1001),
        ..owner()
    };
    assert_eq!(may(&new), Err("seat_too_new"));
    assert_eq!(
        case()
            .may_request(None, &seat("ann", "ann", None), at(1))
            .map_err(|no| no.code()),
        Err("release_placer_requests")
    );
}

#[test]
fn what_ended_stays_ended() {
    let digest = request(Vec::new()).substance.digest();
    for end in [End::Vetoed, End::Replaced, End::Executed] {
        let ended = Request {
            ended: Some(end),
            ..request(vec![yes(guard(), 1100), yes(owner(), 1200)])
        };
        let may = case().may_execute(Some(&ended), (digest, &checked(1300)), at(1300));
        assert!(may.is_err(), "{end:?}");
        assert_eq!(End::from_name(end.name()), Some(end));
    }
    let pause = Case {
        is_halt: false,
        ..case()
    };
    let may = pause.may_request(None, &guard(), at(1));
    assert_eq!(may.unwrap_err().code(), "release_not_a_halt");
}

fn requirement() -> Requirement {
    Requirement {
        id: RequirementId::new(Uuid::from_u128(2)),
        hold: HoldId::new(Uuid::from_u128(1)),
        number: 1,
        title: "keys".to_owned(),
        text: "all rotated".to_owned(),
        category: Category::IdentitiesAndSecrets,
        severity: Severity::High,
        blocking: true,
        owners: vec![Principal::new("guard")],
        vendor: Vendor::default(),
        opened_by: Principal::new("guard"),
        opened_at: at(0),
        due: None,
        milestones: Vec::new(),
        checkins: Vec::new(),
        next_checkin_due: at(30 * DAY),
        status: Status::Delivered,
        evidence: vec![Evidence {
            kind: EvidenceKind::Text,
            text: "seen".to_owned(),
            sha256: Digest::of(b"seen"),
            bytes: None,
            by: Principal::new("owner"),
            person: Principal::new("owner"),
            at: at(1),
        }],
        verified: None,
        waiver: None,
        generation: Generation(1),
    }
}

#[test]
fn a_waiver_takes_two_people_and_is_over_to_the_second() {
    let mut waived = requirement();
    let dee = seat("dee", "dee", Some(Group::Security));
    let terms = ("next quarter", at(1000));
    let refused = waived.waive(&guard(), terms, at(10)).unwrap_err();
    assert_eq!(refused.code(), "requirement_owner_waives");
    waived.waive(&dee, terms, at(10)).unwrap();
    assert!(!waived.is_met(at(20)), "one is not enough");
    let again = waived.waive(
        &seat("dee-2", "dee", Some(Group::Operations)),
        terms,
        at(11),
    );
    assert_eq!(again.unwrap_err().code(), "waiver_same_person");
    waived.waive(&owner(), terms, at(12)).unwrap();
    assert!(waived.is_met(at(999)));
    assert!(!waived.is_met(at(1000)), "expired this second");
}

#[test]
fn verified_by_another_and_open_again_with_new_evidence() {
    let mut open = requirement();
    assert!(!open.is_met(at(10)), "delivered is not verified");
    assert_eq!(
        open.verify(&guard(), "ok", at(10)).unwrap_err().code(),
        "requirement_owner_verifies"
    );
    assert_eq!(
        open.verify(&owner(), "ok", at(10)).unwrap_err().code(),
        "requirement_attester_verifies"
    );
    let before = open.digest();
    open.verify(&seat("dee", "dee", Some(Group::Security)), "ok", at(10))
        .unwrap();
    assert!(open.is_met(at(11)));
    assert_ne!(open.digest(), before, "an approval is of the verified one");
    let more = open.evidence[0].clone();
    open.attest(more).unwrap();
    assert!(!open.is_met(at(12)));
    // A requirement as it is stored reads back.
    let text = serde_json::to_string(&open).unwrap();
    assert_eq!(serde_json::from_str::<Requirement>(&text).unwrap(), open);
}
