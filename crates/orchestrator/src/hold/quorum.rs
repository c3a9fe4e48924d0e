//! Who must say yes, and whose yes counts: for the end of a halt, and for whatever else takes several people.
//!
//! Nothing here knows what the yes is to. A yes counts while its seat is still the one it was given in, it
//! came in time, and whoever asked is somebody else.

use std::collections::BTreeSet;
use std::fmt;

use thiserror::Error;

use super::release::Seat;
use super::requirement::is_same;
use super::terms::Group;
use crate::ids::{Principal, Timestamp};

/// One person's yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Who, and the seat they had.
    pub by: Seat,
    /// When.
    pub at: Timestamp,
    /// The seat their token has now; none when it was revoked.
    pub group_now: Option<Group>,
}

impl Approval {
    /// Says whether the seat is still the one in which it was given.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.by.group.is_some() && self.group_now == self.by.group
    }
}

/// What still has to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// So many more people.
    pub people: u32,
    /// One of each of these groups.
    pub groups: Vec<Group>,
    /// Whose approval does not count any more.
    pub lost: Vec<Principal>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.people {
            0 => f.write_str("nobody is missing by number")?,
            1 => f.write_str("one more person")?,
            more => write!(f, "{more} more people")?,
        }
        if !self.groups.is_empty() {
            let names: Vec<&str> = self.groups.iter().map(|group| group.name()).collect();
            write!(f, "; nobody yet of {}", names.join(" and "))?;
        }
        for person in &self.lost {
            write!(f, "; `{person}` has lost the role they approved in")?;
        }
        Ok(())
    }
}

/// How many people must say yes, of which groups, and by when.
#[derive(Debug, Clone, Copy)]
pub struct Needed<'a> {
    /// So many, none of whom asked.
    pub people: u32,
    /// At least one of each of these.
    pub groups: &'a BTreeSet<Group>,
    /// Before this instant.
    pub until: Timestamp,
}

/// Returns when enough people had said yes whose yes still counts.
///
/// # Errors
/// With what is missing.
pub fn quorum(
    asked: &Seat,
    approvals: &[Approval],
    needed: Needed<'_>,
) -> Result<Timestamp, Missing> {
    let mut people: BTreeSet<String> = BTreeSet::new();
    let mut groups: BTreeSet<Group> = BTreeSet::new();
    let count = usize::try_from(needed.people).unwrap_or(usize::MAX);
    let in_time = |one: &&Approval| one.counts() && one.at < needed.until;
    for approval in approvals.iter().filter(in_time) {
        if is_same(&approval.by.person, &asked.person) {
            continue;
        }
        people.insert(approval.by.person.as_str().trim().to_lowercase());
        groups.extend(approval.by.group);
        if people.len() >= count && groups.is_superset(needed.groups) {
            return Ok(approval.at);
        }
    }
    let lost = approvals.iter().filter(|one| !one.counts());
    Err(Missing {
        people: u32::try_from(count.saturating_sub(people.len())).unwrap_or(u32::MAX),
        groups: needed.groups.difference(&groups).copied().collect(),
        lost: lost.map(|one| one.by.person.clone()).collect(),
    })
}

/// Why somebody's yes would not count.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoYes {
    /// Machines, auditors and administrators have no seat.
    #[error(
        "`{0}` has no seat in security, operations or approvers: neither machines nor auditors nor administrators approve"
    )]
    NoSeat(Principal),
    /// Whoever asked does not approve.
    #[error("`{0}` asked for this, and so does not approve it: somebody else must")]
    Asker(Principal),
    /// A seat made for the purpose.
    #[error("token `{0}` was made after this was asked for: who is asked was settled by then")]
    SeatTooNew(Principal),
    /// One person is one person.
    #[error("`{0}` has approved this with another token: one person counts once")]
    SamePerson(Principal),
}

/// Decides whether somebody's yes to what `asked` asked for at `at` is taken; says whether it is a new one.
///
/// # Errors
/// When it would not count, with the reason why.
pub fn may_say_yes(
    (asked, at): (&Seat, Timestamp),
    given: &[Approval],
    by: &Seat,
) -> Result<bool, NoYes> {
    if by.group.is_none() {
        return Err(NoYes::NoSeat(by.token.clone()));
    }
    if is_same(&asked.person, &by.person) {
        return Err(NoYes::Asker(by.person.clone()));
    }
    if by.since > at {
        return Err(NoYes::SeatTooNew(by.token.clone()));
    }
    match given.iter().find(|one| is_same(&one.by.person, &by.person)) {
        None => Ok(true),
        Some(approval) if approval.by.token == by.token => Ok(false),
        Some(_) => Err(NoYes::SamePerson(by.person.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::from_millis;

    fn at(seconds: i64) -> Timestamp {
        from_millis(seconds * 1000).unwrap()
    }

    fn seat(token: &str, person: &str, group: Option<Group>) -> Seat {
        Seat {
            token: Principal::new(token),
            person: Principal::new(person),
            group,
            since: at(0),
        }
    }

    fn yes(token: &str, group: Group, seconds: i64) -> Approval {
        Approval {
            by: seat(token, token, Some(group)),
            at: at(seconds),
            group_now: Some(group),
        }
    }

    fn asker() -> Seat {
        seat("asker", "Meier", Some(Group::Approvers))
    }

    fn needed(groups: &BTreeSet<Group>) -> Needed<'_> {
        Needed {
            people: 2,
            groups,
            until: at(100),
        }
    }

    #[test]
    fn two_people_of_both_groups_in_time_are_enough_from_the_second_on() {
        let groups = [Group::Security, Group::Operations].into();
        let mut given = vec![yes("lind", Group::Security, 10)];
        let missing = quorum(&asker(), &given, needed(&groups)).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "one more person; nobody yet of operations"
        );
        given.push(yes("okafor", Group::Operations, 20));
        given.push(yes("third", Group::Approvers, 30));
        assert_eq!(quorum(&asker(), &given, needed(&groups)), Ok(at(20)));
    }

    #[test]
    fn the_asker_the_late_and_whoever_lost_the_seat_count_nothing() {
        let groups = [Group::Security].into();
        let own = Approval {
            by: seat("another token", " meier", Some(Group::Security)),
            ..yes("own", Group::Security, 1)
        };
        let late = yes("late", Group::Security, 100);
        let lost = Approval {
            group_now: None,
            ..yes("lost", Group::Security, 2)
        };
        let missing = quorum(&asker(), &[own, lost, late], needed(&groups)).unwrap_err();
        assert_eq!((missing.people, missing.lost.len()), (2, 1));
    }

    #[test]
    fn a_yes_that_would_not_count_is_not_taken() {
        let given = [yes("lind", Group::Security, 10)];
        let may = |by: &Seat| may_say_yes((&asker(), at(5)), &given, by);
        assert!(matches!(
            may(&seat("bot", "bot", None)),
            Err(NoYes::NoSeat(_))
        ));
        let own = seat("second token", "MEIER ", Some(Group::Security));
        assert!(matches!(may(&own), Err(NoYes::Asker(_))));
        let mut new = seat("new", "new", Some(Group::Security));
        new.since = at(6);
        assert!(matches!(may(&new), Err(NoYes::SeatTooNew(_))));
        let twice = seat("lind-phone", "Lind", Some(Group::Operations));
        assert!(matches!(may(&twice), Err(NoYes::SamePerson(_))));
        assert_eq!(may(&seat("lind", "lind", Some(Group::Security))), Ok(false));
        assert_eq!(
            may(&seat("okafor", "okafor", Some(Group::Operations))),
            Ok(true)
        );
    }
}
