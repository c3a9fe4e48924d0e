//! Attributes of people: the types a column can have, and typed values.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The type of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttributeType {
    /// Any text.
    Text,
    /// True or false.
    Boolean,
    /// A whole number.
    Integer,
    /// A day.
    Date,
    /// The directory id of another member.
    Reference,
}

impl AttributeType {
    /// Returns the name of the type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Date => "date",
            Self::Reference => "reference",
        }
    }

    /// Reads a value of this type; `None` when the text is none.
    #[must_use]
    pub fn parse(self, text: &str) -> Option<AttributeValue> {
        match self {
            Self::Text | Self::Reference => Some(AttributeValue::Text(text.to_owned())),
            Self::Boolean => match text {
                "true" | "TRUE" | "True" | "1" | "yes" => Some(AttributeValue::Boolean(true)),
                "false" | "FALSE" | "False" | "0" | "no" => Some(AttributeValue::Boolean(false)),
                _ => None,
            },
            Self::Integer => text.parse().ok().map(AttributeValue::Integer),
            Self::Date => days_of(text).map(AttributeValue::Date),
        }
    }
}

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttributeValue {
    /// Text, or the directory id of another member.
    Text(String),
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Days since 1970-01-01.
    Date(i32),
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Boolean(truth) => truth.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Date(days) => {
                let (year, month, day) = civil_of(*days);
                write!(f, "{year:04}-{month:02}-{day:02}")
            }
        }
    }
}

/// Reads `YYYY-MM-DD` as days since 1970-01-01 (proleptic Gregorian; the algorithm is Howard Hinnant's
/// `days_from_civil`).
#[must_use]
pub fn days_of(text: &str) -> Option<i32> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 || month.len() != 2 || day.len() != 2 {
        return None;
    }
    let (year, month, day): (i32, i32, i32) =
        (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    let days = days_from_civil(year, month, day);
    // A day that does not exist comes back as another one.
    (civil_of(days) == (year, month, day)).then_some(days)
}

const fn days_from_civil(year: i32, month: i32, day: i32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_of(days: i32) -> (i32, i32, i32) {
    let days = i64::from(days) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (narrow(year), narrow(month), narrow(day))
}

fn narrow(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_read_back_and_days_that_do_not_exist_are_refused() {
        for text in [
            "1970-01-01",
            "2000-02-29",
            "2026-11-24",
            "1900-03-01",
            "9999-12-31",
            "0001-01-01",
        ] {
            assert_eq!(
                AttributeValue::Date(days_of(text).unwrap()).to_string(),
                text
            );
        }
        assert_eq!(days_of("1970-01-02"), Some(1));
        for text in [
            "2026-02-29",
            "2026-13-01",
            "26-01-01",
            "2026-1-1",
            "today",
            "2026-01-01-01",
            "",
        ] {
            assert_eq!(days_of(text), None, "{text}");
        }
    }

    #[test]
    fn each_type_reads_its_own_values_only() {
        assert_eq!(
            AttributeType::Boolean.parse("true"),
            Some(AttributeValue::Boolean(true))
        );
        assert_eq!(AttributeType::Boolean.parse("maybe"), None);
        assert_eq!(
            AttributeType::Integer.parse("-7"),
            Some(AttributeValue::Integer(-7))
        );
        assert_eq!(AttributeType::Integer.parse("7.5"), None);
        assert_eq!(
            AttributeType::Text.parse("7"),
            Some(AttributeValue::Text("7".to_owned()))
        );
    }
}
