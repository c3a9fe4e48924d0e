//! Asks others over HTTP: hosts that the operator granted, within a time and a size, and never where they point.
//!
//! Addresses come from whoever may create a source. Without the grant they could have this machine ask any
//! other in its network.

use std::sync::LazyLock;
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::{RequestBuilder, Response, Url};
use serde_json::Value;

use crate::app::App;

/// How long one question may take in all.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One pool of connections for everybody. No proxy: it would resolve names that nobody granted.
static HTTP: LazyLock<Option<reqwest::Client>> = LazyLock::new(|| {
    reqwest::Client::builder()
        .timeout(TIMEOUT)
        .connect_timeout(Duration::from_secs(5))
        // What was granted is a host, and not whatever it points at.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .build()
        .ok()
});

/// Checks that an address may be asked.
///
/// # Errors
///
/// When it is none, holds what does not belong there, is not granted, or is plain http to another machine.
pub fn check(app: &App, address: &str) -> Result<Url, String> {
    // The address is not repeated: it may hold what does not belong there.
    let url =
        Url::parse(address).map_err(|error| format!("the address cannot be read: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("an address holds no user name, password or fragment".to_owned());
    }
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err("an address names a host".to_owned());
    };
    if app.connectors.grants().may_reach(host, port).is_err() {
        return Err(format!(
            "this service may not ask `{host}:{port}`: start it with --reach {host}:{port}"
        ));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(host) => Ok(url),
        _ => Err("an address is https, or http to this machine itself".to_owned()),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let address: Option<std::net::IpAddr> = address.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

/// Fetches a document.
///
/// # Errors
///
/// When it may not be asked for, does not come in time, or is larger than that.
pub async fn get(app: &App, address: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
    let url = check(app, address)?;
    let request = client()?.get(url).header("accept", "application/json");
    let answer = sent(request).await?;
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(format!("it answered {status}"));
    }
    whole(answer, bytes_max).await
}

/// Asks with a JSON document; returns the status, and the body of a success.
///
/// # Errors
///
/// When it may not be asked, does not answer in time, or with more than that.
pub async fn post(
    app: &App,
    address: &str,
    authorization: Option<&str>,
    body: &Value,
    bytes_max: usize,
) -> Result<(u16, Vec<u8>), String> {
    let url = check(app, address)?;
    let mut request = client()?
        .post(url)
        .header("accept", "application/json")
        .json(body);
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let answer = sent(request).await?;
    let status = answer.status();
    if !status.is_success() {
        return Ok((status.as_u16(), Vec::new()));
    }
    Ok((status.as_u16(), whole(answer, bytes_max).await?))
}

fn client() -> Result<&'static reqwest::Client, String> {
    let http = HTTP.as_ref();
    http.ok_or_else(|| "this machine cannot ask others over https".to_owned())
}

async fn sent(request: RequestBuilder) -> Result<Response, String> {
    request.send().await.map_err(|error| said(&error))
}

async fn whole(answer: Response, bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let mut parts = answer.bytes_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| said(&error))?;
        if body.len() + part.len() > bytes_max {
            return Err(format!("it answered with more than {bytes_max} bytes"));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// Says in a few words what went wrong; the address is known to whoever reads it.
fn said(error: &reqwest::Error) -> String {
    let what = match error {
        error if error.is_timeout() => "it did not answer in time",
        error if error.is_connect() => "it cannot be reached",
        _ => "its answer broke off",
    };
    what.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::Connectors;
    use crate::connector::grants::Grants;
    use crate::store::testing::apps_standing;

    #[tokio::test(flavor = "multi_thread")]
    async fn only_granted_hosts_are_asked_and_others_only_over_https() {
        for mut app in apps_standing().await {
            app.connectors = Connectors::granting(Grants {
                reach: [
                    "idp.example",
                    "127.0.0.1:9",
                    "169.254.169.254:80",
                    "x.example:80",
                ]
                .map(str::to_owned)
                .to_vec(),
                ..Grants::default()
            });
            for fine in ["https://idp.example/keys", "http://127.0.0.1:9/keys"] {
                assert!(check(&app, fine).is_ok(), "{fine}");
            }
            for refused in [
                "https://other.example/keys",
                "https://idp.example:8443/keys",
                "http://idp.example/keys",
                "http://127.0.0.1:10/keys",
                "http://169.254.169.254/latest",
                "http://x.example/",
                "https://ann:secret@idp.example/",
                "https://idp.example/#x",
                "file:///etc/shadow",
                "keys",
            ] {
                assert!(check(&app, refused).is_err(), "{refused}");
            }
        }
    }
}
