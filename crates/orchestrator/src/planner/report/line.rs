//! The lines a report is made of: for each a stable code and a sentence.

use std::collections::BTreeSet;
use std::fmt;

use crate::hold::{HoldKind, InForce};
use crate::ids::{Timestamp, WaveNumber};
use crate::sentence::{grouped, instant, people};

/// One thing to know about a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportLine {
    /// There is no plan yet.
    Draft,
    /// There is a plan, and nobody has started it.
    Planned,
    /// The ledger is being laid out.
    Preparing {
        /// The wave that is being laid out.
        wave: WaveNumber,
    },
    /// Every wave has passed.
    Completed {
        /// Since when.
        at: Timestamp,
    },
    /// Somebody ended it.
    Cancelled {
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
    },
    /// A hold is in force.
    Held {
        /// The hold.
        hold: InForce,
        /// The wave it covers, when it covers that wave alone.
        wave: Option<WaveNumber>,
    },
    /// Named waves go on although holds that are in force cover them.
    Exempt {
        /// The waves.
        waves: BTreeSet<WaveNumber>,
        /// Until when.
        until: Timestamp,
    },
    /// The gate of a wave failed.
    GateFailed {
        /// The wave.
        wave: WaveNumber,
        /// Why.
        because: String,
    },
    /// The failed people of a wave are being queued again.
    Retrying {
        /// The wave.
        wave: WaveNumber,
        /// How many are left.
        people: u64,
    },
    /// The target has asked everybody to wait.
    TargetClosed {
        /// Until when.
        until: Timestamp,
    },
    /// People are being moved.
    Moving {
        /// The wave.
        wave: WaveNumber,
        /// How many are on the way.
        in_flight: u64,
        /// How many have still to be begun.
        left: u64,
    },
    /// The wave is open, and its people have still to be taken up by a worker.
    Ready {
        /// The wave.
        wave: WaveNumber,
        /// How many have still to be begun.
        left: u64,
    },
    /// Everybody left in the wave has been put off.
    PutOff {
        /// The wave.
        wave: WaveNumber,
        /// How many.
        people: u64,
        /// Until when.
        until: Timestamp,
    },
    /// The tranche of a ramp is still being decided.
    TrancheUndecided {
        /// The wave.
        wave: WaveNumber,
        /// How many people the tranche holds.
        people: u64,
    },
    /// The tranche of a ramp rests.
    TrancheRests {
        /// The wave.
        wave: WaveNumber,
        /// How many people the tranche holds.
        people: u64,
        /// Until when.
        until: Timestamp,
    },
    /// The wave waits for its window.
    WindowClosed {
        /// The wave.
        wave: WaveNumber,
        /// When it opens next; `None`: never.
        next: Option<Timestamp>,
        /// Why it is closed.
        because: String,
    },
    /// The wave is about to open; another one has opened at this very instant.
    OpensNext {
        /// The wave.
        wave: WaveNumber,
    },
    /// Everybody has been begun; some are silent.
    Silent {
        /// The wave.
        wave: WaveNumber,
        /// How many have come to nothing yet.
        people: u64,
        /// Until when they are waited for.
        until: Timestamp,
    },
    /// The wave rests.
    Soaking {
        /// The wave.
        wave: WaveNumber,
        /// Until when.
        until: Timestamp,
    },
    /// The gate has nothing to judge by.
    NoEvidence {
        /// The wave.
        wave: WaveNumber,
        /// Why.
        because: String,
    },
    /// The gate has too little to judge by.
    Undecided {
        /// The wave.
        wave: WaveNumber,
        /// Why.
        because: String,
    },
    /// Everybody is decided, and the goal has not been shown.
    MissedGoal {
        /// The wave.
        wave: WaveNumber,
        /// Why.
        because: String,
        /// How many failed people could be tried again.
        failed: u64,
    },
    /// Only people's approval is missing.
    ApprovalMissing {
        /// The wave.
        wave: WaveNumber,
        /// How many there are of how many.
        because: String,
    },
    /// The people of the wave are being taken back.
    TakenBack {
        /// The wave.
        wave: WaveNumber,
        /// How many have still to be begun, and are not meanwhile.
        left: u64,
    },
    /// A hold keeps some people of the wave back; the others go on.
    Parked {
        /// The wave.
        wave: WaveNumber,
        /// How many are kept back, by all of these holds together.
        people: u64,
        /// The holds that keep them, the worst first; none: they have ended, and they are being let go.
        holds: Vec<InForce>,
    },
    /// A later wave waits for an earlier one to pass.
    Behind {
        /// The wave that opens next.
        wave: WaveNumber,
        /// The wave it waits for.
        waits_for: WaveNumber,
    },
}

impl ReportLine {
    /// Returns the stable code of the line.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Planned => "planned",
            Self::Preparing { .. } => "preparing",
            Self::Completed { .. } => "completed",
            Self::Cancelled { .. } => "cancelled",
            Self::Held { hold, .. } => match hold.kind {
                HoldKind::Halt => "halted",
                HoldKind::Pause => "paused",
                HoldKind::Freeze => "frozen",
                HoldKind::Gate => "gate_held",
            },
            Self::Exempt { .. } => "exempt",
            Self::GateFailed { .. } => "gate_failed",
            Self::Retrying { .. } => "retrying",
            Self::TargetClosed { .. } => "target_closed",
            Self::Moving { .. } => "moving",
            Self::Ready { .. } => "ready",
            Self::PutOff { .. } => "put_off",
            Self::TrancheUndecided { .. } => "tranche_undecided",
            Self::TrancheRests { .. } => "tranche_rests",
            Self::WindowClosed { next: None, .. } => "window_never",
            Self::WindowClosed { .. } => "window_closed",
            Self::OpensNext { .. } => "opens_next",
            Self::Silent { .. } => "silent",
            Self::Soaking { .. } => "soaking",
            Self::NoEvidence { .. } => "no_evidence",
            Self::Undecided { .. } => "undecided",
            Self::MissedGoal { .. } => "missed_goal",
            Self::ApprovalMissing { .. } => "approval_missing",
            Self::TakenBack { .. } => "taken_back",
            Self::Parked { .. } => "parked",
            Self::Behind { .. } => "behind",
        }
    }

    /// Returns the wave the line is about.
    #[must_use]
    pub const fn wave(&self) -> Option<WaveNumber> {
        match self {
            Self::Draft
            | Self::Planned
            | Self::Completed { .. }
            | Self::Cancelled { .. }
            | Self::Exempt { .. }
            | Self::TargetClosed { .. } => None,
            Self::Held { wave, .. } => *wave,
            Self::Preparing { wave }
            | Self::GateFailed { wave, .. }
            | Self::Retrying { wave, .. }
            | Self::Moving { wave, .. }
            | Self::Ready { wave, .. }
            | Self::PutOff { wave, .. }
            | Self::TrancheUndecided { wave, .. }
            | Self::TrancheRests { wave, .. }
            | Self::WindowClosed { wave, .. }
            | Self::OpensNext { wave }
            | Self::Silent { wave, .. }
            | Self::Soaking { wave, .. }
            | Self::NoEvidence { wave, .. }
            | Self::Undecided { wave, .. }
            | Self::MissedGoal { wave, .. }
            | Self::ApprovalMissing { wave, .. }
            | Self::TakenBack { wave, .. }
            | Self::Parked { wave, .. }
            | Self::Behind { wave, .. } => Some(*wave),
        }
    }

    /// Says whether the line tells of movement, and so is no reason why nothing moves.
    #[must_use]
    pub const fn is_movement(&self) -> bool {
        matches!(
            self,
            Self::Moving { .. }
                | Self::Ready { .. }
                | Self::Preparing { .. }
                | Self::OpensNext { .. }
        )
    }
}

/// The sentence of the line.
impl fmt::Display for ReportLine {
    #[expect(
        clippy::too_many_lines,
        reason = "the list of sentences is read as one; a part of it elsewhere would be forgotten"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draft => f.write_str("the rollout has no plan yet"),
            Self::Planned => f.write_str("the rollout is planned, and nobody has started it"),
            Self::Preparing { wave } => write!(f, "the ledger is being laid out, at wave {wave}"),
            Self::Completed { at } => {
                write!(f, "every wave has passed; completed {}", instant(*at))
            }
            Self::Cancelled { at, reason } => {
                write!(f, "the rollout was cancelled {}: {reason}", instant(*at))
            }
            Self::Held { hold, wave } => {
                let what = wave.map_or_else(String::new, |wave| format!(" on wave {wave}"));
                let since = instant(hold.since);
                let kind = match hold.kind {
                    HoldKind::Gate => "gate hold",
                    HoldKind::Freeze | HoldKind::Pause | HoldKind::Halt => hold.kind.name(),
                };
                write!(
                    f,
                    "a {kind}{what} has been in force since {since}: {}",
                    hold.reason
                )
            }
            Self::Exempt { waves, until } => {
                let waves: Vec<String> = waves.iter().map(ToString::to_string).collect();
                let (noun, verb) = if waves.len() == 1 {
                    ("wave", "goes")
                } else {
                    ("waves", "go")
                };
                let (waves, until) = (waves.join(", "), instant(*until));
                write!(
                    f,
                    "{noun} {waves} {verb} on until {until} under the holds in force: an exemption was given"
                )
            }
            Self::GateFailed { wave, because } => write!(
                f,
                "the gate of wave {wave} failed: {because}; retry the failed, or cancel"
            ),
            Self::Retrying { wave, people: left } => write!(
                f,
                "the failed people of wave {wave} are being queued again, {} left",
                grouped(*left)
            ),
            Self::TargetClosed { until } => {
                write!(
                    f,
                    "the target has asked everybody to wait until {}",
                    instant(*until)
                )
            }
            Self::Soaking { wave, until } => {
                write!(f, "wave {wave} rests until {}", instant(*until))
            }
            Self::OpensNext { wave } => {
                write!(f, "wave {wave} opens next; one wave opens at a time")
            }
            Self::TakenBack { wave, left } => write!(
                f,
                "wave {wave} is being taken back: {} are not begun meanwhile",
                people(*left)
            ),
            Self::Parked {
                wave,
                people: count,
                holds,
            } => super::kept::sentence(f, *wave, *count, holds),
            Self::Behind { wave, waits_for } => {
                write!(f, "wave {wave} opens after wave {waits_for} has passed")
            }
            Self::Moving {
                wave,
                in_flight,
                left,
            } => write!(
                f,
                "wave {wave} is moving: {} on the way, {} to begin",
                grouped(*in_flight),
                grouped(*left)
            ),
            Self::Ready { wave, left } => write!(
                f,
                "wave {wave} is open, and {} wait for a worker or for their turn in the rate",
                people(*left)
            ),
            Self::PutOff {
                wave,
                people: count,
                until,
            } => write!(
                f,
                "{} of wave {wave} are to be tried again from {}",
                people(*count),
                instant(*until)
            ),
            Self::TrancheUndecided {
                wave,
                people: count,
            } => write!(
                f,
                "the tranche of {} of wave {wave} has not been decided, and the next one waits for it",
                people(*count)
            ),
            Self::TrancheRests {
                wave,
                people: count,
                until,
            } => write!(
                f,
                "the tranche of {} of wave {wave} rests until {}",
                people(*count),
                instant(*until)
            ),
            Self::WindowClosed {
                wave,
                next: Some(next),
                because,
            } => write!(f, "wave {wave} waits until {}: {because}", instant(*next)),
            Self::WindowClosed {
                wave,
                next: None,
                because,
            } => write!(f, "wave {wave} never opens: {because}; change its schedule"),
            Self::Silent {
                wave,
                people: count,
                until,
            } => write!(
                f,
                "everybody of wave {wave} has been begun; {} still to answer, waited for \
                 until {}",
                people(*count),
                instant(*until)
            ),
            Self::NoEvidence { wave, because } => {
                write!(f, "the gate of wave {wave} has no evidence: {because}")
            }
            Self::Undecided { wave, because } => {
                write!(f, "the gate of wave {wave} is undecided: {because}")
            }
            Self::MissedGoal {
                wave,
                because,
                failed,
            } => write!(
                f,
                "wave {wave} missed its goal: {because}; retry the {} who failed, or cancel",
                grouped(*failed)
            ),
            Self::ApprovalMissing { wave, because } => {
                write!(
                    f,
                    "wave {wave} has shown what it must and waits for approval: {because}"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::*;
    use crate::hold::Scope;
    use crate::ids::{HoldId, from_millis};

    fn at(seconds: i64) -> Timestamp {
        from_millis(seconds * 1000).unwrap()
    }

    fn held(kind: HoldKind, wave: Option<WaveNumber>) -> ReportLine {
        let hold = InForce {
            by_rule: false,
            id: HoldId::new(Uuid::from_u128(1)),
            kind,
            scope: Scope::Everything,
            since: at(0),
            reason: "token theft".to_owned(),
            part: None,
            keeps: None,
        };
        ReportLine::Held { hold, wave }
    }

    fn stopped() -> Vec<ReportLine> {
        let wave = WaveNumber(2);
        let because = "97 of 100 people decided succeeded".to_owned();
        let reason = "another way".to_owned();
        let until = at(7200);
        vec![
            ReportLine::Draft,
            ReportLine::Planned,
            ReportLine::Preparing { wave },
            ReportLine::Completed { at: until },
            ReportLine::Cancelled { at: until, reason },
            held(HoldKind::Halt, None),
            held(HoldKind::Pause, Some(wave)),
            held(HoldKind::Freeze, None),
            ReportLine::Exempt {
                waves: [WaveNumber(2), WaveNumber(3)].into(),
                until,
            },
            held(HoldKind::Gate, None),
            ReportLine::GateFailed {
                wave,
                because: because.clone(),
            },
            ReportLine::Retrying { wave, people: 1200 },
            ReportLine::TargetClosed { until },
            ReportLine::NoEvidence {
                wave,
                because: because.clone(),
            },
            ReportLine::Undecided {
                wave,
                because: because.clone(),
            },
            ReportLine::MissedGoal {
                wave,
                because: because.clone(),
                failed: 3,
            },
            ReportLine::ApprovalMissing { wave, because },
            ReportLine::Behind {
                wave,
                waits_for: WaveNumber(1),
            },
        ]
    }

    fn under_way() -> Vec<ReportLine> {
        let wave = WaveNumber(2);
        let (people, left) = (1200, 40_000);
        let until = at(7200);
        let closed = |next| ReportLine::WindowClosed {
            wave,
            next,
            because: "the window is closed".to_owned(),
        };
        vec![
            ReportLine::Moving {
                wave,
                in_flight: people,
                left,
            },
            ReportLine::Ready { wave, left },
            ReportLine::PutOff {
                wave,
                people,
                until,
            },
            ReportLine::TrancheUndecided { wave, people },
            ReportLine::TrancheRests {
                wave,
                people,
                until,
            },
            closed(Some(until)),
            closed(None),
            ReportLine::OpensNext { wave },
            ReportLine::TakenBack { wave, left: 7 },
            ReportLine::Parked {
                wave,
                people,
                holds: Vec::new(),
            },
            ReportLine::Silent {
                wave,
                people: 1,
                until,
            },
            ReportLine::Soaking { wave, until },
        ]
    }

    #[test]
    fn every_line_has_its_own_code_and_a_sentence_a_person_understands() {
        let lines: Vec<_> = stopped().into_iter().chain(under_way()).collect();
        let codes: BTreeSet<_> = lines.iter().map(ReportLine::code).collect();
        assert_eq!(codes.len(), lines.len(), "a code was used twice");
        let text: Vec<_> = lines
            .iter()
            .map(|line| format!("{:<18} {line}", line.code()))
            .collect();
        insta::assert_snapshot!("report_lines", text.join("\n"));
    }
}
