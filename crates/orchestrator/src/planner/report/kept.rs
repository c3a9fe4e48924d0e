//! The sentence about those whom holds on some people of a wave keep back. Each hold is named with how many it
//! means itself: somebody whom several of them mean counts with each, and once in the sum.

use std::fmt;

use crate::hold::InForce;
use crate::ids::WaveNumber;
use crate::sentence::{grouped, people};

/// Writes who is kept back, by which holds.
pub(super) fn sentence(
    f: &mut fmt::Formatter<'_>,
    wave: WaveNumber,
    count: u64,
    holds: &[InForce],
) -> fmt::Result {
    let whom = |hold: &InForce| {
        hold.part
            .as_ref()
            .map_or_else(String::new, ToString::to_string)
    };
    match holds {
        [] => write!(
            f,
            "{} of wave {wave} were kept back by a hold that has ended, and are being let go",
            people(count)
        ),
        [hold] => write!(
            f,
            "a {} keeps {} of wave {wave} back ({}), and the wave does not pass without them: {}",
            hold.kind.name(),
            people(count),
            whom(hold),
            hold.reason
        ),
        several => {
            write!(
                f,
                "{} holds keep {} of wave {wave} back, and the wave does not pass without them: ",
                several.len(),
                people(count)
            )?;
            for (place, hold) in several.iter().enumerate() {
                let between = if place == 0 { "" } else { "; " };
                let how_many = hold.keeps.map_or_else(|| "some".to_owned(), grouped);
                write!(
                    f,
                    "{between}a {} {how_many} ({}): {}",
                    hold.kind.name(),
                    whom(hold),
                    hold.reason
                )?;
            }
            Ok(())
        }
    }
}
