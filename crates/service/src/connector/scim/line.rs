//! The line to one server: how many requests are under way at once, and when it is left alone.
//!
//! One per connector, so that the bound holds however many batches are under way. A server that says
//! when it wants to hear of us again is taken at its word. One that does not is left alone for longer
//! and longer, and felt for with fewer requests, one more with each that goes well. What is sent is
//! none of its business.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_orchestrator::permit::NotNow;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::answer::Answer;
use crate::clock::Clock;
use crate::connector::{SendGate, TargetTrouble, Trouble};

/// The longest a sender waits for a target that asked for a pause; beyond, people are given back.
const PAUSE_WAITED_MAX_MS: u64 = 2000;
/// How long a target is left alone that does not let us in: somebody has to do something about it.
const LOCKED_OUT_MS: u64 = 60_000;
/// The first pause for a target that is busy and does not say for how long; it doubles.
const BUSY_FIRST_MS: u64 = 250;
/// The first pause for a target that nobody reaches or that answers nothing; it doubles.
const LOST_FIRST_MS: u64 = 2000;
/// The longest pause that is ours to choose.
const PAUSE_MAX_MS: u64 = 60_000;
/// So many requests in a row without an answer are no longer the trouble of one person.
const SILENT_MAX: u32 = 5;

/// The line to one server.
#[derive(Debug)]
pub(super) struct Line {
    seats: Semaphore,
    seats_max: usize,
    state: Mutex<State>,
    clock: Clock,
}

#[derive(Debug)]
struct State {
    /// Seats that there are now, taken or free.
    seats: usize,
    /// Seats that go when they are given back.
    surplus: usize,
    /// Until when, in milliseconds of the monotonic clock, the server is left alone.
    closed_until: u64,
    /// Why.
    trouble: Option<Trouble>,
    /// Pauses since something went well.
    pauses: u32,
    /// Requests in a row that got no answer.
    silent: u32,
    /// When the next person may begin by the rate, in microseconds since 1970.
    tat_us: i64,
}

/// The right to have one request under way; given back when dropped.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    line: &'a Line,
    permit: Option<SemaphorePermit<'a>>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut state = self.line.state();
        if state.surplus > 0 {
            state.surplus -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

impl Line {
    pub(super) fn new(seats: usize, clock: Clock) -> Self {
        Self {
            seats: Semaphore::new(seats),
            seats_max: seats,
            state: Mutex::new(State {
                seats,
                surplus: 0,
                closed_until: 0,
                trouble: None,
                pauses: 0,
                silent: 0,
                tat_us: 0,
            }),
            clock,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a seat; whoever came first gets it first, so that no batch starves beside another.
    pub(super) async fn seat(&self) -> Seat<'_> {
        Seat {
            line: self,
            // The semaphore is never closed, so there always is one.
            permit: self.seats.acquire().await.ok(),
        }
    }

    /// Waits until one more may begin by the rate of the target: whoever waited for a seat, or was late
    /// for another reason, does not begin in one heap with the others.
    pub(super) async fn space(&self, gate: &SendGate) {
        let Some(pace) = gate.pace else { return };
        loop {
            let now = self.clock.now().timestamp_micros();
            let spaced = pace.space(&mut self.state().tat_us, now);
            match spaced {
                Err(wait) if gate.may_send().is_ok() => {
                    let wait = u64::try_from(wait).unwrap_or_default();
                    tokio::time::sleep(Duration::from_micros(wait.min(100_000))).await;
                }
                // Who may not send at all need not wait for it.
                Ok(()) | Err(_) => return,
            }
        }
    }

    /// Waits for a short pause of the server; says no to a long one, and when the gate says no.
    pub(super) async fn may_send(&self, gate: &SendGate) -> Result<(), NotNow> {
        loop {
            let wait = self.closed_ms();
            if wait == 0 {
                return gate.may_send();
            }
            if wait > PAUSE_WAITED_MAX_MS {
                // Nothing was sent: the person goes back, and is claimed when the target is open again.
                return Err(NotNow::LeaseExpired);
            }
            gate.may_send()?;
            tokio::time::sleep(Duration::from_millis(wait.min(100))).await;
        }
    }

    fn closed_ms(&self) -> u64 {
        let until = self.state().closed_until;
        until.saturating_sub(self.clock.monotonic().0)
    }

    /// Returns for how much longer the server is left alone, and why.
    pub(super) fn trouble(&self) -> Option<TargetTrouble> {
        let left = self.closed_ms();
        let trouble = self.state().trouble.clone();
        (left > 0).then_some(())?;
        Some(TargetTrouble {
            closed_for: Duration::from_millis(left),
            trouble: trouble?,
        })
    }

    /// Learns from an answer.
    pub(super) fn note<T>(&self, answer: &Answer<T>) {
        let now = self.clock.monotonic().0;
        let mut state = self.state();
        match answer {
            Answer::Done(_) => {
                state.pauses = 0;
                state.silent = 0;
                self.widen(&mut state);
            }
            // It is alive, and what it says is about one person.
            Answer::Clash(_) | Answer::Refused(_) => {
                state.pauses = 0;
                state.silent = 0;
            }
            Answer::Busy {
                after: Some(after),
                trouble,
            } => {
                // Rounded up: a millisecond early is early.
                let pause = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                state.close(now, pause.saturating_add(1), trouble);
            }
            Answer::Busy {
                after: None,
                trouble,
            } => {
                if state.back_off(now, BUSY_FIRST_MS, trouble) {
                    let fewer = state.seats / 2;
                    self.narrow(&mut state, fewer);
                }
            }
            Answer::Silent(trouble) => {
                state.silent = state.silent.saturating_add(1);
                if state.silent >= SILENT_MAX && state.back_off(now, LOST_FIRST_MS, trouble) {
                    self.narrow(&mut state, 1);
                }
            }
            Answer::LockedOut(trouble) => {
                state.close(now, LOCKED_OUT_MS, trouble);
                self.narrow(&mut state, 1);
            }
            Answer::Unreachable(trouble) => {
                if state.back_off(now, LOST_FIRST_MS, trouble) {
                    self.narrow(&mut state, 1);
                }
            }
        }
    }

    fn widen(&self, state: &mut State) {
        if state.seats < self.seats_max {
            state.seats += 1;
            if state.surplus > 0 {
                state.surplus -= 1;
            } else {
                self.seats.add_permits(1);
            }
        }
    }

    fn narrow(&self, state: &mut State, seats: usize) {
        let seats = seats.max(1);
        let fewer = state.seats.saturating_sub(seats);
        state.seats -= fewer;
        state.surplus += fewer - self.seats.forget_permits(fewer);
    }
}

impl State {
    fn close(&mut self, now: u64, pause_ms: u64, trouble: &Trouble) {
        let until = now.saturating_add(pause_ms);
        if until > self.closed_until {
            self.closed_until = until;
            self.trouble = Some(trouble.clone());
        }
    }

    /// Closes for twice as long as the last time, give or take a quarter; says whether it did. What
    /// was under way when the pause began says nothing new.
    fn back_off(&mut self, now: u64, first_ms: u64, trouble: &Trouble) -> bool {
        if now < self.closed_until {
            return false;
        }
        let doubled = first_ms
            .saturating_mul(1_u64 << self.pauses.min(16))
            .min(PAUSE_MAX_MS);
        self.pauses = self.pauses.saturating_add(1);
        // Processes that met the same trouble in the same second must not come back in the same one.
        let spread = now
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(u64::from(std::process::id()).wrapping_mul(0xbf58_476d_1ce4_e5b9));
        let pause = doubled - doubled / 4 + doubled / 2 * (spread >> 54) / 1024;
        self.close(now, pause, trouble);
        true
    }
}

#[cfg(test)]
mod tests {
    use tidegate_orchestrator::ids::Timestamp;

    use super::*;

    fn line(seats: usize) -> Line {
        Line::new(seats, Clock::virtual_at(Timestamp::UNIX_EPOCH))
    }

    fn busy(after: Option<Duration>) -> Answer<()> {
        let trouble = Trouble::new("throttled", "not now");
        Answer::Busy { after, trouble }
    }

    fn silent() -> Answer<()> {
        Answer::Silent(Trouble::new("timeout", "nothing came"))
    }

    #[test]
    fn pauses_double_until_something_goes_well() {
        let line = line(8);
        let mut last = 0;
        for expected in [250_u64, 500, 1000, 2000] {
            line.note(&busy(None));
            last = line.closed_ms();
            let most = expected * 5 / 4;
            assert!((expected * 3 / 4..=most).contains(&last), "{last}");
            line.clock.advance(u32::try_from(last).unwrap());
        }
        line.note(&Answer::Done(()));
        line.note(&busy(None));
        assert!(line.closed_ms() < last / 2);
    }

    #[test]
    fn a_server_that_says_when_is_taken_at_its_word() {
        let line = line(8);
        line.note(&busy(Some(Duration::from_millis(2128))));
        assert_eq!(line.closed_ms(), 2129);
        assert_eq!(line.seats.available_permits(), 8);
        line.note(&busy(Some(Duration::from_millis(5))));
        assert_eq!(line.closed_ms(), 2129, "never opened earlier");
    }

    #[test]
    fn one_person_without_an_answer_is_no_trouble_of_the_target() {
        let line = line(8);
        for _ in 1..SILENT_MAX {
            line.note(&silent());
        }
        assert!(line.trouble().is_none());
        line.note(&silent());
        assert_eq!(line.trouble().unwrap().trouble.code, "timeout");
        assert_eq!(line.seats.available_permits(), 1, "felt for with one");
    }

    #[tokio::test]
    async fn seats_come_back_one_by_one_and_never_more_than_there_were() {
        let line = line(4);
        let taken = [line.seat().await, line.seat().await, line.seat().await];
        line.note(&Answer::<()>::LockedOut(Trouble::new("unauthorised", "no")));
        assert_eq!(line.seats.available_permits(), 0);
        drop(taken);
        assert_eq!(line.seats.available_permits(), 1);
        for _ in 0..10 {
            line.note(&Answer::Done(()));
        }
        assert_eq!(line.seats.available_permits(), 4);
    }
}
