//! What counts as quiet, case by case, and laws that hold for all of them.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::ids::from_millis;

const TARGET: TargetId = TargetId::new(Uuid::from_u128(1));
const HELD: RolloutId = RolloutId::new(Uuid::from_u128(2));
const OTHER: RolloutId = RolloutId::new(Uuid::from_u128(3));
/// Just before noon, so that sentences are easy to read.
const NOON: i64 = 12 * 3_600_000;

fn at(millis: i64) -> Timestamp {
    from_millis(NOON + millis).unwrap()
}

fn stop() -> Stop {
    Stop {
        scope: Scope::Rollout(HELD),
        epoch: Epoch(8),
        placed_at: at(0),
        exempt_until: None,
        overridden_by: None,
    }
}

fn id(number: u128) -> WorkerId {
    WorkerId::new(Uuid::from_u128(number))
}

/// A worker that has seen the epoch before the hold a second before it.
fn worker(number: u128) -> WorkerSaid {
    WorkerSaid {
        id: id(number),
        name: format!("web-{number}"),
        seen_at: at(-1000),
        epoch: Epoch(7),
        epochs: vec![EpochSeen {
            epoch: Epoch(7),
            seen_at: at(-60_000),
            quiet_at: Some(at(-60_000)),
        }],
        in_flight: 0,
        held: Some(Vec::new()),
        request_millis: Some(10_000),
        has_ended: false,
    }
}

/// The same, having seen the hold after so long.
fn told(number: u128, after: i64, people: u64) -> WorkerSaid {
    let mut told = worker(number);
    told.epoch = Epoch(8);
    told.seen_at = at(after);
    told.in_flight = people;
    if people > 0 {
        let place = Place::wave(TARGET, HELD, WaveNumber(1));
        told.held = Some(vec![UnderWay::at(place, people)]);
    }
    remember(&mut told.epochs, Epoch(8), people == 0, at(after));
    told
}

fn leased(number: u128, rollout: RolloutId, until: i64) -> LeaseInForce {
    LeaseInForce {
        owner: id(number),
        place: Place::wave(TARGET, rollout, WaveNumber(1)),
        until: at(until),
    }
}

fn judged(workers: &[WorkerSaid], leases: &[LeaseInForce], now: i64) -> Quiescence {
    judge(
        &stop(),
        &Facts {
            workers,
            leases,
            now: at(now),
        },
    )
}

#[track_caller]
fn check(workers: &[WorkerSaid], leases: &[LeaseInForce], now: i64, expected: (bool, &str)) {
    let found = judged(workers, leases, now);
    assert_eq!((found.quiesced, found.sentence().as_str()), expected);
}

#[test]
fn everybody_has_acknowledged_and_the_slowest_is_named() {
    let workers = [told(1, 12, 0), told(2, 1400, 0)];
    let sentence = "2 of 2 workers confirmed, slowest 1.4 s";
    check(&workers, &[], 1500, (true, sentence));
    let sentence = "1 of 1 worker confirmed, slowest 12 ms";
    check(&workers[..1], &[], 1500, (true, sentence));
}

#[test]
fn a_silent_worker_with_a_lease_can_send_until_its_permit_and_one_request_are_over() {
    let workers = [told(1, 400, 0), told(2, 1400, 0), worker(3)];
    let leases = [leased(3, HELD, 18_000)];
    // Committed by 0.4 s, a permit of 2 s, 1 s for the clocks, a request of 10 s.
    let sentence = "2 of 3 workers confirmed, slowest 1.4 s; `web-3` is silent and can send until 12:00:14Z at the latest";
    check(&workers, &leases, 1500, (false, sentence));
    check(&workers, &leases, 13_399, (false, sentence));
    let sentence = "2 of 3 workers confirmed, slowest 1.4 s; `web-3` is silent and cannot send";
    check(&workers, &leases, 13_400, (true, sentence));
    assert_eq!(judged(&workers, &leases, 1500).quiet_by(), Some(at(13_400)));
}

#[test]
fn a_lease_that_ends_earlier_ends_it_earlier() {
    let workers = [told(1, 0, 0), worker(3)];
    let leases = [leased(3, HELD, 3000), leased(3, HELD, 5000)];
    assert!(!judged(&workers, &leases, 4999).quiesced);
    assert!(judged(&workers, &leases, 5000).quiesced);
}

#[test]
fn a_silent_worker_without_a_lease_under_the_hold_has_nothing_to_send() {
    let workers = [told(1, 0, 0), worker(3)];
    assert!(judged(&workers, &[leased(3, OTHER, 18_000)], 1).quiesced);
    assert!(judged(&workers, &[], 1).quiesced);
}

#[test]
fn nothing_is_counted_from_the_placing_while_nobody_has_seen_the_hold() {
    // The commit may take its time, and permits are read meanwhile.
    let workers = [worker(3)];
    let leases = [leased(3, HELD, 90_000)];
    for now in [1, 20_000, 60_000] {
        let found = judged(&workers, &leases, now);
        assert_eq!(found.quiet_by(), Some(at(now + 13_000)));
        assert!(!found.quiesced);
    }
    assert!(judged(&workers, &leases, 90_000).quiesced);
}

#[test]
fn what_a_worker_does_not_say_is_taken_for_the_worst() {
    let mut old = worker(3);
    old.request_millis = None;
    let workers = [told(1, 0, 0), old];
    let leases = [leased(3, HELD, 90_000)];
    assert_eq!(judged(&workers, &leases, 1).quiet_by(), Some(at(90_000)));
    // An older version says how many are under way, and not where.
    let mut vague = told(2, 10, 0);
    (vague.held, vague.in_flight) = (None, 5);
    assert!(!judged(&[vague], &[], 20).quiesced);
    // Leases of somebody who never said anything.
    let found = judged(&[told(1, 0, 0)], &leases, 1);
    assert_eq!((found.quiesced, found.workers.len()), (false, 2));
    assert!(!judged(&[], &[], 1).quiesced, "nobody known is no proof");
}

#[test]
fn a_worker_that_still_sends_is_waited_for_and_its_last_word_bounds_it() {
    let workers = [told(1, 0, 0), told(2, 50, 64)];
    let sentence = "1 of 2 workers confirmed, slowest 0 ms; `web-2` still has 64 people under way until 12:00:12Z at the latest";
    check(&workers, &[], 60, (false, sentence));
    assert_eq!(judged(&workers, &[], 60).in_flight, 64);
    // It died in the middle: its last word, a request and the margin.
    assert!(!judged(&workers, &[], 11_049).quiesced);
    assert!(judged(&workers, &[], 11_050).quiesced);
    // It does not say how long a request takes, and nothing else bounds it.
    let mut endless = workers[1].clone();
    endless.request_millis = None;
    let found = judged(&[endless], &[], 1_000_000);
    assert_eq!((found.quiesced, found.quiet_by()), (false, None));
    assert!(found.sentence().ends_with("nobody knows until when"));
}

#[test]
fn people_under_way_elsewhere_do_not_keep_a_hold_waiting() {
    let mut busy = told(2, 50, 64);
    busy.held = Some(vec![UnderWay::at(
        Place::wave(TARGET, OTHER, WaveNumber(1)),
        64,
    )]);
    assert!(judged(&[busy], &[], 60).quiesced);
}

#[test]
fn whoever_was_gone_before_the_hold_or_has_ended_is_not_counted() {
    let mut gone = worker(2);
    gone.seen_at = at(-10_001);
    let mut ended = worker(3);
    ended.has_ended = true;
    let leases = [leased(3, HELD, 18_000)];
    let found = judged(&[told(1, 7, 0), gone.clone(), ended], &leases, 20);
    let sentence = "1 of 1 worker confirmed, slowest 7 ms";
    assert_eq!(found.sentence(), sentence);
    // With a lease it counts, however long it has been silent.
    assert!(!judged(&[told(1, 7, 0), gone], &[leased(2, HELD, 18_000)], 20).quiesced);
}

#[test]
fn it_is_quiet_in_the_end_when_everybody_was_silent_before_the_hold() {
    let mut silent = worker(2);
    silent.seen_at = at(-10_001);
    let workers = [silent];
    let leases = [leased(2, HELD, 5000)];
    assert!(!judged(&workers, &leases, 4999).quiesced);
    // Nobody is left that counts, and nobody is left that could send.
    let found = judged(&workers, &leases, 5000);
    assert_eq!((found.quiesced, found.workers.len()), (true, 0));
}

#[test]
fn a_later_epoch_does_not_make_an_acknowledgement_slower() {
    let mut seen = told(1, 12, 0);
    remember(&mut seen.epochs, Epoch(9), true, at(90_000));
    (seen.epoch, seen.seen_at) = (Epoch(9), at(90_000));
    assert_eq!(judged(&[seen], &[], 90_001).slowest_millis, Some(12));
    // Whoever began after the hold was never slow.
    let mut late = worker(2);
    late.epochs.clear();
    remember(&mut late.epochs, Epoch(9), true, at(90_000));
    late.epoch = Epoch(9);
    assert_eq!(judged(&[late], &[], 90_001).slowest_millis, None);
}

#[test]
fn only_so_many_epochs_are_remembered() {
    let mut seen = Vec::new();
    for epoch in 1..100 {
        remember(&mut seen, Epoch(epoch), epoch % 2 == 0, at(epoch));
    }
    assert_eq!((seen.len(), seen[0].epoch), (EPOCHS_KEPT, Epoch(68)));
    assert_eq!(seen.last().unwrap().quiet_at, None);
    assert!(
        seen.iter()
            .rev()
            .skip(1)
            .all(|seen| seen.quiet_at.is_some())
    );
}

#[test]
fn what_a_worker_of_version_1_says_is_read_for_ever() {
    let held = r#"[{"target":"00000000-0000-0000-0000-000000000001","rollout":"00000000-0000-0000-0000-000000000002","wave":1,"people":64}]"#;
    let expected = vec![UnderWay::at(Place::wave(TARGET, HELD, WaveNumber(1)), 64)];
    assert_eq!(
        serde_json::from_str::<Vec<UnderWay>>(held).unwrap(),
        expected
    );
    assert_eq!(serde_json::to_string(&expected).unwrap(), held);
    let epochs = r#"[{"epoch":8,"seen_at":"1970-01-01T12:00:00.012Z","quiet_at":null}]"#;
    let expected = EpochSeen {
        epoch: Epoch(8),
        seen_at: at(12),
        quiet_at: None,
    };
    assert_eq!(
        serde_json::from_str::<Vec<EpochSeen>>(epochs).unwrap(),
        [expected]
    );
    assert_eq!(serde_json::to_string(&[expected]).unwrap(), epochs);
}

fn any_worker(number: u128) -> impl Strategy<Value = WorkerSaid> {
    let said = (
        any::<bool>(),
        0_i64..3000,
        0_u64..3,
        any::<bool>(),
        0_i64..20_000,
    );
    said.prop_map(move |(has_seen, after, people, says_timeout, silent)| {
        let mut said = if has_seen {
            told(number, after, people)
        } else {
            worker(number)
        };
        said.seen_at -= TimeDelta::milliseconds(silent);
        if !says_timeout {
            said.request_millis = None;
        }
        said
    })
}

fn any_lease() -> impl Strategy<Value = LeaseInForce> {
    (1_u128..5, any::<bool>(), 0_i64..30_000).prop_map(|(owner, is_held, until)| {
        leased(owner, if is_held { HELD } else { OTHER }, until)
    })
}

proptest! {
    /// Without another word, quiet stays quiet; and what was promised as the end is the end.
    #[test]
    fn quiet_stays_quiet_and_comes_when_it_was_promised(
        workers in (any_worker(1), any_worker(2), any_worker(3)),
        leases in prop::collection::vec(any_lease(), 0..5),
        now in 3000_i64..40_000,
        later in 0_i64..40_000,
    ) {
        let workers = [workers.0, workers.1, workers.2];
        let found = judged(&workers, &leases, now);
        if found.quiesced {
            prop_assert!(judged(&workers, &leases, now + later).quiesced);
        }
        let somebody_has_seen = workers.iter().any(|worker| worker.epoch >= Epoch(8));
        if let (Some(by), true) = (found.quiet_by(), somebody_has_seen) {
            prop_assert!(by > at(now));
            let by = (by - at(0)).num_milliseconds();
            prop_assert!(judged(&workers, &leases, by).quiesced);
            prop_assert!(!judged(&workers, &leases, by - 1).quiesced);
        }
    }

    /// Another lease or another worker never makes it quiet.
    #[test]
    fn more_that_is_known_to_send_never_makes_it_quieter(
        workers in (any_worker(1), any_worker(2)),
        more in any_worker(3),
        leases in prop::collection::vec(any_lease(), 1..5),
        now in 3000_i64..40_000,
    ) {
        let workers = [workers.0, workers.1];
        let all = judged(&workers, &leases, now);
        if all.quiesced {
            prop_assert!(judged(&workers, &leases[1..], now).quiesced);
        }
        let [first, second] = workers;
        let with = judged(&[first.clone(), second.clone(), more.clone()], &leases, now);
        let knows = more.epoch >= Epoch(8);
        let owner = leases.iter().any(|lease| lease.owner == more.id);
        // A worker that knows the hold is evidence of its commit; one that says nothing is not.
        if with.quiesced && !knows && !owner {
            prop_assert!(judged(&[first, second], &leases, now).quiesced);
        }
    }
}

#[test]
fn a_hold_under_which_something_goes_on_is_not_quiet() {
    let workers = [told(1, 5, 0)];
    let facts = Facts {
        workers: &workers,
        leases: &[],
        now: at(5_000),
    };
    assert!(judge(&stop(), &facts).quiesced);
    let exempt = Stop {
        exempt_until: Some(at(9_000)),
        ..stop()
    };
    let judged = judge(&exempt, &facts);
    assert!(!judged.quiesced && judged.quiet_by().is_none());
    let sentence = judged.sentence();
    assert!(
        sentence.contains("go on until 1970-01-01 12:00Z"),
        "{sentence}"
    );
    let again = Stop {
        overridden_by: Some(HoldId::new(Uuid::from_u128(3))),
        ..exempt
    };
    let judged = judge(&again, &facts);
    assert!(!judged.quiesced, "the other hold is what proves it quiet");
    assert!(judged.sentence().contains("stands still under hold"));
}

#[test]
fn after_an_exemption_a_hold_is_proved_quiet_anew() {
    let workers = [told(1, 5, 0)];
    let leases = [leased(1, HELD, 60_000)];
    let facts = Facts {
        workers: &workers,
        leases: &leases,
        now: at(5_000),
    };
    assert!(judge(&stop(), &facts).quiesced);
    // What it said of the hold says nothing of what it was let do since.
    assert!(!judge(&stop().again(Epoch(9), at(4_000)), &facts).quiesced);
}
