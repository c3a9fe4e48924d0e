//! A SCIM server of our own, for what no honest server does: it lies, hangs, points elsewhere.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// One request as it came.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: String,
    /// The path under `/v2`, such as `/Users`.
    pub(super) path: String,
    /// The filter, when there is one.
    pub(super) filter: Option<String>,
    pub(super) authorization: Option<String>,
    pub(super) body: Value,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// A status and a JSON document.
    Json(u16, Value),
    /// A status, one header, and a body as it is.
    Raw(u16, (&'static str, String), String),
    /// Nothing, ever.
    Hang,
}

/// A server that runs as long as the test.
#[derive(Debug)]
pub(super) struct Own {
    /// Where it answers.
    pub(super) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for Own {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Own {
    /// Starts a server that answers as the function says.
    pub(super) async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v2", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), asked.clone());
        let handler = move |request: Request| {
            let (answer, seen) = (answer.clone(), seen.clone());
            async move {
                let request = read(request).await;
                seen.lock().unwrap().push(request.clone());
                write(answer(&request)).await
            }
        };
        let router = axum::Router::new().fallback(handler);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, asked, task }
    }

    /// Returns every request that came.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Counts the requests of a method.
    pub(super) fn count(&self, method: &str) -> usize {
        let asked = self.asked();
        asked.iter().filter(|one| one.method == method).count()
    }
}

async fn read(request: Request) -> Asked {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, 1 << 20).await.unwrap();
    let url = reqwest::Url::parse(&format!("http://x{}", parts.uri)).unwrap();
    let filter = url.query_pairs().find(|(name, _)| name == "filter");
    let authorization = parts.headers.get("authorization");
    Asked {
        method: parts.method.to_string(),
        path: url.path().trim_start_matches("/v2").to_owned(),
        filter: filter.map(|(_, value)| value.into_owned()),
        authorization: authorization.map(|text| text.to_str().unwrap().to_owned()),
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    }
}

async fn write(reply: Reply) -> Response {
    let (status, header, body) = match reply {
        Reply::Json(status, body) => {
            let header = ("content-type", "application/scim+json".to_owned());
            (status, header, body.to_string())
        }
        Reply::Raw(status, header, body) => (status, header, body),
        Reply::Hang => std::future::pending().await,
    };
    let response = Response::builder().status(status);
    let response = response.header(header.0, header.1);
    response.body(Body::from(body)).unwrap()
}

/// The accounts of an honest server, as a script may use them.
#[derive(Debug, Clone, Default)]
pub(super) struct Book(Arc<Mutex<BTreeMap<String, Value>>>);

impl Book {
    /// Returns every account.
    pub(super) fn accounts(&self) -> Vec<Value> {
        self.0.lock().unwrap().values().cloned().collect()
    }

    /// Deletes an account by hand.
    pub(super) fn delete(&self, id: &str) {
        assert!(self.0.lock().unwrap().remove(id).is_some());
    }

    /// Changes an account by hand.
    pub(super) fn set(&self, id: &str, attribute: &str, value: Value) {
        self.0.lock().unwrap().get_mut(id).unwrap()[attribute] = value;
    }

    /// Answers as an honest server would.
    pub(super) fn answer(&self, asked: &Asked) -> Reply {
        let id = asked.path.strip_prefix("/Users/").unwrap_or_default();
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/ServiceProviderConfig") => {
                Reply::Json(200, json!({"schemas": [], "patch": {"supported": true}}))
            }
            ("GET", "/Users") => {
                let rows: Vec<Value> = match &asked.filter {
                    Some(filter) => self.matching(filter),
                    None => self.accounts().into_iter().take(20).collect(),
                };
                Reply::Json(200, json!({"totalResults": rows.len(), "Resources": rows}))
            }
            ("POST", "/Users") => self.create(&asked.body),
            ("GET", _) => match self.0.lock().unwrap().get(id) {
                Some(account) => Reply::Json(200, account.clone()),
                None => Reply::Json(404, json!({"status": "404"})),
            },
            ("PATCH", _) => {
                let mut book = self.0.lock().unwrap();
                let account = book.get_mut(id).unwrap();
                for change in asked.body["Operations"].as_array().unwrap() {
                    account[change["path"].as_str().unwrap()] = change["value"].clone();
                }
                Reply::Json(200, account.clone())
            }
            ("DELETE", _) => {
                self.0.lock().unwrap().remove(id);
                Reply::Raw(204, ("x-gone", "yes".to_owned()), String::new())
            }
            _ => Reply::Json(404, json!({"status": "404", "detail": "no such resource"})),
        }
    }

    /// Replaces an account, as an honest server would.
    pub(super) fn replace(&self, asked: &Asked) -> Reply {
        let id = asked.path.strip_prefix("/Users/").unwrap_or_default();
        let mut account = asked.body.clone();
        account["id"] = id.into();
        self.0
            .lock()
            .unwrap()
            .insert(id.to_owned(), account.clone());
        Reply::Json(200, account)
    }

    fn matching(&self, filter: &str) -> Vec<Value> {
        let (attribute, value) = filter.split_once(" eq ").unwrap();
        let value: Value = serde_json::from_str(value).unwrap();
        let mut found = self.accounts();
        found.retain(|account| account[attribute] == value);
        found
    }

    fn create(&self, account: &Value) -> Reply {
        let mut book = self.0.lock().unwrap();
        if book
            .values()
            .any(|one| one["userName"] == account["userName"])
        {
            return Reply::Json(409, json!({"status": "409", "scimType": "uniqueness"}));
        }
        let id = format!("id-{}", book.len());
        let mut account = account.clone();
        account["id"] = id.clone().into();
        book.insert(id, account.clone());
        Reply::Json(201, account)
    }
}
