//! A receiver of webhooks as others run one: it checks signatures by itself, and answers as it is told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The key that a receiver and the service share unless a test says otherwise.
pub(crate) const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What a receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// This status.
    Answers(u16),
    /// Nothing, for as long as anybody waits.
    Hangs,
    /// That it is somewhere else.
    Points,
}

/// An event that came.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    /// The path it came to.
    pub(crate) path: String,
    /// `webhook-id`.
    pub(crate) id: String,
    /// `webhook-timestamp`.
    pub(crate) at: i64,
    /// The media type.
    pub(crate) media: String,
    /// How many signatures there were.
    pub(crate) signatures: usize,
    /// Whether one of them is of the key.
    pub(crate) genuine: bool,
    /// What it was answered with; 0: nothing.
    pub(crate) answered: u16,
    /// The event.
    pub(crate) event: Value,
}

#[derive(Debug)]
struct Book {
    mood: Mood,
    key: String,
    got: Vec<Got>,
}

/// A receiver. It lives as long as the test.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    /// Its host and port.
    pub(crate) host: String,
    book: Arc<Mutex<Book>>,
}

impl Receiver {
    /// Starts one that takes everything.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let book = Arc::new(Mutex::new(Book {
            mood: Mood::Answers(204),
            key: KEY.to_owned(),
            got: Vec::new(),
        }));
        let router = Router::new().fallback(take).with_state(Arc::clone(&book));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { host, book }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    /// Has it answer differently from now on.
    pub(crate) fn answers(&self, mood: Mood) {
        self.book().mood = mood;
    }

    /// Has it know another key.
    pub(crate) fn knows(&self, key: &str) {
        key.clone_into(&mut self.book().key);
    }

    /// Returns everything that came, whatever it was answered with.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.book().got.clone()
    }

    /// Returns what was taken (2xx).
    pub(crate) fn taken(&self) -> Vec<Got> {
        let got = self.got().into_iter();
        got.filter(|got| (200..300).contains(&got.answered))
            .collect()
    }

    /// Returns the short types of what was taken.
    pub(crate) fn types(&self) -> Vec<String> {
        self.taken().iter().map(Got::kind).collect()
    }

    /// Returns where events are sent to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks/tidegate", self.host)
    }
}

impl Got {
    /// Returns the type without what every type begins with.
    pub(crate) fn kind(&self) -> String {
        let kind = self.event["type"].as_str().unwrap_or_default();
        kind.trim_start_matches("dev.tidegate.").to_owned()
    }

    /// Returns its place in the trail.
    pub(crate) fn sequence(&self) -> i64 {
        self.event["sequence"].as_str().unwrap().parse().unwrap()
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn take(
    State(book): State<Arc<Mutex<Book>>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let (id, at, signed) = (
        header("webhook-id"),
        header("webhook-timestamp"),
        header("webhook-signature"),
    );
    let mood = {
        let mut book = lock(&book);
        let (mood, wanted) = (book.mood, signature(&book.key, &id, &at, &body));
        book.got.push(Got {
            path: uri.path().to_owned(),
            id,
            at: at.parse().unwrap_or(0),
            media: header("content-type"),
            signatures: signed.split(' ').count(),
            genuine: signed.split(' ').any(|one| one == wanted),
            answered: match mood {
                Mood::Answers(status) => status,
                Mood::Hangs => 0,
                Mood::Points => 307,
            },
            event: serde_json::from_slice(&body).unwrap_or(Value::Null),
        });
        mood
    };
    match mood {
        Mood::Answers(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Mood::Hangs => {
            tokio::time::sleep(Duration::from_secs(120)).await;
            StatusCode::NO_CONTENT.into_response()
        }
        Mood::Points => {
            let elsewhere = [("location", "/elsewhere")];
            (StatusCode::TEMPORARY_REDIRECT, elsewhere).into_response()
        }
    }
}

/// The signature as the specification says it, made here and not by the service.
fn signature(key: &str, id: &str, at: &str, body: &[u8]) -> String {
    let secret = STANDARD.decode(key.trim_start_matches("whsec_")).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let mut signed = format!("{id}.{at}.").into_bytes();
    signed.extend_from_slice(body);
    format!("v1,{}", STANDARD.encode(hmac::sign(&key, &signed)))
}
