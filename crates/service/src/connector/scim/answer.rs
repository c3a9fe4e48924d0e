//! What an answer of a SCIM server means: one table, and how long it wants to be left alone.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::connector::Trouble;

/// The longest pause a server is granted.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// What came of one request.
#[derive(Debug)]
pub(super) enum Answer<T> {
    /// It worked.
    Done(T),
    /// Somebody has that name already.
    Clash(Trouble),
    /// No, for good.
    Refused(Trouble),
    /// Not now; nothing was done.
    Busy {
        /// For how long, when the server said so.
        after: Option<Duration>,
        /// What it said.
        trouble: Trouble,
    },
    /// No answer, or one that does not tell whether it was done.
    Silent(Trouble),
    /// The server does not let us in: nobody's fault but ours.
    LockedOut(Trouble),
    /// Nobody reached the server: nothing was done.
    Unreachable(Trouble),
}

/// What kind of answer a status is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Clash,
    Refused,
    Busy,
    Silent,
    LockedOut,
}

/// Says what a status that is no success means. `is_write`: whether something may have been done.
pub(super) const fn class(status: u16, is_write: bool) -> Class {
    match status {
        409 => Class::Clash,
        429 | 503 => Class::Busy,
        401 | 403 => Class::LockedOut,
        // Not followed, because the credential would be: the address is wrong for everybody.
        300..=399 => Class::LockedOut,
        // Not the final word of a server about a person: look again, later.
        100..=199 | 408 | 412 | 423 | 425 | 500 | 502 | 504.. => {
            if is_write {
                Class::Silent
            } else {
                Class::Busy
            }
        }
        _ => Class::Refused,
    }
}

/// Reads `Retry-After`: whole seconds, seconds with a fraction, or a date (RFC 9110, 10.2.3; fractions
/// are what some servers send in fact).
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(now)
            .unwrap_or_default(),
    };
    Some(wait.min(PAUSE_MAX))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn every_status_has_its_meaning() {
        let mut table = String::new();
        for status in [
            101, 301, 307, 400, 401, 403, 404, 405, 408, 409, 412, 413, 415, 422, 423, 425, 429,
            500, 501, 502, 503, 504, 599,
        ] {
            table.push_str(&format!(
                "{status}  write {:?}  read {:?}\n",
                class(status, true),
                class(status, false)
            ));
        }
        insta::assert_snapshot!("scim_answers", table);
    }

    #[test]
    fn retry_after_is_read_as_an_integer_a_fraction_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_480);
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&headers, now)
        };
        assert_eq!(read("30"), Some(Duration::from_secs(30)));
        assert_eq!(read("2.128"), Some(Duration::from_millis(2128)));
        assert_eq!(
            read("Wed, 21 Oct 2015 07:28:30 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(read("Wed, 21 Oct 2015 07:27:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("99999999"), Some(PAUSE_MAX));
        for text in ["soon", "-5", "NaN", ""] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
