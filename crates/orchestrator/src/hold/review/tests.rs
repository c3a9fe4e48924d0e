//! Who may look, who may hand over, and how often nobody is reminded.

use std::collections::BTreeSet;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::hold::{Cause, MovedPeople, Release, Scope, Wanted};
use crate::ids::{Epoch, Generation, from_millis};

const DAY_MS: i64 = 86_400_000;

fn at(days: i64) -> Timestamp {
    from_millis(days * DAY_MS).unwrap()
}

fn who(name: &str) -> Principal {
    Principal::new(name)
}

fn hold(kind: HoldKind) -> Hold {
    let wanted = Wanted {
        kind,
        scope: Scope::Everything,
        part: None,
        cause: Cause::People {
            principals: vec![who("ann")],
        },
        reason: "token theft".to_owned(),
        effect: MovedPeople::Keep,
        review_at: None,
    };
    wanted.into_hold(HoldId::new(Uuid::from_u128(1)), who("ann"), Epoch(7), at(0))
}

fn seat(token: &str, person: &str, group: Option<Group>) -> Seat {
    Seat {
        token: who(token),
        person: who(person),
        group,
        since: at(0),
    }
}

fn review(kind: HoldKind, by: &Seat, next: Option<Timestamp>) -> Result<Hold, ReviewRefusal> {
    hold(kind).review((by, &who("ann")), "it must stay", next, at(40))
}

fn owner(token: &str) -> NewOwner {
    NewOwner {
        token: who(token),
        role: "security".to_owned(),
        is_revoked: false,
        may_end: true,
    }
}

#[test]
fn a_stop_is_refused_for_no_date_and_says_which_one_was_not_taken() {
    assert_eq!(named(at(50), at(40)), (Some(at(50)), None));
    assert_eq!(named(at(40 + 366), at(40)).1, None);
    let (taken, said) = named(at(40 + 367), at(40));
    assert!(taken.is_none() && said.unwrap().contains("was not taken"));
    let (taken, said) = named(at(-5), at(40));
    assert!(taken.is_none() && said.unwrap().contains("was not taken"));
    let (taken, said) = named(at(39), at(40));
    assert!(taken == Some(at(39)) && said.unwrap().contains("overdue from the start"));
}

#[test]
fn a_halt_without_a_date_is_reviewed_after_thirty_days_and_a_pause_after_seven() {
    assert_eq!(hold(HoldKind::Halt).review_at, Some(at(30)));
    assert_eq!(hold(HoldKind::Pause).review_at, Some(at(7)));
    assert_eq!(hold(HoldKind::Gate).review_at, None, "it follows its wave");
    assert_eq!(hold(HoldKind::Freeze).review_at, None);
}

#[test]
fn a_review_is_overdue_from_its_very_instant_and_never_of_what_has_ended() {
    let halt = hold(HoldKind::Halt);
    assert_eq!(
        halt.overdue_since(at(30) - TimeDelta::milliseconds(1)),
        None
    );
    assert_eq!(halt.overdue_since(at(30)), Some(at(30)));
    let release = Release {
        by: who("cy"),
        at: at(31),
        epoch: Epoch(8),
        reason: "over".to_owned(),
    };
    assert_eq!(halt.end(release).unwrap().overdue_since(at(400)), None);
}

#[test]
fn the_owner_and_any_security_lead_review_a_halt_and_managers_only_a_pause() {
    let own = seat("ann-laptop", "ann", None);
    let security = seat("dee", "dee", Some(Group::Security));
    let manager = seat("bo", "bo", Some(Group::Operations));
    let approver = seat("cy", "cy", Some(Group::Approvers));
    let admin = seat("root", "root", None);
    for (kind, by, may) in [
        (HoldKind::Halt, &own, true),
        (HoldKind::Halt, &security, true),
        (HoldKind::Halt, &manager, false),
        (HoldKind::Halt, &approver, false),
        (HoldKind::Halt, &admin, false),
        (HoldKind::Pause, &own, true),
        (HoldKind::Pause, &security, true),
        (HoldKind::Pause, &manager, true),
        (HoldKind::Pause, &approver, false),
        (HoldKind::Pause, &admin, false),
    ] {
        let done = review(kind, by, None);
        assert_eq!(done.is_ok(), may, "{kind:?} by {}: {done:?}", by.token);
        if let Err(refusal) = done {
            assert_eq!(refusal.code(), "review_not_yours");
        }
    }
}

#[test]
fn a_review_moves_the_date_and_nothing_else() {
    let by = seat("ann", "ann", Some(Group::Security));
    let (before, after) = (
        hold(HoldKind::Halt),
        review(HoldKind::Halt, &by, Some(at(90))),
    );
    let expected = Hold {
        review_at: Some(at(90)),
        generation: Generation(2),
        ..before
    };
    assert_eq!(after, Ok(expected));
    let by_default = review(HoldKind::Halt, &by, None).unwrap();
    assert_eq!(
        by_default.review_at,
        Some(at(70)),
        "thirty days from the look"
    );
}

#[test]
fn the_next_review_lies_ahead_and_within_a_year() {
    let by = seat("ann", "ann", Some(Group::Security));
    let code = |next| review(HoldKind::Halt, &by, Some(next)).map_err(|no| no.code());
    assert_eq!(code(at(40)), Err("review_not_ahead"));
    assert!(code(at(40 + AHEAD_DAYS_MAX)).is_ok());
    assert_eq!(code(at(41 + AHEAD_DAYS_MAX)), Err("review_too_far_ahead"));
    let silent = hold(HoldKind::Halt).review((&by, &who("ann")), " ", None, at(40));
    assert_eq!(silent.map_err(|no| no.code()), Err("note_missing"));
}

#[test]
fn the_owner_a_security_lead_or_an_admin_hands_over_and_nobody_else() {
    let hand = |by: &Seat, is_admin| {
        let done = hold(HoldKind::Halt).hand_over((by, &who("ann")), is_admin, &owner("dee"));
        done.map(|hold| hold.owner.to_string())
            .map_err(|no| no.code())
    };
    assert_eq!(
        hand(&seat("ann-2", "ann", None), false),
        Ok("dee".to_owned())
    );
    assert_eq!(
        hand(&seat("x", "x", Some(Group::Security)), false),
        Ok("dee".to_owned())
    );
    assert_eq!(
        hand(&seat("root", "root", None), true),
        Ok("dee".to_owned())
    );
    let manager = seat("bo", "bo", Some(Group::Operations));
    assert_eq!(hand(&manager, false), Err("owner_not_yours"));
    assert_eq!(
        hand(&seat("cy", "cy", Some(Group::Approvers)), false),
        Err("owner_not_yours")
    );
}

#[test]
fn a_hold_goes_to_somebody_who_is_there_and_may_see_to_its_end() {
    let by = seat("ann", "ann", None);
    let hand = |to: &NewOwner| {
        let halt = hold(HoldKind::Halt);
        halt.hand_over((&by, &who("ann")), false, to)
            .map(|after| after.generation.get())
            .map_err(|no| no.code())
    };
    let gone = NewOwner {
        is_revoked: true,
        ..owner("dee")
    };
    let reader = NewOwner {
        may_end: false,
        role: "auditor".to_owned(),
        ..owner("dee")
    };
    assert_eq!(hand(&gone), Err("owner_revoked"));
    assert_eq!(hand(&reader), Err("owner_may_not"));
    assert_eq!(hand(&owner("dee")), Ok(2));
    assert_eq!(hand(&owner("ann")), Ok(1), "the same owner changes nothing");
}

#[test]
fn what_follows_a_wave_or_a_calendar_or_has_ended_is_neither_reviewed_nor_handed_over() {
    let by = seat("dee", "dee", Some(Group::Security));
    let code = |hold: &Hold| {
        let reviewed = hold.review((&by, &who("ann")), "seen", None, at(1));
        let handed = hold.hand_over((&by, &who("ann")), true, &owner("dee"));
        let codes = (reviewed.unwrap_err().code(), handed.unwrap_err().code());
        assert_eq!(codes.0, codes.1);
        codes.0
    };
    assert_eq!(code(&hold(HoldKind::Gate)), "hold_follows_verdict");
    assert_eq!(code(&hold(HoldKind::Freeze)), "hold_follows_calendar");
    let release = Release {
        by: who("cy"),
        at: at(1),
        epoch: Epoch(8),
        reason: "over".to_owned(),
    };
    let ended = hold(HoldKind::Halt).end(release).unwrap();
    assert_eq!(code(&ended), "hold_already_released");
}

#[test]
fn every_refusal_of_a_review_has_its_own_code_and_says_what_to_do() {
    let (id, by, kind) = (HoldId::new(Uuid::from_u128(1)), who("bo"), HoldKind::Halt);
    let (owner, token) = (who("ann"), who("aud"));
    let refusals = [
        ReviewRefusal::Hold(HoldRefusal::FollowsVerdict { id }),
        ReviewRefusal::NoteMissing,
        ReviewRefusal::NotTheirs {
            id,
            kind,
            by: by.clone(),
            owner: owner.clone(),
        },
        ReviewRefusal::NotAhead { at: at(1) },
        ReviewRefusal::TooFarAhead {
            at: at(900),
            until: at(366),
        },
        ReviewRefusal::NotTheirsToGive { id, by, owner },
        ReviewRefusal::OwnerRevoked(token.clone()),
        ReviewRefusal::OwnerMayNot {
            token,
            role: "auditor".to_owned(),
            kind,
        },
    ];
    let codes: BTreeSet<_> = refusals.iter().map(ReviewRefusal::code).collect();
    assert_eq!(codes.len(), refusals.len(), "a code was used twice");
    let text: Vec<_> = refusals
        .iter()
        .map(|refusal| format!("{:<20} {refusal}", refusal.code()))
        .collect();
    insta::assert_snapshot!("review_refusals", text.join("\n"));
}

proptest! {
    /// However often, and however late, somebody comes to look: reminders are a week apart at least.
    #[test]
    fn reminders_are_a_week_apart_whoever_looks_how_often(
        steps in prop::collection::vec(0_i64..30 * 24, 1..400),
    ) {
        let (mut now, mut due) = (at(30), at(30));
        let mut told = Vec::new();
        for hours in steps {
            now += TimeDelta::hours(hours);
            if due <= now {
                told.push(now);
                due = next_reminder(now);
            }
        }
        for pair in told.windows(2) {
            prop_assert!(pair[1] - pair[0] >= REMIND_EVERY);
        }
        let weeks = usize::try_from((now - at(30)).num_weeks()).unwrap();
        prop_assert!(told.len() <= weeks + 1);
    }
}
