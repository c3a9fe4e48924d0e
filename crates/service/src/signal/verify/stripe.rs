//! The way of Stripe: `Stripe-Signature: t=…,v1=…`, over the instant and the raw body.
//!
//! Other schemes in the header are passed over: they are weaker, and whoever could choose one would. The instant
//! is under the signature and the id is in the body: `signed_fresh`.

use tidegate_policy::time::Timestamp;

use super::{HEADER_MAX, SIGNATURES_MAX, Secret, WebhookRefusal, check_fresh, hex, seconds};

/// The header of the signature.
pub const SIGNATURE: &str = "stripe-signature";

/// Checks a body under any of the secrets, and returns when it was sent, in seconds since 1970.
///
/// # Errors
///
/// When there is no such header, it cannot be read, is stale, or verifies under none.
pub fn verify(
    secrets: &[Secret],
    signature: Option<&str>,
    body: &[u8],
    now: Timestamp,
) -> Result<i64, WebhookRefusal> {
    let header = signature.ok_or(WebhookRefusal::HeaderMissing(SIGNATURE))?;
    let invalid = WebhookRefusal::HeaderInvalid(SIGNATURE);
    if header.len() > HEADER_MAX {
        return Err(invalid);
    }
    let parts = header
        .split(',')
        .filter_map(|part| part.trim().split_once('='));
    let mut instants = parts.clone().filter(|(scheme, _)| *scheme == "t");
    // Of two instants one could be checked and the other signed.
    let written = match (instants.next(), instants.next()) {
        (Some((_, written)), None) => written,
        (None, _) | (Some(_), Some(_)) => return Err(invalid),
    };
    let sent_at = seconds(written).ok_or(invalid)?;
    check_fresh(sent_at, now)?;
    let mut signed = Vec::with_capacity(written.len() + 1 + body.len());
    signed.extend_from_slice(written.as_bytes());
    signed.push(b'.');
    signed.extend_from_slice(body);
    let tags = parts
        .filter(|(scheme, _)| *scheme == "v1")
        .take(SIGNATURES_MAX);
    let is_genuine = tags
        .filter_map(|(_, tag)| hex(tag))
        .any(|tag| secrets.iter().any(|secret| secret.verifies(&signed, &tag)));
    if is_genuine {
        return Ok(sent_at);
    }
    Err(WebhookRefusal::Forged)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_706_000_000;
    const OURS: &str = "whsec_of_the_way_of_stripe";

    fn tag(key: &str, sent_at: i64, body: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        let tag = hmac::sign(&key, format!("{sent_at}.{body}").as_bytes());
        tag.as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    fn check(header: &str) -> Result<i64, WebhookRefusal> {
        let secrets = [Secret::from_text(OURS).unwrap()];
        let now = Timestamp::from_timestamp(NOW, 999_000_000).unwrap();
        verify(&secrets, Some(header), b"{}", now)
    }

    #[test]
    fn any_of_several_signatures_is_enough() {
        let (old, new) = (
            tag("an old secret of theirs", NOW, "{}"),
            tag(OURS, NOW, "{}"),
        );
        assert_eq!(check(&format!("t={NOW},v1={old},v1={new},v0=abc")), Ok(NOW));
        assert_eq!(
            check(&format!("t={NOW},v1={old}")),
            Err(WebhookRefusal::Forged)
        );
    }

    #[test]
    fn another_scheme_is_passed_over() {
        let ours = tag(OURS, NOW, "{}");
        assert_eq!(
            check(&format!("t={NOW},v0={ours}")),
            Err(WebhookRefusal::Forged)
        );
        assert_eq!(check(&format!("t={NOW}")), Err(WebhookRefusal::Forged));
    }

    #[test]
    fn three_hundred_seconds_either_way_are_fresh_and_one_more_is_not() {
        for (away, is_fresh) in [(299, true), (300, true), (301, false)] {
            for sent_at in [NOW - away, NOW + away] {
                let header = format!("t={sent_at},v1={}", tag(OURS, sent_at, "{}"));
                assert_eq!(check(&header).is_ok(), is_fresh, "{away}");
            }
        }
    }

    #[test]
    fn two_instants_are_refused() {
        let ours = tag(OURS, NOW, "{}");
        for header in [
            format!("t={NOW},t=1,v1={ours}"),
            format!("t=+{NOW},v1={ours}"),
            format!("v1={ours}"),
            String::new(),
        ] {
            assert_eq!(check(&header).unwrap_err().code(), "header_invalid");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_verify(header in ".*", tail in ".*") {
            prop_assert!(check(&header).is_err());
            let headed = format!("t={NOW},v1={tail}");
            prop_assert!(check(&headed).is_err());
        }
    }
}
