//! How changes of slots go into the audit trail: runs of people that came to the same state.
//!
//! Version 1: `1`, then per batch: wave and sequence (4 bytes each), fence (8), the number of runs (2),
//! and per run first place (2), length (2) and state (1); all little-endian.

use super::codec::{FormatError, Reader};
use super::slots::{SlotIndex, Slots};
use super::state::SlotState;
use crate::ids::{BatchSeq, Fence, WaveNumber};

const VERSION: u8 = 1;

/// Neighbours that came to the same state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first of them.
    pub first: SlotIndex,
    /// How many.
    pub length: u16,
    /// The state they came to.
    pub state: SlotState,
}

/// What one turn changed in one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchChange {
    /// The wave.
    pub wave: WaveNumber,
    /// The batch in the wave.
    pub seq: BatchSeq,
    /// The fence after the turn.
    pub fence: Fence,
    /// Who changed, to what.
    pub runs: Vec<Run>,
}

/// Gathers the people in `changed` into runs by the state they are in now.
#[must_use]
pub fn runs(slots: &Slots, changed: &[SlotIndex]) -> Vec<Run> {
    let mut changed = changed.to_vec();
    changed.sort_unstable();
    changed.dedup();
    let mut runs: Vec<Run> = Vec::new();
    for index in changed {
        let Some(state) = slots.state(index) else {
            continue;
        };
        match runs.last_mut() {
            Some(run)
                if run.state == state && run.first.0.checked_add(run.length) == Some(index.0) =>
            {
                run.length += 1;
            }
            _ => runs.push(Run {
                first: index,
                length: 1,
                state,
            }),
        }
    }
    runs
}

/// Packs the changes of one turn.
#[must_use]
pub fn encode(changes: &[BatchChange]) -> Vec<u8> {
    let mut out = vec![VERSION];
    for change in changes {
        out.extend(change.wave.get().to_le_bytes());
        out.extend(change.seq.get().to_le_bytes());
        out.extend(change.fence.get().to_le_bytes());
        // A batch has at most 1,024 slots, so at most 1,024 runs.
        out.extend(
            u16::try_from(change.runs.len())
                .unwrap_or(u16::MAX)
                .to_le_bytes(),
        );
        for run in &change.runs {
            out.extend(run.first.0.to_le_bytes());
            out.extend(run.length.to_le_bytes());
            out.push(run.state.number());
        }
    }
    out
}

/// Unpacks the changes of one turn.
///
/// # Errors
///
/// Refuses bytes that `encode` of this or an earlier version did not write.
pub fn decode(bytes: &[u8]) -> Result<Vec<BatchChange>, FormatError> {
    let mut reader = Reader(bytes);
    let version = reader.byte()?;
    if version != VERSION {
        return Err(FormatError::Version(version));
    }
    let mut changes = Vec::new();
    while reader.end().is_err() {
        let wave = WaveNumber(u32::from_le_bytes(reader.array()?));
        let seq = BatchSeq(u32::from_le_bytes(reader.array()?));
        let fence = Fence(i64::from_le_bytes(reader.array()?));
        let count = u16::from_le_bytes(reader.array()?);
        let mut runs = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let first = SlotIndex(u16::from_le_bytes(reader.array()?));
            let length = u16::from_le_bytes(reader.array()?);
            let number = reader.byte()?;
            let state = SlotState::from_number(number).ok_or(FormatError::State(number))?;
            runs.push(Run {
                first,
                length,
                state,
            });
        }
        changes.push(BatchChange {
            wave,
            seq,
            fence,
            runs,
        });
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::from_millis;
    use crate::ledger::Outcome;

    #[test]
    fn a_turn_in_which_all_went_well_is_one_run() {
        let mut slots = Slots::new(1024);
        let now = from_millis(1_000).unwrap();
        let claimed = slots.claim(1024, u32::MAX, now);
        let outcomes: Vec<_> = claimed
            .iter()
            .map(|slot| (slot.index, Outcome::Done { adopted: false }))
            .collect();
        let recorded = slots.record(&outcomes, now);
        let runs = runs(&slots, &recorded.changed);
        assert_eq!(
            runs,
            [Run {
                first: SlotIndex(0),
                length: 1024,
                state: SlotState::Done
            }]
        );
        let change = BatchChange {
            wave: WaveNumber(3),
            seq: BatchSeq(9),
            fence: Fence(2),
            runs,
        };
        let bytes = encode(std::slice::from_ref(&change));
        // The bytes of version 1, which must decode for ever.
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "010300000009000000020000000000000001000000000403");
        assert_eq!(decode(&bytes).unwrap(), [change]);
    }

    #[test]
    fn cut_bytes_are_refused_by_name() {
        assert_eq!(decode(&[]), Err(FormatError::Truncated));
        assert_eq!(decode(&[9]), Err(FormatError::Version(9)));
        assert_eq!(decode(&[1, 0, 0]), Err(FormatError::Truncated));
    }
}
