//! GitHub: `X-Hub-Signature-256` over the raw body.
//!
//! Neither its delivery id nor an instant is under the signature, so whoever has one body can send it for ever:
//! it is worth `signed`, and what a repetition is known by is the digest of the body alone.

use tidegate_policy::Digest;

use super::{HEADER_MAX, Secret, WebhookRefusal, hex};

/// The header of the signature.
pub const SIGNATURE: &str = "x-hub-signature-256";
/// The header of the event's name.
pub const EVENT: &str = "x-github-event";

/// Checks a body under any of the secrets, and returns what a repetition is known by.
///
/// # Errors
///
/// When there is no such header, it cannot be read, or it verifies under none.
pub fn verify(
    secrets: &[Secret],
    signature: Option<&str>,
    body: &[u8],
) -> Result<Digest, WebhookRefusal> {
    let signature = signature.ok_or(WebhookRefusal::HeaderMissing(SIGNATURE))?;
    let written = signature.strip_prefix("sha256=");
    let written = written.filter(|written| written.len() <= HEADER_MAX);
    let tag = written
        .and_then(hex)
        .ok_or(WebhookRefusal::HeaderInvalid(SIGNATURE))?;
    if secrets.iter().any(|secret| secret.verifies(body, &tag)) {
        return Ok(Digest::of(body));
    }
    Err(WebhookRefusal::Forged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VECTOR: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn secret(text: &str) -> Secret {
        Secret::from_text(text).unwrap()
    }

    #[test]
    fn the_vector_of_github_verifies() {
        let secrets = [
            secret("another secret of them"),
            secret("It's a Secret to Everybody"),
        ];
        let verified = verify(&secrets, Some(VECTOR), b"Hello, World!");
        assert_eq!(verified, Ok(Digest::of(b"Hello, World!")));
        let forged = verify(&secrets, Some(VECTOR), b"Hello, World?");
        assert_eq!(forged, Err(WebhookRefusal::Forged));
        assert_eq!(
            verify(&[], Some(VECTOR), b"Hello, World!"),
            Err(WebhookRefusal::Forged),
            "no key proves nothing"
        );
    }

    #[test]
    fn a_signature_of_another_scheme_is_refused() {
        let secrets = [secret("It's a Secret to Everybody")];
        let bare = VECTOR.trim_start_matches("sha256=");
        for header in ["", "sha1=aa", "sha256=", "sha256=zz", bare] {
            let refused = verify(&secrets, Some(header), b"Hello, World!").unwrap_err();
            assert_eq!(refused.code(), "header_invalid");
        }
        let refused = verify(&secrets, None, b"Hello, World!").unwrap_err();
        assert_eq!(refused.code(), "header_missing");
        assert!(Secret::from_text("short").is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_verify(header in ".*", body in any::<Vec<u8>>()) {
            let secrets = [secret("It's a Secret to Everybody")];
            prop_assert!(verify(&secrets, Some(&header), &body).is_err());
        }
    }
}
