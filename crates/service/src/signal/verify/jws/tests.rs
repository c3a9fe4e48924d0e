//! Tokens that are refused, each with the code that RFC 8935 has for it, and the others.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use proptest::prelude::*;
use serde_json::json;
use tidegate_policy::Digest;
use tidegate_policy::dialect::Origin;
use tidegate_policy::dialect::security_event::{Expected, Received, read};
use tidegate_policy::signal::{Severity, Trust};
use tidegate_policy::time::Timestamp;

use super::super::jwks::tests::{ed25519_jwk, p256_jwk, rsa_jwk};
use super::*;

const NOW: i64 = 1_706_000_000;

/// Made once: it takes long.
static PAIR: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate(KeySize::Rsa2048).unwrap());

fn key() -> Key {
    Key::parse(&rsa_jwk("key-1", &PAIR)).unwrap()
}

fn rs256(signed: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; PAIR.public_modulus_len()];
    let random = SystemRandom::new();
    PAIR.sign(&RSA_PKCS1_SHA256, &random, signed, &mut signature)
        .unwrap();
    signature
}

fn header() -> Value {
    json!({"typ": "secevent+jwt", "alg": "RS256", "kid": "key-1"})
}

fn claims() -> Value {
    json!({
        "iss": "https://idp.example.com/", "jti": "id-1", "iat": NOW, "aud": "us",
        "sub_id": {"format": "complex", "tenant": {"format": "opaque", "id": "contoso"}},
        "events": {"https://schemas.openid.net/secevent/caep/event-type/risk-level-change": {
            "principal": "TENANT", "current_level": "HIGH"}},
    })
}

fn minted(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", encoded(header), encoded(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// Everything that happens to a token, with the one key of its issuer.
fn admit(token: &str) -> Result<Received, SetRefusal> {
    let claims = peek(token.as_bytes())?.verify(&key())?;
    let audiences = ["us".to_owned()];
    let expected = Expected {
        issuer: "https://idp.example.com/",
        audiences: &audiences,
        critical_members: &BTreeSet::new(),
        now: Timestamp::from_timestamp(NOW, 0).unwrap(),
    };
    let origin = Origin {
        source: "idp".to_owned(),
        trust: Trust::SignedFresh,
        vendor: None,
        products: BTreeSet::new(),
        received_at: expected.now,
    };
    read(&claims, Digest::of(token.as_bytes()), &expected, &origin)
}

#[track_caller]
fn check_refused(header: &Value, claims: &Value, err: SetError) {
    let refused = admit(&minted(header, claims, rs256)).unwrap_err();
    assert_eq!(refused.err, err, "{header} {claims}: {refused}");
}

/// A value with one member set, or taken out.
fn changed(mut value: Value, member: &str, to: Option<Value>) -> Value {
    let members = value.as_object_mut().unwrap();
    match to {
        Some(to) => members.insert(member.to_owned(), to),
        None => members.remove(member),
    };
    value
}

#[test]
fn a_sound_token_becomes_a_signal() {
    let token = minted(&header(), &claims(), rs256);
    let peeked = peek(token.as_bytes()).unwrap();
    assert_eq!(peeked.kid(), "key-1");
    assert_eq!(peeked.issuer(), Some("https://idp.example.com/"));
    assert_eq!(peeked.audiences(), ["us"]);
    let Received::Signal(signal) = admit(&token).unwrap() else {
        panic!("a signal");
    };
    assert_eq!(signal.severity, Severity::High);
    assert!(signal.subject.touches_user("contoso", "anybody"));
}

#[test]
fn the_type_is_compared_without_case_or_prefix() {
    for typ in ["SecEvent+JWT", "application/secevent+jwt"] {
        let header = changed(header(), "typ", Some(json!(typ)));
        assert!(admit(&minted(&header, &claims(), rs256)).is_ok());
    }
    for typ in [
        Some(json!("JWT")),
        Some(json!("at+jwt")),
        Some(json!("")),
        None,
    ] {
        let header = changed(header(), "typ", typ);
        check_refused(&header, &claims(), SetError::InvalidRequest);
    }
}

#[test]
fn a_token_without_a_signature_is_refused() {
    for alg in ["none", "None", "NONE"] {
        let header = changed(header(), "alg", Some(json!(alg)));
        let refused = admit(&minted(&header, &claims(), |_| Vec::new())).unwrap_err();
        assert_eq!(refused.err, SetError::AuthenticationFailed);
    }
    let refused = admit(&minted(&header(), &claims(), |_| Vec::new())).unwrap_err();
    assert_eq!(refused.err, SetError::AuthenticationFailed);
}

#[test]
fn a_public_key_used_as_a_shared_secret_is_refused() {
    let header = changed(header(), "alg", Some(json!("HS256")));
    let public = hmac::Key::new(hmac::HMAC_SHA256, PAIR.public_key().as_ref());
    let forged = minted(&header, &claims(), |signed| {
        hmac::sign(&public, signed).as_ref().to_vec()
    });
    assert_eq!(
        admit(&forged).unwrap_err().err,
        SetError::AuthenticationFailed
    );
}

#[test]
fn a_known_key_id_with_an_unknown_key_is_refused() {
    let another = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let forged = minted(&header(), &claims(), |signed| {
        let mut signature = vec![0; another.public_modulus_len()];
        another
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed,
                &mut signature,
            )
            .unwrap();
        signature
    });
    assert_eq!(
        admit(&forged).unwrap_err().err,
        SetError::AuthenticationFailed
    );
}

#[test]
fn a_header_that_brings_its_key_or_its_rules_is_refused() {
    for member in FORBIDDEN {
        let header = changed(header(), member, Some(json!("https://evil.example/")));
        check_refused(&header, &claims(), SetError::InvalidKey);
    }
    for kid in [
        None,
        Some(json!("")),
        Some(json!("key-2")),
        Some(json!("k".repeat(257))),
    ] {
        check_refused(
            &changed(header(), "kid", kid),
            &claims(),
            SetError::InvalidKey,
        );
    }
}

#[test]
fn each_wrong_claim_of_a_signed_token_has_its_code() {
    let (now, events) = (
        json!(NOW),
        json!({"https://a.example": {}, "https://b.example": {}}),
    );
    for (member, to, err) in [
        ("exp", Some(now), SetError::InvalidRequest),
        ("sub", Some(json!("ana")), SetError::InvalidRequest),
        ("iss", None, SetError::InvalidIssuer),
        ("aud", None, SetError::InvalidAudience),
        ("aud", Some(json!("them")), SetError::InvalidAudience),
        ("events", Some(events), SetError::InvalidRequest),
        ("events", None, SetError::InvalidRequest),
        ("jti", None, SetError::InvalidRequest),
        ("iat", None, SetError::InvalidRequest),
    ] {
        check_refused(&header(), &changed(claims(), member, to), err);
    }
}

#[test]
fn a_changed_token_is_refused() {
    let token = minted(&header(), &claims(), rs256);
    let parts: Vec<&str> = token.split('.').collect();
    let other = URL_SAFE_NO_PAD.encode(changed(claims(), "jti", Some(json!("id-2"))).to_string());
    let forged = format!("{}.{other}.{}", parts[0], parts[2]);
    assert_eq!(
        admit(&forged).unwrap_err().err,
        SetError::AuthenticationFailed
    );
}

#[test]
fn what_is_no_compact_token_is_refused() {
    let token = minted(&header(), &claims(), rs256);
    let list = URL_SAFE_NO_PAD.encode("[]");
    for odd in [
        String::new(),
        "..".to_owned(),
        "a.b".to_owned(),
        format!("{token}.{token}"),
        format!("{token}=="),
        format!("{list}.{list}."),
        format!("{}{token}", "a".repeat(HEADER_MAX)),
        "a".repeat(TOKEN_MAX + 1),
        "{\"payload\":\"\",\"signatures\":[]}".to_owned(),
    ] {
        assert_eq!(
            peek(odd.as_bytes()).unwrap_err().err,
            SetError::InvalidRequest
        );
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let head = URL_SAFE_NO_PAD.encode(header().to_string());
    let deep = format!("{head}.{}.AAAA", URL_SAFE_NO_PAD.encode(deep));
    assert_eq!(peek(deep.as_bytes()).unwrap_err().reason, "not_json");
}

#[test]
fn the_other_algorithms_verify_under_their_own_keys_alone() {
    let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let edwards = Ed25519KeyPair::generate().unwrap();
    let es256 = minted(
        &changed(header(), "alg", Some(json!("ES256"))),
        &claims(),
        |signed| {
            p256.sign(&SystemRandom::new(), signed)
                .unwrap()
                .as_ref()
                .to_vec()
        },
    );
    let eddsa = minted(
        &changed(header(), "alg", Some(json!("EdDSA"))),
        &claims(),
        |signed| edwards.sign(signed).as_ref().to_vec(),
    );
    let keys = [
        Key::parse(&p256_jwk("key-1", &p256)).unwrap(),
        Key::parse(&ed25519_jwk("key-1", &edwards)).unwrap(),
        key(),
    ];
    for (token, own) in [(es256, 0), (eddsa, 1)] {
        for (index, key) in keys.iter().enumerate() {
            let verified = peek(token.as_bytes()).unwrap().verify(key);
            match verified {
                Ok(_) => assert_eq!(index, own),
                Err(refused) => {
                    assert_ne!(index, own);
                    assert_eq!(refused.err, SetError::InvalidKey);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        body in any::<Vec<u8>>(),
        token in "[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}",
        payload in any::<Vec<u8>>(),
    ) {
        let _ = peek(&body);
        let _ = peek(token.as_bytes());
        let head = URL_SAFE_NO_PAD.encode(header().to_string());
        let _ = admit(&format!("{head}.{}.AAAA", URL_SAFE_NO_PAD.encode(payload)));
    }
}

#[test]
fn every_token_of_the_corpus_is_looked_at_or_refused() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/fuzz");
    let mut looked_at = 0;
    for kind in ["jws", "any", "security_event"] {
        for entry in std::fs::read_dir(format!("{folder}/{kind}")).unwrap() {
            let body = std::fs::read(entry.unwrap().path()).unwrap();
            looked_at += usize::from(peek(&body).is_ok());
        }
    }
    assert!(looked_at > 0, "one of them gets as far as its signature");
}
