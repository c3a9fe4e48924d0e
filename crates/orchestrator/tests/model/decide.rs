//! The decisions of the machine, each made by the function of the service that makes it there.

use std::sync::Arc;

use chrono::TimeDelta;
use tidegate_orchestrator::hold::{HoldKind, HoldSet, InForce, Place, Scope};
use tidegate_orchestrator::ids::{
    Epoch, Fence, HoldId, RolloutId, TargetId, Timestamp, WaveNumber, WorkerId, from_millis,
};
use tidegate_orchestrator::lease::{self, Lease, Return, Settlement};
use tidegate_orchestrator::permit::{
    CLOCK_MARGIN_MILLIS, Deadline, Kept, Moment, Monotonic, PERMIT_MILLIS, Permit, may_send,
};
use tidegate_orchestrator::quiesce::{
    EpochSeen, Facts, LeaseInForce, Stop, UnderWay, WorkerSaid, judge,
};
use uuid::Uuid;

use crate::Limits;
use crate::world::{Flight, REQUEST_MILLIS, Read, Row, World};

const PLACE: Place = Place::wave(
    TargetId::new(Uuid::from_u128(1)),
    RolloutId::new(Uuid::from_u128(2)),
    WaveNumber(1),
);

/// Any instant: only distances count.
const NOW: i64 = 1_000_000;

fn ago(ticks: u8) -> Timestamp {
    from_millis(NOW - i64::from(ticks) * 1000).unwrap()
}

fn id(key: u8) -> WorkerId {
    WorkerId::new(Uuid::from_u128(u128::from(key) + 1))
}

fn holds(is_held: bool) -> HoldSet {
    let halt = InForce {
        by_rule: false,
        id: HoldId::new(Uuid::from_u128(9)),
        kind: HoldKind::Halt,
        scope: Scope::Everything,
        since: ago(0),
        reason: String::new(),
        part: None,
        keeps: None,
    };
    is_held.then_some(halt).into_iter().collect()
}

/// A worker's own clock, so many seconds of the database ago.
fn moment(limits: &Limits, worker: u8, ticks: u8) -> Moment {
    let millis = NOW - i64::from(u32::from(ticks) * limits.rates[usize::from(worker)]);
    Moment {
        wall: from_millis(millis).unwrap(),
        monotonic: Monotonic(u64::try_from(millis).unwrap()),
    }
}

fn permit(limits: &Limits, worker: u8, read: Read) -> Permit {
    Permit {
        epoch: Epoch(i64::from(read.epoch)),
        expires: Deadline::after(moment(limits, worker, read.age), PERMIT_MILLIS),
        holds: Arc::new(holds(read.epoch == 2)),
        exempt_until: None,
    }
}

impl Limits {
    /// Whether a request that began so long ago has been given up.
    pub(crate) fn is_timed_out(&self, worker: u8, age: u8) -> bool {
        u32::from(age) * self.rates[usize::from(worker)] >= REQUEST_MILLIS
    }
}

impl World {
    pub(crate) fn is_expired(&self, limits: &Limits, worker: u8, read: Read) -> bool {
        let now = moment(limits, worker, 0);
        permit(limits, worker, read).expires.has_passed(now)
    }

    /// What a worker keeps when the answer to its question arrives.
    pub(crate) fn kept(&self, limits: &Limits, worker: u8, read: Read) -> Option<Read> {
        let known = self.worker(worker).permit;
        let mut kept = Kept::default();
        for read in known.into_iter().chain([read]) {
            kept.give(permit(limits, worker, read));
        }
        let epoch = kept.permit()?.epoch;
        let is_new = epoch == Epoch(i64::from(read.epoch));
        if is_new { Some(read) } else { known }
    }

    /// The last check before the socket.
    pub(crate) fn may_begin(&self, limits: &Limits, worker: u8, flight: Flight) -> bool {
        let asked = moment(limits, worker, flight.age);
        let lease_millis = u32::from(limits.lease_ticks) * 1000;
        let to_begin = if limits.safe.lease_covers_request {
            Deadline::to_begin(asked, lease_millis, REQUEST_MILLIS)
        } else {
            Deadline::after(asked, lease_millis)
        };
        let read = self.worker(worker).permit;
        let permit = read.map(|read| permit(limits, worker, read));
        let now = moment(limits, worker, 0);
        !limits.safe.check_before_socket || may_send(permit.as_ref(), &PLACE, to_begin, now).is_ok()
    }

    fn lease_known(&self) -> Option<Lease> {
        self.lease.map(|(key, left)| Lease {
            owner: id(key),
            until: ago(0) + TimeDelta::seconds(left.into()),
        })
    }

    /// Whether a claim commits.
    pub(crate) fn may_claim(&self, limits: &Limits, worker: u8) -> bool {
        let Some(read) = self.worker(worker).permit else {
            return false;
        };
        let epoch = Epoch(i64::from(read.epoch));
        let store = Epoch(i64::from(self.epoch()));
        let may = lease::may_claim(epoch, store, &holds(self.is_held()), &PLACE, ago(0));
        !self.is_expired(limits, worker, read)
            && (may.is_ok() || !limits.safe.claim_conflicts)
            && lease::may_take(self.lease_known(), ago(0)).is_ok()
    }

    /// What becomes of the lease when a worker comes back.
    pub(crate) fn settle(
        &self,
        limits: &Limits,
        worker: u8,
        flight: Flight,
        is_last: bool,
    ) -> Settlement {
        let by = id(self.key(worker));
        let fence = Fence::new(2);
        let mut lease = self.lease_known();
        let mut back = Return {
            by,
            fence: Fence::new(2 - i64::from(flight.is_lost)),
            is_last,
            is_held: self.is_held() && limits.safe.leases_run_out,
        };
        if !limits.safe.fence {
            // Whoever comes is taken for the owner.
            back.fence = fence;
            lease = lease.map(|lease| Lease { owner: by, ..lease });
        }
        lease::settle(lease, fence, back)
    }

    /// Whether it is declared quiet, on what the service would read.
    pub(crate) fn is_quiet(&self, limits: &Limits) -> bool {
        let stop = Stop {
            scope: Scope::Everything,
            epoch: Epoch(2),
            placed_at: ago(self.placed),
            exempt_until: None,
            overridden_by: None,
        };
        let rows = (0_u8..).zip(self.rows);
        let rows = rows.filter_map(|(key, row)| Some((key, row?)));
        let workers: Vec<WorkerSaid> = rows.map(|(key, row)| self.said(limits, key, row)).collect();
        let in_force = self.lease_known().filter(|lease| !lease.is_over(ago(0)));
        let leases = in_force.filter(|_| limits.safe.wait_for_silent);
        let leases = leases.map(|lease| LeaseInForce {
            owner: lease.owner,
            place: PLACE,
            until: lease.until,
        });
        let early = if limits.safe.margin {
            0
        } else {
            CLOCK_MARGIN_MILLIS
        };
        let facts = Facts {
            workers: &workers,
            leases: leases.as_slice(),
            now: ago(0) + TimeDelta::milliseconds(early.into()),
        };
        judge(&stop, &facts).quiesced
    }

    /// What the service would read in a worker's row.
    fn said(&self, limits: &Limits, key: u8, row: Row) -> WorkerSaid {
        let (epoch, people, age) = match row {
            Row::Unseen => (1, 0, self.placed),
            Row::Quiet => (2, 0, 0),
            Row::Sending(age) => (2, 1, age),
        };
        let since = if limits.safe.count_from_commit {
            self.seen_since
        } else {
            Some(self.placed)
        };
        let hold = since.filter(|_| epoch == 2).map(|since| EpochSeen {
            epoch: Epoch(2),
            seen_at: ago(since),
            quiet_at: None,
        });
        WorkerSaid {
            id: id(key),
            name: String::new(),
            seen_at: ago(age),
            epoch: Epoch(epoch),
            epochs: hold.into_iter().collect(),
            in_flight: people,
            held: Some(vec![UnderWay::at(PLACE, people)]),
            request_millis: Some(REQUEST_MILLIS),
            has_ended: false,
        }
    }
}
