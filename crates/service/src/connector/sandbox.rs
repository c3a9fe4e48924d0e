//! The sandbox: a target inside this process that answers as scripted, the same way every time.
//!
//! It says so wherever it is shown. What becomes of a person follows from the seed, the person and the
//! attempt alone. With a journal, a file that outlives the process, it remembers whom it has created and
//! whom it has taken back, finds them when asked, and notes it when somebody is created twice.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_orchestrator::ledger::{ClaimedSlot, SlotIndex};

use super::grants::Grants;
use super::{
    Act, CheckItem, CheckReport, ConfigError, Person, SendGate, SendResult, TargetTrouble, Trouble,
};

/// The longest that an answer takes: a minute.
const LATENCY_MS_MAX: u64 = 60_000;
/// The most requests at once.
const CONCURRENCY_MAX: usize = 4096;

/// What the sandbox does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxConfig {
    /// The same seed gives the same answers.
    pub seed: u64,
    /// How long each answer takes.
    pub latency_ms: u64,
    /// How many in a million fail for good.
    pub failure_ppm: u32,
    /// How many in a million are told to come back, on their first attempt.
    pub retry_ppm: u32,
    /// How many in a million never get an answer, on any attempt.
    pub silence_ppm: u32,
    /// How many in a million are somebody else's account.
    pub review_ppm: u32,
    /// How many in a million cannot be taken back.
    pub back_failure_ppm: u32,
    /// How many requests at once, when answers take time.
    pub concurrency: Option<usize>,
    /// A file that remembers who was created.
    pub journal: Option<PathBuf>,
}

/// A target inside this process.
#[derive(Debug)]
pub struct Sandbox {
    config: SandboxConfig,
    journal: Option<Mutex<Journal>>,
}

#[derive(Debug)]
struct Journal {
    lines: BufReader<File>,
    file: File,
    created: HashSet<String>,
}

impl Journal {
    fn open(path: &PathBuf) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let mut journal = Self {
            lines: BufReader::new(File::open(path)?),
            file,
            created: HashSet::new(),
        };
        journal.catch_up()?;
        Ok(journal)
    }

    /// Reads what has been written since the last look: several processes may share the file.
    fn catch_up(&mut self) -> std::io::Result<()> {
        let mut line = String::new();
        while self.lines.read_line(&mut line)? > 0 {
            if let Some(key) = line.trim_end().strip_prefix("created ") {
                self.created.insert(key.to_owned());
            } else if let Some(key) = line.trim_end().strip_prefix("taken_back ") {
                self.created.remove(key);
            }
            line.clear();
        }
        Ok(())
    }

    /// Says whether somebody was created, by whomever.
    fn has(&mut self, key: &str) -> std::io::Result<bool> {
        self.catch_up()?;
        Ok(self.created.contains(key))
    }

    /// Creates somebody; one write, so that a kill leaves a whole line or none.
    fn create(&mut self, key: &str) -> std::io::Result<()> {
        let word = if self.has(key)? { "twice" } else { "created" };
        self.file.write_all(format!("{word} {key}\n").as_bytes())
    }

    /// Takes somebody back; whoever is not there needs nothing.
    fn take_back(&mut self, key: &str) -> std::io::Result<()> {
        if self.has(key)? {
            self.file
                .write_all(format!("taken_back {key}\n").as_bytes())?;
        }
        Ok(())
    }
}

fn mix(seed: u64, person: u64, salt: u64) -> u64 {
    let mut mixed = seed
        ^ person.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ salt.wrapping_mul(0xd1b5_4a32_d192_ed03);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn number_of(key: &str) -> u64 {
    // FNV-1a: only a number for the script, nothing is looked up by it.
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

impl Sandbox {
    /// Makes a sandbox.
    ///
    /// # Errors
    ///
    /// When the settings are not understood or the journal cannot be opened.
    pub fn new(config: &serde_json::Value, grants: &Grants) -> Result<Self, ConfigError> {
        let config: SandboxConfig = serde_json::from_value(config.clone())
            .map_err(|error| ConfigError(format!("sandbox settings: {error}")))?;
        let sum = u64::from(config.failure_ppm)
            + u64::from(config.silence_ppm)
            + u64::from(config.review_ppm);
        if sum > 1_000_000 || config.retry_ppm.max(config.back_failure_ppm) > 1_000_000 {
            return Err(ConfigError(
                "sandbox settings: shares add up to more than a million".to_owned(),
            ));
        }
        if config.latency_ms > LATENCY_MS_MAX
            || config
                .concurrency
                .is_some_and(|most| !(1..=CONCURRENCY_MAX).contains(&most))
        {
            return Err(ConfigError(format!(
                "sandbox settings: latency_ms is at most {LATENCY_MS_MAX}, concurrency 1 to {CONCURRENCY_MAX}"
            )));
        }
        let journal = match &config.journal {
            Some(name) => {
                let path = grants.journal(name)?;
                let opened = Journal::open(&path);
                Some(Mutex::new(opened.map_err(|error| {
                    ConfigError(format!("journal {}: {error}", path.display()))
                })?))
            }
            None => None,
        };
        Ok(Self { config, journal })
    }

    /// Returns how many batches to have under way at once.
    #[must_use]
    pub const fn batches_at_once(&self) -> usize {
        if self.config.latency_ms == 0 && self.config.journal.is_none() {
            8
        } else {
            2
        }
    }

    /// Returns what becomes of people when no time passes and nothing is remembered.
    pub fn instant(
        &self,
        act: Act,
        slots: &[ClaimedSlot],
        ordinals: &[u32],
    ) -> Option<Vec<(SlotIndex, SendResult)>> {
        if self.config.latency_ms > 0 || self.journal.is_some() {
            return None;
        }
        let scripted = self.config.failure_ppm
            + self.config.retry_ppm
            + self.config.silence_ppm
            + self.config.review_ppm
            + self.config.back_failure_ppm
            > 0;
        let result = |slot: &ClaimedSlot| {
            let result = if scripted {
                let ordinal = ordinals.get(slot.index.get()).copied().unwrap_or(0);
                self.script(act, u64::from(ordinal), slot.attempt)
            } else {
                SendResult::Done {
                    adopted: false,
                    remote_id: None,
                }
            };
            (slot.index, result)
        };
        Some(slots.iter().map(result).collect())
    }

    fn script(&self, act: Act, person: u64, attempt: u8) -> SendResult {
        match act {
            Act::Move => self.moved(person, attempt),
            Act::TakeBack => self.taken_back(person),
        }
    }

    fn taken_back(&self, person: u64) -> SendResult {
        let place = u32::try_from(mix(self.config.seed, person, 3) % 1_000_000).unwrap_or(0);
        if place < self.config.back_failure_ppm {
            let message = "the sandbox was told to say so";
            return SendResult::Failed(Trouble::new("sandbox_failure", message));
        }
        SendResult::Done {
            adopted: false,
            remote_id: None,
        }
    }

    fn moved(&self, person: u64, attempt: u8) -> SendResult {
        let config = &self.config;
        let place = u32::try_from(mix(config.seed, person, 1) % 1_000_000).unwrap_or(0);
        let said = |code: &str| Trouble::new(code, "the sandbox was told to say so");
        if place < config.failure_ppm {
            return SendResult::Failed(said("sandbox_failure"));
        }
        if place < config.failure_ppm + config.silence_ppm {
            return SendResult::Unknown(said("sandbox_silence"));
        }
        if place < config.failure_ppm + config.silence_ppm + config.review_ppm {
            return SendResult::Review(said("sandbox_review"));
        }
        let retries =
            u32::try_from(mix(config.seed, person, 2) % 1_000_000).unwrap_or(0) < config.retry_ppm;
        if retries && attempt <= 1 {
            return SendResult::Retry {
                after: None,
                trouble: said("sandbox_retry"),
            };
        }
        SendResult::Done {
            adopted: false,
            remote_id: None,
        }
    }

    /// Sends people one after the other, `concurrency` at a time in effect.
    pub async fn send(
        &self,
        act: Act,
        people: Vec<Person>,
        gate: &SendGate,
        on_result: &(impl Fn(SlotIndex, SendResult) + Sync),
    ) -> Option<TargetTrouble> {
        let at_once = self.config.concurrency.unwrap_or(64).max(1);
        let mut left = people.as_slice();
        while let Some(first) = left.first() {
            gate.turn(first).await;
            // Under a hold nobody waits for answers to what is not asked, nor is anybody else asked about:
            // everybody left is given back in one go, and quiet is quiet at once.
            if let Err(reason) = gate.may_send() {
                for person in left {
                    on_result(person.index, SendResult::NotSent(reason));
                }
                return None;
            }
            let (group, later) = left.split_at(at_once.min(left.len()));
            left = later;
            if self.config.latency_ms > 0 {
                tokio::time::sleep(Duration::from_millis(self.config.latency_ms)).await;
            }
            for person in group {
                let result = match gate.may_send() {
                    Ok(()) => self.one(act, person),
                    Err(reason) => SendResult::NotSent(reason),
                };
                on_result(person.index, result);
            }
            tokio::task::yield_now().await;
        }
        None
    }

    fn one(&self, act: Act, person: &Person) -> SendResult {
        let result = self.script(act, number_of(&person.key), person.attempt);
        let SendResult::Done { .. } = result else {
            return result;
        };
        let Some(journal) = &self.journal else {
            return result;
        };
        let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
        let unread = |error: std::io::Error| {
            SendResult::Unknown(Trouble::new("sandbox_journal", error.to_string()))
        };
        if act == Act::TakeBack {
            return match journal.take_back(&person.key) {
                Ok(()) => result,
                Err(error) => unread(error),
            };
        }
        if person.doubtful {
            match journal.has(&person.key) {
                Ok(true) => {
                    return SendResult::Done {
                        adopted: true,
                        remote_id: Some(person.key.clone()),
                    };
                }
                Ok(false) => {}
                Err(error) => return unread(error),
            }
        }
        match journal.create(&person.key) {
            Ok(()) => SendResult::Done {
                adopted: false,
                remote_id: Some(person.key.clone()),
            },
            Err(error) => unread(error),
        }
    }

    /// Says what it is.
    #[must_use]
    pub fn check(&self) -> CheckReport {
        let sentence = "this is the sandbox: it runs in this process, answers as scripted, and moves nobody anywhere";
        CheckReport {
            ok: true,
            items: vec![CheckItem::new("sandbox", true, sentence)],
            capability: serde_json::json!({"sandbox": true, "script": self.config}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_the_same_every_time_and_about_as_often_as_asked() {
        let sandbox = Sandbox::new(
            &serde_json::json!({"seed": 7, "failure_ppm": 10_000, "retry_ppm": 50_000}),
            &Grants::default(),
        )
        .unwrap();
        let results: Vec<SendResult> = (0..100_000)
            .map(|person| sandbox.script(Act::Move, person, 1))
            .collect();
        let failed = results
            .iter()
            .filter(|result| matches!(result, SendResult::Failed(_)))
            .count();
        let retried = results
            .iter()
            .filter(|result| matches!(result, SendResult::Retry { .. }))
            .count();
        assert!((800..1200).contains(&failed), "{failed}");
        assert!((4500..5500).contains(&retried), "{retried}");
        let again: Vec<SendResult> = (0..100_000)
            .map(|person| sandbox.script(Act::Move, person, 1))
            .collect();
        assert_eq!(results, again);
        assert!((0..100_000).all(|person| !matches!(
            sandbox.script(Act::Move, person, 2),
            SendResult::Retry { .. }
        )));
    }

    #[tokio::test]
    async fn whoever_may_not_send_gives_everybody_back_without_waiting_for_an_answer() {
        let minute = serde_json::json!({"latency_ms": 60_000, "concurrency": 2});
        let sandbox = Sandbox::new(&minute, &Grants::default()).unwrap();
        let clock = crate::clock::Clock::system();
        let begun = clock.monotonic();
        let gate = SendGate {
            permit: crate::tasks::permit::PermitCell::default(),
            place: tidegate_orchestrator::hold::Place::rollout(
                uuid::Uuid::from_u128(1).into(),
                uuid::Uuid::from_u128(2).into(),
            ),
            lease: crate::connector::Lease::until(tidegate_orchestrator::permit::Deadline::after(
                clock.moment(),
                20_000,
            )),
            pace: None,
            clock,
        };
        let person = |index| Person {
            index: SlotIndex(index),
            turn: u32::from(index),
            attempt: 1,
            doubtful: false,
            key: format!("E{index}"),
            attributes: std::collections::BTreeMap::new(),
            remote_id: None,
        };
        let back = Mutex::new(Vec::new());
        let on_result = |index: SlotIndex, result| {
            assert!(matches!(result, SendResult::NotSent(_)), "{result:?}");
            back.lock().unwrap().push(index);
        };
        let people: Vec<Person> = (0..1024).map(person).collect();
        sandbox.send(Act::Move, people, &gate, &on_result).await;
        let all: Vec<SlotIndex> = (0..1024).map(SlotIndex).collect();
        assert_eq!(*back.lock().unwrap(), all);
        assert!(gate.clock.monotonic().0 - begun.0 < 10_000);
    }

    #[test]
    fn settings_that_are_not_known_are_refused() {
        let error =
            Sandbox::new(&serde_json::json!({"latency": 5}), &Grants::default()).unwrap_err();
        assert!(error.to_string().contains("latency"), "{error}");
    }
}
