//! OpenPGP as far as it is ours: which keys a file holds, whether a file is a detached signature and nothing
//! else, and what `gpgv` said of it. No signature is computed here: `signal::gpgv` asks the program.
//!
//! Worth: `signed`, since an old document is as well signed as a new one.
//!
//! The program ends well for a key that has expired or was revoked, and for a digest that can be forged. So its
//! exit code decides nothing: each signature is judged by all that is said of it, and by the keys that the operator pinned.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

/// The most signatures beside one document: two while a provider changes its key.
const SIGNATURES_MAX: usize = 16;
/// The most packets of a file: every key has a few, every certification of it is one.
const PACKETS_MAX: usize = 20_000;
/// What a line begins with that `gpgv` says to programs.
const STATUS: &str = "[GNUPG:] ";
/// SHA-256, SHA-384, SHA-512 and SHA-224. Others can be forged, or nobody uses them.
const DIGESTS: [&str; 4] = ["8", "9", "10", "11"];

const TAG_SIGNATURE: u8 = 2;
const TAG_SECRET_KEY: u8 = 5;
const TAG_PUBLIC_KEY: u8 = 6;

/// A file is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

/// Keys that the operator pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    /// The packets, as `gpgv` reads them.
    bytes: Vec<u8>,
    fingerprints: BTreeSet<String>,
}

impl Keyring {
    /// Reads the keys of a file, in letters (`gpg --armor --export`) or in bytes (`gpg --export`).
    ///
    /// # Errors
    ///
    /// When it is neither, holds no public key of version 4, or holds a secret one.
    pub fn parse(file: &[u8]) -> Result<Self, Malformed> {
        let bytes = unarmored(file, "PGP PUBLIC KEY BLOCK")?;
        let mut fingerprints = BTreeSet::new();
        for (tag, body) in packets(&bytes)? {
            match tag {
                TAG_SECRET_KEY => {
                    return Err(Malformed("this is a secret key: give the public one"));
                }
                TAG_PUBLIC_KEY => fingerprints.extend(fingerprint(body)),
                _ => {}
            }
        }
        if fingerprints.is_empty() {
            return Err(Malformed("no public key of OpenPGP (version 4) is in it"));
        }
        Ok(Self {
            bytes,
            fingerprints,
        })
    }

    /// Returns the packets.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A detached signature, and nothing that a text could hide in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detached(Vec<u8>);

impl Detached {
    /// Reads what is beside a document.
    ///
    /// # Errors
    ///
    /// When anything but signatures is in it.
    pub fn parse(file: &[u8]) -> Result<Self, Malformed> {
        let bytes = unarmored(file, "PGP SIGNATURE")?;
        let found = packets(&bytes)?;
        if found.is_empty() || found.len() > SIGNATURES_MAX {
            return Err(Malformed("it has no signature, or far too many"));
        }
        if found.iter().any(|(tag, _)| *tag != TAG_SIGNATURE) {
            return Err(Malformed("it is more than a detached signature"));
        }
        Ok(Self(bytes))
    }

    /// Returns the packets.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Why a document counts as unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignatureRefusal {
    /// It differs from what was signed, or the signature cannot be read.
    #[error("its signature is not of this document")]
    Invalid,
    /// Somebody else signed it.
    #[error("no key that is pinned has signed it")]
    UnknownKey,
    /// The key has ended.
    #[error(
        "the key that signed it has expired: get the provider's key anew, and compare its fingerprint"
    )]
    KeyExpired,
    /// The key was taken back.
    #[error("the key that signed it was revoked: ask the provider for its new one")]
    KeyRevoked,
    /// The signature itself has ended.
    #[error("its signature has expired")]
    Expired,
    /// It could be a signature of something else.
    #[error("its signature is of a digest that can be forged (SHA-256 is the least)")]
    Weak,
}

impl SignatureRefusal {
    /// Returns the stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Invalid => "signature_invalid",
            Self::UnknownKey => "signature_of_unknown_key",
            Self::KeyExpired => "signing_key_expired",
            Self::KeyRevoked => "signing_key_revoked",
            Self::Expired => "signature_expired",
            Self::Weak => "signature_weak",
        }
    }
}

/// Judges by what `gpgv` said: one good signature by a pinned key is needed, and none may be bad.
///
/// # Errors
///
/// With what was wrong with the signature of a pinned key, or that there is none.
pub fn judge(said: &str, keyring: &Keyring) -> Result<(), SignatureRefusal> {
    let mut signatures: Vec<Vec<Vec<&str>>> = Vec::new();
    for line in said.lines().filter_map(|line| line.strip_prefix(STATUS)) {
        let words: Vec<&str> = line.split(' ').collect();
        match (words.first(), signatures.last_mut()) {
            (Some(&"NEWSIG"), _) => signatures.push(Vec::new()),
            (_, Some(signature)) => signature.push(words),
            (_, None) => {}
        }
    }
    let judged = signatures.iter().map(|one| judge_one(one, keyring));
    let judged: Vec<Result<(), SignatureRefusal>> = judged.collect();
    if judged.contains(&Err(SignatureRefusal::Invalid)) {
        return Err(SignatureRefusal::Invalid);
    }
    if judged.contains(&Ok(())) {
        return Ok(());
    }
    let known = judged.into_iter().filter_map(Result::err);
    let mut known = known.filter(|why| *why != SignatureRefusal::UnknownKey);
    Err(known.next_back().unwrap_or(SignatureRefusal::UnknownKey))
}

fn judge_one(said: &[Vec<&str>], keyring: &Keyring) -> Result<(), SignatureRefusal> {
    let of = |word: &str| said.iter().find(|words| words.first() == Some(&word));
    for (word, why) in [
        ("BADSIG", SignatureRefusal::Invalid),
        ("NO_PUBKEY", SignatureRefusal::UnknownKey),
        ("ERRSIG", SignatureRefusal::Invalid),
        ("REVKEYSIG", SignatureRefusal::KeyRevoked),
        ("EXPKEYSIG", SignatureRefusal::KeyExpired),
        ("EXPSIG", SignatureRefusal::Expired),
    ] {
        if of(word).is_some() {
            return Err(why);
        }
    }
    // VALIDSIG key day second until version 0 algorithm digest class primary-key
    let valid = of("VALIDSIG").filter(|_| of("GOODSIG").is_some());
    let valid = valid.ok_or(SignatureRefusal::Invalid)?;
    let digest = valid.get(8).copied().unwrap_or_default();
    let primary = valid.get(10).copied().unwrap_or_default();
    if !keyring.fingerprints.contains(primary) {
        return Err(SignatureRefusal::UnknownKey);
    }
    if !DIGESTS.contains(&digest) {
        return Err(SignatureRefusal::Weak);
    }
    Ok(())
}

/// Returns the bytes of a file that may be in letters; more than one block counts as one after the other.
fn unarmored(file: &[u8], what: &str) -> Result<Vec<u8>, Malformed> {
    let neither = Malformed("it is neither OpenPGP in letters nor in bytes");
    if file.first().is_some_and(|byte| byte & 0x80 != 0) {
        return Ok(file.to_vec());
    }
    let text = std::str::from_utf8(file).map_err(|_| neither)?;
    if text.contains("-----BEGIN PGP PRIVATE KEY BLOCK-----") {
        return Err(Malformed("this is a secret key: give the public one"));
    }
    let (begin, end) = (
        format!("-----BEGIN {what}-----"),
        format!("-----END {what}-----"),
    );
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once(&begin) {
        let (block, behind) = behind.split_once(&end).ok_or(neither)?;
        rest = behind;
        // Headers end at an empty line; a checksum, which proves nothing, begins with `=`.
        let lines = block.lines().skip(1).map(str::trim);
        let lines = lines.skip_while(|line| !line.is_empty()).skip(1);
        let body: String = lines.take_while(|line| !line.starts_with('=')).collect();
        bytes.extend(STANDARD.decode(body).map_err(|_| neither)?);
    }
    if bytes.is_empty() {
        return Err(neither);
    }
    Ok(bytes)
}

/// Takes packets apart (RFC 4880, section 4.2): what each is, and what it holds.
fn packets(bytes: &[u8]) -> Result<Vec<(u8, &[u8])>, Malformed> {
    let cut = Malformed("its packets cannot be read");
    let mut found = Vec::new();
    let mut rest = bytes;
    while let Some((head, behind)) = rest.split_first() {
        let (tag, length, behind) = match head & 0xC0 {
            0xC0 => {
                let (length, behind) = new_length(behind).ok_or(cut)?;
                (head & 0x3F, length, behind)
            }
            0x80 => {
                // Without a length it would go on to the end of the file: no key and no signature does.
                let size = [1, 2, 4].get(usize::from(head & 3)).ok_or(cut)?;
                let (length, behind) = number(behind, *size).ok_or(cut)?;
                ((head >> 2) & 0x0F, length, behind)
            }
            _ => return Err(cut),
        };
        let (body, behind) = behind.split_at_checked(length).ok_or(cut)?;
        found.push((tag, body));
        if found.len() > PACKETS_MAX {
            return Err(cut);
        }
        rest = behind;
    }
    Ok(found)
}

fn new_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    match first {
        0..192 => Some((usize::from(*first), rest)),
        192..224 => {
            let (second, rest) = rest.split_first()?;
            let length = usize::from(first - 192) * 256 + usize::from(*second) + 192;
            Some((length, rest))
        }
        // In parts, as only texts are.
        224..255 => None,
        255 => number(rest, 4),
    }
}

/// Reads a number of so many bytes.
fn number(bytes: &[u8], size: usize) -> Option<(usize, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(size)?;
    let whole = digits
        .iter()
        .fold(0_u64, |sum, byte| sum * 256 + u64::from(*byte));
    Some((usize::try_from(whole).ok()?, rest))
}

/// The fingerprint of a key of version 4 (RFC 4880, section 12.2), as `gpgv` writes it.
fn fingerprint(body: &[u8]) -> Option<String> {
    if body.first() != Some(&4) {
        return None;
    }
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(&[0x99]);
    digest.update(&u16::try_from(body.len()).ok()?.to_be_bytes());
    digest.update(body);
    let digest = digest.finish();
    let hex = digest.as_ref().iter().map(|byte| format!("{byte:02X}"));
    Some(hex.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACME: &str = "9C0B3511D6A66AEB1D0A311CDD95135DAA8BC231";
    const ARMORED: &[u8] = include_bytes!("../../../../../tests/fixtures/openpgp/acme.keys.asc");
    const BINARY: &[u8] = include_bytes!("../../../../../tests/fixtures/openpgp/acme.keys.gpg");
    const OTHER: &[u8] = include_bytes!("../../../../../tests/fixtures/openpgp/other.keys.asc");
    const SIGNED: &[u8] = include_bytes!("../../../../../tests/fixtures/openpgp/acme.sig.asc");
    const MESSAGE: &[u8] = include_bytes!("../../../../../tests/fixtures/openpgp/message.pgp");

    fn said(lines: &[String]) -> Result<(), SignatureRefusal> {
        let text: String = lines
            .iter()
            .map(|line| format!("{STATUS}{line}\n"))
            .collect();
        judge(&text, &Keyring::parse(ARMORED).unwrap())
    }

    fn valid(key: &str, digest: u8) -> String {
        format!("VALIDSIG {key} 2024-01-20 1705708800 0 4 0 22 {digest} 00 {key}")
    }

    #[test]
    fn keys_in_letters_and_in_bytes_are_the_same_keys() {
        let keyring = Keyring::parse(ARMORED).unwrap();
        assert_eq!(keyring, Keyring::parse(BINARY).unwrap());
        assert_eq!(keyring.fingerprints, [ACME.to_owned()].into());
        let both = Keyring::parse(&[ARMORED, OTHER].concat()).unwrap();
        assert_eq!(both.fingerprints.len(), 2, "one file may hold more");
        assert!(both.fingerprints.contains(ACME));
    }

    #[test]
    fn a_file_without_a_public_key_is_refused() {
        for file in [
            &b""[..],
            b"keys",
            b"\x80",
            b"\xC5\x01\x04",
            b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nxQEE\n-----END PGP PRIVATE KEY BLOCK-----\n",
            b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n-----END PGP PUBLIC KEY BLOCK-----\n",
            SIGNED,
            &BINARY[..BINARY.len() - 1],
        ] {
            assert!(Keyring::parse(file).is_err(), "{file:?}");
        }
    }

    #[test]
    fn nothing_but_signatures_may_be_beside_a_document() {
        assert!(Detached::parse(SIGNED).is_ok());
        for file in [&b""[..], ARMORED, BINARY, MESSAGE] {
            assert!(Detached::parse(file).is_err());
        }
        let signature = Detached::parse(SIGNED).unwrap();
        let hidden = [signature.bytes(), MESSAGE].concat();
        assert!(Detached::parse(&hidden).is_err());
        assert!(Detached::parse(&signature.bytes().repeat(SIGNATURES_MAX + 1)).is_err());
    }

    #[test]
    fn a_signature_counts_when_all_that_is_said_of_it_is_good() {
        let (new, good) = (
            "NEWSIG".to_owned(),
            "GOODSIG DD95135DAA8BC231 acme".to_owned(),
        );
        let bad = |word: &str| said(&[new.clone(), good.clone(), word.to_owned(), valid(ACME, 8)]);
        assert_eq!(bad("KEY_CONSIDERED x 0"), Ok(()));
        for (word, why) in [
            ("BADSIG x", SignatureRefusal::Invalid),
            ("ERRSIG x", SignatureRefusal::Invalid),
            ("NO_PUBKEY x", SignatureRefusal::UnknownKey),
            ("EXPKEYSIG x", SignatureRefusal::KeyExpired),
            ("REVKEYSIG x", SignatureRefusal::KeyRevoked),
            ("EXPSIG x", SignatureRefusal::Expired),
        ] {
            assert_eq!(bad(word), Err(why), "{word}");
        }
        let whole = |key: &str, digest| said(&[new.clone(), good.clone(), valid(key, digest)]);
        assert_eq!(whole(ACME, 2), Err(SignatureRefusal::Weak), "SHA-1");
        assert_eq!(whole("OTHER", 8), Err(SignatureRefusal::UnknownKey));
        assert_eq!(
            said(&[new.clone(), good.clone()]),
            Err(SignatureRefusal::Invalid)
        );
        assert_eq!(
            said(&[new.clone(), valid(ACME, 8)]),
            Err(SignatureRefusal::Invalid)
        );
        assert_eq!(
            said(&[good, valid(ACME, 8)]),
            Err(SignatureRefusal::UnknownKey)
        );
        assert_eq!(said(&[]), Err(SignatureRefusal::UnknownKey));
    }

    #[test]
    fn two_signatures_while_a_key_is_changed_are_enough_and_a_bad_one_is_never() {
        let new = || "NEWSIG".to_owned();
        let good = [new(), "GOODSIG x".to_owned(), valid(ACME, 8)];
        let other = [new(), "ERRSIG y".to_owned(), "NO_PUBKEY y".to_owned()];
        assert_eq!(said(&[&good[..], &other].concat()), Ok(()));
        assert_eq!(said(&[&other[..], &good].concat()), Ok(()));
        let bad = [new(), "BADSIG x".to_owned()];
        assert_eq!(
            said(&[&good[..], &bad].concat()),
            Err(SignatureRefusal::Invalid)
        );
    }
}
