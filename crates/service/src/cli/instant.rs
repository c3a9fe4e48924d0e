//! Instants on the command line: as RFC 3339, or a plain day, which begins at midnight UTC.

use chrono::{NaiveDate, NaiveTime};
use tidegate_orchestrator::ids::Timestamp;

use super::error::CliError;

/// Reads the instant of an option.
///
/// # Errors
/// When it is none.
pub fn parsed(option: &str, text: &str) -> Result<Timestamp, CliError> {
    let text = text.trim();
    let day = || {
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        Some(day.and_time(NaiveTime::MIN).and_utc())
    };
    text.parse().ok().or_else(day).ok_or_else(|| {
        CliError::Usage(format!(
            "--{option}: `{text}` is no date: write a day such as 2026-12-24 (midnight UTC), or an instant such as \
             2026-12-24T09:00:00Z"
        ))
    })
}

/// Reads the instant of an option that may be missing.
///
/// # Errors
/// When it is given, and none.
pub fn given(option: &str, text: Option<&String>) -> Result<Option<Timestamp>, CliError> {
    text.map(|text| parsed(option, text)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_and_wrong_words_are_told_what_to_write() {
        let day = parsed("due", "2026-12-24").unwrap();
        assert_eq!(day.to_rfc3339(), "2026-12-24T00:00:00+00:00");
        assert_eq!(parsed("due", "2026-12-24T01:00:00+01:00").unwrap(), day);
        for wrong in ["tomorrow", "24.12.2026", "2026-13-01", ""] {
            let said = parsed("due", wrong).unwrap_err().to_string();
            assert!(
                said.contains("--due") && said.contains("2026-12-24"),
                "{said}"
            );
        }
        assert_eq!(given("due", None).unwrap(), None);
    }
}
