//! Numbers and instants as a person reads them at three in the morning.

use crate::ids::Timestamp;

/// Writes a count with its thousands apart: `1,500,000`.
#[must_use]
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes a count of people: `1 person`, `1,500 people`.
#[must_use]
pub fn people(count: u64) -> String {
    match count {
        1 => "1 person".to_owned(),
        other => format!("{} people", grouped(other)),
    }
}

/// Writes an instant to the minute in UTC: `2026-11-24 02:30Z`.
#[must_use]
pub fn instant(at: Timestamp) -> String {
    at.format("%Y-%m-%d %H:%MZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::from_millis;

    #[test]
    fn thousands_stand_apart() {
        for (count, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_500_000, "1,500,000"),
        ] {
            assert_eq!(grouped(count), text);
        }
    }

    #[test]
    fn one_person_is_not_people() {
        assert_eq!(people(1), "1 person");
        assert_eq!(people(12_000), "12,000 people");
    }

    #[test]
    fn an_instant_reads_to_the_minute() {
        assert_eq!(instant(from_millis(0).unwrap()), "1970-01-01 00:00Z");
    }
}
