//! What happens in an attack, and when: drawn from a seed, and from nothing else.
//!
//! This file starts nothing. The same seed draws the same schedule, as text also.

use std::fmt;

use crate::support::Random;

/// The rollouts of an attack, each with a target of the same name.
pub(super) const ROLLOUTS: [&str; 4] = ["north", "south", "east", "west"];

/// What a hold of an attack covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Everything,
    Target(&'static str),
    Rollout(&'static str),
}

/// What goes wrong. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// `kill -9`, and started again after a while.
    Kill { replica: usize, down: u64 },
    /// SIGSTOP, and SIGCONT after a while.
    Freeze { replica: usize, lasts: u64 },
    /// The database ends at once, and is started again after a while.
    DatabaseRestart { down: u64 },
    /// Nothing gets through between a replica and the database, and connections stay.
    Stall { replica: usize, lasts: u64 },
    /// The connections between a replica and the database are closed, and new ones refused.
    Cut { replica: usize, lasts: u64 },
    /// The wall clock of the last replica is wrong by so many seconds for a while.
    Clock {
        replica: usize,
        wrong_by: i64,
        lasts: u64,
    },
}

impl Fault {
    /// Returns whose it is; none: it is everybody's.
    pub(super) const fn replica(self) -> Option<usize> {
        match self {
            Self::Kill { replica, .. }
            | Self::Freeze { replica, .. }
            | Self::Stall { replica, .. }
            | Self::Cut { replica, .. }
            | Self::Clock { replica, .. } => Some(replica),
            Self::DatabaseRestart { .. } => None,
        }
    }
}

/// What somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Place a pause, watch for `patience` whether it becomes quiet, let it stand, and lift it.
    Pause {
        scope: Scope,
        patience: u64,
        stands: u64,
    },
    /// Place a halt, which stands until the end.
    Halt { scope: Scope },
    /// Lift every pause of one rollout, whoever placed it.
    Resume { rollout: &'static str },
    /// Try the failed again.
    Retry { rollout: &'static str },
}

/// Something at its time, in milliseconds since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step<T> {
    pub(super) at: u64,
    pub(super) what: T,
}

/// An order, and which replica it is given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) replica: usize,
    pub(super) order: Order,
}

/// A whole attack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schedule {
    pub(super) seed: u64,
    pub(super) replicas: usize,
    pub(super) faults: Vec<Step<Fault>>,
    pub(super) clients: Vec<Vec<Step<Given>>>,
    /// Somebody is frozen before the last hold, and goes on only when that is quiet: whoever has a lease then, or
    /// this replica when nobody has.
    pub(super) frozen_at_the_end: Option<usize>,
}

/// How long faults and orders are begun.
const LENGTH: u64 = 3_000;
/// How long a permit lives, and a lease.
const PERMIT: u64 = 2_000;
const LEASE: u64 = 20_000;

impl Schedule {
    /// Says whether somebody is frozen for longer than a lease, which takes its time.
    pub(super) fn outlasts_a_lease(&self) -> bool {
        let is_long =
            |step: &Step<Fault>| matches!(step.what, Fault::Freeze { lasts, .. } if lasts > LEASE);
        self.faults.iter().any(is_long)
    }

    /// Draws the schedule of a seed for so many replicas: three on PostgreSQL, one on SQLite.
    pub(super) fn draw(seed: u64, replicas: usize) -> Self {
        let mut random = Random(seed);
        let mut faults = Vec::new();
        let mut at = 300;
        while at < LENGTH {
            let what = fault(&mut random, replicas);
            faults.push(Step { at, what });
            at += 200 + random.below(1_800);
        }
        let clients = 2 + random.below(3);
        let clients = (0..clients).map(|_| client(&mut random, replicas));
        let clients = clients.collect();
        let is_frozen = replicas > 1 && random.below(3) == 0;
        let frozen = is_frozen.then(|| random.below(replicas as u64) as usize);
        Self {
            seed,
            replicas,
            faults,
            clients,
            frozen_at_the_end: frozen,
        }
    }
}

fn fault(random: &mut Random, replicas: usize) -> Fault {
    let replica = random.below(replicas as u64) as usize;
    if replicas == 1 {
        return match random.below(2) {
            0 => Fault::Kill {
                replica,
                down: random.below(600),
            },
            _ => Fault::Freeze {
                replica,
                lasts: frozen_for(random, false),
            },
        };
    }
    match random.below(12) {
        0 | 1 => Fault::Kill {
            replica,
            down: random.below(1_500),
        },
        2..5 => Fault::Freeze {
            replica,
            lasts: frozen_for(random, true),
        },
        5 => Fault::DatabaseRestart {
            down: random.below(1_500),
        },
        6..8 => Fault::Stall {
            replica,
            lasts: 200 + random.below(2 * PERMIT),
        },
        8..10 => Fault::Cut {
            replica,
            lasts: 200 + random.below(2 * PERMIT),
        },
        _ => Fault::Clock {
            replica: replicas - 1,
            wrong_by: [-7_200, -3_600, -30, 30, 600, 7_200][random.below(6) as usize],
            lasts: 1_500 + random.below(2_500),
        },
    }
}

/// Shorter than a permit, longer than one, and now and then longer than a lease.
fn frozen_for(random: &mut Random, may_outlast_a_lease: bool) -> u64 {
    match random.below(10) {
        0..4 => 100 + random.below(PERMIT - 100),
        9 if may_outlast_a_lease => LEASE + 1_000 + random.below(2_000),
        _ => PERMIT + 100 + random.below(PERMIT),
    }
}

fn scope(random: &mut Random) -> Scope {
    let one = ROLLOUTS[random.below(4) as usize];
    match random.below(6) {
        0 => Scope::Everything,
        1 | 2 => Scope::Target(one),
        _ => Scope::Rollout(one),
    }
}

fn client(random: &mut Random, replicas: usize) -> Vec<Step<Given>> {
    let mut steps = Vec::new();
    let mut at = random.below(600);
    while at < LENGTH {
        let rollout = ROLLOUTS[random.below(4) as usize];
        let order = match random.below(10) {
            0 => Order::Retry { rollout },
            1 | 2 => Order::Resume { rollout },
            // A halt stands until the end, so it comes late.
            3 if at > LENGTH / 2 => Order::Halt {
                scope: scope(random),
            },
            _ => Order::Pause {
                scope: scope(random),
                patience: 200 + random.below(2_500),
                stands: random.below(900),
            },
        };
        let replica = random.below(replicas as u64) as usize;
        steps.push(Step {
            at,
            what: Given { replica, order },
        });
        at += random.below(700);
    }
    steps
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            replicas,
            faults,
            clients,
            frozen_at_the_end,
        } = self;
        writeln!(f, "seed {seed}: {replicas} replicas")?;
        for Step { at, what } in faults {
            writeln!(f, "  {at:5} {what:?}")?;
        }
        for (number, steps) in clients.iter().enumerate() {
            writeln!(f, "  client {number}")?;
            for Step { at, what } in steps {
                writeln!(f, "  {at:5}   at {} {:?}", what.replica, what.order)?;
            }
        }
        writeln!(f, "  frozen at the end: {frozen_at_the_end:?}")
    }
}

#[test]
fn the_same_seed_draws_the_same_schedule() {
    for seed in 0..200 {
        let drawn = Schedule::draw(seed, 3);
        assert_eq!(drawn, Schedule::draw(seed, 3));
        assert!(!drawn.faults.is_empty() && drawn.clients.len() >= 2);
    }
    let of = |seed| Schedule::draw(seed, 3).to_string();
    assert_ne!(of(1), of(2));
}

#[test]
fn every_kind_of_fault_and_order_is_drawn() {
    let drawn: Vec<Schedule> = (0..100).map(|seed| Schedule::draw(seed, 3)).collect();
    let text: String = drawn.iter().map(ToString::to_string).collect();
    for kind in [
        "Kill",
        "Freeze",
        "DatabaseRestart",
        "Stall",
        "Cut",
        "Clock",
        "Pause",
        "Halt",
        "Resume",
        "Retry",
        "Everything",
        "Target",
        "Rollout",
    ] {
        assert!(text.contains(kind), "no {kind}");
    }
    assert!(drawn.iter().any(Schedule::outlasts_a_lease));
}
