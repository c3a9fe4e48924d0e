//! Fetching from hosts that the operator granted, and from nowhere else.
//!
//! What is asked for here comes from people over HTTP, and what answers may be hostile: `reach` says which
//! hosts may be asked, and at which addresses; `body` takes in no more than it may. Nobody is followed to
//! another place, no proxy of the environment is asked, and whoever answers too slowly is left.

mod body;
pub mod reach;

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, Url};
use thiserror::Error;
use tokio::time::timeout;

use self::body::Body;
use self::reach::{AddressRefused, Reach, ReachError, Resolver};
use crate::connector::ConfigError;

/// The longest text that is kept of what a server says of itself.
const SAID_MAX: usize = 300;

/// How much, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// From the first look-up to the last byte: below what whoever asks for a poll waits.
    pub total: Duration,
    /// In every stretch of so long, at least `progress_min` bytes must come.
    pub stretch: Duration,
    /// Somebody who sends a byte a second would otherwise keep a place for the whole time.
    pub progress_min: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            total: Duration::from_secs(30),
            stretch: Duration::from_secs(5),
            progress_min: 1024,
        }
    }
}

/// What a request proves itself with. It is never shown.
#[derive(Clone, Default)]
pub enum Proof {
    /// Nothing.
    #[default]
    None,
    /// A name and a password.
    Basic(String, String),
    /// A token.
    Bearer(String),
    /// The whole value of `Authorization`.
    Whole(String),
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic(..) => "Basic(..)",
            Self::Bearer(_) => "Bearer(..)",
            Self::Whole(_) => "Whole(..)",
        })
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Where.
    pub url: Url,
    /// What media type is wanted.
    pub accept: &'static str,
    /// What it proves itself with.
    pub proof: Proof,
    /// More headers.
    pub headers: Vec<(HeaderName, String)>,
    /// What to post, and what it is; without it, it is a GET.
    pub posted: Option<(&'static str, String)>,
    /// The most bytes of the answer: on the wire, and unpacked.
    pub body_max: usize,
}

impl Ask {
    /// Returns a GET that proves nothing.
    #[must_use]
    pub fn get(url: Url, accept: &'static str, body_max: usize) -> Self {
        Self {
            url,
            accept,
            proof: Proof::None,
            headers: Vec::new(),
            posted: None,
            body_max,
        }
    }
}

/// What came.
#[derive(Debug)]
pub struct Answer {
    /// The status: not one of those that point elsewhere.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, unpacked. Nothing is read of an answer that is no success.
    pub body: Vec<u8>,
}

impl Answer {
    /// Returns a header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the body of a success.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn ok(self) -> Result<Vec<u8>, FetchError> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        Err(FetchError::Status {
            status: self.status,
            retry_after: self
                .header("retry-after")
                .and_then(|text| text.trim().parse().ok()),
        })
    }
}

/// Nothing came that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FetchError {
    /// It may not be asked.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// Its name leads to an address that may not be asked.
    #[error(transparent)]
    Address(#[from] AddressRefused),
    /// Nobody answers there.
    #[error("nobody answers at `{host}`: {cause}")]
    Unreachable {
        /// Who was asked.
        host: String,
        /// What went wrong.
        cause: String,
    },
    /// It points elsewhere.
    #[error(
        "it answers {status} and points to `{to}`: nobody is followed anywhere, so name that address if it is right"
    )]
    Redirected {
        /// The status.
        status: u16,
        /// Where it points, as it says.
        to: String,
    },
    /// It says no.
    #[error("it answers {status}{}", hint(*.status))]
    Status {
        /// The status.
        status: u16,
        /// When it wants to be asked again, in seconds.
        retry_after: Option<u32>,
    },
    /// It sends more than is taken.
    #[error("the answer is larger than {max} bytes")]
    TooLarge {
        /// How much is taken.
        max: usize,
    },
    /// It is packed in a way that is not read.
    #[error("the answer is packed as `{0}`, and only gzip was asked for")]
    Encoding(String),
    /// It cannot be unpacked.
    #[error("the answer is no whole gzip stream")]
    Broken,
    /// It sends too slowly.
    #[error("the answer came too slowly: fewer than {bytes} bytes in {seconds} s")]
    Stalled {
        /// How many are the least.
        bytes: usize,
        /// In how long.
        seconds: u64,
    },
    /// It took too long.
    #[error("the answer took longer than {seconds} s")]
    Slow {
        /// How long it may take.
        seconds: u64,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Lost(String),
    /// What is sent cannot be sent.
    #[error("the request cannot be made: {0}")]
    Request(String),
}

fn hint(status: u16) -> &'static str {
    match status {
        401 => ": the credential is not taken",
        403 => ": the credential is taken and may not read this",
        404 => ": there is nothing at this address",
        406 => ": it does not speak the version that was asked for",
        429 => ": it wants to be asked less often",
        _ => "",
    }
}

impl FetchError {
    /// Says whether what was sent is at fault, and not the way to it: an alarm, and no outage.
    #[must_use]
    pub const fn is_hostile(&self) -> bool {
        match self {
            Self::Address(_)
            | Self::Redirected { .. }
            | Self::TooLarge { .. }
            | Self::Encoding(_)
            | Self::Broken
            | Self::Stalled { .. } => true,
            Self::Reach(_)
            | Self::Unreachable { .. }
            | Self::Status { .. }
            | Self::Slow { .. }
            | Self::Lost(_)
            | Self::Request(_) => false,
        }
    }
}

/// Returns a header that is never logged.
fn secret(value: &str) -> Result<HeaderValue, FetchError> {
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| FetchError::Request("the token is none".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Fetches. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Fetcher {
    reach: Arc<Reach>,
    bounds: Bounds,
    /// None: nothing is granted.
    http: Option<reqwest::Client>,
}

impl Fetcher {
    /// Returns a fetcher that reaches what is granted.
    ///
    /// # Errors
    ///
    /// When a grant is not understood.
    pub fn granting(reach: &[String], bounds: Bounds) -> Result<Self, ConfigError> {
        let reach = Arc::new(Reach::parse(reach)?);
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            // The addresses that were looked at are the ones that are connected to.
            .dns_resolver(Resolver(reach.clone()))
            .connect_timeout(bounds.total.min(Duration::from_secs(5)))
            .pool_idle_timeout(Duration::from_secs(10))
            .pool_max_idle_per_host(1)
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ConfigError(format!("nothing can be fetched: {error}")))?;
        Ok(Self {
            reach,
            bounds,
            http: Some(http),
        })
    }

    /// Returns the client that connects to nothing but what is granted, for whoever sends; `None`: nothing is granted.
    #[must_use]
    pub const fn client(&self) -> Option<&reqwest::Client> {
        self.http.as_ref()
    }

    /// Says whether a place may be asked, as far as its address says.
    ///
    /// # Errors
    ///
    /// When it is no place, or not granted.
    pub fn may(&self, url: &str) -> Result<Url, ReachError> {
        let url = reach::place(url)?;
        self.reach.check(&url)?;
        Ok(url)
    }

    /// Asks.
    ///
    /// # Errors
    ///
    /// When it may not be asked, does not answer, points elsewhere, or sends too much or too slowly.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, FetchError> {
        self.reach.check(&ask.url)?;
        let Some(http) = &self.http else {
            return Err(ReachError::of(&ask.url).into());
        };
        let seconds = self.bounds.total.as_secs();
        let asked = timeout(self.bounds.total, self.answer(http, ask)).await;
        asked.unwrap_or(Err(FetchError::Slow { seconds }))
    }

    async fn answer(&self, http: &reqwest::Client, ask: Ask) -> Result<Answer, FetchError> {
        let host = ask.url.host_str().unwrap_or_default().to_owned();
        let method = if ask.posted.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let mut request = http
            .request(method, ask.url)
            .header(header::ACCEPT, ask.accept)
            .header(header::ACCEPT_ENCODING, "gzip");
        request = match ask.proof {
            Proof::None => request,
            Proof::Basic(user, password) => request.basic_auth(user, Some(password)),
            Proof::Bearer(token) => {
                request.header(header::AUTHORIZATION, secret(&format!("Bearer {token}"))?)
            }
            Proof::Whole(value) => request.header(header::AUTHORIZATION, secret(&value)?),
        };
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        if let Some((kind, body)) = ask.posted {
            request = request.header(header::CONTENT_TYPE, kind).body(body);
        }
        let response = request.send().await.map_err(|error| broken(host, &error))?;
        let status = response.status().as_u16();
        if (300..400).contains(&status) && status != 304 {
            let to = response.headers().get(header::LOCATION);
            let to = to.map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned());
            return Err(FetchError::Redirected {
                status,
                to: plain(&to.unwrap_or_default()),
            });
        }
        let headers = response.headers().clone();
        let body = if (200..300).contains(&status) {
            self.taken(response, ask.body_max).await?
        } else {
            Vec::new()
        };
        Ok(Answer {
            status,
            headers,
            body,
        })
    }

    async fn taken(&self, mut response: Response, max: usize) -> Result<Vec<u8>, FetchError> {
        if response
            .content_length()
            .is_some_and(|length| usize::try_from(length).is_ok_and(|length| length > max))
        {
            return Err(FetchError::TooLarge { max });
        }
        let packed = response.headers().get_all(header::CONTENT_ENCODING);
        let packed: Vec<&str> = packed
            .iter()
            .map(|one| one.to_str().unwrap_or("?"))
            .collect();
        let mut body = Body::new(&plain(&packed.join(", ")), max)?;
        loop {
            let before = body.wire();
            let stretch = async {
                loop {
                    match response.chunk().await {
                        Ok(Some(chunk)) => body.take(&chunk)?,
                        Ok(None) => return Ok(()),
                        Err(error) => return Err(FetchError::Lost(cause_of(&error))),
                    }
                }
            };
            match timeout(self.bounds.stretch, stretch).await {
                Ok(done) => {
                    done?;
                    return body.finish();
                }
                Err(_) if body.wire().saturating_sub(before) < self.bounds.progress_min => {
                    return Err(FetchError::Stalled {
                        bytes: self.bounds.progress_min,
                        seconds: self.bounds.stretch.as_secs(),
                    });
                }
                Err(_) => {}
            }
        }
    }
}

/// A request that got no answer, and why.
fn broken(host: String, error: &reqwest::Error) -> FetchError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
        if let Some(refused) = cause.downcast_ref::<AddressRefused>() {
            return refused.clone().into();
        }
    }
    let cause = plain(&cause.to_string());
    if error.is_builder() {
        FetchError::Request(cause)
    } else if error.is_connect() {
        FetchError::Unreachable { host, cause }
    } else {
        FetchError::Lost(cause)
    }
}

fn cause_of(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    plain(&cause.to_string())
}

/// What somebody else wrote, as one short line.
fn plain(text: &str) -> String {
    let letters = text.chars().filter(|letter| !letter.is_control());
    letters.take(SAID_MAX).collect()
}

#[cfg(test)]
pub(crate) mod tests;
