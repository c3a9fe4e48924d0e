//! Refuses, when the plan is made, a gate that has nothing to show or can never be met.
//!
//! A gate that can never pass would be found out months later, in the middle of the night; a gate
//! without a condition would pass everything. Neither gets into a plan.

use thiserror::Error;

use crate::sentence::grouped;
use crate::wave::gate::{Gate, Ppm, bound};

/// Why a gate cannot stand in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GateFault {
    /// Nothing in the gate could ever stop the next wave.
    #[error(
        "the gate has no condition: state `success_at_least`, `failures_at_most`, `approvals` or a \
         metric, or the next wave would open whatever happened"
    )]
    NoCondition,
    /// The wave holds nobody, so its gate would judge nothing.
    #[error("the wave holds nobody, so its gate could never be shown anything")]
    EmptyWave,
    /// The sample asked for is larger than the wave.
    #[error("`sample_at_least` asks for {} people, and the wave holds {}", grouped(*.sample), grouped(*.people))]
    SampleLargerThanWave {
        /// What the gate asks for.
        sample: u64,
        /// What the wave holds.
        people: u64,
    },
    /// No sample shows a success of everybody.
    #[error(
        "`success_at_least` of 100 % can never be shown by a sample: use `failures_at_most: 0`"
    )]
    GoalIsEverybody,
    /// Any result would meet the goal.
    #[error("`success_at_least` of 0 % is no condition")]
    GoalIsNobody,
    /// Even a wave without one failure would not show the goal.
    #[error(
        "a success of {goal} can be shown with {confidence} confidence by no fewer than {} people, \
         and the wave holds {}: lower the goal or the confidence, or make the wave larger",
        grouped(*.needed), grouped(*.people)
    )]
    GoalOutOfReach {
        /// The goal of the gate.
        goal: Ppm,
        /// The confidence it must be shown with.
        confidence: Ppm,
        /// The smallest wave that could show it.
        needed: u64,
        /// What the wave holds.
        people: u64,
    },
    /// A bound below an even chance bounds nothing; certainty does not exist.
    #[error("`confidence` must be at least 50 % and below 100 %, and is {confidence}")]
    ConfidenceOutOfRange {
        /// The confidence given.
        confidence: Ppm,
    },
    /// An approval by nobody is no approval.
    #[error("`approvals` must ask for at least one person")]
    NoApprover,
    /// A metric without a limit measures for nothing.
    #[error("metric `{name}` has neither `at_most` nor `at_least`")]
    MetricWithoutLimit {
        /// The name of the metric.
        name: String,
    },
    /// A metric whose limits exclude each other never passes.
    #[error("metric `{name}` must be at least more than it may be at most")]
    MetricLimitsExclude {
        /// The name of the metric.
        name: String,
    },
}

impl GateFault {
    /// Returns the stable code of the fault.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoCondition => "gate_no_condition",
            Self::EmptyWave => "gate_empty_wave",
            Self::SampleLargerThanWave { .. } => "gate_sample_larger_than_wave",
            Self::GoalIsEverybody => "gate_goal_is_everybody",
            Self::GoalIsNobody => "gate_goal_is_nobody",
            Self::GoalOutOfReach { .. } => "gate_goal_out_of_reach",
            Self::ConfidenceOutOfRange { .. } => "gate_confidence_out_of_range",
            Self::NoApprover => "gate_no_approver",
            Self::MetricWithoutLimit { .. } => "gate_metric_without_limit",
            Self::MetricLimitsExclude { .. } => "gate_metric_limits_exclude",
        }
    }
}

impl Gate {
    /// Returns everything that makes this gate unfit for a wave of `people`; empty: it may stand.
    #[must_use]
    pub fn check(&self, people: u64) -> Vec<GateFault> {
        let mut faults = Vec::new();
        if !self.has_condition() {
            faults.push(GateFault::NoCondition);
        }
        if people == 0 {
            faults.push(GateFault::EmptyWave);
        } else if let Some(sample) = self.sample_at_least.filter(|sample| *sample > people) {
            faults.push(GateFault::SampleLargerThanWave { sample, people });
        }
        faults.extend(self.check_goal(people));
        if self
            .approvals
            .as_ref()
            .is_some_and(|terms| terms.count == 0)
        {
            faults.push(GateFault::NoApprover);
        }
        faults.extend(self.check_metrics());
        faults
    }

    /// Says whether anything in the gate could stop the next wave. A sample or a limit on silence
    /// alone would let a wave of failures pass.
    fn has_condition(&self) -> bool {
        self.success_at_least.is_some()
            || self.failures_at_most.is_some()
            || self.approvals.is_some()
            || !self.metrics.is_empty()
    }

    fn check_goal(&self, people: u64) -> Option<GateFault> {
        let goal = self.success_at_least?;
        let confidence = self.confidence;
        if !(Ppm::percent(50)..Ppm::percent(100)).contains(&confidence) {
            return Some(GateFault::ConfidenceOutOfRange { confidence });
        }
        if goal.get() == 0 {
            return Some(GateFault::GoalIsNobody);
        }
        let Some(needed) = bound::sample_needed(goal, confidence) else {
            return Some(GateFault::GoalIsEverybody);
        };
        (people > 0 && needed > people).then_some(GateFault::GoalOutOfReach {
            goal,
            confidence,
            needed,
            people,
        })
    }

    fn check_metrics(&self) -> Vec<GateFault> {
        let mut faults = Vec::new();
        for metric in &self.metrics {
            let name = metric.name.clone();
            match (metric.at_least_millionths, metric.at_most_millionths) {
                (None, None) => faults.push(GateFault::MetricWithoutLimit { name }),
                (Some(least), Some(most)) if least > most => {
                    faults.push(GateFault::MetricLimitsExclude { name });
                }
                (Some(_), _) | (_, Some(_)) => {}
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wave::gate::{ApprovalTerms, Limit, Metric};
    use crate::wave::soak::Seconds;

    #[track_caller]
    fn check_faults(gate: &Gate, people: u64, codes: &[&str]) {
        let found: Vec<_> = gate.check(people).iter().map(GateFault::code).collect();
        assert_eq!(found, codes);
    }

    fn failures(limit: Limit) -> Gate {
        Gate {
            failures_at_most: Some(limit),
            ..Gate::default()
        }
    }

    fn goal(goal: &str) -> Gate {
        Gate {
            success_at_least: Some(goal.parse().unwrap()),
            ..Gate::default()
        }
    }

    #[test]
    fn a_gate_without_a_condition_is_refused() {
        check_faults(&Gate::default(), 50, &["gate_no_condition"]);
        let gate = Gate {
            sample_at_least: Some(10),
            ..Gate::default()
        };
        check_faults(&gate, 50, &["gate_no_condition"]);
    }

    #[test]
    fn a_sample_larger_than_the_wave_is_refused() {
        let gate = Gate {
            sample_at_least: Some(51),
            ..failures(Limit::Count(0))
        };
        check_faults(&gate, 50, &["gate_sample_larger_than_wave"]);
        let gate = Gate {
            sample_at_least: Some(50),
            ..gate
        };
        check_faults(&gate, 50, &[]);
    }

    #[test]
    fn a_goal_that_a_flawless_wave_could_not_show_is_refused_with_the_size_it_needs() {
        check_faults(&goal("99.5%"), 598, &[]);
        check_faults(&goal("99.5%"), 597, &["gate_goal_out_of_reach"]);
        let sentence = goal("99.5%").check(500).remove(0).to_string();
        assert!(sentence.contains("no fewer than 598 people"), "{sentence}");
    }

    #[test]
    fn a_goal_of_everybody_or_nobody_is_refused() {
        check_faults(&goal("100%"), 1_000_000, &["gate_goal_is_everybody"]);
        check_faults(&goal("0%"), 1_000_000, &["gate_goal_is_nobody"]);
    }

    #[test]
    fn confidence_below_an_even_chance_or_certain_is_refused() {
        for confidence in ["49.9%", "100%"] {
            let confidence = confidence.parse().unwrap();
            let gate = Gate {
                confidence,
                ..goal("90%")
            };
            check_faults(&gate, 1_000_000, &["gate_confidence_out_of_range"]);
        }
    }

    #[test]
    fn an_empty_wave_has_nothing_to_show() {
        check_faults(&failures(Limit::Count(0)), 0, &["gate_empty_wave"]);
    }

    #[test]
    fn an_approval_by_nobody_is_refused() {
        let terms = ApprovalTerms {
            count: 0,
            from: Vec::new(),
        };
        let gate = Gate {
            approvals: Some(terms),
            ..Gate::default()
        };
        check_faults(&gate, 50, &["gate_no_approver"]);
    }

    #[test]
    fn a_metric_that_could_never_pass_or_never_fail_is_refused() {
        let metric = |least, most| Metric {
            name: "sign-ins".to_owned(),
            query: "rate(errors[5m])".to_owned(),
            at_least_millionths: least,
            at_most_millionths: most,
            age_max: Seconds(300),
        };
        let gate = Gate {
            metrics: vec![
                metric(None, None),
                metric(Some(2), Some(1)),
                metric(Some(1), Some(1)),
            ],
            ..Gate::default()
        };
        check_faults(
            &gate,
            50,
            &["gate_metric_without_limit", "gate_metric_limits_exclude"],
        );
    }
}
