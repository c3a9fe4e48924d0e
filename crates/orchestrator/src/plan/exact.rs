//! Exactly so many people out of groups that must not be parted.
//!
//! Taking groups in their order until the next one no longer fits leaves a few places open: 100 out of
//! groups of 9 and of 10 cannot begin with a 9. The last groups taken are then chosen anew, as few of
//! them as will do, by the sums that groups can have (subset sum).

use std::collections::HashMap;

/// How many places are chosen anew at most: bounds the time to some tens of milliseconds.
const ANEW_MAX: u64 = 4096;

/// Chooses the last of those taken anew so that `missing` more people are in; `sizes` stands in the order
/// in which groups are wanted. Returns `false` and changes nothing when that cannot be done.
pub(super) fn fit(sizes: &[u64], is_taken: &mut [bool], missing: u64) -> bool {
    let taken: Vec<usize> = (0..sizes.len())
        .filter(|at| is_taken.get(*at) == Some(&true))
        .collect();
    let size = |at: usize| sizes.get(at).copied().unwrap_or(0);
    // How many of the last may be chosen anew, and the places there would be then.
    let mut places = vec![missing];
    for at in taken.iter().rev() {
        let more = places.last().copied().unwrap_or(0) + size(*at);
        if more > ANEW_MAX {
            break;
        }
        places.push(more);
    }
    let mut undone = 0;
    loop {
        let wanted = places.get(undone).copied().unwrap_or(missing);
        let (kept, anew) = taken.split_at(taken.len() - undone);
        let mut free = is_taken.to_vec();
        anew.iter()
            .filter_map(|at| free.get_mut(*at).map(|slot| *slot = false))
            .for_each(drop);
        let open = (0..sizes.len()).filter(|at| free.get(*at) == Some(&false));
        if let Some(chosen) = adding_up_to(wanted, open.map(|at| (at, size(at)))) {
            is_taken.fill(false);
            for at in kept.iter().chain(&chosen) {
                if let Some(slot) = is_taken.get_mut(*at) {
                    *slot = true;
                }
            }
            return true;
        }
        if undone + 1 == places.len() {
            return false;
        }
        undone = (undone * 2).clamp(undone + 1, places.len() - 1);
    }
}

/// Finds groups, those that are wanted first before others, whose sizes add up to `wanted`.
fn adding_up_to(wanted: u64, groups: impl Iterator<Item = (usize, u64)>) -> Option<Vec<usize>> {
    let wanted = usize::try_from(Some(wanted).filter(|wanted| *wanted <= ANEW_MAX)?).ok()?;
    // The group that made each sum possible first; those that make up the rest of the sum come earlier.
    let mut made_by: Vec<Option<(usize, usize)>> = vec![None; wanted + 1];
    if let Some(nobody) = made_by.first_mut() {
        *nobody = Some((0, 0));
    }
    let mut of_size: HashMap<usize, usize> = HashMap::new();
    for (at, size) in groups {
        let Ok(size) = usize::try_from(size) else {
            continue;
        };
        let alike = of_size.entry(size).or_default();
        if size == 0 || size > wanted || *alike >= wanted / size {
            continue;
        }
        *alike += 1;
        for sum in (size..=wanted).rev() {
            let is_possible = |sum: usize| made_by.get(sum).is_some_and(Option::is_some);
            if !is_possible(sum)
                && is_possible(sum - size)
                && let Some(group) = made_by.get_mut(sum)
            {
                *group = Some((at, size));
            }
        }
        if made_by.last().is_some_and(Option::is_some) {
            break;
        }
    }
    let mut chosen = Vec::new();
    let mut left = wanted;
    while left > 0 {
        let (at, size) = made_by.get(left).copied().flatten()?;
        chosen.push(at);
        left -= size;
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(sizes: &[u64], is_taken: &[bool]) -> u64 {
        let taken = sizes.iter().zip(is_taken).filter(|(_, taken)| **taken);
        taken.map(|(size, _)| size).sum()
    }

    #[test]
    fn a_hundred_out_of_nines_and_tens_are_ten_tens() {
        let sizes: Vec<u64> = (0..40).map(|at| 9 + at % 2).collect();
        // In order: 9, 10, 9, 10, … up to 95; nothing fits into the five places left.
        let mut is_taken: Vec<bool> = (0..40).map(|at| at < 10).collect();
        assert!(fit(&sizes, &mut is_taken, 5));
        assert_eq!(sum(&sizes, &is_taken), 100);
        assert!(
            !fit(&[9; 40], &mut [false; 40], 100),
            "no nines make a hundred"
        );
    }

    proptest! {
        #[test]
        fn what_can_be_had_exactly_is_had_exactly(sizes in prop::collection::vec(1_u64..9, 1..12), wanted in 1_u64..40) {
            let mut is_taken = vec![false; sizes.len()];
            let mut missing = wanted;
            for (size, taken) in sizes.iter().zip(&mut is_taken) {
                if *size <= missing {
                    missing -= size;
                    *taken = true;
                }
            }
            let before = is_taken.clone();
            let can_be = (0..1_u32 << sizes.len()).any(|set| {
                let chosen = sizes.iter().zip(0..).filter(|(_, at)| set & (1 << at) != 0);
                chosen.map(|(size, _)| size).sum::<u64>() == wanted
            });
            prop_assert_eq!(fit(&sizes, &mut is_taken, missing), can_be);
            if can_be {
                prop_assert_eq!(sum(&sizes, &is_taken), wanted);
            } else {
                prop_assert_eq!(is_taken, before);
            }
        }
    }
}
