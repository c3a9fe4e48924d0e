//! A client of the HTTP API that shows everything a test may want to look at.

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

/// A client with a token.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    /// Where the service answers.
    pub(crate) url: String,
    /// The API token.
    pub(crate) token: String,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: reqwest::header::HeaderMap,
    /// The body; null when it is no JSON.
    pub(crate) body: Value,
    /// The body as it came.
    pub(crate) text: String,
}

impl Api {
    /// Makes a client.
    pub(crate) fn new(url: String, token: String) -> Self {
        let http = reqwest::Client::builder()
            .timeout(std::time::Duration::from_secs(120))
            .build()
            .expect("a client");
        Self { http, url, token }
    }

    /// Returns the same client with another token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// Begins a request.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        if self.token.is_empty() {
            request
        } else {
            request.bearer_auth(&self.token)
        }
    }

    /// Reads.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    /// Posts a JSON document.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        send(self.request(Method::POST, path).json(&body)).await
    }

    /// Posts a text of a media type.
    pub(crate) async fn post_text(
        &self,
        path: &str,
        kind: &str,
        text: impl Into<String>,
    ) -> Answer {
        let request = self.request(Method::POST, path);
        send(request.header("content-type", kind).body(text.into())).await
    }

    /// Makes a token of a role and returns a client with it.
    pub(crate) async fn as_role(&self, name: &str, role: &str) -> Self {
        let body = serde_json::json!({"name": name, "role": role});
        let made = self.post("/v1/tokens", body).await.ok();
        self.with_token(made["token"].as_str().expect("a token"))
    }
}

/// Sends a request and reads the whole answer.
pub(crate) async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.expect("a body");
    Answer {
        status,
        headers,
        body: serde_json::from_str(&text).unwrap_or(Value::Null),
        text,
    }
}

impl Answer {
    /// Returns the body of a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.status < 300, "{} {}", self.status, self.text);
        self.body
    }

    /// Fails unless this is a problem document with this status and code; returns its sentence.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> String {
        assert_eq!(
            (self.status, self.body["code"].as_str()),
            (status, Some(code)),
            "{}",
            self.text
        );
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], status);
        let sentence = self.body["detail"].as_str().unwrap_or_default().to_owned();
        assert!(sentence.len() > 10, "a sentence that helps: `{sentence}`");
        sentence
    }

    /// Returns the generation in the `ETag`.
    #[track_caller]
    pub(crate) fn etag(&self) -> String {
        let tag = self.headers.get("etag").expect("an ETag");
        tag.to_str().expect("plain").to_owned()
    }
}
