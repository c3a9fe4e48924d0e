//! One request, one answer, within its time and never with more of a body than we can hold.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, Url};
use serde_json::{Value, json};

use super::ScimConfig;
use super::answer::{Answer, Class, class, retry_after};
use super::credential::{Credential, Keeper};
use super::user::{Found, filter};
use crate::clock::Clock;
use crate::connector::grants::Grants;
use crate::connector::{ConfigError, Trouble};

const MEDIA_TYPE: &str = "application/scim+json";
const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
/// No answer we need is larger than this.
const BODY_MAX: usize = 4 << 20;
/// How much of what a server says is kept.
const SAID_MAX: usize = 300;

/// Talks to one server.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    keeper: Keeper,
    clock: Clock,
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str().unwrap_or_default() {
        "localhost" | "[::1]" => true,
        host => host
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|ip| ip.is_loopback()),
    }
}

impl Client {
    pub(super) fn new(
        config: &ScimConfig,
        grants: &Grants,
        clock: &Clock,
    ) -> Result<Self, ConfigError> {
        // The address is not repeated: it may hold what does not belong there.
        let mut base = Url::parse(&config.base_url)
            .map_err(|error| ConfigError(format!("scim settings: base_url: {error}")))?;
        if !matches!(base.scheme(), "http" | "https")
            || !base.username().is_empty()
            || base.password().is_some()
            || base.query().is_some()
            || base.fragment().is_some()
        {
            let sentence = "scim settings: base_url is http or https, and holds no user name, password, query or fragment";
            return Err(ConfigError(sentence.to_owned()));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let credential = match &config.credential {
            Some(Credential::File(name)) => Some(Credential::File(grants.credential(name)?)),
            other => other.clone(),
        };
        if credential.is_some() && base.scheme() == "http" && !is_loopback(&base) {
            let sentence =
                "scim settings: a credential is sent over https, or to this machine itself";
            return Err(ConfigError(sentence.to_owned()));
        }
        let timeout = Duration::from_secs(config.timeout_seconds);
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(timeout.min(Duration::from_secs(5)))
            // A credential must not follow wherever a server points.
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(config.concurrency)
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ConfigError(format!("scim settings: {error}")))?;
        Ok(Self {
            http,
            base,
            keeper: Keeper::new(credential, clock.clone()),
            clock: clock.clone(),
        })
    }

    /// Says whether the bearer token can be read, and whether there is one.
    pub(super) fn has_token(&self) -> Result<bool, String> {
        self.keeper.token().map(|token| token.is_some())
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<RequestBuilder, Trouble> {
        let mut url = self
            .base
            .join(path)
            .map_err(|error| Trouble::new("path_invalid", error.to_string()))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url).header("accept", MEDIA_TYPE);
        match self.keeper.token() {
            Ok(Some(token)) => Ok(request.bearer_auth(token)),
            Ok(None) => Ok(request),
            Err(sentence) => Err(Trouble::new("credential_missing", sentence)),
        }
    }

    /// Reads a resource.
    pub(super) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Answer<Value> {
        match self.request(Method::GET, path, query) {
            Ok(request) => self.answer(request, false).await,
            Err(trouble) => Answer::LockedOut(trouble),
        }
    }

    /// Creates an account.
    pub(super) async fn create(&self, user: &Value) -> Answer<Found> {
        let answer = match self.request(Method::POST, "Users", &[]) {
            Ok(request) => self.answer(body(request, user), true).await,
            Err(trouble) => return Answer::LockedOut(trouble),
        };
        match answer {
            // A server that knows no `Users` says so about everybody: the address is wrong.
            Answer::Refused(trouble)
                if ["not_found", "not_supported"].contains(&trouble.code.as_str()) =>
            {
                Answer::LockedOut(trouble)
            }
            other => map(other, Found::of),
        }
    }

    /// Finds accounts by the value of an attribute.
    ///
    /// A server that ignores filters must not make us adopt whoever comes first, nor take their not
    /// being there for a proof of absence: it counts as refused.
    pub(super) async fn find(&self, attribute: &str, value: &str) -> Answer<Vec<Found>> {
        let filter = filter(attribute, value);
        let answer = self
            .get("Users", &[("filter", &filter), ("count", "5")])
            .await;
        let rows = match map(answer, rows) {
            Answer::Done(rows) => rows,
            other => return other,
        };
        let shown = rows.len();
        let wanted: Vec<Found> = rows
            .into_iter()
            .filter(|found| found.has(attribute, value))
            .collect();
        if wanted.is_empty() && shown > 0 {
            let message =
                format!("looked up by {attribute}, the server shows accounts that do not have it");
            return Answer::Refused(Trouble::new("filter_ignored", message));
        }
        Answer::Done(wanted)
    }

    /// Returns some accounts, whoever they are.
    pub(super) async fn some(&self) -> Answer<Vec<Found>> {
        map(self.get("Users", &[("count", "20")]).await, rows)
    }

    /// Reads an account.
    pub(super) async fn read(&self, id: &str) -> Answer<Found> {
        map(
            self.get(&format!("Users/{}", segment(id)), &[]).await,
            Found::of,
        )
    }

    /// Changes attributes of an account, all of them or none.
    pub(super) async fn patch(&self, id: &str, changes: &[(&str, Value)]) -> Answer<()> {
        let operations: Vec<Value> = changes
            .iter()
            .map(|(path, value)| json!({"op": "replace", "path": path, "value": value}))
            .collect();
        let change = json!({"schemas": [PATCH], "Operations": operations});
        let answer = match self.request(Method::PATCH, &format!("Users/{}", segment(id)), &[]) {
            Ok(request) => self.answer(body(request, &change), true).await,
            Err(trouble) => return Answer::LockedOut(trouble),
        };
        map(answer, |_| ())
    }

    /// Replaces an account, and returns it as the server shows it then.
    pub(super) async fn replace(&self, id: &str, account: &Value) -> Answer<Found> {
        let answer = match self.request(Method::PUT, &format!("Users/{}", segment(id)), &[]) {
            Ok(request) => self.answer(body(request, account), true).await,
            Err(trouble) => return Answer::LockedOut(trouble),
        };
        map(answer, Found::of)
    }

    /// Deletes an account; only the canary of a check is ever deleted.
    pub(super) async fn delete(&self, id: &str) -> Answer<()> {
        let answer = match self.request(Method::DELETE, &format!("Users/{}", segment(id)), &[]) {
            Ok(request) => self.answer(request, true).await,
            Err(trouble) => return Answer::LockedOut(trouble),
        };
        map(answer, |_| ())
    }

    async fn answer(&self, request: RequestBuilder, is_write: bool) -> Answer<Value> {
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return broken(&error),
        };
        let status = response.status().as_u16();
        let after = retry_after(response.headers(), self.clock.now().into());
        let body = match text(response).await {
            Ok(body) => body,
            Err(trouble) => return Answer::Silent(trouble),
        };
        if (200..300).contains(&status) {
            let empty = body.trim().is_empty();
            return match serde_json::from_str(&body) {
                Ok(value) => Answer::Done(value),
                Err(_) if empty => Answer::Done(Value::Null),
                Err(error) => Answer::Silent(Trouble::new(
                    "answer_unreadable",
                    format!("status {status}: {error}"),
                )),
            };
        }
        let said = self.keeper.censor(said(status, &body));
        if status == 401 {
            self.keeper.forget();
        }
        let trouble = Trouble::new(code(status, &body), said);
        match class(status, is_write) {
            Class::Clash => Answer::Clash(trouble),
            Class::Refused => Answer::Refused(trouble),
            Class::Busy => Answer::Busy {
                after,
                trouble: Trouble {
                    code: "throttled".to_owned(),
                    ..trouble
                },
            },
            Class::Silent => Answer::Silent(trouble),
            Class::LockedOut => Answer::LockedOut(trouble),
        }
    }
}

fn body(request: RequestBuilder, value: &Value) -> RequestBuilder {
    request
        .header("content-type", MEDIA_TYPE)
        .body(value.to_string())
}

fn rows(list: Value) -> Vec<Found> {
    match list {
        Value::Object(mut fields) => match fields.remove("Resources") {
            Some(Value::Array(rows)) => rows.into_iter().map(Found::of).collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn map<T>(answer: Answer<Value>, convert: impl FnOnce(Value) -> T) -> Answer<T> {
    match answer {
        Answer::Done(value) => Answer::Done(convert(value)),
        Answer::Clash(trouble) => Answer::Clash(trouble),
        Answer::Refused(trouble) => Answer::Refused(trouble),
        Answer::Busy { after, trouble } => Answer::Busy { after, trouble },
        Answer::Silent(trouble) => Answer::Silent(trouble),
        Answer::LockedOut(trouble) => Answer::LockedOut(trouble),
        Answer::Unreachable(trouble) => Answer::Unreachable(trouble),
    }
}

/// Writes an id as one segment of a path.
fn segment(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    id.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// A request that got no answer: never begun, or nobody knows.
fn broken(error: &reqwest::Error) -> Answer<Value> {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if error.is_connect() {
        return Answer::Unreachable(Trouble::new("unreachable", cause.to_string()));
    }
    if error.is_builder() {
        return Answer::LockedOut(Trouble::new("request_invalid", cause.to_string()));
    }
    let code = if error.is_timeout() {
        "timeout"
    } else {
        "connection_lost"
    };
    Answer::Silent(Trouble::new(code, cause.to_string()))
}

async fn text(mut response: Response) -> Result<String, Trouble> {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => return Err(Trouble::new("connection_lost", error.to_string())),
        }
        if bytes.len() > BODY_MAX {
            return Err(Trouble::new(
                "answer_too_large",
                "the answer is larger than 4 MiB",
            ));
        }
    }
}

fn code(status: u16, body: &str) -> &'static str {
    let kind = serde_json::from_str::<Value>(body).ok();
    match (
        status,
        kind.as_ref()
            .and_then(|value| value.get("scimType"))
            .and_then(Value::as_str),
    ) {
        (_, Some("uniqueness")) => "uniqueness",
        (_, Some("invalidValue")) => "invalid_value",
        (_, Some("tooMany")) => "too_many",
        (401, _) => "unauthorised",
        (403, _) => "forbidden",
        (404 | 410, _) => "not_found",
        (405 | 501, _) => "not_supported",
        (300..=399, _) => "redirected",
        (400..=499, _) => "refused",
        _ => "server_error",
    }
}

fn said(status: u16, body: &str) -> String {
    let value: Option<Value> = serde_json::from_str(body).ok();
    let detail = value
        .as_ref()
        .and_then(|value| value.get("detail"))
        .and_then(Value::as_str);
    let text: String = detail
        .unwrap_or(body)
        .chars()
        .filter(|letter| !letter.is_control())
        .take(SAID_MAX)
        .collect();
    format!("status {status}: {text}")
}
