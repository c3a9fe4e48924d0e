//! A story that really happened, as signals: what a policy set would have made of it, day by day.
//!
//! The days and facts are public; where a day is not known it says so, and what is invented (the plan, the
//! hours, when people asked for a release) is named as assumed. Everything is embedded, so that it is told
//! the same anywhere, without a service. `tell` writes it for people, `kev` is the counter-test.

pub mod kev;
pub mod tell;

use chrono::{DateTime, NaiveDate, TimeDelta};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dialect::{Origin, Unreadable, text};
use crate::document::Format;
use crate::named::named;
use crate::rule::Effect;
use crate::rule::judge::TargetFacts;
use crate::set::PolicySet;
use crate::set::replay::line::{Written, report};
use crate::set::replay::{Did, Replay, Timeline};
use crate::signal::Trust;
use crate::time::{Seconds, Timestamp};

/// The scenarios that there are.
pub const NAMES: [&str; 1] = ["midnight-blizzard"];

const RULES: &str = include_str!("scenario/midnight_blizzard/rules.yaml");
const EVENTS: &str = include_str!("scenario/midnight_blizzard/events.jsonl");
const WAVES: &str = include_str!("scenario/midnight_blizzard/waves.json");

named! {
    /// What people did about the release of what is held.
    pub enum Deed: "deed" {
        /// Somebody asked for it.
        Requested = "requested",
        /// It was carried out.
        Released = "released",
    }
}

/// What happened on one day.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    at: Timestamp,
    /// The day in words, where it is not known.
    when: Option<String>,
    fact: String,
    report: Option<Value>,
    people: Option<String>,
    does: Option<Deed>,
}

/// One wave of the assumed plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wave {
    /// Its name.
    pub name: String,
    /// The day on which it begins.
    pub begins: NaiveDate,
    /// Over so many days.
    pub days: u32,
    /// So many people.
    pub people: u64,
}

/// A story, ready to be played.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The set that judges.
    pub set: PolicySet,
    /// What people are moved onto.
    pub target: TargetFacts,
    /// The plan.
    pub waves: Vec<Wave>,
    events: Vec<(Event, Option<Written>)>,
}

/// What one day came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// The day, in words where it is not known.
    pub when: String,
    /// When it is played.
    pub at: Timestamp,
    /// What happened.
    pub fact: String,
    /// What was reported of it.
    pub reported: Option<String>,
    /// What the rules did; empty when nothing was reported.
    pub rules: Vec<String>,
    /// What people did.
    pub people: Vec<String>,
    /// How many people are moved by then; `None` after the release: the ramp is not in the assumed plan.
    pub moved: Option<u64>,
    /// How many would be, had nobody stopped anything.
    pub moved_unstopped: u64,
}

/// A story that was played.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Story {
    /// Day by day.
    pub moments: Vec<Moment>,
    /// What the rules held.
    pub timeline: Timeline,
    /// How many people there are.
    pub people: u64,
    /// On which day people stopped it.
    pub stopped_on: NaiveDate,
    /// Who was moved by the day on which it became known that it was not over.
    pub exposed: Exposed,
    /// What holding for each entry of a public catalogue would have done.
    pub kev: kev::Counted,
}

/// How many people were moved by a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exposed {
    /// By that day.
    pub by: NaiveDate,
    /// With the rules.
    pub with_rules: u64,
    /// Without them, when only people stop it.
    pub people_only: u64,
    /// When nobody stops it.
    pub unstopped: u64,
}

/// Returns the day on which the CISO recommended to stop, for want of a public one.
#[must_use]
pub fn stopped_on_default() -> NaiveDate {
    day(2024, 1, 22)
}

/// The day on which the vendor said that it was going on.
fn not_over() -> NaiveDate {
    day(2024, 3, 8)
}

fn day(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).unwrap_or_default()
}

/// Returns the first instant of a day.
fn begin(day: NaiveDate) -> Timestamp {
    day.and_time(chrono::NaiveTime::MIN).and_utc()
}

impl Scenario {
    /// Reads the story of Midnight Blizzard.
    ///
    /// # Errors
    ///
    /// Never in a release: it is embedded, and its tests read it.
    pub fn midnight_blizzard() -> Result<Self, Unreadable> {
        let set = PolicySet::parse(RULES, Format::Yaml)
            .map_err(|errors| Unreadable::new("policy_invalid", errors.to_string()))?;
        let invalid = |error: serde_json::Error| Unreadable::new("not_json", error.to_string());
        let waves = serde_json::from_str(WAVES).map_err(invalid)?;
        let mut events = Vec::new();
        for line in EVENTS.lines() {
            let event: Event = serde_json::from_str(line).map_err(invalid)?;
            let written = match &event.report {
                Some(said) => Some(reported(said, event.at)?),
                None => None,
            };
            events.push((event, written));
        }
        let target = TargetFacts {
            name: "suite".to_owned(),
            vendor: Some("microsoft".to_owned()),
            products: ["email", "identity", "documents"].map(str::to_owned).into(),
            ..TargetFacts::default()
        };
        Ok(Self {
            set,
            target,
            waves,
            events,
        })
    }

    /// Returns what was reported, in order.
    #[must_use]
    pub fn signals(&self) -> Vec<Written> {
        let signals = self.events.iter();
        signals.filter_map(|(_, written)| written.clone()).collect()
    }

    /// Plays the story; people stopped it on `stopped_on`, a day that is not public.
    ///
    /// # Errors
    ///
    /// Never in a release: see `midnight_blizzard`.
    pub fn play(&self, stopped_on: NaiveDate) -> Result<Story, Unreadable> {
        let mut replay = Replay::new(&self.set, vec![self.target.clone()]);
        let mut moments = Vec::new();
        let mut requested = None;
        let mut events: Vec<&(Event, Option<Written>)> = self.events.iter().collect();
        let stop = (by_people(stopped_on), None);
        events.push(&stop);
        events.sort_by_key(|(event, _)| event.at);
        for (event, written) in events {
            let did = written
                .as_ref()
                .map(|one| replay.take(&one.id, &one.signal));
            let mut people: Vec<String> = event.people.iter().cloned().collect();
            match event.does {
                Some(Deed::Requested) => requested = Some(event.at),
                Some(Deed::Released) => replay.let_go(event.at),
                None => {}
            }
            if let Some(at) = requested.filter(|_| did.as_ref().is_some_and(|did| !did.is_empty()))
            {
                people.push(format!(
                    "the request of {} is void: something was decided about its target since",
                    at.date_naive()
                ));
                requested = None;
            }
            moments.push(Moment {
                when: event
                    .when
                    .clone()
                    .unwrap_or_else(|| event.at.date_naive().to_string()),
                at: event.at,
                fact: event.fact.clone(),
                reported: written.as_ref().map(tell::reported),
                rules: did.map_or_else(Vec::new, |did| rules(replay.told(), &did)),
                people,
                moved: None,
                moved_unstopped: 0,
            });
        }
        let last = moments.last().map_or(Timestamp::UNIX_EPOCH, |one| one.at);
        let timeline = replay.end(last);
        let (rules, people) = (gated_at(&timeline), Some(begin(stopped_on)));
        let both = [rules, people].into_iter().flatten().min();
        self.count_people(&mut moments, both);
        let by = begin(not_over());
        Ok(Story {
            exposed: Exposed {
                by: not_over(),
                with_rules: self.moved(rules, by),
                people_only: self.moved(people, by),
                unstopped: self.moved(None, by),
            },
            people: self.waves.iter().map(|wave| wave.people).sum(),
            kev: kev::counted()?,
            moments,
            timeline,
            stopped_on,
        })
    }

    fn count_people(&self, moments: &mut [Moment], stopped: Option<Timestamp>) {
        let mut events = self.events.iter();
        let released =
            events.find_map(|(event, _)| (event.does == Some(Deed::Released)).then_some(event.at));
        for moment in moments {
            if released.is_none_or(|released| moment.at < released) {
                moment.moved = Some(self.moved(stopped, moment.at));
            }
            moment.moved_unstopped = self.moved(None, moment.at);
        }
    }

    /// Returns how many people are moved by an instant when no wave begins from `stopped` on.
    fn moved(&self, stopped: Option<Timestamp>, by: Timestamp) -> u64 {
        let each = self.waves.iter().map(|wave| {
            let begins = begin(wave.begins);
            if begins > by || stopped.is_some_and(|stopped| begins >= stopped) {
                return 0;
            }
            let days = u64::from(wave.days.max(1));
            let whole = (by - begins).num_seconds().max(0).unsigned_abs() / 86_400;
            wave.people * whole.min(days) / days
        });
        each.sum()
    }
}

fn by_people(stopped_on: NaiveDate) -> Event {
    Event {
        at: begin(stopped_on) + TimeDelta::hours(9),
        when: Some(format!("{stopped_on} (assumed)")),
        fact: "The CISO recommends to stop, earlier in 2024; the day is not public.".to_owned(),
        report: None,
        people: Some("a halt by people, beside whatever rules hold".to_owned()),
        does: None,
    }
}

/// Returns since when nobody new may begin, by the rules.
fn gated_at(timeline: &Timeline) -> Option<Timestamp> {
    let holds = timeline.stops.iter().filter(|stop| stop.holds());
    holds.map(|stop| stop.since).min()
}

fn reported(said: &Value, at: Timestamp) -> Result<Written, Unreadable> {
    let trust = text(said, "trust").and_then(Trust::from_name);
    let origin = Origin {
        source: text(said, "source").unwrap_or_default().to_owned(),
        trust: trust.unwrap_or(Trust::Unauthenticated),
        vendor: None,
        products: Default::default(),
        received_at: at,
    };
    report(said, "", &origin)
}

/// Says what rules did of one signal.
fn rules(told: &Timeline, did: &[Did]) -> Vec<String> {
    if did.is_empty() {
        return vec!["nothing".to_owned()];
    }
    let each = did.iter().filter_map(|did| {
        let stop = told.stops.get(did.stop)?;
        let what = match (stop.kind, did.is_new) {
            (Effect::Review, _) => "put before people".to_owned(),
            (kind, true) => match stop.moved.as_deref() {
                Some("freeze") => format!("{kind}, what was moved is frozen"),
                Some(_) | None => format!("{kind}"),
            },
            (kind, false) => format!(
                "{kind} stands: {} reports, worst {}",
                stop.signals, stop.worst
            ),
        };
        Some(format!("{what} ({})", stop.rule))
    });
    each.collect()
}

/// Returns the last instant of a day, for what says only the day.
fn evening(day: NaiveDate) -> Timestamp {
    Seconds(18 * 3600).after(begin(day))
}

/// Any instant: what is read from the catalogue says its own day.
fn sometime() -> Timestamp {
    DateTime::UNIX_EPOCH
}

#[cfg(test)]
mod tests;
