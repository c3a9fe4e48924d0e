//! The machine that is checked: a database, two workers, a target, one batch of one person.
//!
//! A step is atomic where the service is: a transaction, a look at the permit, a request that begins
//! right after the check. A process that is frozen, or cut off from the database, is one that takes no
//! step for a while: every order of steps contains that, and its waking up. A notification that is late
//! or lost is a renewal that comes late or never.
//!
//! Time passes in seconds of the database's clock, a worker counts its own, and only ages are kept, up to
//! the one after which nothing changes any more: so the machine is finite and goes on for ever. What is
//! decided, and by which function of the service, is in `decide`.

use tidegate_orchestrator::lease::Settlement;

use crate::{Limits, Watch};

/// How long a request may take.
pub(crate) const REQUEST_MILLIS: u32 = 1000;
/// What is older makes no difference: a permit and a request are over, and so is the time to begin.
const PERMIT_AGE_MAX: u8 = 3;
const SEEN_AGE_MAX: u8 = 4;
const PLACED_AGE_MAX: u8 = 6;

/// What is in place. Each can be taken out, to see what it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Safeguards {
    /// The permit and the lease are looked at last before the socket.
    pub(crate) check_before_socket: bool,
    /// Whoever is silent and has a lease is waited for.
    pub(crate) wait_for_silent: bool,
    /// Clocks may run at different speeds.
    pub(crate) margin: bool,
    /// Permits are counted from a word that proves the commit, and not from the placing.
    pub(crate) count_from_commit: bool,
    /// Under a hold no lease is renewed.
    pub(crate) leases_run_out: bool,
    /// A claim conflicts with the placing of a hold.
    pub(crate) claim_conflicts: bool,
    /// What comes back is settled by owner and fence.
    pub(crate) fence: bool,
    /// A request begins only when it will be over before its lease is.
    pub(crate) lease_covers_request: bool,
}

impl Safeguards {
    pub(crate) const ALL: Self = Self {
        check_before_socket: true,
        wait_for_silent: true,
        margin: true,
        count_from_commit: true,
        leases_run_out: true,
        claim_conflicts: true,
        fence: true,
        lease_covers_request: true,
    };
}

/// One thing that happens. The number is the worker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A second passes.
    Tick,
    /// A hold has the lock and is written; nobody sees it yet.
    Place,
    /// It is committed.
    Commit,
    /// It is declared quiet.
    Declare,
    /// It is released.
    Lift,
    /// A worker asks for its permit: by its time, or because it was notified.
    Ask(u8),
    /// The answer arrives.
    Take(u8),
    /// It writes its row.
    Tell(u8),
    /// It claims the batch.
    Claim(u8),
    /// It begins a request: the check said yes.
    Begin(u8),
    /// The check said no: the person goes back.
    Skip(u8),
    /// The target does what was asked.
    Land(u8),
    /// The target does what a process asked that is dead.
    LandOrphan,
    /// The answer arrives.
    Answer(u8),
    /// What came of it is written, and the lease given back.
    Record(u8),
    /// The lease is asked to go on.
    Renew(u8),
    /// The process dies, and another starts in its place.
    Crash(u8),
}

/// Where the person stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Person {
    Queued,
    InFlight,
    Unknown,
    Done,
}

/// What became of a person, as a worker knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Done,
    NotSent,
    Unknown,
}

/// What a worker read of the database, and how long ago it asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Read {
    pub(crate) age: u8,
    pub(crate) epoch: u8,
}

/// A batch under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Flight {
    /// Whether somebody has claimed it since.
    pub(crate) is_lost: bool,
    /// How long ago its lease was asked for.
    pub(crate) age: u8,
    is_doubtful: bool,
    outcome: Option<Outcome>,
}

/// A request under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Request {
    age: u8,
    has_landed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Worker {
    life: u8,
    /// A renewal under way.
    asking: Option<Read>,
    pub(crate) permit: Option<Read>,
    flight: Option<Flight>,
    request: Option<Request>,
}

/// What a worker has written of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Row {
    /// It has not seen the hold.
    Unseen,
    /// It has, and has nobody under way.
    Quiet,
    /// It has, and had somebody under way so long ago.
    Sending(u8),
}

/// How far the hold is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    None,
    Placed,
    Committed,
    Declared,
    Lifted,
}

/// What must never happen, and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Broken {
    pub(crate) sent_after_quiet: bool,
    pub(crate) quiet_while_sending: bool,
    pub(crate) claimed_under_hold: bool,
}

/// Everything there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    stage: Stage,
    /// How long ago the hold was placed, where that counts; and how long ago somebody first said that it
    /// has seen it.
    pub(crate) placed: u8,
    pub(crate) seen_since: Option<u8>,
    /// Who has the lease, by worker and life, and for how long.
    pub(crate) lease: Option<(u8, u8)>,
    person: Person,
    pub(crate) created: u8,
    workers: [Worker; 2],
    /// By worker and life.
    pub(crate) rows: [Option<Row>; 4],
    /// What the process that died had under way, and whose it was.
    orphan: Option<(u8, Request)>,
    crashes: u8,
    pub(crate) broken: Broken,
}

fn older(age: u8, most: u8) -> u8 {
    age.saturating_add(1).min(most)
}

impl World {
    /// Both workers have a permit and have said so; nobody has claimed anything.
    pub(crate) fn new() -> Self {
        let worker = Worker {
            permit: Some(Read { age: 0, epoch: 1 }),
            ..Worker::default()
        };
        Self {
            stage: Stage::None,
            placed: 0,
            seen_since: None,
            lease: None,
            person: Person::Queued,
            created: 0,
            workers: [worker; 2],
            rows: [Some(Row::Unseen), Some(Row::Unseen), None, None],
            orphan: None,
            crashes: 0,
            broken: Broken::default(),
        }
    }

    /// The epoch that is committed: 2 is the hold, 3 its release.
    pub(crate) fn epoch(&self) -> u8 {
        match self.stage {
            Stage::None | Stage::Placed => 1,
            Stage::Committed | Stage::Declared => 2,
            Stage::Lifted => 3,
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.epoch() == 2
    }

    pub(crate) fn is_declared(&self) -> bool {
        self.stage == Stage::Declared
    }

    /// Whether it was declared quiet with a worker that had a lease and has said nothing.
    pub(crate) fn is_declared_over_silence(&self) -> bool {
        let is_unheard = |key: u8| self.rows[usize::from(key)] == Some(Row::Unseen);
        self.is_declared() && self.lease.is_some_and(|(key, _)| is_unheard(key))
    }

    pub(crate) fn key(&self, worker: u8) -> u8 {
        worker + 2 * self.worker(worker).life
    }

    pub(crate) fn worker(&self, worker: u8) -> &Worker {
        &self.workers[usize::from(worker)]
    }

    fn worker_mut(&mut self, worker: u8) -> &mut Worker {
        &mut self.workers[usize::from(worker)]
    }

    pub(crate) fn has_one_owner(&self) -> bool {
        let owns = |worker: &Worker| worker.flight.is_some_and(|flight| !flight.is_lost);
        !self.workers.iter().all(owns)
    }

    /// Every step that may be next.
    pub(crate) fn steps(&self, limits: &Limits, steps: &mut Vec<Step>) {
        steps.push(Step::Tick);
        match (self.stage, limits.watch) {
            (Stage::None, _) => steps.push(Step::Place),
            (Stage::Placed, _) => steps.push(Step::Commit),
            (Stage::Committed, Watch::Quiet) if self.is_quiet(limits) => steps.push(Step::Declare),
            (Stage::Committed, Watch::Person) => steps.push(Step::Lift),
            (Stage::Committed | Stage::Declared | Stage::Lifted, _) => {}
        }
        if self.orphan.is_some_and(|(_, request)| !request.has_landed) {
            steps.push(Step::LandOrphan);
        }
        for worker in 0..2 {
            self.steps_of(limits, worker, steps);
        }
    }

    fn steps_of(&self, limits: &Limits, worker: u8, steps: &mut Vec<Step>) {
        let known = self.worker(worker);
        if self.crashes < limits.crashes {
            steps.push(Step::Crash(worker));
        }
        steps.push(Step::Ask(worker));
        if known.asking.is_some() {
            steps.push(Step::Take(worker));
        }
        if limits.watch == Watch::Quiet {
            steps.push(Step::Tell(worker));
        }
        // Between the writing of a hold and its commit, whoever claims or records waits for the lock.
        let is_locked = self.stage == Stage::Placed;
        let Some(flight) = known.flight else {
            let is_open = self.person != Person::Done && known.request.is_none();
            if is_open && !is_locked && self.may_claim(limits, worker) {
                steps.push(Step::Claim(worker));
            }
            return;
        };
        match (flight.outcome, known.request) {
            (None, None) if self.may_begin(limits, worker, flight) => {
                steps.push(Step::Begin(worker));
            }
            (None, None) => steps.push(Step::Skip(worker)),
            (None, Some(request)) if request.has_landed || limits.watch == Watch::Quiet => {
                steps.push(Step::Answer(worker));
            }
            (None, Some(_)) => steps.push(Step::Land(worker)),
            (Some(_), _) => {}
        }
        match flight.outcome {
            _ if is_locked => {}
            Some(_) => steps.push(Step::Record(worker)),
            None => steps.push(Step::Renew(worker)),
        }
    }

    /// The world after a step, or nothing when it changes nothing.
    pub(crate) fn after(&self, limits: &Limits, step: Step) -> Option<Self> {
        let mut next = self.clone();
        match step {
            Step::Tick => next.tick(limits),
            Step::Place => next.stage = Stage::Placed,
            Step::Commit => next.stage = Stage::Committed,
            Step::Lift => next.stage = Stage::Lifted,
            Step::Declare => {
                next.stage = Stage::Declared;
                let has_request = |worker: &Worker| worker.request.is_some();
                next.broken.quiet_while_sending =
                    self.workers.iter().any(has_request) || self.orphan.is_some();
            }
            Step::Ask(worker) => next.ask(limits, worker),
            Step::Take(worker) => {
                let read = next.worker_mut(worker).asking.take();
                let kept = read.and_then(|read| next.kept(limits, worker, read));
                next.worker_mut(worker).permit = kept;
            }
            Step::Tell(worker) => next.tell(worker),
            Step::Claim(worker) => next.claim(limits, worker),
            Step::Begin(worker) => next.begin(worker),
            Step::Skip(worker) => next.put_outcome(limits, worker, Outcome::NotSent),
            Step::Land(worker) => {
                next.created += 1;
                if let Some(request) = &mut next.worker_mut(worker).request {
                    request.has_landed = true;
                }
            }
            Step::LandOrphan => {
                next.created += u8::from(limits.watch == Watch::Person);
                next.orphan = None;
            }
            Step::Answer(worker) => {
                next.worker_mut(worker).request = None;
                next.put_outcome(limits, worker, Outcome::Done);
            }
            Step::Record(worker) => next.come_back(limits, worker, true),
            Step::Renew(worker) => next.come_back(limits, worker, false),
            Step::Crash(worker) => next.crash(worker),
        }
        next.forget(limits);
        (next != *self).then_some(next)
    }

    /// Forgets what can make no difference any more.
    fn forget(&mut self, limits: &Limits) {
        for worker in 0..2 {
            let is_over = |read: Read| read.epoch == 2 || self.is_expired(limits, worker, read);
            let Some(read) = self.worker(worker).permit else {
                continue;
            };
            // Of a permit that sends nothing, only what it has seen is told.
            if is_over(read) {
                let told = (limits.watch == Watch::Quiet).then_some(Read {
                    age: PERMIT_AGE_MAX,
                    epoch: read.epoch,
                });
                self.worker_mut(worker).permit = told;
            }
        }
    }

    fn tick(&mut self, limits: &Limits) {
        if !limits.safe.count_from_commit && self.stage != Stage::None {
            self.placed = older(self.placed, PLACED_AGE_MAX);
        }
        let since = self.seen_since.filter(|_| !self.is_declared());
        self.seen_since = since.map(|age| older(age, SEEN_AGE_MAX));
        self.lease = self.lease.map(|(key, left)| (key, left.saturating_sub(1)));
        for row in self.rows.iter_mut().flatten() {
            if let Row::Sending(age) = row {
                *age = older(*age, SEEN_AGE_MAX);
            }
        }
        if let Some((worker, request)) = &mut self.orphan {
            request.age += 1;
            if limits.is_timed_out(*worker, request.age) {
                self.orphan = None;
            }
        }
        for worker in 0..2 {
            self.tick_of(limits, worker);
        }
    }

    fn tick_of(&mut self, limits: &Limits, worker: u8) {
        let known = self.worker_mut(worker);
        for read in [&mut known.permit, &mut known.asking].into_iter().flatten() {
            read.age = older(read.age, PERMIT_AGE_MAX);
        }
        if let Some(flight) = &mut known.flight {
            flight.age = older(flight.age, limits.lease_ticks + 1);
        }
        let Some(request) = &mut known.request else {
            return;
        };
        request.age += 1;
        if limits.is_timed_out(worker, request.age) {
            // It was waited for long enough: nobody knows whether it was done.
            known.request = None;
            self.put_outcome(limits, worker, Outcome::Unknown);
        }
    }

    fn ask(&mut self, limits: &Limits, worker: u8) {
        let epoch = self.epoch();
        let known = self.worker_mut(worker);
        known.asking = Some(Read { age: 0, epoch });
        // Whose answers are never late has them at once.
        if worker != limits.late_answers {
            known.permit = known.asking.take();
        }
    }

    /// A worker says which hold it knows, and whether it has somebody under way under it.
    fn tell(&mut self, worker: u8) {
        let known = self.worker(worker);
        let has_seen = known.permit.is_some_and(|read| read.epoch >= 2);
        let is_open = |flight: Flight| flight.outcome.is_none();
        let is_sending = known.flight.is_some_and(is_open) || known.request.is_some();
        let row = match (has_seen, is_sending) {
            (false, _) => Row::Unseen,
            (true, false) => Row::Quiet,
            (true, true) => Row::Sending(0),
        };
        if has_seen && !self.is_declared() {
            self.seen_since.get_or_insert(0);
        }
        let key = self.key(worker);
        self.rows[usize::from(key)] = Some(row);
    }

    fn put_outcome(&mut self, limits: &Limits, worker: u8, outcome: Outcome) {
        // To whom only quiet counts, every end is the same.
        let is_all_one = limits.watch == Watch::Quiet;
        if let Some(flight) = &mut self.worker_mut(worker).flight {
            flight.outcome = Some(if is_all_one {
                Outcome::NotSent
            } else {
                outcome
            });
        }
    }

    fn claim(&mut self, limits: &Limits, worker: u8) {
        self.broken.claimed_under_hold |= self.is_held();
        // Whoever was in flight under a lease that is over may have been created.
        let is_doubtful = self.lease.is_some() || self.person == Person::Unknown;
        for known in &mut self.workers {
            if let Some(flight) = &mut known.flight {
                flight.is_lost = true;
            }
        }
        self.lease = Some((self.key(worker), limits.lease_ticks));
        if limits.watch == Watch::Person {
            self.person = Person::InFlight;
        }
        self.worker_mut(worker).flight = Some(Flight {
            is_lost: false,
            age: 0,
            is_doubtful: is_doubtful && limits.watch == Watch::Person,
            outcome: None,
        });
    }

    fn begin(&mut self, worker: u8) {
        self.broken.sent_after_quiet |= self.is_declared();
        let created = self.created;
        let known = self.worker_mut(worker);
        if let Some(flight) = &mut known.flight
            && flight.is_doubtful
            && created > 0
        {
            // Looked up, and there.
            flight.outcome = Some(Outcome::Done);
            return;
        }
        known.request = Some(Request {
            age: 0,
            has_landed: false,
        });
    }

    fn come_back(&mut self, limits: &Limits, worker: u8, is_last: bool) {
        let Some(flight) = self.worker(worker).flight else {
            return;
        };
        match self.settle(limits, worker, flight, is_last) {
            Settlement::Lost => self.worker_mut(worker).flight = None,
            Settlement::Ended => {
                self.lease = None;
                if limits.watch == Watch::Person {
                    self.person = match (flight.outcome, flight.is_doubtful) {
                        (Some(Outcome::Done), _) => Person::Done,
                        (Some(Outcome::NotSent), false) => Person::Queued,
                        (Some(Outcome::NotSent), true) | (Some(Outcome::Unknown) | None, _) => {
                            Person::Unknown
                        }
                    };
                }
                self.worker_mut(worker).flight = None;
            }
            Settlement::Renewed => {
                self.lease = Some((self.key(worker), limits.lease_ticks));
                self.worker_mut(worker).flight = Some(Flight { age: 0, ..flight });
            }
            Settlement::Kept => {}
        }
    }

    fn crash(&mut self, worker: u8) {
        self.crashes += 1;
        let known = *self.worker(worker);
        self.orphan = known.request.map(|request| (worker, request));
        // What has landed already does nothing more.
        self.orphan = self.orphan.filter(|(_, request)| !request.has_landed);
        *self.worker_mut(worker) = Worker {
            life: known.life + 1,
            ..Worker::default()
        };
    }

    /// Lifts the hold and lets everybody do what they do: then the person is moved, once.
    pub(crate) fn ends_well(&self, limits: &Limits) -> bool {
        let mut world = self.clone();
        if world.stage != Stage::None {
            world.stage = Stage::Lifted;
        }
        let kinds = [
            Step::Ask,
            Step::Take,
            Step::Begin,
            Step::Skip,
            Step::Land,
            Step::Answer,
            Step::Record,
            Step::Claim,
        ];
        for _ in 0..limits.lease_ticks * 3 {
            for worker in [0, 1] {
                for kind in kinds {
                    let mut open = Vec::new();
                    world.steps_of(limits, worker, &mut open);
                    let step = kind(worker);
                    if open.contains(&step) {
                        world = world.after(limits, step).unwrap_or(world);
                    }
                }
            }
            let is_over = world.workers.iter().all(|worker| worker.flight.is_none());
            if is_over && world.person == Person::Done {
                return world.created == 1;
            }
            world = world.after(limits, Step::Tick).unwrap_or(world);
        }
        false
    }
}
