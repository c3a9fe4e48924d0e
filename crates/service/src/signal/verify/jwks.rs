//! The keys of an issuer: a set of them as it is published (RFC 7517), and what is remembered of it.
//!
//! Both are pure: somebody else fetches. `KeyCache` says when, so that nobody who makes up key ids can make us
//! fetch more than once in a minute, and so that a key that its issuer took out of the set is of no use
//! ten minutes later. One thing outlives that: when the issuer's host does not answer, known keys go on
//! verifying, and the set is called stale after a day. Signals only tighten, so a halt must not wait for a
//! host that is down; what is stale must not be asked whether something may be released.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use serde_json::Value;
use thiserror::Error;
use tidegate_policy::dialect::{json, text};
use tidegate_policy::time::Timestamp;

use super::KeyRefused;

/// The largest set that is read, in bytes.
pub const SET_MAX: usize = 64 * 1024;
/// The most keys of one set that are kept.
const KEYS_MAX: usize = 100;
/// The longest id of a key, in bytes.
pub const KID_MAX: usize = 256;
/// The sizes of a modulus, in bits.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// The least public exponent: smaller ones have made many a forgery easy.
const EXPONENT_MIN: u64 = 65_537;

/// How long there is at least between two fetches.
pub const PAUSE: TimeDelta = TimeDelta::seconds(60);
/// How old a set may be before the next look at it fetches first: the ten minutes that a key may outlive its
/// being taken out, less the time that a fetch may take.
const AGE_DUE: TimeDelta = TimeDelta::minutes(9);
/// How old a set may be before a fetch that is under way is waited for.
const AGE_MAX: TimeDelta = TimeDelta::minutes(10);
/// How old a set may be before it is stale.
const AGE_STALE: TimeDelta = TimeDelta::hours(24);
/// How long an id is remembered that a fresh set did not have.
const NEGATIVE_FOR: TimeDelta = TimeDelta::minutes(5);
/// The most such ids that are remembered. Beyond them the pause alone protects the issuer.
const NEGATIVES_MAX: usize = 1000;

/// A way to sign. What is not here is refused, `none` and shared secrets above all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// RSA, PKCS #1 v1.5, SHA-256: what the interoperability profile of Shared Signals asks for.
    Rs256,
    /// ECDSA on P-256, SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Returns the algorithm of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// A public key, of one algorithm alone: no token may choose how its key is used.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    kid: String,
    material: Material,
}

#[derive(Clone, PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256([u8; 65]),
    Ed25519([u8; 32]),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {:?})", self.kid, self.algorithm())
    }
}

impl Key {
    /// Reads a key of a set.
    ///
    /// # Errors
    ///
    /// When it is of a kind that is not used here, too weak, not for signatures, or no public key.
    pub fn parse(jwk: &Value) -> Result<Self, KeyRefused> {
        let kid = text(jwk, "kid").filter(|kid| !kid.is_empty() && kid.len() <= KID_MAX);
        let kid = kid.ok_or(KeyRefused("a key has a `kid`"))?.to_owned();
        if text(jwk, "use").is_some_and(|its_use| its_use != "sig") {
            return Err(KeyRefused("the key is not for signatures"));
        }
        // Whoever publishes a private key has none any more.
        if jwk.get("d").is_some() || jwk.get("k").is_some() {
            return Err(KeyRefused("the key is not public"));
        }
        let material = match (text(jwk, "kty"), text(jwk, "crv")) {
            (Some("RSA"), _) => rsa(jwk)?,
            (Some("EC"), Some("P-256")) => p256(jwk)?,
            (Some("OKP"), Some("Ed25519")) => Material::Ed25519(coordinate(jwk, "x")?),
            _ => return Err(KeyRefused("the key is of a kind that is not used here")),
        };
        let key = Self { kid, material };
        let named = text(jwk, "alg");
        if named.is_some_and(|named| Algorithm::from_name(named) != Some(key.algorithm())) {
            return Err(KeyRefused("the key is for another algorithm"));
        }
        Ok(key)
    }

    /// Returns its id.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns the algorithm it is for.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// Says whether a signature of it is over these bytes.
    #[must_use]
    pub fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.material {
            Material::Rsa { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
            }
            Material::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature)
            }
            Material::Ed25519(key) => {
                UnparsedPublicKey::new(&ED25519, key).verify(signed, signature)
            }
        };
        verified.is_ok()
    }
}

fn rsa(jwk: &Value) -> Result<Material, KeyRefused> {
    let number = |name: &str| {
        let encoded = text(jwk, name)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        // Some write a leading zero, which the library does not take.
        let first = bytes.iter().position(|byte| *byte != 0)?;
        bytes.get(first..).map(<[u8]>::to_vec)
    };
    let (n, e) = number("n")
        .zip(number("e"))
        .ok_or(KeyRefused("`n` and `e` are base64url"))?;
    let zeros = n.first().map_or(0, |byte| byte.leading_zeros());
    let bits = (n.len() * 8).saturating_sub(usize::try_from(zeros).unwrap_or_default());
    if !MODULUS_BITS.contains(&bits) {
        return Err(KeyRefused("an RSA key has 2048 to 8192 bits"));
    }
    let exponent = e
        .iter()
        .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    if e.len() > 5 || exponent < EXPONENT_MIN || exponent % 2 == 0 {
        return Err(KeyRefused(
            "the public exponent is too small, too large or even",
        ));
    }
    Ok(Material::Rsa { n, e })
}

fn p256(jwk: &Value) -> Result<Material, KeyRefused> {
    let (x, y) = (coordinate(jwk, "x")?, coordinate(jwk, "y")?);
    // The uncompressed form. That the point is on the curve is checked with each signature.
    let mut point = [4; 65];
    let behind = x.iter().chain(&y);
    for (place, byte) in point.iter_mut().skip(1).zip(behind) {
        *place = *byte;
    }
    Ok(Material::P256(point))
}

fn coordinate(jwk: &Value, name: &str) -> Result<[u8; 32], KeyRefused> {
    let bytes = text(jwk, name).and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok());
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(KeyRefused("a coordinate has 32 bytes of base64url"))
}

/// A set cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SetUnusable {
    /// It is too large.
    #[error("a set of keys has at most {SET_MAX} bytes")]
    TooLarge,
    /// It is no set of keys.
    #[error("this is no set of keys: {0}")]
    NoSet(String),
}

/// The keys of a set that can be used here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeySet(BTreeMap<String, Arc<Key>>);

impl KeySet {
    /// Reads a set. Keys of other kinds are passed over, as others need them; of two keys of one id the
    /// first counts.
    ///
    /// # Errors
    ///
    /// When it is too large, or is no set. One without a key that can be used is a set: so an issuer says
    /// that all its keys are gone.
    pub fn parse(body: &[u8]) -> Result<Self, SetUnusable> {
        if body.len() > SET_MAX {
            return Err(SetUnusable::TooLarge);
        }
        let set = json(body).map_err(|error| SetUnusable::NoSet(error.sentence))?;
        let listed = set.get("keys").and_then(Value::as_array);
        let listed =
            listed.ok_or_else(|| SetUnusable::NoSet("`keys` must be a list".to_owned()))?;
        let mut keys = BTreeMap::new();
        for key in listed.iter().filter_map(|jwk| Key::parse(jwk).ok()) {
            if keys.len() < KEYS_MAX {
                keys.entry(key.kid.clone()).or_insert_with(|| Arc::new(key));
            }
        }
        Ok(Self(keys))
    }

    /// Returns a key of the set.
    #[must_use]
    pub fn get(&self, kid: &str) -> Option<Arc<Key>> {
        self.0.get(kid).cloned()
    }

    /// Says whether nothing can be verified with it, which somebody should hear of.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// This is it.
    Found(Arc<Key>),
    /// Fetch the set and look again: with `begin_refresh`, or by waiting for whoever began.
    Refresh,
    /// The issuer has no such key: refuse the token (`invalid_key`).
    Negative,
    /// The set could not be fetched, so nobody can tell: let the token be sent again.
    Unavailable,
}

/// The right to fetch; there is one at a time.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "whoever has it fetches, and gives it back with what came of it"]
pub struct Claim(u64);

/// What is remembered of the keys of one issuer.
#[derive(Debug, Clone, Default)]
pub struct KeyCache {
    keys: KeySet,
    fetched_at: Option<Timestamp>,
    begun_at: Option<Timestamp>,
    /// The number of the last claim, and whether it is still out.
    claim: u64,
    is_running: bool,
    has_failed: bool,
    negatives: BTreeMap<String, Timestamp>,
}

impl KeyCache {
    /// Looks a key up.
    pub fn lookup(&mut self, kid: &str, now: Timestamp) -> Lookup {
        match self.keys.0.get(kid).cloned() {
            Some(key) if !self.must_fetch(now) => Lookup::Found(key),
            Some(_) => Lookup::Refresh,
            None => self.lookup_unknown(kid, now),
        }
    }

    /// Takes the right to fetch; `None` when somebody has it, or had it less than the pause ago.
    pub fn begin_refresh(&mut self, now: Timestamp) -> Option<Claim> {
        if !self.may_begin(now) {
            return None;
        }
        self.begun_at = Some(now);
        self.is_running = true;
        self.claim = self.claim.wrapping_add(1);
        Some(Claim(self.claim))
    }

    /// Takes what came of a fetch; `None` when it failed. A set replaces the one before: a key that is not in it
    /// verifies nothing from here on. What comes after the claim was given to somebody else is dropped.
    pub fn end_refresh(&mut self, claim: Claim, fetched: Option<KeySet>, now: Timestamp) {
        if claim != Claim(self.claim) {
            return;
        }
        self.is_running = false;
        self.has_failed = fetched.is_none();
        if let Some(keys) = fetched {
            self.keys = keys;
            self.fetched_at = Some(now);
            self.negatives.clear();
        }
    }

    /// Says whether a fetch is due, whether or not anybody asks for a key.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.is_older(AGE_DUE, now) && self.may_begin(now)
    }

    /// Returns when the set was last fetched.
    #[must_use]
    pub const fn fetched_at(&self) -> Option<Timestamp> {
        self.fetched_at
    }

    /// Says whether the set is so old that nothing may be released on what it vouches for.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.is_older(AGE_STALE, now)
    }

    fn lookup_unknown(&mut self, kid: &str, now: Timestamp) -> Lookup {
        let is_negative = |until: &Timestamp| now < *until;
        if self.negatives.get(kid).is_some_and(is_negative) {
            return Lookup::Negative;
        }
        if self.may_begin(now) || self.is_under_way(now) {
            return Lookup::Refresh;
        }
        if self.has_failed || self.fetched_at.is_none() {
            return Lookup::Unavailable;
        }
        // The set was fetched a moment ago and does not have it.
        self.negatives.retain(|_, until| is_negative(until));
        if self.negatives.len() < NEGATIVES_MAX && kid.len() <= KID_MAX {
            let until = now.checked_add_signed(NEGATIVE_FOR);
            self.negatives
                .insert(kid.to_owned(), until.unwrap_or(Timestamp::MAX_UTC));
        }
        Lookup::Negative
    }

    /// Says whether known keys need a fetch first. Nobody waits for a host that has failed before.
    fn must_fetch(&self, now: Timestamp) -> bool {
        let is_waited_for = !self.has_failed && self.is_under_way(now);
        self.is_older(AGE_DUE, now) && self.may_begin(now)
            || self.is_older(AGE_MAX, now) && is_waited_for
    }

    /// Says whether a fetch may begin. A claim that was not given back within the pause is lost.
    fn may_begin(&self, now: Timestamp) -> bool {
        self.begun_at.is_none_or(|begun| away(begun, now) >= PAUSE)
    }

    fn is_under_way(&self, now: Timestamp) -> bool {
        self.is_running && !self.may_begin(now)
    }

    fn is_older(&self, age: TimeDelta, now: Timestamp) -> bool {
        self.fetched_at
            .is_none_or(|fetched| away(fetched, now) >= age)
    }
}

/// How far two instants are apart. Both ways, so that a clock that was set back does not stop all fetching.
fn away(then: Timestamp, now: Timestamp) -> TimeDelta {
    now.signed_duration_since(then).abs()
}

#[cfg(test)]
pub(super) mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    };
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn encode(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The modulus and the exponent behind it, out of `RSAPublicKey` of PKCS #1: a sequence of two integers.
    fn modulus_and_exponent(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
        // 30 82 <2> 02 82 <2> n 02 03 e.
        let length = usize::from(der[6]) * 256 + usize::from(der[7]);
        let (n, behind) = der[8..].split_at(length);
        (n.to_vec(), behind[2..].to_vec())
    }

    pub(in crate::signal::verify) fn rsa_jwk(kid: &str, pair: &KeyPair) -> Value {
        let (n, e) = modulus_and_exponent(pair.public_key().as_ref());
        json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": encode(n), "e": encode(e)})
    }

    pub(in crate::signal::verify) fn p256_jwk(kid: &str, pair: &EcdsaKeyPair) -> Value {
        let point = pair.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "kid": kid,
            "x": encode(&point[1..33]), "y": encode(&point[33..])})
    }

    pub(in crate::signal::verify) fn ed25519_jwk(kid: &str, pair: &Ed25519KeyPair) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": encode(pair.public_key())})
    }

    fn any_jwk(kid: &str) -> Value {
        ed25519_jwk(kid, &Ed25519KeyPair::generate().unwrap())
    }

    fn set(kids: &[&str]) -> KeySet {
        let keys: Vec<Value> = kids.iter().map(|kid| any_jwk(kid)).collect();
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_706_000_000 + seconds, 0).unwrap()
    }

    /// A cache that fetched these at second 0.
    fn cache(kids: &[&str]) -> KeyCache {
        let mut cache = KeyCache::default();
        let claim = cache.begin_refresh(at(0)).unwrap();
        cache.end_refresh(claim, Some(set(kids)), at(0));
        cache
    }

    fn is_found(lookup: &Lookup) -> bool {
        matches!(lookup, Lookup::Found(_))
    }

    #[test]
    fn keys_of_each_kind_are_read_and_others_passed_over() {
        let rsa = KeyPair::generate(KeySize::Rsa2048).unwrap();
        assert!(rsa.public_key().as_der().is_ok());
        let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let keys = json!({"keys": [
            rsa_jwk("rsa", &rsa), p256_jwk("p256", &p256), any_jwk("ed"), any_jwk("ed"),
            {"kty": "oct", "kid": "secret", "k": "AAAA"}, {"kty": "of the future", "kid": "x"}, 7,
        ]});
        let set = KeySet::parse(keys.to_string().as_bytes()).unwrap();
        let kids: Vec<&str> = set.0.keys().map(String::as_str).collect();
        assert_eq!(kids, ["ed", "p256", "rsa"]);
        assert_eq!(set.0["rsa"].algorithm(), Algorithm::Rs256);
    }

    #[test]
    fn weak_and_misused_keys_are_refused() {
        let sound = rsa_jwk("a", &KeyPair::generate(KeySize::Rsa2048).unwrap());
        assert!(Key::parse(&sound).is_ok());
        let (mut short, odd) = (vec![0xff; 128], encode([0xff; 256]));
        short[127] |= 1;
        for (member, value) in [
            ("n", json!(encode(&short))),
            ("n", json!(encode([0x7f; 256]))),
            ("n", json!(encode([0xff; 1025]))),
            ("n", json!("§")),
            ("e", json!(encode([3]))),
            ("e", json!(encode([1, 0, 0]))),
            ("e", json!(odd)),
            ("e", json!("")),
            ("use", json!("enc")),
            ("alg", json!("HS256")),
            ("alg", json!("PS256")),
            ("alg", json!("none")),
            ("d", json!("AAAA")),
            ("kid", json!("")),
            ("kid", Value::Null),
            ("kty", json!("oct")),
        ] {
            let mut weak = sound.clone();
            weak[member] = value;
            assert!(Key::parse(&weak).is_err(), "{member}: {}", weak[member]);
        }
    }

    #[test]
    fn a_set_that_is_too_large_or_is_none_is_refused() {
        assert_eq!(
            KeySet::parse(&vec![b' '; SET_MAX + 1]),
            Err(SetUnusable::TooLarge)
        );
        assert!(matches!(KeySet::parse(b"[]"), Err(SetUnusable::NoSet(_))));
    }

    #[test]
    fn five_hundred_with_an_unknown_key_fetch_once() {
        let mut cache = cache(&["old"]);
        let begun: Vec<Claim> = (0..500)
            .filter_map(|_| {
                assert_eq!(cache.lookup("new", at(60)), Lookup::Refresh);
                cache.begin_refresh(at(60))
            })
            .collect();
        assert_eq!(begun.len(), 1);
        for claim in begun {
            cache.end_refresh(claim, Some(set(&["old", "new"])), at(61));
        }
        assert!(is_found(&cache.lookup("new", at(61))));
    }

    #[test]
    fn made_up_ids_cause_one_fetch_in_a_minute() {
        let mut cache = cache(&["old"]);
        let mut fetches = 0;
        for second in 0..300 {
            for number in 0..20 {
                let kid = format!("{second}-{number}");
                if cache.lookup(&kid, at(second)) == Lookup::Refresh
                    && let Some(claim) = cache.begin_refresh(at(second))
                {
                    fetches += 1;
                    cache.end_refresh(claim, Some(set(&["old"])), at(second));
                }
            }
        }
        assert_eq!(fetches, 4, "at 60, 120 and so on");
        assert!(cache.negatives.len() <= NEGATIVES_MAX);
    }

    #[test]
    fn an_id_that_a_fresh_set_lacks_is_remembered() {
        let mut cache = cache(&["old"]);
        assert_eq!(cache.lookup("forged", at(1)), Lookup::Negative);
        assert_eq!(
            cache.lookup("forged", at(200)),
            Lookup::Negative,
            "no fetch for it"
        );
        assert_eq!(cache.lookup("another", at(200)), Lookup::Refresh);
        assert_eq!(cache.lookup("forged", at(302)), Lookup::Refresh);
    }

    #[test]
    fn a_key_that_was_taken_out_is_of_no_use_ten_minutes_later() {
        let mut cache = cache(&["old"]);
        assert!(is_found(&cache.lookup("old", at(539))));
        assert_eq!(cache.lookup("old", at(540)), Lookup::Refresh);
        let claim = cache.begin_refresh(at(590)).unwrap();
        assert!(is_found(&cache.lookup("old", at(595))), "it is under way");
        assert_eq!(
            cache.lookup("old", at(600)),
            Lookup::Refresh,
            "and is waited for"
        );
        cache.end_refresh(claim, Some(set(&["new"])), at(601));
        assert_eq!(cache.lookup("old", at(601)), Lookup::Negative);
    }

    #[test]
    fn an_empty_set_takes_every_key_out() {
        let mut cache = cache(&["old"]);
        let claim = cache.begin_refresh(at(60)).unwrap();
        let empty = KeySet::parse(br#"{"keys":[]}"#).unwrap();
        assert!(empty.is_empty());
        cache.end_refresh(claim, Some(empty), at(60));
        assert_eq!(cache.lookup("old", at(61)), Lookup::Negative);
    }

    #[test]
    fn a_host_that_is_down_stops_no_known_key_and_refuses_no_unknown_one() {
        let mut cache = cache(&["old"]);
        let day = 86_400;
        assert!(!cache.is_stale(at(day - 1)));
        for hour in 1..=25 {
            let now = at(hour * 3600);
            assert_eq!(cache.lookup("old", now), Lookup::Refresh);
            let claim = cache.begin_refresh(now).unwrap();
            if hour > 1 {
                assert!(
                    is_found(&cache.lookup("old", now)),
                    "nobody waits for it again"
                );
            }
            cache.end_refresh(claim, None, now);
            assert!(is_found(&cache.lookup("old", now)));
            assert_eq!(cache.lookup("new", now), Lookup::Unavailable);
        }
        assert!(cache.is_stale(at(25 * 3600)));
        assert!(KeyCache::default().is_stale(at(0)));
    }

    #[test]
    fn a_lost_claim_is_given_to_somebody_else() {
        let mut cache = cache(&["old"]);
        let lost = cache.begin_refresh(at(60)).unwrap();
        assert!(cache.begin_refresh(at(119)).is_none());
        let claim = cache.begin_refresh(at(120)).unwrap();
        cache.end_refresh(lost, Some(set(&["forgotten"])), at(121));
        assert_ne!(
            cache.lookup("old", at(121)),
            Lookup::Negative,
            "it comes too late"
        );
        cache.end_refresh(claim, Some(set(&["new"])), at(122));
        assert!(is_found(&cache.lookup("new", at(122))));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_fetching() {
        let mut cache = cache(&["old"]);
        assert!(cache.begin_refresh(at(-3600)).is_some());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in any::<Vec<u8>>(), written in "[A-Za-z0-9_-]{0,400}") {
            let _ = KeySet::parse(&body);
            for kty in ["RSA", "EC", "OKP"] {
                for crv in ["P-256", "Ed25519"] {
                    let jwk = json!({"kty": kty, "crv": crv, "kid": "a", "n": written,
                        "e": "AQAB", "x": written, "y": written});
                    let _ = Key::parse(&jwk).map(|key| key.verifies(&body, &body));
                }
            }
        }
    }
}
