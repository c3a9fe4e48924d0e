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

use crate::hold::{HoldKind, HoldSet, InForce, Place};
use crate::ids::{Epoch, HoldId, Timestamp};

/// How long a permit lasts. Bounds how long a partitioned worker may still begin a request.
pub const PERMIT_MILLIS: u32 = 2000;

/// How often a worker renews its permit: a quarter of its life, so that three renewals may fail.
pub const PERMIT_RENEW_MILLIS: u32 = 500;

/// How much later than by its own clock a worker is taken to have stopped: for clocks that run at
/// different speeds, and for a database that goes on by another machine's clock.
pub const CLOCK_MARGIN_MILLIS: u32 = 1000;

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

    /// Returns until when a request may begin under a lease that was asked for at a moment. One that begins
    /// at the last moment has its whole time to come, and must be over when the lease is; a margin more,
    /// so that whoever is late is late here first.
    #[must_use]
    pub fn to_begin(asked: Moment, lease_millis: u32, request_millis: u32) -> Self {
        let late = request_millis.saturating_add(CLOCK_MARGIN_MILLIS);
        Self::after(asked, lease_millis.saturating_sub(late))
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
    /// Until when its exemptions count, the first of them by the clock of the database; `None`: it has none.
    pub exempt_until: Option<Deadline>,
}

impl Permit {
    /// Gives a permit for what was read after `asked`, when the clock of the database said `now`.
    #[must_use]
    pub fn read(asked: Moment, now: Timestamp, epoch: Epoch, holds: Arc<HoldSet>) -> Self {
        let expires = Deadline::after(asked, PERMIT_MILLIS);
        if holds.exemptions().next().is_none() {
            let exempt_until = None;
            return Self {
                epoch,
                expires,
                holds,
                exempt_until,
            };
        }
        let (holds, ends) = holds.exempt_at(now);
        let left = |ends: Timestamp| {
            (ends - now)
                .num_milliseconds()
                .clamp(0, i64::from(u32::MAX))
        };
        let exempt_until =
            ends.map(|ends| Deadline::after(asked, u32::try_from(left(ends)).unwrap_or(u32::MAX)));
        Self {
            epoch,
            expires,
            holds: Arc::new(holds),
            exempt_until,
        }
    }

    /// Returns the hold that stops work at a place now. Exemptions count while all of them do: when the
    /// first one ends, the next renewal says which are left.
    fn stops(&self, place: &Place, now: Moment) -> Option<&InForce> {
        match self.exempt_until {
            Some(until) if !until.has_passed(now) => self.holds.stops(place, now.wall),
            Some(_) | None => self.holds.worst(place),
        }
    }
}

/// What a worker keeps of its permits, so that none makes it forget a hold it knows of.
///
/// A hold that is placed in this process binds before any renewal has read it. A renewal that was read
/// before the hold, and comes back after it, must not undo it; and knowing one hold says nothing of
/// those that others placed meanwhile, so the epoch moves on only when none can have been missed.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    permit: Option<Permit>,
    // Invariant: only holds of epochs later than the permit's; they are in its set too.
    ahead: Vec<(Epoch, InForce)>,
}

impl Kept {
    /// Returns the permit, alive or not.
    #[must_use]
    pub const fn permit(&self) -> Option<&Permit> {
        self.permit.as_ref()
    }

    /// Takes a renewed permit in.
    pub fn give(&mut self, mut permit: Permit) {
        if let Some(known) = &mut self.permit
            && known.epoch > permit.epoch
        {
            // Read before a change that is known here: it ends when it would have, and forgets nothing.
            let holds = Arc::make_mut(&mut known.holds);
            permit.holds.iter().for_each(|hold| holds.add(hold.clone()));
            return;
        }
        self.ahead.retain(|(epoch, _)| *epoch > permit.epoch);
        if !self.ahead.is_empty() {
            let holds = Arc::make_mut(&mut permit.holds);
            for (_, hold) in &self.ahead {
                holds.add(hold.clone());
            }
        }
        self.permit = Some(permit);
    }

    /// Binds to a hold at once, before the renewal that will bring it.
    pub fn hold(&mut self, hold: InForce, epoch: Epoch) {
        let is_read = |permit: &Permit| permit.epoch >= epoch;
        if self.permit.as_ref().is_some_and(is_read) {
            return;
        }
        if let Some(permit) = &mut self.permit {
            Arc::make_mut(&mut permit.holds).add(hold.clone());
            if permit.epoch.next() == epoch {
                permit.epoch = epoch;
                return;
            }
        }
        self.ahead.push((epoch, hold));
    }

    /// Gives the right to send up. What is known of holds stays.
    pub fn withdraw(&mut self, now: Moment) {
        if let Some(permit) = &mut self.permit {
            permit.expires = Deadline::after(now, 0);
        }
    }
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
    if let Some(hold) = permit.stops(place, now) {
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
    use crate::hold::{Exemption, Scope};
    use crate::ids::{ExemptionId, RolloutId, TargetId, WaveNumber, from_millis};

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
            exempt_until: None,
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
            by_rule: false,
            id,
            kind: HoldKind::Halt,
            scope,
            since: from_millis(0).unwrap(),
            reason: "stop".to_owned(),
            part: None,
            keeps: None,
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

    /// A halt of everything, with the wave of `PLACE` going on until so many milliseconds of the database.
    fn exempted(until: i64) -> Arc<HoldSet> {
        let mut holds: HoldSet = [InForce {
            by_rule: false,
            scope: Scope::Everything,
            ..halt(1)
        }]
        .into_iter()
        .collect();
        holds.exempt(Exemption {
            id: ExemptionId::new(Uuid::from_u128(7)),
            holds: [halt(1).id].into(),
            rollout: PLACE.rollout,
            waves: [WaveNumber(1)].into(),
            until: from_millis(until).unwrap(),
        });
        Arc::new(holds)
    }

    #[test]
    fn an_exemption_ends_by_the_clock_of_the_database_whatever_the_worker_believes() {
        let held = Err(NotNow::Held {
            id: halt(1).id,
            kind: HoldKind::Halt,
        });
        // The worker's wall clock is an hour behind that of the database.
        let hour = 3_600_000;
        let now = from_millis(hour).unwrap();
        let permit = Permit::read(moment(0, 0), now, Epoch(4), exempted(hour + 800));
        check_send(&permit, moment(799, 799), Ok(()));
        check_send(&permit, moment(800, 0), held);
        check_send(&permit, moment(0, 800), held);
        // It is an hour ahead: it stops at once, and not an hour late.
        let ahead = Permit::read(
            moment(hour, 0),
            from_millis(0).unwrap(),
            Epoch(4),
            exempted(800),
        );
        let (asked, lease) = (moment(hour, 0), Deadline::after(moment(hour, 0), 30_000));
        assert_eq!(may_send(Some(&ahead), &PLACE, lease, asked), held);
        let over = Permit::read(moment(0, 0), now, Epoch(4), exempted(hour));
        check_send(&over, moment(0, 0), held);
    }

    #[test]
    fn a_hold_placed_here_stops_what_was_exempt() {
        let mut kept = Kept::default();
        let now = from_millis(0).unwrap();
        kept.give(Permit::read(moment(0, 0), now, Epoch(4), exempted(900_000)));
        check_send(kept.permit().unwrap(), moment(1, 1), Ok(()));
        let id = halt(2).id;
        kept.hold(
            InForce {
                by_rule: false,
                id,
                scope: Scope::Everything,
                ..halt(2)
            },
            Epoch(5),
        );
        let kind = HoldKind::Halt;
        check_send(
            kept.permit().unwrap(),
            moment(1, 1),
            Err(NotNow::Held { id, kind }),
        );
    }

    fn halt(number: u128) -> InForce {
        InForce {
            by_rule: false,
            id: HoldId::new(Uuid::from_u128(number)),
            kind: HoldKind::Halt,
            scope: Scope::Wave(
                RolloutId::new(Uuid::from_u128(2)),
                WaveNumber(u32::try_from(number).unwrap()),
            ),
            since: from_millis(0).unwrap(),
            reason: "stop".to_owned(),
            part: None,
            keeps: None,
        }
    }

    fn of_epoch(epoch: i64, holds: &[InForce]) -> Permit {
        Permit {
            epoch: Epoch(epoch),
            ..permit(holds.iter().cloned().collect())
        }
    }

    #[track_caller]
    fn check_kept(kept: &Kept, epoch: i64, holds: &[u128]) {
        let permit = kept.permit().unwrap();
        let found: Vec<u128> = permit
            .holds
            .ids()
            .iter()
            .map(|id| id.uuid().as_u128())
            .collect();
        assert_eq!((permit.epoch, found.as_slice()), (Epoch(epoch), holds));
    }

    #[test]
    fn a_renewal_read_before_a_hold_does_not_forget_the_hold() {
        let mut kept = Kept::default();
        kept.give(of_epoch(4, &[]));
        kept.hold(halt(1), Epoch(5));
        kept.give(of_epoch(4, &[]));
        check_kept(&kept, 5, &[1]);
    }

    #[test]
    fn a_hold_placed_here_is_no_proof_of_having_seen_the_holds_of_others() {
        let mut kept = Kept::default();
        kept.give(of_epoch(4, &[]));
        // Epoch 5 is a hold of somebody else that has not been read yet.
        kept.hold(halt(1), Epoch(6));
        check_kept(&kept, 4, &[1]);
        // Read after the other's hold and before ours.
        kept.give(of_epoch(5, &[halt(2)]));
        check_kept(&kept, 5, &[1, 2]);
        kept.give(of_epoch(6, &[halt(1), halt(2)]));
        check_kept(&kept, 6, &[1, 2]);
        // Both are released: nothing is remembered for longer than it is true.
        kept.give(of_epoch(8, &[]));
        check_kept(&kept, 8, &[]);
    }

    #[test]
    fn a_hold_before_the_first_permit_binds_it() {
        let mut kept = Kept::default();
        kept.hold(halt(1), Epoch(5));
        assert!(kept.permit().is_none());
        kept.give(of_epoch(4, &[]));
        check_kept(&kept, 4, &[1]);
    }

    #[test]
    fn a_permit_that_was_withdrawn_sends_nothing_and_remembers_its_holds() {
        let mut kept = Kept::default();
        kept.give(of_epoch(4, &[halt(1)]));
        kept.withdraw(moment(5, 5));
        check_kept(&kept, 4, &[1]);
        check_send(
            kept.permit().unwrap(),
            moment(5, 5),
            Err(NotNow::PermitExpired),
        );
    }

    #[test]
    fn a_request_begun_at_the_last_moment_is_over_before_its_lease() {
        let end = Deadline::to_begin(moment(0, 0), 20_000, 10_000);
        assert!(!end.has_passed(moment(8_999, 8_999)));
        assert!(end.has_passed(moment(9_000, 9_000)));
        // A lease that leaves no time for an answer lets nothing begin.
        assert!(Deadline::to_begin(moment(0, 0), 5_000, 10_000).has_passed(moment(0, 0)));
    }
}
