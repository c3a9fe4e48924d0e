//! A shared secret in `Authorization: Bearer …`: who sent it is known, and nothing of what was sent is signed.
//!
//! Worth: `authenticated_channel`. A secret in the address is refused: addresses are written into logs.

use aws_lc_rs::constant_time;
use sha2::{Digest as _, Sha256};

use super::{KeyRefused, WebhookRefusal};

/// The header.
pub const AUTHORIZATION: &str = "authorization";
/// The least length of a secret: 16 letters of base64 are 96 bits.
const SECRET_MIN: usize = 16;

/// A secret that senders prove themselves with.
#[derive(Clone)]
pub struct Bearer(String);

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer")
    }
}

impl Bearer {
    /// Takes a secret as it was given out.
    ///
    /// # Errors
    ///
    /// When it is so short that it could be guessed, or no header could carry it.
    pub fn parse(written: &str) -> Result<Self, KeyRefused> {
        if written.len() < SECRET_MIN {
            return Err(KeyRefused("a secret has at least 16 bytes"));
        }
        if !written.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeyRefused(
                "a bearer secret has no blanks and is plain ASCII",
            ));
        }
        Ok(Self(written.to_owned()))
    }
}

/// Checks a header under any of the secrets. All of them are looked at, so that time tells nothing.
///
/// # Errors
///
/// When it is missing, is no bearer secret, or is none of these.
pub fn verify(secrets: &[Bearer], header: Option<&str>) -> Result<(), WebhookRefusal> {
    let header = header.ok_or(WebhookRefusal::HeaderMissing(AUTHORIZATION))?;
    let given = header.split_once(' ');
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let (_, given) = given.ok_or(WebhookRefusal::HeaderInvalid(AUTHORIZATION))?;
    let same = secrets
        .iter()
        .filter(|secret| is_same(&secret.0, given.trim()))
        .count();
    if same == 0 {
        return Err(WebhookRefusal::WrongSecret);
    }
    Ok(())
}

/// Compares two texts in a time that says nothing of either, their digests being of one length.
#[must_use]
pub fn is_same(ours: &str, given: &str) -> bool {
    let digest = |text: &str| Sha256::digest(text.as_bytes());
    constant_time::verify_slices_are_equal(&digest(ours), &digest(given)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_of_the_secrets_is_enough_and_nothing_else_is() {
        let secrets = ["an-old-secret-of-theirs", "a-new-secret-of-theirs"]
            .map(|secret| Bearer::parse(secret).unwrap());
        for fine in [
            "Bearer an-old-secret-of-theirs",
            "bearer a-new-secret-of-theirs",
        ] {
            assert_eq!(verify(&secrets, Some(fine)), Ok(()));
        }
        for forged in ["Bearer ", "Bearer an-old-secret-of-their", "Bearer x"] {
            assert_eq!(
                verify(&secrets, Some(forged)),
                Err(WebhookRefusal::WrongSecret)
            );
        }
        for none in ["an-old-secret-of-theirs", "Basic an-old-secret-of-theirs"] {
            let refused = verify(&secrets, Some(none));
            assert_eq!(refused, Err(WebhookRefusal::HeaderInvalid(AUTHORIZATION)));
        }
        assert!(verify(&secrets, None).is_err());
        assert!(verify(&[], Some("Bearer an-old-secret-of-theirs")).is_err());
    }

    #[test]
    fn what_could_be_guessed_is_no_secret() {
        assert!(Bearer::parse("short").is_err());
        assert!(Bearer::parse("a secret with blanks in it").is_err());
    }
}
