//! Puts evidence against a gate: one finding per condition, the worst of them is the outcome.
//!
//! Every condition is evaluated even after one has failed, so that nothing hides behind the first
//! trouble. Nothing here remembers: latching is the rollout's business (`crate::rollout`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::Timestamp;
use crate::sentence::{grouped, people};
use crate::wave::gate::{Gate, Metric, Ppm, bound};

/// What one condition, or a whole gate, came to. The order is from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Shown to hold.
    Pass,
    /// Measured, and not enough to say.
    Undecided,
    /// Not measured at all, or not in a way that can be believed.
    NoEvidence,
    /// Shown not to hold.
    Fail,
}

impl Outcome {
    /// Returns the stable name of the outcome.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Undecided => "undecided",
            Self::NoEvidence => "no_evidence",
            Self::Fail => "fail",
        }
    }
}

/// Which condition of a gate a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Everybody the wave waits for has been decided.
    Settled,
    /// `sample_at_least`.
    Sample,
    /// `success_at_least`.
    Success,
    /// `failures_at_most`.
    Failures,
    /// `unknown_at_most`.
    Unknown,
    /// The metric of this name.
    Metric(String),
    /// `approvals`.
    Approvals,
}

impl Condition {
    /// Returns the name of the condition as operators read it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Settled => "settled",
            Self::Sample => "sample",
            Self::Success => "success",
            Self::Failures => "failures",
            Self::Unknown => "unknown",
            Self::Metric(name) => name,
            Self::Approvals => "approvals",
        }
    }
}

/// What is known about a wave, in people. The states of the ledger add up to these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// The roster without those skipped or departed.
    pub eligible: u64,
    /// Moved, as far as the last evidence goes.
    pub done: u64,
    /// Failed for good, waiting for a person's review, or found moved back.
    pub failed: u64,
    /// Never answered.
    pub unknown: u64,
    /// Still to be begun, on the way, or to be tried again.
    pub open: u64,
}

impl Counts {
    /// Returns how many people the evidence says anything about; the silent count as said.
    #[must_use]
    pub const fn decided(&self) -> u64 {
        self.done
            .saturating_add(self.failed)
            .saturating_add(self.unknown)
    }
}

/// What an outside measurement said, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// The value, or `None` when the measuring system could not give one.
    pub value: Option<f64>,
    /// When it was measured.
    pub at: Timestamp,
}

/// Everything a gate is judged by, and nothing else.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The people of the wave.
    pub counts: Counts,
    /// Distinct people who have approved, under the terms of the gate.
    pub approvals: u32,
    /// The newest reading of each metric by name.
    pub readings: BTreeMap<String, Reading>,
}

/// What one condition came to, with the sentence that says why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The condition.
    pub condition: Condition,
    /// What it came to.
    pub outcome: Outcome,
    /// Why, in one sentence with the figures in it.
    pub sentence: String,
}

/// What a gate came to: every finding, in the order of the conditions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Judgement {
    /// One finding per condition.
    pub findings: Vec<Finding>,
}

impl Judgement {
    /// Returns the worst outcome; a judgement without findings has no evidence, and never passes.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.findings
            .iter()
            .map(|f| f.outcome)
            .max()
            .unwrap_or(Outcome::NoEvidence)
    }

    /// Returns the first finding with the worst outcome.
    #[must_use]
    pub fn worst(&self) -> Option<&Finding> {
        let worst = self.outcome();
        self.findings
            .iter()
            .find(|finding| finding.outcome == worst)
    }

    /// Says whether everything but the approvals has passed, so that people may be asked.
    #[must_use]
    pub fn lacks_only_approvals(&self) -> bool {
        let (asked, measured): (Vec<_>, Vec<_>) = self
            .findings
            .iter()
            .partition(|f| f.condition == Condition::Approvals);
        asked
            .iter()
            .any(|finding| finding.outcome == Outcome::Undecided)
            && measured
                .iter()
                .all(|finding| finding.outcome == Outcome::Pass)
    }
}

impl Gate {
    /// Returns the limits crossed for certain, whoever is still to come: the reasons to stop now.
    ///
    /// It waits for no sample. Silence does not count here, because the silent may still answer.
    #[must_use]
    pub fn watch(&self, evidence: &Evidence, now: Timestamp) -> Judgement {
        let mut judgement = self.judge(evidence, now);
        judgement
            .findings
            .retain(|finding| finding.outcome == Outcome::Fail);
        judgement
    }

    /// Judges the wave by every condition of the gate.
    #[must_use]
    pub fn judge(&self, evidence: &Evidence, now: Timestamp) -> Judgement {
        let counts = &evidence.counts;
        let mut findings = vec![settled(counts)];
        findings.extend(
            self.sample_at_least
                .map(|sample| judge_sample(sample, counts)),
        );
        findings.extend(
            self.success_at_least
                .map(|goal| self.judge_success(goal, counts)),
        );
        findings.extend(self.judge_failures(counts));
        findings.push(self.judge_unknown(counts));
        for metric in &self.metrics {
            findings.push(judge_metric(
                metric,
                evidence.readings.get(&metric.name),
                now,
            ));
        }
        findings.extend(self.judge_approvals(evidence.approvals));
        Judgement { findings }
    }

    fn judge_success(&self, goal: Ppm, counts: &Counts) -> Finding {
        let decided = counts.decided();
        let (done, eligible) = (counts.done, counts.eligible);
        let needed = goal.ceil_of(eligible);
        if decided == 0 {
            return found(Condition::Success, Outcome::NoEvidence, nobody_decided());
        }
        if eligible.saturating_sub(counts.failed) < needed {
            let sentence = format!(
                "{} of {} failed, so a success of {goal} ({} people) is out of reach",
                grouped(counts.failed),
                people(eligible),
                grouped(needed),
            );
            return found(Condition::Success, Outcome::Fail, sentence);
        }
        let bound = bound::lower_bound(done, decided, self.confidence);
        let shown = bound::is_shown(done, decided, goal, self.confidence);
        let sentence = format!(
            "{} of {} decided succeeded, which shows {bound} with {} confidence; the goal is {goal}",
            grouped(done),
            people(decided),
            self.confidence,
        );
        let outcome = if shown {
            Outcome::Pass
        } else {
            Outcome::Undecided
        };
        found(Condition::Success, outcome, sentence)
    }

    fn judge_failures(&self, counts: &Counts) -> Option<Finding> {
        let limit = self.failures_at_most?;
        let allowed = limit.allowed(counts.eligible);
        let sentence = format!(
            "{} of {} failed; at most {} may ({limit})",
            grouped(counts.failed),
            people(counts.eligible),
            grouped(allowed),
        );
        if limit.is_crossed(counts.failed, counts.eligible) {
            return Some(found(Condition::Failures, Outcome::Fail, sentence));
        }
        if counts.decided() == 0 {
            return Some(found(
                Condition::Failures,
                Outcome::NoEvidence,
                nobody_decided(),
            ));
        }
        Some(found(Condition::Failures, Outcome::Pass, sentence))
    }

    fn judge_unknown(&self, counts: &Counts) -> Finding {
        let limit = self.unknown_at_most;
        let sentence = format!(
            "{} of {} never answered; at most {} may ({limit})",
            grouped(counts.unknown),
            people(counts.eligible),
            grouped(limit.allowed(counts.eligible)),
        );
        let crossed = limit.is_crossed(counts.unknown, counts.eligible);
        let outcome = if crossed {
            Outcome::Undecided
        } else {
            Outcome::Pass
        };
        found(Condition::Unknown, outcome, sentence)
    }

    fn judge_approvals(&self, approvals: u32) -> Option<Finding> {
        let terms = self.approvals.as_ref()?;
        let from = if terms.from.is_empty() {
            String::new()
        } else {
            format!(" from {}", terms.from.join(" or "))
        };
        let sentence = format!("{approvals} of {} approvals{from} given", terms.count);
        let given = approvals >= terms.count;
        let outcome = if given {
            Outcome::Pass
        } else {
            Outcome::Undecided
        };
        Some(found(Condition::Approvals, outcome, sentence))
    }
}

const fn found(condition: Condition, outcome: Outcome, sentence: String) -> Finding {
    Finding {
        condition,
        outcome,
        sentence,
    }
}

fn nobody_decided() -> String {
    "nobody has been decided yet".to_owned()
}

fn settled(counts: &Counts) -> Finding {
    if counts.eligible == 0 {
        let sentence = "nobody is left in the wave who could show anything".to_owned();
        return found(Condition::Settled, Outcome::NoEvidence, sentence);
    }
    let outcome = if counts.open > 0 {
        Outcome::Undecided
    } else {
        Outcome::Pass
    };
    let sentence = format!("{} still open", people(counts.open));
    found(Condition::Settled, outcome, sentence)
}

fn judge_sample(sample: u64, counts: &Counts) -> Finding {
    let decided = counts.decided();
    if decided == 0 {
        return found(Condition::Sample, Outcome::NoEvidence, nobody_decided());
    }
    let sentence = format!(
        "{} decided; the sample is complete at {}",
        people(decided),
        grouped(sample)
    );
    let outcome = if decided >= sample {
        Outcome::Pass
    } else {
        Outcome::Undecided
    };
    found(Condition::Sample, outcome, sentence)
}

fn judge_metric(metric: &Metric, reading: Option<&Reading>, now: Timestamp) -> Finding {
    let name = &metric.name;
    let condition = Condition::Metric(name.clone());
    let no_evidence = |why: &str| {
        let sentence = format!("`{name}` {why}, and no evidence never passes");
        found(
            Condition::Metric(name.clone()),
            Outcome::NoEvidence,
            sentence,
        )
    };
    let Some(reading) = reading else {
        return no_evidence("has not been measured");
    };
    let Some(value) = reading.value else {
        return no_evidence("could not be measured");
    };
    if !value.is_finite() {
        return no_evidence("was measured as nonsense");
    }
    // A reading from the future is a broken clock somewhere: as little evidence as an old one.
    if reading.at > now || now > metric.age_max.after(reading.at) {
        return no_evidence("was last measured too long ago");
    }
    let below = metric
        .at_least_millionths
        .is_some_and(|least| value < units(least));
    let above = metric
        .at_most_millionths
        .is_some_and(|most| value > units(most));
    let outcome = if below || above {
        Outcome::Fail
    } else {
        Outcome::Pass
    };
    let bounds = [
        metric
            .at_least_millionths
            .map(|least| format!("at least {}", units(least))),
        metric
            .at_most_millionths
            .map(|most| format!("at most {}", units(most))),
    ];
    let bounds: Vec<_> = bounds.into_iter().flatten().collect();
    let sentence = format!("`{name}` is {value}; it must be {}", bounds.join(" and "));
    found(condition, outcome, sentence)
}

/// Limits of metrics are far below 2^53 millionths in practice; beyond, they round as floats do.
fn units(millionths: i64) -> f64 {
    let magnitude = millionths.unsigned_abs();
    let high = u32::try_from(magnitude >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(magnitude & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    let value = (f64::from(high) * 4_294_967_296.0 + f64::from(low)) / 1_000_000.0;
    if millionths < 0 { -value } else { value }
}

#[cfg(test)]
mod tests;
