//! The command line's side of the HTTP API: one client, one way to fail.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::io::ReaderStream;

use super::error::{CliError, Problem};
use super::tame::{tame, tamed};
use crate::app::Ids;

/// How long an ordinary call may take. An upload has no such limit.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Talks to one service as one principal.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    token: Option<String>,
    http: reqwest::Client,
    ids: Ids,
    /// Whether answers are for a terminal: what others wrote must not steer it.
    for_terminal: bool,
}

/// A body to send as it is.
#[derive(Debug, Clone)]
pub struct Document {
    /// The media type, such as `application/yaml`.
    pub content_type: &'static str,
    /// The text.
    pub text: String,
}

impl Client {
    /// Prepares a client; nothing is sent yet.
    ///
    /// # Errors
    /// When the system's TLS set-up is unusable.
    pub fn new(url: &str, token: Option<String>, ids: Ids) -> Result<Self, CliError> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(CliError::Usage(format!(
                "`{url}` is no address of a service: write it whole, such as http://127.0.0.1:8787"
            )));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| CliError::Failed(error.to_string()))?;
        Ok(Self {
            base: url.trim_end_matches('/').to_owned(),
            token,
            http,
            ids,
            for_terminal: true,
        })
    }

    /// Leaves texts in answers as they are, for programs.
    #[must_use]
    pub fn untamed(mut self) -> Self {
        self.for_terminal = false;
        self
    }

    /// Returns the address this client talks to.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Returns the maker of ids, for another client.
    #[must_use]
    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// As the service answers, or when nobody does.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.read(self.request(Method::GET, path).timeout(CALL_TIMEOUT))
            .await
    }

    /// Reads a resource that may not exist.
    ///
    /// # Errors
    /// As `get`, but a missing resource is `None`.
    pub async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, CliError> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(CliError::Problem(problem)) if problem.status == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads every page of a list.
    ///
    /// # Errors
    /// As `get`.
    pub async fn list(&self, path: &str, most: usize) -> Result<Vec<Value>, CliError> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let joint = if path.contains('?') { '&' } else { '?' };
            let page: Value = match &cursor {
                Some(cursor) => {
                    self.get(&format!("{path}{joint}cursor={}", escape(cursor)))
                        .await?
                }
                None => self.get(path).await?,
            };
            if let Some(found) = page.get("items").and_then(Value::as_array) {
                items.extend(found.iter().cloned());
            }
            cursor = page
                .get("next_cursor")
                .and_then(Value::as_str)
                .map(str::to_owned);
            if cursor.is_none() || items.len() >= most {
                items.truncate(most);
                return Ok(items);
            }
        }
    }

    /// Sends a JSON body. A repeat after a lost answer is recognised by its key.
    ///
    /// # Errors
    /// As the service answers, or when nobody does.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        let request = self.request(Method::POST, path).timeout(CALL_TIMEOUT);
        self.read(
            request
                .header("idempotency-key", self.ids.token())
                .json(body),
        )
        .await
    }

    /// Sends what changes about a resource.
    ///
    /// # Errors
    /// As the service answers, or when nobody does.
    pub async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        let request = self.request(Method::PATCH, path).timeout(CALL_TIMEOUT);
        self.read(request.json(body)).await
    }

    /// Replaces a resource.
    ///
    /// # Errors
    /// As the service answers, or when nobody does.
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        let request = self.request(Method::PUT, path).timeout(CALL_TIMEOUT);
        self.read(request.json(body)).await
    }

    /// Sends a JSON body, if the resource is still of the generation named.
    ///
    /// # Errors
    /// As the service answers, or when nobody does.
    pub async fn post_if<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        generation: Option<i64>,
    ) -> Result<T, CliError> {
        let mut request = self
            .request(Method::POST, path)
            .timeout(CALL_TIMEOUT)
            .json(body);
        if let Some(generation) = generation {
            request = request.header("if-match", format!("\"{generation}\""));
        }
        self.read(request).await
    }

    /// Sends a document as it is.
    ///
    /// # Errors
    /// As the service answers, or when nobody does.
    pub async fn post_document<T: DeserializeOwned>(
        &self,
        path: &str,
        document: &Document,
    ) -> Result<T, CliError> {
        let request = self
            .request(Method::POST, path)
            .timeout(CALL_TIMEOUT)
            .header("content-type", document.content_type)
            .header("idempotency-key", self.ids.token())
            .body(document.text.clone());
        self.read(request).await
    }

    /// Replaces a resource with a document, if it is still of the generation named.
    ///
    /// # Errors
    /// As the service answers, or when nobody does.
    pub async fn put_document<T: DeserializeOwned>(
        &self,
        path: &str,
        document: &Document,
        generation: i64,
    ) -> Result<T, CliError> {
        let request = self
            .request(Method::PUT, path)
            .timeout(CALL_TIMEOUT)
            .header("content-type", document.content_type)
            .header("if-match", format!("\"{generation}\""))
            .body(document.text.clone());
        self.read(request).await
    }

    /// Streams a file; `progress` hears how many bytes are gone.
    ///
    /// # Errors
    /// When the file cannot be read, and as the service answers.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        file: &Path,
        encoding: Option<&str>,
        progress: impl Fn(u64) + Send + 'static,
    ) -> Result<T, CliError> {
        let opened = tokio::fs::File::open(file)
            .await
            .map_err(|cause| CliError::File {
                path: file.to_owned(),
                cause,
            })?;
        let stream = ReaderStream::with_capacity(opened, 256 * 1024).inspect(move |part| {
            if let Ok(bytes) = part {
                progress(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            }
        });
        let mut request = self
            .request(Method::POST, path)
            .header("content-type", "application/octet-stream")
            .body(reqwest::Body::wrap_stream(stream));
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        self.read(request).await
    }

    /// Writes an answer out as it comes.
    ///
    /// # Errors
    /// As the service answers, when nobody does, and when nobody reads.
    pub async fn download(
        &self,
        path: &str,
        out: &mut impl std::io::Write,
    ) -> Result<(), CliError> {
        let response = self.request(Method::GET, path).send().await;
        let response = response.map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let mut parts = response.bytes_stream();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| self.unreachable(&error))?;
            out.write_all(&part)
                .map_err(|error| CliError::Failed(error.to_string()))?;
        }
        out.flush()
            .map_err(|error| CliError::Failed(error.to_string()))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, CliError> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            let bytes = response
                .bytes()
                .await
                .map_err(|error| self.unreachable(&error))?;
            let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
            return self.decode(bytes).map_err(|error| {
                CliError::Failed(format!(
                    "the answer of {} is not what was expected: {error}",
                    self.base
                ))
            });
        }
        Err(self.refusal(response).await)
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> serde_json::Result<T> {
        let mut value: Value = serde_json::from_slice(bytes)?;
        if self.for_terminal {
            tame(&mut value);
        }
        serde_json::from_value(value)
    }

    async fn refusal(&self, response: Response) -> CliError {
        let status = response.status().as_u16();
        let body = response.text().await.unwrap_or_default();
        match self.decode::<Problem>(body.as_bytes()) {
            Ok(problem) if !problem.code.is_empty() => {
                CliError::Problem(Problem { status, ..problem })
            }
            _ => CliError::Foreign {
                url: self.base.clone(),
                status,
                body: tamed(&body.chars().take(200).collect::<String>()),
            },
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> CliError {
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        CliError::Unreachable {
            url: self.base.clone(),
            cause: cause.to_string(),
        }
    }
}

/// Writes a name as one segment of a path or one value of a query.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn a_name_stays_one_segment_of_a_path() {
        assert_eq!(escape("m365-prod"), "m365-prod");
        assert_eq!(escape("a/b?c=d&e f"), "a%2Fb%3Fc%3Dd%26e%20f");
        assert_eq!(escape("zoë"), "zo%C3%AB");
    }
}
