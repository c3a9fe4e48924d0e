//! Every order of events, for two workers and one batch: whatever happens, a stop is a stop.
//!
//! The database, the workers and the target are a small state machine (`world`); the decisions in it
//! (`decide`) are the ones the service makes: `permit::{may_send, Kept}`, `lease::{may_claim, may_take,
//! settle}`, `quiesce::judge`, with the constants of the service. A model checker goes through **all**
//! orders in which the steps can happen. In between, permits are read and arrive late or never, processes
//! freeze, wake and die, clocks run slow, requests land late, and the commit of a hold takes its time.
//!
//! Here are the claims, and for each safeguard the proof that it is needed: with it taken out, the
//! checker finds the order of events that breaks a claim, and prints it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "two workers are numbered 0 and 1, and a test that cannot go on has failed"
)]

mod decide;
mod world;

use stateright::{Checker, HasDiscoveries, Model, Property};

use world::{Safeguards, Step, World};

/// What is looked at. The rows of the workers say nothing about what becomes of a person, and the other
/// way round: one machine for both would be the product of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    /// Whether it is quiet under the hold, which stays; there is always somebody to send.
    Quiet,
    /// What becomes of one person, when the hold is lifted at any time.
    Person,
}

/// How far it goes.
#[derive(Debug, Clone)]
struct Limits {
    watch: Watch,
    /// How often one may die.
    crashes: u8,
    /// How many seconds a lease lasts. The service's is longer; what counts is whether a permit and what
    /// it began are over before it, or after.
    lease_ticks: u8,
    /// How many milliseconds of its own each worker counts in a second of the database.
    rates: [u32; 2],
    /// The worker whose permits may arrive late, or out of date.
    late_answers: u8,
    /// Which safeguards there are.
    safe: Safeguards,
}

/// The second worker's clock is slow by a tenth: far more than any clock of a machine that runs.
const SLOW: [u32; 2] = [1000, 900];
/// The lease is over first.
const SHORT: u8 = 4;
/// The permit, and what it began, is over first.
const LONG: u8 = 7;
const NOBODY: u8 = 2;

impl Limits {
    fn new(watch: Watch, crashes: u8) -> Self {
        Self {
            watch,
            crashes,
            lease_ticks: SHORT,
            rates: SLOW,
            late_answers: NOBODY,
            safe: Safeguards::ALL,
        }
    }
}

const NO_SEND: &str = "no request begins after it was declared quiet";
const NONE_UNDER_WAY: &str = "none is under way when it is declared quiet";
const NO_CLAIM: &str = "no claim commits after a hold that covers it";
const ONE_OWNER: &str = "two workers never have one batch under one fence";
const ONCE: &str = "nobody is created twice";
const IN_THE_END: &str = "everybody is moved once in the end";

impl Model for Limits {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new()]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        world.steps(self, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        world.after(self, step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(NO_CLAIM, |_, world: &World| {
                !world.broken.claimed_under_hold
            }),
            Property::always(ONE_OWNER, |_, world: &World| world.has_one_owner()),
        ];
        properties.extend(match self.watch {
            Watch::Quiet => vec![
                Property::always(NO_SEND, |_, world: &World| !world.broken.sent_after_quiet),
                Property::always(NONE_UNDER_WAY, |_, world: &World| {
                    !world.broken.quiet_while_sending
                }),
                // Without these a machine in which nothing happens would keep every claim.
                Property::sometimes("it is declared quiet", |_, world: &World| {
                    world.is_declared()
                }),
                Property::sometimes("whoever is silent is waited for", |_, world: &World| {
                    world.is_declared_over_silence()
                }),
            ],
            Watch::Person => vec![
                Property::always(ONCE, |_, world: &World| world.created <= 1),
                Property::always(IN_THE_END, |limits, world: &World| world.ends_well(limits)),
            ],
        });
        properties
    }
}

#[track_caller]
fn check_holds(limits: Limits) {
    let checker = limits.checker().spawn_bfs().join();
    println!("{} states, all of them", checker.unique_state_count());
    checker.assert_properties();
}

/// Takes a safeguard out, and finds what it was for.
#[track_caller]
fn check_needed(limits: Limits, broken: &'static str) {
    let wanted = HasDiscoveries::AllOf([broken].into_iter().collect());
    let checker = limits.checker().finish_when(wanted).spawn_bfs().join();
    let path = checker.discovery(broken);
    let path = path.unwrap_or_else(|| panic!("nothing breaks: {broken}"));
    let steps: Vec<String> = path
        .into_actions()
        .iter()
        .map(|step| format!("{step:?}"))
        .collect();
    println!("{broken}: broken by {}", steps.join(" · "));
}

fn without(watch: Watch, take_out: impl FnOnce(&mut Safeguards)) -> Limits {
    let mut limits = Limits::new(watch, 0);
    take_out(&mut limits.safe);
    limits
}

#[test]
fn no_request_begins_after_quiet_whoever_freezes_or_is_cut_off() {
    for lease_ticks in [SHORT, LONG] {
        check_holds(Limits {
            lease_ticks,
            ..Limits::new(Watch::Quiet, 0)
        });
    }
}

#[test]
fn no_request_begins_after_quiet_whoever_dies_and_starts_again() {
    check_holds(Limits::new(Watch::Quiet, 1));
}

#[test]
fn no_request_begins_after_quiet_however_late_a_permit_arrives() {
    let late_answers = 1;
    check_holds(Limits {
        late_answers,
        ..Limits::new(Watch::Quiet, 0)
    });
}

#[test]
fn everybody_is_moved_once_when_the_hold_is_lifted_whatever_happened_before() {
    check_holds(Limits::new(Watch::Person, 1));
}

#[test]
fn without_the_check_before_the_socket_a_request_begins_after_quiet() {
    let limits = without(Watch::Quiet, |safe| safe.check_before_socket = false);
    check_needed(limits, NO_SEND);
}

#[test]
fn without_waiting_for_whoever_is_silent_a_request_begins_after_quiet() {
    let limits = without(Watch::Quiet, |safe| safe.wait_for_silent = false);
    check_needed(limits, NO_SEND);
}

#[test]
fn without_the_margin_a_slow_clock_has_a_request_under_way_after_quiet() {
    let mut limits = without(Watch::Quiet, |safe| safe.margin = false);
    limits.lease_ticks = LONG;
    check_needed(limits, NONE_UNDER_WAY);
}

#[test]
fn counted_from_the_placing_and_not_from_the_commit_a_request_is_under_way_after_quiet() {
    let mut limits = without(Watch::Quiet, |safe| safe.count_from_commit = false);
    limits.lease_ticks = LONG;
    check_needed(limits, NONE_UNDER_WAY);
}

#[test]
fn with_leases_renewed_under_a_hold_a_request_begins_after_quiet() {
    let limits = without(Watch::Quiet, |safe| safe.leases_run_out = false);
    check_needed(limits, NO_SEND);
}

#[test]
fn without_the_conflict_of_claim_and_hold_a_claim_commits_after_the_hold() {
    let limits = without(Watch::Quiet, |safe| safe.claim_conflicts = false);
    check_needed(limits, NO_CLAIM);
}

#[test]
fn without_the_fence_somebody_is_created_twice() {
    let limits = without(Watch::Person, |safe| safe.fence = false);
    check_needed(limits, ONCE);
}

#[test]
fn with_leases_that_leave_no_time_for_an_answer_somebody_is_created_twice() {
    let limits = without(Watch::Person, |safe| safe.lease_covers_request = false);
    check_needed(limits, ONCE);
}
