//! A transmitter of security events and the issuer of its tokens: keys, verification and a queue to fetch from.
//!
//! Its keys are made anew for each test. Tokens are put together by hand, so that a test may get any part of
//! them wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// What the tests call the issuer and the receiver.
pub(crate) const ISSUER: &str = "https://idp.example";
pub(crate) const AUDIENCE: &str = "https://tidegate.example";

/// A key that signs tokens.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) kid: String,
    pair: KeyPair,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub(crate) fn new(kid: &str) -> Self {
        Self {
            kid: kid.to_owned(),
            pair: KeyPair::generate(KeySize::Rsa2048).expect("a key"),
        }
    }

    /// The public half, as it is published.
    pub(crate) fn jwk(&self) -> Value {
        // RSAPublicKey: 30 82 <2> 02 82 <2> n 02 03 e.
        let der = self.pair.public_key().as_ref();
        let length = usize::from(der[6]) * 256 + usize::from(der[7]);
        let (n, behind) = der[8..].split_at(length);
        let n = n.strip_prefix(&[0]).unwrap_or(n);
        json!({"kty": "RSA", "kid": self.kid, "use": "sig", "alg": "RS256", "n": encode(n), "e": encode(&behind[2..])})
    }

    /// Signs any header and claims.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!(
            "{}.{}",
            encode(header.to_string()),
            encode(claims.to_string())
        );
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &aws_lc_rs::rand::SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .expect("a signature");
        format!("{signed}.{}", encode(signature))
    }

    /// Signs claims as a transmitter does.
    pub(crate) fn token(&self, claims: &Value) -> String {
        let header = json!({"typ": "secevent+jwt", "alg": "RS256", "kid": self.kid});
        self.sign(&header, claims)
    }
}

/// The claims of a token with one event, issued so many seconds ago.
pub(crate) fn claims(jti: &str, event: &str, payload: Value, subject: Value, age: i64) -> Value {
    let event = match event.split_once("://") {
        Some(_) => event.to_owned(),
        None => format!("https://schemas.openid.net/secevent/{event}"),
    };
    json!({
        "iss": ISSUER, "jti": jti, "iat": chrono::Utc::now().timestamp() - age, "aud": AUDIENCE,
        "events": {event: payload}, "sub_id": subject,
    })
}

/// A change of the risk of a whole tenant.
pub(crate) fn risk(jti: &str, level: &str, age: i64) -> Value {
    let payload =
        json!({"principal": "TENANT", "current_level": level, "risk_reason": "they are in"});
    let tenant = json!({"format": "opaque", "id": "contoso"});
    claims(
        jti,
        "caep/event-type/risk-level-change",
        payload,
        tenant,
        age,
    )
}

/// A credential that is in the hands of others, of everybody in a tenant.
pub(crate) fn compromise(jti: &str, age: i64) -> Value {
    let subject = json!({"format": "complex", "tenant": {"format": "opaque", "id": "contoso"}});
    let payload = json!({"credential_type": "password"});
    claims(
        jti,
        "risc/event-type/credential-compromise",
        payload,
        subject,
        age,
    )
}

/// What a stream says of itself.
pub(crate) fn about_stream(jti: &str, event: &str, payload: Value, age: i64) -> Value {
    let stream = json!({"format": "opaque", "id": "stream-1"});
    claims(
        jti,
        &format!("ssf/event-type/{event}"),
        payload,
        stream,
        age,
    )
}

/// What a transmitter knows and has seen.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// The keys that it publishes.
    pub(crate) keys: Vec<Value>,
    /// Whether it answers nothing.
    pub(crate) is_down: bool,
    /// How often its keys were fetched.
    pub(crate) fetches: usize,
    /// What it was asked to verify.
    pub(crate) verifications: Vec<Value>,
    /// Tokens to be fetched, by id.
    pub(crate) queue: BTreeMap<String, String>,
    /// What was asked of the queue.
    pub(crate) polls: Vec<Value>,
    /// What was acknowledged.
    pub(crate) acks: Vec<String>,
    /// What was refused, and why.
    pub(crate) errs: BTreeMap<String, Value>,
}

/// A transmitter that answers on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Transmitter {
    /// Where it answers.
    pub(crate) url: String,
    /// Its host and port, as they are granted.
    pub(crate) host: String,
    book: Arc<Mutex<Book>>,
}

type Shared = Arc<Mutex<Book>>;

fn locked(book: &Shared) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transmitter {
    /// Starts one that publishes these keys.
    pub(crate) async fn start(signers: &[&Signer]) -> Self {
        let book = Shared::default();
        locked(&book).keys = signers.iter().map(|signer| signer.jwk()).collect();
        let router = axum::Router::new()
            .route("/keys", get(keys))
            .route("/verify", post(verify))
            .route("/poll", post(poll))
            .with_state(book.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let host = listener.local_addr().expect("its address").to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            url: format!("http://{host}"),
            host,
            book,
        }
    }

    /// Looks at what it knows, or changes it.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        locked(&self.book)
    }
}

type Answered = Result<Json<Value>, StatusCode>;

async fn keys(State(book): State<Shared>) -> Answered {
    // Long enough for many to ask meanwhile.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let mut book = locked(&book);
    book.fetches += 1;
    if book.is_down {
        return Err(StatusCode::BAD_GATEWAY);
    }
    Ok(Json(json!({"keys": book.keys})))
}

async fn verify(State(book): State<Shared>, Json(asked): Json<Value>) -> StatusCode {
    let mut book = locked(&book);
    if book.is_down {
        return StatusCode::BAD_GATEWAY;
    }
    book.verifications.push(asked);
    StatusCode::NO_CONTENT
}

async fn poll(State(book): State<Shared>, Json(asked): Json<Value>) -> Answered {
    let mut book = locked(&book);
    if book.is_down {
        return Err(StatusCode::BAD_GATEWAY);
    }
    for jti in asked["ack"].as_array().into_iter().flatten() {
        let jti = jti.as_str().expect("an id").to_owned();
        book.queue.remove(&jti);
        book.acks.push(jti);
    }
    for (jti, err) in asked["setErrs"].as_object().into_iter().flatten() {
        book.queue.remove(jti);
        book.errs.insert(jti.clone(), err.clone());
    }
    let most = asked["maxEvents"]
        .as_u64()
        .map_or(usize::MAX, |most| most as usize);
    book.polls.push(asked);
    let given: BTreeMap<_, _> = book.queue.iter().take(most.min(2)).collect();
    let is_more = given.len() < book.queue.len();
    Ok(Json(json!({"sets": given, "moreAvailable": is_more})))
}
