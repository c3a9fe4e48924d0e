//! Authenticity: one file for each way in which a sender proves who it is.
//!
//! All of it is pure: bytes, keys and the time go in, and a proof or a refusal comes out. Keys are parsed once,
//! into types that cannot be wrong, and are never printed. Every comparison of secrets takes the same time.
//!
//! What each profile is worth, as `Trust` of `tidegate_policy::signal`:
//!
//! | profile | trust | since |
//! |---|---|---|
//! | `standard_webhooks` | `signed_fresh` | id and instant are under the signature |
//! | `stripe` | `signed_fresh` | the instant is under the signature, the id in the body |
//! | `jws` (security event tokens) | `signed_fresh` | issuer and id are under the signature and never come again |
//! | `bearer` (CloudEvents) | `authenticated_channel` | a secret comes along, and signs nothing |
//! | `github` | `signed` | neither instant nor delivery id is under the signature |
//! | `openpgp` (advisories) | `signed` | an old document is as well signed as a new one |
//!
//! `signed_fresh` also asks that the id was never seen: that is the store's. What has no signature is
//! `authenticated_channel` when we fetched it, or it came under a token, and `unauthenticated` otherwise.

pub mod bearer;
pub mod github;
pub mod jwks;
pub mod jws;
pub mod openpgp;
pub mod standard_webhooks;
pub mod stripe;

use std::fmt;

use aws_lc_rs::hmac;
use chrono::TimeDelta;
use thiserror::Error;
use tidegate_policy::time::Timestamp;

/// How far the instant of a webhook may be from ours, either way, the last second included. The
/// libraries of others accept the same.
pub const WINDOW: TimeDelta = TimeDelta::seconds(300);
/// The most signatures of one message that are looked at: each costs work that anybody can cause.
const SIGNATURES_MAX: usize = 16;
/// The longest header of a signature, in bytes.
const HEADER_MAX: usize = 4096;

/// Who sent a webhook was not proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WebhookRefusal {
    /// A header of the profile is missing.
    #[error("the header `{0}` is missing")]
    HeaderMissing(&'static str),
    /// A header is not what the profile says.
    #[error("the header `{0}` cannot be read")]
    HeaderInvalid(&'static str),
    /// Its instant is too far from now.
    #[error("its timestamp is more than 300 seconds from now")]
    Stale,
    /// No signature verifies under a key of the source.
    #[error("no signature verifies under a key of this source")]
    Forged,
    /// The bearer secret is none of those of the source.
    #[error("the bearer secret in `authorization` is none of this source's")]
    WrongSecret,
}

impl WebhookRefusal {
    /// Returns the stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::HeaderMissing(_) => "header_missing",
            Self::HeaderInvalid(_) => "header_invalid",
            Self::Stale => "stale",
            Self::Forged | Self::WrongSecret => "forged",
        }
    }
}

/// A key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct KeyRefused(&'static str);

/// A shared secret, ready for HMAC with SHA-256.
#[derive(Clone)]
pub struct Secret(Box<hmac::Key>);

impl Secret {
    /// Takes a secret as it was given out, which for GitHub and Stripe is the text itself.
    ///
    /// # Errors
    ///
    /// When it is so short that it could be guessed.
    pub fn from_text(text: &str) -> Result<Self, KeyRefused> {
        // 16 letters of base64 are 96 bits.
        if text.len() < 16 {
            return Err(KeyRefused("a secret has at least 16 bytes"));
        }
        Ok(Self::of(text.as_bytes()))
    }

    fn of(bytes: &[u8]) -> Self {
        Self(Box::new(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    fn verifies(&self, signed: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.0, signed, tag).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Checks that an instant in seconds is within the window.
fn check_fresh(sent_at: i64, now: Timestamp) -> Result<(), WebhookRefusal> {
    // In whole seconds, as senders count: a fraction of ours must not refuse the last of them.
    if now.timestamp().abs_diff(sent_at) > WINDOW.num_seconds().unsigned_abs() {
        return Err(WebhookRefusal::Stale);
    }
    Ok(())
}

/// Reads digits alone: `parse` also takes a sign, which would make two texts of one number.
fn seconds(written: &str) -> Option<i64> {
    let is_digits = !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then(|| written.parse().ok()).flatten()
}

/// Reads hexadecimal digits of a MAC of SHA-256.
fn hex(written: &str) -> Option<[u8; 32]> {
    let digest: tidegate_policy::Digest = written.parse().ok()?;
    Some(digest.0)
}
