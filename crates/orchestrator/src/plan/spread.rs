//! Seats for groups: how many people of each department a wave of an exact size takes.
//!
//! Seats are given one after the other to the group that is furthest behind its share (the divisor
//! method of Webster and Sainte-Laguë, <https://en.wikipedia.org/wiki/Sainte-Laguë_method>). Unlike the
//! method of largest remainders it never takes a seat away when there is one more to give, so that a
//! larger wave takes the same people and more.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A group that may get the next seat.
#[derive(Debug, PartialEq, Eq)]
struct Claim {
    people: u64,
    seats: u64,
    group: usize,
}

impl Claim {
    /// Whose turn it is: people for each of twice the seats and one more, compared without dividing.
    fn weight(&self, other: &Self) -> (u128, u128) {
        let divisor = |claim: &Self| u128::from(claim.seats) * 2 + 1;
        (
            u128::from(self.people) * divisor(other),
            u128::from(other.people) * divisor(self),
        )
    }
}

impl Ord for Claim {
    fn cmp(&self, other: &Self) -> Ordering {
        let (own, theirs) = self.weight(other);
        // The earlier group wins a tie.
        own.cmp(&theirs).then_with(|| other.group.cmp(&self.group))
    }
}

impl PartialOrd for Claim {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Gives `seats` seats to groups of these sizes; no group gets more than it has people.
pub(super) fn seats(groups: &[u64], seats: u64) -> Vec<u64> {
    let mut given = vec![0; groups.len()];
    let mut claims: BinaryHeap<Claim> = groups
        .iter()
        .enumerate()
        .filter(|(_, people)| **people > 0)
        .map(|(group, people)| Claim {
            people: *people,
            seats: 0,
            group,
        })
        .collect();
    for _ in 0..seats {
        let Some(mut claim) = claims.pop() else { break };
        claim.seats += 1;
        if let Some(seats) = given.get_mut(claim.group) {
            *seats = claim.seats;
        }
        if claim.seats < claim.people {
            claims.push(claim);
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seats_follow_the_sizes_of_the_groups() {
        assert_eq!(seats(&[600, 300, 100], 10), [6, 3, 1]);
        assert_eq!(seats(&[53, 24, 23], 7), [3, 2, 2]);
        assert_eq!(seats(&[1, 1, 0], 5), [1, 1, 0]);
        assert_eq!(seats(&[], 5), Vec::<u64>::new());
    }

    proptest! {
        #[test]
        fn one_more_seat_takes_none_away(groups in proptest::collection::vec(0_u64..500, 1..12), number in 0_u64..600) {
            let (fewer, more) = (seats(&groups, number), seats(&groups, number + 1));
            let all: u64 = groups.iter().sum();
            prop_assert_eq!(fewer.iter().sum::<u64>(), number.min(all));
            for (fewer, more) in fewer.iter().zip(&more) {
                prop_assert!(fewer <= more);
            }
        }
    }
}
