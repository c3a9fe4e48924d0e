//! Who is taken back, what a yes is to, and what is refused.

use uuid::Uuid;

use super::*;
use crate::hold::quorum::Approval;
use crate::hold::release::Part;
use crate::hold::terms::Group;
use crate::ids::{Principal, from_millis};
use crate::ledger::{Outcome, SlotIndex};

const HOUR: i64 = 3600;

fn at(seconds: i64) -> Timestamp {
    from_millis(seconds * 1000).unwrap()
}

fn tally(counts: &[(SlotState, u64)]) -> Tally {
    counts.iter().copied().collect()
}

fn chosen(number: u32, counts: &[(SlotState, u64)]) -> Chosen {
    Chosen {
        number: WaveNumber(number),
        tally: tally(counts),
        under_way: tally(counts).get(SlotState::InFlight),
        fences: 7,
        taking_back: false,
    }
}

fn seat(name: &str, group: Group) -> Seat {
    Seat {
        token: Principal::new(name),
        person: Principal::new(name),
        group: Some(group),
        since: at(0),
    }
}

fn substance(of: &[u8]) -> Substance {
    let mut substance = Substance::default();
    substance.add(Part::Gates, "workforce", Digest::of(of));
    substance
}

fn case(approvals: Vec<Approval>) -> Case {
    Case {
        request: Request {
            by: seat("asker", Group::Security),
            at: at(100),
            substance: substance(b"then"),
            approvals,
            ended: None,
        },
        digest: Digest::of(b"revert"),
        substance: substance(b"then"),
    }
}

fn yes(name: &str, group: Group, seconds: i64) -> Approval {
    Approval {
        by: seat(name, group),
        at: at(seconds),
        group_now: Some(group),
    }
}

fn frozen() -> MovedFrozen {
    MovedFrozen {
        id: HoldId::new(Uuid::from_u128(1)),
        since: at(0),
        reason: "forensics".to_owned(),
    }
}

fn both() -> Vec<Approval> {
    vec![
        yes("lind", Group::Security, 200),
        yes("okafor", Group::Operations, 300),
    ]
}

#[test]
fn only_whoever_counts_as_moved_is_taken_back_and_everybody_else_has_a_reason() {
    let mut table = String::new();
    for state in SlotState::ALL {
        let fate = Fate::of(*state);
        table.push_str(&format!("{state:>11}  {}\n", fate.name()));
    }
    insta::assert_snapshot!("fates", table);
    let mut slots = Slots::new(4);
    slots.claim(3, 3, at(1));
    let done = |index| (SlotIndex(index), Outcome::Done { adopted: false });
    slots.record(&[done(0), done(1), (SlotIndex(2), Outcome::Failed)], at(2));
    let roster: Vec<Ordinal> = [3, 5, 8, 13].map(Ordinal).into();
    let all = taken(&slots, &roster, |_| true);
    assert_eq!(all, [Ordinal(3), Ordinal(5)]);
    assert_eq!(
        taken(&slots, &roster, |person| person.get() > 3),
        [Ordinal(5)]
    );
}

#[test]
fn a_wave_says_of_everybody_what_becomes_of_them() {
    let wave = SheetWave {
        origin: WaveNumber(3),
        name: "asia".to_owned(),
        number: Some(WaveNumber(1)),
        people: 30,
        tally: tally(&[
            (SlotState::Done, 40),
            (SlotState::Unknown, 2),
            (SlotState::Awaiting, 1),
            (SlotState::Failed, 4),
            (SlotState::Queued, 3),
        ]),
    };
    assert_eq!(wave.fates(), [(Fate::Unsettled, 3), (Fate::NotMoved, 7)]);
    assert_eq!(wave.unmatched(), 10);
}

#[test]
fn people_under_way_another_revert_and_a_freeze_refuse_it() {
    let code = |chosen: &[Chosen], frozen| may_take_back(chosen, frozen).map_err(|no| no.code());
    let done = [chosen(1, &[(SlotState::Done, 5)])];
    assert_eq!(code(&done, None), Ok(()));
    assert_eq!(code(&done, Some(frozen())), Err("moved_people_frozen"));
    let moving = [chosen(1, &[(SlotState::Done, 5), (SlotState::InFlight, 1)])];
    assert_eq!(code(&moving, None), Err("revert_in_flight"));
    // Their worker has died, and under a halt nobody else finds that out.
    let dead = Chosen {
        under_way: 0,
        ..moving[0].clone()
    };
    assert_eq!(code(&[dead], None), Ok(()));
    let mut open = done.clone();
    open[0].taking_back = true;
    assert_eq!(code(&open, None), Err("revert_open"));
    let nobody = [chosen(1, &[(SlotState::Reverted, 5)])];
    assert_eq!(code(&nobody, None), Err("revert_nobody"));
}

#[test]
fn the_basis_knows_every_way_to_be_done_and_to_be_done_no_more() {
    let was = basis(&[chosen(1, &[(SlotState::Done, 5), (SlotState::Failed, 1)])]);
    let disproved = basis(&[chosen(1, &[(SlotState::Done, 4), (SlotState::Failed, 2)])]);
    assert_ne!(was, disproved);
    // One is disproved and another one moved: the counts are the same, and a claim lies in between.
    let mut other = chosen(1, &[(SlotState::Done, 5), (SlotState::Failed, 1)]);
    other.fences += 1;
    assert_ne!(was, basis(&[other]));
}

#[test]
fn it_starts_with_both_groups_and_the_digest_and_not_without() {
    let digest = Digest::of(b"revert");
    let code = |case: &Case, digest, now| case.may_start(digest, at(now)).map_err(|no| no.code());
    let collecting = case(vec![yes("lind", Group::Security, 200)]);
    assert_eq!(
        code(&collecting, digest, 300),
        Err("revert_approvals_missing")
    );
    let two_of_one = case(vec![
        yes("lind", Group::Security, 200),
        yes("other", Group::Security, 210),
    ]);
    assert_eq!(
        code(&two_of_one, digest, 300),
        Err("revert_approvals_missing")
    );
    let ready = case(both());
    assert_eq!(code(&ready, digest, 300), Ok(()));
    assert_eq!(
        code(&ready, Digest::of(b"x"), 300),
        Err("revert_digest_differs")
    );
    assert_eq!(
        code(&ready, digest, 300 + 4 * HOUR),
        Err("revert_execution_expired")
    );
    assert_eq!(
        code(&collecting, digest, 100 + 24 * HOUR),
        Err("revert_approvals_expired")
    );
    let changed = Case {
        substance: substance(b"now"),
        ..case(both())
    };
    assert_eq!(code(&changed, digest, 300), Err("revert_changed"));
    let mut lost = case(both());
    lost.request.approvals[1].group_now = None;
    assert_eq!(code(&lost, digest, 300), Err("revert_approvals_missing"));
    let mut started = case(both());
    started.request.ended = Some(End::Executed);
    assert_eq!(code(&started, digest, 300), Err("revert_started"));
}

#[test]
fn whoever_asked_does_not_approve_and_one_person_counts_once() {
    let digest = Digest::of(b"revert");
    let case = case(vec![yes("lind", Group::Security, 200)]);
    let code = |by: &Seat| {
        case.may_approve((by, digest), at(300))
            .map_err(|no| no.code())
    };
    assert_eq!(
        code(&seat("asker", Group::Security)),
        Err("revert_requester_approves")
    );
    assert_eq!(code(&seat("okafor", Group::Operations)), Ok(true));
    assert_eq!(code(&seat("lind", Group::Security)), Ok(false));
    let mut late = seat("late", Group::Operations);
    late.since = at(101);
    assert_eq!(code(&late), Err("seat_too_new"));
}

#[test]
fn what_a_yes_is_to_changes_with_every_part_of_it() {
    let sheet = Sheet {
        format: SHEET_FORMAT,
        original: "workforce".to_owned(),
        original_plan: Digest::of(b"plan"),
        waves: Vec::new(),
        matching: None,
        holds: Vec::new(),
    };
    let target = TargetId::new(Uuid::from_u128(1));
    let version = PopulationVersionId::new(Uuid::from_u128(2));
    let wave = |people: &[u32]| PlannedWave {
        number: WaveNumber(1),
        name: "all".to_owned(),
        people: 2,
        roster_digest: roster_digest(version, &[people.iter().copied().map(Ordinal).collect()]),
        schedule: None,
        ramp: None,
        soak: crate::wave::soak::Seconds(0),
        gate: None,
    };
    let base = digest(&sheet, &[wave(&[1, 2])], None, target);
    assert_eq!(base, digest(&sheet, &[wave(&[1, 2])], None, target));
    let held = Sheet {
        holds: vec![HoldId::new(Uuid::from_u128(3))],
        ..sheet.clone()
    };
    let mut gated = wave(&[1, 2]);
    gated.gate = Some(crate::wave::gate::Gate::default());
    let others = [
        digest(&sheet, &[wave(&[1, 3])], None, target),
        digest(&sheet, &[gated], None, target),
        digest(&held, &[wave(&[1, 2])], None, target),
        digest(
            &sheet,
            &[wave(&[1, 2])],
            None,
            TargetId::new(Uuid::from_u128(9)),
        ),
    ];
    assert!(others.iter().all(|other| *other != base));
}

/// The bytes that version 1 wrote must decode for ever.
#[test]
fn a_sheet_of_version_1_decodes_for_ever() {
    let text = r#"{"format":1,"original":"workforce","original_plan":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","waves":[{"origin":2,"name":"rest","number":1,"people":3,"tally":{"done":3,"failed":1}}],"matching":"{\"country\":\"DE\"}","holds":["00000000-0000-0000-0000-000000000007"]}"#;
    let sheet: Sheet = serde_json::from_str(text).unwrap();
    assert_eq!(sheet.waves[0].tally.get(SlotState::Done), 3);
    assert_eq!(sheet.holds, [HoldId::new(Uuid::from_u128(7))]);
    let again: Sheet = serde_json::from_str(&serde_json::to_string(&sheet).unwrap()).unwrap();
    assert_eq!(again, sheet);
}

#[test]
fn every_refusal_has_its_own_code_and_says_what_to_do() {
    use crate::hold::quorum::{Missing, NoYes};
    let wave = WaveNumber(2);
    let person = || Principal::new("meier");
    let refusals = [
        RevertRefusal::NotARevert("move".to_owned()),
        RevertRefusal::OfARevert("move-revert-1".to_owned()),
        RevertRefusal::Fixed("move-revert-1".to_owned()),
        RevertRefusal::WavesMissing,
        RevertRefusal::WaveUnknown(wave),
        RevertRefusal::Nobody,
        RevertRefusal::NobodyMatches {
            moved: 50_000,
            condition: "country = \"Germany\"".to_owned(),
        },
        RevertRefusal::InFlight { wave, people: 7 },
        RevertRefusal::AlreadyOpen { wave },
        RevertRefusal::Frozen(frozen()),
        RevertRefusal::DigestDiffers {
            current: Digest::of(b"revert"),
        },
        RevertRefusal::Changed {
            differences: substance(b"then").differences(&substance(b"now")),
        },
        RevertRefusal::Yes(NoYes::NoSeat(person())),
        RevertRefusal::Yes(NoYes::Asker(person())),
        RevertRefusal::Yes(NoYes::SeatTooNew(person())),
        RevertRefusal::Yes(NoYes::SamePerson(person())),
        RevertRefusal::ApprovalsExpired { at: at(0) },
        RevertRefusal::ExecutionExpired { at: at(0) },
        RevertRefusal::ApprovalsMissing(Missing {
            people: 1,
            groups: vec![Group::Operations],
            lost: Vec::new(),
        }),
        RevertRefusal::Started,
        RevertRefusal::Ended,
    ];
    let codes: std::collections::BTreeSet<_> = refusals.iter().map(RevertRefusal::code).collect();
    assert_eq!(codes.len(), refusals.len(), "a code was used twice");
    let text: Vec<_> = refusals
        .iter()
        .map(|refusal| format!("{:<26} {refusal}", refusal.code()))
        .collect();
    insta::assert_snapshot!("revert_refusals", text.join("\n"));
}
