//! The last check before the socket: may this worker send this person's request now?
//!
//! A permit is a worker's right to send at all. It is renewed from the database every half second
//! and carries the holds in force; losing the database means losing the permit, so everything here
//! fails closed. Two clocks judge every deadline: the wall clock, and a monotonic one that also
//! counts the time a machine was suspended. Whichever says expired wins.
//!
//! This file reads neither clock and knows no database.

use std::sync::Arc;

use chrono::TimeDelta;
use thiserror::Error;

use crate::hold::{HoldKind, HoldSet, Place};
use crate::ids::{Epoch, HoldId, Timestamp};

/// How long a permit lasts. Bounds how long a partitioned worker may still begin a request.
pub const PERMIT_MILLIS: u32 = 2000;

/// How often a worker renews its permit: a quarter of its life, so that three renewals may fail.
pub const PERMIT_RENEW_MILLIS: u32 = 500;

/// Milliseconds on a clock that never jumps and goes on while the machine is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Monotonic(pub u64);

/// One instant, read from both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock.
    pub wall: Timestamp,
    /// The monotonic clock.
    pub monotonic: Monotonic,
}

/// An instant after which something is over, on whichever clock it comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    wall: Timestamp,
    monotonic: Monotonic,
}

impl Deadline {
    /// Sets a deadline `millis` after a moment that was read *before* the right was asked for.
    #[must_use]
    pub fn after(moment: Moment, millis: u32) -> Self {
        let wall = moment
            .wall
            .checked_add_signed(TimeDelta::milliseconds(i64::from(millis)));
        Self {
            wall: wall.unwrap_or(moment.wall),
            monotonic: Monotonic(moment.monotonic.0.saturating_add(u64::from(millis))),
        }
    }

    /// Says whether it is over on either clock. The instant itself is over.
    #[must_use]
    pub fn has_passed(&self, now: Moment) -> bool {
        now.wall >= self.wall || now.monotonic >= self.monotonic
    }
}

/// A worker's right to send: which epoch it has seen, which holds were in force, until when.
#[derive(Debug, Clone)]
pub struct Permit {
    /// The epoch it was given under.
    pub epoch: Epoch,
    /// When it ends.
    pub expires: Deadline,
    /// The holds in force at that epoch.
    pub holds: Arc<HoldSet>,
}

/// Why a request may not begin now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotNow {
    /// The worker has no permit at all: it has not reached the database yet.
    #[error("no permit has been given to this worker yet")]
    PermitMissing,
    /// The permit has not been renewed in time.
    #[error("the permit was not renewed in time")]
    PermitExpired,
    /// The lease of the batch is over: somebody else may have it.
    #[error("the lease of the batch is over")]
    LeaseExpired,
    /// A hold covers the place.
    #[error("hold `{id}` ({}) covers it", kind.name())]
    Held {
        /// The hold.
        id: HoldId,
        /// Whose stop it is.
        kind: HoldKind,
    },
}

impl NotNow {
    /// Returns the stable code of the reason.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::PermitMissing => "permit_missing",
            Self::PermitExpired => "permit_expired",
            Self::LeaseExpired => "lease_expired",
            Self::Held { .. } => "held",
        }
    }
}

/// Says whether a request for a person at `place` may begin now. The last check before the socket.
///
/// # Errors
/// With the reason why not; every reason leaves the person where they were before the claim.
pub fn may_send(
    permit: Option<&Permit>,
    place: &Place,
    lease_until: Deadline,
    now: Moment,
) -> Result<(), NotNow> {
    let Some(permit) = permit else {
        return Err(NotNow::PermitMissing);
    };
    if permit.expires.has_passed(now) {
        return Err(NotNow::PermitExpired);
    }
    if lease_until.has_passed(now) {
        return Err(NotNow::LeaseExpired);
    }
    if let Some(hold) = permit.holds.worst(place) {
        return Err(NotNow::Held {
            id: hold.id,
            kind: hold.kind,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::hold::{InForce, Scope};
    use crate::ids::{RolloutId, TargetId, WaveNumber, from_millis};

    const PLACE: Place = Place::wave(
        TargetId::new(Uuid::from_u128(1)),
        RolloutId::new(Uuid::from_u128(2)),
        WaveNumber(1),
    );

    fn moment(wall: i64, monotonic: u64) -> Moment {
        Moment {
            wall: from_millis(wall).unwrap(),
            monotonic: Monotonic(monotonic),
        }
    }

    fn permit(holds: HoldSet) -> Permit {
        Permit {
            epoch: Epoch(4),
            expires: Deadline::after(moment(0, 0), PERMIT_MILLIS),
            holds: Arc::new(holds),
        }
    }

    fn lease() -> Deadline {
        Deadline::after(moment(0, 0), 30_000)
    }

    #[track_caller]
    fn check_send(permit: &Permit, now: Moment, expected: Result<(), NotNow>) {
        assert_eq!(may_send(Some(permit), &PLACE, lease(), now), expected);
    }

    #[test]
    fn a_live_permit_and_lease_may_send() {
        check_send(&permit(HoldSet::default()), moment(1999, 1999), Ok(()));
    }

    #[test]
    fn whichever_clock_says_expired_wins() {
        let permit = permit(HoldSet::default());
        check_send(&permit, moment(2000, 0), Err(NotNow::PermitExpired));
        check_send(&permit, moment(0, 2000), Err(NotNow::PermitExpired));
        // The wall clock stepped back an hour; the monotonic one did not.
        check_send(
            &permit,
            moment(-3_600_000, 2000),
            Err(NotNow::PermitExpired),
        );
    }

    #[test]
    fn a_lease_that_is_over_sends_nothing_under_a_renewed_permit() {
        let mut permit = permit(HoldSet::default());
        permit.expires = Deadline::after(moment(30_000, 30_000), PERMIT_MILLIS);
        check_send(&permit, moment(30_000, 30_000), Err(NotNow::LeaseExpired));
    }

    #[test]
    fn a_worker_without_a_permit_sends_nothing() {
        let refused = may_send(None, &PLACE, lease(), moment(0, 0));
        assert_eq!(refused, Err(NotNow::PermitMissing));
    }

    #[test]
    fn a_covering_hold_stops_the_send_and_is_named() {
        let id = HoldId::new(Uuid::from_u128(5));
        let hold = |scope| InForce {
            id,
            kind: HoldKind::Halt,
            scope,
            since: from_millis(0).unwrap(),
            reason: "stop".to_owned(),
        };
        let everything = permit([hold(Scope::Everything)].into_iter().collect());
        let kind = HoldKind::Halt;
        check_send(&everything, moment(0, 0), Err(NotNow::Held { id, kind }));
        let elsewhere = Scope::Rollout(RolloutId::new(Uuid::from_u128(9)));
        check_send(
            &permit([hold(elsewhere)].into_iter().collect()),
            moment(0, 0),
            Ok(()),
        );
    }
}
