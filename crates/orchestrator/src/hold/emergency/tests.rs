//! Who may break the glass, for what, for how long, and what comes before the next time.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::ids::from_millis;

fn at(minutes: i64) -> Timestamp {
    from_millis(minutes * 60_000).unwrap()
}

fn seat(name: &str, group: Option<Group>) -> Seat {
    Seat {
        token: Principal::new(name),
        person: Principal::new(name),
        group,
        since: at(0),
    }
}

fn guard() -> Seat {
    seat("guard", Some(Group::Security))
}

fn owner() -> Seat {
    seat("owner", Some(Group::Operations))
}

fn third() -> Seat {
    seat("third", Some(Group::Approvers))
}

fn halt(number: u128) -> HoldId {
    HoldId::new(Uuid::from_u128(number))
}

fn case() -> Case {
    Case {
        is_running: true,
        waves: vec![
            Stage::Over,
            Stage::Over,
            Stage::Begun,
            Stage::Pending,
            Stage::Pending,
        ],
        halts: [halt(1)].into(),
        asker_now: Some(Group::Security),
        others: Vec::new(),
    }
}

fn wish() -> Wish {
    Wish {
        rollout: RolloutId::new(Uuid::from_u128(2)),
        waves: [WaveNumber(3)].into(),
        minutes: 120,
        incident: "INC-4711".to_owned(),
        reason: "the mail of the hospital".to_owned(),
    }
}

fn id(number: u128) -> ExemptionId {
    ExemptionId::new(Uuid::from_u128(number))
}

fn asked() -> Emergency {
    wish().ask(id(7), &case(), &guard(), at(10)).unwrap()
}

fn running() -> Emergency {
    asked().confirm(&case(), &owner(), at(20)).unwrap()
}

#[track_caller]
fn check_ask(wish: Wish, case: &Case, by: &Seat, code: &str) {
    let refusal = wish.ask(id(8), case, by, at(10_000)).unwrap_err();
    assert_eq!(refusal.code(), code, "{refusal}");
}

#[track_caller]
fn check_confirm(case: &Case, by: &Seat, now: i64, code: &str) {
    let refusal = asked().confirm(case, by, at(now)).unwrap_err();
    assert_eq!(refusal.code(), code, "{refusal}");
}

#[test]
fn what_is_asked_for_is_narrow_and_named() {
    let no_waves = Wish {
        waves: BTreeSet::new(),
        ..wish()
    };
    check_ask(no_waves, &case(), &guard(), "emergency_waves_unknown");
    let beyond = Wish {
        waves: [WaveNumber(6)].into(),
        ..wish()
    };
    check_ask(beyond, &case(), &guard(), "emergency_waves_unknown");
    let over = Wish {
        waves: [WaveNumber(2)].into(),
        ..wish()
    };
    check_ask(over, &case(), &guard(), "emergency_wave_over");
    let behind = Wish {
        waves: [WaveNumber(4)].into(),
        ..wish()
    };
    check_ask(behind, &case(), &guard(), "emergency_wave_behind");
    let both = Wish {
        waves: [WaveNumber(3), WaveNumber(4)].into(),
        ..wish()
    };
    assert!(both.ask(id(8), &case(), &guard(), at(0)).is_ok());
    let never = Wish {
        minutes: 0,
        ..wish()
    };
    check_ask(never, &case(), &guard(), "emergency_duration");
    let long = Wish {
        minutes: 241,
        ..wish()
    };
    check_ask(long, &case(), &guard(), "emergency_duration");
    let unnamed = Wish {
        incident: "  ".to_owned(),
        ..wish()
    };
    check_ask(unnamed, &case(), &guard(), "emergency_incident_missing");
    let free = Case {
        halts: BTreeSet::new(),
        ..case()
    };
    check_ask(wish(), &free, &guard(), "emergency_not_needed");
    let over = Case {
        is_running: false,
        ..case()
    };
    check_ask(wish(), &over, &guard(), "emergency_not_running");
}

#[test]
fn only_custodians_ask_and_confirm() {
    for by in [third(), seat("machine", None)] {
        check_ask(wish(), &case(), &by, "emergency_no_custodian");
        check_confirm(&case(), &by, 20, "emergency_no_custodian");
    }
}

#[test]
fn the_second_custodian_is_another_person_of_the_other_group() {
    let twin = Seat {
        person: Principal::new("GUARD"),
        ..owner()
    };
    check_confirm(&case(), &twin, 20, "emergency_same_person");
    let colleague = seat("colleague", Some(Group::Security));
    check_confirm(&case(), &colleague, 20, "emergency_same_group");
    let made_for_it = Seat {
        since: at(11),
        ..owner()
    };
    check_confirm(&case(), &made_for_it, 20, "emergency_seat_too_new");
    let lost = Case {
        asker_now: None,
        ..case()
    };
    check_confirm(&lost, &owner(), 20, "emergency_seat_lost");
}

#[test]
fn a_halt_since_the_question_needs_a_new_question() {
    let more = Case {
        halts: [halt(1), halt(2)].into(),
        ..case()
    };
    check_confirm(&more, &owner(), 20, "emergency_holds_changed");
    let none = Case {
        halts: BTreeSet::new(),
        ..case()
    };
    check_confirm(&none, &owner(), 20, "emergency_holds_changed");
}

#[test]
fn a_question_waits_an_hour() {
    assert_eq!(asked().standing(at(69)), Standing::Asked { until: at(70) });
    check_confirm(&case(), &owner(), 70, "emergency_not_asked");
    assert_eq!(asked().standing(at(70)), Standing::Dropped);
    let back = asked().end(&owner(), "no", at(12)).unwrap();
    assert_eq!(back.standing(at(12)), Standing::Dropped);
}

#[test]
fn it_lasts_as_long_as_was_asked_for_and_lets_go_on_what_was_named() {
    let running = running();
    assert_eq!(
        running.standing(at(139)),
        Standing::Running { until: at(140) }
    );
    assert_eq!(
        running.standing(at(140)),
        Standing::ReviewDue { since: at(140) }
    );
    let exemption = running.exemption().unwrap();
    assert_eq!(exemption.until, at(140));
    assert_eq!(exemption.holds, [halt(1)].into());
    assert_eq!(exemption.waves, [WaveNumber(3)].into());
    assert_eq!(asked().exemption(), None);
}

#[test]
fn one_custodian_is_enough_to_end_it() {
    let ended = running().end(&owner(), "enough", at(30)).unwrap();
    assert_eq!(
        ended.standing(at(30)),
        Standing::ReviewDue { since: at(30) }
    );
    let refusal = ended.end(&guard(), "again", at(31)).unwrap_err();
    assert_eq!(refusal.code(), "emergency_not_open");
    let refusal = running().end(&third(), "enough", at(30)).unwrap_err();
    assert_eq!(refusal.code(), "emergency_no_custodian");
}

#[test]
fn the_review_is_somebody_elses_and_comes_before_the_next_one() {
    let over = running();
    let with = |other: &Emergency| Case {
        others: vec![other.clone()],
        ..case()
    };
    let open = wish()
        .ask(id(8), &with(&over), &guard(), at(100))
        .unwrap_err();
    assert_eq!(open.code(), "emergency_another_open");
    check_ask(wish(), &with(&over), &guard(), "emergency_review_first");
    let early = over.review(&third(), "fine", at(100)).unwrap_err();
    assert_eq!(early.code(), "emergency_no_review_due");
    for by in [guard(), owner()] {
        let own = over.review(&by, "fine", at(150)).unwrap_err();
        assert_eq!(own.code(), "emergency_custodian_reviews");
    }
    let reviewed = over
        .review(&third(), "the mail works again", at(150))
        .unwrap();
    assert_eq!(reviewed.standing(at(150)), Standing::Reviewed);
    assert!(
        wish()
            .ask(id(8), &with(&reviewed), &guard(), at(151))
            .is_ok()
    );
}

#[test]
fn the_third_emergency_in_a_month_is_refused() {
    let reviewed = |number, from: i64| {
        let mut one = running();
        one.id = id(number);
        one.confirmed = Some(Confirmation {
            by: owner(),
            at: at(from),
            until: at(from + 1),
        });
        one.review = Some(third().word("seen", at(from + 2)));
        one
    };
    let day = 24 * 60;
    let others = vec![reviewed(1, day), reviewed(2, 20 * day)];
    let case = Case { others, ..case() };
    let ask = |now| wish().ask(id(3), &case, &guard(), at(now));
    assert_eq!(ask(30 * day).unwrap_err().code(), "emergency_too_many");
    assert!(ask(31 * day).is_ok());
}

#[test]
fn an_emergency_reads_back_as_it_was_written() {
    let one = running().end(&owner(), "enough", at(30)).unwrap();
    let text = serde_json::to_string(&one).unwrap();
    assert_eq!(serde_json::from_str::<Emergency>(&text).unwrap(), one);
}

proptest! {
    /// Whoever confirms whatever when: two persons, two groups, one of them security, four hours at most.
    #[test]
    fn no_emergency_runs_without_two_custodians(
        people in prop::collection::vec((0_usize..4, 0_usize..4), 2),
        minutes in 0_u32..400,
        now in 10_i64..200,
    ) {
        let groups = [None, Some(Group::Security), Some(Group::Operations), Some(Group::Approvers)];
        let seats: Vec<Seat> = people
            .iter()
            .map(|(name, group)| seat(&format!("person-{name}"), groups[*group]))
            .collect();
        let wanted = Wish { minutes, ..wish() };
        let case = Case { asker_now: seats[0].group, ..case() };
        let asked = wanted.ask(id(7), &case, &seats[0], at(10));
        let Ok(running) = asked.and_then(|one| one.confirm(&case, &seats[1], at(now))) else {
            return Ok(());
        };
        prop_assert_ne!(&seats[0].person, &seats[1].person);
        let both = [seats[0].group, seats[1].group];
        prop_assert!(both.contains(&Some(Group::Security)) && both.contains(&Some(Group::Operations)));
        let until = running.exemption().unwrap().until;
        prop_assert!(until <= at(now) + TimeDelta::hours(4));
    }
}
