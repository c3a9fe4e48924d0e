//! HTTP: the API under `/v1`, health, metrics and the API's own description.
//!
//! A handler extracts, authorises, calls one operation, and maps the answer. The whole API is on the
//! screen below.

mod door;
mod error;
mod events;
mod extract;
mod idempotency;
mod metrics;
mod openapi;
mod v1;

use std::sync::LazyLock;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::operations::signal;
use crate::store::hold;
pub use door::{listen, places};
use error::Problem;
pub use openapi::openapi;

/// The largest body of an ordinary call: a spec with a list of 100,000 people fits.
const BODY_MAX: usize = 16 << 20;

/// The whole API.
fn api() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::Description::openapi())
        .routes(routes!(v1::population::list, v1::population::create))
        .routes(routes!(v1::population::show, v1::population::remap))
        .routes(routes!(v1::population::member))
        .routes(routes!(v1::population::import_status))
        .routes(routes!(v1::target::list, v1::target::create))
        .routes(routes!(v1::target::show, v1::target::configure))
        .routes(routes!(v1::target::check))
        .routes(routes!(v1::rollout::list, v1::rollout::create))
        .routes(routes!(v1::rollout::show, v1::rollout::revise))
        .routes(routes!(v1::rollout::plan))
        .routes(routes!(v1::rollout::start))
        .routes(routes!(v1::rollout::report))
        .routes(routes!(v1::rollout::pause))
        .routes(routes!(v1::rollout::resume))
        .routes(routes!(v1::rollout::halt))
        .routes(routes!(v1::rollout::cancel))
        .routes(routes!(v1::rollout::retry))
        .routes(routes!(v1::rollout::wave))
        .routes(routes!(v1::rollout::approve))
        .routes(routes!(v1::rollout::members))
        .routes(routes!(v1::rollout::member))
        .routes(routes!(v1::rollout::disprove))
        .routes(routes!(v1::drift::show, v1::drift::measure))
        .routes(routes!(v1::drift::people))
        .routes(routes!(v1::exposure::exposure))
        .routes(routes!(v1::exposure::exposure_people))
        .routes(routes!(v1::hold::list, v1::hold::place))
        .routes(routes!(v1::hold::show))
        .routes(routes!(v1::hold::release))
        .routes(routes!(v1::hold::review))
        .routes(routes!(v1::hold::owner))
        .routes(routes!(v1::release::requirements, v1::release::require))
        .routes(routes!(v1::release::requirement_edit))
        .routes(routes!(v1::release::evidence))
        .routes(routes!(v1::release::verify))
        .routes(routes!(v1::release::waive))
        .routes(routes!(v1::release::terms, v1::release::terms_set))
        .routes(routes!(v1::release::preflight_show, v1::release::preflight))
        .routes(routes!(v1::release::request))
        .routes(routes!(v1::release::approvals, v1::release::approve))
        .routes(routes!(v1::release::veto))
        .routes(routes!(v1::revert::ask))
        .routes(routes!(v1::revert::show, v1::revert::approve))
        .routes(routes!(v1::emergency::list, v1::emergency::ask))
        .routes(routes!(v1::emergency::get))
        .routes(routes!(v1::emergency::confirm))
        .routes(routes!(v1::emergency::end))
        .routes(routes!(v1::emergency::review))
        .routes(routes!(v1::source::list, v1::source::create))
        .routes(routes!(v1::source::revoke))
        .routes(routes!(v1::source::ask))
        .routes(routes!(v1::endpoint::list, v1::endpoint::create))
        .routes(routes!(v1::endpoint::revoke))
        .routes(routes!(v1::endpoint::revive))
        .routes(routes!(v1::endpoint::skip))
        .routes(routes!(v1::endpoint::test))
        .routes(routes!(v1::policy::list, v1::policy::propose))
        .routes(routes!(v1::policy::show))
        .routes(routes!(v1::policy::approve))
        .routes(routes!(v1::policy::replay))
        .routes(routes!(v1::policy::schema))
        .routes(routes!(v1::signal::explain))
        .routes(routes!(v1::policy::facts, v1::policy::facts_set))
        .routes(routes!(v1::audit::list))
        .routes(routes!(v1::audit::fsck))
        .routes(routes!(v1::token::list, v1::token::create))
        .routes(routes!(v1::token::revoke))
}

/// Calls that a repeat by `Idempotency-Key` cannot remember: a stream in, a stream out.
fn streams() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(v1::population::import))
        .routes(routes!(events::events))
}

/// What others report: known by its own id when it comes again, and never large.
fn reports() -> OpenApiRouter<App> {
    received().routes(routes!(v1::signal::list, v1::signal::send))
}

/// What sources send, who show no token.
fn received() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(v1::source::receive, v1::source::handshake))
}

/// What sources send and nothing else: for an address that the internet reaches.
pub fn reports_router(app: App) -> Router {
    let (received, _) = received().split_for_parts();
    let received = received.layer(DefaultBodyLimit::max(signal::BODY_MAX));
    let router = Router::new()
        .merge(received)
        .route("/healthz", get(async || "ok"));
    finished(router, app)
}

/// Puts the router together.
pub fn router(app: App) -> Router {
    let (api, _) = api().split_for_parts();
    let (streams, _) = streams().split_for_parts();
    let api = api
        .layer(middleware::from_fn_with_state(
            app.clone(),
            idempotency::remember,
        ))
        .layer(DefaultBodyLimit::max(BODY_MAX));
    let (reports, _) = reports().split_for_parts();
    let reports = reports.layer(DefaultBodyLimit::max(signal::BODY_MAX));
    let streams = streams.layer(DefaultBodyLimit::disable());
    let router = Router::new()
        .merge(api)
        .merge(streams)
        .merge(reports)
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics::metrics))
        .route(
            "/openapi.json",
            get(async || {
                // Put together once: anybody may ask, as often as they like.
                static TEXT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(openapi()));
                ([("content-type", "application/json")], TEXT.clone())
            }),
        );
    finished(router, app)
}

/// What every address has: an id for each request, and a sentence where there is nothing.
fn finished(router: Router<App>, app: App) -> Router {
    router
        .fallback(async || {
            Problem::new(
                StatusCode::NOT_FOUND,
                "path_unknown",
                "there is nothing at this path: see /openapi.json",
            )
        })
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path does not take this method: see /openapi.json",
            )
        })
        .layer(middleware::from_fn_with_state(app.clone(), name_request))
        .layer(CatchPanicLayer::custom(
            |_: Box<dyn std::any::Any + Send>| {
                Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "something failed on our side and was logged",
                )
                .into_response()
            },
        ))
        .with_state(app)
}

/// Gives every request an id, which logs, audit entries and the answer carry.
async fn name_request(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get("x-request-id")
        .and_then(|value| value.to_str().ok());
    let is_plain =
        |text: &&str| text.len() <= 64 && text.chars().all(|letter| letter.is_ascii_graphic());
    let id = given
        .filter(is_plain)
        .map_or_else(|| app.ids.token(), str::to_owned);
    let Ok(value) = HeaderValue::from_str(&id) else {
        return next.run(request).await;
    };
    request.headers_mut().insert("x-request-id", value.clone());
    if request.uri().to_string().contains("%00") {
        let refused = Problem::new(StatusCode::BAD_REQUEST, "address_invalid", extract::NUL);
        return ([("x-request-id", value)], refused).into_response();
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    if response.status().is_server_error() {
        tracing::error!(%method, path, request = id, status = response.status().as_u16(), "a request failed");
    } else {
        tracing::debug!(%method, path, request = id, status = response.status().as_u16(), "a request was answered");
    }
    response.headers_mut().insert("x-request-id", value);
    response
}

/// Ready: this process may send, and the database answers. The permit is looked at first: a database
/// that nobody reaches takes its time to say so, and a probe does not wait.
async fn ready(State(app): State<App>) -> Result<&'static str, Problem> {
    if app.permit.epoch(app.clock.moment()).is_none() {
        let detail = "this process has no permit: it could not renew it from the database";
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "permit_missing",
            detail,
        ));
    }
    hold::epoch_load(app.store.read()).await?;
    Ok("ready")
}

/// An address to answer at, and what is to be had there.
#[derive(Debug)]
pub struct Address {
    /// Where it listens.
    pub listener: TcpListener,
    /// Only what sources send.
    pub is_for_reports: bool,
}

/// Answers requests at every address until the application ends.
pub async fn serve(app: App, addresses: Vec<Address>, places: usize) {
    let doors = addresses.into_iter().map(|address| {
        let router = match address.is_for_reports {
            true => reports_router(app.clone()),
            false => router(app.clone()),
        };
        door::answer(router, address.listener, places, app.ending.clone())
    });
    futures_util::future::join_all(doors).await;
}
