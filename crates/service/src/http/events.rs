//! The stream of events: every entry of the audit trail as it is written (Server-Sent Events).
//!
//! An event's id is its number in the trail, so a client that lost its connection goes on with
//! `Last-Event-ID` and misses nothing.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use serde::Deserialize;

use super::App;
use super::error::Problem;
use super::extract::{Caller, Query};
use crate::operations::audit;
use crate::operations::token::Permission;

/// How often the trail is looked at.
const TICK: Duration = Duration::from_millis(250);
/// How many entries one look brings.
const ENTRIES_PER_LOOK: usize = 200;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// Only entries after this one; without it and without `Last-Event-ID`, only those to come.
    after: Option<i64>,
}

/// A client that comes back with what is no number of ours would go on at the wrong place.
fn last_of(value: &HeaderValue) -> Result<i64, Problem> {
    let number = value.to_str().ok().and_then(|value| value.parse().ok());
    number.ok_or_else(|| {
        let detail = "Last-Event-ID must be the id of an event, which is a number";
        Problem::new(StatusCode::BAD_REQUEST, "event_id_invalid", detail)
    })
}

/// Follow what happens.
#[utoipa::path(get, path = "/v1/events", tag = "audit", params(EventsQuery), responses((status = 200, description = "a stream of events")))]
pub(super) async fn events(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Query(query): Query<EventsQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    // The stream is the trail: whoever may not read one may not read the other.
    caller.may(Permission::ReadAudit)?;
    let last = match headers.get("last-event-id") {
        Some(value) => Some(last_of(value)?),
        None => None,
    };
    let after = match last.or(query.after) {
        Some(after) => after,
        None => audit::last(&app).await?,
    };
    let stream = stream::unfold(
        (app, after, Vec::new().into_iter()),
        async |(app, mut after, mut waiting)| {
            loop {
                if let Some(entry) = waiting.next() {
                    let entry: audit::AuditView = entry;
                    let data = serde_json::json!({"seq": entry.seq, "at": entry.at, "actor": entry.actor, "action": entry.action,
                    "subject": entry.subject, "detail": entry.detail});
                    let event = Event::default()
                        .id(entry.seq.to_string())
                        .event(entry.action)
                        .data(data.to_string());
                    return Some((Ok(event), (app, after, waiting)));
                }
                if app.ending.is_cancelled() {
                    return None;
                }
                match audit::list(&app, after, ENTRIES_PER_LOOK).await {
                    Ok(page) if !page.items.is_empty() => {
                        after = page.items.last().map_or(after, |entry| entry.seq);
                        waiting = page.items.into_iter();
                    }
                    Ok(_) => tokio::time::sleep(TICK).await,
                    // The client comes back with the last number it has seen.
                    Err(_) => return None,
                }
            }
        },
    );
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}
