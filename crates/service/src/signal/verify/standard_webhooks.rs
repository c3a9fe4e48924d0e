//! Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
//!
//! Signed are id, instant of the attempt and body, divided by points. Any listed signature under any key of
//! the source is enough, so that keys can be changed without a gap. An honest repetition has the same id and
//! a new instant, three days later perhaps, so ids are kept by the store for ever: `signed_fresh`.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidegate_policy::time::Timestamp;

use super::{HEADER_MAX, KeyRefused, SIGNATURES_MAX, Secret, WebhookRefusal, check_fresh, seconds};

/// The header of the id.
pub const ID: &str = "webhook-id";
/// The header of the instant.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The header of the signatures.
pub const SIGNATURE: &str = "webhook-signature";
/// The longest id that is kept, in bytes.
const ID_MAX: usize = 512;

/// What a sender proves itself with.
#[derive(Debug, Clone)]
pub enum Key {
    /// A shared secret (`whsec_`).
    Secret(Secret),
    /// A public key of ed25519 (`whpk_`).
    Public(PublicKey),
}

/// A public key of ed25519.
#[derive(Clone)]
pub struct PublicKey([u8; 32]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey")
    }
}

impl Key {
    /// Reads a key as it is given out.
    ///
    /// # Errors
    ///
    /// When it is neither form, or of another length. A private key (`whsk_`) is refused, since it has no
    /// business with a receiver.
    pub fn parse(written: &str) -> Result<Self, KeyRefused> {
        let decoded = |encoded: &str| {
            let bytes = STANDARD.decode(encoded);
            bytes.map_err(|_| KeyRefused("the key is not base64"))
        };
        if let Some(encoded) = written.strip_prefix("whsec_") {
            let bytes = decoded(encoded)?;
            if !(24..=64).contains(&bytes.len()) {
                return Err(KeyRefused("a `whsec_` has 24 to 64 bytes"));
            }
            return Ok(Self::Secret(Secret::of(&bytes)));
        }
        let Some(encoded) = written.strip_prefix("whpk_") else {
            return Err(KeyRefused("a key begins with `whsec_` or `whpk_`"));
        };
        let bytes = decoded(encoded)?.try_into();
        bytes
            .map(|bytes| Self::Public(PublicKey(bytes)))
            .map_err(|_| KeyRefused("a `whpk_` has 32 bytes"))
    }

    fn verifies(&self, scheme: &str, signed: &[u8], signature: &[u8]) -> bool {
        match (self, scheme) {
            (Self::Secret(secret), "v1") => secret.verifies(signed, signature),
            (Self::Public(key), "v1a") => UnparsedPublicKey::new(&ED25519, key.0)
                .verify(signed, signature)
                .is_ok(),
            (Self::Secret(_) | Self::Public(_), _) => false,
        }
    }
}

/// The headers of a message, as they came.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a> {
    /// `webhook-id`.
    pub id: Option<&'a str>,
    /// `webhook-timestamp`.
    pub timestamp: Option<&'a str>,
    /// `webhook-signature`.
    pub signature: Option<&'a str>,
}

/// Checks a message under any of the keys, and returns its id.
///
/// # Errors
///
/// When a header is missing or cannot be read, the instant is stale, or nothing verifies.
pub fn verify<'a>(
    keys: &[Key],
    headers: Headers<'a>,
    body: &[u8],
    now: Timestamp,
) -> Result<&'a str, WebhookRefusal> {
    let id = headers.id.ok_or(WebhookRefusal::HeaderMissing(ID))?;
    let written = headers
        .timestamp
        .ok_or(WebhookRefusal::HeaderMissing(TIMESTAMP))?;
    let listed = headers
        .signature
        .ok_or(WebhookRefusal::HeaderMissing(SIGNATURE))?;
    // A point in an id would let two messages have the same signed bytes: `a.1` at 2, and `a` at `1.2`. The
    // instant is digits, so that cannot happen; the specification forbids such ids all the same.
    if id.is_empty() || id.len() > ID_MAX || id.contains(['.', ' ']) {
        return Err(WebhookRefusal::HeaderInvalid(ID));
    }
    if listed.len() > HEADER_MAX {
        return Err(WebhookRefusal::HeaderInvalid(SIGNATURE));
    }
    let sent_at = seconds(written).ok_or(WebhookRefusal::HeaderInvalid(TIMESTAMP))?;
    check_fresh(sent_at, now)?;
    let signed = signed_bytes(id, written, body);
    let signatures = listed
        .split(' ')
        .filter_map(|one| one.split_once(','))
        .take(SIGNATURES_MAX);
    let is_genuine = signatures
        .filter_map(|(scheme, encoded)| Some((scheme, STANDARD.decode(encoded).ok()?)))
        .any(|(scheme, signature)| {
            keys.iter()
                .any(|key| key.verifies(scheme, &signed, &signature))
        });
    if is_genuine {
        return Ok(id);
    }
    Err(WebhookRefusal::Forged)
}

/// Signs a message that we send, and returns the value of its `webhook-signature`.
#[must_use]
pub fn sign(secret: &Secret, id: &str, sent_at: Timestamp, body: &[u8]) -> String {
    let signed = signed_bytes(id, &sent_at.timestamp().to_string(), body);
    format!("v1,{}", STANDARD.encode(hmac::sign(&secret.0, &signed)))
}

fn signed_bytes(id: &str, sent_at: &str, body: &[u8]) -> Vec<u8> {
    let mut signed = Vec::with_capacity(id.len() + sent_at.len() + body.len() + 2);
    for (part, end) in [(id, b'.'), (sent_at, b'.')] {
        signed.extend_from_slice(part.as_bytes());
        signed.push(end);
    }
    signed.extend_from_slice(body);
    signed
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_706_000_000;

    fn secret(byte: u8) -> Secret {
        match Key::parse(&format!("whsec_{}", STANDARD.encode([byte; 24]))).unwrap() {
            Key::Secret(secret) => secret,
            Key::Public(_) => panic!("a secret"),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(seconds, 0).unwrap()
    }

    fn check(keys: &[Key], sent_at: &str, signature: &str) -> Result<(), WebhookRefusal> {
        let headers = Headers {
            id: Some("msg_1"),
            timestamp: Some(sent_at),
            signature: Some(signature),
        };
        verify(keys, headers, b"{}", at(NOW)).map(|_| ())
    }

    #[test]
    fn the_example_of_the_specification_verifies() {
        let key = Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let headers = Headers {
            id: Some("msg_p5jXN8AQM9LWM0D4loKWxJek"),
            timestamp: Some("1614265330"),
            signature: Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        };
        let body = br#"{"test": 2432232314}"#;
        let id = verify(&[key], headers, body, at(1_614_265_330)).unwrap();
        assert_eq!(id, "msg_p5jXN8AQM9LWM0D4loKWxJek");
    }

    #[test]
    fn three_hundred_seconds_either_way_are_fresh_and_one_more_is_not() {
        let keys = [Key::Secret(secret(1))];
        for (away, is_fresh) in [(299, true), (300, true), (301, false)] {
            for sent_at in [NOW - away, NOW + away] {
                let signature = sign(&secret(1), "msg_1", at(sent_at), b"{}");
                let checked = check(&keys, &sent_at.to_string(), &signature);
                let wanted = if is_fresh {
                    Ok(())
                } else {
                    Err(WebhookRefusal::Stale)
                };
                assert_eq!(checked, wanted, "{away}");
            }
        }
    }

    #[test]
    fn during_a_rotation_either_key_verifies_either_signature() {
        let old = sign(&secret(1), "msg_1", at(NOW), b"{}");
        let new = sign(&secret(2), "msg_1", at(NOW), b"{}");
        let both = format!("{old} {new}");
        let sent_at = NOW.to_string();
        for keys in [
            vec![Key::Secret(secret(1))],
            vec![Key::Secret(secret(2))],
            vec![Key::Secret(secret(3)), Key::Secret(secret(2))],
        ] {
            assert_eq!(check(&keys, &sent_at, &both), Ok(()));
        }
        let keys = [Key::Secret(secret(2))];
        assert_eq!(check(&keys, &sent_at, &old), Err(WebhookRefusal::Forged));
        assert_eq!(check(&[], &sent_at, &both), Err(WebhookRefusal::Forged));
    }

    #[test]
    fn a_signature_of_ed25519_verifies_under_its_public_key_alone() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public = STANDARD.encode(pair.public_key().as_ref());
        let keys = [Key::parse(&format!("whpk_{public}")).unwrap()];
        let signed = signed_bytes("msg_1", &NOW.to_string(), b"{}");
        let signature = STANDARD.encode(pair.sign(&signed));
        let sent_at = NOW.to_string();
        assert_eq!(check(&keys, &sent_at, &format!("v1a,{signature}")), Ok(()));
        let as_hmac = check(&keys, &sent_at, &format!("v1,{signature}"));
        assert_eq!(as_hmac, Err(WebhookRefusal::Forged));
    }

    #[test]
    fn a_public_key_is_no_shared_secret() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public = pair.public_key().as_ref();
        let keys = [Key::parse(&format!("whpk_{}", STANDARD.encode(public))).unwrap()];
        let forged = sign(&Secret::of(public), "msg_1", at(NOW), b"{}");
        let checked = check(&keys, &NOW.to_string(), &forged);
        assert_eq!(checked, Err(WebhookRefusal::Forged));
    }

    #[test]
    fn changing_id_instant_or_body_breaks_the_signature() {
        let keys = [Key::Secret(secret(1))];
        let (sent_at, later) = (NOW.to_string(), (NOW + 1).to_string());
        let signature = sign(&secret(1), "msg_1", at(NOW), b"{}");
        for (id, timestamp, body) in [
            ("msg_2", &sent_at, &b"{}"[..]),
            ("msg_1", &later, b"{}"),
            ("msg_1", &sent_at, b"{ }"),
        ] {
            let headers = Headers {
                id: Some(id),
                timestamp: Some(timestamp),
                signature: Some(&signature),
            };
            let forged = verify(&keys, headers, body, at(NOW));
            assert_eq!(forged, Err(WebhookRefusal::Forged));
        }
    }

    #[test]
    fn headers_that_are_missing_or_odd_are_refused() {
        let keys = [Key::Secret(secret(1))];
        let signature = sign(&secret(1), "msg_1", at(NOW), b"{}");
        for sent_at in ["", "+1706000000", "1706000000.0", "99999999999999999999"] {
            let refused = check(&keys, sent_at, &signature).unwrap_err();
            assert_eq!(refused, WebhookRefusal::HeaderInvalid(TIMESTAMP));
        }
        let headers = Headers {
            id: None,
            timestamp: None,
            signature: None,
        };
        let refused = verify(&keys, headers, b"{}", at(NOW)).unwrap_err();
        assert_eq!(refused, WebhookRefusal::HeaderMissing(ID));
    }

    #[test]
    fn keys_of_another_length_or_kind_are_refused() {
        let encoded = |length: usize| STANDARD.encode(vec![7; length]);
        for (length, is_key) in [(23, false), (24, true), (64, true), (65, false)] {
            let key = Key::parse(&format!("whsec_{}", encoded(length)));
            assert_eq!(key.is_ok(), is_key, "{length}");
        }
        assert!(Key::parse(&format!("whpk_{}", encoded(31))).is_err());
        assert!(Key::parse(&format!("whsk_{}", encoded(32))).is_err());
        assert!(Key::parse("whsec_§").is_err());
        let key = Key::parse(&format!("whsec_{}", encoded(24))).unwrap();
        assert_eq!(format!("{key:?}"), "Secret(Secret)", "never printed");
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_verify(id in ".*", sent_at in ".*", signature in ".*") {
            let keys = [Key::Secret(secret(1))];
            let headers = Headers {
                id: Some(&id),
                timestamp: Some(&sent_at),
                signature: Some(&signature),
            };
            let verified = verify(&keys, headers, b"{}", at(NOW));
            prop_assert!(verified.is_err());
            let _ = check(&keys, &NOW.to_string(), &format!("v1,{signature} v1a,{signature}"));
            let _ = Key::parse(&signature);
        }
    }
}
