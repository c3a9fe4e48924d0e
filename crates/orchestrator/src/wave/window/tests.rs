//! Windows over changes of clocks, the date line, freezes and long sleeps.

use super::*;

fn utc(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(cron: &str, zone: &str, hours: u32) -> Schedule {
    Schedule {
        cron: cron.to_owned(),
        zone: zone.to_owned(),
        window: Seconds(hours * 3600),
    }
}

fn open_until(schedule: &Schedule, now: &str) -> Option<Timestamp> {
    match open_at(Some(schedule), &[], utc(now)) {
        WindowState::Open { until } => until,
        WindowState::Closed { .. } => None,
    }
}

#[test]
fn a_window_is_open_from_its_first_instant_to_before_its_last() {
    let nightly = schedule("0 0 20 * * *", "Europe/Paris", 8);
    assert_eq!(open_until(&nightly, "2026-07-01T17:59:59Z"), None);
    assert_eq!(
        open_until(&nightly, "2026-07-01T18:00:00Z"),
        Some(utc("2026-07-02T02:00:00Z"))
    );
    assert_eq!(
        open_until(&nightly, "2026-07-02T01:59:59Z"),
        Some(utc("2026-07-02T02:00:00Z"))
    );
    assert_eq!(open_until(&nightly, "2026-07-02T02:00:00Z"), None);
    assert_eq!(
        nightly.next_opening(utc("2026-07-01T18:00:00Z")),
        Some(utc("2026-07-02T18:00:00Z"))
    );
}

/// 02:30 does not exist in Paris on 2026-03-29: the window opens when the clocks have jumped.
#[test]
fn a_time_the_clocks_skip_opens_the_window_right_after_the_gap() {
    let early = schedule("0 30 2 * * *", "Europe/Paris", 2);
    assert_eq!(
        early.next_opening(utc("2026-03-28T12:00:00Z")),
        Some(utc("2026-03-29T01:00:00Z"))
    );
    assert_eq!(
        open_until(&early, "2026-03-29T01:00:00Z"),
        Some(utc("2026-03-29T03:00:00Z"))
    );
    assert_eq!(
        early.next_opening(utc("2026-03-29T01:00:00Z")),
        Some(utc("2026-03-30T00:30:00Z"))
    );
}

/// 02:30 comes twice in Paris on 2026-10-25: the window opens once, at the first of the two.
#[test]
fn a_time_that_comes_twice_opens_the_window_once() {
    let early = schedule("0 30 2 * * *", "Europe/Paris", 2);
    assert_eq!(
        early.next_opening(utc("2026-10-24T12:00:00Z")),
        Some(utc("2026-10-25T00:30:00Z"))
    );
    assert_eq!(
        open_until(&early, "2026-10-25T00:30:00Z"),
        Some(utc("2026-10-25T02:30:00Z"))
    );
    assert_eq!(
        early.next_opening(utc("2026-10-25T00:30:00Z")),
        Some(utc("2026-10-26T01:30:00Z"))
    );
}

/// Kiritimati is 14 hours ahead of UTC, Midway 11 behind: the same local time, 25 hours apart.
#[test]
fn sites_on_both_sides_of_the_date_line_open_at_their_own_nine_o_clock() {
    let ahead = schedule("0 0 9 * * *", "Pacific/Kiritimati", 1);
    let behind = schedule("0 0 9 * * *", "Pacific/Midway", 1);
    assert_eq!(
        ahead.next_opening(utc("2026-06-01T00:00:00Z")),
        Some(utc("2026-06-01T19:00:00Z"))
    );
    assert_eq!(
        behind.next_opening(utc("2026-06-01T00:00:00Z")),
        Some(utc("2026-06-01T20:00:00Z"))
    );
    assert_eq!(
        open_until(&ahead, "2026-06-01T19:30:00Z"),
        Some(utc("2026-06-01T20:00:00Z"))
    );
}

/// Samoa had no 2011-12-30: whoever planned for that day starts on the next.
#[test]
fn a_day_that_did_not_happen_opens_the_window_when_it_is_over() {
    let new_year = schedule("0 0 9 30 12 *", "Pacific/Apia", 1);
    assert_eq!(
        new_year.next_opening(utc("2011-12-29T00:00:00Z")),
        Some(utc("2011-12-30T10:00:00Z"))
    );
}

#[test]
fn three_weeks_of_missed_windows_leave_one_window_and_not_twenty_one() {
    let nightly = schedule("0 0 20 * * *", "UTC", 2);
    let back = utc("2026-05-22T21:00:00Z");
    assert_eq!(
        open_at(Some(&nightly), &[], back),
        WindowState::Open {
            until: Some(utc("2026-05-22T22:00:00Z"))
        }
    );
    assert_eq!(
        nightly.next_opening(back),
        Some(utc("2026-05-23T20:00:00Z"))
    );
}

/// Whoever comes back after a year asks about the present and the next opening, whatever fired meanwhile:
/// every five minutes 105,120 times, on a 31st seven times. No question says since when nobody looked, so
/// there is nothing to walk; and a search that began a year back would stop short at `OPENINGS_MAX`.
#[test]
fn missed_windows_of_a_year_are_not_walked() {
    let schedules = [
        ("0 */5 * * * *", 60, "2027-03-10T10:05:00Z"),
        ("0 0 * * * *", 60, "2027-03-10T11:00:00Z"),
        ("0 0 9 1 * *", 3_600, "2027-04-01T09:00:00Z"),
        ("0 0 9 31 * *", 3_600, "2027-03-31T09:00:00Z"),
    ];
    let back = utc("2027-03-10T10:02:00Z");
    for (cron, seconds, next) in schedules {
        let schedule = Schedule {
            window: Seconds(seconds),
            ..schedule(cron, "UTC", 1)
        };
        assert_eq!(
            open_at(Some(&schedule), &[], back),
            WindowState::Closed {
                next: Some(utc(next)),
                because: format!(
                    "the window is closed; the next one opens {}",
                    instant(utc(next))
                )
            },
            "{cron}"
        );
        assert!(open_until(&schedule, next).is_some(), "{cron} opens then");
    }
}

#[test]
fn a_freeze_beats_an_open_window_and_ends_with_its_last_day() {
    let always = schedule("0 0 * * * *", "UTC", 1);
    let freeze = Freeze {
        name: "year-end".to_owned(),
        from: "2026-12-15".parse().unwrap(),
        to: "2027-01-05".parse().unwrap(),
        zone: "Europe/Paris".to_owned(),
    };
    let freezes = [freeze];
    assert_eq!(
        open_at(Some(&always), &freezes, utc("2026-12-14T22:59:00Z")),
        WindowState::Open {
            until: Some(utc("2026-12-14T23:00:00Z"))
        }
    );
    let closed = open_at(Some(&always), &freezes, utc("2026-12-25T12:00:00Z"));
    assert_eq!(
        closed,
        WindowState::Closed {
            next: Some(utc("2027-01-05T23:00:00Z")),
            because: "freeze `year-end` lasts until 2027-01-05 23:00Z".to_owned()
        }
    );
    assert_eq!(
        open_at(None, &freezes, utc("2027-01-05T23:00:00Z")),
        WindowState::Open { until: None }
    );
}

#[test]
fn a_window_that_a_freeze_cuts_short_ends_with_the_freeze() {
    let nightly = schedule("0 0 20 * * *", "UTC", 8);
    let freeze = Freeze {
        name: "audit".to_owned(),
        from: "2026-03-02".parse().unwrap(),
        to: "2026-03-02".parse().unwrap(),
        zone: "UTC".to_owned(),
    };
    assert_eq!(
        open_at(Some(&nightly), &[freeze], utc("2026-03-01T21:00:00Z")),
        WindowState::Open {
            until: Some(utc("2026-03-02T00:00:00Z"))
        }
    );
}

#[test]
fn forty_sites_open_at_their_own_time_on_both_sides_of_a_change_of_clocks() {
    let zones = [
        "America/New_York",
        "America/Chicago",
        "America/Los_Angeles",
        "America/Sao_Paulo",
        "America/Mexico_City",
        "America/Toronto",
        "America/Halifax",
        "America/St_Johns",
        "America/Bogota",
        "America/Santiago",
        "Europe/Paris",
        "Europe/Berlin",
        "Europe/London",
        "Europe/Madrid",
        "Europe/Warsaw",
        "Europe/Athens",
        "Europe/Istanbul",
        "Europe/Kyiv",
        "Europe/Lisbon",
        "Africa/Cairo",
        "Africa/Casablanca",
        "Africa/Nairobi",
        "Africa/Lagos",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Asia/Tokyo",
        "Asia/Shanghai",
        "Asia/Singapore",
        "Asia/Dubai",
        "Asia/Tehran",
        "Asia/Karachi",
        "Asia/Jerusalem",
        "Australia/Sydney",
        "Australia/Adelaide",
        "Australia/Lord_Howe",
        "Pacific/Auckland",
        "Pacific/Chatham",
        "Pacific/Kiritimati",
        "Pacific/Honolulu",
        "Pacific/Pago_Pago",
    ];
    for name in zones {
        let nine = schedule("0 0 9 * * *", name, 1);
        let mut at = utc("2026-01-01T00:00:00Z");
        let mut openings = 0;
        while let Some(next) = nine
            .next_opening(at)
            .filter(|next| *next < utc("2027-01-01T00:00:00Z"))
        {
            let local = next.with_timezone(&zone(name).unwrap());
            assert_eq!(local.format("%H:%M:%S").to_string(), "09:00:00", "{name}");
            at = next;
            openings += 1;
        }
        assert!((364..=366).contains(&openings), "{name}: {openings}");
    }
}

#[test]
fn a_schedule_that_cannot_be_understood_says_which_part() {
    let error = schedule("every day", "UTC", 1).check().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("`every day` is not a cron expression"),
        "{error}"
    );
    let error = schedule("0 0 9 * * *", "Europe/Pari", 1)
        .check()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`Europe/Pari` is not an IANA time zone, such as Europe/Paris"
    );
    assert_eq!(
        schedule("0 0 9 * * *", "UTC", 0).check(),
        Err(ScheduleError::EmptyWindow)
    );
}

/// Many ticks in a year of halt are not walked.
#[test]
fn a_schedule_of_every_second_is_answered_at_once_after_a_year() {
    let busy = schedule("* * * * * *", "Europe/Paris", 1);
    let now = utc("2027-11-24T12:00:00Z");
    assert_eq!(busy.next_opening(now), Some(utc("2027-11-24T12:00:01Z")));
    assert!(matches!(
        open_at(Some(&busy), &[], now),
        WindowState::Open { .. }
    ));
}

#[test]
fn a_schedule_of_the_past_never_opens_again_and_says_so() {
    let past = schedule("0 0 9 1 1 * 2020", "UTC", 1);
    let WindowState::Closed {
        next: None,
        because,
    } = open_at(Some(&past), &[], utc("2026-01-01T00:00:00Z"))
    else {
        panic!("open");
    };
    assert_eq!(
        because,
        "the window is closed, and `0 0 9 1 1 * 2020` in UTC never opens again"
    );
}
