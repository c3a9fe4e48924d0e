//! Security event tokens as they come: compact JWS (RFC 7515), looked at first, verified second.
//!
//! A forged token costs a signature check, so what can be refused without one is: the form, the type, the
//! algorithm, and by the caller an issuer or a key that nobody knows. Until it is verified only that is told
//! which a caller needs to find the key; the claims come out of `verify` alone. A token says nothing about where
//! its key is or how it is used: `jku`, `jwk`, `x5u`, `x5c` and `crit` are refused, and the algorithm must be the
//! one of the key. Its type keeps identity and access tokens of the same issuer out. Next:
//! `tidegate_policy::dialect::security_event`, which checks the claims. Worth: `signed_fresh`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tidegate_policy::dialect::security_event::{SetError, SetRefusal};
use tidegate_policy::dialect::{json, text};

use super::jwks::{Algorithm, KID_MAX, Key};

/// The largest token, in bytes. Those of Shared Signals have one or two thousand.
pub const TOKEN_MAX: usize = 64 * 1024;
/// The largest header, in bytes as it is encoded.
const HEADER_MAX: usize = 4096;
/// The type that a header must have, with or without `application/`.
const TYPE: &str = "secevent+jwt";
/// Members of a header that would bring a key, or rules that are not known here.
const FORBIDDEN: [&str; 5] = ["jku", "jwk", "x5u", "x5c", "crit"];

/// A token of which nothing is proved yet.
#[derive(Debug, Clone)]
pub struct Unverified<'a> {
    algorithm: Algorithm,
    kid: String,
    claims: Value,
    signed: &'a [u8],
    signature: Vec<u8>,
}

/// Looks at a token without verifying it.
///
/// # Errors
///
/// When it is no compact JWS, no security event token, or of an algorithm that is not taken.
pub fn peek(body: &[u8]) -> Result<Unverified<'_>, SetRefusal> {
    let body = body.trim_ascii();
    if body.len() > TOKEN_MAX {
        return Err(request("too_large", "the token is too large"));
    }
    let no_token = || request("not_compact", "this is no compact JWS");
    let mut parts = body.splitn(3, |byte| *byte == b'.');
    let three = (parts.next(), parts.next(), parts.next());
    let (Some(header), Some(payload), Some(signature)) = three else {
        return Err(no_token());
    };
    if header.len() > HEADER_MAX {
        return Err(request("too_large", "the header is too large"));
    }
    // A third point is no letter of base64url.
    let decoded = |part: &[u8]| URL_SAFE_NO_PAD.decode(part).map_err(|_| no_token());
    let (algorithm, kid) = check_header(&object(&decoded(header)?)?)?;
    let signature = decoded(signature)?;
    let claims = object(&decoded(payload)?)?;
    let signed = body.get(..header.len() + 1 + payload.len());
    Ok(Unverified {
        algorithm,
        kid,
        claims,
        signed: signed.ok_or_else(no_token)?,
        signature,
    })
}

impl Unverified<'_> {
    /// Returns the id of the key that it says it is signed with.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns who it says has issued it, to find the stream by.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        text(&self.claims, "iss")
    }

    /// Returns whom it says it is for.
    #[must_use]
    pub fn audiences(&self) -> Vec<&str> {
        match self.claims.get("aud") {
            Some(Value::Array(named)) => named.iter().filter_map(Value::as_str).collect(),
            named => named.and_then(Value::as_str).into_iter().collect(),
        }
    }

    /// Verifies it and gives its claims out.
    ///
    /// # Errors
    ///
    /// When the key is another, or for another algorithm, or the signature is not its.
    pub fn verify(self, key: &Key) -> Result<Value, SetRefusal> {
        if key.kid() != self.kid || key.algorithm() != self.algorithm {
            let description =
                "the key is not the one that the token names, or for another algorithm";
            return Err(SetRefusal::new(SetError::InvalidKey, "key", description));
        }
        if key.verifies(self.signed, &self.signature) {
            return Ok(self.claims);
        }
        let description = "the signature does not verify";
        Err(SetRefusal::new(
            SetError::AuthenticationFailed,
            "forged",
            description,
        ))
    }
}

fn check_header(header: &Value) -> Result<(Algorithm, String), SetRefusal> {
    let typ = text(header, "typ").unwrap_or_default().to_ascii_lowercase();
    if typ.strip_prefix("application/").unwrap_or(&typ) != TYPE {
        return Err(request("typ", "`typ` must be `secevent+jwt`"));
    }
    if let Some(member) = FORBIDDEN
        .into_iter()
        .find(|name| header.get(*name).is_some())
    {
        let description = format!("the header must not have `{member}`");
        return Err(SetRefusal::new(SetError::InvalidKey, "header", description));
    }
    let algorithm = text(header, "alg").and_then(Algorithm::from_name);
    let algorithm = algorithm.ok_or_else(|| {
        let description = "`alg` must be RS256, ES256 or EdDSA";
        SetRefusal::new(SetError::AuthenticationFailed, "algorithm", description)
    })?;
    let kid = text(header, "kid").filter(|kid| !kid.is_empty() && kid.len() <= KID_MAX);
    let kid = kid.ok_or_else(|| {
        SetRefusal::new(SetError::InvalidKey, "kid", "the header must have a `kid`")
    })?;
    Ok((algorithm, kid.to_owned()))
}

fn object(bytes: &[u8]) -> Result<Value, SetRefusal> {
    json(bytes)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| request("not_json", "header and claims must be JSON objects"))
}

fn request(reason: &'static str, description: &str) -> SetRefusal {
    SetRefusal::new(SetError::InvalidRequest, reason, description)
}

#[cfg(test)]
mod tests;
