//! A small SCIM server that writes down when each request began, on the clock of the test.
//!
//! It runs on a thread of its own, so that a busy test does not make it late. One server plays several
//! tenants: the first part of the path is the tenant. User names and external
//! ids are unique in a tenant; whoever is created twice is refused and written down. It has several doors, each an HTTP
//! proxy to itself: a process that was given one of its own is known by it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::Random;
use super::api::Api;

/// What the server does to its clients, as shares of a million, each decided by person and attempt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trouble {
    /// How long an answer takes.
    pub(crate) latency_ms: u64,
    /// Creations that happen, and whose answer is lost on the way.
    pub(crate) lost: u64,
    /// Creations that happen, and whose answer takes as long as `hang_ms`.
    pub(crate) hang: u64,
    /// How long those take.
    pub(crate) hang_ms: u64,
    /// Requests that are told to come back in a fifth of a second.
    pub(crate) busy: u64,
    /// People who are refused for good. At each attempt: one that comes late, after its client has given it up,
    /// must not succeed where the next one was refused.
    pub(crate) refused: u64,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// When its head had come.
    pub(crate) at: Instant,
    /// Through which door; none: by the address of the server.
    pub(crate) door: Option<usize>,
    /// Which tenant.
    pub(crate) tenant: String,
    /// How.
    pub(crate) method: Method,
    /// Whom it was about: the external id of a creation, the filter of a look-up.
    pub(crate) about: String,
    /// The status it was answered with, or would have been.
    pub(crate) status: u16,
}

#[derive(Debug, Default)]
struct Book {
    seed: u64,
    trouble: Trouble,
    calls: Vec<Call>,
    /// By tenant and user name.
    accounts: HashMap<String, HashMap<String, Value>>,
    made: u64,
    attempts: HashMap<(String, String), u64>,
}

/// The server.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// Where it answers.
    pub(crate) url: String,
    doors: Vec<String>,
    book: Arc<Mutex<Book>>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Recorder {
    /// Starts it with so many doors; the seed decides who meets trouble.
    pub(crate) fn start(seed: u64, trouble: Trouble, doors: usize) -> Self {
        let book = Arc::new(Mutex::new(Book {
            seed,
            trouble,
            ..Book::default()
        }));
        let listener = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            listener
                .set_nonblocking(true)
                .expect("a socket that does not block");
            listener
        };
        let url_of = |listener: &std::net::TcpListener| {
            format!("http://{}", listener.local_addr().expect("an address"))
        };
        let front = listener();
        let backs: Vec<_> = (0..doors).map(|_| listener()).collect();
        let (url, doors) = (url_of(&front), backs.iter().map(url_of).collect());
        let listeners = std::iter::once((front, None))
            .chain(backs.into_iter().zip((0..).map(Some)))
            .collect();
        let (end, ended) = tokio::sync::oneshot::channel();
        let state = Arc::clone(&book);
        std::thread::spawn(move || serve(listeners, state, ended));
        Self {
            url,
            doors,
            book,
            end: Some(end),
        }
    }

    /// Returns the proxy through which one process comes.
    pub(crate) fn door(&self, number: usize) -> &str {
        &self.doors[number]
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    /// Changes the trouble.
    pub(crate) fn set(&self, trouble: Trouble) {
        self.book().trouble = trouble;
    }

    /// Creates a target of this name, which is a tenant of this server.
    pub(crate) async fn register(&self, api: &Api, name: &str, concurrency: u64, timeout: u64) {
        let config = json!({"base_url": format!("{}/{name}", self.url), "concurrency": concurrency,
            "timeout_seconds": timeout});
        let body = json!({"name": name, "connector": "scim", "config": config});
        api.post("/v1/targets", body).await.ok();
    }

    /// Counts the requests so far.
    pub(crate) fn len(&self) -> usize {
        self.book().calls.len()
    }

    /// Counts the requests that came through no door.
    pub(crate) fn unknown(&self) -> usize {
        let book = self.book();
        book.calls.iter().filter(|call| call.door.is_none()).count()
    }

    /// Counts the requests that began in a window.
    pub(crate) fn begun_in(&self, from: Instant, until: Instant) -> Vec<Call> {
        let book = self.book();
        let calls = book.calls.iter();
        calls
            .filter(|call| call.at > from && call.at < until)
            .cloned()
            .collect()
    }

    /// Returns how many accounts each external id of a tenant has.
    pub(crate) fn accounts(&self, tenant: &str) -> BTreeMap<String, u32> {
        let mut found = BTreeMap::new();
        for account in self.book().of(tenant) {
            let id = account["externalId"].as_str().unwrap_or_default();
            *found.entry(id.to_owned()).or_default() += 1;
        }
        found
    }

    /// Tells what became of everybody of a tenant who was refused and has an account all the same.
    pub(crate) fn refused_and_there(&self, tenant: &str) -> String {
        let there = self.accounts(tenant);
        let book = self.book();
        let first = book.calls.first().map_or_else(Instant::now, |call| call.at);
        let ours = || book.calls.iter().filter(|call| call.tenant == tenant);
        let refused: Vec<&str> = ours()
            .filter(|call| call.status == 400 && there.contains_key(&call.about))
            .map(|call| call.about.as_str())
            .collect();
        let theirs = ours().filter(|call| refused.iter().any(|id| call.about.contains(id)));
        let line = |call: &Call| {
            let millis = call.at.saturating_duration_since(first).as_millis();
            let Call {
                door,
                method,
                about,
                status,
                ..
            } = call;
            format!("  {millis} ms, door {door:?}: {method} {about} {status}\n")
        };
        theirs.map(line).collect()
    }

    /// Returns the external ids that were created again while their account was there.
    pub(crate) fn created_again(&self) -> Vec<String> {
        let book = self.book();
        // A check of the target tries that on purpose, with a canary.
        let is_clash = |call: &&Call| call.status == 409 && !call.about.contains("canary");
        let clashes = book.calls.iter().filter(is_clash);
        clashes
            .map(|call| format!("{}/{}", call.tenant, call.about))
            .collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
    }
}

fn lock(book: &Arc<Mutex<Book>>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(
    listeners: Vec<(std::net::TcpListener, Option<usize>)>,
    book: Arc<Mutex<Book>>,
    ended: tokio::sync::oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let served = listeners.into_iter().map(|(listener, door)| {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let app = axum::Router::new().fallback(answer);
            axum::serve(listener, app.with_state((Arc::clone(&book), door))).into_future()
        });
        tokio::select! {
            _ = futures_util::future::join_all(served) => {}
            _ = ended => {}
        }
    });
}

type Server = (Arc<Mutex<Book>>, Option<usize>);

async fn answer(State((book, door)): State<Server>, request: Request) -> Response {
    let at = Instant::now();
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().trim_start_matches('/').to_owned();
    let tenant = path.split('/').next().unwrap_or_default().to_owned();
    let body = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let filter = parts.uri.query().map(filter_of).unwrap_or_default();
    let about = body["externalId"].as_str().map_or(filter, str::to_owned);
    let latency = lock(&book).trouble.latency_ms;
    let mut call = Call {
        at,
        door,
        tenant,
        method: parts.method,
        about,
        status: 0,
    };
    // What is written down is written down before anybody waits: a killed client changes nothing.
    let (answer, fate) = {
        let mut book = lock(&book);
        let (answer, fate) = book.decide(&call, &path, &body);
        call.status = answer.0.as_u16();
        book.calls.push(call);
        (answer, fate)
    };
    let wait = match fate {
        Fate::Late(after) => after,
        Fate::Answered | Fate::Lost => latency,
    };
    tokio::time::sleep(Duration::from_millis(wait)).await;
    let (status, body) = answer;
    if fate == Fate::Lost {
        let broken = std::io::Error::other("the answer is lost");
        let stream = futures_util::stream::iter([Err::<Vec<u8>, _>(broken)]);
        return (status, Body::from_stream(stream)).into_response();
    }
    let busy = status == StatusCode::TOO_MANY_REQUESTS;
    let headers = [("retry-after", if busy { "0.2" } else { "" })];
    let headers = busy.then_some(headers);
    match headers {
        Some(headers) => (status, headers, body.to_string()).into_response(),
        None => (status, body.to_string()).into_response(),
    }
}

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Lost,
    Late(u64),
}

/// Returns the attribute and value in a look-up, as `externalId eq "…"`.
fn filter_of(query: &str) -> String {
    let pairs = query.split('&');
    let filter = pairs.filter_map(|pair| pair.strip_prefix("filter=")).next();
    let text = filter.unwrap_or_default().replace('+', " ");
    [("%20", " "), ("%22", "\""), ("%40", "@")]
        .iter()
        .fold(text, |text, (from, to)| text.replace(from, to))
}

impl Book {
    fn decide(&mut self, call: &Call, path: &str, body: &Value) -> ((StatusCode, Value), Fate) {
        let answered = |status, body| ((status, body), Fate::Answered);
        if call.method == Method::GET && path.ends_with("/ServiceProviderConfig") {
            return answered(StatusCode::OK, json!({"patch": {"supported": true}}));
        }
        if call.method == Method::GET && path.ends_with("/Users") {
            return answered(StatusCode::OK, self.find(&call.tenant, &call.about));
        }
        if call.method != Method::POST {
            let id = path.rsplit('/').next().unwrap_or_default();
            return (self.one(call, id, body), Fate::Answered);
        }
        let attempts = self
            .attempts
            .entry((call.tenant.clone(), call.about.clone()));
        let attempt = *attempts
            .and_modify(|attempts| *attempts += 1)
            .or_insert(1_u64);
        let refused = |kind: &str| json!({"scimType": kind, "detail": "told to say so"});
        // The place of a person does not change; luck does with every attempt.
        let place = self.luck(call, 0);
        if place < self.trouble.refused {
            return answered(StatusCode::BAD_REQUEST, refused("invalidValue"));
        }
        if self.luck(call, attempt * 2 + 1) < self.trouble.busy {
            return answered(StatusCode::TOO_MANY_REQUESTS, refused("tooMany"));
        }
        let name = body["userName"].as_str().unwrap_or_default().to_owned();
        let is_there = self
            .of(&call.tenant)
            .any(|account| account["externalId"] == body["externalId"]);
        let accounts = self.accounts.entry(call.tenant.clone()).or_default();
        if is_there || accounts.contains_key(&name) {
            return answered(StatusCode::CONFLICT, refused("uniqueness"));
        }
        self.made += 1;
        let mut account = body.clone();
        account["id"] = json!(format!("a{}", self.made));
        accounts.insert(name, account.clone());
        let luck = self.luck(call, attempt * 2);
        let fate = if luck < self.trouble.lost {
            Fate::Lost
        } else if luck < self.trouble.lost + self.trouble.hang {
            Fate::Late(self.trouble.hang_ms)
        } else {
            Fate::Answered
        };
        ((StatusCode::CREATED, account), fate)
    }

    /// Returns the accounts of a tenant.
    fn of(&self, tenant: &str) -> impl Iterator<Item = &Value> {
        self.accounts
            .get(tenant)
            .into_iter()
            .flat_map(HashMap::values)
    }

    /// Reads, changes or deletes one account.
    fn one(&mut self, call: &Call, id: &str, body: &Value) -> (StatusCode, Value) {
        let accounts = self.accounts.entry(call.tenant.clone()).or_default();
        let found = accounts.iter_mut().find(|(_, account)| account["id"] == id);
        let Some((name, account)) = found else {
            return (StatusCode::NOT_FOUND, json!({"detail": "nobody"}));
        };
        if call.method == Method::DELETE {
            let name = name.clone();
            accounts.remove(&name);
            return (StatusCode::NO_CONTENT, Value::Null);
        }
        for change in body["Operations"].as_array().unwrap_or(&Vec::new()) {
            let path = change["path"].as_str().unwrap_or_default();
            account[path] = change["value"].clone();
        }
        (StatusCode::OK, account.clone())
    }

    fn find(&self, tenant: &str, filter: &str) -> Value {
        let value = filter.split('"').nth(1).unwrap_or_default().to_lowercase();
        let is_it = |account: &&Value| {
            let has = |name: &str| account[name].as_str().unwrap_or_default().to_lowercase();
            filter.is_empty()
                || filter.starts_with("externalId") && has("externalId") == value
                || filter.starts_with("userName") && has("userName") == value
        };
        let found: Vec<&Value> = self.of(tenant).filter(is_it).collect();
        let some: Vec<&Value> = found.into_iter().take(5).collect();
        json!({"totalResults": some.len(), "Resources": some})
    }

    /// Returns a number below a million that depends on the seed, the person and the salt alone.
    fn luck(&self, call: &Call, salt: u64) -> u64 {
        let text = call.tenant.bytes().chain(call.about.bytes());
        let hash = text.fold(self.seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        Random(hash ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)).below(1_000_000)
    }
}
