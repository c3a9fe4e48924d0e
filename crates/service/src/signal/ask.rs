//! Asks issuers and transmitters of security events, by the one way out (`fetch`).

use reqwest::Url;
use serde_json::Value;

use crate::app::App;
use crate::fetch::{Answer, Ask, Proof};

/// What is asked for.
const JSON: &str = "application/json";

/// Checks that an address may be asked.
///
/// # Errors
///
/// When it is none, holds what does not belong there, is not granted, or is plain http to another machine.
pub fn check(app: &App, address: &str) -> Result<Url, String> {
    app.fetch.may(address).map_err(|error| error.to_string())
}

/// Gets a document of at most so many bytes.
///
/// # Errors
///
/// When it may not be asked, does not answer in time, or with something else.
pub async fn get(app: &App, address: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
    let ask = Ask::get(check(app, address)?, JSON, bytes_max);
    let answer = sent(app, ask).await?;
    match answer.status {
        200 => Ok(answer.body),
        status => Err(format!("it answered {status}")),
    }
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
    let mut ask = Ask::get(check(app, address)?, JSON, bytes_max);
    ask.posted = Some((JSON, body.to_string()));
    if let Some(authorization) = authorization {
        ask.proof = Proof::Whole(authorization.to_owned());
    }
    let answer = sent(app, ask).await?;
    Ok((answer.status, answer.body))
}

async fn sent(app: &App, ask: Ask) -> Result<Answer, String> {
    app.fetch.ask(ask).await.map_err(|error| error.to_string())
}
